"""The one generic Ray actor: carries one node or several, at most one of them a processor.

Its methods are short and never wait, so that deliveries always get in; the
processor's contexts run in a thread of their own (nodes/host/runner.py). Calls carry
one `bytes` each way (shared/codec.py). Handles of other actors are passed once,
at wiring. One-way calls are kept and their errors collected.

Measured on two cores, with sixty-byte frames: a thread that calls a
single-threaded actor synchronously makes 1200 to 1400 round trips a second, two
such threads 1900 together; everything one-way and event-driven 630 to 840, an
asyncio actor 750. Hence: synchronous calls from the running thread, one-way
deliveries into its inbox.
"""

from __future__ import annotations

import os
import shutil
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import ray

from nodes.build import build_node, build_threads
from nodes.cpu import Processor
from nodes.host.admit import Admission
from nodes.host.runner import LIMIT_S, Runner
from nodes.lock_manager import LockManager
from shared.codec import CHUNK, DELIVERY, FRAME, LOAD, LOADED, POLL, REPLY, STATE, decode, encode
from shared.detectors.machine_state import HostState
from shared.errors import Infrastructure
from shared.journal import Journal
from shared.messages import Delivery, Frame, Loaded, Poll, Reply
from shared.pack import unpack_scenario
from shared.patch import switch
from shared.tables import tables

REAP_EVERY = 64
CHUNK_BYTES = 90_000


class NodeActor:
    """An actor process of the machine.

    Args:
        name: of the actor, as Ray's own lines show it.
        nodes: names of the nodes it carries.
    """

    def __init__(self, name: str, nodes: list[str]):
        self.name, self.names = name, nodes
        self.peers: dict[str, Any] = {}
        self.actor_of: dict[str, str] = {}
        self.runner: Runner | None = None
        self.thread: threading.Thread | None = None
        self.admissions: dict[str, Admission] = {}
        self.refs: list[Any] = []  # one-way calls; the running thread adds to them, and both threads collect
        self.refs_lock = threading.Lock()
        self.errors: list[str] = []
        self.sent = 0
        self.files: list[Any] = []
        self.folder = Path("no folder yet")
        self.journals: dict[str, Journal] = {}

    def __repr__(self) -> str:
        return self.name

    def wire(self, peers: dict[str, Any], actor_of: dict[str, str]) -> int:
        """Handles of all other actors, and which actor carries which node; returns this process's id."""
        self.peers, self.actor_of = peers, actor_of
        return os.getpid()

    def where(self) -> tuple[str, str]:
        """On which Ray node this actor is, and where it keeps its journals."""
        return ray.get_runtime_context().get_node_id(), str(self.folder)

    # -- a run -------------------------------------------------------------------

    def load(self, data: bytes) -> bytes:
        """Everything back to the image of a scenario; opens new journals.

        Returns: which tables this actor's source has, and which its nodes were built with.
        """
        self.clean()
        load = decode(LOAD, data)
        switch(load.patch)
        scenario = unpack_scenario(load.scenario)
        config = scenario.machine
        threads = build_threads(scenario)
        cpu_of = {name: thread.cpu for name, thread in threads.items()}
        folder = self.folder = Path(load.folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.errors, self.sent, self.refs = [], 0, []
        self.admissions, self.journals, self.files = {}, {}, []
        for name in self.names:
            stream = (folder / f"{name}.uvmp.jsonl").open("xb")
            self.files.append(stream)
            journal = self.journals[name] = Journal(name, stream, keep=False)
            about = {"scenario": scenario.id, "errata": list(scenario.errata), "engine": "live"}
            journal.header(run=load.run, **about, pid=os.getpid(), host=os.uname().nodename)
            node = build_node(name, config, threads, scenario.errata)
            node.load_image(load.images.get(name))
            turns = None if load.follow is None else load.follow.nodes[name]
            self.admissions[name] = Admission(node, journal, cpu_of, turns, self._send)
            if isinstance(node, Processor):
                order = None if load.follow is None else load.follow.processors[name]
                self.runner = Runner(node, scenario, journal, self._ask, order, load.seed)
        nodes = {name: dict(admission.node.tables()) for name, admission in self.admissions.items()}
        return encode(LOADED, Loaded(dict(tables()), nodes))

    def start(self) -> None:
        """Let the processor's contexts run."""
        if self.runner is not None:
            self.thread = threading.Thread(target=self.runner.loop, name=self.name, daemon=True)
            self.thread.start()

    def halt(self) -> None:
        """Let the processor stop at its next operation; its contexts and nodes can still be asked about."""
        if self.runner is not None:
            self.runner.halt()

    def finish(self) -> None:
        """End the run: the contexts unwind, journals are closed."""
        self.halt()
        if self.thread is not None:
            self.thread.join(timeout=5.0)
        self.runner = self.thread = None
        for stream in self.files:
            stream.close()
        self.files = []

    def clean(self) -> None:
        """Remove this actor's log folders, on whatever host it is."""
        self.finish()
        shutil.rmtree(self.folder, ignore_errors=True)

    # -- messages between actors ---------------------------------------------------

    def admit(self, data: bytes) -> bytes:
        """A frame of requests from a CPU; returns the reply to the last."""
        frame = decode(FRAME, data)
        return encode(REPLY, self.admissions[frame.node].frame(frame))

    def deliver(self, data: bytes) -> None:
        """Something for this actor's processor."""
        delivery = decode(DELIVERY, data)
        if self.runner is not None:
            self.runner.inbox.put(delivery)

    def _send(self, cpu: str, delivery: Delivery) -> None:
        """Deliver to the actor that carries `cpu`, one-way."""
        self.sent += 1
        actor, data = self.actor_of[cpu], encode(DELIVERY, delivery)
        if actor == self.name:
            self.deliver(data)
            return
        ref = self.peers[actor].deliver.remote(data)
        with self.refs_lock:
            self.refs.append(ref)
            many = len(self.refs) >= REAP_EVERY
        if many:
            self._reap(0)

    def _reap(self, timeout: float) -> None:
        """Collect the results of one-way calls; an error of one is an error of ours."""
        with self.refs_lock:  # ray.wait must have a list that nobody else adds to meanwhile
            refs, self.refs = self.refs, []
        done, left = ray.wait(refs, num_returns=len(refs), timeout=timeout) if refs else ([], [])
        with self.refs_lock:
            self.refs += left
        for ref in done:
            try:
                ray.get(ref, timeout=LIMIT_S)
            except Exception as error:
                self.errors.append(f"{self.name}: a delivery failed: {error}")

    def _ask(self, frame: Frame) -> Reply:
        """Send a frame to the actor of its node and wait for the reply."""
        actor, data = self.actor_of[frame.node], encode(FRAME, frame)
        if actor == self.name:
            reply = self.admit(data)
        else:
            try:
                reply = ray.get(self.peers[actor].admit.remote(data), timeout=LIMIT_S)
            except ray.exceptions.GetTimeoutError:
                raise Infrastructure(f"{frame.node} has not answered {frame.cpu} for {LIMIT_S:.0f} s") from None
            except ray.exceptions.RayActorError as error:
                raise Infrastructure(f"{frame.node} died: {error}") from None
        return decode(REPLY, reply)

    # -- what the driver asks --------------------------------------------------------

    def poll(self) -> bytes:
        """Counts, and whether anything is going on; cheap."""
        runner = self.runner
        self._reap(0)
        errors = list(self.errors)
        if runner is not None and runner.crash is not None:
            errors.append(f"{type(runner.crash).__name__}: {runner.crash}")
        admissions = self.admissions.values()
        poll = Poll(
            admitted={name: admission.journal.nseq for name, admission in self.admissions.items()},
            sent=self.sent,
            received=0 if runner is None else runner.received,
            held=sum(len(admission.held) for admission in admissions),
            errors=errors,
            diverged=[admission.diverged for admission in admissions if admission.diverged],
            idle=runner is None or (runner.idle and runner.inbox.empty()),
            operations=0 if runner is None else runner.processor.k,
            found=runner is not None and runner.finding is not None,
            stopped=self.thread is None or not self.thread.is_alive(),
            behind=None if runner is None else runner.behind(),
        )
        return encode(POLL, poll)

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
            {name: thread.results for name, thread in threads.items() if thread.results},
            {**sites, **runner.sites},  # the latter of the kernel: a node's own are of other errata
            runner.counters,
        )
        return encode(STATE, state)

    def chunk(self, node: str, offset: int) -> bytes:
        """A piece of a node's journal file, from `offset` bytes on; empty at its end."""
        for stream in self.files:
            if Path(stream.name).name == f"{node}.uvmp.jsonl":
                with open(stream.name, "rb") as again:
                    again.seek(offset)
                    return encode(CHUNK, again.read(CHUNK_BYTES))
        raise Infrastructure(f"{self.name} has no journal of {node}")
