"""The outcome of one execution, in any engine."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from shared.errors import ProjectBug
from shared.findings import Finding
from shared.journal.deviation import Deviation
from shared.journal.record import Journals
from shared.journal.runfile import Late
from shared.scenario.model import Results

if TYPE_CHECKING:
    from cluster.runs.parity import Parity
    from cluster.runs.token import Token


@dataclass
class Outcome:
    """One recorded execution; what an engine does not know has its default.

    Attributes:
        journals: of every node; of a free live run that was stopped, only the part that it is judged by.
        digest: of these journals.
        results: of every context that performed a step.
        notes: findings that the run was not stopped for.
        sites: erratum -> how often its site was reached.
        counters: of uvmexp, event or state -> count.
        operations: in the journals.
        deviations: where `sim` left the default schedule.
        skipped: deviations that were asked for and could not be taken.
        seconds: how long a live run took; None: the run was in `sim`.
        parity: a live run against `sim`; None: not compared.
        token: of this very schedule, if a token of it fits a line.
        shortened: token of another, shorter schedule with the same finding; of a live run.
        folder: where the journals' files are, if they were kept.
        unkept: why the run could not be kept, though it should be.
        cut: it was ended while contexts could continue, and is judged only by what it had performed.
        late: it was ended because its time was over; None: it was not.
    """

    finding: Finding | None
    journals: Journals
    digest: str
    results: Results
    notes: list[Finding]
    sites: dict[str, int]
    counters: dict[str, int]
    operations: int
    deviations: list[Deviation] = field(default_factory=list)
    skipped: list[Deviation] = field(default_factory=list)
    seconds: float | None = None
    parity: Parity | None = None
    token: Token | None = None
    shortened: Token | None = None
    folder: Path | None = None
    unkept: ProjectBug | None = None
    cut: bool = False
    late: Late | None = None

    @property
    def engine(self) -> str:
        """As `uvmp run --engine` names it."""
        return "sim" if self.seconds is None else "live"
