"""Waiting for the pagedaemon: called by every thread that finds no free memory.

How the pagedaemon and those who wait for it sleep and wake without losing a wakeup is in pdaemon.py.

Source: uvm_pdaemon.c 1.19 (February 2000).
"""

from __future__ import annotations

from shared.port.port import SPL_BIO, erratum, here, kernel, panic
from shared.uvm.structs import uvm, uvmexp
from shared.uvm.swap import uvm_swap_room


def curproc_is_pagedaemon() -> bool:
    """curproc == uvm.pagedaemon_proc"""
    return bool(here.port.cur.name == "pagedaemon")


@kernel()
def uvm_wait(wmsg: str) -> None:
    """Wait for the pagedaemon to free some pages.

    Args:
        wmsg: what `ps` shows, and a deadlock's verdict.

    Locks:   no simple lock held; never called by the pagedaemon.
    Sleeps:  until there is memory, or a reason to see that there will be none.
    Source:  uvm_pdaemon.c.
    Differs: counts the waiters. The pagedaemon itself panics here, as in a kernel with DEBUG; others print "pagedaemon:
             deadlock detected!" and let it pause for an eighth of a second (since 1.39 only if nothing is in flight).
    """
    if curproc_is_pagedaemon():
        panic("pagedaemon deadlock", "pagedaemon")
    s = here.port.splraise(SPL_BIO)
    uvm.pagedaemon_lock.lock()
    if not erratum("uvm_pageout.waiters-not-looked-for"):
        uvm.pagedaemon_waiters += 1
    here.port.wakeup(uvm.addressof("pagedaemon"))
    here.port.sleep(uvmexp.addressof("free"), wmsg, uvm.pagedaemon_lock)
    here.port.spl(s)


def uvm_wait_vain() -> bool:
    """After uvm_wait(): could the pagedaemon free nothing, with nothing in flight, and nowhere to write to?

    Then waiting again is useless, unless another thread frees memory anyway. The answer is a hint.

    Locks:   takes swap_data_lock.
    Source:  none; the model's.
    """
    return uvmexp.free <= uvmexp.reserve_kernel and not uvmexp.paging and not uvm_swap_room()
