"""The node that owns the swap devices' contents and the I/O in flight.

Requests queue in order of arrival. One context, `swap`, on a processor of its
own (`swap_io`, in the same actor), performs them: it takes the next request,
moves the bytes by DMA (operations of its own on memory) and reports it done. A
read's caller sleeps until then; a write's completion is an interrupt on the
pagedaemon's processor.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from nodes.node import Node
from shared.messages import WAIT, Grant, Interrupt
from shared.port import here
from shared.struct import Struct

CONTEXT = "swap"
PROCESSOR = "swap_io"
COMPLETION = "pagedaemon.bio"


class SwapPager(Node):
    """Swap slots' contents and the queue of requests.

    Args:
        page_size: bytes per slot, a multiple of 8.
    """

    kind = "swap_pager"

    def __init__(self, name: str, page_size: int):
        super().__init__(name)
        self.words = page_size // 8
        self.slots: dict[int, tuple[int, ...]] = {}
        self.queue: deque[list[Any]] = deque()
        self.flight: dict[int, list[Any]] = {}
        self.next_io = 1
        self.idle = False

    def op_swap_put(self, ctx: str, slot: int, buf: Struct, frames: list[int]) -> int:
        """Start writing `frames` to `slot`, slot+1 ...; 0 means only that: started."""
        self._queue(["put", slot, list(frames), buf])
        return 0

    def op_swap_get(self, ctx: str, slot: int, frame: int) -> Any:
        """Read a slot into a frame; the caller sleeps until it is done."""
        self._queue(["get", slot, [frame], ctx])
        return WAIT

    def op_io_next(self, ctx: str, target: int) -> Any:
        """The next request as [number, kind, frames, contents to write to them]."""
        if not self.queue:
            self.idle = True
            return WAIT
        return self._start()

    def op_io_done(self, ctx: str, io: int, error: int, contents: list[Any]) -> None:
        """A request is finished: wake its reader, or interrupt with its completion."""
        kind, slot, _, who = self.flight.pop(io)
        if kind == "get":
            self.out.append(Grant(who, error))
            return
        for at, words in enumerate(contents):
            self.slots[slot + at] = tuple(words)
        self.out.append(Interrupt(COMPLETION, [who, error]))

    def _queue(self, request: list[Any]) -> None:
        self.queue.append(request)
        if self.idle:
            self.idle = False
            self.out.append(Grant(CONTEXT, self._start()))

    def _start(self) -> list[Any]:
        request = self.queue.popleft()
        number = self.next_io
        self.next_io += 1
        self.flight[number] = request
        kind, slot, frames, _ = request
        contents = [self.slots.get(slot, (0,) * self.words)] if kind == "get" else []
        return [number, kind, frames, contents]

    def image(self) -> Any:
        return list(self.slots.items())

    def load_image(self, image: Any) -> None:
        super().load_image(image)
        self.slots = {slot: tuple(words) for slot, words in image}
        self.queue, self.flight, self.next_io, self.idle = deque(), {}, 1, False


def swap_io() -> None:
    """What context `swap` runs: perform requests, one after another."""
    port = here.port
    while True:
        number, kind, frames, contents = port.op("io_next", 0)
        if kind == "get":
            port.op("frame_write", frames[0], (contents[0],))
            port.op("io_done", number, (0, []))
        else:
            port.op("io_done", number, (0, [port.op("frame_read", frame) for frame in frames]))
