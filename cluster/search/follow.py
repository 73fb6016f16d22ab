"""Follows a given schedule: a token's deviations from the default schedule, or the order of a journal, to its end or
as the beginning of an execution."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from cluster.search.strategy import Strategy, default
from nodes.cpu import Thread
from shared.errors import Diverged
from shared.journal.deviation import Deviation
from shared.journal.record import Record, choice_of
from shared.text import clean

ENDS = "the run to end here, as the journal does"


class Deviate(Strategy):
    """The default schedule with deviations.

    Args:
        strict: a deviation that cannot be taken is an error, not skipped.
        renumbered: a choice of data comes at its context's next one, whatever number that operation has: of a schedule
            from which deviations were left out.

    Attributes:
        left: deviations still to come, the next one last. Invariant: with those taken and those skipped, all of them.
        taken: how many were taken.
        skipped: deviations that were reached, but whose context could not run there.
        ran: the context picked last, whose operations are counted; None: none yet.
    """

    def __init__(self, deviations: Sequence[Deviation], strict: bool = True, renumbered: bool = False):
        self.deviations, self.strict, self.renumbered = list(deviations), strict, renumbered

    def new_execution(self) -> bool:
        self.left = list(reversed(self.deviations))
        self.taken = 0
        self.skipped: list[Deviation] = []
        self.ran: Thread | None = None
        return True

    def pick(self, enabled: Sequence[Thread], current: Thread | None) -> Thread:
        last = -1 if self.ran is None else self.ran.order
        self.ran = self._deviating(enabled, current) or default(enabled, current, last)
        return self.ran

    def _deviating(self, enabled: Sequence[Thread], current: Thread | None) -> Thread | None:
        """The context that a deviation at this place asks for; None: there is none, or it was skipped."""
        if not self.left:
            return None
        ctx, n, kind, wanted = self.left[-1]
        ran = self.ran
        if n != (0 if ran is None else ran.n) or ctx != ("" if ran is None else ran.name):
            return None
        if kind != ("wait" if current is None else "point"):
            return None
        deviation = self.left.pop()
        for thread in enabled:
            if thread.name == wanted:
                self.taken += 1
                return thread
        if self.strict:
            names = ", ".join(thread.name for thread in enabled)
            where = f"after operation {n} of {ctx}" if ctx else "first"
            raise Diverged(f"{wanted} to run {where}", f"only {names} can run")
        self.skipped.append(deviation)
        return None

    def choose(self, n: int) -> int:
        ran = self.ran
        if not self.left or ran is None:
            return 0
        ctx, number, kind, value = self.left[-1]
        if (ctx, kind) != (ran.name, "choice") or not (number == ran.n + 1 or self.renumbered):
            return 0
        deviation = self.left.pop()
        if isinstance(value, int) and 0 <= value < n:
            self.taken += 1
            return value
        if self.strict:
            raise Diverged(f"choice {value} as operation {ran.n + 1} of {ran.name}", f"only {n} choices, 0 to {n - 1}")
        self.skipped.append(deviation)
        return 0

    def finish(self) -> None:
        """After the run: every deviation must have been met."""
        if self.left and self.strict:
            ctx, n, kind, wanted = self.left[-1]
            there = f"take choice {wanted}" if kind == "choice" else f"run {wanted}"
            raise Diverged(f"{ctx} to reach operation {n}, and to {there} there", "the run ended before that")


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


class Continue(Strategy):
    """A total order of operations to its end, which need not be that of the execution, and then another strategy.

    Args:
        first: the order.
        then: the strategy that chooses behind it; it sees nothing of what came before.

    Attributes:
        now: who chooses behind it in this execution.
        following: the end of the order has not been reached.
    """

    def __init__(self, first: Order, then: Strategy):
        self.first, self.then = first, then
        self.now = then
        self.following = True

    def new_execution(self) -> bool:
        self.following = self.first.new_execution()
        begun = self.then.new_execution()
        self.now = self.then.chooser()
        return begun

    def detailed(self) -> bool:
        return self.following

    def everywhere(self) -> bool:
        return self.now.everywhere()

    def _follows(self) -> bool:
        """Is there anything left of the order?"""
        if self.following and self.first.over():
            self.following = False
            self.now.begins(self.first.threads, self.first.ran)
        return self.following

    def pick(self, enabled: Sequence[Thread], current: Thread | None) -> Thread | None:
        return self.first.pick(enabled, current) if self._follows() else self.now.pick(enabled, current)

    def choose(self, n: int) -> int:
        return self.first.choose(n) if self._follows() else self.now.choose(n)

    def performed(self, code: str, target: int, args: tuple[object, ...]) -> None:
        if not self.following:
            self.now.performed(code, target, args)

    def caused(self, thread: Thread) -> None:
        if not self.following:
            self.now.caused(thread)

    def grown(self) -> None:
        self.then.grown()

    def stays(self) -> int:
        return 0 if self.following else self.now.stays()

    def passed(self, points: int) -> None:
        self.now.passed(points)


def _in_words(record: Record) -> str:
    """An operation that a journal has, in words."""
    what = record["event"]
    if what == "choose":
        what += f" {clean(record.get('value'), 20)} of {clean(record.get('of'), 20)}"
    return f"{record['ctx']} to perform operation {record['n']} ({what})"
