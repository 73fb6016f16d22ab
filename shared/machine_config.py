"""What machine a scenario asks for, and the strict loader of that part of its file (or of one in configs/machines)."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, replace
from typing import Any

from shared.port import SPL_BIO, SPL_CLOCK, SPL_IMP
from shared.strict_yaml import Value, parse, show

MAX_CPUS, MAX_FRAMES, MAX_SWAP, MAX_SWAP_DEVICES = 16, 4096, 8192, 20
#: interrupt levels of devices, by name
LEVELS = {"bio": SPL_BIO, "imp": SPL_IMP, "clock": SPL_CLOCK}
KERNEL_LOCKS = ("fine", "big")
SWAP_KEYS = ("errors", "delays", "devices")
DEVICE_NAME = re.compile(r"(?!cpu|intr)[a-z]{2,8}[0-9]")


@dataclass(frozen=True, slots=True)
class DeviceFault:
    """Requests that a device refuses, fails or delays: one for swap, or the disk as to files. Setup is spared.

    Attributes:
        op: "put" (a write) or "get" (a read).
        slot: only requests that touch this slot (of a disk: block); None: any.
        first, count: which of those requests, from 1; count 0: all from there on.
        error: "EIO" (hard), "EAGAIN" (transient), or "" (none).
        at: "start": nothing is started; "done": it is started, and fails.
        delay: so many later requests may overtake it.
    """

    op: str
    slot: int | None = None
    first: int = 1
    count: int = 0
    error: str = ""
    at: str = "done"
    delay: int = 0


@dataclass(frozen=True, slots=True)
class SwapDevice:
    """A swap device.

    Attributes:
        slots: of one page each.
        priority: devices with a lower number are used first, those with the same in turn.
    """

    slots: int
    priority: int = 0


@dataclass(frozen=True, slots=True)
class KernelMaps:
    """Pages of the kernel's maps.

    Attributes:
        map: of kernel_map that no submap has taken over: wired memory.
        kmem, mb: of the interrupt-safe submaps.
        exec: of the pageable one.
    """

    map: int = 0
    kmem: int = 0
    mb: int = 0
    exec: int = 0


@dataclass(frozen=True, slots=True)
class MachineConfig:
    """The machine that a scenario asks for. Sizes in pages unless said otherwise.

    Attributes:
        swap_slots: of one page each, on all devices together.
        swap_devices: numbered from 0; if none are given, one with all the slots.
        page_size: bytes.
        anons: vm_anon structures, preallocated as UVM does.
        reserve_pagedaemon, reserve_kernel: free pages that only these may take.
        freemin, freetarg: None: UVM's rule (with freemin above reserve_kernel).
        disk: blocks of the raw device; 0: there is none.
        unwired_mappings: for which a page table has room, mlocked pages not counted; None: for all.
        page_tables: PTEs per page-table page, which is a page of memory; 0: page tables are outside of memory.
        rm: "hardware" - the MMU sets the R and M bits; "emulated" - it traps, and the pmap module sets them.
        swap_faults: what the swap device does wrong.
        disk_faults: what the disk does wrong with I/O to files.
        kernel: the kernel's maps; None: there are none.
        kernel_lock: "fine" - UVM's own locks alone; "big" - as in the MP kernels of 2000 to 2007, LWPs take the
            kernel's big lock at trap and system call, and give it up while they sleep; interrupts run beside it.
        devices: name of a device that interrupts -> the level of its interrupt, as "imp".
        lock_manager_shards, memory_shards: nodes of that kind.
        colocate: which nodes share an actor, for the live engine. True: all that
            serve, those of the disk apart; False: none; or the groups. It changes no schedule.
    """

    cpus: int
    frames: int
    swap_slots: int
    page_size: int = 64
    anons: int = 0
    reserve_pagedaemon: int = 1
    reserve_kernel: int = 5
    freemin: int | None = None
    freetarg: int | None = None
    disk: int = 0
    unwired_mappings: int | None = None
    page_tables: int = 0
    rm: str = "hardware"
    swap_devices: tuple[SwapDevice, ...] = ()
    swap_faults: tuple[DeviceFault, ...] = ()
    disk_faults: tuple[DeviceFault, ...] = ()
    kernel: KernelMaps | None = None
    kernel_lock: str = "fine"
    devices: tuple[tuple[str, str], ...] = ()
    lock_manager_shards: int = 1
    memory_shards: int = 1
    colocate: bool | tuple[tuple[str, ...], ...] = True

    def __post_init__(self) -> None:
        if not self.anons:
            object.__setattr__(self, "anons", self.frames + self.swap_slots)
        if self.swap_slots and not self.swap_devices:
            object.__setattr__(self, "swap_devices", (SwapDevice(self.swap_slots),))

    @property
    def lock_managers(self) -> tuple[str, ...]:
        """Names of the shards of the lock manager."""
        return _shard_names("lock_manager", self.lock_manager_shards)

    @property
    def memories(self) -> tuple[str, ...]:
        """Names of the shards of memory."""
        return _shard_names("memory", self.memory_shards)

    @property
    def servers(self) -> tuple[str, ...]:
        """Names of the nodes that serve requests, and of the devices' own processors."""
        return (
            *self.lock_managers,
            *self.memories,
            "mmu",
            "swap_pager",
            "swap_io",
            *(("disk", "disk_io") if self.disk else ()),
            *(("devices",) if self.devices else ()),
        )

    @property
    def nodes(self) -> tuple[str, ...]:
        """Names of all nodes."""
        return (*(f"cpu{i}" for i in range(self.cpus)), "pagedaemon", *self.servers)

    @property
    def processors(self) -> tuple[str, ...]:
        """Names of the nodes on which contexts run."""
        return tuple(one for one in self.nodes if one.startswith("cpu") or one in ("pagedaemon", "swap_io", "disk_io"))

    @property
    def actors(self) -> tuple[tuple[str, ...], ...]:
        """All nodes, in groups that share an actor; contexts run on one node of a group at most."""
        if self.colocate is True:
            disk = tuple(node for node in self.servers if node.startswith("disk"))
            rest = tuple(node for node in self.servers if node not in disk)
            groups: tuple[tuple[str, ...], ...] = (rest, disk) if disk else (rest,)
        else:
            groups = self.colocate or ()
        grouped = {node for group in groups for node in group}
        return (*((node,) for node in self.nodes if node not in grouped), *groups)

    def as_dict(self) -> dict[str, Any]:
        """As plain data, for journals."""
        return asdict(self)


def _shard_names(kind: str, shards: int) -> tuple[str, ...]:
    return (kind,) if shards == 1 else tuple(f"{kind}{i}" for i in range(shards))


# -- loading ---------------------------------------------------------------------


def load_machine(text: str, file: str) -> MachineConfig:
    """Load a file of configs/machines.

    Args:
        file: its name, for messages.
    """
    return machine_of(parse(text, file), described=True)


def machine_of(value: Value, described: bool = False) -> MachineConfig:
    optional = ["page_size", "anons", "reserve_pagedaemon", "reserve_kernel", "freemin", "freetarg"]
    optional += ["disk", "disk_errors", "mmu", "swap", "kernel", "kernel_lock", "devices", "shards", "colocate"]
    optional += ["story"] if described else []
    devices = _swap_devices(value)
    required = ("cpus", "frames") if devices else ("cpus", "frames", "swap_slots")
    keys = value.mapping(required, [*optional, "swap_slots"])
    if devices and "swap_slots" in keys:
        value.fail("swap_slots are those of one device; leave them out, the devices have theirs", key="swap_slots")
    if "story" in keys:
        keys["story"].text()
    cpus = keys["cpus"].integer(1, MAX_CPUS)
    frames = keys["frames"].integer(8, MAX_FRAMES)
    swap_slots = sum(one.slots for one in devices) if devices else keys["swap_slots"].integer(0, MAX_SWAP)
    page_size = keys["page_size"].integer(64, 4096) if "page_size" in keys else 64
    if page_size & (page_size - 1):
        keys["page_size"].fail(f"{page_size} is not a power of two")
    reserve_pagedaemon = keys["reserve_pagedaemon"].integer(0, frames - 3) if "reserve_pagedaemon" in keys else 1
    reserve_kernel = 5
    if "reserve_kernel" in keys:
        reserve_kernel = keys["reserve_kernel"].integer(reserve_pagedaemon, frames - 3)
    elif reserve_kernel < reserve_pagedaemon:
        keys["reserve_pagedaemon"].fail(f"more than reserve_kernel, which is {reserve_kernel}")
    freemin = keys["freemin"].integer(reserve_kernel + 1, frames - 2) if "freemin" in keys else None
    freetarg = None
    if "freetarg" in keys:
        freetarg = keys["freetarg"].integer((freemin or reserve_kernel + 1) + 1, frames - 1)
    config = MachineConfig(
        cpus=cpus,
        frames=frames,
        swap_slots=swap_slots,
        page_size=page_size,
        anons=keys["anons"].integer(1, MAX_FRAMES + MAX_SWAP) if "anons" in keys else 0,
        reserve_pagedaemon=reserve_pagedaemon,
        reserve_kernel=reserve_kernel,
        freemin=freemin,
        freetarg=freetarg,
        swap_devices=devices,
        disk=keys["disk"].integer(0, MAX_SWAP) if "disk" in keys else 0,
    )
    if "mmu" in keys:
        config = replace(config, **_mmu(keys["mmu"]))
    if "disk_errors" in keys:
        if not config.disk:
            keys["disk_errors"].fail("the machine has no disk")
        config = replace(config, disk_faults=_disk_faults(keys["disk_errors"], config.disk))
    if "swap" in keys:
        config = replace(config, swap_faults=_swap_faults(keys["swap"], swap_slots))
    if "kernel" in keys:
        sizes = keys["kernel"].mapping((), ("map", "kmem", "mb", "exec"))
        if not sizes:
            keys["kernel"].fail("expected the pages of map, kmem, mb or exec")
        pages = {name: size.integer(1, MAX_FRAMES) for name, size in sizes.items()}
        config = replace(config, kernel=KernelMaps(**pages))
    if "kernel_lock" in keys:
        config = replace(config, kernel_lock=keys["kernel_lock"].choice(KERNEL_LOCKS, "kernel_lock"))
    if "devices" in keys:
        config = replace(config, devices=_devices(keys["devices"]))
    if "shards" in keys:
        shards = keys["shards"].mapping((), ("lock_manager", "memory"))
        config = replace(
            config,
            lock_manager_shards=shards["lock_manager"].integer(1, MAX_CPUS) if "lock_manager" in shards else 1,
            memory_shards=shards["memory"].integer(1, MAX_CPUS) if "memory" in shards else 1,
        )
    if "colocate" in keys:
        config = replace(config, colocate=_groups(keys["colocate"], config))
    return config


def _mmu(value: Value) -> dict[str, Any]:
    """What kind of MMU it is."""
    found: dict[str, Any] = {}
    keys = value.mapping((), ("unwired_mappings", "page_tables", "rm"))
    if "unwired_mappings" in keys:
        found["unwired_mappings"] = keys["unwired_mappings"].integer(1, MAX_FRAMES)
    if "page_tables" in keys:
        found["page_tables"] = keys["page_tables"].integer(1, MAX_FRAMES)
        if "unwired_mappings" in keys:
            keys["page_tables"].fail("an MMU with room for a few unwired_mappings has no page tables in memory")
    if "rm" in keys:
        found["rm"] = keys["rm"].choice(("hardware", "emulated"), "way to keep R and M")
    return found


def _swap_devices(machine: Value) -> tuple[SwapDevice, ...]:
    """`devices` of the key `swap`, if there are any; the machine's other keys are left alone."""
    if "swap" not in machine.items():
        return ()
    swap = machine.items()["swap"].mapping((), SWAP_KEYS)
    if "devices" not in swap:
        return ()
    devices = []
    for one in swap["devices"].elements(at_least=1):
        keys = one.mapping(("slots",), ("priority",))
        priority = keys["priority"].integer(0, MAX_SWAP) if "priority" in keys else 0
        devices.append(SwapDevice(keys["slots"].integer(1, MAX_SWAP), priority))
    if len(devices) > MAX_SWAP_DEVICES:
        swap["devices"].fail(f"more than {MAX_SWAP_DEVICES} swap devices")
    if sum(one.slots for one in devices) > MAX_SWAP:
        swap["devices"].fail(f"more than {MAX_SWAP} slots on all devices together")
    return tuple(devices)


def _swap_faults(value: Value, swap_slots: int) -> tuple[DeviceFault, ...]:
    """`errors` and `delays` of the swap devices; slots are numbered over all of them."""
    lists = value.mapping((), SWAP_KEYS)
    faults = []
    for name, required, optional in (("errors", ("op", "error"), ("at",)), ("delays", ("op", "by"), ())):
        for one in lists[name].elements(at_least=1) if name in lists else ():
            keys = one.mapping(required, (*optional, "slot", "first", "count"))
            if "slot" in keys and not swap_slots:
                keys["slot"].fail("the machine has no swap_slots")
            faults.append(_fault(keys, keys["slot"].integer(1, swap_slots) if "slot" in keys else None))
    return tuple(faults)


def _disk_faults(value: Value, blocks: int) -> tuple[DeviceFault, ...]:
    """`disk_errors`: what fails of the I/O to files."""
    faults = []
    for one in value.elements(at_least=1):
        keys = one.mapping(("op", "error"), ("at", "block", "first", "count"))
        faults.append(_fault(keys, keys["block"].integer(0, blocks - 1) if "block" in keys else None))
    return tuple(faults)


def _fault(keys: dict[str, Value], slot: int | None) -> DeviceFault:
    """An error or a delay of a device."""
    op = keys["op"].choice(("put", "get"), "operation")
    at = keys["at"].choice(("start", "done"), "time") if "at" in keys else "done"
    if op == "get" and at == "start":
        keys["at"].fail("a read is waited for: it is only ever done")
    return DeviceFault(
        op=op,
        slot=slot,
        first=keys["first"].integer(1, MAX_SWAP) if "first" in keys else 1,
        count=keys["count"].integer(1, MAX_SWAP) if "count" in keys else 0,
        error=keys["error"].choice(("EIO", "EAGAIN"), "error") if "error" in keys else "",
        at=at,
        delay=keys["by"].integer(1, MAX_SWAP) if "by" in keys else 0,
    )


def _devices(value: Value) -> tuple[tuple[str, str], ...]:
    """Devices by name, each with the level of its interrupt."""
    if not value.items():
        value.fail("expected at least one device")
    found = []
    for name, level in value.items().items():
        if not DEVICE_NAME.fullmatch(name):
            value.fail(f"{show(name)} is no name of a device: letters and then a digit, as net0", key=name)
        found.append((name, level.choice(LEVELS, "interrupt level")))
    return tuple(found)


def _groups(value: Value, config: MachineConfig) -> bool | tuple[tuple[str, ...], ...]:
    if not isinstance(value.data, list):
        if not isinstance(value.data, bool):
            value.wanted("true, false or a list of lists of nodes")
        return value.data
    seen: set[str] = set()
    groups = []
    for group in value.elements():
        for one in group.elements(at_least=1):
            if one.choice(config.nodes, "node") in seen:
                one.fail(f"{one.data} is in two groups")
            seen.add(one.data)
        groups.append(tuple(one.data for one in group.elements()))
        running = [one for one in groups[-1] if one in config.processors]
        if len(running) > 1:
            group.fail(f"{running[0]} and {running[1]} both run contexts, so they cannot share an actor")
    return tuple(groups)
