"""Prediction from executions without a finding: what is predicted, what a steered execution confirms, and what it says.

That every prediction that is sure comes about, random programs judge.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from cluster.api import Predict, Program, explore, replay
from cluster.search import predict, steer
from cluster.search.attempts import Attempt
from cluster.search.explore import search
from shared.errors import Exit
from shared.findings import UNEXPECTED
from tests.bench import predicted
from tests.cluster.brute import program, random_program
from tests.cluster.programs import (
    DEFECTS,
    FIRST,
    add,
    add_locked,
    both_count,
    first_then_second,
    retire,
    second_then_first,
    setup,
    tell,
    wait_without_interlock,
    write_that_may_fail,
)
from tests.kit import scenario, uvmp
from tests.scenarios.medians import printed


def reads_twice() -> None:
    FIRST.lock.lock()
    before = FIRST.value
    FIRST.lock.unlock()
    FIRST.lock.lock()
    assert FIRST.value == before, "somebody has changed it"
    FIRST.lock.unlock()


def uses_unlocked() -> None:
    if FIRST.ready == 0:
        FIRST.value = 1


def tries() -> None:
    got = FIRST.lock.trylock()
    assert got, "somebody has the lock"
    FIRST.lock.unlock()


def expects_none() -> None:
    FIRST.lock.lock()
    value = FIRST.value
    FIRST.lock.unlock()
    assert value == 0, "somebody came first"


OFF = {"race": "off", "lockorder": "off"}
#: kind of prediction -> a program whose default schedule is sound, and the kind of the finding
PROGRAMS = {
    "deadlock": (Program(setup, [first_then_second, second_then_first], detect=OFF), "deadlock"),
    "wakeup": (Program(setup, [wait_without_interlock, tell], detect=OFF), "lost-wakeup"),
    "race": (Program(setup, [add, add], both_count, OFF), "assertion"),
    "free": (Program(setup, [uses_unlocked, retire], detect=OFF), "use-after-free"),
    "try": (Program(setup, [add_locked, tries], detect=OFF), "assertion"),
    "atomicity": (Program(setup, [reads_twice, add_locked], detect=OFF), "assertion"),
    "order": (Program(setup, [expects_none, add_locked], detect=OFF), "assertion"),
    "choice": (Program(setup, [write_that_may_fail], detect=OFF), "held-at-exit"),
}


def tried(strategy: Predict) -> list[Attempt]:
    """The attempts to confirm a prediction."""
    return [attempt for attempt in strategy.attempts.begun if attempt.prediction is not None]


def predicts_only(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    made = predict.Predictor._candidates

    def some(self: predict.Predictor) -> Iterator[predict.Prediction]:
        return (prediction for prediction in made(self) if prediction.kind == kind)

    monkeypatch.setattr(predict.Predictor, "_candidates", some)


@pytest.mark.parametrize("kind", PROGRAMS)
def test_each_kind_alone_is_predicted_and_confirmed(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within few executions; without any prediction there is no finding."""
    program, finding = PROGRAMS[kind]
    predicts_only(monkeypatch, "")
    assert explore(program, Predict(), executions=12).finding is None
    monkeypatch.undo()
    predicts_only(monkeypatch, kind)
    strategy = Predict()
    report = explore(program, strategy, executions=12)
    assert report.finding is not None and report.finding.kind == finding, str(report)
    assert report.token is not None and replay(program, report.token).finding == report.finding
    last = strategy.attempt
    assert last.prediction is not None and last.prediction.kind == kind and last.reached


@pytest.mark.parametrize("kind", DEFECTS)
def test_a_defect_is_found_and_a_sound_program_has_nothing_confirmed(kind: str) -> None:
    """Nothing of what was predicted of the sound one is left untried, and nothing of it is a finding."""
    broken, sound = DEFECTS[kind]
    assert explore(broken, Predict(), executions=100).finding is not None
    strategy = Predict()
    report = explore(sound, strategy, executions=400)
    assert report.finding is None and report.executions < 400 and not strategy.attempts.left
    assert not report.exhausted, "predictions say nothing of schedules that were not predicted"


def test_a_sure_prediction_comes_about() -> None:
    """In random programs with locks, tries, sleeps, wakeups and choices: each, at any depth."""
    sure = unsure = 0
    for seed in range(140, 190):
        strategy = Predict()
        search(program(random_program(seed)).scenario(), strategy, schedules=40)
        for attempt in tried(strategy):
            prediction = attempt.prediction
            assert prediction is not None
            if prediction.sure:
                sure += 1
                assert attempt.reached, f"seed {seed}: {prediction}"
            else:
                unsure += not attempt.reached
    assert sure > 50 and unsure > 5


@pytest.mark.parametrize("forgets", ["written", "freed"])
def test_what_is_not_known_to_be_needed_makes_a_sure_prediction_fail(
    forgets: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = predict.Predictor.__init__

    def forgetful(self: predict.Predictor, *given: Any) -> None:
        made(self, *given)
        setattr(self, forgets, [[] for _ in self.operations])

    monkeypatch.setattr(predict.Predictor, "__init__", forgetful)
    with pytest.raises(AssertionError, match="seed"):
        test_a_sure_prediction_comes_about()


def test_a_search_that_predicts_depends_on_nothing_else() -> None:
    def predictions_made() -> list[str]:
        strategy = Predict()
        search(scenario("E57").without_errata(), strategy, seed=len(seeds), schedules=12)
        seeds.append(0)
        return [f"{attempt.schedule} {attempt.prediction} {attempt.reached}" for attempt in strategy.attempts.begun]

    seeds: list[int] = []
    assert predictions_made() == predictions_made()


def test_only_what_woken_contexts_do_at_once_differs_between_the_first_two() -> None:
    """The defect of S1a needs a pagedaemon that continues whenever it is woken."""
    scene = scenario("S1a")
    strategy = Predict()
    result = search(scene, strategy, schedules=2)
    assert [attempt.schedule for attempt in strategy.attempts.begun] == list(steer.SCHEDULES)
    assert result.found_at == 2 and result.by == {"default schedule": 1, "eager schedule": 1}


@pytest.mark.parametrize(
    ("name", "most", "kind"),
    [("E31-shipped", 5, "wakeup"), ("S3h-freed", 5, "free"), ("S3i-sleeper", 5, "wakeup"), ("S8a", 5, "interrupt")],
)
def test_a_defect_that_random_searches_seldom_see_is_predicted(name: str, most: int, kind: str) -> None:
    strategy = Predict()
    result = search(scenario(name), strategy, schedules=most)
    assert result.finding is not None and result.finding.kind != UNEXPECTED
    assert strategy.attempt.prediction is not None and strategy.attempt.prediction.kind == kind
    wanted = scenario(name).expect.with_errata
    assert wanted is not None and result.finding.kind in json.dumps(wanted.findings, default=str)


def test_a_choice_that_was_made_before_is_made_again() -> None:
    """What is predicted from an execution with a choice other than 0 keeps that choice."""

    def chooses() -> None:
        from cluster.api import choose

        FIRST.lock.lock()
        FIRST.ready = choose(2, "which")
        FIRST.lock.unlock()

    def looks() -> None:
        FIRST.lock.lock()
        ready = FIRST.ready
        FIRST.lock.unlock()
        FIRST.lock.lock()
        assert not (ready == 0 and FIRST.ready == 1), "it has changed to 1 meanwhile"
        FIRST.lock.unlock()

    strategy = Predict()
    report = explore(Program(setup, [looks, chooses], detect=OFF), strategy, executions=40)
    assert report.finding is not None and strategy.attempt.depth == 2


# -- the command ---------------------------------------------------------------------------------


def test_it_is_said_what_was_confirmed_and_what_was_dropped() -> None:
    result = uvmp("explore", "S3h-shipped", "--predict")
    assert result.exit_code == Exit.FINDING and "(predict; " in result.stdout
    lines = result.stdout.splitlines()
    first = next(at for at, line in enumerate(lines) if "predictions: 1 confirmed, " in line)
    assert lines[first + 1].startswith("  confirmed: race on amap.am_ref: A in uvmspace_fork (store); C in amap_unref")
    assert any(line.startswith("  dropped (") for line in lines) and "uvmp replay uvmp1.S3h-shipped." in result.stdout


def test_predictions_that_were_not_confirmed_are_no_findings() -> None:
    result = uvmp("explore", "S2c", "--fixed", "--predict", "--json")
    predictions_made = json.loads(result.stdout)
    assert result.exit_code == 0 and predictions_made["finding"] is None and predictions_made["strategy"] == "predict"
    said = predictions_made["predictions"]
    assert said["confirmed"] == said["left"] == [] and len(said["dropped"]) == predictions_made["schedules"] - 2 > 5
    assert {"kind", "about", "operations", "choice", "sure", "came_about"} == said["dropped"][0].keys()
    assert {len({operation["context"] for operation in drop["operations"]}) for drop in said["dropped"]} == {2}
    assert "nothing is left to predict" in uvmp("explore", "litmus-mp", "--predict").stdout


def test_a_search_that_does_not_predict_says_nothing_of_predictions() -> None:
    result = uvmp("explore", "E54", "--fixed", "--schedules", 3, "--json")
    assert json.loads(result.stdout)["predictions"] is None


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--strategy", "pos"], "--strategy: cannot be given with --predict"),
        (["--exhaust"], "--exhaust: cannot be given with --predict"),
        (["--preemptions", "1"], "--preemptions: cannot be given with --predict"),
        (["--near", "uvm_fault"], "--near: cannot be given with --predict"),
        (["--depth", "2"], "--depth: cannot be given with --predict"),
        (["--after", "A:3"], "--after: "),
    ],
)
def test_what_makes_no_sense_with_it_is_refused(words: list[str], said: str) -> None:
    result = uvmp("explore", "E54", "--predict", *words)
    assert result.exit_code == Exit.USAGE and said in result.stderr


def test_it_is_for_one_scenario() -> None:
    result = uvmp("explore", "--all", "--predict")
    assert result.exit_code == Exit.USAGE and "--predict: cannot be given with --all" in result.stderr


# -- the table -----------------------------------------------------------------------------------


def lines() -> dict[str, str]:
    """Scenario -> its line of the table."""
    return {line.split("|")[1].strip(): line for line in TEXT.splitlines() if line.count("|") == 5 and "`" not in line}


TEXT = predicted.FILE.read_text(encoding="utf-8")
RACES = predicted.races(printed())


def test_the_table_has_every_scenario_that_needs_a_search_and_its_summary_is_of_it() -> None:
    assert predicted.text({name: lines()[name] for name in RACES}, printed()) == TEXT


@pytest.mark.parametrize("name", ["E10", "S3h-freed", "S3j-freed"])
def test_a_line_is_what_is_measured(name: str) -> None:
    medians = printed()[name]
    assert medians is not None and predicted.row(name, medians) == lines()[name]


@pytest.mark.long
@pytest.mark.parametrize("name", RACES)
def test_every_line_is_what_is_measured(name: str) -> None:
    medians = printed()[name]
    assert medians is not None and predicted.row(name, medians) == lines()[name]
