"""The node that owns the swap devices' contents and the I/O in flight (nodes/io.py).

Its context is `swap`, on processor `swap_io`. A read's caller sleeps until it is
done; so does that of a synchronous write. An asynchronous write's completion is an
interrupt on the pagedaemon's processor.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nodes.io import IoNode, Request, may_fail
from shared.port.port import here
from shared.port.struct import Struct
from shared.scenario.machine import DeviceFault
from shared.wire.images import SwapImage, Words
from shared.wire.messages import WAIT
from shared.wire.tables import ERRNO, RESULT_CODES, VM_PAGER, digest_of

CONTEXT = "swap"
PROCESSOR = "swap_io"


class SwapPager(IoNode):
    """Swap slots' contents and the queue of requests.

    Args:
        page_size: bytes per slot, a multiple of 8.
        faults: what the device does wrong.

    Attributes:
        codes: name of an error -> what this pager answers for it, as the table says that it was built with.
        bad: slots of requests that failed for good.
    """

    kind = "swap_pager"
    context = CONTEXT

    def __init__(self, name: str, page_size: int, faults: Sequence[DeviceFault] = ()):
        super().__init__(name, faults)
        self.words = page_size // 8
        self.slots: dict[int, tuple[int, ...]] = {}
        self.codes = ERRNO

    def tables(self) -> Mapping[str, str]:
        return {**super().tables(), RESULT_CODES: digest_of(self.codes)}

    def op_swap_attach(self, ctx: str, target: int, old: int) -> None:
        """The kernel sets up the device; `old`: it was built when pagers did not yet answer an errno."""
        self.codes = VM_PAGER if old else ERRNO

    def _reset(self) -> None:
        super()._reset()
        self.bad: set[int] = set()

    def op_swap_put(self, ctx: str, slot: int, buf: Struct | None, frames: list[int]) -> object:
        """Write `frames` to `slot`, slot+1 ...; with a Buf, 0 means only that: started; without, the caller sleeps."""
        refused, error, maybe, delay = self._verdict("put", slot, len(frames))
        if refused and buf is not None:
            return refused
        self._queue(Request(True, slot, list(frames), ctx if buf is None else buf, refused or error, maybe, delay))
        return 0 if buf is not None else WAIT

    def op_swap_get(self, ctx: str, slot: int, frame: int) -> object:
        """Read a slot into a frame; the caller sleeps until it is done."""
        _, error, maybe, delay = self._verdict("get", slot, 1)
        self._queue(Request(False, slot, [frame], ctx, error, maybe, delay))
        return WAIT

    def op_io_next(self, ctx: str, target: int) -> object:
        """The next request as [number, kind, frames, contents to write to them, error]."""
        return self._next()

    def op_io_done(self, ctx: str, io: int, error: int, contents: list[Words]) -> None:
        """A request is finished: wake its caller, or interrupt with its completion."""
        request = self.flight.pop(io)
        if request.write and not error:
            for at, words in enumerate(contents):
                self.slots[request.place + at] = tuple(words)
        if request.maybe and error == self.codes["EIO"]:
            self.bad |= set(range(request.place, request.place + len(request.frames)))
        self._finish(request, error)

    def _verdict(self, op: str, slot: int, npages: int) -> tuple[int, int, int, int]:
        """(error at the start, at the end, perhaps at the end, delay) of a request, by the configuration."""
        refused, error, maybe, delay = self.faults.verdict(op, slot, npages)
        if "EIO" in (refused, error):
            self.bad |= set(range(slot, slot + npages))
        return self.codes[refused], self.codes[error], self.codes[maybe], delay

    def _order(self, request: Request) -> list[object]:
        if request.write:
            return ["put", request.frames, [], request.error]
        return ["get", request.frames, [self.slots.get(request.place, (0,) * self.words)], request.error]

    def image(self) -> SwapImage:
        return {"slots": list(self.slots.items()), "bad": sorted(self.bad), "old": int(self.codes is VM_PAGER)}

    def load_image(self, image: SwapImage) -> None:
        super().load_image(image)
        self.slots = {slot: tuple(words) for slot, words in image["slots"]}
        self.codes = VM_PAGER if image["old"] else ERRNO
        self._reset()


def swap_io() -> None:
    """What context `swap` runs: perform requests, one after another."""
    port = here.port
    while True:
        number, kind, frames, contents, error, *maybe = port.op("io_next", 0)
        error = error or may_fail(maybe, "read" if kind == "get" else "write", frames)
        written: list[Words] = []
        if kind == "get" and not error:
            port.op("frame_write", frames[0], (contents[0],))
        elif not error:
            written = [port.op("frame_read", frame) for frame in frames]
        port.op("io_done", number, (error, written))
