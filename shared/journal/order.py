"""The order of operations, from journals: a linearization, the causes of an operation, the past of a finding.

Every node numbers the operations that it admits, and every processor numbers those that it performs. These numbers and
the waits allow several orders of all operations; `linearize` always returns the same one. The causal past of a finding
is what happened before it. The nodes of a live run continue for a moment after a finding, so only its causal past is
judged.

Left out: the records themselves (record.py), and parts of runs (cut.py).
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Mapping
from operator import itemgetter

from shared.errors import LogIncomplete
from shared.journal.record import Journals, Record, names_of

#: name of the big lock, which an LWP gives up when it goes to sleep
KERNEL_LOCK = "kernel:0.kernel_lock"
_NUMBER, _PLACE = itemgetter("k"), itemgetter("nseq")


def goes_to_sleep(record: Record, before: str) -> bool:
    """Whether an operation of a context that waits is part of its going to sleep.

    It is the release of the interlock right after `sleep`, or of the big lock, which the context takes again later.

    Args:
        before: the event of the context's operation before this operation.
    """
    return record["event"] == "unlock" and (before == "sleep" or record.get("lock") == KERNEL_LOCK)


class Linearizer:
    """Puts the records of all nodes into one sequence, in which they can have happened.

    It respects every node's order of admission, every processor's program order, and what ended each wait. Where that
    leaves a choice a processor continues as long as it can, so the sequence has few switches. A kernel event comes
    right after the last operation that its processor performed before it.

    Args:
        asleep: contexts that start asleep; None: those that the journals show to.

    Attributes:
        records: the sequence so far.
        by_cpu: processor -> its operations that are still to come.
    """

    def __init__(self, journals: Journals, asleep: Collection[str] | None = None):
        self.records: list[Record] = []
        self.by_node = {node: deque(record for record in journals[node] if "k" in record) for node in sorted(journals)}
        self.events = {
            node: deque(record for record in journals[node] if "k" not in record) for node in sorted(journals)
        }
        by_cpu = _by_cpu(self.by_node.values())
        self.by_cpu = {cpu: deque(by_cpu.pop(cpu).records) for cpu in sorted(by_cpu)}
        self.waiting = asleep_at_start(journals) if asleep is None else set(asleep)
        self.raised: Counter[str] = Counter()
        self.before: dict[str, str] = {}

    def go_on(self, may: Callable[[Record], bool] = lambda record: True) -> None:
        """As far as the records allow any context to continue.

        Args:
            may: is it this record's turn?
        """
        progress = True
        while progress:
            progress = False
            for queue in self.by_cpu.values():
                while queue and may(queue[0]) and self._can(queue[0]):
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

    def _can(self, record: Record) -> bool:
        if self.by_node[record["node"]][0] is not record:
            return False
        ctx, event = record["ctx"], record["event"]
        if event == "intr":
            return self.raised[ctx] > 0
        return ctx not in self.waiting or goes_to_sleep(record, self.before.get(ctx, ""))

    def _take(self, record: Record, may: Callable[[Record], bool]) -> None:
        cpu, ctx, event, operations = record["cpu"], record["ctx"], record["event"], self.by_node[record["node"]]
        self._events(cpu, record["k"] - 1, may)
        if operations[0] is record:
            operations.popleft()
        else:
            operations.remove(record)
        self.records.append(record)
        self.before[ctx] = event
        if record.get("wait") or event == "sleep":
            self.waiting.add(ctx)
        if event == "intr":
            self.raised[ctx] -= 1
        if "raised" in record:
            self.raised.update(names_of(record, "raised"))
        if "granted" in record or "woke" in record:
            self.waiting.difference_update(names_of(record, "granted"), names_of(record, "woke"))
        self._events(cpu, record["k"], may)

    def _events(self, cpu: str, upto: int | None, may: Callable[[Record], bool]) -> None:
        """The kernel events that came no later than operation `upto` of the processor."""
        queue = self.events.get(cpu)
        while queue and (upto is None or queue[0]["at"] <= upto) and may(queue[0]):
            self.records.append(queue.popleft())


def in_order(journals: Journals) -> list[Record]:
    """All records in one sequence, see `Linearizer`.

    The operation that led to a finding comes as late as it can: nothing is performed after it.

    Raises: LogIncomplete - there is none: the orders contradict each other.
    """
    ends = {
        (record["node"], record["at"])
        for records in journals.values()
        for record in records
        if record["event"] == "finding"
    }
    merge = Linearizer(journals)
    if ends:
        merge.go_on(lambda record: "k" not in record or (record["cpu"], record["k"]) not in ends)
    merge.go_on()
    left = next((queue[0] for queue in merge.by_cpu.values() if queue), None)
    if left is not None:
        raise LogIncomplete(
            "program order and admission order contradict each other"
            f" at {left['ctx']} operation {left['n']} on {left['node']}"
        )
    merge.rest()
    return merge.records


def linearize(journals: Journals) -> list[Record]:
    """The operations of `in_order`.

    Raises: LogIncomplete - the orders contradict each other.
    """
    return [record for record in in_order(journals) if "k" in record]


def events_after(journals: Journals, before: Mapping[str, int] | None = None) -> dict[str, list[int]]:
    """Processor -> how many kernel events it recorded after its operation 0, 1, 2 ... and before the next.

    That says more than the order of operations: whether a context that had waited continued, as far as its next
    operation, before an interrupt was taken, or only afterwards.

    Args:
        before: processor -> operations that come before those of the journals, the last of which is number 0; None:
            none.
    """
    first = before or {}
    last: Counter[str] = Counter()
    for records in journals.values():
        for record in records:
            if "k" in record:
                last[record["cpu"]] = max(last[record["cpu"]], record["k"])
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
    asleep: set[str] = set()
    for records in journals.values():
        slept: set[str] = set()
        for record in records:
            if record["event"] == "sleep":
                slept.add(record["ctx"])
            asleep.update(ctx for ctx in record.get("woke", ()) if ctx not in slept)
    return asleep


def causal_past(journals: Journals) -> Journals:
    """What happened before the finding recorded in the journals, and the finding; nothing concurrent with it.

    The other nodes of a live machine run on for a moment after one CPU has
    panicked; this is the part that every replay of the schedule has too. With
    two findings, the past of a finding that does not contain the other is taken.

    Raises: LogIncomplete - the operation that a finding is about is in no journal.
    """
    findings = [record for _, records in sorted(journals.items()) for record in records if record["event"] == "finding"]
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


def _past(journals: Journals, finding: Record) -> Journals:
    operations = {node: [record for record in records if "k" in record] for node, records in journals.items()}
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
    past: Journals = {}
    for node, records in journals.items():
        end_of = by_cpu[node].get(upto.get(node, 0)) if node in by_cpu else None
        blocked = end_of is not None and "wait" in end_of and node != finding["node"]
        past[node] = [record for record in records if _in_past(record, node, finding, upto, blocked)]
    ended_by = None if performed is None else performed.get(finding["at"])
    if ended_by is not None and "refused" in ended_by:  # the CPU learnt of it only with a later answer
        known = [other for other in past[finding["node"]] if other.get("at") != finding["at"]]
        past[finding["node"]] = [*known, {**finding, "nseq": len(known) + 1}]
    return past


def _in_past(record: Record, node: str, finding: Record, upto: dict[str, int], blocked: bool) -> bool:
    if node == finding["node"] and record["nseq"] > finding["nseq"]:
        return False
    if "k" in record:
        return bool(record["k"] <= upto[record["cpu"]])
    limit = upto.get(node, 0)
    return bool(record["at"] < limit or (record["at"] == limit and not blocked))


def _causes(operations: Journals, by_cpu: dict[str, _Operations]) -> dict[int, Record]:
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
