"""A search that begins in the middle of a run: every strategy follows the beginning exactly, and then is free."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pytest

from cluster.boot import prepare
from cluster.runs.replay import continued, recorded, replay
from cluster.search import STRATEGIES, SYSTEMATIC, make
from cluster.search.dpor import Optimal
from cluster.search.explore import Behind, explore
from cluster.search.preemptions import Preemptions
from cluster.search.strategy import Stay
from cluster.search.systematic import Stepwise
from cluster.search.walk import RandomWalk
from cluster.sim.engine import Sim
from shared.errors import Exit
from shared.journal.cut import cut, part
from shared.journal.order import linearize, operations
from shared.journal.record import Held, Journals, held
from tests.cluster import brute
from tests.cluster.programs import DEFECTS
from tests.kit import executions, run_recorded, scenario, uvmp

ALL = [*STRATEGIES, *SYSTEMATIC]


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("scene", ["E1", "S11a-interrupt", "S1d-maybe"])
def test_every_strategy_goes_on_from_anywhere(name: str, scene: str) -> None:
    """The beginning comes again in every execution, operation for operation, whoever chooses what is behind it."""
    its, dice = scenario(scene).without_errata(), random.Random(f"{name} {scene}")
    whole = run_recorded(its, RandomWalk(dice.randrange(100)))
    first = cut(whole.journals, dice.randrange(whole.operations))
    sim = Sim(*prepare(its), set())
    once = None
    for _, _ in zip(range(2), executions(sim, continued(sim.machine, first, make(name, 1, 3)), record=True)):
        run = recorded(sim)
        for node, records in first.items():
            had = [(record["ctx"], record["n"], record["event"]) for record in records if "k" in record]
            assert [(record["ctx"], record["n"], record["event"]) for record in run.journals[node] if "k" in record][
                : len(had)
            ] == had
        once = once or run
    assert once is not None and replay(its, once.deviations).digest == once.digest


@pytest.mark.parametrize("name", [name for name in ALL if name != "stay"])
@pytest.mark.parametrize("kind", DEFECTS)
def test_every_strategy_finds_behind_a_beginning_what_can_still_happen(kind: str, name: str) -> None:
    """The token is of all of the execution, and the search is over if the beginning has made the finding impossible."""
    its = DEFECTS[kind][0].scenario()
    whole = run_recorded(its, Stay())
    count = 1 if kind == "use-after-free" else 2  # who has the lock is not too late any more
    result = explore(its, Behind(cut(whole.journals, count), name), 1, 300)
    assert result.finding is not None and result.finding.kind == explore(its, seed=1).finding.kind
    assert result.token is not None
    again = replay(its, list(result.token.deviations))
    assert again.finding is not None and again.finding.signature == result.finding.signature


@pytest.mark.parametrize("name", [name for name in ALL if name != "stay"])
def test_nobody_finds_what_the_beginning_has_made_impossible(name: str) -> None:
    """One thread is behind both its locks: no deadlock any more, and those that see everything know it soon."""
    its = DEFECTS["deadlock"][0].scenario()
    whole = run_recorded(its, Stay())
    both = next(at for at, record in enumerate(linearize(whole.journals)) if record["event"] == "unlock")
    search = explore(its, Behind(cut(whole.journals, both), name), 1, 40)
    assert search.finding is None
    assert search.coverage is None or search.coverage.exhausted


# -- those that see everything ---------------------------------------------------------------


def a_beginning(bodies: list[list[brute.Statement]], dice: random.Random) -> Held:
    """Of one of the first executions of a program, some operations."""
    sim = Sim(*prepare(brute.program(bodies).scenario()), set())
    journals: list[Journals] = []
    for _, _ in zip(range(4), brute.walked(sim, Optimal(), record=True)):
        assert sim.journals is not None
        journals.append({name: journal.records for name, journal in sim.journals.items()})
    chosen = dice.choice(journals)
    return held(cut(chosen, dice.randrange(operations(chosen) + 1)))


def judge(kind: Callable[[], Stepwise], seed: int, most: int) -> int:
    """How many classes there are behind a beginning; each must come, and end as it must."""
    strategy = kind()
    dice, bodies = random.Random(seed), brute.random_program(seed)
    first = a_beginning(bodies, dice)
    names = {name: f"t{at}" for at, name in enumerate(prepare(brute.program(bodies).scenario())[0].threads)}
    done = [(names[name], act, result) for name, act, result in brute.done_in(first)]
    wanted = brute.classes(bodies, most, done)
    seen = brute.seen_by(strategy, bodies, first)
    assert {its: stuck for its, (stuck, _) in seen.items()} == {its: ends.stuck for its, ends in wanted.items()}
    if isinstance(strategy, Optimal):
        assert {times for _, times in seen.values()} == {1} and strategy.redundant == 0
    return len(wanted)


def judged(seeds: Sequence[int], most: int) -> list[int]:
    """How many classes there are, for each random program and each strategy."""
    return [
        classes
        for kind in (Optimal, Preemptions)
        for classes in brute.judged(partial(judge, kind, most=most), seeds, f", {kind.__name__}")
    ]


def test_each_class_behind_a_beginning_is_performed_once() -> None:
    """Behind the beginnings 81 and 119 a lock is held, whose order with others' requests matters."""
    classes = judged([*range(24), 81, 119], 250)
    assert len(classes) > 30 and sum(classes) > 1.5 * len(classes)


def test_who_has_queued_for_a_lock_before_the_beginning_s_end_gets_it_next() -> None:
    """One thread holds the lock and the other waits: what is left is the order of their last parts."""
    its = DEFECTS["assertion"][0].scenario()
    whole = run_recorded(its, RandomWalk(0))
    order = linearize(whole.journals)
    waits = next(at for at, record in enumerate(order) if record.get("wait"))
    sim, strategy = Sim(*prepare(its), set()), Optimal()
    chooser = continued(sim.machine, part(whole.journals, order[: waits + 1]), strategy)
    assert [finding is not None for finding in brute.walked(sim, chooser)] == [True, True]
    assert strategy.redundant == 0


@pytest.mark.long
def test_each_class_behind_thousands_of_beginnings_is_performed_once() -> None:
    classes = judged(range(1000, 4000), 1000)
    assert len(classes) > 3000 and sum(classes) > 9000


# -- the command -----------------------------------------------------------------------------


def test_a_search_begins_behind_an_operation_of_a_token(tmp_path: Path) -> None:
    token = json.loads(uvmp("explore", "E1", "--json").stdout)["token"]
    told = json.loads(uvmp("explore", "--from", token, "--after", "A:40", "--json").stdout)
    assert told["finding"]["kind"] and told["followed"] >= 40 and told["scenario"] == "E1"
    assert json.loads(uvmp("replay", told["token"], "--json").stdout)["finding"] == told["finding"]
    assert "behind the first" in uvmp("explore", "--from", token, "--after", "A:40").output
    assert uvmp("explore", "E1", "--out", tmp_path / "run").exit_code == Exit.FINDING
    again = json.loads(uvmp("explore", "--from", tmp_path / "run", "--after", "A:40", "--json").stdout)
    assert again["token"] == told["token"]
    by_workers = [
        json.loads(uvmp("explore", "--from", what, "--after", "A:40", "--workers", 1, "--json").stdout)["token"]
        for what in (token, tmp_path / "run")
    ]
    assert by_workers[0] == by_workers[1] is not None
    for words, why in (
        (("--from", token), "--after: is missing"),
        (("--from", token, "--after", "A"), "--after: expected CONTEXT:N"),
        (("--from", token, "--after", "A:99999"), "--after: the run has"),
        (("--from", token, "--after", "Z:1"), "--after: the run has 0 operations of Z"),
        (("--after", "A:1", "E1"), "--after: is only for --from"),
        (("--from", token, "--after", "A:40", "S3a"), "the token is of scenario E1, this is S3a"),
        (("--all", "--from", token), "--from: cannot be given with --all"),
        (("--from", "no/such", "--after", "A:1"), "there is no such folder"),
    ):
        result = uvmp("explore", *words)
        assert result.exit_code == Exit.USAGE and why in result.output, result.output
