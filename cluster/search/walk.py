"""The random walk: at every point each enabled context has the same chance, and so has each value at every choice."""

from __future__ import annotations

from collections.abc import Sequence

from cluster.search.strategy import Sampling
from nodes.cpu import Thread


class RandomWalk(Sampling):
    """Learns nothing from an execution; only the random number generator continues from one execution to the next."""

    def new_execution(self) -> bool:
        return True

    def pick(self, enabled: Sequence[Thread], current: Thread | None) -> Thread:
        if not isinstance(enabled, list):  # (it is; compiled code is faster with lists and floats that it knows)
            enabled = list(enabled)
        return enabled[int(self.draw() * float(len(enabled)))] if len(enabled) > 1 else enabled[0]

    def looks(self) -> bool:
        return type(self) is not RandomWalk

    def choose(self, n: int) -> int:
        return int(self.random.random() * n)
