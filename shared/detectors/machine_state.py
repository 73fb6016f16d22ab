"""The machine at rest: the waits of its contexts, the holders of locks, the state of the nodes. It can be judged
without an engine: sim collects it from its own nodes, the live engine from every host (`HostState`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from shared.locks.table import LockState, Want
from shared.port.heap import Heap
from shared.scenario.model import Results
from shared.wire.images import Images


class ContextState(NamedTuple):
    """A context at the end.

    Attributes:
        n: operations that it has performed.
        waits: what it waits for, as (kind of operation, target), or None.
        finished: it has returned from its body.
        ready: what it waited for has come, or it waits for nothing.
        interrupt: it runs when it is raised; it is not a thread.
        stack: kernel functions, outermost first.
        held: its locks, as Finding.held has them.
        proc: index of the process whose thread it is; None: of none.
    """

    name: str
    cpu: str
    n: int
    waits: tuple[str, int] | None
    finished: bool
    ready: bool
    interrupt: bool
    stack: list[str]
    held: list[dict[str, str]]
    proc: int | None

    @property
    def function(self) -> str:
        """The innermost kernel function."""
        return self.stack[-1] if self.stack else "user mode"

    @property
    def on_lock(self) -> bool:
        """It waits for a lock."""
        return self.waits is not None and self.waits[0] in ("lock", "upgrade")


class TlbState(NamedTuple):
    """A CPU's translations of one pmap: pairs of a virtual page number and an entry (see nodes/cpu.py)."""

    pmap: int
    entries: Sequence[tuple[int, list[int]]]


@dataclass(frozen=True)
class MachineState:
    """Everything that verdicts over a whole machine look at.

    Attributes:
        contexts: in fixed context order.
        locks: those that are held or wanted.
        images: node -> its state, in the node's own form (`Node.image`).
        tlbs: of each processor.
        page_size: bytes.
        heap: of all memories, where an engine has them in one; None: it is put together from the images.
    """

    contexts: Sequence[ContextState]
    locks: Sequence[LockState]
    images: Images
    tlbs: Mapping[str, TlbState]
    page_size: int
    heap: Heap | None = None


class HostState(NamedTuple):
    """One host's part of the state of a live machine, and the results of its contexts.

    Attributes:
        results: context -> its steps' results.
        sites: erratum -> how often its site was reached.
        counters: event counters of its processors.
    """

    contexts: Sequence[ContextState]
    locks: Sequence[LockState]
    images: Images
    tlbs: Mapping[str, TlbState]
    results: Results
    sites: dict[str, int]
    counters: dict[str, int]

    @classmethod
    def parse(cls, body: Any) -> HostState:
        contexts, locks, images, tlbs, *rest = body
        return cls(
            [ContextState(name, cpu, n, None if waits is None else (waits[0], waits[1]), *others)
             for name, cpu, n, waits, *others in contexts],
            [LockState(key, *([Want(*want) for want in wants] for wants in queues)) for key, *queues in locks],
            images, {cpu: TlbState(*tlb) for cpu, tlb in tlbs.items()}, *rest,
        )  # fmt: skip


class HostNow(NamedTuple):
    """What the contexts and the lock tables of one host are at the moment, while the machine runs.

    Attributes:
        state: contexts and locks alone.
        running: contexts that have their CPU.
        asks: context, node and kind of a request to which there is no answer yet, or None.
        asleep: channel -> its sleepers, each a context and its wmesg.
    """

    state: HostState
    running: Sequence[str]
    asks: tuple[str, str, str] | None
    asleep: Sequence[tuple[int, Sequence[tuple[str, str]]]]

    @classmethod
    def parse(cls, body: Any) -> HostNow:
        state, running, asks, asleep = body
        return cls(HostState.parse(state), running, None if asks is None else (*asks,), asleep)


def only(contexts: Sequence[ContextState], locks: Sequence[LockState]) -> HostState:
    """A state of contexts and locks alone."""
    return HostState(contexts, locks, {}, {}, {}, {}, {})
