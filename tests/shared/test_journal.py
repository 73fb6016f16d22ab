"""Journals: complete or told as incomplete, in one order or told as contradictory, and a finding's past and no more."""

from __future__ import annotations

import hashlib
import json
from copy import deepcopy
from errno import ENOSPC
from io import BytesIO
from typing import Any

import pytest

from cluster.search.walk import RandomWalk
from shared.errors import LogIncomplete
from shared.journal.deviation import MAX_CHOICES
from shared.journal.order import causal_past, events_after, linearize
from shared.journal.record import (
    MAX_LINE,
    SCHEMA,
    VOLATILE,
    Journal,
    Journals,
    Record,
    choice_of,
    digest,
    holes,
    operation_record,
    plain,
    read,
)
from shared.port.port import ANY_GEN
from shared.uvm.structs import Anon, Page
from shared.wire.messages import OPERATIONS, WAIT, Grant, Interrupt, Wake
from tests.kit import THING, run_recorded, scenario


def op(node: str, nseq: int, ctx: str, n: int, event: str, cpu: str = "", **more: Any) -> Record:
    """An operation's record; a context's CPU is called after it, and `k` is `n`, unless said otherwise."""
    return {"event": event, "node": node, "nseq": nseq, "ctx": ctx, "n": n, "cpu": cpu or f"cpu{ctx}", "k": n, **more}


def event(ctx: str, nseq: int, at: int, what: str = "enter", **more: Any) -> Record:
    return {"event": what, "node": f"cpu{ctx}", "nseq": nseq, "ctx": ctx, "n": at, "at": at, **more}


def lines(*records: Record) -> list[bytes]:
    return [json.dumps(one).encode() + b"\n" for one in records]


HEADER = {"event": "run.begin", "schema": SCHEMA, "node": "memory", "nseq": 0}


# -- writing and reading -----------------------------------------------------------------


def test_a_journal_on_disk_reads_back_as_it_was_kept() -> None:
    disk = BytesIO()
    journal = Journal("memory", disk)
    journal.header(run="r1", engine="live", pid=3)
    journal.add({"event": "load", "ctx": "A", "n": 1, "obj": "anon:1#0"})
    journal.add({"event": "store", "ctx": "A", "n": 2, "value": [1, None, "x"]})
    header, records, torn = read(disk.getvalue().splitlines(keepends=True), "memory.uvmp.jsonl")
    assert header["schema"] == SCHEMA and header["run"] == "r1" and header["nseq"] == 0
    assert records == journal.records and torn is None
    assert [one["nseq"] for one in records] == [1, 2] and {one["node"] for one in records} == {"memory"}


def test_a_line_is_a_json_object_without_needless_bytes() -> None:
    """Journals are large, and compared byte by byte."""
    disk = BytesIO()
    journal = Journal("memory", disk)
    journal.header(run="r1")
    journal.add({"event": "load", "ctx": "A", "n": 1, "value": [1, None]})
    header, record = disk.getvalue().splitlines(keepends=True)
    assert json.loads(header) == {"event": "run.begin", "schema": SCHEMA, "node": "memory", "nseq": 0, "run": "r1"}
    assert record == b'{"ctx":"A","n":1,"value":[1,null],"node":"memory","nseq":1,"event":"load"}\n'


class Full(BytesIO):
    """A disk without room."""

    def write(self, line: object) -> int:
        raise OSError(ENOSPC, "No space left on device")


def test_a_disk_that_is_full_is_told_with_the_file() -> None:
    """What a write says of it itself does not name the file; a stream without a name is its node's."""
    for name, file in ((None, "memory"), ("runs/r1/memory.uvmp.jsonl", "runs/r1/memory.uvmp.jsonl")):
        disk = Full()
        if name is not None:
            disk.name = name  # type: ignore[attr-defined]
        with pytest.raises(OSError) as caught:
            Journal("memory", disk).add({"event": "load"})
        told = caught.value
        assert (told.errno, told.strerror, told.filename) == (ENOSPC, "No space left on device", file)


def test_a_file_without_a_header_has_an_empty_one() -> None:
    """A node that died before it wrote a line; and one whose first line is lost."""
    assert read([], "m") == ({}, [], None)
    record = op("memory", 1, "A", 1, "load")
    assert read(lines(record), "m") == ({}, [record], None)


@pytest.mark.parametrize(
    ("last", "wrong"),
    [(b'{"nseq": 2, "event": "load"}', "the last line has no end"), (b"[1]\n", "not a record"), (b"{\n", "Expecting")],
)
def test_what_is_wrong_with_the_last_line_is_told(last: bytes, wrong: str) -> None:
    _, _, torn = read([*lines(HEADER, op("memory", 1, "A", 1, "load")), last], "m")
    assert torn is not None and torn.startswith(f"m:3: torn or corrupt line ({wrong}")


def test_a_journal_that_need_not_be_kept_is_not() -> None:
    """An actor's memory must not grow with the run."""
    journal = Journal("memory", BytesIO(), keep=False)
    journal.add({"event": "load"})
    assert journal.records == [] and journal.nseq == 1


def test_a_torn_last_line_is_told_and_the_rest_is_good() -> None:
    """A node that was killed in mid-write; the post-mortem works with what there is."""
    whole = lines(HEADER, op("memory", 1, "A", 1, "load"), op("memory", 2, "A", 2, "load"))
    for cut in (whole[-1][:-1], whole[-1][:10], b"{"):
        _, records, torn = read([*whole[:-1], cut], "memory.uvmp.jsonl")
        assert [one["nseq"] for one in records] == [1]
        assert torn is not None and torn.startswith("memory.uvmp.jsonl:3: torn or corrupt line")


@pytest.mark.parametrize(
    "bad", [b"\n", b"garbage\n", b"[1]\n", b'{"event": "load"}\n', b'{"nseq": "1", "event": "load"}\n', b"\xff\xfe\n"]
)
def test_a_corrupt_line_that_is_not_the_last_makes_the_log_incomplete(bad: bytes) -> None:
    whole = lines(HEADER, op("memory", 1, "A", 1, "load"), op("memory", 2, "A", 2, "load"))
    with pytest.raises(LogIncomplete, match=r"memory\.uvmp\.jsonl:2: torn or corrupt line"):
        read([whole[0], bad, whole[2]], "memory.uvmp.jsonl")


def test_a_line_without_bound_is_refused() -> None:
    with pytest.raises(LogIncomplete, match=f"a line of more than {MAX_LINE} bytes"):
        read([b"x" * (MAX_LINE + 1)], "memory.uvmp.jsonl")
    long = b'{"nseq": 1, "event": "load", "value": "' + b"x" * (MAX_LINE - 42) + b'"}\n'
    assert len(long) == MAX_LINE and len(read([long], "m")[1]) == 1


def test_a_log_of_another_schema_is_refused() -> None:
    with pytest.raises(LogIncomplete, match="a log of schema 'uvmp-log/2'"):
        read(lines({**HEADER, "schema": "uvmp-log/2"}), "memory.uvmp.jsonl")


def test_values_are_as_json_has_them_and_handles_keep_their_generation() -> None:
    assert plain([Anon.at(5, 2), (1, None), "x"]) == ["anon:5#2", [1, None], "x"]
    assert plain(Anon.at(5, ANY_GEN)) == "anon:5#*"


# -- records -------------------------------------------------------------------------------


def test_a_record_says_what_was_asked_answered_and_caused() -> None:
    key = THING.lock_key("lk")
    record = operation_record(
        "unlock", key, (), None, [Grant("B", None), Wake("C"), Interrupt("cpu1.ipi", 1), Grant("D", 1)]
    )
    assert record == {
        "event": "unlock",
        "lock": "thing:0.lk",
        "granted": ["B", "D"],
        "woke": ["C"],
        "raised": ["cpu1.ipi"],
    }
    assert operation_record("lock", key, ("w", "f"), WAIT, []) == {
        "event": "lock", "lock": "thing:0.lk", "mode": "w", "fn": "f", "wait": True,
    }  # fmt: skip
    assert operation_record("load", THING.id, (THING, "v", 2, False), 7, [])["value"] == 7
    assert "peek" not in operation_record("load", THING.id, (THING, "v", 2, False), 7, [])
    assert operation_record("load", THING.id, (THING, "v", 2, True), 7, [])["peek"] is True
    assert "-" not in operation_record("frame_write", 3, ((1, 2),), None, [])


def test_a_record_calls_locks_and_channels_by_their_names() -> None:
    """Anything else that is operated on is a number."""
    assert operation_record("lock", THING.lock_key("lk"), ("w", "f"), None, [])["lock"] == "thing:0.lk"
    chan = Page.at(3).id << 8
    assert operation_record("sleep", chan | 0xFF, ("w", "f"), None, []) == {
        "event": "sleep", "chan": "page:3", "wmesg": "w", "fn": "f",
    }  # fmt: skip
    assert operation_record("wakeup", chan | Page.fields["flags"].slot, (), None, [])["chan"] == "page:3.flags"
    assert operation_record("frame_zero", 7, (), None, []) == {"event": "frame_zero", "frame": 7}


def test_what_an_operation_has_no_result_for_is_not_in_its_record() -> None:
    assert operation_record("unlock", THING.lock_key("lk"), (), 5, []) == {"event": "unlock", "lock": "thing:0.lk"}
    assert "got" not in operation_record("try", THING.lock_key("lk"), ("w", "f"), None, [])


@pytest.mark.parametrize("args", [(THING, "v", 2), (THING, "v", 2, False, 1)])
def test_an_operation_has_the_arguments_that_its_table_says(args: tuple[object, ...]) -> None:
    with pytest.raises(ValueError):
        operation_record("load", THING.id, args, 7, [])


@pytest.mark.parametrize(
    ("value", "choice"),
    [
        (0, 0),
        (7, 7),
        (MAX_CHOICES - 1, MAX_CHOICES - 1),
        (MAX_CHOICES, -1),
        (-1, -1),
        (True, -1),
        ("1", -1),
        (None, -1),
    ],
)
def test_a_choice_is_a_number_of_those_there_can_be(value: object, choice: int) -> None:
    """A file may have anything there."""
    assert choice_of({"event": "choose", "value": value}) == choice
    assert choice_of({"event": "load", "value": value}) == choice_of({"event": "choose"}) == -1


@pytest.mark.parametrize("code", OPERATIONS)
def test_no_operation_has_fields_that_clash_with_the_records_own(code: str) -> None:
    """`n`, `k`, `at` ... belong to the record; an argument of that name would silently replace them."""
    one = OPERATIONS[code]
    own = {"event", "node", "nseq", "ctx", "n", "cpu", "k", "granted", "woke", "raised", "wait", "refused"}
    names = [name for name in (one.target, one.result, *one.args) if name and name != "-"]
    assert len(set(names)) == len(names)
    if one.node != "cpu" and "cpu" in names:
        names.remove("cpu")  # the CPU that asks: the same
    assert not own & set(names)


# -- completeness -----------------------------------------------------------------------------


def sound() -> Journals:
    """A stores, tells B, B loads: two nodes, two processors."""
    return {
        "memory": [op("memory", 1, "A", 1, "store"), op("memory", 2, "B", 2, "load")],
        "lock_manager": [
            op("lock_manager", 1, "B", 1, "sleep"),
            op("lock_manager", 2, "A", 2, "wakeup", woke=["B"]),
        ],
        "cpuA": [event("A", 1, 1), event("A", 2, 2, "exit")],
    }


def test_a_sound_set_of_journals_has_no_holes() -> None:
    assert holes(sound()) == []


def test_every_hole_is_named() -> None:
    """In a node's numbering or in a processor's: a lost file shows in the second though no file has a gap."""
    lost = sound()
    del lost["memory"][0]
    assert holes(lost) == [
        "memory: record 1 is missing (next is 2)",
        "cpuA: its operation 1 is in no node's journal (1 missing in all)",
    ]
    del lost["memory"]
    assert "cpuA: its operation 1 is in no node's journal (1 missing in all)" in holes(lost)


def test_an_operation_admitted_twice_is_named() -> None:
    twice = sound()
    twice["memory"].append(op("memory", 3, "A", 1, "store"))
    assert holes(twice) == ["cpuA: an operation was admitted twice"]


# -- digest --------------------------------------------------------------------------------------


def test_the_digest_is_of_what_happened_and_not_of_where_and_when() -> None:
    one, other = sound(), deepcopy(sound())
    for records in other.values():
        for record in records:
            record.update(dict.fromkeys(VOLATILE, "x"))
    other = dict(reversed(other.items()))
    assert digest(one) == digest(other)


def test_the_digest_is_the_same_everywhere_and_for_ever() -> None:
    """SHA-256 of a line for each record: compact JSON, its keys in order, without what differs from run to run."""
    journals: Journals = {
        "mmu": [{"nseq": 1, "node": "mmu", "event": "run"}],
        "memory": [{"node": "memory", "nseq": 1, "value": [1, None], "event": "load"}],
    }
    text = b'{"event":"load","node":"memory","value":[1,null]}\n{"event":"run","node":"mmu"}\n'
    assert digest(journals) == hashlib.sha256(text).hexdigest()


@pytest.mark.parametrize("change", ["value", "order", "missing", "node"])
def test_the_digest_notices_any_change(change: str) -> None:
    one, other = sound(), sound()
    if change == "value":
        other["memory"][1]["value"] = 3
    elif change == "order":
        other["memory"].reverse()
    elif change == "missing":
        other["cpuA"].pop()
    else:
        other["memory"] = [{**one, "node": "memory9"} for one in other["memory"]]
    assert digest(one) != digest(other)


# -- one order -----------------------------------------------------------------------------------


def names(order: list[Record]) -> list[str]:
    return [f"{one['ctx']}{one['n']}" for one in order]


def test_the_order_respects_every_node_and_every_processor() -> None:
    order = names(linearize(sound()))
    assert sorted(order) == ["A1", "A2", "B1", "B2"]
    assert order.index("A1") < order.index("A2") < order.index("B2") and order.index("B1") < order.index("A2")


def test_orders_that_contradict_each_other_are_told() -> None:
    """Message passing gone wrong: B saw the flag and not the data. No order of the four explains that."""
    bad = {
        "memory0": [op("memory0", 1, "B", 2, "load"), op("memory0", 2, "A", 1, "store")],
        "memory1": [op("memory1", 1, "A", 2, "store"), op("memory1", 2, "B", 1, "load")],
    }
    with pytest.raises(LogIncomplete, match="contradict each other at"):
        linearize(bad)


def test_a_context_that_waits_goes_on_after_its_grant() -> None:
    journals = {
        "lock_manager": [
            op("lock_manager", 1, "A", 1, "lock"),
            op("lock_manager", 2, "B", 1, "lock", wait=True),
            op("lock_manager", 3, "A", 2, "unlock", granted=["B"]),
        ],
        "memory": [op("memory", 1, "B", 2, "load")],
    }
    assert names(linearize(journals)) == ["A1", "B1", "A2", "B2"]


def test_the_interlock_is_released_while_going_to_sleep() -> None:
    """`sleep` queues, the unlock after it is still the sleeper's own; only then does it wait."""
    journals = {
        "lock_manager": [
            op("lock_manager", 1, "A", 1, "sleep"),
            op("lock_manager", 2, "A", 2, "unlock"),
            op("lock_manager", 3, "B", 1, "wakeup", woke=["A"]),
        ],
        "cpuA": [op("cpuA", 1, "A", 3, "run")],
    }
    assert names(linearize(journals)) == ["A1", "A2", "B1", "A3"]


def test_an_interrupt_is_taken_after_it_was_raised() -> None:
    journals = {
        "cpuA": [op("cpuA", 1, "A.ipi", 1, "intr", cpu="cpuA", k=1)],
        "mmu": [op("mmu", 1, "B", 1, "pmap_protect", raised=["A.ipi"], wait=True)],
    }
    assert [one["event"] for one in linearize(journals)] == ["pmap_protect", "intr"]


def test_who_starts_asleep_waits_for_its_first_wakeup() -> None:
    """Children and the pagedaemon have no `sleep` record: setup put them there."""
    journals = {
        "cpuB": [op("cpuB", 1, "B", 1, "run")],
        "lock_manager": [op("lock_manager", 1, "A", 1, "wakeup", woke=["B"])],
    }
    assert names(linearize(journals)) == ["A1", "B1"]


def test_the_operation_that_led_to_the_finding_comes_last() -> None:
    """Nothing is performed after a finding, so a replay that came to it early would miss the rest."""
    journals = {
        "memory": [op("memory", 1, "A", 1, "load")],
        "lock_manager": [op("lock_manager", 1, "B", 1, "lock"), op("lock_manager", 2, "B", 2, "unlock")],
        "cpuA": [event("A", 1, 1, "finding")],
    }
    assert names(linearize(journals)) == ["B1", "B2", "A1"]


def test_kernel_events_are_counted_between_operations() -> None:
    journals = sound()
    journals["cpuA"] = [event("A", 1, 0), event("A", 2, 1), event("A", 3, 1), event("A", 4, 2)]
    assert events_after(journals) == {"cpuA": [1, 2, 1], "cpuB": [0, 0, 0]}


# -- the finding's past ------------------------------------------------------------------------------


def test_what_is_concurrent_with_the_finding_is_not_its_past() -> None:
    """The other CPUs of a live machine run on for a moment; no replay has that."""
    journals = {
        "memory": [op("memory", 1, "A", 1, "store"), op("memory", 2, "B", 1, "load"), op("memory", 3, "C", 1, "load")],
        "lock_manager": [op("lock_manager", 1, "B", 2, "lock"), op("lock_manager", 2, "A", 2, "lock")],
        "cpuB": [event("B", 1, 1), event("B", 2, 2, "finding"), event("B", 3, 2)],
        "cpuA": [event("A", 1, 1), event("A", 2, 2)],
    }
    past = causal_past(journals)
    assert {node: [f"{one['ctx']}{one['n']}" for one in records if "k" in one] for node, records in past.items()} == {
        "memory": ["A1", "B1"], "lock_manager": ["B2"], "cpuB": [], "cpuA": [],
    }  # fmt: skip
    assert [one["event"] for one in past["cpuB"]] == ["enter", "finding"]
    assert [one["at"] for one in past["cpuA"]] == [1]


def test_a_grant_brings_its_giver_into_the_past() -> None:
    journals = {
        "lock_manager": [
            op("lock_manager", 1, "A", 1, "lock"),
            op("lock_manager", 2, "B", 1, "lock", wait=True),
            op("lock_manager", 3, "A", 3, "unlock", granted=["B"]),
        ],
        "memory": [op("memory", 1, "A", 2, "store"), op("memory", 2, "A", 4, "store")],
        "memory1": [op("memory1", 1, "B", 2, "load")],
        "cpuB": [event("B", 1, 2, "finding")],
    }
    past = causal_past(journals)
    assert [one["n"] for one in past["memory"]] == [2]
    assert [f"{one['ctx']}{one['n']}" for one in past["lock_manager"]] == ["A1", "B1", "A3"]


def test_of_two_findings_the_first_one_counts() -> None:
    """Two CPUs may panic before either hears of the other; the past of one must not contain the other."""
    journals = {
        "memory": [op("memory", 1, "A", 1, "store"), op("memory", 2, "B", 1, "store")],
        "cpuA": [event("A", 1, 1, "finding")],
        "cpuB": [event("B", 1, 1, "finding")],
    }
    past = causal_past(journals)
    found = [one["ctx"] for records in past.values() for one in records if one["event"] == "finding"]
    assert found == ["A"]


def test_without_a_finding_everything_stays() -> None:
    assert causal_past(sound()) == sound()


@pytest.mark.parametrize("name", ["S3a", "E2", "S3d"])
def test_the_past_of_a_finding_is_complete_and_has_an_order(name: str) -> None:
    recorded = run_recorded(scenario(name), RandomWalk(3))
    assert recorded.finding is not None
    past = causal_past(recorded.journals)
    assert holes(past) == []
    order = linearize(past)
    assert 0 < len(order) <= recorded.operations
    assert causal_past(past) == past
