"""Strategies: each finds the same small deadlock; what each is made of; what the engine tells them."""

from __future__ import annotations

import random
from abc import ABC
from collections.abc import Callable, Sequence
from importlib import import_module
from itertools import islice
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

import pytest

from cluster import search
from cluster.boot import prepare
from cluster.search import SEARCHING, STRATEGIES, SYSTEMATIC, make, portfolio
from cluster.search.beginning import Continue
from cluster.search.bounded import Bounded
from cluster.search.classes import Classes
from cluster.search.delays import Delays
from cluster.search.deviate import Deviate
from cluster.search.dpor import Optimal
from cluster.search.explore import explore
from cluster.search.follow import Order
from cluster.search.near import Near, Site
from cluster.search.observe import Observation
from cluster.search.pct import FAIR_AFTER, Pct
from cluster.search.pos import Pos
from cluster.search.preemptions import Preemptions
from cluster.search.readsfrom import ReadsFrom
from cluster.search.rff import KEPT, Rff
from cluster.search.steer import Predict
from cluster.search.strategy import DefaultFirst, Plain, Sampling, SearchOver, Stay, Strategy, Systematic, default
from cluster.search.subtree import Subtree
from cluster.search.surw import MOST, Surw
from cluster.search.systematic import Stepwise
from cluster.search.touch import NOTHING
from cluster.search.trace import Event
from cluster.search.walk import RandomWalk
from cluster.sim.engine import Sim
from nodes.cpu import Pending, Processor, Thread
from shared.errors import Diverged, UserMistake
from shared.findings import Finding
from shared.journal.deviation import Deviation
from shared.journal.order import linearize
from shared.journal.record import Record, operation_record
from shared.port.lockref import LockRef
from shared.port.port import KASSERT, kernel
from shared.scenario.model import STRATEGIES as BOUND_STRATEGIES
from shared.wire.messages import OPERATIONS
from tests.kit import (
    OTHER,
    SHIPPED,
    THING,
    THING1,
    Exhaust,
    Script,
    Thing,
    Toy,
    executions,
    make_structs,
    scenario,
    threads,
)


def both(first: LockRef, second: LockRef) -> None:
    first.lock()
    second.lock()
    second.unlock()
    first.unlock()


def crosswise() -> Toy:
    """A takes one lock and then the other, B the other way round."""
    bodies = {"A": (0, lambda: both(THING.lk, OTHER.lk)), "B": (1, lambda: both(OTHER.lk, THING.lk))}
    return Toy(make_structs, bodies, {"lockorder": "off"})


class HoldersWait(Strategy):
    """A context that holds a lock and asks for another one lets the others go first.

    What POS or DPOR will look at, it looks at: the operation that each context is about to perform.
    """

    def new_execution(self) -> bool:
        return True

    def asks(self, thread: Thread) -> Pending | None:
        return thread.pending

    def pick(self, enabled: Sequence[Thread], current: Thread | None) -> Thread:
        for thread in enabled:
            pending = self.asks(thread)
            if not (thread.held and pending is not None and pending.code == "lock"):
                return thread
        return enabled[0]

    def choose(self, n: int) -> int:
        return 0


def order_of_a_deadlock(toy: Toy) -> list[Record]:
    toy.run(HoldersWait(), record=True, granularity="access")
    assert toy.sim.journals is not None
    return linearize({name: journal.records for name, journal in toy.sim.journals.items()})


#: of the kernel function in which the contexts of `window_far_away` have their locks
WINDOW = Site("window")
WHOLE: dict[str, Callable[[Toy], Strategy]] = {
    "random": lambda toy: RandomWalk(0),
    "pct": lambda toy: Pct(0, 2),
    "near": lambda toy: Near([WINDOW], 0, 2),
    "pos": lambda toy: Pos(0),
    "rff": lambda toy: Rff(0),
    "surw": lambda toy: Surw(0),
    "auto": lambda toy: make("auto", 0, 2),
    "dpor": lambda toy: Optimal(),
    "reads-from": lambda toy: ReadsFrom(),
    "preemptions": lambda toy: Preemptions(),
    "delays": lambda toy: Delays(),
    "predict": lambda toy: Predict(),
    "a token's deviations": lambda toy: Deviate([Deviation("A", 2, "point", "B")]),
    "a journal's order": lambda toy: Order(toy.machine.threads, order_of_a_deadlock(toy)),
    "every schedule": lambda toy: Exhaust(),
    "pending operations": lambda toy: HoldersWait(),
}


def found_by(make: Callable[[Toy], Strategy], made: Callable[[], Toy] = crosswise) -> Finding | None:
    """The first finding in at most 100 executions."""
    toy = made()
    strategy = make(toy)
    return next((finding for finding in islice(executions(toy.sim, strategy), 100) if finding is not None), None)


@pytest.mark.parametrize("strategy", WHOLE)
def test_every_strategy_finds_the_same_deadlock(strategy: str) -> None:
    finding = found_by(WHOLE[strategy])
    assert finding is not None and finding.kind == "deadlock"


# -- the same without its heart ----------------------------------------------------------


class NoDice(RandomWalk):
    """The dice always show the same, whenever they are thrown."""

    def pick(self, enabled: Sequence[Thread], current: Thread | None) -> Thread:
        self.random.seed(0)
        return super().pick(enabled, current)


class NoChanges(Pct):
    """No priority is ever lowered."""

    def new_execution(self) -> bool:
        super().new_execution()
        self.changes = {}
        return True


class NoPriorities(Pos):
    """No operation comes before another, so the first context continues as long as it can."""

    def new_execution(self) -> bool:
        self.draw = lambda: 0.0
        return super().new_execution()


class NothingWanted(Rff):
    """No abstract schedule is tried: whatever is read may be read from anywhere. All else is as it was."""

    def new_execution(self) -> bool:
        super().new_execution()
        self.tried, self.wanted = {}, {}
        return True


class NothingLearned(Surw):
    """Only how long executions are: so nothing is selected, and nobody ever stops. The dice are as they were."""

    def learn(self, lesson: Plain) -> None:
        longest, _ = lesson
        self.patience.learn(longest)


class NothingPredicted(Predict):
    """Nothing is predicted from the executions that have been."""

    def new_execution(self) -> bool:
        self.seen = Observation()
        return super().new_execution()


class NoReversals(Optimal):
    """What its races lead to is not explored."""

    def _explore(self, at: int, events: list[Event]) -> None:
        pass


class NothingElse(ReadsFrom):
    """What events could observe instead is not explored."""

    def _learn(self) -> bool:
        return True


class NoDeviations(Deviate):
    def new_execution(self) -> bool:
        super().new_execution()
        self.left = []
        return True


class NoOrder(Order):
    def pick(self, enabled: Sequence[Thread], current: Thread | None) -> Thread:
        return default(enabled, current, -1)


class NoBacktracking(Exhaust):
    """The same path again and again."""

    def _advance(self) -> bool:
        return True


class NothingPending(HoldersWait):
    """As it was before the engine told of the operation to come."""

    def asks(self, thread: Thread) -> Pending | None:
        return None


HEARTLESS: dict[str, Callable[[Toy], Strategy]] = {
    "random": lambda toy: NoDice(0),
    "pct": lambda toy: NoChanges(0, 2),
    "pos": lambda toy: NoPriorities(0),
    "rff": lambda toy: NothingWanted(0),
    "surw": lambda toy: NothingLearned(0),
    "near": lambda toy: Near([Site("where_nobody_comes")], 0, 2),
    "auto": lambda toy: portfolio("rff", 0, 2),
    "dpor": lambda toy: NoReversals(),
    "reads-from": lambda toy: NothingElse(),
    "preemptions": lambda toy: Preemptions(0),
    "delays": lambda toy: Delays(0),
    "predict": lambda toy: NothingPredicted(),
    "a token's deviations": lambda toy: NoDeviations([Deviation("A", 2, "point", "B")]),
    "a journal's order": lambda toy: NoOrder(toy.machine.threads, order_of_a_deadlock(toy)),
    "every schedule": lambda toy: NoBacktracking(),
    "pending operations": lambda toy: NothingPending(),
}


# -- programs that need the heart: a random walk by itself finds the deadlock of two locks, too ----------


@kernel()
def mark() -> None:
    THING.h = 2


def stores(values: Sequence[int]) -> None:
    for value in values:
        THING.h = value


def marks_once() -> None:
    stores([1] * 20)
    mark()
    stores([1] * 20)


def one_write_of_many() -> Toy:
    """B's only load must not read from the one store of A's that is in another function than the others."""
    bodies = {"B": (1, lambda: KASSERT(THING.h != 2, "h is not marked")), "A": (0, marks_once)}
    return Toy(make_structs, bodies, {"race": "off"})


def last_of_many() -> Toy:
    """B's only load must not come behind all of A's stores, each of which it may come before."""
    bodies = {"B": (1, lambda: KASSERT(THING.h < 20, "h has its last value")), "A": (0, lambda: stores(range(1, 21)))}
    return Toy(make_structs, bodies, {"race": "off"})


@kernel()
def window(first: LockRef, second: LockRef) -> None:
    both(first, second)


def window_behind(count: int) -> Toy:
    """The two locks crosswise, behind so many stores of each context to a field that the other one does not use."""

    def body(own: Thing, first: LockRef, second: LockRef) -> None:
        for _ in range(count):
            own.h = 1
        window(first, second)

    bodies = {
        "A": (0, lambda: body(THING, THING.lk, OTHER.lk)),
        "B": (1, lambda: body(THING1, OTHER.lk, THING.lk)),
    }
    return Toy(make_structs, bodies, {"race": "off", "lockorder": "off"})


def window_far_away() -> Toy:
    """A change of priorities anywhere seldom hits the window."""
    return window_behind(600)


def window_close_by() -> Toy:
    return window_behind(3)


#: strategy -> the program that it needs its heart for, and strategies that find nothing there
NEEDS: dict[str, tuple[Callable[[], Toy], tuple[str, ...]]] = {
    "rff": (one_write_of_many, ("random", "pos")),
    "surw": (last_of_many, ("random", "rff")),
    "near": (window_far_away, ("pct",)),
    "auto": (last_of_many, ("random", "rff")),
}


@pytest.mark.parametrize("strategy", HEARTLESS)
def test_without_its_heart_a_strategy_does_not_find_it(strategy: str) -> None:
    """The deadlock, or a defect that only the heart finds so soon."""
    program, others = NEEDS.get(strategy, (crosswise, ()))
    assert found_by(WHOLE[strategy], program) is not None
    assert found_by(HEARTLESS[strategy], program) is None
    assert [other for other in others if found_by(WHOLE[other], program)] == []


@pytest.mark.parametrize("program", [crosswise, one_write_of_many, last_of_many, window_far_away])
def test_the_default_schedule_finds_nothing(program: Callable[[], Toy]) -> None:
    """What the others find, they find by leaving it."""
    assert found_by(lambda toy: Stay(), program) is None


#: classes of strategies that search nothing themselves -> why they are not among them
NO_SEARCH: dict[object, str] = {
    **dict.fromkeys((Strategy, Sampling, Systematic, Stepwise, Bounded), "the base of others"),
    Stay: "the default schedule",
    DefaultFirst: "the default schedule before another strategy",
    Classes: "another strategy, whose executions it compares",
    Subtree: "a part of dpor's executions, for a worker",
    Continue: "the end of a given schedule",
}


def no_place_costs_more_than_the_bound(bounded: Any) -> bool:
    spent = [place.spent for place in bounded.places]
    return bounded.bound <= bounded.most and spent == sorted(spent) and all(cost <= bounded.bound for cost in spent)


#: strategy -> what its class says of its fields; those of the others have tests of their own
INVARIANTS: dict[str, Callable[[Any], bool]] = {
    "surw": lambda surw: (
        len(surw.seen) <= MOST
        and surw.written <= surw.seen.keys()
        and surw.shared.keys() == {place for place in surw.written if len(surw.seen[place]) > 1}
        and surw.selected in (NOTHING, *surw.shared)
        and all(count >= 0 for count in surw.left.values())
        and surw.drawn in ("", *surw.left)
    ),
    "rff": lambda rff: (
        rff.uses.keys() == {place for place, *_ in rff.sights}
        and len(rff.kept) <= KEPT
        and all(rff.kept)
        and rff.wanted.items() <= rff.tried.items()
    ),
    "near": lambda near: (
        all(1 <= visit <= near.most[near.site] for visit in near.lowered)
        and len(near.lowered) + len(near.changes) <= near.depth - 1
    ),
    "auto": lambda auto: set(auto.turns) <= auto.strategies.keys(),
    "preemptions": no_place_costs_more_than_the_bound,
    "delays": no_place_costs_more_than_the_bound,
    "predict": lambda predict: all(
        attempt.base is None or attempt.base in predict.attempts.begun[:number]
        for number, attempt in enumerate(predict.attempts.begun)
    ),
}


@pytest.mark.parametrize("program", [crosswise, one_write_of_many, last_of_many, window_close_by])
@pytest.mark.parametrize("strategy", INVARIANTS)
def test_what_a_strategy_says_of_its_fields_holds(strategy: str, program: Callable[[], Toy]) -> None:
    """Whenever an execution has ended."""
    toy = program()
    made = WHOLE[strategy](toy)
    assert all(INVARIANTS[strategy](made) for _ in islice(executions(toy.sim, made), 100))


def kinds_of(strategy: type[object]) -> set[object]:
    """The class of a strategy, and those of the package that are derived from it."""
    kinds = {kind for derived in strategy.__subclasses__() for kind in kinds_of(derived)}
    return {strategy, *kinds} if strategy.__module__.startswith("cluster.search.") else kinds


def test_every_strategy_is_among_them() -> None:
    """By its name, and by its class, wherever that is in the package."""
    assert HEARTLESS.keys() == WHOLE.keys() >= (STRATEGIES.keys() | SYSTEMATIC.keys()) - {"stay"}
    for module in iter_modules(search.__path__, "cluster.search."):
        import_module(module.name)
    tried: set[object] = {type(make(crosswise())) for make in WHOLE.values()}
    assert kinds_of(Strategy) - tried == NO_SEARCH.keys()


def test_a_strategy_is_a_page() -> None:
    """A file has a strategy that can be searched with, and no more than can be read at once."""
    made = [type(make(crosswise())) for make in WHOLE.values()]
    modules = [name for kind in set(made) if (name := kind.__module__).startswith("cluster.search.")]
    root = Path(__file__).parents[2]
    pages = {name: len((root / f"{name.replace('.', '/')}.py").read_text().splitlines()) for name in modules}
    assert len(pages) == len(modules) > 10 and max(pages.values()) <= 175, pages


def test_the_strategies_of_scenarios_are_those_that_search() -> None:
    assert set(BOUND_STRATEGIES) == set(SEARCHING) == set(STRATEGIES) - {"stay"}


def test_an_unknown_strategy_is_the_users_mistake() -> None:
    with pytest.raises(UserMistake, match="there is no strategy 'dfs'; known: auto, pct, pos, rff, random, surw, stay"):
        make("dfs", 0, 3)


# -- the end of a search, and of an execution that is not worth going on with ----------------


class Never(Stay):
    def new_execution(self) -> bool:
        return False


def test_a_search_is_over_when_its_strategy_has_nothing_left_to_try() -> None:
    """The engine is as the last execution left it; a search by every schedule counts what there is."""
    toy = crosswise()
    toy.run(Script("A", "A", "B", "B"))
    with pytest.raises(SearchOver):
        toy.sim.execute(Never())
    assert toy.sim.finding is not None and toy.sim.finding.kind == "deadlock"


def test_a_bounded_search_ends_before_its_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """The default schedule comes first; then there is nothing left."""
    monkeypatch.setitem(STRATEGIES, "random", lambda seed, depth: Never())
    result = explore(scenario("S3a-shipped").without_errata(), strategy="random", schedules=50)
    assert (result.schedules, result.finding, result.interrupted) == (1, None, False)


def test_the_default_schedule_comes_first_and_once() -> None:
    toy = crosswise()
    search = DefaultFirst(HoldersWait())
    assert [finding is None for finding in islice(executions(toy.sim, search), 3)] == [True, False, False]


class GivesUp(Stay):
    """Abandons an execution at its third choice."""

    def new_execution(self) -> bool:
        self.choices = 0
        return super().new_execution()

    def pick(self, enabled: Sequence[Thread], current: Thread | None) -> Thread | None:  # type: ignore[override]
        self.choices += 1
        return None if self.choices == 3 else super().pick(enabled, current)


@pytest.mark.parametrize("record", [False, True])
def test_an_abandoned_execution_is_not_judged_and_the_next_one_is_whole(record: bool) -> None:
    """Both contexts stand in the middle of the kernel: to judge that as an end would be a finding about nothing."""
    toy = crosswise()
    assert toy.run(GivesUp(), record=record) is None and toy.sim.execution.abandoned
    assert toy.sim.finding is None and toy.sim.notes == []
    done = toy.sim.steps
    assert toy.run(record=record) is None and not toy.sim.execution.abandoned
    assert toy.sim.steps > done


def test_an_execution_can_be_abandoned_before_it_has_begun() -> None:
    toy = crosswise()
    quits = GivesUp()
    quits.new_execution = lambda: not setattr(quits, "choices", 2)  # type: ignore[method-assign, func-returns-value]
    assert toy.run(quits) is None and toy.sim.execution.abandoned and toy.sim.steps == 0


# -- the operation to come ---------------------------------------------------------------------

#: what a user's load or store may come to
ACCESS = {"pmap_activate", "pmap_walk", "word_read", "word_write"}


class Watching(Strategy):
    """Another strategy's choices; notes what every context that can continue is said to be about to do.

    Attributes:
        pending: (context, operation number) -> the operation that was announced.
        silent: choices at a point before which the current context announced nothing.
    """

    def __init__(self, then: Strategy):
        self.then = then

    def new_execution(self) -> bool:
        self.pending: dict[tuple[str, int], Pending] = {}
        self.silent = 0
        return self.then.new_execution()

    def pick(self, enabled: Sequence[Thread], current: Thread | None) -> Thread | None:
        self.silent += current is not None and current.pending is None
        for thread in enabled:
            pending = thread.pending
            if pending is not None:
                self.pending[thread.name, thread.n + 1] = pending
        return self.then.pick(enabled, current)

    def choose(self, n: int) -> int:
        return self.then.choose(n)


@pytest.mark.wide
@pytest.mark.parametrize("name", SHIPPED)
def test_what_a_context_is_about_to_do_is_known_before_the_choice(name: str) -> None:
    """Every operation that was announced is performed, with its target and its arguments, whoever was picked first."""
    machine, image = prepare(scenario(name))
    sim = Sim(machine, image, granularity="access", limit=2000)
    watching = Watching(RandomWalk(1))
    sim.execute(watching, record=True)
    assert sim.journals is not None
    checked = 0
    for journal in sim.journals.values():
        for record in journal.records:
            pending = watching.pending.get((record["ctx"], record["n"])) if "k" in record else None
            if pending is None:
                continue
            checked += 1
            if pending.code == "access":
                assert record["event"] in ACCESS
            elif OPERATIONS[pending.code].node == "cpu":
                assert record["event"] == pending.code
            else:
                asked = operation_record(pending.code, pending.target, pending.args, None, [])
                assert asked.items() <= record.items()
    assert watching.silent == 0
    assert checked > 0 or sim.steps == 0, "S4's machine does not start"


# -- what each is made of ----------------------------------------------------------------------


def test_stay_stays_and_then_goes_round() -> None:
    """A token is a list of deviations from this; it may never change."""
    able = threads(3)
    stay = Stay()
    stay.new_execution()
    assert stay.pick(able, able[1]) is able[1]
    assert stay.pick(able, None) is able[2]
    assert stay.pick(able, None) is able[0]
    assert stay.pick(able[1:], None) is able[1]
    assert stay.new_execution()
    assert stay.pick(able, None) is able[0]
    assert Stay().pick(able, None) is able[0] and stay.choose(9) == 0


DICE: dict[str, Callable[..., Strategy]] = {"random": RandomWalk, "pct": Pct, "pos": Pos, "rff": Rff, "surw": Surw}
HAS_DICE = pytest.mark.parametrize("name", DICE)


def played(strategy: Strategy, executions: int = 3) -> list[tuple[str, int]]:
    """What it picks and takes where nobody ever has to wait."""
    able, seen = threads(5), []
    for _ in range(executions):
        assert strategy.new_execution()
        current = None
        for _ in range(60):
            current = strategy.pick(able, current)
            assert current is not None
            seen.append((current.name, strategy.choose(9)))
    return seen


@HAS_DICE
def test_the_seed_is_all_the_luck_there_is(name: str) -> None:
    """A search is repeated by its seed, which is 0 if nobody gives another."""
    assert played(DICE[name](7)) == played(DICE[name](7)) != played(DICE[name](8))
    assert played(DICE[name]()) == played(DICE[name](0)) != played(DICE[name](1))


def test_pct_has_three_ordering_constraints_if_nobody_says_how_many() -> None:
    assert played(Pct(0)) == played(Pct(0, 3)) not in (played(Pct(0, 2)), played(Pct(0, 4)))


@HAS_DICE
def test_data_are_chosen_with_equal_chances(name: str) -> None:
    strategy = DICE[name](1)
    assert strategy.new_execution()
    taken = [strategy.choose(4) for _ in range(400)]
    assert all(60 < taken.count(value) < 140 for value in range(4)) and set(taken) == set(range(4))


def test_who_is_alone_costs_a_walk_no_throw_of_the_dice() -> None:
    """Or the same seed would walk elsewhere as soon as the engine asks once more, where there is nothing to choose."""
    able, walk, other = threads(3), RandomWalk(5), RandomWalk(5)
    picked = []
    for _ in range(30):
        assert other.pick(able[1:2], None) is able[1]
        picked.append(walk.pick(able, None) is other.pick(able, None))
    assert all(picked)


@pytest.mark.parametrize("name", STRATEGIES)
def test_where_a_strategy_says_that_it_stays_it_would_have_answered_the_same(name: str) -> None:
    """Two of them play the same: one is asked at every point, the other only where it has not said that it stays."""
    dice, able = random.Random(7), threads(4)
    asked, spared = make(name, 3, 5), make(name, 3, 5)
    skipped = 0
    for _ in range(12):
        assert asked.new_execution() and spared.new_execution()
        current: Thread | None = None
        for _ in range(60):
            enabled = [thread for thread in able if dice.random() < 0.8] or able
            if current not in enabled or dice.random() < 0.1:
                current = None
            left = dice.randrange(1, 12)
            while left:
                picked = asked.pick(enabled, current)
                assert spared.pick(enabled, current) is picked
                current, left = picked, left - 1
                assert spared.stays() >= 0
                stays = min(left, spared.stays())
                assert [asked.pick(enabled, current) for _ in range(stays)] == [current] * stays
                spared.passed(stays)
                skipped, left = skipped + stays, left - stays
    assert (skipped > 1000) == (name in ("pct", "stay"))


def test_pct_stays_up_to_its_next_change_or_until_it_is_fair() -> None:
    able, pct = threads(3), Pct(1, 3)
    pct.new_execution()
    pct.changes = {5: 0, 9: -1}
    pct.pick(able, None)
    assert pct.stays() == 3, "at the points 2, 3 and 4"
    pct.passed(2)
    assert pct.stays() == 1
    pct.passed(1)
    assert pct.stays() == 0
    pct.pick(able, able[0])
    assert (pct.points, pct.stays()) == (5, 3)
    pct.passed(4)
    assert pct.stays() == FAIR_AFTER * pct.longest - 9
    pct.passed(pct.stays())
    assert pct.stays() == 0
    pct.pick(able, able[0])
    assert pct.stays() == 0, "an execution that is walked at random is asked at every point"
    pct.passed(10)
    assert pct.stays() == 0


def test_the_default_schedule_is_followed_by_what_the_other_one_chooses() -> None:
    able, both, walk = threads(4), DefaultFirst(RandomWalk(3)), RandomWalk(3)
    assert both.new_execution()
    assert [both.pick(able, able[2]) for _ in range(9)] == [able[2]] * 9 and both.choose(7) == 0
    for _ in range(2):
        assert both.new_execution() and walk.new_execution()
        for _ in range(9):
            assert both.pick(able, able[2]) is walk.pick(able, able[2]) and both.choose(7) == walk.choose(7)


def test_before_an_execution_there_is_nothing_to_choose_from() -> None:
    first = DefaultFirst(RandomWalk(0))
    for choose in (lambda: first.pick([], None), lambda: first.choose(2)):
        with pytest.raises(AssertionError, match=r"(?m)\Aan execution has begun$"):
            choose()


def test_random_walk_gives_each_context_its_chance() -> None:
    able, walk = threads(4), RandomWalk(0)
    picked = [walk.pick(able, able[0]).name for _ in range(400)]
    assert all(60 < picked.count(thread.name) < 140 for thread in able)


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_pct_changes_priorities_at_depth_minus_one_points(depth: int) -> None:
    """With all enabled all the time the running context changes at those points and nowhere else.

    At the first point nobody has run yet, so that a change there comes to nothing.
    """
    able, pct = threads(5), Pct(1, depth)
    for _ in range(20):
        pct.new_execution()
        assert len(pct.changes) == depth - 1 and sorted(pct.changes.values()) == list(range(2 - depth, 1))
        current, switched = pct.pick(able, None), []
        for point in range(2, pct.longest + 1):
            picked = pct.pick(able, current)
            if picked is not current:
                switched.append(point)
            current = picked
        assert switched == sorted(pct.changes.keys() - {1})


def test_pct_draws_other_points_and_priorities_for_each_execution() -> None:
    """Among the points from the first to the last one of the longest execution so far."""
    able, pct = threads(5), Pct(1, 30)
    places, first = [], set()
    for _ in range(40):
        pct.new_execution()
        places.append(tuple(pct.changes))
        first.add(pct.pick(able, None).name)
        pct.passed(99)
    assert len(set(places)) == 40 and set().union(*places) == set(range(1, pct.longest + 1))
    assert first == {thread.name for thread in able}


def test_pct_keeps_its_priorities_apart() -> None:
    """Above 1 as they were drawn, 0 or less after a change, and below that if they gave way; contexts do all of it."""
    dice, able = random.Random(3), threads(6)
    for seed in range(60):
        pct = Pct(seed, depth := 2 + seed % 4)
        pct.new_execution()
        current = None
        for _ in range(80):
            enabled = [thread for thread in able if dice.random() < 0.7] or able
            current = pct.pick(enabled, current if current in enabled and dice.random() < 0.8 else None)
            given = sorted(pct.priority.values())
            assert len(set(given)) == len(given) and all(priority >= pct.floor for priority in given)
            for priority in given:
                drawn, lowered, gave_way = 1 < priority <= 2, priority in range(2 - depth, 1), priority < 2 - depth
                assert drawn or lowered or gave_way, (priority, depth)
            among = {thread.name: pct.priority.get(thread.name, -1e9) for thread in enabled}
            assert len(enabled) == 1 or among[current.name] == max(among.values()), "the highest one goes on"


def test_who_blocks_keeps_its_priority() -> None:
    """It could not continue, which is not giving way: as soon as it can, it comes before those whom it came before."""
    for seed in range(20):
        able, pct = threads(3), Pct(seed, 1)
        pct.new_execution()
        first = pct.pick(able, None)
        others = [thread for thread in able if thread is not first]
        assert pct.pick(others, None) in others
        assert pct.pick(able, pct.pick(others, None)) is first


def test_pct_learns_how_long_executions_are() -> None:
    """And does not believe an execution that went on forever, since that did not end."""
    able, pct = threads(2), Pct(1, 2)
    lengths = []
    for points in (250, 20, 10_000):
        pct.new_execution()
        for _ in range(points):
            pct.pick(able, able[0])
    pct.new_execution()
    lengths.append(pct.longest)
    assert lengths == [FAIR_AFTER * 250]


def test_pct_takes_an_execution_for_as_long_as_the_first_one_was() -> None:
    """What it guessed before does not spread the changes of short executions over points that these do not have."""
    able, pct = threads(2), Pct(1, 2)
    for points in (7, 12, 5):
        pct.new_execution()
        for _ in range(points):
            pct.pick(able, able[0])
    pct.new_execution()
    assert pct.longest == 12


def test_pct_becomes_fair_where_an_execution_never_ends() -> None:
    """By priorities alone a context that waits in a loop for another would keep that one out forever."""
    able, walked = threads(2), set()
    for seed in range(20):
        pct = Pct(seed, 1)
        pct.new_execution()
        current, picked = None, []
        for _ in range(3 * 100 + 50):
            current = pct.pick(able, current)
            picked.append(current.name)
        assert len(set(picked[:300])) == 1 and set(picked[300:]) == {"T0", "T1"}
        walked.add(picked[300] == picked[299])
    assert walked == {True, False}, "from the very next point on"


@pytest.mark.parametrize("seed", range(5))
def test_who_gives_way_goes_behind_all_others(seed: int) -> None:
    """As who tries for a lock again and again does (Port.spin): those who give way take turns."""
    able, pct = threads(3), Pct(seed, 2)
    pct.new_execution()
    pct.changes = {}
    picked = [pct.pick(able, None).name for _ in range(9)]
    assert set(picked[:3]) == {"T0", "T1", "T2"}
    assert picked[3:] == picked[:3] * 2
    last = next(thread for thread in able if thread.name == picked[-1])
    assert pct.pick(able, last) is last


def test_who_gives_way_goes_behind_those_whose_priority_was_lowered() -> None:
    able, pct = threads(2), Pct(1, 3)
    pct.new_execution()
    pct.changes = {2: 0, 3: -1}
    first = pct.pick(able, None)
    second = pct.pick(able, first)
    assert second is not first and pct.pick(able, second) is first, "both lowered now"
    assert pct.pick(able, None) is second


def test_who_gives_way_goes_behind_though_it_was_alone() -> None:
    """It was picked without a choice; and then, when there is one, it gives way."""
    for seed in range(10):
        able, pct = threads(3), Pct(seed, 1)
        pct.new_execution()
        assert pct.pick(able[1:2], None) is able[1]
        assert [pct.pick(able, None) is able[1] for _ in range(3)] == [False, False, True]


def test_deviations_are_taken_one_after_another() -> None:
    """Each at its context's operation number, and only where that could continue, or could not, as it says."""
    able = threads(3)
    schedule = [Deviation("", 0, "wait", "T1"), Deviation("T1", 4, "point", "T2"), Deviation("T2", 0, "wait", "T1")]
    follow = Deviate(schedule)
    follow.new_execution()
    assert follow.pick(able, None) is able[1]
    able[1].n = 4
    assert follow.pick(able, able[1]) is able[2]
    assert follow.pick(able, able[2]) is able[2], "it could go on"
    assert follow.pick(able, None) is able[1]
    assert follow.pick(able, able[1]) is able[1]
    assert (follow.taken, follow.left, follow.skipped) == (3, [], [])
    follow.finish()


def test_a_deviation_that_cannot_be_taken_diverges_or_is_skipped() -> None:
    able = threads(2)
    strict, lenient = (Deviate([Deviation("", 0, "wait", "T9")], strict) for strict in (True, False))
    strict.new_execution()
    with pytest.raises(Diverged, match="T9 to run first; found only T0, T1 can run"):
        strict.pick(able, None)
    lenient.new_execution()
    assert lenient.pick(able, None) is able[0]
    assert (lenient.taken, lenient.left, lenient.skipped) == (0, [], [Deviation("", 0, "wait", "T9")])


def test_a_deviation_that_is_not_reached_diverges_in_the_end() -> None:
    strict, lenient = (Deviate([Deviation("T0", 7, "point", "T1")], strict) for strict in (True, False))
    for follow in (strict, lenient):
        follow.new_execution()
        follow.pick(threads(2), None)
    with pytest.raises(Diverged, match="T0 to reach operation 7"):
        strict.finish()
    lenient.finish()


def test_an_order_lets_a_context_record_its_events_before_an_interrupt_comes() -> None:
    """Who has waited runs on, without an operation, as far as it did; only its kernel events tell how far that was."""
    waiter = Thread("A", "cpu0", lambda: None)
    handler = Thread("I", "cpu0", lambda: None, 3, interrupt=True)
    cpu = Processor("cpu0", [waiter, handler])
    for thread in (waiter, handler):
        thread.reset()
    waiter.waits, waiter.parked = ("lock", 1), False
    order = Order({"A": waiter, "I": handler}, [{"ctx": "I", "n": 1, "event": "intr"}], {"cpu0": [1]})
    order.new_execution()
    assert order.pick([waiter, handler], None) is waiter
    cpu.note_event()
    assert order.pick([waiter, handler], None) is handler


def test_a_choice_of_data_is_taken_by_its_context_at_its_operation() -> None:
    """And nowhere else: the rest is 0, as in the default schedule."""
    (ctx,) = able = threads(1)
    follow = Deviate(
        [Deviation("T0", 3, "choice", 2), Deviation("T0", 4, "choice", 0), Deviation("T0", 5, "choice", 1)]
    )
    follow.new_execution()
    assert follow.choose(9) == 0, "nobody has been picked"
    follow.pick(able, None)
    taken = []
    for ctx.n in range(6):
        taken.append(follow.choose(3))
    assert taken == [0, 0, 2, 0, 1, 0] and (follow.taken, follow.left, follow.skipped) == (3, [], [])


@pytest.mark.parametrize("value", [-1, 2, 3, "T0"])
def test_a_choice_that_there_is_not_diverges_or_is_skipped(value: int | str) -> None:
    there_is_not = Deviation("T0", 1, "choice", value)
    strict, lenient = (Deviate([there_is_not], strict) for strict in (True, False))
    for follow in (strict, lenient):
        follow.new_execution()
        follow.pick(threads(1), None)
    with pytest.raises(Diverged) as caught:
        strict.choose(2)
    assert str(caught.value).endswith(f"choice {value} as operation 1 of T0; found only 2 choices, 0 to 1")
    assert lenient.choose(2) == 0 and (lenient.taken, lenient.skipped, lenient.left) == (0, [there_is_not], [])


@pytest.mark.parametrize(
    ("left", "wanted"),
    [
        (Deviation("T0", 7, "point", "T1"), "T0 to reach operation 7, and to run T1 there"),
        (Deviation("T0", 7, "choice", 4), "T0 to reach operation 7, and to take choice 4 there"),
    ],
)
def test_what_is_left_in_the_end_is_told(left: Deviation, wanted: str) -> None:
    follow = Deviate([left])
    follow.new_execution()
    follow.pick(threads(2), None)
    with pytest.raises(Diverged) as caught:
        follow.finish()
    assert str(caught.value).endswith(f"expected {wanted}; found the run ended before that")


def test_a_deviation_waits_for_its_place() -> None:
    """The right context, the right operation of it, and whether it could continue: each of them counts."""
    able = threads(3)
    at_n, of_ctx, if_able = (
        Deviation("T0", 2, "point", "T2"),
        Deviation("T1", 0, "wait", "T2"),
        Deviation("", 0, "point", "T2"),
    )
    for deviation in (at_n, of_ctx, if_able):
        follow = Deviate([deviation], strict=False)
        follow.new_execution()
        assert follow.pick(able, None) is able[0] and follow.left == [deviation]
        assert follow.pick(able, None) is able[1], "as by default"
        assert follow.left == [deviation]
        assert follow.pick(able, None) is able[2] and follow.taken == (deviation is of_ctx)


def test_what_diverged_is_told_with_those_who_could_go_on() -> None:
    able = threads(3)
    follow = Deviate([Deviation("T0", 4, "wait", "T9")])
    follow.new_execution()
    follow.pick(able, able[0])
    able[0].n = 4
    with pytest.raises(Diverged) as caught:
        follow.pick(able[1:], None)
    assert str(caught.value).endswith("expected T9 to run after operation 4 of T0; found only T1, T2 can run")


# -- a journal's order ---------------------------------------------------------------------------


def ordered(*steps: tuple[str, int, str], **more: object) -> tuple[list[Thread], Order]:
    """Three contexts that are to perform what is said, each step a context, its operation's number and its event."""
    able = threads(3)
    records: list[Record] = [{"ctx": ctx, "n": n, "event": event, **more} for ctx, n, event in steps]
    order = Order({thread.name: thread for thread in able}, records)
    assert order.new_execution()
    return able, order


def test_an_order_is_followed_from_its_first_operation_to_its_last_and_again() -> None:
    steps = [("T1", 1, "lock"), ("T2", 1, "load"), ("T1", 2, "unlock"), ("T0", 1, "load")]
    able, order = ordered(*steps)
    for _ in range(2):
        assert order.new_execution()
        for thread in able:
            thread.n = 0
        picked = []
        for _ in steps:
            thread = order.pick(able, None)
            thread.n += 1
            picked.append((thread.name, thread.n))
        assert picked == [step[:2] for step in steps]
        with pytest.raises(Diverged) as caught:
            order.pick(able[1:], None)
        assert str(caught.value).endswith("expected the run to end here, as the journal does; found T1 can run")


def test_who_is_next_in_an_order_and_cannot_go_on_diverges() -> None:
    able, order = ordered(("T1", 1, "pmap_enter"))
    with pytest.raises(Diverged) as caught:
        order.pick([able[0], able[2]], None)
    assert str(caught.value).endswith("expected T1 to perform operation 1 (pmap_enter); found only T0, T2 can run")


def test_an_order_says_what_is_chosen() -> None:
    for value in range(3):
        able, order = ordered(("T1", 1, "choose"), value=value, of=3)
        assert order.pick(able, None) is able[1]
        assert order.choose(3) == value
    able[1].n = 1
    with pytest.raises(Diverged) as caught:
        order.choose(3)
    assert str(caught.value).endswith("expected the run to end here, as the journal does; found T1 chooses")


@pytest.mark.parametrize(
    ("step", "value"), [(("T1", 2, "choose"), 1), (("T1", 1, "choose"), 2), (("T1", 1, "load"), 1)]
)
def test_what_an_order_does_not_choose_diverges(step: tuple[str, int, str], value: int) -> None:
    """Another operation, a value that there is not, or no choice at all."""
    able, order = ordered(step, value=value)
    assert order.pick(able, None) is able[1]
    with pytest.raises(Diverged, match=r"expected T1 to perform operation \d .*; found T1 has 2 choices, 0 to 1$"):
        order.choose(2)


def test_what_a_journal_says_was_chosen_is_told_and_bounded() -> None:
    """It is a file's: there may be anything in it, and as much as there is."""
    able, order = ordered(("T1", 1, "choose"), value="\x1b" + "Y" * 99, of="Z" * 99)
    order.pick(able, None)
    with pytest.raises(Diverged) as caught:
        order.choose(2)
    told = str(caught.value)
    assert "\x1b" not in told and (told.count("Y"), told.count("Z")) == (15, 16)
    able, order = ordered(("T1", 1, "choose"), value=7, of=8)
    order.pick(able, None)
    with pytest.raises(Diverged, match=r"T1 to perform operation 1 \(choose 7 of 8\); found"):
        order.choose(2)


def test_nobody_chooses_before_somebody_was_picked() -> None:
    _, order = ordered(("T1", 1, "choose"), value=0)
    with pytest.raises(AssertionError, match=r"(?m)\Aa context has been picked$"):
        order.choose(1)


def waiting(events: list[int]) -> tuple[Thread, Thread, Order]:
    """A context that has waited on cpu0, an interrupt there that is next, and how many events the journal has."""
    waiter = Thread("A", "cpu0", lambda: None)
    handler = Thread("I", "cpu0", lambda: None, 3, interrupt=True)
    Processor("cpu0", [waiter, handler])
    for thread in (waiter, handler):
        thread.reset()
    waiter.waits, waiter.parked = ("lock", 1), False
    order = Order({"A": waiter, "I": handler}, [{"ctx": "I", "n": 1, "event": "intr"}], {"cpu0": events})
    order.new_execution()
    return waiter, handler, order


def test_only_who_has_waited_goes_on_before_an_interrupt_without_an_operation() -> None:
    """Not who still has to be run, or performs an operation next; nor where the journal has no more events."""
    waiter, handler, order = waiting([1])
    waiter.parked = True
    assert order.pick([waiter, handler], None) is handler
    waiter, handler, order = waiting([1])
    waiter.waits = None
    assert order.pick([waiter, handler], None) is handler
    for events in ({"cpu0": [0]}, {"cpu0": []}, {"cpu1": [1]}):
        waiter, handler, order = waiting([])
        order.events = events
        assert order.pick([waiter, handler], None) is handler


def test_who_has_waited_does_not_go_on_before_another_ones_operation() -> None:
    """Its events may come before or after that: no journal can tell, and it makes no difference."""
    waiter, handler, order = waiting([1])
    order.order = [{"ctx": "I", "n": 1, "event": "load"}]
    order.new_execution()
    assert order.pick([waiter, handler], None) is handler


def test_at_the_end_of_an_order_who_has_waited_has_its_last_events() -> None:
    waiter, handler, order = waiting([0, 1])
    handler.n = 1
    waiter.processor.k = 1
    assert order.pick([waiter], None) is waiter
    waiter.processor.note_event()
    with pytest.raises(Diverged, match="the run to end here"):
        order.pick([waiter], None)


def test_a_strategy_is_an_instance_of_its_own_classes_alone() -> None:
    """Compiled classes once had one cache of what is an instance, for all of them."""
    some = [Pct(0), Surw(0), Rff(0), RandomWalk(0), Optimal(), Preemptions(1), Stay(), DefaultFirst(Stay())]
    for strategy in some:
        for other in {base for strategy in some for base in type(strategy).__mro__} - {ABC}:
            assert isinstance(strategy, other) == (other in type(strategy).__mro__), (strategy, other)


@pytest.mark.parametrize("name", [*STRATEGIES, *SYSTEMATIC])
def test_contexts_say_what_they_ask_for_only_to_a_strategy_that_looks(name: str) -> None:
    """That others choose the same without it, the test of executions that are asked at every point shows."""
    sim, strategy = Sim(*prepare(scenario("E54"))), make(name, 1, 3)
    sim.execute(strategy)
    looks = name not in ("random", "pct", "stay")
    assert sim.execution.strategy.looks() is looks
    assert any(thread.asks is not None for thread in sim.threads.values()) is looks


def test_an_aimed_search_looks() -> None:
    """It is a PCT, which does not."""
    assert Near([WINDOW], 0, 3).looks()


def test_a_random_walk_picks_the_same_of_any_sequence() -> None:
    threads = [Thread(name, "cpu0", lambda: None) for name in "ABC"]
    walk, other = RandomWalk(3), RandomWalk(3)
    assert [walk.pick(threads, None).name for _ in range(20)] == [
        other.pick(tuple(threads), None).name for _ in range(20)
    ]
