"""Errata of swap space: swapctl, pages in transit to swap."""

from __future__ import annotations

from shared.errata.erratum import Erratum, Status, story

CATALOGUE = (
    Erratum(
        id="anon_swap_off.anon-unlocked",
        name="S3j",
        sentence="When a swap device goes, anons are looked at and brought in without being locked.",
        status=Status.HYPOTHETICAL,
        source=("NetBSD CVS log, uvm_anon.c, 2001-01-23 (committed with uvm_amap.c 1.28)",),
        story=story("""
            When swapctl(2) removes a swap device, anon_swap_off() goes through all anons there are, whoever has them,
            and hands each one that has a slot on the device to anon_pagein(), locked. It must be locked before its slot
            is looked at, since these anons are reached by their addresses alone: an anon may be on its way to the free
            list or back, and the lock is all that keeps it what it is. Its page's flags are under that lock too:
            without it a bit that says that somebody waits for the page is lost, and he waits for ever. Since January
            2001 anon_pagein() asserts the lock. The assertion is from the change log; a caller that does not take it,
            and what comes of it, are our assumption.
        """),
        findings=("lock-assert", "lost-wakeup", "use-after-free"),
        scenarios=("S3j", "S3j-shipped", "S3j-freed"),
    ),
    Erratum(
        id="uvmfault_anonget.swapoff-trusts-anon",
        name="E23a",
        sentence="After a sleep swapoff goes on with an anon that may have been freed meanwhile.",
        status=Status.IN_SOURCE,
        source=(
            "NetBSD uvm_anon.c and uvm_fault.c of 2000 and 2001; uvm_amap.c 1.107 (2012) has AMAP_SWAPOFF, which makes "
            "whoever frees an amap leave that to the swapoff that is at it",
        ),
        story=story("""
            swapoff brings in what is on the device with uvmfault_anonget(), as a fault does. If an anon's page is busy,
            both unlock what they have, sleep, and lock the anon again. A fault has a map to tell it whether the anon is
            still where it was. swapoff has nothing. If the page was on its way to swap and its last user unmapped it in
            the meantime, whoever finished the write has freed page and anon. An anon on the free list has, where its
            page was, the link to the next free one, so that swapoff takes an anon for a page; and if it is in use
            again, another process's page loses its swap slot, or a slot is freed that the anon does not have. When
            NetBSD later changed the walk to go by amaps instead of anons, the same mistake was possible one level
            higher, and a flag, AMAP_SWAPOFF, guards against it: that is how we know of it. That it was possible in the
            walk of 2001, which this kernel has, is our reading of the source. Here swapoff, having slept, trusts
            nothing: it goes back to the address, and asks again whether an anon there has a slot on the device.
        """),
        findings=("use-after-free",),
        scenarios=("E23",),
    ),
    Erratum(
        id="swap_off.slots-in-transit",
        name="E23b",
        sentence="swapoff panics if a swap slot is in use that no anon has, though the pagedaemon is about to use it.",
        status=Status.IN_SOURCE,
        source=("NetBSD uvm_swap.c 1.34 (February 2000): swap_off()",),
        story=story("""
            When all anons have been brought in from a swap device, the only slots of it that are in use should be bad
            ones, and swapoff panicked if that was not so. But the pagedaemon allocates a run of slots before it has
            chosen the pages for them, and after a write that failed the anons have given up their slots a moment before
            these are free. If it had got its slots just before the device was disabled, they are in use and on
            nobody's account; or the pages get them after swapoff has looked at their anons. The panic is in the source;
            that it can come about in this way is our reading. Here swapoff waits: for the page queues' lock,
            under which the pagedaemon gathers its pages, and then for slots that are about to be freed.
        """),
        findings=("panic",),
        scenarios=("E23-panic",),
    ),
    Erratum(
        id="uvm_anfree.wanted-not-woken",
        name="E23c",
        sentence="Whoever has begun to wait for a released page is not woken when the page is freed.",
        status=Status.IN_SOURCE,
        source=("NetBSD uvm_anon.c 1.5 (February 2000): uvm_anfree()",),
        story=story("""
            A busy page whose anon is given up is marked RELEASED, and is freed by whoever has it busy. That one clears
            BUSY, wakes who waits for the page, and unlocks the anon, because uvm_anfree() wants it unlocked. Until
            uvm_anfree() has freed the page it is there, RELEASED and not busy. Nobody who comes by an amap can see it,
            as it is in none. swapoff comes by the anon's address. uvmfault_anonget() treats a released page as a busy
            one: it sets WANTED and sleeps. The page is freed, and the wakeup has been. swapctl(2) never returns,
            and keeps out every other one. We found this by search in this kernel; the source of 2000 has the same
            steps. Here uvm_anfree() wakes who wants the page.
        """),
        findings=("lost-wakeup",),
        scenarios=("E23-sleeper",),
    ),
    Erratum(
        id="uvm_anfree.waits-for-busy-page",
        name="E10a",
        sentence="uvm_anfree() sleeps until a page is no longer busy, while its caller holds an amap locked.",
        status=Status.LOGGED,
        source=("NetBSD CVS log, uvm_anon.c, on PG_RELEASED for anon pages (PR 23171, 2003)",),
        story=story("""
            A page that is on its way to swap is busy, and cannot be freed before the I/O is done. UVM of 2000 only
            marks it, RELEASED, and leaves it to whoever has it busy. For a time NetBSD did without that mark for the
            pages of anons, and uvm_anfree() waited. But its callers may hold an amap locked, as the log says when the
            mark comes back, and a spinning lock must not be held across a sleep. A second thread of the process that
            runs on the same CPU in the meantime and touches memory of the same amap spins for that lock; the kernel is
            not preemptive, the first thread is ready to run and never gets the CPU, and it is all over. With LOCKDEBUG
            the kernel says so when the first thread falls asleep. That the machine hangs in this way is our inference.
        """),
        findings=("held-across-sleep", "spin-forever"),
        scenarios=("E10", "E10-shipped"),
    ),
    Erratum(
        id="uvm_anfree.busy-page-freed",
        name="E10b",
        sentence="uvm_anfree() frees a page that is being written to swap.",
        status=Status.HYPOTHETICAL,
        source=("NetBSD CVS log, uvm_anon.c, on PG_RELEASED for anon pages (PR 23171, 2003)",),
        story=story("""
            uvm_anfree() can be called for a page that the pagedaemon has busy and is writing to swap. If it just frees
            it, the device reads from a page that may be somebody else's by now, into a swap slot that may be somebody
            else's too. When the write is done the pagedaemon un-busies a page that is free, or marks the new owner's
            page as clean, and its contents are lost. The log tells why uvm_anfree() cannot wait for such a page and
            that it has to mark it; an uvm_anfree() that does neither is our assumption, and shows what the mark is for.
        """),
        findings=("use-after-free",),
        scenarios=("E10-freed",),
    ),
    Erratum(
        id="uvm_pager_dropcluster.anon-not-released",
        name="E10c",
        sentence="When a pageout is done, a page that was released meanwhile is only made no longer busy.",
        status=Status.INFERRED,
        source=("NetBSD CVS log, uvm_anon.c and uvm_pager.c, on PG_RELEASED for anon pages (PR 23171, 2003)",),
        story=story("""
            uvm_anfree() marks a busy page as RELEASED and leaves page and anon to whoever has it busy. The completion
            of a pageout is one of these. The log of 2003 says that it must not just un-busy the pages, as it did, but
            release those that are marked. Without that nobody ever frees them: the anon is in no amap, and has a page
            and a swap slot until the machine is rebooted. An interleaving that does this is any in which a process
            exits while the pagedaemon writes one of its pages.
        """),
        findings=("invariant",),
        scenarios=("E10-leak",),
    ),
    Erratum(
        id="anon_pagein.wired-page-deactivated",
        name="E27",
        sentence="When a swap device goes, pages that come back from it are deactivated even if they are wired.",
        status=Status.IN_SOURCE,
        source=("NetBSD uvm_anon.c: no check in 1.5 (February 2000), one in later versions of the same function",),
        story=story("""
            anon_pagein() brings an anon's page in from a swap device that is about to go, frees its slot, and
            deactivates the page, to put it on a queue. The page may be in memory already, and wired. mlock() drops the
            swap slot of what it wires, so that swapoff does not come by such a page; but a page that is lent to the
            kernel is wired as well, and keeps its slot. uvm_pagedeactivate() has an assertion for callers who did not
            look, and panics. The later code leaves wired pages where they are, on no queue. That a loan is how one
            comes there is our inference.
        """),
        findings=("panic",),
        scenarios=("E27",),
    ),
)
