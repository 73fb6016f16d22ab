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

from nodes.admit import FINDING, HELD, WAITS
from nodes.build import Route, alloc_shard, big_lock
from nodes.cpu import FINISHED, Processor, Thread, Tlb
from shared.errors import Infrastructure, PortDead
from shared.journal import Journal, operation_record
from shared.messages import OPERATIONS, KernelFinding
from shared.port import Port
from shared.scenario import Scenario
from shared.struct import Struct, lock_sleeps

LIMIT_S = 60.0
S = TypeVar("S", bound=Struct)
#: (name of the node, requests) -> reply
Ask = Callable[[str, str, list[list[Any]]], list[Any]]


class Runner(Port):
    """The port of one processor in an actor.

    Args:
        ask: sends a frame to the actor of a node and returns its reply.
        actor_of: node -> actor.
        follow: names of the contexts that perform this processor's operations, in order, and how many kernel
            events come after operation 0, 1, 2 ...; None: free-running.
        seed: of the choice among runnable LWPs.
    """

    def __init__(
        self,
        processor: Processor,
        scenario: Scenario,
        route: dict[str, Route],
        actor_of: dict[str, str],
        journal: Journal,
        ask: Ask,
        follow: tuple[list[str], list[int]] | None,
        seed: int,
    ):
        config = scenario.machine
        super().__init__(
            frozenset(scenario.errata), dict(scenario.detect), config.page_size, config.memory_shards, big_lock(config)
        )
        self.processor, self.route, self.actor_of, self.journal, self.ask = processor, route, actor_of, journal, ask
        self.follow: list[str] | None = None if follow is None else follow[0]
        self.events: list[int] = [] if follow is None else follow[1]
        self.said = 0  # kernel events since the last operation
        self.asked: dict[int, tuple[list[str], dict[int, Any]]] = {}  # number of a request in the outbox: stack, locks
        self.random = Random(seed)
        self.threads = {one.name: one for one in processor.threads}
        self.inbox: SimpleQueue[list[Any]] = SimpleQueue()
        self.received = 0
        # a refused operation ends the run then, so that those behind it in the frame are void
        self.may_batch = self.detect.get("heap", "stop") == "stop"
        self.outbox: list[list[Any]] = []
        self.outbox_node = ""
        self.answer: list[Any] | None = None
        self.idle = False
        self.look = False  # the interrupt priority level was set: an interrupt that waits may be taken now
        self.stopping = False
        self.error: BaseException | None = None

    # -- the hub ---------------------------------------------------------------

    def loop(self) -> None:
        """Run the processor's contexts until told to stop."""
        self.hub = getcurrent()
        try:
            while not self.stopping and not self.dead:
                one = self._next()
                if one is None:
                    self._wait_for_mail()
                    continue
                self._begin(one)
                if one.glet is None:
                    one.glet = greenlet(self._work)
                    one.glet.switch(one)
                else:
                    one.glet.switch()
                self._flush()
        except PortDead:
            pass
        except BaseException as error:
            self.error = error
        self.dead = True
        for one in self.threads.values():
            if one.glet is not None and not one.glet.dead:
                one.glet.throw(PortDead)
        self.idle = True

    def _next(self) -> Thread | None:
        """The context to go on with, or None: wait."""
        self._drain()
        choices = self.processor.choices()
        if self.follow is not None:
            k = self.processor.k
            if self.said < self.events[k]:  # a context that has waited goes on, as far as its next operation
                return next((one for one in choices if one.waits is not None and not one.parked), None)
            return next((one for one in choices if one.name == self.follow[k]), None) if k < len(self.follow) else None
        if not choices:
            return None
        interrupts = [one for one in choices if one.interrupt]
        if interrupts:
            return interrupts[-1]
        return choices[0] if len(choices) == 1 else self.random.choice(choices)

    def behind(self) -> tuple[str, int, str] | None:
        """What is still to come of the schedule followed: (processor, operations so far, context that is next)."""
        k = self.processor.k
        if self.follow is None or (k >= len(self.follow) and self.said >= self.events[k]):
            return None
        return self.processor.name, k, self.follow[k] if k < len(self.follow) else "the last context"

    def _wait_for_mail(self) -> None:
        self.idle = True
        try:
            self._take(self.inbox.get(timeout=0.2))
        except Empty:
            pass
        self.idle = False

    def _drain(self) -> None:
        while not self.inbox.empty():
            self._take(self.inbox.get())

    def _take(self, mail: list[Any]) -> None:
        """One delivery, or the word to stop."""
        word = mail[0]
        if word == "stop":
            self.stopping = True
            return
        self.received += 1
        if word == "answer":
            self.answer = mail
            return
        one = self.threads[mail[1]]
        if word == "grant":
            one.grant(mail[2])
        elif word == "wake":
            one.wake()
        else:
            self.processor.pending[one.name].append(mail[2])

    def _begin(self, one: Thread) -> None:
        takes = self.processor.takes(one)
        self.cur = one
        if takes == "run":
            self.processor.run(one)
            self._local(one, "run")
        elif takes == "intr":
            message, under, at = self.processor.intr(one)
            self._local(one, "intr", message, under, at)

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

    def point(self) -> None:
        if self.dead:
            raise PortDead
        if self.follow is not None:
            if self.processor.k >= len(self.follow) or self.follow[self.processor.k] != self.cur.name:
                self._to_hub()
        elif self.stopping or self.look or not self.inbox.empty():
            self.look = False
            self._drain()
            if self.stopping or len(self.processor.choices()) > 1:
                self._to_hub()

    def spin(self) -> None:
        self.point()

    def spl(self, level: int) -> int:
        self.look = True
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
        self.outbox.append([ctx.name, ctx.n, self.processor.k, code, target, list(args)])
        self.said = 0
        if op.posted and self.may_batch and (self.follow is None or self.processor.k < len(self.follow)):
            self.asked[ctx.n] = list(ctx.stack), dict(ctx.held)
            return None
        waits, value = self._send()
        if waits:
            ctx.ready = ctx.woken = False
            if op.sleeps or (op.target == "lock" and lock_sleeps(target)):
                return self.wait_asleep(code, target)
            return self._wait(ctx, code, target, park=False)
        return value

    def _flush(self) -> None:
        """Everything sent so far has been applied when this returns."""
        if self.outbox:
            self._send()

    def _send(self) -> tuple[bool, Any]:
        requests, self.outbox = self.outbox, []
        asked, self.asked = self.asked, {}
        status, value = self.ask(self.outbox_node, self.processor.name, requests)
        while status == HELD:
            while self.answer is None:
                if self.stopping:
                    self.dead = True
                    raise PortDead
                try:
                    self._take(self.inbox.get(timeout=LIMIT_S))
                except Empty:
                    raise Infrastructure(
                        f"{self.outbox_node} held back {requests[0][:4]} for {LIMIT_S:.0f} s"
                    ) from None
            status, value = self.answer[3]
            self.answer = None
        if status == FINDING:
            *found, self.cur.n, self.processor.k = value  # what was sent after it has not been performed
            self.cur.stack, self.cur.held = asked.get(self.cur.n, (self.cur.stack, self.cur.held))
            last = requests[-1]
            return False, self.refused(KernelFinding(*found), last[3], last[4], tuple(last[5]))
        return status == WAITS, value

    def _local(self, ctx: Thread, code: str, *args: Any) -> None:
        ctx.n += 1
        self.processor.k += 1
        self.said = 0
        record = operation_record(code, 0, args, None, [])
        record["ctx"], record["n"], record["cpu"], record["k"] = ctx.name, ctx.n, ctx.cpu, self.processor.k
        self.journal.add(record)

    def record_event(self, event: str, **fields: Any) -> None:
        ctx = self.cur
        self.said += 1
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
