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

from collections.abc import Iterable, Sequence
from functools import cache
from itertools import pairwise

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


class LockOrder:
    """The order graph: what the text says, and what has been learnt since."""

    def __init__(self, text: str = ORDER) -> None:
        self.edges = stated(text)  # a dictionary that others have too: never changed, only replaced
        self.known: set[tuple[str, str]] = set()  # pairs that contradict nothing
        self.settled: dict[str, set[str]] = {}  # class -> those that were held when it was taken, and have been learnt

    def against(self, held: Iterable[str], wanted: str, where: str) -> str | None:
        """A blocking acquisition of class `wanted` in function `where`, while classes `held` are held.

        Returns: None, or in words the path that says the opposite.
        """
        for cls in held:
            if cls == wanted or (cls, wanted) in self.known:
                continue
            path = self._path(wanted, cls)
            if path is not None:
                steps = " < ".join(path)
                return (
                    f"{wanted} is taken while {cls} is held (in {where}), but {steps} ({self.edges[path[0]][path[1]]})"
                )
            self.known.add((cls, wanted))
        return None

    def learn(self, held: Iterable[str], wanted: str, where: str) -> None:
        """This has been seen, and is part of the order from now on."""
        for cls in held:
            after = self.edges.get(cls, {})
            if cls != wanted and wanted not in after:
                self.edges = {**self.edges, cls: {**after, wanted: f"seen in {where}"}}

    def check(self, held: Sequence[str], wanted: str, where: str) -> str | None:
        """As against(); learns what contradicts nothing."""
        settled = self.settled.get(wanted)
        if settled is None:
            settled = self.settled[wanted] = {wanted}
        if settled.issuperset(held):
            return None
        wrong = self.against(held, wanted, where)
        if wrong is None:
            self.learn(held, wanted, where)
            settled.update(held)
        return wrong

    def _path(self, start: str, goal: str) -> list[str] | None:
        """A shortest way from one class to another."""
        queue, before = [start], {start: ""}
        for cls in queue:  # grows
            for after in self.edges.get(cls, ()):
                if after not in before:
                    before[after] = cls
                    queue.append(after)
                if after == goal:
                    path = [goal]
                    while path[0] != start:
                        path.insert(0, before[path[0]])
                    return path
        return None
