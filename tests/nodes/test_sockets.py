"""Sockets between hosts: every message arrives once and in order, whatever happens to connections."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.runs.replay import replay_journals
from cluster.search.walk import RandomWalk
from nodes.host import sockets, stream
from nodes.host.sockets import LOOPBACK, MAX_EARLY, InOrder, SocketTransport
from nodes.host.stream import MAX_BODY, Caller, Greeting, Kind, Refused, Stream, greet
from shared.errors import Infrastructure
from shared.journal.order import linearize
from shared.journal.record import digest, holes
from tests.kit import run_recorded, scenario
from tests.nodes.in_sockets import SECRET, Network, Sockets

pytestmark = pytest.mark.wide

CALLER = Caller("cpu0", True, b"channel0", b"run00000")


# -- the order of arrival ------------------------------------------------------------------


def test_messages_are_taken_once_and_in_order() -> None:
    arrived = InOrder()
    takes = [arrived.take(number, b"%d" % number) for number in (1, 3, 3, 2, 1, 2, 5, 4, 5)]
    assert takes == [[b"1"], [], [], [b"2", b"3"], [], [], [], [b"4", b"5"], []]
    assert arrived.taken == 5 and arrived.early == {}


def test_what_waits_for_an_earlier_message_is_bounded() -> None:
    """A peer that leaves one out must not fill our memory."""
    arrived = InOrder()
    for number in range(2, MAX_EARLY + 2):
        assert arrived.take(number, b"") == []
    with pytest.raises(ConnectionError, match="wait for number 1"):
        arrived.take(MAX_EARLY + 2, b"")


# -- one connection --------------------------------------------------------------------------


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ends = socket.socketpair()
    yield ends
    for end in ends:
        end.close()


Pair = tuple[socket.socket, socket.socket]


def test_messages_arrive_whole_however_they_are_cut(pair: Pair) -> None:
    here, there = Stream(pair[0]), Stream(pair[1])
    bodies = [b"", b"a", b"x" * 200_000, b"z"]
    sender = threading.Thread(target=lambda: [here.send(Kind.FRAMES, at, body) for at, body in enumerate(bodies)])
    sender.start()
    assert [there.receive() for _ in bodies] == [(Kind.FRAMES, at, body) for at, body in enumerate(bodies)]
    sender.join()
    here.sock.sendall(b"torn")
    here.close()
    with pytest.raises(ConnectionError, match="closed"):
        there.receive()


@pytest.mark.parametrize(("size", "kind"), [(MAX_BODY + 1, Kind.FRAMES), (0xFFFFFFFF, Kind.ANSWER), (1, 0), (1, 77)])
def test_what_is_no_message_ends_the_connection(size: int, kind: int, pair: Pair) -> None:
    """Before a byte of its body is read."""
    pair[0].sendall(stream._HEAD.pack(size, 1, kind))
    with pytest.raises(Refused, match=f"kind {int(kind)} and {size} bytes"):
        Stream(pair[1]).receive()


def served(pair: Pair, secret: bytes, taken: int = 0) -> list[object]:
    """What the server's side of a greeting comes to, in a thread."""
    came: list[object] = []

    def serve() -> None:
        try:
            greeting = Greeting(pair[1], secret)
            came.append(greeting.caller)
            greeting.answer(taken)
        except OSError as error:
            came.append(error)
            pair[1].close()

    threading.Thread(target=serve, daemon=True).start()
    return came


def test_who_knows_the_secret_is_let_in_and_told_what_has_arrived(pair: Pair) -> None:
    came = served(pair, SECRET, 17)
    _, taken = greet(pair[0], SECRET, CALLER)
    assert came == [CALLER] and taken == 17


def test_who_does_not_know_the_secret_is_not_let_in(pair: Pair) -> None:
    came = served(pair, SECRET)
    with pytest.raises(OSError):
        greet(pair[0], b"another", CALLER)
    assert isinstance(came[0], Refused)


def test_a_server_that_does_not_know_the_secret_gets_no_frame(pair: Pair) -> None:
    """Who took the address of a host could otherwise answer for it: it repeats our own words to us."""

    def parrot() -> None:
        pair[1].sendall(b"n" * 32)
        pair[1].recv(4096)
        pair[1].sendall(bytes(8) + b"p" * 32)

    threading.Thread(target=parrot, daemon=True).start()
    with pytest.raises(Refused, match="does not know the secret"):
        greet(pair[0], SECRET, CALLER)


def test_a_greeting_that_was_overheard_opens_nothing(pair: Pair) -> None:
    """The challenge is another each time."""
    said: list[bytes] = []
    came = served(pair, SECRET)
    sent = pair[0]

    class Overheard:
        def __getattr__(self, name: str) -> Any:
            return getattr(sent, name)

        def sendall(self, data: bytes) -> None:
            said.append(data)
            sent.sendall(data)

    greet(Overheard(), SECRET, CALLER)  # type: ignore[arg-type]
    assert came == [CALLER]
    again = socket.socketpair()
    came = served(again, SECRET)
    again[0].recv(32)
    again[0].sendall(said[0])
    assert again[0].recv(100) == b"" and isinstance(came[0], Refused)
    again[0].close()


def test_who_says_nothing_is_not_waited_for(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "GREETING_S", 0.05)
    with pytest.raises(BlockingIOError):
        Greeting(pair[1], SECRET)


# -- two hosts -------------------------------------------------------------------------------


def wait_until(holds: Callable[[], bool]) -> bool:
    """Whether it holds within twenty seconds."""
    end = time.monotonic() + 20
    while not holds() and time.monotonic() < end:
        time.sleep(0.001)
    return holds()


class Two:
    """Two hosts, `a` and `b`, that note what they are told; a frame is answered by itself in capitals."""

    def __init__(self, tcp: bool = False):
        self.told: dict[str, list[bytes]] = {"a": [], "b": []}
        self.hosts = {name: SocketTransport(name, SECRET, self.admit(name), self.told[name].append) for name in "ab"}
        for name, host in self.hosts.items():
            if tcp:
                host.here = host.here._replace(place=name)
        addresses = {name: host.listen_tcp(LOOPBACK) if tcp else host.listen() for name, host in self.hosts.items()}
        for host in self.hosts.values():
            host.addresses, host.host_of = addresses, {"a": "a", "b": "b"}
        self.a, self.b = self.hosts.values()

    def admit(self, name: str) -> Callable[[bytes], bytes]:
        def admit(frame: bytes) -> bytes:
            if frame == b"wrong":
                raise ValueError("no such node")
            self.told[name].append(frame)
            return frame.upper()

        return admit

    def wait(self, name: str, count: int) -> list[bytes]:
        wait_until(lambda: len(self.told[name]) >= count)
        return self.told[name]


@pytest.fixture(params=["unix", "tcp"])
def two(request: pytest.FixtureRequest) -> Iterator[Two]:
    made = Two(request.param == "tcp")
    yield made
    for host in made.hosts.values():
        host.close()


def test_a_frame_is_answered_and_deliveries_arrive_in_order(two: Two) -> None:
    assert [two.a.ask("b", b"x%d" % at) for at in range(3)] == [b"X0", b"X1", b"X2"]
    for at in range(100):
        two.b.post("a", b"%d" % at)
    assert two.wait("a", 100) == [b"%d" % at for at in range(100)]
    assert two.a.failures() == two.b.failures() == []
    sent = two.b.deliveries["a"].sent  # a says what it has taken after it took it, so b learns that later still
    assert wait_until(lambda: len(sent) < 2 * sockets.TAKEN_EVERY), "what has arrived is not kept"


def test_a_host_that_fails_says_so_and_goes_on(two: Two) -> None:
    with pytest.raises(Infrastructure, match="b failed: ValueError: no such node"):
        two.a.ask("b", b"wrong")
    assert two.a.ask("b", b"x") == b"X"


def test_a_cut_connection_is_made_anew_and_nothing_is_lost_or_doubled(two: Two) -> None:
    """The reply to a frame, and deliveries, are on their way when the connection ends."""
    two.a.ask("b", b"0")
    for at in range(1, 40):
        for inbound in two.b.inbound.values():
            assert inbound.stream is not None
            inbound.stream.cut()
        assert two.a.ask("b", b"%d" % at) == b"%d" % at
    assert two.told["b"] == [b"%d" % at for at in range(40)]
    for at in range(200):
        two.b.post("a", b"%d" % at)
        if at % 20 == 10:
            two.wait("a", 1)
            for inbound in list(two.a.inbound.values()):
                assert inbound.stream is not None
                inbound.stream.cut()
    assert two.wait("a", 200) == [b"%d" % at for at in range(200)]
    assert two.a.failures() == two.b.failures() == []


def test_a_dead_host_is_told_at_once(two: Two) -> None:
    two.a.ask("b", b"x")
    two.a.post("b", b"y")
    two.wait("b", 2)
    two.a.labels = {"b": "the actor of b (pid 7) on far"}  # before the stream of deliveries may notice the death
    two.b.close()
    began = time.monotonic()
    with pytest.raises(Infrastructure, match=r"^the actor of b \(pid 7\) on far died: "):
        two.a.ask("b", b"x")
    two.a.post("b", b"z")
    wait_until(lambda: bool(two.a.failures()))
    assert any(why.startswith("the actor of b (pid 7) on far died: ") for why in two.a.failures())
    assert time.monotonic() - began < stream.GREETING_S


def test_a_host_that_does_not_answer_is_waited_for_so_long(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "LIMIT_S", 0.1)
    two.b.admit = lambda frame: time.sleep(0.5) or b""
    with pytest.raises(Infrastructure, match="b has not answered a for"):
        two.a.ask("b", b"x")


def test_nothing_of_the_last_run_arrives_in_the_next(two: Two) -> None:
    """Neither what is under way when a host begins the next, nor what a host sends that is still in the last."""
    two.b.post("a", b"old")
    two.wait("a", 1)
    two.a.begin("next")
    for _ in range(3):
        two.b.post("a", b"stale")
    time.sleep(4 * sockets.RETRY_S)
    two.b.begin("next")
    two.b.post("a", b"new")
    assert two.wait("a", 2) == [b"old", b"new"]
    assert two.a.failures() == two.b.failures() == []
    assert two.a.ask("b", b"x") == b"X"


def test_a_stranger_is_not_answered(two: Two) -> None:
    """Whatever it sends; and hosts continue."""
    address = two.b.here
    for said in (b"", b"GET / HTTP/1.1\r\n\r\n" + b"x" * 400, bytes(32 + 81 + 32)):
        stranger = socket.create_connection(address.tcp) if address.tcp else socket.socket(socket.AF_UNIX)
        if not address.tcp:
            stranger.connect("\0" + address.unix)
        challenge = stranger.recv(32)
        assert len(challenge) == 32
        stranger.sendall(said)
        stranger.shutdown(socket.SHUT_WR)
        try:
            assert stranger.recv(100) == b""
        except ConnectionResetError:
            pass
        stranger.close()
    assert two.told["b"] == [] and two.a.ask("b", b"x") == b"X"


def test_a_process_of_another_user_is_not_even_challenged(monkeypatch: pytest.MonkeyPatch) -> None:
    """An abstract socket has no permissions of its own."""
    made = Two()
    monkeypatch.setattr(sockets.os, "geteuid", lambda: 12345)
    stranger = socket.socket(socket.AF_UNIX)
    stranger.connect("\0" + made.b.here.unix)
    assert stranger.recv(32) == b""
    stranger.close()
    for host in made.hosts.values():
        host.close()


def test_what_listens_is_no_file_or_at_the_given_address_alone() -> None:
    made = Two()
    assert made.b.here.tcp is None and not Path(made.b.here.unix).exists()
    [listener] = made.b.listeners
    assert listener.family == socket.AF_UNIX and listener.getsockname()[:1] == b"\0"
    address = made.b.listen_tcp("127.0.0.2")
    assert address.tcp is not None and address.tcp[0] == "127.0.0.2" == made.b.listeners[1].getsockname()[0]
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", address.tcp[1]))
    for host in made.hosts.values():
        host.close()


# -- machines ----------------------------------------------------------------------------------


@pytest.mark.parametrize("tcp", [False, True], ids=["unix", "tcp"])
def test_a_machine_over_sockets_is_the_one_of_sim(tcp: bool) -> None:
    """A schedule of sim followed, and a free run replayed in sim."""
    scene = scenario("S3a", shards="{lock_manager: 2, memory: 2}")
    wanted = run_recorded(scene, RandomWalk(2))
    followed = Sockets(scene, tcp=tcp, follow=wanted.journals)
    finding = followed.run()
    assert digest(followed.records()) == wanted.digest
    assert (finding and finding.as_dict()) == (wanted.finding and wanted.finding.as_dict())
    fixed = scene.without_errata()
    free = Sockets(fixed, tcp=tcp)
    assert free.run() is None
    assert replay_journals(fixed, free.records()).digest == digest(free.records())


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.long) for seed in (1, 2))])
def test_a_network_that_misbehaves_changes_nothing(seed: int) -> None:
    """Messages come twice, late, in another order, or not at all; connections end. Everything is performed once."""
    network = Network(seed, trouble=0.05)
    scene = scenario("S3a", shards="{lock_manager: 2, memory: 2}").without_errata()
    free = Sockets(scene, network=network, seed=seed)
    assert free.run() is None
    assert holes(free.records()) == []
    linearize(free.records())
    assert replay_journals(scene, free.records()).digest == digest(free.records())
    wanted = run_recorded(scene, RandomWalk(seed))
    followed = Sockets(scene, network=network, follow=wanted.journals)
    followed.run()
    assert digest(followed.records()) == wanted.digest
    assert all(transport.failed == [] for machine in (free, followed) for transport in machine.transports.values())
    assert {"cut", "lost", "twice", "late", "exchanged"} <= network.did.keys(), network.did
    network.close()
