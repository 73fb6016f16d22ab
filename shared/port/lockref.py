"""Handles of locks: what `anon.an_lock` gives to kernel code.

Left out of NetBSD's: lock statistics, recursion, LK_DRAIN.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.port.port import here

if TYPE_CHECKING:
    from shared.locks.table import Lock as State
    from shared.locks.table import LockTable
    from shared.port.struct import Lock, Struct


class LockRef:
    """A lock inside a struct.

    Attributes:
        key: identity: the struct's id and the lock's number in it.
        cls: lock class, as in shared/locks/order.py.
        obj: the struct.
        owner: that, as `anon:5`.
        sleepable: a lockmgr lock (waits asleep) rather than a simple lock (spins).
        state: the lock in the table of its manager, if that is in this process and has been looked for.
    """

    __slots__ = ("decl", "key", "obj", "state")

    def __init__(self, key: int, decl: Lock, obj: Struct):
        self.key, self.decl, self.obj = key, decl, obj
        self.state: State | None = None

    @property
    def owner(self) -> str:
        return str(self.obj)

    @property
    def cls(self) -> str:
        return self.decl.cls

    @property
    def sleepable(self) -> bool:
        return self.decl.sleepable

    @property
    def phrase(self) -> str:
        """The function whose complaint LOCKDEBUG prints."""
        return "lockmgr" if self.decl.sleepable else "simple_lock"

    def state_in(self, table: LockTable) -> State:
        """The lock in a table, which is that of its manager."""
        state = self.state
        if state is None or state.table is not table:
            state = self.state = table.of(self.key)
        return state

    def lock(self) -> None:
        """simple_lock, or lockmgr(LK_EXCLUSIVE)"""
        here.port.lock(self, "w")

    def lock_shared(self) -> None:
        """lockmgr(LK_SHARED)"""
        here.port.lock(self, "r")

    def trylock(self) -> bool:
        """simple_lock_try, or lockmgr(LK_EXCLUSIVE | LK_NOWAIT)"""
        return here.port.trylock(self, "w")

    def unlock(self) -> None:
        """simple_unlock, or lockmgr(LK_RELEASE)"""
        here.port.unlock(self)

    def downgrade(self) -> None:
        """lockmgr(LK_DOWNGRADE)"""
        here.port.downgrade(self)

    def upgrade(self) -> None:
        """lockmgr(LK_UPGRADE)"""
        here.port.upgrade(self)

    def held(self) -> bool:
        """simple_lock_held: does *this* context hold it? Not an operation."""
        return here.port.cur.holds(self.key) is not None

    def held_exclusive(self) -> bool:
        """Does this context hold it exclusively? Not an operation."""
        entry = here.port.cur.holds(self.key)
        return entry is not None and entry.mode == "w"

    def __str__(self) -> str:
        return f"{self.owner}.{self.decl.name}"
