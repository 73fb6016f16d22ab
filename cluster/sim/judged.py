"""Final states that have been judged, so that a search does not judge them again: its executions end in few of them.

Only states in which nothing is wrong are remembered. A state here is whatever a verdict looks at, as one tuple of
numbers and texts: contexts that have not ended, results, held locks; and, if invariants are checked, what the execution
has changed in memory, and the MMU and devices.

Left out: verdicts about how the execution went (races, the memory oracle), which depend on more than its end.
"""

from __future__ import annotations

import marshal
from collections.abc import Sequence
from typing import Any, Final, TypeVar

from cluster.machine import Machine
from nodes.cpu import FINISHED, Thread
from shared.detectors.verdict import waits_in_vain
from shared.locks.table import Want
from shared.port.heap import GONE, Heap
from shared.port.struct import Struct
from shared.scenario.model import Results

K = TypeVar("K")
State = tuple[object, ...]
#: elements of the states that are remembered, at most: 15 to 30 MB
MOST = 1 << 19
#: states looked up before it is said whether that pays, and how many of so many must have been there
TRIES, ONE_IN = 64, 4
#: what follows is a handle's numbers; a truth value as a number
HANDLE: Final = ...
TRUTH: Final = NotImplemented
#: a state of which nothing is known
UNKNOWN: Final[State] = ()


class Judged:
    """Final states of one machine, all reached from one image.

    Attributes:
        clean: the states that are remembered.
        size: elements of all of them.
        asked, known: states looked up, and how many of them were there.
    """

    def __init__(self) -> None:
        self.clean: set[State] = set()
        self.size = self.asked = self.known = 0

    def pays(self) -> bool:
        """Do executions end often enough in a state that is remembered?

        To put a state together mostly takes less than half as long as a verdict.
        """
        return self.asked < TRIES or self.known * ONE_IN >= self.asked

    def knows(self, state: State) -> bool:
        """Has a verdict found nothing wrong with this state?"""
        if not state:
            return False
        self.asked += 1
        known = state in self.clean
        self.known += known
        return known

    def remember(self, state: State) -> None:
        """Nothing is wrong with this state."""
        size = len(state) + sum([len(part) >> 3 for part in state if isinstance(part, bytes)])
        if self.size + size <= MOST and state not in self.clean:
            self.size += size
            self.clean.add(state)


def final_state(machine: Machine, heap: Heap, results: Results, whole: bool) -> State:
    """The state of a machine at rest. Whatever is not always as long comes with its length, so no two states look the
    same.

    Args:
        heap: that of all memories, with what has changed since the image.
        results: of the programs' steps.
        whole: a verdict looks at memory, too. If not, it still does if a context is stuck.

    Returns: UNKNOWN if a program has stored other values than numbers, texts and handles.
    """
    state: list[object] = []
    for thread in machine.threads.values():
        if not _ended(thread):
            goes_on = thread.state == FINISHED or thread.ready
            whole = whole or (thread.n > 0 and waits_in_vain(thread.name, thread.waits, goes_on))
            state += [thread.name, thread.waits, thread.state, thread.ready, thread.n > 0, len(thread.stack)]
            state += thread.stack
            state.append(tuple([lock.key for lock in thread.held]))
    state.append(len(results))
    for name, steps in results.items():
        state.append(name)
        state.append(len(steps))
        for step in steps:
            state.append(step["result"])
    for manager in machine.lock_managers:
        for lock in manager.table.locked():
            state.append(lock.key)
            _wants(lock.holders, state)
            _wants(lock.waiters, state)
    if whole and not _memory(machine, heap, state):
        return UNKNOWN
    return tuple(state)


def _ended(thread: Thread) -> bool:
    """It has ended, or is an interrupt that is over: a verdict needs nothing of it but that."""
    over = thread.interrupt or thread.state == FINISHED
    return over and not thread.ready and thread.waits is None and not thread.held and not thread.stack


def _wants(wants: Sequence[Want], state: list[object]) -> None:
    state.append(len(wants))
    for want in wants:
        state += [want.ctx, want.mode, want.fn]


def _memory(machine: Machine, heap: Heap, state: list[object]) -> bool:
    """What the execution has changed in the heap and in the frames; the MMU, swap and the disk, if it has used them.

    Returns: False - a field has a value of another kind.
    """
    state.append(len(heap.changed))
    for id, rec in sorted(heap.changed):
        state.append(id)
        state.append(rec.gen)
        if rec.gen != GONE:
            state.append(len(rec.fields))
            for value in rec.fields:
                if value is None or isinstance(value, str):
                    state.append(value)
                elif isinstance(value, bool):
                    state.append(TRUTH)
                    state.append(int(value))
                elif isinstance(value, int):
                    state.append(value)
                elif isinstance(value, Struct):
                    state.append(HANDLE)
                    state.append(value.id)
                    state.append(value.gen)
                else:
                    return False
    frames, kept = machine.memories[0].frames, machine.memories[0].kept  # of all memories
    for at in range(len(frames)):
        words = frames[at]
        if words is not kept[at] and words != kept[at]:
            state.append(at)
            state.extend(words)
    state.append(None)
    mmu, swap, disk = machine.mmu, machine.swap_pager, machine.nodes.get("disk")
    if mmu.admitted:
        _translations(machine, state)
    devices: Any = (
        swap.image() if swap.admitted else None,
        disk.image() if disk is not None and disk.admitted else None,
    )
    if devices != (None, None):
        state.append(marshal.dumps(devices, 2))
    return True


def _translations(machine: Machine, state: list[object]) -> None:
    mmu = machine.mmu
    state += [mmu.next_pmap, len(mmu.pmaps), len(mmu.objects)]
    for pmap, table in mmu.pmaps.items():
        state.append(pmap)
        _lists(table, state)
    _lists(mmu.attrs, state)
    _lists(mmu.ptps, state)
    for pmap, obj in mmu.objects.items():
        state += [pmap, obj.id, obj.gen]
    for processor in machine.processors:
        state.append(processor.tlb.pmap)
        _lists(processor.tlb.entries, state)


def _lists(table: dict[K, list[int]], state: list[object]) -> None:
    """Entries that have as many numbers each as the others."""
    state.append(len(table))
    for key, entry in table.items():
        state.append(key)
        state.extend(entry)
