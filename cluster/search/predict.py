"""Predictions from an execution in which nothing went wrong: what another schedule may do, and how to bring it about.

A prediction names two operations, of two contexts, that came in an order which another schedule can change, and says
why another order may do harm:

    deadlock    each of two contexts asks for a lock while it holds the other's
    interrupt   an interrupt asks for a lock that a context of its CPU holds
    wakeup      a wakeup comes before the sleep that it was to end
    race        two conflicting accesses have no lock in common, and nothing orders them
    try         a lock is tried while somebody holds it
    free        a struct is freed before it is used
    atomicity   between two accesses of a context to a location comes another's, and no serial order has the same effect
    order       two critical sections with conflicting accesses come the other way round
    mapping     translations, or bytes of a page, change in another order
    choice      a context takes other data where it has a choice

To bring it about, one context is held back before one operation while another continues to its own (cluster/search/
steer.py does that, and so confirms a prediction or drops it). Where the two operations hold a lock in common, the first
context is held before its request for that lock.

What the other context needs on its way is known from the execution: locks, causes, values that others wrote. If that
includes something that the context held back would have to do, nothing is predicted; except that a value is written, or
a lock given up, later than the execution had it: then the way may differ, and the prediction is not *sure*. A
sure one keeps the order of all critical sections that the other context needs, and what each of its reads reads from:
it is a sync-preserving reordering (Mathur, Pavlogiannis, Viswanathan, POPL 2021), and comes about. Races are predicted
by must-happen-before and locksets, as hybrid detectors do; lock orders as Goodlock does; atomicity violations by the
four unserializable patterns of AVIO (Lu, Tucek, Qin, Zhou, ASPLOS 2006).

Left out: deadlocks of three locks; more than one context held back, which is predicted from an execution that has
brought about another prediction.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from cluster.search.observe import Location, Observation, Operation
from shared.port.struct import KIND_SHIFT, channel_name, lock_name
from shared.port.struct import KINDS as KINDS_OF_STRUCTS

#: kinds, with a number for how early they are tried
KINDS = {
    "deadlock": 0, "interrupt": 0, "wakeup": 1, "race": 1, "try": 1, "free": 2, "atomicity": 2, "order": 3,
    "mapping": 4, "choice": 4,
}  # fmt: skip
#: `sure` and `needs` of a prediction
Way = tuple[bool, Mapping[str, int]]
#: accesses of a context before, between and behind of which no serial order has the same effect: is each a write?
UNSERIALIZABLE = {(False, True, False), (True, True, False), (False, True, True), (True, False, True)}
#: accesses to a location by one context in one function that are looked at: the first, and the last
FIRST = 2
#: data that are tried at a choice
VALUES = 3
#: of contexts that do the same
DIGITS = "0123456789"
#: of a struct, in the name of a lock or of a channel
NUMBER = re.compile(r":\d+")


@dataclass(frozen=True, slots=True)
class Prediction:
    """A defect that another schedule may show, and the way to this schedule.

    Attributes:
        kind: one of KINDS.
        location: what the two operations are about, in words; target: its number.
        held: the context that is held back is about to perform this operation; for `choice`, the choice.
        goal: the other context continues up to this operation.
        delayed, other: the two operations: `delayed` is of the held context; `held` is it, or the request for its lock.
        short: the other context stops before its goal, not behind it.
        back: then the context held back continues at once; else the other context does.
        sure: nothing that the other context needs on its way is missing.
        needs: context -> place of the last operation that the other one needs on its way.
        value: for `choice`, the number of the choice in the execution, and the value to take.
    """

    kind: str
    location: str
    target: int
    held: Operation
    goal: Operation
    delayed: Operation
    other: Operation
    short: bool = False
    back: bool = False
    sure: bool = True
    needs: Mapping[str, int] = field(default_factory=dict)
    value: tuple[int, int] | None = None

    @property
    def signature(self) -> tuple[object, ...]:
        """Two predictions with this value are the same."""
        return self.target, self.delayed.context, self.other.context, self.alike

    @property
    def alike(self) -> tuple[object, ...]:
        """Two predictions with this value are alike: they may differ in the object, and in the contexts' numbers."""
        delayed, other = self.delayed, self.other
        return (
            self.kind, self.location, self.back, self.short, self.value,
            delayed.context.rstrip(DIGITS), delayed.site, delayed.code,
            other.context.rstrip(DIGITS), other.site, other.code,
        )  # fmt: skip

    @property
    def way(self) -> tuple[object, ...]:
        """Two predictions of one execution with this value have the same schedule."""
        goal = (self.goal.code, self.goal.target, self.goal.part, self.short) if self.back else ()
        return self.held.context, self.held.n, self.goal.context, self.value, goal

    def __str__(self) -> str:
        delayed, other = self.delayed, self.other
        if self.value is not None:
            chooser = f"operation {delayed.n} of {delayed.context}, in {delayed.function}"
            return f"choice: {chooser}, takes choice {self.value[1]}"
        back = f", then {self.held.context} goes on" if self.back and not self.short else ""
        return f"{self.kind} on {self.location}: {_words(delayed)}; {_words(other)}{back}"


def _words(operation: Operation) -> str:
    return f"{operation.context} in {operation.function} ({operation.code})"


class Predictor:
    """Predictions from one execution.

    Args:
        seen: the execution.
        known: signatures of predictions that are not to be made again.
    """

    def __init__(self, seen: Observation, known: set[tuple[object, ...]]):
        self.operations, self.choices, self.known = seen.operations, seen.choices, known
        self.of: dict[str, list[Operation]] = {}
        self.uses: dict[Location, list[tuple[Operation, bool]]] = {}
        self.written: list[list[int]] = []  # of each operation, the places of the writes that it reads from
        self.known_ways: dict[tuple[int, int, bool, bool], Way | None] = {}
        self.freed: list[list[int]] = []  # of each operation, the place of the release behind which it has its lock
        last: dict[Location, int] = {}
        releases: dict[int, int] = {}
        asked: dict[str, int] = {}
        for operation in self.operations:
            if operation.code == "lock":
                asked[operation.context] = operation.target
            asks = operation.code in ("lock", "try")
            lock = operation.target if asks else asked.pop(operation.context, -1) if operation.code == "" else -1
            self.freed.append([releases[lock]] if lock in releases else [])
            if operation.code == "unlock" and operation.target in operation.held:
                releases[operation.target] = operation.place
            self.of.setdefault(operation.context, []).append(operation)
            self.written.append([last[touched.location] for touched in operation.touches if touched.location in last])
            for location, writes in operation.touches:
                self.uses.setdefault(location, []).append((operation, writes))
                if writes:
                    last[location] = operation.place
        self.places = {context: [operation.place for operation in mine] for context, mine in self.of.items()}

    def all(self) -> list[Prediction]:
        """All that are new, those to be tried first at the front."""
        made: dict[tuple[object, ...], Prediction] = {}
        for prediction in self._candidates():
            signature = prediction.signature
            if signature not in self.known and (signature not in made or prediction.sure > made[signature].sure):
                made[signature] = prediction
        return sorted(made.values(), key=rank)

    def _candidates(self) -> Iterator[Prediction]:
        yield from self._deadlocks()
        yield from self._interrupts()
        yield from self._tries()
        for location, uses in self.uses.items():
            if any(writes for _, writes in uses) and len({operation.context for operation, _ in uses}) > 1:
                few = _few(uses)
                yield from self._reversals(location, few)
                if location[0] in ("field", "word"):
                    yield from self._atomicity(location, uses, few)
        yield from self._data()

    # -- two operations the other way round ------------------------------------------------------

    def _reversals(self, location: Location, uses: Sequence[tuple[Operation, bool]]) -> Iterator[Prediction]:
        for at, (first, writes) in enumerate(uses):
            for second, writes_too in uses[at + 1 :]:
                if first.context == second.context or not (writes or writes_too) or first.must_precede(second):
                    continue
                kind = {"struct": "free", "channel": "wakeup"}.get(location[0], "mapping")
                if location[0] == "field":
                    kind = "order" if first.excludes(second) else "race"
                held = self._before(first, [second])
                if held is not None:
                    about = _in_words(location, first)
                    for back in (False, True):
                        yield from self._made(
                            Prediction(kind, about, location[1], held, second, first, second, back=back)
                        )

    def _atomicity(
        self, location: Location, all_uses: Sequence[tuple[Operation, bool]], few: Sequence[tuple[Operation, bool]]
    ) -> Iterator[Prediction]:
        """Accesses between two of another context, which are in one stay in the kernel."""
        pairs = []
        last: dict[str, tuple[Operation, bool]] = {}
        for use in all_uses:
            before = last.get(use[0].context)
            if before is not None and before[0].call == use[0].call:
                pairs.append((before, use))
            last[use[0].context] = use
        for (first, writes), (second, writes_too) in _few_pairs(pairs):
            for other, writes_between in few:
                if other.context == first.context or (writes, writes_between, writes_too) not in UNSERIALIZABLE:
                    continue
                held = self._before(second, [other])
                if held is None or held.place <= first.place:
                    continue  # a lock over both keeps the other out
                if other.place > second.place and not second.must_precede(other):
                    made = partial(Prediction, "atomicity", _in_words(location, second), location[1])
                    for back in (False, True):
                        yield from self._made(made(held, other, second, other, back=back))
                elif other.place < first.place and not other.must_precede(second):
                    made = partial(Prediction, "atomicity", _in_words(location, other), location[1])
                    earlier = self._before(other, [first, second])
                    if earlier is not None:
                        yield from self._made(made(earlier, held, other, second, short=True, back=True))

    def _before(self, operation: Operation, others: Sequence[Operation]) -> Operation | None:
        """Where its context is held so that the others can come first: before it asks for a lock that they need."""
        places = [operation.held[lock].since for other in others for lock in operation.excludes(other)]
        place = min(places, default=operation.place)
        return None if place < 0 else self.operations[place]

    # -- locks -----------------------------------------------------------------------------------

    def _deadlocks(self) -> Iterator[Prediction]:
        orders: dict[tuple[int, int], list[Operation]] = {}
        for operation in self.operations:
            if operation.code in ("lock", "upgrade"):
                for lock in operation.held:
                    if lock != operation.target:
                        orders.setdefault((lock, operation.target), []).append(operation)
        for (held, wanted), firsts in orders.items():
            for second in orders.get((wanted, held), ()):
                for first in firsts:
                    if (
                        first.context != second.context
                        and first.place < second.place
                        and not first.must_precede(second)
                        and not first.excludes(second)
                    ):
                        about = _in_words(("lock", wanted, 0), first)
                        yield from self._made(Prediction("deadlock", about, wanted, first, second, first, second))

    def _interrupts(self) -> Iterator[Prediction]:
        """An interrupt is taken while a context of its CPU holds a lock that it asks for."""
        taken: dict[str, Operation] = {}
        for operation in self.operations:
            if operation.code == "intr":
                taken[operation.context] = operation
            start = taken.get(operation.context)
            if start is None or operation.code != "lock":
                continue
            for holder in self.operations:
                holding = holder.held.get(operation.target)
                if holding is None or holder.cpu != operation.cpu or holder.context == operation.context:
                    continue
                if operation.level <= holder.spl:
                    continue
                lock = operation.target
                made = partial(Prediction, "interrupt", _in_words(("lock", lock, 0), holder), lock)
                if holder.place < start.place and not holder.must_precede(start):
                    yield made(holder, operation, holder, operation)
                elif holder.place > start.place and not start.must_precede(holder):
                    yield made(start, holder, operation, holder, short=True, back=True)

    def _tries(self) -> Iterator[Prediction]:
        tried: dict[int, list[Operation]] = {}
        for operation in self.operations:
            if operation.code == "try":
                tried.setdefault(operation.target, []).append(operation)
        for end in self.operations if tried else ():
            holding = end.held.get(end.target)
            if end.code != "unlock" or holding is None or holding.since < 0:
                continue
            for other in tried.get(end.target, ()):
                if other.context == end.context:
                    continue
                made = partial(Prediction, "try", _in_words(("lock", end.target, 0), end), end.target)
                if other.place > end.place and not end.must_precede(other):
                    yield from self._made(made(end, other, end, other))
                elif other.place < holding.since and not other.must_precede(end):
                    yield from self._made(made(other, end, other, end, short=True, back=True))

    # -- data ------------------------------------------------------------------------------------

    def _data(self) -> Iterator[Prediction]:
        for number, (taken, of, place) in enumerate(self.choices):
            chooser = self.operations[place]
            for value in range(min(of, VALUES)):
                if value != taken:
                    yield Prediction("choice", "", 0, chooser, chooser, chooser, chooser, value=(number, value))

    # -- can it be? --------------------------------------------------------------------------------

    def _made(self, prediction: Prediction) -> Iterator[Prediction]:
        """The prediction, unless the other context needs something of the context that is held back."""
        if prediction.signature in self.known:
            return
        held, goal, short = prediction.held, prediction.goal, prediction.short
        may_block = prediction.kind == "deadlock"
        asked = held.place, goal.place, short, may_block
        if asked not in self.known_ways:
            self.known_ways[asked] = self._way(held, goal, short, may_block)
        way = self.known_ways[asked]
        if way is not None:
            yield replace(prediction, sure=way[0], needs=way[1])

    def _way(self, held: Operation, goal: Operation, short: bool, may_block: bool) -> Way | None:
        """Can the goal's context come to it without what follows where the other is held?

        Args:
            may_block: it is enough to ask for the last lock.

        Returns: None: no; else `sure` and `needs` of the prediction.
        """
        start, sure = held.place, True
        until: dict[str, int] = {}  # context -> place up to which its operations are needed
        work = [(goal.context, goal.place - short)]
        while work:
            context, place = work.pop()
            begin = until.get(context, start - 1)
            if place <= begin:
                continue
            until[context] = place
            places = self.places[context]
            mine = self.of[context][bisect_right(places, begin) : bisect_right(places, place)]
            if (
                mine and begin < start and held.cpu == mine[0].cpu
                and held.code not in ("run", "intr") and (mine[0].code != "intr" or mine[0].level <= held.spl)
            ):  # fmt: skip
                return None  # the context that is held has the processor
            clock: Mapping[str, int] = {}
            for operation in mine:
                waits = operation.code == "lock" and not (may_block and operation is goal)
                lock = held.held.get(operation.target) if waits else None
                if (
                    context == held.context
                    or operation.clock.get(held.context, 0) >= held.nth
                    or (lock is not None and lock.mode == "w")
                ):
                    return None
                if operation.code == "try" and operation.target in held.held:
                    sure = False
                if operation.clock is not clock:
                    clock = operation.clock
                    work += [(cause, self.places[cause][count - 1]) for cause, count in clock.items()]
                for needed in (*self.written[operation.place], *self.freed[operation.place]):
                    if needed >= start and self.operations[needed].context == held.context:
                        sure = False
                    elif needed >= start:
                        work.append((self.operations[needed].context, needed))
        return sure, until


def rank(prediction: Prediction) -> float:
    """The lower, the earlier it is tried."""
    return KINDS[prediction.kind] + 2 * (not prediction.sure) + prediction.back / 2


def _few(uses: Sequence[tuple[Operation, bool]]) -> list[tuple[Operation, bool]]:
    """Of each context and function the first uses and the last."""
    kinds: dict[tuple[object, ...], list[tuple[Operation, bool]]] = {}
    for use in uses:
        kinds.setdefault((use[0].context, use[0].site, use[0].code), []).append(use)
    kept = {use[0].place: use for same in kinds.values() for use in (*same[:FIRST], same[-1])}
    return [kept[place] for place in sorted(kept)]


Pair = tuple[tuple[Operation, bool], tuple[Operation, bool]]


def _few_pairs(pairs: Sequence[Pair]) -> list[Pair]:
    """Of each context and two functions the first pairs and the last."""
    kinds: dict[tuple[object, ...], list[Pair]] = {}
    for pair in pairs:
        (first, _), (second, _) = pair
        kinds.setdefault((first.context, first.site, second.site), []).append(pair)
    return [pair for same in kinds.values() for pair in dict.fromkeys((*same[:FIRST], same[-1]))]


def _in_words(location: Location, operation: Operation) -> str:
    """A location in words, the same for all structs of a kind."""
    kind, target, part = location
    if kind == "field":
        return operation.field
    if kind == "struct":
        return KINDS_OF_STRUCTS[target >> KIND_SHIFT].kind_name
    if kind in ("lock", "channel"):
        return NUMBER.sub("", lock_name(target) if kind == "lock" else channel_name(target))
    return "a page's bytes" if kind == "word" or (kind == "frame" and not part) else "translations"
