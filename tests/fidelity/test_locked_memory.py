"""WIRE-4 and WIRE-5: what a wired mapping must allow, asked at rest and when memory is unlocked."""

from __future__ import annotations

import pytest

from cluster.search.explore import search
from shared.findings import Finding
from tests.kit import scene

LASTS = {
    "pause": "pause: {}",
    "munlock": 'munlock: {at: "map[0]", pages: 1}',
    "munmap": 'munmap: {at: "map[0]", pages: 1}',
    "exit": "exit: {}",
}


def run(last: str, more: str = "") -> Finding | None:
    program = f"""write: {{at: "map[0]", value: 2}}
                  msync: {{at: "map[0]", pages: 1, flags: [sync]}}
                  {LASTS[last]}"""
    setup = """file: {as: F, pages: 1, words: [1]}
               process: {as: A, cpu: 0}
               mmap: {in: A, as: map, pages: 1, file: F, flags: [shared]}
               mlock: {in: A, at: "map[0]", pages: 1}"""
    return search(scene({"A": program}, setup, "cpus: 1, frames: 24, swap_slots: 16, disk: 4", more=more)).finding


@pytest.mark.parametrize("last", LASTS)
def test_a_sound_kernel_leaves_locked_memory_as_it_is(last: str) -> None:
    assert run(last) is None


@pytest.mark.parametrize("last", LASTS)
def test_a_flush_that_write_protects_locked_memory_is_told_of(last: str) -> None:
    """As UVM's did. At rest; or, if the process has unlocked it, or has gone, when that happened."""
    finding = run(last, more="errata: [E64]")
    assert finding is not None and finding.kind == "invariant"
    if last == "pause":
        assert "WIRE-4" in finding.text and finding.subject.startswith("entry:")
    else:
        assert "WIRE-5" in finding.text and finding.subject.startswith("page:")
        assert finding.function == "uvm_fault_unwire_locked" and finding.context == "A"
