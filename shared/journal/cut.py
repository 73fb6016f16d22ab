"""Parts of a run's journals that are runs themselves, or the beginning of a run.

A part is *consistent* if every record in it has its causes in it: what its node had admitted before, what its processor
had performed before, and what ended its context's wait. It is then a schedule that can be followed.

Left out: the orders of records that a part allows (order.py).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice, takewhile

from shared.errors import LogIncomplete
from shared.journal.order import Merge, Operations, Outline, Part, causal_past, operations, outline_of
from shared.journal.record import Journals, Record, digest, holes


def cut(journals: Journals, count: int) -> Journals:
    """The first `count` operations, in one of the orders that the journals allow, and the kernel events that belong to
    them: contexts continue as far as their next operation, if they can.

    Raises: LogIncomplete - the orders contradict each other.
    """
    return part(journals, islice(Operations(journals), count))


@dataclass(frozen=True)
class _Gapless:
    """The records of a journal before the first that is missing, read where the journal is."""

    records: Iterable[Record]

    def __iter__(self) -> Iterator[Record]:
        numbered = enumerate(self.records, 1)
        return (record for _, record in takewhile(lambda each: each[0] == each[1]["nseq"], numbered))


def consistent(journals: Journals, asleep: Collection[str]) -> Journals:
    """The last consistent cut of journals that may end too early: the largest part in which each record has its causes.

    Every order of the part that its journals allow is the beginning of an execution.

    Args:
        asleep: contexts that start asleep. (The record that wakes such a context may be missing.)

    Raises: LogIncomplete - an operation is in two journals.
    """
    whole = {node: _Gapless(records) for node, records in journals.items()}
    outline = outline_of(whole)
    outline.asleep = set(asleep)
    return part(whole, (record for record in Merge(whole, outline).go_on() if "k" in record))


def part(journals: Journals, order: Iterable[Record]) -> Journals:
    """These operations of a run, and the kernel events that belong to them: contexts continue up to their next
    operation.

    Args:
        order: one in which they can have come: of each processor, its first operations.
    """
    last: dict[str, Record] = {}
    ended = set[str]()  # contexts whose last wait has ended
    for record in order:
        last[record["cpu"]] = record
        ended.discard(record["ctx"])
        ended.update(record.get("granted", ()))
    upto = {cpu: end["k"] for cpu, end in last.items()}
    blocked = {cpu for cpu, end in last.items() if "wait" in end and end["ctx"] not in ended}

    def keeps(record: Record) -> bool:
        if "k" in record:
            return bool(record["k"] <= upto.get(record["cpu"], 0))
        at, end = record["at"], upto.get(record["node"], 0)
        return bool(at < end or (at == end and record["node"] not in blocked))

    return {node: Part(records, keeps) for node, records in journals.items()}


def judged(journals: Journals, limit: int, outline: Outline | None = None) -> Journals:
    """The part of a free run's journals that the run is judged by: nodes that are not in step continue for a moment.

    What happened before the finding; or, of a run that was ended, exactly the operations that it may have; or all.

    Args:
        limit: operations that it may have.
        outline: of the journals, if it is known.

    Raises: LogIncomplete - the orders contradict each other, or the operation that a finding is about is missing.
    """
    outline = outline or outline_of(journals)
    past = causal_past(journals, outline)
    stopped = past is not journals
    count = operations(past) if stopped else outline.operations
    return cut(journals, limit) if count > limit - (not stopped) else past


def cut_short(journals: Journals, admitted: Mapping[str, object]) -> list[str]:
    """Every journal that ends before, or after, the record that its node numbered last, in words.

    Args:
        admitted: node -> the number of its last record, as a run folder has it.
    """
    missing = []
    for node, count in admitted.items():
        have = max((record["nseq"] for record in journals.get(node, ())), default=0)
        if node in journals and have != count:
            missing.append(f"{node}: its journal ends with record {have}; it had written {count}")
    return missing


def digested(journals: Journals, wanted: str, limit: int) -> Journals | None:
    """The part of a run's journals that its digest is of: all of them, or what a run that was stopped is judged by.

    Live nodes run on for a moment after a finding; of that, records may be missing.

    Args:
        wanted: the run's digest.
        limit: operations that it may have.

    Returns: None - the digest is of neither, or of records that are not there or contradict each other.
    """
    try:
        if not holes(journals) and digest(journals) == wanted:
            return journals
        past = judged(journals, limit)
        return past if not holes(past) and digest(past) == wanted else None
    except (LogIncomplete, LookupError, TypeError, ValueError, AttributeError, RecursionError):
        return None  # (a file may have anything in it)
