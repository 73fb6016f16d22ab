"""Partial order sampling: the pending operation of highest priority is next, and each has a random priority.

Yuan, Yang, Gu: Partial Order Aware Concurrency Sampling, CAV 2018. When an operation is performed, those of others that
touch the same location (cluster/search/touch.py) get new priorities: otherwise a context that has lost a race once
would continue losing. So the order of operations that have nothing to do with each other costs no luck.

Departures from the paper:

- All contexts draw again after LASTS choices. Otherwise a context that has drawn a low priority before an operation
  which no other meets would wait for thousands of rounds of a context that spins for it.
- A context that continues behind a wait has no operation to be known, and makes no other context draw again.
- Data are chosen with equal chances; the paper has none.
"""

from __future__ import annotations

from collections.abc import Sequence

from cluster.search.strategy import Sampling
from cluster.search.touch import NOTHING, meet, touch
from nodes.cpu import Thread

#: choices for which a priority lasts, at most
LASTS = 500


class Pos(Sampling):
    """POS.

    Attributes:
        priority: of the pending operation of each context, by name, from 0 to 1. Invariant: whose operation is
            performed, or has met that operation, is not in it, and draws anew when it is compared next.
        left: choices until all draw anew.
    """

    def __init__(self, seed: int = 0):
        super().__init__(seed)
        self.priority: dict[str, float] = {}
        self.left = LASTS

    def new_execution(self) -> bool:
        self.priority.clear()
        self.left = LASTS
        return True

    def pick(self, enabled: Sequence[Thread], current: Thread | None) -> Thread:
        best, top = enabled[0], -1.0
        if len(enabled) == 1:
            self.priority.pop(best.name, None)
            return best
        self.left -= 1
        if self.left == 0:
            self.priority.clear()
            self.left = LASTS
        for thread in enabled:
            priority = self.priority.get(thread.name)
            if priority is None:
                priority = self.priority[thread.name] = self.draw()
            if priority > top:
                best, top = thread, priority
        del self.priority[best.name]
        performed = touch(best)
        if performed != NOTHING:
            for thread in enabled:
                if thread is not best and meet(performed, touch(thread)):
                    del self.priority[thread.name]
        return best

    def choose(self, n: int) -> int:
        return int(self.draw() * n)
