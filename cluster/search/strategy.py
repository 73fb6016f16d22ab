"""The protocol of strategies, which choose the context of the next operation and the data, and the default strategy.

The engine (cluster/sim/engine.py) asks the strategy at every scheduling point, when the context that ran has blocked,
and at every choice of data (Port.choose, for instance whether a write that may fail does fail). A strategy makes all
choices of an execution; the engine does everything else. A strategy sees only the contexts (`Thread`: its name, its
number of operations `n`, its place `order` in the fixed context order, and `pending`, the operation that it performs if
it is picked, unless the strategy says that it does not look at that). So a strategy is one file of about a page, and a
new strategy needs only a name in `make` (search/__init__.py).

A *schedule* is recorded as its deviations from the default schedule, in which all choices of data are 0
(shared/journal/deviation.py). The engine records the choices of every strategy in this form.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from nodes.cpu import Thread

#: what strategies teach each other, in messages: numbers, texts, and tuples and dictionaries of these
Plain = Any
#: more points than an execution has
ALWAYS = 1 << 30
#: an execution of so many times the points of the longest execution that ended becomes fair
FAIR_AFTER = 3
#: whose turn it is in the first execution of a search
DEFAULT = "default schedule"
#: points of an execution, while none has ended
FIRST_GUESS = 100


class Strategy(ABC):
    """Chooses; see the module's header."""

    @abstractmethod
    def new_execution(self) -> bool:
        """Another execution is about to begin. False: there is none left to try, and the search is over."""

    @abstractmethod
    def pick(self, enabled: Sequence[Thread], current: Thread | None) -> Thread | None:
        """The context of `enabled` that runs next. None: abandon this execution, which then has no end to be judged.

        Args:
            enabled: in fixed context order, never empty.
            current: the context that ran last, if it is among them; else None. None too if it gives way to the others
                (Port.spin), although it could continue. Where only the current context can continue, the engine
                asks only a strategy that is asked everywhere.
        """

    @abstractmethod
    def choose(self, n: int) -> int:
        """What the context that was picked last takes of the data 0 to n - 1, as its next operation."""

    def everywhere(self) -> bool:
        """Is it asked at points too where only the current context can continue? Then it sees every operation that
        has a point, and is told what happens in between (`performed`, `caused`)."""
        return False

    def looks(self) -> bool:
        """Does it look at what contexts ask for (Thread.asks, Thread.pending)? Otherwise they do not say so.

        A strategy that says no speaks for itself alone: a subclass may look.
        """
        return True

    def sees_all(self) -> bool:
        """Does it need every access as a point, and choose the first schedule, too? Otherwise a search begins with the
        default one."""
        return False

    def performed(self, code: str, target: int, args: tuple[object, ...]) -> None:  # noqa: B027
        """The context picked last performs this operation. It may perform loads, stores, locks and unlocks without
        saying so, as it asked for them (Thread.asks)."""

    def caused(self, thread: Thread) -> None:  # noqa: B027
        """The context picked last has woken this context, or granted what it waits for, or interrupts it."""

    def repeats(self) -> bool:
        """Does it follow the beginning of an execution that it was given, behind which another chooses?"""
        return False

    def detailed(self) -> bool:
        """Must every access be a point, for now? So must it be where a schedule is followed."""
        return False

    def begins(self, threads: Mapping[str, Thread], ran: Thread | None) -> None:  # noqa: B027
        """It chooses from here on, and not from the beginning of the execution: `ran` was picked last."""

    def grown(self) -> None:  # noqa: B027 - nothing to do for a strategy that remembers no execution
        """There are more points from now on: fields have become racy (cluster/sim/heap.py)."""

    def turn(self) -> str:
        """Name of the strategy that chooses in this execution, if it is one of several; else ""."""
        return ""

    def learns(self) -> bool:
        """Does a search tell it the result of each of its executions?"""
        return False

    def reward(self, new: bool, finding: bool) -> None:  # noqa: B027 - nothing to do for a strategy that does not learn
        """Its last execution was of a happens-before class that was not known, or had a finding."""

    def stays(self) -> int:
        """At how many further points it would answer as it just did, if the same contexts could continue at these, and
        none gave way: the engine need not ask there."""
        return 0

    def passed(self, points: int) -> None:  # noqa: B027 - nothing to do for who is asked at every point
        """So many of these points are behind us, and it was not asked."""

    def chooser(self) -> Strategy:
        """The strategy that chooses in this execution."""
        return self


class Sampling(Strategy):
    """A strategy that chooses at random, by what executions before have taught it, and remembers nothing else of them.

    A *lesson* is what it takes from one execution. Lessons and what it knows are plain data, for messages.

    Args:
        seed: the same seed gives the same executions, in the same order.
    """

    def __init__(self, seed: int = 0):
        self.random = random.Random(seed)
        self.draw: Callable[[], float] = self.random.random

    def lesson(self) -> Plain:
        """What the last execution has taught, of what it does not know yet; it is not told a second time."""
        return None

    def learn(self, lesson: Plain) -> None:
        """Know this too."""

    def knowledge(self) -> Plain:
        """All that it has learned."""
        return None

    def know(self, knowledge: Plain) -> None:
        """Know this, and no more."""


class Systematic(Strategy):
    """A strategy that has seen everything, within its bound, when it has no execution left to try.

    Attributes:
        executions: begun so far, since there last were more points.
        redundant: those of them that have shown nothing new.
    """

    executions: int = 0
    redundant: int = 0

    @abstractmethod
    def grown(self) -> None:
        """Begin anew: there are more points."""

    def everywhere(self) -> bool:
        return True


class Patience:
    """How long contexts may be held back: forever, those that spin for them would spin forever.

    Attributes:
        points: of this execution, so far. spun: those of them at which a context tried again, since it had given way
            and no other context came in between.
        ran: the context that was picked last; again: it tries again.
        longest: of an execution so far. Points at which a context tried again do not count, nor, if patience ran out,
            do those before that: the execution may have been long because a context was held back.
    """

    def __init__(self) -> None:
        self.points = self.spun = 0
        self.ran: Thread | None = None
        self.again = False
        self.longest = FIRST_GUESS

    def lesson(self) -> int:
        """How long executions are, after an execution has ended."""
        points, spun = self.points, self.spun
        self.points = self.spun = 0
        self.ran, self.again = None, False
        held = FAIR_AFTER * self.longest
        return points - spun if points <= held else points - held

    def learn(self, lesson: int) -> None:
        """Know of such an execution."""
        self.longest = max(self.longest, lesson)

    def ends(self) -> bool:
        """One more point. Is this execution far longer than those before it?"""
        self.points += 1
        return self.points > FAIR_AFTER * self.longest

    def picked(self, thread: Thread, current: Thread | None) -> None:
        """This context was picked at that point; `current` as `Strategy.pick` has it."""
        if thread is not self.ran:
            self.ran, self.again = thread, False
        elif current is None:
            self.again = True
        self.spun += self.again


class SearchOver(Exception):
    """A strategy has no execution left to try."""


def default(enabled: Sequence[Thread], current: Thread | None, last: int) -> Thread:
    """What `Stay` picks: the current context, else the next one in fixed order after number `last`, and so round."""
    if current is not None:
        return current
    for thread in enabled:
        if thread.order > last:
            return thread
    return enabled[0]


class Stay(Strategy):
    """The default schedule: stay with the current context as long as it can run.

    Attributes:
        last: `order` of the context picked last; -1: none.
    """

    def __init__(self) -> None:
        self.last = -1

    def new_execution(self) -> bool:
        self.last = -1
        return True

    def begins(self, threads: Mapping[str, Thread], ran: Thread | None) -> None:
        self.last = -1 if ran is None else ran.order

    def pick(self, enabled: Sequence[Thread], current: Thread | None) -> Thread:
        thread = default(enabled, current, self.last)
        self.last = thread.order
        return thread

    def choose(self, n: int) -> int:
        return 0

    def looks(self) -> bool:
        return type(self) is not Stay

    def stays(self) -> int:
        return ALWAYS


class DefaultFirst(Strategy):
    """The default schedule once, then what another strategy chooses: a defect that needs no luck is found at once.

    Attributes:
        now: which of the two chooses; None: no execution has begun.
    """

    def __init__(self, then: Strategy):
        self.then = then
        self.now: Strategy | None = None

    def learns(self) -> bool:
        return self.then.learns()

    def turn(self) -> str:
        return self.then.turn() if self.now is self.then else DEFAULT

    def reward(self, new: bool, finding: bool) -> None:
        if self.now is self.then:
            self.then.reward(new, finding)

    def new_execution(self) -> bool:
        self.now = Stay() if self.now is None else self.then
        return self.now.new_execution()

    def chooser(self) -> Strategy:
        assert self.now is not None, "an execution has begun"
        return self.now.chooser()

    def pick(self, enabled: Sequence[Thread], current: Thread | None) -> Thread | None:
        return self.chooser().pick(enabled, current)

    def choose(self, n: int) -> int:
        return self.chooser().choose(n)
