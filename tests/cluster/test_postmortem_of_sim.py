"""The postmortem of runs of `sim`: whole, and cut off in mid-write. The hand-made stories are in test_postmortem.py."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from cluster.postmortem.analyse import analyse
from cluster.postmortem.load import load
from cluster.postmortem.views.text import render
from cluster.runs import folder as runfolder
from cluster.runs.replay import replay
from cluster.search.explore import explore
from shared.journal.record import digest
from tests.kit import scenario


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """S3a-shipped's run folder, by way of explore, replay and write_sim."""
    shipped = scenario("S3a-shipped")
    result = explore(shipped)
    assert result.token is not None
    path = runfolder.create(tmp_path_factory.mktemp("runs") / "s3a")
    once = replay(shipped, result.deviations)
    once.token = result.token
    runfolder.write_sim(path, shipped, once)
    return path


def test_a_run_of_sim_is_whole_and_tells_its_story(recorded: Path) -> None:
    pm = analyse(recorded)
    assert pm.complete, pm.holes + pm.warnings
    assert pm.digest_checked
    assert pm.finding is not None
    assert pm.finding.kind == "spin-forever"
    subject = pm.finding.subject
    assert subject.startswith("anon:")
    lock = next(lock for lock in pm.locks if lock["lock"] == f"{subject}.an_lock")
    assert [hold["since"] for hold in lock["holders"]] == ["amap_cow_now"]
    assert pm.waits[0].startswith(f"{pm.finding.context} spins in ")
    history = next(object for object in pm.objects if object.name == subject).history
    assert {"uvm_analloc", "uvm_anfree", "amap_cow_now"} <= {line.fn for line in history}
    assert pm.replay.startswith("uvmp replay uvmp1.S3a-shipped.")
    assert pm.errata[0]["row"] == "S3a"
    stack = next(context.stack for context in pm.contexts if context.name == pm.finding.context)
    assert [frame["fn"] for frame in stack] == pm.finding.stack
    assert [hold["lock"] for context in pm.contexts if context.name == pm.finding.context for hold in context.held] == [
        context["lock"] for context in pm.finding.held
    ]


def test_the_stacks_and_locks_from_the_journal_are_those_that_the_finding_captured(tmp_path: Path) -> None:
    """The reader of journals and the engine that wrote them agree, for every kind of stop."""
    for name in ("S3a", "S3b", "S3d", "E1"):
        shipped = scenario(name)
        result = explore(shipped)
        path = runfolder.create(tmp_path / name)
        assert result.outcome is not None
        runfolder.write_sim(path, shipped, result.outcome)
        pm = analyse(path)
        assert pm.complete, (name, pm.holes, pm.warnings)
        assert pm.finding is not None
        mine = next(context for context in pm.contexts if context.name == pm.finding.context)
        assert [frame["fn"] for frame in mine.stack] == pm.finding.stack, name
        assert {(hold["lock"], hold["since"]) for hold in mine.held} == {
            (hold["lock"].replace("uvm:0.", "uvm."), hold["since"]) for hold in pm.finding.held
        }, name


def test_a_node_killed_in_mid_run_leaves_a_log_that_is_still_told(recorded: Path, tmp_path: Path) -> None:
    """Every node in turn is cut in the middle of a line, with no run.json: no exception, and the hole is named."""
    for node in sorted(load(recorded).journals):
        path = tmp_path / node
        shutil.copytree(recorded, path)
        (path / "run.json").unlink()
        file = path / f"{node}.uvmp.jsonl"
        data = file.read_bytes()
        cut = len(data) * 3 // 5
        file.write_bytes(data[: cut - 1 if data[cut - 1 : cut] == b"\n" else cut])
        pm = analyse(path)
        assert not pm.complete
        assert any(warning.startswith(f"{node}.uvmp.jsonl:") for warning in pm.warnings), node
        text = render(pm)
        assert "INCOMPLETE" in text
        assert "uvmp replay" not in text, "what is not whole cannot be replayed"


def test_journals_of_write_sim_are_read_back_as_they_were(recorded: Path) -> None:
    run = load(recorded)
    assert run.torn == []
    assert run.run is not None
    assert digest(run.journals) == run.run["digest"]
    assert set(run.headers) == set(run.journals) == set(run.run["admitted"])
    assert run.run["versions"] == runfolder.versions()
    assert not list(recorded.glob("*.tmp"))
