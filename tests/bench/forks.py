"""A workload of forks that is the same for each CPU, however many there are."""

from __future__ import annotations

from cluster.boot import prepare
from cluster.sim.engine import Sim
from shared.scenario.model import Scenario
from tests.kit import scene

FRAMES_PER_CPU = 256
PAGES = 6


def forks(cpus: int, rounds: int = 1, machine: str = "", work_of: int = 0) -> Scenario:
    """Two processes on each CPU fork, write to all their pages, and wait for their children, which do the same.

    Args:
        rounds: how often they do that.
        machine: further keys of the machine.
        work_of: as many processes and frames as for so many CPUs; 0: as for those that it has.
    """
    setup, programs = [], {}
    work_of = work_of or cpus
    for number in range(2 * work_of):
        name = f"P{number}"
        setup += [f"process: {{as: {name}, cpu: {number % cpus}}}", f"mmap: {{in: {name}, as: buf, pages: {PAGES}}}"]
        setup += [f'write: {{in: {name}, at: "buf[{page}]", value: {page}}}' for page in range(PAGES)]
        writes = [f'write: {{at: "buf[{page}]", value: {number}}}' for page in range(PAGES)]
        program = ", ".join(f"{{{write}}}" for write in writes)
        steps = []
        for turn in range(rounds):
            child = f"C{number}n{turn}"
            steps += [f"fork: {{as: {child}, cpu: {(number + 1) % cpus}, program: [{program}]}}", *writes]
            steps.append(f"wait: {{for: {child}}}")
        programs[name] = "\n".join(steps)
    size = f"cpus: {cpus}, frames: {FRAMES_PER_CPU * work_of}, swap_slots: 512"
    return scene(programs, "\n".join(setup), ", ".join(filter(None, (size, machine))))


def engine(cpus: int, rounds: int = 1, work_of: int = 0) -> Sim:
    """The machine, ready to run; the arguments are those of `forks`."""
    machine, image = prepare(forks(cpus, rounds, work_of=work_of))
    return Sim(machine, image)
