"""How a live machine's cost grows with its CPUs, and with the hosts that they are on.

    python -m tests.bench.scale [CPUS ...]
    python -m tests.bench.scale --hosts 2 4 8

Each CPU has the same work (forks.py). Hosts are network namespaces of this computer (tests/parity/hosts.sh), each with
a Ray node and the same share of 8 CPUs; they share this computer's cores. CPU time is that of the actors' processes.
"""

from __future__ import annotations

import argparse
import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from time import perf_counter
from typing import Any

from cluster.boot import boot
from cluster.live.actors import ray_session
from cluster.live.machine import LiveMachine
from tests.bench.forks import forks

ROOT = Path(__file__).parents[2]
CPUS = (2, 8, 32, 64)
#: CPUs of a machine that is spread over hosts
SPREAD = 8
TICK_S = 1 / os.sysconf("SC_CLK_TCK")
RUN_LIMIT_S = 1800.0
HEAD = """\
| CPUs | actors | hosts | start of them | operations/s | CPU time of an operation | CPUs' actors | servers' actors |
|---|---|---|---|---|---|---|---|"""

HEAD_OF_HOSTS = """\
| hosts | CPUs | actors | operations/s | CPU time of an operation |
|---|---|---|---|---|"""


def cpu_seconds(pids: Iterable[int]) -> float:
    """CPU time of these processes, as far as they are there."""
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
        machine.run(seed=0)
        before = cpu_seconds(processors), cpu_seconds(servers)
        run = machine.run(seed=1)
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


def on_a_cluster() -> None:
    """On a host of the cluster: measure a run, and say when it begins and ends."""
    with ray_session("auto") as ray:
        machine = LiveMachine(ray, forks(SPREAD, rounds=2), transport="leases")
        try:
            machine.run(seed=0)
            hosts = len({there.node for there in machine.actors.here.values()})
            print(f"begin {hosts}", flush=True)
            run = machine.run(seed=1)
            assert run.finding is None, run.finding
            print(f"end {run.operations} {run.seconds}", flush=True)
        finally:
            machine.close()


def actors() -> list[int]:
    """Processes of actors on this computer, in whichever namespace."""
    pids = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if path.read_bytes().startswith(b"ray::NodeActor"):
                pids.append(int(path.parent.name))
    return pids


def row_of_hosts(hosts: int) -> str:
    """A cluster of so many namespaces, and a machine of SPREAD CPUs on it."""
    names = [chr(ord("a") + number) for number in range(hosts)]
    store = f"--num-cpus 1 --object-store-memory {80 << 20}"
    head = f"on a ray start --head --port 6379 --node-ip-address 10.9.0.1 --include-dashboard=false {store}"
    lines = [head, *(f"on {name} ray start --address 10.9.0.1:6379 {store}" for name in names[1:])]
    script = "\n".join([*(f"{line} >/dev/null 2>&1" for line in lines), "on a python -m tests.bench.scale --inside"])
    env = {
        **os.environ, "HOSTS": " ".join(names), "LIMIT": str(int(RUN_LIMIT_S)), "HOME": "/tmp",
        "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_USAGE_STATS_ENABLED": "0",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }  # fmt: skip
    with tempfile.NamedTemporaryFile("w", suffix=".sh") as file:
        file.write(script)
        file.flush()
        command = ["bash", str(ROOT / "tests/parity/hosts.sh"), file.name]
        with subprocess.Popen(
            command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process:
            assert process.stdout is not None
            pids: list[int] = []
            before, there = 0.0, 0
            for line in process.stdout:
                match line.split():
                    case ["begin", number]:
                        pids, there = actors(), int(number)
                        before = cpu_seconds(pids)
                    case ["end", number, time]:
                        spent, operations, seconds = cpu_seconds(pids) - before, int(number), float(time)
                        cost = f"{1e6 * spent / operations:.0f} us"
                        return f"| {there} | {SPREAD} | {len(pids)} | {operations / seconds:,.0f} | {cost} |"
    raise SystemExit("the cluster has ended without a figure")


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("cpus", type=int, nargs="*", default=CPUS)
    parser.add_argument("--hosts", type=int, nargs="+")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.inside:
        on_a_cluster()
    elif asked.hosts:
        print(HEAD_OF_HOSTS, flush=True)
        for hosts in asked.hosts:
            print(row_of_hosts(hosts), flush=True)
    else:
        print(HEAD, flush=True)
        with ray_session() as ray:
            for cpus in asked.cpus:
                print(row(ray, cpus), flush=True)


if __name__ == "__main__":
    main()
