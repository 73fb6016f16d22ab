"""Errata of maps and their locks, and of what nodes have in common."""

from __future__ import annotations

from shared.errata.erratum import Erratum, Status, story

CATALOGUE = (
    Erratum(
        id="uvm_fault_unwire.map-unlocked",
        name="S7",
        sentence="uvm_fault_unwire() walks the map without its lock.",
        status=Status.INFERRED,
        source=("NetBSD CVS log, uvm_fault.c, June 1999: uvm_fault_unwire_locked()",),
        story=story("""
            When a raw transfer is over, uvm_vsunlock() unwires the buffer with uvm_fault_unwire(), which looked at
            the map without locking it. While it is at a map entry, another thread of the process unmaps what lies
            next to the buffer in that same entry: the entry is clipped and, being the part that goes, freed.
            uvm_fault_unwire() reads on in it. The change made uvm_fault_unwire_locked() out of the body, for
            callers that have the map locked, and a wrapper that read-locks it. That the entry lookup, which the
            repair of S6 needs, is why the lock was needed is our inference, as is the interleaving.
        """),
        findings=("lock-assert", "use-after-free", "panic"),
        scenarios=("S7", "S7-shipped"),
    ),
    Erratum(
        id="uvm_swap_init.device-with-old-codes",
        name="S4",
        sentence="A swap device built with an old table of result codes works beside a kernel with the new one.",
        status=Status.HYPOTHETICAL,
        source=(
            "NetBSD CVS log, uvm_fault.h 1.14, uvm_pager.h and others, 26 and 27 June 2000: headers cleaned up",
            "NetBSD CVS log, uvm_pager.h 1.21, 2001-03-10: the codes",
        ),
        story=story("""
            In two days of June 2000 the headers of the VM system were put in order: definitions moved from one to
            another, some headers went. Nothing was to change at run time, and nothing did, as long as everything
            was compiled again. What was not would go on with the constants and layouts that it knew. Nine months
            later the pagers' result codes became errnos, and of these 5, which had meant "try again", means EIO. A
            swap device with the old table answers a shortage that will pass with 5; the kernel takes it for a hard
            error and marks good slots bad. A hard error it answers with 4, which is EINTR now. That an object file
            was left over is our assumption; the logs only tell of the changes. The repair is ours too: each node of
            the machine reports a digest of its tables at start, and with a mismatch the machine does not boot.
        """),
        findings=("table-mismatch", "invariant"),
        scenarios=("S4", "S4-shipped"),
    ),
    Erratum(
        id="uvm_fault.intrsafe-looked-up",
        name="S8a",
        sentence="A fault on an interrupt-safe map's memory looks the map up and takes its lock, even in an interrupt.",
        status=Status.LOGGED,
        source=("NetBSD CVS log, uvm_fault_i.h 1.9, 1999-06-04",),
        story=story("""
            The memory that malloc() and the network code allocate lies in maps that interrupts use as well:
            kmem_map and mb_map. Their lock spins, and whoever holds it has raised the interrupt priority level, so
            that no interrupt that allocates can come in between. A fault is another matter. An interrupt of a
            higher level that touches a bad kmem address takes a fault wherever it comes; uvm_fault() looked the
            address up, descended from kernel_map into kmem_map and asked for the lock that the interrupted CPU
            holds in malloc(). That CPU waits for itself: "locking against myself" under LOCKDEBUG, a hang
            otherwise, where the kernel should have panicked with the bad address, or told whoever was prepared for
            it. Since nothing in such a map may fault, the repair keeps a list of these maps, under a lock of its
            own at splhigh, and refuses a fault on one of them before any other lock is taken. The log tells of
            locking problems without the interleaving, which is ours.
        """),
        findings=("locking-against-myself", "spin-forever"),
        scenarios=("S8a", "S8a-shipped"),
    ),
    Erratum(
        id="uvm_fault.intrsafe-list-unused",
        name="S8b",
        sentence="A fault on memory of an interrupt-safe map asks for a read lock, which such a map has not got.",
        status=Status.HYPOTHETICAL,
        source=("NetBSD CVS log, uvm_fault_i.h 1.9, 1999-06-04", "NetBSD uvm_map.h of 2000: the assertion"),
        story=story("""
            The same missing look at the list as S8a, without any interrupt: the kernel reads memory that it has
            freed. uvm_fault() finds the submap in kernel_map and read-locks it. But an interrupt-safe map has only
            its interlock, which spins and is exclusive; with DIAGNOSTIC vm_map_lock_read() panics, "intrsafe map".
            So the message is about the map's lock, and the address that somebody should not have used is not in it.
            With the list the fault fails at once, and the trap says where. That the assertion alone was there for a
            while is our assumption.
        """),
        findings=("panic",),
        scenarios=("S8b",),
    ),
    Erratum(
        id="uvmfault_relock.checks-parent-version",
        name="S12a",
        sentence="After a sleep a fault compares the version of the parent map, while it was a submap that changed.",
        status=Status.HYPOTHETICAL,
        source=("NetBSD CVS log, uvm_fault.c 1.19, uvm_map.c 1.34 and others, 1999-01-24: share maps are gone",),
        story=story("""
            A fault that has slept may go on with the map entry it had only if the map has not changed meanwhile.
            While there were share maps two maps were involved, the process's and the one below it, each with a
            version, and both had to be compared. A fault that compares only the parent's misses what happened in
            the other. Share maps went in January 1999; kernel_map with its submaps is the one place where there
            still are two levels. Here a kernel thread faults on the arguments of an exec(), which are in swap;
            another gives back the part of the same allocation that it does not need, and the map entry is clipped
            and freed. The submap's version has changed, kernel_map's has not: the fault goes on with the freed
            entry. That this mistake was ever made with a submap is our assumption; the log tells that the helpers
            became simpler. The repair compares the version of the map in which the entry was found.
        """),
        findings=("use-after-free",),
        scenarios=("S12a",),
    ),
    Erratum(
        id="uvmfault_anonget.slot-from-translated-address",
        name="S12b",
        sentence="The amap slot of a fault is computed from an address translated as if for a share map.",
        status=Status.HYPOTHETICAL,
        source=("NetBSD CVS log, uvm_fault.c 1.19, 1999-01-24: rvaddr is now orig_rvaddr",),
        story=story("""
            Below a share map memory had addresses of its own, so a fault carried two: the one that the program
            used, orig_rvaddr, and rvaddr, translated. Which of them a slot is computed from depends on the map that
            the entry is in. A submap has the same addresses as the map above it, and no translation may be made.
            Made all the same, after a swap read, when the fault wants to know whether its anon is still in its
            slot, it gives a slot that the amap has not got: panic, "amap_lookup: offset out of range". With fewer
            slots between the two it would be another page's slot. The change of January 1999 left one address. That
            a submap was the victim is our assumption.
        """),
        findings=("panic",),
        scenarios=("S12b",),
    ),
    Erratum(
        id="vm_map_lock.flags-unlocked-before-sleep",
        name="E57",
        status=Status.IN_SOURCE,
        sentence="vm_map_lock() lets go of the flags of a busy map before it sleeps, and misses the wakeup.",
        source=(
            "NetBSD vm_map.h 1.34, 1999-07-07, for uvm_map.c: vm_map_lock() with tsleep()",
            "NetBSD uvm_map.h 1.53.2.1, 2006-06-19: vm_map_lock() with ltsleep(), flags_lock is its interlock",
        ),
        story=story("""
            uvm_map_pageable(), which is mlock(2), marks the map VM_MAP_BUSY and downgrades its lock to a read lock,
            so that it can fault pages in and still go back. A writer must not queue for the lock meanwhile. So
            vm_map_lock() looks at the flags under flags_lock; if the map is busy it sets VM_MAP_WANTLOCK, unlocks
            flags_lock, and calls tsleep(&map->flags, "vmmapbsy"). Between the two, vm_map_unbusy() on another CPU
            clears both flags and calls wakeup(): nobody sleeps there yet. The writer then sleeps with nobody left to
            wake it, until another thread of the process happens to call mlock(2) again and somebody waits for that.
            ps shows "vmmapbsy". In later versions flags_lock is the interlock of the sleep. NetBSD of the time had
            hardly any processes with threads; the interleaving is ours.
        """),
        findings=("lost-wakeup",),
        scenarios=("E57",),
    ),
    Erratum(
        id="uvm_map_clean.given-up-page-stays-mapped",
        name="E50",
        sentence="A page that madvise(MADV_FREE) takes out of an amap, and that others still have, stays mapped.",
        status=Status.IN_SOURCE,
        source=("NetBSD uvm_map.c 1.69 (2000): uvm_map_clean()",),
        story=story("""
            uvm_map_clean() serves madvise(MADV_FREE): for each anon of an amap that only this map entry refers to, it
            takes the anon out with amap_unadd(), drops its reference, and frees it if that was the last one.
            uvm_anfree() removes all mappings of the page. But if another amap still refers to the anon, as a parent's
            does after a fork, nothing removes the mapping of the process that gave the page up: it goes on reading a
            page that is not its own any more. The other process is now the only one to refer to the anon, so its next
            write fault takes case 1A, and writes in place, with no copy. So a child reads what its parent writes
            after the fork. Nothing panics; no tool of the time would have shown it. The old code has the lines as
            told; that this is what comes of them is our inference. The repair, ours, removes the mapping together
            with the reference.
        """),
        findings=("oracle",),
        scenarios=("E50",),
    ),
    Erratum(
        id="uvmspace_fork.sharing-parent-needs-copy",
        name="E60",
        sentence="fork() marks the parent's entry as needing a copy although its amap is shared with other processes.",
        status=Status.IN_SOURCE,
        source=(
            "NetBSD uvm_map.c 1.69 (2000): uvmspace_fork()",
            "NetBSD uvm_map.c, later: the same lines in NetBSD 6 (2012)",
        ),
        story=story("""
            A process can share anonymous memory with another, by minherit(MAP_INHERIT_SHARE) and fork, and then go
            back to MAP_INHERIT_COPY. When it forks again, uvmspace_fork() copies the amap for the child at once,
            since it is shared, and its comment tells why: if parent and child both had the amap with "needs copy",
            the parent's next write would give it an amap of its own, and break the sharing. But a few lines below,
            where copy-on-write is set up, the same parent is write-protected and marked "needs copy" all the same. So
            its next write does what the comment warns of: it leaves the sharing, and the other process never sees
            what it writes. And only the parent's own mappings are write-protected: the other process still has its
            pages mapped writable, and the child sees what it writes after the fork. A shared mapping that is not
            copy-on-write gets the mark as well, which the next fork() finds illegal: "fork: non-copy_on_write map
            entry marked needs_copy (illegal)". All of this in one process at a time; the interleavings are ours. The
            repair, ours, leaves the parent's entry alone, and write-protects the pages in all maps that share the
            amap, which is what amap_share_protect() is for: it had no caller.
        """),
        findings=("oracle", "panic"),
        scenarios=("E60", "E60-child", "E60-panic"),
    ),
)
