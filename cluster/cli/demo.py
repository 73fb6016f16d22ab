"""`make demo`: one race from beginning to end, in about a minute.

The demo boots the machine as real processes, searches for the race in this
process, replays it on the real processes, lets the real processes run freely,
explains the race from their logs, and searches the repaired kernel. The heading
of each part shows the command that does the same.
"""

from __future__ import annotations

import textwrap
from collections import Counter
from pathlib import Path
from time import monotonic

from cluster import configs
from cluster.cli import describe
from cluster.cli.live import booted
from cluster.cli.options import Chosen
from cluster.cli.output import Output, Progress, complain, pasteable, rate_of, width
from cluster.cli.parent import run
from cluster.live.machine import LiveMachine
from cluster.live.salvage import kept
from cluster.postmortem.analyse import analyse
from cluster.postmortem.views.screen import render_screen
from cluster.runs.folder import write_live
from cluster.runs.outcome import Outcome
from cluster.runs.parity import Parity, parity
from cluster.runs.replay import replay
from cluster.search.explore import Exploration, explore
from shared.errors import Exit, ProjectBug, UserMistake
from shared.scenario.model import Scenario
from shared.text import counted

SCENARIO = "S3a-shipped"
FREE_RUNS = 5
RUNS = Path("runs")


class Demo:
    """The parts of the story, in order.

    Attributes:
        failed: what did not come out as the story has it.
    """

    def __init__(self, output: Output, scenario: Scenario):
        self.output, self.scenario = output, scenario
        self.chosen = Chosen(scenario)
        self.failed: list[str] = []
        self.parts = 0

    def tell(self) -> None:
        """All of it."""
        say = self.output.say
        say(f"{self.scenario.id}: {self.scenario.title}", bold=True)
        say()
        describe.prose(self.output, self.scenario.story)
        self.part("The nodes of the kernel as processes", f"uvmp run {SCENARIO} --engine live")
        with booted(self.output, self.scenario, introduce=False) as machine:
            self.show_actors(machine)
            result = self.search()
            if result.token is not None:
                folder = self.follow(machine, result)
                self.run_freely(machine)
                self.explain(folder)
        self.search_repaired(result)

    # -- the parts ---------------------------------------------------------------------

    def show_actors(self, machine: LiveMachine) -> None:
        groups = {group[0]: group for group in machine.actors.groups}
        rows = [(pid, ", ".join(groups[name])) for name, pid in machine.actors.pids.items()]
        self.output.table(("pid", "nodes"), rows)
        self.prose("Each process is a Ray actor; the actors exchange messages. The setup of the scenario is done.")

    def search(self) -> Exploration:
        bound = self.scenario.bound
        self.part("Search: one schedule after another, in one process, without Ray", f"uvmp explore {SCENARIO}")
        result = self.explored(self.scenario)
        self.expect(describe.unmet(self.scenario, result.finding, result.results))
        if result.finding is None or result.token is None:
            return result
        describe.finding(self.output, result.finding)
        self.output.say()
        how = f"{bound.strategy}, seed {result.seed}"
        self.output.say(f"found in schedule {result.found_at:,} of at most {bound.schedules:,} ({how}).")
        self.output.say("This command line contains the whole schedule:")
        self.output.command(self.chosen.replay_line(result.token), bold=True)
        self.output.say("It lists the deviations from the default schedule, which never preempts:")
        for deviation in result.deviations:
            self.output.say(f"  {deviation}")
        return result

    def follow(self, machine: LiveMachine, result: Exploration) -> Path:
        folder = free_name()
        token = str(result.token)
        self.part("The same schedule on the real processes", f"uvmp replay {token} --live --out {folder}")
        there = replay(self.scenario, result.deviations)
        with kept(machine, folder) as name:
            run = machine.run(follow=there.journals, out=folder, identity=name)
        run.token = result.token
        write_live(folder, self.scenario, name, run, self.chosen.options)
        self.expect(None if run.unkept is None else str(run.unkept))
        self.output.say(f"{run.operations:,} operations in {run.seconds:.1f} s, in the given order.")
        self.output.say("The digest of all journals:")
        self.output.say(f"  in one process   {there.digest}")
        self.output.say(f"  real processes   {run.digest}")
        equal = run.digest == there.digest
        self.output.say("  equal, record by record" if equal else "  NOT equal", fg="green" if equal else "red")
        self.expect(None if equal else "the live replay has another digest")
        self.expect(describe.unmet(self.scenario, run.finding, run.results))
        if run.finding is not None:
            self.output.say(f"the same finding: {run.finding.text}")
        return folder

    def run_freely(self, machine: LiveMachine) -> None:
        self.part("The real processes, running freely", f"uvmp run {SCENARIO} --engine live --repeat {FREE_RUNS}")
        done: list[tuple[Outcome, Parity]] = []
        for number in range(1, FREE_RUNS + 1):
            run = machine.run(seed=number)
            done.append((run, parity(self.scenario, run)))
            words = run.finding.text if run.finding is not None else "no finding"
            self.output.say(f"run {number}: {words}")
            took = f"{run.operations:,} operations in {run.seconds:.1f} s"
            self.output.say(f"       {took}; digest {run.digest[:8]}, {done[-1][1]}")
        kinds = Counter(run.finding.kind if run.finding is not None else "" for run, _ in done)
        hits = sum(count for kind, count in kinds.items() if kind)
        self.prose(f"A finding in {hits} of {FREE_RUNS} runs. No strategy chose their orders.")
        self.expect(next((f"a free run: {compared}" for _, compared in done if not compared.equal), None))

    def explain(self, folder: Path) -> None:
        self.part("What happened, from the logs of the live replay alone", f"uvmp postmortem {folder}")
        report = analyse(folder)
        self.output.say_lines(render_screen(report, full=pasteable(f"uvmp postmortem {folder} --full")).rstrip("\n"))
        self.expect(None if report.complete else "the log of the live replay is incomplete")

    def search_repaired(self, first: Exploration) -> None:
        self.part("The repaired kernel, under the same search", f"uvmp explore {SCENARIO} --fixed --expect")
        fixed = self.scenario.without_errata()
        result = self.explored(fixed, first.seed)
        if result.finding is not None:
            describe.finding(self.output, result.finding)
        else:
            rate = rate_of(result.schedules, result.seconds)
            self.output.say(f"not seen in {counted(result.schedules, 'schedule')} ({rate} per second)", bold=True)
        for erratum in self.scenario.own_errata:
            self.output.say(f"the repaired site, {erratum}, was reached {describe.times(result.sites.get(erratum, 0))}")
            self.expect(None if result.sites.get(erratum) else f"the site of {erratum} was never reached")
        self.expect(describe.unmet(fixed, result.finding, result.results))

    # -- helpers -------------------------------------------------------------------------

    def explored(self, scenario: Scenario, seed: int = 0) -> Exploration:
        with Progress(self.output, scenario.bound.schedules) as progress:
            return explore(scenario, seed=seed, progress=lambda so_far: progress(so_far.schedules, so_far.seconds))

    def part(self, title: str, command: str) -> None:
        self.parts += 1
        self.output.say()
        self.output.say(f"== {self.parts}. {title}", bold=True)
        self.output.command(f"$ {pasteable(command)}", fg="cyan")
        self.output.say()

    def prose(self, text: str) -> None:
        for line in textwrap.wrap(" ".join(text.split()), width()):
            self.output.say(line)

    def expect(self, why_not: str | None) -> None:
        if why_not is not None:
            self.failed.append(why_not)
            self.output.say(f"not as expected: {why_not}", fg="red")


def free_name() -> Path:
    """A folder below runs/ that does not exist yet."""
    number = 1
    while (RUNS / f"demo{number}").exists():
        number += 1
    return RUNS / f"demo{number}"


def main() -> int:
    """Tell the story; the exit code says whether it came out."""
    output = Output()
    began = monotonic()
    demo = Demo(output, configs.shipped(SCENARIO))
    try:
        demo.tell()
    except KeyboardInterrupt:
        complain([], "interrupted", Exit.INTERRUPTED)
        return Exit.INTERRUPTED
    except (UserMistake, ProjectBug) as error:
        complain([], str(error), error.exit, error)
        return error.exit
    output.say()
    output.say(f"That took {monotonic() - began:.0f} s. Other scenarios:")
    output.command("uvmp scenarios", bold=True)
    return Exit.FINDING if demo.failed else Exit.NO_FINDING


if __name__ == "__main__":
    run(main)
