"""Cuts a scenario down to a smaller one with the same finding: fewer steps, threads, pages and CPUs.

Each part of the scenario is searched like the whole. A part counts if the search has a finding of the same signature,
and if the default schedule has no finding on the repaired kernel: else it would be another defect, or a wrong program.

Left out: scenarios with words, barriers of words or devices of their own (`interrupts`), and functions as threads.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from cluster.fuzz.judge import Failure
from cluster.fuzz.program import Heading, Program, read
from cluster.fuzz.shrink import shrink
from cluster.search.explore import Exploration, search
from shared.errors import UserMistake
from shared.findings import Finding
from shared.scenario.model import Scenario

#: parts that are searched at most
BUDGET = 400


def smaller(
    text: str, file: str, scenario: Scenario, finding: Finding, schedules: int, tried: Callable[[], None]
) -> tuple[str, Scenario, Exploration] | None:
    """The text of the smallest part found, the part, and its search; None: this form of scenario cannot be cut down.

    Args:
        text, file: of the scenario as it was loaded.
        scenario: with the errata, detectors and kernel lock with which it has the finding.
        schedules: for the search of each part.
        tried: called after each.
    """

    def again(program: Program) -> Exploration | None:
        tried()
        try:
            part = _as(program.load(file), scenario)
            result = search(part, schedules=schedules)
            if result.finding is None or result.finding.signature != finding.signature:
                return None
            sound = not part.errata or search(part.without_errata(), schedules=1).finding is None
        except UserMistake:
            return None
        return result if sound else None

    def fails(program: Program) -> Failure | None:
        result = again(program)
        return None if result is None else failure

    failure = Failure(finding.kind, finding.function, finding.text)
    try:
        program = read(text, file)
    except UserMistake:
        return None
    if again(program) is None:
        return None
    program, _ = shrink(program, failure, fails, BUDGET)
    last = again(program)
    assert last is not None
    note = f"A part of {scenario.id} that has the same finding."
    titled = replace(
        program,
        note=note,
        errata=scenario.errata,
        expects={"finding": finding.kind},
        detect={name: level for name, level in scenario.detect.items() if level != "stop"},
        heading=Heading(f"{scenario.id}-part", "part", f'"A part of {scenario.id}"', f"scenario {scenario.id}"),
    )
    return titled.text(), last.scenario, last


def steps(scenario: Scenario) -> int:
    """Steps of the setup and of all threads."""
    return len(scenario.setup) + sum(len(lwp.program) for lwp in scenario.lwps)


def _as(part: Scenario, whole: Scenario) -> Scenario:
    lock = whole.machine.kernel_lock
    return part.with_errata(whole.errata).with_detect(whole.detect).with_kernel_lock(lock)
