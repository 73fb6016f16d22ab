"""Search your own Python program: your functions are the threads, over the kernel's structs, locks and channels.

    from cluster.api import Pct, Program, Struct, explore, field, new, own, simplelock

    class Counter(Struct, kind=128):
        guards = {"o": own("lock")}
        lock = simplelock("counter")
        value = field("o")

    COUNTER = Counter.at(0)

    def setup():
        new(Counter).value = 0

    def worker():
        COUNTER.lock.lock()
        value = COUNTER.value
        COUNTER.lock.unlock()
        COUNTER.lock.lock()
        COUNTER.value = value + 1
        COUNTER.lock.unlock()

    def check():
        assert COUNTER.value == 2, "an update is lost"

    print(explore(Program(setup, [worker, worker], check), Pct(depth=2)))

Every access to a field of a struct, every lock operation and every sleep is an operation. Between two operations
another thread may run. Deadlocks, lost wakeups, data races, uses after free, failed assertions and lock-order reversals
are findings; each has a token that `replay` repeats.

Threads must be deterministic: they may depend only on structs, arguments and `choose`. `live` runs a program on real
processes, which import its functions by name. Therefore the functions must be at the top level of a module other than
__main__.

Left out: the kernel itself. A program that needs pages, processes or interrupts is a scenario.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as attribute
from dataclasses import replace as with_changes
from pathlib import Path
from typing import TypeVar

from cluster.runs import replay as engine
from cluster.runs.folder import create, write_sim
from cluster.runs.outcome import Outcome
from cluster.runs.token import parse, refuse_mismatch
from cluster.search import explore as search
from cluster.search.dpor import Optimal
from cluster.search.pct import Pct
from cluster.search.preemptions import Preemptions
from cluster.search.readsfrom import ReadsFrom
from cluster.search.steer import Predict
from cluster.search.strategy import Strategy
from cluster.search.walk import RandomWalk
from shared.errors import UserMistake
from shared.findings import Finding
from shared.journal.deviation import MAX_CHOICES
from shared.port.lockref import LockRef
from shared.port.port import here
from shared.port.struct import Array, Field, Struct, field, link, lockmgr, own, simplelock, stat, union, via
from shared.program.functions import Functions, must_be_importable, register
from shared.scenario.load import MAX_OPERATIONS, load_scenario
from shared.scenario.machine import MAX_CPUS
from shared.scenario.model import Scenario
from shared.scenario.names import is_reserved
from shared.text import clean

__all__ = [
    "Array", "Field", "Finding", "Optimal", "Pct", "Predict", "Preemptions", "Program", "RandomWalk", "ReadsFrom",
    "Report", "Struct", "choose", "explore", "field", "free", "link", "live", "lockmgr", "new", "own", "replay",
    "simplelock", "sleep", "stat", "union", "via", "wakeup",
]  # fmt: skip

S = TypeVar("S", bound=Struct)
Function = Callable[[], None]
LONGEST_NAME = 16


# -- what a program's functions call ------------------------------------------------------


def new(kind: type[S], length: int = 0) -> S:
    """Allocate a struct, whose fields are None; the first of a kind is kind.at(0).

    Args:
        length: elements, of an array.
    """
    return here.port.alloc(kind, length)


def free(struct: Struct) -> None:
    """Free a struct; a later use is a finding (use-after-free)."""
    here.port.free(struct)


def sleep(struct: Struct, wmesg: str, interlock: LockRef | None = None) -> None:
    """Sleep until a thread calls wakeup(struct).

    Args:
        wmesg: what is waited for, for the reports.
        interlock: a lock that is released once the thread is queued, so that no wakeup is lost; it is not taken again.
    """
    here.port.sleep(struct.address, wmesg, interlock)


def wakeup(struct: Struct) -> None:
    """Wake every thread that sleeps on the struct."""
    here.port.wakeup(struct.address)


def choose(n: int, why: str = "") -> int:
    """A choice that the search makes, not the program: whether a write fails, which of n answers a server gives.

    It is searched as the schedule is, and a token repeats it. The default schedule takes 0, and so does a run on real
    processes that follows no token.

    Args:
        n: 1 to MAX_CHOICES alternatives.
        why: what is chosen, for reports: "whether the write fails".

    Returns: 0 to n - 1.
    """
    if not 1 <= n <= MAX_CHOICES:
        caller = sys._getframe(1)
        file, line = caller.f_code.co_filename, caller.f_lineno
        raise UserMistake(f"expected 1 to {MAX_CHOICES:,} choices; found {n}", file=file, line=line)
    return here.port.choose(n, why)


# -- programs -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Program:
    """Threads over structs.

    Attributes:
        setup: makes the structs; runs once, alone.
        threads: what runs concurrently, each on a CPU of its own. A thread is called after its function, the second of
            that name worker2.
        check: asserts what must hold when all threads have ended. It may read structs, and no more.
        detect: detector -> "stop", "note" or "off", where it is not to stop. {"race": "off"} looks for what a race
            leads to.
        operations: after so many, an execution counts as one without end.
    """

    setup: Function
    threads: Sequence[Function]
    check: Function | None = None
    detect: Mapping[str, str] = attribute(default_factory=dict)
    operations: int = 20_000

    def scenario(self) -> Scenario:
        """The program as the engines take it.

        Raises: UserMistake - there is no thread, or more than MAX_CPUS; a function that cannot be called without
            arguments, or whose name no thread can have; a detector that there is not.
        """
        if not 1 <= len(self.threads) <= MAX_CPUS:
            raise UserMistake(f"expected 1 to {MAX_CPUS} threads; found {len(self.threads)}", field="threads")
        if not 1 <= self.operations <= MAX_OPERATIONS:
            raise UserMistake(f"expected 1 to {MAX_OPERATIONS:,}; found {self.operations}", field="operations")
        functions = self._functions()
        names = _names(self.threads)
        quoted = [json.dumps(name) for name in names]  # (a function may be called `on` or `null`)
        lines = [
            f"id: {json.dumps(_id(self.setup))}",
            f"machine: {{cpus: {len(names)}, frames: 8, swap_slots: 0}}",
            "setup:", *(f"  - process: {{as: {name}, cpu: {cpu}}}" for cpu, name in enumerate(quoted)),
            "programs:", *(f"  {name}: []" for name in quoted),
            f"bound: {{schedules: 1000, operations: {self.operations}}}",
        ]  # fmt: skip
        scenario = load_scenario("\n".join(lines) + "\n", f"program {self.setup.__module__}")
        references = register(functions)
        bodies = tuple((name, references[function]) for name, function in zip(names, self.threads, strict=True))
        check = None if self.check is None else references[self.check]
        about = Functions(references[self.setup], bodies, check, _sum(functions), _path(self.setup))
        scenario = with_changes(scenario, functions=about)
        return scenario.with_detect({"invariant": "off", "results": "off", **self.detect})

    def _functions(self) -> list[Function]:
        """All functions. Raises: UserMistake - a value that cannot be called as one."""
        named = {"setup": self.setup} | {f"threads[{at}]": thread for at, thread in enumerate(self.threads)}
        named |= {} if self.check is None else {"check": self.check}
        for field_name, function in named.items():
            if not (inspect.isfunction(function) or inspect.ismethod(function)):
                raise UserMistake(f"expected a function; found {clean(repr(function), 80)}", field=field_name)
            if inspect.isgeneratorfunction(function) or inspect.iscoroutinefunction(function):
                raise _wrong(function, "is a generator or a coroutine: a call would not run its statements")
            try:
                inspect.signature(function).bind()
            except TypeError as wrong:
                raise _wrong(function, f"must be callable without arguments ({wrong})") from None
        return list(named.values())


def _wrong(function: Function, why: str) -> UserMistake:
    """A mistake of one of the program's functions, with its file and line."""
    code = function.__code__
    return UserMistake(f"function {function.__name__} {why}", file=code.co_filename, line=code.co_firstlineno)


def _names(threads: Sequence[Function]) -> list[str]:
    """A name for each thread: its function's, as much of that as a name may have, with a number if it is taken.

    Raises: UserMistake - a part of the machine has that name.
    """
    names: list[str] = []
    for function in threads:
        name = wanted = _identifier(function.__name__)[:LONGEST_NAME]
        number = 1
        while name in names:
            number += 1
            name = f"{wanted[: LONGEST_NAME - len(str(number))]}{number}"
        if is_reserved(name):
            raise _wrong(function, f"cannot be a thread: a part of the machine is called {name}; rename the function")
        names.append(name)
    return names


def _id(setup: Function) -> str:
    """What tokens call a program: the file that its setup stands in."""
    name = Path(inspect.getsourcefile(setup) or "program").stem
    kept = "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in name).strip("-")
    return kept[:32].rstrip("-") or "program"


def _identifier(name: str) -> str:
    """A name as a scenario's: letters, digits and underscores, a letter first; `lambda` for that of a lambda."""
    kept = "".join(letter if letter.isascii() and (letter.isalnum() or letter == "_") else "_" for letter in name)
    kept = kept.strip("_")
    return kept if kept[:1].isalpha() else f"t{kept}"


def _sum(functions: Sequence[Function]) -> str:
    """16 hex digits over the modules that the functions stand in; over their code, where there is no source."""
    total = hashlib.sha256()
    for function in dict.fromkeys(functions):
        try:
            total.update(inspect.getsource(inspect.getmodule(function) or function).encode())
        except (OSError, TypeError):
            total.update(function.__code__.co_code)
    return total.hexdigest()[:16]


def _path(function: Function) -> str:
    """The folder from which a function's module can be imported."""
    module = sys.modules.get(function.__module__)
    file = getattr(module, "__file__", None)
    if not file:
        return ""
    return str(Path(file).resolve().parents[function.__module__.count(".")])


# -- what is done with a program ----------------------------------------------------------------


@dataclass(frozen=True)
class Report:
    """The result of a search of a program.

    Attributes:
        executions: how many were run.
        found_at: number of the execution that had the finding, from 1; 0: none had.
        outcome: that execution, recorded; without a finding the default one.
        exhausted: a systematic strategy (Optimal, ReadsFrom, Preemptions) has seen everything within its bound.
    """

    program: Program
    executions: int
    found_at: int
    outcome: Outcome
    exhausted: bool = False

    @property
    def finding(self) -> Finding | None:
        """The first finding."""
        return self.outcome.finding

    @property
    def token(self) -> str | None:
        """Repeats the finding's execution, with `replay`; of a free run on real processes, a shorter one with the same
        finding."""
        token = self.outcome.token or self.outcome.shortened
        return None if token is None else str(token)

    def save(self, folder: str | Path) -> Path:
        """Keep the recorded execution, for `uvmp postmortem FOLDER`.

        Raises: UserMistake - the folder exists, or cannot be made.
        """
        path = create(folder)
        write_sim(path, self.program.scenario(), self.outcome)
        return path

    def __str__(self) -> str:
        if self.finding is None:
            return f"{'exhausted: ' if self.exhausted else ''}no finding in {self.executions:,} executions"
        lines = [f"{self.finding.kind}: {self.finding.text}"]
        names = {"thread": self.finding.context, "function": self.finding.function, "struct": self.finding.subject}
        lines += [f"  {name:8}  {value}" for name, value in names.items() if value]
        lines += [f"  also      {line}" for line in self.finding.story if line]
        again = "" if self.token is None else f'; to repeat it: replay(program, "{self.token}")'
        return "\n".join([*lines, f"found in execution {self.found_at:,}{again}"])


def explore(program: Program, strategy: Strategy | None = None, executions: int = 1000) -> Report:
    """Run a program under one schedule after another, until one has a finding. The first is the default one.

    Args:
        strategy: what chooses the schedules: any of cluster/search; default: `auto`, in which several take turns.
            For a program without a `check`, ReadsFrom(final=False) has fewer classes to try.
        executions: at most.

    Raises: UserMistake - a function fails otherwise than by an assertion; names its file and line.
    """
    scenario = program.scenario()
    exploration = search.explore(scenario, strategy, schedules=executions)
    outcome = engine.replay(scenario, []) if exploration.outcome is None else exploration.outcome
    exhausted = exploration.coverage is not None and exploration.coverage.exhausted
    return Report(program, exploration.schedules, exploration.found_at, outcome, exhausted)


def replay(program: Program, token: str) -> Report:
    """Repeat the execution of a token.

    Raises: UserMistake - the token is of another program, or of other source; Diverged.
    """
    scenario, schedule = program.scenario(), parse(token)
    refuse_mismatch(schedule, scenario)
    outcome = engine.replay(scenario, list(schedule.deviations))
    outcome.token = schedule
    return Report(program, 1, int(outcome.finding is not None), outcome)


def live(program: Program, token: str | None = None, seed: int = 0) -> Report:
    """Run a program once on real processes: freely, or following a token's schedule.

    Args:
        seed: of each processor's choices among its threads.

    Raises: UserMistake - a function is not at the top level of a module that other processes can import, or is one of
        __main__; the token is of another program, or of other source; Diverged; Infrastructure.
    """
    from cluster.live.actors import ray_session
    from cluster.live.machine import LiveMachine
    from cluster.runs.parity import token_of_live

    scenario = program.scenario()
    must_be_importable(program._functions())
    wanted = None if token is None else replay(program, token).outcome
    with ray_session() as ray:
        machine = LiveMachine(ray, scenario, transport="sockets")  # (its journals are not replayed)
        try:
            run = machine.run(follow=None if wanted is None else wanted.journals, seed=seed)
        finally:
            machine.close()
    if wanted is None:
        run.shortened = token_of_live(scenario, run)
    else:
        run.token = wanted.token
    return Report(program, 1, int(run.finding is not None), run)
