"""The executions of a search that predicts (steer.py): which execution comes next."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

from cluster.search.observe import Observation
from cluster.search.predict import Prediction, Predictor, rank

#: of the schedules with which executions begin and end: is a woken context next?
SCHEDULES = {"default schedule": False, "eager schedule": True}
#: how much later something is tried that was predicted from an execution which confirmed a prediction
DEEPER = 2.0
#: and if one was predicted before that is alike
AGAIN = 3.0


@dataclass(eq=False, slots=True)
class Attempt:
    """An execution: one of the first, or made to confirm a prediction.

    Attributes:
        schedule: of SCHEDULES.
        prediction: that it is to confirm; None: it is one of the first.
        base: the execution that the prediction was made from.
        depth: how many predictions it brings about.
        reached: what was predicted has come about.
        contexts, choices: what it did, as `Observation` has it.
    """

    schedule: str
    prediction: Prediction | None = None
    base: Attempt | None = None
    depth: int = 0
    reached: bool = False
    contexts: Sequence[str] = ()
    choices: Sequence[tuple[int, int, int]] = ()


class Attempts:
    """The first ones, and then those that were predicted, the likeliest first.

    Attributes:
        begun: all that have begun. Invariant: the executions of their bases have ended.
        known: for each choice of data, signatures of what was predicted; kinds: the same without objects and numbers.
        ways: (`id` of the base, what `Prediction.way` says) of all that were tried, or will be.
    """

    def __init__(self) -> None:
        self.begun: list[Attempt] = []
        self.known: dict[tuple[int, ...], set[tuple[object, ...]]] = {}
        self.kinds: set[tuple[object, ...]] = set()
        self.ways: set[tuple[object, ...]] = set()
        self._first = [Attempt(schedule) for schedule in SCHEDULES]
        self._left: list[tuple[float, int, Attempt]] = []
        self._unread: list[tuple[Attempt, Observation]] = []
        self._numbers = 0

    @property
    def left(self) -> list[Prediction]:
        """The predictions that were not tried, the next prediction first."""
        return [attempt.prediction for _, _, attempt in sorted(self._left) if attempt.prediction is not None]

    def next(self) -> Attempt | None:
        """Begin with another; None: there is nothing left to predict."""
        if self._first:
            attempt = self._first.pop(0)
        else:
            while self._unread and (not self._left or self._left[0][0] > self._unread[0][0].depth * DEEPER + 1):
                self._predict(*self._unread.pop(0))
            if not self._left:
                return None
            attempt = heapq.heappop(self._left)[-1]
        self.begun.append(attempt)
        return attempt

    def end(self, seen: Observation) -> None:
        """The last one has ended, and did this."""
        attempt = self.begun[-1]
        attempt.contexts, attempt.choices = seen.contexts, seen.choices
        self._unread.append((attempt, seen))

    def _predict(self, base: Attempt, seen: Observation) -> None:
        """Predict from an execution."""
        data = tuple(value for value, _, _ in base.choices)
        known = self.known.setdefault(data, set())
        for prediction in Predictor(seen, known).all():
            known.add(prediction.signature)
            way = (id(base), *prediction.way)
            if way not in self.ways:
                self.ways.add(way)
                self._numbers += 1
                attempt = Attempt(base.schedule, prediction, base, base.depth + 1)
                alike = data, prediction.alike
                later = DEEPER * base.depth + AGAIN * (alike in self.kinds)
                heapq.heappush(self._left, (rank(prediction) + later, self._numbers, attempt))
                self.kinds.add(alike)
