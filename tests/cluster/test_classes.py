"""Happens-before classes: as many as there are, whatever the order in which the executions come."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from cluster.search.classes import Classes
from cluster.search.pct import Pct
from cluster.search.pos import Pos
from cluster.search.rff import Rff
from cluster.search.strategy import Strategy
from cluster.search.surw import Surw
from cluster.search.walk import RandomWalk
from tests.kit import OTHER, THING, THING1, Exhaust, Toy, executions, make_structs

OFF = {"race": "off", "lockorder": "off"}


def toy(*bodies: Callable[[], None]) -> Toy:
    """A context for each body, on a CPU of its own."""
    return Toy(make_structs, {"ABC"[at]: (at, body) for at, body in enumerate(bodies)}, OFF)


def exhausted(made: Toy) -> Classes:
    """All executions there are."""
    made.run()  # so that the racy fields are known
    classes = Classes(Exhaust())
    for _ in executions(made.sim, classes):
        classes.count()
    return classes


def increments(times: int) -> Callable[[], None]:
    def body() -> None:
        for _ in range(times):
            THING.h += 1

    return body


def locked(times: int) -> Callable[[], None]:
    def body() -> None:
        for _ in range(times):
            THING.lk.lock()
            THING.v += 1
            THING.lk.unlock()

    return body


def setter() -> None:
    THING.h = 1
    THING1.h = 1


def reader() -> None:
    assert THING.h >= 0 and THING1.h >= 0


@pytest.mark.parametrize(
    ("bodies", "classes"),
    [
        ([increments(1)] * 2, 4),
        ([increments(1)] * 3, 36),
        ([increments(2)] * 2, 34),
        ([increments(3)] * 2, 328),
        ([setter, setter, reader], 36),
        ([increments(2), setter], 5),
    ],
)
def test_there_are_as_many_classes_as_published(bodies: list[Callable[[], None]], classes: int) -> None:
    """The counts that Nidhugg gives, which enumerates each Mazurkiewicz trace once."""
    search = exhausted(toy(*bodies))
    assert len(search.seen) == classes and search.executions >= len(search.seen)


@pytest.mark.parametrize(("times", "orders"), [([1, 1], 2), ([1, 1, 1], 6), ([2, 2], 6)])
def test_orders_of_a_lock_are_classes(times: list[int], orders: int) -> None:
    """And to come while it is held makes none, or what waits for it would be counted many times."""
    search = exhausted(toy(*map(locked, times)))
    assert len(search.seen) == orders


def test_the_same_class_has_the_same_hash_in_every_order_and_process() -> None:
    """Hashes of text differ from process to process; those of numbers do not."""
    search = exhausted(toy(increments(1), increments(1)))
    again = Classes(RandomWalk(5))
    made = toy(increments(1), increments(1))
    made.racy.add("thing.h")
    for _ in range(80):
        made.run(again)
        again.count()
    assert again.seen.keys() == search.seen.keys() and again.executions == 80
    assert sorted(search.seen)[0] == -8969937606195623220


# -- every strategy that chooses at random comes to every class ------------------------------------


def random_body(dice: random.Random) -> Callable[[], None]:
    """Two or three loads, stores, increments and regions under one lock or two."""
    parts: list[Callable[[], None]] = []
    for _ in range(dice.randint(2, 3)):
        at = dice.choice((THING, THING1))
        kind = dice.choice(("load", "store", "increment", "region", "nested"))
        if kind == "load":
            parts.append(lambda at=at: at.h >= 0)
        elif kind == "store":
            parts.append(lambda at=at: setattr(at, "h", 1))
        elif kind == "increment":
            parts.append(lambda at=at: setattr(at, "h", at.h + 1))
        elif kind == "region":
            parts.append(locked(1))
        else:
            parts.append(nested)

    def body() -> None:
        for part in parts:
            part()

    return body


def nested() -> None:
    OTHER.lk.lock()
    locked(1)()
    OTHER.lk.unlock()


RANDOM: dict[str, Callable[[int, int], Strategy]] = {
    "random": lambda seed, operations: RandomWalk(seed),
    "pct": Pct,
    "pos": lambda seed, operations: Pos(seed),
    "rff": lambda seed, operations: Rff(seed),
    "surw": lambda seed, operations: Surw(seed),
}


@pytest.mark.parametrize("seed", range(1, 12))
def test_every_random_strategy_comes_to_every_class_of_a_small_program(seed: int) -> None:
    """PCT with as many ordering constraints as there are operations. None of them may leave out what is rare."""
    dice = random.Random(seed)
    made = toy(*[random_body(dice) for _ in range(2)])
    wanted = exhausted(made).seen.keys()
    for name, make in RANDOM.items():
        classes = Classes(make(seed, made.sim.steps))
        for _ in range(4000):
            made.run(classes)
            classes.count()
            if wanted <= classes.seen.keys():
                break
        assert classes.seen.keys() == wanted, (name, len(wanted), len(classes.seen), classes.executions)
