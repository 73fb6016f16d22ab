"""Random programs (cluster/fuzz), held against the oracle, the plain model, and every detector.

`make test` runs some of fixed seeds; `make long` fresh ones, whose seed is printed, and a program that fails is cut
down to a scenario file. That they can fail is shown with errata on, one after another.
"""

from __future__ import annotations

import os
import secrets
from copy import deepcopy
from pathlib import Path

import pytest

from cluster.boot import prepare
from cluster.fuzz.generate import generate
from cluster.fuzz.hunt import Order, hunt
from cluster.fuzz.judge import Failure, judge
from cluster.fuzz.plain import unlike
from cluster.fuzz.program import Program, Step
from cluster.fuzz.shrink import shrink
from cluster.search.explore import explore
from cluster.search.strategy import Stay
from cluster.sim.engine import Sim
from shared.errors import UserMistake
from shared.scenario.steps.step import Where
from shared.scenario.steps.table import steps_of
from tests.kit import Results, answers, scene

# -- the generator -----------------------------------------------------------------------


def ops(steps: tuple[Step, ...]) -> set[str]:
    return {step.op for step in steps}.union(*(ops(step.program) for step in steps if step.program is not None))


def test_a_seed_is_a_program() -> None:
    assert generate("one").text() == generate("one").text() != generate("two").text()


@pytest.mark.wide
def test_programs_do_everything_and_each_is_a_scenario() -> None:
    """Every step that a program can have, and every kind of machine; but devices, and words and barriers of tests."""
    made = [generate(f"everything/{number}") for number in range(160)]
    for program in made:
        program.load()
    done = set().union(*(ops(steps) for program in made for steps in program.threads.values()))
    left_out = {"kload", "kstore", "klock", "kunlock", "kwait", "kwakeup", "send", "barrier"}
    assert done == set(steps_of(Where.PROGRAM)) - left_out
    machines = [program.machine for program in made]
    assert {machine["cpus"] for machine in machines} == {1, 2, 3, 4}
    keys = set().union(*machines)
    assert {"mmu", "disk", "kernel", "shards", "swap", "swap_slots"} <= keys
    mmus = [str(machine.get("mmu")) for machine in machines]
    assert all(any(kind in mmu for mmu in mmus) for kind in ("emulated", "page_tables"))
    swaps = [str(machine.get("swap")) for machine in machines]
    assert all(any(kind in swap for swap in swaps) for kind in ("devices", "delays", "put", "get"))


# -- they do not fail ----------------------------------------------------------------------


@pytest.mark.wide
@pytest.mark.parametrize("seed", ["test-1", "test-2", "test-3"])
def test_random_programs(seed: str, tmp_path: Path) -> None:
    schedules = {"stay": 1, "random": 1, "pct": 1}
    result = hunt(Order(seed, 10, schedules=schedules, guided=False, first=True, out=tmp_path))
    assert result.failure is None, f"{result}\n{result.program and result.program.text()}"
    assert result.programs == 10 and result.executions == 30 and result.corpus.tally["replay"] == 3


def test_a_raw_transfer_that_fails_leaves_a_private_page_the_files() -> None:
    """The file is cut off, physio answers EFAULT, and so may mlock: the plain model once thought the page a copy."""
    assert judge(generate("last-b/451").load(), 451) is None


@pytest.mark.long
def test_many_random_programs(capsys: pytest.CaptureFixture[str]) -> None:
    """UVMP_FUZZ_SEED repeats a seed, UVMP_FUZZ_SECONDS says how long."""
    seed = os.environ.get("UVMP_FUZZ_SEED") or secrets.token_hex(4)
    seconds = float(os.environ.get("UVMP_FUZZ_SECONDS", "600"))
    result = hunt(Order(seed, seconds=seconds, first=True, out=Path(f"runs/fuzz-{seed}")))
    with capsys.disabled():
        print(f"\n{result}")
    assert result.failure is None, str(result)


# -- they can fail ---------------------------------------------------------------------------

#: erratum -> what the programs have, and how many of them are run at most
SHOWN: dict[str, tuple[str, int]] = {
    # locks, anons, amaps
    "uvm_fault.case1b-anon-unlocked": ("memory fork map free", 15),
    "uvm_fault.case2-anon-unlocked": ("memory fork map free", 8),
    "uvm_fault.anon-freed-with-ref": ("memory fork map free", 8),
    "uvm_fault.case1-old-anon-unlocked": ("memory fork map free", 8),
    "uvmfault_anonget.caller-unlocks-again": ("threads memory map free", 8),
    "amap_unref.amap-unlocked": ("memory fork map free", 8),
    "amap_copy.unused-amap-unlocked": ("memory fork map free", 80),
    "amap_wiperange.stop-is-no-slot": ("memory map", 15),
    "amap_ref.whole-taken-for-part": ("map fork inherit", 30),
    "amap_cow_now.returns-amap-locked": ("memory lock fork protect", 15),
    "amap_cow_now.nanon-freed-locked": ("memory lock fork protect", 150),
    "amap_cow_now.restart-own-copy": ("inherit fork memory lock", 250),
    "uvmspace_fork.shared-amap-unlocked": ("inherit fork memory lock", 20),
    # files and shared memory
    "uvn_io.always-synchronous": ("file cut free memory", 8),
    "uvm_map_clean.given-up-page-stays-mapped": ("memory fork map free", 15),
    "uvm_map_clean.free-without-clean": ("file free", 150),
    "uvm_fault.wired-anon-stays-clean": ("memory lock fork protect", 15),
    "uvm_fault.wired-aobj-stays-clean": ("lock shm memory", 40),
    # loans
    "uvm_loanzero.anon-unlocked": ("loan", 8),
    "uvm_anon_lockloanpg.anon-unlocked": ("loan fork shm file memory", 20),
    "uvm_loanuobj.offset-forgotten": ("loan file", 60),
    "uvm_fault.loan-broken-wiring-stays": ("loan lock", 80),
    "uvm_fault.loan-broken-page-clean": ("loan file memory", 100),
    "uvm_unloanpage.owner-unlocked": ("loan file shm threads", 100),
    # raw I/O
    "uvm_fault_unwire.unconditional-pmap-unwire": ("raw lock", 20),
    # swapctl, and swap devices that are slow or err
    "anon_swap_off.anon-unlocked": ("swapctl memory fork shm", 8),
    "uvmfault_anonget.swapoff-trusts-anon": ("swapctl memory fork shm", 40),
    "uvm_swap_put.sync-answers-pending": ("sick memory fork free", 20),
    "uvm_pager_put.started-is-done": ("sick memory fork free", 8),
    "uvm_aio_aiodone.old-result-codes": ("sick memory fork free", 8),
    "uvm_pager_dropcluster.anon-not-released": ("sick memory fork free", 8),
    # pageout
    "uvmpd_scan.reference-kept": ("threads memory map free", 8),
    "uvm_pageout.paging-after-start": ("memory fork map free", 8),
    "uvm_anfree.waits-for-busy-page": ("threads memory map free", 8),
    "uvm_anfree.busy-page-freed": ("threads memory map free", 8),
    "uvm_anfree.page-freed-unlocked": ("memory fork map free", 15),
}
#: those that `make test` shows, of each kind some
QUICK = (
    "uvm_fault.case2-anon-unlocked",
    "amap_unref.amap-unlocked",
    "amap_wiperange.stop-is-no-slot",
    "uvn_io.always-synchronous",
    "uvm_fault.wired-anon-stays-clean",
    "uvm_loanzero.anon-unlocked",
    "uvm_anon_lockloanpg.anon-unlocked",
    "uvm_fault_unwire.unconditional-pmap-unwire",
    "anon_swap_off.anon-unlocked",
    "uvm_pager_put.started-is-done",
    "uvmpd_scan.reference-kept",
    "uvm_anfree.busy-page-freed",
)


def shows(erratum: str) -> None:
    features, programs = SHOWN[erratum]
    schedules = {"stay": 1, "random": 2}
    chosen = frozenset(features.split())
    result = hunt(
        Order("shown", programs, features=chosen, schedules=schedules, errata=(erratum,), guided=False, first=True)
    )
    assert result.failure is not None and result.failure.kind not in ("error", "setup", "diverged"), result


@pytest.mark.wide
@pytest.mark.parametrize("erratum", QUICK)
def test_a_defective_kernel_fails(erratum: str) -> None:
    """With this erratum on, one of so many programs fails."""
    shows(erratum)


@pytest.mark.long
@pytest.mark.parametrize("erratum", sorted(set(SHOWN) - set(QUICK)))
def test_each_of_many_defective_kernels_fails(erratum: str) -> None:
    shows(erratum)


@pytest.mark.wide
@pytest.mark.parametrize("features", ["map lock memory", "file cut raw", "loan free swapctl kernel"])
def test_the_plain_model_knows_a_wrong_result(features: str) -> None:
    """Each answer of a finished run is changed; the model tells most of the changes that matter."""
    noticed: dict[str, int] = {}
    for number in range(6):
        scene = generate(f"wrong/{number}", frozenset(features.split())).load()
        machine, image = prepare(scene)
        sim = Sim(machine, image)
        assert sim.execute(Stay()) is None
        results = {name: thread.results for name, thread in machine.threads.items() if thread.results}
        assert unlike(scene, results) is None
        for name, answered in results.items():
            for at, answer in enumerate(answered):
                wrong = deepcopy(results)
                wrong[name][at]["result"] = "ENXIO" if answer["result"] != "ENXIO" else 0
                said = unlike(scene, wrong)
                if said is not None:
                    assert said.text.startswith(f"{name} ") and f"got {wrong[name][at]['result']}" in said.text
                    noticed[answer["op"]] = noticed.get(answer["op"], 0) + 1
                else:
                    assert answer["op"] in ("swapctl",), answer
    assert {"read", "write"} <= set(noticed)


def test_cutting_down_leaves_what_matters() -> None:
    """A program fails if A reads and a child of it writes; all else goes, but what makes it a scenario."""

    def fails(program: Program) -> Failure | None:
        try:
            program.load()
        except UserMistake:
            return None
        steps = program.threads.get("A", ())
        children = [child for step in steps for child in step.program or ()]
        wrong = any(step.op == "read" for step in steps) and any(step.op == "write" for step in children)
        return Failure("result", "", "") if wrong else None

    made = (generate(f"cutting/{number}", frozenset(("fork", "memory", "threads"))) for number in range(50))
    program, failure = next((program, failure) for program in made if (failure := fails(program)) is not None)
    small, _ = shrink(program, failure, fails)
    (steps,) = small.threads.values()
    assert sorted(step.op for step in steps) == ["fork", "read"]
    assert [step.op for step in steps[0].program or steps[1].program or ()][-2:] in (["write"], ["mmap", "write"])
    assert sorted({step.op for step in small.setup}) == ["mmap", "process"] and len(small.setup) <= 3
    assert small.machine == {"cpus": 1, "frames": 32, "swap_slots": 160}


# -- what they have found ------------------------------------------------------------------


def got_by_a(setup: str, program: str) -> Results:
    """What each step of process A with `into` answered, by the default schedule."""
    setup = f"file: {{as: F, pages: 4, words: [71, 72, 73, 74]}}\nprocess: {{as: A, cpu: 0}}\n{setup}"
    ((got, _),) = answers(scene({"A": program}, setup, "cpus: 1, frames: 24, swap_slots: 96, disk: 8"), (Stay(), 1))
    return got


def test_a_promotion_in_a_shared_amap_leaves_wired_mappings_of_the_object_alone() -> None:
    """A page of a file is mapped twice: locked, and private in an amap shared with a child, which writes to it.

    UVM removes every mapping of the file's page, so that all who share the amap see the copy; the locked one too, and
    munlock panics: "unwiring non-wired memory".
    """
    got = got_by_a(
        """\
  - mmap: {in: A, as: sees, pages: 1, file: F, flags: [shared]}
  - mmap: {in: A, as: owns, pages: 1, file: F, flags: [private]}""",
        """\
    - mlock: {at: "sees[0]", pages: 1}
    - minherit: {at: "owns[0]", pages: 1, inherit: share}
    - read: {at: "owns[0]", into: before}
    - fork: {as: C, program: [{read: {at: "owns[0]"}}, {write: {at: "owns[0]", value: 1}}]}
    - wait: {for: C}
    - read: {at: "owns[0]", into: after}
    - read: {at: "sees[0]", into: locked}
    - munlock: {at: "sees[0]", pages: 1, into: unlocked}""",
    )
    assert got == {"before": 71, "after": 1, "locked": 71, "unlocked": 0}


@pytest.mark.parametrize("how", ["madvise: {THERE, advice: free}", "msync: {THERE, flags: [sync, invalidate]}"])
def test_a_page_thrown_out_while_another_thread_faults_on_it_keeps_what_was_written(how: str) -> None:
    """The faulting thread has the page BUSY. UVM marks it RELEASED, so it is freed; what the file lacks is lost."""
    made = scene(
        {
            "A": f"""
                fwrite: {{at: "F[0]", value: 3}}
                {how.replace("THERE", 'at: "sees[0]", pages: 1')}
                fread: {{at: "F[0]", into: file}}
            """,
            "T": 'read: {at: "sees[0]", into: map}',
        },
        """
        file: {as: F, pages: 1, words: [7]}
        process: {as: A, cpu: 0}
        thread: {in: A, as: T, cpu: 1}
        mmap: {in: A, as: sees, pages: 1, file: F, flags: [shared]}
        """,
        "cpus: 2, frames: 24, swap_slots: 96, disk: 8",
        "fixed: {finding: none, results: {file: 3, map: {any_of: [3, 7]}}}",
    )
    for strategy in ("random", "pct"):
        result = explore(made, strategy=strategy, seed=1, schedules=100)
        assert result.finding is None, result.finding


def test_throwing_out_a_files_page_leaves_wired_mappings_of_it_alone() -> None:
    """The range is private and not locked, but its page is the file's, and locked by another mapping."""
    got = got_by_a(
        """\
  - mmap: {in: A, as: sees, pages: 1, file: F, flags: [shared]}
  - mmap: {in: A, as: owns, pages: 1, file: F, flags: [private]}""",
        """\
    - mlock: {at: "sees[0]", pages: 1}
    - madvise: {at: "owns[0]", pages: 1, advice: free}
    - munlock: {at: "sees[0]", pages: 1, into: unlocked}""",
    )
    assert got == {"unlocked": 0}


@pytest.mark.parametrize(
    "what", ["shm: S", "file: F, flags: [shared]", "file: F, flags: [private]", "flags: [private, anon]"]
)
def test_borrowed_memory_that_is_freed_is_zero(what: str) -> None:
    """It is private memory where it is mapped: nothing is below it, whatever it was borrowed from."""
    got = got_by_a(
        f"""\
  - shm: {{as: S, pages: 1}}
  - mmap: {{in: A, as: from, pages: 1, {what}}}""",
        """\
    - write: {at: "from[0]+8", value: 4}
    - loan: {at: "from[0]", pages: 1, to: anon, as: L}
    - map_loan: {of: L, as: lent, pages: 1}
    - read: {at: "lent[0]+8", into: before}
    - write: {at: "lent[0]", value: 5}
    - madvise: {at: "lent[0]", pages: 1, advice: free}
    - read: {at: "lent[0]+8", into: after}
    - read: {at: "from[0]+8", into: lender}""",
    )
    assert got == {"before": 4, "after": 0, "lender": 4}


def test_a_private_page_of_a_file_that_is_freed_shows_the_file_again() -> None:
    got = got_by_a(
        "  - mmap: {in: A, as: owns, pages: 1, file: F, flags: [private]}",
        """\
    - write: {at: "owns[0]", value: 1}
    - madvise: {at: "owns[0]", pages: 1, advice: free}
    - read: {at: "owns[0]", into: file}
    - fwrite: {at: "F[0]+8", value: 2}
    - read: {at: "owns[0]+8", into: later}
    - write: {at: "owns[0]", value: 3}
    - fwrite: {at: "F[0]+8", value: 4}
    - read: {at: "owns[0]+8", into: own}""",
    )
    assert got == {"file": 71, "later": 2, "own": 2}


def test_a_file_does_not_grow_while_it_is_being_cut_off() -> None:
    """The truncation waits for a read of the page; a fault after the growth would read the old data from the disk."""
    made = scene(
        {
            "A": 'read: {at: "sees[0]"}\nftruncate: {file: F, pages: 1}\nread: {at: "sees[0]"}',
            "T": "ftruncate: {file: F, pages: 0}",
            "U": 'read: {at: "sees[0]"}',
        },
        """
        file: {as: F, pages: 1, words: [70]}
        process: {as: A, cpu: 0}
        thread: {in: A, as: T, cpu: 0}
        thread: {in: A, as: U, cpu: 1}
        mmap: {in: A, as: sees, pages: 1, file: F, flags: [shared]}
        """,
        "cpus: 2, frames: 32, swap_slots: 96, disk: 8",
    )
    for strategy in ("random", "pct"):
        result = explore(made, strategy=strategy, seed=1, schedules=60)
        assert result.finding is None, result.finding
