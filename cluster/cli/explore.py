"""`uvmp explore`: search for a schedule with a finding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from cluster.cli import describe
from cluster.cli.explore_all import explore_all
from cluster.cli.options import (
    SETTINGS,
    Chosen,
    choose,
    common,
    examples,
    expect_option,
    kernel_options,
    must_expect_something,
    new_folder,
    out_option,
    seed_option,
)
from cluster.cli.output import Output, Progress, rate_of
from cluster.explore import Result, explore
from cluster.replay import replay
from cluster.runfolder import keep, write_sim
from shared.errors import Exit, ProjectBug, UserMistake
from shared.findings import UNEXPECTED
from shared.text import counted

#: after so many, a site that nobody has come to is worth a word
FIRST_SCHEDULES = 200


@click.command(
    "explore",
    context_settings=SETTINGS,
    epilog=examples(
        ("uvmp explore S3a-shipped", "finds the race, and prints a line that repeats it"),
        ("uvmp explore S3a-shipped --fixed --schedules 400", "not found on the repaired kernel?"),
        ("uvmp explore --all --patch fix.py", "what a repair of your own changes, over all scenarios; takes minutes"),
        ("uvmp explore my.yaml --seed 7 --out runs/found", "a scenario of your own; the finding's run is kept"),
    ),
)
@click.argument("scenario", required=False)
@click.option("--all", "everything", is_flag=True, help="With --patch: what does it change, over all scenarios?")
@click.option("--strategy", type=click.Choice(["pct", "random"]), help="How to choose; default: the scenario's.")
@click.option(
    "--depth", type=click.IntRange(1, 16), help="Ordering constraints that pct assumes; default: the scenario's."
)
@click.option(
    "--schedules", type=click.IntRange(1, 10_000_000), help="At most this many; default: the scenario's bound."
)
@seed_option
@kernel_options
@click.option("--granularity", type=click.Choice(["guarded", "access"]), default="guarded", show_default=True,
              help="Where contexts may be switched: unguarded accesses only, or every access.")  # fmt: skip
@out_option
@expect_option
@common
def command(
    scenario: str | None,
    everything: bool,
    strategy: str | None,
    depth: int | None,
    schedules: int | None,
    seed: int,
    fixed: bool,
    errata: tuple[str, ...],
    detect: tuple[str, ...],
    kernel_lock: str | None,
    granularity: str,
    out: str | None,
    expect: bool,
    as_json: bool,
) -> int:
    """Run SCENARIO under one schedule after another, until one has a finding.

    SCENARIO is an id, as `uvmp scenarios` lists them, or a file. The finding's schedule is shortened and printed as one
    line to paste, which repeats it exactly.
    """
    if everything:
        _refuse_with_all(SCENARIO=scenario, strategy=strategy, depth=depth, out=out, expect=expect, fixed=fixed)
        return explore_all(as_json, seed, schedules)
    if scenario is None:
        raise click.UsageError("missing argument 'SCENARIO'")
    output = Output(as_json)
    chosen = choose(scenario, fixed, errata, detect, kernel_lock)
    what = chosen.scenario
    if expect:
        must_expect_something(what)
    folder = new_folder(out)
    strategy = strategy or what.bound.strategy
    if depth is not None and strategy != "pct":
        raise UserMistake(f"is for strategy pct; this is {strategy}", field="--depth")
    depth = what.bound.depth if depth is None else depth
    limit = what.bound.schedules if schedules is None else schedules
    how = f"{strategy}, depth {depth}, seed {seed}" if strategy == "pct" else f"{strategy}, seed {seed}"

    describe.introduce(output, what)
    output.note(f"exploring up to {counted(limit, 'schedule')} ({how})")
    missed = list(what.own_errata)

    def watch(so_far: Result) -> None:
        progress(so_far.schedules, so_far.seconds)
        if so_far.schedules >= FIRST_SCHEDULES and missed:
            for one in [one for one in missed if not so_far.sites.get(one)]:
                never = f"in {so_far.schedules:,} schedules nobody came to the site of {one}"
                progress.note(f"warning: {never}: perhaps the programs never do (Ctrl-C ends the search)")
            missed.clear()

    with Progress(output, limit) as progress:
        result = explore(
            what,
            strategy,
            seed,
            limit,
            depth,
            granularity,
            progress=watch,
        )

    why_not = describe.unmet(what, result.finding, result.results) if expect else None
    if expect and not what.errata and not why_not:
        never = [one for one in what.own_errata if not result.sites.get(one)]
        why_not = f"the site of {never[0]} was never reached" if never else None
    _say(output, chosen, result, limit, how)
    kept, unkept = _keep(output, chosen, result, folder)
    if result.interrupted and result.finding is None:
        code = Exit.INTERRUPTED
    else:
        code = describe.verdict(output, expect, why_not, result.finding)
        code = Exit.INTERRUPTED if result.interrupted else code
    document = _document(chosen, result, limit, depth, granularity, kept, expect, why_not, code)
    return output.end(document, code, unkept)


def _refuse_with_all(**given: object) -> None:
    """UserMistake, if there is an option that says nothing together with --all."""
    for name, value in given.items():
        if value:
            raise UserMistake("cannot be given with --all", field=name if name.isupper() else f"--{name}")


def _say(output: Output, chosen: Chosen, result: Result, limit: int, how: str) -> None:
    rate = rate_of(result.schedules, result.seconds)
    if result.finding is None:
        seen = f"not seen in {counted(result.schedules, 'schedule')}" + (
            f" of {limit:,}, interrupted" if result.interrupted else ""
        )
        output.say(f"{seen} ({how}; {rate} per second)", bold=True)
    else:
        describe.finding(output, result.finding)
        output.say()
        output.say(f"found in schedule {result.found_at:,} of {limit:,} ({how}; {rate} per second)")
        if result.token is not None:
            long, short = describe.times(result.raw_deviations), describe.times(len(result.deviations))
            output.say(f"its schedule deviates from the default {long}; shortened: {short}")
            for deviation in result.deviations[:4]:
                output.say(f"  {deviation}")
    describe.say_sites(output, chosen.scenario, result.sites)
    for note, count in sorted(result.notes.items()):
        if note.startswith(UNEXPECTED):
            output.say(f"{note}: in {count:,} of {counted(result.schedules, 'schedule')}")
        else:
            output.say(f"noted, not stopped at: {note} ({describe.times(count)})")
    if result.token is not None:
        output.replay_line(chosen.replay_line(result.token))


def _keep(output: Output, chosen: Chosen, result: Result, folder: Path | None) -> tuple[str | None, ProjectBug | None]:
    """Record the finding's run once more, in the folder; returns the folder, or why it could not be kept."""
    if folder is None:
        return None, None
    if result.finding is None or result.token is None:
        output.note("no finding, so there is no run to keep; --out was not used")
        return None, None
    again = replay(chosen.scenario, result.deviations)
    unkept = keep(folder, lambda folder: write_sim(folder, chosen.scenario, again, result.token, chosen.options))
    if unkept is not None:
        return None, unkept
    output.kept(folder)
    return str(folder), None


def _document(
    chosen: Chosen,
    result: Result,
    limit: int,
    depth: int,
    granularity: str,
    kept: str | None,
    expect: bool,
    why_not: str | None,
    code: Exit,
) -> dict[str, Any]:
    what = chosen.scenario
    document: dict[str, Any] = {
        "command": "explore",
        "scenario": what.id,
        "errata": list(what.errata),
        "detect": what.detect,
        "strategy": result.strategy,
        "depth": depth if result.strategy == "pct" else None,
        "seed": result.seed,
        "granularity": granularity,
        "bound": limit,
        "schedules": result.schedules,
        "seconds": round(result.seconds, 3),
        "found_at": result.found_at or None,
        "finding": result.finding.as_dict() if result.finding is not None else None,
        "results": describe.in_order(what, result.results),
        "sites": describe.sites(what, result.sites),
        "notes": result.notes,
        "racy": sorted(result.racy),
        "operations": result.operations,
        "token": str(result.token) if result.token is not None else None,
        "deviations": [deviation._asdict() for deviation in result.deviations],
        "replay": chosen.replay_line(result.token) if result.token is not None else None,
        "out": kept,
        "interrupted": result.interrupted,
        "exit": int(code),
    }
    if expect:
        document["expected"] = {"held": why_not is None, "why": why_not}
    return document
