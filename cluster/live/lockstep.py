"""Real processes in lockstep with an execution of `sim` that stops between any two operations.

The execution of sim, the *mirror*, decides. Whenever it has stopped, the actors are sent how their schedule goes on:
the admission orders of the nodes and the program orders of the processors since the last stop. They perform that, and
wait. Then the new records of their journals must be those of the mirror, and the state of each node and context the
same; so what is shown of the mirror is true of the real machine. There is one difference: if what a context has waited
for has come, the context may stand behind the wait in sim, with the lock, and still before it in its actor.

A mirror of a longer scenario takes the place of the last: the actors stay, but their nodes begin again with the new
image, and perform the old operations once more. That takes as much time as the machine has run so far.

Left out: who stops the mirror, and why (cluster/session/).
"""

from __future__ import annotations

from pathlib import Path
from time import monotonic

from cluster.live.logs import Logs, Stored
from cluster.live.machine import LiveMachine, schedule_of
from cluster.live.salvage import advised
from cluster.runs.folder import receive
from cluster.runs.outcome import Outcome
from cluster.runs.replay import compare
from cluster.session.stepped import Stepped
from shared.detectors.machine_state import ContextState, HostState
from shared.errors import Diverged
from shared.journal.record import Journals, Record, digest, read
from shared.journal.runfile import SUFFIX
from shared.port.struct import INDEX_MASK, KIND_SHIFT, KINDS, lock_name
from shared.scenario.yaml import show
from shared.wire.codec import SCHEDULE, STATE, decode, encode
from shared.wire.images import frames_of, memories


class Lockstep:
    """The real processes of one session.

    Args:
        folder: of the run, which exists.
        run: its identity, for the journals' headers.

    Attributes:
        mirror: what the actors have performed; None: nothing yet.
        records: node -> how many records of its journal have been compared; `sizes`: how many bytes they have.
        performed: processor -> its operations so far.
    """

    def __init__(self, machine: LiveMachine, folder: Path, run: str):
        self.machine, self.folder, self.run = machine, folder.absolute(), run
        self.mirror: Stepped | None = None
        self.records: dict[str, int] = {}
        self.sizes: dict[str, int] = {}
        self.performed: dict[str, int] = {}
        self.began = monotonic()

    def follow(self, mirror: Stepped) -> None:
        """Perform what the mirror has performed, and compare.

        Raises: Diverged - the actors have done something else; Infrastructure - one of them has died.
        """
        with advised(str(self.folder)):
            self._follow(mirror)

    def _follow(self, mirror: Stepped) -> None:
        if mirror is not self.mirror:
            self._begin(mirror)
        journals = mirror.sim.journals
        assert journals is not None
        news = {node: journal.records[self.records[node] :] for node, journal in journals.items()}
        if not any(news.values()):
            self.machine.poll()
            return
        schedule = schedule_of(news, mirror.scenario, self.performed)
        self.machine.actors.call("extend", encode(SCHEDULE, schedule))
        self.machine.until_quiet(following=True)
        compare(news, {node: self._written(node) for node, records in news.items() if records}, self.records)
        self.records = {node: len(journal.records) for node, journal in journals.items()}
        self.performed = {processor.name: processor.k for processor in mirror.sim.machine.processors}
        self._compare_states(mirror)

    def check(self) -> None:
        """Are all actors there?

        Raises: Infrastructure - one of them has died.
        """
        with advised(str(self.folder)):
            self.machine.poll()

    def finish(self, outcome: Outcome) -> None:
        """End the run of the actors; `outcome`, which is that of the mirror, becomes theirs.

        Raises: Diverged - their journals are others; Infrastructure.
        """
        logs = self.machine.logs
        assert logs is not None
        self.machine.actors.call("finish")
        journals, outcome.unkept = logs.collect(self.machine.scratch)
        self._becomes(outcome, journals)

    def save(self, folder: Path, outcome: Outcome) -> str:
        """Copy the journals so far, and `outcome`, which is that of the mirror, becomes that of the actors.

        Returns the identity of the run, which the journals have.

        Raises: Diverged - they are others; Infrastructure - an actor has died; OSError, which names the file.
        """
        journals = {}
        for node in self.machine.scenario.machine.nodes:
            path = folder / f"{node}{SUFFIX}"
            receive(path, self.machine.actors.chunks(node))
            journals[node] = Stored(path)
        self._becomes(outcome, journals)
        return self.run

    def _becomes(self, outcome: Outcome, journals: Journals) -> None:
        compare(outcome.journals, journals)
        outcome.journals, outcome.digest = journals, digest(journals)
        outcome.seconds = monotonic() - self.began

    # -- a stop --------------------------------------------------------------------------

    def _begin(self, mirror: Stepped) -> None:
        """All nodes as they are before the first operation, stopped there; in the same folder."""
        machine, config = self.machine, mirror.scenario.machine
        if self.mirror is not None:
            machine.actors.call("finish")
            for node in config.nodes:
                (self.folder / f"{node}{SUFFIX}").unlink(missing_ok=True)
        image = mirror.sim.image_
        assert image is not None
        machine.become(mirror.scenario, image)
        machine.logs = Logs(machine.actors, config.nodes, self.folder, self.run)
        machine.load(machine.logs, {node: [] for node in config.nodes}, 0)
        machine.actors.call("start")
        self.mirror = mirror
        self.records, self.sizes = dict.fromkeys(config.nodes, 0), dict.fromkeys(config.nodes, 0)
        self.performed = dict.fromkeys(config.processors, 0)

    def _written(self, node: str) -> list[Record]:
        """What a node has written since the last stop."""
        data = b"".join(self.machine.actors.chunks(node, offset=self.sizes[node]))
        self.sizes[node] += len(data)
        return read(data.splitlines(keepends=True), node)[1]

    def _compare_states(self, mirror: Stepped) -> None:
        """Raises: Diverged - a node or a context is not as in sim."""
        nodes = mirror.sim.machine
        tlbs = {processor.name: processor.tlb.state() for processor in nodes.processors}
        locks = [lock for manager in nodes.lock_managers for lock in manager.table.locked()]
        contexts = [thread.at_rest() for thread in mirror.sim.threads.values()]
        state = HostState(contexts, locks, nodes.image(), tlbs, {}, {}, {})
        expected, actual = _parts([decode(STATE, encode(STATE, state))]), _parts(self.machine.states())
        for part, context in actual.items():
            known = expected.get(part)
            if (
                isinstance(context, ContextState)
                and isinstance(known, ContextState)
                and context.waits
                and context.ready
            ):
                expected[part] = known._replace(waits=context.waits, held=context.held)
        for part in sorted(expected.keys() | actual.keys()):
            if expected.get(part) != actual.get(part):
                raise Diverged(f"{part} as in sim, {show(expected.get(part))}", show(actual.get(part)))


def _parts(hosts: list[HostState]) -> dict[str, object]:
    """The states of hosts by node and part of it. (Of frames, a memory has only its own.)"""
    parts: dict[str, object] = {}
    for host in hosts:
        parts |= {f"context {context.name}": context for context in host.contexts}
        parts |= {lock_name(lock.key): lock for lock in host.locks}
        parts |= {f"the TLB of {cpu}": tlb for cpu, tlb in host.tlbs.items()}
        parts |= {f"the state of {node}": image for node, image in host.images.items() if not node.startswith("memory")}
        parts |= {f"frame {number}": words for number, words in frames_of(host.images)}
        for image in memories(host.images):
            for key, *fields in image["heap"]:
                parts[f"{KINDS[key >> KIND_SHIFT].kind_name}:{key & INDEX_MASK}"] = fields
    return parts
