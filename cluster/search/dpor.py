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
from cluster.search.trace import NO_CHOICE, Event
from cluster.search.wakeup import Branch, Place
from nodes.cpu import Thread


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
        self.places = [Place([], [])]

    def _next(self, candidates: Sequence[Thread], current: Thread | None) -> Thread | None:
        place = self._place()
        if place.tree:
            return named(candidates, place.tree[0].event.thread)
        if not place.asleep:
            return self._prefer(candidates, current)
        asleep = {event.label for event in place.asleep}
        awake = [thread for thread in candidates if (thread.name, NO_CHOICE) not in asleep]
        return self._prefer(awake, current if current in awake else None) if awake else None

    def _value(self, thread: Thread, n: int) -> int:
        place = self._place()
        if place.tree:
            return place.tree[0].event.label[1]
        return self._prefer_of(range(n))  # no value sleeps: the event before is one of its processor

    def _prefer(self, awake: Sequence[Thread], current: Thread | None) -> Thread:
        """Of contexts that may all continue, as far as the class is concerned."""
        return self._in_turn(awake, current)

    def _prefer_of(self, values: Sequence[int]) -> int:
        return values[0]

    def _performed(self, event: Event) -> None:
        tree = self.places[-1].tree
        if tree:
            tree[0].event = event
        else:
            tree.append(Branch(event))

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
        """Find what the races of the execution lead to, and the choices that it could have made.

        Those of events that it has in common with the last execution are known.
        """
        trace = self.trace
        for at in range(self._known, len(trace.events)):
            for earlier in trace.events[at].races:
                self._reverse(earlier, trace.events[at])
        for event in trace.left() if self.left is None else self.left:
            for earlier in trace.races(event)[0]:
                self._reverse(earlier, event)
        for at in range(self._known, len(trace.events)):
            event = trace.events[at]
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
            place.tree.pop(0)
            place.asleep.append(events[-1])
            self.trace.cut(len(events) - 1)
            if place.tree:
                return True
            places.pop()
        return False
