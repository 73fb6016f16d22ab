"""swapctl(2): what its manual page promises, and where pages go when there are several devices."""

from __future__ import annotations

from typing import Any

import pytest

from cluster.search import make
from shared.detectors.invariants import Snapshot
from shared.detectors.verdict import snapshot_of
from shared.uvm.structs import uvmexp
from tests.kit import answers, scene

A_HAS = """process: {as: A, cpu: 0}
           mmap: {in: A, as: buf, pages: 3}
           write: {in: A, at: "buf[0]", value: 1}
           write: {in: A, at: "buf[1]", value: 2}
           write: {in: A, at: "buf[2]", value: 3}"""
B_HAS = """process: {as: B, cpu: 1}
           fill: {in: B, until_free: 6}
           mmap: {in: B, as: more, pages: 2}
           write: {in: B, at: "more[0]", value: 4}
           write: {in: B, at: "more[1]", value: 5}"""
Answers = tuple[list[dict[str, Any]], Snapshot]
ROOM = 'munmap: {in: B, at: "fill[0]", pages: 16}'
TWO = "{devices: [{slots: 16}, {slots: 16}]}"


def run(program: str, room: str = ROOM, swap: str = TWO, setup: str = f"{A_HAS}\n{B_HAS}", frames: int = 16) -> Answers:
    """What the steps with `into` answered in each run, and the machine at the end of the last."""
    made = scene({"A": program}, f"{setup}\n{room}", f"cpus: 2, frames: {frames}, page_size: 64, swap: {swap}")
    seen = []
    for results, sim in answers(made, (make("random", 0, 3), 4), (make("pct", 0, 3), 4)):
        seen.append(results)
        machine = sim.machine
    return seen, snapshot_of(machine.state())


READ = '\nread: {at: "buf[0]", into: r0}\nread: {at: "buf[1]", into: r1}\nread: {at: "buf[2]", into: r2}\npause: {}'
OFF = "swapctl: {do: off, device: 0, into: off}"


def test_what_was_on_a_device_is_in_memory_when_it_has_gone() -> None:
    answers, end = run(OFF + READ)
    assert answers == [{"off": 0, "r0": 1, "r1": 2, "r2": 3}] * len(answers)
    assert end.num(uvmexp, "swpages") == 16


def test_the_last_device_can_go_too() -> None:
    answers, end = run("swapctl: {do: off, device: 1, into: off1}\n" + OFF + READ)
    assert answers == [{"off1": 0, "off": 0, "r0": 1, "r1": 2, "r2": 3}] * len(answers)
    assert end.num(uvmexp, "swpages") == end.num(uvmexp, "swpginuse") == 0


def test_a_device_is_on_or_off_once() -> None:
    """EBUSY: the device is already being used. ENXIO: it is not."""
    answers, _ = run(f"""swapctl: {{do: on, device: 0, into: busy}}
                         {OFF}
                         swapctl: {{do: off, device: 0, into: again}}
                         swapctl: {{do: on, device: 0, into: on}}
                         {READ.strip()}""")
    assert answers == [{"busy": "EBUSY", "off": 0, "again": "ENXIO", "on": 0, "r0": 1, "r1": 2, "r2": 3}] * len(answers)


def test_a_device_whose_pages_do_not_fit_into_memory_stays_on() -> None:
    """ENOMEM; and nothing is lost."""
    answers, end = run(OFF + READ, room="", swap="{devices: [{slots: 32}]}")
    assert answers == [{"off": "ENOMEM", "r0": 1, "r1": 2, "r2": 3}] * len(answers)
    assert end.num(uvmexp, "swpages") == 32


@pytest.mark.parametrize(
    ("swap", "used"),
    [
        ("{devices: [{slots: 32, priority: 1}, {slots: 32}]}", [0, 1]),
        ("{devices: [{slots: 32}, {slots: 32, priority: 1}]}", [1, 0]),
        ("{devices: [{slots: 4}, {slots: 32, priority: 1}]}", [0, 1]),  # too small for a cluster
    ],
)
def test_devices_are_used_in_order_of_priority(swap: str, used: list[int]) -> None:
    _, end = run(READ, room="", swap=swap)
    assert [min(1, len(slots)) for slots in end.slots_in_use.values()] == used


def test_devices_of_one_priority_are_used_in_turn() -> None:
    """They are too small for a cluster, so each page is allocated its slot by itself."""
    _, end = run(READ, room="", swap="{devices: [{slots: 8}, {slots: 8}, {slots: 8}]}")
    assert all(len(slots) >= 2 for slots in end.slots_in_use.values())


def test_data_that_cannot_be_read_is_lost_and_the_device_goes() -> None:
    """A bad slot stays one: counted while the device is away, and not given out when it is back."""
    swap = "{devices: [{slots: 16}, {slots: 16}], errors: [{op: get, first: 1, count: 1, error: EIO}]}"
    answers, end = run(OFF + "\nswapctl: {do: on, device: 0, into: on}" + READ, swap=swap)
    for answer in answers:
        assert (answer["off"], answer["on"]) == (0, 0)
        assert [answer["r0"], answer["r1"], answer["r2"]].count("SIGBUS") <= 1
    assert end.num(uvmexp, "swpages") == 32 and end.num(uvmexp, "swpginuse") >= 1


def test_pages_of_shared_memory_are_brought_in_too() -> None:
    buf = "mmap: {in: A, as: buf, pages: 3"
    assert buf in A_HAS
    shared = A_HAS.replace(buf, "shm: {as: seg, pages: 3}\nmmap: {in: A, as: buf, pages: 3, shm: seg")
    answers, end = run(OFF + READ, setup=f"{shared}\n{B_HAS}")
    assert answers == [{"off": 0, "r0": 1, "r1": 2, "r2": 3}] * len(answers)
    assert end.num(uvmexp, "swpages") == 16


def test_a_device_stays_on_if_shared_memory_does_not_fit() -> None:
    """ENOMEM, as for memory of one's own; nothing is lost, and others can call swapctl(2)."""
    setup = "shm: {as: seg, pages: 9}\nprocess: {as: A, cpu: 0}\nmmap: {in: A, as: buf, pages: 9, shm: seg}\n"
    setup += "\n".join(f'write: {{in: A, at: "buf[{page}]", value: {page + 1}}}' for page in range(9))
    again = "\nswapctl: {do: on, device: 0, into: on}"
    answers, end = run(OFF + again + READ, room="", swap="{devices: [{slots: 24}]}", setup=setup, frames=12)
    assert answers == [{"off": "ENOMEM", "on": "EBUSY", "r0": 1, "r1": 2, "r2": 3}] * len(answers)
    assert end.num(uvmexp, "swpages") == 24
