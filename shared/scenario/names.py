"""Names in a scenario's file: their declarations, their meanings, and the rule that a declaration precedes every use.

This module chooses addresses: every region of a scenario has its own range, the first at 0x10000, and at least one
unmapped page separates two regions. So an address in a journal identifies its region. Addresses are written

    buf[3]       the first byte of page 3 of region `buf`
    buf[3]+8     the 64-bit word at byte 8 of that page (where no number of pages goes with it)
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field

from shared.scenario.machine import MachineConfig
from shared.scenario.model import VM_MAX_ADDRESS, Region, Step
from shared.scenario.steps.step import ADDRESS_FORM, NAME_FORM, Args
from shared.scenario.yaml import Value, meant, show

FIRST_ADDRESS = 0x10000
REGION_ALIGN = 0x1000
WORD = 8
MAX_LWPS, MAX_REGION_PAGES = 1024, 4096
RESERVED = (
    "boot", "clock", "devices", "disk", "disk_io", "io", "lock_manager", "memory", "mmu", "pagedaemon", "swap",
    "swap_io", "swap_pager", "user",
)  # fmt: skip
#: the name of the region that the step `fill` makes
FILL = "fill"

_NAME, _ADDRESS = re.compile(NAME_FORM), re.compile(ADDRESS_FORM)
_CPU_NAME = re.compile(r"cpu[0-9]*|intr[0-9]*")


def is_reserved(name: str) -> bool:
    """Is it the name of a part of every machine, so that no thread can have it?"""
    return name in RESERVED or _CPU_NAME.fullmatch(name) is not None


@dataclass(slots=True)
class Process:
    """A process that the setup or a fork makes.

    Attributes:
        line: of the step that makes it.
        parent, forker: the process and the thread that fork it; None and "": the setup makes it.
        regions: those of the setup, or that it got by its fork.
    """

    name: str
    cpu: int
    line: int
    parent: Process | None = None
    forker: str = ""
    regions: dict[str, Region] = field(default_factory=dict)
    threads: list[Thread] = field(default_factory=list)


@dataclass(slots=True)
class Thread:
    """A thread and its program.

    Attributes:
        steps: its program after the first pass.
        program: after the second.
        scope, children: in the second pass, the regions that are mapped and the children that were forked so far.
    """

    name: str
    proc: Process
    cpu: int
    forked: bool
    steps: list[Place] = field(default_factory=list)
    program: tuple[Step, ...] = ()
    scope: dict[str, Region] = field(default_factory=dict)
    children: set[str] = field(default_factory=set)

    def mapped(self) -> dict[str, Region]:
        """The regions that this thread's program maps."""
        return {place.region.name: place.region for place in self.steps if place.region is not None}


@dataclass(slots=True)
class Place:
    """A step where it stands in the file, while it is read.

    Attributes:
        names: those of the whole file.
        kind, step, keys: the step, its mapping, and that mapping's keys.
        line, text: as the file has it.
        into: the name of its result.
        proc, thread: whose step it is, if anybody's.
        scope: the regions that are mapped there so far.
        forked: names of the children that the thread has forked so far.
        region: that this step makes.
        child: the thread that this step forks.
    """

    names: Names
    kind: type[Args]
    step: Value
    keys: dict[str, Value]
    line: int
    text: str
    into: str | None = None
    proc: Process | None = None
    thread: Thread | None = None
    scope: dict[str, Region] = field(default_factory=dict)
    forked: set[str] = field(default_factory=set)
    region: Region | None = None
    child: Thread | None = None

    @property
    def machine(self) -> MachineConfig:
        return self.names.machine


class Names:
    """Every name of a file, by what it names.

    Args:
        machine: on which the scenario runs.
        handled: names of the devices whose interrupts the file describes.

    Attributes:
        contexts: names of processes and threads -> the line where each is made.
        files, segments: in order of their numbers; as regions that begin at 0. kvars: variables of the kernel -> map,
            pages. words -> number. loans -> pages, line. barriers -> (thread, where it says so).
    """

    def __init__(self, machine: MachineConfig, handled: Iterable[str]):
        self.machine = machine
        self.handled = frozenset(handled)
        self.procs: dict[str, Process] = {}
        self.threads: dict[str, Thread] = {}
        self.children: list[Thread] = []
        self.contexts: dict[str, int] = {}
        self.intos: dict[str, int] = {}
        self.barriers: dict[str, list[tuple[str, Value]]] = {}
        self.words: dict[str, int] = {}
        self.kvars: dict[str, tuple[str, int]] = {}
        self.loans: dict[str, tuple[int, int]] = {}
        self.regions: list[Region] = []
        self.files: dict[str, Region] = {}
        self.segments: dict[str, Region] = {}

    @staticmethod
    def name(value: Value, what: str) -> str:
        name = value.text(f"the name of a {what}")
        if not _NAME.fullmatch(name):
            value.fail(f"{show(name)} is not a valid name of a {what}: up to 16 letters, digits and _, a letter first")
        return name

    # -- contexts ------------------------------------------------------------------

    def _context(self, value: Value) -> str:
        name = self.name(value, "process or thread")
        if is_reserved(name) or name in (device for device, _ in self.machine.devices):
            value.fail(f"{name} is reserved by uvmp; choose another name")
        if name in self.contexts:
            value.fail(f"the name {name} is used twice (first on line {self.contexts[name]})")
        self.contexts[name] = value.line
        return name

    def cpu(self, value: Value) -> int:
        """The number of a CPU."""
        last = self.machine.cpus - 1
        if isinstance(value.data, int) and not isinstance(value.data, bool) and not 0 <= value.data <= last:
            value.fail(f"there is no cpu {show(value.data)}: the machine has {self.machine.cpus} (0 to {last})")
        return value.integer(0, last)

    def make_process(self, value: Value, cpu: Value, line: int) -> None:
        """A process of the setup, with its first thread."""
        name = self._context(value)
        self.procs[name] = proc = Process(name, self.cpu(cpu), line)
        self._add_thread(Thread(name, proc, proc.cpu, forked=False), value)

    def make_thread(self, value: Value, cpu: Value, proc: Process) -> None:
        """One more thread of a process."""
        name = self._context(value)
        self._add_thread(Thread(name, proc, self.cpu(cpu), forked=False), value)

    def make_child(self, value: Value, cpu: Value | None, thread: Thread, line: int) -> Thread:
        """A process that a thread forks: with the regions that its parent has until then."""
        name = self._context(value)
        where = self.cpu(cpu) if cpu is not None else thread.cpu
        self.procs[name] = proc = Process(name, where, line, parent=thread.proc, forker=thread.name)
        proc.regions = {**thread.proc.regions, **thread.mapped()}
        child = Thread(name, proc, where, forked=True)
        self._add_thread(child, value)
        self.children.append(child)
        return child

    def _add_thread(self, thread: Thread, value: Value) -> None:
        if len(self.threads) >= MAX_LWPS:
            value.fail(f"more than {MAX_LWPS} threads")
        self.threads[thread.name] = thread
        thread.proc.threads.append(thread)

    def process(self, value: Value) -> Process:
        """A process that is there by now."""
        name = value.text("the name of a process")
        if name not in self.procs:
            hint = f"{meant(name, self.procs)}; names so far: {none(self.procs)}"
            value.unresolved(name, f"unknown process {show(name)}{hint}")
        return self.procs[name]

    def child(self, value: Value, thread: Thread, forked: set[str]) -> str:
        """A child of the thread's process, that is there by now."""
        name = value.text("the name of a child")
        proc = self.procs.get(name)
        children = [child.name for child in self.procs.values() if child.parent is thread.proc]
        if proc is None:
            hint = f"{meant(name, children)}; children of {thread.proc.name}: {none(children)}"
            value.unresolved(name, f"unknown process {show(name)}{hint}")
        if proc.parent is not thread.proc:
            value.fail(f"{name} is not a child of {thread.proc.name}; its children: {none(children)}")
        if proc.forker == thread.name and name not in forked:
            value.fail(f"{name} is forked only later, on line {proc.line}")
        return name

    # -- memory ---------------------------------------------------------------------

    def make_region(self, value: Value, pages: Value, proc: Process, known: Mapping[str, Region]) -> Region:
        """A region that a step maps.

        Args:
            known: the regions that the process may have then, by name.
        """
        name = self.name(value, "region")
        if name == FILL:
            value.fail("the name fill belongs to the step fill")
        if name in known:
            value.fail(f"region {name} is named twice in {proc.name}")
        return self.allocate(name, proc, pages.integer(1, MAX_REGION_PAGES), pages)

    def allocate(self, name: str, proc: Process, pages: int, value: Value) -> Region:
        """Choose a region's addresses; `value` is to blame if there is no room."""
        size = self.machine.page_size
        start = FIRST_ADDRESS
        if self.regions:
            last = self.regions[-1]
            start = last.start + (last.pages + 1) * size
            start = (start + REGION_ALIGN - 1) // REGION_ALIGN * REGION_ALIGN
        if start + pages * size > VM_MAX_ADDRESS:
            value.fail("no room for this region: the other regions take the whole address space")
        region = Region(name, proc.name, start, pages)
        self.regions.append(region)
        return region

    def address(self, value: Value, scope: Mapping[str, Region], pages: int, file: bool = False) -> int:
        """Resolve `buf[3]` or, where no number of pages goes with it, also `buf[3]+8`; of a file: to an offset."""
        text = value.text('an address as "buf[3]"')
        parts = _ADDRESS.fullmatch(text)
        if parts is None:
            value.fail(f'{show(text)} is not an address: expected "buf[3]", or "buf[3]+8" for a word of that page')
        region = scope.get(parts["region"])
        if region is None and file:
            hint = f"{meant(parts['region'], scope)}; files so far: {none(scope)}"
            value.unresolved(parts["region"], f"there is no file {parts['region']}{hint}")
        if region is None:
            why = f"is never mapped{meant(parts['region'], scope)}"
            if any(known.name == parts["region"] for known in self.regions):
                why = f"is not mapped here; mapped so far: {none(scope)}"
            value.unresolved(parts["region"], f"region {parts['region']} {why}")
        page, byte, size = int(parts["page"]), int(parts["byte"] or 0), self.machine.page_size
        last = page + max(pages, 1) - 1
        if last >= region.pages:
            what = f"page {page}" if last == page else f"pages {page} to {last}"
            kind = "file" if file else "region"
            value.fail(f"{what} is outside {kind} {region.name}, which has pages 0 to {region.pages - 1}")
        if pages and byte:
            value.fail("this step works on whole pages; leave out the byte")
        if byte >= size or byte % WORD:
            value.fail(f"byte {byte} is not a word of a page: expected multiples of {WORD} below {size}")
        return region.start + page * size + byte

    def file_address(self, value: Value) -> tuple[int, int]:
        """Resolve `F[1]+8`: the number of a file, and the offset of a word in it."""
        at = self.address(value, self.files, 0, file=True)
        return list(self.files).index(value.text().partition("[")[0]), at

    # -- files, segments, loans -------------------------------------------------------

    def make_file(self, value: Value, pages: Value) -> None:
        """A file, in the first free blocks of the disk."""
        name = self._new(value, "file", self.files)
        many, taken = pages.integer(1, MAX_REGION_PAGES), sum(file.pages for file in self.files.values())
        if taken + many > self.machine.disk:
            disk = self.machine.disk or "no"
            pages.fail(f"the machine's disk has {disk} blocks, of which files have {taken} already")
        self.files[name] = Region(name, "", 0, many)

    def make_segment(self, value: Value, pages: Value) -> None:
        """A shared memory segment."""
        name = self._new(value, "segment", self.segments)
        self.segments[name] = Region(name, "", 0, pages.integer(1, MAX_REGION_PAGES))

    def _new(self, value: Value, what: str, known: Mapping[str, Region]) -> str:
        name = self.name(value, what)
        if name in known:
            value.fail(f"{name} is named twice")
        return name

    @staticmethod
    def number(value: Value, known: Mapping[str, Region]) -> int:
        """The number of a file or a segment."""
        name = value.text("a name")
        if name not in known:
            value.unresolved(name, f"there is no {show(name)}{meant(name, known)}; there are: {none(known)}")
        return list(known).index(name)

    def block(self, number: int) -> int:
        """The first block of a file."""
        return sum(file.pages for file in list(self.files.values())[:number])

    def make_loan(self, value: Value, pages: Value) -> None:
        """A loan of so many pages."""
        name = self.name(value, "loan")
        if name in self.loans:
            value.fail(f"the loan {name} is named twice (first on line {self.loans[name][1]})")
        self.loans[name] = pages.integer(1, MAX_REGION_PAGES), value.line

    def loan(self, value: Value) -> str:
        """A loan, which some step makes."""
        name = self.name(value, "loan")
        if name not in self.loans:
            value.unresolved(name, f"no step has `loan: {{as: {name}}}`{meant(name, self.loans)}")
        return name

    # -- the kernel's own --------------------------------------------------------------

    def make_variable(self, value: Value, map: Value, pages: Value) -> None:
        """A variable of the kernel, which comes into being with the step that allocates its memory."""
        name = self.name(value, "variable")
        if name in self.kvars:
            value.fail(f"the variable {name} is named twice")
        sizes = self.machine.kernel
        maps = {} if sizes is None else {known: size for known, size in asdict(sizes).items() if size}
        if not maps:
            map.fail("the machine has no kernel maps")
        wanted = map.choice(maps, "kernel map")
        self.kvars[name] = wanted, pages.integer(1, maps[wanted])

    def variable(self, value: Value, pages: int) -> tuple[str, int]:
        """Resolve `k[3]`, or `k[3]+8` where no number of pages goes with it: a variable, and the offset from it."""
        scope = {name: Region(name, "", 0, size) for name, (_, size) in self.kvars.items()}
        parts = _ADDRESS.fullmatch(value.text('an address as "k[3]"'))
        if parts is not None and parts["region"] not in scope:
            name = parts["region"]
            value.unresolved(name, f"no step km_alloc has `as: {name}`{meant(name, scope)}; there are: {none(scope)}")
        offset = self.address(value, scope, pages)
        assert parts is not None
        return parts["region"], offset

    def word(self, value: Value) -> tuple[str, int]:
        """A word of the kernel, which comes into being by being named, and its number."""
        name = self.name(value, "word")
        return name, self.words.setdefault(name, len(self.words))

    def device(self, value: Value) -> int:
        """The number of a device, which has an interrupt."""
        devices = [device for device, _ in self.machine.devices]
        name = value.choice(devices, "device") if devices else value.fail("the machine has no devices")
        if name not in self.handled:
            value.fail(f"section interrupts has no entry for {name}")
        return devices.index(name)

    # -- results, barriers ----------------------------------------------------------------

    def make_into(self, value: Value) -> str:
        """The name of a result."""
        name = self.name(value, "result")
        if name in self.intos:
            value.fail(f"the result {name} is named twice (first on line {self.intos[name]})")
        self.intos[name] = value.line
        return name

    def barrier(self, value: Value, thread: Thread) -> tuple[str, int]:
        """A barrier, which comes into being by being named, and its number."""
        name = self.name(value, "barrier")
        users = self.barriers.setdefault(name, [])
        if any(user == thread.name for user, _ in users):
            value.fail(f"{thread.name} meets barrier {name} twice; give the second another name")
        users.append((thread.name, value))
        return name, list(self.barriers).index(name)

    def check_barrier(self, name: str) -> None:
        """Raises: UserMistake - only one thread comes to it."""
        (thread, value), *others = self.barriers[name]
        if not others:
            value.unresolved(name, f"only {thread} comes to barrier {name}")


def none(words: Iterable[str]) -> str:
    """A list of names in words."""
    return ", ".join(words) or "none"
