"""Campaigns: `uvmp explore --all` (cluster/search/campaign.py), and its report for CI (cluster/cli/junit.py)."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from itertools import islice
from pathlib import Path
from xml.etree import ElementTree

import pytest

from cluster.cli.junit import report
from cluster.cli.options import put
from cluster.search.campaign import FILE, Order, Row, campaign, causes, search_scenario
from shared.errors import UserMistake
from tests.kit import uvmp

NAMES = ["E1", "E1-shipped", "E10", "E27", "E44", "E60"]
ORDER = Order(schedules=5)


def timeless(rows: list[Row]) -> list[Row]:
    return sorted((replace(row, seconds=0.0) for row in rows), key=lambda row: row.scenario)


def marked(order: Order, name: str) -> Row:
    """A search that dies, if there is a file of its name and for as often as that says; and tells that it was begun."""
    folder = Path(os.environ["UVMP_TEST_CAMPAIGN"])
    with (folder / "begun").open("a", encoding="ascii") as stream:
        stream.write(f"{name}\n")
    deaths = folder / name
    if deaths.exists() and (left := int(deaths.read_text(encoding="ascii"))):
        deaths.write_text(str(left - 1), encoding="ascii")
        os._exit(9)
    return Row(name, ("panic", name[:2], ""), "it panics", None, len(name), len(name))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("UVMP_TEST_CAMPAIGN", str(tmp_path))
    return tmp_path


def begun(folder: Path) -> list[str]:
    return (folder / "begun").read_text(encoding="ascii").split()


def test_the_number_of_workers_does_not_show_and_each_row_is_that_of_its_search() -> None:
    alone = timeless([search_scenario(ORDER, name) for name in NAMES])
    assert timeless(list(campaign(NAMES, ORDER, 1))) == alone == timeless(list(campaign(NAMES, ORDER, 3)))
    assert {row.scenario: row.signature[0] for row in alone if row.signature} == {
        "E1": "held-at-exit", "E1-shipped": "spin-forever", "E27": "panic", "E44": "panic", "E60": "oracle",
    } | {row.scenario: row.signature[0] for row in alone if row.scenario == "E10" and row.signature}  # fmt: skip


@pytest.mark.parametrize("at", [1, 2, 5])
def test_a_campaign_goes_on_where_it_was_ended(folder: Path, at: int) -> None:
    """Also if it was killed in the middle of a line. Nothing is done twice."""
    whole = timeless(list(campaign(NAMES, ORDER, 2, folder / "whole", marked)))
    (folder / "begun").unlink()
    rows = campaign(NAMES, ORDER, 1, folder / "cut", marked)
    list(islice(rows, at))
    rows.close()  # type: ignore[attr-defined]
    with (folder / "cut" / FILE).open("ab") as stream:
        stream.write(b'{"scenario": "E60", "sign')
    done = begun(folder)[:at]
    (folder / "begun").unlink(missing_ok=True)
    assert timeless(list(campaign(NAMES, ORDER, 2, folder / "cut", marked))) == whole
    assert sorted(done + begun(folder)) == sorted(NAMES)
    assert timeless(list(campaign(NAMES, ORDER, 2, folder / "cut", marked))) == whole
    assert len(begun(folder)) == len(NAMES) - at


@pytest.mark.parametrize(("deaths", "lost"), [(1, False), (2, True)])
def test_a_worker_that_dies_costs_its_search(folder: Path, deaths: int, lost: bool) -> None:
    (folder / "E27").write_text(str(deaths), encoding="ascii")
    rows = timeless(list(campaign(NAMES, ORDER, 2, folder / "kept", marked)))
    assert [row.scenario for row in rows] == NAMES
    assert [row.scenario for row in rows if row.lost] == ["E27"] * lost
    assert begun(folder).count("E27") == 2


def test_findings_are_told_by_their_causes(folder: Path) -> None:
    rows = list(campaign(NAMES, ORDER, 1, search=marked))
    by_cause = causes([*rows, Row("S1")])
    assert {cause: [row.scenario for row in among] for cause, among in by_cause.items()} == {
        "panic E1": ["E1", "E10", "E1-shipped"], "panic E2": ["E27"], "panic E4": ["E44"], "panic E6": ["E60"],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("line", "text", "told"),
    [
        (0, '{"campaign": 1}', "has a campaign with other options, or of another kernel"),
        (1, "nonsense", f"{FILE}:2: is not a row of a campaign"),
        (1, '{"scenario": "E1"}', f"{FILE}:2: is not a row of a campaign"),
        (1, "[]", f"{FILE}:2: is not a row of a campaign"),
    ],
)
def test_a_folder_that_is_damaged_or_another_campaign_s_is_refused(
    folder: Path, line: int, text: str, told: str
) -> None:
    list(campaign(NAMES, ORDER, 1, folder / "kept", marked))
    path = folder / "kept" / FILE
    lines = path.read_text(encoding="ascii").splitlines()
    lines[line] = text
    path.write_text("\n".join(lines) + "\n", encoding="ascii")
    with pytest.raises(UserMistake) as caught:
        list(campaign(NAMES, ORDER, 1, folder / "kept", marked))
    assert told in str(caught.value)
    with pytest.raises(UserMistake, match="other options"):
        list(campaign(NAMES, replace(ORDER, seed=1), 1, folder / "kept", marked))


# -- the command -------------------------------------------------------------------------


@pytest.mark.wide
def test_the_command_searches_everything_and_goes_on(tmp_path: Path) -> None:
    args = ("explore", "--all", "--schedules", 1, "--out", tmp_path / "all", "--junit", tmp_path / "all.xml")
    result = uvmp(*args, "--json")
    document = json.loads(result.stdout)
    names = [row["scenario"] for row in document["searches"]]
    assert result.exit_code == 1 and names == sorted(names) and len(names) > 100
    suite = ElementTree.parse(tmp_path / "all.xml").getroot()
    assert [case.get("name") for case in suite] == names
    failed = [case.get("name") for case in suite if case.find("failure") is not None]
    assert failed == [row["scenario"] for row in document["searches"] if row["signature"]] != []
    assert suite.get("failures") == str(len(failed))
    again = uvmp(*args, "--expect")
    assert again.exit_code == 1 and f"{len(failed)} of {len(names)} scenarios have a finding" in again.stdout
    assert "not as expected: S3c-race: expected data-race, found no finding" in again.stdout


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (("S3a", "--all"), "SCENARIO: cannot be given with --all"),
        (("--all", "--depth", "2"), "--depth: cannot be given with --all"),
        (("--all", "--kernel-lock", "big"), "--kernel-lock: cannot be given with --all"),
        (("S3a", "--junit", "x.xml"), "--junit: is only for --all"),
        (("--all", "--junit", "none/x.xml"), "none: --junit: there is no such folder"),
    ],
)
def test_options_that_say_nothing_are_refused(args: tuple[str, ...], told: str) -> None:
    result = uvmp("explore", *args)
    assert result.exit_code == 2 and told in result.stderr


def test_the_report_for_ci() -> None:
    rows = [Row("a", seconds=0.5), Row("b", seconds=1, unmet="one\x00\nmore <&>"), Row("c", lost=True)]
    suite = ElementTree.fromstring(report(rows, expecting=True))
    assert {key: suite.get(key) for key in ("tests", "failures", "errors", "time")} == {
        "tests": "3", "failures": "1", "errors": "1", "time": "1.500",
    }  # fmt: skip
    failure = suite[1].find("failure")
    assert failure is not None and "more <&>" in str(failure.text)


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    put(tmp_path / "r.xml", "text", "--junit")
    with pytest.raises(UserMistake, match="cannot be written"):
        put(tmp_path / "none" / "r.xml", "text", "--junit")
    with pytest.raises(UserMistake, match="cannot be written"):
        put(tmp_path, "text", "--junit")
    assert [path.name for path in tmp_path.iterdir()] == ["r.xml"] and (tmp_path / "r.xml").read_text() == "text"
    assert not list(tmp_path.parent.glob(".*.tmp"))
