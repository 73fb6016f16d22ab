"""A scenario: a litmus test of the kernel, as data.

    machine   how many CPUs, frames and swap slots
    setup     steps that run once, in order; their operations have no numbers
    programs  one per thread, run concurrently
    expect    what must happen with the scenario's errata, and without them
    bound     the search within which the expectation was confirmed

A process is made by a setup step or by `fork`; it has one thread, of the same
name, and `thread` gives it more. Each thread that has a program is an `Lwp`; a
process without a program keeps its memory to the end of the run. When a program
ends without `exit`, its thread exits.

Files are read by shared/scenario/load.py.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn, TypedDict

from shared.errata import lookup
from shared.errors import UserMistake
from shared.findings import DETECTORS, UNEXPECTED, Finding
from shared.program.functions import Functions
from shared.scenario.machine import MachineConfig
from shared.scenario.steps.step import Args
from shared.scenario.yaml import meant, show

#: every process's address space
VM_MIN_ADDRESS, VM_MAX_ADDRESS = 0x1000, 0x8000_0000
LEVELS = ("stop", "note", "off")
STRATEGIES = ("auto", "pct", "pos", "random", "rff", "surw")


class StepResult(TypedDict):
    """What a step of a program or of an interrupt has answered.

    Attributes:
        step: its place in the program, from 0.
        result: an errno, what was read, or how many there are; text of what has more than one part.
        into: the name that the scenario gives to the result.
    """

    step: int
    op: str
    result: int | str
    into: str | None


#: context -> the results of its steps, as far as it came
Results = Mapping[str, list[StepResult]]


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a setup or program.

    Attributes:
        args: what it does, with all that it needs, resolved: see shared/scenario/steps.
        into: name under which its result is reported, or None.
        line: in the scenario's file.
        text: as it stands there; a fork without its child's program.
    """

    args: Args
    into: str | None
    line: int
    text: str = ""

    @property
    def op(self) -> str:
        """Its name, as `mmap`."""
        return self.args.op

    def plain(self) -> dict[str, object]:
        """As plain data."""
        return {"op": self.op, "args": self.args.plain(), "into": self.into, "line": self.line, "text": self.text}


@dataclass(frozen=True, slots=True)
class Lwp:
    """A thread and its program.

    Attributes:
        name: of the context; for a process's first thread that of the process.
        proc: name of its process.
        forked: it begins with a fork step, not with the run.
    """

    name: str
    proc: str
    cpu: int
    program: tuple[Step, ...]
    forked: bool


@dataclass(frozen=True, slots=True)
class Handler:
    """What the interrupt of a device does.

    Attributes:
        name: of the device, and of the context.
        level: interrupt priority level.
    """

    name: str
    cpu: int
    level: int
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Region:
    """A named range of a process's address space; mapped or not, the name stays."""

    name: str
    proc: str
    start: int
    pages: int


@dataclass(frozen=True, slots=True)
class Expected:
    """What must happen.

    Attributes:
        findings: kinds of which one must be found; empty: none may be.
        functions: kernel functions of which the finding must name one; empty: any.
        subjects: kinds of object of which the finding must name one, as `anon`; empty: any.
        invariants: ids of which one must not hold, if the finding is an invariant; empty: any.
        texts: of which one must be in what the finding says, as a panic's phrase; empty: any.
        results: into-name -> the values it may have.
        never: combinations of results that must not occur together.
    """

    findings: tuple[str, ...] = ()
    functions: tuple[str, ...] = ()
    subjects: tuple[str, ...] = ()
    invariants: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    results: dict[str, tuple[int | str, ...]] = field(default_factory=dict)
    never: tuple[dict[str, int | str], ...] = ()

    def check(self, finding: Finding | None, results: Mapping[str, int | str]) -> str | None:
        """Say in words why this outcome does not hold, or None if it does.

        Args:
            finding: None if the run had none.
            results: into-name -> value, see `named_results`.
        """
        if finding is None:
            if self.findings:
                return f"expected {_or(self.findings)}, found no finding"
        elif not self.findings:
            return f"expected no finding, found {_in_words(finding)}"
        elif finding.kind not in self.findings:
            return f"expected {_or(self.findings)}, found {_in_words(finding)}"
        elif self.functions and finding.function not in self.functions:
            where = finding.function or "no function"
            return f"expected {finding.kind} in {_or(self.functions)}, found it in {where}"
        elif self.subjects and finding.subject.split(":")[0] not in self.subjects:
            what = finding.subject or "nothing"
            return f"expected {finding.kind} of {_or(self.subjects)}, found it of {what}"
        elif self.invariants and finding.kind == "invariant" and finding.text.split(":")[0] not in self.invariants:
            return f"expected invariant {_or(self.invariants)}, found {finding.text}"
        elif self.texts and not any(text in finding.text for text in self.texts):
            return f"expected {finding.kind} with text {_or(map(repr, self.texts))}, found {_in_words(finding)}"
        wrong = self.wrong(results)
        return None if wrong is None else wrong[0]

    def wrong(self, results: Mapping[str, int | str]) -> tuple[str, tuple[str, ...]] | None:
        """Say in words which results are not as expected, and name them; None if all are."""
        for name, allowed in self.results.items():
            if name not in results:
                return f"expected {name} to be {_or(allowed)}; its step was not reached", (name,)
            if results[name] not in allowed:
                return f"expected {name} to be {_or(allowed)}, found {results[name]}", (name,)
        for together in self.never:
            if all(name in results and results[name] == value for name, value in together.items()):
                combination = " and ".join(f"{name} = {value}" for name, value in together.items())
                return f"expected never {combination}", tuple(together)
        return None


def _or(words: Iterable[object]) -> str:
    return " or ".join(str(word) for word in words)


def _in_words(finding: Finding) -> str:
    return f"{finding.kind} ({finding.text})" if finding.text else finding.kind


@dataclass(frozen=True, slots=True)
class Expect:
    """What must happen with the scenario's own errata, and with none; None: the file does not say."""

    with_errata: Expected | None
    fixed: Expected | None


#: operations that an execution may have: so many, and for each step so many, and for each page that it may concern
LIMIT, LIMIT_STEP, LIMIT_PAGE = 20_000, 200, 100


@dataclass(frozen=True, slots=True)
class Bound:
    """How far a scenario is searched.

    Attributes:
        depth: of a bug, as PCT has it (number of ordering constraints).
        schedules: executions.
        operations: after which an execution is ended, if the file says so.
    """

    strategy: str
    depth: int
    schedules: int
    operations: int | None = None


@dataclass(frozen=True, slots=True)
class Scenario:
    """A loaded scenario.

    Attributes:
        errata: switched on in this run; `own_errata`: those its file names.
        detect: detector -> stop, note or off, for every detector; `own_detect`: as its file has it.
        own_kernel_lock: the machine's kernel_lock, as the file has it.
        text: the file's; empty if it was loaded with another machine than it says.
        machine_texts: of each machine that the file calls by its name: name, file, text.
        lwps: in fixed context order: programs as in the file, then children as
            they appear in it.
        procs: names of all processes: those of the setup, then children as they appear.
        handlers: what the devices' interrupts do, in the order of the machine's devices.
        barriers, words, kvars, loans: names, as they appear.
        regions: every named range.
        segments: names of shared memory segments, as they appear.
        file: its name, for messages.
        functions: what runs instead of setup and programs, of a program of one's own (cluster/api.py).
    """

    id: str
    name: str
    title: str
    story: str
    source: tuple[str, ...]
    machine: MachineConfig
    errata: tuple[str, ...]
    detect: dict[str, str]
    setup: tuple[Step, ...]
    lwps: tuple[Lwp, ...]
    handlers: tuple[Handler, ...]
    expect: Expect
    bound: Bound
    file: str
    procs: tuple[str, ...]
    barriers: tuple[str, ...]
    words: tuple[str, ...]
    kvars: tuple[str, ...]
    loans: tuple[str, ...]
    regions: tuple[Region, ...]
    segments: tuple[str, ...]
    own_errata: tuple[str, ...]
    own_detect: dict[str, str]
    own_kernel_lock: str
    text: str = ""
    machine_texts: tuple[tuple[str, str, str], ...] = ()
    functions: Functions | None = None

    def digest(self, **more: object) -> str:
        """8 hex digits over all that decides what an execution does; not over words, lines or `expect`.

        Args:
            more: what else decides, as granularity and the racy set; plain data.
        """
        machine = self.machine.as_dict()
        del machine["colocate"]
        if self.bound.operations is not None:
            more = {**more, "operations": self.bound.operations}
        if self.functions is not None:
            more = {**more, "functions": [*self.functions.references(), self.functions.sum]}
        content = {
            "id": self.id,
            "machine": machine,
            "errata": sorted(self.errata),
            "detect": self.detect,
            "setup": [_essence(step) for step in self.setup],
            "lwps": [[lwp.name, lwp.proc, lwp.cpu, lwp.forked, *map(_essence, lwp.program)] for lwp in self.lwps],
            "handlers": [
                [handler.name, handler.cpu, handler.level, *map(_essence, handler.steps)] for handler in self.handlers
            ],
            "procs": self.procs,
            **more,
        }
        text = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:8]

    @property
    def limit(self) -> int:
        """Operations after which an execution is ended as one without end.

        A function of the scenario alone, so that every engine ends it there. A sensible scenario comes nowhere near:
        a step costs some hundred operations, and under memory pressure some dozen for each frame and page besides.
        """
        if self.bound.operations is not None:
            return self.bound.operations
        size = self.machine.page_size
        steps = (*self.setup, *(step for lwp in self.lwps for step in lwp.program))
        pages: list[int] = [getattr(step.args, "length", 0) // size + self.machine.frames for step in steps]
        return LIMIT + sum(LIMIT_STEP + LIMIT_PAGE * page for page in pages)

    def without_errata(self) -> Scenario:
        """The same on the repaired kernel."""
        return replace(self, errata=())

    def with_errata(self, ids: Iterable[str]) -> Scenario:
        """The same with exactly these errata on.

        Raises: UserMistake - one of them does not exist.
        """
        return replace(self, errata=tuple(dict.fromkeys(lookup(erratum).id for erratum in ids)))

    def with_detect(self, levels: Mapping[str, str]) -> Scenario:
        """The same with some detectors set to another level.

        Raises: UserMistake - no such detector or level.
        """
        for detector, level in levels.items():
            if detector not in DETECTORS:
                unknown("detector", detector, DETECTORS)
            if level not in LEVELS:
                unknown(f"level for detector {detector}", level, LEVELS)
        return replace(self, detect={**self.detect, **levels})

    def with_operations(self, limit: int | None) -> Scenario:
        """The same, ended after so many operations; None: after as many as its size makes sensible."""
        return replace(self, bound=replace(self.bound, operations=limit))

    def with_kernel_lock(self, kind: str) -> Scenario:
        """The same on a machine of that `kernel_lock`, "fine" or "big"."""
        return replace(self, machine=replace(self.machine, kernel_lock=kind))

    def outcome(self) -> Expected | None:
        """What must happen as this run is set up, or None if the file says nothing of it."""
        if not self.errata:
            return self.expect.fixed
        as_told = self.detect == self.own_detect and self.machine.kernel_lock == self.own_kernel_lock
        return self.expect.with_errata if as_told and set(self.errata) == set(self.own_errata) else None

    def unexpected(self, results: Results) -> Finding | None:
        """The finding that a run at rest is if its results are not those that this scenario expects, or None.

        A scenario that expects a finding says nothing of the results of a run without one.

        Args:
            results: of each context, as `run_program` leaves them.
        """
        outcome = self.outcome()
        wrong = None if outcome is None or outcome.findings else outcome.wrong(named_results(results))
        if wrong is None:
            return None
        text, names = wrong
        owners = [ctx for ctx, steps in results.items() for step in steps if step["into"] in names]
        return Finding(UNEXPECTED, text, owners[-1] if owners else "", subject="+".join(names))

    def lwp(self, name: str) -> Lwp:
        """The thread of that name."""
        return next(lwp for lwp in self.lwps if lwp.name == name)

    def place(self, address: int) -> str:
        """An address in the scenario's own words, as `buf[3]+8`, or in hex if it is in no region."""
        size = self.machine.page_size
        for region in self.regions:
            page, byte = divmod(address - region.start, size)
            if 0 <= page < region.pages:
                return f"{region.name}[{page}]+{byte}" if byte else f"{region.name}[{page}]"
        return hex(address)


def _essence(step: Step) -> list[Any]:
    return [step.op, step.args.plain()]


def named_results(results: Mapping[str, Iterable[StepResult]]) -> dict[str, int | str]:
    """Results by into-name, from those of each context as `run_program` leaves them."""
    return {into: step["result"] for steps in results.values() for step in steps if (into := step["into"])}


def unknown(what: str, name: str, known: Iterable[str]) -> NoReturn:
    """Complain about a name that the user gave outside of any file."""
    known = list(known)
    raise UserMistake(f"there is no {what} {show(name)}{meant(name, known)}; known: {', '.join(known) or 'none'}")
