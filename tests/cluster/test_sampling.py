"""What the random strategies promise, counted over fixed seeds: POS's chances, SURW's evenness, PCT's bound."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import permutations

import pytest

from cluster.boot import prepare
from cluster.search.pct import Pct
from cluster.search.pos import LASTS, Pos
from cluster.search.rff import Rff
from cluster.search.strategy import FIRST_GUESS, Patience, Strategy
from cluster.search.surw import Surw
from cluster.search.touch import NOTHING
from cluster.search.walk import RandomWalk
from cluster.sim.engine import Sim
from nodes.cpu import Thread
from tests.bench.sct import PROGRAMS
from tests.kit import THING, THING1, Toy, make_structs, threads

#: a context's operations, one letter each: x and y are shared, the others are not
Programs = dict[str, str]


class Letters:
    """Contexts that store to what their letters say: x and y to the same fields, any other to a field of their own.

    Attributes:
        order: of the stores to x and y in this execution, by context.
    """

    def __init__(self, programs: Programs):
        self.order: list[str] = []
        bodies = {
            name: (cpu, lambda name=name, letters=letters: self.store(name, letters))
            for cpu, (name, letters) in enumerate(programs.items())
        }
        self.toy = Toy(make_structs, bodies, {"race": "off"})
        self.own = {"A": lambda: setattr(THING, "w", 1), "B": lambda: setattr(THING1, "w", 1)}
        self.own["C"] = lambda: setattr(THING1, "v", 1)
        self.toy.racy |= {"thing.v", "thing.w"}

    def store(self, name: str, letters: str) -> None:
        for letter in letters:
            if letter == "x":
                THING.h = 1
            elif letter == "y":
                THING1.h = 1
            else:
                self.own[name]()
            if letter in "xy":
                self.order.append(name)

    def orders(self, strategy: Strategy, executions: int) -> Counter[str]:
        """How often each order came."""
        seen: Counter[str] = Counter()
        for _ in range(executions):
            self.order.clear()
            assert self.toy.run(strategy) is None
            seen["".join(self.order)] += 1
        return seen


def likely(count: int, of: int, chance: float) -> bool:
    """Is that within four standard deviations of what is expected?"""
    return abs(count - of * chance) <= 4 * math.sqrt(of * chance * (1 - chance))


def chi_squared(seen: Sequence[int], cells: int) -> tuple[float, float]:
    """The statistic against equal chances, and what it exceeds once in a thousand times (Wilson and Hilferty)."""
    total, free = sum(seen), cells - 1
    statistic = sum((count - total / cells) ** 2 for count in [*seen, *[0] * (cells - len(seen))]) / (total / cells)
    return statistic, free * (1 - 2 / (9 * free) + 3.09 * math.sqrt(2 / (9 * free))) ** 3


# -- POS ---------------------------------------------------------------------------------------


def pos_by_the_paper(programs: Programs, order: str) -> float:
    """The chance of an order of x, if whatever is pending has a priority, and what meets the performed draws anew.

    Every sequence of draws is tried: as ranks, all of their orders are equally likely.
    """
    full = {name: f"-{letters}" for name, letters in programs.items()}  # the first operation of each: it gets its CPU
    draws = sum(map(len, full.values())) + sum(letters.count("x") for letters in full.values())
    hits = 0
    for ranks in permutations(range(draws)):
        left, at, came = {name: list(letters) for name, letters in full.items()}, 0, ""
        pending: dict[str, int] = {}
        while len(able := [name for name in left if left[name]]) > 1:
            for name in able:
                if name not in pending:
                    pending[name], at = ranks[at], at + 1
            best = max(able, key=pending.__getitem__)
            del pending[best]
            letter = left[best].pop(0)
            if letter == "x":
                came += best
                for name in [name for name in pending if left[name][0] == "x"]:
                    del pending[name]
        came += "".join(name for name in able for letter in left[name] if letter == "x")
        hits += came == order
    return hits / math.factorial(draws)


@pytest.mark.parametrize(
    ("programs", "order"),
    [({"A": "oox", "B": "x"}, "AB"), ({"A": "xx", "B": "x"}, "AAB"), ({"A": "xx", "B": "x"}, "ABA")],
)
def test_pos_has_the_chances_of_the_paper(programs: Programs, order: str) -> None:
    chance = pos_by_the_paper(programs, order)
    seen = Letters(programs).orders(Pos(1), 3000)
    assert likely(seen[order], 3000, chance), (seen, chance)


class NeverAnew(Pos):
    """Whoever has lost a race keeps its priority."""

    def pick(self, enabled: Sequence[Thread], current: Thread | None) -> Thread:
        for thread in enabled:
            self.priority.setdefault(thread.name, self.draw())
        best = max(enabled, key=lambda thread: self.priority[thread.name])
        del self.priority[best.name]
        return best


def test_without_drawing_anew_pos_has_other_chances() -> None:
    programs = {"A": "xx", "B": "x"}
    seen = Letters(programs).orders(NeverAnew(1), 6000)
    assert not likely(seen["AAB"], 6000, pos_by_the_paper(programs, "AAB"))


def test_what_has_nothing_to_do_with_each_other_costs_pos_no_luck() -> None:
    """A has a long way to the race. A walk that comes there first needs luck at every step; POS needs it once."""
    programs = {"A": "oooooooox", "B": "x"}
    assert Letters(programs).orders(Pos(2), 1000)["AB"] > 40 > 10 > Letters(programs).orders(RandomWalk(2), 1000)["AB"]


# -- SURW -----------------------------------------------------------------------------------------

UNEVEN: Programs = {"A": "oooooxoxx", "B": "xxx", "C": "oox"}


def test_surw_comes_to_all_orders_of_what_it_selects_alike() -> None:
    """140 orders of seven accesses, though one context has many others to make in between."""
    letters, surw = Letters(UNEVEN), Surw(3)
    letters.orders(surw, 1)  # counts
    seen = letters.orders(surw, 2800)
    statistic, limit = chi_squared(list(seen.values()), math.factorial(7) // (6 * 6))
    assert len(seen) == 140 and statistic < limit
    walked, limit = chi_squared(list(Letters(UNEVEN).orders(RandomWalk(3), 2800).values()), 140)
    assert walked > 10 * limit


def test_surw_selects_each_shared_thing_as_often() -> None:
    letters, surw = Letters({"A": "xoy", "B": "yx"}), Surw(1)
    selected: Counter[object] = Counter()
    for _ in range(601):
        letters.orders(surw, 1)
        selected[surw.selected] += 1
    assert selected.pop(NOTHING) == 1 and len(selected) == 2
    assert all(likely(count, 600, 0.5) for count in selected.values())


def test_surw_learns_that_a_context_may_have_more_than_it_had() -> None:
    """Who has had all that was counted, and comes with one more, has its turn nevertheless."""
    letters, surw = Letters({"A": "xxx", "B": "x"}), Surw(2)
    letters.orders(surw, 2)
    for counts in surw.seen.values():
        counts["A"] = min(1, counts.get("A", 0))
    assert set(letters.orders(surw, 1)) <= {"AAAB", "AABA", "ABAA", "BAAA"}
    assert set(letters.orders(surw, 60)) == {"AAAB", "AABA", "ABAA", "BAAA"}
    assert max(counts.get("A", 0) for counts in surw.seen.values()) == 3


def test_surw_waits_for_nobody_who_does_not_come() -> None:
    """More was counted than there is: the drawn context ends without its operation."""
    letters, surw = Letters({"A": "ox", "B": "xx"}), Surw(2)
    letters.orders(surw, 2)
    for counts in surw.seen.values():
        counts["A"] = 6
    seen = letters.orders(surw, 300)
    assert set(seen) == {"ABB", "BAB", "BBA"} and likely(seen["ABB"], 300, 6 / 8)


# -- PCT ------------------------------------------------------------------------------------------

#: depth -> contexts, and orders of their stores that need so many constraints
DEEP: dict[int, tuple[Programs, Callable[[str], bool]]] = {
    1: ({"A": "ooox", "B": "x", "C": "ooo"}, lambda order: order == "AB"),
    2: ({"A": "xoox", "B": "x", "C": "ooo"}, lambda order: order == "ABA"),
    3: ({"A": "xoox", "B": "xoox", "C": "oo"}, lambda order: order == "ABAB"),
}


@pytest.mark.parametrize("depth", DEEP)
@pytest.mark.parametrize("seed", range(3))
def test_pct_finds_what_has_depth_d_as_often_as_its_bound_says(depth: int, seed: int) -> None:
    """At least once in n * k^(d - 1) executions, for n contexts and k points."""
    programs, wanted = DEEP[depth]
    letters, pct = Letters(programs), Pct(seed, depth)
    letters.orders(pct, 50)  # learns k
    executions = 1500
    hits = sum(count for order, count in letters.orders(pct, executions).items() if wanted(order))
    assert hits / executions >= 1 / (len(programs) * pct.longest ** (depth - 1))


# -- who holds contexts back must let them go in the end ---------------------------------------------


def test_patience_ends_in_an_execution_far_longer_than_those_before() -> None:
    """And learns from such an execution only how long it went on then: before, it may have waited for a context."""
    patience, known = Patience(), []
    for points, ended in ((250, False), (700, False), (3000, True), (2800, True), (9900, True)):
        ends = [patience.ends() for _ in range(points)]
        assert ends[-1] == ended
        patience.learn(patience.lesson())
        known.append(patience.longest)
    assert known == [250, 700, 900, 900, 7200] and patience.points == 0


def test_who_tries_again_and_again_makes_no_execution_longer() -> None:
    """Or each execution would wait longer for a context than the last, up to the limit of operations."""
    a, b = Thread("A", "cpu0", lambda: None), Thread("B", "cpu1", lambda: None)
    patience = Patience()
    for _ in range(9):
        for thread, current, points in ((a, None, 30), (b, a, 1), (b, b, 39)):
            for _ in range(points):
                patience.ends()
                patience.picked(thread, current if thread is b else thread)
        for _ in range(20):  # B gives way, is picked all the same, and comes to where it gives way again
            for current in (None, b, b, b):
                patience.ends()
                patience.picked(b, current)
        for _ in range(10):
            patience.ends()
            patience.picked(a, None)  # at last
        patience.learn(patience.lesson())
        assert patience.longest == FIRST_GUESS and (patience.spun, patience.again, patience.ran) == (0, False, None)
    for _ in range(150):
        patience.picked(a, None if patience.ends() else a)
    assert patience.lesson() == 150


@pytest.mark.parametrize("make", [Pos, Rff])
def test_no_context_waits_for_thousands_of_draws_of_another(make: Callable[[int], Strategy]) -> None:
    """Its priority is low, and no operation meets its own, so nothing makes it draw again."""
    waits = []
    for seed in range(40):
        able, strategy = threads(2), make(seed)
        strategy.new_execution()
        last = dict.fromkeys(able, 0)
        for point in range(1, 16 * LASTS):
            picked = strategy.pick(able, None)
            waits.append(point - last[picked])
            last[picked] = point
    assert LASTS / 2 < max(waits) <= 2 * LASTS


@pytest.mark.parametrize("make", [Rff, Surw])
def test_who_spins_for_somebody_who_has_stopped_does_not_spin_forever(make: Callable[[int], Strategy]) -> None:
    """The lock of this program is an exchange that is tried again and again; to give way does not help it."""
    sim, strategy = Sim(*prepare(PROGRAMS["IWSQ"].scenario())), make(1)
    kinds = {finding.kind for finding in (sim.execute(strategy) for _ in range(60)) if finding is not None}
    assert kinds == {"assertion"}
