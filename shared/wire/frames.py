"""Frames that travel together, to the nodes of one host, and their answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from shared.wire.messages import Frame, Reply


class Lent(NamedTuple):
    """A struct that is lent to the processor that has just loaded one of its fields (nodes/host/lease.py).

    Attributes:
        obj: its id.
        number: of the lease.
        gen, fields: its record.
    """

    obj: int
    number: int
    gen: int
    fields: list[object]


class Recall(NamedTuple):
    """To the host of a processor: give this lease back."""

    obj: int
    number: int


class GiveBack(NamedTuple):
    """To the host of a struct: the processor does not use the lease any more; `k` is of the last access that did."""

    obj: int
    number: int
    k: int


class Answer(NamedTuple):
    """What became of frames that travelled together.

    Attributes:
        done: so many of them, from the first on, have reached their nodes. If that is not all, the last of these was
            refused or held back; those behind it have not been looked at.
        reply: to the last of these.
        loaded: results of the loads, without that of the last request, if structs are lent.
        lent: a struct.
    """

    done: int
    reply: Reply
    loaded: Sequence[object] = ()
    lent: Lent | None = None

    @classmethod
    def parse(cls, body: Any) -> Answer:
        done, reply, loaded, lent = body
        return cls(done, Reply.parse(reply), loaded, None if lent is None else Lent(*lent))


def parse_frames(body: Any) -> list[Frame]:
    """Frames, at least one."""
    first, *others = body
    return [Frame.parse(frame) for frame in (first, *others)]
