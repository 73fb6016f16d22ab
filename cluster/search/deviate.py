"""Follows the schedule of a token: deviations from the default schedule."""

from __future__ import annotations

from collections.abc import Sequence

from cluster.search.strategy import Strategy, default
from nodes.cpu import Thread
from shared.errors import Diverged
from shared.journal.deviation import Deviation


class Deviate(Strategy):
    """The default schedule with deviations.

    Args:
        strict: a deviation that cannot be taken is an error, not skipped.
        renumbered: a choice of data comes at its context's next one, whatever number that operation has: of a schedule
            from which deviations were left out.

    Attributes:
        left: deviations still to come, the next one last. Invariant: with those taken and those skipped, all of them.
        taken: how many were taken.
        skipped: deviations that were reached, but whose context could not run there.
        ran: the context picked last, whose operations are counted; None: none yet.
    """

    def __init__(self, deviations: Sequence[Deviation], strict: bool = True, renumbered: bool = False):
        self.deviations, self.strict, self.renumbered = list(deviations), strict, renumbered

    def new_execution(self) -> bool:
        self.left = list(reversed(self.deviations))
        self.taken = 0
        self.skipped: list[Deviation] = []
        self.ran: Thread | None = None
        return True

    def pick(self, enabled: Sequence[Thread], current: Thread | None) -> Thread:
        last = -1 if self.ran is None else self.ran.order
        self.ran = self._deviating(enabled, current) or default(enabled, current, last)
        return self.ran

    def _deviating(self, enabled: Sequence[Thread], current: Thread | None) -> Thread | None:
        """The context that a deviation at this place asks for; None: there is none, or it was skipped."""
        if not self.left:
            return None
        ctx, n, kind, wanted = self.left[-1]
        ran = self.ran
        if n != (0 if ran is None else ran.n) or ctx != ("" if ran is None else ran.name):
            return None
        if kind != ("wait" if current is None else "point"):
            return None
        deviation = self.left.pop()
        for thread in enabled:
            if thread.name == wanted:
                self.taken += 1
                return thread
        if self.strict:
            names = ", ".join(thread.name for thread in enabled)
            where = f"after operation {n} of {ctx}" if ctx else "first"
            raise Diverged(f"{wanted} to run {where}", f"only {names} can run")
        self.skipped.append(deviation)
        return None

    def choose(self, n: int) -> int:
        ran = self.ran
        if not self.left or ran is None:
            return 0
        ctx, number, kind, value = self.left[-1]
        if (ctx, kind) != (ran.name, "choice") or not (number == ran.n + 1 or self.renumbered):
            return 0
        deviation = self.left.pop()
        if isinstance(value, int) and 0 <= value < n:
            self.taken += 1
            return value
        if self.strict:
            raise Diverged(f"choice {value} as operation {ran.n + 1} of {ran.name}", f"only {n} choices, 0 to {n - 1}")
        self.skipped.append(deviation)
        return 0

    def finish(self) -> None:
        """After the run: every deviation must have been met."""
        if self.left and self.strict:
            ctx, n, kind, wanted = self.left[-1]
            there = f"take choice {wanted}" if kind == "choice" else f"run {wanted}"
            raise Diverged(f"{ctx} to reach operation {n}, and to {there} there", "the run ended before that")
