"""`uvmp measure`: a table of speeds, and of how soon each strategy finds each defect."""

from __future__ import annotations

from dataclasses import dataclass
from time import monotonic

import click

from cluster import configs
from cluster.cli.asking import Duration, argument, called, option
from cluster.cli.documents import End, Facts, finish, of_patch
from cluster.cli.options import PatchOptions
from cluster.cli.output import Output
from cluster.search import SEARCHING
from cluster.search.measure import Measured, measure
from shared.errors import Exit

HEADS = ("scenario", "operations/s", "schedules/s", *(f"found by {strategy}" for strategy in SEARCHING))


@dataclass(frozen=True, kw_only=True)
class MeasureOptions(PatchOptions):
    """The arguments and the options of `uvmp measure`."""

    scenarios: tuple[str, ...] = argument(nargs=-1, metavar="[SCENARIO]...")
    seeds: int = option(
        "Number of searches with each strategy.", type=click.IntRange(1, 1000), default=5, show_default=True
    )
    schedules: int | None = option(
        "Schedules of a search; default: the scenario's bound.", type=click.IntRange(1, 10_000_000)
    )
    seconds: float = option(
        "Measure each speed for this time.", type=click.FloatRange(0.0, 3600.0), default=0.5, show_default=True
    )
    time: float | None = option("Begin no scenario after this time, as 30s, 5m or 1h.", type=Duration())


@called(
    "measure",
    MeasureOptions,
    ("uvmp measure S3a-shipped E31 --seeds 2", ""),
    ("uvmp measure --seeds 1 --schedules 20 --seconds 0", "measure all shipped scenarios; takes minutes"),
)
def command(asked: MeasureOptions) -> int:
    """Measure each SCENARIO (default: all shipped scenarios) in this process.

    The speeds are those of the repaired kernel under the scenario's own strategy. "found by" is the number of schedules
    until the first finding of a strategy, the median over seeds 0, 1 ...; "-" means that the scenario expects no
    finding.
    """
    output = Output(asked.as_json)
    chosen = [configs.scenario(name).scenario for name in asked.scenarios or configs.names("scenarios")]
    width = max(len(scenario.id) for scenario in chosen)
    rows: list[Measured] = []
    interrupted = late = False
    began = monotonic()
    output.say(_row(HEADS, width), bold=True)
    for number, scenario in enumerate(chosen, 1):
        late = asked.time is not None and monotonic() - began > asked.time
        if late:
            break

        def note(what: str, about: str = f"{scenario.id}, {number} of {len(chosen)}") -> None:
            output.step(f"measuring {about}: {what}")

        try:
            rows.append(measure(scenario, range(asked.seeds), asked.schedules, asked.seconds, note))
        except KeyboardInterrupt:
            interrupted = True
            break
        output.say(_row(_cells(rows[-1]), width))
    if late:
        output.say(f"not ended within {asked.time:,g} s, the limit (--time): {len(rows)} of {len(chosen)} scenarios")
    code = Exit.INTERRUPTED if interrupted else Exit.NO_FINDING
    facts: Facts = {
        **of_patch(),
        "seeds": asked.seeds,
        "time": asked.time,
        "scenarios": [_document(row) for row in rows],
    }
    return finish(output, "measure", End(code, interrupted=interrupted), facts)


def _row(cells: tuple[str, ...], width: int) -> str:
    first, *others = cells
    return "  ".join(
        [first.ljust(width), *(cell.rjust(len(head)) for cell, head in zip(others, HEADS[1:], strict=True))]
    )


def _cells(measured: Measured) -> tuple[str, ...]:
    medians = []
    for strategy in SEARCHING:
        median = measured.median(strategy) if strategy in measured.found_at else None
        medians.append(
            "-" if strategy not in measured.found_at else f">{measured.limit:,}" if median is None else f"{median:,}"
        )
    return (
        measured.scenario.id,
        f"{measured.operations_per_second:,.0f}",
        f"{measured.schedules_per_second:,.0f}",
        *medians,
    )


def _document(measured: Measured) -> dict[str, object]:
    return {
        "scenario": measured.scenario.id,
        "operations_per_second": round(measured.operations_per_second, 1),
        "schedules_per_second": round(measured.schedules_per_second, 1),
        "operations": round(measured.operations, 1),
        "bound": measured.limit,
        "found_at": measured.found_at,
        "median": {strategy: measured.median(strategy) for strategy in measured.found_at},
    }
