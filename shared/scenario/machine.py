"""The machine of a scenario, and the strict loader of that part of its file (or of a file in configs/machines)."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, replace
from typing import TypedDict

from shared.port.port import SPL_BIO, SPL_CLOCK, SPL_IMP
from shared.scenario.yaml import Reading, Value, parse, show
from shared.uvm.param import MAXBSIZE_PAGES

MAX_CPUS, MAX_FRAMES, MAX_SWAP, MAX_SWAP_DEVICES = 128, 16384, 8192, 20
#: interrupt levels of devices, by name
LEVELS = {"bio": SPL_BIO, "imp": SPL_IMP, "clock": SPL_CLOCK}
KERNEL_LOCKS = ("fine", "big")
#: bytes: the powers of two from the smallest to the largest
PAGE_SIZES = tuple(64 << bits for bits in range(7))
SWAP_KEYS = ("errors", "delays", "devices")
OPERATIONS, ERRORS, TIMES, RM = ("put", "get"), ("EIO", "EAGAIN"), ("start", "done"), ("hardware", "emulated")
SHARDED = ("lock_manager", "memory")
KERNEL_MAPS = ("map", "kmem", "mb", "exec")
#: number in a machine's file -> the lowest and the highest that it may be; the rest of the machine may allow less
BOUNDS = {
    "cpus": (1, MAX_CPUS), "frames": (8, MAX_FRAMES), "swap_slots": (0, MAX_SWAP), "disk": (0, MAX_SWAP),
    "page_size": (PAGE_SIZES[0], PAGE_SIZES[-1]), "anons": (1, MAX_FRAMES + MAX_SWAP),
    "reserve_pagedaemon": (0, MAX_FRAMES), "reserve_kernel": (0, MAX_FRAMES),
    "freemin": (1, MAX_FRAMES), "freetarg": (1, MAX_FRAMES),
    "slot": (1, MAX_SWAP), "block": (0, MAX_SWAP), "first": (1, MAX_SWAP), "count": (1, MAX_SWAP), "by": (1, MAX_SWAP),
    "slots": (1, MAX_SWAP), "priority": (0, MAX_SWAP),
    "unwired_mappings": (1, MAX_FRAMES), "page_tables": (1, MAX_FRAMES),
    **dict.fromkeys(KERNEL_MAPS, (1, MAX_FRAMES)), **dict.fromkeys(SHARDED, (1, MAX_CPUS)),
}  # fmt: skip
DEVICE_NAME = re.compile(r"(?!cpu|intr)[a-z]{2,8}[0-9]")


@dataclass(frozen=True, slots=True)
class DeviceFault:
    """Requests that a device refuses, fails or delays: swap I/O, or file I/O of the disk. Does not apply during setup.

    Attributes:
        op: "put" (a write) or "get" (a read).
        slot: only requests that touch this slot (of a disk: block); None: any.
        first, count: which of those requests, from 1; count 0: all from there on.
        error: "EIO" (hard), "EAGAIN" (transient), or "" (none).
        at: "start": nothing is started; "done": it is started, and fails.
        maybe: whether it fails is a choice of data, which the device's context makes when it performs the request.
        delay: so many later requests may overtake it.
    """

    op: str
    slot: int | None = None
    first: int = 1
    count: int = 0
    error: str = ""
    at: str = "done"
    delay: int = 0
    maybe: bool = False


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
        return tuple(
            node for node in self.nodes if node.startswith("cpu") or node in ("pagedaemon", "swap_io", "disk_io")
        )

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

    @property
    def doubts(self) -> tuple[str, ...]:
        """What is allowed, and perhaps not meant, in sentences."""
        if len(self.swap_devices) < 2:
            return ()
        return tuple(
            f"swap device {number} has {device.slots} slots: the pagedaemon asks for {MAXBSIZE_PAGES} in a row, so it "
            "skips this device as long as another device has them, whatever the priorities"
            for number, device in enumerate(self.swap_devices)
            if device.slots < MAXBSIZE_PAGES
        )

    def as_dict(self) -> dict[str, object]:
        """As plain data, for journals. A fault that is certain says no more than it did before there were others."""
        fields = asdict(self)
        for fault in (*fields["swap_faults"], *fields["disk_faults"]):
            if not fault["maybe"]:
                del fault["maybe"]
        return fields


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
    """A machine; all that is wrong with it is told at once."""
    optional = ["page_size", "anons", "reserve_pagedaemon", "reserve_kernel", "freemin", "freetarg"]
    optional += ["disk", "disk_errors", "mmu", "swap", "kernel", "kernel_lock", "devices", "shards", "colocate"]
    optional += ["swap_slots"]
    optional += ["story"] if described else []
    keys = value.items()
    reading = Reading()

    def number(key: str, otherwise: int, low: int | None = None, high: int | None = None) -> int:
        return reading.section(keys, key, lambda entry: _number(entry, key, low, high), otherwise)

    devices = reading.section(keys, "swap", _swap_devices, ())
    by_device = isinstance(keys["swap"].data, dict) and "devices" in keys["swap"].data if "swap" in keys else False
    swap_is_wrong = bool(reading.mistakes)
    required = ("cpus", "frames") if by_device or swap_is_wrong else ("cpus", "frames", "swap_slots")
    reading.mistakes += value.wrong_keys(required, optional)
    if by_device and "swap_slots" in keys:
        wrong = "swap_slots is for a single device; leave it out, because each device has its own slots"
        reading.mistakes.append(value.mistake(wrong, "swap_slots"))
    reading.section(keys, "story", Value.text, "")
    cpus = number("cpus", MAX_CPUS)
    frames = number("frames", MAX_FRAMES)
    swap_slots = sum(device.slots for device in devices) if by_device else number("swap_slots", MAX_SWAP)
    page_size = number("page_size", PAGE_SIZES[0])
    if page_size not in PAGE_SIZES:
        reading.mistakes.append(keys["page_size"].mistake(f"{page_size} is not a power of two"))
    reserve_pagedaemon = number("reserve_pagedaemon", 1, high=frames - 3)
    reserve_kernel = number("reserve_kernel", 5, reserve_pagedaemon, frames - 3)
    if reserve_kernel < reserve_pagedaemon:
        wrong = f"more than reserve_kernel, which is {reserve_kernel}"
        reading.mistakes.append(keys["reserve_pagedaemon"].mistake(wrong))
    freemin = number("freemin", 0, reserve_kernel + 1, frames - 2) or None
    shards = reading.section(keys, "shards", _shards, {})
    config = MachineConfig(
        cpus=cpus,
        frames=frames,
        swap_slots=swap_slots,
        page_size=page_size,
        anons=number("anons", 0),
        reserve_pagedaemon=reserve_pagedaemon,
        reserve_kernel=reserve_kernel,
        freemin=freemin,
        freetarg=number("freetarg", 0, (freemin or reserve_kernel + 1) + 1, frames - 1) or None,
        swap_devices=devices,
        disk=number("disk", MAX_SWAP if "disk" in keys else 0),
        kernel=reading.section(keys, "kernel", _kernel_maps, None),
        kernel_lock=reading.section(keys, "kernel_lock", lambda lock: lock.choice(KERNEL_LOCKS, "kernel_lock"), "fine"),
        devices=reading.section(keys, "devices", _devices, ()),
        **reading.section(keys, "mmu", _mmu, _Mmu()),
        lock_manager_shards=shards.get("lock_manager", 1),
        memory_shards=shards.get("memory", 1),
    )
    config = replace(
        config,
        disk_faults=reading.section(keys, "disk_errors", lambda entry: _disk_faults(entry, config.disk), ()),
        swap_faults=()
        if swap_is_wrong
        else reading.section(keys, "swap", lambda entry: _swap_faults(entry, swap_slots), ()),
        colocate=reading.section(keys, "colocate", lambda entry: _groups(entry, config), True),
    )
    reading.complain()
    return config


def _number(value: Value, key: str, low: int | None = None, high: int | None = None) -> int:
    """A number, within the bounds of its key or closer bounds."""
    lowest, highest = BOUNDS[key]
    return value.integer(lowest if low is None else low, highest if high is None else high)


def _kernel_maps(value: Value) -> KernelMaps:
    sizes = value.mapping((), KERNEL_MAPS)
    if not sizes:
        value.fail("expected the pages of map, kmem, mb or exec")
    return KernelMaps(**{name: _number(size, name) for name, size in sizes.items()})


def _shards(value: Value) -> dict[str, int]:
    """How many nodes of a kind there are."""
    return {kind: _number(number, kind) for kind, number in value.mapping((), SHARDED).items()}


class _Mmu(TypedDict, total=False):
    unwired_mappings: int
    page_tables: int
    rm: str


def _mmu(value: Value) -> _Mmu:
    """What kind of MMU it is."""
    settings: _Mmu = {}
    keys = value.mapping((), ("unwired_mappings", "page_tables", "rm"))
    if "unwired_mappings" in keys:
        settings["unwired_mappings"] = _number(keys["unwired_mappings"], "unwired_mappings")
    if "page_tables" in keys:
        settings["page_tables"] = _number(keys["page_tables"], "page_tables")
        if "unwired_mappings" in keys:
            keys["page_tables"].fail("an MMU with room for a few unwired_mappings has no page tables in memory")
    if "rm" in keys:
        settings["rm"] = keys["rm"].choice(RM, "way to keep R and M")
    return settings


def _swap_devices(value: Value) -> tuple[SwapDevice, ...]:
    """`devices` of the key `swap`, if there are any."""
    swap = value.mapping((), SWAP_KEYS)
    if "devices" not in swap:
        return ()
    devices = []
    for device in swap["devices"].elements(at_least=1):
        keys = device.mapping(("slots",), ("priority",))
        priority = _number(keys["priority"], "priority") if "priority" in keys else 0
        devices.append(SwapDevice(_number(keys["slots"], "slots"), priority))
    if len(devices) > MAX_SWAP_DEVICES:
        swap["devices"].fail(f"more than {MAX_SWAP_DEVICES} swap devices")
    if sum(device.slots for device in devices) > MAX_SWAP:
        swap["devices"].fail(f"more than {MAX_SWAP} slots on all devices together")
    return tuple(devices)


def _swap_faults(value: Value, swap_slots: int) -> tuple[DeviceFault, ...]:
    """`errors` and `delays` of the swap devices; slots are numbered over all of them."""
    lists = value.items()  # whose keys have been looked at
    faults = []
    for name, required, optional in (("errors", ("op", "error"), ("at", "maybe")), ("delays", ("op", "by"), ())):
        for fault in lists[name].elements(at_least=1) if name in lists else ():
            keys = fault.mapping(required, (*optional, "slot", "first", "count"))
            if "slot" in keys and not swap_slots:
                keys["slot"].fail("the machine has no swap_slots")
            faults.append(_fault(keys, _number(keys["slot"], "slot", high=swap_slots) if "slot" in keys else None))
    return tuple(faults)


def _disk_faults(value: Value, blocks: int) -> tuple[DeviceFault, ...]:
    """`disk_errors`: what fails of the I/O to files."""
    if not blocks:
        value.fail("the machine has no disk")
    faults = []
    for fault in value.elements(at_least=1):
        keys = fault.mapping(("op", "error"), ("at", "maybe", "block", "first", "count"))
        faults.append(_fault(keys, _number(keys["block"], "block", high=blocks - 1) if "block" in keys else None))
    return tuple(faults)


def _fault(keys: dict[str, Value], slot: int | None) -> DeviceFault:
    """An error or a delay of a device."""
    op = keys["op"].choice(OPERATIONS, "operation")
    at = keys["at"].choice(TIMES, "time") if "at" in keys else "done"
    if op == "get" and at == "start":
        keys["at"].fail("the kernel waits for a read, so only done is possible")
    maybe = keys["maybe"].boolean() if "maybe" in keys else False
    if maybe and at == "start":
        keys["maybe"].fail("the choice is made when the request is performed, and then the request has been started")
    return DeviceFault(
        op=op,
        slot=slot,
        first=_number(keys["first"], "first") if "first" in keys else 1,
        count=_number(keys["count"], "count") if "count" in keys else 0,
        error=keys["error"].choice(ERRORS, "error") if "error" in keys else "",
        at=at,
        delay=_number(keys["by"], "by") if "by" in keys else 0,
        maybe=maybe,
    )


def _devices(value: Value) -> tuple[tuple[str, str], ...]:
    """Devices by name, each with the level of its interrupt."""
    if not value.items():
        value.fail("expected at least one device")
    devices = []
    for name, level in value.items().items():
        if not DEVICE_NAME.fullmatch(name):
            value.fail(f"{show(name)} is not the name of a device: letters and then a digit, such as net0", key=name)
        devices.append((name, level.choice(LEVELS, "interrupt level")))
    return tuple(devices)


def _groups(value: Value, config: MachineConfig) -> bool | tuple[tuple[str, ...], ...]:
    if not isinstance(value.data, list):
        if not isinstance(value.data, bool):
            value.wanted("true, false or a list of lists of nodes")
        return value.data
    seen: set[str] = set()
    groups = []
    for group in value.elements():
        nodes = []
        for element in group.elements(at_least=1):
            node = element.choice(config.nodes, "node")
            if node in seen:
                element.fail(f"{node} is in two groups")
            seen.add(node)
            nodes.append(node)
        groups.append(tuple(nodes))
        running = [node for node in nodes if node in config.processors]
        if len(running) > 1:
            group.fail(f"{running[0]} and {running[1]} both run contexts, so they cannot share an actor")
    return tuple(groups)
