"""Scheduling: which context performs the next operation, and how it comes to that.

At a scheduling point the strategy picks a context; if it picks the same one again there is no switch at all. The
contexts are greenlets, and a greenlet of the pool runs the body of one context after another.

Spl: an interrupt is offered at the next scheduling point after the level drops.

Left out: what an operation does (engine.py), and which accesses are points (heap.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NoReturn

from greenlet import getcurrent, greenlet

from cluster.machine import Machine
from cluster.search.strategy import Strategy, default
from cluster.sim.heap import ThinnedHeap
from nodes.cpu import Processor, Thread
from shared.detectors.oracle import Oracle
from shared.detectors.race import Watch
from shared.errors import PortDead, UserMistake
from shared.journal.deviation import AT_CHOICE, AT_POINT, AT_WAIT, KINDS, Deviation
from shared.wire.messages import Effect

#: points of an unrecorded run between two counts of its operations
COUNT_EVERY = 256
#: greenlets that other contexts may begin
NESTED = 8
#: bits of the number of a context, and of the number of an operation
CONTEXT_BITS: Final = 16
N_BITS: Final = 32


def packed(kind: int, ran: Thread, n: int, following: int) -> int:
    """A Deviation as a number, which takes less time and memory. Executions have thousands, and few are looked at.

    Args:
        kind: number of its kind in KINDS.
        following: number of the context that runs next, or the choice of data.
    """
    return ((following << N_BITS | n) << CONTEXT_BITS | ran.order + 1) << 2 | kind


def unpacked(number: int, threads: Sequence[Thread]) -> Deviation:
    """The Deviation.

    Args:
        threads: in fixed order.
    """
    kind, ran = number & 3, (number >> 2) & ((1 << CONTEXT_BITS) - 1)
    number >>= 2 + CONTEXT_BITS
    n, following = number & ((1 << N_BITS) - 1), number >> N_BITS
    name = threads[ran - 1].name if ran else ""
    return Deviation(name, n, KINDS[kind], following if kind == AT_CHOICE else threads[following].name)


class Execution:
    """The state of one execution.

    Args:
        strategy: that chooses.
        processors: of the machine.
        limit: operations that it may have.
        recorded: its journals are kept.

    Attributes:
        patient: the engine may go by how long the strategy says that its answers hold.
        detailed: every access is a point, as the strategy wants it.
        everywhere: it asks the strategy at points too where only the current context can continue, and tells it
            what happens between two points.
        asked, quiet: at how many points its last answer held, and at how many of these it still does.
        hub: the greenlet that runs it, to return to at its end.
        changed: processors of which something has changed that decides who may continue; each once.
        count_at: the point at which to count the operations, if they are not recorded.
        watch, oracle: detectors, of a recorded execution and of any.
        operations: so far, if recorded.
        points: so far.
        last: place, in fixed order, of the context that the strategy chose last instead of the current one.
        ended: it has had all operations that it may have.
        abandoned: its strategy has given it up.
        enabled: contexts that may continue, in fixed order.
        deviations: from the default schedule, each as `packed` makes it.
    """

    __slots__ = (
        "abandoned", "asked", "changed", "count_at", "detailed", "deviations", "enabled", "ended",
        "everywhere", "hub", "last", "operations", "oracle", "patient", "points", "quiet", "strategy", "watch",
    )  # fmt: skip

    def __init__(self, strategy: Strategy, processors: list[Processor], limit: int, recorded: bool):
        self.strategy, self.hub = strategy, getcurrent()
        self.patient, self.detailed, self.everywhere = not recorded, strategy.detailed(), strategy.everywhere()
        self.asked = self.quiet = self.operations = self.points = 0
        self.changed = list(processors)
        self.count_at = min(COUNT_EVERY, limit)
        self.watch: Watch | None = None
        self.oracle: Oracle | None = None
        self.last = -1
        self.ended = self.abandoned = False
        self.enabled: list[Thread] = []
        self.deviations: list[int] = []

    def catch_up(self) -> None:
        """Tell a patient strategy at how many points it was not asked."""
        if self.asked > self.quiet:
            self.strategy.passed(self.asked - self.quiet)
        self.asked = self.quiet

    def who_can(self) -> list[Thread]:
        """The contexts that may continue, in fixed order; asks only the processors where something has changed."""
        for processor in self.changed:
            before, now = processor.enabled, processor.choices()
            if before != now:
                for thread in before:
                    thread.enabled = False
                    self.enabled.pop(self._place(thread.order))
                for thread in now:
                    thread.enabled = True
                    self.enabled.insert(self._place(thread.order), thread)
                processor.enabled = now
        self.changed.clear()
        return self.enabled

    def _place(self, order: int) -> int:
        """How many of the enabled contexts come before this number. (On 64 CPUs there may be hundreds.)"""
        low, high = 0, len(self.enabled)
        while low < high:
            middle = (low + high) >> 1
            if self.enabled[middle].order < order:
                low = middle + 1
            else:
                high = middle
        return low


class Scheduling(ThinnedHeap):
    """The part of the simulator's port that decides who continues.

    Args:
        machine, booting, racy, always: as ThinnedHeap has them.
        limit: operations that an execution may have.
    """

    execution: Execution

    def __init__(self, machine: Machine, booting: bool, racy: set[str], always: bool, limit: int):
        super().__init__(machine, booting, racy, always)
        assert len(machine.threads) < 1 << CONTEXT_BITS, "a number in a packed Deviation"
        self.limit = limit
        self.pool: list[greenlet] = []

    @property
    def steps(self) -> int:
        """Operations performed in this execution."""
        return sum(thread.n for thread in self.threads.values())

    def _fill_pool(self) -> None:
        """Begin a greenlet for every context but a few.

        A greenlet that a context begins lies above that context on the C stack, and counts its calls as its own. Two
        that lie so are switched faster, since neither has to be copied away; of many, the last would have no room.
        """
        hub = self.execution.hub
        for _ in range(len(self.threads) - NESTED - len(self.pool)):
            begun = greenlet(_run_jobs, hub)
            begun.switch([])
            self.pool.append(begun)

    def _pick(self, current: Thread | None) -> Thread | None:
        """Ask the strategy who continues; `current` is None if the context that ran cannot.

        Returns: None if no context can.
        """
        execution = self.execution
        enabled = execution.who_can() if execution.changed else execution.enabled
        if not enabled:
            return None
        execution.points += 1
        if execution.points >= execution.count_at:
            self._count()
        if execution.operations >= self.limit:
            return self._last(enabled)
        if current is not None and not current.enabled:
            current = None
        execution.catch_up()
        thread = execution.strategy.pick(enabled, current)
        if thread is None:
            execution.abandoned = self.dead = True
            raise PortDead
        if execution.detailed and not execution.strategy.detailed():
            self._thin()
        if execution.patient:
            execution.asked = execution.quiet = execution.strategy.stays()
        if thread is not current:
            if thread is not default(enabled, current, execution.last):
                ran = self.cur
                assert isinstance(ran, Thread)
                execution.deviations.append(packed(AT_WAIT if current is None else AT_POINT, ran, ran.n, thread.order))
            execution.last = thread.order
        return thread

    def _thin(self) -> None:
        """The strategy does not want every access to be a point any more."""
        self.execution.detailed = False
        self.every_access = self.always
        self.fast = self.journals is None and not self.every_access

    def _count(self) -> None:
        """Count the operations of an unrecorded run, and say when to do so again."""
        if self.journals is None:
            left = self.limit - self.steps
            if left <= 0:
                self._end()
            self.execution.count_at = self.execution.points + max(1, min(COUNT_EVERY, left // 4))

    def _last(self, enabled: list[Thread]) -> Thread:
        """There may be no more operations: each context that has waited and can continue now continues as far as its
        next operation.

        So it does not matter in which order the operations came.
        """
        for thread in enabled:
            if thread.waits is not None and not thread.parked:
                return thread
        self._end()

    def _no_more(self) -> NoReturn:
        """An operation is asked for that the run may not have any more."""
        self.thread.waits = None  # of a thread that began asleep this is not so until its first wait ends
        self._go(self._last(self.execution.who_can()))
        raise PortDead

    def _end(self) -> NoReturn:
        """The run has had all operations that it may have."""
        self.execution.ended = self.dead = True
        raise PortDead

    def _changed(self, processor: Processor) -> None:
        changed = self.execution.changed
        if processor not in changed:
            changed.append(processor)

    def _deliver(self, effect: Effect) -> None:
        super()._deliver(effect)
        if self.execution.everywhere:
            self.execution.strategy.caused(self.threads[effect.ctx])

    def point(self, code: str, target: int, args: tuple[object, ...] = ()) -> None:
        if self.dead:
            raise PortDead
        current, execution = self.cur, self.execution
        if not execution.changed:
            alone = len(execution.enabled) == 1 and execution.enabled[0] is current and not execution.everywhere
            if alone or execution.quiet > 0:
                if not alone:
                    execution.quiet -= 1
                execution.points += 1
                if execution.points >= execution.count_at:
                    self._count()
                return
        assert isinstance(current, Thread)
        if self.looks:  # (else callers do not even make the arguments)
            current.asks = code, target, args
        thread = self._pick(current)
        if thread is not current:
            self._go(thread)

    def spin(self) -> None:
        if self.dead:
            raise PortDead
        self.thread.asks = None
        thread = self._pick(None)
        if thread is not self.cur:
            self._go(thread)

    def _own_point(self, code: str) -> None:
        if self.every_access:
            self.point(code, 0)

    def _chosen(self, n: int) -> int:
        if self.dead:
            raise PortDead
        if self.steps >= self.limit:
            self._no_more()
        self.execution.catch_up()
        value = self.execution.strategy.choose(n)
        if not 0 <= value < n:
            raise UserMistake(f"the strategy takes choice {value} of {n}, which are numbered from 0")
        if value:
            self.execution.deviations.append(packed(AT_CHOICE, self.thread, self.cur.n + 1, value))
        return value

    def _successor(self) -> Thread | None:
        return self._pick(None)

    def _give_way(self, thread: Thread) -> None:
        following = self._pick(thread if thread.ready else None)
        if following is thread:
            self._begin(thread)
        else:
            self._go(following)
        if self.race is not None:
            self.race.goes_on(thread.name, thread.cpu)

    def _go(self, thread: Thread | None) -> None:
        """Continue with a context (None: the run is over); returns when the calling context may continue."""
        hub, caller = self.execution.hub, self.cur
        if thread is None:
            hub.switch()
        else:
            self._begin(thread)
            if thread.switch is None:
                thread.switch = (self.pool.pop() if self.pool else greenlet(_run_jobs, hub)).switch
                thread.switch([(self, thread)])
            elif thread is not caller:
                thread.switch()
        if self.dead and getcurrent() is not hub:
            raise PortDead


def _run_jobs(job: list[tuple[Scheduling, Thread]]) -> None:
    """The loop of a greenlet of the pool: it runs the bodies of one context after another.

    While it waits in the pool it has no reference to the engine, nor to itself: a greenlet that has not ended is
    nothing to the garbage collector, and would keep the engine, and the whole machine, forever.

    Args:
        job: the engine and the context to begin with, which are taken out of it; the next contexts come with the
            switch.
            Empty: these come with the first switch.
    """
    hub = getcurrent().parent
    if not job and hub is not None:
        job = hub.switch()
    del hub
    while True:
        sim, thread = job.pop()
        go, following = sim.execution.hub.switch, sim._body(thread)
        while following is not None:
            sim._begin(following)
            if following.switch is not None:
                go = following.switch
                break
            following.switch = getcurrent().switch
            following = sim._body(following)
        sim.pool.append(getcurrent())
        del sim, thread, following
        job = go()
