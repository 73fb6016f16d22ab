"""Bufs: what travels with the I/O of a pageout, the pages and where they go. Source: uvm_swap.c, uvm_vnode.c."""

from __future__ import annotations

from collections.abc import Sequence

from shared.port.port import here
from shared.uvm.structs import Buf, Page, PageArray, Vnode


def uvm_getbuf(ppsp: Sequence[Page], slot: int, vp: Vnode | None) -> Buf:
    """The buf of a pageout: these pages go to swap slots `slot` ..., or to a file."""
    pages = here.port.alloc(PageArray, len(ppsp))
    for at, pg in enumerate(ppsp):
        pages[at] = pg
    bp = here.port.alloc(Buf)
    bp.error = 0
    bp.npages = len(ppsp)
    bp.pages = pages
    bp.slot = slot
    bp.vp = vp
    return bp


def uvm_putbuf(bp: Buf) -> None:
    """Free the buf of a pageout that is over, or was not started."""
    here.port.free(bp.pages)
    here.port.free(bp)
