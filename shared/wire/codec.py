"""Messages as bytes: msgpack, versioned and bounded; never pickle.

A message is an array [version, kind, body]. Handles of structs are an
extension type of eight bytes (id, generation). The codec refuses a message
that exceeds the bound of its kind, has another version or has trailing bytes.
"""

from __future__ import annotations

import struct as _struct
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Generic, TypeVar

import msgpack

from shared.detectors.machine_state import HostNow, HostState
from shared.errors import Infrastructure
from shared.port.struct import KIND_SHIFT, KINDS, Struct
from shared.wire.frames import Answer, GiveBack, Recall, parse_frames
from shared.wire.messages import Delivery, Frame, Load, Loaded, Poll, Schedule, parse_delivery, plain_delivery

VERSION = 2
M = TypeVar("M")


def _as_is(body: Any) -> Any:
    return body


@dataclass(frozen=True, slots=True)
class Form(Generic[M]):
    """How a kind of message travels.

    Attributes:
        kind: its name on the wire.
        bound: largest size in bytes.
        parse: from the arrays and maps that arrive; may raise what Python raises for data of another shape.
        plain: to what msgpack knows; a NamedTuple is an array, a dataclass a map.
        tuples: arrays arrive as tuples, and not as lists.
    """

    kind: str
    bound: int
    parse: Callable[[Any], M] = _as_is
    plain: Callable[[M], Any] = _as_is
    tuples: bool = False

    def is_of(self, data: bytes) -> bool:
        """Does a message begin as those of this kind do?"""
        return data.startswith(b"\x93" + msgpack.packb(VERSION) + msgpack.packb(self.kind))


FRAMES: Form[list[Frame]] = Form("frames", 1 << 20, parse_frames)
ANSWER: Form[Answer] = Form("answer", 1 << 20, Answer.parse)
RECALL: Form[Recall] = Form("recall", 1 << 10, Recall._make)
GIVE_BACK: Form[GiveBack] = Form("give back", 1 << 10, GiveBack._make)
DELIVERY: Form[Delivery] = Form("deliver", 1 << 20, parse_delivery, plain_delivery)
LOAD: Form[Load] = Form("load", 1 << 26, Load.parse)
SCHEDULE: Form[Schedule] = Form("schedule", 1 << 26, Schedule.parse)  # how one that is followed goes on
LOADED: Form[Loaded] = Form("loaded", 1 << 20, Loaded.parse)
POLL: Form[Poll] = Form("poll", 1 << 24, Poll.parse)
STATE: Form[HostState] = Form("state", 1 << 26, HostState.parse)
NOW: Form[HostNow] = Form("now", 1 << 24, HostNow.parse)
CHUNK: Form[bytes] = Form("chunk", 1 << 17)  # a piece of a journal
FORMS = (FRAMES, ANSWER, RECALL, GIVE_BACK, DELIVERY, LOAD, SCHEDULE, LOADED, POLL, STATE, NOW, CHUNK)
_HANDLE = 1
_FORM = _struct.Struct("<II")


def _pack(value: object) -> object:
    if isinstance(value, Struct):
        return msgpack.ExtType(_HANDLE, _FORM.pack(value.id, value.gen))
    if hasattr(value, "plain"):
        return value.plain()
    if is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    if isinstance(value, frozenset):
        return sorted(value)
    raise TypeError(f"{type(value).__name__} is not part of any message")


def _unpack(code: int, data: bytes) -> Struct:
    if code != _HANDLE or len(data) != _FORM.size:
        raise ValueError(f"extension type {code}")
    number, gen = _FORM.unpack(data)
    kind = KINDS.get(number >> KIND_SHIFT)
    if kind is None:
        raise ValueError(f"handle of unknown kind {number >> KIND_SHIFT}")
    return kind(number, gen)


def encode(form: Form[M], message: M) -> bytes:
    """A message as bytes.

    Raises: Infrastructure - it is larger than its kind may be.
    """
    data: bytes = msgpack.packb([VERSION, form.kind, form.plain(message)], default=_pack)
    if len(data) > form.bound:
        raise Infrastructure(f"a {form.kind} message of {len(data)} bytes; at most {form.bound} are allowed")
    return data


def decode(form: Form[M], data: bytes) -> M:
    """The message, of the kind expected.

    Raises: Infrastructure - it is of another kind or version, too large, or not a message.
    """
    if len(data) > form.bound:
        raise Infrastructure(f"a {form.kind} message of {len(data)} bytes; at most {form.bound} are allowed")
    try:
        version, actual, body = msgpack.unpackb(data, use_list=not form.tuples, ext_hook=_unpack, strict_map_key=False)
        if version == VERSION and actual == form.kind:
            return form.parse(body)
    except (ValueError, TypeError, LookupError, AttributeError, msgpack.UnpackException) as wrong:
        raise Infrastructure(f"not a message: {wrong}") from None
    raise Infrastructure(
        f"a {form.kind} message of version {VERSION} was expected, not {actual!r} of version {version!r}"
    )
