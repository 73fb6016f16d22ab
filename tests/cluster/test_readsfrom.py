"""Every reads-from class of executions is seen: by brute force, by published counts, and beside optimal DPOR."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import partial

import pytest

from cluster.api import Program, ReadsFrom, explore
from cluster.boot import prepare
from cluster.search.dpor import Optimal
from cluster.search.rfgraph import Front, Graph
from cluster.search.strategy import SearchOver
from cluster.search.systematic import Stepwise
from cluster.search.trace import NO_CHOICE, Label
from cluster.sim.engine import Sim
from shared.port.port import here
from tests.cluster import brute
from tests.cluster.programs import DEFECTS
from tests.cluster.test_behind import a_beginning
from tests.cluster.test_dpor import adder, holds, locked_adder, read_both, set_both, setup_many, takes, tries
from tests.kit import THING, Toy, make_structs, scenario, threads


def judge(seed: int, most: int, final: bool, behind: bool = False) -> tuple[int, int]:
    """How many classes there are, of which each must come, and end as it must; how many executions were redundant."""
    bodies, kind = brute.random_program(seed), partial(brute.class_of, reads_from=True, final=final)
    first = a_beginning(bodies, random.Random(seed)) if behind else None
    names = {name: f"t{at}" for at, name in enumerate(prepare(brute.program(bodies).scenario())[0].threads)}
    done = [(names[name], act, result) for name, act, result in brute.done_in(first or {})]
    wanted = brute.classes(bodies, most, done, kind)
    strategy = ReadsFrom(final)
    seen = brute.seen_by(strategy, bodies, first, kind)
    assert {its: stuck for its, (stuck, _) in seen.items()} == {its: ends.stuck for its, ends in wanted.items()}
    assert strategy.executions == len(wanted) + strategy.redundant
    return len(wanted), strategy.redundant


@pytest.mark.wide
@pytest.mark.parametrize("final", [False, True])
def test_each_class_of_random_programs_is_seen_and_few_twice(final: bool) -> None:
    classes, redundant = zip(*brute.judged(lambda seed: judge(seed, 150, final), range(60)), strict=True)
    assert len(classes) > 20 and sum(classes) > 2 * len(classes)
    assert 20 * sum(redundant) < sum(classes)


def test_each_class_behind_a_beginning_is_seen() -> None:
    """What a thread holds or has read at the end of the beginning stays so."""
    classes, redundant = zip(*brute.judged(lambda seed: judge(seed, 150, True, behind=True), range(30)), strict=True)
    assert len(classes) > 12 and 20 * sum(redundant) < sum(classes)


@pytest.mark.long
@pytest.mark.parametrize("behind", [False, True])
@pytest.mark.parametrize("final", [False, True])
def test_each_class_of_hundreds_of_random_programs_is_seen(final: bool, behind: bool) -> None:
    judged = brute.judged(lambda seed: judge(seed, 800, final, behind), range(1000, 1400))
    assert len(judged) > 150 and 20 * sum(redundant for _, redundant in judged) < sum(classes for classes, _ in judged)


# -- published counts ----------------------------------------------------------------------------


def count(bodies: Sequence[Callable[[], None]], final: bool = False) -> tuple[int, int]:
    """Classes, and redundant executions, of threads whose fields are not looked at in the end."""
    sim = Sim(*prepare(Program(setup_many, bodies, None, brute.DETECT).scenario()), set())
    strategy = ReadsFrom() if final else ReadsFrom(final=False)
    for _ in brute.walked(sim, strategy):
        pass
    return strategy.executions - strategy.redundant, strategy.redundant


@pytest.mark.parametrize(("threads", "times", "classes"), [(2, 1, 3), (3, 1, 16), (4, 1, 125), (2, 2, 19), (2, 3, 141)])
def test_unlocked_reads_and_writes(threads: int, times: int, classes: int) -> None:
    """Nidhugg --rf counts the same: 3 for what has 4 Mazurkiewicz traces, 125 for 576, 141 for 328."""
    seen, redundant = count([adder(times)] * threads)
    assert seen == classes and 50 * redundant <= classes


@pytest.mark.long
def test_unlocked_reads_and_writes_of_three_threads() -> None:
    assert count([adder(2)] * 3) == (1318, 1)


@pytest.mark.parametrize(("threads", "times", "classes"), [(2, 1, 2), (3, 1, 6), (4, 1, 24), (2, 2, 6), (3, 2, 90)])
def test_reads_and_writes_under_a_lock(threads: int, times: int, classes: int) -> None:
    """Locks are ordered: as many as there are for dpor."""
    assert count([locked_adder(times)] * threads) == (classes, 0)


def test_a_deadlock_is_a_class_and_leads_to_another() -> None:
    """As for dpor."""
    assert count([takes(0, 1), takes(1, 0)]) == (3, 0)


@pytest.mark.parametrize("setters", range(2, 7))
def test_setters_and_a_reader(setters: int) -> None:
    """The reader reads each field from one of the setters, or from none; dpor needs 518,400 executions for five."""
    assert count([set_both] * setters + [read_both]) == ((setters + 1) ** 2, 0)


def test_what_is_looked_at_in_the_end_tells_classes_apart() -> None:
    """Two setters: each may be the last one to store each field."""
    assert count([set_both] * 2) == (1, 0) and count([set_both] * 2, final=True) == (4, 0)


# -- beside optimal DPOR --------------------------------------------------------------------------------


def walk(sim: Sim, strategy: Stepwise, plain: Callable[..., bool]) -> tuple[set[Front], set[int]]:
    """Reads-from classes of the executions, and Mazurkiewicz classes; processors are numbered alike for all."""
    known = -1
    fronts: set[Front] = set()
    names: set[int] = set()
    try:
        while True:
            if len(sim.racy) != known:
                known = len(sim.racy)
                strategy.grown()
                strategy.trace.meet(sim.threads.values())
                fronts.clear()
                names.clear()
            sim.execute(strategy)
            if not strategy.given_up:
                trace = strategy.whole()
                graph = Graph(trace.events, trace.width(), plain, True)
                fronts.add(graph.front(graph.whole()))
                names.add(hash(trace.names()))
    except SearchOver:
        return fronts, names


def same(make: Callable[[], Sim]) -> tuple[ReadsFrom, int]:
    """Both strategies must come to the same reads-from classes; how many Mazurkiewicz classes there are."""
    strategy = ReadsFrom()
    fronts, names = walk(make(), strategy, strategy.plain)
    wanted, every = walk(make(), Optimal(), strategy.plain)
    assert fronts == wanted and names <= every
    return strategy, len(every)


@pytest.mark.parametrize("name", ["E25", "E25-cow", "E57", "E59", "E60-panic", "S11a-interrupt", "S12b"])
def test_both_come_to_the_same_classes_of_the_kernel(name: str) -> None:
    """Interrupts, shootdowns, sleeps, accesses of users, several contexts on a CPU. In E25-cow a shootdown interrupts
    another access than by default: dpor had missed that."""
    strategy, _ = same(lambda: Sim(*prepare(scenario(name).without_errata()), set()))
    assert 10 * strategy.redundant <= strategy.executions or strategy.executions < 10


@pytest.mark.parametrize("bodies", [[holds, tries], [holds, holds, tries], [tries, tries]])
def test_both_come_to_the_same_where_a_context_tries_again(bodies: list[Callable[[], None]]) -> None:
    threads = {name: (cpu, body) for cpu, (name, body) in enumerate(zip("ABC", bodies, strict=False))}
    same(lambda: Toy(make_structs, threads).sim)


def waits(name: str) -> Callable[[], None]:
    def wait() -> None:
        while getattr(THING, name) == 0:
            here.port.spin()

    return wait


def sets(*names: str) -> Callable[[], None]:
    def set_them() -> None:
        for name in names:
            setattr(THING, name, 1)

    return set_them


def test_a_field_is_ordered_that_a_context_looks_at_before_it_tries_again() -> None:
    """By default nobody waits; who waits for which field is seen in two executions, and each time all begins anew."""
    bodies = {"A": (0, sets("v", "h")), "B": (1, waits("v")), "C": (2, waits("h"))}
    strategy = ReadsFrom()
    for _ in brute.walked(Toy(make_structs, bodies, {"race": "off"}).sim, strategy):
        assert strategy.executions < 100
    wanted, _ = walk(Toy(make_structs, bodies, {"race": "off"}).sim, Optimal(), strategy.plain)
    assert len(strategy.ordered) == 2 and len(strategy.classes) == len(wanted) == 4


# -- without an engine, or between two executions -------------------------------------------------------


def test_a_choice_is_that_of_the_way_or_the_first() -> None:
    strategy, context = ReadsFrom(), threads(1)[0]
    assert strategy._value(context, 3) == 0
    for label, value, step in ((("T0", 2), 2, 1), (("T1", 2), 0, 0), (("T0", NO_CHOICE), 0, 0)):
        strategy.way, strategy._step = [label], 0
        assert (strategy._value(context, 3), strategy._step) == (value, step)


def test_an_execution_that_cannot_go_its_way_is_redundant_once_and_nothing_is_learned_from_it() -> None:
    strategy = ReadsFrom()
    assert strategy.new_execution()
    strategy.way = [("nobody", NO_CHOICE)]
    assert strategy.pick(threads(2), None) is None and strategy.given_up
    assert not strategy.new_execution() and strategy.redundant == 1 and not strategy.classes


def executed() -> tuple[ReadsFrom, list[Label]]:
    """A strategy behind its first execution, and what that did."""
    strategy = ReadsFrom()
    Sim(*prepare(Program(setup_many, [adder(1)] * 2, None, brute.DETECT).scenario()), set()).execute(strategy)
    return strategy, [event.label for event in strategy.whole().events]


@pytest.mark.parametrize("given", [0, 2])
def test_what_two_executions_begin_with_is_kept(given: int) -> None:
    """Behind what is not the strategy's to choose: all of the way, none of it, or all there was."""
    for at, more in ((4, []), (given, [("nobody", NO_CHOICE)]), (None, [("nobody", NO_CHOICE)])):
        strategy, had = executed()
        strategy.given, kept = given, had[:at]
        strategy._go([*kept[given:], *more])
        assert [event.label for event in strategy.trace.events] == kept
        assert strategy._step == len(kept) - given and strategy.way == [*kept[given:], *more]


def test_a_processor_that_was_not_known_makes_all_begin_anew() -> None:
    """Cuts have a number for each."""
    strategy, _ = executed()
    assert strategy.new_execution() and strategy.executions == 2
    strategy, had = executed()
    strategy.width = 1
    assert strategy.new_execution() and (strategy.executions, strategy.width) == (1, 2)
    assert not strategy.trace.events and not strategy.parts and had


# -- programs of one's own --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", DEFECTS)
def test_it_finds_the_defect_and_exhausts_the_program_without_it(kind: str) -> None:
    broken, right = DEFECTS[kind]
    report = explore(broken, ReadsFrom())
    assert report.finding is not None and report.token is not None
    assert explore(right, ReadsFrom()).exhausted
