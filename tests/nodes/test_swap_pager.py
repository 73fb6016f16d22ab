"""The swap device: order of requests, and what it does wrong when told to."""

from __future__ import annotations

from typing import Any

import pytest

from nodes.io import COMPLETION
from nodes.swap_pager import CONTEXT, SwapPager
from shared.scenario.machine import DeviceFault
from shared.uvm.param import EAGAIN, EIO
from shared.uvm.structs import Buf
from shared.wire.messages import WAIT, Grant, Interrupt

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


def test_a_delayed_request_lets_others_overtake_it_but_not_forever() -> None:
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
