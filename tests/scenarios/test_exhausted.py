"""The table of exhausted scenarios is that of this kernel."""

from __future__ import annotations

import pytest

from tests.kit import SHIPPED
from tests.scenarios.exhausted import FILE, Row, exhaust, rows, summary, within

TABLE = rows()
#: schedules of those that are searched again in every run of the tests
FEW = 30


def test_the_table_is_in_order_and_counts_its_rows() -> None:
    names = [row.scenario for row in TABLE]
    assert names == [name for name in SHIPPED if name in names] and len(names) > 40
    assert FILE.read_text(encoding="ascii").endswith(summary(TABLE))


@pytest.mark.wide
@pytest.mark.parametrize("row", [row for row in TABLE if row.schedules <= FEW], ids=lambda row: row.scenario)
def test_it_is_exhausted_once_more(row: Row) -> None:
    assert within(row.scenario, row.preemptions, 10 * FEW) == row


@pytest.mark.long
@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.scenario)
def test_all_of_it_is_so_once_more(row: Row) -> None:
    assert exhaust(row.scenario) == row
