"""Errata of what the kernel tells the pmap, and of wiring."""

from __future__ import annotations

from shared.errata.erratum import Erratum, Status, story

CATALOGUE = (
    Erratum(
        id="pmap_get_ptp.waits-for-memory",
        name="S5a",
        sentence="pmap_enter() waits for a page-table page with the map, the amap and the anons locked.",
        status=Status.IN_SOURCE,
        source=("NetBSD CVS log, uvm_fault.c (and vm/pmap.h 1.36, uvm_glue.c 1.30), 1999-11-13",),
        story=story("""
            pmap_enter() had no result, so it could not fail. To enter a translation it may need a page for the page
            table, and when there was none to be had, a pmap module could only panic (S5b) or wait; the fault handler's
            source remarked on it with a question. It is called with the map, the amap, the object and the anons locked.
            The pagedaemon, which is to free the memory, passes over every page whose owner it cannot lock at once:
            all that it could free may be what the sleeper has locked. Nobody ever wakes it with success, and whoever
            wants one of those locks spins for ever. The repair gave pmap_enter() a result and the flag PMAP_CANFAIL;
            the fault handler unlocks everything, waits, and starts over. The log tells of the new interface; which
            pmap slept, and this interleaving, are our reading.
        """),
        findings=("held-across-sleep", "deadlock"),
        scenarios=("S5a", "S5a-object", "S5a-shipped"),
    ),
    Erratum(
        id="pmap_enter.no-canfail",
        name="S5b",
        sentence="pmap_enter() cannot fail, so a shortage of page-table pages is a panic.",
        status=Status.LOGGED,
        source=("NetBSD CVS log, uvm_fault.c (and vm/pmap.h 1.36, uvm_device.c 1.18), 1999-11-13",),
        story=story("""
            Before pmap_enter() could fail, a pmap module that found no page for a page table had no way to say so,
            and the i386's panicked: "pmap_enter: get ptp failed". With the new interface this is what a caller gets
            who does not give PMAP_CANFAIL: it says that it cannot do without the translation. A fault can: it has
            changed nothing that cannot be found again, so it unlocks everything, waits for memory, and starts over. A
            machine with a few pages less than its programs want at one moment must not go down for it.
        """),
        findings=("panic",),
        scenarios=("S5b",),
    ),
    Erratum(
        id="pmap_get_ptp.no-use-reserve",
        name="S10",
        sentence="A page-table page may not be taken from the memory that is kept for the kernel.",
        status=Status.LOGGED,
        source=("NetBSD CVS log, uvm_page.c and uvm_extern.h (uvm_amap.c 1.20 has the same stamp), 1999-04-11",),
        story=story("""
            The last few free pages (reserve_kernel) are not for programs. Whether an allocation is the kernel's was
            told by the object that the page was for: the kernel's own object. But page-table pages belong to an
            object of the pmap's. So a fault took a page for its data, which left the reserve, and then the pmap asked
            for a page to map it by, and was refused, with the reserve untouched. If nothing else can be paged out the
            fault never ends: it waits for memory that is there. Since April 1999 a caller says that it may use the
            reserve (UVM_PGA_USERESERVE), and the pmap modules do.
        """),
        findings=("no-progress",),
        scenarios=("S10",),
    ),
    Erratum(
        id="uvm_fault.no-access-type",
        name="S11a",
        sentence="pmap_enter() is not told of the access, so an MMU without R and M bits traps once more.",
        status=Status.LOGGED,
        source=("NetBSD CVS log, uvm_fault.c and the ports' pmap_enter(), 1999-03-26",),
        story=story("""
            Some MMUs (alpha, pmax, and others) do not note that a page was used or modified. There the pmap module
            makes the first use of a page, and the first write to it, trap, and sets the bit itself. A page that has
            just been faulted in is about to be used: that is why it was faulted in. But pmap_enter() did not know for
            what, so it entered a translation that traps; the access was made again, and trapped again, only to set a
            bit. Every first touch of a page cost two traps. In memory that is locked for the sake of an interrupt it
            may be the interrupt that takes the second one, which it cannot. Since March 1999 pmap_enter() is told of
            the access, and presets the bits; 0 means that it is not known, as for the neighbours of a faulting page.
        """),
        findings=("panic",),
        scenarios=("S11a", "S11a-interrupt"),
    ),
    Erratum(
        id="uvm_fault.protection-for-access-type",
        name="S11b",
        sentence="pmap_enter() is told of the protection, not of the access, so what is only read counts as modified.",
        status=Status.HYPOTHETICAL,
        source=("NetBSD CVS log, uvm_fault.c and the ports' pmap_enter(), 1999-03-26: 0 if the access is unknown",),
        story=story("""
            The log that gave pmap_enter() the access type says that it must be the access that is made, and 0 where
            that is not known. The danger is on either side. If a read is called a write, which it is if the
            protection of the mapping is passed in its place, then the page counts as modified from the start. It is
            the same as its copy in swap, and could be freed for nothing; but the pagedaemon cannot know, and writes
            it out once more. No test fails by it: the machine is only slower, and most when it is short of memory.
            That somebody made this mistake is our assumption; the log only warns of it.
        """),
        findings=(),
        scenarios=("S11b",),
    ),
    Erratum(
        id="uvm_fault_wire.no-access-type",
        name="S11c",
        sentence="A page wired for a device's DMA is not marked as modified, and what the device wrote is lost.",
        status=Status.IN_SOURCE,
        source=("NetBSD CVS log, uvm_fault.c and the ports' pmap_enter(), 1999-03-26: 0 if the access is unknown",),
        story=story("""
            When a device writes to memory by DMA no MMU sees it, whether it keeps an M bit or not. So whoever wires a
            page for such a transfer has to see to it that the page counts as modified: uvm_vslock() faults for
            writing, and the access type makes pmap_enter() preset M. If the wiring fault passes 0, "unknown", nothing
            is preset. An anonymous page does not suffer, since wiring takes its CLEAN away. But a page of a mapped
            file stays CLEAN: it leaves memory without being written, and the file has its old contents. On an MMU
            that traps for R and M it may also be an interrupt that traps. The log gave the flag its meaning; a later
            one warns of memory for DMA and of interrupts. The mechanism is our reading of both.
        """),
        findings=("oracle",),
        scenarios=("S11c",),
    ),
    Erratum(
        id="uvm_fault.promoted-page-unqueued",
        name="E25",
        sentence="A fault that has made a page and cannot map it leaves the page on no queue.",
        status=Status.IN_SOURCE,
        source=(
            "NetBSD uvm_fault.c 1.47 (February 2000) puts it on one only after pmap_enter() has succeeded",
            "NetBSD uvm_fault.c 1.194 (2012): a comment on the case that pmap_enter() fails",
        ),
        story=story("""
            uvm_fault() promotes: it makes a new anon with a new page, filled with zeros or copied, and puts it into
            the amap; then it enters the translation, and at last puts the page on the active queue. If there is no
            memory for the page table, it gives up after the second step, and the page is on no queue. When the thread
            faults again and succeeds, that is made good. But it may have been told that there is neither memory nor
            swap, or have no reason to touch the page again. Then the pagedaemon can never see the page, and its
            memory is lost until the process unmaps it. In a machine that waits for memory this can be just the page
            that was to be freed.
        """),
        findings=("invariant",),
        scenarios=("E25", "E25-cow"),
    ),
    Erratum(
        id="uvm_fault.cow-entered-before-flush",
        name="E31",
        sentence="A copy-on-write fault enters the copy before the old page is out of every CPU's TLB.",
        status=Status.LOGGED,
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
        status=Status.LOGGED,
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
        status=Status.IN_SOURCE,
        source=("NetBSD uvm_fault.c 1.47 (February 2000): uvm_fault_unwire_locked() asks only the map entry",),
        story=story("""
            The mirror image of S6, and our reading of the code, not a report. physio() has wired a buffer for a
            transfer, and that wiring counts in the pages only. While the transfer lasts another thread calls
            munlock() on the buffer, which it had locked before. The map entry is not wired any more, so the pmap is
            told that the translations are not either, although one wiring of each page is still the transfer's. A
            pmap that recycles what is not wired lets them go, and the device's interrupt, which relies on them,
            faults. Here a translation stays wired for as long as a device of this process is at work on it.
        """),
        findings=("panic",),
        scenarios=("E44",),
    ),
    Erratum(
        id="uvm_unmap.ignores-device-io",
        name="E61a",
        sentence="munmap() frees memory that a device is writing to.",
        status=Status.IN_SOURCE,
        source=(
            "NetBSD uvm_map.c 1.69 (2000): uvm_unmap_remove()",
            "NetBSD uvm_page.c 1.30 (2000): uvm_pagefree() of a wired page",
            "NetBSD uvm_glue.c (2000): uvm_vslock()",
        ),
        story=story("""
            For a raw transfer physio() wires the pages of the user's buffer, uvm_vslock(), but does not count that in
            a map entry's wired_count. So nothing tells munmap() by another thread of the same process that the memory
            is in use: it takes the entry out, drops the amap's reference, and uvm_pagefree() frees the page; that it
            is wired makes it only set wire_count to 0. The next fault, of whichever process, gets the page, and the
            device writes into it. When the transfer is over, uvm_vsunlock() looks for the entry, and panics:
            "uvm_fault_unwire_locked: address not in map". NetBSD had hardly any processes with threads at the time,
            and the memory of a process that waits in physio() cannot be unmapped by itself. The source has the lines;
            the interleaving is ours. Here munmap waits until the device is done.
        """),
        findings=("panic",),
        scenarios=("E61a",),
    ),
    Erratum(
        id="uvmspace_fork.ignores-device-io",
        name="E61b",
        sentence="fork() makes memory copy-on-write that a device is writing to; the data goes to the child.",
        status=Status.IN_SOURCE,
        source=(
            "NetBSD uvm_map.c 1.69 (2000): uvmspace_fork()",
            "NetBSD uvm_fault.c 1.47 (2000): case 1B",
            "NetBSD uvm_glue.c (2000): uvm_vslock()",
        ),
        story=story("""
            uvmspace_fork() copies at once what map entries have wired, so that the parent keeps its pages. What
            uvm_vslock() has wired for a raw transfer no map entry counts: it becomes copy-on-write like all the rest.
            A thread of the parent writes to another word of the buffer while the disk still fills it; the fault
            copies the page, and gives the copy to the parent. The device goes on with the old page, which is the
            child's alone now, and the parent never sees what the device wrote after the copy. uvm_vsunlock() then
            unwires the parent's new page, which nobody has wired: its wire_count goes from 0 to 65535, and the old
            page stays wired. The same trap was discussed for Linux as fork() with O_DIRECT. The source has the lines;
            the interleaving is ours, and needs threads, of which NetBSD had hardly any at the time. Here fork waits
            for the device.
        """),
        findings=("kassert", "oracle"),
        scenarios=("E61b", "E61b-shipped"),
    ),
)
