"""Kernel structs: accesses are operations, markings are guards, handles have generations."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from shared.port.heap import Heap
from shared.port.port import here
from shared.port.struct import (
    ANY_GEN,
    HEADER,
    KIND_SHIFT,
    KINDS,
    Field,
    Struct,
    TailQueue,
    channel_name,
    field,
    lock_name,
    lock_sleeps,
    lockmgr,
    own,
    simplelock,
    union,
    unlocked,
    via,
)
from shared.uvm.structs import Anon, VmMap, VmMapIntrsafe, uvmexp
from tests.kit import BIG, THING, PartOfPort, Thing


class Node(Struct, kind=210):
    """An element and a head of a queue, with every form of guard."""

    guards = {"o": own("lk"), "m": own("big"), "p": via("parent", "lk")}
    lk = simplelock("node")
    big = lockmgr("node.big")
    parent: Field[Any] = field("const")
    first: Field[Any] = field("o")
    last: Field[Any] = field("o")
    nxt: Field[Any] = field("o|m")
    prv: Field[Any] = field("o|m read, o&m write")
    other: Field[Any] = union("prv", "p")


class Log(PartOfPort):
    """A port that keeps values in a dict and writes down every access."""

    def __init__(self) -> None:
        super().__init__()
        self.values: dict[tuple[int, int], Any] = {}
        self.accesses: list[tuple[str, str, str]] = []

    def load(self, obj: Struct, field_: Any, slot: int) -> Any:
        self.accesses.append(("load", str(obj), field_.name))
        return self.values.get((obj.id, slot))

    def store(self, obj: Struct, field_: Any, slot: int, value: Any) -> None:
        self.accesses.append(("store", str(obj), field_.name))
        self.values[obj.id, slot] = value


@pytest.fixture
def log() -> Iterator[Log]:
    made = Log()
    with here.installed(made):
        yield made


def test_an_increment_is_a_load_and_a_store(log: Log) -> None:
    """Two operations, and the race lies between them."""
    THING.v = 1
    log.accesses.clear()
    THING.v += 1
    assert log.accesses == [("load", "thing:0", "v"), ("store", "thing:0", "v")]
    assert THING.v == 2


def test_a_look_without_the_guard_reads_the_same_place(log: Log) -> None:
    THING.v = 4
    assert unlocked(THING, "v") == 4 and log.accesses[-1] == ("load", "thing:0", "v")
    assert not Thing.fields["v"].hint


def test_two_names_of_a_union_are_one_place_with_guards_of_their_own(log: Log) -> None:
    node = Node.at(0)
    node.other = 5
    assert node.prv == 5
    prv, other = Node.fields["prv"], Node.fields["other"]
    assert prv.slot == other.slot and prv.marking != other.marking


def test_handles_are_equal_by_address_and_good_for_one_life() -> None:
    """an == an2 in C compares pointers; the generation is the detector's, not the kernel's."""
    assert Thing.at(3, 1) == Thing.at(3, 2) and hash(Thing.at(3, 1)) == hash(Thing.at(3))
    assert Thing.at(3) != Anon.at(3) and Thing.at(3) != 3
    assert (str(Thing.at(3, 2)), repr(Thing.at(3, 2)), repr(Thing.at(3, ANY_GEN))) == (
        "thing:3",
        "thing:3#2",
        "thing:3#*",
    )


def test_markings_become_alternatives_of_guards() -> None:
    """`o|m` is either, `o&m` is both; the same string is read by people and by the detector."""
    nxt, prv = Node.fields["nxt"], Node.fields["prv"]
    names = [[guard.lock for guard in alternative] for alternative in nxt.read]
    assert names == [["lk"], ["big"]] and nxt.read == nxt.write
    assert [[guard.lock for guard in guards] for guards in prv.write] == [["lk", "big"]]
    assert [[guard.lock for guard in guards] for guards in prv.read] == [["lk"], ["big"]]


def test_a_marking_that_names_no_guard_is_refused() -> None:
    with pytest.raises(KeyError):

        class Wrong(Struct, kind=211):
            guards = {"o": own("lk")}
            lk = simplelock("wrong")
            v: Field[int] = field("x")

    KINDS.pop(211, None)


def test_two_structs_of_one_kind_are_refused() -> None:
    """Their handles would be the same numbers."""
    with pytest.raises(AssertionError, match="two structs of kind 210"):

        class Again(Struct, kind=210):
            pass


def test_a_guard_in_another_struct_is_found_through_the_pointer() -> None:
    guard = Node.fields["other"].read[0][0]
    heap, parent = Heap(), Node.at(7)
    heap.add(Node.at(1).id, 0, list(Node.defaults))[Node.fields["parent"].slot] = parent
    heap.add(Node.at(2).id, 0, list(Node.defaults))
    assert guard.key(heap, Node.at(1)) == parent.lock_key("lk")
    assert guard.key(heap, Node.at(2)) == -1


def test_names_come_back_from_keys_and_channels() -> None:
    """Nodes know numbers only; reports need words."""
    assert lock_name(THING.lock_key("lk")) == "thing:0.lk"
    assert channel_name(THING.address) == "thing:0"
    assert channel_name(uvmexp.addressof("free")) == "uvmexp:0.free"
    assert lock_sleeps(BIG.lock_key("lk")) and not lock_sleeps(THING.lock_key("lk"))


def test_every_kind_has_a_name_and_a_number_of_its_own() -> None:
    names = [kind.kind_name for kind in KINDS.values()]
    assert len(set(names)) == len(names)
    assert all(number == kind.kind and number < 1 << (32 - KIND_SHIFT) for number, kind in KINDS.items())


def test_a_struct_that_begins_as_another_has_its_fields_and_locks() -> None:
    """struct vm_map_intrsafe begins with a struct vm_map: code for maps is good for it, and its lock is another."""
    first, other = VmMap.at(0), VmMapIntrsafe.at(0)
    fields, locks = VmMapIntrsafe.fields, VmMapIntrsafe.lock_fields
    assert VmMap.fields.keys() < fields.keys() and VmMap.lock_fields.keys() == locks.keys()
    assert {each.slot for each in fields.values()} == set(range(HEADER, HEADER + len(fields)))
    assert first.lock.sleepable and not other.lock.sleepable and not other.hint_lock.sleepable
    assert lock_name(other.hint_lock.key) == "vmmap_intrsafe:0.hint_lock"
    assert not lock_sleeps(other.lock.key) and lock_sleeps(first.lock.key)


def test_no_kernel_struct_has_a_python_container_for_a_field() -> None:
    """am_anon[] and the queues are structs too, or their races could never show."""
    from shared.port.struct import FieldBase, Lock

    about = ("guards", "fields", "lock_fields", "defaults", "element", "bits")
    for kind in KINDS.values():
        for name, value in vars(kind).items():
            if not name.startswith("_") and name not in about:
                assert not isinstance(value, (list, dict, set)), f"{kind.__name__}.{name}"
        assert all(isinstance(field, FieldBase) for field in kind.fields.values())
        assert all(isinstance(lock_field, Lock) for lock_field in kind.lock_fields.values())


# -- queues ------------------------------------------------------------------------------

QUEUE = TailQueue("first", "last", "nxt", "prv")
HEAD = Node.at(0)


def walk() -> list[int]:
    elements, node, before = [], QUEUE.first(HEAD), None
    while node is not None:
        assert node.prv == before
        elements.append(node.index)
        node, before = QUEUE.next(node), node
    assert HEAD.last == before
    return elements


def test_a_tail_queue_keeps_order_and_both_links(log: Log) -> None:
    first, two, three = (Node.at(number) for number in (1, 2, 3))
    QUEUE.insert_tail(HEAD, first)
    QUEUE.insert_tail(HEAD, two)
    QUEUE.insert_tail(HEAD, three)
    assert walk() == [1, 2, 3]
    QUEUE.remove(HEAD, two)
    assert walk() == [1, 3]
    QUEUE.remove(HEAD, first)
    QUEUE.remove(HEAD, three)
    assert walk() == []
    QUEUE.insert_tail(HEAD, two)
    assert walk() == [2]


def test_every_step_of_a_queue_macro_is_an_operation(log: Log) -> None:
    """So that a race in the middle of TAILQ_REMOVE is one that can be found."""
    QUEUE.insert_tail(HEAD, Node.at(1))
    assert [code for code, *_ in log.accesses] == ["load", "store", "store", "store", "store"]


def test_a_field_s_declared_type_is_known_however_annotations_are_kept() -> None:
    """As text (`from __future__ import annotations`), or evaluated."""
    try:

        class Evaluated(Struct, kind=212):
            guards = {"o": own("lk")}
            lk = simplelock("t")
            __annotations__ = {"number": Field[int], "other": Field[Any]}
            number = field("o")
            other = field("o")

        assert Evaluated.fields["number"].number and not Evaluated.fields["other"].number
    finally:
        KINDS.pop(212, None)
