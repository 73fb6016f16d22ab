"""Saves the logs of a live run that does not end normally, as far as the nodes have written them."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from cluster import signals
from cluster.live.machine import LiveMachine
from cluster.runs.folder import create, identity, write_scenario
from shared.errors import Infrastructure
from shared.journal.runfile import SUFFIX

CALL_S = 5.0


@contextlib.contextmanager
def kept(machine: LiveMachine, folder: Path | None, options: Sequence[str] = ()) -> Iterator[str]:
    """Make the folder of a run, if it is to have one, and keep the logs also if the run does not end as it should.

    Args:
        options: what `uvmp replay` needs beside a token.

    Gives the run's identity.
    """
    run = identity()
    if folder is None:
        yield run
        return
    with signals.deferred():
        write_scenario(create(folder), machine.scenario, run, options)
    machine.watch.keeps(str(folder))
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
        target = folder / f"{node}{SUFFIX}"
        local = machine.scratch / f"run{machine.runs}" / machine.actors.actor_of[node] / target.name
        with contextlib.suppress(OSError, Infrastructure):
            if local.is_file():
                shutil.copyfile(local, target)
            else:
                with open(target, "wb") as stream:
                    stream.writelines(machine.actors.chunks(node, CALL_S))
