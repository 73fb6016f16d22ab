"""Speeds, and how soon defects are found: what is measured, and that many CPUs cost no more."""

from __future__ import annotations

from itertools import count
from statistics import fmean
from time import process_time

import pytest

from cluster.boot import prepare
from cluster.search import SEARCHING, make
from cluster.search.explore import search
from cluster.search.measure import LEAST_EXECUTIONS, measure
from cluster.search.strategy import Stay
from cluster.sim.engine import Sim
from tests.bench.forks import engine
from tests.kit import scenario


def test_measures_speed_and_every_search() -> None:
    told: list[str] = []
    measured = measure(scenario("E45"), range(3), seconds=0.0, progress=told.append)
    assert measured.operations_per_second > measured.schedules_per_second > 0 and measured.scenario.id == "E45"
    assert measured.operations_per_second / measured.schedules_per_second == pytest.approx(measured.operations)
    assert measured.found_at == {name: [1, 1, 1] for name in SEARCHING}  # not a race: the first execution shows it
    assert measured.median("pct") == 1
    assert told == ["speed", *(f"{name}, seed {seed}" for name in SEARCHING for seed in range(3))]


def test_speeds_are_of_as_many_executions_as_the_time_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that continues by an eighth of a second whenever it is read: ten executions, and two more."""
    reads = count(8000)
    monkeypatch.setattr("cluster.search.measure.perf_counter", lambda: next(reads) / 8)
    measured = measure(scenario("litmus-mp"), (), seconds=3 / 8)
    assert measured.schedules_per_second == (LEAST_EXECUTIONS + 2) / (4 / 8)


def test_operations_are_those_of_an_execution_of_the_repaired_kernel() -> None:
    """On average, of as many executions; the first of all, which only finds the racy fields, is not one of them."""
    scene = scenario("S3a")
    measured = measure(scene, (), seconds=0.0)
    sim = Sim(*prepare(scene.without_errata()))
    strategy = make(scene.bound.strategy, 0, scene.bound.depth)
    steps = []
    for _ in range(1 + LEAST_EXECUTIONS):
        assert sim.execute(strategy) is None
        steps.append(sim.steps)
    assert measured.operations == fmean(steps[1:])


def test_the_median_is_none_if_half_of_the_searches_were_given_up() -> None:
    measured = measure(scenario("S3a-shipped"), range(1), limit=1, seconds=0.0)
    assert measured.found_at == {name: [None] for name in SEARCHING} and measured.median("pct") is None
    measured.found_at["pct"] = [3, 1, None, 2]
    measured.limit = 5
    assert measured.median("pct") == 2
    measured.limit = 2  # at which it was not given up yet
    assert measured.median("pct") == 2
    measured.limit = 5
    measured.found_at["pct"] = [3, None, None]
    assert measured.median("pct") is None


def test_a_search_is_the_one_that_explore_makes_of_this_strategy_and_seed() -> None:
    scene = scenario("S3a-shipped")
    measured = measure(scene, range(2), seconds=0.0)
    for strategy, counts in measured.found_at.items():
        assert counts == [search(scene, strategy, seed, measured.limit).found_at for seed in range(2)]
    assert measured.found_at["pct"] != measured.found_at["random"] and measured.limit == scene.bound.schedules


def test_a_scenario_without_a_defect_has_no_searches() -> None:
    assert measure(scenario("litmus-mp"), range(2), seconds=0.0).found_at == {}


@pytest.mark.long
def test_an_operation_costs_the_same_on_sixteen_cpus() -> None:
    """The work of each CPU is the same on 2 and on 16. Measured 1.0.

    Time of the processor, not of the clock; each ratio is of two runs one after the other, and the best of five counts:
    what disturbs would have to disturb the second run of each pair.
    """
    engines = {cpus: engine(cpus) for cpus in (2, 16)}
    ratios = []
    for _ in range(5):
        few = _cost(engines[2], 2)
        ratios.append(_cost(engines[16], 16) / few)
    assert min(ratios) < 1.6, ratios


def _cost(sim: Sim, cpus: int) -> float:
    """Processor time per operation, in seconds."""
    began, operations = process_time(), 0
    for _ in range(16 // cpus):
        assert sim.execute(Stay()) is None
        operations += sim.steps
    return (process_time() - began) / operations
