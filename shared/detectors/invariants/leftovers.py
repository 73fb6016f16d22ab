"""Invariants of locks, and of memory without an owner.

Sees: a lock that is held at the end; an allocated struct, page, anon or slot that nothing refers to.
Does not see: memory that a live process keeps and does not need, or memory that was lost only for a while.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from shared.detectors.invariants.register import invariant
from shared.detectors.invariants.snapshot import AMAP_ARRAYS, Snapshot, Violation
from shared.port.struct import LOCK_SHIFT, Struct, lock_name
from shared.uvm.param import SRUN, SZOMB, UVM_PGOPS_AOBJ
from shared.uvm.structs import (
    Amap,
    AmapArray,
    Aobj,
    AobjSlots,
    Buf,
    Loan,
    LoanArray,
    PageArray,
    PhysBuf,
    Pmap,
    Proc,
    VmMap,
    VmMapEntry,
    Vmspace,
    Vnode,
    uvm,
)

# -- locks, and memory without an owner ------------------------------------------------------


@invariant("LOCK-1", "no lock is held at rest", source="LOCKDEBUG")
def no_lock_is_held(s: Snapshot) -> Iterator[Violation]:
    for key, holders, waiters in s.locks:
        if holders and key >> LOCK_SHIFT in s.free_anons:
            continue  # ANON-4
        subject = lock_name(key).split(".", maxsplit=1)[0]
        for ctx, _, since in holders[:1]:
            yield f"{lock_name(key)} is held by {ctx} since {since}", subject
        if waiters and not holders:
            yield f"{lock_name(key)} is free, and {waiters[0][0]} waits for it", subject


@invariant("PROC-1", "a process that runs has an address space, one that has exited has none", source="kern_exit.c")
def running_processes_have_address_spaces(s: Snapshot) -> Iterator[Violation]:
    for proc in s.all(Proc):
        stat, vmspace = s.num(proc, "p_stat"), s.follow(proc, "p_vmspace", Vmspace)
        if stat == SRUN and (vmspace is None or s.follow(vmspace, "vm_map", VmMap) is None):
            yield f"{proc} runs, its vmspace {s.get(proc, 'p_vmspace')} has been freed", proc
        elif stat == SZOMB and vmspace is not None:
            yield f"{proc} has exited, and {vmspace} is still there", proc


@invariant("LEAK-1", "every struct that is allocated is in use", source="uvm_map.c, uvm_amap.c, uvm_pager.c")
def allocated_structs_are_in_use(s: Snapshot) -> Iterator[Violation]:
    spaces = {s.get(proc, "p_vmspace") for proc in s.all(Proc)}
    maps = {s.get(vmspace, "vm_map") for vmspace in s.all(Vmspace)}
    entries = {entry for ring in s.entries.values() for entry in ring.items}
    entries |= {s.get(map, "header") for map in s.entries} | set(s.kentries.items)
    maps |= {s.get(uvm, "kernel_map"), *s.submaps} if uvm.id in s.heap else set()
    broken = any(ring.faults for ring in (*s.entries.values(), s.kentries))
    arrays = {s.get(amap, name) for amap in s.all(Amap) for name in AMAP_ARRAYS}
    yield from _leaked(s.all(Vmspace), spaces, "no process has it")
    yield from _leaked(s.entries, maps, "no vmspace has it")
    if not broken:
        yield from _leaked(s.all(VmMapEntry), entries, "it is in no map")
    for amap in s.all(Amap):
        if not s.amap_entries[amap.id]:
            yield f"{amap} is leaked: no map entry refers to it (am_ref {s.num(amap, 'am_ref')})", amap
    yield from _leaked(s.all(AmapArray), arrays, "no amap has it")
    pagers = {s.get(struct, "u_obj") for kind in (Vnode, Aobj) for struct in s.all(kind)}
    for uobj in s.objects:
        aobj = s.num(uobj, "pgops") == UVM_PGOPS_AOBJ
        if (aobj and not s.object_refs[uobj.id]) or uobj not in pagers:
            yield f"{uobj} is leaked: nothing refers to it (uo_refs {s.num(uobj, 'uo_refs')})", uobj
    yield from _leaked(s.all(AobjSlots), {s.get(aobj, "u_swslots") for aobj in s.all(Aobj)}, "no aobj has it")
    yield from _leaked(s.all(LoanArray), {s.get(loan, "l_result") for loan in s.all(Loan)}, "no loan has it")
    done = s.aio_done.items
    yield from _leaked(s.all(Buf), done, "nothing is in flight, and it is not on aio_done")
    yield from _leaked(s.all(PhysBuf), (), "nothing is in flight")
    yield from _leaked(s.all(PageArray), {s.get(bp, "pages") for bp in done}, "nothing is in flight")


def _leaked(structs: Iterable[Struct], in_use: Collection[object], why: str) -> Iterator[Violation]:
    for struct in structs:
        if struct not in in_use:
            yield f"{struct} is leaked: {why}", struct


@invariant("LEAK-2", "every pmap is that of a map, and every map has one", source="pmap(9)")
def pmaps_belong_to_maps(s: Snapshot) -> Iterator[Violation]:
    of = {s.num(map, "pmap"): map for map in s.entries}
    for pmap in sorted(s.pmaps):
        if pmap not in of:
            yield f"pmap {pmap} is leaked: no map has it", f"pmap:{pmap}"
    for pmap, map in of.items():
        if pmap not in s.pmaps:
            yield f"{map} has pmap {pmap}, which is gone", map
    yield from _leaked(s.all(Pmap), set(s.pm_objs.values()), "no pmap has it")
