"""Errata of page loans."""

from __future__ import annotations

from shared.errata.erratum import Erratum, Status, story

CATALOGUE = (
    Erratum(
        id="uvm_anon_lockloanpg.anon-unlocked",
        name="S3l",
        sentence="uvm_anfree() has the owner of a loaned page locked without having locked the anon.",
        status=Status.IN_SOURCE,
        source=("NetBSD CVS log, uvm_anon.c, 2001-01-23 (committed with uvm_amap.c 1.28)",),
        story=story("""
            Before an anon with a page on loan is freed, uvm_anon_lockloanpg() finds and locks who owns the page. It
            wants the anon locked; when it fails to get an object's lock it unlocks the anon for a moment and locks it
            again. uvm_anfree() called it without: nobody else could know an anon that has no reference left. The change
            of January 2001 asserts the anon's lock in uvm_anon_lockloanpg(); the log does not say where it was missing.
            That it was in uvm_anfree() is our reading: in the sources of early 2000 it is, and in later ones it is not.
            What came of it is our inference too: the anon can be reached from its page, so that the lock may be
            another's; and when the object's lock cannot be had at once, uvm_anfree() unlocks what it had not locked,
            and goes on with a lock that it does not know of.
        """),
        findings=("lock-assert", "spin-forever"),
        scenarios=("S3l", "S3l-shipped"),
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
            Memory that nobody has touched yet can be lent as well: uvm_loanzero() makes a zeroed page, or for a loan to
            an anon a new anon with such a page. In June 2000 it did not lock the anon meanwhile. The assertions of
            January 2001 want the owner of a page locked when it is given the page. The log names the page allocator,
            the anons and the fault handler; that the loans needed the same is our reading of both. One CPU is enough to
            see it.
        """),
        findings=("lock-assert",),
        scenarios=("S3m",),
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
            A page of a file is clean if the file on disk has the same. If it is on loan to an anon, and the file lets
            go of it, the anon adopts it; and an anon's page may be clean only if the anon's swap slot has the same. A
            comment in uvm_pagefree() says so, and the mark is cleared there. But when the loan is broken by a write,
            uvm_fault() puts a copy in the file in the page's place, and leaves the old page as it is. An anon adopts
            it, it is clean, and there is no slot. The pagedaemon panics, or without that check frees the page, and what
            the borrower had is lost. That uvm_fault() forgets what uvm_pagefree() sees to is a fact of the sources;
            what comes of it is our inference. Here the mark is cleared in both places.
        """),
        findings=("panic",),
        scenarios=("E56",),
    ),
    Erratum(
        id="uvm_unloanpage.loaned-left-off-queues",
        name="E26",
        sentence="A page that the kernel gives back is on no queue if it is still on loan to an anon.",
        status=Status.LOGGED,
        source=("NetBSD CVS log, uvm_loan.c 1.39, 2002-07-14",),
        story=story("""
            A page can be on loan to an anon and to the kernel at once. While the kernel has it, it must stay in memory
            and is on no queue. When the last loan to the kernel was dropped it was put on a queue if it was not on loan
            at all any more; if an anon still had it, it was forgotten, and could never be paged out or reclaimed before
            that anon gave it back too. The log says that pages on loan to anons can be paged out just fine: first to
            the object, and then once more to swap. In the kernel of 2002 a loan took the page off its queue; in that of
            2001, as here, it wires the page, and the erratum leaves it off when the wiring ends.
        """),
        findings=("invariant",),
        scenarios=("E26",),
    ),
    Erratum(
        id="uvm_unloanpage.owner-unlocked",
        name="E26b",
        sentence="The kernel gives a borrowed page back without locking the page's owner.",
        status=Status.IN_SOURCE,
        source=(
            "NetBSD uvm_loan.c: only the page queues are locked in 1.22 (June 2000); the owner's lock is tried first "
            "in 1.39 (2002-07-14)",
        ),
        story=story("""
            The rule in the source is that a page's loan count is read with the owner or the page queues locked, and
            changed with both. uvm_unloanpage() locked the page queues only, since the borrower does not know the owner.
            A process writes to its page while it is on loan: uvm_fault(), with the anon locked, sees the loan and makes
            a copy to write to. Meanwhile the kernel, on another CPU, gives the page back, and being the last borrower
            finds that the page has an owner, who will see to it. Now uvm_fault() disowns the page, for the kernel to
            free when it is done with it. Nobody does; it stays on a queue, without an owner, until the pagedaemon meets
            it. The repair tries the owner's lock, and starts over if it cannot be had. The rule and the missing lock
            are in the sources, the interleaving is our inference.
        """),
        findings=("data-race", "invariant"),
        scenarios=("E26b", "E26b-shipped"),
    ),
    Erratum(
        id="uvm_fault.loaned-neighbour-writable",
        name="E51",
        sentence="A fault maps an object's page in the neighbourhood writable although it is on loan.",
        status=Status.IN_SOURCE,
        source=(
            "NetBSD uvm_fault.c 1.47 (February 2000): anons' neighbours on loan are passed over, objects' are mapped "
            "as the mapping allows",
        ),
        story=story("""
            To prevent further faults uvm_fault() maps what is resident next to the faulting page. Pages of anons that
            are on loan are passed over there; pages of objects are mapped with the protection of the mapping, whether
            they are on loan or not. So a program that has a file mapped writable gets a writable translation of a page
            that the kernel has borrowed, only by touching the page beside it. What it then writes takes no fault, and
            breaks no loan: the borrower, who was promised the page as it was, sees the new contents. The missing look
            is in the source, and in later versions such a page is mapped read-only; what came of it is our inference.
        """),
        findings=("oracle",),
        scenarios=("E51",),
    ),
    Erratum(
        id="uvm_loanuobj.offset-forgotten",
        name="E52",
        sentence="A loan of an object's page forgets where in the object the map entry begins.",
        status=Status.IN_SOURCE,
        source=("NetBSD uvm_loan.c 1.22 (June 2000): va - ufi->entry->start; later versions add ufi->entry->offset",),
        story=story("""
            uvm_loanuobj() asks an object for the page at an address of a map entry. It computed the page's offset from
            the beginning of the entry, and did not add the offset in the object at which the entry begins. For a
            mapping from the beginning of a file that comes to the same. For any other one the kernel borrows a page
            from nearer to the beginning of the file: what a program writes to a pipe would come out as something else.
            Later versions add the offset. One CPU is enough to see it.
        """),
        findings=("oracle",),
        scenarios=("E52",),
    ),
    Erratum(
        id="uvm_loanentry.object-locked-too-early",
        name="E53",
        sentence="A loan of an anon's page may sleep with the object behind it locked, and leave it locked.",
        status=Status.IN_SOURCE,
        source=(
            "NetBSD uvm_loan.c 1.22 (June 2000): uvm_loanentry() locks the object at its beginning; later versions "
            "lock it for a page of its own only",
        ),
        story=story("""
            uvm_loanentry() lends the pages of one map entry. Each may be an anon's or the object's, and so it locked
            both layers first. For an anon's page that is in swap uvmfault_anonget() unlocks the map, the amap and the
            anon, and sleeps until the page has been read; it has no way to know of the object, which stays locked.
            Whoever wants the object spins meanwhile. If the read fails, or the map has changed by then, everything is
            said to be unlocked: uvm_loan() looks the entry up again, and locks the object that it has locked. That the
            object was locked is in the source, the interleavings are our inference.
        """),
        findings=("held-across-sleep", "spin-forever"),
        scenarios=("E53", "E53-shipped"),
    ),
    Erratum(
        id="uvm_loanuobj.dying-anon-revived",
        name="E54",
        sentence="A loan to an anon takes a reference to an anon that is just being freed.",
        status=Status.IN_SOURCE,
        source=(
            "NetBSD uvm_loan.c 1.22 (June 2000): the anon at a page gets one more reference without a look at those "
            "that it has",
        ),
        story=story("""
            If a page of an object is on loan to an anon already, a second loan is only a second reference to that anon.
            uvm_loanuobj() finds the anon at the page, with the object locked. But an anon's last reference is dropped
            with only the anon locked: uvm_unloananon() unlocks it again, and then calls uvm_anfree(), which has to wait
            for the object to give the page back. In between uvm_loanuobj() takes its reference, and hands out an anon
            that is on the free list a moment later. The window is in the source; that anybody fell into it is our
            inference. Here such an anon is left alone until it is gone.
        """),
        findings=("kassert", "invariant"),
        scenarios=("E54", "E54-shipped"),
    ),
    Erratum(
        id="uvm_fault.loan-broken-wiring-stays",
        name="E55",
        sentence="When a write breaks the loan of a wired page, the wiring stays with the page that is given up.",
        status=Status.IN_SOURCE,
        source=(
            "NetBSD uvm_fault.c 1.47 (February 2000); a comment in uvm_loan.c 1.22 (June 2000) warns that "
            "write-protecting loaned pages could have an unexpected effect on wired ones",
        ),
        story=story("""
            Memory that a program has locked takes no fault, or so it is meant to be. But lending a page write-protects
            it, and a write to it then is a fault: uvm_fault() puts a new page in its place, a copy, and leaves the old
            one to the borrower. What mlock() had counted in the old page stayed there, so that it was wired for ever;
            and munlock() finds the new one, whose wirings it takes one from. There is none: in a 16-bit counter that
            makes 65535 of them, and this page is never paged out again either. The old source warns of unexpected
            effects on wired pages; which ones is our inference. Here the wiring moves to the new page.
        """),
        findings=("kassert", "invariant"),
        scenarios=("E55", "E55-shipped"),
    ),
    Erratum(
        id="uvm_pageadopt.queue-kept",
        name="E59",
        sentence="An inactive page that an anon adopts from an object stays on the inactive queue of objects' pages.",
        status=Status.IN_SOURCE,
        source=(
            "NetBSD uvm_anon.c 1.5, 2000-01-11: uvm_anon_lockloanpg()",
            "NetBSD uvm_pdaemon.c 1.19, 1999-11-04: the page_inactive_obj and page_inactive_swp loops",
        ),
        story=story("""
            Until 2001 there were two inactive queues: page_inactive_swp for pages that go to swap, page_inactive_obj
            for those of files. uvm_pageactivate(), uvm_pagewire() and uvm_pagefree() ask the page's PQ_SWAPBACKED
            bits which of the two it is on. A page of a file that is on loan to an anon can lose its file, when that
            is truncated or forgotten; then the anon adopts it: uvm_anon_lockloanpg() and the pagedaemon's loops set
            PQ_ANON, and leave the page where it is. If it is inactive it is on page_inactive_obj, and says
            page_inactive_swp of itself. The next to take it off removes it from the wrong queue: TAILQ_REMOVE of its
            last element sets the tail pointer of the other queue's head, and what is inserted next is lost from the
            queue that it was meant for. One inactive queue, as of 2001, ends it. The source has the lines; that
            nobody saw it happen is likely, as loans to anons had no users in NetBSD.
        """),
        findings=("invariant",),
        scenarios=("E59",),
    ),
)
