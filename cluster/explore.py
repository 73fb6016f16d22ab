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
from cluster.sim import Deviation, Sim
from cluster.strategies import Stay, make
from cluster.token import Token, token_of
from shared.errors import Finding
from shared.scenario import Scenario, named_results


@dataclass
class Result:
    """What an exploration came to.

    Attributes:
        schedules: executions performed, minimization not counted.
        found_at: number of the execution that had the finding, from 1.
        sites: erratum -> how often its site was reached, over all executions.
        racy: fields that became scheduling points on the way.
        unlike: how the results of an execution without a finding differ from what the scenario expects.
        notes: signatures of findings that `detect` only notes, with their number.
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
    unlike: str | None = None
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
    """Run `scenario` under many schedules; stops at the first finding, or at results that must not be.

    Args:
        strategy, schedules, depth: default to the scenario's bound.
        seed: of the strategy; the same seed gives the same search.
        progress: called about ten times a second.
        shorten: minimize the finding's schedule and make its token.
    """
    name = strategy or scenario.bound.strategy
    limit = scenario.bound.schedules if schedules is None else schedules
    chooser = make(name, seed, scenario.bound.depth if depth is None else depth)
    outcome = scenario.outcome()
    machine, image = prepare(scenario)
    result = Result(scenario, name, seed)
    sim = Sim(machine, image, result.racy, granularity)
    began = last = monotonic()
    try:
        while result.schedules < limit:
            finding = sim.execute(Stay() if result.schedules == 0 else chooser)
            result.schedules += 1
            collect(result, sim)
            if finding is not None:
                result.finding, result.found_at = finding, result.schedules
                break
            if outcome is not None and not outcome.findings:
                result.unlike = outcome.check(None, named_results(result.results))
                if result.unlike is not None:
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
        result.deviations = sim.deviations
        result.raw_deviations = len(sim.deviations)
        if shorten:
            try:
                result.deviations = minimize(sim, result.finding, sim.deviations)
            except KeyboardInterrupt:  # what was found is not lost: the schedule is only longer
                result.interrupted = True
            result.token = token_of(scenario, result.deviations)
            again = replay(scenario, result.deviations)  # what is told is what a recorded run of it tells
            result.finding, result.results = again.finding, again.results
    return result


def collect(result: Result, sim: Sim) -> None:
    """Add one execution to the totals."""
    for site, count in sim.sites.items():
        result.sites[site] = result.sites.get(site, 0) + count
    for note in sim.notes:
        key = " ".join(part for part in note.signature if part)
        result.notes[key] = result.notes.get(key, 0) + 1
    result.points = max(result.points, sim.points)
    result.operations += sim.steps
    result.results = {name: one.results for name, one in sim.machine.threads.items() if one.results}
