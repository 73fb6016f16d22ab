"""Loads and stores of the user and of the kernel, and the trap that a refused one takes.

Left out: instruction fetches, the kernel's use of a user's address, signal delivery (the
access answers with the signal's name, and is not made).
Source: trap.c of the i386 port, 2001.
"""

from __future__ import annotations

from shared.port.port import here, kernel, panic
from shared.uvm.fault import uvm_fault
from shared.uvm.param import (
    EACCES,
    EFAULT,
    PMAP_KERNEL,
    VM_FAULT_REFERENCE,
    VM_PROT_READ,
    VM_PROT_WRITE,
    errno_name,
)
from shared.uvm.pmap import pmap_emulate_reference
from shared.uvm.proc import curmap_of
from shared.uvm.structs import VmMap, uvm, uvmexp


def user_read(va: int) -> tuple[str, int | None]:
    """Load the 64-bit word at byte address `va` of the current process.

    Returns: ("ok", value), or ("SIGSEGV" or "SIGBUS", None).
    """
    return _access(va, False, 0)


def user_write(va: int, value: int) -> tuple[str, int | None]:
    """Store a 64-bit word. Returns: as user_read()."""
    return _access(va, True, value)


def _access(va: int, write: bool, value: int) -> tuple[str, int | None]:
    port = here.port
    map = curmap_of(port.cur.proc)
    pmap = map.pmap
    while True:
        done, result = port.access(pmap, va, write, value)
        if done:
            return "ok", result
        port.kernel_proc_lock("trap")
        signal = trap(map, va, result, VM_PROT_WRITE if write else VM_PROT_READ)
        port.kernel_proc_unlock()
        if signal is not None:
            return signal, None


def kernel_access(va: int, write: bool, value: int, onfault: bool) -> int | None:
    """Load or store a 64-bit word at byte address `va` of the kernel's own.

    Args:
        onfault: the caller expects that the access may fault, as in copyin() (pcb_onfault).

    Returns: the word; None - there is no such memory. Without `onfault` that is a panic.
    """
    port = here.port
    while True:
        done, result = port.access(PMAP_KERNEL, va, write, value)
        if done:
            return result
        if not trap_kernel(va, result, VM_PROT_WRITE if write else VM_PROT_READ, onfault):
            return None


@kernel(exit="same")
def trap_kernel(va: int, fault_type: int, access_type: int, onfault: bool) -> bool:
    """Serve a page fault of the kernel; it may be in an interrupt, which then must not wait.

    Returns: True - try again; False - not mapped, and the kernel is prepared for that.
    Source:  trap.c.
    """
    uvmexp.traps += 1
    if fault_type == VM_FAULT_REFERENCE:
        pmap_emulate_reference(PMAP_KERNEL, va, access_type == VM_PROT_WRITE)
        return True
    map = uvm.kernel_map
    assert map is not None
    error = uvm_fault(map, va - va % here.port.page_size, fault_type, access_type)
    if error != 0 and not onfault:
        panic(f"trap: uvm_fault(kernel_map, {va:#x}, {fault_type}, {access_type}) -> {errno_name(error)}", map)
    return error == 0


@kernel(exit="none")
def trap(map: VmMap, va: int, fault_type: int, access_type: int) -> str | None:
    """Serve a page fault of the user; or set R or M, which an MMU without them leaves to the kernel.

    Returns: None - try again; "SIGSEGV" - not mapped, or not so; "SIGBUS" - the memory cannot be provided.
    Source:  trap.c, that of the alpha port for R and M.   Differs: NetBSD ends a process that is out of swap with
             SIGKILL.
    """
    uvmexp.traps += 1
    if fault_type == VM_FAULT_REFERENCE:
        pmap_emulate_reference(map.pmap, va, access_type == VM_PROT_WRITE)
        return None
    error = uvm_fault(map, va - va % here.port.page_size, fault_type, access_type)
    if error == 0:
        return None
    return "SIGSEGV" if error in (EFAULT, EACCES) else "SIGBUS"
