"""Search: what a search finds, how it counts, and that the same seed searches the same."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cluster.explore import Result, explore
from cluster.strategies import Pct, RandomWalk, Stay, make
from nodes.cpu import Thread
from shared.errors import UserMistake
from shared.scenario import Bound
from tests.kit import scenario

SHIPPED = scenario("S3a-shipped")


def test_the_same_seed_finds_the_same_schedule() -> None:
    """A search that cannot be repeated cannot be reported."""
    one, other = explore(SHIPPED, seed=3), explore(SHIPPED, seed=3)
    assert (one.schedules, one.deviations, str(one.token)) == (other.schedules, other.deviations, str(other.token))


def test_another_seed_searches_another_way() -> None:
    raw = {tuple(explore(SHIPPED, seed=seed, shorten=False).deviations) for seed in range(5)}
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
    def impatient(result: Result) -> None:
        raise KeyboardInterrupt

    found = explore(SHIPPED.without_errata(), schedules=1_000_000, progress=impatient)
    assert found.interrupted and 0 < found.schedules < 1_000_000 and found.finding is None


def test_progress_is_told_as_it_goes() -> None:
    told: list[int] = []
    explore(SHIPPED.without_errata(), schedules=60, progress=lambda result: told.append(result.schedules))
    assert told and told == sorted(told) and told[-1] <= 60


# -- strategies ------------------------------------------------------------------------


def threads(count: int) -> list[Thread]:
    found = [Thread(f"T{number}", "cpu0", lambda: None) for number in range(count)]
    for order, one in enumerate(found):
        one.order = order
    return found


def test_stay_stays_and_then_goes_round() -> None:
    """A token is a list of deviations from this; it may never change."""
    able = threads(3)
    stay = Stay()
    stay.new_execution()
    assert stay.pick(able, able[1]) is able[1]
    assert stay.pick(able, None) is able[2]
    assert stay.pick(able, None) is able[0]
    assert stay.pick(able[1:], None) is able[1]


def test_random_walk_gives_each_context_its_chance() -> None:
    able, walk = threads(4), RandomWalk(0)
    picked = [walk.pick(able, able[0]).name for _ in range(400)]
    assert all(60 < picked.count(one.name) < 140 for one in able)


def test_pct_changes_priorities_at_depth_minus_one_points() -> None:
    """With all enabled all the time the running context changes at those points and nowhere else."""
    for depth in (1, 2, 4):
        able, pct = threads(5), Pct(1, depth)
        for _ in range(20):
            pct.new_execution()
            current = pct.pick(able, None)
            changes = 0
            for _ in range(99):
                after = pct.pick(able, current)
                changes += after is not current
                current = after
            assert changes <= depth - 1


def test_pct_learns_how_long_executions_are() -> None:
    able, pct = threads(2), Pct(1, 2)
    pct.new_execution()
    for _ in range(250):
        pct.pick(able, able[0])
    pct.new_execution()
    assert pct.longest == 250


def test_pct_becomes_fair_where_an_execution_never_ends() -> None:
    """By priorities alone a context that waits in a loop for another would keep that one out for ever."""
    able, pct = threads(2), Pct(1, 1)
    pct.new_execution()
    one, picked = None, []
    for _ in range(5000):
        one = pct.pick(able, one)
        picked.append(one.name)
    assert len(set(picked[:100])) == 1 and set(picked[-100:]) == {"T0", "T1"}


def test_who_gives_way_goes_behind_all_others() -> None:
    """As who tries for a lock again and again does (Port.spin); by its priority it would go on trying."""
    able, pct = threads(3), Pct(1, 1)
    pct.new_execution()
    first = pct.pick(able, None)
    second = pct.pick(able, None)
    third = pct.pick(able, None)
    assert len({first.name, second.name, third.name}) == 3
    assert pct.pick(able, third) is third


def test_an_unknown_strategy_is_the_users_mistake() -> None:
    with pytest.raises(UserMistake, match="no strategy 'dfs'"):
        make("dfs", 0, 3)
