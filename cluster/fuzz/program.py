"""A random scenario as data: what generate.py makes, shrink.py cuts down and judge.py runs."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from shared.scenario.load import load_scenario
from shared.scenario.model import Scenario

#: what a scenario's file says under its keys: of a step, or of a machine
Keys = dict[str, Any]


@dataclass(frozen=True)
class Step:
    """A step of a setup or a program.

    Attributes:
        args: its keys as a scenario's file has them, without `program`.
        program: the program of a fork's child; None: not a fork.
    """

    op: str
    args: Keys
    program: tuple[Step, ...] | None = None

    def text(self) -> str:
        """As it stands in a scenario's file."""
        keys = [f"{key}: {_flow(value)}" for key, value in self.args.items()]
        if self.program is not None:
            keys.append(f"program: [{', '.join(f'{{{step.text()}}}' for step in self.program)}]")
        return f"{self.op}: {{{', '.join(keys)}}}"


@dataclass(frozen=True)
class Program:
    """A machine, a setup, and what each thread runs.

    Attributes:
        results: into-name -> what a step may answer; only what is said of a failure.
        note: what the file says of itself.
    """

    machine: Keys
    setup: tuple[Step, ...]
    threads: dict[str, tuple[Step, ...]]
    results: dict[str, list[int | str]] = field(default_factory=dict)
    note: str = "Made at random."

    def text(self) -> str:
        """The scenario's file."""
        lines = [
            "id: random",
            "name: random",
            "title: A random program",
            f"story: {json.dumps(self.note)}",
            'source: ["uvmp\'s own: made at random"]',
            f"machine: {_flow(self.machine)}",
            "setup:",
            *(f"  - {step.text()}" for step in self.setup),
            "programs:",
        ]
        for name, steps in self.threads.items():
            lines += [f"  {name}:", *(f"    - {step.text()}" for step in steps)] if steps else [f"  {name}: []"]
        outcome: dict[str, object] = {"finding": "none"}
        if self.results:
            outcome["results"] = {name: {"any_of": right} for name, right in self.results.items()}
        lines += ["expect:", f"  fixed: {_flow(outcome)}", "bound: {strategy: random, schedules: 1000}"]
        return "\n".join(lines) + "\n"

    def load(self, file: str = "random.yaml") -> Scenario:
        """The scenario. Raises: UserMistake - it is none (what a part of a program may be)."""
        return load_scenario(self.text(), file)

    def sound(self) -> bool:
        """Does it keep what a kernel may rely on? A device stores its status in memory that the setup has locked."""
        locked = {step.args["at"] for step in self.setup if step.op == "mlock"}
        return all(
            step.args["status"].partition("+")[0] in locked
            for steps in self.threads.values()
            for step in steps
            if "status" in step.args
        )


def size(steps: tuple[Step, ...]) -> int:
    """Steps, those of children counted."""
    return sum(1 + size(step.program or ()) for step in steps)


def _flow(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_flow(part)}" for key, part in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_flow, value)) + "]"
    if isinstance(value, str):
        return json.dumps(value) if "[" in value else value
    return json.dumps(value)
