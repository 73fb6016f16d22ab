"""Programs of one's own, each with one defect that a schedule shows, and the same program without it."""

from __future__ import annotations

from typing import Any

from cluster.api import Program, Struct, choose, field, free, new, own, simplelock, sleep, wakeup


class Counter(Struct, kind=228):
    """A number, and a pointer, under a lock."""

    guards = {"o": own("lock")}
    lock = simplelock("counter")
    value: Any = field("o")
    ready: Any = field("o")


class Total(Struct, kind=227):
    """What has a lock of another class."""

    guards = {"o": own("lock")}
    lock = simplelock("total")


FIRST, SECOND = Counter.at(0), Total.at(0)


def setup() -> None:
    counter = new(Counter)
    counter.value = counter.ready = 0
    new(Total)


# -- a deadlock -------------------------------------------------------------------------


def first_then_second() -> None:
    FIRST.lock.lock()
    SECOND.lock.lock()
    SECOND.lock.unlock()
    FIRST.lock.unlock()


def second_then_first() -> None:
    SECOND.lock.lock()
    FIRST.lock.lock()
    FIRST.lock.unlock()
    SECOND.lock.unlock()


# -- a data race, and an update that is lost although there is none ------------------------


def add() -> None:
    FIRST.value += 1


def add_in_two_parts() -> None:
    FIRST.lock.lock()
    value = FIRST.value
    FIRST.lock.unlock()
    FIRST.lock.lock()
    FIRST.value = value + 1
    FIRST.lock.unlock()


def add_locked() -> None:
    FIRST.lock.lock()
    FIRST.value += 1
    FIRST.lock.unlock()


def both_count() -> None:
    assert FIRST.value == 2, "an update is lost"


# -- a wakeup that is lost --------------------------------------------------------------------


def wait_without_interlock() -> None:
    FIRST.lock.lock()
    ready = FIRST.ready
    FIRST.lock.unlock()
    if not ready:
        sleep(FIRST, "ready")


def wait() -> None:
    FIRST.lock.lock()
    if not FIRST.ready:
        sleep(FIRST, "ready", FIRST.lock)
    else:
        FIRST.lock.unlock()


def tell() -> None:
    FIRST.lock.lock()
    FIRST.ready = 1
    wakeup(FIRST)
    FIRST.lock.unlock()


# -- a use after free -----------------------------------------------------------------------


def use() -> None:
    FIRST.lock.lock()
    if FIRST.ready == 0:
        FIRST.value = 1
    FIRST.lock.unlock()


def retire() -> None:
    FIRST.lock.lock()
    FIRST.ready = 1
    FIRST.lock.unlock()
    free(FIRST)


# -- an assertion of a thread's own -----------------------------------------------------------


def expects_to_be_first() -> None:
    FIRST.lock.lock()
    assert FIRST.value == 0
    FIRST.value = 1
    FIRST.lock.unlock()


# -- an error path that only one choice of data takes ---------------------------------------------


def write_that_may_fail() -> None:
    FIRST.lock.lock()
    if choose(3, "whether the write fails, and how") == 2:
        return
    FIRST.value += 1
    FIRST.lock.unlock()


def write_that_may_well_fail() -> None:
    FIRST.lock.lock()
    if choose(3, "whether the write fails, and how") != 2:
        FIRST.value += 1
    FIRST.lock.unlock()


OFF = {"race": "off"}
#: kind of finding -> (a program that has it, the same without)
DEFECTS = {
    "deadlock": (
        Program(setup, [first_then_second, second_then_first], detect={"lockorder": "off"}),
        Program(setup, [first_then_second, first_then_second], detect={"lockorder": "off"}),
    ),
    "lock-order-reversal": (
        Program(setup, [first_then_second, second_then_first]),
        Program(setup, [first_then_second, first_then_second]),
    ),
    "data-race": (Program(setup, [add, add_locked], both_count), Program(setup, [add_locked, add_locked], both_count)),
    "assertion": (
        Program(setup, [add_in_two_parts, add_in_two_parts], both_count),
        Program(setup, [add_locked, add_locked], both_count),
    ),
    "lost-wakeup": (Program(setup, [wait_without_interlock, tell]), Program(setup, [wait, tell])),
    "held-at-exit": (
        Program(setup, [write_that_may_fail, add_locked]),
        Program(setup, [write_that_may_well_fail, add_locked]),
    ),
    "use-after-free": (Program(setup, [use, retire], detect=OFF), Program(setup, [use, use], detect=OFF)),
}
