"""Frames that travel together, to the nodes of one host, and their answer."""

from __future__ import annotations

from typing import Any, NamedTuple

from shared.wire.messages import Frame, Reply


class Answer(NamedTuple):
    """What became of frames that travelled together.

    Attributes:
        done: so many of them, from the first on, have reached their nodes. If that is not all, the last of these was
            refused or held back; those behind it have not been looked at.
        reply: to the last of these.
    """

    done: int
    reply: Reply

    @classmethod
    def parse(cls, body: Any) -> Answer:
        done, reply = body
        return cls(done, Reply.parse(reply))


def parse_frames(body: Any) -> list[Frame]:
    """Frames, at least one."""
    first, *others = body
    return [Frame.parse(frame) for frame in (first, *others)]
