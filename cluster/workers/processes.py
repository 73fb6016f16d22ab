"""A pool of processes on this computer, each started anew, with a pipe to it and a pipe from it.

A message on a pipe is its number and its length, eight bytes each, and then its bytes; nothing is pickled. The first
message to a worker says what is searched, the others are batches; an answer has the number of its batch.

A worker that dies costs the batch that it was at, which another worker runs again; a batch that costs two workers
their lives ends the search. Workers ignore the signals that end the command, which ends them itself; if the command is
killed, they end when they read from their pipe, or write to it.

Why not Ray: it takes 5 s and more to start, these half a second. Why not `multiprocessing`: it pickles what it sends.
"""

from __future__ import annotations

import json
import os
import selectors
import struct
import subprocess
import sys
from types import TracebackType
from typing import BinaryIO

from cluster import signals
from cluster.workers.answer import Worker, checked
from cluster.workers.dealer import SETUP, Dealer, Hand

HEAD = struct.Struct("<QQ")
#: bytes read or written at once
PIECE = 1 << 20
#: what a worker is started with; its path is ours, and not the folder that it happens to be in
PROGRAM = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from cluster.workers.processes import main; main()"


class _Child(Hand):
    """A worker as its owner has it.

    Attributes:
        outgoing, incoming: bytes that the pipe has not taken, and those of a message that is not whole.
    """

    def __init__(self, setup: bytes):
        super().__init__()
        path = json.dumps([os.path.abspath(place) for place in sys.path])
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", PROGRAM, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self.process.stdin is not None and self.process.stdout is not None
        self.into, self.out_of = self.process.stdin.fileno(), self.process.stdout.fileno()
        os.set_blocking(self.into, False)
        self.outgoing, self.incoming = bytearray(), bytearray()
        self.send(SETUP, setup)

    def send(self, number: int, data: bytes) -> None:
        self.outgoing += HEAD.pack(number, len(data)) + data
        self.write()

    def write(self) -> None:
        """As much as the pipe takes. Whether the worker is dead, read() says."""
        try:
            del self.outgoing[: os.write(self.into, self.outgoing[:PIECE])]
        except BlockingIOError:
            pass
        except BrokenPipeError:
            self.outgoing.clear()

    def read(self) -> list[tuple[int, bytes]] | None:
        """The messages that have become whole; None: the worker is dead."""
        piece = os.read(self.out_of, PIECE)
        if not piece:
            return None
        self.incoming += piece
        whole = []
        while len(self.incoming) >= HEAD.size:
            number, length = HEAD.unpack_from(self.incoming)
            if len(self.incoming) < HEAD.size + length:
                break
            whole.append((number, bytes(self.incoming[HEAD.size : HEAD.size + length])))
            del self.incoming[: HEAD.size + length]
        return whole

    def end(self) -> int:
        """Kill it; returns its exit status."""
        self.process.kill()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except BrokenPipeError:
                    pass
        return self.process.wait()


class Processes(Dealer[_Child]):
    """Workers on this computer, ended with the `with` block."""

    def _begin(self) -> _Child:
        return _Child(self.setup)

    def __enter__(self) -> Processes:
        try:
            for _ in range(self.workers):
                self.hands.append(self._begin())
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End all workers, whatever they are at."""
        for child in self.hands:
            child.process.kill()
        for child in self.hands:
            child.end()
        self.hands.clear()

    def wait(self, seconds: float) -> list[tuple[int, bytes]]:
        done: list[tuple[int, bytes]] = []
        with selectors.DefaultSelector() as ready:
            for child in self.hands:
                ready.register(child.out_of, selectors.EVENT_READ, child.read)
                if child.outgoing:
                    ready.register(child.into, selectors.EVENT_WRITE, child.write)
            events = {key.fd for key, _ in ready.select(seconds)}
        for child in list(self.hands):
            if child.into in events:
                child.write()
            if child.out_of in events:
                answers = child.read()
                if answers is None:
                    status = child.end()
                    how = f"by signal {-status}" if status < 0 else f"with exit status {status}"
                    self._bury(child, f", the last {how}")
                    continue
                for number, data in answers:
                    child.began = True
                    if checked(data) and number != SETUP:
                        child.batches.popleft()
                        done.append((number, data))
        self._deal()
        return done


def main() -> None:
    """The loop of a worker: until its pipe is closed, it answers one message after another."""
    signals.ignore()
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what else is written there is no answer
    worker = Worker()
    while (message := _message(sys.stdin.buffer)) is not None:
        number, data = message
        answer = worker.begin(data) if number == SETUP else worker.run(data)
        try:
            answers.write(HEAD.pack(number, len(answer)) + answer)
            answers.flush()
        except BrokenPipeError:
            os._exit(1)  # all processes have ended


def _message(pipe: BinaryIO) -> tuple[int, bytes] | None:
    """The next message; None: there is none."""
    head = pipe.read(HEAD.size)
    if len(head) < HEAD.size:
        return None
    number, length = HEAD.unpack(head)
    data = pipe.read(length)
    return (number, data) if len(data) == length else None
