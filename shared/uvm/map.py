"""Maps: an address space as a sorted list of entries, and the operations on ranges of it.

    VmMap.header <-> entry <-> entry <-> ... <-> header     entries [start, end), in bytes, not overlapping

Rules: an entry's fields are written with its map write-locked, or before it is
linked. Every ordinary exclusive acquisition bumps the map's timestamp, so that
a thread that has unlocked the map can see whether the map has changed since.

Locks, lookup and clipping are in map_entry.py, address spaces in map_fork.py.

A context that holds a map read-locked and asks for it again holds it once: see
`nested` in fault_i.py. In lockmgr() each such request counts.

Kernel maps are in km.py. An interrupt-safe map has no lock except its interlock,
no timestamp, and entries made at boot.

Left out: merging of entries (each mmap is an entry of its own), the choice of an
address (it is given), the first_free hint, ref_count (only its vmspace or its parent refers to a map), WIREFUTURE.
Source: uvm_map.c 1.69, uvm_map_i.h 1.16, vm_map.h, of 2000.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from shared.port.port import erratum, here, kernel, panic
from shared.uvm.amap import (
    Aref,
    amap_alloc,
    amap_copy,
    amap_lock,
    amap_lookups,
    amap_refs,
    amap_unadd,
    amap_unlock,
    amap_unref,
    aref_of,
)
from shared.uvm.anon import uvm_anfree
from shared.uvm.fault import uvmfault_anonflush
from shared.uvm.fault_wire import uvm_fault_rewire, uvm_fault_unwire_locked, uvm_fault_wire
from shared.uvm.km_object import uvm_km_unmap_object
from shared.uvm.map_entry import (
    SAVE_HINT,
    UVM_MAP_CLIP_END,
    UVM_MAP_CLIP_START,
    uvm_map_entry_link,
    uvm_map_entry_unlink,
    uvm_map_lookup_entry,
    uvm_mapent_alloc,
    uvm_mapent_free,
    vm_map_busy,
    vm_map_downgrade,
    vm_map_lock,
    vm_map_lock_read,
    vm_map_unbusy,
    vm_map_unlock,
    vm_map_unlock_read,
    vm_map_upgrade,
)
from shared.uvm.page import uvm_lock_pageq, uvm_unlock_pageq
from shared.uvm.param import (
    EACCES,
    EBUSY,
    EFAULT,
    EINVAL,
    EIO,
    ENOMEM,
    MADV_NORMAL,
    MADV_RANDOM,
    MADV_SEQUENTIAL,
    MAP_INHERIT_COPY,
    MAP_INHERIT_NONE,
    MAP_INHERIT_SHARE,
    PGO_CLEANIT,
    PGO_DEACTIVATE,
    PGO_FREE,
    PGO_SYNCIO,
    PMAP_KERNEL,
    UVM_ET_COPYONWRITE,
    UVM_ET_NEEDSCOPY,
    UVM_ET_OBJ,
    UVM_FLAG_COPYONW,
    UVM_FLAG_OVERLAY,
    VM_MAP_INTRSAFE,
    VM_PROT_ALL,
    VM_PROT_NONE,
    VM_PROT_WRITE,
)
from shared.uvm.pgops import pgops_of
from shared.uvm.pmap import pmap_protect, pmap_remove
from shared.uvm.structs import Amap, UvmObject, VmMap, VmMapEntry, VmMapIntrsafe

# -- mapping and unmapping -------------------------------------------------------------


class DeadEntry(NamedTuple):
    """An entry taken out of its map, and what it still refers to: an amap, for `size` bytes, and an object."""

    entry: VmMapEntry
    aref: Aref | None
    size: int
    uobj: UvmObject | None


def uvm_map_create(pmap: int, vmin: int, vmax: int, flags: int) -> VmMap:
    """A new, empty map of [vmin, vmax)."""
    map = here.port.alloc(VmMapIntrsafe if flags & VM_MAP_INTRSAFE else VmMap)
    header = here.port.alloc(VmMapEntry)
    header.map = map
    header.next = header
    header.prev = header
    map.header = header
    map.nentries = 0
    map.size = 0
    map.pmap = pmap
    map.min_offset = vmin
    map.max_offset = vmax
    map.hint = header
    map.flags = flags
    map.timestamp = 0
    map.physio = None
    return map


def uvm_map_findspace(map: VmMap, start: int, length: int) -> VmMapEntry | None:
    """The entry behind which [start, start + length) can be mapped, or None if it cannot. Locks: map.

    Source:  uvm_map.c.   Differs: always "fixed".
    """
    if start < map.min_offset or start + length > map.max_offset:
        return None
    mapped, entry = uvm_map_lookup_entry(map, start)
    if mapped:
        return None
    following = entry.next
    if following != map.header and following.start < start + length:
        return None
    return entry


@kernel(exit="same")
def uvm_map(
    map: VmMap, start: int, size: int, *, uobj: UvmObject | None = None, offset: int = 0,
    prot: int, maxprot: int, inherit: int, advice: int, flags: int, amap: Amap | None = None,
) -> int:  # fmt: skip
    """Establish a mapping of an object from `offset` on, or (None) of anonymous memory.

    Args:
        uobj: the caller's reference to it becomes the mapping's, if there is no error.
        flags: UVM_FLAG_COPYONW (private; the amap comes with the first write), UVM_FLAG_OVERLAY (an amap now).
        amap: the amap, likewise; None: a new one.

    Locks:   entry map unlocked. Returns: same.
    Sleeps:  for the map.
    Returns: 0; EACCES - `maxprot` forbids `prot`; ENOMEM - the range is not free.
    Units:   bytes, whole pages.
    Source:  uvm_map.c.   Differs: see the module's header.
    """
    if prot & maxprot != prot:
        return EACCES
    vm_map_lock(map)
    prev_entry = uvm_map_findspace(map, start, size)
    if prev_entry is None:
        vm_map_unlock(map)
        return ENOMEM

    new_entry = uvm_mapent_alloc(map)
    new_entry.start = start
    new_entry.end = start + size
    etype = 0
    if flags & UVM_FLAG_COPYONW:
        etype |= UVM_ET_COPYONWRITE
        if not flags & UVM_FLAG_OVERLAY:
            etype |= UVM_ET_NEEDSCOPY
    if uobj is not None:
        etype |= UVM_ET_OBJ
        new_entry.object = uobj
        new_entry.offset = offset
    new_entry.etype = etype
    new_entry.protection = prot
    new_entry.max_protection = maxprot
    new_entry.inheritance = inherit
    new_entry.wired_count = 0
    new_entry.advice = advice
    if flags & UVM_FLAG_OVERLAY:
        new_entry.aref_pageoff = 0
        new_entry.aref_amap = amap_alloc(size) if amap is None else amap
    uvm_map_entry_link(map, prev_entry, new_entry)
    map.size += size
    vm_map_unlock(map)
    return 0


def uvm_map_entry_unwire(map: VmMap, entry: VmMapEntry) -> None:
    """Undo all wirings of an entry. Locks: map(w)."""
    entry.wired_count = 0
    uvm_fault_unwire_locked(map, entry.start, entry.end)


@kernel(exit="same")
def uvm_unmap_remove(map: VmMap, start: int, end: int) -> list[DeadEntry]:
    """Take what is mapped in [start, end) out of a map.

    All translations are gone when this returns, and not before then may the
    references of the dead entries be dropped (uvm_unmap_detach), or a page on the
    free list could still be mapped. That is done with the map unlocked, since it may sleep.

    Locks:   entry map(w). Returns: same.
    Source:  uvm_map.c.   Differs: the hint is saved again after an entry was unwired, as later: looking up the
             doomed entry has made it the hint (erratum E63).
    """
    header, pmap = map.header, map.pmap
    mapped, entry = uvm_map_lookup_entry(map, start)
    if mapped:
        UVM_MAP_CLIP_START(map, entry, start)
        SAVE_HINT(map, entry.prev)  # critical: no stale hint
    else:
        entry = entry.next

    dead: list[DeadEntry] = []
    removed = 0
    while entry != header and entry.start < end:
        UVM_MAP_CLIP_END(map, entry, end)
        following = entry.next
        if entry.wired_count != 0:  # before the translations go, by which the pages are found
            uvm_map_entry_unwire(map, entry)
            if not erratum("uvm_unmap_remove.stale-hint"):
                SAVE_HINT(map, entry.prev)
        first, stop = entry.start, entry.end
        if pmap == PMAP_KERNEL and entry.object is not None:
            uvm_km_unmap_object(entry)
        else:
            pmap_remove(pmap, first, stop)
        dead.append(DeadEntry(entry, aref_of(entry), stop - first, entry.object))
        uvm_map_entry_unlink(map, entry)
        removed += stop - first
        entry = following
    if removed != 0:
        map.size -= removed
    return dead


@kernel(exit="same")
def uvm_unmap_detach(dead: list[DeadEntry]) -> None:
    """Drop the references of entries that uvm_unmap_remove() took out, and free them.

    Locks:   none needed.
    Sleeps:  if an object ends that has pages to be written.
    Source:  uvm_map.c.
    """
    for entry, aref, size, uobj in dead:
        if aref is not None:
            amap_unref(aref, size)
        if uobj is not None:
            pgops_of(uobj).pgo_detach(uobj)
        uvm_mapent_free(entry)


@kernel(exit="same")
def uvm_map_checkprot(map: VmMap, start: int, end: int, protection: int) -> bool:
    """Is all of [start, end) mapped, with at least this protection?

    Locks:   entry map(r) at least. Returns: same.
    Source:  uvm_map.c.
    """
    header = map.header
    mapped, entry = uvm_map_lookup_entry(map, start)
    if not mapped:
        return False
    while start < end:
        if entry == header or start < entry.start:
            return False
        if protection != VM_PROT_NONE and entry.protection & protection != protection:
            return False
        start = entry.end
        entry = entry.next
    return True


def _first_entry(map: VmMap, start: int) -> VmMapEntry:
    """The first entry behind `start`, clipped to begin there if it lies across; or the header. Locks: map(w)."""
    mapped, entry = uvm_map_lookup_entry(map, start)
    if not mapped:
        return entry.next
    UVM_MAP_CLIP_START(map, entry, start)
    return entry


def _entries(map: VmMap, header: VmMapEntry, first: VmMapEntry, end: int) -> Iterator[VmMapEntry]:
    """The entries from `first` to `end`, the last one clipped to end there. Locks: map(w)."""
    entry = first
    while entry != header and entry.start < end:
        UVM_MAP_CLIP_END(map, entry, end)
        yield entry
        entry = entry.next


@kernel(exit="same")
def uvm_map_inherit(map: VmMap, start: int, end: int, new_inheritance: int) -> int:
    """Say what a child is to get of a range: nothing, a copy, or a share.

    Locks:   entry map unlocked. Returns: same.
    Sleeps:  for the map.
    Returns: 0 or EINVAL.
    Source:  uvm_map.c.
    """
    if new_inheritance not in (MAP_INHERIT_NONE, MAP_INHERIT_COPY, MAP_INHERIT_SHARE):
        return EINVAL
    vm_map_lock(map)
    header = map.header
    for entry in _entries(map, header, _first_entry(map, start), end):
        if entry.inheritance != new_inheritance:
            entry.inheritance = new_inheritance
    vm_map_unlock(map)
    return 0


@kernel(exit="same")
def uvm_map_protect(map: VmMap, start: int, end: int, new_prot: int) -> int:
    """Change the protection of a range; holes in it are passed over.

    Translations are only ever narrowed here: what is allowed from now on, the next fault enters. Except for wired
    entries: locked memory takes no fault.

    Locks:   entry map unlocked. Returns: same.
    Sleeps:  for the map.
    Returns: 0; EACCES - the mapping's max_protection forbids it, and nothing has changed.
    Source:  uvm_map.c.   Differs: no set_max.
    """
    vm_map_lock(map)
    header = map.header
    entry = first = _first_entry(map, start)
    while entry != header and entry.start < end:
        if new_prot & entry.max_protection != new_prot:
            vm_map_unlock(map)
            return EACCES
        entry = entry.next

    for entry in _entries(map, header, first, end):
        old_prot = entry.protection
        if old_prot != new_prot:
            entry.protection = new_prot
            mask = ~VM_PROT_WRITE if entry.etype & UVM_ET_COPYONWRITE else VM_PROT_ALL
            pmap_protect(map.pmap, entry.start, entry.end, new_prot & mask)
            if new_prot & ~old_prot and entry.wired_count != 0:
                uvm_fault_rewire(map, entry)
    vm_map_unlock(map)
    return 0


@kernel(exit="same")
def uvm_map_advice(map: VmMap, start: int, end: int, new_advice: int) -> int:
    """Say how a range will be used, which decides what a fault in it does to the pages around; holes are passed over.

    Locks:   entry map unlocked. Returns: same.
    Sleeps:  for the map.
    Returns: 0 or EINVAL.
    Source:  uvm_map.c.   Differs: looks at the advice before anything is done.
    """
    if new_advice not in (MADV_NORMAL, MADV_RANDOM, MADV_SEQUENTIAL):
        return EINVAL
    vm_map_lock(map)
    header = map.header
    for entry in _entries(map, header, _first_entry(map, start), end):
        if entry.advice != new_advice:
            entry.advice = new_advice
    vm_map_unlock(map)
    return 0


@kernel(exit="same")
def uvm_map_clean(map: VmMap, start: int, end: int, flags: int) -> int:
    """Write a range to its files (PGO_CLEANIT), deactivate its pages (PGO_DEACTIVATE), or free them (PGO_FREE).

    Wired pages stay as they are. Of anonymous memory, pages are freed only if no other map has it, and only if they
    need not be written (PGO_FREE alone); else they are deactivated. A file's pages are always written before
    they are freed: a process must not see the file's former contents there.

    Locks:   entry map not write-locked. Returns: same.
    Sleeps:  for the map; as pgo_flush does, with the map read-locked.
    Returns: 0; EFAULT - part of the range is not mapped; EBUSY - part of it is wired, and would have to be thrown out;
             EIO - something could not be written.
    Source:  uvm_map.c.   Differs: deactivated pages keep their mappings, as of the scanner's change of January 2001;
             busy pages are left alone. A page that is only given up, because others have it too, is unmapped here: UVM
             left it mapped, and showed what the others continued to write (erratum E50).
    """
    vm_map_lock_read(map)
    if not uvm_map_checkprot(map, start, end, VM_PROT_NONE):
        vm_map_unlock_read(map)
        return EFAULT
    _, entry = uvm_map_lookup_entry(map, start)
    if flags & (PGO_CLEANIT | PGO_FREE) == PGO_CLEANIT | PGO_FREE and _is_wired(entry, end):
        vm_map_unlock_read(map)
        return EBUSY
    error = 0
    while True:
        stop = min(end, entry.end)
        aref, uobj = aref_of(entry), entry.object
        if aref is not None and flags & (PGO_DEACTIVATE | PGO_FREE):
            _clean_amap(map, aref, entry.start, start, stop, flags)
        if uobj is not None:
            offset = entry.offset + start - entry.start
            clean = 0
            if flags & PGO_FREE and not erratum("uvm_map_clean.free-without-clean"):
                clean = PGO_CLEANIT | PGO_SYNCIO
            uobj.vmobjlock.lock()
            if not pgops_of(uobj).pgo_flush(uobj, offset, offset + stop - start, flags | clean):
                error = EIO
            uobj.vmobjlock.unlock()
        start = stop
        if start >= end:
            break
        entry = entry.next
    vm_map_unlock_read(map)
    return error


def _is_wired(entry: VmMapEntry, end: int) -> bool:
    """Is this entry wired, or one of the following before `end`? Locks: map."""
    while entry.wired_count == 0:
        if entry.end >= end:
            return False
        entry = entry.next
    return True


def _clean_amap(map: VmMap, aref: Aref, entry_start: int, start: int, end: int, flags: int) -> None:
    """uvm_map_clean()'s work on the anons of one entry. Locks: map(r)."""
    page_size = here.port.page_size
    amap_lock(aref.amap)
    anons = amap_lookups(aref, start - entry_start, (end - start) // page_size)
    if flags & (PGO_CLEANIT | PGO_FREE) != PGO_FREE or amap_refs(aref.amap) > 1:
        uvmfault_anonflush(anons)
        amap_unlock(aref.amap)
        return
    for va, anon in zip(range(start, end, page_size), anons, strict=True):
        if anon is None:
            continue
        anon.an_lock.lock()
        pg = anon.an_page
        if pg is not None:
            uvm_lock_pageq()
            wired = pg.wire_count != 0
            uvm_unlock_pageq()
            if not wired:
                amap_unadd(aref, va - entry_start)
                refs = anon.an_ref - 1
                anon.an_ref = refs
                if refs != 0 and not erratum("uvm_map_clean.given-up-page-stays-mapped"):
                    pmap_remove(map.pmap, va, va + page_size)  # the page is others' from now on
                anon.an_lock.unlock()
                if refs == 0:
                    uvm_anfree(anon)
                continue
        anon.an_lock.unlock()
    amap_unlock(aref.amap)


# -- wiring ----------------------------------------------------------------------------


def _hole_behind(entry: VmMapEntry, header: VmMapEntry, end: int) -> bool:
    """Is there a hole behind `entry` before `end`? Locks: map."""
    stop = entry.end
    if stop >= end:
        return False
    following = entry.next
    return following == header or following.start > stop


@kernel(exit="same")
def uvm_map_pageable(map: VmMap, start: int, end: int, new_pageable: bool) -> int:
    """Wire a range of a map (new_pageable False), or unwire it.

    Wiring takes two passes. Write-locked, all that needs a write lock is done:
    amaps are copied, entries clipped and counted. Then, read-locked and BUSY, the
    pages are faulted in: a thread that holds one of them BUSY may need the map to
    finish, so it must be able to read-lock it.

    One munlock undoes any number of mlocks (POSIX 1003.1b).

    Locks:   entry map unlocked. Returns: same.
    Sleeps:  for the map, and as uvm_fault() does.
    Returns: 0; EFAULT - nothing is mapped at `start`; EINVAL - a hole, inaccessible, or (unwiring) not wired;
             or as uvm_fault().
    Source:  uvm_map.c.   Differs: no lockflags. An entry that needs a copy gets it if it may ever be written to, as
             later; UVM of 2000 asked whether it can be now, see uvm_fault().
    """
    header = map.header
    vm_map_lock(map)
    mapped, start_entry = uvm_map_lookup_entry(map, start)
    if not mapped:
        vm_map_unlock(map)
        return EFAULT
    entry = start_entry

    if new_pageable:
        UVM_MAP_CLIP_START(map, entry, start)
        while entry != header and entry.start < end:
            if entry.wired_count == 0 or _hole_behind(entry, header, end):
                vm_map_unlock(map)
                return EINVAL
            entry = entry.next
        for entry in _entries(map, header, start_entry, end):
            uvm_map_entry_unwire(map, entry)
        vm_map_unlock(map)
        return 0

    # Pass 1.
    while entry != header and entry.start < end:
        if entry.wired_count == 0 and entry.etype & UVM_ET_NEEDSCOPY:
            if entry.max_protection & VM_PROT_WRITE or entry.object is None:
                amap_copy(map, entry)
        UVM_MAP_CLIP_START(map, entry, start)
        UVM_MAP_CLIP_END(map, entry, end)
        entry.wired_count += 1
        if entry.protection == VM_PROT_NONE or _hole_behind(entry, header, end):
            # The amaps may stay, but the counts must be as they were.
            while entry != header and entry.end > start:
                entry.wired_count -= 1
                entry = entry.prev
            vm_map_unlock(map)
            return EINVAL
        entry = entry.next

    # Pass 2.
    timestamp_save = map.timestamp
    vm_map_busy(map)
    vm_map_downgrade(map)
    rv = 0
    entry = start_entry
    while entry != header and entry.start < end:
        if entry.wired_count == 1:
            rv = uvm_fault_wire(map, entry.start, entry.end, entry.protection)
            if rv != 0:
                break
        entry = entry.next

    if rv != 0:
        vm_map_upgrade(map)
        vm_map_unbusy(map)
        if timestamp_save != map.timestamp:
            panic("uvm_map_pageable: stale map", map)
        # First the entries that were not wired yet, then those that were.
        failed_entry = entry
        while entry != header and entry.start < end:
            entry.wired_count -= 1
            entry = entry.next
        entry = start_entry
        while entry != failed_entry:
            count = entry.wired_count - 1
            entry.wired_count = count
            if count == 0:
                uvm_fault_unwire_locked(map, entry.start, entry.end)
            entry = entry.next
        vm_map_unlock(map)
        return rv

    vm_map_unbusy(map)
    vm_map_unlock_read(map)
    return 0
