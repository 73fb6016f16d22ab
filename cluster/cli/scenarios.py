"""`uvmp scenarios`: what comes with uvmp to run."""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass

from cluster import configs
from cluster.cli.asking import Asks, argument, listing, shows
from cluster.cli.describe import labelled, prose
from cluster.cli.glossary import say_words
from cluster.cli.output import Output, program, width
from shared.errata import ERRATA, Status
from shared.scenario.machine import MachineConfig
from shared.scenario.model import Expected, Scenario, Step
from shared.text import clean, counted


@listing("scenarios", "S3a-shipped")
def command(asked: Asks) -> int:
    """List the shipped scenarios; `show` describes a scenario."""
    output = Output(asked.as_json)
    listed = [configs.shipped(name) for name in configs.names("scenarios")]
    rows = [(scenario.id, ", ".join(statuses(scenario)) or "-", scenario.title) for scenario in listed]
    output.table(("id", "status of errata", "title"), rows)
    output.note(f"{program()} scenarios show ID describes a scenario; {program()} explore ID searches it")
    output.result({"scenarios": [_short(scenario) for scenario in listed]})
    return 0


@dataclass(frozen=True, kw_only=True)
class ShowOptions(Asks):
    """The argument and the options of `uvmp scenarios show`."""

    scenario: str = argument()


@shows(command, ShowOptions, "S3a-shipped")
def show(asked: ShowOptions) -> int:
    """Describe SCENARIO, an id or a file."""
    output = Output(asked.json)
    source = configs.scenario(asked.scenario)
    chosen = source.scenario
    output.say(f"{chosen.id} ({chosen.name})" if chosen.name != chosen.id else chosen.id, bold=True)
    if chosen.title:
        prose(output, clean(chosen.title))
    output.say()
    if chosen.story:
        prose(output, chosen.story)
        output.say()
    machine = chosen.machine
    levels = [f"{detector} {level}" for detector, level in chosen.detect.items() if level != "stop"]
    labelled(
        output,
        [
            *(("source", source) for source in chosen.source),
            ("machine", machine_words(machine)),
            *(("warning", doubt) for doubt in machine.doubts),
            *(
                ("erratum", f"{erratum} ({ERRATA[erratum].status}: {ERRATA[erratum].status.meaning})")
                for erratum in chosen.errata
            ),
            ("detectors", ", ".join(levels) + "; the others stop" if levels else "all stop"),
            *(("with errata", line) for line in outcome_words(chosen.expect.with_errata) if chosen.errata),
            *(("fixed", line) for line in outcome_words(chosen.expect.fixed)),
            (
                "bound",
                f"{counted(chosen.bound.schedules, 'schedule')} of {chosen.bound.strategy};"
                f" each has at most {chosen.limit:,} operations",
            ),
            ("file", chosen.file),
        ],
        indent="",
    )
    output.say()
    _steps(output, "setup", chosen.setup)
    for lwp in chosen.lwps:
        _steps(output, f"{lwp.name} on cpu{lwp.cpu}" + (", from its fork on" if lwp.forked else ""), lwp.program)
    for handler in chosen.handlers:
        _steps(output, f"interrupt of {handler.name} on cpu{handler.cpu}", handler.steps)
    say_words(output, f"{chosen.title} {chosen.story}")
    output.say()
    output.say("to search it:")
    output.command(shlex.join(["uvmp", "explore", source.path or chosen.id]), bold=True)
    output.result({"scenario": _whole(chosen)})
    return 0


def _steps(output: Output, head: str, steps: Sequence[Step]) -> None:
    output.say(head)
    for step in steps:
        for line in textwrap.wrap(step.text, width(), initial_indent="  ", subsequent_indent="      "):
            output.say(line)
    if not steps:
        output.say("  nothing")


def statuses(scenario: Scenario) -> list[str]:
    """How the scenario's errata are known, each word once, the best evidence first."""
    have = {ERRATA[erratum].status for erratum in scenario.errata}
    return [str(status) for status in Status if status in have]


def machine_words(machine: MachineConfig) -> str:
    """A machine in words: its sizes, and whatever is not as usual."""
    cpus = "1 CPU" if machine.cpus == 1 else f"{machine.cpus} CPUs"
    words = f"{cpus}, {machine.frames} pages of {machine.page_size} bytes, {counted(machine.swap_slots, 'swap slot')}"
    usual = MachineConfig(machine.cpus, machine.frames, machine.swap_slots, machine.page_size)
    for field in fields(machine):
        value = getattr(machine, field.name)
        if value != getattr(usual, field.name):
            words += f"; {field.name.replace('_', ' ')}: {_plain(value)}"
    return words


def _plain(value: object) -> str:
    """A setting of a machine, however it is nested."""
    if isinstance(value, (tuple, list)):
        return ", ".join(_plain(part) for part in value)
    if is_dataclass(value):
        settings = [(field.name, getattr(value, field.name), field.default) for field in fields(value)]
        return " ".join(f"{name} {_plain(setting)}" for name, setting, usual in settings if setting != usual)
    return "yes" if value is True else "no" if value is False else str(value)


def outcome_words(outcome: Expected | None) -> list[str]:
    """The expected outcome in words, and in lines of their own the outcomes that must never come."""
    if outcome is None:
        return ["no expectation in the file"]
    words = " or ".join(outcome.findings) if outcome.findings else "no finding"
    if outcome.functions:
        words += f" in {' or '.join(outcome.functions)}"
    if outcome.subjects:
        words += f" of {' or '.join(outcome.subjects)}"
    if outcome.invariants:
        words += f", {' or '.join(outcome.invariants)}"
    if outcome.texts:
        words += f", with text {' or '.join(map(repr, outcome.texts))}"
    values = [f"{name} = {' or '.join(map(str, allowed))}" for name, allowed in outcome.results.items()]
    never = [
        f"never {' and '.join(f'{name} = {value}' for name, value in combination.items())}"
        for combination in outcome.never
    ]
    return [words + (f"; {', '.join(values)}" if values else ""), *never]


def _short(scenario: Scenario) -> dict[str, object]:
    return {
        "id": scenario.id,
        "name": scenario.name,
        "title": scenario.title,
        "errata": list(scenario.errata),
        "statuses": statuses(scenario),
        "file": scenario.file,
    }


def _whole(scenario: Scenario) -> dict[str, object]:
    from shared.scenario.pack import pack_scenario

    return {**pack_scenario(scenario), "statuses": statuses(scenario)}
