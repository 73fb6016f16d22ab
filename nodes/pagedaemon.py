"""The pagedaemon's processor: the thread that runs `uvm_pageout`, and its I/O completion interrupt.

It issues operations as a CPU does, but has no user mode. It starts asleep on
&uvm.pagedaemon, as the booted kernel's daemon does. A finished pageout arrives
as an interrupt at splbio, of the swap pager or of the disk; these are the named contexts
in which UVM's `uvm_aio_biodone` runs here.
"""

from __future__ import annotations

from nodes.cpu import Thread
from nodes.io import COMPLETION, DISK_COMPLETION
from shared.port.port import SPL_BIO, here
from shared.uvm.aio import uvm_aio_biodone
from shared.uvm.pdaemon import uvm_pageout
from shared.uvm.structs import uvm

NAME = "pagedaemon"


def pageout() -> None:
    """What the daemon runs: kernel threads have the big lock, if there is any."""
    here.port.kernel_proc_lock("kthread")
    uvm_pageout()


def biodone() -> None:
    """What `pagedaemon.bio` and `pagedaemon.disk` run for each finished pageout."""
    buf, error = here.port.cur.value
    uvm_aio_biodone(buf, error)


def pagedaemon_threads(disk: bool) -> list[Thread]:
    """The daemon and its interrupts; that of the disk if the machine has one."""
    daemon = Thread(NAME, NAME, pageout)
    daemon.starts_on = uvm.addressof("pagedaemon")
    daemon.reset()
    interrupts = (COMPLETION, DISK_COMPLETION) if disk else (COMPLETION,)
    return [daemon, *(Thread(name, NAME, biodone, SPL_BIO, interrupt=True) for name in interrupts)]
