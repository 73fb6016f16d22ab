"""The operations of an execution, as predictions need them: each with its locks, and with the operations before it.

An `Observation` is made by a strategy that is asked everywhere, at granularity "access", so that guarded accesses are
seen too. An observation knows two orders of operations: the order in which they came, and the part of this order that
no schedule can change: the program order of each context, and that a wakeup, a raised interrupt or an answer comes
before what waits for it (*must-happen-before*, as a vector clock over contexts). Locks are not part of the second
order: which of two critical sections comes first, another schedule may change.

Left out: which order is worth changing (predict.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from nodes.cpu import Thread
from shared.wire.messages import OPERATIONS

#: what operations touch: kind, and numbers
Location = tuple[str, int, int]
Args = tuple[object, ...]
READS_MAPPINGS = frozenset(
    ("pmap_walk", "pmap_extract", "pmap_allows", "pmap_is_mapped", "pmap_is_modified", "pmap_is_referenced")
)
#: a context that waits for a lock continues after a release: the order of critical sections, not a cause
RELEASES = ("unlock", "downgrade")


class Touched(NamedTuple):
    """A location that an operation reads or writes."""

    location: Location
    writes: bool


class Holding(NamedTuple):
    """A lock that a context holds.

    Attributes:
        mode: r (shared) or w.
        since: place of the request for it; -1: before the execution began.
    """

    mode: str
    since: int


class Operation:
    """An operation of an execution.

    Attributes:
        place: of it in the order of all operations, from 0.
        context, cpu: who performed it; nth: the how manieth of the context it is, from 1.
        n: the context's number of it, as schedules have it.
        code, target, part: what it was; "run" and "intr" as contexts get their processor, "" behind a wait.
        function: kernel function that it is in.
        call: number of the context's stay in the kernel, between two returns to user mode.
        field: what it accesses, in words: "page.flags"; "" for other operations.
        held: locks by their keys.
        spl, level: interrupts of which levels its context keeps out, and of which it is itself.
        touches: what it reads and writes.
        clock: context -> how many of its operations must have happened before.
    """

    __slots__ = (
        "call", "clock", "code", "context", "cpu", "field", "function", "held", "level", "n", "nth", "part", "place",
        "spl", "target", "touches",
    )  # fmt: skip

    def __init__(self, place: int, thread: Thread, nth: int):
        self.place, self.context, self.cpu, self.nth, self.call = place, thread.name, thread.cpu, nth, 0
        self.n, self.function, self.spl, self.level = thread.n + 1, thread.function, thread.spl, thread.level
        self.code, self.target, self.part, self.field = "", 0, 0, ""
        self.held: Mapping[int, Holding] = {}
        self.touches: list[Touched] = []
        self.clock: Mapping[str, int] = {}

    @property
    def site(self) -> str | int:
        """Where it stands in the program: the kernel's function; of a program of one's own the number."""
        return self.n if self.function == "user" else self.function

    def must_precede(self, other: Operation) -> bool:
        """Does it come before the other, whatever the schedule?"""
        if self.context == other.context:
            return self.place < other.place
        return other.clock.get(self.context, 0) >= self.nth

    def excludes(self, other: Operation) -> list[int]:
        """Locks that both hold, and cannot hold together."""
        return [
            lock
            for lock, mine in self.held.items()
            if lock in other.held and not (mine.mode == "r" == other.held[lock].mode)
        ]

    def is_asked_by(self, thread: Thread) -> bool:
        """Is it what a context is about to do?"""
        asks = thread.asks
        if asks is None or thread.processor.takes(thread) is not None:
            return self.code == "intr" and thread.name == self.context and thread.processor.takes(thread) == "intr"
        code, target, args = asks
        return (code, target) == (self.code, self.target) and _part(code, args) == self.part


class Observation:
    """The operations of an execution, so far.

    Attributes:
        operations: in the order in which they came.
        contexts: of each operation its context, and of each choice of data "": as the prefix of another execution.
        choices: what was chosen of the data, of how many, and at which place.
        woken: contexts that have been woken or interrupted by the last operation.
    """

    def __init__(self) -> None:
        self.operations: list[Operation] = []
        self.contexts: list[str] = []
        self.choices: list[tuple[int, int, int]] = []
        self.woken: list[Thread] = []
        self._counts: dict[str, int] = {}
        self._calls: dict[str, int] = {}
        self._asked: dict[str, dict[int, int]] = {}
        self._clocks: dict[str, Mapping[str, int]] = {}
        self._due: dict[str, dict[str, int]] = {}

    def begins(self, thread: Thread) -> None:
        """A context was picked, and performs what it asks for."""
        name, place = thread.name, len(self.operations)
        nth = self._counts[name] = self._counts.get(name, 0) + 1
        now = Operation(place, thread, nth)
        asked = self._asked.setdefault(name, {})
        if thread.held:
            now.held = {held.key: Holding(held.mode, asked.get(held.key, -1)) for held in thread.held}
        takes = thread.processor.takes(thread)
        if takes is not None:
            now.code = takes
        elif thread.asks is not None:
            now.code, now.target, args = thread.asks
            now.part = _part(now.code, args)
            if now.code in ("load", "store"):
                now.field = f"{str(args[0]).split(':', maxsplit=1)[0]}.{args[1]}"
            now.touches = touched(now.code, now.target, args)
            if now.code in ("lock", "try", "upgrade"):
                asked[now.target] = place
        self._calls[name] = now.call = self._calls.get(name, 0) + (now.code in ("run", "intr", "userret", "access"))
        due = self._due.pop(name, None)
        if due:
            self._clocks[name] = joined(self._clocks.get(name, {}), due)
        now.clock = self._clocks.get(name, {})
        self.operations.append(now)
        self.contexts.append(name)
        self.woken = []

    def performed(self, code: str, target: int, args: Args) -> None:
        """It turns out what a user's access comes to."""
        if self.operations and self.operations[-1].code == "access":
            self.operations[-1].touches += touched(code, target, args)

    def caused(self, thread: Thread) -> None:
        """The last operation has woken a context, granted it something, or interrupts it."""
        if not self.operations or self.operations[-1].code in RELEASES:
            return
        cause = self.operations[-1]
        self.woken.append(thread)
        self._due[thread.name] = joined(self._due.get(thread.name, {}), {**cause.clock, cause.context: cause.nth})

    def chose(self, value: int, of: int) -> None:
        """The last context has taken a value."""
        self.choices.append((value, of, len(self.operations) - 1))


def joined(clock: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    """The later of two clocks, for each context."""
    both = dict(clock)
    for context, count in other.items():
        if both.get(context, 0) < count:
            both[context] = count
    return both


def _part(code: str, args: Args) -> int:
    """Which part of its target an operation is about: the slot of a struct."""
    slot = args[2] if code in ("load", "store") else 0
    return slot if isinstance(slot, int) else 0


def touched(code: str, target: int, args: Args) -> list[Touched]:
    """The locations that an operation reads and writes, as far as predictions use them; locks are left out."""
    if code in ("load", "store"):
        return [Touched(("field", target, _part(code, args)), code == "store"), Touched(("struct", target, 0), False)]
    if code in ("free", "renew"):
        return [Touched(("struct", target, 0), True)]
    if code in ("sleep", "wakeup"):
        return [Touched(("channel", target, 0), code == "wakeup")]
    if code in ("word_read", "word_write"):
        return [Touched(("frame", target, 0), False), Touched(("word", target, _number(args[0])), code == "word_write")]
    if code.startswith("frame_"):
        source = [Touched(("frame", _number(args[0]), 0), False)] if code == "frame_copy" else []
        return [Touched(("frame", target, 0), code != "frame_read"), *source]
    if code.startswith("pmap_"):
        op, writes = OPERATIONS[code], code not in READS_MAPPINGS
        named = dict(zip((op.target, *op.args), (target, *args), strict=True))
        return [Touched((key, _number(named[key]), 1), writes) for key in ("pmap", "frame") if key in named]
    return []


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0
