"""Exhausts every scenario on the repaired kernel, as far as that goes; `make exhausted` writes the results.

First without a bound, up to ALL schedules; else with at most two preemptions, up to TWO. A scenario that has more is an
exception, and the table says so.
"""

from __future__ import annotations

import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

from cluster.search.bounded import Preemptions
from cluster.search.dpor import Optimal
from cluster.search.explore import search
from tests.kit import SHIPPED, scenario

FILE = Path(__file__).with_suffix(".txt")
#: schedules of a search without a bound, and of one within a bound
ALL, TWO = 1000, 1000
COLUMNS = f"{'scenario':20}{'CPUs':>5}{'preemptions':>13}{'classes':>9}{'schedules':>11}{'redundant':>11}"


class Row(NamedTuple):
    """The result for a scenario.

    Attributes:
        preemptions: "any": there is no bound; "2"; "-": neither search came to its end.
        classes, schedules, redundant: of that search; of an exception, of the one within two preemptions, so far.
    """

    scenario: str
    cpus: int
    preemptions: str
    classes: int
    schedules: int
    redundant: int

    def __str__(self) -> str:
        name, *counts = self
        return f"{name:20}{counts[0]:5}{counts[1]:>13}{counts[2]:9,}{counts[3]:11,}{counts[4]:11,}"


def rows() -> list[Row]:
    """Those of the table."""
    rows = []
    for line in FILE.read_text(encoding="ascii").splitlines()[1:-2]:
        name, cpus, preemptions, *counts = line.replace(",", "").split()
        rows.append(Row(name, int(cpus), preemptions, *map(int, counts)))
    return rows


def exhaust(name: str) -> Row:
    """One scenario, without its errata."""
    row = within(name, "any", ALL)
    if row.preemptions == "-":
        row = within(name, "2", TWO)
    return row


def within(name: str, bound: str, schedules: int) -> Row:
    """One scenario, without its errata, within one bound."""
    scene = scenario(name).without_errata()
    strategy = Optimal() if bound == "any" else Preemptions(int(bound))
    result = search(scene, strategy, schedules=schedules)
    assert result.finding is None, (name, result.finding)
    covered = result.coverage
    assert covered is not None
    told = bound if covered.exhausted else "-"
    return Row(name, scene.machine.cpus, told, covered.classes, result.schedules, covered.redundant)


def summary(table: list[Row]) -> str:
    """The last lines."""
    two = sum(row.preemptions != "-" for row in table)
    without = sum(row.preemptions == "any" for row in table)
    return (
        f"searched: {len(table)} of {len(SHIPPED)} scenarios; exhausted: {two} of these, {without} without a bound\n"
        f"exceptions (-): more than {TWO:,} schedules within two preemptions, and more than {ALL:,} classes in all\n"
    )


def renew() -> None:
    """Search all scenarios, and write the file."""
    table = []
    with ProcessPoolExecutor(2) as pool:
        for row in pool.map(exhaust, SHIPPED):
            print(row, file=sys.stderr, flush=True)
            table.append(row)
            lines = "".join(f"{row}\n" for row in table)
            FILE.write_text(f"{COLUMNS}\n{lines}{summary(table)}", encoding="ascii")


if __name__ == "__main__":
    renew()
