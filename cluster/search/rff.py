"""Reads-from feedback: executions in which chosen reads get their values from chosen writes, and what that shows.

Wolff, Shi, Duck, Mathur, Roychoudhury: Greybox Fuzzing for Concurrency Testing, ASPLOS 2024. The result of an execution
is decided by the write from which each read reads. Events are told apart only as far as programs do: by the part that
their context plays (its name without a number), the kernel function and what they touch. So a hundred contexts with one
body are one. An *abstract schedule* is a set of pairs: this kind of read reads from this kind of write, or from no
write at all. A context stops before an operation that would break a pair; of the others the operation of highest
priority is next, as in POS. If all have stopped, all continue.

An abstract schedule is made anew, or is a schedule that came to a new pair, changed in one pair.

Departures from the paper: there is one pair for a location, and none that must not be; pairs are made of reads and
writes that were seen, not of those in the source; all abstract schedules that are kept have equal chances. A request
for a lock reads from the last one. In an execution of three times the points of the longest execution before, no
context stops any more: a context that spins for another which has stopped would spin forever.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from cluster.search.pos import Pos
from cluster.search.strategy import Patience, Plain
from cluster.search.touch import LOCK, NOTHING, Location, family_of, touch, where, writes
from cluster.search.uses import NOBODY, Kind, Pair, Sight, Uses, is_read, kind_of
from nodes.cpu import Thread

#: pairs of an abstract schedule that is made anew, at most; abstract schedules that are kept
PAIRS, KEPT = 3, 256
T = TypeVar("T")


class Rff(Pos):
    """RFF.

    Attributes:
        uses: of each location that an execution has touched. sights: the same, each use as _performed() has it.
            Invariant: `uses` has the locations of `sights`, and no others.
        known: what was read from what, in any execution.
        kept: abstract schedules that came to something new. Invariant: at most KEPT, and none is empty.
        tried: that of this execution; wanted: what is left of it, neither met nor out of reach. Invariant: `wanted` is
            a part of `tried`.
        last: location -> kind of its last write.
        fresh, new: sights, and what was read from what, of this execution alone, in their order.
    """

    def __init__(self, seed: int = 0):
        super().__init__(seed)
        self.uses: dict[Location, Uses] = {}
        self.sights: dict[Sight, None] = {}
        self.known: set[tuple[Location, Pair]] = set()
        self.kept: list[dict[Location, Pair]] = []
        self.tried: dict[Location, Pair] = {}
        self.wanted: dict[Location, Pair] = {}
        self.last: dict[Location, Kind] = {}
        self.fresh: dict[Sight, None] = {}
        self.new: dict[tuple[Location, Pair], None] = {}
        self.patience = Patience()

    def new_execution(self) -> bool:
        self.learn(self.lesson())
        self.tried = self._schedule()
        self.wanted = dict(self.tried)
        self.last = {}
        return super().new_execution()

    def lesson(self) -> Plain:
        """How long, sights, what was read from what, and the abstract schedule that led to it."""
        fresh, new = tuple(self.fresh), tuple(self.new)
        self.fresh, self.new = {}, {}
        return self.patience.lesson(), fresh, new, tuple(self.tried.items()) if new else ()

    def learn(self, lesson: Plain) -> None:
        longest, fresh, new, tried = lesson
        self.patience.learn(longest)
        for sight in fresh:
            self._see(sight)
        if tried and not self.known.issuperset(new) and len(self.kept) < KEPT:
            self.kept.append(dict(tried))
        self.known.update(new)

    def _see(self, sight: Sight) -> None:
        """Note who uses what."""
        location, kind, name, reads, writes = sight
        self.sights[sight] = None
        uses = self.uses.setdefault(location, Uses())
        uses.contexts.add(name)
        if reads:
            uses.reads[kind] = None
        if writes:
            uses.writes[kind] = None

    def knowledge(self) -> Plain:
        kept = [list(tried.items()) for tried in self.kept]
        return self.patience.longest, list(self.sights), sorted(self.known), kept

    def know(self, knowledge: Plain) -> None:
        self.patience.longest, sights, known, kept = knowledge
        self.uses, self.sights = {}, {}
        for sight in sights:
            self._see(sight)
        self.known, self.kept = set(known), [dict(tried) for tried in kept]

    def everywhere(self) -> bool:
        return True

    def _schedule(self) -> dict[Location, Pair]:
        """Another abstract schedule."""
        shared = [location for location, uses in self.uses.items() if uses.shared]
        if not shared:
            return {}
        made: dict[Location, Pair] = {}
        count = 1 + int(self.draw() * PAIRS)
        if self.kept and self.draw() < 0.5:
            made, count = dict(self._pick_from(self.kept)), 1
            if self.draw() < 0.5:
                del made[self._pick_from(list(made))]
                count = int(not made)
        for _ in range(count):
            location = self._pick_from(shared)
            uses = self.uses[location]
            made[location] = self._pick_from(list(uses.reads)), self._pick_from([NOBODY, *uses.writes])
        return made

    def _pick_from(self, among: Sequence[T]) -> T:
        return among[int(self.draw() * len(among))]

    def pick(self, enabled: Sequence[Thread], current: Thread | None) -> Thread:
        candidates: Sequence[Thread] = enabled
        if self.patience.ends():
            self.wanted.clear()
        if self.wanted and len(enabled) > 1:
            candidates = [thread for thread in enabled if not self._would_break(thread)] or enabled
        picked = super().pick(candidates, current)
        self.patience.picked(picked, current)
        self._performed(picked)
        return picked

    def _would_break(self, thread: Thread) -> bool:
        """Would a context's operation break a pair that is wanted?"""
        touched = touch(thread)
        pair = None if touched == NOTHING else self.wanted.get(where(touched))
        if pair is None:
            return False
        read, write = pair
        mine = kind_of(thread) == read and is_read(touched, thread)
        if self.last.get(where(touched), NOBODY) == write:
            return writes(touched) and not mine
        return mine

    def _performed(self, thread: Thread) -> None:
        """Note what an operation reads and writes."""
        touched = touch(thread)
        reads = touched != NOTHING and is_read(touched, thread)
        location, kind = where(touched), kind_of(thread)
        if touched == NOTHING or (family_of(location) == LOCK and not reads):
            return
        sight = location, kind, thread.name, reads, writes(touched)
        if sight not in self.sights:
            self.fresh[sight] = None
        pair = self.wanted.get(location)
        if reads:
            read = location, (kind, self.last.get(location, NOBODY))
            if read not in self.known:
                self.new[read] = None
            if pair is not None and kind == pair[0]:  # met, or no more to be met
                del self.wanted[location]
                pair = None
        if writes(touched):
            self.last[location] = kind
            if pair is not None and pair[1] == NOBODY:
                del self.wanted[location]
