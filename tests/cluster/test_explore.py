"""Search: what a search finds, how it counts, and that the same seed searches the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pytest

from cluster.boot import prepare
from cluster.runs.outcome import Outcome
from cluster.runs.replay import replay
from cluster.runs.token import parse
from cluster.search.dpor import Optimal
from cluster.search.explore import Exploration, explore, search
from cluster.search.pct import Pct
from cluster.search.strategy import Stay
from cluster.search.walk import RandomWalk
from cluster.sim.engine import Sim
from nodes.cpu import Thread
from shared.errors import UserMistake
from shared.journal.deviation import Deviation
from shared.scenario.load import load_scenario
from shared.scenario.model import Bound, Scenario
from tests.kit import CONFIGS, scenario, scene

SHIPPED = scenario("S3a-shipped")


def test_the_same_seed_finds_the_same_schedule() -> None:
    """A search that cannot be repeated cannot be reported."""
    first, other = explore(race(), seed=3), explore(race(), seed=3)
    assert first.token is not None and str(first.token) == str(other.token)
    assert (first.schedules, first.deviations) == (other.schedules, other.deviations)


def test_another_seed_searches_another_way() -> None:
    raw = {tuple(search(race(), seed=seed).deviations) for seed in range(5)}
    assert len(raw) == 5


def test_a_search_stops_at_its_first_finding_and_says_when() -> None:
    result = explore(SHIPPED)
    assert result.finding is not None and result.finding.kind == "spin-forever"
    assert 1 <= result.found_at == result.schedules <= SHIPPED.bound.schedules
    assert (
        result.token is not None
        and result.token.scenario == "S3a-shipped"
        and result.raw_deviations >= len(result.deviations) >= 1
    )


def test_the_default_schedule_is_tried_first() -> None:
    """A defect that needs no luck has the empty token."""
    result = explore(scenario("S3a"))
    assert (
        result.found_at == 1 and result.deviations == [] and result.token is not None and result.token.deviations == ()
    )


def test_a_search_without_a_finding_counts_what_it_did() -> None:
    """*Not seen in N schedules* is only worth something with N, and with the site reached."""
    result = explore(SHIPPED.without_errata(), schedules=60)
    assert result.finding is None and result.token is None and result.schedules == 60 and result.found_at == 0
    assert result.sites["amap_cow_now.nanon-freed-locked"] > 0
    assert result.operations > 20 * 1000 and result.seconds > 0
    assert result.results["A"][0] == {"step": 0, "op": "fork", "result": 0, "into": None}


def test_the_bound_of_the_scenario_is_the_default() -> None:
    small = replace(SHIPPED.without_errata(), bound=Bound("random", 1, 7))
    result = explore(small)
    assert (result.strategy, result.schedules) == ("random", 7)


def test_racy_fields_are_collected_over_all_executions() -> None:
    result = explore(scenario("litmus-mp"), schedules=3)
    assert "litmus.value" in result.racy


def test_findings_that_are_only_noted_are_counted_by_signature() -> None:
    result = explore(scenario("S3a").with_detect({"lockdebug": "note", "deadlock": "note"}), schedules=5)
    assert any(key.startswith("locked-anon-freed amap_cow_now anon") for key in result.notes)


def test_ctrl_c_ends_a_search_with_what_it_has() -> None:
    def impatient(result: Exploration) -> None:
        raise KeyboardInterrupt

    searched = explore(SHIPPED.without_errata(), schedules=1_000_000, progress=impatient)
    assert searched.interrupted and 0 < searched.schedules < 1_000_000 and searched.finding is None


def test_an_execution_that_ctrl_c_has_ended_is_of_no_class() -> None:
    class Impatient(Optimal):
        def pick(self, enabled: Sequence[Thread], current: Thread | None) -> Thread | None:
            if self.executions == 4:
                raise KeyboardInterrupt
            return super().pick(enabled, current)

    searched = explore(scenario("E60").without_errata(), Impatient())
    assert searched.interrupted and searched.schedules == 3
    assert searched.coverage is not None and searched.coverage.classes == 3


def test_progress_is_told_as_it_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cluster.search.explore.monotonic", Clock(0.03125))
    told: list[int] = []
    explore(SHIPPED.without_errata(), schedules=60, progress=lambda result: told.append(result.schedules))
    assert len(told) > 10 and told == sorted(told) and told[-1] <= 60


# -- what a search is made of -----------------------------------------------------------


def race(expect: str = "{finding: none, results: {r: 1}}") -> Scenario:
    """B reads a shared page while A writes it; if B comes first, that is not expected."""
    return mine(expect)


def test_what_a_search_counts_is_what_its_executions_were(monkeypatch: pytest.MonkeyPatch) -> None:
    """The default schedule, and then what the strategy chooses: the same by hand."""
    played = scenario("S3a-shipped").without_errata().with_detect({"race": "note", "lockdebug": "note"})
    racy: set[str] = set()
    sim, sites, points, operations = Sim(*prepare(played), racy), Counter[str](), [], 0
    for strategy in (Stay(), *[RandomWalk(2)] * 4):
        assert sim.execute(strategy) is None
        sites.update(sim.sites)
        points.append(sim.points)
        operations += sim.steps
    result = search(played, "random", 2, 5)
    assert (result.sites, result.points, result.operations) == (dict(sites), max(points), operations)
    assert points[-1] < max(points), "the longest one, not the last"
    assert result.racy == racy and result.results == sim.results and result.scenario is played
    assert (result.strategy, result.seed, result.schedules, result.found_at) == ("random", 2, 5, 0)
    assert (result.finding, result.token, result.deviations, result.outcome, result.seen) == (
        None,
        None,
        [],
        None,
        None,
    )
    assert not result.interrupted and result.raw_deviations == 0 and result.notes == {}


def test_a_strategy_that_was_made_is_used_as_it_is() -> None:
    """And called after its class; a name is made with the seed and the bound's depth."""
    walked = search(race(), RandomWalk(5), schedules=30)
    named = search(race(), "random", 5, 30)
    assert walked.strategy == "RandomWalk" and named.strategy == "random"
    assert (walked.found_at, walked.operations, walked.seed) == (named.found_at, named.operations, 0)
    deep = replace(race(), bound=Bound("pct", 4, 30))
    assert search(deep).operations == search(race(), Pct(0, 4), schedules=30).operations
    assert search(deep).strategy == "pct"


class Thrice(Stay):
    """Has three executions to try."""

    def __init__(self) -> None:
        super().__init__()
        self.left = 3

    def new_execution(self) -> bool:
        self.left -= 1
        return self.left >= 0 and super().new_execution()


def test_a_search_whose_strategy_has_nothing_left_to_try_is_over() -> None:
    """The default schedule comes before."""
    for result in (search(race(), Thrice()), explore(race(), Thrice())):
        assert (result.strategy, result.schedules, result.finding, result.interrupted) == ("Thrice", 4, None, False)


def test_no_schedule_at_all_is_a_bound_too() -> None:
    result = search(race(), schedules=0)
    assert (result.schedules, result.results, result.operations) == (0, {}, 0)
    assert search(race(), schedules=1).schedules == 1


def test_at_the_finer_granularity_there_are_more_points() -> None:
    coarse, fine = (search(race(), schedules=2, granularity=how).points for how in ("guarded", "access"))
    assert (
        explore(race(), schedules=2).points
        == coarse
        < fine
        == explore(race(), schedules=2, granularity="access").points
    )


def test_results_that_are_not_expected_are_kept_from_their_first_execution() -> None:
    """With the schedule as it was found, and the finding as that execution had it."""
    result = search(race(), seed=1)
    assert result.finding is not None and result.seen is not None and result.token is None
    assert result.seen.signature == result.finding.signature
    first = search(race(), seed=1, schedules=result.found_at)
    assert first.schedules == first.found_at == result.found_at and first.deviations == result.deviations
    assert search(race(), seed=1, schedules=result.found_at - 1).finding is None
    assert result.raw_deviations == len(result.deviations) > 0
    assert result.results["B"][0]["result"] == 0
    assert explore(race(), seed=1).found_at == result.found_at
    sim, walk, often = Sim(*prepare(race()), set()), RandomWalk(1), 0
    for strategy in (Stay(), *[walk] * 59):
        sim.execute(strategy)
        often += sim.results["B"][0]["result"] == 0
    assert result.notes == {"unexpected-result r": often} and often > 1


def test_what_is_not_seen_again_when_it_is_recorded_is_no_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    """An unrecorded execution is approximate: the search continues until one holds."""
    result = search(SHIPPED)
    asked: list[list[Deviation]] = []

    def twice(played: Scenario, deviations: list[Deviation]) -> Outcome:
        asked.append(deviations)
        outcome = replay(played, deviations)
        return replace(outcome, finding=None) if len(asked) == 1 else outcome

    monkeypatch.setattr("cluster.search.explore.replay", twice)
    later = search(SHIPPED)
    assert asked[0] == result.deviations and result.found_at < later.found_at == later.schedules
    assert later.finding is not None and later.deviations == asked[1]


def test_a_schedule_that_was_shortened_too_far_is_not_shortened(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is shown has been seen when it was recorded."""
    monkeypatch.setattr("cluster.search.explore.minimize", lambda sim, finding, deviations: [])
    result = explore(SHIPPED)
    assert result.finding is not None and result.token is not None
    assert result.token.deviations == tuple(result.deviations) and len(result.deviations) == result.raw_deviations > 1
    assert replay(SHIPPED, result.deviations).finding == result.finding


def test_ctrl_c_while_a_schedule_is_shortened_leaves_it_as_it_was_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def impatient(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("cluster.search.explore.minimize", impatient)
    result = explore(SHIPPED)
    assert result.interrupted and result.token is not None and len(result.deviations) == result.raw_deviations


class Clock:
    """A clock on which each look takes so long."""

    def __init__(self, tick: float):
        self.tick, self.now = tick, 100.0

    def __call__(self) -> float:
        self.now += self.tick
        return self.now


@pytest.mark.parametrize(("tick", "told"), [(0.0625, 5), (0.125, 10), (0.03125, 2)])
def test_progress_is_told_about_ten_times_a_second(tick: float, told: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the seconds so far; after each execution the clock is looked at once."""
    monkeypatch.setattr("cluster.search.explore.monotonic", Clock(tick))
    seen: list[tuple[int, float]] = []
    searched = search(
        race("{finding: none}"), schedules=10, progress=lambda result: seen.append((result.schedules, result.seconds))
    )
    assert len(seen) == told and all(seconds == schedules * tick for schedules, seconds in seen)
    assert searched.seconds == 11 * tick


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
    made = mine(expect)
    result = explore(made)
    assert result.finding is not None and result.token is not None
    assert (result.finding.kind, result.finding.subject, result.finding.context) == ("unexpected-result", "r", "B")
    assert 1 < result.found_at < result.schedules == 60, "a later schedule might have a finding of the kernel's"
    assert 1 <= len(result.deviations) <= result.raw_deviations
    assert result.results["B"][0]["result"] == 0 and result.notes["unexpected-result r"] > 1
    again = replay(made, list(parse(str(result.token)).deviations))
    assert again.finding is not None and again.finding.as_dict() == result.finding.as_dict()
    assert made.outcome() is not None and made.outcome().check(result.finding, {})  # type: ignore[union-attr]


def test_every_result_as_expected_is_no_finding() -> None:
    result = explore(mine("{finding: none, results: {r: {any_of: [0, 1]}}}"))
    assert result.finding is None and result.notes == {} and result.schedules == 60


def test_unexpected_results_do_not_hide_a_finding_that_comes_later() -> None:
    """And the same seed gives the same."""
    text = (CONFIGS / "scenarios" / "S3a-shipped.yaml").read_text(encoding="utf-8")
    start = text.index("  with_errata:")
    end = text.index("  fixed:", start)
    text = f"{text[:start]}  with_errata: {{finding: none, results: {{r0: 99}}}}\n{text[end:]}"
    made = load_scenario(text, "s.yaml")
    assert explore(made, schedules=1).finding.kind == "unexpected-result"  # type: ignore[union-attr]
    first, again = explore(made), explore(made)
    assert first.finding is not None and first.finding.kind == "spin-forever" and first.found_at > 1
    assert first.notes["unexpected-result r0"] > 0 and str(first.token) == str(again.token)


@pytest.mark.parametrize(("level", "notes"), [("note", 1), ("off", 0)])
def test_who_does_not_want_it_switches_its_detector_off(level: str, notes: int) -> None:
    result = explore(mine("{finding: none, results: {r: 5}}").with_detect({"results": level}), schedules=3)
    assert result.finding is None and len(result.notes) == notes


def test_no_scenario_can_expect_it() -> None:
    with pytest.raises(UserMistake, match="unknown kind of finding 'unexpected-result'"):
        mine("{finding: unexpected-result}")
