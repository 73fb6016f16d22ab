"""Shared by the commands that search with several processes: the workers that the user asks for, always ended."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from cluster import signals
from cluster.cli.output import Output
from cluster.search.pool import Pool
from cluster.search.spread import SHARED
from shared.errors import UserMistake
from shared.text import counted


def refuse_workers(strategy: str, workers: int | None, address: str | None, alone: str) -> None:
    """Refuse workers for a search that one process alone can do.

    Args:
        alone: an option of a search that one process performs; "": none is given.

    Raises: UserMistake.
    """
    for field, value in (("--workers", workers), ("--address", address)):
        if value is not None and alone:
            raise UserMistake(f"cannot be given with {alone}", field=field)
        if value is not None and strategy not in SHARED:
            raise UserMistake(f"cannot be given with strategy {strategy}, which one process performs", field=field)


@contextlib.contextmanager
def pool(
    output: Output, setup: Callable[[bool], bytes], workers: int | None, address: str | None, most: int | None = None
) -> Iterator[Pool]:
    """Workers that have been sent the setup of the search.

    Args:
        setup: their first message; are they on another computer?
        workers: how many; None: one for each processor of the cluster, or as many as can be at work at a time.
        address: of a Ray cluster; None: they are processes on this computer.
        most: workers that can be at work at a time; None: any number.

    Raises: UserMistake - there is no such address; Infrastructure.
    """
    if address is None:
        from cluster.workers.processes import Processes

        with Processes(workers or 1, setup(False)) as processes:
            yield processes
        return
    from cluster.cli.live import check_address, connected
    from cluster.workers.actors import Actors, enough

    check_address(address)
    with connected(output, address) as (ray, stack):
        actors = Actors(ray, workers or enough(ray, most), setup(True))
        stack.callback(actors.close)
        stack.callback(signals.ignore)
        output.note(f"searching with {counted(actors.workers, 'actor')}")
        yield actors
