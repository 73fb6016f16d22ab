"""The end of a pageout: the completion interrupt hands its Buf to the pagedaemon, which finishes it.

The contract between those who start I/O and these functions is in pager.py.

Source: uvm_pager.c 1.25 (February 2000), with the result codes of 2001-03-10 (D-001).
"""

from __future__ import annotations

from shared.port.port import KASSERT, here, kernel
from shared.uvm.buf import uvm_putbuf
from shared.uvm.pager import dispose_of_slots, transient_error, uvm_pager_dropcluster
from shared.uvm.param import PGO_PDFREECLUST, PGO_REALLOCSWAP
from shared.uvm.structs import AIO_DONE, Buf, uvm, uvmexp
from shared.uvm.vnode import uvn_iodone


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
    npages, slot, pages, vp = bp.npages, bp.slot, bp.pages, bp.vp
    ppsp = [pages[at] for at in range(npages)]
    uvm_putbuf(bp)
    if error == 0:
        uvm_pager_dropcluster(ppsp, PGO_PDFREECLUST)
    else:
        transient = transient_error(error)
        uvm_pager_dropcluster(ppsp, PGO_REALLOCSWAP, reactivate=not transient)
        if vp is None:
            dispose_of_slots(slot, npages, transient)
    if vp is not None:
        uvn_iodone(vp)  # the pages are no longer BUSY: a thread that waits for the I/O can see the result
