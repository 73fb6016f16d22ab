"""Exhausts every scenario on the repaired kernel, as far as that goes; `make exhausted` writes the results.

The scenario as it is shipped is searched without a bound, up to FEW schedules. If it has more, its smallest form is
searched, up to ALL: its variant, a part of the scenario that has the same finding with the errata on (variants.py), if
there is a variant. If that has more, too, it is searched with at most two preemptions, up to TWO. A scenario that has
more is an exception: the table has an estimate of the classes of its smallest form without a bound, from the part of
the tree that the search has seen (`Optimal.expected`).

Other searches that have come to their end once are made to their end again: without a bound those of WHOLE; within two
preemptions those of LONGER, of which FEW schedules are tried without a bound.
"""

from __future__ import annotations

import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

from cluster.search.chance import about
from cluster.search.dpor import Optimal
from cluster.search.explore import search
from cluster.search.preemptions import Preemptions
from shared.scenario.load import load_scenario
from shared.scenario.model import Scenario
from tests.kit import SHIPPED, scenario

FILE = Path(__file__).with_suffix(".txt")
VARIANTS = Path(__file__).parent / "variants"
#: schedules of a search without a bound, of the shipped form and of the smallest, and of a search within a bound
FEW, ALL, TWO, MORE = 500, 20_000, 1000, 16_000
#: scenarios without a bound that have more than ALL schedules, and come to an end; and their schedules at most
WHOLE, MOST = ("E61b-shipped",), 30_000
#: scenarios with two preemptions that have more than TWO schedules, and come to an end
LONGER = ("E10", "E10-freed", "E10-leak", "E13", "E38", "E45", "E54", "E54-shipped", "E61b", "E67-vnode", "S11b")
COLUMNS = (
    f"{'scenario':15}{'form':>9}{'CPUs':>6}{'preemptions':>13}{'classes':>9}{'schedules':>11}{'redundant':>11}"
    f"{'estimated':>11}"
)


class Row(NamedTuple):
    """The result for a scenario.

    Attributes:
        form: "shipped" or "variant".
        preemptions: "any": there is no bound; "2"; "-": no search came to its end.
        classes, schedules, redundant: of that search; of an exception, of the search within two preemptions, so far.
        estimated: all classes, of a search without a bound that has not come to its end, and of an exception; else "-".
    """

    scenario: str
    form: str
    cpus: int
    preemptions: str
    classes: int
    schedules: int
    redundant: int
    estimated: str = "-"

    def __str__(self) -> str:
        counts = f"{self.classes:9,}{self.schedules:11,}{self.redundant:11,}"
        return f"{self.scenario:15}{self.form:>9}{self.cpus:6}{self.preemptions:>13}{counts}{self.estimated:>11}"


def rows() -> list[Row]:
    """Those of the table."""
    rows = []
    for line in FILE.read_text(encoding="ascii").splitlines()[1:-4]:
        name, form, cpus, preemptions, *counts, estimated = line.split()
        classes, schedules, redundant = (int(count.replace(",", "")) for count in counts)
        row = Row(name, form, int(cpus), preemptions, classes, schedules, redundant, estimated)
        rows.append(row)
    return rows


def smallest(name: str) -> str:
    """The smallest form of a scenario."""
    return "variant" if (VARIANTS / f"{name}.yaml").exists() else "shipped"


def form_of(name: str, form: str) -> Scenario:
    """A form of a scenario, with its errata."""
    if form == "shipped":
        return scenario(name)
    file = VARIANTS / f"{name}.yaml"
    return load_scenario(file.read_text(encoding="utf-8"), str(file))


def exhaust(name: str) -> Row:
    """One scenario, without its errata."""
    form = smallest(name)
    most = FEW if name in LONGER else MOST if name in WHOLE else ALL
    for searched, schedules in {"shipped": FEW, form: most}.items():
        row = within(name, searched, "any", schedules)
        if row.preemptions != "-":
            return row
    two = within(name, form, "2", MORE if name in LONGER else TWO)
    return two if two.preemptions != "-" else two._replace(estimated=row.estimated)


def within(name: str, form: str, bound: str, schedules: int) -> Row:
    """One form of a scenario, without its errata, within one bound."""
    scene = form_of(name, form).without_errata()
    strategy = Optimal() if bound == "any" else Preemptions(int(bound))
    result = search(scene, strategy, schedules=schedules)
    assert result.finding is None, (name, result.finding)
    covered = result.coverage
    assert covered is not None
    told = bound if covered.exhausted else "-"
    counts = covered.classes, result.schedules, covered.redundant
    estimated = "-" if covered.estimated is None else about(covered.estimated)
    return Row(name, form, scene.machine.cpus, told, *counts, estimated)


def summary(table: list[Row]) -> str:
    """The last lines."""
    exhausted = [row for row in table if row.preemptions != "-"]
    without = sum(row.preemptions == "any" for row in exhausted)
    variants = sum(row.form == "variant" for row in exhausted)
    return (
        f"searched: {len(table)} of {len(SHIPPED)} scenarios; exhausted: {len(exhausted)} of these, {without} without "
        f"a bound, {variants} as a variant\n"
        f"exceptions (-): more than {TWO:,} schedules within two preemptions, and more than {ALL:,} classes in all\n"
        f"estimated: classes in all, by the share of the tree that {ALL:,} schedules have seen; too few as a rule: of\n"
        "branches that are found later nothing is known\n"
    )


def write(table: list[Row]) -> None:
    """Write the file."""
    FILE.write_text("".join([f"{COLUMNS}\n", *(f"{row}\n" for row in table), summary(table)]), encoding="ascii")


def renew() -> None:
    """Search all scenarios, and write the file."""
    table = []
    with ProcessPoolExecutor(2) as pool:
        for row in pool.map(exhaust, SHIPPED):
            print(row, file=sys.stderr, flush=True)
            table.append(row)
            write(table)


if __name__ == "__main__":
    renew()
