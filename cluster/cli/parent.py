"""The parent of a command that uses Ray: it survives the driver, and then it gives the verdict.

Ray's core ends its process with exit code 1, often without a word, when Ray's control store (GCS) or its node process
(raylet) has died, or when this computer does not belong to the cluster. Therefore a command forks before it starts Ray:

    parent   waits  <--- processes, folders, exit code (a pipe, lines of JSON) ---  child: the driver, Ray's core
                    ---- SIGTERM, SIGKILL: for a signal of the user, a dead process of Ray ---->

The child continues with the command and normally ends as if there were no parent. If the child ends without an exit
code, the parent says what died, ends what is left of the private Ray, and removes its files, on other hosts of a
cluster too. If the parent is killed, the child ends as after SIGTERM.

While Ray connects to a cluster, its core may wait long for an answer, and takes SIGTERM for a crash. Nothing has been
started then, so for a signal of the user the parent kills the child.

Left out: a command that is called as a function, and systems other than Linux. There the command itself is the driver.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import shlex
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic
from typing import NoReturn

from cluster import signals
from cluster.cli.output import Output, complain, pasteable
from cluster.live.elsewhere import left, stays
from cluster.live.listens import Port, listens
from cluster.live.watch import GCS, Process, Watch, end_group, far_gcs, remedy, remove
from shared.errors import Exit

#: seconds after the driver's end in which a signal that has ended it may reach us, too
HEARD_S = 0.2
#: seconds that the driver has after a process of Ray has died, and that processes have to end which are killed
PATIENCE_S, END_S = 20.0, 5.0
#: before a signal is passed on, which the terminal may have sent to the child too: that comes first
PASS_ON_S = 0.1
PR_SET_PDEATHSIG = 1


class Link(Watch):
    """The messages of the child to its parent; none without a parent.

    Attributes:
        may_fork: the command has this process for itself.
        pipe: to the parent.
    """

    def __init__(self) -> None:
        self.may_fork = False
        self.pipe: int | None = None

    def tell(self, event: str, *about: object) -> None:
        if self.pipe is not None:
            with contextlib.suppress(OSError):  # the parent was killed
                os.write(self.pipe, f"{json.dumps((event, *about))}\n".encode())


LINK = Link()


def run(command: Callable[[], int]) -> NoReturn:
    """Run a command that has this process for itself, and exit with its code."""
    signals.listen()
    LINK.may_fork = sys.platform == "linux" and hasattr(os, "pidfd_open")
    try:
        code = int(command())
    except Exception as error:  # with --debug
        traceback.print_exc()
        code = getattr(error, "exit", Exit.INFRASTRUCTURE)
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
    LINK.tell("exit", code)
    sys.exit(code)


def fork(address: str | None) -> None:
    """From here on, a command that has its process for itself continues in a child, as the driver.

    Args:
        address: of a Ray cluster; None: a private Ray.
    """
    if not LINK.may_fork:
        return
    LINK.may_fork = False
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    ours, theirs = os.pipe()
    parent = os.getpid()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals.ENDING)
    child = os.fork()
    if child == 0:
        os.close(ours)
        LINK.pipe = theirs
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGTERM)
        return
    os.close(theirs)
    code: int = Exit.INFRASTRUCTURE
    try:
        driver = Driver(child, ours, address)
        with signals.restored(lambda number, _: driver.ask()):
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            code = driver.wait()
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)


@dataclass
class Driver:
    """The child, as the parent sees it.

    Attributes:
        pipe: from the child.
        started: all processes of the private Ray.
        far: where GCS of the cluster listens, if it is on another host.
        others: pidfd, which is readable when it has ended -> a process of the private Ray, or of the cluster's.
        actors: process -> pidfd, of all that are on this computer; they have to end before their journals are read.
        folders: to be removed if the child cannot.
        logs: where the logs of the last run are; "": nowhere.
        up: Ray has started.
        lost: the process of Ray that died first.
        until: when the child must have ended; None: there is no hurry.
        killed: it has not, and was killed.
        bell: a pipe that wakes up the thread that waits for the child.
        asked: a signal of the user has come.
        pass_on: when that is passed on; None: there is none, or it has been.
        ending: Ray is being ended, and until it is started again a signal would kill the child: Ray's core then gives
            SIGTERM its default action, unknown to Python.
        code: the exit code that the child has told.
    """

    pid: int
    pipe: int
    address: str | None
    started: list[Process] = field(default_factory=list)
    far: Port | None = None
    others: dict[int, Process] = field(default_factory=dict)
    actors: dict[int, int] = field(default_factory=dict)
    folders: list[str] = field(default_factory=list)
    logs: str = ""
    up: bool = False
    lost: Process | None = None
    until: float | None = None
    killed: bool = False
    bell: tuple[int, int] = field(default_factory=os.pipe)
    asked: bool = False
    pass_on: float | None = None
    ending: bool = False
    code: int | None = None
    rest: bytes = b""

    def ask(self) -> None:
        """A signal of the user has come; a handler can only wake up the thread that waits."""
        os.write(self.bell[1], b"!")

    def wait(self) -> int:
        """Wait for the end of the child; returns the exit code of the command."""
        os.set_blocking(self.pipe, False)
        own = os.pidfd_open(self.pid)
        ended = False
        while not ended:
            ready = self._ready(own)
            self._listen()
            if self.bell[0] in ready:
                os.read(self.bell[0], 1 << 10)
                self.asked, self.pass_on = True, monotonic() + PASS_ON_S
            self._pass_on()
            ended = own in ready
            for fd in ready & set(self.others):
                os.close(fd)
                self._lose(self.others.pop(fd))
            if self.far is not None and self.far.is_dead(ready):
                self._lose(far_gcs(self.far.address))
                self.far = None
            if self.until is not None and monotonic() > self.until:
                self.killed = True
                os.kill(self.pid, signal.SIGKILL)
        status = os.waitpid(self.pid, 0)[1]
        self._listen()
        if self.code is not None:
            return self.code
        self._clean()
        if os.WIFSIGNALED(status) and self._heard():
            if os.WTERMSIG(status) in signals.ENDING:
                return Exit.INTERRUPTED
            if self._connects():
                return complain(sys.argv[1:], "interrupted", Exit.INTERRUPTED)
        hint = pasteable(shlex.join(["uvmp", "postmortem", self.logs])) if self.logs else ""
        for line in left(self.logs, pasteable) if self.logs else ():
            Output().note(line)
        return complain(sys.argv[1:], self._why(status), Exit.INFRASTRUCTURE, hint=hint)

    def _heard(self) -> bool:
        """Has a signal of the user come? One that went to both may have ended the child first."""
        return self.asked or bool(select.select([self.bell[0]], [], [], HEARD_S)[0])

    def _lose(self, process: Process) -> None:
        """A process of Ray has died. (While Ray starts, the child may notice that itself, and start it once more.)"""
        if self.lost is None and self.code is None:
            self.lost, self.until = process, monotonic() + PATIENCE_S
            if self.up:
                os.kill(self.pid, signal.SIGTERM)

    def _pass_on(self) -> None:
        """All signals of the user mean the same, and a child may get SIGTERM twice."""
        if self.pass_on is not None and monotonic() > self.pass_on and not self.ending:
            self.pass_on = None
            os.kill(self.pid, signal.SIGKILL if self._connects() else signal.SIGTERM)

    def _connects(self) -> bool:
        """Is the child still to be connected to a cluster?"""
        return self.address is not None and not self.up and not self.ending

    def _ready(self, own: int) -> set[int]:
        """Wait for something to read, the end of a process, a signal, or the time when there is something to do."""
        poll = select.poll()
        for fd in (self.pipe, own, self.bell[0], *self.others):
            poll.register(fd, select.POLLIN)
        times = [time for time in (self.until, None if self.ending else self.pass_on) if time is not None]
        if self.far is not None:
            times.append(self.far.due)
            for fd in self.far.waits:
                poll.register(fd, select.POLLOUT)
        limit = max(0.0, min(times) - monotonic()) * 1000 + 1 if times else None
        return {fd for fd, _ in poll.poll(limit)}

    def _listen(self) -> None:
        """Take what the child has told."""
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self.pipe, 1 << 16):
                *lines, self.rest = (self.rest + data).split(b"\n")
                for line in lines:
                    self._received(*json.loads(line))

    def _received(self, word: str, *words: object) -> None:
        match word, *words:
            case "born", str(name), int(pid):
                self.ending = False
                if self._watches(process := Process(name, pid)):
                    self.started.append(process)
            case "at", str(address):
                self.address = address
            case "joined", str(name), int(pid), str(first):
                self._watches(Process(name, pid, first))
            case "far", str(address):
                self.far = Port(address)
            case "works", int(pid):
                if pid in self.actors:  # (the number may be another process's by now)
                    os.close(self.actors.pop(pid))
                with contextlib.suppress(ProcessLookupError):
                    self.actors[pid] = os.pidfd_open(pid)
            case "made", str(folder):
                self.folders.append(folder)
            case "keeps", str(folder):
                self.logs = folder
            case ("up",):
                self.up = True
            case ("over",):
                self.up, self.far, self.lost, self.until, self.ending = False, None, None, None, True
                for fd in self.others:
                    os.close(fd)
                self.started, self.others = [], {}
            case "exit", int(code):
                self.code = code

    def _watches(self, process: Process) -> bool:
        """From now on its end is noticed; False: it has ended."""
        with contextlib.suppress(ProcessLookupError):
            self.others[os.pidfd_open(process.pid)] = process
            return True
        return False

    def _clean(self) -> None:
        """End what is left of a private Ray, which does end without the driver, but perhaps later; remove its files."""
        until = monotonic() + END_S
        for process in self.started:
            end_group(process.pid)
        for fd in self.actors.values():
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(fd, signal.SIGKILL)
        for fd in (*self.actors.values(), *(fd for fd, process in self.others.items() if process in self.started)):
            select.select([fd], [], [], max(0.0, until - monotonic()))
        if self.address is not None:
            self._sweep(self.address)
        for folder in self.folders:
            remove(folder)

    def _sweep(self, address: str) -> None:
        """Remove the journals of runs that are not kept on other hosts of a cluster, or say where they stay."""
        from cluster.live.sweep import left_by_runs, sweep

        journals = [journal for folder in self.folders for journal in left_by_runs(folder)]
        if journals and self.lost is None:
            journals = sweep(address, journals)
        for journal in journals:
            Output().note(stays(*journal))

    def _why(self, status: int) -> str:
        """The process that has died, and the remedy, in one line."""
        here, what = os.uname().nodename, remedy(self.logs)
        number = os.WTERMSIG(status) if os.WIFSIGNALED(status) and not self.killed else 0
        if number == signal.SIGKILL or (number and self.lost is None):
            reason = "; the system does that if memory is short" if number == signal.SIGKILL else ""
            return f"the driver (pid {self.pid}) on {here} was killed by signal {number}{reason}; {what}"
        if self.lost is not None:
            return self.lost.died(self.logs)
        if self.address is None:
            return f"Ray ended the driver (pid {self.pid}) and gave no reason; `uvmp doctor --ray` tries Ray alone"
        gcs = self.address == "auto" or listens(self.address)  # (auto: it is not known yet)
        if gcs is False:
            return far_gcs(self.address).died(self.logs)
        if gcs is None:
            return f"{GCS}, at {self.address} has not answered for long; when it can be reached again, {what}"
        return (
            f"Ray ended the driver (pid {self.pid}): its node process, raylet, on {here} died, or {here} is not a node "
            f"of the cluster at {self.address}; `ray start --address {self.address}` adds a node, then {what}"
        )
