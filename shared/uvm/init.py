"""Starting UVM: the globals, the pages, the anons and the swap devices.

Source: uvm_init.c, and the initialization functions that it calls, of 2000.
"""

from __future__ import annotations

from collections.abc import Sequence

from shared.port.port import KASSERT, here
from shared.scenario.machine import KernelMaps
from shared.uvm.anon import uvm_anon_init
from shared.uvm.km import uvm_km_init
from shared.uvm.page import uvm_page_init
from shared.uvm.pdaemon import uvmpd_tune
from shared.uvm.structs import (
    FreeQueue,
    PageQueue,
    Uvm,
    Uvmexp,
    page_active,
    page_free,
    page_inactive_obj,
    page_inactive_swp,
    uvm,
    uvmexp,
)
from shared.uvm.swap import uvm_swap_init


def uvm_init(
    frames: int,
    anons: int,
    swap_devices: Sequence[tuple[int, int]],
    *,
    reserve_pagedaemon: int = 1,
    reserve_kernel: int = 5,
    freemin: int | None = None,
    freetarg: int | None = None,
    kernel: KernelMaps | None = None,
) -> None:
    """Make all that is there before the first process.

    Args:
        frames: of physical memory; each is a page, and all are free.
        anons: to preallocate (UVM: about as many as pages and swap slots).
        swap_devices: (slots, priority) of each.
        reserve_pagedaemon, reserve_kernel: free pages that only these may take.
        freemin, freetarg: targets instead of UVM's own rule.
        kernel: pages of the kernel's maps; None: there are none.
    """
    KASSERT(reserve_pagedaemon <= reserve_kernel, "uvmexp.reserve_pagedaemon <= uvmexp.reserve_kernel")
    globals_ = [here.port.alloc(kind) for kind in (Uvm, Uvmexp, PageQueue, PageQueue, PageQueue, FreeQueue)]
    assert globals_ == [uvm, uvmexp, page_active, page_inactive_swp, page_inactive_obj, page_free]
    uvm.pagedaemon = 0
    uvm.pagedaemon_waiters = 0
    uvm.aio_done_first = None
    uvm.aio_done_last = None
    uvmexp.reserve_pagedaemon = reserve_pagedaemon
    uvmexp.reserve_kernel = reserve_kernel
    uvm_page_init(frames)
    uvm_anon_init(anons)
    uvm_swap_init(swap_devices)
    uvmpd_tune(frames, reserve_kernel, freemin, freetarg)
    if kernel is None:
        uvm.kernel_map = None
    else:
        uvm_km_init(kernel.map, kernel.kmem, kernel.mb, kernel.exec)
