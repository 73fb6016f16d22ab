"""The messages of a systematic search by several workers: a turn of a part of its tree, and its result.

The owner of the tree sends a turn (`Turn`): the way to the part, what is known beside the way, and where the turn
before has stopped. The worker performs executions that begin so, and tells (`Explored`) the result of each, what their
races lead to at places on the way, and where it has stopped.

Events travel as numbers, places in a table of all events of the message; so do what these read and write. Trees travel
as a list: the number of branches, and of each in turn its event and how many branches it has behind it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from cluster.search.batch import Done
from cluster.search.dependency import Resource
from cluster.search.trace import Event, Label
from cluster.search.wakeup import Branch
from shared.wire.codec import Form
from shared.wire.typed import read

#: branches, as a list
Flat = list[int]


class Table:
    """The events of a message that is being made."""

    def __init__(self) -> None:
        self.resources: dict[Resource, int] = {}
        self.numbers: dict[object, int] = {}
        self.rows: list[list[object]] = []

    def event(self, event: Event) -> int:
        """The number of an event."""
        key = event.label, event.cpu, event.reads, event.writes
        number = self.numbers.get(key)
        if number is None:
            number = self.numbers[key] = len(self.rows)
            resources = self.resources
            reads, writes = (
                [resources.setdefault(resource, len(resources)) for resource in used]
                for used in (event.reads, event.writes)
            )
            self.rows.append([*event.label, event.cpu, reads, writes])
        return number

    def events(self, events: Sequence[Event]) -> list[int]:
        return [self.event(event) for event in events]

    def tree(self, branches: Sequence[Branch]) -> Flat:
        flat = [len(branches)]
        stack = list(reversed(branches))
        while stack:
            branch = stack.pop()
            flat += self.event(branch.event), len(branch.rest)
            stack.extend(reversed(branch.rest))
        return flat

    def plain(self) -> list[object]:
        return [list(self.resources), self.rows]


class Events:
    """The events of a message that has arrived."""

    def __init__(self, body: Any):
        resources, rows = body
        self.all: list[Event] = []
        for thread, value, cpu, reads, writes in rows:
            event = Event(thread, cpu, value)
            event.reads, event.writes = (frozenset(resources[at] for at in used) for used in (reads, writes))
            self.all.append(event)

    def of(self, numbers: Sequence[int]) -> list[Event]:
        return [self.all[number] for number in numbers]

    def tree(self, flat: Flat) -> list[Branch]:
        tree: list[Branch] = []
        numbers = iter(flat)
        left = [(tree, next(numbers))]
        while left:
            into, count = left.pop()
            if count:
                left.append((into, count - 1))
                branch = Branch(self.all[next(numbers)])
                into.append(branch)
                left.append((branch.rest, next(numbers)))
        return tree


class Turn(NamedTuple):
    """Executions to perform; the answer is `Explored`.

    Attributes:
        racy: fields that are points from the beginning.
        budget: executions at most.
        path, explored, others, tree: as `subtree.Subtree` has them.
    """

    racy: list[str]
    budget: int
    path: list[Label]
    explored: dict[int, list[Event]]
    others: dict[int, list[Branch]]
    tree: list[Branch]

    def plain(self) -> list[object]:
        table = Table()
        explored = [(at, table.events(events)) for at, events in self.explored.items()]
        others = [(at, table.tree(branches)) for at, branches in self.others.items()]
        tree = table.tree(self.tree)
        return [self.racy, self.budget, self.path, explored, others, tree, table.plain()]

    @classmethod
    def parse(cls, body: Any) -> Turn:
        racy, budget, path, explored, others, tree, table = body
        events = Events(table)
        beside = {at: events.of(numbers) for at, numbers in explored}
        around = {at: events.tree(flat) for at, flat in others}
        return cls(list(racy), budget, list(path), beside, around, events.tree(tree))


class Stop(NamedTuple):
    """Where a worker has stopped, behind the path.

    Attributes:
        performed: events between the path's end and there.
        explored: what was explored at each place, from the path's end on.
        tree: at the path's end.
    """

    performed: list[Event]
    explored: list[list[Event]]
    tree: list[Branch]


class Explored(NamedTuple):
    """The result of a branch.

    Attributes:
        done: of its executions; the lesson of each: whether it has shown nothing new.
        path: the events of the path, as they were performed.
        beyond: as `subtree.Subtree` has it.
        stop: None: there is no execution left, or there need not be any.
    """

    done: Done
    path: list[Event]
    beyond: list[tuple[int, list[Event]]]
    stop: Stop | None

    def plain(self) -> list[object]:
        table = Table()
        path = table.events(self.path)
        beyond = [(at, table.events(events)) for at, events in self.beyond]
        stop = None
        if self.stop is not None:
            explored = [table.events(events) for events in self.stop.explored]
            stop = [table.events(self.stop.performed), explored, table.tree(self.stop.tree)]
        return [self.done, path, beyond, stop, table.plain()]

    @classmethod
    def parse(cls, body: Any) -> Explored:
        done, path, beyond, stop, table = body
        events = Events(table)
        stopped = None
        if stop is not None:
            performed, explored, tree = stop
            stopped = Stop(events.of(performed), [events.of(numbers) for numbers in explored], events.tree(tree))
        return cls(read(Done, done), events.of(path), [(at, events.of(numbers)) for at, numbers in beyond], stopped)


TURN: Form[Turn] = Form("turn", 1 << 26, Turn.parse, Turn.plain, tuples=True)
EXPLORED: Form[Explored] = Form("explored", 1 << 28, Explored.parse, Explored.plain, tuples=True)
