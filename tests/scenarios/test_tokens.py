"""The shipped tokens: one paste shows a defect that hardly any schedule shows."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.runs.replay import replay
from cluster.runs.token import SAME, kernel_version, parse, refuse_mismatch
from shared.scenario.model import named_results
from tests.kit import scenario
from tests.scenarios.tokens import EXACT, shipped


@pytest.mark.parametrize("name", EXACT)
def test_a_shipped_token_shows_its_defect(name: str) -> None:
    token = parse(shipped()[name])
    assert token.kernel == kernel_version(), "the kernel has changed since: `make tokens` makes new ones"
    scene = scenario(name)
    refuse_mismatch(token, scene)
    once = replay(scene, list(token.deviations))
    assert once.finding is not None
    assert scene.expect.with_errata.check(once.finding, named_results(once.results)) is None


BEFORE = Path(__file__).with_name("before.txt").read_text(encoding="ascii").split()


@pytest.mark.wide
@pytest.mark.parametrize("text", BEFORE, ids=lambda text: text.split(".")[1])
def test_a_token_of_a_kernel_that_meant_the_same_still_shows_its_defect(text: str) -> None:
    """One a scenario, found before the engine was rebuilt. When the kernel changes, SAME is to be empty."""
    token = parse(text)
    if not SAME:
        pytest.skip("the kernel means something else than then")
    assert list(SAME) == [kernel_version()], "the kernel has changed: nothing before it is known to mean the same"
    scene = scenario(token.scenario)
    refuse_mismatch(token, scene)
    once = replay(scene, list(token.deviations))
    assert once.finding is not None
    assert scene.expect.with_errata.check(once.finding, named_results(once.results)) is None


def test_every_shipped_token_is_one_that_is_listed() -> None:
    assert sorted(shipped()) == sorted(EXACT)
