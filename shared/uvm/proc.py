"""Processes, as much of them as the VM system meets: fork, exit, wait.

A Proc is preallocated for every process that a scenario names. Its threads
share one vmspace; a child has one thread, which starts when its parent's fork
wakes the Proc's own address.

Left out: signals (so pause(3) never ends), credentials, the process tree, vfork, exec; a zombie is never
reaped, so any number of threads may wait for it.
Source: kern_fork.c and kern_exit.c of 2001; uvm_glue.c.
"""

from __future__ import annotations

from shared.port.port import here, kernel
from shared.uvm.map_fork import uvmspace_alloc, uvmspace_fork, uvmspace_free
from shared.uvm.param import SRUN, SZOMB
from shared.uvm.structs import Proc, VmMap, Vmspace, uvmexp


def curmap_of(p: Proc) -> VmMap:
    """The map of a process."""
    return vmspace_of(p).vm_map


def vmspace_of(p: Proc) -> Vmspace:
    """The address space of a process that has one."""
    vm = p.p_vmspace
    assert vm is not None, f"{p} has not been made yet"
    return vm


def _start(p: Proc, vm: Vmspace, lwps: int) -> None:
    """Give a process its address space and its threads."""
    p.p_vmspace = vm
    p.p_lock.lock()
    p.p_stat = SRUN
    p.p_lwps = lwps
    p.p_lock.unlock()


@kernel(exit="none")
def proc_setup(p: Proc, vmin: int, vmax: int, lwps: int = 1) -> None:
    """Make a process out of nothing, as only the system's first one is, with an empty address space [vmin, vmax)."""
    _start(p, uvmspace_alloc(vmin, vmax), lwps)


@kernel(exit="none")
def fork1(p1: Proc, p2: Proc) -> int:
    """Make `p2` a child of `p1`, and start its thread.

    Sleeps:  for the parent's map; for memory, if the parent has wired some.
    Returns: 0.
    Source:  kern_fork.c.
    """
    uvmexp.forks += 1
    _start(p2, uvmspace_fork(vmspace_of(p1)), 1)
    here.port.wakeup(p2.address)
    return 0


@kernel(exit="none")
def exit1(p: Proc) -> None:
    """End the calling thread; the last one takes the address space with it and leaves a zombie.

    Source:  kern_exit.c.   Differs: the thread itself frees the address space, not the reaper.
    """
    p.p_lock.lock()
    lwps = p.p_lwps - 1
    p.p_lwps = lwps
    p.p_lock.unlock()
    if lwps != 0:
        return
    uvmspace_free(vmspace_of(p))
    p.p_lock.lock()
    p.p_stat = SZOMB
    p.p_lock.unlock()
    here.port.wakeup(p.addressof("p_stat"))


@kernel(exit="none")
def sys_wait(child: Proc) -> int:
    """Wait until a process has exited.

    Sleeps:  on its p_stat ("wait").
    Returns: 0.
    Source:  kern_exit.c.
    """
    child.p_lock.lock()
    while child.p_stat != SZOMB:
        here.port.sleep(child.addressof("p_stat"), "wait", child.p_lock)
        child.p_lock.lock()
    child.p_lock.unlock()
    return 0


@kernel(exit="none")
def sys_pause(p: Proc) -> None:
    """Wait for a signal, which never comes: the thread keeps what it has to the end of the run.

    Sleeps:  on its process's p_lwps ("pause"), forever.
    Source:  kern_sig.c, sigsuspend().
    """
    here.port.sleep(p.addressof(PAUSE), "pause", None)


#: name of the field of Proc on which sys_pause() sleeps
PAUSE = "p_lwps"
