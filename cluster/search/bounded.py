"""Every class of executions that a few preemptions, or a few delays, lead to: bound 0 first, then 1, 2 ...

A *preemption* is a switch away from a context that could continue (Musuvathi and Qadeer, PLDI 2007); a *delay* passes
over the context whose turn it is by default (Emmi, Qadeer, Rakamaric, POPL 2011). Most defects need one or two.
Depth-first through all schedules within the bound, except those that show nothing new:

- A place is left if the search has been at one of the same class before, with the same context running, and no less
  left of the bound. What can follow is the same (the happens-before cache of CHESS).
- Who has been preempted continues only when something that depends on its next event has happened. Otherwise the
  preemption could have come behind that event: the same class, and no preemption more.
- No context is preempted before an event that nothing of another processor has conflicted with in any execution so far,
  for the same reason; when something does, the search begins anew with what it has learned. Such preemptions are what
  bounded partial-order reduction (Coons, Musuvathi, McKinley, OOPSLA 2013) does without, too; its conservative places
  to go back to are here all others.

The two last are for preemptions only: a delay moved elsewhere is another schedule.

So each class within the bound is seen, some more than once: `redundant` counts what has shown nothing new. A bound does
not limit choices of data.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

from cluster.search.dependency import Resource
from cluster.search.strategy import ALWAYS
from cluster.search.systematic import Stepwise, named
from cluster.search.trace import NO_CHOICE, Event, Label
from nodes.cpu import Thread

#: numbers of classes are taken modulo this
WORD = (1 << 61) - 1


class Place:
    """A place in the execution: before an event.

    Attributes:
        left: labels still to be tried there, with their costs, the next one last.
        spent: of the bound, by the events before.
        number: of the class so far.
        asleep: contexts that were preempted, each with its next event, which nothing has depended on since.
        current: the next event of the context that could continue, and is preempted if another does.
    """

    __slots__ = ("asleep", "current", "left", "number", "spent")

    def __init__(self, spent: int, number: int, asleep: dict[str, Event]):
        self.left: list[tuple[Label, int]] = []
        self.spent, self.number, self.asleep = spent, number, asleep
        self.current: Event | None = None


def number_of(event: Event) -> int:
    """A hash of an event and its past, for the sum over the events of a class.

    It is of a text: Python's hash of a tuple is nearly linear in its last element, so if two events exchanged their
    clocks, the sum of their hashes was the same in three of ten cases.
    """
    clock = sum(count << 16 * cpu for cpu, count in enumerate(event.clock))
    return hash(f"{event.thread} {event.label[1]} {event.number} {clock}")


class Bounded(Stepwise):
    """Depth-first within a bound, and then within the next.

    Args:
        most: the last bound; default: as far as there is anything that a bound leaves out.

    Attributes:
        bound: of this execution. limited: something was left out for it; otherwise the search is over with this bound.
        classes: numbers of those seen to their ends, within all bounds.
        places: before each event of the trace that was chosen, and where the execution is now.
        seen: number of a class so far, and who continues by default -> what was spent, and who slept.
    """

    def __init__(self, most: int = ALWAYS):
        self.most = most
        super().__init__()

    def grown(self) -> None:
        super().grown()
        self.bound = 0
        self.classes: set[int] = set()
        self._anew()

    def _anew(self) -> None:
        """Begin with this bound."""
        self.limited = False
        self.trace.cut(0)
        self.places: list[Place] = []
        self.seen: dict[tuple[int, str], list[tuple[int, frozenset[str]]]] = {}

    @abstractmethod
    def _options(self, place: Place, candidates: Sequence[Thread], current: Thread | None) -> list[tuple[Thread, int]]:
        """Who may continue there, with what that costs; who is preferred comes first."""

    def _favourite(self, current: Thread | None) -> str:
        """What the costs depend on."""
        return "" if current is None else current.name

    def _is_enough(self) -> bool:
        """Has this execution shown nothing because of which the search must begin anew?"""
        return True

    # -- an execution ------------------------------------------------------------------------------

    def _next(self, candidates: Sequence[Thread], current: Thread | None) -> Thread | None:
        place = self._place()
        if not place.left:
            if self._covered(place, self._favourite(current)):
                return None
            options = self._options(place, candidates, current)
            if not options:
                return None
            place.left = [((thread.name, NO_CHOICE), cost) for thread, cost in reversed(options)]
        return named(candidates, place.left[-1][0][0])

    def _value(self, thread: Thread, n: int) -> int:
        place = self._place()
        if not place.left:
            place.left = [((thread.name, value), 0) for value in reversed(range(n))]
        return place.left[-1][0][1]

    def _place(self) -> Place:
        """Where the execution is now."""
        events, places = self.trace.events, self.places
        if not places:
            places.append(Place(0, 0, {}))
        elif len(places) == len(events) - self.given:
            before, event = places[-1], events[-1]
            asleep, current = before.asleep, before.current
            if current is not None and current.thread != event.thread:
                asleep = {**asleep, current.thread: current}
            asleep = {name: other for name, other in asleep.items() if not other.depends(event)}
            number = (before.number + number_of(event)) % WORD
            places.append(Place(before.spent + before.left[-1][1], number, asleep))
        return places[-1]

    def _covered(self, place: Place, favourite: str) -> bool:
        """Has the search been at such a place before?"""
        asleep = frozenset(place.asleep)
        seen = self.seen.setdefault((place.number, favourite), [])
        if any(spent <= place.spent and slept <= asleep for spent, slept in seen):
            return True
        seen.append((place.spent, asleep))
        return False

    # -- between executions ----------------------------------------------------------------------------

    def _backtrack(self) -> bool:
        if not self.given_up:
            number = self._place().number
            self.redundant += number in self.classes
            self.classes.add(number)
        if not self._is_enough():
            self._anew()
            return True
        places = self.places
        del places[len(self.trace.events) - self.given :]
        while places:
            self.trace.cut(self.given + len(places) - 1)
            places[-1].left.pop()
            if places[-1].left:
                return True
            places.pop()
        if self.bound == self.most or not self.limited:
            return False
        self.bound += 1
        self._anew()
        return True


class Preemptions(Bounded):
    """At most so many preemptions.

    Attributes:
        users: of each resource, and each processor, who uses it: processors, and contexts.
        written: resources that somebody writes.
        contested: what several use, and somebody writes. Invariant: never shrinks, until there are more points.
        learned: it has grown in this execution.
    """

    def grown(self) -> None:
        super().grown()
        self.users: dict[Resource, int | str] = {}
        self.written: set[Resource] = set()
        self.contested: set[Resource] = set()
        self.learned = False

    def _options(self, place: Place, candidates: Sequence[Thread], current: Thread | None) -> list[tuple[Thread, int]]:
        awake = [thread for thread in candidates if thread.name not in place.asleep]
        if current is None:
            return [(thread, 0) for thread in self._from(awake, None)]
        event, others = self.trace.event(current).pending(), [thread for thread in awake if thread is not current]
        if not others or not (event.vague or self._is_contested(event)):
            return [(current, 0)]
        if place.spent == self.bound:
            self.limited = True
            return [(current, 0)]
        place.current = event
        return [(current, 0), *((thread, 1) for thread in others)]

    def _is_contested(self, event: Event) -> bool:
        contested = self.contested
        return ("processor", event.cpu) in contested or not contested.isdisjoint(event.own.reads | event.own.writes)

    def _performed(self, event: Event) -> None:
        self._uses(("processor", event.cpu), event.thread, True)
        for resource in event.own.reads:
            self._uses(resource, event.cpu, False)
        for resource in event.own.writes:
            self._uses(resource, event.cpu, True)

    def _uses(self, resource: Resource, user: int | str, writes: bool) -> None:
        if resource in self.contested:
            return
        if writes:
            self.written.add(resource)
        if self.users.setdefault(resource, user) != user:
            self.users[resource] = -1
        if self.users[resource] == -1 and resource in self.written:
            self.contested.add(resource)
            self.learned = True

    def _is_enough(self) -> bool:
        for event in self.left or ():
            self._performed(event)
        learned, self.learned = self.learned, False
        return not learned


class Delays(Bounded):
    """At most so many delays of the default schedule, in which contexts continue in turn."""

    def _options(self, place: Place, candidates: Sequence[Thread], current: Thread | None) -> list[tuple[Thread, int]]:
        left = self.bound - place.spent + 1
        self.limited |= left < len(candidates)
        return [(thread, cost) for cost, thread in enumerate(self._from(candidates, current)[:left])]

    def _favourite(self, current: Thread | None) -> str:
        return f"{'' if self.thread is None else self.thread.name}{' ' if current is None else ''}"
