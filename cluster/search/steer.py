"""Predicts from passing executions what may go wrong, and steers further executions to it.

The first executions are of two schedules that need no luck: the default one, and the *eager* one, in which a context
that is woken, and an interrupt that is raised, continues at once. Each further execution confirms one prediction: it
goes the way of the execution from which that was made, up to the operation before which a context is held back; then
the other context continues to its own operation; then all continues by the schedule that it began with. A prediction
whose execution has a finding is confirmed, and all others are dropped. From executions that had none more is predicted.

Nothing here is chosen at random. The search is over when there is nothing left to predict.
"""

from __future__ import annotations

from collections.abc import Sequence

from cluster.search.attempts import SCHEDULES, Attempt, Attempts
from cluster.search.observe import Observation
from cluster.search.predict import Prediction
from cluster.search.strategy import Strategy, default
from cluster.search.systematic import named
from nodes.cpu import Thread

#: contexts are held back for so many points at most: a context that spins for them would spin forever
PATIENCE = 20_000
#: what an execution does: goes the way of another, holds a context back, has the other's operation behind it, continues
FOLLOWS, HOLDS, REACHES, GOES_ON = range(4)


class Predict(Strategy):
    """Prediction and confirmation.

    Attributes:
        attempt: the execution that is going on, or has just ended; seen: what it did.
        attempts: all executions, and those to come.
        phase: how far the attempt is. Invariant: grows during an execution. points: at which a context was held back.
        last: `order` of the context picked last; eager: woken contexts go first; due: those, the next one last.
        way: contexts that bring the other one to its goal, the next one last.
    """

    def __init__(self) -> None:
        self.attempts = Attempts()
        self.attempt = Attempt("")
        self.seen = Observation()
        self.phase, self.points, self.last = FOLLOWS, 0, -1
        self.due: list[Thread] = []
        self.way: list[str] = []

    def everywhere(self) -> bool:
        return True

    def sees_all(self) -> bool:
        return True

    def turn(self) -> str:
        return "confirming" if self.attempt.prediction is not None else self.attempt.schedule

    def new_execution(self) -> bool:
        if self.attempts.begun:
            self.attempts.end(self.seen)
        attempt = self.attempts.next()
        if attempt is None:
            return False
        self.attempt = attempt
        self.seen = Observation()
        self.phase, self.points, self.last = FOLLOWS, 0, -1
        self.due.clear()
        self.way.clear()
        return True

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
