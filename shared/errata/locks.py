"""Errata of locking: what is locked, and by whom, in the fault handler and in amaps."""

from __future__ import annotations

from shared.errata.erratum import Erratum, Status, story

CATALOGUE = (
    Erratum(
        id="amap_cow_now.nanon-freed-locked",
        name="S3a",
        sentence="amap_cow_now() locks its new anon, instead of unlocking it, before it frees it for want of a page.",
        status=Status.LOGGED,
        source=("NetBSD CVS log, uvm_amap.c 1.28, 2001-01-23",),
        story=story("""
            When a process with wired memory forks, amap_cow_now() copies each wired page for the child at once. For
            each it takes a new anon from the free list and then a page for it. If there is no page, the anon goes back
            and the fork waits for memory. The code never locked the new anon while it filled it; and on that error
            path it took the anon's lock, where it meant to let go of it, and called uvm_anfree() with the lock held
            and the reference count still 1. The free list now has a locked anon at its head. The next CPU whose fault
            needs an anon gets this one, locks it, and spins for ever, with its map and amap locked; whoever wants
            those follows. Dan Carosone saw an i386 MP kernel hang while running cdrecord; that the hang came about in
            just this way is our reading. On a uniprocessor kernel these locks do not exist, so nothing happens. The
            repair locks the new anon as soon as it is allocated, and on failure drops the reference and unlocks
            before freeing. The assertions in uvm_anfree() that found it came with the same change.
        """),
        findings=("locked-anon-freed", "spin-forever"),
        scenarios=("S3a", "S3a-shipped"),
    ),
    Erratum(
        id="uvm_fault.case1b-anon-unlocked",
        name="S3b",
        sentence="Case 1B of uvm_fault() fills a new anon without holding its lock.",
        status=Status.LOGGED,
        source=("NetBSD CVS log, uvm_fault.c, 2001-01-23 (committed with uvm_amap.c 1.28)",),
        story=story("""
            Writing to a page that is shared copy-on-write, uvm_fault() allocates a new anon and a page, copies, and
            puts the anon into the amap. It did all this without the new anon's lock, on the ground that nobody can
            reach the anon except through the amap, which is locked. But there are other ways: from a page on a paging
            queue to its anon, as the pagedaemon comes, and along the list of all anons, as swapoff does. The assertion
            that the same change put into uvm_pagealloc_strat(), that the owner is locked, fails at once, on one CPU.
            This case is done with the page's flags before the page is on a queue, and swapoff passes over an anon that
            has no swap slot, as a new one: we know of no order in which it does harm. A search over 4000 schedules,
            with swapctl at work on another CPU, found none. Its twin, case 2, is a data race at least. The repair
            locks the new anon right after allocating it and unlocks it together with the old one.
        """),
        findings=("lock-assert",),
        scenarios=("S3b",),
    ),
    Erratum(
        id="uvm_fault.case2-anon-unlocked",
        name="S3c",
        sentence="Case 2 of uvm_fault() fills the anon of a zero-filled or promoted page without holding its lock.",
        status=Status.LOGGED,
        source=("NetBSD CVS log, uvm_fault.c, 2001-01-23 (committed with uvm_amap.c 1.28)",),
        story=story("""
            The first write to anonymous memory, and a write to a private mapping of an object, take a new anon too.
            Here as in case 1B its lock was not held. The fault activates the page, then clears BUSY, FAKE and WANTED
            by reading the flags word, masking it and writing it back. Between the read and the write the pagedaemon on
            another CPU may take the anon's free lock and look at the word, and if it changed it one of the two changes
            would be lost. That is a data race, and all that we can show: the daemon leaves BUSY pages alone, and
            swapoff passes over an anon that has no swap slot yet, as a new one. In thousands of schedules without the
            race detector nobody came to harm. The repair locks the new anon, and hands it to uvmfault_unlockall() to
            unlock (NULL if the fault was no promotion).
        """),
        findings=("lock-assert", "data-race"),
        scenarios=("S3c", "S3c-race"),
    ),
    Erratum(
        id="uvm_fault.anon-freed-with-ref",
        name="S3d",
        sentence="uvm_fault() frees a new anon, for want of a page, while its reference count is still 1.",
        status=Status.IN_SOURCE,
        source=("NetBSD CVS log, uvm_anon.c and uvm_fault.c, 2001-01-23 (committed with uvm_amap.c 1.28)",),
        story=story("""
            uvm_analloc() returns an anon with one reference. If then no page can be had, cases 1B and 2B of
            uvm_fault() gave the anon back as it was, with that reference. By itself this does no harm, since the
            next allocation sets the count anew; but no check can then tell such an anon from one that is freed while
            somebody still refers to it. Since 2001-01-23 uvm_anfree() asserts that the count is 0, and its callers
            drop the reference first.
        """),
        findings=("kassert",),
        scenarios=("S3d",),
    ),
    Erratum(
        id="amap_copy.unused-amap-unlocked",
        name="S3f",
        sentence="amap_copy() frees an amap that it does not need after all without locking it.",
        status=Status.IN_SOURCE,
        source=(
            "NetBSD CVS log, uvm_amap.c 1.28, 2001-01-23 (the assertion in amap_free()); amap_copy() in 1.22 "
            "(February 2000) takes no lock there",
        ),
        story=story("""
            amap_copy() looks at the reference count of the amap to be copied without its lock. If it is more than one
            it allocates a new amap, locks the old one, and looks again: the others may have gone meanwhile. If so it
            takes over the old amap, and frees the new one, which nobody else has ever seen. amap_free() ends by
            unlocking the amap that it frees; without a lock taken before, that is the release of a lock that is not
            held. The change of January 2001 asserts in amap_free() that the amap is locked. On a kernel without
            LOCKDEBUG this harms nothing: the lock is gone with its amap in the same moment. That a caller was found
            by this assertion is our inference.
        """),
        findings=("lock-assert",),
        scenarios=("S3f",),
    ),
    Erratum(
        id="uvmspace_fork.shared-amap-unlocked",
        name="S3g",
        sentence="A fork write-protects the pages of a shared amap without holding the amap's lock.",
        status=Status.HYPOTHETICAL,
        source=("NetBSD CVS log, uvm_amap.c 1.28, 2001-01-23 (the assertion in amap_share_protect())",),
        story=story("""
            When a process forks and the child is to get a copy of memory that the parent shares with others, all
            mappings of its pages, in whatever process, are write-protected with amap_share_protect(). It walks the
            amap's slots, for which map and amap must be locked, and since January 2001 it asserts the latter. The
            map's lock alone keeps out the threads of the parent only. With the amap unlocked another process that
            shares it can fault in a new page at the same time: the walk reads the number of slots in use, the list of
            them and the slots while they are being written. The assertion is from the change log; a caller without
            the lock is our assumption, as is what comes of it.
        """),
        findings=("lock-assert", "data-race"),
        scenarios=("S3g", "S3g-shipped"),
    ),
    Erratum(
        id="amap_unref.amap-unlocked",
        name="S3h",
        sentence="amap_unref() counts down, and wipes the amap out, without holding the amap's lock.",
        status=Status.HYPOTHETICAL,
        source=("NetBSD CVS log, uvm_amap.c 1.28, 2001-01-23 (the assertion in amap_wipeout())",),
        story=story("""
            amap_unref() locks the amap, and if the reference is the last one hands it over, locked, to amap_wipeout(),
            which frees it; since January 2001 that asserts the lock. The lock is what makes the look at the count and
            the change of it one step. Without it two children that exit at once, each on its own CPU, read a count of
            three, and both store two. When the parent exits it believes that one of them is still there, and the amap
            and all the memory in it are nobody's. Or one frees the amap while the other is still at work on it. The
            assertion is from the change log; the defect, a caller that does not take the lock, is our assumption.
        """),
        findings=("lock-assert", "invariant", "use-after-free"),
        scenarios=("S3h", "S3h-shipped", "S3h-freed"),
    ),
    Erratum(
        id="uvm_fault.case1-old-anon-unlocked",
        name="S3i",
        sentence="Case 1 of uvm_fault() brings an anon's page in without holding the anon's lock.",
        status=Status.HYPOTHETICAL,
        source=("NetBSD CVS log, uvm_fault.c, 2001-01-23 (the assertion in uvmfault_anonget())",),
        story=story("""
            uvmfault_anonget() is handed a locked anon, and since January 2001 asserts so. It looks whether there is a
            page, and if not allocates one and reads it from swap. The amap is locked too; but after a fork two amaps
            have the same anon. Without the anon's lock two processes that touch such a page on two CPUs both find none,
            both allocate one, and each stores its own in the anon: one of the two pages belongs to an anon that does
            not know of it, and who waits for that page may wait for ever. It also releases the lock it was not given
            before it sleeps, and that may be the lock of somebody else. The assertion is from the change log; a caller
            without the lock, and what comes of it, are our assumption.
        """),
        findings=("lock-assert", "invariant", "lost-wakeup", "deadlock"),
        scenarios=("S3i", "S3i-shipped", "S3i-sleeper"),
    ),
    Erratum(
        id="amap_cow_now.returns-amap-locked",
        name="E1",
        sentence="amap_cow_now() returns with the child's amap locked.",
        status=Status.IN_SOURCE,
        source=("NetBSD uvm_amap.c: no unlock after the loop in 1.22 (February 2000), one in 1.28 (2001-01-23)",),
        story=story("""
            amap_cow_now() locks the amap of the child's entry and walks its slots. When it had copied them all it
            returned without unlocking. The fork goes on and the child is made runnable. The child's first fault wants
            the amap's lock, which the parent's CPU took and nobody will ever release, and spins for ever. With one CPU
            the lock does not exist and all is well. The repair is one line: unlock after the loop.
        """),
        findings=("held-at-exit", "spin-forever"),
        scenarios=("E1", "E1-shipped"),
    ),
    Erratum(
        id="amap_cow_now.restart-own-copy",
        name="E2",
        sentence="After waiting for memory amap_cow_now() takes its own, paged-out copy for a lost wired page.",
        status=Status.IN_SOURCE,
        source=(
            "NetBSD uvm_amap.c: panics on any non-resident page in 1.22 (February 2000) and 1.28 (2001-01-23); "
            "a comment and a check against it in 1.107 (2012)",
        ),
        story=story("""
            If there is no page for a copy, amap_cow_now() unlocks the amap, waits for memory and starts over at the
            first slot. The copies it has already made are ordinary pages of the child, which has nothing wired yet, so
            while it waits the pagedaemon may write them to swap and free them. Starting over, it met such a copy
            without a page, held it for a wired page that had vanished, and panicked. Only anons with more than one
            reference are the parent's wired ones and must be resident; a copy has one reference and needs nothing more.
            The repair looks at the count before it insists on a page.
        """),
        findings=("panic",),
        scenarios=("E2",),
    ),
    Erratum(
        id="uvmfault_anonget.caller-unlocks-again",
        name="E3",
        sentence="When uvmfault_anonget() fails its caller unlocks an anon that it has already unlocked.",
        status=Status.IN_SOURCE,
        source=("NetBSD uvm_fault.c: unlocked twice in 1.47 (February 2000), once in 1.51 (2000-08-06)",),
        story=story("""
            uvmfault_anonget() brings an anon's page in from swap, with everything unlocked meanwhile. If the map has
            changed by then it unlocks the anon and tells uvm_fault() to start over. uvm_fault() unlocked the anon
            once more before it did. If another CPU took the lock between the two, it is that CPU's lock that is
            released, and two CPUs are inside; if not, the kernel has unlocked a lock that nobody holds. The repair
            states a contract, on failure everything is unlocked by uvmfault_anonget(), and keeps to it. What came of
            it on a kernel without LOCKDEBUG is our inference: two processes copy one page on write at the same time,
            and the original is left without a reference and without an owner.
        """),
        findings=("lock-not-held", "invariant"),
        scenarios=("E3", "E3-shipped"),
    ),
)
