"""The node that owns the swap devices' contents and the I/O in flight.

Requests queue in order of arrival. One context, `swap`, on a processor of its
own (`swap_io`, in the same actor), performs them: it takes the next request,
moves the bytes by DMA (operations of its own on memory) and reports it done. A
read's caller sleeps until then; so does that of a synchronous write. An
asynchronous write's completion is an interrupt on the pagedaemon's processor.

The machine's configuration may have some requests refused, failed or delayed.
A request that fails moves no bytes. A delayed one lets so many later requests
overtake it, if there are any; however long it takes is the schedule's choice.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nodes.faults import Faults
from nodes.node import Node
from shared.machine_config import DeviceFault
from shared.messages import WAIT, Grant, Interrupt
from shared.port import here
from shared.struct import Struct
from shared.tables import ERRNO, RESULT_CODES, VM_PAGER, digest_of

CONTEXT = "swap"
PROCESSOR = "swap_io"
COMPLETION = "pagedaemon.bio"


@dataclass(slots=True)
class Request:
    """I/O asked for and not yet done.

    Attributes:
        who: the Buf to complete, or the name of the context that waits.
        error: with which it ends.
        delay: how many later requests may still overtake it.
    """

    kind: str
    slot: int
    frames: list[int]
    who: Struct | str
    error: int
    delay: int


class SwapPager(Node):
    """Swap slots' contents and the queue of requests.

    Args:
        page_size: bytes per slot, a multiple of 8.
        faults: what the device does wrong.

    Attributes:
        codes: name of an error -> what this pager answers for it, as the table says that it was built with.
        bad: slots of requests that failed for good.
    """

    kind = "swap_pager"

    def __init__(self, name: str, page_size: int, faults: Sequence[DeviceFault] = ()):
        super().__init__(name)
        self.words = page_size // 8
        self.faults = Faults(faults)
        self.slots: dict[int, tuple[int, ...]] = {}
        self.codes = ERRNO
        self._reset()

    def tables(self) -> Mapping[str, str]:
        return {**super().tables(), RESULT_CODES: digest_of(self.codes)}

    def op_swap_attach(self, ctx: str, target: int, old: int) -> None:
        """The kernel sets up the device; `old`: it was built when pagers did not yet answer an errno."""
        self.codes = VM_PAGER if old else ERRNO

    def _reset(self) -> None:
        self.queue: deque[Request] = deque()
        self.flight: dict[int, Request] = {}
        self.next_io = 1
        self.idle = False
        self.bad: set[int] = set()
        self.faults.reset()

    def op_swap_put(self, ctx: str, slot: int, buf: Struct | None, frames: list[int]) -> Any:
        """Write `frames` to `slot`, slot+1 ...; with a Buf, 0 means only that: started; without, the caller sleeps."""
        refused, error, delay = self._verdict("put", slot, len(frames))
        if refused and buf is not None:
            return refused
        self._queue(Request("put", slot, list(frames), ctx if buf is None else buf, refused or error, delay))
        return 0 if buf is not None else WAIT

    def op_swap_get(self, ctx: str, slot: int, frame: int) -> Any:
        """Read a slot into a frame; the caller sleeps until it is done."""
        _, error, delay = self._verdict("get", slot, 1)
        self._queue(Request("get", slot, [frame], ctx, error, delay))
        return WAIT

    def op_io_next(self, ctx: str, target: int) -> Any:
        """The next request as [number, kind, frames, contents to write to them, error]."""
        if not self.queue:
            self.idle = True
            return WAIT
        return self._start()

    def op_io_done(self, ctx: str, io: int, error: int, contents: list[Any]) -> None:
        """A request is finished: wake its caller, or interrupt with its completion."""
        request = self.flight.pop(io)
        if request.kind == "put" and not error:
            for at, words in enumerate(contents):
                self.slots[request.slot + at] = tuple(words)
        if isinstance(request.who, str):
            self.out.append(Grant(request.who, error))
        else:
            self.out.append(Interrupt(COMPLETION, [request.who, error]))

    def _verdict(self, op: str, slot: int, npages: int) -> tuple[int, int, int]:
        """(error at the start, error at the end, delay) of a request, by the configuration."""
        refused, error, delay = self.faults.verdict(op, slot, npages)
        if "EIO" in (refused, error):
            self.bad |= set(range(slot, slot + npages))
        return self.codes[refused], self.codes[error], delay

    def _queue(self, request: Request) -> None:
        self.queue.append(request)
        if self.idle:
            self.idle = False
            self.out.append(Grant(CONTEXT, self._start()))

    def _start(self) -> list[Any]:
        at = next((at for at, one in enumerate(self.queue) if not one.delay), 0)
        for overtaken in list(self.queue)[:at]:
            overtaken.delay -= 1
        request = self.queue[at]
        del self.queue[at]
        number = self.next_io
        self.next_io += 1
        self.flight[number] = request
        contents = [self.slots.get(request.slot, (0,) * self.words)] if request.kind == "get" else []
        return [number, request.kind, request.frames, contents, request.error]

    def image(self) -> Any:
        return {"slots": list(self.slots.items()), "bad": sorted(self.bad), "old": int(self.codes is VM_PAGER)}

    def load_image(self, image: Any) -> None:
        super().load_image(image)
        self.slots = {slot: tuple(words) for slot, words in image["slots"]}
        self.codes = VM_PAGER if image["old"] else ERRNO
        self._reset()


def swap_io() -> None:
    """What context `swap` runs: perform requests, one after another."""
    port = here.port
    while True:
        number, kind, frames, contents, error = port.op("io_next", 0)
        written: list[Any] = []
        if kind == "get" and not error:
            port.op("frame_write", frames[0], (contents[0],))
        elif not error:
            written = [port.op("frame_read", frame) for frame in frames]
        port.op("io_done", number, (error, written))
