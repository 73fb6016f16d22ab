"""Bounded search sees each class within its bound, and no other: by brute force."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import pytest

from cluster.boot import prepare
from cluster.search.bounded import Bounded, number_of
from cluster.search.delays import Delays
from cluster.search.dpor import Optimal
from cluster.search.preemptions import Preemptions
from cluster.search.trace import Event
from cluster.sim.engine import Sim
from tests.cluster import brute
from tests.cluster.brute import Statement
from tests.kit import scenario


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
