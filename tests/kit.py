"""What several tests need: scenarios, tiny kernels, strategies that do as they are told, the command."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from click.testing import CliRunner, Result

from cluster.boot import prepare
from cluster.cli import cli
from cluster.machine import Machine
from cluster.runs.outcome import Outcome
from cluster.runs.replay import recorded
from cluster.search.explore import Exploration, explore
from cluster.search.strategy import Sampling, SearchOver, Stay, Strategy, default
from cluster.search.touch import Location
from cluster.search.walk import RandomWalk
from cluster.sim.engine import Sim
from nodes.cpu import Processor, Thread
from shared.findings import Finding
from shared.journal.order import events_after
from shared.journal.record import Journals
from shared.patch import SEAMS, current
from shared.port.port import Port, here
from shared.port.struct import Field, Struct, field, link, lockmgr, own, simplelock, stat
from shared.scenario.load import load_scenario
from shared.scenario.model import Scenario, named_results
from shared.wire.codec import Form

#: plain data as a message
PLAIN: Form[Any] = Form("plain", 1 << 26)
#: what the steps with `into` answered, by name
Results = dict[str, Any]
CONFIGS = Path(__file__).parents[1] / "configs"
SHIPPED = sorted(path.stem for path in (CONFIGS / "scenarios").glob("*.yaml"))


def scenario(name: str, **changes: str) -> Scenario:
    """A shipped scenario by its id.

    Args:
        changes: key of the machine -> what stands there instead, as YAML; as `shards="{memory: 2}"`.
    """
    path = CONFIGS / "scenarios" / f"{name}.yaml"
    return _loaded(with_machine(path.read_text(encoding="utf-8"), **changes), str(path))


@cache
def _loaded(text: str, file: str) -> Scenario:
    """Nothing changes a scenario, so that all tests of it may have the same."""
    return load_scenario(text, file)


def with_machine(text: str, **changes: str) -> str:
    """A scenario's text with other keys of its machine; see scenario()."""
    if not changes:
        return text
    head, machine, rest = _around_machine(text)
    kept = [part for part in machine if part.split(":")[0].strip() not in changes]
    return f"{head}machine: {{{', '.join([*kept, *(f'{key}: {value}' for key, value in changes.items())])}}}\n{rest}"


def _around_machine(text: str) -> tuple[str, list[str], str]:
    start = text.index("machine: {")
    end = text.index("\n", start)
    inside = text[start + len("machine: {") : text.rindex("}", start, end)]
    parts, depth = [""], 0
    for letter in inside:
        depth += (letter in "{[") - (letter in "}]")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return text[:start], [part.strip() for part in parts], text[end + 1 :]


def scene(
    programs: Mapping[str, str],
    setup: str = "process: {as: A, cpu: 0}",
    machine: str = "cpus: 2, frames: 24, swap_slots: 16, page_size: 64",
    expect: str = "fixed: {finding: none}",
    more: str = "",
    bound: str = "strategy: random, schedules: 1",
) -> Scenario:
    """A scenario that is made for a test.

    Args:
        programs: process or thread -> its steps, each a line, with or without a dash.
        setup: steps, in the same way.
        machine, expect, bound: the inside of their keys, in one line.
        more: further keys of the file: errata, detect, interrupts.
    """
    text = "".join(f"  {name}:{_steps(steps, 4)}" for name, steps in programs.items())
    return load_scenario(
        f"""\
id: made
name: made
title: Made for a test
story: None of its own.
source: ["a test"]
machine: {{{machine}}}
{more}
setup:{_steps(setup, 2)}programs:
{text}expect: {{{expect}}}
bound: {{{bound}}}
""",
        "made.yaml",
    )


def _steps(text: str, indent: int) -> str:
    lines = [line.strip().removeprefix("- ") for line in text.splitlines()]
    return "".join(["\n", *(f"{' ' * indent}- {line}\n" for line in lines if line)]) if any(lines) else " []\n"


def empty(machine: str = "cpus: 3, frames: 8, swap_slots: 0") -> Scenario:
    """A scenario without any step."""
    return scene({"unused": ""}, "process: {as: unused, cpu: 0}", machine)


def answers(scene: Scenario, *searches: tuple[Strategy, int], record: bool = False) -> Iterator[tuple[Results, Sim]]:
    """What the steps with `into` answered in each execution, and the engine as it left it; none may have a finding.

    Args:
        searches: strategies, each with its number of executions.
    """
    machine, image = prepare(scene)
    sim = Sim(machine, image)
    for strategy, schedules in searches:
        for _ in range(schedules):
            finding = sim.execute(strategy, record)
            assert finding is None, finding
            yield named_results({name: thread.results for name, thread in machine.threads.items()}), sim


@cache
def searched(name: str) -> Exploration:
    """What the search of a shipped scenario finds, with its errata and from seed 0; several tests look at it."""
    return explore(scenario(name))


def run_recorded(scene: Scenario, strategy: Strategy, granularity: str = "guarded") -> Outcome:
    """One execution from boot, with journals."""
    machine, image = prepare(scene)
    sim = Sim(machine, image, granularity=granularity)
    sim.execute(strategy, record=True)
    return recorded(sim, [])


@contextmanager
def replaced(name: str, function: Callable[..., Any]) -> Iterator[Callable[..., Any]]:
    """With another function in place of one, as a patch has it (shared/patch.py): in both forms, for all callers.

    Args:
        name: of a kernel function, or of an operation, as "Mmu.op_pmap_enter".

    Yields: the function that was there.
    """
    before = SEAMS[name](function)
    try:
        yield before
    finally:
        SEAMS[name](before)


def went_on_before_an_interrupt(journals: Journals) -> bool:
    """Did a context that had waited run on, without an operation, before an interrupt was taken over it?

    The order of operations does not say so; only the kernel events in between do.
    """
    operations = {
        (record["cpu"], record["k"]): record for records in journals.values() for record in records if "k" in record
    }
    events = events_after(journals)
    return any(
        operation["event"] == "intr" and "wait" in operations.get((cpu, k - 1), {}) and events[cpu][k - 1] > 0
        for (cpu, k), operation in operations.items()
    )


def uvmp(*words: object) -> Result:
    """The command, in this process; whatever it did, it left no patch in the kernel."""
    result = CliRunner().invoke(cli, [str(word) for word in words], prog_name="uvmp")
    assert current() is None
    return result


# -- tiny kernels --------------------------------------------------------------------

Body = Callable[[], None]


class PartOfPort(Port):
    """A port of which a test supplies only what it uses: compiled code wants a real one."""

    def __init__(self) -> None:
        super().__init__(frozenset(), {}, page_size=64)


PartOfPort.__abstractmethods__ = frozenset()


class Toy:
    """A machine that runs hand-made contexts instead of a scenario's programs.

    Args:
        setup: runs once on cpu0, before anything is numbered.
        bodies: context -> (its CPU, what it runs).
        detect: levels that differ from `stop`.
        shards: of lock_manager and memory.
        mmu, kernel_lock: of the machine, as YAML.

    Attributes:
        sim: as the last run left it.
    """

    def __init__(
        self,
        setup: Body,
        bodies: dict[str, tuple[int, Body]],
        detect: dict[str, str] | None = None,
        shards: int = 1,
        mmu: str = "{}",
        kernel_lock: str = "fine",
    ):
        made = empty(
            f"cpus: 3, frames: 8, swap_slots: 0, mmu: {mmu}, kernel_lock: {kernel_lock},"
            f" shards: {{lock_manager: {shards}, memory: {shards}}}"
        )
        self.scenario = made.with_detect({"invariant": "off", **(detect or {})})
        booter = Thread("boot", "cpu0", setup)
        boot = Machine(made, {"boot": booter})
        finding = Sim(boot, None).execute(Stay())  # judges nothing
        assert finding is None, finding
        self.image = boot.image()
        threads = {name: Thread(name, f"cpu{cpu}", body) for name, (cpu, body) in bodies.items()}
        for order, thread in enumerate(threads.values()):
            thread.order = order
        self.machine = Machine(self.scenario, threads)
        self.racy: set[str] = set()
        self.sim = Sim(self.machine, self.image, self.racy)

    def run(self, strategy: Strategy | None = None, record: bool = False, **options: Any) -> Finding | None:
        """One execution; a new engine if there are options for one."""
        if options:
            self.sim = Sim(self.machine, self.image, self.racy, **options)
        return self.sim.execute(strategy or Stay(), record=record)

    def search(self, schedules: int = 200, seed: int = 0) -> Finding | None:
        """The first finding of a random walk."""
        walk = RandomWalk(seed)
        return next((finding for finding in (self.run(walk) for _ in range(schedules)) if finding is not None), None)

    def every(self) -> Iterator[Finding | None]:
        """The findings of all executions there are."""
        self.run()  # so that the racy fields are known, and every execution has the same scheduling points
        yield from executions(self.sim, Exhaust())


# -- strategies ----------------------------------------------------------------------


def executions(sim: Sim, strategy: Strategy, record: bool = False) -> Iterator[Finding | None]:
    """The findings of one execution after another, until the strategy has none left to try."""
    with suppress(SearchOver):
        while True:
            yield sim.execute(strategy, record)


class Script(Strategy):
    """Goes on with the contexts named, one at each scheduling point that leaves a choice; then the default."""

    def __init__(self, *names: str):
        self.names = names

    def new_execution(self) -> bool:
        self.left = list(self.names)
        self.last = -1
        return True

    def pick(self, enabled: Sequence[Thread], current: Thread | None) -> Thread:
        picked = default(enabled, current, self.last)
        if self.left and len(enabled) > 1:
            wanted = self.left.pop(0)
            picked = next(thread for thread in enabled if thread.name == wanted)
        self.last = picked.order
        return picked

    def choose(self, n: int) -> int:
        return 0


class Exhaust(Strategy):
    """Depth-first through every schedule there is; then the search is over.

    Args:
        matters: does it make a difference when this context continues? Those of which it does are tried in every order,
            before the others.

    Attributes:
        path: at each choice of this execution the number taken, and how many there are. Invariant: from one execution
            to the next it grows in lexical order, so that none comes twice.
        at: choices taken so far.
    """

    def __init__(self, matters: Callable[[Thread], bool] = lambda thread: True):
        self.matters = matters
        self.path: list[tuple[int, int]] = []
        self.executions = 0

    def new_execution(self) -> bool:
        if self.executions and not self._advance():
            return False
        self.executions += 1
        self.at = 0
        self.last = -1
        return True

    def pick(self, enabled: Sequence[Thread], current: Thread | None) -> Thread:
        able = [thread for thread in enabled if self.matters(thread)]
        if len(able) < 2:
            picked = able[0] if able else default(enabled, current, self.last)
        else:
            picked = able[self.choose(len(able))]
        self.last = picked.order
        return picked

    def choose(self, n: int) -> int:
        if self.at == len(self.path):
            self.path.append((0, n))
        assert self.path[self.at][1] == n, "the same choices lead to the same choices"
        self.at += 1
        return self.path[self.at - 1][0]

    def _advance(self) -> bool:
        """On to the next path; False: there is none."""
        while self.path and self.path[-1][0] + 1 == self.path[-1][1]:
            self.path.pop()
        if not self.path:
            return False
        taken, width = self.path.pop()
        self.path.append((taken + 1, width))
        return True


# -- structs for tiny kernels -----------------------------------------------------------


class Thing(Struct, kind=200):
    """A field of every sort, guarded by a simple lock of class `thing`."""

    guards = {"o": own("lk")}
    lk = simplelock("thing")
    v: Field[int] = field("o")
    w: Field[int] = field("o")
    h: Field[int] = field("o", hint=True)
    next: Field[Any] = link("o")
    c: Field[int] = field("const")
    count = stat()


class Other(Struct, kind=201):
    """Guarded by a simple lock of class `other`."""

    guards = {"o": own("lk")}
    lk = simplelock("other")
    v: Field[int] = field("o")


class Big(Struct, kind=202):
    """Guarded by a sleepable lock of class `big`."""

    guards = {"m": own("lk")}
    lk = lockmgr("big")
    v: Field[int] = field("m")


THING, THING1, OTHER, BIG = Thing.at(0), Thing.at(1), Other.at(0), Big.at(0)


def make_structs() -> None:
    """Setup that makes THING, THING1, OTHER and BIG; their numbers are 0."""
    for struct in (THING, THING1, OTHER, BIG):
        made = here.port.alloc(type(struct))
        assert made == struct
        for name, each in type(made).fields.items():
            if name != "next" and each.mode != "stat":
                setattr(made, name, 0)


def threads(count: int) -> list[Thread]:
    """Contexts of one processor, for a strategy to choose from."""
    made = [Thread(f"T{number}", "cpu0", lambda: None) for number in range(count)]
    Processor("cpu0", made)
    for order, thread in enumerate(made):
        thread.order = order
    return made


# -- a sampling strategy without an engine

Taught = TypeVar("Taught", bound=Sampling)


def asking(name: str, function: str, code: str, place: Location) -> Thread:
    """A context in a kernel function that is about to perform an operation on a location."""
    thread = Thread(name, "cpu0", lambda: None)
    Processor("cpu0", [thread])
    thread.reset()
    thread.parked = False
    thread.stack.append(function)
    field = code in ("load", "store")
    thread.asks = (code, 7, (None, "f", place >> 48, 0)) if field else (code, place >> 4, ())
    return thread


def execution(strategy: Strategy, *threads: Thread) -> None:
    """The strategy is asked about these operations, one after another."""
    for thread in threads:
        assert strategy.pick([thread], thread) is thread


def learned(strategy: Taught) -> Taught:
    """It has learned of its last execution."""
    strategy.learn(strategy.lesson())
    return strategy
