"""`uvmp run`: run a scenario, in this process or on real processes."""

from __future__ import annotations

import shlex
import sys
from collections import Counter
from collections.abc import Generator
from dataclasses import dataclass, field, replace
from pathlib import Path

import click

from cluster.boot import prepare
from cluster.cli import describe
from cluster.cli.asking import argument, called, flag, option, refuse, seed
from cluster.cli.documents import End, Facts, document, finish, of_outcome, of_scenario
from cluster.cli.options import Chosen, LiveOptions, TimedOptions, choose, new_folder, refuse_live_options
from cluster.cli.output import Output, Style
from cluster.cli.start import Start, start_of
from cluster.runs.clock import Clock
from cluster.runs.folder import keep, write_live
from cluster.runs.outcome import Outcome
from cluster.runs.replay import continued, recorded
from cluster.runs.token import token_of
from cluster.search import STRATEGIES, make
from cluster.search.chance import interval, percent
from cluster.sim.engine import Sim
from shared.errors import Exit, ProjectBug, UserMistake
from shared.journal.order import operations
from shared.journal.runfile import MAX_TOKEN
from shared.text import counted

MAX_SURVIVE = 1000
MAX_REPEAT = 1_000_000
DEFAULT = click.core.ParameterSource.DEFAULT


@dataclass(frozen=True, kw_only=True)
class RunOptions(TimedOptions, LiveOptions):
    """The argument and the options of `uvmp run`."""

    scenario: str | None = argument(required=False)
    resume: str | None = option(
        "Continue the run of this folder, which was killed or ended: follow its logs to their last consistent cut, "
        "then run freely. --out keeps the whole run.", metavar="RUN",
    )  # fmt: skip
    engine: str = option(
        "sim: in this process; live: on Ray actors, which are processes that run freely.",
        type=click.Choice(["sim", "live"]), default="sim", show_default=True,
    )  # fmt: skip
    strategy: str | None = option(
        "How sim chooses the next context; default: stay, which never preempts.", type=click.Choice(list(STRATEGIES))
    )
    seed: int = seed()
    repeat: int | None = option(
        "Run the scenario this many times, and count the findings.", type=click.IntRange(1, MAX_REPEAT)
    )
    survive: int | None = option(
        "With live: continue if actors die, at most N times in a run, from the journals.",
        type=click.IntRange(0, MAX_SURVIVE), metavar="N",
    )  # fmt: skip
    no_check: bool = flag("With live: do not replay each run in sim to compare the digests.")

    @property
    def stays(self) -> bool:
        """Does every run take the default schedule?"""
        return self.engine == "sim" and self.strategy in (None, "stay")


@dataclass
class Runs:
    """The runs of one command, as far as it came.

    Attributes:
        start: what each of them begins with.
        failed: why there are no more.
    """

    asked: RunOptions
    chosen: Chosen
    start: Start | None = None
    outcomes: list[Outcome] = field(default_factory=list)
    interrupted: bool = False
    failed: ProjectBug | None = None

    @property
    def findings(self) -> list[Outcome]:
        return [outcome for outcome in self.outcomes if outcome.finding is not None]

    def folder(self, out: Path | None, number: int) -> Path | None:
        """Where run `number` is kept, from 1."""
        return out / str(number) if out is not None and self.asked.repeat is not None else out


@called(
    "run",
    RunOptions,
    ("uvmp run S3a --json", ""),
    ("uvmp run S3a-shipped --engine live --repeat 20", "count findings on a machine that runs freely"),
    ("uvmp run my.yaml --strategy random --out runs/mine", "run your own scenario, and keep the run in a folder"),
    ("uvmp run my.yaml --time 30s", "end it after half a minute"),
    ("uvmp run --resume runs/mine --out runs/whole", "continue a run that was killed or ended"),
)
def command(asked: RunOptions) -> int:
    """Run SCENARIO once, or --repeat it.

    SCENARIO is an id, as `uvmp scenarios` lists them, or a file. In sim a run is one execution; search with `uvmp
    explore`. A live machine is booted once for all runs. With --json and without --repeat, the document has `results`
    of every program in order, `finding`, `sites` and `token`; with --repeat, `runs` has these for each run.
    """
    output = Output(asked.as_json)
    runs = _runs(output, asked)
    out = new_folder(asked.out)
    _refuse(asked)
    describe.introduce(output, runs.chosen.scenario)
    if asked.stays and (asked.repeat or 1) > 1:
        output.note("warning: strategy stay makes no choices, so all runs are equal; try --strategy random")
    if asked.engine == "live":
        from cluster.cli.live import check

        check(asked, runs.chosen.scenario)
    _perform(output, runs, _live(output, runs, out) if asked.engine == "live" else _sim(runs, out))

    why_not = _unmet(runs) if asked.expect else None
    code = _say(output, runs, why_not)
    if any(outcome.parity is not None and not outcome.parity.equal for outcome in runs.outcomes):
        code = Exit.DIVERGED
    if runs.interrupted:
        code = Exit.INTERRUPTED
    end = End(code, asked.expect, why_not, runs.interrupted, runs.failed)
    return finish(output, "run", end, of_scenario(runs.chosen.scenario), _facts(runs))


def _runs(output: Output, asked: RunOptions) -> Runs:
    """The runs that the options ask for, before the first.

    Raises: UserMistake, LogIncomplete.
    """
    if asked.resume is None:
        if asked.scenario is None:
            raise click.UsageError("missing argument 'SCENARIO'")
        return Runs(asked, choose(asked.scenario, asked))
    if asked.scenario is not None:
        raise UserMistake("cannot be given with --resume, whose folder has its scenario", field="SCENARIO")
    start = start_of(output, asked.resume, asked)
    return Runs(asked, start.chosen, start)


def _refuse(asked: RunOptions) -> None:
    """Options that have no meaning together.

    Raises: UserMistake.
    """
    if asked.engine == "live":
        refuse(asked, "is only for sim; a live machine runs freely", "strategy")
    if asked.stays and click.get_current_context().get_parameter_source("seed") is not DEFAULT:
        raise UserMistake("stay makes no choices; give --strategy random or pct, or --engine live", field="--seed")
    if asked.engine == "sim":
        refuse_live_options("--engine live", asked)
        refuse(asked, "is only for --engine live", "no_check", "survive")


def _perform(output: Output, runs: Runs, engine: Generator[Outcome, None, None]) -> None:
    """Collect the runs of an engine; it is ended whatever happens."""
    asked, total = runs.asked, runs.asked.repeat or 1
    try:
        for outcome in engine:
            outcome.journals = {}  # of a million runs, they have no room
            runs.outcomes.append(outcome)
            if outcome.unkept is not None:
                raise outcome.unkept
            if asked.repeat is not None and (asked.engine == "live" or total <= 20):
                output.note(f"run {len(runs.outcomes)} of {total}: {_short(outcome)}")
    except KeyboardInterrupt:
        runs.interrupted = True
        output.note("interrupted")
    except ProjectBug as error:
        if not runs.outcomes or "--debug" in sys.argv:
            raise
        runs.failed = error  # what was found so far is told first
    finally:
        engine.close()


# -- the two engines -----------------------------------------------------------------------


def _sim(runs: Runs, out: Path | None) -> Generator[Outcome, None, None]:
    asked, chosen = runs.asked, runs.chosen
    scenario = chosen.scenario
    sim = Sim(*prepare(scenario))
    sim.time_s = asked.time
    chooser = make(asked.strategy or "stay", asked.seed, scenario.bound.depth)
    if runs.start is not None:
        chooser = continued(sim.machine, runs.start.journals, chooser)
    for number in range(1, (asked.repeat or 1) + 1):
        sim.execute(chooser, record=True)
        outcome = recorded(sim)
        token = token_of(scenario, outcome.deviations)
        outcome.token = token if outcome.late is None and len(str(token)) <= MAX_TOKEN else None
        keep(runs.folder(out, number), scenario, outcome, chosen.options)
        yield outcome


def _live(output: Output, runs: Runs, out: Path | None) -> Generator[Outcome, None, None]:
    from cluster.cli.live import booted
    from cluster.live.machine import Beginning
    from cluster.live.salvage import kept
    from cluster.live.survive import Surviving
    from cluster.runs.parity import parity, token_of_live

    asked, scenario = runs.asked, runs.chosen.scenario
    if asked.no_check and asked.transport is None:
        asked = replace(asked, transport="sockets")
    follow = None if runs.start is None else Beginning(runs.start.journals)
    with booted(output, scenario, asked) as machine:
        for number in range(1, (asked.repeat or 1) + 1):
            folder = runs.folder(out, number)
            with kept(machine, folder, runs.chosen.options) as name:
                surviving = Surviving(machine, asked.survive or 0, output.note)
                clock = None if asked.time is None else Clock(asked.time)
                outcome = surviving.run(follow, folder, asked.seed + number - 1, name, clock)
            if not asked.no_check:
                outcome.parity = parity(scenario, outcome)
            if outcome.parity is None or outcome.parity.equal:
                outcome.shortened = token_of_live(scenario, outcome)
            write_live(folder, scenario, name, outcome, runs.chosen.options)
            yield outcome


# -- their outcome -----------------------------------------------------------------------


def _short(run: Outcome) -> str:
    words = "no finding"
    if run.finding is not None:
        finding = run.finding
        words = " ".join(
            part for part in (finding.kind, _of("in", finding.function), _of("of", finding.subject)) if part
        )
    words += f"; {run.operations:,} operations"
    if run.seconds:
        words += f" in {run.seconds:.2f} s"
    return words + (f"; digest {run.digest[:8]} {run.parity}" if run.parity is not None else "")


def _of(word: str, name: str) -> str:
    return f"{word} {name}" if name else ""


def _unmet(runs: Runs) -> str | None:
    """Why the expectation does not hold over all runs: a finding must come in one of them, and no other in any."""
    scenario = runs.chosen.scenario
    outcome = scenario.outcome()
    reasons = [describe.unmet(scenario, run.finding, run.results) for run in runs.outcomes]
    if outcome is not None and outcome.findings:
        wrong = [why for run, why in zip(runs.outcomes, reasons, strict=True) if run.finding is not None and why]
        if wrong:
            return wrong[0]
        if any(why is None for why in reasons):
            return None
        return reasons[0] if reasons else "there was no run"
    return next((why for why in reasons if why), None if reasons else "there was no run")


def _say(output: Output, runs: Runs, why_not: str | None) -> Exit:
    if runs.asked.repeat is None:
        for run in runs.outcomes:
            _say_run(output, runs.chosen, run)
    elif runs.outcomes:
        _say_runs(output, runs)
    first = runs.findings[0].finding if runs.findings else None
    return describe.verdict(output, runs.asked.expect, why_not, first)


def _say_runs(output: Output, runs: Runs) -> None:
    """How often each finding came, and the line that repeats the first run with a finding."""
    chosen, all_runs = runs.chosen, runs.outcomes
    low, high = map(percent, interval(len(runs.findings), len(all_runs)))
    likely = f"; so between {low} and {high} of such runs have one (95 %)" if len(all_runs) > 1 else ""
    output.say(f"a finding in {len(runs.findings):,} of {counted(len(all_runs), 'run')}{likely}", bold=True)
    tally = Counter(run.finding.signature if run.finding is not None else ("no finding", "", "") for run in all_runs)
    output.table(
        ("runs", "finding", "function", "object"), [(count, *signature) for signature, count in tally.most_common()]
    )
    sites: Counter[str] = Counter()
    for run in all_runs:
        sites.update(run.sites)
    describe.say_sites(output, chosen.scenario, sites)
    compared = [run.parity for run in all_runs if run.parity is not None]
    if compared:
        equal = sum(parity.equal for parity in compared)
        style: Style = {} if equal == len(compared) else {"fg": "red"}
        output.say(f"digest equal in sim: {equal:,} of {counted(len(compared), 'run')}", **style)
        for wrong in [parity for parity in compared if not parity.equal][:1]:
            output.say(f"  {wrong}", fg="red")
    first = next((run for run in runs.findings if _again(chosen, run)), None) or next(
        (run for run in runs.findings if run.shortened is not None), None
    )
    if first is not None:
        _say_again(output, chosen, first)


def _say_run(output: Output, chosen: Chosen, run: Outcome) -> None:
    scenario = chosen.scenario
    describe.results(output, scenario, run.results)
    describe.finding_or_none(output, run.finding)
    for note in run.notes:
        output.say(f"noted, without stopping: {' '.join(part for part in note.signature if part)}: {note.text}")
    describe.say_sites(output, scenario, run.sites)
    output.say(f"{run.operations:,} operations" + (f" in {run.seconds:.2f} s" if run.seconds else ""))
    output.say(f"digest {run.digest}")
    if run.parity is not None:
        style: Style = {} if run.parity.equal else {"fg": "red"}
        output.say(f"       {run.parity}", **style)
    _say_again(output, chosen, run)
    output.kept(run.folder)


def _again(chosen: Chosen, run: Outcome) -> str | None:
    """The line that repeats this very run: its token's, or its folder's."""
    if run.token is not None:
        return chosen.replay_line(run.token)
    return shlex.join(["uvmp", "replay", str(run.folder)]) if run.folder is not None else None


def _say_again(output: Output, chosen: Chosen, run: Outcome) -> None:
    again = _again(chosen, run)
    if again is not None:
        output.replay_line(again)
    elif run.finding is not None:
        output.say("this run has no token; to repeat it exactly, keep it with --out and replay the folder")
    if run.shortened is not None:
        output.replay_line(chosen.replay_line(run.shortened), "the same finding, shortened:")


def _facts(runs: Runs) -> Facts:
    """The facts of the document: of the only run, or with --repeat of each run."""
    asked, chosen = runs.asked, runs.chosen
    documents = [{**of_outcome(chosen, run), "replay": _again(chosen, run)} for run in runs.outcomes]
    facts: Facts = {"strategy": (asked.strategy or "stay") if asked.engine == "sim" else None, "seed": asked.seed}
    facts["time"] = asked.time
    if runs.start is not None:
        facts["followed"] = operations(runs.start.journals)
    if asked.repeat is None:
        for run in documents:
            facts |= run
    else:
        tally = Counter(run.finding.signature for run in runs.findings if run.finding is not None)
        facts["repeat"] = asked.repeat
        facts["found"] = sum(tally.values())
        facts["findings"] = [
            {"kind": kind, "function": function, "object": subject, "runs": count}
            for (kind, function, subject), count in tally.most_common()
        ]
        facts["runs"] = [document("one of the runs", run) for run in documents]
    return facts | {"engine": asked.engine}
