"""What comes with uvmp, as the command shows it: every line fits a terminal of 80 columns."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from cluster import configs
from cluster.cli import cli
from shared.errata import ERRATA

COLUMNS = 80
SHOWN = [
    ("scenarios",),
    ("errata",),
    *(("scenarios", "show", name) for name in configs.names("scenarios")),
    *(("errata", "show", name) for name in ERRATA),
]


@pytest.mark.parametrize("command", SHOWN, ids=[" ".join(one) for one in SHOWN])
def test_every_shipped_text_fits_80_columns(command: tuple[str, ...]) -> None:
    result = CliRunner().invoke(cli, list(command))
    assert result.exit_code == 0
    assert len(result.stdout.splitlines()) >= 10
    assert [line for line in result.stdout.splitlines() if len(line) > COLUMNS] == []


def test_the_list_of_errata_says_how_each_is_known() -> None:
    lines = CliRunner().invoke(cli, ["errata"]).stdout.splitlines()
    for one in ERRATA.values():
        assert f"{one.name:4}  {one.status:13}  {one.id}" in lines


def test_the_list_of_scenarios_says_how_their_errata_are_known() -> None:
    lines = CliRunner().invoke(cli, ["scenarios"]).stdout.splitlines()
    for name in configs.names("scenarios"):
        (line,) = (line for line in lines if line.split()[0] == name)
        errata = configs.shipped(name).errata
        assert all(ERRATA[one].status in line for one in errata)
