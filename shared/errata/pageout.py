"""Errata of the pagedaemon and the pagers."""

from __future__ import annotations

from shared.errata.erratum import Erratum, Status, story

CATALOGUE = (
    Erratum(
        id="uvm_swap_put.sync-answers-pending",
        name="S1a",
        sentence="A pageout that was done synchronously is answered as if it had only been started.",
        status=Status.INFERRED,
        source=("NetBSD CVS log, uvm_pager.h 1.21, 2001-03-10",),
        story=story("""
            The pagedaemon asks for asynchronous pageouts: it hands over a cluster of BUSY pages and goes on. Until
            March 2001 a pager that was short of something might do such a request synchronously instead, and its
            answer told who had to clean up: OK, the I/O is done and the caller un-busies the pages; or PEND, it was
            only started and its completion will. A pager that did the one and answered the other left the pages
            BUSY, with nobody to un-busy them. Whoever needs one sleeps for ever in "anonget2"; and they count as in
            flight for ever. The log gives the new contract: no conversion, 0 means that the asynchronous I/O was
            started, and the caller never cleans up. That pages stayed busy is our reading of why.
        """),
        findings=("deadlock",),
        scenarios=("S1a",),
    ),
    Erratum(
        id="uvm_pager_put.started-is-done",
        name="S1b",
        sentence="An answer that means that a pageout was started is taken to mean that it is done.",
        status=Status.HYPOTHETICAL,
        source=("NetBSD CVS log, uvm_pager.h 1.21, 2001-03-10",),
        story=story("""
            In the old codes 0 was VM_PAGER_OK: done, the caller cleans up. In the new ones 0 from an asynchronous
            request means that it was started, and its completion cleans up. A caller that still reads it the old
            way un-busies the pages of the cluster and marks them clean while they are being written; then the
            completion does so again. In between the pagedaemon may free such a page as clean. When the completion comes
            the page is not busy, and perhaps not the same page any more. Each cluster must be cleaned up exactly once.
        """),
        findings=("kassert", "use-after-free"),
        scenarios=("S1b", "S1b-shipped"),
    ),
    Erratum(
        id="uvm_aio_aiodone.old-result-codes",
        name="S1c",
        sentence="A pager's errno is compared with a code of the old namespace, in which 5 is not EIO but AGAIN.",
        status=Status.HYPOTHETICAL,
        source=("NetBSD CVS log, uvm_pager.h 1.21, 2001-03-10",),
        story=story("""
            Pagers used to answer VM_PAGER_ERROR (4) for a hard error and VM_PAGER_AGAIN (5) for a shortage that will
            pass. Since March 2001 they answer EIO, which is 5 as well, and EAGAIN, which is 35. A comparison that was
            missed in the conversion still compiles, and has the two the wrong way round. After a transient shortage
            the swap slots are marked bad, and lost to the machine until it is rebooted. After a hard error the bad
            slots are given back, and as they are the first free ones the pagedaemon gets the same slots for the
            next pageout, which fails again, and so on: no page is ever freed. That such a comparison was missed
            is our assumption; the log only lists the codes.
        """),
        findings=("invariant", "no-progress"),
        scenarios=("S1c", "S1c-hard"),
    ),
    Erratum(
        id="uvmfault_anonget.released-hides-error",
        name="S1d",
        sentence="If a page is released while it is read from swap, an error of that read is forgotten.",
        status=Status.IN_SOURCE,
        source=(
            "NetBSD uvm_fault.c: a released page is looked for before an error in 1.47 (February 2000) "
            "and for years after",
        ),
        story=story("""
            uvmfault_anonget() reads an anon's page from swap with everything unlocked. If meanwhile the last process
            that maps it unmaps it, the page is only marked RELEASED, and the reader has to free the anon when it is
            done. It looked for that mark first, and for an error of the read only afterwards. So after a failed read
            of a released page the bad slot is freed with the anon, for the next pageout to fail on; and since
            the anon still has a page when it is freed, nobody notices that its data was nowhere but in swap:
            swpgonly stays one too high for ever. With enough of these the kernel holds that swap is full, and
            refuses memory although there is some. The repair deals with the error first. This order in the source
            is a fact; what comes of it is our inference.
        """),
        findings=("invariant",),
        scenarios=("S1d",),
    ),
    Erratum(
        id="uvmpd_scan_inactive.modified-before-unmap",
        name="S2a",
        sentence="The pagedaemon asks whether a page was modified before it removes the page's mappings.",
        status=Status.HYPOTHETICAL,
        source=("NetBSD CVS log, uvm_pdaemon.c, January 2001 (the change that follows 1.28)",),
        story=story("""
            Since January 2001 an inactive page keeps its mappings, so a program may write to it while the pagedaemon
            considers freeing it. The order is then everything: remove all mappings first, and then, if the page is
            marked clean, ask whether it was modified. Asked the other way round, the answer can be "no", another CPU
            can write through the mapping that is still there, and the page is freed as clean with the write in it.
            The program later reads back what swap had: its own store is gone. The change log gives the right order;
            this erratum is the wrong one.
        """),
        findings=("oracle",),
        scenarios=("S2a",),
    ),
    Erratum(
        id="uvm_pagedeactivate.unmaps",
        name="S2b",
        sentence="Making a page inactive removes all its mappings.",
        status=Status.LOGGED,
        source=("NetBSD CVS log, uvm_pdaemon.c, January 2001 (the change that follows 1.28)",),
        story=story("""
            Until January 2001 uvm_pagedeactivate() took a page out of every page table, so that a page that was still
            in use showed itself by a fault, which put it on the active queue again. Each sweep of the pagedaemon over
            the active pages thus cost a program a fault for each page of its working set, although nothing of it left
            memory; and the scan of the inactive queue could never see a reference, so that its test for one was dead
            code. Since then only the reference attribute is cleared, by the caller, and the mappings stay. Nothing
            but the number of faults shows it.
        """),
        findings=(),
        scenarios=("S2b", "S2b-sweep"),
    ),
    Erratum(
        id="uvmpd_scan.reference-kept",
        name="S2c",
        sentence="The pagedaemon makes active pages inactive without clearing their reference attribute.",
        status=Status.HYPOTHETICAL,
        source=("NetBSD CVS log, uvm_pdaemon.c, January 2001 (the change that follows 1.28)",),
        story=story("""
            Since January 2001 an inactive page that is found referenced goes back to the active queue, and to clear the
            reference attribute before a page becomes inactive is its caller's part. The log says so because there is
            no way to tell a forgotten one: a page was used once, long ago, the attribute is still set, and each time
            the pagedaemon has made the page inactive it finds it "referenced" and makes it active again. Pages go
            round between the queues (pdreact counts up, pdfreed does not), and who needs memory waits for ever.
            That it was forgotten in this place is our assumption, to show what the rule is for.
        """),
        findings=("no-progress",),
        scenarios=("S2c",),
    ),
    Erratum(
        id="uvm_pageout.paging-after-start",
        name="E13",
        sentence="Pages in flight to swap are counted only after their I/O was started.",
        status=Status.IN_SOURCE,
        source=("NetBSD uvm_pdaemon.c: counted after the start in 1.19 (February 2000), before in 1.39 (2001-09-30)",),
        story=story("""
            The pagedaemon hands a cluster to the pager and then adds its pages to uvmexp.paging. The completion
            subtracts them; and nothing keeps it from coming first, as a comment in the old source admits. Until the
            addition the count of pages in flight is too low, or negative, and whoever decides by it decides wrongly:
            the scan whether it has done enough, the daemon whether to wake those who wait. The repair counts
            first and starts the I/O afterwards. That a completion finds its pages counted is an assertion of later
            versions; here it stands in the completion interrupt. In this kernel only the pagedaemon decides by the
            count, and not in between, so that nothing worse comes of it.
        """),
        findings=("kassert",),
        scenarios=("E13",),
    ),
    Erratum(
        id="uvmpd_tune.freemin-in-reserve",
        name="E45",
        sentence="On a small machine the pagedaemon is content with free pages that only the kernel may take.",
        status=Status.IN_SOURCE,
        source=(
            "NetBSD uvm_pdaemon.c: freemin has no lower bound but 16 KB in 1.19 (February 2000); it is above "
            "reserve_kernel in 1.39 (2001-09-30)",
        ),
        story=story("""
            The pagedaemon's targets are computed from the size of memory: freemin is a twentieth of it, within
            bounds, and freetarg a third more. The last reserve_kernel free pages are not for programs. With little
            memory freemin and freetarg came out at or below that reserve. A program that finds just the reserve free
            gets no page; it wakes the pagedaemon and waits. The pagedaemon compares the free pages with its target,
            sees nothing amiss, and wakes the program, which tries again; and so for ever, with a machine full of
            pages that could be written to swap. That the clamp was put in for this reason is our inference. The
            repair keeps freemin above the reserve.
        """),
        findings=("no-progress",),
        scenarios=("E45",),
    ),
    Erratum(
        id="uvm_pageout.waiters-not-looked-for",
        name="E38",
        status=Status.IN_SOURCE,
        sentence="The pagedaemon goes to sleep without a look for who has come to wait for memory meanwhile.",
        source=(
            "NetBSD uvm_pdaemon.c 1.19, 1999-11-04, and 1.39, 2001-09-30: uvm_wait(), uvm_pageout()",
            "NetBSD uvm_pdaemon.c 1.107 (2012): uvm_pagedaemon_waiters",
        ),
        story=story("""
            Who finds no free page calls uvm_wait(): under pagedaemon_lock it wakes the pagedaemon and sleeps on
            &uvmexp.free. The pagedaemon, uvm_pageout(), scans, wakes whoever sleeps on &uvmexp.free if there is
            memory, and then takes pagedaemon_lock to go to sleep, unless there is I/O to be reaped. A fault that
            comes to uvm_wait() between that wakeup and that sleep wakes a pagedaemon that is awake, and is too late
            to be woken itself. Both sleep, with pages free, until somebody else runs short of memory; ps shows
            "flt_noram5" and "daemon_slp". The comment in uvm_pageout() promises to go to sleep "without losing
            wakeups", and looks only at the list of I/O. The repair counts waiters under the lock, and the pagedaemon
            does not sleep while there are some that it could serve. FreeBSD repaired a lost wakeup of its page daemon
            much later (r327168). The interleaving is ours.
        """),
        findings=("lost-wakeup",),
        scenarios=("E38",),
    ),
)
