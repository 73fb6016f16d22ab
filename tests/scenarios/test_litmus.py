"""Litmus tests in sim, in every order there is: what memory never does, and what it does."""

from __future__ import annotations

import pytest

from cluster.boot import prepare
from cluster.sim.engine import Sim
from shared.findings import Finding
from shared.scenario.load import load_scenario
from shared.scenario.model import Scenario, named_results
from tests.kit import CONFIGS, Exhaust, executions, scenario


def outcomes(scene: Scenario) -> tuple[set[tuple[tuple[str, int | str], ...]], int, list[Finding]]:
    """Results of all orders of the programs' steps, how many orders those were, and findings."""
    machine, image = prepare(scene)
    sim = Sim(machine, image)
    length = {lwp.name: len(lwp.program) for lwp in scene.lwps}
    tree = Exhaust(lambda thread: len(thread.results) < length.get(thread.name, 0))
    seen, findings = set(), []
    for finding in executions(sim, tree):
        if finding is not None:
            findings.append(finding)
        results = named_results({name: thread.results for name, thread in machine.threads.items()})
        seen.add(tuple(sorted(results.items())))
    return seen, tree.executions, findings


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("litmus-mp", [{"flag": 0, "data": 0}, {"flag": 0, "data": 1}, {"flag": 1, "data": 1}]),
        ("litmus-sb", [{"rx": 0, "ry": 1}, {"rx": 1, "ry": 0}, {"rx": 1, "ry": 1}]),
    ],
)
def test_exactly_the_sequentially_consistent_outcomes_occur(name: str, allowed: list[dict[str, int]]) -> None:
    """The forbidden one in no order, each allowed one in some: else the test could not tell them apart."""
    scene = scenario(name)
    seen, orders, findings = outcomes(scene)
    assert seen == {tuple(sorted(outcome.items())) for outcome in allowed} and findings == []
    assert orders == 70  # two programs of four scheduling points: 8 over 4
    for outcome in seen:
        assert scene.expect.fixed.check(None, dict(outcome)) is None


def test_the_words_of_a_litmus_test_are_on_different_shards() -> None:
    """On one shard there would be nothing to overtake."""
    for name in ("litmus-mp", "litmus-sb"):
        machine, _ = prepare(scenario(name))
        from shared.scenario.steps.kernel import Litmus

        route = machine.route["store"]
        assert {route(Litmus.at(0).id), route(Litmus.at(1).id)} == {"memory0", "memory1"}


def test_under_the_words_lock_both_see_a_whole_update() -> None:
    """klock and kunlock are the kernel's own locks: no race, no finding, no torn update in any order."""
    text = (CONFIGS / "scenarios" / "litmus-mp.yaml").read_text()
    head, tail = text[: text.index("programs:")], text[text.index("expect:") :]
    programs = """\
programs:
  A:
    - klock: {word: data}
    - kstore: {word: data, value: 1}
    - kunlock: {word: data}
  B:
    - klock: {word: data}
    - kload: {word: data, into: data}
    - kload: {word: flag, into: flag}
    - kunlock: {word: data}
"""
    scene = load_scenario(head + programs + tail, "t.yaml").with_detect({"race": "stop"})
    seen, orders, findings = outcomes(scene)
    assert findings == [] and orders > 10
    assert seen == {(("data", 0), ("flag", 0)), (("data", 1), ("flag", 0))}
