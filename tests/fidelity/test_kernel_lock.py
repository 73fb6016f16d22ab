"""The big lock (machine: {kernel_lock: big}): one CPU in the kernel at a time, except for sleeps and interrupts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import cache

import pytest

from cluster.boot import prepare
from cluster.runs.outcome import Outcome
from cluster.search.explore import explore
from cluster.search.walk import RandomWalk
from cluster.sim.engine import Sim
from nodes.build import build_threads
from shared.journal.order import KERNEL_LOCK, in_order
from shared.journal.record import Record
from shared.port.port import here
from shared.port.struct import lock_name
from shared.scenario.model import Scenario
from shared.scenario.steps.table import STEPS
from shared.uvm.structs import kernel
from tests.kit import BIG, SHIPPED, Toy, empty, make_structs, run_recorded, scenario

LOCK = KERNEL_LOCK
#: operations of an LWP in user mode, or on its way into the kernel or out of it
OUTSIDE = ("run", "userret", "word_read", "word_write", "pmap_walk", "pmap_activate")


def big(name: str) -> Scenario:
    """A shipped scenario on the repaired kernel, with the big lock."""
    return scenario(name).without_errata().with_kernel_lock("big")


@cache
def walked(name: str) -> Outcome:
    """One random walk of `big(name)`, recorded."""
    return run_recorded(big(name), RandomWalk(3))


def with_holder(run: Outcome) -> Iterator[tuple[Record, str]]:
    """Every record in one total order, with the context that holds the big lock when it is performed."""
    holder = ""
    for record in in_order(run.journals):
        mine = record.get("lock") == LOCK
        if mine and record["event"] == "unlock":
            assert holder == record["ctx"]
            holder = ""
        yield record, holder
        if mine and record["event"] == "lock" and "wait" not in record:
            assert holder == ""
            holder = record["ctx"]
        if mine and "granted" in record:
            (holder,) = record["granted"]


@pytest.mark.wide
@pytest.mark.parametrize("name", SHIPPED)
def test_only_the_lock_s_holder_performs_operations_of_the_kernel(name: str) -> None:
    """All of them, except for interrupts', devices', and steps that are not system calls."""
    threads = build_threads(scenario(name))
    beside = {each for each, thread in threads.items() if thread.interrupt or thread.cpu.endswith("_io")}
    step: dict[str, str] = {}
    depth: Counter[str] = Counter()
    inside = 0
    for record, holder in with_holder(walked(name)):
        ctx, event = record["ctx"], record["event"]
        if event == "call":
            step[ctx] = record["op"]
        depth[ctx] += (event == "enter") - (event == "exit")
        traps = step.get(ctx) in ("read", "write") and depth[ctx] > 0
        if "k" not in record or ctx in beside or event in OUTSIDE or record.get("lock") == LOCK:
            continue
        if ctx in step and not STEPS[step[ctx]].system_call and not traps:
            continue
        assert holder == ctx, record
        inside += 1
    assert inside or name.startswith("litmus")


def test_interrupts_run_beside_it() -> None:
    """An interrupt performs operations while an LWP of another CPU has the lock: in some scenario, so the test above
    has seen what it excepts."""
    for name in SHIPPED:
        threads = build_threads(scenario(name))
        for record, holder in with_holder(walked(name)):
            thread = threads[record["ctx"]]
            if holder and thread.interrupt and thread.cpu != threads[holder].cpu and record["event"] == "load":
                return
    pytest.fail("no interrupt ran beside the lock")


def test_without_it_nothing_of_it_is_in_the_journals() -> None:
    run = run_recorded(scenario("S3a").without_errata(), RandomWalk(3))
    assert all(record.get("lock") != LOCK for records in run.journals.values() for record in records)


@pytest.mark.wide
@pytest.mark.parametrize("name", SHIPPED)
def test_every_scenario_of_the_repaired_kernel_is_clean_with_it(name: str) -> None:
    scene = big(name)
    result = explore(scene, schedules=8)
    assert result.finding is None and result.schedules == 8
    assert scene.digest() != scenario(name).without_errata().digest(), "a token says which lock it is of"


def test_a_context_that_sleeps_for_a_lock_gives_the_big_lock_up_and_loses_no_grant() -> None:
    """A and B want a sleepable lock that C has; whoever wants it waits without the big lock, in every schedule."""

    def wants() -> None:
        here.port.kernel_proc_lock("syscall")
        BIG.lk.lock()
        BIG.v += 1
        BIG.lk.unlock()
        here.port.kernel_proc_unlock()

    toy = Toy(make_structs, {"A": (0, wants), "B": (1, wants)}, kernel_lock="big")
    waited = 0
    for finding in toy.every():
        assert finding is None
        assert toy.sim.heap[BIG.id][type(BIG).fields["v"].slot] == 2
        waited += 1
    assert waited > 1


def test_the_big_lock_is_not_among_the_locks_that_lockdebug_checks() -> None:
    """A sleep with the big lock held is not a finding, nor is it held at a function's exit."""
    machine, image = prepare(big("S7"))
    sim = Sim(machine, image)
    assert sim.execute(RandomWalk(0)) is None
    assert all(not thread.held and not thread.biglock for name, thread in machine.threads.items() if thread.home)


@pytest.mark.parametrize("name", ["S3c-race", "S7-shipped", "E54"])
def test_what_two_cpus_in_the_kernel_are_needed_for_is_not_seen_with_it(name: str) -> None:
    assert explore(scenario(name).with_kernel_lock("big"), schedules=100).finding is None


def test_a_machine_says_which_lock_it_has() -> None:
    assert empty().machine.kernel_lock == "fine" and scenario("S3a", kernel_lock="big").machine.kernel_lock == "big"
    assert scenario("S3a", kernel_lock="big").digest() == scenario("S3a").with_kernel_lock("big").digest()


def test_journals_know_its_name() -> None:
    assert lock_name(kernel.kernel_lock.key) == KERNEL_LOCK
