"""A second transport: every node has a host of its own in this process, and is reached by a call.

The hosts, their runners and their nodes are those that Ray's actors carry, and messages go through the same codec.
So what these promise can be tested in milliseconds, and *broken on purpose*, which no test against real actors can.
"""

from __future__ import annotations

import tempfile
import time
import weakref
from collections.abc import Callable, Iterable
from io import BytesIO
from typing import Any

from cluster.boot import boot
from cluster.live.machine import Beginning, Progress, schedule_of
from cluster.runs.clock import Clock
from nodes.cpu import Thread
from nodes.host.host import Host
from nodes.host.runner import Runner
from nodes.host.transport import Transport
from shared.findings import Finding
from shared.journal.record import Journals, read
from shared.scenario.model import Scenario
from shared.scenario.pack import pack_scenario
from shared.wire.codec import CHUNK, FRAMES, LOAD, POLL, decode, encode
from shared.wire.messages import Frame, Load

Contexts = Callable[[], dict[str, Thread]]


class InThreads(Host):
    """A host in this process, perhaps with other contexts than the scenario's or another class of runners."""

    def __init__(self, nodes: list[str], machine: Threads, contexts: Contexts | None, runner: type[Runner]):
        super().__init__(nodes[0], nodes, machine.transport_of(self, nodes[0]))
        self.contexts, self.runner_class = contexts, runner

    def _contexts(self, scenario: Scenario) -> dict[str, Thread]:
        return super()._contexts(scenario) if self.contexts is None else self.contexts()


class Threads:
    """A machine of hosts in this process, each processor in a thread; and the transport between them.

    Args:
        instead: contexts that run instead of the scenario's, and the image that they start from.
        follow: journals to follow, to the end or as a beginning.
        runner: another class of processors.
        together: nodes share hosts as they would share actors; else each has its own.

    Attributes:
        delay_s: how long a frame takes; a test may change it.
    """

    def __init__(
        self,
        scene: Scenario,
        instead: tuple[Contexts, dict[str, Any]] | None = None,
        follow: Journals | Beginning | None = None,
        runner: type[Runner] = Runner,
        seed: int = 0,
        together: bool = False,
    ):
        self.scene = scene
        self.delay_s: Callable[[Frame], float] = lambda frame: 0.0
        self.schedule = None if follow is None else schedule_of(follow, scene)
        self.strict = follow is not None and not isinstance(follow, Beginning)
        self.hosts: dict[str, InThreads] = {}
        groups = scene.machine.actors if together else [(node,) for node in scene.machine.nodes]
        self.host_of = {node: group[0] for group in groups for node in group}
        folder = tempfile.TemporaryDirectory(prefix="uvmp-test-")
        weakref.finalize(self, close, self.hosts.values(), folder)
        contexts, image = instead or (None, boot(scene))
        for number, group in enumerate(groups):
            host = self.hosts[group[0]] = InThreads(list(group), self, contexts, runner)
            images = {name: image.get(name) for name in group}
            load = Load("test", folder.name, "", pack_scenario(scene), images, self.schedule, seed + number, None)
            host.load(encode(LOAD, load))
        runners = [host.runner for host in self.hosts.values() if host.runner is not None]
        self.runners = {runner.processor.name: runner for runner in runners}

    # -- the transport ---------------------------------------------------------

    def transport_of(self, host: Host, node: str) -> Transport:
        """By which a host reaches the others."""
        return self

    def ask(self, node: str, frames: bytes) -> bytes:
        time.sleep(sum(self.delay_s(frame) for frame in decode(FRAMES, frames)))
        return self.hosts[self.host_of[node]].admit(frames)

    def post(self, processor: str, delivery: bytes) -> None:
        self.hosts[self.host_of[processor]].deliver(delivery)

    def failures(self) -> list[str]:
        return []

    def begin(self, run: str) -> None:
        pass

    # -- a run -----------------------------------------------------------------

    def run(self) -> Finding | None:
        """Run to the end; returns the finding that a processor reported, if one did."""
        progress = Progress(self.scene.limit, self.strict, Clock(20.0))
        for host in self.hosts.values():
            host.start()
        try:
            while not progress.has_ended([decode(POLL, host.poll()) for host in self.hosts.values()]):
                time.sleep(0.005)
            assert not progress.late
        finally:
            for host in self.hosts.values():
                host.halt()
            for host in self.hosts.values():
                if host.thread is not None:
                    host.thread.join(timeout=5.0)
                    assert not host.thread.is_alive()
        return next((runner.finding for runner in self.runners.values() if runner.finding is not None), None)

    def records(self) -> Journals:
        return {node: read(self._lines(node), node)[1] for node in self.host_of}

    def _lines(self, node: str) -> BytesIO:
        data = b""
        while piece := decode(CHUNK, self.hosts[self.host_of[node]].chunk(node, len(data))):
            data += piece
        return BytesIO(data)

    def results(self) -> dict[str, list[dict[str, Any]]]:
        return {name: results for runner in self.runners.values() for name, results in runner.results.items()}


def close(hosts: Iterable[Host], folder: tempfile.TemporaryDirectory[str]) -> None:
    for host in hosts:
        host.finish()
    folder.cleanup()
