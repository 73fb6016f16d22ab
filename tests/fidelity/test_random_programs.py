"""Random programs against a plain model of what each address space may hold.

A program is generated as the text of a scenario, so whatever fails can be written to
a file and run. Memory is tiny, and a process that only uses it up runs beside: the
pagedaemon and swap are always at work. Two models judge each execution:

    Model           below: of each process by itself, in the order of its program, with the errno or signal that
                    NetBSD's manual pages have for each step, and every byte of memory that is the process's own
    shared/oracle   of all processes and threads, in the order of their accesses: every byte, shared memory too

and when the run has ended the invariants recount what the kernel holds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from cluster.boot import prepare
from cluster.explore import explore
from cluster.sim import Sim
from cluster.strategies import Pct, RandomWalk, Stay, Strategy
from shared.scenario import Scenario, Step, named_results
from shared.scenario_file import load_scenario
from shared.uvm.param import (
    MADV_DONTNEED,
    MADV_FREE,
    MADV_SPACEAVAIL,
    MAP_INHERIT_COPY,
    MAP_INHERIT_NONE,
    MAP_INHERIT_SHARE,
    MS_INVALIDATE,
    VM_PROT_NONE,
    VM_PROT_READ,
    VM_PROT_WRITE,
)

FRAME = """\
id: random
name: random
title: A random program
story: None of its own.
source: ["a test"]
machine: {{cpus: {cpus}, frames: {frames}, swap_slots: 96, disk: 8, mmu: {mmu}}}
setup:
  - file: {{as: F, pages: 4, words: [71, 72, 73, 74]}}
  - process: {{as: A, cpu: 0}}
{threads}
  - mmap: {{in: A, as: buf, pages: 6}}
  - mmap: {{in: A, as: both, pages: 3, flags: [shared, anon]}}
{maps}{before}
  - process: {{as: B, cpu: {last}}}
  - mmap: {{in: B, as: hog, pages: {hog}}}
{fill}
programs:
{programs}
expect:
  fixed: {{finding: none}}
bound: {{strategy: random, schedules: 1}}
"""
HOG, PRESS = 13, 6


# -- generating ------------------------------------------------------------------------


@dataclass
class Names:
    """What has been named so far, in all programs."""

    children: int = 0
    regions: int = 0
    results: int = 0
    value: int = 0

    def into(self) -> str:
        self.results += 1
        return f"r{self.results}"


OPS = (
    ["write"] * 6 + ["read"] * 6 + ["munmap"] * 2 + ["mprotect"] * 2 + ["madvise"] * 2 + ["minherit"] + ["mincore"]
    + ["mlock"] * 2 + ["munlock"] + ["relock"] * 2 + ["fork"] * 2 + ["mmap", "press", "part"]
    + ["msync", "fread", "fwrite"]
)  # fmt: skip


@st.composite
def programs(
    draw: Any,
    names: Names,
    regions: dict[str, int],
    depth: int,
    cpus: int,
    least: int = 8,
    most: int = 24,
    last: bool = True,
) -> list[str]:
    """The steps of one thread; its children's are in them.

    Args:
        regions: name -> pages, of the process that runs it.
        depth: generations that may still come.
        last: nobody waits for it.
    """
    steps: list[str] = []
    locked = ""
    waiting: list[str] = []
    regions = dict(regions)
    for op in draw(st.lists(st.sampled_from(OPS), min_size=least, max_size=most)):
        region = draw(st.sampled_from(sorted(regions)))
        page = draw(st.integers(0, regions[region] - 1))
        pages = draw(st.integers(1, regions[region] - page))
        into = f"into: {names.into()}"
        there = f'at: "{region}[{page}]", pages: {pages}'
        word = f'at: "{region}[{page}]{draw(st.sampled_from(["", "+8"]))}"'
        if op == "write":
            names.value += 1
            steps.append(f"write: {{{word}, value: {names.value}, {into}}}")
        elif op == "read":
            steps.append(f"read: {{{word}, {into}}}")
        elif op == "mprotect":
            steps.append(f"mprotect: {{{there}, prot: {draw(st.sampled_from(['none', 'r', 'rw', 'rw']))}, {into}}}")
        elif op == "minherit":
            how = draw(st.sampled_from(["none", "copy", "share"]))
            steps.append(f"minherit: {{{there}, inherit: {how}, {into}}}")
        elif op == "madvise":
            advice = draw(st.sampled_from(["free", "dontneed", "random", "sequential", "normal", "spaceavail"]))
            steps.append(f"madvise: {{{there}, advice: {advice}, {into}}}")
        elif op == "msync":
            how = draw(st.sampled_from(["sync", "async", "sync, invalidate"]))
            steps.append(f"msync: {{{there}, flags: [{how}], {into}}}")
        elif op in ("fread", "fwrite"):
            names.value += 1
            value = f", value: {names.value}" if op == "fwrite" else ""
            if "sees" in regions:
                steps.append(f'{op}: {{at: "F[{page % 4}]"{value}, {into}}}')
        elif op == "mmap":
            names.regions += 1
            regions[f"m{names.regions}"] = pages
            shared = ", flags: [shared, anon]" if draw(st.booleans()) else ""
            steps.append(f"mmap: {{as: m{names.regions}, pages: {pages}{shared}, {into}}}")
        elif op == "relock":  # what was in swap is not there any more
            rest = f'at: "{region}[{page}]", pages: {regions[region] - page}'
            steps += [f"mlock: {{{rest}, {into}}}", f"munlock: {{{rest}, into: {names.into()}}}"]
        elif op == "part":  # of a region that was used here and there
            names.regions += 1
            name = f"m{names.regions}"
            regions[name] = PRESS
            steps.append(f"mmap: {{as: {name}, pages: {PRESS}, {into}}}")
            for at in sorted(draw(st.sets(st.integers(1, PRESS - 1), min_size=1, max_size=3))):
                names.value += 1
                steps.append(f'write: {{at: "{name}[{at}]", value: {names.value}, into: {names.into()}}}')
            at = draw(st.integers(1, PRESS - 1))
            steps.append(f'munmap: {{at: "{name}[{at}]", pages: {PRESS - at}, into: {names.into()}}}')
        elif op == "press":  # others' pages go to swap, or its own
            names.regions += 1
            name = f"m{names.regions}"
            regions[name] = PRESS
            steps.append(f"mmap: {{as: {name}, pages: {PRESS}, {into}}}")
            for at in range(PRESS):
                names.value += 1
                steps.append(f'write: {{at: "{name}[{at}]", value: {names.value}, into: {names.into()}}}')
        elif op == "fork":
            if not depth or names.children == 3:
                continue
            names.children += 1
            child = f"C{names.children}"
            cpu = draw(st.integers(0, cpus - 1))
            awaited = draw(st.sampled_from(["now", "later", "never"]))
            body = draw(programs(names, regions, depth - 1, cpus, least=2, most=10, last=awaited == "never"))
            inside = ", ".join(f"{{{step}}}" for step in body)
            steps.append(f"fork: {{as: {child}, cpu: {cpu}, {into}, program: [{inside}]}}")
            if awaited == "now":
                steps.append(f"wait: {{for: {child}}}")
            elif awaited == "later":
                waiting.append(child)
        else:
            if op == "munlock" and locked and draw(st.booleans()):
                there = locked
            locked = there if op == "mlock" else locked
            steps.append(f"{op}: {{{there}, {into}}}")
    steps += [f"wait: {{for: {child}}}" for child in waiting]
    if last and draw(st.integers(0, 3)):
        steps.append("pause: {}")  # the recounts at the end see what it has
    return steps


@st.composite
def scenarios(draw: Any, threads: bool = False, files: bool = False) -> Scenario:
    """A machine of one or two CPUs, process B that uses up memory, and random process A (with two threads).

    Args:
        files: A has a file mapped, shared and private, and reads and writes it besides.
    """
    cpus = draw(st.integers(1, 2))
    frames = draw(st.integers(14, 18))
    names, regions = Names(), {"buf": 6, "both": 3}
    maps = ""
    if files:
        regions |= {"sees": 3, "owns": 3}
        maps = "  - mmap: {in: A, as: sees, pages: 3, file: F, flags: [shared], offset: 1}\n"
        maps += "  - mmap: {in: A, as: owns, pages: 3, file: F, flags: [private]}\n"
    body = {"A": draw(programs(names, regions, 2, cpus))}
    if threads:
        body["T"] = draw(programs(names, regions, 1, cpus))
    mmu = draw(st.sampled_from(["{rm: hardware}", "{rm: emulated}", "{page_tables: 512}"]))
    before = draw(st.sets(st.integers(0, 8), min_size=2))  # pages of buf and both that are in swap at the beginning
    first = draw(st.integers(0, HOG - 1))
    body["B"] = [
        f'read: {{at: "hog[{at % HOG}]", into: h{at}}}' if at % 3 else f'write: {{at: "hog[{at % HOG}]", value: {at}}}'
        for at in range(first, first + 2 * HOG)
    ]
    text = FRAME.format(
        cpus=cpus, last=cpus - 1, frames=frames + 12 * ("page" in mmu), hog=HOG, mmu=mmu,
        fill="\n".join(f'  - write: {{in: B, at: "hog[{page}]", value: {800 + page}}}' for page in range(HOG)),
        threads=f"  - thread: {{in: A, as: T, cpu: {cpus - 1}}}" if threads else "",
        maps=maps,
        before="\n".join(
            f'  - write: {{in: A, at: "{f"buf[{page}]" if page < 6 else f"both[{page - 6}]"}", value: {900 + page}}}'
            for page in sorted(before)
        ),
        programs="\n".join(
            f"  {name}:\n" + "\n".join(f"    - {step}" for step in steps) for name, steps in body.items()
        ),
    )  # fmt: skip
    return load_scenario(text, text)


# -- the model -------------------------------------------------------------------------


@dataclass
class Page:
    """A mapped page of one process.

    Attributes:
        words: number of a word -> what it may hold; a word that is not there is 0. None: others may write to it too.
        locked: by mlock.
        touched: it may be in memory.
    """

    prot: int
    inherit: int
    words: dict[int, set[int]] | None = field(default_factory=dict)
    locked: bool = False
    touched: bool = False

    def copy(self) -> Page:
        words = None if self.words is None else {word: set(values) for word, values in self.words.items()}
        return Page(self.prot, self.inherit, words, touched=self.touched)


class Model:
    """One process: its pages, and what each of its steps may answer."""

    def __init__(self, size: int):
        self.size = size
        self.pages: dict[int, Page] = {}

    def fork(self) -> Model:
        child = Model(self.size)
        for vpn, page in self.pages.items():
            if page.inherit == MAP_INHERIT_SHARE:
                page.words = None
            if page.inherit != MAP_INHERIT_NONE:
                child.pages[vpn] = page.copy()
        return child

    def step(self, step: Step, result: Any) -> str | None:
        """Take a step with its result; says what is wrong with that, or None."""
        args = step.args
        if step.op in ("read", "write"):
            return self.access(step.op == "write", args["at"], args.get("value", 0), result)
        if step.op == "fread":
            return None if isinstance(result, int) else f"expected a value, got {result}"
        if step.op not in ("mmap", "munmap", "mprotect", "minherit", "madvise", "mlock", "munlock", "mincore", "msync"):
            return None if result == 0 else f"expected 0, got {result}"
        vpns = range(args["at"] // self.size, (args["at"] + args["length"]) // self.size)
        there = [self.pages[vpn] for vpn in vpns if vpn in self.pages]
        right = getattr(self, step.op)(args, vpns, there, len(there) == len(vpns), result)
        return None if result in right else f"expected {' or '.join(map(str, right))}, got {result}"

    def access(self, write: bool, at: int, value: int, result: Any) -> str | None:
        vpn, byte = divmod(at, self.size)
        page = self.pages.get(vpn)
        if page is None or not page.prot & (VM_PROT_WRITE if write else VM_PROT_READ):
            return None if result == "SIGSEGV" else f"expected SIGSEGV, got {result}"
        page.touched = True
        if write:
            if page.words is not None:
                page.words[byte // 8] = {value}
            return None if result == 0 else f"expected 0, got {result}"
        if page.words is None:
            return None if isinstance(result, int) else f"expected a value, got {result}"
        possible = page.words.get(byte // 8, {0})
        if result not in possible:
            return f"expected {' or '.join(map(str, sorted(possible)))}, got {result}"
        page.words[byte // 8] = {result}
        return None

    def mmap(self, args: dict[str, Any], vpns: range, there: list[Page], whole: bool, result: Any) -> list[Any]:
        inherit = MAP_INHERIT_SHARE if args["shared"] else MAP_INHERIT_COPY
        for vpn in vpns:
            self.pages[vpn] = Page(args["prot"], inherit, None if "file" in args else {})
        return [0]

    def munmap(self, args: dict[str, Any], vpns: range, there: list[Page], whole: bool, result: Any) -> list[Any]:
        for vpn in vpns if whole else ():
            del self.pages[vpn]
        return [0] if whole else ["EINVAL"]

    def mprotect(self, args: dict[str, Any], vpns: range, there: list[Page], whole: bool, result: Any) -> list[Any]:
        for page in there:
            page.prot = args["prot"]
        return [0]

    def minherit(self, args: dict[str, Any], vpns: range, there: list[Page], whole: bool, result: Any) -> list[Any]:
        for page in there:
            page.inherit = args["inherit"]
        return [0]

    def madvise(self, args: dict[str, Any], vpns: range, there: list[Page], whole: bool, result: Any) -> list[Any]:
        advice = args["advice"]
        if advice == MADV_SPACEAVAIL:
            return ["EINVAL"]
        if advice in (MADV_FREE, MADV_DONTNEED) and not whole:
            return ["ENOMEM"]
        for page in there if advice == MADV_FREE else ():
            for values in (page.words or {}).values():
                values.add(0)
        return [0]

    def mlock(self, args: dict[str, Any], vpns: range, there: list[Page], whole: bool, result: Any) -> list[Any]:
        good = whole and all(page.prot != VM_PROT_NONE for page in there)
        for page in there if result == 0 else ():
            page.locked = page.touched = True
        for page in there:
            page.touched = page.touched or good
        return [0 if good else "ENOMEM", "EAGAIN"]

    def munlock(self, args: dict[str, Any], vpns: range, there: list[Page], whole: bool, result: Any) -> list[Any]:
        good = whole and all(page.locked for page in there)
        for page in there if good else ():
            page.locked = False
        return [0 if good else "ENOMEM"]

    def msync(self, args: dict[str, Any], vpns: range, there: list[Page], whole: bool, result: Any) -> list[Any]:
        if not whole:
            return ["ENOMEM"]
        return ["EBUSY" if args["flags"] & MS_INVALIDATE and any(page.locked for page in there) else 0]

    def mincore(self, args: dict[str, Any], vpns: range, there: list[Page], whole: bool, result: Any) -> list[Any]:
        if not whole:
            return ["ENOMEM"]
        must = sum(page.locked << at for at, page in enumerate(there))
        may = sum((page.touched or page.words is None or page.inherit != MAP_INHERIT_COPY) << at
                  for at, page in enumerate(there))  # fmt: skip
        fine = isinstance(result, int) and result & must == must and not result & ~may
        return [result if fine else f"a number with {must:b} and within {may:b}"]


def model_says(scene: Scenario, results: dict[str, list[dict[str, Any]]]) -> str | None:
    """What is wrong with the results of an execution; None: nothing. Of processes with one thread each."""
    models: dict[str, Model] = {}
    for step in scene.setup:
        if step.op == "file":
            continue
        if step.op == "process":
            models[step.args["as"]] = Model(scene.machine.page_size)
        else:
            wrong = models[step.args["in"]].step(step, 0)
            assert wrong is None, wrong
    for lwp in scene.lwps:  # parents come before their children
        done = [step for step in lwp.program if step.op != "pause"]  # which has no result: it does not end
        for step, answer in zip(done, results.get(lwp.name, []), strict=True):
            if step.op == "fork":
                models[step.args["as"]] = models[lwp.name].fork()
            wrong = models[lwp.name].step(step, answer["result"])
            if wrong is not None:
                return f"{lwp.name} {step.op} {step.args} ({step.into}): {wrong}"
    return None


# -- tests ---------------------------------------------------------------------------------


def check(scene: Scenario, strategies: list[tuple[Strategy, int]], model: bool = True) -> None:
    """Run a scenario under each strategy so many times; nothing may be found."""
    machine, image = prepare(scene)
    sim = Sim(machine, image)
    for strategy, times in strategies:
        for number in range(times):
            found = sim.execute(strategy)
            where = f"{type(strategy).__name__}, execution {number + 1}, of\n{scene.file}"
            assert found is None, f"{found}\nin {where}"
            results = {name: one.results for name, one in machine.threads.items() if one.results}
            wrong = model_says(scene, results) if model else None
            assert wrong is None, f"{wrong}\nin {where}"


QUICK = settings(max_examples=25, suppress_health_check=list(HealthCheck))
LONG = settings(
    max_examples=4000, derandomize=False, suppress_health_check=list(HealthCheck), phases=(Phase.generate, Phase.shrink)
)


@QUICK
@given(scenarios())
def test_random_programs(scene: Scenario) -> None:
    check(scene, [(Stay(), 1)])


@QUICK
@given(scenarios(), st.integers(0, 2**16))
def test_random_programs_under_random_schedules(scene: Scenario, seed: int) -> None:
    check(scene, [(RandomWalk(seed), 3), (Pct(seed, 3), 3)])


@QUICK
@given(scenarios(threads=True), st.integers(0, 2**16))
def test_random_programs_of_two_threads(scene: Scenario, seed: int) -> None:
    """Which of two calls of one process comes first is the schedule's affair: only the oracle can tell."""
    check(scene, [(RandomWalk(seed), 3), (Pct(seed, 3), 3)], model=False)


@QUICK
@given(scenarios(files=True), st.integers(0, 2**16))
def test_random_programs_with_a_file(scene: Scenario, seed: int) -> None:
    check(scene, [(Stay(), 1), (RandomWalk(seed), 2), (Pct(seed, 3), 2)])


#: errata that programs and the lack of memory bring out, and in programs of what kind
SHOWN = [
    ("uvm_fault.case2-anon-unlocked", {}),
    ("uvm_fault.anon-freed-with-ref", {"files": True}),
    ("uvm_pageout.paging-after-start", {}),
    ("amap_wiperange.stop-is-no-slot", {}),
    ("amap_ref.whole-taken-for-part", {}),
    ("uvm_fault.wired-anon-stays-clean", {}),
    ("uvmpd_scan.reference-kept", {"threads": True}),
]


@pytest.mark.parametrize(("erratum", "shape"), SHOWN)
def test_a_defective_kernel_fails(erratum: str, shape: dict[str, bool]) -> None:
    """The tests of this module can fail: with this erratum on, one of as many programs does."""
    failed: list[str] = []

    @seed(1)
    @settings(QUICK, phases=(Phase.generate,), database=None)
    @given(scenarios(**shape), st.integers(0, 2**16))
    def check_defective(scene: Scenario, number: int) -> None:
        if failed:
            return
        scene = scene.with_errata([erratum])
        try:
            check(scene, [(Stay(), 1), (RandomWalk(number), 2)], model=not shape.get("threads"))
        except AssertionError as error:
            failed.append(str(error))

    check_defective()
    assert failed


@pytest.mark.long
@LONG
@given(scenarios(files=True), st.integers(0, 2**16))
def test_many_random_programs_with_a_file(scene: Scenario, seed: int) -> None:
    check(scene, [(Stay(), 1), (RandomWalk(seed), 4), (Pct(seed, 3), 4)])


@pytest.mark.long
@LONG
@given(scenarios(), st.integers(0, 2**16))
def test_many_random_programs(scene: Scenario, seed: int) -> None:
    check(scene, [(Stay(), 1), (RandomWalk(seed), 4), (Pct(seed, 3), 4)])


@pytest.mark.long
@LONG
@given(scenarios(threads=True), st.integers(0, 2**16))
def test_many_random_programs_of_two_threads(scene: Scenario, seed: int) -> None:
    check(scene, [(Stay(), 1), (RandomWalk(seed), 4), (Pct(seed, 3), 4)], model=False)


# -- what they have found ------------------------------------------------------------------


def answers(setup: str, program: str) -> dict[str, Any]:
    """Run process A; what each step with `into` answered."""
    text = (
        FRAME.split("setup:", maxsplit=1)[0].format(cpus=1, frames=24, mmu="{rm: hardware}")
        + f"""\
setup:
  - file: {{as: F, pages: 4, words: [71, 72, 73, 74]}}
  - process: {{as: A, cpu: 0}}
{setup}
programs:
  A:
{program}
expect:
  fixed: {{finding: none}}
bound: {{strategy: random, schedules: 1}}
"""
    )
    machine, image = prepare(load_scenario(text, text))
    sim = Sim(machine, image)
    assert sim.execute(Stay()) is None, sim.finding
    return dict(named_results({name: one.results for name, one in machine.threads.items()}))


def test_a_promotion_in_a_shared_amap_leaves_wired_mappings_of_the_object_alone() -> None:
    """A page of a file is mapped twice: locked, and private in an amap shared with a child, which writes to it.

    UVM removes every mapping of the file's page, so that all who share the amap see the copy; the locked one too, and
    munlock panics: "unwiring non-wired memory".
    """
    got = answers(
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
    text = (
        FRAME.split("setup:", maxsplit=1)[0].format(cpus=2, frames=24, mmu="{rm: hardware}")
        + f"""\
setup:
  - file: {{as: F, pages: 1, words: [7]}}
  - process: {{as: A, cpu: 0}}
  - thread: {{in: A, as: T, cpu: 1}}
  - mmap: {{in: A, as: sees, pages: 1, file: F, flags: [shared]}}
programs:
  A:
    - fwrite: {{at: "F[0]", value: 3}}
    - {how.replace("THERE", 'at: "sees[0]", pages: 1')}
    - fread: {{at: "F[0]", into: file}}
  T:
    - read: {{at: "sees[0]", into: map}}
expect:
  fixed: {{finding: none, results: {{file: 3, map: {{any_of: [3, 7]}}}}}}
bound: {{strategy: random, schedules: 1}}
"""
    )
    for strategy in ("random", "pct"):
        result = explore(load_scenario(text, text), strategy=strategy, seed=1, schedules=100)
        assert result.finding is None, result.finding


def test_throwing_out_a_files_page_leaves_wired_mappings_of_it_alone() -> None:
    """The range is private and not locked, but its page is the file's, and locked by another mapping."""
    got = answers(
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
    got = answers(
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
    got = answers(
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
