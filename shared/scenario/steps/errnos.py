"""Errnos as a step answers them."""

from __future__ import annotations

from shared.uvm.param import ERRNO_NAMES


def errno(error: int) -> int | str:
    """The name of an errno; 0 for none."""
    return ERRNO_NAMES.get(error, f"errno {error}") if error else 0
