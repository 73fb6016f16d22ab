"""System calls on a process's own address space.

Each takes whole pages at a page-aligned byte address, and answers 0 or an
errno as the manual pages of NetBSD have it.

Left out: MAP_FIXED over an existing mapping, resource limits, mlockall; file
descriptors (a file is named by its vnode), and who may do what to it.
Source: uvm_mmap.c of 2000; sysv_shm.c.
"""

from __future__ import annotations

from shared.port.port import erratum, here, kernel
from shared.uvm.amap import amap_lock, amap_lookups, amap_unlock, aref_of
from shared.uvm.aobj import uao_create, uao_detach, uao_reference
from shared.uvm.map import (
    uvm_map,
    uvm_map_advice,
    uvm_map_checkprot,
    uvm_map_clean,
    uvm_map_inherit,
    uvm_map_pageable,
    uvm_map_protect,
    uvm_unmap_detach,
    uvm_unmap_remove,
)
from shared.uvm.map_entry import (
    uvm_map_lookup_entry,
    vm_map_lock,
    vm_map_lock_read,
    vm_map_lock_still,
    vm_map_unlock,
    vm_map_unlock_read,
)
from shared.uvm.page import uvm_pagelookup
from shared.uvm.param import (
    EAGAIN,
    EEXIST,
    EFAULT,
    EINVAL,
    ENOMEM,
    MADV_DONTNEED,
    MADV_FREE,
    MADV_NORMAL,
    MADV_SPACEAVAIL,
    MADV_WILLNEED,
    MAP_ANON,
    MAP_INHERIT_COPY,
    MAP_INHERIT_SHARE,
    MAP_PRIVATE,
    MAP_SHARED,
    MS_ASYNC,
    MS_INVALIDATE,
    MS_SYNC,
    PGO_CLEANIT,
    PGO_DEACTIVATE,
    PGO_FREE,
    PGO_SYNCIO,
    UVM_FLAG_COPYONW,
    UVM_FLAG_OVERLAY,
    VM_PROT_ALL,
    VM_PROT_NONE,
)
from shared.uvm.proc import curmap_of
from shared.uvm.structs import Anon, Proc, Shm, Vnode, uvmexp
from shared.uvm.vnode import uvn_attach, uvn_detach


@kernel(exit="none")
def sys_mmap(p: Proc, va: int, npages: int, prot: int, flags: int, vp: Vnode | None = None, offset: int = 0) -> int:
    """Map memory at `va`, MAP_PRIVATE or MAP_SHARED: with MAP_ANON anonymous memory, else a file from `offset` on.

    A private mapping gets its amap with the first write, or without a file with the first fault; shared anonymous
    memory at once, so that there is something to share (among parent and children).

    Returns: 0; EINVAL - flags; ENOMEM - the range is not free.
    Source:  uvm_mmap.c.   Differs: a process that may map a file may also write to it.
    """
    sharing = flags & (MAP_SHARED | MAP_PRIVATE)
    if sharing not in (MAP_SHARED, MAP_PRIVATE) or npages <= 0 or (va | offset) % here.port.page_size:
        return EINVAL
    if bool(flags & MAP_ANON) != (vp is None):
        return EINVAL
    shared = sharing == MAP_SHARED
    overlay = UVM_FLAG_OVERLAY if vp is None else 0
    uobj = None if vp is None else uvn_attach(vp)
    error = uvm_map(
        curmap_of(p), va, npages * here.port.page_size, uobj=uobj, offset=offset, prot=prot, maxprot=VM_PROT_ALL,
        inherit=MAP_INHERIT_SHARE if shared else MAP_INHERIT_COPY, advice=MADV_NORMAL,
        flags=overlay if shared else UVM_FLAG_COPYONW,
    )  # fmt: skip
    if error and uobj is not None:
        uvn_detach(uobj)
    return error


@kernel(exit="none")
def sys_shmget(seg: Shm, npages: int) -> int:
    """Make a shared memory segment, of zeros.

    Returns: 0; EEXIST - it is there already.
    Source:  sysv_shm.c of 2000.
    """
    uobj = uao_create(npages * here.port.page_size)
    seg.shm_lock.lock()
    there = seg.shm_object is not None
    if not there:
        seg.shm_object = uobj
    seg.shm_lock.unlock()
    if there:
        uao_detach(uobj)
        return EEXIST
    return 0


@kernel(exit="none")
def sys_shmat(p: Proc, va: int, npages: int, prot: int, seg: Shm, offset: int) -> int:
    """Map a shared memory segment from `offset` on; a child gets it too.

    Returns: 0; EINVAL - there is no such segment, or it is not so large; ENOMEM - the range is not free.
    Source:  sysv_shm.c of 2000.   Differs: part of a segment can be mapped, and a mapping is undone by munmap.
    """
    page_size = here.port.page_size
    seg.shm_lock.lock()
    uobj = seg.shm_object
    if uobj is None or offset // page_size + npages > uobj.pager.u_pages:
        seg.shm_lock.unlock()
        return EINVAL
    uao_reference(uobj)
    seg.shm_lock.unlock()
    error = uvm_map(
        curmap_of(p), va, npages * page_size, uobj=uobj, offset=offset, prot=prot, maxprot=VM_PROT_ALL,
        inherit=MAP_INHERIT_SHARE, advice=MADV_NORMAL, flags=0,
    )  # fmt: skip
    if error:
        uao_detach(uobj)
    return error


@kernel(exit="none")
def sys_shmrm(seg: Shm) -> int:
    """Remove a shared memory segment (IPC_RMID): its memory lives as long as it is mapped.

    Returns: 0; EINVAL - there is no such segment.
    Source:  sysv_shm.c of 2000.
    """
    seg.shm_lock.lock()
    uobj = seg.shm_object
    if uobj is None:
        seg.shm_lock.unlock()
        return EINVAL
    seg.shm_object = None
    seg.shm_lock.unlock()
    uao_detach(uobj)
    return 0


@kernel(exit="none")
def sys_munmap(p: Proc, va: int, npages: int) -> int:
    """Unmap a range.

    Returns: 0; EINVAL - part of it is not mapped.
    Source:  uvm_mmap.c.
    """
    map = curmap_of(p)
    end = va + npages * here.port.page_size
    if erratum("uvm_unmap.ignores-device-io"):
        vm_map_lock(map)
    else:
        vm_map_lock_still(map, va, end)
    if not uvm_map_checkprot(map, va, end, VM_PROT_NONE):
        vm_map_unlock(map)
        return EINVAL
    dead = uvm_unmap_remove(map, va, end)
    vm_map_unlock(map)
    uvm_unmap_detach(dead)
    return 0


@kernel(exit="none")
def sys_minherit(p: Proc, va: int, npages: int, inherit: int) -> int:
    """Say what children get of a range: MAP_INHERIT_NONE, MAP_INHERIT_COPY or MAP_INHERIT_SHARE.

    Returns: 0 or EINVAL.
    Source:  uvm_mmap.c.
    """
    return uvm_map_inherit(curmap_of(p), va, va + npages * here.port.page_size, inherit)


@kernel(exit="none")
def sys_mprotect(p: Proc, va: int, npages: int, prot: int) -> int:
    """Change the protection of a range.

    Returns: 0; EACCES - the mapping does not allow it.
    Source:  uvm_mmap.c.
    """
    return uvm_map_protect(curmap_of(p), va, va + npages * here.port.page_size, prot & VM_PROT_ALL)


@kernel(exit="none")
def sys_madvise(p: Proc, va: int, npages: int, advice: int) -> int:
    """Say how a range will be used.

    NORMAL, RANDOM, SEQUENTIAL: of what follows a fault. WILLNEED: does nothing.
    DONTNEED: its pages are deactivated; the data stays. FREE: the data is not
    needed any more; what is read there later is zero, or the data after all.

    Returns: 0; EINVAL - advice; ENOMEM - part of the range is not mapped (DONTNEED and FREE look).
    Source:  uvm_mmap.c.
    """
    map, end = curmap_of(p), va + npages * here.port.page_size
    if npages <= 0 or advice == MADV_SPACEAVAIL:
        return EINVAL
    if advice == MADV_WILLNEED:
        return 0
    if advice in (MADV_DONTNEED, MADV_FREE):
        error = uvm_map_clean(map, va, end, PGO_DEACTIVATE if advice == MADV_DONTNEED else PGO_FREE)
        return ENOMEM if error == EFAULT else error
    return uvm_map_advice(map, va, end, advice)


@kernel(exit="none")
def sys_msync(p: Proc, va: int, npages: int, flags: int) -> int:
    """Write what was changed in a range to the files that are mapped there.

    MS_ASYNC or MS_SYNC: it has been written when this returns; UVM made no difference. MS_INVALIDATE: the pages are
    thrown out besides, so that what is read later comes from the file.

    Returns: 0; EINVAL - flags; ENOMEM - part of the range is not mapped; EBUSY - MS_INVALIDATE of locked memory;
             EIO - something could not be written.
    Source:  uvm_mmap.c.
    """
    unknown = flags & ~(MS_ASYNC | MS_SYNC | MS_INVALIDATE)
    if unknown or not flags or flags & (MS_ASYNC | MS_SYNC) == MS_ASYNC | MS_SYNC or npages <= 0:
        return EINVAL
    how = PGO_CLEANIT | PGO_SYNCIO | (PGO_FREE if flags & MS_INVALIDATE else 0)
    error = uvm_map_clean(curmap_of(p), va, va + npages * here.port.page_size, how)
    return ENOMEM if error == EFAULT else error


@kernel(exit="none")
def sys_mincore(p: Proc, va: int, npages: int) -> tuple[int, int]:
    """Say which pages of a range are in memory, as of some moment during the call.

    Returns: (0, bit i set if page i is resident); (EINVAL or ENOMEM, 0): no pages, or some of them are not mapped.
    Source:  uvm_mmap.c.   Differs: the answer is a number, not a vector; takes each anon's lock to look at its page.
    """
    page_size = here.port.page_size
    map, end = curmap_of(p), va + npages * page_size
    if npages <= 0 or va % page_size:
        return EINVAL, 0
    vm_map_lock_read(map)
    if not uvm_map_checkprot(map, va, end, VM_PROT_NONE):
        vm_map_unlock_read(map)
        return ENOMEM, 0
    resident = number = 0
    _, entry = uvm_map_lookup_entry(map, va)
    while True:
        stop = min(end, entry.end)
        aref, uobj, start = aref_of(entry), entry.object, entry.start
        anons: list[Anon | None] = [None] * ((stop - va) // page_size)
        if aref is not None:
            amap_lock(aref.amap)
            anons = amap_lookups(aref, va - start, len(anons))
        if uobj is not None:
            uobj.vmobjlock.lock()
        for at, anon in zip(range(va, stop, page_size), anons, strict=True):
            if anon is not None:
                anon.an_lock.lock()
                resident |= (anon.an_page is not None) << number
                anon.an_lock.unlock()
            elif uobj is not None:
                resident |= (uvm_pagelookup(uobj, entry.offset + at - start) is not None) << number
            number += 1
        if uobj is not None:
            uobj.vmobjlock.unlock()
        if aref is not None:
            amap_unlock(aref.amap)
        va = stop
        if va >= end:
            break
        entry = entry.next
    vm_map_unlock_read(map)
    return 0, resident


@kernel(exit="none")
def sys_mlock(p: Proc, va: int, npages: int) -> int:
    """Wire a range: its pages are made resident and stay so.

    Returns: 0; EAGAIN - too much memory would be wired; ENOMEM - not all of it is mapped, or can be made resident.
    Source:  uvm_mmap.c.
    """
    if npages + uvmexp.wired > uvmexp.wiredmax:
        return EAGAIN
    error = uvm_map_pageable(curmap_of(p), va, va + npages * here.port.page_size, False)
    return 0 if error == 0 else ENOMEM


@kernel(exit="none")
def sys_munlock(p: Proc, va: int, npages: int) -> int:
    """Undo all mlocks of a range.

    Returns: 0; ENOMEM - part of it is not mapped or not wired.
    Source:  uvm_mmap.c.
    """
    error = uvm_map_pageable(curmap_of(p), va, va + npages * here.port.page_size, True)
    return 0 if error == 0 else ENOMEM
