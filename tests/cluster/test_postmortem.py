"""The postmortem: what it says of whole logs, and that it says all it can of broken ones.

The stories are written by hand, record by record, so that each test shows what
it takes for the report to say a thing; test_postmortem_of_sim.py takes them from `sim`.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from cluster.postmortem.analyse import analyse
from cluster.postmortem.history import by_object, related
from cluster.postmortem.load import MAX_NUMBER, load
from cluster.postmortem.order import in_order
from cluster.postmortem.state import Machine
from cluster.postmortem.views.text import render
from cluster.postmortem.words import ddb, in_words, shown, spins
from cluster.runs import folder as runfolder
from shared.errors import UserMistake
from shared.journal.record import MAX_LINE, Journal, digest
from shared.journal.runfile import folder_line, scenario_document, sealed
from shared.text import clean
from shared.uvm.param import PG_BUSY, PG_CLEAN, PG_FAKE, errno_name
from shared.uvm.structs import Anon, Page, Uvm
from tests.kit import empty

NODES = ("cpu0", "cpu1", "cpu2", "lock_manager", "memory", "mmu")
SLOT = {name: field.slot for kind in (Anon, Page) for name, field in kind.fields.items()}


class Story:
    """Journals written by hand. A context's name begins with the number of its CPU, as `0A`."""

    def __init__(self) -> None:
        self.journals = {node: Journal(node) for node in NODES}
        self.n: dict[str, int] = {}
        self.k: dict[str, int] = {}

    def op(self, ctx: str, event: str, node: str, **args: Any) -> Story:
        cpu = f"cpu{ctx[0]}"
        self.n[ctx] = self.n.get(ctx, 0) + 1
        self.k[cpu] = self.k.get(cpu, 0) + 1
        key = {"ctx": ctx, "n": self.n[ctx], "cpu": cpu, "k": self.k[cpu]}
        self.journals[node].add({"event": event, **args, **key})
        return self

    def event(self, ctx: str, event: str, **args: Any) -> Story:
        cpu = f"cpu{ctx[0]}"
        key = {"ctx": ctx, "n": self.n.get(ctx, 0), "at": self.k.get(cpu, 0)}
        self.journals[cpu].add({"event": event, **key, **args})
        return self

    def run(self, ctx: str) -> Story:
        return self.op(ctx, "run", f"cpu{ctx[0]}")

    def enter(self, ctx: str, fn: str) -> Story:
        return self.event(ctx, "enter", fn=fn)

    def leave(self, ctx: str, fn: str) -> Story:
        return self.event(ctx, "exit", fn=fn)

    def lock(self, ctx: str, lock: str, fn: str, **more: Any) -> Story:
        return self.op(ctx, "lock", "lock_manager", lock=lock, mode="w", fn=fn, **more)

    def unlock(self, ctx: str, lock: str, **more: Any) -> Story:
        return self.op(ctx, "unlock", "lock_manager", lock=lock, **more)

    def store(self, ctx: str, obj: str, name: str, value: Any) -> Story:
        return self.op(ctx, "store", "memory", obj=obj, field=name, slot=SLOT[name], value=value)

    def write(self, path: Path, run: dict[str, Any] | None = None) -> Path:
        """A run folder of it; with run.json if `run` says what is in it."""
        path.mkdir()
        for node, journal in self.journals.items():
            with open(path / f"{node}.uvmp.jsonl", "xb") as stream:
                copy = Journal(node, stream, keep=False)
                copy.header(run="story", engine="sim")
                for record in journal.records:
                    copy.add(dict(record))
        if run is not None:
            records = {node: journal.records for node, journal in self.journals.items()}
            about = {
                "schema": "uvmp-run/2",
                "run": "story",
                "engine": "sim",
                "digest": digest(records),
                "admitted": {node: len(record) for node, record in records.items()},
            }
            seal(path, {**about, **run})
        return path


SCENE = scenario_document(empty(), "story")


def seal(path: Path, about: dict[str, Any]) -> None:
    """Write run.json, over the folder as it is; and scenario.json, if it is not there."""
    if not (path / "scenario.json").exists():
        (path / "scenario.json").write_text(json.dumps(SCENE))
    sums = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in path.glob("*.jsonl")}
    scene = hashlib.sha256((path / "scenario.json").read_bytes()).hexdigest()
    body = {"errata": SCENE["errata"], "detect": SCENE["detect"], **about, "files": sums, "scenario_sum": scene}
    (path / "run.json").write_text(json.dumps(sealed(body)))


def locked_anon() -> Story:
    """0A frees anon:5 with its lock held and ends; 1B gets it and spins: S3a in short."""
    story = Story()
    story.run("0A").enter("0A", "fork1").enter("0A", "amap_cow_now").enter("0A", "uvm_analloc")
    story.store("0A", "anon:5#0", "an_ref", 1).leave("0A", "uvm_analloc")
    story.lock("0A", "anon:5.an_lock", "amap_cow_now").enter("0A", "uvm_anfree")
    story.op("0A", "renew", "memory", obj="anon:5#0", gen=1).leave("0A", "uvm_anfree")
    story.leave("0A", "amap_cow_now").leave("0A", "fork1")
    story.enter("0A", "exit1").leave("0A", "exit1")
    story.run("1B").enter("1B", "trap").enter("1B", "uvm_fault").enter("1B", "uvm_analloc")
    story.store("1B", "anon:5#1", "an_ref", 1).leave("1B", "uvm_analloc")
    story.lock("1B", "amap:2.am_l", "uvm_fault")
    return story.lock("1B", "anon:5.an_lock", "uvm_fault", wait=True)


SPINS = {
    "kind": "spin-forever",
    "text": "1B spins forever",
    "context": "1B",
    "function": "amap_cow_now",
    "subject": "anon:5",
    "detector": "deadlock",
}


def machine_of(story: Story) -> Machine:
    return Machine().apply_all(in_order({node: journal.records for node, journal in story.journals.items()}).records)


def report_of(path: Path) -> str:
    return " ".join(render(analyse(path), 160).split())


# -- a whole log -----------------------------------------------------------------------


def test_the_report_of_a_freed_locked_anon_tells_who_holds_it_since_where_and_who_spins(tmp_path: Path) -> None:
    path = locked_anon().write(tmp_path / "run", {"finding": SPINS})
    pm = analyse(path)
    assert pm.complete
    assert pm.digest_checked
    assert pm.headline == "spin-forever in amap_cow_now, anon:5"
    assert pm.waits == [
        "1B spins in uvm_fault for anon:5.an_lock, held by 0A since amap_cow_now (its operation 3); 0A has ended",
    ]
    held = {lock["lock"]: [hold["ctx"] for hold in lock["holders"]] for lock in pm.locks}
    assert held == {"anon:5.an_lock": ["0A"], "amap:2.am_l": ["1B"]}
    stacks = {context.name: [frame["fn"] for frame in context.stack] for context in pm.contexts}
    assert stacks == {"0A": [], "1B": ["trap", "uvm_fault"]}
    (anon,) = (object for object in pm.objects if object.name == "anon:5")
    assert anon.life == 1
    assert anon.fields["an_ref"] == "1"
    assert [(line.ctx, line.fn) for line in anon.history] == [
        ("0A", "uvm_analloc"),
        ("0A", "amap_cow_now"),
        ("0A", "uvm_anfree"),
        ("1B", "uvm_analloc"),
        ("1B", "uvm_fault"),
    ]
    text = report_of(path)
    assert "held by 0A since amap_cow_now, operation 3" in text
    assert "The log is complete" in text
    assert folder_line(str(path)) in text


def test_the_replay_line_is_never_broken(tmp_path: Path) -> None:
    (tmp_path / ("long " * 30)).mkdir()
    path = locked_anon().write(tmp_path / ("long " * 30) / "run", {"finding": SPINS})
    line = folder_line(str(path))
    assert line is not None and len(line) > 160
    assert line in render(analyse(path), 60)


def test_no_line_is_wider_than_the_terminal_but_for_the_replay_line(tmp_path: Path) -> None:
    path = locked_anon().write(tmp_path / "run", {"finding": SPINS})
    for width in (60, 100):
        wide = [line for line in render(analyse(path), width).splitlines() if len(line) > width]
        assert not [line for line in wide if "replay" not in line and str(path) not in line]


def test_a_wait_for_cycle_is_found_and_said(tmp_path: Path) -> None:
    story = Story().run("0A").run("1B")
    story.lock("0A", "amap:1.am_l", "amap_copy").lock("1B", "anon:2.an_lock", "uvm_fault")
    story.lock("0A", "anon:2.an_lock", "amap_copy", wait=True).lock("1B", "amap:1.am_l", "uvm_fault", wait=True)
    pm = analyse(story.write(tmp_path / "run", {"finding": None}))
    assert pm.cycle == ["0A", "1B"]
    assert "0A -> 1B -> 0A: a cycle" in report_of(tmp_path / "run")


def test_a_lock_handed_on_by_an_unlock_is_held_since_its_request() -> None:
    story = Story().run("0A").run("1B").lock("0A", "anon:2.an_lock", "f")
    story.lock("1B", "anon:2.an_lock", "g", wait=True).unlock("0A", "anon:2.an_lock", granted=["1B"])
    machine = machine_of(story)
    assert machine.contexts["1B"].wait is None
    assert [holder.since for holder in machine.locks["anon:2.an_lock"].holders] == ["g"]
    assert machine.locks["anon:2.an_lock"].last_unlocked is not None


def test_a_sleeper_on_a_busy_page_is_told_who_made_it_busy(tmp_path: Path) -> None:
    story = Story().run("0A").enter("0A", "uvm_pagealloc").store("0A", "page:3#0", "flags", PG_BUSY | PG_FAKE)
    story.leave("0A", "uvm_pagealloc").run("1B").enter("1B", "uvmfault_anonget")
    story.op("1B", "sleep", "lock_manager", chan="page:3", wmesg="anonget2", fn="uvmfault_anonget")
    pm = analyse(story.write(tmp_path / "run", {"finding": None}))
    assert pm.waits[0] == (
        '1B sleeps in uvmfault_anonget on page:3 ("anonget2"), which 0A made BUSY in uvm_pagealloc, its operation 2'
    )


def test_a_reader_behind_a_writer_behind_readers_is_a_ring_and_every_holder_is_told(tmp_path: Path) -> None:
    """The same graph as the verdict's: queues, shared holders, and the second of them."""
    story = Story().run("0A").run("1B").run("2C")
    shared = {"lock": "vmmap:1.lock", "mode": "r"}
    story.op("1B", "lock", "lock_manager", **shared, fn="sys_mincore")
    story.op("0A", "lock", "lock_manager", **shared, fn="uvm_map_pageable")
    story.op("2C", "lock", "lock_manager", lock="vmmap:1.lock", mode="w", fn="uvm_map", wait=True)
    story.op("0A", "lock", "lock_manager", **shared, fn="uvmfault_lookup", wait=True)
    pm = analyse(story.write(tmp_path / "run", {"finding": None}))
    assert pm.cycle == ["0A", "2C"]
    assert pm.waits == [
        "0A sleeps in uvmfault_lookup for vmmap:1.lock behind 2C, which wants it exclusively",
        "2C sleeps in uvm_map for vmmap:1.lock, held by 1B shared since sys_mincore (its operation 2), and"
        " held by 0A shared since uvm_map_pageable (its operation 2)",
        "1B was in user mode when its log ends",
    ]


def test_a_wakeup_ends_the_sleep_and_an_interlock_is_no_waking() -> None:
    story = Story().run("1B").lock("1B", "anon:2.an_lock", "f")
    story.op("1B", "sleep", "lock_manager", chan="page:3", wmesg="w", fn="f").unlock("1B", "anon:2.an_lock")
    assert machine_of(story).contexts["1B"].wait is not None
    story.run("0A").op("0A", "wakeup", "lock_manager", chan="page:3", woke=["1B"])
    assert machine_of(story).contexts["1B"].wait is None


def test_the_page_of_an_anon_and_the_anon_of_a_page_belong_to_each_other() -> None:
    story = (
        Story().run("0A").store("0A", "anon:5#0", "an_page", "page:3#0").store("0A", "page:3#0", "uanon", "anon:5#0")
    )
    machine = machine_of(story)
    history = by_object(machine)
    assert related("anon:5", machine, history) == ["page:3"]
    assert related("page:3", machine, history) == ["anon:5"]


def test_the_schedule_of_a_token_is_said_in_words(tmp_path: Path) -> None:
    steps = [
        {"ctx": "1B", "n": 206, "kind": "point", "next": "0A"},
        {"ctx": "0A", "n": 9, "kind": "wait", "next": "1B"},
    ]
    pm = analyse(locked_anon().write(tmp_path / "run", {"finding": SPINS, "schedule": steps}))
    assert pm.schedule[0] == "1. after operation 206 of 1B, 0A preempts it"
    assert pm.schedule[1] == "2. after operation 9 of 0A, which has to wait, 1B runs"


# -- logs of runs that were killed, and broken logs -----------------------------------------


def test_a_run_without_run_json_is_told_from_its_records(tmp_path: Path) -> None:
    """A node was killed in mid-run: what is known is said, and that the run has not ended."""
    pm = analyse(locked_anon().write(tmp_path / "run"))
    assert not pm.complete
    assert pm.finding is None
    assert [wait.rpartition("; ")[2] for wait in pm.waits] == ["0A has ended"]
    assert "1B" in pm.headline
    assert any("no run.json" in hole for hole in pm.holes)


def test_a_finding_record_is_believed_where_run_json_is_missing(tmp_path: Path) -> None:
    story = locked_anon()
    story.event("1B", "finding", finding={**SPINS, "kind": "kassert", "detector": "kassert"})
    pm = analyse(story.write(tmp_path / "run"))
    assert pm.finding is not None
    assert (pm.finding.kind, pm.source) == ("kassert", "journal")


def test_a_finding_whose_operation_is_in_no_journal_is_told(tmp_path: Path) -> None:
    """The node that admitted it was killed before it wrote the record."""
    story = locked_anon()
    story.event("1B", "finding", finding={**SPINS, "kind": "kassert", "detector": "kassert"})
    path = story.write(tmp_path / "run")
    file = path / "lock_manager.uvmp.jsonl"
    file.write_bytes(b"".join(file.read_bytes().splitlines(keepends=True)[:-1]))
    pm = analyse(path)
    assert pm.finding is not None and pm.finding.kind == "kassert" and not pm.complete


def test_a_torn_last_line_is_a_warning_and_all_before_it_is_told(tmp_path: Path) -> None:
    path = locked_anon().write(tmp_path / "run", {"finding": SPINS})
    file = path / "lock_manager.uvmp.jsonl"
    file.write_bytes(file.read_bytes()[:-9])
    pm = analyse(path)
    assert not pm.complete
    assert len(pm.warnings) == 1
    assert "lock_manager.uvmp.jsonl:4: torn or corrupt line" in pm.warnings[0]
    assert "the node was stopped while it wrote" in pm.warnings[0]
    assert [hold["ctx"] for lock in pm.locks for hold in lock["holders"]] == ["1B", "0A"]
    assert "The log is INCOMPLETE" in report_of(path)


def test_a_corrupt_line_in_the_middle_is_named_with_the_record_that_it_was(tmp_path: Path) -> None:
    path = locked_anon().write(tmp_path / "run", {"finding": SPINS})
    file = path / "memory.uvmp.jsonl"
    lines = file.read_bytes().splitlines(keepends=True)
    lines[2] = b'{"event":"st\x1b[31more\n'
    file.write_bytes(b"".join(lines))
    pm = analyse(path)
    assert not pm.complete
    assert pm.warnings[0].startswith("memory.uvmp.jsonl:3: torn or corrupt line")
    assert "memory: record 2 is missing (next is 3)" in pm.holes
    assert pm.waits[-1].endswith("held by 0A since amap_cow_now (its operation 3); 0A has ended")


def test_a_missing_journal_is_a_hole(tmp_path: Path) -> None:
    path = locked_anon().write(tmp_path / "run", {"finding": SPINS})
    (path / "memory.uvmp.jsonl").unlink()
    pm = analyse(path)
    assert pm.holes[0] == "memory: its journal is missing"
    assert pm.waits  # and the locks are told nevertheless


def test_a_journal_cut_at_the_end_of_a_line_is_a_hole(tmp_path: Path) -> None:
    """No line is torn and no number is missing: only the count that run.json has tells."""
    path = locked_anon().write(tmp_path / "run", {"finding": SPINS})
    file = path / "cpu1.uvmp.jsonl"
    file.write_bytes(b"".join(file.read_bytes().splitlines(keepends=True)[:-1]))
    assert analyse(path).holes == ["cpu1: its journal ends with record 4; it had written 5"]


def test_a_changed_record_is_found_by_the_digest(tmp_path: Path) -> None:
    path = locked_anon().write(tmp_path / "run", {"finding": SPINS})
    file = path / "memory.uvmp.jsonl"
    file.write_text(file.read_text().replace('"value":1', '"value":2'))
    pm = analyse(path)
    assert not pm.complete
    assert "memory.uvmp.jsonl: the file was changed" in pm.warnings[0]
    seal(path, json.loads((path / "run.json").read_text()))
    assert "were changed" in analyse(path).holes[0], "nor by who wrote run.json anew"


def test_what_is_missing_after_the_finding_does_not_make_the_log_incomplete(tmp_path: Path) -> None:
    """The other CPUs of a live machine continue for a moment; the digest covers the finding's past."""
    story = locked_anon()
    story.enter("1B", "uvm_fault").event("1B", "finding", finding=SPINS)
    before = {node: list(journal.records) for node, journal in story.journals.items()}
    story.k["cpu0"] += 1  # an operation that never reached its node
    story.store("0A", "anon:9#0", "an_ref", 3)
    path = story.write(tmp_path / "run", {"finding": SPINS, "digest": digest(before)})
    pm = analyse(path)
    assert pm.complete
    assert pm.digest_checked
    assert pm.after == ["cpu0: its operation 5 is in no node's journal (1 missing in all)"]
    assert "complete up to the finding" in report_of(path)


def test_a_lost_grant_does_not_stop_the_story() -> None:
    """The record of the unlock is gone; who continues must have been granted the lock."""
    story = Story().run("0A").run("1B").lock("0A", "anon:2.an_lock", "f").lock("1B", "anon:2.an_lock", "g", wait=True)
    story.k["cpu0"] += 1
    story.n["0A"] += 1  # the unlock
    story.store("1B", "anon:2#0", "an_ref", 7)
    journals = {node: journal.records for node, journal in story.journals.items()}
    sequence = in_order(journals)
    assert sequence.forced == 1
    assert len(sequence.records) == sum(map(len, journals.values()))
    machine = Machine().apply_all(sequence.records)
    assert machine.contexts["1B"].wait is None
    known = machine.value("anon:2", "an_ref")
    assert known is not None
    assert known.value == 7


@pytest.mark.parametrize(
    "line",
    [
        b"null\n",
        b"[1]\n",
        b'{"event":"store"}\n',
        b'{"event":"store","node":"memory","nseq":"1"}\n',
        b'{"event":"store","node":"memory","nseq":true,"ctx":"A","n":1,"cpu":"cpu0","k":1}\n',
        b'{"event":"store","node":"memory","nseq":1,"ctx":"A","n":1}\n',
        b'{"event":"store","node":"memory","nseq":1,"ctx":"A","n":NaN,"cpu":"cpu0","k":1}\n',
        b'{"event":"store","node":"memory","nseq":1,"ctx":"A","n":1,"cpu":"cpu0","k":%d}\n' % (MAX_NUMBER + 1),
        b'{"event":"store","node":"memory","nseq":1,"ctx":"A","n":1,"cpu":"../x","k":1}\n',
        b'{"event":"store","node":"mmu","nseq":1,"ctx":"A","n":1,"cpu":"cpu0","k":1}\n',
        b'{"event":"wakeup","node":"memory","nseq":1,"ctx":"A","n":1,"cpu":"cpu0","k":1,"woke":[[]]}\n',
        b"[" * 100_000 + b"\n",
        b"\xff\xfe\n",
        b"9" * (MAX_LINE + 10) + b"\n",
    ],
)
def test_a_line_that_is_no_record_is_told_and_skipped(tmp_path: Path, line: bytes) -> None:
    (tmp_path / "memory.uvmp.jsonl").write_bytes(line)
    run = load(tmp_path)
    assert run.journals == {"memory": []}
    assert len(run.torn) == 1
    assert run.torn[0].startswith("memory.uvmp.jsonl:1: torn or corrupt line")
    render(analyse(tmp_path))


def test_odd_values_in_records_do_not_stop_the_report(tmp_path: Path) -> None:
    story = Story().run("0A")
    for obj, name, slot, value in (("?", 7, "x", {}), ("anon:5#2", "an_ref", 2, [[]]), ("zebra:1", "[]", -3, None)):
        story.op("0A", "store", "memory", obj=obj, field=name, slot=slot, value=value)
    story.op("0A", "lock", "lock_manager", lock=3).op("0A", "unlock", "lock_manager").op("0A", "alloc", "memory")
    story.op("0A", "renew", "memory", obj="page:1#0", gen="x").op("0A", "swap_put", "mmu", frames={"a": 1})
    story.event("0A", "finding", finding="?").event("0A", "exit", fn="f").event("0A", "from-the-future")
    run = {
        "finding": {"story": 7, "held": [1]},
        "errata": [3, "x"],
        "schedule": [0],
        "counters": {"free": "x"},
        "notes": 3,
    }
    assert "errat" in report_of(story.write(tmp_path / "run", run))


def test_what_comes_from_a_file_cannot_command_the_terminal(tmp_path: Path) -> None:
    evil = "\x1b]0;title\x07\x1b[2J\r\n\u202e\x9b"
    story = locked_anon().op("0A", "sleep", "lock_manager", chan=f"page:3{evil}", wmesg=evil, fn=evil)
    story.enter("0A", f"f{evil}").event("0A", "finding", finding={**SPINS, "text": evil})
    path = story.write(
        tmp_path / "run", {"finding": {**SPINS, "text": f"x{evil}"}, "token": f"uvmp {evil}", "engine": evil}
    )
    pm = analyse(path)
    for text in (render(pm), json.dumps(pm.as_dict(), ensure_ascii=False)):
        assert not set("\x1b\x07\r\u202e\x9b") & set(text)
    assert clean("a\x1b[1m\nb") == "a\\x1b[1m\\x0ab"


def test_a_foreign_schema_is_told_and_its_file_not_read(tmp_path: Path) -> None:
    (tmp_path / "mmu.uvmp.jsonl").write_text('{"event":"run.begin","schema":"uvmp-log/9","node":"mmu","nseq":0}\n')
    (tmp_path / "run.json").write_text('{"schema":"uvmp-run/9"}')
    run = load(tmp_path)
    assert run.run is None
    assert any("uvmp-log/9" in text for text in run.torn)
    assert any("uvmp-run/9" in text for text in run.torn)


def test_what_is_no_run_folder_is_the_users_mistake(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    for name, says in (("file", "a run is a folder"), ("empty", "not a run folder"), ("nowhere", "no such folder")):
        with pytest.raises(UserMistake, match=says):
            analyse(tmp_path / name)


# -- words -------------------------------------------------------------------------------


def test_flags_are_said_by_name() -> None:
    assert shown("page", "flags", PG_BUSY | PG_CLEAN) == "PG_CLEAN|PG_BUSY"
    assert ddb("page", "flags", PG_BUSY | PG_CLEAN) == "0x18<CLEAN,BUSY>"
    assert shown("page", "flags", 0x8000 | PG_BUSY) == "PG_BUSY|0x8000"
    assert shown("anon", "an_page", None) == "NULL"
    slot = Uvm.fields["afree"].slot
    store = {"event": "store", "obj": "uvm:0#0", "field": "afree", "slot": slot, "value": "anon:5#1"}
    assert in_words(store) == "uvm.afree = anon:5#1"


def test_errors_are_said_by_name() -> None:
    assert shown("buf", "error", 5) == "EIO (5)" and shown("buf", "error", 0) == "0"
    report_of = in_words({"event": "swap_get", "slot": 3, "error": 35})
    assert report_of == "swap_get(slot=3, error=EAGAIN (35))"
    assert errno_name(5) == "EIO (5)" and errno_name(999) == "999"


def test_a_map_lock_sleeps_and_an_anon_lock_spins() -> None:
    assert spins("anon:1.an_lock")
    assert not spins("vmmap:1.lock")


# -- run folders -----------------------------------------------------------------------------


def test_a_run_folder_that_exists_is_refused(tmp_path: Path) -> None:
    runfolder.create(tmp_path / "a" / "b")
    for path in (tmp_path / "a" / "b", tmp_path):
        with pytest.raises(UserMistake, match="exists already"):
            runfolder.create(path)
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserMistake):
        runfolder.create(tmp_path / "file" / "run")
