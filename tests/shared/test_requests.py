"""What the port asks of an engine for each request of the kernel, and what a context holds meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from nodes.cpu import Tlb
from shared.errors import PortDead
from shared.patch import SEAMS
from shared.port.lockref import LockRef
from shared.port.port import (
    ANY_GEN,
    KASSERT,
    LOCK_ASSERT,
    NOBODY,
    SPL_BIO,
    SPL_NONE,
    Context,
    Held,
    Port,
    erratum,
    here,
    kernel,
    panic,
    unrepaired,
)
from shared.port.reports import AGAIN
from shared.port.struct import FieldBase
from shared.uvm.param import PMAP_KERNEL
from shared.uvm.structs import Kernel, Proc
from tests.kit import BIG, OTHER, THING, Thing

V: FieldBase = Thing.fields["v"]
LK, BIGLK = THING.lock_key("lk"), BIG.lock_key("lk")
KERNEL = Kernel.at(0).kernel_lock


class Paper(Port):
    """An engine that performs nothing. It writes down what it is asked, and gives the answers that it was given.

    Args:
        answers: results of its operations, in their order; None behind the last one.
        options: of the machine: its memories, its big lock.

    Attributes:
        points: operations that a scheduling point came before, each as (kind, target, arguments).
        performed: operations, in the same form.
        told: kernel events, and what else was asked.
    """

    def __init__(self, *answers: Any, level: int = SPL_NONE, **options: Any):
        super().__init__(frozenset({"some-erratum"}), {"race": "off"}, 64, **options)
        self.cur = Context("A", "cpu0", level)
        self.cur.stack = ["uvm_fault", "uvmfault_lookup"]
        self.answers = list(answers)
        self.points: list[tuple[Any, ...]] = []
        self.performed: list[tuple[Any, ...]] = []
        self.told: list[tuple[Any, ...]] = []
        self.mine = Tlb()
        self.others: list[Context] = []

    def point(self, code: str, target: int, args: tuple[object, ...] = ()) -> None:
        self.points.append((code, target, args))

    def perform(self, code: str, target: int, args: tuple[object, ...]) -> Any:
        self.performed.append((code, target, args))
        self.told.append((code, self.cur.held.copy()))
        self.cur.n += 1
        return self.answers.pop(0) if self.answers else None

    def record_event(self, event: str, **fields: object) -> None:
        self.told.append((event, fields))

    def _wait(self, ctx: Any, code: str, target: int, park: bool) -> Any:
        self.told.append(("waits", ctx.name, code, target, park, ctx.ready, ctx.biglock))
        return "granted"

    def wait_for_wakeup(self) -> None:
        self.told.append(("asleep", self.cur.biglock))

    def accessed(self, proc: int, va: int, write: bool, value: int, frame: int) -> None:
        self.told.append(("accessed", proc, va, write, value, frame))

    def tlb(self) -> Any:
        return self.mine

    def interrupted(self) -> list[Context]:
        return self.others

    def alloc(self, kind: Any, length: int = 0) -> Any:
        raise NotImplementedError

    def choose(self, n: int, why: str) -> int:
        raise NotImplementedError

    def spin(self) -> None:
        raise NotImplementedError

    def userret(self) -> None:
        raise NotImplementedError

    def asked(self) -> list[tuple[Any, ...]]:
        """The operations, each of which had a scheduling point of its own."""
        assert self.points == self.performed
        return self.performed

    def locks(self) -> list[tuple[str, str, str]]:
        """What the context holds: lock, mode, the function that took it."""
        return [(hold["lock"], hold["mode"], hold["since"]) for hold in self.cur.held_as_text()]


ENDS = ("uvmfault_lookup < uvm_fault", 1)


@pytest.mark.parametrize(
    ("does", "asks"),
    [
        (lambda port: port.load(THING, V, V.slot), ("load", THING.id, (THING, "v", V.slot, False))),
        (lambda port: port.store(THING, V, V.slot, 5), ("store", THING.id, (THING, "v", V.slot, 5))),
        (lambda port: port.free(THING), ("free", THING.id, (THING, *ENDS))),
        (lambda port: port.renew(THING), ("renew", THING.id, (THING, *ENDS))),
        (lambda port: port.identify(THING), ("identify", THING.id, (THING,))),
        (lambda port: port.lock(THING.lk, "w"), ("lock", LK, ("w", "uvmfault_lookup"))),
        (lambda port: port.trylock(BIG.lk, "r"), ("try", BIGLK, ("r", "uvmfault_lookup"))),
        (lambda port: port.wakeup(77), ("wakeup", 77, ())),
    ],
)
def test_a_request_of_the_kernel_is_one_operation_behind_a_scheduling_point(
    does: Callable[[Paper], object], asks: tuple[Any, ...]
) -> None:
    """Who ends a struct's life is said with it: the function, its caller, and the number of the operation."""
    port = Paper(3)
    does(port)
    assert port.asked() == [asks]


def test_a_load_gives_what_memory_answers() -> None:
    assert Paper(9).load(THING, V, V.slot) == 9


@pytest.mark.parametrize(
    ("stack", "by"), [([], ""), (["exit1"], "exit1"), (["exit1", "b"], "b < exit1"), (["exit1", "b", "c"], "c < b")]
)
def test_a_struct_s_end_is_put_down_to_a_function_and_its_caller(stack: list[str], by: str) -> None:
    port = Paper()
    port.cur.stack, port.cur.n = stack, 6
    port.free(THING)
    assert port.asked() == [("free", THING.id, (THING, by, 7))]


def test_a_new_life_gives_a_handle_of_that_life() -> None:
    for life in (Paper(4).renew(THING), Paper(4).identify(THING.anything())):
        assert isinstance(life, Thing) and (life.id, life.gen) == (THING.id, 4)


def test_a_claim_is_told_and_is_no_operation() -> None:
    port = Paper()
    port.claim(THING)
    assert port.told == [("claim", {"obj": "thing:0#0"})] and not port.asked()


def test_a_frame_is_copied_by_one_operation_if_one_memory_has_both() -> None:
    """Of three memories, each has every third frame."""
    together, apart, alone = Paper(memory_shards=3), Paper((1, 2), memory_shards=3), Paper()
    together.copy_frame(1, 7)
    assert together.asked() == [("frame_copy", 7, (1,))]
    apart.copy_frame(3, 7)
    assert apart.asked() == [("frame_read", 3, ()), ("frame_write", 7, ((1, 2),))]
    alone.copy_frame(3, 6)
    assert alone.asked() == [("frame_copy", 6, (3,))]


# -- locks that a context holds ------------------------------------------------------------


def test_a_lock_is_held_from_its_grant_until_its_release_has_been_performed() -> None:
    """An interrupt may come in while the operation waits; LOCKDEBUG asks then what the context holds."""
    port = Paper()
    port.lock(BIG.lk, "r")
    assert port.locks() == [("big:0.lk", "r", "uvmfault_lookup")]
    port.cur.stack.pop()
    port.upgrade(BIG.lk)
    assert port.locks() == [("big:0.lk", "w", "uvmfault_lookup")]
    port.downgrade(BIG.lk)
    assert port.locks() == [("big:0.lk", "r", "uvmfault_lookup")]
    port.unlock(BIG.lk)
    assert port.locks() == []
    assert port.asked() == [
        ("lock", BIGLK, ("r", "uvmfault_lookup")), ("upgrade", BIGLK, ()), ("downgrade", BIGLK, ()),
        ("unlock", BIGLK, ()),
    ]  # fmt: skip
    assert [(code, bool(held)) for code, held in port.told] == [
        ("lock", False), ("upgrade", True), ("downgrade", True), ("unlock", True),
    ]  # fmt: skip


def test_a_try_that_succeeds_holds_the_lock_in_its_mode() -> None:
    for mode in ("r", "w"):
        port = Paper(True)
        assert port.trylock(BIG.lk, mode) is True and port.locks() == [("big:0.lk", mode, "uvmfault_lookup")]


def test_an_interrupt_is_checked_although_it_holds_nothing_itself() -> None:
    """It would spin forever for a lock of the context that it has interrupted. A thread asks for no such check."""
    for level, wrong in ((SPL_BIO, True), (SPL_NONE, False)):
        port = Paper(level=level)
        port.others = [Context("B", "cpu0")]
        port.others[0].held = [Held(THING.lk, "w", "f")]
        with suppress(PortDead):
            port.lock(THING.lk, "w")
        assert (port.finding is not None and port.finding.kind == "locking-against-myself") is wrong


def test_a_context_that_holds_locks_is_checked_before_it_takes_another() -> None:
    port = Paper()
    port.lock(THING.lk, "w")
    with pytest.raises(PortDead):
        port.lock(THING.lk, "w")
    finding = port.finding
    assert finding is not None and (finding.kind, finding.subject) == ("locking-against-myself", "thing:0")
    assert len(port.asked()) == 1


def test_a_release_of_a_lock_that_is_not_held_names_the_lock() -> None:
    port = Paper()
    with pytest.raises(PortDead):
        port.unlock(BIG.lk)
    finding = port.finding
    assert finding is not None and (finding.kind, finding.subject) == ("lock-not-held", "big:0")
    assert finding.text == "lockmgr: release of unlocked lock!" and not port.asked()


def test_a_sleeper_queues_on_the_channel_before_it_releases_the_interlock() -> None:
    """Or a wakeup in between would be lost."""
    port = Paper()
    port.lock(THING.lk, "w")
    port.sleep(77, "flt_pgwait", THING.lk)
    assert port.asked()[1:] == [("sleep", 77, ("flt_pgwait", "uvmfault_lookup")), ("unlock", LK, ())]
    assert port.told[-1] == ("asleep", False) and port.cur.chan == 77


def test_a_sleeper_keeps_no_simple_lock_but_its_interlock() -> None:
    port = Paper()
    port.lock(OTHER.lk, "w")
    with pytest.raises(PortDead):
        port.sleep(77, "flt_pgwait", None)
    finding = port.finding
    assert finding is not None and (finding.kind, finding.subject) == ("held-across-sleep", "other:0")
    assert "(flt_pgwait)" in finding.text and ("asleep", False) not in port.told


# -- the big lock --------------------------------------------------------------------------


def test_on_a_machine_without_the_big_lock_nothing_is_done_for_it() -> None:
    port = Paper()
    port.kernel_proc_lock("trap")
    assert port.kernel_proc_unlock() is False
    port.sleep(77, "nap", None)
    assert [code for code, *_ in port.asked()] == ["sleep"] and port.cur.biglock is False


def test_the_big_lock_is_taken_and_given_up_and_is_not_among_the_locks_held() -> None:
    port = Paper(kernel_lock=KERNEL)
    port.kernel_proc_lock("trap")
    assert port.cur.biglock is True and port.locks() == []
    assert port.kernel_proc_unlock() is True and port.cur.biglock is False
    assert port.kernel_proc_unlock() is False  # it has none to give up
    key = KERNEL.key
    assert port.asked() == [("lock", key, ("w", "trap")), ("unlock", key, ())]


def test_a_sleeper_gives_the_big_lock_up_and_takes_it_again() -> None:
    """It is mi_switch() that does; whoever had no big lock does not get it either."""
    port, key = Paper(kernel_lock=KERNEL), KERNEL.key
    port.sleep(77, "nap", None)
    assert [code for code, *_ in port.asked()] == ["sleep"]
    port.kernel_proc_lock("syscall")
    port.sleep(77, "nap", None)
    assert port.asked()[2:] == [
        ("sleep", 77, ("nap", "uvmfault_lookup")), ("unlock", key, ()), ("lock", key, ("w", "mi_switch")),
    ]  # fmt: skip
    assert [event for event in port.told if event[0] == "asleep"] == [("asleep", False)] * 2
    assert port.cur.biglock is True


def test_a_request_that_waits_asleep_gives_its_grant() -> None:
    port = Paper()
    assert port.wait_asleep("swap_get", 5) == "granted"
    assert port.told == [("waits", "A", "swap_get", 5, True, True, False)] and not port.asked()


@pytest.mark.parametrize("woken", [False, True])
def test_a_request_that_waits_asleep_does_so_without_the_big_lock(woken: bool) -> None:
    """What is granted while the context gives up the big lock is not lost: it is ready then."""
    port, key = Paper(kernel_lock=KERNEL), KERNEL.key
    port.kernel_proc_lock("trap")
    port.cur.ready, port.cur.woken = False, woken
    seen: list[bool] = []
    port.point = lambda *_: seen.append(port.cur.ready)  # type: ignore[method-assign]
    assert port.wait_asleep("swap_get", 5) == "granted"
    assert port.performed[1:] == [("unlock", key, ()), ("lock", key, ("w", "mi_switch"))]
    assert seen[0] is True  # it continues until it has given up the lock
    assert ("waits", "A", "swap_get", 5, True, woken, False) in port.told and port.cur.biglock is True


def test_a_request_does_not_wait_asleep_with_a_simple_lock_held() -> None:
    port = Paper()
    port.lock(THING.lk, "w")
    with pytest.raises(PortDead):
        port.wait_asleep("swap_get", 5)
    assert port.finding is not None and port.finding.text == "switching with thing:0.lk held (swap_get)"


# -- translations --------------------------------------------------------------------------


def test_a_pmap_operation_says_its_cpu_and_flushes_there_what_the_mmu_says() -> None:
    port = Paper(("done", [[1, 4]]), ("done", None))
    port.mine.switch(1)
    port.mine.entries = {4: [9, 1, 1, 0], 5: [8, 1, 1, 0]}
    assert port.pmap("pmap_enter", 1, (4, 9), 6) == "done"
    assert port.asked() == [("pmap_enter", 1, (4, 9, "cpu0", 6))] and list(port.mine.entries) == [5]
    assert port.pmap("pmap_remove", 1, (4, 5)) == "done" and list(port.mine.entries) == [5]


def of_process(port: Paper) -> Paper:
    """The context is a thread of process 2."""
    port.cur.proc = Proc.at(2)
    return port


def test_an_access_walks_the_page_table_and_then_goes_to_the_frame() -> None:
    """What the walk gave is cached: the next access to that page needs no walk. Pages have 64 bytes."""
    entry = [9, 1, 1, 3]
    port = of_process(Paper(None, entry, None, 55))
    assert port.access(1, 2 * 64 + 8, True, 7) == (True, 7)
    assert port.access(1, 2 * 64 + 16, False) == (True, 55)
    assert port.performed == [
        ("pmap_activate", 1, ("cpu0",)),
        ("pmap_walk", 1, (2, 1, "cpu0")),
        ("word_write", 9, (8, 7, 136, 2, 3)),
        ("word_read", 9, (16, 144, 2, 3)),
    ]
    assert port.points == [("access", 1, (136, True))] * 3 + [("access", 1, (144, False))]
    assert [entry for entry in port.told if entry[0] == "accessed"] == [
        ("accessed", 2, 136, True, 7, 9),
        ("accessed", 2, 144, False, 55, 9),
    ]


def test_a_load_s_walk_says_so_and_a_first_store_walks_again() -> None:
    """To set M: an entry that was read by has it not."""
    port = of_process(Paper(None, [9, 1, 0, 3], 55, [9, 1, 1, 3]))
    assert port.access(1, 0, False) == (True, 55) and port.access(1, 0, True, 7) == (True, 7)
    assert [(code, args) for code, _, args in port.performed if code == "pmap_walk"] == [
        ("pmap_walk", (0, 0, "cpu0")),
        ("pmap_walk", (0, 1, "cpu0")),
    ]


def test_a_fault_is_told_by_its_type_and_nothing_is_accessed() -> None:
    port = of_process(Paper(None, 2))
    assert port.access(1, 0, True, 7) == (False, 2)
    assert [code for code, *_ in port.performed] == ["pmap_activate", "pmap_walk"] and not port.mine.entries
    assert ("accessed", 2, 0, True, 7, 9) not in port.told


def test_the_kernel_s_access_to_its_own_memory_is_no_process_s() -> None:
    """The memory oracle, which knows the memory of processes, hears nothing of it."""
    port = Paper([9, 1, 1, 3], None, 55)
    assert port.access(PMAP_KERNEL, 0, True, 7) == (True, 7) and port.access(PMAP_KERNEL, 0, False) == (True, 55)
    assert port.access(PMAP_KERNEL, 0, True) == (True, 0)
    assert port.performed[1:] == [
        ("word_write", 9, (0, 7, 0, NOBODY, 3)),
        ("word_read", 9, (0, 0, NOBODY, 3)),
        ("word_write", 9, (0, 0, 0, NOBODY, 3)),
    ]
    assert not [entry for entry in port.told if entry[0] == "accessed"]


@pytest.mark.parametrize("write", [False, True])
def test_an_access_to_a_freed_page_that_nobody_minds_is_repeated_for_whoever_has_the_frame(write: bool) -> None:
    port = of_process(Paper(None, [9, 1, 1, 3], AGAIN, 55))
    assert port.access(1, 0, write, 55) == (True, 55)
    assert [args[-1] for code, _, args in port.performed if code.startswith("word")] == [3, ANY_GEN]
    assert [entry for entry in port.told if entry[0] == "accessed"] == [("accessed", 2, 0, write, 55, 9)]
    assert port.mine.entries[0] == [9, 1, 1, ANY_GEN]


# -- spl, counters, what a kernel function must leave ------------------------------------------


def test_the_port_keeps_event_counters() -> None:
    port = Paper()
    port.stats()["faults"] = 3
    assert port.counters == {"faults": 3}


@pytest.mark.parametrize(
    ("exit", "before", "body", "wrong"),
    [
        (None, None, lambda: THING.lk.lock(), ""),
        ("none", None, lambda: None, ""),
        ("none", None, lambda: THING.lk.lock(), "sees: returns with thing:0.lk held"),
        ("none", THING.lk, lambda: None, "sees: returns with thing:0.lk held"),
        ("same", THING.lk, lambda: None, ""),
        ("same", THING.lk, lambda: BIG.lk.lock(), "sees: returns with big:0.lk held"),
        ("same", THING.lk, lambda: THING.lk.unlock(), "sees: returns without a lock it was given"),
        ("same", None, lambda: THING.lk.lock(), "sees: returns with thing:0.lk held"),
    ],
)
def test_a_function_returns_with_the_locks_that_it_says(
    exit: str | None, before: LockRef | None, body: Callable[[], None], wrong: str
) -> None:
    @kernel(exit=exit)
    def sees() -> None:
        body()

    port = Paper()
    with here.installed(port), suppress(PortDead):
        if before is not None:
            before.lock()
        sees()
    assert (port.finding.text if port.finding is not None else "") == wrong


def test_a_function_whose_locks_are_in_order_is_not_checked_at_all() -> None:
    """Most calls: nothing is held before, and nothing afterwards; or nothing is promised."""

    @kernel(exit="same")
    def quiet() -> None:
        pass

    @kernel()
    def promises_nothing() -> None:
        pass

    checks: list[object] = []
    port = Paper()
    port.check_exit = lambda *args: checks.append(args)  # type: ignore[method-assign]
    with here.installed(port):
        quiet()
        THING.lk.lock()
        promises_nothing()
        assert not checks
        quiet()
    assert checks == [("quiet", port.cur.held)] and port.cur.holds(LK) is not None


def test_a_kernel_function_gets_its_arguments_and_gives_its_result() -> None:
    @kernel()
    def adds(a: int, b: int = 0, *, c: int = 0) -> int:
        return a + 10 * b + 100 * c

    with here.installed(Paper()):
        assert [adds(1), adds(1, 2), adds(1, b=2, c=3)] == [1, 21, 321]


def test_only_the_kernel_s_own_functions_can_be_patched() -> None:
    """Those of package shared.uvm, each by its name."""

    def uvm_made() -> str:
        return "own"

    def uvm_made_elsewhere() -> str:
        return "own"

    uvm_made.__module__ = "shared.uvm.made"
    made = kernel()(uvm_made)
    kernel()(uvm_made_elsewhere)
    try:
        assert "uvm_made" in SEAMS and "uvm_made_elsewhere" not in SEAMS
        SEAMS["uvm_made"](lambda: "patched")
        with here.installed(Paper()):
            assert made() == "patched"
        assert (made.__module__, made.__qualname__) == ("shared.uvm.made", uvm_made.__qualname__)
    finally:
        del SEAMS["uvm_made"]


def test_an_assertion_without_a_subject_names_none_and_accuses_the_function_it_stands_in() -> None:
    assertions: list[Callable[[], None]] = [
        lambda: KASSERT(False, "a"), lambda: panic("b"), lambda: LOCK_ASSERT(False, "c"),
    ]  # fmt: skip
    for fails in assertions:
        port = Paper()
        with here.installed(port), suppress(PortDead):
            fails()
        assert port.finding is not None and (port.finding.subject, port.finding.function) == ("", "uvmfault_lookup")


def test_a_kind_of_its_own_accuses_the_function_itself_if_that_has_no_caller() -> None:
    port = Paper()
    port.cur.stack = ["uvm_anfree"]
    with here.installed(port), suppress(PortDead):
        LOCK_ASSERT(False, "free", THING, kind="locked-anon-freed")
    assert port.finding is not None and port.finding.function == "uvm_anfree"


def test_a_defect_can_be_asked_for_without_counting_its_site() -> None:
    port = Paper()
    with here.installed(port):
        assert unrepaired("some-erratum") and not unrepaired("another") and not port.sites
        assert erratum("some-erratum") and not erratum("another")
    assert port.sites == {"some-erratum": 1, "another": 1}


def test_a_place_for_ports_has_none_at_first() -> None:
    place = type(here)()
    assert not hasattr(place, "port")
    port = Paper()
    with place.installed(port):
        assert place.port is port and place.of_thread() is port
    assert not hasattr(place, "port")
