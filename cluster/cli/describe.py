"""Findings, sites and expectations in words, for people."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping

from cluster.cli.output import Output, width
from shared.errata import ERRATA
from shared.errors import Exit
from shared.findings import UNEXPECTED, Finding
from shared.locks.table import LOCK_MODES
from shared.patch import current
from shared.scenario.model import Handler, Lwp, Results, Scenario, StepResult, named_results


def finding(output: Output, result: Finding) -> None:
    """A finding: its kind, the context and the object that it names, and the locks that contexts hold."""
    output.say(f"finding: {result.kind}", fg="red", bold=True)
    for line in textwrap.wrap(result.text, width(), initial_indent="  ", subsequent_indent="  "):
        output.say(line)
    rows = [("function", result.function), ("object", result.subject), ("context", result.context)]
    if result.stack:
        rows.append(("stack", " > ".join(result.stack)))
    for held in result.held:
        mode = LOCK_MODES.get(held["mode"], held["mode"])
        rows.append((f"{result.context} holds", f"{held['lock']} ({mode}) since {held['since']}"))
    if result.context and not result.held and result.kind != UNEXPECTED:
        rows.append((f"{result.context} holds", "no lock"))
    rows += [("waiting" if result.detector == "deadlock" else "also", line) for line in result.story]
    labelled(output, rows)


def finding_or_none(output: Output, result: Finding | None) -> None:
    """The finding, or that there is none."""
    if result is not None:
        finding(output, result)
    else:
        output.say("no finding", bold=True)


def labelled(output: Output, rows: list[tuple[str, str]], indent: str = "  ") -> None:
    """Lines `label  text`, aligned and wrapped; rows without text are left out."""
    space = max((len(label) for label, _ in rows), default=0) + 2
    for label, text in rows:
        if text:
            head = indent + label.ljust(space)
            for line in textwrap.wrap(
                text, width(), initial_indent=head, subsequent_indent=" " * len(head), break_on_hyphens=False
            ):
                output.say(line)


def prose(output: Output, text: str) -> None:
    """Text of a few sentences, wrapped; each line of it is a paragraph."""
    for number, paragraph in enumerate(text.splitlines()):
        if number:
            output.say()
        for line in textwrap.wrap(paragraph, width(), break_on_hyphens=False):
            output.say(line)


def introduce(output: Output, scenario: Scenario) -> None:
    """The scenario that is about to run, and settings of it that are perhaps not meant."""
    output.note(heading(scenario))
    for doubt in scenario.machine.doubts:
        output.note(f"warning: {scenario.file}: {doubt}")


def heading(scenario: Scenario) -> str:
    """The scenario and its kernel in one line."""
    patch, errata = current(), f"with {', '.join(scenario.errata)}" if scenario.errata else ""
    if patch is not None:
        kernel = f"the kernel patched by {patch.file}, {errata or 'no errata'}"
    else:
        kernel = errata or "the repaired kernel, no errata"
    return f"{scenario.id}: {scenario.title} ({kernel})" if scenario.title else f"{scenario.id} ({kernel})"


def results(output: Output, scenario: Scenario, given: Results) -> None:
    """Every program's results, in the order of its steps, and every interrupt's."""
    rows = []
    contexts: list[Lwp | Handler] = [*scenario.lwps, *scenario.handlers]
    for context in contexts:
        words = ", ".join(f"{step['op']}{_into(step)} {step['result']}" for step in given.get(context.name, []))
        if isinstance(context, Handler):
            words = words or "never came"
        elif len(given.get(context.name, [])) < len(context.program):
            words = f"{words} ...".lstrip()
        rows.append((f"{context.name} on cpu{context.cpu}", words))
    output.say("results:")
    labelled(output, rows)


def _into(step: StepResult) -> str:
    return f" {step['into']} =" if step.get("into") else " ="


def in_order(scenario: Scenario, given: Results) -> Results:
    """Results of every program and interrupt of the scenario, also without results."""
    names = [*(lwp.name for lwp in scenario.lwps), *(handler.name for handler in scenario.handlers)]
    return {name: list(given.get(name, [])) for name in names}


def sites(scenario: Scenario, reached: Mapping[str, int]) -> dict[str, int]:
    """Erratum -> how often its site was reached: those of the scenario first, also if never."""
    wanted = (*scenario.own_errata, *scenario.errata, *ERRATA)
    return {
        erratum: reached.get(erratum, 0)
        for erratum in dict.fromkeys(wanted)
        if erratum in reached or erratum in scenario.own_errata
    }


def say_sites(output: Output, scenario: Scenario, reached: Mapping[str, int]) -> None:
    """How often the scenario's errata were met, switched on or not."""
    for erratum in dict.fromkeys((*scenario.own_errata, *scenario.errata)):
        state = "" if erratum in scenario.errata else ", repaired"
        count = reached.get(erratum, 0)
        output.say(f"site of {erratum}{state}: " + (f"reached {times(count)}" if count else "never reached"))


def times(count: int) -> str:
    return {0: "never", 1: "once", 2: "twice"}.get(count, f"{count:,} times")


def shortened(before: int, now: int) -> str:
    """A finding's schedule.

    Args:
        before, now: its deviations from the default schedule, as it was found and as it is shown.
    """
    if before == 0:
        return "it is the default schedule"
    return f"its schedule deviates from the default {times(before)}; shortened: {times(now)}"


def unmet(scenario: Scenario, seen: Finding | None, outcome_of: Results) -> str | None:
    """Why the scenario's expectation does not hold for one run, or None if it does."""
    outcome = scenario.outcome()
    assert outcome is not None, "must_expect_something() was asked first"
    return outcome.check(seen, named_results(outcome_of))


def verdict(output: Output, expecting: bool, why_not: str | None, seen: Finding | None) -> Exit:
    """The exit code; with --expect also a line that says whether the expectation held."""
    if not expecting:
        return Exit.NO_FINDING if seen is None else seen.exit
    output.say()
    if why_not is None:
        output.say("as expected", fg="green")
        return Exit.NO_FINDING
    output.say(f"not as expected: {why_not}", fg="red")
    return Exit.FINDING
