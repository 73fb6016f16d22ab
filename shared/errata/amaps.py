"""Errata of amaps and their per-page reference counts."""

from __future__ import annotations

from shared.errata.erratum import Erratum, Status, story

CATALOGUE = (
    Erratum(
        id="amap_wiperange.stop-is-no-slot",
        name="E4",
        sentence="When part of an amap is given up, anons in its upper slots are kept though nobody refers to them.",
        status=Status.IN_SOURCE,
        source=(
            "NetBSD uvm_amap.c: in 1.22 (February 2000) and 1.28 (2001-01-23); repaired in OpenBSD's copy of 1.27 and "
            "in 1.107 (2012)",
        ),
        story=story("""
            When a range of an amap loses its last reference, amap_wiperange() frees the anons in it. It goes through
            the slots of the range, or, if the whole amap has no more slots in use than that, through the list of
            those in use; then it ends with the number of slots in use, in a variable that is otherwise the last slot
            of the range. To see whether a slot from the list is within the range it compared with that variable, a
            number of slots where it meant a slot. So in a sparse amap a used slot with a number above that was held
            for one outside the range, and stayed. Nobody can reach its anon any more, but its memory, or its swap
            slot, is free only when the whole amap dies; a program that unmaps parts of large regions grows and grows.
            The later code has a variable of its own for the end of the range. It also stopped going on to the next
            place of the list when the last element had just been moved into this one; as far as we can see that
            alone did no harm, since what was moved stayed in its old place too, and was found there.
        """),
        findings=("invariant",),
        scenarios=("E4",),
    ),
    Erratum(
        id="amap_ref.whole-taken-for-part",
        name="E5",
        sentence="amap_ref() takes every reference for one to part of the amap, and counts it twice.",
        status=Status.IN_SOURCE,
        source=("NetBSD uvm_amap_i.h 1.14 (February 2000); not in OpenBSD's copy of 1.27",),
        story=story("""
            An amap counts references slot by slot only once somebody refers to part of it. amap_ref() wants to know
            whether that is so now, and compares the number of pages of the map entry with that of the amap. It computed
            the former as start minus end, which is never a number of pages, so that the answer was always yes: with the
            first fork every amap had such counts. They begin with the number of references, in which the new one is
            included by then; and then the new one is added for the range that it is to. So each slot's count is one too
            high for ever and does not come down to zero. Memory that parent and child have both unmapped is kept until
            nobody has any part of the amap. That the counts are made too often is in the source; that they are wrong as
            well is our reading of the order of the lines.
        """),
        findings=("invariant",),
        scenarios=("E5",),
    ),
    Erratum(
        id="uvm_anfree.page-freed-unlocked",
        name="E58",
        sentence="uvm_anfree() looks at its anon's page, and frees it, without the anon's lock.",
        status=Status.IN_SOURCE,
        source=(
            "NetBSD uvm_anon.c 1.5, 2000-01-11: uvm_anfree()",
            "NetBSD uvm_pdaemon.c 1.19, 1999-11-04: uvmpd_scan_inactive()",
        ),
        story=story("""
            An anon that is in no amap any more was thought to be out of everybody's reach, so uvm_anfree() wants it
            unlocked and takes no lock but that of the page queues, and that only around uvm_pagefree(). But the
            pagedaemon comes the other way: it has a page from a queue, takes the anon's lock by simple_lock_try(),
            which succeeds, and goes on with the page. uvm_anfree() has looked at the page before, found it not busy,
            and waits for the page queues. The pagedaemon frees the page as clean, or makes it busy and starts to
            write it; then uvm_anfree() frees it, for the second time, or under the I/O. What is seen depends on who
            takes the page from the free list next; DEBUG kernels put 0xdeadbeef into the fields of a free page and
            trap. Later versions of uvm_anfree() hold the lock. Code of the period has the lines; the interleaving is
            ours.
        """),
        findings=("data-race", "use-after-free"),
        scenarios=("E58", "E58-shipped"),
    ),
)
