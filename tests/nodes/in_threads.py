"""The live engine's own parts without Ray: every processor in a thread, every node behind a call.

What nodes/host/ray.py does with Ray's calls is done here with Python's, through
the same codec; so the promises of the runner and of admission can be tested in
milliseconds, and *broken on purpose*, which no test against real actors can.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from cluster.boot import boot
from cluster.live import schedule_of
from nodes.build import build_node, build_threads
from nodes.cpu import Processor, Thread
from nodes.host.admit import Admission
from nodes.host.runner import Runner
from shared.codec import DELIVERY, FRAME, REPLY, decode, encode
from shared.findings import Finding
from shared.journal import Journal, Journals
from shared.messages import Delivery, Frame, Reply
from shared.scenario import Scenario


class Threads:
    """A machine of threads.

    Args:
        instead: contexts that run instead of the scenario's, and the image that they start from.
        follow: journals to follow.
        delay_s: how long a frame takes.
        runner: another class of processors.
    """

    def __init__(
        self,
        scene: Scenario,
        instead: tuple[Callable[[], dict[str, Thread]], dict[str, Any]] | None = None,
        follow: Journals | None = None,
        delay_s: Callable[[Frame], float] = lambda frame: 0.0,
        runner: type[Runner] = Runner,
        seed: int = 0,
    ):
        self.scene, self.delay_s = scene, delay_s
        config = scene.machine
        threads, image = instead or (lambda: build_threads(scene), boot(scene))
        order = None if follow is None else schedule_of(follow, scene)
        self.journals = {node: Journal(node) for node in config.nodes}
        self.admissions: dict[str, Admission] = {}
        self.runners: dict[str, Runner] = {}
        self.sent = 0
        for number, name in enumerate(config.nodes):
            made = threads()
            cpu_of = {each.name: each.cpu for each in made.values()}
            node = build_node(name, config, made, scene.errata)
            node.load_image(image.get(name))
            wanted = None if order is None else order.nodes[name]
            self.admissions[name] = Admission(node, self.journals[name], cpu_of, wanted, self._send)
            if isinstance(node, Processor):
                own = None if order is None else order.processors[name]
                self.runners[name] = runner(node, scene, self.journals[name], self.ask, own, seed + number)

    def ask(self, frame: Frame) -> Reply:
        frame = decode(FRAME, encode(FRAME, frame))
        time.sleep(self.delay_s(frame))
        return decode(REPLY, encode(REPLY, self.admissions[frame.node].frame(frame)))

    def _send(self, cpu: str, delivery: Delivery) -> None:
        self.sent += 1
        self.runners[cpu].inbox.put(decode(DELIVERY, encode(DELIVERY, delivery)))

    def run(self, limit_s: float = 20.0) -> Finding | None:
        """Run to the end; returns the finding that a processor reported, if one did."""
        threads = [threading.Thread(target=one.loop, daemon=True) for one in self.runners.values()]
        for thread in threads:
            thread.start()
        self._until_quiet(limit_s)
        for one in self.runners.values():
            one.halt()
        for thread in threads:
            thread.join(timeout=5.0)
            assert not thread.is_alive()
        for one in self.runners.values():
            if one.crash is not None:
                raise one.crash
        return next((one.finding for one in self.runners.values() if one.finding is not None), None)

    def _until_quiet(self, limit_s: float) -> None:
        end = time.monotonic() + limit_s
        before: Any = None
        while time.monotonic() < end:
            runners = self.runners.values()
            counts = [one.nseq for one in self.journals.values()], self.sent
            rest = all(one.idle and one.inbox.empty() for one in runners) and self.sent == sum(
                one.received for one in runners
            )
            behind = any(one.behind() for one in runners)
            if rest and counts == before and not behind:
                return
            if any(one.finding is not None for one in runners) and not behind:
                return
            if any(one.diverged for one in self.admissions.values()):
                return
            if not behind and sum(one.processor.k for one in runners) > self.scene.limit:
                return
            before = counts
            time.sleep(0.005)

    def records(self) -> Journals:
        return {node: journal.records for node, journal in self.journals.items()}

    def results(self) -> dict[str, list[dict[str, Any]]]:
        return {
            name: one.results for runner in self.runners.values() for name, one in runner.threads.items() if one.results
        }
