"""Benchmarks: how fast the engines are, each beside something measured in the same run.

Absolute figures depend on the machine; the ratios are what to compare.
`python -m tests.bench [--json] [--no-live]`
"""

from __future__ import annotations

import json
import os
import resource
import socket
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from cluster.boot import prepare
from cluster.configs import shipped
from cluster.runs.replay import recorded
from cluster.search import make
from cluster.search.dpor import Optimal
from cluster.search.explore import explore
from cluster.search.strategy import SearchOver, Stay, Strategy
from cluster.search.walk import RandomWalk
from cluster.sim.engine import Sim, seldom_collected
from nodes.host.transport import Kind
from shared import FORM
from tests.bench.counter import PROGRAM, TAKERS
from tests.bench.forks import engine, forks

if TYPE_CHECKING:
    from cluster.live.machine import LiveMachine

SECONDS = 3.0
#: schedules of a search of its own process
SEARCHED = 3000
LIVE_TURNS = 3
Row = tuple[str, float, str, str]


def rate(work: Callable[[], float]) -> float:
    """Units of work per second: `work` does some and says how much."""
    done, began = 0.0, perf_counter()
    while perf_counter() - began < SECONDS:
        done += work()
    return done / (perf_counter() - began)


def plain_loop() -> float:
    """Something every machine can do: attribute increments of plain Python."""

    class Counter:
        value = 0

    counter = Counter()
    for _ in range(100_000):
        counter.value += 1
    return 100_000


def sim_rows() -> Iterator[Row]:
    """Operations and schedules per second in `sim`."""
    scenario = shipped("S3a-shipped").without_errata()
    machine, image = prepare(scenario)
    sim = Sim(machine, image)

    def execution() -> float:
        sim.execute(Stay())
        return sim.steps

    def recorded() -> float:
        sim.execute(Stay(), record=True)
        return sim.steps

    def search(strategy: str) -> Callable[[], float]:
        return lambda: explore(scenario, strategy, schedules=100).schedules

    loop, plain, journal = rate(plain_loop), rate(execution), rate(recorded)
    beside = f"1 operation = {loop / plain:.0f} increments of a plain Python attribute"
    yield "sim, operations", plain, "operations/s", beside
    yield "sim, recorded", journal, "operations/s", f"{journal / plain:.2f} of unrecorded"
    for strategy in ("stay", "pct", "random"):
        schedules = rate(search(strategy))
        yield f"explore S3a-shipped, fixed, {strategy}", schedules, "schedules/s", f"{sim.steps} operations each"


def small_rows() -> Iterator[Row]:
    """Executions per second of small machines: what an execution costs, however short it is; and DPOR's bookkeeping."""
    scenes = [("3x3 counter", PROGRAM.scenario())]
    scenes += [(name, shipped(name).without_errata()) for name in ("litmus-mp", "E54")]
    for name, scene in scenes:
        speeds: list[tuple[float, float]] = []
        for strategy in (RandomWalk(0), Optimal()):
            sim, done = Sim(*prepare(scene)), [0, 0]

            def execution(sim: Sim = sim, strategy: Strategy = strategy, done: list[int] = done) -> float:
                known = len(sim.racy)
                try:
                    sim.execute(strategy)
                except SearchOver:
                    known = -1
                if len(sim.racy) != known:
                    strategy.grown()
                done[0], done[1] = done[0] + 1, done[1] + sim.steps
                return 1

            with seldom_collected():
                speed = rate(execution)
            operations = done[1] / done[0]
            speeds.append((speed, speed * operations))
            beside = f"{operations:.0f} operations each"
            if isinstance(strategy, Optimal):
                less, costs = (here / walk for here, walk in zip(speeds[1], speeds[0], strict=True))
                beside += f"; {less:.2f} of a random walk, {costs:.2f} of its operations/s"
            yield f"{name}, {'dpor' if isinstance(strategy, Optimal) else 'random'}", speed, "executions/s", beside


def flat_rows() -> Iterator[Row]:
    """What an operation costs on more CPUs, and in longer runs.

    It is compared with 2 CPUs that have as much work each, done once, and 64 CPUs also with 2 CPUs that do all of it.
    """
    for name in ("stay", "pct", "random"):
        speeds = {}
        for cpus, rounds, work_of in ((2, 1, 2), (16, 1, 16), (2, 1, 64), (64, 1, 64), (2, 16, 2)):
            sim, strategy = engine(cpus, rounds, work_of), make(name, 0, 3)
            for _ in range(8 if name == "pct" else 0):  # as long as it does not know how long executions are, it walks
                sim.execute(strategy)

            def execution(sim: Sim = sim, strategy: Strategy = strategy) -> float:
                finding = sim.execute(strategy)
                assert finding is None, finding
                return sim.steps

            with seldom_collected():
                speed = speeds[cpus, rounds, work_of] = rate(execution)
            what = f"{cpus} CPUs, {sim.steps:,} operations, forks, {name}"
            beside = f"an operation costs {speeds[2, 1, 2] / speed:.2f} of one on 2 CPUs, done once"
            if cpus == 64:
                beside += f", {speeds[2, 1, 64] / speed:.2f} of one on 2 CPUs that do all of this"
            yield what, speed, "operations/s", beside


def two_processes_rows() -> Iterator[Row]:
    """Two searches at the same time on two cores, beside one alone."""

    def together(processes: int) -> float:
        command = [sys.executable, "-m", "cluster.cli", "explore", "E54", "--fixed"]
        command += ["--strategy", "random", "--schedules", str(SEARCHED), "--json"]
        begun = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) for _ in range(processes)]
        return sum(SEARCHED / json.loads(search.communicate()[0])["seconds"] for search in begun)

    alone = (together(1) + together(1)) / 2
    two = together(2)
    yield "two searches of E54 at once", two, "schedules/s", f"{two / alone:.2f} of one"


def workers_rows() -> Iterator[Row]:
    """A search by two workers, beside the same number of schedules by one process: wall time of the search, with the
    start of the workers; and CPU time of the commands."""
    walk = "random walk", "E54", 20 * SEARCHED, ["--strategy", "random"]
    dpor = "DPOR", "S1a", 4 * SEARCHED, ["--exhaust"]
    for what, name, schedules, options in (walk, dpor):
        figures = []
        for workers in ([], ["--workers", "2"]):
            command = [sys.executable, "-m", "cluster.cli", "explore", name, "--fixed", *options, "--json", *workers]
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            done = json.loads(
                subprocess.check_output([*command, "--schedules", str(schedules)], stderr=subprocess.DEVNULL)
            )
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            assert done["schedules"] == schedules
            figures.append((done["schedules"] / done["seconds"], cpu))
        (alone, cpu), (two, cpu_of_two) = figures
        beside = f"{two / alone:.2f} of one process; CPU time {cpu_of_two / cpu:.2f} of it"
        yield f"{name} by two workers, {what}", two, "schedules/s", beside


#: the live machines that are measured: what they are -> CPUs, keys of the machine, transport, rounds of forks
LIVE: dict[str, tuple[int, str, Kind, int]] = {
    "live, 2 CPUs": (2, "", "leases", 16),
    "live, 2 CPUs, nothing lent": (2, "", "sockets", 16),
    "live, 2 CPUs, Ray's calls": (2, "", "ray", 1),
    "live, 8 CPUs, every node alone": (8, "colocate: false", "leases", 2),
    "live, 8 CPUs, nothing lent": (8, "colocate: false", "sockets", 2),
}


def live_rows() -> Iterator[Row]:
    """The live machine beside raw synchronous calls of a Ray actor, and starts beside each other: four minutes.

    A machine after the other is booted, measured and ended; calls are measured before each of its runs.
    """
    from cluster.live.actors import ray_session
    from cluster.live.machine import LiveMachine

    began = perf_counter()
    with ray_session() as ray:
        start = perf_counter() - began
        echo = raw_calls(ray)
        yield "raw Ray, one caller", rate(echo), "synchronous actor calls/s", ""
        round_trips = rate(socket_calls())
        yield "a Unix socket, one caller", round_trips, "round trips/s", ""
        for what, (cpus, keys, transport, rounds) in LIVE.items():
            scene, began = forks(cpus, rounds, keys), perf_counter()
            machine = LiveMachine(ray, scene, transport=transport)
            boot = perf_counter() - began
            speed, beside = beside_calls(machine, echo)
            yield what, speed, "operations/s", beside
            if what == next(iter(LIVE)):
                memory = [pss_mib(pid) for pid in machine.actors.pids.values()]
                yield "start of Ray", start, "s", f"{start / boot:.1f} times the start of a machine"
                yield "start of a machine", boot, "s", f"{len(memory)} actors"
                own = f"PSS; this process has {pss_mib('self'):.0f}"
                yield "memory of an actor", sum(memory) / len(memory), "MiB", own
            machine.close()
        yield from follow_rows(ray)
        takers = LiveMachine(ray, TAKERS.scenario())
        done = takers.run()
        takers.close()
    grants = sum(len(record.get("granted", ())) for records in done.journals.values() for record in records)
    latency = 1e6 * done.seconds / grants
    beside = f"as long as {latency * round_trips / 1e6:.1f} round trips over a Unix socket"
    yield "a lock handed over, 2 CPUs", latency, "us", beside


def follow_rows(ray: Any) -> Iterator[Row]:
    """Following a schedule on real processes beside running freely: a run of their own, and a random walk of sim."""
    from cluster.live.machine import LiveMachine

    for name, scene, turns in (("forks", forks(2, 2), LIVE_TURNS), ("S3c-race", shipped("S3c-race"), 5 * LIVE_TURNS)):
        machine, sim = LiveMachine(ray, scene), Sim(*prepare(scene))
        machine.run()  # the first run of new processes is slower
        done, seconds = defaultdict[str, float](float), defaultdict[str, float](float)
        for turn in range(turns):
            sim.execute(RandomWalk(turn), record=True)
            walk, free = recorded(sim), machine.run(seed=turn)
            runs = {"free": free, "own": machine.run(follow=free.journals), "walk": machine.run(follow=walk.journals)}
            assert (runs["own"].digest, runs["walk"].digest) == (free.digest, walk.digest)
            for kind, run in runs.items():
                done[kind] += run.operations
                seconds[kind] += run.seconds
        machine.close()
        own, walked, freely = (done[kind] / seconds[kind] for kind in ("own", "walk", "free"))
        yield f"live, {name}, follows its own run", own, "operations/s", f"{own / freely:.2f} of a free run"
        yield f"live, {name}, follows a random walk", walked, "operations/s", f"{walked / freely:.2f} of a free run"


def beside_calls(machine: LiveMachine, echo: Callable[[], float]) -> tuple[float, str]:
    """Operations per second of a live machine, and how many times raw calls that is."""
    calls, speed = 0.0, 0.0
    for turn in range(LIVE_TURNS):
        calls += rate(echo) / LIVE_TURNS
        done = machine.run(seed=turn)
        assert done.finding is None, done.finding
        speed += done.operations / done.seconds / LIVE_TURNS
    return speed, f"{speed / calls:.1f} times raw calls"


def socket_calls() -> Callable[[], float]:
    """Round trips over a Unix socket between two processes, with messages of the size of ours."""
    here, there = socket.socketpair()
    if os.fork() == 0:
        here.close()
        while data := there.recv(4096):
            there.sendall(data)
        os._exit(0)
    there.close()

    def calls() -> float:
        for _ in range(1000):
            here.sendall(b"x" * 60)
            here.recv(4096)
        return 1000

    return calls


def raw_calls(ray: Any) -> Callable[[], float]:
    """Synchronous calls of an actor that only answers, with frames of the size of ours."""

    class Echo:
        def admit(self, data: bytes) -> bytes:
            return data

    actor = ray.remote(Echo).options(num_cpus=0, enable_task_events=False).remote()
    ray.get(actor.admit.remote(b""), timeout=60)

    def calls() -> float:
        for _ in range(100):
            ray.get(actor.admit.remote(b"x" * 60), timeout=60)
        return 100

    return calls


def pss_mib(pid: int | str) -> float:
    """Proportional set size of a process in MiB."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def main() -> None:
    """Measure, and print a table, a row when it has been measured (or `--json`, at the end)."""
    print(f"form: {FORM.name}", file=sys.stderr)
    rows = chain(sim_rows(), small_rows(), flat_rows(), two_processes_rows(), workers_rows())
    if "--no-live" not in sys.argv:
        rows = chain(rows, live_rows())
    if "--json" in sys.argv:
        print(json.dumps([dict(zip(("what", "figure", "unit", "beside"), row, strict=True)) for row in rows], indent=2))
        return
    for what, figure, unit, beside in rows:
        print(f"{what:38} {figure:12,.1f} {unit:28} {beside}", flush=True)


if __name__ == "__main__":
    main()
