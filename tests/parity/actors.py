"""Actors that behave as badly as a network may; imported by Ray's workers."""

from __future__ import annotations

import os
import time
from pathlib import Path

from nodes.actor import NodeActor
from shared.codec import decode, encode

DELAY_S = 0.05


class Slow(NodeActor):
    """Whoever wants a named word from `memory0` waits for it."""

    def admit(self, data: bytes) -> bytes:
        node, _, requests = decode("frame", data)
        if node == "memory0" and any(
            code in ("load", "store") and args[0].kind_name == "litmus" for *_, code, _, args in requests
        ):
            time.sleep(DELAY_S)
        return super().admit(data)


class Elsewhere(NodeActor):
    """Keeps its logs below $UVMP_TEST_ROOT, a folder that stands for the disk of another host."""

    def load(self, data: bytes) -> None:
        order = decode("load", data)
        order["folder"] = os.environ["UVMP_TEST_ROOT"] + order["folder"]
        super().load(encode("load", order))
        self.latest = [stream.name for stream in self.files]

    def logs(self) -> list[str]:
        """The log files of the latest run that are on this actor's own disk."""
        return [str(path) for path in self.latest if Path(path).exists()]
