"""Replay in `sim`: a token's deviations, or the operations of a journal in their order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cluster.boot import prepare
from cluster.sim import Deviation, Sim
from cluster.strategies.follow import Deviate, Order
from shared.errors import Finding
from shared.journal import Journals, digest, linearize
from shared.scenario import Scenario


@dataclass
class Replay:
    """One recorded execution."""

    finding: Finding | None
    journals: Journals
    digest: str
    results: dict[str, list[dict[str, Any]]]
    sites: dict[str, int]
    notes: list[Finding]
    operations: int
    skipped: list[Deviation]
    counters: dict[str, int]


def replay(scenario: Scenario, deviations: list[Deviation], strict: bool = True) -> Replay:
    """Run a token's schedule once, recorded.

    Raises: Diverged - a deviation cannot be taken (unless not `strict`).
    """
    machine, image = prepare(scenario)
    sim = Sim(machine, image)
    strategy = Deviate(sim, deviations, strict)
    sim.execute(strategy, record=True)
    strategy.finish()
    return recorded(sim, strategy.skipped + list(reversed(strategy.left)))


def replay_journals(scenario: Scenario, journals: Journals) -> Replay:
    """Run the operations of a live run's journals in an order they allow, recorded.

    Raises: Diverged, LogIncomplete.
    """
    machine, image = prepare(scenario)
    sim = Sim(machine, image, granularity="access")
    sim.execute(Order(sim, linearize(journals)), record=True)
    return recorded(sim, [])


def recorded(sim: Sim, skipped: list[Deviation]) -> Replay:
    """What a recorded execution left behind."""
    assert sim.journals is not None
    journals = {name: journal.records for name, journal in sim.journals.items()}
    results = {name: one.results for name, one in sim.machine.threads.items() if one.results}
    return Replay(
        sim.finding,
        journals,
        digest(journals),
        results,
        dict(sim.sites),
        list(sim.notes),
        sim.steps,
        skipped,
        dict(sim.counters),
    )
