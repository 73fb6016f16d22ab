"""A workload of forks that is the same for each CPU, however many there are."""

from __future__ import annotations

from cluster.boot import prepare
from cluster.sim.engine import Sim
from shared.scenario.load import load_scenario
from shared.scenario.model import Scenario

FRAMES_PER_CPU = 256
PAGES = 6

TEXT = """\
id: forks
name: forks
title: Parents and children break copy-on-write
story: None of its own.
source: ["a benchmark"]
machine: {{cpus: {cpus}, frames: {frames}, swap_slots: 512}}
setup:
{setup}
programs:
{programs}
expect:
  fixed: {{finding: none}}
bound: {{strategy: random, schedules: 1}}
"""


def forks(cpus: int) -> Scenario:
    """Two processes on each CPU fork, write to all their pages, and wait for their children, which do the same."""
    setup, programs = [], []
    for number in range(2 * cpus):
        name = f"P{number}"
        setup += [f"process: {{as: {name}, cpu: {number % cpus}}}", f"mmap: {{in: {name}, as: buf, pages: {PAGES}}}"]
        setup += [f'write: {{in: {name}, at: "buf[{page}]", value: {page}}}' for page in range(PAGES)]
        writes = [f'write: {{at: "buf[{page}]", value: {number}}}' for page in range(PAGES)]
        child = ", ".join(f"{{{one}}}" for one in writes)
        steps = [f"fork: {{as: C{number}, cpu: {(number + 1) % cpus}, program: [{child}]}}", *writes]
        steps.append(f"wait: {{for: C{number}}}")
        programs.append(f"  {name}:\n" + "\n".join(f"    - {one}" for one in steps))
    text = TEXT.format(
        cpus=cpus,
        frames=FRAMES_PER_CPU * cpus,
        setup="\n".join(f"  - {one}" for one in setup),
        programs="\n".join(programs),
    )
    return load_scenario(text, "forks.yaml")


def engine(cpus: int) -> Sim:
    """The machine, ready to run."""
    machine, image = prepare(forks(cpus))
    return Sim(machine, image)
