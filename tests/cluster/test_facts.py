"""A fact is declared once: no list beside the structs and the operations that could lag behind them."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from cluster.boot import prepare
from cluster.cli import describe
from cluster.cli.output import Output
from cluster.postmortem.analyse import analyse
from cluster.postmortem.history import by_object, item, partners, report
from cluster.postmortem.order import in_order
from cluster.postmortem.state import Machine
from cluster.postmortem.views.text import render
from cluster.postmortem.waits import Graph
from cluster.postmortem.words import idles, in_words, is_layout, is_number, shown
from cluster.search.deviate import Deviate
from cluster.sim.engine import Sim
from nodes.build import routes
from nodes.memory import Memory
from nodes.node import Node
from shared.detectors.provenance import MOVES, Trail
from shared.detectors.verdict import snapshot_of, waits_of
from shared.errors import Exit
from shared.findings import DETECTORS, FINDINGS, Finding
from shared.journal.record import operation_record
from shared.port.port import here
from shared.port.struct import KIND_NAMES, Array, Field, Struct, field, link, own, simplelock
from shared.wire.messages import OPERATIONS, WAIT, Op
from tests.cluster.test_postmortem import SPINS, Story, locked_anon, machine_of
from tests.kit import Script, Toy, scenario, searched


class FactArray(Array, kind=250, element="o"):
    """An array of the tests'."""

    guards = {"o": own("lk")}
    lk = simplelock("fact")


class Fact(Struct, kind=251):
    """A struct that no source but this one names."""

    guards = {"o": own("lk")}
    lk = simplelock("fact")
    f_size: Field[int] = field("o")
    f_peer: Field[Fact | None] = field("o")
    f_list: Field[Fact | None] = link("o")
    f_array: Field[FactArray | None] = field("o")


@pytest.mark.parametrize("kind", FINDINGS)
def test_every_kind_of_finding_has_a_detector_and_is_explained_in_the_report(kind: str, tmp_path: Path) -> None:
    about = FINDINGS[kind]
    assert about.detector in DETECTORS and len(about.meaning.split()) > 5
    finding = {**SPINS, "kind": kind, "detector": about.detector}
    pm = analyse(locked_anon().write(tmp_path / "run", {"finding": finding}))
    assert f"({about.meaning})" in " ".join(render(pm, 100).split())


@pytest.mark.parametrize("kind", FINDINGS)
def test_a_finding_s_kind_says_who_saw_it_and_how_the_command_ends(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    finding = Finding(kind, "text")
    assert finding.detector == FINDINGS[kind].detector and finding.level({finding.detector: "note"}) == "note"
    monkeypatch.setitem(FINDINGS, kind, FINDINGS[kind]._replace(exit=Exit.DIVERGED))
    assert describe.verdict(Output(True), False, None, finding) == Exit.DIVERGED
    assert Finding.from_file(finding.as_dict()) == finding


def test_a_finding_of_no_kind_is_a_mistake_of_ours_unless_a_file_tells_of_it() -> None:
    with pytest.raises(KeyError):
        Finding("no-such-kind", "text")
    assert Finding.from_file({"kind": "no-such-kind", "held": [1], "stack": 2}) == Finding(
        "no-such-kind", "", detector="unknown", held=[{"lock": "", "mode": "", "since": ""}]
    )


def test_a_field_that_was_not_set_is_told_by_its_declared_type() -> None:
    assert is_number("fact", "f_size") and shown("fact", "f_size", None) == "unset"
    assert not is_number("fact", "f_peer") and shown("fact", "f_peer", None) == "NULL"
    for kind in KIND_NAMES.values():
        for name, declared in kind.fields.items():
            said = shown(kind.kind_name, name, None)
            assert said == ("unset" if declared.type == "int" else "NULL"), f"{kind.kind_name}.{name}"


def test_a_link_or_an_array_s_address_tells_nothing_and_a_pointer_does() -> None:
    story = Story().run("0A")
    slots = {name: field.slot for name, field in Fact.fields.items()}
    for name, value in (("f_list", "fact:2#0"), ("f_array", "factarray:1#0"), ("f_peer", "fact:3#0"), ("f_size", 4)):
        story.op("0A", "store", "memory", obj="fact:1#0", field=name, slot=slots[name], value=value)
    assert FactArray.element is not None
    slot = FactArray.element.slot + 5
    story.op("0A", "store", "memory", obj="factarray:1#0", field="[]", slot=slot, value="fact:3#0")
    machine = machine_of(story)
    steps = by_object(machine)
    assert set(steps) == {"fact:1", "fact:3"}
    told = report("fact:1", machine.steps.some(steps["fact:1"]), machine)
    assert [text for line in told.history for text in line.items] == [
        "f_peer = fact:3#0",
        "f_size = 4",
        "f_array[5] = fact:3#0",
    ]
    assert told.elements == {"f_array[5]": "fact:3#0"}


def test_a_new_struct_needs_no_second_place() -> None:
    """Allocated, filled, raced for and held forever in the engine: journals, detectors and postmortem all know it."""

    def filling() -> None:
        fact = here.port.alloc(Fact)
        fact.f_size, fact.f_list, fact.f_peer, fact.f_array = 3, None, fact, here.port.alloc(FactArray, 2)
        fact.f_array[1] = fact

    def holding() -> None:
        Fact.at(0).lk.lock()
        Fact.at(0).f_size = 4

    def racing() -> None:
        Fact.at(0).f_size = 5
        Fact.at(0).lk.lock()

    toy = Toy(filling, {"A": (0, holding), "B": (1, racing)}, {"lockdebug": "off"})
    finding = toy.run(Script("A", "A", "B", "B"), record=True)
    assert finding is not None and (finding.kind, finding.subject) == ("data-race", "fact:0")
    assert [note.kind for note in toy.sim.notes] == [] and toy.sim.journals is not None
    toy = Toy(filling, {"A": (0, holding), "B": (1, racing)}, {"lockdebug": "off", "race": "off"})
    finding = toy.run(Script("A", "A", "B", "B"), record=True)
    assert finding is not None and (finding.kind, finding.subject) == ("spin-forever", "fact:0")
    machine = Machine().apply_all(
        in_order({name: journal.records for name, journal in toy.sim.journals.items()}).records
    )
    history = by_object(machine)
    told = report("fact:0", machine.steps.some(history["fact:0"]), machine)
    assert told.fields["f_size"] in ("4", "5")
    assert {text.split(" (")[0] for line in told.history for text in line.items} >= {"locks lk", "f_size = 5"}
    words = Graph(machine, {}).graph.words("B")
    assert words == "B spins in user for fact:0.lk, held by A since user (its operation 2)"


@pytest.fixture
def touch(monkeypatch: pytest.MonkeyPatch) -> Op:
    """A new operation: it is about two frames and a struct, and its answer is a number."""
    monkeypatch.setitem(OPERATIONS, "fact_rest", Op("memory", "", (), sleeps=True, result="work", idle=True))
    op = Op("memory", "frame", ("source", "obj", "peek?", "-"), result="answer")
    monkeypatch.setitem(OPERATIONS, "fact_touch", op)
    return op


def test_journals_and_postmortem_need_no_change_for_a_new_operation(touch: Op) -> None:
    record = operation_record("fact_touch", 3, (4, Fact.at(1), True, "not recorded"), 7, [])
    want = {"event": "fact_touch", "frame": 3, "source": 4, "obj": "fact:1#0", "peek": True, "answer": 7}
    assert record == want
    assert in_words(record) == "fact_touch(frame=3, source=4, obj=fact:1#0, peek=True, answer=7)"
    story = Story().run("0A").run("1B").run("2C")
    story.op("0A", "fact_touch", "memory", **{key: value for key, value in record.items() if key != "event"})
    story.op("1B", "fact_touch", "memory", frame=5, source=6, obj="fact:1#0", wait=True)
    story.op("2C", "fact_rest", "memory", wait=True)
    machine = machine_of(story)
    assert set(by_object(machine)) == {"page:3", "page:4", "page:5", "page:6"}
    graph = Graph(machine, {})
    assert graph.graph.facts.waits.keys() == {"1B"} and machine.doing(machine.contexts["2C"]) == "idle"
    assert graph.graph.words("1B") == "1B waits for the answer to fact_touch"
    trail = Trail({})
    trail.add_record({**record, "ctx": "A", "n": 1}, ["uvm_fault"])
    (move,) = trail
    assert (move.code, move.target, move.args, move.result) == ("fact_touch", 3, (4, "fact:1#0", True, None), 7)
    assert routes(scenario("S3a").machine)["fact_touch"](3) == "memory"


def test_a_kind_of_node_performs_its_operations_and_no_others(touch: Op) -> None:
    """Else a request would fail in the middle of a run, or a method that is never called would be taken for one."""
    with pytest.raises(AssertionError, match=r"Lacking and OPERATIONS differ: \['fact_rest', 'fact_touch'\]"):

        class Lacking(Memory):
            kind = "memory"

    with pytest.raises(AssertionError, match=r"Other\.op_fact_touch: \['source', 'obj', 'look', 'n'\]"):

        class Other(Memory):
            def op_fact_rest(self, ctx: str, target: int) -> object:
                return WAIT

            def op_fact_touch(self, ctx: str, frame: int, source: int, obj: Struct, look: bool, n: int) -> int:
                return n

    with pytest.raises(AssertionError, match=r"Surplus and OPERATIONS differ: \['fact_gone'\]"):

        class Surplus(Node):
            def op_fact_gone(self, ctx: str, target: int) -> None: ...

    class Good(Memory):
        def op_fact_rest(self, ctx: str, target: int) -> object:
            return WAIT

        def op_fact_touch(self, ctx: str, frame: int, source: int, obj: Struct, peek: bool = False, n: int = 0) -> int:
            return n


@pytest.mark.parametrize("name", ["E1-shipped", "E46", "E53-shipped", "S3a-shipped"])
def test_verdict_and_postmortem_know_the_same_waits(name: str) -> None:
    """The verdict from the nodes' state, the postmortem from the records alone; in E46 a thread pauses."""
    scene = scenario(name).with_detect({"deadlock": "note"})
    machine, image = prepare(scene)
    sim = Sim(machine, image)
    sim.execute(Deviate(searched(name).deviations), record=True)
    assert sim.journals is not None
    told = Graph(
        Machine().apply_all(in_order({node: journal.records for node, journal in sim.journals.items()}).records), {}
    )
    facts, waiting = told.graph.facts, waits_of(machine.state(), snapshot_of(machine.state()))
    assert {ctx: (wait.kind, wait.what) for ctx, wait in facts.waits.items()} == {
        ctx: (wait.kind, wait.what) for ctx, wait in waiting.waits.items()
    }
    assert bool(waiting.waits) is not (name == "E46")
    for wait in waiting.waits.values():
        assert [hold[:3] for hold in facts.holders.get(wait.what, ())] == [
            hold[:3] for hold in waiting.holders.get(wait.what, ())
        ]


def test_provenance_follows_whatever_brings_words_into_a_frame_or_out_of_it() -> None:
    about = {code for code, op in OPERATIONS.items() if op.frames and op.node != "mmu"}
    assert about - MOVES == {"word_read"}  # which leaves its word where it was


def test_every_field_that_is_called_like_a_link_is_declared_as_one() -> None:
    """So that whoever adds a list to a struct of the kernel cannot forget it."""
    ends = ("next", "prev", "first", "last", "nxt")
    for kind in (kind for kind in KIND_NAMES.values() if kind.__module__.startswith("shared.")):
        for name, declared in kind.fields.items():
            if name.rsplit("_", maxsplit=1)[-1] in ends:
                assert declared.link and is_layout(kind.kind_name, name), f"{kind.kind_name}.{name}"


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
        in_order({node: journal.records for node, journal in story.journals.items()}).records
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


def test_no_class_is_longer_than_350_lines() -> None:
    """What is longer has parts that can be read alone."""
    root = Path(__file__).parents[2]
    for package in ("shared", "nodes", "cluster"):
        for file in (root / package).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.ClassDef):
                    assert node.end_lineno is not None
                    assert node.end_lineno - node.lineno < 350, f"{file.relative_to(root)}: {node.name}"
