"""How fast a scenario runs in `sim`, and how soon each strategy finds its defect.

Speeds are those of the repaired kernel under the scenario's own strategy, so that
every execution runs to its end. A search counts executions until the first
finding, whether or not the scenario expects it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from statistics import median_low
from time import perf_counter

from cluster.boot import prepare
from cluster.search import SEARCHING, make
from cluster.search.explore import search
from cluster.sim.engine import Sim, seldom_collected
from shared.scenario.model import Scenario

LEAST_EXECUTIONS = 10


@dataclass(slots=True)
class Measured:
    """The measured values of one scenario.

    Attributes:
        operations_per_second, schedules_per_second: of the repaired kernel.
        operations: of one execution, on average.
        found_at: strategy -> for each seed, the number of the first execution with a finding, or None. Without
            strategies if the scenario expects no finding: its defect shows in results alone, or it has none.
        limit: executions after which a search was given up.
    """

    scenario: Scenario
    operations_per_second: float
    schedules_per_second: float
    operations: float
    limit: int
    found_at: dict[str, list[int | None]] = field(default_factory=dict)

    def median(self, strategy: str) -> int | None:
        """Median of the executions that a strategy needs; None if half of the searches or more were given up."""
        middle = median_low(
            [self.limit + 1 if schedules is None else schedules for schedules in self.found_at[strategy]]
        )
        return None if middle > self.limit else middle


def measure(
    scenario: Scenario,
    seeds: Iterable[int],
    limit: int | None = None,
    seconds: float = 0.5,
    progress: Callable[[str], None] = lambda what: None,
) -> Measured:
    """Measure one scenario.

    Args:
        seeds: each is one search with each strategy.
        limit: executions of a search; None: the scenario's bound.
        seconds: how long to measure speeds, at least.
        progress: told what is measured next.
    """
    most = scenario.bound.schedules if limit is None else limit
    progress("speed")
    operations, executions, took = _speed(scenario.without_errata(), seconds)
    measured = Measured(scenario, operations / took, executions / took, operations / executions, most)
    wanted = scenario.expect.with_errata
    if wanted is None or wanted.findings:
        for strategy in SEARCHING:
            counts = measured.found_at[strategy] = []
            for seed in seeds:
                progress(f"{strategy}, seed {seed}")
                result = search(scenario, strategy, seed, most)
                if result.interrupted:
                    raise KeyboardInterrupt
                counts.append(result.found_at if result.finding is not None else None)
    return measured


@seldom_collected()
def _speed(scenario: Scenario, seconds: float) -> tuple[int, int, float]:
    """(operations, executions, seconds)."""
    machine, image = prepare(scenario)
    sim = Sim(machine, image)
    strategy = make(scenario.bound.strategy, 0, scenario.bound.depth)
    sim.execute(strategy)  # finds the racy fields
    operations = executions = 0
    began = perf_counter()
    while executions < LEAST_EXECUTIONS or perf_counter() - began < seconds:
        sim.execute(strategy)
        operations += sim.steps
        executions += 1
    return operations, executions, perf_counter() - began
