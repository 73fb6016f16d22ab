"""`uvmp explore --exhaust`: what is said, and when; the same of a program of one's own."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from cluster.api import Optimal, Preemptions, Program, explore
from tests.cluster.programs import FIRST, add_in_two_parts, first_then_second, second_then_first, setup
from tests.kit import uvmp


def first_line(*words: object) -> str:
    result = uvmp("explore", *words, "--exhaust")
    assert result.exit_code == 0, result.output
    return re.sub(r"; [0-9,]+ per second", "", result.stdout.splitlines()[0])


def test_each_class_once_and_none_left() -> None:
    assert (
        first_line("E60-panic", "--fixed")
        == "exhausted: 4 classes of executions, no finding (4 schedules, none redundant)"
    )


def test_each_reads_from_class() -> None:
    assert (
        first_line("E60-panic", "--fixed", "--reads-from")
        == "exhausted: 4 reads-from classes of executions, no finding (4 schedules, none redundant)"
    )


def test_within_a_bound() -> None:
    first = first_line("E60-panic", "--fixed", "--preemptions", 0)
    assert re.fullmatch(
        r"exhausted within 0 preemptions: 1 class of executions, no finding \(\d+ schedules, \d+ redundant\)", first
    )
    assert "exhausted within 1 preemption: " in first_line("E60-panic", "--fixed", "--preemptions", 1)


def test_what_is_left_is_not_passed_over() -> None:
    assert (
        first_line("E60", "--fixed", "--schedules", 5)
        == "not exhausted in 5 schedules: 5 classes of executions of about 20 or more (none redundant)"
    )


def test_how_many_classes_there_are_is_estimated_if_they_are_too_many() -> None:
    """There are 45. The fewer schedules, the fewer branches of the tree are known."""
    told = [first_line("E60", "--fixed", "--schedules", schedules) for schedules in (12, 24)]
    estimates = [int(re.search(r"classes of executions of about (\d+) or more", line)[1]) for line in told]  # type: ignore[index]
    assert 12 < estimates[0] < 90 and 24 < estimates[1] < 90


def document(*words: object) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(uvmp("explore", *words, "--json").stdout)
    return told


def test_the_document_tells_it() -> None:
    wanted = ("strategy", "preemptions", "schedules", "exhausted", "redundant", "distinct", "finding", "exit")
    told = document("E60-panic", "--fixed", "--exhaust")
    assert [told[key] for key in wanted] == ["dpor", None, 4, True, 0, 4, None, 0]
    told = document("E60-panic", "--fixed", "--exhaust", "--preemptions", 1)
    assert told["exhausted"] is True and told["preemptions"] == 1 and told["strategy"] == "preemptions"
    assert told["distinct"] + told["redundant"] == told["schedules"]
    told = document("E60", "--fixed", "--exhaust", "--schedules", 5)
    assert [told[key] for key in wanted] == ["dpor", None, 5, False, 0, 5, None, 0] and 5 < told["estimated"] < 90
    told = document("E60", "--fixed", "--schedules", 5)
    assert told["exhausted"] is told["redundant"] is None, "a random search says nothing of that kind"


def test_a_finding_ends_the_search_and_is_no_proof() -> None:
    told = document("E60", "--exhaust")
    assert told["exit"] == 1 and told["finding"] and told["token"] and told["exhausted"] is False
    assert "exhausted" not in uvmp("explore", "E60", "--exhaust").stdout


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["E60", "--preemptions", "1"], "--preemptions: is only for --exhaust"),
        (["E60", "--preemptions", "0"], "--preemptions: is only for --exhaust"),
        (["E60", "--exhaust", "--strategy", "random"], "--strategy: cannot be given with --exhaust"),
        (["E60", "--exhaust", "--depth", "2"], "--depth: cannot be given with --exhaust"),
        (["E60", "--reads-from"], "--reads-from: is only for --exhaust"),
        (["E60", "--exhaust", "--reads-from", "--preemptions", "1"], "--reads-from: cannot be given with --preemp"),
    ],
)
def test_what_does_not_go_together(words: list[str], why: str) -> None:
    result = uvmp("explore", *words)
    assert result.exit_code == 2 and why in result.stderr


# -- a program of one's own ---------------------------------------------------------------------------


def check_two() -> None:
    assert FIRST.value == 2, "an update is lost"


def forever() -> None:
    while FIRST.value == 0:
        pass


def set_once() -> None:
    FIRST.value = 1


@pytest.mark.parametrize("strategy", [Optimal, Preemptions])
def test_a_program_without_a_defect_is_exhausted(strategy: Any) -> None:
    report = explore(Program(setup, [first_then_second, first_then_second]), strategy())
    assert report.exhausted and str(report).startswith("exhausted: no finding in ")


@pytest.mark.parametrize("strategy", [Optimal, Preemptions])
def test_a_program_with_a_defect_is_not(strategy: Any) -> None:
    report = explore(Program(setup, [first_then_second, second_then_first], None, {"lockorder": "off"}), strategy())
    assert not report.exhausted and report.finding is not None and report.finding.kind == "deadlock"


def test_what_goes_on_forever_is_not_exhausted() -> None:
    """As often as it looks in vain, one more look is another class; and an execution without an end has no class."""
    program = Program(setup, [forever, set_once], None, {"race": "off", "progress": "off"}, operations=30)
    assert not explore(program, Optimal(), 1000).exhausted


def test_an_update_that_is_lost_needs_one_preemption() -> None:
    program = Program(setup, [add_in_two_parts, add_in_two_parts], check_two)
    assert explore(program, Preemptions(0)).exhausted
    report = explore(program, Preemptions(1))
    assert report.finding is not None and "an update is lost" in report.finding.text
