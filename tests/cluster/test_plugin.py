"""The pytest plugin (cluster/plugin.py), by tests of tests."""

from __future__ import annotations

import pytest

pytest_plugins = ["pytester"]

#: a program that loses an update in some schedule, unless it keeps its lock
ACCOUNT = """
import pytest
from cluster.api import Program, Struct, field, new, own, simplelock

class Account(Struct, kind=231):
    guards = {"o": own("lock")}
    lock = simplelock("account")
    value = field("o")

ACCOUNT = Account.at(0)
KEPT = False

def setup():
    new(Account).value = 0

def payer():
    ACCOUNT.lock.lock()
    value = ACCOUNT.value
    if not KEPT:
        ACCOUNT.lock.unlock()
        ACCOUNT.lock.lock()
    ACCOUNT.value = value + 1
    ACCOUNT.lock.unlock()

def check():
    assert ACCOUNT.value == 2, "an update is lost"
"""


def account(mark: str = "", kept: bool = False, kind: int = 231) -> str:
    """A test file's one test of the program; two files of one run have structs of different kinds."""
    test = f"\n@pytest.mark.uvmp({mark})\ndef test_account():\n    return Program(setup, [payer, payer], check)\n"
    return ACCOUNT.replace("231", str(kind)).replace("KEPT = False", f"KEPT = {kept}") + test


def ran(pytester: pytest.Pytester, **files: str) -> pytest.RunResult:
    pytester.makepyfile(**files)
    return pytester.runpytest_subprocess("--strict-markers", "-v")


def test_a_finding_fails_the_test_and_comes_first_the_next_time(pytester: pytest.Pytester) -> None:
    """Also after the program has changed, as long as its defect is there; once it is repaired, the search decides."""
    first = ran(pytester, test_made=account())
    first.assert_outcomes(failed=1)
    first.stdout.fnmatch_lines(["assertion: *an update is lost*", "  in        schedule *", "  token     uvmp1.*"])
    assert "plugin.py" not in first.stdout.str()
    again = ran(pytester, test_made=account() + "# another source\n")
    again.assert_outcomes(failed=1)
    again.stdout.fnmatch_lines(["  in        a schedule of an earlier run", "  token     uvmp1.*"])
    ran(pytester, test_made=account(kept=True)).assert_outcomes(passed=1)


#: marker, whether the program keeps its lock, whether the test passes
ASKED = [
    ("finding='assertion'", False, True),
    ("finding='assertion'", True, False),
    ("finding='deadlock'", False, False),
    ("exhaust=True", True, True),
    ("exhaust=True", False, False),
    ("exhaust=True, schedules=1", True, False),
    ("strategy='random', seed=3, schedules=50", True, True),
    ("'S3a-shipped', finding='spin-forever', strategy='pct'", False, True),
    ("'S3a-shipped', fixed=True, schedules=20", False, True),
    ("'S3a-shipped', finding='deadlock', strategy='pct'", False, False),
]
#: text of a test that is a mistake -> what is told of it
MISTAKES = {
    "@pytest.mark.uvmp\ndef test_x(): return 3": "uvmp: the test returns int; expected a Program*",
    "@pytest.mark.uvmp(schedule=3)\ndef test_x(): ...": "the marker uvmp has no argument 'schedule'; known: *",
    "@pytest.mark.uvmp('a', 'b')\ndef test_x(): ...": "the marker uvmp has 2 arguments without a name*",
    "@pytest.mark.uvmp('S99x')\ndef test_x(): ...": "uvmp: *S99x*",
    "@pytest.mark.uvmp('no.yaml')\ndef test_x(): ...": "uvmp: *no.yaml*",
    "@pytest.mark.uvmp('S3a', strategy='luck')\ndef test_x(): ...": "uvmp: there is no strategy 'luck'*",
}


def test_what_a_marked_test_asks_for(pytester: pytest.Pytester) -> None:
    files = {f"test_{number}": account(mark, kept, 231 + number) for number, (mark, kept, _) in enumerate(ASKED)}
    lines = ran(pytester, **files).stdout.str().splitlines()
    for number, (mark, _, passes) in enumerate(ASKED):
        line = next(line for line in lines if line.startswith(f"test_{number}.py::"))
        assert ("PASSED" if passes else "FAILED") in line, mark


def test_a_mistake_is_told_in_a_line(pytester: pytest.Pytester) -> None:
    result = ran(pytester, **{f"test_{at}": f"import pytest\n{text}\n" for at, text in enumerate(MISTAKES)})
    result.assert_outcomes(failed=len(MISTAKES))
    result.stdout.fnmatch_lines_random(list(MISTAKES.values()))
    assert "Traceback" not in result.stdout.str()


def test_other_tests_are_left_alone_and_marked_tests_have_their_fixtures(pytester: pytest.Pytester) -> None:
    fixture = account(kept=True).replace("def test_account():", "def test_account(tmp_path):\n    tmp_path.rmdir()")
    plain = "def test_plain(tmp_path): assert tmp_path.is_dir()\ndef test_wrong(): assert 1 == 2\n"
    result = ran(pytester, test_plain=plain, test_fixture=fixture)
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(["E*assert 1 == 2"])


def test_the_marker_is_listed(pytester: pytest.Pytester) -> None:
    result = pytester.runpytest_subprocess("--markers")
    result.stdout.fnmatch_lines(["@pytest.mark.uvmp(scenario=None, *"])
