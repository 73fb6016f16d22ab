"""The race detector by itself: happens-before from locks, deliveries and serialization; guards as locksets.

And `Watch`, which tells it what the records of a run say: who holds which lock, whose a struct is, in which order two
locks were taken.
"""

from __future__ import annotations

import random
from typing import Any

import pytest

from shared.detectors.race import TRACKED, Access, RaceDetector, Watch, judge_journals
from shared.errors import LogIncomplete
from shared.findings import Finding
from shared.port.guards import Guards
from shared.port.heap import Heap
from shared.port.port import Context, Held
from shared.port.struct import FieldBase, parse_handle
from shared.uvm.structs import Anon, Page, SlotArray, VmMap, uvm
from shared.wire.messages import OPERATIONS, WAIT
from tests.kit import BIG, OTHER, THING, THING1, Thing

V: FieldBase = Thing.fields["v"]
W: FieldBase = Thing.fields["w"]
H: FieldBase = Thing.fields["h"]
LOCK = THING.lock_key("lk")


class Two(RaceDetector):
    """Two CPUs, with contexts A and B."""

    def __init__(self) -> None:
        super().__init__()
        self.ctx = {"A": Context("A", "cpu0"), "B": Context("B", "cpu1"), "A2": Context("A2", "cpu0")}

    def touch(self, name: str, write: bool, guarded: bool = False, field: FieldBase = V, obj: Thing = THING) -> bool:
        ctx = self.ctx[name]
        ctx.n += 1
        missing = None if guarded else "l, not held"
        return self.access(ctx, Access(ctx.n, obj, field, field.slot, write, missing)) is not None

    def do(self, name: str, code: str, target: int = LOCK, result: object = None, to: tuple[str, ...] = ()) -> None:
        self.operation(self.ctx[name].cpu, code, target, result, to)


def test_two_accesses_race_if_one_writes() -> None:
    for first, second, races in ((True, True, True), (True, False, True), (False, True, True), (False, False, False)):
        watch = Two()
        assert not watch.touch("A", first)
        assert watch.touch("B", second) is races


def test_different_fields_and_different_structs_do_not_race() -> None:
    watch = Two()
    watch.touch("A", True)
    assert not watch.touch("B", True, field=W)
    assert not watch.touch("B", True, obj=THING1)


def test_one_guarded_side_is_not_enough() -> None:
    """The guard protects only from those who also take it."""
    watch = Two()
    watch.touch("A", True, guarded=True)
    assert watch.touch("B", True, guarded=False)
    watch = Two()
    watch.touch("A", True, guarded=True)
    assert not watch.touch("B", True, guarded=True)


def test_release_and_acquire_order_what_came_before() -> None:
    watch = Two()
    watch.touch("A", True)
    watch.do("A", "unlock")
    watch.do("B", "lock")
    assert not watch.touch("B", True)


def test_only_the_acquire_that_follows_the_release_orders() -> None:
    watch = Two()
    watch.do("B", "lock")
    watch.touch("A", True)
    watch.do("A", "unlock")
    assert watch.touch("B", True)


def test_what_comes_after_the_release_is_not_ordered_by_it() -> None:
    watch = Two()
    watch.do("A", "unlock")
    watch.touch("A", True)
    watch.do("B", "lock")
    assert watch.touch("B", True)


def test_a_try_orders_only_if_it_got_the_lock() -> None:
    for got in (True, False):
        watch = Two()
        watch.touch("A", True)
        watch.do("A", "unlock")
        watch.do("B", "try", result=got)
        assert watch.touch("B", True) is not got


def test_a_request_that_waits_is_ordered_by_its_grant_not_by_asking() -> None:
    watch = Two()
    watch.touch("A", True)
    watch.do("B", "lock", result=WAIT)
    assert "cpu1" not in watch.clocks or watch.clocks["cpu1"].of(watch.clocks["cpu0"].cpu) == 0
    watch.do("A", "unlock", to=("B",))
    watch.goes_on("B", "cpu1")
    assert not watch.touch("B", True)


def test_a_wakeup_and_an_interrupt_order_once_the_cpu_goes_on() -> None:
    for code, raised in (("wakeup", False), ("pmap_protect", True)):
        watch = Two()
        watch.touch("A", True)
        watch.operation("cpu0", code, 99, None, *((), ("B",)) if raised else (("B",), ()))
        assert raised == bool(watch.raised) and raised != bool(watch.granted)
        (watch.interrupts if raised else watch.goes_on)("B", "cpu1")
        assert not watch.touch("B", True)


def test_the_mmu_orders_operations_on_the_same_pmap_or_frame() -> None:
    for target, races in ((5, False), (6, True)):
        watch = Two()
        watch.touch("A", True)
        watch.do("A", "pmap_enter", 5)
        watch.do("B", "pmap_walk", target)
        assert watch.touch("B", True) is races


def test_contexts_of_one_cpu_are_ordered_by_the_cpu() -> None:
    watch = Two()
    watch.touch("A", True)
    assert not watch.touch("A2", True)


def test_a_hint_may_be_read_but_two_writes_of_it_race() -> None:
    watch = Two()
    watch.touch("A", True, guarded=True, field=H)
    assert not watch.touch("B", False, field=H)
    assert watch.touch("B", True, field=H)


def test_a_read_long_ago_still_races_with_a_write() -> None:
    """Every CPU's last read is kept, not only the last read."""
    watch = Two()
    watch.ctx["C"] = Context("C", "cpu2")
    watch.touch("A", False)
    watch.touch("C", False)
    watch.do("C", "unlock")
    watch.do("B", "lock")
    assert watch.touch("B", True)


def test_both_sides_are_told_with_cpu_operation_function_and_locks() -> None:
    watch = Two()
    watch.ctx["A"].stack = ["uvm_fault"]
    watch.ctx["B"].stack = ["uvm_pageout"]
    watch.ctx["B"].held = [Held(THING.lk, "w", "f")]
    watch.touch("A", True)
    ctx = watch.ctx["B"]
    finding = watch.access(ctx, Access(1, THING, V, V.slot, False, None))
    assert finding is not None and (finding.kind, finding.context, finding.function) == (
        "data-race",
        "B",
        "uvm_pageout",
    )
    first, second, last = finding.story
    assert finding.text == "data race in uvm_pageout on v of thing:0"
    assert first == (
        "store to thing:0.v by A on cpu0, operation 1, in uvm_fault, holding no lock, without its guard (l, not held)"
    )
    assert second == "load of thing:0.v by B on cpu1, operation 1, in uvm_pageout, holding thing:0.lk"
    assert last == "neither happens before the other"


def test_what_a_device_performs_comes_after_the_request_for_it() -> None:
    """Also if it was busy, so that no grant told it."""
    for request, take, done in (("swap_put", "io_next", "io_done"), ("disk_put", "disk_next", "disk_done")):
        watch = Two()
        watch.ctx["D"] = Context("D", "device")
        watch.touch("A", True)
        watch.do("A", request, 7)
        watch.do("D", take, 0)
        watch.do("D", done, 3, to=("B",))
        watch.goes_on("B", "cpu1")
        assert not watch.touch("B", True)


def test_two_requests_to_a_device_do_not_order_who_made_them() -> None:
    for first, second in (("swap_put", "swap_get"), ("disk_put", "disk_start"), ("swap_put", "disk_next")):
        watch = Two()
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
    ctx.held = [Held(getattr(uvm, name), mode, "f") for name, mode in held.items()]
    assert Guards(heap).missing(ctx, page, field, write) == says


def test_a_map_s_lock_that_is_held_shared_is_told_so() -> None:
    map = VmMap.at(2)
    ctx = Context("A", "cpu0")
    ctx.held = [Held(map.lock, "r", "f")]
    heap = Heap()
    heap.add(map.id, 0, list(VmMap.defaults))
    assert Guards(heap).missing(ctx, map, VmMap.fields["size"], True) == "vmmap:2.lock, held shared"


# -- what orders operations, against a definition of it ---------------------------------------

CONTEXTS = {"A": "cpu0", "B": "cpu1", "C": "cpu2"}


#: operations that come after those that were performed at the same place before, and those that others come after
TAKES = ("lock", "upgrade", "pmap_enter", "pmap_walk", "disk_next", "disk_done")
GIVES = ("unlock", "downgrade", "pmap_enter", "pmap_walk", "disk_put", "disk_start", "disk_next", "disk_done")


class Slow:
    """Happens-before as its definition says: of each CPU, the set of all events that come before its next one."""

    def __init__(self) -> None:
        self.before: dict[str, set[int]] = {cpu: set() for cpu in CONTEXTS.values()}
        self.left: dict[object, set[int]] = {}  # lock or place -> what comes before its next taker
        self.granted: dict[str, set[int]] = {}
        self.raised: dict[str, list[set[int]]] = {name: [] for name in CONTEXTS}
        self.events = 0
        self.writes: dict[int, tuple[str, int, bool]] = {}  # field -> its last store: CPU, event, guarded
        self.reads: dict[int, dict[str, tuple[int, bool]]] = {}

    def event(self, cpu: str) -> int:
        self.events += 1
        self.before[cpu].add(self.events)
        return self.events

    def operation(self, cpu: str, code: str, target: int, result: object, granted: Any, raised: Any) -> None:
        node = OPERATIONS[code].node
        place = node, 0 if node == "disk" else target  # which has one queue
        if result is not WAIT and (code in TAKES or (code == "try" and result)):
            self.before[cpu] |= self.left.get(place, set())
        self.event(cpu)
        brings = self.before[cpu]
        if code in GIVES:
            self.left[place] = self.left.get(place, set()) | brings
        if code in ("unlock", "downgrade"):  # (whoever gets a lock that was shared comes after all that had it)
            brings = self.left[place]
        for name in granted:
            self.granted[name] = set(brings)
        for name in raised:
            self.raised[name].append(set(brings))

    def goes_on(self, name: str, cpu: str) -> None:
        self.before[cpu] |= self.granted.pop(name, set())

    def interrupts(self, name: str, cpu: str) -> None:
        if self.raised[name]:
            self.before[cpu] |= self.raised[name].pop(0)

    def races(self, cpu: str, field: FieldBase, write: bool, guarded: bool) -> bool:
        before, earlier = self.before[cpu], []
        if not write and field.hint:
            return False
        if field.slot in self.writes:
            earlier.append(self.writes[field.slot])
        if write and not field.hint:
            earlier += [(other, *seen) for other, seen in self.reads.get(field.slot, {}).items()]
        raced = any(
            other != cpu and event not in before and not (guarded and safe) for other, event, safe in earlier
        )  # fmt: skip
        event = self.event(cpu)
        if write:
            self.writes[field.slot] = cpu, event, guarded
            self.reads.pop(field.slot, None)
        else:
            self.reads.setdefault(field.slot, {})[cpu] = event, guarded
        return raced


#: kinds of operations, the commonest most often
CODES = [
    *("lock", "lock", "unlock", "unlock", "unlock", "try", "downgrade", "upgrade", "wakeup", "pmap_enter", "pmap_walk"),
    *("disk_put", "disk_start", "disk_next", "disk_done"),
]
#: of these, those that end waits, and the kind that raises interrupts
ENDS, RAISES = ("unlock", "downgrade", "wakeup", "disk_next", "disk_done"), "pmap_enter"


@pytest.mark.parametrize("seed", range(40))
def test_the_detector_says_of_any_run_what_the_definition_says(seed: int) -> None:
    """Its clocks are a short form of sets of events; nothing is lost by that, and nothing is made up."""
    dice, detector, slow = random.Random(seed), RaceDetector(), Slow()
    contexts = [Context(name, cpu) for name, cpu in CONTEXTS.items()]
    races = []
    for step in range(250):
        ctx, what = dice.choice(contexts), dice.random()
        if what < 0.45:
            field, write, guarded = dice.choice((V, V, W, H)), dice.random() < 0.5, dice.random() < 0.3
            access = Access(1, THING, field, field.slot, write, None if guarded else "l")
            raced = detector.access(ctx, access) is not None
            assert raced is slow.races(ctx.cpu, field, write, guarded), step
            races.append(raced)
        elif what < 0.85:
            code, target = dice.choice(CODES), dice.randrange(1, 3)
            may = {"lock": (None, None, WAIT), "upgrade": (None, WAIT), "try": (True, False)}.get(code, (None,))
            result, who = dice.choice(may), [context.name for context in contexts if dice.random() < 0.3]
            ended, raised = (who if code in ENDS else (), who if code == RAISES else ())
            for detector_ in (detector, slow):
                detector_.operation(ctx.cpu, code, target, result, ended, raised)
        else:
            goes_on = dice.random() < 0.5
            for detector_ in (detector, slow):
                (detector_.goes_on if goes_on else detector_.interrupts)(ctx.name, ctx.cpu)
    assert 10 < sum(races) < len(races) - 10


def test_whoever_takes_what_several_have_released_comes_after_all_of_them() -> None:
    """As a lock that was shared; or the queue of a device, which takes the requests of all. Time and again."""
    for gives, takes in (("unlock", "lock"), ("disk_put", "disk_next")):
        watch = Two()
        watch.ctx["C"] = Context("C", "cpu2")
        for _ in range(3):
            for name, field in (("A", V), ("B", W)):
                watch.touch(name, True, field=field, obj=THING1)
                watch.do(name, gives)
            watch.do("C", takes)
            for field in (V, W):
                assert not watch.touch("C", False, field=field, obj=THING1)
            watch.do("C", "unlock", target=1)
            for name in ("A", "B"):
                watch.do(name, "lock", target=1)


def test_what_a_cpu_learns_later_is_not_known_to_whoever_it_told_before() -> None:
    watch = Two()
    watch.ctx["C"] = Context("C", "cpu2")
    watch.do("A", "unlock", target=1)
    watch.touch("B", True)
    watch.do("B", "unlock", target=2)
    watch.do("A", "lock", target=2)
    watch.do("C", "lock", target=1)
    assert watch.touch("C", True)


def test_a_finding_has_the_stack_and_the_locks_of_the_second_context() -> None:
    watch = Two()
    watch.touch("A", True)
    ctx = watch.ctx["B"]
    ctx.stack = ["uvm_fault", "uvmfault_lookup"]
    ctx.held = [Held(ref, "w", "uvm_fault") for ref in (OTHER.lk, BIG.lk)]
    finding = watch.access(ctx, Access(1, THING, V, V.slot, True, "l, not held"))
    assert finding is not None and (finding.subject, finding.stack) == ("thing:0", ctx.stack)
    assert [(hold["lock"], hold["mode"]) for hold in finding.held] == [("other:0.lk", "w"), ("big:0.lk", "w")]
    assert "in uvmfault_lookup, holding other:0.lk, big:0.lk, without" in finding.story[1]
    assert "by A on cpu0, operation 1, in user, holding no lock" in finding.story[0]


def test_a_store_forgets_the_loads_before_it() -> None:
    """A later store that is ordered behind this one is ordered behind them, or they raced with this one."""
    watch = Two()
    watch.touch("A", False, guarded=True)
    watch.touch("B", True, guarded=True)
    watch.touch("B", True)
    assert not watch.reads.get((THING.id, V.slot))


# -- what the records of a run say ---------------------------------------------------------------


class Recorder:
    """Tells a `Watch` the records of a run by hand. A and A2 run on cpu0, B on cpu1, C on cpu2.

    Attributes:
        journals: the records by node; a kind of node has one, called as the kind.
    """

    def __init__(self) -> None:
        structs = (THING, THING1, OTHER, BIG)
        heap = [[struct.id, 0, *type(struct).defaults] for struct in structs]
        slots = [SlotArray.at(0).id, 0, *SlotArray.defaults, 0, 0]
        self.images: dict[str, object] = {"memory0": {"heap": heap}, "memory1": {"heap": [slots]}, "mmu": {}}
        self.watch = Watch(self.images)
        self.cpus = {**CONTEXTS, "A2": "cpu0", "intr": "cpu1"}
        self.n = dict.fromkeys(self.cpus, 0)
        self.k = dict.fromkeys(self.cpus.values(), 0)
        self.journals: dict[str, list[Any]] = {}

    def __call__(self, name: str, event: str, **fields: object) -> None:
        cpu = node = self.cpus[name]
        record: dict[str, Any] = {"event": event, "ctx": name}
        if event in OPERATIONS:
            self.n[name] += 1
            self.k[cpu] += 1
            record |= {"cpu": cpu, "k": self.k[cpu]}
            node = cpu if OPERATIONS[event].local else OPERATIONS[event].node
        else:
            record["at"] = self.k[cpu]
        journal = self.journals.setdefault(node, [])
        journal.append({**record, "n": self.n[name], "node": node, "nseq": len(journal) + 1, **fields})
        self.watch.record(journal[-1])

    def load(self, name: str, field: str = "v", obj: str = "thing:0#0", **more: object) -> None:
        kind = parse_handle(obj)
        slot = kind.element.slot if field == "[]" else kind.fields[field].slot
        self(name, "load", **{"obj": obj, "field": field, "slot": slot, **more})

    def store(self, name: str, field: str = "v", obj: str = "thing:0#0", value: object = 1) -> None:
        kind = parse_handle(obj)
        slot = kind.element.slot if field == "[]" else kind.fields[field].slot
        self(name, "store", obj=obj, field=field, slot=slot, value=value)

    def lock(self, name: str, lock: str = "thing:0.lk", mode: str = "w", fn: str = "taker", **more: object) -> None:
        self(name, "lock", lock=lock, mode=mode, fn=fn, **more)

    def unlock(self, name: str, lock: str = "thing:0.lk", **more: object) -> None:
        self(name, "unlock", lock=lock, **more)

    def races(self) -> list[str]:
        return [finding.text for finding in self.watch.findings() if finding.kind == "data-race"]

    def held(self, name: str) -> list[tuple[str, str, str]]:
        return [(hold["lock"], hold["mode"], hold["since"]) for hold in self.watch.contexts[name].held_as_text()]

    def only(self) -> Finding:
        (finding,) = self.watch.findings()
        return finding


RACE = "data race in user on v of thing:0"


def test_a_race_is_read_off_the_records_of_two_cpus() -> None:
    recorder = Recorder()
    recorder("A", "enter", fn="uvm_fault")
    recorder("B", "enter", fn="uvm_pageout")
    recorder("B", "enter", fn="uvmpd_scan")
    recorder("B", "exit", fn="uvmpd_scan")
    recorder.store("A")
    recorder.load("B")
    finding = recorder.only()
    assert (finding.text, finding.function) == ("data race in uvm_pageout on v of thing:0", "uvm_pageout")
    assert finding.story == [
        "store to thing:0.v by A on cpu0, operation 1, in uvm_fault, holding no lock,"
        " without its guard (thing:0.lk, not held)",
        "load of thing:0.v by B on cpu1, operation 1, in uvm_pageout, holding no lock,"
        " without its guard (thing:0.lk, not held)",
        "neither happens before the other",
    ]


def test_threads_of_one_cpu_and_loads_alone_do_not_race() -> None:
    recorder = Recorder()
    recorder.store("A")
    recorder.store("A2")
    recorder.load("B", field="w")
    recorder.load("C", field="w")
    assert recorder.races() == []


def test_an_access_that_was_refused_was_not_made() -> None:
    for refused, races in (({}, [RACE]), ({"refused": "use-after-free"}, [])):
        recorder = Recorder()
        recorder.store("A")
        recorder.load("B", **refused)
        assert recorder.races() == races


@pytest.mark.parametrize(("second", "races"), [("try", False), ("lock", False), ("failed", True), ("nothing", True)])
def test_the_guard_protects_whoever_has_got_it(second: str, races: bool) -> None:
    """Whether at once or by a try; the release orders the two as well, so a third CPU stores in between."""
    recorder = Recorder()
    if second in ("try", "failed"):
        recorder("B", "try", lock="thing:0.lk", mode="w", fn="f", got=second == "try")
    elif second == "lock":
        recorder.lock("B")
    recorder.store("B")
    recorder.watch.contexts["C"] = Context("C", "cpu2")
    recorder.watch.contexts["C"].held = [Held(THING.lk, "w", "f")]
    recorder.load("C")
    assert bool(recorder.races()) is races


def test_a_lock_is_held_from_the_operation_behind_its_grant_until_it_is_released() -> None:
    recorder = Recorder()
    recorder.lock("A", fn="first")
    recorder.lock("B", wait=True, fn="second")
    assert recorder.held("A") == [("thing:0.lk", "w", "first")] and recorder.held("B") == []
    recorder.store("A")
    recorder.unlock("A", granted=["B"])
    assert recorder.held("A") == []
    recorder.store("B")
    assert recorder.held("B") == [("thing:0.lk", "w", "second")] and recorder.races() == []
    recorder.unlock("B")
    recorder.unlock("B")  # which LOCKDEBUG complains of
    assert recorder.held("B") == []
    recorder.store("A")
    assert recorder.races() == [RACE]


def test_a_grant_orders_and_asking_for_a_lock_does_not() -> None:
    """An interrupt of the CPU that spins for the lock comes after nothing that its holders did."""
    recorder = Recorder()
    recorder.store("A", "w")
    recorder.unlock("A")
    recorder.lock("B", wait=True)
    recorder.load("intr", "w")
    assert len(recorder.races()) == 1
    recorder = Recorder()
    recorder.lock("B", wait=True)
    recorder.store("A", "w")
    recorder.unlock("A", granted=["B"])
    recorder("A", "wakeup", chan="thing:0")
    recorder.load("B", "w")
    assert recorder.races() == []


def test_a_try_orders_if_it_has_got_the_lock() -> None:
    for got, races in ((True, []), (False, [RACE])):
        recorder = Recorder()
        recorder.store("A")
        recorder.unlock("A")
        recorder("B", "try", lock="thing:0.lk", mode="w", fn="f", got=got)
        recorder.store("B")
        assert recorder.races() == races


@pytest.mark.parametrize("waits", [False, True])
def test_an_upgrade_makes_a_lock_exclusive_and_a_downgrade_shared(waits: bool) -> None:
    """Since when it is held, they do not change."""
    recorder = Recorder()
    recorder.lock("A", "big:0.lk", "r", "reader")
    recorder("A", "upgrade", lock="big:0.lk", **({"wait": True} if waits else {}))
    assert recorder.held("A") == [("big:0.lk", "r" if waits else "w", "reader")]
    recorder.store("A", obj="big:0#0")
    assert recorder.held("A") == [("big:0.lk", "w", "reader")]
    recorder("A", "downgrade", lock="big:0.lk")
    assert recorder.held("A") == [("big:0.lk", "r", "reader")]
    recorder.store("A", obj="big:0#0")
    recorder.load("B", obj="big:0#0")
    assert "without its guard (big:0.lk, held shared)" in recorder.only().story[0]


def test_an_upgrade_of_what_is_not_held_begins_in_the_function_that_made_it() -> None:
    recorder = Recorder()
    recorder("A", "enter", fn="vm_map_lock_upgrade")
    recorder("A", "upgrade", lock="big:0.lk")
    assert recorder.held("A") == [("big:0.lk", "w", "vm_map_lock_upgrade")]


def test_an_upgrade_and_a_downgrade_order_as_taking_and_releasing_do() -> None:
    recorder = Recorder()
    recorder.store("A")
    recorder("A", "downgrade", lock="big:0.lk")
    recorder("B", "upgrade", lock="big:0.lk")
    recorder.store("B")
    assert recorder.races() == []


def test_the_big_lock_orders_and_guards_nothing() -> None:
    """LOCKDEBUG's lists do not have it."""
    recorder = Recorder()
    recorder.lock("A", "kernel:0.kernel_lock")
    recorder.store("A")
    assert recorder.held("A") == []
    recorder.unlock("A", "kernel:0.kernel_lock")
    recorder.lock("B", "kernel:0.kernel_lock")
    recorder.store("B")
    assert recorder.races() == []
    recorder.store("C")
    assert recorder.races() == [RACE] and "holding no lock" in recorder.only().story[0]


def woken_behind_a_store() -> Recorder:
    """A sleeps; B stores, and wakes A, which goes on."""
    recorder = Recorder()
    recorder("A", "sleep", chan="thing:0", wmesg="nap", fn="f")
    recorder.store("B")
    recorder("B", "wakeup", chan="thing:0", woke=["A"])
    recorder("A", "run")
    return recorder


def test_a_wakeup_is_known_to_a_sleeper_only_when_it_goes_on() -> None:
    """It releases its interlock after it has queued: what woke it meanwhile is not told to the lock's next holder."""
    recorder = Recorder()
    recorder.lock("A")
    recorder("A", "sleep", chan="thing:0", wmesg="nap", fn="f")
    recorder.store("B")
    recorder("B", "wakeup", chan="thing:0", woke=["A"])
    recorder.unlock("A", granted=["C"])
    recorder.store("C")
    assert recorder.races() == [RACE]
    recorder = woken_behind_a_store()
    recorder.store("A")
    assert recorder.races() == []


def test_the_release_of_a_lock_is_part_of_going_to_sleep_only_right_behind_it() -> None:
    recorder = woken_behind_a_store()
    recorder.unlock("A")
    recorder.lock("C")
    recorder.store("C")
    assert recorder.races() == []


def test_a_channel_orders_nobody_by_itself() -> None:
    recorder = Recorder()
    recorder.store("A")
    recorder("A", "wakeup", chan="thing:0")
    recorder("B", "wakeup", chan="thing:0")
    recorder.store("B")
    assert recorder.races() == [RACE]


@pytest.mark.parametrize(("first", "second", "races"), [(5, 5, []), (5, 6, [RACE])])
def test_the_mmu_s_records_order_by_pmap(first: int, second: int, races: list[str]) -> None:
    recorder = Recorder()
    recorder.store("A")
    recorder("A", "pmap_unwire", pmap=first, va=0)
    recorder("B", "pmap_extract", pmap=second, va=0)
    recorder.store("B")
    assert recorder.races() == races


def test_a_pmap_that_is_made_comes_before_no_other_s_operations() -> None:
    recorder = Recorder()
    recorder.store("A")
    recorder("A", "pmap_create", pmap=3)
    recorder("B", "pmap_extract", pmap=1, va=0)
    recorder.store("B")
    assert recorder.races() == [RACE]


def test_an_interrupt_comes_after_what_raised_it() -> None:
    for event, races in (("intr", []), ("run", [RACE])):
        recorder = Recorder()
        recorder.store("A")
        recorder("A", "pmap_remove", pmap=5, start=0, end=1, raised=["intr"])
        recorder("intr", event)
        recorder.store("intr")
        assert recorder.races() == races


def test_fields_that_nobody_guards_and_structs_that_are_gone_do_not_race() -> None:
    recorder = Recorder()
    for name in ("A", "B"):
        recorder.store(name, "c")
        recorder.store(name, obj="thing:9#0")
    assert recorder.races() == []
    recorder.store("A")
    recorder("C", "free", obj="thing:0#0", by="f")
    recorder.store("B")
    assert recorder.races() == []


def test_a_look_that_skips_the_guard_on_purpose_is_recorded_as_one() -> None:
    skips: dict[str, Any] = {"peek": True}
    for peek, races in ((skips, []), ({}, [RACE])):
        recorder = Recorder()
        recorder.lock("A")
        recorder.store("A")
        recorder.load("B", **peek)
        assert recorder.races() == races
    recorder = Recorder()
    recorder.store("A", "h")
    recorder.load("B", "h")
    assert recorder.races() == []
    recorder.store("B", "h")
    assert recorder.races() == ["data race in user on h of thing:0"]
    assert recorder.only().story[1].endswith("without its guard (thing:0.lk, not held)")


def test_a_look_under_the_guard_counts_although_it_might_have_skipped_it() -> None:
    recorder = Recorder()
    recorder.lock("B")
    recorder.load("B", peek=True)
    recorder.store("C")
    assert recorder.races() == [RACE]


def test_an_element_of_an_array_races_and_is_called_one() -> None:
    recorder = Recorder()
    recorder.store("A", "[]", "slotarray:0#0")
    recorder.store("B", "[]", "slotarray:0#0")
    assert recorder.races() == ["data race in user on an element of slotarray:0"]


@pytest.mark.parametrize("way", ["alloc", "renew", "claim"])
def test_a_new_struct_is_its_maker_s_own_until_another_touches_it(way: str) -> None:
    """Without a lock, its maker fills it in; whoever comes later, and has the lock, finds it so."""
    for guarded, races in ((True, 0), (False, 1)):
        recorder = Recorder()
        if way == "alloc":
            recorder("A", "alloc", kind=200, length=0, obj="thing:0#1")
        elif way == "renew":
            recorder("A", "renew", obj="thing:0#0", by="f", gen=1)
        else:
            recorder("A", "claim", obj="thing:0#0")
        recorder.store("A", obj="thing:0#1")
        if guarded:
            recorder.lock("B")
        recorder.store("B", obj="thing:0#1")
        assert len(recorder.races()) == races
        recorder.watch.races.clear()
        recorder.store("A", obj="thing:0#1")
        assert len(recorder.races()) == 1  # it is not A's own any more


def test_a_struct_is_nobody_s_own_once_its_handle_is_where_others_can_find_it() -> None:
    for public, races in ((True, 1), (False, 0)):
        recorder = Recorder()
        recorder("A", "alloc", kind=200, length=0, obj="thing:7#0")
        recorder("A", "alloc", kind=200, length=0, obj="thing:8#0")
        recorder.store("A", "next", obj="thing:7#0", value="thing:8#0")  # itself found by nobody
        if public:
            recorder.lock("A")
            recorder.store("A", "next", value="thing:7#0")
            recorder.unlock("A")
        recorder.store("A", obj="thing:8#0")
        recorder.watch.contexts["B"] = Context("B", "cpu1")
        recorder.watch.contexts["B"].held = [Held(parse_handle("thing:8#0").lk, "w", "f")]
        recorder.load("B", obj="thing:8#0")
        assert len(recorder.races()) == races


def test_memory_is_as_the_records_say() -> None:
    """Numbers, pointers and text. An array has its elements behind its fields."""
    recorder = Recorder()
    heap = recorder.watch.guards.heap
    recorder.store("A", value=5)
    recorder.store("A", "next", value="thing:1#0")
    assert heap.peek(THING, V.slot) == 5 and heap.peek(THING, Thing.fields["next"].slot) == THING1
    recorder.store("A", "next", value="no handle")
    assert heap.peek(THING, Thing.fields["next"].slot) == "no handle"
    recorder.store("A", "next", value=None)
    assert heap.peek(THING, Thing.fields["next"].slot) is None
    recorder("A", "alloc", kind=12, length=3, obj="slotarray:4#2")
    record = heap.records[SlotArray.at(4).id]
    assert (record.gen, record.fields) == (2, [*SlotArray.defaults, None, None, None])
    recorder("A", "renew", obj="thing:0#0", by="f", gen=3)
    record = heap.records[THING.id]
    assert (record.gen, record.fields) == (3, Thing.defaults) and record.fields is not Thing.defaults
    recorder("A", "free", obj="thing:0#3", by="f")
    assert THING.id not in heap.records


# -- several findings ------------------------------------------------------------------------------


def test_of_races_that_look_the_same_the_first_is_told() -> None:
    """By how much had happened before the second access, whatever the order that the records come in.

    Operations that bring nothing to others do not count: B has more of them.
    """
    for later_first in (False, True):
        recorder = Recorder()
        recorder.store("A")
        recorder.store("A", "w")
        for _ in range(3):
            recorder("C", "wakeup", chan="thing:0", woke=["A2"])
        for _ in range(9):
            recorder.load("B", obj="thing:1#0")
        for name in ("C", "B") if later_first else ("B", "C"):
            recorder.store(name)
            recorder.store(name, "w")
        assert "store to thing:0.v by B on cpu1, operation 10," in recorder.only().story[1]


def test_findings_come_in_an_order_in_which_they_can_have_happened() -> None:
    recorder = Recorder()
    recorder("C", "enter", fn="late")
    recorder("B", "enter", fn="early")
    for _ in range(3):
        recorder("C", "wakeup", chan="thing:0", woke=["intr"])
    recorder.store("A")
    recorder.store("A", "w")
    recorder.store("C", "w")
    recorder.store("B")
    assert [finding.function for finding in recorder.watch.findings()] == ["early", "late"]


def test_a_reversal_and_a_race_of_one_cpu_come_in_its_order() -> None:
    for race_first in (False, True):
        recorder = Recorder()
        for lock in ("thing:0.lk", "other:0.lk"):
            recorder.lock("A", lock)
        recorder.store("A", obj="thing:1#0")
        for _ in range(3):
            recorder("C", "wakeup", chan="thing:0", woke=["B"])
        recorder.lock("B", "other:0.lk")
        recorder("B", "enter", fn="f")
        if race_first:
            recorder.store("B", obj="thing:1#0")
        recorder.lock("B", "thing:0.lk")
        if not race_first:
            recorder.store("B", obj="thing:1#0")
        kinds = ["lock-order-reversal", "data-race"]
        assert [finding.kind for finding in recorder.watch.findings()] == (kinds[::-1] if race_first else kinds)


def test_moments_of_two_cpus_at_which_the_same_had_happened_are_told_apart() -> None:
    detector = RaceDetector()
    assert detector.moment("cpu1", 4) == (1, "cpu1", 4)
    detector.operation("cpu0", "wakeup", 0, None, ["B"])
    detector.goes_on("B", "cpu1")
    assert detector.moment("cpu0", 1) == (2, "cpu0", 1) and detector.moment("cpu1", 5) == (2, "cpu1", 5)


def test_what_a_cpu_has_told_itself_counts_once() -> None:
    detector = RaceDetector()
    detector.operation("cpu0", "unlock", 1, None)
    for code in ("lock", "unlock", "lock"):
        detector.operation("cpu0", code, 1, None)
    assert detector.moment("cpu0", 5) == (3, "cpu0", 5)


# -- lock order ----------------------------------------------------------------------------------------


def crosswise(recorder: Recorder, first: str = "thing:0.lk", second: str = "other:0.lk") -> None:
    """A takes one lock and then the other, B the other way round."""
    for name, locks in (("A", (first, second)), ("B", (second, first))):
        recorder(name, "enter", fn=f"of_{name}")
        for lock in locks:
            recorder.lock(name, lock)
        for lock in locks:
            recorder.unlock(name, lock)


def test_two_halves_of_a_reversal_are_put_together() -> None:
    recorder = Recorder()
    crosswise(recorder)
    finding = recorder.only()
    assert (finding.kind, finding.context, finding.subject) == ("lock-order-reversal", "B", "thing:0")
    assert finding.text == (
        "lock order reversal: thing is taken while other is held (in of_B), but thing < other (seen in of_A)"
    )
    assert [hold["lock"] for hold in finding.held] == ["other:0.lk"] and finding.stack == ["of_B"]


def test_a_reversal_is_seen_although_a_lock_had_to_be_waited_for() -> None:
    recorder = Recorder()
    recorder.lock("A", "thing:0.lk")
    recorder.lock("A", "other:0.lk", wait=True)
    recorder("A", "run")
    recorder.lock("B", "other:0.lk")
    recorder.lock("B", "thing:0.lk", wait=True)
    assert recorder.only().kind == "lock-order-reversal"


def test_a_try_the_big_lock_and_locks_of_one_class_have_no_order() -> None:
    recorder = Recorder()
    recorder.lock("A", "thing:0.lk")
    recorder("A", "try", lock="other:0.lk", mode="w", fn="f", got=True)
    recorder.unlock("A", "thing:0.lk")
    recorder.unlock("A", "other:0.lk")
    recorder.lock("B", "other:0.lk")
    recorder.lock("B", "thing:0.lk")
    assert recorder.watch.findings() == []
    for first, second in (("kernel:0.kernel_lock", "thing:0.lk"), ("thing:0.lk", "thing:1.lk")):
        recorder = Recorder()
        crosswise(recorder, first, second)
        assert recorder.watch.findings() == []


def test_a_lock_that_is_held_already_says_nothing_of_the_order() -> None:
    """LOCKDEBUG has said what is to be said: it is locked against oneself."""
    recorder = Recorder()
    recorder.lock("A", "thing:0.lk")
    recorder.lock("A", "other:0.lk")
    recorder.lock("A", "thing:0.lk")
    recorder.lock("B", "thing:0.lk")
    recorder.lock("B", "other:0.lk")
    assert recorder.watch.findings() == []


def test_what_contradicts_the_order_that_uvm_states_has_been_said_by_the_cpu_itself() -> None:
    """It is not told again, and says nothing of the order; what comes behind it is judged."""
    recorder = Recorder()
    crosswise(recorder, "anon:0.an_lock", "vmmap:0.lock")
    assert recorder.watch.findings() == []
    crosswise(recorder)
    assert [finding.context for finding in recorder.watch.findings()] == ["B"]


def test_of_each_two_classes_the_first_time_counts() -> None:
    """By how much had happened, so that it does not matter in which order the records come."""
    for order in (("A", "B"), ("B", "A")):
        recorder = Recorder()
        for _ in range(2):
            recorder("B", "wakeup", chan="thing:0", woke=["C"])
        for _ in range(9):
            recorder.load("A")
        for name in order:
            recorder(name, "enter", fn=f"of_{name}")
            recorder.lock(name, f"thing:{'AB'.index(name)}.lk")
            recorder.lock(name, "big:0.lk")
            recorder(name, "enter", fn="again")
            recorder.lock(name, "big:1.lk")
        ((_, finding),) = recorder.watch.pairs.values()
        assert (finding.context, finding.function) == ("A", "of_A")


def test_two_reversals_by_one_lock_are_both_told() -> None:
    recorder = Recorder()
    for second in ("thing:0.lk", "other:0.lk"):
        for lock in ("big:0.lk", second):
            recorder.lock("B", lock)
        for lock in ("big:0.lk", second):
            recorder.unlock("B", lock)
    for _ in range(9):
        recorder("A", "wakeup", chan="thing:0", woke=["C"])
    for lock in ("thing:0.lk", "other:0.lk", "big:0.lk"):
        recorder.lock("A", lock)
    told_of = [
        finding.text.removeprefix("lock order reversal: ").partition(" (")[0] for finding in recorder.watch.findings()
    ]
    assert told_of == ["big is taken while thing is held", "big is taken while other is held"]


# -- whole journals --------------------------------------------------------------------------------------


def test_journals_are_judged_in_an_order_that_they_allow() -> None:
    """Each node's own order, and each processor's; of a finding, the function is the second context's."""
    recorder = Recorder()
    recorder("A", "enter", fn="of_A")
    recorder("B", "enter", fn="of_B")
    recorder.store("A")
    recorder.store("B")
    (finding,) = judge_journals(recorder.images, recorder.journals)
    assert finding.text == "data race in of_B on v of thing:0"
    recorder.journals["memory"].reverse()
    (finding,) = judge_journals(recorder.images, recorder.journals)
    assert finding.text == "data race in of_A on v of thing:0"
    recorder.store("A")
    recorder.journals["memory"].reverse()
    with pytest.raises(LogIncomplete):
        judge_journals(recorder.images, recorder.journals)


def test_of_the_operations_those_are_followed_that_order_others_or_say_who_has_what() -> None:
    assert {"lock", "unlock", "wakeup", "dev_send", "pmap_walk", "swap_put", "disk_done", "alloc", "renew"} <= TRACKED
    assert not {"load", "store", "identify", "word_read", "frame_copy", "run", "intr", "choose"} & TRACKED
