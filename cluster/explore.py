"""Search: run a scenario under one schedule after another until a finding.

Everything happens in `sim`, in this process. A finding's schedule is shortened
before it is shown (cluster/minimize.py), so that it fits a token.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from cluster.boot import prepare
from cluster.minimize import minimize
from cluster.replay import replay
from cluster.search import make
from cluster.search.strategy import DefaultFirst, SearchOver
from cluster.sim import Sim
from cluster.token import Token, token_of
from shared.deviation import Deviation
from shared.findings import UNEXPECTED, Finding
from shared.scenario import Scenario


@dataclass
class Result:
    """What an exploration came to.

    Attributes:
        schedules: executions performed, minimization not counted.
        found_at: number of the execution that had the finding, from 1.
        sites: erratum -> how often its site was reached, over all executions.
        racy: fields that became scheduling points on the way.
        notes: signatures of findings that do not end the search, with their number: those that `detect` only
            notes, and results that the scenario does not expect.
    """

    scenario: Scenario
    strategy: str
    seed: int
    schedules: int = 0
    seconds: float = 0.0
    finding: Finding | None = None
    found_at: int = 0
    token: Token | None = None
    deviations: list[Deviation] = field(default_factory=list)
    raw_deviations: int = 0
    results: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    sites: dict[str, int] = field(default_factory=dict)
    racy: set[str] = field(default_factory=set)
    notes: dict[str, int] = field(default_factory=dict)
    points: int = 0
    operations: int = 0
    interrupted: bool = False


Progress = Callable[[Result], None]


def explore(
    scenario: Scenario,
    strategy: str | None = None,
    seed: int = 0,
    schedules: int | None = None,
    depth: int | None = None,
    granularity: str = "guarded",
    progress: Progress | None = None,
    shorten: bool = True,
) -> Result:
    """Run `scenario` under many schedules; stops at the first finding.

    Results that the scenario does not expect are a finding too, but the search goes on to its bound: a finding of the
    kernel's, which a later schedule may have, says more. Without one, the first such results are what was found.

    Args:
        strategy, schedules, depth: default to the scenario's bound.
        seed: of the strategy; the same seed gives the same search.
        progress: called about ten times a second.
        shorten: minimize the finding's schedule and make its token.
    """
    name = strategy or scenario.bound.strategy
    limit = scenario.bound.schedules if schedules is None else schedules
    search = DefaultFirst(make(name, seed, scenario.bound.depth if depth is None else depth))
    machine, image = prepare(scenario)
    result = Result(scenario, name, seed)
    sim = Sim(machine, image, result.racy, granularity)
    raw: list[Deviation] = []
    seen: Finding | None = None  # what the unrecorded run said
    began = last = monotonic()
    try:
        while result.schedules < limit:
            try:
                finding = sim.execute(search)
            except SearchOver:
                break
            result.schedules += 1
            collect(result, sim)
            adopted = finding is not None and (result.finding is None or finding.kind != UNEXPECTED)
            if adopted:  # an unrecorded run is approximate: what a recorded one of the same schedule tells is so
                approximate, finding = finding, replay(scenario, sim.deviations).finding
            if adopted and finding is not None:
                result.finding, result.found_at, raw = finding, result.schedules, sim.deviations
                seen = approximate
                result.results = sim.results
            if finding is not None and finding.kind != UNEXPECTED:
                break
            now = monotonic()
            if progress is not None and now - last > 0.1:
                last = now
                result.seconds = now - began
                progress(result)
    except KeyboardInterrupt:
        result.interrupted = True
    result.seconds = monotonic() - began
    if result.finding is not None:
        result.deviations = raw
        result.raw_deviations = len(raw)
        if shorten:
            try:
                result.deviations = minimize(sim, seen or result.finding, raw)
            except KeyboardInterrupt:  # what was found is not lost: the schedule is only longer
                result.interrupted = True
            result.token = token_of(scenario, result.deviations)
            again = replay(scenario, result.deviations)
            if again.finding is None:
                result.deviations, again = raw, replay(scenario, raw)
                result.token = token_of(scenario, raw)
            result.finding, result.results = again.finding, again.results
    return result


def collect(result: Result, sim: Sim) -> None:
    """Add one execution to the totals."""
    for site, count in sim.sites.items():
        result.sites[site] = result.sites.get(site, 0) + count
    for note in [*sim.notes, *([sim.finding] if sim.finding is not None and sim.finding.kind == UNEXPECTED else [])]:
        key = " ".join(part for part in note.signature if part)
        result.notes[key] = result.notes.get(key, 0) + 1
    result.points = max(result.points, sim.points)
    result.operations += sim.steps
    if result.finding is None:
        result.results = sim.results
