"""Schedules to the first bug of the small programs, by strategy, beside published figures.

`python -m tests.bench.compare [--trials N] [--only PROGRAM,...] [--strategies NAME,...] [--best]`: --best measures each
program with its best strategy alone.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from statistics import fmean
from time import process_time

from cluster.boot import prepare
from cluster.search import make
from cluster.search.classes import Classes
from cluster.search.strategy import Strategy
from cluster.sim.engine import Sim, seldom_collected
from shared import FORM
from tests.bench.sct import PROGRAMS

TRIALS = 20
#: schedules after which a trial is given up; those of the two with a hundred threads; those of SafeStack
CAP, CAP_100, CAP_SAFE = 10_000, 4_000, 5_000_000
#: after so many trials without a find, and none with one, a strategy is given up
HOPELESS = 2
STRATEGIES = ("random", "pct", "pos", "surw", "rff", "auto")
#: the strategy that is best, or close to it at less cost; the others are done by pos
BEST = {
    "bluetooth_driver": "rff", "circular_buffer": "rff", "queue": "rff", "twostage": "rff", "twostage_20": "rff",
    "twostage_50": "rff", "twostage_100": "rff", "WSQ": "surw", "IWSQ": "surw", "IWSQWS": "surw", "SWSQ": "surw",
    "SafeStack": "random",
    **{f"reorder_{name}": "rff" for name in (3, 4, 5, 10, 20, 50, 100)},
}  # fmt: skip
#: means of 20 trials in the raw data that SURW's authors (random walk, PCT with d = 3, POS, SURW) and RFF's published;
#: "x/20": only so many trials had a find; "-": none; "": not run
PUBLISHED: dict[str, tuple[str, str, str, str, str]] = {
    "account": ("18", "4", "4", "6", "1"),
    "bluetooth_driver": ("215", "112", "36", "70", "45"),
    "carter01": ("1", "5", "2", "", "2"),
    "circular_buffer": ("4", "9", "2", "3", "2"),
    "deadlock01": ("3", "13", "4", "2", "5"),
    "lazy01": ("21", "5", "5", "2", "6"),
    "queue": ("1", "3", "1", "2", "1"),
    "reorder_3": ("-", "185", "86", "7", "7"),
    "reorder_4": ("-", "554", "533", "7", "6"),
    "reorder_5": ("-", "647", "2169", "10", "6"),
    "reorder_10": ("-", "3225 (16/20)", "-", "17", "6"),
    "reorder_20": ("-", "3005", "-", "6", "6"),
    "reorder_50": ("-", "3304 (6/20)", "-", "13", "6"),
    "reorder_100": ("-", "-", "-", "194", "6"),
    "stack": ("176", "3", "2", "5", "2"),
    "token_ring": ("13", "8", "9", "8", "5"),
    "twostage": ("464", "13", "15", "8", "8"),
    "twostage_20": ("-", "159", "156", "6", "22"),
    "twostage_50": ("", "", "", "", ""),
    "twostage_100": ("-", "7466 (3/20)", "6674 (3/20)", "454", "56"),
    "wronglock_3": ("36", "58", "11", "9", "1"),
    "wronglock": ("36", "51", "10", "7", "1"),
    "stringbuffer": ("2243 (19/20)", "281", "23", "8", "15"),
    "WSQ": ("", "48", "12", "6", "10"),
    "IWSQ": ("-", "48", "14", "6", "1"),
    "IWSQWS": ("26", "907", "5", "6", "7"),
    "SWSQ": ("", "842", "6", "7", "1"),
    "SafeStack": ("-", "-", "-", "368921 (19/20)", "-"),
}


@dataclass(slots=True)
class Trials:
    """Trials of one strategy with one program.

    Attributes:
        found: of each trial, the schedule with the first bug; None: it was given up.
        seconds: of CPU time, over all trials.
    """

    counts: list[int | None]
    seconds: float = 0.0

    def __str__(self) -> str:
        finds = [schedules for schedules in self.counts if schedules is not None]
        if not finds:
            return "-"
        mean = f"{fmean(finds):.0f}"
        return mean if len(finds) == len(self.counts) else f"{mean} ({len(finds)}/{len(self.counts)})"


def cap_of(name: str) -> int:
    """Schedules after which a trial with a program is given up."""
    return CAP_SAFE if name == "SafeStack" else CAP_100 if name.endswith("_100") else CAP


@seldom_collected()
def trials(name: str, strategy: str, count: int = TRIALS) -> Trials:
    """Schedules to the first bug of a program, from as many seeds; the default schedule is not tried before."""
    sim = Sim(*prepare(PROGRAMS[name].scenario()))
    done, began = Trials([]), process_time()
    for seed in range(count):
        done.counts.append(_trial(sim, make(strategy, seed, 3), cap_of(name)))
        if len(done.counts) == HOPELESS and not any(done.counts):
            break
    done.seconds = process_time() - began
    return done


def _trial(sim: Sim, strategy: Strategy, cap: int) -> int | None:
    classes = Classes(strategy) if strategy.learns() else None
    for schedule in range(1, cap + 1):
        finding = sim.execute(classes or strategy)
        if finding is not None:
            return schedule
        if classes is not None:
            strategy.reward(classes.count(), False)
    return None


def main() -> None:
    """Measure, and print a table of Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=TRIALS)
    parser.add_argument("--only", default=",".join(name for name in PROGRAMS if name != "SafeStack"))
    parser.add_argument("--strategies", default=",".join(STRATEGIES))
    parser.add_argument("--best", action="store_true")
    asked = parser.parse_args()
    strategies = ["best"] if asked.best else asked.strategies.split(",")
    heads = ["program", *strategies, "published: random walk", "PCT 3", "POS", "SURW", "RFF"]
    print("|", " | ".join(heads), "|\n|", "---|" * len(heads))
    seconds = 0.0
    for name in asked.only.split(","):
        cells = []
        for strategy in strategies:
            done = trials(name, BEST.get(name, "pos") if asked.best else strategy, asked.trials)
            seconds += done.seconds
            cells.append(f"{done} ({BEST.get(name, 'pos')}, {done.seconds:.1f} s)" if asked.best else str(done))
        print("|", " | ".join([name, *cells, *PUBLISHED[name]]), "|", flush=True)
    print(f"\n{asked.trials} trials each; {seconds:.0f} s of CPU time, form: {FORM.name}")


if __name__ == "__main__":
    main()
