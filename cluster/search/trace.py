"""The events of an execution and what happened before what, for the systematic strategies.

An *event* is what a context does from one point to the next: the operation that it asked for, if any, and accesses that
need no point. A choice of data is an event too. Events are of one processor in the order in which they come; what else
orders them is in their footprints (dependency.py), or in that an event causes the other: it wakes a context, grants
what that waits for, or interrupts it. The transitive closure is *happens-before*; two executions with the same
happens-before are of one class.

A *race* is a pair of events which no third is between, and whose order another execution may reverse:

- two that conflict;
- two requests for one simple lock, which are a release apart. A request is performed only while the lock is free:
  queueing for it has the same effect as asking later;
- two of one processor, where the later context could have had the processor before the earlier event.

A context that has given way because it tries again (Port.spin) reads what it has looked at since it did so before, and
continues when another has written any of that: otherwise it would only see the same again.

An event that causes another is in no race with it.

Events are added, and taken away again from the end: what is common to two executions is kept.
"""

from __future__ import annotations

from collections.abc import Iterable

from cluster.search.dependency import NONE, NOTHING, Footprint, Resource, footprint
from nodes.cpu import FINISHED, Thread
from shared.port.struct import lock_sleeps

#: a context, and what it chooses; NO_CHOICE: it chooses nothing
Label = tuple[str, int]
NO_CHOICE = -1
#: the code of what follows when a context has given way
AGAIN = "again"


class Event:
    """The step of a context from one point to the next, or its choice.

    Attributes:
        thread, cpu: which context, and the number of its processor.
        label: which context, and the value that it chooses.
        code, target: of the operation; "": none. mode: of a request for a lock.
        takes: "run" or "intr" if the context has to get its processor first; else "".
        holder, level: which context had the processor before, and at which interrupt level.
        level_of: the context's own interrupt level, at which it interrupts others.
        of: how many choices there are.
        own: footprint of the operation; reads, writes: of the whole event, with what it needs and what it causes.
        needs: what another event must have written before.
        number: of the event among those of its processor, from 1; clock: of each processor, how many of its events are
            this event or happened before it.
        races: places of the events with which it is in a race.
        freed: place of the event that took the lock which this event releases; -1: none.
        noted: the lists, of its trace, of events that read or write the same, in which it is the last. (Events that are
            in no trace have no clock, races and noted.)
        vague: it has not been performed where it stands now, and may read and write something else.
    """

    __slots__ = (
        "clock", "code", "cpu", "freed", "holder", "label", "level", "level_of", "mode", "needs", "noted", "number",
        "of", "own", "races", "reads", "takes", "target", "thread", "vague", "writes",
    )  # fmt: skip

    clock: list[int]
    races: list[int]
    noted: list[list[int]]

    def __init__(self, thread: str, cpu: int, value: int = NO_CHOICE):
        self.thread, self.cpu, self.label = thread, cpu, (thread, value)
        self.code, self.target, self.mode, self.takes = "", 0, "", ""
        self.holder, self.level, self.level_of = "", 0, 0
        self.of = 0
        self.own = NOTHING
        self.reads = self.writes = self.needs = NONE
        self.number, self.freed = 0, -1
        self.vague = False

    def depends(self, other: Event) -> bool:
        """Does the order of the two matter?"""
        return self.cpu == other.cpu or not (
            self.writes.isdisjoint(other.writes)
            and self.writes.isdisjoint(other.reads)
            and self.reads.isdisjoint(other.writes)
        )

    def could_precede(self, event: Event) -> bool:
        """Could this event's context have had the processor, which the two share, before the event?"""
        if self.takes == "intr":
            return self.level_of > event.level
        return event.holder == ("" if self.takes else self.thread)

    def performs(self, code: str, target: int, args: tuple[object, ...]) -> None:
        """It turns out to be this operation, or this operation too."""
        more = footprint(code, target, args)
        self.own = more if self.vague else self.own.with_more(more)
        self.vague = False

    def pending(self) -> Event:
        """The same event where it has not been performed."""
        if self.code != "access":
            return self
        event = Event(self.thread, self.cpu)
        event.code, event.target, event.vague = self.code, self.target, True
        event.own = self.own.with_more(footprint(self.code, self.target, ()))
        event.reads, event.writes = self.reads | event.own.reads, self.writes | event.own.writes
        return event

    @property
    def asks_simple(self) -> bool:
        """Is it a request for a simple lock, performed only while the lock is free?"""
        return self.code == "lock" and not lock_sleeps(self.target)


class Trace:
    """The events so far, and what is to be known of them to add another.

    Attributes:
        events: in the order in which they were performed.
    """

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._cpus: dict[str, int] = {}
        self._threads: list[Thread] = []
        self._of_cpu: list[list[int]] = []
        self._of_thread: dict[str, list[int]] = {}
        self._writes: dict[Resource, list[int]] = {}
        self._reads: dict[Resource, list[int]] = {}
        self._taken: dict[int, list[int]] = {}  # simple lock -> places of all events that took it
        self._holders: dict[int, list[int]] = {}  # simple lock -> places of those that hold it now
        self._raised: dict[str, list[int]] = {}  # interrupt -> place of the cause of each
        self._without: dict[int, list[Event]] = {}  # what `without` has answered since an event came or went

    def _number(self, thread: Thread) -> int:
        """Of the context's processor, which may be new."""
        number = self._cpus.get(thread.cpu)
        if number is None:
            number = self._cpus[thread.cpu] = len(self._cpus)
            self._of_cpu.append([])
            self._threads += thread.processor.threads
            self._threads.sort(key=_order)
            for event in self.events:
                event.clock.append(0)
        return number

    def begin(self, threads: Iterable[Thread]) -> None:
        """The execution begins here, and not at the beginning of the contexts.

        What they hold, and the interrupts that are pending, are events without a context, one for each.
        """
        for thread in threads:
            number = self._number(thread)
            held = [(lock.key, lock.mode) for lock in thread.held]
            if thread.waits is not None and thread.waits[0] == "lock" and thread.ready:
                held.append((thread.waits[1], "w"))
            for key, mode in held:
                if not lock_sleeps(key):
                    event = Event("", number)
                    event.code, event.target, event.mode, event.own = "lock", key, mode, footprint("lock", key, ())
                    self.add(event, [])
            for _ in thread.processor.pending.get(thread.name, ()):
                self.add(Event("", number), [thread])

    def width(self) -> int:
        """Number of processors that it knows."""
        return len(self._of_cpu)

    def meet(self, threads: Iterable[Thread]) -> None:
        """Number the processors of these contexts now, in this order."""
        for thread in threads:
            self._number(thread)

    # -- events to come ----------------------------------------------------------------

    def event(self, thread: Thread) -> Event:
        """The event of a context when it is picked, as far as it shows before."""
        event = Event(thread.name, self._number(thread))
        processor = thread.processor
        has = processor.nested[-1] if processor.nested else processor.current
        if has is not None:
            event.holder, event.level = has.name, has.spl
        event.level_of = thread.level
        event.takes = processor.takes(thread) or ""
        if event.takes == "intr":
            taken = sum(self.events[place].takes == "intr" for place in self._of_thread.get(thread.name, ()))
            event.needs = frozenset([("intr", thread.name, taken)])
        elif _tries_again(thread):
            event.code = AGAIN
            seen = [self.events[place].own for place in self._looked_at(thread.name)]
            event.own = Footprint(NONE.union(*(own.reads | own.writes for own in seen)), NONE)
        elif thread.asks is None:
            event.needs = frozenset([("ctx", thread.name)])
        else:
            event.code, event.target, args = thread.asks
            event.own = footprint(event.code, event.target, args)
            event.vague = event.code == "access"
            if event.code in ("lock", "try"):
                event.mode = str(args[0])
        event.reads = event.own.reads | event.needs if event.needs else event.own.reads
        event.writes = event.own.writes
        return event

    def choice(self, thread: Thread, value: int, of: int) -> Event:
        """The choice of one of so many data."""
        event = Event(thread.name, self._number(thread), value)
        event.code, event.of, event.holder = "choose", of, thread.name
        return event

    def blocked(self, thread: Thread) -> bool:
        """Does the context ask for a simple lock that is not free, or try again what can only fail again?"""
        if thread.processor.takes(thread):
            return False
        asks = thread.asks
        if asks is None:
            return _tries_again(thread) and thread.name in self._of_thread and not self._news(thread.name)
        return asks[0] == "lock" and not self._admits(asks[1], str(asks[2][0])) and not lock_sleeps(asks[1])

    def _looked_at(self, thread: str) -> list[int]:
        """Places of a context's events since it last gave way to try again."""
        places = self._of_thread.get(thread, [])
        since = next((at for at in reversed(range(len(places))) if self.events[places[at]].code == AGAIN), -1)
        return places[since + 1 :]

    def _news(self, thread: str) -> list[int]:
        """Places of others' events by which a context that tries again may see something else."""
        news = []
        for at in self._looked_at(thread):
            own = self.events[at].own
            for resource in own.reads | own.writes:
                news += self._since(self._writes.get(resource), at, thread)
        return news

    def _since(self, places: list[int] | None, at: int, thread: str) -> list[int]:
        """Those of others behind a place, the last first."""
        behind = []
        for place in reversed(places or ()):
            if place <= at:
                break
            if self.events[place].thread != thread:
                behind.append(place)
        return behind

    def _admits(self, key: int, mode: str) -> bool:
        holders = self._holders.get(key)
        return not holders or (mode == "r" and all(self.events[place].mode == "r" for place in holders))

    def left(self) -> list[Event]:
        """What contexts would do next that cannot, or may not any more."""
        return [self.event(thread) for thread in self._threads if _is_left(thread)]

    # -- events that have been -----------------------------------------------------------

    def add(self, event: Event, caused: list[Thread]) -> None:
        """Another event has been performed.

        Args:
            caused: contexts that it has woken, granted something, or interrupted.
        """
        self._without.clear()
        place, own = len(self.events), event.own
        event.vague = False
        event.reads = own.reads | event.needs if event.needs else own.reads
        event.writes = own.writes | self._reached(caused, place) if caused else own.writes
        event.races, event.clock = self.races(event)
        event.number = len(self._of_cpu[event.cpu]) + 1
        event.clock[event.cpu] = event.number
        self.events.append(event)
        self._of_cpu[event.cpu].append(place)
        self._of_thread.setdefault(event.thread, []).append(place)
        event.noted = []
        for resource in event.writes:
            _note(event, place, self._writes, resource)
        for resource in event.reads:
            _note(event, place, self._reads, resource)
        if event.code in ("lock", "try", "unlock") and not lock_sleeps(event.target):
            self._lock(event, place, caused)

    def _reached(self, caused: list[Thread], place: int) -> set[Resource]:
        """What an event writes by causing something for these contexts."""
        reached: set[Resource] = set()
        for thread in caused:
            self._number(thread)
            if thread.interrupt and thread.processor.takes(thread) == "intr":
                raised = self._raised.setdefault(thread.name, [])
                reached |= {("intr", thread.name), ("intr", thread.name, len(raised))}
                raised.append(place)
            else:
                reached.add(("ctx", thread.name))
        return reached

    def _lock(self, event: Event, place: int, caused: list[Thread]) -> None:
        holders = self._holders.setdefault(event.target, [])
        if event.code == "unlock":
            if holders:
                mine = [at for at in holders if self.events[at].thread == event.thread] or holders
                event.freed = mine[0]
                holders.remove(mine[0])
            if any(thread.waits == ("lock", event.target) for thread in caused):  # it had queued before the trace began
                holders.append(place)
        elif self._admits(event.target, event.mode):
            holders.append(place)
            self._taken.setdefault(event.target, []).append(place)

    def cut(self, length: int) -> None:
        """Take events away from the end, until there are so many."""
        self._without.clear()
        while len(self.events) > length:
            event = self.events.pop()
            place = len(self.events)
            self._of_cpu[event.cpu].pop()
            self._of_thread[event.thread].pop()
            for places in event.noted:
                places.pop()
            for resource in event.writes if event.writes is not event.own.writes else ():
                raised = self._raised.get(str(resource[1])) if resource[0] == "intr" and len(resource) == 3 else None
                if raised:
                    raised.pop()
            if event.code in ("lock", "try") and self._taken.get(event.target, [-1])[-1:] == [place]:
                self._taken[event.target].pop()
                self._holders[event.target].remove(place)
            elif event.code == "unlock" and event.target in self._holders:
                holders = self._holders[event.target]
                holders[:] = sorted([*(at for at in holders if at != place), *([event.freed] * (event.freed >= 0))])

    # -- races -------------------------------------------------------------------------

    def races(self, event: Event) -> tuple[list[int], list[int]]:
        """Places of the events with which the next event is in a race; and its clock, without itself."""
        events, races = self.events, []
        cpu, own = self._of_cpu[event.cpu], self._of_thread.get(event.thread)
        clock = events[own[-1]].clock.copy() if own else [0] * len(self._cpus)
        for resource in event.needs:
            writers = self._writes.get(resource)
            if writers:
                _join(clock, events[writers[-1]].clock)
        conflicts = self._conflicts(event)
        before = None
        if cpu and (not own or own[-1] != cpu[-1]):  # another context has had the processor
            before = clock.copy()
            _join(clock, events[cpu[-1]].clock)
        simple = event.asks_simple
        for place in conflicts:
            earlier = events[place]
            if simple and earlier.code != AGAIN:
                continue  # a request for a lock can only come behind its release
            if clock[earlier.cpu] < earlier.number:
                if event.code != AGAIN or self._is_news_without(event, earlier):
                    races.append(place)
                _join(clock, earlier.clock)
        if simple:
            taken = self._taken.get(event.target)
            if taken and clock[events[taken[-1]].cpu] < events[taken[-1]].number:
                races.append(taken[-1])
            for place in conflicts:
                _join(clock, events[place].clock)
        if before is not None:
            for place in conflicts:
                if events[place].cpu != event.cpu:  # with the earlier event, those of its processor come later, too
                    _join(before, events[place].clock)
            races += self._overtaken(event, before)
        return races, clock

    def _overtaken(self, event: Event, before: list[int]) -> list[int]:
        """Place of the last event of the processor before which the context could have had it.

        Args:
            before: clock of what the context needs.
        """
        for place in reversed(self._of_cpu[event.cpu]):
            earlier = self.events[place]
            if earlier.thread == event.thread:
                break
            if event.could_precede(earlier):
                return [place] if before[earlier.cpu] < earlier.number else []
        return []

    def rivals(self, event: Event) -> list[Event]:
        """The events of other contexts that conflict with an event which could have come first, as far as its own
        context is concerned.

        Args:
            event: the last one, or one to come.
        """
        conflicts, last = set[int](), len(self.events) - (event.number > 0)
        before = self._needed(event, last)
        for resource in event.reads | event.writes:
            conflicts.update(self._writes.get(resource, ()))
        for resource in event.writes:
            conflicts.update(self._reads.get(resource, ()))
        others = [self.events[place] for place in conflicts if place < last]
        if event.asks_simple:  # it cannot come before the lock is released
            others = [earlier for earlier in others if earlier.code != "unlock"]
        rivals = [earlier for earlier in others if earlier.cpu != event.cpu and before[earlier.cpu] < earlier.number]
        for place in reversed(self._of_cpu[event.cpu]):
            earlier = self.events[place]
            if place < last and before[earlier.cpu] >= earlier.number:
                break
            if place < last and event.could_precede(earlier):
                rivals.append(earlier)
        return rivals

    def _needed(self, event: Event, last: int) -> list[int]:
        """Clock of what an event's context needs for it, of the events before a place."""
        clock = [0] * len(self._cpus)
        wanted = [self._of_thread.get(event.thread, []), *(self._writes.get(resource, []) for resource in event.needs)]
        for places in wanted:
            for place in [place for place in places[-2:] if place < last][-1:]:
                _join(clock, self.events[place].clock)
        return clock

    def _is_news_without(self, event: Event, earlier: Event) -> bool:
        """Would a context try again if this had not happened?"""
        news = (self.events[place] for place in self._news(event.thread))
        return any(other.clock[earlier.cpu] < earlier.number for other in news)

    def _conflicts(self, event: Event) -> list[int]:
        """Places of the last events that conflict with one's operation, the latest first; some twice."""
        places: list[int] = []
        own = event.own
        for resource in own.writes:
            writers, readers = self._writes.get(resource), self._reads.get(resource)
            last = -1
            if writers:
                last = writers[-1]
                places.append(last)
            if readers:
                at = len(readers) - 1
                while at >= 0 and readers[at] >= last:
                    places.append(readers[at])
                    at -= 1
        for resource in own.reads:
            writers = self._writes.get(resource)
            if writers:
                places.append(writers[-1])
        if event.writes is not own.writes:  # interrupts raised, in their order
            for resource in event.writes:
                writers = self._writes.get(resource) if resource[0] == "intr" else None
                if writers:
                    places.append(writers[-1])
        places.sort()
        places.reverse()
        return places

    def names(self) -> frozenset[tuple[str, int, int, tuple[tuple[str, int], ...]]]:
        """What tells this class of executions from all others: of each event its label, the how manieth of its context
        it is, and how many events of each processor happened before it."""
        cpus = sorted(self._cpus.items())
        return frozenset(
            (thread, nth, event.label[1], tuple((cpu, event.clock[at]) for cpu, at in cpus if event.clock[at]))
            for thread, places in self._of_thread.items()
            for nth, event in enumerate(self.events[place] for place in places)
        )

    def without(self, place: int) -> list[Event]:
        """The events behind an event that did not happen after it."""
        known = self._without.get(place)
        if known is None:
            event = self.events[place]
            known = [later for later in self.events[place + 1 :] if later.clock[event.cpu] < event.number]
            self._without[place] = known
        return known


def _note(event: Event, place: int, users: dict[Resource, list[int]], resource: Resource) -> None:
    """The event is the last that uses the resource."""
    places = users.get(resource)
    if places is None:
        places = users[resource] = []
    places.append(place)
    event.noted.append(places)


def _is_left(thread: Thread) -> bool:
    """Would the context do something next?"""
    pending = bool(thread.processor.pending.get(thread.name)) and thread.processor.takes(thread) == "intr"
    return pending or (thread.ready and thread.state != FINISHED)


def _order(thread: Thread) -> int:
    return thread.order


def _tries_again(thread: Thread) -> bool:
    """Has the context given way (Port.spin)?"""
    return thread.asks is None and thread.waits is None and not thread.parked and thread.processor.takes(thread) is None


def _join(clock: list[int], other: list[int]) -> None:
    for at, count in enumerate(other):
        clock[at] = max(clock[at], count)
