"""Steps that concern files, which lie on the machine's disk (`disk: 8`), and shared memory segments.

A segment may be made by one program and mapped by another.
"""

from __future__ import annotations

from shared.detectors.effects import End, Memory
from shared.port.port import here
from shared.scenario import keys
from shared.scenario.names import MAX_REGION_PAGES
from shared.scenario.steps.errnos import errno
from shared.scenario.steps.memory import VALUE
from shared.scenario.steps.step import BOTH, Args, Call, Key, Where, leaves_memory_alone, step
from shared.uvm.mmap import sys_shmget, sys_shmrm
from shared.uvm.structs import Shm, Vnode
from shared.uvm.vnode import sys_ftruncate, uvm_vnp_uncache, vn_rdwr, vnode_make

FAMILY = "files, shared memory"
PAGES = Key("pages", keys.whole(1, MAX_REGION_PAGES, "how many pages it has"))
AT = Key("at", keys.FILE_WORD)
FILE = Key("file", keys.FILE)


@step("file", FAMILY, Where.SETUP, (Key("as", keys.NEW_FILE), PAGES, Key("words", keys.FILE_WORDS, optional=True)))
class MakeFile(Args):
    """Make a file in the first free blocks of the disk."""

    as_: str
    file: int
    block: int
    pages: int
    words: tuple[int, ...] = ()

    def perform(self, call: Call) -> int | str:
        """The file before its first open: its data is on the disk."""
        for page, word in enumerate(self.words):
            here.port.op("disk_format", self.block + page, ([word],))
        made = vnode_make(self.block, self.pages)
        assert made == Vnode.at(self.file), "files are numbered in order of names"
        return 0

    def effect(self, memory: Memory, proc: str) -> None:
        memory.files.make(self.file, self.pages, self.block, self.words)

    def foresee(self, memory: Memory) -> None:
        memory.files.sizes[self.file] = self.pages * memory.page_size


@step("fread", FAMILY, Where.PROGRAM, (AT,))
class Fread(Args):
    """Read a word of a file: read(2). Returns its value."""

    at: int
    file: int

    def perform(self, call: Call) -> int | str:
        error, word = vn_rdwr(Vnode.at(self.file), self.at, False)
        return errno(error) or word

    def effect(self, memory: Memory, proc: str) -> End | None:
        return memory.files.read(self.file, self.at)


@step("fwrite", FAMILY, BOTH, (AT, VALUE))
class Fwrite(Args):
    """Write a word of a file: write(2)."""

    at: int
    file: int
    value: int

    def perform(self, call: Call) -> int | str:
        error, _ = vn_rdwr(Vnode.at(self.file), self.at, True, self.value)
        return errno(error)

    def effect(self, memory: Memory, proc: str) -> End | None:
        return memory.files.write(self.file, self.at, self.value)

    def setup_effect(self, memory: Memory) -> None:
        cell, word = memory.files.word(self.file, self.at)
        cell.write(word, (self.value, None))


@step("ftruncate", FAMILY, Where.PROGRAM, (FILE, Key("pages", keys.FILE_SIZE)))
class Ftruncate(Args):
    """Change the length of a file, at most to its first length: ftruncate(2)."""

    file: int
    size: int

    def perform(self, call: Call) -> int | str:
        return errno(sys_ftruncate(Vnode.at(self.file), self.size))

    def effect(self, memory: Memory, proc: str) -> End | None:
        return memory.files.truncate(self.file, self.size)

    def foresee(self, memory: Memory) -> None:
        memory.may_lack_pages = True


@step("uncache", FAMILY, BOTH, (FILE,))
class Uncache(Args):
    """Make the kernel free a file's pages when the file is no longer in use: uvm_vnp_uncache()."""

    file: int

    effect = leaves_memory_alone

    def perform(self, call: Call) -> int | str:
        uvm_vnp_uncache(Vnode.at(self.file))
        return 0


@step("shm", FAMILY, BOTH, (Key("as", keys.NEW_SEGMENT), PAGES))
class MakeSegment(Args):
    """Make a shared memory segment: shmget(2). Step mmap maps it with `shm: NAME`."""

    shm: int
    pages: int

    effect = leaves_memory_alone

    def perform(self, call: Call) -> int | str:
        return errno(sys_shmget(Shm.at(self.shm), self.pages))


@step("shm_remove", FAMILY, Where.PROGRAM, (Key("shm", keys.SEGMENT),))
class RemoveSegment(Args):
    """Remove a shared memory segment: shmctl(2) with IPC_RMID. Existing mappings stay."""

    shm: int

    def perform(self, call: Call) -> int | str:
        return errno(sys_shmrm(Shm.at(self.shm)))

    def effect(self, memory: Memory, proc: str) -> End | None:
        return memory.files.remove_segment(self.shm)
