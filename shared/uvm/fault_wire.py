"""Wiring: faulting pages in so that they stay, and unwiring them.

A page counts its wirings (wire_count): those of map entries (mlock), those of device
I/O to user memory (vslock), which no map entry counts, and those of loans to the kernel.

Locked memory takes no fault: as long as an entry is wired its pages are mapped there, with
all rights of the entry. No thread replaces them or removes their translations, not even to
clean, copy or free the page: the page is not on loan, only our amap has it, and a child
gets a copy at once. So munlock finds the page by its translation. Memory that is wired only
for a device may lose its translation; then the map entry finds it.

Source: uvm_fault.c 1.47 (February 2000), with the logged changes up to 2001-03 (D-001).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from shared.port.port import LOCK_ASSERT, erratum, here, kernel, panic
from shared.uvm.amap import amap_lock, amap_lookup, amap_unlock, aref_of
from shared.uvm.fault import uvm_fault
from shared.uvm.map_entry import uvm_map_lookup_entry, vm_map_lock_read, vm_map_unlock_read
from shared.uvm.page import uvm_lock_pageq, uvm_pagelookup, uvm_pageunwire, uvm_unlock_pageq
from shared.uvm.param import (
    PMAP_CANFAIL,
    PMAP_WIRED,
    UVM_ET_COPYONWRITE,
    VM_FAULT_WIRE,
    VM_FAULT_WIREIO,
    VM_PROT_WRITE,
)
from shared.uvm.pmap import pmap_allows, pmap_enter, pmap_extract, pmap_unwire
from shared.uvm.structs import Anon, Page, PhysBuf, VmMap, VmMapEntry


@kernel(exit="same")
def uvm_fault_wire(map: VmMap, start: int, end: int, access_type: int, bp: PhysBuf | None = None) -> int:
    """Fault in and wire the pages of a range; if that fails, none of them.

    Args:
        bp: the device I/O that they are wired for.

    Locks:   entry map not write-locked; if read-locked, nothing in the range needs a copy. Returns: same.
    Sleeps:  as uvm_fault().
    Returns: as uvm_fault().
    Source:  uvm_fault.c.
    """
    LOCK_ASSERT(not map.lock.held_exclusive(), "map not write-locked", map)
    fault_type = VM_FAULT_WIRE if bp is None else VM_FAULT_WIREIO
    for va in range(start, end, here.port.page_size):
        rv = uvm_fault(map, va, fault_type, access_type)
        if rv != 0:
            if va != start:
                uvm_fault_unwire(map, start, va, bp)
            return rv
    return 0


@kernel(exit="same")
def uvm_fault_unwire(map: VmMap, start: int, end: int, bp: PhysBuf | None = None) -> None:
    """Unwire the pages of a range.

    Locks:   entry map not write-locked. Returns: same.
    Source:  uvm_fault.c.
    """
    nested = map.lock.held() or erratum("uvm_fault_unwire.map-unlocked")
    if not nested:
        vm_map_lock_read(map)
    uvm_fault_unwire_locked(map, start, end, bp)
    if not nested:
        vm_map_unlock_read(map)


@contextmanager
def _page_of(entry: VmMapEntry, va: int) -> Iterator[tuple[Page | None, Anon | None]]:
    """The page that a map entry has at a byte address, or None, and the anon that owns it, or None.

    Locks:   entry map(r). Inside: same, the entry's amap, and the anon or else the object. After: as on entry.
             A finding that ends the run inside leaves them locked.
    Source:  none; uvm_fault_unwire_locked() of uvm_fault.c asks the pmap for the page and locks no owner.
    """
    aref, uobj = aref_of(entry), entry.object
    skip = va - entry.start
    anon = None
    if aref is not None:
        amap_lock(aref.amap)
        anon = amap_lookup(aref, skip)
    if anon is not None:
        anon.an_lock.lock()
        yield anon.an_page, anon
        anon.an_lock.unlock()
    elif uobj is not None:
        uobj.vmobjlock.lock()
        yield uvm_pagelookup(uobj, entry.offset + skip), None
        uobj.vmobjlock.unlock()
    else:
        yield None, None
    if aref is not None:
        amap_unlock(aref.amap)


def uvm_wired_page(entry: VmMapEntry, va: int) -> Page | None:
    """The page that a map entry has at an address: its amap's, or its object's.

    Locks:   entry map(r). Returns: same, and the page queues.
    Source:  none; the model's. UVM asked the pmap alone.
    """
    with _page_of(entry, va) as (pg, _):
        uvm_lock_pageq()
    return pg


@kernel(exit="same")
def uvm_fault_rewire(map: VmMap, entry: VmMapEntry) -> None:
    """Enter the pages of a wired entry again, since it allows more than before: locked memory takes no fault.

    Locks:   entry map(w). Returns: same.
    Source:  none; the model's. UVM left it to the next fault, which an interrupt must not take.
    """
    for va in range(entry.start, entry.end, here.port.page_size):
        with _page_of(entry, va) as (pg, anon):
            if pg is not None:
                prot = entry.protection
                others = bool(entry.etype & UVM_ET_COPYONWRITE) if anon is None else anon.an_ref > 1
                if others or pg.loan_count:  # not in a kernel without errata
                    prot &= ~VM_PROT_WRITE
                pmap_enter(map.pmap, va, pg, prot, PMAP_CANFAIL | PMAP_WIRED)


def _other_io(map: VmMap, bp: PhysBuf | None) -> list[tuple[int, int]]:
    """The ranges of a map's memory that devices are at work on, without this I/O. Locks: map(r) at least."""
    ranges: list[tuple[int, int]] = []
    if map.physio is None:
        return ranges
    map.flags_lock.lock()
    buf: PhysBuf | None = map.physio
    while buf is not None:
        if buf != bp:
            ranges.append((buf.b_start, buf.b_end))
        buf = buf.b_next
    map.flags_lock.unlock()
    return ranges


@kernel(exit="same")
def uvm_fault_unwire_locked(map: VmMap, start: int, end: int, bp: PhysBuf | None = None) -> None:
    """Unwire the pages of a range that was wired; the translations too, where the entry is not wired any more.

    Args:
        bp: the device I/O that is over.

    Locks:   entry map(r) at least. Returns: same.
    Source:  uvm_fault.c.   Differs: a translation stays wired while a device is at work on it, so that munlock during
             the I/O does not take it away; where there is none, after device I/O, the page is looked up in the entry.
             UVM panicked there as well. Later versions skip it (erratum E40b). The check (WIRE-5) is the model's:
             after an exit nothing would show that locked memory could have taken a fault.
    """
    LOCK_ASSERT(map.lock.held(), "map read-locked", map)
    pmap, header = map.pmap, map.header
    passing_over = erratum("uvm_fault_unwire.unmapped-passed-over")
    ranges = _other_io(map, bp)
    uvm_lock_pageq()  # the page daemon is locked out too
    mapped, entry = uvm_map_lookup_entry(map, start)
    if not mapped:
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
        if pg is None and passing_over:
            continue
        if pg is None and bp is not None and not erratum("uvm_fault_unwire.unconditional-pmap-unwire"):
            uvm_unlock_pageq()
            pg = uvm_wired_page(entry, va)
        if pg is None:
            panic("uvm_fault_unwire_locked: unwiring non-wired memory", map)
            continue
        if bp is None and not pmap_allows(pmap, va, entry.protection):
            text = "WIRE-5: when memory is unlocked its mapping allows what its map entry allows"
            text = f"{text}: {pg} at {va:#x} of {map} is mapped with less than {entry} has"
            here.port.report("invariant", text, subject=str(pg))
        uvm_pageunwire(pg)
        if bp is not None:
            io = pg.io_count - 1
            pg.io_count = io
            if io == 0:
                here.port.wakeup(pg.addressof("io_count"))
        unwire = unwired
        if any(first <= va < last for first, last in ranges) and not erratum("uvm_fault_unwire.munlock-during-io"):
            unwire = False
        if unwire or erratum("uvm_fault_unwire.unconditional-pmap-unwire"):
            pmap_unwire(pmap, va)
    uvm_unlock_pageq()
