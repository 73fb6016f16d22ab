"""Admission in an actor: frames of requests become operations of the node, in one order.

Free-running, the order is that of arrival. Following a schedule, a request
that is not the next one is held back, and answered later by a delivery.
Exactly once: the last reply of every context is kept, so a frame that arrives
twice performs nothing twice.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from threading import Lock
from typing import Any

from nodes.node import Node
from shared.errors import Diverged
from shared.journal import Journal, operation_record
from shared.messages import WAIT, Delivery, Grant, KernelFinding, Wake

OK, WAITS, FINDING, HELD = range(4)
#: [status, value] of the last request performed
Reply = list[Any]
#: (cpu, delivery as a list) -> None
Send = Callable[[str, list[Any]], None]


class Admission:
    """One node's order of operations.

    Args:
        cpu_of: context -> the node that runs it.
        follow: the (context, operation number, code) to admit, in order; None: as they come.
        send: takes what is to be delivered to a CPU.
    """

    def __init__(
        self, node: Node, journal: Journal, cpu_of: dict[str, str], follow: list[list[Any]] | None, send: Send
    ):
        self.node, self.journal, self.cpu_of, self.send = node, journal, cpu_of, send
        self.follow = None if follow is None else deque(follow)
        self.held: list[tuple[str, list[list[Any]]]] = []
        self.last: dict[str, tuple[int, Reply]] = {}
        self.mutex = Lock()
        self.diverged: str | None = None

    def frame(self, cpu: str, requests: list[list[Any]]) -> Reply:
        """Perform the requests [ctx, n, k, code, target, args] of one CPU, or hold them back."""
        with self.mutex:
            ctx, n = requests[-1][:2]
            before = self.last.get(ctx)
            if before is not None and before[0] == n:
                return before[1]
            reply = self._perform(cpu, requests)
            if self.held:  # even if this frame was held back half-way: what it did first may be what others wait for
                self._release()
            return reply

    def _perform(self, cpu: str, requests: list[list[Any]]) -> Reply:
        reply: Reply = [OK, None]
        while requests:
            request = requests[0]
            if self.follow is not None and not self._is_next(request):
                self.held.append((cpu, requests))
                return [HELD, None]
            requests = requests[1:]
            reply = self._one(cpu, *request)
            if reply[0] == FINDING:
                break
        return reply

    def _one(self, cpu: str, ctx: str, n: int, k: int, code: str, target: int, args: list[Any]) -> Reply:
        node = self.node
        try:
            result = node.admit(ctx, code, target, tuple(args))
        except KernelFinding as found:
            refused = operation_record(code, target, tuple(args), None, [])
            self.journal.add({**refused, "refused": found.kind, "ctx": ctx, "n": n, "cpu": cpu, "k": k})
            return [FINDING, [found.kind, found.text, found.subject, found.fatal, n, k]]
        out, node.out = node.out, []
        record = operation_record(code, target, tuple(args), result, out)
        self.journal.add({**record, "ctx": ctx, "n": n, "cpu": cpu, "k": k})
        reply: Reply = [WAITS, None] if result is WAIT else [OK, result]
        self.last[ctx] = (n, reply)
        if out:
            for delivery in out:
                self.send(self.cpu_of[delivery.ctx], as_list(delivery))
        return reply

    def _is_next(self, request: list[Any]) -> bool:
        assert self.follow is not None
        if not self.follow:
            return False
        ctx, n, code = self.follow[0]
        if request[0] == ctx and request[1] == n:
            if request[3] != code:
                self.diverged = str(Diverged(f"{code} as operation {n} of {ctx} on {self.node.name}", request[3]))
                return False
            self.follow.popleft()
            return True
        return False

    def _release(self) -> None:
        """What was held back may be next now."""
        again = True
        while again and self.diverged is None:
            again = False
            for at, (cpu, requests) in enumerate(self.held):
                if self.follow and requests[0][:2] == list(self.follow[0][:2]):
                    del self.held[at]
                    reply = self._perform(cpu, requests)
                    if reply[0] != HELD:
                        self.send(cpu, ["answer", requests[-1][0], requests[-1][1], reply])
                    again = True
                    break


def as_list(delivery: Delivery) -> list[Any]:
    """A delivery in the form in which it travels."""
    if isinstance(delivery, Grant):
        return ["grant", delivery.ctx, delivery.value]
    if isinstance(delivery, Wake):
        return ["wake", delivery.ctx]
    return ["intr", delivery.ctx, delivery.message]
