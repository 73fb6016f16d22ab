"""DPOR by several workers (cluster/search/share.py) is the search of one process, execution for execution."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from cluster.api import Program
from cluster.search import share
from cluster.search.batch import Job
from cluster.search.branch import BRANCH, Branch
from cluster.search.dpor import Branch as Node
from cluster.search.explore import Behind, Exploration, explore
from cluster.search.pool import Here
from cluster.search.share import BUDGET
from cluster.search.spread import spread
from cluster.search.trace import Event
from cluster.search.worker import Worker
from shared.scenario.model import Scenario
from shared.wire.codec import decode, encode
from tests.cluster import brute, programs
from tests.cluster.test_behind import a_beginning
from tests.cluster.test_dpor import adder, advance, body, last_zero, locked_adder, setup_many
from tests.kit import scenario


def program(*bodies: Callable[[], None]) -> Scenario:
    return Program(setup_many, bodies, None, brute.DETECT).scenario()


def facts(result: Exploration) -> dict[str, Any]:
    """All that a search tells, except for the time that it took, and the estimate that one process alone makes."""
    coverage = None if result.coverage is None else replace(result.coverage, estimated=None)
    return {
        "finding": None if result.finding is None else result.finding.as_dict(),
        "token": str(result.token),
        "deviations": result.deviations,
        "racy": sorted(result.racy),
        **{name: getattr(result, name) for name in (
            "schedules", "found_at", "raw_deviations", "results", "sites", "notes", "points", "operations", "by",
            "interrupted",
        )},
        "coverage": coverage,
    }  # fmt: skip


def compared(scene: Scenario, schedules: int, counts: tuple[int, ...] = (1, 3)) -> dict[str, Any]:
    """A search by one process; by workers, whose batches are done in another order, it comes to the same."""
    alone = facts(explore(scene, "dpor", 0, schedules))
    for workers in counts:
        assert by_workers(scene, schedules, workers) == alone, f"by {workers} workers"
    return alone


def by_workers(scene: Scenario, schedules: int, workers: int) -> dict[str, Any]:
    job = Job(scene, "dpor")
    pool = Here(Worker(job.setup()).run, workers, None if workers == 1 else workers)
    return facts(spread(job, schedules, pool))


@pytest.mark.parametrize(
    ("bodies", "traces"),
    [
        ([adder(1)] * 3, 36),
        ([adder(1)] * 4, 576),
        ([adder(2)] * 2, 34),
        ([adder(3)] * 2, 328),
        ([locked_adder(2)] * 3, 90),
        ([locked_adder(1)] * 5, 120),
        ([body(last_zero, 5), *(body(advance, number) for number in range(1, 6))], 64),
    ],
    ids=["adders 3x1", "adders 4x1", "adders 2x2", "adders 2x3", "locked 3x2", "locked 5x1", "last zero"],
)
def test_published_counts_for_any_number_of_workers(
    bodies: list[Callable[[], None]], traces: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if nearly every branch is divided, and if the owner comes to branches that nobody has explored."""
    scene = program(*bodies)
    coverage = compared(scene, 10_000, (1, 5))["coverage"]
    assert (coverage.exhausted, coverage.classes, coverage.redundant) == (True, traces, 0)
    for budget, ahead in ((1, 1), (3, 2)):
        monkeypatch.setattr(share, "BUDGET", budget)
        monkeypatch.setattr(share, "AHEAD", ahead)
        assert by_workers(scene, 10_000, 2)["coverage"] == coverage


def test_random_programs_whose_every_branch_is_divided(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(share, "BUDGET", 1)
    for seed in range(60, 120):
        compared(brute.program(brute.random_program(seed)).scenario(), 60, (1,))


def test_random_programs() -> None:
    """With choices of data, sleeps, tries and deadlocks; many end with a finding, and some only begin anew before."""
    seen = [compared(brute.program(brute.random_program(seed)).scenario(), 150, (2,)) for seed in range(60)]
    exhausted = sum(result["coverage"].exhausted for result in seen)
    assert exhausted > 20 and sum(result["finding"] is not None for result in seen) > 5
    assert sum(result["schedules"] > 2 * BUDGET for result in seen) >= 3


def test_behind_a_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was given is on no way of the tree."""
    monkeypatch.setattr(share, "BUDGET", 3)
    seen = []
    for seed in range(24):
        bodies = brute.random_program(seed)
        scene, first = brute.program(bodies).scenario(), a_beginning(bodies, random.Random(seed))
        alone = facts(explore(scene, Behind(first, "dpor"), 0, 150))
        job = Job(scene, "dpor", begin=first)
        assert facts(spread(job, 150, Here(Worker(job.setup()).run, 2, 2))) == alone, seed
        seen.append(alone["schedules"])
    assert sum(schedules > 3 for schedules in seen) > 2


@pytest.mark.parametrize(
    ("name", "schedules"), [("E57", 100), ("E60", 100), ("litmus-mp", 100), ("E54", 70), ("E31", 40)]
)
def test_the_kernel(name: str, schedules: int) -> None:
    """Interrupts, I/O, shootdowns, accesses of users whose frames are not known before; fields that become racy."""
    result = compared(scenario(name).without_errata(), schedules, (2,))
    assert (name == "litmus-mp") == bool(result["racy"])
    assert result["coverage"].exhausted == (result["schedules"] < schedules)


@pytest.mark.parametrize("schedules", [1, 2, BUDGET, BUDGET + 1, 100, 333])
def test_a_search_ends_with_its_last_schedule(schedules: int) -> None:
    """Also in the middle of what a worker has explored."""
    result = compared(program(*[adder(1)] * 4), schedules)
    assert result["schedules"] == schedules and not result["coverage"].exhausted


def test_a_finding_ends_it_wherever_it_is() -> None:
    for program, _ in programs.DEFECTS.values():
        result = compared(program.scenario(), 300)
        assert result["finding"] is not None and result["found_at"] == result["schedules"]


def test_a_branch_travels_as_it_is() -> None:
    """As long as what it can be, which is deeper than recursion goes."""
    events = [Event("A", number % 3, number % 5 - 1) for number in range(4000)]
    for number, event in enumerate(events):
        event.reads, event.writes = frozenset([("lock", number % 7)]), frozenset([("ctx", "A"), ("field", 1, number)])
    tree: list[Node] = []
    into = tree
    for event in events:
        into += Node(event), Node(events[0])
        into = into[0].rest
    branch = Branch(["page.flags"], 9, [("A", -1), ("B", 3)], {1: events[:3]}, {0: tree})
    again = decode(BRANCH, encode(BRANCH, branch))
    assert again[:3] == branch[:3] and alike(again.explored[1], events[:3])
    into, other = tree, again.others[0]
    while into:
        assert alike([node.event for node in into], [node.event for node in other])
        into, other = into[0].rest, other[0].rest
    assert other == []


def alike(some: list[Event], others: list[Event]) -> bool:
    return [(act.label, act.cpu, act.reads, act.writes) for act in some] == [
        (act.label, act.cpu, act.reads, act.writes) for act in others
    ]
