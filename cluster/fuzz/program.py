"""A random scenario as data: what generate.py makes, mutate.py changes, shrink.py cuts down and judge.py runs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from shared.scenario.load import load_scenario
from shared.scenario.model import Scenario
from shared.scenario.yaml import Value, parse

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


class Heading(NamedTuple):
    """The first keys of a file; `title` as the file has it."""

    id: str = "random"
    name: str = "random"
    title: str = "A random program"
    source: str = "uvmp's own: made at random"


RANDOM = Heading()


@dataclass(frozen=True)
class Program:
    """A machine, a setup, and what each thread runs.

    Attributes:
        results: into-name -> what a step may answer; only what is said of a failure.
        note: what the file says of itself.
        errata: that the file switches on.
        expects: what the file expects with its errata, as `finding: panic`; only said of a failure.
        detect: detectors that the file sets to another level than stop.
    """

    machine: Keys
    setup: tuple[Step, ...]
    threads: dict[str, tuple[Step, ...]]
    results: dict[str, list[int | str]] = field(default_factory=dict)
    note: str = "Made at random."
    errata: tuple[str, ...] = ()
    expects: Keys = field(default_factory=dict)
    detect: Keys = field(default_factory=dict)
    heading: Heading = RANDOM

    def text(self) -> str:
        """The scenario's file."""
        lines = [
            *(f"{key}: {value}" for key, value in zip(("id", "name", "title"), self.heading, strict=False)),
            f"story: {json.dumps(self.note)}",
            f"source: [{json.dumps(self.heading.source)}]",
            *([f"errata: {_flow(list(self.errata))}"] if self.errata else []),
            f"machine: {_flow(self.machine)}",
            *([f"detect: {_flow(self.detect)}"] if self.detect else []),
            "setup:",
            *(f"  - {step.text()}" for step in self.setup),
            "programs:",
        ]
        for name, steps in self.threads.items():
            lines += [f"  {name}:", *(f"    - {step.text()}" for step in steps)] if steps else [f"  {name}: []"]
        outcome: dict[str, object] = {"finding": "none"}
        if self.results:
            outcome["results"] = {name: {"any_of": right} for name, right in self.results.items()}
        lines.append("expect:")
        if self.expects and self.errata:
            lines.append(f"  with_errata: {_flow(self.expects)}")
        lines += [f"  fixed: {_flow(outcome)}", "bound: {strategy: random, schedules: 1000}"]
        return "\n".join(lines) + "\n"

    def load(self, file: str = "random.yaml") -> Scenario:
        """The scenario. Raises: UserMistake - it is none (what a part of a program may be)."""
        return load_scenario(self.text(), file)

    def bodies(self) -> Iterator[Body]:
        """Each sequence of steps, a child's behind that which forks it."""
        for name, steps in self.threads.items():
            yield from _bodies(name, (), steps)

    def put(self, body: Body, steps: tuple[Step, ...]) -> Program:
        """The same with other steps there."""
        return replace(self, threads={**self.threads, body.thread: _put(self.threads[body.thread], body.path, steps)})

    def process(self, thread: str) -> str:
        """Of a thread of the setup."""
        return next(
            (step.args["in"] for step in self.setup if step.op == "thread" and step.args["as"] == thread), thread
        )


@dataclass(frozen=True)
class Body:
    """The steps of one context.

    Attributes:
        thread: of the setup.
        path: of each fork on the way to it, the place among the steps of its parent; () for the thread itself.
        name: of the thread, or of the child.
    """

    thread: str
    path: tuple[int, ...]
    name: str
    steps: tuple[Step, ...]


def _bodies(thread: str, path: tuple[int, ...], steps: tuple[Step, ...], name: str = "") -> Iterator[Body]:
    yield Body(thread, path, name or thread, steps)
    for at, step in enumerate(steps):
        if step.program is not None:
            yield from _bodies(thread, (*path, at), step.program, step.args["as"])


def _put(steps: tuple[Step, ...], path: tuple[int, ...], new: tuple[Step, ...]) -> tuple[Step, ...]:
    if not path:
        return new
    at = path[0]
    return (*steps[:at], replace(steps[at], program=_put(steps[at].program or (), path[1:], new)), *steps[at + 1 :])


def read(text: str, file: str) -> Program:
    """The program of a file that Program.text() has made.

    Raises: UserMistake - the text is not such a file, or has steps of another form.
    """
    root = parse(text, file)
    keys = root.items()
    for key in ("machine", "setup", "programs"):
        if key not in keys:
            root.fail(f"expected a random program: key {key} is missing")
    keys["machine"].items()
    machine: Keys = _plain(keys["machine"])
    threads = {name: _steps(value) for name, value in keys["programs"].items().items()}
    return Program(machine, _steps(keys["setup"]), threads)


def _steps(value: Value) -> tuple[Step, ...]:
    steps = []
    for element in value.elements():
        pairs = element.items()
        if len(pairs) != 1:
            element.fail("expected one step")
        ((op, args),) = pairs.items()
        keys = dict(args.items())
        program = keys.pop("program", None)
        plain = {key: _plain(part) for key, part in keys.items()}
        steps.append(Step(op, plain, None if program is None else _steps(program)))
    return tuple(steps)


def _plain(value: Value) -> Any:
    if isinstance(value.data, dict):
        return {key: _plain(part) for key, part in value.data.items()}
    return [_plain(part) for part in value.data] if isinstance(value.data, list) else value.data


def size(steps: tuple[Step, ...]) -> int:
    """Steps, those of children counted."""
    return sum(1 + size(step.program or ()) for step in steps)


def _flow(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_flow(part)}" for key, part in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_flow, value)) + "]"
    if isinstance(value, str):
        return value if value.isidentifier() and value not in ("true", "false", "null") else json.dumps(value)
    return json.dumps(value)
