"""Selectively uniform random walk: all orders of the accesses to one location are equally likely.

Zhao, Wolff, Mathur, Roychoudhury: Selectively Uniform Concurrency Testing, ASPLOS 2025. For each execution one location
is selected that several contexts touch (cluster/search/touch.py). A context is drawn, with a chance in proportion to
the number of its selected operations still to come, whose selected operation is the next one; others who come to theirs
stop there until it has been performed. All else is a random walk. The numbers come from executions before; the first
one is a random walk in which nothing is selected.

Departures from the paper:

- A number is the largest that any execution has seen, not that of one profiling run; executions differ in it.
- A context that reaches a selected operation although its number is used up counts as having one more, so that no
  order is out of reach. Where the drawn context ends, or waits, without its operation, those that have stopped draw
  again.
- An execution of three times the points of the longest one before continues as a random walk: a context that spins for
  a context which has stopped would spin forever.
- Of a lock, requests are selected, and releases are not: these have no order of their own.
- Data are chosen with equal chances; the paper has none.
"""

from __future__ import annotations

from collections.abc import Sequence

from cluster.search.strategy import Patience, Plain, Sampling
from cluster.search.touch import NOTHING, Location, Touch, touch, where, writes
from nodes.cpu import Thread

#: context -> its operations that touch a location
Counts = dict[str, int]
#: things that are remembered at most
MOST = 1 << 14


class Surw(Sampling):
    """SURW.

    Attributes:
        seen: location -> the most operations of each context that any execution has had. Invariant: at most MOST
            locations.
        now: the same, of this execution. wrote: things that it has changed.
        written: things that some operation changes. Invariant: all are in `seen`.
        shared: those of them that several contexts touch; a dict for its order. Invariant: all that `written` has, and
            that have two contexts or more in `seen`.
        selected: of this execution; NOTHING: nothing. Invariant: in `shared`, otherwise.
        left: how many selected operations each context still has, if it is like those before. Invariant: none is
            negative.
        drawn: name of the context whose selected operation is the next one; "": it is to be drawn. Invariant: in
            `left`, otherwise.
    """

    def __init__(self, seed: int = 0):
        super().__init__(seed)
        self.seen: dict[Location, Counts] = {}
        self.now: dict[Location, Counts] = {}
        self.wrote: set[Location] = set()
        self.written: set[Location] = set()
        self.shared: dict[Location, None] = {}
        self.selected: Location = NOTHING
        self.left: Counts = {}
        self.drawn = ""
        self.patience = Patience()

    def new_execution(self) -> bool:
        self.learn(self.lesson())
        shared = list(self.shared)
        self.selected = shared[int(self.draw() * len(shared))] if shared else NOTHING
        self.left = dict(self.seen[self.selected]) if shared else {}
        self.drawn = ""
        return True

    def lesson(self) -> Plain:
        """How long, and of each location: what it is, whether it was changed, and the counts."""
        now, wrote = self.now, self.wrote
        self.now, self.wrote = {}, set()
        news = [
            (location, location in wrote, counts)
            for location, counts in now.items()
            if self._is_news(location, counts, wrote)
        ]
        return self.patience.lesson(), news

    def _is_news(self, location: Location, counts: Counts, wrote: set[Location]) -> bool:
        seen = self.seen.get(location)
        if seen is None:
            return len(self.seen) < MOST
        if location in wrote and location not in self.written:
            return True
        return any(count > seen.get(name, 0) for name, count in counts.items())

    def learn(self, lesson: Plain) -> None:
        longest, news = lesson
        self.patience.learn(longest)
        for location, wrote, counts in news:
            if location not in self.seen and len(self.seen) == MOST:
                continue
            seen = self.seen.setdefault(location, {})
            for name, count in counts.items():
                seen[name] = max(count, seen.get(name, 0))
            if wrote:
                self.written.add(location)
            if len(seen) > 1 and location in self.written:
                self.shared[location] = None

    def knowledge(self) -> Plain:
        seen = [(location, location in self.written, counts) for location, counts in self.seen.items()]
        return self.patience.longest, seen, list(self.shared)

    def know(self, knowledge: Plain) -> None:
        self.patience.longest, seen, shared = knowledge
        self.seen = {location: counts for location, _, counts in seen}
        self.written = {location for location, written, _ in seen if written}
        self.shared = dict.fromkeys(shared)

    def everywhere(self) -> bool:
        return True

    def pick(self, enabled: Sequence[Thread], current: Thread | None) -> Thread:
        if self.patience.ends():
            self.selected = NOTHING
        picked = enabled[0] if len(enabled) == 1 else self._among(enabled)
        self.patience.picked(picked, current)
        touched = _requests(picked)
        if touched != NOTHING:
            location = where(touched)
            if writes(touched):
                self.wrote.add(location)
            counts = self.now.get(location)
            if counts is None:
                counts = self.now[location] = {}
            counts[picked.name] = counts.get(picked.name, 0) + 1
            if location == self.selected:
                self.left[picked.name] = max(0, self.left.get(picked.name, 0) - 1)
                self.drawn = ""
        return picked

    def _among(self, enabled: Sequence[Thread]) -> Thread:
        if self.selected == NOTHING:
            return enabled[int(self.draw() * len(enabled))]
        stopped = [thread for thread in enabled if where(_requests(thread)) == self.selected]
        candidates = enabled
        if stopped:
            if not self.drawn:
                self._draw(stopped)
            candidates = [thread for thread in enabled if thread not in stopped or thread.name == self.drawn]
            while not candidates:  # who was drawn does not come
                del self.left[self.drawn]
                self._draw(stopped)
                candidates = [thread for thread in stopped if thread.name == self.drawn]
        return candidates[int(self.draw() * len(candidates))]

    def _draw(self, stopped: Sequence[Thread]) -> None:
        """Draw the context that has the next selected operation; those that have stopped at one have it at least."""
        for thread in stopped:
            self.left[thread.name] = max(1, self.left.get(thread.name, 0))
        at = self.draw() * sum(self.left.values())
        for name, count in self.left.items():
            self.drawn = name
            at -= count
            if at < 0:
                break

    def choose(self, n: int) -> int:
        return int(self.draw() * n)


def _requests(thread: Thread) -> Touch:
    """What the pending operation of a context touches; not if it only gives a lock back."""
    asks = thread.asks
    return NOTHING if asks is None or asks[0] == "unlock" else touch(thread)
