"""A machine whose disk does wrong with files: what the repaired kernel makes of it, whatever the schedule."""

from __future__ import annotations

from typing import Any

import pytest

from cluster.boot import prepare
from cluster.search import make
from cluster.sim.engine import Sim
from shared.scenario.load import load_scenario
from shared.scenario.model import named_results

FILES = """\
id: files
name: files
title: Two processes, a file, and too little memory
story: None of its own.
source: ["a test"]
machine: {cpus: 2, frames: 14, swap_slots: 24, disk: 4, disk_errors: ERRORS}
setup:
  - file: {as: F, pages: 4, words: [1, 2, 3, 4]}
  - process: {as: A, cpu: 0}
  - mmap: {in: A, as: map, pages: 4, file: F, flags: [shared]}
  - process: {as: B, cpu: 1}
  - mmap: {in: B, as: hog, pages: 8}
programs:
  A:
    - write: {at: "map[0]", value: 11, into: w0}
    - write: {at: "map[1]", value: 12, into: w1}
    - read: {at: "map[2]", into: r2}
    - msync: {at: "map[0]", pages: 4, flags: [sync], into: sync}
    - read: {at: "map[3]", into: r3}
    - read: {at: "map[0]", into: r0}
    - fread: {at: "F[1]", into: f1}
    - uncache: {file: F}
    - munmap: {at: "map[0]", pages: 4, into: unmapped}
    - fread: {at: "F[0]", into: f0}
  B:
    - write: {at: "hog[0]", value: 1}
    - write: {at: "hog[1]", value: 1}
    - write: {at: "hog[2]", value: 1}
    - write: {at: "hog[3]", value: 1}
    - write: {at: "hog[4]", value: 1}
    - write: {at: "hog[5]", value: 1}
    - write: {at: "hog[6]", value: 1}
    - write: {at: "hog[7]", value: 1}
    - read: {at: "hog[0]", into: h0}
expect:
  fixed: {finding: none}
bound: {strategy: random, schedules: 60}
"""
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
    scene = load_scenario(FILES.replace("ERRORS", errors), "files.yaml")
    machine, image = prepare(scene)
    sim = Sim(machine, image)
    faults = machine.nodes["disk"].faults
    struck = [0] * len(faults.faults)
    for strategy in (make("random", 0, 3), make("pct", 0, 3)):
        for _ in range(12):
            assert sim.execute(strategy) is None, sim.finding
            results = named_results({name: one.results for name, one in machine.threads.items()})
            for name, value in {"sync": 0, **GOOD}.items():
                assert results[name] in unlike.get(name, [value]), (name, results)
            struck = [before + now for before, now in zip(struck, faults.struck, strict=True)]
    assert all(struck), struck
