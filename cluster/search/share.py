"""A systematic search by several workers: optimal DPOR, whose tree has one owner.

The owner walks through the tree as one process would, depth first, and never performs an execution. The result of an
execution is decided by the way to it alone: by the events at its beginning, and by the branches that were explored
beside this way before. Both are known as soon as a branch is in the tree and those before it have been performed once.
So workers explore branches ahead of the owner, and when it comes to a branch, it takes over its result: the executions,
what their races lead to at places on the way, and the part of the tree that is left, whose branches are explored in
turn.

So the search equals that of `explore()`, execution for execution, for any number of workers. No class is counted
twice, and the executions that show nothing new are the same.

When more fields become racy, there are more points, and everything begins anew; what is still explored of the old tree
comes to nothing.
"""

from __future__ import annotations

from collections.abc import Iterator

from cluster.search.batch import Ran
from cluster.search.branch import BRANCH, EXPLORED, Branch, Explored, Stop
from cluster.search.dpor import Branch as Node
from cluster.search.dpor import Place
from cluster.search.explore import LOOK_S, Coverage, collect
from cluster.search.owner import Owner
from cluster.search.trace import Event
from shared.wire.codec import decode, encode

#: executions of a branch, until the owner divides what is left of it
BUDGET = 32
#: branches for each worker that are explored, or have been, and that the owner has not come to
AHEAD = 8


class Way:
    """A way from a place to a branch.

    Attributes:
        before: the way to the branch before; None: the place is where the owner is, or has been on its way.
        node: the branch; None: that of the first execution.
        explored: beside it, before. others: beside it, later.
    """

    __slots__ = ("before", "explored", "node", "others")

    def __init__(self, before: Way | None, node: Node | None, explored: list[Event], others: list[Node]):
        self.before, self.node, self.explored, self.others = before, node, explored, others

    def steps(self) -> list[Way]:
        """From the first on."""
        steps = [self]
        while steps[-1].before is not None:
            steps.append(steps[-1].before)
        return steps[::-1]


class Tree:
    """The owner's: where it is, and what is to be explored.

    Attributes:
        events: of the way on which it is; places: before each of them, and where it is. Invariant: the first branch of
            an event's place is that event; the first one of the last place is to be explored next.
    """

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.places = [Place({}, [])]
        self.begun = False

    def ways(self) -> Iterator[tuple[int, Way]]:
        """The ways to branches that are to be explored, in their order, each with the number of the place where it
        begins; as far as all is known that is beside them."""
        if not self.begun:
            yield 0, Way(None, None, [], [])
            return
        for at in reversed(range(len(self.places))):
            place = self.places[at]
            explored, branches = place.own(), place.tree
            if at < len(self.events):
                explored, branches = [*explored, self.events[at]], branches[1:]
            for way in self._beside(None, branches, explored):
                yield at, way

    def _beside(self, before: Way | None, branches: list[Node], explored: list[Event]) -> Iterator[Way]:
        """The ways by one of these branches."""
        left = [(before, branches, explored)]
        while left:
            before, branches, explored = left.pop()
            if not branches:
                continue
            node = branches[0]
            way = Way(before, node, explored, branches[1:])
            if not node.rest:
                yield way
            if node.ahead is not None:
                left.append((before, branches[1:], [*explored, node.ahead]))
            if node.rest:
                left.append((way, node.rest, []))

    def branch(self, at: int, way: Way, racy: list[str]) -> Branch:
        """A way as its worker is told."""
        path = [event.label for event in self.events[:at]]
        explored = {number: place.own() for number, place in enumerate(self.places[:at])}
        others = {number: place.tree[1:] for number, place in enumerate(self.places[:at])}
        for step in way.steps():
            if step.node is not None:
                explored[len(path)], others[len(path)] = step.explored, step.others
                path.append(step.node.event.label)
        return Branch(
            racy,
            BUDGET,
            path,
            {number: events for number, events in explored.items() if events},
            {number: nodes for number, nodes in others.items() if nodes},
        )

    def arrived(self, at: int, way: Way, explored: Explored) -> None:
        """The result of a way is known; if the execution ended on the way, not all events of it."""
        for step, event in zip(way.steps(), explored.path[at:], strict=False):
            if step.node is not None:
                step.node.ahead = event

    def take(self, way: Way, explored: Explored) -> bool:
        """Come to the next way. Returns: is there another?"""
        self.begun = True
        for step in way.steps():
            if step.node is not None and step.node.ahead is not None:
                step.node.event = step.node.ahead
                self._go(step.node.event)
        for at, events in explored.beyond:
            self.places[at].explore(events)
        if explored.stop is not None:
            self._stop(explored.stop)
            return True
        return self._back()

    def _go(self, event: Event) -> None:
        self.events.append(event)
        self.places.append(self.places[-1].after(event))

    def _stop(self, stop: Stop) -> None:
        """Go to where a worker has stopped."""
        self.places[-1].tree.extend(stop.tree)
        for at, own in enumerate(stop.explored):
            if at:
                self._go(stop.performed[at - 1])
            self.places[-1].add(own)

    def _back(self) -> bool:
        """Leave the place where nothing is left, up to where there is another branch."""
        self.places.pop()
        while self.places:
            place, event = self.places[-1], self.events.pop()
            place.tree.pop(0)
            place.add([event])
            if place.tree:
                return True
            self.places.pop()
        return False


class Shared(Owner):
    """The owner of the search.

    Attributes:
        sent: branch that is being explored, or has been -> its number; None: the first execution.
        ways: number of such a branch -> where its way begins, and the way. done: its result.
        executions, redundant: since there last were more points. endless: of all.
        over: nothing is left to try.
    """

    def prepare(self) -> None:
        self.number = self.executions = self.redundant = self.endless = 0
        self.over = False
        self._anew()

    def _anew(self) -> None:
        self.tree = Tree()
        self.sent: dict[Node | None, int] = {}
        self.ways: dict[int, tuple[int, Way]] = {}
        self.done: dict[int, Explored] = {}
        self.executions = self.redundant = 0

    def merged(self) -> Iterator[None]:
        while True:
            self._submit()
            for number, data in self.pool.wait(LOOK_S):
                if number in self.ways:
                    explored = self.done[number] = decode(EXPLORED, data)
                    self.tree.arrived(*self.ways[number], explored)
            yield
            while self._next() in self.done:
                if self._is_over():
                    return
                yield

    def covered(self) -> Coverage:
        return Coverage(self.over and not self.endless, self.executions - self.redundant, self.redundant, self.endless)

    def _next(self) -> int:
        """Number of the branch that is the next one; -1: it has not been sent."""
        _, way = next(self.tree.ways())
        return self.sent.get(way.node, -1)

    def _submit(self) -> None:
        """Let branches be explored, the next branches first."""
        room = min(self.pool.room(), AHEAD * self.pool.workers - len(self.sent))
        if room <= 0 and self._next() >= 0:
            return
        for at, way in self.tree.ways():
            if way.node not in self.sent:
                self._send(at, way, BUDGET)
                room -= 1
            if room <= 0:
                return

    def _send(self, at: int, way: Way, budget: int) -> None:
        number = self.sent[way.node] = self.number
        self.number += 1
        self.ways[number] = at, way
        branch = self.tree.branch(at, way, sorted(self.result.racy))
        self.pool.submit(number, encode(BRANCH, branch._replace(budget=budget)))

    def _is_over(self) -> bool:
        """Come to the next branch, and add its result. Has the search come to its end with it?"""
        number = self._next()
        explored = self.done.pop(number)
        del self.ways[number]
        at, way = next(self.tree.ways())  # the rest of its way
        ran, result = explored.done.ran, self.result
        left = self.limit - result.schedules
        if len(ran) > left:  # again, and only so many: then the last results are those of the last execution
            self._send(at, way, left)
            return False
        findings = {finding.at: finding for finding in explored.done.findings}
        for turn, execution in enumerate(ran):
            self._add(execution)
            if execution.grown:
                self._anew()
            if turn in findings and self._ends(findings[turn]):
                return True
        if result.finding is None:
            result.results = explored.done.results
        if not ran or not ran[-1].grown:
            del self.sent[way.node]
            self.over = not self.tree.take(way, explored)
        return self.over or result.schedules >= self.limit

    def _add(self, ran: Ran) -> None:
        result = self.result
        result.schedules += 1
        self.executions += 1
        self.redundant += bool(ran.lesson)
        self.endless += ran.account.ended
        collect(result, ran.account)
        result.by[result.strategy] = result.by.get(result.strategy, 0) + 1
        result.racy.update(ran.grown)
