"""The node that is a disk: blocks of one page, raw or those of files, and the I/O in flight.

A machine has one if its config says `disk:`. Requests queue in order of arrival.
One context, `disk`, on a processor of its own (`disk_io`, in the same actor),
performs them: it takes the next request, moves the bytes by DMA (operations of
its own on memory, past every page table) and reports it done.

Who asked for it is told as the kind of request wants it. Raw I/O (physio): an
interrupt, `cpuN.disk`, on the CPU that asked. Synchronous I/O to a file: its caller
sleeps until then. A pageout to a file: the interrupt that pageouts to swap have too,
on the pagedaemon's processor.

The machine's configuration may have some I/O to files refused or failed; a request
that fails moves no bytes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nodes.cpu import Thread
from nodes.faults import Faults
from nodes.node import Node
from nodes.swap_pager import COMPLETION
from shared.machine_config import DeviceFault
from shared.messages import WAIT, Grant, Interrupt
from shared.port import SPL_BIO, here
from shared.struct import Struct
from shared.tables import ERRNO
from shared.uvm.physio import physio_intr
from shared.uvm.structs import Buf

CONTEXT = "disk"
PROCESSOR = "disk_io"


@dataclass(slots=True)
class Request:
    """I/O asked for and not yet done.

    Attributes:
        write: to the disk.
        who: the name of the context that waits, the Buf of a pageout, or the PhysBuf of raw I/O.
        cpu: that asked for raw I/O.
        error: with which it ends.
    """

    block: int
    frames: list[int]
    write: bool
    who: Struct | str
    cpu: str = ""
    error: int = 0


class Disk(Node):
    """The blocks, and the queue of requests.

    Args:
        blocks: how many; each begins as zeros.
        page_size: bytes per block, a multiple of 8.
        faults: what the device does wrong with I/O to files; their `slot` is a block.
    """

    kind = "disk"

    def __init__(self, name: str, blocks: int, page_size: int, faults: Sequence[DeviceFault] = ()):
        super().__init__(name)
        self.faults = Faults(faults)
        self.blank = (0,) * (page_size // 8)
        self.blocks: list[tuple[int, ...]] = [self.blank] * blocks
        self._reset()

    def _reset(self) -> None:
        self.queue: deque[Request] = deque()
        self.flight: dict[int, Request] = {}
        self.next_io = 1
        self.idle = False
        self.faults.reset()

    def op_disk_start(self, ctx: str, block: int, frames: list[int], write: int, bp: Struct, cpu: str) -> None:
        """Start moving `frames` to (`write`) or from `block`, block+1 ..., raw."""
        self._queue(Request(block, list(frames), bool(write), bp, cpu))

    def op_disk_get(self, ctx: str, block: int, frames: list[int]) -> Any:
        """Read blocks into `frames`; the caller sleeps until it is done."""
        _, error, _ = self.faults.verdict("get", block, len(frames))
        self._queue(Request(block, list(frames), False, ctx, error=ERRNO[error]))
        return WAIT

    def op_disk_put(self, ctx: str, block: int, buf: Struct | None, frames: list[int]) -> Any:
        """Write `frames` to blocks; with a Buf, 0 means only that: started; without, the caller sleeps."""
        refused, error, _ = self.faults.verdict("put", block, len(frames))
        if refused and buf is not None:
            return ERRNO[refused]
        self._queue(Request(block, list(frames), True, ctx if buf is None else buf, error=ERRNO[refused or error]))
        return 0 if buf is not None else WAIT

    def op_disk_format(self, ctx: str, block: int, words: list[int]) -> None:
        """Put a block's contents as they are when its file is made: these words, and zeros."""
        self.blocks[block] = (*words, *self.blank[len(words) :])

    def op_disk_next(self, ctx: str, target: int) -> Any:
        """The next request as [number, frames, contents to write to them, or None: read them, error]."""
        if not self.queue:
            self.idle = True
            return WAIT
        return self._start()

    def op_disk_done(self, ctx: str, io: int, error: int, contents: list[Any]) -> None:
        """A request is finished; `contents` is what was read from memory. Tell whoever asked."""
        request = self.flight.pop(io)
        for at, words in enumerate(contents):
            self.blocks[request.block + at] = tuple(words)
        if isinstance(request.who, str):
            self.out.append(Grant(request.who, error))
        elif isinstance(request.who, Buf):
            self.out.append(Interrupt(COMPLETION, [request.who, error]))
        else:
            self.out.append(Interrupt(interrupt_name(request.cpu), request.who))

    def _queue(self, request: Request) -> None:
        self.queue.append(request)
        if self.idle:
            self.idle = False
            self.out.append(Grant(CONTEXT, self._start()))

    def _start(self) -> list[Any]:
        request = self.queue.popleft()
        number = self.next_io
        self.next_io += 1
        self.flight[number] = request
        contents = None if request.write else self.blocks[request.block : request.block + len(request.frames)]
        return [number, request.frames, contents, request.error]

    def image(self) -> Any:
        return [list(words) for words in self.blocks]

    def load_image(self, image: Any) -> None:
        super().load_image(image)
        self.blocks = [tuple(words) for words in image]
        self._reset()


def disk_io() -> None:
    """What context `disk` runs: perform requests, one after another."""
    port = here.port
    while True:
        number, frames, contents, error = port.op("disk_next", 0)
        read: list[Any] = []
        if error:
            pass
        elif contents is None:
            read = [port.op("frame_read", frame) for frame in frames]
        else:
            for frame, words in zip(frames, contents, strict=True):
                port.op("frame_write", frame, (words,))
        port.op("disk_done", number, (error, read))


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
