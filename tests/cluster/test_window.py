"""The window of a preemption (cluster/search/window.py), and `uvmp minimize`, which tells it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cluster.api import Program, Struct, field, new, own, simplelock
from cluster.cli.minimize import operation
from cluster.runs.replay import replay
from cluster.runs.token import parse
from cluster.search.explore import explore as search
from cluster.search.window import FARTHEST, windows
from shared.journal.deviation import Deviation
from tests.kit import SHIPPED, Results, scenario, uvmp


class Fork(Struct, kind=225):
    """Two locks that are taken in either order."""

    guards = {"o": own("left")}
    left = simplelock("left")
    right = simplelock("right")
    noise = field("o")


FORK = Fork.at(0)


def setup() -> None:
    new(Fork).noise = 0


def first() -> None:
    for _ in range(3):
        FORK.left.lock()
        FORK.noise = 1
        FORK.left.unlock()
    FORK.left.lock()  # operation 11
    for _ in range(4):
        FORK.noise = 2
    FORK.right.lock()  # operation 16
    FORK.right.unlock()
    FORK.left.unlock()


def second() -> None:
    FORK.right.lock()
    FORK.left.lock()
    FORK.left.unlock()
    FORK.right.unlock()


PROGRAM = Program(setup, [first, second], detect={"lockorder": "off"})


def test_a_deadlock_needs_the_other_thread_between_two_locks() -> None:
    deviation = Deviation("first", 13, "point", "second")
    failing = replay(PROGRAM.scenario(), [deviation])
    assert failing.finding is not None and failing.finding.kind in ("deadlock", "spin-forever")
    (window,) = windows(PROGRAM.scenario(), failing.finding, [deviation])
    assert (window.first, window.last) == (11, 15)
    for passing, place in ((window.opens, 10), (window.closes, 16)):
        assert passing is not None and passing.finding is None and passing.deviations == [deviation._replace(n=place)]
        number, lock = (window.first, "left") if place == 10 else (window.last + 1, "right")
        assert operation(failing.journals if place == 10 else passing.journals, "first", number) == (
            f"operation {number}: locks fork:0.{lock}, in first"
        )


def test_a_window_is_looked_for_only_so_far() -> None:
    def patient() -> None:
        FORK.left.lock()
        for _ in range(FARTHEST + 6):
            FORK.noise = 2
        FORK.right.lock()

    program = Program(setup, [patient, second], detect={"lockorder": "off", "lockdebug": "off"})
    deviation = Deviation("patient", 2, "point", "second")
    failing = replay(program.scenario(), [deviation])
    assert failing.finding is not None
    (window,) = windows(program.scenario(), failing.finding, [deviation])
    assert (window.first, window.last) == (2, 2 + FARTHEST) and window.closes is None


@pytest.mark.wide
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.long if at % 3 else ()) for at, name in enumerate(SHIPPED)]
)
def test_windows_of_every_scenario(name: str) -> None:
    """Of the schedule that a short search finds: the finding is the same at both ends, and gone one operation on."""
    scene = scenario(name)
    result = search(scene, schedules=5)
    if result.outcome is None or result.outcome.finding is None or not result.outcome.deviations:
        return
    finding, deviations = result.outcome.finding, result.outcome.deviations
    at = next((at for at, deviation in enumerate(deviations) if deviation.kind == "point"), None)
    if at is None:
        return
    window = windows(scene, finding, deviations, farthest=4)[0]
    deviation = deviations[at]
    assert window.first <= deviation.n <= window.last

    def moved(number: int) -> object:
        schedule = [*deviations[:at], deviation._replace(n=number), *deviations[at + 1 :]]
        outcome = replay(scene, schedule, strict=False)
        return outcome.finding and outcome.finding.signature

    assert moved(window.first) == moved(window.last) == finding.signature
    assert window.opens is None or moved(window.first - 1) is None is window.opens.finding
    assert window.closes is None or moved(window.last + 1) is None is window.closes.finding


# -- the command -------------------------------------------------------------------------


@pytest.mark.wide
def test_the_command_of_a_token_a_folder_and_a_scenario(tmp_path: Path) -> None:
    """All three tell the same of the same schedule, and each token of theirs does what is said of it."""
    folder = tmp_path / "run"
    told = uvmp("minimize", "E31-shipped", "--json", "--out", str(folder))
    assert told.exit_code == 1
    document = json.loads(told.stdout)
    by_token = json.loads(uvmp("minimize", document["token"], "--json").stdout)
    by_folder = json.loads(uvmp("minimize", str(folder), "--json").stdout)
    assert document["finding"] == by_token["finding"] == by_folder["finding"]
    assert document["windows"] == by_token["windows"] == by_folder["windows"] != []
    ends = [window[end] for window in document["windows"] for end in ("after", "before") if end in window]
    assert ends
    for end in ends:
        assert parse(end["passes"]).scenario == "E31-shipped"
        assert json.loads(uvmp("replay", end["passes"], "--json").stdout)["finding"] is None
    text = uvmp("minimize", document["token"]).stdout
    assert all(end["operation"] in " ".join(text.split()) and end["passes"] in text for end in ends)


def test_a_scenario_is_cut_down_to_a_file_with_the_same_finding(tmp_path: Path) -> None:
    """The file is a scenario that fails alike, and does not fail on the repaired kernel."""
    part = tmp_path / "part.yaml"
    result = uvmp("minimize", "S3a", "--smaller", part, "--schedules", 5, "--json")
    document = json.loads(result.stdout)
    told = document["smaller"]
    assert result.exit_code == 1 and told["file"] == str(part) and 2 * told["steps"] <= told["of"]
    again = json.loads(uvmp("explore", part, "--json").stdout)
    assert [again["finding"][key] for key in ("kind", "function")] == [
        document["finding"][key] for key in ("kind", "function")
    ]
    assert again["found_at"] == told["found_at"] and uvmp("explore", part, "--expect", "--schedules", 5).exit_code == 0
    assert uvmp("explore", part, "--fixed", "--expect", "--schedules", 5).exit_code == 0
    for line in ("S3a-part", 'title: "A part of S3a"', '"scenario S3a"'):
        assert line in part.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("what", "file", "told"),
    [
        ("E50", "none/part.yaml", "none: --smaller: there is no such folder"),
        ("litmus-sb", "part.yaml", ""),
    ],
)
def test_a_part_that_cannot_be_made(what: str, file: str, told: str, tmp_path: Path) -> None:
    result = uvmp("minimize", what, "--smaller", file if "/" in file else tmp_path / file, "--schedules", 2)
    assert result.exit_code == (2 if told else 0) and told in result.stderr and not list(tmp_path.iterdir())


def test_a_scenario_without_a_finding_has_nothing_to_shorten() -> None:
    result: Results = uvmp("minimize", "litmus-sb", "--json")
    assert result.exit_code == 0 and json.loads(result.stdout)["finding"] is None


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["S3a", "--scenario", "x.yaml"], "is only for a token"),
        (["no-such-token"], "token"),
        (["runs/none"], "runs/none"),
        (["none.yaml"], "none.yaml"),
    ],
)
def test_mistakes(args: list[str], told: str) -> None:
    result = uvmp("minimize", *args)
    assert result.exit_code == 2 and told in result.stderr and "Traceback" not in result.stderr
