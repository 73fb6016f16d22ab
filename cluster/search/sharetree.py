"""The tree of a search by several workers (share.py), as far as its owner has it.

The owner has the ways to all parts that workers explore. What is behind such a way, the worker knows alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from cluster.search.trace import Event, Label
from cluster.search.turn import Stop
from cluster.search.wakeup import Branch, behind, choice_first


class Node(Branch):
    """A branch of the owner's tree. Its event is as it was performed; before that, as it is expected.

    Args:
        parent: the branch behind whose event it is; None: it is the root, which has no event.
        whole: all executions that begin so are to be explored, not only those that begin with what is in the tree.

    Attributes:
        rest: as workers are told: that of a whole branch is empty.
        nodes: all branches behind it, in the order in which they are begun.
        asleep: what sleeps behind the event since earlier places; None: the event has not been performed there yet.
        left: how many parts behind it, with itself, have not been explored to their end.
        settled: how many of `nodes`, from the first on, can have no more branches. Invariant: these have no `nodes`.
    """

    __slots__ = ("asleep", "left", "nodes", "parent", "settled", "whole")

    def __init__(self, parent: Node | None, event: Event, whole: bool = False):
        super().__init__(event)
        self.parent, self.whole = parent, whole
        self.nodes: list[Node] = []
        self.asleep: dict[Label, Event] | None = None
        self.left = self.settled = 0
        if parent is not None:
            parent.nodes.append(self)
            if not parent.whole:
                parent.rest.append(self)

    @classmethod
    def root(cls) -> Node:
        root = cls(None, Event("", 0), True)
        root.asleep = {}
        root.count(1)
        return root

    def way(self) -> list[Node]:
        """The branches from the root to this branch."""
        way = []
        node: Node | None = self
        while node is not None:
            way.append(node)
            node = node.parent
        return way[::-1]

    def count(self, parts: int) -> None:
        """There are so many more parts to explore here."""
        node: Node | None = self
        while node is not None:
            node.left += parts
            node = node.parent

    def siblings(self) -> tuple[list[Node], list[Node]]:
        """The branches beside it: those begun before it, and those after it."""
        assert self.parent is not None, "the root is beside nothing"
        beside = self.parent.nodes
        at = beside.index(self)
        return beside[:at], beside[at + 1 :]

    def ready(self) -> bool:
        """Has all that sleeps on the way been performed, so that it is known what that depends on?"""
        node = self
        while node.parent is not None and node.asleep is None:
            if any(other.asleep is None and other.left for other in node.siblings()[0]):
                return False
            node = node.parent
        return True

    def perform(self, event: Event) -> None:
        """Its event is known, as are those before."""
        if self.asleep is None:
            assert self.parent is not None and self.parent.asleep is not None, "what is before has been performed"
            sleepers = [*self.parent.asleep.values(), *(node.event for node in self.siblings()[0])]
            self.event = event
            self.asleep = {other.label: other for other in sleepers if not other.depends(event)}

    def explore(self, events: list[Event], here: Node) -> Node | None:
        """Explore what begins with these events behind this branch, unless that is explored in any case.

        What begins with a branch that was begun before `here` is: all that sleeps there. But a branch begun later has
        only what is in it, and what those before it add, unless it is a whole one.

        Args:
            here: the branch behind this one whose part has led to it.

        Returns: the new leaf; None: there is none.
        """
        before, after = here.siblings()
        assert self.asleep is not None, "a race has been found behind it"
        sleepers = [*self.asleep.values(), *(node.event for node in before)]
        if any(behind(sleeper, events) is not None for sleeper in sleepers):
            return None
        into, nodes = self, after
        while events:
            for node in nodes:
                rest = behind(node.event, events)
                if rest is not None:
                    if node.whole:
                        return None
                    into, nodes, events = node, node.nodes, rest
                    break
            else:
                events = choice_first(events)
                for event in events:
                    into = Node(into, event, event is events[-1])
                into.count(1)
                return into
        return None

    def finish(self) -> None:
        """The part that begins here has been explored to its end. Forget the branches to which none can be added."""
        self.count(-1)
        settles = True
        way = self.way()
        for node, child in pairwise(way):
            settles = settles or node.whole
            if settles:
                node.settle()
            if not child.left:
                break
            settles = settles and node.nodes.index(child) <= node.settled
        for node in way:
            if node.whole and not node.left:
                node.forget()
                return

    def explored(self) -> float:
        """The share of what is behind it that has been explored, if branches of a place are trees of the same size."""
        explored = 0.0
        parts = [(self, 1.0)]
        while parts:
            node, share = parts.pop()
            if not node.left:
                explored += share
            parts += [(other, share / len(node.nodes)) for other in node.nodes if node.left]
        return explored

    def settle(self) -> None:
        """What is before it can have no more branches."""
        while self.settled < len(self.nodes) and not self.nodes[self.settled].left:
            self.nodes[self.settled].forget()
            self.settled += 1

    def forget(self) -> None:
        """Nothing will be explored behind it any more, so its branches are of no use."""
        self.nodes, self.rest, self.settled = [], [], 0


def split(node: Node, stop: Stop) -> tuple[Node, Stop | None, list[Node]] | None:
    """Take the first branches from a part that was left unfinished, so that others can explore them.

    Args:
        node: with which the part begins. stop: where its worker has stopped.

    Returns: the branch with which the rest of the part begins, and where that was left (None: there is no rest), and
        the branches that were taken; None: there is no other branch.
    """
    place, tree = 0, stop.tree
    while len(tree) == 1 and place < len(stop.performed):
        place, tree = place + 1, tree[0].rest
    if len(tree) == 1:
        return None
    node.count(-1)
    tree = stop.tree
    taken: list[Node] = []
    for performed, explored in zip(stop.performed[: place + 1], stop.explored, strict=False):
        _plant_explored(node, explored)
        first = Node(node, tree[0].event)
        first.perform(performed)
        taken += _plant(node, tree[1:])
        node, tree = first, tree[0].rest
    if place < len(stop.performed):
        node.count(1)
        return node, Stop(stop.performed[place + 1 :], stop.explored[place + 1 :], tree), taken
    _plant_explored(node, stop.explored[-1])
    return node, None, _plant(node, tree)


def _plant_explored(node: Node, events: Sequence[Event]) -> None:
    """These were explored behind the node."""
    for event in events:
        Node(node, event, True)


def _plant(node: Node, branches: Sequence[Branch]) -> list[Node]:
    """Add branches to the tree; returns the leaves."""
    leaves = []
    left = [(node, branch) for branch in reversed(branches)]
    while left:
        into, branch = left.pop()
        planted = Node(into, branch.event, not branch.rest)
        left += [(planted, other) for other in reversed(branch.rest)]
        if planted.whole:
            planted.count(1)
            leaves.append(planted)
    return leaves
