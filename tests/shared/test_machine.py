"""Machines: each key of a file is a field, with its default and its limits, and what is wrong is told with its place."""

# ruff: noqa: E501 - one bad input, one line

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from shared.errors import UserMistake
from shared.port.port import SPL_IPI
from shared.scenario.machine import (
    LEVELS,
    MAX_CPUS,
    MAX_FRAMES,
    MAX_SWAP,
    MAX_SWAP_DEVICES,
    DeviceFault,
    KernelMaps,
    MachineConfig,
    SwapDevice,
    load_machine,
)
from shared.scenario.pack import pack_scenario, unpack_scenario
from tests.kit import CONFIGS, empty

SMALL = "cpus: 1\nframes: 16\nswap_slots: 8\n"
#: all keys but `swap_slots`, which excludes devices of swap, and `page_tables`, which excludes `unwired_mappings`
WHOLE = """\
story: A machine that has everything.
cpus: 3
frames: 64
page_size: 128
anons: 99
reserve_pagedaemon: 2
reserve_kernel: 6
freemin: 9
freetarg: 12
disk: 7
disk_errors:
  - {op: get, block: 5, error: EIO, first: 2, count: 3, maybe: true}
  - {op: put, error: EAGAIN, at: start}
mmu: {unwired_mappings: 11, rm: emulated}
swap:
  devices: [{slots: 20, priority: 4}, {slots: 30}]
  errors: [{op: put, error: EIO, slot: 50}, {op: get, error: EAGAIN, at: done, first: 4, maybe: true}]
  delays: [{op: get, by: 3, slot: 1, first: 2, count: 1}]
kernel: {map: 1, kmem: 2, mb: 3, exec: 4}
kernel_lock: big
devices: {net0: imp, com1: clock, sd2: bio}
shards: {lock_manager: 2, memory: 3}
colocate: [[cpu0, mmu], [disk, disk_io]]
"""


def test_every_key_of_a_file_is_a_field_of_the_machine() -> None:
    assert load_machine(WHOLE, "m.yaml") == MachineConfig(
        cpus=3,
        frames=64,
        swap_slots=50,
        page_size=128,
        anons=99,
        reserve_pagedaemon=2,
        reserve_kernel=6,
        freemin=9,
        freetarg=12,
        disk=7,
        unwired_mappings=11,
        page_tables=0,
        rm="emulated",
        swap_devices=(SwapDevice(20, 4), SwapDevice(30, 0)),
        swap_faults=(
            DeviceFault("put", 50, 1, 0, "EIO", "done", 0),
            DeviceFault("get", None, 4, 0, "EAGAIN", "done", 0, maybe=True),
            DeviceFault("get", 1, 2, 1, "", "done", 3),
        ),
        disk_faults=(
            DeviceFault("get", 5, 2, 3, "EIO", "done", 0, maybe=True),
            DeviceFault("put", None, 1, 0, "EAGAIN", "start", 0),
        ),
        kernel=KernelMaps(1, 2, 3, 4),
        kernel_lock="big",
        devices=(("net0", "imp"), ("com1", "clock"), ("sd2", "bio")),
        lock_manager_shards=2,
        memory_shards=3,
        colocate=(("cpu0", "mmu"), ("disk", "disk_io")),
    )


def test_what_a_file_leaves_out_is_as_small_and_sound_as_can_be() -> None:
    machine = load_machine(SMALL, "m.yaml")
    assert machine == MachineConfig(1, 16, 8) == MachineConfig(
        cpus=1,
        frames=16,
        swap_slots=8,
        page_size=64,
        anons=24,
        reserve_pagedaemon=1,
        reserve_kernel=5,
        swap_devices=(SwapDevice(8),),
        kernel_lock="fine",
        rm="hardware",
        lock_manager_shards=1,
        memory_shards=1,
        colocate=True,
    )  # fmt: skip
    assert load_machine(SMALL + "mmu: {page_tables: 4, rm: hardware}\n", "m.yaml") == replace(machine, page_tables=4)
    assert load_machine("story: It has none.\n" + SMALL, "m.yaml") == machine
    assert load_machine(SMALL + "colocate: false\n", "m.yaml") == replace(machine, colocate=False)
    assert load_machine(SMALL + "kernel: {map: 1}\n", "m.yaml").kernel == KernelMaps(map=1)
    assert load_machine(SMALL.replace("8", "0"), "m.yaml").swap_devices == ()


def test_levels_of_devices_are_below_that_of_shootdowns() -> None:
    """And as UVM has them one above the other: a disk's, a network's, the clock's."""
    assert LEVELS["bio"] < LEVELS["imp"] < LEVELS["clock"] < SPL_IPI


#: a key with NUMBER for what it has -> the least and the largest that it may be; of a machine of 16 frames, 8 slots,
#: a disk of 4 blocks
LIMITS = {
    "anons: NUMBER": (1, MAX_FRAMES + MAX_SWAP),
    "reserve_pagedaemon: NUMBER\nreserve_kernel: 13": (0, 13),
    "reserve_pagedaemon: 2\nreserve_kernel: NUMBER": (2, 13),
    "freemin: NUMBER": (6, 14),
    "freetarg: NUMBER": (7, 15),
    "freemin: 9\nfreetarg: NUMBER": (10, 15),
    "kernel: {map: NUMBER}": (1, MAX_FRAMES),
    "kernel: {mb: NUMBER}": (1, MAX_FRAMES),
    "mmu: {unwired_mappings: NUMBER}": (1, MAX_FRAMES),
    "mmu: {page_tables: NUMBER}": (1, MAX_FRAMES),
    "shards: {memory: NUMBER}": (1, MAX_CPUS),
    "shards: {lock_manager: NUMBER}": (1, MAX_CPUS),
    "swap: {errors: [{op: put, error: EIO, slot: NUMBER}]}": (1, 8),
    "swap: {errors: [{op: put, error: EIO, first: NUMBER}]}": (1, MAX_SWAP),
    "swap: {errors: [{op: put, error: EIO, count: NUMBER}]}": (1, MAX_SWAP),
    "swap: {delays: [{op: put, by: NUMBER}]}": (1, MAX_SWAP),
    "disk_errors: [{op: put, error: EIO, block: NUMBER}]": (0, 3),
}


@pytest.mark.parametrize("key", LIMITS)
def test_a_number_has_its_limits_and_may_be_each_of_them(key: str) -> None:
    low, high = LIMITS[key]
    disk = "disk: 4\n"
    for number in (low, high):
        load_machine(f"{SMALL}{disk}{key.replace('NUMBER', str(number))}\n", "m.yaml")
    for number in (low - 1, high + 1):
        with pytest.raises(UserMistake, match=f"{number} is out of range: {low} to {high}$"):
            load_machine(f"{SMALL}{disk}{key.replace('NUMBER', str(number))}\n", "m.yaml")


@pytest.mark.parametrize(
    ("key", "low", "high"),
    [("cpus", 1, MAX_CPUS), ("frames", 8, MAX_FRAMES), ("swap_slots", 0, MAX_SWAP), ("disk", 0, MAX_SWAP)],
)
def test_so_have_the_numbers_that_a_machine_is_made_of(key: str, low: int, high: int) -> None:
    given = {"cpus": 1, "frames": 16, "swap_slots": 8, "reserve_kernel": 2}

    def load(number: int) -> MachineConfig:
        return load_machine("".join(f"{name}: {value}\n" for name, value in {**given, key: number}.items()), "m.yaml")

    assert [getattr(load(number), key) for number in (low, high)] == [low, high]
    for number in (low - 1, high + 1):
        with pytest.raises(UserMistake, match=f"{number} is out of range: {low} to {high}$"):
            load(number)


@pytest.mark.parametrize(
    ("text", "field", "message"),
    [
        ("reserve_pagedaemon: 6", "reserve_pagedaemon", "more than reserve_kernel, which is 5"),
        ("swap: {devices: [{slots: 4}]}", "swap_slots", "swap_slots is for a single device; leave it out, because each device has its own slots"),
        ("kernel: {}", "kernel", "expected the pages of map, kmem, mb or exec"),
        ("kernel: {pages: 1}", "kernel.pages", "unknown key 'pages'; known here: map, kmem, mb, exec"),
        ("kernel_lock: giant", "kernel_lock", "unknown kernel_lock 'giant'; known: fine, big"),
        ("mmu: {page_tables: 4, unwired_mappings: 2}", "mmu.page_tables", "an MMU with room for a few unwired_mappings has no page tables in memory"),
        ("mmu: {rm: soft}", "mmu.rm", "unknown way to keep R and M 'soft'; known: hardware, emulated"),
        ("disk_errors: [{op: put, error: EIO}]", "disk_errors", "the machine has no disk"),
        ("swap: {errors: [{op: move, error: EIO}]}", "swap.errors[0].op", "unknown operation 'move'; known: put, get"),
        ("swap: {errors: [{op: put, error: EPIPE}]}", "swap.errors[0].error", "unknown error 'EPIPE'; known: EIO, EAGAIN"),
        ("swap: {errors: [{op: put, error: EIO, at: first}]}", "swap.errors[0].at", "unknown time 'first'; known: start, done"),
        ("swap: {errors: [{op: get, error: EIO, at: start}]}", "swap.errors[0].at", "the kernel waits for a read, so only done is possible"),
        ("swap: {errors: [{op: put, error: EIO, by: 2}]}", "swap.errors[0].by", "unknown key 'by'; known here: op, error, at, maybe, slot, first, count"),
        ("swap: {delays: [{op: put, by: 2, at: done}]}", "swap.delays[0].at", "unknown key 'at'; known here: op, by, slot, first, count"),
        ("disk: 1\ndisk_errors: [{op: put, error: EIO, at: start, maybe: true}]", "disk_errors[0].maybe", "the choice is made when the request is performed, and then the request has been started"),
        ("devices: {}", "devices", "expected at least one device"),
        ("devices: {ne20: imp}", "devices.ne20", "'ne20' is not the name of a device: letters and then a digit, such as net0"),
        ("devices: {net0: high}", "devices.net0", "unknown interrupt level 'high'; known: bio, imp, clock"),
        ("colocate: 1", "colocate", "expected true, false or a list of lists of nodes, found 1"),
        ("colocate: [[]]", "colocate[0]", "expected at least 1 entry"),
        ("colocate: [[mmu], [memory, mmu]]", "colocate[1][1]", "mmu is in two groups"),
        ("colocate: [[cpu0, mmu, pagedaemon]]", "colocate[0]", "cpu0 and pagedaemon both run contexts, so they cannot share an actor"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_its_place(text: str, field: str, message: str) -> None:
    with pytest.raises(UserMistake) as caught:
        load_machine(f"{SMALL}{text}\n", "m.yaml")
    assert (caught.value.file, caught.value.field, caught.value.message) == ("m.yaml", field, message)


def test_a_machine_inside_of_a_scenario_tells_no_story() -> None:
    """The scenario has one."""
    with pytest.raises(UserMistake, match="unknown key 'story'"):
        empty("cpus: 1, frames: 16, swap_slots: 0, story: Of its own.")


def test_slots_are_needed_for_what_is_wrong_with_them() -> None:
    with pytest.raises(UserMistake) as caught:
        load_machine("cpus: 1\nframes: 16\nswap_slots: 0\nswap: {errors: [{op: put, error: EIO, slot: 1}]}\n", "m.yaml")
    assert (caught.value.field, caught.value.message) == ("swap.errors[0].slot", "the machine has no swap_slots")


def test_devices_of_swap_are_as_many_and_as_large_as_can_be() -> None:
    def load(*slots: int) -> MachineConfig:
        devices = ", ".join(f"{{slots: {each}}}" for each in slots)
        return load_machine(f"cpus: 1\nframes: 16\nswap: {{devices: [{devices}]}}\n", "m.yaml")

    assert load(*[1] * MAX_SWAP_DEVICES).swap_slots == MAX_SWAP_DEVICES and load(MAX_SWAP).swap_slots == MAX_SWAP
    for slots, message in (
        ([1] * (MAX_SWAP_DEVICES + 1), f"more than {MAX_SWAP_DEVICES} swap devices"),
        ([MAX_SWAP, 1], f"more than {MAX_SWAP} slots on all devices together"),
    ):
        with pytest.raises(UserMistake) as caught:
            load(*slots)
        assert (caught.value.field, caught.value.message) == ("swap.devices", message)


def test_all_mistakes_are_told_at_once() -> None:
    text = "cpus: 0\nframes: 7\nfreemem: 3\nmmu: {rm: soft}\nshards: {memory: 999}\ncolocate: maybe\n"
    with pytest.raises(UserMistake) as caught:
        load_machine(text, "m.yaml")
    told = [(mistake.line, mistake.field) for mistake in (caught.value, *caught.value.others)]
    assert sorted(told) == [
        (1, ""), (1, "cpus"), (2, "frames"), (3, "freemem"), (4, "mmu.rm"), (5, "shards.memory"), (6, "colocate"),
    ]  # fmt: skip


def test_the_configuration_of_a_swap_device() -> None:
    text = SMALL + (
        "swap:\n"
        "  errors:\n    - {op: put, slot: 3, error: EIO}\n"
        "    - {op: put, first: 2, count: 1, error: EAGAIN, at: start}\n"
        "    - {op: get, error: EIO, maybe: true}\n"
        "  delays:\n    - {op: get, by: 3}\n"
    )
    machine = load_machine(text, "m.yaml")
    assert machine.swap_faults == (
        DeviceFault("put", slot=3, error="EIO"),
        DeviceFault("put", first=2, count=1, error="EAGAIN", at="start"),
        DeviceFault("get", error="EIO", maybe=True),
        DeviceFault("get", delay=3),
    )
    assert machine != MachineConfig(cpus=1, frames=16, swap_slots=8)
    made = empty("cpus: 3, frames: 8, swap_slots: 4, swap: {delays: [{op: get, by: 1}]}")
    assert unpack_scenario(pack_scenario(made)) == made


def test_several_swap_devices() -> None:
    """Their slots are numbered one device after the other, and errors name them so."""
    text = "cpus: 1\nframes: 16\nswap:\n  devices: [{slots: 4, priority: 1}, {slots: 8}]\n"
    machine = load_machine(text + "  errors: [{op: put, slot: 12, error: EIO}]\n", "m.yaml")
    assert machine.swap_devices == (SwapDevice(4, 1), SwapDevice(8)) and machine.swap_slots == 12
    assert load_machine("cpus: 1\nframes: 16\nswap_slots: 8\n", "m.yaml").swap_devices == (SwapDevice(8),)
    assert load_machine("cpus: 1\nframes: 16\nswap_slots: 0\n", "m.yaml").swap_devices == ()
    made = empty("cpus: 3, frames: 8, swap: {devices: [{slots: 4}, {slots: 2}]}")
    assert unpack_scenario(pack_scenario(made)) == made


@pytest.mark.parametrize(
    ("swap", "complaint"),
    [
        ("{errors: [{op: trim, error: EIO}]}", "operation"),
        ("{errors: [{op: put, error: ENOMEM}]}", "error"),
        ("{errors: [{op: put}]}", "error"),
        ("{errors: [{op: put, slot: 9, error: EIO}]}", "8"),
        ("{errors: [{op: put, slot: 0, error: EIO}]}", "1"),
        ("{errors: [{op: get, error: EIO, at: start}]}", "only done is possible"),
        ("{errors: [{op: put, error: EIO, at: start, maybe: true}]}", "the request has been started"),
        ("{errors: [{op: put, error: EIO, maybe: perhaps}]}", "true or false"),
        ("{delays: [{op: put, by: 3, maybe: true}]}", "maybe"),
        ("{errors: [{op: put, error: EIO, by: 2}]}", "by"),
        ("{delays: [{op: put, by: 0}]}", "1"),
        ("{delays: []}", "at least"),
        ("{faults: []}", "faults"),
    ],
)
def test_a_wrong_configuration_is_refused(swap: str, complaint: str) -> None:
    with pytest.raises(UserMistake, match=complaint):
        load_machine(f"{SMALL}swap: {swap}\n", "m.yaml")


@pytest.mark.parametrize("path", sorted((CONFIGS / "machines").glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_machines_load_as_their_files_say(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    machine, says = load_machine(text, str(path)), yaml.safe_load(text)
    assert (machine.cpus, machine.frames, machine.swap_slots) == (says["cpus"], says["frames"], says["swap_slots"])


# -- nodes, and what they share --------------------------------------------------------------


def test_actors_group_the_nodes() -> None:
    machine = MachineConfig(cpus=2, frames=24, swap_slots=8, memory_shards=2)
    cpus = (("cpu0",), ("cpu1",), ("pagedaemon",))
    servers = ("lock_manager", "memory0", "memory1", "mmu", "swap_pager", "swap_io")
    assert machine.actors == (*cpus, servers)
    assert replace(machine, colocate=False).actors == (*cpus, *((server,) for server in servers))
    text = "cpus: 1\nframes: 24\nswap_slots: 8\nshards: {memory: 2}\ncolocate: [[cpu0, mmu], [memory0, memory1]]\n"
    assert load_machine(text, "m.yaml").actors == (
        ("pagedaemon",), ("lock_manager",), ("swap_pager",), ("swap_io",), ("cpu0", "mmu"), ("memory0", "memory1"),
    )  # fmt: skip


def test_two_nodes_that_run_contexts_cannot_share_an_actor() -> None:
    """An actor has one thread for the kernel, and one port."""
    text = "cpus: 2\nframes: 24\nswap_slots: 8\ncolocate: [[cpu0, cpu1]]\n"
    with pytest.raises(UserMistake, match="cannot share an actor"):
        load_machine(text, "machine.yaml")


def test_a_small_swap_device_beside_others_is_doubted() -> None:
    """UVM asks for a cluster first, which the small one never has."""
    text = "cpus: 1\nframes: 24\nswap: {devices: [{slots: 15, priority: 0}, {slots: 16, priority: 1}]}\n"
    [doubt] = load_machine(text, "m.yaml").doubts
    assert doubt.startswith("swap device 0 has 15 slots: ")
    assert load_machine(text.replace("15", "16"), "m.yaml").doubts == ()
    assert load_machine("cpus: 1\nframes: 24\nswap_slots: 4\n", "m.yaml").doubts == ()
