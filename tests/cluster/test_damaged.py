"""Damaged and hostile run folders and tokens: what is called whole is whole, and nothing that is read can do harm.

A folder is damaged in one place, in every way that a table or a seeded generator names. Then the postmortem and the
replay must either tell the same as of the folder that is whole, or say clearly what is wrong, with the right exit code.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import os
import random
import re
import shlex
import shutil
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
import pytest
from click.testing import Result

from cluster.live.salvage import kept
from cluster.postmortem.analyse import Postmortem, analyse
from cluster.postmortem.views.screen import render_screen
from cluster.postmortem.views.text import render
from cluster.runs import folder as runfolder
from cluster.runs.parity import token_of_live
from cluster.runs.replay import replay
from cluster.runs.token import Token, kernel_version, parse
from cluster.search.explore import explore
from shared.errors import Exit, Infrastructure, UserMistake
from shared.findings import DETECTORS
from shared.journal.runfile import scenario_of, sealed, token_check
from shared.scenario.load import load_scenario
from shared.text import clean
from tests import kit
from tests.kit import CONFIGS, SHIPPED, scenario

#: folders and files that are damaged in many ways
pytestmark = pytest.mark.wide

#: one whose finding is in a journal, one that is judged at the end, one without a finding
RUNS = {"S3a": "locked-anon-freed", "S3a-shipped": "spin-forever", "S2b": None}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of `sim`, whole."""
    paths = {}
    for name, kind in RUNS.items():
        scene = scenario(name)
        result = explore(scene, schedules=None if kind else 1)
        assert (result.finding and result.finding.kind) == kind
        path = runfolder.create(tmp_path_factory.mktemp("runs") / name)
        once = replay(scene, result.deviations)
        once.token = result.token or Token(scene.id, scene.digest(), kernel_version(), ())
        runfolder.write_sim(path, scene, once)
        paths[name] = path
    return paths


def copied(path: Path, to: Path) -> Path:
    shutil.copytree(path, to / "run")
    return to / "run"


def truth(pm: Postmortem) -> dict[str, Any]:
    """What a postmortem tells, except for where it was read."""
    told = pm.as_dict()
    for key in ("path", "replay"):
        del told[key]
    return told


def change(path: Path, old: bytes | None, new: bytes) -> None:
    """Change the first such bytes of a file; None: the whole file."""
    data = path.read_bytes()
    assert old is None or old in data, (path, old)
    path.write_bytes(new if old is None else data.replace(old, new, 1))


def edit(path: Path, key: str, value: Any, reseal: bool = False) -> None:
    """Set a key of run.json; `reseal`: as somebody would who makes its check anew."""
    body = json.loads(path.read_bytes())
    body[key] = value
    path.write_text(json.dumps(sealed(body) if reseal else body))


def uvmp(*words: object) -> Result:
    """However damaged what it reads may be, the command does not fall over it."""
    result = kit.uvmp(*words)
    assert "Traceback" not in result.output and "a bug in uvmp" not in result.output, result.output
    return result


# -- what says it is whole is whole --------------------------------------------------------

OTHER = {"kind": "panic", "text": "panic: forged", "detector": "kassert", "context": "A", "function": "uvm_fault",
         "subject": "", "stack": [], "held": [], "story": []}  # fmt: skip


def first_line(path: Path) -> bytes:
    return path.read_bytes().split(b"\n", 1)[0] + b"\n"


def doubled(file: Path) -> None:
    change(file, None, first_line(file) + file.read_bytes())


#: what was done to a file, which, and what is said of it; run.json is sealed anew where its check is not the point
DAMAGES: dict[str, tuple[str, Callable[[Path], None], str]] = {
    "a byte of a key": ("run.json", lambda path: change(path, b'"finding"', b'"findinh"'), "wrong checksum"),
    "a byte of a value": ("run.json", lambda path: change(path, b'"digest": "', b'"digest": "0'), "wrong checksum"),
    "no keys": ("run.json", lambda path: change(path, None, b'{"schema": "uvmp-run/2"}'), "wrong checksum"),
    "another finding": ("run.json", lambda path: edit(path, "finding", OTHER), "wrong checksum"),
    "no finding": ("run.json", lambda path: edit(path, "finding", None), "wrong checksum"),
    "another finding, sealed": ("run.json", lambda path: edit(path, "finding", OTHER, True), "finding"),
    "another digest": ("run.json", lambda path: edit(path, "digest", "0" * 64, True), "were changed"),
    "another token": (
        "run.json",
        lambda path: edit(path, "token", str(Token("E1", "0" * 8, "0" * 8, ())), True),
        "token",
    ),
    "a token that is none": ("run.json", lambda path: edit(path, "token", "uvmp1.\x1b[2J", True), "token"),
    "other errata": ("run.json", lambda path: edit(path, "errata", ["nothing"], True), "different errata"),
    "no header": ("mmu.uvmp.jsonl", lambda path: change(path, first_line(path), b""), "mmu"),
    "two headers": ("mmu.uvmp.jsonl", doubled, "mmu.uvmp.jsonl:2: a second header"),
    "another header": (
        "mmu.uvmp.jsonl",
        lambda path: change(path, b'"engine":"sim"', b'"engine":"sin"'),
        "the file was changed",
    ),
    "a record changed": (
        "memory.uvmp.jsonl",
        lambda path: change(path, b'"value":', b'"value":1'),
        "memory.uvmp.jsonl",
    ),
    "nseq changed": ("memory.uvmp.jsonl", lambda path: change(path, b'"nseq":7', b'"nseq":8'), "the file was changed"),
    "a journal less": ("mmu.uvmp.jsonl", Path.unlink, "mmu.uvmp.jsonl: the file is missing"),
    "a journal more": ("swap_io2.uvmp.jsonl", lambda path: edit_none(path), "this machine has no such node"),
    "no scenario": ("scenario.json", Path.unlink, "there is no scenario.json"),
    "another machine": ("scenario.json", lambda path: change(path, b"frames: ", b"frames: 1"), "scenario.json"),
    "another title": (
        "scenario.json",
        lambda path: change(path, b"title: ", b"title: X"),
        "scenario.json: the file was changed",
    ),
}


def edit_none(file: Path) -> None:
    file.write_bytes(b"")


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_was_changed_is_told_and_not_replayed(damage: str, runs: dict[str, Path], tmp_path: Path) -> None:
    for name, whole in runs.items():
        if damage == "no finding" and RUNS[name] is None:
            continue
        run = copied(whole, tmp_path / name)
        assert analyse(run).complete
        file, act, says = DAMAGES[damage]
        act(run / file)
        pm = analyse(run)
        assert not pm.complete and any(says in text for text in pm.warnings + pm.holes), (name, pm.warnings, pm.holes)
        assert "The log is complete" not in render(pm)
        result = uvmp("replay", run)
        assert result.exit_code == Exit.LOG_INCOMPLETE, (name, result.output)


def test_the_finding_that_is_told_is_the_one_that_the_journals_have(runs: dict[str, Path], tmp_path: Path) -> None:
    run = copied(runs["S3a"], tmp_path)
    edit(run / "run.json", "finding", OTHER, reseal=True)
    pm = analyse(run)
    assert pm.finding is not None and (pm.finding.kind, pm.source) == ("locked-anon-freed", "journal")


def test_a_replay_compares_its_finding_with_the_one_that_is_recorded(runs: dict[str, Path], tmp_path: Path) -> None:
    """A finding about the whole run is in no journal: who changes it and seals the file anew is found by a replay."""
    run = copied(runs["S3a-shipped"], tmp_path)
    forged = {**json.loads((run / "run.json").read_text())["finding"], "text": "somebody else did it"}
    edit(run / "run.json", "finding", forged, reseal=True)
    assert analyse(run).complete
    result = uvmp("replay", run)
    assert result.exit_code == Exit.DIVERGED and "recorded with spin-forever (somebody else did it)" in result.output
    document = json.loads(uvmp("replay", run, "--json").stdout)
    assert document["equal"] is False and "somebody else" in document["unlike"]
    edit(run / "run.json", "finding", None, reseal=True)
    assert "recorded with no finding" in uvmp("replay", run).output


def test_journals_of_another_run_are_told_as_mixed(runs: dict[str, Path], tmp_path: Path) -> None:
    """Of the same scenario, too."""
    other = tmp_path / "other"
    scene = scenario("S3a-shipped")
    runfolder.write_sim(runfolder.create(other), scene, replay(scene, []))
    for file in ("memory.uvmp.jsonl", "scenario.json", "run.json"):
        run = copied(runs["S3a-shipped"], tmp_path / file)
        shutil.copy(other / file, run / file)
        pm = analyse(run)
        assert not pm.complete and pm.warnings[0].startswith("the files are of different runs"), (file, pm.warnings)


def test_the_same_run_gives_the_same_folder(tmp_path: Path) -> None:
    scene = scenario("E1")
    for name in "ab":
        runfolder.write_sim(runfolder.create(tmp_path / name), scene, replay(scene, []))
    for file in (tmp_path / "a").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes()


def test_a_scenario_that_is_not_what_its_text_says_is_not_kept(tmp_path: Path) -> None:
    scene = scenario("E1")
    other = dataclasses.replace(scene, machine=dataclasses.replace(scene.machine, frames=scene.machine.frames + 1))
    with pytest.raises(Infrastructure, match="differs from its text"):
        runfolder.write_scenario(tmp_path, other, "x")


# -- the replay line replays -----------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        ["--errata", "S3b"],
        ["--fixed", "--errata", "amap_cow_now.nanon-freed-locked"],
        ["--detect", "lockdebug=off", "--detect", "race=note"],
        ["--fixed"],
    ],
)
def test_the_line_in_a_report_is_the_one_to_paste(options: list[str], tmp_path: Path) -> None:
    """Of a file of the user's own, with a name that a shell would split, and with other errata and detectors."""
    mine = tmp_path / "my own.yaml"
    mine.write_text((CONFIGS / "scenarios" / "S3a.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    first = json.loads(uvmp("run", mine, "--json", "--out", tmp_path / "run", *options).stdout)
    pm = analyse(tmp_path / "run")
    assert pm.complete and pm.replay == first["replay"] and str(mine) in pm.replay
    again = json.loads(uvmp(*shlex.split(pm.replay)[1:], "--json").stdout)
    assert (again["digest"]["sim"], again["finding"]) == (first["digest"], first["finding"])


def test_no_text_of_a_file_is_in_the_line(runs: dict[str, Path], tmp_path: Path) -> None:
    for number, options in enumerate(
        (["; rm -rf /"], ["--scenario"], ["--scenario", "a\nb"], ["--out", "x"], [3], "x")
    ):
        run = copied(runs["S3a"], tmp_path / str(number))
        edit(run / "run.json", "options", options, reseal=True)
        edit(run / "run.json", "replay", "rm -rf /", reseal=True)
        assert analyse(run).replay == f"uvmp replay {run}"


# -- tokens ------------------------------------------------------------------------------------


def token_of(data: bytes) -> str:
    """A token with this body and valid checks."""
    scene = scenario("S3a")
    body = base64.urlsafe_b64encode(data).decode().rstrip("=")
    head = f"uvmp1.{scene.id}.{scene.digest()}.{kernel_version()}.{body}"
    return f"{head}.{token_check(head)}"


def absurd() -> dict[str, bytes]:
    def packed(value: Any) -> bytes:
        return b"m" + msgpack.packb(value)

    whole = [0, "A/B", 0, 1, 1, 1]
    return {
        "no kind": b"x",
        "no body": b"m",
        "half a body": b"m\x95\x00",
        "no zip": b"z123",
        "a bomb": b"z" + zlib.compress(b"\xc0" * (1 << 20)),
        "zip cut": b"z" + zlib.compress(msgpack.packb(whole))[:-3],
        "more behind it": b"z" + zlib.compress(msgpack.packb(whole)) + b"more",
        "a number": packed(7),
        "a map": packed({0: "A"}),
        "nested": b"m" + b"\x91" * 3000,
        "no names": packed([0, 5]),
        "names of the terminal": packed([0, "\x1b]0;owned\x07/B", *whole[2:]]),
        "right to left": packed([0, "A\u202eB/B", *whole[2:]]),
        "lines": packed([0, "A\nB/B", *whole[2:]]),
        "a name too far": packed([0, "A/B", 0, 1, 1, 9]),
        "below zero": packed([0, "A/B", -1, 1, 1, 1]),
        "too large": packed([0, "A/B", 0, 1 << 60, 1, 1]),
        "three of four": packed([0, "A/B", 0, 1, 1]),
        "a fraction": packed([0, "A/B", 0, 1.5, 1, 1]),
        "a flag": packed([0, "A/B", 0, 1, 7, 1]),
        "fixed?": packed([5, *whole[1:]]),
        "truth": packed([0, "A/B", True, 1, 1, 1]),
        "bytes": packed([0, b"A/B", *whole[2:]]),
    }


@pytest.mark.parametrize("name", absurd())
def test_a_token_with_a_valid_check_and_an_absurd_body_is_refused_in_one_line(name: str) -> None:
    token = token_of(absurd()[name])
    with pytest.raises(UserMistake, match="body cannot be read"):
        parse(token)
    result = uvmp("replay", token)
    assert result.exit_code == Exit.USAGE and result.output.endswith("\n")
    assert result.output[:-1].isprintable(), "one line, and nothing in it commands a terminal"


@pytest.mark.parametrize(
    "deviations",
    [
        [("A", 1 << 30, "point", "B")], [("nobody", 1, "wait", "B")],
        [("A", 5, "point", "nobody")], [("", 0, "wait", "B")] * 3, [("A", 1, "point", "B"), ("A", 1, "point", "B")],
    ],
)  # fmt: skip
def test_a_token_that_cannot_be_followed_diverges(deviations: list[Any]) -> None:
    scene = scenario("S3a")
    token = Token(scene.id, scene.digest(), kernel_version(), tuple(deviations))
    assert uvmp("replay", token).exit_code == Exit.DIVERGED


# -- text of others is escaped wherever it is shown -------------------------------------------

EVIL = "a\x1b]0;t\x07\x1b[2Jb\n\r\u202e\u2066c\x9b\u2028é中\ud800"
UNSAFE = set("\x1b\x07\r\u202e\u2066\x9b\u2028\ud800")


def tame(result: Any) -> None:
    """Nothing reached the terminal raw, and no line is one that the text forged."""
    assert not UNSAFE & set(result.output), result.output
    assert "\nb" not in result.output and not any(line.startswith("c\\x9b") for line in result.output.splitlines())


def test_a_title_of_a_file_cannot_command_the_terminal_nor_forge_lines(tmp_path: Path) -> None:
    text = (CONFIGS / "scenarios" / "E1.yaml").read_text(encoding="utf-8")
    title = "title: " + json.dumps("first\nfinding: panic\nto repeat it:\nrm -rf /") + "\n"
    mine = tmp_path / "e.yaml"
    mine.write_text(text.replace(next(line for line in text.splitlines(True) if line.startswith("title:")), title))
    for command in (["run", mine, "--out", tmp_path / "run"], ["explore", mine], ["scenarios", "show", mine]):
        result = uvmp(*command)
        assert "first\\x0afinding: panic" in result.output and "\nrm -rf" not in result.output
    for command in (["replay", tmp_path / "run"], ["postmortem", tmp_path / "run"]):
        assert "\nrm -rf" not in uvmp(*command).output


@pytest.mark.parametrize("command", ["run", "explore", "replay", "scenarios", "errata", "postmortem", EVIL])
def test_an_argument_is_shown_as_text(command: str) -> None:
    show = ["show"] if command in ("scenarios", "errata") else []
    result = uvmp(command, *show, EVIL)
    tame(result)
    assert result.exit_code == Exit.USAGE and "uvmp: error: " in result.output


@pytest.mark.long
def test_what_a_sealed_folder_says_is_shown_as_text(runs: dict[str, Path], tmp_path: Path) -> None:
    """Whatever is in it and whoever has sealed it."""
    run = copied(runs["S3a-shipped"], tmp_path)
    body = json.loads((run / "run.json").read_text())

    def evil(value: Any) -> Any:
        if isinstance(value, str):
            return EVIL
        if isinstance(value, dict):
            return {**{key: evil(part) for key, part in value.items()}, EVIL: EVIL}
        return [evil(part) for part in value] + [EVIL] if isinstance(value, list) else value

    for key in body:
        if key in ("schema", "check"):
            continue
        edit(run / "run.json", key, evil(body[key]), reseal=True)
        for command in ("postmortem", "replay"):
            tame(uvmp(command, run))
        text = uvmp("postmortem", run, "--json").stdout
        assert not UNSAFE & set(json.dumps(json.loads(text), ensure_ascii=False)), key
        edit(run / "run.json", key, body[key], reseal=True)
    assert analyse(run).complete


def test_a_terminal_that_has_only_ascii_gets_ascii(tmp_path: Path) -> None:
    text = (CONFIGS / "scenarios" / "E1.yaml").read_text(encoding="utf-8")
    mine = tmp_path / "é.yaml"
    mine.write_text(text.replace("title: ", "title: é中 "), encoding="utf-8")
    env = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(
        [sys.executable, "-m", "cluster.cli", "run", str(mine)], env=env, capture_output=True, check=False, timeout=120
    )
    assert done.returncode == Exit.FINDING, done.stderr
    assert rb"\xe9\u4e2d" in done.stderr and (done.stdout + done.stderr).isascii()


# -- damage by the hundred ---------------------------------------------------------------------


def one_byte(dice: random.Random, data: bytes) -> bytes:
    at = dice.randrange(len(data))
    return data[:at] + bytes([dice.randrange(256)]) + data[at + 1 :]


def cut(dice: random.Random, data: bytes) -> bytes:
    return data[: dice.randrange(len(data))]


def lines_moved(dice: random.Random, data: bytes) -> bytes:
    lines = data.splitlines(keepends=True)
    a, b = dice.randrange(len(lines)), dice.randrange(len(lines))
    how = dice.randrange(3)
    if how == 0:
        del lines[a]
    elif how == 1:
        lines.insert(b, lines[a])
    else:
        lines[a], lines[b] = lines[b], lines[a]
    return b"".join(lines)


ABSURD: list[Any] = [
    None,
    [],
    {},
    "",
    "x",
    "²",
    EVIL,
    -1,
    0,
    1,
    2.5,
    8_000_000,
    1 << 70,
    True,
    [[]],
    {"a": []},
    "anon:5#1",
    "A",
]


def one_value(dice: random.Random, data: bytes) -> bytes:
    """One value, somewhere in one object of the file, is another one; keys are renamed, left out, added."""
    lines = [data] if data.startswith(b"{\n") else data.splitlines(keepends=True)
    at = dice.randrange(len(lines))
    body = json.loads(lines[at])
    place: Any = body
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        if not keys:
            return data
        key = dice.choice(keys)
        if isinstance(place[key], (dict, list)) and place[key] and dice.random() < 0.8:
            place = place[key]
            continue
        break
    how = dice.randrange(8)
    if how == 0:
        del place[key]
    elif how == 1 and isinstance(place, dict):
        place[dice.choice(["", "k", "ctx", "granted", "finding", EVIL])] = place.pop(key)
    else:
        place[key] = dice.choice(ABSURD)
    lines[at] = json.dumps(body).encode() + (b"\n" if len(lines) > 1 or data.endswith(b"\n") else b"")
    return b"".join(lines)


KINDS = (one_byte, cut, lines_moved, one_value, one_value, one_value)


def reseal(run: Path) -> None:
    """As somebody would who damages a folder and makes every check anew."""
    try:
        body = json.loads((run / "run.json").read_bytes())
    except ValueError:
        return
    if isinstance(body, dict):
        if isinstance(body.get("files"), dict):
            for file in run.glob("*.jsonl"):
                body["files"][file.name] = hashlib.sha256(file.read_bytes()).hexdigest()
        body["scenario_sum"] = hashlib.sha256((run / "scenario.json").read_bytes()).hexdigest()
        (run / "run.json").write_text(json.dumps(sealed(body)))


def damaged_at_random(runs: dict[str, Path], tmp_path: Path, seed: int) -> None:
    """One folder, damaged once; half of the time every check is made anew."""
    dice = random.Random(seed)
    name = dice.choice(list(runs))
    run = copied(runs[name], tmp_path)
    file = dice.choice([run / "run.json", run / "scenario.json", *sorted(run.iterdir())])
    before = file.read_bytes()
    damage = dice.choice(KINDS)
    after = damage(dice, before)
    file.write_bytes(after)
    anew = dice.random() < 0.5
    if anew:
        reseal(run)
    where = f"seed {seed}: {name}, {file.name}, {damage.__name__}, {'sealed anew' if anew else 'not sealed'}"
    pm = analyse(run)
    text = render(pm)
    assert not UNSAFE & set(text), where
    result = uvmp("replay", run)
    tame(result)
    if not anew:
        same = file.read_bytes() == before or (file.name == "run.json" and json_of(after) == json_of(before))
        assert pm.complete == same, where
        assert not pm.complete or truth(pm) == truth(analyse(runs[name])), where
    allowed = {Exit.NO_FINDING, Exit.FINDING} if pm.complete else set()
    refused = {Exit.LOG_INCOMPLETE, Exit.DIVERGED, Exit.USAGE}
    assert result.exit_code in allowed | refused, (where, result.output)
    if result.exit_code not in refused:  # replayed: then what is told is true, whatever was damaged
        told = pm.finding and (pm.finding.kind, pm.finding.text, pm.finding.context)
        there = analyse(runs[name]).finding
        assert told == (there and (there.kind, there.text, there.context)), where


def json_of(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError:
        return data


@pytest.mark.parametrize("seed", range(60))
def test_a_folder_damaged_anywhere_tells_the_same_or_what_is_wrong(
    seed: int, runs: dict[str, Path], tmp_path: Path
) -> None:
    damaged_at_random(runs, tmp_path, seed)


def test_a_folder_that_tells_of_a_journal_that_it_has_not_is_not_replayed(
    runs: dict[str, Path], tmp_path: Path
) -> None:
    """A postmortem calls its log incomplete; its digest is right, because that is of the records."""
    run = copied(runs["S3a"], tmp_path)
    body = json.loads((run / "run.json").read_bytes())
    body["admitted"]["pkgedaemon"] = body["admitted"].pop("pagedaemon")
    (run / "run.json").write_text(json.dumps(sealed(body)), encoding="utf-8")
    assert not analyse(run).complete
    result = uvmp("replay", run)
    assert result.exit_code == Exit.LOG_INCOMPLETE
    assert result.stderr.endswith(f"{run}: pkgedaemon: its journal is missing\n")


@pytest.mark.long
def test_two_thousand_damaged_folders(runs: dict[str, Path], tmp_path: Path) -> None:
    """With other seeds each time; a failure names its own."""
    first = random.SystemRandom().randrange(1 << 30)
    for seed in range(first, first + 2000):
        damaged_at_random(runs, tmp_path / str(seed), seed)
        shutil.rmtree(tmp_path / str(seed))


#: what scenario.json says of the run, and not of the scenario
APART = ("versions", "options")


def test_what_is_no_scenario_is_told_by_field(runs: dict[str, Path]) -> None:
    """Every key of scenario.json with every absurd value: read as a scenario, or told as a mistake of the file's."""
    sound = json.loads((runs["S3a"] / "scenario.json").read_text())
    assert scenario_of(sound).digest() == scenario("S3a").digest()
    for key in sound:
        for value in [
            *ABSURD,
            {"race": 3},
            {"race": "loud"},
            ["no such"],
            [["a", "b"]],
            [["a", "b", 3]],
            "a: b",
            "\x00",
        ]:
            try:
                scenario_of({**sound, key: value})
            except UserMistake as wrong:
                assert not UNSAFE & set(clean(wrong))
            else:
                limit = key == "operations" and (value is None or type(value) is int)  # of which some are good
                assert limit or key in ("schema", "run", "file", "errata", "machines", "detect", *APART), (key, value)
    for frames in ("1000000000", "-1", "x"):
        with pytest.raises(UserMistake):
            scenario_of({**sound, "text": sound["text"].replace("frames: 24", f"frames: {frames}")})


# -- sizes are bounded before there is work to do ------------------------------------------------


def hand_made(path: Path, records: list[dict[str, Any]], node: str = "memory") -> Path:
    """A folder with one journal, as big as a test wants it."""
    path.mkdir()
    header = {"event": "run.begin", "schema": "uvmp-log/1", "node": node, "nseq": 0, "run": "x"}
    (path / f"{node}.uvmp.jsonl").write_text("".join(json.dumps(record) + "\n" for record in [header, *records]))
    return path


def stored(number: int, **more: Any) -> dict[str, Any]:
    key = {"event": "store", "node": "memory", "nseq": number, "ctx": "A", "n": number, "cpu": "cpu0", "k": number}
    return {**key, "obj": "anon:1#0", "field": "an_ref", "slot": 3, "value": number, **more}


def a_finding(number: int) -> dict[str, Any]:
    finding = {"kind": "panic", "text": f"panic: {number}", "detector": "kassert"}
    return {"event": "finding", "node": "cpu0", "nseq": number, "ctx": "A", "n": 1, "at": 0, "finding": finding}


def costs(path: Path) -> tuple[int, float, str]:
    """MiB and CPU seconds that a postmortem takes beyond an empty one's, and what it says."""
    code = (  # (the peak is the process's own; getrusage begins with that of whoever has started it)
        "import re, resource as r, sys\n"
        "from cluster.postmortem.analyse import analyse; from cluster.postmortem.views.text import render\n"
        "peak = lambda: int(re.search(r'VmHWM:\\s*(\\d+) kB', open('/proc/self/status').read())[1])\n"
        "before, began = peak(), r.getrusage(r.RUSAGE_SELF).ru_utime\n"
        "pm = analyse(sys.argv[1]); print(len(render(pm)), (pm.warnings + pm.holes)[0])\n"
        "print((peak() - before) >> 10, r.getrusage(r.RUSAGE_SELF).ru_utime - began)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    said, cost = done.stdout.rsplit("\n", 2)[:2]
    return int(cost.split()[0]), float(cost.split()[1]), said


BIG: dict[str, tuple[Callable[[Path], object], str]] = {
    "a k of 8,000,000": (lambda to: hand_made(to, [stored(1, k=8_000_000)]), "7999999 missing in all"),
    "an n of 8,000,000": (lambda to: hand_made(to, [stored(1, n=8_000_000)]), "no run.json"),
    "2,000 findings": (
        lambda to: hand_made(to, [a_finding(number) for number in range(1, 2001)], "cpu0"),
        "a second finding",
    ),
    "empty objects": (
        lambda to: hand_made(to, [stored(number, x=[{}] * 6000) for number in range(1, 400)]),
        "more values in lists than any run has",
    ),
    "numbers": (
        lambda to: hand_made(to, [stored(number, x=[1] * 100_000) for number in range(1, 120)]),
        "more values in lists than any run has",
    ),
    "a long schedule": (
        lambda to: (hand_made(to, [stored(1)]) / "run.json").write_text('{"schedule":[' + "{}," * 3_000_000 + "0]}"),
        "run.json: cannot be read (more than 8388608 bytes)",
    ),
    "many values": (
        lambda to: (hand_made(to, [stored(1)]) / "run.json").write_text('{"x":[' + "[]," * 2_000_000 + "0]}"),
        "run.json: cannot be read (more than 400000 values)",
    ),
}


@pytest.mark.long
@pytest.mark.parametrize("what", BIG)
def test_what_claims_to_be_large_costs_little(what: str, tmp_path: Path) -> None:
    """Where a few MB of a file once took GB, or half a minute."""
    make, says = BIG[what]
    make(tmp_path / "run")
    memory, seconds, said = costs(tmp_path / "run")
    assert says in said and memory < 150 and seconds < 10, (what, memory, seconds, said)


def test_a_sound_log_takes_what_it_has(tmp_path: Path) -> None:
    """The bounds are none for real runs: 20,000 records are all read, at less than half a kilobyte each."""
    memory, _, said = costs(hand_made(tmp_path / "run", [stored(number) for number in range(1, 20_001)]))
    assert "no run.json" in said and memory < 30, (memory, said)
    assert analyse(tmp_path / "run").records == 20_000


def long_run(path: Path, rounds: int) -> Path:
    """A folder of 8 records a round, as a kernel's are: mostly loads, and functions entered and left."""
    path.mkdir()
    operations, events = [], []
    for number in range(1, 6 * rounds + 1):
        turn, at = divmod(number - 1, 6)
        about = {"obj": f"anon:{turn % 50}#{turn // 5000}", "field": "an_ref", "slot": 3, "value": turn % 7}
        lock = {"lock": f"anon:{turn % 50}.an_lock", "mode": "w", "fn": "uvm_anfree"}
        event = ("load", "lock", "load", "store", "load", "unlock")[at]
        key = {"event": event, "node": "memory", "nseq": number, "ctx": "A", "n": number, "cpu": "cpu0", "k": number}
        operations.append({**key, **(lock if "lock" in event else about)})
        if at in (1, 5):
            kind = {"event": "enter" if at == 1 else "exit", "node": "cpu0", "nseq": len(events) + 1}
            events.append({**kind, "ctx": "A", "n": number, "at": number, "fn": "uvm_anfree"})
    hand_made(path / "memory", operations)
    hand_made(path / "cpu0", events, "cpu0")
    return path


@pytest.mark.long
def test_a_long_run_takes_little_more_than_its_files(tmp_path: Path) -> None:
    """Not twice the room of its lines; it was six times, with records as dicts and a step for each."""
    few, many = (long_run(tmp_path / f"{rounds}", rounds) for rounds in (1_000, 9_000))
    assert analyse(few).records == 8_000
    sizes = [sum(file.stat().st_size for file in run.rglob("*.jsonl")) for run in (few, many)]
    peaks = [costs(run)[0] << 20 for run in (few, many)]
    assert peaks[1] - peaks[0] < 3 * (sizes[1] - sizes[0]), (peaks, sizes)


def test_a_fifo_in_a_folder_is_no_file(tmp_path: Path) -> None:
    """Opening one to read it would wait forever."""
    run = hand_made(tmp_path / "run", [stored(1)])
    for name in ("run.json", "scenario.json", "mmu.uvmp.jsonl"):
        os.mkfifo(run / name)
    assert "mmu.uvmp.jsonl: not read: not a file" in analyse(run).warnings
    assert uvmp("replay", run).exit_code == Exit.LOG_INCOMPLETE


# -- files that a scenario names -------------------------------------------------------------------


def test_a_scenario_cannot_show_what_is_elsewhere(tmp_path: Path) -> None:
    """Of whoever sends somebody a scenario to run; nor is a file quoted that is not a mapping."""
    secret = tmp_path / "secret.yaml"
    secret.write_text("root:x:0:0:hunter2\n", encoding="utf-8")
    home = tmp_path / "home"
    (home / "sub").mkdir(parents=True)
    (home / "link.yaml").symlink_to(secret)
    (home / "loop.yaml").symlink_to("loop.yaml")
    (home / "sub" / "own.yaml").write_text("{cpus: 2, frames: 24, swap_slots: 32}\n", encoding="utf-8")
    text = (CONFIGS / "scenarios" / "S3a.yaml").read_text(encoding="utf-8")
    line = next(line for line in text.splitlines() if line.startswith("machine:"))
    for machine, says in {
        str(secret): "lies outside", "../secret.yaml": "lies outside", "./link.yaml": "lies outside",
        "./loop.yaml": "", "./none.yaml": "no such file", "/dev/zero": "lies outside", "./sub": "a folder",
    }.items():  # fmt: skip
        (home / "s.yaml").write_text(text.replace(line, f"machine: {machine}"), encoding="utf-8")
        result = uvmp("run", home / "s.yaml")
        assert result.exit_code == Exit.USAGE and says in result.output and "hunter2" not in result.output
    (home / "s.yaml").write_text(text.replace(line, "machine: ./sub/own.yaml"), encoding="utf-8")
    assert uvmp("run", home / "s.yaml").exit_code == Exit.FINDING
    shutil.copy(secret, home / "copy.yaml")
    (home / "s.yaml").write_text(text.replace(line, "machine: ./copy.yaml"), encoding="utf-8")
    for args in (["run", home / "s.yaml"], ["run", secret]):
        result = uvmp(*args)
        assert result.exit_code == Exit.USAGE and "hunter2" not in result.output


# -- scenarios, mutated -------------------------------------------------------------------------------

WORDS = [
    *("[]", "{}", "-1", "1000000000", '"\\u202e"', "null", "²", "A", "{as: A}", "fork", "*x", "&x", "!!int 3"),
    *('"', "]", "99999999999999999999", "true", "[A, A]", "\t", "\x1b[2J"),
]


def mutated(dice: random.Random, text: str) -> str:
    """One scenario's text, changed in one place as somebody who writes or attacks would."""
    lines = text.splitlines(keepends=True)
    at = dice.randrange(len(lines))
    how = dice.randrange(7)
    if how == 0:
        del lines[at]
    elif how == 1:
        lines.insert(dice.randrange(len(lines)), lines[at])
    elif how == 2:
        lines[at] = " " * dice.randrange(4) + lines[at]
    elif how == 3:
        lines[at] = lines[at][: dice.randrange(len(lines[at]))] + "\n"
    else:
        numbers = list(re.finditer(r"[A-Za-z0-9_.]+", lines[at]))
        if numbers:
            match = dice.choice(numbers)
            lines[at] = lines[at][: match.start()] + dice.choice(WORDS) + lines[at][match.end() :]
    return "".join(lines)


def mutated_at_random(tmp_path: Path, seed: int) -> None:
    """Whatever it has become: it runs, or it is refused in lines that name the file; nothing else."""
    dice = random.Random(seed)
    name = dice.choice(SHIPPED)
    text = mutated(dice, (CONFIGS / "scenarios" / f"{name}.yaml").read_text(encoding="utf-8"))
    file = tmp_path / "m.yaml"
    file.write_text(text, encoding="utf-8")
    result = uvmp("run", file)
    tame(result)
    allowed = (Exit.NO_FINDING, Exit.FINDING, Exit.USAGE)
    assert result.exit_code in allowed, (seed, name, result.output)
    if result.exit_code == Exit.USAGE:
        assert str(file) in result.output.splitlines()[0], (seed, name, result.output)


@pytest.mark.parametrize("seed", range(60))
def test_a_scenario_changed_anywhere_runs_or_is_refused(seed: int, tmp_path: Path) -> None:
    mutated_at_random(tmp_path, seed)


@pytest.mark.long
def test_two_thousand_changed_scenarios(tmp_path: Path) -> None:
    first = random.SystemRandom().randrange(1 << 30)
    for seed in range(first, first + 2000):
        mutated_at_random(tmp_path, seed)


# -- a run that is told by its folder, and results that are not expected ------------------------------


MINE = """\
id: mine
machine: {cpus: 2, frames: 16, swap_slots: 0}
setup:
  - process: {as: A, cpu: 0}
  - mmap: {in: A, as: buf, pages: 1, prot: rw, flags: [shared, anon]}
  - thread: {in: A, as: B, cpu: 1}
programs: {A: [{write: {at: "buf[0]", value: 1}}], B: [{read: {at: "buf[0]", into: r}}]}
expect: {fixed: {finding: none, results: {r: EXPECTED}}}
bound: {strategy: random, schedules: 60}
"""


def mine(expected: str) -> str:
    """A scenario whose reader may come first, or not."""
    return MINE.replace("EXPECTED", expected)


def test_unexpected_results_have_a_token_a_folder_and_a_postmortem(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(mine("1"), encoding="utf-8")
    result = uvmp("explore", file, "--out", tmp_path / "run")
    assert result.exit_code == Exit.FINDING
    assert "finding: unexpected-result" in result.output and "expected r to be 1, found 0" in result.output
    pm = analyse(tmp_path / "run")
    assert pm.complete and pm.finding is not None and pm.finding.kind == "unexpected-result"
    assert "expected r to be 1, found 0" in render(pm)
    again = uvmp(*shlex.split(pm.replay)[1:])
    assert again.exit_code == Exit.FINDING and "unexpected-result" in again.output
    assert uvmp("replay", tmp_path / "run").exit_code == Exit.FINDING
    assert uvmp("run", file).exit_code == Exit.NO_FINDING, "the default schedule has what is expected"
    assert uvmp("explore", file, "--expect", "--schedules", 10).exit_code == Exit.FINDING
    assert uvmp("explore", file, "--detect", "results=off", "--schedules", 10).exit_code == Exit.NO_FINDING


@pytest.mark.live
def test_a_free_live_run_is_repeated_exactly_and_its_token_is_told_as_another_schedule(
    live_machine: Callable[..., Any], tmp_path: Path
) -> None:
    scene, out = load_scenario(mine("5"), "mine.yaml"), tmp_path / "run"
    machine = live_machine(scene)
    with kept(machine, out) as name:
        run = machine.run(out=out, identity=name)
    assert run.finding is not None and run.finding.kind == "unexpected-result"
    run.shortened = token_of_live(scene, run)
    runfolder.write_live(out, scene, name, run)
    pm = analyse(out)
    assert pm.complete and pm.replay == f"uvmp replay {out}" and f"uvmp replay {run.shortened}" == pm.shortened
    assert pm.schedule == [], "the deviations of the token are not those of this run"
    text, screen = render(pm), render_screen(pm)
    for output in (text, screen):
        assert output.index(pm.replay + "\n") < output.index(pm.shortened), "the exact one comes first"
        assert "shorte" in output[: output.index(pm.shortened)].splitlines()[-2]
    told = json.loads(uvmp("replay", out, "--json").stdout)
    assert told["equal"] and told["digest"]["kept"] == told["digest"]["sim"] == run.digest
    assert {json.loads(first_line(file))["run"] for file in out.glob("*.jsonl")} == {name}
    other = tmp_path / "other"
    with kept(machine, other) as second:
        runfolder.write_live(other, scene, second, machine.run(out=other, identity=second))
    shutil.copy(other / "cpu0.uvmp.jsonl", out / "cpu0.uvmp.jsonl")
    assert analyse(out).warnings[0].startswith("the files are of different runs")


# -- what nobody stops for, and what is too much ---------------------------------------------------------

OFF = [f"--detect={detector}=off" for detector in DETECTORS]


@pytest.mark.parametrize(
    ("args", "function"),
    [
        (["run", "S12b", "--detect", "kassert=off"], "uvmfault_anonget"),
        (["explore", "S12b", *OFF], "uvmfault_anonget"),
        (["explore", "E5", "--errata", "amap_unref.amap-unlocked", "--seed", 1, *OFF], "amap_pp_adjref"),
    ],
)
def test_a_trap_after_what_nobody_stops_for_is_the_kernels(args: list[str], function: str, tmp_path: Path) -> None:
    """It was told as a bug of the command's; now it is a panic, which replays."""
    result = uvmp(*args, "--out", tmp_path / "run")
    assert result.exit_code == Exit.FINDING and "panic: trap: " in result.output and function in result.output
    assert uvmp("replay", tmp_path / "run").exit_code == Exit.FINDING
    pm = analyse(tmp_path / "run")
    assert pm.complete and pm.finding is not None and pm.finding.kind == "panic"


def test_too_little_memory_is_told_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(*_: Any, **__: Any) -> None:
        raise MemoryError

    monkeypatch.setattr("cluster.cli.run.prepare", none_left)
    result = uvmp("run", "E1")
    assert result.exit_code == Exit.INFRASTRUCTURE and "not enough memory" in result.output


@pytest.mark.long
def test_our_own_limits_are_told_as_limits(tmp_path: Path) -> None:
    """A machine of 4,096 frames is filled; what takes longer than it may is told with the number that it may take."""
    text = (CONFIGS / "scenarios" / "S3a.yaml").read_text(encoding="utf-8")
    text = text.replace("frames: 24", "frames: 4096").replace("until_free: 7", "until_free: 40")
    (tmp_path / "s.yaml").write_text(text, encoding="utf-8")
    assert uvmp("run", tmp_path / "s.yaml", "--fixed").exit_code == Exit.NO_FINDING
    (tmp_path / "s.yaml").write_text(re.sub(r"schedules: \d+}", "schedules: 5, operations: 1000}", text))
    result = uvmp("run", tmp_path / "s.yaml")
    assert result.exit_code == Exit.USAGE and "not ended within 1,000 operations" in result.output
    assert "the limit (bound: operations, or --operations)" in " ".join(result.output.split())
