"""The data race detector: vector clocks for happens-before, guards for locksets. And lock order, over a whole run.

Two accesses to one field by different CPUs race if one of them writes, neither
happens before the other, and at least one was made without the field's guard.
Happens-before comes from locks, wakeups, grants, interrupts, the mmu's own
serialization of what is done to one pmap or frame, and the queues of the swap
pager and the disk: a request comes before the device's taking it, and so before
its completion. LWPs of one CPU never race, because the kernel is not preemptive.
A field marked as a hint is read unguarded on purpose, so only two writes of it
can race.

It never stops a run. `RaceDetector` is the method; `Watch` tells it what a run's
records say, as they come (a recorded run of `sim`) or when all is over
(`judge_journals`). Both give one answer, since nothing in it depends on which of the
orders that the journals allow the records come in: all accesses to a field are admitted by
one node; what ends a wait is joined by the context that continues, and by no other; of several races
the first is that before whose second access the least had happened.

Lock order is of the same kind where two CPUs have one half of a reversal each: what the two have seen is put
together here (what contradicts the order in UVM's sources alone, the port sees at once).

Sees: two accesses to a field of a struct that nothing ordered in this run, however far apart they were.

Does not see: a race that a lock or a wakeup happened to order in this run; bytes of page frames (the memory oracle
does); fields marked `const` or `stat`, and reads of hints; two accesses that are guarded each, between which another
CPU changed what the first had found; all but the last access of each CPU, and all but the last store, to a field. An
unrecorded run of `sim` looks at racy fields alone (cluster/sim/engine.py).

Source of the method: Flanagan and Freund, "FastTrack" (2009); the guards are
UVM's own field markings (shared/port/struct.py).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

from shared.findings import Finding
from shared.journal.order import KERNEL_LOCK, goes_to_sleep, in_order
from shared.journal.record import Journals, Record
from shared.locks.order import LockOrder
from shared.port.guards import Guards
from shared.port.lockref import LockRef
from shared.port.port import Context, Held
from shared.port.struct import LOCK_SHIFT, Struct, lock_name, parse_handle, peek_of
from shared.wire.images import Images, heap_of
from shared.wire.messages import OPERATIONS, WAIT

if TYPE_CHECKING:
    from shared.port.struct import FieldBase

#: nodes whose operations order what comes before and after them -> on what: a device on itself; 0: on the operation's
#: target, a pmap or a frame, whose numbers are not below 0
ORDERED = {"mmu": 0, "swap_pager": -1, "disk": -2}
#: targets of the requests to a device; from other requests these learn nothing
REQUESTED = ("slot", "block")
#: such operations -> on what, and: they learn
ORDERS = {
    code: (ORDERED[op.node], op.target not in REQUESTED) for code, op in OPERATIONS.items() if op.node in ORDERED
}


class Past:
    """A moment of one CPU: its own time then, and what it knew of the others. No CPU (-1) if several shared a lock.

    A clock that includes that moment includes all that was known then, so that mostly no clocks need be compared.
    """

    __slots__ = ("cpu", "known", "time")

    def __init__(self, cpu: int, time: int, known: list[int]):
        self.cpu, self.time, self.known = cpu, time, known


class Clock:
    """What a CPU knows of the others' times, beside its own. CPUs have numbers, in the order in which they come up.

    Attributes:
        known: time of each CPU, by number; 0: nothing, and so are those behind the end. Its own place stays 0.
        given: a Past has `known` too, so that it is copied before it changes.
    """

    __slots__ = ("cpu", "given", "known", "time")

    def __init__(self, cpu: int):
        self.cpu, self.time, self.given = cpu, 1, False
        self.known: list[int] = []

    def of(self, cpu: int) -> int:
        """What it knows of a CPU's time."""
        if cpu == self.cpu:
            return self.time
        return self.known[cpu] if 0 <= cpu < len(self.known) else 0

    def now(self) -> Past:
        """This moment."""
        self.given = True
        return Past(self.cpu, self.time, self.known)

    def join(self, past: Past) -> None:
        """Know all that was known in that moment."""
        if self.given:
            self.known, self.given = self.known.copy(), False
        known, theirs = self.known, past.known
        while len(known) < len(theirs) or len(known) <= max(past.cpu, self.cpu):
            known.append(0)
        for cpu, time in enumerate(theirs):
            before = known[cpu]
            if before < time:
                known[cpu] = time
        if past.cpu >= 0 and past.time > known[past.cpu]:
            known[past.cpu] = past.time
        if self.cpu >= 0:
            known[self.cpu] = 0


class Access:
    """A context's access to a field.

    Attributes:
        n: the context's number of the operation.
        slot: of the struct's record.
        missing: the locks that guard the field and are not held, in words; None: it is guarded.
    """

    __slots__ = ("field", "missing", "n", "obj", "slot", "write")

    def __init__(self, n: int, obj: Struct, field: FieldBase, slot: int, write: bool, missing: str | None):
        self.n, self.obj, self.field, self.slot, self.write, self.missing = n, obj, field, slot, write, missing


class Where:
    """From where an access was made; put into words only if it races.

    Attributes:
        held: the locks that the context holds.
    """

    __slots__ = ("access", "cpu", "ctx", "function", "held")

    def __init__(self, ctx: Context, access: Access):
        self.ctx, self.cpu, self.function = ctx.name, ctx.cpu, ctx.stack[-1] if ctx.stack else "user"
        self.held, self.access = tuple(ctx.held), access


#: clock, guarded, and what describes the access
Seen = tuple[int, bool, Where]
#: how much had happened before something: a number of events, and then the place, for there may be a tie
Moment = tuple[int, str, int]


class RaceDetector:
    """The method, for one execution."""

    def __init__(self) -> None:
        self.clocks: dict[str, Clock] = {}
        self.asked: str | None = None  # the CPU whose clock was asked for last: mostly the next, too
        self.clock = Clock(-1)
        self.locks: dict[int, Past] = {}  # lock -> its last release
        self.places: dict[int, Past] = {}  # what else orders operations, as in ORDERS -> the last of them
        self.granted: dict[str, Past] = {}  # context that waited -> what came before its wait's end
        self.raised: dict[str, deque[Past]] = {}  # interrupt -> for each time that it was raised, what came before
        self.writes: dict[tuple[int, int], tuple[int, Seen]] = {}
        self.reads: dict[tuple[int, int], dict[int, Seen]] = {}

    def _of(self, cpu: str) -> Clock:
        if cpu is not self.asked:
            self.asked, known = cpu, self.clocks.get(cpu)
            if known is None:
                known = self.clocks[cpu] = Clock(len(self.clocks))
            self.clock = known
        return self.clock

    def moment(self, cpu: str, k: int) -> Moment:
        """How much has happened before operation `k` of a CPU, which is about to be performed."""
        clock = self._of(cpu)
        return clock.time + sum(clock.known), cpu, k

    def operation(
        self, cpu: str, code: str, target: int, result: object, granted: Sequence[str] = (), raised: Sequence[str] = ()
    ) -> None:
        """An operation, of a kind in TRACKED, was performed.

        Args:
            granted: contexts whose wait it ended.
            raised: interrupts.
        """
        if code in ("lock", "upgrade") or (code == "try" and result):
            if result is not WAIT:
                self.acquires(cpu, target)
            return
        if code in ("unlock", "downgrade"):
            self.releases(cpu, target, granted)
            return
        mine = self._of(cpu)
        orders = ORDERS.get(code)
        if orders is not None:
            place = orders[0] or target
            last = self.places.get(place)
            if orders[1]:
                _acquire(mine, last)
            self.places[place] = _release(mine, last)
        if granted or raised:
            sent = mine.now()
            for ctx in granted:
                self.granted[ctx] = sent
            for ctx in raised:
                self.raised.setdefault(ctx, deque()).append(sent)
            mine.time += 1

    def acquires(self, cpu: str, lock: int) -> None:
        """A CPU gets a lock at once."""
        _acquire(self._of(cpu), self.locks.get(lock))

    def releases(self, cpu: str, lock: int, granted: Sequence[str]) -> None:
        """A CPU gives up a lock, and these contexts get it."""
        mine = self._of(cpu)
        sent = self.locks[lock] = _release(mine, self.locks.get(lock))
        if granted:
            for ctx in granted:
                self.granted[ctx] = sent
            mine.time += 1

    def goes_on(self, ctx: str, cpu: str) -> None:
        """A context continues after a wait."""
        if ctx in self.granted:
            self._of(cpu).join(self.granted.pop(ctx))

    def interrupts(self, ctx: str, cpu: str) -> None:
        """An interrupt is taken."""
        raised = self.raised.get(ctx)
        if raised:
            self._of(cpu).join(raised.popleft())

    def access(self, ctx: Context, access: Access) -> Finding | None:
        """A context performs an access; returns the race, if it is the second half of one."""
        obj, field, write, guarded = access.obj, access.field, access.write, access.missing is None
        hint = field.is_hint(guarded)
        if hint and not write:
            return None
        mine, place = self._of(ctx.cpu), (obj.id, access.slot)
        cpu, clash = mine.cpu, None
        last = self.writes.get(place)
        if last is not None and last[0] != cpu:
            clash = _clash(mine, last[0], last[1], guarded)
        if write and clash is None and not hint:
            for other, seen in self.reads.get(place, {}).items():
                if other != cpu and clash is None:
                    clash = _clash(mine, other, seen, guarded)
        now = Where(ctx, access)
        if write:
            self.writes[place] = (cpu, (mine.time, guarded, now))
            if place in self.reads:
                del self.reads[place]
        else:
            self.reads.setdefault(place, {})[cpu] = (mine.time, guarded, now)
        if clash is None:
            return None
        where = field.name if field.name != "[]" else "an element"
        text = f"data race in {ctx.function} on {where} of {obj}"
        story = [_words(clash), _words(now), "neither happens before the other"]
        return _finding("data-race", text, ctx, str(obj), story)


def _clash(mine: Clock, who: int, seen: Seen, guarded: bool) -> Where | None:
    """What describes the earlier access, if a later one with clock `mine` races with it."""
    clock, other_guarded, about = seen
    return about if clock > mine.of(who) and not (guarded and other_guarded) else None


def _words(where: Where) -> str:
    access = where.access
    locks = ", ".join(lock_name(lock.key) for lock in where.held) or "no lock"
    rule = "" if access.missing is None else f", without its guard ({access.missing})"
    what = "store to" if access.write else "load of"
    by = f"{where.ctx} on {where.cpu}, operation {access.n}, in {where.function}"
    return f"{what} {access.obj}.{access.field.name} by {by}, holding {locks}{rule}"


def _finding(kind: str, text: str, ctx: Context, subject: str, story: Sequence[str] = ()) -> Finding:
    """A finding of a context in its present state."""
    stack, held = list(ctx.stack), ctx.held_as_text()
    return Finding(kind, text, ctx.name, ctx.function, subject, stack=stack, held=held, story=list(story))


def _acquire(mine: Clock, last: Past | None) -> None:
    """A CPU comes after what was done last at a place, if anything was."""
    if last is not None and mine.of(last.cpu) < last.time:
        mine.join(last)


def _release(mine: Clock, last: Past | None) -> Past:
    """A CPU has done something at a place; returns what the next CPU at this place will know."""
    if last is None or mine.of(last.cpu) >= last.time:
        known = mine.now()
    else:  # others have released it since this CPU took it, to share
        both = Clock(-1)
        both.join(last)
        both.join(mine.now())
        known = Past(-1, 1, both.known)
    mine.time += 1
    return known


class Watch:
    """Follows one execution by its records, from the heap that setup leaves.

    Args:
        images: node -> its image; those of the memory nodes are looked at.
    """

    def __init__(self, images: Images):
        self.guards = Guards(heap_of(images))
        self.detector = RaceDetector()
        self.contexts: dict[str, Context] = {}
        self.before: dict[str, str] = {}  # context -> its last operation
        self.asked: dict[str, Held] = {}  # context that waits for a lock -> its entry in `held`
        self.races: dict[tuple[str, str, str], tuple[Moment, Finding]] = {}
        self.pairs: dict[tuple[str, str], tuple[Moment, Finding]] = {}  # classes of locks: held, and taken

    def findings(self) -> list[Finding]:
        """What was seen, in an order in which it can have happened; of races that look the same, the first."""
        timed = [*self.races.values(), *self._reversals()]
        return [finding for _, finding in sorted(timed, key=lambda pair: pair[0])]

    def _reversals(self) -> list[tuple[Moment, Finding]]:
        stated, seen, reversals = LockOrder(), LockOrder(), []
        for (held, wanted), (moment, finding) in sorted(self.pairs.items(), key=lambda item: item[1][0]):
            if stated.against([held], wanted, finding.function) is not None:
                continue  # the port has said so
            against = seen.against([held], wanted, finding.function)
            if against is None:
                seen.learn([held], wanted, finding.function)
            else:
                finding.text = f"lock order reversal: {against}"
                reversals.append((moment, finding))
        return reversals

    # -- what it is told -------------------------------------------------------------

    def record(self, record: Record) -> None:
        """The next record, in an order that the journals allow."""
        name, event = record["ctx"], record["event"]
        ctx = self.contexts.get(name)
        if ctx is None:
            ctx = self.contexts[name] = Context(name, record["cpu"] if "cpu" in record else record["node"])
        if "k" not in record:
            if event == "enter":
                ctx.stack.append(record["fn"])
            elif event == "exit":
                ctx.stack.pop()
            elif event == "claim":
                self.guards.claim(ctx, parse_handle(record["obj"]))
            return
        before, self.before[name] = self.before.get(name, ""), event
        if not goes_to_sleep(record, before):
            self.detector.goes_on(name, ctx.cpu)
            if name in self.asked:
                entry = self.asked.pop(name)
                ctx.gets(entry)
        if "refused" in record:
            return
        if event in ("load", "store"):
            self._access(ctx, record, event == "store")
        elif event == "intr":
            self.detector.interrupts(name, ctx.cpu)
        elif event in TRACKED:
            self._operation(ctx, record)

    def _operation(self, ctx: Context, record: Record) -> None:
        event = record["event"]
        about = record.get(OPERATIONS[event].target, 0)
        target: int = about if isinstance(about, int) else 0  # the name of a lock or of a channel, which orders nothing
        result = WAIT if "wait" in record else record.get("got")
        if "lock" in record:
            ref = _lock(record["lock"])
            target = ref.key
            if event == "lock" and ctx.held and ctx.holds(target) is None and record["lock"] != KERNEL_LOCK:
                self._takes(ctx, record, ref)
        released = (*record.get("granted", ()), *record.get("woke", ()))
        self.detector.operation(ctx.cpu, event, target, result, released, record.get("raised", ()))
        if "lock" in record:
            if record["lock"] != KERNEL_LOCK:  # (which is not in LOCKDEBUG's lists)
                self._lock(ctx, record, ref, result)
        elif event == "alloc":
            obj = parse_handle(record["obj"])
            self.guards.heap.add(obj.id, obj.gen, [*type(obj).defaults, *([None] * record["length"])])
            self.guards.claim(ctx, obj)
        elif event == "renew":
            obj = parse_handle(record["obj"])
            self.guards.heap.renew(obj.id, record["gen"], list(type(obj).defaults))
            self.guards.claim(ctx, obj)
        elif event == "free":
            self.guards.heap.remove(parse_handle(record["obj"]).id)

    def _lock(self, ctx: Context, record: Record, ref: LockRef, result: object) -> None:
        event = record["event"]
        if event == "unlock":
            ctx.drops(ref.key)
        elif event in ("downgrade", "upgrade"):
            held = ctx.holds(ref.key)
            entry = Held(ref, "r" if event == "downgrade" else "w", ctx.function if held is None else held.since)
            if result is WAIT:
                self.asked[ctx.name] = entry
            else:
                ctx.gets(entry)
        elif result is WAIT:
            self.asked[ctx.name] = Held(ref, record["mode"], record["fn"])
        elif event == "lock" or result:
            ctx.gets(Held(ref, record["mode"], record["fn"]))

    def _takes(self, ctx: Context, record: Record, ref: LockRef) -> None:
        """A lock is asked for while others are held."""
        moment = self.detector.moment(ctx.cpu, record["k"])
        for held in {lock.ref.cls: None for lock in ctx.held}:
            known = self.pairs.get((held, ref.cls))
            if held != ref.cls and (known is None or moment < known[0]):
                self.pairs[held, ref.cls] = moment, _finding("lock-order-reversal", "", ctx, ref.owner)

    def _access(self, ctx: Context, record: Record, write: bool) -> None:
        obj = parse_handle(record["obj"])
        rec = self.guards.heap.find(obj)
        if rec is None:
            return
        kind = type(obj)
        field = kind.fields[record["field"]] if record["field"] != "[]" else kind.element
        assert field is not None
        field = peek_of(field) if "peek" in record else field
        private = rec.owner is ctx
        if not private:
            rec.owner = None
        slot = record["slot"]
        if field.mode != "const":
            guarded = private or self.guards.guarded(ctx, obj, field, write)
            hint = field.is_hint(guarded)
            missing = None if guarded else "" if hint and not write else self.guards.missing(ctx, obj, field, write)
            race = self.detector.access(ctx, Access(record["n"], obj, field, slot, write, missing))
            if race is not None:
                moment = self.detector.moment(ctx.cpu, record["k"])
                known = self.races.get(race.signature)
                if known is None or moment < known[0]:
                    self.races[race.signature] = moment, race
        if write:
            text = record["value"]
            value = rec[slot] = (parse_handle(text) if isinstance(text, str) else None) or text
            if rec.owner is None and isinstance(value, Struct):
                self.guards.publish(value)


#: nodes whose operations, other than accesses, order others or change who holds a lock
_TELLING = (*ORDERED, "lock_manager", "devices")
#: operations, other than accesses, that order others or change who holds a lock or owns a struct
TRACKED = frozenset(code for code, op in OPERATIONS.items() if op.node in _TELLING) | {"alloc", "renew", "free"}


@cache
def _lock(name: str) -> LockRef:
    """The handle of a lock, from its name in a record."""
    owner, _, field = name.rpartition(".")
    obj = parse_handle(f"{owner}#0")
    decl = type(obj).lock_fields[field]
    return LockRef(obj.id << LOCK_SHIFT | decl.index, decl, obj)


def judge_journals(images: Images, journals: Journals) -> list[Finding]:
    """The races and lock order reversals of a run, from its journals and the image that it began with.

    Raises: LogIncomplete - there is no order of the operations that all of them allow.
    """
    watch = Watch(images)
    for record in in_order(journals):
        watch.record(record)
    return watch.findings()
