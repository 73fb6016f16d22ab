"""Errata of swap space: swapctl, pages in transit to swap."""

from __future__ import annotations

from shared.errata.erratum import Erratum, Status, story

CATALOGUE = (
    Erratum(
        id="anon_swap_off.anon-unlocked",
        name="S3j",
        sentence="anon_swap_off() looks at anons, and has them brought in, without locking them.",
        status=Status.HYPOTHETICAL,
        source=(
            "NetBSD CVS log, uvm_anon.c, 2001-01-23 (committed with uvm_amap.c 1.28): the assertion in anon_pagein()",
            "NetBSD uvm_anon.c 1.5 (2000-01-11): anon_swap_off() locks the anon before it reads its slot",
        ),
        story=story("""
            A hypothetical defect: anon_swap_off() did lock each anon (uvm_anon.c 1.5, January 2000). When swapctl(8)
            removes a swap device, anon_swap_off() walks over all anons, and passes each that has a slot on the device
            to anon_pagein(), which since January 2001 asserts the anon's lock. The walk goes by address, so an anon
            may be on its way to the free list or back, and only the lock keeps it what it is. Its page's flags are
            under the same lock: without it WANTED may be lost, and swapctl(8) sleeps without end.
        """),
    ),
    Erratum(
        id="uvmfault_anonget.swapoff-trusts-anon",
        name="E23a",
        sentence="After a sleep anon_swap_off() continues with an anon that may have been freed.",
        status=Status.IN_SOURCE,
        source=(
            "NetBSD uvm_anon.c 1.5 (2000-01-11) and uvm_fault.c 1.47 (February 2000): uvmfault_anonget()",
            "NetBSD uvm_amap.c 1.107 (2012): AMAP_SWAPOFF leaves the freeing of an amap to the swapoff that uses it",
        ),
        story=story("""
            anon_swap_off() brings in what is on the device with uvmfault_anonget(), as a fault does. If an anon's
            page is BUSY, uvmfault_anonget() unlocks everything, sleeps, and locks the anon again. A fault has a map
            to tell whether the anon is still in its place. anon_swap_off() has none. If the page was on its way to
            swap, and its last user unmapped it meanwhile, the pagedaemon has freed page and anon. A free anon has the
            link to the next free one where its page was, so uvmfault_anonget() takes an anon for a page. An anon in
            use again is another process's: its page loses its swap slot. NetBSD later made the walk go by amaps, and
            added a flag, AMAP_SWAPOFF, against the same mistake there. That it was possible in the walk of 2000 is
            our reading of the source. The repaired kernel goes back to the address after each sleep, and looks again.
        """),
    ),
    Erratum(
        id="swap_off.slots-in-transit",
        name="E23b",
        sentence="swap_off() panics because of slots without an anon, although the pagedaemon is about to use them.",
        status=Status.IN_SOURCE,
        source=("NetBSD uvm_swap.c 1.34 (February 2000): swap_off()",),
        story=story("""
            When all anons have been brought in from a swap device, only bad slots of it should be in use, and
            swap_off() panicked if others were. But the pagedaemon calls uvm_swap_alloc() for a run of slots before it
            has chosen the pages for them. And after a write that failed the anons have given up their slots a moment
            before these are free. If swap_off() disables the device in between, slots are in use that no anon has.
            The panic is in the source; that it can happen in this way is our reading. In the repaired kernel
            swap_off() waits for slots that are about to be used or freed.
        """),
    ),
    Erratum(
        id="uvm_anfree.wanted-not-woken",
        name="E23c",
        sentence="uvm_anfree() frees a page without waking those who have begun to wait for it.",
        status=Status.IN_SOURCE,
        source=("NetBSD uvm_anon.c 1.5 (2000-01-11): uvm_anfree() wakes no thread",),
        story=story("""
            uvm_anfree() marks a BUSY page RELEASED, and leaves it to the thread that has made it BUSY. This thread
            clears BUSY, wakes those who wait for the page, and unlocks the anon, because uvm_anfree() wants it
            unlocked. Until uvm_anfree() has freed the page, it is RELEASED and not BUSY. No amap has its anon, but
            anon_swap_off() comes by the anon's address. uvmfault_anonget() treats a RELEASED page like a BUSY one: it
            sets WANTED and sleeps. The page is freed, and the wakeup is over: swapctl(2) never returns, and keeps
            every other one out. We found this by a search in this kernel; the source of 2000 has the same steps. The
            repaired uvm_anfree() wakes those who want the page.
        """),
    ),
    Erratum(
        id="uvm_anfree.waits-for-busy-page",
        name="E10a",
        sentence="uvm_anfree() sleeps for a BUSY page while its caller holds an amap's lock.",
        status=Status.LOGGED,
        source=("NetBSD CVS log, uvm_anon.c, on PG_RELEASED for anon pages (PR 23171, 2003)",),
        story=story("""
            A page on its way to swap is BUSY, and cannot be freed before the I/O is done. The UVM of 2000 marks it
            RELEASED, and leaves it to the thread that has made it BUSY. For some time NetBSD did without this mark
            for pages of anons, and uvm_anfree() waited. But its caller may hold the lock of an amap, as the log says
            when the mark comes back, and a simple lock must not be held across a sleep. A second thread on the same
            CPU that touches memory of this amap spins for the lock. The kernel is not preemptive: the first thread
            never gets the CPU, and the machine hangs. LOCKDEBUG reports the sleep. That machines hung in this way is
            our inference.
        """),
    ),
    Erratum(
        id="uvm_anfree.busy-page-freed",
        name="E10b",
        sentence="uvm_anfree() frees a page that is being written to swap.",
        status=Status.HYPOTHETICAL,
        source=("NetBSD CVS log, uvm_anon.c, on PG_RELEASED for anon pages (PR 23171, 2003)",),
        story=story("""
            A hypothetical defect. uvm_anfree() can be called for a page that the pagedaemon is writing to swap. Here
            it frees the page. The device reads from a page that may be another process's by now, into a swap slot
            that may be another's too. When the write is done, uvm_pager_dropcluster() clears BUSY of a page that is
            free, or marks a new owner's page clean, and its contents are lost. The log says why uvm_anfree() cannot
            wait for such a page and has to mark it. A uvm_anfree() that does neither is ours: it shows what the mark
            is for.
        """),
    ),
    Erratum(
        id="uvm_pager_dropcluster.anon-not-released",
        name="E10c",
        sentence="uvm_pager_dropcluster() clears BUSY of a page that was RELEASED, and does not free it.",
        status=Status.INFERRED,
        source=("NetBSD CVS log, uvm_anon.c and uvm_pager.c, on PG_RELEASED for anon pages (PR 23171, 2003)",),
        story=story("""
            uvm_anfree() marks a BUSY page RELEASED, and leaves page and anon to the thread that has made it BUSY. The
            completion of a pageout is one of these. The log says that the thread that clears BUSY has to look for
            RELEASED, and that uvm_aio_aiodone() now frees such pages. Without this uvm_pager_dropcluster() only
            clears BUSY, and the anon is never freed: it is in no amap, and keeps its page and its swap slot until the
            next boot. It happens whenever a process exits while the pagedaemon writes one of its pages. The log gives
            the repair together with the mark; a kernel that has the mark and not the repair is our inference.
        """),
    ),
    Erratum(
        id="anon_pagein.wired-page-deactivated",
        name="E27",
        sentence="anon_pagein() deactivates a page that comes back from swap even if the page is wired.",
        status=Status.IN_SOURCE,
        source=("NetBSD uvm_anon.c: no check in 1.5 (February 2000), one in later versions of the same function",),
        story=story("""
            anon_pagein() brings an anon's page in from a swap device that is to be removed, frees its slot, and
            deactivates the page, to put it on a queue. The page may be in memory already, and wired. mlock(2) frees
            the swap slots of what it wires, so anon_swap_off() does not meet such pages. But a page that is on loan
            to the kernel is wired too, and keeps its slot. uvm_pagedeactivate() panics for a wired page. The later
            code leaves wired pages where they are, on no queue. That a loan leads there is our inference.
        """),
    ),
)
