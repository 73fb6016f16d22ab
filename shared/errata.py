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
            first and starts the I/O afterwards. That a completion finds its pages counted is an assertion of later
            versions; here it stands in the completion interrupt. In this kernel only the pagedaemon decides by the
            count, and not in between, so that nothing worse comes of it.
        """),
        findings=("kassert",),
        scenarios=("E13",),
    ),
    Erratum(
        id="uvmpd_tune.freemin-in-reserve",
        row="E45",
        sentence="On a small machine the pagedaemon is content with free pages that only the kernel may take.",
        source=(
            "NetBSD uvm_pdaemon.c: freemin has no lower bound but 16 KB in 1.19 (February 2000); it is above "
            "reserve_kernel in 1.39 (2001-09-30)",
        ),
        story=_story("""
            The pagedaemon's targets are computed from the size of memory: freemin is a twentieth of it, within
            bounds, and freetarg a third more. The last reserve_kernel free pages are not for programs. With little
            memory freemin and freetarg came out at or below that reserve. A program that finds just the reserve free
            gets no page; it wakes the pagedaemon and waits. The pagedaemon compares the free pages with its target,
            sees nothing amiss, and wakes the program, which tries again; and so for ever, with a machine full of
            pages that could be written to swap. That the clamp was put in for this reason is our inference. The
            repair keeps freemin above the reserve.
        """),
        findings=("no-progress", "invariant"),
        scenarios=("E45",),
    ),
    Erratum(
        id="uvm_fault.cow-entered-before-flush",
        row="E31",
        sentence="A copy-on-write fault enters the copy before the old page is out of every CPU's TLB.",
        source=(
            "OpenBSD uvm_fault.c, 2022-02-01: the old mapping is removed before the copy is entered; FreeBSD review "
            "D14347 (2018) tells the same of its own fault handler, Go issue 34988 (2019) a symptom",
        ),
        story=_story("""
            A thread writes to a page that is shared copy on write. uvm_fault() makes a copy and enters it in place of
            the original, writable, with one pmap_enter(). That replaces the translation and then tells the other CPUs
            to flush theirs; in between two pages are visible at one address. A second thread, whose CPU has nothing
            cached, already gets the copy and writes to it. A third one still reads the original, by its TLB, and
            misses a store that its fellow has completed, maybe under a lock that both of them keep to. The repair
            removes the old translation, everywhere, before it enters the new one; a thread that comes too early takes
            a fault.
        """),
        findings=("invariant", "oracle"),
        scenarios=("E31",),
    ),
    Erratum(
        id="uvm_fault_unwire.unconditional-pmap-unwire",
        row="S6",
        sentence="The end of a raw device transfer takes the wiring of the buffer's translations away from mlock().",
        source=("NetBSD CVS log, uvm_fault.c, June 1999 (reported by mail on 16 June)",),
        story=_story("""
            A program has locked a buffer with mlock() and does raw I/O to it. physio() wires the buffer once more for
            the time of the transfer, with uvm_vslock(), which counts in the pages but in no map entry. At the end
            uvm_vsunlock() undoes that: it drops one wiring of each page, of which mlock()'s remains; but it also told
            the pmap that the translation was no longer wired, without asking whether the map entry was. A pmap may
            recycle what is not wired. The page is still there, and locked, but not mapped: a touch that must not
            fault, as from an interrupt, does; and munlock() looks for the page in the pmap, finds nothing, and
            panics. The repair asks the entry, and leaves its translations alone while it is wired.
        """),
        findings=("panic",),
        scenarios=("S6", "S6-interrupt"),
    ),
    Erratum(
        id="uvm_fault_unwire.munlock-during-io",
        row="E44",
        sentence="munlock() takes the wiring of a buffer's translations away from a raw device transfer.",
        source=("NetBSD uvm_fault.c 1.47 (February 2000): uvm_fault_unwire_locked() asks only the map entry",),
        story=_story("""
            The mirror image of S6, and our reading of the code, not a report. physio() has wired a buffer for a
            transfer, and that wiring counts in the pages only. While the transfer lasts another thread calls
            munlock() on the buffer, which it had locked before. The map entry is not wired any more, so the pmap is
            told that the translations are not either, although one wiring of each page is still the transfer's. A
            pmap that recycles what is not wired lets them go, and the device's interrupt, which relies on them,
            faults. Here a translation stays wired for as long as its page does.
        """),
        findings=("panic",),
        scenarios=("E44",),
    ),
    Erratum(
        id="uvm_fault_unwire.map-unlocked",
        row="S7",
        sentence="uvm_fault_unwire() walks the map without its lock.",
        source=("NetBSD CVS log, uvm_fault.c, June 1999: uvm_fault_unwire_locked()",),
        story=_story("""
            When a raw transfer is over, uvm_vsunlock() unwires the buffer with uvm_fault_unwire(), which looked at the
            map without locking it. While it is at a map entry, another thread of the process unmaps what lies next to
            the buffer in that same entry: the entry is clipped and, being the part that goes, freed. uvm_fault_unwire()
            reads on in it. The change made uvm_fault_unwire_locked() out of the body, for callers that have the map
            locked, and a wrapper that read-locks it. That the entry lookup, which the repair of S6 needs, is why the
            lock was needed is our inference, as is the interleaving.
        """),
        findings=("lock-assert", "use-after-free", "panic"),
        scenarios=("S7", "S7-shipped"),
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
