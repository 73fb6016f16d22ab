"""Contexts on their processors; shared by the simulator and the runner of a live processor.

A context gets its processor, interrupts another context, waits, and ends. Its processor admits a few
operations itself, and writes kernel events to its journal. The engine chooses the context that runs
next (`_give_way`, `_successor`), and brings all other operations to their nodes (`perform`).
"""

from __future__ import annotations

from abc import abstractmethod

from nodes.build import big_lock
from nodes.cpu import FINISHED, Processor, Thread, Tlb
from shared.errors import PortDead
from shared.journal.record import Journal, operation_record
from shared.port.port import Port, Value
from shared.port.struct import lock_sleeps
from shared.scenario.model import Results, Scenario
from shared.wire.messages import OPERATIONS, Effect


class ProcessorPort(Port):
    """The port of one or several processors.

    Args:
        threads: the contexts that run on them, by name.
        journals: node -> its journal, the processors' among them; None: nothing is recorded.

    Attributes:
        crash: a bug of ours, or of a patch, that ended a context; the caller of the engine raises it.
    """

    def __init__(self, scenario: Scenario, threads: dict[str, Thread], journals: dict[str, Journal] | None = None):
        config = scenario.machine
        super().__init__(
            frozenset(scenario.errata), dict(scenario.detect), config.page_size, config.memory_shards, big_lock(config)
        )
        self.threads, self.journals = threads, journals
        self.crash: BaseException | None = None

    @property
    def thread(self) -> Thread:
        """The current context."""
        assert isinstance(self.cur, Thread)
        return self.cur

    # -- to be supplied by the engine ------------------------------------------

    @abstractmethod
    def _give_way(self, thread: Thread) -> None:
        """Returns when the current context, `thread`, may continue: at once if it is ready and chosen."""

    def _successor(self) -> Thread | None:
        """The context that runs when a context has ended, if that is decided at once."""
        return None

    def _changed(self, processor: Processor) -> None:
        """A change that affects which contexts of this processor may run."""

    @abstractmethod
    def _chosen(self, n: int) -> int:
        """The result of the current context's choice of data, from 0 to n - 1."""

    def _own_point(self, code: str) -> None:
        """A scheduling point before an operation that the context's own processor admits."""
        self.point(code, 0)

    # -- contexts ----------------------------------------------------------------

    def _begin(self, thread: Thread) -> None:
        """Give a context its processor, if it has not got it."""
        self.cur = thread
        if not thread.parked and not thread.interrupt:
            return
        processor = thread.processor
        takes = processor.takes(thread)
        if takes is None:
            return
        if takes == "run":
            processor.run(thread)
            self._local(thread, "run")
        else:
            self._local(thread, "intr", *processor.intr(thread))
        self._changed(processor)

    def _body(self, thread: Thread) -> Thread | None:
        """Run a context to its end; returns its successor."""
        successor = None
        try:
            thread.body()
            self._ended(thread)
            successor = self._successor()
        except PortDead:
            pass
        except BaseException as error:
            self.crash = self.failed(error)
        thread.glet = thread.switch = None
        return successor

    def _ended(self, thread: Thread) -> None:
        """A context's body has returned."""
        processor = thread.processor
        if thread.interrupt:
            self._own_point("iret")
            self._changed(processor)
            self._local(thread, "iret")
            processor.iret(thread)
            return
        self._changed(processor)
        self.check_end()
        thread.state, thread.ready = FINISHED, False
        processor.park(thread)

    def _wait(self, ctx: Thread, code: str, target: int, park: bool) -> Value:
        ctx.waits, ctx.asks = (code, target), None
        if park:
            ctx.processor.park(ctx)
        self._changed(ctx.processor)
        self._give_way(ctx)
        ctx.waits = None
        return ctx.value

    def _wait_for_grant(self, thread: Thread, code: str, target: int) -> Value:
        """Wait for the grant of a request that could not be granted at once, asleep or spinning; returns its value."""
        op = OPERATIONS[code]
        if op.sleeps or (op.target == "lock" and lock_sleeps(target)):
            return self.wait_asleep(code, target)
        return self._wait(thread, code, target, park=False)

    def wait_for_wakeup(self) -> None:
        thread = self.thread
        thread.ready = thread.woken
        self._wait(thread, "sleep", thread.chan, park=True)

    def choose(self, n: int, why: str) -> int:
        self._own_point("choose")
        value = self._chosen(n)
        self._local(self.thread, "choose", n, why, value)
        return value

    def userret(self) -> None:
        self._own_point("userret")
        thread = self.thread
        self._local(thread, "userret")
        self._wait(thread, "userret", 0, park=True)

    def interrupted(self) -> list[Thread]:
        thread = self.thread
        return thread.processor.interrupted()

    def tlb(self) -> Tlb:
        thread = self.thread
        return thread.processor.tlb

    def spl(self, level: int) -> int:
        thread = self.cur
        assert isinstance(thread, Thread)
        if thread.processor.raised:
            self._changed(thread.processor)
        return super().spl(level)

    def _deliver(self, effect: Effect) -> None:
        """What an operation has caused for one of the contexts."""
        thread = self.threads[effect.ctx]
        thread.receive(effect)
        self._changed(thread.processor)

    @property
    def results(self) -> Results:
        """Context -> its steps' results."""
        return {name: thread.results for name, thread in self.threads.items() if thread.results}

    # -- records -----------------------------------------------------------------

    def _local(self, thread: Thread, code: str, *args: object) -> None:
        """One operation that the context's own processor admits."""
        thread.n += 1
        thread.processor.k += 1
        if self.journals is not None:
            self._record(thread.cpu, thread, operation_record(code, 0, args, None, []))

    def _record(self, node: str, thread: Thread, record: dict[str, object]) -> None:
        """Write what a node has admitted, with the numbers of the operation."""
        record["ctx"], record["n"], record["cpu"], record["k"] = thread.name, thread.n, thread.cpu, thread.processor.k
        self._write(node, record)

    def enter(self, name: str) -> None:
        self.cur.stack.append(name)
        if self.journals is not None:
            self.record_event("enter", fn=name)

    def exit(self) -> None:
        if not self.dead:
            fn = self.cur.stack.pop()
            if self.journals is not None:
                self.record_event("exit", fn=fn)

    def record_event(self, event: str, **fields: object) -> None:
        if self.journals is not None:
            thread = self.thread
            at = thread.processor.k
            thread.processor.note_event()
            self._write(thread.cpu, {"event": event, "ctx": thread.name, "n": thread.n, "at": at, **fields})

    def _write(self, node: str, record: dict[str, object]) -> None:
        assert self.journals is not None
        self.journals[node].add(record)
