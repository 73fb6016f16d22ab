"""The complete registry of steps: code that needs every step imports it from here."""

from __future__ import annotations

from collections.abc import Mapping

from shared.scenario.steps import files, kernel, loans, memory, process  # noqa: F401 - each registers its steps
from shared.scenario.steps.step import STEPS, Args, steps_of

__all__ = ["STEPS", "make", "steps_of"]


def make(op: str, data: Mapping[str, object]) -> Args:
    """A step from its name and fields, as Args.plain() has them."""
    return STEPS[op].make(data)
