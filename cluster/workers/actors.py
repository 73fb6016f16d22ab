"""A pool of Ray actors, on a cluster or on this computer. Its caller has started Ray (cluster/live/actors.py).

Setups, batches and answers are bytes (cluster/search/batch.py), which Ray carries as they are. An actor that dies
costs the batch that it was at, which another actor runs again; a batch that costs two actors their lives ends the
search. An actor for which the cluster has no processor yet is given no batch.
"""

from __future__ import annotations

from collections import deque
from time import monotonic
from types import ModuleType
from typing import Any

from cluster.workers.answer import Worker, checked
from cluster.workers.dealer import SETUP, Dealer, Hand
from shared.errors import Infrastructure

#: seconds after which some actor must have begun
BEGIN_S = 60.0


class _Actor(Hand):
    """An actor as its owner has it.

    Attributes:
        answers: Ray's references to what it has not answered, in order.
    """

    def __init__(self, handle: Any, setup: bytes):
        super().__init__()
        self.handle = handle
        self.answers: deque[Any] = deque()
        self.send(SETUP, setup)

    def send(self, number: int, data: bytes) -> None:
        method = self.handle.begin if number == SETUP else self.handle.run
        self.answers.append(method.remote(data))


class Actors(Dealer[_Actor]):
    """Workers on a Ray cluster; `close` ends them.

    Args:
        ray: connected.
    """

    def __init__(self, ray: ModuleType, workers: int, setup: bytes):
        super().__init__(workers, setup)
        self.ray, self.remote = ray, ray.remote(Worker)
        self.hands = [self._begin() for _ in range(workers)]
        self.end_s = monotonic() + BEGIN_S

    def _begin(self) -> _Actor:
        options: dict[str, object] = {
            "num_cpus": 1, "max_concurrency": 1, "max_restarts": 0, "max_task_retries": 0,
            "enable_task_events": False, "scheduling_strategy": "SPREAD",
        }  # fmt: skip
        return _Actor(self.remote.options(**options).remote(), self.setup)

    def close(self) -> None:
        """End all actors, whatever they are at."""
        for actor in self.hands:
            self.ray.kill(actor.handle)
        self.hands.clear()

    def wait(self, seconds: float) -> list[tuple[int, bytes]]:
        done: list[tuple[int, bytes]] = []
        first = {actor.answers[0]: actor for actor in self.hands if actor.answers}
        for ref in self.ray.wait(list(first), timeout=seconds)[0] if first else []:
            actor = first[ref]
            try:
                answer = self.ray.get(ref)
            except self.ray.exceptions.RayActorError as error:
                self._bury(actor, f": {str(error).strip().splitlines()[0]}")
                continue
            except self.ray.exceptions.RayTaskError as error:
                raise Infrastructure(f"a worker failed: {str(error).strip().splitlines()[-1]}") from None
            actor.answers.popleft()
            checked(answer)
            if actor.began:
                number, _ = actor.batches.popleft()
                done.append((number, answer))
            actor.began = True
        if monotonic() > self.end_s and not any(actor.began for actor in self.hands):
            raise Infrastructure(f"no worker has begun after {BEGIN_S:.0f} s; perhaps Ray has no processor for it")
        self._deal()
        return done


def enough(ray: ModuleType, most: int | None) -> int:
    """How many workers keep the processors of the cluster busy.

    Args:
        most: that can be at work at a time; None: any number.
    """
    processors = max(1, int(ray.cluster_resources().get("CPU", 1)))
    return processors if most is None else min(processors, most)
