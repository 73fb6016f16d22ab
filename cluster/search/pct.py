"""Probabilistic concurrency testing: random priorities, lowered at d - 1 random points.

Burckhardt, Kothari, Musuvathi, Nagarakatte: A Randomized Scheduler with Probabilistic Guarantees of Finding Bugs,
ASPLOS 2010. A bug of depth d among n contexts and k points is found with a chance of at least 1 / (n * k^(d-1)).

Departures from the paper:

- k, which the paper takes as known, is the number of points of the longest execution so far (100 in the first one).
- A context that gives way, for instance while it spins for a lock, gets the lowest priority, as in later
  implementations.
- PCT is unfair: two contexts of high priority that wait for a third would run in turn forever. After FAIR_AFTER times k
  points an execution becomes a random walk.
- A context gets its priority when it is first compared with another, not when it is created.
- Data are chosen with equal chances; the paper has none. A bug that needs them is found with its chance times theirs.
"""

from __future__ import annotations

from collections.abc import Sequence

from cluster.search.strategy import FAIR_AFTER, FIRST_GUESS, Plain, Sampling
from nodes.cpu import Thread


class Pct(Sampling):
    """PCT of depth d.

    Args:
        depth: d, the number of ordering constraints a bug may need (>= 1).

    Attributes:
        longest: k. Invariant: falls at most once, behind the first execution, and grows by FAIR_AFTER times at most
            from one execution to the next.
        guessed: no execution has ended yet, which would tell k.
        points: of this execution, so far.
        changes: point -> the priority that the context running there gets. Invariant: d - 1 different points from 1
            to k (k of them if there are no more); their priorities are the different numbers 0, -1 ... -(d - 2).
        priority: of each context that has been compared, by name. Invariant: all are different. Above 1: as drawn at
            first; from 0 to -(d - 2): lowered at a change; below: given way.
        floor: Invariant: no priority is lower, and it is below those of all changes.
        ran: name of the context picked last; "": none.
    """

    def __init__(self, seed: int = 0, depth: int = 3):
        super().__init__(seed)
        self.depth = depth
        self.longest = FIRST_GUESS
        self.guessed = True
        self.points = 0

    def lesson(self) -> Plain:
        points, self.points = self.points, 0
        return min(points, FAIR_AFTER * self.longest)

    def learn(self, lesson: Plain) -> None:
        if lesson:
            known = 0 if self.guessed else self.longest
            self.longest, self.guessed = max(known, lesson), False

    def knowledge(self) -> Plain:
        return self.longest, self.guessed

    def know(self, knowledge: Plain) -> None:
        self.longest, self.guessed = knowledge

    def new_execution(self) -> bool:
        self.learn(self.lesson())
        places = self.random.sample(range(1, self.longest + 1), min(self.depth - 1, self.longest))
        self.changes = {place: -number for number, place in enumerate(places)}
        self.priority: dict[str, float] = {}
        self.floor, self.ran = -self.depth, ""
        return True

    def looks(self) -> bool:
        return type(self) is not Pct

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
        if current is None and any(thread.name == self.ran for thread in enabled):
            self.floor -= 1
            self.priority[self.ran] = self.floor
        best, top = enabled[0], -1e9
        for thread in enabled:
            priority = self.priority.get(thread.name)
            if priority is None:
                priority = self.priority[thread.name] = 1.0 + self.random.random()
            if priority > top:
                best, top = thread, priority
        self.ran = best.name
        return best

    def stays(self) -> int:
        end = FAIR_AFTER * self.longest
        for place in self.changes:
            if self.points < place <= end:
                end = place - 1
        return max(0, end - self.points)

    def passed(self, points: int) -> None:
        self.points += points

    def choose(self, n: int) -> int:
        return int(self.random.random() * n)
