"""Real processes in lockstep with a session do the same wherever it stops; a difference or a death is told."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.live.lockstep import Lockstep
from cluster.live.machine import LiveMachine
from cluster.postmortem.load import load
from cluster.runs.folder import identity
from cluster.runs.replay import beginning, replay_journals
from cluster.search.walk import RandomWalk
from cluster.session.client import Client
from cluster.session.folder import RUN, Writer, make, save
from cluster.session.server import Server
from cluster.session.session import Going, Session, opened
from nodes.node import Node
from shared.errors import Diverged, Exit, Infrastructure, ProjectBug, UserMistake
from shared.journal.cut import cut
from shared.journal.order import operations
from shared.journal.record import digest, held
from shared.journal.runfile import SCENARIO, SUFFIX
from shared.patch import SEAMS
from shared.port.heap import HEADER
from shared.scenario.load import load_scenario
from shared.scenario.model import Scenario
from shared.uvm.structs import Page, uvmexp
from tests.cluster.test_cli import our_children
from tests.cluster.test_faults import pid_of
from tests.cluster.test_session import OPEN, attach, perform_at_random, waited
from tests.kit import run_recorded, scenario, uvmp
from tests.nodes.as_actors import ActorsInThreads
from tests.parity.test_parity import CASES, QUICK

pytestmark = pytest.mark.wide

Begin = Callable[[Scenario], tuple[Session, Lockstep]]


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Begin]:
    """Begins sessions whose processes are hosts in threads, which are ended with the test."""
    machines: list[LiveMachine] = []

    def begin(scene: Scenario) -> tuple[Session, Lockstep]:
        actors: Any = ActorsInThreads(scene.machine)
        machine = LiveMachine(None, opened(scene), actors=actors)  # type: ignore[arg-type]
        machines.append(machine)
        folder = tmp_path / str(len(machines))
        folder.mkdir()
        lockstep = Lockstep(machine, folder, identity())
        return Session(machine.scenario, (), lockstep), lockstep

    yield begin
    for machine in machines:
        machine.close()


def hosts_of(machine: LiveMachine) -> ActorsInThreads:
    actors: object = machine.actors
    assert isinstance(actors, ActorsInThreads)
    return actors


def nodes_of(lockstep: Lockstep) -> dict[str, Node]:
    """The real nodes."""
    hosts = hosts_of(lockstep.machine).hosts.values()
    return {name: admission.node for host in hosts for name, admission in host.admissions.items()}


def assert_stands_as_in_sim(session: Session, lockstep: Lockstep) -> None:
    """Everything that the machine has performed has been compared."""
    assert lockstep.mirror is session.machine
    assert sum(lockstep.records.values()) == len(session.machine.records)


def assert_ends_as_it_replays(session: Session) -> None:
    """The journals that the processes have written are those of the session, and of a replay."""
    outcome = session.finish()
    assert outcome.engine == "live" and outcome.operations == session.machine.operations == operations(outcome.journals)
    again = replay_journals(session.scenario, outcome.journals, outcome.cut)
    assert again.digest == outcome.digest == digest(outcome.journals) and again.results == outcome.results
    session.close()


# -- hosts in threads ------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
def test_processes_follow_a_random_session_wherever_it_stops(seed: int, begin: Begin) -> None:
    """Also when steps are added, for which their nodes begin again."""
    session, lockstep = begin(load_scenario(OPEN, "open.yaml") if seed % 3 else scenario("S3a-shipped"))
    rng, added = random.Random(seed), 0
    for _ in range(25):
        added += perform_at_random(session, rng, 1)
        assert_stands_as_in_sim(session, lockstep)
    assert added >= 3 or seed % 3 == 0
    assert_ends_as_it_replays(session)


@pytest.mark.parametrize("name", [*QUICK, "big-lock-spinning", "devices-alone", "emulated"])
def test_processes_follow_every_kind_of_machine(name: str, begin: Begin) -> None:
    """At random, in parts of every size; with shards, an interface, the big lock, page tables in pages."""
    session, lockstep = begin(CASES[name]())
    walk, rng = RandomWalk(3), random.Random(name)
    walk.new_execution()
    for _ in range(40):
        if not session.machine.ended:
            session.go(Going(None, rng.choice((1, 2, 5, 30, 300)), chooser=walk))
    assert_stands_as_in_sim(session, lockstep)
    assert_ends_as_it_replays(session)


@pytest.mark.parametrize("kind", ["lock-assert", "data-race", "spin-forever", "none"])
def test_processes_end_with_the_machine(kind: str, begin: Begin) -> None:
    """With a panic, with a finding that only sim judges, and without any."""
    scene = scenario("S3a-shipped") if kind == "spin-forever" else load_scenario(OPEN, "open.yaml")
    session, _ = begin(scene.with_errata(["S3h"]) if kind == "lock-assert" else scene)
    if kind == "lock-assert":
        for step in ("mmap: {as: buf, pages: 1}", 'write: {at: "buf[0]", value: 1}', "exit: {}"):
            session.spawn("P0", step)
    elif kind == "data-race":
        for thread in ("P0", "P1"):
            session.spawn(thread, "kstore: {word: w, value: 1}")
    elif kind == "spin-forever":
        session.go(Going("A", 191))
        session.go(Going("B", 5000))
    session.go(Going(None, 10_000))
    if kind == "none":
        session.end()
    assert session.machine.ended and (session.finding.kind if session.finding is not None else "none") == kind
    assert_ends_as_it_replays(session)


def test_a_run_is_taken_over_by_processes(begin: Begin) -> None:
    scene = opened(scenario("E1").without_errata())
    journals = held(cut(run_recorded(scene, RandomWalk(5)).journals, 200))
    session, lockstep = begin(scene)
    session.resume(journals)
    assert session.machine.operations == 200
    assert_stands_as_in_sim(session, lockstep)
    session.go(Going(None, 50))
    assert_ends_as_it_replays(session)


def test_processes_stop_between_a_wait_and_the_next_operation(begin: Begin) -> None:
    """A context that goes on behind a wait may enter a function before its next operation, and stop there."""
    session, lockstep = begin(CASES["S3a"]())
    walk, without_operation = RandomWalk(1), 0
    walk.new_execution()
    while without_operation < 2:
        count = len(session.machine.records)
        session.go(Going(None, 10_000, frozenset(SEAMS), walk))
        assert_stands_as_in_sim(session, lockstep)
        news = session.machine.records[count:]
        without_operation += bool(news) and not any("k" in record for record in news)
    assert_ends_as_it_replays(session)


def test_a_record_that_differs_is_told_with_both(begin: Begin) -> None:
    session, lockstep = begin(scenario("S3a-shipped"))
    session.go(Going("A", 191))
    memory: Any = nodes_of(lockstep)["memory"]
    field = type(uvmexp).fields["active"]  # which A loads next
    memory.heap.records[uvmexp.id].fields[field.slot - HEADER] += 7
    with pytest.raises(Diverged, match=r"expected record \d+ of memory: .*; found record \d+ of memory: "):
        session.go(Going("A", 1))
    assert isinstance(session.lost, Diverged)


DAMAGE: dict[str, Callable[[dict[str, Any]], object]] = {
    r"page:7": lambda nodes: nodes["memory"].heap.records[Page.at(7).id].fields.__setitem__(0, 99),
    r"frame 3": lambda nodes: nodes["memory"].frames.__setitem__(3, (1,) * nodes["memory"].words),
    r"the state of swap_pager": lambda nodes: nodes["swap_pager"].bad.add(3),
    r"the TLB of cpu1": lambda nodes: nodes["cpu1"].tlb.switch(77),
    r"amap:2\.am_l": lambda nodes: nodes["lock_manager"].table.clear(),
    r"context B": lambda nodes: nodes["cpu1"].lwps[0].stack.append("uvm_fault"),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_a_state_that_differs_is_told_though_no_record_does(what: str, begin: Begin) -> None:
    session, lockstep = begin(scenario("S3a-shipped"))
    session.go(Going("A", 191))
    DAMAGE[what](nodes_of(lockstep))
    with pytest.raises(Diverged, match=f"expected {what} as in sim, .*; found "):
        session.go(Going("A", 1))


@pytest.mark.parametrize("stop", [0, 191, 100_000])
def test_what_is_saved_are_the_journals_of_the_processes(stop: int, begin: Begin, tmp_path: Path) -> None:
    """As far as the session has come: before the first operation, in the middle, and when it has ended."""
    session, lockstep = begin(scenario("S3a-shipped"))
    if stop:
        session.go(Going(None, stop))
    wanted, folder = session.outcome(), tmp_path / "saved"
    save(session, str(folder))
    run = load(str(folder))
    assert not run.torn and run.run is not None and run.run["engine"] == "live"
    assert digest(run.journals) == wanted.digest == run.run["digest"]
    for node, header in run.headers.items():
        assert (header["engine"], header["run"]) == ("live", lockstep.run)
        lines = (lockstep.folder / f"{node}{SUFFIX}").read_bytes()
        assert (folder / f"{node}{SUFFIX}").read_bytes() == lines
    if stop:
        assert uvmp("replay", folder).exit_code == (Exit.NO_FINDING if wanted.finding is None else Exit.FINDING)
    with pytest.raises(UserMistake, match="exists already"):
        save(session, str(folder))
    if not session.machine.ended:
        session.go(Going("A", 5))
    assert_ends_as_it_replays(session)


def test_what_cannot_be_saved_leaves_no_folder_and_the_session_goes_on(begin: Begin, tmp_path: Path) -> None:
    session, lockstep = begin(scenario("S3a-shipped"))
    session.go(Going("A", 50))
    journal = lockstep.folder / f"memory{SUFFIX}"
    lines = journal.read_bytes()
    journal.write_bytes(lines.replace(b'"n":2', b'"n":9'))
    with pytest.raises(UserMistake, match="record 1 of memory"):
        save(session, str(tmp_path / "saved"))
    assert not (tmp_path / "saved").exists()
    with journal.open("r+b") as file:
        file.write(lines)
    session.go(Going("A", 5))
    assert_ends_as_it_replays(session)


# -- a server ----------------------------------------------------------------------------------


class Served:
    """A session with the processes of a machine, in a folder of its own, served by another thread.

    Attributes:
        lost: with what the server has ended; None: it has not, or was halted.
    """

    def __init__(self, machine: LiveMachine, folder: Path):
        self.machine, self.folder = machine, folder
        self.token = make(folder, opened(machine.scenario))
        self.lost: Exception | None = None
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()
        assert waited(lambda: (folder / "socket").exists() or not self.thread.is_alive())

    def _serve(self) -> None:
        run = str(json.loads((self.folder / RUN / SCENARIO).read_text(encoding="utf-8"))["run"])
        self.lockstep = Lockstep(self.machine, self.folder / RUN, run)
        session = Session(opened(self.machine.scenario), (), self.lockstep)
        try:
            Server(self.folder, session, Writer(self.folder, session, run), self.token).serve()
        except ProjectBug as wrong:
            self.lost = wrong
        session.close()

    def client(self) -> Client:
        return Client(self.folder, self.token)


def two_clients(served: Served) -> list[dict[str, Any]]:
    """What two clients are told, who use a machine in turns."""
    first, second = served.client(), served.client()
    answers = [
        client.ask(command)
        for client, command in (
            (first, "spawn P0 mmap: {as: buf, pages: 2}"),
            (second, 'spawn P0 write: {at: "buf[1]", value: 7}'),
            (first, "step P0 5"),
            (second, "spawn P0 fork: {as: C, cpu: 1, program: [{pause: {}}]}"),
            (second, "continue"),
            (first, "spawn C mmap: {as: own, pages: 1}"),
            (second, "step C 3"),
            (first, "show page 0"),
            (first, f"snapshot {first.path / 'state.json'}"),
            (second, "halt"),
        )
    ]
    first.close()
    second.close()
    return answers


def assert_was_used(answers: list[dict[str, Any]], folder: Path) -> None:
    """By both; and the folder is that of a run of real processes which replays."""
    assert [answer["exit"] for answer in answers] == [0] * 10, answers
    assert answers[2]["data"]["operations"] == 5
    assert answers[6]["data"]["operations"] == answers[4]["data"]["operations"] + 3
    assert answers[7]["lines"][0] == "PAGE page:0"
    state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    assert state["operations"] == answers[6]["data"]["operations"]
    replayed = json.loads(uvmp("replay", folder / RUN, "--json").stdout)
    assert replayed["equal"] and replayed["digest"]["kept"] in " ".join(answers[-1]["lines"])
    run = load(folder / RUN)
    assert run.torn == [] and run.run is not None and run.run["engine"] == "live" and run.run["cut"]
    assert {header["engine"] for header in run.headers.values()} == {"live"}


def test_two_clients_use_processes_in_turns(tmp_path: Path, begin: Begin) -> None:
    served = Served(begin(load_scenario(OPEN, "open.yaml"))[1].machine, tmp_path / "session")
    assert_was_used(two_clients(served), served.folder)


@pytest.mark.parametrize("command", ["step B 3", "step", ""])
def test_a_process_that_dies_ends_the_session_and_each_client_is_told(
    command: str, tmp_path: Path, begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if nothing can go on, or nobody asks."""
    monkeypatch.setattr("cluster.session.server.CHECK_S", 60 if command else 0.05)
    machine = begin(load_scenario(OPEN, "open.yaml") if command == "step" else scenario("S3a-shipped"))[1].machine
    served = Served(machine, tmp_path / "session")
    first, second = served.client(), served.client()
    assert first.ask("step 100")["exit"] == 0
    (served.folder / "log").write_text("a remark\nuvmp: error: cpu1 died\nsee: ...\n", encoding="utf-8")
    hosts_of(machine).killed.add("cpu1")
    why = f"the actor of cpu1 died; `uvmp run --resume {served.folder / RUN}` continues the run"
    if command:
        answer = first.ask(command)
        assert answer["exit"] == Exit.INFRASTRUCTURE and answer["lines"] == [f"error: {why}"]
    assert waited(lambda: not served.thread.is_alive())
    assert isinstance(served.lost, Infrastructure) and str(served.lost) == why
    with pytest.raises(Infrastructure, match=r"^the session has ended: cpu1 died$"):
        served.client()
    second.close()
    assert not (served.folder / RUN / "run.json").exists()


def test_a_difference_is_told_with_the_exit_code_of_one(tmp_path: Path, begin: Begin) -> None:
    served = Served(begin(scenario("S3a-shipped"))[1].machine, tmp_path / "session")
    client = served.client()
    assert client.ask("step")["exit"] == 0
    nodes_of(served.lockstep)["memory"].frames[3] = (1,)  # type: ignore[attr-defined]
    answer = client.ask("step 9")
    assert answer["exit"] == Exit.DIVERGED and answer["lines"][0].startswith("error: diverged: expected frame 3 as in")
    assert waited(lambda: not served.thread.is_alive()) and isinstance(served.lost, Diverged)


# -- Ray ---------------------------------------------------------------------------------------


@pytest.mark.live
def test_two_clients_use_real_processes_in_turns(tmp_path: Path, live_machine: Callable[..., LiveMachine]) -> None:
    served = Served(live_machine(opened(load_scenario(OPEN, "open.yaml"))), tmp_path / "session")
    assert_was_used(two_clients(served), served.folder)


@pytest.fixture
def traced(sessions: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """Gives what asserts that all is gone which commands of this test have started; the run folders stay."""
    place = Path(tempfile.mkdtemp(prefix="u", dir="/tmp"))
    monkeypatch.setenv("UVMP_TEST", str(sessions))
    monkeypatch.setenv("TMPDIR", str(place))

    def nothing_is_left() -> None:
        assert waited(lambda: not our_children(str(sessions))), our_children(str(sessions))
        assert list(place.iterdir()) == []

    yield nothing_is_left
    shutil.rmtree(place)


DIES = {
    "cpu1": "the actor of cpu1 (pid {pid}) on {host} died: ",
    "driver": "the driver (pid {pid}) on {host} was killed by signal 9",
    "raylet": "Ray's node process, raylet (pid {pid}) on ",
    "gcs_server": "Ray's control store, GCS (pid {pid}) on ",
}


@pytest.mark.live
@pytest.mark.parametrize("who", [pytest.param(who, marks=[] if who == "cpu1" else pytest.mark.long) for who in DIES])
def test_what_dies_ends_a_session_in_one_line_and_nothing_is_left(who: str, traced: Callable[[], None]) -> None:
    booted = json.loads(uvmp("boot", "laptop", "--engine", "live", "--json").stdout)
    assert attach("spawn P0 mmap: {as: buf, pages: 1}", "step P0 5")["exit"] == 0
    pid = {**booted["actors"], "driver": booted["pid"]}.get(who) or pid_of(who, booted["pid"], "")
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    why = DIES[who].format(pid=pid, host=os.uname().nodename)
    if who == "cpu1":
        told = uvmp("attach", "-c", "step P0 3")
        assert told.exit_code == Exit.INFRASTRUCTURE and f"\nerror: {why}" in told.output
    traced()
    late = uvmp("attach", "-c", "ps")
    assert late.exit_code == Exit.INFRASTRUCTURE
    assert late.stderr.startswith(f"uvmp: error: the session has ended: {why}") and late.stderr.count("\n") == 1
    run = load("uvmp.session/run")
    assert run.loaded is not None and 5 <= operations(beginning(run.loaded, run.journals)) <= 8
    assert uvmp("run", "--resume", "uvmp.session/run").exit_code == 0
    assert (run.run is None) == (who in ("cpu1", "driver"))  # without the others, actors still end as they should


@pytest.mark.live
@pytest.mark.long
def test_a_session_of_real_processes_takes_a_run_over_and_ends_by_a_signal(traced: Callable[[], None]) -> None:
    assert uvmp("run", "E1", "--fixed", "--strategy", "random", "--out", "first").exit_code == 0
    result = uvmp("boot", "--resume", "first", "--after", "A:40", "--engine", "live", "--json")
    booted = json.loads(result.stdout)
    assert len(booted["actors"]) == 4 and booted["operations"] >= 40
    told = attach("step A 3")
    assert told["answers"][0]["data"]["operations"] == booted["operations"] + 3
    os.kill(booted["pid"], signal.SIGTERM)
    traced()
    replayed = json.loads(uvmp("replay", "uvmp.session/run", "--json").stdout)
    assert replayed["equal"] and replayed["operations"] == booted["operations"] + 3
    assert uvmp("run", "--resume", "uvmp.session/run").exit_code == 0


def test_options_of_real_processes_are_for_real_processes(sessions: Path) -> None:
    for words, why in (
        (["--address", "auto"], "--address: is only for --engine live"),
        (["--engine", "live", "--place", "cpu9=here"], "--place: the machine has no node 'cpu9'"),
        (["--engine", "live", "--address", "here"], "--address: expected auto, or HOST:PORT"),
    ):
        result = uvmp("boot", "laptop", *words)
        assert result.exit_code == Exit.USAGE and why in result.stderr and not list(sessions.iterdir())
