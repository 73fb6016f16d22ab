"""One sequence of all records, in which they can have happened.

Respects every node's order of admission, every processor's program order, and
what ended each wait. Where that leaves a choice a processor goes on as long as
it can, so the sequence has few switches and reads well. Kernel events
(functions entered and left) are put where they were among the operations of
their processor. What happened before the finding comes first.

A journal with holes may allow no such sequence; then the wait that cannot have
ended is taken to have ended (`forced`).
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field

from cluster.postmortem.words import names_of
from shared.journal import Journals, Record, asleep_at_start, by_processor, causal_past, goes_to_sleep


@dataclass
class Sequence:
    """Records in order.

    Attributes:
        forced: how often something had to go on that the records do not let go on.
    """

    records: list[Record] = field(default_factory=list)
    forced: int = 0


def in_order(journals: Journals) -> Sequence:
    """The records of all nodes in one sequence."""
    past: set[int] | None = None
    if any(one["event"] == "finding" for records in journals.values() for one in records):
        try:
            past = {id(one) for records in causal_past(journals).values() for one in records}
        except (KeyError, IndexError):  # a record it needs is not there
            past = None
    return _Merge(journals).run(past)


class _Merge:
    def __init__(self, journals: Journals):
        self.by_node = {node: deque(one for one in journals[node] if "k" in one) for node in sorted(journals)}
        self.events = {node: deque(one for one in journals[node] if "k" not in one) for node in sorted(journals)}
        self.by_cpu = by_processor(self.by_node.values())
        self.waiting = asleep_at_start(journals)
        self.raised: Counter[str] = Counter()
        self.before: dict[str, str] = {}
        self.out = Sequence()

    def run(self, first: set[int] | None) -> Sequence:
        if first is not None:
            self._go_on(first)
            for node in self.events:
                self._events(node, None, first)
        self._go_on(None)
        while any(self.by_cpu.values()):
            self._force()
            self._go_on(None)
        for node in self.events:
            self._events(node, None, None)
        return self.out

    def _go_on(self, only: set[int] | None) -> None:
        progress = True
        while progress:
            progress = False
            for queue in self.by_cpu.values():
                while queue and (only is None or id(queue[0]) in only) and self._able(queue[0]):
                    self._emit(queue.popleft(), only)
                    progress = True

    def _able(self, record: Record) -> bool:
        if self.by_node[record["node"]][0] is not record:
            return False
        ctx, event = record["ctx"], record["event"]
        if event == "intr":
            return self.raised[ctx] > 0
        return ctx not in self.waiting or goes_to_sleep(record, self.before.get(ctx, ""))

    def _emit(self, record: Record, only: set[int] | None) -> None:
        cpu, ctx, event = record["cpu"], record["ctx"], record["event"]
        self._events(cpu, record["k"] - 1, only)
        self.by_node[record["node"]].remove(record)
        self.out.records.append(record)
        self.before[ctx] = event
        if record.get("wait") or event == "sleep":
            self.waiting.add(ctx)
        if event == "intr":
            self.raised[ctx] -= 1
        self.raised.update(names_of(record, "raised"))
        self.waiting.difference_update(names_of(record, "granted"), names_of(record, "woke"))
        self._events(cpu, record["k"], only)

    def _events(self, cpu: str, upto: int | None, only: set[int] | None) -> None:
        """Put out the kernel events that came no later than operation `upto` of the processor."""
        queue = self.events.get(cpu, deque())
        while queue and (upto is None or queue[0]["at"] <= upto) and (only is None or id(queue[0]) in only):
            self.out.records.append(queue.popleft())

    def _force(self) -> None:
        """Nothing can go on by the rules: let one go on against them, the least wrong first."""
        self.out.forced += 1
        heads = [queue for queue in self.by_cpu.values() if queue]
        queue = next((one for one in heads if self.by_node[one[0]["node"]][0] is one[0]), heads[0])
        record = queue.popleft()
        self.waiting.discard(record["ctx"])
        self._emit(record, None)
