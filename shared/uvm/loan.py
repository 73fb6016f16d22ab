"""Page loans: the VM system lends pages, read-only, to other parts of the kernel, which so need not copy them.

    O->K  a page of an object, to the kernel
    A->K  a page of an anon, to the kernel
    O->A  a page of an object, to an anon made for it
    A->A  an anon: the borrower holds a reference, like an amap; this is not a loan of its page

An object's page can be on loan to an anon and to the kernel at once. pg->loan_count
counts the loans of a page; a page on loan to an anon has both a uobject and a
uanon, PQ_ANON is not set, and it is the object's.

Rules:

- A page on loan is not written to: lending it write-protects every mapping, and
  faults map it read-only. A write first breaks the loan (uvm_loanbreak, uvm_loanbreak_anon):
  the owner gets another page, and leaves this page to the borrower.
- Each loan to the kernel also wires the page, since the kernel uses it by its
  physical address.
- loan_count is changed with both the page's owner and the page queues locked. Who
  comes from the borrower's side has no hold on the owner: it locks the page queues,
  which keep the owner alive, and then tries the owner's lock.
- An owner that lets go of a page on loan only disowns it. The last borrower frees
  it, or the anon that borrowed it adopts it.
- While a device moves data from or to a page it is not lent: a borrower waits
  ("pageio"), and raw I/O breaks the loans of the pages that it wires. So a page that a DMA
  goes to is not replaced. UVM did not ensure that.
- Memory that map entries have wired is not lent, as NetBSD decided later for loans to the
  kernel: it takes no fault, so it is neither write-protected nor replaced. A page that is
  on loan and is to be wired is replaced first, as for a write. So what is wired is not on loan.

Left out: the mappings through which the kernel uses borrowed pages; the panic when an
interrupt-safe map is to be lent from (only programs lend here).
Source: uvm_loan.c 1.22 (June 2000), its uvm_unloanpage() as of 1.39 (July 2002).
"""

from __future__ import annotations

from shared.port.port import KASSERT, erratum, here, kernel, panic
from shared.port.struct import unlocked
from shared.uvm.amap import (
    Aref,
    amap_add,
    amap_alloc,
    amap_lock,
    amap_lookup,
    amap_unlock,
    amap_unref,
    aref_of,
)
from shared.uvm.anon import uvm_analloc, uvm_anfree
from shared.uvm.fault import uvmfault_anonget
from shared.uvm.fault_i import UvmFaultinfo, uvmfault_lookup, uvmfault_relock, uvmfault_unlockall, uvmfault_waitio
from shared.uvm.map import uvm_map
from shared.uvm.page import (
    uvm_lock_pageq,
    uvm_page_putback,
    uvm_page_unbusy,
    uvm_pageactivate,
    uvm_pageadopt,
    uvm_pagealloc,
    uvm_pagefree,
    uvm_pageunwire,
    uvm_pagewire,
    uvm_pagewirings,
    uvm_unlock_pageq,
)
from shared.uvm.param import (
    EAGAIN,
    EBUSY,
    EFAULT,
    EINVAL,
    ERESTART,
    MADV_NORMAL,
    MAP_INHERIT_COPY,
    PG_BUSY,
    PG_FAKE,
    PG_RELEASED,
    PGO_LOCKED,
    PQ_ANON,
    UVM_ET_COPYONWRITE,
    UVM_FLAG_COPYONW,
    UVM_FLAG_OVERLAY,
    UVM_LOAN_TOANON,
    UVM_LOAN_TOPAGE,
    UVM_PGA_ZERO,
    VM_PROT_ALL,
    VM_PROT_NONE,
    VM_PROT_READ,
    VM_PROT_WRITE,
)
from shared.uvm.pgops import pgops_of
from shared.uvm.pmap_page import pmap_page_protect
from shared.uvm.structs import Anon, Loan, LoanArray, Page, UvmObject, VmMap, uvmexp
from shared.uvm.wait import uvm_wait

#: what a function that lends one page answers
GOT_IT, RETRY, FAILED = 1, 0, -1


# -- lending ---------------------------------------------------------------------------------


@kernel(exit="same")
def uvm_loan(map: VmMap, start: int, length: int, result: list[Anon | Page], flags: int) -> int:
    """Lend what is mapped in a range.

    Args:
        result: gets the pages or anons lent; empty.
        flags: UVM_LOAN_TOANON - as anons; UVM_LOAN_TOPAGE - as pages, wired, to the kernel.

    Locks:   entry map unlocked. Returns: same.
    Sleeps:  as uvm_fault() does for a page that is not resident.
    Returns: 0; EFAULT - not all of it can be lent, as it is not mapped, or locked, and nothing is.
    Source:  uvm_loan.c.
    """
    page_size = here.port.page_size
    while len(result) * page_size < length:
        ufi = UvmFaultinfo(map, start + len(result) * page_size)
        if not uvmfault_lookup(ufi, False) or not uvm_loanentry(ufi, start + length, result, flags):
            if flags & UVM_LOAN_TOANON:
                uvm_unloananon([lent for lent in result if isinstance(lent, Anon)])
            else:
                uvm_unloanpage([lent for lent in result if isinstance(lent, Page)])
            result.clear()
            return EFAULT
    return 0


@kernel()
def uvm_loanentry(ufi: UvmFaultinfo, end: int, result: list[Anon | Page], flags: int) -> bool:
    """Lend the pages of one map entry, from the address looked up to `end` or its own end.

    Locks:   entry map(r). Returns: nothing is held.
    Sleeps:  as uvm_loan(); then less has been lent, and the entry has to be looked up again.
    Returns: False - it cannot be done.
    Source:  uvm_loan.c.   Differs: the object is locked only for a page of its own, as later. The fault information
             names the page in question; in UVM it stays with the first one, so that uvmfault_anonget() looks at the
             wrong slot when it has slept, and starts over for nothing.
    """
    entry = ufi.entry
    aref = aref_of(entry)
    amap = None if aref is None else aref.amap
    uobj = entry.object
    if amap is not None:
        amap_lock(amap)
    early = None
    if uobj is not None and erratum("uvm_loanentry.object-locked-too-early"):
        early = uobj
        early.vmobjlock.lock()
    entry_start, stop = entry.start, min(end, entry.end)
    while ufi.orig_rvaddr < stop:
        anon = None if aref is None else amap_lookup(aref, ufi.orig_rvaddr - entry_start)
        if anon is not None:
            got = uvm_loananon(ufi, anon, result, flags)
        elif uobj is not None:
            if early is None:
                uobj.vmobjlock.lock()
            got = uvm_loanuobj(ufi, uobj, result, flags)
            if got == GOT_IT and early is None:
                uobj.vmobjlock.unlock()
        elif entry.etype & UVM_ET_COPYONWRITE:
            got = uvm_loanzero(ufi, result, flags)
        else:
            uvmfault_unlockall(ufi, amap, None, None)  # nothing behind the entry
            got = FAILED
        if got != GOT_IT:
            return got == RETRY
        ufi.orig_rvaddr += here.port.page_size
    uvmfault_unlockall(ufi, amap, early, None)
    return True


@kernel()
def uvm_loananon(ufi: UvmFaultinfo, anon: Anon, result: list[Anon | Page], flags: int) -> int:
    """Lend an anon, or its page.

    Locks:   entry map(r), amap. Returns: same if GOT_IT, else nothing is held.
    Sleeps:  as uvmfault_anonget(), and while a device uses the page ("pageio").
    Returns: GOT_IT; RETRY; FAILED - it cannot be had, or is wired.
    Source:  uvm_loan.c.   Differs: a wired page is not lent; to the kernel, as later; to another anon it always was.
    """
    aref = aref_of(ufi.entry)
    assert aref is not None
    anon.an_lock.lock()
    if flags & UVM_LOAN_TOANON:
        pg = anon.an_page
        if pg is not None and uvmfault_waitio(ufi, aref.amap, None, anon, pg):
            return RETRY
        if pg is not None and _is_wired(pg):
            uvmfault_unlockall(ufi, aref.amap, None, anon)
            return FAILED
        refs = anon.an_ref
        # a page that it has only borrowed is read-only already
        if refs == 1 and pg is not None and unlocked(pg, "pqflags") & PQ_ANON:
            pmap_page_protect(pg, VM_PROT_READ)
        anon.an_ref = refs + 1
        result.append(anon)
        anon.an_lock.unlock()
        return GOT_IT

    error = uvmfault_anonget(ufi, aref.amap, anon)
    if error != 0:
        return RETRY if error == ERESTART else FAILED
    pg = anon.an_page
    assert pg is not None
    uobj = pg.uobject
    if uvmfault_waitio(ufi, aref.amap, uobj, anon, pg):
        return RETRY
    if _is_wired(pg):
        uvmfault_unlockall(ufi, aref.amap, uobj, anon)
        return FAILED
    _lend_to_kernel(pg)
    result.append(pg)
    if uobj is not None:
        uobj.vmobjlock.unlock()
    anon.an_lock.unlock()
    return GOT_IT


@kernel()
def uvm_loanuobj(ufi: UvmFaultinfo, uobj: UvmObject, result: list[Anon | Page], flags: int) -> int:
    """Lend an object's page, to the kernel or to an anon.

    Locks:   entry map(r), the entry's amap if it has one, object. Returns: same if GOT_IT, else nothing is held.
    Sleeps:  as the pager does for a page that is not resident, or busy; while a device uses it ("pageio").
    Returns: GOT_IT; RETRY; FAILED - it cannot be had, is wired, or there is no anon.
    Source:  uvm_loan.c.   Differs: an anon that has no reference any more is not given another; UVM did not look, and
             brought it back to life under uvm_anfree(). A wired page is not lent.
    """
    entry = ufi.entry
    aref = aref_of(entry)
    amap = None if aref is None else aref.amap
    skip = ufi.orig_rvaddr - entry.start
    offset = skip if erratum("uvm_loanuobj.offset-forgotten") else skip + entry.offset
    error, pages = pgops_of(uobj).pgo_get(uobj, offset, [True], 0, PGO_LOCKED)
    if error not in (0, EBUSY):
        uvmfault_unlockall(ufi, amap, uobj, None)
        return FAILED
    if error == EBUSY:
        uvmfault_unlockall(ufi, amap, None, None)
        # locked: object
        error, pages = pgops_of(uobj).pgo_get(uobj, offset, [True], 0, 0)
        # locked: nothing
        if error != 0:
            return RETRY if error == EAGAIN else FAILED
        locked = uvmfault_relock(ufi)
        if locked and amap is not None:
            amap_lock(amap)
        uobj.vmobjlock.lock()
        # the page may have been released, and the slot filled; and the map may be another
        pg = pages[0]
        assert pg is not None
        released = pg.flags & PG_RELEASED
        filled = locked and aref is not None and amap_lookup(aref, skip) is not None
        if locked and (released or filled):
            uvmfault_unlockall(ufi, amap, None, None)
            locked = False
        if not locked and released:
            uvm_page_unbusy(pg, pg.flags)
            if pgops_of(uobj).pgo_releasepg(pg):
                uobj.vmobjlock.unlock()
            return RETRY
        if not locked:
            uvm_page_putback(pg)
            uobj.vmobjlock.unlock()
            return RETRY

    # locked: map(r), amap, object; the page is BUSY
    pg = pages[0]
    assert pg is not None
    if unlocked(pg, "io_count"):
        uvm_page_putback(pg)
        if not uvmfault_waitio(ufi, amap, uobj, None, pg):
            uvmfault_unlockall(ufi, amap, uobj, None)
        return RETRY
    if _is_wired(pg):
        uvm_page_putback(pg)
        uvmfault_unlockall(ufi, amap, uobj, None)
        return FAILED
    if flags & UVM_LOAN_TOPAGE:
        _lend_to_kernel(pg)
        uvm_page_unbusy(pg, pg.flags)
        result.append(pg)
        return GOT_IT
    anon = pg.uanon
    if anon is not None:
        anon.an_lock.lock()
        refs = anon.an_ref
        if refs == 0 and not erratum("uvm_loanuobj.dying-anon-revived"):
            anon.an_lock.unlock()  # a thread that is about to free it waits for the object
            uvm_page_putback(pg)
            uvmfault_unlockall(ufi, amap, uobj, None)
            here.port.spin()
            return RETRY
        anon.an_ref = refs + 1
        anon.an_lock.unlock()
    else:
        anon = uvm_analloc()
        if anon is None:
            uvm_page_putback(pg)
            uvmfault_unlockall(ufi, amap, uobj, None)
            return FAILED
        anon.an_lock.lock()
        uvm_lock_pageq()
        loans = pg.loan_count
        if loans == 0:
            pmap_page_protect(pg, VM_PROT_READ)
        pg.loan_count = loans + 1
        pg.uanon = anon
        uvm_unlock_pageq()
        anon.an_page = pg
        anon.an_lock.unlock()
    uvm_page_putback(pg)
    result.append(anon)
    return GOT_IT


def _is_wired(pg: Page) -> bool:
    """Have map entries wired this page? (Loans to the kernel do not count.) Locks: its owner, so that it stays so."""
    if not unlocked(pg, "wire_count"):
        return False
    uvm_lock_pageq()
    wired = uvm_pagewirings(pg) != 0
    uvm_unlock_pageq()
    return wired and not erratum("uvm_fault.loan-broken-wiring-stays")


def _lend_to_kernel(pg: Page) -> None:
    """One more loan to the kernel. Locks: the page's owner."""
    uvm_lock_pageq()
    loans = pg.loan_count
    if loans == 0:
        pmap_page_protect(pg, VM_PROT_READ)
    pg.loan_count = loans + 1
    uvm_pagewire(pg)
    uvm_unlock_pageq()


@kernel()
def uvm_loanzero(ufi: UvmFaultinfo, result: list[Anon | Page], flags: int) -> int:
    """Lend zeros, where memory has not been written yet.

    Locks:   entry map(r), the entry's amap if it has one. Returns: same if GOT_IT, else nothing is held.
    Sleeps:  uvm_wait ("loanzero1", "loanzero2").
    Returns: GOT_IT; RETRY; FAILED - there is no anon.
    Source:  uvm_loan.c.   Differs: the new anon is locked, and freed without a reference, as the assertions of
             2001-01-23 want it; starts over when it has slept.
    """
    aref = aref_of(ufi.entry)
    amap = None if aref is None else aref.amap
    anon = None
    if flags & UVM_LOAN_TOANON:
        anon = uvm_analloc()
        if anon is None:
            uvmfault_unlockall(ufi, amap, None, None)
            return FAILED
        if not erratum("uvm_loanzero.anon-unlocked"):
            anon.an_lock.lock()
    pg = uvm_pagealloc(None, 0, anon, UVM_PGA_ZERO)
    if pg is None:
        if anon is not None:
            anon.an_ref -= 1
            if anon.an_lock.held():
                anon.an_lock.unlock()
            uvm_anfree(anon)
        uvmfault_unlockall(ufi, amap, None, None)
        uvm_wait("loanzero1" if anon is None else "loanzero2")
        return RETRY
    uvm_page_unbusy(pg, pg.flags & ~PG_FAKE)
    uvm_lock_pageq()
    if anon is None:
        uvm_pagewire(pg)
        pg.loan_count = 1
    else:
        uvm_pageactivate(pg)
    uvm_unlock_pageq()
    if anon is not None and anon.an_lock.held():
        anon.an_lock.unlock()
    result.append(pg if anon is None else anon)
    return GOT_IT


# -- getting back ----------------------------------------------------------------------------


@kernel(exit="same")
def uvm_unloananon(aloans: list[Anon]) -> None:
    """Give anons back: drop a reference of each.

    Locks:   none held.
    Source:  uvm_loan.c.
    """
    for anon in aloans:
        anon.an_lock.lock()
        refs = anon.an_ref - 1
        anon.an_ref = refs
        anon.an_lock.unlock()
        if refs == 0:
            uvm_anfree(anon)


@kernel(exit="same")
def uvm_unloanpage(ploans: list[Page]) -> None:
    """Give pages back that were on loan to the kernel.

    A page without an owner and without another borrower is freed.

    Locks:   none held.
    Source:  uvm_loan.c.   Differs: locks the page's owner, and lets an anon adopt its page, as later.
    """
    uvm_lock_pageq()
    for pg in ploans:
        owner_lock = None
        while not erratum("uvm_unloanpage.owner-unlocked"):
            uobj, anon = pg.uobject, pg.uanon
            if uobj is not None:
                lock = uobj.vmobjlock
            elif anon is not None:
                lock = anon.an_lock
            else:
                break
            if lock.trylock():  # against the order
                owner_lock = lock
                break
            uvm_unlock_pageq()
            here.port.spin()
            uvm_lock_pageq()
        loans = pg.loan_count - 1
        if loans < 0:
            panic("uvm_unloanpage: page isn't loaned", pg)
        pg.loan_count = loans
        if loans > 0 and erratum("uvm_unloanpage.loaned-left-off-queues"):
            pg.wire_count -= 1
            if pg.wire_count == 0:
                uvmexp.wired -= 1
        else:
            uvm_pageunwire(pg)  # the last one puts it on a queue
        if pg.uobject is None:
            if pg.uanon is None:
                if loans == 0:
                    KASSERT(pg.flags & PG_BUSY == 0, "(pg->flags & PG_BUSY) == 0", pg)
                    pmap_page_protect(pg, VM_PROT_NONE)  # be safe
                    uvm_pagefree(pg)
            elif owner_lock is not None and not pg.pqflags & PQ_ANON:
                uvm_pageadopt(pg)
        if owner_lock is not None:
            owner_lock.unlock()
    uvm_unlock_pageq()


# -- a part of the kernel that borrows ---------------------------------------------------------


@kernel(exit="none")
def loan_take(loan: Loan, map: VmMap, va: int, npages: int, flags: int) -> int:
    """Borrow what is mapped at `va`.

    Returns: 0; EBUSY - it has something already; or as uvm_loan().
    """
    loan.l_lock.lock()
    if loan.l_flags:
        loan.l_lock.unlock()
        return EBUSY
    loan.l_flags = flags
    loan.l_lock.unlock()
    result: list[Anon | Page] = []
    error = uvm_loan(map, va, npages * here.port.page_size, result, flags)
    array = None
    if error == 0:
        array = here.port.alloc(LoanArray, npages)
        for at, lent in enumerate(result):
            array[at] = lent
    loan.l_lock.lock()
    loan.l_result = array
    loan.l_npages = npages
    if error:
        loan.l_flags = 0
    loan.l_lock.unlock()
    return error


@kernel(exit="none")
def loan_peek(loan: Loan, number: int) -> tuple[int, int]:
    """Read the first word of a borrowed page.

    Sleeps:  if an anon was borrowed, as uvmfault_anonget().
    Returns: (0, the word); (EINVAL, 0) - nothing is on loan; (EIO, 0) - the data is lost; (ENOMEM, 0) - it is in swap,
             and there is no page for it.
    """
    loan.l_lock.lock()
    array = loan.l_result
    if array is None:
        loan.l_lock.unlock()
        return EINVAL, 0
    lent = array[number]
    if loan.l_flags & UVM_LOAN_TOPAGE:
        word: int = here.port.op("frame_read", lent.frame)[0]
        loan.l_lock.unlock()
        return 0, word

    anon: Anon = lent
    anon.an_lock.lock()
    anon.an_ref += 1  # so that it stays, should it be given back meanwhile
    loan.l_lock.unlock()
    while (error := uvmfault_anonget(None, None, anon)) == ERESTART:
        anon.an_lock.lock()
    word = 0
    if error == 0:
        pg = anon.an_page
        assert pg is not None
        word = here.port.op("frame_read", pg.frame)[0]
        uobj = pg.uobject
        if uobj is not None:
            uobj.vmobjlock.unlock()
        anon.an_lock.unlock()
    uvm_unloananon([anon])
    return error, word


@kernel(exit="none")
def loan_map(loan: Loan, map: VmMap, va: int, npages: int) -> int:
    """Give a process the anons borrowed, as private memory at `va`.

    Returns: 0; EINVAL - nothing is on loan, or no anons, or not so many; or as uvm_map().
    Source:  none; the model's. It is what loans to anons were made for ("page transfer").
    """
    loan.l_lock.lock()
    array = loan.l_result
    if array is None or not loan.l_flags & UVM_LOAN_TOANON or loan.l_npages < npages:
        loan.l_lock.unlock()
        return EINVAL
    size = npages * here.port.page_size
    amap = amap_alloc(size)
    amap_lock(amap)
    for at in range(npages):
        anon: Anon = array[at]
        anon.an_lock.lock()
        anon.an_ref += 1
        anon.an_lock.unlock()
        amap_add(Aref(amap, 0), at * here.port.page_size, anon, False)
    amap_unlock(amap)
    loan.l_lock.unlock()
    error = uvm_map(
        map, va, size, prot=VM_PROT_READ | VM_PROT_WRITE, maxprot=VM_PROT_ALL, inherit=MAP_INHERIT_COPY,
        advice=MADV_NORMAL, flags=UVM_FLAG_COPYONW | UVM_FLAG_OVERLAY, amap=amap,
    )  # fmt: skip
    if error:
        amap_unref(Aref(amap, 0), size)
    return error


@kernel(exit="none")
def loan_return(loan: Loan) -> int:
    """Give everything back.

    Returns: 0; EINVAL - nothing is on loan.
    """
    loan.l_lock.lock()
    array, npages, flags = loan.l_result, loan.l_npages, loan.l_flags
    if array is None:
        loan.l_lock.unlock()
        return EINVAL
    loan.l_result = None
    loan.l_flags = 0
    loan.l_lock.unlock()
    lent = [array[at] for at in range(npages)]
    here.port.free(array)
    if flags & UVM_LOAN_TOANON:
        uvm_unloananon(lent)
    else:
        uvm_unloanpage(lent)
    return 0
