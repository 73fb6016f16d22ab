"""The port's own half: held locks, stacks, spl, detectors' levels, errata and counters."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from cluster.search.strategy import Stay
from nodes.cpu import Thread
from shared.errors import Diverged
from shared.findings import FINDINGS, Finding
from shared.port.port import (
    KASSERT,
    LOCK_ASSERT,
    SPL_BIO,
    SPL_HIGH,
    SPL_IMP,
    SPL_NONE,
    Context,
    Held,
    erratum,
    here,
    kernel,
    panic,
)
from shared.uvm.param import VM_PROT_READ, VM_PROT_WRITE
from shared.uvm.structs import Proc
from shared.wire.messages import WAIT
from tests.kit import BIG, OTHER, THING, Toy, make_structs


def run(body: Callable[[], Any], **detect: str) -> tuple[Finding | None, Toy]:
    toy = Toy(make_structs, {"A": (0, body)}, detect)
    return toy.run(record=True), toy


def events(toy: Toy) -> list[tuple[str, str]]:
    assert toy.sim.journals is not None
    return [
        (record["event"], record["fn"])
        for record in toy.sim.journals["cpu0"].records
        if record["event"] in ("enter", "exit")
    ]


def test_entries_and_exits_of_kernel_functions_are_in_the_journal() -> None:
    """A post-mortem rebuilds each context's kernel stack from them."""

    @kernel()
    def outer() -> int:
        inner()
        return 5

    @kernel()
    def inner() -> None:
        assert here.port.cur.stack == ["outer", "inner"] and here.port.cur.function == "inner"

    finding, toy = run(lambda: outer() == 5)
    assert finding is None
    assert events(toy) == [("enter", "outer"), ("enter", "inner"), ("exit", "inner"), ("exit", "outer")]


def test_a_kernel_function_keeps_its_name_and_docstring() -> None:
    @kernel(exit="same")
    def uvm_something(a: int) -> int:
        """Says what it is."""
        return a

    assert uvm_something.__name__ == "uvm_something" and uvm_something.__doc__ == "Says what it is."


def test_held_is_what_this_context_holds_and_no_operation() -> None:
    def body() -> None:
        before = here.port.cur.n
        assert not THING.lk.held() and not BIG.lk.held_exclusive()
        assert here.port.cur.n == before
        BIG.lk.lock_shared()
        assert BIG.lk.held() and not BIG.lk.held_exclusive()
        BIG.lk.unlock()
        BIG.lk.lock()
        assert BIG.lk.held_exclusive()
        BIG.lk.downgrade()
        assert BIG.lk.held() and not BIG.lk.held_exclusive()
        BIG.lk.upgrade()
        assert BIG.lk.held_exclusive()
        BIG.lk.unlock()

    assert run(body)[0] is None


def test_a_failed_try_holds_nothing() -> None:
    taken = Toy(
        make_structs,
        {"A": (0, lambda: OTHER.lk.lock()), "B": (1, lambda: got.append(OTHER.lk.trylock()))},
        {"lockdebug": "off"},
    )
    got: list[bool] = []
    taken.run()
    assert got == [False] and taken.machine.threads["B"].held == []


def test_spl_is_raised_and_put_back() -> None:
    def body() -> None:
        port = here.port
        assert port.spl(SPL_BIO) == SPL_NONE
        assert port.splraise(SPL_IMP) == SPL_BIO and port.cur.spl == SPL_IMP
        assert port.splraise(SPL_NONE) == SPL_IMP and port.cur.spl == SPL_IMP
        port.spl(SPL_HIGH)
        port.spl(SPL_NONE)

    assert run(body)[0] is None


@pytest.mark.parametrize(
    ("body", "kind", "text", "detector"),
    [
        (lambda: KASSERT(False, "a == b", THING), "kassert", 'kernel diagnostic assertion "a == b" failed', "kassert"),
        (lambda: panic("uvm: no", THING), "panic", "panic: uvm: no", "kassert"),
        (lambda: LOCK_ASSERT(False, "held(x)", THING), "lock-assert", 'lock assertion "held(x)" failed', "lockdebug"),
    ],
)
def test_what_the_kernel_asserts_is_a_finding_that_a_level_can_silence(
    body: Callable[[], None], kind: str, text: str, detector: str
) -> None:
    finding, _ = run(body)
    assert finding is not None and (finding.kind, finding.text, finding.subject, finding.detector) == (
        kind,
        text,
        "thing:0",
        detector,
    )
    assert run(body, **{detector: "off"})[0] is None
    noted, toy = run(body, **{detector: "note"})
    assert noted is None and [note.kind for note in toy.sim.notes] == [kind]


def test_an_assertion_of_a_kind_of_its_own_accuses_the_caller() -> None:
    """uvm_anfree() sees the locked anon; amap_cow_now() is who frees it."""

    @kernel()
    def caller() -> None:
        callee()

    @kernel()
    def callee() -> None:
        LOCK_ASSERT(False, "free", THING, kind="locked-anon-freed")

    finding, _ = run(caller)
    assert finding is not None and (finding.kind, finding.function, finding.stack) == (
        "locked-anon-freed",
        "caller",
        ["caller", "callee"],
    )


def test_a_true_assertion_is_silent() -> None:
    def body() -> None:
        KASSERT(True, "a")
        LOCK_ASSERT(True, "b")

    assert run(body)[0] is None


def test_every_kind_of_finding_has_a_detector() -> None:
    kinds = [
        kind for kind, finding in FINDINGS.items() if finding.detector != "invariant"
    ]  # (a toy machine has no UVM to check)

    def body() -> None:
        for kind in kinds:
            here.port.report(kind, "text")

    finding, toy = run(body, **{FINDINGS[kind].detector: "note" for kind in kinds})
    assert finding is None
    assert [(note.kind, note.detector) for note in toy.sim.notes] == [(kind, FINDINGS[kind].detector) for kind in kinds]


def test_reaching_an_erratums_site_counts_whether_it_is_on_or_off() -> None:
    """A repaired kernel that never came by the site has shown nothing."""
    answers: list[bool] = []
    _, toy = run(lambda: answers.extend(erratum("amap_cow_now.returns-amap-locked") for _ in range(3)))
    assert answers == [False] * 3 and toy.sim.sites == {"amap_cow_now.returns-amap-locked": 3}


def test_a_new_context_holds_nothing_and_is_in_user_mode() -> None:
    ctx = Context("A", "cpu0", SPL_BIO)
    assert (ctx.n, ctx.held, ctx.stack, ctx.spl, ctx.function) == (0, [], [], SPL_BIO, "user")
    assert (ctx.chan, ctx.proc, ctx.value, ctx.results) == (0, None, None, [])
    assert (ctx.ready, ctx.woken, ctx.biglock) == (True, False, False)
    assert repr(ctx) == "<A on cpu0 op 0>"


# -- what continues although it is wrong -----------------------------------------------


def test_an_interrupt_that_sleeps_ends_the_run_whatever_the_level() -> None:
    """With the finding in the journal, and no note beside it."""

    def body() -> None:
        here.port.cur.level = SPL_BIO
        here.port.check_sleep("nap")

    finding, toy = run(body, kassert="note")
    assert (
        finding is not None and finding.text == "panic: ltsleep: an interrupt cannot sleep (nap)" and not toy.sim.notes
    )
    assert toy.sim.journals is not None
    told = [record for record in toy.sim.journals["cpu0"].records if record["event"] in ("finding", "note")]
    assert [record["event"] for record in told] == ["finding"] and told[0]["finding"] == finding.as_dict()


def recycled() -> None:
    """THING begins a new life; the handle of that name is stale."""
    make_structs()
    here.port.renew(THING)


@pytest.mark.parametrize("record", [False, True])
@pytest.mark.parametrize("level", ["note", "off"])
def test_a_stale_handle_that_nobody_minds_is_good_for_what_lives_there_now(level: str, record: bool) -> None:
    """Numbers that are not set yet are zero, pointers nil; a struct that is gone ends the run nevertheless."""
    seen: list[Any] = []

    def body() -> None:
        seen.extend([THING.v, THING.next])
        THING.v = 5
        THING.next = OTHER
        seen.extend([THING.v, THING.next, here.port.cur.n])

    toy = Toy(recycled, {"A": (0, body)}, {"heap": level, "race": "off"})
    assert toy.run(record=record) is None
    assert seen[:4] == [0, None, 5, OTHER] and len(toy.sim.notes) == (6 if level == "note" else 0)
    assert seen[4] == 13  # one that is refused and one that is performed, each; the run itself
    gone = Toy(make_structs, {"A": (0, lambda: (here.port.free(THING), THING.v))}, {"heap": level, "race": "off"})
    finding = gone.run(record=record)
    assert finding is not None and finding.kind == "use-after-free" and not gone.sim.notes


def test_kernel_code_that_chokes_on_what_is_there_ends_the_run() -> None:
    """Then it is not a bug of ours."""

    def body() -> None:
        THING.next.v = 1

    def past_an_assertion() -> None:
        KASSERT(THING.v == 1, "v == 1", THING)
        body()

    def fails(error: Exception) -> Callable[[], None]:
        def past_it() -> None:
            KASSERT(THING.v == 1, "v == 1", THING)
            raise error

        return past_it

    toy = Toy(recycled, {"A": (0, body)}, {"heap": "off", "race": "off"})
    finding = toy.run()
    assert finding is not None and (finding.kind, finding.subject) == ("use-after-free", "thing:0")
    for level in ("note", "off"):
        trap = Toy(make_structs, {"A": (0, past_an_assertion)}, {"kassert": level, "race": "off"}).run()
        assert trap is not None and trap.kind == "panic" and 'after "kernel diagnostic assertion' in trap.text
        for ours in (Diverged("this", "that"), NameError("sys_munmap"), ImportError("map"), RecursionError("deep")):
            with pytest.raises(type(ours)):
                Toy(make_structs, {"A": (0, fails(ours))}, {"kassert": level, "race": "off"}).run()
    sound = Toy(make_structs, {"A": (0, body)}, {"heap": "off", "race": "off"})
    with pytest.raises(AttributeError):
        sound.run()


def test_a_walk_that_is_refused_and_not_minded_is_repeated() -> None:
    """Page 2 takes the place of page 1, which cpu1 may still read (TLB-2); nothing is put into the TLB for that."""
    rw = VM_PROT_READ | VM_PROT_WRITE
    answers: list[Any] = []

    def body() -> None:
        mmu, port = toy.machine.mmu, here.port
        mmu.admit("A", "pmap_create", 0, ())
        mmu.admit("A", "pmap_enter", 1, (0, 1, VM_PROT_READ, VM_PROT_READ, "cpu0"))
        mmu.admit("B", "pmap_walk", 1, (0, 0, "cpu1"))
        assert mmu.admit("A", "pmap_enter", 1, (0, 2, rw, rw, "cpu0")) is WAIT
        mmu.out = []
        port.cur.proc = Proc.at(0)
        answers.append(port.access(1, 0, True, 7))

    toy = Toy(make_structs, {"A": (0, body)}, {"oracle": "off"})
    assert toy.run() is None
    assert answers == [(True, 7)] and toy.machine.memories[0].frames[2][0] == 7


# -- which port is installed ---------------------------------------------------------


class Gives(Stay):
    """Gives up at the first choice, as a strategy does that cannot follow its schedule."""

    def pick(self, enabled: Sequence[Thread], current: Thread | None) -> Thread:
        raise Diverged("this", "that")


@pytest.mark.parametrize("abandoned", [False, True])
def test_a_run_inside_another_run_gives_the_outer_ones_port_back(abandoned: bool) -> None:
    """A check, a fuzzer or a notebook may run a machine while another one waits; the inner one may also fail."""
    seen: list[Any] = []

    def adds() -> None:
        seen.append(here.port)
        THING.lk.lock()
        THING.v += 1
        THING.lk.unlock()

    inner = Toy(make_structs, {"A": (0, adds), "B": (1, adds)})

    def body() -> None:
        adds()
        if abandoned:
            with pytest.raises(Diverged):
                inner.run(Gives())
        else:
            assert inner.run(record=True) is None
        adds()

    outer = Toy(make_structs, {"A": (0, body), "B": (1, adds)})
    assert outer.run(record=True) is None
    assert [port is outer.sim for port in seen] == [True, *(() if abandoned else (False, False)), True, True]
    assert value(outer) == 3 and (abandoned or value(inner) == 2)
    assert not hasattr(here, "port")


def test_runs_in_several_threads_have_a_port_each() -> None:
    """One continues in the middle of the other."""
    toys: dict[str, Toy] = {}
    both = threading.Barrier(2)

    def adds() -> None:
        THING.lk.lock()
        THING.v += 1
        both.wait(timeout=10.0)
        assert here.port.cur is toys[threading.current_thread().name].sim.cur
        THING.v += 1
        both.wait(timeout=10.0)
        THING.lk.unlock()

    def runs() -> None:
        assert toys[threading.current_thread().name].run(record=True) is None

    toys |= {name: Toy(make_structs, {"A": (0, adds)}) for name in ("left", "right")}
    threads = [threading.Thread(target=runs, name=name) for name in toys]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=20.0)
    assert [value(toy) for toy in toys.values()] == [2, 2]
    assert not hasattr(here, "port")


def value(toy: Toy) -> Any:
    """What THING.v is at the end."""
    return toy.sim.heap[THING.id][type(THING).fields["v"].slot]


def test_a_context_holds_each_lock_once_in_the_order_in_which_it_took_them() -> None:
    ctx = Context("A", "cpu0")
    first, second = Held(THING.lk, "w", "f"), Held(BIG.lk, "w", "g")
    for held in (first, second, Held(THING.lk, "r", "f")):
        ctx.gets(held)
    assert [(held.key, held.mode) for held in ctx.held] == [(THING.lk.key, "r"), (BIG.lk.key, "w")]
    assert ctx.holds(BIG.lk.key) is second and ctx.holds(0) is None
    kept = ctx.holding()
    ctx.drops(THING.lk.key)
    ctx.drops(THING.lk.key)
    assert ctx.held == [second] and len(kept) == 2
