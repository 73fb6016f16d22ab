"""A port of another host is dead only if the host denies several times in a row that a process listens there."""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from cluster.live import listens
from cluster.live.listens import REFUSALS, Port

PLENTY = 3 * REFUSALS


@pytest.fixture
def listener(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A socket that accepts connections."""
    monkeypatch.setattr(listens, "LOOK_S", 0.0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def looks(port: Port, times: int) -> list[bool]:
    """Whether it is dead, after each of some attempts to connect."""
    dead = []
    for _ in range(times):
        ready = select.select([], port.waits, [], 0.05)[1]
        dead.append(port.is_dead(ready))
    return dead


def address(server: socket.socket) -> str:
    host, number = server.getsockname()
    return f"{host}:{number}"


def test_it_is_dead_after_some_refusals_in_a_row(listener: socket.socket) -> None:
    port = Port(address(listener))
    assert not any(looks(port, PLENTY)) and listens.listens(port.address)
    listener.close()
    dead = looks(port, PLENTY)
    assert dead[-1] and not any(dead[: REFUSALS - 1])
    assert listens.listens(port.address) is False


def test_a_port_that_listens_again_is_not_dead(listener: socket.socket) -> None:
    port, place = Port(address(listener)), listener.getsockname()
    listener.close()
    assert not any(looks(port, REFUSALS - 1)) and port.refused
    with socket.create_server(place):
        assert not any(looks(port, PLENTY)) and port.refused == 0


def test_no_answer_is_no_death(listener: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    """The queue of the listener is full: as from behind a link that is cut, nothing comes back."""
    monkeypatch.setattr(listens, "CONNECT_S", 0.1)
    listener.listen(0)
    with ExitStack() as stack:
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        port = Port(address(listener))
        assert not any(looks(port, PLENTY)) and port.refused == 0
        assert listens.listens(port.address) is None


def test_an_address_without_a_port_is_no_death() -> None:
    port = Port("nowhere")
    assert not any(looks(port, 2)) and listens.listens("nowhere") is None
