"""The estimated number of classes is right on average, and says what kind of number it is."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cluster.api import Program
from cluster.search.estimate import about, estimate
from tests.cluster import brute
from tests.cluster.test_dpor import adder, locked_adder, setup_many
from tests.kit import scenario


def test_the_classes_of_random_programs_are_estimated() -> None:
    """With choices of data, locks, sleeps, and threads that are stuck."""
    pairs = brute.judged(
        lambda seed: (
            len(brute.classes(brute.random_program(seed), 200)),
            estimate(brute.program(brute.random_program(seed)).scenario()),
        ),
        range(40),
    )
    classes, estimated = map(sum, zip(*pairs, strict=True))
    assert len(pairs) > 12 and 0.85 * classes < estimated < 1.15 * classes


@pytest.mark.parametrize(
    ("body", "threads", "times", "traces"), [(adder, 3, 1, 36), (adder, 2, 2, 34), (locked_adder, 4, 1, 24)]
)
def test_published_counts_are_estimated(
    body: Callable[[int], Callable[[], None]], threads: int, times: int, traces: int
) -> None:
    program = Program(setup_many, [body(times)] * threads, None, brute.DETECT)
    assert 0.6 * traces < estimate(program.scenario()) < 1.6 * traces


def test_the_classes_of_a_scenario_with_interrupts_are_estimated() -> None:
    """There are 45."""
    assert 20 < estimate(scenario("E60").without_errata()) < 90


def test_an_estimate_has_one_digit() -> None:
    assert [about(classes) for classes in (3.4, 45.2, 1234, 99_999, 3.7e12)] == ["3", "50", "1,000", "100,000", "4e+12"]
