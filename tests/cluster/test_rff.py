"""Reads-from feedback: what it notes of an execution, which contexts it stops, which abstract schedules it makes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import pytest

from cluster.search.rff import KEPT, PAIRS, Rff
from cluster.search.strategy import FIRST_GUESS, Patience
from cluster.search.touch import CHANNEL, FIELD, LOCK, Location, location
from cluster.search.uses import NOBODY, Kind, Pair
from nodes.cpu import Thread
from tests.kit import asking, execution, learned

X, Y, Z = (location(FIELD, 7, slot) for slot in (1, 2, 3))
L, M = location(LOCK, 5), location(LOCK, 6)
SETTER, CHECKER, OTHER = ("A", "set"), ("B", "check"), ("C", "look")


def sets(place: Location = X) -> Thread:
    return asking("A1", "set", "store", place)


def checks(place: Location = X) -> Thread:
    return asking("B1", "check", "load", place)


def looks(place: Location = X) -> Thread:
    return asking("C1", "look", "load", place)


# -- what it notes -----------------------------------------------------------------------------------


def test_it_notes_who_uses_what_and_who_has_read_from_whom() -> None:
    """Contexts and functions as kinds: A1 and A22 play the same part. A lesson is told once."""
    rff = Rff(1)
    execution(rff, checks(), sets(), checks(), asking("A22", "set", "store", X), checks(), checks(Y))
    longest, fresh, new, tried = rff.lesson()
    assert (longest, tried) == (6, ())
    assert fresh == (
        (X, CHECKER, "B1", True, False),
        (X, SETTER, "A1", False, True),
        (X, SETTER, "A22", False, True),
        (Y, CHECKER, "B1", True, False),
    )
    assert new == ((X, (CHECKER, NOBODY)), (X, (CHECKER, SETTER)), (Y, (CHECKER, NOBODY)))
    assert rff.lesson() == (0, (), (), ())


def test_what_is_known_is_not_told_again() -> None:
    rff = Rff(1)
    execution(rff, sets(), checks())
    learned(rff)
    rff.last = {}
    execution(rff, sets(), checks())
    assert rff.lesson() == (2, (), (), ())
    execution(rff, asking("A2", "set", "store", X), looks())
    assert rff.lesson()[1:3] == (
        ((X, SETTER, "A2", False, True), (X, OTHER, "C1", True, False)),
        ((X, (OTHER, SETTER)),),
    )


def test_the_part_of_a_context_is_its_name_without_the_number() -> None:
    rff = Rff(1)
    execution(rff, asking("2X1X", "set", "store", X), asking("X1", "set", "store", Y), asking("X23", "", "store", Y))
    assert [kind for _, kind, *_ in rff.lesson()[1]] == [("2X1X", "set"), ("X", "set"), ("X", "")]


def test_a_request_for_a_lock_reads_from_the_last_one_and_a_release_is_nothing() -> None:
    rff = Rff(1)
    takes, tries = asking("A", "set", "lock", L), asking("B", "check", "try", L)
    gives, lowers = asking("A", "set", "unlock", L), asking("A", "set", "downgrade", M)
    execution(rff, takes, gives, lowers, tries)
    _, fresh, new, _ = rff.lesson()
    assert fresh == ((L, SETTER, "A", True, True), (L, CHECKER, "B", True, True))
    assert new == ((L, (SETTER, NOBODY)), (L, (CHECKER, SETTER)))


def test_what_changes_another_thing_than_a_lock_does_not_read_it() -> None:
    rff = Rff(1)
    wakes = asking("A", "set", "wakeup", location(CHANNEL, 5))
    execution(rff, wakes, wakes)
    assert rff.lesson()[1:3] == (((location(CHANNEL, 5), SETTER, "A", False, True),), ())


def test_a_context_that_continues_behind_a_wait_touches_nothing() -> None:
    rff = Rff(1)
    waited, parked = checks(), sets()
    waited.asks, parked.parked = None, True
    rff.wanted = {X: (CHECKER, NOBODY)}
    execution(rff, waited, parked)
    assert rff.lesson() == (2, (), (), ()) and rff.wanted == {X: (CHECKER, NOBODY)} and not rff.last


def test_in_each_execution_nothing_has_been_written_at_first() -> None:
    rff = Rff(1)
    for _ in range(2):
        assert rff.new_execution()
        rff.wanted.clear()
        execution(rff, checks(), sets())
    assert rff.known == {(X, (CHECKER, NOBODY))}


# -- when a pair is met, or out of reach --------------------------------------------------------------


@pytest.mark.parametrize(
    ("pair", "threads", "left"),
    [
        ((CHECKER, SETTER), [sets], True),
        ((CHECKER, SETTER), [sets, looks], True),
        ((CHECKER, SETTER), [sets, checks], False),
        ((CHECKER, SETTER), [checks], False),
        ((CHECKER, SETTER), [lambda: checks(Y), lambda: sets(Y)], True),
        ((CHECKER, NOBODY), [looks], True),
        ((CHECKER, NOBODY), [checks], False),
        ((CHECKER, NOBODY), [sets], False),
        ((CHECKER, NOBODY), [lambda: sets(Y)], True),
    ],
)
def test_a_pair_is_wanted_until_it_is_met_or_out_of_reach(
    pair: Pair, threads: Sequence[Callable[[], Thread]], left: bool
) -> None:
    rff = Rff(1)
    rff.wanted = {X: pair, Z: pair}
    execution(rff, *[make() for make in threads])
    assert rff.wanted == ({X: pair, Z: pair} if left else {Z: pair})


def test_a_request_that_meets_a_pair_ends_it_once() -> None:
    """It reads, which ends the pair, and is then the last to have written."""
    rff = Rff(1)
    rff.wanted = {L: (SETTER, NOBODY)}
    execution(rff, asking("A", "set", "lock", L))
    assert rff.wanted == {} and rff.last == {L: SETTER}


# -- who stops --------------------------------------------------------------------------------------


def continued(wanted: dict[Location, Pair], last: dict[Location, Kind], able: Sequence[Thread]) -> set[str]:
    """Names of the contexts that may be next."""
    names = set()
    for seed in range(60):
        rff = Rff(seed)
        rff.wanted, rff.last = dict(wanted), dict(last)
        names.add(rff.pick(able, None).name)
    return names


def test_a_read_waits_for_its_write_and_others_do_not() -> None:
    able = [sets(), checks(), looks()]
    assert continued({X: (CHECKER, SETTER)}, {}, able) == {"A1", "C1"}
    assert continued({X: (CHECKER, SETTER)}, {X: OTHER}, able) == {"A1", "C1"}
    assert continued({Y: (CHECKER, SETTER)}, {}, able) == continued({}, {}, able) == {"A1", "B1", "C1"}


def test_a_write_waits_until_the_one_before_has_been_read() -> None:
    able = [sets(), checks(), looks()]
    assert continued({X: (CHECKER, SETTER)}, {X: SETTER}, able) == {"B1", "C1"}
    assert continued({X: (CHECKER, NOBODY)}, {}, able) == {"B1", "C1"}
    assert continued({X: (CHECKER, NOBODY)}, {Y: SETTER}, able) == {"B1", "C1"}


def test_a_store_is_no_read_of_the_same_kind() -> None:
    """A context that stores where the pair wants it to load has nothing to wait for, and others wait for its load."""
    able = [asking("B1", "check", "store", X), looks()]
    assert continued({X: (CHECKER, SETTER)}, {}, able) == {"B1", "C1"}
    assert continued({X: (CHECKER, SETTER)}, {X: SETTER}, able) == {"C1"}


def test_requests_for_a_lock_come_in_the_wanted_order_and_releases_are_free() -> None:
    first, second = asking("A", "set", "lock", L), asking("B", "check", "lock", L)
    assert continued({L: (CHECKER, SETTER)}, {}, [first, second]) == {"A"}
    assert continued({L: (SETTER, NOBODY)}, {}, [first, second]) == {"A"}
    assert continued({L: (CHECKER, NOBODY)}, {}, [first, second]) == {"B"}
    assert continued({L: (CHECKER, SETTER)}, {L: SETTER}, [first, second]) == {"B"}
    gives = asking("C", "look", "unlock", L)
    assert continued({L: (CHECKER, SETTER)}, {}, [gives, second]) == {"C"}


def test_who_touches_nothing_does_not_stop() -> None:
    able = [checks(), sets()]
    able[1].parked = True
    assert continued({X: (CHECKER, SETTER)}, {}, able) == {"A1"}
    able[0].asks = None
    assert continued({X: (CHECKER, SETTER)}, {}, able) == {"A1", "B1"}


def test_if_all_have_stopped_all_continue() -> None:
    able = [checks(), asking("B2", "check", "load", X)]
    assert continued({X: (CHECKER, SETTER)}, {}, able) == {"B1", "B2"}


def test_in_an_execution_that_is_far_longer_nobody_stops() -> None:
    """After three times as many points as any had. The context that is held back is then the next one in its turn."""
    rff, able = Rff(1), [checks(), looks(Y)]
    rff.wanted = {X: (CHECKER, SETTER)}
    assert {rff.pick(able, None).name for _ in range(3 * FIRST_GUESS)} == {"C1"}
    assert rff.wanted
    assert {rff.pick(able, None).name for _ in range(20)} == {"B1", "C1"} and not rff.wanted


def test_it_is_asked_where_only_one_context_can_continue() -> None:
    """Otherwise it would not see all that is read."""
    assert Rff().everywhere()


# -- abstract schedules -------------------------------------------------------------------------------


def taught(seed: int = 1) -> Rff:
    """X and Y are shared; Z is read by one context, and L is requested by one."""
    rff = Rff(seed)
    for place in (X, Y):
        execution(rff, sets(place), looks(place), checks(place))
    execution(rff, looks(Z), asking("A1", "set", "lock", L), sets(location(FIELD, 7, 4)))
    return learned(rff)


def scripted(rff: Rff, *draws: float) -> Rff:
    left: Iterator[float] = iter(draws)
    rff.draw = lambda: next(left)
    return rff


def test_the_dice_are_those_of_the_seed() -> None:
    assert [Rff().draw() for _ in range(2)] == [Rff(0).draw() for _ in range(2)] != [Rff(1).draw() for _ in range(2)]


def test_at_first_there_is_nothing_to_want() -> None:
    rff = scripted(Rff())
    assert rff.new_execution() and rff.tried == rff.wanted == {}


def test_a_schedule_is_of_shared_locations_with_a_read_and_a_write_that_were_seen() -> None:
    """All alike, and one to PAIRS of them; a write that nobody has performed is among the writes."""
    rff, sizes, pairs = taught(), Counter[int](), Counter[tuple[Location, Pair]]()
    for _ in range(3000):
        assert rff.new_execution()
        assert rff.wanted == rff.tried
        sizes[len(rff.tried)] += 1
        pairs.update(rff.tried.items())
        assert not rff.kept
    assert set(pairs) == {
        (place, (read, write)) for place in (X, Y) for read in (OTHER, CHECKER) for write in (NOBODY, SETTER)
    }
    assert max(pairs.values()) < 1.2 * min(pairs.values())
    # of one, two and three pairs at two locations: one location if all are at the same
    assert PAIRS == 3 and abs(sizes[1] / 3000 - (1 + 1 / 2 + 1 / 4) / 3) < 0.04 and sizes[1] + sizes[2] == 3000


def test_what_is_wanted_is_what_is_tried_until_it_is_met() -> None:
    rff = scripted(taught(), 0.0, 0.0, 0.9, 0.9)
    assert rff.new_execution() and rff.tried == {X: (CHECKER, SETTER)}
    execution(rff, sets(), checks())
    assert rff.wanted == {} and rff.tried == {X: (CHECKER, SETTER)}


@pytest.mark.parametrize(
    ("kept", "draws", "made"),
    [
        # anew: X reads by OTHER from nobody
        ({Y: (OTHER, NOBODY)}, (0.0, 0.9, 0.0, 0.0, 0.0), {X: (OTHER, NOBODY)}),
        # one pair more; a pair instead; a pair less; the only pair, for which there is another
        ({Y: (OTHER, NOBODY)}, (0.9, 0.1, 0.0, 0.9, 0.0, 0.9, 0.9), {Y: (OTHER, NOBODY), X: (CHECKER, SETTER)}),
        ({Y: (OTHER, NOBODY)}, (0.9, 0.1, 0.0, 0.9, 0.9, 0.9, 0.9), {Y: (CHECKER, SETTER)}),
        ({X: (OTHER, SETTER), Y: (OTHER, NOBODY)}, (0.9, 0.1, 0.0, 0.1, 0.9), {X: (OTHER, SETTER)}),
        ({Y: (OTHER, NOBODY)}, (0.9, 0.1, 0.0, 0.1, 0.0, 0.0, 0.9, 0.0), {X: (CHECKER, NOBODY)}),
    ],
)
def test_a_schedule_that_is_kept_is_changed_in_one_pair(
    kept: dict[Location, Pair], draws: tuple[float, ...], made: dict[Location, Pair]
) -> None:
    """In every second execution; and what is kept stays as it was."""
    rff = taught()
    rff.kept = [dict(kept)]
    scripted(rff, *draws)
    assert rff.new_execution() and rff.tried == made
    assert rff.kept == [kept]
    with pytest.raises(StopIteration):
        rff.draw()


def test_half_of_the_schedules_come_from_those_that_are_kept() -> None:
    """And half of these lose a pair. Each that is kept has the same chance."""
    rff = taught()
    far, near = {Z: (OTHER, NOBODY), L: (SETTER, NOBODY)}, {M: (OTHER, NOBODY), L: (SETTER, SETTER)}
    rff.kept = [far, near]
    whole = less = 0
    of: Counter[int] = Counter()
    for _ in range(4000):
        made = rff._schedule()
        left = [len(made.keys() & kept.keys() - {X, Y}) for kept in (far, near)]
        if Z in made or M in made or L in made:
            whole, less = whole + (max(left) == 2), less + (max(left) == 1)
            of[int(M in made or made.get(L) == (SETTER, SETTER))] += 1
    assert all(abs(count - 1000) < 130 for count in (whole, less, *of.values())), (whole, less, of)


def test_a_schedule_is_kept_if_it_has_come_to_a_new_pair() -> None:
    rff = taught()
    lesson = rff.lesson()
    new, tried = ((X, (CHECKER, OTHER)),), ((Y, (OTHER, SETTER)),)
    for fresh, by in (((), tried), (new, ()), (((X, (CHECKER, SETTER)),), tried)):
        rff.learn((*lesson[:2], fresh, by))
    assert rff.kept == [] and new[0] in rff.known
    rff.known -= set(new)
    rff.learn((*lesson[:2], (*new, (X, (CHECKER, SETTER))), tried))
    assert rff.kept == [dict(tried)] and new[0] in rff.known


def test_what_led_to_something_new_is_told_with_it() -> None:
    rff = scripted(taught(), 0.0, 0.0, 0.9, 0.9)
    rff.new_execution()
    execution(rff, sets(), checks(), asking("D", "else", "load", X))
    assert rff.lesson()[2:] == (((X, (("D", "else"), SETTER)),), ((X, (CHECKER, SETTER)),))
    execution(rff, sets(), checks())
    assert rff.lesson()[2:] == ((), ())


def test_it_keeps_so_many_schedules_and_no_more() -> None:
    rff = Rff()
    for number in range(KEPT + 3):
        rff.learn((1, (), ((X, (CHECKER, (f"N{number}", ""))),), ((Y, (OTHER, SETTER)),)))
    assert len(rff.kept) == KEPT == 256 and len(rff.known) == KEPT + 3


def test_who_is_told_all_that_it_knows_continues_as_it_would() -> None:
    rff = taught()
    execution(rff, *[sets()] * 250)
    learned(rff)
    rff.kept = [{X: (CHECKER, SETTER)}, {Y: (OTHER, NOBODY)}]
    told = Rff()
    told.learn((400, [(L, SETTER, "A", True, True)], [], ()))
    told.know(rff.knowledge())
    assert told.knowledge() == rff.knowledge() and rff.knowledge()[0] == 250
    assert (told.sights, told.known, told.kept) == (rff.sights, rff.known, rff.kept)
    assert [place for place, uses in told.uses.items() if uses.shared] == [X, Y]
    rff.random.seed(3)
    told.random.seed(3)
    made = [(rff.new_execution(), rff.tried) for _ in range(40)]
    assert made == [(told.new_execution(), told.tried) for _ in range(40)]
    told.kept[0].clear()
    assert rff.kept[0], "it has a copy"


def test_it_learns_how_long_executions_are() -> None:
    rff, patience = taught(), Patience()
    assert rff.patience.longest == patience.longest == FIRST_GUESS
    execution(rff, *[looks()] * 170)
    assert rff.new_execution() and rff.patience.longest == 170 and rff.patience.points == 0
