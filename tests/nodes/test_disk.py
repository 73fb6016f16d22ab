"""The disk, and an MMU that has room for only so many unwired mappings: as state machines, and in a machine."""

from __future__ import annotations

import pytest

from cluster.search.walk import RandomWalk
from nodes.disk import Disk
from nodes.mmu import Mmu
from shared.errors import UserMistake
from shared.scenario.model import Scenario
from shared.uvm.param import PMAP_WIRED, VM_PROT_READ, VM_PROT_WRITE
from shared.uvm.structs import PhysBuf
from shared.wire.messages import WAIT, Grant, Interrupt, KernelFinding
from tests.kit import Results, answers, scene

RW = VM_PROT_READ | VM_PROT_WRITE
SIZE = 64


def threads(first: str, second: str = "", machine: str = "") -> Scenario:
    """Two threads of one process on a machine with a disk."""
    setup = "process: {as: A, cpu: 0}\nthread: {in: A, as: A2, cpu: 1}\nmmap: {in: A, as: buf, pages: 4}"
    return scene({"A": first, "A2": second}, setup, f"cpus: 2, frames: 32, swap_slots: 16, disk: 4{machine}")


def outcomes(first: str, second: str = "", machine: str = "", schedules: int = 60) -> list[Results]:
    """What the threads were answered, under many schedules."""
    return [results for results, _ in answers(threads(first, second, machine), (RandomWalk(0), schedules))]


# -- the disk ------------------------------------------------------------------------


def test_a_disk_reads_what_was_written_to_it() -> None:
    disk, bp = Disk("disk", 4, SIZE), PhysBuf.at(0)
    disk.admit("A", "disk_start", 1, ([5, 6], 1, bp, "cpu0"))
    assert disk.admit("disk", "disk_next", 0, ()) == [1, [5, 6], None, 0]
    pages = [(1,) * 8, (2,) * 8]
    disk.admit("disk", "disk_done", 1, (0, pages))
    assert disk.out == [Interrupt("cpu0.disk", bp)]
    disk.admit("A", "disk_start", 2, ([7], 0, bp, "cpu1"))
    assert disk.admit("disk", "disk_next", 0, ()) == [2, [7], [pages[1]], 0]


def test_an_idle_disk_is_woken_by_a_request() -> None:
    disk = Disk("disk", 4, SIZE)
    assert disk.admit("disk", "disk_next", 0, ()) is WAIT
    disk.admit("A", "disk_start", 0, ([3], 1, PhysBuf.at(0), "cpu0"))
    assert disk.out == [Grant("disk", [1, [3], None, 0])]


def test_blocks_survive_in_the_image() -> None:
    disk, other = Disk("disk", 2, SIZE), Disk("disk", 2, SIZE)
    disk.blocks[1] = (9,) * 8
    other.load_image(disk.image())
    assert other.blocks == disk.blocks


# -- physio --------------------------------------------------------------------------


def test_physio_moves_bytes_both_ways() -> None:
    """And only there and back: the other pages, and the rest of the disk, stay as they are."""
    steps = """
        write: {at: "buf[0]+8", value: 7}
        write: {at: "buf[1]", value: 8}
        physio: {do: write, at: "buf[0]", pages: 2, block: 1, into: out}
        physio: {do: read, at: "buf[2]", pages: 2, block: 1, into: back}
        read: {at: "buf[2]+8", into: r2}
        read: {at: "buf[3]", into: r3}
        read: {at: "buf[3]+8", into: rest}
        physio: {do: read, at: "buf[0]", pages: 1, block: 0}
        read: {at: "buf[0]+8", into: blank}
    """
    for outcome in outcomes(steps):
        assert outcome == {"out": 0, "back": 0, "r2": 7, "r3": 8, "rest": 0, "blank": 0}


def test_physio_needs_a_buffer_that_is_accessible() -> None:
    """EFAULT: reading from the device writes to memory; nothing stays wired."""
    steps = """
        mprotect: {at: "buf[1]", pages: 1, prot: r}
        physio: {do: write, at: "buf[0]", pages: 4, block: 0, into: out}
        physio: {do: read, at: "buf[0]", pages: 4, block: 0, into: back}
    """
    for outcome in outcomes(steps):
        assert outcome == {"out": 0, "back": "EFAULT"}


def test_physio_breaks_copy_on_write() -> None:
    """The device must not write to the page of a child."""
    steps = """
        write: {at: "buf[0]", value: 7}
        fork: {as: C, cpu: 1, program: [{barrier: {name: done}}, {read: {at: "buf[0]", into: child}}]}
        physio: {do: read, at: "buf[0]", pages: 1, block: 0}
        read: {at: "buf[0]", into: parent}
        barrier: {name: done}
    """
    for outcome in outcomes(steps, schedules=30):
        assert outcome == {"child": 7, "parent": 0}


def test_munmap_waits_for_device_io() -> None:
    """Either the buffer is gone before the I/O begins, or the I/O is done before it goes."""
    seen = outcomes(
        'physio: {do: read, at: "buf[0]", pages: 2, block: 0, into: io}',
        'munmap: {at: "buf[1]", pages: 3, into: gone}',
    )
    assert {outcome["io"] for outcome in seen} == {0, "EFAULT"}
    assert {outcome["gone"] for outcome in seen} == {0}


def test_fork_waits_for_device_io() -> None:
    """A child gets the buffer as it was before the transfer, or as it is afterwards; nothing in between."""
    seen = outcomes(
        'physio: {do: read, at: "buf[0]", pages: 2, block: 0}',
        'write: {at: "buf[3]", value: 1}\n'
        'fork: {as: C, cpu: 1, program: [{read: {at: "buf[0]", into: c0}}, {write: {at: "buf[1]", value: 5}}]}',
    )
    assert {outcome["c0"] for outcome in seen} == {0}


def test_mlock_and_munlock_may_come_between() -> None:
    lock = 'mlock: {at: "buf[0]", pages: 4, into: lock}\nmunlock: {at: "buf[0]", pages: 4, into: unlock}'
    physio = 'physio: {do: read, at: "buf[0]", pages: 2, block: 0, into: io}'
    seen = outcomes(physio, lock, ", mmu: {unwired_mappings: 1}")
    assert all(outcome == {"io": 0, "lock": 0, "unlock": 0} for outcome in seen)


@pytest.mark.parametrize(
    ("step", "wrong"),
    [
        ('physio: {do: read, at: "buf[0]", pages: 2, block: 3}', "4 blocks"),
        ('physio: {do: copy, at: "buf[0]", pages: 1, block: 0}', "read, write"),
        ('physio: {do: read, at: "buf[3]", pages: 2, block: 0}', "outside region buf"),
        ('mincore: {at: "buf[0]", pages: 65}', "64"),
        ('madvise: {at: "buf[0]", pages: 1, advice: maybe}', "unknown advice|no advice|advice"),
    ],
)
def test_a_step_that_cannot_be_is_refused(step: str, wrong: str) -> None:
    with pytest.raises(UserMistake, match=wrong):
        threads(step)


# -- the mmu -------------------------------------------------------------------------


def table(mmu: Mmu) -> list[int]:
    return sorted(mmu.pmaps[1])


def test_the_oldest_unwired_mapping_makes_room() -> None:
    """Wired ones stay; one that is entered again counts as new; R and M of one that went are kept for its page."""
    mmu = Mmu("mmu", SIZE, 2)
    mmu.admit("A", "pmap_create", 0, ())
    for vpn, flags in [(0, RW | PMAP_WIRED), (1, RW), (2, RW), (1, RW), (3, RW)]:
        mmu.admit("A", "pmap_enter", 1, (vpn * SIZE, 10 + vpn, RW, flags, "cpu0"))
    assert table(mmu) == [0, 1, 3]
    assert mmu.admit("A", "pmap_is_modified", 12, ()) == 1
    mmu.admit("A", "pmap_unwire", 1, (0,))
    mmu.admit("A", "pmap_enter", 1, (4 * SIZE, 14, RW, RW, "cpu0"))
    assert table(mmu) == [3, 4]


def test_what_makes_room_is_flushed_everywhere() -> None:
    mmu = Mmu("mmu", SIZE, 1)
    mmu.admit("A", "pmap_create", 0, ())
    mmu.admit("A", "pmap_enter", 1, (0, 10, RW, RW, "cpu0"))
    mmu.admit("B", "pmap_walk", 1, (0, 1, "cpu1"))
    assert mmu.admit("A", "pmap_enter", 1, (SIZE, 11, RW, RW, "cpu0")) is WAIT
    assert mmu.out == [Interrupt("cpu1.ipi", [1, [[1, 0]]])]


def replaced(mmu: Mmu) -> None:
    """Page 10 is mapped and cpu1 has it cached; page 11 takes its place, and cpu1 has not flushed yet."""
    mmu.admit("A", "pmap_create", 0, ())
    mmu.admit("A", "pmap_enter", 1, (0, 10, VM_PROT_READ, VM_PROT_READ, "cpu0"))
    mmu.admit("B", "pmap_walk", 1, (0, 0, "cpu1"))
    assert mmu.admit("A", "pmap_enter", 1, (0, 11, RW, RW, "cpu0")) is WAIT


def test_a_write_to_a_page_that_others_do_not_see_yet_is_a_finding() -> None:
    mmu = Mmu("mmu", SIZE)
    replaced(mmu)
    with pytest.raises(KernelFinding, match=r"TLB-2.*cpu2 writes to page:11.*cpu1 may still read page:10"):
        mmu.admit("C", "pmap_walk", 1, (0, 1, "cpu2"))


def test_a_read_is_none_and_neither_is_a_write_when_all_have_flushed() -> None:
    mmu = Mmu("mmu", SIZE)
    replaced(mmu)
    assert mmu.admit("C", "pmap_walk", 1, (0, 0, "cpu2"))[0] == 11
    mmu.admit("cpu1.ipi", "pmap_ack", 1, ("cpu1",))
    assert mmu.admit("C", "pmap_walk", 1, (0, 1, "cpu2"))[0] == 11


def test_a_wired_mapping_that_loses_all_access_is_still_there() -> None:
    """munlock finds its page by it; an access does not."""
    mmu = Mmu("mmu", SIZE)
    mmu.admit("A", "pmap_create", 0, ())
    mmu.admit("A", "pmap_enter", 1, (0, 10, RW, RW | PMAP_WIRED, "cpu0"))
    mmu.admit("A", "pmap_enter", 1, (SIZE, 11, RW, RW, "cpu0"))
    mmu.admit("A", "pmap_protect", 1, (0, 2 * SIZE, 0, "cpu0"))
    assert mmu.admit("A", "pmap_extract", 1, (0,)) == 10
    assert mmu.admit("A", "pmap_extract", 1, (SIZE,)) is None
    assert isinstance(mmu.admit("A", "pmap_walk", 1, (0, 0, "cpu0")), int)
