"""What a thread of a scenario runs: its steps, one system call or access after another.

Rules:

- Between two steps the thread is in user mode: another thread of its CPU may go first.
- A step answers a value, 0, or the name of an errno or signal. A refused access
  is one such answer; the program goes on, as in a litmus test.
- A program that ends without `exit` ends its thread all the same.
- Setup steps must succeed: one that does not is the scenario's mistake.

Not part of the modelled kernel: `Barrier`, `Litmus` and `Kvar`, helpers of tests.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NoReturn

from shared.errors import UserMistake
from shared.port import SPL_CLOCK, SPL_IMP, SPL_NONE, here, kernel
from shared.scenario import KERNEL_STEPS, VM_MAX_ADDRESS, VM_MIN_ADDRESS, Handler, Lwp, Scenario, Step
from shared.struct import Field, Struct, field, own, simplelock
from shared.uvm.init import uvm_init
from shared.uvm.km import uvm_km_free, uvm_km_kmemalloc, uvm_km_valloc
from shared.uvm.loan import loan_map, loan_peek, loan_return, loan_take
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
    sys_shmget,
    sys_shmrm,
)
from shared.uvm.param import (
    EFAULT,
    ENOMEM,
    ERRNO_NAMES,
    MAP_ANON,
    MAP_PRIVATE,
    MAP_SHARED,
    SIDL,
    SWAP_OFF,
    SWAP_ON,
    UVM_KMF_NOWAIT,
)
from shared.uvm.physio import sys_physio
from shared.uvm.proc import curmap_of, exit1, fork1, proc_setup, sys_pause, sys_wait
from shared.uvm.structs import Loan, Proc, Shm, UvmObject, VmMap, VmMapIntrsafe, Vnode, uvm, uvmexp
from shared.uvm.swapctl import sys_swapctl
from shared.uvm.trap import kernel_access, user_read, user_write
from shared.uvm.vnode import sys_ftruncate, uvm_vnp_uncache, vn_rdwr, vnode_make

Procs = Mapping[str, Proc]
#: steps that do not enter the kernel by a system call: the user's accesses, whose traps do; devices; helpers of tests
UNLOCKED = frozenset(
    ("read", "write", "send", "barrier", "count", "kload", "kstore", "klock", "kunlock", "kwait", "kwakeup")
)


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

    Whoever uses it while another frees the memory is on his own, as in C.
    """

    guards = {"o": own("k_lock")}
    k_lock = simplelock("kvar")
    address: Field[int] = field("o", hint=True)


def run_handler(handler: Handler) -> None:
    """What a device's interrupt runs, each time."""
    ctx = here.port.cur
    here.port.enter(f"{handler.name.rstrip('0123456789')}intr")
    for index, step in enumerate(handler.steps):
        result = kernel_step(step, interrupt=True)
        ctx.results.append({"step": index, "op": step.op, "result": result, "into": step.into})
    here.port.exit()


def run_program(lwp: Lwp, procs: Procs) -> None:
    """Run a thread's program to its end; results go to the context's `results`.

    Args:
        procs: every process of the scenario by name.
    """
    ctx = here.port.cur
    me = procs[lwp.proc]
    for index, step in enumerate(lwp.program):
        if index:
            here.port.userret()
        here.port.called(step.op, step.args)
        result = _step(step, me, procs) if step.op in UNLOCKED else _syscall(step, me, procs)
        here.port.returned(step.op, result)
        ctx.results.append({"step": index, "op": step.op, "result": result, "into": step.into})
        if step.op == "exit":
            return
    here.port.kernel_proc_lock("syscall")
    exit1(me)
    here.port.kernel_proc_unlock()


def _syscall(step: Step, me: Proc, procs: Procs) -> int | str:
    """Perform a step in the kernel: on a machine with the big lock, with that held but for sleeps."""
    here.port.kernel_proc_lock("syscall")
    result = _step(step, me, procs)
    here.port.kernel_proc_unlock()
    return result


def _step(step: Step, me: Proc, procs: Procs) -> int | str:
    """Perform one step on behalf of process `me`; returns its result."""
    args = step.args
    match step.op:
        case "read":
            signal, value = user_read(args["at"])
            return signal if value is None else value
        case "write":
            signal, _ = user_write(args["at"], args["value"])
            return 0 if signal == "ok" else signal
        case "fork":
            return _errno(fork1(me, procs[args["as"]]))
        case "wait":
            return _errno(sys_wait(procs[args["for"]]))
        case "exit":
            exit1(me)
            return 0
        case "pause":
            sys_pause(me)
            return 0
        case "barrier":
            barrier(Barrier.at(args["number"]))
            return 0
        case "fread" | "fwrite" | "ftruncate" | "uncache" | "shm" | "shm_remove":
            return _object_step(step)
        case "count":
            return int(getattr(uvmexp, args["of"]))
        case "kpeek":
            error, word = loan_peek(Loan.at(args["number"]), args["page"])
            return _errno(error) or word
        case "unloan":
            return _errno(loan_return(Loan.at(args["number"])))
        case "swapctl":
            cmd = SWAP_ON if args["on"] else SWAP_OFF
            return _errno(sys_swapctl(me, cmd, args["device"], args["priority"]))
    if step.op in KERNEL_STEPS:
        return kernel_step(step)
    npages = args["length"] // here.port.page_size
    match step.op:
        case "mmap":
            sharing = MAP_SHARED if args["shared"] else MAP_PRIVATE
            if "shm" in args:
                return _errno(sys_shmat(me, args["at"], npages, args["prot"], Shm.at(args["shm"]), args["offset"]))
            if "file" in args:
                vp = Vnode.at(args["file"])
                return _errno(sys_mmap(me, args["at"], npages, args["prot"], sharing, vp, args["offset"]))
            return _errno(sys_mmap(me, args["at"], npages, args["prot"], MAP_ANON | sharing))
        case "msync":
            return _errno(sys_msync(me, args["at"], npages, args["flags"]))
        case "munmap":
            return _errno(sys_munmap(me, args["at"], npages))
        case "minherit":
            return _errno(sys_minherit(me, args["at"], npages, args["inherit"]))
        case "mprotect":
            return _errno(sys_mprotect(me, args["at"], npages, args["prot"]))
        case "madvise":
            return _errno(sys_madvise(me, args["at"], npages, args["advice"]))
        case "physio":
            return _errno(sys_physio(me, args["at"], npages, args["block"], args["write"], args["status"]))
        case "loan":
            return _errno(loan_take(Loan.at(args["number"]), curmap_of(me), args["at"], npages, args["flags"]))
        case "map_loan":
            return _errno(loan_map(Loan.at(args["number"]), curmap_of(me), args["at"], npages))
        case "mincore":
            error, resident = sys_mincore(me, args["at"], npages)
            return _errno(error) or resident
        case "mlock":
            return _errno(sys_mlock(me, args["at"], npages))
        case "munlock":
            return _errno(sys_munlock(me, args["at"], npages))
    raise AssertionError(f"no step {step.op}")


def kernel_step(step: Step, interrupt: bool = False) -> int | str:
    """Perform a step of the kernel's own; in an interrupt it does not wait for memory."""
    args = step.args
    match step.op:
        case "kload":
            return kload(Litmus.at(args["number"]))
        case "kstore":
            kstore(Litmus.at(args["number"]), args["value"])
        case "klock":
            klock(Litmus.at(args["number"]))
        case "kunlock":
            kunlock(Litmus.at(args["number"]))
        case "kwait":
            kwait(Litmus.at(args["number"]))
        case "kwakeup":
            kwakeup(Litmus.at(args["number"]), args["value"])
        case "send":
            here.port.op("dev_send", args["number"])
        case "km_alloc":
            return _errno(km_alloc(Kvar.at(args["number"]), args["map"], args["pages"], interrupt))
        case "km_free":
            return _errno(km_free(Kvar.at(args["number"]), args["map"], args["byte"], args["pages"]))
        case "kread" | "kwrite":
            va = Kvar.at(args["number"]).address + args["byte"]
            write = step.op == "kwrite"
            value = kernel_access(va, write, args.get("value", 0), args["onfault"])
            return "EFAULT" if value is None else 0 if write else value
    return 0


def _object_step(step: Step) -> int | str:
    """Perform a step that concerns a file or a shared memory segment, and no process."""
    args = step.args
    match step.op:
        case "fread":
            error, word = vn_rdwr(Vnode.at(args["file"]), args["at"], False)
            return _errno(error) or word
        case "fwrite":
            error, _ = vn_rdwr(Vnode.at(args["file"]), args["at"], True, args["value"])
            return _errno(error)
        case "ftruncate":
            return _errno(sys_ftruncate(Vnode.at(args["file"]), args["size"]))
        case "uncache":
            uvm_vnp_uncache(Vnode.at(args["file"]))
            return 0
        case "shm":
            return _errno(sys_shmget(Shm.at(args["shm"]), args["pages"]))
        case "shm_remove":
            return _errno(sys_shmrm(Shm.at(args["shm"])))
    raise AssertionError(f"no step {step.op}")


def _errno(error: int) -> int | str:
    return ERRNO_NAMES.get(error, f"errno {error}") if error else 0


@kernel(exit="none")
def barrier(one: Barrier) -> None:
    """Wait until every thread that names this barrier has come.

    Sleeps:  on the barrier ("barrier").
    """
    one.b_lock.lock()
    missing = one.b_missing - 1
    one.b_missing = missing
    if missing:
        here.port.sleep(one.address, "barrier", one.b_lock)
    else:
        here.port.wakeup(one.address)
        one.b_lock.unlock()


@kernel(exit="same")
def kload(word: Litmus) -> int:
    """One load; the lock is the program's affair."""
    return word.value


@kernel(exit="same")
def kstore(word: Litmus, value: int) -> None:
    """One store; the lock is the program's affair."""
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
    """Wait until the word is not 0, which an interrupt may see to.

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
    """Store a value and wake who waits for the word."""
    s = here.port.splraise(SPL_CLOCK)
    word.l_lock.lock()
    word.value = value
    here.port.wakeup(word.address)
    word.l_lock.unlock()
    here.port.spl(s)


def _kernel_map(name: str) -> tuple[VmMap, UvmObject | None]:
    """The map of that name, and the object of its wired memory; None: it is pageable."""
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


# -- setup -------------------------------------------------------------------------


def run_init(scenario: Scenario) -> None:
    """Start UVM; the first thing that context `boot` runs."""
    config = scenario.machine
    uvm_init(
        config.frames,
        config.anons,
        [(device.slots, device.priority) for device in config.swap_devices],
        reserve_pagedaemon=config.reserve_pagedaemon,
        reserve_kernel=config.reserve_kernel,
        freemin=config.freemin,
        freetarg=config.freetarg,
        kernel=config.kernel,
    )


def run_setup(scenario: Scenario, procs: Procs, begun: list[int]) -> None:
    """Perform the setup steps; what context `boot` runs when UVM has started.

    Args:
        begun: takes the index of each step, when that begins.

    Raises: UserMistake - a step cannot be done on this machine.
    """
    for proc in procs.values():
        made = here.port.alloc(Proc)
        assert made == proc, "procs are numbered in order of names"
        proc.p_stat = SIDL
        proc.p_vmspace = None
        proc.p_lwps = 0
    for number, name in enumerate(scenario.barriers):
        one = here.port.alloc(Barrier)
        assert one == Barrier.at(number)
        steps = [step for lwp in scenario.lwps for step in lwp.program if step.op == "barrier"]
        one.b_missing = sum(step.args["name"] == name for step in steps)
    for number, _ in enumerate(scenario.words):
        word = here.port.alloc(Litmus)
        assert word == Litmus.at(number)
        word.value = 0
    for number, _ in enumerate(scenario.kvars):
        variable = here.port.alloc(Kvar)
        assert variable == Kvar.at(number)
        variable.address = 0
    for number, _ in enumerate(scenario.segments):
        segment = here.port.alloc(Shm)
        assert segment == Shm.at(number)
        segment.shm_object = None
    for number, _ in enumerate(scenario.loans):
        loan = here.port.alloc(Loan)
        assert loan == Loan.at(number)
        loan.l_flags = 0
        loan.l_npages = 0
        loan.l_result = None
    ctx = here.port.cur
    for index, step in enumerate(scenario.setup):
        begun.append(index)
        if step.op == "process":
            lwps = sum(lwp.proc == step.args["as"] for lwp in scenario.lwps)
            proc_setup(procs[step.args["as"]], VM_MIN_ADDRESS, VM_MAX_ADDRESS, max(lwps, 1))
        elif step.op in KERNEL_STEPS:
            if result := kernel_step(step):
                _refuse(scenario, index, f"gave {result}")
        elif step.op == "file":
            _make_file(step)
        elif step.op != "thread" and "in" not in step.args:
            if result := _object_step(step):
                _refuse(scenario, index, f"gave {result}")
        elif step.op != "thread":
            ctx.proc = procs[step.args["in"]]
            if step.op == "fill":
                _fill(scenario, index, ctx.proc)
            elif result := _step(step, ctx.proc, procs):
                _refuse(scenario, index, f"gave {result}")
    ctx.proc = None


def _make_file(step: Step) -> None:
    """A file as it is before anybody has opened it: on the disk."""
    args = step.args
    for page, word in enumerate(args["words"]):
        here.port.op("disk_format", args["block"] + page, ([word],))
    made = vnode_make(args["block"], args["pages"])
    assert made == Vnode.at(args["file"]), "files are numbered in order of names"


def _fill(scenario: Scenario, index: int, proc: Proc) -> None:
    """Write page after page of region `fill` until few enough pages are free."""
    step, size = scenario.setup[index], here.port.page_size
    start, until = step.args["at"], step.args["until_free"]
    npages = step.args["length"] // size
    free = uvmexp.free
    if free < until:
        _refuse(scenario, index, f"only {free} pages are free already", "until_free")
    if error := sys_mmap(proc, start, npages, step.args["prot"], MAP_ANON | MAP_PRIVATE):
        _refuse(scenario, index, f"gave {_errno(error)}")
    page = 0
    while uvmexp.free > until:
        if page == npages:
            _refuse(scenario, index, f"wrote {npages} pages, and {uvmexp.free} are still free", "until_free")
        signal, _ = user_write(start + page * size, page + 1)
        if signal != "ok":
            _refuse(scenario, index, f"gave {signal} at page {page}")
        page += 1


def _refuse(scenario: Scenario, index: int, why: str, key: str = "") -> NoReturn:
    step = scenario.setup[index]
    place = f"setup[{index}].{step.op}" + (f".{key}" if key else "")
    raise UserMistake(f"this setup step {why}", file=scenario.file, line=step.line, field=place)
