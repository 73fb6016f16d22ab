"""Every class of executions that a few preemptions, or a few delays, lead to: bound 0 first, then 1, 2 ...

Depth-first through all schedules within the bound, except those that show nothing new. A place is left if the search
has been at one of the same class before, with the same context running, and no less left of the bound. The same events
can follow (the happens-before cache of CHESS, Musuvathi and Qadeer, PLDI 2007).

So each class within the bound is seen, some more than once: `redundant` counts the executions that have shown nothing
new. A bound does not limit choices of data. What costs how much, a subclass says (preemptions.py, delays.py).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

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
        instead: labels of the contexts that could continue instead of the current one, with their costs.
        current: the event before which the current context is preempted; None: it is not.
    """

    __slots__ = ("asleep", "current", "instead", "left", "number", "spent")

    def __init__(self, spent: int, number: int, asleep: dict[str, Event]):
        self.left: list[tuple[Label, int]] = []
        self.instead: list[tuple[Label, int]] = []
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
        bound: of this execution. Invariant: at most `most`.
        limited: something was left out for the bound; otherwise the search is over with it.
        classes: numbers of those seen to their ends, within all bounds.
        places: before each event of the trace that was chosen, and where the execution is now. Invariant: none has
            spent more than the bound, and none less than the place before it.
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

    def _ended(self) -> None:
        """An execution has come to its end."""

    def _is_contested(self, event: Event) -> bool:
        """Is a context to be preempted before this event of its own?"""
        return False

    def _backtrack(self) -> bool:
        events, places = self.trace.events, self.places
        if not self.given_up:
            self._ended()
            number = self._place().number
            self.redundant += number in self.classes
            self.classes.add(number)
        del places[len(events) - self.given :]
        while places:
            place, event = places[-1], events[-1]
            place.left.pop()
            if place.instead and self._is_contested(event):
                if place.spent < self.bound:
                    place.left, place.current = place.instead, event
                else:
                    self.limited = True
            place.instead = []
            self.trace.cut(len(events) - 1)
            if place.left:
                return True
            places.pop()
        if self.bound == self.most or not self.limited:
            return False
        self.bound += 1
        self._anew()
        return True
