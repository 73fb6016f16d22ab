"""Optimal DPOR performs each class of executions once: by brute force, and by published counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

import pytest

from cluster.api import Program, new
from cluster.boot import prepare
from cluster.search.dpor import Optimal
from cluster.search.strategy import SearchOver, Systematic
from cluster.sim.engine import Sim
from shared.findings import Finding
from tests.cluster import brute
from tests.cluster.brute import CELLS, Cell, Statement, TooMany

#: more cells than those of random programs
MANY = [Cell.at(number) for number in range(128)]
CELL, OTHER = CELLS[:2]


def walked(sim: Sim, strategy: Systematic, record: bool = False) -> Iterator[Finding | None]:
    """The findings of one execution after another; begins anew whenever there are more points, and yields None."""
    known = len(sim.racy)
    with suppress(SearchOver):
        while True:
            found = sim.execute(strategy, record)
            if len(sim.racy) == known:
                yield found
            else:
                known = len(sim.racy)
                strategy.grown()


def setup_many() -> None:
    for _ in MANY:
        new(Cell).value = 0


def count(bodies: Sequence[Callable[[], None]]) -> int:
    """Executions of the threads; none is redundant."""
    sim, strategy = Sim(*prepare(Program(setup_many, bodies, None, brute.DETECT).scenario()), set()), Optimal()
    for _ in walked(sim, strategy):
        pass
    assert strategy.redundant == 0
    return strategy.executions


def judge(bodies: Sequence[list[Statement]], most: int) -> int:
    """How many classes there are; each must have come once, and ended as it must."""
    wanted: dict[brute.Class, bool] = {}
    for machine in brute.every(bodies, most):
        wanted[brute.class_of((name, act[:2], result) for name, act, result in machine.done)] = machine.stuck()
    sim, strategy = Sim(*prepare(brute.program(bodies).scenario()), set()), Optimal()
    names = {thread.name: f"t{thread.order}" for thread in sim.threads.values()}
    seen: Counter[brute.Class] = Counter()
    for found in walked(sim, strategy, record=True):
        if strategy.executions == 1:
            seen.clear()
        assert sim.journals is not None
        done = brute.done_in({name: journal.records for name, journal in sim.journals.items()})
        its = brute.class_of((names[name], act, result) for name, act, result in done)
        assert its in wanted
        assert (found is not None) == wanted[its], found
        seen[its] += 1
    assert seen.keys() == wanted.keys()
    assert set(seen.values()) == {1} and strategy.redundant == 0
    return len(wanted)


def judged(seeds: range, most: int) -> tuple[int, int]:
    """How many random programs were judged, and how many classes they have."""
    programs = classes = 0
    for seed in seeds:
        try:
            classes += judge(brute.random_program(seed), most)
        except TooMany:
            continue
        except AssertionError as wrong:
            raise AssertionError(f"seed {seed}: {brute.random_program(seed)}") from wrong
        programs += 1
    return programs, classes


def test_each_class_of_random_programs_is_performed_once() -> None:
    programs, classes = judged(range(200), 250)
    assert programs > 70 and classes > 3 * programs


@pytest.mark.long
def test_each_class_of_thousands_of_random_programs_is_performed_once() -> None:
    programs, classes = judged(range(1000, 9000), 2000)
    assert programs > 4000 and classes > 20_000


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


def set_both() -> None:
    CELL.value = 1
    OTHER.value = 1


def read_both() -> None:
    assert CELL.value is not None and OTHER.value is not None


@pytest.mark.parametrize(("setters", "traces"), [(2, 36), (3, 576)])
def test_setters_and_a_reader(setters: int, traces: int) -> None:
    assert count([set_both] * setters + [read_both]) == traces


@pytest.mark.long
def test_four_setters_and_a_reader() -> None:
    assert count([set_both] * 4 + [read_both]) == 14_400


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
def test_last_zero_of_ten() -> None:
    assert count([body(last_zero, 10), *(body(advance, number) for number in range(1, 11))]) == 3_328


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


@pytest.mark.parametrize(("threads", "traces"), [(13, 1), (14, 2), (15, 4), (16, 8)])
def test_file_system(threads: int, traces: int) -> None:
    """Flanagan and Godefroid's: thread 13 wants the block of thread 0 first, thread 14 that of thread 1 ..."""
    assert count([body(allocate, number) for number in range(threads)]) == traces
