"""The disk node: blocks of one page, raw or of files, and the I/O in flight (nodes/io.py).

A machine has a disk if its config has `disk:`. Its context is `disk`, on processor
`disk_io`.

The end of I/O is reported in a way that depends on the request. Raw I/O (physio): an
interrupt, `cpuN.disk`, on the CPU that asked. Synchronous I/O to a file: its caller
sleeps until then. A pageout to a file: the interrupt `pagedaemon.disk` on the
pagedaemon's processor, which does the same as the interrupt of the swap pager.

The machine's configuration can make file I/O be refused or fail, but not raw I/O.
"""

from __future__ import annotations

from collections.abc import Sequence

from nodes.cpu import Thread
from nodes.io import DISK_COMPLETION, IoNode, Request, may_fail
from shared.port.port import SPL_BIO, here
from shared.port.struct import Struct
from shared.scenario.machine import DeviceFault
from shared.uvm.physio import physio_intr
from shared.uvm.structs import PhysBuf
from shared.wire.images import DiskImage, Words
from shared.wire.messages import WAIT, Interrupt
from shared.wire.tables import ERRNO

CONTEXT = "disk"
PROCESSOR = "disk_io"


class Disk(IoNode):
    """The blocks, and the queue of requests.

    Args:
        blocks: how many; each begins as zeros.
        page_size: bytes per block, a multiple of 8.
        faults: what the device does wrong with I/O to files; their `slot` is a block.
    """

    kind = "disk"
    context = CONTEXT
    completion = DISK_COMPLETION

    def __init__(self, name: str, blocks: int, page_size: int, faults: Sequence[DeviceFault] = ()):
        super().__init__(name, faults)
        self.blank = (0,) * (page_size // 8)
        self.blocks: list[tuple[int, ...]] = [self.blank] * blocks

    def op_disk_start(self, ctx: str, block: int, frames: list[int], write: int, buf: Struct, cpu: str) -> None:
        """Start moving `frames` to (`write`) or from `block`, block+1 ..., raw."""
        self._queue(Request(bool(write), block, list(frames), buf, cpu=cpu))

    def op_disk_get(self, ctx: str, block: int, frames: list[int]) -> object:
        """Read blocks into `frames`; the caller sleeps until it is done."""
        _, error, maybe, _ = self.faults.verdict("get", block, len(frames))
        self._queue(Request(False, block, list(frames), ctx, ERRNO[error], ERRNO[maybe]))
        return WAIT

    def op_disk_put(self, ctx: str, block: int, buf: Struct | None, frames: list[int]) -> object:
        """Write `frames` to blocks; with a Buf, 0 means only that: started; without, the caller sleeps."""
        refused, error, maybe, _ = self.faults.verdict("put", block, len(frames))
        if refused and buf is not None:
            return ERRNO[refused]
        who = ctx if buf is None else buf
        self._queue(Request(True, block, list(frames), who, ERRNO[refused or error], ERRNO[maybe]))
        return 0 if buf is not None else WAIT

    def op_disk_format(self, ctx: str, block: int, words: list[int]) -> None:
        """Put a block's contents as they are when its file is made: these words, and zeros."""
        self.blocks[block] = (*words, *self.blank[len(words) :])

    def op_disk_next(self, ctx: str, target: int) -> object:
        """The next request as [number, frames, contents to write to them, or None: read them, error]."""
        return self._next()

    def op_disk_done(self, ctx: str, io: int, error: int, contents: list[Words]) -> None:
        """A request is finished; `contents` is what was read from memory. Tell the CPU that asked."""
        request = self.flight.pop(io)
        for at, words in enumerate(contents):
            self.blocks[request.place + at] = tuple(words)
        if isinstance(request.who, PhysBuf):
            self.out.append(Interrupt(interrupt_name(request.cpu), request.who))
        else:
            self._finish(request, error)

    def _order(self, request: Request) -> list[object]:
        contents = None if request.write else self.blocks[request.place : request.place + len(request.frames)]
        return [request.frames, contents, request.error]

    def image(self) -> DiskImage:
        return [list(words) for words in self.blocks]

    def load_image(self, image: DiskImage) -> None:
        super().load_image(image)
        self.blocks = [tuple(words) for words in image]
        self._reset()


def disk_io() -> None:
    """What context `disk` runs: perform requests, one after another."""
    port = here.port
    while True:
        number, frames, contents, error, *maybe = port.op("disk_next", 0)
        error = error or may_fail(maybe, "write" if contents is None else "read", frames)
        read: list[Words] = []
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
