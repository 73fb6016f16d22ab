"""The portfolio: who has how many turns, and that a seed means one search."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from cluster.search.auto import TURNS, Auto
from cluster.search.explore import explore, search
from cluster.search.strategy import DefaultFirst, Stay, Strategy
from nodes.cpu import Thread
from tests.kit import scenario


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


def test_who_has_nothing_left_to_try_leaves_its_turns_to_the_others() -> None:
    auto = portfolio(a=2, b=5)
    assert Counter(played(auto, 7)) == {"a": 2, "b": 5}
    assert not auto.new_execution() and not auto.new_execution()


class Everywhere(Stay):
    def everywhere(self) -> bool:
        return True


def test_the_engine_asks_whoever_has_the_turn() -> None:
    """Not the portfolio around it: that would be asked at points at which the other says that it stays."""
    inner: Strategy = Everywhere()
    auto = Auto({"one": inner})
    first = DefaultFirst(auto)
    assert first.new_execution() and first.turn() == "default schedule" and not first.chooser().everywhere()
    assert first.new_execution() and first.turn() == "one" and first.chooser() is inner
    thread = Thread("A", "cpu0", lambda: None)
    assert auto.pick([thread], None) is thread and auto.choose(3) == 0


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
