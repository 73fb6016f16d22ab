"""What makes a search fast changes nothing: undoing an execution, asking a patient strategy seldom, judging once."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import pytest

from cluster.boot import prepare
from cluster.search.pct import Pct
from cluster.search.strategy import Strategy
from cluster.search.walk import RandomWalk
from cluster.sim.engine import COLLECT_EVERY, NOBODY, Sim, seldom_collected
from cluster.sim.judged import MOST, TRIES, UNKNOWN, Judged, final_state
from cluster.sim.schedule import packed, unpacked
from nodes.cpu import FINISHED, RUNNING, Thread
from shared.journal.deviation import KINDS, Deviation
from shared.patch import applied, read
from shared.port.heap import GONE
from shared.port.port import Held
from shared.scenario.model import Results
from tests.bench.forks import engine
from tests.kit import SHIPPED, THING, scenario

EXECUTIONS = 6


class Asked(Strategy):
    """The same strategy, which has to be asked at every point."""

    def __init__(self, strategy: Strategy):
        self.strategy = strategy

    def new_execution(self) -> bool:
        return self.strategy.new_execution()

    def pick(self, enabled: Sequence[Thread], current: Thread | None) -> Thread | None:
        return self.strategy.pick(enabled, current)

    def choose(self, n: int) -> int:
        return self.strategy.choose(n)


def outcome(sim: Sim, strategy: Strategy) -> object:
    finding = sim.execute(strategy)
    notes = [note.as_dict() for note in sim.notes]
    return finding and finding.as_dict(), notes, sim.deviations, sim.steps, sim.points, sim.results


@pytest.mark.wide
@pytest.mark.parametrize("levels", [{}, {"invariant": "off"}], ids=["as it is", "without invariants"])
@pytest.mark.parametrize("name", SHIPPED)
def test_a_search_s_executions_are_what_each_would_be_alone(name: str, levels: dict[str, str]) -> None:
    """Compared with an engine that is asked at every point, and knows no state that was judged."""
    scene = scenario(name).with_detect(levels)
    slow = Sim(*prepare(scene))
    for begin in (lambda: Pct(7, 3), lambda: RandomWalk(7)):
        fast, quick, careful = Sim(*prepare(scene)), begin(), Asked(begin())
        slow.racy.clear()
        for _ in range(EXECUTIONS):
            slow.judged = Judged()
            assert outcome(fast, quick) == outcome(slow, careful)
            if fast.limit > 20_000 and fast.steps >= fast.limit:
                return  # (seconds each)


def in_order(images: dict[str, Any]) -> dict[str, Any]:
    """A memory lists its structs in no particular order; handles are told with their generations."""
    return {
        node: {**image, "heap": sorted(map(repr, image["heap"]))} if node.startswith("memory") else image
        for node, image in images.items()
    }


@pytest.mark.wide
@pytest.mark.parametrize("name", SHIPPED)
def test_an_execution_begins_where_the_image_says(name: str) -> None:
    """Whatever the execution before it has written, allocated, freed or taken for its own."""
    machine, image = prepare(scenario(name))
    sim = Sim(machine, image)
    for seed in range(2):
        sim.execute(RandomWalk(seed))
        sim._restore()
        assert in_order(machine.image()) == in_order({node: image[node] for node in machine.nodes})
        assert not sim.heap.changed and all(rec.owner is None for rec in sim.heap.records.values())


def test_states_are_looked_up_only_where_that_pays() -> None:
    rare, often = Judged(), Judged()
    for number in range(TRIES):
        assert rare.pays() and often.pays()
        for judged, state in ((rare, (number,)), (often, (number % 4,))):
            if not judged.knows(state):
                judged.remember(state)
    assert (rare.known, often.known) == (0, TRIES - 4)
    assert not rare.pays() and often.pays()
    assert not often.knows(UNKNOWN) and often.asked == TRIES


def test_a_machine_may_have_many_cpus_and_many_contexts() -> None:
    """All of them are in the middle of the kernel at once, and none lies above all others on the stack."""
    sim = engine(48)
    assert sim.execute(RandomWalk(0)) is None
    assert len(sim.threads) > 48 * 4 and sim.steps > 100_000


def test_no_more_than_a_bounded_number_of_states_is_remembered() -> None:
    judged, state = Judged(), (0,) * 1023
    for number in range(MOST // 1024 + 5):
        judged.remember((*state, number))
        judged.remember((*state, number))
    assert len(judged.clean) == MOST // 1024 and judged.size == MOST


@pytest.mark.parametrize("kind", range(len(KINDS)))
@pytest.mark.parametrize("following", [0, 1, 255, 70_000])
def test_a_deviation_is_the_same_behind_its_number(kind: int, following: int) -> None:
    threads = list(prepare(scenario("E54"))[0].threads.values())
    name = KINDS[kind]
    for ran in (NOBODY, threads[0], threads[-1]):
        for n in (0, 1, 1_000_000):
            chosen = following if name == "choice" else min(following, len(threads) - 1)
            known = Deviation(ran.name, n, name, chosen if name == "choice" else threads[chosen].name)
            assert unpacked(packed(kind, ran, n, chosen), threads) == known


def test_a_node_of_a_sharded_machine_performs_what_a_patch_says() -> None:
    """The engine keeps the methods of nodes, until the patch is another."""
    source = (
        "from shared.patch import original, replaces\n"
        '@replaces("LockManager.op_lock")\n'
        "def op_lock(self, ctx, key, mode, fn):\n"
        '    self.sites["patched"] = self.sites.get("patched", 0) + 1\n'
        '    return original("LockManager.op_lock")(self, ctx, key, mode, fn)\n'
    )
    for shards in (1, 2):
        sim = Sim(*prepare(scenario("E2", shards=f"{{lock_manager: {shards}, memory: {shards}}}").without_errata()))
        for patched in (False, True, False, True):
            with applied(read(source, "counts.py")) if patched else nullcontext():
                assert sim.execute(RandomWalk(1)) is None
                assert ("patched" in sim.sites) is patched


@pytest.mark.parametrize("whole", [True, False])
def test_final_states_that_differ_in_a_context_are_different(whole: bool) -> None:
    machine, image = prepare(scenario("E54").without_errata())
    sim = Sim(machine, image)
    sim.execute(RandomWalk(1))
    thread = next(thread for thread in sim.threads.values() if thread.state == FINISHED and thread.n)

    def state(results: Results) -> object:
        return final_state(machine, sim.heap, results, whole)

    seen = [state(sim.results)]
    changes: dict[str, object] = {
        "waits": ("lock", 7), "state": RUNNING, "ready": True, "held": [Held(THING.lk, "w", "f")],
        "stack": ["uvm_fault"],
    }  # fmt: skip
    for name, value in changes.items():
        before = getattr(thread, name)
        setattr(thread, name, value)
        seen.append(state(sim.results))
        n, thread.n = thread.n, 0
        assert state(sim.results) != seen[-1], "a context that has not begun waits for nothing"
        thread.n = n
        setattr(thread, name, before)
    assert len(set(seen)) == 1 + len(changes) and seen[0] == state(sim.results)
    answered = next(name for name, steps in sim.results.items() if steps)
    other: Results = {**sim.results, answered: [{**step, "result": -1} for step in sim.results[answered]]}
    assert state(other) != seen[0]


def test_a_final_state_has_memory_only_if_a_verdict_looks_at_it() -> None:
    """Invariants do, and so do the reasons of a context that is stuck."""
    machine, image = prepare(scenario("E54").without_errata())
    sim = Sim(machine, image)
    sim.execute(RandomWalk(1))
    thread = next(thread for thread in sim.threads.values() if thread.state == FINISHED and thread.n)
    for number, (whole, stuck) in enumerate([(False, False), (True, False), (False, True)]):
        thread.state, thread.waits = (RUNNING, ("lock", 7)) if stuck else (FINISHED, None)
        before = final_state(machine, sim.heap, sim.results, whole)
        record = next(rec for _, rec in sim.heap.changed if rec.gen != GONE and rec.fields)
        record.fields[0] = 1000 + number
        assert (final_state(machine, sim.heap, sim.results, whole) != before) is (whole or stuck)


@pytest.mark.parametrize("name", SHIPPED)
def test_executions_leave_nothing_to_the_garbage_collector(name: str) -> None:
    """The collector looks seldom, so a search would grow. (E67 leaves a page of a segment that was removed.)"""
    sim, strategy = Sim(*prepare(scenario(name).without_errata())), RandomWalk(1)
    for _ in range(3):
        sim.execute(strategy)
    while gc.collect():  # what tests before this have left
        pass
    for _ in range(3):
        sim.execute(strategy)
    assert gc.collect() <= (9 if name == "E67" else 0)


def test_an_engine_goes_with_all_that_it_has() -> None:
    """S3a's first execution ends while a context holds the lock of a struct of its own: a cycle."""
    counts = []
    for _ in range(4):
        sim = Sim(*prepare(scenario("S3a")))
        finding = sim.execute(RandomWalk(0))
        assert finding is not None and any(thread.held for thread in sim.threads.values())
        del sim, finding
        while gc.collect():
            pass
        counts.append(sum(isinstance(object_, Thread) for object_ in gc.get_objects()))
    assert counts[1:] == counts[:1] * 3


def test_the_collector_looks_as_often_as_before_when_many_executions_are_over() -> None:
    before = gc.get_threshold(), gc.get_freeze_count()
    with seldom_collected(), seldom_collected():
        assert gc.get_threshold()[0] == COLLECT_EVERY
    assert (gc.get_threshold(), gc.get_freeze_count()) == before
