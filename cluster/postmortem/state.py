"""Performs the records again, in order: kernel stacks, locks, waits, fields, the context on each CPU.

Knows only the records. A field that the setup has set is unknown until a record
loads or stores it. If a context performs an operation while it waits, its wait
must have ended, even if the record of the grant is lost.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from cluster.postmortem.translations import Translations
from cluster.postmortem.words import handle, idles, is_array, place, spins, text_of
from shared.detectors.waits import Hold, Wait
from shared.journal.order import goes_to_sleep
from shared.journal.record import Record, names_of
from shared.port.struct import KIND_NAMES
from shared.wire.messages import OPERATIONS

#: the function in which a thread ends
LAST_FUNCTION = "exit1"


class Frame(NamedTuple):
    """A kernel function that a context is in, and its operation number when it entered it."""

    fn: str
    n: int


class Known(NamedTuple):
    """A field's value, and which operation showed it."""

    field: str
    value: object
    ctx: str
    n: int
    fn: str


class Step(NamedTuple):
    """A record in its place.

    Attributes:
        at: place in the sequence, from 0.
        fn: the kernel function its context was in; "" is user mode.
        caller: the function that had called that function.
        frame: number of that call; the same for all that a single call did.
        old: for a store, the value before, if known.
        frames: those that it touched by way of addresses.
    """

    at: int
    record: Record
    fn: str
    caller: str
    frame: int
    old: Known | None
    frames: frozenset[int] = frozenset()


class Steps:
    """The steps so far. Each is built when it is accessed: there are hundreds of thousands.

    Attributes:
        records: what is known of each step, by its place; `calls`: the call that it was part of.
        functions, callers: of each call; call 0 is user mode.
        olds, frames: of the steps that have some.
    """

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.calls = array("I")
        self.functions, self.callers = [""], [""]
        self.olds: dict[int, Known] = {}
        self.frames: dict[int, frozenset[int]] = {}
        self._same: dict[frozenset[int], frozenset[int]] = {}

    def enter(self, function: str, caller: str) -> int:
        """The number of a call that begins."""
        self.functions.append(function)
        self.callers.append(caller)
        return len(self.functions) - 1

    def add(self, record: Record, call: int, old: Known | None, frames: frozenset[int]) -> None:
        at = len(self.records)
        self.records.append(record)
        self.calls.append(call)
        if old is not None:
            self.olds[at] = old
        if frames:
            self.frames[at] = self._same.setdefault(frames, frames)

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, at: int) -> Step:
        record, call = self.records[at], self.calls[at]
        fn, caller = self.functions[call], self.callers[call]
        return Step(at, record, fn, caller, call, self.olds.get(at), self.frames.get(at, frozenset()))

    def __iter__(self) -> Iterator[Step]:
        return self.some(range(len(self)))

    def some(self, places: Iterable[int]) -> Iterator[Step]:
        """Those at these places."""
        return map(self.__getitem__, places)


@dataclass
class ContextState:
    """A context as its records leave it."""

    name: str
    cpu: str
    n: int = 0
    stack: list[Frame] = field(default_factory=list)
    calls: list[int] = field(default_factory=list)
    held: dict[str, Hold] = field(default_factory=dict)
    wait: Wait | None = None
    ended: bool = False
    last: str = ""

    @property
    def function(self) -> str:
        return self.stack[-1].fn if self.stack else ""


@dataclass
class LockState:
    """A lock as the records leave it, with what LOCKDEBUG remembers of it."""

    holders: list[Hold] = field(default_factory=list)
    waiters: list[str] = field(default_factory=list)
    last_locked: Hold | None = None
    last_unlocked: Hold | None = None


def cpu_of(record: Record) -> str:
    """The node that runs the record's context."""
    cpu: str = record["cpu"] if "cpu" in record else record["node"]
    return cpu


class Machine:
    """Everything that the records say, step by step.

    Args:
        page_size: bytes; 0: not known.
        where: an address in the scenario's own words.
    """

    def __init__(self, page_size: int = 0, where: Callable[[int], str] = hex) -> None:
        self.where = where
        self.translations = Translations(page_size)
        self.contexts: dict[str, ContextState] = {}
        self.locks: dict[str, LockState] = {}
        self.fields: dict[tuple[str, int], Known] = {}
        self.lives: dict[str, int] = {}
        self.arrays: dict[str, tuple[str, str]] = {}  # array -> (the struct whose array it is, its field)
        self.cpus: dict[str, list[str]] = {}  # contexts on it, the innermost interrupt last
        self.steps = Steps()

    def apply_all(self, records: Sequence[Record]) -> Machine:
        self.translations.begin(records)
        for record in records:
            self.apply(record)
        return self

    def context(self, name: str, cpu: str) -> ContextState:
        context = self.contexts.get(name)
        if context is None:
            context = self.contexts[name] = ContextState(name, cpu)
        return context

    def apply(self, record: Record) -> None:
        """One more record."""
        ctx = self.context(record["ctx"], cpu_of(record))
        event, old = record["event"], None
        if event == "exit" and ctx.stack:
            self._step(record, ctx, None)
            ctx.ended = not ctx.stack[1:] and ctx.stack[0].fn == LAST_FUNCTION
            ctx.stack.pop()
            ctx.calls.pop()
            ctx.n, ctx.last = record["n"], event
            return
        if event == "enter":
            caller, fn = ctx.function, text_of(record, "fn")
            ctx.stack.append(Frame(fn, record["n"]))
            ctx.calls.append(self.steps.enter(fn, caller))
        elif "k" in record:
            self._resume(ctx, record)
            ctx.ended = False
            old = self._operation(ctx, record, event)
        self._step(record, ctx, old)
        ctx.n, ctx.last = record["n"], event
        if ctx.ended:
            ctx.wait = None

    def _step(self, record: Record, ctx: ContextState, old: Known | None) -> None:
        self.steps.add(record, ctx.calls[-1] if ctx.calls else 0, old, self.translations.apply(record))

    def _resume(self, ctx: ContextState, record: Record) -> None:
        """The context performs an operation, so what it waited for has come."""
        wait = ctx.wait
        if wait is None or goes_to_sleep(record, ctx.last):
            return
        self._granted(ctx)

    def _granted(self, ctx: ContextState) -> None:
        wait, ctx.wait = ctx.wait, None
        if wait is not None and wait.kind in ("lock", "upgrade"):
            lock = self.locks[wait.what]
            if ctx.name in lock.waiters:
                lock.waiters.remove(ctx.name)
            self._hold(ctx, wait.what, Hold(ctx.name, wait.mode, wait.fn, wait.n))

    def _hold(self, ctx: ContextState, lock: str, hold: Hold) -> None:
        state = self.locks[lock]
        state.holders = [holder for holder in state.holders if holder.ctx != ctx.name] + [hold]
        state.last_locked = hold
        ctx.held[lock] = hold

    def _operation(self, ctx: ContextState, record: Record, event: str) -> Known | None:
        old = None
        if event in ("load", "store"):
            old = self._access(ctx, record)
        elif event in ("lock", "try", "upgrade", "unlock", "downgrade"):
            self._lock(ctx, record, event, text_of(record, "lock"))
        elif event == "sleep":
            ctx.wait = Wait(
                "sleep", text_of(record, "chan"), text_of(record, "fn"), text_of(record, "wmesg"), "", record["n"]
            )
        elif event in ("alloc", "free", "renew"):
            self._life(ctx, record, event)
        elif record.get("wait"):
            ctx.wait = Wait(event, " ".join(names_of(record, "raised")), ctx.function, event, "", record["n"])
        elif event in OPERATIONS and OPERATIONS[event].local:
            self._switch(ctx, event)
        for name in (*names_of(record, "granted"), *names_of(record, "woke")):
            other = self.contexts.get(name)
            if other is not None and other is not ctx:
                self._granted(other)
        return old

    def _access(self, ctx: ContextState, record: Record) -> Known | None:
        struct, slot = handle(record.get("obj")), record.get("slot")
        if struct is None or type(slot) is not int:
            return None
        name, generation = struct
        self.lives[name] = generation
        old = self.fields.get((name, slot))
        value = record.get("value")
        self.fields[name, slot] = Known(text_of(record, "field"), value, ctx.name, record["n"], ctx.function)
        other = handle(value)
        if other is not None:
            self.lives.setdefault(*other)
            if is_array(other[0]) and not is_array(name):
                self.arrays[other[0]] = (name, text_of(record, "field"))
        return old if record["event"] == "store" else None

    def _lock(self, ctx: ContextState, record: Record, event: str, name: str) -> None:
        lock = self.locks.setdefault(name, LockState())
        mode, fn, n = text_of(record, "mode") or "w", text_of(record, "fn") or ctx.function, record["n"]
        if event == "upgrade":
            mode, fn = "w", ctx.held[name].since if name in ctx.held else fn
        if record.get("wait"):
            ctx.wait = Wait(event, name, fn, "", mode, n)
            lock.waiters.append(ctx.name)
            if event == "upgrade":
                lock.holders = [holder for holder in lock.holders if holder.ctx != ctx.name]
        elif event in ("lock", "upgrade") or (event == "try" and record.get("got")):
            self._hold(ctx, name, Hold(ctx.name, mode, fn, n))
        elif event == "downgrade" and name in ctx.held:
            self._hold(ctx, name, ctx.held[name]._replace(mode="r"))
        elif event == "unlock":
            mine = [holder for holder in lock.holders if holder.ctx == ctx.name] or lock.holders[:1]
            for holder in mine[:1]:
                lock.holders.remove(holder)
                self.contexts[holder.ctx].held.pop(name, None)
            lock.last_unlocked = Hold(ctx.name, mode, ctx.function, n)

    def _life(self, ctx: ContextState, record: Record, event: str) -> None:
        struct = handle(record.get("obj"))
        if struct is None:
            return
        name, generation = struct
        if event == "renew" and type(record.get("gen")) is int:
            generation = record["gen"]
        self.lives[name] = generation
        kind = KIND_NAMES.get(name.split(":")[0])
        for key in [key for key in self.fields if key[0] == name]:
            del self.fields[key]
        if kind is None or event == "free":
            return
        for declared in kind.fields.values():
            if declared.slot >= 0:
                known = Known(declared.name, None, ctx.name, record["n"], ctx.function)
                self.fields.setdefault((name, declared.slot), known)

    def _switch(self, ctx: ContextState, event: str) -> None:
        on = self.cpus.setdefault(ctx.cpu, [])
        if event == "run":
            on[:] = [ctx.name]
        elif event == "intr":
            on.append(ctx.name)
        elif event in ("iret", "userret") and ctx.name in on:
            on.remove(ctx.name)

    # -- questions ---------------------------------------------------------------

    def value(self, name: str, field_name: str) -> Known | None:
        """A field of a struct, if the records ever showed it."""
        kind = KIND_NAMES.get(name.split(":", maxsplit=1)[0])
        field = None if kind is None else kind.fields.get(field_name)
        return None if field is None else self.fields.get((name, field.slot))

    def doing(self, ctx: ContextState) -> str:
        """The occupation of a context at the end, in a few words."""
        wait = ctx.wait
        if wait is None:
            if ctx.ended:
                return "has ended"
            if ctx.last == "iret":
                return "idle"
            if ctx.last == "userret":
                return "in user mode"
            return f"in {ctx.function}" if ctx.function else "in user mode"
        if wait.kind in ("lock", "upgrade"):
            return f"{'spins' if spins(wait.what) else 'sleeps'} for {place(wait.what)}"
        if wait.kind == "sleep":
            return f'sleeps on {place(wait.what)} "{wait.wmesg}"'
        return "idle" if idles(wait.kind) else f"waits for {wait.kind}"
