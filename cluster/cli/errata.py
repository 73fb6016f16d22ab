"""`uvmp errata`: the catalogue of defects."""

from __future__ import annotations

import textwrap
from dataclasses import asdict, dataclass

from cluster.cli.asking import Asks, argument, listing, shows
from cluster.cli.describe import labelled, prose
from cluster.cli.glossary import say_words
from cluster.cli.output import Output, program, width
from shared.errata import ERRATA, Erratum, Status, counts, lookup, with_big_lock
from shared.errata.big_lock import BigLock
from shared.errors import UserMistake


@listing("errata", "S3a")
def command(asked: Asks) -> int:
    """List the defects that a run can switch on, with the kind of their source; `show` describes a defect."""
    output = Output(asked.as_json)
    status_width, lock_width = max(map(len, Status)), max(map(len, BigLock))
    output.say(f"{'name':4}  {'status'.ljust(status_width)}  {'big lock'.ljust(lock_width)}  erratum", bold=True)
    for entry in ERRATA.values():
        known, seen = entry.status.ljust(status_width), entry.big_lock.ljust(lock_width)
        output.say(f"{entry.name:4}  {known}  {seen}  {entry.id}", bold=True)
        for line in textwrap.wrap(entry.sentence, width() - 6):
            output.say(f"      {line}")
        rows = [("row", entry.row), ("source", "; ".join(entry.source)), ("scenarios", ", ".join(entry.scenarios))]
        labelled(output, rows, indent="      ")
    output.say()
    labelled(output, [(status, f"{counts()[status]}: {status.meaning}") for status in Status], indent="")
    output.say()
    output.say("with the big lock of the MP kernels of 2000 to 2007 (--kernel-lock big):")
    labelled(output, [(seen, f"{count}: {seen.meaning}") for seen, count in with_big_lock().items()], indent="")
    output.note(f"{program()} errata show ID describes an erratum; {program()} run SCENARIO --errata ID switches it on")
    output.result({"errata": [_document(erratum) for erratum in ERRATA.values()]})
    return 0


@dataclass(frozen=True, kw_only=True)
class ShowOptions(Asks):
    """The argument and the options of `uvmp errata show`."""

    erratum: str = argument()


@shows(command, ShowOptions, "S3a")
def show(asked: ShowOptions) -> int:
    """Describe ERRATUM, an id or a short name such as E1."""
    output = Output(asked.json)
    try:
        entry = lookup(asked.erratum)
    except UserMistake as mistake:
        raise UserMistake(mistake.message, field="ERRATUM") from None
    output.say(entry.id, bold=True)
    prose(output, entry.sentence)
    output.say()
    prose(output, entry.story)
    output.say()
    rows = [("catalogue", f"{entry.name}, of row {entry.row}"), ("status", f"{entry.status}: {entry.status.meaning}")]
    rows += [("big lock", f"{entry.big_lock}: {entry.big_lock.meaning}")]
    if entry.big_lock is BigLock.LATENT:
        rows += [("", f"not seen in {entry.big_lock_schedules:,} schedules")]
    rows += [("source", line) for line in entry.source]
    rows += [("shows as", ", ".join(entry.findings) or "cost"), ("seen by", ", ".join(entry.detectors) or "results")]
    rows += [("scenarios", ", ".join(entry.scenarios))]
    labelled(output, rows, indent="")
    say_words(output, f"{entry.sentence} {entry.story}")
    if entry.scenarios:
        output.say()
        output.say("to reproduce it:")
        output.command(f"uvmp explore {entry.scenarios[0]}", bold=True)
    output.result({"erratum": _document(entry)})
    return 0


def _document(erratum: Erratum) -> dict[str, object]:
    derived = ("findings", "scenarios", "row", "big_lock", "detectors")
    return asdict(erratum) | {name: getattr(erratum, name) for name in derived}
