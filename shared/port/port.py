"""What kernel code talks to: the only place where control leaves the kernel.

Every shared access of the kernel is one *operation*, performed through the
port that the engine has installed (`here.port`). The kernel never knows which
engine that is. A *context* is whatever performs operations: an LWP, an
interrupt, the pagedaemon, the swap pager's I/O. Its operations are numbered
1, 2, 3 ... whether or not a strategy was asked about them, so a schedule keyed
by (context, operation number) holds at any granularity.

The kinds of operation are OPERATIONS (shared/wire/messages.py).

`Port` below holds what does not depend on the engine: contexts, held locks, kernel stacks, spl and event counters;
LOCKDEBUG's checks are in lockdebug.py, findings, errata sites and kernel events in reports.py. An engine
supplies `perform` and `point`, and may override `load` and `store` for speed.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock, get_ident
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar, cast

from shared.patch import SEAMS, Seam
from shared.port.lockdebug import Lockdebug
from shared.port.reports import AGAIN
from shared.uvm.param import PMAP_KERNEL

if TYPE_CHECKING:
    from shared.port.lockref import LockRef
    from shared.port.struct import FieldBase, Struct
    from shared.scenario.model import StepResult

SPL_NONE, SPL_BIO, SPL_IMP, SPL_CLOCK, SPL_IPI, SPL_HIGH = 0, 3, 4, 6, 7, 8

#: instead of a process's number: an access of the kernel to memory of its own
NOBODY = -1
#: generation of a handle made from an address alone (PHYS_TO_VM_PAGE): good for whatever lives there now
ANY_GEN = 0xFFFFFFFF

S = TypeVar("S", bound="Struct")
#: what a field holds, or an operation answers: its type is in the declaration of the struct, or of the operation
Value = Any


class Held:
    """A lock that a context holds.

    Attributes:
        key: of the lock.
        mode: r (shared) or w.
        since: the function that took it.
    """

    __slots__ = ("key", "mode", "ref", "since")

    def __init__(self, ref: LockRef, mode: str, since: str):
        self.key, self.ref, self.mode, self.since = ref.key, ref, mode, since


#: no locks; never changed
NO_LOCKS: Final[list[Held]] = []


class Context:
    """A thread of control: an LWP, an interrupt, the pagedaemon, the I/O engine.

    Attributes:
        name: given by the scenario, never by creation order.
        cpu: the node that runs it.
        n: number of its operations so far.
        held: the locks that it holds, each once, in the order in which it took them; a list, as there are few.
        stack: kernel functions entered, outermost first.
        spl: interrupt priority level; interrupts at or below it stay pending.
        biglock: it holds the kernel's big lock (P_BIGLOCK), which is not among `held`.
        proc: handle of its Proc, or None for kernel contexts.
        ready: not waiting for a grant or wakeup.
        woken: its channel was woken, or its request granted, since it queued, maybe before it gave up its CPU.
        value: what the grant it waited for brought; of an interrupt, its message.
    """

    __slots__ = (
        "biglock", "chan", "cpu", "held", "level", "n", "name", "proc", "ready", "results", "spl", "stack", "value",
        "woken",
    )  # fmt: skip

    def __init__(self, name: str, cpu: str, level: int = SPL_NONE):
        self.name = name
        self.cpu = cpu
        self.level = level
        self.proc: Any = None
        self.reset()

    def reset(self) -> None:
        """Back to the state before its first operation."""
        self.n = 0
        self.chan = 0
        self.held: list[Held] = []
        self.stack: list[str] = []
        self.spl = self.level
        self.biglock = self.woken = False
        self.ready = True
        self.value: Value = None
        self.results: list[StepResult] = []

    @property
    def function(self) -> str:
        """The kernel function this context is in."""
        return self.stack[-1] if self.stack else "user"

    def holds(self, key: int) -> Held | None:
        """How it holds the lock with this key, if it does."""
        for held in self.held:
            if held.key == key:
                return held
        return None

    def holding(self) -> list[Held]:
        """The locks that it holds just now: a list that does not change."""
        return self.held.copy() if self.held else NO_LOCKS

    def gets(self, held: Held) -> None:
        """It holds the lock so from now on."""
        for at, before in enumerate(self.held):
            if before.key == held.key:
                self.held[at] = held
                return
        self.held.append(held)

    def drops(self, key: int) -> None:
        """It does not hold the lock with this key any more."""
        held = self.held
        if len(held) == 1 and held[0].key == key:  # mostly
            held.clear()
            return
        for at in range(len(held) - 1, -1, -1):
            if held[at].key == key:
                held.pop(at)
                return

    def held_as_text(self) -> list[dict[str, str]]:
        """The locks it holds, each with its mode and the function that took it; the big lock is not among them."""
        return [{"lock": str(held.ref), "mode": held.mode, "since": held.since} for held in self.held]

    def __repr__(self) -> str:
        return f"<{self.name} on {self.cpu} op {self.n}>"


class Port(Lockdebug):
    """The engine-independent half of a port.

    Args:
        errata: ids switched on.
        detect: detector -> "stop", "note" or "off".
        page_size: bytes.
        memory_shards: number of memory nodes.
        kernel_lock: the big lock, on a machine that has one.
    """

    def __init__(
        self,
        errata: frozenset[str],
        detect: dict[str, str],
        page_size: int,
        memory_shards: int = 1,
        kernel_lock: LockRef | None = None,
    ):
        super().__init__(errata, detect)
        self.page_size, self.memory_shards, self.kernel_lock = page_size, memory_shards, kernel_lock
        self.counters: dict[str, int] = {}

    # -- to be supplied by the engine ---------------------------------------

    @abstractmethod
    def point(self, code: str, target: int, args: tuple[object, ...] = ()) -> None:
        """A scheduling point before an operation: other contexts and interrupts may run before this returns.

        Args:
            code, target, args: of the operation, as perform() has them. Or "access", a pmap, and (virtual address,
                is it written to?): which operations that takes the TLB will say.
        """

    @abstractmethod
    def perform(self, code: str, target: int, args: tuple[object, ...]) -> Value:
        """Perform one operation of the current context, now, and return its result.

        Args:
            code: kind of operation, see `shared.wire.messages.OPERATIONS`.
            target: what it is about, an object id, lock key, channel, frame,
                pmap or slot number; it picks the shard of the node that admits it.
            args: further arguments, as `OPERATIONS` lists them.
        """

    def op(self, code: str, target: int, args: tuple[object, ...] = ()) -> Value:
        """A scheduling point, then one operation."""
        self.point(code, target, args)
        return self.perform(code, target, args)

    def claim(self, obj: Struct) -> None:
        """A struct just taken off a free list is this context's own until another touches it.

        Not an operation: it only tells the thinning rule and the race detector
        what allocation tells them for structs that are not type-stable.
        """
        self.record_event("claim", obj=repr(obj))

    @abstractmethod
    def choose(self, n: int, why: str) -> int:
        """A choice of data, from 0 to n - 1: an operation of the current context, whose result is the strategy's.

        Args:
            n: at least 1; the default schedule takes 0.
            why: what is chosen, for reports: "whether the write of slot 3 fails".
        """

    @abstractmethod
    def userret(self) -> None:
        """Return to user mode: any runnable LWP of this CPU may be next."""

    @abstractmethod
    def _wait(self, ctx: Any, code: str, target: int, park: bool) -> Any:
        """Wait until `ctx` is ready, keeping the CPU or (park) giving it up; returns the grant's value."""

    @abstractmethod
    def spin(self) -> None:
        """A try for a lock has failed and will be repeated: others may go first, or they might never."""

    @abstractmethod
    def wait_for_wakeup(self) -> None:
        """Give up the CPU until the channel slept on has been woken."""

    # -- heap ----------------------------------------------------------------

    def load(self, obj: Struct, field: FieldBase, slot: int) -> Value:
        """One load of a struct's field (or array element `slot`)."""
        return self.op("load", obj.id, (obj, field.name, slot, field.peek))

    def store(self, obj: Struct, field: FieldBase, slot: int, value: object) -> None:
        """One store to a struct's field (or array element `slot`)."""
        self.op("store", obj.id, (obj, field.name, slot, value))

    @abstractmethod
    def alloc(self, kind: type[S], length: int = 0) -> S:
        """Allocate a struct (`length` elements if it is an array); all fields are None or 0."""

    def free(self, obj: Struct) -> None:
        """Free a struct. LOCKDEBUG complains if it contains a lock that is held."""
        self.check_free(obj)
        self.op("free", obj.id, (obj, *self._by()))

    def renew(self, obj: S) -> S:
        """Begin a new life of a type-stable struct (a page, an anon); older handles are stale."""
        gen = self.op("renew", obj.id, (obj, *self._by()))
        return type(obj)(obj.id, gen)

    def _by(self) -> tuple[str, int]:
        """Who ends a struct's life: the function and its caller, and the number of this operation.

        The memory keeps it, and says so to a context that uses the struct afterwards.
        """
        stack = self.cur.stack
        by = f"{stack[-1]} < {stack[-2]}" if len(stack) > 1 else stack[0] if stack else ""
        return by, self.cur.n + 1

    def identify(self, obj: S) -> S:
        """A handle of the struct that is at an address now, given a handle that is good for any life (ANY_GEN).

        Detectors tell an old handle by its generation; an address alone has none.
        """
        return type(obj)(obj.id, self.op("identify", obj.id, (obj,)))

    def copy_frame(self, source: int, frame: int) -> None:
        """Copy a frame's bytes: one operation, or two if the frames live on different shards."""
        if (frame - source) % self.memory_shards == 0:
            self.op("frame_copy", frame, (source,))
        else:
            self.op("frame_write", frame, (self.op("frame_read", source),))

    # -- locks ---------------------------------------------------------------

    def lock(self, ref: LockRef, mode: str) -> None:
        """Acquire; a simple lock spins, a map lock sleeps, until it is granted."""
        ctx = self.cur
        if ctx.held or ctx.level:
            self.check_lock(ref)
        function = ctx.function
        self.op("lock", ref.key, (mode, function))
        ctx.gets(Held(ref, mode, function))

    def trylock(self, ref: LockRef, mode: str) -> bool:
        """Acquire if that is possible at once."""
        ctx = self.cur
        if self.op("try", ref.key, (mode, ctx.function)):
            ctx.gets(Held(ref, mode, ctx.function))
            return True
        return False

    def unlock(self, ref: LockRef) -> None:
        """Release; LOCKDEBUG complains if this context does not hold it."""
        ctx = self.cur
        if ctx.holds(ref.key) is None:
            self.release_of_unlocked(ref)
        self.op("unlock", ref.key, ())
        ctx.drops(ref.key)  # not before: an interrupt may come in between

    def downgrade(self, ref: LockRef) -> None:
        """From exclusive to shared, letting other readers in."""
        self.op("downgrade", ref.key, ())
        self._holds_so(ref, "r")

    def upgrade(self, ref: LockRef) -> None:
        """From shared to exclusive, waiting for other readers to leave.

        Locks: the caller must have marked the map BUSY, so that it is the only upgrader.
        """
        self.op("upgrade", ref.key, ())
        self._holds_so(ref, "w")

    def _holds_so(self, ref: LockRef, mode: str) -> None:
        """The current context holds a lock in another mode. Raises: KeyError - it does not hold it."""
        held = self.cur.holds(ref.key)
        if held is None:
            raise KeyError(ref.key)
        self.cur.gets(Held(ref, mode, held.since))

    def sleep(self, chan: int, wmesg: str, interlock: LockRef | None) -> None:
        """ltsleep: queue on a channel, release the interlock, give up the CPU until woken."""
        ctx = self.cur
        ctx.chan = chan
        self.op("sleep", chan, (wmesg, ctx.function))
        if interlock is not None:
            self.unlock(interlock)
        self.check_sleep(wmesg)
        big = self.kernel_proc_unlock()
        self.wait_for_wakeup()
        if big:
            self.kernel_proc_lock("mi_switch")

    # -- the big lock ----------------------------------------------------------

    def kernel_proc_lock(self, function: str) -> None:
        """KERNEL_PROC_LOCK: on a machine with the big lock, the current LWP takes it, spinning.

        LOCKDEBUG's lists do not have it, as those of NetBSD did not: no check of held locks concerns it.

        Args:
            function: that takes it: "trap", "syscall", "kthread", "mi_switch".
        """
        if self.kernel_lock is not None:
            self.op("lock", self.kernel_lock.key, ("w", function))
            self.cur.biglock = True

    def kernel_proc_unlock(self) -> bool:
        """KERNEL_PROC_UNLOCK: the current LWP leaves the kernel, or goes to sleep. Returns: it had the big lock."""
        ctx = self.cur
        if not ctx.biglock:
            return False
        assert self.kernel_lock is not None
        self.op("unlock", self.kernel_lock.key, ())
        ctx.biglock = False
        return True

    def wait_asleep(self, code: str, target: int) -> Value:
        """Give up the CPU until a request is granted that could not be granted at once; returns the grant's value.

        mi_switch() gives up the big lock meanwhile, after the request has been queued: what is granted before
        the context sleeps is not lost.
        """
        ctx = self.cur
        self.check_sleep(code)
        if not ctx.biglock:
            return self._wait(ctx, code, target, park=True)
        ctx.ready = True  # it continues until it has given up the lock
        self.kernel_proc_unlock()
        ctx.ready = ctx.woken
        value = self._wait(ctx, code, target, park=True)
        self.kernel_proc_lock("mi_switch")
        return value

    def wakeup(self, chan: int) -> None:
        """Wake every context that sleeps on the channel."""
        self.op("wakeup", chan, ())

    def spl(self, level: int) -> int:
        """Set the interrupt priority level of this context; returns the old one."""
        old: int = self.cur.spl
        self.cur.spl = level
        return old

    def splraise(self, level: int) -> int:
        """splbio, splimp ...: raise the interrupt priority level to at least `level`; returns the old one."""
        old: int = self.cur.spl
        return self.spl(level) if level > old else old

    # -- translations ----------------------------------------------------------

    @abstractmethod
    def tlb(self) -> Value:
        """The TLB of the current context's CPU."""

    def pmap(self, code: str, target: int, args: tuple[object, ...], *more: object) -> Value:
        """A pmap operation that may shoot down TLB entries; flushes this CPU's own.

        Args:
            more: what comes behind the CPU in the operation's arguments.
        """
        args += (self.cur.cpu,)  # (compiled, this is faster than to unpack them)
        result, flush = self.op(code, target, args + more if more else args)
        if flush:
            self.tlb().flush(flush)
        return result

    def access(self, pmap: int, va: int, write: bool, value: int = 0) -> tuple[bool, int]:
        """One aligned 64-bit load or store at address `va` (bytes), by the user or (PMAP_KERNEL) the kernel.

        A hit in the TLB and the access to the frame are one operation: no
        interrupt comes between them.

        Returns: (True, value read or written), or (False, fault type): the access did not happen.
        """
        tlb = self.tlb()
        vpn, offset = va // self.page_size, va % self.page_size
        while True:
            self.point("access", pmap, (va, write))
            if tlb.pmap != pmap:  # also if an interrupt has just made an access of its own
                self.perform("pmap_activate", pmap, (self.cur.cpu,))
                tlb.switch(pmap)
                continue
            frame = tlb.lookup(vpn, write)
            if frame is not None:
                proc = NOBODY if pmap == PMAP_KERNEL else self.cur.proc.index
                gen = tlb.entries[vpn][3]
                if write:
                    result = self.perform("word_write", frame, (offset, value, va, proc, gen))
                else:
                    result = self.perform("word_read", frame, (offset, va, proc, gen))
                if result is AGAIN:  # by what is left of this translation; the frame may have another page now
                    tlb.entries[vpn][3] = ANY_GEN
                    continue
                if not write:
                    value = result
                if proc != NOBODY:
                    self.accessed(proc, va, write, value, frame)
                return True, value
            entry = self.perform("pmap_walk", pmap, (vpn, int(write), self.cur.cpu))
            if entry is None:  # refused, and the run does not stop for it: walk again
                continue
            if isinstance(entry, int):
                return False, entry
            tlb.entries[vpn] = entry

    def accessed(self, proc: int, va: int, write: bool, value: int, frame: int) -> None:
        """A user's access has just been performed. An engine that asks the memory oracle as it goes tells it here."""

    def stats(self) -> dict[str, int]:
        """The event counters of the current context's CPU. An engine that runs several CPUs keeps some for each."""
        return self.counters


class _Here:
    """Where kernel code finds its port: `here.port`, while a port is installed.

    Installations nest, and each thread has its own. The attribute is nevertheless a plain one, since every access of
    the kernel reads it: while several threads have ports, it holds an object that stands for all of these.
    """

    __slots__ = ("_installed", "_lock", "port")
    __deletable__ = ("port",)
    port: Port

    def __init__(self) -> None:
        self._installed: dict[int, list[Port]] = {}  # thread -> its ports, innermost last
        self._lock = Lock()

    @contextmanager
    def installed(self, port: Port) -> Iterator[None]:
        """`here.port` is this port, for the calling thread; afterwards it is what it was before, or nothing."""
        self.push(port)
        try:
            yield
        finally:
            self.pop()

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Without the calling thread's port, as long as an execution is left in its middle."""
        port = self.pop()
        try:
            yield
        finally:
            self.push(port)

    def push(self, port: Port) -> None:
        """`here.port` is this port, for the calling thread, until `pop`."""
        thread = get_ident()
        self._lock.acquire()  # (here and below: twice as fast as `with`)
        try:
            ports = self._installed.get(thread)
            if ports is None:
                self._installed[thread] = [port]
            else:
                ports.append(port)
            self._choose()
        finally:
            self._lock.release()

    def pop(self) -> Port:
        """Undo the calling thread's last `push`. Returns: its port."""
        thread = get_ident()
        self._lock.acquire()
        try:
            ports = self._installed[thread]
            port = ports.pop()
            if not ports:
                del self._installed[thread]
            self._choose()
        finally:
            self._lock.release()
        return port

    def of_thread(self) -> Port:
        """The port of the calling thread."""
        return self._installed[get_ident()][-1]

    def _choose(self) -> None:
        if len(self._installed) > 1:
            self.port = cast(Port, _PortOfThread())
        elif self._installed:
            self.port = next(iter(self._installed.values()))[-1]
        else:
            del self.port


class _PortOfThread:
    """Stands for the ports of several threads: each thread sees its own."""

    def __getattr__(self, name: str) -> Value:
        return getattr(here.of_thread(), name)

    def __setattr__(self, name: str, value: object) -> None:
        setattr(here.of_thread(), name, value)


here: Final = _Here()

P = ParamSpec("P")
R = TypeVar("R")


def kernel(*, exit: str | None = None) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Mark a kernel function: its entry and exit go to the journal, and a patch can replace it (shared/patch.py).

    Args:
        exit: what LOCKDEBUG checks when it returns. "same": the locks held on
            entry and no others; "none": no lock at all; None: not checked
            (the docstring says what is held).
    """

    def mark(function: Callable[P, R]) -> Callable[P, R]:
        name, same, checked = function.__name__, exit == "same", exit is not None
        seam = Seam(function)
        if function.__module__.startswith("shared.uvm."):
            SEAMS[name] = seam.put

        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            port = here.port
            ctx = port.cur
            before = ctx.holding() if same else NO_LOCKS
            port.enter(name)
            result: R = seam.stands(*args, **kwargs)
            if checked and (ctx.held or before):
                port.check_exit(name, before)
            port.exit()
            return result

        call.__name__, call.__doc__, call.__wrapped__ = name, function.__doc__, function  # type: ignore[attr-defined]
        call.__module__, call.__qualname__ = function.__module__, function.__qualname__
        return call

    return mark


def KASSERT(condition: bool, text: str, subject: object = "") -> None:
    """The kernel's assertion; `text` is the asserted expression as UVM spells it."""
    if not condition:
        here.port.report("kassert", f'kernel diagnostic assertion "{text}" failed', subject=str(subject))


def LOCK_ASSERT(condition: bool, text: str, subject: object = "", kind: str = "lock-assert") -> None:
    """An assertion about locks, live only under LOCKDEBUG.

    A finding of a kind of its own names the function that it accuses: the caller of the function in which the assertion
    stands.
    """
    if not condition:
        stack = here.port.cur.stack
        caller = stack[-2] if kind != "lock-assert" and len(stack) > 1 else ""
        here.port.report(kind, f'lock assertion "{text}" failed', subject=str(subject), function=caller)


def panic(text: str, subject: object = "") -> None:
    """The kernel gives up; `text` is UVM's phrase."""
    here.port.report("panic", f"panic: {text}", subject=str(subject))


def unrepaired(name: str) -> bool:
    """True if the defect `name` is switched on; at a place that its repair changed too, but where it does not sit.

    Counts no site: a scenario that comes by here has not been near the defect.
    """
    return name in here.port.errata


def erratum(name: str) -> bool:
    """True if the defect `name` (see shared/errata) is switched on in this run."""
    return here.port.erratum(name)
