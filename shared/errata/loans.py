"""Errata of page loans."""

from __future__ import annotations

from shared.errata.erratum import Erratum, Status, story

CATALOGUE = (
    Erratum(
        id="uvm_anon_lockloanpg.anon-unlocked",
        name="S3l",
        sentence="uvm_anfree() looks up the owner of a page on loan without having locked the anon.",
        status=Status.IN_SOURCE,
        source=(
            "NetBSD uvm_anon.c 1.5 (2000-01-11): uvm_anfree() calls uvm_anon_lockloanpg() with the anon unlocked",
            "NetBSD CVS log, uvm_anon.c, 2001-01-23 (committed with uvm_amap.c 1.28): the assertion",
        ),
        story=story("""
            Before an anon with a page on loan is freed, uvm_anon_lockloanpg() finds and locks the page's owner. It
            wants the anon locked: when it cannot have an object's lock, it unlocks the anon for a moment and locks it
            again. uvm_anfree() called it with the anon unlocked, since the anon is no longer referenced. But the
            anon can be reached from its page. And when the object's lock is held, uvm_anon_lockloanpg() unlocks a
            lock that it does not hold, locks it, and uvm_anfree() puts the anon on the free list locked. The change
            of January 2001 asserts the lock in uvm_anon_lockloanpg(). The log does not name the caller; the source of
            early 2000 shows it. The consequence is our inference.
        """),
    ),
    Erratum(
        id="uvm_loanzero.anon-unlocked",
        name="S3m",
        sentence="uvm_loanzero() allocates a page for an anon that it has not locked.",
        status=Status.IN_SOURCE,
        source=(
            "NetBSD CVS log, uvm_page.c, 2001-01-23 (committed with uvm_amap.c 1.28): the assertion; uvm_loan.c 1.22 "
            "(June 2000) allocates without the lock",
        ),
        story=story("""
            A program can also lend memory that has not been touched yet. uvm_loanzero() makes a page of zeros for this,
            and for a loan to an anon a new anon with such a page. It did not lock the new anon. The assertions of
            January 2001 want the owner of a page locked while uvm_pagealloc_strat() gives it the page. The log names
            the page allocator, the anons and the fault handler; that the loans needed the same repair follows from
            both sources. One CPU is enough to see it.
        """),
    ),
    Erratum(
        id="uvm_fault.loan-broken-page-clean",
        name="E56",
        sentence="When a write breaks the loan of an object's clean page, the anon that adopts it gets it clean.",
        status=Status.IN_SOURCE,
        source=(
            "NetBSD uvm_fault.c 1.47 (February 2000); uvm_page.c 1.30 clears the mark when an object frees a page that "
            "is on loan",
        ),
        story=story("""
            A page of a file is clean if the file on disk holds the same data. If the page is on loan to an anon, and
            the file gives it up, the anon adopts it. An anon's page may be clean only if the anon's swap slot holds
            the same data. A comment in uvm_pagefree() says so, and uvm_pagefree() clears the mark. But when a write
            breaks the loan, uvm_fault() puts a copy into the file, and leaves the old page as it is. The anon adopts
            a page that is clean, without a swap slot. The pagedaemon panics; without that check it frees the page,
            and the borrower's data is gone. The omission in uvm_fault() is in the source; the consequence is our
            inference. The repaired kernel clears the mark in both places.
        """),
    ),
    Erratum(
        id="uvm_unloanpage.loaned-left-off-queues",
        name="E26",
        sentence="uvm_unloanpage() leaves a page on no queue if it is still on loan to an anon.",
        status=Status.LOGGED,
        source=("NetBSD CVS log, uvm_loan.c 1.39, 2002-07-14",),
        story=story("""
            A page can be on loan to an anon and to the kernel at once. While the kernel borrows it, the page must
            stay in memory, and is on no queue. When the last loan to the kernel ended, uvm_unloanpage() put the page
            on a queue only if it was not on loan at all any more. A page that an anon still borrowed stayed off the
            queues: it could not be paged out before the anon gave it back too. The log says that pages on loan to
            anons can be paged out, first to the object and then to swap. In the kernel of 2002 a loan took the page
            off its queue. In this one, as in 2001, a loan wires the page, and the erratum leaves the page off the
            queues when the wiring ends.
        """),
    ),
    Erratum(
        id="uvm_unloanpage.owner-unlocked",
        name="E26b",
        sentence="uvm_unloanpage() returns a borrowed page without locking the page's owner.",
        status=Status.IN_SOURCE,
        source=(
            "NetBSD uvm_loan.c: only the page queues are locked in 1.22 (June 2000); the owner's lock is tried first "
            "in 1.39 (2002-07-14)",
        ),
        story=story("""
            The rule in the source: loan_count is read with the page's owner or the page queues locked, and written
            with both. uvm_unloanpage() locked only the page queues, since a borrower does not know the owner. A
            process writes to its page while the page is on loan. uvm_fault(), with the anon locked, sees the loan and
            makes a copy. Meanwhile the kernel, on another CPU, returns the page. As the last borrower it finds that
            the page has an owner, and leaves the page to it. Now uvm_fault() disowns the page, and leaves it to the
            borrower. Neither frees it: it stays on a queue, without an owner. The repair tries the owner's lock, and
            starts over if the lock is held. The rule and the missing lock are in the sources, the interleaving is our
            inference.
        """),
    ),
    Erratum(
        id="uvm_fault.loaned-neighbour-writable",
        name="E51",
        sentence="uvm_fault() maps a neighbouring page of an object writable although the page is on loan.",
        status=Status.IN_SOURCE,
        source=(
            "NetBSD uvm_fault.c 1.47 (February 2000): anons' neighbours on loan are passed over, objects' are mapped "
            "as the mapping allows",
        ),
        story=story("""
            uvm_fault() also maps the resident pages next to the faulting one. It skips pages of anons that are on
            loan. Pages of objects it maps with the protection of the mapping, whether they are on loan or not. A
            program that has mapped a file writable touches a page, and gets a writable mapping of the page next to
            it, which the kernel has borrowed. Its next store there takes no fault and breaks no loan. The borrower
            was promised the page as it was, and sees the new contents. The missing test is in the source; later
            versions map such a page read-only. The consequence is our inference.
        """),
    ),
    Erratum(
        id="uvm_loanuobj.offset-forgotten",
        name="E52",
        sentence="uvm_loanuobj() forgets where in the object the map entry begins.",
        status=Status.IN_SOURCE,
        source=("NetBSD uvm_loan.c 1.22 (June 2000): va - ufi->entry->start; later versions add ufi->entry->offset",),
        story=story("""
            uvm_loanuobj() asks an object for the page at an address of a map entry. It computed the page's offset
            from the start of the entry, and did not add the offset in the object at which the entry starts. For a
            mapping from the start of a file the result is the same. For any other mapping the kernel borrows a page
            from nearer to the start of the file: what a program writes to a pipe comes out as other data. Later
            versions add the offset. One CPU is enough to see it.
        """),
    ),
    Erratum(
        id="uvm_loanentry.object-locked-too-early",
        name="E53",
        sentence="uvm_loanentry() sleeps for an anon's page with the object behind it locked, and may leave it locked.",
        status=Status.IN_SOURCE,
        source=(
            "NetBSD uvm_loan.c 1.22 (June 2000): uvm_loanentry() locks the object at its beginning; later versions "
            "lock it for a page of its own only",
        ),
        story=story("""
            uvm_loanentry() lends the pages of one map entry. Each of them is an anon's or the object's, so
            uvm_loanentry() locked the amap and the object first. For an anon's page that is in swap,
            uvmfault_anonget() unlocks the map, the amap and the anon, and sleeps until the page has been read. It has
            no way to know of the object, which stays locked. Meanwhile every CPU that needs the object spins. If the
            read fails, or if the map has changed, uvm_loan() takes everything for unlocked, looks the entry up again,
            and locks the object a second time. The early lock is in the source; the interleavings are our inference.
        """),
    ),
    Erratum(
        id="uvm_loanuobj.dying-anon-revived",
        name="E54",
        sentence="uvm_loanuobj() takes a reference to an anon that is just being freed.",
        status=Status.IN_SOURCE,
        source=(
            "NetBSD uvm_loan.c 1.22 (June 2000): the anon at a page gets one more reference without a look at those "
            "that it has",
        ),
        story=story("""
            If a page of an object is on loan to an anon already, a second loan only takes a second reference to this
            anon. uvm_loanuobj() finds the anon at the page, with the object locked. But the last reference to the
            anon is dropped with only the anon locked: uvm_unloananon() unlocks the anon and calls uvm_anfree(), which
            has to wait for the object's lock to give the page back. In between uvm_loanuobj() takes its reference,
            and hands out an anon that is on the free list a moment later. The window is in the source; that anybody
            fell into it is our inference. The repaired kernel leaves such an anon alone until it is gone.
        """),
    ),
    Erratum(
        id="uvm_fault.loan-broken-wiring-stays",
        name="E55",
        sentence="When a write breaks the loan of a wired page, the wiring stays with the old page.",
        status=Status.IN_SOURCE,
        source=(
            "NetBSD uvm_fault.c 1.47 (February 2000); a comment in uvm_loan.c 1.22 (June 2000) warns that "
            "write-protecting loaned pages could have an unexpected effect on wired ones",
        ),
        story=story("""
            Memory that a program has locked must not fault. But lending a page write-protects it, and the next write
            to it faults. uvm_fault() puts a new page in its place, and leaves the old page to the borrower. What
            mlock(2) had counted in the old page's wire_count stayed there, so the old page stays wired. munlock(2)
            finds the new page and takes a wiring from it that it has not got: in a 16-bit counter that leaves 65535,
            and this page is not paged out any more either. A comment in the old source warns of unexpected effects on
            wired pages; which ones is our inference. In the repaired kernel wired memory is not lent, as NetBSD decided
            later for loans to the kernel, and mlock(2) breaks the loans of what it wires.
        """),
    ),
    Erratum(
        id="uvm_pageadopt.queue-kept",
        name="E59",
        sentence="uvm_pageadopt() leaves an adopted page on the inactive queue for pages of objects.",
        status=Status.IN_SOURCE,
        source=(
            "NetBSD uvm_anon.c 1.5, 2000-01-11: uvm_anon_lockloanpg()",
            "NetBSD uvm_pdaemon.c 1.19, 1999-11-04: the page_inactive_obj and page_inactive_swp loops",
        ),
        story=story("""
            Until 2001 there were two inactive queues: page_inactive_swp for pages that go to swap, and
            page_inactive_obj for those of files. uvm_pageactivate(), uvm_pagewire() and uvm_pagefree() read from the
            page's PQ_SWAPBACKED bits which of the two it is on. A page of a file that is on loan to an anon can lose
            its file, when the file is truncated or forgotten. Then the anon adopts it: uvm_anon_lockloanpg() and the
            pagedaemon set PQ_ANON, and leave the page where it is. An inactive page is on page_inactive_obj then, and
            its bits say page_inactive_swp. The next function that takes it off removes it from the wrong queue. If it
            is the last one there, the tail pointer of the other queue is set, and the next page inserted is lost. The
            single inactive queue of 2001 ended this. The lines are in the source; probably no user saw it, since loans
            to anons had no users in NetBSD.
        """),
    ),
    Erratum(
        id="uvm_pageunwire.count-underflows",
        name="E46",
        sentence="uvm_pageunwire() decrements a wire_count of 0 to 65535.",
        status=Status.IN_SOURCE,
        source=("NetBSD uvm_page_i.h 1.11, 1999-09-12: uvm_pageunwire()",),
        story=story("""
            A page's wire_count has 16 bits, and uvm_pageunwire() counts it down without a check. If a thread unwires a
            page that is not wired, 0 becomes 65535: the page is on a queue, and says that it is wired.
            uvm_pageactivate() takes it for wired, so that it is never paged out again; uvm_pagedeactivate() panics,
            "caller did not check wire count". The defect alone does nothing. It hides other defects, here E62a, until
            long after. The repair is an assertion of later versions.
        """),
    ),
    Erratum(
        id="amap_add.wired-elsewhere",
        name="E62a",
        sentence="amap_add() replaces a page that another process, which shares the amap, has wired.",
        status=Status.IN_SOURCE,
        source=(
            "NetBSD uvm_amap_i.h 1.14, 1999-09-12: amap_add(), 'XXX: suppose page is supposed to be wired somewhere?'",
            "NetBSD uvm_map.c 1.69 (2000): uvmspace_fork() copies at once what the parent's own entry has wired",
        ),
        story=story("""
            Two processes share an amap, and one has locked the memory. The other forks. uvmspace_fork() copies wired
            pages for the child at once, but looks only at the parent's own map entry, which is not wired. So the
            child's copy of the amap refers to the same anons. Then the parent writes: case 1B of uvm_fault() copies
            the page to a new anon, and amap_add() puts this anon in the place of the old one, and removes all
            mappings of the old page, the wired one too. Its comment asks what happens if the page was wired
            somewhere. Locked memory faults once more; the new page is not wired; munlock(2) unwires a page that
            is not wired, and the old page stays wired. The repaired kernel copies at the fork what anybody has
            wired.
        """),
    ),
    Erratum(
        id="uvm_fault.promotion-unmaps-wired",
        name="E62b",
        sentence="uvm_fault() promotes a file's page in a shared amap, and removes mappings that others have wired.",
        status=Status.IN_SOURCE,
        source=(
            "NetBSD uvm_fault.c 1.47 (2000): case 2B",
            "NetBSD uvm_fault.c 1.194, 2012-02-19: the same lines, with 'XXX: PAGE MIGHT BE WIRED!'",
        ),
        story=story("""
            Two processes share a private mapping of a file, by minherit(2). One of them writes to a page for the
            first time, and gets a copy: case 2B of uvm_fault(). So that the other process sees the copy too,
            uvm_fault() removes all mappings of the file's page, in all processes. One of these may have locked the
            file's memory. Its next access faults; in an interrupt this is a panic. If it unlocks the memory first,
            uvm_fault_unwire_locked() finds no page and panics. A comment was added years later: "XXX: PAGE MIGHT BE
            WIRED!". In the repaired kernel wired mappings of the file's page stay: the processes that share the amap
            have none.
        """),
    ),
)
