"""The register of invariants: the class of an invariant, and the check of all invariants."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

from shared.detectors.invariants.snapshot import Check, Snapshot
from shared.findings import Finding


class Invariant(NamedTuple):
    """One invariant.

    Attributes:
        source: where UVM says it or relies on it.
    """

    id: str
    sentence: str
    source: str
    violations: Check


#: every invariant by its id
INVARIANTS: dict[str, Invariant] = {}
#: the order in which they are checked, by the first part of their ids: what comes first is nearer to the cause
ORDER = (
    "AMAP", "ANON", "PAGE", "LOAN", "OBJ", "WIRE", "COUNT", "SWAP", "MAP", "KM", "PTE", "TLB", "LOCK", "PROC", "LEAK",
)  # fmt: skip
#: those that are checked on the way, by a node or the kernel, since no final state would show them: id -> module
NODE_INVARIANTS = {"TLB-2": "nodes/mmu.py", "PAGE-7": "shared/uvm/page.py", "WIRE-5": "shared/uvm/fault_wire.py"}


def invariant(id: str, sentence: str, *, source: str) -> Callable[[Check], Check]:
    """Register a function as an invariant."""

    def register(violations: Check) -> Check:
        assert id not in INVARIANTS, f"two invariants {id}"
        INVARIANTS[id] = Invariant(id, sentence, source, violations)
        return violations

    return register


@cache
def _in_order() -> list[Invariant]:
    return sorted(INVARIANTS.values(), key=lambda invariant: ORDER.index(invariant.id.split("-")[0]))


def check(snapshot: Snapshot) -> list[Finding]:
    """Check every invariant.

    Returns: one finding per invariant that does not hold, about its first violation; the others are its story.
    """
    findings = []
    for invariant in _in_order():
        wrong = list(invariant.violations(snapshot))
        if wrong:
            text, subject = wrong[0]
            story = [more for more, _ in wrong[1:]]
            text = f"{invariant.id}: {invariant.sentence}: {text}"
            findings.append(Finding("invariant", text, subject=str(subject), story=story))
    return findings


def flag_names(flags: int, names: dict[int, str]) -> str:
    """Flags in words."""
    return "|".join(name for flag, name in names.items() if flags & flag) or "none"
