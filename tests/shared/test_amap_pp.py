"""Per-page reference counts: the run-length encoded array against a plain list."""

from __future__ import annotations

import random

import pytest

from shared.uvm.amap import amap_alloc1, amap_lock, amap_unlock
from shared.uvm.amap_pp import amap_pp_adjref, amap_pp_establish, pp_getreflen
from shared.uvm.structs import Amap
from tests.kit import Toy

SLOTS = 7


def decode(amap: Amap) -> list[int]:
    """The counts, slot by slot."""
    counts: list[int] = []
    ppref = amap.am_ppref
    assert ppref is not None
    while len(counts) < SLOTS:
        ref, length = pp_getreflen(ppref, len(counts))
        counts += [ref] * length
    return counts


@pytest.mark.parametrize("seed", range(20))
def test_counts_are_those_of_a_plain_list(seed: int) -> None:
    """Any ranges, up and down; every count stays above zero, so nothing is wiped."""
    dice = random.Random(seed)
    done: list[int] = []

    def body() -> None:
        amap = amap_alloc1(SLOTS)
        amap_lock(amap)
        amap.am_ref = 2
        amap_pp_establish(amap)
        counts = [2] * SLOTS
        for _ in range(40):
            first = dice.randrange(SLOTS)
            length = dice.randint(1, SLOTS - first)
            by = dice.choice((1, -1))
            if min(counts[first : first + length]) + by < 1:
                by = 1
            amap_pp_adjref(amap, first, length, by)
            counts[first : first + length] = [count + by for count in counts[first : first + length]]
            assert decode(amap) == counts
        done.append(1)
        amap_unlock(amap)

    toy = Toy(lambda: None, {"A": (0, body)}, {"lockdebug": "stop"})
    assert toy.run() is None and done


def test_a_count_below_zero_is_a_panic() -> None:
    def body() -> None:
        amap = amap_alloc1(SLOTS)
        amap_lock(amap)
        amap_pp_establish(amap)
        amap_pp_adjref(amap, 1, 2, -1)
        amap_pp_adjref(amap, 2, 2, -1)

    toy = Toy(lambda: None, {"A": (0, body)})
    finding = toy.run()
    assert finding is not None and (finding.kind, finding.function) == ("panic", "amap_pp_adjref")
    assert toy.sim.dead
