"""Replay in `sim`: a token's deviations, or the operations of a journal in their order, and a strategy for the
operations behind these."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import zip_longest

from cluster.boot import prepare
from cluster.machine import Machine
from cluster.runs.outcome import Outcome
from cluster.search.follow import Continue, Deviate, Order
from cluster.search.strategy import Strategy
from cluster.sim.engine import Sim
from nodes.build import build_threads
from shared.errors import Diverged
from shared.journal.cut import consistent
from shared.journal.deviation import Deviation
from shared.journal.order import events_after, linearize
from shared.journal.record import VOLATILE, Journals, Record, digest
from shared.scenario.model import Scenario


def replay(scenario: Scenario, deviations: list[Deviation], strict: bool = True) -> Outcome:
    """Run a token's schedule once, recorded.

    Raises: Diverged - a deviation cannot be taken (unless not `strict`).
    """
    machine, image = prepare(scenario)
    sim = Sim(machine, image, granularity="access")  # a deviation may be at any operation
    strategy = Deviate(deviations, strict)
    sim.execute(strategy, record=True)
    strategy.finish()
    return recorded(sim, strategy.skipped + list(reversed(strategy.left)))


def replay_journals(scenario: Scenario, journals: Journals, cut: bool = False) -> Outcome:
    """Run the operations of a live run's journals in an order they allow, recorded.

    Args:
        cut: contexts may be able to continue behind the last one.

    Raises: Diverged, LogIncomplete.
    """
    machine, image = prepare(scenario)
    sim = Sim(machine, image, granularity="access")
    sim.execute(Order(machine.threads, linearize(journals), events_after(journals), cut), record=True)
    once = recorded(sim)
    once.cut = sim.execution.abandoned
    compare(journals, once.journals)
    return once


def beginning(scenario: Scenario, journals: Journals) -> Journals:
    """The last consistent cut of journals that may end too early, which can be followed."""
    asleep = {name for name, thread in build_threads(scenario).items() if thread.starts_on is not None}
    have = {node: journals.get(node, []) for node in scenario.machine.nodes}
    return consistent(have, asleep)


def continued(machine: Machine, journals: Journals, then: Strategy) -> Continue:
    """The strategy that follows these journals, which are the beginning of a run, and then lets another choose."""
    return Continue(order_of(machine, journals), then)


def order_of(machine: Machine, journals: Journals) -> Order:
    """The strategy that follows these journals, which are the beginning of a run."""
    return Order(machine.threads, linearize(journals), events_after(journals))


def compare(wanted: Journals, replayed: Journals, behind: Mapping[str, int] | None = None) -> None:
    """Diverged, unless both say the same of every node.

    Args:
        behind: node -> how many records come before these; None: these are all.
    """
    for node in sorted(wanted):
        ours, theirs = map(_essence, replayed.get(node, [])), map(_essence, wanted[node])
        first = 1 if behind is None else behind[node] + 1
        for number, (expected, actual) in enumerate(zip_longest(theirs, ours), first):
            if expected != actual:
                raise Diverged(_in_words(node, number, expected), _in_words(node, number, actual))


def _essence(record: Record) -> Record:
    return {key: value for key, value in record.items() if key not in VOLATILE}


def _in_words(node: str, number: int, record: Record | None) -> str:
    if record is None:
        return f"{node} to have no record {number}"
    words = ", ".join(f"{key} {value}" for key, value in record.items() if key not in ("node", "nseq"))
    return f"record {number} of {node}: {words[:300]}"


def recorded(sim: Sim, skipped: Sequence[Deviation] = ()) -> Outcome:
    """The outcome of a recorded execution."""
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
    )
