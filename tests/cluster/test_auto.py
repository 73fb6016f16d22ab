"""The portfolio: who has how many turns, and that a seed means one search."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest

from cluster.search.auto import FINDING, TURNS, Auto
from cluster.search.explore import explore, search
from cluster.search.strategy import DefaultFirst, Stay, Strategy
from tests.kit import scenario, threads


class Counted(Stay):
    """Has so many executions to try, and everywhere else stays."""

    def __init__(self, executions: int = 1 << 30):
        super().__init__()
        self.left = executions

    def new_execution(self) -> bool:
        self.left -= 1
        return self.left >= 0 and super().new_execution()


def portfolio(**left: int) -> Auto:
    return Auto({name: Counted(count) for name, count in left.items()})


def played(auto: Auto, executions: int, new: Sequence[str] = (), finding: Sequence[str] = ()) -> list[str]:
    """Whose turn it was; who is in `new` always comes to a new class, who is in `found` to a finding."""
    turns = []
    for _ in range(executions):
        assert auto.new_execution()
        turns.append(auto.turn())
        auto.reward(auto.turn() in new, auto.turn() in finding)
    return turns


def test_at_first_all_have_as_many_turns_and_mixed() -> None:
    turns = played(portfolio(a=99, b=99, c=99), 3 * TURNS)
    assert Counter(turns) == dict.fromkeys("abc", TURNS) and set(turns[:3]) == set("abc")


def test_who_comes_to_something_new_has_more_turns_and_everybody_has_some() -> None:
    auto = portfolio(a=999, b=999, c=999)
    turns = played(auto, 90 * TURNS, new=["b"])
    assert turns[: 3 * TURNS].count("b") == TURNS, "it is decided between batches"
    last = Counter(turns[-3 * TURNS :])
    assert last["b"] > 2 * last["a"] and min(last["a"], last["c"]) >= 1
    assert auto.spent == Counter(turns) and auto.gained == {"a": 0, "b": auto.spent["b"], "c": 0}


def test_a_finding_is_worth_more_than_a_class() -> None:
    last = Counter(played(portfolio(a=999, b=999, c=999), 90 * TURNS, new=["a", "b"], finding=["b"])[-3 * TURNS :])
    assert last["b"] > last["a"] >= last["c"]


def test_a_turn_is_credited_to_whoever_had_it() -> None:
    auto = portfolio(a=9, b=9)
    assert auto.turn() == "" and auto.learns()
    assert auto.new_execution() and auto.turn() == "a"
    for new, finding in ((True, False), (False, True), (True, True), (False, False)):
        auto.reward(new, finding)
    assert auto.gained == {"a": 2 + 2 * FINDING, "b": 0}


def test_the_turns_of_a_batch_are_evenly_mixed() -> None:
    """In proportion to the weights: of 8 turns each has its own, and 3/4 and 1/4 of the other 6."""
    auto = Auto({"a": Counted(), "b": Counted()}, {"a": 3, "b": 1})
    assert "".join(played(auto, 4 * TURNS)) == "abaabaaa"


@pytest.mark.parametrize(
    ("weights", "spent", "gained"),
    [
        ((1, 1, 1, 1), (0, 0, 0, 0), (9, 0, 0, 0)),
        ((1, 1, 1, 1), (1, 3, 5, 9), (0, 0, 0, 0)),
        ((1, 1, 1, 1), (1, 5, 5, 9), (0, 1, 2, 5)),
        ((5, 2, 4, 9), (7, 0, 3, 30), (3, 0, 2, 25)),
        ((9, 9, 9, 1), (2, 2, 2, 999), (2, 2, 2, 0)),
    ],
)
def test_beyond_its_own_a_strategy_has_turns_by_its_weight_and_what_it_has_come_to(
    weights: tuple[int, ...], spent: tuple[int, ...], gained: tuple[int, ...]
) -> None:
    """At the rate of new classes, as if each had had one more turn, in which it came to a new class."""
    auto = Auto({name: Counted() for name in "abcd"}, dict(zip("abcd", weights, strict=True)))
    auto.spent, auto.gained = dict(zip("abcd", spent, strict=True)), dict(zip("abcd", gained, strict=True))
    count = TURNS * sum(weights)
    turns = Counter(played(auto, count))
    rates = [weight * (new + 1) / (past + 1) for weight, past, new in zip(weights, spent, gained, strict=True)]
    for name, rate in zip("abcd", rates, strict=True):
        assert abs(turns[name] - (1 + (count - 4) * rate / sum(rates))) < 1 and turns[name] >= 1


def test_what_a_strategy_comes_to_counts_from_the_next_batch_on_even_if_another_one_ends() -> None:
    auto = portfolio(a=1, b=99, c=99)
    assert played(auto, 1) == ["a"]
    auto.gained["c"] = 50
    assert played(auto, 4) == ["b", "c", "b", "c"]
    assert played(auto, 2 * TURNS).count("b") == 1


def test_who_has_nothing_left_to_try_leaves_its_turns_to_the_others() -> None:
    auto = portfolio(a=2, b=5)
    assert Counter(played(auto, 7)) == {"a": 2, "b": 5}
    assert not auto.new_execution() and not auto.new_execution()


class Everywhere(Stay):
    def everywhere(self) -> bool:
        return True

    def choose(self, n: int) -> int:
        return n - 1


def test_the_engine_asks_whoever_has_the_turn() -> None:
    """Not the portfolio around it: that would be asked at points at which the other says that it stays."""
    inner: Strategy = Everywhere()
    auto = Auto({"one": inner})
    first = DefaultFirst(auto)
    assert first.new_execution() and first.turn() == "default schedule" and not first.chooser().everywhere()
    assert first.new_execution() and first.turn() == "one" and first.chooser() is inner
    able = threads(2)
    assert auto.pick(able, able[1]) is able[1] and auto.pick(able, None) is able[0] and auto.choose(3) == 2


def test_a_seed_means_one_search() -> None:
    scene = scenario("E54").without_errata()
    first, other, third = (search(scene, "auto", seed, 60) for seed in (3, 3, 4))
    assert (first.by, first.operations, first.classes and first.classes.seen) == (
        other.by, other.operations, other.classes and other.classes.seen,
    )  # fmt: skip
    assert third.operations != first.operations
    assert sum(first.by.values()) == 60 and first.by["default schedule"] == 1


def test_it_is_what_a_scenario_is_searched_with_that_names_no_strategy() -> None:
    result = explore(scenario("S3c-race"))
    assert result.strategy == "auto" and result.finding is not None
