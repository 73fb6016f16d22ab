"""The order of operations, from journals: a linearization, the causes of an operation, the past of a finding.

Every node numbers the operations that it admits, and every processor numbers those that it performs. These numbers and
the waits allow several orders of all operations; `linearize` always returns the same one. The causal past of a finding
is what happened before it. The nodes of a live run continue for a moment after a finding, so only its causal past is
judged.

Journals may be larger than memory: they are read as they are needed, and of the records before and behind it an order
keeps nothing. Two functions need more. `events_after` keeps a number for each operation. `causal_past` goes from the
finding back to what caused it, which may be anywhere, so it keeps the names, numbers and effects of all operations of a
run with a finding, but not their arguments and results.

Left out: the records themselves (record.py), and parts of runs (cut.py).
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from operator import itemgetter
from sys import intern

from shared.errors import LogIncomplete
from shared.journal.record import Held, Journals, Record, names_of
from shared.journal.row import Row, Shapes

#: name of the big lock, which an LWP gives up when it goes to sleep
KERNEL_LOCK = "kernel:0.kernel_lock"
_NUMBER, _PLACE = itemgetter("k"), itemgetter("nseq")
#: what an operation is, and what it has to do with the operations of other contexts
_CAUSAL = ("event", "lock", "wait", "refused", "granted", "woke", "raised", "ctx", "cpu", "k", "node", "nseq")


def goes_to_sleep(record: Record, before: str) -> bool:
    """Whether an operation of a context that waits is part of its going to sleep.

    It is the release of the interlock right after `sleep`, or of the big lock, which the context takes again later.

    Args:
        before: the event of the context's operation before this operation.
    """
    return record["event"] == "unlock" and (before == "sleep" or record.get("lock") == KERNEL_LOCK)


class Turns:
    """Which contexts can continue, after some records.

    Args:
        asleep: contexts that start asleep.
    """

    def __init__(self, asleep: Iterable[str]):
        self.waiting = set(asleep)
        self.raised: Counter[str] = Counter()
        self.before: dict[str, str] = {}

    def can(self, record: Record) -> bool:
        """Can the context of this operation continue?"""
        ctx, event = record["ctx"], record["event"]
        if event == "intr":
            return self.raised[ctx] > 0
        return ctx not in self.waiting or goes_to_sleep(record, self.before.get(ctx, ""))

    def performed(self, record: Record) -> None:
        """This operation is the next record."""
        ctx, event = record["ctx"], record["event"]
        self.before[ctx] = event
        if record.get("wait") or event == "sleep":
            self.waiting.add(ctx)
        if event == "intr":
            self.raised[ctx] -= 1
        if "raised" in record:
            self.raised.update(names_of(record, "raised"))
        if "granted" in record or "woke" in record:
            self.waiting.difference_update(names_of(record, "granted"), names_of(record, "woke"))


class Linearizer(Turns):
    """Puts the records of all nodes into one sequence, in which they can have happened, although some may be missing.

    It respects every node's order of admission, every processor's program order, and what ended each wait. Where that
    leaves a choice a processor continues as long as it can, so the sequence has few switches. A kernel event comes
    right after the last operation that its processor performed before it.

    Attributes:
        records: the sequence so far.
        by_cpu: processor -> its operations that are still to come.
    """

    def __init__(self, journals: Held):
        super().__init__(asleep_at_start(journals))
        self.records: list[Record] = []
        self.by_node = {node: deque(record for record in journals[node] if "k" in record) for node in sorted(journals)}
        self.events = {
            node: deque(record for record in journals[node] if "k" not in record) for node in sorted(journals)
        }
        by_cpu = _by_cpu(self.by_node.values())
        self.by_cpu = {cpu: deque(by_cpu.pop(cpu).records) for cpu in sorted(by_cpu)}

    def go_on(self, may: Callable[[Record], bool] = lambda record: True) -> None:
        """As far as the records allow any context to continue.

        Args:
            may: is it this record's turn?
        """
        progress = True
        while progress:
            progress = False
            for queue in self.by_cpu.values():
                while queue and may(queue[0]) and self._is_next(queue[0]) and self.can(queue[0]):
                    self._take(queue.popleft(), may)
                    progress = True

    def force(self) -> bool:
        """Continue with one operation against the records, the least wrong choice; False: none is left."""
        heads = [queue[0] for queue in self.by_cpu.values() if queue]
        if not heads:
            return False
        record = next((head for head in heads if self.by_node[head["node"]][0] is head), heads[0])
        self.waiting.discard(record["ctx"])
        self._take(self.by_cpu[record["cpu"]].popleft(), lambda record: True)
        return True

    def rest(self, may: Callable[[Record], bool] = lambda record: True) -> None:
        """The kernel events behind operations that are not there."""
        for node in self.events:
            self._events(node, None, may)

    def _is_next(self, record: Record) -> bool:
        return self.by_node[record["node"]][0] is record

    def _take(self, record: Record, may: Callable[[Record], bool]) -> None:
        cpu, operations = record["cpu"], self.by_node[record["node"]]
        self._events(cpu, record["k"] - 1, may)
        if operations[0] is record:
            operations.popleft()
        else:
            operations.remove(record)
        self.records.append(record)
        self.performed(record)
        self._events(cpu, record["k"], may)

    def _events(self, cpu: str, upto: int | None, may: Callable[[Record], bool]) -> None:
        """The kernel events that came no later than operation `upto` of the processor."""
        queue = self.events.get(cpu)
        while queue and (upto is None or queue[0]["at"] <= upto) and may(queue[0]):
            self.records.append(queue.popleft())


@dataclass
class Outline:
    """What is known of a run after all its records have been gone through once, and an order needs at its beginning.

    Attributes:
        operations: how many there are.
        last: processor -> the number of its last operation.
        asleep: contexts that are woken before they ever slept: children before their fork, and the pagedaemon.
        told: the records of findings and notes, by their event.
    """

    operations: int = 0
    last: dict[str, int] = field(default_factory=dict)
    asleep: set[str] = field(default_factory=set)
    told: dict[str, list[Record]] = field(default_factory=lambda: {"finding": [], "note": []})


def outline_of(journals: Journals) -> Outline:
    """The outline of a run."""
    outline = Outline()
    last = outline.last
    for _, records in sorted(journals.items()):
        slept: set[str] = set()
        for record in records:
            event = record["event"]
            if "k" in record:
                outline.operations += 1
                last[record["cpu"]] = max(last.get(record["cpu"], 0), record["k"])
            if event == "sleep":
                slept.add(record["ctx"])
            elif event in outline.told:
                outline.told[event].append(record)
            if "woke" in record:
                outline.asleep.update(ctx for ctx in record["woke"] if ctx not in slept)
    return outline


class Merge(Turns):
    """The sequence of a `Linearizer` up to the first operation that is missing, in small memory.

    Of each node it has read its next operation, and the kernel events before that.
    """

    def __init__(self, journals: Journals, outline: Outline):
        super().__init__(outline.asleep)
        self.cpus = sorted(outline.last)
        self.upto = dict.fromkeys(self.cpus, 0)
        self.next: dict[tuple[str, int], Record] = {}  # by processor and number
        self.unread = {node: iter(journals[node]) for node in sorted(journals)}
        self.events: dict[str, deque[Record]] = {node: deque() for node in self.unread}
        for node in self.unread:
            self._read(node)

    def go_on(self, may: Callable[[Record], bool] = lambda record: True) -> Iterator[Record]:
        """As far as the records allow any context to continue.

        Args:
            may: is it this operation's turn?
        """
        progress = True
        while progress:
            progress = False
            for cpu in self.cpus:
                while True:
                    record = self.next.get((cpu, self.upto[cpu] + 1))
                    if record is None or not may(record) or not self.can(record):
                        break
                    progress = True
                    yield from self._events(cpu, self.upto[cpu])
                    del self.next[cpu, record["k"]]
                    self._read(record["node"])
                    yield record
                    self.performed(record)
                    self.upto[cpu] = record["k"]
                    yield from self._events(cpu, record["k"])

    def rest(self) -> Iterator[Record]:
        """The kernel events behind operations that are not there.

        Raises: LogIncomplete - there are operations left.
        """
        unread = (record for records in self.unread.values() for record in records if "k" in record)
        left = min(chain(self.next.values(), unread), key=lambda record: (record["cpu"], record["k"]), default=None)
        if left is not None and left["k"] > self.upto[left["cpu"]] + 1:
            raise LogIncomplete(f"operation {self.upto[left['cpu']] + 1} of {left['cpu']} is in no journal")
        if left is not None:
            raise LogIncomplete(
                "program order and admission order contradict each other"
                f" at {left['ctx']} operation {left['n']} on {left['node']}"
            )
        for events in self.events.values():
            yield from events

    def _read(self, node: str) -> None:
        """As far as the next operation of the node."""
        for record in self.unread[node]:
            if "k" in record:
                key = record["cpu"], record["k"]
                if key in self.next:
                    raise LogIncomplete(f"{key[0]}: operation {key[1]} was admitted twice")
                self.next[key] = record
                return
            self.events[node].append(record)

    def _events(self, cpu: str, upto: int) -> Iterator[Record]:
        """The kernel events that came no later than operation `upto` of the processor."""
        queue = self.events.get(cpu)
        while queue and queue[0]["at"] <= upto:
            yield queue.popleft()


def in_order(journals: Journals, outline: Outline | None = None) -> Iterator[Record]:
    """All records in the sequence of a `Linearizer`.

    The operation that led to a finding comes as late as it can: nothing is performed after it.

    Args:
        outline: of these journals, if it is known.

    Raises: LogIncomplete - there is none: the orders contradict each other, or an operation is missing.
    """
    outline = outline or outline_of(journals)
    ends = {(record["node"], record["at"]) for record in outline.told["finding"]}
    merge = Merge(journals, outline)
    if ends:
        yield from merge.go_on(lambda record: (record["cpu"], record["k"]) not in ends)
    yield from merge.go_on()
    yield from merge.rest()


@dataclass(frozen=True)
class Part:
    """The records of a journal that are kept, read where the journal is.

    Args:
        keeps: is it one of them?
    """

    records: Iterable[Record]
    keeps: Callable[[Record], bool]

    def __iter__(self) -> Iterator[Record]:
        return filter(self.keeps, self.records)


@dataclass(frozen=True)
class Operations:
    """The operations of `in_order`, which can be gone through more than once."""

    journals: Journals
    outline: Outline | None = None

    def __iter__(self) -> Iterator[Record]:
        return (record for record in in_order(self.journals, self.outline) if "k" in record)


def linearize(journals: Journals) -> list[Record]:
    """The operations of `in_order`, in memory.

    Raises: LogIncomplete - the orders contradict each other, or an operation is missing.
    """
    return list(Operations(journals))


def events_after(
    journals: Journals, before: Mapping[str, int] | None = None, outline: Outline | None = None
) -> dict[str, list[int]]:
    """Processor -> how many kernel events it recorded after its operation 0, 1, 2 ... and before the next.

    That says more than the order of operations: whether a context that had waited continued, as far as its next
    operation, before an interrupt was taken, or only afterwards.

    Args:
        before: processor -> operations that come before those of the journals, the last of which is number 0; None:
            none.
        outline: of these journals, if it is known.
    """
    first = before or {}
    last = (outline or outline_of(journals)).last
    counts = {cpu: [0] * (k - first.get(cpu, 0) + 1) for cpu, k in last.items()}
    for node, records in journals.items():
        for record in records:
            if "k" not in record and (at := record["at"] - first.get(node, 0)) < len(counts.setdefault(node, [0])):
                counts[node][at] += 1
    return counts


def operations(journals: Journals) -> int:
    """How many operations there are in the journals."""
    return sum("k" in record for records in journals.values() for record in records)


def asleep_at_start(journals: Journals) -> set[str]:
    """Contexts that are woken before they ever slept: children before their fork, and the pagedaemon start asleep."""
    return outline_of(journals).asleep


def causal_past(journals: Journals, outline: Outline | None = None) -> Journals:
    """What happened before the finding recorded in the journals, and the finding; nothing concurrent with it.

    The other nodes of a live machine run on for a moment after one CPU has
    panicked; this is the part that every replay of the schedule has too. With
    two findings, the past of a finding that does not contain the other is taken.

    Args:
        outline: of these journals, if it is known.

    Raises: LogIncomplete - the operation that a finding is about is in no journal.
    """
    findings = (outline or outline_of(journals)).told["finding"]
    pasts = [_past(journals, finding) for finding in findings]
    for past in pasts:
        if sum(record["event"] == "finding" for records in past.values() for record in records) == 1:
            return past
    return pasts[0] if pasts else journals


class _Operations:
    """The operations of one processor, by number; a dictionary would take a hundred bytes more for each."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    def get(self, k: int) -> Record | None:
        """Operation `k`; None if no journal has it."""
        at = bisect_right(self.records, k, key=_NUMBER) - 1
        return self.records[at] if at >= 0 and self.records[at]["k"] == k else None

    def between(self, after: int, upto: int) -> list[Record]:
        """Those behind operation `after`, `upto` the last of them."""
        begin = bisect_right(self.records, after, key=_NUMBER)
        return self.records[begin : bisect_right(self.records, upto, begin, key=_NUMBER)]


def _by_cpu(operations: Iterable[Iterable[Record]]) -> dict[str, _Operations]:
    by_cpu: dict[str, _Operations] = {}
    for records in operations:
        for record in records:
            by_cpu.setdefault(record["cpu"], _Operations()).records.append(record)
    for performed in by_cpu.values():
        performed.records.sort(key=_NUMBER)
    return by_cpu


def _in_short(journals: Journals) -> Held:
    """The operations, with what says which caused which."""
    shapes: Shapes = {}
    return {
        node: [
            Row({intern(key): _interned(record[key]) for key in _CAUSAL if key in record}, shapes)
            for record in records
            if "k" in record
        ]
        for node, records in journals.items()
    }


def _interned(value: object) -> object:
    return intern(value) if type(value) is str else value


def _past(journals: Journals, finding: Record) -> dict[str, Iterable[Record]]:
    operations = _in_short(journals)
    by_cpu = _by_cpu(operations.values())
    causes = _causes(operations, by_cpu)
    upto = dict.fromkeys(by_cpu, 0)
    reached = dict.fromkeys(operations, 0)
    performed = by_cpu.get(finding["node"])
    last = performed.get(finding["at"]) if performed is not None and finding["at"] else None
    if finding["at"] and last is None:
        raise LogIncomplete(f"operation {finding['at']} of {finding['node']} is in no journal")
    work = [] if last is None else [last]
    while work:
        record = work.pop()
        cpu, node = record["cpu"], record["node"]
        new = by_cpu[cpu].between(upto[cpu], record["k"])
        upto[cpu] = max(upto[cpu], record["k"])
        end = bisect_right(operations[node], record["nseq"], key=_PLACE)
        new += operations[node][reached[node] : end]
        reached[node] = max(reached[node], end)
        for other in (record, *new):
            cause = causes.get(id(other))
            if cause is not None and cause["k"] > upto[cause["cpu"]]:
                work.append(cause)
        work += [other for other in new if other is not record]
    past: dict[str, Iterable[Record]] = {}
    for node, records in journals.items():
        end_of = by_cpu[node].get(upto.get(node, 0)) if node in by_cpu else None
        blocked = end_of is not None and "wait" in end_of and node != finding["node"]
        past[node] = Part(records, partial(_in_past, node=node, finding=finding, upto=upto, blocked=blocked))
    ended_by = None if performed is None else performed.get(finding["at"])
    if ended_by is not None and "refused" in ended_by:  # the CPU learnt of it only with a later answer
        known = [other for other in past[finding["node"]] if other.get("at") != finding["at"]]
        past[finding["node"]] = [*known, {**finding, "nseq": len(known) + 1}]
    return past


def _in_past(record: Record, *, node: str, finding: Record, upto: dict[str, int], blocked: bool) -> bool:
    if node == finding["node"] and record["nseq"] > finding["nseq"]:
        return False
    if "k" in record:
        return bool(record["k"] <= upto[record["cpu"]])
    limit = upto.get(node, 0)
    return bool(record["at"] < limit or (record["at"] == limit and not blocked))


def _causes(operations: Held, by_cpu: dict[str, _Operations]) -> dict[int, Record]:
    """id of a record -> the record elsewhere that let its context continue: a grant, a wakeup, an interrupt."""
    ends: dict[
        int | str, Record
    ] = {}  # id of a waiting record, or name of a context that started asleep -> what ended it
    raised: dict[str, deque[Record]] = {}
    for records in operations.values():
        began: dict[str, int] = {}  # a wait begins and ends on one node
        for record in records:
            if "wait" in record or record["event"] == "sleep":
                began[record["ctx"]] = id(record)
            for ctx in (*record.get("granted", ()), *record.get("woke", ())):
                ends[began.pop(ctx, ctx)] = record
            for ctx in record.get("raised", ()):
                raised.setdefault(ctx, deque()).append(record)
    causes: dict[int, Record] = {}
    waits: dict[str, int | str] = {ctx: ctx for ctx in ends if isinstance(ctx, str)}
    before: dict[str, str] = {}
    for performed in by_cpu.values():
        for record in performed.records:
            ctx, event = record["ctx"], record["event"]
            if event == "intr" and raised.get(ctx):
                causes[id(record)] = raised[ctx].popleft()
            if ctx in waits and not goes_to_sleep(record, before.get(ctx, "")):
                end = ends.get(waits.pop(ctx))
                if end is not None:
                    causes[id(record)] = end
            if "wait" in record or event == "sleep":
                waits[ctx] = id(record)
            before[ctx] = event
    return causes
