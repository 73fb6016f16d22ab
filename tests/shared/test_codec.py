"""Messages: what goes in comes out, and what is foreign, large or broken stays out."""

from __future__ import annotations

import pickle

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.codec import BOUNDS, VERSION, decode, encode
from shared.errors import Infrastructure
from shared.uvm.structs import Anon, Page
from tests.kit import Thing

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


@given(PLAIN)
def test_plain_data_survives(body: object) -> None:
    assert decode("frame", encode("frame", body)) == body


@given(st.integers(0, 2**20 - 1), st.integers(0, 2**32 - 1))
def test_a_handle_survives_with_its_generation(index: int, gen: int) -> None:
    """A handle without its generation would hide every use after free."""
    handle = Anon.at(index, gen)
    again = decode("frame", encode("frame", ["A", handle]))[1]
    assert type(again) is Anon and (again.id, again.gen) == (handle.id, gen)


def test_equal_messages_are_equal_bytes() -> None:
    body = {"b": [1, Page.at(3, 2)], "a": None}
    assert encode("load", body) == encode("load", body)


@pytest.mark.parametrize("kind", sorted(BOUNDS))
def test_a_message_larger_than_its_kind_may_be_is_refused_at_both_ends(kind: str) -> None:
    """A reader must be safe from any writer."""
    large = b"x" * (BOUNDS[kind] + 1)
    with pytest.raises(Infrastructure, match=f"a {kind} message of .* bytes; at most {BOUNDS[kind]}"):
        encode(kind, large)
    with pytest.raises(Infrastructure, match="at most"):
        decode(kind, msgpack.packb([VERSION, kind, large]))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        b"hello",
        msgpack.packb(7),
        msgpack.packb([VERSION, "frame"]),
        msgpack.packb([VERSION, "frame", 1, 2]),
        msgpack.packb([VERSION, "frame", 1]) + b"\x00",
        msgpack.packb([VERSION, "frame", "x" * 100])[:-1],
        msgpack.packb([VERSION, "frame", msgpack.ExtType(9, b"12345678")]),
        msgpack.packb([VERSION, "frame", msgpack.ExtType(1, b"1234567")]),
        msgpack.packb([VERSION, "frame", msgpack.ExtType(1, b"\xff" * 8)]),
        pickle.dumps([VERSION, "frame", 1]),
        b"\x92" * 5000,
    ],
)
def test_bytes_that_are_no_message_are_an_infrastructure_error(data: bytes) -> None:
    """And never any other exception, whatever somebody sends."""
    with pytest.raises(Infrastructure):
        decode("frame", data)


@given(st.binary(max_size=200))
def test_no_bytes_at_all_raise_anything_else(data: bytes) -> None:
    try:
        decode("frame", data)
    except Infrastructure:
        pass


def test_another_version_or_kind_is_refused_with_both_named() -> None:
    for version, kind in ((VERSION + 1, "frame"), (VERSION, "reply")):
        with pytest.raises(Infrastructure, match=f"not '{kind}' of version {version}"):
            decode("frame", msgpack.packb([version, kind, 1]))


@pytest.mark.parametrize("value", [object(), {1, 2}, 1 + 2j, lambda: None])
def test_what_is_not_in_the_alphabet_is_not_sent(value: object) -> None:
    """No pickle, ever; a slip is found by the sender."""
    with pytest.raises(TypeError):
        encode("frame", [value])


def test_a_test_struct_is_a_handle_like_any_other() -> None:
    assert decode("reply", encode("reply", Thing.at(4, 2))).gen == 2
