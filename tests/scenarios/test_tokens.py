"""The shipped tokens: one paste shows a defect that hardly any schedule shows."""

from __future__ import annotations

import pytest

from cluster.runs.replay import replay
from cluster.runs.token import kernel_version, parse, refuse_mismatch
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


def test_every_shipped_token_is_one_that_is_listed() -> None:
    assert sorted(shipped()) == sorted(EXACT)
