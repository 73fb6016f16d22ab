"""The owner of a search by several workers: what its kinds have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator

from cluster.search.batch import Confirmed, Job
from cluster.search.explore import Coverage, Exploration, adopt
from cluster.search.pool import Pool
from shared.findings import UNEXPECTED


class Owner(ABC):
    """Gives batches to a pool, and adds their results to the search, in an order of its own.

    Args:
        schedules: at most.
        result: what is known so far.
    """

    def __init__(self, job: Job, schedules: int, pool: Pool, result: Exploration):
        self.job, self.limit, self.pool, self.result = job, schedules, pool, result
        self.prepare()

    @abstractmethod
    def prepare(self) -> None:
        """Before the first batch."""

    @abstractmethod
    def merged(self) -> Iterator[None]:
        """Adds one batch after another until the search is over; comes back now and then."""

    def covered(self) -> Coverage | None:
        """The coverage of a systematic search."""
        return None

    def _ends(self, finding: Confirmed) -> bool:
        """Adopt a finding, unless there is such a one. Is it the kernel's own?"""
        own = finding.seen.kind != UNEXPECTED
        if self.result.finding is not None and not own:
            return False
        again = adopt(self.result, finding.seen, finding.deviations, finding.results)
        return again is not None and again.kind != UNEXPECTED
