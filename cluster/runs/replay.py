"""Replay in `sim`: a token's deviations, or the operations of a journal in their order, and a strategy for the
operations behind these."""

from __future__ import annotations

import marshal
from collections.abc import Iterable, Mapping, Sequence

from cluster.boot import prepare
from cluster.machine import Machine
from cluster.runs.outcome import Outcome
from cluster.search.beginning import Continue
from cluster.search.deviate import Deviate
from cluster.search.follow import Order
from cluster.search.strategy import Strategy
from cluster.sim.engine import Sim
from nodes.build import build_threads
from shared.errors import Diverged
from shared.journal.cut import consistent
from shared.journal.cut import cut as first
from shared.journal.deviation import Deviation
from shared.journal.order import Operations, events_after, linearize, outline_of
from shared.journal.record import Journal, Journals, Record, digest, essence
from shared.journal.runfile import Late
from shared.scenario.model import Scenario


def replay(
    scenario: Scenario, deviations: list[Deviation], strict: bool = True, time_s: float | None = None
) -> Outcome:
    """Run a token's schedule once, recorded.

    Args:
        time_s: seconds that it may take; None: any.

    Raises: Diverged - a deviation cannot be taken (unless not `strict`).
    """
    machine, image = prepare(scenario)
    sim = Sim(machine, image, granularity="access")  # a deviation may be at any operation
    sim.time_s = time_s
    strategy = Deviate(deviations, strict)
    sim.execute(strategy, record=True)
    if sim.late:
        return recorded(sim, strategy.skipped)
    strategy.finish()
    return recorded(sim, strategy.skipped + list(reversed(strategy.left)))


def replay_journals(
    scenario: Scenario,
    journals: Journals,
    cut: bool = False,
    late: Late | None = None,
    time_s: float | None = None,
) -> Outcome:
    """Run the operations of a live run's journals in an order they allow; the outcome has these journals, and no copy.

    Args:
        cut: contexts may be able to continue behind the last one.
        late: the run was ended because its time was over.
        time_s: seconds that this may take; None: any.

    Raises: Diverged, LogIncomplete.
    """
    sim = followed(scenario, journals, cut, late, time_s)
    if sim.late and late is None:
        journals = first(journals, sim.steps)
    once = recorded(sim, journals={node: journals.get(node, ()) for node in scenario.machine.nodes})
    once.cut = sim.execution.abandoned
    return once


def followed(
    scenario: Scenario,
    journals: Journals,
    cut: bool = False,
    late: Late | None = None,
    time_s: float | None = None,
) -> Sim:
    """As `replay_journals`; returns the simulator as the run has left it. A record is compared, and not kept.

    Raises: Diverged, LogIncomplete.
    """
    machine, image = prepare(scenario)
    sim = Sim(machine, image, granularity="access")
    sim.ends_at, sim.time_s = (None, time_s) if late is None else (late.operations, late.seconds)
    alike = {node: Alike(journals.get(node, ())) for node in {*machine.nodes, *journals}}
    sim.journal = lambda node: Journal(node, keep=False, watch=alike[node].add)
    outline = outline_of(journals)
    order = Order(machine.threads, Operations(journals, outline), events_after(journals, outline=outline), cut)
    sim.execute(order, record=True)
    _refuse(alike, whole=late is not None or not sim.late)
    return sim


def beginning(scenario: Scenario, journals: Journals) -> Journals:
    """The last consistent cut of journals that may end too early, which can be followed.

    Raises: LogIncomplete - an operation is in two journals.
    """
    asleep = {name for name, thread in build_threads(scenario).items() if thread.starts_on is not None}
    have = {node: journals.get(node, ()) for node in scenario.machine.nodes}
    return consistent(have, asleep)


def continued(machine: Machine, journals: Journals, then: Strategy) -> Continue:
    """The strategy that follows these journals, which are the beginning of a run, and then lets another choose."""
    return Continue(order_of(machine, journals), then)


def order_of(machine: Machine, journals: Journals) -> Order:
    """The strategy that follows these journals, which are the beginning of a run.

    It has their order in memory: a search goes through it once an execution.
    """
    return Order(machine.threads, linearize(journals), events_after(journals))


def _same(record: Record, other: Record) -> bool:
    """Does the digest make no difference between them? Usually they are the same in every byte, which is soon seen."""
    return _bytes(record) == _bytes(other) or essence(record) == essence(other)


def _bytes(record: Record) -> bytes:
    """All of a record, with the event where a line has it."""
    line = dict(record)
    line["event"] = line.pop("event")
    return marshal.dumps(line, 0)


class Alike:
    """Compares the records of a node, as they come, with those that it should have.

    Args:
        wanted: these.
        behind: how many records came before them.
    """

    def __init__(self, wanted: Iterable[Record], behind: int = 0):
        self.wanted, self.count = iter(wanted), behind
        self.wrong: tuple[int, Record | None, Record | None] | None = None

    def add(self, record: Record) -> None:
        """The next record."""
        self._compare(next(self.wanted, None), record)

    def finish(self) -> tuple[int, Record | None, Record | None] | None:
        """There are no more; returns the first difference: the record's number, what it should be, and what it is."""
        missing = next(self.wanted, None)
        if missing is not None:
            self._compare(missing, None)
        return self.wrong

    def _compare(self, expected: Record | None, actual: Record | None) -> None:
        self.count += 1
        same = expected is not None and actual is not None and _same(expected, actual)
        if not same and self.wrong is None:
            self.wrong = self.count, expected, actual


def compare(wanted: Journals, replayed: Journals, behind: Mapping[str, int] | None = None) -> None:
    """Diverged, unless both say the same of every node.

    Args:
        behind: node -> how many records come before these; None: these are all.
    """
    alike = {node: Alike(records, 0 if behind is None else behind[node]) for node, records in wanted.items()}
    for node, same in alike.items():
        for record in replayed.get(node, ()):
            same.add(record)
    _refuse(alike)


def _refuse(alike: Mapping[str, Alike], whole: bool = True) -> None:
    """Diverged, unless all nodes have the records that they should have; if not `whole`, without some at the end."""
    for node in sorted(alike):
        wrong = alike[node].finish() if whole else alike[node].wrong
        if wrong is not None:
            number, expected, actual = wrong
            raise Diverged(_in_words(node, number, expected), _in_words(node, number, actual))


def _in_words(node: str, number: int, record: Record | None) -> str:
    if record is None:
        return f"{node} to have no record {number}"
    words = ", ".join(f"{key} {value}" for key, value in record.items() if key not in ("node", "nseq"))
    return f"record {number} of {node}: {words[:300]}"


def recorded(sim: Sim, skipped: Sequence[Deviation] = (), journals: Journals | None = None) -> Outcome:
    """The outcome of a recorded execution.

    Args:
        journals: of it; None: those that `sim` has kept.
    """
    if journals is None:
        assert sim.journals is not None
        journals = {name: journal.records for name, journal in sim.journals.items()}
    return Outcome(
        finding=sim.finding,
        journals=journals,
        digest=digest(journals),
        results=sim.results,
        notes=list(sim.notes),
        sites=dict(sim.sites),
        counters=dict(sim.counters),
        operations=sim.steps,
        deviations=list(sim.deviations),
        skipped=list(skipped),
        late=Late(sim.steps, sim.time_s) if sim.late and sim.time_s is not None else None,
    )
