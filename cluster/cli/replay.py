"""`uvmp replay`: a schedule again, in sim or on real processes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from cluster import configs
from cluster.cli import describe
from cluster.cli.options import (
    SETTINGS,
    Chosen,
    address_option,
    apply,
    common,
    examples,
    expect_option,
    kernel_options,
    must_expect_something,
    new_folder,
    out_option,
)
from cluster.cli.output import Output
from cluster.replay import Replay, replay, replay_journals
from cluster.runfolder import Run, keep, load, write_sim
from cluster.token import Token, kernel_version, parse, refuse_mismatch
from nodes.build import build_threads
from shared.deviation import Deviation
from shared.errors import Exit, LogIncomplete, ProjectBug, UserMistake
from shared.findings import Finding
from shared.journal import Journals, cut_short, digest, digested, holes
from shared.patch import current
from shared.runfile import is_sealed, token_line
from shared.strict_yaml import show
from shared.text import clean, counted

#: what must be the same of a finding, recorded and replayed
SAME = ("kind", "text", "context", "function", "subject")


@dataclass
class Schedule:
    """What to replay: a token's deviations, or a run folder's journals.

    Attributes:
        digest: of the run in the folder; None for a token.
        finding: as the folder has it, if it is `recorded`.
    """

    chosen: Chosen
    token: Token | None = None
    journals: Journals | None = None
    digest: str | None = None
    finding: dict[str, Any] | None = None
    recorded: bool = False

    def unlike(self, found: Finding | None) -> str | None:
        """How the finding of the replay differs from the one that the folder has, in words; None if it does not."""
        if not self.recorded:
            return None
        here, there = (None if found is None else found.as_dict()), self.finding
        if (None if here is None else [here[key] for key in SAME]) == (
            None if there is None else [there.get(key) for key in SAME]
        ):
            return None
        told = [one if one is None else f"{one.get('kind')} ({clean(one.get('text'), 200)})" for one in (there, here)]
        return f"the run was recorded with {told[0] or 'no finding'}, its replay has {told[1] or 'no finding'}"


@click.command(
    "replay",
    context_settings=SETTINGS,
    epilog=examples(
        ("uvmp replay TOKEN", "as `uvmp explore` printed it: uvmp1.SCENARIO. ..."),
        ("uvmp replay TOKEN --live --out runs/live", "the same on real processes"),
        ("uvmp replay runs/live", "a folder's journals are a schedule too"),
    ),
)
@click.argument("what", metavar="TOKEN|RUN")
@click.option("--live", is_flag=True, help="Then make real processes follow it, and compare the digests.")
@click.option(
    "--lenient", is_flag=True, help="Also if made elsewhere: skip what cannot be done, and say where it began."
)
@click.option("--scenario", metavar="FILE", help="The token's scenario, if it does not come with uvmp.")
@kernel_options
@address_option
@out_option
@expect_option
@common
def command(
    what: str,
    live: bool,
    lenient: bool,
    scenario: str | None,
    fixed: bool,
    errata: tuple[str, ...],
    detect: tuple[str, ...],
    kernel_lock: str | None,
    address: str | None,
    out: str | None,
    expect: bool,
    as_json: bool,
) -> int:
    """Repeat exactly the schedule of TOKEN, or of the folder RUN that --out kept.

    A step that cannot happen ends it with exit code 3, saying what was expected and what was there. So does --live if
    the real processes' journals are not, record by record, those of sim.
    """
    output = Output(as_json)
    given = any((scenario is not None, fixed, errata, detect, kernel_lock))
    schedule = _schedule(output, what, scenario, fixed, errata, detect, kernel_lock, lenient, given)
    chosen = schedule.chosen
    if expect:
        must_expect_something(chosen.scenario)
    folder = new_folder(out)
    if address is not None and not live:
        raise UserMistake("is for --live", field="--address")
    if live:
        from cluster.cli.live import check_address

        check_address(address)

    describe.introduce(output, chosen.scenario)
    if schedule.token is not None:
        done = replay(chosen.scenario, list(schedule.token.deviations), strict=not lenient)
    else:
        assert schedule.journals is not None
        done = replay_journals(chosen.scenario, schedule.journals)
    if done.skipped:
        output.say(_first_divergence(done.skipped, schedule.token), fg="yellow")
    finding, results, digests = done.finding, done.results, {"sim": done.digest}
    if schedule.digest is not None:
        digests = {"kept": schedule.digest, **digests}
    unkept: ProjectBug | None = None
    if live:
        token = None if done.skipped else schedule.token
        finding, results, digests["live"], unkept = _follow(output, chosen, done, address, folder, token)
    elif folder is not None:
        token = None if done.skipped else schedule.token
        unkept = keep(folder, lambda folder: write_sim(folder, chosen.scenario, done, token, chosen.options))

    describe.results(output, chosen.scenario, results)
    if finding is not None:
        describe.finding(output, finding)
    else:
        output.say("no finding", bold=True)
    describe.say_sites(output, chosen.scenario, done.sites)
    output.say(f"{done.operations:,} operations")
    equal = _say_digests(output, digests)
    unlike = schedule.unlike(done.finding)
    if unlike is not None:
        output.say(unlike, fg="red")
        equal = False
    if unkept is not None:
        folder = None
    output.kept(folder)
    why_not = describe.unmet(chosen.scenario, finding, results) if expect else None
    code = describe.verdict(output, expect, why_not, finding)
    code = code if equal else Exit.DIVERGED
    document = _document(schedule, done, finding, results, digests, equal, unlike, folder, live, expect, why_not, code)
    return output.end(document, code, unkept)


def _schedule(
    output: Output,
    what: str,
    scenario: str | None,
    fixed: bool,
    errata: Sequence[str],
    detect: Sequence[str],
    kernel_lock: str | None,
    lenient: bool,
    given: bool,
) -> Schedule:
    """What the user wants replayed.

    Raises: UserMistake - no token, a token of something else, no run folder; LogIncomplete.
    """
    if os.path.lexists(what) or "/" in what:
        if given:
            raise UserMistake("a run folder has its own scenario, errata and detectors", field="RUN")
        return _folder(output, what, lenient)
    token = parse(what)
    if scenario is None and token.scenario not in configs.names("scenarios"):
        raise UserMistake(
            f"it is a token of {show(token.scenario)}, which does not come with uvmp; name its file: --scenario FILE",
            field="TOKEN",
        )
    source = configs.scenario(token.scenario if scenario is None else scenario, "--scenario")
    own = source.scenario.without_errata() if token.fixed else source.scenario
    chosen = apply(own, () if source.path is None else ("--scenario", source.path), fixed, errata, detect, kernel_lock)
    if token.scenario != chosen.scenario.id:
        raise UserMistake(
            f"the token is one of scenario {token.scenario}, this is {chosen.scenario.id}", field="--scenario"
        )
    try:
        refuse_mismatch(token, chosen.scenario)
    except UserMistake as mistake:
        if not lenient:
            raise
        output.note(f"{mistake.message.split(';')[0]}; replaying it all the same")
    return Schedule(chosen, token)


def _folder(output: Output, what: str, lenient: bool) -> Schedule:
    run = load(what)
    about, scenario = run.run or {}, run.loaded
    versions = about.get("versions")
    made_on = clean(versions.get("kernel"), 40) if isinstance(versions, dict) else "?"
    same = made_on == kernel_version()
    wanted_patch = _patch_of(about.get("options"))
    if wanted_patch is not None and current() is None:
        raise UserMistake(f"the run was made with the patch {wanted_patch}; give --patch FILE.py", file=run.path)
    if run.torn and (same or not is_sealed(about)):
        raise LogIncomplete("; ".join([f"{run.path}: {run.torn[0]}", *holes(run.journals)[:1]]))
    if scenario is None or run.run is None:
        if run.run is not None and not same:
            raise UserMistake(f"made on kernel {made_on}, whose scenarios this uvmp cannot read", file=run.path)
        missing = "scenario.json" if scenario is None else "run.json"
        raise LogIncomplete(f"{run.path}: there is no {missing}: the run was cut short and is no whole schedule")
    if not same:
        told = f"the run was made on kernel {made_on}, this is kernel {kernel_version()}"
        if not lenient:
            raise UserMistake(f"{told}; --lenient replays it anyway", file=run.path)
        output.note(f"{told}; replaying it all the same")
    options = about.get("options")
    token = next((one for one in (about.get("token"), about.get("shortened")) if one is not None), None)
    chosen = Chosen(scenario, tuple(options or ()) if token_line(token, options) is not None else ())
    if lenient and not same and token is not None:
        return Schedule(chosen, parse(token))
    contexts = build_threads(scenario)
    for records in run.journals.values():
        for one in records:
            if one["ctx"] not in contexts:
                raise LogIncomplete(f"{run.path}: a record of {one['ctx']}, which this machine does not have")
    wanted = str(about.get("digest"))
    return Schedule(chosen, None, _told_of(run, wanted, scenario.limit), wanted, run.finding()[0], recorded=True)


def _patch_of(options: object) -> str | None:
    """The patch that a run was made with, as its folder has the options."""
    if not isinstance(options, list) or "--patch" not in options[:-1]:
        return None
    return clean(options[options.index("--patch") + 1], 200)


def _told_of(run: Run, wanted: str, limit: int) -> Journals:
    """The part of a folder's journals that its digest is of.

    Raises: LogIncomplete - it is of none.
    """
    admitted = (run.run or {}).get("admitted")
    short = cut_short(run.journals, admitted) if isinstance(admitted, dict) else []
    part = None if short else digested(run.journals, wanted, limit)
    if part is not None:
        return part
    other = f"the journals have digest {digest(run.journals)}, run.json tells of {wanted}"
    raise LogIncomplete(f"{run.path}: {clean([*short, *holes(run.journals), other][0], 200)}")


def _first_divergence(skipped: list[Deviation], token: Token | None) -> str:
    total = len(token.deviations) if token is not None else len(skipped)
    return f"skipped {len(skipped)} of {counted(total, 'deviation')}; the first: {skipped[0]}"


def _follow(
    output: Output, chosen: Chosen, done: Replay, address: str | None, folder: Path | None, token: Token | None
) -> tuple[Finding | None, dict[str, list[dict[str, Any]]], str, ProjectBug | None]:
    """Make a live machine follow what sim did; returns its finding, results and digest, and why it was not kept."""
    from cluster.cli.live import booted, kept, write_end

    with booted(output, chosen.scenario, address) as machine:
        with kept(machine, folder) as name:
            run = machine.run(follow=done.journals, out=folder, identity=name)
        output.note(f"followed {run.operations:,} operations in {run.seconds:.2f} s")
        unkept = None
        if folder is not None:
            unkept = write_end(folder, name, chosen.scenario, run, token, options=chosen.options)
    return run.finding, run.results, run.digest, unkept


def _say_digests(output: Output, digests: dict[str, str]) -> bool:
    for name, value in digests.items():
        output.say(f"digest {name.ljust(4)}  {value}")
    equal = len(set(digests.values())) == 1
    if len(digests) > 1:
        output.say("             equal" if equal else "             NOT equal", fg="green" if equal else "red")
    return equal


def _document(
    schedule: Schedule,
    done: Replay,
    finding: Finding | None,
    results: dict[str, list[dict[str, Any]]],
    digests: dict[str, str],
    equal: bool,
    unlike: str | None,
    folder: Path | None,
    live: bool,
    expect: bool,
    why_not: str | None,
    code: Exit,
) -> dict[str, Any]:
    scenario, token = schedule.chosen.scenario, schedule.token
    document: dict[str, Any] = {
        "command": "replay",
        "scenario": scenario.id,
        "engine": "live" if live else "sim",
        "errata": list(scenario.errata),
        "detect": scenario.detect,
        "results": describe.in_order(scenario, results),
        "finding": finding.as_dict() if finding is not None else None,
        "notes": [note.as_dict() for note in done.notes],
        "sites": describe.sites(scenario, done.sites),
        "operations": done.operations,
        "digest": digests,
        "equal": equal,
        "unlike": unlike,
        "skipped": [deviation._asdict() for deviation in done.skipped],
        "token": str(token) if token is not None else None,
        "replay": schedule.chosen.replay_line(token) if token is not None else None,
        "out": str(folder) if folder is not None else None,
        "exit": int(code),
    }
    if expect:
        document["expected"] = {"held": why_not is None, "why": why_not}
    return document
