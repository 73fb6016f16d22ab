"""The fewest preemptions that a finding needs: proved by a search of every schedule with fewer.

Shortening a schedule (minimize.py) removes the deviations of that schedule that the finding does not need; another
schedule may need less. So all classes without a preemption are searched, then those with one, and so on, below the
number that the shortened schedule has (bounded.py). The first with the same finding has the fewest; if there is none,
the schedule had.

Left out: schedules in which fields are racy that no execution of this search has seen unguarded.
"""

from __future__ import annotations

from dataclasses import dataclass

from cluster.boot import prepare
from cluster.runs.replay import replay
from cluster.search.minimize import minimize
from cluster.search.preemptions import Preemptions
from cluster.search.strategy import SearchOver
from cluster.sim.engine import Sim, seldom_collected
from shared.findings import Finding
from shared.journal.deviation import Deviation
from shared.scenario.model import Scenario


@dataclass(frozen=True)
class Fewest:
    """The number of preemptions that a finding needs, as far as it is known.

    Attributes:
        preemptions: with so many it is to be had.
        deviations: of a schedule with as many.
        least: with fewer than that it is not to be had: all of these have been tried. The same number: it is proved.
        classes: of executions without it that were seen. schedules: that were tried for that.
    """

    preemptions: int
    deviations: list[Deviation]
    least: int
    classes: int
    schedules: int

    @property
    def proved(self) -> bool:
        return self.least == self.preemptions


@seldom_collected()
def fewest(scenario: Scenario, finding: Finding, deviations: list[Deviation], schedules: int = 500) -> Fewest:
    """Search below a schedule.

    Args:
        finding: what the schedule ends with; its signature makes a finding the same.
        deviations: of the schedule, shortened.
        schedules: to be tried at most.
    """
    most = sum(deviation.kind == "point" for deviation in deviations)
    if not most:
        return Fewest(0, deviations, 0, 0, 0)
    sim, strategy = Sim(*prepare(scenario), set()), Preemptions(most - 1)
    for tried in range(schedules):
        known = len(sim.racy)
        try:
            shown = sim.execute(strategy)
        except SearchOver:
            return Fewest(most, deviations, most, strategy.executions - strategy.redundant, tried)
        if shown is not None and _same(scenario, sim, shown, finding):
            bound, shorter = strategy.bound, minimize(sim, shown, sim.deviations)
            return Fewest(bound, shorter, bound, strategy.executions - strategy.redundant - 1, tried + 1)
        if len(sim.racy) > known:
            strategy.grown()
    return Fewest(most, deviations, strategy.bound, strategy.executions - strategy.redundant, schedules)


def _same(scenario: Scenario, sim: Sim, shown: Finding, finding: Finding) -> bool:
    """Is it that finding? What an execution finds that is not recorded is only approximate."""
    if shown.signature == finding.signature:
        return True
    recorded = replay(scenario, sim.deviations).finding
    return recorded is not None and recorded.signature == finding.signature
