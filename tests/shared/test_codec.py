"""Messages: what goes in comes out, and what is foreign, large or broken stays out."""

from __future__ import annotations

import pickle
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.detectors.machine_state import ContextState, HostNow, only
from shared.errors import Infrastructure
from shared.locks.table import LockState, Want
from shared.uvm.structs import Anon, Page
from shared.wire.codec import (
    ANSWER,
    DELIVERY,
    FORMS,
    FRAMES,
    GIVE_BACK,
    LOAD,
    LOADED,
    NOW,
    POLL,
    RECALL,
    SCHEDULE,
    VERSION,
    Form,
    decode,
    encode,
)
from shared.wire.frames import Answer, GiveBack, Lent, Recall
from shared.wire.messages import (
    Behind,
    Divergence,
    Frame,
    Grant,
    Interrupt,
    LateReply,
    Load,
    Loaded,
    Poll,
    ProgramOrder,
    Refusal,
    Reply,
    Request,
    Schedule,
    Status,
    Turn,
    Wake,
)
from tests.kit import PLAIN, Thing

ANY_DATA = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


@given(ANY_DATA)
def test_plain_data_survives(body: object) -> None:
    assert decode(PLAIN, encode(PLAIN, body)) == body


MESSAGES: list[tuple[Form[Any], Any]] = [
    (FRAMES, [Frame("memory", "cpu0", [Request("A", 1, 3, "alloc", 0, (7, 0)), Request("A", 2, 4, "lock", 9, ())])]),
    (FRAMES, [Frame(node, "cpu0", [Request("A", n, n, "wakeup", 0, ())]) for n, node in enumerate(("m", "l"), 1)]),
    (ANSWER, Answer(2, Reply(Status.DONE, [1, None]), [], None)),
    (ANSWER, Answer(1, Reply(Status.HELD), [], None)),
    (ANSWER, Answer(1, Reply(Status.DONE, 7), [1, None], Lent(5, 2, 0, [7, None]))),
    (RECALL, Recall(5, 2)),
    (GIVE_BACK, GiveBack(5, 2, 100)),
    (ANSWER, Answer(1, Reply(Status.REFUSED, Refusal("use-after-free", "gone", "anon:1", False, 2, 3)), [], None)),
    (DELIVERY, Grant("A", [1])),
    (DELIVERY, Wake("A")),
    (DELIVERY, Interrupt("cpu1.ipi", [1, [2]])),
    (DELIVERY, LateReply("A", 4, Reply(Status.REFUSED, Refusal("panic", "p", "", True, 1, 1)))),
    (LOAD, Load("run1", "/tmp/x", ".run1", {"id": "E1"}, {"mmu": None}, None, 5, ("fix.py", "x = 1"))),
    (
        LOAD,
        Load(
            "1",
            "",
            "",
            {},
            {},
            Schedule({"mmu": [Turn("A", 1, "lock")]}, {"cpu0": ProgramOrder(["A"], [0, 2], [(2, 1)])}),
            0,
            None,
        ),
    ),
    (SCHEDULE, Schedule({"mmu": [Turn("A", 1, "lock")]}, {"cpu0": ProgramOrder(["A"], [0, 2], [(2, 1)])})),
    (LOADED, Loaded({"wire": "12"}, {"cpu0": {"wire": "12"}}, "/tmp/run")),
    (POLL, Poll({"cpu0": 3}, 1, 2, 0, ["e"], [Divergence("a", "b")], True, 4, False, True, Behind("cpu0", 1, "A"))),
    (POLL, Poll({}, 0, 0, 0, [], [], False, 0, True, False, None)),
    (
        NOW,
        HostNow(
            only(
                [ContextState("A", "cpu0", 3, ("lock", 9), False, False, False, ["uvm_fault"], [], 1)],
                [LockState(9, [Want("B", "w", "uvm_fault")], [])],
            ),
            ["A"],
            ("A", "memory", "load"),
            [[7, [["C", "wait"]]]],
        ),
    ),
    (NOW, HostNow(only([], []), [], None, [])),
]


@pytest.mark.parametrize(("form", "message"), MESSAGES, ids=lambda form: getattr(form, "kind", type(form).__name__))
def test_every_message_arrives_as_it_was_sent(form: Form[Any], message: Any) -> None:
    """Equal, and of the same types inside: the receiver asks for fields by name."""
    again = decode(form, encode(form, message))
    assert again == message and repr(again) == repr(message)


def test_messages_travel_as_short_arrays() -> None:
    """Requests and replies are nearly all of a run's traffic: neither names of fields nor of types go with them."""
    request = Request("A", 1, 3, "lock", 9, ("w", "f"))
    assert msgpack.unpackb(encode(FRAMES, [Frame("memory", "cpu0", [request])])) == [
        VERSION, "frames", [["memory", "cpu0", [["A", 1, 3, "lock", 9, ["w", "f"]]]]],
    ]  # fmt: skip
    assert msgpack.unpackb(encode(ANSWER, Answer(1, Reply(Status.WAITS)))) == [
        VERSION,
        "answer",
        [1, [1, None], [], None],
    ]
    assert msgpack.unpackb(encode(DELIVERY, Wake("A"))) == [VERSION, "deliver", ["wake", "A"]]


@given(st.integers(0, 2**20 - 1), st.integers(0, 2**32 - 1))
def test_a_handle_survives_with_its_generation(index: int, gen: int) -> None:
    """A handle without its generation would hide every use after free."""
    handle = Anon.at(index, gen)
    again = decode(PLAIN, encode(PLAIN, ["A", handle]))[1]
    assert type(again) is Anon and (again.id, again.gen) == (handle.id, gen)


def test_equal_messages_are_equal_bytes() -> None:
    body = {"b": [1, Page.at(3, 2)], "a": None}
    assert encode(PLAIN, body) == encode(PLAIN, body)


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.kind)
def test_a_message_larger_than_its_kind_may_be_is_refused_at_both_ends(form: Form[Any]) -> None:
    """A reader must be safe from any writer."""
    large: Any = Grant("A", b"x" * (form.bound + 1)) if form is DELIVERY else b"x" * (form.bound + 1)
    with pytest.raises(Infrastructure, match=f"a {form.kind} message of .* bytes; at most {form.bound}"):
        encode(form, large)
    with pytest.raises(Infrastructure, match="at most"):
        decode(form, msgpack.packb([VERSION, form.kind, "x" * form.bound]))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        b"hello",
        msgpack.packb(7),
        msgpack.packb([VERSION, "frames"]),
        msgpack.packb([VERSION, "frames", 1, 2]),
        msgpack.packb([VERSION, "frames", []]),
        msgpack.packb([VERSION, "frames", 1]) + b"\x00",
        msgpack.packb([VERSION, "frames", "x" * 100])[:-1],
        msgpack.packb([VERSION, "frames", msgpack.ExtType(9, b"12345678")]),
        msgpack.packb([VERSION, "frames", msgpack.ExtType(1, b"1234567")]),
        msgpack.packb([VERSION, "frames", msgpack.ExtType(1, b"\xff" * 8)]),
        pickle.dumps([VERSION, "frames", 1]),
        b"\x92" * 5000,
    ],
)
def test_bytes_that_are_no_message_are_an_infrastructure_error(data: bytes) -> None:
    """And never any other exception, whatever somebody sends."""
    with pytest.raises(Infrastructure):
        decode(FRAMES, data)


@given(st.sampled_from(FORMS), st.binary(max_size=200) | ANY_DATA)
def test_nothing_that_arrives_raises_anything_else(form: Form[Any], body: object) -> None:
    """Neither bytes that are not a message, nor one whose body has another shape."""
    data = body if isinstance(body, bytes) else msgpack.packb([VERSION, form.kind, body])
    try:
        decode(form, data)
    except Infrastructure:
        pass


def test_another_version_or_kind_is_refused_with_both_named() -> None:
    for version, kind in ((VERSION + 1, "frames"), (VERSION, "answer")):
        with pytest.raises(Infrastructure, match=f"not '{kind}' of version {version}"):
            decode(FRAMES, msgpack.packb([version, kind, 1]))


@pytest.mark.parametrize("value", [object(), {1, 2}, 1 + 2j, lambda: None])
def test_what_is_not_in_the_alphabet_is_not_sent(value: object) -> None:
    """No pickle, ever; a slip is found by the sender."""
    with pytest.raises(TypeError):
        encode(PLAIN, [value])


def test_a_test_struct_is_a_handle_like_any_other() -> None:
    assert decode(PLAIN, encode(PLAIN, Thing.at(4, 2))).gen == 2
