"""Errata of maps and their locks."""

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
)
