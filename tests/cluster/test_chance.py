"""Chances: of a finding, with its interval, and of a class that is new."""

from __future__ import annotations

import math

import pytest

from cluster.search.chance import chance_of_new, interval, percent


@pytest.mark.parametrize(
    ("count", "of", "low", "high"),
    [(0, 10, 0, 0.2775), (1, 10, 0.0179, 0.4042), (5, 10, 0.2366, 0.7634), (10, 10, 0.7225, 1), (0, 400, 0, 0.0095)],
)
def test_the_interval_is_wilsons(count: int, of: int, low: float, high: float) -> None:
    """Values from tables of it."""
    assert interval(count, of) == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))


def test_without_a_trial_nothing_is_known() -> None:
    assert interval(0, 0) == (0, 1) and chance_of_new(0, 0) == 1


def test_the_interval_holds_the_share_as_often_as_it_says() -> None:
    """Over all outcomes of 50 trials, for one chance after another; by 2.5 points less in the worst case."""
    for chance in (0.05, 0.2, 0.5, 0.9):
        held = 0.0
        for count in range(51):
            low, high = interval(count, 50)
            if low <= chance <= high:
                held += math.comb(50, count) * chance**count * (1 - chance) ** (50 - count)
        assert 0.925 <= held <= 1


def test_the_chance_of_a_new_class_is_the_share_of_those_seen_once() -> None:
    assert chance_of_new(3, 12) == 0.25 and chance_of_new(0, 7) == 0


@pytest.mark.parametrize(
    ("share", "said"), [(0, "0 %"), (0.0095, "0.95 %"), (0.0714, "7.1 %"), (0.114, "11 %"), (0.5, "50 %"), (1, "100 %")]
)
def test_a_share_is_told_in_as_many_digits_as_mean_something(share: float, said: str) -> None:
    assert percent(share) == said
