"""Admission: frames of requests become operations of a node, in one order.

Free-running, the order is that of arrival. Following a schedule, a request
that is not the next one is held back, and answered later by a delivery. A
schedule may say that at its end the node continues freely (ANYBODY): each node
and each processor does so by itself, because the beginning of a run has every
cause of what is in it.
A schedule that has been followed may be extended.
Exactly once: the last reply of every context is kept, so a frame that arrives
twice performs nothing twice.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from threading import Lock

from nodes.node import Node
from shared.journal.record import Journal, operation_record
from shared.wire.messages import (
    WAIT,
    Delivery,
    Divergence,
    Frame,
    KernelFinding,
    LateReply,
    Refusal,
    Reply,
    Request,
    Status,
    Turn,
)

#: instead of a context, at the end of a schedule: from here on in the order of arrival
ANYBODY = ""
#: takes the name of a processor, and what is to be delivered to it
Deliver = Callable[[str, Delivery], None]


class Admission:
    """One node's order of operations.

    Args:
        cpu_of: context -> the processor that runs it.
        follow: what to admit, in order; None: as it comes. The last one may be ANYBODY.
        deliver: called with what an operation causes elsewhere, once its record has been written.
    """

    def __init__(
        self, node: Node, journal: Journal, cpu_of: dict[str, str], follow: Iterable[Turn] | None, deliver: Deliver
    ):
        self.node, self.journal, self.cpu_of, self.deliver = node, journal, cpu_of, deliver
        self.follow = None if follow is None else deque(follow)
        self.held: list[Frame] = []
        self.last: dict[str, tuple[int, Reply]] = {}
        self.mutex = Lock()
        self.diverged: Divergence | None = None

    def frame(self, frame: Frame) -> Reply:
        """Perform the requests of one processor, or hold them back."""
        with self.mutex:
            last = frame.requests[-1]
            n, reply = self.last.get(last.ctx, (0, None))
            if reply is not None and n == last.n:
                return reply
            reply = self._perform(frame)
            if self.held:  # even if this frame was held back half-way: what it did first may be what others wait for
                self._release()
            return reply

    def request(self, cpu: str, request: Request) -> Reply:
        """Perform one request of a processor; the node follows no schedule."""
        with self.mutex:
            return self._admit(cpu, request)

    def extend(self, turns: Iterable[Turn]) -> None:
        """Admit these behind what it follows; it follows a schedule."""
        with self.mutex:
            assert self.follow is not None
            self.follow.extend(turns)
            if self.held:
                self._release()

    def _perform(self, frame: Frame) -> Reply:
        reply = Reply(Status.DONE)
        for at, request in enumerate(frame.requests):
            if self.follow is not None and not self._is_next(request):
                self.held.append(frame._replace(requests=frame.requests[at:]))
                return Reply(Status.HELD)
            reply = self._admit(frame.cpu, request)
            if reply.status == Status.REFUSED:
                break
        return reply

    def _admit(self, cpu: str, request: Request) -> Reply:
        ctx, n, k, code, target, args = request
        node = self.node
        try:
            result = node.admit(ctx, code, target, args)
        except KernelFinding as finding:
            refused = operation_record(code, target, args, None, [])
            self.journal.add({**refused, "refused": finding.kind, "ctx": ctx, "n": n, "cpu": cpu, "k": k})
            return Reply(Status.REFUSED, Refusal(finding.kind, finding.text, finding.subject, finding.fatal, n, k))
        out, node.out = node.out, []
        record = operation_record(code, target, args, result, out)
        record["ctx"], record["n"], record["cpu"], record["k"] = ctx, n, cpu, k
        self.journal.add(record)
        reply = Reply(Status.WAITS) if result is WAIT else Reply(Status.DONE, result)
        self.last[ctx] = (n, reply)
        for effect in out:
            self.deliver(self.cpu_of[effect.ctx], effect)
        return reply

    def _is_next(self, request: Request) -> bool:
        assert self.follow is not None
        if not self.follow:
            return False
        ctx, n, code = self.follow[0]
        if ctx == ANYBODY:
            self.follow = None
            return True
        if request.ctx != ctx or request.n != n:
            return False
        if request.code != code:
            self.diverged = Divergence(f"{code} as operation {n} of {ctx} on {self.node.name}", request.code)
            return False
        self.follow.popleft()
        return True

    def _has_come(self, request: Request) -> bool:
        """Is it the turn of a request that was held back?"""
        if self.follow is None:
            return True
        return bool(self.follow) and (self.follow[0].ctx == ANYBODY or request[:2] == self.follow[0][:2])

    def _release(self) -> None:
        """What was held back may be next now."""
        again = True
        while again and self.diverged is None:
            again = False
            for at, frame in enumerate(self.held):
                if self._has_come(frame.requests[0]):
                    del self.held[at]
                    reply = self._perform(frame)
                    if reply.status != Status.HELD:
                        last = frame.requests[-1]
                        self.deliver(frame.cpu, LateReply(last.ctx, last.n, reply))
                    again = True
                    break
