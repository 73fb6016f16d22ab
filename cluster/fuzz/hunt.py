"""Runs random programs, one after another, until one fails or enough have been run."""

from __future__ import annotations

import shlex
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import monotonic

from cluster.fuzz.generate import generate
from cluster.fuzz.judge import Failure, judge, token
from cluster.fuzz.program import Program
from cluster.fuzz.shrink import shrink
from shared.errors import UserMistake

#: every so many programs, one execution of each strategy is replayed
REPLAYED = 15


@dataclass
class Hunt:
    """What came of it.

    Attributes:
        tally: executions by strategy, and "replay".
        at: number of the program that failed, or of the next one.
        failure: how, after it was cut down; with `program` and the file it was written to.
        errata: switched on.
    """

    seed: str
    programs: int = 0
    tally: Counter[str] = field(default_factory=Counter)
    at: int = 0
    program: Program | None = None
    failure: Failure | None = None
    file: Path | None = None
    token: str = ""
    errata: tuple[str, ...] = ()

    @property
    def executions(self) -> int:
        """Under all strategies; replays not counted."""
        return sum(self.tally.values()) - self.tally["replay"]

    def __str__(self) -> str:
        counts = ", ".join(f"{name} {count:,}" for name, count in self.tally.items())
        text = f"seed {self.seed}: {self.programs:,} programs, {self.executions:,} executions ({counts})"
        if self.failure is None:
            return f"{text}, no finding"
        text += f"\nprogram {self.at} fails: {self.failure}"
        if self.file is not None:
            file = str(self.file)
            again = ["replay", self.token, "--scenario", file] if self.failure.deviations else ["run", file]
            options = [word for erratum in self.errata for word in ("--errata", erratum)]
            text += f"\ncut down to {file}; to see it:\n  {shlex.join(['uvmp', *again, *options])}"
        return text


@dataclass(frozen=True)
class Order:
    """What to run.

    Attributes:
        first: number of the first program of the seed.
        programs: at most so many.
        seconds: no new one after this time.
        features, size: of the programs, see generate.Maker.
        schedules: strategy -> executions of each program; None: as judge() has it.
        errata: switched on.
        out: folder for the file of the program that fails, cut down; None: it is not cut down, nor written.
    """

    seed: str
    programs: int
    seconds: float = float("inf")
    first: int = 0
    features: frozenset[str] | None = None
    size: int = 16
    schedules: dict[str, int] | None = None
    errata: tuple[str, ...] = ()
    out: Path | None = None

    def replayed(self, number: int) -> tuple[str, ...]:
        """Strategies of which an execution of this program is replayed."""
        return tuple(self.schedules or ("stay", "random", "pct")) if number % REPLAYED == 0 and not self.errata else ()


def hunt(order: Order) -> Hunt:
    """Run programs `first`, `first` + 1 ... of a seed until one fails."""
    began = monotonic()
    result = Hunt(order.seed, errata=order.errata)
    for number in range(order.first, order.first + order.programs):
        if monotonic() - began > order.seconds:
            break
        result.at = number
        program = generate(f"{order.seed}/{number}", order.features, order.size)
        scenario = program.load().with_errata(order.errata)
        failure = judge(scenario, number, order.schedules, order.replayed(number), result.tally)
        result.programs += 1
        if failure is not None:
            result.program, result.failure = program, failure
            if order.out is not None:
                _write(result, order, order.out)
            break
    return result


def _write(result: Hunt, order: Order, out: Path) -> None:
    """Cut the program down and write it to a file."""
    assert result.program is not None and result.failure is not None
    number, errata = result.at, order.errata
    replays = order.replayed(number) if result.failure.kind == "diverged" else ()
    strategy = result.failure.strategy
    enough = {"stay": 1, strategy: max(1, 4 * result.failure.number if strategy != "stay" else 1)}

    def fails(program: Program) -> Failure | None:
        if not program.sound():
            return None
        try:
            scenario = program.load().with_errata(errata)
        except UserMistake:
            return None
        return judge(scenario, number, enough, replays)

    program, failure = result.program, result.failure
    program, failure = shrink(program, failure, fails)
    if failure.wrong is not None and failure.wrong.into and failure.wrong.right:
        program = replace(program, results={failure.wrong.into: list(failure.wrong.right)})
    program = replace(program, note=f"Made at random: program {number} of seed {result.seed}.")
    result.program, result.failure = program, failure
    result.file = out / f"random-{result.seed}-{number}.yaml"
    out.mkdir(parents=True, exist_ok=True)
    result.file.write_text(program.text(), encoding="utf-8")
    result.token = str(token(program.load().with_errata(errata), failure))
