"""The swap device: order of requests, and what it does wrong when told to."""

from __future__ import annotations

from typing import Any

import pytest

from nodes.io import COMPLETION
from nodes.swap_pager import CONTEXT, SwapPager
from shared.errors import UserMistake
from shared.scenario.machine import DeviceFault, MachineConfig, SwapDevice, load_machine
from shared.scenario.pack import pack_scenario, unpack_scenario
from shared.uvm.param import EAGAIN, EIO
from shared.uvm.structs import Buf
from shared.wire.messages import WAIT, Grant, Interrupt
from tests.kit import empty

BUF = Buf.at(3)


def serve(pager: SwapPager, contents: list[Any] | None = None, fails: bool = False) -> tuple[int, list[Any]]:
    """Perform the next request as `swap_io` does, which fails if it may; returns its first slot's frame and what came
    of it."""
    number, kind, frames, _, error, *maybe = pager.admit(CONTEXT, "io_next", 0, ())
    error = maybe[0] if fails and maybe else error
    written = contents if kind == "put" and not error else []
    pager.admit(CONTEXT, "io_done", number, (error, written or []))
    out, pager.out = pager.out, []
    return frames[0], out


def test_a_write_is_started_and_then_completed() -> None:
    """0 from an asynchronous put means only that it was started."""
    pager = SwapPager("swap_pager", 64)
    assert pager.admit("pagedaemon", "swap_put", 5, (BUF, [1, 2])) == 0
    assert serve(pager, [(1,) * 8, (2,) * 8]) == (1, [Interrupt(COMPLETION, [BUF, 0])])
    assert pager.slots == {5: (1,) * 8, 6: (2,) * 8}


def test_a_synchronous_write_is_waited_for() -> None:
    pager = SwapPager("swap_pager", 64)
    assert pager.admit("pagedaemon", "swap_put", 5, (None, [1])) is WAIT
    assert serve(pager, [(1,) * 8]) == (1, [Grant("pagedaemon", 0)])


def test_a_request_refused_is_not_started() -> None:
    pager = SwapPager("swap_pager", 64, [DeviceFault("put", first=2, count=1, error="EAGAIN", at="start")])
    answers = [pager.admit("pagedaemon", "swap_put", 1, (BUF, [1])) for _ in range(3)]
    assert answers == [0, EAGAIN, 0]
    assert len(pager.queue) == 2
    assert not pager.bad


def test_a_synchronous_write_that_is_refused_has_failed() -> None:
    """There is no answer that says "not started" to who sleeps until it is done."""
    pager = SwapPager("swap_pager", 64, [DeviceFault("put", count=1, error="EIO", at="start")])
    assert pager.admit("A", "swap_put", 1, (None, [1])) is WAIT
    assert serve(pager, [(1,) * 8]) == (1, [Grant("A", EIO)])
    assert pager.slots == {} and pager.image()["bad"] == [1]
    assert pager.admit("A", "swap_put", 1, (None, [1])) is WAIT
    assert serve(pager, [(1,) * 8]) == (1, [Grant("A", 0)])


def test_a_request_that_fails_moves_no_bytes_and_its_slots_are_bad() -> None:
    pager = SwapPager("swap_pager", 64, [DeviceFault("put", slot=6, error="EIO")])
    pager.slots[5] = (9,) * 8
    assert pager.admit("pagedaemon", "swap_put", 5, (BUF, [1, 2])) == 0
    assert serve(pager, [(1,) * 8, (2,) * 8]) == (1, [Interrupt(COMPLETION, [BUF, EIO])])
    assert pager.slots == {5: (9,) * 8}
    assert pager.image()["bad"] == [5, 6]
    assert pager.admit("pagedaemon", "swap_put", 7, (BUF, [1])) == 0
    assert serve(pager, [(3,) * 8])[1] == [Interrupt(COMPLETION, [BUF, 0])]


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize(("error", "code", "bad"), [("EIO", EIO, [5, 6]), ("EAGAIN", EAGAIN, [])])
def test_a_request_that_may_fail_has_failed_if_its_context_says_so(
    fails: bool, error: str, code: int, bad: list[int]
) -> None:
    """Only then are its slots bad; and what fails for certain leaves nothing to choose."""
    pager = SwapPager("swap_pager", 64, [DeviceFault("put", first=1, count=1, error=error, maybe=True)])
    assert pager.admit("pagedaemon", "swap_put", 5, (BUF, [1, 2])) == 0
    assert serve(pager, [(1,) * 8, (2,) * 8], fails)[1] == [Interrupt(COMPLETION, [BUF, code if fails else 0])]
    assert list(pager.slots) == ([] if fails else [5, 6]) and pager.image()["bad"] == (bad if fails else [])
    assert pager.admit("pagedaemon", "swap_put", 5, (BUF, [1])) == 0
    assert pager.admit(CONTEXT, "io_next", 0, ())[4:] == [0], "only the first one may"
    both = SwapPager("swap_pager", 64, [DeviceFault("get", error="EIO", maybe=True), DeviceFault("get", error=error)])
    both.admit("A", "swap_get", 5, (1,))
    assert both.admit(CONTEXT, "io_next", 0, ())[4:] == [code]


def test_a_read_that_fails_tells_its_caller() -> None:
    pager = SwapPager("swap_pager", 64, [DeviceFault("get", first=1, count=1, error="EAGAIN")])
    results = []
    for _ in range(2):
        assert pager.admit("A", "swap_get", 1, (4,)) is WAIT
        results.append(serve(pager)[1])
    assert results == [[Grant("A", EAGAIN)], [Grant("A", 0)]]


def test_a_delayed_request_lets_others_overtake_it_but_not_for_ever() -> None:
    pager = SwapPager("swap_pager", 64, [DeviceFault("get", slot=1, delay=2)])
    for slot, frame in ((1, 10), (2, 11), (3, 12), (4, 13)):
        pager.admit("A", "swap_get", slot, (frame,))
    assert [serve(pager)[0] for _ in range(4)] == [11, 12, 10, 13]


def test_a_delayed_request_does_not_wait_for_nobody() -> None:
    pager = SwapPager("swap_pager", 64, [DeviceFault("get", delay=5)])
    pager.admit("A", "swap_get", 1, (10,))
    assert serve(pager)[0] == 10


def test_a_new_execution_starts_the_faults_anew() -> None:
    pager = SwapPager("swap_pager", 64, [DeviceFault("put", first=1, count=1, error="EIO", at="start")])
    for _ in range(2):
        pager.load_image(pager.image())
        assert not pager.bad
        assert pager.admit("pagedaemon", "swap_put", 1, (BUF, [1])) == EIO


MACHINE = "cpus: 1\nframes: 16\nswap_slots: 8\n"


def test_the_configuration_of_a_swap_device() -> None:
    text = MACHINE + (
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
        load_machine(f"{MACHINE}swap: {swap}\n", "m.yaml")
