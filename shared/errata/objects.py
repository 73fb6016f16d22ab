"""Errata of objects, of their pagers, and of the swap that stands behind pages."""

from __future__ import annotations

from shared.errata.erratum import Erratum, Status, story

CATALOGUE = (
    Erratum(
        id="uvn_io.always-synchronous",
        name="S1e",
        sentence="uvn_io() performs a pageout synchronously, but returns as if it had only been started.",
        status=Status.HYPOTHETICAL,
        source=(
            "NetBSD CVS log, uvm_pager.h 1.21, 2001-03-10: the contract",
            "NetBSD uvm_vnode.c of early 2000: uvn_io() does all I/O at once; the UBC replaced it, 2000-11-27",
        ),
        story=story("""
            A hypothetical defect. Until March 2001 a pager answered an asynchronous request with VM_PAGER_OK, which
            is 0, if the I/O was done and the caller was to clean up. Since then 0 means that the I/O was started, and
            that its completion will clean up; a pager may not do the request at once any more. In early 2000 uvn_io()
            did all I/O of files at once, whatever uvn_put() asked for. Left as it was, it would answer 0, and no
            completion would follow: the file's pages stay BUSY, and the next program that touches one sleeps in
            "uvn_get". But the unified buffer cache had replaced uvn_io() in November 2000, before the contract
            changed.
        """),
    ),
    Erratum(
        id="uvm_fault.wired-anon-stays-clean",
        name="S9a",
        sentence="uvm_fault() wires an anon's page, frees its swap slot, and leaves the page marked clean.",
        status=Status.LOGGED,
        source=("NetBSD CVS log, uvm_fault.c, May 1999 (PR 7578)",),
        story=story("""
            A page that has been read from swap is clean: its swap slot holds the same data. When uvm_fault() wires
            such a page, for mlock(2) or a raw transfer, it frees the slot, since a wired page cannot be paged out. It
            left the page marked clean. Later the page is unwired, and memory gets short. uvmpd_scan_inactive() finds
            a clean page, which may be freed without being written. A kernel with DIAGNOSTIC panics. One without frees
            the page: the next read goes to slot 0, which means "no slot", and the data is gone. The repair clears the
            mark before it frees the slot. One process on one CPU is enough. What happens at slot 0 is our reading of
            the code.
        """),
    ),
    Erratum(
        id="uvm_fault.wired-aobj-stays-clean",
        name="S9b",
        sentence="uvm_fault() wires a page of shared memory, frees its swap slot, and leaves the page marked clean.",
        status=Status.LOGGED,
        source=("NetBSD CVS log, uvm_fault.c, May 1999 (PR 7578)",),
        story=story("""
            The same as S9a for an aobj, the object behind shared memory, which keeps its swap slots itself. No check
            notices when uvmpd_scan_inactive() frees the page. A page of an aobj that is neither in memory nor in swap
            has never been written, so uao_get() makes a page of zeros for the next reader. Two processes share
            memory, one of them locks it for a while, and both find it empty. The freed page is also counted as one
            whose data is only in swap: uvmexp.swpgonly stays one too high. The repair clears the mark before it frees
            the slot.
        """),
    ),
    Erratum(
        id="uvm_map_clean.free-without-clean",
        name="E49",
        sentence="madvise(MADV_FREE) of a mapped file throws away pages that have not been written to the file.",
        status=Status.IN_SOURCE,
        source=(
            "NetBSD uvm_map.c: uvm_map_clean() hands PGO_FREE alone to pgo_flush in 1.69 (February 2000); later it "
            "says that object pages must always be cleaned before they are freed",
        ),
        story=story("""
            With MADV_FREE a program says that it does not need the contents of a range any more. For anonymous memory
            uvm_map_clean() frees the pages. For a mapped file it passed PGO_FREE to the pager, without PGO_CLEANIT.
            uvn_flush() threw away pages that had been written through the mapping and not yet to the disk. The next
            reader of the file gets what the disk blocks held before: if they had been another file's, data that
            somebody has deleted. The repair always cleans a file's pages before it frees them. A later comment in
            uvm_map_clean() calls the old contents a matter of security; no report is known.
        """),
    ),
    Erratum(
        id="pgo_get.object-unreferenced",
        name="E67",
        sentence="uvm_fault() sleeps in the pager, with the map unlocked and without a reference to the object.",
        status=Status.IN_SOURCE,
        source=(
            "NetBSD uvm_fault.c 1.51 (August 2000): case 2 unlocks the maps, and calls pgo_get with no reference",
            "NetBSD uvm_aobj.c and uvm_vnode.c of 2000: uao_get() and uvn_get() unlock the object to sleep, and lock "
            "it again; uvm_loanuobj() calls them in the same way",
        ),
        story=story("""
            When an object's page is not resident, uvm_fault() unlocks the map and calls pgo_get. The page that pgo_get
            reads is BUSY, and a BUSY page keeps its object. But before it has that page, pgo_get may have to sleep:
            for a page that another thread has BUSY, or for memory. It unlocks the object, sleeps, and locks it again.
            Meanwhile another thread of the process may unmap the object. If that was the last reference,
            uao_detach() frees a segment of shared memory, and the sleeper locks freed memory. A file's object is part
            of its vnode and stays, but its life is over: the sleeper reads a page into an object without references,
            which no thread will write or free. Random programs found it. The repair holds a reference during the sleep,
            and if that was the last one, drops it and looks at the map again. No report is known.
        """),
    ),
)
