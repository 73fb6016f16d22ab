"""`--patch` on the command line: kept with the run, asked for at its replay, compared over scenarios."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path

import pytest

from cluster import configs
from cluster.postmortem.load import MAX_JSON, load
from cluster.session.folder import make
from shared.errors import Exit
from shared.journal.runfile import PATCH
from shared.patch import applied, read
from tests.cluster.test_live import BROKEN
from tests.kit import scenario, uvmp


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
    fix.write_text(BROKEN.replace("dst.flags", "src.busy(); dst.flags"), encoding="utf-8")
    other = uvmp("replay", folder, "--patch", fix)
    assert other.exit_code == 2 and "the run was made on kernel" in other.output


def test_the_folder_has_the_patch_to_read_and_the_postmortem_names_it(fix: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert uvmp("run", "S3a", "--fixed", "--patch", fix, "--out", folder).exit_code == 1
    assert (folder / PATCH).read_text(encoding="utf-8") == BROKEN
    assert (folder / PATCH).stat().st_mode == (folder / "run.json").stat().st_mode
    for words in ((), ("--full",)):
        told = " ".join(uvmp("postmortem", folder, *words).output.split())
        assert f"{fix} (to read its source: {PATCH} in this folder)" in told and "the repaired kernel" not in told
    document = json.loads(uvmp("postmortem", folder, "--json").stdout)
    assert document["patch"] == {"file": str(fix), "source": PATCH} and document["complete"]
    (folder / "run.json").unlink()  # as if it had been killed
    assert json.loads(uvmp("postmortem", folder, "--json").stdout)["patch"]["file"] == str(fix)
    assert "give --patch FILE.py" in uvmp("run", "--resume", folder, "--out", tmp_path / "whole").output
    plain = tmp_path / "plain"
    uvmp("run", "S3a", "--fixed", "--out", plain)
    assert not (plain / PATCH).exists() and load(plain).patch() == {}
    assert "the repaired kernel" in uvmp("postmortem", plain).output


def test_the_folder_of_a_session_has_the_patch_from_its_beginning(tmp_path: Path) -> None:
    with applied(read(BROKEN, "fix.py")):
        make(tmp_path / "session", scenario("S3a"), ("--patch", "fix.py"))
    assert load(tmp_path / "session" / "run").patch() == {"file": "fix.py", "source": PATCH}


@pytest.mark.live
@pytest.mark.usefixtures("ray_session")
def test_the_folder_of_a_run_on_real_processes_has_the_patch_too(fix: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    result = uvmp("run", "S3a", "--fixed", "--engine", "live", "--patch", fix, "--out", folder)
    assert result.exit_code == 1 and "equal in sim" in result.output, result.output
    run = load(folder)
    assert run.torn == [] and run.patch() == {"file": str(fix), "source": PATCH}
    assert (folder / PATCH).read_text(encoding="utf-8") == BROKEN


def test_nothing_executes_the_patch_of_a_folder(fix: Path, tmp_path: Path) -> None:
    folder, trace = tmp_path / "run", tmp_path / "trace"
    fix.write_text(f"open({str(trace)!r}, 'a').write('x')\n{BROKEN}", encoding="utf-8")
    assert uvmp("run", "S3a", "--fixed", "--patch", fix, "--out", folder).exit_code == 1
    assert trace.read_text() == "x" and (folder / PATCH).read_text().startswith("open(")
    token = json.loads((folder / "run.json").read_text())["token"]
    commands = (
        ("postmortem", folder), ("postmortem", folder, "--full"), ("replay", folder), ("replay", folder, "--lenient"),
        ("run", "--resume", folder), ("replay", token), ("minimize", folder),
    )  # fmt: skip
    for words in commands:
        uvmp(*words)
        assert trace.read_text() == "x", words


@pytest.mark.parametrize("change", ["changed", "removed", "added", "too large"])
def test_a_patch_of_a_folder_that_was_changed_is_detected(
    change: str, fix: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    patch = () if change == "added" else ("--patch", fix)
    uvmp("run", "S3a", "--fixed", *patch, "--out", folder)
    assert load(folder).torn == []
    source = folder / PATCH
    if change == "removed":
        source.unlink()
    elif change == "added":
        source.write_text(BROKEN, encoding="utf-8")
    else:
        source.write_text(BROKEN + "#" * (1 if change == "changed" else MAX_JSON), encoding="utf-8")
    said = {
        "changed": "the file was changed", "removed": "the file is missing",
        "added": "the file did not exist when the run ended", "too large": "cannot be read (more than",
    }  # fmt: skip
    assert [line for line in load(folder).torn if line.startswith(f"{PATCH}: {said[change]}")]
    assert uvmp("postmortem", folder).exit_code == Exit.LOG_INCOMPLETE
    assert uvmp("replay", folder, *patch).exit_code == Exit.LOG_INCOMPLETE


def test_a_command_says_with_which_patch_it_runs_and_so_does_its_document(fix: Path, sessions: Path) -> None:
    errata = "--errata", "uvm_pagecopy.not-at-all"
    fix.write_text(f'{BROKEN}\nfrom shared.patch import declares\ndeclares("{errata[1]}", "It copies nothing.")\n')
    token = json.loads(uvmp("run", "S3a", "--fixed", "--patch", fix, "--json").stdout)["token"]
    about = {"file": str(fix), "sha256": sha256(fix.read_bytes()).hexdigest()}
    few = ("--schedules", 2)
    commands = (
        ("run", "S3a", "--fixed"), ("explore", "S3a", "--fixed", *few), ("replay", token), ("minimize", token),
        ("fuzz", "--programs", 1, "--seed", 1), ("measure", "S3a", "--seeds", 1, *few, "--seconds", 0.01),
        ("boot", "S3a", "--fixed"),
    )  # fmt: skip
    for number, words in enumerate(commands):
        out = ("--out", sessions / str(number)) if words[0] == "fuzz" else ()
        result = uvmp(*words, *out, "--patch", fix, "--json")
        assert json.loads(result.stdout)["patch"] == about, words
        if words[0] in ("run", "explore", "replay", "minimize", "boot"):
            said = " ".join(result.stderr.split())
            assert f"(the kernel patched by {fix}, no errata)" in said and "repaired kernel" not in said
    with_errata = uvmp("run", "S3a", "--fixed", *errata, "--patch", fix)
    assert f"(the kernel patched by {fix}, with {errata[1]})" in " ".join(with_errata.output.split())
    assert json.loads(uvmp("run", "S3a", "--fixed", "--json").stdout)["patch"] is None


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
