"""LOCKDEBUG: what a CPU can check by itself of the locks that its contexts take and release.

It sees, as it happens, a context that asks for a lock which it holds, or which the context holds that it has
interrupted; that releases a lock which it does not hold; that sleeps or ends with a simple lock; that frees memory with
a held lock in it; and (port.py: kernel()) that leaves a function with other locks than its contract says. It does not
see a lock that was never taken (race.py does), a release that another context owes, or the big lock.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from typing import TYPE_CHECKING

from shared.locks.order import LockOrder
from shared.port.reports import Reports

if TYPE_CHECKING:
    from shared.port.lockref import LockRef
    from shared.port.port import Context, Held
    from shared.port.struct import Struct


class Lockdebug(Reports):
    """The part of a port that checks locks.

    Attributes:
        order: of lock classes.
        learns_order: from what is seen, besides what is stated; else shared/detectors/race.py does, afterwards.
    """

    def __init__(self, errata: frozenset[str], detect: dict[str, str]):
        super().__init__(errata, detect)
        self.order = LockOrder()
        self.learns_order = False

    def check_lock(self, ref: LockRef) -> None:
        """A context does not take a lock that it holds, or that a context holds which it has interrupted; and the
        classes of the locks that it holds come before the class of this lock."""
        ctx = self.cur
        if ctx.holds(ref.key) is not None or (ctx.level and not ref.sleepable and self.interrupted_holds(ref.key)):
            self.report("locking-against-myself", f"{ref.phrase}: locking against myself", subject=ref.owner)
        elif ctx.held:
            wanted, bits = ref.decl.cls, 0
            for held in ctx.held:
                bits |= held.ref.decl.bit
            if (self.learns_order and self.order.knows(bits, wanted)) or self.detect.get("lockorder", "stop") == "off":
                return
            classes = [held.ref.decl.cls for held in ctx.held]
            if self.learns_order:
                against = self.order.check(classes, wanted, ctx.function)
            else:
                against = self.order.against(classes, wanted, ctx.function)
            if against is not None:
                self.report("lock-order-reversal", f"lock order reversal: {against}", subject=ref.owner)

    def release_of_unlocked(self, ref: LockRef) -> None:
        """Complain: a context releases a lock that it does not hold."""
        text = "lockmgr: release of unlocked lock!" if ref.sleepable else "simple_unlock: lock not held"
        self.report("lock-not-held", text, subject=ref.owner)

    def check_free(self, obj: Struct) -> None:
        """No lock in a struct that is freed is held."""
        for ref in obj.locks() if self.cur.held else ():
            if self.cur.holds(ref.key) is not None:
                self.report("freed-while-held", f"freeing {obj} with {ref} held", subject=str(obj))

    def check_sleep(self, why: str) -> None:
        """LOCKDEBUG: a context that gives up its CPU holds no simple lock; and an interrupt has no CPU to give up."""
        if self.cur.level:
            self.take(self._seen("panic", f"panic: ltsleep: an interrupt cannot sleep ({why})"), "stop")
        spinning = [held.ref for held in self.cur.held if not held.ref.sleepable]
        if spinning:
            self.report("held-across-sleep", f"switching with {spinning[0]} held ({why})", subject=spinning[0].owner)

    def check_exit(self, name: str, before: list[Held]) -> None:
        """LOCKDEBUG: the function `name` returns with the locks that it is to return with, and no others."""
        held = self.cur.held
        if held == before:
            return
        keys = {lock.key for lock in before}
        left = [lock.ref for lock in held if lock.key not in keys]
        if not left and len(held) == len(before):  # (as it has given up a lock meanwhile, and taken it again)
            return
        text = f"{name}: returns with {left[0]} held" if left else f"{name}: returns without a lock it was given"
        self.report("held-at-exit", text, subject=left[0].owner if left else "")

    def check_end(self) -> None:
        """LOCKDEBUG: a context that ends holds no lock."""
        for held in self.cur.held:
            text = f"{self.cur.name} ends with {held.ref} held since {held.since}"
            self.report("held-at-exit", text, subject=held.ref.owner, function=held.since)

    def interrupted_holds(self, key: int) -> bool:
        """Does a context that the given context, an interrupt, has interrupted hold the lock? LOCKDEBUG asks by CPU."""
        return any(context.holds(key) is not None for context in self.interrupted())

    @abstractmethod
    def interrupted(self) -> Iterable[Context]:
        """The contexts that have been interrupted on the current context's CPU."""
