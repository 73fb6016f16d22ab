"""Sockets as a transport: Unix sockets between hosts of one computer, TCP between computers.

A host opens a connection to another when it first has something for it: one for its frames, one for its deliveries. A
connection that is cut is made anew as long as the other host lives, and what had not arrived is sent again; every
message has a number, so that it is performed once, and in order. A connection belongs to one run: when the next begins,
all are closed, and nothing of the last run arrives in it.

What listens: on Linux an abstract Unix socket, which has no file and ends with its process, however that ends. A TCP
socket at the address of the host's own computer is there only if hosts are on several computers. (Elsewhere than on
Linux, hosts of one computer use TCP on its loopback address.)
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import socket
import struct
import sys
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from time import monotonic, sleep
from typing import NamedTuple

from nodes.host.stream import GREETING_S, Caller, Greeting, Kind, Stream, greet
from nodes.host.transport import LIMIT_S
from shared.errors import Infrastructure

#: seconds between two attempts to connect
RETRY_S = 0.05
#: deliveries after which the other side says that it has them
TAKEN_EVERY = 32
#: messages that wait for an earlier one at most
MAX_EARLY = 1024
#: connections that may be in their greeting at a time
MAX_GREETING = 64
LOOPBACK = "127.0.0.1"
_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid


class Address(NamedTuple):
    """Where a host can be reached.

    Attributes:
        place: equal for hosts that reach each other's Unix sockets.
        unix: name of its abstract socket; "": it has none.
        tcp: address and port; None: it has no TCP socket.
    """

    place: str
    unix: str
    tcp: tuple[str, int] | None


def this_place() -> str:
    """What hosts of one computer, and of one network namespace of it, have in common."""
    if sys.platform != "linux":
        return socket.gethostname()
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return f"{boot}/{os.stat('/proc/self/ns/net').st_ino}"


class InOrder:
    """The messages of one channel, as they arrive: each is taken once, in the order of their numbers."""

    def __init__(self) -> None:
        self.taken = 0
        self.early: dict[int, bytes] = {}

    def take(self, number: int, body: bytes) -> list[bytes]:
        """What is to be performed now that this message has arrived.

        Raises: ConnectionError - too many messages wait for an earlier one.
        """
        if number == self.taken + 1 and not self.early:
            self.taken = number
            return [body]
        if number > self.taken:
            self.early[number] = body
        if len(self.early) > MAX_EARLY:
            raise ConnectionError(f"{MAX_EARLY} messages wait for number {self.taken + 1}")
        ready = []
        while self.taken + 1 in self.early:
            self.taken += 1
            ready.append(self.early.pop(self.taken))
        return ready


class Inbound:
    """What another host sends over one of its channels, however many connections that takes.

    Attributes:
        lock: held while a message is performed.
        answer: to the last frames.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.in_order = InOrder()
        self.answer: tuple[Kind, bytes] = Kind.FAILED, b""
        self.stream: Stream | None = None


class Outbound:
    """A channel to another host.

    Args:
        name: of the other host.
    """

    def __init__(self, transport: SocketTransport, name: str, asks: bool):
        self.transport, self.name = transport, name
        self.caller = Caller(transport.name, asks, secrets.token_bytes(8), transport.run)
        self.number = 0
        self.stream: Stream | None = None
        self.closed = False

    def connect(self, until: float) -> tuple[Stream, int]:
        """A new connection, and the number of the last message that arrived over those before.

        Args:
            until: when to give up, if the other host may be alive.

        Raises: Infrastructure - it is dead, silent, or none of ours.
        """
        while True:
            if self.closed:
                raise Infrastructure("the run is over")
            try:
                sock = self.transport.dial(self.name)
                try:
                    return greet(sock, self.transport.secret, self.caller)
                except OSError:
                    sock.close()
                    raise
            except (ConnectionRefusedError, FileNotFoundError):
                raise Infrastructure("died: nothing listens at its address any more") from None
            except OSError as error:
                if monotonic() > until:
                    raise Infrastructure(f"cannot be reached: {error}") from None
            sleep(RETRY_S)

    def close(self) -> None:
        self.closed = True
        if self.stream is not None:
            self.stream.cut()


class Frames(Outbound):
    """The channel for frames, which wait for their answer."""

    def ask(self, frames: bytes) -> bytes:
        """Raises: Infrastructure."""
        self.number += 1
        until = monotonic() + LIMIT_S
        while True:
            if self.stream is None:
                self.stream, _ = self.connect(until)
            try:
                self.stream.send(Kind.FRAMES, self.number, frames)
                number = 0
                while number != self.number:  # what was sent twice may be answered twice
                    kind, number, body = self.stream.receive()
                if kind == Kind.FAILED:
                    raise Infrastructure(f"failed: {body.decode()}")
                return body
            except BlockingIOError:
                self.close()
                raise Infrastructure(f"has not answered {self.transport.name} for {LIMIT_S:.0f} s") from None
            except OSError as error:
                self.stream.close()
                self.stream = None
                if monotonic() > until:
                    raise Infrastructure(f"cannot be reached: {error}") from None


class Deliveries(Outbound):
    """The channel for deliveries: a thread of its own connects, and sends again what did not arrive.

    Attributes:
        sent: (number, delivery) of those of which the other side has not said that it has them.
    """

    def __init__(self, transport: SocketTransport, name: str):
        super().__init__(transport, name, asks=False)
        self.lock = threading.Lock()
        self.sent: deque[tuple[int, bytes]] = deque()
        threading.Thread(target=self._watch, name=f"to {name}", daemon=True).start()

    def post(self, delivery: bytes) -> None:
        with self.lock:
            self.number += 1
            self.sent.append((self.number, delivery))
            if self.stream is not None:
                try:
                    self.stream.send(Kind.DELIVERY, self.number, delivery)
                except OSError:
                    self.stream.cut()  # the thread is told, and connects again

    def _watch(self) -> None:
        try:
            while not self.closed:
                stream, taken = self.connect(monotonic() + LIMIT_S)
                try:
                    with self.lock:
                        self._arrived(taken)
                        for number, delivery in self.sent:
                            stream.send(Kind.DELIVERY, number, delivery)
                        self.stream = stream
                        if self.closed:
                            stream.cut()
                    while True:
                        _, number, _ = stream.receive()
                        with self.lock:
                            self._arrived(number)
                except OSError:
                    with self.lock:
                        self.stream = None
                    stream.close()
        except Infrastructure as error:
            if not self.closed:
                self.transport.failed.append(f"{self.transport.labels.get(self.name, self.name)} {error}")

    def _arrived(self, number: int) -> None:
        while self.sent and self.sent[0][0] <= number:
            self.sent.popleft()


class SocketTransport:
    """Sockets to the hosts of other nodes, and the socket at which they reach this host.

    Args:
        name: of this host.
        secret: of the machine; a process that knows it may connect.
        admit, deliver: of this host.

    Attributes:
        host_of: node -> the host that carries it.
        labels: host -> what it is, with process and computer; a message about it says so.
        addresses: of all hosts, by name.
        here: of this host.
        run: digest of the identity of the run that is going on.
    """

    def __init__(
        self, name: str, secret: bytes, admit: Callable[[bytes], bytes], deliver: Callable[[bytes], None]
    ) -> None:
        self.name, self.secret, self.admit, self.deliver = name, secret, admit, deliver
        self.host_of: dict[str, str] = {}
        self.labels: dict[str, str] = {}
        self.addresses: dict[str, Address] = {}
        self.here = Address(this_place(), "", None)
        self.run = bytes(8)
        self.lock = threading.Lock()
        self.listeners: list[socket.socket] = []
        self.frames: dict[str, Frames] = {}
        self.deliveries: dict[str, Deliveries] = {}
        self.inbound: dict[bytes, Inbound] = {}
        self.failed: list[str] = []
        self.greeting = threading.BoundedSemaphore(MAX_GREETING)

    # -- who listens -------------------------------------------------------------

    def listen(self) -> Address:
        """Be reachable for the hosts of this place."""
        if sys.platform != "linux":
            return self.listen_tcp(LOOPBACK)
        listener, name = socket.socket(socket.AF_UNIX), f"uvmp-{secrets.token_hex(16)}"
        listener.bind("\0" + name)
        self._serve(listener)
        self.here = self.here._replace(unix=name)
        return self.here

    def listen_tcp(self, ip: str) -> Address:
        """Be reachable for hosts of other places too, at an address of this computer."""
        listener = socket.socket(socket.AF_INET6 if ":" in ip else socket.AF_INET)
        listener.bind((ip, 0))
        self._serve(listener)
        self.here = self.here._replace(tcp=listener.getsockname()[:2])
        return self.here

    def _serve(self, listener: socket.socket) -> None:
        listener.listen(128)
        self.listeners.append(listener)
        threading.Thread(target=self._accept, args=(listener,), name="listens", daemon=True).start()

    def dial(self, name: str) -> socket.socket:
        """A connection to another host.

        Raises: OSError.
        """
        address = self.addresses[name]
        if not address.unix or address.place != self.here.place:
            assert address.tcp is not None
            return _immediate(socket.create_connection(address.tcp, timeout=GREETING_S))
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.connect("\0" + address.unix)
        except OSError:
            sock.close()
            raise
        return sock

    def close(self) -> None:
        """End all connections; nothing listens any more."""
        self.begin("")
        for listener in self.listeners:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()

    # -- the transport -----------------------------------------------------------

    def begin(self, run: str) -> None:
        with self.lock:
            self.run = hashlib.sha256(run.encode()).digest()[:8]
            channels = [*self.frames.values(), *self.deliveries.values()]
            streams = [inbound.stream for inbound in self.inbound.values()]
            self.frames, self.deliveries, self.inbound, self.failed = {}, {}, {}, []
        for channel in channels:
            channel.close()
        for stream in streams:
            if stream is not None:
                stream.cut()

    def ask(self, node: str, frames: bytes) -> bytes:
        name = self.host_of[node]
        channel = self.frames.get(name)
        if channel is None:
            with self.lock:
                channel = self.frames[name] = Frames(self, name, asks=True)
        try:
            return channel.ask(frames)
        except Infrastructure as error:
            raise Infrastructure(f"{self.labels.get(name, node)} {error}") from None

    def post(self, processor: str, delivery: bytes) -> None:
        name = self.host_of[processor]
        channel = self.deliveries.get(name)
        if channel is None:
            with self.lock:
                channel = self.deliveries.get(name) or self.deliveries.setdefault(name, Deliveries(self, name))
        channel.post(delivery)

    def failures(self) -> list[str]:
        return list(self.failed)

    def fail(self, why: str) -> None:
        self.failed.append(f"{self.name}: {why}")

    # -- what arrives --------------------------------------------------------------

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                if listener.fileno() < 0:
                    return  # it was closed
                sleep(RETRY_S)  # there are too many open files, or the like
                continue
            if not _is_ours(sock) or not self.greeting.acquire(blocking=False):
                sock.close()
                continue
            threading.Thread(target=self._receive, args=(sock,), name="serves", daemon=True).start()

    def _receive(self, sock: socket.socket) -> None:
        """One connection of another host, to its end."""
        with contextlib.closing(sock), contextlib.suppress(OSError):
            try:
                greeting = Greeting(_immediate(sock), self.secret)
                inbound = self._inbound(greeting)
            finally:
                self.greeting.release()
            if inbound is None:
                return
            stream = greeting.stream
            perform, wanted = (self._frames, Kind.FRAMES) if greeting.caller.asks else (self._delivery, Kind.DELIVERY)
            while True:
                kind, number, body = stream.receive()
                if kind != wanted or greeting.caller.run != self.run:
                    return
                with inbound.lock:
                    perform(inbound, stream, number, body)

    def _inbound(self, greeting: Greeting) -> Inbound | None:
        """The channel of a caller, whose connection is now this connection; None: it is not of this run."""
        with self.lock:
            if greeting.caller.run != self.run:
                return None
            inbound = self.inbound.setdefault(greeting.caller.channel, Inbound())
        with inbound.lock:  # what came over the last connection has been performed
            if inbound.stream is not None:
                inbound.stream.cut()
            inbound.stream = greeting.answer(inbound.in_order.taken)
        return inbound

    def _frames(self, inbound: Inbound, stream: Stream, number: int, body: bytes) -> None:
        for frames in inbound.in_order.take(number, body):
            try:
                inbound.answer = Kind.ANSWER, self.admit(frames)
            except Exception as error:
                reason = str(error) if isinstance(error, Infrastructure) else f"{type(error).__name__}: {error}"
                inbound.answer = Kind.FAILED, reason.encode()
        if number == inbound.in_order.taken:
            kind, answer = inbound.answer
            stream.send(kind, number, answer)

    def _delivery(self, inbound: Inbound, stream: Stream, number: int, body: bytes) -> None:
        for delivery in inbound.in_order.take(number, body):
            try:
                self.deliver(delivery)
            except Exception as error:
                self.fail(f"a delivery failed: {type(error).__name__}: {error}")
        if number % TAKEN_EVERY == 0:
            stream.send(Kind.TAKEN, inbound.in_order.taken)


def _is_ours(sock: socket.socket) -> bool:
    """Is the other side a process of our user? (Who connects over TCP is not known before the greeting.)"""
    if sock.family != socket.AF_UNIX:
        return True
    _, uid, _ = _CREDENTIALS.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return bool(uid == os.geteuid())


def _immediate(sock: socket.socket) -> socket.socket:
    """Without timeouts of Python's own, and without waiting for more to send."""
    sock.settimeout(None)
    if sock.family != socket.AF_UNIX:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock
