"""What systematic strategies have in common: an execution follows the previous one as far as it shall, then continues.

The engine's points become events (trace.py). A subclass says which event comes next where nothing is given, and, when
an execution has ended, how much of it the next one shall keep.

A request for a simple lock that is held is not performed: who would wait for the lock asks when it is free. Only when
no context can do anything else are such requests performed, and the execution ends in its deadlock.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence

from cluster.search.strategy import Systematic, default
from cluster.search.trace import NO_CHOICE, Event, Trace
from nodes.cpu import Thread
from shared.errors import ProjectBug


class Stepwise(Systematic):
    """Builds the trace of each execution.

    Attributes:
        trace: of this execution, and of the last one between two.
        left: what contexts would do next that cannot any more, once no context can do anything else; None: before that.
        given_up: the execution would have shown nothing new.
        given: events of the trace that are not to be chosen: what was before the strategy began to choose.
    """

    def __init__(self) -> None:
        self.grown()

    def grown(self) -> None:
        self.executions = self.redundant = self.given = 0
        self.trace = Trace()
        self._at = self._known = 0
        self._open: Event | None = None
        self.thread: Thread | None = None
        self._caused: list[Thread] = []
        self.left: list[Event] | None = None
        self.given_up = False

    def whole(self) -> Trace:
        """The trace of the execution that has just ended."""
        self._close()
        return self.trace

    # -- to be supplied by the strategy ----------------------------------------------------------

    @abstractmethod
    def _next(self, candidates: Sequence[Thread], current: Thread | None) -> Thread | None:
        """Who continues, of contexts that can do something; None: none of them does anything new."""

    @abstractmethod
    def _value(self, thread: Thread, n: int) -> int:
        """Which of n values the context chooses."""

    def _performed(self, event: Event) -> None:
        """This was chosen, has been performed, and is the last one of the trace."""

    @abstractmethod
    def _backtrack(self) -> bool:
        """Cut the trace where the next execution shall leave it; False: there is none."""

    # -- an execution ------------------------------------------------------------------------------

    def new_execution(self) -> bool:
        if self.executions:
            self._close()
            if not self._backtrack():
                return False
        self.executions += 1
        self._at, self._known = 0, len(self.trace.events)
        self.thread = self.left = None
        self.given_up = False
        self._caused.clear()
        return True

    def begins(self, threads: Mapping[str, Thread], ran: Thread | None) -> None:
        if not self.trace.events:
            self.trace.begin(threads.values())
            self.given = len(self.trace.events)
        self._at, self._known, self.thread = self.given, len(self.trace.events), ran

    def pick(self, enabled: Sequence[Thread], current: Thread | None) -> Thread | None:
        if self._at < self._known:
            self.thread = named(enabled, self.trace.events[self._at].thread)
            self._at += 1
            return self.thread
        if self.left is not None:
            return self._let(enabled)
        self._close()
        candidates = [thread for thread in enabled if not self.trace.blocked(thread)]
        thread = self._next(candidates, current if current in candidates else None) if candidates else None
        if thread is None:
            self.left = self.trace.left()
            if not candidates:
                return self._let(enabled)
            self.redundant += 1
            self.given_up = True
            return None
        self._begin(thread, self.trace.event(thread))
        return thread

    def choose(self, n: int) -> int:
        assert self.thread is not None, "a context has been picked"
        if self._at < self._known:
            value = self.trace.events[self._at].label[1]
            self._at += 1
            return value
        if self.left is not None:
            return 0
        self._close()
        value = self._value(self.thread, n)
        self._begin(self.thread, self.trace.choice(self.thread, value, n))
        return value

    def stays(self) -> int:
        """At how many points behind the last one the way that is given continues with the same context."""
        events, at = self.trace.events, self._at
        if at == 0 or at >= self._known:
            return 0
        label = events[at - 1].thread, NO_CHOICE
        while at < self._known and events[at].label == label:
            at += 1
        return at - self._at

    def passed(self, points: int) -> None:
        self._at += points

    def performed(self, code: str, target: int, args: tuple[object, ...]) -> None:
        if self._open is not None and self._open.code == "access":
            self._open.performs(code, target, args)

    def caused(self, thread: Thread) -> None:
        self._caused.append(thread)

    def _let(self, enabled: Sequence[Thread]) -> Thread:
        """No context can do anything new: those that wait for a lock do so, those that try again fail, in turn."""
        asking = [thread for thread in enabled if thread.asks is not None]
        self.thread = asking[0] if asking else self._in_turn(enabled, None)
        return self.thread

    def _in_turn(self, candidates: Sequence[Thread], current: Thread | None) -> Thread:
        """The context that comes next by default."""
        return default(candidates, current, -1 if self.thread is None else self.thread.order)

    def _from(self, candidates: Sequence[Thread], current: Thread | None) -> list[Thread]:
        """All of them in the order in which it is their turn."""
        if not candidates:
            return []
        at = candidates.index(self._in_turn(candidates, current))
        return [*candidates[at:], *candidates[:at]]

    def _begin(self, thread: Thread, event: Event) -> None:
        self._open, self.thread = event, thread
        self._caused.clear()

    def _close(self) -> None:
        """The event that was begun has been performed."""
        event = self._open
        if event is not None:
            self._open = None
            self.trace.add(event, self._caused)
            self._performed(event)


def named(enabled: Sequence[Thread], name: str) -> Thread:
    """Raises: ProjectBug - the context cannot continue, though it should be able to."""
    for thread in enabled:
        if thread.name == name:
            return thread
    raise ProjectBug(f"{name} cannot go on, as it could in another order of independent operations")
