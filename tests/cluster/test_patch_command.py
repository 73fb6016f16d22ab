"""`--patch` on the command line: kept with the run, asked for at its replay, compared over scenarios."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cluster import configs
from tests.cluster.test_live import BROKEN
from tests.kit import uvmp


@pytest.fixture
def fix(tmp_path: Path) -> Path:
    path = tmp_path / "fix.py"
    path.write_text(BROKEN, encoding="utf-8")
    return path


def test_a_run_with_a_patch_is_replayed_with_it_alone(fix: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    run = json.loads(uvmp("run", "S3a", "--fixed", "--patch", fix, "--out", folder, "--json").stdout)
    assert run["finding"]["kind"] == "oracle" and run["replay"].endswith(f"--patch {fix}")
    again = uvmp("replay", folder, "--patch", fix)
    assert again.exit_code == 1 and "equal" in again.output
    assert uvmp(*run["replay"].split()[1:]).exit_code == 1
    without = uvmp("replay", folder)
    assert without.exit_code == 2 and f"made with the patch {fix}; give --patch FILE.py" in without.output
    assert str(fix) in uvmp("postmortem", folder).output


def test_all_scenarios_are_compared(fix: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(configs, "names", lambda kind: ["E49", "S3a"])
    result = uvmp("explore", "--all", "--patch", fix, "--schedules", 5, "--json")
    document = json.loads(result.stdout)
    changed = {(search["scenario"], search["kernel"]) for search in document["searches"] if search["changed"]}
    assert (result.exit_code, len(document["searches"]), changed) == (1, 4, {("S3a", "repaired")})
    shown = uvmp("explore", "--all", "--patch", fix, "--schedules", 5).output
    assert "3 of 4 searches unchanged, 1 with a new finding" in shown and "oracle user page" in shown


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("explore",), "missing argument 'SCENARIO'"),
        (("explore", "S3a", "--all", "--patch", "FIX"), "SCENARIO: cannot be given with --all"),
        (("run", "S3a", "--patch", "nowhere.py"), "nowhere.py: no such file or directory"),
        (("measure", "S3a", "--patch", "nowhere.py"), "nowhere.py: no such file or directory"),
        (("explore", "S3a", "--errata", "uvm_pagecopy.x", "--patch", "FIX"), "there is no erratum"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(fix: Path, words: tuple[str, ...], said: str) -> None:
    result = uvmp(*(fix if word == "FIX" else word for word in words))
    assert result.exit_code == 2 and said in result.output and "Traceback" not in result.output
