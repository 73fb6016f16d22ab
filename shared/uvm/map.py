"""Maps: an address space as a sorted list of entries, and what is done to whole ranges of it.

    VmMap.header <-> entry <-> entry <-> ... <-> header     entries [start, end), in bytes, not overlapping

Rules: an entry's fields are written with its map write-locked, or before it is
linked. Every ordinary exclusive acquisition bumps the map's timestamp, so that
whoever has let go of the map can see whether it is still the one they looked up.

A map is BUSY while mlock(2) holds it read-locked and must not lose it: writers
then do not queue for the lock, where they would keep out the readers that
mlock may wait for, but set WANTLOCK and sleep ("vmmapbsy").

A context that holds a map read-locked and asks for it again holds it once: see
`nested` in fault_i.py. In lockmgr() each such request counts.

Kernel maps are in km.py. An interrupt-safe one has no other lock than its
interlock, no timestamp, and entries made at boot.

Left out: merging of entries (each mmap is an entry of its own), the choice of an
address (it is given), the first_free hint, ref_count (nobody refers to a map but what it is part of), WIREFUTURE,
pmap_copy, vfork.
Source: uvm_map.c 1.69, uvm_map_i.h 1.16, vm_map.h, of 2000.
"""

from __future__ import annotations

from typing import NamedTuple

from shared.port import SPL_IMP, erratum, here, kernel, panic, unrepaired
from shared.uvm.amap import (
    Aref,
    amap_alloc,
    amap_copy,
    amap_cow_now,
    amap_flags,
    amap_lock,
    amap_lookups,
    amap_ref,
    amap_refs,
    amap_share_protect,
    amap_splitref,
    amap_unadd,
    amap_unlock,
    amap_unref,
    aref_of,
)
from shared.uvm.anon import uvm_anfree
from shared.uvm.page import uvm_lock_pageq, uvm_unlock_pageq
from shared.uvm.param import (
    AMAP_SHARED,
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
    VM_MAP_BUSY,
    VM_MAP_INTRSAFE,
    VM_MAP_PAGEABLE,
    VM_MAP_WANTLOCK,
    VM_PROT_ALL,
    VM_PROT_NONE,
    VM_PROT_WRITE,
)
from shared.uvm.pgops import pgops_of
from shared.uvm.pmap import pmap_create, pmap_destroy, pmap_protect, pmap_remove
from shared.uvm.structs import Amap, PhysBuf, UvmObject, VmMap, VmMapEntry, VmMapIntrsafe, Vmspace, uvm

# -- locking ---------------------------------------------------------------------------


def vm_map_lock(map: VmMap) -> None:
    """Write-lock a map. Of an interrupt-safe one (whose VM_MAP_INTRSAFE never changes) that is the interlock alone.

    Sleeps:  while the map is BUSY ("vmmapbsy"), and for the lock.
    Source:  vm_map.h.   Differs: flags_lock is the interlock of the sleep, as later; in 2000 it was released before the
             sleep, and a wakeup in between was lost (erratum E57). LK_SLEEPFAIL (whoever had to wait for the lock
             looks at BUSY again) is the lock manager's: after a downgrade readers pass queued writers.
    """
    if isinstance(map, VmMapIntrsafe):
        map.lock.lock()
        return
    while True:
        map.flags_lock.lock()
        flags = map.flags
        if not flags & VM_MAP_BUSY:
            break
        if not flags & VM_MAP_WANTLOCK:
            map.flags = flags | VM_MAP_WANTLOCK
        if erratum("vm_map_lock.flags-unlocked-before-sleep"):
            map.flags_lock.unlock()
            here.port.sleep(map.addressof("flags"), "vmmapbsy", None)
        else:
            here.port.sleep(map.addressof("flags"), "vmmapbsy", map.flags_lock)
    map.flags_lock.unlock()
    map.lock.lock()
    map.timestamp += 1


def vm_map_lock_still(map: VmMap, start: int, end: int) -> None:
    """Write-lock a map when no device I/O is at work on [start, end).

    I/O that begins now waits for the lock before it looks at the map, so that no I/O need be excluded further.

    Sleeps:  for the I/O ("physmap"), and as vm_map_lock().
    Source:  none; the model's. UVM's munmap and fork did not wait (errata E61a, E61b).
    """
    while True:
        vm_map_lock(map)
        if map.physio is None:
            return
        map.flags_lock.lock()
        bp: PhysBuf | None = map.physio
        while bp is not None and (bp.b_end <= start or bp.b_start >= end):
            bp = bp.b_next
        if bp is None:
            map.flags_lock.unlock()
            return
        vm_map_unlock(map)
        here.port.sleep(map.addressof("physio"), "physmap", map.flags_lock)


def vm_map_unlock(map: VmMap) -> None:
    map.lock.unlock()


def vm_map_lock_read(map: VmMap) -> None:
    """Read-lock a map, which an interrupt-safe one cannot be. Source: vm_map.h, with DIAGNOSTIC."""
    if isinstance(map, VmMapIntrsafe):
        if not unrepaired("uvm_fault.intrsafe-looked-up"):
            panic("vm_map_lock_read: intrsafe map", map)
        map.lock.lock()
        return
    map.lock.lock_shared()


def vm_map_unlock_read(map: VmMap) -> None:
    map.lock.unlock()


def vm_map_downgrade(map: VmMap) -> None:
    """From a write lock to a read lock; the timestamp stays."""
    map.lock.downgrade()


def vm_map_upgrade(map: VmMap) -> None:
    """Back to a write lock; the timestamp stays. Locks: the map is read-locked and BUSY by the caller."""
    map.lock.upgrade()


def vm_map_busy(map: VmMap) -> None:
    """Keep writers from the lock's queue. Locks: entry map(w); same."""
    map.flags_lock.lock()
    map.flags |= VM_MAP_BUSY
    map.flags_lock.unlock()


def vm_map_unbusy(map: VmMap) -> None:
    """Undo vm_map_busy(), and wake the writers that saw it. Locks: entry map(r) or (w); same."""
    map.flags_lock.lock()
    oflags = map.flags
    map.flags = oflags & ~(VM_MAP_BUSY | VM_MAP_WANTLOCK)
    map.flags_lock.unlock()
    if oflags & VM_MAP_WANTLOCK:
        here.port.wakeup(map.addressof("flags"))


# -- entries ---------------------------------------------------------------------------

_COPIED = (
    "start", "end", "object", "offset", "etype", "protection", "max_protection", "inheritance", "wired_count",
    "aref_amap", "aref_pageoff", "advice",
)  # fmt: skip


class DeadEntry(NamedTuple):
    """An entry taken out of its map, and what it still refers to: an amap, for `size` bytes, and an object."""

    entry: VmMapEntry
    aref: Aref | None
    size: int
    uobj: UvmObject | None


def uvm_mapent_alloc(map: VmMap) -> VmMapEntry:
    """A new entry, to be filled and linked into `map`.

    An interrupt-safe map gets one of those made at boot, as to allocate memory takes such a map itself.

    Locks:   takes kentry_lock, at splimp, if the map is interrupt-safe.
    Source:  uvm_map.c.
    """
    if not isinstance(map, VmMapIntrsafe):
        me = here.port.alloc(VmMapEntry)
        me.map = map
        return me
    s = here.port.splraise(SPL_IMP)
    uvm.kentry_lock.lock()
    static = uvm.kentry_free
    if static is not None:
        uvm.kentry_free = static.free_next
        here.port.claim(static)
    uvm.kentry_lock.unlock()
    here.port.spl(s)
    if static is None:
        panic("mapent_alloc: out of static map entries, check MAX_KMAPENT", map)
    assert static is not None
    static.map = map
    return static


def uvm_mapent_free(me: VmMapEntry) -> None:
    """Free an entry that is in no map; it goes where it came from. Source: uvm_map.c."""
    if not isinstance(me.map, VmMapIntrsafe):
        here.port.free(me)
        return
    fresh = here.port.renew(me)
    s = here.port.splraise(SPL_IMP)
    uvm.kentry_lock.lock()
    fresh.free_next = uvm.kentry_free
    uvm.kentry_free = fresh
    uvm.kentry_lock.unlock()
    here.port.spl(s)


def uvm_mapent_copy(src: VmMapEntry, map: VmMap) -> VmMapEntry:
    """A new entry for `map` with everything of `src` but its place. Locks: src's map."""
    me = uvm_mapent_alloc(map)
    for name in _COPIED:
        value = getattr(src, name)
        if value is not None:
            setattr(me, name, value)
    return me


def _ref_object(entry: VmMapEntry) -> UvmObject | None:
    """Gain a reference to the object of an entry that is a copy of another; None if it has none. Locks: its map."""
    uobj = entry.object
    if uobj is not None:
        pgops_of(uobj).pgo_reference(uobj)
    return uobj


def uvm_map_entry_link(map: VmMap, after_where: VmMapEntry, entry: VmMapEntry) -> None:
    """Insert `entry` behind another. Locks: map(w)."""
    map.nentries += 1
    following = after_where.next
    entry.prev = after_where
    entry.next = following
    following.prev = entry
    after_where.next = entry


def uvm_map_entry_unlink(map: VmMap, entry: VmMapEntry) -> None:
    """Remove `entry`. Locks: map(w)."""
    map.nentries -= 1
    following, before = entry.next, entry.prev
    following.prev = before
    before.next = following


def SAVE_HINT(map: VmMap, value: VmMapEntry) -> None:
    """Begin the next lookup at this entry. Locks: map, so that the entry stays."""
    map.hint_lock.lock()
    map.hint = value
    map.hint_lock.unlock()


@kernel(exit="same")
def uvm_map_lookup_entry(map: VmMap, address: int) -> tuple[bool, VmMapEntry]:
    """Find the entry at or before an address.

    Locks:   entry map(r) at least. Returns: same.
    Returns: (True, the entry that contains the address), or (False, the one before it or the header).
    Source:  uvm_map.c.   Differs: the hint is stored only if it has changed.
    """
    header = map.header
    map.hint_lock.lock()
    hint = map.hint
    map.hint_lock.unlock()

    cur = header.next if hint == header else hint
    last = header
    if cur != header:
        if address >= cur.start:  # from the hint to the end; it is usually the hint itself
            if cur.end > address:
                return True, cur
            cur = cur.next
        else:  # from the start to the hint, inclusively
            last = cur.next
            cur = header.next

    while cur != last:
        if cur.end > address:
            if address >= cur.start:
                if cur != hint:
                    SAVE_HINT(map, cur)
                return True, cur
            break
        cur = cur.next
    entry = cur.prev
    if entry != hint:
        SAVE_HINT(map, entry)
    return False, entry


def UVM_MAP_CLIP_START(map: VmMap, entry: VmMapEntry, start: int) -> None:
    """Make `entry` begin at `start` or later. Locks: map(w)."""
    if start > entry.start:
        uvm_map_clip_start(map, entry, start)


def UVM_MAP_CLIP_END(map: VmMap, entry: VmMapEntry, end: int) -> None:
    """Make `entry` end at `end` or before. Locks: map(w)."""
    if end < entry.end:
        uvm_map_clip_end(map, entry, end)


@kernel(exit="same")
def uvm_map_clip_start(map: VmMap, entry: VmMapEntry, start: int) -> None:
    """Split an entry at `start`; the new one comes before it, so that `entry` keeps the end.

    Locks:   entry map(w). Returns: same.
    Source:  uvm_map.c.
    """
    new_entry = uvm_mapent_copy(entry, map)
    new_entry.end = start
    aref = aref_of(new_entry)
    if aref is not None:
        entry.aref_pageoff = amap_splitref(aref, start - new_entry.start).pageoff
    if _ref_object(new_entry) is not None:
        entry.offset += start - new_entry.start
    entry.start = start
    uvm_map_entry_link(map, entry.prev, new_entry)


@kernel(exit="same")
def uvm_map_clip_end(map: VmMap, entry: VmMapEntry, end: int) -> None:
    """Split an entry at `end`; the new one comes after it, so that `entry` keeps the start.

    Locks:   entry map(w). Returns: same.
    Source:  uvm_map.c.
    """
    new_entry = uvm_mapent_copy(entry, map)
    new_entry.start = end
    entry.end = end
    aref = aref_of(entry)
    if aref is not None:
        new_entry.aref_pageoff = amap_splitref(aref, end - entry.start).pageoff
    if _ref_object(new_entry) is not None:
        new_entry.offset += end - entry.start
    uvm_map_entry_link(map, entry, new_entry)


# -- mapping and unmapping -------------------------------------------------------------


def uvm_map_findspace(map: VmMap, start: int, length: int) -> VmMapEntry | None:
    """The entry behind which [start, start + length) can be mapped, or None if it cannot. Locks: map.

    Source:  uvm_map.c.   Differs: always "fixed".
    """
    if start < map.min_offset or start + length > map.max_offset:
        return None
    found, entry = uvm_map_lookup_entry(map, start)
    if found:
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
    from shared.uvm.fault_wire import uvm_fault_unwire_locked

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
    from shared.uvm.km import uvm_km_unmap_object

    header, pmap = map.header, map.pmap
    found, entry = uvm_map_lookup_entry(map, start)
    if found:
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
    found, entry = uvm_map_lookup_entry(map, start)
    if not found:
        return False
    while start < end:
        if entry == header or start < entry.start:
            return False
        if protection != VM_PROT_NONE and entry.protection & protection != protection:
            return False
        start = entry.end
        entry = entry.next
    return True


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
    found, entry = uvm_map_lookup_entry(map, start)
    if found:
        UVM_MAP_CLIP_START(map, entry, start)
    else:
        entry = entry.next
    while entry != header and entry.start < end:
        UVM_MAP_CLIP_END(map, entry, end)
        if entry.inheritance != new_inheritance:
            entry.inheritance = new_inheritance
        entry = entry.next
    vm_map_unlock(map)
    return 0


@kernel(exit="same")
def uvm_map_protect(map: VmMap, start: int, end: int, new_prot: int) -> int:
    """Change the protection of a range; holes in it are passed over.

    Translations are only ever narrowed here: what is allowed from now on, the next fault enters. But for wired entries:
    locked memory takes no fault.

    Locks:   entry map unlocked. Returns: same.
    Sleeps:  for the map.
    Returns: 0; EACCES - the mapping's max_protection forbids it, and nothing has changed.
    Source:  uvm_map.c.   Differs: no set_max.
    """
    from shared.uvm.fault_wire import uvm_fault_rewire

    vm_map_lock(map)
    header = map.header
    found, first = uvm_map_lookup_entry(map, start)
    if found:
        UVM_MAP_CLIP_START(map, first, start)
    else:
        first = first.next

    entry = first
    while entry != header and entry.start < end:
        if new_prot & entry.max_protection != new_prot:
            vm_map_unlock(map)
            return EACCES
        entry = entry.next

    entry = first
    while entry != header and entry.start < end:
        UVM_MAP_CLIP_END(map, entry, end)
        old_prot = entry.protection
        if old_prot != new_prot:
            entry.protection = new_prot
            mask = ~VM_PROT_WRITE if entry.etype & UVM_ET_COPYONWRITE else VM_PROT_ALL
            pmap_protect(map.pmap, entry.start, entry.end, new_prot & mask)
            if new_prot & ~old_prot and entry.wired_count != 0:
                uvm_fault_rewire(map, entry)
        entry = entry.next
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
    found, entry = uvm_map_lookup_entry(map, start)
    if found:
        UVM_MAP_CLIP_START(map, entry, start)
    else:
        entry = entry.next
    while entry != header and entry.start < end:
        UVM_MAP_CLIP_END(map, entry, end)
        if entry.advice != new_advice:
            entry.advice = new_advice
        entry = entry.next
    vm_map_unlock(map)
    return 0


@kernel(exit="same")
def uvm_map_clean(map: VmMap, start: int, end: int, flags: int) -> int:
    """Write a range to its files (PGO_CLEANIT), deactivate its pages (PGO_DEACTIVATE), or free them (PGO_FREE).

    Wired pages stay as they are. Of anonymous memory, pages are freed only if nobody else has it, and only if they
    need not be written (PGO_FREE alone); else they are deactivated. A file's pages are always written before
    they are freed: what the file had there before is not for everybody's eyes.

    Locks:   entry map not write-locked. Returns: same.
    Sleeps:  for the map; as pgo_flush does, with the map read-locked.
    Returns: 0; EFAULT - part of the range is not mapped; EBUSY - part of it is wired, and would have to be thrown out;
             EIO - something could not be written.
    Source:  uvm_map.c.   Differs: deactivated pages keep their mappings, as of the scanner's change of January 2001;
             busy ones are left alone. A page that is only given up, because others have it too, is unmapped here: UVM
             left it mapped, and showed what the others went on to write (erratum E50).
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
    from shared.uvm.fault import uvmfault_anonflush

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
    from shared.uvm.fault_wire import uvm_fault_unwire_locked, uvm_fault_wire

    header = map.header
    vm_map_lock(map)
    found, start_entry = uvm_map_lookup_entry(map, start)
    if not found:
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
        entry = start_entry
        while entry != header and entry.start < end:
            UVM_MAP_CLIP_END(map, entry, end)
            uvm_map_entry_unwire(map, entry)
            entry = entry.next
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


# -- address spaces ----------------------------------------------------------------------


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


@kernel(exit="same")
def uvmspace_alloc(vmin: int, vmax: int) -> Vmspace:
    """A new, empty address space with a pmap of its own. Source: uvm_map.c."""
    vm = here.port.alloc(Vmspace)
    vm.vm_map = uvm_map_create(pmap_create(), vmin, vmax, VM_MAP_PAGEABLE)
    return vm


@kernel(exit="same")
def uvmspace_free(vm: Vmspace) -> None:
    """Unmap everything, and free an address space that no thread uses any more.

    Locks:   entry map unlocked.
    Source:  uvm_map.c.   Differs: no reference count, the last thread to exit calls it; the map is unlocked
             before it is freed.
    """
    map = vm.vm_map
    vm_map_lock(map)
    dead = uvm_unmap_remove(map, map.min_offset, map.max_offset)
    vm_map_unlock(map)
    uvm_unmap_detach(dead)
    pmap_destroy(map.pmap)
    here.port.free(map.header)
    here.port.free(map)
    here.port.free(vm)


@kernel(exit="same")
def uvmspace_fork(vm1: Vmspace) -> Vmspace:
    """Make a child's address space from its parent's, entry by entry as their inheritance says.

    NONE: nothing. SHARE: both entries refer to one amap, from now on AMAP_SHARED.
    COPY: copy on write. It is put off (both sides "need copy", the parent is
    write-protected) unless the parent's amap is shared, when the parent must keep it,
    or the parent is wired and must not fault. What is wired is copied at once, whoever of
    those who share it has wired it.

    Locks:   entry parent's map unlocked. Returns: same. The child's map needs no lock: nobody knows it yet.
    Sleeps:  for the map, and for device I/O to it; in amap_cow_now(), with the map locked.
    Source:  uvm_map.c.   Differs: no pmap_copy, the child starts without translations. A parent that shares its
             amap is not marked "needs copy": UVM did so, and with its next write it left the sharing (erratum E60).
             Instead all who share it are write-protected, which is what amap_share_protect() is for.
    """
    old_map = vm1.vm_map
    if erratum("uvmspace_fork.ignores-device-io"):
        vm_map_lock(old_map)
    else:
        vm_map_lock_still(old_map, old_map.min_offset, old_map.max_offset)
    vm2 = uvmspace_alloc(old_map.min_offset, old_map.max_offset)
    new_map = vm2.vm_map
    old_header, last = old_map.header, new_map.header
    size = 0
    old_entry = old_header.next
    while old_entry != old_header:
        etype = old_entry.etype
        if etype & (UVM_ET_COPYONWRITE | UVM_ET_NEEDSCOPY) == UVM_ET_NEEDSCOPY:
            panic("fork: non-copy_on_write map entry marked needs_copy (illegal)", old_entry)
        inheritance = old_entry.inheritance
        if inheritance != MAP_INHERIT_NONE:
            if inheritance == MAP_INHERIT_SHARE:
                new_entry = _fork_share(old_map, old_entry, etype, new_map)
            else:
                new_entry = _fork_copy(old_map, old_entry, etype, new_map)
            uvm_map_entry_link(new_map, last, new_entry)
            last = new_entry
            size += new_entry.end - new_entry.start
        old_entry = old_entry.next
    new_map.size = size
    vm_map_unlock(old_map)
    return vm2


def _fork_share(old_map: VmMap, old_entry: VmMapEntry, etype: int, new_map: VmMap) -> VmMapEntry:
    """The child's entry for one with inheritance SHARE. Locks: parent's map(w)."""
    if etype & UVM_ET_NEEDSCOPY:
        amap_copy(old_map, old_entry)  # get our own amap, to have something to share
    new_entry = uvm_mapent_copy(old_entry, new_map)
    if new_entry.wired_count != 0:
        new_entry.wired_count = 0  # a new pmap has nothing wired in it
    aref = aref_of(new_entry)
    if aref is not None:
        amap_ref(aref, new_entry.end - new_entry.start, AMAP_SHARED)
    _ref_object(new_entry)
    return new_entry


def _fork_copy(old_map: VmMap, old_entry: VmMapEntry, etype: int, new_map: VmMap) -> VmMapEntry:
    """The child's entry for one with inheritance COPY. Locks: parent's map(w)."""
    new_entry = uvm_mapent_copy(old_entry, new_map)
    new_entry.etype = etype | UVM_ET_COPYONWRITE | UVM_ET_NEEDSCOPY
    wired = new_entry.wired_count != 0
    if wired:
        new_entry.wired_count = 0  # a new pmap has nothing wired in it
    _ref_object(new_entry)
    aref = aref_of(new_entry)
    if aref is None:
        return new_entry
    amap = aref.amap
    amap_ref(aref, new_entry.end - new_entry.start, 0)
    putting_off = erratum("uvmspace_fork.sharing-parent-needs-copy")
    shared = bool(amap_flags(amap) & AMAP_SHARED) or not (putting_off or etype & UVM_ET_COPYONWRITE)
    if shared or wired:
        amap_copy(new_map, new_entry)
        if wired or not (putting_off or erratum("amap_add.wired-elsewhere")):
            amap_cow_now(new_map, new_entry, wired)
    if wired:
        return new_entry  # nothing changes for the parent
    if shared and not putting_off:
        locking = not erratum("uvmspace_fork.shared-amap-unlocked")
        if locking:
            amap_lock(amap)
        amap_share_protect(old_entry, old_entry.protection & ~VM_PROT_WRITE)
        if locking:
            amap_unlock(amap)
    elif not etype & UVM_ET_NEEDSCOPY:
        if old_entry.max_protection & VM_PROT_WRITE:
            pmap_protect(old_map.pmap, old_entry.start, old_entry.end, old_entry.protection & ~VM_PROT_WRITE)
        old_entry.etype = etype | UVM_ET_NEEDSCOPY
    return new_entry
