"""The deterministic engine: what its detectors see in tiny kernels, and that it does the same thing twice."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cluster.boot import prepare
from cluster.runs.replay import recorded
from cluster.search.deviate import Deviate
from cluster.search.pct import Pct
from cluster.search.strategy import Stay
from cluster.search.walk import RandomWalk
from cluster.sim.engine import Sim
from shared.findings import Finding
from shared.journal.order import linearize
from shared.journal.record import digest, holes
from shared.port.port import KASSERT, here, kernel, panic
from shared.port.struct import channel_name, unlocked
from shared.uvm.structs import LoanArray
from tests.kit import BIG, OTHER, THING, THING1, Exhaust, Script, Thing, Toy, executions, make_structs, scenario

ROOT = Path(__file__).parents[2]
CHAN = THING.address


def alone(body: Callable[[], None], **detect: str) -> Finding | None:
    """What one context by itself comes to."""
    return Toy(make_structs, {"A": (0, body)}, detect).run()


def found_by(body: Callable[[], None]) -> Finding:
    finding = alone(body)
    assert finding is not None
    return finding


# -- LOCKDEBUG: each phrase, by the smallest kernel that deserves it ---------------------


def twice() -> None:
    THING.lk.lock()
    THING.lk.lock()


def twice_asleep() -> None:
    BIG.lk.lock()
    BIG.lk.lock_shared()


def not_held() -> None:
    THING.lk.unlock()


def somebody_elses() -> None:
    BIG.lk.unlock()


def across_sleep() -> None:
    OTHER.lk.lock()
    THING.lk.lock()
    here.port.sleep(CHAN, "nap", THING.lk)


def freed_while_held() -> None:
    THING.lk.lock()
    here.port.free(THING)


def held_at_the_end() -> None:
    taker()


@kernel()
def taker() -> None:
    THING.lk.lock()


@kernel(exit="same")
def keeper() -> None:
    THING.lk.lock()


@kernel(exit="same")
def loser() -> None:
    THING.lk.unlock()


@kernel(exit="none")
def leaver() -> None:
    THING.lk.lock()


def gives_it_up() -> None:
    THING.lk.lock()
    loser()


@pytest.mark.parametrize(
    ("body", "kind", "text", "function", "subject"),
    [
        (twice, "locking-against-myself", "simple_lock: locking against myself", "user", "thing:0"),
        (twice_asleep, "locking-against-myself", "lockmgr: locking against myself", "user", "big:0"),
        (not_held, "lock-not-held", "simple_unlock: lock not held", "user", "thing:0"),
        (somebody_elses, "lock-not-held", "lockmgr: release of unlocked lock!", "user", "big:0"),
        (across_sleep, "held-across-sleep", "switching with other:0.lk held (nap)", "user", "other:0"),
        (freed_while_held, "freed-while-held", "freeing thing:0 with thing:0.lk held", "user", "thing:0"),
        (held_at_the_end, "held-at-exit", "A ends with thing:0.lk held since taker", "taker", "thing:0"),
        (keeper, "held-at-exit", "keeper: returns with thing:0.lk held", "keeper", "thing:0"),
        (leaver, "held-at-exit", "leaver: returns with thing:0.lk held", "leaver", "thing:0"),
        (gives_it_up, "held-at-exit", "loser: returns without a lock it was given", "loser", ""),
    ],
)
def test_lockdebug_says_its_phrase(body: Callable[[], None], kind: str, text: str, function: str, subject: str) -> None:
    """A check that has never failed proves nothing."""
    finding = found_by(body)
    assert (finding.kind, finding.text, finding.function, finding.subject) == (kind, text, function, subject)
    assert finding.detector == "lockdebug" and finding.context == "A"


def test_a_finding_carries_stack_and_locks_as_they_were() -> None:
    """They are captured before anything unwinds; afterwards nobody could tell."""

    @kernel()
    def outer() -> None:
        OTHER.lk.lock()
        inner()

    @kernel()
    def inner() -> None:
        KASSERT(False, "one == two", THING)

    finding = found_by(outer)
    assert finding.stack == ["outer", "inner"] and finding.function == "inner"
    assert finding.held == [{"lock": "other:0.lk", "mode": "w", "since": "outer"}]
    assert finding.text == 'kernel diagnostic assertion "one == two" failed' and finding.subject == "thing:0"


def test_lockdebug_off_lets_the_same_program_go_on_to_what_then_happens() -> None:
    """An early check hides the symptom: without it the CPU spins on its own lock."""
    finding = alone(twice, lockdebug="off")
    assert finding is not None and finding.kind == "spin-forever"
    assert finding.text == "A spins forever in user mode on thing:0.lk, which it has itself held since user"
    assert alone(freed_while_held, lockdebug="off") is None


def test_a_noted_finding_is_kept_and_the_run_goes_on() -> None:
    toy = Toy(make_structs, {"A": (0, not_held)}, {"lockdebug": "note"})
    assert toy.run(record=True) is None
    assert [note.kind for note in toy.sim.notes] == ["lock-not-held"]
    assert toy.sim.journals is not None
    assert [record["event"] for record in toy.sim.journals["cpu0"].records] == ["run", "note"]


def test_nothing_is_performed_after_a_panic() -> None:
    """A port that is dead unwinds every context, and `with` or `finally` in the kernel change nothing."""

    def body() -> None:
        try:
            panic("enough")
        finally:
            THING.v = 7

    toy = Toy(make_structs, {"A": (0, body), "B": (1, lambda: None)})
    finding = toy.run()
    assert finding is not None and finding.text == "panic: enough"
    assert toy.sim.heap[THING.id][Thing.fields["v"].slot] == 0


# -- lock order and deadlock ------------------------------------------------------------


def thing_then_other() -> None:
    THING.lk.lock()
    OTHER.lk.lock()
    OTHER.lk.unlock()
    THING.lk.unlock()


def other_then_thing() -> None:
    OTHER.lk.lock()
    THING.lk.lock()
    THING.lk.unlock()
    OTHER.lk.unlock()


def test_a_lock_order_reversal_is_seen_without_the_deadlock() -> None:
    """One after the other is enough; the deadlock itself may be one schedule in thousands."""
    toy = Toy(make_structs, {"A": (0, thing_then_other), "B": (1, other_then_thing)})
    for record in (False, True):
        finding = toy.run(Stay(), record=record)
        assert finding is not None and (finding.kind, finding.context) == ("lock-order-reversal", "B")
        assert (
            finding.text
            == "lock order reversal: thing is taken while other is held (in user), but thing < other (seen in user)"
        )


def test_what_one_execution_has_seen_of_the_order_says_nothing_about_the_next() -> None:
    """Or a search would find what its token does not show."""
    once: list[Callable[[], None]] = [thing_then_other]
    toy = Toy(make_structs, {"A": (0, lambda: once.pop()() if once else other_then_thing())})
    assert [toy.run() for _ in range(2)] == [None, None]


def test_two_cpus_that_take_two_locks_crosswise_deadlock_and_the_cycle_is_told() -> None:
    toy = Toy(make_structs, {"A": (0, thing_then_other), "B": (1, other_then_thing)}, {"lockorder": "off"})
    finding = toy.run(Script("A", "A", "B", "B"))
    assert finding is not None and finding.kind == "deadlock"
    assert finding.text == (
        "deadlock: A spins in user mode for other:0.lk, held by B since user; "
        "B spins in user mode for thing:0.lk, held by A since user"
    )
    assert any(finding is None for finding in toy.every()), "and some orders are harmless"


def test_a_try_against_the_order_is_allowed() -> None:
    """The pagedaemon does so: queue lock, then a try for the owner's."""

    def body() -> None:
        thing_then_other()
        OTHER.lk.lock()
        assert THING.lk.trylock()
        THING.lk.unlock()
        OTHER.lk.unlock()

    assert alone(body) is None


def test_a_lock_whose_holder_has_ended_spins_the_other_forever() -> None:
    toy = Toy(make_structs, {"A": (0, taker), "B": (1, taker)}, {"lockdebug": "off"})
    finding = toy.run()
    assert finding is not None and finding.kind == "spin-forever"
    assert (finding.context, finding.function, finding.subject) == ("B", "taker", "thing:0")
    assert finding.text == "B spins forever in taker on thing:0.lk, held by A since taker; A has ended"


# -- sleep and wakeup -------------------------------------------------------------------


def careless() -> None:
    """Looks, and then goes to sleep; what comes in between is lost."""
    THING.lk.lock()
    ready = THING.v
    THING.lk.unlock()
    if not ready:
        here.port.sleep(CHAN, "wait", None)


def careful() -> None:
    THING.lk.lock()
    while not THING.v:
        here.port.sleep(CHAN, "wait", THING.lk)
        THING.lk.lock()
    THING.lk.unlock()


def waker() -> None:
    THING.lk.lock()
    THING.v = 1
    THING.lk.unlock()
    here.port.wakeup(CHAN)


def test_a_wakeup_between_look_and_sleep_is_lost() -> None:
    toy = Toy(make_structs, {"A": (0, careless), "B": (1, waker)})
    finding = toy.search()
    assert finding is not None and finding.kind == "lost-wakeup"
    assert finding.text == f"A sleeps in user mode on {channel_name(CHAN)}; no context will wake it"


def test_sleep_with_an_interlock_loses_no_wakeup_in_any_order() -> None:
    """Queueing, unlocking and giving up the CPU are three operations; a wakeup may come between any two."""
    toy = Toy(make_structs, {"A": (0, careful), "B": (1, waker)})
    findings = list(toy.every())
    assert len(findings) > 10 and not any(findings)


def test_endless_operations_are_told_as_not_ended() -> None:
    """No function is named: whoever performs many operations may be right to."""

    def body() -> None:
        while THING.h == 0:
            pass

    toy = Toy(make_structs, {"A": (0, body)})
    for record in (False, True):
        finding = toy.run(record=record, limit=500)
        assert finding is not None and (finding.kind, finding.context, finding.function) == ("not-ended", "", "")
        assert finding.text.startswith("not ended within 500 operations, the limit")
        assert finding.story == ["A has performed 500 operations, and is in user mode"] or not record


@pytest.mark.parametrize("level", ["note", "off"])
def test_a_run_without_end_is_ended_and_noted_once_whatever_the_level(level: str) -> None:
    def body() -> None:
        while THING.h == 0:
            pass

    toy = Toy(make_structs, {"A": (0, body), "B": (1, lambda: None)}, {"progress": level})
    for record in (False, True):
        assert toy.run(record=record, limit=500) is None
        assert [note.kind for note in toy.sim.notes] == ["not-ended"]
        assert toy.sim.steps == 500 if record else 500 <= toy.sim.steps < 600


# -- data races -------------------------------------------------------------------------


def plain_increment() -> None:
    THING.v = THING.v + 1


def locked_increment() -> None:
    THING.lk.lock()
    THING.v = THING.v + 1
    THING.lk.unlock()


def test_two_cpus_without_the_guard_race() -> None:
    toy = Toy(make_structs, {"A": (0, plain_increment), "B": (1, locked_increment)})
    finding = toy.search()
    assert finding is not None and (finding.kind, finding.subject) == ("data-race", "thing:0")
    assert "neither happens before the other" in finding.story
    assert any("without its guard (thing:0.lk, not held)" in line for line in finding.story)


def test_a_race_comes_before_what_stopped_the_run_and_that_is_a_note() -> None:
    def body() -> None:
        plain_increment()
        panic("enough")

    toy = Toy(make_structs, {"A": (0, plain_increment), "B": (1, body)})
    finding = toy.run(Stay(), record=True)
    assert finding is not None and finding.kind == "data-race"
    assert [note.text for note in toy.sim.notes] == ["panic: enough"]
    toy = Toy(make_structs, {"A": (0, plain_increment), "B": (1, body)}, {"race": "note"})
    finding = toy.run(Stay(), record=True)
    assert finding is not None and finding.text == "panic: enough"
    assert [note.kind for note in toy.sim.notes] == ["data-race"]


def test_a_struct_taken_off_a_free_list_is_its_own_until_it_can_be_found() -> None:
    """Recorded or not: its fields may be set without their guards, as long as nobody else can reach it."""

    def mine(claims: bool) -> Callable[[], None]:
        def body() -> None:
            if claims:
                here.port.claim(THING1)
            THING1.v = 1
            OTHER.lk.lock()
            THING.next = THING1
            OTHER.lk.unlock()
            THING1.lk.lock()
            THING1.v = 2
            THING1.lk.unlock()

        return body

    def theirs() -> None:
        THING1.lk.lock()
        assert THING1.v in (0, 1, 2)
        THING1.lk.unlock()

    for claims in (True, False):
        toy = Toy(make_structs, {"A": (0, mine(claims)), "B": (1, theirs)})
        findings = [toy.run(Script("B", *"B" * turn, "A"), record=True) for turn in range(6)]
        races = [finding for finding in findings if finding is not None and finding.subject == "thing:1"]
        assert bool(races) is not claims, (claims, races)


def test_a_race_is_seen_even_if_one_cpu_has_long_finished() -> None:
    """Vector clocks, not luck: under the default schedule the accesses are far apart."""
    toy = Toy(make_structs, {"A": (0, plain_increment), "B": (1, plain_increment)})
    findings = [toy.run(Stay()) for _ in range(2)]
    assert any(finding is not None and finding.kind == "data-race" for finding in findings)


def test_guarded_accesses_never_race_and_never_lose_an_update() -> None:
    toy = Toy(make_structs, {"A": (0, locked_increment), "B": (1, locked_increment)})
    for finding in toy.every():
        assert finding is None
        assert toy.sim.heap[THING.id][Thing.fields["v"].slot] == 2


def test_an_unguarded_increment_loses_an_update_in_some_order() -> None:
    """What the race is about; and the proof that sim offers a scheduling point between load and store."""
    toy = Toy(make_structs, {"A": (0, plain_increment), "B": (1, plain_increment)}, {"race": "off"})
    values = set()
    for _ in toy.every():
        values.add(toy.sim.heap[THING.id][Thing.fields["v"].slot])
    assert values == {1, 2}


def test_threads_of_one_cpu_do_not_race() -> None:
    """The kernel is not preemptive."""
    toy = Toy(make_structs, {"A": (0, plain_increment), "B": (0, plain_increment)})
    for finding in toy.every():
        assert finding is None
        assert toy.sim.heap[THING.id][Thing.fields["v"].slot] == 2


def test_a_deliberate_look_without_the_guard_is_no_race() -> None:
    """It is a scheduling point nevertheless, and the field is none for everybody else."""

    def looks() -> None:
        seen.add(unlocked(THING, "v"))

    seen: set[int] = set()
    toy = Toy(make_structs, {"A": (0, looks), "B": (1, locked_increment)})
    for finding in toy.every():
        assert finding is None
    assert seen == {0, 1} and toy.racy == set()


@pytest.mark.parametrize("record", [False, True])
def test_a_peek_at_a_hint_under_its_guard_is_a_hint(record: bool) -> None:
    """The field's declaration decides, in the engine as in the detector that reads the records."""

    def writes() -> None:
        THING.h = 1

    def looks() -> None:
        THING.lk.lock()
        unlocked(THING, "h")
        THING.lk.unlock()

    toy = Toy(make_structs, {"A": (0, writes), "B": (1, looks)})
    toy.racy.add(Thing.fields["h"].key)  # else the engine does not look
    assert toy.run(Stay(), record=record) is None and toy.sim.notes == []


def test_who_tries_again_and_again_lets_others_go_first() -> None:
    """Or the default schedule would never come to whoever holds the lock."""

    def holds() -> None:
        THING.lk.lock()
        BIG.lk.lock()
        BIG.lk.unlock()
        THING.lk.unlock()

    def tries() -> None:
        while not THING.lk.trylock():
            here.port.spin()
        THING.lk.unlock()

    toy = Toy(make_structs, {"A": (0, holds), "B": (1, tries)})
    assert toy.run(Script("A", "A", "B", "B", "B"), limit=600) is None


def test_a_hint_is_read_unguarded_but_not_written_so() -> None:
    def reads() -> None:
        assert THING.h in (0, 1)

    def writes() -> None:
        THING.h = 1

    def writes_locked() -> None:
        THING.lk.lock()
        THING.h = 1
        THING.lk.unlock()

    assert not any(Toy(make_structs, {"A": (0, reads), "B": (1, writes_locked)}).every())
    finding = Toy(make_structs, {"A": (0, writes), "B": (1, writes_locked)}).search()
    assert finding is not None and finding.kind == "data-race"


def test_a_wakeup_orders_what_came_before_it() -> None:
    """B writes without any lock, but only after A has woken it."""

    def first() -> None:
        THING.v = 1
        OTHER.lk.lock()
        OTHER.v = 1
        OTHER.lk.unlock()
        here.port.wakeup(OTHER.address)

    def second() -> None:
        OTHER.lk.lock()
        while not OTHER.v:
            here.port.sleep(OTHER.address, "wait", OTHER.lk)
            OTHER.lk.lock()
        OTHER.lk.unlock()
        THING.v = 2

    toy = Toy(make_structs, {"A": (0, first), "B": (1, second)})
    assert not any(toy.every())


@pytest.mark.parametrize("ordered", [True, False])
def test_a_wakeup_alone_orders_what_comes_before_it_and_what_comes_behind_the_sleep(ordered: bool) -> None:
    """In executions that are not recorded, too: the engine tells the race detector of more than locks."""

    def sleeper() -> None:
        here.port.sleep(CHAN, "wait", None)
        THING.v = 2

    def waker() -> None:
        if ordered:
            THING.v = 1
        here.port.wakeup(CHAN)
        if not ordered:
            THING.v = 1

    toy = Toy(make_structs, {"A": (0, sleeper), "B": (1, waker)})
    for record in (False, False, True):  # (by the default schedule A sleeps first)
        finding = toy.run(record=record)
        assert ("" if finding is None else finding.kind) == ("" if ordered else "data-race")


# -- the heap -----------------------------------------------------------------------------


def test_a_long_chain_of_structs_is_published_at_once() -> None:
    """A machine of thousands of anons, which hang on each other, is not deeper for us than one of ten."""

    def body() -> None:
        first = made = here.port.alloc(Thing)
        for _ in range(5000):
            made.next = here.port.alloc(Thing)
            made = made.next
        with_lock(THING, lambda: setattr(THING, "next", first))
        chain.extend((first, made))

    def with_lock(struct: Thing, do: Any) -> None:
        struct.lk.lock()
        do()
        struct.lk.unlock()

    def look() -> None:
        with_lock(THING, lambda: THING.v)

    chain: list[Thing] = []
    toy = Toy(make_structs, {"A": (0, look), "B": (1, body)})
    assert toy.run() is None
    assert all(toy.sim.heap[struct.id].owner is None for struct in chain), "nobody's own any more"


@pytest.mark.parametrize("at", [2, 7, -1, -3])
@pytest.mark.parametrize("record", [False, True])
def test_an_element_that_is_not_there_is_a_trap(at: int, record: bool) -> None:
    """Whatever the detectors' levels; and in a shard's memory, so that live refuses it too."""
    for write in (False, True):

        def body(write: bool = write) -> None:
            array = here.port.alloc(LoanArray, 2)
            array[1] = array[0]
            if write:
                array[at] = 3
            else:
                array[at]

        finding = Toy(make_structs, {"A": (0, body)}, {"kassert": "off"}).run(record=record)
        assert finding is not None and finding.kind == "panic" and "has 2 elements" in finding.text


def test_a_handle_of_a_freed_struct_is_a_use_after_free() -> None:
    @kernel()
    def destroy() -> None:
        here.port.free(THING)

    @kernel()
    def release() -> None:
        destroy()

    def body() -> None:
        THING.lk.lock()
        THING.lk.unlock()
        release()
        THING.v = 1

    finding = found_by(body)
    assert (finding.kind, finding.subject) == ("use-after-free", "thing:0")
    assert finding.text == "thing:0 is used after it was freed: A freed it in destroy < release, its operation 4"


def test_a_handle_of_a_former_life_is_a_use_after_free() -> None:
    """Anons and pages are type-stable: the memory is there, but it is somebody else's."""

    def body() -> None:
        fresh = here.port.renew(THING)
        fresh.v = 1
        THING.v = 2

    finding = found_by(body)
    assert finding.text == (
        "thing:0 is used after it was recycled (generation 1, handle of 0): A freed it in user mode, its operation 2"
    )


def test_what_only_its_creator_knows_makes_no_scheduling_points() -> None:
    """Else each new struct would multiply the schedules by as many as it has fields."""

    def body() -> None:
        mine = here.port.alloc(Thing)
        for name in ("v", "w", "h"):
            setattr(mine, name, 1)

    def published() -> None:
        mine = here.port.alloc(Thing)
        THING.lk.lock()
        THING.next = mine
        THING.lk.unlock()
        mine.v = 1

    other = (1, lambda: THING1.lk.lock() or THING1.lk.unlock())
    private = Toy(make_structs, {"A": (0, body), "B": other})
    private.run()
    assert private.racy == set()
    public = Toy(make_structs, {"A": (0, published), "B": other})
    public.run()
    assert public.racy == {"thing.v"}


def test_a_field_seen_unguarded_once_is_a_scheduling_point_from_then_on() -> None:
    """Only so are the guarded accesses of other contexts tried in between."""

    def guarded() -> None:
        THING.lk.lock()
        THING.v = 1
        THING.lk.unlock()

    toy = Toy(make_structs, {"A": (0, guarded), "B": (1, guarded)}, {"race": "off"})
    toy.run()
    before = toy.sim.points
    toy.racy.add("thing.v")
    toy.run()
    assert toy.sim.points > before


def test_a_field_seen_unguarded_is_a_scheduling_point_in_the_same_execution() -> None:
    points = []

    def guarded() -> None:
        THING.lk.lock()
        before = toy.sim.points
        THING.v = 1
        points.append(toy.sim.points - before)
        THING.lk.unlock()

    def body() -> None:
        guarded()
        THING.v = 2
        guarded()

    toy = Toy(make_structs, {"A": (0, body)}, {"race": "off"})
    toy.run()
    assert points == [0, 1]


def test_an_event_counter_is_no_operation() -> None:
    def body() -> None:
        THING.count += 2

    toy = Toy(make_structs, {"A": (0, body)})
    toy.run()
    assert toy.sim.counters == {"count": 2} and toy.machine.threads["A"].n == 1  # its `run`


# -- the engine itself ----------------------------------------------------------------------


def test_a_bug_of_ours_is_not_taken_for_a_finding() -> None:
    def body() -> None:
        raise ZeroDivisionError

    toy = Toy(make_structs, {"A": (0, body), "B": (1, taker)})
    with pytest.raises(ZeroDivisionError):
        toy.run()


def test_an_engine_is_as_new_after_a_finding() -> None:
    """Executions share greenlets and nodes; nothing of one may reach the next."""
    toy = Toy(make_structs, {"A": (0, thing_then_other), "B": (1, other_then_thing)}, {"lockorder": "off"})
    deadly, harmless = Script("A", "A", "B", "B"), Stay()
    digests = []
    for strategy in (harmless, deadly, harmless, deadly):
        toy.run(strategy, record=True)
        assert toy.sim.journals is not None
        digests.append(digest({name: journal.records for name, journal in toy.sim.journals.items()}))
    assert digests[0] == digests[2] and digests[1] == digests[3] and digests[0] != digests[1]


def test_recording_changes_no_schedule() -> None:
    """Explore does not record; what it found is recorded later and must be the same."""
    machine, image = prepare(scenario("S3a").without_errata())
    sim = Sim(machine, image)
    for seed in range(3):
        sim.execute(RandomWalk(seed))  # the set of racy fields must not grow between the two
        outcomes = []
        for record in (False, True):
            sim.execute(RandomWalk(seed), record=record)
            outcomes.append(
                (sim.deviations, sim.steps, [(thread.name, thread.n) for thread in machine.threads.values()])
            )
        assert outcomes[0] == outcomes[1]


def test_a_recorded_execution_is_complete_and_in_order() -> None:
    machine, image = prepare(scenario("S3a").without_errata())
    sim = Sim(machine, image)
    sim.execute(RandomWalk(5), record=True)
    journals = recorded(sim, []).journals
    assert holes(journals) == []
    assert len(linearize(journals)) == sim.steps


def test_operation_numbers_do_not_depend_on_the_granularity() -> None:
    """A schedule found with few scheduling points is the same schedule where every access is one."""
    for name, seed in (("S3a", 1), ("S3a-shipped", 2), ("E2", 3), ("S3d", 4)):
        machine, image = prepare(scenario(name).without_errata())
        sim = Sim(machine, image)
        sim.execute(RandomWalk(seed), record=True)
        here_, deviations = recorded(sim, []), sim.deviations
        fine = Sim(machine, image, granularity="access")
        strategy = Deviate(deviations)
        fine.execute(strategy, record=True)
        strategy.finish()
        assert recorded(fine, []).digest == here_.digest, name


def test_exhaustion_meets_every_order_once() -> None:
    """Two contexts of two stores each: 4 over 2 orders. A helper that skipped some would prove nothing."""

    def body() -> None:
        THING.h, THING.h = 1, 1

    toy = Toy(make_structs, {"A": (0, body), "B": (1, body)}, {"race": "off"})
    sim, seen = Sim(toy.machine, toy.image, granularity="access"), set()
    for _ in executions(sim, Exhaust(), record=True):
        assert sim.journals is not None
        seen.add(tuple(record["ctx"] for record in sim.journals["memory"].records))
    assert len(seen) == 6


# -- determinism ------------------------------------------------------------------------------

DIGESTS = """
import sys
import weakref
from cluster.boot import prepare
from cluster.runs.replay import recorded
from cluster.sim.engine import Sim
from cluster.search.pct import Pct
from cluster.search.walk import RandomWalk
from cluster.search.strategy import Stay
from tests.kit import scenario
for name in ("S3a", "S3a-shipped", "E2", "S3c-race", "E1"):
    sharded = scenario(name, shards="{lock_manager: 2, memory: 2}")
    for scene in (scenario(name), scenario(name).without_errata(), sharded):
        machine, image = prepare(scene)
        sim = Sim(machine, image)
        for strategy in (Stay(), RandomWalk(7), Pct(7, 3)):
            for _ in range(2):
                sim.execute(strategy, record=True)
                print(name, strategy.__class__, recorded(sim, []).digest, sim.points, sim.deviations, sorted(sim.racy))
"""


def test_nothing_depends_on_the_hash_seed() -> None:
    """A set or dict iterated in hash order anywhere in the kernel, and tokens would hold for one process only."""
    outputs = []
    for seed in ("0", "4711"):
        done = subprocess.run(
            [sys.executable, "-c", DIGESTS],
            env={**os.environ, "PYTHONHASHSEED": seed}, cwd=ROOT, capture_output=True, text=True, check=True,
        )  # fmt: skip
        outputs.append(done.stdout.splitlines())
    assert len(outputs[0]) == 5 * 3 * 3 * 2
    assert outputs[0] == outputs[1]


def test_strategies_differ() -> None:
    """Else the test above would compare one schedule with itself."""
    machine, image = prepare(scenario("S3a").without_errata())
    sim = Sim(machine, image)
    digests = set()
    for strategy in (Stay(), RandomWalk(1), RandomWalk(2), Pct(1, 3)):
        sim.execute(strategy, record=True)
        digests.add(recorded(sim, []).digest)
    assert len(digests) == 4


def test_an_engine_that_nobody_has_any_more_is_gone() -> None:
    """Its greenlets wait in a pool, and what waits there must not keep it: a long search makes many engines."""
    toy = Toy(make_structs, {"A": (0, lambda: None), "B": (1, lambda: None)})
    toy.run(RandomWalk(0))
    assert toy.sim.pool
    engine = weakref.ref(toy.sim)
    del toy
    gc.collect()
    assert engine() is None


def test_a_trap_is_laid_to_what_its_own_processor_has_passed_over() -> None:
    """A processor on a host of its own knows of no other; so that one rule holds in every engine."""

    def passes() -> None:
        KASSERT(False, "x != 0")

    def fails() -> None:
        raise LookupError("nothing there")

    def both() -> None:
        passes()
        fails()

    finding = Toy(make_structs, {"A": (0, both)}, detect={"kassert": "note"}).run()
    assert finding is not None and finding.text.endswith(
        'cannot go on after "kernel diagnostic assertion "x != 0" failed", for which the run did not stop'
    )
    with pytest.raises(LookupError):
        Toy(make_structs, {"A": (0, passes), "B": (1, fails)}, detect={"kassert": "note"}).run()
