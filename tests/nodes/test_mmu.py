"""The mmu node with page tables that are pages, and with an MMU that leaves R and M to the kernel."""

from __future__ import annotations

from typing import Any

import pytest

from nodes.mmu import Mmu
from shared.port.port import ANY_GEN
from shared.uvm.param import (
    VM_FAULT_INVALID,
    VM_FAULT_PROTECT,
    VM_FAULT_REFERENCE,
    VM_PROT_NONE,
    VM_PROT_READ,
    VM_PROT_WRITE,
)
from shared.uvm.structs import Pmap
from shared.wire.codec import decode, encode
from shared.wire.messages import WAIT, Grant
from tests.kit import PLAIN

RW = VM_PROT_READ | VM_PROT_WRITE
SIZE, PER_TABLE = 64, 4
OBJ = Pmap.at(0)


def ask(node: Mmu, code: str, target: int, *args: Any) -> Any:
    return node.admit("A", code, target, args)


def enter(node: Mmu, page: int, frame: int, prot: int = RW, flags: int = 0, pmap: int = 1) -> Any:
    return ask(node, "pmap_enter", pmap, page * SIZE, frame, prot, flags, "cpu0")


def walk(node: Mmu, page: int, write: bool, cpu: str = "cpu0", pmap: int = 1) -> Any:
    return ask(node, "pmap_walk", pmap, page, int(write), cpu)


# -- page tables ------------------------------------------------------------------------------


@pytest.fixture
def tables() -> Mmu:
    """One pmap, number 1, without any page table yet."""
    node = Mmu("mmu", SIZE, per_table=PER_TABLE)
    assert ask(node, "pmap_create", 0) == [1, 1]
    ask(node, "pmap_object", 1, OBJ)
    return node


def test_an_enter_without_a_page_table_is_refused_and_changes_nothing(tables: Mmu) -> None:
    assert enter(tables, 5, 9) == [OBJ, []]
    assert walk(tables, 5, False) == VM_FAULT_INVALID and ask(tables, "pmap_is_referenced", 9) == 0
    assert ask(tables, "pmap_ptp_enter", 1, 5 * SIZE, 20) == 1
    assert enter(tables, 5, 9) == [0, []] and enter(tables, 7, 10) == [0, []]  # the same table
    assert enter(tables, 8, 11) == [OBJ, []]  # the next


def test_a_second_page_for_one_table_is_not_taken(tables: Mmu) -> None:
    """Two threads of a process were refused; the one that is slower has to free its page."""
    assert ask(tables, "pmap_ptp_enter", 1, 5 * SIZE, 20) == 1
    assert ask(tables, "pmap_ptp_enter", 1, 6 * SIZE, 21) == 0


def test_the_last_translation_gives_the_table_back(tables: Mmu) -> None:
    ask(tables, "pmap_ptp_enter", 1, 5 * SIZE, 20)
    enter(tables, 5, 9)
    enter(tables, 6, 10)
    enter(tables, 6, 11)  # in place of another: still two
    assert ask(tables, "pmap_remove", 1, 5 * SIZE, 6 * SIZE, "cpu0") == [None, []]
    assert ask(tables, "pmap_page_protect", 11, VM_PROT_NONE, "cpu0") == [[[OBJ, 20]], []]
    assert enter(tables, 6, 11) == [OBJ, []]


def test_protection_none_gives_tables_back_too(tables: Mmu) -> None:
    for page, frame in ((5, 20), (9, 21)):
        ask(tables, "pmap_ptp_enter", 1, page * SIZE, frame)
        enter(tables, page, page)
    assert ask(tables, "pmap_protect", 1, 0, 100 * SIZE, VM_PROT_NONE, "cpu0") == [[[OBJ, 20], [OBJ, 21]], []]


def test_a_table_is_given_back_only_when_every_cpu_has_flushed(tables: Mmu) -> None:
    """A CPU that walks a table which is somebody's data by now finds garbage."""
    ask(tables, "pmap_ptp_enter", 1, 5 * SIZE, 20)
    enter(tables, 5, 9)
    walk(tables, 5, True, "cpu1")
    assert ask(tables, "pmap_remove", 1, 5 * SIZE, 6 * SIZE, "cpu0") is WAIT
    number = tables.out[0].message[0]
    tables.out = []
    ask(tables, "pmap_ack", number, "cpu1")
    assert tables.out == [Grant("A", [[[OBJ, 20]], []])]


def test_tables_and_their_counts_come_back_from_the_image(tables: Mmu) -> None:
    ask(tables, "pmap_ptp_enter", 1, 5 * SIZE, 20)
    enter(tables, 5, 9)
    enter(tables, 6, 10)
    again = Mmu("mmu", SIZE, per_table=PER_TABLE)
    again.load_image(decode(PLAIN, encode(PLAIN, tables.image())))
    assert ask(again, "pmap_remove", 1, 5 * SIZE, 6 * SIZE, "cpu0") == [None, []]
    assert ask(again, "pmap_remove", 1, 6 * SIZE, 7 * SIZE, "cpu0") == [[[OBJ, 20]], []]
    assert ask(again, "pmap_destroy", 1) == OBJ


# -- R and M emulated --------------------------------------------------------------------------


@pytest.fixture
def soft() -> Mmu:
    node = Mmu("mmu", SIZE, emulated=True)
    ask(node, "pmap_create", 0)
    ask(node, "pmap_create", 0)
    return node


def bits(node: Mmu, frame: int) -> tuple[int, int]:
    return ask(node, "pmap_is_referenced", frame), ask(node, "pmap_is_modified", frame)


def test_the_first_use_traps_and_the_first_write_once_more(soft: Mmu) -> None:
    enter(soft, 2, 5)
    assert walk(soft, 2, False) == VM_FAULT_REFERENCE and bits(soft, 5) == (0, 0)
    ask(soft, "pmap_emulate_reference", 1, 2, 0)
    assert walk(soft, 2, False) == [5, VM_PROT_WRITE, 0, ANY_GEN] and bits(soft, 5) == (1, 0)
    assert walk(soft, 2, True) == VM_FAULT_REFERENCE
    ask(soft, "pmap_emulate_reference", 1, 2, 1)
    assert walk(soft, 2, True) == [5, VM_PROT_WRITE, 1, ANY_GEN] and bits(soft, 5) == (1, 1)


def test_what_the_enter_presets_does_not_trap(soft: Mmu) -> None:
    enter(soft, 2, 5, flags=VM_PROT_READ)
    enter(soft, 3, 6, flags=VM_PROT_WRITE)
    assert walk(soft, 2, False) == [5, VM_PROT_WRITE, 0, ANY_GEN] and walk(soft, 2, True) == VM_FAULT_REFERENCE
    assert walk(soft, 3, True) == [6, VM_PROT_WRITE, 1, ANY_GEN]


def test_a_page_marked_by_one_mapping_traps_in_none(soft: Mmu) -> None:
    """The bits are the page's; a removed mapping leaves them."""
    enter(soft, 2, 5, flags=VM_PROT_WRITE)
    enter(soft, 7, 5, pmap=2)
    assert walk(soft, 7, True, pmap=2) == [5, VM_PROT_WRITE, 1, ANY_GEN]
    ask(soft, "pmap_page_protect", 5, VM_PROT_NONE, "cpu0")
    enter(soft, 3, 5)
    assert bits(soft, 5) == (1, 1) and walk(soft, 3, True) == [5, VM_PROT_WRITE, 1, ANY_GEN]


def test_a_cleared_bit_traps_again_on_every_cpu(soft: Mmu) -> None:
    """A TLB that has M cached would write without a trap, and the write would not be known."""
    enter(soft, 2, 5, flags=VM_PROT_WRITE)
    walk(soft, 2, True, "cpu1")
    assert ask(soft, "pmap_clear_modify", 5, "cpu0") is WAIT
    assert [effect.ctx for effect in soft.out] == ["cpu1.ipi"]
    assert walk(soft, 2, True, "cpu1") == VM_FAULT_REFERENCE
    assert walk(soft, 2, False, "cpu1") == [5, VM_PROT_WRITE, 0, ANY_GEN]


def test_a_protection_fault_comes_before_the_bits(soft: Mmu) -> None:
    """Or a write to a read-only page would be marked as one, and then refused."""
    enter(soft, 2, 5, VM_PROT_READ)
    assert walk(soft, 2, True) == VM_FAULT_PROTECT


def test_a_mapping_that_is_gone_is_not_marked(soft: Mmu) -> None:
    """Between the trap and the kernel another CPU may have removed it; the access faults then."""
    enter(soft, 2, 5)
    ask(soft, "pmap_remove", 1, 0, 10 * SIZE, "cpu0")
    ask(soft, "pmap_emulate_reference", 1, 2, 1)
    assert bits(soft, 5) == (0, 0) and walk(soft, 2, True) == VM_FAULT_INVALID


def test_a_nodes_erratum_is_counted_and_leaves_other_cpus_alone() -> None:
    """A defect of the hardware is written where the hardware is, by the same question that the kernel asks."""
    for errata in ((), ("pmap_protect.no-shootdown",)):
        mmu = Mmu("mmu", 64)
        mmu.errata = frozenset(errata)
        mmu.admit("A", "pmap_create", 0, ())
        mmu.admit("A", "pmap_enter", 1, (0, 3, 3, 3, "cpu0"))
        assert isinstance(mmu.admit("B", "pmap_walk", 1, (0, 1, "cpu1")), list)
        answer = mmu.admit("A", "pmap_protect", 1, (0, 64, 1, "cpu0"))
        assert mmu.sites == {"pmap_protect.no-shootdown": 1}
        assert (answer is WAIT) is not bool(errata) and bool(mmu.out) is not bool(errata)
