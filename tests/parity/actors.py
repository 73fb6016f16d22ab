"""Actors that behave as badly as a network may; imported by Ray's workers."""

from __future__ import annotations

import os
import time
from pathlib import Path

from nodes.host.ray import NodeActor
from nodes.host.sockets import Address
from shared.uvm import param
from shared.wire.codec import FRAMES, decode
from shared.wire.tables import tables

DELAY_S = 0.05


class Slow(NodeActor):
    """A caller that wants a named word from `memory0` waits for it."""

    def admit(self, data: bytes) -> bytes:
        requests = (request for frame in decode(FRAMES, data) if frame.node == "memory0" for request in frame.requests)
        if any(request.code in ("load", "store") and request.args[0].kind_name == "litmus" for request in requests):
            time.sleep(DELAY_S)
        return super().admit(data)


class Elsewhere(NodeActor):
    """Keeps its logs below $UVMP_TEST_ROOT, a folder that stands for the disk of another host; whoever has another
    is on another computer."""

    def listen(self, secret: bytes, leases: bool) -> Address:
        address = super().listen(secret, leases)
        assert self.sockets is not None
        self.sockets.here = address._replace(place=os.environ["UVMP_TEST_ROOT"])
        return self.sockets.here

    def reached(self) -> list[str]:
        """Over which kind of socket it has asked others."""
        assert self.sockets is not None
        streams = [channel.stream for channel in self.sockets.frames.values()]
        return [stream.sock.family.name for stream in streams if stream is not None]

    def load(self, data: bytes) -> bytes:
        if self.name.startswith(("lock_manager", "memory")):
            time.sleep(DELAY_S)  # the other actors have begun the run when these still have connections of the last run
        answer = super().load(data)
        self.latest = [stream.name for stream in self.files.values()]
        return answer

    def _folder(self, wanted: Path, mark: str) -> Path:
        # (only here is the mark left out: the transport tells by it two runs of a session, which have one identity)
        return super()._folder(Path(f"{os.environ['UVMP_TEST_ROOT']}{wanted}/{self.name}"), "")

    def logs(self) -> list[str]:
        """The log files of the latest run that are on this actor's own disk."""
        return [str(path) for path in self.latest if Path(path).exists()]


class OtherSource(NodeActor):
    """Was started with source in which one constant is another, as `cpu0` alone."""

    def load(self, data: bytes) -> bytes:
        if self.name == "cpu0":
            param.PG_CLEAN = 0x8000
            tables.cache_clear()
        return super().load(data)
