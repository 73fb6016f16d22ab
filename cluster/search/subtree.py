"""A part of the tree of optimal DPOR, for a worker: the executions with the same beginning (share.py)."""

from __future__ import annotations

from collections.abc import Sequence

from cluster.search.dpor import Optimal
from cluster.search.trace import Event, Label
from cluster.search.wakeup import Branch, Place


class Subtree(Optimal):
    """The executions that begin as a path says: a part of the tree that somebody else owns.

    Args:
        path: what to do first.
        explored: place on the path, or behind it, where the tree begins -> what was explored there before.
        others: place on the path -> branches that will be explored there by others.
        tree: what is to be explored behind the path; empty: everything.

    Attributes:
        beyond: what races lead to at places on the path, and neither `explored` nor `others` have: place, beginning.
    """

    def __init__(
        self,
        path: Sequence[Label],
        explored: dict[int, list[Event]],
        others: dict[int, list[Branch]],
        tree: list[Branch],
    ):
        super().__init__()
        self.base = len(path)
        self.explored = dict(explored)
        self.beyond: list[tuple[int, list[Event]]] = []
        self._sent: set[tuple[int, tuple[Label, ...]]] = set()
        into = self.places[0].tree
        for at, label in enumerate(path):
            branch = Branch(Event(label[0], 0, label[1]))
            into.append(branch)
            into.extend(others.get(at, ()))
            into = branch.rest
        into.extend(tree)
        self.places[0].add(self.explored.pop(0, []))

    def _place(self) -> Place:
        known = len(self.places)
        place = super()._place()
        if len(self.places) > known:
            place.add(self.explored.pop(known, []))  # when the execution comes there first
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
