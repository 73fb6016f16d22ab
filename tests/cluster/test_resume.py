"""A run that was cut short is continued from its journals: what they have comes again, and the whole is a run."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import pytest

from cluster.boot import prepare
from cluster.runs.outcome import Outcome
from cluster.runs.replay import beginning, continued, recorded, replay, replay_journals
from cluster.search.strategy import Stay, Strategy
from cluster.search.walk import RandomWalk
from cluster.sim.engine import Sim
from shared.errors import Exit
from shared.journal.cut import cut
from shared.journal.order import operations
from shared.journal.record import Journals, Record, holes
from shared.scenario.model import Scenario
from tests.kit import run_recorded, scenario, uvmp

#: with locks that are waited for, interrupts, choices of data, a file, a finding
SCENES = {
    "locks": lambda: scenario("E1").without_errata(),
    "deadlock": lambda: scenario("E1").with_detect({"lockdebug": "off"}),
    "interrupts": lambda: scenario("S11a-interrupt").without_errata(),
    "choices": lambda: scenario("S1d-maybe").without_errata(),
    "finding": lambda: scenario("S7-shipped"),
    "big-lock": lambda: scenario("S7-shipped").without_errata().with_kernel_lock("big"),
}


def resumed(scene: Scenario, journals: Journals, then: Strategy) -> Outcome:
    """A run that begins with these journals; its own replay, and its token's, must be the same run."""
    sim = Sim(*prepare(scene))
    sim.execute(continued(sim.machine, journals, then), record=True)
    run = recorded(sim)
    assert replay_journals(scene, run.journals).digest == run.digest == replay(scene, run.deviations).digest
    return run


def torn(journals: Journals, dice: random.Random) -> Journals:
    """What a disk may have of them: a tail of each is lost, or half of one."""
    if dice.random() < 0.5:
        victim = dice.choice(sorted(journals))
        return {**journals, victim: journals[victim][: dice.randrange(len(journals[victim]) + 1)]}
    return {node: records[: int(len(records) * dice.uniform(0.8, 1))] for node, records in journals.items()}


def performed(records: list[Record]) -> list[Record]:
    """The operations of a node, without what kernel events change: who was cut off does not know their number."""
    return [{key: value for key, value in record.items() if key != "nseq"} for record in records if "k" in record]


@pytest.mark.parametrize("name", SCENES)
def test_what_is_left_of_a_run_comes_again_and_the_rest_is_new(name: str) -> None:
    """Whatever tail was lost: every operation of the last consistent cut is performed again, in its node's order."""
    scene, dice = SCENES[name](), random.Random(name)
    shares = []
    for seed in range(2):
        whole = run_recorded(scene, RandomWalk(seed))
        left = beginning(scene, torn(whole.journals, dice))
        assert not holes(left)
        shares.append(operations(left) / whole.operations)
        run = resumed(scene, left, RandomWalk(seed + 1))
        for node, records in left.items():
            mine = performed(records)
            assert performed(run.journals[node])[: len(mine)] == mine, (name, seed, node)
    assert max(shares) > 0.05, "nothing was followed"


@pytest.mark.parametrize("name", SCENES)
def test_a_run_continued_from_anywhere_under_its_own_strategy_is_that_run(name: str) -> None:
    """Nothing is lost or added at the place where the log ends: not even who would have been next by default.

    That is so at its begin and its end, and in between if its journals' order is the one in which it was performed.
    """
    scene, dice = SCENES[name](), random.Random(name)
    whole = run_recorded(scene, Stay())
    counts = [0, dice.randrange(whole.operations), dice.randrange(whole.operations), whole.operations]
    if resumed(scene, beginning(scene, whole.journals), Stay()).deviations:
        counts = [0, whole.operations]
    for count in counts:
        run = resumed(scene, beginning(scene, cut(whole.journals, count)), Stay())
        assert run.digest == whole.digest, (name, count)
    assert len(counts) == 4 or name in ("interrupts", "big-lock", "finding", "choices")


def test_a_complete_run_is_continued_to_its_end() -> None:
    scene = SCENES["choices"]()
    whole = run_recorded(scene, RandomWalk(3))
    assert resumed(scene, beginning(scene, whole.journals), RandomWalk(4)).digest == whole.digest


# -- the command -----------------------------------------------------------------------------


@pytest.fixture
def killed(tmp_path: Path) -> Path:
    """A folder as a killed run leaves it: no run.json, a journal that ends too early, a torn line."""
    folder = tmp_path / "killed"
    assert uvmp("run", "E1", "--fixed", "--strategy", "random", "--out", folder).exit_code == Exit.NO_FINDING
    (folder / "run.json").unlink()
    journal = folder / "lock_manager.uvmp.jsonl"
    journal.write_bytes(journal.read_bytes()[: journal.stat().st_size * 2 // 3])
    return folder


def test_a_killed_run_is_continued_into_a_folder_of_its_own(killed: Path, tmp_path: Path) -> None:
    before = {file.name: file.read_bytes() for file in killed.iterdir()}
    result = uvmp("run", "--resume", killed, "--strategy", "random", "--seed", 5, "--out", tmp_path / "whole")
    assert result.exit_code == Exit.NO_FINDING and "behind its last consistent cut cannot be" in result.output
    assert {file.name: file.read_bytes() for file in killed.iterdir()} == before
    again = json.loads(uvmp("replay", tmp_path / "whole", "--json").stdout)
    assert again["equal"] and again["scenario"] == "E1" and again["errata"] == []
    token = json.loads((tmp_path / "whole" / "run.json").read_text())["token"]
    assert json.loads(uvmp("replay", token, "--json").stdout)["digest"]["sim"] == again["digest"]["sim"]
    taken = uvmp("run", "--resume", killed, "--out", killed)
    assert taken.exit_code == Exit.USAGE and "exists already" in taken.output


def test_a_run_of_something_else_is_not_continued(killed: Path, tmp_path: Path) -> None:
    """Another kernel, another patch, files of two runs, half a folder: one line each, and no traceback."""

    def refused(*words: object, code: Exit = Exit.USAGE) -> str:
        result = uvmp("run", "--resume", *words)
        assert result.exit_code == code and len(result.output.strip().splitlines()) == 1, result.output
        return result.output

    assert "cannot be given with --resume" in refused(killed, "E1")
    assert "its own scenario, errata and detectors" in refused(killed, "--fixed")
    patch = tmp_path / "fix.py"
    patch.write_text("from shared.patch import replaces\n\n@replaces('uvm_pagecopy')\ndef copy(src, dst): pass\n")
    assert "was made on kernel" in refused(killed, "--patch", patch)
    document = json.loads((killed / "scenario.json").read_text())
    (killed / "scenario.json").write_text(json.dumps(document | {"options": ["--patch", "mine.py"]}))
    assert "was made with the patch mine.py; give --patch" in refused(killed)
    (killed / "scenario.json").write_text(json.dumps(document | {"versions": {"kernel": "0123abcd"}}))
    assert "was made on kernel 0123abcd" in refused(killed)
    (killed / "scenario.json").write_text(json.dumps(document | {"run": "another"}))
    assert "the files are of different runs" in refused(killed, code=Exit.LOG_INCOMPLETE)
    (killed / "scenario.json").unlink()
    assert "there is no scenario.json" in refused(killed, code=Exit.LOG_INCOMPLETE)
    shutil.rmtree(killed)
    assert "there is no such folder" in refused(killed)
