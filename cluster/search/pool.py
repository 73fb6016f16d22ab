"""The protocol of a pool of workers, which run the batches of a search, and a pool that is this process alone.

A batch is bytes, and so is its result (batch.py). The result of a batch depends on its bytes alone, whichever worker
runs it and when, so a batch of a worker that has died is run again by another. Other pools: `cluster/workers/`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from random import Random
from typing import Protocol


class Pool(Protocol):
    """Workers that have been sent the setup of the search.

    Attributes:
        workers: how many.
    """

    workers: int

    def room(self) -> int:
        """How many batches more it takes, so that no worker has to wait for the next one."""

    def submit(self, number: int, batch: bytes) -> None:
        """Run a batch; it has this number."""

    def wait(self, seconds: float) -> list[tuple[int, bytes]]:
        """The results of batches by now, in any order; waits so long for the first result.

        Raises: ProjectBug, UserMistake - as the worker has raised it; Infrastructure - a batch costs every worker its
            life.
        """


class Here:
    """This process, one batch after another.

    Args:
        run: what a worker does.
        order: a seed: batches are done in another order than they came; None: in theirs.
    """

    def __init__(self, run: Callable[[bytes], bytes], workers: int = 1, order: int | None = None):
        self.run, self.workers = run, workers
        self.dice = None if order is None else Random(order)
        self.batches: deque[tuple[int, bytes]] = deque()

    def room(self) -> int:
        return 2 * self.workers - len(self.batches)

    def submit(self, number: int, batch: bytes) -> None:
        self.batches.append((number, batch))

    def wait(self, seconds: float) -> list[tuple[int, bytes]]:
        if not self.batches:
            return []
        if self.dice is not None:
            self.batches.rotate(self.dice.randrange(len(self.batches)))
        number, batch = self.batches.popleft()
        return [(number, self.run(batch))]
