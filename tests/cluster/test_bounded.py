"""Bounded search sees each class within its bound, and no other: by brute force."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import pytest

from cluster.boot import prepare
from cluster.search.bounded import WORD, Bounded, Place, number_of
from cluster.search.delays import Delays
from cluster.search.dpor import Optimal
from cluster.search.preemptions import Preemptions
from cluster.search.trace import NO_CHOICE, Event
from cluster.sim.engine import Sim
from tests.cluster import brute
from tests.cluster.brute import Statement
from tests.kit import scenario, threads


def judge(bodies: Sequence[list[Statement]], most: int) -> tuple[int, int]:
    """How many classes there are within two preemptions, and how many executions it took to see them."""
    wanted = brute.classes(bodies, most)
    for bound in range(3):
        preemptions, delays = Preemptions(bound), Delays(bound)
        within = {its: ends.stuck for its, ends in wanted.items() if ends.preemptions <= bound}
        assert ended(preemptions, bodies) == within and len(preemptions.classes) == len(within)
        assert preemptions.executions - preemptions.redundant == len(within)
        assert ended(delays, bodies) == {its: ends.stuck for its, ends in wanted.items() if ends.delays <= bound}
    return len(within), preemptions.executions


def ended(strategy: Bounded, bodies: Sequence[list[Statement]]) -> dict[brute.Class, bool]:
    """Each class that was performed, and whether threads were stuck."""
    return {its: stuck for its, (stuck, _) in brute.seen_by(strategy, bodies).items()}


@pytest.mark.parametrize("programs", [25, pytest.param(100, marks=pytest.mark.wide)])
def test_each_class_of_random_programs_within_a_bound_is_seen_and_no_other(programs: int) -> None:
    seen = brute.judged(lambda seed: judge(brute.random_program(seed), 200), range(programs))
    classes, executions = map(sum, zip(*seen, strict=True))
    assert 3 * len(seen) > programs and classes > 2 * len(seen) and executions < 6 * classes


@pytest.mark.parametrize("later", [["lock", 0, []], ["sleep", 2]], ids=["again", "forever"])
def test_a_lock_that_is_not_free_when_it_is_asked_for_could_have_been_asked_for_before(later: Statement) -> None:
    """The second thread asks for the lock only if it reads 1. With one preemption it gets the lock before the first
    thread, or asks while the first thread has it, and never asks in between."""
    held = ["lock", 0, [["add", 1], *([later] if later[0] == "sleep" else [])]]
    judge([[["add", 1], held, later], [["if", 1, [["lock", 0, []]]]]], 1000)


def test_classes_that_exchange_what_is_before_two_events_have_different_numbers() -> None:
    """A class with such a number would pass for another one, and would not be explored."""
    random = Random(0)

    def number(thread: str, clock: list[int]) -> int:
        event = Event(thread, 0)
        event.clock = clock
        return number_of(event)

    for _ in range(1000):
        one_clock, other_clock = ([random.randrange(40) for _ in range(3)] for _ in range(2))
        as_is = number("t1", one_clock) + number("t2", other_clock)
        assert as_is != number("t1", other_clock) + number("t2", one_clock) or one_clock == other_clock


# -- one place, without an engine ---------------------------------------------------------------------


def test_who_runs_continues_and_the_others_are_for_later_at_the_cost_of_a_preemption() -> None:
    """Who has been preempted sleeps. Where nobody runs, all are tried, the next in turn first, at no cost."""
    strategy, (a, b, c) = Preemptions(), threads(3)
    place = Place(0, 0, {})
    assert strategy._options(place, [a, b, c], None) == [(a, 0), (b, 0), (c, 0)] and place.instead == []
    assert strategy._options(place, [a, b, c], b) == [(b, 0)]
    assert place.instead == [(("T2", NO_CHOICE), 1), (("T0", NO_CHOICE), 1)]
    sleeps = Place(0, 0, {"T0": Event("T0", 0)})
    strategy.thread = b
    assert strategy._options(sleeps, [a, b, c], None) == [(c, 0), (b, 0)]
    assert strategy._options(sleeps, [a, b, c], b) == [(b, 0)] and sleeps.instead == [(("T2", NO_CHOICE), 1)]


def test_each_context_that_is_passed_over_is_a_delay() -> None:
    """As many as are left; and it is noted if more could have been."""
    strategy, (a, b, c) = Delays(), threads(3)
    for bound, spent, costs in ((0, 0, [(b, 0)]), (1, 0, [(b, 0), (c, 1)]), (2, 1, [(b, 0), (c, 1)])):
        strategy.bound, strategy.limited = bound, False
        assert strategy._options(Place(spent, 0, {}), [a, b, c], b) == costs and strategy.limited
    strategy.bound, strategy.limited = 2, False
    assert strategy._options(Place(0, 0, {}), [a, b, c], b) == [(b, 0), (c, 1), (a, 2)] and not strategy.limited


def test_costs_depend_on_who_runs_and_delays_on_whose_turn_it_is_too() -> None:
    a, b = threads(2)
    preemptions, delays = Preemptions(), Delays()
    assert [preemptions._favourite(current) for current in (None, a, b)] == ["", "T0", "T1"]
    names = [delays._favourite(None), delays._favourite(a)]
    for delays.thread in (a, b):
        names += [delays._favourite(None), delays._favourite(delays.thread)]
    assert len(set(names)) == len(names)


def test_a_place_is_left_if_one_like_it_has_been_seen_with_no_less_to_come() -> None:
    """No more was spent there, and nobody slept there who is awake here."""
    strategy, event = Preemptions(), Event("A", 0)
    seen = [(1, 7, ""), (1, 7, ""), (2, 7, ""), (0, 7, ""), (1, 8, ""), (2, 8, "A")]
    seen += [(1, 9, "A"), (1, 9, "AB"), (1, 9, "")]
    covered = [False, True, True, False, False, True, False, True, False]
    places = [Place(spent, number, dict.fromkeys(asleep, event)) for spent, number, asleep in seen]
    assert [strategy._covered(place, "T0") for place in places] == covered
    assert not strategy._covered(places[0], "T1"), "another runs there"


def test_behind_an_event_sleeps_who_was_preempted_before_it_unless_the_event_depends_on_his() -> None:
    strategy = Preemptions()
    here = strategy._place()
    assert (here.spent, here.number, here.asleep, here.current) == (0, 0, {}, None) and strategy._place() is here
    first, second, third = (Event(name, cpu) for cpu, name in enumerate("ABC"))
    second.clock, third.clock, first.clock = [0, 1], [0, 1, 1], [1, 1, 1]
    here.left, here.current = [(("B", NO_CHOICE), 1)], first
    strategy.trace.events.append(second)
    there = strategy._place()
    assert (there.spent, there.number, there.asleep) == (1, number_of(second) % WORD, {"A": first})
    there.left, there.current = [(("C", NO_CHOICE), 0)], third
    strategy.trace.events.append(third)
    behind = strategy._place()
    assert (behind.spent, behind.asleep) == (1, {"A": first}), "who goes on has not been preempted"
    assert behind.number == (number_of(second) + number_of(third)) % WORD
    behind.left = [(("A", NO_CHOICE), 0)]
    strategy.trace.events.append(first)
    assert strategy._place().asleep == {}


def test_all_that_is_left_at_a_place_is_tried_in_turn_and_nobody_where_all_sleep() -> None:
    strategy, (a, b) = Preemptions(), threads(2)
    assert strategy._next([a, b], None) is a
    assert strategy.places[0].left == [(("T1", NO_CHOICE), 0), (("T0", NO_CHOICE), 0)]
    strategy.places[0].left.pop()
    assert strategy._next([a, b], a) is b, "it was left there"
    strategy.places[:] = [Place(0, 1, {"T0": Event("T0", 0), "T1": Event("T1", 0)})]
    assert strategy._next([a, b], None) is None
    strategy.places[:] = [Place(0, 0, {})]
    assert strategy._next([a, b], None) is None, "it has been there"


def test_values_are_tried_from_the_first_and_cost_nothing() -> None:
    strategy, context = Preemptions(), threads(1)[0]
    assert strategy._value(context, 3) == 0
    assert strategy.places[0].left == [(("T0", value), 0) for value in (2, 1, 0)]
    strategy.places[0].left.pop()
    assert strategy._value(context, 3) == 1


@pytest.mark.long
def test_each_class_of_thousands_of_random_programs_within_a_bound_is_seen() -> None:
    seen = brute.judged(lambda seed: judge(brute.random_program(seed), 1000), range(20_000, 23_000))
    assert len(seen) > 1000 and sum(classes for classes, _ in seen) > 5000


@pytest.mark.parametrize("strategy", [Preemptions, Delays])
def test_a_search_is_over_at_the_bound_that_leaves_nothing_out(strategy: type[Bounded]) -> None:
    """It has seen what there is."""
    bodies: list[list[Statement]] = [[["add", 0]], [["add", 0]], [["lock", 0, [["read", 1]]]]]
    bounded = strategy()
    assert ended(bounded, bodies).keys() == brute.classes(bodies, 10_000).keys()
    assert 2 <= bounded.bound <= 6


@pytest.mark.wide
@pytest.mark.parametrize("name", ["E25", "E25-loan", "E52"])
def test_what_the_kernel_comes_to_without_preemptions_is_part_of_what_there_is(name: str) -> None:
    """With as many as it takes it is all of it."""
    scene = scenario(name).without_errata()
    every, bounded, none = Optimal(), Preemptions(), Preemptions(0)
    racy: set[str] = set()
    names = {}
    for strategy in (every, bounded, none):
        sim = Sim(*prepare(scene), racy)
        seen = names[strategy] = set()
        for _ in brute.walked(sim, strategy):
            if not strategy.given_up:
                seen.add(strategy.whole().names())
    assert names[none] < names[bounded] == names[every]
