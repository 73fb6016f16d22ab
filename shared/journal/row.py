"""A record in compact form: records with the same keys share one list of the keys' names.

As dicts of a dozen keys, each of 600 bytes, the records of a long run would not fit into memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

#: key -> place of its value; the same object for all records with these keys
Shape = dict[str, int]
Shapes = dict[tuple[str, ...], Shape]


class Row(Mapping[str, object]):
    """An immutable record.

    Args:
        record: what it says.
        shapes: the shapes of the records so far, by their keys.
    """

    __slots__ = ("_shape", "_values")

    def __init__(self, record: dict[str, object], shapes: Shapes):
        keys = tuple(record)
        shape = shapes.get(keys)
        if shape is None:
            shape = shapes[keys] = {key: at for at, key in enumerate(keys)}
        self._shape, self._values = shape, tuple(record.values())

    def __getitem__(self, key: str) -> Any:
        return self._values[self._shape[key]]

    def get(self, key: str, default: Any = None) -> Any:
        at = self._shape.get(key)
        return default if at is None else self._values[at]

    def __contains__(self, key: object) -> bool:
        return key in self._shape

    def __iter__(self) -> Iterator[str]:
        return iter(self._shape)

    def __len__(self) -> int:
        return len(self._shape)

    def plain(self) -> dict[str, object]:
        """As messages have it."""
        return dict(self)
