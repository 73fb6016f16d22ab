"""The postmortem of every shipped scenario's finding: its first screen has room on a terminal, and names the cause."""

from __future__ import annotations

import json
import re
from functools import cache
from typing import Any

import pytest

from cluster.postmortem.analyse import Postmortem, of
from cluster.postmortem.load import Run
from cluster.postmortem.views.screen import HEIGHT, render_screen
from cluster.postmortem.views.text import render
from cluster.postmortem.words import place
from cluster.runs.replay import replay
from shared.scenario.pack import pack_scenario
from tests.kit import SHIPPED, scenario, searched

FOUND = [name for name in SHIPPED if scenario(name).expect.with_errata.findings]
#: their runs have no end, and so many records that these tests would take minutes
ENDLESS = {name for name in FOUND if "no-progress" in scenario(name).expect.with_errata.findings}
ENDLESS |= {"S5a-object", "S5a-shipped"}
TESTED = [pytest.param(name, marks=pytest.mark.long if name in ENDLESS else ()) for name in FOUND]

pytestmark = pytest.mark.wide


@cache
def postmortem(name: str) -> Postmortem:
    """Of the run that the search finds, as its folder would have it."""
    scene, result = scenario(name), searched(name)
    assert result.finding is not None and result.token is not None
    once = replay(scene, result.deviations)
    assert once.finding is not None
    schedule = [deviation._asdict() for deviation in result.deviations]
    about = {
        "finding": once.finding.as_dict(),
        "digest": once.digest,
        "schedule": schedule,
        "replay": f"uvmp replay {result.token}",
        "errata": list(scene.errata),
    }
    packed = json.loads(json.dumps(pack_scenario(scene)))
    headers: dict[str, dict[str, Any]] = {node: {} for node in once.journals}
    path = f"runs/{name}"
    return of(Run(path, path, packed, scene, about, headers=headers, journals=once.journals))


@pytest.mark.parametrize("name", TESTED)
@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_first_screen_fits_and_says_who_did_what_and_how_to_see_it_again(name: str, width: int) -> None:
    pm = postmortem(name)
    text = render_screen(pm, width, f"uvmp postmortem runs/{name} --full")
    lines = text.splitlines()
    wide = [line for line in lines if len(line) > width and not line.startswith("  uvmp replay ")]
    assert not wide, wide
    high = sum(-(-len(line) // width) or 1 for line in lines)
    assert width < 80 or high <= HEIGHT, f"{high} lines"
    assert pm.finding is not None
    assert " ".join(pm.finding.text.split())[:50] in " ".join(text.split())
    assert f"  {pm.replay}" in lines and f"uvmp postmortem runs/{name} --full" in " ".join(text.split())
    rows = [line for line in lines if re.match(r"  \S+ +\d+(-\d+)?  \S", line)]
    assert 3 <= len(rows) <= 10 or len(pm.steps) < 3, rows


@pytest.mark.parametrize("name", TESTED)
def test_the_first_screen_names_the_function_or_the_object_that_is_to_blame(name: str) -> None:
    """The function that the scenario expects, that of the erratum, or at least the object, by its own name."""
    pm, outcome = postmortem(name), scenario(name).expect.with_errata
    text = render_screen(pm, 80)
    causes = [*outcome.functions, *(erratum.split(".")[0] for erratum in scenario(name).own_errata)]
    assert pm.finding is not None
    subject = place(pm.finding.subject)
    named = [cause for cause in causes if cause != "user" and cause in text.replace(pm.errata[0]["id"], "")]
    assert named or (subject and subject in text), causes
    if outcome.subjects and subject:
        assert pm.finding.subject.split(":")[0] in outcome.subjects and subject in text


@pytest.mark.long
@pytest.mark.parametrize("name", TESTED)
@pytest.mark.parametrize("width", [60, 80])
def test_the_whole_report_fits_too(name: str, width: int) -> None:
    text = render(postmortem(name), width)
    wide = [line for line in text.splitlines() if len(line) > width and "replay " not in line]
    assert not [line for line in wide if " " in line.strip()], wide


@pytest.mark.parametrize("name", TESTED)
def test_whatever_explains_a_wait_is_among_the_rows(name: str) -> None:
    """The operation that took the lock which is waited for is not left out, however long the history is."""
    pm = postmortem(name)
    about = set(pm.steps_about)
    wanted = {
        (hold["ctx"], hold["n"])
        for lock in pm.locks
        if lock["waiters"] and lock["lock"].split(".")[0] in about
        for hold in lock["holders"]
    }
    shown = {(row.ctx, n) for row in pm.steps for n in row.ns}
    assert wanted <= shown
    screen = render_screen(pm, 80)
    for ctx, n in wanted:
        row = next(row for row in pm.steps if row.ctx == ctx and n in row.ns)
        assert re.search(rf"  {re.escape(ctx)} +{row.first}(-{row.last})?  ", screen), (ctx, n)


def test_a_holder_that_waits_for_its_cpu_is_told_so() -> None:
    assert postmortem("E10-shipped").waits[-1] == "A waits for its CPU, which T has"


def test_there_are_scenarios_of_each_sort() -> None:
    """Else the tests above would pass for nothing."""
    assert any(lock["waiters"] for name in ("S3a-shipped", "E1-shipped") for lock in postmortem(name).locks)
    outcomes = [scenario(name).expect.with_errata for name in FOUND]
    assert any(outcome.functions for outcome in outcomes) and any(outcome.subjects for outcome in outcomes)
