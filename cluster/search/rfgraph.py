"""An execution as a graph: which event observes which; and orders in which a part of it can be performed again.

An event *observes* the store that its load reads from, and every event that is ordered before it. Ordered are the
events of one processor, a cause and its effect, and two operations that conflict, unless both are loads and stores of a
field: no event observes that a store comes before another store, or behind a load. Two executions are of one
*reads-from class* if each event observes the same events in both.

A *cut* is a part of an execution which has, with each event, those that it observes: so many events of each processor.
The *name* of an event is a hash of its label and of the names of what it observes, so it stands for all of them.

Abdulla, Atig, Jonsson, Lang, Ngo, Sagonas: Optimal Stateless Model Checking for Reads-From Equivalence under Sequential
Consistency, OOPSLA 2019. To tell whether a graph has an order is NP-complete. The search for it here (`_Order`) goes
back only where several stores that are read compete, and remembers which sets of events cannot be completed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from cluster.search.dependency import Footprint, Resource
from cluster.search.trace import NO_CHOICE, Event, Label

#: number of events of each processor
Cut = tuple[int, ...]
#: of each field that an event loads, the place of the store; UNWRITTEN: no store of the execution
Sources = tuple[tuple[Resource, int], ...]
UNWRITTEN = -1
#: the last event of each processor in a cut: processor, number of its events, name
Front = tuple[tuple[int, int, int], ...]


class Other(NamedTuple):
    """An event as it could be instead, behind a cut.

    Attributes:
        cut: what happens before: what the event observes, and what is to be kept.
        past: what the event observes. sources: of its loads.
    """

    event: Event
    cut: Cut
    past: Cut
    sources: Sources


class Graph:
    """The graph of an execution.

    Args:
        events: of the execution, in their order.
        width: number of processors.
        plain: is a resource a field of which loads observe only the store that they read from?
        final: add a load of each field that is stored, behind all events, on a processor of its own.

    Attributes:
        events: with the added ones, of which the first has place `ends`.
        lines: places of the events of each processor.
        clocks: of each event, the cut of what it observes and itself.
        names, sources: of each event.
        stores: of each field, places of its stores.
    """

    def __init__(self, events: Sequence[Event], width: int, plain: Callable[[Resource], bool], final: bool):
        self.events = list(events)
        self.ends = len(events)
        self.plain = plain
        self.lines: list[list[int]] = [[] for _ in range(width + 1)]
        self.clocks: list[Cut] = []
        self.names: list[int] = []
        self.sources: list[Sources] = []
        self.stores: dict[Resource, list[int]] = {}
        self._touched: dict[Resource, list[tuple[int, bool]]] = {}  # ordered -> places, and whether they write
        self._causes: dict[Resource, list[int]] = {}
        for event in events:
            self._add(event)
        if final:
            for resource in sorted(self.stores, key=repr):
                event = Event("", width)
                event.own = Footprint(frozenset([resource]), event.own.writes)
                self.events.append(event)
                self._add(event)

    def _add(self, event: Event) -> None:
        """The next event of the execution."""
        place = len(self.clocks)
        sources = tuple((resource, self._last_store(resource)) for resource in self._loads(event))
        past = self._before(event, place, self.whole(), sources)
        self.sources.append(sources)
        self.names.append(self._name(event, past, sources))
        self.lines[event.cpu].append(place)
        self.clocks.append((*past[: event.cpu], past[event.cpu] + 1, *past[event.cpu + 1 :]))
        reads, writes = self._ordered(event)
        for resource in reads | writes:
            self._touched.setdefault(resource, []).append((place, resource in writes))
        for resource in event.own.writes:
            if self.plain(resource):
                self.stores.setdefault(resource, []).append(place)
        for resource in event.writes:
            if resource[0] in ("ctx", "intr"):
                self._causes.setdefault(resource, []).append(place)

    # -- what an event observes -------------------------------------------------------------------

    def _loads(self, event: Event) -> list[Resource]:
        return [resource for resource in event.own.reads if self.plain(resource)]

    def _ordered(self, event: Event) -> tuple[set[Resource], set[Resource]]:
        """The ordered resources that an event reads and writes."""
        reads = {resource for resource in event.own.reads if not self.plain(resource)}
        writes = {resource for resource in event.own.writes if not self.plain(resource)}
        if event.writes is not event.own.writes:  # interrupts raised, in their order
            writes.update(resource for resource in event.writes if resource[0] == "intr")
        return reads, writes

    def _last_store(self, resource: Resource) -> int:
        stores = self.stores.get(resource)
        return stores[-1] if stores else UNWRITTEN

    def _needed(self, event: Event, place: int) -> Cut:
        """What must be before the event at a place: its context's last event, and what lets the context go on."""
        if self.ends <= place < len(self.events):
            return self.start(place)
        need: Cut = (0,) * len(self.lines)
        for earlier in reversed(self.lines[event.cpu]):
            if earlier < place and self.events[earlier].thread == event.thread:
                need = self.clocks[earlier]
                break
        for resource in event.needs:
            for cause in reversed(self._causes.get(resource, ())):
                if cause < place:
                    need = join(need, self.clocks[cause])
                    break
        return need

    def _before(self, event: Event, place: int, cut: Cut, sources: Sources) -> Cut:
        """What the event at a place observes if it comes behind a cut."""
        past = self._needed(event, place)
        if cut[event.cpu]:
            past = join(past, self.clocks[self.lines[event.cpu][cut[event.cpu] - 1]])
        reads, writes = self._ordered(event)
        for resource in reads | writes:
            for at, wrote in reversed(self._touched.get(resource, ())):
                if (wrote or resource in writes) and self.holds(cut, at):
                    past = join(past, self.clocks[at])
                    if wrote:
                        break
        for _, store in sources:
            if store != UNWRITTEN:
                past = join(past, self.clocks[store])
        return past

    def _name(self, event: Event, past: Cut, sources: Sources) -> int:
        names = self.names
        seen = tuple((cpu, names[self.lines[cpu][count - 1]]) for cpu, count in enumerate(past) if count)
        return hash((event.label, seen, tuple(0 if store == UNWRITTEN else names[store] for _, store in sources)))

    # -- cuts -----------------------------------------------------------------------------------------

    def whole(self) -> Cut:
        """All events."""
        return tuple(len(line) for line in self.lines)

    def start(self, place: int) -> Cut:
        """The events before a place."""
        return tuple(sum(at < place for at in line) for line in self.lines)

    def holds(self, cut: Cut, place: int) -> bool:
        """Is the event at a place in a cut?"""
        cpu = self.events[place].cpu
        return self.clocks[place][cpu] <= cut[cpu]

    def front(self, cut: Cut) -> Front:
        """The last events of a cut, which tell it from all others, of any execution."""
        return tuple((cpu, count, self.names[self.lines[cpu][count - 1]]) for cpu, count in enumerate(cut) if count)

    def front_of(self, other: Other) -> Front:
        """The same of a cut and the event behind it."""
        cpu, name = other.event.cpu, self._name(other.event, other.past, other.sources)
        return (*(last for last in self.front(other.cut) if last[0] != cpu), (cpu, other.cut[cpu] + 1, name))

    def within(self, front: Front, other: Other) -> bool:
        """Are all events with these last ones in a cut, or the event behind it?"""
        for cpu, count, name in front:
            if count <= other.cut[cpu]:
                if self.names[self.lines[cpu][count - 1]] != name:
                    return False
            elif (cpu, count, name) not in self.front_of(other):
                return False
        return True

    # -- what could be instead ----------------------------------------------------------------------

    def others(self, kept: Cut, left: Sequence[Event]) -> Iterator[Other]:
        """Everything else that an event which is not kept could observe, of what is there.

        Args:
            left: what contexts would have done next; these events could also be performed.
        """
        for place in range(self.ends):
            if not self.holds(kept, place):
                yield from self._instead(kept, self.events[place].pending(), place)
        for event in left:
            yield from self._instead(kept, event, len(self.events))
        for place in range(self.ends, len(self.events)):
            if not self.holds(kept, place):
                yield from self._instead(kept, self.events[place], place)

    def _instead(self, kept: Cut, event: Event, place: int) -> Iterator[Other]:
        """What the event at a place, or behind all of them, could observe instead."""
        base = join(kept, self._needed(event, place))
        if event.of:
            for value in range(event.of):
                if value != event.label[1]:
                    yield Other(Event(event.thread, event.cpu, value), base, self._needed(event, place), ())
            return
        performed, own = (self.events[place], self._own(place)) if place < len(self.events) else (event, None)
        seen = {own}
        for cut in self._cuts(event, place, base):
            for sources, more in self._readings(event, place, cut):
                observed = self._before(performed, place, more, sources), sources
                # (an event that is vague observes more than shows here: only its own way is known to be the same)
                if observed in seen and (event is performed or observed == own):
                    continue
                if not self._can(event, place, more) or self._is_overwritten(*observed):
                    continue
                seen.add(observed)
                yield Other(event, more, self._before(event, place, more, sources), sources)

    def _own(self, place: int) -> tuple[Cut, Sources]:
        """The events that the event at a place observes."""
        clock, cpu = self.clocks[place], self.events[place].cpu
        return (*clock[:cpu], clock[cpu] - 1, *clock[cpu + 1 :]), self.sources[place]

    def _cuts(self, event: Event, place: int, base: Cut) -> list[Cut]:
        """Cuts with each set of those ordered events that it could observe."""
        reads, writes = self._ordered(event)
        conflicts = set()
        for resource in reads | writes:
            for at, wrote in reversed(self._touched.get(resource, ())):
                if not self.holds(base, at):
                    if (wrote or resource in writes) and not self._follows(at, place):
                        conflicts.add(at)
                elif wrote:
                    break
        for at in reversed(self.lines[event.cpu]):
            if self.holds(base, at):
                break
            if at < place:
                conflicts.add(at)
        cuts = {base: None}
        for at in sorted(conflicts):
            for cut in list(cuts):
                cuts[join(cut, self.clocks[at])] = None
        return list(cuts)

    def _readings(self, event: Event, place: int, cut: Cut) -> list[tuple[Sources, Cut]]:
        """Each store that it could read from, and the cut with that store."""
        readings: list[tuple[Sources, Cut]] = [((), cut)]
        for resource in self._loads(event):
            stores = [at for at in self.stores.get(resource, ()) if not self._follows(at, place)]
            readings = [
                ((*sources, (resource, store)), more if store == UNWRITTEN else join(more, self.clocks[store]))
                for sources, more in readings
                for store in (UNWRITTEN, *stores)
            ]
        return readings

    def _is_overwritten(self, past: Cut, sources: Sources) -> bool:
        """Has this past, of a store that is read from, a later one that observes it?"""
        return any(
            at != store and self.holds(past, at) and (store == UNWRITTEN or self.holds(self.clocks[at], store))
            for resource, store in sources
            for at in self.stores.get(resource, ())
        )

    def _follows(self, at: int, place: int) -> bool:
        """Does the event at a place observe another one, or is it that?"""
        return place < len(self.events) and self.holds(self.clocks[at], place)

    def _can(self, event: Event, place: int, cut: Cut) -> bool:
        """Could it be performed behind a cut, as far as simple locks and its processor tell?"""
        line, at = self.lines[event.cpu], cut[event.cpu]
        if at < len(line) and line[at] != place and not event.could_precede(self.events[line[at]]):
            return False
        if not event.asks_simple:
            return True
        holders: dict[str, str] = {}
        for taker, _ in self._touched.get(("lock", event.target), ()):
            if self.holds(cut, taker):
                took = self.events[taker]
                if took.code == "unlock":
                    holders.pop(took.thread if took.thread in holders else next(iter(holders), ""), None)
                elif took.code in ("lock", "try") and _admits(holders, took.mode):
                    holders[took.thread] = took.mode
        return _admits(holders, event.mode)

    # -- orders -----------------------------------------------------------------------------------------

    def order(self, other: Other, given: int) -> list[Label] | None:
        """An order of all events of a cut and the one behind it; None: there is none.

        Args:
            given: so many events come first as they are, and are not in the result.
        """
        return _Order(self, other, given).find()


class _State(NamedTuple):
    """How far an order has come.

    Attributes:
        done: events of each processor. last: store of each field. waiting: loads that are still to read from a store.
    """

    done: list[int]
    last: dict[Resource, int]
    waiting: dict[tuple[Resource, int], int]
    order: list[Label]

    def copy(self) -> _State:
        return _State(self.done.copy(), self.last.copy(), self.waiting.copy(), self.order.copy())


class _Order:
    """The search for an order; see Graph.order.

    A store must not come while a load waits for the store before it. All else can be performed as soon as what it
    observes has been: nothing is lost by that.
    """

    def __init__(self, graph: Graph, other: Other, given: int):
        self.graph, self.other, self.given = graph, other, given
        self.extra = len(graph.events)
        self.lines = [line[:count] for line, count in zip(graph.lines, other.cut, strict=True)]
        self.lines[other.event.cpu].append(self.extra)

    def find(self) -> list[Label] | None:
        state = _State([0] * len(self.lines), {}, {}, [])
        for line in self.lines:
            for place in line:
                for reading in self._event(place)[2]:
                    state.waiting[reading] = state.waiting.get(reading, 0) + 1
        for place in range(self.given):
            self._perform(state, place)
        state.order.clear()
        failed: set[tuple[int, ...]] = set()
        left: list[tuple[_State, int]] = [(state, UNWRITTEN)]
        while left:
            state, place = left.pop()
            if place != UNWRITTEN:
                self._perform(state, place)
            stores = self._run(state)
            if not stores and all(count == len(line) for count, line in zip(state.done, self.lines, strict=True)):
                return state.order
            done = tuple(state.done)
            if done not in failed:
                failed.add(done)
                left.extend((state.copy(), store) for store in reversed(stores))
        return None

    def _event(self, place: int) -> tuple[Event, Cut, Sources]:
        graph, other = self.graph, self.other
        if place == self.extra:
            return other.event, other.past, other.sources
        return graph.events[place], graph.clocks[place], graph.sources[place]

    def _run(self, state: _State) -> list[int]:
        """Perform all events that are in no other's way. Returns: stores of which one must come next, if any can."""
        while True:
            able = self._able(state)
            free = next((place for place in able if not self._is_read(state, place)), None)
            if free is None:
                return able
            self._perform(state, free)

    def _able(self, state: _State) -> list[int]:
        """Places of the events that can be next, in their order."""
        able = []
        for cpu, (line, count) in enumerate(zip(self.lines, state.done, strict=True)):
            if count < len(line):
                place = line[count]
                event, past, sources = self._event(place)
                if event.label[1] != NO_CHOICE:
                    return [place]  # no other can come between a choice and what its context did before
                if (
                    all(many <= state.done[at] or at == cpu for at, many in enumerate(past))
                    and all(state.last.get(resource, UNWRITTEN) == store for resource, store in sources)
                    and not any(
                        state.waiting.get((resource, state.last.get(resource, UNWRITTEN)))
                        for resource in event.own.writes
                    )
                ):
                    able.append(place)
        return sorted(able)

    def _is_read(self, state: _State, place: int) -> bool:
        return any(state.waiting.get((resource, place)) for resource in self._event(place)[0].own.writes)

    def _perform(self, state: _State, place: int) -> None:
        event, _, sources = self._event(place)
        for reading in sources:
            state.waiting[reading] -= 1
        for resource in event.own.writes:
            if self.graph.plain(resource):
                state.last[resource] = place
        state.done[event.cpu] += 1
        if event.thread:
            state.order.append(event.label)


def _admits(holders: dict[str, str], mode: str) -> bool:
    """Is a simple lock free for a request?"""
    return not holders or (mode == "r" and all(held == "r" for held in holders.values()))


def join(cut: Cut, other: Cut) -> Cut:
    """Both cuts together."""
    return tuple([max(pair) for pair in zip(cut, other, strict=True)])
