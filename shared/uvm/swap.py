"""Swap space: devices, slots, and I/O to them.

Slots are numbered from 1 over all devices (`/dev/drum`); 0 is "none",
SWSLOT_BAD marks data that a read error has lost. `swpgonly` counts the
pages of anons and of aobjs whose data is in swap and nowhere in RAM:

    0 <= swpgonly <= swpginuse <= swpages

    uvm.swap_priority -> SwapPri 0 -> SwapPri 1 -> ...    the lowest number first
                            |            |
                         SwapDev ...  SwapDev ...         in turn

A SwapDev is there, with its part of the drum, from boot on. It is on the list of
its priority (INUSE) while it is swapped to. Slots are allocated on it only while
it is enabled, which it is not any more as soon as swapctl(2) begins to remove it.

All of this is under swap_data_lock, which is a leaf. What swapctl(2) does
is in swapctl.py.

Left out: swap to files, the kernel's mapping of the pages (pager_map),
synchronous writes. A read that fails
for a transient reason (EAGAIN), which a pager that may sleep has none of, is an
answer that the machine's configuration can ask for.
Source: uvm_swap.c 1.34 (February 2000), with the result codes of 2001-03-10 (D-001).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from shared.port.port import erratum, here, kernel, panic
from shared.uvm.buf import uvm_getbuf, uvm_putbuf
from shared.uvm.param import EAGAIN, EIO, SWF_ENABLE, SWF_INUSE, SWSLOT_BAD, SWSLOT_NONE
from shared.uvm.structs import SWAPDEVS, Page, SlotArray, SwapDev, SwapPri, uvm, uvmexp

SLOTS_PER_WORD = 32


def uvm_swap_init(devices: Sequence[tuple[int, int]]) -> None:
    """Make the swap devices, and swap to all of them; at boot.

    Args:
        devices: (slots, priority) of each; each gets the next part of the drum.
    """
    uvm.nswapdev = 0
    uvm.swap_priority = None
    uvmexp.swpages = 0
    uvmexp.swpginuse = 0
    uvmexp.swpgonly = 0
    if devices:
        # (1: the device was built with the pagers' result codes as they were before errno)
        here.port.op("swap_attach", 0, (int(erratum("uvm_swap_init.device-with-old-codes")),))
    drumoffset = 1
    for npages, priority in devices:
        sdp = here.port.alloc(SwapDev)
        sdp.swd_flags = 0
        sdp.swd_npages = npages
        sdp.swd_npginuse = 0
        sdp.swd_npgbad = 0
        sdp.swd_drumoffset = drumoffset
        drumoffset += npages
        words = -(-npages // SLOTS_PER_WORD)
        extents = here.port.alloc(SlotArray, words)
        for at in range(words):
            extents[at] = 0
        sdp.swd_slots = extents
        swap_on(sdp, priority)


# -- the list of devices -------------------------------------------------------------------


def swap_on(sdp: SwapDev, priority: int) -> None:
    """Begin to swap to a device. Locks: takes swap_data_lock.

    Source:  uvm_swap.c.   Differs: the device is not opened, so it need not be on the list as a "fake" meanwhile.
    """
    uvm.swap_data_lock.lock()
    swaplist_insert(sdp, priority)
    sdp.swd_flags = SWF_INUSE | SWF_ENABLE
    uvmexp.swpages += sdp.swd_npages - sdp.swd_npgbad  # the bad slots have been counted since they were found
    uvm.swap_data_lock.unlock()


def swaplist_insert(sdp: SwapDev, priority: int) -> None:
    """Put a device at the end of the list of its priority. Locks: swap_data_lock. Source: uvm_swap.c."""
    before: SwapPri | None = None
    spp = uvm.swap_priority
    while spp is not None and spp.spi_priority < priority:
        before, spp = spp, spp.spi_next
    if spp is None or spp.spi_priority != priority:
        newspp = here.port.alloc(SwapPri)
        newspp.spi_priority = priority
        newspp.spi_next = spp
        if before is None:
            uvm.swap_priority = newspp
        else:
            before.spi_next = newspp
        spp = newspp
    sdp.swd_priority = priority
    SWAPDEVS.insert_tail(spp, sdp)
    uvm.nswapdev += 1


def swaplist_remove(sdp: SwapDev) -> None:
    """Take a device off the list of its priority, which goes too if that was the last. Locks: swap_data_lock.

    Source:  uvm_swap.c: swaplist_find() with "remove", swaplist_trim().
    """
    before: SwapPri | None = None
    spp = uvm.swap_priority
    while spp is not None and spp.spi_priority != sdp.swd_priority:
        before, spp = spp, spp.spi_next
    if spp is None:
        panic("swap_off: swapdev not in list", sdp)
        return
    SWAPDEVS.remove(spp, sdp)
    uvm.nswapdev -= 1
    if SWAPDEVS.first(spp) is None:
        if before is None:
            uvm.swap_priority = spp.spi_next
        else:
            before.spi_next = spp.spi_next
        here.port.free(spp)


def _swapdevs() -> Iterator[tuple[SwapPri, SwapDev]]:
    """Every device in use, in the order in which slots are looked for. Locks: swap_data_lock."""
    spp = uvm.swap_priority
    while spp is not None:
        sdp: SwapDev | None = SWAPDEVS.first(spp)
        while sdp is not None:
            yield spp, sdp
            sdp = SWAPDEVS.next(sdp)
        spp = spp.spi_next


# -- the slots of a device -------------------------------------------------------------------


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
    """The device in use that a slot is on. Locks: swap_data_lock."""
    for _, sdp in _swapdevs():
        start = sdp.swd_drumoffset
        if start <= slot < start + sdp.swd_npages:
            return sdp
    return None


@kernel(exit="same")
def uvm_swap_alloc(nslots: int, lessok: bool) -> tuple[int, int]:
    """Allocate slots in a row on one device: of the lowest priority number that has them, on each device in turn.

    Args:
        lessok: a single slot will do, if so many are not to be had.

    Returns: (first slot, how many); (0, 0) if there are none.
    Locks:   takes swap_data_lock.
    Source:  uvm_swap.c.
    """
    if uvm.nswapdev < 1:
        return 0, 0
    uvm.swap_data_lock.lock()
    for wanted in (nslots, 1) if lessok and nslots > 1 else (nslots,):
        for spp, sdp in _swapdevs():
            if not sdp.swd_flags & SWF_ENABLE:
                continue
            inuse, npages = sdp.swd_npginuse, sdp.swd_npages
            if inuse + wanted > npages:
                continue
            first = _extent_alloc(sdp.swd_slots, npages, wanted)
            if first < 0:
                continue
            if SWAPDEVS.next(sdp) is not None:  # the next allocation is another's turn
                SWAPDEVS.remove(spp, sdp)
                SWAPDEVS.insert_tail(spp, sdp)
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
    _tell_swap_off(sdp)
    uvm.swap_data_lock.unlock()


@kernel(exit="same")
def uvm_swap_markbad(startslot: int, nslots: int) -> None:
    """Remember that I/O to these slots failed. They stay allocated, so they are not used again.

    Locks:   takes swap_data_lock.
    Source:  uvm_swap.c.
    """
    uvm.swap_data_lock.lock()
    sdp = _swapdrum_getsdp(startslot)
    if sdp is not None:
        sdp.swd_npgbad += nslots
        _tell_swap_off(sdp)
    uvm.swap_data_lock.unlock()


def _tell_swap_off(sdp: SwapDev) -> None:
    """One slot less is in use and good: swap_off() may be waiting for that. Locks: swap_data_lock."""
    if not sdp.swd_flags & SWF_ENABLE:
        here.port.wakeup(sdp.address)


def uvm_swap_room() -> bool:
    """Is there a free slot on a device that is enabled? The answer is a hint. Locks: takes swap_data_lock.

    Source:  none; the model's.
    """
    uvm.swap_data_lock.lock()
    room = any(sdp.swd_flags & SWF_ENABLE and sdp.swd_npginuse < sdp.swd_npages for _, sdp in _swapdevs())
    uvm.swap_data_lock.unlock()
    return room


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
    bp = uvm_getbuf(ppsp, slot, None)
    frames = [pg.frame for pg in ppsp]
    error: int = here.port.op("swap_put", slot, (bp, frames))
    if error:
        uvm_putbuf(bp)
        if erratum("uvm_swap_put.sync-answers-pending") and error == EAGAIN:
            # Written while we wait, and answered as if it were only started. No completion is going to come.
            here.port.op("swap_put", slot, (None, frames))
            error = 0
    return error
