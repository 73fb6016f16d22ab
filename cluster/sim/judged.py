"""Final states that have been judged, so that a search does not judge them again: its executions end in few of them.

Only states in which nothing is wrong are remembered, and only by their digest. The digest is over whatever a verdict
looks at; of the heap and the frames, over what the execution has changed.

Left out: verdicts about how the execution went (races, the memory oracle), which depend on more than its end.
"""

from __future__ import annotations

import hashlib
import marshal
from typing import Any

from cluster.machine import Machine
from nodes.cpu import FINISHED, Thread
from shared.port.heap import Heap
from shared.port.struct import Struct
from shared.scenario.model import Results, StepResult

#: states that are remembered at most
MOST = 1 << 14
#: a state of so many bytes is its own digest
SHORT = 256
#: states looked up before it is said whether that pays, and how many of so many must have been there
TRIES, ONE_IN = 64, 4


class Judged:
    """Digests of the final states of one machine, all reached from one image.

    Attributes:
        asked, known: states looked up, and how many of them were there.
    """

    def __init__(self) -> None:
        self.clean: set[bytes] = set()
        self.asked = self.known = 0

    def pays(self) -> bool:
        """Do executions end often enough in a state that is remembered?

        A digest mostly costs half of a verdict, or less.
        """
        return self.asked < TRIES or self.known * ONE_IN >= self.asked

    def knows(self, digest: bytes) -> bool:
        """Has a verdict found nothing wrong with this state?

        Args:
            digest: b"": not known.
        """
        if not digest:
            return False
        self.asked += 1
        known = digest in self.clean
        self.known += known
        return known

    def remember(self, digest: bytes) -> None:
        """Nothing is wrong with this state."""
        if len(self.clean) < MOST:
            self.clean.add(digest)


def digest(machine: Machine, heap: Heap, results: Results) -> bytes:
    """Of a machine at rest.

    Args:
        heap: that of all memories, with what has changed since the image.
        results: of the programs' steps.
    """
    contexts = [_at_rest(thread) for thread in machine.threads.values()]
    records = [(id, rec.gen, [_plain(value) for value in rec.fields]) for id, rec in sorted(heap.changed)]
    locks = [
        (lock.key, [tuple(want) for want in lock.holders], [tuple(want) for want in lock.waiters])
        for manager in machine.lock_managers
        for lock in manager.table.locked()
    ]
    frames, kept = machine.memories[0].frames, machine.memories[0].kept  # of all memories
    written = [(at, words) for at, words in enumerate(frames) if words is not kept[at] and words != kept[at]]
    mmu, swap, disk = machine.mmu, machine.swap_pager, machine.nodes.get("disk")
    state: Any = (
        contexts, records, locks, written, [_answers(steps) for steps in results.items()],
        _translations(machine) if mmu.admitted else None,
        swap.image() if swap.admitted else None,
        disk.image() if disk is not None and disk.admitted else None,
    )  # fmt: skip
    text = marshal.dumps(state, 2)
    return text if len(text) <= SHORT else hashlib.blake2b(text, digest_size=16).digest()


def _translations(machine: Machine) -> object:
    mmu = machine.mmu
    objects = [(pmap, _plain(obj)) for pmap, obj in mmu.objects.items()]
    return {**mmu.image(), "objects": objects}, [(cpu.tlb.pmap, cpu.tlb.entries) for cpu in machine.processors]


def _at_rest(thread: Thread) -> object:
    """All of a context that a verdict looks at: most have ended, or are interrupts that are over."""
    over = thread.interrupt or thread.state == FINISHED
    if over and not thread.ready and thread.waits is None and not thread.held and not thread.stack:
        return thread.n > 0
    held = [lock.key for lock in thread.held]
    return thread.waits, thread.state, thread.ready, thread.n > 0, held, thread.stack


def _answers(results: tuple[str, list[StepResult]]) -> object:
    """What a context's steps have answered. (Which steps they are, its program says.)"""
    name, steps = results
    return name, [step["result"] for step in steps]


def _plain(value: object) -> object:
    """The value of a field; a handle as its numbers."""
    return (value.id, value.gen) if isinstance(value, Struct) else value
