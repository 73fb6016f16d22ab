"""Shared by nodes that do I/O: the queue of requests, and the I/O in flight.

Requests queue in order of arrival. A context of the node, on its own processor in the
same actor, performs them: it takes the next request, moves the bytes by DMA (its own
operations on memory, without page tables) and reports the end. The requester sleeps
until then (`Grant`), or gets an interrupt.

The machine's configuration may have some requests refused, failed or delayed
(nodes/faults.py). A request that fails moves no bytes. Of a request that may fail, the
context that performs it chooses: a choice of data, which is the strategy's (Port.choose).
A delayed request lets a number of later requests overtake it, if there are any; the
schedule decides how long it takes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from nodes.faults import Faults
from nodes.node import Node
from shared.port.port import here
from shared.port.struct import Struct
from shared.scenario.machine import DeviceFault
from shared.wire.messages import WAIT, Grant, Interrupt

#: the interrupts by which a pageout is finished, on the pagedaemon's processor. Each kind of node raises one of its
#: own, as a controller has a line of its own: so they come in the order in which that node raised them
COMPLETION, DISK_COMPLETION = "pagedaemon.bio", "pagedaemon.disk"


@dataclass(slots=True)
class Request:
    """I/O asked for and not yet done.

    Attributes:
        write: to the device.
        place: first swap slot or block.
        who: the name of the context that waits, or the buf to complete.
        error: with which it ends.
        maybe: with which it ends if its context chooses so.
        delay: how many later requests may still overtake it.
        cpu: that asked, if its interrupt is to come there.
    """

    write: bool
    place: int
    frames: list[int]
    who: Struct | str
    error: int = 0
    maybe: int = 0
    delay: int = 0
    cpu: str = ""


class IoNode(Node, ABC):
    """Base of the nodes that do I/O.

    Args:
        faults: what the device does wrong.

    Attributes:
        context: performs the requests.
        completion: the interrupt that finishes a pageout.
    """

    context: ClassVar[str] = ""
    completion: ClassVar[str] = COMPLETION

    def __init__(self, name: str, faults: Sequence[DeviceFault] = ()):
        super().__init__(name)
        self.faults = Faults(faults)
        self._reset()

    def _reset(self) -> None:
        self.queue: deque[Request] = deque()
        self.flight: dict[int, Request] = {}
        self.next_io = 1
        self.idle = False
        self.faults.reset()

    @abstractmethod
    def _order(self, request: Request) -> list[object]:
        """What the context learns about a request that it begins, behind its number; the error last."""

    def _queue(self, request: Request) -> None:
        self.queue.append(request)
        if self.idle:
            self.idle = False
            self.out.append(Grant(self.context, self._start()))

    def _next(self) -> object:
        """The next request, as [number, *_order()], and behind that the error with which it may end, if it may; the
        context waits if there is none."""
        if not self.queue:
            self.idle = True
            return WAIT
        return self._start()

    def _start(self) -> list[object]:
        at = next((at for at, request in enumerate(self.queue) if not request.delay), 0)
        for overtaken in list(self.queue)[:at]:
            overtaken.delay -= 1
        request = self.queue[at]
        del self.queue[at]
        number = self.next_io
        self.next_io += 1
        self.flight[number] = request
        return [number, *self._order(request), *([request.maybe] if request.maybe and not request.error else [])]

    def _finish(self, request: Request, error: int) -> None:
        """Wake the context that waits for a request, or interrupt with the completion of a pageout."""
        if isinstance(request.who, str):
            self.out.append(Grant(request.who, error))
        else:
            self.out.append(Interrupt(self.completion, [request.who, error]))


def may_fail(maybe: Sequence[int], what: str, frames: Sequence[int]) -> int:
    """What the context chooses of a request that may fail: the error with which it ends, or 0.

    Args:
        maybe: that error; empty: it cannot fail.
        what: "read" or "write".
    """
    pages = ", ".join(f"page:{frame}" for frame in frames)
    return maybe[0] if maybe and here.port.choose(2, f"whether the {what} of {pages} fails") else 0
