"""The fewest preemptions of a finding: a schedule with as many, and the proof that fewer are not enough."""

from __future__ import annotations

import pytest

from cluster.api import Program
from cluster.cli.minimize import _needs
from cluster.search.explore import search
from cluster.search.fewest import Fewest, fewest
from cluster.search.walk import RandomWalk
from shared.findings import Finding
from shared.journal.deviation import Deviation
from shared.scenario.model import Scenario
from tests.cluster.programs import FIRST, add_in_two_parts, first_then_second, second_then_first, setup


def add_twice() -> None:
    add_in_two_parts()
    add_in_two_parts()


def check_four() -> None:
    assert FIRST.value == 4, "an update is lost"


def sees_it_come_and_go() -> None:
    before, during, behind = FIRST.value, FIRST.value, FIRST.value
    assert (before, during, behind) != (0, 1, 0), "it came and went"


def comes_and_goes() -> None:
    FIRST.value = 1
    FIRST.value = 0


PROGRAMS: dict[str, tuple[Program, int]] = {
    "deadlock": (Program(setup, [first_then_second, second_then_first], None, {"lockorder": "off"}), 1),
    "lost update": (Program(setup, [add_twice, add_twice], check_four), 1),
    "it came and went": (Program(setup, [sees_it_come_and_go, comes_and_goes], None, {"race": "off"}), 3),
}


def failing(program: Program) -> tuple[Scenario, Finding, list[Deviation]]:
    """A schedule of a random walk, with all its deviations."""
    scenario = program.scenario()
    for seed in range(20):
        result = search(scenario, RandomWalk(seed), schedules=500)
        if result.finding is not None and sum(deviation.kind == "point" for deviation in result.deviations) > 3:
            return scenario, result.finding, result.deviations
    raise AssertionError("no random walk has had it with many preemptions")


@pytest.mark.parametrize("name", PROGRAMS)
def test_another_schedule_needs_fewer_preemptions_and_none_needs_less_than_that(name: str) -> None:
    program, needs = PROGRAMS[name]
    scenario, finding, deviations = failing(program)
    known = fewest(scenario, finding, deviations)
    assert known.preemptions == known.least == needs < len(deviations) and known.proved
    assert sum(deviation.kind == "point" for deviation in known.deviations) == needs
    again = fewest(scenario, finding, known.deviations)
    assert again.deviations == known.deviations and again.proved, "it is proved again, by what does not have it"


@pytest.mark.parametrize(("schedules", "least"), [(1, 0), (20, 2)])
def test_what_was_not_searched_is_not_proved(schedules: int, least: int) -> None:
    scenario, finding, deviations = failing(PROGRAMS["it came and went"][0])
    known = fewest(scenario, finding, deviations, schedules)
    assert known.deviations == deviations and not known.proved and known.schedules == schedules
    assert known.least == least


def test_the_default_schedule_needs_none() -> None:
    scenario, finding, _ = failing(PROGRAMS["deadlock"][0])
    assert fewest(scenario, finding, []) == Fewest(0, [], 0, 0, 0)


@pytest.mark.parametrize(
    ("known", "told"),
    [
        (Fewest(0, [], 0, 0, 0), "the finding needs 0 preemptions"),
        (Fewest(1, [], 1, 3, 9), "the finding needs 1 preemption: no schedule with fewer has it (exhausted)"),
        (
            Fewest(2, [], 1, 3, 9),
            "the finding needs at most 2 preemptions, and at least 1; not exhausted below in 9 schedules",
        ),
        (Fewest(1, [], 0, 3, 9), "the finding needs at most 1 preemption; not exhausted below in 9 schedules"),
    ],
)
def test_it_is_said_as_it_is(known: Fewest, told: str) -> None:
    assert _needs(known) == told
