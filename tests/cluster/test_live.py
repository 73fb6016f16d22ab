"""The live engine: a machine that is reused, notices when it is at rest, and tells a dead actor from a finding."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, cast

import pytest

from cluster.live.machine import LiveMachine, schedule_of
from cluster.runs.replay import replay
from cluster.search.walk import RandomWalk
from shared.errors import Diverged, Infrastructure, UserMistake
from shared.journal.record import SCHEMA, holes, read
from shared.patch import applied
from shared.patch import read as read_patch
from shared.scenario.model import named_results
from tests.kit import run_recorded, scenario
from tests.nodes.in_threads import Threads

Boot = Callable[..., Any]
live = pytest.mark.live


# -- what is followed -----------------------------------------------------------------------


def test_a_schedule_is_every_nodes_order_and_every_processors() -> None:
    """No global step numbers: what the nodes admit and what each processor performs is all there is to follow."""
    scene = scenario("E1").without_errata()
    recorded = run_recorded(scene, RandomWalk(0))
    schedule = schedule_of(recorded.journals, scene)
    assert sum(len(order.contexts) for order in schedule.processors.values()) == recorded.operations
    local = [
        record
        for records in recorded.journals.values()
        for record in records
        if record["event"] in ("run", "userret", "intr", "iret")
    ]
    assert sum(map(len, schedule.nodes.values())) + len(local) == recorded.operations
    assert schedule.processors["cpu0"].contexts[0] == "A" and schedule.nodes["memory"][0].n >= 1
    for names, events, _ in schedule.processors.values():
        assert len(events) == len(names) + 1
    events = sum(sum(events) for _, events, _ in schedule.processors.values())
    assert events == sum("k" not in record for records in recorded.journals.values() for record in records)


def test_an_actor_is_sent_the_orders_of_its_own_nodes_alone(tmp_path: Path) -> None:
    """With all of them, the driver and every actor would have the whole run in memory, each once more."""
    scene = scenario("E1").without_errata()
    actors = SimpleNamespace(groups=scene.machine.actors, stop=lambda *words, **options: None, kill=lambda: None)
    machine = LiveMachine(cast(ModuleType, None), scene, actors=cast(Any, actors))
    loads = list(machine._loads(tmp_path / "mark", "run", run_recorded(scene, RandomWalk(0)).journals, 0))
    machine.close()
    schedules = [load.follow for load in loads if load.follow is not None]
    assert [list(schedule.nodes) for schedule in schedules] == [
        [node for node in scene.machine.nodes if node in group] for group in scene.machine.actors
    ]
    cpus = [cpu for schedule in schedules for cpu in schedule.processors]
    assert sorted(cpus) == sorted(scene.machine.processors)


# -- runs ----------------------------------------------------------------------------------------


@live
def test_a_booted_machine_is_as_new_forevery_run(live_machine: Boot) -> None:
    """Twenty runs of a race must not take twenty boots, and no run may see what another left."""
    scene = scenario("E1").without_errata()
    machine = live_machine(scene)
    wanted = replay(scene, [])
    pids = machine.actors.pids
    for _ in range(3):
        run = machine.run(follow=wanted.journals)
        assert run.digest == wanted.digest
        free = machine.run()
        assert free.finding is None and scene.expect.fixed.check(None, named_results(free.results)) is None
    assert [here.pid for here in machine.actors.call("here")] == list(pids.values())


BROKEN = """from shared.patch import replaces
from shared.uvm.param import PG_CLEAN

@replaces("uvm_pagecopy")
def uvm_pagecopy(src, dst):
    dst.flags &= ~PG_CLEAN
"""


@live
def test_an_actor_tells_the_metrics_of_each_of_its_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    import nodes.host.ray

    values: dict[tuple[str, str], float] = {}

    class Gauge:
        def __init__(self, name: str, **_: object):
            self.name = name

        def set(self, value: float, tags: dict[str, str]) -> None:
            values[tags["node"], self.name] = value

    monkeypatch.setattr(nodes.host.ray, "Gauge", Gauge)
    machine = Threads(scenario("E1").without_errata(), together=True)
    meter = nodes.host.ray.Meter()
    machine.run()
    for host in machine.hosts.values():
        meter.tell(host)
        for node, admission in host.admissions.items():
            assert (values[node, "uvmp_records"], values[node, "uvmp_queue"]) == (admission.journal.nseq, 0)
        if host.runner is not None:
            node = host.runner.processor.name
            assert (values[node, "uvmp_operations"], values[node, "uvmp_waits"]) == (host.runner.processor.k, 1)
    assert values["cpu0", "uvmp_operations"] > 0 and values["memory", "uvmp_records"] > 0
    assert ("memory", "uvmp_operations") not in values


@live
def test_each_run_has_a_mark_of_its_own(live_machine: Boot, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = live_machine(scenario("E1"))
    marks, loads = [], machine._loads

    def noted(mark: Path, *args: Any) -> Any:
        marks.append(mark.name)
        return loads(mark, *args)

    monkeypatch.setattr(machine, "_loads", noted)
    for _ in range(2):
        machine.run(identity="the same")
    assert len(set(marks)) == 2


@pytest.mark.live
def test_a_patch_travels_to_the_actors_and_does_not_stay_there(live_machine: Boot) -> None:
    """The same digests with it as in sim; an error of its own is the user's, with the line; then all is as it was."""
    scene = scenario("S3a").without_errata()
    machine = live_machine(scene)
    with applied(read_patch(BROKEN, "broken.py")):
        wanted = replay(scene, [])
        run = machine.run(follow=wanted.journals)
        assert wanted.finding is not None and wanted.finding.kind == "oracle"
        assert run.digest == wanted.digest and run.finding == wanted.finding
    wrong = read_patch(BROKEN.replace("dst.flags", "1 / 0; dst.flags"), "error.py")
    with applied(wrong), pytest.raises(UserMistake, match=r"error\.py:6: ZeroDivisionError"):
        machine.run()
    sound = replay(scene, [])
    assert machine.run(follow=sound.journals).digest == sound.digest != wanted.digest


@live
def test_the_logs_of_a_run_are_whole_and_say_whose_they_are(live_machine: Boot, tmp_path: Path) -> None:
    scene = scenario("E1").without_errata()
    run = live_machine(scene).run(out=tmp_path / "run")
    pids = set()
    for node in scene.machine.nodes:
        with (tmp_path / "run" / f"{node}.uvmp.jsonl").open("rb") as lines:
            header, records, torn = read(lines, node)
        assert torn is None and header["schema"] == SCHEMA and header["node"] == node and header["engine"] == "live"
        assert records == list(run.journals[node])
        pids.add(header["pid"])
    assert len(pids) == len(scene.machine.actors) and holes(run.journals) == []


@live
def test_a_free_run_meets_the_shipped_race(live_machine: Boot) -> None:
    """Real concurrency, no schedule: the anon freed locked is met, and told as in sim."""
    scene = scenario("S3a-shipped")
    machine = live_machine(scene)
    findings = (machine.run(seed=seed).finding for seed in range(20))
    finding = next((finding for finding in findings if finding is not None), None)
    assert finding is not None, "not once in twenty runs"
    assert scene.expect.with_errata.check(finding, {}) is None


@live
def test_a_deadlock_is_declared_when_nothing_is_going_on_and_not_by_a_clock(live_machine: Boot) -> None:
    """A lock is never released; the run ends soon and with the verdict that sim has."""
    scene = scenario("E1").with_detect({"lockdebug": "off"})
    wanted = replay(scene, [])
    assert wanted.finding is not None and wanted.finding.kind == "spin-forever"
    machine = live_machine(scene)
    run = machine.run(follow=wanted.journals)
    assert run.finding is not None and run.finding.as_dict() == wanted.finding.as_dict() and run.digest == wanted.digest
    assert machine.run().finding.kind == "spin-forever"


@live
def test_notes_and_sites_are_added_up_over_the_actors(live_machine: Boot) -> None:
    scene = scenario("S3a").with_detect({"lockdebug": "note"})
    wanted = replay(scene, [])
    run = live_machine(scene).run(follow=wanted.journals)
    assert [note.as_dict() for note in run.notes] == [note.as_dict() for note in wanted.notes] != []
    assert run.sites == wanted.sites and run.counters == wanted.counters


# -- what goes wrong ------------------------------------------------------------------------------


def changed(scene: Any, change: Callable[[list[dict[str, Any]]], None]) -> Any:
    journals = {
        node: [dict(record) for record in records]
        for node, records in run_recorded(scene, RandomWalk(0)).journals.items()
    }
    change(journals["lock_manager"])
    return journals


@live
def test_another_operation_than_the_schedule_says_is_diverged(live_machine: Boot) -> None:
    """Exit code 3, with what was expected and what was there; and the machine is good for another run."""
    scene = scenario("E1").without_errata()

    def other_kind(records: list[dict[str, Any]]) -> None:
        next(record for record in records if record["event"] == "unlock" and record["ctx"] == "A")["event"] = "wakeup"

    machine = live_machine(scene)
    with pytest.raises(Diverged) as caught:
        machine.run(follow=changed(scene, other_kind))
    assert caught.value.expected.startswith("wakeup as operation") and caught.value.expected.endswith(
        "of A on lock_manager"
    )
    assert caught.value.actual == "unlock"
    wanted = replay(scene, [])
    assert machine.run(follow=wanted.journals).digest == wanted.digest


@live
def test_a_step_that_never_comes_is_diverged(live_machine: Boot, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is going on, though the schedule is not over: told with whose turn it was."""
    monkeypatch.setattr("cluster.live.machine.STALL_S", 1.0)
    scene = scenario("E1").without_errata()

    def never(records: list[dict[str, Any]]) -> None:
        next(record for record in records if record["event"] == "unlock" and record["ctx"] == "A")["n"] += 100_000

    with pytest.raises(Diverged, match=r"to perform operation \d+ of \w+; found no node admits an operation"):
        live_machine(scene).run(follow=changed(scene, never))


@live
def test_a_dead_actor_is_an_infrastructure_error_and_no_finding(live_machine: Boot) -> None:
    """A machine that lost a node has shown nothing about the kernel."""
    scene = scenario("S3a").without_errata()
    machine = live_machine(scene, fresh=True)
    os.kill(machine.actors.pids["cpu1"], signal.SIGKILL)
    with pytest.raises(Infrastructure, match="died"):
        machine.run()


@live
def test_closing_a_machine_ends_its_processes_and_removes_its_files(live_machine: Boot) -> None:
    """Nothing is left behind, whoever starts a thousand of them."""
    import time

    machine = live_machine(scenario("E1").without_errata(), fresh=True)
    machine.run()
    machine.close()
    assert not machine.scratch.exists()
    end = time.monotonic() + 10
    alive = set(machine.actors.pids.values())
    while alive and time.monotonic() < end:
        alive = {
            pid
            for pid in alive
            if Path(f"/proc/{pid}").exists() and "Z" not in Path(f"/proc/{pid}/stat").read_text().split()[2]
        }
        time.sleep(0.05)
    assert not alive
