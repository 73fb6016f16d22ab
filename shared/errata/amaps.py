"""Errata of amaps and their per-page reference counts."""

from __future__ import annotations

from shared.errata.erratum import Erratum, Status, story

CATALOGUE = (
    Erratum(
        id="amap_wiperange.stop-is-no-slot",
        name="E4",
        sentence="amap_wiperange() keeps anons in the upper slots of a range that is no longer referenced.",
        status=Status.IN_SOURCE,
        source=(
            "NetBSD uvm_amap.c: in 1.22 (February 2000) and 1.28 (2001-01-23); repaired in OpenBSD's copy of 1.27 and "
            "in 1.107 (2012)",
        ),
        story=story("""
            When the last reference to a range of an amap is gone, amap_wiperange() frees the anons in it. It walks
            over the slots of the range; or, if the amap has fewer slots in use than the range has, over the list of
            the slots in use. In the second case its variable "stop", which is the end of the range in the first case,
            holds the number of slots in use. To see whether a slot of the list lies in the range, amap_wiperange()
            compared the slot with "stop". So in a sparse amap a slot with a higher number seemed to lie outside, and
            kept its anon. This anon can no longer be reached, but its memory or swap slot is free only when the
            whole amap is: a program that unmaps parts of large regions grows and grows. The later code has a variable
            of its own for the end of the range.
        """),
    ),
    Erratum(
        id="amap_ref.whole-taken-for-part",
        name="E5",
        sentence="amap_ref() treats every reference as a reference to a part of the amap, and counts it twice.",
        status=Status.IN_SOURCE,
        source=("NetBSD uvm_amap_i.h 1.14 (February 2000); not in OpenBSD's copy of 1.27",),
        story=story("""
            An amap counts its references slot by slot only after a part of it has been referenced. amap_ref()
            compares the length of the map entry with that of the amap, to see whether the new reference is to a part.
            It computed the former as start minus end, which is never the length of an amap, so that the answer was
            always yes: the first fork gave every amap such counts. amap_pp_establish() begins the counts with the
            number of references, the new one included, and then the new one was added once more. Each count is one
            too high and never comes down to 0: memory that parent and child have both unmapped is kept until the
            whole amap dies. That the counts begin too often is in the source; that they are also wrong follows from
            the order of its lines.
        """),
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
            An anon in no amap was thought to be unreachable. So uvm_anfree() wants it unlocked, and
            takes only the lock of the page queues, and that only around uvm_pagefree(). But the pagedaemon comes from
            the other side: it has a page from a queue, tries the anon's lock, gets it, and continues with the page.
            uvm_anfree() has looked at the page before, found it not BUSY, and waits for the page queues. The
            pagedaemon frees the page as clean, or makes it BUSY and starts to write it. Then uvm_anfree() frees it, a
            second time or during the I/O. The symptom depends on the next user of the page; a DEBUG kernel puts
            0xdeadbeef into the fields of a free page, and traps. Later versions of uvm_anfree() hold the lock. The
            lines are in the source; the interleaving is our inference.
        """),
    ),
    Erratum(
        id="uvm_anfree.busy-page-mapped",
        name="E66",
        sentence="uvm_anfree() leaves a busy page mapped that its process no longer owns.",
        status=Status.IN_SOURCE,
        source=(
            "NetBSD uvm_anon.c 1.5, 2000-01-11: uvm_anfree() of a busy page",
            "NetBSD uvm_map.c 1.69 (2000): uvm_map_clean() removes no mapping",
        ),
        story=story("""
            uvm_anfree() removes all mappings of a page before it frees it. If the page is BUSY it only marks it
            RELEASED and returns: the thread that made it busy will call uvm_anfree() again. After munmap(2) no
            mapping is left. But after madvise(MADV_FREE) uvm_map_clean() has removed none, so the program keeps
            reading the page until the I/O is done. Then uvm_anfree() frees it, and the next read finds zeros.
            MADV_FREE allows old data or zeros, but not old data first and zeros later, without a store in between.
            The pagedaemon has write-protected the page, so a store takes a fault and is safe. The source has the
            lines; the interleaving is ours. The repaired kernel unmaps the page at once.
        """),
    ),
)
