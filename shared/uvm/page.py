"""Pages: allocation, freeing, the page queues, wiring.

A page that is not free is on one queue or none:

    free list   PQ_FREE        under fpageqlock (splimp: interrupts allocate)
    active      PQ_ACTIVE      under pageqlock
    inactive    PQ_INACTIVE    under pageqlock; page_inactive_swp if it is
                               swap-backed, page_inactive_obj if not
    none        busy with its first contents, or wired (which a loan to the kernel does too; a page
                on loan to an anon is on a queue, as others are)

Rules: a context that changes `flags` holds the owner's lock; a page comes from
uvm_pagealloc BUSY, CLEAN, FAKE and on no queue; it is un-busied and put on a
queue by who allocated it. uvm_pagefree leaves wire_count, loan_count and io_count 0, so
uvm_pagealloc need not set them.

Left out: free lists by kind of memory and by zeroed pages (the strategies of
uvm_pagealloc_strat), page colours. `version` is not kept:
the generation of a page's handle says the same.
Source: uvm_page.c 1.30, uvm_page_i.h 1.11 (February 2000), with the logged changes up to 2001-03 (D-001).
"""

from __future__ import annotations

from shared.port.lockref import LockRef
from shared.port.port import KASSERT, LOCK_ASSERT, SPL_IMP, erratum, here, kernel, panic, unrepaired
from shared.uvm.param import (
    PG_BUSY,
    PG_CLEAN,
    PG_FAKE,
    PG_RELEASED,
    PG_TABLED,
    PG_WANTED,
    PQ_ACTIVE,
    PQ_ANON,
    PQ_AOBJ,
    PQ_FREE,
    PQ_INACTIVE,
    PQ_SWAPBACKED,
    UVM_OBJ_INTRSAFE_KERN,
    UVM_OBJ_KERN,
    UVM_PGA_USERESERVE,
    UVM_PGA_ZERO,
    UVM_PGOPS_AOBJ,
    VM_PROT_NONE,
)
from shared.uvm.pmap_page import pmap_copy_page, pmap_is_mapped, pmap_page_protect, pmap_zero_page
from shared.uvm.structs import (
    MEMQ,
    PAGEQ,
    Anon,
    Page,
    PageHash,
    UvmObject,
    page_active,
    page_free,
    page_inactive_obj,
    page_inactive_swp,
    uvm,
    uvmexp,
)
from shared.uvm.wait import curproc_is_pagedaemon


def uvm_lock_pageq() -> None:
    """Lock the page queues."""
    uvm.pageqlock.lock()


def uvm_unlock_pageq() -> None:
    """Unlock the page queues."""
    uvm.pageqlock.unlock()


def uvm_lock_fpageq() -> int:
    """Lock the free list; returns the interrupt level to go back to."""
    s = here.port.splraise(SPL_IMP)
    uvm.fpageqlock.lock()
    return s


def uvm_unlock_fpageq(s: int) -> None:
    """Unlock the free list and go back to interrupt level `s`."""
    uvm.fpageqlock.unlock()
    here.port.spl(s)


def uvm_page_init(frames: int) -> None:
    """Make the pages, one per frame, all of them free; at boot."""
    for _ in range(frames):
        pg = here.port.alloc(Page)
        pg.wire_count = 0
        pg.loan_count = 0
        pg.io_count = 0
        pg.pqflags = PQ_FREE
        PAGEQ.insert_tail(page_free, pg)
    nbuckets = 1 << (frames - 1).bit_length()
    uvm.page_hash = here.port.alloc(PageHash, nbuckets)
    uvm.page_nhash = nbuckets
    uvmexp.npages = frames
    uvmexp.free = frames
    uvmexp.active = 0
    uvmexp.inactive = 0
    uvmexp.wired = 0
    uvmexp.paging = 0
    uvmexp.pdpageouts = 0


# -- pages of objects --------------------------------------------------------------------


def _lock_hash() -> int:
    """Lock the page hash; returns the interrupt level to go back to. (Interrupts allocate.)"""
    s = here.port.splraise(SPL_IMP)
    uvm.hashlock.lock()
    return s


def _unlock_hash(s: int) -> None:
    uvm.hashlock.unlock()
    here.port.spl(s)


def _bucket(uobj: UvmObject, off: int) -> int:
    """uvm_pagehash(): the bucket of a page's identity."""
    return (uobj.index * 31 + off // here.port.page_size) & (uvm.page_nhash - 1)


def uvm_pageinsert(pg: Page, uobj: UvmObject, off: int) -> None:
    """Put a page into its object: into the hash and on the object's list. `flags` are the caller's to set (TABLED).

    Locks:   entry the object; takes hashlock. Returns: same.
    Source:  uvm_page.c.
    """
    bucket, page_hash = _bucket(uobj, off), uvm.page_hash
    s = _lock_hash()
    first = page_hash[bucket]
    pg.hashq_next = first
    pg.hashq_prev = None
    if first is not None:
        first.hashq_prev = pg
    page_hash[bucket] = pg
    _unlock_hash(s)
    MEMQ.insert_tail(uobj, pg)
    uobj.uo_npages += 1


def uvm_pageremove(pg: Page, uobj: UvmObject) -> None:
    """Take a page out of its object.

    Locks:   entry the object and the page queues; takes hashlock. Returns: same.
    Source:  uvm_page.c.
    """
    bucket, page_hash = _bucket(uobj, pg.offset), uvm.page_hash
    s = _lock_hash()
    following, before = pg.hashq_next, pg.hashq_prev
    if following is not None:
        following.hashq_prev = before
    if before is None:
        page_hash[bucket] = following
    else:
        before.hashq_next = following
    _unlock_hash(s)
    MEMQ.remove(uobj, pg)
    uobj.uo_npages -= 1
    pg.flags &= ~PG_TABLED
    pg.uobject = None


@kernel(exit="same")
def uvm_pagelookup(uobj: UvmObject, off: int) -> Page | None:
    """The page of an object at an offset (bytes), if it is resident.

    Locks:   entry the object; takes hashlock. Returns: same.
    Source:  uvm_page_i.h.
    """
    s = _lock_hash()
    pg: Page | None = uvm.page_hash[_bucket(uobj, off)]
    while pg is not None and (pg.uobject != uobj or pg.offset != off):
        pg = pg.hashq_next
    _unlock_hash(s)
    return pg


# -- allocation --------------------------------------------------------------------------


@kernel(exit="same")
def uvm_pagealloc_strat(uobj: UvmObject | None, off: int, anon: Anon | None, flags: int = 0) -> Page | None:
    """Allocate a page for an object or an anon (or, with neither, an ownerless one).

    Takes none of the last reserve_kernel pages, except with UVM_PGA_USERESERVE
    (and then none of the last reserve_pagedaemon, except as the pagedaemon).
    Wakes the pagedaemon if memory is short; that wakeup is not under
    pagedaemon_lock and may come to nothing, which uvm_wait makes good.

    Args:
        off: offset in the object; 0 for an anon.
        flags: UVM_PGA_USERESERVE; UVM_PGA_ZERO: filled with zeros, so not CLEAN.

    Locks:   uobj or anon, whichever is given, held by the caller.
    Returns: a page BUSY|CLEAN|FAKE on no queue, installed as an_page of its anon; None if there is none to be had.
    Source:  uvm_page.c; the strategy is always NORMAL.   Differs: sets PQ_AOBJ, which in UVM uao_get() does.
    """
    KASSERT(uobj is None or anon is None, "obj == NULL || anon == NULL", uobj)
    LOCK_ASSERT(uobj is None or uobj.vmobjlock.held(), "obj == NULL || simple_lock_held(&obj->vmobjlock)", uobj)
    # (this assertion came with the repair of amap_cow_now, so the kernel before it has not got it)
    older = unrepaired("amap_cow_now.nanon-freed-locked")
    LOCK_ASSERT(anon is None or older or anon.an_lock.held(), "anon == NULL || simple_lock_held(&anon->an_lock)", anon)

    s = uvm_lock_fpageq()
    free = uvmexp.free
    if free < uvmexp.freemin or (free < uvmexp.freetarg and uvmexp.inactive < uvmexp.inactarg):
        here.port.wakeup(uvm.addressof("pagedaemon"))

    pg = None
    if not flags & UVM_PGA_USERESERVE and (uobj is None or uobj.uo_refs not in (UVM_OBJ_KERN, UVM_OBJ_INTRSAFE_KERN)):
        denied = free <= uvmexp.reserve_kernel  # which is at least reserve_pagedaemon
    else:
        denied = not curproc_is_pagedaemon() and free <= uvmexp.reserve_pagedaemon
    if not denied:
        pg = PAGEQ.first(page_free)
    if pg is None:
        uvm_unlock_fpageq(s)
        return None
    PAGEQ.remove(page_free, pg)
    uvmexp.free = free - 1
    uvm_unlock_fpageq(s)

    page: Page = pg
    here.port.claim(page)
    page.offset = off
    pgflags = PG_BUSY | PG_FAKE if flags & UVM_PGA_ZERO else PG_BUSY | PG_CLEAN | PG_FAKE
    page.flags = pgflags if uobj is None else pgflags | PG_TABLED  # BUSY before anybody can find it
    if anon is not None:
        page.pqflags = PQ_ANON
    else:
        page.pqflags = PQ_AOBJ if uobj is not None and uobj.pgops == UVM_PGOPS_AOBJ else 0
    uvm_page_own(page, "new alloc")
    if uobj is not None:
        page.uobject = uobj
        uvm_pageinsert(page, uobj, off)
    if anon is not None:
        page.uanon = anon
        anon.an_page = page
    if flags & UVM_PGA_ZERO:
        pmap_zero_page(page)
    return page


def uvm_pagealloc(uobj: UvmObject | None, off: int, anon: Anon | None, flags: int = 0) -> Page | None:
    """The macro for the usual call of uvm_pagealloc_strat()."""
    return uvm_pagealloc_strat(uobj, off, anon, flags)


@kernel(exit="same")
def uvm_pagefree(pg: Page) -> None:
    """Take a page's identity away, out of its object if it is in one, and put it on the free list.

    Old handles of the page are stale from here on. But a page that is on loan
    only loses its owner: the last borrower frees it, or an anon that has borrowed
    it adopts it.

    Locks:   the page queues, and the page's owner; of an interrupt-safe object only the latter, since an interrupt
             cannot take the page queues, and such a page is on none.
    Source:  uvm_page.c.   Differs: a thread that waits for a busy page is woken when the page loses its
             owner, as in later versions.
    """
    loans = pg.loan_count
    uobj = pg.uobject
    if uobj is not None:
        if loans:
            # an anon that adopts it must know that its swap has no copy of it
            uvm_page_unbusy(pg, pg.flags & ~(PG_CLEAN | PG_RELEASED))
            _requeue(pg, pg.pqflags & ~PQ_AOBJ)
            uvm_pageremove(pg, uobj)
            return
        uvm_pageremove(pg, uobj)
    elif loans and pg.pqflags & PQ_ANON:
        pg.pqflags &= ~PQ_ANON
        pg.uanon = None
        return
    elif loans:
        panic("uvm_pagefree: loan count", pg)
    _dequeue(pg, pg.pqflags)
    _pagefree_check(pg)
    if pg.wire_count != 0:
        uvmexp.wired -= 1

    fresh = here.port.renew(pg)
    fresh.wire_count = 0
    fresh.loan_count = 0
    fresh.io_count = 0
    s = uvm_lock_fpageq()
    PAGEQ.insert_tail(page_free, fresh)
    fresh.pqflags = PQ_FREE
    uvmexp.free += 1
    uvm_unlock_fpageq(s)


def _pagefree_check(pg: Page) -> None:
    """What a DEBUG kernel asks about a page that is freed: at rest nothing may be left to show it.

    Locks:   as uvm_pagefree().
    Source:  none; the model's. UVM's own (DEBUG) asks whether the page is free already.
    """
    wrong = []
    if pmap_is_mapped(pg):
        wrong.append("still mapped")
    if pg.flags & PG_BUSY:
        wrong.append("BUSY")
    if pg.wire_count != 0:
        wrong.append("wired")
    if pg.io_count != 0:
        wrong.append("written to or read by a device")
    if wrong:
        stack = here.port.cur.stack
        text = f"PAGE-7: a page that is freed is mapped nowhere, nor busy, wired or used by a device: {pg} is"
        caller = stack[-2] if len(stack) > 1 else ""
        here.port.report("invariant", f"{text} {', '.join(wrong)}", subject=str(pg), function=caller)


@kernel(exit="same")
def uvm_pagerealloc(pg: Page, newobj: UvmObject | None, newoff: int) -> None:
    """Move a page to another object, or out of its object.

    Locks:   the page queues, and both objects.
    Source:  uvm_page.c.   Differs: keeps PQ_AOBJ, and with it the queue, right.
    """
    pqflags = pg.pqflags & ~PQ_AOBJ
    oldobj = pg.uobject
    if oldobj is not None:
        _requeue(pg, pqflags)
        uvm_pageremove(pg, oldobj)
    if newobj is not None:
        if newobj.pgops == UVM_PGOPS_AOBJ:
            pqflags |= PQ_AOBJ
        _requeue(pg, pqflags)
        pg.flags |= PG_TABLED
        pg.offset = newoff
        pg.uobject = newobj
        uvm_pageinsert(pg, newobj, newoff)


def uvm_pageadopt(pg: Page) -> None:
    """Make the page that an anon has borrowed, and whose object has let go of it, the anon's own.

    Locks:   the page queues and the anon.
    Source:  uvm_anon.c, uvm_pdaemon.c, where these lines are.
    Differs: UVM left an inactive page on the queue it was on, which is not that of anons' pages (erratum E59).
    """
    pg.loan_count -= 1
    if erratum("uvm_pageadopt.queue-kept"):
        pg.pqflags |= PQ_ANON
    else:
        _requeue(pg, pg.pqflags | PQ_ANON)


def _requeue(pg: Page, pqflags: int) -> None:
    """Give a page these pqflags, and see that it is on the queue that goes with them. Locks: the page queues."""
    if pqflags & PQ_INACTIVE and bool(pqflags & PQ_SWAPBACKED) != bool(pg.pqflags & PQ_SWAPBACKED):
        _dequeue(pg, pg.pqflags)
        pg.pqflags = pqflags & ~PQ_INACTIVE
        uvm_pagedeactivate(pg)
    else:
        pg.pqflags = pqflags


def _dequeue(pg: Page, pqflags: int) -> int:
    """Take a page off the queue that `pqflags` says; returns pqflags without ACTIVE and INACTIVE, not yet stored."""
    if pqflags & PQ_ACTIVE:
        PAGEQ.remove(page_active, pg)
        uvmexp.active -= 1
    elif pqflags & PQ_INACTIVE:
        PAGEQ.remove(page_inactive_swp if pqflags & PQ_SWAPBACKED else page_inactive_obj, pg)
        uvmexp.inactive -= 1
    return pqflags & ~(PQ_ACTIVE | PQ_INACTIVE)


@kernel(exit="same")
def uvm_pageactivate(pg: Page) -> None:
    """Put a page at the tail of the active queue, unless it is wired.

    Locks:   the page queues.
    Source:  uvm_page_i.h.
    """
    pqflags = pg.pqflags
    if pg.wire_count != 0:
        if pqflags & PQ_INACTIVE:
            pg.pqflags = _dequeue(pg, pqflags)
    elif pqflags & PQ_ACTIVE:
        PAGEQ.remove(page_active, pg)
        PAGEQ.insert_tail(page_active, pg)
    else:
        pg.pqflags = _dequeue(pg, pqflags) | PQ_ACTIVE
        PAGEQ.insert_tail(page_active, pg)
        uvmexp.active += 1


@kernel(exit="same")
def uvm_pagedeactivate(pg: Page) -> None:
    """Put a page at the tail of its inactive queue; its mappings stay.

    The caller has cleared the page's reference attribute, and has made sure
    that the page is not wired.

    Locks:   the page queues, and the page's owner.
    Source:  uvm_page_i.h; what the caller does, as of the scanner's change of January 2001.
    """
    pqflags = pg.pqflags
    if pqflags & PQ_INACTIVE:
        return
    if pg.wire_count != 0:
        panic("uvm_pagedeactivate: caller did not check wire count", pg)
    if erratum("uvm_pagedeactivate.unmaps"):
        pmap_page_protect(pg, VM_PROT_NONE)
    pg.pqflags = _dequeue(pg, pqflags) | PQ_INACTIVE
    PAGEQ.insert_tail(page_inactive_swp if pqflags & PQ_SWAPBACKED else page_inactive_obj, pg)
    uvmexp.inactive += 1


@kernel(exit="same")
def uvm_pagewire(pg: Page) -> None:
    """Wire a page: out of the pagedaemon's reach.

    Locks:   the page queues.
    Source:  uvm_page_i.h.
    """
    wire_count = pg.wire_count
    if wire_count == 0:
        pqflags = pg.pqflags
        if pqflags & (PQ_ACTIVE | PQ_INACTIVE):
            pg.pqflags = _dequeue(pg, pqflags)
        uvmexp.wired += 1
    pg.wire_count = wire_count + 1


@kernel(exit="same")
def uvm_pageunwire(pg: Page) -> int:
    """Undo one uvm_pagewire; the last one activates the page.

    Locks:   the page queues.
    Returns: how many there still are.
    Source:  uvm_page_i.h; the assertion is later (a count that underflows wires the page forever, erratum E46).
    """
    wire_count = pg.wire_count
    if erratum("uvm_pageunwire.count-underflows") and wire_count == 0:
        pg.wire_count = 0xFFFF  # of 16 bits
        return 0xFFFF
    KASSERT(wire_count != 0, "pg->wire_count != 0", pg)
    pg.wire_count = wire_count - 1
    if wire_count == 1:
        PAGEQ.insert_tail(page_active, pg)
        pg.pqflags |= PQ_ACTIVE
        uvmexp.active += 1
        uvmexp.wired -= 1
    return wire_count - 1


def uvm_pagekloans(pg: Page) -> int:
    """How many of a page's loans are to the kernel; each has wired it. Locks: the page queues."""
    loans = pg.loan_count
    if loans and not pg.pqflags & PQ_ANON and pg.uanon is not None:
        loans -= 1  # the other page is the anon's
    return loans


def uvm_pagewirings(pg: Page) -> int:
    """How many wirings a page has besides those of loans: of map entries, and of device I/O. Locks: the page queues."""
    return pg.wire_count - uvm_pagekloans(pg)


@kernel(exit="same")
def uvm_pagezero(pg: Page) -> None:
    """Fill a page with zeros.

    Locks:   the page's owner, for its flags.
    Source:  uvm_page_i.h.
    """
    pg.flags &= ~PG_CLEAN
    pmap_zero_page(pg)


@kernel(exit="same")
def uvm_pagecopy(src: Page, dst: Page) -> None:
    """Copy a page's contents.

    Locks:   the owner of `dst`, for its flags.
    Source:  uvm_page_i.h.
    """
    dst.flags &= ~PG_CLEAN
    pmap_copy_page(src, dst)


def uvm_page_own(pg: Page, tag: str | None) -> None:
    """UVM_PAGE_TRKOWN: note the thread that has a page in transit, and why; tag None: it is released.

    Locks:   the page's owner, unless no other thread can find the page.
    Source:  uvm_page.c.
    Differs: the owner is a context, which UVM knows by its process, and stands in the tag.
    """
    pg.owner_tag = None if tag is None else f"{tag} by {here.port.cur.name}"


def uvm_page_unbusy(pg: Page, flags: int) -> None:
    """Clear BUSY and WANTED, and wake the threads that want the page.

    Args:
        flags: the page's flags, as they are or as they shall be besides.

    Locks:   the page's owner.
    """
    if flags & PG_WANTED:
        here.port.wakeup(pg.address)
    pg.flags = flags & ~(PG_BUSY | PG_WANTED)
    uvm_page_own(pg, None)


def uvm_page_putback(pg: Page) -> None:
    """Un-busy an object's page, and see that it is on a queue. Locks: the object."""
    uvm_page_unbusy(pg, pg.flags)
    uvm_lock_pageq()
    uvm_pageactivate(pg)
    uvm_unlock_pageq()


def uvm_page_wait(pg: Page, flags: int, wmesg: str, interlock: LockRef) -> None:
    """Wait until a page is no longer BUSY, or has changed its identity. The thread that un-busies it wakes us.

    Args:
        flags: the page's flags, as they are.
        interlock: its owner's lock.

    Locks:   entry the interlock. Returns: it is unlocked.
    """
    if not flags & PG_WANTED:
        pg.flags = flags | PG_WANTED
    here.port.sleep(pg.address, wmesg, interlock)
