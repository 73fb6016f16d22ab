"""The data race detector: vector clocks for happens-before, guards for locksets.

Two accesses to one field by different CPUs race if one of them writes, neither
happens before the other, and at least one was made without the field's guard.
Happens-before comes from locks, wakeups, grants, interrupts, the mmu's own
serialization of what is done to one pmap or frame, and the queues of the swap
pager and the disk: a request comes before the device's taking it, and so before
its completion. LWPs of one CPU never race, because the kernel is not preemptive.
A field marked as a hint is read unguarded on purpose, so only two writes of it
can race.

Source of the method: Flanagan and Freund, "FastTrack" (2009); the guards are
UVM's own field markings (shared/struct.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shared.messages import OPERATIONS, WAIT
from shared.struct import lock_name

if TYPE_CHECKING:
    from shared.port import Context
    from shared.struct import FieldBase, Struct

#: nodes whose operations order what comes before and after them
ORDERED = ("mmu", "swap_pager", "disk")
#: targets of the requests to a device; from other requests these learn nothing
REQUESTED = ("slot", "block")
Clock = dict[str, int]
#: of a lock: the CPU that released it last, that CPU's own time then, its whole clock. Whoever knows of that moment
#: knows all that was known then, so that mostly no clocks need be compared. No CPU ("") if several shared it.
Release = tuple[str, int, Clock]
#: clock, guarded, and what describes the access (put into words only if it races)
Seen = tuple[int, bool, tuple[Any, ...]]


class RaceDetector:
    """Watches one execution."""

    def __init__(self) -> None:
        self.clock: dict[str, Clock] = {}
        self.locks: dict[tuple[str, int], Release] = {}
        self.pending: dict[str, Clock] = {}
        self.writes: dict[tuple[int, int], tuple[str, Seen]] = {}
        self.reads: dict[tuple[int, int], dict[str, Seen]] = {}

    def _of(self, cpu: str) -> Clock:
        clock = self.clock.get(cpu)
        if clock is None:
            clock = self.clock[cpu] = {cpu: 1}
        return clock

    def operation(self, cpu: str, code: str, target: int, result: Any, to: list[str]) -> None:
        """An operation was performed.

        Args:
            to: the CPUs to which it caused deliveries.
        """
        if code in ("load", "store", "word_read", "word_write"):
            return
        mine = self._of(cpu)
        if code in ("lock", "upgrade") or (code == "try" and result):
            if result is not WAIT:
                self._acquire(mine, ("lock", target))
        elif code in ("unlock", "downgrade"):
            self._release(cpu, mine, ("lock", target))
        elif (op := OPERATIONS[code]).node in ORDERED:
            place = op.node, target if op.node == "mmu" else 0
            if op.target not in REQUESTED:
                self._acquire(mine, place)
            self._release(cpu, mine, place)
        if to:
            for other in to:
                _join(self.pending.setdefault(other, {}), mine)
            mine[cpu] += 1

    def _acquire(self, mine: Clock, place: tuple[str, int]) -> None:
        last = self.locks.get(place)
        if last is not None and mine.get(last[0], 0) < last[1]:
            _join(mine, last[2])

    def _release(self, cpu: str, mine: Clock, place: tuple[str, int]) -> None:
        last = self.locks.get(place)
        if last is None or mine.get(last[0], 0) >= last[1]:
            self.locks[place] = cpu, mine[cpu], mine.copy()
        else:  # others have released it since this CPU took it, to share
            both = mine.copy()
            _join(both, last[2])
            self.locks[place] = "", 1, both
        mine[cpu] += 1

    def resumed(self, cpu: str) -> None:
        """A context of this CPU goes on after a grant, a wakeup or an interrupt."""
        pending = self.pending.pop(cpu, None)
        if pending is not None:
            _join(self._of(cpu), pending)

    def access(
        self, ctx: Context, obj: Struct, field: FieldBase, slot: int, write: bool, guarded: bool
    ) -> tuple[str, tuple[str, ...]] | None:
        """An access to a field; returns what it races with and how to say so, if it does."""
        if field.hint and not write:
            return None
        cpu, mine, place = ctx.cpu, self._of(ctx.cpu), (obj.id, slot)
        found = None
        last = self.writes.get(place)
        if last is not None and last[0] != cpu:
            found = _clash(mine, last[0], last[1], guarded)
        if write and found is None and not field.hint:
            for who, seen in self.reads.get(place, {}).items():
                if who != cpu and found is None:
                    found = _clash(mine, who, seen, guarded)
        now = (ctx.name, cpu, ctx.n + 1, ctx.stack[-1] if ctx.stack else "user", tuple(ctx.held), write, guarded)
        if write:
            self.writes[place] = (cpu, (mine[cpu], guarded, now))
            self.reads.pop(place, None)
        else:
            self.reads.setdefault(place, {})[cpu] = (mine[cpu], guarded, now)
        if found is None:
            return None
        where = field.name if field.name != "[]" else "an element"
        text = f"data race in {ctx.function} on {where} of {obj}"
        return _words(found, obj, field), (text, _words(now, obj, field), "neither happens before the other")


def _clash(mine: Clock, who: str, seen: Seen, guarded: bool) -> tuple[Any, ...] | None:
    """What describes the earlier access, if a later one with clock `mine` races with it."""
    clock, other_guarded, about = seen
    return about if clock > mine.get(who, 0) and not (guarded and other_guarded) else None


def _words(access: tuple[Any, ...], obj: Struct, field: FieldBase) -> str:
    name, cpu, n, fn, held, write, guarded = access
    locks = ", ".join(lock_name(key) for key in held) or "no lock"
    rule = "" if guarded else f", without its guard ({field.marking})"
    what = "store to" if write else "load of"
    return f"{what} {obj}.{field.name} by {name} on {cpu}, operation {n}, in {fn}, holding {locks}{rule}"


def _join(into: Clock, other: Clock | None) -> None:
    if other:
        for key, value in other.items():
            if value > into.get(key, 0):
                into[key] = value
