"""The node that owns every lock and sleep queue (or, sharded, those of some structs)."""

from __future__ import annotations

from nodes.node import Node
from shared.locks.table import LockTable
from shared.wire.images import LocksImage
from shared.wire.messages import WAIT, Grant, Wake


class LockManager(Node):
    """Admits lock requests; see shared/locks/table.py for the rules."""

    kind = "lock_manager"

    def __init__(self, name: str):
        super().__init__(name)
        self.table = LockTable()

    def op_lock(self, ctx: str, key: int, mode: str, fn: str) -> object:
        return None if self.table.lock(ctx, key, mode, fn) else WAIT

    def op_try(self, ctx: str, key: int, mode: str, fn: str) -> bool:
        return self.table.trylock(ctx, key, mode, fn)

    def op_unlock(self, ctx: str, key: int) -> None:
        granted = self.table.unlock(ctx, key)
        if granted:
            self.out += [Grant(waiter, None) for waiter in granted]

    def op_downgrade(self, ctx: str, key: int) -> None:
        self.out += [Grant(waiter, None) for waiter in self.table.downgrade(ctx, key)]

    def op_upgrade(self, ctx: str, key: int) -> object:
        return None if self.table.upgrade(ctx, key) else WAIT

    def op_sleep(self, ctx: str, chan: int, wmesg: str, fn: str) -> None:
        self.table.sleep(ctx, chan, wmesg)

    def op_wakeup(self, ctx: str, chan: int) -> None:
        self.out += [Wake(sleeper) for sleeper in self.table.wakeup(chan)]

    def image(self) -> LocksImage:
        """Who sleeps where at the start; no lock is held then."""
        return self.table.asleep()

    def load_image(self, image: LocksImage) -> None:
        super().load_image(image)
        self.table.clear()
        for chan, queue in image:
            for ctx, wmesg in queue:
                self.table.sleep(ctx, chan, wmesg)
