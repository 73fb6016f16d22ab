"""A session: a scenario that grows, and its execution, which stops and continues on command.

A step that is added is written into section `session` of the scenario's text, so a session is a scenario and the picks
of its contexts, and nothing else. The machine of the longer scenario is booted beside the old one and performs the same
picks. Only if its records are the same does it take the old one's place.

A thread whose program ends with `pause` is *open*: it waits in user mode for steps, and does not perform the pause.
Whenever nothing but open threads can continue, the machine is at rest, and is judged. If it has a finding that no
further step can undo, the open threads do pause, and the machine ends with it. A context that waits for what an open
thread may yet do is only told (`doubt`).

Real processes may perform the same as the machine (`Processes`): whenever it has stopped, and before anybody is told.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

from cluster.runs.outcome import Outcome
from cluster.runs.replay import compare, recorded
from cluster.search.follow import Order
from cluster.search.strategy import Strategy, default
from cluster.session.stepped import Stepped, first
from nodes.cpu import FINISHED, Thread
from shared.detectors.verdict import judge, snapshot_of, sort_out, waits_of
from shared.detectors.waits import WaitGraph
from shared.errors import Diverged, ProjectBug, UserMistake
from shared.findings import Finding
from shared.journal.order import Operations, events_after
from shared.journal.record import Journals, Record
from shared.journal.runfile import scenario_document, scenario_of
from shared.scenario.model import Lwp, Scenario
from shared.scenario.yaml import MAX_BYTES, parse, show

#: operations that a session may have, if its user does not say
MAX_SESSION = 200_000
PAUSE_STEP = "pause"


class Stop(NamedTuple):
    """Why the machine has stopped.

    Attributes:
        why: done - all that was asked for; rest - nothing can continue but open threads; blocked - the context that was
            asked to cannot; break - a function was entered; ended - for good, with a finding or without.
        ctx, function: of a break; of blocked, the context.
    """

    why: str
    ctx: str = ""
    function: str = ""


@dataclass
class Going:
    """The command that lets the machine continue.

    Attributes:
        ctx: the context that performs it; None: the default schedule says, or another strategy.
        operations: how many; breaks: functions at whose entry it stops.
        chooser: that strategy.
    """

    ctx: str | None
    operations: int
    breaks: frozenset[str] = frozenset()
    chooser: Strategy | None = None
    stop: Stop = field(default=Stop("done"))


class Processes(Protocol):
    """Real processes that perform what the machine of a session performs."""

    def follow(self, machine: Stepped) -> None:
        """Perform what it has performed since the last call, or all of that if it is another machine.

        Raises: Diverged - they have done something else; Infrastructure - one of them has died.
        """

    def check(self) -> None:
        """Raises: Infrastructure - one of them has died."""

    def save(self, folder: Path, outcome: Outcome) -> str:
        """Copy the journals so far into a folder; the outcome so far gets them.

        Returns the identity of the run, which they have.

        Raises: Diverged, Infrastructure; OSError, which names the file.
        """

    def finish(self, outcome: Outcome) -> None:
        """The session has ended; its outcome gets the journals that the processes have written.

        Raises: Diverged, Infrastructure.
        """


def opened(scenario: Scenario) -> Scenario:
    """The scenario as a session can begin with it.

    Raises: UserMistake - steps cannot be added to its text.
    """
    try:
        parse(f"{scenario.text.rstrip()}\nsession_: []\n", scenario.file)
    except UserMistake:
        why = "a session adds lines to this file, so that must be lines `key: value`, not one mapping in braces"
        raise UserMistake(why, file=scenario.file) from None
    return scenario if scenario.bound.operations is not None else scenario.with_operations(MAX_SESSION)


class Session:
    """A machine that stays.

    Args:
        scenario: which `opened` has made fit; `options`: what `uvmp replay` needs beside its folder.
        processes: None: the machine is in `sim` alone.

    Attributes:
        machine: the execution so far.
        lost: why the processes cannot go on, which ends the session.
        doubt: the finding that a machine at rest would have if nothing more came; None: none, or it is not at rest.
    """

    doubt: Finding | None

    def __init__(self, scenario: Scenario, options: Iterable[str] = (), processes: Processes | None = None):
        self.options = tuple(options)
        self.scenario, self.processes = scenario, processes
        self.lost: ProjectBug | UserMistake | None = None
        self.machine = Stepped(scenario)
        self._after()

    @property
    def finding(self) -> Finding | None:
        return self.machine.finding

    def threads(self) -> dict[str, Thread]:
        return self.machine.sim.threads

    def enabled(self) -> list[str]:
        """The contexts that can perform the next operation."""
        if self.machine.ended:
            return []
        return [thread.name for thread in self.machine.hand.enabled if not self.waits_for_step(thread)]

    def lwp(self, name: str) -> Lwp | None:
        """The thread of that name, if it is none of the kernel's."""
        return next((lwp for lwp in self.scenario.lwps if lwp.name == name), None)

    def waits_for_step(self, thread: Thread) -> bool:
        """Is it in user mode, and has performed all steps but the pause?"""
        lwp = self.lwp(thread.name)
        if lwp is None or not lwp.program or lwp.program[-1].op != PAUSE_STEP:
            return False
        here = thread.parked and not thread.stack and thread.state != FINISHED
        return here and len(thread.results) == len(lwp.program) - 1

    # -- letting it go ---------------------------------------------------------------

    def go(self, going: Going) -> Stop:
        """Let the machine perform what it is told; returns why it has stopped.

        Raises: UserMistake - it has ended, or there is no such context.
        """
        if self.machine.ended:
            raise UserMistake(f"the machine has ended{self._why_ended()}")
        if going.ctx is not None and going.ctx not in self.threads():
            known = ", ".join(self.threads())
            raise UserMistake(f"there is no context {show(going.ctx)}; there are: {known}")
        machine, target = self.machine, self.machine.operations + going.operations
        seen = len(machine.records)

        def decide(enabled: Sequence[Thread], current: Thread | None) -> Thread | None:
            nonlocal seen
            for record in machine.records[seen:] if going.breaks else ():
                if record["event"] == "enter" and record["fn"] in going.breaks:
                    going.stop = Stop("break", record["ctx"], record["fn"])
                    return None
            seen = len(machine.records)
            if machine.operations >= target:
                going.stop = Stop("done")
                return None
            ready = [thread for thread in enabled if not self.waits_for_step(thread)]
            if going.ctx is not None:
                chosen = next((thread for thread in ready if thread.name == going.ctx), None)
                if chosen is None:
                    going.stop = Stop("blocked" if ready else "rest", going.ctx)
                return chosen
            if not ready:
                going.stop = Stop("rest")
                return None
            last, current = machine.hand.last, current if current in ready else None
            if going.chooser is not None:
                return going.chooser.pick(ready, current)
            return default(ready, current, -1 if last is None else last.order)

        machine.go(decide, first if going.chooser is None else going.chooser.choose)
        self._after()
        return Stop("ended") if machine.ended else going.stop

    def _after(self) -> None:
        """The machine has stopped."""
        self._judge()
        self._follow()

    def _follow(self) -> None:
        """Let the processes perform the same."""
        with self._losing():
            if self.processes is not None:
                self.processes.follow(self.machine)

    def check(self) -> None:
        """Are the processes there?

        Raises: Infrastructure.
        """
        with self._losing():
            if self.processes is not None:
                self.processes.check()

    @contextmanager
    def _losing(self) -> Iterator[None]:
        """What goes wrong with the processes ends the session."""
        try:
            yield
        except (ProjectBug, UserMistake) as wrong:  # the latter: a patch has failed
            self.lost = wrong
            raise

    def _judge(self) -> None:
        """Is there anything wrong with the machine?"""
        machine, self.doubt = self.machine, None
        if machine.ended:
            return
        if machine.races():
            machine.give_up()
        elif all(self.waits_for_step(thread) for thread in machine.hand.enabled):
            finding = self._found_at_rest()
            if finding is not None and self._is_certain(finding):
                self._pause()
            else:
                self.doubt = finding

    def end(self) -> None:
        """Let the open threads of a machine at rest perform their pause: it comes to its end, where it is judged."""
        self._pause()
        self._follow()

    def _pause(self) -> None:
        self.doubt = None
        self.machine.go(lambda enabled, current: default(enabled, current, -1))

    def _found_at_rest(self) -> Finding | None:
        """The finding that the machine would have if nothing more came."""
        sim = self.machine.sim
        oracle = sim.execution.oracle
        findings = judge(sim.machine.state(sim.heap), sim.detect, None if oracle is None else oracle.finding)
        return sort_out(findings, sim.detect)[0]

    def _is_certain(self, finding: Finding) -> bool:
        """Can no step of an open thread undo this?"""
        sim = self.machine.sim
        if finding.detector == "invariant":  # a step has perhaps left a lock that guards what it is about
            return not any(thread.held for thread in sim.threads.values())
        if finding.detector != "deadlock":
            return True
        state = sim.machine.state(sim.heap)
        return forever(WaitGraph(waits_of(state, snapshot_of(state))), finding.context)

    def _why_ended(self) -> str:
        return "" if self.finding is None else f": {self.finding.kind}"

    # -- a run that it takes over -----------------------------------------------------

    def resume(self, journals: Journals) -> None:
        """Perform the beginning of a run, before anything else.

        Args:
            journals: a consistent part of those of the run, which may have been one of real processes. (Kernel events
                may be missing behind the last event of a processor that has died.)

        Raises: Diverged - this machine performs other operations; LogIncomplete - they contradict each other.
        """
        machine = self.machine
        order = Order(self.threads(), Operations(journals), events_after(journals), cut=True)
        order.new_execution()
        machine.go(order.pick, order.choose)
        if not machine.ended:  # (behind a finding, other processors of a live machine went on for a moment)
            assert machine.sim.journals is not None
            ends = {node: sum(1 for _ in records) for node, records in journals.items()}
            compare(journals, {
                node: [record for at, record in enumerate(journal.records) if at < ends[node] or "k" in record]
                for node, journal in machine.sim.journals.items()
            })  # fmt: skip
        self._after()

    # -- steps ------------------------------------------------------------------------

    def spawn(self, thread: str, step: str) -> None:
        """Add a step to the program of a thread.

        Args:
            step: as a scenario's file has it, in one line: `mmap: {as: buf, pages: 2}`.

        Raises: UserMistake - no such thread, no such step, or the thread is beyond it.
        """
        if self.machine.ended:
            raise UserMistake(f"the machine has ended{self._why_ended()}")
        longer = self.with_step(thread, step)
        machine = Stepped(longer)
        try:
            machine.follow(self.machine.hand.picks)
            if machine.ended or not _same(machine.records, self.machine.records):
                raise Diverged("the same operations", "others")
        except Diverged:
            machine.give_up()
            raise UserMistake(f"{thread} is beyond this step: its program has ended, or began without it") from None
        old, self.machine, self.scenario = self.machine, machine, longer
        old.give_up()
        self._follow()

    def with_step(self, thread: str, step: str) -> Scenario:
        """The scenario with this step more.

        Raises: UserMistake.
        """
        flow = parse("{" + step + "}", "STEP").flow() if "\n" not in step else ""
        name = parse(thread, "THREAD").data if thread.isidentifier() else None
        if not flow or name != thread or step.lstrip()[:1] in ("", "{"):
            raise UserMistake("expected a thread and its step, such as: spawn A exit: {}")
        text = self.scenario.text.rstrip() + "\n"
        if "session" not in parse(text, self.scenario.file).items():
            text += "session:\n"
        text += f"  - {thread}: {flow}\n"
        if len(text) > MAX_BYTES:
            raise UserMistake(f"the scenario is longer than {MAX_BYTES // 1024} KiB with this step")
        try:
            return scenario_of({**scenario_document(self.scenario, ""), "text": text})
        except UserMistake as mistake:  # the line is of no file that the user has
            place = (mistake.field or "").partition(f"].{thread}.")[2]
            raise UserMistake(mistake.message, field=place or thread) from None

    # -- results ------------------------------------------------------------------------

    def outcome(self) -> Outcome:
        """The run so far, as a second machine that performs the same operations leaves it.

        Raises: Diverged - it performs others.
        """
        again = Stepped(self.scenario)
        again.follow(self.machine.hand.picks)
        again.give_up()
        outcome = recorded(again.sim)
        outcome.cut = again.sim.execution.abandoned
        if not _same(again.records, self.machine.records):
            raise Diverged("the operations of the session", "others")
        return outcome

    def finish(self) -> Outcome:
        """The outcome of the session, which has ended.

        Raises: Diverged, Infrastructure.
        """
        outcome = self.outcome()
        with self._losing():
            if self.processes is not None:
                self.processes.finish(outcome)
        return outcome

    def close(self) -> None:
        """End the execution."""
        try:
            self.machine.give_up()
        except (ProjectBug, UserMistake):
            pass


def forever(graph: WaitGraph, name: str) -> bool:
    """Does a context wait for contexts that have ended, or that wait forever too?"""
    facts, work, seen = graph.facts, [name], {name}
    while work:
        now = work.pop()
        wait, edges = facts.waits.get(now), graph.edges(now)
        if wait is None:
            return False
        if not edges:
            return wait.kind == "lock" and any(hold.ctx in facts.ended for hold in graph.in_the_way(now, wait))
        work += [edge.to for edge in edges if edge.to not in seen]
        seen.update(edge.to for edge in edges)
    return True


def _same(records: Sequence[Record], other: Sequence[Record]) -> bool:
    return len(records) == len(other) and all(a == b for a, b in zip(records, other, strict=True))
