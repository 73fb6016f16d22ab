"""What an operation touches: which pending operations of two contexts may make a difference to each other.

An approximation for strategies that only aim by it: sharing may be said of two operations that commute, such as two
accesses of users at the same offset of different frames, and it is not said where the effect takes a longer way (a
TLB entry, the processor that two contexts share, a struct that is freed).

A search asks this of every operation, so the answer is one number: the location, with whether the operation changes it.
Nothing has to be made for it, and it is a key of a dictionary as it is.
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

#: family, target, and which part of the target, in one number (`location`)
Location = int
#: a location, and behind it, in the lowest bit, whether the operation changes it: readers make a difference to it too
Touch = int
#: the operation touches nothing that another context can touch, or what it touches is not known
NOTHING: Touch = -1
#: bits of a family, and of a target
FAMILY_BITS, TARGET_BITS = 4, 44


def location(family: int, target: int = 0, part: int = 0) -> Location:
    """The number of a location; small enough for a machine word, unless the part is far behind in an array."""
    return part << (FAMILY_BITS + TARGET_BITS) | target << FAMILY_BITS | family


def family_of(location: Location) -> int:
    return location & (1 << FAMILY_BITS) - 1


def target_of(location: Location) -> int:
    return location >> FAMILY_BITS & (1 << TARGET_BITS) - 1


def touch(thread: Thread) -> Touch:
    """What a context's pending operation touches."""
    asks = thread.asks
    return NOTHING if asks is None or thread.processor.takes(thread) is not None else touched_by(asks)


def touched_by(asks: tuple[str, int, tuple[object, ...]]) -> Touch:
    """What an operation touches, as Thread.asks has it."""
    code, target, args = asks
    family = FAMILIES[code]
    if family == FIELD:
        slot = args[2]
        assert isinstance(slot, int)
        return location(FIELD, target, slot) << 1 | (code == "store")
    if family == WORD:
        va, write = args
        assert isinstance(va, int)
        return location(WORD, va & OFFSET) << 1 | bool(write)
    return NOTHING if family == NOWHERE else location(family, target) << 1 | 1


def where(touch: Touch) -> Location:
    """The location of an operation that touches something."""
    return touch >> 1


def writes(touch: Touch) -> bool:
    """Does an operation that touches something change it?"""
    return touch & 1 == 1


def meet(touch: Touch, other: Touch) -> bool:
    """Do two operations touch the same location, of which at least one changes it?"""
    return where(touch) == where(other) and touch != NOTHING and writes(touch | other)
