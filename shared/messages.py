"""Every message between nodes, and every kind of operation, once.

A context's operations travel as `Request`s, several to a `Frame`; the admitting
node answers each with a `Reply`, and what one request causes elsewhere (a lock
granted to a waiter, a sleeper woken, an interrupt) travels as a *delivery*.
All are encoded by shared/codec.py; handles of structs are part of its alphabet.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple


class Op(NamedTuple):
    """A kind of operation.

    Attributes:
        node: kind of node that admits it.
        target: what its target number is, for the journal ("": none).
        args: names of its arguments, for the journal ("-": not recorded; "peek?": recorded if it is true).
        posted: needs no answer, so it may ride with the next request to the same actor.
        sleeps: a context that has to wait for it gives up its CPU meanwhile.
        result: name of its result in the journal ("": not recorded).
        idle: a context that waits for its answer waits for work, and is at rest.
    """

    node: str
    target: str = ""
    args: tuple[str, ...] = ()
    posted: bool = False
    sleeps: bool = False
    result: str = ""
    idle: bool = False

    @property
    def local(self) -> bool:
        """The context's own processor performs it: no message travels."""
        return self.node == "cpu"

    @property
    def frames(self) -> tuple[str, ...]:
        """The names, among its target and arguments, of the frames that it is about."""
        return tuple(name for name in (self.target, *self.args) if name in ("frame", "frames", "source"))


OPERATIONS: dict[str, Op] = {
    "load": Op("memory", "", ("obj", "field", "slot", "peek?"), result="value"),
    "store": Op("memory", "", ("obj", "field", "slot", "value"), posted=True),
    "alloc": Op("memory", "", ("kind", "length"), result="obj"),
    "free": Op("memory", "", ("obj", "by", "-"), posted=True),
    "renew": Op("memory", "", ("obj", "by", "-"), result="gen"),
    "identify": Op("memory", "", ("obj",), result="gen"),
    "word_read": Op("memory", "frame", ("offset", "va", "proc", "gen"), result="value"),
    "word_write": Op("memory", "frame", ("offset", "value", "va", "proc", "gen"), posted=True),
    "frame_zero": Op("memory", "frame", (), posted=True),
    "frame_copy": Op("memory", "frame", ("source",), posted=True),
    "frame_read": Op("memory", "frame", ()),
    "frame_write": Op("memory", "frame", ("-",), posted=True),
    "frame_store": Op("memory", "frame", ("offset", "value"), posted=True),
    "lock": Op("lock_manager", "lock", ("mode", "fn")),
    "try": Op("lock_manager", "lock", ("mode", "fn"), result="got"),
    "unlock": Op("lock_manager", "lock", (), posted=True),
    "downgrade": Op("lock_manager", "lock", (), posted=True),
    "upgrade": Op("lock_manager", "lock", ()),
    "sleep": Op("lock_manager", "chan", ("wmesg", "fn"), posted=True),
    "wakeup": Op("lock_manager", "chan", (), posted=True),
    "pmap_create": Op("mmu", "", (), result="pmap"),
    "pmap_bootstrap": Op("mmu", "", (), posted=True),
    "pmap_object": Op("mmu", "pmap", ("obj",), posted=True),
    "pmap_ptp_enter": Op("mmu", "pmap", ("va", "frame"), result="taken"),
    "pmap_destroy": Op("mmu", "pmap", (), result="obj"),
    "pmap_activate": Op("mmu", "pmap", ("cpu",), posted=True),
    "pmap_walk": Op("mmu", "pmap", ("vpn", "write", "cpu"), result="pte"),
    "pmap_enter": Op("mmu", "pmap", ("va", "frame", "prot", "flags", "cpu", "gen"), result="error"),
    "pmap_remove": Op("mmu", "pmap", ("start", "end", "cpu")),
    "pmap_protect": Op("mmu", "pmap", ("start", "end", "prot", "cpu")),
    "pmap_emulate_reference": Op("mmu", "pmap", ("vpn", "write"), posted=True),
    "pmap_unwire": Op("mmu", "pmap", ("va",), posted=True),
    "pmap_extract": Op("mmu", "pmap", ("va",), result="frame"),
    "pmap_page_protect": Op("mmu", "frame", ("prot", "cpu")),
    "pmap_page_protect_unwired": Op("mmu", "frame", ("prot", "cpu")),
    "pmap_allows": Op("mmu", "pmap", ("va", "prot"), result="bit"),
    "pmap_is_mapped": Op("mmu", "frame", (), result="bit"),
    "pmap_is_modified": Op("mmu", "frame", (), result="bit"),
    "pmap_is_referenced": Op("mmu", "frame", (), result="bit"),
    "pmap_clear_modify": Op("mmu", "frame", ("cpu",), result="bit"),
    "pmap_clear_reference": Op("mmu", "frame", ("cpu",), result="bit"),
    "pmap_ack": Op("mmu", "shootdown", ("cpu",), posted=True),
    "swap_attach": Op("swap_pager", "", ("old",), posted=True),
    "swap_put": Op("swap_pager", "slot", ("buf", "frames"), sleeps=True, result="error"),
    "swap_get": Op("swap_pager", "slot", ("frame",), sleeps=True, result="error"),
    "io_next": Op("swap_pager", "", (), sleeps=True, result="request", idle=True),
    "io_done": Op("swap_pager", "io", ("error", "-"), posted=True),
    "disk_start": Op("disk", "block", ("frames", "write", "buf", "cpu"), posted=True),
    "disk_get": Op("disk", "block", ("frames",), sleeps=True, result="error"),
    "disk_put": Op("disk", "block", ("buf", "frames"), sleeps=True, result="error"),
    "disk_format": Op("disk", "block", ("words",), posted=True),
    "disk_next": Op("disk", "", (), sleeps=True, result="request", idle=True),
    "disk_done": Op("disk", "io", ("error", "-"), posted=True),
    "dev_send": Op("devices", "device", (), posted=True),
    "run": Op("cpu"),
    "userret": Op("cpu"),
    "intr": Op("cpu", "", ("message", "interrupted", "at")),
    "iret": Op("cpu"),
}

#: a request that cannot be granted is answered with this; the grant is delivered later
WAIT = "\x00wait"


class Grant(NamedTuple):
    """To the CPU of `ctx`: the request it waits for is granted, with this result."""

    ctx: str
    value: Any


class Wake(NamedTuple):
    """To the CPU of `ctx`: the channel it sleeps on was woken."""

    ctx: str


class Interrupt(NamedTuple):
    """To a CPU: take interrupt `ctx`, with `message` for its handler."""

    ctx: str
    message: Any


Delivery = Grant | Wake | Interrupt


@dataclass(frozen=True, slots=True)
class Request:
    """From a context to the admitting node: perform this operation.

    Attributes:
        ctx, n: who, and the number of this among its operations; the pair is the
            key under which a repeated request is recognized.
        k: number of this among the operations of the context's CPU.
        cpu: the node that runs the context, where deliveries for it go.
    """

    ctx: str
    n: int
    k: int
    cpu: str
    code: str
    target: int
    args: tuple[Any, ...]


class KernelFinding(Exception):
    """A node's own check found something wrong with the simulated kernel; the operation is not performed.

    Args:
        fatal: it never can be, whatever the detector's level.
    """

    def __init__(self, kind: str, text: str, subject: str, fatal: bool = False):
        self.kind, self.text, self.subject, self.fatal = kind, text, subject, fatal
        super().__init__(text)
