"""Map entries: the locks of a map, and its list of entries, looked up, linked and clipped.

What map.py, map_fork.py and km.py build on; a fault needs no more of a map than this.

A map is BUSY while mlock(2) holds it read-locked and must not lose it: writers
then do not queue for the lock, where they would keep out the readers that
mlock may wait for, but set WANTLOCK and sleep ("vmmapbsy").

Source: uvm_map.c 1.69, uvm_map_i.h 1.16, vm_map.h, of 2000. Left out: see map.py.
"""

from __future__ import annotations

from shared.port.port import SPL_IMP, erratum, here, kernel, panic, unrepaired
from shared.port.struct import assign_field, read_field
from shared.uvm.amap import amap_splitref, aref_of
from shared.uvm.param import VM_MAP_BUSY, VM_MAP_WANTLOCK
from shared.uvm.pgops import pgops_of
from shared.uvm.structs import PhysBuf, UvmObject, VmMap, VmMapEntry, VmMapIntrsafe, uvm

# -- locking -----------------------------------------------------------------------------


def vm_map_lock(map: VmMap) -> None:
    """Write-lock a map. Of an interrupt-safe one (whose VM_MAP_INTRSAFE never changes) that is the interlock alone.

    Sleeps:  while the map is BUSY ("vmmapbsy"), and for the lock.
    Source:  vm_map.h.   Differs: flags_lock is the interlock of the sleep, as later; in 2000 it was released before the
             sleep, and a wakeup in between was lost (erratum E57). LK_SLEEPFAIL (a thread that had to wait for the lock
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


# -- entries -----------------------------------------------------------------------------


_COPIED = (
    "start", "end", "object", "offset", "etype", "protection", "max_protection", "inheritance", "wired_count",
    "aref_amap", "aref_pageoff", "advice",
)  # fmt: skip


def uvm_mapent_alloc(map: VmMap) -> VmMapEntry:
    """A new entry, to be filled and linked into `map`.

    An interrupt-safe map gets one of those made at boot, since allocating memory takes such a map itself.

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
        value = read_field(src, name)
        if value is not None:
            assign_field(me, name, value)
    return me


def ref_object(entry: VmMapEntry) -> UvmObject | None:
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


# -- looking up, clipping ----------------------------------------------------------------


def SAVE_HINT(map: VmMap, value: VmMapEntry) -> None:
    """Begin the next lookup at this entry. Locks: map, so that the entry stays."""
    map.hint_lock.lock()
    map.hint = value
    map.hint_lock.unlock()


@kernel(exit="same")
def uvm_map_lookup_entry(map: VmMap, address: int) -> tuple[bool, VmMapEntry]:
    """Find the entry at or before an address.

    Locks:   entry map(r) at least. Returns: same.
    Returns: (True, the entry that contains the address), or (False, the entry before it or the header).
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
    if ref_object(new_entry) is not None:
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
    if ref_object(new_entry) is not None:
        new_entry.offset += end - entry.start
    uvm_map_entry_link(map, entry, new_entry)
