"""Journals that an actor has left on its computer, because the driver was not there to fetch them when it ended.

Ray calls these functions on that computer, in a process of their own. A request names a folder and a node and no path,
so it reaches nothing but journals in folders that actors make.

Left out: who asks (cluster/live/collect.py).
"""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic, sleep
from typing import BinaryIO

from shared.errors import Infrastructure, LogIncomplete
from shared.journal.runfile import SUFFIX
from shared.text import reason
from shared.wire.codec import CHUNK, encode

#: what the name of a folder that an actor makes begins with
PREFIX = "uvmp-"
CHUNK_BYTES = 90_000
#: seconds in which an actor ends that is being killed, and between two looks at it
ENDS_S, RETRY_S = 2.0, 0.05
_FOLDER = re.compile(PREFIX + r"[A-Za-z0-9_]{1,20}")
_NODE = re.compile(r"[a-z][a-z_]{0,30}[0-9]{0,4}")


def piece(folder: str, node: str, offset: int) -> bytes:
    """A piece of a journal, from `offset` bytes on; empty at its end.

    Args:
        folder: its name in the temporary folder of this computer.

    Raises: LogIncomplete - there is none; Infrastructure - the run goes on.
    """
    with _opened(_path(folder, node)) as stream:
        if offset == 0:
            _refuse_running(_writer(stream))
        stream.seek(offset)
        return encode(CHUNK, stream.read(CHUNK_BYTES))


def end(folder: str, node: str, run: str) -> None:
    """Kill the actor that writes this journal of a run: its driver has given it up, but it may be a stopped process.

    Raises: LogIncomplete - there is no journal.
    """
    with _opened(_path(folder, node)) as stream, suppress(OSError):
        pid = _writer(stream, run)
        about = os.fstat(stream.fileno())
        # (the number may be another actor's by now, which has another file open)
        if is_actor(pid) and any(os.path.samestat(entry.stat(), about) for entry in os.scandir(f"/proc/{pid}/fd")):
            os.kill(pid, signal.SIGKILL)


def remove(folder: str, node: str) -> None:
    """Remove a journal that has been fetched, and its folder with the last of them.

    Raises: LogIncomplete - there is none.
    """
    path = _path(folder, node)
    try:
        path.unlink()
        if not any(path.parent.iterdir()):
            path.parent.rmdir()
    except OSError as wrong:
        raise LogIncomplete(f"{path}: {reason(wrong)}") from None


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """A journal, to be read.

    Raises: LogIncomplete - there is none.
    """
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as stream:
            about = os.fstat(stream.fileno())
            if not stat.S_ISREG(about.st_mode) or about.st_uid != os.geteuid():
                raise LogIncomplete(f"{path} is not a journal of ours")
            yield stream
    except OSError as wrong:
        raise LogIncomplete(f"{path}: {reason(wrong)}") from None


def _path(folder: str, node: str) -> Path:
    """The file of a journal.

    Raises: LogIncomplete - an actor makes no such file.
    """
    if not _FOLDER.fullmatch(folder) or not _NODE.fullmatch(node):
        raise LogIncomplete(f"{folder}/{node}{SUFFIX} is not the name of a journal")
    there = Path(tempfile.gettempdir(), folder)
    if there.is_symlink():
        raise LogIncomplete(f"{there} is a link")
    return there / f"{node}{SUFFIX}"


def _writer(journal: BinaryIO, run: str | None = None) -> int:
    """The process that writes a journal, by its header; 0: it does not say so, or is of another run than `run`."""
    try:
        header = json.loads(journal.readline(CHUNK_BYTES))
        return int(header["pid"]) if run in (None, header["run"]) else 0
    except (ValueError, TypeError, LookupError, RecursionError):
        return 0


def _refuse_running(pid: int) -> None:
    """Raises: Infrastructure - this actor, which writes a journal, lives, and does not end within ENDS_S."""
    until = monotonic() + ENDS_S
    while is_actor(pid):
        if monotonic() > until:
            raise Infrastructure(f"the run continues: process {pid} writes its journals")
        sleep(RETRY_S)


def is_actor(pid: int) -> bool:
    """Is this process of this computer an actor?"""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"ray::NodeActor")
    except OSError:
        return False
