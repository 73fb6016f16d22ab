"""SURW: what it learns of an execution, what it selects, and how it draws who has the next selected operation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from cluster.search.strategy import FIRST_GUESS
from cluster.search.surw import MOST, Surw
from cluster.search.touch import FIELD, LOCK, NOTHING, Location, location
from nodes.cpu import Thread
from tests.kit import asking, execution, learned

X, Y, Z = (location(FIELD, 7, slot) for slot in (1, 2, 3))
L = location(LOCK, 5)


def stores(name: str, place: Location = X) -> Thread:
    return asking(name, "f", "store", place)


def loads(name: str, place: Location = X) -> Thread:
    return asking(name, "f", "load", place)


# -- what it learns ---------------------------------------------------------------------------------


def test_a_lesson_is_how_often_each_context_touches_what_and_what_is_changed() -> None:
    surw = Surw(1)
    execution(surw, loads("A"), stores("B"), loads("A"), loads("B", Y))
    assert surw.lesson() == (4, [(X, True, {"A": 2, "B": 1}), (Y, False, {"B": 1})])
    assert surw.lesson() == (0, []), "it is told once"


def test_requests_for_a_lock_are_selected_and_releases_are_not() -> None:
    surw = Surw(1)
    lock, unlock, tries = (asking("A", "f", code, L) for code in ("lock", "unlock", "try"))
    execution(surw, lock, unlock, tries, unlock)
    assert surw.lesson() == (4, [(L, True, {"A": 2})])


def test_what_touches_nothing_is_not_counted() -> None:
    surw = Surw(1)
    waited, parked = loads("A"), stores("B")
    waited.asks, parked.parked = None, True
    execution(surw, waited, parked)
    assert surw.lesson() == (2, [])


def test_only_news_are_told() -> None:
    """A location that is not known, that is changed for the first time, or that a context uses more often."""
    surw = Surw(1)
    execution(surw, loads("A"), loads("A"), loads("B"))
    learned(surw)
    for threads, told in (
        ([loads("A"), loads("A"), loads("B")], []),
        ([loads("A")], []),
        ([stores("A")], [(X, True, {"A": 1})]),
        ([loads("B"), loads("B")], [(X, False, {"B": 2})]),
        ([loads("C")], [(X, False, {"C": 1})]),
        ([loads("C", Y)], [(Y, False, {"C": 1})]),
    ):
        execution(surw, *threads)
        assert surw.lesson()[1] == told
    surw.learn((1, [(X, True, {"A": 1})]))
    execution(surw, stores("A"))
    assert surw.lesson()[1] == []


def test_it_knows_the_most_that_any_execution_had() -> None:
    surw = Surw(1)
    for counts in ({"A": 3, "B": 1}, {"A": 2, "B": 4}, {"C": 1}):
        surw.learn((1, [(X, False, counts)]))
    assert surw.seen == {X: {"A": 3, "B": 4, "C": 1}}


def test_shared_is_what_several_contexts_touch_and_any_changes() -> None:
    surw = Surw(1)
    surw.learn((1, [(X, False, {"A": 1, "B": 1}), (Y, True, {"A": 9}), (Z, True, {"A": 1, "B": 1})]))
    assert list(surw.shared) == [Z] and surw.written == {Y, Z}
    surw.learn((1, [(Y, False, {"B": 1})]))
    surw.learn((1, [(X, True, {"A": 1})]))
    assert list(surw.shared) == [Z, Y, X]


def test_so_many_locations_are_remembered_and_no_more() -> None:
    surw = Surw(1)
    surw.learn((1, [(location(FIELD, 8, slot), False, {"A": 1}) for slot in range(MOST - 2)]))
    execution(surw, loads("A", X), loads("A", Y), loads("A", Z))
    lesson = surw.lesson()
    assert len(lesson[1]) == 3
    surw.learn(lesson)
    assert len(surw.seen) == MOST == 16384 and X in surw.seen and Y in surw.seen and Z not in surw.seen
    execution(surw, loads("A", Z), loads("B", Y))
    lesson = surw.lesson()
    assert lesson[1] == [(Y, False, {"B": 1})], "it would not be learned"
    surw.learn((1, [(Z, True, {"A": 1}), (X, True, {"B": 1})]))
    assert surw.seen[X] == {"A": 1, "B": 1} and Z not in surw.seen and surw.written == {X}


def test_who_is_told_all_that_it_knows_continues_as_it_would() -> None:
    surw = Surw(1)
    surw.learn((170, [(Y, True, {"A": 2, "B": 1}), (Z, False, {"A": 1}), (X, True, {"A": 1, "B": 3})]))
    told = Surw(2)
    told.learn((900, [(L, True, {"A": 1, "B": 1})]))
    told.know(surw.knowledge())
    assert told.knowledge() == surw.knowledge() and surw.knowledge()[0] == 170
    assert (told.seen, told.written, list(told.shared)) == (surw.seen, {X, Y}, [Y, X])
    surw.random.seed(3)
    told.random.seed(3)
    selected = [(surw.new_execution(), surw.selected, surw.left) for _ in range(40)]
    assert selected == [(told.new_execution(), told.selected, told.left) for _ in range(40)]


def test_it_learns_how_long_executions_are() -> None:
    surw = Surw(1)
    assert surw.patience.longest == FIRST_GUESS
    execution(surw, *[loads("A")] * 170)
    assert surw.new_execution() and surw.patience.longest == 170 and surw.patience.points == 0


# -- what it selects, and who draws ------------------------------------------------------------------


def selecting(seed: int, left: dict[str, int], place: Location = X) -> Surw:
    """At the beginning of an execution in which one location is selected."""
    surw = Surw(seed)
    surw.learn((1, [(place, True, left)]))
    assert surw.new_execution() and (surw.selected, surw.left) == (place, left)
    return surw


def test_at_first_nothing_is_selected_and_who_continues_is_left_to_the_dice() -> None:
    surw, able = Surw(1), [stores("A"), stores("B"), loads("C", Y)]
    assert surw.new_execution() and surw.selected == NOTHING and surw.left == {}
    picked = Counter(surw.pick(able, None).name for _ in range(600))
    assert all(abs(count - 200) < 50 for count in picked.values()) and len(picked) == 3


def test_what_is_left_is_a_copy_of_what_is_known() -> None:
    surw = selecting(1, {"A": 2, "B": 1})
    execution(surw, stores("A"))
    assert surw.left == {"A": 1, "B": 1} and surw.seen[X] == {"A": 2, "B": 1}
    surw.drawn = "A"
    assert surw.new_execution() and surw.left == {"A": 2, "B": 1} and not surw.drawn


def first_of(left: dict[str, int], able: Sequence[Thread], tries: int = 1200) -> dict[str, float]:
    """How often each context has the first selected operation, when all of them have come to theirs."""
    picked: Counter[str] = Counter()
    surw = selecting(5, left)
    for _ in range(tries):
        assert surw.new_execution() and surw.selected == X
        surw.left = dict(left)
        picked[surw.pick(able, None).name] += 1
    return {name: count / tries for name, count in sorted(picked.items())}


def near(shares: dict[str, float], **expected: float) -> bool:
    return shares.keys() == expected.keys() and all(
        abs(shares[name] - share) < 0.05 for name, share in expected.items()
    )


def test_the_next_selected_operation_is_drawn_by_how_many_are_left() -> None:
    able = [stores("A"), stores("B"), stores("C")]
    assert near(first_of({"A": 5, "B": 3, "C": 2}, able), A=0.5, B=0.3, C=0.2)


def test_who_has_come_to_one_has_at_least_one() -> None:
    """Its number is used up, or was never known."""
    able = [stores("A"), stores("B"), stores("C")]
    assert near(first_of({"A": 2, "B": 0}, able), A=0.5, B=0.25, C=0.25)


def test_who_is_drawn_and_has_not_come_is_waited_for() -> None:
    """The others stop, and whoever is on the way to its own continues, with equal chances."""
    able = [stores("A"), stores("B"), loads("C", Y), loads("D", Y)]
    assert near(first_of({"C": 1, "A": 1, "B": 1}, able), A=1 / 9, B=1 / 9, C=7 / 18, D=7 / 18)
    surw = selecting(1, {"A": 1, "B": 1, "C": 1})
    surw.drawn = "C"
    picked = Counter(surw.pick(able, None).name for _ in range(3 * FIRST_GUESS))
    assert picked.keys() == {"C", "D"} and abs(picked["C"] - 150) < 35


def test_a_draw_holds_until_the_selected_operation_is_performed() -> None:
    surw = selecting(1, {"A": 1, "B": 1})
    able, away = [stores("A"), stores("B")], loads("B", Y)
    surw.drawn = "B"
    for _ in range(20):
        assert surw.pick([able[0], away], None) is away and surw.drawn == "B"
    assert surw.pick(able, None) is able[1] and not surw.drawn and surw.left == {"A": 1, "B": 0}
    execution(surw, able[1], able[1])
    assert surw.left == {"A": 1, "B": 0}, "nobody has less than none"
    execution(surw, stores("C"))
    assert surw.left == {"A": 1, "B": 0, "C": 0}, "nor has anybody who was not known to come"


def test_another_location_changes_nothing_of_the_draw() -> None:
    surw = selecting(1, {"A": 1, "B": 1})
    surw.drawn = "B"
    execution(surw, stores("A", Y), asking("A", "f", "unlock", L))
    assert surw.drawn == "B" and surw.left == {"A": 1, "B": 1}


def test_if_who_was_drawn_does_not_come_the_others_draw_again() -> None:
    """By what they have left, and it is out: it would be drawn again otherwise."""
    able = [stores("A"), stores("B")]
    assert near(first_of({"A": 1, "C": 90, "D": 60, "B": 3}, able), A=0.25, B=0.75)
    surw = selecting(1, {"A": 1, "C": 5, "B": 1})
    surw.drawn = "C"
    picked = surw.pick(able, None).name
    assert surw.left == {"A": 1, "B": 1} | {picked: 0}


def test_while_nobody_has_come_nothing_is_drawn() -> None:
    surw, able = selecting(1, {"A": 1, "B": 1}), [loads("A", Y), loads("B", Y)]
    assert {surw.pick(able, None).name for _ in range(40)} == {"A", "B"} and not surw.drawn


def test_a_release_of_a_selected_lock_does_not_stop() -> None:
    able = [asking("A", "f", "lock", L), asking("B", "f", "unlock", L)]
    surw = selecting(1, {"A": 1, "C": 1}, L)
    surw.drawn = "C"
    assert {surw.pick(able, None).name for _ in range(20)} == {"B"}


def test_in_an_execution_that_is_far_longer_nobody_stops() -> None:
    """After three times as many points as any had."""
    surw, able = selecting(1, {"A": 1, "B": 1}), [stores("A"), loads("B", Y)]
    surw.drawn = "B"
    assert {surw.pick(able, None).name for _ in range(3 * FIRST_GUESS)} == {"B"} and surw.selected == X
    assert {surw.pick(able, None).name for _ in range(20)} == {"A", "B"} and surw.selected == NOTHING


def test_each_shared_location_is_selected_as_often() -> None:
    surw = Surw(4)
    surw.learn((1, [(place, True, {"A": 1, "B": 1}) for place in (X, Y, Z)]))
    selected: Counter[Location] = Counter()
    for _ in range(900):
        assert surw.new_execution()
        selected[surw.selected] += 1
    assert selected.keys() == {X, Y, Z} and all(abs(count - 300) < 60 for count in selected.values())


def test_data_are_chosen_alike_and_it_is_asked_everywhere() -> None:
    surw = Surw(1)
    taken = Counter(surw.choose(3) for _ in range(900))
    assert taken.keys() == {0, 1, 2} and all(abs(count - 300) < 60 for count in taken.values()) and surw.everywhere()


def test_no_seed_is_seed_0() -> None:
    assert [Surw().draw() for _ in range(3)] == [Surw(0).draw() for _ in range(3)] != [Surw(1).draw() for _ in range(3)]
