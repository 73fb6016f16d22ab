"""Messages as bytes: msgpack, versioned and bounded; never pickle.

A message is an array [version, kind, body]. Handles of structs are an
extension type of eight bytes (id, generation). Whatever exceeds the bound of
its kind, is of another version or has trailing bytes is refused.
"""

from __future__ import annotations

import struct as _struct
from typing import Any

import msgpack

from shared.errors import Infrastructure
from shared.struct import KIND_SHIFT, KINDS, Struct

VERSION = 1
#: kind of message -> largest size in bytes
BOUNDS = {
    "frame": 1 << 20,  # requests of one CPU, to the actor of their node
    "reply": 1 << 20,  # answer to the last request of a frame
    "deliver": 1 << 20,  # grants, wakeups, interrupts and late answers, to a CPU
    "load": 1 << 26,  # scenario and image, to every actor, before a run
    "status": 1 << 24,  # an actor's counts, contexts and results
    "state": 1 << 26,  # an actor's nodes as plain data, at the end
    "chunk": 1 << 17,  # a piece of a journal
}
_HANDLE = 1
_FORM = _struct.Struct("<II")


def _pack(value: Any) -> msgpack.ExtType:
    if isinstance(value, Struct):
        return msgpack.ExtType(_HANDLE, _FORM.pack(value.id, value.gen))
    raise TypeError(f"{type(value).__name__} is not part of any message")


def _unpack(code: int, data: bytes) -> Any:
    if code != _HANDLE or len(data) != _FORM.size:
        raise ValueError(f"extension type {code}")
    number, gen = _FORM.unpack(data)
    kind = KINDS.get(number >> KIND_SHIFT)
    if kind is None:
        raise ValueError(f"handle of unknown kind {number >> KIND_SHIFT}")
    return kind(number, gen)


def encode(kind: str, body: Any) -> bytes:
    """A message as bytes.

    Raises: Infrastructure - it is larger than its kind may be.
    """
    data: bytes = msgpack.packb([VERSION, kind, body], default=_pack)
    if len(data) > BOUNDS[kind]:
        raise Infrastructure(f"a {kind} message of {len(data)} bytes; at most {BOUNDS[kind]} are allowed")
    return data


def decode(kind: str, data: bytes) -> Any:
    """The body of a message of the kind expected.

    Raises: Infrastructure - it is of another kind or version, too large, or not a message.
    """
    if len(data) > BOUNDS[kind]:
        raise Infrastructure(f"a {kind} message of {len(data)} bytes; at most {BOUNDS[kind]} are allowed")
    try:
        version, actual, body = msgpack.unpackb(data, ext_hook=_unpack, strict_map_key=False)
    except (ValueError, TypeError, msgpack.UnpackException) as wrong:
        raise Infrastructure(f"not a message: {wrong}") from None
    if version != VERSION or actual != kind:
        raise Infrastructure(
            f"a {kind} message of version {VERSION} was expected, not {actual!r} of version {version!r}"
        )
    return body
