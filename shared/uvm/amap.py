"""Amaps: which anon is behind each page of a range of an address space.

    am_anon[]     slot -> anon, or None
    am_slots[]    0 .. am_nused-1, packed: the slots in use
    am_bckptr[]   slot -> its place in am_slots[], if in use

Rules: only this module and amap_pp.py touch the fields of an amap (the rest of the
kernel locks it with amap_lock() and asks), and for every slot x in use,
am_slots[am_bckptr[x]] == x.

Offsets are bytes from the start of a map entry; an `Aref` is a local copy of
the entry's aref, good for as long as the map is locked.

Left out: amap_extend (uvm_map does not merge), the clipping of huge lazy amaps
in chunks, allocation that fails (kernel memory does not run short).
Source: uvm_amap.c 1.22 to 1.28, uvm_amap_i.h 1.14.
"""

from __future__ import annotations

from typing import NamedTuple

from shared.port.port import LOCK_ASSERT, erratum, here, kernel, panic, unrepaired
from shared.port.struct import assign_field, unlocked
from shared.uvm.amap_pp import amap_pp_adjref, amap_pp_establish, amap_takeout
from shared.uvm.anon import uvm_analloc, uvm_anfree
from shared.uvm.page import (
    uvm_lock_pageq,
    uvm_page_unbusy,
    uvm_page_wait,
    uvm_pageactivate,
    uvm_pagealloc,
    uvm_pagecopy,
    uvm_pagewirings,
    uvm_unlock_pageq,
)
from shared.uvm.param import AMAP_SHARED, PG_BUSY, PG_FAKE, PQ_ANON, UVM_ET_NEEDSCOPY, VM_PROT_NONE
from shared.uvm.pmap_page import pmap_page_protect
from shared.uvm.structs import Amap, AmapArray, Anon, Page, VmMap, VmMapEntry
from shared.uvm.wait import uvm_wait


class Aref(NamedTuple):
    """struct vm_aref: an amap, and the slot (in pages) at which a map entry begins in it."""

    amap: Amap
    pageoff: int


def aref_of(entry: VmMapEntry) -> Aref | None:
    """entry->aref; None if the entry has no amap. Locks: the entry's map."""
    amap = entry.aref_amap
    return None if amap is None else Aref(amap, entry.aref_pageoff)


def amap_lock(amap: Amap) -> None:
    amap.am_l.lock()


def amap_unlock(amap: Amap) -> None:
    amap.am_l.unlock()


def amap_flags(amap: Amap) -> int:
    """AMAP_SHARED or 0. Locks: none; the answer is a hint unless the amap is locked."""
    return amap.am_flags


def amap_refs(amap: Amap) -> int:
    """Number of map entries that refer to the amap. Locks: as amap_flags()."""
    return amap.am_ref


# -- life and death --------------------------------------------------------------------


def amap_alloc1(slots: int) -> Amap:
    """Allocate an amap with `slots` empty slots. Returns: it, unlocked, with one reference."""
    amap = here.port.alloc(Amap)
    amap.am_ref = 1
    amap.am_flags = 0
    amap.am_maxslot = slots
    amap.am_nslot = slots
    amap.am_nused = 0
    for name in ("am_slots", "am_bckptr", "am_anon"):
        array = here.port.alloc(AmapArray, slots)
        array.amap = amap
        assign_field(amap, name, array)
    return amap


@kernel(exit="same")
def amap_alloc(sz: int) -> Amap:
    """Allocate an amap for `sz` bytes of anonymous memory.

    Returns: the amap, empty, unlocked, with one reference.
    Source:  uvm_amap.c.   Differs: no padding, never fails.
    """
    return amap_alloc1(sz // here.port.page_size)


@kernel()
def amap_free(amap: Amap) -> None:
    """Free an amap.

    Locks:   entry amap. Returns: the amap and its lock are gone.
    Source:  uvm_amap.c.
    """
    LOCK_ASSERT(amap.am_l.held(), "simple_lock_held(&amap->am_l)", amap)
    if amap.am_ref != 0 or amap.am_nused != 0:
        panic("amap_free", amap)
    ppref = amap.am_ppref
    if ppref is not None:
        here.port.free(ppref)
    for array in (amap.am_slots, amap.am_bckptr, amap.am_anon):
        here.port.free(array)
    amap_unlock(amap)  # mainly for lock debugging
    here.port.free(amap)


@kernel()
def amap_wipeout(amap: Amap) -> None:
    """Drop every anon of an amap, and the amap itself.

    Locks:   entry amap. Returns: the amap and its lock are gone.
    Source:  uvm_amap.c.   Differs: the anon's count is looked at with the anon locked.
    """
    LOCK_ASSERT(amap.am_l.held(), "simple_lock_held(&amap->am_l)", amap)
    am_slots, am_anon = amap.am_slots, amap.am_anon
    for lcv in range(amap.am_nused):
        anon: Anon = am_anon[am_slots[lcv]]
        if anon is None:
            panic("amap_wipeout: corrupt amap", amap)
            continue
        anon.an_lock.lock()
        refs = anon.an_ref - 1
        if refs < 0:
            panic("amap_wipeout: corrupt amap", anon)
        anon.an_ref = refs
        anon.an_lock.unlock()
        if refs == 0:
            uvm_anfree(anon)
    amap.am_ref = 0  # was one
    amap.am_nused = 0
    amap_free(amap)


def amap_ref(aref: Aref, sz: int, flags: int) -> None:
    """Gain a reference to `sz` bytes; with AMAP_SHARED the amap is shared from now on.

    Locks:   entry amap unlocked. Returns: same.
    Source:  uvm_amap_i.h.   Differs: does not ask whether it is to part of the amap only, since amap_splitref() has.
    """
    amap = aref.amap
    amap_lock(amap)
    amap.am_ref += 1
    if flags & AMAP_SHARED:
        was = amap.am_flags
        if not was & AMAP_SHARED:
            amap.am_flags = was | AMAP_SHARED
    if amap.am_ppref is None and erratum("amap_ref.whole-taken-for-part"):
        amap_pp_establish(amap)  # the new reference is counted already
    if amap.am_ppref is not None:
        amap_pp_adjref(amap, aref.pageoff, sz // here.port.page_size, 1)
    amap_unlock(amap)


@kernel(exit="same")
def amap_unref(aref: Aref, sz: int) -> None:
    """Drop the reference, to `sz` bytes, of a map entry that is in no map any more; the last one takes the amap along.

    Locks:   entry amap unlocked; no mapping is left of the entry.
    Source:  uvm_amap_i.h.   Differs: as amap_ref().
    """
    amap = aref.amap
    locking = not erratum("amap_unref.amap-unlocked")
    if locking:
        amap_lock(amap)
    refs = amap.am_ref
    if refs == 1:
        amap_wipeout(amap)  # drops the final reference, and unlocks
        return
    _drop_ref(aref, sz, refs)
    if locking:
        amap_unlock(amap)


def _drop_ref(aref: Aref, sz: int, refs: int) -> None:
    """From `refs` references to one less; an amap with one reference is not shared. Locks: amap."""
    amap = aref.amap
    amap.am_ref = refs - 1
    if refs == 2:
        flags = amap.am_flags
        if flags & AMAP_SHARED:
            amap.am_flags = flags & ~AMAP_SHARED
    if amap.am_ppref is not None:
        amap_pp_adjref(amap, aref.pageoff, sz // here.port.page_size, -1)


@kernel(exit="same")
def amap_splitref(aref: Aref, offset: int) -> Aref:
    """Split one reference in two, `offset` bytes after its start.

    Locks:   entry map(w), amap unlocked. Returns: same.
    Returns: the reference to the upper part.
    Source:  uvm_amap.c.
    """
    amap = aref.amap
    leftslots = offset // here.port.page_size
    if leftslots == 0:
        panic("amap_splitref: split at zero offset", amap)
    amap_lock(amap)
    if amap.am_nslot - aref.pageoff - leftslots <= 0:
        panic("amap_splitref: map size check failed", amap)
    if amap.am_ppref is None:
        amap_pp_establish(amap)
    amap.am_ref += 1  # not a share reference
    amap_unlock(amap)
    return Aref(amap, aref.pageoff + leftslots)


# -- one slot ----------------------------------------------------------------------------


def _slot(aref: Aref, offset: int, npages: int, who: str) -> int:
    """AMAP_B2SLOT: the slot of byte `offset`, checked to have `npages` slots from there on."""
    slot = aref.pageoff + offset // here.port.page_size
    if slot < 0 or slot + npages > aref.amap.am_nslot:  # (in UVM a slot is unsigned)
        panic(f"{who}: offset out of range", aref.amap)
    return slot


def amap_lookup(aref: Aref, offset: int) -> Anon | None:
    """The anon at `offset`, if any. Locks: amap."""
    slot = _slot(aref, offset, 1, "amap_lookup")
    anon: Anon | None = aref.amap.am_anon[slot]
    return anon


def amap_lookups(aref: Aref, offset: int, npages: int) -> list[Anon | None]:
    """The anons of `npages` pages from `offset` on. Locks: amap."""
    slot = _slot(aref, offset, npages, "amap_lookups")
    am_anon = aref.amap.am_anon
    return [am_anon[slot + lcv] for lcv in range(npages)]


@kernel(exit="same")
def amap_add(aref: Aref, offset: int, anon: Anon, replace: bool) -> None:
    """Put an anon into an amap, where there is none or (`replace`) instead of another.

    Locks:   entry map(r), amap; the displaced anon if `replace`. Returns: same.
    Source:  uvm_amap_i.h.
    """
    amap = aref.amap
    slot = _slot(aref, offset, 1, "amap_add")
    am_anon = amap.am_anon
    old: Anon | None = am_anon[slot]
    if replace:
        if old is None:
            panic("amap_add: replacing null anon", amap)
        elif amap.am_flags & AMAP_SHARED:
            pg = old.an_page
            if pg is not None:
                pmap_page_protect(pg, VM_PROT_NONE)  # all who share the amap are to see the new page
    else:
        if old is not None:
            panic("amap_add: slot in use", amap)
        nused = amap.am_nused
        amap.am_bckptr[slot] = nused
        amap.am_slots[nused] = slot
        amap.am_nused = nused + 1
    am_anon[slot] = anon


@kernel(exit="same")
def amap_unadd(aref: Aref, offset: int) -> None:
    """Take an anon out of an amap; its reference is the caller's.

    Locks:   entry map(r), amap. Returns: same.
    Source:  uvm_amap_i.h.
    """
    amap = aref.amap
    slot = _slot(aref, offset, 1, "amap_unadd")
    if amap.am_anon[slot] is None:
        panic("amap_unadd: nothing there", amap)
    amap_takeout(amap, slot)


# -- copy on write -----------------------------------------------------------------------


@kernel(exit="same")
def amap_copy(map: VmMap, entry: VmMapEntry) -> None:
    """Clear the "needs copy" of a map entry: give it an amap of its own.

    An entry without an amap gets an empty one; an amap to which no other entry
    refers is taken over; any other is copied, each anon gaining a reference.

    Locks:   entry map(w) or a map that no other thread knows yet; the entry's amap unlocked. Returns: same.
    Source:  uvm_amap.c.   Differs: never fails. An unused new amap is locked before it is freed: since
             1.28 amap_free() asserts that, and 1.22 did not.
    """
    srcamap = entry.aref_amap
    if srcamap is None:
        entry.aref_pageoff = 0
        entry.aref_amap = amap_alloc(entry.end - entry.start)
        entry.etype &= ~UVM_ET_NEEDSCOPY
        return

    # The count is read unlocked: if it is one, the reference is ours, and only our locked map could add another.
    if srcamap.am_ref == 1:
        entry.etype &= ~UVM_ET_NEEDSCOPY
        return

    slots = (entry.end - entry.start) // here.port.page_size
    pageoff = entry.aref_pageoff
    amap = amap_alloc1(slots)
    amap_lock(srcamap)
    refs = srcamap.am_ref
    if refs == 1:  # the others have gone while we were allocating: take it over
        entry.etype &= ~UVM_ET_NEEDSCOPY
        amap_unlock(srcamap)
        if not erratum("amap_copy.unused-amap-unlocked"):
            amap_lock(amap)
        amap.am_ref = 0
        amap_free(amap)
        return

    src_anon, am_anon, am_bckptr, am_slots = srcamap.am_anon, amap.am_anon, amap.am_bckptr, amap.am_slots
    nused = 0
    for lcv in range(slots):
        anon: Anon | None = src_anon[pageoff + lcv]
        if anon is None:
            continue
        anon.an_lock.lock()
        anon.an_ref += 1
        anon.an_lock.unlock()
        am_anon[lcv] = anon
        am_bckptr[lcv] = nused
        am_slots[nused] = lcv
        nused += 1
    if nused != 0:
        amap.am_nused = nused
    _drop_ref(Aref(srcamap, pageoff), slots * here.port.page_size, refs)  # it has another reference, and stays
    amap_unlock(srcamap)

    entry.aref_pageoff = 0
    entry.aref_amap = amap
    entry.etype &= ~UVM_ET_NEEDSCOPY


@kernel(exit="same")
def amap_cow_now(map: VmMap, entry: VmMapEntry, whole: bool) -> None:
    """Resolve copy-on-write faults of a child's entry at once, because the parent's pages are wired.

    The parent must not fault, so its pages cannot be write-protected: the child
    gets its copies now. An anon with one reference is the child's already: a copy
    made before a restart, which is not wired and need not be resident any more.

    So what map entries have wired belongs to one amap, and is in no other; nor is it on loan (shared/uvm/loan.py).

    Args:
        whole: the parent's entry is wired. Else only pages are copied that are wired: by another process that
            shares the amap with the parent.

    Locks:   entry parent's map(w), child's map unknown to others or (w); amap, page queues unlocked. Returns: same.
    Sleeps:  busy page ("cownow"), uvm_wait ("cownowpage"), both *with the maps locked*; then it starts over,
             since the amap was unlocked.
    Source:  uvm_amap.c 1.28; the check of an_ref before that of the page is 1.107's.
    Differs: UVM looked at wired entries only: the wiring of a page that another thread then replaced was lost.
    """
    amap = entry.aref_amap
    assert amap is not None
    am_slots, am_anon = amap.am_slots, amap.am_anon
    late = unrepaired("amap_cow_now.nanon-freed-locked")  # the new anon is locked on the error path only

    while True:  # ReStart
        amap_lock(amap)
        for lcv in range(amap.am_nused):
            slot = am_slots[lcv]
            anon: Anon = am_anon[slot]
            anon.an_lock.lock()
            refs = anon.an_ref
            pg = anon.an_page
            if pg is None:
                if whole and (refs > 1 or erratum("amap_cow_now.restart-own-copy")):
                    panic("amap_cow_now: non-resident wired page in anon", anon)
            elif refs > 1 and (whole or amap_wired(pg)):
                flags = pg.flags
                if flags & PG_BUSY:
                    amap_unlock(amap)
                    uvm_page_wait(pg, flags, "cownow", anon.an_lock)
                    break

                nanon = uvm_analloc()
                npg = None
                if nanon is not None:
                    if not late:
                        nanon.an_lock.lock()
                    npg = uvm_pagealloc(None, 0, nanon)
                if nanon is None or npg is None:
                    if nanon is not None:
                        if erratum("amap_cow_now.nanon-freed-locked"):
                            nanon.an_lock.lock()
                        else:
                            nanon.an_ref -= 1
                            nanon.an_lock.unlock()
                        uvm_anfree(nanon)
                    anon.an_lock.unlock()
                    amap_unlock(amap)
                    uvm_wait("cownowpage")
                    break

                uvm_pagecopy(pg, npg)  # old -> new; clears PG_CLEAN
                anon.an_ref = refs - 1  # cannot drop to zero
                am_anon[slot] = nanon
                uvm_page_unbusy(npg, npg.flags & ~PG_FAKE)
                uvm_lock_pageq()
                uvm_pageactivate(npg)
                uvm_unlock_pageq()
                if not late:
                    nanon.an_lock.unlock()
            anon.an_lock.unlock()
        else:
            if not erratum("amap_cow_now.returns-amap-locked"):
                amap_unlock(amap)
            return


def amap_wired(pg: Page) -> bool:
    """Have map entries wired this page of an anon? That is, by the anon: not by the object that lends it the page.

    Locks:   the anon; without its lock no thread can wire the page.
    """
    if not unlocked(pg, "wire_count"):
        return False
    uvm_lock_pageq()
    wired = bool(pg.pqflags & PQ_ANON) and uvm_pagewirings(pg) != 0
    uvm_unlock_pageq()
    return wired


@kernel(exit="same")
def amap_share_protect(entry: VmMapEntry, prot: int) -> None:
    """Narrow every mapping of an entry's resident anonymous pages, in all maps that share the amap.

    Locks:   entry map and amap. Returns: same.
    Source:  uvm_amap.c.   Differs: takes each anon's lock to look at its page; UVM looks without. Leaves alone what no
             other amap has.
    """
    aref = aref_of(entry)
    assert aref is not None
    amap = aref.amap
    LOCK_ASSERT(amap.am_l.held(), "simple_lock_held(&amap->am_l)", amap)
    slots = (entry.end - entry.start) // here.port.page_size
    am_anon, nused = amap.am_anon, amap.am_nused
    start, stop = aref.pageoff, aref.pageoff + slots
    if slots < nused:  # cheaper to traverse am_anon
        anons = [am_anon[slot] for slot in range(start, stop)]
    else:  # cheaper to traverse am_slots
        am_slots = amap.am_slots
        used = [am_slots[lcv] for lcv in range(nused)]
        anons = [am_anon[slot] for slot in used if start <= slot < stop]
    for anon in anons:
        if anon is None:
            continue
        anon.an_lock.lock()
        pg = anon.an_page
        if pg is not None and anon.an_ref > 1:
            pmap_page_protect(pg, prot)
        anon.an_lock.unlock()
