"""An actor that runs other source, and a node that was built with an old table: neither machine starts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from cluster.live.machine import LiveMachine
from cluster.search.strategy import Stay
from shared.errors import Infrastructure
from tests.kit import run_recorded, scenario

pytestmark = pytest.mark.live


def test_an_actor_that_was_started_with_other_source_is_refused(
    live_machine: Callable[..., LiveMachine], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One sentence names the actor, and the table that is another."""
    import nodes.host.ray  # (not before Ray has been started)
    from tests.parity.actors import OtherSource

    monkeypatch.setattr(nodes.host.ray, "NodeActor", OtherSource)
    machine = live_machine(scenario("S4").without_errata())
    with pytest.raises(Infrastructure, match=r"actor cpu0 runs different source: its constants differ from ours"):
        machine.run()


def test_a_node_with_an_old_table_is_a_finding_in_every_engine(live_machine: Callable[..., LiveMachine]) -> None:
    scene = scenario("S4")
    once = run_recorded(scene, Stay())
    machine = live_machine(scene)
    runs: list[Any] = [machine.run(), machine.run(follow=once.journals)]
    for run in runs:
        assert run.finding is not None and once.finding is not None
        assert run.finding.as_dict() == once.finding.as_dict() and run.digest == once.digest
