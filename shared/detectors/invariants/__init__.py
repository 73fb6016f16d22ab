"""Every invariant of the kernel's state, once: id, sentence, source, check.

An invariant is a pure function of a `Snapshot` of the whole machine and yields
what is wrong, with the struct that it is about. Its stable point is *rest*: no
context is in the kernel, no I/O is in flight, nobody waits. Before that most of
them are broken and restored all the time.

    AMAP   slots and back pointers, references       SWAP   slots against their users, clean pages against slots
    ANON   references, free list                     MAP    entries in order, their amaps large enough
    PAGE   queues, owners, leftovers                 PTE    translations against maps; TLB: against PTEs
    WIRE   wirings recounted                         LOCK   nothing is held
    OBJ    objects' pages, references, contents
    KM     kernel maps, memory of kernel objects
    COUNT  uvmexp recounted                          LEAK   whatever is allocated is in use; PROC: by whom

Sees: what is wrong with the kernel's structs, page tables, TLBs and swap slots, whoever did it and when.

Does not see: what was wrong on the way and is so no more, or went with its struct (but for NODE_INVARIANTS, which are
checked as it happens); a run that never came to rest, or has a finding already; which bytes a page holds, but that a
clean page is as its slot or block (the memory oracle does).

Rules for this file: a wrong state is what these functions are for, so they
trust nothing: pointers are followed only to live structs of the right kind, and
walks end. One mistake should show under one id, that of the nearest cause: what
one invariant already says, another leaves alone.

Objects here are those of files and of shared memory; page-table pages are PTE's.

Modules: snapshot.py what they look at, register.py what they are; memory.py,
accounts.py, maps.py and leftovers.py the invariants.
"""

from __future__ import annotations

from shared.detectors.invariants import accounts, leftovers, maps, memory
from shared.detectors.invariants.register import INVARIANTS, NODE_INVARIANTS, Invariant, check
from shared.detectors.invariants.snapshot import Snapshot

__all__ = ["INVARIANTS", "NODE_INVARIANTS", "Invariant", "Snapshot", "accounts", "check", "leftovers", "maps", "memory"]
