"""DPOR by several workers (cluster/search/share.py) is the same for any number of them, and sees each class once."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from cluster.api import Program
from cluster.runs.outcome import Outcome
from cluster.runs.replay import replay
from cluster.search import share
from cluster.search.batch import Job
from cluster.search.explore import Behind, Exploration, explore
from cluster.search.pool import Here
from cluster.search.sharetree import Node, split
from cluster.search.spread import spread
from cluster.search.subtree import Subtree
from cluster.search.trace import Event
from cluster.search.turn import TURN, Stop, Turn
from cluster.search.wakeup import Branch
from cluster.search.worker import Worker
from shared.journal.deviation import Deviation
from shared.scenario.model import Scenario
from shared.wire.codec import decode, encode
from tests.cluster import brute, programs
from tests.cluster.test_behind import a_beginning
from tests.cluster.test_dpor import adder, advance, body, last_zero, locked_adder, setup_many
from tests.cluster.test_explore import mine
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


def compared(scene: Scenario, schedules: int, counts: tuple[int, ...] = (2, 5)) -> dict[str, Any]:
    """A search by a worker; by several, whose batches are done in another order, it comes to the same.

    If it has seen all, then it has seen what one process sees without an owner.
    """
    by_one = by_workers(scene, schedules, 1)
    for workers in counts:
        assert by_workers(scene, schedules, workers) == by_one, f"by {workers} workers"
    alone = facts(explore(scene, "dpor", 0, schedules))
    assert (by_one["finding"] is None) == (alone["finding"] is None)
    if alone["finding"] is None and not alone["racy"]:
        same = ("schedules", "points", "operations", "sites", "notes", "coverage")
        assert by_one["coverage"].exhausted == alone["coverage"].exhausted
        assert not by_one["coverage"].exhausted or all(by_one[key] == alone[key] for key in same)
    return by_one


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
    """Also in one lane, and in as many as there can be."""
    scene = program(*bodies)
    coverage = compared(scene, 10_000)["coverage"]
    assert (coverage.exhausted, coverage.classes, coverage.redundant) == (True, traces, 0)
    for lanes, first, most in LANES:
        take_turns(monkeypatch, lanes, first, most)
        assert by_workers(scene, 10_000, 2)["coverage"] == coverage


#: lanes at most, executions of a lane's first turn, and of any turn at most
LANES = (1, 1, 1), (2, 1, 8), (1000, 1, 1), (16, 1, 3)


def take_turns(monkeypatch: pytest.MonkeyPatch, lanes: int, first: int, most: int) -> None:
    for name, value in {"LANES": lanes, "FIRST": first, "MOST": most}.items():
        monkeypatch.setattr(share, name, value)


@pytest.mark.parametrize(("lanes", "first", "most"), LANES)
def test_random_programs_in_short_turns(lanes: int, first: int, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nearly every branch begins a lane, or each is continued after every execution."""
    take_turns(monkeypatch, lanes, first, most)
    for seed in range(60, 90):
        compared(brute.program(brute.random_program(seed)).scenario(), 120, (2,))


@pytest.mark.parametrize("seed", [9, 16, 41])
def test_a_way_gets_branches_from_those_before_it(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an earlier branch comes to may begin like a way whose part has been explored to its end by then.

    The way was in the tree for that part alone, so the rest behind it is not explored yet. Some classes of these
    programs are seen only so.
    """
    take_turns(monkeypatch, 16, 4, 64)
    assert compared(brute.program(brute.random_program(seed)).scenario(), 1000)["coverage"].exhausted


def event(thread: str, *writes: str) -> Event:
    """What the only context of a processor does."""
    made = Event(thread, ord(thread))
    made.writes = frozenset(("node", name) for name in writes)
    return made


def test_what_a_part_leads_to_on_its_way_is_told_once_unless_it_is_known() -> None:
    """And what it leads to behind its way, it explores itself."""
    a, b, slept, another, new = event("A", "x"), event("B", "y"), event("C", "x"), event("D", "y"), event("E", "x", "y")
    part = Subtree([a.label, b.label], {0: [slept]}, {1: [Branch(another)]}, [])
    for performed in (a, b):
        part.trace.events.append(performed)
        part._place()
    part._explore(0, [slept, new])
    part._explore(1, [another, new])
    assert part.beyond == []
    for at in (0, 1, 0, 1, 2):
        part._explore(at, [new])
    assert part.beyond == [(0, [new]), (1, [new])]
    assert [branch.event for branch in part.places[2].tree] == [new]
    part.given = 1
    part._explore(0, [another])
    assert len(part.beyond) == 2, "what was given is on no way"


def test_what_begins_like_a_branch_is_explored_behind_it_or_not_at_all() -> None:
    root = Node.root()
    root.count(-1)
    before, here, after = Node(root, event("A", "x"), True), Node(root, event("B", "y"), True), Node(root, event("C"))
    part = Node(after, event("D", "z"), True)
    for node in (before, here, part):
        node.count(1)
    assert root.explore([event("A", "x"), event("E", "y")], here) is None, "that sleeps"
    assert root.explore([event("C"), event("D", "z"), event("E", "y")], here) is None, "it is in a part"
    leaf = root.explore([event("C"), event("E", "x", "y", "z")], here)
    assert leaf is not None and leaf.whole and leaf.parent is after and after.nodes == [part, leaf]
    assert root.explore([event("E", "x", "y", "z")], here) is None, "it is the same, as nothing depends on C"
    other = root.explore([event("F", "x", "y", "z"), event("G", "w")], here)
    assert other is not None and other.parent is not None and other.parent.parent is after and not other.parent.whole
    assert root.left == 5 and after.left == 3


def test_a_branch_is_ready_when_all_that_sleeps_on_its_way_was_performed() -> None:
    """Or will not be: then nothing of it is left. What is begun later does not sleep there."""
    root = Node.root()
    before, here, later = Node(root, event("A", "x"), True), Node(root, event("B")), Node(root, event("D"), True)
    leaf = Node(here, event("C", "x"), True)
    for node in (before, later):
        node.count(1)
    assert root.ready() and before.ready() and not here.ready() and not leaf.ready()
    here.asleep = {}
    assert here.ready() and leaf.ready(), "it has been at the branch before"
    here.asleep = None
    before.perform(event("A", "x"))
    assert here.ready() and leaf.ready() and later.ready()
    before.asleep = None
    before.count(-1)
    assert leaf.ready(), "nothing is left of what sleeps"


def test_what_was_begun_before_a_branch_sleeps_behind_it_unless_it_depends_on_that() -> None:
    root = Node.root()
    a, b, c = event("A", "x"), event("B", "y"), event("C", "x")
    for sleeper in (a, b):
        Node(root, sleeper, True)
    here, _ = Node(root, event("C")), Node(root, event("D"), True)
    here.perform(c)
    assert here.event is c and here.asleep == {b.label: b}
    here.perform(event("C"))
    assert here.event is c, "it is known since then"
    leaf = Node(here, event("E", "z"), True)
    leaf.perform(leaf.event)
    assert leaf.asleep == {b.label: b}


@pytest.mark.parametrize("first", [True, False])
def test_a_part_is_settled_in_a_branch_to_which_no_earlier_branch_can_add(first: bool) -> None:
    root = Node.root()
    earlier = None if first else Node(root, event("A", "x"), True)
    here = Node(root, event("B", "x"))
    parts = [Node(here, event("C", "x"), True), Node(here, event("D", "x"), True)]
    for node in (*parts, *([] if earlier is None else [earlier])):
        node.count(1)
    parts[0].finish()
    assert here.settled == first and here.nodes == parts


def test_a_branch_is_forgotten_when_none_before_it_can_add_to_it() -> None:
    root = Node.root()
    root.count(-1)
    here, after = Node(root, event("A", "x"), True), Node(root, event("B", "x"))
    part, last = Node(after, event("D"), True), Node(root, event("C", "x"), True)
    for node in (here, part, last):
        node.count(1)
    part.finish()
    assert (root.left, after.left, after.nodes, root.settled) == (2, 0, [part], 0)
    here.finish()
    assert (root.left, after.nodes, root.settled) == (1, [], 2)
    last.finish()
    assert (root.left, root.nodes) == (0, [])


def test_the_first_branches_of_a_part_are_taken_from_it() -> None:
    def tree(*events: Event) -> list[Branch]:
        return [Branch(event) for event in events]

    a, b, c, d = (event(name, "x") for name in "ABCD")
    root = Node.root()
    alone = tree(a)
    alone[0].rest = tree(b)
    assert split(root, Stop([a], [[], []], alone)) is None
    alone[0].rest += tree(c)
    assert split(root, Stop([a], [[d], []], alone)) is not None
    assert [node.whole for node in root.nodes] == [True, False]
    assert [node.event for node in root.nodes] == [d, a] and [node.event for node in root.nodes[1].nodes] == [b, c]
    assert (root.left, root.nodes[1].left) == (2, 2), "the part itself is no more"

    root = Node.root()
    two = tree(a, b)
    two[0].rest = tree(c)
    parted = split(root, Stop([a, c], [[], [d], []], two))
    assert parted is not None
    first, stop, taken = parted
    assert stop is not None and (stop.performed, stop.explored, stop.tree) == ([c], [[d], []], two[0].rest)
    assert [node.event for node in root.nodes] == [a, b] and (first, taken) == (root.nodes[0], [root.nodes[1]])
    assert root.left == 2 and first.left == 1 and not first.whole and taken[0].whole


def test_random_programs() -> None:
    """With choices of data, sleeps, tries and deadlocks; many end with a finding, and some only begin anew before."""
    seen = [compared(brute.program(brute.random_program(seed)).scenario(), 150, (2,)) for seed in range(60)]
    exhausted = sum(result["coverage"].exhausted for result in seen)
    assert exhausted > 20 and sum(result["finding"] is not None for result in seen) > 5
    assert sum(result["schedules"] > 4 * share.FIRST for result in seen) >= 3


def test_behind_a_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was given is on no way of the tree."""
    take_turns(monkeypatch, 8, 1, 4)
    seen = []
    for seed in range(24):
        bodies = brute.random_program(seed)
        scene, first = brute.program(bodies).scenario(), a_beginning(bodies, random.Random(seed))
        alone = facts(explore(scene, Behind(first, "dpor"), 0, 150))
        job = Job(scene, "dpor", begin=first)
        by_one, by_two = (facts(spread(job, 150, Here(Worker(job.setup()).run, count, count))) for count in (1, 2))
        assert by_one == by_two and (by_one["finding"] is None) == (alone["finding"] is None), seed
        if alone["coverage"].exhausted:
            assert by_one["coverage"] == alone["coverage"], seed
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


@pytest.mark.parametrize("schedules", [1, 2, share.FIRST, share.FIRST + 1, 100, 333])
def test_a_search_ends_with_its_last_schedule(schedules: int) -> None:
    """Also in the middle of what a worker has explored."""
    result = compared(program(*[adder(1)] * 4), schedules)
    assert result["schedules"] == schedules and not result["coverage"].exhausted


def test_classes_are_estimated_by_the_share_of_the_tree_that_was_explored() -> None:
    job = Job(program(*[adder(1)] * 4), "dpor")
    estimates = []
    for schedules in (3, 100, 400, 1000):
        coverage = spread(job, schedules, Here(Worker(job.setup()).run, 1, None)).coverage
        assert coverage is not None
        estimates.append(coverage.estimated)
    nothing, some, more, over = estimates
    assert nothing is over is None and some is not None and more is not None and some > 100 and 400 < more < 1200

    root = Node.root()
    root.count(-1)
    done, part, way = Node(root, event("A"), True), Node(root, event("B"), True), Node(root, event("C"))
    part.count(1)
    assert (root.explored(), done.explored()) == (pytest.approx(2 / 3), 1)
    for name in "DE":
        Node(way, event(name), True).count(1)
    way.nodes[0].finish()
    assert root.explored() == pytest.approx(1 / 3 + 1 / 6)


def test_a_finding_ends_it_wherever_it_is() -> None:
    for program, _ in programs.DEFECTS.values():
        result = compared(program.scenario(), 300)
        assert result["finding"] is not None and result["found_at"] == result["schedules"]


def test_unexpected_results_do_not_end_a_search_that_has_some(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also not those of an execution that has a finding of the kernel's when it is recorded, as in explore()."""

    def recorded(scene: Scenario, deviations: list[Deviation]) -> Outcome:
        outcome = replay(scene, deviations)
        if outcome.finding is not None and len(deviations) != 3:
            outcome.finding = replace(outcome.finding, kind="data-race")
        return outcome

    for module in ("explore", "worker"):
        monkeypatch.setattr(f"cluster.search.{module}.replay", recorded)
    monkeypatch.setattr("cluster.search.explore.minimize", lambda sim, finding, deviations: deviations)
    result = compared(mine("{finding: none, results: {r: 1}}"), 150)
    assert result["finding"]["kind"] == "unexpected-result" and result["found_at"] == 5 and result["schedules"] == 150


def test_a_turn_travels_as_it_is() -> None:
    """As long as what it can be, which is deeper than recursion goes."""
    events = [Event("A", number % 3, number % 5 - 1) for number in range(4000)]
    for number, event in enumerate(events):
        event.reads, event.writes = frozenset([("lock", number % 7)]), frozenset([("ctx", "A"), ("field", 1, number)])
    tree: list[Branch] = []
    into = tree
    for event in events:
        into += Branch(event), Branch(events[0])
        into = into[0].rest
    turn = Turn(["page.flags"], 9, [("A", -1), ("B", 3)], {1: events[:3]}, {0: tree}, tree[:1])
    again = decode(TURN, encode(TURN, turn))
    assert again[:3] == turn[:3] and alike(again.explored[1], events[:3])
    for sent, arrived in ((tree, again.others[0]), (tree[:1], again.tree)):
        into, other = sent, arrived
        while into:
            assert alike([node.event for node in into], [node.event for node in other])
            into, other = into[0].rest, other[0].rest
        assert other == []


def alike(some: list[Event], others: list[Event]) -> bool:
    return [(act.label, act.cpu, act.reads, act.writes) for act in some] == [
        (act.label, act.cpu, act.reads, act.writes) for act in others
    ]
