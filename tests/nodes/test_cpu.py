"""A CPU: who may go on, who takes it, and what its TLB knows."""

from __future__ import annotations

from nodes.cpu import Processor, Thread, Tlb, ipi_thread
from shared.port.port import SPL_BIO, SPL_HIGH, SPL_IPI, SPL_NONE
from shared.wire.messages import Wake


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
    node.pending["cpu0.ipi"].append([1, []])
    assert node.choices() == [ipi] and node.takes(ipi) == "intr"


def test_spl_keeps_out_what_is_not_above_it() -> None:
    node, a, _, bio, ipi = cpu()
    node.run(a)
    node.pending["bio"].append("x")
    node.pending["cpu0.ipi"].append([1, []])
    for level, able in ((SPL_NONE, [a, bio, ipi]), (SPL_BIO, [a, ipi]), (SPL_IPI, [a]), (SPL_HIGH, [a])):
        a.spl = level
        assert node.choices() == able


def test_interrupts_nest_by_level_and_return_to_what_they_hit() -> None:
    node, a, _, bio, ipi = cpu()
    node.run(a)
    a.n = 5
    node.pending["bio"].append("first")
    node.pending["bio"].append("second")
    assert node.intr(bio) == ("first", "A", 5)
    bio.n = 2
    assert node.choices() == [bio], "its own level keeps the second out"
    node.pending["cpu0.ipi"].append([1, []])
    assert node.choices() == [bio, ipi]
    assert node.intr(ipi) == ([1, []], "bio", 2)
    assert node.choices() == [ipi]
    node.iret(ipi)
    node.iret(bio)
    assert node.choices() == [a, bio]


def test_an_interrupt_of_an_idle_cpu_has_hit_nobody() -> None:
    node, _, _, bio, _ = cpu()
    node.pending["bio"].append("x")
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
    node.pending["bio"].append("x")
    node.intr(bio)
    node.k = 9
    node.tlb.entries[3] = [1, 1, 1]
    node.reset()
    for one in node.threads:
        one.reset()
    assert node.k == 0 and node.nested == [] and node.current is None and node.tlb.entries == {}
    assert [one.name for one in node.choices()] == ["A", "B"]


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
    tlb.flush([[2, 4], [1, 5]])
    assert list(tlb.entries) == [4]


def test_another_pmap_means_an_empty_tlb() -> None:
    """There are no address space numbers in 2001's i386."""
    tlb = Tlb()
    tlb.switch(1)
    tlb.entries[4] = [9, 1, 1]
    tlb.switch(2)
    assert tlb.pmap == 2 and tlb.entries == {}
