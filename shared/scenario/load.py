"""The strict loader of scenario files. A scenario is one YAML file.

model.py explains the parts of a file, steps/ the steps and their keys, names.py names and addresses, expect.py the
expectation.

Section `interrupts` lists the steps of each device's interrupt, if the machine has devices (`devices: {net0: imp}`,
each with the level of its interrupt: bio, imp or clock). Only kernel steps that do not wait are allowed there:

    interrupts:
      net0: {cpu: 0, steps: [ {km_alloc: {map: mb, pages: 1, as: m}}, ... ]}

Section `session` has the steps that a session (`uvmp attach`) has added, in the order in which that happened, each with
its thread. A step stands at the end of the thread's program, or before the `pause` that ends it. All that it names is
numbered after everything before it, so that a step more changes nothing of what the machine has done:

    session:
      - A: {mmap: {as: buf, pages: 2}}

A file needs `id`, `machine`, `setup` and `programs`. Without `expect` there is no expectation, and the commands refuse
`--expect`; without `bound` a search uses DEFAULT_BOUND.

Rules for this file: the loader guesses nothing and ignores nothing. A mistake raises UserMistake with file, line and
field before anything starts. All mistakes of a file are reported at once, without consequential mistakes. The loader
takes text; the caller opens the files.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import replace

from shared.errata import lookup
from shared.errors import UserMistake, together
from shared.findings import DETECTORS
from shared.scenario.expect import Expectation
from shared.scenario.machine import LEVELS as INTERRUPT_LEVELS
from shared.scenario.machine import (
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
from shared.scenario.model import LEVELS, STRATEGIES, Bound, Expect, Handler, Lwp, Scenario, Step
from shared.scenario.names import FILL, Names, Place, Thread, none
from shared.scenario.steps.step import Where
from shared.scenario.steps.table import STEPS, steps_of
from shared.scenario.yaml import Reading, Unresolved, Value, close_to, meant, parse, show

REQUIRED = ("id", "machine", "setup", "programs")
OPTIONAL = ("name", "title", "story", "source", "errata", "detect", "interrupts", "expect", "bound", "session")
#: how far a scenario is searched that says nothing of it; the bounds of each number
DEFAULT_BOUND = Bound("auto", 3, 2000)
MAX_DEPTH, MAX_SCHEDULES, MAX_OPERATIONS = 16, 10_000_000, 1_000_000_000
ID_FORM = r"[A-Za-z0-9][A-Za-z0-9-]{0,31}"
_ID = re.compile(ID_FORM)

FindMachine = Callable[[str], tuple[str, str]]
#: stands in for a machine that is wrong, so that the rest of the file can be read: as large as one can be
ANY_MACHINE = MachineConfig(
    cpus=MAX_CPUS, frames=MAX_FRAMES, swap_slots=MAX_SWAP, page_size=4096, disk=MAX_SWAP,
    swap_devices=(SwapDevice(1),) * MAX_SWAP_DEVICES, kernel=KernelMaps(*[MAX_FRAMES] * 4),
)  # fmt: skip
#: keys whose values are names that a step makes
MAKES, ANY_NAME = ("as", "into", "name"), "*"


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
        machine_text, path = find_machine(name)
        texts[name] = name, path, machine_text
        return machine_text, path

    loaded = _Loader(parse(text, file), file, find if find_machine is not None else None, machine).load()
    return loaded if machine is not None else replace(loaded, text=text, machine_texts=tuple(texts.values()))


def _any_machine(interrupts: Iterable[str]) -> MachineConfig:
    """Instead of a machine that is wrong."""
    return replace(ANY_MACHINE, devices=tuple((name, "imp") for name in interrupts))


class _Loader(Reading):
    """Walks the file: two passes over the programs, of which the first declares names and the second resolves them.

    Attributes:
        lost: names that a step with a mistake would have made.
        later: steps of section `session`, each with the threads that it forks.
        made: steps after the second pass, by their places.
    """

    def __init__(self, root: Value, file: str, find_machine: FindMachine | None, machine: MachineConfig | None):
        super().__init__()
        self.root, self.file, self.find_machine, self.given = root, file, find_machine, machine
        self.lost: set[str] = set()
        self.later: list[tuple[Place, list[Thread]]] = []
        self.made: dict[int, Step] = {}

    def load(self) -> Scenario:
        keys = self.root.items()
        self.mistakes += self.root.wrong_keys(REQUIRED, OPTIONAL)
        ident = self.section(keys, "id", self.ident, "")
        name = self.section(keys, "name", self.ident, ident)
        title = self.section(keys, "title", lambda value: value.text("a title"), "")
        story = self.section(keys, "story", lambda value: value.text("a story").strip(), "")
        source = self.section(keys, "source", self.sources, ())
        interrupts = self.section(keys, "interrupts", Value.items, {})
        machine = self.given or self.section(keys, "machine", self.load_machine, _any_machine(interrupts))
        self.names = names = Names(machine, interrupts)
        errata = self.section(keys, "errata", self.errata, ())
        detect = self.section(keys, "detect", self.detect, dict.fromkeys(DETECTORS, "stop"))
        setup = self.section(keys, "setup", self.setup, ())
        read = self.each(interrupts, lambda device: (device, self.interrupt(keys["interrupts"], device)))
        places = dict(read)
        starters = self.section(keys, "programs", self.programs, [])
        threads = (*starters, *names.children)
        self.section(keys, "session", lambda value: self.session(value, starters), None)
        self.each(threads, self.resolve)
        handlers = [
            Handler(device, places[device][0], INTERRUPT_LEVELS[level], self.each(places[device][1], self.step_of))
            for device, level in machine.devices
            if device in places
        ]
        self.each(self.later, self.resolve_later)
        threads = (*starters, *names.children)
        for thread in threads:
            thread.program = tuple(self.made[id(place)] for place in thread.steps if id(place) in self.made)
        self.each(names.barriers, names.check_barrier)
        expectation = Expectation(self, names.intos, "errata" in keys)
        expect = self.section(keys, "expect", expectation.read, Expect(None, None))
        bound = self.section(keys, "bound", self.bound, DEFAULT_BOUND)
        self.complain()
        return Scenario(
            id=ident,
            name=name,
            title=title,
            story=story,
            source=source,
            machine=machine,
            errata=errata,
            detect=detect,
            setup=setup,
            lwps=tuple(Lwp(own.name, own.proc.name, own.cpu, own.program, own.forked) for own in threads),
            handlers=tuple(handlers),
            expect=expect,
            bound=bound,
            file=self.file,
            procs=tuple(names.procs),
            barriers=tuple(names.barriers),
            words=tuple(names.words),
            kvars=tuple(names.kvars),
            loans=tuple(names.loans),
            regions=tuple(names.regions),
            segments=tuple(names.segments),
            own_errata=errata,
            own_detect=detect,
            own_kernel_lock=machine.kernel_lock,
        )

    # -- mistakes ----------------------------------------------------------------

    def lose(self, value: Value, mistake: UserMistake) -> None:
        """The names that the broken part would declare; their absence elsewhere is not a mistake of its own."""
        if value.field.split(".")[0].split("[")[0] not in ("setup", "programs", "interrupts", "session"):
            return
        made = mistake.field and mistake.field.rpartition(".")[2] in MAKES
        if made or not (isinstance(value.data, (dict, list)) and self.lose_names(value)):
            self.lost.add(ANY_NAME)

    def lose_names(self, value: Value) -> bool:
        """Returns False if a step has not even the form of a step."""
        if isinstance(value.data, list):
            return all(self.lose_names(step) for step in value.data)
        if not isinstance(value.data, dict):
            return False
        known = {key.name for kind in STEPS.values() for key in kind.keys}
        for key, inner in value.data.items():
            if isinstance(inner.data, str) and (key in MAKES or (key not in known and close_to(key, MAKES))):
                self.lost.add(inner.data)
            elif isinstance(inner.data, (dict, list)):
                self.lose_names(inner)
            elif key in STEPS:
                return False
            if close_to(key, (FILL,)):
                self.lost.add(FILL)
        return True

    def complain(self) -> None:
        """Raise the mistakes that were noted, if any, without those that another mistake has caused."""
        whole = {"setup", "programs"} <= self.root.items().keys() and ANY_NAME not in self.lost
        unexplained = [
            wrong
            for mistake in self.mistakes
            for wrong in (mistake, *mistake.others)
            if not (isinstance(wrong, Unresolved) and (wrong.name in self.lost or not whole))
        ]
        if self.mistakes:
            raise together(unexplained or self.mistakes)

    # -- the parts -------------------------------------------------------------

    @staticmethod
    def ident(value: Value) -> str:
        what = value.field
        ident = value.text(f"{'an' if what == 'id' else 'a'} {what}")
        if not _ID.fullmatch(ident):
            value.fail(f"{show(ident)} is not a valid {what}: up to 32 letters, digits and hyphens")
        return ident

    @staticmethod
    def sources(value: Value) -> tuple[str, ...]:
        return tuple(source.text("a source") for source in value.elements(at_least=1))

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

        def read(name: Value) -> None:
            try:
                ident = lookup(name.text("the id of an erratum, or its short name")).id
            except UserMistake as mistake:
                if mistake.file is not None:
                    raise
                name.fail(mistake.message)
            if ident in ids:
                name.fail(f"{ident} is named twice")
            ids.append(ident)

        self.each(value.elements(), read)
        return tuple(ids)

    def detect(self, value: Value) -> dict[str, str]:
        levels = dict.fromkeys(DETECTORS, "stop")

        def read(setting: tuple[str, Value]) -> None:
            detector, level = setting
            if detector not in levels:
                hint = meant(detector, DETECTORS)
                value.fail(f"unknown detector {show(detector)}{hint}; known: {', '.join(DETECTORS)}", key=detector)
            levels[detector] = level.choice(LEVELS, "level")

        self.each(value.items().items(), read)
        return levels

    def bound(self, value: Value) -> Bound:
        keys = value.mapping(("schedules",), ("strategy", "depth", "operations"))
        strategy = keys["strategy"].choice(STRATEGIES, "strategy") if "strategy" in keys else "auto"
        depth = keys["depth"].integer(1, MAX_DEPTH) if "depth" in keys else 3
        operations = keys["operations"].integer(1, MAX_OPERATIONS) if "operations" in keys else None
        return Bound(strategy, depth, keys["schedules"].integer(1, MAX_SCHEDULES), operations)

    # -- steps -------------------------------------------------------------------

    def setup(self, value: Value) -> tuple[Step, ...]:
        """A step of the setup is read at once: whatever it names is there."""

        def read(step: Value) -> Step:
            place = self.place(step, Where.SETUP)
            self.declare(place)
            return self.step_of(place)

        return self.each(value.elements(at_least=1), read)

    def interrupt(self, section: Value, device: str) -> tuple[int, tuple[Place, ...]]:
        """The CPU and the steps of a device's interrupt, after the first pass."""
        devices = [name for name, _ in self.names.machine.devices]
        if device not in devices:
            hint = f"{meant(device, devices)}; it has: {none(devices)}"
            section.fail(f"the machine has no device {show(device)}{hint}", key=device)
        keys = section.items()[device].mapping(("cpu", "steps"))

        def read(step: Value) -> Place:
            place = self.place(step, Where.INTERRUPT)
            self.declare(place)
            return place

        places = self.each(keys["steps"].elements(at_least=1), read)
        return self.names.cpu(keys["cpu"]), places

    def programs(self, value: Value) -> list[Thread]:
        """The first pass: every program; it declares its regions, children and results."""
        if not value.items():
            value.fail("expected at least one program")
        programs, threads = list(value.items().items()), self.names.threads

        def starter(program: tuple[str, Value]) -> Thread:
            name, steps = program
            thread = threads.get(name)
            if thread is None:
                self.lose_names(steps)
                hint = f"{meant(name, threads)}; the setup has: {none(threads)}"
                value.unresolved(name, f"unknown process or thread {show(name)}{hint}", key=name)
            return thread

        starters = list(self.each(programs, starter))
        for name, thread in threads.items():
            if len(starters) == len(programs) and thread not in starters and name != thread.proc.name:
                self.mistakes.append(value.mistake(f"thread {name} has no program"))
        for thread in starters:
            self.program(thread, value.items()[thread.name])
        return starters

    def program(self, thread: Thread, program: Value) -> None:
        """The first pass over one program and, at each fork, over the child's."""
        ended, how = 0, ""

        def read(step: Value) -> None:
            nonlocal ended, how
            place = self.place(step, Where.PROGRAM)
            if ended:
                step.fail(f"never reached: {thread.name} {how} on line {ended}")
            if place.kind.ends:
                ended, how = place.line, f"{place.kind.op}s"
            place.proc, place.thread = thread.proc, thread
            self.declare(place)
            thread.steps.append(place)
            if place.child is not None:
                self.program(place.child, place.keys["program"])

        self.each((program,), lambda steps: self.each(steps.elements(), read))

    def session(self, value: Value, starters: list[Thread]) -> None:
        """The first pass over the steps that a session has added."""

        def read(entry: Value) -> None:
            if len(entry.items()) != 1:
                entry.wanted("a thread and its step, such as `- A: {exit: {}}`")
            ((name, step),) = entry.items().items()
            thread = self.names.threads.get(name)
            if thread is None:
                self.lose_names(step)
                hint = f"{meant(name, self.names.threads)}; there are: {none(self.names.threads)}"
                entry.unresolved(name, f"unknown thread {show(name)}{hint}", key=name)
            if thread not in (*starters, *self.names.children):
                entry.fail(f"{name} has no program", key=name)
            place = self.place(step, Where.PROGRAM)
            last = thread.steps[-1] if thread.steps else None
            stays = last is not None and last.kind is STEPS["pause"]
            if last is not None and last.kind.ends and not stays:
                step.fail(f"never reached: {name} {last.kind.op}s on line {last.line}")
            place.proc, place.thread = thread.proc, thread
            before = len(self.names.children)
            self.declare(place)
            at = len(thread.steps) - stays
            thread.steps[at : len(thread.steps) if place.kind.ends else at] = [place]
            if place.child is not None:
                self.program(place.child, place.keys["program"])
            self.later.append((place, self.names.children[before:]))

        self.each(value.elements(), read)

    def resolve(self, thread: Thread) -> None:
        """The second pass over one program, without the steps that a session has added."""
        thread.scope = dict(thread.proc.regions)
        for sibling in thread.proc.threads:
            if sibling is not thread:
                thread.scope.update(sibling.mapped())
        later = {id(place) for place, _ in self.later}
        self.each([place for place in thread.steps if id(place) not in later], self.resolve_step)

    def resolve_step(self, place: Place) -> None:
        """The second pass over a step of a program."""
        assert place.thread is not None
        place.scope, place.forked = place.thread.scope, place.thread.children
        self.made[id(place)] = self.step_of(place)

    def resolve_later(self, added: tuple[Place, list[Thread]]) -> None:
        """The second pass over a step that a session has added, and over the programs of its children."""
        place, children = added
        try:
            self.resolve_step(place)
        finally:
            self.each(children, self.resolve)

    def place(self, step: Value, where: Where) -> Place:
        """Take `{op: {...}}` apart."""
        if not isinstance(step.data, dict):
            step.wanted('a step, such as `- munmap: {at: "buf[0]", pages: 1}`')
        if len(step.data) != 1:
            steps = ", ".join(map(show, step.data))
            step.fail(f"expected one step in each list entry, found {len(step.data)}: {steps}")
        op, args = next(iter(step.data.items()))
        if op not in STEPS or where not in STEPS[op].where:
            known = steps_of(where)
            other = Where.SETUP if where is Where.PROGRAM else Where.PROGRAM
            if op in STEPS and other in STEPS[op].where:
                step.fail(f"{op} is a step of {other.title}, not of {where.title}", key=op)
            step.fail(f"unknown step {show(op)}{meant(op, known)}; steps of {where.title}: {', '.join(known)}", key=op)
        kind, text = STEPS[op], f"{op}: {args.flow(without=('program',))}"
        if kind.ends and args.data is None:
            args = Value({}, args.file, args.line, args.field)
        required, optional = kind.takes(where)
        keys = args.mapping(required, [*optional, *(["into"] if kind.answers(where) else [])])
        return Place(self.names, kind, args, keys, step.line, text)

    def declare(self, place: Place) -> None:
        """The first pass over a step: the names that it makes."""
        if "into" in place.keys:
            place.into = self.names.make_into(place.keys["into"])
        for key in place.kind.keys:
            if key.name in place.keys and key.kind.declare is not None:
                key.kind.declare(place.keys[key.name], place)

    def step_of(self, place: Place) -> Step:
        """The second pass over a step: every key to what it stands for."""
        place.kind.check(place)
        made: dict[str, object] = {}
        for key in place.kind.keys:
            if key.name in place.keys:
                made.update(key.kind.read(key.name, place.keys[key.name], place))
            elif key.default is not None:
                made[key.name] = key.default
            elif key.kind.absent is not None:
                made.update(key.kind.absent(place))
        return Step(place.kind.make(made), place.into, place.line, place.text)
