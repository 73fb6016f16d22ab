"""Errata of page loans."""

from __future__ import annotations

from shared.errata.erratum import Erratum, story

CATALOGUE = (
    Erratum(
        id="uvm_anon_lockloanpg.anon-unlocked",
        name="S3l",
        sentence="uvm_anfree() has the owner of a loaned page locked without having locked the anon.",
        source=("NetBSD CVS log, uvm_anon.c, 2001-01-23 (committed with uvm_amap.c 1.28)",),
        story=story("""
            Before an anon with a page on loan is freed, uvm_anon_lockloanpg() finds and locks who owns the page. It
            wants the anon locked; when it fails to get an object's lock it unlocks the anon for a moment and locks it
            again. uvm_anfree() called it without: nobody else could know an anon that has no reference left. The
            change of January 2001 asserts the anon's lock in uvm_anon_lockloanpg(); the log does not say where it was
            missing. That it was in uvm_anfree() is our reading: in the sources of early 2000 it is, and in later ones
            it is not. What came of it is our inference too: the anon can be reached from its page, so that the lock may
            be another's; and when the object's lock cannot be had at once, uvm_anfree() unlocks what it had not locked,
            and goes on with a lock that it does not know of.
        """),
        findings=("lock-assert",),
        scenarios=("S3l",),
    ),
    Erratum(
        id="uvm_loanzero.anon-unlocked",
        name="S3z",
        sentence="uvm_loanzero() allocates a page for an anon that it has not locked.",
        source=(
            "NetBSD CVS log, uvm_page.c, 2001-01-23 (committed with uvm_amap.c 1.28): the assertion; uvm_loan.c 1.22 "
            "(June 2000) allocates without the lock",
        ),
        story=story("""
            Memory that nobody has touched yet can be lent as well: uvm_loanzero() makes a zeroed page, or for a loan to
            an anon a new anon with such a page. In June 2000 it did not lock the anon meanwhile. The assertions of
            January 2001 want the owner of a page locked when it is given the page. The log names the page allocator,
            the anons and the fault handler; that the loans needed the same is our reading of both. One CPU is enough
            to see it.
        """),
        findings=("lock-assert",),
        scenarios=("S3z",),
    ),
    Erratum(
        id="uvm_unloanpage.owner-unlocked",
        name="E26b",
        sentence="The kernel gives a borrowed page back without locking the page's owner.",
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
        id="uvm_fault.loan-broken-wiring-stays",
        name="E46",
        sentence="When a write breaks the loan of a wired page, the wiring stays with the page that is given up.",
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
        scenarios=("E46", "E46-shipped"),
    ),
)
