"""Runs a program under several strategies, and reports failures.

A run fails if it ends with a finding (all detectors stop), with a result that the plain model excludes, or with an
error of uvmp itself. A recorded replay of its schedule must also have no finding, the same results, and the same digest
each time; and the oracle and the race detector must find nothing in the journals.
"""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from cluster.boot import prepare
from cluster.fuzz.observe import Observed, Sight
from cluster.fuzz.plain import Wrong, unlike
from cluster.runs.replay import replay
from cluster.runs.token import Token, token_of
from cluster.search import make
from cluster.search.deviate import Deviate
from cluster.search.minimize import minimize
from cluster.search.near import Near, Site
from cluster.search.strategy import Strategy
from cluster.sim.engine import Sim, seldom_collected
from shared.detectors.oracle import judge_journals
from shared.errors import Diverged, UserMistake
from shared.findings import Finding
from shared.journal.deviation import Deviation
from shared.patch import current
from shared.scenario.model import Scenario

#: strategy -> executions
SCHEDULES = {"stay": 1, "random": 3, "pct": 3}
DEPTH = 3


@dataclass
class Failure:
    """A failure of a program.

    Attributes:
        kind: of the finding; or "result", "error" (of uvmp's own), "setup", "diverged".
        what: the finding's function and kind of object; the step.
        strategy, number: which execution it was, of those under this strategy, from 1.
        deviations: its schedule.
        wrong: the result, if it is one.
    """

    kind: str
    what: str
    text: str
    strategy: str = "stay"
    number: int = 1
    deviations: list[Deviation] = field(default_factory=list)
    finding: Finding | None = None
    wrong: Wrong | None = None

    @property
    def signature(self) -> tuple[str, str]:
        """Two failures with this value are the same."""
        return self.kind, self.what

    def __str__(self) -> str:
        return f"{self.kind} ({self.strategy}, execution {self.number}): {self.text}"


@dataclass
class Seen:
    """The sights of executions.

    Attributes:
        sights: of how contexts met.
        sites: erratum -> executions that came to its site.
        visited: functions at which "near" was aimed, and to which executions came.
    """

    sights: set[Sight] = field(default_factory=set)
    sites: Counter[str] = field(default_factory=Counter)
    visited: set[str] = field(default_factory=set)

    def arrived(self, errata: Iterable[str]) -> bool:
        """Has an execution come to what is being tested: the site of one of the errata, or a function of the patch?"""
        patch = current()
        functions = set() if patch is None else self.visited & patch.replaced.keys()
        return bool(functions) or any(self.sites[erratum] for erratum in errata)


def targets(scenario: Scenario) -> list[Site]:
    """Where preemptions are placed: in the functions of the errata switched on, and in those of the patch."""
    patch = current()
    functions = [erratum.split(".")[0] for erratum in scenario.errata]
    functions += [] if patch is None else [name for name in patch.replaced if "." not in name]
    return [Site(function) for function in dict.fromkeys(functions)]


@seldom_collected()
def judge(
    scenario: Scenario,
    seed: int,
    schedules: dict[str, int] | None = None,
    replayed: Sequence[str] = (),
    tally: Counter[str] | None = None,
    seen: Seen | None = None,
) -> Failure | None:
    """Run a scenario until something must not be; None: all is well.

    Args:
        seed: of the strategies.
        schedules: strategy -> executions; None: SCHEDULES. "near" is aimed at targets().
        replayed: strategies of which the last execution is replayed as well.
        tally: counts the executions by strategy, and "replay".
        seen: gets what the executions show; None: the caller does not need that.
    """
    tally = Counter() if tally is None else tally
    try:
        machine, image = prepare(scenario)
    except UserMistake as mistake:
        return Failure("setup", mistake.field or "", str(mistake))
    except Exception as error:
        return _crash(error)
    sim: Sim
    if seen is None:
        sim = Sim(machine, image)
    else:
        sim = observed = Observed(machine, image)
        observed.sights = seen.sights
    for name, times in (SCHEDULES if schedules is None else schedules).items():
        sites = targets(scenario) if name == "near" else []
        strategy = make("pct" if name == "near" and not sites else name, seed, DEPTH, sites)
        for number in range(1, times + 1):
            tally[name] += 1
            failure = _execute(sim, strategy)
            if seen is not None:
                seen.sites.update(site for site, count in sim.sites.items() if count)
            if failure is None and number == times and name in replayed:
                tally["replay"] += 1
                failure = _replay(scenario, sim)
            if failure is not None:
                failure.strategy, failure.number, failure.deviations = name, number, list(sim.deviations)
                return failure
        if seen is not None and isinstance(strategy, Near):
            seen.visited.update(site.function for site, most in strategy.most.items() if most)
    return None


def _execute(sim: Sim, strategy: Strategy) -> Failure | None:
    """One execution."""
    try:
        finding = sim.execute(strategy)
    except Exception as error:
        return _crash(error)
    if finding is not None:
        return _failure(finding)
    wrong = unlike(sim.machine.scenario, sim.results)
    return None if wrong is None else Failure("result", wrong.text.split(":")[0].split()[1], wrong.text, wrong=wrong)


def _replay(scenario: Scenario, sim: Sim) -> Failure | None:
    """The execution that `sim` has just run, twice again."""
    results = sim.results
    try:
        once, again = (replay(scenario, list(sim.deviations)) for _ in range(2))
    except Diverged as error:
        return Failure("diverged", "replay", str(error))
    except Exception as error:
        return _crash(error)
    if once.finding is not None:
        return _failure(once.finding)
    if once.results != results:
        return Failure("diverged", "results", "the replay's results are others")
    if once.digest != again.digest:
        return Failure("diverged", "digest", f"replayed twice: digests {once.digest} and {again.digest}")
    finding = judge_journals(scenario, once.journals)
    return None if finding is None else _failure(finding)


def _failure(finding: Finding) -> Failure:
    kind, function, subject = finding.signature
    return Failure(kind, f"{function} {subject}", finding.text, finding=finding)


def _crash(error: Exception) -> Failure:
    place = traceback.extract_tb(error.__traceback__)[-1]
    return Failure("error", f"{type(error).__name__} in {place.name}", "".join(traceback.format_exception(error)))


def confirmed(scenario: Scenario, failure: Failure) -> Token | None:
    """The token of the failure's schedule, shortened if it has a finding, which must be seen when that is recorded.

    Returns: None if it is not: an execution that is not recorded is approximate.
    """
    deviations = failure.deviations
    if failure.finding is None:
        return token_of(scenario, deviations)
    sim = Sim(*prepare(scenario), granularity="access")  # fields may have become racy on the way to this schedule
    shorter = minimize(sim, failure.finding, deviations) if _again(sim, failure) else deviations
    for schedule in (shorter, deviations):
        finding = replay(scenario, schedule).finding
        if finding is not None and finding.signature == failure.finding.signature:
            return token_of(scenario, schedule)
    return None


def _again(sim: Sim, failure: Failure) -> bool:
    """Does the failure's schedule have its finding again?"""
    finding = sim.execute(Deviate(failure.deviations, strict=False))
    return finding is not None and failure.finding is not None and finding.signature == failure.finding.signature
