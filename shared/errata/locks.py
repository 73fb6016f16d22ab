"""Errata of locking: what is locked, and by whom, in the fault handler and in amaps."""

from __future__ import annotations

from shared.errata.erratum import Erratum, Status, story

CATALOGUE = (
    Erratum(
        id="amap_cow_now.nanon-freed-locked",
        name="S3a",
        sentence="amap_cow_now() finds no free page, locks its new anon instead of unlocking it, and frees it.",
        status=Status.LOGGED,
        source=(
            "NetBSD CVS log, uvm_amap.c 1.28, 2001-01-23",
            "OpenBSD's copy of uvm_amap.c 1.27 has the lines; 1.22 (February 2000) does not have the lock yet",
        ),
        story=story("""
            When a process with wired memory forks, amap_cow_now() copies each wired page for the child at once. For
            each page it takes a new anon from the free list, and then a page. If there is no page, it gives the anon
            back, and the fork waits for memory. The code never locked the new anon while it filled it. On the error
            path it locked the anon where it meant to unlock it, and called uvm_anfree() with the lock held and one
            reference left. The free list is last in, first out: the next uvm_analloc(), on any CPU, returns this
            anon. The fault that locks it spins, with its map and amap locked, and others queue up for those. No
            second CPU in the kernel is needed; mlockall(2) and a fork while memory is short are. Dan Carosone
            reported a hang of an i386 MP kernel that ran cdrecord; that it came about in this way is our inference. A
            uniprocessor kernel has no such locks. The repair locks the new anon at once, and unlocks it before
            uvm_anfree(). The assertion in uvm_anfree() that found the defect came with the same change.
        """),
    ),
    Erratum(
        id="uvm_fault.case1b-anon-unlocked",
        name="S3b",
        sentence="Case 1B of uvm_fault() fills a new anon without holding its lock.",
        status=Status.LOGGED,
        source=("NetBSD CVS log, uvm_fault.c, 2001-01-23 (committed with uvm_amap.c 1.28)",),
        story=story("""
            A process writes to a page that is shared copy on write. uvm_fault(), in case 1B, allocates an anon and a
            page, copies, and puts the anon into the amap. It did not lock the new anon, in the belief that only the
            locked amap leads to it. There are other ways: the pagedaemon comes from a page on a queue to its anon,
            and swapctl(8) walks over all anons. The same change put the assertion into uvm_pagealloc_strat() that the
            owner of a new page is locked; it fails at once, on one CPU. We know of no order in which this case does
            harm: it is done with the page's flags before the page is on a queue, and anon_swap_off() skips an anon
            without a swap slot. A search over 4,000 schedules with swapctl(8) on another CPU found none. The repair
            locks the new anon at once and unlocks it together with the old one.
        """),
    ),
    Erratum(
        id="uvm_fault.case2-anon-unlocked",
        name="S3c",
        sentence="Case 2 of uvm_fault() fills the anon of a zero-filled or promoted page without holding its lock.",
        status=Status.LOGGED,
        source=("NetBSD CVS log, uvm_fault.c, 2001-01-23 (committed with uvm_amap.c 1.28)",),
        story=story("""
            The first write to anonymous memory, and a write to a private mapping of a file, take a new anon too. As
            in case 1B, uvm_fault() did not lock it. In this case it activates the page first, and then clears BUSY,
            FAKE and WANTED: it reads the page's flags, masks them, and writes them back. Between the read and the
            write the pagedaemon may lock the anon, on another CPU, and read the flags in uvmpd_scan(). This is a data
            race, and we can show no more: the pagedaemon leaves BUSY pages alone, and anon_swap_off() skips an anon
            without a swap slot. The repair locks the new anon, and passes it to uvmfault_unlockall(), which unlocks
            it.
        """),
    ),
    Erratum(
        id="uvm_fault.anon-freed-with-ref",
        name="S3d",
        sentence="uvm_fault() finds no free page, and frees its new anon while the reference count is still 1.",
        status=Status.IN_SOURCE,
        source=(
            "NetBSD uvm_fault.c 1.47 (February 2000): uvm_anfree() right after uvm_analloc()",
            "NetBSD CVS log, uvm_anon.c and uvm_fault.c, 2001-01-23 (committed with uvm_amap.c 1.28): the assertion",
        ),
        story=story("""
            uvm_analloc() returns an anon with one reference. If there is no page for it, cases 1B and 2B of
            uvm_fault() passed the anon to uvm_anfree() as it was, with this reference. By itself that does no harm,
            since the next uvm_analloc() sets the count anew. But no check can tell such an anon from an anon that is
            freed while it is still referenced. Since January 2001 uvm_anfree() asserts that the count is 0, and
            its callers drop the reference first.
        """),
    ),
    Erratum(
        id="amap_copy.unused-amap-unlocked",
        name="S3f",
        sentence="amap_copy() frees an amap that it no longer needs without locking it.",
        status=Status.IN_SOURCE,
        source=(
            "NetBSD uvm_amap.c 1.22 (February 2000) and 1.28 (2001-01-23): amap_copy() calls amap_free() unlocked",
            "NetBSD CVS log, uvm_amap.c 1.28, 2001-01-23: the assertion in amap_free()",
        ),
        story=story("""
            amap_copy() reads the reference count of the amap to be copied without its lock. If the count is more than
            one, it allocates a new amap, locks the old one, and reads again: the other references may be gone by now.
            Then it keeps the old amap, and frees the new one, which no other thread has seen. amap_free() ends by
            unlocking the amap. It was not locked, so this releases a lock that is not held. The change of January
            2001 added an assertion to amap_free() that the amap is locked, and missed this caller in the same file:
            revision 1.28 fails its own assertion. On a kernel without LOCKDEBUG the defect harms nothing, since the
            lock is gone together with its amap.
        """),
    ),
    Erratum(
        id="uvmspace_fork.shared-amap-unlocked",
        name="S3g",
        sentence="uvmspace_fork() write-protects the pages of a shared amap without holding the amap's lock.",
        status=Status.HYPOTHETICAL,
        source=(
            "NetBSD CVS log, uvm_amap.c 1.28, 2001-01-23: the assertion in amap_share_protect()",
            "NetBSD uvm_amap.c 1.22 (February 2000): amap_share_protect() is defined, and nothing calls it",
        ),
        story=story("""
            A hypothetical defect: amap_share_protect() had no caller in the UVM of 2000 and was removed later. Here
            uvmspace_fork() is one. When a process forks, and the child is to get a copy of memory that the parent
            shares with others, amap_share_protect() write-protects the pages in every process that maps them. It
            walks over the amap's slots, for which map and amap must be locked; since January 2001 it asserts the
            latter. The map's lock keeps out only threads of the parent. With the amap unlocked, another process that
            shares it can fault in a new page: the walk reads the list of used slots and its length while amap_add()
            writes them.
        """),
    ),
    Erratum(
        id="amap_unref.amap-unlocked",
        name="S3h",
        sentence="amap_unref() counts down, and wipes the amap out, without holding the amap's lock.",
        status=Status.HYPOTHETICAL,
        source=(
            "NetBSD CVS log, uvm_amap.c 1.28, 2001-01-23: the assertion in amap_wipeout()",
            "NetBSD uvm_amap_i.h 1.14 (February 2000): amap_unref() locks the amap first",
        ),
        story=story("""
            A hypothetical defect: amap_unref() did lock the amap (uvm_amap_i.h 1.14, February 2000). If the reference
            is the last one, it passes the locked amap to amap_wipeout(), which since January 2001 asserts the lock.
            The lock makes reading and writing the count one step. Without it two children that exit at once, each on
            its own CPU, both read three and both store two. When the parent exits, it believes that one of them is
            still there, and no thread frees the amap and its memory. Or one process frees the amap while another one
            still uses it.
        """),
    ),
    Erratum(
        id="uvm_fault.case1-old-anon-unlocked",
        name="S3i",
        sentence="Case 1 of uvm_fault() brings an anon's page in without holding the anon's lock.",
        status=Status.HYPOTHETICAL,
        source=(
            "NetBSD CVS log, uvm_fault.c, 2001-01-23: the assertion in uvmfault_anonget()",
            "NetBSD uvm_fault.c 1.47 (February 2000): uvm_fault() locks the anon before uvmfault_anonget()",
        ),
        story=story("""
            A hypothetical defect: uvm_fault() did lock the anon (uvm_fault.c 1.47, February 2000). uvmfault_anonget()
            is passed a locked anon, and since January 2001 asserts so. It looks for the anon's page; if there is
            none, it allocates one and reads it from swap. The amap is locked too, but after a fork two amaps have the
            same anon. Without the anon's lock two processes on two CPUs both find no page, both allocate one, and
            each stores its own in the anon. One of the pages belongs to an anon that does not know of it, and a
            process that waits for this page may wait without end. uvmfault_anonget() also releases the anon's lock
            before it sleeps, which may be another process's.
        """),
    ),
    Erratum(
        id="amap_cow_now.returns-amap-locked",
        name="E1",
        sentence="amap_cow_now() returns with the child's amap locked.",
        status=Status.IN_SOURCE,
        source=("NetBSD uvm_amap.c: no unlock after the loop in 1.22 (February 2000), one in 1.28 (2001-01-23)",),
        story=story("""
            amap_cow_now() locks the amap of the child's map entry and walks over its slots. When all wired pages were
            copied, it returned without unlocking the amap. The fork continues, and the child runs. The child's first
            fault asks for the amap's lock, which no thread will release, and spins. A uniprocessor kernel has no
            such locks, and works. The repair is one line, an unlock after the loop.
        """),
    ),
    Erratum(
        id="amap_cow_now.restart-own-copy",
        name="E2",
        sentence="After a wait for memory amap_cow_now() takes its own paged-out copy for a lost wired page.",
        status=Status.IN_SOURCE,
        source=(
            "NetBSD uvm_amap.c: panics on any non-resident page in 1.22 (February 2000) and 1.28 (2001-01-23); "
            "a comment and a check against it in 1.107 (2012)",
        ),
        story=story("""
            If there is no page for a copy, amap_cow_now() unlocks the amap, waits for memory, and starts over at the
            first slot. The copies that it has made are ordinary pages of the child, which has nothing wired yet.
            While amap_cow_now() waits, the pagedaemon may write them to swap and free them. Starting over, it met
            such an anon without a page, took it for a wired page that was lost, and panicked. Only anons with more
            than one reference belong to the parent and must be resident; a copy has one reference. The repair looks
            at the count before it insists on a page.
        """),
    ),
    Erratum(
        id="uvmfault_anonget.caller-unlocks-again",
        name="E3",
        sentence="When uvmfault_anonget() fails, its caller unlocks an anon that is unlocked already.",
        status=Status.IN_SOURCE,
        source=("NetBSD uvm_fault.c: unlocked twice in 1.47 (February 2000), once in 1.51 (2000-08-06)",),
        story=story("""
            uvmfault_anonget() reads an anon's page from swap, and unlocks everything meanwhile. If the map has
            changed by then, it unlocks the anon and tells uvm_fault() to start over. uvm_fault() unlocked the anon
            once more before it did. If another CPU locked the anon between the two, uvm_fault() releases that CPU's
            lock, and two CPUs use the anon; if not, the kernel unlocks a lock that is not held. The repair is a
            contract: on failure uvmfault_anonget() has unlocked everything. The effect on a kernel without
            LOCKDEBUG is our inference: two processes copy one page at the same time, and the original is left with no
            reference and no owner.
        """),
    ),
)
