"""The pagedaemon: keeps memory free by writing inactive pages to swap, or to their file.

Two targets. Free pages: while `free` is below freetarg, the inactive queues are
scanned from their heads; clean pages are freed, dirty pages are written out in
clusters. Inactive pages: while `inactive` is below inactarg, pages of the active
queue that were not referenced since the last sweep are made inactive. Mappings
stay; the reference attribute alone says what is in use.

Rules: the queues are scanned under pageqlock, so a page's owner, which comes
before it in the lock order, is only tried, and its page passed over if that
fails. Only the pagedaemon changes `paging`, and under pageqlock.

How it sleeps. A waiter counts itself in pagedaemon_waiters under
pagedaemon_lock before it wakes the pagedaemon; the pagedaemon, under the same
lock, sleeps only if there are no waiters to serve and no I/O to be reaped. So
no wakeup is lost, as NetBSD later saw to with the same count (before: erratum E38). As in UVM the
waiters are woken when there is memory to be had, and also when nothing is in
flight: they try again, and so does the pagedaemon. A machine whose memory can
never be freed therefore loops forever, which ends as "no progress".

Pages of anons and of aobjs go to swap, from page_inactive_swp, in clusters of slots
in a row; those of files to their file, from page_inactive_obj, with their dirty
neighbours.

A page that an anon has borrowed is its object's, until that lets go of it; then the
anon adopts it. So it may be paged out twice, first to the object and then to swap.

Left out: swapping out idle threads, draining pools, retuning when memory is added.
Source: uvm_pdaemon.c 1.19 (February 2000), with the scan as changed in January 2001 and `paging` counted as in 1.39
(D-001). aiodoned, the thread that reaps finished I/O since the unified buffer cache, is left out: the pagedaemon
reaps, as in 1.19.
"""

from __future__ import annotations

from shared.port.lockref import LockRef
from shared.port.port import KASSERT, SPL_BIO, erratum, here, kernel, panic
from shared.uvm.aio import uvm_aio_aiodone
from shared.uvm.page import (
    uvm_lock_pageq,
    uvm_page_own,
    uvm_page_unbusy,
    uvm_pageactivate,
    uvm_pageadopt,
    uvm_pagedeactivate,
    uvm_pagefree,
    uvm_unlock_pageq,
)
from shared.uvm.pager import uvm_mk_pcluster, uvm_page_set_swslot, uvm_page_swslot, uvm_pager_cleaning, uvm_pager_put
from shared.uvm.param import (
    MAXBSIZE_PAGES,
    PG_BUSY,
    PG_CLEAN,
    PQ_ANON,
    PQ_INACTIVE,
    PQ_SWAPBACKED,
    SWSLOT_NONE,
    VM_PROT_NONE,
    VM_PROT_READ,
)
from shared.uvm.pmap import pmap_clear_reference, pmap_is_modified, pmap_is_referenced
from shared.uvm.pmap_page import pmap_page_protect
from shared.uvm.structs import (
    PAGEQ,
    Anon,
    Page,
    PageQueue,
    UvmObject,
    page_active,
    page_inactive_obj,
    page_inactive_swp,
    uvm,
    uvmexp,
)
from shared.uvm.swap import uvm_swap_alloc, uvm_swap_free

#: dirty pages that one scan of an inactive queue reactivates when swap is full
UVMPD_NUMDIRTYREACTS = 16
#: bounds of freemin: 16 KB and 256 KB on a machine with pages of 4 KB
FREEMIN_LOW, FREEMIN_HIGH = 4, 64


def uvmpd_tune(npages: int, reserve_kernel: int, freemin: int | None = None, freetarg: int | None = None) -> None:
    """Set the paging parameters; at boot.

    Args:
        freemin, freetarg: instead of UVM's own.

    Source:  uvm_pdaemon.c; freemin above reserve_kernel as of 1.39, since a machine whose free pages are all reserved
             must not think that it has enough.
    """
    if freemin is None:
        freemin = min(max(npages // 20, FREEMIN_LOW), FREEMIN_HIGH)
        if not erratum("uvmpd_tune.freemin-in-reserve"):
            freemin = max(freemin, reserve_kernel + 1)
    if freetarg is None:
        freetarg = max(freemin * 4 // 3, freemin + 1)
    uvmexp.freemin = freemin
    uvmexp.freetarg = freetarg
    uvmexp.inactarg = 0  # the pagedaemon computes it whenever it runs
    uvmexp.wiredmax = npages // 3


class Sweep:
    """Locals that the functions of one scan share.

    Attributes:
        freetarg, inactarg: the targets.
        odd: this is an odd revolution; queues are scanned in alternating order.
        paging: uvmexp.paging, which no other thread changes.
        freed: pages freed.
    """

    __slots__ = ("freed", "freetarg", "inactarg", "odd", "paging")

    def __init__(self, freetarg: int, inactarg: int, odd: bool, paging: int):
        self.freetarg, self.inactarg, self.odd, self.paging = freetarg, inactarg, odd, paging
        self.freed = 0


@kernel()
def uvm_pageout() -> None:
    """The pagedaemon's main loop; begins as if it had just been woken.

    Locks:   none held on entry; does not return.
    Sleeps:  on &uvm.pagedaemon.
    Source:  uvm_pdaemon.c.
    Differs: see the header. `paging` goes down with the page queues locked; in 1.19 without any lock.
    """
    port = here.port
    pdrevs = 0
    inactarg_was = -1
    uvmexp.pdwoke += 1
    while True:
        # reap the I/O that is done, to free space in case we want to page out more
        s = port.splraise(SPL_BIO)
        uvm.pagedaemon_lock.lock()
        done = []
        bp = uvm.aio_done_first
        while bp is not None:
            done.append((bp, bp.error))
            bp = bp.next
        if done:
            uvm.aio_done_first = None
            uvm.aio_done_last = None
        uvm.pagedaemon_lock.unlock()
        port.spl(s)
        if done:
            uvm_lock_pageq()
            uvmexp.paging -= sum(bp.npages for bp, _ in done)
            uvm_unlock_pageq()
            for bp, error in done:
                uvm_aio_aiodone(bp, error)

        # scan if needed
        uvm_lock_pageq()
        inactive = uvmexp.inactive
        freetarg = uvmexp.freetarg
        inactarg = max((uvmexp.active + inactive) // 3, freetarg + 1)
        if inactarg != inactarg_was:
            uvmexp.inactarg = inactarg_was = inactarg
        sweep = Sweep(freetarg, inactarg, pdrevs % 2 == 0, uvmexp.paging)
        if uvmexp.free < freetarg or inactive < inactarg:
            pdrevs += 1
            uvmpd_scan(sweep)
        uvm_unlock_pageq()

        # wake the waiters, and sleep unless there is more to do
        blind = erratum("uvm_pageout.waiters-not-looked-for")
        if blind and (sweep.paging == 0 or uvmexp.free > uvmexp.reserve_kernel):
            port.wakeup(uvmexp.addressof("free"))  # a thread that begins to wait after this is not seen
        s = port.splraise(SPL_BIO)
        uvm.pagedaemon_lock.lock()
        waiters = 0 if blind else uvm.pagedaemon_waiters
        if waiters and (sweep.paging == 0 or uvmexp.free > uvmexp.reserve_kernel):
            uvm.pagedaemon_waiters = waiters = 0
            port.wakeup(uvmexp.addressof("free"))
        if uvm.aio_done_first is not None:
            uvm.pagedaemon_lock.unlock()
        else:
            port.sleep(uvm.addressof("pagedaemon"), "daemon_slp", uvm.pagedaemon_lock)
            uvmexp.pdwoke += 1
        port.spl(s)


@kernel(exit="same")
def uvmpd_scan(sweep: Sweep) -> None:
    """Scan the page queues and try to meet both targets.

    Locks:   the page queues; dropped and retaken for I/O.
    Source:  uvm_pdaemon.c.
    """
    uvmexp.pdrevs += 1

    # loop 1: free inactive pages, beginning with either queue in turn
    swap = uvm.nswapdev != 0
    got_it = False
    if sweep.odd and swap:
        got_it = uvmpd_scan_inactive(page_inactive_swp, sweep)
    if not got_it:
        got_it = uvmpd_scan_inactive(page_inactive_obj, sweep)
    if not got_it and not sweep.odd and swap:
        uvmpd_scan_inactive(page_inactive_swp, sweep)

    # loop 2: make active pages inactive. If swap is full, and not just of data that is nowhere else, then take
    # the slots from pages that are in RAM as well, or nothing can be paged out any more
    inactive_shortage = sweep.inactarg - uvmexp.inactive
    swap_shortage = 0
    free = uvmexp.free
    if free < sweep.freetarg and sweep.freed == 0:
        swpages = uvmexp.swpages
        if uvmexp.swpginuse == swpages and uvmexp.swpgonly < swpages:
            swap_shortage = sweep.freetarg - free
    p = PAGEQ.first(page_active) if inactive_shortage > 0 or swap_shortage > 0 else None
    while p is not None and (inactive_shortage > 0 or swap_shortage > 0):
        nextpg = PAGEQ.next(p)
        owner = _owner(p)
        if owner is None:
            panic("pagedaemon: page with no anon or object detected - loop 2", p)
            p = nextpg
            continue
        uobj, anon, owner_lock = owner
        if not owner_lock.trylock():
            p = nextpg
            continue
        if uobj is None and not p.pqflags & PQ_ANON:  # borrowed, and its object has let go of it
            uvm_pageadopt(p)
        flags = p.flags
        if not flags & PG_BUSY:
            if swap_shortage > 0 and p.pqflags & PQ_SWAPBACKED:
                slot = uvm_page_swslot(p, uobj, anon)
                if slot != SWSLOT_NONE:
                    uvm_swap_free(slot, 1)
                    uvm_page_set_swslot(p, uobj, anon, SWSLOT_NONE)
                    if flags & PG_CLEAN:
                        p.flags = flags & ~PG_CLEAN
                    swap_shortage -= 1
            if inactive_shortage > 0:
                referenced = False if erratum("uvmpd_scan.reference-kept") else pmap_clear_reference(p)
                if not referenced:  # else it is in use: it stays until the next sweep
                    uvm_pagedeactivate(p)
                    uvmexp.pddeact += 1
                    inactive_shortage -= 1
        owner_lock.unlock()
        p = nextpg


def _owner(pg: Page) -> tuple[UvmObject | None, Anon | None, LockRef] | None:
    """A page's object, or else its anon, and the lock of that. Locks: the page queues."""
    uobj = pg.uobject
    if uobj is not None:
        return uobj, None, uobj.vmobjlock
    anon = pg.uanon
    return None if anon is None else (None, anon, anon.an_lock)


@kernel(exit="same")
def uvmpd_scan_inactive(pglst: PageQueue, sweep: Sweep) -> bool:
    """The first loop of uvmpd_scan: make inactive pages free.

    A page is passed over if its owner's lock cannot be had at once. Clean pages
    are freed. Dirty pages become BUSY and are gathered into a cluster, which is
    written when it is full, or at the end; uvm_aio_aiodone does the rest.

    Locks:   the page queues; dropped and retaken for I/O.
    Returns: True if the free target is met.
    Source:  uvm_pdaemon.c; order of unmapping and of the question for modification as of January 2001.
    Differs: reads `free` without its lock, as later versions did; ends if the I/O could not be started. A page's old
             swap slot is freed, and stays in its anon or aobj until the new one takes its place; UVM sets it to 0 at
             once. No context can see that, as the page's owner is locked.
    """
    met = False
    dirtyreacts = 0
    cluster: list[Page] = []
    slot = wanted = 0  # of the cluster
    file: UvmObject | None = None  # whose pages it has, if they do not go to swap
    p: Page | None = PAGEQ.first(pglst)
    while p is not None or cluster:
        if p is not None:
            free = uvmexp.free
            if free + sweep.paging >= sweep.freetarg << 2 or dirtyreacts == UVMPD_NUMDIRTYREACTS:
                met = True
                p = None  # no more pages, only what is in the cluster
                continue
            uvmexp.pdscans += 1
            nextpg: Page | None = PAGEQ.next(p)
            if pmap_is_referenced(p):
                uvm_pageactivate(p)
                uvmexp.pdreact += 1
                p = nextpg
                continue
            owner = _owner(p)
            if owner is None:
                panic("pagedaemon: page with no anon or object detected - loop 1", p)
                return met
            uobj, anon, owner_lock = owner
            if not owner_lock.trylock():
                p = nextpg
                continue
            if uobj is None and not p.pqflags & PQ_ANON:  # borrowed, and its object has let go of it
                uvm_pageadopt(p)  # and is on the other inactive queue now
                owner_lock.unlock()
                p = nextpg
                continue
            flags = p.flags
            if flags & PG_BUSY:
                owner_lock.unlock()
                uvmexp.pdbusy += 1
                p = nextpg
                continue
            if uobj is None:
                uvmexp.pdanscan += 1
            else:
                uvmexp.pdobscan += 1
            swap_backed = p.pqflags & PQ_SWAPBACKED

            # a clean page can be freed. Without mappings it cannot be written to while we ask whether it was
            unmapped = bool(flags & PG_CLEAN)
            if unmapped:
                if erratum("uvmpd_scan_inactive.modified-before-unmap"):
                    modified = pmap_is_modified(p)
                    pmap_page_protect(p, VM_PROT_NONE)
                else:
                    pmap_page_protect(p, VM_PROT_NONE)
                    modified = pmap_is_modified(p)
                if not modified:
                    if anon is not None and anon.an_swslot == SWSLOT_NONE:
                        panic("pagedaemon: clean anon page without backing store?", anon)
                    if swap_backed:
                        uvm.swap_data_lock.lock()
                        uvmexp.swpgonly += 1
                        uvm.swap_data_lock.unlock()
                    uvm_pagefree(p)
                    uvmexp.pdfreed += 1
                    sweep.freed += 1
                    if anon is not None:
                        anon.an_page = None
                    owner_lock.unlock()
                    p = nextpg
                    continue
                flags &= ~PG_CLEAN
                p.flags = flags

            # a dirty page: leave it if what is in flight will do, or if everything in swap is nowhere else
            if free + sweep.paging > sweep.freetarg << 2:
                owner_lock.unlock()
                p = nextpg
                continue
            if swap_backed:
                swpgonly, swpages = uvmexp.swpgonly, uvmexp.swpages
                KASSERT(swpgonly <= swpages, "uvmexp.swpgonly <= uvmexp.swpages")
                if swpgonly == swpages:
                    dirtyreacts += 1
                    uvm_pageactivate(p)
                    owner_lock.unlock()
                    p = nextpg
                    continue

            # it is ours, and no thread writes to it, until its I/O is done
            p.flags = flags | PG_BUSY
            uvm_page_own(p, "scan_inactive")
            if not swap_backed:
                uvm_pager_cleaning(p)
            elif not unmapped:
                pmap_page_protect(p, VM_PROT_READ)
            if swap_backed:
                old = uvm_page_swslot(p, uobj, anon)
                if old != SWSLOT_NONE:
                    uvm_swap_free(old, 1)
                if not cluster:
                    slot, wanted = uvm_swap_alloc(MAXBSIZE_PAGES, True)
                    if slot == SWSLOT_NONE:
                        if old != SWSLOT_NONE:
                            uvm_page_set_swslot(p, uobj, anon, SWSLOT_NONE)
                        uvm_page_unbusy(p, flags)
                        owner_lock.unlock()
                        p = nextpg
                        continue
                uvm_page_set_swslot(p, uobj, anon, slot + len(cluster))
                cluster.append(p)
                owner_lock.unlock()
                file = None
                if len(cluster) < wanted:
                    p = nextpg
                    continue
            else:
                assert uobj is not None
                file = uobj  # stays locked until the I/O is started
                cluster = uvm_mk_pcluster(uobj, p, 0)
                wanted = len(cluster)

        # start the I/O
        npages = len(cluster)
        if npages < wanted:
            uvm_swap_free(slot + npages, wanted - npages)
        uvmexp.pdpageouts += 1
        counted = 0 if erratum("uvm_pageout.paging-after-start") else npages
        if counted:
            uvmexp.paging += npages
        error, started = uvm_pager_put(file, p, cluster, slot, 0)
        uvm_lock_pageq()
        if started != counted:
            uvmexp.paging += started - counted
        sweep.paging += started
        cluster = []
        if error:
            break
        uvmexp.pdpending += 1
        if p is not None:  # busy, so it is still what it was; its neighbours may have gone anywhere meanwhile
            p = PAGEQ.next(p) if p.pqflags & PQ_INACTIVE else PAGEQ.first(pglst)
    return met
