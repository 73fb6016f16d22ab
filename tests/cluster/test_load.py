"""Reading a run folder: what is there is read, and whatever is wrong with it is told, file by file and line by line."""

# ruff: noqa: E501 - one bad folder, one line

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from cluster.postmortem import load as load_module
from cluster.postmortem.load import MAX_JSON, MAX_NUMBER, MAX_SCHEDULE, MAX_VALUES, Run, _lines, _Room, load
from shared.errors import UserMistake
from shared.journal.record import MAX_LINE
from shared.journal.runfile import folder_line, sealed, token_check
from tests.cluster.test_postmortem import SCENE
from tests.kit import empty

MINE = empty()
HEADER = {"event": "run.begin", "schema": "uvmp-log/1", "nseq": 0, "run": "story"}
FOUND = {"kind": "panic", "text": "panic: none", "detector": "kassert", "context": "A"}


def token_of(head: str) -> str:
    return f"{head}.{token_check(head)}"


TOKEN = token_of(f"uvmp1.{MINE.id}.{MINE.digest()}.cafe0123.")
OTHER = token_of(f"uvmp1.{MINE.id}.0123abcd.cafe0123.")


def stored(nseq: int, **more: object) -> dict[str, object]:
    """An operation's record in the journal of memory."""
    own = {"event": "store", "node": "memory", "nseq": nseq, "ctx": "A", "n": nseq, "cpu": "cpu0", "k": nseq}
    return {**own, "obj": "anon:1#0", "field": "an_ref", "slot": 2, "value": nseq, **more}


def finding(nseq: int = 1, **more: object) -> dict[str, object]:
    own = {"event": "finding", "node": "cpu0", "nseq": nseq, "ctx": "A", "n": 1, "at": 0}
    return {**own, "finding": {**FOUND, **more}}


def journal(path: Path, *records: dict[str, object], header: dict[str, object] | None = HEADER, end: str = "") -> None:
    """A node's file: its header, if there is one, records, and a last line that may be anything."""
    path.parent.mkdir(exist_ok=True)
    node = path.name.split(".", maxsplit=1)[0]
    lines = [*([{**header, "node": node}] if header else []), *records]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + end)


def seal(folder: Path, **about: object) -> None:
    """Write scenario.json if it is not there, and run.json over the folder as it is."""
    scenario = folder / "scenario.json"
    if not scenario.exists():
        scenario.write_text(json.dumps(SCENE))
    files = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.glob("*.jsonl")}
    body: dict[str, object] = {
        "schema": "uvmp-run/2", "run": "story", "finding": None, "errata": SCENE["errata"], "detect": SCENE["detect"],
        "files": files, "scenario_sum": hashlib.sha256(scenario.read_bytes()).hexdigest(),
    }  # fmt: skip
    (folder / "run.json").write_text(json.dumps(sealed({**body, **about})))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A whole one, with two journals."""
    journal(tmp_path / "run" / "memory.uvmp.jsonl", stored(1), stored(2))
    journal(tmp_path / "run" / "cpu0.uvmp.jsonl", {**stored(1), "node": "cpu0", "event": "run", "k": 3, "n": 3})
    seal(tmp_path / "run")
    return tmp_path / "run"


# -- a folder ----------------------------------------------------------------------------


def test_a_whole_folder_is_read_as_it_was_written(folder: Path) -> None:
    run = load(folder)
    assert run.torn == [] and (run.path, run.folder) == (str(folder), str(folder))
    assert [dict(record) for record in run.journals["memory"]] == [stored(1), stored(2)]
    assert set(run.journals) == {"memory", "cpu0"} and run.headers["memory"] == {**HEADER, "node": "memory"}
    assert run.run is not None and run.run["run"] == "story"
    assert run.loaded is not None and run.loaded.digest() == MINE.digest()
    assert run.scenario is not None and run.scenario["id"] == MINE.id


def test_what_differs_from_run_to_run_is_not_in_a_record(tmp_path: Path) -> None:
    """But its number."""
    journal(tmp_path / "memory.uvmp.jsonl", stored(1, pid=7, host="x", wall_ns=3))
    assert [dict(record) for record in load(tmp_path).journals["memory"]] == [stored(1)]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("file", "a file; a run is a folder"),
        ("nowhere", "there is no such folder"),
        ("empty", "not a run folder: it has no *.uvmp.jsonl, no scenario.json and no run.json"),
        ("x\0y", "there is no such folder"),
        ("one", "contains 1 run, each in its own folder: PATH/1; give one folder"),
        ("many", "contains 10 runs, each in its own folder: PATH/1, PATH/2, PATH/3, PATH/4, PATH/5, PATH/6, PATH/7,"
                 " PATH/8 and 2 more; give one folder"),
        ("eight", "contains 8 runs, each in its own folder: PATH/1, PATH/2, PATH/3, PATH/4, PATH/5, PATH/6, PATH/7,"
                  " PATH/8; give one folder"),
    ],
)  # fmt: skip
def test_what_is_no_run_folder_is_the_users_mistake(name: str, says: str, tmp_path: Path) -> None:
    """A folder of runs names them, in the order of their numbers."""
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    for many, runs in (("one", 1), ("many", 10), ("eight", 8)):
        (tmp_path / many).mkdir()
        for number in range(1, runs + 1):
            journal(tmp_path / many / f"{number}" / "memory.uvmp.jsonl")
            (tmp_path / many / f"{number}" / ("run.json" if number % 2 else "scenario.json")).write_text("{}")
    with pytest.raises(UserMistake) as caught:
        load(tmp_path / name)
    assert caught.value.message == says.replace("PATH", str(tmp_path / name))
    assert caught.value.file is not None and "\0" not in caught.value.file


def test_a_folder_that_cannot_be_looked_into_is_told_within_bounds(tmp_path: Path) -> None:
    with pytest.raises(UserMistake) as caught:
        load(tmp_path / ("\x1b" * 300))
    assert caught.value.message.startswith("cannot be read ([Errno 36] File name too long: '")
    assert caught.value.file is not None and len(caught.value.file) < 800 and len(caught.value.message) < 850
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize("only", ["run.json", "scenario.json", "memory.uvmp.jsonl"])
def test_any_of_its_files_makes_a_run_folder(only: str, folder: Path) -> None:
    for file in folder.iterdir():
        if file.name != only:
            file.unlink()
    run = load(folder)
    assert (run.run is not None, run.loaded is not None, bool(run.journals)) == (
        only == "run.json", only == "scenario.json", only == "memory.uvmp.jsonl",
    )  # fmt: skip


def test_journals_may_be_in_folders_of_their_nodes(tmp_path: Path) -> None:
    """As they are gathered from several hosts; then a node may be there twice."""
    for host, node in (("a", "memory"), ("a", "cpu0"), ("b", "mmu"), ("b", "memory")):
        journal(tmp_path / host / f"{node}.uvmp.jsonl")
    run = load(tmp_path)
    assert set(run.journals) == {"memory", "cpu0", "mmu"}
    assert run.torn == ["memory.uvmp.jsonl: not read: a second journal of that node"]


# -- files that are not read ----------------------------------------------------------------


def test_files_that_are_no_journals_of_this_machine_are_told(folder: Path) -> None:
    journal(folder / "Memory.uvmp.jsonl")
    journal(folder / "cpu9.uvmp.jsonl")
    (folder / "mmu.uvmp.jsonl").mkdir()
    run = load(folder)
    assert set(run.journals) == {"memory", "cpu0"}
    assert run.torn[:3] == [
        "Memory.uvmp.jsonl: not read: not the name of a node",
        "cpu9.uvmp.jsonl: not read: this machine has no such node",
        "mmu.uvmp.jsonl: not read: not a file",
    ]


def test_only_so_many_journals_are_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load_module, "MAX_FILES", 2)
    assert load(folder).torn == []
    monkeypatch.setattr(load_module, "MAX_FILES", 1)
    run = load(folder)
    assert run.torn[0] == "2 journals; only 1 are read" and set(run.journals) == {"cpu0"}


def test_a_run_without_its_scenario_is_told(folder: Path) -> None:
    (folder / "scenario.json").unlink()
    assert load(folder).torn == ["there is no scenario.json"]
    (folder / "run.json").unlink()
    assert load(folder).torn == [], "of a run that was killed, neither is there"


@pytest.mark.parametrize("name", ["run.json", "scenario.json"])
@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[1]", "not an object"),
        ("{", "Expecting property name"),
        ('{"schema": "uvmp-other/1"}', "schema 'uvmp-other/1'; this uvmp reads uvmp-NAME/2"),
        ('{"schema": NaN}', "NaN is not JSON"),
        ("[" * 9_999, "maximum recursion depth"),
        ("\xff", "'utf-8' codec"),
        (" " * (MAX_JSON + 1), f"more than {MAX_JSON} bytes"),
        ("," * (MAX_VALUES + 1), f"more than {MAX_VALUES} values"),
        ("[" * (MAX_VALUES + 1), f"more than {MAX_VALUES} values"),
        ("{" * (MAX_VALUES + 1), f"more than {MAX_VALUES} values"),
        ("," * MAX_VALUES, "Expecting value"),
        (" " * MAX_JSON, "Expecting value"),
    ],
    ids=range(12),
)
def test_what_cannot_be_read_is_told_and_the_rest_is_read(name: str, text: str, says: str, folder: Path) -> None:
    (folder / name).write_bytes(text.encode("latin-1"))
    run = load(folder)
    says = says.replace("NAME", name.removesuffix(".json"))
    assert run.torn[0].startswith(f"{name}: cannot be read ({says}") and len(run.torn[0]) < 160
    assert len(run.journals["memory"]) == 2 and (run.run is None) == (name == "run.json")


def test_a_scenario_that_cannot_be_is_told(folder: Path) -> None:
    (folder / "scenario.json").write_text(json.dumps({**SCENE, "text": "id: 7\n"}))
    seal(folder)
    run = load(folder)
    assert run.loaded is None and run.scenario is None and run.torn[0].startswith("scenario.json: ")
    assert len(run.torn) == 1 and "made.yaml:1" in run.torn[0]


# -- lines that are not read ----------------------------------------------------------------


def torn(tmp_path: Path, *records: dict[str, object], **how: Any) -> list[str]:
    """What is said of a journal of memory."""
    journal(tmp_path / "memory.uvmp.jsonl", *records, **how)
    return load(tmp_path).torn


BAD: dict[str, tuple[object, str]] = {
    "no object": ([1], "not a record"),
    "no event": ({"nseq": 1}, "not a record"),
    "no text as event": ({**stored(1), "event": 7}, "not a record"),
    "another node's": ({**stored(1), "node": "mmu"}, "a record of node 'mmu'"),
    "a number that is none": ({**stored(1), "nseq": "1"}, "nseq is 1"),
    "a number below": ({**stored(1), "nseq": -1}, "nseq is -1"),
    "a number that is true": ({**stored(1), "nseq": True}, "nseq is True"),
    "a number above": ({**stored(1), "nseq": MAX_NUMBER + 1}, f"nseq is {MAX_NUMBER + 1}"),
    "no context": ({**stored(1), "ctx": None}, "no context"),
    "a context that is none": ({**stored(1), "ctx": "../x"}, "no context"),
    "no n": ({**stored(1), "n": None}, "n is None"),
    "an n below": ({**stored(1), "n": -1}, "n is -1"),
    "granted to nobody": ({**stored(1), "granted": "A"}, "granted is not a list of names"),
    "woke a number": ({**stored(1), "woke": [1]}, "woke is not a list of names"),
    "raised what has no name": ({**stored(1), "raised": ["A", "/"]}, "raised is not a list of names"),
    "a slot that is not a number": ({**stored(1), "slot": "2"}, "slot is not a whole number"),
    "a gen that is not a number": ({**stored(1), "gen": 1.5}, "gen is not a whole number"),
    "a frame that is not a number": ({**stored(1), "frame": True}, "frame is not a whole number"),
    "a source that is not a number": ({**stored(1), "source": []}, "source is not a whole number"),
    "no CPU": ({**stored(1), "cpu": 0}, "an operation without a CPU"),
    "a CPU that is none": ({**stored(1), "cpu": "CPU0"}, "an operation without a CPU"),
    "no k": ({**stored(1), "k": None}, "k is None"),
    "k 0": ({**stored(1), "k": 0}, "k is 0"),
    "an event without its place": ({**stored(1), "event": "enter"}, "at is None"),
    "an event before all": ({**stored(1), "event": "enter", "at": -1}, "at is -1"),
    **{
        f"{key} that is not text": ({**stored(1), key: 7}, f"{key} is not text")
        for key in ("obj", "field", "lock", "chan", "fn", "wmesg", "mode", "op", "refused", "interrupted")
    },
}


@pytest.mark.parametrize("what", BAD)
def test_a_line_that_is_no_record_is_told_with_the_reason(what: str, tmp_path: Path) -> None:
    line, says = BAD[what]
    file = "memory.uvmp.jsonl"
    assert torn(tmp_path, line, stored(1)) == [f"{file}:2: torn or corrupt line ({says})"]  # type: ignore[arg-type]
    assert len(load(tmp_path).journals["memory"]) == 1, "those behind it are read"


def test_numbers_may_be_as_small_and_as_large_as_they_can_be(tmp_path: Path) -> None:
    large = stored(MAX_NUMBER, n=MAX_NUMBER, k=MAX_NUMBER)
    assert torn(tmp_path, stored(1, n=0, k=1), large, {**stored(2), "event": "enter", "at": 0}) == []


def test_an_events_k_is_none(tmp_path: Path) -> None:
    """What has one is an operation, to all who read records."""
    journal(tmp_path / "memory.uvmp.jsonl", {**stored(1), "event": "enter", "at": 3})
    (record,) = load(tmp_path).journals["memory"]
    assert "k" not in record and record["at"] == 3


def test_an_operation_of_a_processor_that_the_machine_does_not_have_is_told(folder: Path) -> None:
    for cpu, wrong in (("cpu9", True), ("mmu", True), ("pagedaemon", False), ("cpu2", False)):
        journal(folder / "memory.uvmp.jsonl", stored(1, cpu=cpu))
        seal(folder)
        says = f"memory.uvmp.jsonl:2: torn or corrupt line (an operation of {cpu}, which this machine does not have)"
        assert [text.split(";")[0] for text in load(folder).torn] == ([says] if wrong else [])


def test_the_last_line_may_be_torn(tmp_path: Path) -> None:
    """And that explains itself; two such lines, or one in the middle, do not."""
    stopped = "; it is the last line: the node was stopped while it wrote"
    (told,) = torn(tmp_path, stored(1), end=json.dumps(stored(2)))
    assert told == f"memory.uvmp.jsonl:3: torn or corrupt line (no end of line){stopped}"
    (told,) = torn(tmp_path, stored(1), end="{\n")
    assert told.startswith("memory.uvmp.jsonl:3: torn or corrupt line (Expecting") and told.endswith(stopped)
    assert not any(stopped in text for text in torn(tmp_path, [1], end="{\n"))  # type: ignore[arg-type]
    assert not any(stopped in text for text in torn(tmp_path, [1], stored(1)))  # type: ignore[arg-type]


@pytest.mark.parametrize(("bad", "more"), [(3, []), (4, ["memory.uvmp.jsonl: 1 more lines cannot be read"])])
def test_of_many_bad_lines_three_are_told(bad: int, more: list[str], tmp_path: Path) -> None:
    told = torn(tmp_path, *[{}] * bad)
    assert [text.split(":")[1] for text in told[:3]] == ["2", "3", "4"] and told[3:] == more


def test_a_journal_needs_its_header_in_its_first_line(tmp_path: Path) -> None:
    file = "memory.uvmp.jsonl"
    assert torn(tmp_path, stored(1), header=None) == [f"{file}: no header, so the run of this file is unknown"]
    again = {**HEADER, "node": "memory"}
    assert torn(tmp_path, stored(1), again) == [f"{file}:3: a second header, or one that is not in line 1"]
    assert torn(tmp_path, again) == [f"{file}:2: a second header, or one that is not in line 1"]
    other = {**HEADER, "schema": "uvmp-log/\x1b9"}
    assert torn(tmp_path, stored(1), header=other) == [
        rf"{file}:1: a log of schema 'uvmp-log/\\x1b9'; this uvmp reads uvmp-log/1"
    ]
    assert load(tmp_path).journals["memory"] == [], "the rest is not read"


def test_a_processor_has_one_finding(tmp_path: Path) -> None:
    """It stops at its first; a file with two thousand would cost as many searches for their pasts."""
    journal(tmp_path / "cpu0.uvmp.jsonl", {**finding(1), "event": "note"}, finding(2), finding(3))
    run = load(tmp_path)
    assert run.torn == ["cpu0.uvmp.jsonl:4: a second finding; a processor stops at its first"]
    assert [record["nseq"] for record in run.journals["cpu0"]] == [1, 2]


def test_what_a_processor_records_behind_a_second_finding_is_not_another_one(tmp_path: Path) -> None:
    """Only the finding is left out, and told."""
    journal(tmp_path / "cpu0.uvmp.jsonl", finding(1), finding(2), {**finding(3), "event": "note"})
    run = load(tmp_path)
    assert run.torn == ["cpu0.uvmp.jsonl:3: a second finding; a processor stops at its first"]
    assert [(record["nseq"], record["event"]) for record in run.journals["cpu0"]] == [(1, "finding"), (3, "note")]


LONG = "\x1b" + "x" * 5000


def test_what_a_file_says_is_told_within_bounds(folder: Path) -> None:
    """And as text, whatever the terminal would make of it."""
    journal(folder / "memory.uvmp.jsonl", stored(1), {**stored(2), "node": LONG}, {**stored(3), "n": LONG})
    journal(folder / "cpu0.uvmp.jsonl", header={**HEADER, "schema": LONG})
    journal(folder / "mmu.uvmp.jsonl", end="{" + LONG + "\n")
    (folder / "run.json").write_text(json.dumps({"schema": LONG}))
    (folder / "scenario.json").write_text(json.dumps({**SCENE, "file": LONG, "text": f"id: [{LONG[1:]}\n"}))
    run = load(folder)
    told = {text.split(":")[0] for text in run.torn}
    assert told == {"run.json", "scenario.json", "memory.uvmp.jsonl", "cpu0.uvmp.jsonl", "mmu.uvmp.jsonl"}
    assert all("\x1b" not in text for text in run.torn)
    assert [text for text in run.torn if len(text) > (330 if text.startswith("scenario") else 180)] == []


@pytest.mark.parametrize("where", ["header", "run.json", "scenario.json"])
def test_names_of_runs_are_told_within_bounds(where: str, folder: Path) -> None:
    """Before everything else that is wrong."""
    long = "y" * 5000
    if where == "header":
        journal(folder / "memory.uvmp.jsonl", stored(1), header={**HEADER, "run": long})
    if where == "scenario.json":
        (folder / "scenario.json").write_text(json.dumps({**SCENE, "run": long}))
    seal(folder, **({"run": long} if where == "run.json" else {}), finding=7)
    told = load(folder).torn
    assert told[0].startswith("the files are of different runs: ") and told[0].count("y") < 70
    assert len(told) == 2 and told[1].startswith("run.json: finding: not ")
    for number in range(20):
        journal(folder / f"cpu{number}.uvmp.jsonl", header={**HEADER, "run": f"{number}" * 50})
    (folder / "scenario.json").unlink()
    assert len(load(folder).torn[0]) < 340


def test_names_in_run_json_are_told_within_bounds(folder: Path) -> None:
    names = {"z" * 5000: "0", "memory.uvmp.jsonl": "0"}
    seal(folder, files=names, finding={**FOUND, "context": "z" * 5000})
    told = load(folder).torn
    assert len(told) == 4 and max(map(len, told)) < 140, told


def test_names_of_files_are_told_within_bounds(folder: Path) -> None:
    journal(folder / f"{'Z' * 200}.uvmp.jsonl")
    seal(folder)
    first, second = load(folder).torn
    assert ": not read: " in first and first.count("Z") < 100 and second.count("Z") < 60


def test_numbers_that_are_none_in_json_are_none_here(tmp_path: Path) -> None:
    (told,) = torn(tmp_path, stored(1), end=json.dumps(stored(2, value=float("nan"))) + "\n")
    assert "torn or corrupt line (NaN is not JSON)" in told


def test_a_journal_that_cannot_be_read_is_told_and_the_others_are_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that is going to die; what was read of the file before stays."""
    read = load_module._lines

    def dying(stream: Any, total: Any) -> Any:
        for line in read(stream, total):
            if b'"nseq": 2' in line:
                raise OSError(5, "Input/output error")
            yield line

    monkeypatch.setattr(load_module, "_lines", dying)
    run = load(folder)
    assert run.torn[0] == "memory.uvmp.jsonl: cannot be read ([Errno 5] Input/output error)"
    assert len(run.journals["memory"]) == 1 and len(run.journals["cpu0"]) == 1


def test_bad_lines_of_each_journal_are_told(tmp_path: Path) -> None:
    for node in ("cpu0", "memory"):
        journal(tmp_path / f"{node}.uvmp.jsonl", {}, {}, {}, {})
    told = load(tmp_path).torn
    assert [text.split(":")[0] for text in told] == ["cpu0.uvmp.jsonl"] * 4 + ["memory.uvmp.jsonl"] * 4


def test_a_line_without_end_costs_a_line(tmp_path: Path) -> None:
    """The rest of it is skipped, and is nevertheless in the file's sum."""
    journal(tmp_path / "memory.uvmp.jsonl", end="x" * (2 * MAX_LINE + 7) + "\n" + json.dumps(stored(1)) + "\n")
    run = load(tmp_path)
    assert run.torn == [f"memory.uvmp.jsonl:2: torn or corrupt line (more than {MAX_LINE} bytes)"]
    assert len(run.journals["memory"]) == 1


@pytest.mark.parametrize("rest", [0, 1, MAX_LINE, MAX_LINE + 1, 2 * MAX_LINE + 2])
def test_lines_are_bounded_and_all_bytes_are_summed(rest: int) -> None:
    data = b"a\n" + b"x" * (MAX_LINE + rest) + b"\nb\nc"
    total = hashlib.sha256()
    lines = list(_lines(BytesIO(data), total))
    assert [lines[0], *lines[2:]] == [b"a\n", b"b\n", b"c"] and len(lines[1]) == MAX_LINE + 1
    assert total.digest() == hashlib.sha256(data).digest()


#: how much may be read -> the records of a journal, the line at which reading ends, and what is said
LIMITED: dict[str, tuple[Callable[[], _Room], list[dict[str, object]], str]] = {
    "records": (
        lambda: _Room(records=2), [{}, {}],
        "more than 2000000 records in all, or 1073741824 bytes in one file",
    ),
    "lists": (lambda: _Room(nested=3), [{"x": [[]] * 4}, {"x": [[]] * 4}], "more values in lists than any run has"),
    "values": (lambda: _Room(nested=2), [{"x": [0] * 48}, {"x": [0] * 48}], "more values in lists than any run has"),
}  # fmt: skip


@pytest.mark.parametrize("what", LIMITED)
def test_what_is_read_is_bounded_over_all_journals(what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first record fits in, the second one does not. (A header is a record, too.)"""
    room, records, limit = LIMITED[what]
    monkeypatch.setattr(load_module, "_Room", room)
    told = torn(tmp_path, *[stored(number, **more) for number, more in enumerate(records, 1)])
    assert told == [f"memory.uvmp.jsonl:3: {limit}; the rest is not read"]
    assert [record["nseq"] for record in load(tmp_path).journals["memory"]] == [1]


def test_a_file_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal(tmp_path / "memory.uvmp.jsonl", stored(1))
    size = (tmp_path / "memory.uvmp.jsonl").stat().st_size
    monkeypatch.setattr(load_module, "MAX_BYTES", size)
    assert load(tmp_path).torn == []
    monkeypatch.setattr(load_module, "MAX_BYTES", size - 1)
    assert load(tmp_path).torn == [
        f"memory.uvmp.jsonl:2: more than 2000000 records in all, or {size - 1} bytes in one file; the rest is not read"
    ]


def test_what_records_have_in_common_is_kept_once() -> None:
    """Short texts and usual numbers; not a long text, nor a value that is only equal."""
    room = _Room()
    assert room.interned(0) == 0 and 0 in room.same
    for value in ("".join(["an_", "ref"]), 70_000):
        assert room.interned(value) is room.interned(value + type(value)())  # type: ignore[operator]
    assert room.interned("x" * 40) not in room.same and room.interned("x" * 39) in room.same
    for value in (True, -1, MAX_NUMBER + 1, 1.0, None):
        before = dict(room.same)
        assert room.interned(value) is value and room.same == before
    assert MAX_NUMBER not in room.same and room.interned(MAX_NUMBER) in room.same


# -- does it fit together? -------------------------------------------------------------------


def test_a_folder_is_as_it_was_when_the_run_ended(folder: Path) -> None:
    """Or every file that is not is named; one of which a line is torn is not told of twice."""
    journal(folder / "mmu.uvmp.jsonl")
    (folder / "cpu0.uvmp.jsonl").unlink()
    journal(folder / "memory.uvmp.jsonl", stored(1))
    assert load(folder).torn == [
        "cpu0.uvmp.jsonl: the file is missing",
        "memory.uvmp.jsonl: the file was changed (its SHA-256 differs from that in run.json)",
        "mmu.uvmp.jsonl: the file did not exist when the run ended",
    ]
    journal(folder / "memory.uvmp.jsonl", stored(1), end="{")
    assert len([text for text in load(folder).torn if text.startswith("memory")]) == 1


def test_a_scenario_is_as_it_was_when_the_run_ended(folder: Path) -> None:
    (folder / "scenario.json").write_text(json.dumps({**SCENE, "more": 1}))
    assert load(folder).torn == ["scenario.json: the file was changed (its SHA-256 differs from that in run.json)"]


def test_run_json_is_as_it_was_written(folder: Path) -> None:
    body = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**body, "engine": "live"}))
    journal(folder / "mmu.uvmp.jsonl")
    assert load(folder).torn == ["run.json: wrong checksum: the file was changed"], "what it says is not"
    (folder / "run.json").write_text(json.dumps(sealed({**body, "files": 7})))
    assert load(folder).torn == [
        f"{node}.uvmp.jsonl: the file did not exist when the run ended" for node in ("cpu0", "memory", "mmu")
    ]


def test_files_of_different_runs_are_told_first(folder: Path) -> None:
    journal(folder / "memory.uvmp.jsonl", stored(1), stored(2), header={**HEADER, "run": "other"})
    seal(folder)
    assert load(folder).torn == [
        "the files are of different runs: memory.uvmp.jsonl of run other;"
        " cpu0.uvmp.jsonl, run.json, scenario.json of run story"
    ]
    for node in ("mmu", "lock_manager"):
        journal(folder / f"{node}.uvmp.jsonl")
    seal(folder)
    assert (
        load(folder)
        .torn[0]
        .endswith("cpu0.uvmp.jsonl, lock_manager.uvmp.jsonl, mmu.uvmp.jsonl and 2 more of run story")
    )
    (folder / "lock_manager.uvmp.jsonl").unlink()
    seal(folder)
    assert load(folder).torn[0].endswith("cpu0.uvmp.jsonl, mmu.uvmp.jsonl, run.json and 1 more of run story")


@pytest.mark.parametrize(
    ("recorded", "told", "says"),
    [
        (None, None, ""),
        (None, FOUND, "run.json has a finding of A that is in no journal"),
        (None, {**FOUND, "detector": "lockdebug"}, "run.json has a finding of A that is in no journal"),
        (None, {**FOUND, "detector": "deadlock"}, ""),
        (FOUND, FOUND, ""),
        (FOUND, None, "run.json and the journals have different findings; this report shows that of the journals"),
        (FOUND, {**FOUND, "text": "x"}, "run.json and the journals have different findings; this report shows that of the journals"),
    ],
)  # fmt: skip
def test_run_json_tells_of_the_finding_that_the_journals_have(
    recorded: object, told: object, says: str, folder: Path
) -> None:
    journal(folder / "cpu0.uvmp.jsonl", *([finding()] if recorded else []))
    seal(folder, finding=told)
    assert load(folder).torn == ([says] if says else [])


@pytest.mark.parametrize(
    ("about", "says"),
    [
        ({"finding": 7}, "run.json: finding: not in the form of a finding"),
        ({"finding": {"kind": "panic"}}, "run.json: finding: not in the form of a finding"),
        ({"finding": {**FOUND, "kind": "deadlock", "detector": "deadlock", "x": 1}}, "run.json: finding: not in the form of a finding"),
        ({"schedule": 7}, f"run.json: schedule: expected a list of at most {MAX_SCHEDULE} deviations"),
        ({"schedule": [0] * (MAX_SCHEDULE + 1)}, f"run.json: schedule: expected a list of at most {MAX_SCHEDULE} deviations"),
        ({"schedule": [0] * MAX_SCHEDULE}, ""),
        ({"token": TOKEN, "shortened": TOKEN}, ""),
        ({"token": TOKEN[:-1]}, "run.json: token: not a token, or a damaged token"),
        ({"shortened": 7}, "run.json: shortened: not a token, or a damaged token"),
        ({"token": OTHER}, "run.json: token: a token of another scenario than that in scenario.json"),
        ({"shortened": OTHER}, "run.json: shortened: a token of another scenario than that in scenario.json"),
        ({"errata": ["x"]}, "run.json and scenario.json have different errata or detectors"),
        ({"errata": 7}, "run.json and scenario.json have different errata or detectors"),
        ({"detect": {"race": "no"}}, "run.json and scenario.json have different errata or detectors"),
        ({"detect": 7}, "run.json and scenario.json have different errata or detectors"),
        ({"detect": {}}, ""),
    ],
    ids=range(16),
)  # fmt: skip
def test_the_parts_of_run_json_have_their_form_and_are_of_the_scenario(
    about: dict[str, object], says: str, folder: Path
) -> None:
    """What is not of its form is not told; nor is a line to paste made of it."""
    seal(folder, **about)
    run = load(folder)
    assert run.torn == ([says] if says else []) and run.run is not None
    if says and about.keys() <= {"token", "shortened", "schedule"}:
        assert [run.run[key] for key in about] == [[] if key == "schedule" else None for key in about]


# -- what is told of it ---------------------------------------------------------------------


def test_a_run_is_replayed_by_its_token_or_by_its_folder() -> None:
    """And a shorter schedule by another token; a text that is not a token is left out."""
    assert Run("p").replay_lines() == ("", "")
    assert Run("p", "runs/a b", run={}).replay_lines() == (folder_line("runs/a b"), "")
    assert Run("p", "runs/\x1b", run={}).replay_lines() == ("", "")
    both = {"token": TOKEN, "shortened": OTHER, "options": ["--fixed"]}
    assert Run("p", "runs/a", run=both).replay_lines() == (
        f"uvmp replay {TOKEN} --fixed", f"uvmp replay {OTHER} --fixed",
    )  # fmt: skip
    evil = {"token": TOKEN, "shortened": OTHER, "options": ["; rm"]}
    assert Run("p", "runs/a", run=evil).replay_lines() == ("uvmp replay runs/a", "")


RACE, DEADLOCK = {**FOUND, "detector": "race"}, {**FOUND, "detector": "deadlock"}


@pytest.mark.parametrize(
    ("recorded", "told", "which", "source"),
    [
        ([], None, None, ""),
        ([FOUND], None, FOUND, "journal"),
        ([], DEADLOCK, DEADLOCK, "run.json"),
        ([FOUND], FOUND, FOUND, "run.json"),
        ([FOUND], DEADLOCK, FOUND, "journal"),
        ([FOUND], RACE, RACE, "run.json"),
        ([FOUND], {**FOUND, "detector": "lockorder"}, {**FOUND, "detector": "lockorder"}, "run.json"),
        ([FOUND, {**FOUND, "context": "B"}], {**FOUND, "context": "B"}, {**FOUND, "context": "B"}, "run.json"),
        ([FOUND], 7, FOUND, "journal"),
        ([7], None, None, ""),
    ],
)
def test_what_a_context_has_recorded_is_believed(
    recorded: list[object], told: object, which: object, source: str
) -> None:
    """Except for a race, or a reversal between two CPUs: these come before whatever stopped the run."""
    records = [{"event": "finding", "finding": finding} for finding in recorded]
    run = Run("p", run={"finding": told}, journals={"memory": [{"event": "load"}], "cpu0": records})
    assert run.finding() == (which, source)
    if told is None:
        assert Run("p", journals={"cpu0": records}).finding() == (which, source)
