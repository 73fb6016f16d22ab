"""The 3x3 counter, with which testers of concurrent programs are compared: three threads, three increments each.

And two threads that do nothing but take the same lock, for the latency of a hand-over.
"""

from __future__ import annotations

from cluster.api import Field, Program, Struct, field, new, own, simplelock


class Counter(Struct, kind=230):
    """A number whose guard nobody takes, on purpose."""

    guards = {"o": own("lock")}
    lock = simplelock("counter")
    value: Field[int] = field("o", hint=True)


COUNTER = Counter.at(0)
TAKES = 2000


def setup() -> None:
    new(Counter).value = 0


def worker() -> None:
    for _ in range(3):
        COUNTER.value += 1


def taker() -> None:
    for _ in range(TAKES):
        COUNTER.lock.lock()
        COUNTER.lock.unlock()


PROGRAM = Program(setup, [worker, worker, worker], detect={"race": "off"})
TAKERS = Program(setup, [taker, taker], detect={"race": "off"})
