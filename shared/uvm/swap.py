"""Swap space: devices, slots, and I/O to them.

Slots are numbered from 1 over all devices (`/dev/drum`); 0 is "none",
SWSLOT_BAD marks data that a read error has lost. `swpgonly` counts the anons
whose data is in swap and nowhere in RAM:

    0 <= swpgonly <= swpginuse <= swpages

All of this is under swap_data_lock, which is a leaf.

Left out: swapctl (devices are set up at boot, so there is no swap_syscall_lock),
priorities and the rotation among devices of one priority, swap to files, the
kernel's mapping of the pages (pager_map), synchronous writes. A read that fails
for a transient reason (EAGAIN), which a pager that may sleep has none of, is an
answer that the machine's configuration can ask for.
Source: uvm_swap.c of March 2001.
"""

from __future__ import annotations

from shared.port import erratum, here, kernel, panic
from shared.uvm.param import EAGAIN, EIO, SWSLOT_BAD, SWSLOT_NONE
from shared.uvm.structs import Buf, Page, PageArray, SlotArray, SwapDev, uvm, uvmexp

SLOTS_PER_WORD = 32


def uvm_swap_init(npages: int) -> None:
    """Set up one swap device of `npages` slots, or none if that is 0; at boot."""
    uvm.nswapdev = 0
    uvmexp.swpages = npages
    uvmexp.swpginuse = 0
    uvmexp.swpgonly = 0
    if npages == 0:
        return
    sdp = here.port.alloc(SwapDev)
    sdp.swd_enabled = 1
    sdp.swd_npages = npages
    sdp.swd_npginuse = 0
    sdp.swd_npgbad = 0
    sdp.swd_drumoffset = 1
    words = -(-npages // SLOTS_PER_WORD)
    extents = here.port.alloc(SlotArray, words)
    for at in range(words):
        extents[at] = 0
    sdp.swd_slots = extents
    # (1: the device was built with the pagers' result codes as they were before errno)
    here.port.op("swap_attach", 0, (int(erratum("uvm_swap_init.device-with-old-codes")),))
    uvm.nswapdev = 1


def _extent_alloc(extents: SlotArray, npages: int, nslots: int) -> int:
    """First fit: mark `nslots` free slots in a row as used; returns the first of them, or -1."""
    words: dict[int, int] = {}
    run = 0
    for slot in range(npages):
        at, bit = divmod(slot, SLOTS_PER_WORD)
        if at not in words:
            words[at] = extents[at]
        run = 0 if words[at] >> bit & 1 else run + 1
        if run == nslots:
            first = slot - nslots + 1
            _extent_mark(extents, words, first, nslots)
            return first
    return -1


def _extent_free(extents: SlotArray, first: int, nslots: int) -> bool:
    """Mark slots as free; False if one of them was so already."""
    ends = range(first // SLOTS_PER_WORD, (first + nslots - 1) // SLOTS_PER_WORD + 1)
    words = {at: extents[at] for at in ends}
    for slot in range(first, first + nslots):
        at, bit = divmod(slot, SLOTS_PER_WORD)
        if not words[at] >> bit & 1:
            return False
    _extent_mark(extents, words, first, nslots)
    return True


def _extent_mark(extents: SlotArray, words: dict[int, int], first: int, nslots: int) -> None:
    """Flip the bits of `nslots` slots, given the words as they are."""
    flip: dict[int, int] = {}
    for slot in range(first, first + nslots):
        at, bit = divmod(slot, SLOTS_PER_WORD)
        flip[at] = flip.get(at, 0) | 1 << bit
    for at, bits in flip.items():
        extents[at] = words[at] ^ bits


def _swapdrum_getsdp(slot: int) -> SwapDev | None:
    """The device that a slot is on. Locks: swap_data_lock."""
    for index in range(uvm.nswapdev):
        sdp: SwapDev = SwapDev.at(index)
        start = sdp.swd_drumoffset
        if start <= slot < start + sdp.swd_npages:
            return sdp
    return None


@kernel(exit="same")
def uvm_swap_alloc(nslots: int, lessok: bool) -> tuple[int, int]:
    """Allocate slots in a row on one device.

    Args:
        lessok: a single slot will do, if so many are not to be had.

    Returns: (first slot, how many); (0, 0) if there are none.
    Locks:   takes swap_data_lock.
    Source:  uvm_swap.c.
    """
    uvm.swap_data_lock.lock()
    for wanted in (nslots, 1) if lessok and nslots > 1 else (nslots,):
        for index in range(uvm.nswapdev):
            sdp: SwapDev = SwapDev.at(index)
            if not sdp.swd_enabled:
                continue
            inuse, npages = sdp.swd_npginuse, sdp.swd_npages
            if inuse + wanted > npages:
                continue
            first = _extent_alloc(sdp.swd_slots, npages, wanted)
            if first < 0:
                continue
            sdp.swd_npginuse = inuse + wanted
            uvmexp.swpginuse += wanted
            first += sdp.swd_drumoffset
            uvm.swap_data_lock.unlock()
            return first, wanted
    uvm.swap_data_lock.unlock()
    return 0, 0


@kernel(exit="same")
def uvm_swap_free(startslot: int, nslots: int) -> None:
    """Free slots: all or part of what uvm_swap_alloc gave.

    Locks:   takes swap_data_lock.
    Source:  uvm_swap.c.
    """
    if startslot == SWSLOT_BAD:
        return
    uvm.swap_data_lock.lock()
    sdp = _swapdrum_getsdp(startslot)
    if sdp is None:
        panic("uvm_swap_free: unmapped address", f"slot:{startslot}")
        uvm.swap_data_lock.unlock()
        return
    if not _extent_free(sdp.swd_slots, startslot - sdp.swd_drumoffset, nslots):
        panic("extent_free: region not found", f"slot:{startslot}")
    inuse = sdp.swd_npginuse - nslots
    sdp.swd_npginuse = inuse
    uvmexp.swpginuse -= nslots
    if inuse < 0:
        panic("uvm_swap_free: inuse < 0", sdp)
    uvm.swap_data_lock.unlock()


@kernel(exit="same")
def uvm_swap_markbad(startslot: int, nslots: int) -> None:
    """Remember that I/O to these slots failed. They stay allocated, so nobody gets them again.

    Locks:   takes swap_data_lock.
    Source:  uvm_swap.c.
    """
    uvm.swap_data_lock.lock()
    sdp = _swapdrum_getsdp(startslot)
    if sdp is not None:
        sdp.swd_npgbad += nslots
    uvm.swap_data_lock.unlock()


@kernel(exit="same")
def uvm_swap_get(pg: Page, slot: int) -> int:
    """Read a slot into a page.

    swpgonly goes down once the read has succeeded; if it fails, the data is
    still nowhere but in swap.

    Locks:   none held; `pg` is BUSY.
    Sleeps:  until the read is done.
    Returns: 0; EIO - the data is lost; EAGAIN - try again.
    Source:  uvm_swap.c.
    Differs: swpgonly used to go down before the read, and up again if it failed.
    """
    uvmexp.nswget += 1
    if slot in (SWSLOT_BAD, SWSLOT_NONE):  # (no device has slot 0)
        return EIO
    error: int = here.port.op("swap_get", slot, (pg.frame,))
    if error == 0:
        uvm.swap_data_lock.lock()
        uvmexp.swpgonly -= 1
        uvm.swap_data_lock.unlock()
    return error


@kernel(exit="same")
def uvm_swap_put(slot: int, ppsp: list[Page]) -> int:
    """Start writing pages to slots `slot`, slot+1 ...

    Locks:   none held; the pages are BUSY and write-protected.
    Returns: 0: the I/O is started, and its completion (uvm_aio_biodone) is all that follows; EAGAIN: nothing is
             started, for a shortage that will pass; EIO: nothing is started, nor ever will be.
    Source:  uvm_swap.c, uvm_swap_io with B_ASYNC; result codes as of 2001-03-10.
    """
    pages = here.port.alloc(PageArray, len(ppsp))
    for at, pg in enumerate(ppsp):
        pages[at] = pg
    bp = here.port.alloc(Buf)
    bp.error = 0
    bp.npages = len(ppsp)
    bp.pages = pages
    bp.slot = slot
    bp.vp = None
    frames = [pg.frame for pg in ppsp]
    error: int = here.port.op("swap_put", slot, (bp, frames))
    if error:
        here.port.free(pages)
        here.port.free(bp)
        if erratum("uvm_swap_put.sync-answers-pending") and error == EAGAIN:
            # Written while we wait, and answered as if it were only started. No completion is going to come.
            here.port.op("swap_put", slot, (None, frames))
            error = 0
    return error
