"""The time that a run on real processes may take."""

from __future__ import annotations

from dataclasses import dataclass, field
from time import monotonic


@dataclass(frozen=True)
class Clock:
    """Runs from when it is made, through all attempts at a run.

    Attributes:
        seconds: that there are.
    """

    seconds: float
    began_s: float = field(default_factory=monotonic)

    def is_over(self) -> bool:
        """Are they over?"""
        return monotonic() - self.began_s > self.seconds
