"""What the commands that run live share: a booted machine that is always ended, parity, kept logs.

Ctrl-C ends a run, and so do SIGTERM and SIGHUP; what then ends Ray and the actors is not interrupted again.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster import signals
from cluster.boot import boot, prepare
from cluster.cli.output import Output, coloured
from cluster.launch import ray_session
from cluster.live import LiveMachine, LiveRun
from cluster.minimize import minimize
from cluster.replay import replay, replay_journals
from cluster.runfolder import cannot_write, create, finish, identity, write_scenario
from cluster.sim import Sim
from cluster.token import Token, token_of
from shared.codec import CHUNK, decode
from shared.errors import Diverged, Infrastructure, LogIncomplete, ProjectBug, UserMistake
from shared.runfile import MAX_TOKEN
from shared.scenario import Scenario

CONNECT_S = 5.0
_PORT = re.compile(r"[1-9][0-9]{0,4}")
#: executions that the token of a live run may cost
TOKEN_BUDGET = 400


@contextlib.contextmanager
def booted(output: Output, scenario: Scenario, address: str | None, introduce: bool = True) -> Iterator[LiveMachine]:
    """A live machine of this scenario, ended afterwards whatever happens.

    Args:
        introduce: say which node is in which process.

    Raises: UserMistake - setup cannot be done, before Ray is started; Infrastructure.
    """
    check_address(address)
    boot(scenario)
    output.note(f"connecting to Ray at {address} ..." if address else "starting a Ray of our own ...")
    if not coloured(output.err):
        os.environ.setdefault("RAY_COLOR_PREFIX", "0")
    with signals.restored(), contextlib.ExitStack() as stack:
        # of a Ray that is half started, processes would stay behind
        told = "interrupted; Ray ends as soon as it is up (Ctrl-C once more: at once)"
        with signals.deferred(lambda: output.note(told)):
            ray = stack.enter_context(ray_session(address, output.note))
        stack.callback(signals.ignore)  # comes last but for the end of Ray
        machine = LiveMachine(ray, scenario)
        stack.callback(machine.close)
        stack.callback(signals.ignore)
        if introduce:
            output.note(f"booted {len(machine.actors.pids)} actors: {actors(machine)}")
        yield machine


def actors(machine: LiveMachine) -> str:
    """Which node is in which process."""
    groups = {group[0]: group for group in machine.actors.groups}
    return ", ".join(f"{'+'.join(groups[name])} (pid {pid})" for name, pid in machine.actors.pids.items())


def check_address(address: str | None) -> None:
    """Is anybody there? Ray itself would wait for many minutes.

    Raises: UserMistake - no address; Infrastructure - nobody answers.
    """
    if address is None or address == "auto":
        return
    host, colon, port = address.rpartition(":")
    if "://" in address or not colon or not host or not _PORT.fullmatch(port) or int(port) > 65535:
        raise UserMistake(
            f"expected HOST:PORT of a Ray cluster's head, as `ray start` prints it, or auto; found {address!r}",
            field="--address",
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_S).close()
    except OSError as error:
        raise Infrastructure(f"Ray cannot be reached at {address}: {(error.strerror or str(error)).lower()}") from None


@dataclass(frozen=True, slots=True)
class Parity:
    """A live run against `sim`, which performed the same operations in the same order.

    Attributes:
        digest: of the journals in sim; None if it could not follow.
        why: what went wrong, or "".
    """

    digest: str | None
    equal: bool
    why: str = ""

    def __str__(self) -> str:
        if self.equal:
            return "equal in sim"
        return self.why or f"DIFFERENT in sim: {self.digest}"


def parity(scenario: Scenario, run: LiveRun) -> Parity:
    """Replay a live run's journals in sim and compare the digests."""
    try:
        again = replay_journals(scenario, run.journals)
    except (Diverged, LogIncomplete) as error:
        return Parity(None, False, str(error))
    return Parity(again.digest, again.digest == run.digest)


def token_of_live(scenario: Scenario, run: LiveRun) -> Token | None:
    """A token with the finding of a live run; None if there is no finding, or sim has no such finding.

    The journals' order is run in sim, which notes its deviations from the
    default schedule; they are shortened, and tried once more as a user would.
    """
    if run.finding is None:
        return None
    try:
        once = replay_journals(scenario, run.journals)
        if once.finding is None:
            return None
        sim = Sim(*prepare(scenario), granularity="access")
        token = token_of(scenario, minimize(sim, once.finding, once.deviations, TOKEN_BUDGET))
        again = replay(scenario, list(token.deviations)).finding
    except (Diverged, LogIncomplete):
        return None
    fits = len(str(token)) <= MAX_TOKEN and again is not None and again.signature == once.finding.signature
    return token if fits else None


# -- logs ------------------------------------------------------------------------------


@contextlib.contextmanager
def kept(machine: LiveMachine, folder: Path | None) -> Iterator[str]:
    """Make the folder of a run, if it is to have one, and keep the logs also if the run does not end as it should.

    Gives the run's identity.
    """
    run = identity()
    if folder is None:
        yield run
        return
    with signals.deferred():
        write_scenario(create(folder), machine.scenario, run)
    try:
        yield run
    except BaseException:
        with signals.restored():
            signals.ignore()
            salvage(machine, folder)
        raise


def salvage(machine: LiveMachine, folder: Path) -> None:
    """Copy what the nodes have written so far; from their disk, if that is ours, since a dead node does not answer."""
    for node in machine.scenario.machine.nodes:
        target = folder / f"{node}.uvmp.jsonl"
        actor = machine.actors.actor_of[node]
        local = machine.scratch / f"run{machine.runs}" / actor / target.name
        with contextlib.suppress(OSError, Infrastructure):
            if local.is_file():
                shutil.copyfile(local, target)
            else:
                _fetch(machine, actor, node, target)


def _fetch(machine: LiveMachine, actor: str, node: str, target: Path) -> None:
    handle: Any = machine.actors.handles[actor]
    with open(target, "wb") as stream:
        while piece := decode(CHUNK, machine.actors.gather([handle.chunk.remote(node, stream.tell())], CONNECT_S)[0]):
            stream.write(piece)


def write_end(
    folder: Path,
    name: str,
    scenario: Scenario,
    run: LiveRun,
    token: Token | None = None,
    shortened: Token | None = None,
    options: Sequence[str] = (),
) -> ProjectBug | None:
    """Write what a live run came to; its journals are there already. Returns why that could not be done, if so.

    Args:
        name: the run's identity.
        token: of the schedule that it followed.
        shortened: of another schedule with the same finding.
        options: what `uvmp replay` needs beside a token.
    """
    try:
        if run.unkept is not None:
            raise run.unkept
        finish(
            folder, scenario, name, engine="live", finding=run.finding, notes=run.notes, token=token,
            shortened=shortened, options=options, digest=run.digest,
            admitted={node: written(folder, node) for node in run.journals},
            results=run.results, sites=run.sites, counters=run.counters,
        )  # fmt: skip
    except OSError as wrong:
        return cannot_write(Path(wrong.filename or folder), wrong)
    except Infrastructure as wrong:
        return wrong
    return None


def written(folder: Path, node: str) -> int:
    """How many records a node's file has; its header is not one."""
    with open(folder / f"{node}.uvmp.jsonl", "rb") as stream:
        return max(0, sum(1 for _ in stream) - 1)
