"""Pages that are freed while they are in use: told when they are freed (PAGE-7), and at the access (freed-page-access).

Neither needs a machine at rest, nor a process that has not exited. Each is shown with a defect patched in, and silent
without it.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cluster.boot import prepare
from cluster.runs.replay import replay_journals
from cluster.search.explore import search
from cluster.search.strategy import Stay
from cluster.sim.engine import Sim
from nodes.memory import Memory
from nodes.mmu import Mmu
from shared.findings import Finding
from shared.journal.record import digest
from shared.port.port import ANY_GEN
from shared.scenario.model import Scenario
from shared.uvm.param import PQ_FREE
from shared.uvm.structs import Page
from shared.wire.messages import KernelFinding
from tests.kit import replaced, run_recorded, scene
from tests.nodes.in_threads import Threads

SETUP = """
process: {as: A, cpu: 0}
thread: {in: A, as: A2, cpu: 1}
mmap: {in: A, as: buf, pages: 1}
write: {in: A, at: "buf[0]", value: 7}
"""
A = 'read: {at: "buf[0]", into: before}\nbarrier: {name: go}\nbarrier: {name: freed}\n'
A2 = 'barrier: {name: go}\nmadvise: {at: "buf[0]", pages: 1, advice: free}\nbarrier: {name: freed}\n'
STEPS = {"read": 'read: {at: "buf[0]"}\n', "write": 'write: {at: "buf[0]", value: 3}\n'}
DO = pytest.mark.parametrize("do", STEPS)


def freed(do: str, detect: str, setup: str = SETUP, more: str = "") -> Scenario:
    """A2 frees the page, and A does this with it.

    Args:
        more: further steps of A2.
    """
    machine, bound = "cpus: 2, frames: 24, swap_slots: 16, disk: 4", "strategy: random, schedules: 40"
    return scene({"A": A + do, "A2": A2 + more}, setup, machine, more=f"detect: {{{detect}}}", bound=bound)


def run(do: str = "read", detect: str = "invariant: stop") -> Finding | None:
    """The first finding of some schedules."""
    return search(freed(STEPS[do], detect)).finding


@pytest.fixture
def still_mapped() -> Iterator[None]:
    """The mmu forgets to unmap the page that uvm_anfree() frees."""
    with replaced("Mmu.op_pmap_page_protect", lambda self, ctx, frame, prot, cpu: [None, []]):
        yield


@pytest.fixture
def stale_tlb() -> Iterator[None]:
    """Nobody flushes a TLB when the page is unmapped."""

    def unmap(self: Mmu, ctx: str, frame: int, prot: int, cpu: str) -> object:
        return [self._drop(list(self.pv.get(frame, ()))), []]

    with replaced("Mmu.op_pmap_page_protect", unmap):
        yield


@DO
def test_a_sound_kernel_frees_what_nobody_uses(do: str) -> None:
    assert run(do) is None


@pytest.mark.usefixtures("still_mapped")
def test_a_page_that_is_freed_though_it_is_mapped_is_told_of_when_it_is_freed() -> None:
    finding = run()
    assert finding is not None and finding.kind == "invariant" and "PAGE-7" in finding.text
    assert (finding.function, finding.subject.split(":")[0]) == (
        "uvm_anfree",
        "page",
    ) and "still mapped" in finding.text
    assert finding.stack[-2:] == ["uvm_anfree", "uvm_pagefree"]


@DO
@pytest.mark.usefixtures("still_mapped")
def test_an_access_by_a_translation_to_a_freed_page_is_told_of_at_the_access(do: str) -> None:
    """Who freed it, in which function, as which operation."""
    finding = run(do, "invariant: off")
    assert finding is not None and (finding.kind, finding.detector, finding.context) == (
        "freed-page-access",
        "heap",
        "A",
    )
    verb = "reads" if do == "read" else "writes to"
    assert f"A {verb} 0x10000 by way of a translation to {finding.subject}, which was freed since" in finding.text
    assert "A2 freed it in uvm_pagefree < uvm_anfree, its operation" in finding.text and "it is free" in finding.text


@pytest.mark.usefixtures("stale_tlb")
def test_so_is_one_by_what_only_a_tlb_still_has() -> None:
    """The page table is right, so that PAGE-7 has nothing to say."""
    finding = run()
    assert finding is not None and finding.kind == "freed-page-access" and "uvm_anfree" in finding.text


def test_a_page_that_is_in_use_again_is_not_taken_for_the_old_one() -> None:
    """What the new owner has is not what the access was for."""
    memory = Memory("memory", 4, 64)
    for _ in range(4):
        page = memory.admit("boot", "alloc", 0, (Page.kind, 0))
    memory.admit("boot", "word_write", 3, (0, 5, 0x40, 0, page.gen))
    memory.admit("A", "renew", page.id, (page, "uvm_pagefree < uvm_anfree", 12))
    for flags, now in ((PQ_FREE, "it is free"), (0, "it is in use again")):
        memory.admit("A", "store", page.id, (page.anything(), "pqflags", Page.fields["pqflags"].slot, flags))
        said = f"B reads 0x40 .* A freed it in uvm_pagefree < uvm_anfree, its operation 12; {now}"
        with pytest.raises(KernelFinding, match=said):
            memory.admit("B", "word_read", 3, (0, 0x40, 0, page.gen))
    assert memory.admit("B", "word_read", 3, (0, 0x40, 0, page.gen + 1)) == 5
    assert memory.admit("B", "word_read", 3, (0, 0x40, 0, ANY_GEN)) == 5


@pytest.mark.usefixtures("still_mapped")
def test_who_does_not_mind_goes_on_as_the_machine_would() -> None:
    """The access meets whatever is in the frame: here what was there before, as MADV_FREE allows."""
    assert run("read", "invariant: off, heap: off") is None
    sim = Sim(*prepare(freed(STEPS["read"], "invariant: off, heap: note, oracle: off")))
    assert sim.execute(Stay()) is None and [note.kind for note in sim.notes] == ["freed-page-access"]


@DO
@pytest.mark.parametrize("detect", ["invariant: off", "invariant: stop"])
@pytest.mark.usefixtures("still_mapped")
def test_a_machine_of_real_processors_says_the_same(do: str, detect: str) -> None:
    """The memory and the kernel have seen it, wherever they run: the same finding, the same journals."""
    made = freed(STEPS[do], detect)
    wanted = run_recorded(made, Stay())
    machine = Threads(made, follow=wanted.journals)
    finding = machine.run()
    assert finding is not None and wanted.finding is not None and finding.as_dict() == wanted.finding.as_dict()
    assert digest(machine.records()) == digest(wanted.journals)


@DO
@pytest.mark.usefixtures("still_mapped")
def test_who_does_not_mind_is_replayed_too(do: str) -> None:
    """The refused access is made again as an operation of its own: on a free machine others come in between."""
    levels = "invariant: off, heap: note, oracle: off, race: off"
    others = "".join(f'write: {{at: "other[{page % 4}]", value: {page}}}\n' for page in range(60))
    made = freed(STEPS[do] * 20, levels, SETUP + "mmap: {in: A, as: other, pages: 4}", others)
    for seed in range(3):
        machine = Threads(made, seed=seed)
        assert machine.run() is None
        records = machine.records()
        assert any(record["event"] == "note" for each in records.values() for record in each)
        again = replay_journals(made, records)
        assert again.digest == digest(records) and [note.kind for note in again.notes] == ["freed-page-access"]
