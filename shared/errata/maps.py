"""Errata of maps and their locks, and of what nodes have in common."""

from __future__ import annotations

from shared.errata.erratum import Erratum, Status, story

CATALOGUE = (
    Erratum(
        id="uvm_fault_unwire.map-unlocked",
        name="S7",
        sentence="uvm_fault_unwire() unwires a buffer without the map's lock.",
        status=Status.INFERRED,
        source=("NetBSD CVS log, uvm_fault.c, June 1999: uvm_fault_unwire_locked()",),
        story=story("""
            After a raw transfer uvm_vsunlock() unwires the buffer with uvm_fault_unwire(), which did not lock the
            map. The change of June 1999 made uvm_fault_unwire_locked() out of its body, for callers that have the map
            locked, and a wrapper that read-locks it. The log says that a later change needs the lock. We infer that
            this is the look at the map entries that repaired S6. Without the lock another thread can unmap what lies
            next to the buffer, in the same map entry: the entry is cut in two, and the part that goes is freed.
            uvm_fault_unwire_locked() reads on in it. In the order of the logs the lock came before that look: a
            kernel with the look and without the lock is our combination, as is the interleaving.
        """),
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
            A hypothetical defect. In two days of June 2000 the headers of the VM system were put in order:
            definitions moved, and some headers went. Nothing changed at run time, as long as everything was compiled
            again. An object file that was left over would use the constants and layouts that it knew. Nine months
            later the pagers' result codes became errnos, and 5, which had meant "try again", is EIO. A swap device
            with the old codes answers a shortage that will pass with 5. The kernel takes it for a hard error, and
            uvm_swap_markbad() marks good slots bad. That an object file was left over is ours; the logs tell only of
            the changes. So is the repair: each node of the machine reports a digest of its tables at start, and a
            machine with a mismatch does not boot.
        """),
    ),
    Erratum(
        id="uvm_fault.intrsafe-looked-up",
        name="S8a",
        sentence="uvm_fault() looks up an interrupt-safe map and takes its lock, even in an interrupt.",
        status=Status.LOGGED,
        source=("NetBSD CVS log, uvm_fault_i.h 1.9, 1999-06-04",),
        story=story("""
            The memory that malloc() and the network code allocate lies in kmem_map and mb_map, which interrupts use
            as well. The lock of such a map spins, and its holder raises the interrupt priority level, so that no
            interrupt that allocates can come in between. An interrupt of a higher level that touches a bad address of
            the map still takes a fault. uvm_fault() looked the address up, went down from kernel_map to kmem_map, and
            asked for the lock that the interrupted CPU holds in malloc(). That CPU waits for itself: "locking against
            myself" with LOCKDEBUG, and a hang without. The kernel should have panicked with the bad address, or
            returned to code that was prepared for the fault. The repair keeps a list of these maps, and refuses a
            fault on one of them before it takes any other lock. The log tells of a locking problem; the interleaving
            is ours.
        """),
    ),
    Erratum(
        id="uvm_fault.intrsafe-list-unused",
        name="S8b",
        sentence="uvm_fault() asks for a read lock of an interrupt-safe map, which has no read lock.",
        status=Status.HYPOTHETICAL,
        source=("NetBSD CVS log, uvm_fault_i.h 1.9, 1999-06-04", "NetBSD uvm_map.h of 2000: the assertion"),
        story=story("""
            A hypothetical defect. It is S8a without an interrupt: the kernel reads memory of kmem_map that it has
            freed. uvmfault_lookup() finds kmem_map below kernel_map and asks for a read lock. But an interrupt-safe
            map has only a lock that spins and is exclusive; with DIAGNOSTIC vm_map_lock_read() panics. The panic is
            about the lock, and does not name the bad address. With the list of interrupt-safe maps uvm_fault() fails
            at once, and the trap reports the address. We do not know that there was a kernel that had the assertion
            and not the list.
        """),
    ),
    Erratum(
        id="uvmfault_relock.checks-parent-version",
        name="S12a",
        sentence="uvmfault_relock() compares the version of the upper map, while the submap below it has changed.",
        status=Status.HYPOTHETICAL,
        source=("NetBSD CVS log, uvm_fault.c 1.19, uvm_map.c 1.34 and others, 1999-01-24: share maps are gone",),
        story=story("""
            A hypothetical defect. A fault that has slept may use its map entry only if the map has not changed
            meanwhile. While there were share maps, two maps were involved, the process's and the share map below, and
            uvmfault_relock() had to compare two versions. A fault that compares only the upper map's version misses
            what happened in the lower one. Share maps went in January 1999; kernel_map with its submaps is what is
            left with two levels. Here a kernel thread faults on the arguments of an exec(), which are in swap.
            Another thread gives back a part of the same allocation, so the map entry is cut and freed. The submap's
            version has changed, kernel_map's has not, and uvmfault_anonget() continues with the freed entry. The log
            tells only that the helpers became simpler. The repaired kernel compares the version of the map that has
            the entry.
        """),
    ),
    Erratum(
        id="uvmfault_anonget.slot-from-translated-address",
        name="S12b",
        sentence="uvmfault_anonget() computes the amap slot from an address translated as if for a share map.",
        status=Status.HYPOTHETICAL,
        source=("NetBSD CVS log, uvm_fault.c 1.19, 1999-01-24: rvaddr is now orig_rvaddr",),
        story=story("""
            A hypothetical defect. Below a share map memory had addresses of its own, so a fault carried two:
            orig_rvaddr, which the program used, and rvaddr, which was translated. A submap has the same addresses as
            the map above it and needs no translation. Here uvmfault_anonget() uses the translated address
            nevertheless, after a swap read, to check whether the anon is still in its slot. The amap has no such
            slot: panic. With other sizes it would be another page's slot. The change of January 1999 left one
            address. We do not know that a submap was ever translated.
        """),
    ),
    Erratum(
        id="vm_map_lock.flags-unlocked-before-sleep",
        name="E57",
        sentence="vm_map_lock() unlocks the flags of a busy map before it sleeps, and misses the wakeup.",
        status=Status.IN_SOURCE,
        source=(
            "NetBSD vm_map.h 1.34, 1999-07-07, for uvm_map.c: vm_map_lock() with tsleep()",
            "NetBSD uvm_map.h 1.53.2.1, 2006-06-19: vm_map_lock() with ltsleep(), flags_lock is its interlock",
        ),
        story=story("""
            uvm_map_pageable(), which serves mlock(2), marks the map VM_MAP_BUSY and downgrades its lock to a read
            lock. So it can fault pages in and return to a write lock, and no writer may queue for the lock meanwhile.
            vm_map_lock() reads the flags under flags_lock. If the map is busy it sets VM_MAP_WANTLOCK, unlocks
            flags_lock, and calls tsleep(), with "vmmapbsy". Between these two steps vm_map_unbusy(), on another CPU,
            clears both flags and calls wakeup(): no thread sleeps yet. The writer then sleeps, and only a further
            mlock(2) of the process can wake it. In later versions flags_lock is the interlock of the sleep. NetBSD of
            2000 had hardly any processes with threads; the interleaving is our inference.
        """),
    ),
    Erratum(
        id="uvm_map_clean.given-up-page-stays-mapped",
        name="E50",
        sentence="uvm_map_clean() leaves a page mapped that its process no longer owns and others still own.",
        status=Status.IN_SOURCE,
        source=("NetBSD uvm_map.c 1.69 (2000): uvm_map_clean()",),
        story=story("""
            uvm_map_clean() serves madvise(MADV_FREE). For each anon of an amap that only this map entry refers to, it
            takes the anon out with amap_unadd(), drops its reference, and frees it if that was the last reference.
            uvm_anfree() removes all mappings of the page. But if another amap refers to the anon, as a parent's does
            after a fork, nothing removes the mapping of the process that gave the page up: it keeps reading a page
            that belongs to another process. This process now has the only reference to the anon, so its next write is
            case 1A of uvm_fault(), without a copy. So a child reads what its parent writes after the fork. Nothing
            panics. The old code has these lines; the consequence is our inference. The repaired kernel removes
            the mapping together with the reference.
        """),
    ),
    Erratum(
        id="uvmspace_fork.sharing-parent-needs-copy",
        name="E60",
        sentence='uvmspace_fork() marks the parent\'s entry "needs copy" although its amap is shared.',
        status=Status.IN_SOURCE,
        source=(
            "NetBSD uvm_map.c 1.69 (2000): uvmspace_fork()",
            "NetBSD uvm_map.c, later: the same lines in NetBSD 6 (2012)",
        ),
        story=story("""
            A process shares anonymous memory with another by minherit(2) and fork(2), sets the inheritance back to
            MAP_INHERIT_COPY, and forks again. uvmspace_fork() copies the shared amap for the child at once. Its
            comment says why: if parent and child both had the amap with "needs copy", the parent's next write would
            give it an amap of its own, and end the sharing. But a few lines below it marks the same parent "needs
            copy". So the parent's next write ends the sharing. Only the parent's own mappings are write-protected, so
            the child sees what the other process writes after the fork. And a shared mapping that is not copy on
            write gets the mark too, at which the next fork panics. One process at a time is enough. The repaired
            kernel leaves the parent's entry alone, and write-protects the pages in all maps that share the amap.
            amap_share_protect() was made for this, and had no caller.
        """),
    ),
    Erratum(
        id="uvm_unmap_remove.stale-hint",
        name="E63",
        sentence="uvm_unmap_remove() unwires an entry, and so makes it the map's hint, before it frees it.",
        status=Status.IN_SOURCE,
        source=("NetBSD uvm_map.c 1.69 (2000): uvm_unmap_remove(), uvm_map_entry_unwire()",),
        story=story("""
            A map remembers where its last lookup ended, in its hint. uvm_unmap_remove() moves the hint away from the
            entries that it is going to free, and its comment calls that critical. But if such an entry is wired it
            then calls uvm_map_entry_unwire(), which calls uvm_fault_unwire_locked(), which looks the entry up:
            uvm_map_lookup_entry() makes it the hint again. The entry is taken out of the map, and freed by
            uvm_unmap_detach(). The next lookup in this map begins at freed memory. Most often it still looks like an
            entry, so that a fault finds what was unmapped. The old source has the lines; the consequence is our
            inference. Later versions move the hint once more after the unwiring, as the repaired kernel does.
        """),
    ),
)
