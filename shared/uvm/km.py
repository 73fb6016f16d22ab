"""Kernel memory: the kernel's map, its submaps, and what is allocated from them.

    kernel_map    [ kmem_map | mb_map | exec_map | the rest            ]
                    kmem_map   malloc(): wired memory, also for interrupts    interrupt-safe
                    mb_map     mbufs: likewise                                interrupt-safe
                    exec_map   arguments of exec(): pageable                  as a process's map
                    the rest   wired memory of the kernel's own (kernel_object)

Rules: a submap has the addresses of the part of kernel_map that it takes over,
and their users lock the submap, not kernel_map. An interrupt-safe map has
no lock but its interlock: it spins, is exclusive, and is only ever asked for at
splimp, or the holder's CPU would take an interrupt that asks for it too. Its map
entries are made at boot, since uvm_mapent_alloc() may not sleep there. Memory of a
kernel object is wired by being in no page queue, and by its mapping; when it is
unmapped its pages are freed at once, for there is nowhere else to keep them.
The offset of a page in a kernel object is its address from VM_MIN_KERNEL_ADDRESS on.

All interrupt-safe maps are on vmi_list, under a lock of its own at splhigh:
uvm_fault() looks there first, since to look such a map up could take a lock that
the interrupted CPU holds.

A load or store of the kernel makes its CPU load the kernel's pmap; a real one has
the kernel's mappings in every pmap.

Left out: merging of entries, uvm_km_valloc_wait (a full map answers "no space"), pools,
kernel text and data, uvm_km_alloc1 (which is uvm_km_kmemalloc for kernel_object) and
zeroing. Pageable memory of a submap is anonymous memory of the map entry's own; in UVM it
is that of kernel_object, an aobj.
Source: uvm_km.c 1.3x of 2000, vm_map.h, uvm_fault_i.h 1.10.
"""

from __future__ import annotations

from typing import NoReturn

from shared.port.port import here, kernel, panic
from shared.uvm.km_object import km_offset, vmi_list_lock, vmi_list_unlock
from shared.uvm.map import uvm_map_create, uvm_unmap_detach, uvm_unmap_remove
from shared.uvm.map_entry import uvm_map_entry_link, uvm_mapent_alloc, vm_map_lock, vm_map_unlock
from shared.uvm.page import uvm_page_own, uvm_pagealloc
from shared.uvm.param import (
    MADV_RANDOM,
    MAP_INHERIT_NONE,
    PG_BUSY,
    PG_FAKE,
    PMAP_KERNEL,
    UVM_ET_COPYONWRITE,
    UVM_ET_NEEDSCOPY,
    UVM_ET_OBJ,
    UVM_ET_SUBMAP,
    UVM_KMF_NOWAIT,
    UVM_OBJ_INTRSAFE_KERN,
    UVM_OBJ_KERN,
    UVM_PGOPS_NONE,
    VM_MAP_INTRSAFE,
    VM_MAP_PAGEABLE,
    VM_MIN_KERNEL_ADDRESS,
    VM_PROT_ALL,
)
from shared.uvm.pgops import PGOPS, PagerOps
from shared.uvm.pmap import pmap_bootstrap, pmap_kenter_pa
from shared.uvm.structs import UvmObject, VmMap, VmMapEntry, VmMapIntrsafe, uvm
from shared.uvm.wait import uvm_wait

# -- the pager of kernel objects -------------------------------------------------------------


def _forever(uobj: UvmObject) -> None:
    """A kernel object counts no references: it is never freed."""


def _no_paging(*args: object) -> NoReturn:
    """There is nothing to page; a fault on memory of a kernel object is refused before it comes here."""
    panic("km_pager: a kernel object does not page")
    raise AssertionError("not reached, unless nobody wants to know of panics")


PGOPS[UVM_PGOPS_NONE] = PagerOps(_forever, _forever, _no_paging, None, _no_paging, None, _no_paging)

# -- boot ----------------------------------------------------------------------------------


def uvm_km_init(pages: int, kmem: int, mb: int, exec: int) -> None:
    """Make the kernel's map and its submaps; at boot.

    Args:
        pages: of kernel_map that no submap takes over.
        kmem, mb, exec: pages of the submaps; 0: there is no such map.
    """
    page_size = here.port.page_size
    uvm.vmi_list = None
    uvm.kentry_free = None
    for _ in range(2 * (kmem + mb)):  # a page may be an entry of its own, and clipping makes one more
        me = here.port.alloc(VmMapEntry)
        me.free_next = uvm.kentry_free
        uvm.kentry_free = me
    pmap_bootstrap()
    uvm.kernel_object = _kernel_object(UVM_OBJ_KERN)
    uvm.kmem_object = _kernel_object(UVM_OBJ_INTRSAFE_KERN)
    uvm.mb_object = _kernel_object(UVM_OBJ_INTRSAFE_KERN)
    end = VM_MIN_KERNEL_ADDRESS + (pages + kmem + mb + exec) * page_size
    map = uvm_map_create(PMAP_KERNEL, VM_MIN_KERNEL_ADDRESS, end, 0)
    uvm.kernel_map = map
    uvm.kmem_map = uvm_km_suballoc(map, kmem * page_size, VM_MAP_INTRSAFE) if kmem else None
    uvm.mb_map = uvm_km_suballoc(map, mb * page_size, VM_MAP_INTRSAFE) if mb else None
    uvm.exec_map = uvm_km_suballoc(map, exec * page_size, VM_MAP_PAGEABLE) if exec else None


def _kernel_object(refs: int) -> UvmObject:
    uobj = here.port.alloc(UvmObject)
    uobj.pgops = UVM_PGOPS_NONE
    uobj.uo_npages = 0
    uobj.uo_refs = refs
    return uobj


def uvm_km_suballoc(map: VmMap, size: int, flags: int) -> VmMap:
    """Make a submap that takes over the next `size` bytes of `map` that are free.

    Args:
        flags: VM_MAP_PAGEABLE, VM_MAP_INTRSAFE.

    Locks:   entry map unlocked. Returns: same.
    Source:  uvm_km.c, uvm_map_submap in uvm_map.c.
    """
    vm_map_lock(map)
    entry = _new_entry(map, size)
    if entry is None:
        panic("uvm_km_suballoc: unable to allocate space in parent map", map)
    assert entry is not None
    submap = uvm_map_create(map.pmap, entry.start, entry.end, flags)
    entry.etype = UVM_ET_SUBMAP
    entry.sub_map = submap
    entry.offset = 0
    vm_map_unlock(map)
    if isinstance(submap, VmMapIntrsafe):
        s = vmi_list_lock()
        submap.vmi_list_next = uvm.vmi_list
        uvm.vmi_list = submap
        vmi_list_unlock(s)
    return submap


def _new_entry(map: VmMap, size: int) -> VmMapEntry | None:
    """A new entry at the first place with room for it; None if there is no room. Locks: entry map(w); same.

    Source:  uvm_map.c, uvm_map and uvm_map_findspace.
    """
    header, at = map.header, map.min_offset
    before = header
    following = header.next
    while following != header and following.start < at + size:
        at = following.end
        before = following
        following = following.next
    if at + size > map.max_offset:
        return None
    me = uvm_mapent_alloc(map)
    me.start = at
    me.end = at + size
    me.object = None
    me.offset = 0
    me.etype = 0
    me.protection = VM_PROT_ALL
    me.max_protection = VM_PROT_ALL
    me.inheritance = MAP_INHERIT_NONE
    me.wired_count = 0
    me.advice = MADV_RANDOM
    uvm_map_entry_link(map, before, me)
    map.size += size
    return me


# -- allocation ----------------------------------------------------------------------------


@kernel(exit="same")
def uvm_km_kmemalloc(map: VmMap, uobj: UvmObject, size: int, flags: int) -> int:
    """Allocate wired memory from a kernel map; its contents are whatever they were.

    Args:
        uobj: the kernel object that is to own the pages.
        flags: UVM_KMF_NOWAIT: rather fail than wait for pages, as an interrupt must.

    Locks:   entry map unlocked, at splimp if the map is interrupt-safe. Returns: same.
    Sleeps:  uvm_wait ("km_getwait2"), without UVM_KMF_NOWAIT.
    Returns: the address; 0 - no room in the map, or no pages.
    Source:  uvm_km.c.
    """
    page_size = here.port.page_size
    vm_map_lock(map)
    entry = _new_entry(map, size)
    if entry is None:
        vm_map_unlock(map)
        return 0
    entry.etype = UVM_ET_OBJ
    entry.object = uobj
    kva = entry.start
    entry.offset = km_offset(kva)
    vm_map_unlock(map)

    # No other context knows of these addresses yet.
    va = kva
    while va < kva + size:
        uobj.vmobjlock.lock()
        pg = uvm_pagealloc(uobj, km_offset(va), None)
        if pg is not None:
            pg.flags &= ~(PG_BUSY | PG_FAKE)
            uvm_page_own(pg, None)
        uobj.vmobjlock.unlock()
        if pg is None:
            if flags & UVM_KMF_NOWAIT:
                uvm_km_free(map, kva, size)
                return 0
            uvm_wait("km_getwait2")
            continue
        pmap_kenter_pa(va, pg, VM_PROT_ALL)
        va += page_size
    return kva


@kernel(exit="same")
def uvm_km_valloc(map: VmMap, size: int) -> int:
    """Allocate pageable, zero-filled memory from a kernel map; the pages come with the faults.

    Locks:   entry map unlocked. Returns: same.
    Sleeps:  for the map.
    Returns: the address; 0 - no room.
    Source:  uvm_km.c.   Differs: see the module's header.
    """
    vm_map_lock(map)
    entry = _new_entry(map, size)
    kva = 0
    if entry is not None:
        entry.etype = UVM_ET_COPYONWRITE | UVM_ET_NEEDSCOPY
        kva = entry.start
    vm_map_unlock(map)
    return kva


@kernel(exit="same")
def uvm_km_free(map: VmMap, addr: int, size: int) -> None:
    """Free kernel memory: all or part of what was allocated.

    Locks:   entry map unlocked, at splimp if the map is interrupt-safe. Returns: same.
    Source:  uvm_km.c; uvm_unmap in uvm_map.c.
    """
    vm_map_lock(map)
    dead = uvm_unmap_remove(map, addr, addr + size)
    vm_map_unlock(map)
    uvm_unmap_detach(dead)
