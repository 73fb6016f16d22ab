"""Anonymous memory as an object (aobj): what System V shared memory is made of.

A page of an aobj is zero when it is first asked for, and lives in RAM, in swap
or in both, as an anon does; its swap slot is in the object, u_swslots[page].

    uobj   vmobjlock guards the slots; a page's identity is (object, offset)
    uao_list   every aobj that has a reference, for uao_swap_off; under uao_list_lock,
           which comes after an object's lock, so the walk along it only tries those

The last reference frees all pages that are not BUSY; those are RELEASED, and
the thread that un-busies the last of them (uao_releasepg) frees the object: KILLME.

Left out: slots in a hash (large objects had one), the kernel's own aobjs.
Source: uvm_aobj.c of 2000, with the result codes of 2001-03-10.
"""

from __future__ import annotations

from collections.abc import Sequence

from shared.port.port import here, kernel, panic
from shared.uvm.page import (
    uvm_lock_pageq,
    uvm_page_unbusy,
    uvm_pagealloc,
    uvm_pagedeactivate,
    uvm_pagefree,
    uvm_pagezero,
    uvm_unlock_pageq,
)
from shared.uvm.param import (
    EIO,
    PG_BUSY,
    PG_CLEAN,
    PG_FAKE,
    PG_RELEASED,
    PGO_ALLPAGES,
    PGO_DEACTIVATE,
    PGO_FREE,
    PGO_LOCKED,
    PGO_SWAPOFF,
    SWSLOT_BAD,
    SWSLOT_NONE,
    UAO_FLAG_KILLME,
    UVM_PGOPS_AOBJ,
    VM_PROT_NONE,
)
from shared.uvm.pgops import PGOPS, PagerOps, get_busy, get_resident, reference
from shared.uvm.pmap import pmap_clear_modify, pmap_clear_reference
from shared.uvm.pmap_page import pmap_page_protect
from shared.uvm.structs import MEMQ, UAO_LIST_Q, Aobj, AobjSlots, Page, UvmObject, uvm, uvmexp
from shared.uvm.swap import uvm_swap_free, uvm_swap_get, uvm_swap_markbad

# -- swap slots ------------------------------------------------------------------------


def uao_find_swslot(uobj: UvmObject, pageidx: int) -> int:
    """The swap slot of a page; SWSLOT_NONE if it has none. Locks: the object."""
    slot: int = uobj.pager.u_swslots[pageidx]
    return slot


def uao_set_swslot(uobj: UvmObject, pageidx: int, slot: int) -> int:
    """Give a page another swap slot; returns the previous slot. Locks: the object."""
    slots = uobj.pager.u_swslots
    old: int = slots[pageidx]
    if old != slot:
        slots[pageidx] = slot
    return old


def uao_dropswap(uobj: UvmObject, pageidx: int) -> None:
    """Free the swap slot of a page that is resident, if it has one.

    Locks:   the object; takes swap_data_lock.
    Source:  uvm_aobj.c.
    """
    slot = uao_set_swslot(uobj, pageidx, SWSLOT_NONE)
    if slot != SWSLOT_NONE:
        uvm_swap_free(slot, 1)


# -- life and death ----------------------------------------------------------------------


@kernel(exit="same")
def uao_create(size: int) -> UvmObject:
    """A new aobj of `size` bytes, with one reference.

    Locks:   takes uao_list_lock.
    Source:  uvm_aobj.c.
    """
    pages = size // here.port.page_size
    uobj = here.port.alloc(UvmObject)
    aobj = here.port.alloc(Aobj)
    slots = here.port.alloc(AobjSlots, pages)
    slots.u_obj = uobj
    for pageidx in range(pages):
        slots[pageidx] = SWSLOT_NONE
    aobj.u_obj = uobj
    aobj.u_pages = pages
    aobj.u_flags = 0
    aobj.u_swslots = slots
    uobj.pgops = UVM_PGOPS_AOBJ
    uobj.pager = aobj
    uobj.uo_npages = 0
    uobj.uo_refs = 1
    uvm.uao_list_lock.lock()
    UAO_LIST_Q.insert_tail(uvm, aobj)
    uvm.uao_list_lock.unlock()
    return uobj


@kernel()
def uao_free(uobj: UvmObject) -> None:
    """Free an aobj that has neither references nor pages, with the swap that it still has.

    Locks:   entry the object. Returns: the object and its lock are gone.
    Source:  uvm_aobj.c.
    """
    aobj: Aobj = uobj.pager
    slots = aobj.u_swslots
    for pageidx in range(aobj.u_pages):
        slot = slots[pageidx]
        if slot != SWSLOT_NONE:
            uvm_swap_free(slot, 1)
            uvm.swap_data_lock.lock()
            uvmexp.swpgonly -= 1  # no page of it is left in RAM
            uvm.swap_data_lock.unlock()
    uobj.vmobjlock.unlock()
    here.port.free(slots)
    here.port.free(aobj)
    here.port.free(uobj)


@kernel(exit="same")
def uao_reference(uobj: UvmObject) -> None:
    """Gain a reference. Locks: entry the object unlocked; same. Source: uvm_aobj.c."""
    reference(uobj)


@kernel(exit="same")
def uao_detach(uobj: UvmObject) -> None:
    """Drop a reference; the last one takes the object with it, once no page is BUSY.

    Locks:   entry the object unlocked. Returns: same.
    Source:  uvm_aobj.c.
    """
    uobj.vmobjlock.lock()
    _detach_locked(uobj)


def _detach_locked(uobj: UvmObject) -> None:
    """uao_detach() with the object locked; it is unlocked, or gone, on return."""
    refs = uobj.uo_refs - 1
    uobj.uo_refs = refs
    if refs != 0:
        uobj.vmobjlock.unlock()
        return
    aobj: Aobj = uobj.pager
    uvm.uao_list_lock.lock()
    UAO_LIST_Q.remove(uvm, aobj)
    uvm.uao_list_lock.unlock()

    busybody = False
    pg: Page | None = MEMQ.first(uobj)
    while pg is not None:
        following = MEMQ.next(pg)
        flags = pg.flags
        if flags & PG_BUSY:
            pg.flags = flags | PG_RELEASED
            busybody = True
        else:
            _dispose(uobj, pg)
        pg = following
    if busybody:
        aobj.u_flags |= UAO_FLAG_KILLME
        uobj.vmobjlock.unlock()
        return
    uao_free(uobj)


def _dispose(uobj: UvmObject, pg: Page) -> None:
    """Free a page that is not BUSY, and its swap slot. Locks: the object."""
    pmap_page_protect(pg, VM_PROT_NONE)
    uao_dropswap(uobj, pg.offset // here.port.page_size)
    uvm_lock_pageq()
    uvm_pagefree(pg)
    uvm_unlock_pageq()


@kernel()
def uao_releasepg(pg: Page) -> bool:
    """Free a page that was released while it was BUSY.

    Locks:   entry the object. Returns True: same. False: that was its last page, and the object is gone.
    Source:  uvm_aobj.c.
    """
    uobj = pg.uobject
    assert uobj is not None
    _dispose(uobj, pg)
    if not uobj.pager.u_flags & UAO_FLAG_KILLME:
        return True
    if uobj.uo_refs != 0:
        panic("uao_releasepg: kill flag set on referenced object!", uobj)
    if uobj.uo_npages != 0:
        return True
    uao_free(uobj)
    return False


# -- the pager's operations ----------------------------------------------------------------


@kernel()
def uao_get(
    uobj: UvmObject, offset: int, wanted: Sequence[bool], center: int, flags: int
) -> tuple[int, list[Page | None]]:
    """pgo_get: see pgops.py. A page that was never written is made, of zeros; also next to the page that is needed.

    Locks:   entry the object. Returns: same with PGO_LOCKED, else nothing.
    Sleeps:  without PGO_LOCKED: busy page ("uao_get"), swap read, uvm_wait ("uao_getpage").
    Returns: (0, pages); (EBUSY, pages): PGO_LOCKED, and `center` is not among them; (EIO of the read; EAGAIN of the
             read, or the object has no other reference; with PGO_SWAPOFF ENOMEM; []).
    Source:  uvm_aobj.c.   Differs: a page that was released during a failed read goes by way of uao_releasepg();
             after a transient error the slot is kept. Refers to the object while it sleeps, see get_busy().
    """
    page_size = here.port.page_size
    if flags & PGO_LOCKED:
        return get_resident(uobj, offset, wanted, center, "uao_get1", _make)
    pages: list[Page | None] = [None] * len(wanted)
    at = offset + center * page_size
    error, pg, fresh = get_busy(uobj, at, "uao_get", flags)
    if pg is None:
        return error, []
    pages[center] = pg
    if not fresh:
        uobj.vmobjlock.unlock()
        return 0, pages

    slot = uao_find_swslot(uobj, at // page_size)
    if slot == SWSLOT_NONE:
        uvm_pagezero(pg)
    else:
        uobj.vmobjlock.unlock()
        error = uvm_swap_get(pg, slot)  # the object is ours to come back to: the page is BUSY
        uobj.vmobjlock.lock()
        if error != 0:
            # The data cannot be read. Unless the error may pass, the slot must not be used again.
            if error == EIO and slot != SWSLOT_BAD:
                uao_set_swslot(uobj, at // page_size, SWSLOT_BAD)
                uvm_swap_markbad(slot, 1)
            alive = _give_up(uobj, pg)
            if alive:
                uobj.vmobjlock.unlock()
            return error, []
    pg.flags &= ~PG_FAKE
    pmap_clear_modify(pg)
    uobj.vmobjlock.unlock()
    return 0, pages


def _make(uobj: UvmObject, at: int) -> Page | None:
    """Make a page that was never written, BUSY, if this is one, and if there is memory. Locks: the object."""
    if uao_find_swslot(uobj, at // here.port.page_size) != SWSLOT_NONE:
        return None
    pg = uvm_pagealloc(uobj, at, None)
    if pg is not None:
        uvm_pagezero(pg)
        pg.flags &= ~PG_FAKE
    return pg


def _give_up(uobj: UvmObject, pg: Page) -> bool:
    """Free a page whose contents could not be had; its slot stays. Locks: the object; False: it is gone."""
    uvm_page_unbusy(pg, pg.flags)
    uvm_lock_pageq()
    uvm_pagefree(pg)
    uvm_unlock_pageq()
    if uobj.pager.u_flags & UAO_FLAG_KILLME and uobj.uo_npages == 0:
        uao_free(uobj)
        return False
    return True


@kernel(exit="same")
def uao_flush(uobj: UvmObject, start: int, stop: int, flags: int) -> bool:
    """pgo_flush: deactivate pages, also instead of freeing them. There is nothing to clean: swap is not a file.

    Locks:   entry the object. Returns: same.
    Source:  uvm_aobj.c.
    Differs: deactivated pages keep their mappings, as of January 2001; busy pages are left alone. UVM freed pages for
             PGO_FREE without CLEANIT, which no caller asks for (see uvm_map_clean()).
    """
    if not flags & (PGO_DEACTIVATE | PGO_FREE):
        return True
    pg: Page | None = MEMQ.first(uobj)
    while pg is not None:
        if (flags & PGO_ALLPAGES or start <= pg.offset < stop) and not pg.flags & PG_BUSY:
            uvm_lock_pageq()
            if pg.wire_count == 0:
                pmap_clear_reference(pg)
                uvm_pagedeactivate(pg)
            uvm_unlock_pageq()
        pg = MEMQ.next(pg)
    return True


# -- swapoff -------------------------------------------------------------------------------


@kernel(exit="same")
def uao_swap_off(startslot: int, endslot: int) -> int:
    """Bring into RAM whatever an aobj has in slots [startslot, endslot), and free those slots.

    The device must be out of use, so that none of these slots is allocated meanwhile.

    Locks:   none held.
    Sleeps:  as uao_get().
    Returns: 0, or as uao_pagein_page().
    Source:  uvm_aobj.c.   Differs: begins at the head of the list again after each aobj that had such a slot.
    """
    while True:
        uvm.uao_list_lock.lock()
        aobj: Aobj | None = UAO_LIST_Q.first(uvm)
        missed = False
        while aobj is not None:
            uobj = aobj.u_obj
            if not uobj.vmobjlock.trylock():  # against the order
                missed = True
            else:
                pageidx = _first_in(aobj, startslot, endslot)
                if pageidx is not None:
                    break
                uobj.vmobjlock.unlock()
            aobj = UAO_LIST_Q.next(aobj)
        uvm.uao_list_lock.unlock()
        if aobj is None:
            if not missed:
                return 0
            here.port.spin()  # another thread uses one of them: let it continue
            continue
        uobj.uo_refs += 1  # so that it stays
        error = 0
        while error == 0 and pageidx is not None:
            error = uao_pagein_page(uobj, pageidx)
            pageidx = _first_in(aobj, startslot, endslot)
        _detach_locked(uobj)
        if error:
            return error


def _first_in(aobj: Aobj, startslot: int, endslot: int) -> int | None:
    """The first page whose slot is in [startslot, endslot). Locks: the object."""
    slots = aobj.u_swslots
    return next((at for at in range(aobj.u_pages) if startslot <= slots[at] < endslot), None)


@kernel(exit="same")
def uao_pagein_page(uobj: UvmObject, pageidx: int) -> int:
    """Make a page resident, and give up its swap slot.

    Locks:   entry the object, which is unlocked meanwhile. Returns: same.
    Sleeps:  as uao_get().
    Returns: 0, or the error of uao_get(): EIO or EAGAIN of the read; ENOMEM.
    Source:  uvm_aobj.c.   Differs: a wired page is not put on a queue, as later.
    """
    page_size = here.port.page_size
    error, pages = uao_get(uobj, pageidx * page_size, [True], 0, PGO_SWAPOFF)
    uobj.vmobjlock.lock()
    if error != 0:
        return error
    pg = pages[0]
    assert pg is not None
    uao_dropswap(uobj, pageidx)
    flags = pg.flags
    uvm_page_unbusy(pg, flags & ~(PG_CLEAN | PG_FAKE))
    if flags & PG_RELEASED:  # the object stays: we have a reference
        uao_releasepg(pg)
        return 0
    pmap_clear_reference(pg)
    uvm_lock_pageq()
    if pg.wire_count == 0:
        uvm_pagedeactivate(pg)
    uvm_unlock_pageq()
    return 0


PGOPS[UVM_PGOPS_AOBJ] = PagerOps(uao_reference, uao_detach, uao_get, None, uao_flush, None, uao_releasepg)
