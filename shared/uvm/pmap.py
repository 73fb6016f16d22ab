"""pmap(9): the machine-dependent layer's interface, as requests to the mmu node.

Every function is one operation. Those that take away or narrow a translation
that another CPU may have in its TLB return only when every such CPU has
flushed and acknowledged (TLB shootdown); the caller may hold simple locks
meanwhile, and a CPU that spins on one of them still takes the IPI.

Frames are page frame numbers, addresses are bytes and page-aligned.

Where page tables are real pages they belong to an object of the pmap's own, as
the i386 port has it: wired, on no queue, not counted in uvmexp.wired, and freed
when their last translation is gone from every TLB. The lock of that object,
pm_lock, comes after the page queues'. Memory for them may be taken from the
kernel's reserve. The kernel's own pmap has all its tables from the beginning, outside of
the modelled memory.

Left out: pmap_copy (an optimization), pv entries as memory.
Source: pmap(9) of 2001; page-table pages: pmap.c of the i386 port, 2000.
"""

from __future__ import annotations

from shared.port.port import ANY_GEN, erratum, here, kernel, panic
from shared.uvm.page import uvm_lock_pageq, uvm_page_own, uvm_pagealloc, uvm_pagefree, uvm_unlock_pageq
from shared.uvm.param import (
    ENOMEM,
    PG_BUSY,
    PG_FAKE,
    PMAP_CANFAIL,
    PMAP_KERNEL,
    PMAP_WIRED,
    UVM_PGA_USERESERVE,
    UVM_PGA_ZERO,
    UVM_PGOPS_NONE,
    VM_PROT_READ,
)
from shared.uvm.pmap_page import FREE_PTPS, Ptps
from shared.uvm.structs import Page, Pmap, uvm
from shared.uvm.wait import uvm_wait

# -- page-table pages ----------------------------------------------------------------------


@kernel(exit="same")
def pmap_get_ptp(pm_obj: Pmap, pmap: int, va: int) -> bool:
    """Give a pmap the page-table page that it lacks at `va`.

    Locks:   the owner of a page held by the caller; takes the page queues and pm_lock. Returns: same.
    Returns: False if there is no memory for it.
    Source:  i386 pmap.c.   Differs: takes no page away from another pmap instead. Takes the page queues' lock, as
             pmap_free_ptps() does, since it guards fields of every page; the i386 port takes none for such pages,
             which are on no queue. The erratum's wait message is that of the mips, arm32 and sparc64 ports.
    """
    reserve = 0 if erratum("pmap_get_ptp.no-use-reserve") else UVM_PGA_USERESERVE
    while True:
        uvm_lock_pageq()
        pm_obj.vmobjlock.lock()
        ptp = uvm_pagealloc(pm_obj, va, None, UVM_PGA_ZERO | reserve)
        if ptp is not None:
            break
        pm_obj.vmobjlock.unlock()
        uvm_unlock_pageq()
        if not erratum("pmap_get_ptp.waits-for-memory"):
            return False
        uvm_wait("pmap_enter")
    ptp.flags &= ~(PG_BUSY | PG_FAKE)
    uvm_page_own(ptp, None)
    ptp.wire_count = 1
    if not here.port.op("pmap_ptp_enter", pmap, (va, ptp.frame)):  # another thread of the process was faster
        ptp.wire_count = 0
        uvm_pagefree(ptp)
    pm_obj.vmobjlock.unlock()
    uvm_unlock_pageq()
    return True


def pmap_free_ptps(ptps: Ptps | None) -> None:
    """Free page-table pages that have no translation left.

    Args:
        ptps: as the mmu answers them; None: there are none.

    Locks:   takes the page queues, unless they are held, and pm_lock.
    """
    if not ptps:
        return
    nested = uvm.pageqlock.held()
    if not nested:
        uvm_lock_pageq()
    for pm_obj, frame in ptps:
        ptp = Page.at(frame, ANY_GEN)
        pm_obj.vmobjlock.lock()
        ptp.wire_count = 0  # which uvmexp.wired does not count
        uvm_pagefree(ptp)
        last = pm_obj.uo_refs == 0 and pm_obj.uo_npages == 0
        pm_obj.vmobjlock.unlock()
        if last:
            here.port.free(pm_obj)
    if not nested:
        uvm_unlock_pageq()


FREE_PTPS.append(pmap_free_ptps)

# -- the interface -------------------------------------------------------------------------


def pmap_create() -> int:
    """A new, empty pmap; returns its number (1, 2, ...)."""
    port = here.port
    pmap, tables = port.op("pmap_create", 0)
    if tables:
        pm_obj = port.alloc(Pmap)
        pm_obj.pgops = UVM_PGOPS_NONE
        pm_obj.uo_npages = 0
        pm_obj.uo_refs = 1
        port.op("pmap_object", pmap, (pm_obj,))
    number: int = pmap
    return number


def pmap_bootstrap() -> None:
    """Make the kernel's pmap, number PMAP_KERNEL; at boot."""
    here.port.op("pmap_bootstrap", 0)


def pmap_kenter_pa(va: int, pg: Page, prot: int) -> None:
    """Map a page of the kernel's own, wired; it never faults, so its R and M are set from the beginning.

    Differs: the mapping is on the page's pv list, as others are.
    """
    here.port.pmap("pmap_enter", PMAP_KERNEL, (va, pg.frame, prot, prot | PMAP_WIRED), pg.gen)


def pmap_kremove(va: int, size: int) -> None:
    """Undo pmap_kenter_pa() in [va, va + size)."""
    here.port.pmap("pmap_remove", PMAP_KERNEL, (va, va + size))


def pmap_destroy(pmap: int) -> None:
    """Drop an empty pmap. If others are still about to free its page tables, the last one of them ends its object."""
    pm_obj: Pmap | None = here.port.op("pmap_destroy", pmap)
    if pm_obj is not None:
        pm_obj.vmobjlock.lock()
        pm_obj.uo_refs = 0
        last = pm_obj.uo_npages == 0
        pm_obj.vmobjlock.unlock()
        if last:
            here.port.free(pm_obj)


@kernel(exit="same")
def pmap_enter(pmap: int, va: int, pg: Page, prot: int, flags: int) -> int:
    """Map `pg` at `va` with `prot`, replacing what was there.

    Args:
        flags: the access that caused it (VM_PROT_READ/WRITE, presets R and M;
            0: unknown), PMAP_WIRED, PMAP_CANFAIL.

    Returns: 0, or ENOMEM if the pmap is short of memory: nothing has changed then. Without PMAP_CANFAIL it panics.
    Locks:   the page's owner is held by the caller, the page queues are not.
    Source:  i386 pmap.c; its panic in 1.83 (February 2000) is pmap_steal_ptp()'s, the other one is later.
    """
    while True:
        lacking: Pmap | int = here.port.pmap("pmap_enter", pmap, (va, pg.frame, prot, flags), pg.gen)
        if isinstance(lacking, int):
            return lacking
        if not pmap_get_ptp(lacking, pmap, va):
            if erratum("pmap_enter.no-canfail"):
                panic("pmap_steal_ptp: failed to steal a PTP!", pg)
            if not flags & PMAP_CANFAIL:
                panic("pmap_enter: get ptp failed", pg)
            return ENOMEM


def pmap_remove(pmap: int, start: int, end: int) -> None:
    """Remove every mapping in [start, end)."""
    pmap_free_ptps(here.port.pmap("pmap_remove", pmap, (start, end)))


def pmap_protect(pmap: int, start: int, end: int, prot: int) -> None:
    """Narrow the protection of every mapping in [start, end) to `prot`.

    Differs: without VM_PROT_READ a wired mapping stays, and allows nothing: munlock will find the page by it. The pmaps
             of the i386 and the alpha removed it, as they did any other (errata E40a, E40b).
    """
    removing = erratum("pmap_protect.wired-removed") or erratum("uvm_fault_unwire.unmapped-passed-over")
    if removing and not prot & VM_PROT_READ:
        pmap_remove(pmap, start, end)
    else:
        pmap_free_ptps(here.port.pmap("pmap_protect", pmap, (start, end, prot)))


def pmap_emulate_reference(pmap: int, va: int, write: bool) -> None:
    """The MMU has trapped because a page is used, or written to, for the first time: set its R, or R and M."""
    here.port.op("pmap_emulate_reference", pmap, (va // here.port.page_size, int(write)))


def pmap_unwire(pmap: int, va: int) -> None:
    """Clear the wired attribute of the mapping at `va`."""
    here.port.op("pmap_unwire", pmap, (va,))


def pmap_extract(pmap: int, va: int) -> Page | None:
    """The page mapped at `va`, or None (UVM's returns a physical address)."""
    frame: int | None = here.port.op("pmap_extract", pmap, (va,))
    return None if frame is None else Page.at(frame, ANY_GEN)


def pmap_allows(pmap: int, va: int, prot: int) -> bool:
    """Does the mapping at `va` allow all of `prot`? For assertions.

    Args:
        va: a byte address inside the page; prot: VM_PROT_* bits.

    Locks:   none; the answer may be out of date unless the page's owner is locked.
    Source:  none; the model's.
    """
    return bool(here.port.op("pmap_allows", pmap, (va, prot)))


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
