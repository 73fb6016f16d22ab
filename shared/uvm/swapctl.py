"""swapctl(2): which devices are swapped to; bringing back the data of a device that is removed.

    SWAP_OFF    no new slots on the device
             -> every page of an aobj and every anon with a slot on it is brought in, and gives up the slot
             -> when nothing but bad slots is in use, the device goes

The anons are gone through by their addresses. They are never given back to the
system, so there is an anon at each, if only a free one; and an anon that has a slot
is in use for as long as it is locked. After a sleep it may be another.

Rules: swapctl(2) calls are serialized by swap_syscall_lock, which is taken before
everything else. No other lock is held while an anon is brought in.
Left out: files, SWAP_CTL and the statistics; the change in the number of anons
(there are as many as the machine's configuration says).
Source: uvm_swap.c and uvm_anon.c (anon_swap_off, anon_pagein) of 2000 and 2001.
"""

from __future__ import annotations

from shared.port.port import ANY_GEN, LOCK_ASSERT, erratum, here, kernel, panic
from shared.uvm.aobj import uao_swap_off
from shared.uvm.fault import uvmfault_anonget
from shared.uvm.page import uvm_lock_pageq, uvm_pagedeactivate, uvm_unlock_pageq
from shared.uvm.param import (
    EAGAIN,
    EBUSY,
    EINVAL,
    EIO,
    ENXIO,
    ERESTART,
    PG_CLEAN,
    SWAP_OFF,
    SWAP_ON,
    SWF_ENABLE,
    SWF_INUSE,
    SWSLOT_NONE,
)
from shared.uvm.pmap import pmap_clear_reference
from shared.uvm.structs import Anon, Proc, SwapDev, uvm, uvmexp
from shared.uvm.swap import swap_on, swaplist_remove, uvm_swap_free


@kernel(exit="none")
def sys_swapctl(p: Proc, cmd: int, device: int, priority: int) -> int:
    """Begin or end swapping to a device.

    Args:
        p: the calling process; every process may.
        cmd: SWAP_ON or SWAP_OFF.
        device: its number in the machine's configuration.
        priority: for SWAP_ON.

    Sleeps:  for another swapctl(2); as swap_off().
    Returns: 0; EBUSY - it is on already; ENXIO - it is not; ENOMEM - what is on it does not fit into memory, and it
             stays on; EINVAL - cmd.
    Source:  uvm_swap.c.
    """
    uvm.swap_syscall_lock.lock()
    sdp: SwapDev = SwapDev.at(device)
    uvm.swap_data_lock.lock()
    inuse = sdp.swd_flags & SWF_INUSE
    uvm.swap_data_lock.unlock()
    error = 0
    if cmd == SWAP_ON:
        if inuse:
            error = EBUSY
        else:
            swap_on(sdp, priority)
    elif cmd == SWAP_OFF:
        error = swap_off(sdp) if inuse else ENXIO
    else:
        error = EINVAL
    uvm.swap_syscall_lock.unlock()
    return error


@kernel(exit="same")
def swap_off(sdp: SwapDev) -> int:
    """Stop swapping to a device.

    Locks:   entry swap_syscall_lock. Returns: same.
    Sleeps:  as uao_swap_off() and anon_swap_off(); until slots that no anon has any more are free ("swapoff").
    Returns: 0; ENOMEM - see sys_swapctl().
    Source:  uvm_swap.c.
    Differs: waits where UVM panicked. The pagedaemon has slots that no anon has: those of a cluster that it is just
             gathering, which it does under the page queues' lock, so that we wait for that; and, after a write that
             failed, those that the anons have given up already. Bad slots stay counted in swpginuse and swpages when
             the device goes, and are still bad when it comes back.
    """
    uvm.swap_data_lock.lock()
    sdp.swd_flags = SWF_INUSE
    uvm.swap_data_lock.unlock()
    waits = not erratum("swap_off.slots-in-transit")
    if waits:
        uvm_lock_pageq()
        uvm_unlock_pageq()

    start = sdp.swd_drumoffset
    stop = start + sdp.swd_npages
    while (error := uao_swap_off(start, stop)) in (EIO, EAGAIN):
        pass  # EIO: that page's data is lost, and its slot bad; on with the others
    if not error:
        error = anon_swap_off(start, stop)
    uvm.swap_data_lock.lock()
    if error:
        sdp.swd_flags = SWF_INUSE | SWF_ENABLE
        uvm.swap_data_lock.unlock()
        return error
    while (inuse := sdp.swd_npginuse) != (bad := sdp.swd_npgbad):
        if not waits:
            panic(f"swap_off: {inuse} pages still in use ({bad} bad)", sdp)
        here.port.sleep(sdp.address, "swapoff", uvm.swap_data_lock)
        uvm.swap_data_lock.lock()
    swaplist_remove(sdp)
    sdp.swd_flags = 0
    uvmexp.swpages -= sdp.swd_npages - bad
    uvm.swap_data_lock.unlock()
    return 0


@kernel(exit="same")
def anon_swap_off(startslot: int, endslot: int) -> int:
    """Bring in every anon that is in a range of swap slots.

    Locks:   entry swap_syscall_lock. Returns: same.
    Sleeps:  as anon_pagein().
    Returns: 0 or ENOMEM.
    Source:  uvm_anon.c.   Differs: looks again at an anon that another thread used; see uvmfault_anonget().
    """
    for number in range(uvmexp.nanon):
        while True:
            anon: Anon = Anon.at(number, ANY_GEN)
            locking = not erratum("anon_swap_off.anon-unlocked")
            if locking:
                anon.an_lock.lock()
            anon = here.port.identify(anon)
            if not startslot <= anon.an_swslot < endslot:
                if locking:
                    anon.an_lock.unlock()
                break
            error = anon_pagein(anon)
            if error in (0, EIO):  # EIO: its data is lost, and its slot bad
                break
            if error != ERESTART:
                return error
    return 0


@kernel()
def anon_pagein(anon: Anon) -> int:
    """Bring an anon in, and give up its swap slot: its page is dirty from now on.

    Locks:   entry anon. Returns: it is unlocked.
    Sleeps:  as uvmfault_anonget().
    Returns: as uvmfault_anonget().
    Source:  uvm_anon.c.   Differs: leaves a wired page off the queues, as later.
    """
    LOCK_ASSERT(anon.an_lock.held(), "simple_lock_held(&anon->an_lock)", anon)
    error = uvmfault_anonget(None, None, anon)
    if error:
        return error
    pg = anon.an_page
    assert pg is not None
    uobj = pg.uobject
    uvm_swap_free(anon.an_swslot, 1)
    anon.an_swslot = SWSLOT_NONE
    pg.flags &= ~PG_CLEAN
    pmap_clear_reference(pg)
    uvm_lock_pageq()
    if pg.wire_count == 0 or erratum("anon_pagein.wired-page-deactivated"):
        uvm_pagedeactivate(pg)
    uvm_unlock_pageq()
    anon.an_lock.unlock()
    if uobj is not None:
        uobj.vmobjlock.unlock()
    return 0
