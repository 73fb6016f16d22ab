"""The catalogue against the kernel, the scenarios and itself."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from shared.errata import ERRATA, Erratum, Status, counts, lookup
from shared.errors import UserMistake
from shared.findings import DETECTORS, FINDINGS
from shared.scenario.load import load_scenario
from shared.scenario.model import Scenario
from tests.kit import scenario

ROOT = Path(__file__).parents[2]
SCENARIOS = sorted((ROOT / "configs" / "scenarios").glob("*.yaml"))
CATALOGUE = pytest.mark.parametrize("erratum", ERRATA.values(), ids=list(ERRATA))


def sites() -> set[str]:
    """Ids at which the kernel asks whether an erratum is on."""
    asked = re.compile(r'\berratum\(\s*"([^"]+)"\s*\)')
    asking = [*(ROOT / "shared" / "uvm").glob("*.py"), *(ROOT / "nodes").glob("*.py")]
    return {name for path in asking for name in asked.findall(path.read_text("utf-8"))}


def test_every_erratum_has_a_site_in_the_kernel() -> None:
    """An erratum without a site would be switched on and change nothing."""
    assert sorted(ERRATA.keys() - sites()) == []


def test_every_site_in_the_kernel_is_in_the_catalogue() -> None:
    """A site without an entry could never be reached from a scenario."""
    assert sorted(sites() - ERRATA.keys()) == []


def test_every_site_names_its_erratum_as_a_literal() -> None:
    """grep must find it, and so must the two tests above."""
    for path in (ROOT / "shared" / "uvm").glob("*.py"):
        text = path.read_text("utf-8")
        assert len(re.findall(r"\berratum\(", text)) == len(re.findall(r'\berratum\(\s*"[^"]+"\s*\)', text)), path.name


def test_the_kernel_asks_for_an_erratum_by_a_function() -> None:
    """At the defect erratum(), which counts the site; where its repair changed something else, unrepaired()."""
    for path in (ROOT / "shared" / "uvm").glob("*.py"):
        text = path.read_text("utf-8")
        assert ".errata" not in text, path.name
        assert set(re.findall(r'\bunrepaired\(\s*"([^"]+)"\s*\)', text)) <= ERRATA.keys(), path.name


@CATALOGUE
def test_an_entry_can_be_read_by_itself(erratum: Erratum) -> None:
    assert re.fullmatch(r"[a-z0-9_]+\.[a-z0-9-]+", erratum.id)
    assert erratum.sentence.endswith(".") and "\n" not in erratum.sentence
    assert erratum.source and all(
        re.search("uvm_|pmap", source) and re.search(r"(19|20)\d\d", source) for source in erratum.source
    )
    assert erratum.story.count(". ") >= 3 and erratum.story.endswith(".")
    assert not re.search(r"/work|shared/|https?:|git\.", " ".join((erratum.story, *erratum.source)))


#: a file of the kernel, and in the same reference its revision, the date of its change log or a problem report's number
PLACE = re.compile(
    r"\w+\.[ch]\b.*?(\b\d\.\d+\b|\b(19|20)\d\d-\d\d-\d\d\b|\b(January|February|May|June) (19|20)\d\d\b"
    r"|\bPR (\w+/)?\d{4,})"
)


@CATALOGUE
def test_a_defect_that_uvm_really_had_says_where(erratum: Erratum) -> None:
    """Otherwise nobody could look it up, and the claim would be ours alone."""
    if erratum.status.real:
        assert any(PLACE.search(source) for source in erratum.source), erratum.source


def test_every_status_is_used_and_has_a_meaning() -> None:
    assert all(counts().values()) and sum(counts().values()) == len(ERRATA)
    assert len({status.meaning for status in Status}) == len(Status)


@CATALOGUE
def test_an_entry_names_findings_that_exist(erratum: Erratum) -> None:
    assert set(erratum.findings) <= FINDINGS.keys()
    assert set(erratum.detectors) <= set(DETECTORS)


@CATALOGUE
def test_an_entry_without_findings_shows_in_results_alone(erratum: Erratum) -> None:
    """A defect that costs time and nothing else; its scenarios tell by results which kernel it is."""
    if not erratum.findings:
        for name in erratum.scenarios:
            expect = scenario(name).expect
            assert not expect.with_errata.findings and expect.with_errata.results != expect.fixed.results


def test_names_are_unique_and_tell_the_row() -> None:
    names = [erratum.name for erratum in ERRATA.values()]
    assert len(set(names)) == len(names)
    for erratum in ERRATA.values():
        assert re.fullmatch(r"(S|E)[0-9]+[a-z]?", erratum.name) and re.fullmatch(r"(S|E)[0-9]+", erratum.row)


def test_entries_and_scenarios_name_each_other() -> None:
    on: dict[str, set[str]] = {erratum: set() for erratum in ERRATA}
    shown: dict[str, set[str]] = {erratum: set() for erratum in ERRATA}
    for path in SCENARIOS:
        loaded = load_scenario(path.read_text("utf-8"), path.name)
        for erratum in loaded.errata:
            on[erratum].add(loaded.id)
            shown[erratum] |= set(loaded.expect.with_errata.findings)
    assert {erratum.id: set(erratum.scenarios) for erratum in ERRATA.values()} == on
    # what no scenario shows is not claimed
    assert {erratum.id: set(erratum.findings) for erratum in ERRATA.values()} == shown


SHIPPED_ONES = [load_scenario(path.read_text("utf-8"), path.name) for path in SCENARIOS]


def test_scenarios_have_names_of_their_own() -> None:
    assert [name for name, many in Counter(scene.name for scene in SHIPPED_ONES).items() if many > 1] == []


@pytest.mark.parametrize("scene", SHIPPED_ONES, ids=[scene.id for scene in SHIPPED_ONES])
def test_an_expectation_is_exact(scene: Scenario) -> None:
    """A kind alone would be satisfied by any of a dozen defects."""
    wanted = scene.expect.with_errata
    if not wanted.findings:
        return
    assert wanted.subjects
    if "invariant" in wanted.findings:
        assert wanted.invariants
    elif wanted.findings != ("table-mismatch",):
        assert wanted.functions
    if {"panic", "kassert", "oracle"} & set(wanted.findings):
        assert wanted.texts


def test_lookup_takes_short_names() -> None:
    """In any case; a row's, if it has just one erratum."""
    for erratum in ERRATA.values():
        for name in (erratum.id, erratum.name, erratum.name.lower()):
            assert lookup(name) is erratum
        row = [other for other in ERRATA.values() if other.row == erratum.row]
        if len(row) == 1:
            assert lookup(erratum.row) is erratum
        elif erratum.row not in [other.name for other in row]:
            with pytest.raises(UserMistake, match="is a row with several errata: ") as caught:
                lookup(erratum.row)
            assert all(f"{other.name} ({other.id})" in caught.value.message for other in row)


def test_lookup_names_what_was_probably_meant() -> None:
    for wrong, meant in {
        "amap_cow_now.restart-own-copies": "amap_cow_now.restart-own-copy (E2)",
        "amap_cow_now": "amap_cow_now.nanon-freed-locked (S3a)",
        "S3a-shipped": "did you mean amap_cow_now.nanon-freed-locked (S3a)?",
    }.items():
        with pytest.raises(UserMistake, match=re.escape(meant)):
            lookup(wrong)
    for wrong in ("q" * 1000, ""):
        with pytest.raises(UserMistake, match="`uvmp errata` lists them") as caught:
            lookup(wrong)
        assert len(str(caught.value)) < 200
