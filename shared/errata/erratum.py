"""An entry of the catalogue of defects."""

from __future__ import annotations

from dataclasses import dataclass

from shared.errata.big_lock import BigLock, Search, verdict
from shared.errata.big_lock_table import SEARCHES
from shared.errata.explained import Explained
from shared.findings import FINDINGS


class Status(Explained):
    """The evidence that NetBSD's UVM had a defect; the best evidence first.

    The status is about the defect. Its consequences may be inferred even where the defect
    itself is logged; then the story says so.
    """

    LOGGED = "logged", "a change log or a problem report names the defect"
    IN_SOURCE = "in the source", "source code of the period has the defective lines"
    INFERRED = "inferred", "a log or later source has the repair or the rule; we infer that UVM had the defect"
    HYPOTHETICAL = "hypothetical", "our invention: it breaks a rule that a log states; no code with the defect is known"

    @property
    def real(self) -> bool:
        """Is this a defect that NetBSD's UVM really had?"""
        return self in (Status.LOGGED, Status.IN_SOURCE)


@dataclass(frozen=True, slots=True)
class Erratum:
    """A defect of NetBSD's UVM, or a defect that UVM's rules forbid (see `Status`).

    Attributes:
        id: as given to `erratum()` in the kernel, in `errata:` and on the command line.
        name: its short name in this catalogue, as "S3a"; scenarios are called after it.
        sentence: the defect in one sentence.
        status: how it is known.
        source: file, revision and date from which it is known.
        story: what the code did, the interleaving, the symptom, the repair.
    """

    id: str
    name: str
    sentence: str
    status: Status
    source: tuple[str, ...]
    story: str

    @property
    def row(self) -> str:
        """The entry of NetBSD's logs (S) or the other source (E) that it belongs to, as "S3"."""
        return self.name.rstrip("abcdefghijklmnopqrstuvwxyz")

    @property
    def searches(self) -> dict[str, Search]:
        """Of each scenario that switches it on, first of those that switch on nothing else."""
        mine = [name for name, search in SEARCHES.items() if self.name in search.errata]
        return {name: SEARCHES[name] for name in sorted(mine, key=lambda name: len(SEARCHES[name].errata))}

    @property
    def scenarios(self) -> tuple[str, ...]:
        """Ids of the scenarios that switch it on."""
        return tuple(self.searches)

    @property
    def findings(self) -> tuple[str, ...]:
        """Kinds of finding by which it shows; none: it only costs something, and shows in results."""
        return tuple(dict.fromkeys(kind for search in self.searches.values() for kind in search.findings))

    @property
    def big_lock(self) -> BigLock:
        """How it shows on a machine with the big lock, as the searches of its scenarios came out."""
        return verdict(tuple(self.searches.values()))

    @property
    def big_lock_schedules(self) -> int:
        """In how many schedules with the big lock nothing was seen of it, over its scenarios."""
        return sum(search.schedule for search in self.searches.values() if not search.kind)

    @property
    def detectors(self) -> tuple[str, ...]:
        """The detectors that report those findings."""
        return tuple(dict.fromkeys(FINDINGS[kind].detector for kind in self.findings))


def story(text: str) -> str:
    """A story as one line, from text as it stands in the source."""
    return " ".join(text.split())
