"""Searches every scenario with its errata on a machine with the big lock; `make big-lock` writes the results.

Both strategies, seed 0, each within the scenario's own bound and MOST schedules; the first finding ends the search. A
scenario whose errata only cost something counts as seen if its results are those that it promises.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from cluster.search import explore
from shared.errata import ERRATA, big_lock_table
from shared.errata.big_lock import Search
from shared.scenario.model import Scenario, named_results
from tests.kit import SHIPPED, scenario

FILE = Path(big_lock_table.__file__)
#: schedules of one strategy
MOST = 2000
HEAD = '''"""What a search of each scenario came to with the big lock. Written by `make big-lock`; do not edit."""

from __future__ import annotations

from shared.errata.big_lock import Search

#: scenario -> the search of it
SEARCHES: dict[str, Search] = {
'''


def with_big_lock(name: str) -> Scenario:
    """A scenario with its errata on a machine with the big lock."""
    return scenario(name).with_kernel_lock("big")


def search(name: str, schedules: int | None = None, strategies: Iterable[str] = ("pct", "random")) -> Search:
    """Search one scenario.

    Args:
        schedules: with each strategy at most; default: the scenario's bound, or MOST.
    """
    scene, promised = with_big_lock(name), scenario(name).expect.with_errata
    told = tuple(ERRATA[erratum].name for erratum in scene.errata), promised.findings
    schedules = schedules or min(MOST, scene.bound.schedules)
    ran = 0
    for strategy in strategies:
        result = explore.search(scene, strategy, schedules=1 if not promised.findings else schedules)
        ran += result.schedules
        if result.finding is not None:
            return Search(*told, result.finding.kind, strategy, result.found_at)
        if not promised.findings and promised.check(None, named_results(result.results)) is None:
            return Search(*told, "results", strategy, result.schedules)
    return Search(*told, "", "", ran)


def renew() -> None:
    """Search all scenarios, and write the file."""
    names = [name for name in SHIPPED if scenario(name).errata]
    lines = []
    with ProcessPoolExecutor() as pool:
        for name, result in zip(names, pool.map(search, names), strict=True):
            print(f"{name}: {result.kind or 'nothing'} ({result.schedule})", file=sys.stderr, flush=True)
            told = ", ".join(repr(part).replace("'", '"') for part in result)
            lines.append(f'    "{name}": Search({told}),\n')
    FILE.write_text(f"{HEAD}{''.join(lines)}}}\n", encoding="ascii")


if __name__ == "__main__":
    renew()
