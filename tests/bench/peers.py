"""The 3x3 counter with two other testers of concurrent programs, beside ours.

frontrun runs Python programs, so executions per CPU second are compared. spin makes C of a model in its own language,
and visits each state once, so operations per CPU second are compared. Neither is a dependency: frontrun is a package
for Python (`pip install frontrun==0.7.0`, in an environment of its own), spin a package of Debian, and needs gcc. Name
their commands:

    python -m tests.bench.peers PATH/TO/bin/frontrun [PATH/TO/spin]
"""

from __future__ import annotations

import json
import re
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import process_time

from cluster.boot import prepare
from cluster.search import make
from cluster.sim.engine import Sim, seldom_collected
from shared import FORM
from tests.bench.counter import PROGRAM

TURNS, THEIRS, OURS = 5, 300, 3_000
#: their strategy -> ours, and what theirs has to be told
STRATEGIES = {
    "random": ("random", f"strategy='random', max_attempts={THEIRS}, seed=1"),
    "dpor": ("dpor", f"strategy='dpor', max_executions={THEIRS}, preemption_bound=None, stop_on_first=False"),
}
COUNTER = """
import json, time, frontrun

class Counter:
    def __init__(self):
        self.value = 0

def worker(counter):
    for _ in range(3):
        value = counter.value
        counter.value = value + 1

began = time.process_time()
result = frontrun.explore(Counter, worker, lambda counter: True, count=3, detect_io=False, OPTIONS)
print(json.dumps([result.num_explored, time.process_time() - began]))
"""
#: the same three threads; five increments each, so that spin is busy for a second
MODEL = """
byte value = 0;
active [3] proctype worker() {
  byte i = 0, seen;
  do
  :: i < 5 -> seen = value; value = seen + 1; i++
  :: else -> break
  od
}
"""


def theirs(command: str, options: str) -> float:
    """Executions per CPU second, in a process of its own."""
    program = COUNTER.replace("OPTIONS", options)
    done = subprocess.run([command, "python", "-c", program], capture_output=True, text=True, check=True)
    executions, seconds = json.loads(done.stdout.splitlines()[-1])
    return float(executions / seconds)


def transitions(spin: str) -> float:
    """Loads, stores and steps of a thread's own, per CPU second of the C that spin makes."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "model.pml").write_text(MODEL, encoding="ascii")
        for command in ([spin, "-a", "model.pml"], ["gcc", "-O2", "-DSAFETY", "-o", "pan", "pan.c"]):
            subprocess.run(command, cwd=folder, capture_output=True, check=True)
        before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
        done = subprocess.run(["./pan", "-m100000"], cwd=folder, capture_output=True, text=True, check=True)
        seconds = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before
    counted = re.search(r"(\d+) transitions", done.stdout)
    assert counted is not None and "errors: 0" in done.stdout, done.stdout
    return int(counted[1]) / seconds


def ours(name: str) -> tuple[float, int]:
    """Executions per CPU second here, and operations of an execution."""
    sim, strategy = Sim(*prepare(PROGRAM.scenario())), make(name, 0, 3)
    with seldom_collected():
        began = process_time()
        for _ in range(OURS):
            sim.execute(strategy)
        return OURS / (process_time() - began), sim.steps


def best(work: Callable[[], float]) -> float:
    return max(work() for _ in range(TURNS))


def main() -> None:
    """Measure in turns, and print a table."""
    if len(sys.argv) not in (2, 3):
        raise SystemExit(f"{__doc__}")
    print(f"form: {FORM.name}", file=sys.stderr)
    for name, (own, options) in STRATEGIES.items():
        there = best(lambda options=options: theirs(sys.argv[1], options))
        here, operations = max(ours(own) for _ in range(TURNS))
        print(f"3x3 counter, {name:8} {here:10,.0f}/s  frontrun {there:8,.0f}/s  {here / there:6.1f} times")
        if len(sys.argv) == 3:
            there, here = best(lambda: transitions(sys.argv[2])), here * operations
            print(f"  operations        {here:10,.0f}/s  spin {there:12,.0f}/s  {here / there:6.2f} times")


if __name__ == "__main__":
    main()
