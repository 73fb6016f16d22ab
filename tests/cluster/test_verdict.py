"""What is wrong with a machine in which nobody can go on: the wait that explains the others, in words."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cluster.verdict import endless, final_state, judge, sort_out
from shared.errors import Finding
from shared.port import here, kernel
from tests.kit import BIG, OTHER, THING, THING1, Script, Toy, things

OFF = {"lockorder": "off", "lockdebug": "off"}
Body = Callable[[], None]


def verdict(*bodies: Body, script: tuple[str, ...] = ()) -> list[Finding]:
    """All findings about the machine at rest; contexts are A, B, C, each on a CPU of its own."""
    names = "ABC"[: len(bodies)]
    toy = Toy(things, {name: (cpu, body) for cpu, (name, body) in enumerate(zip(names, bodies, strict=True))}, OFF)
    toy.run(Script(*script))
    return judge(final_state(toy.machine), toy.scenario.detect)


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
    found = verdict(
        taking(THING.lk, OTHER.lk),
        taking(OTHER.lk, THING1.lk),
        taking(THING1.lk, THING.lk),
        script=("A", "A", "B", "B", "C", "C"),
    )
    assert found[0].kind == "deadlock" and found[0].detector == "deadlock"
    assert found[0].text == (
        "deadlock: A waits in taker for other:0.lk, held by B since taker, "
        "B waits in taker for thing:1.lk, held by C since taker, C waits in taker for thing:0.lk, held by A since taker"
    )


def test_who_waits_behind_a_cycle_does_not_hide_it() -> None:
    """The cycle explains the third CPU, not the other way round."""
    found = verdict(
        taking(OTHER.lk),
        taking(THING.lk, BIG.lk, OTHER.lk),
        taking(OTHER.lk, THING.lk),
        script=("B", "B", "B", "C", "C", "A", "A"),
    )
    assert found[0].kind == "deadlock"


@pytest.mark.parametrize(("lock", "name"), [(THING.lk, "thing:0.lk"), (BIG.lk, "big:0.lk")])
def test_a_lock_whose_holder_has_ended_is_held_for_ever(lock: object, name: str) -> None:
    [found] = verdict(taking(lock), taking(lock), script=("A", "A", "A"))
    assert (
        found.kind == "spin-forever" and found.function == "taker" and found.subject == name.split(".", maxsplit=1)[0]
    )
    assert found.text == f"B spins for ever in taker on {name}, held by A since taker; A has ended"


def test_a_lock_held_by_a_sleeper_names_both() -> None:
    def sleeps_with_it() -> None:
        THING.lk.lock()
        sleeping()

    found = verdict(sleeps_with_it, taking(THING.lk), script=("A", "A", "A"))
    assert [one.kind for one in found] == ["spin-forever", "lost-wakeup"]
    assert found[0].text.endswith("held by A since user; A never releases it")
    assert found[0].story == ["A sleeps in sleeper on thing:0", "B waits in taker for thing:0.lk, held by A since user"]


def test_a_sleeper_whom_nobody_will_wake_is_told_with_its_channel() -> None:
    [found] = verdict(sleeping)
    assert (found.kind, found.function, found.subject) == ("lost-wakeup", "sleeper", "thing:0")
    assert found.text == "A sleeps in sleeper on thing:0; nobody is going to wake it"
    assert found.stack == ["sleeper"]


def test_a_context_that_never_started_is_not_stuck() -> None:
    """A child whose fork was never reached is no lost wakeup."""
    toy = Toy(things, {"A": (0, lambda: None), "B": (1, sleeping)}, OFF)
    toy.machine.threads["B"].starts_on = OTHER.address
    assert toy.run() is None


def test_the_daemon_asleep_on_its_channel_is_at_rest() -> None:
    """So is the swap pager's I/O; else no run could ever end."""
    from cluster.boot import prepare
    from cluster.sim import Sim
    from cluster.strategies import Stay
    from tests.kit import scenario

    machine, image = prepare(scenario("S3d").without_errata())
    sim = Sim(machine, image)
    assert sim.execute(Stay()) is None
    waits = {
        one["name"]: one["waits"]
        for one in final_state(machine)["contexts"]
        if not one["finished"] and not one["interrupt"]
    }
    assert set(waits) == {"pagedaemon", "swap"} and waits["swap"] == ("io_next", 0)


def test_a_detector_that_is_off_judges_nothing() -> None:
    toy = Toy(things, {"A": (0, sleeping)}, {**OFF, "deadlock": "off"})
    assert toy.run() is None


def test_a_noted_verdict_is_a_note() -> None:
    toy = Toy(things, {"A": (0, sleeping)}, {**OFF, "deadlock": "note"})
    assert toy.run() is None and [one.kind for one in toy.sim.notes] == ["lost-wakeup"]


ORACLE = Finding("oracle", "memory oracle: two values", detector="oracle")
INVARIANT = Finding("invariant", "FREE-1: a count is wrong", detector="invariant")


@pytest.mark.parametrize(
    ("levels", "kinds"),
    [
        ({}, ["lost-wakeup"]),
        ({"deadlock": "note"}, ["lost-wakeup", "oracle"]),
        ({"deadlock": "note", "oracle": "note"}, ["lost-wakeup", "oracle", "invariant"]),
        ({"deadlock": "off", "oracle": "note"}, ["oracle", "invariant"]),
        ({"deadlock": "off", "oracle": "off", "invariant": "note"}, ["invariant"]),
        ({"deadlock": "note", "oracle": "off", "invariant": "off"}, ["lost-wakeup"]),
    ],
)
def test_what_is_only_noted_hides_nothing(
    levels: dict[str, str], kinds: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the findings to stop for only the first is wanted: it explains the others. A note explains nothing away."""
    toy = Toy(things, {"A": (0, sleeping)}, OFF)
    toy.run()
    monkeypatch.setattr("cluster.verdict.check", lambda snapshot: [INVARIANT])
    found = judge(final_state(toy.machine), levels, ORACLE)
    assert [one.kind for one in found] == kinds
    finding, notes = sort_out(found, levels)
    stops = [one for one in found if levels.get(one.detector, "stop") == "stop"]
    assert finding is (stops[0] if stops else None) and notes == [one for one in found if one not in stops]


@pytest.mark.parametrize(
    ("levels", "old", "finding", "notes"),
    [
        ({}, None, "spin-forever", []),
        ({}, {"A"}, "no-progress", []),
        ({"deadlock": "note"}, None, "no-progress", ["spin-forever"]),
        ({"deadlock": "off"}, None, "no-progress", []),
        ({"deadlock": "note", "progress": "note"}, None, None, ["spin-forever", "no-progress"]),
        ({"deadlock": "off", "progress": "off"}, None, None, ["no-progress"]),
    ],
)
def test_a_machine_that_goes_on_and_on_is_judged_by_the_levels(
    levels: dict[str, str], old: set[str] | None, finding: str | None, notes: list[str]
) -> None:
    """B waits for a lock for ever; at least that there was no end is always told."""
    toy = Toy(things, {"A": (0, taking(THING.lk)), "B": (1, taking(THING.lk))}, OFF)
    toy.run(Script("A", "A", "A"))
    found, noted = sort_out(endless(final_state(toy.machine), levels, 500, old), levels)
    assert (found.kind if found else None) == finding and [one.kind for one in noted] == notes
