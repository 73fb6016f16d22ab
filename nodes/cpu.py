"""A CPU: its LWPs, interrupts, interrupt priority level and TLB.

One context runs on a CPU at a time. The kernel is not preemptive: an LWP keeps
its CPU from the moment it enters the kernel until it sleeps, or returns to user
mode (`userret`), where any runnable LWP of the CPU may be next (`run`).
Interrupts nest by level, also over an LWP that spins for a lock or for the
acknowledgement of a shootdown; otherwise shootdown itself would deadlock.

A CPU admits what is delivered to it: an interrupt's record says which context
it interrupted, and after which operation of that context.

The pagedaemon and the swap pager's I/O run on processors of their own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from greenlet import greenlet

from nodes.node import Node
from shared.detectors.machine_state import ContextState, TlbState
from shared.port.port import SPL_IPI, Context, here
from shared.uvm.structs import Proc
from shared.wire.messages import Effect, Grant, Wake

RUNNING, FINISHED = "running", "finished"


class Pending(NamedTuple):
    """An operation that has been asked for, and not been performed yet.

    Attributes:
        code, target, args: as `shared.wire.messages.OPERATIONS` lists them. A user's load or store, which may take a
            walk first, is "access", with its pmap and (virtual address, is it written to?).
    """

    code: str
    target: int
    args: tuple[object, ...]


class Thread(Context):
    """A context as its processor sees it.

    Attributes:
        body: what it runs from its first operation on.
        interrupt: taken when a message is pending, not when scheduled.
        starts_on: sleep channel on which it waits for its first run; None: runnable at once.
        parked: has given up its CPU and needs `run` before it can continue.
        waits: what it waits for, as (code, target), or None.
        enabled: it may perform the next operation of its machine, as an engine that runs several processors has found.
        waits_since: how many operations its node had admitted when that wait began, if the engine counts them.
        glet: the greenlet it runs on, while it has one; switch: in the simulator, which switches often, its method.
        asks: the operation that it has asked for at the point it stopped at, as `Pending` has it; None: it has waited
            or given way, and continues without one, or the strategy does not look at it.
        processor: the node it runs on, once that is built.
        home: handle of the process it is a thread of, or None.
    """

    __slots__ = (
        "asks",
        "body",
        "enabled",
        "glet",
        "home",
        "interrupt",
        "order",
        "parked",
        "processor",
        "starts_on",
        "state",
        "switch",
        "waits",
        "waits_since",
    )

    def __init__(self, name: str, cpu: str, body: Callable[[], None], level: int = 0, interrupt: bool = False):
        self.body, self.interrupt = body, interrupt
        self.starts_on: int | None = None
        self.home: Proc | None = None
        self.processor: Processor
        self.order = 0
        super().__init__(name, cpu, level)

    def reset(self) -> None:
        super().reset()
        self.proc = self.home
        self.ready = self.starts_on is None and not self.interrupt
        self.parked = not self.interrupt
        self.waits: tuple[str, int] | None = None if self.starts_on is None else ("sleep", self.starts_on)
        self.waits_since = 0
        self.enabled = False
        self.asks: tuple[str, int, tuple[object, ...]] | None = None
        self.state = RUNNING
        self.glet: greenlet | None = None
        self.switch: Callable[..., object] | None = None

    @property
    def pending(self) -> Pending | None:
        """The operation that it performs next; None: unknown, because it continues behind a wait."""
        takes = self.processor.takes(self)
        if takes is not None:
            return Pending(takes, 0, ())
        return None if self.asks is None else Pending(*self.asks)

    def at_rest(self) -> ContextState:
        """What a verdict over the whole machine needs to know of this context."""
        return ContextState(
            self.name, self.cpu, self.n, self.waits, self.state == FINISHED, self.ready, self.interrupt,
            list(self.stack), self.held_as_text(), None if self.home is None else self.home.index,
        )  # fmt: skip

    def receive(self, effect: Effect) -> None:
        """What it waits for, or is about to, was granted; the channel it sleeps on was woken; or it is to be taken."""
        if isinstance(effect, Grant):
            self.value, self.ready, self.woken = effect.value, True, True
        elif isinstance(effect, Wake):
            self.woken = True
            if self.parked:
                self.ready = True
        else:
            self.processor.post(self.name, effect.message)


class Tlb:
    """A CPU's translations: virtual page number -> [frame, writable, modified, generation] of one pmap."""

    __slots__ = ("entries", "pmap")

    def __init__(self) -> None:
        self.pmap = 0
        self.entries: dict[int, list[int]] = {}

    def state(self) -> TlbState:
        """What is cached."""
        return TlbState(self.pmap, list(self.entries.items()))

    def switch(self, pmap: int) -> None:
        """Load another pmap: everything cached is flushed."""
        self.pmap = pmap
        self.entries.clear()

    def flush(self, pages: list[list[int]]) -> None:
        """Forget [pmap, vpn] pairs."""
        for pmap, vpn in pages:
            if pmap == self.pmap:
                self.entries.pop(vpn, None)

    def lookup(self, vpn: int, write: bool) -> int | None:
        """The frame, if the access needs no walk (a first write does, to set M)."""
        entry = self.entries.get(vpn)
        if entry is None or (write and not (entry[1] and entry[2])):
            return None
        return entry[0]


class Processor(Node):
    """A node on which contexts run: a CPU, the pagedaemon's or the swap pager's.

    Attributes:
        current: the LWP that has the CPU, or None: idle.
        nested: interrupts being served, innermost last.
        pending: interrupts raised and not yet taken, with their messages; raised: how many.
        k: number of operations performed on this CPU.
        events: how many kernel events were recorded here after operation `events_at`, if the engine counts them.
        enabled: its contexts that may perform the next operation, as an engine that runs several processors has found.
        counters: event counters of this CPU, by name, in such an engine.
    """

    kind = "cpu"

    def __init__(self, name: str, threads: list[Thread]):
        super().__init__(name)
        self.threads = threads
        for thread in threads:
            thread.processor = self
        self.lwps = [thread for thread in threads if not thread.interrupt]
        self.interrupts = [thread for thread in threads if thread.interrupt]
        self.pending: dict[str, deque[object]] = {thread.name: deque() for thread in self.interrupts}
        self.tlb = Tlb()
        self.reset()

    def reset(self) -> None:
        """Back to the state before the first operation."""
        self.current: Thread | None = None
        self.nested: list[Thread] = []
        for messages in self.pending.values():
            messages.clear()
        self.k = self.events_at = self.events = self.raised = 0
        self.enabled: list[Thread] = []
        self.counters: dict[str, int] = {}
        self.tlb.switch(0)

    def note_event(self) -> None:
        """Record a kernel event, which is not an operation."""
        if self.events_at != self.k:
            self.events_at, self.events = self.k, 0
        self.events += 1

    def events_since(self) -> int:
        """How many kernel events were recorded since the last operation."""
        return self.events if self.events_at == self.k else 0

    def choices(self) -> list[Thread]:
        """The contexts of which one may perform the next operation on this CPU."""
        if self.nested:
            top = self.nested[-1]
            level, choices = top.spl, [top] if top.ready else []
        elif self.current is not None:
            level, choices = self.current.spl, [self.current] if self.current.ready else []
        else:
            level, choices = 0, [thread for thread in self.lwps if thread.ready]
        if self.raised:
            for thread in self.interrupts:
                if self.pending[thread.name] and thread.level > level:
                    choices.append(thread)
        return choices

    def takes(self, thread: Thread) -> str | None:
        """What must be recorded before a context performs its next operation: run, intr or None."""
        if thread.interrupt:
            return None if self.nested and self.nested[-1] is thread else "intr"
        return "run" if thread.parked else None

    def run(self, thread: Thread) -> None:
        """The CPU is given to an LWP."""
        self.current, thread.parked = thread, False

    def park(self, thread: Thread) -> None:
        """The LWP gives up the CPU."""
        self.current, thread.parked = None, True

    def post(self, name: str, message: object) -> None:
        """An interrupt is raised: it is pending until its context takes it."""
        self.pending[name].append(message)
        self.raised += 1

    def intr(self, thread: Thread) -> tuple[object, str, int]:
        """Take a pending interrupt: (message, interrupted context, its operation number)."""
        under = self.nested[-1] if self.nested else self.current
        self.nested.append(thread)
        thread.value, thread.ready = self.pending[thread.name].popleft(), True
        self.raised -= 1
        return thread.value, under.name if under else "", under.n if under else 0

    def interrupted(self) -> list[Thread]:
        """Those under the innermost interrupt."""
        under = self.nested[:-1]
        return under if self.current is None else [self.current, *under]

    def iret(self, thread: Thread) -> None:
        """The innermost interrupt is over."""
        self.nested.pop()
        thread.ready = False


def shootdown_ipi() -> None:
    """What `cpuN.ipi` runs for each IPI: flush the pages named and acknowledge."""
    port = here.port
    number, pages = port.cur.value
    port.enter("pmap_tlb_shootdown_ipi")
    port.tlb().flush(pages)
    port.op("pmap_ack", number, (port.cur.cpu,))
    port.exit()


def ipi_thread(cpu: str) -> Thread:
    """The interrupt context that serves shootdowns on `cpu`."""
    return Thread(f"{cpu}.ipi", cpu, shootdown_ipi, SPL_IPI, interrupt=True)
