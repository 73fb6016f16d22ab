"""What nodes must have in common: each table tells a change of it, and a machine that differs does not start."""

from __future__ import annotations

from typing import Any

import pytest

from cluster.boot import prepare
from cluster.search.strategy import Stay
from cluster.sim.engine import Sim
from nodes.swap_pager import SwapPager
from shared.port.struct import FieldBase
from shared.uvm import param
from shared.uvm.structs import Anon
from shared.wire import codec, messages, tables
from tests.kit import scenario


def fresh() -> dict[str, str]:
    """The tables, computed again."""
    tables.tables.cache_clear()
    made = dict(tables.tables())
    tables.tables.cache_clear()
    return made


@pytest.mark.parametrize(
    ("place", "name", "value", "table"),
    [
        (param, "PG_CLEAN", 0x8000, "constants"),
        (param, "ERRNO_NAMES", {1: "EPERM"}, "constants"),
        (codec, "VERSION", 0, "wire"),
        (tables, "ERRNO", tables.VM_PAGER, "result codes"),
        (Anon, "fields", {"an_ref": FieldBase("const")}, "structs"),
        (messages.OPERATIONS, "swap_put", messages.Op("swap_pager", "slot", ("frames", "buf")), "operations"),
    ],
)
def test_each_table_tells_a_change_of_it(
    place: Any, name: str, value: Any, table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One constant, one field, one argument is enough, and it is said where."""
    before = fresh()
    if isinstance(place, dict):
        monkeypatch.setitem(place, name, value)
    else:
        if table == "structs":
            value["an_ref"].bind(Anon, "an_ref", 2)
        monkeypatch.setattr(place, name, value)
    assert tables.differing(before, fresh()) == [table]


def test_a_table_that_one_side_has_not_got_differs() -> None:
    assert tables.differing({"a": "1", "b": "2"}, {"a": "1", "c": "3"}) == ["b", "c"]


def test_a_machine_with_an_old_node_performs_nothing() -> None:
    """Refused before the first operation: no journal has a record."""
    scene = scenario("S4")
    sim = Sim(*prepare(scene))
    finding = sim.execute(Stay(), record=True)
    assert finding is not None and finding.kind == "table-mismatch" and "swap_pager" in finding.text
    assert "result codes" in finding.text and sim.steps == 0
    assert sim.journals is not None and not any(journal.records for journal in sim.journals.values())


@pytest.mark.parametrize("level", ["note", "off"])
def test_whoever_does_not_want_to_know_may_go_on(level: str) -> None:
    scene = scenario("S4").with_detect({"tables": level})
    sim = Sim(*prepare(scene))
    assert sim.execute(Stay()) is None and sim.steps > 0
    assert [note.kind for note in sim.notes] == (["table-mismatch"] if level == "note" else [])


def test_the_table_of_the_swap_pager_is_part_of_its_image() -> None:
    """So that it is the same in every engine."""
    old, new = SwapPager("swap_pager", 64), SwapPager("swap_pager", 64)
    old.op_swap_attach("boot", 0, 1)
    new.load_image(old.image())
    assert new.tables() == old.tables() != SwapPager("swap_pager", 64).tables()
