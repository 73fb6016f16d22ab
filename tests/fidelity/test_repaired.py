"""Programs that the repaired kernel once got wrong: each under many schedules, and on machines of other kinds.

One file for each in repaired/; what it shows is in its story.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.search.explore import search
from shared.scenario.load import load_scenario
from tests.kit import with_machine

CASES = {path.stem: path for path in sorted((Path(__file__).parent / "repaired").glob("*.yaml"))}
#: keys of the machine in place of the case's own
MACHINES = {
    "its own": {},
    "rm emulated": {"mmu": "{rm: emulated}"},
    "page tables": {"mmu": "{page_tables: 4}", "frames": "48"},
    "two shards": {"shards": "{memory: 2, lock_manager: 2}"},
}


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("case", CASES)
def test_a_program_that_once_went_wrong_goes_right(case: str, machine: str) -> None:
    text = CASES[case].read_text(encoding="utf-8")
    if "frames" in MACHINES[machine] and "memory is short" in text:
        pytest.skip("with more frames the memory would not be short")
    scene = load_scenario(with_machine(text, **MACHINES[machine]), f"{case}.yaml")
    few = None if machine == "its own" else max(1, scene.bound.schedules // 8)
    result = search(scene, schedules=few)
    assert result.finding is None, result.finding
