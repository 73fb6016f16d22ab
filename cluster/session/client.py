"""The other end of a session's socket: asks, and waits for the answer."""

from __future__ import annotations

import select
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Any

import msgpack

from cluster.cli.output import ERROR
from cluster.session.folder import LOG, SOCKET, TOKEN, address, found_there
from cluster.signals import restored
from nodes.host.stream import Caller, Kind, Stream, greet
from shared.errors import Infrastructure, UserMistake
from shared.text import clean

#: an answer, as `Answer.as_dict` makes it
Said = dict[str, Any]


def never(seconds: float, lines: list[str]) -> float | None:
    """Wait for the answer however long that takes."""


class Client:
    """A connection to a session.

    Args:
        path: the folder of the session; `token`: its token.

    Attributes:
        interrupted: by Ctrl-C, while the machine continued.

    Raises: UserMistake - there is no machine, or it refuses the token; Infrastructure - it has ended with an error.
    """

    def __init__(self, path: Path, token: str):
        self.path, self.number = path, 0
        self.interrupted = False
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.connect(address(path))
        except OSError as wrong:
            sock.close()
            if last_words(path).startswith(ERROR):
                raise self._ended() from None
            if isinstance(wrong, PermissionError):
                why = f"{SOCKET} cannot be opened: {(wrong.strerror or '').lower()}"
            else:
                why = found_there(path) if (path / TOKEN).is_file() else "there is no session; uvmp boot starts one"
            raise UserMistake(why.partition(";")[0], file=clean(path, 200), field="SESSION") from None
        try:
            self.stream: Stream = greet(sock, token.encode(), Caller("attach", False, b"", b""))[0]
        except OSError:
            sock.close()
            raise UserMistake("the session refuses this token", file=clean(path, 200), field="--token") from None

    def send(self, command: str) -> int:
        """Send a command; returns the number of its answer."""
        self.number += 1
        try:
            self.stream.send(Kind.FRAMES, self.number, command.encode("utf-8", "replace"))
        except OSError:
            raise self._ended() from None
        return self.number

    def receive(self, number: int) -> Said:
        """The answer of this number; others, of commands that were not waited for, are passed over.

        Raises: Infrastructure - the session has ended.
        """
        return self._next(number)[1]

    def _next(self, *numbers: int) -> tuple[int, Said]:
        """The next answer of one of these numbers."""
        while True:
            try:
                _, came, body = self.stream.receive()
                if came in numbers:
                    answer: Said = msgpack.unpackb(body)
                    return came, answer
            except (OSError, ValueError):
                raise self._ended() from None

    def ask(self, command: str, pace: Callable[[float, list[str]], float | None] = never) -> Said:
        """A command and its answer. Ctrl-C pauses the machine, and the answer comes then.

        Args:
            pace: given how long the machine has gone on, and in lines how it goes; how long to wait then, in seconds.
        """

        def interrupt(number: int, _: object) -> None:
            if number != signal.SIGINT:
                raise KeyboardInterrupt
            self.interrupted = True
            self.send("pause")

        number = self.send(command)
        with restored(interrupt):
            began, wait_s = monotonic(), pace(0.0, [])
            while wait_s is not None and not self._comes(wait_s):
                came, answer = self._next(self.send("top"), number)
                if came == number:
                    return answer
                wait_s = pace(monotonic() - began, answer["lines"])
            return self.receive(number)

    def _comes(self, wait_s: float) -> bool:
        """Does anything come within so many seconds?"""
        return bool(self.stream.rest or select.select([self.stream.sock], [], [], wait_s)[0])

    def _ended(self) -> Infrastructure:
        """The session has ended; if its process has said why, with its last words."""
        last = last_words(self.path).removeprefix(ERROR)
        return Infrastructure("the session has ended" + (f": {clean(last, 500)}" if last else ""))

    def close(self) -> None:
        self.stream.close()


def last_words(path: Path) -> str:
    """Why the process of a session has ended, as its log has it: an error, or else the last line; "": nothing there."""
    try:
        lines = (path / LOG).read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError:
        return ""
    words = [line for line in lines if line.strip()]
    return next((line for line in reversed(words) if line.startswith(ERROR)), words[-1] if words else "")
