"""The last free pages: exactly who may take which of them."""

from __future__ import annotations

import pytest

from shared.port.port import here
from shared.uvm.init import uvm_init
from shared.uvm.page import uvm_pagealloc
from shared.uvm.param import UVM_OBJ_KERN, UVM_PGA_USERESERVE, UVM_PGOPS_NONE
from shared.uvm.structs import UvmObject, uvmexp
from tests.kit import Toy

FRAMES, RESERVE_KERNEL, RESERVE_PAGEDAEMON = 8, 4, 2


def left(context: str, refs: int, flags: int) -> int:
    """How many pages stay free when a context takes all that it can get.

    Args:
        refs: uo_refs of the object that they are for; 0: for none.
    """
    numbers: list[int] = []

    def setup() -> None:
        uvm_init(FRAMES, FRAMES, [], reserve_pagedaemon=RESERVE_PAGEDAEMON, reserve_kernel=RESERVE_KERNEL)

    def body() -> None:
        uobj = None
        if refs:
            uobj = here.port.alloc(UvmObject)
            uobj.pgops, uobj.uo_refs, uobj.uo_npages = UVM_PGOPS_NONE, refs, 0
            uobj.vmobjlock.lock()
        number = 0
        while uvm_pagealloc(uobj, number * here.port.page_size, None, flags) is not None:
            number += 1
        numbers.append(uvmexp.free)
        assert number + numbers[0] == FRAMES
        if uobj is not None:
            uobj.vmobjlock.unlock()

    assert Toy(setup, {context: (0, body)}).run() is None
    return numbers[0]


@pytest.mark.parametrize(
    ("who", "context", "refs", "flags", "stay"),
    [
        ("a program", "A", 0, 0, RESERVE_KERNEL),
        ("an object of a program's", "A", 1, 0, RESERVE_KERNEL),
        ("the kernel's object", "A", UVM_OBJ_KERN, 0, RESERVE_PAGEDAEMON),
        ("a pmap's object", "A", 1, UVM_PGA_USERESERVE, RESERVE_PAGEDAEMON),
        ("who may use the reserve", "A", 0, UVM_PGA_USERESERVE, RESERVE_PAGEDAEMON),
        ("the pagedaemon, for others", "pagedaemon", 0, 0, RESERVE_KERNEL),
        ("the pagedaemon, for the kernel", "pagedaemon", UVM_OBJ_KERN, 0, 0),
        ("the pagedaemon, from the reserve", "pagedaemon", 0, UVM_PGA_USERESERVE, 0),
    ],
)
def test_each_leaves_what_is_not_for_it(who: str, context: str, refs: int, flags: int, stay: int) -> None:
    """One page more or less, and the pagedaemon may need memory to free memory."""
    assert left(context, refs, flags) == stay
