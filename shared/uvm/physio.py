"""Raw device I/O: bytes between a device and a user's buffer, without a copy.

    sys_physio -> uvm_vslock -> the device, by DMA -> physio_intr -> uvm_vsunlock

Rules: while the I/O lasts the buffer's pages are wired (io_count says how often for
I/O), so that the DMA goes where it should, and each page stays where it is:

- munmap and fork of the process wait (vm_map_lock_still);
- a fork of another process that shares the memory copies the page for the child at once
  (amap_cow_now), so that it need not be replaced later;
- a borrower of the page waits (shared/uvm/loan.py).

UVM saw to none of that (errata E61a and E61b); NetBSD had hardly any processes whose threads share a map.
mlock, munlock, mprotect and madvise may come between; and the translation may go, so
that the pages are looked up in the map, where the pmap has none.

uvm_vslock() wires pages and translations, but does not count in any map entry's
wired_count: so uvm_vsunlock() must leave a translation wired if its entry is
(mlock), and munlock memory that is still wired for us.

A device may be told to store a status word when it is done. Its interrupt does
so through the process's own mapping; an interrupt cannot wait for a page, so
that word must be in memory that the process has locked.

Left out: struct buf and its flags, partial transfers, minphys, vmapbuf.
Source: kern_physio.c, uvm_glue.c (uvm_vslock, uvm_vsunlock) of 2001.
"""

from __future__ import annotations

from shared.port.port import SPL_BIO, here, kernel, panic
from shared.uvm.fault_wire import uvm_fault_unwire, uvm_fault_wire, uvm_wired_page
from shared.uvm.map_entry import uvm_map_lookup_entry, vm_map_lock_read, vm_map_unlock_read
from shared.uvm.page import uvm_unlock_pageq
from shared.uvm.param import EFAULT, VM_FAULT_REFERENCE, VM_PROT_READ, VM_PROT_WRITE
from shared.uvm.pmap import pmap_emulate_reference, pmap_extract
from shared.uvm.proc import curmap_of
from shared.uvm.structs import PhysBuf, Proc, VmMap, uvmexp


@kernel(exit="same")
def uvm_vslock(map: VmMap, start: int, end: int, access_type: int, bp: PhysBuf) -> int:
    """Wire user memory for I/O.

    Locks:   entry map unlocked. Returns: same.
    Sleeps:  as uvm_fault().
    Returns: as uvm_fault().
    Source:  uvm_glue.c.
    """
    return uvm_fault_wire(map, start, end, access_type, bp)


@kernel(exit="same")
def uvm_vsunlock(map: VmMap, start: int, end: int, bp: PhysBuf) -> None:
    """Undo uvm_vslock(). Locks: entry map unlocked; same. Source: uvm_glue.c."""
    uvm_fault_unwire(map, start, end, bp)


def _frame_at(map: VmMap, va: int) -> int:
    """The frame of a wired page. Locks: entry map unlocked; same. Sleeps: for the map."""
    pg = pmap_extract(map.pmap, va)
    if pg is None:  # whatever became of the translation
        vm_map_lock_read(map)
        _, entry = uvm_map_lookup_entry(map, va)
        pg = uvm_wired_page(entry, va)
        uvm_unlock_pageq()
        vm_map_unlock_read(map)
        if pg is None:
            panic("physio: page not resident", map)
    assert pg is not None
    return pg.frame


@kernel(exit="none")
def sys_physio(p: Proc, va: int, npages: int, block: int, write: bool, status: int) -> int:
    """Read blocks of the disk into a user's buffer, or write them from there.

    Args:
        block: the first one.
        write: to the disk.
        status: user address of a word that shall get the number of pages moved; 0: none.

    Sleeps:  as uvm_fault() ("physio"), and until the I/O is done ("biowait").
    Returns: 0; EFAULT - the buffer is not mapped, or not so.
    Source:  kern_physio.c.
    """
    port = here.port
    map = curmap_of(p)
    end = va + npages * port.page_size
    bp = port.alloc(PhysBuf)
    bp.b_proc = p
    bp.b_map = map
    bp.b_start = va
    bp.b_end = end
    bp.b_status = status
    bp.b_done = 0
    map.flags_lock.lock()
    bp.b_next = map.physio
    map.physio = bp
    map.flags_lock.unlock()

    error = uvm_vslock(map, va, end, VM_PROT_READ if write else VM_PROT_READ | VM_PROT_WRITE, bp)
    if error == 0:
        frames = [_frame_at(map, at) for at in range(va, end, port.page_size)]
        port.op("disk_start", block, (frames, int(write), bp, port.cur.cpu))
        s = port.splraise(SPL_BIO)
        bp.b_lock.lock()
        while not bp.b_done:
            port.sleep(bp.address, "biowait", bp.b_lock)
            bp.b_lock.lock()
        bp.b_lock.unlock()
        port.spl(s)
        uvm_vsunlock(map, va, end, bp)

    map.flags_lock.lock()
    before: PhysBuf | None = map.physio
    if before == bp:
        map.physio = bp.b_next
    else:
        while before is not None and before.b_next != bp:
            before = before.b_next
        assert before is not None, "we are on the list"
        before.b_next = bp.b_next
    map.flags_lock.unlock()
    port.wakeup(map.addressof("physio"))
    port.free(bp)
    return EFAULT if error else 0


@kernel(exit="same")
def physio_intr(bp: PhysBuf) -> None:
    """The I/O of a buffer is done: store its status, wake its process.

    Runs in the disk's interrupt, at splbio: it must not fault.

    Locks:   takes b_lock; the interrupted context holds it only at splbio.
    Source:  kern_physio.c, biodone().
    """
    port = here.port
    status = bp.b_status
    if status != 0:
        npages = (bp.b_end - bp.b_start) // port.page_size
        port.cur.proc = bp.b_proc  # whose memory it is
        while True:
            done, fault_type = port.access(bp.b_map.pmap, status, True, npages)
            if done or fault_type != VM_FAULT_REFERENCE:
                break
            uvmexp.traps += 1  # the pmap's own, which an interrupt may take
            pmap_emulate_reference(bp.b_map.pmap, status, True)
        port.cur.proc = None
        if not done:
            panic(f"trap: page fault in an interrupt, va {status:#x}", bp.b_map)
    bp.b_lock.lock()
    bp.b_done = 1
    port.wakeup(bp.address)
    bp.b_lock.unlock()
