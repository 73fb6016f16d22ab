"""`uvmp replay`: a schedule again, in sim or on real processes."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import click

from cluster import configs
from cluster.cli import describe
from cluster.cli.documents import End, document, of_end, of_outcome, of_scenario
from cluster.cli.options import (
    Chosen,
    Options,
    apply,
    asks,
    called,
    kernel_options,
    live_options,
    must_expect_something,
    new_folder,
    refuse_live_options,
    run_options,
)
from cluster.cli.output import Output
from cluster.postmortem.load import Run, load
from cluster.runs.folder import keep, write_live
from cluster.runs.outcome import Outcome
from cluster.runs.replay import replay, replay_journals
from cluster.runs.token import Token, is_ours, kernel_version, parse, refuse_mismatch
from nodes.build import build_threads
from nodes.host.transport import Kind
from shared.errors import Exit, LogIncomplete, UserMistake
from shared.findings import Finding
from shared.journal.order import cut_short, digested
from shared.journal.record import Journals, digest, holes
from shared.journal.runfile import is_sealed, token_line
from shared.patch import current
from shared.scenario.yaml import show
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
    finding: dict[str, object] | None = None
    recorded: bool = False

    def replay(self, strict: bool) -> Outcome:
        """Run the schedule in sim.

        Raises: Diverged - a step of it cannot happen; of a token, only if it is `strict`. LogIncomplete.
        """
        if self.token is not None:
            return replay(self.chosen.scenario, list(self.token.deviations), strict)
        assert self.journals is not None
        return replay_journals(self.chosen.scenario, self.journals)

    def unlike(self, replayed: Finding | None) -> str | None:
        """How the finding of the replay differs from the one that the folder has, in words; None if it does not."""
        if not self.recorded:
            return None
        here, there = (None if replayed is None else replayed.as_dict()), self.finding
        if (None if here is None else [here[key] for key in SAME]) == (
            None if there is None else [there.get(key) for key in SAME]
        ):
            return None
        told = [
            finding if finding is None else f"{finding.get('kind')} ({clean(finding.get('text'), 200)})"
            for finding in (there, here)
        ]
        return f"the run was recorded with {told[0] or 'no finding'}, but its replay has {told[1] or 'no finding'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayOptions(Options):
    """What `uvmp replay` is asked for.

    Attributes:
        what: a token or a folder.
        scenario: the file of a token's scenario.
    """

    what: str
    live: bool
    lenient: bool
    scenario: str | None
    address: str | None
    transport: Kind | None


@called(
    "replay",
    ("uvmp replay TOKEN", "repeat a schedule that `uvmp explore` found"),
    ("uvmp replay TOKEN --live --out runs/live", "repeat it on real processes"),
    ("uvmp replay runs/live", "repeat the run of a folder"),
)
@click.argument("what", metavar="TOKEN|RUN")
@click.option("--live", is_flag=True, help="Also make real processes follow the schedule, and compare the digests.")
@click.option(
    "--lenient", is_flag=True, help="Accept a token of another kernel: skip impossible choices, and report the first."
)
@click.option("--scenario", metavar="FILE", help="The file of the token's scenario, if it is not a shipped scenario.")
@kernel_options
@live_options
@run_options
@asks(ReplayOptions)
def command(asked: ReplayOptions) -> int:
    """Repeat exactly the schedule of TOKEN, or of the folder RUN that --out kept.

    If a step of the schedule cannot happen, the command says what it expected and what it found, and exits with 3. With
    --live it also exits with 3 if the journals of the real processes differ from those of sim.
    """
    output = Output(asked.as_json)
    schedule = _schedule(output, asked)
    chosen = schedule.chosen
    if asked.expect:
        must_expect_something(chosen.scenario)
    folder = new_folder(asked.out)
    if not asked.live:
        refuse_live_options("--live", asked.address, asked.transport)
    else:
        from cluster.cli.live import check_address

        check_address(asked.address)

    describe.introduce(output, chosen.scenario)
    sim = schedule.replay(strict=not asked.lenient)
    if sim.skipped:
        output.say(_first_divergence(sim, schedule.token), fg="yellow")
    sim.token = None if sim.skipped else schedule.token
    if asked.live:
        last = _follow(output, asked, chosen, sim, folder)
    else:
        last = sim
        keep(folder, chosen.scenario, sim, chosen.options)

    digests = {} if schedule.digest is None else {"kept": schedule.digest}
    digests |= {"sim": sim.digest, last.engine: last.digest}
    describe.results(output, chosen.scenario, last.results)
    describe.finding_or_none(output, last.finding)
    describe.say_sites(output, chosen.scenario, sim.sites)
    output.say(f"{sim.operations:,} operations")
    equal = _say_digests(output, digests)
    unlike = schedule.unlike(sim.finding)
    if unlike is not None:
        output.say(unlike, fg="red")
        equal = False
    output.kept(last.folder)
    why_not = describe.unmet(chosen.scenario, last.finding, last.results) if asked.expect else None
    code = describe.verdict(output, asked.expect, why_not, last.finding)
    end = End(code if equal else Exit.DIVERGED, asked.expect, why_not, failed=last.unkept)
    token = None if schedule.token is None else str(schedule.token)
    line = None if schedule.token is None else chosen.replay_line(schedule.token)
    there = of_outcome(chosen, last)
    facts = {**of_outcome(chosen, sim), **{key: there[key] for key in ("engine", "results", "finding", "out")}}
    facts |= {"digest": digests, "equal": equal, "unlike": unlike, "token": token, "replay": line}
    return output.end(document("replay", of_scenario(chosen.scenario), facts, of_end(end)), end.code, end.failed)


def _schedule(output: Output, asked: ReplayOptions) -> Schedule:
    """What the user wants replayed.

    Raises: UserMistake - no token, a token of something else, no run folder; LogIncomplete.
    """
    what, scenario = asked.what, asked.scenario
    if os.path.lexists(what) or "/" in what:
        if scenario is not None or asked.changes_the_kernel:
            raise UserMistake("a run folder has its own scenario, errata and detectors", field="RUN")
        return _folder(output, what, asked.lenient)
    token = parse(what)
    if scenario is None and token.scenario not in configs.names("scenarios"):
        raise UserMistake(
            f"the token is of {show(token.scenario)}, which is not a shipped scenario; give its file: --scenario FILE",
            field="TOKEN",
        )
    source = configs.scenario(token.scenario if scenario is None else scenario, "--scenario")
    own = source.scenario.without_errata() if token.fixed else source.scenario
    chosen = apply(own, () if source.path is None else ("--scenario", source.path), asked)
    if token.scenario != chosen.scenario.id:
        raise UserMistake(
            f"the token is of scenario {token.scenario}, this is {chosen.scenario.id}", field="--scenario"
        )
    try:
        refuse_mismatch(token, chosen.scenario)
    except UserMistake as mistake:
        if not asked.lenient:
            raise
        output.note(f"{mistake.message.split(';')[0]}; replaying it anyway")
    return Schedule(chosen, token)


def _folder(output: Output, what: str, lenient: bool) -> Schedule:
    run = load(what)
    about, scenario = run.run or {}, run.loaded
    versions = about.get("versions")
    made_on = clean(versions.get("kernel"), 40) if isinstance(versions, dict) else "?"
    same = is_ours(made_on)
    wanted_patch = _patch_of(about.get("options"))
    if wanted_patch is not None and current() is None:
        raise UserMistake(f"the run was made with the patch {wanted_patch}; give --patch FILE.py", file=run.path)
    if run.torn and (same or not is_sealed(about)):
        raise LogIncomplete("; ".join([f"{run.path}: {run.torn[0]}", *holes(run.journals)[:1]]))
    if scenario is None or run.run is None:
        if run.run is not None and not same:
            raise UserMistake(
                f"the run was made on kernel {made_on}, whose scenarios this uvmp cannot read", file=run.path
            )
        missing = "scenario.json" if scenario is None else "run.json"
        raise LogIncomplete(f"{run.path}: there is no {missing}: the run was cut short, so its schedule is incomplete")
    if not same:
        told = f"the run was made on kernel {made_on}, this is kernel {kernel_version()}"
        if not lenient:
            raise UserMistake(f"{told}; --lenient replays it anyway", file=run.path)
        output.note(f"{told}; replaying it anyway")
    options = about.get("options")
    token = next((token for token in (about.get("token"), about.get("shortened")) if token is not None), None)
    sound = isinstance(options, list) and token_line(token, options) is not None
    chosen = Chosen(scenario, tuple(map(str, options)) if isinstance(options, list) and sound else ())
    if lenient and not same and isinstance(token, str):
        return Schedule(chosen, parse(token))
    contexts = build_threads(scenario)
    for records in run.journals.values():
        for record in records:
            if record["ctx"] not in contexts:
                raise LogIncomplete(f"{run.path}: a record of {record['ctx']}, which this machine does not have")
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
    other = f"the journals have digest {digest(run.journals)}, run.json says {wanted}"
    raise LogIncomplete(f"{run.path}: {clean([*short, *holes(run.journals), other][0], 200)}")


def _first_divergence(run: Outcome, token: Token | None) -> str:
    total = len(token.deviations) if token is not None else len(run.skipped)
    return f"skipped {len(run.skipped)} of {counted(total, 'deviation')}; the first: {run.skipped[0]}"


def _follow(output: Output, asked: ReplayOptions, chosen: Chosen, sim: Outcome, folder: Path | None) -> Outcome:
    """Make a live machine follow what sim did."""
    from cluster.cli.live import booted
    from cluster.live.salvage import kept

    with booted(output, chosen.scenario, asked.address, asked.transport) as machine:
        with kept(machine, folder) as name:
            run = machine.run(follow=sim.journals, out=folder, identity=name)
        output.note(f"followed {run.operations:,} operations in {run.seconds:.2f} s")
        run.token = sim.token
        write_live(folder, chosen.scenario, name, run, chosen.options)
    return run


def _say_digests(output: Output, digests: dict[str, str]) -> bool:
    for name, value in digests.items():
        output.say(f"digest {name.ljust(4)}  {value}")
    equal = len(set(digests.values())) == 1
    if len(digests) > 1:
        output.say("             equal" if equal else "             NOT equal", fg="green" if equal else "red")
    return equal
