"""Searches every scenario with and without a patch, and shows what the patch changes.

Each scenario is searched on two kernels, with its errata and repaired; each search ends with its first finding. Two
searches are equal if both end with findings of the same signature, or both without a finding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial

from cluster import configs
from cluster.search.explore import search
from shared.patch import Patch, applied, read, switch


@dataclass(frozen=True, slots=True)
class Search:
    """The outcome of one search.

    Attributes:
        signature: of its finding; empty: none was seen.
        schedules: executions until it ended.
    """

    signature: tuple[str, ...]
    schedules: int

    @property
    def words(self) -> str:
        """For a table."""
        if not self.signature:
            return f"not seen in {self.schedules:,}"
        return f"{' '.join(part for part in self.signature if part)} ({self.schedules:,})"


@dataclass(frozen=True, slots=True)
class Row:
    """One scenario on one kernel.

    Attributes:
        kernel: "errata" or "repaired".
    """

    scenario: str
    kernel: str
    before: Search
    after: Search

    @property
    def changed(self) -> bool:
        """Does the patch make a difference?"""
        return self.before.signature != self.after.signature

    @property
    def worse(self) -> bool:
        """Does the patch bring a finding where there was none?"""
        return bool(self.after.signature) and not self.before.signature


def survey(patch: Patch, seed: int, schedules: int, workers: int, names: Sequence[str] = ()) -> Iterator[Row]:
    """Search every scenario that comes with uvmp, or these, with the patch and without.

    Args:
        patch: as `shared.patch.read` gave it; its file is read once more in every worker.
        schedules: of one search, at most; a scenario's own bound may be less.
        workers: processes at work.
    """
    work = partial(_scenario, source=patch.source, file=patch.file, seed=seed, schedules=schedules)
    with ProcessPoolExecutor(workers) as pool:
        try:
            for rows in pool.map(work, names or configs.names("scenarios")):
                yield from rows
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _scenario(name: str, source: str, file: str, seed: int, schedules: int) -> list[Row]:
    """The rows of one scenario, in a worker."""
    switch(None)  # a worker is a copy of the process that asked
    before = _searches(name, seed, schedules)
    with applied(read(source, file)):
        after = _searches(name, seed, schedules)
    return [Row(name, kernel, before[kernel], after[kernel]) for kernel in before]


def _searches(name: str, seed: int, schedules: int) -> dict[str, Search]:
    scenario = configs.shipped(name)
    kernels = {"repaired": scenario.without_errata()}
    if scenario.errata:
        kernels = {"errata": scenario, **kernels}
    searches = {}
    for kernel, scene in kernels.items():
        limit = min(schedules, scene.bound.schedules)
        result = search(scene, seed=seed, schedules=limit)
        if result.interrupted:
            raise KeyboardInterrupt
        signature = () if result.finding is None else result.finding.signature
        searches[kernel] = Search(signature, result.schedules)
    return searches
