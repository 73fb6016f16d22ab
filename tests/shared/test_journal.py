"""Journals: complete or told as incomplete, in one order or told as contradictory, and a finding's past and no more."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from copy import deepcopy
from errno import ENOSPC
from io import BytesIO
from typing import Any

import pytest

from cluster.search.walk import RandomWalk
from shared.errors import LogIncomplete
from shared.journal.cut import consistent, cut, cut_short, digested, judged
from shared.journal.deviation import MAX_CHOICES
from shared.journal.order import (
    KERNEL_LOCK,
    Linearizer,
    asleep_at_start,
    causal_past,
    events_after,
    goes_to_sleep,
    in_order,
    linearize,
    operations,
    outline_of,
)
from shared.journal.record import (
    MAX_LINE,
    SCHEMA,
    VOLATILE,
    Journal,
    Journals,
    Record,
    choice_of,
    digest,
    held,
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
    return [json.dumps(record).encode() + b"\n" for record in records]


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
    assert [record["nseq"] for record in records] == [1, 2] and {record["node"] for record in records} == {"memory"}


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
    "value", ["\ud800", 1 << 70, -(1 << 63) - 1, "caf\u00e9 \x07 \u2028", (1 << 64) - 1, [(1, "x")]]
)
def test_a_line_can_be_read_again_whatever_is_in_it(value: object) -> None:
    """Also what the encoder does not take."""
    stream = BytesIO()
    journal = Journal("mmu", stream, keep=False)
    journal.header(run="r")
    journal.add({"event": "pmap_extract", "value": value})
    lines = stream.getvalue().splitlines(keepends=True)
    _, (record,), wrong = read(lines, "mmu")
    assert wrong is None and record["value"] == json.loads(json.dumps(value))


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


def test_records_that_were_read_share_their_words() -> None:
    """A run has a hundred thousand records, whose words are few: they take a third of the memory so."""
    _, records, _ = read(lines(*(op("memory", at, f"long-name-{at % 2}", at, "load") for at in range(1, 5))), "m")
    words = [word for record in records for pair in record.items() for word in pair if isinstance(word, str)]
    assert len({id(word) for word in words}) == len(set(words))


def test_a_torn_last_line_is_told_and_the_rest_is_good() -> None:
    """A node that was killed in mid-write; the post-mortem works with what there is."""
    whole = lines(HEADER, op("memory", 1, "A", 1, "load"), op("memory", 2, "A", 2, "load"))
    for last in (whole[-1][:-1], whole[-1][:10], b"{"):
        _, records, torn = read([*whole[:-1], last], "memory.uvmp.jsonl")
        assert [record["nseq"] for record in records] == [1]
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
    operation = OPERATIONS[code]
    own = {"event", "node", "nseq", "ctx", "n", "cpu", "k", "granted", "woke", "raised", "wait", "refused"}
    names = [name for name in (operation.target, operation.result, *operation.args) if name and name != "-"]
    assert len(set(names)) == len(names)
    if operation.node != "cpu" and "cpu" in names:
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
    first, other = sound(), deepcopy(sound())
    for records in other.values():
        for record in records:
            record.update(dict.fromkeys(VOLATILE, "x"))
    other = dict(reversed(other.items()))
    assert digest(first) == digest(other)


def test_the_digest_is_the_same_everywhere_and_forever() -> None:
    """SHA-256 of a line for each record: compact JSON, its keys in order, without what differs from run to run."""
    journals: Journals = {
        "mmu": [{"nseq": 1, "node": "mmu", "event": "run"}],
        "memory": [{"node": "memory", "nseq": 1, "value": [1, None], "event": "load"}],
    }
    text = b'{"event":"load","node":"memory","value":[1,null]}\n{"event":"run","node":"mmu"}\n'
    assert digest(journals) == hashlib.sha256(text).hexdigest()


@pytest.mark.parametrize("change", ["value", "order", "missing", "node"])
def test_the_digest_notices_any_change(change: str) -> None:
    first, other = sound(), sound()
    if change == "value":
        other["memory"][1]["value"] = 3
    elif change == "order":
        other["memory"].reverse()
    elif change == "missing":
        other["cpuA"].pop()
    else:
        other["memory"] = [{**record, "node": "memory9"} for record in other["memory"]]
    assert digest(first) != digest(other)


# -- one order -----------------------------------------------------------------------------------


def names(order: Iterable[Record]) -> list[str]:
    """Operations as A1, A2 ...; kernel events as A@1, which is after operation 1 of the processor."""
    return [f"{record['ctx']}{record['n']}" if "k" in record else f"{record['ctx']}@{record['at']}" for record in order]


def parts(journals: Journals) -> dict[str, str]:
    """Node -> what is in its journal; those with nothing left out."""
    words = {node: " ".join(names(records)) for node, records in journals.items()}
    return {node: text for node, text in words.items() if text}


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
    with pytest.raises(LogIncomplete) as caught:
        linearize(bad)
    assert str(caught.value).endswith(
        "program order and admission order contradict each other at A operation 1 on memory0"
    )


def test_an_event_comes_right_after_the_operation_that_its_processor_performed_before() -> None:
    """Those behind operations that are not there come last: journals with a hole are shown as far as they go."""
    journals = sound()
    journals["cpuA"] = [event("A", 1, 0), event("A", 2, 1), event("A", 3, 2), event("A", 4, 9)]
    assert names(in_order(journals)) == ["A@0", "A1", "A@1", "B1", "A2", "A@2", "B2", "A@9"]


def test_an_operation_is_ordered_as_soon_as_its_turn_has_come() -> None:
    """Who merges says whose turn it is, of operations and of events; then the rest follows."""
    merge = Linearizer(sound())
    merge.go_on(lambda record: record["ctx"] == "B")
    assert names(merge.records) == ["B1"]
    merge.go_on(lambda record: "k" in record)
    assert names(merge.records) == ["B1", "A1", "A2", "B2"]
    merge.rest(lambda record: record["at"] < 2)
    assert names(merge.records) == ["B1", "A1", "A2", "B2", "A@1"]
    merge.rest()
    assert names(merge.records) == ["B1", "A1", "A2", "B2", "A@1", "A@2"]


@pytest.mark.parametrize("name", ["S3a", "E2", "S3d", "E54", "litmus-mp"])
def test_the_order_is_the_same_whether_all_records_are_at_hand_or_read_one_after_another(name: str) -> None:
    """With a finding and without, and of each beginning that a run was cut to."""
    for scene in (scenario(name), scenario(name).without_errata()):
        run = run_recorded(scene, RandomWalk(7))
        for count in (run.operations, run.operations // 2, run.operations // 3):
            journals = held(cut(run.journals, count))
            ends = {(r["node"], r["at"]) for records in journals.values() for r in records if r["event"] == "finding"}
            merge = Linearizer(journals)
            merge.go_on(lambda record, ends=ends: "k" not in record or (record["cpu"], record["k"]) not in ends)
            merge.go_on()
            merge.rest()
            assert list(in_order(journals)) == merge.records and operations(journals) == count


def test_an_order_is_read_ahead_no_further_than_one_operation_of_each_node() -> None:
    read = 0

    class Told(list[Record]):
        def __iter__(self) -> Iterator[Record]:
            nonlocal read
            for record in super().__iter__():
                read += "k" in record
                yield record

    whole = run_recorded(scenario("E54").without_errata(), RandomWalk(3))
    journals = {node: Told(records) for node, records in whole.journals.items()}
    outline, read = outline_of(journals), 0
    ahead = [read - at for at, record in enumerate(r for r in in_order(journals, outline) if "k" in r)]
    assert max(ahead) <= len(journals) and read == len(ahead) == whole.operations


def test_what_the_records_do_not_let_go_on_is_forced_once() -> None:
    """The grant is lost: A waits forever, and yet continues. Of two that are stuck, who is next at its node."""
    lost = {
        "lock_manager": [
            op("lock_manager", 1, "B", 1, "lock", wait=True),
            op("lock_manager", 2, "B", 2, "unlock"),
            op("lock_manager", 3, "A", 1, "lock"),
        ]
    }
    merge = Linearizer(lost)
    merge.go_on()
    assert names(merge.records) == ["B1"]
    assert merge.force() and names(merge.records) == ["B1", "B2"]
    merge.go_on()
    assert names(merge.records) == ["B1", "B2", "A1"] and not merge.force()


def test_orders_that_contradict_each_other_are_forced_where_the_first_processor_is() -> None:
    bad = {
        "memory0": [op("memory0", 1, "B", 2, "load"), op("memory0", 2, "A", 1, "store")],
        "memory1": [op("memory1", 1, "A", 2, "store"), op("memory1", 2, "B", 1, "load")],
    }
    merge = Linearizer(bad)
    merge.go_on()
    assert merge.records == [] and merge.force()
    merge.go_on()
    assert names(merge.records) == ["A1", "A2", "B1", "B2"] and not merge.force()


def test_what_goes_on_by_force_waits_no_more() -> None:
    """Or each of its operations would have to be forced."""
    lost = {
        "lock_manager": [op("lock_manager", 1, "B", 1, "lock", wait=True)],
        "memory": [op("memory", 1, "B", 2, "load"), op("memory", 2, "B", 3, "load")],
        "cpuB": [event("B", 1, 1), event("B", 2, 2)],
    }
    merge = Linearizer(lost)
    merge.go_on(lambda record: "k" in record)
    assert merge.force() and names(merge.records) == ["B1", "B@1", "B2", "B@2"], "with its events"
    merge.go_on()
    assert names(merge.records) == ["B1", "B@1", "B2", "B@2", "B3"]


BIG_LOCK = {"event": "unlock", "lock": KERNEL_LOCK}


@pytest.mark.parametrize(
    ("record", "before", "part"),
    [
        ({"event": "unlock", "lock": "anon:1.an_lock"}, "sleep", True),
        ({"event": "unlock", "lock": "anon:1.an_lock"}, "unlock", False),
        ({"event": "unlock", "lock": "anon:1.an_lock"}, "", False),
        (BIG_LOCK, "unlock", True),
        (BIG_LOCK, "lock", True),
        ({**BIG_LOCK, "event": "lock"}, "sleep", False),
        ({"event": "load"}, "sleep", False),
    ],
)
def test_locks_that_are_released_while_going_to_sleep(record: Record, before: str, part: bool) -> None:
    """The interlock, right after `sleep`; and the big lock, later. Everything else waits for the wakeup."""
    assert goes_to_sleep(record, before) == part


def test_who_sleeps_gives_up_the_big_lock_before_it_is_woken() -> None:
    journals = {
        "lock_manager": [
            op("lock_manager", 1, "A", 1, "sleep"),
            op("lock_manager", 2, "A", 2, "unlock"),
            op("lock_manager", 3, "A", 3, "unlock", lock=KERNEL_LOCK),
            op("lock_manager", 4, "B", 1, "wakeup", woke=["A"]),
            op("lock_manager", 5, "A", 4, "lock"),
        ]
    }
    assert names(linearize(journals)) == ["A1", "A2", "A3", "B1", "A4"]


def test_each_interrupt_needs_a_raising_of_its_own() -> None:
    journals = {
        "cpuA": [op("cpuA", n, "A.ipi", n, "intr", cpu="cpuA") for n in (1, 2)],
        "mmu": [op("mmu", n, "B", n, "pmap_protect", raised=["A.ipi"]) for n in (1, 2)],
    }
    merge = Linearizer(journals)
    merge.go_on(lambda record: record["ctx"] != "B" or record["n"] == 1)
    assert names(merge.records) == ["B1", "A.ipi1"]
    merge.go_on()
    assert names(merge.records) == ["B1", "A.ipi1", "B2", "A.ipi2"]


def test_contexts_that_start_asleep_are_those_that_are_woken_before_they_sleep() -> None:
    journals = {
        "lock_manager": [
            op("lock_manager", 1, "A", 1, "wakeup", woke=["B", "C"]),
            op("lock_manager", 2, "B", 1, "sleep"),
            op("lock_manager", 3, "D", 1, "sleep"),
            op("lock_manager", 4, "A", 2, "wakeup", woke=["B", "D"]),
        ]
    }
    assert asleep_at_start(journals) == {"B", "C"}


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
    assert [record["event"] for record in linearize(journals)] == ["pmap_protect", "intr"]


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


def test_events_of_a_processor_without_operations_are_counted_too() -> None:
    """Not those behind operations that nobody has: there is no place for them."""
    journals = sound()
    journals["cpuC"] = [event("C", 1, 0), event("C", 2, 0), event("C", 3, 1)]
    journals["cpuA"] = [event("A", 1, 3)]
    assert events_after(journals) == {"cpuA": [0, 0, 0], "cpuB": [0, 0, 0], "cpuC": [2]}


def test_operations_are_counted_and_events_are_not() -> None:
    assert operations(sound()) == 4 and operations({}) == 0


# -- a part of a run -----------------------------------------------------------------------------


def with_a_wait() -> Journals:
    """A holds a lock; B waits for it, and continues when A has released it. Everybody enters functions in between."""
    return {
        "lock_manager": [
            op("lock_manager", 1, "A", 1, "lock"),
            op("lock_manager", 2, "B", 1, "lock", wait=True),
            op("lock_manager", 3, "A", 2, "unlock", granted=["B"]),
        ],
        "memory": [op("memory", 1, "B", 2, "load")],
        "cpuA": [event("A", 1, 0), event("A", 2, 1), event("A", 3, 2)],
        "cpuB": [event("B", 1, 0), event("B", 2, 1), event("B", 3, 2)],
    }


@pytest.mark.parametrize(
    ("count", "left"),
    [
        (0, {"cpuA": "A@0", "cpuB": "B@0"}),
        (1, {"lock_manager": "A1", "cpuA": "A@0 A@1", "cpuB": "B@0"}),
        (2, {"lock_manager": "A1 B1", "cpuA": "A@0 A@1", "cpuB": "B@0"}),
        (3, {"lock_manager": "A1 B1 A2", "cpuA": "A@0 A@1 A@2", "cpuB": "B@0 B@1"}),
        (4, {"lock_manager": "A1 B1 A2", "memory": "B2", "cpuA": "A@0 A@1 A@2", "cpuB": "B@0 B@1 B@2"}),
        (9, {"lock_manager": "A1 B1 A2", "memory": "B2", "cpuA": "A@0 A@1 A@2", "cpuB": "B@0 B@1 B@2"}),
    ],
)
def test_a_run_is_cut_after_any_number_of_operations(count: int, left: dict[str, str]) -> None:
    """Contexts continue as far as their next operation, and who waits does not."""
    assert parts(cut(with_a_wait(), count)) == left


def test_who_waits_again_does_not_go_on_because_it_was_granted_something_before() -> None:
    journals = with_a_wait()
    journals["lock_manager"].append(op("lock_manager", 4, "B", 3, "lock", wait=True))
    journals["cpuB"].append(event("B", 4, 3))
    assert parts(cut(journals, 5))["cpuB"] == "B@0 B@1 B@2"


@pytest.mark.parametrize(
    ("node", "upto", "left"),
    [
        ("memory", 99, {"cpuA": "A@0", "cpuB": "B@0 B@1 B@2", "locks": "A1 B1 A3 B3", "memory": "A2 B2"}),
        ("cpuB", 1, {"cpuA": "A@0", "cpuB": "B@0", "locks": "A1 B1 A3 B3", "memory": "A2 B2"}),
        ("locks", 2, {"cpuA": "A@0", "cpuB": "B@0", "locks": "A1 B1", "memory": "A2"}),
        ("locks", 1, {"cpuA": "A@0", "cpuB": "B@0", "locks": "A1", "memory": "A2"}),
        ("memory", 0, {"cpuA": "A@0", "cpuB": "B@0", "locks": "A1 B1"}),
    ],
)
def test_what_can_be_followed_of_a_run_has_all_causes(node: str, upto: int, left: dict[str, str]) -> None:
    """A journal ends too early: nothing stays that its lost records have caused, on whatever node."""
    journals = {
        "cpuA": [event("A", 1, 0)],
        "cpuB": [event("B", 1, 0), event("B", 2, 1), event("B", 3, 2)],
        "locks": [
            op("locks", 1, "A", 1, "lock"),
            op("locks", 2, "B", 1, "lock", wait=True),
            op("locks", 3, "A", 3, "unlock", granted=["B"]),
            op("locks", 4, "B", 3, "unlock"),
        ],
        "memory": [op("memory", 1, "A", 2, "store"), op("memory", 2, "B", 2, "store")],
    }
    lost = {**journals, node: journals[node][:upto]}
    part = consistent(lost, ())
    assert parts(part) == left and holes(part) == []
    assert linearize(part), "it has an order"


def test_who_starts_asleep_cannot_go_on_if_its_wakeup_is_lost() -> None:
    """The journals that are left do not say that it slept; the scenario does."""
    journals = {"locks": [op("locks", 1, "A", 1, "wakeup", woke=["B"])], "cpuB": [op("cpuB", 1, "B", 1, "run")]}
    assert parts(consistent(journals, ["B"])) == parts(journals)
    assert parts(consistent({**journals, "locks": []}, ["B"])) == {}
    assert parts(consistent({**journals, "locks": []}, [])) == {"cpuB": "B1"}


def with_a_finding() -> Journals:
    """B has a finding as its second operation; C runs on, and its next record is lost."""
    return {
        "memory": [
            op("memory", 1, "A", 1, "store"),
            op("memory", 2, "B", 1, "load"),
            op("memory", 3, "B", 2, "load"),
            op("memory", 4, "C", 1, "load"),
            op("memory", 6, "C", 3, "load"),
        ],
        "cpuB": [event("B", 1, 2, "finding"), event("B", 2, 2)],
    }


PAST = {"memory": "A1 B1 B2", "cpuB": "B@2"}


@pytest.mark.parametrize(
    ("limit", "left"), [(99, PAST), (3, PAST), (2, {"memory": "A1 B1"}), (1, {"memory": "A1"}), (0, {})]
)
def test_a_run_with_a_finding_is_judged_by_the_findings_past(limit: int, left: dict[str, str]) -> None:
    """Or by the operations that it may have, if the finding came after them."""
    assert parts(judged(with_a_finding(), limit)) == left


@pytest.mark.parametrize(("limit", "whole"), [(5, True), (4, False), (3, False)])
def test_a_run_without_a_finding_is_judged_whole_unless_it_was_ended(limit: int, whole: bool) -> None:
    """A run that has had its last operation was ended there, whatever its processors did before they heard of it."""
    journals = with_a_wait()
    journals["cpuB"].append(event("B", 4, 7))
    assert parts(judged(journals, limit)) == parts(journals if whole else cut(journals, limit))
    assert parts(cut(journals, limit)) != parts(journals)


def test_a_journal_that_is_shorter_or_longer_than_its_node_said_is_told() -> None:
    """A node of which there is no journal is told of elsewhere."""
    journals = {**sound(), "cpuB": []}
    assert cut_short(journals, {"memory": 2, "lock_manager": 2, "cpuA": 2, "cpuB": 0, "mmu": 3}) == []
    assert cut_short(journals, {"mmu": 3, "memory": 5, "cpuA": 1, "cpuB": 1}) == [
        "memory: its journal ends with record 2; it had written 5",
        "cpuA: its journal ends with record 2; it had written 1",
        "cpuB: its journal ends with record 0; it had written 1",
    ]


def test_a_digest_is_of_everything_or_of_what_the_run_is_judged_by() -> None:
    """Behind a finding records may be missing."""
    whole = with_a_wait()
    assert digested(whole, digest(whole), 99) is whole
    stopped = with_a_finding()
    past = digested(stopped, digest(causal_past(stopped)), 99)
    assert past is not None and parts(past) == PAST
    ended = digested(whole, digest(cut(whole, 2)), 2)
    assert ended is not None and parts(ended) == parts(cut(whole, 2))


def test_a_digest_is_of_nothing_that_is_not_there() -> None:
    """Another digest; records that are missing in the part that counts, even if the digest is of what is left."""
    assert digested(with_a_wait(), "0" * 64, 99) is None and digested(with_a_finding(), "0" * 64, 99) is None
    stopped = with_a_finding()
    assert digested(stopped, digest(stopped), 99) is None
    del stopped["memory"][0]
    for limit in (99, 1):
        assert digested(stopped, digest(judged(stopped, limit)), limit) is None


@pytest.mark.parametrize("wrong", [{"nseq": "x"}, {"k": None}, {"cpu": []}, {"granted": 5}])
def test_a_digest_is_of_no_rubbish(wrong: dict[str, object]) -> None:
    """A file may have anything in it: that is not an error here, but another run."""
    journals = with_a_finding()
    journals["memory"][1] = {**journals["memory"][1], **wrong}
    assert digested(journals, digest(journals), 99) is None


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
    assert {
        node: [f"{record['ctx']}{record['n']}" for record in records if "k" in record] for node, records in past.items()
    } == {"memory": ["A1", "B1"], "lock_manager": ["B2"], "cpuB": [], "cpuA": []}
    assert [record["event"] for record in past["cpuB"]] == ["enter", "finding"]
    assert [record["at"] for record in past["cpuA"]] == [1]


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
    assert [record["n"] for record in past["memory"]] == [2]
    assert [f"{record['ctx']}{record['n']}" for record in past["lock_manager"]] == ["A1", "B1", "A3"]


def test_a_wakeup_brings_its_waker_into_the_past() -> None:
    """And so it does if who is woken has been asleep since before the run began, as a child has."""
    for asleep in ([op("lock_manager", 1, "B", 1, "sleep")], []):
        first = len(asleep) + 1
        journals = {
            "lock_manager": [*asleep, op("lock_manager", first, "A", 2, "wakeup", woke=["B"])],
            "memory": [op("memory", 1, "A", 1, "store"), op("memory", 2, "A", 3, "store")],
            "memory1": [op("memory1", 1, "B", first, "load")],
            "cpuB": [event("B", 1, first, "finding")],
        }
        past = parts(causal_past(journals))
        assert past["memory"] == "A1" and past["lock_manager"].endswith("A2") and past["memory1"] == f"B{first}"


def test_of_two_wakeups_each_ends_its_own_sleep() -> None:
    """What woke it the second time is not a cause of what it did after the first."""
    journals = {
        "lock_manager": [
            op("lock_manager", 1, "B", 1, "sleep"),
            op("lock_manager", 2, "A", 1, "wakeup", woke=["B"]),
            op("lock_manager", 3, "B", 3, "sleep"),
            op("lock_manager", 4, "C", 1, "wakeup", woke=["B"]),
        ],
        "memory": [op("memory", 1, "B", 2, "load"), op("memory", 2, "B", 4, "load")],
        "cpuB": [event("B", 1, 2, "finding")],
    }
    assert parts(causal_past(journals)) == {"lock_manager": "B1 A1", "memory": "B2", "cpuB": "B@2"}
    journals["cpuB"] = [event("B", 1, 4, "finding")]
    assert parts(causal_past(journals)) == {"lock_manager": "B1 A1 B3 C1", "memory": "B2 B4", "cpuB": "B@4"}


def test_who_is_going_to_sleep_has_not_been_woken_yet() -> None:
    """The interlock's release is its own; the wakeup is a cause of what comes behind it."""
    journals = {
        "lock_manager": [op("lock_manager", 1, "B", 1, "sleep"), op("lock_manager", 2, "A", 1, "wakeup", woke=["B"])],
        "lock_manager1": [op("lock_manager1", 1, "B", 2, "unlock")],
        "memory": [op("memory", 1, "B", 3, "load")],
        "cpuB": [event("B", 1, 2, "finding")],
    }
    assert parts(causal_past(journals)) == {"lock_manager": "B1", "lock_manager1": "B2", "cpuB": "B@2"}
    journals["cpuB"] = [event("B", 1, 3, "finding")]
    assert parts(causal_past(journals))["lock_manager"] == "B1 A1"


def test_who_raises_an_interrupt_is_no_cause_of_what_its_handler_does_next() -> None:
    """Of the second one only when that is taken."""
    journals = {
        "mmu": [op("mmu", n, "B", n, "pmap_protect", raised=["A.ipi"]) for n in (1, 2)],
        "cpuA": [
            op("cpuA", 1, "A.ipi", 1, "intr", cpu="cpuA"),
            op("cpuA", 2, "A.ipi", 2, "iret", cpu="cpuA"),
            event("A", 3, 2, "finding"),
        ],
    }
    assert parts(causal_past(journals)) == {"mmu": "B1", "cpuA": "A.ipi1 A.ipi2 A@2"}


def test_each_interrupt_brings_who_raised_it_into_the_past() -> None:
    """The first one the first, the second one the second."""
    raises = [op("mmu", n, "B", 2 * n, "pmap_protect", raised=["A.ipi"]) for n in (1, 2)]
    journals = {
        "mmu": raises,
        "memory": [op("memory", n, "B", 2 * n - 1, "store") for n in (1, 2, 3)],
        "cpuA": [
            op("cpuA", 1, "A.ipi", 1, "intr", cpu="cpuA"),
            {**event("A", 2, 1, "finding")},
            op("cpuA", 3, "A.ipi", 2, "intr", cpu="cpuA"),
        ],
    }
    assert parts(causal_past(journals)) == {"mmu": "B2", "memory": "B1", "cpuA": "A.ipi1 A@1"}
    journals["cpuA"] = [journals["cpuA"][0], {**journals["cpuA"][2], "nseq": 2}, event("A", 3, 2, "finding")]
    assert parts(causal_past(journals)) == {"mmu": "B2 B4", "memory": "B1 B3", "cpuA": "A.ipi1 A.ipi2 A@2"}


def test_who_still_waits_has_not_gone_on_in_the_past() -> None:
    """B asked for the lock before C's finding and got it afterwards: what it did then is concurrent with that."""
    journals = with_a_wait()
    journals["lock_manager"].insert(2, op("lock_manager", 3, "C", 1, "unlock"))
    journals["lock_manager"][3] = {**journals["lock_manager"][3], "nseq": 4}
    journals["cpuC"] = [event("C", 1, 0), event("C", 2, 1, "finding")]
    assert parts(causal_past(journals)) == {
        "lock_manager": "A1 B1 C1", "cpuA": "A@0 A@1", "cpuB": "B@0", "cpuC": "C@0 C@1",
    }  # fmt: skip


def test_a_finding_of_who_waits_is_in_its_own_past() -> None:
    """An access that was refused, or a lock that its holder asks for again: nothing has to end that wait."""
    journals: Journals = {
        "lock_manager": [op("lock_manager", 1, "A", 1, "lock", wait=True)],
        "cpuA": [event("A", 1, 0), event("A", 2, 1, "finding")],
    }
    assert parts(causal_past(journals)) == {"lock_manager": "A1", "cpuA": "A@0 A@1"}


def test_a_finding_before_any_operation_has_no_past_but_events() -> None:
    journals = with_a_wait()
    journals["cpuC"] = [event("C", 1, 0), event("C", 2, 0, "finding"), event("C", 3, 0)]
    journals["cpuD"] = [event("D", 1, 0), event("D", 2, 1)]
    assert parts(causal_past(journals)) == {"cpuA": "A@0", "cpuB": "B@0", "cpuC": "C@0 C@0", "cpuD": "D@0"}


def test_a_finding_whose_operation_is_not_there_has_no_past() -> None:
    """A journal has been damaged: an error of its own, whether the processor has other records or none."""
    for processor in ("A", "B"):
        with pytest.raises(LogIncomplete, match="operation 7 of cpuA is in no journal"):
            causal_past({"memory": [op("memory", 1, processor, 1, "load")], "cpuA": [event("A", 1, 7, "finding")]})


def test_an_operation_that_was_refused_ends_its_processors_past() -> None:
    """The memory has refused it, and the processor hears of it with a later answer; a replay stops at once."""
    journals: Journals = {
        "memory": [op("memory", 1, "A", 1, "load"), op("memory", 2, "A", 2, "word_read", refused="free")],
        "cpuA": [event("A", 1, 1), event("A", 2, 2), event("A", 3, 2, "finding"), event("A", 4, 2)],
    }
    past = causal_past(journals)
    assert parts(past) == {"memory": "A1 A2", "cpuA": "A@1 A@2"}
    assert [(record["event"], record["nseq"]) for record in past["cpuA"]] == [("enter", 1), ("finding", 2)]


def test_of_two_findings_the_one_that_does_not_contain_the_other_counts() -> None:
    """A's processor panicked, too, after B's had: whichever comes first in the journals."""
    journals = {
        "memory": [op("memory", 1, "B", 1, "store"), op("memory", 2, "A", 1, "load")],
        "cpuA": [event("A", 1, 1, "finding")],
        "cpuB": [event("B", 1, 1, "finding")],
    }
    assert parts(causal_past(journals)) == {"memory": "B1", "cpuB": "B@1"}


def test_of_two_findings_the_first_one_counts() -> None:
    """Two CPUs may panic before either hears of the other; the past of one must not contain the other."""
    journals = {
        "memory": [op("memory", 1, "A", 1, "store"), op("memory", 2, "B", 1, "store")],
        "cpuA": [event("A", 1, 1, "finding")],
        "cpuB": [event("B", 1, 1, "finding")],
    }
    past = causal_past(journals)
    contexts = [record["ctx"] for records in past.values() for record in records if record["event"] == "finding"]
    assert contexts == ["A"]


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
    assert digest(causal_past(past)) == digest(past)
