"""Shared by the commands that run live: a booted machine that is always stopped.

Ctrl-C, SIGTERM and SIGHUP end a run. Signals are ignored while Ray and the actors are then stopped.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
from collections.abc import Iterator

from cluster import signals
from cluster.boot import boot
from cluster.cli.output import Output, coloured
from cluster.live.actors import ray_session
from cluster.live.machine import LiveMachine
from nodes.host.transport import DEFAULT, Kind
from shared.errors import Infrastructure, UserMistake
from shared.scenario.model import Scenario

CONNECT_S = 5.0
_PORT = re.compile(r"[1-9][0-9]{0,4}")


@contextlib.contextmanager
def booted(
    output: Output, scenario: Scenario, address: str | None, transport: Kind | None = None, introduce: bool = True
) -> Iterator[LiveMachine]:
    """A live machine of this scenario, ended afterwards whatever happens.

    Args:
        transport: None: the default.
        introduce: say which node is in which process.

    Raises: UserMistake - setup cannot be done, before Ray is started; Infrastructure.
    """
    check_address(address)
    boot(scenario)
    output.note(f"connecting to Ray at {address} ..." if address else "starting a private Ray ...")
    if not coloured(output.err):
        os.environ.setdefault("RAY_COLOR_PREFIX", "0")
    with signals.restored(), contextlib.ExitStack() as stack:
        # of a Ray that is half started, processes would stay behind
        told = "interrupted; Ray stops after its start (press Ctrl-C again to stop at once)"
        with signals.deferred(lambda: output.note(told)):
            ray = stack.enter_context(ray_session(address, output.note))
        stack.callback(signals.ignore)  # comes last but for the end of Ray
        machine = LiveMachine(ray, scenario, transport=transport or DEFAULT)
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

    Raises: UserMistake - no address; Infrastructure - no answer.
    """
    if address is None or address == "auto":
        return
    host, colon, port = address.rpartition(":")
    if "://" in address or not colon or not host or not _PORT.fullmatch(port) or int(port) > 65535:
        raise UserMistake(
            f"expected auto, or HOST:PORT of a Ray cluster's head as `ray start` prints it; found {address!r}",
            field="--address",
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_S).close()
    except OSError as error:
        raise Infrastructure(f"Ray cannot be reached at {address}: {(error.strerror or str(error)).lower()}") from None
