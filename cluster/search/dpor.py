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

from cluster.search.systematic import Stepwise, named
from cluster.search.trace import NO_CHOICE, Event, Label
from nodes.cpu import Thread


class Branch:
    """A node of a wakeup tree: an event to perform, and what to perform behind it.

    Attributes:
        ahead: the event as it was performed, if somebody has explored the branch ahead of the search (share.py).
    """

    __slots__ = ("ahead", "event", "rest")

    def __init__(self, event: Event):
        self.event = event
        self.rest: list[Branch] = []
        self.ahead: Event | None = None

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
        inherited: how many sleep since an earlier place; these come first.
    """

    __slots__ = ("asleep", "inherited", "tree")

    def __init__(self, asleep: dict[Label, Event], tree: list[Branch]):
        self.asleep, self.tree = asleep, tree
        self.inherited = len(asleep)

    def after(self, event: Event) -> Place:
        """The place behind an event, which is that of the first branch."""
        asleep = {label: other for label, other in self.asleep.items() if not other.depends(event)}
        return Place(asleep, self.tree[0].rest)

    def own(self) -> list[Event]:
        """The events that were explored here."""
        return list(self.asleep.values())[self.inherited :]

    def add(self, events: list[Event]) -> None:
        """Events were explored here."""
        for event in events:
            self.asleep[event.label] = event

    def explore(self, events: list[Event]) -> None:
        """Explore what begins with these events, unless that has been done, or the tree has it."""
        if not self.covers(events):
            self.insert(events)

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
        where = self.missing(events)
        if where is not None:
            into, left = where
            for event in _choice_first(left):
                into.append(Branch(event))
                into = into[-1].rest

    def missing(self, events: list[Event]) -> tuple[list[Branch], list[Event]] | None:
        """What the tree lacks of what begins with these events, and where; None: it has it."""
        branches = self.tree[1:]
        into = self.tree
        while events:
            for branch in branches:
                rest = branch.take_from(events)
                if rest is not None:
                    if not branch.rest:
                        return None
                    events, branches, into = rest, branch.rest, branch.rest
                    break
            else:
                return into, events
        return None


def _choice_first(events: list[Event]) -> list[Event]:
    """The same, but a choice before which its context does nothing is the first: no other can go before it there."""
    threads = set()
    for at, event in enumerate(events):
        if event.label[1] != NO_CHOICE and event.thread not in threads:
            return [event, *events[:at], *events[at + 1 :]]
        threads.add(event.thread)
    return events


class Optimal(Stepwise):
    """Optimal DPOR; the search ends when every class has been seen.

    Attributes:
        redundant: given up, since all that was left had been explored. Invariant: 0, if no event is vague.
        places: before each event of the trace that was chosen, and where the execution is now. Invariant: the first
            branch of an event's place is that event.
        base: how many of them are not to be left for another branch.
    """

    base: int = 0

    def grown(self) -> None:
        super().grown()
        self.places = [Place({}, [])]

    def _next(self, candidates: Sequence[Thread], current: Thread | None) -> Thread | None:
        place = self._place()
        if place.tree:
            return named(candidates, place.tree[0].event.thread)
        if not place.asleep:
            return self._prefer(candidates, current)
        awake = [thread for thread in candidates if (thread.name, NO_CHOICE) not in place.asleep]
        return self._prefer(awake, current if current in awake else None) if awake else None

    def _value(self, thread: Thread, n: int) -> int:
        place = self._place()
        if place.tree:
            return place.tree[0].event.label[1]
        return self._prefer_of([value for value in range(n) if (thread.name, value) not in place.asleep])

    def _prefer(self, awake: Sequence[Thread], current: Thread | None) -> Thread:
        """Of contexts that may all continue, as far as the class is concerned."""
        return self._in_turn(awake, current)

    def _prefer_of(self, values: Sequence[int]) -> int:
        return values[0]

    def _began(self, event: Event) -> None:
        tree = self.places[-1].tree
        if not tree:
            tree.append(Branch(event))

    def _performed(self, event: Event) -> None:
        self.places[-1].tree[0].event = event

    def _place(self) -> Place:
        """Where the execution is now."""
        events = self.trace.events
        if len(self.places) == len(events) - self.given:
            self.places.append(self.places[-1].after(events[-1]))
        return self.places[-1]

    # -- between executions --------------------------------------------------------------------

    def expected(self) -> float:
        """About how many executions there will have been when none is left.

        At each place, the branches that are known are taken for trees of the same size: so much is behind the search
        (Knuth, 1975, samples a tree so). A branch that races further down will add is not known yet.
        """
        share, behind = 1.0, 0.0
        for place in self.places:
            done = len(place.own())
            branches = max(1, done + len(place.tree))
            behind += share * done / branches
            share /= branches
        return self.executions / max(behind, share)

    def _learn(self) -> None:
        """Find what the races of the execution lead to."""
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
        if at >= self.given:
            self.places[at - self.given].explore(events)

    def _backtrack(self) -> bool:
        self._learn()
        places, events = self.places, self.trace.events
        del places[len(events) - self.given :]
        while len(places) > self.base:
            place = places[-1]
            done = place.tree.pop(0)
            place.asleep[done.event.label] = events[-1]
            self.trace.cut(len(events) - 1)
            if place.tree:
                return True
            places.pop()
        return False


class Subtree(Optimal):
    """The executions that begin as a path says: a part of the tree that somebody else owns.

    Args:
        path: what to do first.
        explored: place on the path, or its end -> what was explored there before.
        others: place on the path -> branches that will be explored there later.

    Attributes:
        beyond: what races lead to at places on the path, and neither `explored` nor `others` have: place, beginning.
    """

    def __init__(self, path: Sequence[Label], explored: dict[int, list[Event]], others: dict[int, list[Branch]]):
        super().__init__()
        self.base = len(path)
        self.explored = explored
        self.beyond: list[tuple[int, list[Event]]] = []
        self._sent: set[tuple[int, tuple[Label, ...]]] = set()
        tree = self.places[0].tree
        for at, label in enumerate(path):
            branch = Branch(Event(label[0], 0, label[1]))
            tree.append(branch)
            tree.extend(others.get(at, ()))
            tree = branch.rest
        self.places[0].add(explored.get(0, []))

    def _place(self) -> Place:
        known = len(self.places)
        place = super()._place()
        if known <= self.base and len(self.places) > known:
            place.add(self.explored.get(known, []))
        return place

    def _explore(self, at: int, events: list[Event]) -> None:
        at -= self.given
        if at >= self.base or at < 0:
            super()._explore(at + self.given, events)
            return
        place = self.places[at]
        race = at, tuple(event.label for event in events)
        if race not in self._sent and not place.covers(events) and place.missing(events) is not None:
            self._sent.add(race)
            self.beyond.append((at, events))

    def chosen(self) -> list[Event]:
        """The events of the execution that has just ended, behind what was given."""
        return self.whole().events[self.given :]

    def leave(self) -> bool:
        """Learn from the last execution. Is there another execution?"""
        self._close()
        return self._backtrack()
