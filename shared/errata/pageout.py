"""Errata of the pagedaemon and the pagers."""

from __future__ import annotations

from shared.errata.erratum import Erratum, Status, story

CATALOGUE = (
    Erratum(
        id="uvm_swap_put.sync-answers-pending",
        name="S1a",
        sentence="uvm_swap_put() performs a pageout synchronously, but returns that it was only started.",
        status=Status.INFERRED,
        source=("NetBSD CVS log, uvm_pager.h 1.21, 2001-03-10",),
        story=story("""
            The pagedaemon asks for an asynchronous pageout: it passes on a cluster of BUSY pages and continues. Until
            March 2001 a pager that was short of something might do such a request at once. Its answer told who had to
            clean up: OK, the I/O is done and the caller clears BUSY; or PEND, the I/O is started and its completion
            will. A pager that did the former and answered the latter left the pages BUSY, and no thread cleared the
            flag. A program that needs such a page sleeps in "anonget2", and the pages count as in flight without end.
            The log gives the new contract: an asynchronous request is never done at once, 0 means "started", and the
            caller never cleans up. That a pager gave the wrong answer is our inference.
        """),
    ),
    Erratum(
        id="uvm_pager_put.started-is-done",
        name="S1b",
        sentence='uvm_pager_put() takes the answer "started" for "done".',
        status=Status.HYPOTHETICAL,
        source=("NetBSD CVS log, uvm_pager.h 1.21, 2001-03-10",),
        story=story("""
            A hypothetical defect. In the old codes 0 was VM_PAGER_OK: the I/O is done, and the caller cleans up. In
            the new ones 0 from an asynchronous request means that the I/O was started, and its completion cleans up.
            Here uvm_pager_put() still reads 0 the old way: it clears BUSY and marks the pages clean while the device
            is reading them. In between the pagedaemon may free such a page as clean. When the I/O is done
            uvm_pager_dropcluster() cleans up once more: the page is not BUSY, and perhaps it is another page by now.
            Each cluster must be cleaned up exactly once. No caller is known that was left unconverted.
        """),
    ),
    Erratum(
        id="uvm_aio_aiodone.old-result-codes",
        name="S1c",
        sentence='uvm_aio_aiodone() compares an errno with an old code: 5 is EIO now, and meant "try again".',
        status=Status.HYPOTHETICAL,
        source=("NetBSD CVS log, uvm_pager.h 1.21, 2001-03-10",),
        story=story("""
            A hypothetical defect. Pagers used to answer VM_PAGER_ERROR, 4, for a hard error, and VM_PAGER_AGAIN, 5,
            for a shortage that will pass. Since March 2001 they answer EIO, which is 5 as well, and EAGAIN, which is
            35. A comparison with the old code still compiles, and has the two exchanged. After a shortage
            uvm_aio_aiodone() has good swap slots marked bad, and the machine loses them until the next boot. After a
            hard error it frees the bad slots. They are the first free ones, so the pagedaemon gets them for its next
            pageout, which fails again: no page is ever freed. The log lists the codes; no comparison is known that
            was missed.
        """),
    ),
    Erratum(
        id="uvmfault_anonget.released-hides-error",
        name="S1d",
        sentence="uvmfault_anonget() forgets an error of its swap read if the page was released meanwhile.",
        status=Status.IN_SOURCE,
        source=(
            "NetBSD uvm_fault.c: a released page is looked for before an error in 1.47 (February 2000) "
            "and for years after",
        ),
        story=story("""
            uvmfault_anonget() reads an anon's page from swap, and unlocks everything meanwhile. If the last process
            that maps the page unmaps it, uvm_anfree() only marks the page RELEASED, and the reader frees the anon
            when the read is done. uvmfault_anonget() looked for the mark first, and for an error of the read
            afterwards. So after a failed read the bad slot is freed with the anon, for the next pageout to fail on.
            And since the anon still has a page when it is freed, uvm_anon_dropswap() does not notice that the data
            was only in swap: swpgonly stays one too high. With enough of these the kernel takes swap for full, and
            refuses memory. The repair looks at the error first. The order is in the source; the consequence is our
            inference.
        """),
    ),
    Erratum(
        id="uvmpd_scan_inactive.modified-before-unmap",
        name="S2a",
        sentence="uvmpd_scan_inactive() asks whether a page was modified before it removes the page's mappings.",
        status=Status.HYPOTHETICAL,
        source=("NetBSD CVS log, uvm_pdaemon.c, January 2001 (the change that follows 1.28)",),
        story=story("""
            A hypothetical defect. Since January 2001 an inactive page keeps its mappings, so a program may write to
            it while uvmpd_scan_inactive() considers freeing it. The log gives the order: remove all mappings, and
            then, if the page is marked clean, ask whether it was modified. This erratum is the wrong order. The
            answer is "no"; another CPU writes through the mapping that is still there; the page is freed as clean.
            The program reads from swap, and its store is gone. No kernel is known that had this order.
        """),
    ),
    Erratum(
        id="uvm_pagedeactivate.unmaps",
        name="S2b",
        sentence="uvm_pagedeactivate() removes all mappings of the page.",
        status=Status.LOGGED,
        source=("NetBSD CVS log, uvm_pdaemon.c, January 2001 (the change that follows 1.28)",),
        story=story("""
            Until January 2001 uvm_pagedeactivate() removed a page from every page table. A page that was still in use
            then showed by a fault, which made it active again. So each sweep of the pagedaemon over the active pages
            cost a program a fault for each page that it used, although no page left memory. And the scan of the
            inactive queue never saw a reference, so its test for one had no effect. Since then uvm_pagedeactivate()
            leaves the mappings, and its caller clears the reference bit. Only the number of faults shows the
            difference.
        """),
    ),
    Erratum(
        id="uvmpd_scan.reference-kept",
        name="S2c",
        sentence="uvmpd_scan() makes active pages inactive without clearing their reference bits.",
        status=Status.HYPOTHETICAL,
        source=("NetBSD CVS log, uvm_pdaemon.c, January 2001 (the change that follows 1.28)",),
        story=story("""
            A hypothetical defect. Since January 2001 uvmpd_scan_inactive() returns a page that was referenced to the
            active queue, and each caller of uvm_pagedeactivate() has to clear the reference bit first. Here
            uvmpd_scan() does not. A page was used once, long ago, and the bit is still set. Each time uvmpd_scan()
            has made the page inactive, uvmpd_scan_inactive() finds it referenced and makes it active again: pdreact
            grows, pdfreed does not. A program that needs memory waits without end. The log states the rule; no caller
            is known that forgot it.
        """),
    ),
    Erratum(
        id="uvm_pageout.paging-after-start",
        name="E13",
        sentence="uvm_pageout() counts pages in flight to swap only after their I/O was started.",
        status=Status.IN_SOURCE,
        source=("NetBSD uvm_pdaemon.c: counted after the start in 1.19 (February 2000), before in 1.39 (2001-09-30)",),
        story=story("""
            The pagedaemon passed a cluster to the pager, and then added its pages to uvmexp.paging. The completion
            subtracts them, and may come first, as a comment in the old source admits. Until the addition the number
            of pages in flight is too low, or below 0. The scan decides by it whether it has done enough, and the
            pagedaemon whether to wake those who wait for memory. The repair counts first and starts the I/O
            afterwards. The assertion is one of later versions; here uvm_aio_biodone() makes it. In this kernel, as in
            uvm_pdaemon.c 1.19, the pagedaemon itself reaps what is done, so it cannot decide by the wrong number in
            between. In 1.39 aiodoned, a thread of its own, reaps.
        """),
    ),
    Erratum(
        id="uvmpd_tune.freemin-in-reserve",
        name="E45",
        sentence="On a small machine uvmpd_tune() sets targets that only the kernel's reserve fulfils.",
        status=Status.IN_SOURCE,
        source=(
            "NetBSD uvm_pdaemon.c 1.19 (February 2000): freemin has no lower bound but 16 KB",
            'NetBSD uvm_pdaemon.c 1.39 (2001-09-30): "Make sure there\'s always a user page free"',
        ),
        story=story("""
            The pagedaemon's targets are computed from the size of memory: uvmpd_tune() sets freemin to a twentieth of
            it, within bounds, and freetarg to a third more. The last reserve_kernel free pages are not for programs.
            On a small machine both targets came out at or below this reserve. A program finds only the reserve free
            and gets no page. It wakes the pagedaemon and waits in uvm_wait(). The pagedaemon compares the free pages
            with its target, sees enough, and wakes the program, which tries again: without end, in a machine full of
            pages that could go to swap. The repair keeps freemin above the reserve. Its comment in uvm_pdaemon.c 1.39
            gives the purpose, that there is always a free page for users.
        """),
    ),
    Erratum(
        id="uvm_pageout.waiters-not-looked-for",
        name="E38",
        sentence="uvm_pageout() goes to sleep without looking for threads that have begun to wait for memory.",
        status=Status.IN_SOURCE,
        source=(
            "NetBSD uvm_pdaemon.c 1.19, 1999-11-04, and 1.39, 2001-09-30: uvm_wait(), uvm_pageout()",
            "NetBSD uvm_pdaemon.c 1.107 (2012): uvm_pagedaemon_waiters",
        ),
        story=story("""
            A thread that gets no page calls uvm_wait(): under pagedaemon_lock it wakes the pagedaemon, and sleeps on
            uvmexp.free. The pagedaemon, uvm_pageout(), scans, wakes those who sleep on uvmexp.free if there is
            memory, and then takes pagedaemon_lock to sleep itself, unless finished I/O waits for it. A thread that
            calls uvm_wait() between this wakeup and this sleep wakes a pagedaemon that is awake, and comes too late
            to be woken itself. Both sleep, with pages free, until another thread runs short of memory. The comment in
            uvm_pageout() promises to sleep "without losing wakeups", and the code looks only at the list of I/O. The
            repair counts waiters under the lock, and the pagedaemon does not sleep while it could serve one. FreeBSD
            repaired a lost wakeup of its page daemon much later (r327168). The interleaving is our inference.
        """),
    ),
    Erratum(
        id="uvn_flush.wired-write-protected",
        name="E64",
        sentence="uvn_flush() write-protects a page in every address space, also where it is wired.",
        status=Status.IN_SOURCE,
        source=("NetBSD uvm_vnode.c of February 2000: uvn_flush() calls pmap_page_protect(pp, VM_PROT_READ)",),
        story=story("""
            Before uvn_flush() writes a page to its file it write-protects all mappings of the page, so that no process
            changes it during the I/O. A process may have locked the page, so that an access takes no fault. Its next
            store takes one. For a program this costs time. For an interrupt that stores a status word there, or for a
            kernel that has wired the memory with uvm_vslock(), it is a panic. The pager that came at the end of 2000
            clears the modified attribute before the I/O and write-protects nothing. The source has the call; the
            interleaving is ours. In the repaired kernel wired mappings stay writable, and what is stored during the I/O
            makes the page dirty again.
        """),
    ),
)
