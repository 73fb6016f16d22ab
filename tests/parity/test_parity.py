"""The central property: a schedule of sim followed by real processes, and their journals in sim, are the same run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from cluster.live.machine import LiveMachine
from cluster.runs.outcome import Outcome
from cluster.runs.replay import replay, replay_journals
from cluster.search.explore import explore
from cluster.search.walk import RandomWalk
from nodes.host.transport import DEFAULT, KINDS
from shared.findings import Finding
from shared.journal.order import linearize
from shared.journal.record import Journals, holes
from shared.scenario.model import Scenario, named_results
from tests.kit import run_recorded, scenario, scene

pytestmark = pytest.mark.live

Boot = Callable[..., LiveMachine]

TWO = "{lock_manager: 2, memory: 2}"
GROUPS = "[[cpu0, memory], [cpu1, lock_manager], [pagedaemon, mmu], [swap_pager, swap_io]]"
#: besides the table of test_table.py, whose scenarios have a finding and one machine: id of the case -> its scenario;
#: those with the same actors come after each other, so that these are started once
CASES: dict[str, Callable[[], Scenario]] = {
    "S3a": lambda: scenario("S3a").without_errata(),
    "S3d": lambda: scenario("S3d").without_errata(),
    "E1": lambda: scenario("E1").without_errata(),
    "page-tables": lambda: scenario("S5a").without_errata(),
    "swapctl": lambda: scenario("E23").without_errata(),
    "big-lock": lambda: scenario("S3a").without_errata().with_kernel_lock("big"),
    "big-lock-spinning": lambda: scenario("S3a-shipped").with_kernel_lock("big"),
    "two-shards": lambda: scenario("S3a", shards=TWO).without_errata(),
    "every-node-alone": lambda: scenario("S3d", shards=TWO, colocate="false").without_errata(),
    "E31": lambda: scenario("E31").without_errata(),
    "network": lambda: network(),
    "devices-alone": lambda: network(colocate="false"),
    "emulated": lambda: scenario("S11a-interrupt").without_errata(),
    "disk-alone": lambda: scenario("S6", colocate="false").without_errata(),
    "file": lambda: scenario("S1e").without_errata(),
    "file-every-node-alone": lambda: scenario("S1e", shards=TWO, colocate="false").without_errata(),
    "shared-memory": lambda: scenario("S9-aobj").without_errata(),
    "big-lock-disk": lambda: scenario("S7-shipped", shards=TWO).without_errata().with_kernel_lock("big"),
    "three-groups": lambda: scenario("E1", colocate=GROUPS),
}  # fmt: skip
#: those that run in the default suite
QUICK = ("two-shards", "file-every-node-alone", "network", "page-tables", "swapctl", "big-lock", "three-groups")
MORE_SEEDS = range(10, 22)


def network(colocate: str = "true") -> Scenario:
    """A network interface whose interrupt allocates an mbuf and wakes who waits for it; kernel memory on two CPUs."""
    return scene(
        {
            "A": 'kwait: {word: got}\nkread: {at: "m[0]", into: r}\nkm_free: {at: "m[0]", pages: 1}',
            "B": """
                km_alloc: {map: mb, pages: 2, as: k}
                send: {to: net0}
                kwrite: {at: "k[1]", value: 3}
                km_free: {at: "k[0]", pages: 2}
            """,
        },
        "process: {as: A, cpu: 0}\nprocess: {as: B, cpu: 1}",
        "cpus: 2, frames: 24, swap_slots: 16, kernel: {kmem: 4, mb: 4, exec: 2}, devices: {net0: imp},"
        f" colocate: {colocate}",
        "fixed: {finding: none, results: {r: 9}}",
        """\
interrupts:
  net0:
    cpu: 0
    steps:
      - km_alloc: {map: mb, pages: 1, as: m}
      - kwrite: {at: "m[0]", value: 9}
      - kwakeup: {word: got, value: 1}""",
    )


def what(finding: Finding | None) -> dict[str, Any] | None:
    return finding.as_dict() if finding is not None else None


def interrupts(journals: Journals) -> list[str]:
    return [record["ctx"] for records in journals.values() for record in records if record["event"] == "intr"]


def came_to_rest(run: Outcome) -> bool:
    """Did nothing stop it on its way?"""
    return run.finding is None or run.finding.detector in ("deadlock", "oracle")


def same(live: Outcome, sim: Outcome) -> None:
    """The two are one run: every record, every result, the finding word by word."""
    assert what(live.finding) == what(sim.finding)
    if live.digest != sim.digest:  # say where, not only that
        for node in sorted(sim.journals):
            ours, theirs = live.journals[node], sim.journals[node]
            for record, other in zip(ours, theirs, strict=False):
                assert record == other, node
            assert len(ours) == len(theirs), node
    assert live.digest == sim.digest
    if came_to_rest(live):
        assert sorted(map(repr, live.notes)) == sorted(map(repr, sim.notes))
        assert live.results == sim.results and live.sites == sim.sites and live.counters == sim.counters


def from_sim(machine: LiveMachine, scene: Scenario, seed: int) -> Outcome:
    """A random schedule of sim, followed by the actors."""
    recorded = run_recorded(scene, RandomWalk(seed))
    same(machine.run(follow=recorded.journals), recorded)
    return recorded


def from_live(machine: LiveMachine, scene: Scenario, seed: int) -> Outcome:
    """A free run of the actors, replayed in sim."""
    run = machine.run(seed=seed)
    if came_to_rest(run):
        assert holes(run.journals) == []
    linearize(run.journals)
    same(run, replay_journals(scene, run.journals))
    return run


@pytest.mark.parametrize("case", QUICK)
def test_sim_and_live_agree_in_both_directions(case: str, live_machine: Boot) -> None:
    """A random schedule of sim followed live, and a free run replayed in sim."""
    scene = CASES[case]()
    machine = live_machine(scene)
    from_sim(machine, scene, seed=0)
    from_live(machine, scene, seed=0)


@pytest.mark.parametrize("transport", [kind for kind in KINDS if kind != DEFAULT])
@pytest.mark.parametrize("case", (pytest.param("S3a", marks=pytest.mark.long), "network"))
def test_sim_and_live_agree_with_the_other_transports_too(case: str, transport: str, live_machine: Boot) -> None:
    """Calls of Ray's actors are the judge of the sockets: all these machines are the one of sim."""
    scene = CASES[case]()
    machine = live_machine(scene, transport=transport)
    from_sim(machine, scene, seed=0)
    from_live(machine, scene, seed=0)


@pytest.mark.long
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("transport", KINDS)
def test_sim_and_live_agree_for_many_seeds(case: str, transport: str, live_machine: Boot) -> None:
    scene = CASES[case]()
    machine = live_machine(scene, transport=transport)
    for seed in MORE_SEEDS:
        from_sim(machine, scene, seed)
        from_live(machine, scene, seed)


def test_what_the_oracle_finds_it_finds_in_the_journals_of_real_processes(live_machine: Boot) -> None:
    """In sim it is asked as the run goes, live when all is over; and a note of it is told as a note."""
    scene = scenario("S9-aobj")
    result = explore(scene)
    assert result.finding is not None and result.finding.detector == "oracle"
    for level in ("stop", "note"):
        scene = scene.with_detect({"oracle": level})
        once = replay(scene, result.deviations)
        run = live_machine(scene).run(follow=once.journals)
        same(run, once)
        told = run.finding if level == "stop" else run.notes[0]
        assert told is not None and told.kind == "oracle"


def shootdowns() -> Scenario:
    """Two threads of one process on two CPUs write and protect the same pages: their TLBs must be told."""
    return scene(
        {
            "A": """
                write: {at: "buf[0]", value: 10}
                fork: {as: C, cpu: 0, program: [{read: {at: "buf[0]", into: c0}}]}
                write: {at: "buf[1]", value: 11}
                munmap: {at: "buf[2]", pages: 1}
                wait: {for: C}
            """,
            "T": """
                write: {at: "buf[0]+8", value: 20}
                write: {at: "buf[1]+8", value: 21}
                write: {at: "buf[0]+8", value: 22}
                write: {at: "buf[2]+8", value: 23}
                read: {at: "buf[0]+8", into: t0}
            """,
        },
        """
        process: {as: A, cpu: 0}
        thread: {in: A, as: T, cpu: 1}
        mmap: {in: A, as: buf, pages: 3}
        write: {in: A, at: "buf[0]", value: 1}
        """,
        "cpus: 2, frames: 32, swap_slots: 32, shards: {lock_manager: 2, memory: 2}",
        "fixed: {finding: none, results: {t0: 22}}",
    )


def test_the_shootdown_scenario_holds_in_sim() -> None:
    """Sound on its own, and IPIs do occur; else the test below would show nothing."""
    scene = shootdowns()
    result = explore(scene, schedules=200)
    assert scene.expect.fixed.check(result.finding, named_results(result.results)) is None
    taken = [interrupts(run_recorded(scene, RandomWalk(seed)).journals) for seed in range(10)]
    assert sum("cpu1.ipi" in contexts for contexts in taken) >= 3


def test_interrupts_are_delivered_exactly_where_they_were(live_machine: Boot) -> None:
    """A journal says which context an interrupt hit, and after which of its operations; following hits there again."""
    scene = shootdowns()
    machine = live_machine(scene)
    in_sim = [interrupts(from_sim(machine, scene, seed).journals) for seed in range(4)]
    assert any("cpu1.ipi" in contexts for contexts in in_sim), "no schedule of sim had an IPI"
    from_live(machine, scene, 0)  # if it has an IPI, that is its own affair


def test_an_interrupt_that_always_comes_is_delivered_where_it_was(live_machine: Boot) -> None:
    """Raw I/O ends with an interrupt; a free run has it too, whatever its timing."""
    scene = scenario("S6-interrupt").without_errata()
    machine = live_machine(scene)
    assert "cpu0.disk" in interrupts(from_sim(machine, scene, 0).journals)
    assert "cpu0.disk" in interrupts(from_live(machine, scene, 0).journals)


def test_completions_of_pageouts_are_interrupts_too(live_machine: Boot) -> None:
    """The swap pager's completion arrives on the pagedaemon's processor, at splbio."""
    scene = scenario("S3d").without_errata()
    machine = live_machine(scene)
    assert "pagedaemon.bio" in interrupts(from_live(machine, scene, 5).journals)
    assert "pagedaemon.bio" in interrupts(from_sim(machine, scene, 5).journals)
