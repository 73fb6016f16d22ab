"""A report in JUnit's format, as CI systems read it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

from shared.text import clean

#: characters of a message
LONGEST = 2_000


@dataclass(frozen=True, slots=True)
class Case:
    """One search.

    Attributes:
        failure: why it fails as a test; None: it passes.
        error: why it could not be done.
    """

    name: str
    seconds: float
    failure: str | None = None
    error: str | None = None


def report(cases: Sequence[Case]) -> str:
    """The report."""
    failures, errors = sum(case.failure is not None for case in cases), sum(case.error is not None for case in cases)
    counts = {"tests": str(len(cases)), "failures": str(failures), "errors": str(errors)}
    time = f"{sum(case.seconds for case in cases):.3f}"
    suite = ElementTree.Element("testsuite", {"name": "uvmp", "time": time, **counts})
    for case in cases:
        about = {"classname": "uvmp", "name": clean(case.name, 200), "time": f"{case.seconds:.3f}"}
        element = ElementTree.SubElement(suite, "testcase", about)
        for kind, text in (("failure", case.failure), ("error", case.error)):
            if text is not None:
                message = clean(text.splitlines()[0], LONGEST)
                ElementTree.SubElement(element, kind, {"message": message}).text = clean(text, LONGEST)
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True)
