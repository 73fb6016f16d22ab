"""Pageout: starting it, finishing it.

The contract of 2001-03-10: 0 from a pager means that the I/O was started, and
nothing else; all that has to be done after the I/O is the completion's. So each
cluster is finished exactly once, either in uvm_pager_put, when its I/O could
not be started, or in uvm_aio_aiodone.

    pagedaemon      uvm_pager_put -> uvm_swap_put, or the pager's pgo_put -> (the device)
    interrupt       uvm_aio_biodone: queues the Buf, wakes the pagedaemon
    pagedaemon      uvm_aio_aiodone -> uvm_pager_dropcluster: un-busies the pages

A page that is released meanwhile (PG_RELEASED) is freed by uvm_pager_dropcluster.
A synchronous write (PGO_SYNCIO; of uvn_flush) is done when uvm_pager_put returns 0,
and its caller cleans up.

A cluster that goes to swap may have pages of anons and of aobjs; one of a file has
that file's pages only, in a row (uvm_mk_pcluster).

Left out: pager_map.
Source: uvm_pager.c 1.25 (February 2000), with the result codes of 2001-03-10 (D-001).
"""

from __future__ import annotations

from shared.port.port import KASSERT, erratum, here, kernel
from shared.uvm.anon import uvm_anfree
from shared.uvm.aobj import uao_find_swslot, uao_set_swslot
from shared.uvm.page import (
    uvm_lock_pageq,
    uvm_page_own,
    uvm_page_unbusy,
    uvm_pageactivate,
    uvm_pagelookup,
    uvm_unlock_pageq,
)
from shared.uvm.param import (
    EAGAIN,
    PG_BUSY,
    PG_CLEAN,
    PG_CLEANCHK,
    PG_RELEASED,
    PGO_DOACTCLUST,
    PGO_PDFREECLUST,
    PGO_REALLOCSWAP,
    PGO_SYNCIO,
    PQ_INACTIVE,
    SWSLOT_NONE,
    UVM_PGOPS_AOBJ,
    VM_PAGER_AGAIN,
    VM_PROT_READ,
)
from shared.uvm.pgops import pgops_of
from shared.uvm.pmap import pmap_clear_modify, pmap_clear_reference, pmap_is_modified
from shared.uvm.pmap_page import pmap_page_protect, pmap_page_protect_unwired
from shared.uvm.structs import Anon, Page, UvmObject
from shared.uvm.swap import uvm_swap_free, uvm_swap_markbad, uvm_swap_put


def transient_error(error: int) -> bool:
    """Is the error transient? Then the slots are good; otherwise they must not be used again."""
    if erratum("uvm_aio_aiodone.old-result-codes"):
        return error == VM_PAGER_AGAIN  # 5, which is EIO
    return error == EAGAIN


def dispose_of_slots(slot: int, npages: int, transient: bool) -> None:
    """A pageout to these slots has failed, and its pages have let go of them."""
    if transient:
        uvm_swap_free(slot, npages)
    else:
        uvm_swap_markbad(slot, npages)


def uvm_pager_cleaning(pg: Page) -> None:
    """Get a page of a file, which is BUSY, ready to be written: it is modified again if it is written to from now on.

    No process writes to it by a mapping that is not wired until the I/O is done. A wired mapping stays as it is,
    since locked memory takes no fault; if it is written through, that has set the modified attribute when the I/O is
    over.

    Locks:   the page's owner.
    Source:  genfs_putpages() of 2001-09, which clears the attribute before the I/O, and write-protects nothing.
             uvn_flush() write-protected the page in every address space (erratum E64), and cleared the attribute after
             the I/O.
    """
    if erratum("uvn_flush.wired-write-protected"):
        pmap_page_protect(pg, VM_PROT_READ)
    else:
        pmap_page_protect_unwired(pg, VM_PROT_READ)
    pmap_clear_modify(pg)


@kernel(exit="same")
def uvm_mk_pcluster(uobj: UvmObject, center: Page, flags: int, mlo: int = 0, mhi: int = 0) -> list[Page]:
    """Gather what may be written to a file together with a page: its dirty neighbours.

    Args:
        center: BUSY, and ready to be written (uvm_pager_cleaning).
        flags: PGO_DOACTCLUST: active pages as well, not only inactive pages.
        mlo, mhi: offsets between which they must be, if `mhi` is not 0.

    Locks:   entry the object and the page queues. Returns: same.
    Returns: the pages in order, now BUSY, ready to be written and not CLEAN.
    Source:  uvm_pager.c.   Differs: called by the caller of uvm_pager_put(), to know how many there are; asks the
             pmap of inactive pages too, since they keep their mappings.
    """
    cluster = pgops_of(uobj).pgo_cluster
    assert cluster is not None
    page_size = here.port.page_size
    middle = center.offset
    lo, hi = cluster(uobj, middle)
    if mhi:
        lo, hi = max(lo, mlo), min(hi, mhi)
    around: list[list[Page]] = [[], []]
    for enrolled, offsets in zip(
        around, (range(middle - page_size, lo - 1, -page_size), range(middle + page_size, hi, page_size)), strict=True
    ):
        for off in offsets:
            pclust = uvm_pagelookup(uobj, off)
            if pclust is None or not (flags & PGO_DOACTCLUST or pclust.pqflags & PQ_INACTIVE):
                break
            pgflags = pclust.flags
            if pgflags & PG_BUSY or (pgflags & PG_CLEAN and not pmap_is_modified(pclust)):
                break
            pclust.flags = (pgflags | PG_BUSY | PG_CLEANCHK) & ~PG_CLEAN
            uvm_page_own(pclust, "uvm_mk_pcluster")
            uvm_pager_cleaning(pclust)
            enrolled.append(pclust)
    return [*reversed(around[0]), center, *around[1]]


@kernel()
def uvm_pager_put(uobj: UvmObject | None, pg: Page | None, ppsp: list[Page], slot: int, flags: int) -> tuple[int, int]:
    """Write a cluster: start that, or with PGO_SYNCIO do it.

    If the pager is short of something, a cluster that was built around a page
    is tried again as that page alone. What cannot be written is un-busied; its
    slots are freed, or after a hard error marked bad.

    Args:
        uobj: whose pages they are; None: swap-backed pages, of any owners.
        pg: the page of interest, if they are swap-backed the last one of `ppsp`; None if there is none.
        ppsp: the cluster; its pages are BUSY, write-protected and not CLEAN.
        slot: the swap slot of ppsp[0]; the others have the following slots.

    Locks:   the page queues, and the object if there is one, on entry; nothing on return.
    Sleeps:  with PGO_SYNCIO.
    Returns: (0, EAGAIN or EIO; number of pages whose I/O was started, or done).
    Source:  uvm_pager.c.
    Differs: un-busies `pg` too if nothing was started; UVM leaves that page to its caller.
    """
    uvm_unlock_pageq()
    error = _put(uobj, slot, ppsp, flags)
    if error == 0:
        if not flags & PGO_SYNCIO and erratum("uvm_pager_put.started-is-done"):
            uvm_pager_dropcluster(ppsp, PGO_PDFREECLUST)
        return 0, len(ppsp)
    transient = transient_error(error)
    if transient and pg is not None and len(ppsp) > 1:
        uvm_pager_dropcluster([page for page in ppsp if page != pg], PGO_REALLOCSWAP)
        if uobj is None:
            uvm_swap_free(slot, len(ppsp) - 1)
            slot += len(ppsp) - 1
        else:
            uobj.vmobjlock.lock()
        ppsp = [pg]
        error = _put(uobj, slot, ppsp, flags)
        if error == 0:
            return 0, 1
        transient = transient_error(error)
    uvm_pager_dropcluster(ppsp, PGO_REALLOCSWAP, reactivate=not transient)
    if uobj is None:
        dispose_of_slots(slot, len(ppsp), transient)
    return error, 0


def _put(uobj: UvmObject | None, slot: int, ppsp: list[Page], flags: int) -> int:
    """Hand a cluster to its pager. Locks: the object, if there is one; nothing on return."""
    if uobj is None:
        return uvm_swap_put(slot, ppsp)
    put = pgops_of(uobj).pgo_put
    assert put is not None
    return put(uobj, ppsp, flags)


@kernel(exit="same")
def uvm_pager_dropcluster(ppsp: list[Page], flags: int, reactivate: bool = False) -> None:
    """Un-busy the pages of a cluster, and free those that were released meanwhile.

    Args:
        flags: PGO_PDFREECLUST: they were written, so they are clean now.
            PGO_REALLOCSWAP: they were not; they have no swap slot any more (the caller disposes of the slots).
        reactivate: put them on the active queue, out of the pagedaemon's way.

    Locks:   none held.
    Source:  uvm_pager.c.
    Differs: looks up the pages' owners under the page queues' lock (UVM lets PG_BUSY protect that).
    """
    uvm_lock_pageq()
    owners = [(pg.uobject, pg.uanon) for pg in ppsp]
    uvm_unlock_pageq()
    for pg, (uobj, anon) in zip(ppsp, owners, strict=True):
        if uobj is not None:
            owner_lock = uobj.vmobjlock
        else:
            KASSERT(anon is not None, "pg->uanon != NULL", pg)
            assert anon is not None
            owner_lock = anon.an_lock
        owner_lock.lock()
        if flags & PGO_REALLOCSWAP:
            uvm_page_set_swslot(pg, uobj, anon, SWSLOT_NONE)
        pgflags = pg.flags
        KASSERT(pgflags & PG_BUSY != 0, "pg->flags & PG_BUSY", pg)
        if pgflags & PG_RELEASED and (uobj is not None or not erratum("uvm_pager_dropcluster.anon-not-released")):
            uvm_page_unbusy(pg, pgflags)
            if uobj is None:
                assert anon is not None
                owner_lock.unlock()
                uvm_anfree(anon)  # frees the page as well
            elif pgops_of(uobj).pgo_releasepg(pg):
                owner_lock.unlock()
            continue
        if flags & PGO_PDFREECLUST:
            pmap_clear_reference(pg)
            if uobj is None or uobj.pgops == UVM_PGOPS_AOBJ:
                pmap_clear_modify(pg)  # of a file's page: uvm_pager_cleaning()
            pgflags |= PG_CLEAN
        uvm_page_unbusy(pg, pgflags)
        if reactivate:
            uvm_lock_pageq()
            uvm_pageactivate(pg)
            uvm_unlock_pageq()
        owner_lock.unlock()


def uvm_page_swslot(pg: Page, uobj: UvmObject | None, anon: Anon | None) -> int:
    """The swap slot of a swap-backed page: its anon's, or that which its aobj has for it. Locks: the owner."""
    if uobj is not None:
        return uao_find_swslot(uobj, pg.offset // here.port.page_size)
    assert anon is not None
    return anon.an_swslot


def uvm_page_set_swslot(pg: Page, uobj: UvmObject | None, anon: Anon | None, slot: int) -> None:
    """Give a page another swap slot, if its owner has slots. Locks: the owner."""
    if uobj is None:
        assert anon is not None
        anon.an_swslot = slot
    elif uobj.pgops == UVM_PGOPS_AOBJ:
        uao_set_swslot(uobj, pg.offset // here.port.page_size, slot)
