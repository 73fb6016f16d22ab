"""Litmus tests on real processes, with one memory shard slow: what memory never does, it does not do here either."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from cluster.runs.replay import replay_journals
from cluster.search.walk import RandomWalk
from shared.journal.order import linearize
from shared.journal.record import holes
from shared.scenario.model import named_results
from tests.kit import run_recorded, scenario

pytestmark = pytest.mark.live
RUNS = 4


@pytest.fixture
def slow(ray_session: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Actors of which one shard's is slow. (They import Ray, which may only be done once its environment is set.)"""
    import nodes.host.ray
    from tests.parity.actors import Slow

    monkeypatch.setattr(nodes.host.ray, "NodeActor", Slow)


@pytest.mark.usefixtures("slow")
@pytest.mark.parametrize("name", ["litmus-mp", "litmus-sb"])
def test_the_forbidden_outcome_never_occurs(name: str, live_machine: Callable[..., Any]) -> None:
    """Free-running; a store to the slow shard must be applied before its CPU continues to the other one.

    tests/nodes/test_runner.py shows that a CPU which does not wait is caught by the same scenario.
    """
    scene = scenario(name)
    machine = live_machine(scene)
    for seed in range(RUNS):
        run = machine.run(seed=seed)
        results = named_results(run.results)
        assert run.finding is None and scene.expect.fixed.check(None, results) is None
        assert holes(run.journals) == []
        linearize(run.journals)
        assert replay_journals(scene, run.journals).digest == run.digest


@pytest.mark.usefixtures("slow")
@pytest.mark.parametrize("name", ["litmus-mp", pytest.param("litmus-sb", marks=pytest.mark.long)])
def test_every_order_of_sim_is_followed_with_a_slow_shard(name: str, live_machine: Callable[..., Any]) -> None:
    """What comes too early for the schedule waits at its node; the outcome is the schedule's."""
    scene = scenario(name)
    machine = live_machine(scene)
    for seed in range(3):
        wanted = run_recorded(scene, RandomWalk(seed))
        run = machine.run(follow=wanted.journals)
        assert run.digest == wanted.digest and run.results == wanted.results
