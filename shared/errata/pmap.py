"""Errata of what the kernel tells the pmap, and of wiring."""

from __future__ import annotations

from shared.errata.erratum import Erratum, Status, story

CATALOGUE = (
    Erratum(
        id="pmap_get_ptp.waits-for-memory",
        name="S5a",
        sentence="pmap_enter() waits for a page-table page with the map, the amap and the anons locked.",
        status=Status.IN_SOURCE,
        source=(
            "NetBSD CVS log, uvm_fault.c (and vm/pmap.h 1.36, uvm_glue.c 1.30), 1999-11-13: pmap_enter() can fail",
            'NetBSD pmap.c of mips, arm32, sparc64 and vax, February 2000: uvm_wait("pmap_enter")',
        ),
        story=story("""
            pmap_enter() had no result, so it could not fail. To enter a mapping it may need a page for the page
            table. If there was none, a pmap could panic (S5b) or wait: those of mips, arm32, sparc64 and vax called
            uvm_wait(), mips with a comment that asks whether this can deadlock. But uvm_fault() calls pmap_enter()
            with the map, the amap, the object and the anons locked. The pagedaemon skips every page whose owner it
            cannot lock at once, and all that it could free may belong to what the sleeper has locked. Then no memory
            is freed, and every CPU that needs one of those locks spins. The repair gave pmap_enter() a result and the
            flag PMAP_CANFAIL: uvm_fault() unlocks everything, waits, and starts over. The wait stayed in those four
            pmaps even after the repair. The interleaving is our inference.
        """),
    ),
    Erratum(
        id="pmap_enter.no-canfail",
        name="S5b",
        sentence="pmap_enter() cannot fail, so a shortage of page-table pages is a panic.",
        status=Status.LOGGED,
        source=(
            "NetBSD CVS log, uvm_fault.c (and vm/pmap.h 1.36, uvm_device.c 1.18), 1999-11-13: pmap_enter() can fail",
            'NetBSD i386 pmap.c 1.83 (February 2000): "pmap_steal_ptp: failed to steal a PTP!"',
        ),
        story=story("""
            Before pmap_enter() could fail, a pmap that found no page for a page table had no way to say so. The
            i386's tried to steal a page table from another process, and panicked if there was none to steal. With the
            new interface a caller that does not pass PMAP_CANFAIL still gets a panic: it says that it cannot do
            without the mapping. uvm_fault() can: it unlocks everything, waits for memory, and starts over. A machine
            that is a few pages short for a moment must not go down for it. This model's pmap steals nothing: it
            panics at once.
        """),
    ),
    Erratum(
        id="pmap_get_ptp.no-use-reserve",
        name="S10",
        sentence="pmap_get_ptp() may not use the pages that are reserved for the kernel.",
        status=Status.LOGGED,
        source=("NetBSD CVS log, uvm_page.c and uvm_extern.h (uvm_amap.c 1.20 has the same stamp), 1999-04-11",),
        story=story("""
            The last free pages, reserve_kernel, are not for programs. uvm_pagealloc_strat() knew an allocation of the
            kernel's by the object that the page was for, kernel_object. But page-table pages belong to an object of
            the pmap's. So a fault took a page for its data, which left the reserve, and then pmap_get_ptp() asked for
            a page to map it with, and was refused, with the reserve unused. If nothing else can be paged out, the
            fault never ends. Since April 1999 a caller passes UVM_PGA_USERESERVE to use the reserve, and the pmaps
            do.
        """),
    ),
    Erratum(
        id="uvm_fault.no-access-type",
        name="S11a",
        sentence="uvm_fault() passes no access type to pmap_enter(), so an MMU without R and M bits traps twice.",
        status=Status.LOGGED,
        source=("NetBSD CVS log, uvm_fault.c and the ports' pmap_enter(), 1999-03-26",),
        story=story("""
            Some MMUs, as the alpha's, have no bits for "referenced" and "modified". There the pmap makes the first
            use of a page, and the first write to it, trap, and sets the bits itself. A page that uvm_fault() has just
            mapped is about to be used. But pmap_enter() did not know how, so it entered a mapping that traps; the
            access was repeated, and trapped again, only to set a bit. Every first touch of a page cost two traps. In
            memory that is locked for an interrupt's sake the second trap is the interrupt's. Since March 1999
            pmap_enter() is told of the access, and sets the bits at once. 0 means "unknown", as for the neighbours of
            a faulting page.
        """),
    ),
    Erratum(
        id="uvm_fault.protection-for-access-type",
        name="S11b",
        sentence="uvm_fault() passes pmap_enter() the protection as the access, so what is read counts as modified.",
        status=Status.HYPOTHETICAL,
        source=("NetBSD CVS log, uvm_fault.c and the ports' pmap_enter(), 1999-03-26: 0 if the access is unknown",),
        story=story("""
            A hypothetical defect. The log that gave pmap_enter() the access type wants the access that is made, and 0
            where it is not known. Here uvm_fault() passes the protection of the mapping. So a page that is only read
            counts as modified from the start. It holds the same data as its swap slot, and could be freed at once;
            but the pagedaemon cannot know this, and writes it out once more. No test fails by it: the machine is
            slower, and most so when memory is short. No kernel is known that passed the protection.
        """),
    ),
    Erratum(
        id="uvm_fault_wire.no-access-type",
        name="S11c",
        sentence="A page wired for a device's DMA is not marked modified, and what the device wrote is lost.",
        status=Status.IN_SOURCE,
        source=(
            "NetBSD i386 pmap.c 1.83 (February 2000): pmap_enter() uses of its flags only PMAP_WIRED",
            "NetBSD CVS log, uvm_fault.c and the ports' pmap_enter(), 1999-03-26: the access type",
        ),
        story=story("""
            When a device writes to memory by DMA, no MMU sees it. So the code that wires a page for such a transfer
            has to make the page count as modified. uvm_vslock() faults for writing, and with the access type
            pmap_enter() can set M at once. If it does not, an anonymous page does not suffer, since wiring takes its
            clean mark away. A page of a mapped file stays clean: it leaves memory without being written, and the file
            keeps its old contents. The erratum has uvm_fault_wire() pass no access type. The i386 came to the same:
            its pmap_enter() used only PMAP_WIRED of its flags, even after March 1999. A later log warns of memory for
            DMA; what was lost on an i386 is our inference.
        """),
    ),
    Erratum(
        id="uvm_fault.promoted-page-unqueued",
        name="E25",
        sentence="uvm_fault() leaves a new page on no queue if pmap_enter() fails.",
        status=Status.IN_SOURCE,
        source=(
            "NetBSD uvm_fault.c 1.47 (February 2000): the page is put on a queue only after pmap_enter() has succeeded",
            "NetBSD uvm_fault.c 1.194 (2012): a comment on the case that pmap_enter() fails",
        ),
        story=story("""
            uvm_fault() makes a new anon with a new page, of zeros or of a copy, and puts it into the amap. Then it
            calls pmap_enter(), and puts the page on the active queue at last. If pmap_enter() finds no memory for a
            page table, uvm_fault() gives up in between, and the page is on no queue. The thread's next fault on the
            page repairs this. But the thread may be told that memory and swap are full, or not touch the page again.
            Then the pagedaemon never finds the page, and its memory is lost until the process unmaps it. The breaking
            of a loan in case 1 had the same order, and that in case 2 too.
        """),
    ),
    Erratum(
        id="uvm_fault.cow-entered-before-flush",
        name="E31",
        sentence="uvm_fault() enters a writable copy before every CPU has flushed the old page from its TLB.",
        status=Status.LOGGED,
        source=(
            "NetBSD CVS log, uvm_fault.c 1.234, 2023-08-13 (PR kern/56535): TLB invalidation races in copy on write",
            "OpenBSD uvm_fault.c, 2022-02-01; FreeBSD review D14347 (2018); Go issue 34988 (2019)",
        ),
        story=story("""
            A thread writes to a page that is shared copy on write. uvm_fault() makes a copy, and one pmap_enter()
            puts it in the place of the original, writable. pmap_enter() replaces the page table entry and then tells
            the other CPUs to flush their TLBs. In between two pages are visible at one address. A second thread,
            whose CPU has nothing cached, stores in the copy. A third thread's CPU still has the original cached, and
            misses a store that is complete, perhaps made under a lock that both threads take. The repair removes the
            old mapping, on every CPU, before it enters the new one; a thread that comes too early takes a fault.
            NetBSD made this repair in 2023, and found it described for OpenBSD, FreeBSD and Go as well.
        """),
    ),
    Erratum(
        id="uvm_fault_unwire.unconditional-pmap-unwire",
        name="S6",
        sentence="uvm_vsunlock() clears the wired bit of mappings that mlock(2) still needs wired.",
        status=Status.LOGGED,
        source=(
            "NetBSD CVS log, uvm_fault.c, June 1999 (after a mail to tech-kern of 1999-06-16)",
            "NetBSD i386 pmap.c 1.83 (February 2000): pmap_steal_ptp(), pmap_try_steal_pv()",
        ),
        story=story("""
            A program has locked a buffer with mlock(2), and does raw I/O to it. physio(9) wires the buffer once more,
            with uvm_vslock(), which counts in the pages and in no map entry. After the transfer uvm_vsunlock() takes
            this wiring back, and the one of mlock(2) remains. But it also told the pmap that the mapping was not
            wired any more, without a look at the map entry. A pmap may take such a mapping back: the i386's
            pmap_steal_ptp() steals page tables, and skips wired mappings by their bit, PG_W. The page is still there,
            and locked, but not mapped. An access that must not fault, as an interrupt's, faults; and munlock(2) finds
            no mapping, and panics. The repair leaves the mapping wired while the map entry is.
        """),
    ),
    Erratum(
        id="uvm_fault_unwire.munlock-during-io",
        name="E44",
        sentence="munlock(2) clears the wired bit of mappings that a raw transfer still needs wired.",
        status=Status.IN_SOURCE,
        source=("NetBSD uvm_fault.c 1.47 (February 2000): uvm_fault_unwire_locked() asks only the map entry",),
        story=story("""
            The mirror image of S6. physio(9) has wired a buffer for a transfer, and this wiring counts only in the
            pages. During the transfer another thread calls munlock(2) for the buffer. The map entry is not wired any
            more, so uvm_fault_unwire_locked() tells the pmap that the mappings are not either, although one wiring of
            each page is still the transfer's. A pmap that takes unwired mappings back may take these, and the device's
            interrupt, which relies on them, faults. The lines are in the source; no report of it is known. In the
            repaired kernel a mapping stays wired while a device of its process uses the page.
        """),
    ),
    Erratum(
        id="uvm_unmap.ignores-device-io",
        name="E61a",
        sentence="uvm_unmap_remove() frees memory that a device is writing to.",
        status=Status.IN_SOURCE,
        source=(
            "NetBSD uvm_map.c 1.69 (2000): uvm_unmap_remove()",
            "NetBSD uvm_page.c 1.30 (2000): uvm_pagefree() of a wired page",
            "NetBSD uvm_glue.c (2000): uvm_vslock()",
        ),
        story=story("""
            For a raw transfer uvm_vslock() wires the pages of the user's buffer, and does not count this in a map
            entry's wired_count. Nothing tells munmap(2), called by another thread, that the memory is in use.
            uvm_unmap_remove() takes the entry out, the amap's reference is dropped, and uvm_pagefree() frees the
            page: for a wired page it only sets wire_count to 0. The next fault, of any process, gets the page, and
            the device writes into it. After the transfer uvm_vsunlock() looks for the entry, and panics. NetBSD had
            hardly any processes with threads at the time, and a process that waits for its own transfer cannot unmap.
            The lines are in the source; the interleaving is our inference. In the repaired kernel munmap(2) waits
            until the device is done.
        """),
    ),
    Erratum(
        id="uvmspace_fork.ignores-device-io",
        name="E61b",
        sentence="uvmspace_fork() makes memory copy on write that a device is writing to.",
        status=Status.IN_SOURCE,
        source=(
            "NetBSD uvm_map.c 1.69 (2000): uvmspace_fork()",
            "NetBSD uvm_fault.c 1.47 (2000): case 1B",
            "NetBSD uvm_glue.c (2000): uvm_vslock()",
        ),
        story=story("""
            uvmspace_fork() copies at once what map entries have wired, so that the parent keeps its pages. No map
            entry counts what uvm_vslock() has wired for a raw transfer, so this becomes copy on write like any other
            memory. A thread of the parent writes to another word of the buffer while the disk still fills it.
            uvm_fault() copies the page, and gives the copy to the parent. The device continues with the old page, which
            is the child's now, and the parent never sees what the device writes after the copy. uvm_vsunlock() then
            unwires the parent's new page, which is not wired: its wire_count goes from 0 to 65535, and the old page
            stays wired. The same problem is known from Linux, of fork(2) and O_DIRECT. The lines are in the source;
            the interleaving is our inference, and needs threads. In the repaired kernel fork(2) waits for the device.
        """),
    ),
    Erratum(
        id="pmap_protect.wired-removed",
        name="E40a",
        sentence="pmap_protect() removes the wired mappings of memory that mprotect(2) makes inaccessible.",
        status=Status.IN_SOURCE,
        source=(
            "NetBSD uvm_fault.c 1.47 (2000): uvm_fault_unwire_locked()",
            "NetBSD uvm_map.c 1.69 (2000): uvm_map_protect() calls pmap_protect() for wired entries too",
        ),
        story=story("""
            mlock(2) wires the pages of a map entry and their mappings. uvm_map_protect() does not ask whether an
            entry is wired: for PROT_NONE it calls pmap_protect() without VM_PROT_READ, which on the i386 and the
            alpha removes the mappings. The pages are still wired, and no mapping is left. munlock(2), or munmap(2),
            calls uvm_fault_unwire_locked(), which finds pages by pmap_extract() alone, and panics:
            "uvm_fault_unwire_locked: unwiring non-wired memory". Three system calls of any user who may lock memory
            are enough. The consequence is our inference; FreeBSD had the same mistake. The repaired
            kernel keeps a wired mapping, without access.
        """),
    ),
    Erratum(
        id="uvm_fault_unwire.unmapped-passed-over",
        name="E40b",
        sentence="uvm_fault_unwire_locked() skips pages without a mapping, and leaves them wired.",
        status=Status.IN_SOURCE,
        source=("NetBSD uvm_fault.c 1.194, 2012-02-19: uvm_fault_unwire_locked()",),
        story=story("""
            Later versions of uvm_fault_unwire_locked() do not panic over a page that pmap_extract() does not find:
            they continue with the next page. After mlock(2), mprotect(2) to PROT_NONE and munlock(2) the page's
            wire_count stays as it was. The page is on no queue, until uvm_pagefree() sets the count to 0 at the end
            of the process. Until then the page cannot be paged out, and is not counted as locked. With enough of such
            pages the machine runs out of memory in spite of the limits for locked memory. That the pages stay wired
            is our inference from the lines. The repaired kernel keeps the mappings, without access, so that
            munlock(2) finds the pages.
        """),
    ),
    Erratum(
        id="pmap_protect.no-shootdown",
        name="E65",
        sentence="pmap_protect() changes the page table, but does not flush the old translation from other TLBs.",
        status=Status.HYPOTHETICAL,
        source=(
            "pmap(9) of 2001: pmap_protect() lowers the permissions of mappings",
            "Go issue 15658 (2016 to 2018): programs that fork are corrupted on several CPUs; no pmap is named",
        ),
        story=story("""
            This defect is hypothetical. A CPU keeps translations in its TLB. When pmap_protect() takes away the right
            to write, every CPU that may have cached the old translation must flush it before the caller continues.
            uvmspace_fork() depends on it: it write-protects the parent, so that the next store takes a fault and
            copies the page. If another thread of the parent runs on another CPU meanwhile, and this CPU is not told,
            the thread keeps writing to the page that the child has now. The child sees its parent's later stores.
            Only programs with threads can meet it. The defect sits in the node that plays the MMUs, where pmap
            operations are served, and shows that an erratum can be written there too.
        """),
    ),
)
