"""The form of a transcript, and what runs it.

A transcript is prose with commands in between, each followed by all that it printed:

    $ uvmp replay TOKEN
    ! a line of stderr
    | a line of stdout
    = 1

The last line of a command is its exit code. What is neither a command nor one of these three is prose, and stays as it
is. A line that begins with `$ uvmp` is run in this process, any other command by the shell; one that ends with `<<END`
continues to the line END. All commands of a transcript run in one empty folder.

TOKEN stands for the token that was printed last, TOKEN+A.7.B for the same with one deviation more: after operation 7 of
A, B continues.

Masked, by one rule, is all that a clock or another commit of the project says differently: rates, seconds, and the
digests in a token, of a scenario or of the kernel; and the token of a session, which is random. Each is shown as `~`.
The schedule in a token is not masked.
"""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

from cluster.cli import cli
from cluster.runs.token import Token, parse

TOKEN = re.compile(r"uvmp1\.([\w-]+)\.[0-9a-f]{8}\.[0-9a-f]{8}\.([\w-]*)\.[0-9a-f]{6}")
MASKED = (
    (TOKEN, r"uvmp1.\1.~.~.\2.~"),
    (re.compile(r"^(\| token )[0-9a-f]{32}$"), r"\1~"),
    (re.compile(r"(\bkernel | as |it is )[0-9a-f]{8}\b"), r"\1~"),
    (re.compile(r"[\d,.]+( per second)"), r"~\1"),
    (re.compile(r"(\"(?:seconds|\w+_per_second)\": )[\d.]+"), r"\1~"),
)
#: stderr says these now and then, by the clock
BY_CLOCK = re.compile(r"explored \d+ of \d+ schedules, .*")
OUTPUT = ("|", "!", "=")


class Stream(io.StringIO):
    """A stream of a command, which marks its lines and writes them where those of the other stream go."""

    encoding = "utf-8"  # type: ignore[assignment]

    def __init__(self, mark: str, lines: list[str]):
        super().__init__()
        self.mark, self.lines, self.rest = mark, lines, ""

    def write(self, text: str) -> int:
        *whole, self.rest = (self.rest + text).split("\n")
        self.lines += [f"{self.mark} {line}".rstrip() for line in whole if not BY_CLOCK.fullmatch(line)]
        return len(text)


class Session:
    """Commands that follow each other, in the current folder.

    Attributes:
        token: the last that was printed.
    """

    def __init__(self) -> None:
        self.token = ""

    def run(self, command: str) -> list[str]:
        """All that a command prints, masked, and its exit code; in lines that begin with their marks."""
        lines: list[str] = []
        if command.startswith("uvmp "):
            out, err = Stream("|", lines), Stream("!", lines)
            words = [self._filled(word) for word in shlex.split(command)[1:]]
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                code = cli.main(words, standalone_mode=False)
            assert not out.rest and not err.rest, "the last line has no end"
        else:
            done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False, timeout=60)
            lines += [f"| {line}".rstrip() for line in done.stdout.splitlines()]
            lines += [f"! {line}".rstrip() for line in done.stderr.splitlines()]
            code = done.returncode
        printed = [token.group() for line in lines for token in TOKEN.finditer(line)]
        self.token = printed[-1] if printed else self.token
        return [*map(masked, lines), f"= {int(code)}"]

    def _filled(self, word: str) -> str:
        """The word with the token in place of TOKEN."""
        stands = re.fullmatch(r"TOKEN(?:\+([\w.]+)\.(\d+)\.([\w.]+))?", word)
        if stands is None:
            return word
        ran, n, other = stands.groups()
        if ran is None:
            return self.token
        token = parse(self.token)
        more = (ran, int(n), "point", other)
        return str(Token(token.scenario, token.digest, token.kernel, (*token.deviations, more)))


def masked(line: str) -> str:
    """The line without what a clock or another commit says differently."""
    for pattern, instead in MASKED:
        line = pattern.sub(instead, line)
    return line


def rendered(text: str) -> str:
    """The transcript with what its commands print today."""
    session = Session()
    lines: list[str] = []
    for part in _parts(text):
        lines += part
        if part[0].startswith("$ "):
            lines += session.run("\n".join(part).removeprefix("$ "))
    return "\n".join(lines) + "\n"


def _parts(text: str) -> Iterator[list[str]]:
    """The lines of prose, each by itself, and the commands; without what these have printed."""
    lines = iter(text.splitlines())
    for line in lines:
        if line.startswith("$ ") and line.endswith("<<END"):
            part = [line]
            for more in lines:
                part.append(more)
                if more == "END":
                    break
            yield part
        elif not line.startswith(OUTPUT):
            yield [line]


def transcripts() -> list[Path]:
    """The files."""
    return sorted(Path(__file__).parent.glob("*.txt"))
