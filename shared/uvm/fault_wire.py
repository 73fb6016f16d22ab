"""Wiring: faulting pages in so that they stay, and letting go of them.

A page counts its wirings (wire_count): those of map entries (mlock), those of device
I/O to user memory (vslock), which no map entry counts, and those of loans to the kernel.

Source: uvm_fault.c of March 2001.
"""

from __future__ import annotations

from shared.port import LOCK_ASSERT, erratum, here, kernel, panic
from shared.uvm.fault import uvm_fault
from shared.uvm.map import uvm_map_lookup_entry, vm_map_lock_read, vm_map_unlock_read
from shared.uvm.page import uvm_lock_pageq, uvm_pagekloans, uvm_pageunwire, uvm_unlock_pageq
from shared.uvm.param import VM_FAULT_WIRE
from shared.uvm.pmap import pmap_extract, pmap_unwire
from shared.uvm.structs import VmMap


@kernel(exit="same")
def uvm_fault_wire(map: VmMap, start: int, end: int, access_type: int) -> int:
    """Fault in and wire the pages of a range; if that fails, none of them.

    Locks:   entry map not write-locked; if read-locked, nothing in the range needs a copy. Returns: same.
    Sleeps:  as uvm_fault().
    Returns: as uvm_fault().
    Source:  uvm_fault.c.
    """
    LOCK_ASSERT(not map.lock.held_exclusive(), "map not write-locked", map)
    for va in range(start, end, here.port.page_size):
        rv = uvm_fault(map, va, VM_FAULT_WIRE, access_type)
        if rv != 0:
            if va != start:
                uvm_fault_unwire(map, start, va)
            return rv
    return 0


@kernel(exit="same")
def uvm_fault_unwire(map: VmMap, start: int, end: int) -> None:
    """Unwire the pages of a range.

    Locks:   entry map not write-locked. Returns: same.
    Source:  uvm_fault.c.
    """
    nested = map.lock.held() or erratum("uvm_fault_unwire.map-unlocked")
    if not nested:
        vm_map_lock_read(map)
    uvm_fault_unwire_locked(map, start, end)
    if not nested:
        vm_map_unlock_read(map)


@kernel(exit="same")
def uvm_fault_unwire_locked(map: VmMap, start: int, end: int) -> None:
    """Unwire the pages of a range that was wired; the translations too, where the entry is not wired any more.

    Locks:   entry map(r) at least. Returns: same.
    Source:  uvm_fault.c.   Differs: a translation stays wired while the page is, so that munlock during device I/O does
             not take it away.
    """
    LOCK_ASSERT(map.lock.held(), "map read-locked", map)
    pmap, header = map.pmap, map.header
    uvm_lock_pageq()  # the page daemon is locked out too
    found, entry = uvm_map_lookup_entry(map, start)
    if not found:
        panic("uvm_fault_unwire_locked: address not in map", map)
    stop, unwired = entry.end, entry.wired_count == 0
    for va in range(start, end, here.port.page_size):
        pg = pmap_extract(pmap, va)
        if va >= stop:
            following = entry.next
            if following == header or following.start > stop:
                panic("uvm_fault_unwire_locked: hole 2", map)
            entry = following
            stop, unwired = entry.end, entry.wired_count == 0
        if pg is None:
            panic("uvm_fault_unwire_locked: unwiring non-wired memory", map)
            continue
        # mlock may still want the translation wired, or device I/O the page; loans wire pages only
        still = uvm_pageunwire(pg) - uvm_pagekloans(pg)
        if still and not erratum("uvm_fault_unwire.munlock-during-io"):
            unwire = False
        else:
            unwire = unwired
        if unwire or erratum("uvm_fault_unwire.unconditional-pmap-unwire"):
            pmap_unwire(pmap, va)
    uvm_unlock_pageq()
