"""The steps of a scenario: what each does, the keys it takes, the words that their values can be.

A child inherits the names of its parent's regions as of its fork. `fill` takes
memory until no more than `until_free` pages are free, in a private region
called `fill` as large as memory; page i of it then reads i+1.

`physio` moves whole pages between memory and the disk (if the machine has one,
`disk: 8`), by DMA; with `status`, the disk's interrupt stores the number of pages
moved in that word, through the process's own mapping.

A machine with a disk may have files: `file: {as: F, pages: 4, words: [7, 8]}` makes one of
four pages, of which the first begin with these words, in the disk's first blocks that are
no other file's. `mmap` maps it (`file: F`, and `offset` in pages); `fread` and `fwrite` do to a
word of it, as `F[1]+8`, what read(2) and write(2) do; `ftruncate` makes it shorter, or as
long as it was made; `uncache` sees that its pages do not stay in memory when nobody uses it.

`shm` makes a segment of shared memory, which `mmap` maps with `shm: NAME`, and `shm_remove`
removes; a segment may be made by a program and mapped by another.

`count` answers an event counter of uvmexp, as `faults`, as the thread's own CPU has counted it since the run began; or
a counter of state, as `free`, or `pdpageouts` (since boot), as it is now.

`swapctl` begins (`do: on`) or ends (`do: off`) swapping to a device of the machine. When it boots all
are on; they are numbered from 0, in the order of `swap: {devices: [...]}`.

`pause` ends a program without ending its thread: it sleeps, and keeps its memory, to the end of the run.

`mincore` answers a number of which bit i says whether page i of the range is resident.

`loan` lends pages of the process to the kernel (`to: page`), which calls what it got
by the name given; or their anons (`to: anon`). `kpeek` answers the first word of a
borrowed page, `page: 0` unless it says which; `map_loan` maps borrowed anons in the
process, as private memory; `unloan` gives everything back. Any thread may do that,
before or after the lender has ended.

What no user call reaches, a kernel step does: `kload` and `kstore` are one bare
load and store of a named word of the kernel, `klock` and `kunlock` take and
release the lock that is meant to guard it. Words come into being by being
named, with the value 0; word i is on memory shard i modulo the shards. `kwait`
sleeps until a word is not 0, `kwakeup` stores a value and wakes.

If the machine has kernel maps (`kernel: {map: 4, kmem: 8, mb: 4, exec: 8}`, in pages),
`km_alloc` takes memory from one of them and keeps its address in a variable of the
kernel, named by `as`; `km_free`, `kread` and `kwrite` use what is there, also when the
memory has been freed. A kread or kwrite for which there is no memory is a panic, or with
`onfault: true` answers EFAULT. `kmem`, `mb` and `map` are wired, `exec` is pageable.

If it has devices (`devices: {net0: imp}`, each with the level of its interrupt: bio, imp
or clock), `send` gives one of them something to do, and its interrupt comes. What
that does, on which CPU, is said in the section `interrupts`:

    interrupts:
      net0: {cpu: 0, steps: [ {km_alloc: {map: mb, pages: 1, as: m}}, ... ]}

There are kernel steps alone there, those that do not wait.
"""

from __future__ import annotations

from shared.scenario import KERNEL_STEPS
from shared.struct import Stat
from shared.uvm import structs
from shared.uvm.param import (
    MADV_DONTNEED,
    MADV_FREE,
    MADV_NORMAL,
    MADV_RANDOM,
    MADV_SEQUENTIAL,
    MADV_SPACEAVAIL,
    MADV_WILLNEED,
    MAP_INHERIT_COPY,
    MAP_INHERIT_NONE,
    MAP_INHERIT_SHARE,
    MS_ASYNC,
    MS_INVALIDATE,
    MS_SYNC,
    UVM_LOAN_TOANON,
    UVM_LOAN_TOPAGE,
    VM_PROT_EXECUTE,
    VM_PROT_NONE,
    VM_PROT_READ,
    VM_PROT_WRITE,
)

PROTECTIONS = {
    "none": VM_PROT_NONE,
    "r": VM_PROT_READ,
    "rw": VM_PROT_READ | VM_PROT_WRITE,
    "rx": VM_PROT_READ | VM_PROT_EXECUTE,
    "rwx": VM_PROT_READ | VM_PROT_WRITE | VM_PROT_EXECUTE,
}
COUNTERS = tuple(name for name, one in structs.Uvmexp.fields.items() if isinstance(one, Stat) or one.hint)
#: madvise(2), in lower case
ADVICE = {
    "normal": MADV_NORMAL,
    "random": MADV_RANDOM,
    "sequential": MADV_SEQUENTIAL,
    "willneed": MADV_WILLNEED,
    "dontneed": MADV_DONTNEED,
    "spaceavail": MADV_SPACEAVAIL,
    "free": MADV_FREE,
}
#: msync(2), in lower case
SYNCING = {"async": MS_ASYNC, "sync": MS_SYNC, "invalidate": MS_INVALIDATE}
LOANS = {"anon": UVM_LOAN_TOANON, "page": UVM_LOAN_TOPAGE}
INHERITANCES = {"none": MAP_INHERIT_NONE, "copy": MAP_INHERIT_COPY, "share": MAP_INHERIT_SHARE}

#: required keys, optional keys
Keys = tuple[tuple[str, ...], tuple[str, ...]]

#: step -> the keys it takes
SETUP_STEPS: dict[str, Keys] = {
    "process": (("as", "cpu"), ()),
    "thread": (("in", "as", "cpu"), ()),
    "file": (("as", "pages"), ("words",)),
    "shm": (("as", "pages"), ()),
    "mmap": (("in", "as", "pages"), ("prot", "flags", "file", "shm", "offset")),
    "munmap": (("in", "at", "pages"), ()),
    "minherit": (("in", "at", "pages", "inherit"), ()),
    "mlock": (("in", "at", "pages"), ()),
    "munlock": (("in", "at", "pages"), ()),
    "mprotect": (("in", "at", "pages", "prot"), ()),
    "madvise": (("in", "at", "pages", "advice"), ()),
    "loan": (("in", "at", "pages", "to", "as"), ()),
    "write": (("in", "at", "value"), ()),
    "swapctl": (("in", "do", "device"), ()),
    "fill": (("in", "until_free"), ()),
    "fwrite": (("at", "value"), ()),
    "uncache": (("file",), ()),
    "km_alloc": (("map", "pages", "as"), ()),
    "km_free": (("at", "pages"), ()),
    "kwrite": (("at", "value"), ()),
}
PROGRAM_STEPS: dict[str, Keys] = {
    "mmap": (("as", "pages"), ("prot", "flags", "file", "shm", "offset")),
    "munmap": (("at", "pages"), ()),
    "minherit": (("at", "pages", "inherit"), ()),
    "mlock": (("at", "pages"), ()),
    "munlock": (("at", "pages"), ()),
    "mprotect": (("at", "pages", "prot"), ()),
    "madvise": (("at", "pages", "advice"), ()),
    "msync": (("at", "pages", "flags"), ()),
    "mincore": (("at", "pages"), ()),
    "physio": (("do", "at", "pages", "block"), ("status",)),
    "loan": (("at", "pages", "to", "as"), ()),
    "unloan": (("of",), ()),
    "map_loan": (("of", "as", "pages"), ()),
    "kpeek": (("of",), ("page",)),
    "write": (("at", "value"), ()),
    "read": (("at",), ()),
    "fread": (("at",), ()),
    "fwrite": (("at", "value"), ()),
    "ftruncate": (("file", "pages"), ()),
    "uncache": (("file",), ()),
    "shm": (("as", "pages"), ()),
    "shm_remove": (("shm",), ()),
    "fork": (("as", "program"), ("cpu",)),
    "swapctl": (("do", "device"), ()),
    "exit": ((), ()),
    "pause": ((), ()),
    "wait": (("for",), ()),
    "barrier": (("name",), ()),
    "count": (("of",), ()),
    "kload": (("word",), ()),
    "kstore": (("word", "value"), ()),
    "klock": (("word",), ()),
    "kunlock": (("word",), ()),
    "kwait": (("word",), ()),
    "kwakeup": (("word", "value"), ()),
    "send": (("to",), ()),
    "km_alloc": (("map", "pages", "as"), ()),
    "km_free": (("at", "pages"), ()),
    "kread": (("at",), ("onfault",)),
    "kwrite": (("at", "value"), ("onfault",)),
}
#: what the interrupt of a device may do
INTERRUPT_STEPS = {op: PROGRAM_STEPS[op] for op in KERNEL_STEPS if op not in ("kwait", "send")}
#: those that concern a file or a segment, and no process
OBJECT_STEPS = ("file", "shm", "fread", "fwrite", "ftruncate", "uncache", "shm_remove")
