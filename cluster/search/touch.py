"""What an operation touches: which pending operations of two contexts may make a difference to each other.

An approximation for strategies that only aim by it: sharing may be said of two operations that commute, such as two
accesses of users at the same offset of different frames, and it is not said where the effect takes a longer way (a
TLB entry, the processor that two contexts share, a struct that is freed).

A search asks this of every operation, so a location is three numbers, and nothing is made that need not be.
"""

from __future__ import annotations

from nodes.cpu import Thread
from shared.wire.messages import OPERATIONS

#: families of locations: a field of a struct, a lock, a sleep channel, a word of a page, and objects of a node
NOWHERE, FIELD, LOCK, CHANNEL, WORD, MMU, SWAP_PAGER, DISK, DEVICES, MEMORY = range(-1, 9)
#: operation -> family of what it touches; NOWHERE: nothing that another context can touch
FAMILIES = {
    code: {
        "cpu": NOWHERE, "lock_manager": CHANNEL, "mmu": MMU, "swap_pager": SWAP_PAGER, "disk": DISK, "devices": DEVICES,
        "memory": MEMORY,
    }[operation.node]
    for code, operation in OPERATIONS.items()
}  # fmt: skip
FAMILIES |= {"load": FIELD, "store": FIELD, "access": WORD}
FAMILIES |= dict.fromkeys(("lock", "try", "unlock", "downgrade", "upgrade"), LOCK)
#: two users' accesses may be to the same word only if they agree in these bits of the address (the smallest page)
OFFSET = 63

#: family, target, and which part of the target
Location = tuple[int, int, int]


class Touch:
    """The location that one operation touches.

    Attributes:
        writes: does it change the location, so that readers make a difference to it too?
    """

    __slots__ = ("location", "writes")

    def __init__(self, location: Location, writes: bool):
        self.location, self.writes = location, writes


def touch(thread: Thread) -> Touch | None:
    """What a context's pending operation touches; None: nothing that another context can touch, or it is not known."""
    asks = thread.asks
    return None if asks is None or thread.processor.takes(thread) is not None else touched_by(asks)


def touched_by(asks: tuple[str, int, tuple[object, ...]]) -> Touch | None:
    """What an operation touches, as Thread.asks has it; None: nothing that another context can touch."""
    code, target, args = asks
    family = FAMILIES[code]
    if family == FIELD:
        slot = args[2]
        assert isinstance(slot, int)
        return Touch((FIELD, target, slot), code == "store")
    if family == WORD:
        va, write = args
        assert isinstance(va, int)
        return Touch((WORD, va & OFFSET, 0), bool(write))
    return None if family == NOWHERE else Touch((family, target, 0), True)


def meet(touch: Touch | None, other: Touch | None) -> bool:
    """Do two operations touch the same location, of which at least one changes it?"""
    if touch is None or other is None or not (touch.writes or other.writes):
        return False
    return touch.location == other.location
