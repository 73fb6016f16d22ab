"""Per-page reference counts of an amap (ppref): the references to each of its slots.

am_ref counts map entries, even if they have only a part of the amap. When an entry
is split and one half is unmapped, only a count for each slot shows which slots are no
longer referenced, so that their anons can be freed. Neighbouring slots mostly have
the same count, so the array is run-length encoded:

    a run of one slot      count+1
    a run of n > 1 slots   -(count+1), n, and n-2 elements that mean nothing

    4 slots, all referred to twice:  [-3, 4, ., .]    the last two unmapped by one:  [-3, 2, -2, 2]

An amap gets its am_ppref when a reference to it is first split; as long as it
has none, every reference is to the whole amap.

Rules: only this module and amap.py access the fields of an amap.
Left out: PPREF_NONE (kernel memory does not run short), AMAP_REFALL (its users,
uvm_map_extract and mremap, are left out).
Source: uvm_amap.c 1.22 to 1.28; amap_wiperange of 1.30.
"""

from __future__ import annotations

from shared.port.port import erratum, here, kernel, panic
from shared.uvm.anon import uvm_anfree
from shared.uvm.structs import Amap, AmapArray, Anon


def pp_getreflen(ppref: AmapArray, offset: int) -> tuple[int, int]:
    """Count and length of the run that begins at `offset`. Locks: amap."""
    first = ppref[offset]
    if first > 0:
        return first - 1, 1
    return -first - 1, ppref[offset + 1]


def pp_setreflen(ppref: AmapArray, offset: int, ref: int, length: int) -> None:
    """Make a run of `length` slots with count `ref` begin at `offset`. Locks: amap."""
    if length == 1:
        ppref[offset] = ref + 1
    else:
        ppref[offset] = -(ref + 1)
        ppref[offset + 1] = length


@kernel(exit="same")
def amap_pp_establish(amap: Amap) -> None:
    """Begin to count references slot by slot; so far every reference is to all of the amap.

    Locks:   entry amap. Returns: same.
    Source:  uvm_amap.c.   Differs: cannot fail.
    """
    ppref = here.port.alloc(AmapArray, amap.am_maxslot)
    ppref.amap = amap
    pp_setreflen(ppref, 0, amap.am_ref, amap.am_nslot)
    amap.am_ppref = ppref


@kernel(exit="same")
def amap_pp_adjref(amap: Amap, curslot: int, slotlen: int, adjval: int) -> None:
    """Add `adjval` (1 or -1) to the counts of a range of slots; slots that come to 0 are wiped.

    Locks:   entry amap; the map, or the reference was in none any more. Returns: same.
    Source:  uvm_amap.c.
    """
    ppref = amap.am_ppref
    assert ppref is not None
    stopslot = curslot + slotlen

    # go to the run that contains the first slot, and split it there if it begins before
    lcv = prevlcv = 0
    prevref, prevlen = -1, 0  # if there is no run before, nothing is like it
    while lcv < curslot:
        ref, length = pp_getreflen(ppref, lcv)
        if lcv + length > curslot:
            pp_setreflen(ppref, lcv, ref, curslot - lcv)
            pp_setreflen(ppref, curslot, ref, length - (curslot - lcv))
            length = curslot - lcv
        prevlcv, prevref, prevlen = lcv, ref, length
        lcv += length

    # adjust; the first run that changes may become part of the last run that does not
    while lcv < stopslot:
        ref, length = pp_getreflen(ppref, lcv)
        if lcv + length > stopslot:
            pp_setreflen(ppref, lcv, ref, stopslot - lcv)
            pp_setreflen(ppref, stopslot, ref, length - (stopslot - lcv))
            length = stopslot - lcv
        ref += adjval
        if ref < 0:
            panic("amap_pp_adjref: negative reference count", amap)
        if lcv == prevlcv + prevlen and ref == prevref:
            pp_setreflen(ppref, prevlcv, ref, prevlen + length)
        else:
            pp_setreflen(ppref, lcv, ref, length)
        if ref == 0:
            amap_wiperange(amap, lcv, length)
        lcv += length


@kernel(exit="same")
def amap_wiperange(amap: Amap, slotoff: int, slots: int) -> None:
    """Drop the anons of a range of slots; the amap stays.

    Goes by am_anon or by am_slots, whichever is shorter. By am_slots the place of
    what was removed has another slot in it now, or is beyond the end.

    Locks:   entry amap; the map, or the reference was in none any more. Returns: same.
    Source:  uvm_amap.c.
    """
    am_anon, am_slots = amap.am_anon, amap.am_slots
    nused = amap.am_nused
    byanon = slots < nused
    if byanon:
        lcv, stop = slotoff, slotoff + slots
    else:
        lcv, stop = 0, nused
    slotend = slotoff + slots
    while lcv < stop:
        if byanon:
            curslot = lcv
            lcv += 1
            if am_anon[curslot] is None:
                continue
        else:
            curslot = am_slots[lcv]
            # `stop` is a place in am_slots, not a slot
            beyond = stop if erratum("amap_wiperange.stop-is-no-slot") else slotend
            if curslot < slotoff or curslot >= beyond:
                lcv += 1
                continue
            stop -= 1
        anon: Anon = am_anon[curslot]
        amap_takeout(amap, curslot)
        anon.an_lock.lock()
        refs = anon.an_ref - 1
        anon.an_ref = refs
        anon.an_lock.unlock()
        if refs == 0:
            uvm_anfree(anon)


def amap_takeout(amap: Amap, slot: int) -> None:
    """Make a used slot empty, keeping am_slots packed: its last element fills the hole. Locks: amap."""
    am_slots, am_bckptr = amap.am_slots, amap.am_bckptr
    amap.am_anon[slot] = None
    ptr = am_bckptr[slot]
    last = amap.am_nused - 1
    if ptr != last:
        moved = am_slots[last]
        am_slots[ptr] = moved
        am_bckptr[moved] = ptr
    amap.am_nused = last
