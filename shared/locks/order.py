"""The lock order, and the check for violations.

The text below is the order that UVM's sources state, between lock *classes*. Two
locks of one class (parent and child map, old and new anon) have no order here. A
context may take a lock against the order only with a try. The checker adds the
orders that it sees to the graph. So it finds a reversal even between classes that
the text does not mention, and even if the two halves happened at different times,
on different CPUs.

Sees: that a deadlock is possible, in a run without a deadlock.

Does not see: two locks of one class; locks taken with a try; waits for a BUSY page or for memory (the verdict sees
those that never end); the big lock; whether a third lock, held both times, prevents the deadlock.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from itertools import pairwise
from typing import Final

ORDER = """
map < amap < uobj < anon < pageq < fpageq
uobj < uao_list
map < map.hint
map < map.flags
anon < afree
anon < swap_data
pageq < swap_data
pageq < afree
pageq < pagedaemon
pageq < hash
pageq < pmap < fpageq
pmap < hash
proc < pagedaemon
swap_syscall < uobj
map < map.intrsafe < map.hint
map.intrsafe < uobj
map.intrsafe < kentry
"""


@cache
def parse(text: str) -> frozenset[tuple[str, str]]:
    """Pairs (before, after) of a text such as ORDER."""
    pairs: set[tuple[str, str]] = set()
    for line in text.splitlines():
        names = [name.strip() for name in line.split("<") if name.strip()]
        pairs.update(pairwise(names))
    return frozenset(pairs)


@cache
def stated(text: str) -> dict[str, dict[str, str]]:
    """Class -> the classes that come after it, and who says so."""
    edges: dict[str, dict[str, str]] = {}
    for before, after in parse(text):
        edges.setdefault(before, {})[after] = "the stated order"
    return edges


class Ever:
    """Every order that any of several LockOrders has learnt: where there is no path here, none of them has a path.

    It spares the searches of an engine's many executions, and changes no answer.

    Attributes:
        after: class -> the classes that come after it.
        clear: pairs (held, wanted) that nothing here contradicts.
    """

    __slots__ = ("after", "clear")

    def __init__(self, text: str = ORDER):
        self.after = {cls: set(after) for cls, after in stated(text).items()}
        self.clear: set[tuple[str, str]] = set()

    def learn(self, before: str, after: str) -> None:
        known = self.after.setdefault(before, set())
        if after not in known:
            known.add(after)
            self.clear.clear()

    def allows(self, held: str, wanted: str) -> bool:
        """Is there no path from `wanted` to `held`?"""
        pair = held, wanted
        if pair in self.clear:
            return True
        reached = [wanted]
        for cls in reached:  # grows
            reached += [after for after in self.after.get(cls, ()) if after not in reached]
        if held in reached:
            return False
        self.clear.add(pair)
        return True


#: lock class -> a number with one bit
_BITS: Final[dict[str, int]] = {}


def bit_of(cls: str) -> int:
    """The bit of a lock class in a set of lock classes, which is a number."""
    return _BITS.setdefault(cls, 1 << len(_BITS))


class LockOrder:
    """The order graph of an execution: what the text says, and what has been learnt since.

    Args:
        ever: of the LockOrders of this text that are made one after another; None: it is the only one.

    Attributes:
        learnt: (before, after) -> where that was seen first.
        settled: class -> the classes that were held when it was taken, and have been learnt: a set of bits.
    """

    def __init__(self, text: str = ORDER, ever: Ever | None = None) -> None:
        self.text, self.ever = text, Ever(text) if ever is None else ever
        self.learnt: dict[tuple[str, str], str] = {}
        self.settled: dict[str, int] = {}

    def against(self, held: Iterable[str], wanted: str, where: str) -> str | None:
        """A blocking acquisition of class `wanted` in function `where`, while classes `held` are held.

        Returns: None, or in words the path that says the opposite.
        """
        for cls in held:
            if cls == wanted or self.ever.allows(cls, wanted):
                continue
            edges = self._edges()
            path = _path(edges, wanted, cls)
            if path is not None:
                steps = " < ".join(path)
                return f"{wanted} is taken while {cls} is held (in {where}), but {steps} ({edges[path[0]][path[1]]})"
        return None

    def learn(self, held: Iterable[str], wanted: str, where: str) -> None:
        """This has been seen, and is part of the order from now on."""
        after = stated(self.text)
        for cls in held:
            if cls != wanted and wanted not in after.get(cls, ()):
                self.learnt.setdefault((cls, wanted), where)
                self.ever.learn(cls, wanted)

    def knows(self, held: int, wanted: str) -> bool:
        """Has `check` learnt this already?

        Args:
            held: the bits of the classes.
        """
        return not held & ~self.settled.get(wanted, 0)

    def check(self, held: Sequence[str], wanted: str, where: str) -> str | None:
        """As against(); learns what contradicts nothing."""
        wrong = self.against(held, wanted, where)
        if wrong is None:
            self.learn(held, wanted, where)
            known = self.settled.get(wanted, 0)
            for cls in held:
                known |= bit_of(cls)
            self.settled[wanted] = known
        return wrong

    def _edges(self) -> dict[str, dict[str, str]]:
        """Class -> the classes that come after it, and who says so."""
        edges = {cls: dict(after) for cls, after in stated(self.text).items()}
        for (before, after), where in self.learnt.items():
            edges.setdefault(before, {})[after] = f"seen in {where}"
        return edges


def _path(edges: Mapping[str, Mapping[str, str]], start: str, goal: str) -> list[str] | None:
    """A shortest way from one class to another."""
    queue, before = [start], {start: ""}
    for cls in queue:  # grows
        for after in edges.get(cls, ()):
            if after not in before:
                before[after] = cls
                queue.append(after)
            if after == goal:
                path = [goal]
                while path[0] != start:
                    path.insert(0, before[path[0]])
                return path
    return None
