"""A machine whose disk does wrong with files: what the repaired kernel makes of it, whatever the schedule."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from cluster.search import make
from tests.kit import answers, scene

SETUP = """
file: {as: F, pages: 4, words: [1, 2, 3, 4]}
process: {as: A, cpu: 0}
mmap: {in: A, as: map, pages: 4, file: F, flags: [shared]}
process: {as: B, cpu: 1}
mmap: {in: B, as: hog, pages: 8}
"""
A = """
write: {at: "map[0]", value: 11, into: w0}
write: {at: "map[1]", value: 12, into: w1}
read: {at: "map[2]", into: r2}
msync: {at: "map[0]", pages: 4, flags: [sync], into: sync}
read: {at: "map[3]", into: r3}
read: {at: "map[0]", into: r0}
fread: {at: "F[1]", into: f1}
uncache: {file: F}
munmap: {at: "map[0]", pages: 4, into: unmapped}
fread: {at: "F[0]", into: f0}
"""
B = "\n".join(f'write: {{at: "hog[{page}]", value: 1}}' for page in range(8)) + '\nread: {at: "hog[0]", into: h0}'
GOOD = {"w0": 0, "w1": 0, "r2": 3, "r3": 4, "r0": 11, "f1": 12, "f0": 11, "unmapped": 0, "h0": 1}


@pytest.mark.parametrize(
    ("errors", "unlike"),
    [
        ("[{op: put, first: 1, count: 2, error: EAGAIN, at: start}]", {"sync": [0, "EIO"]}),
        ("[{op: put, first: 1, count: 2, error: EAGAIN}]", {"sync": [0, "EIO"]}),
        ("[{op: put, first: 1, count: 1, error: EIO, at: start}]", {"sync": [0, "EIO"]}),
        ("[{op: put, first: 1, count: 1, error: EIO}]", {"sync": [0, "EIO"]}),
        ("[{op: get, first: 1, count: 2, error: EAGAIN}]", {"f1": [12, "EAGAIN"], "f0": [11, "EAGAIN"], "sync": [0]}),
        ("[{op: get, block: 2, error: EIO}]", {"r2": ["SIGBUS"], "sync": [0]}),
        ("[{op: put, block: 1, error: EIO, maybe: true}]", {"sync": [0, "EIO"], "f1": [12, 2], "f0": [11, 1]}),
        ("[{op: get, block: 2, error: EIO, maybe: true}]", {"r2": [3, "SIGBUS"], "sync": [0, "EIO"]}),
        # what cannot be written stays in memory, as long as somebody uses the file
        ("[{op: put, block: 0, error: EIO}]", {"sync": ["EIO"], "f0": [1]}),
    ],
)
def test_no_schedule_makes_a_device_error_a_kernel_error(errors: str, unlike: dict[str, list[Any]]) -> None:
    machine = f"cpus: 2, frames: 14, swap_slots: 24, disk: 4, disk_errors: {errors}"
    made = scene({"A": A, "B": B}, SETUP, machine)
    struck: Counter[int] = Counter()
    for results, sim in answers(made, (make("random", 0, 3), 12), (make("pct", 0, 3), 12)):
        for name, value in {"sync": 0, **GOOD}.items():
            assert results[name] in unlike.get(name, [value]), (name, results)
        struck.update(dict(enumerate(sim.machine.nodes["disk"].faults.struck)))
    assert all(struck.values()) and len(struck) == errors.count("op:"), struck
