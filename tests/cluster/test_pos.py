"""Partial order sampling: who keeps a priority, and who draws anew. Its chances are in test_sampling.py."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from cluster.search.pos import LASTS, Pos
from cluster.search.touch import FIELD, location
from nodes.cpu import Thread
from tests.kit import asking

X, Y = location(FIELD, 7, 1), location(FIELD, 7, 2)


def drawing(*draws: float) -> Pos:
    """Its dice show this, and then nothing more."""
    pos, left = Pos(), iter(draws)
    assert pos.new_execution()
    pos.draw = lambda: next(left)
    return pos


def loads(name: str, place: int = X) -> Thread:
    return asking(name, "f", "load", place)


def stores(name: str, place: int = X) -> Thread:
    return asking(name, "f", "store", place)


def picked(pos: Pos, able: list[Thread]) -> str:
    return pos.pick(able, None).name


def test_the_highest_priority_is_next_and_the_others_keep_theirs() -> None:
    """Whoever has been performed draws for the next operation, wherever it stands in the fixed order."""
    able = [loads("A"), loads("B"), loads("C")]
    pos = drawing(0.2, 0.9, 0.5, 0.4, 0.1, 0.3, 0.0)
    assert [picked(pos, able) for _ in range(5)] == ["B", "C", "B", "B", "A"]
    assert pos.priority == {"B": 0.0, "C": 0.1}


def test_who_meets_the_performed_operation_draws_anew() -> None:
    """Two loads do not meet, and neither do operations at two places."""
    able = [stores("A"), loads("B"), loads("C"), stores("D", Y)]
    pos = drawing(0.9, 0.8, 0.7, 0.6)
    assert picked(pos, able) == "A" and pos.priority == {"D": 0.6}
    pos = drawing(0.6, 0.9, 0.7, 0.8)
    assert picked(pos, able) == "B" and pos.priority == {"C": 0.7, "D": 0.8}
    pos = drawing(0.6, 0.7, 0.8, 0.9)
    assert picked(pos, able) == "D" and pos.priority == {"A": 0.6, "B": 0.7, "C": 0.8}


def test_who_continues_behind_a_wait_makes_nobody_draw_again() -> None:
    able = [stores("A"), stores("B"), stores("C")]
    able[0].asks = able[1].asks = None
    pos = drawing(0.9, 0.8, 0.7)
    assert picked(pos, able) == "A" and pos.priority == {"B": 0.8, "C": 0.7}


def test_who_is_alone_costs_no_draw_and_has_no_priority_behind_it() -> None:
    able = [stores("A"), stores("B", Y)]
    pos = drawing(0.9, 0.8, 0.1)
    assert picked(pos, able) == "A"
    assert picked(pos, able[1:]) == "B" and pos.priority == {}
    assert picked(pos, able[:1]) == "A"


def test_a_priority_lasts_for_so_many_choices() -> None:
    """In the first execution and in others, and again and again; where there is no choice, none is counted."""
    able, pos = [loads("A"), loads("B")], Pos()
    for _ in range(2):
        assert pos.new_execution() and pos.priority == {}
        for _ in range(3):
            low: Iterator[float] = iter([0.5, 0.0, *[0.5] * LASTS])
            pos.draw = low.__next__
            assert [picked(pos, able) for _ in range(LASTS - 1)] == ["A"] * (LASTS - 1) and pos.priority == {"B": 0.0}
            assert picked(pos, able[:1]) == "A" and pos.priority == {"B": 0.0}
            anew = iter([0.1, 0.2])
            pos.draw = anew.__next__
            assert picked(pos, able) == "B" and pos.priority == {"A": 0.1}
            pos.priority.clear()


def test_an_execution_begins_without_priorities_and_counts_anew() -> None:
    able, pos = [loads("A"), loads("B")], drawing(*[0.5] * 3 * LASTS)
    for _ in range(3):
        assert pos.new_execution() and pos.left == LASTS == 500 and pos.priority == {}
        for _ in range(10):
            picked(pos, able)
        assert pos.left == LASTS - 10 and pos.priority


def test_the_dice_are_those_of_the_seed_and_data_are_chosen_alike() -> None:
    assert [Pos().draw() for _ in range(2)] == [Pos(0).draw() for _ in range(2)] != [Pos(1).draw() for _ in range(2)]
    pos = Pos(1)
    taken = Counter(pos.choose(3) for _ in range(900))
    assert taken.keys() == {0, 1, 2} and all(abs(count - 300) < 60 for count in taken.values())
