"""Messages on a connected socket: bounded in size, and only between hosts that know the secret of their machine.

A message is a header (size and number of the message, its kind) and a body, which shared/wire/codec.py has made. The
client speaks first only in its answer to the server's challenge: each side proves that it knows the secret, without
telling it (HMAC-SHA256 over the random numbers of both). Afterwards messages travel in the clear, as Ray's do.
"""

from __future__ import annotations

import contextlib
import hmac
import secrets
import socket
import struct
from enum import IntEnum
from typing import NamedTuple

from nodes.host.transport import LIMIT_S
from shared.wire.codec import ANSWER, DELIVERY, FRAMES

#: bytes that a body has at most
MAX_BODY = max(FRAMES.bound, ANSWER.bound, DELIVERY.bound)
#: seconds that a greeting may take: the other side is a host that is ready, or none of ours
GREETING_S = 5.0
_HEAD = struct.Struct("<IQB")
_NONCE = 32
_PROOF = 32
#: who calls, which of its channels, and which run this is of
_CALLER = struct.Struct("<64sB8s8s")
#: the number of the last message that the server has taken from this channel
_TAKEN = struct.Struct("<Q")
_READ = 1 << 16


class Kind(IntEnum):
    """Kind of message."""

    FRAMES = 1  # answered by an ANSWER or FAILED of the same number
    ANSWER = 2
    FAILED = 3  # the host could not admit the frames: why, in words
    DELIVERY = 4
    TAKEN = 5  # all deliveries up to this number have been taken


class Caller(NamedTuple):
    """Who opens a connection.

    Attributes:
        name: of the host.
        asks: its channel is for frames; else for deliveries.
        channel, run: which one, of which run; eight bytes each.
    """

    name: str
    asks: bool
    channel: bytes
    run: bytes


class Refused(ConnectionError):
    """The other side does not know the secret, or does not speak this protocol."""


class Stream:
    """A connected socket. One thread receives from it at a time, and one sends."""

    __slots__ = ("rest", "sock")

    def __init__(self, sock: socket.socket):
        self.sock, self.rest = sock, b""

    def send(self, kind: Kind, number: int, body: bytes = b"") -> None:
        """Raises: OSError - the connection is cut, or the other side has taken nothing for LIMIT_S."""
        self.sock.sendall(_HEAD.pack(len(body), number, kind) + body)

    def receive(self) -> tuple[int, int, bytes]:
        """The next message: kind, number, body.

        Raises: OSError - the connection is cut; BlockingIOError - nothing has come for LIMIT_S; Refused - it is no
            message.
        """
        data = self.rest
        while len(data) < _HEAD.size:
            data += self._more()
        size, number, kind = _HEAD.unpack_from(data)
        if size > MAX_BODY or kind not in _KINDS:
            raise Refused(f"a message of kind {kind} and {size} bytes; at most {MAX_BODY} are allowed")
        end = _HEAD.size + size
        if len(data) < end:
            pieces, length = [data], len(data)
            while length < end:
                pieces.append(self._more())
                length += len(pieces[-1])
            data = b"".join(pieces)
        self.rest = data[end:]
        return kind, number, data[_HEAD.size : end]

    def _more(self) -> bytes:
        piece = self.sock.recv(_READ)
        if not piece:
            raise ConnectionResetError("the connection was closed")
        return piece

    def exactly(self, size: int) -> bytes:
        """So many bytes, of a greeting."""
        data = self.rest
        while len(data) < size:
            data += self._more()
        self.rest = data[size:]
        return data[:size]

    def cut(self) -> None:
        """End the connection; a thread that waits for it is told."""
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.cut()
        self.sock.close()


_KINDS = frozenset(Kind)


def limited(sock: socket.socket, receive_s: float, send_s: float) -> None:
    """Let calls of a blocking socket end after so many seconds; 0: never. (`settimeout` would cost a system call more
    for each message.)"""
    for option, seconds in ((socket.SO_RCVTIMEO, receive_s), (socket.SO_SNDTIMEO, send_s)):
        sock.setsockopt(socket.SOL_SOCKET, option, struct.pack("@ll", int(seconds), int(seconds % 1 * 1e6)))


def greet(sock: socket.socket, secret: bytes, caller: Caller) -> tuple[Stream, int]:
    """Open the client's side of a connection; returns it, and the number of the last message that arrived before.

    Raises: OSError - the other side is gone, silent for GREETING_S, or Refused.
    """
    limited(sock, GREETING_S, GREETING_S)
    stream = Stream(sock)
    theirs, mine = stream.exactly(_NONCE), secrets.token_bytes(_NONCE)
    hello = _CALLER.pack(caller.name.encode(), caller.asks, caller.channel, caller.run)
    sock.sendall(mine + hello + _proof(secret, b"client", theirs, mine + hello))
    answer = stream.exactly(_TAKEN.size)
    if not hmac.compare_digest(stream.exactly(_PROOF), _proof(secret, b"server", mine, theirs + answer)):
        raise Refused("it does not know the secret of this machine")
    limited(sock, LIMIT_S if caller.asks else 0.0, LIMIT_S)
    return stream, int(_TAKEN.unpack(answer)[0])


class Greeting:
    """The server's side of a greeting: first who calls, then the answer.

    Raises: OSError - the other side is gone, silent for GREETING_S, or Refused.
    """

    def __init__(self, sock: socket.socket, secret: bytes):
        self.secret, self.stream = secret, Stream(sock)
        limited(sock, GREETING_S, GREETING_S)
        self.mine = secrets.token_bytes(_NONCE)
        sock.sendall(self.mine)
        self.theirs = self.stream.exactly(_NONCE)
        hello, proof = self.stream.exactly(_CALLER.size), self.stream.exactly(_PROOF)
        if not hmac.compare_digest(proof, _proof(secret, b"client", self.mine, self.theirs + hello)):
            raise Refused("it does not know the secret of this machine")
        name, asks, channel, run = _CALLER.unpack(hello)
        self.caller = Caller(name.rstrip(b"\0").decode("utf-8", "replace"), bool(asks), channel, run)

    def answer(self, taken: int) -> Stream:
        """Accept the connection; from now on, messages may come at any time."""
        sock, answer = self.stream.sock, _TAKEN.pack(taken)
        sock.sendall(answer + _proof(self.secret, b"server", self.theirs, self.mine + answer))
        limited(sock, 0.0, LIMIT_S)
        return self.stream


def _proof(secret: bytes, side: bytes, challenge: bytes, hello: bytes) -> bytes:
    return hmac.digest(secret, side + challenge + hello, "sha256")
