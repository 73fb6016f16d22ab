"""PCT aimed at a site: its priorities are lowered where a context is in a certain function, or about to use a field.

A race of a few operations is hit seldom if a preemption may come at any of thousands of points. Here most changes of
priorities come at *visits* of the site: points at which the current context is in the function, or in a function that
this has called, and, if a field is named, about to load or store that. At a function that is not on the kernel stack
(not marked @kernel) there are no visits, and this is PCT.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from cluster.search.pct import Pct
from cluster.search.strategy import Plain
from nodes.cpu import Thread

#: share of the changes that come at visits; the others are anywhere, since the other side of a race may be there
AIMED = 0.6


class Site(NamedTuple):
    """A kernel function, and a field that it uses; "": any operation."""

    function: str
    field: str = ""

    def __str__(self) -> str:
        return f"{self.function}:{self.field}" if self.field else self.function

    def visited(self, thread: Thread) -> bool:
        """Is the context there?"""
        if self.function not in thread.stack:
            return False
        asks = thread.asks
        return not self.field or (asks is not None and asks[0] in ("load", "store") and asks[2][1] == self.field)


class Near(Pct):
    """PCT with its changes near sites.

    Args:
        sites: one of them is chosen for each execution.

    Attributes:
        site: of this execution.
        most: visits of each site in one execution, at most, so far. visits: of this execution.
        lowered: visit -> the priority that the context there gets; as `Pct.changes` has it for points. Invariant: at
            visits from 1 to `most` of the site, and together with `changes` at most d - 1.
    """

    def __init__(self, sites: Sequence[Site], seed: int = 0, depth: int = 3):
        super().__init__(seed, depth)
        self.sites = list(sites)
        self.most = dict.fromkeys(self.sites, 0)
        self.site = self.sites[0]
        self.visits = 0
        self.lowered: dict[int, int] = {}

    def lesson(self) -> Plain:
        visits, self.visits = self.visits, 0
        return super().lesson(), self.sites.index(self.site), visits

    def learn(self, lesson: Plain) -> None:
        points, site, visits = lesson
        super().learn(points)
        self.most[self.sites[site]] = max(self.most[self.sites[site]], visits)

    def knowledge(self) -> Plain:
        return super().knowledge(), list(self.most.values())

    def know(self, knowledge: Plain) -> None:
        super().know(knowledge[0])
        self.most = dict(zip(self.sites, knowledge[1], strict=True))

    def new_execution(self) -> bool:
        super().new_execution()
        self.site = self.sites[int(self.random.random() * len(self.sites))]
        self.visits, self.lowered = 0, {}
        most = self.most[self.site]
        for point, priority in list(self.changes.items()):
            if most and self.random.random() < AIMED:
                del self.changes[point]
                self.lowered[1 + int(self.random.random() * most)] = priority
        return True

    def pick(self, enabled: Sequence[Thread], current: Thread | None) -> Thread:
        if current is not None and self.site.visited(current):
            self.visits += 1
            lowered = self.lowered.get(self.visits)
            if lowered is not None:
                self.priority[current.name] = lowered
        return super().pick(enabled, current)

    def stays(self) -> int:
        return 0
