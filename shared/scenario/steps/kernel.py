"""Steps that call functions of the kernel directly: words, memory of the kernel's maps, devices, barriers.

`kload` and `kstore` are one bare load and store of a named word; `klock` and `kunlock` take and release the word's
lock. A word exists if a step names it, and begins with the value 0; word i is on memory shard i modulo the shards. The
program is responsible for locking.

Not part of the modelled kernel: `Barrier`, `Litmus` and `Kvar`, helpers of tests.
"""

from __future__ import annotations

from dataclasses import dataclass

from shared.port.port import SPL_CLOCK, SPL_IMP, SPL_NONE, here, kernel
from shared.port.struct import Field, Struct, field, own, simplelock
from shared.scenario import keys
from shared.scenario.machine import MAX_FRAMES
from shared.scenario.steps.errnos import errno
from shared.scenario.steps.memory import VALUE
from shared.scenario.steps.step import EVERYWHERE, Args, Call, Key, Where, leaves_memory_alone, step
from shared.uvm.km import uvm_km_free, uvm_km_kmemalloc, uvm_km_valloc
from shared.uvm.param import EFAULT, ENOMEM, UVM_KMF_NOWAIT
from shared.uvm.structs import UvmObject, VmMap, VmMapIntrsafe, uvm
from shared.uvm.trap import kernel_access

FAMILY, TESTS = "kernel steps", "of tests"
NOT_SETUP = Where.PROGRAM | Where.INTERRUPT
WORD = Key("word", keys.WORD)
ONFAULT = Key("onfault", keys.TRUTH, optional=True, default=False, where=NOT_SETUP)


class Barrier(Struct, kind=32):
    """A meeting point of several threads, used once; number i is the scenario's i-th barrier."""

    guards = {"o": own("b_lock")}
    b_lock = simplelock("barrier")
    b_missing: Field[int] = field("o")  # threads that have not come yet


class Litmus(Struct, kind=33):
    """A named word for the kernel steps; number i is the scenario's i-th word, on memory shard i modulo the shards."""

    guards = {"o": own("l_lock")}
    l_lock = simplelock("litmus")
    value: Field[int] = field("o")


class Kvar(Struct, kind=56):
    """A named variable of the kernel that holds the address of memory it has allocated, for the kernel steps.

    A thread that uses it while another thread frees the memory gets no protection, as in C.
    """

    guards = {"o": own("k_lock")}
    k_lock = simplelock("kvar")
    address: Field[int] = field("o", hint=True)


@kernel(exit="none")
def barrier(meeting: Barrier) -> None:
    """Wait until every thread that names this barrier has come.

    Sleeps:  on the barrier ("barrier").
    """
    meeting.b_lock.lock()
    missing = meeting.b_missing - 1
    meeting.b_missing = missing
    if missing:
        here.port.sleep(meeting.address, "barrier", meeting.b_lock)
    else:
        here.port.wakeup(meeting.address)
        meeting.b_lock.unlock()


@kernel(exit="same")
def kload(word: Litmus) -> int:
    """One load; locking is the program's responsibility."""
    return word.value


@kernel(exit="same")
def kstore(word: Litmus, value: int) -> None:
    """One store; locking is the program's responsibility."""
    word.value = value


@kernel()
def klock(word: Litmus) -> None:
    """Returns with the word's lock."""
    word.l_lock.lock()


@kernel()
def kunlock(word: Litmus) -> None:
    """Returns without the word's lock."""
    word.l_lock.unlock()


@kernel(exit="same")
def kwait(word: Litmus) -> None:
    """Wait until the word is not 0; an interrupt may store a value in it.

    Sleeps:  on the word ("kwait").
    """
    s = here.port.splraise(SPL_CLOCK)
    word.l_lock.lock()
    while not word.value:
        here.port.sleep(word.address, "kwait", word.l_lock)
        word.l_lock.lock()
    word.l_lock.unlock()
    here.port.spl(s)


@kernel(exit="same")
def kwakeup(word: Litmus, value: int) -> None:
    """Store a value and wake the threads that wait for the word."""
    s = here.port.splraise(SPL_CLOCK)
    word.l_lock.lock()
    word.value = value
    here.port.wakeup(word.address)
    word.l_lock.unlock()
    here.port.spl(s)


def _kernel_map(name: str) -> tuple[VmMap, UvmObject | None]:
    """The map of that name, and the object of its wired memory; None: pageable memory."""
    maps: dict[str, tuple[VmMap | None, UvmObject | None]] = {
        "map": (uvm.kernel_map, uvm.kernel_object),
        "kmem": (uvm.kmem_map, uvm.kmem_object),
        "mb": (uvm.mb_map, uvm.mb_object),
        "exec": (uvm.exec_map, None),
    }
    map, uobj = maps[name]
    assert map is not None
    return map, uobj


@kernel(exit="same")
def km_alloc(variable: Kvar, name: str, npages: int, nowait: bool) -> int:
    """Allocate kernel memory, as malloc() and others do, and keep its address: 0 if there is none.

    Returns: 0 or ENOMEM.
    """
    port = here.port
    map, uobj = _kernel_map(name)
    if uobj is None:
        kva = uvm_km_valloc(map, npages * port.page_size)
    else:
        s = port.splraise(SPL_IMP if isinstance(map, VmMapIntrsafe) else SPL_NONE)
        kva = uvm_km_kmemalloc(map, uobj, npages * port.page_size, UVM_KMF_NOWAIT if nowait else 0)
        port.spl(s)
    variable.address = kva
    return 0 if kva else ENOMEM


@kernel(exit="same")
def km_free(variable: Kvar, name: str, offset: int, npages: int) -> int:
    """Free kernel memory, all or some pages of it; the address stays, and is stale.

    Returns: 0; EFAULT - it has never been allocated.
    """
    port = here.port
    address = variable.address
    if address == 0:
        return EFAULT
    map, _ = _kernel_map(name)
    s = port.splraise(SPL_IMP if isinstance(map, VmMapIntrsafe) else SPL_NONE)
    uvm_km_free(map, address + offset, npages * port.page_size)
    port.spl(s)
    return 0


# -- the steps -------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class OfWord(Args):
    """A step that concerns a word."""

    word: str
    number: int

    effect = leaves_memory_alone

    @property
    def litmus(self) -> Litmus:
        word: Litmus = Litmus.at(self.number)
        return word


@step("kload", FAMILY, NOT_SETUP, (WORD,), system_call=False)
class Kload(OfWord):
    """Load a word; the step takes no lock. Returns its value."""

    def perform(self, call: Call) -> int | str:
        return kload(self.litmus)


@step("kstore", FAMILY, NOT_SETUP, (WORD, VALUE), system_call=False)
class Kstore(OfWord):
    """Store a value in a word; the step takes no lock."""

    value: int

    def perform(self, call: Call) -> int | str:
        kstore(self.litmus, self.value)
        return 0


@step("klock", FAMILY, NOT_SETUP, (WORD,), system_call=False)
class Klock(OfWord):
    """Take the lock of a word."""

    def perform(self, call: Call) -> int | str:
        klock(self.litmus)
        return 0


@step("kunlock", FAMILY, NOT_SETUP, (WORD,), system_call=False)
class Kunlock(OfWord):
    """Release the lock of a word."""

    def perform(self, call: Call) -> int | str:
        kunlock(self.litmus)
        return 0


@step("kwait", FAMILY, Where.PROGRAM, (WORD,), system_call=False)
class Kwait(OfWord):
    """Sleep until a word is not 0."""

    def perform(self, call: Call) -> int | str:
        kwait(self.litmus)
        return 0


@step("kwakeup", FAMILY, NOT_SETUP, (WORD, VALUE), system_call=False)
class Kwakeup(OfWord):
    """Store a value in a word under its lock, and wake all threads that sleep in kwait for the word."""

    value: int

    def perform(self, call: Call) -> int | str:
        kwakeup(self.litmus, self.value)
        return 0


@step("send", FAMILY, Where.PROGRAM, (Key("to", keys.DEVICE),), system_call=False)
class Send(Args):
    """Give a device a request; the device then interrupts."""

    name: str
    number: int

    effect = leaves_memory_alone

    def perform(self, call: Call) -> int | str:
        here.port.op("dev_send", self.number)
        return 0


@dataclass(frozen=True, slots=True, kw_only=True)
class OfKernelMemory(Args):
    """A step that concerns memory of one of the kernel's maps; its address is in a variable."""

    name: str
    number: int
    map: str

    effect = leaves_memory_alone

    @property
    def variable(self) -> Kvar:
        variable: Kvar = Kvar.at(self.number)
        return variable


@step(
    "km_alloc", FAMILY, EVERYWHERE,
    (
        Key("map", keys.KERNEL_MAP), Key("pages", keys.whole(1, MAX_FRAMES, "how many pages")),
        Key("as", keys.NEW_VARIABLE),
    ),
)  # fmt: skip
class KmAlloc(OfKernelMemory):
    """Allocate memory from a map of the kernel, like malloc(), and keep its address in a variable.

    Answers 0, or ENOMEM if there is no memory. An interrupt does not wait for any.
    """

    pages: int

    def perform(self, call: Call) -> int | str:
        return errno(km_alloc(self.variable, self.map, self.pages, call.interrupt))


@step("km_free", FAMILY, EVERYWHERE, (Key("at", keys.KERNEL_PAGE), Key("pages", keys.PAGES)))
class KmFree(OfKernelMemory):
    """Free some or all pages that km_alloc has allocated. The variable keeps the address, which is then stale.

    Answers 0, or EFAULT if nothing was ever allocated.
    """

    byte: int
    pages: int

    def perform(self, call: Call) -> int | str:
        return errno(km_free(self.variable, self.map, self.byte, self.pages))


@dataclass(frozen=True, slots=True, kw_only=True)
class OfKernelWord(OfKernelMemory):
    """A load or store of kernel memory, which may have been freed."""

    byte: int
    onfault: bool = False

    def access(self, write: bool, value: int) -> int | str:
        word = kernel_access(self.variable.address + self.byte, write, value, self.onfault)
        return "EFAULT" if word is None else 0 if write else word


@step("kread", FAMILY, NOT_SETUP, (Key("at", keys.KERNEL_WORD), ONFAULT))
class Kread(OfKernelWord):
    """Load a word of kernel memory. Returns its value; if there is no memory at the address, the kernel panics.

    Keys:
        onfault: true: with no memory there it answers EFAULT instead; default false.
    """

    def perform(self, call: Call) -> int | str:
        return self.access(False, 0)


@step("kwrite", FAMILY, EVERYWHERE, (Key("at", keys.KERNEL_WORD), VALUE, ONFAULT))
class Kwrite(OfKernelWord):
    """Store a word of kernel memory; if there is no memory at the address, the kernel panics.

    Keys:
        onfault: true: with no memory there it answers EFAULT instead; default false.
    """

    value: int

    def perform(self, call: Call) -> int | str:
        return self.access(True, self.value)


@step("barrier", TESTS, Where.PROGRAM, (Key("name", keys.BARRIER),), system_call=False)
class Meet(Args):
    """Wait until every thread whose program names this barrier has come."""

    name: str
    number: int

    effect = leaves_memory_alone

    def perform(self, call: Call) -> int | str:
        barrier(Barrier.at(self.number))
        return 0
