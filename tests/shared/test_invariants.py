"""Invariants: a sound machine breaks none of them, and each is broken alone by one thing that is wrong.

The machine is made by hand: two processes, a parent and its child after a fork,
and a zombie. See `World`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from shared.detectors.invariants import INVARIANTS, NODE_INVARIANTS, Snapshot, check
from shared.detectors.invariants.snapshot import MOD, PROT, WIRED
from shared.findings import FINDINGS
from shared.locks.table import LockState, Want
from shared.port.heap import HEADER, Heap
from shared.port.port import ANY_GEN
from shared.port.struct import KIND_SHIFT, KINDS, Array, Struct
from shared.uvm.param import (
    AMAP_SHARED,
    PG_BUSY,
    PG_CLEAN,
    PG_TABLED,
    PMAP_KERNEL,
    PQ_ACTIVE,
    PQ_ANON,
    PQ_AOBJ,
    PQ_FREE,
    PQ_INACTIVE,
    SIDL,
    SRUN,
    SWF_ENABLE,
    SWF_INUSE,
    SWSLOT_BAD,
    SZOMB,
    UVM_ET_COPYONWRITE,
    UVM_ET_NEEDSCOPY,
    UVM_ET_OBJ,
    UVM_ET_SUBMAP,
    UVM_OBJ_INTRSAFE_KERN,
    UVM_PGOPS_AOBJ,
    UVM_PGOPS_VNODE,
    UVM_VNODE_CANPERSIST,
    UVM_VNODE_DYING,
    UVM_VNODE_VALID,
    VM_MAP_BUSY,
    VM_MAP_INTRSAFE,
    VM_MAP_PAGEABLE,
    VM_PROT_ALL,
    VM_PROT_NONE,
    VM_PROT_READ,
    VM_PROT_WRITE,
)
from shared.uvm.structs import (
    Amap,
    AmapArray,
    Anon,
    Aobj,
    AobjSlots,
    Buf,
    FreeQueue,
    Loan,
    LoanArray,
    Page,
    PageArray,
    PageHash,
    PageQueue,
    Pmap,
    Proc,
    Shm,
    SlotArray,
    SwapDev,
    SwapPri,
    Uvm,
    Uvmexp,
    UvmObject,
    VmMap,
    VmMapEntry,
    VmMapIntrsafe,
    Vmspace,
    Vnode,
    page_active,
    page_free,
    page_inactive_obj,
    page_inactive_swp,
    uvm,
    uvmexp,
)
from tests.kit import scene

PAGE, WORDS = 64, 8
RW = VM_PROT_READ | VM_PROT_WRITE


class World:
    """A small machine, sound as it is made, with handles of what is in it.

        map0 (parent)                                     map1 (child)
        entry0  4 pages, amap0:  slot 0  anon0, page0     entry0  = parent's entry1, NEEDSCOPY
                                 slot 1  anon1, page1     entry1  1 page, amap3: anon4
                                 slot 3  anon2, swap
        entry1  1 page, amap1 (shared with the child, NEEDSCOPY): anon3, page2
        entry2  1 page, amap2: anon4 (as the child's entry1), page3
        entry3  1 page, amap4, wired: anon5, page4
        entry4  1 page of an object, private: page5

    Page 1 is inactive and clean (slot 3), page 5 inactive, 4 wired, the others
    active. Anon 2 is in slot 4; slot 6 is bad. cpu0 runs the parent. Page 12 is the parent's page table.
    kernel_map has kmem_map for a submap, and in that one page of kmem_object, page 13.
    """

    def __init__(self) -> None:
        self.heap = Heap()
        self.pmaps: dict[int, dict[int, list[int]]] = {1: {}, 2: {}}
        self.attrs: dict[int, list[int]] = {}
        self.frames = [(frame, *[0] * (WORDS - 1)) for frame in range(14)]
        self.slots = {3: self.frames[1], 4: (77,) * WORDS}
        self.tlbs: dict[str, tuple[int, dict[int, list[int]]]] = {}
        self.locks: list[LockState] = []
        for kind in (Uvm, Uvmexp, PageQueue, PageQueue, PageQueue, FreeQueue):
            self.add(kind)
        self.set(uvmexp, freemin=6, reserve_kernel=5, paging=0, swpages=32, swpginuse=4, swpgonly=2)

        self.anons = [self.add(Anon, an_ref=1, an_swslot=0) for _ in range(10)]
        self.pages = [self.add(Page, flags=0, wire_count=0, loan_count=0) for _ in self.frames]
        for number, owner in enumerate((0, 1, 3, 4, 5)):
            self.set(self.anons[owner], an_page=self.pages[number])
            self.set(self.pages[number], uanon=self.anons[owner], pqflags=PQ_ANON | PQ_ACTIVE)
        self.set(self.anons[1], an_swslot=3)
        self.set(self.anons[2], an_swslot=4)
        self.set(self.anons[4], an_ref=2)
        self.set(self.pages[1], flags=PG_CLEAN, pqflags=PQ_ANON | PQ_INACTIVE)
        self.set(self.pages[4], wire_count=1, pqflags=PQ_ANON)
        self.file = self.add(UvmObject, pgops=UVM_PGOPS_VNODE, uo_npages=1, uo_refs=1)
        self.vnode = self.add(Vnode, u_obj=self.file, v_block=1, v_nblocks=2, u_nio=0, u_size=2 * PAGE)
        self.set(self.vnode, u_flags=UVM_VNODE_VALID | UVM_VNODE_CANPERSIST)
        self.set(self.file, pager=self.vnode, memq_first=self.pages[5], memq_last=self.pages[5])
        self.set(self.pages[5], uobject=self.file, offset=PAGE, flags=PG_TABLED | PG_CLEAN, pqflags=PQ_INACTIVE)
        self.hash = self.add_array(PageHash, [None, self.pages[5]])
        self.set(uvm, page_hash=self.hash, page_nhash=2)
        self.blocks = [(0,) * WORDS, (8,) * WORDS, self.frames[5]]
        self.memory = self.add(UvmObject, pgops=UVM_PGOPS_AOBJ, uo_npages=0, uo_refs=1)
        self.swslots = self.add_array(AobjSlots, [0, 5], u_obj=self.memory)
        self.aobj = self.add(Aobj, u_obj=self.memory, u_pages=2, u_flags=0, u_swslots=self.swslots)
        self.set(self.memory, pager=self.aobj)
        self.set(uvm, uao_list_first=self.aobj, uao_list_last=self.aobj)
        self.segment = self.add(Shm, shm_object=self.memory)
        self.free_anons(6, 7, 8, 9)
        self.set(uvmexp, nfreeanon=4, free=6, active=3, inactive=2, wired=1)
        for page in self.pages[6:12]:
            self.set(page, pqflags=PQ_FREE)
        self.queue(page_free, *self.pages[6:12])
        self.pm_obj = self.add(Pmap, uo_refs=1, uo_npages=1)
        self.set(self.pages[12], uobject=self.pm_obj, offset=0x100, wire_count=1, flags=PG_TABLED, pqflags=0)
        self.ptps, self.room, self.miscounted, self.pm_objs = {(1, 0): 12}, 16, 0, {1: self.pm_obj}
        self.queue(page_active, self.pages[0], self.pages[2], self.pages[3])
        self.queue(page_inactive_swp, self.pages[1])
        self.queue(page_inactive_obj, self.pages[5])

        self.extents = self.add_array(SlotArray, [0b111100])
        self.pri = self.add(SwapPri, spi_priority=0)
        self.dev = self.add(SwapDev, swd_npages=32, swd_drumoffset=1, swd_slots=self.extents)
        self.set(self.dev, swd_flags=SWF_INUSE | SWF_ENABLE, swd_priority=0, swd_npginuse=4, swd_npgbad=1)
        self.set(self.pri, spi_first=self.dev, spi_last=self.dev)
        self.set(uvm, swap_priority=self.pri, nswapdev=1)
        self.bad_slots = {6}
        a = self.anons
        self.amaps = [self.amap(a[0], a[1], None, a[2]), self.amap(a[3], ref=2)]
        self.amaps += [self.amap(a[4]), self.amap(a[4]), self.amap(a[5])]
        self.maps = [self.map(1), self.map(2)]
        cow = UVM_ET_COPYONWRITE
        self.parent = [
            self.entry(0, 0x100, 4, aref_amap=self.amaps[0]),
            self.entry(0, 0x200, 1, aref_amap=self.amaps[1], etype=cow | UVM_ET_NEEDSCOPY),
            self.entry(0, 0x240, 1, aref_amap=self.amaps[2], etype=cow),
            self.entry(0, 0x280, 1, aref_amap=self.amaps[4], etype=cow, wired_count=1),
            self.entry(0, 0x2C0, 1, object=self.file, offset=PAGE, etype=cow | UVM_ET_OBJ),
        ]
        self.child = [
            self.entry(1, 0x200, 1, aref_amap=self.amaps[1], etype=cow | UVM_ET_NEEDSCOPY),
            self.entry(1, 0x240, 1, aref_amap=self.amaps[3], etype=cow),
        ]
        self.link(self.maps[0], self.parent)
        self.link(self.maps[1], self.child)
        self.pmaps[1] = {
            4: [0, RW, 0, 1, 1], 5: [1, RW, 0, 1, 0], 8: [2, VM_PROT_READ, 0, 0, 0], 9: [3, VM_PROT_READ, 0, 1, 0],
            10: [4, RW, 1, 1, 1], 11: [5, VM_PROT_READ, 0, 1, 0],
        }  # fmt: skip
        self.pmaps[2] = {8: [2, VM_PROT_READ, 0, 1, 0]}
        self.tlbs = {"cpu0": (1, {4: [0, VM_PROT_WRITE, 1], 5: [1, VM_PROT_WRITE, 0], 9: [3, 0, 0]}), "cpu1": (0, {})}

        self.kernel()
        self.spaces = [self.add(Vmspace, vm_map=map) for map in self.maps]
        self.procs = [self.add(Proc, p_stat=SRUN, p_vmspace=vmspace) for vmspace in self.spaces]
        self.procs += [self.add(Proc, p_stat=SZOMB, p_vmspace=Vmspace.at(77)), self.add(Proc, p_stat=SIDL)]

    def kernel(self) -> None:
        """Kernel memory."""
        self.kernel_map = self.add(VmMap, pmap=PMAP_KERNEL, min_offset=0x1000, max_offset=0x1100, flags=0)
        self.kmem_map = self.add(
            VmMapIntrsafe, pmap=PMAP_KERNEL, min_offset=0x1000, max_offset=0x1080, flags=VM_MAP_INTRSAFE
        )
        self.kmem_object = self.add(UvmObject, uo_refs=UVM_OBJ_INTRSAFE_KERN, uo_npages=1)
        for map in (self.kernel_map, self.kmem_map):
            self.set(map, header=self.add(VmMapEntry, map=map))
        whole = {"protection": VM_PROT_ALL, "max_protection": VM_PROT_ALL, "wired_count": 0}
        self.submap = self.add(
            VmMapEntry, map=self.kernel_map, start=0x1000, end=0x1080, etype=UVM_ET_SUBMAP, object=self.kmem_map,
            **whole,
        )  # fmt: skip
        self.malloced = self.add(
            VmMapEntry, map=self.kmem_map, start=0x1000, end=0x1040, etype=UVM_ET_OBJ, object=self.kmem_object,
            offset=0, **whole,
        )  # fmt: skip
        self.link(self.kernel_map, [self.submap])
        self.link(self.kmem_map, [self.malloced])
        self.kentries = [self.add(VmMapEntry), self.add(VmMapEntry)]
        self.set(self.kentries[0], free_next=self.kentries[1])
        self.set(uvm, kernel_map=self.kernel_map, kmem_map=self.kmem_map, vmi_list=self.kmem_map)
        self.set(uvm, kentry_free=self.kentries[0])
        self.set(self.pages[13], uobject=self.kmem_object, offset=0, flags=PG_TABLED, pqflags=0)
        self.pmaps[PMAP_KERNEL] = {0x1000 // PAGE: [13, VM_PROT_ALL, 1, 1, 1]}

    def add(self, kind: type[Struct], **fields: Any) -> Any:
        """A new struct of generation 1 (the globals: 0)."""
        index = sum(1 for key in self.heap if type_of(key) is kind)
        obj = kind.at(index, 0 if kind in (Uvm, Uvmexp, PageQueue, FreeQueue) else 1)
        self.heap.add(obj.id, obj.gen, list(kind.defaults))
        self.set(obj, **fields)
        return obj

    def add_array(self, kind: type[Array], elements: list[Any], **fields: Any) -> Any:
        array = self.add(kind, **fields)
        self.heap[array.id].fields += elements
        return array

    def set(self, obj: Struct, **fields: Any) -> None:
        for name, value in fields.items():
            self.heap[obj.id][type(obj).fields[name].slot] = value

    def get(self, obj: Struct, name: str) -> Any:
        return self.heap[obj.id][type(obj).fields[name].slot]

    def put(self, array: Array, at: int, value: Any) -> None:
        """Write one element of an array."""
        element = type(array).element
        assert element is not None
        self.heap[array.id][element.slot + at] = value

    def queue(self, head: Struct, *pages: Page) -> None:
        """Make these the pages of a queue."""
        around = [None, *pages, None]
        for before, page, after in zip(around, pages, around[2:]):
            self.set(page, pageq_prev=before, pageq_next=after)
        self.set(head, tqh_first=around[1], tqh_last=around[-2])

    def free_anons(self, *numbers: int) -> None:
        """Make these anons the free list."""
        for number, after in zip(numbers, (*numbers[1:], None)):
            self.set(self.anons[number], an_ref=0, an_swslot=0, an_nxt=None if after is None else self.anons[after])
        self.set(uvm, afree=self.anons[numbers[0]])

    def amap(self, *anons: Anon | None, ref: int = 1) -> Any:
        amap, size = self.add(Amap), len(anons)
        used = [slot for slot, anon in enumerate(anons) if anon is not None]
        back = [used.index(slot) if slot in used else None for slot in range(size)]
        self.set(
            amap, am_ref=ref, am_flags=AMAP_SHARED, am_maxslot=size, am_nslot=size, am_nused=len(used),
            am_slots=self.add_array(AmapArray, used + [None] * (size - len(used)), amap=amap),
            am_bckptr=self.add_array(AmapArray, back, amap=amap),
            am_anon=self.add_array(AmapArray, list(anons), amap=amap),
        )  # fmt: skip
        return amap

    def map(self, pmap: int) -> Any:
        map = self.add(VmMap, pmap=pmap, min_offset=0x40, max_offset=0x400, flags=VM_MAP_PAGEABLE)
        self.set(map, header=self.add(VmMapEntry, map=map))
        return map

    def entry(self, map: int, start: int, pages: int, **fields: Any) -> Any:
        most = {"protection": RW, "max_protection": VM_PROT_ALL, "aref_pageoff": 0, "wired_count": 0, "etype": 0}
        return self.add(VmMapEntry, map=self.maps[map], start=start, end=start + pages * PAGE, **{**most, **fields})

    def link(self, map: VmMap, entries: list[VmMapEntry]) -> None:
        """Make these the entries of a map."""
        header = self.get(map, "header")
        for before, after in pairwise([header, *entries, header]):
            self.set(before, next=after)
            self.set(after, prev=before)
        size = sum(self.get(entry, "end") - self.get(entry, "start") for entry in entries)
        self.set(map, nentries=len(entries), size=size, hint=entries[-1] if entries else header)

    def lend(self, *lent: Page | Anon) -> Any:
        """These are on loan to the kernel; nothing else says so yet."""
        return self.add(Loan, l_npages=len(lent), l_result=self.add_array(LoanArray, list(lent)))

    def snapshot(self) -> Snapshot:
        tables = [
            [pmap, number, self.room, frame, len(self.pmaps.get(pmap, ())) + self.miscounted]
            for (pmap, number), frame in self.ptps.items()
        ]
        rest = (PAGE, frozenset(self.bad_slots), sorted(tables), self.pm_objs, self.blocks)
        return Snapshot(self.heap, self.pmaps, self.attrs, self.slots, self.frames, self.tlbs, self.locks, *rest)

    def broken(self) -> list[str]:
        """Ids of the invariants that do not hold."""
        return [finding.text.split(":")[0] for finding in check(self.snapshot())]


def type_of(key: int) -> type[Struct]:
    return KINDS[key >> KIND_SHIFT]


@pytest.fixture
def world() -> World:
    return World()


# -- each invariant, broken -------------------------------------------------------------

Break = Callable[[World], object]
BREAKS: list[tuple[str, Break]] = []


def breaks(id: str) -> Callable[[Break], Break]:
    """The function breaks exactly this invariant, and returns what the finding must be about."""

    def register(function: Break) -> Break:
        BREAKS.append((id, function))
        return function

    return register


@breaks("AMAP-1")
def back_pointer_to_another_place(w: World) -> object:
    w.put(w.get(w.amaps[0], "am_bckptr"), 3, 0)
    return w.amaps[0]


@breaks("AMAP-1")
def am_slots_is_not_packed(w: World) -> object:
    w.put(w.get(w.amaps[0], "am_slots"), 3, 3)
    w.put(w.get(w.amaps[0], "am_bckptr"), 3, 3)
    return w.amaps[0]


@breaks("AMAP-2")
def slot_not_counted(w: World) -> object:
    w.set(w.amaps[0], am_nused=2)
    return w.amaps[0]


@breaks("AMAP-3")
def more_slots_than_there_is_room(w: World) -> object:
    w.set(w.amaps[0], am_nslot=5)
    return w.amaps[0]


@breaks("AMAP-3")
def array_of_another_amap(w: World) -> object:
    w.set(w.get(w.amaps[2], "am_anon"), amap=w.amaps[3])
    return w.amaps[2]


@breaks("AMAP-4")
def fork_without_amap_ref(w: World) -> object:
    w.set(w.amaps[1], am_ref=1)
    return w.amaps[1]


@breaks("AMAP-4")
def exit_without_amap_unref(w: World) -> object:
    w.set(w.amaps[2], am_ref=2)
    return w.amaps[2]


@breaks("AMAP-5")
def slot_with_an_anon_of_an_earlier_life(w: World) -> object:
    w.put(w.get(w.amaps[0], "am_anon"), 2, Anon.at(0, 0))
    w.put(w.get(w.amaps[0], "am_slots"), 3, 2)
    w.put(w.get(w.amaps[0], "am_bckptr"), 2, 3)
    w.set(w.amaps[0], am_nused=4)
    return w.amaps[0]


@breaks("AMAP-3")
def ppref_of_another_length(w: World) -> object:
    return ppref(w, -2, 4, 0, 0, 0)


def unmap_the_last_page(w: World) -> None:
    """Of the first region, which has no anon 2 any more."""
    w.set(w.parent[0], end=0x1C0)
    w.link(w.maps[0], w.parent)
    w.put(w.get(w.amaps[0], "am_anon"), 3, None)
    w.set(w.amaps[0], am_nused=2)
    w.set(w.anons[2], an_swslot=0)
    w.free_anons(2, 6, 7, 8, 9)
    w.put(w.extents, 0, 0b110100)
    w.set(w.dev, swd_npginuse=3)
    w.set(uvmexp, nfreeanon=5, swpginuse=3, swpgonly=1)


def ppref(w: World, *elements: int) -> object:
    w.set(w.amaps[0], am_ppref=w.add_array(AmapArray, list(elements), amap=w.amaps[0]))
    return w.amaps[0]


@breaks("AMAP-6")
def partly_unmapped_without_a_ppref(w: World) -> object:
    unmap_the_last_page(w)
    return w.amaps[0]


@breaks("AMAP-6")
def ppref_not_adjusted(w: World) -> object:
    unmap_the_last_page(w)
    return ppref(w, -2, 4, 0, 0)


@breaks("AMAP-6")
def ppref_makes_no_sense(w: World) -> object:
    return ppref(w, -2, 9, 0, 0)


@breaks("AMAP-7")
def unmapped_and_not_wiped(w: World) -> object:
    w.set(w.parent[0], end=0x1C0)
    w.link(w.maps[0], w.parent)
    return ppref(w, -2, 3, 0, 1)


@breaks("ANON-1")
def reference_too_many(w: World) -> object:
    w.set(w.anons[2], an_ref=2)
    return w.anons[2]


@breaks("ANON-1")
def lost_increment(w: World) -> object:
    w.set(w.anons[4], an_ref=1)
    return w.anons[4]


@breaks("ANON-2")
def freed_with_a_reference(w: World) -> object:
    w.set(w.anons[7], an_ref=1)
    return w.anons[7]


@breaks("ANON-2")
def freed_with_a_slot(w: World) -> object:
    w.set(w.anons[7], an_swslot=3)
    return w.anons[7]


@breaks("ANON-2")
def freed_twice(w: World) -> object:
    w.set(w.anons[9], an_nxt=w.anons[7])
    return w.anons[7]


@breaks("ANON-3")
def anon_that_nobody_has(w: World) -> object:
    w.free_anons(6, 7, 8)
    w.set(uvmexp, nfreeanon=3)
    return w.anons[9]


@breaks("ANON-3")
def freed_while_in_an_amap(w: World) -> object:
    w.put(w.get(w.amaps[0], "am_anon"), 2, w.anons[7])
    w.put(w.get(w.amaps[0], "am_slots"), 3, 2)
    w.put(w.get(w.amaps[0], "am_bckptr"), 2, 3)
    w.set(w.amaps[0], am_nused=4)
    return w.anons[7]


@breaks("ANON-4")
def freed_locked(w: World) -> object:
    holders, waiters = [Want("A", "w", "amap_cow_now")], [Want("B", "w", "uvm_fault")]
    w.locks = [LockState(w.anons[6].lock_key("an_lock"), holders, waiters)]
    return w.anons[6]


@breaks("PAGE-1")
def back_link_skips_a_page(w: World) -> object:
    w.set(w.pages[3], pageq_prev=w.pages[0])
    return w.pages[3]


@breaks("PAGE-1")
def tail_is_another_page(w: World) -> object:
    w.set(page_active, tqh_last=w.pages[0])
    return page_active


@breaks("PAGE-2")
def on_no_queue(w: World) -> object:
    w.queue(page_active, w.pages[0], w.pages[2])
    w.set(w.pages[3], pqflags=PQ_ANON)
    w.set(uvmexp, active=2)
    return w.pages[3]


@breaks("PAGE-2")
def on_the_queue_of_objects(w: World) -> object:
    w.queue(page_inactive_swp)
    w.queue(page_inactive_obj, w.pages[5], w.pages[1])
    return w.pages[1]


@breaks("PAGE-2")
def wired_and_queued(w: World) -> object:
    w.queue(page_active, w.pages[0], w.pages[2], w.pages[3], w.pages[4])
    w.set(w.pages[4], pqflags=PQ_ANON | PQ_ACTIVE)
    w.set(uvmexp, active=4)
    return w.pages[4]


@breaks("PAGE-2")
def flagged_active_on_an_inactive_queue(w: World) -> object:
    w.set(w.pages[1], pqflags=PQ_ANON | PQ_ACTIVE)
    return w.pages[1]


@breaks("PAGE-2")
def free_but_not_on_the_free_list(w: World) -> object:
    w.queue(page_free, *w.pages[7:12])
    w.set(uvmexp, free=5)
    return w.pages[6]


@breaks("PAGE-3")
def left_busy(w: World) -> object:
    w.set(w.pages[0], flags=PG_BUSY, owner_tag="scan_inactive")
    return w.pages[0]


@breaks("PAGE-4")
def page_of_another_anon(w: World) -> object:
    w.set(w.pages[0], uanon=w.anons[2])
    return w.anons[0]


@breaks("PAGE-4")
def anon_keeps_a_freed_page(w: World) -> object:
    w.set(w.anons[2], an_page=w.pages[8])
    w.set(uvmexp, swpgonly=1)
    return w.anons[2]


@breaks("PAGE-4")
def page_without_pq_anon(w: World) -> object:
    w.set(w.pages[0], pqflags=PQ_ACTIVE)
    return w.pages[0]


@breaks("PAGE-5")
def page_that_nobody_has(w: World) -> object:
    w.queue(page_free, *w.pages[7:12])
    w.queue(page_active, w.pages[0], w.pages[2], w.pages[3], w.pages[6])
    w.set(w.pages[6], pqflags=PQ_ACTIVE)
    w.set(uvmexp, free=5, active=4)
    return w.pages[6]


@breaks("PAGE-6")
def freed_wired(w: World) -> object:
    w.set(w.pages[6], wire_count=1)
    return w.pages[6]


@breaks("WIRE-3")
def device_io_not_undone(w: World) -> object:
    w.set(w.pages[4], io_count=1)
    return w.pages[4]


@breaks("WIRE-1")
def wired_once_too_often(w: World) -> object:
    w.set(w.pages[4], wire_count=2)
    return w.pages[4]


@breaks("WIRE-1")
def wiring_not_undone(w: World) -> object:
    w.set(w.parent[3], wired_count=0)
    return w.pages[4]


@breaks("WIRE-2")
def translation_unwired_by_vsunlock(w: World) -> object:
    w.pmaps[1][10][WIRED] = 0
    return w.parent[3]


@breaks("WIRE-2")
def wired_and_not_mapped(w: World) -> object:
    del w.pmaps[1][10]
    return w.parent[3]


@breaks("WIRE-4")
def wired_and_write_protected(w: World) -> object:
    w.pmaps[1][10][PROT] = VM_PROT_READ
    return w.parent[3]


@breaks("COUNT-1")
def free_miscounted(w: World) -> object:
    w.set(uvmexp, free=5)
    return uvmexp


@breaks("COUNT-2")
def active_miscounted(w: World) -> object:
    w.set(uvmexp, active=4)
    return uvmexp


@breaks("COUNT-3")
def inactive_miscounted(w: World) -> object:
    w.set(uvmexp, inactive=1)
    return uvmexp


@breaks("COUNT-4")
def wired_miscounted(w: World) -> object:
    w.set(uvmexp, wired=0)
    return uvmexp


@breaks("COUNT-5")
def paging_below_zero(w: World) -> object:
    w.set(uvmexp, paging=-1)
    return uvmexp


@breaks("COUNT-5")
def pageout_not_reaped(w: World) -> object:
    bp = w.add(Buf, pages=w.add_array(PageArray, [w.pages[0]]))
    w.set(uvm, aio_done_first=bp, aio_done_last=bp)
    return bp


@breaks("COUNT-6")
def nfreeanon_miscounted(w: World) -> object:
    w.set(uvmexp, nfreeanon=5)
    return uvmexp


@breaks("COUNT-7")
def swpginuse_miscounted(w: World) -> object:
    w.set(uvmexp, swpginuse=5)
    return uvmexp


@breaks("COUNT-8")
def swpgonly_miscounted(w: World) -> object:
    w.set(uvmexp, swpgonly=3)
    return uvmexp


@breaks("COUNT-9")
def lost_data_and_no_bad_slot(w: World) -> object:
    w.set(w.pages[1], flags=0)
    w.set(w.anons[1], an_swslot=0)
    w.set(w.anons[2], an_swslot=SWSLOT_BAD)
    w.put(w.extents, 0, 0)
    w.set(w.dev, swd_npginuse=0, swd_npgbad=0)
    w.bad_slots.clear()
    w.put(w.swslots, 1, 0)
    w.set(uvmexp, swpginuse=0, swpgonly=1)
    return uvmexp


@breaks("COUNT-10")
def freemin_within_the_reserve(w: World) -> object:
    w.set(uvmexp, freemin=5)
    return uvmexp


@breaks("COUNT-11")
def waiter_that_was_not_served(w: World) -> object:
    w.set(uvm, pagedaemon_waiters=1)
    return uvm


@breaks("SWAP-1")
def slot_leaked(w: World) -> object:
    w.set(w.dev, swd_npgbad=0)
    return w.dev


@breaks("SWAP-1")
def slot_not_allocated(w: World) -> object:
    w.put(w.extents, 0, 0b110100)
    w.set(w.dev, swd_npginuse=3)
    w.set(uvmexp, swpginuse=3)
    return w.anons[2]


@breaks("SWAP-6")
def good_slot_marked_bad(w: World) -> object:
    w.bad_slots.clear()
    return w.dev


@breaks("SWAP-6")
def bad_slot_in_use_again(w: World) -> object:
    w.bad_slots.add(4)
    return w.dev


@breaks("SWAP-2")
def slot_of_two_anons(w: World) -> object:
    w.set(w.anons[0], an_swslot=4)
    return w.anons[0]


@breaks("SWAP-3")
def swd_npginuse_miscounted(w: World) -> object:
    w.set(w.dev, swd_npginuse=2)
    return w.dev


@breaks("SWAP-4")
def clean_without_a_slot(w: World) -> object:
    w.set(w.pages[0], flags=PG_CLEAN)
    return w.pages[0]


@breaks("SWAP-5")
def clean_and_not_what_swap_has(w: World) -> object:
    w.frames[1] = (9,) * WORDS
    return w.pages[1]


@breaks("COUNT-12")
def swpages_of_a_device_that_went(w: World) -> object:
    w.set(uvmexp, swpages=40)
    return uvmexp


@breaks("SWAP-7")
def device_on_the_list_of_another_priority(w: World) -> object:
    w.set(w.dev, swd_priority=1)
    return w.dev


@breaks("SWAP-7")
def device_on_no_list(w: World) -> object:
    w.set(uvm, swap_priority=None, nswapdev=0)
    return w.dev


@breaks("SWAP-7")
def list_of_no_devices(w: World) -> object:
    empty = w.add(SwapPri, spi_priority=3)
    w.set(w.pri, spi_next=empty)
    return empty


@breaks("SWAP-7")
def nswapdev_miscounted(w: World) -> object:
    w.set(uvm, nswapdev=2)
    return uvm


@breaks("SWAP-8")
def left_disabled(w: World) -> object:
    w.set(w.dev, swd_flags=SWF_INUSE)
    return w.dev


@breaks("SWAP-8")
def swapped_to_a_device_that_went(w: World) -> object:
    gone = w.add(SwapDev, swd_flags=0, swd_npages=8, swd_drumoffset=33, swd_slots=w.add_array(SlotArray, [0b10]))
    w.set(gone, swd_npginuse=1, swd_npgbad=0)
    w.put(w.extents, 0, 0b110100)
    w.set(w.dev, swd_npginuse=3)
    w.set(w.anons[2], an_swslot=34)
    return gone


@breaks("MAP-1")
def entry_not_linked_back(w: World) -> object:
    w.set(w.parent[2], prev=w.parent[0])
    return w.parent[2]


@breaks("MAP-1")
def hint_to_a_freed_entry(w: World) -> object:
    w.set(w.maps[0], hint=VmMapEntry.at(70))
    return w.maps[0]


@breaks("MAP-2")
def entries_overlap(w: World) -> object:
    w.set(w.child[1], start=0x200, end=0x240)
    return w.child[1]


@breaks("MAP-3")
def entries_miscounted(w: World) -> object:
    w.set(w.maps[0], nentries=4)
    return w.maps[0]


@breaks("MAP-3")
def size_miscounted(w: World) -> object:
    w.set(w.maps[1], size=PAGE)
    return w.maps[1]


@breaks("MAP-4")
def needs_a_copy_and_is_shared(w: World) -> object:
    w.set(w.child[0], etype=UVM_ET_NEEDSCOPY)
    return w.child[0]


@breaks("MAP-5")
def amap_too_short(w: World) -> object:
    w.set(w.child[1], aref_pageoff=1)
    return w.child[1]


@breaks("MAP-6")
def left_map_busy(w: World) -> object:
    w.set(w.maps[0], flags=VM_MAP_PAGEABLE | VM_MAP_BUSY)
    return w.maps[0]


@breaks("MAP-7")
def more_than_max_protection(w: World) -> object:
    w.set(w.parent[0], max_protection=VM_PROT_READ)
    return w.parent[0]


@breaks("PTE-1")
def mapped_after_munmap(w: World) -> object:
    w.pmaps[1][13] = [0, VM_PROT_READ, 0, 0, 0]
    return w.pages[0]


@breaks("PTE-1")
def mapped_to_a_free_page(w: World) -> object:
    w.pmaps[1][7] = [6, VM_PROT_READ, 0, 0, 0]
    return w.pages[6]


@breaks("PTE-1")
def mapped_to_the_page_before_the_copy(w: World) -> object:
    w.pmaps[2][9] = [2, VM_PROT_READ, 0, 0, 0]
    return w.pages[2]


@breaks("PTE-2")
def writable_after_mprotect(w: World) -> object:
    w.set(w.parent[0], protection=VM_PROT_READ)
    return w.pages[0]


@breaks("PTE-3")
def writable_after_fork(w: World) -> object:
    w.pmaps[1][8][PROT] = RW
    return w.pages[2]


@breaks("PTE-3")
def writable_with_two_references(w: World) -> object:
    w.pmaps[1][9][PROT] = RW
    return w.pages[3]


@breaks("PTE-3")
def object_page_writable_in_a_private_mapping(w: World) -> object:
    w.pmaps[1][11][PROT] = RW
    return w.pages[5]


@breaks("PTE-3")
def writable_while_on_loan(w: World) -> object:
    w.lend(w.pages[4])
    w.set(w.pages[4], loan_count=1, wire_count=2)
    return w.pages[4]


@breaks("LOAN-1")
def loan_not_counted(w: World) -> object:
    w.lend(w.pages[4])
    w.set(w.pages[4], wire_count=2)
    return w.pages[4]


@breaks("LOAN-1")
def given_back_and_still_counted(w: World) -> object:
    w.pmaps[1][10][PROT] = VM_PROT_READ
    w.set(w.parent[3], protection=VM_PROT_READ)
    w.set(w.pages[4], loan_count=1)
    return w.pages[4]


@breaks("LOAN-2")
def page_freed_while_on_loan(w: World) -> object:
    w.lend(w.pages[7])
    return w.pages[7]


@breaks("LOAN-2")
def anon_of_another_life_on_loan(w: World) -> object:
    w.lend(Anon.at(1, 0))
    return w.anons[1]


@breaks("WIRE-1")
def loan_without_a_wiring(w: World) -> object:
    w.lend(w.pages[3])
    w.set(w.pages[3], loan_count=1)
    return w.pages[3]


@breaks("ANON-1")
def loan_without_a_reference(w: World) -> object:
    w.lend(w.anons[2])
    return w.anons[2]


@breaks("LEAK-1")
def array_of_no_loan(w: World) -> object:
    return w.add_array(LoanArray, [w.pages[0]])


@breaks("PTE-4")
def translation_not_counted_in_its_table(w: World) -> object:
    """The table would be freed with a translation in it."""
    w.miscounted = -1
    return w.pages[12]


@breaks("PTE-4")
def empty_table_kept(w: World) -> object:
    """The last translation goes, and the page of the table is not given back."""
    w.pmaps[1].clear()
    w.tlbs["cpu0"] = (1, {})
    w.set(w.parent[3], wired_count=0)
    w.set(w.pages[4], wire_count=0, pqflags=PQ_ANON | PQ_ACTIVE)
    w.queue(page_active, w.pages[0], w.pages[2], w.pages[3], w.pages[4])
    w.set(uvmexp, active=4, wired=0)
    return w.pages[12]


@breaks("PTE-5")
def page_of_a_pmap_that_is_no_table(w: World) -> object:
    """The other thread's page for the same table is not freed."""
    w.ptps.clear()
    return w.pages[12]


@breaks("PTE-5")
def table_of_another_pmap(w: World) -> object:
    w.pm_objs[2] = w.add(Pmap, uo_refs=1, uo_npages=1)
    w.set(w.pages[12], uobject=w.pm_objs[2])
    return w.pages[12]


@breaks("LEAK-2")
def object_of_a_pmap_that_is_gone(w: World) -> object:
    """Two contexts free the last two tables of a dead pmap, and each leaves its object to the other."""
    return w.add(Pmap, uo_refs=0, uo_npages=0)


@breaks("TLB-1")
def cached_after_munmap(w: World) -> object:
    w.tlbs["cpu0"][1][7] = [6, 0, 0]
    return w.pages[6]


@breaks("TLB-1")
def cached_from_before_the_copy(w: World) -> object:
    w.tlbs["cpu0"][1][9] = [2, 0, 0]
    return w.pages[2]


@breaks("TLB-1")
def cached_writable(w: World) -> object:
    w.tlbs["cpu0"][1][9] = [3, VM_PROT_WRITE, 0]
    return w.pages[3]


@breaks("TLB-1")
def cached_as_modified_after_clear_modify(w: World) -> object:
    w.tlbs["cpu0"][1][5] = [1, VM_PROT_WRITE, 1]
    return w.pages[1]


@breaks("LOCK-1")
def map_left_locked(w: World) -> object:
    w.locks = [LockState(w.maps[1].lock_key("lock"), [Want("B", "r", "uvm_fault")], [])]
    return "vmmap:1"


@breaks("LOCK-1")
def anon_in_use_left_locked(w: World) -> object:
    w.locks = [LockState(w.anons[0].lock_key("an_lock"), [Want("B", "w", "uvm_fault")], [])]
    return w.anons[0]


@breaks("PROC-1")
def zombie_with_an_address_space(w: World) -> object:
    w.set(w.procs[2], p_vmspace=w.spaces[1])
    return w.procs[2]


@breaks("PROC-1")
def running_without_an_address_space(w: World) -> object:
    w.set(w.procs[3], p_stat=SRUN)
    return w.procs[3]


@breaks("LEAK-1")
def address_space_that_nobody_has(w: World) -> object:
    w.set(w.procs[1], p_vmspace=None, p_stat=SZOMB)
    return w.spaces[1]


@breaks("LEAK-1")
def entry_in_no_map(w: World) -> object:
    return w.entry(0, 0x300, 1)


@breaks("LEAK-1")
def amap_without_an_entry(w: World) -> object:
    return w.amap(None)


@breaks("LEAK-1")
def array_of_no_amap(w: World) -> object:
    return w.add_array(AmapArray, [None], amap=w.amaps[0])


@breaks("LEAK-1")
def buf_that_is_not_in_flight(w: World) -> object:
    return w.add(Buf)


@breaks("LEAK-2")
def pmap_of_no_map(w: World) -> object:
    w.pmaps[3] = {}
    return "pmap:3"


@breaks("LEAK-2")
def map_without_a_pmap(w: World) -> object:
    w.set(w.maps[1], pmap=9)
    w.pmaps.pop(2)
    return w.maps[1]


@breaks("SWAP-2")
def slot_of_an_anon_and_an_aobj(w: World) -> object:
    w.put(w.swslots, 1, 4)
    w.put(w.extents, 0, 0b101100)
    w.set(w.dev, swd_npginuse=3)
    w.set(uvmexp, swpginuse=3)
    return w.anons[2]


@breaks("COUNT-8")
def aobj_page_freed_without_a_slot(w: World) -> object:
    w.put(w.swslots, 1, 0)
    w.put(w.extents, 0, 0b101100)
    w.set(w.dev, swd_npginuse=3)
    w.set(uvmexp, swpginuse=3)
    return uvmexp


def with_a_page_of_shared_memory(w: World, flags: int) -> Page:
    """Page 11, at offset 0 of the aobj, active."""
    page: Page = w.pages[11]
    w.queue(page_free, *w.pages[6:11])
    w.queue(page_active, w.pages[0], w.pages[2], w.pages[3], page)
    w.set(page, uobject=w.memory, offset=0, flags=flags | PG_TABLED, pqflags=PQ_AOBJ | PQ_ACTIVE)
    w.set(w.memory, memq_first=page, memq_last=page, uo_npages=1)
    w.put(w.hash, 1, page)  # (1 * 31 + 0) & 1
    w.set(page, hashq_next=w.pages[5])
    w.set(uvmexp, free=w.get(uvmexp, "free") - 1, active=4)
    return page


@breaks("SWAP-4")
def clean_aobj_page_without_a_slot(w: World) -> object:
    return with_a_page_of_shared_memory(w, PG_CLEAN)


@breaks("SWAP-5")
def aobj_page_is_not_what_swap_has(w: World) -> object:
    page = with_a_page_of_shared_memory(w, PG_CLEAN)
    w.put(w.swslots, 0, 8)
    w.put(w.extents, 0, 0b10111100)
    w.set(w.dev, swd_npginuse=5)
    w.set(uvmexp, swpginuse=5)
    w.slots[8] = (99,) * WORDS
    return page


@breaks("OBJ-1")
def page_taken_off_the_list_only(w: World) -> object:
    w.set(w.file, memq_first=None, memq_last=None, uo_npages=0)
    w.put(w.hash, 1, None)
    return w.pages[5]


@breaks("OBJ-1")
def pages_of_an_object_miscounted(w: World) -> object:
    w.set(w.file, uo_npages=2)
    return w.file


@breaks("OBJ-2")
def page_not_in_the_hash(w: World) -> object:
    w.put(w.hash, 1, None)
    return w.pages[5]


@breaks("OBJ-2")
def page_in_another_bucket(w: World) -> object:
    w.put(w.hash, 1, None)
    w.put(w.hash, 0, w.pages[5])
    return w.pages[5]


@breaks("OBJ-3")
def unmapped_without_a_detach(w: World) -> object:
    w.set(w.file, uo_refs=2)
    return w.file


@breaks("OBJ-3")
def mapped_without_a_reference(w: World) -> object:
    w.set(w.memory, uo_refs=0)
    return w.memory


@breaks("OBJ-4")
def object_that_never_dies(w: World) -> object:
    w.set(w.vnode, u_flags=UVM_VNODE_VALID | UVM_VNODE_DYING)
    return w.vnode


@breaks("OBJ-4")
def io_that_is_never_done(w: World) -> object:
    w.set(w.vnode, u_nio=1)
    return w.vnode


@breaks("OBJ-5")
def aobj_that_swapoff_would_not_find(w: World) -> object:
    w.set(uvm, uao_list_first=None, uao_list_last=None)
    return w.aobj


@breaks("OBJ-6")
def file_page_that_would_go_to_swap(w: World) -> object:
    w.set(w.pages[5], pqflags=PQ_AOBJ | PQ_INACTIVE, flags=PG_TABLED)
    w.queue(page_inactive_obj)
    w.queue(page_inactive_swp, w.pages[1], w.pages[5])
    return w.pages[5]


@breaks("OBJ-7")
def clean_and_not_what_the_file_has(w: World) -> object:
    w.blocks[2] = (9,) * WORDS
    return w.pages[5]


@breaks("LEAK-1")
def shared_memory_that_nobody_has(w: World) -> object:
    w.set(w.segment, shm_object=None)
    w.set(w.memory, uo_refs=0)
    return w.memory


@breaks("LEAK-1")
def slots_of_no_aobj(w: World) -> object:
    return w.add_array(AobjSlots, [0], u_obj=w.memory)


@breaks("KM-1")
def submap_of_another_pmap(w: World) -> object:
    w.set(w.kmem_map, max_offset=0x1040)
    return w.kmem_map


@breaks("KM-2")
def kernel_memory_without_its_page(w: World) -> object:
    w.set(w.malloced, end=0x1080)
    w.set(w.kmem_map, size=0x80)
    return w.malloced


@breaks("KM-2")
def kernel_memory_that_is_not_mapped(w: World) -> object:
    w.pmaps[PMAP_KERNEL].clear()
    return w.pages[13]


@breaks("KM-2")
def kernel_memory_that_is_not_wired(w: World) -> object:
    w.pmaps[PMAP_KERNEL][0x1000 // PAGE][WIRED] = 0
    return w.pages[13]


@breaks("KM-2")
def kernel_memory_freed_without_its_page(w: World) -> object:
    w.link(w.kmem_map, [])
    w.set(w.kentries[1], free_next=w.malloced)
    w.set(w.malloced, free_next=None)
    w.pmaps[PMAP_KERNEL].clear()
    return w.pages[13]


@breaks("KM-3")
def map_missing_in_the_list(w: World) -> object:
    w.set(uvm, vmi_list=None)
    return w.kmem_map


@breaks("PAGE-2")
def kernel_memory_on_a_queue(w: World) -> object:
    w.set(w.pages[13], pqflags=PQ_INACTIVE)
    w.queue(page_inactive_obj, w.pages[5], w.pages[13])
    w.set(uvmexp, inactive=3)
    return w.pages[13]


@breaks("PTE-1")
def kernel_mapping_left_behind(w: World) -> object:
    w.pmaps[PMAP_KERNEL][0x1040 // PAGE] = [13, VM_PROT_ALL, 1, 1, 1]
    return w.pages[13]


@breaks("LEAK-1")
def static_entry_that_is_lost(w: World) -> object:
    w.set(w.kentries[0], free_next=None)
    return w.kentries[1]


# -- the tests ------------------------------------------------------------------------------


def test_a_sound_machine_breaks_no_invariant(world: World) -> None:
    assert [finding.text for finding in check(world.snapshot())] == []


@pytest.mark.parametrize(("id", "broken_by"), BREAKS, ids=[f"{id}-{breaker.__name__}" for id, breaker in BREAKS])
def test_one_mistake_breaks_one_invariant(world: World, id: str, broken_by: Break) -> None:
    """Its cause should be read off a finding, so nothing else may be reported beside it."""
    subject = broken_by(world)
    findings = check(world.snapshot())
    assert [finding.text for finding in findings if not finding.text.startswith(f"{id}: ")] == []
    assert [finding.subject for finding in findings] == [str(subject)]


def test_every_invariant_is_seen_to_fail() -> None:
    """A check that has never failed proves nothing."""
    assert sorted({id for id, _ in BREAKS}) == sorted(INVARIANTS)


def test_a_finding_says_id_sentence_and_what_is_wrong(world: World) -> None:
    world.set(world.anons[2], an_ref=2)
    findings = check(world.snapshot())
    sentence = "an_ref counts the amap slots and loans that hold an anon"
    expected = f"ANON-1: {sentence}: anon:2 is in 1 amap slots and has an_ref 2"
    assert [(finding.kind, finding.detector, finding.text, finding.subject) for finding in findings] == [
        ("invariant", FINDINGS["invariant"].detector, expected, "anon:2")
    ]


def test_further_violations_of_an_invariant_are_its_story(world: World) -> None:
    """Twenty miscounted anons have one cause, and are one finding."""
    world.set(world.anons[2], an_ref=2)
    world.set(world.anons[4], an_ref=1)
    assert [finding.story for finding in check(world.snapshot())] == [["anon:4 is in 2 amap slots and has an_ref 1"]]


def test_checking_changes_nothing(world: World) -> None:
    def state() -> str:
        heap = {id: (rec.gen, rec.fields) for id, rec in world.heap.records.items()}
        return repr({**vars(world), "heap": heap})

    before = state()
    check(world.snapshot())
    assert state() == before


# What looks wrong and is not.


def test_clean_page_may_differ_from_swap_once_it_was_modified(world: World) -> None:
    """CLEAN is the kernel's word; until it asks the pmap it cannot know of the user's stores."""
    world.frames[1] = (9,) * WORDS
    world.pmaps[1][5][MOD] = 1
    assert world.broken() == []


def test_modification_through_a_removed_mapping_counts(world: World) -> None:
    world.frames[1] = (9,) * WORDS
    world.attrs[1] = [0, 0, 0, 1, 1]
    assert world.broken() == []


def test_free_page_may_have_any_flags_and_contents(world: World) -> None:
    """uvm_pagefree() does not tidy up: the page of a failed allocation is freed BUSY, FAKE and CLEAN."""
    world.set(world.pages[6], flags=PG_BUSY | PG_CLEAN, uanon=world.anons[0])
    assert world.broken() == []


def test_page_found_by_its_address_is_good_in_a_queue(world: World) -> None:
    """munlock finds its pages with pmap_extract() and activates them; such a handle names no generation."""
    world.queue(page_active, world.pages[0], Page.at(2, ANY_GEN), world.pages[3])
    assert world.broken() == []


def test_anon_whose_data_is_lost_counts_as_only_in_swap(world: World) -> None:
    """A read error leaves SWSLOT_BAD in the anon, and the slot in use and counted as bad."""
    world.set(world.anons[2], an_swslot=SWSLOT_BAD)
    world.set(world.dev, swd_npgbad=2)
    world.bad_slots.add(4)
    assert world.broken() == []


@pytest.mark.parametrize("elements", [(-2, 3, 0, 1), (2, -2, 2, 1), (2, 2, 2, 1), (-2, 2, 2, 1)], ids=str)
def test_counts_of_a_partly_unmapped_amap_may_be_encoded_in_any_runs(world: World, elements: tuple[int, ...]) -> None:
    unmap_the_last_page(world)
    ppref(world, *elements)
    assert world.broken() == []


def test_wired_entry_without_access_need_not_be_mapped(world: World) -> None:
    """mprotect(PROT_NONE) takes the translations of wired memory away; the page stays wired."""
    world.set(world.parent[3], protection=VM_PROT_NONE)
    del world.pmaps[1][10]
    assert world.broken() == []


def test_page_wired_by_two_processes_counts_twice(world: World) -> None:
    for entry, pmap in ((world.parent[2], 1), (world.child[1], 2)):
        world.set(entry, wired_count=3, protection=VM_PROT_READ)
        world.pmaps[pmap][9] = [3, VM_PROT_READ, 1, 1, 0]
    world.set(world.pages[3], wire_count=2, pqflags=PQ_ANON)
    world.queue(page_active, world.pages[0], world.pages[2])
    world.set(uvmexp, active=2, wired=2)
    assert world.broken() == []


def test_loans_to_the_kernel_and_to_an_anon_are_counted(world: World) -> None:
    """A wired page lent twice; an anon lent; an object's page lent to an anon."""
    w = world
    w.lend(w.pages[4], w.anons[2])
    w.lend(w.pages[4])
    w.set(w.pages[4], loan_count=2, wire_count=3)
    w.pmaps[1][10][PROT] = VM_PROT_READ
    w.set(w.parent[3], protection=VM_PROT_READ)
    w.set(w.anons[2], an_ref=2)
    w.set(w.anons[6], an_ref=1, an_page=w.pages[5])
    w.set(w.pages[5], uanon=w.anons[6], loan_count=1)
    w.set(uvm, afree=w.anons[7])
    w.set(uvmexp, nfreeanon=3)
    w.lend(w.anons[6])
    assert w.broken() == []


def test_a_page_on_loan_may_have_lost_its_owner(world: World) -> None:
    """It is the kernel's to free, or its borrower's to adopt."""
    w = world
    w.set(w.amaps[4], am_nused=0)
    w.put(w.get(w.amaps[4], "am_anon"), 0, None)
    w.set(w.anons[5], an_ref=0, an_page=w.anons[6])
    w.set(uvm, afree=w.anons[5])
    w.set(uvmexp, nfreeanon=5)
    w.lend(w.pages[4])
    w.set(w.pages[4], uanon=None, loan_count=1, pqflags=0)
    w.set(w.parent[3], wired_count=0)
    del w.pmaps[1][10]
    assert w.broken() == []


def test_tlb_of_a_pmap_that_is_gone_may_be_loaded_but_empty(world: World) -> None:
    """A CPU keeps the pmap of a process that has exited until it runs another one."""
    world.tlbs["cpu1"] = (8, {})
    assert world.broken() == []


@pytest.mark.parametrize("value", [None, -1, 7, Anon.at(0, 0), Page.at(3, 1), VmMapEntry.at(0, 1)], ids=repr)
def test_no_wrong_field_makes_the_checks_fail_themselves(value: object) -> None:
    """A wrong state is what they are for: they must end, and say something, whatever a field contains."""
    world = World()
    for rec in world.heap.records.values():
        for slot in range(HEADER, len(rec)):
            was, rec[slot] = rec[slot], value
            check(world.snapshot())
            rec[slot] = was
    assert world.broken() == []


# The machine as the kernel makes it.

SETUP = """
process: {as: A, cpu: 0}
mmap: {in: A, as: wired, pages: 2}
mmap: {in: A, as: both, pages: 2, flags: [shared, anon]}
mmap: {in: A, as: own, pages: 4}
write: {in: A, at: "own[0]", value: 1}
write: {in: A, at: "own[3]", value: 2}
write: {in: A, at: "both[1]", value: 3}
mlock: {in: A, at: "wired[0]", pages: 2}
loan: {in: A, at: "own[0]", pages: 2, to: page, as: L}
loan: {in: A, at: "own[3]", pages: 1, to: anon, as: M}
process: {as: B, cpu: 1}
fill: {in: B, until_free: 7}
"""
CHILD = '[{write: {at: "own[0]", value: 4}}, {write: {at: "both[1]", value: 5}}, {barrier: {name: met}}]'
PROGRAM = f"""
fork: {{as: C, program: {CHILD}}}
write: {{at: "own[1]", value: 6}}
munmap: {{at: "own[3]", pages: 1}}
munlock: {{at: "wired[1]", pages: 1}}
barrier: {{name: met}}
"""


def test_the_kernel_keeps_every_invariant_from_boot_to_the_end() -> None:
    """In the state that setup leaves, with everything in use, and when all programs have ended."""
    from cluster.boot import prepare
    from cluster.search.strategy import Stay
    from cluster.sim.engine import Sim
    from shared.detectors.verdict import snapshot_of

    machine, image = prepare(scene({"A": PROGRAM}, SETUP, "cpus: 2, frames: 24, swap_slots: 32"))
    for node in machine.nodes.values():
        node.load_image(image[node.name])
    booted = snapshot_of(machine.state())
    assert any(booted.num(page, "wire_count") for page in booted.pages)
    assert [finding.text for finding in check(booted)] == []
    Sim(machine, image).execute(Stay())
    assert [finding.text for finding in check(snapshot_of(machine.state()))] == []


def test_the_invariants_that_are_checked_on_the_way_are_named() -> None:
    """A scenario may expect them; nobody registers them."""
    root = Path(__file__).parents[2]
    said = re.compile(r'"([A-Z]+-[0-9]+): ')
    checked = {
        id: str(path.relative_to(root))
        for path in (*(root / "nodes").glob("*.py"), *(root / "shared/uvm").glob("*.py"))
        for id in said.findall(path.read_text("utf-8"))
    }
    assert checked == NODE_INVARIANTS and not checked.keys() & INVARIANTS.keys()
