"""A host: nodes of a machine in one process, with at most one processor among them.

A host is an actor without Ray. It builds its nodes from a scenario and an image, admits requests to them, runs the
contexts of its processor in their own thread (nodes/host/runner.py), and answers the driver. A transport connects it to
other hosts. Its methods are short and never wait, so a delivery is never blocked. Methods that receive messages take
and return one `bytes` (shared/wire/codec.py).
"""

from __future__ import annotations

import os
import shutil
import threading
from collections import Counter
from contextlib import ExitStack, suppress
from pathlib import Path

from nodes.build import build_node, build_threads
from nodes.cpu import Processor, Thread
from nodes.host.admit import Admission
from nodes.host.lease import ACCESSES, Lender
from nodes.host.lines import Lines
from nodes.host.private import make_folder, temporary
from nodes.host.remains import CHUNK_BYTES, PREFIX
from nodes.host.runner import Runner
from nodes.host.transport import Transport
from nodes.lock_manager import LockManager
from nodes.memory import Memory
from shared.detectors.machine_state import HostNow, HostState, only
from shared.errors import Infrastructure
from shared.journal.record import Journal
from shared.journal.runfile import SUFFIX
from shared.patch import switch
from shared.program.functions import import_all
from shared.scenario.model import Scenario
from shared.scenario.pack import unpack_scenario
from shared.wire.codec import (
    ANSWER,
    CHUNK,
    DELIVERY,
    FRAMES,
    GIVE_BACK,
    LOAD,
    LOADED,
    NOW,
    POLL,
    RECALL,
    SCHEDULE,
    STATE,
    decode,
    encode,
)
from shared.wire.frames import Answer, GiveBack, Recall
from shared.wire.messages import Delivery, Frame, Loaded, Poll, Reply, Status
from shared.wire.tables import tables

#: seconds for a processor to stop
FINISH_S = 5.0


class Host:
    """Some nodes, and what they need to be asked by others.

    Args:
        name: as messages to the user have it.
        nodes: names of the nodes that it carries.

    Attributes:
        leases: structs are lent to processors, in runs that follow no schedule.
        files: of the journals of its nodes, by node, while they are written.
        folder: where they are; None: nowhere. `own`: the same, if this host has made it and must remove it.
        runner, thread: of its processor, while it has one.
    """

    runner_class: type[Runner] = Runner
    leases = False

    def __init__(self, name: str, nodes: list[str], transport: Transport):
        self.name, self.names, self.transport = name, nodes, transport
        self.admissions: dict[str, Admission] = {}
        self.lender: Lender | None = None
        self.runner: Runner | None = None
        self.thread: threading.Thread | None = None
        self.sent = 0
        self.sent_lock = threading.Lock()
        self.files: dict[str, Lines] = {}
        self.folder: Path | None = None
        self.own: Path | None = None

    # -- a run -------------------------------------------------------------------

    def load(self, data: bytes) -> bytes:
        """Everything back to the image of a scenario; opens new journals.

        Returns: which tables this host's source has, and which its nodes were built with.
        """
        self.clean()
        if self.thread is not None:
            raise Infrastructure(f"the processor of {self.name} still runs")
        load = decode(LOAD, data)
        switch(load.patch)
        scenario = unpack_scenario(load.scenario)
        if scenario.functions is not None:
            import_all(scenario.functions)
        threads = self._contexts(scenario)
        cpu_of = {name: thread.cpu for name, thread in threads.items()}
        self.folder = self._folder(Path(load.folder), load.mark)
        self.transport.begin(f"{load.run} {load.mark}")  # (who goes on with a run has the same run again)
        self.sent, self.admissions, self.runner = 0, {}, None
        leases = self.leases and load.follow is None and scenario.detect.get("heap", "stop") == "stop"
        self.lender = Lender(self.recall) if leases else None
        about = {"scenario": scenario.id, "errata": list(scenario.errata), "engine": "live"}
        for name in self.names:
            lines = self.files[name] = Lines(self.folder / f"{name}{SUFFIX}")
            journal = Journal(name, lines, keep=False)
            journal.header(run=load.run, **about, pid=os.getpid(), host=os.uname().nodename)
            node = build_node(name, scenario.machine, threads, scenario.errata)
            node.load_image(load.images.get(name))
            turns = None if load.follow is None else load.follow.nodes[name]
            self.admissions[name] = Admission(node, journal, cpu_of, turns, self.post)
            if isinstance(node, Processor):
                order = None if load.follow is None else load.follow.processors[name]
                self.runner = self.runner_class(node, scenario, journal, self, order, load.seed)
                if leases:
                    self.runner.borrow()
        nodes = {name: dict(admission.node.tables()) for name, admission in self.admissions.items()}
        return encode(LOADED, Loaded(dict(tables()), nodes, str(self.folder)))

    def _folder(self, wanted: Path, mark: str) -> Path:
        """Where to keep the journals: there, if it is a folder of this disk; else in a new folder."""
        if not mark:
            make_folder(wanted, exist_ok=True)
            self.own = wanted
        elif not (wanted / mark).is_file():
            wanted = self.own = temporary(PREFIX)
        return wanted

    def _contexts(self, scenario: Scenario) -> dict[str, Thread]:
        """The contexts of the whole machine, by name."""
        return build_threads(scenario)

    def start(self) -> None:
        """Let the processor's contexts run."""
        if self.runner is not None:
            self.thread = threading.Thread(target=self.runner.loop, name=self.name, daemon=True)
            self.thread.start()

    def extend(self, data: bytes) -> None:
        """The schedule that the nodes and the processor follow goes on."""
        schedule = decode(SCHEDULE, data)
        if self.runner is not None:
            self.runner.extend(schedule.processors[self.runner.processor.name])
        for name, admission in self.admissions.items():
            admission.extend(schedule.nodes[name])
        self._commit()

    def halt(self) -> None:
        """Let the processor stop at its next operation; its contexts and nodes can still be asked about."""
        if self.runner is not None:
            self.runner.halt()

    def finish(self) -> None:
        """End the run: the contexts unwind, journals are closed.

        Raises: Infrastructure - a journal could not be written; all others are whole. Or its processor has not stopped,
            and would continue in the next run: this process is of no use any more.
        """
        self.halt()
        if self.thread is not None:
            self.thread.join(timeout=FINISH_S)
            if self.thread.is_alive():
                raise Infrastructure(f"the processor of {self.name} has not stopped after {FINISH_S:.0f} s")
        self.runner = self.thread = None
        files, self.files = self.files, {}
        with ExitStack() as all_of_them:
            for lines in files.values():
                all_of_them.callback(lines.close)

    def clean(self) -> None:
        """End the run, and remove the journals if they are in a folder of our own."""
        with suppress(Infrastructure):
            self.finish()
        self.transport.begin("")
        if self.own is not None:
            shutil.rmtree(self.own, ignore_errors=True)
        self.own = self.folder = None

    # -- messages between hosts ------------------------------------------------------

    def admit(self, data: bytes) -> bytes:
        """Frames of requests; returns the answer to them."""
        answer = self._admit(data)
        self._commit()
        return answer

    def _admit(self, data: bytes) -> bytes:
        frames = decode(FRAMES, data)
        if self.lender is not None:
            return encode(ANSWER, self._admit_claimed(frames, self.lender))
        done = 0
        for frame in frames:
            done += 1
            reply = self.admissions[frame.node].frame(frame)
            if reply.status in (Status.REFUSED, Status.HELD):
                break
        return encode(ANSWER, Answer(done, reply))

    def _admit_claimed(self, frames: list[Frame], lender: Lender) -> Answer:
        """Admit frames of a run that has leases: each access when the struct is its processor's."""
        loaded: list[object] = []
        reply, lent = Reply(Status.DONE), None
        cpu, last = frames[0].cpu, frames[-1].requests[-1]
        for done, frame in enumerate(frames, 1):
            admission = self.admissions[frame.node]
            for request in frame.requests:
                if request.code in ACCESSES:
                    lender.claim(cpu, request.target, request.k)
                reply = admission.request(cpu, request)
                if reply.status == Status.REFUSED:
                    lender.void(cpu)
                    return Answer(done, reply, loaded)
                if request.code == "load":
                    if request is not last:
                        loaded.append(reply.value)
                    elif isinstance(admission.node, Memory) and cpu not in self.admissions:
                        record = admission.node.heap.records[request.target]
                        lent = lender.lend(cpu, request.target, record.gen, record.fields)
                lender.performed(cpu, request.k)
        return Answer(len(frames), reply, loaded, lent)

    def _commit(self) -> None:
        """What has happened here is in a file when this returns, so that all that it causes elsewhere has its cause."""
        for lines in self.files.values():
            if lines.waiting or lines.lock.locked():  # (in this order: who has taken lines has the lock)
                lines.commit()

    def deliver(self, data: bytes) -> None:
        """Something for this host's processor, or a struct that comes back from another's."""
        if GIVE_BACK.is_of(data):
            if self.lender is not None:
                self.lender.give_back(decode(GIVE_BACK, data))
        elif RECALL.is_of(data):
            if self.runner is not None and self.runner.borrower is not None:
                self.runner.borrower.recall(decode(RECALL, data))
        else:
            delivery = decode(DELIVERY, data)
            if self.runner is not None:
                self.runner.inbox.put(delivery)

    def host_of(self, node: str) -> str:
        return self.transport.host_of[node]

    def ask(self, frames: list[Frame]) -> Answer:
        """Have the host of their nodes, which may be this host, admit frames; returns the answer."""
        data, node = encode(FRAMES, frames), frames[0].node
        if node in self.admissions:
            return decode(ANSWER, self._admit(data))
        self._commit()
        return decode(ANSWER, self.transport.ask(node, data))

    def post(self, processor: str, delivery: Delivery) -> None:
        """Give a delivery to the host of a processor, which may be this host."""
        with self.sent_lock:  # several frames may be admitted at a time, for different nodes
            self.sent += 1
        data = encode(DELIVERY, delivery)
        if processor in self.admissions:
            self.deliver(data)
        else:
            self._commit()
            self.transport.post(processor, data)

    def recall(self, processor: str, recall: Recall) -> None:
        """Ask a processor on another host to give a struct back."""
        self.transport.post(processor, encode(RECALL, recall))

    def give_back(self, node: str, given: GiveBack) -> None:
        """Tell the host of a memory node that it has a struct back."""
        self.transport.post(node, encode(GIVE_BACK, given))

    # -- what the driver asks --------------------------------------------------------

    def poll(self) -> bytes:
        """Counts, and whether anything is going on; cheap."""
        self._commit()
        runner = self.runner
        errors = self.transport.failures()
        if runner is not None and runner.crash is not None:
            errors.append(f"{type(runner.crash).__name__}: {runner.crash}")
        admissions = self.admissions.values()
        poll = Poll(
            admitted={name: admission.journal.nseq for name, admission in self.admissions.items()},
            sent=self.sent,
            received=0 if runner is None else runner.received,
            held=sum(len(admission.held) for admission in admissions),
            errors=errors,
            diverged=[
                admission.diverged
                for admission in (*admissions, runner)
                if admission is not None and admission.diverged
            ],
            idle=runner is None or (runner.idle and runner.inbox.empty()),
            operations=0 if runner is None else runner.processor.k,
            has_finding=runner is not None and runner.finding is not None,
            stopped=self.thread is None or not self.thread.is_alive(),
            behind=None if runner is None else runner.behind(),
        )
        return encode(POLL, poll)

    def now(self) -> bytes:
        """What contexts do at the moment, and who has or wants which lock; may be asked while the machine runs."""
        locks, asleep = [], []
        for admission in self.admissions.values():
            if isinstance(admission.node, LockManager):
                with admission.mutex:
                    locks += admission.node.table.locked()
                    asleep += admission.node.table.asleep()
        runner = self.runner
        if runner is None:
            return encode(NOW, HostNow(only([], locks), [], None, asleep))
        processor, asked = runner.processor, runner.asked
        running = [thread.name for thread in (processor.current, *processor.nested) if thread is not None]
        asks = None if asked is None else (asked.requests[-1].ctx, asked.node, asked.requests[-1].code)
        contexts = [thread.at_rest() for thread in runner.threads.values()]
        return encode(NOW, HostNow(only(contexts, locks), running, asks, asleep))

    def state(self) -> bytes:
        """What this host's nodes and contexts are at the end; asked when nothing is going on."""
        nodes, runner = [admission.node for admission in self.admissions.values()], self.runner
        sites: Counter[str] = Counter()
        for node in nodes:
            sites.update(node.sites)
        locks = [lock for node in nodes if isinstance(node, LockManager) for lock in node.table.locked()]
        images = {node.name: node.image() for node in nodes}
        if runner is None:
            return encode(STATE, HostState([], locks, images, {}, {}, sites, {}))
        threads, processor = runner.threads, runner.processor
        state = HostState(
            [thread.at_rest() for thread in threads.values()],
            locks,
            images,
            {processor.name: processor.tlb.state()},
            runner.results,
            {**sites, **runner.sites},  # the latter of the kernel: a node's own are of other errata
            runner.counters,
        )
        return encode(STATE, state)

    def chunk(self, node: str, offset: int) -> bytes:
        """A piece of a node's journal file, from `offset` bytes on; empty at its end."""
        if self.folder is None or node not in self.names:
            raise Infrastructure(f"{self.name} has no journal of {node}")
        lines = self.files.get(node)
        if lines is not None:
            lines.commit()
        with open(self.folder / f"{node}{SUFFIX}", "rb") as again:
            again.seek(offset)
            return encode(CHUNK, again.read(CHUNK_BYTES))
