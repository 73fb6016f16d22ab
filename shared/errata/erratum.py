"""What the catalogue knows of one defect."""

from __future__ import annotations

from dataclasses import dataclass

from shared.errors import FINDINGS


@dataclass(frozen=True, slots=True)
class Erratum:
    """One historical defect.

    Attributes:
        id: as given to `erratum()` in the kernel, in `errata:` and on the command line.
        name: its short name in this catalogue, as "S3a"; scenarios are called after it.
        sentence: the defect in one sentence.
        source: file, revision and date from which it is known.
        story: what the code did, the interleaving, the symptom, the repair.
        findings: kinds of finding by which it shows; none: it only costs something, and shows in results.
        scenarios: ids of the scenarios that switch it on.
    """

    id: str
    name: str
    sentence: str
    source: tuple[str, ...]
    story: str
    findings: tuple[str, ...]
    scenarios: tuple[str, ...] = ()

    @property
    def row(self) -> str:
        """The entry of NetBSD's logs (S) or the other source (E) that it belongs to, as "S3"."""
        return self.name.rstrip("abcdefghijklmnopqrstuvwxyz")

    @property
    def detectors(self) -> tuple[str, ...]:
        """The detectors that report those findings."""
        return tuple(dict.fromkeys(FINDINGS[kind].detector for kind in self.findings))


def story(text: str) -> str:
    """A story as one line, from text as it stands in the source."""
    return " ".join(text.split())
