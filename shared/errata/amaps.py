"""Errata of amaps and their per-page reference counts."""

from __future__ import annotations

from shared.errata.erratum import Erratum, story

CATALOGUE = (
    Erratum(
        id="amap_wiperange.stop-is-no-slot",
        name="E4",
        sentence="When part of an amap is given up, anons in its upper slots are kept though nobody refers to them.",
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
)
