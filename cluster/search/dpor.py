"""Optimal dynamic partial-order reduction: every class of executions once, and nothing twice.

Abdulla, Aronis, Jonsson, Sagonas: Optimal Dynamic Partial Order Reduction, POPL 2014; Source Sets, J.ACM 2017.

An execution is performed to its end. Each of its races (trace.py) can be reversed: what did not happen after the
earlier event, and then the later one, is the beginning of another execution. It is added to the *wakeup tree* of the
place before the earlier event, unless an execution in the tree, or one of the past, has it already. What was explored
at a place *sleeps* there, and behind it, until something that depends on it has happened. With whole beginnings in the
tree no execution runs into a place where all that is left sleeps: there would be nothing new behind that.

Departures from the paper:

- What cannot be performed is an event as well. A request for a lock that is held, and whatever else is left when an
  execution ends, is in a race with what is in its way; so deadlocks are found like anything else.
- The values of a choice of data are events that exclude each other: one is performed, the others are reversed.
- An operation whose footprint shows only when it is performed (a user's access, which may walk the page table) counts
  in the tree as dependent on every other such operation: an execution may come twice, none is missed.

When more fields become racy, there are more points, and everything begins anew.
"""

from __future__ import annotations

from collections.abc import Sequence

from cluster.search.strategy import Systematic, default
from cluster.search.trace import NO_CHOICE, Event, Label, Trace
from nodes.cpu import Thread
from shared.errors import ProjectBug


class Branch:
    """A node of a wakeup tree: an event to perform, and what to perform behind it."""

    __slots__ = ("event", "rest")

    def __init__(self, event: Event):
        self.event = event
        self.rest: list[Branch] = []

    def take_from(self, events: list[Event]) -> list[Event] | None:
        """What is left of a beginning if this event comes first; None: it cannot."""
        mine = self.event
        for at, event in enumerate(events):
            if event.label == mine.label:
                return events[:at] + events[at + 1 :]
            if mine.depends(event):
                return None
        return events


class Place:
    """A place in the execution: before an event.

    Attributes:
        asleep: what was explored there, or sleeps since an earlier place, as it was performed.
        tree: what is to be explored; the first is being explored.
    """

    __slots__ = ("asleep", "tree")

    def __init__(self, asleep: dict[Label, Event], tree: list[Branch]):
        self.asleep, self.tree = asleep, tree

    def covers(self, events: list[Event]) -> bool:
        """Has what begins with these events been explored?"""
        for label, asleep in self.asleep.items():
            for event in events:
                if event.label == label:
                    return True
                if asleep.depends(event):
                    break
            else:
                return True
        return False

    def insert(self, events: list[Event]) -> None:
        """Explore what begins with these events, unless the tree has it."""
        branches = self.tree[1:]
        into = self.tree
        while events:
            for branch in branches:
                rest = branch.take_from(events)
                if rest is not None:
                    if not branch.rest:
                        return
                    events, branches, into = rest, branch.rest, branch.rest
                    break
            else:
                for event in events:
                    into.append(Branch(event))
                    into = into[-1].rest
                return


class Optimal(Systematic):
    """Optimal DPOR; the search ends when every class has been seen.

    Attributes:
        redundant: given up, since all that was left had been explored. Invariant: 0, if no event is vague.
        trace: of this execution. Invariant: each of its events has a place, and its place's first branch is it.
    """

    def __init__(self) -> None:
        self.grown()

    def grown(self) -> None:
        self.executions = self.redundant = 0
        self.trace = Trace()
        self.places = [Place({}, [])]

    # -- an execution -----------------------------------------------------------------------

    def new_execution(self) -> bool:
        if self.executions:
            self._finish()
            if not self._backtrack():
                return False
        self.executions += 1
        self.at, self.known = 0, len(self.trace.events)
        self.open: Event | None = None
        self.thread: Thread | None = None
        self.caused_by: list[Thread] = []
        self.left: list[Event] | None = None
        return True

    def pick(self, enabled: Sequence[Thread], current: Thread | None) -> Thread | None:
        if self.at < self.known:
            self.thread = _named(enabled, self.trace.events[self.at].thread)
            self.at += 1
            self.caused_by.clear()
            return self.thread
        if self.left is not None:
            return self._let(enabled)
        self._close()
        place = self._place()
        if place.tree:
            thread = _named(enabled, place.tree[0].event.thread)
        else:
            able = [thread for thread in enabled if not self.trace.blocked(thread)]
            awake = [thread for thread in able if (thread.name, NO_CHOICE) not in place.asleep]
            if not awake:
                self.left = list(self.trace.left())
                if able:
                    self.redundant += 1
                    return None
                return self._let(enabled)
            thread = self._prefer(awake, current if current in awake else None)
        self._begin(place, thread, self.trace.event(thread))
        return thread

    def choose(self, n: int) -> int:
        assert self.thread is not None, "a context has been picked"
        if self.at < self.known:
            value = self.trace.events[self.at].label[1]
            self.at += 1
            self.caused_by.clear()
            return value
        if self.left is not None:
            return 0
        self._close()
        place = self._place()
        name = self.thread.name
        if place.tree:
            value = place.tree[0].event.label[1]
        else:
            value = self._prefer_of([value for value in range(n) if (name, value) not in place.asleep])
        self._begin(place, self.thread, self.trace.choice(self.thread, value, n))
        return value

    def performed(self, code: str, target: int, args: tuple[object, ...]) -> None:
        if self.open is not None and self.open.code == "access":
            self.open.performs(code, target, args)

    def caused(self, thread: Thread) -> None:
        self.caused_by.append(thread)

    def _let(self, enabled: Sequence[Thread]) -> Thread:
        """Nobody can do anything new: who waits for a lock shall do so, and who tries again fails again, in turn."""
        asking = [thread for thread in enabled if thread.asks is not None]
        last = -1 if self.thread is None else self.thread.order
        self.thread = asking[0] if asking else default(enabled, None, last)
        return self.thread

    def _prefer(self, awake: Sequence[Thread], current: Thread | None) -> Thread:
        """Of contexts that may all go on, so far as the class is concerned."""
        return default(awake, current, -1 if self.thread is None else self.thread.order)

    def _prefer_of(self, values: Sequence[int]) -> int:
        return values[0]

    def _begin(self, place: Place, thread: Thread, event: Event) -> None:
        if not place.tree:
            place.tree.append(Branch(event))
        self.open, self.thread = event, thread
        self.caused_by.clear()

    def _close(self) -> None:
        """The event that was begun has been performed."""
        if self.open is not None:
            self.trace.add(self.open, self.caused_by)
            self.places[-1].tree[0].event = self.open
            self.open = None

    def _place(self) -> Place:
        """Where the execution is now."""
        events = self.trace.events
        if len(self.places) == len(events):
            before, event = self.places[-1], events[-1]
            asleep = {label: other for label, other in before.asleep.items() if not other.depends(event)}
            self.places.append(Place(asleep, before.tree[0].rest))
        return self.places[-1]

    # -- between executions --------------------------------------------------------------------

    def _finish(self) -> None:
        """Find what the races of the execution lead to."""
        self._close()
        trace = self.trace
        for event in trace.events:
            for earlier in event.races:
                self._reverse(earlier, event)
        for event in trace.left() if self.left is None else self.left:
            for earlier in trace.races(event)[0]:
                self._reverse(earlier, event)
        for at, event in enumerate(trace.events):
            for value in range(event.of):
                if value != event.label[1]:
                    other = Event(event.thread, event.cpu, value)
                    self._explore(at, [other, *trace.without(at)])

    def _reverse(self, earlier: int, event: Event) -> None:
        """Explore what begins with the later event of a race instead of the earlier one."""
        self._explore(earlier, [*self.trace.without(earlier), event.pending()])

    def _explore(self, at: int, events: list[Event]) -> None:
        place = self.places[at]
        if not place.covers(events):
            place.insert(events)

    def _backtrack(self) -> bool:
        """Back to the last place where something is left to explore; False: there is none."""
        places, events = self.places, self.trace.events
        del places[len(events) :]
        while places:
            place = places[-1]
            done = place.tree.pop(0)
            place.asleep[done.event.label] = events[-1]
            self.trace.cut(len(events) - 1)
            if place.tree:
                return True
            places.pop()
        return False


def _named(enabled: Sequence[Thread], name: str) -> Thread:
    """Raises: ProjectBug - it cannot go on, though it should be able to."""
    for thread in enabled:
        if thread.name == name:
            return thread
    raise ProjectBug(f"{name} cannot go on, as it could in another order of independent operations")
