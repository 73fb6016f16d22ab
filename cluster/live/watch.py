"""Watches a private Ray from outside of the driver, and words the message about a dead process of Ray.

Left out: the watching itself (cluster/cli/parent.py).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
from time import sleep
from typing import Literal


class Watch:
    """Is told what a private Ray consists of; the base class does nothing with it.

    born NAME PID    a process has been started, without which Ray does not work
    made FOLDER      a folder has been made, which is removed at the end
    keeps FOLDER     the logs of the run that begins are in this folder
    up               Ray has started
    over             the processes are about to be ended
    """

    def tell(self, event: Literal["born", "made", "keeps", "up", "over"], *about: object) -> None:
        """One of these has happened."""


def died(name: str, pid: int) -> str:
    """The message about a dead process, with the remedy."""
    return f"{name} (pid {pid}) on {os.uname().nodename} died; run the command again"


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
