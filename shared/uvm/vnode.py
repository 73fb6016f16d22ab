"""Files as objects (uvn): mapped files, and what read(2) and write(2) find in them.

A file's object is part of its vnode and has the file's pages by offset. A page
is read when it is first asked for; it is dirty if it is not CLEAN or the pmap
says modified, and is written by uvn_flush (msync, the end of the object) or by
the pagedaemon.

    attach    the first reference makes the object VALID; mappings and open reads refer to it
    detach    after the last one the pages may stay (CANPERSIST), inactive, for the next; or, if the
              file is not to be cached any more (uvm_vnp_uncache), they are written and freed. Those
              that are BUSY then are RELEASED, and the last of them ends the object: RELKILL

    u_nio     I/Os in progress: what a flush with PGO_SYNCIO waits for, since it must not wait for
              a BUSY page: its owner may be waiting for the map that we have locked

Reads, and writes with PGO_SYNCIO, are done when uvn_io returns; other writes are
only started, and finished by uvm_aio_aiodone, as the contract of 2001-03-10 wants
it. Every write of a flush is synchronous, as all I/O of vnodes was in early 2000.

Left out: the unified buffer cache of November 2000 (getpages, putpages, ubc_uiomove);
a file system (a file has consecutive blocks of the disk, from its beginning to its
largest size) and with it uvn_attach's wait for attributes, and the vnode's lock except for changes of size;
vnodes that are recycled (uvm_vnp_terminate) and synced (uvm_vnp_sync).
Source: uvm_vnode.c of early 2000; vn_rdwr() of vfs_vnops.c.
"""

from __future__ import annotations

from collections.abc import Sequence

from shared.port.port import KASSERT, erratum, here, kernel, panic
from shared.uvm.buf import uvm_getbuf, uvm_putbuf
from shared.uvm.loan_break import uvm_loanbreak
from shared.uvm.page import (
    uvm_lock_pageq,
    uvm_page_own,
    uvm_page_putback,
    uvm_page_unbusy,
    uvm_pagedeactivate,
    uvm_pagefree,
    uvm_pagekloans,
    uvm_pagelookup,
    uvm_pagezero,
    uvm_unlock_pageq,
)
from shared.uvm.pager import uvm_mk_pcluster, uvm_pager_cleaning, uvm_pager_put
from shared.uvm.param import (
    EINVAL,
    MAXBSIZE_PAGES,
    PG_BUSY,
    PG_CLEAN,
    PG_CLEANCHK,
    PG_FAKE,
    PG_RELEASED,
    PGO_ALLPAGES,
    PGO_CLEANIT,
    PGO_DEACTIVATE,
    PGO_DOACTCLUST,
    PGO_FREE,
    PGO_LOCKED,
    PGO_SYNCIO,
    PQ_INACTIVE,
    UVM_PGOPS_VNODE,
    UVM_VNODE_CANPERSIST,
    UVM_VNODE_DYING,
    UVM_VNODE_IOSYNC,
    UVM_VNODE_RELKILL,
    UVM_VNODE_VALID,
    UVM_VNODE_WANTED,
    VM_PROT_NONE,
)
from shared.uvm.pgops import PGOPS, PagerOps, get_busy, get_resident, reference
from shared.uvm.pmap import pmap_clear_modify, pmap_clear_reference, pmap_is_modified
from shared.uvm.pmap_page import pmap_page_protect, pmap_page_protect_unwired
from shared.uvm.structs import MEMQ, Page, UvmObject, Vnode
from shared.uvm.wait import uvm_wait


def vnode_make(block: int, npages: int) -> Vnode:
    """A file of `npages` pages in the disk's blocks `block`, block+1 ..., not in use yet; during setup."""
    vp = here.port.alloc(Vnode)
    uobj = here.port.alloc(UvmObject)
    uobj.pgops = UVM_PGOPS_VNODE
    uobj.pager = vp
    uobj.uo_npages = 0
    uobj.uo_refs = 0
    vp.u_obj = uobj
    vp.v_block = block
    vp.v_nblocks = npages
    vp.u_flags = 0
    vp.u_nio = 0
    vp.u_size = npages * here.port.page_size
    return vp


# -- life and death --------------------------------------------------------------------


@kernel(exit="same")
def uvn_attach(vp: Vnode) -> UvmObject:
    """Gain a reference to the object of a file, which begins its life if it has none.

    Locks:   entry the object unlocked. Returns: same.
    Sleeps:  while an earlier life of it ends ("uvn_attach").
    Source:  uvm_vnode.c.
    """
    uobj = vp.u_obj
    uobj.vmobjlock.lock()
    while True:
        flags = vp.u_flags
        if not flags & UVM_VNODE_DYING:
            break
        if not flags & UVM_VNODE_WANTED:
            vp.u_flags = flags | UVM_VNODE_WANTED
        here.port.sleep(vp.address, "uvn_attach", uobj.vmobjlock)
        uobj.vmobjlock.lock()
    if not flags & UVM_VNODE_VALID:
        vp.u_flags = flags & UVM_VNODE_IOSYNC | UVM_VNODE_VALID | UVM_VNODE_CANPERSIST
    uobj.uo_refs += 1
    uobj.vmobjlock.unlock()
    return uobj


@kernel(exit="same")
def uvn_reference(uobj: UvmObject) -> None:
    """Gain one more reference. Locks: entry the object unlocked; same. Source: uvm_vnode.c."""
    reference(uobj)


@kernel(exit="same")
def uvn_detach(uobj: UvmObject) -> None:
    """Drop a reference; the header says what becomes of the pages after the last reference.

    Locks:   entry the object unlocked. Returns: same.
    Sleeps:  as uvn_flush().
    Source:  uvm_vnode.c.
    """
    vp: Vnode = uobj.pager
    uobj.vmobjlock.lock()
    refs = uobj.uo_refs - 1
    uobj.uo_refs = refs
    if refs == 0:
        flags = vp.u_flags
        if flags & UVM_VNODE_CANPERSIST:
            uvn_flush(uobj, 0, 0, PGO_DEACTIVATE | PGO_ALLPAGES)
        else:
            vp.u_flags = flags | UVM_VNODE_DYING  # no thread can attach from now on
            uvn_flush(uobj, 0, 0, PGO_CLEANIT | PGO_FREE | PGO_ALLPAGES)
            if uobj.uo_npages != 0:
                vp.u_flags |= UVM_VNODE_RELKILL
            else:
                _dead(vp)
    uobj.vmobjlock.unlock()


def _dead(vp: Vnode) -> None:
    """The object's life is over; the next may begin. Locks: the object.

    A thread that waits for I/O may have no reference (uvm_vnp_setsize), and the I/O whose end this is is still counted:
    IOSYNC stays.
    """
    flags = vp.u_flags
    if flags & UVM_VNODE_WANTED:
        here.port.wakeup(vp.address)
    vp.u_flags = flags & UVM_VNODE_IOSYNC


@kernel(exit="same")
def uvm_vnp_uncache(vp: Vnode) -> bool:
    """See that a file's pages do not outlive its last reference.

    Locks:   entry the object unlocked. Returns: same.
    Sleeps:  as uvn_detach().
    Returns: True if it has no reference now, so that its pages are gone or going.
    Source:  uvm_vnode.c.
    """
    uobj = vp.u_obj
    uobj.vmobjlock.lock()
    flags = vp.u_flags
    if not flags & UVM_VNODE_VALID or flags & UVM_VNODE_DYING:
        uobj.vmobjlock.unlock()
        return True
    vp.u_flags = flags & ~UVM_VNODE_CANPERSIST
    if uobj.uo_refs != 0:
        uobj.vmobjlock.unlock()
        return False
    uobj.uo_refs = 1  # it was only cached: drop the reference that it has not got
    uobj.vmobjlock.unlock()
    uvn_detach(uobj)
    return True


@kernel(exit="same")
def uvm_vnp_setsize(vp: Vnode, newsize: int) -> None:
    """A file has another size: pages beyond its end are thrown away, from every address space.

    Locks:   entry the object unlocked. Returns: same.
    Sleeps:  for I/O in progress ("uvn_flush").
    Source:  uvm_vnode.c.
    Differs: waits for I/O beyond the new end. A wired page stays mapped, to be unwired there, but it is zero, as the
             file is when it grows again; unless it is on loan as well: what is on loan is not written to.
    """
    uobj = vp.u_obj
    page_size = here.port.page_size
    uobj.vmobjlock.lock()
    size = vp.u_size
    vp.u_size = newsize
    if newsize < size:
        uvn_flush(uobj, newsize, size, PGO_FREE)
        _wait_for_io(vp)
        for off in range(newsize, size, page_size):
            here.port.op("disk_format", vp.v_block + off // page_size, ([],))  # it is free, and will read as zeros
            pg = uvm_pagelookup(uobj, off)
            if pg is not None:
                _zero_wired(pg)
    uobj.vmobjlock.unlock()


def _zero_wired(pg: Page) -> None:
    """Zero a page whose block on the disk has just been zeroed, if it is wired; others will be freed.

    Locks:   the page's object.
    """
    uvm_lock_pageq()
    wired = pg.wire_count != 0 and pg.loan_count == 0
    device = pg.io_count != 0
    uvm_unlock_pageq()
    if wired:
        pmap_clear_modify(pg)  # first: what is written to the page after it was zeroed is a change
        uvm_pagezero(pg)
        if not device:
            pg.flags |= PG_CLEAN


@kernel()
def uvn_releasepg(pg: Page) -> bool:
    """Free a page that was released while it was BUSY.

    Locks:   entry the object. Returns True: same. False: that was its last page; it is dead, and unlocked.
    Source:  uvm_vnode.c.
    """
    uobj = pg.uobject
    assert uobj is not None
    vp: Vnode = uobj.pager
    pmap_page_protect(pg, VM_PROT_NONE)
    uvm_lock_pageq()
    uvm_pagefree(pg)
    uvm_unlock_pageq()
    if not vp.u_flags & UVM_VNODE_RELKILL:
        return True
    if uobj.uo_refs != 0:
        panic("uvn_releasepg: kill flag set on referenced object!", uobj)
    if uobj.uo_npages != 0:
        return True
    _dead(vp)
    uobj.vmobjlock.unlock()
    return False


# -- I/O ---------------------------------------------------------------------------------


@kernel()
def uvn_io(vp: Vnode, pps: list[Page], flags: int, write: bool) -> int:
    """Read one page, or write several in a row.

    Locks:   entry the object; the pages are BUSY. Returns: nothing.
    Sleeps:  until it is done, unless it is a write without PGO_SYNCIO.
    Returns: 0: it is done, or (a write without PGO_SYNCIO) started; EINVAL: a read beyond the end of the file; EIO;
             EAGAIN.
    Source:  uvm_vnode.c.   Differs: a page beyond the end of the file, which was wired when the file was truncated and
             so has stayed, is written to its block; otherwise it would stay dirty forever, and could never be freed.
             UVM freed wired pages as well.
    """
    port = here.port
    uobj = vp.u_obj
    offset = pps[0].offset
    if offset >= vp.u_size and not write:
        uobj.vmobjlock.unlock()
        return EINVAL
    vp.u_nio += 1
    uobj.vmobjlock.unlock()
    block = vp.v_block + offset // port.page_size
    frames = [pg.frame for pg in pps]
    error: int
    if not write:
        error = port.op("disk_get", block, (frames,))
    elif flags & PGO_SYNCIO or erratum("uvn_io.always-synchronous"):
        error = port.op("disk_put", block, (None, frames))
    else:
        bp = uvm_getbuf(pps, 0, vp)
        error = port.op("disk_put", block, (bp, frames))
        if error == 0:
            return 0
        uvm_putbuf(bp)
    uvn_iodone(vp)
    return error


@kernel(exit="same")
def uvn_iodone(vp: Vnode) -> None:
    """An I/O to a file is over. Locks: entry the object unlocked; same. Source: uvn_io()."""
    uobj = vp.u_obj
    uobj.vmobjlock.lock()
    nio = vp.u_nio - 1
    vp.u_nio = nio
    flags = vp.u_flags
    if nio == 0 and flags & UVM_VNODE_IOSYNC:
        vp.u_flags = flags & ~UVM_VNODE_IOSYNC
        here.port.wakeup(vp.addressof("u_nio"))
    uobj.vmobjlock.unlock()


def _wait_for_io(vp: Vnode) -> None:
    """Wait until no I/O to a file is in progress. Locks: the object, which is unlocked meanwhile."""
    while vp.u_nio != 0:
        flags = vp.u_flags
        if not flags & UVM_VNODE_IOSYNC:
            vp.u_flags = flags | UVM_VNODE_IOSYNC
        here.port.sleep(vp.addressof("u_nio"), "uvn_flush", vp.u_obj.vmobjlock)
        vp.u_obj.vmobjlock.lock()


# -- the pager's operations ----------------------------------------------------------------


@kernel()
def uvn_get(
    uobj: UvmObject, offset: int, wanted: Sequence[bool], center: int, flags: int
) -> tuple[int, list[Page | None]]:
    """pgo_get: see pgops.py.

    Locks:   entry the object. Returns: same with PGO_LOCKED, else nothing.
    Sleeps:  without PGO_LOCKED: busy page ("uvn_get"), file read, uvm_wait ("uvn_getpage").
    Returns: (0, pages); (EBUSY, pages): PGO_LOCKED, and `center` is not among them; (an error of uvn_io(), []).
    Source:  uvm_vnode.c.   Differs: a page that was released during a failed read goes by way of uvn_releasepg().
    """
    if flags & PGO_LOCKED:
        return get_resident(uobj, offset, wanted, center, "uvn_get1")
    pages: list[Page | None] = [None] * len(wanted)
    error, pg, fresh = get_busy(uobj, offset + center * here.port.page_size, "uvn_get", 0)
    if pg is None:
        return error, []
    pages[center] = pg
    if not fresh:
        uobj.vmobjlock.unlock()
        return 0, pages

    error = uvn_io(uobj.pager, [pg], PGO_SYNCIO, False)
    # the object is ours to come back to: the page is BUSY
    uobj.vmobjlock.lock()
    if error != 0:
        uvm_page_unbusy(pg, pg.flags)
        if uvn_releasepg(pg):
            uobj.vmobjlock.unlock()
        return error, []
    pg.flags &= ~PG_FAKE
    pmap_clear_modify(pg)
    uobj.vmobjlock.unlock()
    return 0, pages


@kernel()
def uvn_put(uobj: UvmObject, pps: list[Page], flags: int) -> int:
    """pgo_put: see pgops.py. Locks: entry the object; nothing on return. Source: uvm_vnode.c."""
    return uvn_io(uobj.pager, pps, flags, True)


def uvn_cluster(uobj: UvmObject, offset: int) -> tuple[int, int]:
    """pgo_cluster: as much as one I/O can take, from `offset` on, within the file. Locks: the object."""
    size = uobj.pager.u_size
    return offset, max(min(offset + MAXBSIZE_PAGES * here.port.page_size, size), offset + here.port.page_size)


@kernel(exit="same")
def uvn_flush(uobj: UvmObject, start: int, stop: int, flags: int) -> bool:
    """pgo_flush: write dirty pages (CLEANIT), then deactivate or free those that are clean (DEACTIVATE, FREE).

    Without CLEANIT, FREE throws pages away whatever they hold. Wired pages are written, and stay.

    Locks:   entry the object, which is unlocked for I/O. Returns: same.
    Sleeps:  for its own I/O; with CLEANIT and SYNCIO for all I/O to the file that is in progress ("uvn_flush").
    Returns: False: something could not be written, and is still dirty (if the object is dying, lost).
    Source:  uvm_vnode.c.   Differs: goes by offsets; what can not be written is not thrown away; deactivated pages keep
             their mappings, as of January 2001; leaves busy pages where they are, and does not free wired pages; looks
             again at pages that were busy, when it has waited, since others' I/O may have failed; a busy page that has
             to be written before it is freed stays (UVM had it freed by the thread that has it; what was written to it
             was lost), as does a page that a device, or a process that had it wired, has written to during the I/O; a
             page that is to be freed by the thread that has it busy is unmapped at once.
    """
    vp: Vnode = uobj.pager
    offsets: Sequence[int] = range(start, stop, here.port.page_size)
    if flags & PGO_ALLPAGES or len(offsets) > uobj.uo_npages:
        offsets = sorted(off for off in _resident(uobj) if flags & PGO_ALLPAGES or off in offsets)
    limits = (0, 0) if flags & PGO_ALLPAGES else (start, stop)
    written, busy = _flush(vp, offsets, limits, flags)
    if busy and flags & PGO_CLEANIT and flags & PGO_SYNCIO:
        _wait_for_io(vp)
        written_too, _ = _flush(vp, busy, limits, flags)
        written = written and written_too
    return written


def _flush(vp: Vnode, offsets: Sequence[int], limits: tuple[int, int], flags: int) -> tuple[bool, list[int]]:
    """uvn_flush(), without waiting for others' I/O. Returns: what it returns, and the offsets of busy pages."""
    uobj = vp.u_obj
    retval, busy_ones = True, []
    for off in offsets:
        clean = bool(flags & PGO_CLEANIT)
        while True:
            pp = uvm_pagelookup(uobj, off)
            if pp is None:
                break
            pgflags = pp.flags
            busy = pgflags & PG_BUSY
            if busy:
                busy_ones.append(off)
            elif clean and _is_dirty(pp, pgflags, bool(flags & PGO_FREE)):
                pp.flags = (pgflags | PG_BUSY | PG_CLEANCHK) & ~PG_CLEAN
                uvm_page_own(pp, "uvn_flush")
                uvm_pager_cleaning(pp)
                uvm_lock_pageq()
                ppsp = uvm_mk_pcluster(uobj, pp, PGO_DOACTCLUST, *limits)
                device = [ptmp for ptmp in ppsp if ptmp.io_count]
                error, _ = uvm_pager_put(uobj, pp, ppsp, 0, PGO_SYNCIO)
                uobj.vmobjlock.lock()
                if error:
                    retval = False
                    if not vp.u_flags & UVM_VNODE_DYING:
                        break
                    clean = False  # then its changes are lost
                    continue
                for ptmp in ppsp:
                    _written(vp, ptmp, ptmp in device)
                clean = False
                continue
            uvm_lock_pageq()
            wire_count = pp.wire_count
            wired = wire_count != uvm_pagekloans(pp)  # a page that the kernel has borrowed can be given up
            if flags & PGO_DEACTIVATE and not busy and wire_count == 0 and not pp.pqflags & PQ_INACTIVE:
                pmap_clear_reference(pp)
                uvm_pagedeactivate(pp)
            elif flags & PGO_FREE and busy:
                # Its holder frees it; but if it has to be written first, and the file lives, it stays.
                if not wired and (not flags & PGO_CLEANIT or vp.u_flags & UVM_VNODE_DYING):
                    pmap_page_protect(pp, VM_PROT_NONE)
                    pp.flags |= PG_RELEASED
            elif flags & PGO_FREE and not wired:
                # A process that had it wired until now, or a device, may have written to it since we have asked, or
                # written it.
                lost = not flags & PGO_CLEANIT or vp.u_flags & UVM_VNODE_DYING
                if lost or not _is_dirty(pp, pgflags, True):
                    pmap_page_protect(pp, VM_PROT_NONE)
                    uvm_pagefree(pp)
            uvm_unlock_pageq()
            break
    return retval, busy_ones


def _resident(uobj: UvmObject) -> list[int]:
    """Offsets of an object's pages. Locks: the object."""
    offsets = []
    pg: Page | None = MEMQ.first(uobj)
    while pg is not None:
        offsets.append(pg.offset)
        pg = MEMQ.next(pg)
    return offsets


def _is_dirty(pg: Page, pgflags: int, unmap: bool) -> bool:
    """Must a page that is not BUSY be written? Locks: its object.

    Args:
        unmap: it is going to be freed if not: then no process may write to it after we have asked.
    """
    if not pgflags & PG_CLEAN:
        return True
    if unmap:
        pmap_page_protect_unwired(pg, VM_PROT_NONE)  # wired mappings stay, and so will the page
    return pmap_is_modified(pg)


def _written(vp: Vnode, pg: Page, device: bool) -> None:
    """A BUSY page has been written, synchronously.

    It is clean, unless it was written to meanwhile: by way of a wired mapping, which has set the modified attribute; or
    by a device, of whose writes the pmap does not know.

    Args:
        device: one was at work on the page when the write began (none can have begun since, as the page was BUSY).

    Locks:   its object.
    """
    flags = pg.flags
    if flags & PG_RELEASED:
        # who flushes has a reference, or is about to end the object: it does not end here
        KASSERT(not vp.u_flags & UVM_VNODE_RELKILL, "(uvn->u_flags & UVM_VNODE_RELKILL) == 0", vp)
        uvm_page_unbusy(pg, flags)
        uvn_releasepg(pg)
        return
    uvm_page_unbusy(pg, flags | PG_CLEANCHK if device else flags | PG_CLEAN | PG_CLEANCHK)


PGOPS[UVM_PGOPS_VNODE] = PagerOps(uvn_reference, uvn_detach, uvn_get, uvn_put, uvn_flush, uvn_cluster, uvn_releasepg)

# -- read(2), write(2), ftruncate(2) ---------------------------------------------------------


@kernel(exit="none")
def vn_rdwr(vp: Vnode, offset: int, write: bool, value: int = 0) -> tuple[int, int]:
    """Read or write the word at a byte offset of a file.

    Through the object's page, so that a process that has the file mapped sees the same data, as with the unified
    buffer cache.

    Sleeps:  as uvn_attach(), uvn_get() and uvn_detach().
    Returns: (0, what was read or written), or (EINVAL: beyond the end of the file; EIO or EAGAIN: the disk erred; 0).
    Source:  vfs_vnops.c.   Differs: one word; a file does not grow by being written to.
    """
    port = here.port
    uobj = uvn_attach(vp)
    at = offset % port.page_size
    while True:
        uobj.vmobjlock.lock()
        if offset >= vp.u_size:  # also if there is a page there, because it was wired when the file was truncated
            uobj.vmobjlock.unlock()
            error = EINVAL
            break
        error, pages = uvn_get(uobj, offset - at, [True], 0, 0)
        if error != 0:
            break
        pg = pages[0]
        assert pg is not None
        uobj.vmobjlock.lock()
        flags = pg.flags
        if flags & PG_RELEASED:  # the file was truncated meanwhile, or the page thrown out
            uvm_page_unbusy(pg, flags)
            uvn_releasepg(pg)  # the object stays: we have a reference
            uobj.vmobjlock.unlock()
            continue
        if offset >= vp.u_size:  # truncated meanwhile, and wired
            uvm_page_putback(pg)
            uobj.vmobjlock.unlock()
            continue
        if write:
            if pg.loan_count:
                new = uvm_loanbreak(pg)
                if new is None:
                    uvm_page_putback(pg)
                    uobj.vmobjlock.unlock()
                    uvm_wait("vn_rdwr")
                    continue
                pg = new
            port.op("frame_store", pg.frame, (at, value))
            pg.flags &= ~PG_CLEAN
        else:
            value = port.op("frame_read", pg.frame)[at >> 3]
        uvm_page_putback(pg)
        uobj.vmobjlock.unlock()
        break
    uvn_detach(uobj)
    return error, 0 if error else value


@kernel(exit="none")
def sys_ftruncate(vp: Vnode, size: int) -> int:
    """Change the size of a file.

    Locks:   takes the vnode's lock, so that a file does not grow again while what was beyond its end is still thrown
             away: a fault would read the old data from the disk.
    Returns: 0; EINVAL - it has not so many blocks.
    Source:  vfs_syscalls.c.
    """
    if not 0 <= size <= vp.v_nblocks * here.port.page_size:
        return EINVAL
    vp.v_lock.lock()
    uvm_vnp_setsize(vp, size)
    vp.v_lock.unlock()
    return 0
