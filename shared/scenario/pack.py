"""A scenario as plain data, for messages to actors and for run folders, and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from shared.scenario.model import Scenario, Step
from shared.scenario.steps.table import make
from shared.wire.typed import OWN, read


def pack_scenario(scenario: Scenario) -> dict[str, object]:
    """The scenario as plain data."""
    return {
        **asdict(scenario),
        "setup": tuple(step.plain() for step in scenario.setup),
        "lwps": tuple({**asdict(lwp), "program": tuple(map(Step.plain, lwp.program))} for lwp in scenario.lwps),
        "handlers": tuple(
            {**asdict(handler), "steps": tuple(map(Step.plain, handler.steps))} for handler in scenario.handlers
        ),
    }


def unpack_scenario(data: Mapping[str, object]) -> Scenario:
    """The scenario that `pack_scenario` was given."""
    return read(Scenario, data)


def _step(data: Mapping[str, Any]) -> Step:
    return Step(make(data["op"], data["args"]), data["into"], data["line"], data["text"])


#: the kind of a step's arguments follows from its name
OWN[Step] = _step
