"""The nodes that serve, each by itself: state machines that never block, never read a clock and never guess."""

from __future__ import annotations

from typing import Any

import pytest

from nodes.io import COMPLETION
from nodes.lock_manager import LockManager
from nodes.memory import Memory
from nodes.mmu import Mmu
from nodes.swap_pager import CONTEXT, SwapPager
from shared.port.port import ANY_GEN
from shared.uvm.param import (
    PMAP_WIRED,
    VM_FAULT_INVALID,
    VM_FAULT_PROTECT,
    VM_PROT_NONE,
    VM_PROT_READ,
    VM_PROT_WRITE,
)
from shared.uvm.structs import Buf
from shared.wire.messages import WAIT, Grant, Interrupt, KernelFinding, Wake
from tests.kit import THING, Thing

RW = VM_PROT_READ | VM_PROT_WRITE
SIZE = 64
LOCK = THING.lock_key("lk")


def out(node: Any) -> list[Any]:
    """What a node wants delivered; taken from it."""
    sent: list[Any] = node.out
    node.out = []
    return sent


# -- lock_manager -------------------------------------------------------------------------


def test_a_lock_that_is_taken_is_granted_by_its_release() -> None:
    node = LockManager("lock_manager")
    assert node.admit("A", "lock", LOCK, ("w", "f")) is None
    assert node.admit("B", "lock", LOCK, ("w", "g")) is WAIT
    assert out(node) == []
    node.admit("A", "unlock", LOCK, ())
    assert out(node) == [Grant("B", None)]


def test_the_image_of_a_lock_manager_is_who_sleeps() -> None:
    """After setup the children and the pagedaemon are asleep, and no lock is held."""
    node = LockManager("lock_manager")
    node.admit("C", "sleep", 99, ("start", ""))
    again = LockManager("lock_manager")
    again.load_image(node.image())
    again.admit("A", "wakeup", 99, ())
    assert out(again) == [Wake("C")]


# -- memory -------------------------------------------------------------------------------


def memory(shard: int = 0, shards: int = 1) -> Memory:
    return Memory(f"memory{shard}", 8, SIZE, shard, shards)


def test_structs_are_numbered_per_shard_without_clashes() -> None:
    first, other = memory(0, 2), memory(1, 2)
    made = [node.admit("A", "alloc", 0, (Thing.kind, 0)).index for node in (first, other, first, other)]
    assert made == [0, 1, 2, 3]


def test_an_address_is_made_a_handle_of_what_lives_there() -> None:
    node = memory()
    old = node.admit("A", "alloc", 0, (Thing.kind, 0))
    assert node.admit("A", "identify", old.id, (Thing(old.id, ANY_GEN),)) == 0
    gen = node.admit("A", "renew", old.id, (old, "f < g", 3))
    assert node.admit("A", "identify", old.id, (Thing(old.id, ANY_GEN),)) == gen == 1


def test_a_renewed_struct_is_empty_and_its_old_handles_are_stale() -> None:
    node = memory()
    old = node.admit("A", "alloc", 0, (Thing.kind, 0))
    slot = Thing.fields["v"].slot
    node.admit("A", "store", old.id, (old, "v", slot, 7))
    gen = node.admit("A", "renew", old.id, (old, "f < g", 3))
    assert gen == 1
    node.admit("B", "renew", old.id, (Thing.at(0, 1), "h < g", 5))
    with pytest.raises(
        KernelFinding, match=r"recycled \(generation 2, handle of 0\): A freed it in f < g, its operation 3"
    ):
        node.admit("A", "load", old.id, (old, "v", slot))
    with pytest.raises(KernelFinding, match=r"handle of 1\): B freed it in h < g, its operation 5"):
        node.admit("A", "load", old.id, (Thing.at(0, 1), "v", slot))
    assert node.admit("A", "load", old.id, (Thing.at(0, 2), "v", slot)) is None
    assert node.admit("A", "load", old.id, (Thing.at(0, ANY_GEN), "v", slot)) is None


@pytest.mark.parametrize("code", ["load", "store", "free", "renew"])
def test_a_freed_struct_cannot_be_used_in_any_way(code: str) -> None:
    node = memory()
    obj = node.admit("A", "alloc", 0, (Thing.kind, 0))
    node.admit("A", "free", obj.id, (obj, "f < g", 3))
    args = {"load": (obj, "v", 2), "store": (obj, "v", 2, 1)}.get(code, (obj, "h", 9))
    with pytest.raises(KernelFinding, match="freed: A freed it in f < g, its operation 3") as caught:
        node.admit("B", code, obj.id, args)
    assert (caught.value.kind, caught.value.subject) == ("use-after-free", "thing:0")


def test_a_frame_is_words_that_are_read_and_written_one_by_one() -> None:
    node = memory()
    node.admit("A", "word_write", 3, (8, 5, 0x1008, 0))
    assert node.admit("A", "word_read", 3, (8, 0x1008, 0)) == 5 and node.admit("A", "word_read", 3, (0, 0x1000, 0)) == 0
    node.admit("A", "frame_zero", 3, ())
    assert node.admit("A", "frame_read", 3, ()) == (0,) * 8


def test_the_image_of_a_shard_brings_back_its_state() -> None:
    node = memory(1, 2)
    obj = node.admit("A", "alloc", 0, (Thing.kind, 0))
    node.admit("A", "store", obj.id, (obj, "v", 2, 9))
    node.admit("A", "word_write", 1, (0, 4, 0x1000, 0))
    again = memory(1, 2)
    again.load_image(node.image())
    assert again.admit("B", "load", obj.id, (obj, "v", 2)) == 9
    assert again.admit("B", "word_read", 1, (0, 0x1000, 0)) == 4
    assert again.admit("B", "alloc", 0, (Thing.kind, 0)).index == 3


# -- mmu -----------------------------------------------------------------------------------


def mmu() -> tuple[Mmu, int]:
    node = Mmu("mmu", SIZE)
    return node, node.admit("A", "pmap_create", 0, ())[0]


def enter(node: Mmu, pmap: int, page: int, frame: int, prot: int = RW, flags: int = 0) -> Any:
    return node.admit("A", "pmap_enter", pmap, (page * SIZE, frame, prot, flags, "cpu0"))


def test_a_walk_sets_r_and_on_a_write_m() -> None:
    node, pmap = mmu()
    enter(node, pmap, 2, 5)
    assert node.admit("A", "pmap_is_referenced", 5, ()) == 0
    assert node.admit("A", "pmap_walk", pmap, (2, 0, "cpu0")) == [5, VM_PROT_WRITE, 0, ANY_GEN]
    assert (node.admit("A", "pmap_is_referenced", 5, ()), node.admit("A", "pmap_is_modified", 5, ())) == (1, 0)
    assert node.admit("A", "pmap_walk", pmap, (2, 1, "cpu0")) == [5, VM_PROT_WRITE, 1, ANY_GEN]
    assert node.admit("A", "pmap_is_modified", 5, ()) == 1


def test_a_walk_that_finds_nothing_says_which_fault_it_is() -> None:
    node, pmap = mmu()
    enter(node, pmap, 2, 5, VM_PROT_READ)
    assert node.admit("A", "pmap_walk", pmap, (3, 0, "cpu0")) == VM_FAULT_INVALID
    assert node.admit("A", "pmap_walk", pmap, (2, 1, "cpu0")) == VM_FAULT_PROTECT


def test_r_and_m_outlive_the_mapping() -> None:
    """Or the pagedaemon would take a page for clean because its dirty mapping is gone."""
    node, pmap = mmu()
    enter(node, pmap, 2, 5, flags=RW)
    node.admit("A", "pmap_remove", pmap, (0, 10 * SIZE, "cpu0"))
    assert node.admit("A", "pmap_is_modified", 5, ()) == 1


def test_narrowing_waits_until_every_other_cpu_has_flushed() -> None:
    """A CPU with the page in its TLB would continue writing to it."""
    node, pmap = mmu()
    enter(node, pmap, 2, 5)
    for cpu in ("cpu0", "cpu1", "cpu2"):
        node.admit("A", "pmap_walk", pmap, (2, 1, cpu))
    assert node.admit("A", "pmap_page_protect", 5, (VM_PROT_READ, "cpu0")) is WAIT
    sent = out(node)
    assert [effect.ctx for effect in sent] == [
        "cpu0.ipi",
        "cpu1.ipi",
        "cpu2.ipi",
    ]  # an interrupt may use cpu0's TLB meanwhile
    number, pages = sent[0].message
    assert pages == [[pmap, 2]]
    for cpu in ("cpu0", "cpu1"):
        node.admit(f"{cpu}.ipi", "pmap_ack", number, (cpu,))
        assert out(node) == []
    node.admit("cpu2.ipi", "pmap_ack", number, ("cpu2",))
    assert out(node) == [Grant("A", [None, []])]


#: each request that takes away, narrows, or clears a bit that a TLB may have; of page 2 of the pmap, frame 5
NARROWING = {
    "pmap_page_protect": (5, (VM_PROT_READ, "cpu0")),
    "pmap_page_protect, all": (5, (VM_PROT_NONE, "cpu0")),
    "pmap_page_protect_unwired": (5, (VM_PROT_NONE, "cpu0")),
    "pmap_protect": (1, (2 * SIZE, 3 * SIZE, VM_PROT_READ, "cpu0")),
    "pmap_protect, all": (1, (2 * SIZE, 3 * SIZE, VM_PROT_NONE, "cpu0")),
    "pmap_remove": (1, (2 * SIZE, 3 * SIZE, "cpu0")),
    "pmap_clear_modify": (5, ("cpu0",)),
    "pmap_clear_reference": (5, ("cpu0",)),
    "pmap_enter": (1, (2 * SIZE, 6, RW, RW, "cpu0")),
}


@pytest.mark.parametrize("second", NARROWING)
@pytest.mark.parametrize("first", ["pmap_clear_reference", "pmap_clear_modify"])
def test_a_request_waits_for_a_cpu_that_an_earlier_one_has_interrupted(first: str, second: str) -> None:
    """The CPU has not flushed yet: until it does, it continues using what it has cached."""
    node, pmap = mmu()
    enter(node, pmap, 2, 5, flags=RW)
    node.admit("B", "pmap_walk", pmap, (2, 1, "cpu1"))
    target, args = NARROWING[first]
    assert node.admit("A", first, target, args) is WAIT
    number = out(node)[0].message[0]
    if first == second:
        enter(node, pmap, 2, 5, flags=RW)  # or there is no bit to clear
    target, args = NARROWING[second]
    assert node.admit("C", second.split(",", maxsplit=1)[0], target, (*args[:-1], "cpu2")) is WAIT
    (again,) = out(node)
    assert again.ctx == "cpu1.ipi" and again.message[0] != number
    node.admit("cpu1.ipi", "pmap_ack", number, ("cpu1",))
    assert [effect.ctx for effect in out(node)] == ["A"]
    node.admit("cpu1.ipi", "pmap_ack", again.message[0], ("cpu1",))
    assert [effect.ctx for effect in out(node)] == ["C"]


def test_a_cpu_that_waits_for_others_has_not_flushed_itself() -> None:
    """A device's interrupt on it may use the page all the time."""
    node, pmap = mmu()
    enter(node, pmap, 2, 5)
    for cpu in ("cpu0", "cpu1"):
        node.admit("A", "pmap_walk", pmap, (2, 1, cpu))
    assert node.admit("A", "pmap_page_protect", 5, (VM_PROT_READ, "cpu0")) is WAIT
    out(node)
    assert node.admit("B", "pmap_page_protect", 5, (VM_PROT_NONE, "cpu1")) is WAIT
    assert [effect.ctx for effect in out(node)] == ["cpu0.ipi", "cpu1.ipi"]


def test_what_was_walked_again_after_the_interrupt_was_sent_is_flushed_with_it() -> None:
    node, pmap = mmu()
    enter(node, pmap, 2, 5)
    node.admit("B", "pmap_walk", pmap, (2, 0, "cpu1"))
    assert node.admit("A", "pmap_clear_reference", 5, ("cpu0",)) is WAIT
    number = out(node)[0].message[0]
    node.admit("B", "pmap_walk", pmap, (2, 0, "cpu1"))
    node.admit("cpu1.ipi", "pmap_ack", number, ("cpu1",))
    assert node.admit("A", "pmap_page_protect", 5, (VM_PROT_NONE, "cpu0")) == [None, []]


def test_a_page_that_only_the_asking_cpu_has_cached_needs_no_interrupt() -> None:
    node, pmap = mmu()
    enter(node, pmap, 2, 5)
    node.admit("A", "pmap_walk", pmap, (2, 1, "cpu0"))
    assert node.admit("A", "pmap_page_protect", 5, (VM_PROT_NONE, "cpu0")) == [None, [[pmap, 2]]]
    assert out(node) == [] and node.admit("A", "pmap_extract", pmap, (2 * SIZE,)) is None


def test_a_cpu_that_switched_away_need_not_be_told() -> None:
    """Loading another pmap has flushed its TLB."""
    node, pmap = mmu()
    enter(node, pmap, 2, 5)
    node.admit("A", "pmap_walk", pmap, (2, 1, "cpu1"))
    node.admit("B", "pmap_activate", 9, ("cpu1",))
    assert node.admit("A", "pmap_remove", pmap, (0, 10 * SIZE, "cpu0")) == [None, []]


def test_clearing_a_bit_shoots_it_out_of_the_tlbs() -> None:
    """A cached M would keep the next write from setting it again."""
    node, pmap = mmu()
    enter(node, pmap, 2, 5)
    node.admit("B", "pmap_walk", pmap, (2, 1, "cpu1"))
    assert node.admit("A", "pmap_clear_modify", 5, ("cpu0",)) is WAIT
    assert [effect.ctx for effect in out(node)] == ["cpu1.ipi"]
    assert node.admit("A", "pmap_is_modified", 5, ()) == 0


def test_widening_needs_no_shootdown_but_another_frame_does() -> None:
    node, pmap = mmu()
    enter(node, pmap, 2, 5, VM_PROT_READ)
    node.admit("B", "pmap_walk", pmap, (2, 0, "cpu1"))
    assert enter(node, pmap, 2, 5, RW) == [0, []]
    assert enter(node, pmap, 2, 6, RW) is WAIT
    assert [effect.ctx for effect in out(node)] == ["cpu1.ipi"]


def test_the_wired_bit_stays_until_it_is_taken_off() -> None:
    node, pmap = mmu()
    enter(node, pmap, 2, 5, flags=PMAP_WIRED)
    assert node.pmaps[pmap][2][2] == 1
    node.admit("A", "pmap_unwire", pmap, (2 * SIZE,))
    assert node.pmaps[pmap][2][2] == 0


def test_the_image_of_the_mmu_keeps_mappings_and_bits() -> None:
    node, pmap = mmu()
    enter(node, pmap, 2, 5, flags=RW)
    enter(node, pmap, 3, 6, flags=RW)
    node.admit("A", "pmap_remove", pmap, (3 * SIZE, 4 * SIZE, "cpu0"))
    again = Mmu("mmu", SIZE)
    again.load_image(node.image())
    assert again.admit("A", "pmap_extract", pmap, (2 * SIZE,)) == 5
    assert again.admit("A", "pmap_is_modified", 6, ()) == 1
    assert again.admit("A", "pmap_create", 0, ()) == [pmap + 1, 0]


# -- swap_pager ------------------------------------------------------------------------------


def test_requests_are_served_in_order_of_arrival() -> None:
    node = SwapPager("swap_pager", SIZE)
    buf = Buf.at(0)
    assert node.admit("pagedaemon", "swap_put", 4, (buf, [1, 2])) == 0
    assert node.admit("A", "swap_get", 9, (3,)) is WAIT
    first = node.admit(CONTEXT, "io_next", 0, ())
    second = node.admit(CONTEXT, "io_next", 0, ())
    assert (first[1:3], second[1:3]) == (["put", [1, 2]], ["get", [3]])


def test_a_write_is_completed_by_an_interrupt_and_read_back() -> None:
    node = SwapPager("swap_pager", SIZE)
    buf = Buf.at(0)
    assert node.admit(CONTEXT, "io_next", 0, ()) is WAIT
    node.admit("pagedaemon", "swap_put", 4, (buf, [1, 2]))
    [grant] = out(node)
    assert grant.ctx == CONTEXT
    words = [(1,) * 8, (2,) * 8]
    node.admit(CONTEXT, "io_done", grant.value[0], (0, words))
    assert out(node) == [Interrupt(COMPLETION, [buf, 0])]
    node.admit("A", "swap_get", 5, (7,))
    number, kind, frames, contents, *_ = node.admit(CONTEXT, "io_next", 0, ())
    assert (kind, frames, contents) == ("get", [7], [(2,) * 8])
    node.admit(CONTEXT, "io_done", number, (0, []))
    assert out(node) == [Grant("A", 0)]


def test_a_slot_never_written_reads_as_zeros() -> None:
    node = SwapPager("swap_pager", SIZE)
    node.admit("A", "swap_get", 5, (7,))
    assert node.admit(CONTEXT, "io_next", 0, ())[3] == [(0,) * 8]
