"""The programs with which testers of concurrent programs are compared: each has its bug, and it is found."""

from __future__ import annotations

from statistics import fmean

import pytest

from cluster.api import Pct, explore
from cluster.boot import prepare
from cluster.runs.replay import replay
from cluster.search.walk import RandomWalk
from cluster.sim.engine import Sim
from shared.journal.deviation import Deviation
from tests.bench.compare import BEST, CAP_100, PUBLISHED, cap_of, trials
from tests.bench.sct import PROGRAMS

#: bugs that are not an assertion which fails
KINDS = {"carter01": "deadlock", "deadlock01": "deadlock"}
SMALL = [name for name in PROGRAMS if name != "SafeStack" and not name.endswith("_100")]


@pytest.mark.parametrize("name", SMALL)
def test_its_best_strategy_finds_the_bug_from_any_seed(name: str) -> None:
    """Hundreds of times sooner than the cap; `make bench` has twenty seeds, and the other strategies."""
    done = trials(name, BEST.get(name, "pos"), 5)
    finds = [schedules for schedules in done.counts if schedules is not None]
    assert len(finds) == 5 and fmean(finds) <= cap_of(name) / 100


@pytest.mark.parametrize("name", SMALL)
def test_what_is_found_is_the_bug_and_nothing_else(name: str) -> None:
    """And not that a strategy holds somebody back for whom the others wait forever."""
    report = explore(PROGRAMS[name], executions=2000)
    assert report.finding is not None and report.finding.kind == KINDS.get(name, "assertion")


def test_the_one_with_a_hundred_threads_takes_ten_schedules() -> None:
    """The mean of twenty seeds. A walk, which has to be lucky with each thread, sees nothing in 4,000."""
    counts = trials("reorder_100", "rff").counts
    assert fmean(schedules for schedules in counts if schedules is not None) <= 10 and None not in counts
    assert cap_of("reorder_100") == CAP_100


#: the schedule of a find of the random walk, shortened: thread, its operation, who preempts it there
SAFESTACK = """
    one 8 two  two 10 one  one 26 two  two 13 three  three 23 one  one 41 two  two 19 three  three 26 one  one 46 three
    three 33 two  two 26 one  one 54 three  three 37 one  one 56 two  two 36 one  one 72 two  two 53 three
"""


def test_safestack_is_beyond_a_few_thousand_schedules() -> None:
    """Its executions may continue for long, which is not a finding, and its bug needs five preemptions."""
    sim = Sim(*prepare(PROGRAMS["SafeStack"].scenario()))
    for strategy in (RandomWalk(0), Pct(0, 3)):
        assert all(sim.execute(strategy) is None for _ in range(100))


def test_safestack_has_its_bug() -> None:
    """To find such a schedule takes minutes (tests/bench/FIGURES.md)."""
    words = SAFESTACK.split()
    deviations = [
        Deviation(f"safestack_{ran}", int(n), "point", f"safestack_{to}")
        for ran, n, to in zip(words[::3], words[1::3], words[2::3], strict=True)
    ]
    finding = replay(PROGRAMS["SafeStack"].scenario(), deviations).finding
    assert finding is not None and finding.text == "safestack_two: somebody else has it too"


def test_each_program_has_its_published_figures() -> None:
    assert PUBLISHED.keys() == PROGRAMS.keys() and {len(row) for row in PUBLISHED.values()} == {5}
    assert BEST.keys() <= PROGRAMS.keys()
