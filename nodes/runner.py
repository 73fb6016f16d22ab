"""Runs the contexts of one processor in an actor: the live engine's port.

A thread of its own, in which every context is a greenlet and the scheduler (the
hub) another. What arrives for the processor lies in `inbox` until the next
operation boundary, or until everybody waits. What needs no answer rides in the
next frame to the same actor; before anything else is addressed, before a wait,
an interrupt or the end, all of it has been acknowledged as applied.

Following a schedule, the processor's own operations come in the order given: an
interrupt is taken exactly where it was.
"""

from __future__ import annotations

from collections.abc import Callable
from queue import Empty, SimpleQueue
from random import Random
from typing import Any, TypeVar

from greenlet import getcurrent, greenlet

from nodes.build import Route, alloc_shard, big_lock
from nodes.cpu import FINISHED, Processor, Thread, Tlb
from shared.errors import Infrastructure, PortDead
from shared.journal import Journal, operation_record
from shared.locks.ref import LockRef
from shared.messages import (
    OPERATIONS,
    Behind,
    Delivery,
    Frame,
    Grant,
    KernelFinding,
    LateReply,
    ProgramOrder,
    Refusal,
    Reply,
    Request,
    Status,
    Wake,
)
from shared.port import Port
from shared.scenario import Scenario
from shared.struct import Struct, lock_sleeps

LIMIT_S = 60.0
S = TypeVar("S", bound=Struct)
#: has a frame admitted by its node, and waits for the reply
Ask = Callable[[Frame], Reply]


class Halt:
    """In an inbox, no message: the processor is to stop at its next operation."""


class Runner(Port):
    """The port of one processor in an actor.

    Args:
        ask: sends a frame to the actor of its node and returns the reply.
        follow: None: free-running.
        seed: of the choice among runnable LWPs.
    """

    def __init__(
        self,
        processor: Processor,
        scenario: Scenario,
        route: dict[str, Route],
        journal: Journal,
        ask: Ask,
        follow: ProgramOrder | None,
        seed: int,
    ):
        config = scenario.machine
        super().__init__(
            frozenset(scenario.errata), dict(scenario.detect), config.page_size, config.memory_shards, big_lock(config)
        )
        self.processor, self.route, self.journal, self.ask = processor, route, journal, ask
        self.follow: list[str] | None = None if follow is None else follow.contexts
        self.events: list[int] = [] if follow is None else follow.events
        self.events_since_op = 0
        #: number of a request in the outbox -> its context's stack and locks when it was made
        self.made_by: dict[int, tuple[list[str], dict[int, tuple[LockRef, str, str]]]] = {}
        self.random = Random(seed)
        self.threads = {thread.name: thread for thread in processor.threads}
        self.inbox: SimpleQueue[Delivery | Halt] = SimpleQueue()
        self.received = 0
        # a refused operation ends the run then, so that those behind it in the frame are void
        self.may_batch = self.detect.get("heap", "stop") == "stop"
        self.outbox: list[Request] = []
        self.outbox_node = ""
        self.late_reply: Reply | None = None
        self.idle = False
        self.spl_changed = False  # a pending interrupt may now be deliverable
        self.stopping = False
        self.error: BaseException | None = None

    # -- the hub ---------------------------------------------------------------

    def loop(self) -> None:
        """Run the processor's contexts until told to stop."""
        self.hub = getcurrent()
        try:
            while not self.stopping and not self.dead:
                thread = self._next()
                if thread is None:
                    self._wait_for_delivery()
                    continue
                self._begin(thread)
                if thread.glet is None:
                    thread.glet = greenlet(self._work)
                    thread.glet.switch(thread)
                else:
                    thread.glet.switch()
                self._flush()
        except PortDead:
            pass
        except BaseException as error:
            self.error = error
        self.dead = True
        for thread in self.threads.values():
            if thread.glet is not None and not thread.glet.dead:
                thread.glet.throw(PortDead)
        self.idle = True

    def halt(self) -> None:
        """Stop at the next operation; its contexts can still be asked about."""
        self.inbox.put(Halt())

    def _next(self) -> Thread | None:
        """The context to go on with, or None: wait."""
        self._drain()
        choices = self.processor.choices()
        if self.follow is not None:
            k = self.processor.k
            if self.events_since_op < self.events[k]:  # a context that has waited goes on, up to its next operation
                return next((thread for thread in choices if thread.waits is not None and not thread.parked), None)
            if k >= len(self.follow):
                return None
            return next((thread for thread in choices if thread.name == self.follow[k]), None)
        if not choices:
            return None
        interrupts = [thread for thread in choices if thread.interrupt]
        if interrupts:
            return interrupts[-1]
        return choices[0] if len(choices) == 1 else self.random.choice(choices)

    def behind(self) -> Behind | None:
        """What is still to come of the program order that it follows."""
        k = self.processor.k
        if self.follow is None or (k >= len(self.follow) and self.events_since_op >= self.events[k]):
            return None
        return Behind(self.processor.name, k, self.follow[k] if k < len(self.follow) else "the last context")

    def _wait_for_delivery(self) -> None:
        self.idle = True
        try:
            self._take(self.inbox.get(timeout=0.2))
        except Empty:
            pass
        self.idle = False

    def _drain(self) -> None:
        while not self.inbox.empty():
            self._take(self.inbox.get())

    def _take(self, delivery: Delivery | Halt) -> None:
        if isinstance(delivery, Halt):
            self.stopping = True
            return
        self.received += 1
        if isinstance(delivery, LateReply):
            self.late_reply = delivery.reply
            return
        thread = self.threads[delivery.ctx]
        if isinstance(delivery, Grant):
            thread.grant(delivery.value)
        elif isinstance(delivery, Wake):
            thread.wake()
        else:
            self.processor.pending[thread.name].append(delivery.message)

    def _begin(self, thread: Thread) -> None:
        takes = self.processor.takes(thread)
        self.cur = thread
        if takes == "run":
            self.processor.run(thread)
            self._local(thread, "run")
        elif takes == "intr":
            message, under, at = self.processor.intr(thread)
            self._local(thread, "intr", message, under, at)

    def _work(self, thread: Thread) -> None:
        try:
            thread.body()
            if thread.interrupt:
                self.point()
                self._local(thread, "iret")
                self.processor.iret(thread)
            else:
                self.check_end()
                thread.state, thread.ready = FINISHED, False
                self.processor.park(thread)
        except PortDead:
            pass
        except BaseException as error:
            self.error = self.failed(error)
            self.dead = True
        thread.glet = None

    def point(self, code: str = "", target: int = 0, args: tuple[Any, ...] = ()) -> None:
        if self.dead:
            raise PortDead
        if self.follow is not None:
            if self.processor.k >= len(self.follow) or self.follow[self.processor.k] != self.cur.name:
                self._to_hub()
        elif self.stopping or self.spl_changed or not self.inbox.empty():
            self.spl_changed = False
            self._drain()
            if self.stopping or len(self.processor.choices()) > 1:
                self._to_hub()

    def spin(self) -> None:
        self.point()

    def spl(self, level: int) -> int:
        self.spl_changed = True
        return super().spl(level)

    def _to_hub(self) -> None:
        self._flush()
        self.hub.switch()
        if self.dead:
            raise PortDead

    def _wait(self, ctx: Thread, code: str, target: int, park: bool) -> Any:
        ctx.waits = (code, target)
        if park:
            self.processor.park(ctx)
        self._to_hub()
        ctx.waits = None
        return ctx.value

    # -- operations ------------------------------------------------------------

    def perform(self, code: str, target: int, args: tuple[Any, ...]) -> Any:
        if self.dead:
            raise PortDead
        ctx: Thread = self.cur
        ctx.n += 1
        self.processor.k += 1
        op = OPERATIONS[code]
        node = self.route[code](target)
        if self.outbox and (node != self.outbox_node or len(self.outbox) >= 64):
            self._flush()
        if code == "sleep":
            ctx.woken = False
        self.outbox_node = node
        self.outbox.append(Request(ctx.name, ctx.n, self.processor.k, code, target, args))
        self.events_since_op = 0
        if op.posted and self.may_batch and (self.follow is None or self.processor.k < len(self.follow)):
            self.made_by[ctx.n] = list(ctx.stack), dict(ctx.held)
            return None
        reply = self._send()
        if reply.status == Status.WAITS:
            ctx.ready = ctx.woken = False
            if op.sleeps or (op.target == "lock" and lock_sleeps(target)):
                return self.wait_asleep(code, target)
            return self._wait(ctx, code, target, park=False)
        return reply.value

    def _flush(self) -> None:
        """Everything sent so far has been applied when this returns."""
        if self.outbox:
            self._send()

    def _send(self) -> Reply:
        """Have all of the outbox admitted; the last request's reply, which waits or is done."""
        requests, self.outbox = self.outbox, []
        made_by, self.made_by = self.made_by, {}
        reply = self.ask(Frame(self.outbox_node, self.processor.name, requests))
        while reply.status == Status.HELD:
            reply = self._late_reply(requests[0])
        if reply.status == Status.REFUSED:
            refusal: Refusal = reply.value
            self.cur.n, self.processor.k = refusal.n, refusal.k  # what was sent after it has not been performed
            self.cur.stack, self.cur.held = made_by.get(self.cur.n, (self.cur.stack, self.cur.held))
            last, found = requests[-1], KernelFinding(refusal.kind, refusal.text, refusal.subject, refusal.fatal)
            return Reply(Status.DONE, self.refused(found, last.code, last.target, last.args))
        return reply

    def _late_reply(self, first: Request) -> Reply:
        """Wait for the answer to a frame that is held back.

        Raises: Infrastructure - it does not come.
        """
        while self.late_reply is None:
            if self.stopping:
                self.dead = True
                raise PortDead
            try:
                self._take(self.inbox.get(timeout=LIMIT_S))
            except Empty:
                raise Infrastructure(
                    f"{self.outbox_node} held back {first.code}, {first.ctx} {first.n}, for {LIMIT_S:.0f} s"
                ) from None
        reply, self.late_reply = self.late_reply, None
        return reply

    def _local(self, ctx: Thread, code: str, *args: Any) -> None:
        ctx.n += 1
        self.processor.k += 1
        self.events_since_op = 0
        record = operation_record(code, 0, args, None, [])
        record["ctx"], record["n"], record["cpu"], record["k"] = ctx.name, ctx.n, ctx.cpu, self.processor.k
        self.journal.add(record)

    def record_event(self, event: str, **fields: Any) -> None:
        ctx = self.cur
        self.events_since_op += 1
        self.journal.add({"event": event, "ctx": ctx.name, "n": ctx.n, "at": self.processor.k, **fields})

    def wait_for_wakeup(self) -> None:
        ctx: Thread = self.cur
        self._flush()
        ctx.ready = ctx.woken
        self._wait(ctx, "sleep", ctx.chan, park=True)

    def interrupted(self) -> list[Thread]:
        return self.processor.interrupted()

    def userret(self) -> None:
        self.point()
        ctx: Thread = self.cur
        self._local(ctx, "userret")
        self._wait(ctx, "userret", 0, park=True)

    def tlb(self) -> Tlb:
        return self.processor.tlb

    def alloc(self, kind: type[S], length: int = 0) -> S:
        obj: S = self.op("alloc", alloc_shard(self.cur.name, self.cur.n, self.memory_shards), (kind.kind, length))
        return obj
