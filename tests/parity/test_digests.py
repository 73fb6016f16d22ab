"""Journals are as they were: a difference is a decision, made by `make digests`."""

from __future__ import annotations

import pytest

from tests.kit import SHIPPED
from tests.parity.digests import committed, measured


@pytest.mark.parametrize("name", SHIPPED)
def test_the_journals_of_a_scenario_are_as_committed(name: str) -> None:
    assert measured(name) == [line for line in committed() if line.split()[0] == name]


def test_every_committed_line_is_of_a_scenario() -> None:
    assert [line.split()[0] for line in committed()] == [name for name in SHIPPED for _ in range(2)]
