"""Search: run a scenario under one schedule after another until a finding.

Everything happens in `sim`, in this process. A finding's schedule is shortened before it is shown
(cluster/search/minimize.py), so that the schedule fits a token.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from time import monotonic
from typing import NamedTuple

from cluster.boot import prepare
from cluster.runs.outcome import Outcome
from cluster.runs.replay import continued, replay
from cluster.runs.token import Token, token_of
from cluster.search import make
from cluster.search.classes import Classes
from cluster.search.dpor import Optimal
from cluster.search.minimize import minimize
from cluster.search.near import Site
from cluster.search.strategy import DefaultFirst, SearchOver, Strategy, Systematic
from cluster.sim.engine import Sim, seldom_collected
from shared.findings import UNEXPECTED, Finding
from shared.journal.deviation import Deviation
from shared.journal.record import Journals
from shared.scenario.model import Results, Scenario


@dataclass(frozen=True, slots=True)
class Coverage:
    """The classes that a systematic search has seen, since the points were known.

    Attributes:
        exhausted: everything within its bound.
        classes: of executions, that it has told apart.
        redundant: executions that have shown nothing new.
        endless: executions that were ended because they had all operations that they may have.
        estimated: about how many classes there are, if there are more and the strategy can tell.
    """

    exhausted: bool
    classes: int
    redundant: int
    endless: int
    estimated: float | None = None


@dataclass
class Account:
    """The numbers that executions add to the totals of a search.

    Attributes:
        schedules: executions performed, minimization not counted.
        sites: erratum -> how often its site was reached, over all executions.
        notes: signatures of findings that do not end the search, with their number: those that `detect` only
            notes, and results that the scenario does not expect.
        points: scheduling points of the longest execution.
        operations: of all executions.
        endless: executions that were ended because they had all operations that they may have.
    """

    schedules: int = 0
    sites: dict[str, int] = field(default_factory=dict)
    notes: dict[str, int] = field(default_factory=dict)
    points: int = 0
    operations: int = 0
    endless: int = 0

    def add(self, sim: Sim) -> None:
        """Add its last execution."""
        self.schedules += 1
        noted = [*sim.notes, *([sim.finding] if sim.finding is not None and sim.finding.kind == UNEXPECTED else [])]
        for note in noted:
            signature = " ".join(part for part in note.signature if part)
            self.notes[signature] = self.notes.get(signature, 0) + 1
        _count(self.sites, sim.sites)
        self.points = max(self.points, sim.points)
        self.operations += sim.steps
        self.endless += sim.execution.ended

    def join(self, other: Account) -> None:
        """Add the executions of another account."""
        self.schedules += other.schedules
        _count(self.notes, other.notes)
        _count(self.sites, other.sites)
        self.points = max(self.points, other.points)
        self.operations += other.operations
        self.endless += other.endless


def _count(counts: dict[str, int], others: Mapping[str, int]) -> None:
    for name, count in others.items():
        counts[name] = counts.get(name, 0) + count


@dataclass(kw_only=True)
class Exploration(Account):
    """The outcome of an exploration.

    Attributes:
        sim: as the last execution left it.
        racy: fields that became scheduling points on the way.
        outcome: of the execution with the finding, recorded, its schedule shortened; None: there was none.
        seen: its finding as the unrecorded execution had it.
        results: of the programs in that execution, or in the last one.
        found_at: number of the execution that had the finding, from 1.
        raw_deviations: how many the finding's schedule had before it was shortened.
        by: name of each strategy that chose -> its executions.
        classes: happens-before classes of the executions, if they were counted.
        coverage: what a systematic strategy has seen.
    """

    scenario: Scenario
    strategy: str
    seed: int
    sim: Sim = field(repr=False)
    racy: set[str]
    seconds: float = 0.0
    outcome: Outcome | None = None
    seen: Finding | None = None
    found_at: int = 0
    raw_deviations: int = 0
    results: Results = field(default_factory=dict)
    by: dict[str, int] = field(default_factory=dict)
    classes: Classes | None = field(default=None, repr=False)
    interrupted: bool = False
    coverage: Coverage | None = None

    @property
    def finding(self) -> Finding | None:
        return None if self.outcome is None else self.outcome.finding

    @property
    def token(self) -> Token | None:
        """Of the finding's schedule, if it was shortened."""
        return None if self.outcome is None else self.outcome.token

    @property
    def deviations(self) -> list[Deviation]:
        """Those of the finding's schedule from the default one."""
        return [] if self.outcome is None else self.outcome.deviations


class Behind(NamedTuple):
    """A search of the executions that begin with the first operations of a run.

    Attributes:
        journals: of these operations.
        then: who chooses behind them, as `explore` takes it.
    """

    journals: Journals
    then: str | Strategy | None = None


Progress = Callable[[Exploration], bool | None]
#: seconds between two looks at how it goes
LOOK_S = 0.1


def explore(
    scenario: Scenario,
    strategy: str | Strategy | Behind | None = None,
    seed: int = 0,
    schedules: int | None = None,
    granularity: str = "guarded",
    progress: Progress | None = None,
) -> Exploration:
    """Run `scenario` under many schedules, up to the first finding, whose schedule is shortened and gets a token.

    Results that the scenario does not expect are a finding too, but the search continues to its bound: a finding of the
    kernel's, which a later schedule may have, says more. Without one, the first such results are what was found.

    Args:
        strategy: its name, or the object; default: that of the scenario's bound. Behind: after a beginning.
        seed: of a strategy that is named; the same seed gives the same search.
        schedules: at most this many; default: the scenario's bound.
        progress: called about ten times a second; the search is over if it returns True. For it, happens-before
            classes are counted, which otherwise only a strategy asks for that learns.
    """
    result = search(scenario, strategy, seed, schedules, granularity, progress)
    if result.outcome is not None:
        followed = isinstance(strategy, Behind)  # and what was followed may have been switched at any access
        shorten(result, Sim(*prepare(scenario), granularity="access") if followed else result.sim)
    return result


class Looks:
    """The time that a search has taken, and who is told, now and then, how it goes.

    Args:
        progress: see explore().
    """

    def __init__(self, result: Exploration, progress: Progress | None):
        self.result, self.progress = result, progress
        self.began = self.last = monotonic()

    def stop(self) -> bool:
        """After an execution, or a batch of them: is the search to be over?"""
        now = monotonic()
        if self.progress is None or now - self.last <= LOOK_S:
            return False
        self.last = now
        self.result.seconds = now - self.began
        return bool(self.progress(self.result))

    def end(self) -> None:
        """The search is over."""
        self.result.seconds = monotonic() - self.began


@seldom_collected()
def search(
    scenario: Scenario,
    strategy: str | Strategy | Behind | None = None,
    seed: int = 0,
    schedules: int | None = None,
    granularity: str = "guarded",
    progress: Progress | None = None,
) -> Exploration:
    """The same as explore(), without shortening the schedule: there is no token."""
    behind = strategy.journals if isinstance(strategy, Behind) else None
    strategy = (strategy.then if isinstance(strategy, Behind) else strategy) or scenario.bound.strategy
    then = strategy
    if isinstance(then, str):
        then = make(then, seed, scenario.bound.depth, [Site(erratum.split(".")[0]) for erratum in scenario.own_errata])
    systematic = then if isinstance(then, Systematic) else None
    first: Strategy = then if systematic is not None or then.sees_all() else DefaultFirst(then)
    counted = None
    if then.learns() or (progress is not None and first is not then):
        counted = Classes(first)
    chooser: Strategy = counted or first
    limit = scenario.bound.schedules if schedules is None else schedules
    racy: set[str] = set()
    known = ended = 0
    over = False
    sim = Sim(*prepare(scenario), racy, "access" if then.sees_all() else granularity)
    if behind is not None:
        chooser = continued(sim.machine, behind, chooser)
    name = strategy if isinstance(strategy, str) else type(strategy).__name__
    result = Exploration(scenario=scenario, strategy=name, seed=seed, sim=sim, racy=racy, classes=counted)
    looks = Looks(result, progress)
    try:
        while result.schedules < limit:
            try:
                finding = sim.execute(chooser)
            except SearchOver:
                over = True
                break
            result.add(sim)
            if len(racy) > known:
                known = len(racy)
                chooser.grown()
            ended = 0 if systematic is None else systematic.executions  # one that is interrupted does not count
            if result.finding is None:
                result.results = sim.results
            chose = first.turn() or name
            result.by[chose] = result.by.get(chose, 0) + 1
            if counted is not None:
                first.reward(counted.count(), finding is not None)
            if finding is not None and (result.finding is None or finding.kind != UNEXPECTED):
                finding = adopt(result, finding, sim.deviations, sim.results)
            if finding is not None and finding.kind != UNEXPECTED:
                break
            if looks.stop():
                break
        else:
            over = systematic is not None and not chooser.new_execution()
    except KeyboardInterrupt:
        result.interrupted = True
    if systematic is not None:
        classes = ended - systematic.redundant
        expected = systematic.expected() if isinstance(systematic, Optimal) and not over else None
        result.coverage = Coverage(over and not result.endless, classes, systematic.redundant, result.endless, expected)
    looks.end()
    return result


def adopt(result: Exploration, approximate: Finding, deviations: list[Deviation], results: Results) -> Finding | None:
    """The finding of the last execution, as that execution has it when it is recorded.

    An unrecorded execution is approximate; what a recorded one of the same schedule tells is so.
    """
    recorded = replay(result.scenario, deviations)
    if recorded.finding is not None:
        recorded.deviations = deviations
        result.outcome, result.seen, result.found_at = recorded, approximate, result.schedules
        result.raw_deviations, result.results = len(deviations), results
    return recorded.finding


def shorten(result: Exploration, sim: Sim) -> None:
    """Replace the finding's schedule by a shorter schedule that has a finding of the same signature, and make its
    token.

    Args:
        sim: that runs the shorter schedules.
    """
    assert result.outcome is not None and result.seen is not None
    raw = shortened = result.outcome.deviations
    try:
        shortened = minimize(sim, result.seen, raw)
    except KeyboardInterrupt:  # what was found is not lost: the schedule is only longer
        result.interrupted = True
    again = replay(result.scenario, shortened)
    if again.finding is None:
        shortened, again = raw, replay(result.scenario, raw)
    again.deviations, again.token = shortened, token_of(result.scenario, shortened)
    result.outcome, result.results = again, again.results
