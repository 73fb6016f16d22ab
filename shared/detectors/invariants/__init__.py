"""Every invariant of the kernel's state, once: id, sentence, source, check.

An invariant is a pure function of a `Snapshot` of the whole machine. It yields
each violation with the struct concerned. Its stable point is *rest*: no context
is in the kernel, no I/O is in flight, no context waits. During a run most
invariants are broken and restored all the time.

    AMAP   slots and back pointers, references       SWAP   slots against their users, clean pages against slots
    ANON   references, free list                     MAP    entries in order, their amaps large enough
    PAGE   queues, owners, leftovers                 PTE    translations against maps; TLB: against PTEs
    WIRE   wirings recounted                         LOCK   nothing is held
    OBJ    objects' pages, references, contents
    KM     kernel maps, memory of kernel objects
    COUNT  uvmexp recounted                          LEAK   whatever is allocated is in use; PROC: by whom

Sees: inconsistencies of the kernel's structs, page tables, TLBs and swap slots at the end, whatever caused them.

Does not see: an inconsistency that was repaired during the run, or that was freed with its struct (except
NODE_INVARIANTS, which are checked during the run); a run that never came to rest, or that already has a finding; the
bytes of a page, except that a clean page equals its slot or block (the memory oracle checks bytes).

Rules for this file: these functions must work on a wrong state, so they trust
nothing: they follow pointers only to live structs of the right kind, and their
walks end. One mistake should show under one id, that of the nearest cause; other
invariants do not report it again.

Objects here are those of files and of shared memory; PTE covers page-table pages.

Modules: snapshot.py has the state, register.py the register; memory.py,
accounts.py, maps.py and leftovers.py have the invariants.
"""

from __future__ import annotations

from shared.detectors.invariants import accounts, leftovers, maps, memory
from shared.detectors.invariants.register import INVARIANTS, NODE_INVARIANTS, Invariant, check
from shared.detectors.invariants.snapshot import Snapshot

__all__ = ["INVARIANTS", "NODE_INVARIANTS", "Invariant", "Snapshot", "accounts", "check", "leftovers", "maps", "memory"]
