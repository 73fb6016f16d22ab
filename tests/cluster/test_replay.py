"""Replay: the same journal again, and a clear word where that is impossible."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace

import pytest

from cluster.boot import prepare
from cluster.runs.replay import recorded, replay, replay_journals
from cluster.runs.token import parse
from cluster.search.deviate import Deviate
from cluster.search.explore import explore
from cluster.search.strategy import Stay, Strategy
from cluster.search.walk import RandomWalk
from cluster.sim.engine import Sim
from shared.errors import Diverged, LogIncomplete
from shared.journal.cut import cut, judged
from shared.journal.deviation import Deviation
from shared.journal.order import linearize, operations
from shared.journal.record import Journals, digest, holes
from tests.kit import run_recorded, scenario, scene, went_on_before_an_interrupt
from tests.nodes.in_threads import Threads

SHIPPED = scenario("S3a-shipped")


def test_a_token_replays_to_its_finding_every_time() -> None:
    result = explore(SHIPPED)
    assert result.finding is not None
    deviations = list(parse(str(result.token)).deviations)
    first, other = replay(SHIPPED, deviations), replay(SHIPPED, deviations)
    assert first.digest == other.digest and holes(first.journals) == []
    assert first.finding is not None and first.finding.as_dict() == result.finding.as_dict() == (
        other.finding and other.finding.as_dict()
    )


@pytest.mark.parametrize("name", ["S3a-shipped", "S3a", "E2", "S3d"])
def test_a_finding_replays_at_any_granularity(name: str) -> None:
    """Operation numbers count every access, so a token does not depend on how it was searched for.

    A deviation at an operation that the thinning rule skips needs the finer granularity, which replay() always has.
    """
    scene = scenario(name)
    for granularity in ("guarded", "access"):
        result = explore(scene, granularity=granularity, seed=1)
        assert result.finding is not None, name
        outcomes = set()
        for fineness in ("guarded", "access") if granularity == "guarded" else ("access",):
            machine, image = prepare(scene)
            sim = Sim(machine, image, granularity=fineness)
            strategy = Deviate(result.deviations)
            sim.execute(strategy, record=True)
            strategy.finish()
            once = recorded(sim, [])
            assert once.finding is not None
            outcomes.add((once.digest, once.finding.signature, once.finding.text))
        assert len(outcomes) == 1, (name, granularity)


@pytest.mark.parametrize("name", ["S3a", "S3a-shipped", "E1", "E2", "S3d"])
@pytest.mark.parametrize("seed", range(3))
def test_a_journal_is_a_schedule_too(name: str, seed: int) -> None:
    """What is too long for a token is replayed from the journals, with or without a finding."""
    for played in (scenario(name), scenario(name).without_errata()):
        first = run_recorded(played, RandomWalk(seed))
        again = replay_journals(played, first.journals)
        assert again.digest == first.digest and again.results == first.results
        assert (again.finding and again.finding.as_dict()) == (first.finding and first.finding.as_dict())


def test_an_interrupt_is_taken_after_as_many_kernel_events_as_it_was() -> None:
    """A context that has waited may continue before the interrupt over it, or afterwards; no operation tells which."""
    scene = scenario("S3a", shards="{lock_manager: 2, memory: 2}").without_errata()
    met = 0
    for seed in range(12):
        first = run_recorded(scene, RandomWalk(seed))
        met += went_on_before_an_interrupt(first.journals)
        assert replay_journals(scene, first.journals).digest == first.digest
    assert met > 0, "no schedule had it"


# -- what cannot be followed ------------------------------------------------------------


def test_a_context_that_cannot_go_on_is_told_with_those_that_can() -> None:
    """A diverged schedule says what it expected and what was there; never a wrong replay in silence."""
    with pytest.raises(Diverged) as caught:
        replay(SHIPPED, [("", 0, "wait", "C")])
    assert caught.value.expected == "C to run first"
    assert caught.value.actual.startswith("only A, B")


def test_an_operation_that_never_comes_is_told() -> None:
    with pytest.raises(Diverged) as caught:
        replay(SHIPPED, [("A", 10**6, "point", "B")])
    assert caught.value.expected == "A to reach operation 1000000, and to run B there"
    assert caught.value.actual == "the run ended before that"


def test_lenient_takes_what_it_can_and_names_the_rest() -> None:
    deviations = [Deviation("", 0, "wait", "B"), Deviation("A", 10**6, "point", "B")]
    once = replay(SHIPPED, deviations, strict=False)
    assert once.skipped == [("A", 10**6, "point", "B")]


def test_a_journal_of_another_kernel_diverges_where_it_differs() -> None:
    """One record changed stands for a kernel that does something else there."""
    scene = scenario("S3a").without_errata()
    journals = deepcopy(run_recorded(scene, RandomWalk(1)).journals)
    changed = next(record for record in journals["memory"] if record["event"] == "store" and record["ctx"] == "A")
    changed["value"] = 12345
    with pytest.raises(Diverged) as caught:
        replay_journals(scene, journals)
    assert (
        caught.value.expected.startswith(f"record {changed['nseq']} of memory: event store")
        and "value 12345" in caught.value.expected
    )
    assert caught.value.actual.startswith(f"record {changed['nseq']} of memory: event store")


def test_a_journal_that_names_another_context_contradicts_itself_there() -> None:
    """Its program order cannot be; so the error is the log's, and names the record."""
    scene = scenario("S3a").without_errata()
    journals = deepcopy(run_recorded(scene, RandomWalk(1)).journals)
    journals["lock_manager"][10]["ctx"] = "pagedaemon"
    renamed = journals["lock_manager"][10]
    where = f"contradict each other at pagedaemon operation {renamed['n']} on lock_manager"
    with pytest.raises(LogIncomplete, match=where):
        replay_journals(scene, journals)


@pytest.mark.parametrize("length", [5, 60, 400])
def test_a_journal_that_ends_early_diverges_at_its_end(length: int) -> None:
    """The first operations in order, and nothing more: there the replay could continue, and must not."""
    scene = scenario("S3a").without_errata()
    whole = run_recorded(scene, RandomWalk(1)).journals
    cut: Journals = {node: [] for node in whole}
    for record in linearize(whole)[:length]:
        cut[record["node"]].append(record)
    with pytest.raises(Diverged, match="the run to end here, as the journal does"):
        replay_journals(scene, cut)


@pytest.mark.long
def test_a_long_sound_run_comes_to_its_end_and_is_replayed_to_its_end() -> None:
    """What makes sense comes nowhere near the limit, which grows with the program; 100,000 operations are not much."""
    steps = """
mprotect: {at: "buf[0]", pages: 2, prot: r}
mprotect: {at: "buf[0]", pages: 2, prot: rw}
write: {at: "buf[0]", value: 1}
"""
    setup = "process: {as: A, cpu: 0}\nmmap: {in: A, as: buf, pages: 2}"
    made = scene({"A": steps * 800}, setup, "cpus: 1, frames: 16, swap_slots: 0")
    run = run_recorded(made, Stay())
    assert run.finding is None and 100_000 < run.operations < made.limit / 20
    again = replay_journals(made, run.journals)
    assert again.finding is None and again.digest == run.digest


def test_no_limit_makes_a_lost_wakeup_of_a_thread_that_began_asleep() -> None:
    """A forked child runs: that it slept until its parent woke it is over."""
    made = scenario("S3a-shipped").without_errata()
    needs = run_recorded(made, Stay()).operations
    kinds = set()
    for limit in range(1, needs, 13):
        sim = Sim(*prepare(made), limit=limit)
        finding = sim.execute(Stay(), record=True)
        assert sim.execution.ended and sim.steps == limit and finding is not None
        kinds.add(finding.kind)
    assert kinds <= {"not-ended", "no-progress"}


@pytest.mark.parametrize("strategy", [Stay, lambda: RandomWalk(3)], ids=["default", "random"])
def test_a_program_that_is_merely_long_is_told_as_not_ended_by_every_engine(strategy: Callable[[], Strategy]) -> None:
    """One operation less than it needs is too few, however it is run; as many as it needs are enough."""
    made = scenario("S3a-shipped").without_errata()
    for granularity in ("guarded", "access"):
        needs = run_recorded(made, strategy(), granularity).operations
        for limit, kind in ((needs - 40, "not-ended"), (needs - 1, "not-ended"), (needs, None)):
            short = made.with_operations(limit)
            run = run_recorded(short, strategy(), granularity)
            findings = [run.finding, Sim(*prepare(short), granularity=granularity).execute(strategy())]
            findings.append(replay_journals(short, run.journals).finding)
            assert [None if finding is None else finding.kind for finding in findings] == [kind] * 3
            assert run.operations == limit
            for finding in findings if kind else []:
                assert finding is not None and (finding.function, finding.context, finding.stack) == ("", "", [])
                assert finding.text.startswith(f"not ended within {limit:,} operations, the limit (bound: operations")


def test_so_does_a_machine_of_real_processors() -> None:
    """A free run is ended, and cut to exactly as many operations; one that follows performs them, and no more."""
    made = scenario("S3a-shipped").without_errata().with_operations(1400)
    machine = Threads(made)
    assert machine.run() is None
    free = judged(machine.records(), made.limit)
    assert operations(free) == 1400
    for journals in (free, run_recorded(made, Stay()).journals):
        finding = replay_journals(made, journals).finding
        assert finding is not None and finding.kind == "not-ended" and "within 1,400 operations" in finding.text
        follower = Threads(made, follow=journals)
        assert follower.run() is None and digest(follower.records()) == digest(journals)


@pytest.mark.parametrize("name", ["E45", "S5a-object"])
def test_a_run_without_end_ends_after_the_same_operations_however_it_is_run(name: str) -> None:
    """Thinned or not, in another order of the same operations, cut out of a longer run."""
    scene = scenario(name)
    seen = []
    for granularity in ("guarded", "access"):
        run = run_recorded(scene, RandomWalk(3), granularity)
        assert run.operations == operations(run.journals) == scene.limit and run.finding is not None
        assert replay_journals(scene, run.journals).finding == run.finding
        seen.append(run.finding.signature)
    assert len(set(seen)) == 1
    longer = replace(scene, bound=replace(scene.bound, operations=scene.limit + 700))
    part = cut(run_recorded(longer, RandomWalk(3), "access").journals, scene.limit)
    again = replay_journals(scene, part)
    assert again.finding == run.finding and operations(part) == scene.limit
