"""`uvmp minimize`: the shortest schedule with the same finding, and the operations that the finding needs."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from pathlib import Path

import click

from cluster import configs
from cluster.boot import prepare
from cluster.cli import describe
from cluster.cli.asking import argument, called, option
from cluster.cli.documents import End, Facts, deviations, finish, of_outcome, of_scenario
from cluster.cli.options import Chosen, Options, choose, new_file, new_folder, put
from cluster.cli.output import Output, Progress
from cluster.cli.schedules import schedule_of
from cluster.postmortem.words import in_words
from cluster.runs.folder import keep
from cluster.runs.outcome import Outcome
from cluster.runs.replay import replay
from cluster.runs.token import token_of
from cluster.search.explore import explore
from cluster.search.fewest import Fewest, fewest
from cluster.search.minimize import minimize
from cluster.search.window import Window, windows
from cluster.sim.engine import Sim
from shared.errors import Exit, UserMistake
from shared.journal.deviation import Deviation
from shared.journal.record import Journals
from shared.text import counted


@dataclass(frozen=True, kw_only=True)
class MinimizeOptions(Options):
    """The argument and the options of `uvmp minimize`."""

    what: str = argument(metavar="TOKEN|RUN|SCENARIO")
    scenario: str | None = option("The file of the token's scenario, if it is not a shipped scenario.", metavar="FILE")
    smaller: str | None = option("Also write the smallest part of the scenario that has the finding.", metavar="FILE")
    schedules: int = option(
        "With --smaller: schedules for each part of the scenario.",
        type=click.IntRange(1, 100_000), default=100, show_default=True,
    )  # fmt: skip
    out: str | None = option("Keep the shortened run in folder DIR, which must not exist yet.", metavar="DIR")


@called(
    "minimize",
    MinimizeOptions,
    ("uvmp minimize TOKEN", "show which operations a finding needs"),
    ("uvmp minimize runs/live", "shorten the schedule of a run of real processes"),
    ("uvmp minimize S3a-shipped", "search a scenario first"),
    ("uvmp minimize S3a --smaller part.yaml", "also cut the scenario down"),
)
def command(asked: MinimizeOptions) -> int:
    """Find the shortest schedule with the same finding as TOKEN, as the run in folder RUN, or of SCENARIO.

    For each preemption of this schedule, the command moves the preemption to earlier and later operations. The command
    names the two operations between which the other context must run for the finding, and prints a schedule that
    differs in one operation and has no finding.
    """
    output = Output(asked.as_json)
    folder, file = new_folder(asked.out), new_file(asked.smaller, "--smaller")
    chosen, failing, long = _failing(output, asked)
    if failing is None or failing.finding is None:
        output.say("no finding, so there is no schedule to shorten", bold=True)
        return finish(output, "minimize", End(Exit.NO_FINDING), of_scenario(chosen.scenario), {"finding": None})
    finding = failing.finding
    output.note("searching the schedules with fewer preemptions")
    known = fewest(chosen.scenario, finding, failing.deviations)
    if known.deviations != failing.deviations:
        failing = _again(chosen, known.deviations)
        finding = failing.finding or finding
    output.note("moving each preemption to earlier and later operations")
    needed = windows(chosen.scenario, finding, failing.deviations)

    describe.finding(output, finding)
    output.say()
    output.say(describe.shortened(long, len(failing.deviations)))
    if not failing.deviations:
        output.say("  the default schedule has the finding, so every schedule may have it")
    for deviation in failing.deviations:
        output.say(f"  {deviation}")
        for window in needed:
            if window.deviation == deviation:
                _say(output, chosen, failing, window)
    output.say(_needs(known))
    if failing.token is not None:
        output.replay_line(chosen.replay_line(failing.token))
    keep(folder, chosen.scenario, failing, chosen.options)
    output.kept(failing.folder)
    smaller = None if file is None else _smaller(output, file, asked.schedules, chosen, failing)
    end = End(Exit.FINDING, failed=failing.unkept)
    facts = of_outcome(chosen, failing) | {
        "deviations": deviations(failing.deviations),
        "deviations_before": long,
        "preemptions": {"least": known.least, "most": known.preemptions, "classes": known.classes},
        "windows": [_facts(chosen, failing, window) for window in needed],
        "smaller": smaller,
    }
    return finish(output, "minimize", end, of_scenario(chosen.scenario), facts)


def _failing(output: Output, asked: MinimizeOptions) -> tuple[Chosen, Outcome | None, int]:
    """The execution with the finding, its schedule shortened; and the number of deviations that it had before."""
    what = asked.what
    if what in configs.names("scenarios") or what.endswith(configs.SUFFIXES):
        if asked.scenario is not None:
            raise UserMistake("is only for a token", field="--scenario")
        chosen = choose(what, asked)
        describe.introduce(output, chosen.scenario)
        with Progress(output, chosen.scenario.bound.schedules) as progress:
            search = explore(chosen.scenario, progress=lambda so_far: progress(so_far.schedules, so_far.seconds))
        return chosen, search.outcome, search.raw_deviations
    schedule = schedule_of(output, what, asked.scenario, False, asked)
    chosen = schedule.chosen
    describe.introduce(output, chosen.scenario)
    whole = schedule.replay(strict=True)
    if whole.finding is None:
        return chosen, None, len(whole.deviations)
    output.note(f"shortening a schedule of {counted(len(whole.deviations), 'deviation')}")
    shortened = minimize(Sim(*prepare(chosen.scenario), granularity="access"), whole.finding, whole.deviations)
    return chosen, _again(chosen, shortened), len(whole.deviations)


def _again(chosen: Chosen, shortened: list[Deviation]) -> Outcome:
    """The execution of a shortened schedule."""
    failing = replay(chosen.scenario, shortened)
    failing.token = token_of(chosen.scenario, shortened)
    return failing


def _needs(known: Fewest) -> str:
    """How many preemptions the finding needs."""
    if known.proved:
        bound = f"the finding needs {counted(known.least, 'preemption')}"
        return f"{bound}: no schedule with fewer has it (exhausted)" if known.least else bound
    bound = f"the finding needs at most {counted(known.preemptions, 'preemption')}"
    least = f", and at least {known.least}" if known.least else ""
    return f"{bound}{least}; not exhausted below in {counted(known.schedules, 'schedule')}"


def _smaller(output: Output, path: Path, schedules: int, chosen: Chosen, failing: Outcome) -> Facts:
    """Cut the scenario down, and write the part.

    Raises: UserMistake - there is no file of the scenario; its form cannot be cut down; the part cannot be written.
    """
    from cluster.fuzz.smaller import BUDGET, smaller, steps

    scenario, finding, options = chosen.scenario, failing.finding, chosen.options
    assert finding is not None
    shipped = configs.root() / "scenarios" / f"{scenario.id}.yaml"
    file = Path(options[options.index("--scenario") + 1]) if "--scenario" in options else shipped
    output.note(f"searching up to {BUDGET} parts of {file.name}, {counted(schedules, 'schedule')} each")
    tried = count(1)
    text = configs.read(file, configs.shown(file))
    cut = smaller(
        text, configs.shown(file), scenario, finding, schedules, lambda: output.step(f"searched part {next(tried):,}")
    )
    if cut is None:
        raise UserMistake(f"{scenario.id} has the finding in no part that {schedules:,} schedules can show, or is a "
                          "scenario of another form", field="--smaller")  # fmt: skip
    text, part, search = cut
    put(path, text, "--smaller")
    output.say(f"{path}: {steps(part)} of {counted(steps(scenario), 'step')}, {counted(part.machine.cpus, 'CPU')}; "
               f"found in schedule {search.found_at:,}")  # fmt: skip
    return {"file": str(path), "steps": steps(part), "of": steps(scenario), "found_at": search.found_at}


def _say(output: Output, chosen: Chosen, failing: Outcome, window: Window) -> None:
    """Between which operations the other context must run."""
    ends = _ends(failing, window)
    for label, operation, passing in ends:
        output.say(f"    must come {label} {operation}")
        output.say(f"      a schedule without the finding: {token_of(chosen.scenario, passing.deviations)}")
    if not ends:
        output.say(f"    may come after any of the operations {window.first} to {window.last}")


def _facts(chosen: Chosen, failing: Outcome, window: Window) -> Facts:
    ends: Facts = {
        label: {"operation": operation, "passes": str(token_of(chosen.scenario, passing.deviations))}
        for label, operation, passing in _ends(failing, window)
    }
    return {"deviation": window.deviation._asdict(), "first": window.first, "last": window.last} | ends


def _ends(failing: Outcome, window: Window) -> list[tuple[str, str, Outcome]]:
    """The two ends of a window: "after" or "before", the operation in words, and the execution without the finding."""
    ctx = window.deviation.ctx
    ends = []
    if window.opens is not None:
        ends.append(("after", operation(failing.journals, ctx, window.first), window.opens))
    if window.closes is not None:
        ends.append(("before", operation(window.closes.journals, ctx, window.last + 1), window.closes))
    return ends


def operation(journals: Journals, ctx: str, number: int) -> str:
    """One operation of a context in words, and its function."""
    performed, stack = "its end", list[str]()
    for record in (record for records in journals.values() for record in records if record["ctx"] == ctx):
        if record["n"] == number and "k" in record:  # (an event has the number of the operation before it)
            performed = in_words(record)
        elif record["n"] < number and record["event"] == "enter":
            stack.append(record["fn"])
        elif record["n"] < number and record["event"] == "exit" and stack:
            stack.pop()
    return f"operation {number}: {performed}" + (f", in {stack[-1]}" if stack else "")
