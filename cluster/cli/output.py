"""Where the command's words go: what was asked for to stdout, narration to stderr, or one JSON document."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterable, Sequence
from time import monotonic
from typing import Any, TextIO

import click

from shared.errors import UserMistake
from shared.text import clean, fit

#: seconds between two lines about how something long is going
STEP_EVERY_S = 2.0
#: how many mistakes of a file are told
MAX_MISTAKES = 20
#: characters of a line, and of an error
LONGEST, LONGEST_ERROR = 20_000, 2_000


def coloured(stream: TextIO) -> bool:
    """May this stream have colours?"""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def shown(text: str, stream: TextIO) -> str:
    """Text as one line of this stream: nothing in it commands a terminal, and it has every character that is left."""
    return fit(clean(text, LONGEST), stream.encoding)


class Output:
    """The two streams of one command.

    Holds on to stdout as it was when the command began: while Ray is up,
    `sys.stdout` is stderr, since Ray's own lines are narration.

    Attributes:
        json: only `result` writes to stdout.
    """

    def __init__(self, as_json: bool = False):
        self.json = as_json
        self.out, self.err = sys.stdout, sys.stderr
        self.next_step_s = monotonic() + STEP_EVERY_S

    def say(self, text: str = "", **style: Any) -> None:
        """A line of what the user asked for; whatever is in it, it is one line."""
        if not self.json:
            line = shown(text, self.out)
            click.echo(click.style(line, **style) if style else line, file=self.out, color=coloured(self.out))
            self.out.flush()

    def say_lines(self, text: str) -> None:
        """Several lines, of which each is fit to be shown."""
        for line in text.split("\n"):
            self.say(line)

    def note(self, text: str) -> None:
        """A line about how it is going."""
        with contextlib.suppress(OSError):  # nobody is listening, or there is no room for it: no reason to stop
            click.echo(click.style(shown(text, self.err), dim=True), file=self.err, color=coloured(self.err))

    def step(self, text: str) -> None:
        """The same, of something that is said often: a line now and then."""
        if monotonic() >= self.next_step_s:
            self.next_step_s = monotonic() + STEP_EVERY_S
            self.note(text)

    def result(self, document: dict[str, Any]) -> None:
        """The document that --json asks for."""
        if self.json:
            click.echo(json.dumps(document, indent=2), file=self.out)

    def table(self, heads: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """Aligned columns, the last one as long as it likes."""
        cells = [list(heads), *([str(cell) for cell in row] for row in rows)]
        widths = [max(len(row[at]) for row in cells) for at in range(len(heads))]
        for number, row in enumerate(cells):
            line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            self.say(line, **({"bold": True} if number == 0 else {}))

    def replay_line(self, line: str, label: str = "to see it again:") -> None:
        """The line to paste; alone on its own, so that a triple click takes it and nothing else."""
        self.say()
        self.say(label)
        self.say(line, bold=True)


def complain(args: list[str], message: str, code: int, error: BaseException | None = None, hint: str = "") -> None:
    """An error, in one line on stderr, and of a file each mistake in one; for --json, as a document on stdout."""
    others = error.others if isinstance(error, UserMistake) else ()
    try:
        say_error(message)
        for one in others[: MAX_MISTAKES - 1]:
            say_error(str(one))
        if len(others) >= MAX_MISTAKES:
            say_error(f"and {len(others) - MAX_MISTAKES + 1} more like these")
        if hint:
            click.echo(shown(f"see: {hint}", sys.stderr), file=sys.stderr)
        if "--json" in args:
            document: dict[str, Any] = {"error": error_document(message, code, error)}
            if others:
                document["others"] = [error_document(str(one), code, one) for one in others]
            click.echo(json.dumps(document, indent=2))
    except OSError:
        pass  # nobody is listening


def say_error(message: str) -> None:
    """An error's line; of a longer text, as Ray's, the first one."""
    first = clean(message.strip().split("\n")[0], LONGEST_ERROR)
    text = "uvmp: interrupted" if message == "interrupted" else f"uvmp: error: {first}"
    click.echo(click.style(shown(text, sys.stderr), fg="red"), file=sys.stderr, color=coloured(sys.stderr))


def error_document(message: str, code: int, error: BaseException | None) -> dict[str, Any]:
    """An error for tools, with its place if it has one."""
    wrong: dict[str, Any] = {"message": clean(message, LONGEST_ERROR), "exit": int(code)}
    for key in ("file", "line", "field", "expected", "found"):
        value = getattr(error, key, None)
        if value is not None:
            wrong[key] = clean(value, LONGEST_ERROR) if isinstance(value, str) else value
    return wrong


class Progress:
    """How a search is going: a bar on a terminal, else a line now and then.

    Args:
        total: schedules to do.
    """

    def __init__(self, output: Output, total: int):
        self.output, self.total = output, total
        self.next_s = STEP_EVERY_S
        self.bar: Any = None
        self.task: Any = None

    def __enter__(self) -> Progress:
        if self.output.err.isatty() and os.environ.get("TERM") != "dumb":
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
            from rich.progress import Progress as Bar

            console = Console(file=self.output.err, no_color=not coloured(self.output.err))
            columns = (
                TextColumn("exploring"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]} per second"),
                TimeElapsedColumn(),
            )
            self.bar = Bar(*columns, console=console, transient=True, auto_refresh=False)
            self.bar.start()
            self.task = self.bar.add_task("exploring", total=self.total, rate="-")
        return self

    def __call__(self, done: int, seconds: float) -> None:
        """`done` schedules after `seconds`."""
        rate = rate_of(done, seconds)
        if self.bar is not None:
            self.bar.update(self.task, completed=done, rate=rate)
            self.bar.refresh()
        elif seconds >= self.next_s:
            self.next_s = seconds + STEP_EVERY_S
            self.output.note(f"explored {done} of {self.total} schedules, {rate} per second")

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.stop()


def rate_of(done: int, seconds: float) -> str:
    """Schedules per second, in as many digits as mean something."""
    return f"{done / seconds:,.0f}" if seconds > 0 else "-"
