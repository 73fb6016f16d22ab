"""Predicts from passing executions what may go wrong, and steers further executions to it.

The first executions are of two schedules that need no luck: the default one, and the *eager* one, in which a context
that is woken, and an interrupt that is raised, continues at once. Each further execution confirms one prediction: it
goes the way of the execution from which that was made, up to the operation before which a context is held back; then
the other context continues to its own operation; then all continues by the schedule that it began with. A prediction
whose execution has a finding is confirmed, and all others are dropped. From executions that had none more is predicted.

Nothing here is chosen at random. The search is over when there is nothing left to predict.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field

from cluster.search.observe import Observation
from cluster.search.predict import Prediction, Predictor, rank
from cluster.search.strategy import Strategy, default
from cluster.search.systematic import named
from nodes.cpu import Thread

#: of the schedules with which executions begin and end: is a woken context next?
SCHEDULES = {"default schedule": False, "eager schedule": True}
#: how much later something is tried that was predicted from an execution which confirmed a prediction
DEEPER = 2.0
#: and if one was predicted before that is alike
AGAIN = 3.0
#: contexts are held back for so many points at most: a context that spins for them would spin forever
PATIENCE = 20_000
#: what an execution does: goes the way of another, holds a context back, has the other's operation behind it, continues
FOLLOWS, HOLDS, REACHES, GOES_ON = range(4)


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
    choices: Sequence[tuple[int, int, int]] = field(default=())


class Predict(Strategy):
    """Prediction and confirmation.

    Attributes:
        attempt: the execution that is going on, or has just ended; seen: what it did.
        attempts: all that have begun. Invariant: the executions of their bases have ended.
        phase: how far the attempt is. Invariant: grows during an execution. points: at which a context was held back.
        last: `order` of the context picked last; eager: woken contexts go first; due: those, the next one last.
        way: contexts that bring the other one to its goal, the next one last.
        known: for each choice of data, signatures of what was predicted; kinds: the same without objects and numbers.
        ways: (number of the execution, way) that were tried, or will be.
    """

    def __init__(self) -> None:
        self.attempts: list[Attempt] = []
        self.attempt = Attempt("")
        self.seen = Observation()
        self.known: dict[tuple[int, ...], set[tuple[object, ...]]] = {}
        self.kinds: set[tuple[object, ...]] = set()
        self.ways: set[tuple[object, ...]] = set()
        self._first = [Attempt(schedule) for schedule in SCHEDULES]
        self._left: list[tuple[float, int, Attempt]] = []
        self._unread: list[tuple[Attempt, Observation]] = []
        self._numbers = 0
        self.phase, self.points, self.last = FOLLOWS, 0, -1
        self.due: list[Thread] = []
        self.way: list[str] = []

    @property
    def left(self) -> list[Prediction]:
        """The predictions that were not tried, the next prediction first."""
        return [attempt.prediction for _, _, attempt in sorted(self._left) if attempt.prediction is not None]

    def everywhere(self) -> bool:
        return True

    def sees_all(self) -> bool:
        return True

    def turn(self) -> str:
        return "confirming" if self.attempt.prediction is not None else self.attempt.schedule

    # -- which prediction is next --------------------------------------------------------------------

    def new_execution(self) -> bool:
        if self.attempts:
            self._end()
        if self._first:
            self.attempt = self._first.pop(0)
        else:
            while self._unread and (not self._left or self._left[0][0] > self._unread[0][0].depth * DEEPER + 1):
                self._predict(*self._unread.pop(0))
            if not self._left:
                return False
            self.attempt = heapq.heappop(self._left)[-1]
        self.attempts.append(self.attempt)
        self.seen = Observation()
        self.phase = GOES_ON if self.attempt.prediction is None else FOLLOWS
        self.points, self.last = 0, -1
        self.due.clear()
        self.way.clear()
        return True

    def _end(self) -> None:
        """The attempt is over."""
        attempt, seen = self.attempt, self.seen
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

    # -- an execution ----------------------------------------------------------------------------------

    def pick(self, enabled: Sequence[Thread], current: Thread | None) -> Thread:
        if SCHEDULES[self.attempt.schedule]:
            self.due += self.seen.woken
        thread = self._steered(enabled, current) or self._by_schedule(enabled, current)
        if thread in self.due:
            self.due.remove(thread)
        self.last = thread.order
        self.seen.begins(thread)
        return thread

    def _by_schedule(self, enabled: Sequence[Thread], current: Thread | None) -> Thread:
        for thread in reversed(self.due):
            if thread in enabled:
                return thread
        return default(enabled, current, self.last)

    def _steered(self, enabled: Sequence[Thread], current: Thread | None) -> Thread | None:
        """The context that continues, if the prediction decides it."""
        prediction, base = self.attempt.prediction, self.attempt.base
        if prediction is None or base is None:
            return None
        place = len(self.seen.operations)
        if self.phase == FOLLOWS:
            if place < prediction.held.place + (prediction.value is not None):
                return named(enabled, base.contexts[place])
            self.phase = GOES_ON if prediction.value is not None else HOLDS
        if self.phase == REACHES:
            self.phase = GOES_ON
            return _named(enabled, prediction.held.context) if prediction.back else None
        if self.phase == HOLDS:
            return self._hold(prediction, enabled, current)
        return None

    def _hold(self, prediction: Prediction, enabled: Sequence[Thread], current: Thread | None) -> Thread | None:
        """One context is held back until the other has come to its goal."""
        self.points += 1
        held = _named(enabled, prediction.held.context)
        free = [thread for thread in enabled if thread is not held]
        if not free or self.points > PATIENCE:
            self.phase = GOES_ON
            return None
        thread = _named(free, self._needed(prediction) or prediction.goal.context)
        if thread is None:
            self.way.clear()
            return self._by_schedule(free, current if current in free else None)
        if not self.way and thread.name == prediction.goal.context and prediction.goal.is_asked_by(thread):
            self.attempt.reached = True
            self.phase = GOES_ON if prediction.short else REACHES
            return held if prediction.short else thread
        return thread

    def _needed(self, prediction: Prediction) -> str:
        """The next context of those that the other one needs on its way, in the order of the base; "": none."""
        base, start = self.attempt.base, prediction.held.place
        if self.points == 1 and base is not None and prediction.sure:
            places = range(prediction.goal.place, start - 1, -1)
            contexts = [(base.contexts[place], place) for place in places if place < len(base.contexts)]
            self.way = [context for context, place in contexts if place <= prediction.needs.get(context, -1)]
        return self.way.pop() if self.way else ""

    def choose(self, n: int) -> int:
        value, number, prediction, base = 0, len(self.seen.choices), self.attempt.prediction, self.attempt.base
        if prediction is not None and base is not None and number < len(base.choices):
            if prediction.value is not None and prediction.value[0] == number:
                value = prediction.value[1]
                self.attempt.reached = True
            else:
                value = base.choices[number][0]
        value = min(value, n - 1)
        self.seen.chose(value, n)
        return value

    def performed(self, code: str, target: int, args: tuple[object, ...]) -> None:
        self.seen.performed(code, target, args)

    def caused(self, thread: Thread) -> None:
        self.seen.caused(thread)


def _named(enabled: Sequence[Thread], name: str) -> Thread | None:
    return next((thread for thread in enabled if thread.name == name), None)
