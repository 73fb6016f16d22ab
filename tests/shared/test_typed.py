"""Values of declared types come back from plain data as they were, and other data are refused."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple

import pytest

from shared.wire.typed import read


class Pair(NamedTuple):
    name: str
    value: int | str


@dataclass(frozen=True)
class Row:
    pair: Pair
    pairs: tuple[Pair, ...]
    counts: dict[str, int]
    ends: tuple[str, float] | None = None


ROW = Row(Pair("a", 1), (Pair("b", "x"), Pair("c", 2)), {"n": 3}, ("end", 4))


def test_a_dataclass_comes_back_from_json() -> None:
    assert read(Row, json.loads(json.dumps(asdict(ROW)))) == ROW


@pytest.mark.parametrize(
    ("kind", "data", "value"),
    [
        (Pair, ["a", 1], Pair("a", 1)),
        (tuple[str, ...], ["a", "b"], ("a", "b")),
        (frozenset[Pair], [["a", 1]], frozenset({Pair("a", 1)})),
        (Sequence[Pair], [["a", 1]], [Pair("a", 1)]),
        (Mapping[int, list[Pair]], {3: [["a", 1]]}, {3: [Pair("a", 1)]}),
        (object, [1, "a"], [1, "a"]),
        (float, 2, 2),
    ],
)
def test_each_kind_of_type_has_a_reader(kind: type[object], data: object, value: object) -> None:
    assert read(kind, data) == value and type(read(kind, data)) is type(value)


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        (Pair, ["a"]),
        (Pair, ["a", 1, 2]),
        (Pair, ["a", None]),
        (Pair, ["a", True]),
        (Pair, "ab"),
        (Row, {"pair": ["a", 1]}),
        (Row, []),
        (int, "1"),
        (tuple[str, float], ["a"]),
    ],
)
def test_other_data_are_refused(kind: type[object], data: object) -> None:
    with pytest.raises((TypeError, ValueError, LookupError)):
        read(kind, data)
