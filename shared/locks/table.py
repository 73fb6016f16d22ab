"""The state of locks and sleep queues: a pure state machine, no waiting in it.

A lock has holders (one exclusive, or several shared) and a queue of waiters.
A request that cannot be granted queues and is granted by a later release, in
order of arrival. For a simple lock that loses no interleaving: a CPU that
spins is indistinguishable from a context that has not yet asked.

After a downgrade, readers pass queued writers until the downgrader releases or
upgrades: UVM marks the map BUSY meanwhile, and a writer that finds it so (or
was queued, LK_SLEEPFAIL) sleeps on "vmmapbsy" instead of in the lock's queue.

With LOCKDEBUG off a CPU that locks against itself queues behind itself for
ever, and unlocking somebody else's lock simply frees it, as on the machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

#: no contexts; never changed
NOBODY: Final[list[str]] = []
#: the modes of a lock in words
LOCK_MODES = {"r": "shared", "w": "exclusive"}


class Want(NamedTuple):
    """A holder or a waiter: who, how (r or w), and the function that asked."""

    ctx: str
    mode: str
    fn: str


class LockState(NamedTuple):
    """A lock that is held or wanted; the waiters in the order in which they will get it."""

    key: int
    holders: Sequence[Want]
    waiters: Sequence[Want]


class Claim:
    """A context that holds a lock, or waits for it: a Want that can be changed."""

    __slots__ = ("ctx", "fn", "mode")

    def __init__(self, ctx: str, mode: str, fn: str):
        self.ctx, self.mode, self.fn = ctx, mode, fn

    def as_want(self) -> Want:
        return Want(self.ctx, self.mode, self.fn)


def _wants(claims: list[Claim]) -> list[Want]:
    return [claim.as_want() for claim in claims]


class Lock:
    """One lock's holders and waiters.

    Attributes:
        table: that it is in.
        used: it has been asked for since the table was last emptied.
    """

    __slots__ = ("downgrader", "holders", "key", "table", "used", "waiters")

    def __init__(self, key: int, table: LockTable) -> None:
        self.key, self.table, self.used = key, table, False
        self.downgrader = ""
        self.holders: list[Claim] = []
        self.waiters: list[Claim] = []

    def admits(self, mode: str) -> bool:
        """Could a request of this mode be granted now, leaving the queue aside?"""
        return not self.holders or (mode == "r" and all(claim.mode == "r" for claim in self.holders))


class LockTable:
    """All locks and sleep queues of one lock manager. Holders and waiters are changed by its methods alone.

    Attributes:
        locks: that were ever asked for, by their keys; they stay, so that who asks often can keep them.
        used: those that were asked for since the table was last emptied, in that order.
    """

    def __init__(self) -> None:
        self.locks: dict[int, Lock] = {}
        self.used: list[Lock] = []
        self.sleepers: dict[int, list[Claim]] = {}

    def clear(self) -> None:
        """No lock is held or wanted, and nothing sleeps."""
        for lock in self.used:
            lock.downgrader, lock.used = "", False
            lock.holders.clear()
            lock.waiters.clear()
        self.used.clear()
        self.sleepers.clear()

    def of(self, key: int) -> Lock:
        """The lock with this key."""
        lock = self.locks.get(key)
        if lock is None:
            lock = self.locks[key] = Lock(key, self)
        return lock

    def _use(self, lock: Lock) -> None:
        if not lock.used:
            lock.used = True
            self.used.append(lock)

    def _used(self, key: int) -> Lock:
        lock = self.of(key)
        if not lock.used:
            raise KeyError(key)
        return lock

    def lock(self, ctx: str, key: int, mode: str, fn: str) -> bool:
        """Grant the lock, or queue the request and return False."""
        return self.take(self.of(key), ctx, mode, fn)

    def take(self, lock: Lock, ctx: str, mode: str, fn: str) -> bool:
        """The same, with the lock at hand."""
        self._use(lock)
        want = Claim(ctx, mode, fn)
        if lock.admits(mode) and (not lock.waiters or (mode == "r" and lock.downgrader)):
            lock.holders.append(want)
            return True
        lock.waiters.append(want)
        return False

    def trylock(self, ctx: str, key: int, mode: str, fn: str) -> bool:
        """Grant the lock or return False; never queues."""
        lock = self.of(key)
        self._use(lock)
        if lock.waiters or not lock.admits(mode):
            return False
        lock.holders.append(Claim(ctx, mode, fn))
        return True

    def unlock(self, ctx: str, key: int) -> list[str]:
        """Release, and return the contexts whose requests are granted by that."""
        return self.release(self.of(key), ctx)

    def release(self, lock: Lock, ctx: str) -> list[str]:
        """The same, with the lock at hand."""
        if len(lock.holders) == 1:
            lock.holders.clear()  # (a list that `pop` empties costs more the next time)
        elif lock.holders:
            mine = [claim for claim in lock.holders if claim.ctx == ctx] or lock.holders[:1]
            lock.holders.remove(mine[0])
        if lock.downgrader == ctx:
            lock.downgrader = ""
        return self._grant(lock) if lock.waiters else NOBODY

    def downgrade(self, ctx: str, key: int) -> list[str]:
        """Exclusive to shared; returns the readers let in by that. Raises: KeyError - it was not asked for."""
        lock = self._used(key)
        for claim in lock.holders:
            if claim.ctx == ctx:
                claim.mode = "r"
        lock.downgrader = ctx
        return self._grant(lock)

    def upgrade(self, ctx: str, key: int) -> bool:
        """Shared to exclusive, ahead of every waiter; False: must wait for other readers. Raises: as `downgrade`."""
        lock = self._used(key)
        me = next(claim for claim in lock.holders if claim.ctx == ctx)
        lock.holders.remove(me)
        lock.downgrader, me.mode = "", "w"
        if not lock.holders:
            lock.holders.append(me)
            return True
        lock.waiters.insert(0, me)
        return False

    def sleep(self, ctx: str, chan: int, wmesg: str) -> None:
        """Queue a context on a channel."""
        self.sleepers.setdefault(chan, []).append(Claim(ctx, wmesg, ""))

    def wakeup(self, chan: int) -> list[str]:
        """Empty the channel's queue and return who was on it."""
        return [claim.ctx for claim in self.sleepers.pop(chan, [])]

    def _grant(self, lock: Lock) -> list[str]:
        if lock.downgrader:
            granted = [want for want in lock.waiters if want.mode == "r"]
            lock.waiters = [want for want in lock.waiters if want.mode != "r"]
            lock.holders += granted
            return [want.ctx for want in granted]
        names = []
        while lock.waiters and lock.admits(lock.waiters[0].mode):
            want = lock.waiters.pop(0)
            lock.holders.append(want)
            names.append(want.ctx)
        return names

    def locked(self) -> list[LockState]:
        """The locks that are held or wanted: what a wait-for graph is made of."""
        return [
            LockState(lock.key, _wants(lock.holders), _wants(lock.waiters))
            for lock in self.used
            if lock.holders or lock.waiters
        ]

    def asleep(self) -> list[tuple[int, list[tuple[str, str]]]]:
        """Of each channel with sleepers, who they are: context and wmesg."""
        return [(chan, [(claim.ctx, claim.mode) for claim in queue]) for chan, queue in self.sleepers.items()]
