"""`uvmp attach`: use a machine that stays."""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.cli import describe
from cluster.cli.asking import Asks, argument, called, option
from cluster.cli.board import Board
from cluster.cli.boot import SESSION
from cluster.cli.output import Output
from shared.errors import Exit
from shared.findings import Finding

PROMPT = "uvmp> "


@dataclass(frozen=True, kw_only=True)
class AttachOptions(Asks):
    """The argument and the options of `uvmp attach`."""

    session: str = argument(metavar="[SESSION]", default=SESSION)
    commands: tuple[str, ...] = option(
        "Perform this command, and leave. Repeatable.", "-c", multiple=True, metavar="COMMAND"
    )
    token: str | None = option(
        "The token that `uvmp boot` printed. Default: the session's folder has it.", metavar="TOKEN"
    )


@called(
    "attach",
    AttachOptions,
    ("uvmp attach", "a prompt; help lists its commands"),
    ('uvmp attach s3a -c "step A 9" -c "trace A"', "perform commands, and leave"),
    ("uvmp attach s3a -c halt", "end the machine"),
)
def command(asked: AttachOptions) -> int:
    """Use the machine that `uvmp boot` has started: step, continue, look at it, add steps to its programs.

    SESSION is the folder of the session; default uvmp.session. Without -c, commands come from a prompt, or one a line
    from stdin. Ctrl-C pauses the machine, Ctrl-D leaves it; the machine stays until `halt`. Several clients may use a
    machine, and each client sees the effects of the others' commands. After a finding the machine can still be looked
    at, and the exit code is 1. A wrong command ends the list of -c commands, with exit code 2.
    """
    from cluster.session.client import Client
    from cluster.session.folder import read_token

    output = Output(asked.as_json)
    board = Board(output)
    path = Path(asked.session)
    client = Client(path, read_token(path) if asked.token is None else asked.token)
    answers: list[dict[str, Any]] = []
    prompting = not asked.commands and sys.stdin.isatty() and not asked.as_json
    code = Exit.NO_FINDING
    try:
        for line in _typed() if prompting else _given(asked.commands):
            try:
                answer = client.ask(_absolute(line), board.show_soon)
            finally:
                board.close()
            answers.append(answer)
            _say(output, line, answer, echo=not prompting)
            code = Exit(answer["exit"])
            if client.interrupted and not prompting:
                code = Exit.INTERRUPTED
            if answer["leaves"] == "halt":
                output.replay_line(shlex.join(["uvmp", "replay", str(path / "run")]))
            if answer["leaves"] or (code > Exit.FINDING and not prompting):
                break
    finally:
        client.close()
    if prompting and code != Exit.FINDING:
        code = Exit.NO_FINDING
    return output.end({"command": "attach", "session": str(path), "answers": answers, "exit": int(code)}, code)


def _given(commands: Iterable[str]) -> Iterator[str]:
    """Commands of -c, or else the lines of stdin."""
    for line in commands or sys.stdin:
        if line.strip() and not line.lstrip().startswith("#"):
            yield line.strip()


def _typed() -> Iterator[str]:
    """The lines typed at the prompt; an empty line repeats a `step`. Ctrl-C drops the line, Ctrl-D leaves."""
    from cluster.session.console import COMMANDS

    with contextlib.suppress(ImportError):
        import readline

        def complete(text: str, state: int) -> str | None:
            near = [f"{name} " for name in COMMANDS if name.startswith(text)]
            return near[state] if state < len(near) else None

        readline.set_completer(complete)
        readline.parse_and_bind("tab: complete")
    last = ""
    while True:
        try:
            line = input(PROMPT).strip() or last
        except KeyboardInterrupt:
            print(file=sys.stderr)
            continue
        except EOFError:
            print(file=sys.stderr)
            return
        last = line if line.split(" ")[0] in ("step", "s") else ""
        if line:
            yield line


def _absolute(line: str) -> str:
    """The command with the file that it names as seen from here: the server is in another folder."""
    head, _, name = line.partition(" ")
    if head not in ("save", "snapshot") or not name.strip() or name.strip()[0] in "'\"/":
        return line
    return f"{head} {os.path.abspath(name.strip())}"


def _say(output: Output, line: str, answer: dict[str, Any], echo: bool) -> None:
    """An answer, for people."""
    if echo:
        output.say(f"{PROMPT}{line}", bold=True)
    wrong = answer["exit"] > Exit.FINDING
    for text in answer["lines"]:
        if wrong:
            output.say(text, fg="red")
        else:
            output.say(text)
    finding = answer["data"].get("finding")
    if finding:
        describe.finding(output, Finding.from_file(finding))
