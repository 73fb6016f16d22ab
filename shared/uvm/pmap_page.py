"""pmap(9): what concerns a page and all its mappings, but no single translation: filling, copying, narrowing.

Below page.py, while the rest of pmap is above it: when the last translation of a page table goes, its page is freed.
Therefore pmap.py registers here the function that frees it, as a pager registers its operations in pgops.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from shared.port.port import here
from shared.uvm.structs import Page

#: page tables that have no translation left, as the mmu answers them: of each [the pmap's object, its frame]
Ptps = list[list[Any]]

#: pmap_free_ptps(), entered by pmap.py when it is loaded
FREE_PTPS: list[Callable[[Ptps], None]] = []


def pmap_zero_page(pg: Page) -> None:
    """Fill the page's frame with zeros."""
    here.port.op("frame_zero", pg.frame)


def pmap_is_mapped(pg: Page) -> bool:
    """Is `pg` mapped anywhere? Its callers are about to free it.

    Locks:   the page's owner is held by the caller, if the page has one: else the answer may be out of date.
    Source:  none; the model's. A pmap of the period finds out when it removes the page's mappings.
    """
    return bool(here.port.op("pmap_is_mapped", pg.frame))


def pmap_copy_page(src: Page, dst: Page) -> None:
    """Copy a frame's bytes."""
    here.port.copy_frame(src.frame, dst.frame)


def pmap_page_protect(pg: Page, prot: int) -> None:
    """Narrow every mapping of `pg`.

    Args:
        prot: VM_PROT_READ: write-protect; VM_PROT_NONE: remove.

    Locks:   the page's owner is held by the caller. Returns: same, when every CPU has flushed.
    Source:  pmap(9); i386 pmap.c.
    """
    _narrow("pmap_page_protect", pg, prot)


def pmap_page_protect_unwired(pg: Page, prot: int) -> None:
    """Narrow every mapping of `pg` that is not wired, as pmap_page_protect() does: locked memory takes no fault.

    Args:
        prot: VM_PROT_READ: write-protect; VM_PROT_NONE: remove.

    Locks:   the page's owner is held by the caller. Returns: same, when every CPU has flushed.
    Source:  none; the model's. UVM narrowed all of them, see uvm_fault()'s case 2B and uvn_flush().
    """
    _narrow("pmap_page_protect_unwired", pg, prot)


def _narrow(code: str, pg: Page, prot: int) -> None:
    ptps: Ptps | None = here.port.pmap(code, pg.frame, (prot,))
    if ptps:
        FREE_PTPS[0](ptps)
