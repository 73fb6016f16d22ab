"""Who uses a location, and how, as reads-from feedback tells operations apart (rff.py): by part and kernel function."""

from __future__ import annotations

from cluster.search.touch import Location, Touch, writes
from nodes.cpu import Thread

#: a kind of operation on a location: part and kernel function of its context
Kind = tuple[str, str]
#: a read, and the write that it reads from
Pair = tuple[Kind, Kind]
#: a location, who uses it and in which context, and whether that reads and writes
Sight = tuple[Location, Kind, str, bool, bool]
#: the writer of a location that no context has written
NOBODY: Kind = ("", "")


class Uses:
    """The uses of a location: kinds of reads and of writes, and names of contexts."""

    def __init__(self) -> None:
        self.reads: dict[Kind, None] = {}
        self.writes: dict[Kind, None] = {}
        self.contexts: set[str] = set()

    @property
    def shared(self) -> bool:
        """May it make a difference who reads from whom?"""
        return bool(self.reads) and bool(self.writes) and len(self.contexts) > 1


def kind_of(thread: Thread) -> Kind:
    return thread.name.rstrip("0123456789"), thread.function


def is_read(touched: Touch, thread: Thread) -> bool:
    """Does an operation read what it touches? All but stores and releases do."""
    asks = thread.asks
    return not writes(touched) or (asks is not None and asks[0] in ("lock", "try"))
