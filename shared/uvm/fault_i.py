"""Where a fault is, and the locks of what it looks at.

Source: uvm_fault_i.h 1.10.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from shared.port.port import erratum, here, kernel
from shared.port.struct import unlocked
from shared.uvm.amap import amap_unlock
from shared.uvm.map_entry import uvm_map_lookup_entry, vm_map_lock, vm_map_lock_read, vm_map_unlock, vm_map_unlock_read
from shared.uvm.page import uvm_lock_pageq, uvm_unlock_pageq
from shared.uvm.param import UVM_ET_SUBMAP
from shared.uvm.structs import Amap, Anon, Page, UvmObject, VmMap, VmMapEntry, uvm, uvmexp


@dataclass(slots=True)
class UvmFaultinfo:
    """struct uvm_faultinfo: where a fault is, and the map entry it was looked up in.

    Attributes:
        orig_map, orig_rvaddr: the map, and the address of the page.
        nested: the caller holds the map read-locked (mlock), and it stays so: the fault takes no lock of its own.
            lockmgr() counts each shared hold; here a context holds a lock once.
        map, mapv, entry: set by the lookup: the map that has the entry, orig_map or a submap of it; the entry is good
            while that map's timestamp is `mapv`.

    Left out: orig_size and size, which were always one page.
    """

    orig_map: VmMap
    orig_rvaddr: int
    nested: bool = False
    map: VmMap = field(init=False)
    mapv: int = field(init=False)
    entry: VmMapEntry = field(init=False)
    parentv: int = field(init=False)  # of use to an erratum alone: the timestamp of orig_map


def uvmfault_unlockmaps(ufi: UvmFaultinfo | None, write_locked: bool) -> None:
    """Unlock the map; `ufi` is None for a swapoff, which is not a fault."""
    if ufi is None or ufi.nested:
        return
    if write_locked:
        vm_map_unlock(ufi.map)
    else:
        vm_map_unlock_read(ufi.map)


def uvmfault_unlockall(ufi: UvmFaultinfo | None, amap: Amap | None, uobj: UvmObject | None, anon: Anon | None) -> None:
    """Unlock everything passed in. Locks: entry map(r) and all that is passed."""
    if anon is not None:
        anon.an_lock.unlock()
    if uobj is not None:
        uobj.vmobjlock.unlock()
    if amap is not None:
        amap_unlock(amap)
    uvmfault_unlockmaps(ufi, False)


@kernel()
def uvmfault_waitio(ufi: UvmFaultinfo, amap: Amap | None, uobj: UvmObject | None, anon: Anon | None, pg: Page) -> bool:
    """Wait, if a device is at work on this page.

    Locks:   entry all that is passed, with it the page's owner, so that no I/O to it begins. Returns: same, or nothing.
    Sleeps:  until the I/O is done ("pageio").
    Returns: True if it has waited: nothing is held, and all has to be looked up again.
    Source:  none; the model's.
    """
    if not unlocked(pg, "io_count"):
        return False
    uvm_lock_pageq()
    if not pg.io_count:
        uvm_unlock_pageq()
        return False
    uvmfault_unlockall(ufi, amap, uobj, anon)
    here.port.sleep(pg.addressof("io_count"), "pageio", uvm.pageqlock)
    return True


@kernel()
def uvmfault_lookup(ufi: UvmFaultinfo, write_lock: bool) -> bool:
    """Look up the faulting address.

    Returns: True with the map locked, or False with it unlocked: nothing is mapped there.
    Source:  uvm_fault_i.h.
    """
    ufi.map = ufi.orig_map
    while True:  # twice at most: a submap has no submaps
        if write_lock:
            vm_map_lock(ufi.map)
        elif not ufi.nested:
            vm_map_lock_read(ufi.map)
        mapped, ufi.entry = uvm_map_lookup_entry(ufi.map, ufi.orig_rvaddr)
        if not mapped:
            uvmfault_unlockmaps(ufi, write_lock)
            return False
        if not ufi.entry.etype & UVM_ET_SUBMAP:
            break
        submap = ufi.entry.sub_map
        assert submap is not None
        ufi.parentv = ufi.map.timestamp
        uvmfault_unlockmaps(ufi, write_lock)
        ufi.map = submap
    ufi.mapv = ufi.map.timestamp
    return True


@kernel()
def uvmfault_relock(ufi: UvmFaultinfo | None) -> bool:
    """Read-lock the map again, if it is still the map that was looked up.

    Returns: True with the map locked, or False with it unlocked.
    Source:  uvm_fault_i.h.
    """
    if ufi is None:
        return True
    uvmexp.fltrelck += 1
    if not ufi.nested:
        vm_map_lock_read(ufi.map)
        now, then = ufi.map.timestamp, ufi.mapv
        if ufi.map != ufi.orig_map and erratum("uvmfault_relock.checks-parent-version"):
            now, then = ufi.orig_map.timestamp, ufi.parentv
        if now != then:
            vm_map_unlock_read(ufi.map)
            return False
    uvmexp.fltrelckok += 1
    return True
