"""What is wrong with a machine in which no context can continue: the wait that explains the others, in words."""

from __future__ import annotations

import ast
from collections.abc import Callable

import pytest

from cluster.search.explore import explore
from shared.detectors.invariants import Invariant
from shared.detectors.machine_state import ContextState, HostState, MachineState, TlbState
from shared.detectors.verdict import endless, judge, sort_out
from shared.detectors.waits import Facts, Hold, Wait, WaitGraph
from shared.findings import Finding
from shared.form import ROOT
from shared.locks.table import LockState
from shared.port.port import here, kernel
from shared.uvm.param import PG_BUSY
from shared.uvm.structs import Page, Proc
from shared.wire.codec import STATE, decode, encode
from tests.kit import BIG, OTHER, THING, THING1, Script, Toy, make_structs, scenario

OFF = {"lockorder": "off", "lockdebug": "off"}
Body = Callable[[], None]


def verdict(*bodies: Body, script: tuple[str, ...] = ()) -> list[Finding]:
    """All findings about the machine at rest; contexts are A, B, C, each on a CPU of its own."""
    names = "ABC"[: len(bodies)]
    toy = Toy(
        make_structs, {name: (cpu, body) for cpu, (name, body) in enumerate(zip(names, bodies, strict=True))}, OFF
    )
    toy.run(Script(*script))
    return judge(toy.machine.state(), toy.scenario.detect)


def taking(*locks: object) -> Body:
    @kernel()
    def taker() -> None:
        for lock in locks:
            lock.lock()  # type: ignore[attr-defined]

    return taker


def sleeping() -> None:
    @kernel()
    def sleeper() -> None:
        here.port.sleep(THING.address, "nap", None)

    sleeper()


def test_a_machine_that_has_ended_well_has_no_finding() -> None:
    assert verdict(lambda: None, lambda: None) == []


def test_a_cycle_of_three_is_told_from_end_to_end() -> None:
    findings = verdict(
        taking(THING.lk, OTHER.lk),
        taking(OTHER.lk, THING1.lk),
        taking(THING1.lk, THING.lk),
        script=("A", "A", "B", "B", "C", "C"),
    )
    assert findings[0].kind == "deadlock" and findings[0].detector == "deadlock"
    assert findings[0].text == (
        "deadlock: A spins in taker for other:0.lk, held by B since taker; "
        "B spins in taker for thing:1.lk, held by C since taker; C spins in taker for thing:0.lk, held by A since taker"
    )


def test_who_waits_behind_a_cycle_does_not_hide_it() -> None:
    """The cycle explains the third CPU, not the other way round."""
    findings = verdict(
        taking(OTHER.lk),
        taking(THING.lk, BIG.lk, OTHER.lk),
        taking(OTHER.lk, THING.lk),
        script=("B", "B", "B", "C", "C", "A", "A"),
    )
    assert findings[0].kind == "deadlock"


@pytest.mark.parametrize(
    ("lock", "name", "kind", "verb"),
    [(THING.lk, "thing:0.lk", "spin-forever", "spins"), (BIG.lk, "big:0.lk", "deadlock", "sleeps")],
)
def test_a_lock_whose_holder_has_ended_is_held_forever(lock: object, name: str, kind: str, verb: str) -> None:
    """One spins for a simple lock and sleeps for a map's; nobody is waited for who has ended."""
    [finding] = verdict(taking(lock), taking(lock), script=("A", "A", "A"))
    assert finding.kind == kind and finding.function == "taker" and finding.subject == name.split(".", maxsplit=1)[0]
    assert finding.text == f"B {verb} forever in taker on {name}, held by A since taker; A has ended"


def test_a_lock_held_by_a_sleeper_names_both() -> None:
    def sleeps_with_it() -> None:
        THING.lk.lock()
        sleeping()

    findings = verdict(sleeps_with_it, taking(THING.lk), script=("A", "A", "A"))
    assert [finding.kind for finding in findings] == ["spin-forever", "lost-wakeup"]
    assert findings[0].text.endswith("held by A since user; A never releases it")
    assert findings[0].story == [
        "A sleeps in sleeper on thing:0",
        "B spins in taker for thing:0.lk, held by A since user",
    ]


def test_a_sleeper_whom_nobody_will_wake_is_told_with_its_channel() -> None:
    [finding] = verdict(sleeping)
    assert (finding.kind, finding.function, finding.subject) == ("lost-wakeup", "sleeper", "thing:0")
    assert finding.text == "A sleeps in sleeper on thing:0; no context will wake it"
    assert finding.stack == ["sleeper"]


def test_a_context_that_never_started_is_not_stuck() -> None:
    """A child whose fork was never reached is not a lost wakeup."""
    toy = Toy(make_structs, {"A": (0, lambda: None), "B": (1, sleeping)}, OFF)
    toy.machine.threads["B"].starts_on = OTHER.address
    assert toy.run() is None


def test_the_daemon_asleep_on_its_channel_is_at_rest() -> None:
    """So is the swap pager's I/O; else no run could ever end."""
    from cluster.boot import prepare
    from cluster.search.strategy import Stay
    from cluster.sim.engine import Sim

    machine, image = prepare(scenario("S3d").without_errata())
    sim = Sim(machine, image)
    assert sim.execute(Stay()) is None
    waits = {
        context.name: context.waits
        for context in machine.state().contexts
        if not context.finished and not context.interrupt
    }
    assert set(waits) == {"pagedaemon", "swap"} and waits["swap"] == ("io_next", 0)


def test_a_detector_that_is_off_judges_nothing() -> None:
    toy = Toy(make_structs, {"A": (0, sleeping)}, {**OFF, "deadlock": "off"})
    assert toy.run() is None


def test_a_noted_verdict_is_a_note() -> None:
    toy = Toy(make_structs, {"A": (0, sleeping)}, {**OFF, "deadlock": "note"})
    assert toy.run() is None and [finding.kind for finding in toy.sim.notes] == ["lost-wakeup"]


ORACLE = Finding("oracle", "memory oracle: two values")
INVARIANT = Finding("invariant", "FREE-1: a count is wrong")
BROKEN = Invariant("FREE-1", "a count is right", "", lambda snapshot: iter([("it is wrong", "uvmexp")]))


@pytest.mark.parametrize(
    ("levels", "told"),
    [
        ({}, ["lost-wakeup", "stop"]),
        ({"deadlock": "note"}, ["lost-wakeup", "oracle", "stop"]),
        ({"deadlock": "note", "oracle": "note"}, ["lost-wakeup", "oracle", "invariant", "stop"]),
        ({"deadlock": "off", "oracle": "note"}, ["oracle", "invariant", "stop"]),
        ({"deadlock": "off", "oracle": "off", "invariant": "note"}, ["invariant"]),
        ({"deadlock": "note", "oracle": "off", "invariant": "off"}, ["lost-wakeup"]),
    ],
)
def test_what_is_only_noted_hides_nothing(
    levels: dict[str, str], told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the findings to stop for only the first is wanted: it explains the others. A note explains nothing away.

    `told`: the notes in order, and if there is a finding, it and the word "stop".
    """
    toy = Toy(make_structs, {"A": (0, sleeping)}, OFF)
    toy.run()
    monkeypatch.setattr("shared.detectors.invariants.register._in_order", lambda: [BROKEN])
    findings = judge(toy.machine.state(), levels, ORACLE)
    finding, notes = sort_out(findings, levels)
    assert [*(note.kind for note in notes), *([finding.kind, "stop"] if finding else [])] == told


def test_of_two_findings_to_stop_for_the_first_is_it_and_the_second_is_dropped() -> None:
    assert sort_out([ORACLE, INVARIANT], {}) == (ORACLE, [])
    assert sort_out([INVARIANT, ORACLE], {"oracle": "note"}) == (INVARIANT, [ORACLE])


@pytest.mark.parametrize(
    ("levels", "old", "finding", "notes"),
    [
        ({}, None, "spin-forever", []),
        ({}, {"A"}, "not-ended", []),
        ({"deadlock": "note"}, None, "not-ended", ["spin-forever"]),
        ({"deadlock": "off"}, None, "not-ended", []),
        ({"deadlock": "note", "progress": "note"}, None, None, ["spin-forever", "not-ended"]),
        ({"deadlock": "off", "progress": "off"}, None, None, ["not-ended"]),
    ],
)
def test_a_machine_that_goes_on_and_on_is_judged_by_the_levels(
    levels: dict[str, str], old: set[str] | None, finding: str | None, notes: list[str]
) -> None:
    """B waits for a lock forever; at least that there was no end is always told."""
    toy = Toy(make_structs, {"A": (0, taking(THING.lk)), "B": (1, taking(THING.lk))}, OFF)
    toy.run(Script("A", "A", "A"))
    findings, noted = sort_out(endless(toy.machine.state(), levels, 500, old), levels)
    assert (findings.kind if findings else None) == finding and [finding.kind for finding in noted] == notes


def readers_and_a_writer(*then: Body) -> tuple[Body, ...]:
    """A has BIG shared and does `then[0]`; B has it shared too and does `then[1]`; C wants it exclusively."""

    def reading(body: Body) -> Body:
        @kernel()
        def reader() -> None:
            BIG.lk.lock_shared()
            body()

        return reader

    return (*(reading(body) for body in then), taking(BIG.lk))


def test_a_reader_that_reads_again_waits_behind_the_writer_that_waits_for_it() -> None:
    """As the map's lock of mlock: no holder is in the way of the second shared request, but a writer queued before."""
    findings = verdict(*readers_and_a_writer(BIG.lk.lock_shared, lambda: None), script=("A", "A", "B", "B", "C", "C"))
    assert findings[0].kind == "deadlock" and findings[0].subject == "big:0"
    assert findings[0].text == (
        "deadlock: A sleeps in reader for big:0.lk behind C, which wants it exclusively; "
        "C sleeps in taker for big:0.lk, held by A shared since reader"
    )
    assert (
        findings[0].story[-1].endswith("held by A shared since reader, and held by B shared since reader; B has ended")
    )


def test_a_cycle_through_the_second_of_two_readers_is_a_cycle() -> None:
    """C waits for A, which will continue, and for B, which waits for C."""

    def pausing() -> None:
        here.port.sleep(OTHER.address, "nap", None)

    def wants_thing() -> None:
        THING.lk.lock()

    def writer() -> None:
        THING.lk.lock()
        BIG.lk.lock()

    bodies = readers_and_a_writer(pausing, wants_thing)
    findings = verdict(bodies[0], bodies[1], kernel()(writer), script=("C", "A", "B", "A", "C", "B"))
    assert [finding.kind for finding in findings] == ["deadlock", "deadlock", "lost-wakeup"]
    assert findings[0].text.startswith("deadlock: ") and "held by B shared since reader" in findings[0].text
    assert "held by A" not in findings[0].text


def busy_page() -> None:
    """The structs, and a page that A has in transit."""
    make_structs()
    page = here.port.alloc(Page)
    page.flags, page.owner_tag = PG_BUSY, "new alloc by A"


@pytest.mark.parametrize("blocked", [True, False])
def test_a_cycle_through_a_busy_page_is_a_deadlock(blocked: bool) -> None:
    """A has the page in transit and wants B's lock; B waits for the page."""

    def waits_for_page() -> None:
        BIG.lk.lock()
        here.port.sleep(Page.at(0).address, "uvn_get", None)

    bodies = {"A": (0, taking(BIG.lk) if blocked else lambda: None), "B": (1, kernel()(waits_for_page))}
    toy = Toy(busy_page, bodies, OFF)
    toy.run(Script("B", "B"))
    findings = judge(toy.machine.state(), toy.scenario.detect)
    assert [finding.kind for finding in findings] == ["deadlock"] * (1 + blocked)
    texts = {finding.context: finding.text for finding in findings}
    if blocked:
        a, b = (
            "A sleeps in taker for big:0.lk, held by B since waits_for_page",
            'B sleeps in waits_for_page on page:0, which A made BUSY ("new alloc by A")',
        )
        assert texts == {"A": f"deadlock: {a}; {b}", "B": f"deadlock: {b}; {a}"}
    else:
        assert texts == {"B": "B sleeps in waits_for_page on page:0, busy forever (new alloc by A)"}


def test_the_sleep_that_explains_the_others_comes_first() -> None:
    """B and C sleep for locks behind A, which nobody wakes; neither explains anything."""

    def sleeps_with_it() -> None:
        BIG.lk.lock()
        sleeping()

    findings = verdict(sleeps_with_it, taking(BIG.lk), taking(BIG.lk), script=("A", "A", "A", "B"))
    assert [(finding.context, finding.kind) for finding in findings] == [
        ("A", "lost-wakeup"),
        ("B", "deadlock"),
        ("C", "deadlock"),
    ]


def test_a_sleep_until_a_process_exits_is_explained_by_the_thread_of_it_that_is_stuck() -> None:
    """A waits for process `child`, whose thread sleeps for a lock that nobody releases."""

    def gone() -> None:
        BIG.lk.lock()

    def waits() -> None:
        here.port.sleep(Proc.at(0).addressof("p_stat"), "wait", None)

    def setup() -> None:
        make_structs()
        here.port.alloc(Proc)

    toy = Toy(setup, {"A": (0, kernel()(waits)), "child": (1, taking(BIG.lk)), "C": (2, gone)}, OFF)
    toy.machine.threads["child"].home = Proc.at(0)
    toy.run(Script("C", "C"))
    findings = judge(toy.machine.state(), toy.scenario.detect)
    assert [(finding.context, finding.kind) for finding in findings] == [("child", "deadlock"), ("A", "deadlock")]
    assert findings[1].text == "A sleeps in waits on proc:0.p_stat for the exit of thread child of process proc:0"


def test_a_holder_that_waits_for_its_cpu_is_told_with_whoever_spins_there() -> None:
    finding = explore(scenario("E10-shipped")).finding
    assert finding is not None and finding.kind == "spin-forever"
    assert finding.text.endswith("held by A since amap_unref; A waits for its CPU, on which T spins")


def test_of_two_cpus_that_spin_the_one_behind_the_other_comes_later() -> None:
    """As with the big lock: B spins for what A holds, and A for a lock whose holder has ended."""
    findings = verdict(
        taking(OTHER.lk, THING.lk), taking(OTHER.lk), taking(THING.lk), script=("C", "C", "B", "A", "A", "B")
    )
    assert [(finding.context, finding.subject) for finding in findings] == [("A", "thing:0"), ("B", "other:0")]
    findings = verdict(
        taking(OTHER.lk), taking(OTHER.lk, THING.lk), taking(THING.lk), script=("C", "C", "B", "B", "A", "A")
    )
    assert [(finding.context, finding.subject) for finding in findings] == [("B", "thing:0"), ("A", "other:0")]


def test_a_simple_lock_that_was_forgotten_is_no_part_of_a_cycle() -> None:
    """A function has returned with it (as E1); that A sleeps now, for the very context that spins, is not a reason."""

    @kernel()
    def forgets() -> None:
        THING.lk.lock()

    @kernel()
    def waits() -> None:
        here.port.sleep(Proc.at(0).addressof("p_stat"), "wait", None)

    def parent() -> None:
        forgets()
        waits()

    def in_use() -> None:
        THING.lk.lock()
        waits()

    def setup() -> None:
        make_structs()
        here.port.alloc(Proc)

    for body, kinds in ((parent, ["spin-forever", "deadlock"]), (kernel()(in_use), ["deadlock", "deadlock"])):
        toy = Toy(setup, {"A": (0, body), "child": (1, taking(THING.lk))}, OFF)
        toy.machine.threads["child"].home = Proc.at(0)
        toy.run(Script("A", "A"))
        findings = judge(toy.machine.state(), toy.scenario.detect)
        assert [finding.kind for finding in findings] == kinds
        assert findings[0].text.startswith("deadlock: ") == (kinds[0] == "deadlock")
    assert len({finding.text for finding in findings}) == 2


def test_the_graph_has_no_edge_to_who_has_ended() -> None:
    facts = Facts(
        waits={"B": Wait("lock", "big:0.lk", "f")},
        ended=frozenset("A"),
        holders={"big:0.lk": [Hold("A", "r", "g"), Hold("C", "r", "h")]},
    )
    assert [edge.to for edge in WaitGraph(facts).edges("B")] == ["C"]
    assert WaitGraph(facts).words("B") == (
        "B spins in f for big:0.lk, held by A since g; A has ended, and held by C since h"
    )


# -- what it looks at ----------------------------------------------------------------------------


def test_a_state_that_has_travelled_is_judged_as_the_engine_s_own() -> None:
    """The live engine puts its machine together from messages; every part must arrive as what it was."""
    bodies = {"A": (0, taking(THING.lk, BIG.lk)), "B": (1, taking(BIG.lk, THING.lk)), "C": (2, sleeping)}
    toy = Toy(make_structs, bodies, OFF)
    toy.run(Script("A", "A", "B", "B"))
    state = toy.machine.state()
    host = HostState(state.contexts, state.locks, state.images, state.tlbs, {"A": []}, {"E1": 2}, {"faults": 3})
    there = decode(STATE, encode(STATE, host))
    assert (there.contexts, there.locks) == (state.contexts, state.locks) and there[4:] == host[4:]
    assert [type(part) for part in (there.contexts[0], there.locks[0], there.tlbs["cpu0"])] == [
        ContextState,
        LockState,
        TlbState,
    ]
    again = MachineState(there.contexts, there.locks, there.images, there.tlbs, state.page_size)
    findings = judge(state, toy.scenario.detect)
    assert [finding.kind for finding in findings] == ["deadlock", "deadlock", "lost-wakeup"]
    assert judge(again, toy.scenario.detect) == findings


@pytest.mark.parametrize(
    "module",
    [
        "shared.detectors.verdict",
        "shared.detectors.invariants",
        "shared.detectors.invariants.leftovers",
        "shared.locks.order",
        "shared.detectors.oracle",
        "shared.detectors.race",
    ],
)
def test_a_detector_s_header_says_what_it_does_not_see(module: str) -> None:
    at = ROOT / module.replace(".", "/")
    file = at / "__init__.py" if at.is_dir() else at.with_suffix(".py")
    header = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    assert "Sees: " in header and "Does not see: " in header
