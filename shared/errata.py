"""The catalogue of historical defects that a scenario can switch on.

An *erratum* is a defect that NetBSD's UVM really had, kept in the kernel beside
the code that repaired it:

    if erratum("amap_cow_now.nanon-freed-locked"):
        ...the lines as they were
    else:
        ...the lines as they are

Off unless named. Its id is where it sits and what it does, in the kernel's
words. Each entry can be read by itself: what the code did, which interleaving
that allowed, what a user saw, and what the repair was. Where the history gives
only the repair and not the mechanism, the story says that the mechanism is ours.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from shared.errors import FINDINGS, UserMistake


@dataclass(frozen=True, slots=True)
class Erratum:
    """One historical defect.

    Attributes:
        id: as given to `erratum()` in the kernel, in `errata:` and on the command line.
        row: its short name in this catalogue; scenarios are called after it.
        sentence: the defect in one sentence.
        source: file, revision and date from which it is known.
        story: what the code did, the interleaving, the symptom, the repair.
        findings: kinds of finding by which it shows.
        scenarios: ids of the scenarios that switch it on.
    """

    id: str
    row: str
    sentence: str
    source: tuple[str, ...]
    story: str
    findings: tuple[str, ...]
    scenarios: tuple[str, ...] = ()

    @property
    def detectors(self) -> tuple[str, ...]:
        """The detectors that report those findings."""
        return tuple(dict.fromkeys(FINDINGS[kind] for kind in self.findings))


def _story(text: str) -> str:
    return " ".join(text.split())


_CATALOGUE = (
    Erratum(
        id="uvm_swap_put.sync-answers-pending",
        row="S1a",
        sentence="A pageout that was done synchronously is answered as if it had only been started.",
        source=("NetBSD CVS log, uvm_pager.h 1.21, 2001-03-10",),
        story=_story("""
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
        row="S1b",
        sentence="An answer that means that a pageout was started is taken to mean that it is done.",
        source=("NetBSD CVS log, uvm_pager.h 1.21, 2001-03-10",),
        story=_story("""
            In the old codes 0 was VM_PAGER_OK: done, the caller cleans up. In the new ones 0 from an asynchronous
            request means that it was started, and its completion cleans up. A caller that still reads it the old
            way un-busies the pages of the cluster and marks them clean while they are being written; then the
            completion does so again. In between a program may write to such a page, or the pagedaemon may free it
            as clean. When the completion comes the page is not busy, and perhaps not the same page any more: it
            clears the modified attribute and marks clean what the program has just written, and when memory is
            short next time that write is thrown away. Each cluster must be cleaned up exactly once.
        """),
        findings=("kassert", "use-after-free", "invariant"),
        scenarios=("S1b", "S1b-shipped"),
    ),
    Erratum(
        id="uvm_aio_aiodone.old-result-codes",
        row="S1c",
        sentence="A pager's errno is compared with a code of the old namespace, in which 5 is not EIO but AGAIN.",
        source=("NetBSD CVS log, uvm_pager.h 1.21, 2001-03-10",),
        story=_story("""
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
        row="S1d",
        sentence="If a page is released while it is read from swap, an error of that read is forgotten.",
        source=(
            "NetBSD uvm_fault.c: a released page is looked for before an error in 1.47 (February 2000) "
            "and for years after",
        ),
        story=_story("""
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
        id="amap_cow_now.nanon-freed-locked",
        row="S3a",
        sentence="amap_cow_now() locks its new anon, instead of unlocking it, before it frees it for want of a page.",
        source=("NetBSD CVS log, uvm_amap.c 1.28, 2001-01-23",),
        story=_story("""
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
        row="S3b",
        sentence="Case 1B of uvm_fault() fills a new anon without holding its lock.",
        source=("NetBSD CVS log, uvm_fault.c, 2001-01-23 (committed with uvm_amap.c 1.28)",),
        story=_story("""
            Writing to a page that is shared copy-on-write, uvm_fault() allocates a new anon and a page, copies, and
            puts the anon into the amap. It did all this without the new anon's lock, on the ground that nobody can
            reach the anon except through the amap, which is locked. But there are other ways: from a page on a
            paging queue to its anon, as the pagedaemon comes, and along the list of all anons, as swapoff does. The
            assertion that the same change put into uvm_pagealloc_strat(), that the owner is locked, fails at once, on
            one CPU. This case is done with the page's flags before the page is on a queue, so that, without
            swapoff, we know of no order in which it does harm; its twin, case 2, is not so lucky. The repair locks
            the new anon right after allocating it and unlocks it together with the old one.
        """),
        findings=("lock-assert",),
        scenarios=("S3b",),
    ),
    Erratum(
        id="uvm_fault.case2-anon-unlocked",
        row="S3c",
        sentence="Case 2 of uvm_fault() fills the anon of a zero-filled or promoted page without holding its lock.",
        source=("NetBSD CVS log, uvm_fault.c, 2001-01-23 (committed with uvm_amap.c 1.28)",),
        story=_story("""
            The first write to anonymous memory, and a write to a private mapping of an object, take a new anon too.
            Here as in case 1B its lock was not held. The fault activates the page, then clears BUSY, FAKE and WANTED
            by reading the flags word, masking it and writing it back. Between the read and the write the pagedaemon
            on another CPU may take the anon's free lock and change the word, and one of the two changes is lost. That
            a sleeper's WANTED bit can be lost in this way is our inference; the window is narrow, since the daemon
            leaves BUSY pages alone. The repair locks the new anon, and hands it to uvmfault_unlockall() to unlock
            (NULL if the fault was no promotion).
        """),
        findings=("lock-assert", "data-race"),
        scenarios=("S3c", "S3c-race"),
    ),
    Erratum(
        id="uvm_fault.anon-freed-with-ref",
        row="S3d",
        sentence="uvm_fault() frees a new anon, for want of a page, while its reference count is still 1.",
        source=("NetBSD CVS log, uvm_anon.c and uvm_fault.c, 2001-01-23 (committed with uvm_amap.c 1.28)",),
        story=_story("""
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
        id="amap_cow_now.returns-amap-locked",
        row="E1",
        sentence="amap_cow_now() returns with the child's amap locked.",
        source=("NetBSD uvm_amap.c: no unlock after the loop in 1.22 (February 2000), one in 1.28 (2001-01-23)",),
        story=_story("""
            amap_cow_now() locks the amap of the child's entry and walks its slots. When it had copied them all it
            returned without unlocking. The fork goes on and the child is made runnable. The child's first fault wants
            the amap's lock, which the parent's CPU took and nobody will ever release, and spins for ever. With one CPU
            the lock does not exist and all is well. The repair is one line: unlock after the loop.
        """),
        findings=("held-at-exit", "spin-forever"),
        scenarios=("E1",),
    ),
    Erratum(
        id="amap_cow_now.restart-own-copy",
        row="E2",
        sentence="After waiting for memory amap_cow_now() takes its own, paged-out copy for a lost wired page.",
        source=(
            "NetBSD uvm_amap.c: panics on any non-resident page in 1.22 (February 2000) and 1.28 (2001-01-23); "
            "a comment and a check against it in 1.107 (2012)",
        ),
        story=_story("""
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
        row="E3",
        sentence="When uvmfault_anonget() fails its caller unlocks an anon that it has already unlocked.",
        source=("NetBSD uvm_fault.c: unlocked twice in 1.47 (February 2000), once in 1.51 (2000-08-06)",),
        story=_story("""
            uvmfault_anonget() brings an anon's page in from swap, with everything unlocked meanwhile. If the map has
            changed by then it unlocks the anon and tells uvm_fault() to start over. uvm_fault() unlocked the anon once
            more before it did. If another CPU took the lock between the two, it is that CPU's lock that is
            released, and two CPUs are inside; if not, the kernel has unlocked a lock that nobody holds. The repair
            states a contract, on failure everything is unlocked by uvmfault_anonget(), and keeps to it.
        """),
        findings=("lock-not-held",),
    ),
    Erratum(
        id="uvmpd_scan_inactive.modified-before-unmap",
        row="S2",
        sentence="The pagedaemon asks whether a page was modified before it removes the page's mappings.",
        source=("NetBSD CVS log, uvm_pdaemon.c, January 2001 (the change that follows 1.28)",),
        story=_story("""
            Since January 2001 an inactive page keeps its mappings, so a program may write to it while the pagedaemon
            considers freeing it. The order is then everything: remove all mappings first, and then, if the page is
            marked clean, ask whether it was modified. Asked the other way round, the answer can be "no", another CPU
            can write through the mapping that is still there, and the page is freed as clean with the write in it.
            The program later reads back what swap had: its own store is gone. The change log gives the right order;
            this erratum is the wrong one.
        """),
        findings=("oracle", "invariant"),
    ),
    Erratum(
        id="uvm_pageout.paging-after-start",
        row="E13",
        sentence="Pages in flight to swap are counted only after their I/O was started.",
        source=("NetBSD uvm_pdaemon.c: counted after the start in 1.19 (February 2000), before in 1.39 (2001-09-30)",),
        story=_story("""
            The pagedaemon hands a cluster to the pager and then adds its pages to uvmexp.paging. The completion
            subtracts them; and nothing keeps it from coming first, as a comment in the old source admits. Until the
            addition the count of pages in flight is too low, or negative, and whoever decides by it decides wrongly:
            the scan whether it has done enough, the daemon whether to wake those who wait. The repair counts
            first and starts the I/O afterwards.
        """),
        findings=("invariant",),
    ),
)

#: every erratum by its id, in catalogue order
ERRATA: dict[str, Erratum] = {one.id: one for one in _CATALOGUE}


def lookup(name: str) -> Erratum:
    """The erratum with this id.

    Raises: UserMistake - there is none; names those that look like it.
    """
    found = ERRATA.get(name)
    if found is not None:
        return found
    by_row = {one.row.lower(): one.id for one in _CATALOGUE}
    close = difflib.get_close_matches(name, ERRATA, n=3, cutoff=0.5)
    if name.lower() in by_row:
        close = [by_row[name.lower()]]
    shown = name if len(name) <= 60 else name[:56] + " ..."
    hint = f"; did you mean {' or '.join(close)}?" if close else "; `uvmp errata` lists them"
    raise UserMistake(f"there is no erratum {shown!r}{hint}")
