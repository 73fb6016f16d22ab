"""How many schedules `explore --predict` needs for each scenario's defect, beside `auto`: writes PREDICTED.md.

Schedules are counted, not seconds, and a search that predicts has no seed, so the table is the same on any computer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from cluster.search.explore import search
from cluster.search.steer import Predict
from tests.kit import scenario
from tests.scenarios.medians import Medians, printed

FILE = Path(__file__).with_name("PREDICTED.md")
#: numbers of schedules for which the searches are compared; the last one is the bound of a search
WITHIN = (3, 10, 30, 100)


def found_at(name: str) -> tuple[int | None, str]:
    """Number of the schedule with the finding, and what was confirmed: a kind of prediction, or a first schedule."""
    strategy = Predict()
    result = search(scenario(name), strategy, schedules=WITHIN[-1])
    if result.finding is None:
        return None, ""
    prediction = strategy.attempt.prediction
    return result.found_at, strategy.attempt.schedule if prediction is None else prediction.kind


def races(rows: Mapping[str, Medians | None]) -> list[str]:
    """Scenarios that expect a finding which the default schedule does not show."""
    return [name for name, medians in rows.items() if medians is not None and medians["auto"] != 1]


def row(name: str, medians: Medians) -> str:
    """A line of the table."""
    number, what = found_at(name)
    auto = medians["auto"]
    return f"| {name} | {f'>{WITHIN[-1]}' if number is None else number} | {what} | {'-' if auto is None else auto} |"


def summary(lines: Mapping[str, str], rows: Mapping[str, Medians | None]) -> Iterator[str]:
    """In how many scenarios the searches have a finding within so many schedules."""
    kept = [medians for medians in rows.values() if medians is not None]
    predicted = [int(cell) for line in lines.values() if (cell := line.split("|")[2].strip()).isdigit()]
    autos = [auto for medians in kept if (auto := medians["auto"]) is not None]
    others = len(kept) - len(lines)
    yield f"| of {len(kept)} scenarios | " + " | ".join(f"within {most}" for most in WITHIN) + " |"
    yield "|---|" + "---|" * len(WITHIN)
    counts = [others + sum(number <= most for number in predicted) for most in WITHIN]
    yield "| `--predict` | " + " | ".join(map(str, counts)) + " |"
    yield "| `auto`, by its median | " + " | ".join(str(sum(n <= most for n in autos)) for most in WITHIN) + " |"


def text(lines: Mapping[str, str], rows: Mapping[str, Medians | None]) -> str:
    """The whole file."""
    others = sum(medians is not None for medians in rows.values()) - len(lines)
    return "\n".join([
        "# Prediction",
        "",
        "`python -m tests.bench.predicted` wrote this file: the number of the schedule in which",
        f"`uvmp explore --predict` has its first finding, of at most {WITHIN[-1]}. The first two schedules are the",
        "default one and the eager one; each further one confirms a prediction. Beside it is the median of",
        "`auto` over five seeds, from [configs/scenarios](../../configs/scenarios/README.md).",
        "",
        *summary(lines, rows),
        "",
        f"In {others} scenarios the default schedule has the finding. The others:",
        "",
        "| scenario | `--predict` | confirmed | `auto` |",
        "|---|---|---|---|",
        *lines.values(),
        "",
    ])  # fmt: skip


def renew() -> None:
    """Measure, and write the file."""
    rows = printed()
    lines: dict[str, str] = {}
    for name in races(rows):
        medians = rows[name]
        assert medians is not None
        lines[name] = row(name, medians)
        print(lines[name], flush=True)
    FILE.write_text(text(lines, rows), encoding="utf-8")


if __name__ == "__main__":
    renew()
