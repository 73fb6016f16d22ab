"""The messages of a search by several processes: what is searched, a batch, and its result.

The owner of the search tells each worker once what is searched (`Job`), and then sends batches: executions of
strategies that choose at random (`Walks`). A worker answers with one account of all of them (`Ran`), and of each only
what the owner has to know of each.

Lists for tuples are what is left of them on the way.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import shared.scenario.pack  # noqa: F401 - says how a step of a scenario is read
from cluster.runs.token import kernel_version
from cluster.search.explore import Account
from cluster.search.near import Site
from shared.errors import Infrastructure
from shared.findings import Finding
from shared.journal.deviation import Deviation
from shared.journal.record import Held
from shared.patch import current, switch
from shared.scenario.model import Results, Scenario
from shared.wire.codec import Form, encode
from shared.wire.tables import differing, tables
from shared.wire.typed import reader


@dataclass(frozen=True)
class Job:
    """The setup of a search.

    Attributes:
        strategy: by its name; near: pct aimed at the sites.
        sites: for strategies that can be aimed.
        begin: journals of the operations with which each execution begins.
    """

    scenario: Scenario
    strategy: str
    seed: int = 0
    sites: tuple[Site, ...] = ()
    granularity: str = "guarded"
    begin: Held | None = None

    def setup(self, elsewhere: bool = False) -> bytes:
        """The first message to a worker.

        Args:
            elsewhere: it is on another computer.
        """
        return encode(JOB, Sent(self, Terms.of(elsewhere)))


class Terms(NamedTuple):
    """The properties that a worker must share with the owner of the batches.

    Attributes:
        version: of the kernel's source; "": it is the same.
        patch: file and text of the patch that is applied.
        tables: see shared/wire/tables.py.
    """

    version: str
    patch: tuple[str, str] | None
    tables: Mapping[str, str]

    @classmethod
    def of(cls, elsewhere: bool) -> Terms:
        """Those of this process.

        Args:
            elsewhere: the worker is on another computer, where the kernel's source may be another; to compare takes a
                while.
        """
        patch = current()
        sent = None if patch is None else (patch.file, patch.source)
        return cls(kernel_version() if elsewhere else "", sent, dict(tables()))

    def agree(self) -> None:
        """Apply the patch to this process.

        Raises: UserMistake - the patch cannot be applied; Infrastructure - this process has other source.
        """
        wrong = differing(self.tables, tables())
        if wrong:
            raise Infrastructure(f"a worker has other source than the search: its {' and '.join(wrong)} differ")
        switch(self.patch)
        if self.version not in ("", kernel_version()):
            raise Infrastructure("a worker has other source than the search: its kernel differs")


class Sent(NamedTuple):
    """A job, and what its worker must have as its owner has it."""

    job: Job
    terms: Terms


class Walks(NamedTuple):
    """Executions of strategies that choose at random; the answer is `Done`.

    Attributes:
        first: number of the first one, from 0.
        turns: whose turn each of them is.
        racy: fields that are points from the beginning.
        knowledge: `Sampling.knowledge` of each strategy, as bytes.
    """

    first: int
    turns: list[str]
    racy: list[str]
    knowledge: bytes


class Confirmed(NamedTuple):
    """A finding that a recorded execution has, too.

    Attributes:
        seen: as the execution that was not recorded had it.
        results: of its programs.
    """

    seen: Finding
    deviations: list[Deviation]
    results: Results


@dataclass
class Ran(Account):
    """The result of executions, up to the first confirmed finding.

    Attributes:
        classes: of each execution, the hash of its class.
        lessons: of each, `Sampling.lesson` of whose turn it was.
        findings: which executions had a finding, from 0, if only while they were not recorded.
        grown: fields that have become racy.
        confirmed: the finding of the last execution.
    """

    classes: list[int] = field(default_factory=list)
    lessons: list[object] = field(default_factory=list)
    findings: list[int] = field(default_factory=list)
    grown: frozenset[str] = frozenset()
    confirmed: Confirmed | None = None


class Done(NamedTuple):
    """The result of a batch.

    Attributes:
        ran: its executions. Findings are confirmed of the first results that the scenario does not expect, and of what
            ended the batch.
        results: of the programs, of the last execution.
    """

    ran: list[Ran]
    results: Results

    def schedules(self) -> int:
        """How many executions it had."""
        return sum(ran.schedules for ran in self.ran)


JOB: Form[Sent] = Form("job", 1 << 26, reader(Sent))
WALKS: Form[Walks] = Form("walks", 1 << 26, reader(Walks))
DONE: Form[Done] = Form("done", 1 << 28, reader(Done), tuples=True)
KNOWLEDGE: Form[dict[str, object]] = Form("knowledge", 1 << 25, tuples=True)
