"""Shared by the commands that run live: a booted machine that is always stopped.

Ctrl-C, SIGTERM and SIGHUP end a run. Signals are ignored while Ray and the actors are then stopped.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
from collections.abc import Callable, Iterator
from types import ModuleType

import click

from cluster import signals
from cluster.boot import boot
from cluster.cli.board import Board
from cluster.cli.options import LiveOptions, placement
from cluster.cli.output import Output, coloured, pasteable, rate_of
from cluster.cli.parent import LINK, fork
from cluster.live.actors import ray_session
from cluster.live.doing import Doing, first, rates
from cluster.live.knock import knock
from cluster.live.machine import LiveMachine, Pace
from nodes.host.transport import DEFAULT
from shared.errors import Infrastructure, UserMistake
from shared.scenario.machine import MachineConfig
from shared.scenario.model import Scenario
from shared.text import counted, reason
from shared.wire.messages import Poll

CONNECT_S = 5.0
_PORT = re.compile(r"[1-9][0-9]{0,4}")


@contextlib.contextmanager
def booted(
    output: Output, scenario: Scenario, asked: LiveOptions | None = None, introduce: bool = True
) -> Iterator[LiveMachine]:
    """A live machine of this scenario, ended afterwards whatever happens.

    Args:
        asked: where, and how its actors reach each other, as `check` has seen; None: in a private Ray.
        introduce: say which node is in which process.

    Raises: UserMistake - setup cannot be done, before Ray is started; Infrastructure.
    """
    address = asked.address if asked else None
    place = placement(asked.place, address, scenario.machine) if asked else {}
    boot(scenario)
    with connected(output, address) as (ray, stack):
        machine = LiveMachine(ray, scenario, place, (asked and asked.transport) or DEFAULT, watch=LINK)
        machine.pace = Shown(output, scenario.machine)
        stack.callback(_close, output, machine)
        stack.callback(signals.ignore)
        if introduce:
            output.note(f"booted {len(machine.actors.here)} actors: {actors(machine, address is not None)}")
        yield machine


@contextlib.contextmanager
def connected(output: Output, address: str | None) -> Iterator[tuple[ModuleType, contextlib.ExitStack]]:
    """Ray, ended afterwards whatever happens; and what is to be done before it is ended, while signals are ignored.

    Raises: Infrastructure.
    """
    output.note(f"connecting to Ray at {address} ..." if address else "starting a private Ray ...")
    if not coloured(output.err):
        os.environ.setdefault("RAY_COLOR_PREFIX", "0")
    fork(address)
    with signals.restored(), contextlib.ExitStack() as stack:
        # of a Ray that is half started, processes would stay behind; (for a child that connects, see parent.py)
        warning = "interrupted; Ray stops after its start (press Ctrl-C again to stop at once)"
        with signals.deferred(lambda: output.note(warning) if address is None else None):
            ray = stack.enter_context(ray_session(address, output.note, LINK))
        stack.callback(signals.ignore)  # comes last, except for the end of Ray
        yield ray, stack


class Shown(Pace):
    """Shows how a run on real processes is going: how fast each node is, what runs, and who waits for whom.

    Attributes:
        before: the second in which it was said last, and how far each node was then.
    """

    def __init__(self, output: Output, machine: MachineConfig):
        self.board, self.machine = Board(output), machine
        self.before: tuple[float, dict[str, int]] = (0.0, {})

    def polled(self, seconds: float, polls: list[Poll], now: Callable[[], list[Doing]]) -> None:
        if not self.board.is_due(seconds):
            return
        done, held = sum(poll.operations for poll in polls), sum(poll.held for poll in polls)
        words = f"{counted(done, 'operation')}, {rate_of(done, seconds)} per second"
        words += f"; {counted(held, 'frame')} held back" if held else ""
        counts: dict[str, int] = {}
        for group, poll in zip(self.machine.actors, polls, strict=True):
            counts |= {node: poll.operations if node in self.machine.processors else poll.admitted.get(node, 0)
                       for node in group}  # fmt: skip
        (then, before), self.before = self.before, (seconds, counts)
        each = rates({node: count for node, count in counts.items() if count}, before, seconds - then)
        self.board.show(seconds, [words, *([f"  {each}"] if each else []), *first(now())])

    def over(self) -> None:
        self.board.close()
        self.before = (0.0, {})


def _close(output: Output, machine: LiveMachine) -> None:
    """End the machine; says which journals stay on other computers."""
    for line in machine.close(pasteable):
        output.note(line)


def actors(machine: LiveMachine, hosts: bool) -> str:
    """Which node is in which process, and on which of several hosts."""
    groups = {group[0]: "+".join(group) for group in machine.actors.groups}
    return ", ".join(
        f"{groups[name]} ({f'{here.host}, ' if hosts else ''}pid {here.pid})"
        for name, here in machine.actors.here.items()
    )


def check(asked: LiveOptions, scenario: Scenario) -> None:
    """Check the options before anything starts.

    Raises: UserMistake; Infrastructure.
    """
    placement(asked.place, asked.address, scenario.machine)
    check_address(asked.address)


def check_address(address: str | None) -> None:
    """Is anybody there who lets us in? Ray itself would try for many minutes.

    Raises: UserMistake - no address, no token, no node of the cluster; Infrastructure - no answer.
    """
    if address is None:
        return
    if address != "auto":
        _check_connection(address)
    knock(address, click.get_current_context().command_path)


def _check_connection(address: str) -> None:
    host, colon, port = address.rpartition(":")
    if "://" in address or not colon or not host or not _PORT.fullmatch(port) or int(port) > 65535:
        raise UserMistake(
            f"expected auto, or HOST:PORT of a Ray cluster's head as `ray start` prints it; found {address!r}",
            field="--address",
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_S).close()
    except OSError as error:
        raise Infrastructure(f"Ray cannot be reached at {address}: {reason(error)}") from None
