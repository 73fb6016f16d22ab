"""`uvmp scenarios`: what comes with uvmp to run."""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Sequence
from dataclasses import fields, is_dataclass

import click

from cluster import configs
from cluster.cli.describe import labelled, prose
from cluster.cli.glossary import say_words
from cluster.cli.options import SETTINGS, common, examples, listing
from cluster.cli.output import Output, program, width
from shared.errata import ERRATA, Status
from shared.scenario.machine import MachineConfig
from shared.scenario.model import Expected, Scenario, Step
from shared.text import clean, counted


@listing("scenarios", "S3a-shipped")
@common
@click.pass_context
def command(ctx: click.Context, as_json: bool) -> int | None:
    """List the shipped scenarios; `show` describes a scenario."""
    if ctx.invoked_subcommand is not None:
        ctx.obj = as_json
        return None
    output = Output(as_json)
    found = [configs.shipped(one) for one in configs.names("scenarios")]
    rows = [(one.id, ", ".join(statuses(one)) or "-", one.title) for one in found]
    output.table(("id", "status of errata", "title"), rows)
    output.note(f"{program()} scenarios show ID describes a scenario; {program()} explore ID searches it")
    output.result({"scenarios": [_short(one) for one in found]})
    return 0


@command.command("show", context_settings=SETTINGS, epilog=examples(("uvmp scenarios show S3a-shipped", "")))
@click.argument("scenario")
@common
@click.pass_obj
def show(outer_json: bool | None, scenario: str, as_json: bool) -> int:
    """Describe SCENARIO, an id or a file."""
    output = Output(as_json or bool(outer_json))
    source = configs.scenario(scenario)
    found = source.scenario
    output.say(f"{found.id} ({found.name})" if found.name != found.id else found.id, bold=True)
    if found.title:
        prose(output, clean(found.title))
    output.say()
    if found.story:
        prose(output, found.story)
        output.say()
    machine = found.machine
    levels = [f"{detector} {level}" for detector, level in found.detect.items() if level != "stop"]
    labelled(
        output,
        [
            *(("source", one) for one in found.source),
            ("machine", machine_words(machine)),
            *(("warning", one) for one in machine.doubts),
            *(("erratum", f"{one} ({ERRATA[one].status}: {ERRATA[one].status.meaning})") for one in found.errata),
            ("detectors", ", ".join(levels) + "; the others stop" if levels else "all stop"),
            *(("with errata", one) for one in outcome_words(found.expect.with_errata) if found.errata),
            *(("fixed", one) for one in outcome_words(found.expect.fixed)),
            (
                "bound",
                f"{counted(found.bound.schedules, 'schedule')} of {found.bound.strategy}, depth {found.bound.depth}; "
                f"each has at most {found.limit:,} operations",
            ),
            ("file", found.file),
        ],
        indent="",
    )
    output.say()
    _steps(output, "setup", found.setup)
    for lwp in found.lwps:
        _steps(output, f"{lwp.name} on cpu{lwp.cpu}" + (", from its fork on" if lwp.forked else ""), lwp.program)
    for handler in found.handlers:
        _steps(output, f"interrupt of {handler.name} on cpu{handler.cpu}", handler.steps)
    say_words(output, f"{found.title} {found.story}")
    output.say()
    output.say("to search it:")
    output.command(shlex.join(["uvmp", "explore", source.path or found.id]), bold=True)
    output.result({"scenario": _whole(found)})
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
    have = {ERRATA[one].status for one in scenario.errata}
    return [str(status) for status in Status if status in have]


def machine_words(machine: MachineConfig) -> str:
    """A machine in words: its sizes, and whatever is not as usual."""
    cpus = "1 CPU" if machine.cpus == 1 else f"{machine.cpus} CPUs"
    words = f"{cpus}, {machine.frames} pages of {machine.page_size} bytes, {counted(machine.swap_slots, 'swap slot')}"
    usual = MachineConfig(machine.cpus, machine.frames, machine.swap_slots, machine.page_size)
    for one in fields(machine):
        value = getattr(machine, one.name)
        if value != getattr(usual, one.name):
            words += f"; {one.name.replace('_', ' ')}: {_plain(value)}"
    return words


def _plain(value: object) -> str:
    """A setting of a machine, however it is nested."""
    if isinstance(value, (tuple, list)):
        return ", ".join(_plain(one) for one in value)
    if is_dataclass(value):
        told = [(one.name, getattr(value, one.name), one.default) for one in fields(value)]
        return " ".join(f"{name} {_plain(setting)}" for name, setting, usual in told if setting != usual)
    return "yes" if value is True else "no" if value is False else str(value)


def outcome_words(outcome: Expected | None) -> list[str]:
    """What must happen, in words, and in lines of their own what must never happen."""
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
    never = [f"never {' and '.join(f'{name} = {value}' for name, value in one.items())}" for one in outcome.never]
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
