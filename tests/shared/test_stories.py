"""The texts of scenarios and errata: a reader who has never seen UVM must understand each by itself."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from shared.errata import ERRATA, Erratum, Status
from shared.scenario.load import load_scenario
from shared.scenario.model import Scenario

ROOT = Path(__file__).parents[2]
SHIPPED = [
    load_scenario(path.read_text("utf-8"), path.name) for path in (ROOT / "configs" / "scenarios").glob("*.yaml")
]
SCENARIOS = pytest.mark.parametrize("scene", SHIPPED, ids=[scene.id for scene in SHIPPED])
CATALOGUE = pytest.mark.parametrize("erratum", ERRATA.values(), ids=list(ERRATA))

#: phrases without a referent, or with the syntax of another language; each was in a story once
BANNED = re.compile(
    r"\b(?:(?:does|did) so|which it does|one that|the one which|who(?:ever)? wants|nobody who|for ever|all the same"
    r"|the very one|not any more than|(?:comes|came) of it|comes? to the same|sees? to it|as people ran it"
    r"|(?<!there )(?:is|are) no (?!longer|more))\b",
    re.IGNORECASE,
)
FUNCTION = re.compile(r"\b([a-z_][a-z0-9_]*)\(\)")
#: functions of NetBSD that stories name and the model has under no name of their own
NOT_MODELLED = {"comintr", "exec", "malloc", "pmap_steal_ptp", "pmap_try_steal_pv", "tsleep", "wakeup"}
#: what the last line of a story must have, by the kind of finding that the scenario expects
SHOWN = {
    "panic": "panic: ",
    "kassert": 'panic: assertion "',
    "lock-assert": 'panic: assertion "',
    "locked-anon-freed": 'panic: assertion "',
    "lock-not-held": '"simple_unlock: lock not held"',
    "locking-against-myself": '"simple_lock: locking against myself"',
    "held-across-sleep": '"switching with held simple_lock"',
    "spin-forever": "trace",
    "deadlock": 'sleeps in "',
    "lost-wakeup": 'sleeps in "',
    "no-progress": "show uvmexp: ",
    "data-race": "nothing",
    "oracle": "nothing",
    "table-mismatch": "nothing",
}


def functions() -> set[str]:
    """Every function of the modelled kernel."""
    defined = re.compile(r"^ *def (\w+)\(", re.MULTILINE)
    return {
        name for path in (ROOT / "shared" / "uvm").glob("*.py") for name in defined.findall(path.read_text("utf-8"))
    }


KNOWN = functions() | NOT_MODELLED


def last_line(scene: Scenario) -> str:
    return scene.story.split("\n")[-1]


@SCENARIOS
def test_a_story_names_the_functions_or_says_what_it_is_about(scene: Scenario) -> None:
    named = set(FUNCTION.findall(scene.story))
    assert named or "user-visible" in scene.story or "a test of the engine" in scene.story.lower()
    assert named <= KNOWN


@SCENARIOS
def test_a_story_ends_in_one_line_of_what_ddb_would_have_shown(scene: Scenario) -> None:
    assert scene.story.count("\n") == 1
    assert re.fullmatch(r"ddb: .{10,130}[^ ]", last_line(scene))


@SCENARIOS
def test_the_line_of_ddb_fits_the_finding(scene: Scenario) -> None:
    """What ddb shows of a panic is the panic, and of a process that sleeps its wait channel."""
    wanted = scene.expect.with_errata
    shown = last_line(scene)
    assert not wanted.findings or any(SHOWN.get(kind, "") in shown for kind in wanted.findings)
    if {"panic", "kassert"} & set(wanted.findings):
        assert any(text in shown.replace("2 pages", "pages") or text in shown for text in wanted.texts), wanted.texts


@SCENARIOS
def test_a_story_is_short_and_in_plain_english(scene: Scenario) -> None:
    assert 150 <= len(scene.story) <= 800
    assert len(scene.title) <= 78
    assert BANNED.findall(" ".join(f"{scene.title}. {scene.story}".split())) == []
    # one idea each: a long sentence has several
    assert all(len(sentence) <= 220 for sentence in re.split(r"(?<=[.:;!?]) ", scene.story))


@SCENARIOS
def test_a_story_of_a_hypothetical_kernel_says_so(scene: Scenario) -> None:
    """And no other does; nobody may take what is ours for history."""
    ours = [ERRATA[erratum].status is Status.HYPOTHETICAL for erratum in scene.errata]
    assert ("hypothetical" in scene.story.lower()) == any(ours)


@CATALOGUE
def test_an_erratum_is_told_by_its_functions(erratum: Erratum) -> None:
    named = set(FUNCTION.findall(f"{erratum.sentence} {erratum.story}"))
    assert named and named <= KNOWN


@CATALOGUE
def test_an_erratum_is_told_in_plain_english(erratum: Erratum) -> None:
    assert len(erratum.sentence) <= 105 and 250 <= len(erratum.story) <= 1100
    assert BANNED.findall(f"{erratum.sentence} {erratum.story}") == []
    assert all(len(sentence) <= 240 for sentence in re.split(r"(?<=[.:;!?]) ", erratum.story))


@CATALOGUE
def test_a_hypothetical_erratum_says_so(erratum: Erratum) -> None:
    """And no other does: the story must not contradict the status."""
    assert ("hypothetical" in erratum.story.lower()) == (erratum.status is Status.HYPOTHETICAL)
