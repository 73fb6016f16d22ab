"""Optimal DPOR performs each class of executions once: by brute force, and by published counts."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence

import pytest

from cluster.api import Program, new
from cluster.boot import prepare
from cluster.search.dependency import RULES
from cluster.search.dpor import Optimal
from cluster.search.trace import Event
from cluster.search.wakeup import Branch, Place, choice_first
from cluster.sim.engine import Sim
from nodes.cpu import Thread
from shared.port.port import here
from shared.wire.messages import OPERATIONS
from tests.cluster import brute
from tests.cluster.brute import CELLS, Cell, Statement
from tests.kit import THING, Toy, make_structs, scenario, scene, threads

#: more cells than those of random programs
MANY = [Cell.at(number) for number in range(128)]
CELL, OTHER = CELLS[:2]


def setup_many() -> None:
    for _ in MANY:
        new(Cell).value = 0


def count(bodies: Sequence[Callable[[], None]]) -> int:
    """Executions of the threads; none is redundant."""
    sim, strategy = Sim(*prepare(Program(setup_many, bodies, None, brute.DETECT).scenario()), set()), Optimal()
    for _ in brute.walked(sim, strategy):
        pass
    assert strategy.redundant == 0
    return strategy.executions


def judge(bodies: Sequence[list[Statement]], most: int) -> int:
    """How many classes there are; each must come once, and end as it must."""
    wanted = brute.classes(bodies, most)
    strategy = Optimal()
    seen = brute.seen_by(strategy, bodies)
    assert {its: stuck for its, (stuck, _) in seen.items()} == {its: ends.stuck for its, ends in wanted.items()}
    assert {times for _, times in seen.values()} == {1} and strategy.redundant == 0
    return len(wanted)


def test_a_choice_of_data_comes_right_behind_what_its_thread_does() -> None:
    """Nobody can go between, also where another order of the others had it so."""
    place = Place([], [Branch(Event("first", 0))])
    does, other = Event("chooser", 1), Event("other", 2)
    place.insert([does, Event("chooser", 1, 0)])
    place.insert([other, does, Event("chooser", 1, 1)])
    assert [branch.event.label for branch in place.tree] == [("first", -1), ("chooser", -1)]
    assert [branch.event.label for branch in place.tree[1].rest] == [("chooser", 0), ("chooser", 1)]
    assert [branch.event.label for branch in place.tree[1].rest[1].rest] == [("other", -1)]


def test_a_choice_that_its_thread_begins_with_comes_before_all_others() -> None:
    first, other, choice = Event("one", 1), Event("other", 2), Event("chooser", 0, 1)
    assert choice_first([first, other, choice, first]) == [choice, first, other, first]
    assert choice_first([choice, first]) == [choice, first] and choice_first([first, other]) == [first, other]
    does = Event("chooser", 0)
    assert choice_first([first, does, choice]) == [first, does, choice]


def test_what_sleeps_since_an_earlier_place_was_not_explored_behind_it() -> None:
    here, depends, independent = Event("here", 0), Event("there", 0), Event("elsewhere", 1)
    place = Place([], [Branch(here)])
    place.add([depends, independent])
    behind = place.after(here)
    assert place.own() == [depends, independent] and behind.own() == []
    assert behind.asleep == [independent], "the other has a new order with what has been performed"
    behind.add([depends])
    assert behind.own() == [depends]


def test_what_sleeps_is_passed_over_where_no_beginning_is_left() -> None:
    """The current context continues if it may, else the next in turn; nobody, if all that could continue sleeps."""
    strategy, contexts = Optimal(), threads(3)
    assert strategy._next(contexts, contexts[1]) is contexts[1]
    strategy.places[-1].add([Event("T0", 0)])
    assert strategy._next(contexts, None) is strategy._next(contexts, contexts[0]) is contexts[1]
    assert strategy._next(contexts, contexts[2]) is contexts[2]
    strategy.places[-1].add([Event("T1", 0), Event("T2", 0)])
    assert strategy._next(contexts, contexts[1]) is None


def test_a_choice_that_nothing_is_known_of_is_the_first_and_another_the_one_of_the_tree() -> None:
    strategy, context = Optimal(), threads(1)[0]
    assert strategy._value(context, 3) == 0
    strategy.places[-1].tree.append(Branch(Event("T0", 0, 2)))
    assert strategy._value(context, 3) == 2


@pytest.mark.parametrize("programs", [50, pytest.param(200, marks=pytest.mark.wide)])
def test_each_class_of_random_programs_is_performed_once(programs: int) -> None:
    classes = brute.judged(lambda seed: judge(brute.random_program(seed), 250), range(programs))
    assert 3 * len(classes) > programs and sum(classes) > 3 * len(classes)


@pytest.mark.long
def test_each_class_of_thousands_of_random_programs_is_performed_once() -> None:
    classes = brute.judged(lambda seed: judge(brute.random_program(seed), 2000), range(1000, 9000))
    assert len(classes) > 4000 and sum(classes) > 20_000


# -- published counts ------------------------------------------------------------------------------


def body(function: Callable[[int], None], number: int) -> Callable[[], None]:
    """A thread that is given a number."""

    def thread() -> None:
        function(number)

    return thread


def adder(times: int) -> Callable[[], None]:
    def add() -> None:
        for _ in range(times):
            CELL.value += 1

    return add


def locked_adder(times: int) -> Callable[[], None]:
    def add() -> None:
        for _ in range(times):
            CELL.lock.lock()
            CELL.value += 1
            CELL.lock.unlock()

    return add


@pytest.mark.parametrize(
    ("threads", "times", "traces"), [(2, 1, 4), (3, 1, 36), (4, 1, 576), (2, 2, 34), (2, 3, 328), (3, 2, 7134)]
)
def test_unlocked_reads_and_writes(threads: int, times: int, traces: int) -> None:
    assert count([adder(times)] * threads) == traces


@pytest.mark.parametrize(
    ("threads", "times", "traces"), [(2, 1, 2), (3, 1, 6), (4, 1, 24), (2, 2, 6), (3, 2, 90), (5, 1, 120)]
)
def test_reads_and_writes_under_a_lock(threads: int, times: int, traces: int) -> None:
    assert count([locked_adder(times)] * threads) == traces


def takes(first: int, second: int) -> Callable[[], None]:
    def take() -> None:
        CELLS[first].lock.lock()
        CELLS[second].lock.lock()
        CELLS[second].lock.unlock()
        CELLS[first].lock.unlock()

    return take


def test_a_deadlock_is_a_class_and_leads_to_another() -> None:
    """One thread is first, or the other, or each waits for the other's lock; that the second is first is known only
    from what was left there."""
    assert count([takes(0, 1), takes(1, 0)]) == 3


@pytest.mark.parametrize(("threads", "times", "traces"), [(3, 1, 36), (2, 2, 34), (2, 3, 328)])
def test_what_is_left_is_estimated(threads: int, times: int, traces: int) -> None:
    """Within a factor of three, when a quarter has been seen."""
    program = Program(setup_many, [adder(times)] * threads, None, brute.DETECT)
    sim, strategy = Sim(*prepare(program.scenario()), set()), Optimal()
    for _ in brute.walked(sim, strategy):
        if strategy.executions == traces // 4:
            assert traces / 3 < strategy.expected() < 3 * traces
    assert strategy.executions == traces


def set_both() -> None:
    CELL.value = 1
    OTHER.value = 1


def read_both() -> None:
    assert CELL.value is not None and OTHER.value is not None


@pytest.mark.parametrize(("setters", "traces"), [(2, 36), (3, 576)])
def test_setters_and_a_reader(setters: int, traces: int) -> None:
    assert count([set_both] * setters + [read_both]) == traces


@pytest.mark.long
@pytest.mark.parametrize(("setters", "traces"), [(4, 14_400), (5, 518_400)])
def test_many_setters_and_a_reader(setters: int, traces: int) -> None:
    assert count([set_both] * setters + [read_both]) == traces


def read_once() -> None:
    assert CELL.value is not None


@pytest.mark.parametrize("readers", range(1, 7))
def test_a_writer_and_readers(readers: int) -> None:
    """Each reader is before the write or behind it (Abdulla et al., section 1)."""
    assert count([body(store, 0), *[read_once] * readers]) == 2**readers


def store(number: int) -> None:
    CELLS[number].value = 1


def advance(number: int) -> None:
    MANY[number].value = MANY[number - 1].value + 1


def last_zero(cells: int) -> None:
    while MANY[cells].value != 0:
        cells -= 1


@pytest.mark.parametrize("threads", [2, 3, 4, 5, 6])
def test_last_zero(threads: int) -> None:
    """Published for 5, 10 and 15: 64, 3,328 and 147,456 traces."""
    bodies = [body(advance, number) for number in range(1, threads + 1)]
    assert count([body(last_zero, threads), *bodies]) == (threads + 3) * 2**threads // 4


@pytest.mark.long
@pytest.mark.parametrize(("threads", "traces"), [(10, 3_328), (15, 147_456)])
def test_last_zero_of_many(threads: int, traces: int) -> None:
    bodies = [body(advance, number) for number in range(1, threads + 1)]
    assert count([body(last_zero, threads), *bodies]) == traces


def index(thread: int) -> None:
    """Four words into a hash table; a compare-and-swap is what a lock protects."""
    for word in range(11 + thread, 11 * 5 + thread, 11):
        at = word * 7 % len(MANY)
        while not swaps(MANY[at], word):
            at = (at + 1) % len(MANY)


def swaps(cell: Cell, word: int) -> bool:
    cell.lock.lock()
    free = cell.value == 0
    if free:
        cell.value = word
    cell.lock.unlock()
    return bool(free)


@pytest.mark.parametrize(("threads", "traces"), [(11, 1), (12, 8), (13, 64)])
def test_indexer(threads: int, traces: int) -> None:
    assert count([body(index, number) for number in range(threads)]) == traces


@pytest.mark.long
def test_indexer_of_fifteen() -> None:
    assert count([body(index, number) for number in range(15)]) == 4_096


def allocate(thread: int) -> None:
    """An inode gets a block, with a lock for each: 26 blocks, and the inodes behind them among MANY."""
    inode = MANY[26 + thread]
    inode.lock.lock()
    if inode.value == 0:
        block = thread * 2 % 26
        while not swaps(MANY[block], 1):
            block = (block + 1) % 26
        inode.value = block + 1
    inode.lock.unlock()


@pytest.mark.parametrize(("threads", "traces"), [(13, 1), (14, 2), (15, 4), (16, 8), (18, 32), (19, 64)])
def test_file_system(threads: int, traces: int) -> None:
    """Flanagan and Godefroid's: thread 13 wants the block of thread 0 first, thread 14 that of thread 1 ..."""
    assert count([body(allocate, number) for number in range(threads)]) == traces


# -- the kernel ----------------------------------------------------------------------------------------


class Wander(Optimal):
    """A random walk, of which the class is known. The lazier the dice, the longer a context continues."""

    def __init__(self, seed: int):
        self.dice = random.Random(seed)
        super().__init__()

    def new_execution(self) -> bool:
        self.grown()
        self.lazy = self.dice.choice((0.0, 0.5, 0.9, 0.98))
        return super().new_execution()

    def _prefer(self, awake: Sequence[Thread], current: Thread | None) -> Thread:
        return current if current is not None and self.dice.random() < self.lazy else self.dice.choice(awake)

    def _prefer_of(self, values: Sequence[int]) -> int:
        return self.dice.choice(values)


@pytest.mark.wide
@pytest.mark.parametrize("name", ["E25", "E50", "E57", "E59", "E60", "E60-panic", "E61a", "S11a-interrupt", "S12b"])
def test_what_a_random_walk_of_the_kernel_comes_to_was_performed_once(name: str) -> None:
    """Interrupts, shootdowns, sleeps, I/O, several LWPs on a CPU; none of the executions before it was redundant."""
    sim, strategy, walk = Sim(*prepare(scenario(name).without_errata()), set()), Optimal(), Wander(0)
    seen = Counter[int]()
    for _ in brute.walked(sim, strategy):
        if strategy.executions == 1:
            seen.clear()
        seen[hash(strategy.whole().names())] += 1
    assert set(seen.values()) == {1} and strategy.redundant == 0
    for _ in range(60):
        sim.execute(walk)
        assert hash(walk.whole().names()) in seen


def test_two_users_read_what_a_third_writes() -> None:
    """Each reads before the write or behind it, and in any order they pause. Which word an access reads is not known
    before; so one that was explored sleeps behind another, of which it turns out to be independent."""
    programs = {"A": "read: {at: 'buf[0]'}", "A2": "read: {at: 'buf[0]'}", "A3": "write: {at: 'buf[0]', value: 2}"}
    setup = """
        process: {as: A, cpu: 0}
        thread: {in: A, as: A2, cpu: 1}
        thread: {in: A, as: A3, cpu: 2}
        mmap: {in: A, as: buf, pages: 1}
        write: {in: A, at: "buf[0]", value: 1}
    """
    machine = "cpus: 3, frames: 24, swap_slots: 0"
    made = scene({name: f"{step}\npause:" for name, step in programs.items()}, setup, machine)
    strategy = Optimal()
    seen = Counter(hash(strategy.whole().names()) for _ in brute.walked(Sim(*prepare(made), set()), strategy))
    assert (len(seen), strategy.executions, strategy.redundant) == (4 * 6, 4 * 6, 0)


def holds() -> None:
    THING.lk.lock()
    THING.lk.unlock()


def tries() -> None:
    while not THING.lk.trylock():
        here.port.spin()
    THING.lk.unlock()


@pytest.mark.parametrize("bodies", [[holds, tries], [holds, holds, tries], [tries, tries]])
def test_who_tries_again_does_so_when_there_is_something_new(bodies: list[Callable[[], None]]) -> None:
    """As often as it likes it would only see the same again; so there is an end of it. What a random walk comes to,
    which does the same, is the same."""
    toy = Toy(make_structs, {name: (cpu, body) for cpu, (name, body) in enumerate(zip("ABC", bodies, strict=False))})
    strategy, walk = Optimal(), Wander(1)
    seen = Counter(hash(strategy.whole().names()) for finding in brute.walked(toy.sim, strategy) if finding is None)
    assert set(seen.values()) == {1} and len(seen) == strategy.executions and strategy.redundant == 0
    walks = set()
    for _ in range(40 * len(seen)):
        toy.sim.execute(walk)
        walks.add(hash(walk.whole().names()))
    assert walks <= seen.keys() and len(walks) > 0.8 * len(seen)


def test_each_kind_of_operation_has_a_line_in_the_relation() -> None:
    assert RULES.keys() == OPERATIONS.keys() | {"access"}
