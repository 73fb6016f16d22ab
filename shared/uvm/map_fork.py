"""Address spaces: a map and a pmap; made for a process, inherited by its child, freed.

Source: uvm_map.c 1.69 of 2000. Left out: reference counts of address spaces, pmap_copy, vfork.
"""

from __future__ import annotations

from shared.port.port import erratum, here, kernel, panic
from shared.uvm.amap import (
    amap_copy,
    amap_cow_now,
    amap_flags,
    amap_lock,
    amap_ref,
    amap_share_protect,
    amap_unlock,
    aref_of,
)
from shared.uvm.map import uvm_map_create, uvm_unmap_detach, uvm_unmap_remove
from shared.uvm.map_entry import (
    ref_object,
    uvm_map_entry_link,
    uvm_mapent_copy,
    vm_map_lock,
    vm_map_lock_still,
    vm_map_unlock,
)
from shared.uvm.param import (
    AMAP_SHARED,
    MAP_INHERIT_NONE,
    MAP_INHERIT_SHARE,
    UVM_ET_COPYONWRITE,
    UVM_ET_NEEDSCOPY,
    VM_MAP_PAGEABLE,
    VM_PROT_WRITE,
)
from shared.uvm.pmap import pmap_create, pmap_destroy, pmap_protect
from shared.uvm.structs import VmMap, VmMapEntry, Vmspace


@kernel(exit="same")
def uvmspace_alloc(vmin: int, vmax: int) -> Vmspace:
    """A new, empty address space with a pmap of its own. Source: uvm_map.c."""
    vm = here.port.alloc(Vmspace)
    vm.vm_map = uvm_map_create(pmap_create(), vmin, vmax, VM_MAP_PAGEABLE)
    return vm


@kernel(exit="same")
def uvmspace_free(vm: Vmspace) -> None:
    """Unmap everything, and free an address space that no thread uses any more.

    Locks:   entry map unlocked.
    Source:  uvm_map.c.   Differs: no reference count, the last thread to exit calls it; the map is unlocked
             before it is freed.
    """
    map = vm.vm_map
    vm_map_lock(map)
    dead = uvm_unmap_remove(map, map.min_offset, map.max_offset)
    vm_map_unlock(map)
    uvm_unmap_detach(dead)
    pmap_destroy(map.pmap)
    here.port.free(map.header)
    here.port.free(map)
    here.port.free(vm)


@kernel(exit="same")
def uvmspace_fork(vm1: Vmspace) -> Vmspace:
    """Make a child's address space from its parent's, entry by entry as their inheritance says.

    NONE: nothing. SHARE: both entries refer to one amap, from now on AMAP_SHARED.
    COPY: copy on write. It is put off (both sides "need copy", the parent is
    write-protected) unless the parent's amap is shared, when the parent must keep it,
    or the parent is wired and must not fault. What is wired is copied at once, whichever of
    the processes that share it has wired it.

    Locks:   entry parent's map unlocked. Returns: same. The child's map needs no lock: no other thread knows it yet.
    Sleeps:  for the map, and for device I/O to it; in amap_cow_now(), with the map locked.
    Source:  uvm_map.c.   Differs: no pmap_copy, the child starts without translations. A parent that shares its
             amap is not marked "needs copy": UVM did so, and with its next write it left the sharing (erratum E60).
             Instead all who share it are write-protected, which is what amap_share_protect() is for.
    """
    old_map = vm1.vm_map
    if erratum("uvmspace_fork.ignores-device-io"):
        vm_map_lock(old_map)
    else:
        vm_map_lock_still(old_map, old_map.min_offset, old_map.max_offset)
    vm2 = uvmspace_alloc(old_map.min_offset, old_map.max_offset)
    new_map = vm2.vm_map
    old_header, last = old_map.header, new_map.header
    size = 0
    old_entry = old_header.next
    while old_entry != old_header:
        etype = old_entry.etype
        if etype & (UVM_ET_COPYONWRITE | UVM_ET_NEEDSCOPY) == UVM_ET_NEEDSCOPY:
            panic("fork: non-copy_on_write map entry marked needs_copy (illegal)", old_entry)
        inheritance = old_entry.inheritance
        if inheritance != MAP_INHERIT_NONE:
            if inheritance == MAP_INHERIT_SHARE:
                new_entry = _fork_share(old_map, old_entry, etype, new_map)
            else:
                new_entry = _fork_copy(old_map, old_entry, etype, new_map)
            uvm_map_entry_link(new_map, last, new_entry)
            last = new_entry
            size += new_entry.end - new_entry.start
        old_entry = old_entry.next
    new_map.size = size
    vm_map_unlock(old_map)
    return vm2


def _fork_share(old_map: VmMap, old_entry: VmMapEntry, etype: int, new_map: VmMap) -> VmMapEntry:
    """The child's entry for one with inheritance SHARE. Locks: parent's map(w)."""
    if etype & UVM_ET_NEEDSCOPY:
        amap_copy(old_map, old_entry)  # get our own amap, to have something to share
    new_entry = uvm_mapent_copy(old_entry, new_map)
    if new_entry.wired_count != 0:
        new_entry.wired_count = 0  # a new pmap has nothing wired in it
    aref = aref_of(new_entry)
    if aref is not None:
        amap_ref(aref, new_entry.end - new_entry.start, AMAP_SHARED)
    ref_object(new_entry)
    return new_entry


def _fork_copy(old_map: VmMap, old_entry: VmMapEntry, etype: int, new_map: VmMap) -> VmMapEntry:
    """The child's entry for one with inheritance COPY. Locks: parent's map(w)."""
    new_entry = uvm_mapent_copy(old_entry, new_map)
    new_entry.etype = etype | UVM_ET_COPYONWRITE | UVM_ET_NEEDSCOPY
    wired = new_entry.wired_count != 0
    if wired:
        new_entry.wired_count = 0  # a new pmap has nothing wired in it
    ref_object(new_entry)
    aref = aref_of(new_entry)
    if aref is None:
        return new_entry
    amap = aref.amap
    amap_ref(aref, new_entry.end - new_entry.start, 0)
    putting_off = erratum("uvmspace_fork.sharing-parent-needs-copy")
    shared = bool(amap_flags(amap) & AMAP_SHARED) or not (putting_off or etype & UVM_ET_COPYONWRITE)
    if shared or wired:
        amap_copy(new_map, new_entry)
        if wired or not (putting_off or erratum("amap_add.wired-elsewhere")):
            amap_cow_now(new_map, new_entry, wired)
    if wired:
        return new_entry  # nothing changes for the parent
    if shared and not putting_off:
        locking = not erratum("uvmspace_fork.shared-amap-unlocked")
        if locking:
            amap_lock(amap)
        amap_share_protect(old_entry, old_entry.protection & ~VM_PROT_WRITE)
        if locking:
            amap_unlock(amap)
    elif not etype & UVM_ET_NEEDSCOPY:
        if old_entry.max_protection & VM_PROT_WRITE:
            pmap_protect(old_map.pmap, old_entry.start, old_entry.end, old_entry.protection & ~VM_PROT_WRITE)
        old_entry.etype = etype | UVM_ET_NEEDSCOPY
    return new_entry
