"""A scenario's file: one YAML file says everything; this is its strict loader.

What the parts mean is said in shared/scenario.py.

Addresses are chosen here: every region of a scenario has a range of its own,
the first at 0x10000, at least one unmapped page from the next, so an address
in a journal names its region. They are written

    buf[3]       the first byte of page 3 of region `buf`
    buf[3]+8     the 64-bit word at byte 8 of that page (read and write only)

What a step does, and the keys it takes, is in shared/steps.py.

What must be found is said in `expect`, once for the scenario's errata and once without them:

    with_errata: {finding: invariant, subject: page, invariant: PAGE-2}
    fixed: {finding: none, results: {r0: 1}}

`finding` is its kind, `function` and `subject` what it names (the kernel's function, the kind of
object); `invariant` is the id of the one that does not hold, as shared/invariants has it;
`text` is a part of what the finding says, as a panic's phrase. Each of them may be {any_of: [...]}.

A file of one's own needs `id`, `machine`, `setup` and `programs`. Without `expect` nothing
is promised, and `--expect` is refused; without `bound` a search has DEFAULT_BOUND.

Rules for this file: nothing is guessed and nothing ignored. Whatever is wrong
raises UserMistake with file, line and field before anything starts: all mistakes
of a file at once, without those that another one causes. Only text comes in; who
calls opens the files.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from shared.errata import lookup
from shared.errors import UserMistake, together
from shared.findings import DETECTORS, FINDINGS, UNEXPECTED
from shared.invariants import INVARIANTS, NODE_INVARIANTS
from shared.machine_config import LEVELS as INTERRUPT_LEVELS
from shared.machine_config import (
    MAX_CPUS,
    MAX_FRAMES,
    MAX_SWAP,
    MAX_SWAP_DEVICES,
    KernelMaps,
    MachineConfig,
    SwapDevice,
    load_machine,
    machine_of,
)
from shared.messages import OPERATIONS
from shared.scenario import (
    KERNEL_STEPS,
    LEVELS,
    STRATEGIES,
    VM_MAX_ADDRESS,
    Bound,
    Expect,
    Handler,
    Lwp,
    Outcome,
    Region,
    Scenario,
    Step,
)
from shared.steps import (
    ADVICE,
    COUNTERS,
    INHERITANCES,
    INTERRUPT_STEPS,
    LOANS,
    OBJECT_STEPS,
    PROGRAM_STEPS,
    PROTECTIONS,
    SETUP_STEPS,
    SYNCING,
)
from shared.strict_yaml import Reading, Unresolved, Value, close_to, meant, parse, show
from shared.struct import KINDS
from shared.uvm import structs
from shared.uvm.param import (
    ERRNO_NAMES,
)

FIRST_ADDRESS = 0x10000
REGION_ALIGN = 0x1000
WORD = 8
MAX_LWPS, MAX_REGION_PAGES = 64, 4096
#: how far a scenario is searched that says nothing of it
DEFAULT_BOUND = Bound("pct", 3, 2000)
SIGNALS = ("SIGSEGV", "SIGBUS")
RESERVED = (
    "boot", "clock", "devices", "disk", "disk_io", "io", "lock_manager", "memory", "mmu", "pagedaemon", "swap",
    "swap_io", "swap_pager", "user",
)  # fmt: skip
EXPECTABLE = tuple(kind for kind in FINDINGS if kind != UNEXPECTED)
#: invariants that an expectation may name
INVARIANT_IDS = (*INVARIANTS, *NODE_INVARIANTS)
#: what a finding can be about: structs, as `anon`, in the words of their handles, and nodes that serve
OBJECTS = (
    *(kind.kind_name for kind in KINDS.values() if kind.__module__ == structs.__name__),
    *dict.fromkeys(op.node for op in OPERATIONS.values()),
)

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,31}")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,15}")
_CPU_NAME = re.compile(r"cpu[0-9]*|intr[0-9]*")
_FUNCTION = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_ADDRESS = re.compile(r"(?P<region>[A-Za-z][A-Za-z0-9_]*)\[(?P<page>[0-9]{1,6})\](?:\+(?P<byte>[0-9]{1,6}))?")

FindMachine = Callable[[str], tuple[str, str]]
#: stands in for a machine that is wrong, so that the rest of the file can be read: as large as one can be
ANY_MACHINE = MachineConfig(
    cpus=MAX_CPUS, frames=MAX_FRAMES, swap_slots=MAX_SWAP, page_size=4096, disk=MAX_SWAP,
    swap_devices=(SwapDevice(1),) * MAX_SWAP_DEVICES, kernel=KernelMaps(*[MAX_FRAMES] * 4),
)  # fmt: skip
#: keys whose values are names that a step makes
MAKES, ANY_NAME = ("as", "into", "name"), "*"
STEP_KEYS = {key for steps in (SETUP_STEPS, PROGRAM_STEPS) for keys in steps.values() for part in keys for key in part}


def load_scenario(
    text: str, file: str, find_machine: FindMachine | None = None, machine: MachineConfig | None = None
) -> Scenario:
    """Load a scenario.

    Args:
        file: its name, for messages.
        find_machine: gives text and file name of a machine called by its name.
        machine: to be used instead of the scenario's own.

    Raises: UserMistake - something is wrong with it; says where, of all that is wrong (`others`).
    """
    texts: dict[str, tuple[str, str, str]] = {}

    def find(name: str) -> tuple[str, str]:
        assert find_machine is not None
        found = find_machine(name)
        texts[name] = name, found[1], found[0]
        return found

    loaded = _Loader(parse(text, file), file, find if find_machine is not None else None, machine).load()
    return loaded if machine is not None else replace(loaded, text=text, machine_texts=tuple(texts.values()))


@dataclass(slots=True)
class _Proc:
    name: str
    cpu: int
    line: int
    parent: _Proc | None = None
    forker: str = ""
    regions: dict[str, Region] = field(default_factory=dict)
    threads: list[_Thread] = field(default_factory=list)


@dataclass(slots=True)
class _Thread:
    name: str
    proc: _Proc
    cpu: int
    forked: bool
    steps: list[_Raw] | None = None
    program: tuple[Step, ...] = ()

    def mapped(self) -> dict[str, Region]:
        """The regions that this thread's program maps."""
        return {raw.region.name: raw.region for raw in self.steps or () if raw.region is not None}


@dataclass(slots=True)
class _Raw:
    """A step of a program after the first pass: names declared, nothing resolved."""

    op: str
    line: int
    keys: dict[str, Value]
    into: str | None
    text: str
    region: Region | None = None
    child: _Thread | None = None


class _Loader(Reading):
    """Two passes over the programs: the first declares names, the second resolves them."""

    def __init__(self, root: Value, file: str, find_machine: FindMachine | None, machine: MachineConfig | None):
        super().__init__()
        self.root, self.file, self.find_machine, self.given = root, file, find_machine, machine
        self.procs: dict[str, _Proc] = {}
        self.threads: dict[str, _Thread] = {}
        self.names: dict[str, int] = {}  # contexts and processes -> line
        self.intos: dict[str, int] = {}
        self.barriers: dict[str, list[tuple[str, Value]]] = {}
        self.words: dict[str, int] = {}  # word -> its number
        self.kvars: dict[str, tuple[str, int]] = {}  # variable of the kernel -> map, pages
        self.loans: dict[str, tuple[int, int]] = {}  # loan -> its pages, and its line
        self.regions: list[Region] = []
        self.files: dict[str, Region] = {}  # in order of their numbers; from offset 0
        self.segments: dict[str, Region] = {}  # likewise
        self.children: list[_Thread] = []
        self.lost: set[str] = set()  # names that a step with a mistake would have made

    def load(self) -> Scenario:
        required = ("id", "machine", "setup", "programs")
        optional = ("name", "title", "story", "source", "errata", "detect", "interrupts", "expect", "bound")
        keys = self.root.items()
        self.mistakes += self.root.wrong_keys(required, optional)
        ident = self.section(keys, "id", self.ident, "")
        name = self.section(keys, "name", self.ident, ident)
        title = self.section(keys, "title", lambda one: one.text("a title"), "")
        story = self.section(keys, "story", lambda one: one.text("a story").strip(), "")
        source = self.section(keys, "source", self.sources, ())
        interrupts = self.section(keys, "interrupts", lambda one: one.items(), {})
        self.machine = self.given or self.section(keys, "machine", self.load_machine, self.any_machine(interrupts))
        errata = self.section(keys, "errata", self.errata, ())
        detect = self.section(keys, "detect", self.detect, dict.fromkeys(DETECTORS, "stop"))
        setup = self.section(keys, "setup", self.setup, ())
        self.handled = set(interrupts)
        read = self.each(interrupts, lambda name: (name, self.interrupt(keys["interrupts"], name, interrupts[name])))
        raws = dict(read)
        starters = self.section(keys, "programs", self.programs, [])
        for thread in (*starters, *self.children):
            thread.program = self.resolve(thread)
        handlers = [
            Handler(name, raws[name][0], INTERRUPT_LEVELS[level], self.each(raws[name][1], self.kernel_step))
            for name, level in self.machine.devices
            if name in raws
        ]
        self.check_barriers()
        lwps = [Lwp(one.name, one.proc.name, one.cpu, one.program, one.forked) for one in (*starters, *self.children)]
        expect = self.section(keys, "expect", lambda one: self.expect(one, "errata" in keys), Expect(None, None))
        bound = self.section(keys, "bound", self.bound, DEFAULT_BOUND)
        self.complain()
        return Scenario(
            id=ident,
            name=name,
            title=title,
            story=story,
            source=source,
            machine=self.machine,
            errata=errata,
            detect=detect,
            setup=setup,
            lwps=tuple(lwps),
            handlers=tuple(handlers),
            expect=expect,
            bound=bound,
            file=self.file,
            procs=tuple(self.procs),
            barriers=tuple(self.barriers),
            words=tuple(self.words),
            kvars=tuple(self.kvars),
            loans=tuple(self.loans),
            regions=tuple(self.regions),
            segments=tuple(self.segments),
            own_errata=errata,
            own_detect=detect,
            own_kernel_lock=self.machine.kernel_lock,
        )

    # -- mistakes ----------------------------------------------------------------

    def lose(self, value: Value, mistake: UserMistake) -> None:
        """Whatever name is made in there: that it is missing elsewhere is no mistake of its own."""
        if value.field.split(".")[0].split("[")[0] not in ("setup", "programs", "interrupts"):
            return
        made = mistake.field and mistake.field.rpartition(".")[2] in MAKES
        if made or not (isinstance(value.data, (dict, list)) and self.lose_names(value)):
            self.lost.add(ANY_NAME)

    def lose_names(self, value: Value) -> bool:
        """Returns False if a step has not even the form of a step."""
        if isinstance(value.data, list):
            return all(self.lose_names(one) for one in value.data)
        if not isinstance(value.data, dict):
            return False
        for key, one in value.data.items():
            if isinstance(one.data, str) and (key in MAKES or (key not in STEP_KEYS and close_to(key, MAKES))):
                self.lost.add(one.data)
            elif isinstance(one.data, (dict, list)):
                self.lose_names(one)
            elif key in SETUP_STEPS or key in PROGRAM_STEPS:
                return False
            if close_to(key, ("fill",)):
                self.lost.add("fill")
        return True

    def complain(self) -> None:
        """Raise what was taken note of, if anything was, but for what another mistake has caused."""
        whole = {"setup", "programs"} <= self.root.items().keys() and ANY_NAME not in self.lost
        told = [
            one
            for mistake in self.mistakes
            for one in (mistake, *mistake.others)
            if not (isinstance(one, Unresolved) and (one.name in self.lost or not whole))
        ]
        if self.mistakes:
            raise together(told or self.mistakes)

    # -- the parts -------------------------------------------------------------

    @staticmethod
    def ident(value: Value) -> str:
        what = value.field
        ident = value.text(f"{'an' if what == 'id' else 'a'} {what}")
        if not _ID.fullmatch(ident):
            value.fail(f"{show(ident)} is no {what}: up to 32 letters, digits and hyphens")
        return ident

    @staticmethod
    def sources(value: Value) -> tuple[str, ...]:
        return tuple(one.text("a source") for one in value.elements(at_least=1))

    @staticmethod
    def any_machine(interrupts: Iterable[str]) -> MachineConfig:
        """Instead of a machine that is wrong."""
        return replace(ANY_MACHINE, devices=tuple((name, "imp") for name in interrupts))

    def load_machine(self, value: Value) -> MachineConfig:
        if not isinstance(value.data, str):
            if not isinstance(value.data, dict):
                value.wanted("a machine, or the name of one")
            return machine_of(value)
        if self.find_machine is None:
            value.fail(f"there is no machine {show(value.data)}")
        try:
            text, file = self.find_machine(value.data)
        except UserMistake as mistake:
            if mistake.line is None:  # nothing in it is wrong: it is not there, or no machine
                value.fail(str(mistake))
            raise
        return load_machine(text, file)

    def errata(self, value: Value) -> tuple[str, ...]:
        ids: list[str] = []

        def read(one: Value) -> None:
            try:
                ident = lookup(one.text("the id of an erratum, or its short name")).id
            except UserMistake as mistake:
                if mistake.file is not None:
                    raise
                one.fail(mistake.message)
            if ident in ids:
                one.fail(f"{ident} is named twice")
            ids.append(ident)

        self.each(value.elements(), read)
        return tuple(ids)

    def detect(self, value: Value) -> dict[str, str]:
        levels = dict.fromkeys(DETECTORS, "stop")

        def read(one: tuple[str, Value]) -> None:
            detector, level = one
            if detector not in levels:
                hint = meant(detector, DETECTORS)
                value.fail(f"unknown detector {show(detector)}{hint}; known: {_list(DETECTORS)}", key=detector)
            levels[detector] = level.choice(LEVELS, "level")

        self.each(value.items().items(), read)
        return levels

    def setup(self, value: Value) -> tuple[Step, ...]:
        return self.each(value.elements(at_least=1), self.setup_step)

    def setup_step(self, one: Value) -> Step:
        op, args = self.step(one, SETUP_STEPS, "setup", PROGRAM_STEPS, "programs")
        required, optional = SETUP_STEPS[op]
        keys = args.mapping(required, optional)
        text = _text(op, args)
        if op in KERNEL_STEPS:
            raw = _Raw(op, one.line, keys, None, text)
            self.declare_kvar(raw)
            return self.kernel_step(raw)
        if op == "process":
            name = self.context_name(keys["as"])
            self.procs[name] = proc = _Proc(name, self.cpu(keys["cpu"]), one.line)
            self.add_thread(_Thread(name, proc, proc.cpu, forked=False), keys["as"])
            return Step(op, {"as": name, "cpu": proc.cpu}, None, one.line, text)
        if "in" not in keys:
            if op in ("file", "shm"):
                self.name_object(op, keys)
            return Step(op, self.object_arguments(op, keys), None, one.line, text)
        proc = self.process(keys["in"])
        if op == "thread":
            name = self.context_name(keys["as"])
            thread = _Thread(name, proc, self.cpu(keys["cpu"]), forked=False)
            self.add_thread(thread, keys["as"])
            return Step(op, {"in": proc.name, "as": name, "cpu": thread.cpu}, None, one.line, text)
        region = None
        if op == "mmap":
            region = self.region(keys, proc.name, proc.regions)
        elif op == "fill":
            if "fill" in proc.regions:
                args.fail(f"{proc.name} has been filled already")
            region = self.allocate("fill", proc.name, self.machine.frames, args)
        if region is not None:
            proc.regions[region.name] = region
        resolved = {"in": proc.name, **self.arguments(op, keys, proc.regions, region)}
        if op == "loan":
            resolved |= self.lend(keys)
        return Step(op, resolved, None, one.line, text)

    def programs(self, value: Value) -> list[_Thread]:
        """The first pass: declare every region, child and into-name of every program."""
        if not value.items():
            value.fail("expected at least one program")
        programs = list(value.items().items())

        def starter(one: tuple[str, Value]) -> _Thread:
            name, program = one
            thread = self.threads.get(name)
            if thread is None:
                self.lose_names(program)
                hint = f"{meant(name, self.threads)}; the setup has: {_list(self.threads) or 'none'}"
                value.unresolved(name, f"unknown process or thread {show(name)}{hint}", key=name)
            return thread

        starters = list(self.each(programs, starter))
        for name, thread in self.threads.items():
            if len(starters) == len(programs) and thread not in starters and name != thread.proc.name:
                self.mistakes.append(value.mistake(f"thread {name} has no program"))
        for thread in starters:
            self.declare(thread, value.items()[thread.name])
        return starters

    def declare(self, thread: _Thread, program: Value) -> None:
        """Declare what the steps of a program make; mistakes are taken note of, step by step."""
        ended, how = 0, ""
        steps: list[_Raw] = []
        thread.steps = steps

        def declare(one: Value) -> None:
            nonlocal ended, how
            op, args = self.step(one, PROGRAM_STEPS, "programs", SETUP_STEPS, "setup")
            if ended:
                one.fail(f"never reached: {thread.name} {how} on line {ended}")
            required, optional = PROGRAM_STEPS[op]
            if op in ("exit", "pause"):
                ended, how = one.line, f"{op}s"
                if args.data is None:
                    args = Value({}, args.file, args.line, args.field)
            else:
                optional = (*optional, "into")
            keys = args.mapping(required, optional)
            into = self.into(keys["into"]) if "into" in keys else None
            raw = _Raw(op, one.line, keys, into, _text(op, args))
            self.declare_kvar(raw)
            if op == "send":
                self.device(keys["to"])
            if op in ("mmap", "map_loan"):
                known = dict(thread.proc.regions)
                for sibling in thread.proc.threads:
                    known.update(sibling.mapped())
                raw.region = self.region(keys, thread.proc.name, known)
            elif op == "shm":
                self.name_object(op, keys)
            elif op == "loan":
                self.lend(keys)
            steps.append(raw)
            if op == "fork":
                name = self.context_name(keys["as"])
                cpu = self.cpu(keys["cpu"]) if "cpu" in keys else thread.cpu
                self.procs[name] = proc = _Proc(name, cpu, one.line, parent=thread.proc, forker=thread.name)
                proc.regions = {**thread.proc.regions, **thread.mapped()}
                raw.child = child = _Thread(name, proc, cpu, forked=True)
                self.add_thread(child, keys["as"])
                self.children.append(child)
                self.declare(child, keys["program"])

        self.each((program,), lambda one: self.each(one.elements(), declare))

    def resolve(self, thread: _Thread) -> tuple[Step, ...]:
        """The second pass: every name to what it stands for."""
        proc = thread.proc
        scope = dict(proc.regions)
        for sibling in proc.threads:
            if sibling is not thread:
                scope.update(sibling.mapped())
        forked: set[str] = set()

        def resolve(raw: _Raw) -> Step:
            if raw.op in KERNEL_STEPS:
                return self.kernel_step(raw)
            if raw.region is not None:
                scope[raw.region.name] = raw.region
            args = self.arguments(raw.op, raw.keys, scope, raw.region)
            if raw.child is not None:
                args = {"as": raw.child.name, "cpu": raw.child.cpu}
                forked.add(raw.child.name)
            elif raw.op == "wait":
                args = {"for": self.child(raw.keys["for"], thread, forked)}
            elif raw.op == "barrier":
                name = self.barrier(raw.keys["name"], thread)
                args = {"name": name, "number": list(self.barriers).index(name)}
            elif raw.op in ("loan", "unloan", "kpeek", "map_loan"):
                args |= self.lent(raw.keys)
            return Step(raw.op, args, raw.into, raw.line, raw.text)

        return self.each(thread.steps or (), resolve)

    def expect(self, value: Value, errata: bool) -> Expect:
        """Either half can be left out."""
        keys = value.items()
        self.mistakes += value.wrong_keys((), ("with_errata", "fixed"))
        if not errata and "with_errata" in keys:
            self.mistakes.append(value.mistake("the scenario names no errata", "with_errata"))
        fixed = self.section(keys, "fixed", self.outcome, None)
        return Expect(self.section(keys, "with_errata", self.outcome, None) if errata else fixed, fixed)

    def outcome(self, value: Value) -> Outcome:
        keys = value.mapping(("finding",), ("function", "subject", "invariant", "text", "results", "never"))
        finding = keys["finding"]
        kinds: tuple[str, ...] = ()
        if finding.data != "none":
            kinds = tuple(one.choice(EXPECTABLE, "kind of finding") for one in self.any_of(finding))
        for key in ("function", "subject", "invariant", "text"):
            if key in keys and not kinds:
                value.fail("with `finding: none` there is nothing to name", key=key)
        functions = []
        for one in self.listed(keys, "function"):
            if not _FUNCTION.fullmatch(one.text("the name of a function")):
                one.fail(f"{show(one.data)} is no name of a function")
            functions.append(one.data)
        subjects = [one.choice(OBJECTS, "kind of object") for one in self.listed(keys, "subject")]
        if "invariant" in keys and "invariant" not in kinds:
            value.fail("the finding expected is no invariant", key="invariant")
        invariants = [one.choice(INVARIANT_IDS, "invariant") for one in self.listed(keys, "invariant")]
        texts = [one.text("a part of the finding's text") for one in self.listed(keys, "text")]
        results: dict[str, tuple[int | str, ...]] = {}
        if "results" in keys:
            for name, allowed in keys["results"].items().items():
                if name not in self.intos:
                    hint = meant(name, self.intos)
                    keys["results"].unresolved(name, f"no step has `into: {name}`{hint}", key=name)
                results[name] = tuple(self.result(one) for one in self.any_of(allowed))
        never = []
        for one in keys["never"].elements(at_least=1) if "never" in keys else ():
            for name in one.items():
                if name not in self.intos:
                    one.unresolved(name, f"no step has `into: {name}`{meant(name, self.intos)}", key=name)
            if not one.items():
                one.fail("expected at least one result")
            never.append({name: self.result(value) for name, value in one.items().items()})
        return Outcome(
            kinds,
            tuple(functions),
            tuple(subjects),
            tuple(invariants),
            tuple(texts),
            results=results,
            never=tuple(never),
        )

    def listed(self, keys: dict[str, Value], key: str) -> list[Value]:
        return self.any_of(keys[key]) if key in keys else []

    @staticmethod
    def any_of(value: Value) -> list[Value]:
        if isinstance(value.data, dict):
            return value.mapping(("any_of",))["any_of"].elements(at_least=1)
        return [value]

    @staticmethod
    def result(value: Value) -> int | str:
        if isinstance(value.data, str):
            return value.choice((*ERRNO_NAMES.values(), *SIGNALS), "errno or signal")
        return value.integer(0, 2**64 - 1)

    def bound(self, value: Value) -> Bound:
        keys = value.mapping(("strategy", "schedules"), ("depth", "operations"))
        strategy = keys["strategy"].choice(STRATEGIES, "strategy")
        depth = keys["depth"].integer(1, 16) if "depth" in keys else 3
        operations = keys["operations"].integer(1, 1_000_000_000) if "operations" in keys else None
        return Bound(strategy, depth, keys["schedules"].integer(1, 10_000_000), operations)

    # -- steps -------------------------------------------------------------------

    @staticmethod
    def step(
        value: Value, steps: Mapping[str, Any], here: str, others: Mapping[str, Any], there: str
    ) -> tuple[str, Value]:
        """Take `{op: {...}}` apart."""
        if not isinstance(value.data, dict):
            value.wanted('a step, as `- munmap: {at: "buf[0]", pages: 1}`')
        if len(value.data) != 1:
            value.fail(f"expected one step in each list entry, found {len(value.data)}: {_list(map(show, value.data))}")
        op, args = next(iter(value.data.items()))
        if op not in steps:
            if op in others:
                value.fail(f"{op} is a step of {there}, not of {here}", key=op)
            value.fail(f"unknown step {show(op)}{meant(op, steps)}; steps of {here}: {_list(steps)}", key=op)
        return op, args

    def arguments(
        self, op: str, keys: dict[str, Value], scope: dict[str, Region], region: Region | None
    ) -> dict[str, Any]:
        """The resolved arguments of a step that concerns memory."""
        if op in OBJECT_STEPS:
            return self.object_arguments(op, keys)
        size = self.machine.page_size
        if region is not None:
            args: dict[str, Any] = {"as": region.name, "at": region.start, "length": region.pages * size}
            if op == "map_loan":
                return args
            if op == "mmap":
                prot = keys["prot"].choice(PROTECTIONS, "protection") if "prot" in keys else "rw"
                args["prot"] = PROTECTIONS[prot]
                args["shared"] = self.shared(keys)
                for what, known in (("file", self.files), ("shm", self.segments)):
                    if what in keys:
                        args[what] = self.number(keys[what], known)
                        args["offset"] = keys["offset"].integer(0, MAX_REGION_PAGES) * size if "offset" in keys else 0
                if "offset" in keys and "offset" not in args:
                    keys["offset"].fail("only a file or a segment has an offset")
            else:
                args["prot"] = PROTECTIONS["rw"]
                args["until_free"] = keys["until_free"].integer(self.machine.reserve_kernel, self.machine.frames - 1)
            return args
        args = {}
        if "pages" in keys:
            pages = keys["pages"].integer(1, MAX_REGION_PAGES)
            args = {"at": self.address(keys["at"], scope, pages), "length": pages * size}
        elif "at" in keys:
            args = {"at": self.address(keys["at"], scope, 0)}
        if "value" in keys:
            args["value"] = keys["value"].integer(0, 2**64 - 1)
        if "inherit" in keys:
            args["inherit"] = INHERITANCES[keys["inherit"].choice(INHERITANCES, "inheritance")]
        if "prot" in keys:
            args["prot"] = PROTECTIONS[keys["prot"].choice(PROTECTIONS, "protection")]
        if op == "msync":
            args["flags"] = 0
            for one in keys["flags"].elements(at_least=1):
                args["flags"] |= SYNCING[one.choice(SYNCING, "flag")]
        if "advice" in keys:
            args["advice"] = ADVICE[keys["advice"].choice(ADVICE, "advice")]
        if op == "physio":
            args["write"] = keys["do"].choice(("read", "write"), "direction") == "write"
            args["block"] = keys["block"].integer(0, MAX_SWAP)
            if args["block"] + args["length"] // size > self.machine.disk:
                keys["block"].fail(f"the machine's disk has {self.machine.disk or 'no'} blocks")
            args["status"] = self.address(keys["status"], scope, 0) if "status" in keys else 0
        if "to" in keys:
            args["flags"] = LOANS[keys["to"].choice(LOANS, "borrower")]
        if op == "swapctl":
            args["on"] = keys["do"].choice(("on", "off"), "command") == "on"
            devices = self.machine.swap_devices
            number = keys["device"].integer(0, MAX_SWAP)
            if number >= len(devices):
                keys["device"].fail(f"there is no swap device {number}: the machine has {len(devices) or 'none'}")
            args |= {"device": number, "priority": devices[number].priority}
        if op == "mincore":
            keys["pages"].integer(1, 64)
        if op == "count":
            args["of"] = keys["of"].choice(COUNTERS, "counter")
        return args

    @staticmethod
    def shared(keys: dict[str, Value]) -> bool:
        """Is a mapping shared? And do its keys fit together?"""
        if "file" in keys and "shm" in keys:
            keys["shm"].fail("a mapping is of a file or of a segment, not of both")
        if "flags" not in keys:
            return "shm" in keys
        value = keys["flags"]
        if "shm" in keys:
            value.fail("a segment is always shared: leave out the flags")
        flags = [one.choice(("private", "shared", "anon"), "flag") for one in value.elements(at_least=1)]
        if len(set(flags)) != len(flags):
            value.fail("a flag is named twice")
        if "file" in keys and "anon" in flags:
            value.fail("what has a file is not anon")
        if "file" not in keys and "anon" not in flags:
            value.fail("missing flag anon: there is no file to map")
        if ("private" in flags) == ("shared" in flags):
            value.fail("expected one of private and shared")
        return "shared" in flags

    def name_object(self, op: str, keys: dict[str, Value]) -> None:
        """Take note of a file or a segment, which this step makes."""
        known = self.files if op == "file" else self.segments
        name = self.name(keys["as"], "file" if op == "file" else "segment")
        if name in known:
            keys["as"].fail(f"{name} is named twice")
        pages = keys["pages"].integer(1, MAX_REGION_PAGES)
        if op == "file":
            taken = sum(one.pages for one in self.files.values())
            if taken + pages > self.machine.disk:
                disk = self.machine.disk or "no"
                keys["pages"].fail(f"the machine's disk has {disk} blocks, of which files have {taken} already")
        known[name] = Region(name, "", 0, pages)

    def object_arguments(self, op: str, keys: dict[str, Value]) -> dict[str, Any]:
        """The resolved arguments of a step that concerns a file or a segment, and no process."""
        if op == "file":
            name, pages = keys["as"].data, keys["pages"].data
            words = keys["words"].elements(at_least=1) if "words" in keys else []
            if len(words) > pages:
                keys["words"].fail(f"{len(words)} words, one for each page, and {pages} pages")
            before = list(self.files).index(name)
            block = sum(one.pages for one in list(self.files.values())[:before])
            values = [one.integer(0, 2**64 - 1) for one in words]
            return {"as": name, "file": before, "block": block, "pages": pages, "words": values}
        if op == "shm":
            return {"shm": self.number(keys["as"], self.segments), "pages": keys["pages"].data}
        if op == "shm_remove":
            return {"shm": self.number(keys["shm"], self.segments)}
        if "at" in keys:
            args: dict[str, Any] = {"at": self.address(keys["at"], self.files, 0, file=True)}
            args["file"] = list(self.files).index(keys["at"].data.partition("[")[0])
            if "value" in keys:
                args["value"] = keys["value"].integer(0, 2**64 - 1)
            return args
        args = {"file": self.number(keys["file"], self.files)}
        if op == "ftruncate":
            most = list(self.files.values())[args["file"]].pages
            args["size"] = keys["pages"].integer(0, most) * self.machine.page_size
        return args

    @staticmethod
    def number(value: Value, known: Mapping[str, Region]) -> int:
        """The number of a file or a segment."""
        name = value.text("a name")
        if name not in known:
            value.unresolved(name, f"there is no {show(name)}{meant(name, known)}; there are: {_none(known)}")
        return list(known).index(name)

    def address(self, value: Value, scope: dict[str, Region], pages: int, file: bool = False) -> int:
        """Resolve `buf[3]` or, where no number of pages goes with it, also `buf[3]+8`; of a file: to an offset."""
        text = value.text('an address as "buf[3]"')
        parts = _ADDRESS.fullmatch(text)
        if parts is None:
            value.fail(f'{show(text)} is no address: expected "buf[3]", or "buf[3]+8" for a word of that page')
        region = scope.get(parts["region"])
        if region is None and file:
            hint = f"{meant(parts['region'], scope)}; files so far: {_none(scope)}"
            value.unresolved(parts["region"], f"there is no file {parts['region']}{hint}")
        if region is None:
            why = f"is never mapped{meant(parts['region'], scope)}"
            if any(one.name == parts["region"] for one in self.regions):
                why = f"is not mapped here; mapped so far: {_none(scope)}"
            value.unresolved(parts["region"], f"region {parts['region']} {why}")
        page, byte, size = int(parts["page"]), int(parts["byte"] or 0), self.machine.page_size
        last = page + max(pages, 1) - 1
        if last >= region.pages:
            what = f"page {page}" if last == page else f"pages {page} to {last}"
            kind = "file" if file else "region"
            value.fail(f"{what} is outside {kind} {region.name}, which has pages 0 to {region.pages - 1}")
        if pages and byte:
            value.fail("this step takes whole pages: leave out the byte")
        if byte >= size or byte % WORD:
            value.fail(f"byte {byte} is no word of a page: multiples of {WORD} below {size}")
        return region.start + page * size + byte

    def region(self, keys: dict[str, Value], proc: str, known: Mapping[str, Region]) -> Region:
        name = self.name(keys["as"], "region")
        if name == "fill":
            keys["as"].fail("the name fill belongs to the step fill")
        if name in known:
            keys["as"].fail(f"region {name} is named twice in {proc}")
        return self.allocate(name, proc, keys["pages"].integer(1, MAX_REGION_PAGES), keys["pages"])

    def allocate(self, name: str, proc: str, pages: int, value: Value) -> Region:
        size = self.machine.page_size
        start = FIRST_ADDRESS
        if self.regions:
            last = self.regions[-1]
            start = last.start + (last.pages + 1) * size
            start = (start + REGION_ALIGN - 1) // REGION_ALIGN * REGION_ALIGN
        if start + pages * size > VM_MAX_ADDRESS:
            value.fail("no room for this region: the others take the whole address space")
        region = Region(name, proc, start, pages)
        self.regions.append(region)
        return region

    # -- the kernel's own ----------------------------------------------------------

    def interrupt(self, section: Value, name: str, value: Value) -> tuple[int, tuple[_Raw, ...]]:
        """The CPU and the steps of a device's interrupt; declares its variables."""
        devices = [device for device, _ in self.machine.devices]
        if name not in devices:
            hint = f"{meant(name, devices)}; it has: {_none(devices)}"
            section.fail(f"the machine has no device {show(name)}{hint}", key=name)
        keys = value.mapping(("cpu", "steps"))

        def declare(one: Value) -> _Raw:
            op, args = self.step(one, INTERRUPT_STEPS, "interrupts", PROGRAM_STEPS, "programs")
            required, optional = INTERRUPT_STEPS[op]
            step = args.mapping(required, (*optional, "into"))
            into = self.into(step["into"]) if "into" in step else None
            raw = _Raw(op, one.line, step, into, _text(op, args))
            self.declare_kvar(raw)
            return raw

        raws = self.each(keys["steps"].elements(at_least=1), declare)
        return self.cpu(keys["cpu"]), raws

    def device(self, value: Value) -> int:
        """The number of a device, which has an interrupt."""
        devices = [device for device, _ in self.machine.devices]
        name = value.choice(devices, "device") if devices else value.fail("the machine has no devices")
        if name not in self.handled:
            value.fail(f"section interrupts does not say what {name} does")
        return devices.index(name)

    def declare_kvar(self, raw: _Raw) -> None:
        """A variable of the kernel comes into being with the step that allocates its memory."""
        if raw.op != "km_alloc":
            return
        keys, sizes = raw.keys, self.machine.kernel
        name = self.name(keys["as"], "variable")
        if name in self.kvars:
            keys["as"].fail(f"the variable {name} is named twice")
        maps = {} if sizes is None else {one: pages for one, pages in asdict(sizes).items() if pages}
        if not maps:
            keys["map"].fail("the machine has no kernel maps")
        map = keys["map"].choice(maps, "kernel map")
        self.kvars[name] = map, keys["pages"].integer(1, maps[map])

    def kernel_step(self, raw: _Raw) -> Step:
        """Resolve a step of the kernel's own."""
        keys, args = raw.keys, dict[str, Any]()
        if "word" in keys:
            name = self.name(keys["word"], "word")
            args = {"word": name, "number": self.words.setdefault(name, len(self.words))}
        if raw.op == "send":
            args = {"name": keys["to"].data, "number": self.device(keys["to"])}
        elif raw.op == "km_alloc":
            name = keys["as"].data
            map, pages = self.kvars[name]
            args |= {"name": name, "number": list(self.kvars).index(name), "map": map, "pages": pages}
        elif "at" in keys:
            args |= self.kernel_address(keys)
            if raw.op in ("kread", "kwrite"):
                args["onfault"] = keys["onfault"].boolean() if "onfault" in keys else False
        if "value" in keys:
            args["value"] = keys["value"].integer(0, 2**64 - 1)
        return Step(raw.op, args, raw.into, raw.line, raw.text)

    def kernel_address(self, keys: dict[str, Value]) -> dict[str, Any]:
        """Resolve `k[3]`, or `k[3]+8` where no number of pages goes with it."""
        value, scope = keys["at"], {name: Region(name, "", 0, pages) for name, (_, pages) in self.kvars.items()}
        parts = _ADDRESS.fullmatch(value.text('an address as "k[3]"'))
        if parts is not None and parts["region"] not in scope:
            name = parts["region"]
            value.unresolved(name, f"no step km_alloc has `as: {name}`{meant(name, scope)}; there are: {_none(scope)}")
        pages = keys["pages"].integer(1, MAX_REGION_PAGES) if "pages" in keys else 0
        offset = self.address(value, scope, pages)
        assert parts is not None
        name = parts["region"]
        found = {"name": value.data, "number": list(self.kvars).index(name), "map": self.kvars[name][0], "byte": offset}
        return found | {"pages": pages} if pages else found

    # -- names -------------------------------------------------------------------

    @staticmethod
    def name(value: Value, what: str) -> str:
        name = value.text(f"the name of a {what}")
        if not _NAME.fullmatch(name):
            value.fail(f"{show(name)} is no name of a {what}: up to 16 letters, digits and _, a letter first")
        return name

    def context_name(self, value: Value) -> str:
        name = self.name(value, "process or thread")
        if name in (*RESERVED, *(device for device, _ in self.machine.devices)) or _CPU_NAME.fullmatch(name):
            value.fail(f"{name} is a name of uvmp's own; choose another")
        if name in self.names:
            value.fail(f"the name {name} is used twice (first on line {self.names[name]})")
        self.names[name] = value.line
        return name

    def add_thread(self, thread: _Thread, value: Value) -> None:
        if len(self.threads) >= MAX_LWPS:
            value.fail(f"more than {MAX_LWPS} threads")
        self.threads[thread.name] = thread
        thread.proc.threads.append(thread)

    def cpu(self, value: Value) -> int:
        last = self.machine.cpus - 1
        if isinstance(value.data, int) and not isinstance(value.data, bool) and not 0 <= value.data <= last:
            value.fail(f"there is no cpu {show(value.data)}: the machine has {self.machine.cpus} (0 to {last})")
        return value.integer(0, last)

    def process(self, value: Value) -> _Proc:
        name = value.text("the name of a process")
        if name not in self.procs:
            hint = f"{meant(name, self.procs)}; so far there are: {_none(self.procs)}"
            value.unresolved(name, f"unknown process {show(name)}{hint}")
        return self.procs[name]

    def into(self, value: Value) -> str:
        name = self.name(value, "result")
        if name in self.intos:
            value.fail(f"the result {name} is named twice (first on line {self.intos[name]})")
        self.intos[name] = value.line
        return name

    def child(self, value: Value, thread: _Thread, forked: set[str]) -> str:
        name = value.text("the name of a child")
        proc = self.procs.get(name)
        children = [one.name for one in self.procs.values() if one.parent is thread.proc]
        if proc is None:
            hint = f"{meant(name, children)}; children of {thread.proc.name}: {_none(children)}"
            value.unresolved(name, f"unknown process {show(name)}{hint}")
        if proc.parent is not thread.proc:
            value.fail(f"{name} is no child of {thread.proc.name}; its children: {_none(children)}")
        if proc.forker == thread.name and name not in forked:
            value.fail(f"{name} is forked only later, on line {proc.line}")
        return name

    def barrier(self, value: Value, thread: _Thread) -> str:
        name = self.name(value, "barrier")
        users = self.barriers.setdefault(name, [])
        if any(one == thread.name for one, _ in users):
            value.fail(f"{thread.name} meets barrier {name} twice; give the second another name")
        users.append((thread.name, value))
        return name

    def lend(self, keys: dict[str, Value]) -> dict[str, Any]:
        """A loan is declared."""
        name = self.name(keys["as"], "loan")
        if name in self.loans:
            keys["as"].fail(f"the loan {name} is named twice (first on line {self.loans[name][1]})")
        self.loans[name] = keys["pages"].integer(1, MAX_REGION_PAGES), keys["as"].line
        return self.lent(keys)

    def lent(self, keys: dict[str, Value]) -> dict[str, Any]:
        """What a step needs to know of a loan."""
        value = keys["of"] if "of" in keys else keys["as"]
        name = self.name(value, "loan")
        if name not in self.loans:
            value.unresolved(name, f"no step has `loan: {{as: {name}}}`{meant(name, self.loans)}")
        pages, _ = self.loans[name]
        page = keys["page"].integer(0, MAX_REGION_PAGES) if "page" in keys else 0
        if page >= pages:
            keys["page"].fail(f"{name} has {pages} pages, the first is 0")
        if "of" in keys and "pages" in keys and keys["pages"].integer(1, MAX_REGION_PAGES) > pages:
            keys["pages"].fail(f"{name} has {pages} pages")
        return {"loan": name, "number": list(self.loans).index(name), "page": page}

    def check_barriers(self) -> None:
        def check(name: str) -> None:
            (one, value), *others = self.barriers[name]
            if not others:
                value.unresolved(name, f"nobody but {one} comes to barrier {name}")

        self.each(self.barriers, check)


def _none(words: Iterable[str]) -> str:
    return _list(words) or "none"


def _list(words: Iterable[str]) -> str:
    return ", ".join(words)


def _text(op: str, args: Value) -> str:
    """A step as it stands in the file."""
    return f"{op}: {args.flow(without=('program',))}"
