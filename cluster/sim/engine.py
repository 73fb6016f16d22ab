"""The deterministic engine: every node in one process, every context a greenlet.

Here are executions, from the image to the verdict, and what an operation does. Which context performs the next one,
cluster/sim/schedule.py says; which accesses are scheduling points, cluster/sim/heap.py. Nothing here knows UVM, and
nothing imports Ray.

Recorded, a run is judged by its records (shared/detectors/race.py), and ends after exactly as many operations as it may
have. Unrecorded, both are only approximate, for speed: races of fields that are not yet racy are missed, the first race
ends the run, and so does the first point behind the last operation. So the finding of an unrecorded run must
be confirmed by a recorded run of the same schedule.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any

from cluster.machine import Machine, sites_of
from cluster.search.strategy import SearchOver, Stay, Strategy
from cluster.sim.judged import UNKNOWN, Judged, final_state
from cluster.sim.schedule import Execution, Scheduling, unpacked
from nodes.cpu import Thread
from nodes.node import Node
from shared.detectors.oracle import Oracle
from shared.detectors.provenance import MOVES, innermost
from shared.detectors.race import TRACKED, RaceDetector, Watch
from shared.detectors.verdict import (
    came_before,
    endless,
    judge,
    no_end,
    of_operations,
    out_of_time,
    promise,
    refused,
    sort_out,
)
from shared.errors import PortDead
from shared.findings import Finding
from shared.journal.deviation import Deviation
from shared.journal.record import Journal, operation_record
from shared.locks.order import Ever, LockOrder
from shared.patch import Patch
from shared.patch import current as applied
from shared.port.port import Value, here
from shared.scenario.steps.step import Args
from shared.wire.messages import OPERATIONS, WAIT, Interrupt, KernelFinding

#: the current context as long as none has run
NOBODY = Thread("", "", lambda: None)
NOBODY.order = -1
#: objects that are made, and not given back, between two looks of the garbage collector
COLLECT_EVERY = 1_000_000
#: operations between two looks at the clock; a power of two
LOOK_EVERY = 64


class Server:
    """A node that performs one kind of operation.

    Attributes:
        method: of the node, as it is now.
        moves, tracked: the trail of the memory oracle has such operations; the race detector is told of them.
    """

    __slots__ = ("method", "moves", "node", "tracked")

    def __init__(self, node: Node, code: str):
        self.node = node
        self.method: Callable[..., Any] = getattr(node, "op_" + code)
        self.moves, self.tracked = code in MOVES, code in TRACKED


@contextmanager
def seldom_collected() -> Iterator[None]:
    """For many executions: the garbage collector looks seldom. An execution leaves next to no cycles behind."""
    before = gc.get_threshold()
    gc.set_threshold(COLLECT_EVERY, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


class Sim(Scheduling):
    """One machine, run as often as wanted, each time from the same image.

    Args:
        machine: its nodes' state is replaced at every execution.
        image: what `boot` gave; None while booting.
        racy: keys of fields that are scheduling points although guarded; grows.
        granularity: "guarded" (the thinning rule) or "access" (every access is a point).
        limit: operations that a run may have; None: as many as the scenario says.

    Attributes:
        journal: makes the journal of a node, for a run that is recorded.
        time_s: seconds that a run may take that is recorded; None: any.
        ends_at: number of operations behind which the time of the next run is over, as that of another one was.
    """

    def __init__(
        self,
        machine: Machine,
        image: dict[str, object] | None,
        racy: set[str] | None = None,
        granularity: str = "guarded",
        limit: int | None = None,
    ):
        limit = machine.scenario.limit if limit is None else limit
        super().__init__(machine, image is None, set() if racy is None else racy, granularity == "access", limit)
        self.image_ = image
        self.journal: Callable[[str], Journal] = Journal
        self.most = limit
        self.time_s: float | None = None
        self.ends_at: int | None = None
        self.began_s = 0.0
        self.servers: dict[str, Server] = {}
        self.shards: dict[tuple[str, str], Server] = {}
        self.patch: Patch | None = None
        self.judged, self.ever = Judged(), Ever()
        self.differs: Finding | None = None
        self.oracle: Oracle | None = None
        if image is not None and self.detect.get("oracle") != "off" and machine.scenario.functions is None:
            self.oracle = Oracle(machine.scenario, image)  # (functions access no words of pages)
        self.execution = self._new_execution(Stay(), False)

    # -- one execution ---------------------------------------------------------

    def execute(self, strategy: Strategy, record: bool = False) -> Finding | None:
        """Run the machine once, from its image to the end; returns the finding, if any.

        Args:
            record: keep journals (`self.journals`), and judge the run by them.

        Raises: SearchOver - the strategy has no execution left to try; the engine is as the last one left it.
        """
        if not strategy.new_execution():
            raise SearchOver
        self._restore()
        self.began_s, self.limit = monotonic(), self.most if self.ends_at is None else min(self.most, self.ends_at)
        self.journals = {name: self.journal(name) for name in self.machine.nodes} if record else None
        execution = self.execution = self._new_execution(strategy, record)
        self._fill_pool()
        here.push(self)  # (twice as fast as `with`)
        try:
            self._run()
        finally:
            here.pop()
        execution.catch_up()
        for processor in self.machine.processors:
            for name, count in processor.counters.items():
                self.counters[name] = self.counters.get(name, 0) + count
        if self.crash is not None:
            raise self.crash
        return self.finding

    def _run(self) -> None:
        """An execution up to its verdict, and until no context is in its middle."""
        if not self._refuses():
            try:
                first = self._pick(None)
                if first is not None:
                    self._go(first)
            except PortDead:
                pass
        if self.crash is None and not self.booting:
            self._verdicts()
        elif self.execution.ended:
            self.finding = no_end(self.machine.state(self.heap), of_operations(self.limit))
        self.dead = True
        for thread in self.threads.values():
            if thread.switch is not None:
                thread.switch()  # to its end: `_go` raises PortDead there (faster than `throw`)

    def _servers(self) -> dict[str, Server]:
        """Of each kind of operation for which there is one node alone: that node, with its method as it is now."""
        alone: dict[str, list[Node]] = {}
        for node in self.machine.nodes.values():
            alone.setdefault(node.kind, []).append(node)
        return {
            code: Server(alone[op.node][0], code)
            for code, op in OPERATIONS.items()
            if not op.local and len(alone.get(op.node, ())) == 1
        }

    def _new_execution(self, strategy: Strategy, record: bool) -> Execution:
        """Everything that an execution starts with, its detectors among it."""
        races, order = self.detect.get("race") != "off", self.detect.get("lockorder") != "off"
        self.race = RaceDetector() if races and not record and not self.booting else None
        self.order, self.learns_order = LockOrder(ever=self.ever), not record
        chooser = strategy.chooser()
        self.every_access = self.always or chooser.detailed()
        self.fast, self.looks = not record and not self.every_access, chooser.looks()
        self._look_at_racy()
        managers = self.machine.lock_managers
        self.manager = managers[0] if not record and self.patch is None and len(managers) == 1 else None
        execution = Execution(chooser, self.machine.processors, self.limit, record)
        if record and (races or order) and self.image_ is not None:
            execution.watch = Watch(self.image_)
        if self.oracle is not None:
            self.oracle.restart()
            execution.oracle = self.oracle
        return execution

    def _refuses(self) -> bool:
        """Do the nodes' tables differ, so that nothing may be performed?"""
        finding = None if self.booting else self.differs
        level = "off" if finding is None else finding.level(self.detect)
        if finding is not None and level == "note":
            self.notes.append(finding)
        elif finding is not None and level == "stop":
            self.finding = finding
        return level == "stop"

    def _verdicts(self) -> None:
        """The run is over: what is wrong with it, and with the machine as it is now?"""
        watch, oracle = self.execution.watch, self.execution.oracle
        watched = watch.findings() if watch is not None else []
        finding: Finding | None
        if self.finding is not None:
            finding, notes = came_before(watched, self.finding, self.detect)
        elif self.execution.ended:
            finding, notes = sort_out(self._endless(watched), self.detect)
        elif self.execution.abandoned:
            finding, notes = sort_out(watched, self.detect)
        else:
            finding, notes = sort_out(
                self._at_rest(watched, oracle.finding if oracle is not None else None), self.detect
            )
        self.finding = finding
        self.notes += notes

    def _at_rest(self, watched: list[Finding], wrong: Finding | None) -> list[Finding]:
        """The findings about a run that has come to its end.

        Args:
            wrong: what the memory oracle says.
        """
        sound = not watched and wrong is None and self.image_ is not None
        ended = UNKNOWN
        if sound and self.judged.pays():
            functions = self.machine.scenario.functions
            whole = self.detect.get("invariant") != "off" or (functions is not None and functions.check is not None)
            ended = final_state(self.machine, self.heap, self.results, whole)
        if self.judged.knows(ended):
            return []
        state = self.machine.state(self.heap)
        unexpected = promise(self.machine.scenario, self.results, state)
        findings = judge(state, self.detect, wrong, unexpected, watched)
        if ended and not findings and unexpected is None:
            self.judged.remember(ended)
        return findings

    @property
    def late(self) -> bool:
        """Was this execution ended because its time was over?"""
        return self.execution.ended and self.limit < self.most

    def _endless(self, watched: list[Finding]) -> list[Finding]:
        """The findings about a run that has had all operations, or all the time, that it may have."""
        if self.late and self.time_s is not None:
            return out_of_time(self.machine.state(self.heap), self.detect, self.time_s, watched)
        long_waiting = set()
        for thread in self.threads.values():
            if thread.waits is not None and thread.waits[0] in self.machine.route:
                code, target = thread.waits
                if thread.waits_since * 2 < self.machine.nodes[self.machine.route[code](target)].admitted:
                    long_waiting.add(thread.name)
        return endless(self.machine.state(self.heap), self.detect, self.limit, long_waiting, watched)

    def _restore(self) -> None:
        self.machine.reset()
        nodes = self.machine.nodes
        if applied() is not self.patch or not self.servers:
            self.patch, self.servers, self.shards = applied(), self._servers(), {}
        if self.machine.loaded_by is not self:
            if self.image_ is not None:
                for name, node in nodes.items():
                    node.load_image(self.image_[name])
            self._join_shards()
            for node in nodes.values():
                node.keep()
            self.machine.loaded_by = self
            self.differs = refused({name: node.tables() for name, node in nodes.items()})
        elif self.image_ is not None:
            for name, node in nodes.items():
                node.restore(self.image_[name])
        self.dead = False
        self.finding = self.crash = None
        self.cur = NOBODY
        self.stale, self.passed = {}, {}
        self.notes, self.counters = [], {}
        self.sites = sites_of(self.image_) if self.image_ is not None else {}
        for node in nodes.values():
            node.sites = self.sites

    @property
    def points(self) -> int:
        """Scheduling points of this execution."""
        return self.execution.points

    @property
    def deviations(self) -> list[Deviation]:
        """Of this execution, from the default schedule."""
        threads = list(self.threads.values())
        return [unpacked(packed, threads) for packed in self.execution.deviations]

    # -- operations ------------------------------------------------------------

    def perform(self, code: str, target: int, args: tuple[object, ...]) -> Value:
        if self.dead:
            raise PortDead
        execution = self.execution
        if execution.operations >= self.limit:
            self._no_more()
        thread = self.cur
        assert isinstance(thread, Thread)
        server = self.servers.get(code)
        if server is None:
            server = self._shard(code, target)
        node = server.node
        thread.n += 1
        thread.processor.k += 1
        node.admitted += 1
        if execution.everywhere:
            execution.strategy.performed(code, target, args)
        if code == "sleep":
            thread.woken = False
            thread.waits_since = node.admitted
        try:
            result = node.perform(server.method, thread.name, code, target, args)
        except KernelFinding as finding:
            if self.journals is not None:
                refused = operation_record(code, target, args, None, [])
                self._record(node.name, thread, {**refused, "refused": finding.kind})
            return self.refused(finding, code, target, args)
        out = node.out
        if out:
            node.out = []
        if self.journals is not None:
            self._record(node.name, thread, operation_record(code, target, args, result, out))
        if server.moves and execution.oracle is not None:
            moved = None if result is WAIT else result
            execution.oracle.trail.add((thread.name, thread.n, innermost(thread.stack), code, target, args, moved))
        if server.tracked and self.race is not None:
            raised = [effect.ctx for effect in out if isinstance(effect, Interrupt)] if out else ()
            ended = [effect.ctx for effect in out if not isinstance(effect, Interrupt)] if out else ()
            self.race.operation(thread.cpu, code, target, result, ended, raised)
        if result is WAIT:
            thread.ready = thread.woken = False
            thread.waits_since = node.admitted
        for effect in out:
            self._deliver(effect)
        return self._wait_for_grant(thread, code, target) if result is WAIT else result

    def _shard(self, code: str, target: int) -> Server:
        """The node, of several of its kind, that performs an operation."""
        name = self.machine.route[code](target)
        server = self.shards.get((code, name))
        if server is None:
            server = self.shards[code, name] = Server(self.machine.nodes[name], code)
        return server

    def _record(self, node: str, thread: Thread, record: dict[str, object]) -> None:
        self.execution.operations += 1
        if self.time_s is not None and not self.execution.operations % LOOK_EVERY:
            self._look_at_clock(self.time_s)
        super()._record(node, thread, record)

    def _look_at_clock(self, time_s: float) -> None:
        """If the time of a run is over, it may have no more operations. To repeat a beginning takes none of it."""
        if self.execution.strategy.repeats():
            self.began_s = monotonic()
        if self.ends_at is None and monotonic() - self.began_s > time_s:
            self.limit = min(self.limit, self.execution.operations)

    def _write(self, node: str, record: dict[str, object]) -> None:
        super()._write(node, record)
        if self.execution.watch is not None:
            self.execution.watch.record(record)

    def _local(self, thread: Thread, code: str, *args: object) -> None:
        if self.execution.operations >= self.limit:
            self._no_more()
        super()._local(thread, code, *args)
        if self.race is not None:
            if code == "run":
                self.race.goes_on(thread.name, thread.cpu)
            elif code == "intr":
                self.race.interrupts(thread.name, thread.cpu)

    def stats(self) -> dict[str, int]:
        return self.thread.processor.counters

    def accessed(self, proc: int, va: int, write: bool, value: int, frame: int) -> None:
        if self.execution.oracle is not None:
            thread = self.cur
            self.execution.oracle.access((thread.name, thread.n, frame), proc, va, write, value)

    def called(self, step: Args) -> None:
        if self.journals is not None:
            super().called(step)
        if self.execution.oracle is not None:
            self.execution.oracle.called(self.cur.name, step)

    def returned(self, op: str, result: int | str) -> None:
        if self.journals is not None:
            super().returned(op, result)
        if self.execution.oracle is not None:
            self.execution.oracle.returned(self.cur.name, result)
