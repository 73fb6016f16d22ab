"""The window of a preemption: between which two operations of a context another context must run for a finding.

A shortened schedule says that B preempts A after operation 12. The preemption may as well come after operation 11 or
15. This module moves the preemption to earlier and to later operations of A as long as the finding stays, and so gets
two pairs of executions that differ in a single operation of A: behind it there is a finding, before it there is none,
or the other way round. The defect needs another context between these two operations.

Left out: choices of data, and contexts that run because another context has to wait; these have no other place.
"""

from __future__ import annotations

from dataclasses import dataclass

from cluster.boot import prepare
from cluster.runs.outcome import Outcome
from cluster.runs.replay import recorded
from cluster.search.deviate import Deviate
from cluster.sim.engine import Sim
from shared.findings import Finding
from shared.journal.deviation import Deviation
from shared.scenario.model import Scenario

#: operations by which a preemption is moved at most, in either direction
FARTHEST = 64


@dataclass(frozen=True)
class Window:
    """Where a preemption may be.

    Attributes:
        deviation: the preemption, as the schedule has it.
        first, last: it may come after these operations of the context, and those between them, with the same finding.
        opens: the execution where it comes one operation earlier and has no such finding; None: it was not found, since
            the context cannot be preempted there, or since no operation within reach makes a difference.
        closes: the same, one operation later.
    """

    deviation: Deviation
    first: int
    last: int
    opens: Outcome | None
    closes: Outcome | None


def windows(
    scenario: Scenario, finding: Finding, deviations: list[Deviation], farthest: int = FARTHEST
) -> list[Window]:
    """The windows of a schedule's preemptions, in the schedule's order.

    Args:
        finding: what the schedule ends with; its signature makes a finding the same.
        deviations: of the schedule, shortened: without one of them there is no such finding.
        farthest: operations by which a preemption is moved at most, in either direction.
    """
    sim = Sim(*prepare(scenario), granularity="access")
    return [
        _window(sim, finding, deviations, at, farthest)
        for at, deviation in enumerate(deviations)
        if deviation.kind == "point"
    ]


def _window(sim: Sim, finding: Finding, deviations: list[Deviation], at: int, farthest: int) -> Window:
    deviation = deviations[at]
    first, opens = _moved(sim, finding, deviations, at, -1, farthest)
    last, closes = _moved(sim, finding, deviations, at, 1, farthest)
    return Window(deviation, first, last, opens, closes)


def _moved(
    sim: Sim, finding: Finding, deviations: list[Deviation], at: int, step: int, farthest: int
) -> tuple[int, Outcome | None]:
    """Move a preemption by one operation after another.

    Returns: the last place where the finding is the same, and the execution without it at the next place.
    """
    number = deviations[at].n
    for moved in range(number + step, number + step * (farthest + 1), step):
        if moved < 1:
            break
        candidate = [*deviations[:at], deviations[at]._replace(n=moved), *deviations[at + 1 :]]
        strategy = Deviate(candidate, strict=False)
        shown = sim.execute(strategy, record=True)
        if strategy.taken <= at:
            break  # it cannot be preempted there
        if shown is None:
            return moved - step, recorded(sim)
        if shown.signature != finding.signature:
            break
    else:
        moved = number + step * (farthest + 1)
    return moved - step, None
