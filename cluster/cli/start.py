"""What a command continues: the beginning of a run, as a token's schedule or a run folder has it."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from cluster.cli.options import Chosen, Options, must_expect_something
from cluster.cli.output import Output
from cluster.cli.schedules import OWN, must_know, other_kernel, refuse_program, schedule_of
from cluster.postmortem.load import load
from cluster.postmortem.order import in_order
from cluster.runs.replay import beginning
from shared.errors import LogIncomplete, UserMistake
from shared.journal.cut import part
from shared.journal.order import operations
from shared.journal.record import Journals, held
from shared.journal.runfile import RUN, SCENARIO, options_of
from shared.scenario.yaml import show
from shared.text import clean, counted

_NO_AFTER = "is missing: the operation, as CONTEXT:N, up to which to follow the run"
_OPERATION = re.compile(r"([A-Za-z][A-Za-z0-9_.]{0,40}):([0-9]{1,9})")


@dataclass(frozen=True, slots=True)
class Start:
    """The beginning of an execution, as a run has had it.

    Attributes:
        journals: a consistent part of those of the run.
    """

    chosen: Chosen
    journals: Journals

    def __str__(self) -> str:
        return f"the first {counted(operations(self.journals), 'operation')}"


def start_of(output: Output, what: str, asked: Options, after: str | None = None, field: str = "--resume") -> Start:
    """The run of a folder, complete or not, up to its last consistent cut.

    Args:
        after: the operation up to which to follow it, as CONTEXT:N; None: all of that.
        field: the option that names it.

    Raises: UserMistake - no run folder, a run of something else, or no such operation; LogIncomplete - nothing in it
        can be followed.
    """
    if asked.changes_the_kernel:
        raise UserMistake(OWN, field=field)
    run = load(what)
    about = run.begun if run.run is None else run.run
    if run.mixed or run.loaded is None:
        wrong = next((line for line in run.torn if line.startswith((SCENARIO, "the files are"))), "")
        raise LogIncomplete(f"{run.path}: {wrong or f'there is no {SCENARIO}'}")
    refuse_program(run, run.loaded)
    difference = other_kernel(run, about)
    if difference:
        raise UserMistake(difference, file=run.path)
    must_know(run, run.loaded)
    journals = beginning(run.loaded, run.journals)
    dropped = sum(1 for records in run.journals.values() for _ in records)
    dropped -= sum(1 for records in journals.values() for _ in records)
    if asked.expect:
        must_expect_something(run.loaded)
    if after is not None:
        journals = upto(journals, after)
    start = Start(Chosen(run.loaded, options_of(about.get("options")) or ()), journals)
    behind = f"; {counted(dropped, 'record')} behind its last consistent cut cannot be" if dropped else ""
    output.note(f"{start} of {run.path} are followed{behind}")
    return start


def behind(output: Output, what: str | None, scenario: str | None, after: str | None, asked: Options) -> Start | None:
    """The beginning of a run; None: there is to be none.

    Args:
        what: a token or a folder.
        scenario: the file of a token's scenario.
        after: the operation up to which to follow it, as CONTEXT:N; None: all of a run that was cut short.

    Raises: UserMistake, LogIncomplete; Diverged - a step of a token cannot happen.
    """
    if what is None:
        if after is not None:
            raise UserMistake("is only for --from", field="--after")
        return None
    if os.path.lexists(what) or "/" in what:
        if scenario is not None:
            raise UserMistake("cannot be given with --from, whose folder has its scenario", field="SCENARIO")
        if after is None and (Path(what) / RUN).exists():
            raise UserMistake(_NO_AFTER, field="--after")
        return start_of(output, what, asked, after, "--from")
    schedule = schedule_of(output, what, scenario, False, asked)
    if after is None:
        raise UserMistake(_NO_AFTER, field="--after")
    if asked.expect:
        must_expect_something(schedule.chosen.scenario)
    return Start(schedule.chosen, upto(schedule.replay(strict=True).journals, after))


def upto(journals: Journals, after: str) -> Journals:
    """The operations up to an operation, in the order that a postmortem shows.

    Raises: UserMistake - there is no such operation.
    """
    match = _OPERATION.fullmatch(after)
    if match is None:
        raise UserMistake(f"expected CONTEXT:N, for instance A:412; found {show(after)}", field="--after")
    ctx, n = match[1], int(match[2])
    whole = held(journals)
    order = [record for record in in_order(whole).records if "k" in record]
    for at, record in enumerate(order):
        if (record["ctx"], record["n"]) == (ctx, n):
            return part(whole, order[: at + 1])
    last = max((record["n"] for record in order if record["ctx"] == ctx), default=0)
    raise UserMistake(f"the run has {counted(last, 'operation')} of {clean(ctx, 40)}", field="--after")
