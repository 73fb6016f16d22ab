"""The Ray actor of a machine, and Ray as a transport: the only module of `nodes` that imports Ray.

Ray starts the actors, places them and watches them. Operations travel over sockets (sockets.py) or as calls of other
actors; these are slow, and the judge of the sockets: both give the same digests.

Handles of other actors are passed once, at wiring. One-way calls are kept and their errors collected.

Measured on two cores, with sixty-byte frames: a thread that calls a
single-threaded actor synchronously makes 1200 to 1400 round trips a second, two
such threads 1900 together; all messages one-way and event-driven give 630 to 840, an
asyncio actor 750. Therefore the running thread makes synchronous calls, and
deliveries into its inbox are one-way.
"""

from __future__ import annotations

import ctypes
import signal
import sys
import threading
from typing import Protocol

import ray
from ray.util.metrics import Gauge
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from nodes.host.here import Here, here
from nodes.host.host import Host
from nodes.host.sockets import Address, SocketTransport
from nodes.host.transport import LIMIT_S
from shared.errors import Infrastructure

REAP_EVERY = 64
PR_SET_PDEATHSIG = 1


class Method(Protocol):
    """A method of an actor elsewhere."""

    def remote(self, *args: object) -> ray.ObjectRef: ...


class Handle(Protocol):
    """An actor elsewhere: the methods of NodeActor that are called by name."""

    admit: Method
    deliver: Method
    load: Method
    chunk: Method
    here: Method
    _actor_id: ray.ActorID


class RayTransport:
    """Calls of other actors' methods.

    Args:
        name: of the actor that calls.

    Attributes:
        peers: handle of every actor.
        host_of: node -> the actor that carries it.
        labels: actor -> what it is, with process and computer; a message about it says so.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.peers: dict[str, Handle] = {}
        self.host_of: dict[str, str] = {}
        self.labels: dict[str, str] = {}
        #: one-way calls, and to whom; the running thread adds to them, and both threads collect
        self.refs: dict[ray.ObjectRef, str] = {}
        self.refs_lock = threading.Lock()
        self.failed: list[str] = []

    def begin(self, run: str) -> None:
        self.refs, self.failed = {}, []

    def ask(self, node: str, frames: bytes) -> bytes:
        try:
            answer: bytes = ray.get(self.peers[self.host_of[node]].admit.remote(frames), timeout=LIMIT_S)
        except ray.exceptions.GetTimeoutError:
            raise Infrastructure(f"{self._label(node)} has not answered {self.name} for {LIMIT_S:.0f} s") from None
        except ray.exceptions.RayActorError:
            raise Infrastructure(f"{self._label(node)} died: Ray has lost it") from None
        return answer

    def post(self, processor: str, delivery: bytes) -> None:
        ref = self.peers[self.host_of[processor]].deliver.remote(delivery)
        with self.refs_lock:
            self.refs[ref] = processor
            many = len(self.refs) >= REAP_EVERY
        if many:
            self._reap()

    def failures(self) -> list[str]:
        self._reap()
        return list(self.failed)

    def _reap(self) -> None:
        """Collect the results of the one-way calls that have ended."""
        with self.refs_lock:  # ray.wait must have a list that no other thread adds to meanwhile
            refs, self.refs = self.refs, {}
        done, left = ray.wait(list(refs), num_returns=len(refs), timeout=0) if refs else ([], [])
        with self.refs_lock:
            self.refs |= {ref: refs[ref] for ref in left}
        for ref in done:
            try:
                ray.get(ref, timeout=LIMIT_S)
            except ray.exceptions.RayActorError:
                self.failed.append(f"{self._label(refs[ref])} died: Ray has lost it")
            except Exception as error:
                self.failed.append(f"{self.name}: a delivery failed: {error}")

    def _label(self, node: str) -> str:
        name = self.host_of[node]
        return self.labels.get(name, name)


class Meter:
    """Ray's metrics of the nodes of an actor; a cluster whose Ray is `ray[default]` exports them to Prometheus."""

    def __init__(self) -> None:
        self.gauges = {
            name: Gauge(f"uvmp_{name}", description=text, tag_keys=("node",))
            for name, text in (
                ("records", "Records in the journal of the node, in this run"),
                ("operations", "Operations that contexts of the processor have performed, in this run"),
                ("queue", "Requests that the node holds back, and deliveries that its processor has not taken"),
                ("waits", "1: no context of the processor can continue"),
            )
        }

    def tell(self, host: Host) -> None:
        """What the host has now."""
        for node, admission in host.admissions.items():
            values = {"records": admission.journal.nseq, "queue": len(admission.held)}
            if host.runner is not None and host.runner.processor is admission.node:
                values["queue"] += host.runner.inbox.qsize()
                values |= {"operations": host.runner.processor.k, "waits": int(host.runner.idle)}
            for name, value in values.items():
                self.gauges[name].set(value, {"node": node})


class NodeActor(Host):
    """An actor process of the machine.

    Args:
        name: of the actor, as Ray's own lines show it.
        nodes: names of the nodes it carries.
    """

    def __init__(self, name: str, nodes: list[str]):
        _end_with_parent()
        self.ray = RayTransport(name)
        super().__init__(name, nodes, self.ray)
        self.sockets: SocketTransport | None = None
        self.meter = Meter()

    def poll(self) -> bytes:
        """Also tells Ray's metrics."""
        self.meter.tell(self)
        return super().poll()

    def __repr__(self) -> str:
        return self.name

    def wire(self, peers: dict[str, Handle], actor_of: dict[str, str], labels: dict[str, str]) -> None:
        """Handles of all actors, which actor carries which node, and what messages about an actor call it."""
        self.ray.peers, self.ray.host_of, self.ray.labels = peers, actor_of, labels

    def listen(self, secret: bytes, leases: bool) -> Address:
        """Use new sockets from now on, and say where this actor's own is.

        Args:
            secret: of the machine.
            leases: lend structs to processors.
        """
        self.leases = leases
        if self.sockets is not None:
            self.sockets.close()
        self.transport = self.sockets = SocketTransport(self.name, secret, self.admit, self.deliver)
        return self.sockets.listen()

    def listen_tcp(self) -> Address:
        """Be reachable from other computers too, at the address that Ray uses for this computer."""
        assert self.sockets is not None
        return self.sockets.listen_tcp(ray.util.get_node_ip_address())

    def connect(self, addresses: dict[str, Address]) -> None:
        """The sockets of all actors, by name."""
        assert self.sockets is not None
        self.sockets.addresses, self.sockets.host_of = addresses, self.ray.host_of
        self.sockets.labels = self.ray.labels

    def here(self) -> Here:
        """Where this actor runs, and of which source."""
        return this_process()


def _end_with_parent() -> None:
    """End when Ray's node process does, which has started this process.

    Ray's own watch takes a node process that has ended for alive as long as its parent does not wait for it, as in a
    container whose first process does not.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def this_process() -> Here:
    """Where it runs, and of which source."""
    return here(ray.get_runtime_context().get_node_id(), ray.__version__)


def at(node: str) -> NodeAffinitySchedulingStrategy:
    """On that Ray node and no other."""
    return NodeAffinitySchedulingStrategy(node, soft=False)
