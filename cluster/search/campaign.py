"""A campaign: many scenarios searched, one search each, by several processes.

A folder keeps a line for each finished search, and a campaign that continues there does not repeat these searches. Each
search has the same result in any process and at any time, so neither an interruption nor the number of processes shows
in the rows. A worker that dies costs its search; the search is begun once more, and then given up with a word.

Left out: other hosts; the journals of a finding, which its token repeats.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from cluster import configs
from cluster.runs.token import kernel_version
from cluster.search.explore import explore
from nodes.host.private import make_folder, private
from shared.errors import UserMistake
from shared.scenario.model import named_results
from shared.text import clean, reason
from shared.wire.typed import read

#: of a campaign's folder
FILE = "campaign.jsonl"


@dataclass(frozen=True, slots=True)
class Order:
    """The options that all searches of a campaign share.

    Attributes:
        fixed: on the repaired kernel.
        strategy: by its name; None: each scenario's own.
        schedules: at most; None: each scenario's own bound.
    """

    seed: int = 0
    fixed: bool = False
    strategy: str | None = None
    schedules: int | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """The outcome of one search.

    Attributes:
        signature: of its finding, what makes two findings one cause: kind, function, kind of object. Empty: none.
        text: of the finding.
        token: repeats it.
        found_at: number of the schedule, from 1; 0: no finding.
        schedules: tried.
        unmet: why the scenario's expectation does not hold; None: it holds, or the scenario expects nothing.
        lost: the search was given up, since its workers died.
    """

    scenario: str
    signature: tuple[str, ...] = ()
    text: str = ""
    token: str | None = None
    found_at: int = 0
    schedules: int = 0
    seconds: float = 0.0
    unmet: str | None = None
    lost: bool = False

    @property
    def cause(self) -> str:
        """The signature in words."""
        return " ".join(part for part in self.signature if part)


def search_scenario(order: Order, name: str) -> Row:
    """One search of a campaign."""
    own = configs.shipped(name)
    scenario = own.without_errata() if order.fixed else own
    result = explore(scenario, order.strategy, order.seed, order.schedules)
    if result.interrupted:
        raise KeyboardInterrupt
    expected, finding, token = scenario.outcome(), result.finding, result.token
    return Row(
        name,
        () if finding is None else finding.signature,
        "" if finding is None else finding.text,
        None if token is None else str(token),
        result.found_at,
        result.schedules,
        round(result.seconds, 3),
        None if expected is None else expected.check(finding, named_results(result.results)),
    )


def campaign(
    names: Sequence[str],
    order: Order,
    workers: int,
    folder: Path | None = None,
    search: Callable[[Order, str], Row] = search_scenario,
) -> Iterator[Row]:
    """Search scenarios that come with uvmp; gives each row as it is there, those of earlier times first.

    Args:
        workers: processes at work.
        folder: where the rows are kept; made if it is missing.
        search: what a worker does.

    Raises: UserMistake - the folder has a campaign of another order or kernel, or cannot be used.
    """
    with nullcontext() if folder is None else closing(_Kept(folder, order)) as kept:
        done = {} if kept is None else {row.scenario: row for row in kept.rows}
        yield from (row for name, row in done.items() if name in names)
        for row in _searched([name for name in names if name not in done], partial(search, order), workers):
            if kept is not None:
                kept.add(row)
            yield row


def _searched(names: list[str], search: Callable[[str], Row], workers: int) -> Iterator[Row]:
    left = list(reversed(names))
    while left:
        suspects = yield from _pool(left, search, workers)
        for name in suspects:  # alone: then it is known who has died
            if (yield from _pool([name], search, 1)):
                yield Row(name, lost=True)


def _pool(left: list[str], search: Callable[[str], Row], workers: int) -> Generator[Row, None, list[str]]:
    """Take searches from the end of a list and give their rows, until the list is empty or a worker dies.

    Returns: the searches that were going on when a worker died, since that is the end of a pool.
    """
    with ProcessPoolExecutor(workers) as pool:
        running: dict[Future[Row], str] = {}
        try:
            while left or running:
                while left and len(running) < workers:
                    running[pool.submit(search, left[-1])] = left[-1]
                    left.pop()
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    row = future.result()
                    del running[future]
                    yield row
        except BrokenProcessPool:
            return sorted(running.values())
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return []


class _Kept:
    """A campaign's folder: a line that says what it is, and a line for each row."""

    def __init__(self, folder: Path, order: Order):
        self.path = folder / FILE
        head = json.dumps({"campaign": 1, "kernel": kernel_version(), **asdict(order)})
        try:
            make_folder(folder, exist_ok=True)
            whole = self.path.read_bytes() if self.path.exists() else b""
            lines = whole.split(b"\n")
            end = len(whole) - len(lines[-1])  # a line that was being written when the campaign was ended is none
            if end == 0:
                self.rows: list[Row] = []
            elif lines[0] != head.encode():
                refusal = "has a campaign with other options, or of another kernel; give a new folder"
                raise UserMistake(refusal, file=clean(self.path, 200), field="--out")
            else:
                self.rows = [self._row(line, number) for number, line in enumerate(lines[1:-1], start=2)]
            self.stream = open(self.path, "r+b" if whole else "w+b", opener=private)  # noqa: SIM115 - until close()
            self.stream.truncate(end)
            self.stream.seek(end)
            if end == 0:
                self._write(head)
        except OSError as wrong:
            path = clean(self.path, 200)
            raise UserMistake(f"cannot be used: {reason(wrong)}", file=path, field="--out") from None

    def _row(self, line: bytes, number: int) -> Row:
        try:
            return read(Row, json.loads(line))
        except (ValueError, TypeError, LookupError):
            raise UserMistake("is not a row of a campaign", file=clean(self.path, 200), line=number) from None

    def add(self, row: Row) -> None:
        """Keep a row: it is on the disk when this returns."""
        self._write(json.dumps(asdict(row)))

    def _write(self, line: str) -> None:
        self.stream.write(line.encode() + b"\n")
        self.stream.flush()
        os.fsync(self.stream.fileno())

    def close(self) -> None:
        self.stream.close()


def causes(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Findings by their causes; a cause's first row is that of the fewest schedules."""
    by_cause: dict[str, list[Row]] = {}
    for row in sorted(rows, key=lambda row: (row.found_at, row.scenario)):
        if row.signature:
            by_cause.setdefault(row.cause, []).append(row)
    return dict(sorted(by_cause.items()))
