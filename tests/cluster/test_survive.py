"""A live run continues when an actor dies: nothing that is in a journal is lost, and the whole is one run."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Timer
from time import monotonic, sleep
from typing import Any

import pytest

from cluster.live.machine import Beginning, LiveMachine
from cluster.live.survive import Surviving
from cluster.runs.folder import write_live, write_scenario
from cluster.runs.outcome import Outcome
from cluster.runs.parity import parity
from shared.errors import Infrastructure
from shared.journal.order import operations
from shared.journal.record import Journals, holes
from shared.scenario.model import Scenario, named_results
from tests.kit import scenario

Boot = Callable[..., LiveMachine]
pytestmark = pytest.mark.live


class Killer:
    """Kills actors of a machine with SIGKILL, each at a moment of its run.

    Args:
        moments: actor -> operations of the whole machine after which it dies, the next attempt's last.
    """

    def __init__(self, machine: LiveMachine, monkeypatch: pytest.MonkeyPatch, moments: list[tuple[str, int]]):
        self.machine, self.left, self.pids = machine, list(reversed(moments)), set[int]()
        self.followed: list[Journals] = []
        poll, run = machine.poll, machine.run

        def polled() -> Any:
            polls = poll()
            if self.left and sum(poll.operations for poll in polls) >= self.left[-1][1]:
                pid = machine.actors.pids[self.left.pop()[0]]
                self.pids.add(pid)
                self.kill(pid)
            return polls

        def ran(follow: Beginning | None = None, *args: Any, **more: Any) -> Outcome:
            if follow is not None:
                self.followed.append(follow.journals)
            return run(follow, *args, **more)

        monkeypatch.setattr(machine, "poll", polled)
        monkeypatch.setattr(machine, "run", ran)

    def kill(self, pid: int) -> None:
        os.kill(pid, signal.SIGKILL)
        while is_alive(pid):
            sleep(0.01)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").split()[2] != "Z"
    except OSError:
        return False


def performed(records: Any) -> list[Any]:
    return [(record["ctx"], record["n"], record["event"]) for record in records if "k" in record]


def survives(machine: LiveMachine, killer: Killer, out: Path, seed: int = 0, silent: bool = False) -> Outcome:
    """A run that continues to its end, and is one run with all that was in any journal's last consistent cut."""
    scene, restarts = machine.scenario, len(killer.left)
    write_scenario(out, scene, "x")
    told: list[str] = []

    def tell(text: str) -> None:
        told.append(text)
        print(text)

    run = Surviving(machine, restarts, tell).run(None, out, seed, "x")
    assert not killer.left and len(told) == restarts == len(killer.followed), "an actor was not killed"
    why = "has not answered" if silent else "died"
    assert all(why in line and "started anew" in line for line in told), told
    for before in killer.followed:
        for node, records in before.items():
            assert performed(run.journals[node])[: len(performed(records))] == performed(records), node
    assert run.finding is None and not holes(run.journals) and parity(scene, run).equal
    assert scene.expect.fixed.check(None, named_results(run.results)) is None
    write_live(out, scene, "x", run)
    assert {file.name for file in out.iterdir()} == {
        "run.json", "scenario.json", *(f"{node}.uvmp.jsonl" for node in scene.machine.nodes)
    }  # fmt: skip
    until = monotonic() + 30 * silent  # (a stopped process is ended when it continues)
    while any(is_alive(pid) for pid in killer.pids) and monotonic() < until:
        sleep(0.1)
    assert not any(is_alive(pid) for pid in killer.pids)
    return run


def scene() -> Scenario:
    return scenario("S3a").without_errata()


def test_a_processor_and_then_a_server_die_and_nothing_is_lost(
    live_machine: Boot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second dies when much has been followed; a server's death is met by whoever asks it."""
    machine = live_machine(scene(), fresh=True)
    names = list(machine.actors.handles)
    server = next(name for name in names if not name.startswith("cpu"))
    survives(machine, Killer(machine, monkeypatch, [("cpu1", 300), (server, 1500)]), tmp_path)
    monkeypatch.undo()
    assert machine.run().finding is None, "and the machine is good for another run"


def test_who_dies_once_too_often_ends_the_run_and_the_logs_can_be_continued(
    live_machine: Boot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = live_machine(scene(), fresh=True)
    killer = Killer(machine, monkeypatch, [("cpu0", 200), ("cpu0", 600)])
    write_scenario(tmp_path, machine.scenario, "x")
    with pytest.raises(Infrastructure, match="died"):
        Surviving(machine, 1).run(None, tmp_path, 0, "x")
    assert not killer.left and operations(killer.followed[0]) > 0
    assert (tmp_path / "died-1" / "scenario.json").is_file() and (tmp_path / "died-1" / "cpu0.uvmp.jsonl").is_file()
    assert (tmp_path / "cpu0.uvmp.jsonl").is_file()


def test_who_failed_and_was_killed_is_dead_although_it_still_answers(
    live_machine: Boot, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it would die in the next attempt, and take a restart that was for another death."""
    actors = live_machine(scene(), fresh=True).actors
    pid = actors.pids["cpu1"]
    with monkeypatch.context() as patches:
        patches.setattr(actors.ray, "kill", lambda handle: None)
        patches.setattr("cluster.live.actors.STOP_S", 0.2)
        os.kill(pid, signal.SIGSTOP)
        actors.stop("halt", spare=[name for name in actors.handles if name != "cpu1"])
        os.kill(pid, signal.SIGCONT)
    assert actors.gather({"cpu1": actors.handles["cpu1"].here.remote()})[0].pid == pid, "and it answers"
    assert actors.dead() == ["cpu1"]
    actors.start(["cpu1"])
    assert actors.dead() == []


@pytest.mark.long
@pytest.mark.parametrize("which", range(5))
def test_each_actor_dies_at_each_of_a_hundred_moments(
    which: int, live_machine: Boot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twenty at a time, one death after another; prints its moments."""
    machine = live_machine(scene(), fresh=True)
    names, dice = list(machine.actors.handles), random.Random(which)
    for number in range(20):
        moments = [(name, dice.randrange(1, 3000)) for name in names]
        print(number, moments)
        with monkeypatch.context() as patches:
            out = tmp_path / str(number)
            out.mkdir()
            survives(machine, Killer(machine, patches, sorted(moments, key=lambda moment: moment[1])), out, number)


@pytest.mark.long
def test_each_node_dies_that_is_alone_in_its_process(
    live_machine: Boot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Servers too, one after another; prints its moments."""
    scene = scenario("E56", colocate="false").without_errata()
    machine, dice = live_machine(scene, fresh=True), random.Random(1)
    assert list(machine.actors.handles) == list(scene.machine.nodes)
    for number, name in enumerate(scene.machine.nodes):
        moment = name, dice.randrange(1, 2000)
        print(moment)
        with monkeypatch.context() as patches:
            out = tmp_path / name
            out.mkdir()
            survives(machine, Killer(machine, patches, [moment]), out, number)


@pytest.mark.long
def test_a_process_that_is_stopped_for_75_s_is_replaced(
    live_machine: Boot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is silent for longer than anybody waits; when it would go on, it has been killed."""
    machine = live_machine(scene(), fresh=True)
    killer = Killer(machine, monkeypatch, [("cpu1", 600)])

    def stop(pid: int) -> None:
        os.kill(pid, signal.SIGSTOP)
        Timer(75, resume, [pid]).start()

    monkeypatch.setattr(killer, "kill", stop)
    survives(machine, killer, tmp_path, silent=True)


def resume(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)
