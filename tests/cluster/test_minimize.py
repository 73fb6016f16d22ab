"""Shortening a schedule: shorter, never another finding, and never longer than it was."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from cluster.boot import prepare
from cluster.search.deviate import Deviate
from cluster.search.minimize import minimize
from cluster.search.walk import RandomWalk
from cluster.sim.engine import Sim
from shared.findings import Finding
from shared.journal.deviation import Deviation
from shared.port.port import here, panic
from tests.kit import OTHER, THING, Toy, make_structs, scenario


def crosswise(first: object, second: object) -> None:
    for _ in range(5):  # noise: operations that decide nothing
        here.port.wakeup(THING.addressof("h"))
    first.lock()  # type: ignore[attr-defined]
    second.lock()  # type: ignore[attr-defined]
    second.unlock()  # type: ignore[attr-defined]
    first.unlock()  # type: ignore[attr-defined]


def deadlocking() -> Toy:
    bodies = {"A": (0, lambda: crosswise(THING.lk, OTHER.lk)), "B": (1, lambda: crosswise(OTHER.lk, THING.lk))}
    return Toy(make_structs, bodies, {"lockorder": "off"})


def test_a_deadlock_needs_a_single_deviation() -> None:
    """A takes one lock, B both: that is all there is to say, whatever the random walk did besides."""
    toy = deadlocking()
    finding = toy.search()
    assert finding is not None
    before = toy.sim.deviations
    short = minimize(toy.sim, finding, before)
    assert len(short) == 1 < len(before)
    assert toy.sim.finding is not None and toy.sim.finding.signature == finding.signature


@pytest.mark.parametrize("seed", range(4))
def test_what_is_left_of_a_real_race_still_finds_it(seed: int) -> None:
    """`sim` has run the shortened schedule last, so its state is the finding's."""
    machine, image = prepare(scenario("S3a-shipped"))
    sim = Sim(machine, image)
    walk = RandomWalk(seed)
    finding = next(finding for finding in (sim.execute(walk) for _ in range(500)) if finding is not None)
    before = sim.deviations
    short = minimize(sim, finding, before)
    assert len(short) <= 3 < len(before)
    assert sim.deviations == short
    strict = Deviate(short)
    again = sim.execute(strict)
    strict.finish()
    assert again is not None and again.signature == finding.signature


def test_a_shorter_schedule_with_another_finding_is_not_taken() -> None:
    """Without its deviation this machine panics elsewhere, and that is another story."""

    def breaks(text: str) -> None:
        here.port.enter(text)
        panic(text)

    def first() -> None:
        breaks("late" if THING.h else "early")

    def second() -> None:
        THING.h = 1
        THING.h = 1

    toy = Toy(make_structs, {"A": (0, first), "B": (1, second)}, {"race": "off"})
    finding = toy.search()
    while finding is None or finding.function != "late":
        finding = toy.search(seed=len(toy.sim.deviations) + 1)
    short = minimize(toy.sim, finding, toy.sim.deviations)
    assert len(short) == 1
    assert toy.sim.finding is not None and toy.sim.finding.function == "late"


def test_the_budget_bounds_the_executions() -> None:
    """A schedule of thousands of deviations must not take minutes."""
    toy = deadlocking()
    finding = toy.search(seed=5)
    assert finding is not None
    executions = 0
    execute = toy.sim.execute

    def counted(*args: object, **options: object) -> object:
        nonlocal executions
        executions += 1
        return execute(*args, **options)  # type: ignore[arg-type]

    toy.sim.execute = counted  # type: ignore[method-assign, assignment]
    minimize(toy.sim, finding, toy.sim.deviations, budget=4)
    assert executions <= 5


def test_the_empty_schedule_stays_empty() -> None:
    machine, image = prepare(scenario("S3a"))
    sim = Sim(machine, image)
    from cluster.search.strategy import Stay

    finding = sim.execute(Stay())
    assert finding is not None and minimize(sim, finding, []) == []


# -- which schedules are tried -------------------------------------------------------------------

FOUND = Finding("panic", "panic: here", function="here")
ANOTHER = Finding("panic", "panic: there", function="there")


class Judge:
    """In place of an engine: says of each schedule what it finds, and keeps the schedules.

    Args:
        finds: says so, of the deviations and whether choices of data are renumbered.

    Attributes:
        tried: deviations, and whether choices are renumbered.
        deviations: those that were taken, of the last schedule.
    """

    def __init__(self, finds: Callable[[list[Deviation], bool], Finding | None]):
        self.finds = finds
        self.tried: list[tuple[list[Deviation], bool]] = []
        self.deviations: list[Deviation] = []

    def execute(self, strategy: Deviate) -> Finding | None:
        assert not strategy.strict, "what a shortened schedule cannot take is skipped"
        self.deviations = list(strategy.deviations)
        self.tried.append((self.deviations, strategy.renumbered))
        return self.finds(self.deviations, strategy.renumbered)

    def shortens(self, deviations: list[Deviation], **budget: int) -> list[Deviation]:
        short = minimize(self, FOUND, deviations, **budget)  # type: ignore[arg-type]
        assert self.tried[-1][0] == short, "that schedule was run last"
        return short


def points(count: int) -> list[Deviation]:
    return [Deviation("A", n, "point", f"B{n}") for n in range(1, count + 1)]


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7, 12])
def test_what_a_finding_needs_is_what_is_left(count: int) -> None:
    """Whichever deviations these are. Of the others none is left, and each schedule is shorter than the whole."""
    dice, whole = random.Random(count), points(count)
    for _ in range(30):
        needed = [deviation for deviation in whole if dice.random() < 0.4]
        judge = Judge(lambda tried, _, needed=needed: FOUND if {*needed} <= {*tried} else None)  # type: ignore[misc]
        assert judge.shortens(whole) == needed
        assert all(len(tried) < count for tried, _ in judge.tried[:-1])
        assert len(judge.tried) < 4 + 4 * count + (count + 1) * len(needed)


def test_halves_are_left_out_before_single_deviations() -> None:
    """After all of them: most findings need little or nothing."""
    whole = points(8)
    judge = Judge(lambda tried, _: FOUND if whole[7] in tried else None)
    assert judge.shortens(whole) == [whole[7]]
    assert [len(tried) for tried, _ in judge.tried[:3]] == [0, 4, 0]
    judge = Judge(lambda tried, _: FOUND if len(tried) == 8 else None)
    assert judge.shortens(whole) == whole
    blocks = [*[8 - 4] * 2, *[8 - 2] * 4, *[8 - 1] * 8]
    assert [len(tried) for tried, _ in judge.tried] == [0, *blocks, *[7] * 7, 8], "and at last detours"
    whole = points(19)
    judge = Judge(lambda tried, _: FOUND if {whole[0], whole[18]} <= {*tried} else None)
    assert judge.shortens(whole) == [whole[0], whole[18]]
    assert [len(tried) for tried, _ in judge.tried[:7]] == [0, 10, 10, 9, 6, 6, 4], "of what is left, blocks of 4"
    judge = Judge(lambda tried, _: FOUND)
    assert judge.shortens(whole) == [] and len(judge.tried) == 2


def test_a_schedule_with_another_finding_is_no_shorter_one() -> None:
    whole = points(5)
    judge = Judge(lambda tried, _: FOUND if len(tried) == 5 else ANOTHER)
    assert judge.shortens(whole) == whole


def test_a_schedule_that_is_as_long_is_not_taken_instead() -> None:
    """An execution may take other deviations than those that it was given."""
    whole = points(3)

    class Longer(Judge):
        def execute(self, strategy: Deviate) -> Finding | None:
            finding = super().execute(strategy)
            if len(strategy.deviations) == 2:
                self.deviations = points(3)
            return finding

    judge = Longer(lambda tried, _: FOUND if len(tried) >= 2 else None)
    assert minimize(judge, FOUND, whole) == whole  # type: ignore[arg-type]
    assert len(judge.tried) < 20


def test_what_can_be_left_out_only_after_something_later_is_left_out() -> None:
    first, second, third = whole = points(3)
    judge = Judge(lambda tried, _: FOUND if third in tried and (first in tried or second not in tried) else None)
    assert judge.shortens(whole) == [third]


def test_a_detour_is_cut_short() -> None:
    """To X, and at once on to Y: that is to Y. In a longer schedule too, and once for each detour."""
    first, second, third, last = points(4)
    whole = [first, second, third, last]
    merged = first._replace(next=second.next), third._replace(next=last.next)

    def finds(tried: list[Deviation], _: bool) -> Finding | None:
        front = tried[:2] == [first, second] or tried[:1] == [merged[0]]
        back = tried[-2:] == [third, last] or tried[-1:] == [merged[1]]
        return FOUND if front and back else None

    judge = Judge(finds)
    assert judge.shortens(whole) == list(merged)
    enough = len(judge.tried) - 1
    assert Judge(finds).shortens(whole, budget=enough) == list(merged)
    assert len(Judge(finds).shortens(whole, budget=enough - 1)) == 3


@pytest.mark.parametrize("budget", range(1, 30))
def test_no_more_schedules_are_tried_than_the_budget_says(budget: int) -> None:
    """And the shortest of them is run once more."""
    whole = points(10)
    judge = Judge(lambda tried, _: FOUND if {whole[2], whole[3], whole[8]} <= {*tried} else None)
    short = judge.shortens(whole, budget=budget)
    assert [len(tried) for tried, _ in judge.tried[:-1]][:3] == [0, 5, 5][:budget]
    assert len(judge.tried) <= budget + 1 and {whole[2], whole[3], whole[8]} <= {*short}
    assert (len(judge.tried) == budget + 1) or short == [whole[2], whole[3], whole[8]]
    assert short == min((tried for tried, _ in judge.tried if judge.finds(tried, False)), key=len)


def test_with_choices_of_data_a_schedule_is_tried_as_numbered_and_renumbered() -> None:
    """A choice may come as another operation of its context once something before it is left out."""
    whole = [*points(2), Deviation("A", 9, "choice", 1)]
    judge = Judge(lambda tried, renumbered: FOUND if len(tried) == 3 or (renumbered and whole[2] in tried) else None)
    assert judge.shortens(whole) == [whole[2]]
    kinds = {(any(deviation.kind == "choice" for deviation in tried), renumbered) for tried, renumbered in judge.tried}
    assert kinds == {(False, False), (True, False), (True, True)}
