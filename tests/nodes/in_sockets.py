"""A machine of hosts in this process that reach each other over sockets, and a network that misbehaves between them."""

from __future__ import annotations

import contextlib
import secrets
import socket
import threading
import time
import weakref
from collections import Counter
from random import Random
from typing import Any

from nodes.host import stream
from nodes.host.host import Host
from nodes.host.sockets import LOOPBACK, Address, SocketTransport
from nodes.host.stream import Kind, Stream
from nodes.host.transport import Transport
from shared.scenario.model import Scenario
from tests.nodes.in_threads import Threads

SECRET = b"of the tests" * 3


class Sockets(Threads):
    """As `Threads`, with a transport of sockets for each host.

    Args:
        tcp: the hosts take each other for hosts of several computers.
        network: through which everything goes.
        leases: structs are lent to processors.
    """

    def __init__(
        self,
        scene: Scenario,
        *,
        tcp: bool = False,
        network: Network | None = None,
        leases: bool = False,
        **options: Any,
    ):
        self.tcp, self.network, self.leases = tcp, network, leases
        self.transports: dict[str, SocketTransport] = {}
        self.addresses: dict[str, Address] = {}
        super().__init__(scene, **options)
        weakref.finalize(self, end, list(self.transports.values()))

    def transport_of(self, host: Host, node: str) -> Transport:
        host.leases = self.leases
        transport = self.transports[node] = SocketTransport(node, SECRET, host.admit, host.deliver)
        if self.tcp:
            transport.here = transport.here._replace(place=node)
        address = transport.listen()
        if self.tcp:
            address = transport.listen_tcp(LOOPBACK)
        self.addresses[node] = address if self.network is None else self.network.before(address)
        transport.addresses, transport.host_of = self.addresses, self.host_of
        return transport


def end(transports: list[SocketTransport]) -> None:
    for transport in transports:
        transport.close()


class Network:
    """Repeats, delays, exchanges and loses messages, and cuts connections; after a loss it always cuts.

    Attributes:
        did: what -> how often.
    """

    def __init__(self, seed: int, trouble: float = 0.02, delay_s: float = 0.001):
        self.seed, self.trouble, self.delay_s = seed, trouble, delay_s
        self.did: Counter[str] = Counter()
        self.connections = 0
        self.listeners: list[socket.socket] = []

    def before(self, address: Address) -> Address:
        """The address at which a host is reached through this network."""
        listener, name = socket.socket(socket.AF_UNIX), f"uvmp-test-{secrets.token_hex(8)}"
        listener.bind("\0" + name)
        listener.listen(64)
        self.listeners.append(listener)
        threading.Thread(target=self._accept, args=(listener, address.unix), daemon=True).start()
        return address._replace(unix=name)

    def close(self) -> None:
        for listener in self.listeners:
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()

    def _accept(self, listener: socket.socket, behind: str) -> None:
        while True:
            try:
                client = listener.accept()[0]
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX)
            try:
                server.connect("\0" + behind)
            except OSError:
                client.close()
                continue
            self.connections += 1
            ends = Stream(client), Stream(server)
            dice = Random(self.seed * 1_000_003 + self.connections)
            said = stream._NONCE + stream._CALLER.size + stream._PROOF
            for here, there, greeting in (
                (*ends, (said,)),
                (*reversed(ends), (stream._NONCE, stream._TAKEN.size + stream._PROOF)),
            ):
                threading.Thread(target=self._carry, args=(here, there, greeting, dice), daemon=True).start()

    def _carry(self, here: Stream, there: Stream, greeting: tuple[int, ...], dice: Random) -> None:
        """All that comes from one side of a connection, to the other."""
        with contextlib.suppress(OSError):
            for size in greeting:
                there.sock.sendall(here.exactly(size))
            while True:
                message = here.receive()
                often = 6 if message[0] == Kind.DELIVERY else 1  # there are far fewer of them
                trouble = ""
                if dice.random() < often * self.trouble:
                    trouble = dice.choice(("cut", "lost", "twice", "late", "exchanged"))
                if trouble == "exchanged" and message[0] != Kind.DELIVERY:  # frames come one at a time
                    trouble = "late"
                self.did[trouble] += bool(trouble)
                if trouble == "late":
                    time.sleep(self.delay_s)
                elif trouble == "exchanged":
                    here.sock.settimeout(self.delay_s)
                    with contextlib.suppress(TimeoutError):
                        self._send(there, here.receive())
                    here.sock.settimeout(None)
                if trouble != "lost":
                    self._send(there, message)
                if trouble == "twice":
                    self._send(there, message)
                if trouble in ("cut", "lost"):
                    break
        here.cut()
        there.cut()

    def _send(self, there: Stream, message: tuple[int, int, bytes]) -> None:
        kind, number, body = message
        there.send(Kind(kind), number, body)
