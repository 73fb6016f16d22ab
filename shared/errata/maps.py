"""Errata of maps and their locks, and of what nodes have in common."""

from __future__ import annotations

from shared.errata.erratum import Erratum, story

CATALOGUE = (
    Erratum(
        id="uvm_fault_unwire.map-unlocked",
        name="S7",
        sentence="uvm_fault_unwire() walks the map without its lock.",
        source=("NetBSD CVS log, uvm_fault.c, June 1999: uvm_fault_unwire_locked()",),
        story=story("""
            When a raw transfer is over, uvm_vsunlock() unwires the buffer with uvm_fault_unwire(), which looked at the
            map without locking it. While it is at a map entry, another thread of the process unmaps what lies next to
            the buffer in that same entry: the entry is clipped and, being the part that goes, freed. uvm_fault_unwire()
            reads on in it. The change made uvm_fault_unwire_locked() out of the body, for callers that have the map
            locked, and a wrapper that read-locks it. That the entry lookup, which the repair of S6 needs, is why the
            lock was needed is our inference, as is the interleaving.
        """),
        findings=("lock-assert", "use-after-free", "panic"),
        scenarios=("S7", "S7-shipped"),
    ),
    Erratum(
        id="uvm_swap_init.device-with-old-codes",
        name="S4",
        sentence="A swap device built with an old table of result codes works beside a kernel with the new one.",
        source=(
            "NetBSD CVS log, uvm_fault.h 1.14, uvm_pager.h and others, 26 and 27 June 2000: headers cleaned up",
            "NetBSD CVS log, uvm_pager.h 1.21, 2001-03-10: the codes",
        ),
        story=story("""
            In two days of June 2000 the headers of the VM system were put in order: definitions moved from one to
            another, some headers went. Nothing was to change at run time, and nothing did, as long as everything was
            compiled again. What was not would go on with the constants and layouts that it knew. Nine months later the
            pagers' result codes became errnos, and of these 5, which had meant "try again", means EIO. A swap device
            with the old table answers a shortage that will pass with 5; the kernel takes it for a hard error and
            marks good slots bad. A hard error it answers with 4, which is EINTR now. That an object file was left
            over is our assumption; the logs only tell of the changes. The repair is ours too: each node of the
            machine reports a digest of its tables at start, and with a mismatch the machine does not boot.
        """),
        findings=("table-mismatch", "invariant"),
        scenarios=("S4", "S4-shipped"),
    ),
)
