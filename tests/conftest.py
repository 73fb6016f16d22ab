"""Fixtures: one Ray for the whole session, and live machines that are always ended."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, settings

from shared.scenario.model import Scenario
from tests.kit import SHIPPED, uvmp

# The same examples every time, and no deadline: how long an example takes says something of the machine, not of ours.
settings.register_profile("uvmp", deadline=None, derandomize=True)
# A mutant that fails need not fail with the smallest example; to look for that takes minutes.
settings.register_profile("mutants", deadline=None, derandomize=True, phases=(Phase.explicit, Phase.generate))
settings.load_profile("uvmp")


# Who starts us with nohup, or in the background, has signals ignored; the tests' commands are to be ended by them.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rewrite", action="store_true", help="Write tests/transcripts/*.txt anew.")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All tests of a shipped scenario go to one worker of xdist: kit.searched() and other caches serve them there.

    Raises: pytest.UsageError - a test starts Ray, and is not marked for that.
    """
    for item in items:
        if "ray_session" in getattr(item, "fixturenames", ()) and item.get_closest_marker("live") is None:
            raise pytest.UsageError(f"{item.nodeid} starts Ray; mark it with pytest.mark.live")
        call = getattr(item, "callspec", None)
        if call is not None and call.params.get("name") in SHIPPED:
            item.add_marker(pytest.mark.xdist_group(call.params["name"]))


@pytest.fixture(scope="session")
def ray_session() -> Iterator[Any]:
    """The ray module, connected to a private Ray that is started for the first test that wants it."""
    from cluster.live.actors import ray_session as session

    with session() as ray:
        yield ray


@pytest.fixture
def sessions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder, in which machines that stay can be booted; they are ended with the test."""
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for socket in tmp_path.glob("*/socket"):
        uvmp("attach", socket.parent, "-c", "halt")


#: machines whose actors are kept for the next test; each actor takes 60 MiB
KEPT = 2


class Pool:
    """Actors for live machines, kept from test to test: to start them takes longer than most tests."""

    def __init__(self, ray: Any):
        self.ray = ray
        self.kept: dict[Any, Any] = {}

    def actors(self, scene: Scenario, transport: str) -> Any:
        """Actors with the nodes of a scenario's machine, which have perhaps served another."""
        import nodes.host.ray
        from cluster.live.actors import Actors
        from shared.errors import Infrastructure

        class Kept(Actors):
            def kill(self) -> None:
                """The next test may want them."""

        key = scene.machine.actors, transport, nodes.host.ray.NodeActor
        actors = self.kept.pop(key, None)
        if actors is not None:
            try:
                actors.call("clean")
            except Infrastructure:  # one of them is dead
                Actors.kill(actors)
                actors = None
        self.kept[key] = actors or Kept(self.ray, scene.machine, transport=transport)
        while len(self.kept) > KEPT:
            Actors.kill(self.kept.pop(next(iter(self.kept))))
        return self.kept[key]


@pytest.fixture(scope="session")
def pool(ray_session: Any) -> Pool:
    return Pool(ray_session)


@pytest.fixture
def live_machine(ray_session: Any, pool: Pool) -> Iterator[Callable[..., Any]]:
    """Boots live machines. Their actors serve other tests too, except with `fresh`."""
    from cluster.live.machine import LiveMachine
    from nodes.host.transport import DEFAULT

    machines = []

    def boot(scene: Scenario, fresh: bool = False, transport: str = DEFAULT) -> Any:
        actors = None if fresh else pool.actors(scene, transport)
        machine = LiveMachine(ray_session, scene, transport=transport, actors=actors)
        machines.append(machine)
        return machine

    yield boot
    for machine in machines:
        machine.close()
