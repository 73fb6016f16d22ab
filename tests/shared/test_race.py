"""The race detector by itself: happens-before from locks, deliveries and serialization; guards as locksets."""

from __future__ import annotations

import pytest

from shared.detectors.race import Access, RaceDetector
from shared.port.guards import Guards
from shared.port.heap import Heap
from shared.port.port import Context, Held
from shared.port.struct import FieldBase
from shared.uvm.structs import Anon, Page, VmMap, uvm
from shared.wire.messages import WAIT
from tests.kit import THING, THING1, Thing

V: FieldBase = Thing.fields["v"]
H: FieldBase = Thing.fields["h"]
LOCK = THING.lock_key("lk")


class Watch(RaceDetector):
    """Two CPUs, with contexts A and B."""

    def __init__(self) -> None:
        super().__init__()
        self.ctx = {"A": Context("A", "cpu0"), "B": Context("B", "cpu1"), "A2": Context("A2", "cpu0")}

    def touch(self, name: str, write: bool, guarded: bool = False, field: FieldBase = V, obj: Thing = THING) -> bool:
        ctx = self.ctx[name]
        ctx.n += 1
        missing = None if guarded else "l, not held"
        return self.access(ctx, Access(ctx.n, obj, field, field.slot, write, missing, field.hint)) is not None

    def do(self, name: str, code: str, target: int = LOCK, result: object = None, to: tuple[str, ...] = ()) -> None:
        self.operation(self.ctx[name].cpu, code, target, result, to)


def test_two_accesses_race_if_one_writes() -> None:
    for first, second, races in ((True, True, True), (True, False, True), (False, True, True), (False, False, False)):
        watch = Watch()
        assert not watch.touch("A", first)
        assert watch.touch("B", second) is races


def test_different_fields_and_different_structs_do_not_race() -> None:
    watch = Watch()
    watch.touch("A", True)
    assert not watch.touch("B", True, field=Thing.fields["w"])
    assert not watch.touch("B", True, obj=THING1)


def test_one_guarded_side_is_not_enough() -> None:
    """The guard protects only from those who also take it."""
    watch = Watch()
    watch.touch("A", True, guarded=True)
    assert watch.touch("B", True, guarded=False)
    watch = Watch()
    watch.touch("A", True, guarded=True)
    assert not watch.touch("B", True, guarded=True)


def test_release_and_acquire_order_what_came_before() -> None:
    watch = Watch()
    watch.touch("A", True)
    watch.do("A", "unlock")
    watch.do("B", "lock")
    assert not watch.touch("B", True)


def test_only_the_acquire_that_follows_the_release_orders() -> None:
    watch = Watch()
    watch.do("B", "lock")
    watch.touch("A", True)
    watch.do("A", "unlock")
    assert watch.touch("B", True)


def test_what_comes_after_the_release_is_not_ordered_by_it() -> None:
    watch = Watch()
    watch.do("A", "unlock")
    watch.touch("A", True)
    watch.do("B", "lock")
    assert watch.touch("B", True)


def test_a_try_orders_only_if_it_got_the_lock() -> None:
    for got in (True, False):
        watch = Watch()
        watch.touch("A", True)
        watch.do("A", "unlock")
        watch.do("B", "try", result=got)
        assert watch.touch("B", True) is not got


def test_a_request_that_waits_is_ordered_by_its_grant_not_by_asking() -> None:
    watch = Watch()
    watch.touch("A", True)
    watch.do("B", "lock", result=WAIT)
    assert "cpu1" not in watch.clock or watch.clock["cpu1"].of("cpu0") == 0
    watch.do("A", "unlock", to=("B",))
    watch.goes_on("B", "cpu1")
    assert not watch.touch("B", True)


def test_a_wakeup_and_an_interrupt_order_once_the_cpu_goes_on() -> None:
    for code, raised in (("wakeup", False), ("pmap_protect", True)):
        watch = Watch()
        watch.touch("A", True)
        watch.operation("cpu0", code, 99, None, *((), ("B",)) if raised else (("B",), ()))
        assert raised == bool(watch.raised) and raised != bool(watch.granted)
        (watch.interrupts if raised else watch.goes_on)("B", "cpu1")
        assert not watch.touch("B", True)


def test_the_mmu_orders_operations_on_the_same_pmap_or_frame() -> None:
    for target, races in ((5, False), (6, True)):
        watch = Watch()
        watch.touch("A", True)
        watch.do("A", "pmap_enter", 5)
        watch.do("B", "pmap_walk", target)
        assert watch.touch("B", True) is races


def test_contexts_of_one_cpu_are_ordered_by_the_cpu() -> None:
    watch = Watch()
    watch.touch("A", True)
    assert not watch.touch("A2", True)


def test_a_hint_may_be_read_but_two_writes_of_it_race() -> None:
    watch = Watch()
    watch.touch("A", True, guarded=True, field=H)
    assert not watch.touch("B", False, field=H)
    assert watch.touch("B", True, field=H)


def test_a_read_long_ago_still_races_with_a_write() -> None:
    """Every CPU's last read is kept, not only the last read."""
    watch = Watch()
    watch.ctx["C"] = Context("C", "cpu2")
    watch.touch("A", False)
    watch.touch("C", False)
    watch.do("C", "unlock")
    watch.do("B", "lock")
    assert watch.touch("B", True)


def test_both_sides_are_told_with_cpu_operation_function_and_locks() -> None:
    watch = Watch()
    watch.ctx["A"].stack = ["uvm_fault"]
    watch.ctx["B"].stack = ["uvm_pageout"]
    watch.ctx["B"].held = {LOCK: Held(None, "w", "f")}  # type: ignore[arg-type]
    watch.touch("A", True)
    ctx = watch.ctx["B"]
    found = watch.access(ctx, Access(1, THING, V, V.slot, False, None, False))
    assert found is not None and (found.kind, found.context, found.function) == ("data-race", "B", "uvm_pageout")
    first, second, last = found.story
    assert found.text == "data race in uvm_pageout on v of thing:0"
    assert first == (
        "store to thing:0.v by A on cpu0, operation 1, in uvm_fault, holding no lock, without its guard (l, not held)"
    )
    assert second == "load of thing:0.v by B on cpu1, operation 1, in uvm_pageout, holding thing:0.lk"
    assert last == "neither happens before the other"


def test_what_a_device_performs_comes_after_the_request_for_it() -> None:
    """Also if it was busy, so that no grant told it."""
    for request, take, done in (("swap_put", "io_next", "io_done"), ("disk_put", "disk_next", "disk_done")):
        watch = Watch()
        watch.ctx["D"] = Context("D", "device")
        watch.touch("A", True)
        watch.do("A", request, 7)
        watch.do("D", take, 0)
        watch.do("D", done, 3, to=("B",))
        watch.goes_on("B", "cpu1")
        assert not watch.touch("B", True)


def test_two_requests_to_a_device_do_not_order_who_made_them() -> None:
    for first, second in (("swap_put", "swap_get"), ("disk_put", "disk_start"), ("swap_put", "disk_next")):
        watch = Watch()
        watch.touch("A", True)
        watch.do("A", first, 7)
        watch.do("B", second, 7)
        assert watch.touch("B", True)


@pytest.mark.parametrize(
    ("marking", "write", "owner", "held", "says"),
    [
        ("o", True, "anon", {}, "anon:16.an_lock, not held"),
        ("o", True, None, {}, "the lock of its owner, and page:3 has none"),
        ("p|f", False, None, {}, "uvm:0.pageqlock, not held or uvm:0.fpageqlock, not held"),
        ("o&p", True, "anon", {}, "anon:16.an_lock, not held and uvm:0.pageqlock, not held"),
        ("o&p", True, "anon", {"pageqlock": "w"}, "anon:16.an_lock, not held"),
    ],
)
def test_a_guard_is_named_with_the_lock_that_it_is(
    marking: str, write: bool, owner: str | None, held: dict[str, str], says: str
) -> None:
    """A page's owner is known from the heap; of locks that are needed together only those are told that are missing."""
    page, anon = Page.at(3), Anon.at(16)
    heap = Heap()
    heap.add(page.id, 0, list(Page.defaults))[Page.fields["uanon"].slot] = anon if owner else None
    field = FieldBase(marking)
    field.bind(Page, "flags", Page.fields["flags"].slot)
    ctx = Context("A", "cpu0")
    ctx.held = {uvm.lock_key(name): Held(None, mode, "f") for name, mode in held.items()}  # type: ignore[arg-type]
    assert Guards(heap).missing(ctx, page, field, write) == says


def test_a_map_s_lock_that_is_held_shared_is_told_so() -> None:
    map = VmMap.at(2)
    ctx = Context("A", "cpu0")
    ctx.held = {map.lock_key("lock"): Held(None, "r", "f")}  # type: ignore[arg-type]
    heap = Heap()
    heap.add(map.id, 0, list(VmMap.defaults))
    assert Guards(heap).missing(ctx, map, VmMap.fields["size"], True) == "vmmap:2.lock, held shared"
