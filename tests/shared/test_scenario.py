"""Loading scenarios: what a good one becomes, and that a bad one is told where it is bad."""

# ruff: noqa: E501 - one bad input, one line

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from shared.errors import UserMistake
from shared.findings import DETECTORS, Finding
from shared.scenario.load import DEFAULT_BOUND, load_scenario
from shared.scenario.machine import MachineConfig
from shared.scenario.model import Expected, Scenario, named_results
from shared.scenario.yaml import parse

CONFIGS = Path(__file__).parents[2] / "configs"

GOOD = """\
id: T1
name: test-one
title: A test
story: Two processes and a child.
source: ["nowhere"]
machine: {cpus: 2, frames: 24, swap_slots: 32, page_size: 64}
errata: [amap_cow_now.nanon-freed-locked]
detect: {race: off, lockdebug: note}
setup:
  - process: {as: A, cpu: 0}
  - mmap: {in: A, as: buf, pages: 4, prot: rw, flags: [private, anon]}
  - write: {in: A, at: "buf[0]", value: 1}
  - process: {as: B, cpu: 1}
  - thread: {in: B, as: B2, cpu: 0}
  - fill: {in: B, until_free: 7}
programs:
  A:
    - mlock: {at: "buf[0]", pages: 4, into: locked}
    - fork:
        as: C
        program:
          - mmap: {as: own, pages: 1, prot: r}
          - read: {at: "buf[3]+8", into: r0}
          - fork: {as: E, cpu: 1, program: []}
          - exit: {}
    - wait: {for: C}
    - barrier: {name: met}
  B:
    - write: {at: "fill[23]", value: 0xffffffffffffffff}
    - fork: {as: D, cpu: 1, program: [{read: {at: "fill[0]", into: d0}}]}
    - barrier: {name: met}
  B2:
    - munmap: {at: "fill[1]", pages: 2}
expect:
  with_errata: {finding: {any_of: [locked-anon-freed, spin-forever]}, function: amap_cow_now, subject: anon}
  fixed: {finding: none, results: {r0: 0, d0: {any_of: [1, SIGSEGV]}, locked: 0}}
bound: {strategy: pct, depth: 3, schedules: 2000}
"""


@pytest.fixture
def good() -> Scenario:
    return load_scenario(GOOD, "t.yaml")


def change(old: str, new: str) -> str:
    assert GOOD.count(old) == 1, f"{old!r} occurs {GOOD.count(old)} times"
    return GOOD.replace(old, new)


def line_of(text: str, needle: str) -> int:
    return text[: text.index(needle)].count("\n") + 1


# -- a good one ------------------------------------------------------------------


def test_contexts_are_programs_in_file_order_then_children_as_they_appear(good: Scenario) -> None:
    """The order is part of what a schedule means, so it may depend on nothing else."""
    assert [lwp.name for lwp in good.lwps] == ["A", "B", "B2", "C", "E", "D"]
    assert [lwp.proc for lwp in good.lwps] == ["A", "B", "B", "C", "E", "D"]
    assert [lwp.cpu for lwp in good.lwps] == [0, 1, 0, 0, 1, 1]
    assert [lwp.forked for lwp in good.lwps] == [False, False, False, True, True, True]
    assert good.procs == ("A", "B", "C", "E", "D")
    assert good.barriers == ("met",)


def test_a_child_runs_on_its_parents_cpu_unless_told_otherwise(good: Scenario) -> None:
    assert good.lwp("C").cpu == good.lwp("A").cpu


def test_regions_have_addresses_of_their_own_with_a_gap_between(good: Scenario) -> None:
    assert [(region.name, region.proc, region.start, region.pages) for region in good.regions] == [
        ("buf", "A", 0x10000, 4),
        ("fill", "B", 0x11000, 24),
        ("own", "C", 0x12000, 1),
    ]
    for region, after in zip(good.regions, good.regions[1:]):
        assert region.start + (region.pages + 1) * 64 <= after.start


def test_addresses_are_resolved_to_bytes(good: Scenario) -> None:
    assert [(step.op, step.args.plain(), step.into) for step in good.lwp("C").program] == [
        ("mmap", {"as": "own", "at": 0x12000, "length": 64, "prot": 1, "shared": False}, None),
        ("read", {"at": 0x10000 + 3 * 64 + 8}, "r0"),
        ("fork", {"as": "E", "cpu": 1}, None),
        ("exit", {}, None),
    ]
    assert good.lwp("A").program[0].args.plain() == {"at": 0x10000, "length": 256}
    assert good.lwp("B").program[0].args.plain() == {"at": 0x11000 + 23 * 64, "value": 2**64 - 1}
    assert good.setup[1].args.plain() == {
        "in": "A",
        "as": "buf",
        "at": 0x10000,
        "length": 256,
        "prot": 3,
        "shared": False,
    }
    assert good.setup[5].args.plain() == {
        "in": "B",
        "as": "fill",
        "at": 0x11000,
        "length": 24 * 64,
        "prot": 3,
        "until_free": 7,
    }


def test_an_address_can_be_told_in_the_scenarios_words(good: Scenario) -> None:
    assert good.place(0x10000 + 3 * 64 + 8) == "buf[3]+8"
    assert good.place(0x11000) == "fill[0]"
    assert good.place(0x10000 + 4 * 64) == "0x10100"


def test_steps_know_their_lines(good: Scenario) -> None:
    assert good.lwp("C").program[1].line == line_of(GOOD, 'read: {at: "buf[3]+8"')


def test_every_detector_has_a_level_and_stop_is_the_default(good: Scenario) -> None:
    assert good.detect == {**dict.fromkeys(DETECTORS, "stop"), "race": "off", "lockdebug": "note"}


def test_a_machine_can_be_called_by_name() -> None:
    text = change("machine: {cpus: 2, frames: 24, swap_slots: 32, page_size: 64}", "machine: small")
    asked = []

    def find(name: str) -> tuple[str, str]:
        asked.append(name)
        return "cpus: 2\nframes: 16\nswap_slots: 0\n", "small.yaml"

    scenario = load_scenario(text.replace("fill[23]", "fill[15]"), "t.yaml", find)
    assert asked == ["small"]
    assert scenario.machine == MachineConfig(cpus=2, frames=16, swap_slots=0)
    assert scenario.machine.anons == 16


def test_a_machine_given_by_the_caller_wins() -> None:
    machine = MachineConfig(cpus=2, frames=32, swap_slots=8, page_size=128)
    scenario = load_scenario(GOOD, "t.yaml", machine=machine)
    assert scenario.machine == machine
    assert scenario.regions[1].pages == 32
    assert scenario.lwp("A").program[0].args.plain()["length"] == 4 * 128


def test_the_digest_covers_what_is_executed_and_nothing_else(good: Scenario) -> None:
    digest = good.digest()
    assert len(digest) == 8 and int(digest, 16) >= 0
    same = [
        change("story: Two processes and a child.", "story: >\n  Other\n  words."),
        change("schedules: 2000", "schedules: 1"),
        change("results: {r0: 0, ", "results: {r0: 1, "),
        change("page_size: 64}", "page_size: 64, colocate: false}"),
    ]
    other = [
        change("id: T1", "id: T2"),
        change("frames: 24, swap_slots: 32", "frames: 25, swap_slots: 32"),
        change("race: off", "race: note"),
        change('at: "buf[0]", value: 1', 'at: "buf[1]", value: 1'),
        change("fork: {as: E, cpu: 1", "fork: {as: E, cpu: 0"),
        change("until_free: 7", "until_free: 8"),
    ]
    assert {load_scenario(text, "other.yaml").digest() for text in same} == {digest}
    assert len({load_scenario(text, "t.yaml").digest() for text in other} | {digest}) == len(other) + 1
    assert good.without_errata().digest() != digest
    assert good.with_detect({"race": "stop"}).digest() != digest
    assert good.digest(granularity="access", racy=["anon.an_ref"]) != digest


def test_the_outcome_depends_on_the_errata_that_are_on(good: Scenario) -> None:
    assert good.outcome() == good.expect.with_errata
    assert good.without_errata().outcome() == good.expect.fixed
    assert good.without_errata().with_errata(good.errata).outcome() == good.expect.with_errata
    assert good.with_errata(["uvm_fault.anon-freed-with-ref"]).outcome() is None
    assert good.with_detect({"lockdebug": "off"}).outcome() is None


def test_options_are_checked_as_strictly_as_files(good: Scenario) -> None:
    with pytest.raises(UserMistake, match="did you mean amap_cow_now"):
        good.with_errata(["amap_cow_now.nanon-freed-unlocked"])
    with pytest.raises(UserMistake, match=r"no detector 'locking'"):
        good.with_detect({"locking": "off"})
    with pytest.raises(UserMistake, match="no level for detector race 'maybe'"):
        good.with_detect({"race": "maybe"})


# -- judging a run -----------------------------------------------------------------

FOUND = Finding("locked-anon-freed", "freeing locked anon", "A", "amap_cow_now", "anon:5")
WANTED = Expected(("locked-anon-freed", "spin-forever"), ("amap_cow_now",), ("anon",))
SHORT = Expected(("invariant",), subjects=("page",), invariants=("PAGE-2", "PAGE-3"))
UNQUEUED = Finding("invariant", "PAGE-2: a page is on no queue", subject="page:3")


@pytest.mark.parametrize(
    ("outcome", "finding", "results", "verdict"),
    [
        (WANTED, FOUND, {}, None),
        (WANTED, None, {}, "expected locked-anon-freed or spin-forever, found no finding"),
        (WANTED, replace(FOUND, kind="panic"), {}, "expected locked-anon-freed or spin-forever, found panic (freeing locked anon)"),
        (WANTED, replace(FOUND, function="uvm_fault"), {}, "expected locked-anon-freed in amap_cow_now, found it in uvm_fault"),
        (WANTED, replace(FOUND, subject="amap:5"), {}, "expected locked-anon-freed of anon, found it of amap:5"),
        (SHORT, UNQUEUED, {}, None),
        (SHORT, replace(UNQUEUED, text="PAGE-22: no such thing"), {}, "expected invariant PAGE-2 or PAGE-3, found PAGE-22: no such thing"),
        (Expected(("invariant", "panic"), invariants=("PAGE-2",)), replace(UNQUEUED, kind="panic", text="panic: x"), {}, None),
        (Expected(("panic",), texts=("munlock", "wired")), replace(FOUND, kind="panic", text="panic: not wired"), {}, None),
        (Expected(("panic",), texts=("munlock",)), replace(FOUND, kind="panic", text="panic: x"), {}, "expected panic with text 'munlock', found panic (panic: x)"),
        (Expected(), None, {"r0": 3}, None),
        (Expected(), FOUND, {}, "expected no finding, found locked-anon-freed (freeing locked anon)"),
        (Expected(results={"r0": (1,)}), None, {"r0": 1, "r1": 7}, None),
        (Expected(results={"r0": (1, "SIGSEGV")}), None, {"r0": 2}, "expected r0 to be 1 or SIGSEGV, found 2"),
        (Expected(results={"r0": (1,)}), None, {}, "expected r0 to be 1; its step was not reached"),
    ],
)  # fmt: skip
def test_an_outcome_says_in_words_why_it_does_not_hold(
    outcome: Expected, finding: Finding | None, results: dict[str, int | str], verdict: str | None
) -> None:
    assert outcome.check(finding, results) == verdict


def test_results_are_collected_by_their_names() -> None:
    steps = {
        "A": [
            {"step": 0, "op": "mlock", "result": 0, "into": None},
            {"step": 1, "op": "read", "result": 5, "into": "r0"},
        ],
        "C": [{"step": 0, "op": "read", "result": "SIGSEGV", "into": "c0"}],
    }
    assert named_results(steps) == {"r0": 5, "c0": "SIGSEGV"}


# -- bad ones: (what is changed, to what, where it stands, field, message) ----------

A0 = "programs.A[0].mlock"
BAD = [
    # the document
    ("title: A test\n", "titel: A test\n", "titel", "titel", "unknown key 'titel' (did you mean title?)"),
    ("id: T1\n", "", "name:", None, "missing key 'id'"),
    ("id: T1\n", "idd: T1\n", "idd:", "idd", "unknown key 'idd' (did you mean id?)"),
    ("title: A test\n", "title: A test\ntitle: B\n", "title: B", "title", "duplicate key 'title' (first on line 3)"),
    ("title: A test\n", "title: 12\n", "title: 12", "title", "expected a title, found 12 (put it in quotes)"),
    ("title: A test\n", "title: ''\n", "title: ''", "title", "only blanks"),
    ("id: T1", "id: T.1", "T.1", "id", "'T.1' is not a valid id"),
    ("name: test-one", "name: a b", "a b", "name", "is not a valid name"),
    ('source: ["nowhere"]', "source: nowhere", "source", "source", "expected a list, found the text 'nowhere'"),
    ('source: ["nowhere"]', "source: []", "source", "source", "at least 1 entry"),
    ("source: [", "source: &s [", "source", "source", "an anchor"),
    # the machine
    ("{cpus: 2,", "{cpus: 129,", "cpus", "machine.cpus", "129 is out of range: 1 to 128"),
    ("{cpus: 2,", "{cpus: 0,", "cpus", "machine.cpus", "0 is out of range: 1 to 128"),
    ("{cpus: 2,", "{cpus: 010,", "cpus", "machine.cpus", "found the text '010' (a number has no leading zero)"),
    ("{cpus: 2,", "{cpus: 1:30,", "cpus", "machine.cpus", "(a colon does not make a number)"),
    ("{cpus: 2,", "{cpus: '2',", "cpus", "machine.cpus", "(remove the quotes)"),
    ("{cpus: 2,", "{cpus: true,", "cpus", "machine.cpus", "expected a whole number, found true"),
    ("{cpus: 2,", "{cpu: 2,", "cpu: 2", "machine.cpu", "unknown key 'cpu' (did you mean cpus?)"),
    ("{cpus: 2,", "{", "machine", "machine", "missing key 'cpus'"),
    ("frames: 24", "frames: 7", "frames", "machine.frames", "7 is out of range: 8 to 16384"),
    ("frames: 24", "frames: 16385", "frames", "machine.frames", "out of range"),
    ("swap_slots: 32", "swap_slots: -1", "swap_slots", "machine.swap_slots", "-1 is out of range: 0 to 8192"),
    ("swap_slots: 32", "swap_slots: 32, swap: {devices: [{slots: 4}]}", "swap_slots", "machine.swap_slots", "leave it out, because each device has its own slots"),
    ("swap_slots: 32", "swap: {devices: []}", "swap", "machine.swap.devices", "at least"),
    ("swap_slots: 32", "swap: {devices: [{priority: 1}]}", "swap", "machine.swap.devices[0]", "missing key 'slots'"),
    ("swap_slots: 32", "swap: {devices: [{slots: 0}]}", "swap", "machine.swap.devices[0].slots", "0 is out of range: 1 to 8192"),
    ("swap_slots: 32", "swap: {devices: [{slots: 8192}, {slots: 1}]}", "swap", "machine.swap.devices", "more than 8192 slots on all devices together"),
    ("swap_slots: 32", "swap: [1]", "swap", "machine.swap", "expected a mapping, found a list"),
    ("swap_slots: 32", "swap: {device: []}", "swap", "machine.swap.device", "did you mean devices?"),
    ("swap_slots: 32", "swap: {errors: [{op: put, error: EIO}]}", "machine", "machine", "missing key 'swap_slots'"),
    ("    - wait: {for: C}", "    - swapctl: {do: off, device: 1}", "swapctl", "programs.A[2].swapctl.device", "there is no swap device 1: the machine has 1"),
    ("    - wait: {for: C}", "    - swapctl: {do: stop, device: 0}", "swapctl", "programs.A[2].swapctl.do", "unknown command 'stop'"),
    ("    - wait: {for: C}", "    - swapctl: {device: 0}", "swapctl", "programs.A[2].swapctl", "missing key 'do'"),
    ("page_size: 64}", "page_size: 32}", "page_size", "machine.page_size", "out of range: 64 to 4096"),
    ("page_size: 64}", "page_size: 100}", "page_size", "machine.page_size", "100 is not a power of two"),
    ("page_size: 64}", "reserve_kernel: 22}", "reserve_k", "machine.reserve_kernel", "22 is out of range: 1 to 21"),
    ("page_size: 64}", "freemin: 5}", "freemin", "machine.freemin", "5 is out of range: 6 to 22"),
    ("page_size: 64}", "freemin: 8, freetarg: 8}", "freetarg", "machine.freetarg", "8 is out of range: 9 to 23"),
    ("page_size: 64}", "anons: 0}", "anons", "machine.anons", "out of range"),
    ("page_size: 64}", "mmu: {rm: soft}}", "rm", "machine.mmu.rm", "unknown way to keep R and M 'soft'"),
    ("page_size: 64}", "mmu: {page_tables: 0}}", "page_tables", "machine.mmu.page_tables", "0 is out of range: 1 to 16384"),
    ("page_size: 64}", "mmu: {page_tables: 4, unwired_mappings: 2}}", "page_tables", "machine.mmu.page_tables", "an MMU with room for a few unwired_mappings has no page tables in memory"),
    ("page_size: 64}", "mmu: {tables: 4}}", "mmu", "machine.mmu.tables", "unknown key 'tables'"),
    ("page_size: 64}", "shards: {mmu: 2}}", "shards", "machine.shards.mmu", "unknown key 'mmu'"),
    ("page_size: 64}", "shards: {memory: 0}}", "shards", "machine.shards.memory", "out of range"),
    ("page_size: 64}", "colocate: on}", "colocate", "machine.colocate", "found the text 'on'"),
    ("page_size: 64}", "colocate: [[mmu, cpu2]]}", "colocate", "machine.colocate[0][1]", "unknown node 'cpu2'"),
    ("page_size: 64}", "colocate: [[mmu], [mmu]]}", "colocate", "machine.colocate[1][0]", "mmu is in two groups"),
    # errata, detectors
    ("nanon-freed-locked]", "nanon-freed]", "errata", "errata[0]", "did you mean amap_cow_now.nanon-freed-locked"),
    ("amap_cow_now.nanon-freed-locked]", "x]", "errata", "errata[0]", "there is no erratum"),
    ("errata: [", "errata: [S3, ", "errata", "errata[0]", "'S3' is a row with several errata: S3a (amap_cow_now.nanon-freed-locked), S3b"),
    ("errata: [", "errata: [amap_cow_now.nanon-freed-locked, ", "errata", "errata[1]", "named twice"),
    ("errata: [", "errata: [s3a, ", "errata", "errata[1]", "amap_cow_now.nanon-freed-locked is named twice"),
    ("race: off", "races: off", "races", "detect.races", "unknown detector 'races' (did you mean race"),
    ("race: off", "race: false", "race: false", "detect.race", "expected level, found false"),
    ("race: off", "race: maybe", "race: maybe", "detect.race", "unknown level 'maybe'; known: stop, note, off"),
    # the setup
    ("process: {as: A, cpu: 0}", "proces: {as: A, cpu: 0}", "proces:", "setup[0].proces", "did you mean process?"),
    ("process: {as: A, cpu: 0}", "fork: {as: A, cpu: 0}", "fork:", "setup[0].fork", "fork is a step of programs, not of setup"),
    ("process: {as: A, cpu: 0}", "process: {as: A, cpu: 2}", "cpu: 2}", "setup[0].process.cpu", "there is no cpu 2: the machine has 2 (0 to 1)"),
    ("process: {as: A, cpu: 0}", "process: {as: A}", "as: A}", "setup[0].process", "missing key 'cpu'"),
    ("process: {as: A, cpu: 0}", "process: A", "process: A", "setup[0].process", "expected a mapping, found the text 'A'"),
    ("process: {as: A, cpu: 0}", "process", "- process", "setup[0]", "expected a step"),
    ("process: {as: A, cpu: 0}", "{process: {as: A, cpu: 0}, exit: {}}", "exit: {}}", "setup[0]", "expected one step in each list entry, found 2"),
    ("process: {as: A, cpu: 0}", "process: {as: pagedaemon, cpu: 0}", "pagedaemon", "setup[0].process.as", "reserved by uvmp"),
    ("process: {as: A, cpu: 0}", "process: {as: cpu0, cpu: 0}", "cpu0", "setup[0].process.as", "reserved by uvmp"),
    ("process: {as: A, cpu: 0}", "process: {as: A.1, cpu: 0}", "A.1", "setup[0].process.as", "is not a valid name of a process"),
    ("process: {as: B, cpu: 1}", "process: {as: A, cpu: 1}", "as: A, cpu: 1", "setup[3].process.as", "the name A is used twice (first on line 10)"),
    ("as: B2, cpu: 0", "as: A, cpu: 0", "in: B, as: A", "setup[4].thread.as", "used twice"),
    ("thread: {in: B,", "thread: {in: Q,", "in: Q", "setup[4].thread.in", "unknown process 'Q'; names so far: A, B"),
    ("mmap: {in: A, as: buf, pages: 4", "mmap: {in: B, as: buf, pages: 4", "in: B, as: buf", "setup[1].mmap.in", "unknown process 'B'"),
    ("as: buf, pages: 4", "as: buf, pages: 0", "pages: 0", "setup[1].mmap.pages", "0 is out of range: 1 to 4096"),
    ("as: buf, pages: 4", "as: fill, pages: 4", "as: fill", "setup[1].mmap.as", "belongs to the step fill"),
    ("prot: rw,", "prot: wr,", "prot: wr", "setup[1].mmap.prot", "unknown protection 'wr'"),
    ("[private, anon]", "[private]", "[private]", "setup[1].mmap.flags", "missing flag anon"),
    ("[private, anon]", "[anon]", "[anon]", "setup[1].mmap.flags", "one of private and shared"),
    ("[private, anon]", "[private, anon, fixed]", "fixed", "setup[1].mmap.flags[2]", "unknown flag 'fixed'"),
    ('at: "buf[0]", value: 1', 'at: "bufs[0]", value: 1', "bufs", "setup[2].write.at", "region bufs is never mapped (did you mean buf?)"),
    ('at: "buf[0]", value: 1', 'at: "buf[4]", value: 1', "buf[4]", "setup[2].write.at", "page 4 is outside region buf, which has pages 0 to 3"),
    ('at: "buf[0]", value: 1', 'at: "buf[0]+64", value: 1', "+64", "setup[2].write.at", "byte 64 is not a word of a page"),
    ('at: "buf[0]", value: 1', 'at: "buf[0]+4", value: 1', "+4", "setup[2].write.at", "byte 4 is not a word of a page"),
    ('at: "buf[0]", value: 1', 'at: "buf[-1]", value: 1', "buf[-1]", "setup[2].write.at", "is not an address"),
    ('at: "buf[0]", value: 1', 'at: 65536, value: 1', "65536", "setup[2].write.at", 'expected an address as "buf[3]"'),
    ('at: "buf[0]", value: 1', 'at: "buf[0]", value: 0x10000000000000000', "0x1000", "setup[2].write.value", "out of range"),
    ('at: "buf[0]", value: 1', 'at: "buf[0]", value: 1, into: x', "into: x", "setup[2].write.into", "unknown key 'into'"),
    ("until_free: 7", "until_free: 4", "until_free", "setup[5].fill.until_free", "4 is out of range: 5 to 23"),
    ("{in: B, until_free: 7}", "{in: B, until_free: 9}\n  - fill: {in: B, until_free: 7}", "until_free: 7", "setup[6].fill", "filled already"),
    # the programs
    ("programs:\n  A:", "programs:\n  X:", "X:", "programs.X", "unknown process or thread 'X'; the setup has: A, B, B2"),
    ('  B2:\n    - munmap: {at: "fill[1]", pages: 2}\n', "", "  A:\n", "programs", "thread B2 has no program"),
    ("mlock: {at", "mlok: {at", "mlok", "programs.A[0].mlok", "unknown step 'mlok' (did you mean mlock"),
    ("mlock: {at", "process: {at", "process: {at", "programs.A[0].process", "process is a step of setup, not of programs"),
    ('at: "buf[0]", pages: 4, into', 'at: "buf[1]", pages: 4, into', "buf[1]", f"{A0}.at", "pages 1 to 4 is outside region buf"),
    ('at: "buf[0]", pages: 4, into', 'at: "buf[0]+8", pages: 4, into', "buf[0]+8", f"{A0}.at", "whole pages"),
    ('at: "buf[0]", pages: 4, into', 'at: "fill[0]", pages: 4, into', "fill[0]\", pages: 4", f"{A0}.at", "region fill is not mapped here; mapped so far: buf"),
    ('at: "buf[0]", pages: 4, into', 'at: "own[0]", pages: 1, into', "own[0]", f"{A0}.at", "region own is not mapped here"),
    ("into: locked", "into: r0", "into: r0}\n          - fork", "programs.A[1].fork.program[1].read.into", "the result r0 is named twice (first on line 18)"),
    ("into: locked", "inot: locked", "inot", f"{A0}.inot", "unknown key 'inot' (did you mean into?)"),
    ("as: own, pages: 1", "as: buf, pages: 1", "as: buf, pages: 1", "programs.A[1].fork.program[0].mmap.as", "region buf is named twice in C"),
    ("as: E, cpu: 1", "as: D, cpu: 1", "as: D, cpu: 1, program: [{", "programs.B[1].fork.as", "the name D is used twice"),
    ("as: E, cpu: 1", "as: A, cpu: 1", "as: A, cpu: 1", "programs.A[1].fork.program[2].fork.as", "the name A is used twice (first on line 10)"),
    ("as: E, cpu: 1", "as: E, cpu: 9", "cpu: 9", "programs.A[1].fork.program[2].fork.cpu", "there is no cpu 9"),
    ("as: E, cpu: 1, program: []", "as: E, cpu: 1", "as: E", "programs.A[1].fork.program[2].fork", "missing key 'program'"),
    ("          - exit: {}", "          - exit: {}\n          - exit: {}", "          - exit: {}\n    - wait", "programs.A[1].fork.program[4]", "never reached: C exits on line 25"),
    ("          - exit: {}", "          - pause: {}\n          - exit: {}", "          - exit: {}\n    - wait", "programs.A[1].fork.program[4]", "never reached: C pauses on line 25"),
    ("- exit: {}", "- exit: {status: 1}", "status", "programs.A[1].fork.program[3].exit.status", "unknown key 'status'"),
    ("wait: {for: C}", "wait: {for: D}", "for: D", "programs.A[2].wait.for", "D is not a child of A; its children: C"),
    ("wait: {for: C}", "wait: {for: Z}", "for: Z", "programs.A[2].wait.for", "unknown process 'Z'; children of A: C"),
    ("    - mlock:", "    - wait: {for: C}\n    - mlock:", "wait: {for: C}\n    - mlock", "programs.A[0].wait.for", "C is forked only later, on line 20"),
    ("    - barrier: {name: met}\n  B2:", "  B2:", "barrier", "programs.A[3].barrier.name", "only A comes to barrier met"),
    ("    - barrier: {name: met}\n  B:", "    - barrier: {name: met}\n    - barrier: {name: met}\n  B:", "barrier: {name: met}\n  B:", "programs.A[4].barrier.name", "A meets barrier met twice"),
    ("munmap: {at: \"fill[1]\", pages: 2}", "loan: {at: \"fill[1]\", pages: 2, to: disk, as: L}", "to: disk", "programs.B2[0].loan.to", "unknown borrower 'disk'; known: anon, page"),
    ("munmap: {at: \"fill[1]\", pages: 2}", "unloan: {of: L}", "of: L", "programs.B2[0].unloan.of", "no step has `loan: {as: L}`"),
    ("munmap: {at: \"fill[1]\", pages: 2}", "loan: {at: \"fill[1]\", pages: 2, to: page, as: L}\n    - kpeek: {of: L, page: 2}", "page: 2", "programs.B2[1].kpeek.page", "L has 2 pages, the first is 0"),
    ("munmap: {at: \"fill[1]\", pages: 2}", "loan: {at: \"fill[1]\", pages: 2, to: page, as: L}\n    - loan: {at: \"fill[1]\", pages: 2, to: page, as: L}", "loan: {at: \"fill[1]\", pages: 2, to: page, as: L}\nexpect", "programs.B2[1].loan.as", "the loan L is named twice (first on line 33)"),
    ("munmap: {at: \"fill[1]\", pages: 2}", "loan: {at: \"fill[1]\", pages: 2, to: anon, as: L}\n    - map_loan: {of: L, as: new, pages: 3}", "pages: 3", "programs.B2[1].map_loan.pages", "L has 2 pages"),
    # expectation and bound
    ("fixed: {finding: none", "fix: {finding: none", "fix:", "expect.fix", "unknown key 'fix'"),
    ("spin-forever]", "spin]", "spin]", "expect.with_errata.finding.any_of[1]", "unknown kind of finding 'spin' (did you mean"),
    ("function: amap_cow_now", "function: 'amap cow'", "amap cow", "expect.with_errata.function", "is not the name of a function"),
    ("subject: anon", "subject: annon", "annon", "expect.with_errata.subject", "unknown kind of object 'annon' (did you mean anon?)"),
    ("subject: anon", "invariant: PAGE-2", "invariant", "expect.with_errata.invariant", "is only allowed with `finding: invariant`"),
    ("spin-forever]}, function: amap_cow_now", "invariant]}, invariant: PAGE-22", "PAGE-22", "expect.with_errata.invariant", "unknown invariant 'PAGE-22' (did you mean PAGE-2"),
    ("subject: anon", "text: ''", "text", "expect.with_errata.text", "only blanks"),
    ("{finding: none, results", "{finding: none, text: panic, results", "text: panic", "expect.fixed.text", "is not allowed with"),
    ("{finding: none, results", "{finding: none, function: uvm_fault, results", "function: uvm_fault", "expect.fixed.function", "is not allowed with"),
    ("results: {r0: 0", "results: {r9: 0", "r9", "expect.fixed.results.r9", "no step has `into: r9`"),
    ("results: {r0: 0", "results: {r0: ENOSUCH", "ENOSUCH", "expect.fixed.results.r0", "unknown errno or signal 'ENOSUCH'"),
    ("errata: [amap_cow_now.nanon-freed-locked]\n", "", "with_errata", "expect.with_errata", "the scenario names no errata"),
    ("strategy: pct", "strategy: magic", "magic", "bound.strategy", "unknown strategy 'magic'; known: auto, pct, pos, random, rff, surw"),
    ("depth: 3", "depth: 0", "depth: 0", "bound.depth", "0 is out of range: 1 to 16"),
    ("schedules: 2000", "schedules: many", "many", "bound.schedules", "expected a whole number, found the text 'many'"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "needle", "field", "message"), BAD)
def test_bad_input_names_file_line_and_field(old: str, new: str, needle: str, field: str | None, message: str) -> None:
    text = change(old, new)
    with pytest.raises(UserMistake) as caught:
        load_scenario(text, "t.yaml")
    mistake = caught.value
    assert message in mistake.message
    assert (mistake.file, mistake.line, mistake.field or None) == ("t.yaml", line_of(text, needle), field)
    assert mistake.others == (), "one mistake is told once, and not what it causes elsewhere"


def test_all_mistakes_of_a_file_are_told_at_once() -> None:
    """One mistake of each section, and several of the long ones; every one with its line, in their order."""
    text = GOOD
    for old, new in [
        ("id: T1", "id: T.1"),
        ("title: A test\n", "titel: A test\n"),
        ("{cpus: 2, frames: 24,", "{cpus: 199, frames: 1,"),
        ("errata: [", "errata: [nonsense, S3, "),
        ("race: off, lockdebug: note", "race: of, lockdebog: note"),
        ("as: buf, pages: 4", "as: buf, page: 4"),  # with it, buf is lost, and nobody else is told so
        ("fill: {in: B", "fil: {in: B"),
        ("mlock: {at", "mlok: {at"),
        ("as: own, pages: 1", "as: own, pages: no"),
        ("wait: {for: C}", "wait: {for: D}"),
        ("  B2:\n", "    - reed: {}\n    - write: {at: 'nowhere[0]', value: 1}\n  B2:\n"),
        ("d0: {any_of: [1, SIGSEGV]}", "d0: ENOSUCH, e0: 1"),
        ("strategy: pct, depth: 3", "strategy: pkt, depth: 99"),
    ]:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    with pytest.raises(UserMistake) as caught:
        load_scenario(text, "t.yaml")
    told = [(mistake.line, mistake.field) for mistake in (caught.value, *caught.value.others)]
    assert told == [
        (1, "id"),
        (3, "titel"),
        (6, "machine.cpus"),
        (6, "machine.frames"),
        (7, "errata[0]"),
        (7, "errata[1]"),
        (8, "detect.race"),
        (8, "detect.lockdebog"),
        (11, "setup[1].mmap.page"),
        (15, "setup[5].fil"),
        (18, "programs.A[0].mlok"),
        (22, "programs.A[1].fork.program[0].mmap.pages"),
        (26, "programs.A[2].wait.for"),
        (32, "programs.B[3].reed"),
        (33, "programs.B[4].write.at"),
        (38, "expect.fixed.results.d0"),
        (39, "bound.strategy"),
    ]
    assert all(mistake.file == "t.yaml" and mistake.others == () for mistake in caught.value.others)


def test_a_scenario_of_ones_own_needs_four_keys() -> None:
    text = """\
id: own
machine: {cpus: 1, frames: 16, swap_slots: 4}
setup: [{process: {as: A, cpu: 0}}]
programs: {A: [{mmap: {as: a, pages: 1}}, {write: {at: "a[0]", value: 1}}]}
"""
    scene = load_scenario(text, "t.yaml")
    assert (scene.id, scene.name, scene.title, scene.story, scene.source) == ("own", "own", "", "", ())
    assert scene.bound == DEFAULT_BOUND and scene.outcome() is None
    defective = load_scenario(text + "errata: [s3a]\n", "t.yaml")
    assert defective.errata == ("amap_cow_now.nanon-freed-locked",) and defective.outcome() is None
    promised = load_scenario(text + "errata: [s3a]\nexpect: {fixed: {finding: none}}\n", "t.yaml")
    assert promised.outcome() is None and promised.without_errata().outcome() is not None


def test_what_is_shipped_says_all_of_it() -> None:
    """What may be left out of a file of one's own is in every file that comes with uvmp."""
    for path in sorted((CONFIGS / "scenarios").glob("*.yaml")):
        keys = parse(path.read_text(encoding="utf-8"), path.name).items().keys()
        assert {"name", "title", "story", "source", "expect", "bound"} <= keys, path.name


def test_a_machine_that_does_not_exist_is_told_at_its_name() -> None:
    text = change("machine: {cpus: 2, frames: 24, swap_slots: 32, page_size: 64}", "machine: samll")

    def find(name: str) -> tuple[str, str]:
        raise UserMistake(f"there is no machine {name!r} (did you mean small?)")

    for finder in (find, None):
        with pytest.raises(UserMistake, match="no machine 'samll'") as caught:
            load_scenario(text, "t.yaml", finder)
        assert (caught.value.file, caught.value.line, caught.value.field) == ("t.yaml", 6, "machine")


def test_a_mistake_in_a_machine_file_names_that_file() -> None:
    text = change("machine: {cpus: 2, frames: 24, swap_slots: 32, page_size: 64}", "machine: small")
    with pytest.raises(UserMistake) as caught:
        load_scenario(text, "t.yaml", lambda name: ("cpus: 1\nframes: 24\nswop: 3\n", "machines/small.yaml"))
    told = [(mistake.file, mistake.line, mistake.field) for mistake in (caught.value, *caught.value.others)]
    assert told == [("machines/small.yaml", 1, ""), ("machines/small.yaml", 3, "swop")]


def test_a_message_never_carries_more_than_a_glimpse_of_the_input() -> None:
    """A terminal is not the place for a megabyte of somebody's typing error."""
    with pytest.raises(UserMistake) as caught:
        load_scenario(change("strategy: pct", f"strategy: {'x' * 5000}"), "t.yaml")
    assert len(str(caught.value)) < 300


def test_too_many_threads_are_refused() -> None:
    forks = "".join(f"    - fork: {{as: F{i}, program: []}}\n" for i in range(1024))
    with pytest.raises(UserMistake, match="more than 1024 threads"):
        load_scenario(change("  B2:\n", f"  B2:\n{forks}"), "t.yaml")


# -- files and shared memory -----------------------------------------------------------

FILES = """\
id: T2
name: test-two
title: A test
story: A file and a segment.
source: ["nowhere"]
machine: {cpus: 1, frames: 24, swap_slots: 32, disk: 6, disk_errors: [{op: get, block: 5, error: EIO}]}
setup:
  - file: {as: F, pages: 2, words: [7]}
  - file: {as: G, pages: 3}
  - process: {as: A, cpu: 0}
  - mmap: {in: A, as: map, pages: 4, file: G, offset: 1, flags: [private]}
programs:
  A:
    - shm: {as: seg, pages: 2}
    - mmap: {as: both, pages: 2, shm: seg}
    - fwrite: {at: "F[1]+8", value: 3}
    - ftruncate: {file: F, pages: 1}
    - msync: {at: "map[0]", pages: 1, flags: [sync, invalidate]}
    - shm_remove: {shm: seg}
expect:
  fixed: {finding: none}
bound: {strategy: random, schedules: 1}
"""


def test_files_have_the_first_blocks_of_the_disk_in_order() -> None:
    scene = load_scenario(FILES, "t.yaml")
    setup = [step.args.plain() for step in scene.setup]
    assert [(args["as"], args["block"], args["words"]) for args in setup[:2]] == [("F", 0, [7]), ("G", 2, [])]
    assert setup[3] | {"file": 1, "offset": 64, "shared": False} == setup[3]
    steps = {step.op: step.args.plain() for step in scene.lwps[0].program}
    assert steps["mmap"]["shm"] == 0 and steps["mmap"]["shared"]
    assert steps["fwrite"] == {"at": 72, "file": 0, "value": 3}
    assert steps["ftruncate"] == {"file": 0, "size": 64}
    assert scene.segments == ("seg",)


@pytest.mark.parametrize(
    ("old", "new", "needle", "field", "message"),
    [
        (
            "as: G, pages: 3",
            "as: G, pages: 5",
            "pages: 5",
            "setup[1].file.pages",
            "disk has 6 blocks, of which files have 2 already",
        ),
        (
            "disk: 6, disk_errors: [{op: get, block: 5, error: EIO}]",
            "disk: 0",
            "pages: 2, words",
            "setup[0].file.pages",
            "disk has no blocks",
        ),
        ("as: G, pages: 3", "as: F, pages: 3", "as: F, pages: 3", "setup[1].file.as", "F is named twice"),
        ("words: [7]", "words: [7, 8, 9]", "words", "setup[0].file.words", "3 words for 2 pages"),
        ("file: G, offset", "file: H, offset", "file: H", "setup[3].mmap.file", "there is no 'H'; there are: F, G"),
        (
            "flags: [private]",
            "flags: [private, anon]",
            "flags",
            "setup[3].mmap.flags",
            "a mapping of a file is not anon",
        ),
        (
            "file: G, offset: 1, flags: [private]",
            "offset: 1",
            "offset",
            "setup[3].mmap.offset",
            "only a file or a segment has an offset",
        ),
        (
            "shm: seg}\n    - fw",
            "shm: seg, file: F}\n    - fw",
            "shm: seg, file",
            "programs.A[1].mmap.shm",
            "not of both",
        ),
        (
            "shm: seg}\n    - fw",
            "shm: seg, flags: [shared]}\n    - fw",
            "flags: [shared]",
            "programs.A[1].mmap.flags",
            "a segment is always shared",
        ),
        (
            "shm: seg}\n    - fw",
            "shm: segm}\n    - fw",
            "shm: segm",
            "programs.A[1].mmap.shm",
            "there is no 'segm' (did you mean seg?)",
        ),
        ('at: "F[1]+8"', 'at: "E[1]+8"', "E[1]", "programs.A[2].fwrite.at", "there is no file E"),
        (
            'at: "F[1]+8"',
            'at: "F[2]"',
            "F[2]",
            "programs.A[2].fwrite.at",
            "page 2 is outside file F, which has pages 0 to 1",
        ),
        (
            "file: F, pages: 1",
            "file: F, pages: 3",
            "file: F, pages: 3",
            "programs.A[3].ftruncate.pages",
            "3 is out of range: 0 to 2",
        ),
        (
            "flags: [sync, invalidate]",
            "flags: [synk]",
            "synk",
            "programs.A[4].msync.flags[0]",
            "unknown flag 'synk' (did you mean sync?)",
        ),
        ("block: 5", "block: 6", "block: 6", "machine.disk_errors[0].block", "6 is out of range: 0 to 5"),
        (
            "op: get, block: 5",
            "op: get, at: start",
            "at: start",
            "machine.disk_errors[0].at",
            "the kernel waits for a read",
        ),
        ("disk: 6, disk_errors", "disk_errors", "disk_errors", "machine.disk_errors", "the machine has no disk"),
    ],
)
def test_bad_files_and_segments_are_told(old: str, new: str, needle: str, field: str, message: str) -> None:
    assert FILES.count(old) == 1, old
    text = FILES.replace(old, new)
    with pytest.raises(UserMistake) as caught:
        load_scenario(text, "t.yaml")
    mistake = caught.value
    assert message in mistake.message
    assert (mistake.file, mistake.line, mistake.field) == ("t.yaml", line_of(text, needle), field)


# -- what is shipped -----------------------------------------------------------------


def find_machine(name: str) -> tuple[str, str]:
    path = CONFIGS / "machines" / f"{name}.yaml"
    return path.read_text(encoding="utf-8"), str(path)


@pytest.mark.parametrize("path", sorted((CONFIGS / "scenarios").glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_scenarios_load_and_are_called_as_their_files(path: Path) -> None:
    scenario = load_scenario(path.read_text(encoding="utf-8"), str(path), find_machine)
    assert scenario.id == path.stem
    assert scenario.outcome() == scenario.expect.with_errata
