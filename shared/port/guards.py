"""Who may access a field: locks held, and structs that no other context can reach yet.

Looks at a heap (heap.py), the simulator's own or a heap that the race detector builds again from journals, so that both
give the same answer.

A struct is private to the context that has just allocated it, or taken it off a free list, until its
handle is stored where others can find it, or another context touches it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.port.heap import Heap
from shared.port.struct import LOCK_SHIFT, Struct, lock_name

if TYPE_CHECKING:
    from shared.port.port import Context
    from shared.port.struct import FieldBase, Guard


class Guards:
    """The rules, over one heap.

    Args:
        heap: whose records say who owns what.
    """

    __slots__ = ("heap",)

    def __init__(self, heap: Heap):
        self.heap = heap

    def guarded(self, ctx: Context, obj: Struct, field: FieldBase, write: bool) -> bool:
        """Does the context hold what guards the field, in the mode that the access needs?"""
        if not ctx.held:
            return False
        if field.own_lock >= 0:
            entry = ctx.holds(obj.id << LOCK_SHIFT | field.own_lock)
            return entry is not None and (not write or entry.mode == "w")
        for guard in field.write_any if write else field.read_any:
            entry = ctx.holds(guard.fixed if guard.fixed >= 0 else guard.key(self.heap, obj))
            if entry is not None and (not write or entry.mode == "w"):
                return True
        for alternative in field.write if write else field.read:
            if len(alternative) > 1 and all(self._holds(ctx, obj, guard, write) for guard in alternative):
                return True
        return False

    def _holds(self, ctx: Context, obj: Struct, guard: Guard, write: bool) -> bool:
        entry = ctx.holds(guard.key(self.heap, obj))
        return entry is not None and (not write or entry.mode == "w")

    def missing(self, ctx: Context, obj: Struct, field: FieldBase, write: bool) -> str:
        """Which locks guard the field just now and are not held as the access needs, in words.

        As `anon:16.an_lock, not held`; of several alternatives each is told, of locks that are needed together those
        that are missing.
        """
        lacking = []
        for alternative in field.write if write else field.read:
            words = []
            for guard in alternative:
                key = guard.key(self.heap, obj)
                entry = ctx.holds(key)
                if key < 0:
                    words.append(f"the lock of its owner, and {obj} has none")
                elif entry is None:
                    words.append(f"{lock_name(key)}, not held")
                elif write and entry.mode != "w":
                    words.append(f"{lock_name(key)}, held shared")
            lacking.append(" and ".join(words))
        return " or ".join(lacking)

    def claim(self, ctx: Context, obj: Struct) -> None:
        """The struct is this context's own until another touches it."""
        rec = self.heap.find(obj)
        if rec is not None:
            self.heap.touch(obj.id, rec)
            rec.owner = ctx

    def publish(self, obj: Struct) -> None:
        """A handle was stored where others can find it: what it leads to is not private any more."""
        rec = self.heap.find(obj)
        if rec is None or rec.owner is None:  # mostly
            return
        reached = [obj]
        while reached:
            rec = self.heap.find(reached.pop())
            if rec is not None and rec.owner is not None:
                rec.owner = None
                reached += [value for value in rec.fields if isinstance(value, Struct)]
