"""What chooses which context performs the next operation.

A strategy is asked at every scheduling point, and when the context that ran has
blocked. It owns every choice of an execution; the engine owns everything else.

    stay     the default: stay with the current context; when it blocks, the
             next enabled one in fixed context order. A token is its list of
             deviations from this.
    random   random walk: any enabled context, with equal chances
    pct      probabilistic concurrency testing (Burckhardt et al., 2010):
             random priorities, lowered at d-1 random points
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Protocol

from nodes.cpu import Thread
from shared.errors import UserMistake


class Strategy(Protocol):
    """Chooses; see the module's header."""

    def new_execution(self) -> None:
        """A new execution begins."""

    def pick(self, enabled: Sequence[Thread], current: Thread | None) -> Thread:
        """Which of `enabled` goes on.

        Args:
            enabled: in fixed context order, never empty.
            current: the one that ran last, if it is among them; else None. None too if it gives way to the others
                (Port.spin), although it could go on.
        """


#: PCT is unfair: two contexts of high priority that wait for a third go round for ever. After this many times the
#: points of the longest execution that ended, it becomes a random walk.
FAIR_AFTER = 3


def default(enabled: Sequence[Thread], current: Thread | None, last: int) -> Thread:
    """What `stay` does: the current context, else the next one after `last` in fixed order."""
    if current is not None:
        return current
    for one in enabled:
        if one.order > last:
            return one
    return enabled[0]


class Stay:
    """The default schedule."""

    def __init__(self) -> None:
        self.last = -1

    def new_execution(self) -> None:
        self.last = -1

    def pick(self, enabled: Sequence[Thread], current: Thread | None) -> Thread:
        one = default(enabled, current, self.last)
        self.last = one.order
        return one


class RandomWalk:
    """Each enabled context with equal chances at every point."""

    def __init__(self, seed: int):
        self.random = random.Random(seed)

    def new_execution(self) -> None:
        pass

    def pick(self, enabled: Sequence[Thread], current: Thread | None) -> Thread:
        return enabled[int(self.random.random() * len(enabled))] if len(enabled) > 1 else enabled[0]


class Pct:
    """PCT of depth d.

    The number of points k of an execution, which the paper takes as known, is
    the running maximum over the executions so far. Who gives way goes behind all
    others, as in later implementations of PCT.

    Args:
        depth: d, the number of ordering constraints a bug may need (>= 1).
    """

    def __init__(self, seed: int, depth: int):
        self.random = random.Random(seed)
        self.depth = depth
        self.longest = 100
        self.points = 0
        self.priority: dict[str, float] = {}
        self.changes: dict[int, int] = {}
        self.ran = ""
        self.floor = -depth

    def new_execution(self) -> None:
        self.ran, self.floor = "", -self.depth
        self.longest = max(self.longest, min(self.points, FAIR_AFTER * self.longest))
        self.points = 0
        self.priority = {}
        places = self.random.sample(range(1, self.longest + 1), min(self.depth - 1, self.longest))
        self.changes = {place: -number for number, place in enumerate(places)}

    def pick(self, enabled: Sequence[Thread], current: Thread | None) -> Thread:
        self.points += 1
        if self.points > FAIR_AFTER * self.longest:
            return enabled[int(self.random.random() * len(enabled))]
        lowered = self.changes.get(self.points)
        if lowered is not None and current is not None:
            self.priority[current.name] = lowered
        if len(enabled) == 1:
            self.ran = enabled[0].name
            return enabled[0]
        if current is None and any(one.name == self.ran for one in enabled):
            self.floor -= 1
            self.priority[self.ran] = self.floor
        best, top = enabled[0], -1e9
        for one in enabled:
            mine = self.priority.get(one.name)
            if mine is None:
                mine = self.priority[one.name] = 1.0 + self.random.random()
            if mine > top:
                best, top = one, mine
        self.ran = best.name
        return best


def make(name: str, seed: int, depth: int) -> Strategy:
    """A strategy by name; UserMistake if there is none of that name."""
    if name == "random":
        return RandomWalk(seed)
    if name == "pct":
        return Pct(seed, depth)
    if name == "stay":
        return Stay()
    raise UserMistake(f"no strategy {name!r}; there are: pct, random, stay")
