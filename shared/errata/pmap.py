"""Errata of what the kernel tells the pmap, and of wiring."""

from __future__ import annotations

from shared.errata.erratum import Erratum, story

CATALOGUE = (
    Erratum(
        id="uvm_fault.cow-entered-before-flush",
        name="E31",
        sentence="A copy-on-write fault enters the copy before the old page is out of every CPU's TLB.",
        source=(
            "OpenBSD uvm_fault.c, 2022-02-01: the old mapping is removed before the copy is entered; FreeBSD review "
            "D14347 (2018) tells the same of its own fault handler, Go issue 34988 (2019) a symptom",
        ),
        story=story("""
            A thread writes to a page that is shared copy on write. uvm_fault() makes a copy and enters it in place of
            the original, writable, with one pmap_enter(). That replaces the translation and then tells the other CPUs
            to flush theirs; in between two pages are visible at one address. A second thread, whose CPU has nothing
            cached, already gets the copy and writes to it. A third one still reads the original, by its TLB, and
            misses a store that its fellow has completed, maybe under a lock that both of them keep to. The repair
            removes the old translation, everywhere, before it enters the new one; a thread that comes too early takes
            a fault.
        """),
        findings=("invariant", "oracle"),
        scenarios=("E31", "E31-shipped"),
    ),
    Erratum(
        id="uvm_fault_unwire.unconditional-pmap-unwire",
        name="S6",
        sentence="The end of a raw device transfer takes the wiring of the buffer's translations away from mlock().",
        source=("NetBSD CVS log, uvm_fault.c, June 1999 (reported by mail on 16 June)",),
        story=story("""
            A program has locked a buffer with mlock() and does raw I/O to it. physio() wires the buffer once more for
            the time of the transfer, with uvm_vslock(), which counts in the pages but in no map entry. At the end
            uvm_vsunlock() undoes that: it drops one wiring of each page, of which mlock()'s remains; but it also told
            the pmap that the translation was no longer wired, without asking whether the map entry was. A pmap may
            recycle what is not wired. The page is still there, and locked, but not mapped: a touch that must not
            fault, as from an interrupt, does; and munlock() looks for the page in the pmap, finds nothing, and
            panics. The repair asks the entry, and leaves its translations alone while it is wired.
        """),
        findings=("panic",),
        scenarios=("S6", "S6-interrupt"),
    ),
    Erratum(
        id="uvm_fault_unwire.munlock-during-io",
        name="E44",
        sentence="munlock() takes the wiring of a buffer's translations away from a raw device transfer.",
        source=("NetBSD uvm_fault.c 1.47 (February 2000): uvm_fault_unwire_locked() asks only the map entry",),
        story=story("""
            The mirror image of S6, and our reading of the code, not a report. physio() has wired a buffer for a
            transfer, and that wiring counts in the pages only. While the transfer lasts another thread calls
            munlock() on the buffer, which it had locked before. The map entry is not wired any more, so the pmap is
            told that the translations are not either, although one wiring of each page is still the transfer's. A
            pmap that recycles what is not wired lets them go, and the device's interrupt, which relies on them,
            faults. Here a translation stays wired for as long as its page does.
        """),
        findings=("panic",),
        scenarios=("E44",),
    ),
)
