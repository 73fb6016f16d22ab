"""The live engine: the machine's nodes in Ray actors, running freely or following a schedule.

A run starts from the image that the setup made in `sim`. It ends at a finding, when the machine is at rest, or at a
limit of operations or of time. It is judged from the reports and the journals of the nodes. That nothing is heard for a
while decides nothing: a machine is at rest when two successive polls show the same counts, every processor waits with
an empty inbox, and every delivery has arrived.

Nodes do not run in lockstep, so they continue for a moment when a free run is stopped. Therefore its journals are cut,
to the operations before the finding or to the limit of operations, and the run is judged after the cut. Of a run whose
time is over, free or not, the judged part is the last consistent cut.

Journals stay on the disk. The driver goes through their files as often as it must, and keeps no records.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from sys import intern
from time import monotonic, sleep
from types import ModuleType
from typing import NamedTuple

from cluster.boot import boot
from cluster.live.actors import Actors
from cluster.live.collect import discard
from cluster.live.doing import Doing, doing
from cluster.live.elsewhere import Place, left, stays
from cluster.live.logs import Logs
from cluster.live.watch import Died, Watch
from cluster.machine import sites_of
from cluster.runs.clock import Clock
from cluster.runs.folder import cannot_write
from cluster.runs.folder import identity as new_identity
from cluster.runs.outcome import Outcome
from cluster.runs.replay import beginning, followed
from nodes.build import build_threads
from nodes.host.admit import ANYBODY
from nodes.host.private import make_folder, temporary
from nodes.host.remains import is_actor
from nodes.host.transport import DEFAULT, Kind
from shared.detectors import oracle, race
from shared.detectors.machine_state import HostState, MachineState
from shared.detectors.verdict import came_before, judge, promise, refused, sort_out
from shared.errors import Diverged, Infrastructure, UserMistake
from shared.findings import Finding
from shared.journal.cut import judged
from shared.journal.order import events_after, in_order, outline_of
from shared.journal.record import Journals, choice_of, digest
from shared.journal.runfile import Late
from shared.patch import current
from shared.scenario.model import Scenario
from shared.scenario.pack import pack_scenario
from shared.wire.codec import LOAD, LOADED, NOW, POLL, STATE, decode, encode
from shared.wire.messages import OPERATIONS, Load, Poll, ProgramOrder, Schedule, Turn
from shared.wire.tables import differing, tables

#: between two polls: at first, and at most. Each poll costs every actor a call, and takes that from the run.
FIRST_POLL_S, POLL_S = 0.005, 0.1
#: nothing happens for so long: in a run that follows a schedule or has frames held back, and in any run
STALL_S, LOST_S = 20.0, 300.0


class Beginning(NamedTuple):
    """The beginning of a run, a consistent part of its journals: to be followed, and to continue freely behind it."""

    journals: Journals


class Progress:
    """Tells from one poll of all hosts after another whether a run has ended.

    Args:
        limit: operations that a run may have which follows no schedule to its end.
        following: it follows a schedule to its end.
        clock: the time that it may take; None: any.

    Attributes:
        endless: it has ended because it did not come to an end by itself: at its limit of operations.
        late: the same, because its time was over.
        quiet: if the next poll is the same as the last, it is at rest.
        polls: the last ones.
    """

    def __init__(self, limit: int, following: bool, clock: Clock | None = None):
        self.limit, self.following, self.clock = limit, following, clock
        self.endless = self.late = self.quiet = False
        self.began = self.changed = monotonic()
        if clock is not None:
            clock.start()
        self.polls: list[Poll] = []
        self.counts: list[tuple[dict[str, int], int, int]] = []

    def has_ended(self, polls: list[Poll]) -> bool:
        """Is the machine at rest, at a finding, or beyond its limit?

        Raises: Diverged - the schedule cannot be followed; UserMistake - a patch has failed; Infrastructure.
        """
        self.polls = polls
        for error in (error for poll in polls for error in poll.errors):
            raise _error(error)
        for divergence in (divergence for poll in polls for divergence in poll.diverged):
            raise Diverged(*divergence)
        has_finding = any(poll.has_finding for poll in polls)
        counts = [(poll.admitted, poll.sent, poll.received) for poll in polls]
        same, self.counts = counts == self.counts, counts
        self.quiet = all(poll.idle for poll in polls) and sum(poll.sent - poll.received for poll in polls) == 0
        at_rest = same and self.quiet
        behind = [poll.behind for poll in polls if poll.behind is not None]
        on_its_way = bool(behind) or any(poll.held for poll in polls)
        if not self.following:
            self.endless = not has_finding and sum(poll.operations for poll in polls) > self.limit
            if has_finding or self.endless:
                return True
        if (has_finding or at_rest) and not on_its_way:
            return True
        if not same:
            self.changed = monotonic()
        still_s = monotonic() - self.changed
        if still_s > STALL_S and (self.following or on_its_way):
            cpu, k, ctx = behind[0] if behind else ("a node", 0, "?")
            raise Diverged(f"{ctx} to perform operation {k + 1} of {cpu}", "no node admits an operation")
        if still_s > LOST_S:
            raise Infrastructure(
                f"no node has admitted an operation for {LOST_S:.0f} s, and the machine is not at rest"
            )
        over = self.clock is not None and self.clock.is_over(counts=self.following or not behind)
        self.late = over and not has_finding and not self.quiet
        return self.late


class Pace:
    """Is told how a run goes; the base class says nothing."""

    def polled(self, seconds: float, polls: list[Poll], now: Callable[[], list[Doing]]) -> None:
        """The polls of the actors, in their order, so many seconds after the run began.

        Args:
            now: asks what the contexts do.
        """

    def over(self) -> None:
        """The run is over, whatever has ended it."""


class LiveMachine:
    """A booted machine: actors that are reused for one run after another.

    Args:
        place: node -> the host where its actor must be.
        transport: how the actors reach each other.
        actors: those of another machine with the same nodes, instead of new actors.
        watch: is told where files are.

    Attributes:
        scratch: folder for the journals of a run that is not kept.
        logs: of the last run.
        pace: is told how each run goes.
        abandoned: journals of nodes, of runs that are not kept, that dead actors have left on other computers.
    """

    def __init__(
        self,
        ray: ModuleType,
        scenario: Scenario,
        place: Mapping[str, str] | None = None,
        transport: Kind = DEFAULT,
        actors: Actors | None = None,
        watch: Watch | None = None,
    ):
        self.scenario = scenario
        self.image = boot(scenario)
        self.actors = actors if actors is not None else Actors(ray, scenario.machine, place, transport)
        self.scratch = temporary("uvmp-")
        self.watch = watch or Watch()
        self.watch.tell("made", str(self.scratch))
        self.runs = 0
        self.logs: Logs | None = None
        self.pace = Pace()
        self.abandoned: list[tuple[str, Place]] = []

    def close(self, pasteable: Callable[[str], str] = str) -> list[str]:
        """End the actors and remove what the runs left in temporary folders.

        Args:
            pasteable: makes of a command line one that can be pasted.

        Returns: which journals stay on other computers, in words.
        """
        unfetched = {} if self.logs is None else self.logs.elsewhere
        keeps = self.logs is not None and self.logs.folder.parent != self.scratch
        self.actors.stop("clean", spare={self.actors.actor_of[node] for node in unfetched} if keeps else ())
        if not keeps:
            dead = [node for node in unfetched if self.actors.actor_of[node] in self.actors.killed]
            self.abandoned += [(node, unfetched[node]) for node in dead]
        lines = left(str(self.logs.folder), pasteable) if self.logs is not None and keeps else []
        lines += [stays(*journal) for journal in self._discarded()]
        self.actors.kill()
        shutil.rmtree(self.scratch, ignore_errors=True)
        return lines

    def _discarded(self) -> list[tuple[str, Place]]:
        """Remove the journals of runs that are not kept; returns those that may still be there."""
        journals, self.abandoned = self.abandoned, []
        try:
            return discard(journals, self.actors.cluster()) if journals else []
        except Infrastructure:
            return journals

    def become(self, scenario: Scenario, image: dict[str, object]) -> None:
        """Run another scenario of the same nodes from now on, from the image that its setup has made."""
        self.scenario, self.image = scenario, image

    # -- one run -----------------------------------------------------------------

    def run(
        self,
        follow: Journals | Beginning | None = None,
        out: Path | None = None,
        seed: int = 0,
        clock: Clock | None = None,
        identity: str | None = None,
    ) -> Outcome:
        """Run once.

        Args:
            follow: journals whose admission orders to follow, to the end of the run; or, of a Beginning, to where they
                end; None: free-running.
            out: folder for the journal files (default: a temporary one, which the next run removes).
            seed: of the processors' choices among runnable LWPs.
            clock: the time that it may take; None: any.
            identity: of the run, for the journals' headers; None: its number on this machine.

        Raises: Diverged - the schedule cannot be followed, or sim cannot follow a run that was ended; Infrastructure.
        """
        shutil.rmtree(self.scratch / f"run{self.runs}", ignore_errors=True)
        self.runs += 1
        name = f"run{self.runs}"
        folder = self.scratch / name if out is None else out.absolute()
        began = monotonic()
        strict = follow is not None and not isinstance(follow, Beginning)
        self.logs = Logs(self.actors, self.scenario.machine.nodes, folder, identity or name)
        refusal = self.load(self.logs, follow, seed)
        level = refusal.level(self.scenario.detect) if refusal is not None else "off"
        late_s: float | None = None
        if level != "stop":
            self.actors.call("start")
            progress = self.until_quiet(strict, clock)
            late_s = clock.seconds if clock is not None and progress.late else None
            if progress.endless or progress.late or any(poll.has_finding for poll in progress.polls):
                self._halt()
        seconds = monotonic() - began
        hosts = self.states()
        self.actors.call("finish")
        journals, unkept = self.logs.collect(self.scratch)
        results = {ctx: steps for host in hosts for ctx, steps in host.results.items()}
        sites, counters = Counter(sites_of(self.image)), Counter[str]()
        for host in hosts:
            sites.update(host.sites)
            counters.update(host.counters)
        run = Outcome(
            finding=None, journals=journals, digest="", results=results, notes=[], sites=dict(sites),
            counters=dict(counters), operations=0, seconds=seconds, folder=out or folder, unkept=unkept,
        )  # fmt: skip
        if level == "stop":
            run.finding = refusal
        else:
            self._judge(run, self._whole(hosts), not strict, late_s)
            if refusal is not None and level == "note":
                run.notes.insert(0, refusal)
        run.digest = digest(run.journals)
        return run

    def _judge(self, run: Outcome, state: MachineState, free: bool, late_s: float | None) -> None:
        """The outcome of the run; cuts its journals if necessary.

        Args:
            late_s: seconds that it was given, if its time was over.

        Raises: Diverged - it was ended, and sim cannot perform what it has performed.
        """
        detect, limit = self.scenario.detect, self.scenario.limit
        outline, whole = outline_of(run.journals), run.journals
        if late_s is not None and not outline.told["finding"]:
            run.journals = beginning(self.scenario, whole)
        elif free or late_s is not None:
            run.journals = judged(whole, limit, outline)
        if run.journals is not whole:
            outline = outline_of(run.journals)
        run.operations = outline.operations
        findings = {word: [Finding(**record["finding"]) for record in told] for word, told in outline.told.items()}
        if late_s is not None and not findings["finding"] and run.operations < limit:
            run.late = Late(run.operations, late_s)
        if not findings["finding"] and (run.late is not None or run.operations >= limit):
            sim = followed(self.scenario, run.journals, late=run.late)  # (the nodes' state is of a moment later)
            run.finding, run.notes, run.results = sim.finding, list(sim.notes), sim.results
            run.sites, run.counters = dict(sim.sites), dict(sim.counters)
            return
        watch = race.Watch(self.image)
        asked = not findings["finding"] and detect.get("oracle") != "off"
        retold = oracle.Retold(self.scenario, self.image) if asked else None
        for record in in_order(run.journals, outline):
            watch.record(record)
            if retold is not None:
                retold.record(record)
        watched = watch.findings()
        if findings["finding"]:
            run.finding, more = came_before(watched, findings["finding"][0], detect)
        else:
            wrong = None if retold is None else retold.oracle.finding
            promised = promise(self.scenario, run.results, state)
            run.finding, more = sort_out(judge(state, detect, wrong, promised, watched), detect)
        run.notes = findings["note"] + more

    def load(self, logs: Logs, follow: Journals | Beginning | None, seed: int) -> Finding | None:
        """Give every actor its part of the image; returns why the machine does not boot, if so.

        Raises: Infrastructure - an actor runs other source than ours, or the folder cannot be written.
        """
        self._tell_processes()
        mark = logs.folder / f".{new_identity()}"  # an actor that sees it has the same disk
        try:
            make_folder(logs.folder, exist_ok=True)
            mark.touch(0o600)
        except OSError as wrong:
            raise cannot_write(mark, wrong) from None
        try:
            loads = [encode(LOAD, load) for load in self._loads(mark, logs.run, follow, seed)]
            handles = self.actors.handles.items()
            refs = {name: handle.load.remote(data) for (name, handle), data in zip(handles, loads, strict=True)}
            answers = self.actors.gather(refs)
        finally:
            mark.unlink(missing_ok=True)
        nodes: dict[str, dict[str, str]] = {}
        for group, data in zip(self.actors.groups, answers, strict=True):
            loaded = decode(LOADED, data)
            differ = differing(loaded.source, tables())
            if differ:
                raise Infrastructure(
                    f"{self.actors.label(group[0])} runs different source: its {' and '.join(differ)} differ from ours;"
                    " install the same uvmp on every host"
                )
            nodes |= loaded.nodes
            logs.are_in(group, self.actors.here[group[0]], loaded.folder)
        return refused({node: nodes[node] for node in self.scenario.machine.nodes})

    def _tell_processes(self) -> None:
        """Say which processes of this computer are ours: without a driver they would go on for a while."""
        for here in self.actors.here.values():
            if here.host == os.uname().nodename and is_actor(here.pid):
                self.watch.tell("works", here.pid)

    def _loads(self, mark: Path, identity: str, follow: Journals | Beginning | None, seed: int) -> Iterator[Load]:
        """The message that loads each actor."""
        schedule = None if follow is None else schedule_of(follow, self.scenario)
        patch = current()
        for number, group in enumerate(self.actors.groups):
            yield Load(
                run=identity,
                folder=str(mark.parent),
                mark=mark.name,
                scenario=pack_scenario(self.scenario),
                images={node: self.image.get(node) for node in group},
                follow=None if schedule is None else schedule.of(group),
                seed=seed * 1009 + number,
                patch=None if patch is None else (patch.file, patch.source),
            )

    def poll(self) -> list[Poll]:
        """Every actor's counts.

        Raises: Infrastructure - an actor has died.
        """
        return [decode(POLL, data) for data in self.actors.call("poll")]

    def _halt(self) -> list[Poll]:
        """Stop every processor at its next operation; returns the last poll."""
        self.actors.call("halt")
        began = monotonic()
        pause = FIRST_POLL_S
        while True:
            polls = self.poll()
            if all(poll.stopped for poll in polls):
                return polls
            if monotonic() - began > STALL_S:
                raise Infrastructure(f"a processor has not stopped after {STALL_S:.0f} s")
            sleep(pause)
            pause = min(2 * pause, POLL_S)

    def until_quiet(self, following: bool, clock: Clock | None = None) -> Progress:
        """Poll until the run has ended, or has to be ended; returns how that has come.

        Args:
            following: it follows a schedule, to the end of that.
            clock: the time that it may take; None: any.

        Raises: Diverged - it cannot; Infrastructure.
        """
        progress = Progress(self.scenario.limit, following, clock)
        pause = FIRST_POLL_S
        try:
            while not progress.has_ended(self.poll()):
                self.pace.polled(monotonic() - progress.began, progress.polls, self.doing)
                sleep(FIRST_POLL_S if progress.quiet else pause)
                pause = min(1.5 * pause, POLL_S)
        finally:
            self.pace.over()
        return progress

    def doing(self) -> list[Doing]:
        """What the contexts do at the moment."""
        return doing([decode(NOW, data) for data in self.actors.call("now")], self.scenario.machine.page_size)

    def states(self) -> list[HostState]:
        """The state of every host at the end."""
        return [decode(STATE, data) for data in self.actors.call("state")]

    def _whole(self, hosts: list[HostState]) -> MachineState:
        """The hosts' states, put together."""
        order = {name: at for at, name in enumerate(build_threads(self.scenario))}
        return MachineState(
            sorted((context for host in hosts for context in host.contexts), key=lambda context: order[context.name]),
            [lock for host in hosts for lock in host.locks],
            {name: image for host in hosts for name, image in host.images.items()},
            {name: tlb for host in hosts for name, tlb in host.tlbs.items()},
            self.scenario.machine.page_size,
        )


def _error(text: str) -> Exception:
    """An actor's error as ours: the user's, if a patch has made it."""
    kind, _, message = text.partition(": ")
    if kind == UserMistake.__name__:
        return UserMistake(message)
    message = message if kind == Infrastructure.__name__ else text
    return Died(message) if " died: " in message else Infrastructure(message)


def schedule_of(follow: Journals | Beginning, scenario: Scenario, before: Mapping[str, int] | None = None) -> Schedule:
    """The schedule of every node and processor: admission orders, program orders and places of kernel events.

    Behind a beginning each of them continues freely.

    Args:
        before: processor -> operations that it has followed already; None: none.
    """
    journals = follow.journals if isinstance(follow, Beginning) else follow
    behind = [ANYBODY] if isinstance(follow, Beginning) else []
    outline, first = outline_of(journals), before or {}
    performed = {cpu: [""] * (outline.last.get(cpu, 0) - first.get(cpu, 0)) for cpu in scenario.machine.processors}
    choices: dict[str, list[tuple[int, int]]] = {name: [] for name in performed}
    turns: dict[str, list[Turn]] = {node: [] for node in journals}
    for node, records in journals.items():
        for record in records:
            if "k" not in record:
                continue
            cpu, k, ctx, code = record["cpu"], record["k"], intern(record["ctx"]), intern(record["event"])
            performed[cpu][k - 1 - first.get(cpu, 0)] = ctx
            if code == "choose":
                choices[cpu].append((k, choice_of(record)))
            if not OPERATIONS[code].local:
                turns[node].append(Turn(ctx, record["n"], code))
    events = events_after(journals, before, outline)
    return Schedule(
        {node: [*order, *(Turn(ctx, 0, "") for ctx in behind)] for node, order in turns.items()},
        {
            name: ProgramOrder([*order, *behind], events.get(name, [0]), choices[name])
            for name, order in performed.items()
        },
    )
