"""An execution of `sim` that stops between any two operations, and continues when it is told to.

The engine asks its strategy at every point. `ByHand` answers with what the caller has decided; when that is nothing, it
switches from the context's greenlet to the caller's, in the middle of the execution, and back when the caller has
decided. So a user who stops the machine sees it as it is between two operations, and no thread is needed.

The picks are kept: the same picks make the same execution (`follow`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from greenlet import getcurrent, greenlet

from cluster.boot import prepare
from cluster.search.strategy import Strategy
from cluster.sim.engine import Sim
from nodes.cpu import Thread
from shared.errors import Diverged
from shared.findings import Finding
from shared.journal.record import Journal, Record
from shared.port.port import here
from shared.scenario.model import Scenario

#: given the contexts that can continue and the current one, as Strategy.pick has them: who does; None: stop here
Decide = Callable[[Sequence[Thread], Thread | None], Thread | None]


def stop(enabled: Sequence[Thread], current: Thread | None) -> None:
    """Perform nothing."""


def first(n: int) -> int:
    """Of the data 0 to n - 1, what the default schedule takes."""
    return 0


class Picks:
    """The names of the contexts that were picked, in order; a name that follows itself is counted.

    Attributes:
        choices: of data, that they have made.
    """

    def __init__(self) -> None:
        self.runs: list[tuple[str, int]] = []
        self.choices: list[int] = []

    def add(self, name: str) -> None:
        if self.runs and self.runs[-1][0] == name:
            self.runs[-1] = (name, self.runs[-1][1] + 1)
        else:
            self.runs.append((name, 1))

    def __iter__(self) -> Iterator[str]:
        for name, times in self.runs:
            for _ in range(times):
                yield name


class ByHand(Strategy):
    """The decisions of the caller, pick by pick.

    Attributes:
        home: the caller's greenlet.
        asking: the greenlet in which the engine waits for an answer; None: it is not waiting.
        enabled, current: what it asked with.
        last: the context that was picked last; None: none yet.
        over: the execution is to be given up.
    """

    def __init__(self) -> None:
        self.decide: Decide = stop
        self.data: Callable[[int], int] = first
        self.home: greenlet = getcurrent()
        self.asking: greenlet | None = None
        self.enabled: Sequence[Thread] = ()
        self.current: Thread | None = None
        self.last: Thread | None = None
        self.over = False
        self.picks = Picks()

    def new_execution(self) -> bool:
        return True

    def everywhere(self) -> bool:
        return True

    def pick(self, enabled: Sequence[Thread], current: Thread | None) -> Thread | None:
        while not self.over:
            thread = self.decide(enabled, current)
            if thread is not None:
                self.picks.add(thread.name)
                self.last = thread
                return thread
            self.enabled, self.current, self.asking = list(enabled), current, getcurrent()
            with here.aside():
                self.home.switch()
            self.asking = None
        return None

    def choose(self, n: int) -> int:
        self.picks.choices.append(self.data(n))
        return self.picks.choices[-1]


class _Tap:
    """Where the journal of a node has its lines written: every record of the machine, in the order of time.

    Attributes:
        lines: of this node, without the first `dropped`.
    """

    def __init__(self, journal: Journal, records: list[Record]):
        self.journal, self.records = journal, records
        self.lines: list[bytes] = []
        self.dropped = 0

    def write(self, line: bytes) -> int:
        self.records.append(self.journal.records[-1])
        self.lines.append(line)
        return len(line)

    def flush(self) -> None:
        """There is nothing between."""

    def drop(self) -> int:
        """The lines so far have been taken; returns how many there were in all."""
        self.dropped += len(self.lines)
        self.lines.clear()
        return self.dropped


class Stepped:
    """One recorded execution of a scenario; it begins stopped before its first operation.

    Attributes:
        records: of all nodes, in the order of time.
        taps: node -> what its journal has written.
    """

    def __init__(self, scenario: Scenario):
        self.scenario = scenario
        self.sim = Sim(*prepare(scenario), granularity="access")
        self.hand = ByHand()
        self.records: list[Record] = []
        self.taps: dict[str, _Tap] = {}
        self.hand.decide = self._begin
        self._run = greenlet(self._execute)
        self.go(self._begin)

    def _execute(self) -> None:
        self.sim.execute(self.hand, record=True)

    def _begin(self, enabled: Sequence[Thread], current: Thread | None) -> None:
        """Before the first operation: from now on everything goes through the taps."""
        journals = self.sim.journals
        assert journals is not None
        for name, journal in journals.items():
            if name not in self.taps:
                journal.stream = self.taps[name] = _Tap(journal, self.records)

    @property
    def ended(self) -> bool:
        """Nothing can be performed any more: it came to its end, had a finding, or was given up."""
        return bool(self._run.dead)

    @property
    def finding(self) -> Finding | None:
        """That it ended with."""
        return self.sim.finding if self.ended else None

    @property
    def operations(self) -> int:
        """Performed so far."""
        return self.sim.steps

    def go(self, decide: Decide, data: Callable[[int], int] = first) -> None:
        """Let the machine continue until `decide` decides nothing, or the execution ends.

        Args:
            data: makes choices of data.

        Raises: what went wrong with the execution, which then has ended.
        """
        if self.ended:
            return
        self.hand.decide, self.hand.data, self.hand.home = decide, data, getcurrent()
        self._run.parent = getcurrent()
        (self.hand.asking or self._run).switch()

    def give_up(self) -> None:
        """End the execution here; it is judged by what it has performed."""
        self.hand.over = True
        self.go(stop)

    def races(self) -> list[Finding]:
        """Data races and reversals of the lock order, so far, for which a run is stopped."""
        watch = self.sim.execution.watch
        findings = [] if watch is None else watch.findings()
        return [finding for finding in findings if finding.level(self.sim.detect) == "stop"]

    def follow(self, picks: Picks) -> None:
        """Perform what another execution has performed.

        Raises: Diverged - a context that was picked there cannot continue here.
        """
        names, choices = iter(picks), iter(list(picks.choices))

        def decide(enabled: Sequence[Thread], current: Thread | None) -> Thread | None:
            wanted = next(names, None)
            if wanted is None:
                return None
            for thread in enabled:
                if thread.name == wanted:
                    return thread
            raise Diverged(f"{wanted} to go on", f"only {', '.join(thread.name for thread in enabled)} can")

        self.go(decide, lambda n: next(choices))
