"""Steps that concern a process's memory: mappings, accesses, advice, locked memory."""

from __future__ import annotations

from dataclasses import dataclass

from shared.detectors.effects import End, Memory
from shared.port.port import here
from shared.scenario import keys
from shared.scenario.names import Place
from shared.scenario.steps.errnos import errno
from shared.scenario.steps.step import BOTH, Args, Call, Key, Plain, Refused, Where, leaves_memory_alone, step
from shared.uvm.mmap import (
    sys_madvise,
    sys_mincore,
    sys_minherit,
    sys_mlock,
    sys_mmap,
    sys_mprotect,
    sys_msync,
    sys_munlock,
    sys_munmap,
    sys_shmat,
)
from shared.uvm.param import (
    MADV_DONTNEED,
    MADV_FREE,
    MADV_NORMAL,
    MADV_RANDOM,
    MADV_SEQUENTIAL,
    MADV_SPACEAVAIL,
    MADV_WILLNEED,
    MAP_ANON,
    MAP_INHERIT_COPY,
    MAP_INHERIT_NONE,
    MAP_INHERIT_SHARE,
    MAP_PRIVATE,
    MAP_SHARED,
    MS_ASYNC,
    MS_INVALIDATE,
    MS_SYNC,
    VM_PROT_EXECUTE,
    VM_PROT_NONE,
    VM_PROT_READ,
    VM_PROT_WRITE,
)
from shared.uvm.physio import sys_physio
from shared.uvm.structs import Shm, Vnode, uvmexp
from shared.uvm.trap import user_read, user_write

CALLS, ACCESSES = "system calls", "accesses"
RW = VM_PROT_READ | VM_PROT_WRITE
PROTECTIONS: dict[str, Plain] = {
    "none": VM_PROT_NONE,
    "r": VM_PROT_READ,
    "rw": RW,
    "rx": VM_PROT_READ | VM_PROT_EXECUTE,
    "rwx": RW | VM_PROT_EXECUTE,
}
#: madvise(2), in lower case
ADVICE: dict[str, Plain] = {
    "free": MADV_FREE,
    "dontneed": MADV_DONTNEED,
    "random": MADV_RANDOM,
    "sequential": MADV_SEQUENTIAL,
    "normal": MADV_NORMAL,
    "willneed": MADV_WILLNEED,
    "spaceavail": MADV_SPACEAVAIL,
}
#: msync(2), in lower case
SYNCING = {"async": MS_ASYNC, "sync": MS_SYNC, "invalidate": MS_INVALIDATE}
INHERITANCES: dict[str, Plain] = {"none": MAP_INHERIT_NONE, "copy": MAP_INHERIT_COPY, "share": MAP_INHERIT_SHARE}

IN = Key("in", keys.IN_PROCESS, where=Where.SETUP)
AT, PAGES = Key("at", keys.ADDRESS), Key("pages", keys.PAGES)
RANGE = (IN, AT, PAGES)
VALUE = Key("value", keys.whole(0, keys.MAX_WORD, "the value"))


@dataclass(frozen=True, slots=True, kw_only=True)
class OfProcess(Args):
    """A step of a process; in the setup, `in` names the process."""

    in_: str | None = None

    @property
    def process(self) -> str:
        return self.in_ or ""


@dataclass(frozen=True, slots=True, kw_only=True)
class OfRange(OfProcess):
    """A step on whole pages: `length` bytes from address `at`."""

    at: int
    length: int

    @property
    def npages(self) -> int:
        return self.length // here.port.page_size


@dataclass(frozen=True, slots=True, kw_only=True)
class OfRegion(OfProcess):
    """A step that maps a new region."""

    as_: str
    at: int
    length: int

    @property
    def npages(self) -> int:
        return self.length // here.port.page_size


@step(
    "mmap", CALLS, BOTH,
    (
        IN, Key("as", keys.NEW_REGION), PAGES,
        Key("prot", keys.choice("protection", PROTECTIONS), optional=True, default=RW),
        Key("flags", keys.MAP_FLAGS, optional=True), Key("file", keys.FILE, optional=True),
        Key("shm", keys.SEGMENT, optional=True), Key("offset", keys.OFFSET, optional=True),
    ),
)  # fmt: skip
class Mmap(OfRegion):
    """Map anonymous memory, a file, or a shared memory segment: mmap(2), shmat(2).

    Keys:
        prot: the protection of the region; default rw.
        file: the file to map; without `file` and `shm` the memory is anonymous.
        shm: the segment to map.
    """

    prot: int
    shared: bool
    file: int | None = None
    shm: int | None = None
    offset: int | None = None

    @classmethod
    def check(cls, place: Place) -> None:
        if {"file", "shm"} <= place.keys.keys():
            place.keys["shm"].fail("a mapping is of a file or of a segment, not of both")

    def perform(self, call: Call) -> int | str:
        sharing = MAP_SHARED if self.shared else MAP_PRIVATE
        me, at, npages, offset = call.me, self.at, self.npages, self.offset or 0
        if self.shm is not None:
            return errno(sys_shmat(me, at, npages, self.prot, Shm.at(self.shm), offset))
        if self.file is not None:
            return errno(sys_mmap(me, at, npages, self.prot, sharing, Vnode.at(self.file), offset))
        return errno(sys_mmap(me, at, npages, self.prot, MAP_ANON | sharing))

    def effect(self, memory: Memory, proc: str) -> End | None:
        what = ("file", self.file) if self.file is not None else None if self.shm is None else ("shm", self.shm)
        return memory.map(proc, memory.pages(self.at, self.length), self.prot, self.shared, what, self.offset or 0)

    def foresee(self, memory: Memory) -> None:
        if self.file is not None and (self.offset or 0) + self.length > memory.files.sizes[self.file]:
            memory.may_lack_pages = True  # beyond the end of a file there are none


@step("munmap", CALLS, BOTH, RANGE)
class Munmap(OfRange):
    """Unmap pages: munmap(2)."""

    def perform(self, call: Call) -> int | str:
        return errno(sys_munmap(call.me, self.at, self.npages))

    def effect(self, memory: Memory, proc: str) -> End | None:
        return memory.change(proc, memory.pages(self.at, self.length), lambda vpn, view: None)


@step("minherit", CALLS, BOTH, (*RANGE, Key("inherit", keys.choice("inheritance", INHERITANCES))))
class Minherit(OfRange):
    """Set the inheritance of pages by a child: minherit(2).

    Keys:
        inherit: the child gets nothing, a copy, or the same memory.
    """

    inherit: int

    def perform(self, call: Call) -> int | str:
        return errno(sys_minherit(call.me, self.at, self.npages, self.inherit))

    def effect(self, memory: Memory, proc: str) -> End | None:
        return memory.alter(proc, memory.pages(self.at, self.length), lambda view: view.inherited(self.inherit))


@step("mprotect", CALLS, BOTH, (*RANGE, Key("prot", keys.choice("protection", PROTECTIONS))))
class Mprotect(OfRange):
    """Change the protection of pages: mprotect(2).

    Keys:
        prot: the new protection.
    """

    prot: int

    def perform(self, call: Call) -> int | str:
        return errno(sys_mprotect(call.me, self.at, self.npages, self.prot))

    def effect(self, memory: Memory, proc: str) -> End | None:
        return memory.alter(proc, memory.pages(self.at, self.length), lambda view: view.protected(self.prot))


@step("madvise", CALLS, BOTH, (*RANGE, Key("advice", keys.choice("advice", ADVICE))))
class Madvise(OfRange):
    """Tell the kernel how the process will use pages: madvise(2).

    Keys:
        advice: an advice of madvise(2), in lower case; free: the contents are no longer needed.
    """

    advice: int

    def perform(self, call: Call) -> int | str:
        return errno(sys_madvise(call.me, self.at, self.npages, self.advice))

    def effect(self, memory: Memory, proc: str) -> End | None:
        return memory.throw_away(proc, memory.pages(self.at, self.length)) if self.advice == MADV_FREE else None


@step("msync", CALLS, Where.PROGRAM, (AT, PAGES, Key("flags", keys.flags(SYNCING))))
class Msync(OfRange):
    """Write modified pages of files to the disk: msync(2).

    Keys:
        flags: flags of msync(2), in lower case.
    """

    flags: int

    effect = leaves_memory_alone

    def perform(self, call: Call) -> int | str:
        return errno(sys_msync(call.me, self.at, self.npages, self.flags))


@step("mincore", CALLS, Where.PROGRAM, (AT, Key("pages", keys.pages_up_to(64))))
class Mincore(OfRange):
    """Return a number whose bit i is 1 if page i is in memory: mincore(2)."""

    effect = leaves_memory_alone

    def perform(self, call: Call) -> int | str:
        error, resident = sys_mincore(call.me, self.at, self.npages)
        return errno(error) or resident


@step("mlock", CALLS, BOTH, RANGE)
class Mlock(OfRange):
    """Lock pages in memory: mlock(2)."""

    effect = leaves_memory_alone

    def perform(self, call: Call) -> int | str:
        return errno(sys_mlock(call.me, self.at, self.npages))


@step("munlock", CALLS, BOTH, RANGE)
class Munlock(OfRange):
    """Unlock pages: munlock(2)."""

    effect = leaves_memory_alone

    def perform(self, call: Call) -> int | str:
        return errno(sys_munlock(call.me, self.at, self.npages))


@step(
    "physio", CALLS, Where.PROGRAM,
    (
        Key("do", keys.choice("direction", {"read": False, "write": True}, field="write")), AT, PAGES,
        Key("block", keys.BLOCK),
        Key("status", keys.WORD_ADDRESS, optional=True, default=0),
    ),
)  # fmt: skip
class Physio(OfRange):
    """Move whole pages between memory and the machine's disk by DMA: read(2) and write(2) of a raw device.

    Keys:
        do: read: from the disk into memory; write: from memory to the disk.
        block: the first block of the disk; a block has the size of a page.
        status: the disk's interrupt stores the number of moved pages in this word, through the process's own mapping.
    """

    write: bool
    block: int
    status: int

    def perform(self, call: Call) -> int | str:
        return errno(sys_physio(call.me, self.at, self.npages, self.block, self.write, self.status))

    def effect(self, memory: Memory, proc: str) -> End | None:
        vpns = memory.pages(self.at, self.length)
        return memory.write_blocks(proc, vpns, self.block) if self.write else memory.read_blocks(proc, vpns, self.block)


@step("read", ACCESSES, Where.PROGRAM, (Key("at", keys.WORD_ADDRESS),), system_call=False)
class Read(OfProcess):
    """Load a 64-bit word through the MMU. Returns its value, SIGSEGV or SIGBUS."""

    at: int

    def perform(self, call: Call) -> int | str:
        signal, value = user_read(self.at)
        return signal if value is None else value

    def effect(self, memory: Memory, proc: str) -> End | None:
        return memory.access(proc, self.at, VM_PROT_READ)


@step("write", ACCESSES, BOTH, (IN, Key("at", keys.WORD_ADDRESS), VALUE), system_call=False)
class Write(OfProcess):
    """Store a 64-bit word through the MMU. Returns 0, SIGSEGV or SIGBUS."""

    at: int
    value: int

    def perform(self, call: Call) -> int | str:
        signal, _ = user_write(self.at, self.value)
        return 0 if signal == "ok" else signal

    def effect(self, memory: Memory, proc: str) -> End | None:
        return memory.access(proc, self.at, VM_PROT_WRITE)

    def setup_effect(self, memory: Memory) -> None:
        memory.put(self.in_ or "", self.at, self.value)


@step("fill", "of tests", Where.SETUP, (IN, Key("until_free", keys.UNTIL_FREE)))
class Fill(OfRegion):
    """Use up memory: write pages of a new private region `fill`, as large as memory, until few pages are free.

    Page i of it then reads i+1.
    """

    prot: int = RW
    until_free: int

    def perform(self, call: Call) -> int | str:
        size, until, npages = here.port.page_size, self.until_free, self.npages
        free = uvmexp.free
        if free < until:
            raise Refused(f"only {free} pages are free already", "until_free")
        if error := sys_mmap(call.me, self.at, npages, self.prot, MAP_ANON | MAP_PRIVATE):
            raise Refused(f"gave {errno(error)}")
        page = 0
        while uvmexp.free > until:
            if page == npages:
                raise Refused(f"wrote {npages} pages, and {uvmexp.free} are still free", "until_free")
            signal, _ = user_write(self.at + page * size, page + 1)
            if signal != "ok":
                raise Refused(f"gave {signal} at page {page}")
            page += 1
        return 0

    def effect(self, memory: Memory, proc: str) -> End | None:
        """How many of its pages were written depends on how much memory was free."""
        vpns = memory.pages(self.at, self.length)
        end = memory.map(proc, vpns, self.prot, False, None, 0)
        for number, vpn in enumerate(vpns):
            memory.may_hold(proc, vpn, number + 1)
        return end
