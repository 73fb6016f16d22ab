"""Output of the commands: results to stdout, remarks to stderr, or one JSON document."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from time import monotonic
from typing import Any, TextIO, TypedDict, Unpack

import click

from shared.errors import Exit, ProjectBug, UserMistake
from shared.text import clean
from shared.text import fit as encodable

#: seconds between two lines about how something long is going
STEP_EVERY_S = 2.0
#: columns of text: at most, and at least
WIDTH, MIN_WIDTH = 80, 40
#: how many mistakes of a file are told
MAX_MISTAKES = 20
#: characters of a line, and of an error
LONGEST, LONGEST_ERROR = 20_000, 2_000
#: with what the line of an error begins
ERROR = "uvmp: error: "


def coloured(stream: TextIO) -> bool:
    """May this stream have colours?"""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def columns(stream: TextIO) -> int | None:
    """How wide a terminal this stream is, at least MIN_WIDTH; None: no terminal, lines are as long as they like."""
    if not stream.isatty():
        return None
    columns = os.environ.get("COLUMNS", "")
    if columns.isascii() and columns.isdigit() and len(columns) < 6 and int(columns) > 0:
        return max(MIN_WIDTH, int(columns))
    try:
        width = os.get_terminal_size(stream.fileno()).columns
    except (OSError, ValueError):
        return None
    return max(MIN_WIDTH, width) if width else None


def width() -> int:
    """How wide text is that we wrap in any case."""
    return min(WIDTH, columns(sys.stdout) or WIDTH)


def fit(text: str, stream: TextIO) -> str:
    """A line, wrapped at blanks if the terminal is too narrow; continuation lines are indented."""
    room = columns(stream)
    if room is None or len(text) <= room or "\n" in text:
        return text
    indent = " " * (len(text) - len(text.lstrip()) + 2)
    lines = textwrap.wrap(
        text.lstrip(), room, initial_indent=indent[2:], subsequent_indent=indent, break_long_words=False,
        break_on_hyphens=False,
    )  # fmt: skip
    return "\n".join(lines)


def program() -> str:
    """How the user can call this command again: as it was called, or by its name if that finds it."""
    called = Path(sys.argv[0])
    if called.name == "demo.py":  # the script lies beside the interpreter
        called = Path(sys.executable).parent / "uvmp"
    elif called.name != "uvmp":
        return "uvmp"
    on_path = shutil.which("uvmp")
    try:
        if not called.is_file() or (on_path is not None and os.path.samefile(on_path, called)):
            return "uvmp"
        here = Path(os.path.relpath(called))
    except (OSError, ValueError):
        return "uvmp"
    return shlex.quote(str(called if here.parts[0] == ".." or len(here.parts) == 1 else here))


def pasteable(line: str) -> str:
    """A command line, `uvmp ...`, as it can be pasted here."""
    if not line.startswith("uvmp "):
        return line
    if clean(line) != line:
        line = " ".join(map(_quoted, shlex.split(line)))
    return f"{program()}{line.removeprefix('uvmp')}"


def _quoted(word: str) -> str:
    """A word of a command line, in which bash, zsh and ksh read `\\x0a` as a line break, as `shown` writes that."""
    if clean(word) == word:
        return shlex.quote(word)
    escaped = word.replace("\\", "\\\\").replace("'", "\\'")
    return "$'" + "".join(char if clean(char) == char else _bytes(char) for char in escaped) + "'"


def _bytes(char: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in os.fsencode(char))


def shown(text: str, stream: TextIO) -> str:
    """Text as one line of this stream: nothing in it commands a terminal, and it has every character that is left."""
    return encodable(clean(text, LONGEST), stream.encoding)


class Style(TypedDict, total=False):
    """How a line looks, as click.style() has it."""

    bold: bool
    dim: bool
    fg: str


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

    def say(self, text: str = "", **style: Unpack[Style]) -> None:
        """A line of what the user asked for; whatever is in it, it is one line."""
        if not self.json:
            self._echo(fit(shown(text, self.out), self.out), style)

    def marked(self, mark: str, text: str, **style: Unpack[Style]) -> None:
        """The same, of which only the mark that it begins with has the style."""
        if not self.json:
            self._echo(fit(shown(f"{mark}{text}", self.out), self.out), style, len(mark))

    def _echo(self, text: str, style: Style, head: int | None = None) -> None:
        end = len(text) if head is None else head
        try:
            click.echo((click.style(text[:end], **style) if style else text[:end]) + text[end:], file=self.out,
                       color=coloured(self.out))  # fmt: skip
            self.out.flush()
        except BrokenPipeError:
            raise
        except OSError as wrong:  # a write does not say of which file
            raise OSError(wrong.errno, wrong.strerror, "stdout") from None

    def command(self, line: str, **style: Unpack[Style]) -> None:
        """A command line to paste, which is never broken."""
        if not self.json:
            self._echo(shown(pasteable(line), self.out), style)

    def say_lines(self, text: str) -> None:
        """Several lines, of which each is fit to be shown."""
        for line in text.split("\n"):
            command = line.lstrip()
            if command.startswith("uvmp ") and not self.json:
                self._echo(shown(line[: -len(command)] + pasteable(command), self.out), {})
            else:
                self.say(line)

    def note(self, text: str) -> None:
        """A line about how it is going."""
        with contextlib.suppress(OSError):  # the reader has gone, or the disk is full: no reason to stop
            click.echo(
                click.style(fit(shown(text, self.err), self.err), dim=True), file=self.err, color=coloured(self.err)
            )

    def step(self, text: str) -> None:
        """The same, of something that is said often: a line now and then."""
        if monotonic() >= self.next_step_s:
            self.next_step_s = monotonic() + STEP_EVERY_S
            self.note(text)

    def result(self, document: Mapping[str, object]) -> None:
        """The document that --json asks for."""
        if self.json:
            self._echo(json.dumps(document, indent=2), {})

    def kept(self, folder: Path | None) -> None:
        """Where a run is, and how to read it."""
        if folder is not None:
            self.note(f"kept in {folder}; to explain it: {pasteable(shlex.join(['uvmp', 'postmortem', str(folder)]))}")

    def end(self, document: Mapping[str, object], code: Exit, failed: ProjectBug | None = None) -> Exit:
        """The document, and the exit code: that of `failed`, if there is a reason why not all could be done."""
        if failed is not None:
            code = failed.exit
            say_error(str(failed))
        self.result(document)
        return code

    def table(self, heads: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """Aligned columns, the last one as long as it likes; on a terminal it is broken to fit."""
        cells = [list(heads), *([str(cell) for cell in row] for row in rows)]
        widths = [max(len(row[at]) for row in cells) for at in range(len(heads))]
        before = sum(widths[:-1]) + 2 * (len(heads) - 1)
        room = columns(self.out)
        for number, row in enumerate(cells):
            last = [row[-1]]
            if room is not None and room - before >= MIN_WIDTH // 2:
                last = textwrap.wrap(row[-1], room - before) or [""]
            head = "".join(cell.ljust(width) + "  " for cell, width in zip(row, widths[:-1]))
            for line in [head + last[0], *(" " * before + text for text in last[1:])]:
                if not self.json:
                    self._echo(shown(line.rstrip(), self.out), {"bold": True} if number == 0 else {})

    def replay_line(self, line: str, label: str = "to repeat it:") -> None:
        """The line to paste; alone on its own, so that a triple click takes it and nothing else."""
        self.say()
        self.say(label)
        self.command(line, bold=True)


def complain(args: list[str], message: str, code: int, error: BaseException | None = None, hint: str = "") -> int:
    """Tell an error, in one line on stderr, and of a file each mistake in one; for --json, as a document on stdout.

    Returns: the exit code.
    """
    others = error.others if isinstance(error, UserMistake) else ()
    try:
        say_error(message)
        for mistake in others[: MAX_MISTAKES - 1]:
            say_error(str(mistake))
        if len(others) >= MAX_MISTAKES:
            say_error(f"and {len(others) - MAX_MISTAKES + 1} more")
        if hint:
            click.echo(shown(f"see: {hint}", sys.stderr), file=sys.stderr)
        if "--json" in args:
            document: dict[str, object] = {"error": error_document(message, code, error)}
            if others:
                document["others"] = [error_document(str(other), code, other) for other in others]
            click.echo(json.dumps(document, indent=2))
    except OSError:
        pass  # the reader has gone
    return int(code)


def say_error(message: str) -> None:
    """An error's line; of a longer text, as Ray's, the first one."""
    first = clean(message.strip().split("\n")[0], LONGEST_ERROR)
    text = "uvmp: interrupted" if message == "interrupted" else f"{ERROR}{first}"
    line = fit(shown(text, sys.stderr), sys.stderr)
    click.echo(click.style(line, fg="red"), file=sys.stderr, color=coloured(sys.stderr))


def error_document(message: str, code: int, error: BaseException | None) -> dict[str, object]:
    """An error for tools, with its place if it has one."""
    wrong: dict[str, object] = {"message": clean(message, LONGEST_ERROR), "exit": int(code)}
    names = {"file": "file", "line": "line", "field": "field", "expected": "expected", "found": "actual"}
    for key, name in names.items():
        value = getattr(error, name, None)
        if value is not None:
            wrong[key] = clean(value, LONGEST_ERROR) if isinstance(value, str) else value
    return wrong


class Progress:
    """How a search is going: a bar on a terminal, else a line now and then.

    Args:
        total: schedules to do.
        limit: seconds that there are for them; None: however long it takes.
    """

    def __init__(self, output: Output, total: int, limit: float | None = None):
        self.output, self.total, self.limit = output, total, limit
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
                TextColumn("{task.fields[more]}"),
            )
            self.bar = Bar(*columns, console=console, transient=True, auto_refresh=False)
            self.bar.start()
            self.task = self.bar.add_task("exploring", total=self.total, rate="-", more="")
        return self

    def __call__(self, done: int, seconds: float, more: str = "") -> None:
        """`done` schedules after `seconds`; and what else there is to say."""
        rate = rate_of(done, seconds)
        more = "; ".join(text for text in (self._left(done, seconds), more) if text)
        if self.bar is not None:
            self.bar.update(self.task, completed=done, rate=rate, more=more)
            self.bar.refresh()
        elif seconds >= self.next_s:
            self.next_s = seconds + STEP_EVERY_S
            also = f"; {more}" if more else ""
            self.output.note(f"explored {done} of {self.total} schedules, {rate} per second{also}")

    def _left(self, done: int, seconds: float) -> str:
        """How long the search still takes at this speed, at most: it may see everything, or find something, before."""
        if not done:
            return ""
        left = (self.total - done) * seconds / done
        left = left if self.limit is None else max(0.0, min(left, self.limit - seconds))
        return f"at most {spent(left)} left"

    def note(self, text: str) -> None:
        """A line about how it is going, above the bar."""
        if self.bar is not None:
            self.bar.console.print(text, style="dim", markup=False, highlight=False)
        else:
            self.output.note(text)

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.stop()


def spent(seconds: float) -> str:
    """A time, in the units that it has enough of."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s" if whole == seconds or seconds >= 10 else f"{seconds:.1f} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def rate_of(done: int, seconds: float) -> str:
    """Schedules per second, in as many digits as mean something."""
    return f"{done / seconds:,.0f}" if seconds > 0 else "-"
