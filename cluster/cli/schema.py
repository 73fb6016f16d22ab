"""`uvmp schema`: the JSON Schema of scenario files."""

from __future__ import annotations

import json

from cluster.cli.asking import Asks, called
from cluster.cli.output import Output, program
from shared.scenario.schema import schema

#: columns of a line
WIDTH = 120


def text() -> str:
    """The schema as configs/schema.json has it."""
    return "\n".join(_lines("", schema(), 0))


def _lines(head: str, value: object, depth: int) -> list[str]:
    """A value as JSON: on one line if that is short, else each of its parts on lines of their own."""
    line = f"{' ' * depth}{head}{json.dumps(value)}"
    if len(line) <= WIDTH or not isinstance(value, (dict, list)):
        return [line]
    if isinstance(value, dict):
        parts = [(f"{json.dumps(key)}: ", part) for key, part in value.items()]
    else:
        parts = [("", part) for part in value]
    inside = [_lines(key, part, depth + 1) for key, part in parts]
    for part in inside[:-1]:
        part[-1] += ","
    first, last = "{}" if isinstance(value, dict) else "[]"
    return [f"{' ' * depth}{head}{first}", *(text for part in inside for text in part), f"{' ' * depth}{last}"]


@called("schema", Asks, ("uvmp schema", "save the output where your editor finds it"))
def command(asked: Asks) -> int:
    """Print the JSON Schema of scenario files, with which an editor completes and checks them.

    The schema describes the form of a file. `uvmp run` also checks the names in it.
    """
    output = Output()  # with --json and without, it is one JSON document
    output.say_lines(text())
    if not asked.as_json:
        output.note(f"{program()} steps NAME describes a step")
    return 0
