"""The kernel's heap: a record for each struct, and the way back to how the heap was.

The memory nodes keep one each (in the simulator all share one), and code that rebuilds memory from journals keeps one
of his own. A handle remembers its record (`Struct.rec`), so that an access needs no search; `home` tells whether that
record is of this heap, and the generation whether the handle is still good.

`keep` marks a state, `restore` returns to it: by undoing what was written since, so that this costs as much as has been
changed and not as much as there is.

Left out: who may access a record (guards.py), and what an access is (port.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from shared.port.port import ANY_GEN, Value

if TYPE_CHECKING:
    from shared.port.lockref import LockRef
    from shared.port.port import Context
    from shared.port.struct import Struct

#: number of a struct's first field; a record of an array has its elements behind its fields
HEADER = 2
#: generation of a record that is not in its heap any more
GONE = -1


class HeapRecord:
    """One struct.

    Attributes:
        gen: generation: the number of the life that the struct is in.
        owner: the context to which the struct is private. The thinning rule's; not part of the state.
        fields: field number HEADER and those behind it; a field holds what its struct declares.
        home: the heap that it is in.
        locks: handles of the struct's locks, by their numbers; [] until the first is asked for.
        kept: generation and fields to go back to; None: it was made since.
        touched: it may differ from these.
    """

    __slots__ = ("fields", "gen", "home", "kept", "locks", "owner", "touched")

    def __init__(self, gen: int, fields: list[Value], home: Heap | None = None):
        self.gen, self.fields, self.home = gen, fields, home
        self.owner: Context | None = None
        self.locks: list[LockRef] = []
        self.kept: tuple[int, list[Value]] | None = None
        self.touched = False

    def lives(self, obj: Struct) -> bool:
        """Is the handle good for the life that the struct is in?"""
        return obj.gen in (self.gen, ANY_GEN)

    def __getitem__(self, slot: int) -> Value:
        return self.fields[slot - HEADER]

    def __setitem__(self, slot: int, value: object) -> None:
        self.fields[slot - HEADER] = value

    def __len__(self) -> int:
        """Number of the first field that it does not have."""
        return HEADER + len(self.fields)


class Heap:
    """Records by their structs' ids.

    Attributes:
        changed: records that were touched, or that came or went, since `keep`, with their ids.
    """

    __slots__ = ("changed", "records")

    def __init__(self) -> None:
        self.records: dict[int, HeapRecord] = {}
        self.changed: list[tuple[int, HeapRecord]] = []

    def add(self, id: int, gen: int, fields: list[Value]) -> HeapRecord:
        """A new struct."""
        rec = self.records[id] = HeapRecord(gen, fields, self)
        rec.touched = True
        self.changed.append((id, rec))
        return rec

    def remove(self, id: int) -> None:
        """The struct is freed: every handle of it is stale from now on."""
        rec = self.records.get(id)
        if rec is not None:
            del self.records[id]
            self.touch(id, rec)
            rec.gen = GONE

    def renew(self, id: int, gen: int, fields: list[Value]) -> HeapRecord:
        """A new life of a type-stable struct."""
        rec = self.records.get(id)
        if rec is None:
            return self.add(id, gen, fields)
        self.touch(id, rec)
        rec.gen, rec.fields, rec.owner = gen, fields, None
        return rec

    def touch(self, id: int, rec: HeapRecord) -> None:
        """The record is about to be changed."""
        if not rec.touched:
            rec.touched = True
            self.changed.append((id, rec))

    def find(self, obj: Struct) -> HeapRecord | None:
        """The record of whatever lives at a handle's address, of any generation."""
        rec = obj.rec
        if rec is None or rec.home is not self or rec.gen == GONE:
            rec = self.records.get(obj.id)
            obj.rec = rec
        return rec

    def peek(self, obj: Struct, slot: int) -> Value:
        """What a field holds, whatever the handle's generation; None if there is no such struct. No operation."""
        rec = self.find(obj)
        return None if rec is None else rec.fields[slot - HEADER]

    def keep(self) -> None:
        """Keep the present state for `restore`."""
        self.changed.clear()
        for rec in self.records.values():
            rec.kept, rec.touched, rec.owner = (rec.gen, rec.fields.copy()), False, None

    def restore(self) -> None:
        """Back to the state of the last `keep`; no context owns a struct."""
        for id, rec in self.changed:
            rec.owner, rec.touched = None, False
            if rec.kept is None:
                rec.gen = GONE
                self.records.pop(id, None)
                rec.fields.clear()  # its handles have it, and it has handles: no work for the garbage collector
                if rec.locks:
                    rec.locks.clear()
                continue
            if rec.gen == GONE:
                self.records[id] = rec
            rec.gen, kept = rec.kept
            rec.fields = kept.copy()
        self.changed.clear()

    def join(self, other: Heap) -> None:
        """Take over the records of another heap, which is given up."""
        for id, rec in other.records.items():
            self.records[id] = rec
            rec.home = self

    def get(self, id: int) -> HeapRecord | None:
        return self.records.get(id)

    def __getitem__(self, id: int) -> HeapRecord:
        return self.records[id]

    def __contains__(self, id: int) -> bool:
        return id in self.records

    def __iter__(self) -> Iterator[int]:
        return iter(self.records)
