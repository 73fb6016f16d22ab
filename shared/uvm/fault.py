"""Page faults: find out what belongs at an address, make it resident, and map it.

                       anon in the amap?
              yes (case 1)          no (case 2)
       read, or the only          1A: map the anon's page     2A: map the object's page
       reference to the anon                                      (no object: 2B)
       write, and others refer    1B: copy it to a new anon   2B: promote: a new anon, copied or zeroed
       to it (or COW)                                             (not COW: 2A)

Rules: locks are taken in the order map, amap, object, anon, page queues. Nothing
but the map survives a sleep, and the map only if its timestamp has not changed;
a fault that slept repeats its lookups, mostly by starting over ("ReFault").

An anon's lock is taken as soon as the anon is allocated: it can be reached not
only by its amap, which is locked, but from its page, by the pagedaemon.

An anon's page may be on loan (shared/uvm/loan.py). It is not written to then, and
not mapped writable: case 1A gives the anon another page first.

What a fault has found out so far is a Fault; uvm_fault() does what comes before the
case is known, _case1() and _case2() the rest. (Later versions of UVM are cut in the
same way: uvm_fault_upper, uvm_fault_lower, struct uvm_faultctx.)

Left out: rusage; objects that serve their faults themselves (pgo_fault), as devices do.
Source: uvm_fault.c 1.47 with the changes up to 2001-03; its helpers are in fault_i.py, wiring in fault_wire.py.
"""

from __future__ import annotations

from dataclasses import dataclass

from shared.port.port import KASSERT, LOCK_ASSERT, erratum, here, kernel, unrepaired
from shared.port.struct import unlocked
from shared.uvm.amap import (
    Aref,
    amap_add,
    amap_copy,
    amap_flags,
    amap_lock,
    amap_lookup,
    amap_lookups,
    amap_wired,
    aref_of,
)
from shared.uvm.anon import uvm_analloc, uvm_anfree, uvm_anon_dropswap, uvm_anon_lockloanpg
from shared.uvm.aobj import uao_dropswap
from shared.uvm.fault_i import (
    UvmFaultinfo,
    uvmfault_lookup,
    uvmfault_relock,
    uvmfault_unlockall,
    uvmfault_unlockmaps,
)
from shared.uvm.km_object import uvmfault_check_intrsafe
from shared.uvm.loan_break import uvm_loanbreak, uvm_loanbreak_anon
from shared.uvm.page import (
    uvm_lock_pageq,
    uvm_page_putback,
    uvm_page_unbusy,
    uvm_page_wait,
    uvm_pageactivate,
    uvm_pagealloc,
    uvm_pagecopy,
    uvm_pagedeactivate,
    uvm_pagefree,
    uvm_pagewire,
    uvm_pagezero,
    uvm_unlock_pageq,
)
from shared.uvm.param import (
    AMAP_SHARED,
    EACCES,
    EAGAIN,
    EFAULT,
    ENOMEM,
    ERESTART,
    MADV_NORMAL,
    MADV_RANDOM,
    MADV_SEQUENTIAL,
    PG_BUSY,
    PG_CLEAN,
    PG_FAKE,
    PG_RELEASED,
    PGO_DEACTIVATE,
    PGO_LOCKED,
    PMAP_CANFAIL,
    PMAP_WIRED,
    PQ_AOBJ,
    SWSLOT_BAD,
    UVM_ET_COPYONWRITE,
    UVM_ET_NEEDSCOPY,
    VM_FAULT_WIRE,
    VM_FAULT_WIREIO,
    VM_MAP_PAGEABLE,
    VM_PROT_NONE,
    VM_PROT_WRITE,
)
from shared.uvm.pgops import pgops_of
from shared.uvm.pmap import pmap_clear_modify, pmap_clear_reference, pmap_enter, pmap_extract, pmap_remove
from shared.uvm.pmap_page import pmap_page_protect, pmap_page_protect_unwired
from shared.uvm.structs import Amap, Anon, Page, UvmObject, VmMap, uvm, uvmexp
from shared.uvm.swap import uvm_swap_get, uvm_swap_markbad
from shared.uvm.wait import uvm_wait, uvm_wait_vain

#: advice -> how many pages to look at before and after the faulting one
UVMADVICE = {MADV_NORMAL: (3, 4), MADV_RANDOM: (0, 0), MADV_SEQUENTIAL: (8, 7)}


# -- parts of a fault ------------------------------------------------------------------------


def uvmfault_anonflush(anons: list[Anon | None]) -> None:
    """Deactivate the pages of these anons, those that are busy, wired or on loan excepted. Locks: map(r), amap."""
    for anon in anons:
        if anon is None:
            continue
        anon.an_lock.lock()
        pg = anon.an_page
        if pg is not None and not unlocked(pg, "loan_count") and not pg.flags & PG_BUSY:
            uvm_lock_pageq()
            if pg.wire_count == 0:
                pmap_clear_reference(pg)
                uvm_pagedeactivate(pg)
            uvm_unlock_pageq()
        anon.an_lock.unlock()


@kernel(exit="same")
def uvmfault_amapcopy(ufi: UvmFaultinfo) -> None:
    """Clear "needs copy" of the entry at the faulting address, if it is still mapped and still set.

    Locks:   entry nothing; it takes the map for writing. Returns: same.
    Source:  uvm_fault.c.   Differs: amap_copy() cannot fail for want of kernel memory, so there is no "fltamapcopy".
    """
    if not uvmfault_lookup(ufi, True):
        return
    if ufi.entry.etype & UVM_ET_NEEDSCOPY:
        amap_copy(ufi.map, ufi.entry)
    uvmfault_unlockmaps(ufi, True)


@kernel()
def uvmfault_anonget(ufi: UvmFaultinfo | None, amap: Amap | None, anon: Anon) -> int:
    """Make an anon's data resident in a page that is neither busy nor released.

    Locks:   entry map(r), amap, anon; map and amap None for swapoff. Returns 0: same, and the page's object, if the
             anon has borrowed its page. Else: nothing is held.
    Sleeps:  busy page ("anonget2"; "anonget1" if it is an object's), swap read, uvm_wait ("flt_noram1"); afterwards
             it checks the map's version, and that the anon is still where it was.
    Returns: 0; ERESTART - look everything up again; EIO - the data is lost, the anon's slot is now bad; ENOMEM - for
             a swapoff: there is no page, the pagedaemon has not freed one, and has nowhere to write to.
    Source:  uvm_fault.c, with the contract of 1.51 (2000-08).   Differs: a slot that is bad already is not
             marked bad again, as later; the slot is read before the anon is unlocked; a transient error starts
             the fault over; an error is dealt with also if the page was released during the read. The anon's
             generation is compared too; UVM compared the pointer, to which a freed anon that has come back looks the
             same. That did no harm, since the loop reads everything again.
    """
    LOCK_ASSERT(anon.an_lock.held(), "simple_lock_held(&anon->an_lock)", anon)
    uvmexp.fltanget += 1
    while True:
        result = 0
        we_own = False  # we set PG_BUSY on a page
        slot = 0
        pg = anon.an_page
        if pg is not None and unlocked(pg, "loan_count"):
            pg = uvm_anon_lockloanpg(anon)
        if pg is not None:
            flags = pg.flags
            if not flags & (PG_BUSY | PG_RELEASED):
                return 0
            uvmexp.fltpgwait += 1
            uobj = pg.uobject
            if uobj is not None:
                uvmfault_unlockall(ufi, amap, None, anon)
                uvm_page_wait(pg, flags, "anonget1", uobj.vmobjlock)
            else:
                uvmfault_unlockall(ufi, amap, None, None)
                uvm_page_wait(pg, flags, "anonget2", anon.an_lock)
        else:
            pg = uvm_pagealloc(None, 0, anon)
            if pg is None:
                uvmfault_unlockall(ufi, amap, None, anon)
                uvmexp.fltnoram += 1
                uvm_wait("flt_noram1")
                if ufi is None and uvm_wait_vain():
                    return ENOMEM
            else:
                # Everything is unlocked during the I/O: the page is ours because it is BUSY.
                we_own = True
                slot = anon.an_swslot
                uvmfault_unlockall(ufi, amap, None, anon)
                result = uvm_swap_get(pg, slot)

        # A thread that holds neither a map nor a page does not know what has become of the anon meanwhile.
        if ufi is None and not we_own and not erratum("uvmfault_anonget.swapoff-trusts-anon"):
            return ERESTART

        locked = uvmfault_relock(ufi)
        if locked and amap is not None:
            amap_lock(amap)
        if locked or we_own:
            anon.an_lock.lock()

        if we_own:
            assert pg is not None
            flags = pg.flags
            uvm_page_unbusy(pg, flags & ~PG_FAKE)

            # The data cannot be read. Unless the error may pass, the slot stays allocated and is not used again.
            if result != 0 and not (flags & PG_RELEASED and erratum("uvmfault_anonget.released-hides-error")):
                anon.an_page = None
                if result != EAGAIN and slot != SWSLOT_BAD:
                    uvm_swap_markbad(slot, 1)
                    anon.an_swslot = SWSLOT_BAD
                uvm_lock_pageq()
                uvm_pagefree(pg)  # it was busy all the time, so it is not mapped
                uvm_unlock_pageq()
                if not flags & PG_RELEASED:
                    if locked:
                        uvmfault_unlockall(ufi, amap, None, anon)
                    else:
                        anon.an_lock.unlock()
                    return ERESTART if result == EAGAIN else result

            # Released during the I/O: the anon is in no amap any more, and is freed by us.
            if flags & PG_RELEASED:
                anon.an_lock.unlock()
                uvm_anfree(anon)  # frees the page as well
                if locked:
                    uvmfault_unlockall(ufi, amap, None, None)
                uvmexp.fltpgrele += 1
                return ERESTART

            pmap_clear_modify(pg)
            uvm_lock_pageq()
            uvm_pageactivate(pg)
            uvm_unlock_pageq()
            if not locked:
                anon.an_lock.unlock()

        if not locked:
            return ERESTART

        # Somebody may have put another anon here meanwhile, or this anon may live another life.
        if ufi is not None:
            aref = aref_of(ufi.entry)
            rvaddr = ufi.orig_rvaddr
            if ufi.map != ufi.orig_map and erratum("uvmfault_anonget.slot-from-translated-address"):
                rvaddr -= ufi.map.min_offset  # what is below a share map had addresses of its own
            now = None if aref is None else amap_lookup(aref, rvaddr - ufi.entry.start)
            if now is None or now != anon or now.gen != anon.gen:
                uvmfault_unlockall(ufi, amap, None, anon)
                return ERESTART
        uvmexp.fltanretry += 1


def _swap_full() -> bool:
    """Is all of swap taken by data that is nowhere in RAM? Then waiting for memory is of no use."""
    swpgonly, swpages = uvmexp.swpgonly, uvmexp.swpages
    KASSERT(swpgonly <= swpages, "uvmexp.swpgonly <= uvmexp.swpages", uvmexp)
    return swpgonly == swpages


@dataclass(slots=True)
class Fault:
    """What a fault has found out about its address, good for as long as the map is locked.

    Attributes:
        wiring: the page is to be wired.
        io: for device I/O.
        enter_prot: with which the page is to be mapped.
        flags: of pmap_enter().
        writing: the page is to be written, now or (being wired) perhaps later, when it must not be replaced, as for
            device I/O it must not either.
        cow: the entry is copy-on-write.
        aref, uobj: the entry's amap and object.
        anon_offset, uobj_offset: of the page in them, in bytes.
    """

    pmap: int
    rvaddr: int
    wiring: bool
    io: bool
    enter_prot: int
    flags: int
    writing: bool
    cow: bool
    aref: Aref | None
    uobj: UvmObject | None
    anon_offset: int
    uobj_offset: int

    @property
    def amap(self) -> Amap | None:
        return None if self.aref is None else self.aref.amap


def _map_neighbours(
    pmap: int, startva: int, anons: list[Anon | None], centeridx: int, enter_prot: int, wired: int
) -> list[bool]:
    """Map what the amap has next to the faulting page and is resident, to prevent further faults. Locks: map(r), amap.

    Returns: for each page, whether the object below is to be asked for it.
    Source:  uvm_fault.c.   Differs: looks for an anon before it asks the pmap.
    """
    wanted = [False] * len(anons)
    for lcv, anon in enumerate(anons):
        if lcv == centeridx:
            wanted[lcv] = anon is None
            continue
        currva = startva + lcv * here.port.page_size
        if pmap_extract(pmap, currva) is not None:
            continue
        if anon is None:
            wanted[lcv] = True
            continue
        anon.an_lock.lock()
        pg = anon.an_page
        if pg is not None and not unlocked(pg, "loan_count") and not pg.flags & (PG_RELEASED | PG_BUSY):
            uvm_lock_pageq()
            uvm_pageactivate(pg)
            uvm_unlock_pageq()
            uvmexp.fltnamap += 1
            prot = enter_prot & ~VM_PROT_WRITE if anon.an_ref > 1 else enter_prot
            pmap_enter(pmap, currva, pg, prot, PMAP_CANFAIL | wired)  # if it fails, never mind
        anon.an_lock.unlock()
    return wanted


def _get_resident(flt: Fault, nback: int, wanted: list[bool], wired: int) -> Page | None:
    """Map what the object has next to the faulting page and is resident.

    Locks:   entry map(r), amap. Returns: same, and the object.
    Returns: the faulting page itself, now BUSY, if it is resident and was not busy.
    Source:  uvm_fault.c.
    """
    uobj = flt.uobj
    assert uobj is not None
    page_size = here.port.page_size
    uobj.vmobjlock.lock()
    uvmexp.fltlget += 1
    _, pages = pgops_of(uobj).pgo_get(uobj, flt.uobj_offset - nback * page_size, wanted, nback, PGO_LOCKED)
    prot = flt.enter_prot & ~VM_PROT_WRITE if flt.cow else flt.enter_prot
    for lcv, pg in enumerate(pages):
        if pg is None or lcv == nback:
            continue
        uvm_lock_pageq()
        uvm_pageactivate(pg)
        uvm_unlock_pageq()
        uvmexp.fltnomap += 1
        on_loan = pg.loan_count and not erratum("uvm_fault.loaned-neighbour-writable")
        allowed = prot & ~VM_PROT_WRITE if on_loan else prot
        pmap_enter(flt.pmap, flt.rvaddr + (lcv - nback) * page_size, pg, allowed, PMAP_CANFAIL | wired)
        uvm_page_unbusy(pg, pg.flags)
    return pages[nback]


def _access(access_type: int, enter_prot: int, wired: int, wiring: bool) -> int:
    """The access that pmap_enter() is given: it may take the page for used, and if it is a write for modified.

    A wired page may be used in every way without a further fault, by a device's DMA without the MMU's knowing.
    """
    if erratum("uvm_fault.no-access-type") or (wiring and erratum("uvm_fault_wire.no-access-type")):
        return VM_PROT_NONE
    if wired or erratum("uvm_fault.protection-for-access-type"):
        return enter_prot
    return access_type


# -- the fault -------------------------------------------------------------------------------


@kernel(exit="same")
def uvm_fault(orig_map: VmMap, vaddr: int, fault_type: int, access_type: int) -> int:
    """Resolve a page fault.

    Args:
        fault_type: VM_FAULT_INVALID, VM_FAULT_PROTECT, VM_FAULT_WIRE (mlock: wire the page too), or
            VM_FAULT_WIREIO (for device I/O: and do not leave it on loan).
        access_type: VM_PROT_READ or VM_PROT_WRITE; for a wired page the entry's full protection is used instead.

    Locks:   entry nothing, or map(r) by a caller that wires it. Returns: same.
    Sleeps:  for the map, busy page, swap and file reads, uvm_wait; then it starts over.
    Returns: 0; EFAULT - nothing is mapped there; EACCES - not so; ENOMEM - out of anons, or of memory and swap;
             EIO - swap or the file cannot be read; EINVAL - it is beyond the end of the file.
    Source:  uvm_fault.c.   Differs: a page that was promoted is put on a queue also if pmap_enter() fails (E25);
             the old translation is gone from all TLBs before another page can be written (E31); wiring a read-only
             mapping breaks copy-on-write, as later (mprotect may make it writable); a transient error of a pager
             starts it over at once, UVM pauses.
    """
    page_size = here.port.page_size
    uvmexp.faults += 1
    ufi = UvmFaultinfo(orig_map, vaddr - vaddr % page_size, nested=orig_map.lock.held())
    of_kernel = orig_map == uvm.kernel_map
    if of_kernel:
        # What an interrupt-safe map has never faults, and to look it up could take a lock that is held here already.
        unaware = erratum("uvm_fault.intrsafe-looked-up") or erratum("uvm_fault.intrsafe-list-unused")
        if not unaware and uvmfault_check_intrsafe(ufi.orig_rvaddr):
            return EFAULT
    rvaddr = ufi.orig_rvaddr
    pmap = orig_map.pmap
    io = fault_type == VM_FAULT_WIREIO
    wiring = io or fault_type == VM_FAULT_WIRE
    narrow = wiring  # do not look at the neighbourhood

    while True:  # ReFault
        if not uvmfault_lookup(ufi, False):
            return EFAULT
        # locked: map(r)
        entry = ufi.entry
        enter_prot = entry.protection
        if enter_prot & access_type != access_type:
            uvmfault_unlockmaps(ufi, False)
            return EACCES
        if of_kernel and not ufi.map.flags & VM_MAP_PAGEABLE:  # (a process's map always is)
            uvmfault_unlockmaps(ufi, False)
            return EFAULT
        entry_wired = entry.wired_count != 0
        wired = PMAP_WIRED if entry_wired or wiring else 0
        access = enter_prot if wired else access_type
        flags = _access(access_type, enter_prot, wired, wiring) | PMAP_CANFAIL | wired
        writing = bool(io or access & VM_PROT_WRITE or (wiring and entry.max_protection & VM_PROT_WRITE))
        etype, uobj = entry.etype, entry.object

        # An entry that needs a copy gets it now, with the map write-locked; unless there is a page to be read.
        if etype & UVM_ET_NEEDSCOPY:
            if writing or uobj is None:
                uvmfault_unlockmaps(ufi, False)
                uvmfault_amapcopy(ufi)
                uvmexp.fltamcopy += 1
                continue
            enter_prot &= ~VM_PROT_WRITE

        # Case 0: nothing behind the entry.
        aref = aref_of(entry)
        if aref is None and uobj is None:
            uvmfault_unlockmaps(ufi, False)
            return EFAULT

        # The pages to look at, as advised; only the first time.
        entry_start = entry.start
        offset = rvaddr - entry_start
        nback = nforw = 0
        advice = MADV_NORMAL
        if not narrow:
            narrow = True
            advice = entry.advice
            back, forw = UVMADVICE[advice]
            nback = min(back, offset // page_size)
            nforw = min(forw, (entry.end - rvaddr) // page_size - 1)
        startva = rvaddr - nback * page_size
        flt = Fault(
            pmap, rvaddr, wiring, io, enter_prot, flags, writing, bool(etype & UVM_ET_COPYONWRITE), aref,
            uobj, offset, 0 if uobj is None else entry.offset + offset,
        )  # fmt: skip
        anons: list[Anon | None] = [None] * (nback + nforw + 1)
        if aref is not None:
            amap_lock(aref.amap)
            anons = amap_lookups(aref, startva - entry_start, nback + nforw + 1)
        if advice == MADV_SEQUENTIAL:  # what lies behind us is not needed again
            uvmfault_anonflush(anons[:nback])
            if uobj is not None:
                uobj.vmobjlock.lock()
                pgops_of(uobj).pgo_flush(uobj, flt.uobj_offset - nback * page_size, flt.uobj_offset, PGO_DEACTIVATE)
                uobj.vmobjlock.unlock()
            del anons[:nback]
            startva, nback = rvaddr, 0
        neighbours_wired = PMAP_WIRED if entry_wired else 0
        wanted = _map_neighbours(pmap, startva, anons, nback, enter_prot, neighbours_wired)
        anon = anons[nback]
        # locked: map(r), amap

        if anon is not None:
            result = _case1(ufi, flt, anon)
        else:
            uobjpage = None if uobj is None else _get_resident(flt, nback, wanted, neighbours_wired)
            result = _case2(ufi, flt, uobjpage)
        if result != ERESTART:
            return result


def _case1(ufi: UvmFaultinfo, flt: Fault, anon: Anon) -> int:
    """There is an anon.

    Locks:   entry map(r), amap. Returns: nothing is held.
    Returns: as uvm_fault(), or ERESTART.
    """
    enter_prot, aref = flt.enter_prot, flt.aref
    assert aref is not None
    amap = aref.amap
    if not erratum("uvm_fault.case1-old-anon-unlocked"):
        anon.an_lock.lock()
    result = uvmfault_anonget(ufi, amap, anon)
    if result != 0:
        if erratum("uvmfault_anonget.caller-unlocks-again"):
            anon.an_lock.unlock()
        return result
    # locked: map(r), amap, anon, and the page's object, if there is one
    pg = anon.an_page
    assert pg is not None
    uobj = pg.uobject
    oanon = anon

    # What is wired is our amap's alone. If there is another reference it is that of a fork by a process that shares the
    # amap, and who is about to copy the page for the child (amap_cow_now()): it must not be replaced before.
    shared = oanon.an_ref > 1 and (
        erratum("uvmspace_fork.ignores-device-io")
        or erratum("amap_add.wired-elsewhere")
        or unrepaired("uvm_fault.loan-broken-wiring-stays")
        or not amap_wired(pg)
    )
    if flt.writing and shared:
        # Case 1B: copy on write. While we hold oanon's lock no thread can busy or release its page.
        uvmexp.flt_acow += 1
        opg = pg
        new = uvm_analloc()
        pg = None
        if new is not None:
            if not erratum("uvm_fault.case1b-anon-unlocked"):
                new.an_lock.lock()
            pg = uvm_pagealloc(None, 0, new)
        if new is None or pg is None:
            if new is not None:
                _drop_anon(new)
            uvmfault_unlockall(ufi, amap, uobj, oanon if oanon.an_lock.held() else None)
            return _no_memory(new is None, "flt_noram3")
        anon = new
        uvm_pagecopy(opg, pg)  # clears PG_CLEAN
        uvm_page_unbusy(pg, pg.flags & ~PG_FAKE)
        # No thread may still read the old page when another thread can write to the new page.
        if not erratum("uvm_fault.cow-entered-before-flush"):
            pmap_remove(flt.pmap, flt.rvaddr, flt.rvaddr + here.port.page_size)
        amap_add(aref, flt.anon_offset, anon, True)
        oanon.an_ref -= 1  # cannot drop to zero here
    else:
        # Case 1A: use the anon as it is, but do not write to it if there are other references.
        uvmexp.flt_anon += 1
        if shared:
            enter_prot &= ~VM_PROT_WRITE
        elif pg.loan_count:
            if not flt.writing:
                enter_prot &= ~VM_PROT_WRITE
            else:
                pg = uvm_loanbreak_anon(anon, pg)
                if uobj is not None:  # it is not our page's any more, or we are done
                    uobj.vmobjlock.unlock()
                    uobj = None
                if pg is None:
                    uvmfault_unlockall(ufi, amap, None, anon)
                    uvmexp.fltnoram += 1
                    uvm_wait("flt_noram2")
                    return ERESTART
    # locked: map(r), amap, the page's object, oanon, anon

    promoted = anon != oanon
    failed = pmap_enter(flt.pmap, flt.rvaddr, pg, enter_prot, flt.flags) != 0
    uvm_lock_pageq()
    if failed:
        # There is no translation, and nothing to undo. But a new page is on no queue yet.
        if promoted and not erratum("uvm_fault.promoted-page-unqueued"):
            uvm_pageactivate(pg)
    elif flt.wiring:
        _wire(flt, pg)
        # A wired page cannot be paged out, so its swap is let go of; and without swap it is not clean.
        flags = pg.flags
        if flags & PG_CLEAN and not erratum("uvm_fault.wired-anon-stays-clean"):
            pg.flags = flags & ~PG_CLEAN
        uvm_anon_dropswap(anon)
    else:
        uvm_pageactivate(pg)
    uvm_unlock_pageq()
    if promoted and anon.an_lock.held():
        anon.an_lock.unlock()
    uvmfault_unlockall(ufi, amap, uobj, oanon if oanon.an_lock.held() else None)
    if failed:
        if _swap_full():
            return ENOMEM
        uvm_wait("flt_pmfail1")
        return ERESTART
    return 0


def _case2(ufi: UvmFaultinfo, flt: Fault, uobjpage: Page | None) -> int:
    """There is no anon, but perhaps an object.

    Args:
        uobjpage: the object's page, BUSY, if it could be had at once.

    Locks:   entry map(r), amap, object. Returns: nothing is held.
    Returns: as uvm_fault(), or ERESTART.
    """
    enter_prot, amap, uobj = flt.enter_prot, flt.amap, flt.uobj
    if uobj is not None and uobjpage is None:
        uobjpage, result = _get_page(ufi, flt, uobj)
        if uobjpage is None:
            return result
    # locked: map(r), amap, object; uobjpage is BUSY, and stays: it can be released only with the object locked

    anon = None
    broken = False  # the object has another page now
    if uobjpage is not None and not (flt.writing and flt.cow):
        # Case 2A: use the object's page as it is, but do not write to it if a write is to copy it.
        uvmexp.flt_obj += 1
        if flt.cow:
            enter_prot &= ~VM_PROT_WRITE
        pg = uobjpage
        if pg.loan_count:
            if not flt.writing:
                enter_prot &= ~VM_PROT_WRITE
            else:
                new = uvm_loanbreak(pg)
                if new is None:
                    uvm_page_putback(pg)
                    uvmfault_unlockall(ufi, amap, uobj, None)
                    uvmexp.fltnoram += 1
                    uvm_wait("flt_noram4")
                    return ERESTART
                pg, broken = new, True
    else:
        # Case 2B: promote.
        assert flt.aref is not None and amap is not None
        anon = uvm_analloc()
        new = None
        if anon is not None:
            if not erratum("uvm_fault.case2-anon-unlocked"):
                anon.an_lock.lock()
            new = uvm_pagealloc(None, 0, anon)
        if anon is None or new is None:
            if anon is not None:
                _drop_anon(anon)
            if uobjpage is not None:
                uvm_page_putback(uobjpage)
            uvmfault_unlockall(ufi, amap, uobj, None)
            return _no_memory(anon is None, "flt_noram5")
        pg = new
        if uobj is not None and uobjpage is not None:
            uvmexp.flt_prcopy += 1
            uvm_pagecopy(uobjpage, pg)  # clears PG_CLEAN
            if amap_flags(amap) & AMAP_SHARED:
                # All who share the amap are to see the new page. None of them has the old one wired, or it would have
                # been promoted then; who has wired it, has it by another mapping of the object, and must keep it.
                if erratum("uvm_fault.promotion-unmaps-wired"):
                    pmap_page_protect(uobjpage, VM_PROT_NONE)
                else:
                    pmap_page_protect_unwired(uobjpage, VM_PROT_NONE)
            elif not erratum("uvm_fault.cow-entered-before-flush"):  # as in case 1B
                pmap_remove(flt.pmap, flt.rvaddr, flt.rvaddr + here.port.page_size)
            uvm_page_putback(uobjpage)
            uobj.vmobjlock.unlock()
            uobj = None
        else:
            uvmexp.flt_przero += 1
            uvm_pagezero(pg)  # clears PG_CLEAN
        amap_add(flt.aref, flt.anon_offset, anon, False)
    # locked: map(r), amap, object (case 2A), anon (case 2B); pg is BUSY

    failed = pmap_enter(flt.pmap, flt.rvaddr, pg, enter_prot, flt.flags) != 0
    uvm_lock_pageq()
    if flt.wiring and not failed:
        _wire(flt, pg)
        if uobj is not None and pg.pqflags & PQ_AOBJ:
            # As in case 1: what is wired needs no swap, and without swap it is not clean.
            flags = pg.flags
            if flags & PG_CLEAN and not erratum("uvm_fault.wired-aobj-stays-clean"):
                pg.flags = flags & ~PG_CLEAN
            uao_dropswap(uobj, pg.offset // here.port.page_size)
    elif not (failed and (broken or anon is not None) and erratum("uvm_fault.promoted-page-unqueued")):
        uvm_pageactivate(pg)
    uvm_unlock_pageq()
    uvm_page_unbusy(pg, pg.flags & ~PG_FAKE)  # its owner's lock is still held
    uvmfault_unlockall(ufi, amap, uobj, anon if anon is not None and anon.an_lock.held() else None)
    if failed:
        if _swap_full():
            return ENOMEM
        uvm_wait("flt_pmfail2")
        return ERESTART
    return 0


def _get_page(ufi: UvmFaultinfo, flt: Fault, uobj: UvmObject) -> tuple[Page | None, int]:
    """Get an object's page that is not resident, or busy.

    Everything is unlocked meanwhile; the page is ours because it is BUSY, and keeps the object alive.

    Locks:   entry map(r), amap, object. Returns a page: same. Else: nothing is held.
    Sleeps:  as the pager does.
    Returns: (the page, BUSY, 0), or (None, ERESTART or an error).
    Source:  uvm_fault.c.   Differs: answers the pager's error; UVM answered a protection failure.
    """
    amap = flt.amap
    uvmexp.fltget += 1
    uvmfault_unlockall(ufi, amap, None, None)
    # locked: object
    result, pages = pgops_of(uobj).pgo_get(uobj, flt.uobj_offset, [True], 0, 0)
    # locked: nothing
    if result != 0:
        return None, ERESTART if result == EAGAIN else result
    pg = pages[0]
    assert pg is not None
    locked = uvmfault_relock(ufi)
    if locked and amap is not None:
        amap_lock(amap)
    uobj.vmobjlock.lock()

    # The page may have been released, and the slot filled; and the map may be another.
    flags = pg.flags
    filled = locked and flt.aref is not None and amap_lookup(flt.aref, flt.anon_offset) is not None
    if locked and (flags & PG_RELEASED or filled):
        uvmfault_unlockall(ufi, amap, None, None)
        locked = False
    if locked:
        return pg, 0
    if flags & PG_RELEASED:
        uvmexp.fltpgrele += 1
        uvm_page_unbusy(pg, flags)
        if pgops_of(uobj).pgo_releasepg(pg):
            uobj.vmobjlock.unlock()
    else:
        uvm_page_putback(pg)
        uobj.vmobjlock.unlock()
    return None, ERESTART


def _wire(flt: Fault, pg: Page) -> None:
    """Wire the page, as the fault asks for it. Locks: the page's owner, the page queues."""
    uvm_pagewire(pg)
    if flt.io:
        pg.io_count += 1


def _drop_anon(anon: Anon) -> None:
    """Free an anon for which there was no page. Locks: entry the anon; freed on return."""
    if not erratum("uvm_fault.anon-freed-with-ref"):
        anon.an_ref -= 1
    if anon.an_lock.held():
        anon.an_lock.unlock()
    uvm_anfree(anon)


def _no_memory(no_anon: bool, wmsg: str) -> int:
    """Wait for a page, if that is of any use. Locks: nothing. Returns: ERESTART or ENOMEM."""
    if no_anon or _swap_full():
        uvmexp.fltnoanon += 1
        return ENOMEM
    uvmexp.fltnoram += 1
    uvm_wait(wmsg)
    return ERESTART
