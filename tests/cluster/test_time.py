"""A run whose time is over: told as not ended, kept, replayed and continued, in every engine."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from cluster.live.machine import Beginning
from cluster.live.salvage import kept
from cluster.runs.clock import Clock
from cluster.runs.folder import write_live
from cluster.runs.outcome import Outcome
from cluster.runs.parity import parity, token_of_live
from cluster.runs.replay import replay_journals
from cluster.search.strategy import Stay
from cluster.sim.engine import LOOK_EVERY
from shared.errors import Exit
from shared.findings import Finding
from shared.journal.cut import cut
from shared.journal.record import digest, holes
from shared.journal.runfile import Late, late_of
from shared.scenario.model import Scenario
from tests.bench.forks import forks
from tests.kit import run_recorded, scenario, searched, uvmp
from tests.kit import scene as made

live = pytest.mark.live
SCENE = "S3a-shipped"


@pytest.fixture
def ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock of sim: a second passes whenever it is read."""
    monkeypatch.setattr("cluster.sim.engine.monotonic", count().__next__)


def is_not_ended(finding: Finding | None, seconds: float) -> bool:
    return (
        finding is not None
        and (finding.kind, finding.context, finding.function) == ("not-ended", "", "")
        and finding.text == f"not ended within {seconds:g} s, the limit (--time)"
    )


# -- sim ------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("ticks")
def test_a_run_in_sim_whose_time_is_over_is_not_ended_and_goes_on_from_its_folder(tmp_path: Path) -> None:
    """It exits as at the limit of operations. What was performed comes again, and the rest is as if never stopped."""
    folder, whole = tmp_path / "ended", tmp_path / "whole"
    result = uvmp("run", SCENE, "--fixed", "--time", "9.5s", "--out", folder)
    assert result.exit_code == Exit.FINDING and "not ended within 9.5 s, the limit (--time)" in result.stdout
    assert "replay uvmp1." not in result.stdout, "the schedule of a token goes on to its end"
    kept_run = json.loads((folder / "run.json").read_text())
    assert kept_run["late"] == {"operations": 10 * LOOK_EVERY, "seconds": 9.5} and kept_run["token"] is None

    again = json.loads(uvmp("replay", folder, "--json").stdout)
    assert again["equal"] and again["unlike"] is None and again["operations"] == 10 * LOOK_EVERY
    assert uvmp("postmortem", folder).exit_code == Exit.NO_FINDING
    assert uvmp("run", "--resume", folder, "--out", whole).exit_code == Exit.NO_FINDING
    wanted = json.loads(uvmp("run", SCENE, "--fixed", "--json").stdout)
    assert json.loads((whole / "run.json").read_text())["digest"] == wanted["digest"]
    assert wanted["time"] is None and json.loads((whole / "run.json").read_text()).get("late") is None


@pytest.mark.usefixtures("ticks")
def test_a_run_that_is_continued_has_the_time_behind_its_beginning(tmp_path: Path) -> None:
    """So it comes further each time, however short the time is."""
    at = tmp_path / "0"
    assert uvmp("run", SCENE, "--fixed", "--time", "9.5s", "--out", at).exit_code == Exit.FINDING
    for number in (1, 2):
        before, at = at, tmp_path / str(number)
        uvmp("run", "--resume", before, "--time", "2.5s", "--out", at)
        late = json.loads((at / "run.json").read_text())["late"]
        assert late == {"operations": (10 + 2 * number) * LOOK_EVERY, "seconds": 2.5}


@pytest.mark.usefixtures("ticks")
def test_each_run_of_several_has_the_time(tmp_path: Path) -> None:
    said = json.loads(
        uvmp("run", SCENE, "--fixed", "--strategy", "random", "--repeat", 3, "--time", 9, "--json").stdout
    )
    assert said["time"] == 9 and [run["finding"]["kind"] for run in said["runs"]] == ["not-ended"] * 3
    assert {run["operations"] for run in said["runs"]} == {10 * LOOK_EVERY}


@pytest.mark.usefixtures("ticks")
def test_a_limit_of_operations_that_comes_first_is_the_one_that_is_told() -> None:
    said = json.loads(uvmp("run", SCENE, "--fixed", "--time", 90, "--operations", 1400, "--json").stdout)
    assert said["finding"]["text"].startswith("not ended within 1,400 operations")


@pytest.mark.usefixtures("ticks")
@pytest.mark.parametrize("what", ["token", "folder"])
def test_a_replay_whose_time_is_over_is_not_ended_and_differs_from_nothing(what: str, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    token = json.loads(uvmp("run", SCENE, "--fixed", "--out", folder, "--json").stdout)["token"]
    result = uvmp("replay", token if what == "token" else folder, "--time", "9.5s", "--out", tmp_path / "ended")
    assert result.exit_code == Exit.FINDING and "not ended within 9.5 s" in result.stdout
    assert "640 operations" in result.stdout and "NOT equal" not in result.stdout
    assert uvmp("replay", tmp_path / "ended").exit_code == Exit.FINDING
    refused = uvmp("replay", tmp_path / "ended", "--live")
    assert refused.exit_code == Exit.USAGE and "the run was ended here while contexts could go on" in refused.stderr
    assert refused.stderr.endswith(f" run --resume {tmp_path / 'ended'} --engine live\n")


def test_a_race_before_the_end_of_the_time_is_a_finding_all_the_same() -> None:
    raced = searched("S3c-race").outcome
    assert raced is not None and raced.finding is not None and raced.finding.kind == "data-race"
    late = Late(raced.operations - 1, 30.0)
    ended = replay_journals(scenario("S3c-race"), cut(raced.journals, late.operations), late=late)
    assert ended.late == late and ended.finding is not None and ended.finding.signature == raced.finding.signature
    before = Late(raced.operations // 4, 30.0)
    none = replay_journals(scenario("S3c-race"), cut(raced.journals, before.operations), late=before)
    assert is_not_ended(none.finding, 30)


@pytest.mark.parametrize(
    "late",
    [None, 5, {}, {"operations": -1, "seconds": 1}, {"operations": 1, "seconds": 0}, {"operations": 1, "seconds": "1"}],
)
def test_what_a_damaged_folder_says_of_its_time_is_nothing(late: object) -> None:
    assert late_of({"late": late}) is None and late_of({}) is None
    assert late_of({"late": {"operations": 3, "seconds": 1.5}}) == Late(3, 1.5)


def test_measuring_stops_when_its_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cluster.cli.measure.monotonic", count().__next__)
    few = ("--seeds", 1, "--schedules", 1, "--seconds", 0)
    result = uvmp("measure", "E45", "E31", "S3a", *few, "--time", "1.5s")
    assert result.exit_code == Exit.NO_FINDING
    assert result.stdout.endswith("not ended within 1.5 s, the limit (--time): 1 of 3 scenarios\n")


# -- real processes -------------------------------------------------------------------------------


def is_continued_and_replayed(scene: Scenario, run: Outcome, folder: Path) -> None:
    """The folder of a live run whose time is over is whole, and continued in sim."""
    write_live(folder, scene, json.loads((folder / "scenario.json").read_text())["run"], run)
    assert run.folder == folder and run.unkept is None
    again = json.loads(uvmp("replay", folder, "--json").stdout)
    assert again["equal"] and again["unlike"] is None and again["operations"] == run.operations
    assert uvmp("postmortem", folder).exit_code == Exit.NO_FINDING
    resumed = json.loads(uvmp("run", "--resume", folder, "--json").stdout)
    assert resumed["exit"] == Exit.NO_FINDING and resumed["followed"] >= run.operations < resumed["operations"]


@live
@pytest.mark.parametrize("transport", ["leases", "sockets"])
def test_a_live_run_whose_time_is_over_is_not_ended_and_goes_on_from_its_folder(
    live_machine: Callable[..., Any], transport: str, tmp_path: Path
) -> None:
    scene = forks(2, 6)
    machine, folder = live_machine(scene, transport=transport), tmp_path / "ended"
    with kept(machine, folder) as name:
        run = machine.run(out=folder, clock=Clock(0.001), identity=name)
    assert is_not_ended(run.finding, 0.001) and run.late == Late(run.operations, 0.001)
    assert not holes(run.journals) and digest(run.journals) == run.digest
    assert parity(scene, run).equal and token_of_live(scene, run) is None
    is_continued_and_replayed(scene, run, folder)
    assert machine.run().finding is None, "and the machine is good for another run"


@live
def test_a_live_run_that_follows_a_schedule_can_be_ended_too(live_machine: Callable[..., Any], tmp_path: Path) -> None:
    """Also in the middle of a step, which a context performs without a pause."""
    setup = "process: {as: A, cpu: 0}\nmmap: {in: A, as: buf, pages: 500}"
    scene = made({"A": 'mlock: {at: "buf[0]", pages: 500}'}, setup, "cpus: 1, frames: 640, swap_slots: 0")
    wanted = run_recorded(scene, Stay())
    machine, folder = live_machine(scene), tmp_path / "ended"
    with kept(machine, folder) as name:
        run = machine.run(follow=wanted.journals, out=folder, clock=Clock(0.001), identity=name)
    assert is_not_ended(run.finding, 0.001) and 0 <= run.operations < wanted.operations
    assert parity(scene, run).equal
    is_continued_and_replayed(scene, run, folder)
    assert machine.run(follow=wanted.journals).digest == wanted.digest


@live
def test_a_live_run_that_is_continued_has_the_time_behind_its_beginning(live_machine: Callable[..., Any]) -> None:
    scene = forks(2, 6)
    machine = live_machine(scene)
    first = machine.run(clock=Clock(0.001))
    again = machine.run(follow=Beginning(first.journals), clock=Clock(0.001))
    assert is_not_ended(again.finding, 0.001) and again.operations >= first.operations
    assert parity(scene, again).equal


@live
def test_a_replay_on_real_processes_whose_time_is_over_is_compared_as_far_as_it_came(
    live_machine: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def booted(output: object, scene: Scenario, asked: object) -> Iterator[Any]:
        yield live_machine(scene)

    monkeypatch.setattr("cluster.cli.live.booted", booted)
    monkeypatch.setattr("cluster.cli.replay.Clock", lambda seconds: Clock(seconds, spent_s=1e9))
    token = json.loads(uvmp("run", SCENE, "--fixed", "--json").stdout)["token"]
    said = json.loads(uvmp("replay", token, "--live", "--time", "60s", "--out", tmp_path / "ended", "--json").stdout)
    assert said["exit"] == Exit.FINDING and said["finding"]["text"].startswith("not ended within 60 s")
    assert said["equal"] and list(said["digest"]) == ["sim"] and said["time"] == 60
    assert uvmp("replay", tmp_path / "ended").exit_code == Exit.FINDING


@live
def test_a_live_run_has_no_limit_of_time_unless_it_is_given_one(
    live_machine: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """However late it is: only a machine in which nothing happens, though it is not at rest, is given up."""
    machine = live_machine(scenario("E1").without_errata())
    clock = count(step=1000)
    monkeypatch.setattr("cluster.live.machine.monotonic", clock.__next__)
    monkeypatch.setattr("cluster.live.machine.STALL_S", 1e9)
    monkeypatch.setattr("cluster.live.machine.LOST_S", 1e9)
    assert machine.run().finding is None
