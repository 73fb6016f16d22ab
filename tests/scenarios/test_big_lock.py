"""The table of what is seen with the big lock: complete, and still so."""

from __future__ import annotations

import pytest

from shared.errata import ERRATA
from shared.errata.big_lock import BigLock, Search, verdict
from shared.errata.big_lock_table import SEARCHES
from tests.kit import SHIPPED, scenario
from tests.scenarios.big_lock import search

#: searches of more schedules than this are repeated by `make long` alone
QUICK = 20
STALE = "`make big-lock` searches again"


def limit(name: str) -> int:
    return min(SEARCHES[name].schedule, QUICK) if not SEARCHES[name].kind else SEARCHES[name].schedule


def test_every_scenario_with_errata_is_in_the_table_and_no_other() -> None:
    assert list(SEARCHES) == [name for name in SHIPPED if scenario(name).errata], STALE


@pytest.mark.wide
@pytest.mark.parametrize("name", [name for name in SEARCHES if not SEARCHES[name].kind or limit(name) <= QUICK])
def test_the_search_of_a_scenario_comes_to_the_same(name: str) -> None:
    """A defect that was seen is seen again, in the same schedule; one that was not is not seen in the first few."""
    told = SEARCHES[name]
    searched = search(name, limit(name), [told.strategy] if told.kind else ["pct", "random"])
    assert searched[:-1] == told[:-1], STALE
    assert searched.schedule == told.schedule or not told.kind, STALE


@pytest.mark.long
@pytest.mark.parametrize("name", SEARCHES)
def test_the_whole_search_of_a_scenario_comes_to_the_same(name: str) -> None:
    assert search(name) == SEARCHES[name], STALE


def test_the_table_has_what_the_scenarios_say() -> None:
    for name, row in SEARCHES.items():
        scene = scenario(name)
        told = tuple(ERRATA[erratum].name for erratum in scene.errata), scene.expect.with_errata.findings
        assert (row.errata, row.findings) == told, STALE


def test_each_erratum_has_a_verdict_of_its_scenarios_searches() -> None:
    for erratum in ERRATA.values():
        assert erratum.big_lock is verdict(tuple(SEARCHES[name] for name in erratum.scenarios))
    assert {erratum.big_lock for erratum in ERRATA.values()} == set(BigLock)


@pytest.mark.parametrize(
    "kinds, expected",
    [
        (["held-at-exit", "spin-forever"], BigLock.SEEN),
        (["results"], BigLock.SEEN),
        (["held-at-exit", ""], BigLock.ASSERTED),
        (["data-race"], BigLock.ASSERTED),
        (["", ""], BigLock.LATENT),
    ],
)
def test_a_verdict_is_the_worst_that_was_seen(kinds: list[str], expected: BigLock) -> None:
    assert verdict(tuple(Search((), (), kind, "pct" if kind else "", 7) for kind in kinds)) is expected
