"""Builds the nodes and contexts of a scenario's machine; the same in every engine and actor."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from zlib import crc32

from nodes.cpu import Processor, Thread, ipi_thread
from nodes.devices import Devices, device_threads
from nodes.disk import Disk, disk_threads
from nodes.lock_manager import LockManager
from nodes.memory import Memory
from nodes.mmu import Mmu
from nodes.node import Node
from nodes.pagedaemon import pagedaemon_threads
from nodes.swap_pager import CONTEXT, SwapPager, swap_io
from nodes.swap_pager import PROCESSOR as SWAP_IO
from shared.port.lockref import LockRef
from shared.port.struct import INDEX_MASK, LOCK_SHIFT
from shared.program.run import run_function, run_program
from shared.scenario.machine import MachineConfig
from shared.scenario.model import Scenario
from shared.uvm.structs import Proc, kernel
from shared.wire.messages import OPERATIONS

Route = Callable[[int], str]


def process_table(scenario: Scenario) -> dict[str, Proc]:
    """Process name -> its preallocated Proc, numbered in order of names."""
    return {name: Proc.at(index) for index, name in enumerate(scenario.procs)}


def build_threads(scenario: Scenario) -> dict[str, Thread]:
    """Every context by name, in fixed context order: LWPs as the scenario has
    them, the pagedaemon, interrupts, the swap pager's I/O."""
    procs = process_table(scenario)
    contexts: list[Thread] = []
    if scenario.functions is not None:
        bodies = dict(scenario.functions.threads)
        lwps = scenario.lwps
        return _in_order([Thread(lwp.name, f"cpu{lwp.cpu}", partial(run_function, bodies[lwp.name])) for lwp in lwps])
    for lwp in scenario.lwps:
        thread = Thread(lwp.name, f"cpu{lwp.cpu}", partial(run_program, lwp, procs))
        thread.home = procs[lwp.proc]
        thread.starts_on = procs[lwp.proc].address if lwp.forked else None
        contexts.append(thread)
    contexts += pagedaemon_threads(bool(scenario.machine.disk))
    contexts += [ipi_thread(f"cpu{number}") for number in range(scenario.machine.cpus)]
    contexts.append(Thread(CONTEXT, SWAP_IO, swap_io))
    if scenario.machine.disk:
        contexts += disk_threads(scenario.machine.cpus)
    contexts += device_threads(scenario.handlers)
    return _in_order(contexts)


def _in_order(threads: list[Thread]) -> dict[str, Thread]:
    for order, thread in enumerate(threads):
        thread.order = order
        thread.reset()
    return {thread.name: thread for thread in threads}


def build_node(name: str, config: MachineConfig, threads: dict[str, Thread], errata: Iterable[str] = ()) -> Node:
    """One node of a machine, with these errata switched on."""
    node = _sound_node(name, config, threads)
    node.errata = frozenset(errata)
    return node


def _sound_node(name: str, config: MachineConfig, threads: dict[str, Thread]) -> Node:
    kind = name.rstrip("0123456789")
    if name in config.memories:
        shard = int(name[len(kind) :] or 0)
        return Memory(name, config.frames, config.page_size, shard, config.memory_shards)
    if kind == "lock_manager":
        return LockManager(name)
    if kind == "mmu":
        return Mmu(name, config.page_size, config.unwired_mappings, config.page_tables, config.rm == "emulated")
    if kind == "disk":
        return Disk(name, config.disk, config.page_size, config.disk_faults)
    if kind == "devices":
        return Devices(name, [device for device, _ in config.devices])
    if kind == "swap_pager":
        return SwapPager(name, config.page_size, config.swap_faults)
    return Processor(name, [thread for thread in threads.values() if thread.cpu == name])


def routes(config: MachineConfig) -> dict[str, Route]:
    """Kind of operation -> the name of the node that admits it, given its target.

    A struct lives on the shard of its index, a frame on that of its number, a
    lock and a sleep channel on that of the struct they are in. `alloc` has its
    shard for a target.
    """
    memories = config.memories
    locks = config.lock_managers
    by_target: dict[str, Route] = {
        "memory": lambda target: memories[(target & INDEX_MASK) % len(memories)],
        "lock": lambda key: locks[(key >> LOCK_SHIFT & INDEX_MASK) % len(locks)],
        "chan": lambda chan: locks[(chan >> 8 & INDEX_MASK) % len(locks)],
        "mmu": lambda target: "mmu",
        "swap_pager": lambda target: "swap_pager",
        "disk": lambda target: "disk",
        "devices": lambda target: "devices",
    }
    if len(memories) == 1:
        by_target["memory"] = lambda target: "memory"
    if len(locks) == 1:
        by_target["lock"] = by_target["chan"] = lambda target: "lock_manager"
    return {
        code: by_target[op.target if op.node == "lock_manager" else op.node]
        for code, op in OPERATIONS.items()
        if not op.local
    }


def big_lock(config: MachineConfig) -> LockRef | None:
    """The kernel's big lock, on a machine that has one."""
    return kernel.kernel_lock if config.kernel_lock == "big" else None


def alloc_shard(ctx: str, n: int, shards: int) -> int:
    """Which memory shard serves an allocation: a function of (context, operation number) alone."""
    return (crc32(ctx.encode()) + n) % shards
