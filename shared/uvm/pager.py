"""Pageout: starting it, finishing it.

The contract of 2001-03-10: 0 from a pager means that the I/O was started, and
nothing else; all that has to be done after the I/O is the completion's. So each
cluster is finished exactly once, either in uvm_pager_put, when its I/O could
not be started, or in uvm_aio_aiodone.

    pagedaemon      uvm_pager_put -> uvm_swap_put -> (the swap pager)
    interrupt       uvm_aio_biodone: queues the Buf, wakes the pagedaemon
    pagedaemon      uvm_aio_aiodone -> uvm_pager_dropcluster: un-busies the pages

A page that is released meanwhile (PG_RELEASED) is freed by uvm_pager_dropcluster.

Left out: pages of objects (uvm_mk_pcluster, pgo_put, pgo_releasepg), synchronous
pageout, pager_map.
Source: uvm_pager.c of March 2001.
"""

from __future__ import annotations

from shared.port import KASSERT, erratum, here, kernel
from shared.uvm.anon import uvm_anfree
from shared.uvm.page import uvm_lock_pageq, uvm_page_unbusy, uvm_pageactivate, uvm_unlock_pageq
from shared.uvm.param import (
    EAGAIN,
    PG_BUSY,
    PG_CLEAN,
    PG_RELEASED,
    PGO_PDFREECLUST,
    PGO_REALLOCSWAP,
    SWSLOT_NONE,
    VM_PAGER_AGAIN,
)
from shared.uvm.pmap import pmap_clear_modify, pmap_clear_reference
from shared.uvm.structs import AIO_DONE, Buf, Page, uvm, uvmexp
from shared.uvm.swap import uvm_swap_free, uvm_swap_markbad, uvm_swap_put


def _transient(error: int) -> bool:
    """Will what went wrong pass? The slots are good then; otherwise nobody may get them again."""
    if erratum("uvm_aio_aiodone.old-result-codes"):
        return error == VM_PAGER_AGAIN  # 5, which is EIO
    return error == EAGAIN


@kernel()
def uvm_pager_put(pg: Page | None, ppsp: list[Page], slot: int) -> tuple[int, int]:
    """Start the pageout of a cluster of swap-backed pages.

    If the pager is short of something, a cluster that was built around a page
    is tried again as that page alone. What cannot be started is un-busied;
    its slots are freed, or after a hard error marked bad.

    Args:
        pg: the page of interest, the last one of `ppsp`; None if there is none.
        ppsp: the cluster; its pages are BUSY, write-protected and not CLEAN.
        slot: the swap slot of ppsp[0]; the others have the following ones.

    Locks:   the page queues on entry, nothing on return.
    Returns: (0, EAGAIN or EIO; number of pages whose I/O was started).
    Source:  uvm_pager.c.
    Differs: un-busies `pg` too if nothing was started; UVM leaves that one to its caller.
    """
    uvm_unlock_pageq()
    error = uvm_swap_put(slot, ppsp)
    if error == 0:
        if erratum("uvm_pager_put.started-is-done"):
            uvm_pager_dropcluster(ppsp, PGO_PDFREECLUST)
        return 0, len(ppsp)
    transient = _transient(error)
    if transient and pg is not None and len(ppsp) > 1:
        uvm_pager_dropcluster(ppsp[:-1], PGO_REALLOCSWAP)
        uvm_swap_free(slot, len(ppsp) - 1)
        slot += len(ppsp) - 1
        ppsp = [pg]
        error = uvm_swap_put(slot, ppsp)
        if error == 0:
            return 0, 1
        transient = _transient(error)
    uvm_pager_dropcluster(ppsp, PGO_REALLOCSWAP, reactivate=not transient)
    if transient:
        uvm_swap_free(slot, len(ppsp))
    else:
        uvm_swap_markbad(slot, len(ppsp))
    return error, 0


@kernel(exit="same")
def uvm_pager_dropcluster(ppsp: list[Page], flags: int, reactivate: bool = False) -> None:
    """Un-busy the pages of a cluster, and free those that were released meanwhile.

    Args:
        flags: PGO_PDFREECLUST: they were written, so they are clean now.
            PGO_REALLOCSWAP: they were not; their anons have no slot any more (the caller disposes of the slots).
        reactivate: put them on the active queue, out of the pagedaemon's way.

    Locks:   none held.
    Source:  uvm_pager.c.
    Differs: looks up the pages' owners under the page queues' lock (UVM lets PG_BUSY protect that).
    """
    uvm_lock_pageq()
    owners = [pg.uanon for pg in ppsp]
    uvm_unlock_pageq()
    for pg, anon in zip(ppsp, owners, strict=True):
        KASSERT(anon is not None, "pg->uanon != NULL", pg)
        assert anon is not None
        anon.an_lock.lock()
        if flags & PGO_REALLOCSWAP:
            anon.an_swslot = SWSLOT_NONE
        pgflags = pg.flags
        KASSERT(pgflags & PG_BUSY != 0, "pg->flags & PG_BUSY", pg)
        if pgflags & PG_RELEASED:
            uvm_page_unbusy(pg, pgflags)
            anon.an_lock.unlock()
            uvm_anfree(anon)  # frees the page as well
            continue
        if flags & PGO_PDFREECLUST:
            pmap_clear_reference(pg)
            pmap_clear_modify(pg)
            pgflags |= PG_CLEAN
        uvm_page_unbusy(pg, pgflags)
        if reactivate:
            uvm_lock_pageq()
            uvm_pageactivate(pg)
            uvm_unlock_pageq()
        anon.an_lock.unlock()


@kernel(exit="same")
def uvm_aio_biodone(bp: Buf, error: int) -> None:
    """A pageout's I/O is done: hand it to the pagedaemon.

    Runs in the completion interrupt, at splbio.

    Locks:   takes pagedaemon_lock; the interrupted context holds it only at splbio.
    Source:  uvm_pager.c; the assertion is that of the later uvm_pageout_done().
    """
    KASSERT(uvmexp.paging >= bp.npages, "uvmexp.paging >= npages", uvmexp)
    uvm.pagedaemon_lock.lock()
    if error:
        bp.error = error
    AIO_DONE.insert_tail(uvm, bp)
    here.port.wakeup(uvm.addressof("pagedaemon"))
    uvm.pagedaemon_lock.unlock()


@kernel(exit="same")
def uvm_aio_aiodone(bp: Buf, error: int) -> None:
    """Finish a pageout: the pages are clean, or still dirty.

    After a transient error the slots are free again and the pages stay
    inactive, to be tried anew. After a hard one the slots are bad, and the
    pages are reactivated to get them out of the way.

    Args:
        error: of the Buf, read when it was taken off the queue.

    Locks:   none held; run by the pagedaemon.
    Source:  uvm_pager.c.
    """
    npages, slot, pages = bp.npages, bp.slot, bp.pages
    ppsp = [pages[at] for at in range(npages)]
    here.port.free(pages)
    here.port.free(bp)
    if error == 0:
        uvm_pager_dropcluster(ppsp, PGO_PDFREECLUST)
    elif _transient(error):
        uvm_pager_dropcluster(ppsp, PGO_REALLOCSWAP)
        uvm_swap_free(slot, npages)
    else:
        uvm_pager_dropcluster(ppsp, PGO_REALLOCSWAP, reactivate=True)
        uvm_swap_markbad(slot, npages)
