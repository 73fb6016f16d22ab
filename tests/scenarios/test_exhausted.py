"""The table of exhausted scenarios is that of this kernel, and a variant has the finding of its scenario."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cluster.search.explore import search
from tests.kit import SHIPPED, scenario
from tests.scenarios.exhausted import FILE, VARIANTS, Row, exhaust, form_of, rows, smallest, summary, within
from tests.scenarios.variants import SCHEDULES

TABLE = rows()
#: schedules of those that are searched again in every run of the tests
FEW = 30


def test_the_table_is_in_order_and_counts_its_rows() -> None:
    names = [row.scenario for row in TABLE]
    assert names == [name for name in SHIPPED if name in names] and len(names) > 100
    assert FILE.read_text(encoding="ascii").endswith(summary(TABLE))


def test_a_scenario_is_exhausted_or_has_an_estimate() -> None:
    for row in TABLE:
        assert (row.preemptions == "-") == (row.estimated != "-"), row
        assert row.form == smallest(row.scenario) or (row.form, row.preemptions) == ("shipped", "any"), row


@pytest.mark.wide
@pytest.mark.parametrize("name", sorted(path.stem for path in VARIANTS.glob("*.yaml")))
def test_a_variant_has_the_finding_of_its_scenario(name: str) -> None:
    whole, variant = scenario(name), form_of(name, "variant")
    expected = whole.expect.with_errata
    assert variant.errata == whole.errata and variant.machine.cpus <= whole.machine.cpus
    finding = search(variant, schedules=SCHEDULES).finding
    if expected is not None and expected.findings:
        assert replace(expected, results={}, never=(), texts=()).check(finding, {}) is None
    assert finding is not None


@pytest.mark.wide
@pytest.mark.parametrize("row", [row for row in TABLE if row.schedules <= FEW], ids=lambda row: row.scenario)
def test_it_is_exhausted_once_more(row: Row) -> None:
    assert within(row.scenario, row.form, row.preemptions, 10 * FEW) == row


@pytest.mark.long
@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.scenario)
def test_all_of_it_is_so_once_more(row: Row) -> None:
    assert exhaust(row.scenario) == row
