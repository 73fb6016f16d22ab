"""Defects that show with the big lock of the MP kernels of 2000, and defects that were latent until it was removed.

The answer is measured: shared/errata/big_lock_table.py has the result of a search of every scenario with
`machine: {kernel_lock: big}`, and `make big-lock` renews it.

Left out: the reasons. A defect shows with the big lock if sleeps, interrupts, TLBs and the user's own accesses suffice;
it is latent if it needs two CPUs in the kernel.
"""

from __future__ import annotations

from typing import NamedTuple

from shared.errata.explained import Explained
from shared.findings import FINDINGS


class Search(NamedTuple):
    """What one scenario shows, and what a search of it, with its errata and the big lock, came to.

    Attributes:
        errata: names of those that it switches on.
        findings: kinds of finding that it expects with them.
        kind: of the finding; "results" if the scenario expects results and these came; "" if nothing was seen.
        strategy: by which it was found; "" if nothing was seen.
        schedule: number of the schedule that showed it; if nothing was seen, of all schedules searched.
    """

    errata: tuple[str, ...]
    findings: tuple[str, ...]
    kind: str
    strategy: str
    schedule: int


class BigLock(Explained):
    """How a defect shows on a machine with the big lock."""

    SEEN = "seen", "its harm is also seen with the big lock: sleeps, interrupts and TLBs suffice"
    ASSERTED = "asserted", "with the big lock only LOCKDEBUG's checks see it; its harm needs two CPUs in the kernel"
    LATENT = (
        "latent",
        "not seen with the big lock within the bound of its scenarios: latent until the big lock was removed",
    )


#: detectors that check a discipline, and see no harm
CHECKS = ("lockdebug", "lockorder", "race")


def verdict(searches: tuple[Search, ...]) -> BigLock:
    """What the searches of all its scenarios say of a defect; at least one."""
    kinds = [search.kind for search in searches if search.kind]
    if any(kind == "results" or FINDINGS[kind].detector not in CHECKS for kind in kinds):
        return BigLock.SEEN
    return BigLock.ASSERTED if kinds else BigLock.LATENT
