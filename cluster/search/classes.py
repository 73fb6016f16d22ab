"""Which executions differ only in the order of what commutes: a hash of the partial order, made as they go.

Two executions are in one happens-before class if one becomes the other by exchanging neighbouring operations that have
nothing to do with each other (Mazurkiewicz's traces). Each operation gets a hash over what came before it: the last
operation of its context, the last write to what it touches and, if it writes, the reads since then. The last hashes of
all contexts tell the class.

Whether two operations are dependent is taken from their targets alone, so some independent operations count as
dependent: all operations of a node other than memory and the lock manager do. So two classes may be counted where there
is one, and never one where there are two, except that accesses without a scheduling point are not seen: the locks over
them are.

Left out: how probable a finding is (cluster/search/chance.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cluster.search.strategy import Strategy
from cluster.search.touch import (
    FAMILIES,
    LOCK,
    MEMORY,
    MMU,
    NOTHING,
    WORD,
    Location,
    family_of,
    location,
    target_of,
    touched_by,
    where,
    writes,
)
from nodes.cpu import Thread
from shared.wire.messages import OPERATIONS

#: an operation's number, for a hash that is the same in every process
CODES = {code: number for number, code in enumerate([*OPERATIONS, "access"])}
#: family of the processors, which are locations too
PROCESSOR = MEMORY + 1
#: of hashes that are added
MASK = (1 << 61) - 1
#: classes that are told apart at most
MOST = 1 << 20


class PartialOrder:
    """The partial order of one execution, so far.

    Attributes:
        contexts: hash of each context's last operation, by its place in context order.
        writes: of the last operation that changed a location; reads: sum of those that read it since.
        requests: contexts that have asked for a lock, and have not gone on since, with the lock. It counts when it is
            got, and not when it is asked for: queueing for a lock is the same as asking later.
        raised: interrupt, by its place in context order -> hashes of the operations that raised it, and that it has not
            been taken for.
    """

    def __init__(self) -> None:
        self.contexts: dict[int, int] = {}
        self.writes: dict[Location, int] = {}
        self.reads: dict[Location, int] = {}
        self.requests: dict[Thread, int] = {}
        self.raised: dict[int, list[int]] = {}

    def clear(self) -> None:
        """Before the first operation."""
        self.contexts.clear()
        self.writes.clear()
        self.reads.clear()
        self.requests.clear()
        self.raised.clear()

    def performs(self, thread: Thread) -> None:
        """A context performs its pending operation, or continues behind a wait."""
        takes, asks = thread.processor.takes(thread), thread.asks
        lock = self.requests.get(thread)
        if lock is not None and takes is None:
            self._got(thread, lock)
        if takes is not None:
            code = takes
        elif asks is not None:
            code = asks[0]
        else:
            if thread.waits is not None and lock is None:
                self._follows(thread, _waited_for(thread.waits), ())
            return
        if code in ("run", "intr", "iret"):
            raised = self.raised.get(thread.order) if code == "intr" else None
            also: Sequence[Location] = () if thread.waits is None else (_waited_for(thread.waits),)
            self._event(thread, code, _processor(thread), True, also, raised.pop(0) if raised else 0)
            return
        touched = NOTHING if asks is None else touched_by(asks)
        if touched == NOTHING:
            self._follows(thread, None, ())
            return
        at = where(touched)
        if family_of(at) == LOCK:
            target = target_of(at)
            for other in [other for other, lock in self.requests.items() if lock == target]:
                if other.holds(target) is not None:
                    self._got(other, target)
            if code == "lock":
                self.requests[thread] = target
                return
        also = (location(MMU), _processor(thread)) if family_of(at) == WORD else ()
        self._event(thread, code, _shared(at), writes(touched), also)

    def _got(self, thread: Thread, lock: int) -> None:
        """A context has got the lock that it asked for."""
        del self.requests[thread]
        self._event(thread, "lock", location(LOCK, lock), True, ())

    def causes(self, thread: Thread, by: Thread) -> None:
        """The operation of a context raises an interrupt."""
        if thread.interrupt:
            self.raised.setdefault(thread.order, []).append(self.contexts.get(by.order, by.order))

    def _event(
        self, thread: Thread, code: str, location: Location, writes: bool, also: Sequence[Location], cause: int = 0
    ) -> None:
        """An operation reads or changes a location; it depends on the last changes of others, and on its cause."""
        before = self.contexts.get(thread.order, thread.order)
        others = (cause, *[self.writes.get(other, 0) for other in also])
        write = self.writes.get(location, 0)
        if writes:
            now = hash((before, CODES[code], location, write, self.reads.pop(location, 0), others))
            self.writes[location] = now
        else:
            now = hash((before, CODES[code], location, write, others))
            self.reads[location] = (self.reads.get(location, 0) + now) & MASK
        for other in also:
            self.reads[other] = (self.reads.get(other, 0) + now) & MASK
        self.contexts[thread.order] = now

    def _follows(self, thread: Thread, location: Location | None, value: tuple[int, ...]) -> None:
        before = self.contexts.get(thread.order, thread.order)
        cause = 0 if location is None else self.writes.get(location, 0)
        self.contexts[thread.order] = hash((before, cause, value))

    def chooses(self, thread: Thread, value: int) -> None:
        """A context takes one of several data."""
        self._follows(thread, None, (value,))

    def digest(self) -> int:
        """Of the class that this execution is in, if it is over."""
        return hash(tuple(sorted(self.contexts.items())))


def _waited_for(waits: tuple[str, int]) -> Location:
    code, target = waits
    return _shared(location(FAMILIES[code], target))


def _shared(at: Location) -> Location:
    """All operations of a node other than memory and the lock manager are at the same location."""
    family = family_of(at)
    return at if family <= WORD else location(family)


def _processor(thread: Thread) -> Location:
    """The processor of a context; its number is the lowest place of its contexts."""
    return location(PROCESSOR, thread.processor.threads[0].order)


class Classes(Strategy):
    """Another strategy's choices; counts the happens-before classes of the executions.

    Attributes:
        seen: hash of a class -> executions in it. At most MOST; of those that come later none is told apart.
        once: classes with one execution.
        executions: counted.
    """

    def __init__(self, then: Strategy):
        self.then = then
        self.now: Strategy = then
        self.asked = False
        self.order = PartialOrder()
        self.picked: Thread | None = None
        self.seen: dict[int, int] = {}
        self.once = self.executions = 0

    def new_execution(self) -> bool:
        self.order.clear()
        self.picked = None
        begun = self.then.new_execution()
        self.now = self.then.chooser()
        self.asked = self.now.everywhere()
        return begun

    def count(self) -> bool:
        """The execution is over: count its class. Is it new?"""
        return self.add(self.order.digest())

    def add(self, known: int) -> bool:
        """Count an execution of the class with this hash. Is it new?"""
        self.executions += 1
        count = self.seen.get(known, 0)
        if not count and len(self.seen) >= MOST:
            return True
        self.seen[known] = count + 1
        self.once += (count == 0) - (count == 1)
        return not count

    def begins(self, threads: Mapping[str, Thread], ran: Thread | None) -> None:
        self.now.begins(threads, ran)

    def everywhere(self) -> bool:
        return True

    def caused(self, thread: Thread) -> None:
        if self.picked is not None:
            self.order.causes(thread, self.picked)

    def pick(self, enabled: Sequence[Thread], current: Thread | None) -> Thread | None:
        if current is not None and len(enabled) == 1 and not self.asked:
            picked: Thread | None = current
        else:
            picked = self.now.pick(enabled, current)
        if picked is not None:
            self.order.performs(picked)
        self.picked = picked
        return picked

    def choose(self, n: int) -> int:
        value = self.now.choose(n)
        assert self.picked is not None, "a context has been picked"
        self.order.chooses(self.picked, value)
        return value
