"""Does a process still listen at an address of another host?"""

from __future__ import annotations

import errno
import socket
from collections.abc import Collection
from time import monotonic

#: seconds that a process has to accept a connection
CONNECT_S = 2.0
#: seconds between two attempts, and how many of them are refused before the process is dead
LOOK_S, REFUSALS = 1.0, 5


def _place(address: str) -> tuple[str, int]:
    """Host and port of HOST:PORT. Raises: ValueError - there is no port."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def listens(address: str) -> bool | None:
    """Does a process listen at HOST:PORT? None: there is no answer."""
    try:
        socket.create_connection(_place(address), timeout=CONNECT_S).close()
    except ConnectionRefusedError:
        return False
    except (OSError, ValueError):
        return None
    return True


class Port:
    """A port of another host: does a process still listen there?

    It does not if its host denies that REFUSALS times in a row. No answer proves nothing: a link may be cut.

    Args:
        address: HOST:PORT.

    Attributes:
        due: when a connection is to be tried next.
        refused: attempts in a row that the host has denied.
    """

    def __init__(self, address: str):
        self.address, self.due, self.refused = address, monotonic(), 0
        self._asked: socket.socket | None = None

    @property
    def waits(self) -> list[int]:
        """What is ready to be written to when there is an answer."""
        return [] if self._asked is None else [self._asked.fileno()]

    def is_dead(self, ready: Collection[int]) -> bool:
        """Take the answer if there is one, and ask again if it is time.

        Args:
            ready: file descriptors to which can be written.
        """
        if self._asked is not None and self._asked.fileno() in ready:
            self._answered(self._asked.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
        if monotonic() >= self.due:
            self.due = monotonic() + LOOK_S
            if self._asked is not None:
                self._answered(errno.ETIMEDOUT)
            self._ask()
        return self.refused >= REFUSALS

    def _ask(self) -> None:
        try:
            family, _, _, _, where = socket.getaddrinfo(*_place(self.address), type=socket.SOCK_STREAM)[0]
            self._asked = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            error = self._asked.connect_ex(where)
        except (OSError, ValueError):
            error = errno.EHOSTUNREACH
        if error != errno.EINPROGRESS:
            self._answered(error)

    def _answered(self, error: int) -> None:
        self.refused = self.refused + 1 if error == errno.ECONNREFUSED else 0
        if self._asked is not None:
            self._asked.close()
        self._asked = None
