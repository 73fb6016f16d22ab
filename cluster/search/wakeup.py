"""Wakeup trees of optimal DPOR (dpor.py): at each place of an execution, what is to be explored there, and what sleeps.

A branch without branches behind it stands for all executions that begin so. A branch with others stands for these
alone: the way to them is part of what is to be explored.
"""

from __future__ import annotations

from cluster.search.trace import NO_CHOICE, Event


class Branch:
    """A node of a wakeup tree: an event to perform, and what to perform behind it."""

    __slots__ = ("event", "rest")

    def __init__(self, event: Event):
        self.event = event
        self.rest: list[Branch] = []


def behind(first: Event, events: list[Event]) -> list[Event] | None:
    """What is left of a beginning if this event comes first; None: it cannot."""
    for at, event in enumerate(events):
        if event.label == first.label:
            return events[:at] + events[at + 1 :]
        if first.depends(event):
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

    def __init__(self, asleep: list[Event], tree: list[Branch]):
        self.asleep, self.tree = asleep, tree
        self.inherited = len(asleep)

    def after(self, event: Event) -> Place:
        """The place behind an event, which is that of the first branch."""
        return Place([other for other in self.asleep if not other.depends(event)], self.tree[0].rest)

    def own(self) -> list[Event]:
        """The events that were explored here."""
        return self.asleep[self.inherited :]

    def add(self, events: list[Event]) -> None:
        """Events were explored here."""
        self.asleep += events

    def explore(self, events: list[Event]) -> None:
        """Explore what begins with these events, unless that has been done, or the tree has it."""
        if not self.covers(events):
            self.insert(events)

    def covers(self, events: list[Event]) -> bool:
        """Has what begins with these events been explored?"""
        return any(behind(asleep, events) is not None for asleep in self.asleep)

    def insert(self, events: list[Event]) -> None:
        """Explore what begins with these events, unless the tree has it."""
        where = self.missing(events)
        if where is not None:
            into, left = where
            for event in choice_first(left):
                into.append(Branch(event))
                into = into[-1].rest

    def missing(self, events: list[Event]) -> tuple[list[Branch], list[Event]] | None:
        """What the tree lacks of what begins with these events, and where; None: it has it."""
        branches = self.tree[1:]
        into = self.tree
        while events:
            for branch in branches:
                rest = behind(branch.event, events)
                if rest is not None:
                    if not branch.rest:
                        return None
                    events, branches, into = rest, branch.rest, branch.rest
                    break
            else:
                return into, events
        return None


def choice_first(events: list[Event]) -> list[Event]:
    """The same, but a choice before which its context does nothing is the first: no other can go before it there."""
    threads = set()
    for at, event in enumerate(events):
        if event.label[1] != NO_CHOICE and event.thread not in threads:
            return [event, *events[:at], *events[at + 1 :]]
        threads.add(event.thread)
    return events
