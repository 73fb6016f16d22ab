"""The server of a session: one machine, any number of clients, one command after another.

A thread for each client takes its commands and puts them into one queue; the main thread performs them. A machine that
continues does so in parts, and between two parts the server performs commands that only look, and `pause`. So all that
clients are told is of a machine that stands between two operations.

A client proves that it knows the token of the session (nodes/host/stream.py). A message is a command; its answer has
the same number.
"""

from __future__ import annotations

import contextlib
import os
import queue
import socket
import threading
from dataclasses import dataclass, replace
from pathlib import Path

import msgpack

from cluster.session.console import COMMANDS, Answer, Console, refusal
from cluster.session.folder import SOCKET, TOKEN, Writer, address, save, snapshot
from cluster.session.session import Going, Session, Stop
from nodes.host.stream import MAX_BODY, Greeting, Kind, Stream
from shared.errors import Exit, ProjectBug, UserMistake
from shared.text import clean

#: operations after which the machine looks whether there are commands
PART = 1000
MAX_CLIENTS = 16
#: seconds after which it looks whether its folder is still there; if it is not, the machine ends
LOOK_S = 60
#: the same, and whether the processes of the machine are there
CHECK_S = 2
#: what can be done while the machine continues
MEANWHILE = (
    "ps", "top", "trace", "bt", "show", "history", "help", "?", "pause", "detach", "quit", "snapshot", "save", "halt",
)  # fmt: skip


@dataclass
class Asked:
    """A command of a client; `stream` None: of a signal."""

    stream: Stream | None
    number: int
    command: str

    def answer(self, answer: Answer) -> None:
        """Send the answer; a client that has left gets none."""
        if self.stream is None:
            return
        body: bytes = msgpack.packb(answer.as_dict(self.command))
        if len(body) > MAX_BODY:
            body = msgpack.packb(refusal(UserMistake("the answer is too long")).as_dict(self.command))
        with contextlib.suppress(OSError):
            self.stream.send(Kind.ANSWER, self.number, body)


class Server:
    """Serves one session until it is halted.

    Args:
        path: the session's folder.

    Attributes:
        going: what the machine does, and for whom; None: it stands still.
        signalled: a signal has ended it.
    """

    signalled = False

    def __init__(self, path: Path, session: Session, writer: Writer, token: str):
        self.path, self.session, self.writer, self.token = path, session, writer, token
        self.console = Console(session, lambda name: save(session, name), lambda name: snapshot(session, name))
        self.asked: queue.SimpleQueue[Asked] = queue.SimpleQueue()
        self.going: tuple[Going, Asked] | None = None
        self.clients = threading.BoundedSemaphore(MAX_CLIENTS)
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(address(path))
        os.chmod(path / SOCKET, 0o600)
        self.listener.listen(MAX_CLIENTS)
        threading.Thread(target=self._accept, daemon=True).start()

    # -- clients ------------------------------------------------------------------------

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            if self.clients.acquire(blocking=False):
                threading.Thread(target=self._take, args=(sock,), daemon=True).start()
            else:
                sock.close()

    def _take(self, sock: socket.socket) -> None:
        """Take the commands of one client."""
        try:
            stream = Greeting(sock, self.token.encode()).answer(0)
            while True:
                kind, number, body = stream.receive()
                command = body.decode("utf-8", "replace")
                if kind != Kind.FRAMES:
                    return
                self.asked.put(Asked(stream, number, command))
        except OSError:
            pass
        finally:
            sock.close()
            self.clients.release()

    def halt(self) -> None:
        """End the machine as if a client had asked for it; a handler of signals may call this at any time."""
        self.signalled = True
        self.asked.put(Asked(None, 0, "halt"))

    # -- the machine ----------------------------------------------------------------------

    def serve(self) -> None:
        """Perform commands until one of them ends the machine.

        Raises: what has gone wrong with the processes of the machine.
        """
        session = self.session
        try:
            while session.lost is None and self._next():
                if self.going is not None and session.lost is None:
                    self._go_on(*self.going)
        finally:
            self._leave()
        if session.lost is not None:
            raise session.lost

    def _leave(self) -> None:
        """From now on, clients find that the session has ended."""
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)  # close() alone would leave accept() waiting, and answering
        self.listener.close()
        with contextlib.suppress(OSError):
            os.unlink(self.path / SOCKET)

    def _next(self) -> bool:
        """Perform the next command, if there is one or the machine stands still; False: it was the last."""
        alone = self.session.processes is None
        try:
            asked = self.asked.get(block=self.going is None, timeout=LOOK_S if alone else CHECK_S)
        except queue.Empty:
            if self.going is None:
                self._check()
            return (self.path / TOKEN).is_file()
        head = asked.command.split(" ", 1)[0]
        if self.going is not None and head in COMMANDS and head not in MEANWHILE:
            asked.answer(refusal(UserMistake("the machine continues; pause it first")))
            return True
        try:
            if self.going is not None and head == "pause":
                self._stopped(*self.going, Stop("pause"))
            begun = self.console.begin(asked.command)
            self.writer.flush()
        except (ProjectBug, OSError) as wrong:
            begun = failed(wrong)
        if isinstance(begun, Going):
            self.going = begun, asked
            return True
        if begun.leaves == "halt":
            begun.lines, kept = self._halt()
            begun.exit = begun.exit if kept else Exit.INFRASTRUCTURE
        begun.data["goes_on"] = self.going is not None
        asked.answer(begun)
        return begun.leaves != "halt"

    def _check(self) -> None:
        """Notice that a process has died, which ends the session."""
        with contextlib.suppress(ProjectBug):
            self.session.check()

    def _go_on(self, going: Going, asked: Asked) -> None:
        """The next part of what the machine was told."""
        part = replace(going, operations=min(PART, going.operations))
        before = self.session.machine.operations
        try:
            stop = self.session.go(part)
        except (UserMistake, ProjectBug) as wrong:
            self.going = None
            asked.answer(failed(wrong))
            return
        left = going.operations - (self.session.machine.operations - before)
        self.going = replace(going, operations=left), asked
        if stop.why != "done" or left <= 0:
            self._stopped(going, asked, stop)

    def _stopped(self, going: Going, asked: Asked, stop: Stop) -> None:
        self.going = None
        answer = self.console.stopped(going, stop)
        try:
            self.writer.flush()
        except (ProjectBug, OSError) as wrong:
            answer.lines.append(f"error: {clean(wrong, 2000)}")
            answer.exit = Exit.INFRASTRUCTURE
        asked.answer(answer)

    def _halt(self) -> tuple[list[str], bool]:
        """End the session; returns what there is to say, and whether it is kept."""
        if self.going is not None:
            self._stopped(*self.going, Stop("pause"))
        self._leave()
        try:
            outcome = self.writer.finish()
        except (ProjectBug, OSError) as wrong:
            return [f"error: the run cannot be kept: {clean(wrong, 2000)}"], False
        ending = f"the machine has ended after {outcome.operations:,} operations; kept in run/ of the session's folder"
        return [ending, f"digest {outcome.digest}"], True


def failed(wrong: Exception) -> Answer:
    """A command that could not be performed, though it is right."""
    words = clean(wrong, 2000)
    return Answer([f"error: {words}"], {"error": words}, getattr(wrong, "exit", Exit.INFRASTRUCTURE))
