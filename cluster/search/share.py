"""A systematic search by several workers: optimal DPOR, whose tree has one owner.

The owner never performs an execution. It gives parts of the tree to workers: a part (`Lane`) is everything that begins
with a branch's way. What a part has is decided by this way alone: by its events, and by the branches beside it that
were begun before. So the parts are independent of each other. A worker goes through a part depth first, for a number of
executions, and answers with their results, with what their races lead to at places on the way, and with where it has
stopped. The owner adds what is new to the tree (sharetree.py), and has the part continued by any worker.

The parts take turns in a fixed order, and results are added in this order, so the search is the same for any number of
workers. No class is counted twice, and all are seen that `explore()` sees; but the order in which they are seen is
another (Lang and Sagonas, Parallel Graph-Based Stateless Model Checking, 2020, explore any branch at any time, too).

When more fields become racy, there are more points, and everything begins anew; what is still explored of the old tree
comes to nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from cluster.search.batch import Ran
from cluster.search.explore import LOOK_S, Coverage
from cluster.search.owner import Owner
from cluster.search.sharetree import Node, split
from cluster.search.trace import Event
from cluster.search.turn import EXPLORED, TURN, Explored, Stop, Turn
from cluster.search.wakeup import Branch
from shared.wire.codec import decode, encode

#: parts that are explored at the same time, at most
LANES = 16
#: executions of a part in its first turn, and in any; each turn has twice as many as the one before
FIRST, MOST = 8, 256


class Lane:
    """A part of the tree that workers explore.

    Attributes:
        node: the branch with which all of it begins.
        stop: where the last worker has stopped; None: nothing of it has been explored.
        budget: executions of its next turn.
        number: of the batch that is its next turn; -1: not sent yet.
    """

    def __init__(self, node: Node):
        self.node = node
        self.stop: Stop | None = None
        self.budget, self.number = FIRST, -1

    def turn(self, racy: list[str], budget: int) -> Turn:
        """Its next turn, as a worker is told."""
        way, stop = self.node.way()[1:], self.stop
        explored: dict[int, list[Event]] = {}
        others: dict[int, list[Branch]] = {}
        for at, node in enumerate(way):
            before, after = node.siblings()
            if before:
                explored[at] = [other.event for other in before]
            if after:
                others[at] = [*after]
        if stop is not None:
            explored.update({at: events for at, events in enumerate(stop.explored, len(way)) if events})
        tree = [] if stop is None else stop.tree
        return Turn(racy, budget, [node.event.label for node in way], explored, others, tree)


class Shared(Owner):
    """The owner of the search.

    Attributes:
        root: of the tree.
        lanes: whose turn it is, the next one first. waiting: leaves that are in no lane yet, in the order in which they
            came. Invariant: each part of the tree that is not explored is in one of the two.
        sent: number of a batch -> its lane. done: its result.
        executions, redundant: since there last were more points.
    """

    def prepare(self) -> None:
        self.number = 0
        self._anew()

    def _anew(self) -> None:
        self.root = Node.root()
        self.lanes = deque([Lane(self.root)])
        self.waiting: list[Node] = []
        self.sent: dict[int, Lane] = {}
        self.done: dict[int, Explored] = {}
        self.executions = self.redundant = 0

    def merged(self) -> Iterator[None]:
        while True:
            self._submit()
            for number, data in self.pool.wait(LOOK_S):
                if number in self.sent:
                    self.done[number] = decode(EXPLORED, data)
            yield
            while self.lanes[0].number in self.done:
                if self._is_over():
                    return
                yield

    def covered(self) -> Coverage:
        share = self.root.explored()
        expected = self.executions / share if self.root.left and share else None
        endless = self.result.endless
        over = not self.root.left and not endless
        return Coverage(over, self.executions - self.redundant, self.redundant, endless, expected)

    def _submit(self) -> None:
        """Send what is next, as far as it is likely to be needed."""
        room, left = self.pool.room(), self.limit - self.result.schedules
        for lane in self.lanes:
            if room <= 0 or left <= 0:
                return
            if lane.number < 0:
                self._send(lane, lane.budget)
                room -= 1
            left -= lane.budget

    def _send(self, lane: Lane, budget: int) -> None:
        lane.number = self.number
        self.sent[self.number] = lane
        self.pool.submit(self.number, encode(TURN, lane.turn(sorted(self.result.racy), budget)))
        self.number += 1

    def _is_over(self) -> bool:
        """Add the result of the lane whose turn it is. Has the search come to its end with it?"""
        lane, result = self.lanes[0], self.result
        explored = self.done.pop(lane.number)
        del self.sent[lane.number]
        left = self.limit - result.schedules
        if explored.done.schedules() > left:
            # again, and only so many: then the last results are those of the last execution
            self._send(lane, left)
            return False
        for ran in explored.done.ran:
            self._add(ran)
            if ran.grown:  # by the last execution
                self._anew()
            if ran.confirmed is not None and self._ends(ran.confirmed):
                return True
        if result.finding is None:
            result.results = explored.done.results
        if not any(ran.grown for ran in explored.done.ran):
            self._take(lane, explored)
        return not self.root.left or result.schedules >= self.limit

    def _take(self, lane: Lane, explored: Explored) -> None:
        """Add the result of a turn to the tree."""
        self.lanes.popleft()
        places = lane.node.way()
        for node, event in zip(places[1:], explored.path, strict=False):
            node.perform(event)
        for at, events in explored.beyond:
            leaf = places[at].explore(events, places[at + 1])
            if leaf is not None:
                self.waiting.append(leaf)
        if explored.stop is not None:
            self._continue(lane, explored.stop)
        else:
            lane.node.finish()
            if len(explored.path) < len(places) - 1:
                self._abandon(places[len(explored.path)])
        self._begin()

    def _abandon(self, end: Node) -> None:
        """An execution has ended there, so no other can come to what waits behind it."""
        waiting, self.waiting = self.waiting, []
        for node in waiting:
            if end in node.way():
                node.finish()
            else:
                self.waiting.append(node)

    def _continue(self, lane: Lane, stop: Stop) -> None:
        """A lane has been left unfinished: it has another turn, or its branches become lanes if there are few."""
        lane.stop, lane.number, lane.budget = stop, -1, min(MOST, 2 * lane.budget)
        while lane.stop is not None and len(self.lanes) + len(self.waiting) < LANES:
            parted = split(lane.node, lane.stop)
            if parted is None:
                break
            lane.node, lane.stop, leaves = parted
            self.waiting += leaves
        if lane.stop is not None:
            self.lanes.append(lane)

    def _begin(self) -> None:
        """Begin with leaves that wait."""
        waiting, self.waiting = self.waiting, []
        for at, node in enumerate(waiting):
            if len(self.lanes) >= LANES:
                self.waiting += waiting[at:]
                return
            if node.ready():
                self.lanes.append(Lane(node))
            else:
                self.waiting.append(node)

    def _add(self, ran: Ran) -> None:
        result = self.result
        result.join(ran)
        self.executions += ran.schedules
        self.redundant += sum(map(bool, ran.lessons))
        result.by[result.strategy] = result.by.get(result.strategy, 0) + ran.schedules
        result.racy.update(ran.grown)
