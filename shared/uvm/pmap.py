"""pmap(9): the machine-dependent layer's interface, as requests to the mmu node.

Every function is one operation. Those that take away or narrow a translation
that another CPU may have in its TLB return only when every such CPU has
flushed and acknowledged (TLB shootdown); the caller may hold simple locks
meanwhile, and a CPU that spins on one of them still takes the IPI.

Frames are page frame numbers, addresses are bytes and page-aligned.
Left out: pmap_copy (an optimization); page-table pages are
not yet real pages, so pmap_enter cannot run short. Source: pmap(9) of 2001.
"""

from __future__ import annotations

from shared.port import here
from shared.struct import ANY_GEN
from shared.uvm.param import PMAP_KERNEL, PMAP_WIRED, VM_PROT_NONE
from shared.uvm.structs import Page


def pmap_create() -> int:
    """A new, empty pmap; returns its number (1, 2, ...)."""
    pmap: int = here.port.op("pmap_create", 0)
    return pmap


def pmap_bootstrap() -> None:
    """Make the kernel's pmap, number PMAP_KERNEL; at boot."""
    here.port.op("pmap_bootstrap", 0)


def pmap_kenter_pa(va: int, pg: Page, prot: int) -> None:
    """Map a page of the kernel's own, wired; it never faults, so its R and M are set from the beginning.

    Differs: the mapping is on the page's pv list, as others are.
    """
    here.port.pmap("pmap_enter", PMAP_KERNEL, (va, pg.frame, prot, prot | PMAP_WIRED))


def pmap_kremove(va: int, size: int) -> None:
    """Undo pmap_kenter_pa() in [va, va + size)."""
    here.port.pmap("pmap_remove", PMAP_KERNEL, (va, va + size))


def pmap_destroy(pmap: int) -> None:
    """Drop an empty pmap."""
    here.port.op("pmap_destroy", pmap)


def pmap_enter(pmap: int, va: int, pg: Page, prot: int, flags: int) -> int:
    """Map `pg` at `va` with `prot`, replacing what was there.

    Args:
        flags: the access that caused it (VM_PROT_READ/WRITE, presets R and M;
            0: unknown), PMAP_WIRED, PMAP_CANFAIL.

    Returns: 0, or ENOMEM if PMAP_CANFAIL is given and the pmap is short of memory.
    Locks:   the page's owner is held by the caller.
    """
    result: int = here.port.pmap("pmap_enter", pmap, (va, pg.frame, prot, flags))
    return result


def pmap_remove(pmap: int, start: int, end: int) -> None:
    """Remove every mapping in [start, end)."""
    here.port.pmap("pmap_remove", pmap, (start, end))


def pmap_protect(pmap: int, start: int, end: int, prot: int) -> None:
    """Narrow the protection of every mapping in [start, end) to `prot`."""
    here.port.pmap("pmap_protect", pmap, (start, end, prot))


def pmap_unwire(pmap: int, va: int) -> None:
    """Clear the wired attribute of the mapping at `va`."""
    here.port.op("pmap_unwire", pmap, (va,))


def pmap_extract(pmap: int, va: int) -> Page | None:
    """The page mapped at `va`, or None (UVM's returns a physical address)."""
    frame: int | None = here.port.op("pmap_extract", pmap, (va,))
    return None if frame is None else Page.at(frame, ANY_GEN)


def pmap_page_protect(pg: Page, prot: int) -> None:
    """Narrow every mapping of `pg`: VM_PROT_READ write-protects, VM_PROT_NONE removes."""
    here.port.pmap("pmap_page_protect", pg.frame, (prot,))


def pmap_page_remove(pg: Page) -> None:
    """Remove every mapping of `pg`."""
    pmap_page_protect(pg, VM_PROT_NONE)


def pmap_is_modified(pg: Page) -> bool:
    """Has `pg` been written through any mapping since the bit was last cleared?"""
    return bool(here.port.op("pmap_is_modified", pg.frame))


def pmap_is_referenced(pg: Page) -> bool:
    """Has `pg` been used through any mapping since the bit was last cleared?"""
    return bool(here.port.op("pmap_is_referenced", pg.frame))


def pmap_clear_modify(pg: Page) -> bool:
    """Clear the modified bit everywhere; returns what it was."""
    return bool(here.port.pmap("pmap_clear_modify", pg.frame, ()))


def pmap_clear_reference(pg: Page) -> bool:
    """Clear the referenced bit everywhere; returns what it was."""
    return bool(here.port.pmap("pmap_clear_reference", pg.frame, ()))


def pmap_zero_page(pg: Page) -> None:
    """Fill the page's frame with zeros."""
    here.port.op("frame_zero", pg.frame)


def pmap_copy_page(src: Page, dst: Page) -> None:
    """Copy a frame's bytes."""
    here.port.copy_frame(src.frame, dst.frame)
