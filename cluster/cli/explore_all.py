"""`uvmp explore --all`: a search of every scenario that comes with uvmp; with --patch, what the patch changes."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from time import monotonic
from typing import TypeVar

from cluster import configs
from cluster.cli.documents import End, Facts, finish
from cluster.cli.junit import report
from cluster.cli.options import put
from cluster.cli.output import Output
from cluster.search.campaign import Order, Row, campaign, causes
from cluster.search.survey import Row as Compared
from cluster.search.survey import survey
from shared.errors import Exit
from shared.patch import current
from shared.text import counted

R = TypeVar("R", Row, Compared)
#: schedules of one search, unless the user says how many
SCHEDULES = 200


def explore_all(
    output: Output, order: Order, workers: int | None, out: Path | None, junit: Path | None, expecting: bool
) -> int:
    """Search every scenario once.

    Args:
        workers: processes at work; None: one for each processor.
        out: folder of the campaign, which may have been begun; None: nothing is kept.
        junit: the file for the report in JUnit's format.
        expecting: the exit code says whether all scenarios' expectations hold.

    Raises: UserMistake.
    """
    names = configs.names("scenarios")
    output.note(f"exploring {len(names)} scenarios, {'repaired' if order.fixed else 'with their errata'}")
    searches = campaign(names, order, workers or os.cpu_count() or 1, out)
    rows, interrupted = _rows(output, searches, len(names), out)
    rows.sort(key=lambda row: row.scenario)
    by_cause = causes(rows)
    for cause, among in by_cause.items():
        others = "".join(f", {row.scenario}" for row in among[1:])
        output.say(cause, bold=True)
        output.say(f"  {among[0].scenario} (schedule {among[0].found_at:,}){others}")
        output.say(f"  {among[0].token or 'the schedule is too long for a token'}")
    failing = [row for row in rows if row.signature]
    unmet, lost = [row for row in rows if row.unmet is not None], [row for row in rows if row.lost]
    tried = sum(row.schedules for row in rows)
    output.say(
        f"{len(failing)} of {len(rows)} scenarios have a finding, of {counted(len(by_cause), 'cause')}, in {tried:,} "
        f"schedules; the expectations of {len(rows) - len(unmet) - len(lost)} hold"
    )
    for row in unmet:
        output.say(f"  not as expected: {row.scenario}: {row.unmet}", fg="red")
    for row in lost:
        output.say(f"  given up: {row.scenario}: the process that searched this scenario died twice", fg="red")
    failed = bool(unmet) if expecting else bool(failing)
    code = Exit.FINDING if failed else Exit.NO_FINDING
    if interrupted or lost:
        code = Exit.INTERRUPTED if interrupted else Exit.INFRASTRUCTURE
    facts: Facts = {
        "all": True,
        **asdict(order),
        "searches": [asdict(row) for row in rows],
        "causes": {cause: [row.scenario for row in among] for cause, among in by_cause.items()},
        "out": None if out is None else str(out),
    }
    if junit is not None:
        put(junit, report(rows, expecting), "--junit")
    return finish(output, "explore", End(code, interrupted=interrupted), facts)


def _rows(output: Output, coming: Iterable[R], scenarios: int, out: Path | None) -> tuple[list[R], bool]:
    """All rows, and whether Ctrl-C has ended that; says how it is going."""
    rows: list[R] = []
    try:
        for row in coming:
            rows.append(row)
            output.step(f"explored {row.scenario}, {len({row.scenario for row in rows})} of {scenarios} scenarios")
    except KeyboardInterrupt:
        output.note("interrupted" + ("" if out is None else f"; the same command continues in {out}"))
        return rows, True
    return rows, False


def compare_all(output: Output, seed: int, schedules: int | None, workers: int | None) -> int:
    """Search every scenario with the patch and without it, on its own kernel and on the repaired one.

    Args:
        schedules: of one search, at most; None: SCHEDULES, or the scenario's bound if that is less.
        workers: as explore_all() has it.
    """
    patch = current()
    assert patch is not None
    limit = SCHEDULES if schedules is None else schedules
    output.say(patch.words, bold=True)
    names = configs.names("scenarios")
    output.note(f"exploring {len(names)} scenarios, with errata and repaired, with and without the patch")
    began = monotonic()
    rows, interrupted = _rows(output, survey(patch, seed, limit, workers or os.cpu_count() or 1), len(names), None)
    changed = [row for row in rows if row.changed]
    if changed:
        output.table(
            ("scenario", "kernel", "without the patch (schedules)", "with the patch"),
            [(row.scenario, row.kernel, row.before.words, row.after.words) for row in changed],
        )
    worse = sum(row.worse for row in rows)
    output.say(f"{len(rows) - len(changed)} of {len(rows)} searches unchanged, {worse} with a new finding")
    code = Exit.INTERRUPTED if interrupted else Exit.FINDING if worse else Exit.NO_FINDING
    facts: Facts = {
        "all": True,
        "patch": patch.about,
        "seed": seed,
        "bound": limit,
        "seconds": round(monotonic() - began, 3),
        "searches": [{**asdict(row), "changed": row.changed} for row in rows],
    }
    return finish(output, "explore", End(code, interrupted=interrupted), facts)
