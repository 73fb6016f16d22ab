"""How soon each strategy finds each scenario's defect: `make medians` measures it, and writes the table of the README.

Schedules are counted, not seconds, so the table is the same on any computer.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from statistics import median_low

from cluster.search.explore import search
from tests.kit import CONFIGS, SHIPPED, scenario

FILE = CONFIGS / "scenarios" / "README.md"
STRATEGIES = ("auto", "pct", "pos", "random", "rff", "surw")
SEEDS = 5
#: schedules of a search with one strategy, at most; `auto` has the scenario's bound
MOST = 2000
#: after so many searches without a find, and none with one, a strategy is given up
HOPELESS = 2
#: strategy -> median of schedules until the first finding; None: more than the searches had
Medians = dict[str, int | None]


def limit(name: str, strategy: str) -> int:
    """Schedules of one search."""
    bound = scenario(name).bound.schedules
    return bound if strategy == "auto" else min(bound, MOST)


def searches(name: str, strategy: str) -> list[int | None]:
    """For each seed, the number of the first schedule with a finding."""
    numbers: list[int | None] = []
    for seed in range(SEEDS):
        result = search(scenario(name), strategy, seed, limit(name, strategy))
        numbers.append(None if result.finding is None else result.found_at)
        if numbers == [None] * HOPELESS and strategy != "auto":
            return [None] * SEEDS
        if numbers == [1]:
            return [1] * SEEDS  # the default schedule, with any seed
    return numbers


def median(numbers: list[int | None]) -> int | None:
    """None: at least half of the searches had no find."""
    middle = median_low([sys.maxsize if number is None else number for number in numbers])
    return None if middle == sys.maxsize else middle


def measured(name: str) -> Medians | None:
    """Of one scenario; None: it expects no finding."""
    wanted = scenario(name).expect.with_errata
    if wanted is None or not wanted.findings:
        return None
    first = searches(name, "auto")
    if first == [1] * SEEDS:
        return dict.fromkeys(STRATEGIES, 1)
    return {"auto": median(first), **{strategy: median(searches(name, strategy)) for strategy in STRATEGIES[1:]}}


def row(name: str, medians: Medians | None) -> str:
    """A line of the table."""
    cells = [name.ljust(14)]
    for strategy in STRATEGIES:
        middle = None if medians is None else medians[strategy]
        words = f"{middle:,}" if middle is not None else "-" if medians is None else f">{limit(name, strategy):,}"
        cells.append(words.rjust(6))
    return "    " + "  ".join(cells)


def table(rows: Mapping[str, Medians | None]) -> Iterator[str]:
    """The table's lines."""
    yield "    " + "  ".join(["scenario".ljust(14), *(strategy.rjust(6) for strategy in STRATEGIES)])
    for name, medians in rows.items():
        yield row(name, medians)


def within_twice(rows: Mapping[str, Medians | None]) -> tuple[int, int]:
    """In how many scenarios `auto` needs at most twice the schedules of the best strategy; of how many."""
    kept = [medians for medians in rows.values() if medians is not None]
    count = 0
    for medians in kept:
        auto, others = medians["auto"], [number for name, number in medians.items() if name != "auto"]
        best = min((number for number in others if number is not None), default=None)
        count += auto is not None and (best is None or auto <= 2 * best)
    return count, len(kept)


def printed() -> dict[str, Medians | None]:
    """The table as the README has it."""
    rows: dict[str, Medians | None] = {}
    text = FILE.read_text(encoding="utf-8")
    for name, cells in re.findall(r"^    (\S+)((?: +(?:>?[\d,]+|-)){6})$", text, re.MULTILINE):
        words = cells.split()
        numbers = [None if word.startswith(">") else int(word.replace(",", "")) for word in words if word != "-"]
        rows[name] = dict(zip(STRATEGIES, numbers, strict=True)) if numbers else None
    return rows


def write(rows: Mapping[str, Medians | None]) -> None:
    """Put the table in the place of the old one."""
    lines = FILE.read_text(encoding="utf-8").splitlines()
    first = next(at for at, line in enumerate(lines) if line.startswith("    scenario  "))
    last = first
    while last < len(lines) and lines[last].startswith("    "):
        last += 1
    lines[first:last] = table(rows)
    FILE.write_text("\n".join(lines) + "\n", encoding="utf-8")


def renew() -> None:
    """Measure all scenarios, and write the table."""
    rows: dict[str, Medians | None] = {}
    for name in SHIPPED:
        rows[name] = measured(name)
        print(row(name, rows[name]), flush=True)
    write(rows)
    print("auto within twice the best: {} of {}".format(*within_twice(rows)))


if __name__ == "__main__":
    renew()
