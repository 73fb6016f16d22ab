"""A CPU: who may continue, who takes it, and what its TLB knows."""

from __future__ import annotations

from typing import Any, cast

import pytest

from nodes.cpu import FINISHED, RUNNING, Pending, Processor, Thread, Tlb, ipi_thread
from shared.port.port import SPL_BIO, SPL_HIGH, SPL_IPI, SPL_NONE, Held, here
from shared.uvm.structs import Proc
from shared.wire.messages import Grant, Interrupt, Wake
from tests.kit import THING, PartOfPort


def cpu() -> tuple[Processor, Thread, Thread, Thread, Thread]:
    a, b = Thread("A", "cpu0", lambda: None), Thread("B", "cpu0", lambda: None)
    bio, ipi = Thread("bio", "cpu0", lambda: None, SPL_BIO, interrupt=True), ipi_thread("cpu0")
    return Processor("cpu0", [a, b, bio, ipi]), a, b, bio, ipi


def test_an_idle_cpu_offers_every_runnable_lwp() -> None:
    node, a, b, *_ = cpu()
    assert node.choices() == [a, b]
    assert node.takes(a) == "run"


def test_an_lwp_in_the_kernel_keeps_its_cpu() -> None:
    """The kernel is not preemptive."""
    node, a, *_ = cpu()
    node.run(a)
    assert node.choices() == [a] and node.takes(a) is None


def test_a_cpu_whose_lwp_spins_runs_nobody_else() -> None:
    node, a, *_ = cpu()
    node.run(a)
    a.ready = False
    assert node.choices() == []


def test_an_lwp_that_sleeps_gives_up_its_cpu() -> None:
    node, a, b, *_ = cpu()
    node.run(a)
    a.ready = False
    node.park(a)
    assert node.choices() == [b]


def test_an_interrupt_is_taken_over_an_lwp_that_spins() -> None:
    """Otherwise two CPUs could wait for each other: one for a lock, the other for a shootdown's acknowledgement."""
    node, a, _, _, ipi = cpu()
    node.run(a)
    a.ready = False
    node.post("cpu0.ipi", [1, []])
    assert node.choices() == [ipi] and node.takes(ipi) == "intr"


def test_spl_keeps_out_what_is_not_above_it() -> None:
    node, a, _, bio, ipi = cpu()
    node.run(a)
    node.post("bio", "x")
    node.post("cpu0.ipi", [1, []])
    for level, able in ((SPL_NONE, [a, bio, ipi]), (SPL_BIO, [a, ipi]), (SPL_IPI, [a]), (SPL_HIGH, [a])):
        a.spl = level
        assert node.choices() == able


def test_interrupts_nest_by_level_and_return_to_what_they_hit() -> None:
    node, a, _, bio, ipi = cpu()
    node.run(a)
    a.n = 5
    node.post("bio", "first")
    node.post("bio", "second")
    assert node.intr(bio) == ("first", "A", 5)
    bio.n = 2
    assert node.choices() == [bio], "its own level keeps the second out"
    node.post("cpu0.ipi", [1, []])
    assert node.choices() == [bio, ipi]
    assert node.intr(ipi) == ([1, []], "bio", 2)
    assert node.choices() == [ipi]
    node.iret(ipi)
    node.iret(bio)
    assert node.choices() == [a, bio]


def test_an_interrupt_of_an_idle_cpu_has_hit_nobody() -> None:
    node, _, _, bio, _ = cpu()
    node.post("bio", "x")
    assert node.intr(bio) == ("x", "", 0)


def test_a_wakeup_before_the_cpu_is_given_up_is_not_lost() -> None:
    """ltsleep queues first, unlocks then, and gives up the CPU last."""
    _, a, *_ = cpu()
    a.parked, a.ready, a.woken = False, True, False
    a.receive(Wake("A"))
    assert a.woken and a.ready
    a.parked, a.ready, a.woken = True, False, False
    a.receive(Wake("A"))
    assert a.ready


def test_a_reset_cpu_has_forgotten_everything() -> None:
    node, a, _, bio, _ = cpu()
    node.run(a)
    node.post("bio", "x")
    node.intr(bio)
    node.k = 9
    node.tlb.switch(1)
    node.tlb.entries[3] = [1, 1, 1]
    node.post("bio", "y")
    node.post("bio", "z")
    assert node.raised == 2
    node.reset()
    assert node.tlb.pmap == 0 and node.raised == 0
    for thread in node.threads:
        thread.reset()
    assert node.k == 0 and node.nested == [] and node.current is None and node.tlb.entries == {}
    assert [choice.name for choice in node.choices()] == ["A", "B"]


def test_a_context_before_its_first_operation() -> None:
    """Its home is its process until it serves another; an interrupt waits to be raised, an LWP for its CPU."""
    _, a, _, bio, _ = cpu()
    assert (a.name, a.cpu, a.level, a.order, a.home, a.interrupt) == ("A", "cpu0", SPL_NONE, 0, None, False)
    assert bio.level == SPL_BIO and bio.interrupt
    a.home = home = Proc.at(6)
    a.state, a.value, a.waits, a.waits_since, a.woken, a.glet = FINISHED, 7, ("lock", 1), 3, True, cast(Any, "greenlet")
    a.asks, a.enabled = ("load", 1, ()), True
    a.reset()
    assert a.enabled is False
    assert a.proc is home and a.state == RUNNING and a.ready and a.parked and a.woken is False and a.waits_since == 0
    assert a.waits is None and a.asks is None and a.value is None and a.glet is None
    assert not bio.ready and not bio.parked and bio.waits is None


def test_a_context_that_starts_asleep_waits_for_its_first_wakeup() -> None:
    _, a, *_ = cpu()
    a.starts_on = 9
    a.reset()
    assert a.waits == ("sleep", 9) and not a.ready
    a.receive(Wake("A"))
    assert a.ready and a.woken


def test_an_interrupt_that_would_start_asleep_is_not_ready_either() -> None:
    _, _, _, bio, _ = cpu()
    bio.starts_on = 9
    bio.reset()
    assert not bio.ready


def test_a_grant_brings_its_value_and_makes_ready() -> None:
    _, a, *_ = cpu()
    a.ready = False
    a.receive(Grant("A", 42))
    assert (a.value, a.ready, a.woken) == (42, True, True)


def test_an_interrupt_s_message_is_kept_until_it_is_taken() -> None:
    node, _, _, bio, _ = cpu()
    assert node.name == "cpu0" and all(thread.processor is node for thread in node.threads)
    bio.receive(Interrupt("bio", "first"))
    bio.receive(Interrupt("bio", "second"))
    assert list(node.pending["bio"]) == ["first", "second"]
    assert node.choices()[-1] is bio, "a CPU that is idle is at level 0"
    assert node.intr(bio)[0] == bio.value == "first" and bio.ready


def test_an_idle_cpu_takes_an_interrupt_of_the_lowest_level() -> None:
    low = Thread("soft", "cpu0", lambda: None, 1, interrupt=True)
    node = Processor("cpu0", [low])
    low.receive(Interrupt("soft", 1))
    assert node.choices() == [low]


def test_of_nested_interrupts_the_innermost_alone_goes_on() -> None:
    """And only if it does not wait; those under it would be taken anew."""
    node, a, _, bio, ipi = cpu()
    for raised in (bio, ipi):
        raised.receive(Interrupt(raised.name, raised.name))
    assert node.interrupted() == []
    node.run(a)
    node.intr(bio)
    assert node.takes(bio) is None and node.interrupted() == [a]
    node.intr(ipi)
    assert node.takes(ipi) is None and node.takes(bio) == "intr" and node.interrupted() == [a, bio]
    ipi.ready = False
    assert node.choices() == []
    node.iret(ipi)
    assert ipi.ready is False and node.takes(bio) is None


def test_what_an_idle_cpu_s_interrupts_are_over() -> None:
    node, _, _, bio, ipi = cpu()
    for raised in (bio, ipi):
        raised.receive(Interrupt(raised.name, 0))
        node.intr(raised)
    assert node.interrupted() == [bio]


def test_an_lwp_that_gave_up_its_cpu_needs_it_again() -> None:
    node, a, *_ = cpu()
    node.run(a)
    assert a.parked is False
    node.park(a)
    assert a.parked is True and node.current is None and node.takes(a) == "run"


def test_kernel_events_are_counted_from_one_operation_to_the_next() -> None:
    node, *_ = cpu()
    assert node.events_since() == 0
    node.note_event()
    node.note_event()
    assert node.events_since() == 2
    node.k = 5
    assert node.events_since() == 0
    node.note_event()
    assert (node.events_since(), node.events_at) == (1, 5)
    node.reset()
    assert (node.k, node.events_at, node.events) == (0, 0, 0)


def test_what_is_pending_is_the_cpu_first_and_then_what_is_asked() -> None:
    node, a, *_ = cpu()
    a.asks = ("load", 3, ("x",))
    assert a.pending == Pending("run", 0, ())
    node.run(a)
    assert a.pending == Pending("load", 3, ("x",))
    a.asks = None
    assert a.pending is None


@pytest.mark.parametrize("finished", [False, True])
def test_a_context_s_state_at_rest(finished: bool) -> None:
    """All that a verdict asks of it."""
    node, a, _, bio, _ = cpu()
    a.home = Proc.at(6)
    a.n, a.waits, a.ready = 4, ("lock", 8), False
    a.stack = ["uvm_fault"]
    a.held = [Held(THING.lk, "shared", "uvm_map")]
    a.state = FINISHED if finished else RUNNING
    held = [{"lock": "thing:0.lk", "mode": "shared", "since": "uvm_map"}]
    assert a.at_rest() == ("A", "cpu0", 4, ("lock", 8), finished, False, False, ["uvm_fault"], held, 6)
    assert a.at_rest().stack is not a.stack
    assert bio.at_rest() == ("bio", "cpu0", 0, None, False, False, True, [], [], None)


def test_an_ipi_flushes_what_it_names_and_acknowledges() -> None:
    did: list[object] = []

    class Heard(PartOfPort):
        """Writes down what a shootdown does."""

        def __init__(self) -> None:
            super().__init__()
            self.cur = ipi_thread("cpu1")
            self.cache = Tlb()
            self.cache.switch(2)
            self.cache.entries = {4: [9, 1, 1], 5: [8, 1, 1]}

        def tlb(self) -> Tlb:
            return self.cache

        def enter(self, function: str) -> None:
            did.append(function)

        def exit(self) -> None:
            did.append("exit")

        def op(self, code: str, target: int, args: tuple[object, ...]) -> None:
            did.append((code, target, args, list(self.cache.entries)))

    port = Heard()
    port.cur.value = [17, [[2, 4]]]
    assert (port.cur.name, port.cur.cpu, port.cur.level, port.cur.interrupt) == ("cpu1.ipi", "cpu1", SPL_IPI, True)
    with here.installed(port):
        port.cur.body()
    assert did == ["pmap_tlb_shootdown_ipi", ("pmap_ack", 17, ("cpu1",), [5]), "exit"]


# -- TLB --------------------------------------------------------------------------------


def test_a_first_write_through_a_read_entry_needs_a_walk() -> None:
    """The hardware sets M in the page table, not in the TLB."""
    tlb = Tlb()
    tlb.switch(1)
    tlb.entries[4] = [9, 1, 0]
    assert tlb.lookup(4, False) == 9 and tlb.lookup(4, True) is None
    tlb.entries[4] = [9, 1, 1]
    assert tlb.lookup(4, True) == 9
    tlb.entries[4] = [9, 0, 1]
    assert tlb.lookup(4, True) is None


def test_a_flush_forgets_the_pages_named_of_the_pmap_loaded() -> None:
    tlb = Tlb()
    tlb.switch(1)
    tlb.entries = {4: [9, 1, 1], 5: [8, 1, 1]}
    tlb.flush([[2, 4], [1, 5], [1, 6]])
    assert list(tlb.entries) == [4] and tlb.state() == (1, [(4, [9, 1, 1])])


def test_another_pmap_means_an_empty_tlb() -> None:
    """There are no address space numbers in 2001's i386."""
    tlb = Tlb()
    assert tlb.pmap == 0
    tlb.switch(1)
    tlb.entries[4] = [9, 1, 1]
    tlb.switch(2)
    assert tlb.pmap == 2 and tlb.entries == {}


def test_a_cpu_counts_the_interrupts_that_are_raised_and_not_taken() -> None:
    node, _, _, bio, ipi = cpu()
    for name, message in (("bio", "x"), ("bio", "y"), ("cpu0.ipi", "z")):
        node.post(name, message)
    assert node.raised == 3
    node.intr(bio)
    assert node.raised == 2
    node.intr(ipi)
    assert node.raised == 1
