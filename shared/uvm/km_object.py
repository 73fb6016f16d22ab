"""Kernel objects and interrupt-safe maps, as faults and unmapping see them; km.py allocates from them.

Source: uvm_km.c 1.3x of 2000, uvm_fault_i.h 1.10, uvm_map.c.
"""

from __future__ import annotations

from shared.port.port import KASSERT, SPL_HIGH, here, kernel
from shared.uvm.page import uvm_lock_pageq, uvm_pagefree, uvm_pagelookup, uvm_unlock_pageq
from shared.uvm.param import PG_BUSY, PMAP_KERNEL, UVM_ET_OBJ, UVM_OBJ_INTRSAFE_KERN, VM_MIN_KERNEL_ADDRESS
from shared.uvm.pmap import pmap_kremove, pmap_remove
from shared.uvm.structs import UvmObject, VmMapEntry, uvm

# -- interrupt-safe maps -----------------------------------------------------------------


def vmi_list_lock() -> int:
    """Lock the list of interrupt-safe maps; returns the interrupt level to go back to."""
    s = here.port.splraise(SPL_HIGH)
    uvm.vmi_list_slock.lock()
    return s


def vmi_list_unlock(s: int) -> None:
    uvm.vmi_list_slock.unlock()
    here.port.spl(s)


@kernel(exit="same")
def uvmfault_check_intrsafe(va: int) -> bool:
    """Is this the address of an interrupt-safe map?

    Locks:   takes vmi_list_slock, at splhigh, and no other.
    Source:  uvm_fault_i.h 1.9, 1999-06-04.
    """
    s = vmi_list_lock()
    vmi = uvm.vmi_list
    while vmi is not None and not vmi.min_offset <= va < vmi.max_offset:
        vmi = vmi.vmi_list_next
    vmi_list_unlock(s)
    return vmi is not None


# -- pages of kernel objects -------------------------------------------------------------


def km_offset(kva: int) -> int:
    """Offset in a kernel object of an address."""
    return kva - VM_MIN_KERNEL_ADDRESS


def uvm_km_unmap_object(entry: VmMapEntry) -> None:
    """Unmap what a kernel object has behind an entry, and free its pages. Locks: entry map(w); same.

    Source:  uvm_map.c, uvm_unmap_remove.
    """
    uobj, start, end = entry.object, entry.start, entry.end
    assert uobj is not None
    if uobj.uo_refs == UVM_OBJ_INTRSAFE_KERN:
        pmap_kremove(start, end - start)
        uvm_km_pgremove_intrsafe(uobj, km_offset(start), km_offset(end))
    else:
        pmap_remove(PMAP_KERNEL, start, end)
        uvm_km_pgremove(uobj, km_offset(start), km_offset(end))
    entry.etype &= ~UVM_ET_OBJ
    entry.object = None


@kernel(exit="same")
def uvm_km_pgremove(uobj: UvmObject, start: int, end: int) -> None:
    """Free the pages of a kernel object in [start, end); none of them is busy or mapped.

    Locks:   takes the object, and the page queues.
    Source:  uvm_km.c.   Differs: always by hash.
    """
    uobj.vmobjlock.lock()
    for off in range(start, end, here.port.page_size):
        pg = uvm_pagelookup(uobj, off)
        if pg is not None:
            uvm_lock_pageq()
            uvm_pagefree(pg)
            uvm_unlock_pageq()
    uobj.vmobjlock.unlock()


@kernel(exit="same")
def uvm_km_pgremove_intrsafe(uobj: UvmObject, start: int, end: int) -> None:
    """The same for an interrupt-safe object. Its pages are on no queue, and we may be in an interrupt: no page queues.

    Locks:   takes the object; at splimp.
    Source:  uvm_km.c.   Differs: always by hash.
    """
    uobj.vmobjlock.lock()
    for off in range(start, end, here.port.page_size):
        pg = uvm_pagelookup(uobj, off)
        if pg is not None:
            KASSERT(pg.flags & PG_BUSY == 0, "(pg->flags & PG_BUSY) == 0", pg)
            uvm_pagefree(pg)
    uobj.vmobjlock.unlock()
