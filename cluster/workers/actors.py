"""A pool of Ray actors, on a cluster or on this computer. Whoever makes it has started Ray (cluster/live/actors.py).

Setups, batches and answers are bytes (cluster/search/batch.py), which Ray carries as they are. An actor that dies
costs the batch that it was at, which another actor runs again; a batch that costs two actors their lives ends the
search. An actor for which the cluster has no processor yet is given no batch.
"""

from __future__ import annotations

from collections import Counter, deque
from time import monotonic
from types import ModuleType
from typing import Any

from cluster.workers.answer import Worker, checked
from shared.errors import Infrastructure

#: batches that an actor is given: the one that it runs, and the next one
DEEP = 2
#: actors that may not die at one batch, or before they have answered any
TRIES = 2
#: seconds after which some actor must have begun
BEGIN_S = 60.0
SETUP = -1


class _Actor:
    """An actor as its owner has it.

    Attributes:
        calls: what it has not answered, in their order: number, batch, and Ray's reference to the answer.
    """

    def __init__(self, handle: Any, setup: bytes):
        self.handle = handle
        self.calls: deque[tuple[int, bytes, Any]] = deque()
        self.calls.append((SETUP, setup, handle.begin.remote(setup)))

    @property
    def begun(self) -> bool:
        """Has it been told what is searched?"""
        return not self.calls or self.calls[0][0] != SETUP

    def give(self, number: int, batch: bytes) -> None:
        self.calls.append((number, batch, self.handle.run.remote(batch)))


class Actors:
    """Workers on a Ray cluster; `close` ends them.

    Args:
        ray: connected.
        setup: what is searched.

    Attributes:
        deaths: batch -> actors that have died at it. SETUP: those that had not begun.
    """

    def __init__(self, ray: ModuleType, workers: int, setup: bytes):
        self.ray, self.workers, self.setup = ray, workers, setup
        self.remote = ray.remote(Worker)
        self.waiting: deque[tuple[int, bytes]] = deque()
        self.deaths: Counter[int] = Counter()
        self.actors = [self._begin() for _ in range(workers)]
        self.end_s = monotonic() + BEGIN_S

    def _begin(self) -> _Actor:
        options: dict[str, object] = {
            "num_cpus": 1, "max_concurrency": 1, "max_restarts": 0, "max_task_retries": 0,
            "enable_task_events": False, "scheduling_strategy": "SPREAD",
        }  # fmt: skip
        return _Actor(self.remote.options(**options).remote(), self.setup)

    def close(self) -> None:
        """End all actors, whatever they are at."""
        for actor in self.actors:
            self.ray.kill(actor.handle)
        self.actors.clear()

    def room(self) -> int:
        calls = sum(number != SETUP for actor in self.actors for number, _, _ in actor.calls)
        return DEEP * self.workers - calls - len(self.waiting)

    def submit(self, number: int, batch: bytes) -> None:
        self.waiting.append((number, batch))
        self._deal()

    def _deal(self) -> None:
        """Give waiting batches to the actors that have the fewest calls."""
        begun = [actor for actor in self.actors if actor.begun]
        while self.waiting and begun:
            actor = min(begun, key=lambda actor: len(actor.calls))
            if len(actor.calls) >= DEEP:
                return
            actor.give(*self.waiting.popleft())

    def wait(self, seconds: float) -> list[tuple[int, bytes]]:
        done: list[tuple[int, bytes]] = []
        first = {actor.calls[0][2]: actor for actor in self.actors if actor.calls}
        for ref in self.ray.wait(list(first), timeout=seconds)[0] if first else []:
            actor = first[ref]
            number, _, _ = actor.calls[0]
            try:
                answer = self.ray.get(ref)
            except self.ray.exceptions.RayActorError as error:
                self._bury(actor, str(error).strip().splitlines()[0])
                continue
            except self.ray.exceptions.RayTaskError as error:
                raise Infrastructure(f"a worker failed: {str(error).strip().splitlines()[-1]}") from None
            actor.calls.popleft()
            if checked(answer) and number != SETUP:
                done.append((number, answer))
        if monotonic() > self.end_s and not any(actor.begun for actor in self.actors):
            raise Infrastructure(f"no worker has begun after {BEGIN_S:.0f} s; perhaps Ray has no processor for it")
        self._deal()
        return done

    def _bury(self, actor: _Actor, why: str) -> None:
        """An actor is dead: its batches go to others.

        Raises: Infrastructure - it is not the first that has died at its batch.
        """
        number = actor.calls[0][0]
        self.deaths[number] += 1
        if self.deaths[number] >= TRIES:
            when = "as they began" if number == SETUP else "at the same batch"
            raise Infrastructure(f"{TRIES} workers have died {when}: {why}")
        self.actors.remove(actor)
        self.waiting.extendleft((number, batch) for number, batch, _ in reversed(actor.calls) if number != SETUP)
        self.actors.append(self._begin())


def processors(ray: ModuleType) -> int:
    """How many the cluster has: as many workers keep it busy."""
    return max(1, int(ray.cluster_resources().get("CPU", 1)))
