"""`uvmp explore --all --patch FILE.py`: what a patch changes, over every scenario that comes with uvmp."""

from __future__ import annotations

import os
from dataclasses import asdict
from time import monotonic

from cluster import configs
from cluster.cli.documents import End, Facts, document, of_end
from cluster.cli.output import Output
from cluster.search.survey import Row, survey
from shared.errors import Exit, UserMistake
from shared.patch import current

#: schedules of one search, unless the user says how many
SCHEDULES = 200


def explore_all(as_json: bool, seed: int, schedules: int | None) -> Exit:
    """Search every scenario with the patch and without it, on its own kernel and on the repaired one.

    Args:
        schedules: of one search, at most; None: SCHEDULES, or the scenario's bound if that is less.

    Raises: UserMistake - there is no patch.
    """
    output = Output(as_json)
    patch = current()
    if patch is None:
        raise UserMistake("compares each scenario with and without a patch; give --patch FILE.py", field="--all")
    limit = SCHEDULES if schedules is None else schedules
    output.say(patch.words, bold=True)
    names = configs.names("scenarios")
    output.note(f"exploring {len(names)} scenarios, with errata and repaired, with and without the patch")
    rows: list[Row] = []
    interrupted = False
    began = monotonic()
    try:
        for row in survey(patch, seed, limit, os.cpu_count() or 1):
            rows.append(row)
            output.step(f"explored {row.scenario}, {len({row.scenario for row in rows})} of {len(names)} scenarios")
    except KeyboardInterrupt:
        interrupted = True
        output.note("interrupted")
    changed = [row for row in rows if row.changed]
    if changed:
        output.table(
            ("scenario", "kernel", "without the patch (schedules)", "with the patch"),
            [(row.scenario, row.kernel, row.before.words, row.after.words) for row in changed],
        )
    worse = sum(row.worse for row in rows)
    output.say(f"{len(rows) - len(changed)} of {len(rows)} searches unchanged, {worse} with a new finding")
    code = Exit.INTERRUPTED if interrupted else Exit.FINDING if worse else Exit.NO_FINDING
    told: Facts = {
        "all": True,
        "patch": {"file": patch.file, "sha256": patch.sum},
        "seed": seed,
        "bound": limit,
        "seconds": round(monotonic() - began, 3),
        "searches": [{**asdict(row), "changed": row.changed} for row in rows],
    }
    output.result(document("explore", told, of_end(End(code, interrupted=interrupted))))
    return code
