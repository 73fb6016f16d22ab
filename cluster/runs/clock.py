"""The time that a run on real processes may take."""

from __future__ import annotations

from dataclasses import dataclass
from time import monotonic


@dataclass
class Clock:
    """Counts the seconds of a run, through all attempts at it; not those in which it follows a given beginning.

    Attributes:
        seconds: that there are.
        spent_s: how many of these have passed, when it was last looked at: at `last_s`.
    """

    seconds: float
    spent_s: float = 0.0
    last_s: float = 0.0

    def start(self) -> None:
        """An attempt at the run begins."""
        self.last_s = monotonic()

    def is_over(self, counts: bool) -> bool:
        """Have they passed?

        Args:
            counts: the time since the last call counts.
        """
        now_s = monotonic()
        if counts:
            self.spent_s += now_s - self.last_s
        self.last_s = now_s
        return self.spent_s > self.seconds
