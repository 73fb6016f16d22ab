"""PCT aimed at a site: where it preempts, who aims it, and how it is asked for."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cluster.search import PORTFOLIO, make
from cluster.search.auto import Auto
from cluster.search.explore import search
from cluster.search.near import Near, Site
from cluster.search.pct import Pct
from cluster.search.strategy import Strategy
from nodes.cpu import Thread
from shared.errors import Exit
from tests.kit import scenario, uvmp


def at(*stack: str, asks: tuple[str, int, tuple[object, ...]] | None = None) -> Thread:
    thread = Thread("A", "cpu0", lambda: None)
    thread.stack.extend(stack)
    thread.asks = asks
    return thread


def test_a_site_is_visited_in_its_function_and_those_that_it_calls() -> None:
    site = Site("uvm_fault")
    assert site.visited(at("trap", "uvm_fault", "amap_add")) and not site.visited(at("trap", "amap_add"))
    assert str(site) == "uvm_fault"


def test_a_field_s_site_is_visited_where_it_is_about_to_be_used() -> None:
    site = Site("uvm_fault", "flags")
    used, other = ("store", 7, (None, "flags", 3, 0)), ("load", 7, (None, "owner", 3, 0))
    assert site.visited(at("uvm_fault", asks=used)) and not site.visited(at("uvm_wait", asks=used))
    assert site.visited(at("uvm_fault", asks=("load", *used[1:])))
    assert not site.visited(at("uvm_fault", asks=other)) and not site.visited(at("uvm_fault"))
    assert not site.visited(at("uvm_fault", asks=("lock", 7, ("w", "flags")))) and str(site) == "uvm_fault:flags"


def test_most_changes_of_priorities_come_at_visits() -> None:
    """And the others anywhere: the other side of a race may be there."""
    near = Near([Site("uvm_fault")], 1, 3)
    able = [at("trap", "uvm_fault"), at("exit1")]
    able[1].name = "B"
    aimed = anywhere = 0
    for number in range(200):
        assert near.new_execution() and near.stays() == 0
        if number:
            aimed, anywhere = aimed + len(near.lowered), anywhere + len(near.changes)
            assert all(1 <= visit <= 30 for visit in near.lowered)
        for _ in range(30):
            near.pick(able, able[0])
            near.passed(2)
    assert near.most == {Site("uvm_fault"): 30} and aimed > anywhere > 50


SITES = [Site("uvm_fault"), Site("uvm_wait"), Site("exit1")]


def learned(near: Near) -> Near:
    """It knows that an execution has 200 points, and how often it can be at each site."""
    for site, visits in enumerate((7, 5, 3)):
        near.learn((200, site, visits))
    return near


def played(near: Near) -> list[tuple[Site, dict[int, float], dict[int, float]]]:
    """Its aims and changes in some executions."""
    return [(near.site, near.lowered, near.changes) for _ in range(40) if near.new_execution()]


def test_each_site_has_its_executions_and_its_own_visits() -> None:
    """Chosen alike; the most visits that any execution had are known, and more are learned."""
    near = learned(Near(SITES, 1, 9))
    seen: dict[Site, list[int]] = {site: [] for site in SITES}
    for _ in range(900):
        assert near.new_execution()
        seen[near.site].append(max(near.lowered, default=0))
    assert [max(visits) for visits in seen.values()] == [7, 5, 3]
    assert all(abs(len(visits) - 300) < 60 for visits in seen.values())
    near.learn((200, 1, 4))
    near.learn((200, 2, 6))
    assert near.most == dict(zip(SITES, (7, 5, 6), strict=True)) and near.longest == 200


def test_what_an_execution_teaches_is_how_long_it_was_and_how_often_at_its_site() -> None:
    near = Near(SITES, 1)
    near.new_execution()
    visitor, other = at(near.site.function), at("elsewhere")
    for thread in (visitor, other, visitor):
        near.pick([thread], thread)
    assert near.lesson() == (3, SITES.index(near.site), 2)
    assert near.lesson()[0] == near.lesson()[2] == 0, "it is told once"


def test_who_is_told_all_that_it_knows_aims_as_it_would() -> None:
    near, told = learned(Near(SITES, 5)), Near(SITES, 5)
    told.learn((900, 2, 50))
    told.know(near.knowledge())
    assert told.knowledge() == near.knowledge() and near.knowledge()[1] == [7, 5, 3]
    assert told.most == near.most and told.longest == near.longest == 200
    assert played(told) == played(near)


def test_the_seed_and_the_depth_are_those_of_pct() -> None:
    """Seed 0 and three ordering constraints if nobody says more."""
    assert played(Near(SITES)) == played(Near(SITES, 0, 3)) != played(Near(SITES, 1, 3))
    for depth in (2, 3, 5):
        assert all(len(changes) == depth - 1 for _, _, changes in played(Near(SITES, 0, depth)))


def test_a_change_at_a_visit_lets_the_other_one_go_on() -> None:
    near = Near([Site("uvm_fault")], 1, 2)
    able = [at("uvm_fault"), at("exit1")]
    able[1].name = "B"
    near.new_execution()
    near.priority = {"A": 1.9, "B": 1.5}
    near.changes, near.lowered = {}, {3: 0}
    assert [near.pick(able, able[0]) is able[0] for _ in range(3)] == [True, True, False]


def test_aimed_it_finds_a_window_sooner_than_it_does_anywhere() -> None:
    """In five searches of at most 100 schedules; those without a find count as such."""
    scene = scenario("S3l-shipped")
    site = Site(scene.own_errata[0].split(".")[0])

    def total(make: Callable[[int], Strategy]) -> int:
        return sum(search(scene, make(seed), schedules=100).schedules for seed in range(5))

    assert 3 * total(lambda seed: Near([site], seed)) < total(Pct)


def test_a_scenario_s_own_errata_aim_the_portfolio() -> None:
    """On the repaired kernel too, where they say what was repaired."""
    plain, aimed = make("auto", 0, 3), make("auto", 0, 3, [Site("uvm_fault")])
    assert isinstance(plain, Auto) and isinstance(aimed, Auto)
    assert plain.strategies.keys() == PORTFOLIO.keys() and aimed.strategies.keys() == {*PORTFOLIO, "near"}
    assert search(scenario("E57").without_errata(), schedules=30).by["near"] > 0
    assert "near" not in search(scenario("litmus-mp"), schedules=30).by


def test_near_is_said_and_searched() -> None:
    result = uvmp("explore", "S7-shipped", "--near", "uvm_fault_unwire", "--schedules", 60)
    assert result.exit_code == Exit.FINDING and "(pct near uvm_fault_unwire, depth 3, seed 0)" in result.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["uvm_falt"], "--near: no kernel function 'uvm_falt' (did you mean uvm_fault"),
        (["uvm_fault:flgs"], "--near: no struct has a field 'flgs' (did you mean flags"),
        (["uvm_fault", "--strategy", "pos"], "--strategy: cannot be given with --near"),
        (["uvm_fault", "--exhaust"], "--near: cannot be given with --exhaust"),
    ],
)
def test_a_site_that_is_none_is_refused(words: list[str], said: str) -> None:
    result = uvmp("explore", "E57", "--near", *words)
    assert result.exit_code == Exit.USAGE and said in result.stderr
