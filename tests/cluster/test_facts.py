"""The postmortem knows kernel and nodes from their own declarations: no list beside them that could lag behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.postmortem import analyse, render
from cluster.postmortem.history import by_object, item, partners, report
from cluster.postmortem.order import in_order
from cluster.postmortem.state import Machine
from cluster.postmortem.words import KIND, idles, is_layout, is_number, shown
from shared.errors import DETECTORS, FINDINGS
from shared.messages import OPERATIONS
from shared.struct import Array, Field, Struct, field, link, own, simplelock
from tests.cluster.test_postmortem import SPINS, Story, locked_anon, machine_of


class FactArray(Array, kind=250, element="o"):
    """An array of the tests'."""

    guards = {"o": own("lk")}
    lk = simplelock("fact")


class Fact(Struct, kind=251):
    """A struct that the postmortem's source does not name."""

    guards = {"o": own("lk")}
    lk = simplelock("fact")
    f_size: Field[int] = field("o")
    f_peer: Field[Fact | None] = field("o")
    f_list: Field[Fact | None] = link("o")
    f_array: Field[FactArray | None] = field("o")


@pytest.fixture(autouse=True)
def _known(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the kernel had these structs."""
    monkeypatch.setitem(KIND, "fact", Fact)
    monkeypatch.setitem(KIND, "factarray", FactArray)
    monkeypatch.setattr("cluster.postmortem.words.ARRAYS", {"FactArray"})


@pytest.mark.parametrize("kind", FINDINGS)
def test_every_kind_of_finding_has_a_detector_and_is_explained_in_the_report(kind: str, tmp_path: Path) -> None:
    about = FINDINGS[kind]
    assert about.detector in DETECTORS and len(about.meaning.split()) > 5
    found = {**SPINS, "kind": kind, "detector": about.detector}
    pm = analyse(locked_anon().write(tmp_path / "run", {"finding": found}))
    assert f"({about.meaning})" in " ".join(render(pm, 100).split())


def test_a_field_that_was_not_set_is_told_by_its_declared_type() -> None:
    assert is_number("fact", "f_size") and shown("fact", "f_size", None) == "unset"
    assert not is_number("fact", "f_peer") and shown("fact", "f_peer", None) == "NULL"
    for kind in KIND.values():
        for name, one in kind.fields.items():
            said = shown(kind.kind_name, name, None)
            assert said == ("unset" if one.type == "int" else "NULL"), f"{kind.kind_name}.{name}"


def test_a_link_or_an_array_s_address_tells_nothing_and_a_pointer_does() -> None:
    story = Story().run("0A")
    slots = {name: one.slot for name, one in Fact.fields.items()}
    for name, value in (("f_list", "fact:2#0"), ("f_array", "factarray:1#0"), ("f_peer", "fact:3#0"), ("f_size", 4)):
        story.op("0A", "store", "memory", obj="fact:1#0", field=name, slot=slots[name], value=value)
    assert FactArray.element is not None
    slot = FactArray.element.slot + 5
    story.op("0A", "store", "memory", obj="factarray:1#0", field="[]", slot=slot, value="fact:3#0")
    machine = machine_of(story)
    found = by_object(machine)
    assert set(found) == {"fact:1", "fact:3"}
    told = report("fact:1", machine.steps.some(found["fact:1"]), machine)
    assert [text for line in told.history for text in line.items] == [
        "f_peer = fact:3#0",
        "f_size = 4",
        "f_array[5] = fact:3#0",
    ]
    assert told.elements == {"f_array[5]": "fact:3#0"}


def test_every_field_that_is_called_like_a_link_is_declared_as_one() -> None:
    """So that whoever adds a list to a struct of the kernel cannot forget it."""
    ends = ("next", "prev", "first", "last", "nxt")
    for kind in (one for one in KIND.values() if one.__module__.startswith("shared.")):
        for name, one in kind.fields.items():
            if name.rsplit("_", maxsplit=1)[-1] in ends:
                assert one.link and is_layout(kind.kind_name, name), f"{kind.kind_name}.{name}"


def test_the_nodes_own_contexts_idle_by_the_table_of_operations() -> None:
    idle = {code for code, op in OPERATIONS.items() if op.idle}
    assert idle == {code for code in OPERATIONS if idles(code)} and {"io_next", "disk_next"} <= idle
    for code, op in OPERATIONS.items():  # nobody but a node's own context asks for work, and has to wait for it
        assert op.idle == code.endswith("_next"), code


def test_whatever_names_a_frame_touches_its_page() -> None:
    story = Story().run("0A")
    want = set()
    for number, (code, op) in enumerate(OPERATIONS.items()):
        if op.frames:
            args = {name: [number] if name == "frames" else number for name in op.frames}
            story.op("0A", code, "memory", **args)
            want.add(f"page:{number}")
    assert len(want) > 15 and set(by_object(machine_of(story))) == want


# -- the data: who touched a page, a slot, and what pointed where ------------------------------


def touched(story: Story, name: str, page_size: int = 64) -> list[str]:
    machine = Machine(page_size, lambda va: f"<{va}>").apply_all(
        in_order({node: one.records for node, one in story.journals.items()}).records
    )
    return [item(step, machine) for step in machine.steps.some(by_object(machine).get(name, ()))]


def test_loads_and_stores_of_programs_are_steps_of_their_page() -> None:
    story = Story().run("0A").op("0A", "word_write", "memory", frame=3, offset=8, value=6, va=136, proc=0)
    story.op("1B", "word_read", "memory", frame=3, offset=8, va=136, proc=1, value=6)
    assert touched(story, "page:3") == ["stores 6 at <136>, in page:3", "reads 6 at <136>, in page:3"]


def test_a_request_by_range_touches_what_was_mapped_there() -> None:
    """Whether it was entered in this run, or by the setup, and found by a walk only later."""
    story = Story().run("0A")
    story.op("0A", "pmap_protect", "mmu", pmap=1, start=64, end=256, prot=1)
    story.op("0A", "pmap_enter", "mmu", pmap=1, va=128, frame=4, prot=3, flags=0)
    story.op("0A", "pmap_walk", "mmu", pmap=1, vpn=1, write=0, pte=[3, 0, 0])
    story.op("0A", "pmap_protect", "mmu", pmap=2, start=64, end=256, prot=1)
    story.op("0A", "pmap_remove", "mmu", pmap=1, start=64, end=128)
    story.op("0A", "pmap_remove", "mmu", pmap=1, start=64, end=192)
    story.op("0A", "pmap_unwire", "mmu", pmap=1, va=128)
    first, walk = "pmap_protect(<64> to <255>, prot=r)", "pmap_walk(write=0, finds page:3)"
    assert touched(story, "page:3") == [first, walk, "pmap_remove(<64> to <127>)"]
    assert touched(story, "page:4") == [
        "pmap_enter(<128>, page:4, prot=rw)",
        "pmap_remove(<64> to <191>)",
    ]
    assert touched(story, "page:4", page_size=0) == ["pmap_enter(<128>, page:4, prot=rw)"]  # not known: no guess


def test_a_page_that_takes_another_s_place_is_a_step_of_both() -> None:
    story = Story().run("0A")
    for frame in (3, 4):
        story.op("0A", "pmap_enter", "mmu", pmap=1, va=128, frame=frame, prot=3, flags=0)
    assert len(touched(story, "page:3")) == 2 and len(touched(story, "page:4")) == 1


def test_a_swap_slot_has_a_history() -> None:
    story = Story().run("0A").store("0A", "anon:5#0", "an_swslot", 7)
    story.op("0A", "swap_put", "memory", slot=6, frames=[3, 4], error=0).op("0A", "swap_get", "memory", slot=8, frame=3)
    story.store("0A", "anon:5#0", "an_swslot", 0)
    assert [text.split("(")[0].strip() for text in touched(story, "slot:7")] == [
        "anon:5.an_swslot = 7",
        "swap_put",
        "anon:5.an_swslot = 0",
    ]
    assert len(touched(story, "slot:6")) == len(touched(story, "slot:8")) == 1 and not touched(story, "slot:0")


def test_an_anon_s_pages_are_all_those_that_it_had_during_the_run() -> None:
    story = Story().run("0A").store("0A", "anon:5#0", "an_page", "page:3#0").store("0A", "anon:5#0", "an_page", None)
    story.store("0A", "page:4#0", "uanon", "anon:5#0").store("0A", "page:4#0", "uanon", None)
    machine = machine_of(story)
    history = by_object(machine)
    assert partners("anon:5", machine, history) == ["page:4", "page:3"]
    assert partners("page:3", machine, history) == partners("page:4", machine, history) == ["anon:5"]
