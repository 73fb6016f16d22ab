"""Rediscovery: how long until the fuzzer finds each erratum, without its scenario? `make rediscovery` writes the table.

Each erratum is switched on alone, and the fuzzer runs with a seed of its own until the first finding of a detector or
of the plain model, or until the cap. The time is this process's processor time; an erratum that only costs something
has no finding. REDISCOVERY.md keeps a row as soon as it is there, so that the measurement can be ended and continued:
what it has is not measured again, unless that was with a lower cap.

    python -m tests.bench.rediscovery [--cap SECONDS] [--again] [ERRATUM ...]
"""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from time import process_time

import click

from cluster.fuzz.hunt import Hunt, Order, hunt
from shared import FORM
from shared.errata import ERRATA, lookup

FILE = Path(__file__).with_name("REDISCOVERY.md")
SEED, CAP = "rediscovery", 120.0
#: kinds of failures that do not count as a finding
OWN = ("error", "setup", "diverged")
HEAD = """\
# Rediscovery

Written by `make rediscovery`; do not edit. Each erratum was switched on alone, and `uvmp fuzz`, which does not know its
scenario, ran until its first finding, or until the cap. Seconds are processor time of one core, on a shared machine.

"""
COLUMNS = "| erratum | found | seconds | programs | executions | cap | form | site | why not |"
_ROW = re.compile(
    r"\| `([^`]+)` \| (.*) \| ([0-9.]+) \| ([0-9]+) \| ([0-9]+) \| ([0-9.]+) \| (\w+) \| ([0-9]+) \| (.*) \|"
)


@dataclass(frozen=True)
class Row:
    """The result for an erratum.

    Attributes:
        finding: kind and function of the finding; "": none.
        site: programs that came to its site.
        why: it was not found.
    """

    erratum: str
    finding: str
    seconds: float
    programs: int
    executions: int
    cap: float
    form: str
    site: int
    why: str

    def __str__(self) -> str:
        figures = f"{self.seconds:.1f} | {self.programs} | {self.executions} | {self.cap:g} | {self.form} | {self.site}"
        return f"| `{self.erratum}` | {self.finding or 'no'} | {figures} | {self.why} |"


def read(text: str) -> dict[str, Row]:
    """The rows of a table."""
    rows = {}
    for match in _ROW.finditer(text):
        erratum, finding, seconds, programs, executions, cap, form, site, why = match.groups()
        rows[erratum] = Row(
            erratum, "" if finding == "no" else finding, float(seconds), int(programs), int(executions), float(cap),
            form, int(site), why,
        )  # fmt: skip
    return rows


def table(rows: dict[str, Row]) -> str:
    """The file's text, with the rows in the order of the catalogue."""
    known = [rows[erratum] for erratum in ERRATA if erratum in rows]
    rediscovered = [row for row in known if row.finding]
    caps = sorted({row.cap for row in known})
    cap = " to ".join(f"{cap:g}" for cap in dict.fromkeys((caps[0], caps[-1]))) if caps else ""
    counts = f"Found: {len(rediscovered)} of {len(known)} measured, of {len(ERRATA)} in the catalogue"
    total = f"{counts}; cap {cap} seconds.\n\n"
    lines = [COLUMNS, "|" + "---|" * 9, *map(str, known)]
    return HEAD + total + "\n".join(lines) + "\n"


def measure(erratum: str, cap: float) -> Row:
    """Fuzz with one erratum.

    Args:
        cap: seconds of processor time.
    """
    order = Order(f"{SEED}/{erratum}", seconds=cap, clock=process_time, errata=(erratum,), first=True)
    spent, programs, executions, site = 0.0, 0, 0, 0
    while True:
        result = hunt(order)
        spent += result.seconds
        programs, executions = programs + result.programs, executions + result.executions
        site += result.reached[erratum]
        failure = result.failure
        if failure is None or failure.kind not in OWN or spent >= cap:
            break
        order = replace(order, seed=f"{order.seed}+", seconds=cap - spent)  # a bug of uvmp's own: with other programs
    finding = "" if failure is None or failure.kind in OWN else " in ".join(part for part in failure.signature if part)
    why = "" if finding else _why(erratum, result, site)
    return Row(erratum, finding, spent, programs, executions, cap, FORM.name, site, why)


def _why(erratum: str, result: Hunt, site: int) -> str:
    if result.interrupted:
        raise KeyboardInterrupt
    if not ERRATA[erratum].findings:
        return "it only costs something: no detector reports it"
    if not site:
        return "no program came to its site"
    return "its site was reached, the interleaving or the state was not"


@click.command()
@click.argument("errata", nargs=-1)
@click.option("--cap", default=CAP, show_default=True, help="Seconds of processor time for each erratum.")
@click.option("--again", is_flag=True, help="Measure again what the table has.")
def main(errata: tuple[str, ...], cap: float, again: bool) -> None:
    """Measure ERRATA (default: all) and write the table."""
    chosen = [lookup(erratum).id for erratum in errata] or list(ERRATA)
    for number, erratum in enumerate(chosen, 1):
        rows = read(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}
        known = rows.get(erratum)
        if known is not None and not again and (known.finding or known.cap >= cap):
            continue
        row = measure(erratum, cap)
        print(f"{number} of {len(chosen)}: {row}", file=sys.stderr, flush=True)
        rows = read(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}  # another process may have added some
        unfinished = FILE.with_name(f".{FILE.name}.{os.getpid()}.tmp")
        unfinished.write_text(table({**rows, erratum: row}), encoding="utf-8")
        os.replace(unfinished, FILE)


if __name__ == "__main__":
    main()
