"""Speeds, and how soon defects are found: what is measured, and that many CPUs cost no more."""

from __future__ import annotations

from time import perf_counter

import pytest

from cluster.measure import measure
from cluster.sim import Sim
from cluster.strategies import Stay
from tests.bench.forks import engine
from tests.kit import scenario


def test_measures_speed_and_every_search() -> None:
    told: list[str] = []
    found = measure(scenario("E45"), range(3), seconds=0.0, progress=told.append)
    assert found.operations_per_second > found.schedules_per_second > 0
    assert found.operations == pytest.approx(found.operations_per_second / found.schedules_per_second)
    assert found.found_at == {"pct": [1, 1, 1], "random": [1, 1, 1]}  # it is no race: the first execution shows it
    assert found.median("pct") == 1
    assert told == ["speed", *(f"{one}, seed {seed}" for one in ("pct", "random") for seed in range(3))]


def test_the_median_is_none_if_half_of_the_searches_were_given_up() -> None:
    found = measure(scenario("S3a-shipped"), range(1), limit=1, seconds=0.0)
    assert found.found_at == {"pct": [None], "random": [None]} and found.median("pct") is None
    found.found_at["pct"] = [3, 1, None, 2]
    found.limit = 5
    assert found.median("pct") == 2
    found.found_at["pct"] = [3, None, None]
    assert found.median("pct") is None


def test_a_scenario_without_a_defect_has_no_searches() -> None:
    assert measure(scenario("litmus-mp"), range(2), seconds=0.0).found_at == {}


def test_an_operation_costs_the_same_on_sixteen_cpus() -> None:
    """The work of each CPU is the same on 2 and on 16. Measured 1.0; here the best of three, in one run."""
    engines = {cpus: engine(cpus) for cpus in (2, 16)}
    cost = {cpus: min(_cost(engines[cpus], cpus) for _ in range(3)) for cpus in (2, 16)}
    assert cost[16] < 1.6 * cost[2]


def _cost(sim: Sim, cpus: int) -> float:
    """Seconds per operation."""
    began, operations = perf_counter(), 0
    for _ in range(16 // cpus):
        assert sim.execute(Stay()) is None
        operations += sim.steps
    return (perf_counter() - began) / operations
