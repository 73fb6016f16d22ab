"""Watches Ray from outside of the driver, and words the message about a dead process of Ray.

A message about a death has three parts in one line: what died, where (host, process id), and the remedy.

Left out: the watching itself (cluster/cli/parent.py).
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
from pathlib import Path
from time import sleep
from typing import Literal, NamedTuple

from cluster.live.elsewhere import attempts, places
from shared.errors import Infrastructure, UserMistake
from shared.journal.runfile import RUN, SUFFIX


class Died(Infrastructure):
    """A process of the machine has died."""


class Watch:
    """Is told what Ray consists of; the base class does nothing with it.

    born NAME PID    a process has been started, without which Ray does not work
    at HOST:PORT     the address of a cluster to which the driver has connected
    joined NAME PID FIRST  the same, of a cluster's Ray, which is not ours; what is to be done first if it dies
    far HOST:PORT    GCS of a cluster is on another host
    works PID        an actor of this computer; it writes journals until it ends
    made FOLDER      a folder has been made, which is removed at the end
    keeps FOLDER     the logs of the run that begins are in this folder
    up               Ray has started
    over             the processes are about to be ended

    Attributes:
        logs: folder of the last run that is kept; "": there is none.
    """

    logs = ""

    def tell(
        self, event: Literal["born", "at", "joined", "far", "works", "made", "keeps", "up", "over"], *about: object
    ) -> None:
        """One of these has happened."""

    def keeps(self, folder: str) -> None:
        """A run begins whose logs are in this folder."""
        self.logs = folder
        self.tell("keeps", folder)


#: what the programs are for without which Ray does not work, and what is to be done first if GCS of a cluster has died
RAYLET, GCS, GCS_FIRST = "Ray's node process, raylet", "Ray's control store, GCS", "start the cluster again"


class Process(NamedTuple):
    """A process without which Ray does not work.

    Attributes:
        pid: on this computer.
        first: what is to be done first if it has died; "": nothing.
        address: where it listens, if it is on another host; "": it is on this computer.
    """

    name: str
    pid: int
    first: str = ""
    address: str = ""

    def died(self, logs: str) -> str:
        """The message about its death.

        Args:
            logs: as `remedy` takes it.
        """
        what = f"{self.first}, then {remedy(logs)}" if self.first else remedy(logs)
        where = f", at {self.address}" if self.address else f" (pid {self.pid}) on {os.uname().nodename}"
        return f"{self.name}{where} died; {what}"


def far_gcs(address: str) -> Process:
    """GCS of a cluster, on another host."""
    return Process(GCS, 0, GCS_FIRST, address)


def process_of(program: str, option: str) -> int | None:
    """The process of this computer that runs a program with this option; None: there is none."""
    for path in Path("/proc").glob("[1-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = path.read_bytes().split(b"\0")
            if os.path.basename(words[0]) == program.encode() and option.encode() in words:
                return int(path.parent.name)
    return None


def has_ended(pid: int) -> bool:
    """Has a process ended, whether or not its parent has noticed that?"""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()[0] in "ZX"
    except (OSError, ValueError, IndexError):
        return True


def remedy(logs: str, survivable: bool = False) -> str:
    """What can be done after a death or another failure: continue the run, if there is something to continue.

    Args:
        logs: folder of the run that was going on; "": there is none.
        survivable: what died was an actor.
    """
    again = "run the command again"
    if survivable:
        again += "; `--survive N` lets a run survive N deaths of actors"
    if not logs or Path(logs, RUN).exists():
        return again
    # (the first of those that have most; who dies while it follows an attempt has less than that has)
    sizes = {folder: sum(map(_size, Path(folder).glob(f"*{SUFFIX}"))) for folder in attempts(logs)}
    folder = max(sizes, key=lambda name: sizes[name])
    try:
        there = places(Path(folder))
    except UserMistake:
        there = {}
    if not there and not sizes[folder]:
        return again
    resume = f"`{shlex.join(['uvmp', 'run', '--resume', folder])}` continues the run"
    if not there:
        return resume
    hosts = " and ".join(sorted({place.host for place in there.values()}))
    return f"`{shlex.join(['uvmp', 'collect', folder])}` fetches the journals that stay on {hosts}, then {resume}"


def _size(journal: Path) -> int:
    """Bytes of the records of a journal, behind its header."""
    with contextlib.suppress(OSError), open(journal, "rb") as stream:
        return os.fstat(stream.fileno()).st_size - len(stream.readline())
    return 0


def end_group(pid: int) -> None:
    """End all processes that a process of Ray has started; they are in its group."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def remove(folder: str) -> None:
    """Remove a folder that a process which is about to end may still write to."""
    for _ in range(20):
        shutil.rmtree(folder, ignore_errors=True)
        if not os.path.exists(folder):
            return
        sleep(0.1)
