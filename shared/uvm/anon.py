"""Anons: allocation, freeing, their swap slots.

An anon's data is in RAM (an_page), in swap (an_swslot), or in both. Anons are
never given back to the system: they go from the free list into an amap and
back, and their locks outlive them.

An anon's page need not be its own: it may have been borrowed from an object
(shared/uvm/loan.py). Code that changes an anon's page first checks whether the page
is on loan, and if so calls uvm_anon_lockloanpg() for the owner's lock.

Left out: blocks of anons, adding anons with swap space. anon_swap_off and
anon_pagein are in swapctl.py.
Source: uvm_anon.c 1.5 (January 2000), with the logged changes up to 2001-03 (D-001).
"""

from __future__ import annotations

from shared.port.port import KASSERT, LOCK_ASSERT, erratum, here, kernel
from shared.port.struct import unlocked
from shared.uvm.page import uvm_lock_pageq, uvm_pageadopt, uvm_pagefree, uvm_unlock_pageq
from shared.uvm.param import PG_BUSY, PG_RELEASED, PG_WANTED, PQ_ANON, SWSLOT_NONE, VM_PROT_NONE
from shared.uvm.pmap_page import pmap_page_protect
from shared.uvm.structs import Anon, Page, uvm, uvmexp
from shared.uvm.swap import uvm_swap_free


def uvm_anon_init(count: int) -> None:
    """Make `count` anons, all of them free; at boot."""
    anons = [here.port.alloc(Anon) for _ in range(count)]
    for at, anon in enumerate(anons):
        anon.an_ref = 0
        anon.an_swslot = SWSLOT_NONE
        anon.an_nxt = anons[at + 1] if at + 1 < count else None
    uvm.afree = anons[0] if anons else None
    uvmexp.nanon = count
    uvmexp.nfreeanon = count


@kernel(exit="same")
def uvm_analloc() -> Anon | None:
    """Allocate an anon: one reference, no page, no swap slot.

    Returns: it, *unlocked*; None if there is none.
    Source:  uvm_anon.c.
    """
    uvm.afreelock.lock()
    anon = uvm.afree
    if anon is not None:
        nxt = anon.an_nxt
        uvm.afree = nxt
        uvmexp.nfreeanon -= 1
        here.port.claim(anon)
        anon.an_ref = 1
        if nxt is not None:
            anon.an_page = None  # the same storage
    uvm.afreelock.unlock()
    return anon


@kernel(exit="same")
def uvm_anfree(anon: Anon) -> None:
    """Free an anon, its page and its swap slot.

    If the page is BUSY it is marked RELEASED instead and nothing is freed:
    the thread that made it busy calls us again afterwards. It is unmapped at once.

    The caller has dropped the last reference and *unlocked* the anon. We ask
    about the lock first, and only then about the reference count: the defect
    that these assertions were made for (amap_cow_now, January 2001) has both
    wrong, and its lock is the story.

    A page that the anon has borrowed is given back to its object; a page that it has
    lent to the kernel stays, without an owner, until the kernel is done with it.

    Locks:   the anon is not locked, and in no amap any more; the amap it was in may be.
    Source:  uvm_anon.c; the assertions of 2001-01-23.
    Differs: holds the anon's lock while it disposes of the page, as uvm_anon.c later did: the pagedaemon comes by way
             of the page and tries that lock, and both could free the page (erratum E58). UVM left a busy page mapped:
             after madvise(MADV_FREE) a program continued using it until its I/O was done (erratum E66).
    """
    an_lock = anon.an_lock
    locked = an_lock.held()
    LOCK_ASSERT(not locked, "!simple_lock_held(&anon->an_lock)", anon, kind="locked-anon-freed")
    locking = not locked and not erratum("uvm_anfree.page-freed-unlocked")
    if locking:
        an_lock.lock()
    KASSERT(anon.an_ref == 0, "anon->an_ref == 0", anon)

    pg = anon.an_page
    if pg is not None and unlocked(pg, "loan_count"):
        if erratum("uvm_anon_lockloanpg.anon-unlocked") and locking:
            an_lock.unlock()
            locking = False
        pg = uvm_anon_lockloanpg(anon)
    uobj = pg.uobject if pg is not None else None
    if pg is not None and uobj is not None:
        uvm_lock_pageq()  # give it back
        loans = pg.loan_count
        KASSERT(loans > 0, "pg->loan_count > 0", pg)
        pg.loan_count = loans - 1
        pg.uanon = None
        uvm_unlock_pageq()
        uobj.vmobjlock.unlock()
    elif pg is not None:
        flags = pg.flags
        if flags & PG_BUSY and erratum("uvm_anfree.waits-for-busy-page"):
            pg.flags = flags | PG_WANTED
            here.port.sleep(pg.address, "anfree", an_lock)
            uvm_anfree(anon)
            return
        if flags & PG_BUSY and not erratum("uvm_anfree.busy-page-freed"):
            if not erratum("uvm_anfree.busy-page-mapped"):
                pmap_page_protect(pg, VM_PROT_NONE)  # the former owner no longer has the anon
            pg.flags = flags | PG_RELEASED
            if locking:
                an_lock.unlock()
            return
        # (between un-busying a released page and freeing its anon the anon is unlocked, and swapoff may come by)
        if flags & PG_WANTED and not erratum("uvm_anfree.wanted-not-woken"):
            here.port.wakeup(pg.address)
        pmap_page_protect(pg, VM_PROT_NONE)
        uvm_lock_pageq()
        uvm_pagefree(pg)
        uvm_unlock_pageq()
    uvm_anon_dropswap(anon)  # an_page still says whether the data was in RAM

    fresh = here.port.renew(anon)
    fresh.an_ref = 0
    fresh.an_swslot = SWSLOT_NONE
    if locking:
        an_lock.unlock()  # not before, since swapoff looks at every anon
    uvm.afreelock.lock()
    fresh.an_nxt = uvm.afree
    uvm.afree = fresh
    uvmexp.nfreeanon += 1
    uvm.afreelock.unlock()


@kernel()
def uvm_anon_lockloanpg(anon: Anon) -> Page | None:
    """Lock the owner of an anon's page, which is on loan, if that is not the anon itself.

    An object's lock comes before an anon's. So it is only tried; if that fails
    the anon is unlocked for a moment, so that a thread that has the object's lock and
    wants the anon's can continue. The page queues' lock keeps the object alive
    meanwhile: it cannot let go of the page.

    A page without an owner is adopted.

    Locks:   entry anon. Returns: same, and the page's object, if it is in one.
    Returns: the anon's page, which may be another page now, or gone.
    Source:  uvm_anon.c; the assertion of 2001-01-23.
    """
    LOCK_ASSERT(anon.an_lock.held(), "simple_lock_held(&anon->an_lock)", anon)
    while True:
        pg = anon.an_page
        if pg is None or not unlocked(pg, "loan_count"):  # which may be too much by now, never too little
            return pg
        if unlocked(pg, "uobject") is not None:  # a quick check, before we bother to lock the page queues
            uvm_lock_pageq()
            uobj = pg.uobject  # the real check
            locked = uobj is None or uobj.vmobjlock.trylock()
            uvm_unlock_pageq()
            if not locked:
                anon.an_lock.unlock()
                here.port.spin()
                anon.an_lock.lock()
                continue
        if pg.uobject is None:
            uvm_lock_pageq()
            if not pg.pqflags & PQ_ANON:
                uvm_pageadopt(pg)
            uvm_unlock_pageq()
        return pg


@kernel(exit="same")
def uvm_anon_dropswap(anon: Anon) -> None:
    """Free the anon's swap slot, if it has one.

    Locks:   the anon, or its reference count is 0.
    Source:  uvm_anon.c.
    """
    slot = anon.an_swslot
    if slot == SWSLOT_NONE:
        return
    uvm_swap_free(slot, 1)
    anon.an_swslot = SWSLOT_NONE
    if anon.an_page is None:
        uvm.swap_data_lock.lock()
        uvmexp.swpgonly -= 1
        uvm.swap_data_lock.unlock()
