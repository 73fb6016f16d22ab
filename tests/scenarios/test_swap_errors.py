"""A machine whose swap device does wrong: what the repaired kernel makes of it, whatever the schedule."""

from __future__ import annotations

from collections import Counter

import pytest

from cluster.search import make
from cluster.search.explore import explore, search
from tests.kit import answers, scenario, scene

SETUP = "\n".join(
    [
        "process: {as: A, cpu: 0}",
        "mmap: {in: A, as: buf, pages: 12}",
        "fill: {in: A, until_free: 8}",
        *(f'write: {{in: A, at: "buf[{page}]", value: {page + 1}}}' for page in range(5)),
    ]
)
CHILD = '[{read: {at: "fill[2]", into: c2}}, {write: {at: "buf[0]", value: 21}}, {read: {at: "buf[9]", into: c9}}]'
A = """
read: {at: "fill[0]", into: f0}
write: {at: "buf[5]", value: 6}
write: {at: "buf[6]", value: 7}
write: {at: "buf[7]", value: 8}
write: {at: "buf[8]", value: 9}
write: {at: "buf[9]", value: 10}
read: {at: "fill[1]", into: f1}
read: {at: "buf[0]", into: r0}
write: {at: "buf[10]", value: 11}
fork: {as: C, cpu: 1, program: CHILD}
read: {at: "fill[2]", into: f2}
munmap: {at: "fill[0]", pages: 3}
wait: {for: C}
read: {at: "buf[0]", into: again}
"""
GOOD = "f0: 1, f1: 2, f2: 3, c2: 3"
LOST = "f0: {any_of: [1, SIGBUS]}, f1: {any_of: [2, SIGBUS]}, f2: {any_of: [3, SIGBUS]}, c2: {any_of: [3, SIGBUS]}"


@pytest.mark.parametrize(
    ("faults", "reads"),
    [
        ("errors: [{op: put, first: 1, count: 2, error: EAGAIN, at: start}]", GOOD),
        ("errors: [{op: put, first: 1, count: 2, error: EAGAIN}]", GOOD),
        ("errors: [{op: put, first: 2, count: 1, error: EIO, at: start}]", GOOD),
        ("errors: [{op: put, first: 1, count: 1, error: EIO}]", GOOD),
        ("errors: [{op: put, slot: 14, error: EIO}]", GOOD),
        ("errors: [{op: get, first: 1, count: 3, error: EAGAIN}]", GOOD),
        ("errors: [{op: get, slot: 1, error: EIO}, {op: get, slot: 3, error: EIO}]", LOST),
        ("errors: [{op: put, error: EIO, maybe: true}]", GOOD),
        ("errors: [{op: put, error: EAGAIN, maybe: true}, {op: get, error: EAGAIN, maybe: true}]", GOOD),
        ("errors: [{op: get, slot: 1, error: EIO, maybe: true}, {op: get, slot: 3, error: EIO, maybe: true}]", LOST),
        ("delays: [{op: get, first: 1, count: 2, by: 2}, {op: put, by: 3}]", GOOD),
    ],
)
def test_no_schedule_makes_a_device_error_a_kernel_error(faults: str, reads: str) -> None:
    """Transient errors pass without a trace; a hard one costs slots, and data only if it is a read's."""
    made = scene(
        {"A": A.replace("CHILD", CHILD)},
        SETUP,
        f"cpus: 2, frames: 16, swap_slots: 40, freemin: 7, freetarg: 8, swap: {{{faults}}}",
        f"fixed: {{finding: none, results: {{r0: 1, again: 1, c9: 10, {reads}}}}}",
    )
    struck: Counter[int] = Counter()
    for results, sim in answers(made, (make("random", 0, 3), 30), (make("pct", 0, 3), 30)):
        assert made.expect.fixed.check(None, results) is None
        struck.update(dict(enumerate(sim.machine.swap_pager.faults.struck)))
    assert all(struck.values()) and len(struck) == faults.count("op:"), struck


@pytest.mark.parametrize("name", ["S1a", "S1b", "S1b-shipped", "S1c", "S1c-hard", "S1d", "S1d-maybe"])
def test_a_defect_is_found_and_its_repair_is_clean(name: str) -> None:
    scene = scenario(name)
    result = search(scene)
    assert result.finding is not None
    assert scene.expect.with_errata.check(result.finding, {}) is None
    clean = explore(scene.without_errata(), schedules=100)
    assert clean.finding is None
    assert all(clean.sites.get(erratum) for erratum in scene.errata), clean.sites
