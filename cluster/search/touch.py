"""What an operation touches: which pending operations of two contexts may make a difference to each other.

An approximation for strategies that only aim by it: sharing may be said of two operations that commute, such as two
accesses of users at the same offset of different frames, and it is not said where the effect takes a longer way (a
TLB entry, the processor that two contexts share, a struct that is freed).
"""

from __future__ import annotations

from typing import NamedTuple

from nodes.cpu import Pending
from shared.wire.messages import OPERATIONS

#: two users' accesses may be to the same word only if they agree in these bits of the address (the smallest page)
OFFSET = 63
LOCKS = ("lock", "try", "unlock", "downgrade", "upgrade")


class Touch(NamedTuple):
    """What one operation touches.

    Attributes:
        family, target, part: a field of a struct, a lock, a sleep channel, a word of a page, an object of a node.
        writes: does it change that, so that readers make a difference to it too?
    """

    family: str
    target: int
    part: int
    writes: bool


def touch(pending: Pending | None) -> Touch | None:
    """What an operation touches; None: nothing that another context can touch, or it is not known."""
    if pending is None:
        return None
    code, target, args = pending
    if code in ("load", "store"):
        slot = args[2]
        assert isinstance(slot, int)
        return Touch("field", target, slot, code == "store")
    if code in LOCKS:
        return Touch("lock", target, 0, True)
    if code == "access":
        va, write = args
        assert isinstance(va, int)
        return Touch("word", va & OFFSET, 0, bool(write))
    node = OPERATIONS[code].node
    return None if node == "cpu" else Touch(node, target, 0, True)


def meet(touch: Touch | None, other: Touch | None) -> bool:
    """Do two operations touch the same location, of which at least one changes it?"""
    if touch is None or other is None or not (touch.writes or other.writes):
        return False
    return touch.target == other.target and touch.part == other.part and touch.family == other.family
