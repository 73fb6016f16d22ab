"""Page tables in memory, under several CPUs: threads that want one table at once, and one that takes it away."""

from __future__ import annotations

import pytest

from cluster.search.explore import explore
from cluster.search.walk import RandomWalk
from shared.port.port import here
from shared.scenario.model import Scenario, named_results
from shared.uvm.init import uvm_init
from shared.uvm.page import uvm_pagealloc
from shared.uvm.param import UVM_PGA_USERESERVE, VM_PROT_NONE, VM_PROT_READ
from shared.uvm.pmap import pmap_create, pmap_destroy, pmap_enter, pmap_free_ptps
from shared.uvm.structs import uvmexp
from tests.kit import Toy, run_recorded, scene

SETUP = """
process: {as: A, cpu: 0}
thread: {in: A, as: A2, cpu: 1}
mmap: {in: A, as: both, pages: 2, flags: [shared, anon]}
mmap: {in: A, as: buf, pages: 4}
mmap: {in: A, as: own, pages: 1, flags: [shared, anon]}
"""
CHILD = '[{write: {at: "both[0]", value: 5}}, {write: {at: "buf[0]", value: 6}}, {read: {at: "buf[0]", into: c0}}]'
A = f"""
write: {{at: "own[0]", value: 1}}
write: {{at: "buf[0]", value: 1}}
fork: {{as: C, cpu: 2, program: {CHILD}}}
munmap: {{at: "buf[0]", pages: 1}}
mmap: {{as: more, pages: 1}}
write: {{at: "more[0]", value: 7}}
read: {{at: "more[0]", into: r0}}
wait: {{for: C}}
read: {{at: "both[0]", into: b0}}
"""
A2 = """
write: {at: "both[1]", value: 2}
write: {at: "buf[1]", value: 2}
munmap: {at: "buf[1]", pages: 1}
write: {at: "buf[2]", value: 3}
read: {at: "buf[2]", into: r2}
munmap: {at: "buf[2]", pages: 2}
"""


def tables(room: int, rm: str) -> Scenario:
    """Two threads touch neighbouring pages, unmap and map others; a child does the same in its own pmap."""
    return scene(
        {"A": A, "A2": A2},
        SETUP,
        f"cpus: 3, frames: 24, swap_slots: 32, mmu: {{page_tables: {room}, rm: {rm}}}",
        "fixed: {finding: none, results: {c0: 6, r0: 7, b0: 5, r2: 3}}",
        bound="strategy: random, schedules: 100",
    )


@pytest.mark.parametrize("strategy", ["random", "pct"])
@pytest.mark.parametrize("rm", ["hardware", "emulated"])
def test_tables_come_and_go_and_nothing_is_found(rm: str, strategy: str) -> None:
    """Every invariant holds at the end of each: no table leaked, lost, freed twice or too early."""
    result = explore(tables(4, rm), strategy, seed=4)
    assert result.finding is None and result.schedules == 100


def test_two_threads_that_lack_one_table_bring_a_page_each() -> None:
    """The page that comes second is freed; this happens in some schedules, or it would not have been tested."""
    walk = RandomWalk(0)
    refused = 0
    for _ in range(30):
        once = run_recorded(tables(256, "hardware"), walk)
        assert once.finding is None and named_results(once.results)["r0"] == 7
        refused += sum(record["event"] == "pmap_ptp_enter" and record["taken"] == 0 for record in once.journals["mmu"])
    assert refused


def test_the_object_of_a_dead_pmap_stays_until_its_last_table_is_freed() -> None:
    """The pagedaemon removes the last translation of a pmap; before it frees the table, the process has ended."""
    done = []

    def setup() -> None:
        uvm_init(8, 8, [])

    def body() -> None:
        free = uvmexp.free
        pmap = pmap_create()
        pg = uvm_pagealloc(None, 0, None, UVM_PGA_USERESERVE)
        assert pg is not None and pmap_enter(pmap, 0x1000, pg, VM_PROT_READ, 0) == 0 and uvmexp.free == free - 2
        emptied = here.port.pmap("pmap_page_protect", pg.frame, (VM_PROT_NONE,))
        pm_obj = emptied[0][0]
        pmap_destroy(pmap)
        assert pm_obj.uo_npages == 1  # it is still there
        pmap_free_ptps(emptied)
        assert uvmexp.free == free - 1
        done.append(1)
        assert pm_obj.uo_npages == 0  # and now it is not

    finding = Toy(setup, {"A": (0, body)}, mmu="{page_tables: 4}").run()
    assert done and finding is not None and (finding.kind, finding.subject) == ("use-after-free", "pm_obj:0")
