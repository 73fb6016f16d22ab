"""The simulator's short ways: loads and stores, by the thinning rule; locks.

Thinning: an access whose guard its context holds is not a scheduling point, unless
the field is *racy*: a hint, or seen unguarded in any execution so far (`racy`
grows; exploration continues with the larger set). A struct is private to its
creator until its handle is stored where others can find it, or another context
touches it; accesses to it are not points either. Every access is an operation
with a number nevertheless.

An access takes the short way if it needs no point and no race check: its struct is private to its context, or its guard
is held and its field is not racy. All shards of memory are one heap here, and an unrecorded access goes to this heap
without the node: `load` and `store` repeat what Port does (a point, an operation with a number) and what the memory
does (the generation is compared, the value fetched or put), and leave to the memory what it refuses. `lock` and
`unlock` do the same with the lock manager's table: nearly every other operation is one of the four.
"""

from __future__ import annotations

from typing import TypeVar

from cluster.machine import Machine
from nodes.build import alloc_shard
from nodes.cpu import Thread
from nodes.host.half import ProcessorPort
from nodes.lock_manager import LockManager
from shared.detectors.race import Access, RaceDetector
from shared.errors import PortDead
from shared.port.guards import Guards
from shared.port.heap import HEADER, Heap
from shared.port.lockref import LockRef
from shared.port.port import Context, Held, Value
from shared.port.struct import FieldBase, Struct
from shared.wire.messages import Grant

S = TypeVar("S", bound=Struct)


class ThinnedHeap(ProcessorPort):
    """The part of the simulator's port that accesses structs and takes locks.

    Args:
        booting: structs of a kind are numbered over all shards.
        racy: keys of fields that are scheduling points although guarded; grows.
        always: every access is a scheduling point.

    Attributes:
        every_access: that is so now.
        calm: the mark of each field that has been found not racy; another mark as soon as others are racy (`known`).
        grants: of a lock, to each context.
        heap: of all shards.
        fast: the execution is not recorded, and may pass over points.
        looks: the strategy looks at what contexts ask for.
        manager: of all locks, if the execution is not recorded, and no patch has replaced what the manager does.
        race: the race detector of an execution that is not recorded.
    """

    def __init__(self, machine: Machine, booting: bool, racy: set[str], always: bool):
        super().__init__(machine.scenario, machine.threads)
        self.machine, self.booting, self.racy, self.always = machine, booting, racy, always
        self.every_access = always
        self.calm, self.known = object(), set(racy)
        self.grants = {name: Grant(name, None) for name in machine.threads}
        self.heap = Heap()
        self.guards = Guards(self.heap)
        self.fast, self.looks = False, True
        self.manager: LockManager | None = None
        self.race: RaceDetector | None = None

    def _join_shards(self) -> None:
        """One address space over all memories; only numbering is per shard."""
        memories = self.machine.memories
        heap, frames = memories[0].heap, memories[0].frames
        for memory in memories:
            if memory is not memories[0]:
                heap.join(memory.heap)
                memory.heap = heap
                for number in range(memory.shard, len(frames), memory.shards):
                    frames[number] = memory.frames[number]
                memory.frames = frames
        self.heap = self.guards.heap = heap

    def _look_at_racy(self) -> None:
        """Other fields may be racy than before: what was found of fields does not hold any more."""
        if self.racy != self.known:
            self.calm, self.known = object(), self.racy.copy()

    def _calm(self, field: FieldBase) -> bool:
        """Is the field not racy? Asked once for each field; its mark says so from then on."""
        if field.key in self.racy:
            return False
        field.calm = self.calm
        return True

    def load(self, obj: Struct, field: FieldBase, slot: int) -> Value:
        ctx, rec = self.cur, obj.rec
        if self.fast and rec is not None and rec.gen == obj.gen and rec.home is self.heap:
            at = slot - HEADER
            if (field.calm is self.calm or self._calm(field)) and (not field.indexed or at < len(rec.fields)):
                if rec.owner is ctx:
                    ctx.n += 1
                    return rec.fields[at]
                if field.const or (not field.hint and self.guards.guarded(ctx, obj, field, False)):
                    rec.owner = None
                    ctx.n += 1
                    return rec.fields[at]
        self._access_point(ctx, obj, field, slot, "load", field.peek)
        if self.journals is not None:
            return self.perform("load", obj.id, (obj, field.name, slot, field.peek))
        if self.dead:
            raise PortDead
        rec = self.heap.find(obj)
        if rec is None or not rec.lives(obj) or (field.indexed and slot >= len(rec)):
            return self.perform("load", obj.id, (obj, field.name, slot, field.peek))  # the node will refuse it
        ctx.n += 1
        return rec.fields[slot - HEADER]

    def store(self, obj: Struct, field: FieldBase, slot: int, value: object) -> None:
        ctx, rec = self.cur, obj.rec
        if self.fast and rec is not None and rec.gen == obj.gen and rec.home is self.heap:
            at = slot - HEADER
            if (field.calm is self.calm or self._calm(field)) and (not field.indexed or at < len(rec.fields)):
                private = rec.owner is ctx
                if private or field.const or (not field.hint and self.guards.guarded(ctx, obj, field, True)):
                    ctx.n += 1
                    if not rec.touched:
                        self.heap.touch(obj.id, rec)
                    rec.fields[at] = value
                    if not private:
                        rec.owner = None
                        if isinstance(value, Struct):
                            self.guards.publish(value)
                    return
        self._access_point(ctx, obj, field, slot, "store", value)
        if self.dead:
            raise PortDead
        rec = self.heap.find(obj)
        if self.journals is None and rec is not None and rec.lives(obj) and not (field.indexed and slot >= len(rec)):
            ctx.n += 1
            self.heap.touch(obj.id, rec)
            rec.fields[slot - HEADER] = value
        else:
            self.perform("store", obj.id, (obj, field.name, slot, value))
            rec = self.heap.find(obj)
        if rec is not None and rec.owner is None and isinstance(value, Struct):
            self.guards.publish(value)

    def _access_point(self, ctx: Context, obj: Struct, field: FieldBase, slot: int, code: str, last: object) -> None:
        """A scheduling point before a load or store, unless the thinning rule says that none is needed.

        Args:
            last: of the operation's arguments.
        """
        write = code == "store"
        rec = self.heap.find(obj)
        private = rec is not None and rec.owner is ctx
        if rec is not None and not private:
            rec.owner = None
        if field.const:
            if self.every_access:
                self.point(code, obj.id, (obj, field.name, slot, last))
            return
        guarded = private or self.guards.guarded(ctx, obj, field, write)
        hint = field.is_hint(guarded)
        racy = hint or field.key in self.racy
        if not private and not guarded and not racy:
            self.racy.add(field.key)
            self._look_at_racy()
            racy = True
        if self.every_access or not (guarded and (private or not racy)):
            self.point(code, obj.id, (obj, field.name, slot, last) if self.looks else ())
        if self.race is not None and racy and (write or not hint):
            missing = None if guarded else self.guards.missing(ctx, obj, field, write)
            race = self.race.access(ctx, Access(ctx.n + 1, obj, field, slot, write, missing))
            if race is not None:
                level = self.detect.get("race", "stop")
                if level == "stop":
                    self.stop(race)
                self.notes.append(race)

    def lock(self, ref: LockRef, mode: str) -> None:
        manager, thread = self.manager, self.cur
        if manager is None:
            super().lock(ref, mode)
            return
        assert isinstance(thread, Thread)
        if thread.held or thread.level:
            self.check_lock(ref)
        key, function = ref.key, thread.function
        self.point("lock", key, (mode, function) if self.looks else ())
        thread.n += 1
        thread.processor.k += 1
        manager.admitted += 1
        if manager.table.take(ref.state_in(manager.table), thread.name, mode, function):
            if self.race is not None:
                self.race.acquires(thread.cpu, key)
        else:
            thread.ready = thread.woken = False
            thread.waits_since = manager.admitted
            self._wait_for_grant(thread, "lock", key)
        thread.gets(Held(ref, mode, function))

    def unlock(self, ref: LockRef) -> None:
        manager, thread, key = self.manager, self.cur, ref.key
        if manager is None:
            super().unlock(ref)
            return
        assert isinstance(thread, Thread)
        if thread.holds(key) is None:
            self.release_of_unlocked(ref)
        self.point("unlock", key, ())
        thread.n += 1
        thread.processor.k += 1
        manager.admitted += 1
        granted = manager.table.release(ref.state_in(manager.table), thread.name)
        if self.race is not None:
            self.race.releases(thread.cpu, key, granted)
        if granted:
            for ctx in granted:
                self._deliver(self.grants[ctx])
        thread.drops(key)  # not before: an interrupt may come in between

    def alloc(self, kind: type[S], length: int = 0) -> S:
        ctx = self.cur
        shard = self._boot_shard(kind) if self.booting else alloc_shard(ctx.name, ctx.n, self.memory_shards)
        obj: S = self.op("alloc", shard, (kind.kind, length))
        self.guards.claim(self.cur, obj)
        return obj

    def _boot_shard(self, kind: type[Struct]) -> int:
        """While booting, structs of a kind are numbered 0, 1, 2 ... over all shards."""
        shards = self.machine.memories
        return min(range(len(shards)), key=lambda at: shards[at].next_index.get(kind.kind, at))

    def renew(self, obj: S) -> S:
        fresh = super().renew(obj)
        self.guards.claim(self.cur, fresh)
        return fresh

    def claim(self, obj: Struct) -> None:
        if self.journals is not None:  # (all that the port does is to record it)
            super().claim(obj)
        self.guards.claim(self.cur, obj)
