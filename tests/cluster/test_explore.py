"""Search: what a search finds, how it counts, and that the same seed searches the same."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cluster.runs.replay import replay
from cluster.runs.token import parse
from cluster.search.explore import Exploration, explore, search
from shared.errors import UserMistake
from shared.scenario.load import load_scenario
from shared.scenario.model import Bound, Scenario
from tests.kit import CONFIGS, scenario, scene

SHIPPED = scenario("S3a-shipped")


def test_the_same_seed_finds_the_same_schedule() -> None:
    """A search that cannot be repeated cannot be reported."""
    one, other = explore(SHIPPED, seed=3), explore(SHIPPED, seed=3)
    assert (one.schedules, one.deviations, str(one.token)) == (other.schedules, other.deviations, str(other.token))


def test_another_seed_searches_another_way() -> None:
    raw = {tuple(search(SHIPPED, seed=seed).deviations) for seed in range(5)}
    assert len(raw) == 5


def test_a_search_stops_at_its_first_finding_and_says_when() -> None:
    found = explore(SHIPPED)
    assert found.finding is not None and found.finding.kind == "spin-forever"
    assert 1 <= found.found_at == found.schedules <= SHIPPED.bound.schedules
    assert (
        found.token is not None
        and found.token.scenario == "S3a-shipped"
        and found.raw_deviations >= len(found.deviations) >= 1
    )


def test_the_default_schedule_is_tried_first() -> None:
    """A defect that needs no luck has the empty token."""
    found = explore(scenario("S3a"))
    assert found.found_at == 1 and found.deviations == [] and found.token is not None and found.token.deviations == ()


def test_a_search_without_a_finding_counts_what_it_did() -> None:
    """*Not seen in N schedules* is only worth something with N, and with the site reached."""
    found = explore(SHIPPED.without_errata(), schedules=60)
    assert found.finding is None and found.token is None and found.schedules == 60 and found.found_at == 0
    assert found.sites["amap_cow_now.nanon-freed-locked"] > 0
    assert found.operations > 20 * 1000 and found.seconds > 0
    assert found.results["A"][0] == {"step": 0, "op": "fork", "result": 0, "into": None}


def test_the_bound_of_the_scenario_is_the_default() -> None:
    small = replace(SHIPPED.without_errata(), bound=Bound("random", 1, 7))
    found = explore(small)
    assert (found.strategy, found.schedules) == ("random", 7)


def test_racy_fields_are_collected_over_all_executions() -> None:
    found = explore(scenario("litmus-mp"), schedules=3)
    assert "litmus.value" in found.racy


def test_findings_that_are_only_noted_are_counted_by_signature() -> None:
    found = explore(scenario("S3a").with_detect({"lockdebug": "note", "deadlock": "note"}), schedules=5)
    assert any(key.startswith("locked-anon-freed amap_cow_now anon") for key in found.notes)


def test_ctrl_c_ends_a_search_with_what_it_has() -> None:
    def impatient(result: Exploration) -> None:
        raise KeyboardInterrupt

    found = explore(SHIPPED.without_errata(), schedules=1_000_000, progress=impatient)
    assert found.interrupted and 0 < found.schedules < 1_000_000 and found.finding is None


def test_progress_is_told_as_it_goes() -> None:
    told: list[int] = []
    explore(SHIPPED.without_errata(), schedules=60, progress=lambda result: told.append(result.schedules))
    assert told and told == sorted(told) and told[-1] <= 60


# -- results that the scenario does not expect -------------------------------------------


def mine(expect: str) -> Scenario:
    """B reads a shared page while A writes it; perhaps it comes first."""
    return scene(
        {"A": 'write: {at: "buf[0]", value: 1}', "B": 'read: {at: "buf[0]", into: r}'},
        """
        process: {as: A, cpu: 0}
        mmap: {in: A, as: buf, pages: 1, prot: rw, flags: [shared, anon]}
        thread: {in: A, as: B, cpu: 1}
        """,
        "cpus: 2, frames: 16, swap_slots: 0",
        f"fixed: {expect}",
        bound="strategy: random, schedules: 60",
    )


@pytest.mark.parametrize("expect", ["{finding: none, results: {r: 1}}", "{finding: none, never: [{r: 0}]}"])
def test_results_that_the_scenario_does_not_expect_are_a_finding_with_a_token(expect: str) -> None:
    race = mine(expect)
    found = explore(race)
    assert found.finding is not None and found.token is not None
    assert (found.finding.kind, found.finding.subject, found.finding.context) == ("unexpected-result", "r", "B")
    assert 1 < found.found_at < found.schedules == 60, "a later schedule might have a finding of the kernel's"
    assert 1 <= len(found.deviations) <= found.raw_deviations
    assert found.results["B"][0]["result"] == 0 and found.notes["unexpected-result r"] > 1
    again = replay(race, list(parse(str(found.token)).deviations))
    assert again.finding is not None and again.finding.as_dict() == found.finding.as_dict()
    assert race.outcome() is not None and race.outcome().check(found.finding, {})  # type: ignore[union-attr]


def test_every_result_as_expected_is_no_finding() -> None:
    found = explore(mine("{finding: none, results: {r: {any_of: [0, 1]}}}"))
    assert found.finding is None and found.notes == {} and found.schedules == 60


def test_unexpected_results_do_not_hide_a_finding_that_comes_later() -> None:
    """And the same seed gives the same."""
    text = (CONFIGS / "scenarios" / "S3a-shipped.yaml").read_text(encoding="utf-8")
    start = text.index("  with_errata:")
    end = text.index("  fixed:", start)
    text = f"{text[:start]}  with_errata: {{finding: none, results: {{r0: 99}}}}\n{text[end:]}"
    made = load_scenario(text, "s.yaml")
    assert explore(made, schedules=1).finding.kind == "unexpected-result"  # type: ignore[union-attr]
    found, again = explore(made), explore(made)
    assert found.finding is not None and found.finding.kind == "spin-forever" and found.found_at > 1
    assert found.notes["unexpected-result r0"] > 0 and str(found.token) == str(again.token)


@pytest.mark.parametrize(("level", "notes"), [("note", 1), ("off", 0)])
def test_who_does_not_want_it_switches_its_detector_off(level: str, notes: int) -> None:
    found = explore(mine("{finding: none, results: {r: 5}}").with_detect({"results": level}), schedules=3)
    assert found.finding is None and len(found.notes) == notes


def test_no_scenario_can_expect_it() -> None:
    with pytest.raises(UserMistake, match="unknown kind of finding 'unexpected-result'"):
        mine("{finding: unexpected-result}")
