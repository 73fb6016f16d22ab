"""Every reads-from class of executions: orders of stores that no event observes are not told apart.

Of the Mazurkiewicz classes that dpor.py performs one by one, many are the same to each event: five threads that store
two fields, and a sixth that loads both, have 518,400 of these, and 36 reads-from classes (rfgraph.py).

Each execution is performed for a *part*, a cut that it begins with. Another execution with that part has, in its own
order, a first event that this one does not have. The store that this event observes is in this execution, so an event
of this execution could observe the store instead. Each of these events, with the part and with what it observes, is a
further part, and is explored in turn. So every class is seen.

An execution may have several of these parts. It comes with the first of them, which *sleeps* afterwards: a part that
has a sleeping part is not explored. If an execution comes to a class that was seen before, because it happens upon a
sleeping part on its way, it is counted as redundant, and so is one in which the event of its part cannot be performed.

All but loads and stores of fields is ordered as in dpor.py: locks, sleeps and wakeups, messages, interrupts, the MMU,
users' words. So is a field at which a context looks before it gives way (Port.spin), to try again when the field
changes.

The judges of an execution that has ended (a program's `check`, the kernel's invariants) look at fields without being
events. Therefore classes are told apart also by the last store of each field, unless `final` is False. A detector
judges each class by one order of its stores.
"""

from __future__ import annotations

from collections.abc import Sequence

from cluster.search.dependency import Resource
from cluster.search.rfgraph import Cut, Front, Graph, Other
from cluster.search.systematic import Stepwise
from cluster.search.trace import AGAIN, NO_CHOICE, Label
from nodes.cpu import Thread


class Part:
    """A part that is being explored.

    Attributes:
        graph: of the execution that was performed for it.
        others: events of the parts that are still to be explored, the next one last.
        asleep: parts that were.
    """

    __slots__ = ("asleep", "graph", "others")

    def __init__(self, graph: Graph, others: list[Other], asleep: list[Front]):
        self.graph, self.others, self.asleep = graph, others, asleep


class ReadsFrom(Stepwise):
    """Explores parts, depth first; the search ends when every reads-from class has been seen.

    Args:
        final: tell classes apart also by the last store of each field. False: no check looks at fields at the end.

    Attributes:
        ordered: fields that are ordered. Invariant: never shrinks, until there are more points.
        classes: fronts of those that were seen.
        parts: those on the way to the part of this execution; each is in the next one.
        kept, asleep: of the part of this execution: its event; parts that sleep. None: it is the first execution.
        way: what the execution begins with.
    """

    def __init__(self, final: bool = True):
        self.final = final
        super().__init__()

    def grown(self) -> None:
        super().grown()
        self.ordered: set[Resource] = set()
        self.width = 0
        self._anew()

    def _anew(self) -> None:
        self.trace.cut(0)
        self.executions = self.redundant = 0
        self.classes: set[Front] = set()
        self.parts: list[Part] = []
        self.kept: Other | None = None
        self.asleep: list[Front] = []
        self.way: list[Label] = []
        self._step = 0

    def plain(self, resource: Resource) -> bool:
        """Is this a field of which loads observe only the store that they read from?"""
        return resource[0] == "field" and resource not in self.ordered

    # -- an execution ------------------------------------------------------------------------------

    def _next(self, able: Sequence[Thread], current: Thread | None) -> Thread | None:
        if self._step == len(self.way):
            return self._in_turn(able, current)
        name = self.way[self._step][0]
        self._step += 1
        return next((thread for thread in able if thread.name == name), None)

    def _value(self, thread: Thread, n: int) -> int:
        if self._step < len(self.way):
            name, value = self.way[self._step]
            if name == thread.name and value != NO_CHOICE:
                self._step += 1
                return value
        return 0

    # -- between executions --------------------------------------------------------------------------

    def _backtrack(self) -> bool:
        if not self.given_up and not self._learn():
            self._anew()
            return True
        while self.parts:
            part = self.parts[-1]
            if not part.others:
                self.parts.pop()
                continue
            graph, other = part.graph, part.others.pop()
            if any(graph.within(front, other) for front in part.asleep):
                continue
            way = graph.order(other, self.given)
            if way is not None:
                self.kept, self.asleep = other, part.asleep.copy()
                part.asleep.append(graph.front_of(other))
                self._go(way)
                return True
        return False

    def _go(self, way: list[Label]) -> None:
        """The next execution begins so."""
        events, same = self.trace.events, self.given
        while same < len(events) and same - self.given < len(way) and events[same].label == way[same - self.given]:
            same += 1
        self.trace.cut(same)
        self.way, self._step = way, same - self.given

    def _learn(self) -> bool:
        """Find the parts that the execution leads to. Returns: False: the search must begin anew."""
        trace = self.trace
        looked = {resource for event in trace.events if event.code == AGAIN for resource in event.own.reads}
        fields = set(filter(self.plain, looked))
        if fields or 0 < self.width < trace.width():
            self.ordered |= fields
            self.width = trace.width()
            return False
        self.width = trace.width()
        graph = Graph(trace.events, self.width, self.plain, self.final)
        front = graph.front(graph.whole())
        self.redundant += front in self.classes
        self.classes.add(front)
        kept = graph.start(self.given)
        if self.kept is not None:
            kept = self._behind(self.kept)
            self.parts[-1].asleep[-1] = graph.front(kept)  # now that its event is known, which may have been vague
        left = trace.left() if self.left is None else self.left
        self.parts.append(Part(graph, list(graph.others(kept, left)), self.asleep))
        return True

    def _behind(self, other: Other) -> Cut:
        """The cut with the event behind it."""
        return tuple(count + (cpu == other.event.cpu) for cpu, count in enumerate(other.cut))
