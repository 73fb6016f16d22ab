"""Saves the logs of a live run that does not end normally, as far as the nodes have written them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from cluster import signals
from cluster.live.machine import LiveMachine
from cluster.live.watch import Died, remedy
from cluster.runs.folder import create, identity, write_scenario
from shared.errors import Infrastructure


@contextlib.contextmanager
def kept(machine: LiveMachine, folder: Path | None, options: Sequence[str] = ()) -> Iterator[str]:
    """Make the folder of a run, if it is to have one, and keep the logs also if the run does not end as it should.

    Args:
        options: what `uvmp replay` needs beside a token.

    Gives the run's identity.
    """
    run = identity()
    if folder is None:
        machine.watch.keeps("")
        with advised(""):
            yield run
        return
    with signals.deferred():
        write_scenario(create(folder), machine.scenario, run, options)
    with advised(str(folder)), salvaged(machine, folder):
        yield run


@contextlib.contextmanager
def advised(logs: str) -> Iterator[None]:
    """A message about a failure of the run says what to do.

    Args:
        logs: folder of the run; "": it is not kept.
    """
    try:
        yield
    except Died as error:
        raise Died(f"{error}; {remedy(logs, survivable=True)}") from None
    except Infrastructure as error:
        raise Infrastructure(f"{error}; {remedy(logs)}") from None


@contextlib.contextmanager
def salvaged(machine: LiveMachine, folder: Path) -> Iterator[None]:
    """Save the logs of the run in this folder, if it does not end as it should."""
    machine.watch.keeps(str(folder))
    try:
        yield
    except BaseException:
        with signals.restored():
            signals.ignore()
            if machine.logs is not None:
                machine.logs.salvage()
        raise
