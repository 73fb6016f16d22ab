"""The file of a journal: its lines are written together, before anything that they have caused leaves the host."""

from __future__ import annotations

import threading
from collections import deque
from contextlib import suppress
from pathlib import Path

from nodes.host.private import private
from shared.errors import Infrastructure


class Lines:
    """A stream for a Journal.

    Attributes:
        name: path of the file.
        failed: it could not be written: nothing more is, since something would be missing before it.
    """

    def __init__(self, path: Path):
        self.name = str(path)
        self.file = open(path, "xb", opener=private)  # noqa: SIM115 - until close()
        self.waiting: deque[bytes] = deque()
        self.lock = threading.Lock()
        self.failed: Infrastructure | None = None

    def write(self, line: bytes) -> int:
        self.waiting.append(line)
        return len(line)

    def flush(self) -> None:
        """A journal asks for it after each line; see `commit`."""

    def commit(self) -> None:
        """Every line so far is in the file when this returns, whichever thread writes it.

        Raises: Infrastructure - it names the file.
        """
        with self.lock:
            if self.failed is not None:
                raise self.failed
            if not self.waiting:
                return
            lines = [self.waiting.popleft() for _ in range(len(self.waiting))]  # (others may add to it meanwhile)
            try:
                self.file.write(b"".join(lines))
                self.file.flush()
            except OSError as wrong:
                self.failed = Infrastructure(f"{self.name} cannot be written ({wrong.strerror or wrong})")
                raise self.failed from None

    def close(self) -> None:
        try:
            self.commit()
        finally:
            with suppress(OSError):  # it says again what `commit` has said
                self.file.close()
