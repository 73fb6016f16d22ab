"""`uvmp steps`: what a scenario's setup, programs and interrupts can do."""

from __future__ import annotations

import re
from dataclasses import dataclass

from cluster.cli.asking import Asks, argument, called
from cluster.cli.describe import labelled, prose
from cluster.cli.output import Output, program
from shared.errors import UserMistake
from shared.scenario.steps.step import FAMILIES, INTO, Args, Key, Where
from shared.scenario.steps.table import STEPS
from shared.scenario.yaml import meant, show


@dataclass(frozen=True, kw_only=True)
class StepsOptions(Asks):
    """The argument and the options of `uvmp steps`."""

    step: str | None = argument(required=False)


@called("steps", StepsOptions, ("uvmp steps", ""), ("uvmp steps mmap", ""))
def command(asked: StepsOptions) -> int:
    """List the steps that a scenario can have, or describe STEP: its keys, their meanings, and an example."""
    output, step = Output(asked.as_json), asked.step
    if step is not None:
        if step not in STEPS:
            hint = f"{meant(step, STEPS)}; `uvmp steps` lists them"
            raise UserMistake(f"there is no step {show(step)}{hint}", field="STEP")
        _show(output, STEPS[step])
        output.result({"step": _document(STEPS[step])})
        return 0
    listed = [kind for family in FAMILIES for kind in STEPS.values() if kind.family == family]
    rows = [(kind.op, kind.family, ", ".join(parts(kind)), _sentence(kind.says())) for kind in listed]
    output.table(("step", "family", "allowed in", "what it does"), rows)
    output.note(f"{program()} steps NAME describes a step; {program()} schema prints a JSON Schema for editors")
    output.result({"steps": [_document(kind) for kind in listed]})
    return 0


def parts(kind: type[Args]) -> list[str]:
    """The parts of a file in which the step is allowed."""
    return [where.title for where in Where if where in kind.where]


def _show(output: Output, kind: type[Args]) -> None:
    output.say(kind.op, bold=True)
    prose(output, kind.says())
    output.say()
    labelled(output, [("family", kind.family), ("allowed in", ", ".join(parts(kind)))], indent="")
    rows = []
    for key in kind.keys:
        rows += [(key.name, kind.meaning(key)), ("", f"{key.kind.type}; {_when(kind, key)}")]
    if any(kind.answers(where) for where in Where if where in kind.where):
        rows += [("into", str(INTO["description"])), ("", "a name; optional, not in setup")]
    if rows:
        output.say()
        output.say("keys:")
        labelled(output, rows)
    output.say()
    output.say("for example:")
    output.say(f"  - {kind.example()}")


def _when(kind: type[Args], key: Key) -> str:
    """Whether the step needs the key, and where it takes it."""
    others = [where.title for where in Where if where in kind.where and where not in key.where]
    return ("optional" if key.optional else "required") + (f"; not in {' or '.join(others)}" if others else "")


def _sentence(text: str) -> str:
    """The first sentence."""
    first = re.match(r".*?\.(?=\s|$)", text)
    return first.group() if first else text


def _document(kind: type[Args]) -> dict[str, object]:
    keys = [
        {
            "name": key.name,
            "type": key.kind.type,
            "required": not key.optional,
            "allowed_in": [where.title for where in Where if where in kind.where & key.where],
            "means": kind.meaning(key),
        }
        for key in kind.keys
    ]
    return {
        "name": kind.op,
        "family": kind.family,
        "allowed_in": parts(kind),
        "says": kind.says(),
        "keys": keys,
        "into": [where.title for where in Where if where in kind.where and kind.answers(where)],
        "example": kind.example(),
    }
