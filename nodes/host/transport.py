"""The protocol by which a host reaches other hosts."""

from __future__ import annotations

from typing import Literal, Protocol, get_args

#: how the nodes of a live machine reach each other: over sockets, with structs lent to processors (lease.py); over
#: sockets alone; or by calls of Ray's actors
Kind = Literal["leases", "sockets", "ray"]
KINDS: tuple[Kind, ...] = get_args(Kind)
DEFAULT: Kind = "leases"
#: seconds after which an answer that has not come will not come any more
LIMIT_S = 60.0


class Transport(Protocol):
    """Carries messages, as the bytes that shared/wire/codec.py makes of them, to the hosts of other nodes.

    Everything arrives exactly once, and what one host posts to another arrives in the order in which it was posted.

    Attributes:
        host_of: node -> the name of the host that carries it.
    """

    host_of: dict[str, str]

    def ask(self, node: str, frames: bytes) -> bytes:
        """Have the host of `node` admit frames (Host.admit), and wait for the answer.

        Raises: Infrastructure - it has died, or not answered for LIMIT_S.
        """

    def post(self, processor: str, delivery: bytes) -> None:
        """Give a delivery to the host of `processor` (Host.deliver), and do not wait."""

    def failures(self) -> list[str]:
        """Which deliveries have not arrived since the last `begin`, each in words."""

    def begin(self, run: str) -> None:
        """A new run begins, of this identity: what was posted in the last one does not matter any more."""
