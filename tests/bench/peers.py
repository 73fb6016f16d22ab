"""The 3x3 counter with another tester of concurrent Python programs, frontrun, beside ours: executions per CPU second.

frontrun is not a dependency: make an environment with it (`pip install frontrun==0.7.0`), and name its command:

    python -m tests.bench.peers PATH/TO/bin/frontrun
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
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


def theirs(command: str, options: str) -> float:
    """Executions per CPU second, in a process of its own."""
    program = COUNTER.replace("OPTIONS", options)
    done = subprocess.run([command, "python", "-c", program], capture_output=True, text=True, check=True)
    executions, seconds = json.loads(done.stdout.splitlines()[-1])
    return float(executions / seconds)


def ours(name: str) -> float:
    """The same here."""
    sim, strategy = Sim(*prepare(PROGRAM.scenario())), make(name, 0, 3)
    with seldom_collected():
        began = process_time()
        for _ in range(OURS):
            sim.execute(strategy)
        return OURS / (process_time() - began)


def best(work: Callable[[], float]) -> float:
    return max(work() for _ in range(TURNS))


def main() -> None:
    """Measure in turns, and print a table."""
    if len(sys.argv) != 2:
        raise SystemExit(f"{__doc__}")
    print(f"form: {FORM.name}", file=sys.stderr)
    for name, (own, options) in STRATEGIES.items():
        there, here = best(lambda options=options: theirs(sys.argv[1], options)), best(lambda own=own: ours(own))
        print(f"3x3 counter, {name:8} {here:10,.0f}/s  frontrun {there:8,.0f}/s  {here / there:6.1f} times")


if __name__ == "__main__":
    main()
