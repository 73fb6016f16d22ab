"""One sequence of all records, with the causal past of the finding first.

If records are missing, there may be no such sequence. Then the order assumes that a wait has ended although the records
do not show that (`forced`).
"""

from __future__ import annotations

from dataclasses import dataclass

from shared.errors import LogIncomplete
from shared.journal.order import Linearizer, causal_past
from shared.journal.record import Held, Record


@dataclass
class Sequence:
    """Records in order.

    Attributes:
        forced: how often a context had to continue although the records do not allow it.
    """

    records: list[Record]
    forced: int = 0


def in_order(journals: Held) -> Sequence:
    """The records of all nodes in one sequence."""
    merge, forced = Linearizer(journals), 0
    if any(record["event"] == "finding" for records in journals.values() for record in records):
        try:
            past = {id(record) for records in causal_past(journals).values() for record in records}
        except (LogIncomplete, LookupError):  # a record that it needs is not there, or damaged
            past = set()
        merge.go_on(lambda record: id(record) in past)
        merge.rest(lambda record: id(record) in past)
    merge.go_on()
    while merge.force():
        forced += 1
        merge.go_on()
    merge.rest()
    return Sequence(merge.records, forced)
