"""Choices of data: operations whose results are the strategy's; recorded, searched, shortened and replayed."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import pytest

from cluster import api
from cluster.api import Program, explore, replay
from cluster.runs import replay as engine
from cluster.runs.folder import create, write_sim
from cluster.runs.token import Token, parse
from cluster.search import STRATEGIES, make
from cluster.search.deviate import Deviate
from cluster.search.follow import Order
from cluster.search.minimize import minimize
from cluster.search.strategy import Stay, Strategy
from cluster.search.walk import RandomWalk
from nodes.cpu import Thread
from shared.errors import Diverged, UserMistake
from shared.journal.deviation import MAX_CHOICES, Deviation
from shared.journal.record import Journals, digest
from shared.port.port import here, panic
from shared.scenario.model import named_results
from tests.cluster.programs import DEFECTS, add_locked, setup
from tests.kit import THING, Exhaust, Toy, executions, make_structs, run_recorded, scenario, searched, uvmp
from tests.nodes.in_threads import Threads

BROKEN, SOUND = DEFECTS["held-at-exit"]
CHOSEN = Deviation("write_that_may_f", 3, "choice", 2)


def chooses(*widths: int, taken: list[tuple[int, ...]] | None = None) -> None:
    values = tuple(here.port.choose(width, f"one of {width}") for width in widths)
    if taken is not None:
        taken.append(values)


def chooser(*widths: int) -> tuple[Toy, list[tuple[int, ...]]]:
    """One context that chooses; and what it has taken, in each execution."""
    taken: list[tuple[int, ...]] = []
    return Toy(make_structs, {"A": (0, lambda: chooses(*widths, taken=taken))}), taken


# -- what is chosen ------------------------------------------------------------------------


@pytest.mark.parametrize("record", [False, True])
def test_the_default_schedule_takes_nothing_but_zero(record: bool) -> None:
    toy, taken = chooser(2, 3, 1)
    toy.run(Stay(), record)
    assert taken == [(0, 0, 0)] and toy.sim.deviations == []


@pytest.mark.parametrize("name", [name for name in STRATEGIES if name != "stay"])
def test_every_strategy_takes_all_that_can_be_chosen(name: str) -> None:
    """And the same again from the same seed."""
    toy, taken = chooser(2, 3, 1)
    for _ in range(2):
        list(zip(executions(toy.sim, make(name, 1, 2)), range(100), strict=False))
    assert set(taken) == {(a, b, 0) for a in range(2) for b in range(3)}
    assert taken[:101] == taken[101:]


def test_all_choices_there_are_can_be_tried() -> None:
    toy, taken = chooser(2, 3, 2)
    for _ in executions(toy.sim, Exhaust()):
        pass
    assert sorted(taken) == [(a, b, c) for a in range(2) for b in range(3) for c in range(2)]


class Last(Stay):
    """The default schedule, with the last of all that can be chosen."""

    def choose(self, n: int) -> int:
        return n - 1


@pytest.mark.parametrize("granularity", ["guarded", "access"])
def test_a_choice_is_an_operation_of_its_context_in_its_processors_journal(granularity: str) -> None:
    toy, _ = chooser(2, 3)
    toy.run(Last(), record=True, granularity=granularity)
    assert toy.sim.journals is not None
    first, second = (record for record in toy.sim.journals["cpu0"].records if record["event"] == "choose")
    about = {"ctx": "A", "cpu": "cpu0", "event": "choose", "node": "cpu0"}
    assert first == {**about, "of": 2, "why": "one of 2", "value": 1, "n": 2, "k": 2, "nseq": 2}
    assert second == {**about, "of": 3, "why": "one of 3", "value": 2, "n": 3, "k": 3, "nseq": 3}
    assert toy.sim.deviations == [Deviation("A", 2, "choice", 1), Deviation("A", 3, "choice", 2)]


@pytest.mark.parametrize("record", [False, True])
def test_an_execution_that_has_had_its_operations_chooses_nothing_more(record: bool) -> None:
    """What is noted as chosen has been performed; or a replay would wait for it."""
    toy, taken = chooser(*[2] * 50)
    finding = toy.run(Last(), record, limit=20)
    assert finding is not None and finding.kind == "not-ended" and taken == []
    assert [deviation.n for deviation in toy.sim.deviations] == [*range(2, 21)]


def test_a_strategy_that_takes_what_there_is_not_is_told_so() -> None:
    """Neither a finding nor a mistake of the function that chooses."""

    class Beyond(Stay):
        def choose(self, n: int) -> int:
            return n

    with pytest.raises(UserMistake, match=r"^the strategy takes choice 3 of 3, which are numbered from 0$"):
        explore(BROKEN, Beyond())


# -- a program of one's own ------------------------------------------------------------------


def test_a_defect_that_one_choice_shows_is_found_replayed_and_told(tmp_path: Path) -> None:
    assert explore(BROKEN, executions=1).finding is None, "the default schedule does not see it"
    assert explore(SOUND).finding is None
    report = explore(BROKEN)
    assert report.finding is not None and report.finding.kind == "held-at-exit"
    assert report.outcome.deviations == [CHOSEN] and report.token is not None
    assert replay(BROKEN, report.token).outcome.digest == report.outcome.digest
    told = uvmp("postmortem", report.save(tmp_path / "run"), "--full").output
    assert "1. operation 3 of write_that_may_f takes choice 2" in told
    assert "  * write_that_may_f" in told, "who chooses keeps its CPU"
    assert "takes choice 2 of 3: whether the write fails, and how" in " ".join(told.split("Locks held")[0].split())


def test_a_choice_that_does_not_matter_is_set_back() -> None:
    """And so is a switch; the one that matters stays."""

    def body() -> None:
        for at in range(6):
            if here.port.choose(4, "noise") == 3 and at == 4:
                panic("the fourth of four")
            THING.lk.lock()
            THING.lk.unlock()

    toy = Toy(make_structs, {"A": (0, body), "B": (1, lambda: chooses(2, 2))})
    finding = toy.search()
    assert finding is not None and len(toy.sim.deviations) > 3
    short = minimize(toy.sim, finding, list(toy.sim.deviations))
    assert [(deviation.ctx, deviation.kind, deviation.next) for deviation in short] == [("A", "choice", 3)]
    assert toy.run(Deviate(short)) is not None


def test_a_choice_keeps_its_place_though_its_number_changes() -> None:
    """A switch that only gave it that number goes."""

    def body() -> None:
        if not THING.h:
            THING.lk.lock()
            THING.lk.unlock()
        if here.port.choose(2, "the first") + here.port.choose(2, "the second") == 2:
            panic("both")

    toy = Toy(make_structs, {"A": (0, body), "B": (1, lambda: setattr(THING, "h", 1))})
    first = [Deviation("", 0, "wait", "B"), Deviation("A", 3, "choice", 1), Deviation("A", 4, "choice", 1)]
    finding = toy.run(Deviate(first))
    assert finding is not None and toy.sim.deviations == first
    short = minimize(toy.sim, finding, first)
    assert short == [Deviation("A", 5, "choice", 1), Deviation("A", 6, "choice", 1)]


@pytest.mark.parametrize("n", [0, -1, MAX_CHOICES + 1])
def test_a_choice_of_nothing_is_the_users_mistake(n: int) -> None:
    with pytest.raises(UserMistake, match=rf"test_choices\.py:\d+: expected 1 to 65,536 choices; found {n}$"):
        explore(Program(setup, [lambda: [api.choose(n), None][1]]))


def test_a_check_chooses_nothing() -> None:
    with pytest.raises(UserMistake, match=r"a check may read structs, and no more \(choose\)"):
        explore(Program(setup, [add_locked], lambda: [api.choose(2), None][1]))


# -- tokens and journals ------------------------------------------------------------------------


def test_a_token_says_what_was_chosen() -> None:
    deviations = (Deviation("A", 3, "choice", 2), Deviation("A", 3, "point", "B"), Deviation("B", 1, "choice", 65535))
    token = Token("mine", "0123abcd", "cafe0123", deviations)
    assert parse(str(token)) == token
    assert [str(deviation) for deviation in deviations[:2]] == [
        "operation 3 of A takes choice 2",
        "after operation 3 of A, B preempts it",
    ]


def test_a_token_as_it_was_is_read() -> None:
    """As version 0.1 printed it, when there were no choices and every number had a length."""
    token = Token("mine", "0123abcd", "cafe0123", (Deviation("", 0, "wait", "B"), Deviation("B", 7, "point", "A")))
    assert parse(OLD) == token == parse(str(token)) and len(str(token)) < len(OLD)


OLD = "uvmp1.mine.0123abcd.cafe0123.bZoApC9CL0EAAAABAQcBAg.fe6582"


@pytest.mark.parametrize(
    ("deviation", "said"),
    [
        (Deviation("write_that_may_f", 3, "choice", 3), "choice 3 as operation 3 of write_that_may_f; found only 3"),
        (Deviation("write_that_may_f", 3, "choice", 1 << 30), "found only 3 choices, 0 to 2"),
        (Deviation("write_that_may_f", 2, "choice", 1), "to reach operation 2, and to take choice 1 there"),
        (Deviation("add_locked", 3, "choice", 1), "to reach operation 3, and to take choice 1 there"),
        (Deviation("", 0, "choice", 1), "to reach operation 0"),
    ],
)
def test_a_choice_that_cannot_be_taken_diverges_or_is_skipped(deviation: Deviation, said: str) -> None:
    scene = BROKEN.scenario()
    token = str(Token(scene.id, scene.digest(), parse(str(explore(BROKEN).token)).kernel, (deviation,)))
    with pytest.raises(Diverged, match=said):
        replay(BROKEN, token)
    lenient = engine.replay(scene, [deviation], strict=False)
    assert lenient.finding is None and lenient.skipped == [deviation]


def test_a_point_that_cannot_be_taken_in_a_program_diverges_too() -> None:
    """The function in which the engine notices that made no mistake."""
    with pytest.raises(Diverged, match="nobody to run after operation 2"):
        engine.replay(BROKEN.scenario(), [Deviation("write_that_may_f", 2, "point", "nobody")])


@pytest.mark.parametrize(
    "wanted",
    [
        {"event": "choose", "ctx": "B", "n": 3, "of": 2, "value": 1},
        {"event": "choose", "ctx": "A", "n": 4, "of": 2, "value": 1},
        {"event": "choose", "ctx": "A", "n": 3, "of": 9, "value": 2},
        {"event": "load", "ctx": "A", "n": 3, "value": 1},
    ],
    ids=str,
)
def test_an_order_gives_a_choice_to_nobody_else(wanted: dict[str, object]) -> None:
    """Nor another choice of the same context, one that there is not, or the value of another operation."""
    threads = {name: Thread(name, "cpu0", lambda: None) for name in "AB"}
    threads["A"].n = 2
    order = Order(threads, [{"event": "run", "ctx": "A", "n": 2}, wanted])
    order.new_execution()
    order.ran = threads["A"]
    with pytest.raises(Diverged, match=rf"{wanted['ctx']} to perform operation .*; found A has 2 choices, 0 to 1"):
        order.choose(2)
    order.order = [{"event": "choose", "ctx": "A", "n": 3, "of": 2, "value": 1}]
    order.new_execution()
    order.ran = threads["A"]
    assert order.choose(2) == 1


def changed(journals: Journals, **values: object) -> Journals:
    """The same with another choice."""
    copied: dict[str, list[Any]] = copy.deepcopy(journals)
    next(record for record in copied["cpu0"] if record["event"] == "choose").update(values)
    return dict(copied)


WRONG = [{"value": 3}, {"value": -1}, {"value": None}, {"value": True}, {"value": "1"}, {"value": 1 << 80}]
ELSE = [{"value": 0}, {"of": 2}, {"of": None}, {"why": ""}]


@pytest.mark.parametrize("wrong", [*WRONG, *ELSE, {"event": "iret"}], ids=str)
def test_journals_with_another_choice_are_not_followed(wrong: dict[str, object]) -> None:
    """Neither of what can be chosen, which leads elsewhere, nor of what cannot."""
    journals = explore(BROKEN).outcome.journals
    assert engine.replay_journals(BROKEN.scenario(), journals).digest == digest(journals)
    with pytest.raises(Diverged):
        engine.replay_journals(BROKEN.scenario(), changed(journals, **wrong))


# -- a device that may fail ----------------------------------------------------------------------


def test_an_error_that_may_come_and_a_schedule_are_found_together(tmp_path: Path) -> None:
    """Neither alone: by the default schedule with the error nothing is wrong, nor by the schedule without it."""
    scene = scenario("S1d-maybe")
    result = searched("S1d-maybe")
    assert result.finding is not None and result.raw_deviations > 2
    switch, choice = result.deviations
    assert (switch.next, choice.ctx, choice.kind) == ("T", "swap", "choice")
    assert run_recorded(scene, Last()).finding is None and engine.replay(scene, [switch]).finding is None
    assert result.outcome is not None
    path = create(tmp_path / "run")
    write_sim(path, scene, result.outcome)
    told = " ".join(uvmp("postmortem", path, "--full").output.split())
    assert re.search(r"takes choice 1 of 2: whether the read of page:\d+ fails", told)


def test_a_device_that_may_fail_is_followed_by_real_processors() -> None:
    scene = scenario("S1d-maybe").without_errata()
    chosen = set()
    for seed in range(6):
        wanted = run_recorded(scene, RandomWalk(seed))
        machine = Threads(scene, follow=wanted.journals)
        assert machine.run() is None and digest(machine.records()) == wanted.digest
        chosen |= {record["value"] for record in wanted.journals["swap_io"] if record["event"] == "choose"}
    assert chosen == {0, 1}
    free = Threads(scene)
    assert free.run() is None and named_results(free.results())["r0"] in (1, "SIGSEGV"), "no error by itself"


# -- real processors ----------------------------------------------------------------------------


def test_a_processor_follows_what_was_chosen_and_takes_zero_by_itself() -> None:
    scene = BROKEN.scenario()
    report = explore(BROKEN)
    machine = Threads(scene, follow=report.outcome.journals)
    assert machine.run() == report.finding and digest(machine.records()) == report.outcome.digest
    free = Threads(scene)
    assert free.run() is None
    assert [record["value"] for record in free.records()["cpu0"] if record["event"] == "choose"] == [0]
    assert engine.replay_journals(scene, free.records()).digest == digest(free.records())


@pytest.mark.parametrize("wrong", [*WRONG, {"event": "iret"}], ids=str)
def test_a_processor_that_cannot_take_what_was_chosen_diverges(wrong: dict[str, object]) -> None:
    machine = Threads(BROKEN.scenario(), follow=changed(explore(BROKEN).outcome.journals, **wrong))
    with pytest.raises(Diverged, match="as operation 3 of write_that_may_f; found a choice of 3"):
        machine.run()


def test_the_strategies_of_the_module_are_strategies() -> None:
    assert [strategy.choose(1) for strategy in _all()] == [0] * len(STRATEGIES)


def _all() -> list[Strategy]:
    made = [make(name, 0, 2) for name in STRATEGIES]
    assert all(strategy.new_execution() for strategy in made)
    return made


def stores_too_late() -> None:
    """Into a struct that is free, as memory says when it is asked; then it chooses."""
    THING.v = 1
    here.port.choose(2, "anything")


def late() -> dict[str, Thread]:
    threads: dict[str, Thread] = Toy(make_structs, {"A": (0, stores_too_late)}, {"race": "off"}).machine.threads
    return threads


@pytest.mark.parametrize("follow", [False, True])
def test_what_was_posted_before_a_choice_is_applied_before_it(follow: bool) -> None:
    """A choice is in its processor's journal at once: a store that was made before must not be refused afterwards."""

    def frees() -> None:
        make_structs()
        here.port.free(THING)

    toy = Toy(frees, {"A": (0, stores_too_late)}, {"race": "off"})
    wanted = toy.run(record=True)
    assert wanted is not None and wanted.kind == "use-after-free" and toy.sim.journals is not None
    journals = {name: journal.records for name, journal in toy.sim.journals.items()}
    machine = Threads(toy.scenario, (late, toy.image), follow=journals if follow else None)
    assert machine.run() == wanted and digest(machine.records()) == digest(journals)
