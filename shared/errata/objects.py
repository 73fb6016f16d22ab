"""Errata of objects, of their pagers, and of the swap that stands behind pages."""

from __future__ import annotations

from shared.errata.erratum import Erratum, Status, story

CATALOGUE = (
    Erratum(
        id="uvn_io.always-synchronous",
        name="S1e",
        sentence="A pageout to a file is done while the pagedaemon waits, and answered as if it had been started.",
        status=Status.HYPOTHETICAL,
        source=(
            "NetBSD CVS log, uvm_pager.h 1.21, 2001-03-10",
            "NetBSD uvm_vnode.c of early 2000: all I/O of uvn_io() is synchronous, whatever it was asked for",
        ),
        story=story("""
            The pager of files did all its I/O synchronously: when uvn_put() returned, the pages were on the disk, and
            it answered VM_PAGER_OK, which was 0 and meant "done, clean up". Since March 2001 a pager answers an
            errno, and 0 to an asynchronous request means that the I/O was started, and that its completion is going to
            clean up; no request may be turned into a synchronous one any more. A pager that still does so answers 0
            as before; and there is no completion. The file's pages stay BUSY and the next program that touches
            one sleeps for ever in "uvn_get". That a pager was left so is our assumption: the log tells of the rule.
        """),
        findings=("deadlock",),
        scenarios=("S1e",),
    ),
    Erratum(
        id="uvm_fault.wired-anon-stays-clean",
        name="S9a",
        sentence="Wiring an anon's page frees its swap slot and leaves the page marked clean.",
        status=Status.LOGGED,
        source=("NetBSD CVS log, uvm_fault.c, May 1999 (PR 7578)",),
        story=story("""
            A page that has been read in from swap is clean: its swap slot holds the same. When the page is wired, by
            mlock() or for a raw transfer, it cannot be paged out, so uvm_fault() frees the slot for others to use;
            and it left the page marked clean. When the page is unwired, and memory is short, the pagedaemon finds a
            clean page, which can be freed without being written, since its contents are in swap; but they are not. A
            kernel with DIAGNOSTIC panics here. One without frees the page, and the program's data is gone: what it
            gets instead is slot 0, "no slot", which cannot be read. The repair clears the mark before it frees the
            slot. One process on one CPU is enough. What happens at slot 0 is our reading of the code.
        """),
        findings=("panic", "oracle"),
        scenarios=("S9", "S9-shipped"),
    ),
    Erratum(
        id="uvm_fault.wired-aobj-stays-clean",
        name="S9b",
        sentence="Wiring a page of shared memory frees its swap slot and leaves the page marked clean.",
        status=Status.LOGGED,
        source=("NetBSD CVS log, uvm_fault.c, May 1999 (PR 7578)",),
        story=story("""
            The same as for an anon, for an aobj, of which System V shared memory is made: its swap slots are in the
            object. Here not even a DIAGNOSTIC kernel notices when the pagedaemon frees the page. A page of an aobj
            that is neither in RAM nor in swap has never been written, so the next who asks for it gets a page of
            zeros. Two processes that share memory, of which one has locked it for a while, find it empty. And the page
            is counted as one whose data is nowhere but in swap: uvmexp.swpgonly stays one too high. The repair
            clears the mark before it frees the slot.
        """),
        findings=("oracle",),
        scenarios=("S9-aobj",),
    ),
    Erratum(
        id="uvm_map_clean.free-without-clean",
        name="E49",
        sentence="madvise(MADV_FREE) of a mapped file throws away pages that have not been written to the file yet.",
        status=Status.IN_SOURCE,
        source=(
            "NetBSD uvm_map.c: uvm_map_clean() hands PGO_FREE alone to pgo_flush in 1.69 (February 2000); later it "
            "says that object pages must always be cleaned before they are freed",
        ),
        story=story("""
            MADV_FREE says that a program does not need the contents of a range any more. For anonymous memory that is
            simple. uvm_map_clean() passed it on to the pager of a mapped file as well, as "free these pages",
            without "clean them first". Pages that had been written to by way of the mapping, and not been written to
            the disk yet, were thrown away. Whoever reads the file next gets what the blocks held before: if they
            had been another file's, somebody's deleted data. The repair always cleans a file's pages before it frees
            them. That the old contents are a matter of security is what the later comment says; there is no report.
        """),
        findings=("oracle",),
        scenarios=("E49",),
    ),
)
