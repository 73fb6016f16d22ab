"""`uvmp replay`: a schedule again, in sim or on real processes."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from cluster.cli import describe
from cluster.cli.asking import argument, called, flag, option
from cluster.cli.documents import End, finish, of_outcome, of_scenario
from cluster.cli.options import (
    Chosen,
    LiveOptions,
    TimedOptions,
    must_expect_something,
    new_folder,
    refuse_live_options,
)
from cluster.cli.output import Output, pasteable
from cluster.cli.schedules import schedule_of
from cluster.runs.clock import Clock
from cluster.runs.folder import keep, write_live
from cluster.runs.outcome import Outcome
from cluster.runs.parity import parity
from cluster.runs.token import Token
from shared.errors import Exit, UserMistake
from shared.text import counted


@dataclass(frozen=True, kw_only=True)
class ReplayOptions(TimedOptions, LiveOptions):
    """The argument and the options of `uvmp replay`."""

    what: str = argument(metavar="TOKEN|RUN")
    live: bool = flag("Also make real processes follow the schedule, and compare the digests.")
    lenient: bool = flag("Accept a token of another kernel: skip impossible choices, and report the first.")
    scenario: str | None = option("The file of the token's scenario, if it is not a shipped scenario.", metavar="FILE")


@called(
    "replay",
    ReplayOptions,
    ("uvmp replay TOKEN", "repeat a schedule that `uvmp explore` found"),
    ("uvmp replay TOKEN --live --out runs/live", "repeat it on real processes"),
    ("uvmp replay runs/live", "repeat the run of a folder"),
)
def command(asked: ReplayOptions) -> int:
    """Repeat exactly the schedule of TOKEN, or of the folder RUN that --out kept.

    If a step of the schedule cannot happen, the command says what it expected and what it found, and exits with 3. With
    --live it also exits with 3 if the journals of the real processes differ from those of sim.
    """
    output = Output(asked.as_json)
    schedule = schedule_of(output, asked.what, asked.scenario, asked.lenient, asked)
    chosen = schedule.chosen
    if asked.live and (schedule.cut or schedule.late is not None):
        what = "a session" if schedule.late is None else "the run"
        resume = pasteable(shlex.join(["uvmp", "run", "--resume", asked.what, "--engine", "live"]))
        raise UserMistake(
            f"{what} was ended here while contexts could go on, and only sim can stop there; to continue: {resume}",
            field="--live",
        )
    if asked.expect:
        must_expect_something(chosen.scenario)
    folder = new_folder(asked.out)
    if not asked.live:
        refuse_live_options("--live", asked)
    else:
        from cluster.cli.live import check

        check(asked, chosen.scenario)

    describe.introduce(output, chosen.scenario)
    sim = schedule.replay(strict=not asked.lenient, time_s=asked.time)
    whole = sim.late == schedule.late
    if sim.skipped:
        output.say(_first_divergence(sim, schedule.token), fg="yellow")
    sim.token = None if sim.skipped or not whole else schedule.token
    if asked.live and whole:
        last = _follow(output, asked, chosen, sim, folder)
    else:
        last = sim
        keep(folder, chosen.scenario, sim, chosen.options)

    digests = {} if schedule.digest is None or not whole else {"kept": schedule.digest}
    digests |= {"sim": sim.digest} if last.late != sim.late else {"sim": sim.digest, last.engine: last.digest}
    describe.results(output, chosen.scenario, last.results)
    describe.finding_or_none(output, last.finding)
    describe.say_sites(output, chosen.scenario, sim.sites)
    output.say(f"{sim.operations:,} operations")
    equal = _say_digests(output, digests)
    if last.late != sim.late:
        last.parity = parity(chosen.scenario, last)
        output.say(f"digest live  {last.digest}")
        output.say(f"             {last.parity}, of {counted(last.operations, 'operation')}")
        equal = equal and last.parity.equal
    unlike = schedule.unlike(sim.finding) if whole else None
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
    facts |= {"time": asked.time, "digest": digests, "equal": equal, "unlike": unlike, "token": token, "replay": line}
    return finish(output, "replay", end, of_scenario(chosen.scenario), facts)


def _first_divergence(run: Outcome, token: Token | None) -> str:
    total = len(token.deviations) if token is not None else len(run.skipped)
    return f"skipped {len(run.skipped)} of {counted(total, 'deviation')}; the first: {run.skipped[0]}"


def _follow(output: Output, asked: ReplayOptions, chosen: Chosen, sim: Outcome, folder: Path | None) -> Outcome:
    """Make a live machine follow what sim did."""
    from cluster.cli.live import booted
    from cluster.live.salvage import kept

    with booted(output, chosen.scenario, asked) as machine:
        with kept(machine, folder, chosen.options) as name:
            clock = None if asked.time is None else Clock(asked.time)
            run = machine.run(follow=sim.journals, out=folder, clock=clock, identity=name)
        output.note(f"followed {run.operations:,} operations in {run.seconds:.2f} s")
        run.token = sim.token if run.late is None else None
        write_live(folder, chosen.scenario, name, run, chosen.options)
    return run


def _say_digests(output: Output, digests: dict[str, str]) -> bool:
    for name, value in digests.items():
        output.say(f"digest {name.ljust(4)}  {value}")
    equal = len(set(digests.values())) == 1
    if len(digests) > 1:
        output.say("             equal" if equal else "             NOT equal", fg="green" if equal else "red")
    return equal
