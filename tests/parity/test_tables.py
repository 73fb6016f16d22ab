"""An actor that runs other source, and a node that was built with an old table: neither machine starts."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cluster.live.actors import Actors
from cluster.live.machine import LiveMachine
from cluster.search.strategy import Stay
from shared.errors import Infrastructure
from tests.kit import run_recorded, scenario

pytestmark = pytest.mark.live
ROOT = Path(__file__).parents[2]


def test_an_actor_that_was_started_with_other_source_is_refused(
    live_machine: Callable[..., LiveMachine], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One sentence names the actor, and the table that is another."""
    import nodes.host.ray  # (not before Ray has been started)
    from tests.parity.actors import OtherSource

    monkeypatch.setattr(nodes.host.ray, "NodeActor", OtherSource)
    machine = live_machine(scenario("S4").without_errata())
    with pytest.raises(
        Infrastructure, match=r"of cpu0 \(pid \d+\) on \S+ runs different source: its constants differ from"
    ):
        machine.run()


def test_an_actor_with_another_kernel_source_is_refused_before_anything_runs(
    ray_session: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its tables are equal: a function has another statement, as when only one host of two was updated."""
    import nodes.host.ray
    from tests.parity.installed import Installed

    for package in ("nodes", "shared"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    fault = tmp_path / "shared" / "uvm" / "fault.py"
    fault.write_text(fault.read_text(encoding="utf-8") + "\nLATER = True\n", encoding="utf-8")
    monkeypatch.setattr(nodes.host.ray, "NodeActor", Installed)
    there: dict[str, object] = {"runtime_env": {"env_vars": {"UVMP_TEST_ROOT": str(tmp_path), "UVMP_FORM": "plain"}}}
    with pytest.raises(Infrastructure, match=r"actor cpu0 on \S+ runs different source \(shared/uvm/fault.py\);"):
        Actors(ray_session, scenario("S4").machine, options={"cpu0": there})


def test_a_node_with_an_old_table_is_a_finding_in_every_engine(live_machine: Callable[..., LiveMachine]) -> None:
    scene = scenario("S4")
    once = run_recorded(scene, Stay())
    machine = live_machine(scene)
    runs: list[Any] = [machine.run(), machine.run(follow=once.journals)]
    for run in runs:
        assert run.finding is not None and once.finding is not None
        assert run.finding.as_dict() == once.finding.as_dict() and run.digest == once.digest
