"""Follows the order of a journal, to its end or as the beginning of an execution."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from cluster.search.strategy import Strategy
from nodes.cpu import Thread
from shared.errors import Diverged
from shared.journal.record import Record, choice_of
from shared.text import clean

ENDS = "the run to end here, as the journal does"


class Order(Strategy):
    """A total order of operations, as `shared.journal.order.Operations` gives it.

    Wants granularity "access": then every operation that another node admits is preceded by a scheduling point.

    Args:
        threads: the machine's contexts, by name.
        order: records of the operations; each execution goes through it once.
        events: what `shared.journal.order.events_after` gives, if the execution is recorded: then a context that has
            waited continues before an interrupt is taken, or afterwards, as it did.
        cut: the execution is given up at the end of `order`, if contexts can continue there.

    Attributes:
        wanted: the next operation; None: all have been performed. Invariant: those of `order` before it have been.
        ran: the context picked last; None: none yet.
    """

    def __init__(
        self,
        threads: Mapping[str, Thread],
        order: Iterable[Record],
        events: Mapping[str, list[int]] | None = None,
        cut: bool = False,
    ):
        self.threads, self.order, self.events, self.cut = threads, order, events or {}, cut

    def new_execution(self) -> bool:
        self.rest = iter(self.order)
        self.wanted = next(self.rest, None)
        self.ran: Thread | None = None
        return True

    def everywhere(self) -> bool:
        return self.cut  # where one context alone can continue, too, the execution may end

    def pick(self, enabled: Sequence[Thread], current: Thread | None) -> Thread | None:
        self.ran = self._next(enabled)
        return self.ran

    def choose(self, n: int) -> int:
        ran = self.ran
        assert ran is not None, "a context has been picked"
        wanted = self._advance()
        if wanted is None:
            raise Diverged(ENDS, f"{ran.name} chooses")
        value = choice_of(wanted)
        if (wanted["ctx"], wanted["n"]) != (ran.name, ran.n + 1) or not 0 <= value < n:
            raise Diverged(_in_words(wanted), f"{ran.name} has {n} choices, 0 to {n - 1}")
        return value

    def over(self) -> bool:
        """Has all of it been performed?"""
        return self._advance() is None

    def _advance(self) -> Record | None:
        """The next operation."""
        wanted, threads = self.wanted, self.threads
        while wanted is not None and wanted["n"] <= threads[wanted["ctx"]].n:
            wanted = self.wanted = next(self.rest, None)
        return wanted

    def _next(self, enabled: Sequence[Thread]) -> Thread | None:
        wanted = self._advance()
        if self.events and (wanted is None or wanted["event"] == "intr"):
            for thread in enabled:
                if thread.waits is not None and not thread.parked and self._has_events_to_come(thread):
                    return thread
        if wanted is None:
            if self.cut:
                return None
            raise Diverged(ENDS, f"{enabled[0].name} can run")
        for thread in enabled:
            if thread.name == wanted["ctx"]:
                return thread
        names = ", ".join(thread.name for thread in enabled)
        raise Diverged(_in_words(wanted), f"only {names} can run")

    def _has_events_to_come(self, thread: Thread) -> bool:
        """Did its processor record more kernel events before the next operation than it has recorded now?"""
        k: int = thread.processor.k
        events = self.events.get(thread.cpu, [])
        return k < len(events) and thread.processor.events_since() < events[k]


def _in_words(record: Record) -> str:
    """An operation that a journal has, in words."""
    what = record["event"]
    if what == "choose":
        what += f" {clean(record.get('value'), 20)} of {clean(record.get('of'), 20)}"
    return f"{record['ctx']} to perform operation {record['n']} ({what})"
