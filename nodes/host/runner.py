"""Runs the contexts of one processor in an actor: the live engine's port.

The runner is a thread in which every context, and the scheduler, is a greenlet.
Deliveries for the processor stay in `inbox` until the next operation boundary, or
until all contexts wait. A request that needs no answer travels in the next frame to
the same actor. Before the runner addresses another actor, and before a wait, an
interrupt or the end, all such requests have been acknowledged as applied.

If the runner follows a schedule, the processor's own operations come in the given
order: an interrupt is taken exactly at its place. At the end of a schedule that says
so (ANYBODY), the runner continues freely; at the end of any other it waits, until it is
told how the schedule continues.
"""

from __future__ import annotations

from queue import Empty, SimpleQueue
from random import Random
from typing import Protocol, TypeVar

from greenlet import getcurrent, greenlet

from nodes.build import alloc_shard, routes
from nodes.cpu import Processor, Thread
from nodes.host.admit import ANYBODY
from nodes.host.half import ProcessorPort
from nodes.host.lease import ACCESSES, Borrower
from nodes.host.transport import LIMIT_S
from shared.errors import Infrastructure, PortDead
from shared.journal.record import Journal
from shared.port.heap import HEADER
from shared.port.port import ANY_GEN, Held, Value, here
from shared.port.struct import Struct
from shared.scenario.model import Scenario
from shared.wire.frames import Answer, GiveBack
from shared.wire.messages import (
    OPERATIONS,
    Behind,
    Delivery,
    Divergence,
    Frame,
    KernelFinding,
    LateReply,
    ProgramOrder,
    Refusal,
    Reply,
    Request,
    Status,
)

S = TypeVar("S", bound=Struct)
#: requests that travel together at most
MAX_TOGETHER = 64


class Peers(Protocol):
    """The nodes of the machine, as a processor reaches them."""

    def host_of(self, node: str) -> str:
        """The host that carries a node."""

    def ask(self, frames: list[Frame]) -> Answer:
        """Have frames to nodes of one host admitted, and wait for the answer."""

    def give_back(self, node: str, given: GiveBack) -> None:
        """Tell the host of a memory node that it has a struct back."""


def same(value: object, other: object) -> bool:
    """Are two values the same; handles, with their generation?"""
    return value == other and (not isinstance(value, Struct) or (isinstance(other, Struct) and value.gen == other.gen))


class Halt:
    """In an inbox, no message: the processor is to stop at its next operation."""


class Runner(ProcessorPort):
    """The port of one processor in an actor.

    Args:
        peers: the nodes that admit its operations.
        follow: None: free-running; a choice of data is 0 then. Its last context may be ANYBODY.
        seed: of the choice among runnable LWPs.

    Attributes:
        diverged: what the schedule wants, and it cannot do.
    """

    def __init__(
        self,
        processor: Processor,
        scenario: Scenario,
        journal: Journal,
        peers: Peers,
        follow: ProgramOrder | None,
        seed: int,
    ):
        super().__init__(scenario, {thread.name: thread for thread in processor.threads}, {processor.name: journal})
        self.processor, self.peers = processor, peers
        self.route = routes(scenario.machine)
        self.follow: list[str] | None = None if follow is None else follow.contexts
        self.events: list[int] = [] if follow is None else follow.events
        self.choices = {} if follow is None else dict(follow.choices)
        self.diverged: Divergence | None = None
        #: number of a request in the outbox -> its context's stack and locks when it was made
        self.made_by: dict[int, tuple[list[str], list[Held]]] = {}
        self.random = Random(seed)
        self.inbox: SimpleQueue[Delivery | Halt | ProgramOrder] = SimpleQueue()
        self.received = 0
        # a refused operation ends the run then, so that those behind it in the frame are void
        self.may_batch = self.detect.get("heap", "stop") == "stop"
        #: requests to nodes of one host, in frames
        self.outbox: list[Frame] = []
        self.requests: list[Request] = []  # of the last frame
        self.outbox_host = ""
        self.outbox_size = 0
        self.late_reply: Reply | None = None
        self.asked: Frame | None = None  # to which there is no answer yet
        self.borrower: Borrower | None = None  # None: nothing is lent to it
        self.loaded: list[object] = []  # what the loads in the outbox have given
        self.may_wait = False  # a request in the outbox is an access to a struct that is not lent
        self.idle = False
        self.choices_changed = False  # another context than the current one may have become able to continue
        self.stopping = self.halted = False  # it takes part in no more; it has been told so

    def borrow(self) -> None:
        """Structs may be lent to the processor."""
        route = self.route["load"]
        self.borrower = Borrower(lambda given: self.peers.give_back(route(given.obj), given))

    # -- the scheduler ---------------------------------------------------------

    def loop(self) -> None:
        """Run the processor's contexts until told to stop."""
        self.scheduler = getcurrent()
        if self.borrower is not None:
            self.borrower.resume()
        with here.installed(self):
            try:
                while not self.stopping and not self.dead and self.crash is None:
                    thread = self._next()
                    if thread is None:
                        self._wait_for_delivery()
                        continue
                    self._begin(thread)
                    if thread.glet is None:
                        thread.glet = greenlet(self._body)
                        thread.glet.switch(thread)
                    else:
                        thread.glet.switch()
                    self._flush()
            except PortDead:
                pass
            except BaseException as error:
                self.crash = error
            self.dead = True
            for thread in self.threads.values():
                if thread.glet is not None and not thread.glet.dead:
                    thread.glet.throw(PortDead)
            if self.borrower is not None:
                self.borrower.release()
            self.idle = True

    def halt(self) -> None:
        """Stop at the next operation; its contexts can still be asked about."""
        self.halted = True
        self.inbox.put(Halt())

    def extend(self, order: ProgramOrder) -> None:
        """Follow this behind what it follows; the first of its events are those after the last operation of that."""
        self.inbox.put(order)

    def _next(self) -> Thread | None:
        """The context to run next, or None: wait."""
        self._drain()
        choices = self.processor.choices()
        if self._follows() and self.follow is not None:
            k = self.processor.k
            if self.processor.events_since() < self.events[k]:  # who has waited continues to the next operation
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
        k, follow = self.processor.k, self.follow
        if follow is None or (k >= len(follow) and self.processor.events_since() >= self.events[k]):
            return None
        ctx = follow[k] if k < len(follow) else "the last context"
        return None if ctx == ANYBODY else Behind(self.processor.name, k, ctx)

    def _follows(self) -> bool:
        """Does it follow a schedule, which has not come to where it continues freely?"""
        if self.follow is None:
            return False
        k = self.processor.k
        if k < len(self.follow) and self.follow[k] == ANYBODY:
            self.follow = None
            self.choices_changed = True  # whatever has arrived since may be taken
            return False
        return True

    def _wait_for_delivery(self) -> None:
        if self.borrower is not None:
            self.borrower.release()
        self.idle = True
        try:
            self._take(self.inbox.get(timeout=0.2))
        except Empty:
            pass
        self.idle = False
        if self.borrower is not None:
            self.borrower.resume()

    def _drain(self) -> None:
        while not self.inbox.empty():
            self._take(self.inbox.get())

    def _take(self, delivery: Delivery | Halt | ProgramOrder) -> None:
        if isinstance(delivery, Halt):
            self.stopping = True
            return
        if isinstance(delivery, ProgramOrder):
            assert self.follow is not None
            self.follow += delivery.contexts
            self.events[-1] += delivery.events[0]
            self.events += delivery.events[1:]
            self.choices.update(delivery.choices)
            return
        self.received += 1
        if isinstance(delivery, LateReply):
            self.late_reply = delivery.reply
            return
        self._deliver(delivery)

    def point(self, code: str = "", target: int = 0, args: tuple[object, ...] = ()) -> None:
        if self.dead:
            raise PortDead
        if self.follow is not None and self._follows():
            k = self.processor.k
            if self.halted or k >= len(self.follow) or self.follow[k] != self.cur.name:
                self._to_scheduler()
        elif self.stopping or self.choices_changed or not self.inbox.empty():
            self.choices_changed = False
            self._drain()
            if self.stopping or len(self.processor.choices()) > 1:
                self._to_scheduler()

    def spin(self) -> None:
        self.point()

    def _own_point(self, code: str) -> None:
        self._flush()  # the processor writes its own operation down at once: nothing before it may be refused later
        super()._own_point(code)

    def _chosen(self, n: int) -> int:
        if not self._follows():
            return 0
        value = self.choices.get(self.processor.k + 1, -1)
        if 0 <= value < n:
            return value
        wanted = "another operation than a choice" if value < 0 else f"choice {value}"
        self.diverged = Divergence(f"{wanted} as operation {self.cur.n + 1} of {self.cur.name}", f"a choice of {n}")
        raise PortDead

    def _changed(self, processor: Processor) -> None:
        self.choices_changed = True

    def _give_way(self, thread: Thread) -> None:
        self._to_scheduler()

    def _to_scheduler(self) -> None:
        self._flush()
        self.scheduler.switch()
        if self.dead:
            raise PortDead

    def wait_for_wakeup(self) -> None:
        self._flush()
        super().wait_for_wakeup()

    # -- operations ------------------------------------------------------------

    def perform(self, code: str, target: int, args: tuple[object, ...]) -> Value:
        if self.dead:
            raise PortDead
        ctx = self.thread
        ctx.n += 1
        self.processor.k += 1
        op = OPERATIONS[code]
        if self.borrower is not None and self.borrower.recalls:
            self._give_back(self.borrower)
        node = self.route[code](target)
        host = self.peers.host_of(node)
        if self.outbox and (host != self.outbox_host or self.outbox_size >= MAX_TOGETHER):
            self._flush()
        if code == "sleep":
            ctx.woken = False
        self.outbox_host = host
        self.outbox_size += 1
        request = Request(ctx.name, ctx.n, self.processor.k, code, target, args)
        if self.outbox and self.outbox[-1].node == node:
            self.requests.append(request)
        else:
            self.requests = [request]
            self.outbox.append(Frame(node, self.processor.name, self.requests))
        if self.borrower is not None and code in ACCESSES and self._access(self.borrower, request):
            self.made_by[ctx.n] = list(ctx.stack), ctx.held.copy()
            return self.loaded[-1]
        if op.posted and self.may_batch and (self.follow is None or self.processor.k < len(self.follow)):
            self.made_by[ctx.n] = list(ctx.stack), ctx.held.copy()
            return None
        reply = self._send()
        if reply.status == Status.WAITS:
            ctx.ready = ctx.woken = False
            return self._wait_for_grant(ctx, code, target)
        return reply.value

    def _access(self, borrower: Borrower, request: Request) -> bool:
        """An access to a struct: is it a load of a lent struct, so that its result is known?

        A context that wants a lent struct waits until all uses of the lease are admitted. So nothing that may wait
        itself, an access to a struct that is not lent, may be under way before a use, or two processors could wait for
        each other.
        """
        lent = borrower.structs.get(request.target)
        if lent is None:
            self.may_wait = True
            return False
        if not self.may_wait:
            borrower.used[lent.obj] = request.k
        if request.code in ("load", "store"):
            obj, _, slot, *value = request.args
            assert isinstance(obj, Struct) and isinstance(slot, int)
            if obj.gen in (lent.gen, ANY_GEN) and slot - HEADER < len(lent.fields):
                if request.code == "store":
                    [lent.fields[slot - HEADER]] = value
                    return False
                if self.may_wait:
                    return False  # its node is asked
                self.loaded.append(lent.fields[slot - HEADER])
                return True
        del borrower.structs[lent.obj]  # its node renews, frees or identifies it, or refuses the access
        return False

    def _give_back(self, borrower: Borrower) -> None:
        """Give back what was recalled, with all that has been done to it."""
        if self.outbox:
            self._send()
        else:
            borrower.release()
            borrower.resume()

    def _flush(self) -> None:
        """Everything sent so far has been applied when this returns."""
        if self.outbox:
            self._send()

    def _send(self) -> Reply:
        """Have all of the outbox admitted; the last request's reply, which waits or is done."""
        frames, self.outbox, self.outbox_size = self.outbox, [], 0
        made_by, self.made_by = self.made_by, {}
        last = frames[-1].requests[-1]
        reply = Reply(Status.DONE)
        while frames and reply.status != Status.REFUSED:
            self.asked = frames[-1]
            done, reply = self._ask(frames)
            if reply.status == Status.HELD:
                self.asked = frames[done - 1]
                reply = self._late_reply(self.asked)
            frames = frames[done:]
        self.asked = None
        if reply.status == Status.REFUSED:
            refusal = reply.value
            assert isinstance(refusal, Refusal)
            self.cur.n, self.processor.k = refusal.n, refusal.k  # what was sent after it has not been performed
            self.cur.stack, self.cur.held = made_by.get(self.cur.n, (self.cur.stack, self.cur.held))
            finding = KernelFinding(refusal.kind, refusal.text, refusal.subject, refusal.fatal)
            return Reply(Status.DONE, self.refused(finding, last.code, last.target, last.args))
        return reply

    def _ask(self, frames: list[Frame]) -> tuple[int, Reply]:
        """How many frames have reached their nodes, and the reply to the last of these.

        Raises: Infrastructure - a load of a lent struct gives something else at its node.
        """
        if self.borrower is None:
            done, reply, _, _ = self.peers.ask(frames)
            return done, reply
        expected, self.loaded, self.may_wait = self.loaded, [], False
        self.borrower.release()
        done, reply, loaded, lent = self.peers.ask(frames)
        self.borrower.resume(lent)
        if reply.status != Status.REFUSED and not all(map(same, loaded, expected)):
            raise Infrastructure(f"{self.processor.name} has used {expected} of lent structs, which had {loaded}")
        return done, reply

    def _late_reply(self, frame: Frame) -> Reply:
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
                first = frame.requests[0]
                raise Infrastructure(
                    f"{frame.node} held back {first.code}, {first.ctx} {first.n}, for {LIMIT_S:.0f} s"
                ) from None
        reply, self.late_reply = self.late_reply, None
        return reply

    def alloc(self, kind: type[S], length: int = 0) -> S:
        obj: S = self.op("alloc", alloc_shard(self.cur.name, self.cur.n, self.memory_shards), (kind.kind, length))
        return obj
