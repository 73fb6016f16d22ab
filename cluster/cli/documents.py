"""The JSON documents of the commands: their keys in order, and the values.

A document is picked from facts. `of_scenario`, `of_outcome` and `of_end` give the facts that several commands tell; a
command adds its own. A key of KEYS that has no fact is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from cluster.cli import describe
from cluster.cli.options import Chosen
from cluster.cli.output import Output, error_document
from cluster.runs.outcome import Outcome
from shared.errors import Exit, ProjectBug
from shared.journal.deviation import Deviation
from shared.patch import current
from shared.scenario.model import Scenario

Facts = dict[str, object]

_ONE = (
    "results", "finding", "notes", "sites", "operations", "digest", "token", "replay", "shortened", "replay_shortened",
    "out", "seconds", "parity",
)  # fmt: skip
KEYS = {
    "run": (
        "scenario", "engine", "errata", "patch", "detect", "strategy", "seed", "time", "followed", "interrupted",
        "exit", *_ONE, "repeat", "found", "findings", "runs", "error", "expected",
    ),
    "one of the runs": _ONE,
    "explore": (
        "all", "scenario", "errata", "patch", "detect", "fixed", "strategy", "near", "followed", "depth", "preemptions",
        "seed", "granularity", "bound", "time", "schedules", "by", "exhausted", "redundant", "distinct",
        "estimated", "chance_of_new", "seconds", "searches", "found_at", "finding", "results", "sites", "notes", "racy",
        "operations", "predictions", "token", "deviations", "replay", "out", "interrupted", "exit", "expected", "error",
    ),
    "fuzz": (
        "seed", "errata", "patch", "features", "out", "programs", "programs_now", "executions", "seconds", "kept",
        "sights", "findings", "unconfirmed", "remarks", "interrupted", "exit",
    ),
    "replay": (
        "scenario", "engine", "errata", "patch", "detect", "results", "finding", "notes", "sites", "operations",
        "digest", "equal", "unlike", "skipped", "time", "token", "replay", "out", "exit", "expected", "error",
    ),
    "minimize": (
        "scenario", "errata", "patch", "detect", "finding", "operations", "deviations_before", "deviations",
        "preemptions", "windows", "smaller", "token", "replay", "out", "exit", "error",
    ),
    "collect": ("out", "collected", "left", "exit", "error"),
    "measure": ("patch", "seeds", "time", "scenarios", "interrupted", "exit"),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class End:
    """How a command ends.

    Attributes:
        expecting: was it asked with --expect?
        why_not: why the expectation does not hold; None: it does.
        failed: why the command could not do all of it.
    """

    code: Exit
    expecting: bool = False
    why_not: str | None = None
    interrupted: bool = False
    failed: ProjectBug | None = None


def document(command: str, *facts: Mapping[str, object]) -> Facts:
    """The document of a command; of a fact that is told twice, the last one."""
    known: Facts = {}
    for more in facts:
        known |= more
    named = {"command": command} if command.isidentifier() else {}
    return named | {key: known[key] for key in KEYS[command] if key in known}


def finish(output: Output, command: str, end: End, *facts: Mapping[str, object]) -> Exit:
    """Print the document of a command that ends so; returns its exit code."""
    return output.end(document(command, *facts, of_end(end)), end.code, end.failed)


def of_scenario(scenario: Scenario) -> Facts:
    """The scenario that ran."""
    return {"scenario": scenario.id, "errata": list(scenario.errata), "detect": scenario.detect, **of_patch()}


def of_patch() -> Facts:
    """The patch that is applied, if there is one."""
    patch = current()
    return {"patch": None if patch is None else patch.about}


def of_outcome(chosen: Chosen, outcome: Outcome) -> Facts:
    """The outcome of one execution."""
    scenario, finding, parity = chosen.scenario, outcome.finding, outcome.parity
    facts: Facts = {
        "engine": outcome.engine,
        "results": describe.in_order(scenario, outcome.results),
        "finding": finding.as_dict() if finding is not None else None,
        "notes": [note.as_dict() for note in outcome.notes],
        "sites": describe.sites(scenario, outcome.sites),
        "operations": outcome.operations,
        "digest": outcome.digest,
        "skipped": deviations(outcome.skipped),
        "token": None if outcome.token is None else str(outcome.token),
        "replay": None if outcome.token is None else chosen.replay_line(outcome.token),
        "shortened": None if outcome.shortened is None else str(outcome.shortened),
        "replay_shortened": None if outcome.shortened is None else chosen.replay_line(outcome.shortened),
        "out": None if outcome.folder is None else str(outcome.folder),
    }
    if outcome.seconds is not None:
        facts["seconds"] = round(outcome.seconds, 3)
    if parity is not None:
        facts["parity"] = {"equal": parity.equal, "digest_sim": parity.digest, "why": parity.why or None}
    return facts


def of_end(end: End) -> Facts:
    """The end of the command."""
    code = end.code if end.failed is None else end.failed.exit
    facts: Facts = {"interrupted": end.interrupted, "exit": int(code)}
    if end.failed is not None:
        facts["error"] = error_document(str(end.failed), code, end.failed)
    if end.expecting:
        facts["expected"] = {"held": end.why_not is None, "why": end.why_not}
    return facts


def deviations(some: Iterable[Deviation]) -> list[Facts]:
    """Where a schedule leaves the default one."""
    return [deviation._asdict() for deviation in some]
