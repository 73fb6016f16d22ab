"""A steered execution (cluster/search/steer.py), point by point, without an engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from cluster.api import Predict
from cluster.search.attempts import Attempt
from cluster.search.observe import Operation, Touched
from cluster.search.predict import Prediction
from cluster.search.steer import PATIENCE
from nodes.cpu import Thread
from tests.kit import asking

DEFAULT, EAGER = "default schedule", "eager schedule"
#: what contexts ask for
GOAL, ELSE = 5 << 4, 6 << 4


def contexts(goal: str = "") -> dict[str, Thread]:
    """A, B and C; one of them asks for the goal of a prediction."""
    made = {name: asking(name, "f", "wakeup", GOAL if name == goal else ELSE) for name in "ABC"}
    for order, thread in enumerate(made.values()):
        thread.order = order
    return made


def operation(context: str, place: int) -> Operation:
    made = Operation(place, asking(context, "f", "wakeup", GOAL), 1)
    made.code, made.target = "wakeup", GOAL >> 4
    return made


def prediction(
    held: tuple[str, int],
    goal: tuple[str, int],
    ends: str = "",
    needs: Mapping[str, int] | None = None,
    value: tuple[int, int] | None = None,
) -> Prediction:
    """A context is held before a place until another is at its goal.

    Args:
        ends: words of: short, back, unsure.
    """
    first, last = operation(*held), operation(*goal)
    short, back, sure = "short" in ends, "back" in ends, "unsure" not in ends
    return Prediction("race", "", 0, first, last, first, last, short, back, sure, needs or {}, value)


def steered(
    made: Prediction | None, base: str = "", schedule: str = DEFAULT, choices: Sequence[tuple[int, int, int]] = ()
) -> Predict:
    """A strategy that begins to confirm a prediction from an execution of these contexts."""
    strategy = Predict()
    was = None if made is None else Attempt(schedule, contexts=list(base), choices=choices)
    strategy.attempts._first.insert(0, Attempt(schedule, made, was))
    assert strategy.new_execution()
    return strategy


def picked(strategy: Predict, among: Mapping[str, Thread], points: int, current: str = "") -> str:
    """Who continues at so many points; the current context is that of the point before, or none."""
    names = ""
    for _ in range(points):
        current = strategy.pick(list(among.values()), among[current] if current else None).name
        names += current
    return names


def test_an_execution_goes_the_way_of_another_until_a_context_is_held_back() -> None:
    """Then that context does nothing, and the others continue by the schedule."""
    strategy = steered(prediction(("A", 4), ("B", 6)), "ACCBAAB")
    assert picked(strategy, contexts(), 4) == "ACCB"
    assert picked(strategy, contexts(), 3) == "BBB", "who has its turn by default is held back"
    assert not strategy.attempt.reached


def test_a_context_that_cannot_go_the_way_of_another_is_the_project_s_bug() -> None:
    strategy = steered(prediction(("A", 4), ("B", 6)), "ACCBAAB")
    with pytest.raises(Exception, match="A cannot go on, as it could in another order"):
        picked(strategy, {name: thread for name, thread in contexts().items() if name != "A"}, 1)


@pytest.mark.parametrize(
    ("ends", "after"),
    [("", "BCA"), ("back", "BAB"), ("short", "ABC"), ("short back", "ABC")],
    ids=["the schedule decides", "back", "short", "short of the goal there is nothing to come back from"],
)
def test_at_the_goal_is_decided_who_continues(ends: str, after: str) -> None:
    """The context held back is free from then on."""
    strategy = steered(prediction(("A", 0), ("B", 1), ends), "AB")
    assert picked(strategy, contexts(), 1) == "B" and not strategy.attempt.reached
    at_goal = list(contexts("B").values())
    assert strategy.pick(at_goal, at_goal[1]).name == after[0] and strategy.attempt.reached
    assert "".join(strategy.pick(at_goal, None).name for _ in after[1:]) == after[1:]


def test_the_goal_is_that_of_its_context_alone() -> None:
    strategy = steered(prediction(("A", 0), ("C", 1)), "AC")
    assert picked(strategy, contexts("B"), 2) == "CC" and not strategy.attempt.reached
    assert picked(strategy, contexts("C"), 1) == "C" and strategy.attempt.reached


def test_while_the_other_cannot_continue_the_schedule_decides() -> None:
    """The current context if it may, the next one in turn if it may not, or is held back."""
    three = contexts()
    asks = asking("D", "f", "wakeup", ELSE)
    strategy = steered(prediction(("A", 0), ("D", 1)), "A")
    assert [strategy.pick(list(three.values()), three[name]).name for name in "CBA"] == ["C", "B", "C"]
    assert strategy.pick([*three.values(), asks], three["B"]) is asks


@pytest.mark.parametrize("alone", [True, False], ids=["alone", "for too long"])
def test_a_context_is_not_held_back_forever(alone: bool) -> None:
    strategy, among = steered(prediction(("A", 0), ("B", 1)), "A"), contexts()
    if alone:
        assert picked(strategy, {"A": among["A"]}, 1) == "A"
    else:
        strategy.points = PATIENCE - 1
        assert picked(strategy, among, 2) == "BB"
    assert picked(strategy, among, 2, "A") == "AA" and not strategy.attempt.reached


def test_who_the_other_needs_on_its_way_goes_first_in_the_order_of_the_base() -> None:
    """As far as it is needed: the last of C, and A, are not. That B asks for the like before does not count."""
    strategy = steered(prediction(("A", 1), ("B", 7), needs={"C": 5, "B": 4}), "ACACBCCB")
    assert picked(strategy, contexts("B"), 5) == "ACCBC" and not strategy.attempt.reached
    assert picked(strategy, contexts("B"), 1) == "B" and strategy.attempt.reached


def test_a_way_that_is_not_sure_is_that_of_the_other_alone() -> None:
    strategy = steered(prediction(("A", 1), ("B", 5), "unsure", {"C": 3, "B": 4}), "ACACBB")
    assert picked(strategy, contexts("B"), 2) == "AB" and strategy.attempt.reached


def test_a_way_that_another_context_blocks_is_left() -> None:
    strategy, among = steered(prediction(("A", 0), ("B", 3), needs={"C": 2}), "ACCB"), contexts("B")
    first = [among["A"], among["B"]]
    assert strategy.pick(first, among["B"]) is among["B"] and not strategy.attempt.reached, "C is needed, and sleeps"
    assert strategy.pick(list(among.values()), None) is among["B"] and strategy.attempt.reached


def test_a_way_ends_where_the_base_ended() -> None:
    strategy = steered(prediction(("A", 0), ("B", 9), needs={"C": 9}), "ACC")
    assert picked(strategy, contexts("B"), 3) == "CCB" and strategy.attempt.reached


# -- schedules ------------------------------------------------------------------------------------------


def test_the_default_schedule_stays_and_goes_round() -> None:
    strategy, among = steered(None), contexts()
    assert [strategy.pick(list(among.values()), None).name for _ in range(4)] == ["A", "B", "C", "A"]
    assert picked(strategy, among, 2, "C") == "CC"


@pytest.mark.parametrize(("schedule", "names"), [(DEFAULT, "AAAA"), (EAGER, "ACBB")])
def test_who_was_woken_last_is_next_in_the_eager_schedule_alone(schedule: str, names: str) -> None:
    """Each once."""
    strategy, among = steered(None, schedule=schedule), contexts()
    went = picked(strategy, among, 1)
    strategy.caused(among["B"])
    strategy.caused(among["C"])
    assert went + picked(strategy, among, 3, "A") == names


def test_who_was_woken_and_cannot_continue_yet_does_so_when_it_can() -> None:
    strategy, among = steered(None, schedule=EAGER), contexts()
    picked(strategy, among, 1)
    strategy.caused(among["C"])
    assert strategy.pick([among["A"], among["B"]], among["A"]) is among["A"]
    assert picked(strategy, among, 2, "A") == "CC"


def test_each_execution_begins_anew() -> None:
    """Whatever the one before was about when it ended."""
    strategy, among = steered(prediction(("A", 0), ("B", 4), needs={"C": 3}), "ACCCB", EAGER), contexts()
    assert strategy.turn() == "confirming" and strategy.everywhere() and strategy.sees_all()
    assert picked(strategy, among, 1) == "C"
    strategy.caused(among["B"])
    strategy.pick([among["A"], among["C"]], None)
    assert strategy.due and strategy.way and strategy.points and strategy.seen.operations
    before = strategy.seen
    assert strategy.new_execution()
    assert strategy.turn() == strategy.attempt.schedule == DEFAULT
    assert not strategy.due and not strategy.way and (strategy.points, strategy.last) == (0, -1)
    assert strategy.attempts.begun[0].contexts == before.contexts == ["C", "C"] and not strategy.seen.operations
    assert strategy.new_execution() and strategy.turn() == EAGER


def test_a_prediction_is_confirmed_after_one_of_the_first() -> None:
    """So the phases of an execution are its own, too."""
    strategy = steered(None)
    picked(strategy, contexts(), 1)
    made = prediction(("A", 1), ("B", 1))
    strategy.attempts._first.insert(0, Attempt(DEFAULT, made, Attempt(DEFAULT, contexts=["C"])))
    assert strategy.new_execution() and picked(strategy, contexts("B"), 2) == "CB" and strategy.attempt.reached


def test_without_a_prediction_there_are_the_two_schedules_and_no_more() -> None:
    strategy = Predict()
    assert [strategy.new_execution() for _ in range(3)] == [True, True, False]


def test_what_a_users_access_comes_to_is_noted() -> None:
    strategy = steered(None)
    strategy.pick([asking("A", "user", "access", 1 << 4)], None)
    strategy.performed("word_write", 3, (8, 1))
    assert Touched(("word", 3, 8), True) in strategy.seen.operations[-1].touches


# -- choices --------------------------------------------------------------------------------------------


def test_choices_are_those_of_the_base_but_for_the_one_that_is_predicted() -> None:
    """As far as the base had any, and no more than there are now."""
    strategy = steered(prediction(("A", 1), ("A", 1), value=(1, 3)), "CAB", choices=[(1, 2, 0), (0, 4, 1), (2, 3, 1)])
    assert picked(strategy, contexts(), 1) == "C" and strategy.choose(2) == 1 and not strategy.attempt.reached
    assert picked(strategy, contexts(), 1) == "A" and strategy.choose(4) == 3 and strategy.attempt.reached
    assert [strategy.choose(3), strategy.choose(3)] == [2, 0]
    assert strategy.seen.choices == [(1, 2, 0), (3, 4, 1), (2, 3, 1), (0, 3, 1)]
    assert picked(strategy, contexts(), 1) == "B", "behind it nobody is held back, but the schedule decides"
    assert picked(strategy, contexts(), 2, "A") == "AA"


def test_of_fewer_values_the_last_is_taken() -> None:
    strategy = steered(prediction(("A", 1), ("A", 1), value=(1, 3)), "CA", choices=[(1, 2, 0), (0, 4, 1)])
    assert [strategy.choose(1), strategy.choose(3)] == [0, 2]


def test_choices_of_the_base_stay_where_a_context_is_held_back_and_others_are_zero() -> None:
    strategy = steered(prediction(("A", 1), ("B", 1)), "CA", choices=[(1, 3, 0)])
    assert [strategy.choose(3), strategy.choose(2)] == [1, 0] and not strategy.attempt.reached
    assert steered(None).choose(3) == 0
