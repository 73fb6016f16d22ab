"""One struct's history: which steps are steps of it, how each is told, and which structs belong to it."""

from __future__ import annotations

from typing import Any

import pytest

from cluster.postmortem.history import (
    MAX_FRAMES,
    Line,
    by_object,
    concerns,
    hold_report,
    item,
    lines,
    lock_words,
    partners,
    related,
    report,
)
from cluster.postmortem.order import in_order
from cluster.postmortem.state import Machine
from shared.port.struct import KIND_NAMES
from tests.cluster.test_postmortem import Story, machine_of


class Stored(Story):
    """A story with stores to any field, or element, of any struct."""

    def put(self, obj: str, name: str, value: object, ctx: str = "0A") -> Stored:
        kind = KIND_NAMES[obj.split(":", maxsplit=1)[0]]
        field, bracket, index = name.partition("[")
        if bracket:
            assert kind.element is not None
            slot, field = kind.element.slot + int(index[:-1]), "[]"
        else:
            slot = kind.fields[field].slot
        self.op(ctx, "store", "memory", obj=obj, field=field, slot=slot, value=value)
        return self

    def did(self, event: str, node: str = "memory", ctx: str = "0A", **args: Any) -> Stored:
        self.op(ctx, event, node, **args)
        return self


def last(story: Story, page_size: int = 0) -> tuple[Any, Machine]:
    """The last step of a story, and the machine that it leaves."""
    records = in_order({node: journal.records for node, journal in story.journals.items()}).records
    machine = Machine(page_size).apply_all(records)
    return machine.steps[len(machine.steps) - 1], machine


def touched(story: Story, page_size: int = 0) -> set[str]:
    """The structs that the last step of a story concerns."""
    return concerns(*last(story, page_size))


def amap_with(*anons: str) -> Stored:
    """amap:1 whose am_anon is amaparray:2, with these anons in it."""
    story = Stored().put("amap:1#0", "am_anon", "amaparray:2#0")
    for index, anon in enumerate(anons):
        story.put("amaparray:2#0", f"[{index}]", anon)
    return story


# -- what concerns a struct ---------------------------------------------------------------


def test_a_store_concerns_the_struct_and_the_one_whose_handle_is_stored() -> None:
    assert touched(Stored().put("anon:5#0", "an_ref", 1)) == {"anon:5"}
    assert touched(Stored().put("anon:5#0", "an_page", "page:3#1")) == {"anon:5", "page:3"}
    assert touched(Stored().put("uvm:0#0", "afree", "anon:5#1")) == {"uvm:0", "anon:5"}


def test_a_load_concerns_nobody() -> None:
    assert touched(Stored().did("load", obj="anon:5#0", field="an_ref", slot=2, value=1)) == set()


def test_an_amaps_array_is_the_amap() -> None:
    """Nobody asks for amaparray:2; it has no life of its own. An array that nobody has pointed to is itself."""
    assert touched(amap_with("anon:5#0")) == {"amap:1", "anon:5"}
    assert touched(Stored().put("amaparray:2#0", "[0]", 7)) == {"amaparray:2"}


@pytest.mark.parametrize(
    ("obj", "field", "value"),
    [
        ("anon:5#0", "an_nxt", "anon:6#0"),
        ("page:3#0", "pageq_next", "page:4#0"),
        ("amap:1#0", "am_slots", "amaparray:2#0"),
        ("amaparray:2#0", "amap", "amap:1#0"),
    ],
)
def test_links_and_pointers_to_arrays_are_left_out(obj: str, field: str, value: str) -> None:
    """They say where structs lie, and nothing that happens to them."""
    assert touched(Stored().put(obj, field, value)) == set()


@pytest.mark.parametrize("event", ["alloc", "free", "renew"])
def test_a_life_that_begins_or_ends_concerns_its_struct(event: str) -> None:
    assert touched(Stored().did(event, obj="anon:5#0", gen=1)) == {"anon:5"}


@pytest.mark.parametrize("event", ["lock", "try", "unlock", "upgrade", "downgrade"])
def test_what_is_done_to_a_lock_concerns_its_struct(event: str) -> None:
    assert touched(Stored().did(event, "lock_manager", lock="anon:5.an_lock")) == {"anon:5"}


def test_who_sleeps_and_who_wakes_concerns_the_channels_struct() -> None:
    assert touched(Stored().did("sleep", "lock_manager", chan="page:3.flags", wmesg="w", fn="f")) == {"page:3"}
    assert touched(Stored().did("wakeup", "lock_manager", chan="page:3", woke=[])) == {"page:3"}


def test_what_is_done_to_frames_concerns_their_pages() -> None:
    assert touched(Stored().did("frame_zero", frame=3)) == {"page:3"}
    assert touched(Stored().did("frame_copy", frame=3, source=4)) == {"page:3", "page:4"}
    assert touched(Stored().did("frame_zero", frame="3")) == set(), "a file may have anything there"


def test_what_is_done_to_addresses_concerns_the_pages_behind_them() -> None:
    """A request about a range says no frame; who has entered what is there says it."""
    story = Stored().did("pmap_enter", "mmu", pmap=1, va=128, frame=3, prot=3, flags=0)
    story.did("pmap_remove", "mmu", pmap=1, start=64, end=192)
    assert touched(story, page_size=64) == {"page:3"}


@pytest.mark.parametrize(("event", "what"), [("enter", "an entry"), ("exit", "an exit"), ("claim", "a claim")])
def test_kernel_events_concern_nobody(event: str, what: str) -> None:
    story = Stored()
    story.enter("0A", "f").event("0A", event, fn="f", obj="anon:5#0")
    assert touched(story) == set(), what


def test_io_concerns_its_swap_slots_and_its_pages() -> None:
    """A cluster is as many slots in a row as it has frames; a read is one."""
    assert touched(Stored().did("swap_put", "mmu", slot=3, buf="buf:1#0", frames=[7, 9])) == {
        "slot:3", "slot:4", "page:7", "page:9",
    }  # fmt: skip
    assert touched(Stored().did("swap_get", "mmu", slot=3, frame=7)) == {"slot:3", "page:7"}
    assert touched(Stored().did("swap_get", "mmu", slot="3", frame=7)) == {"page:7"}


def test_a_file_with_a_cluster_without_end_is_bounded() -> None:
    many = touched(Stored().did("swap_put", "mmu", slot=1, frames=["x"] * (MAX_FRAMES + 5)))
    assert many == {f"slot:{number}" for number in range(1, MAX_FRAMES + 1)}


def test_a_slot_is_concerned_when_it_is_given_and_when_it_is_taken_away() -> None:
    """To an anon, or to a page of an aobj; slot 0 is none."""
    assert touched(Stored().put("anon:5#0", "an_swslot", 1)) == {"anon:5", "slot:1"}
    story = Stored().put("anon:5#0", "an_swslot", 4)
    assert touched(story) == {"anon:5", "slot:4"}
    assert touched(story.put("anon:5#0", "an_swslot", 6)) == {"anon:5", "slot:4", "slot:6"}
    assert touched(story.put("anon:5#0", "an_swslot", 0)) == {"anon:5", "slot:6"}
    story = Stored().put("aobj:2#0", "u_swslots", "aobjslots:3#0").put("aobjslots:3#0", "[1]", 8)
    assert touched(story) == {"aobj:2", "slot:8"}


def test_other_numbers_are_no_slots() -> None:
    """Neither another field's, nor an element's of an array that nobody has pointed to, nor what is not a number."""
    assert touched(Stored().put("anon:5#0", "an_ref", 4)) == {"anon:5"}
    assert touched(Stored().put("slotarray:1#0", "[0]", 4)) == {"slotarray:1"}
    assert touched(Stored().put("aobjslots:3#0", "[0]", 4)) == {"aobjslots:3"}
    assert touched(Stored().put("anon:5#0", "an_swslot", True)) == {"anon:5"}
    story = Stored().did("store", obj="?", field="an_swslot", slot=4, value=3)
    assert touched(story) == set()


def test_history_is_by_struct_and_in_order() -> None:
    story = amap_with("anon:5#0").put("anon:5#0", "an_ref", 1).put("anon:6#0", "an_ref", 1)
    story.did("lock", "lock_manager", lock="anon:5.an_lock", fn="f")
    _, machine = last(story)
    assert {name: list(places) for name, places in by_object(machine).items()} == {
        "amap:1": [1], "anon:5": [1, 2, 4], "anon:6": [3],
    }  # fmt: skip


# -- how a step is told -------------------------------------------------------------------


def test_a_store_is_told_with_the_value_before() -> None:
    """If the records have shown it, and it was another; of a union, not what the other name had."""
    story = Stored().put("anon:5#0", "an_ref", 1)
    assert item(*last(story)) == "anon:5.an_ref = 1"
    assert item(*last(story.put("anon:5#0", "an_ref", 1))) == "anon:5.an_ref = 1"
    assert item(*last(story.put("anon:5#0", "an_ref", 2))) == "anon:5.an_ref = 2 (was 1)"
    story = Stored().put("page:3#0", "flags", 0x08).put("page:3#0", "flags", 0x18)
    assert item(*last(story)) == "page:3.flags = PG_CLEAN|PG_BUSY (was PG_CLEAN)"
    story = Stored().put("anon:5#0", "an_nxt", "anon:6#0").put("anon:5#0", "an_page", "page:3#0")
    assert item(*last(story)) == "anon:5.an_page = page:3#0"
    story = Stored().put("anon:5#0", "an_page", None).put("anon:5#0", "an_page", "page:3#0")
    assert item(*last(story)) == "anon:5.an_page = page:3#0"


def test_an_element_of_an_amaps_array_is_told_by_the_amaps_field() -> None:
    assert item(*last(amap_with("anon:5#0", "anon:6#0"))) == "amap:1.am_anon[1] = anon:6#0"
    assert item(*last(amap_with("anon:5#0").put("amaparray:2#0", "[0]", None))) == "amap:1.am_anon[0] = NULL"
    assert item(*last(Stored().put("amaparray:2#0", "[1]", 3))) == "amaparray:2[1] = 3"
    odd = amap_with().did("store", obj="amaparray:2#0", field="amap", slot=2, value="amap:1#0")
    assert item(*last(odd)) == "amaparray:2.amap = amap:1#0"


def test_a_step_of_a_program_is_told_by_the_scenarios_places() -> None:
    """An address is a place of a region; a file's is a page of the file, which the record says itself."""
    for args, words in (
        ({"at": 256, "length": 64}, "begins mlock at <256>, length 64"),
        ({"at": 3, "file": "F"}, "begins mlock at 3, file F"),
        ({"at": "x"}, "begins mlock at x"),
        ({"length": 64}, "begins mlock length 64"),
        ("odd", "begins mlock"),
    ):
        story = Story().run("0A").event("0A", "call", op="mlock", args=args)
        records = in_order({node: journal.records for node, journal in story.journals.items()}).records
        machine = Machine(0, "<{}>".format).apply_all(records)
        assert item(machine.steps[1], machine) == words


def test_an_access_is_told_by_its_address() -> None:
    story = Stored().did("word_read", frame=3, va=256, offset=0, proc=0, value=7)
    assert item(*last(story)) == "reads 7 at 0x100, in page:3"


def test_what_one_call_did_in_a_row_is_one_line() -> None:
    story = Stored()
    story.run("0A").enter("0A", "trap").enter("0A", "uvm_fault")
    story.put("anon:5#0", "an_ref", 1).put("anon:5#0", "an_ref", 2)
    story.run("1B").put("anon:5#0", "an_ref", 3, "1B")
    story.put("anon:5#0", "an_ref", 4)
    machine = machine_of(story)
    wanted = by_object(machine)["anon:5"]
    rows = lines(machine.steps.some(wanted), machine)
    assert [(row.ctx, row.cpu, row.first, row.last, row.fn, row.caller, row.ns) for row in rows] == [
        ("0A", "cpu0", 2, 3, "uvm_fault", "trap", [2, 3]),
        ("1B", "cpu1", 2, 2, "", "", [2]),
        ("0A", "cpu0", 4, 4, "uvm_fault", "trap", [4]),
    ]
    assert rows[0].items == ["anon:5.an_ref = 1", "anon:5.an_ref = 2 (was 1)"]
    assert [row.where for row in rows] == ["uvm_fault < trap", "user mode", "uvm_fault < trap"]
    assert [(row.finding, row.key, row.gap, row.times, row.telling) for row in rows] == [(False, -1, 0, 0, [])] * 3


def test_the_same_function_called_again_is_another_line() -> None:
    story = Stored()
    for value in (1, 2):
        story.enter("0A", "f").put("anon:5#0", "an_ref", value).leave("0A", "f")
    machine = machine_of(story)
    assert len(lines(machine.steps.some(by_object(machine)["anon:5"]), machine)) == 2


def test_a_finding_and_a_programs_step_begin_a_line() -> None:
    story = Stored()
    story.run("0A").put("anon:5#0", "an_ref", 1).event("0A", "call", op="mlock", args={})
    story.event("0A", "finding", finding={"text": "panic: none"})
    machine = machine_of(story)
    rows = lines(machine.steps, machine)
    assert [(row.items, row.finding) for row in rows] == [
        (["gets the CPU", "anon:5.an_ref = 1"], False),
        (["begins mlock"], False),
        (["*** finding: panic: none"], True),
    ]


def test_where_a_context_is_that_is_in_no_function() -> None:
    assert Line("A", "cpu1", 1, 1, "", "").where == "user mode"
    assert Line("swap", "swap_io", 1, 1, "", "").where == "the device"
    assert Line("A", "cpu1", 1, 1, "f", "").where == "f"


def test_a_struct_is_not_named_again_in_its_own_history() -> None:
    story = amap_with("anon:5#0").put("amap:1#0", "am_ref", 2)
    story.did("lock", "lock_manager", lock="amap:1.am_l", mode="w", fn="f")
    story.did("sleep", "lock_manager", chan="amap:1", wmesg="w", fn="f")
    machine = machine_of(story)
    rows = lines(machine.steps, machine, within="amap:1")
    assert [text for row in rows for text in row.items] == [
        "am_anon = amaparray:2#0", "am_anon[0] = anon:5#0", "am_ref = 2", "locks am_l", 'sleeps "w"',
    ]  # fmt: skip
    story = Stored().put("amaparray:2#0", "[0]", 3)
    machine = machine_of(story)
    assert lines(machine.steps, machine, within="amaparray:2")[0].items == ["[0] = 3"]


# -- a struct at the end ------------------------------------------------------------------


def test_a_report_has_the_fields_as_the_records_left_them() -> None:
    story = Stored().put("anon:5#0", "an_ref", 1).put("anon:5#0", "an_page", "page:3#1").put("anon:6#0", "an_ref", 9)
    machine = machine_of(story)
    anon = report("anon:5", machine.steps.some(by_object(machine)["anon:5"]), machine)
    assert (anon.name, anon.kind, anon.life, anon.elements, anon.lock) == ("anon:5", "anon", 0, {}, None)
    assert anon.fields == {"an_ref": "1", "an_page": "page:3#1"}
    assert [line.items for line in anon.history] == [["an_ref = 1", "an_page = page:3#1"]]


def test_of_two_names_for_one_slot_the_one_that_was_stored_is_told() -> None:
    """an_page of an anon that is in use, an_nxt of one on the free list."""
    story = Stored().put("anon:5#0", "an_page", "page:3#0").put("anon:5#0", "an_nxt", "anon:6#0")
    assert report("anon:5", [], machine_of(story)).fields == {"an_nxt": "anon:6#0"}
    odd = Stored().did("store", obj="anon:5#0", field="?", slot=KIND_NAMES["anon"].fields["an_ref"].slot, value=4)
    assert report("anon:5", [], machine_of(odd)).fields == {"an_ref": "4"}, "a slot with one name is that field"


def test_flags_in_a_report_are_as_ddb_has_them() -> None:
    assert report("page:3", [], machine_of(Stored().put("page:3#2", "flags", 0x18))).fields["flags"].startswith("0x18<")


def test_a_report_of_an_amap_has_its_arrays_elements() -> None:
    story = amap_with("anon:5#0", "anon:6#0").put("amap:4#0", "am_anon", "amaparray:3#0")
    story.put("amaparray:3#0", "[0]", "anon:7#0").put("amap:1#0", "am_slots", "amaparray:8#0")
    story.put("amaparray:8#0", "[0]", 1).put("amaparray:8#0", "amap", "amap:1#0")
    assert report("amap:1", [], machine_of(story)).elements == {
        "am_anon[0]": "anon:5#0", "am_anon[1]": "anon:6#0", "am_slots[0]": "1",
    }  # fmt: skip


def test_what_is_no_struct_has_a_history_and_no_fields() -> None:
    story = Stored().put("anon:5#0", "an_swslot", 4)
    machine = machine_of(story)
    slot = report("slot:4", machine.steps.some(by_object(machine)["slot:4"]), machine)
    assert (slot.kind, slot.life, slot.fields) == ("slot", 0, {})
    assert slot.history[0].items == ["anon:5.an_swslot = 4"]


def test_a_life_is_that_at_the_end() -> None:
    story = Stored().put("anon:5#0", "an_ref", 1).did("renew", obj="anon:5#0", gen=1)
    anon = report("anon:5", [], machine_of(story))
    assert anon.life == 1 and anon.fields["an_ref"] == "unset"


# -- what belongs to it -------------------------------------------------------------------


def test_pages_of_an_anon_are_those_it_ever_had_the_last_ones_first() -> None:
    story = Stored().put("anon:5#0", "an_page", "page:1#0").put("anon:5#0", "an_page", "page:2#0")
    story.put("anon:5#0", "an_page", None).put("anon:6#0", "an_page", "page:3#0")
    machine = machine_of(story)
    history = by_object(machine)
    assert partners("anon:5", machine, history) == ["page:2", "page:1"]
    assert partners("page:1", machine, history) == ["anon:5"], "who points to it, though it never pointed back"
    assert partners("page:3", machine, history) == ["anon:6"] and partners("amap:1", machine, history) == []


def test_a_page_of_an_earlier_life_counts() -> None:
    story = Stored().put("anon:5#0", "an_page", "page:1#0").did("renew", obj="anon:5#0", gen=1)
    machine = machine_of(story.put("anon:5#1", "an_page", None))
    assert partners("anon:5", machine, by_object(machine)) == ["page:1"]


def test_an_anon_belongs_to_a_page_that_still_points_to_it() -> None:
    """The page's own store came first: what it says at the end counts, and so does what it said on the way."""
    story = Stored().put("page:3#0", "uanon", "anon:5#0").put("page:4#0", "uanon", "anon:5#0")
    story.put("page:4#0", "uanon", None)
    machine = machine_of(story)
    history = by_object(machine)
    assert partners("anon:5", machine, history) == ["page:4", "page:3"]
    assert partners("page:4", machine, history) == ["anon:5"]


def test_what_setup_left_belongs_to_it_too() -> None:
    """Loads have shown it, though nobody stored it."""
    slot = KIND_NAMES["anon"].fields["an_page"].slot
    story = Stored().did("load", obj="anon:5#0", field="an_page", slot=slot, value="page:3#0")
    story.put("anon:5#0", "an_ref", 1)
    machine = machine_of(story)
    assert partners("anon:5", machine, by_object(machine)) == ["page:3"]
    assert partners("page:3", machine, by_object(machine)) == ["anon:5"]


def test_a_page_is_related_to_its_anons_and_to_the_amaps_that_these_are_in() -> None:
    story = amap_with("anon:4#0", "anon:5#0").put("anon:5#0", "an_page", "page:3#0")
    story.put("amap:7#0", "am_ppref", "amaparray:9#0").put("amaparray:9#0", "[0]", "anon:5#0")
    machine = machine_of(story)
    history = by_object(machine)
    assert related("anon:5", machine, history) == ["page:3", "amap:1"]
    assert related("page:3", machine, history) == ["anon:5", "amap:1"]
    assert related("amap:1", machine, history) == []


def test_a_lock_is_told_as_lockdebug_prints_it() -> None:
    story = Stored()
    story.run("0A").run("1B").lock("0A", "anon:5.an_lock", "f").lock("1B", "anon:5.an_lock", "g", wait=True)
    held = {"ctx": "0A", "mode": "w", "since": "f", "n": 2}
    assert lock_words("anon:5.an_lock", machine_of(story)) == {
        "lock": "anon:5.an_lock", "kind": "simple_lock", "class": "anon", "holders": [held],
        "waiters": [{"ctx": "1B", "fn": "g", "mode": "w", "n": 2}], "last_locked": held, "last_unlocked": None,
    }  # fmt: skip


def test_a_lock_that_sleeps_is_a_lockmgr_lock_and_remembers_who_unlocked_it() -> None:
    story = Stored()
    story.run("0A").did("lock", "lock_manager", lock="vmmap:1.lock", mode="r", fn="f")
    story.enter("0A", "g").unlock("0A", "vmmap:1.lock")
    stored = lock_words("vmmap:1.lock", machine_of(story))
    assert (stored["kind"], stored["class"], stored["holders"], stored["waiters"]) == ("lockmgr", "map", [], [])
    assert stored["last_locked"] == {"ctx": "0A", "mode": "r", "since": "f", "n": 2}
    assert stored["last_unlocked"] == {"ctx": "0A", "mode": "w", "since": "g", "n": 3}


def test_a_lock_of_the_globals_is_told_by_its_c_name_and_an_unknown_one_as_it_is() -> None:
    story = Stored()
    story.run("0A").lock("0A", "uvm:0.pageqlock", "f").lock("0A", "zebra:1.stripes", "f")
    machine = machine_of(story)
    assert lock_words("uvm:0.pageqlock", machine)["lock"] == "uvm.pageqlock"
    odd = lock_words("zebra:1.stripes", machine)
    assert (odd["lock"], odd["kind"], odd["class"]) == ("zebra:1.stripes", "simple_lock", "")


def test_who_waited_and_goes_on_waits_no_more() -> None:
    """A waiter whose grant's record is lost: it has performed another operation since."""
    story = Stored()
    story.run("0A").run("1B").lock("0A", "anon:5.an_lock", "f").lock("1B", "anon:5.an_lock", "g", wait=True)
    machine = machine_of(story)
    machine.contexts["1B"].wait = None
    assert lock_words("anon:5.an_lock", machine)["waiters"] == []
    del machine.contexts["1B"]
    assert lock_words("anon:5.an_lock", machine)["waiters"] == []


def test_a_hold_is_plain_data() -> None:
    story = Story().run("0A").lock("0A", "anon:5.an_lock", "f")
    assert hold_report(machine_of(story).locks["anon:5.an_lock"].holders[0]) == {
        "ctx": "0A", "mode": "w", "since": "f", "n": 2,
    }  # fmt: skip
