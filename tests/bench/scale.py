"""How a live machine's cost grows with its CPUs, on one host or on a cluster.

    python -m tests.bench.scale [--address auto] [CPUS ...]

Each CPU has the same work (forks.py). CPU time is that of the actors' processes, from /proc, so it is only complete if
all of them are on this computer.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable
from pathlib import Path
from time import perf_counter
from typing import Any

from cluster.boot import boot
from cluster.live.actors import ray_session
from cluster.live.machine import LiveMachine
from tests.bench.forks import forks

CPUS = (2, 8, 32, 64)
TICK_S = 1 / os.sysconf("SC_CLK_TCK")
RUN_LIMIT_S = 1800.0
HEAD = """\
| CPUs | actors | hosts | start of them | operations/s | CPU time of an operation | CPUs' actors | servers' actors |
|---|---|---|---|---|---|---|---|"""


def cpu_seconds(pids: Iterable[int]) -> float:
    """CPU time of these processes, as far as they are on this computer."""
    ticks = 0
    for pid in pids:
        stat = Path(f"/proc/{pid}/stat")
        if stat.exists():
            fields = stat.read_text(encoding="ascii").rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks * TICK_S


def row(ray: Any, cpus: int) -> str:
    """Boot a machine, run it once to load everything, and measure a second run."""
    scenario = forks(cpus, rounds=max(1, 16 // cpus))
    boot(scenario)
    began = perf_counter()
    machine = LiveMachine(ray, scenario, transport="leases")
    started_s = perf_counter() - began
    try:
        here = machine.actors.here
        processors = [there.pid for name, there in here.items() if name.startswith("cpu")]
        servers = [there.pid for name, there in here.items() if not name.startswith("cpu")]
        machine.run(seed=0, run_limit_s=RUN_LIMIT_S)
        before = cpu_seconds(processors), cpu_seconds(servers)
        run = machine.run(seed=1, run_limit_s=RUN_LIMIT_S)
        assert run.finding is None, run.finding
        spent = [
            1e6 * (cpu_seconds(pids) - then) / run.operations
            for pids, then in zip((processors, servers), before, strict=True)
        ]
        hosts = len({there.node for there in here.values()})
        return (
            f"| {cpus} | {len(here)} | {hosts} | {started_s:.0f} s | {run.operations / run.seconds:,.0f} "
            f"| {sum(spent):.0f} us | {spent[0]:.0f} us | {spent[1]:.0f} us |"
        )
    finally:
        machine.close()


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("cpus", type=int, nargs="*", default=CPUS)
    parser.add_argument("--address")
    asked = parser.parse_args()
    print(HEAD, flush=True)
    with ray_session(asked.address) as ray:
        for cpus in asked.cpus:
            print(row(ray, cpus), flush=True)


if __name__ == "__main__":
    main()
