"""What comes with uvmp, as the command shows it: every line fits a terminal of 80 columns."""

from __future__ import annotations

import pytest

from cluster import configs
from cluster.cli.glossary import WORDS, used
from shared.errata import ERRATA
from tests.kit import uvmp

COLUMNS = 80
SHOWN = [
    ("scenarios",),
    ("errata",),
    *(("scenarios", "show", name) for name in configs.names("scenarios")),
    *(("errata", "show", name) for name in ERRATA),
]


@pytest.mark.parametrize("command", SHOWN, ids=[" ".join(words) for words in SHOWN])
def test_every_shipped_text_fits_80_columns(command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cluster.cli.output.columns", lambda stream: COLUMNS)  # in a pipe, rows are whole
    result = uvmp(*command)
    assert result.exit_code == 0
    assert len(result.stdout.splitlines()) >= 10
    assert [line for line in result.stdout.splitlines() if len(line) > COLUMNS] == []


def test_a_story_is_shown_with_the_words_that_it_uses() -> None:
    shown = " ".join(uvmp("scenarios", "show", "E23").stdout.split())
    assert f"anon {WORDS['anon']}" in shown and "DIAGNOSTIC" not in shown


def test_every_word_of_the_glossary_is_used_by_a_story() -> None:
    told = [f"{scene.title} {scene.story}" for scene in map(configs.shipped, configs.names("scenarios"))]
    told += [f"{erratum.sentence} {erratum.story}" for erratum in ERRATA.values()]
    assert set(WORDS) == {word for text in told for word in used(text)}


def test_the_list_of_errata_says_how_each_is_known() -> None:
    lines = uvmp("errata").stdout.splitlines()
    for erratum in ERRATA.values():
        assert f"{erratum.name:4}  {erratum.status:13}  {erratum.big_lock:8}  {erratum.id}" in lines


def test_the_list_of_scenarios_says_how_their_errata_are_known() -> None:
    lines = uvmp("scenarios").stdout.splitlines()
    for name in configs.names("scenarios"):
        (line,) = (line for line in lines if line.split()[0] == name)
        errata = configs.shipped(name).errata
        assert all(ERRATA[ident].status in line for ident in errata)
