"""The user's loads and stores, and the trap that a refused one takes.

Left out: instruction fetches, faults of the kernel itself, signal delivery (the
access answers with the signal's name, and is not made).
Source: trap.c of the i386 port, 2001.
"""

from __future__ import annotations

from shared.port import here, kernel
from shared.uvm.fault import uvm_fault
from shared.uvm.param import EACCES, EFAULT, VM_FAULT_REFERENCE, VM_PROT_READ, VM_PROT_WRITE
from shared.uvm.pmap import pmap_emulate_reference
from shared.uvm.proc import curmap_of
from shared.uvm.structs import VmMap, uvmexp


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
        signal = trap(map, va, result, VM_PROT_WRITE if write else VM_PROT_READ)
        if signal is not None:
            return signal, None


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
