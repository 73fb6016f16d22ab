"""Fixtures: one Ray for the whole session, and live machines that are always ended."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import Phase, settings

from shared.scenario.model import Scenario
from tests.kit import SHIPPED

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
    """All tests of a shipped scenario go to one worker of xdist: kit.searched() and other caches serve them there."""
    for item in items:
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
def live_machine(ray_session: Any) -> Iterator[Callable[..., Any]]:
    """Boots live machines; their actors are ended after the test."""
    from cluster.live.machine import LiveMachine

    machines = []

    def boot(scene: Scenario, **options: Any) -> Any:
        machine = LiveMachine(ray_session, scene, **options)
        machines.append(machine)
        return machine

    yield boot
    for machine in machines:
        machine.close()
