"""Shortening a schedule: shorter, never another finding, and never longer than it was."""

from __future__ import annotations

import pytest

from cluster.boot import prepare
from cluster.search.follow import Deviate
from cluster.search.minimize import minimize
from cluster.search.walk import RandomWalk
from cluster.sim.engine import Sim
from shared.port.port import here, panic
from tests.kit import OTHER, THING, Toy, scenario, things


def crosswise(first: object, second: object) -> None:
    for _ in range(5):  # noise: operations that decide nothing
        here.port.wakeup(THING.addressof("h"))
    first.lock()  # type: ignore[attr-defined]
    second.lock()  # type: ignore[attr-defined]
    second.unlock()  # type: ignore[attr-defined]
    first.unlock()  # type: ignore[attr-defined]


def deadlocking() -> Toy:
    bodies = {"A": (0, lambda: crosswise(THING.lk, OTHER.lk)), "B": (1, lambda: crosswise(OTHER.lk, THING.lk))}
    return Toy(things, bodies, {"lockorder": "off"})


def test_a_deadlock_needs_a_single_deviation() -> None:
    """A takes one lock, B both: that is all there is to say, whatever the random walk did besides."""
    toy = deadlocking()
    found = toy.search()
    assert found is not None
    before = toy.sim.deviations
    short = minimize(toy.sim, found, before)
    assert len(short) == 1 < len(before)
    assert toy.sim.finding is not None and toy.sim.finding.signature == found.signature


@pytest.mark.parametrize("seed", range(4))
def test_what_is_left_of_a_real_race_still_finds_it(seed: int) -> None:
    """`sim` has run the shortened schedule last, so its state is the finding's."""
    machine, image = prepare(scenario("S3a-shipped"))
    sim = Sim(machine, image)
    walk = RandomWalk(seed)
    found = next(found for found in (sim.execute(walk) for _ in range(500)) if found is not None)
    before = sim.deviations
    short = minimize(sim, found, before)
    assert len(short) <= 3 < len(before)
    assert sim.deviations == short
    strict = Deviate(short)
    again = sim.execute(strict)
    strict.finish()
    assert again is not None and again.signature == found.signature


def test_a_shorter_schedule_with_another_finding_is_not_taken() -> None:
    """Without its deviation this machine panics elsewhere, and that is another story."""

    def breaks(text: str) -> None:
        here.port.enter(text)
        panic(text)

    def first() -> None:
        breaks("late" if THING.h else "early")

    def second() -> None:
        THING.h = 1
        THING.h = 1

    toy = Toy(things, {"A": (0, first), "B": (1, second)}, {"race": "off"})
    found = toy.search()
    while found is None or found.function != "late":
        found = toy.search(seed=len(toy.sim.deviations) + 1)
    short = minimize(toy.sim, found, toy.sim.deviations)
    assert len(short) == 1
    assert toy.sim.finding is not None and toy.sim.finding.function == "late"


def test_the_budget_bounds_the_executions() -> None:
    """A schedule of thousands of deviations must not take minutes."""
    toy = deadlocking()
    found = toy.search(seed=5)
    assert found is not None
    executions = 0
    execute = toy.sim.execute

    def counted(*args: object, **options: object) -> object:
        nonlocal executions
        executions += 1
        return execute(*args, **options)  # type: ignore[arg-type]

    toy.sim.execute = counted  # type: ignore[method-assign, assignment]
    minimize(toy.sim, found, toy.sim.deviations, budget=4)
    assert executions <= 5


def test_the_empty_schedule_stays_empty() -> None:
    machine, image = prepare(scenario("S3a"))
    sim = Sim(machine, image)
    from cluster.search.strategy import Stay

    found = sim.execute(Stay())
    assert found is not None and minimize(sim, found, []) == []
