"""The node that is a disk with a raw device: blocks of one page, and the I/O in flight.

A machine has one if its config says `disk:`. Requests queue in order of arrival.
One context, `disk`, on a processor of its own (`disk_io`, in the same actor),
performs them: it takes the next request, moves the bytes by DMA (operations of
its own on memory, past every page table) and reports it done. Completion is an
interrupt, `cpuN.disk`, on the CPU that asked.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from nodes.cpu import Thread
from nodes.node import Node
from shared.messages import WAIT, Grant, Interrupt
from shared.port import SPL_BIO, here
from shared.struct import Struct
from shared.uvm.physio import physio_intr

CONTEXT = "disk"
PROCESSOR = "disk_io"


class Disk(Node):
    """The blocks, and the queue of requests.

    Args:
        blocks: how many; each begins as zeros.
        page_size: bytes per block, a multiple of 8.
    """

    kind = "disk"

    def __init__(self, name: str, blocks: int, page_size: int):
        super().__init__(name)
        self.blank = (0,) * (page_size // 8)
        self.blocks: list[tuple[int, ...]] = [self.blank] * blocks
        self.queue: deque[list[Any]] = deque()
        self.flight: dict[int, list[Any]] = {}
        self.next_io = 1
        self.idle = False

    def op_disk_start(self, ctx: str, block: int, frames: list[int], write: int, bp: Struct, cpu: str) -> None:
        """Start moving `frames` to (`write`) or from `block`, block+1 ..."""
        self.queue.append([block, list(frames), write, bp, cpu])
        if self.idle:
            self.idle = False
            self.out.append(Grant(CONTEXT, self._start()))

    def op_disk_next(self, ctx: str, target: int) -> Any:
        """The next request as [number, frames, contents to write to them, or None: read them]."""
        if not self.queue:
            self.idle = True
            return WAIT
        return self._start()

    def op_disk_done(self, ctx: str, io: int, contents: list[Any]) -> None:
        """A request is finished; `contents` is what was read from memory. Interrupt whoever asked."""
        block, _, _, bp, cpu = self.flight.pop(io)
        for at, words in enumerate(contents):
            self.blocks[block + at] = tuple(words)
        self.out.append(Interrupt(interrupt_name(cpu), bp))

    def _start(self) -> list[Any]:
        request = self.queue.popleft()
        number = self.next_io
        self.next_io += 1
        self.flight[number] = request
        block, frames, write, _, _ = request
        return [number, frames, None if write else self.blocks[block : block + len(frames)]]

    def image(self) -> Any:
        return [list(words) for words in self.blocks]

    def load_image(self, image: Any) -> None:
        super().load_image(image)
        self.blocks = [tuple(words) for words in image]
        self.queue, self.flight, self.next_io, self.idle = deque(), {}, 1, False


def disk_io() -> None:
    """What context `disk` runs: perform requests, one after another."""
    port = here.port
    while True:
        number, frames, contents = port.op("disk_next", 0)
        if contents is None:
            port.op("disk_done", number, ([port.op("frame_read", frame) for frame in frames],))
        else:
            for frame, words in zip(frames, contents, strict=True):
                port.op("frame_write", frame, (words,))
            port.op("disk_done", number, ([],))


def disk_intr() -> None:
    """What `cpuN.disk` runs for each finished request."""
    physio_intr(here.port.cur.value)


def interrupt_name(cpu: str) -> str:
    """The disk's interrupt context on a CPU."""
    return f"{cpu}.disk"


def disk_threads(cpus: int) -> list[Thread]:
    """The disk's interrupt on every CPU, and its own context."""
    interrupts = [
        Thread(interrupt_name(f"cpu{number}"), f"cpu{number}", disk_intr, SPL_BIO, interrupt=True)
        for number in range(cpus)
    ]
    return [*interrupts, Thread(CONTEXT, PROCESSOR, disk_io)]
