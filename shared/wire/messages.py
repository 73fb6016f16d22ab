"""The messages between nodes, and every kind of operation, once.

    Frame      a processor's host -> a node's host: perform these `Request`s, in this order; answered by one
               Reply, to the last of them, which travels in an `Answer` (frames.py)
    Delivery   a node's host -> a processor's host, one-way: what a request caused elsewhere (Grant, Wake,
               Interrupt), or the answer to a frame that was held back (LateReply)
    Load       the driver -> every host: a scenario, an image and perhaps a schedule; answered by Loaded
    Poll       every host -> the driver: counts, and whether the host is busy

A *host* runs nodes; an actor is a host. shared/wire/codec.py encodes all of these messages, and handles of structs.

Not here: what hosts tell each other about frames that travel together, and about structs that are lent (frames.py); the
final state of a host's nodes (shared/detectors/machine_state.py), and pieces of journals, which travel as plain data.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from enum import IntEnum
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
    "choose": Op("cpu", "", ("of", "why", "value")),
}

#: a request that cannot be granted is answered with this; the grant is delivered later
WAIT = "\x00wait"


class Request(NamedTuple):
    """From a context to the node that admits it: perform this operation.

    Attributes:
        ctx, n: who, and the number of this among its operations; the pair is the
            key under which a repeated request is recognized.
        k: number of this among the operations of the context's processor.
        code, target, args: what, as `OPERATIONS` lists it.
    """

    ctx: str
    n: int
    k: int
    code: str
    target: int
    args: tuple[object, ...]


class Frame(NamedTuple):
    """Requests of one processor to one node; only the last one is waited for.

    Attributes:
        cpu: the processor, where deliveries for its contexts go.
    """

    node: str
    cpu: str
    requests: Sequence[Request]

    @classmethod
    def parse(cls, body: Any) -> Frame:
        node, cpu, requests = body
        return cls(
            node, cpu, [Request(ctx, n, k, code, target, tuple(args)) for ctx, n, k, code, target, args in requests]
        )


class Status(IntEnum):
    """What became of a frame."""

    DONE = 0  # the last request's result is the reply's value
    WAITS = 1  # the last request cannot be granted yet: a Grant will come
    REFUSED = 2  # a request, and all behind it, have not been performed: the value is a Refusal
    HELD = 3  # it is not its turn in the schedule that the node follows: a LateReply will come


class Reply(NamedTuple):
    """The answer to a frame."""

    status: Status
    value: object = None

    @classmethod
    def parse(cls, body: Any) -> Reply:
        status, value = body
        return cls(Status(status), Refusal(*value) if status == Status.REFUSED else value)


class Refusal(NamedTuple):
    """A node's KernelFinding, and which request of the frame it is about (`n` and `k` of Request)."""

    kind: str
    text: str
    subject: str
    fatal: bool
    n: int
    k: int


class Grant(NamedTuple):
    """To the CPU of `ctx`: the request it waits for is granted, with this result."""

    ctx: str
    value: object


class Wake(NamedTuple):
    """To the CPU of `ctx`: the channel it sleeps on was woken."""

    ctx: str


class Interrupt(NamedTuple):
    """To a CPU: take interrupt `ctx`, with `message` for its handler."""

    ctx: str
    message: object


class LateReply(NamedTuple):
    """To the CPU of `ctx`: the answer to the frame that was held back, whose last request is this context's `n`."""

    ctx: str
    n: int
    reply: Reply


#: what one operation causes elsewhere
Effect = Grant | Wake | Interrupt
Delivery = Effect | LateReply
_DELIVERIES: dict[str, type[Delivery]] = {"grant": Grant, "wake": Wake, "intr": Interrupt, "answer": LateReply}
_WORDS = {kind: word for word, kind in _DELIVERIES.items()}


def plain_delivery(delivery: Delivery) -> list[object]:
    """A delivery as it travels: the word for its kind, and its fields."""
    return [_WORDS[type(delivery)], *delivery]


def parse_delivery(body: Any) -> Delivery:
    """The delivery that `plain_delivery` was given."""
    word, *fields = body
    if word == "answer":
        ctx, n, reply = fields
        return LateReply(ctx, n, Reply.parse(reply))
    return _DELIVERIES[word](*fields)


class Turn(NamedTuple):
    """One place in a node's order of admission: operation `n` of `ctx`, of this kind."""

    ctx: str
    n: int
    code: str


class ProgramOrder(NamedTuple):
    """The order that a processor follows.

    Attributes:
        contexts: names of the contexts that perform its operations, in order.
        events: the number of kernel events after operation 0, 1, 2 ...
        choices: (number of an operation that is a choice of data, its result).
    """

    contexts: list[str]
    events: list[int]
    choices: list[tuple[int, int]]


class Schedule(NamedTuple):
    """Orders to follow: of every node and of every processor, by name."""

    nodes: dict[str, list[Turn]]
    processors: dict[str, ProgramOrder]

    def of(self, names: Collection[str]) -> Schedule:
        """The orders of these nodes alone."""
        nodes = {name: turns for name, turns in self.nodes.items() if name in names}
        return Schedule(nodes, {name: order for name, order in self.processors.items() if name in names})

    @classmethod
    def parse(cls, body: Any) -> Schedule:
        nodes, processors = body
        return cls(
            {name: [Turn(*turn) for turn in turns] for name, turns in nodes.items()},
            {
                name: ProgramOrder(contexts, events, [(n, value) for n, value in choices])
                for name, (contexts, events, choices) in processors.items()
            },
        )


class Load(NamedTuple):
    """Everything back to the image of a scenario.

    Attributes:
        run: its identity, for the journals' headers.
        folder: where the host keeps its journals, if that is a folder of its own disk.
        mark: name of a file in that folder, by which a host knows it; "": it may make the folder.
        scenario: as shared/scenario/pack.py has it.
        images: of the host's nodes.
        follow: orders of its nodes; None: free-running.
        seed: of the choices among runnable LWPs.
        patch: file name and source of the patch that the driver has applied.
    """

    run: str
    folder: str
    mark: str
    scenario: dict[str, object]
    images: dict[str, object]
    follow: Schedule | None
    seed: int
    patch: tuple[str, str] | None

    @classmethod
    def parse(cls, body: Any) -> Load:
        run, folder, mark, scenario, images, follow, seed, patch = body
        schedule = None if follow is None else Schedule.parse(follow)
        return cls(run, folder, mark, scenario, images, schedule, seed, None if patch is None else tuple(patch))


class Loaded(NamedTuple):
    """What a host is made of, and where its journals are.

    Attributes:
        source: the tables (shared/wire/tables.py) of its source.
        nodes: those that each of its nodes was built with.
        folder: of its journals.
    """

    source: dict[str, str]
    nodes: dict[str, dict[str, str]]
    folder: str

    @classmethod
    def parse(cls, body: Any) -> Loaded:
        return cls(*body)


class Divergence(NamedTuple):
    """What a schedule wants of a node, and what came instead, in words."""

    expected: str
    actual: str


class Behind(NamedTuple):
    """A processor has not reached the end of its program order: `ctx` is to perform the operation after the `k`th."""

    processor: str
    k: int
    ctx: str


class Poll(NamedTuple):
    """What a host says when it is asked how far it is.

    Attributes:
        admitted: records of each node's journal.
        sent, received: deliveries.
        held: frames held back.
        errors: of ours, in words.
        diverged: what its nodes cannot follow.
        idle: its processor, if any, waits, and nothing is in the inbox.
        operations: of its processor.
        has_finding: its processor has ended the run with a finding.
        stopped: its processor performs nothing any more.
    """

    admitted: dict[str, int]
    sent: int
    received: int
    held: int
    errors: list[str]
    diverged: list[Divergence]
    idle: bool
    operations: int
    has_finding: bool
    stopped: bool
    behind: Behind | None

    @classmethod
    def parse(cls, body: Any) -> Poll:
        fields = dict(zip(cls._fields, body, strict=True))
        fields["diverged"] = [Divergence(*words) for words in fields["diverged"]]
        fields["behind"] = None if fields["behind"] is None else Behind(*fields["behind"])
        return cls(**fields)


class KernelFinding(Exception):
    """A node's own check found something wrong with the simulated kernel; the operation is not performed.

    Args:
        fatal: it never can be, whatever the detector's level.
    """

    def __init__(self, kind: str, text: str, subject: str, fatal: bool = False):
        self.kind, self.text, self.subject, self.fatal = kind, text, subject, fatal
        super().__init__(text)
