"""A report in JUnit's format, as CI systems read it."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree

from cluster.search.campaign import Row
from shared.text import clean

#: characters of a message
LONGEST = 2_000
DIED = "the process that searched this scenario died"


def report(rows: Sequence[Row], expecting: bool) -> str:
    """The report: each search is a test case.

    Args:
        expecting: a test fails if the scenario's expectation does not hold; else, if there is a finding.
    """
    failures = [row.unmet if expecting else row.cause and f"{row.text}\n{row.token or ''}" for row in rows]
    failed, lost = sum(map(bool, failures)), sum(row.lost for row in rows)
    counts = {"tests": str(len(rows)), "failures": str(failed), "errors": str(lost)}
    time = f"{sum(row.seconds for row in rows):.3f}"
    suite = ElementTree.Element("testsuite", {"name": "uvmp", "time": time, **counts})
    for row, failure in zip(rows, failures, strict=True):
        about = {"classname": "uvmp", "name": clean(row.scenario, 200), "time": f"{row.seconds:.3f}"}
        element = ElementTree.SubElement(suite, "testcase", about)
        for kind, text in (("failure", failure), ("error", DIED if row.lost else None)):
            if text:
                message = clean(text.splitlines()[0], LONGEST)
                ElementTree.SubElement(element, kind, {"message": message}).text = clean(text, LONGEST)
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True)
