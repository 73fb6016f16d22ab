"""The pytest plugin: the marker `uvmp` makes a test of a search.

    @pytest.mark.uvmp(schedules=2000)
    def test_the_account():
        return Program(setup, [payer, payer], check)       # cluster.api

    @pytest.mark.uvmp("S3a-shipped", finding="spin-forever")
    def test_the_race_is_there(): ...

The first test passes if no schedule of the program has a finding, the second one if a schedule of the scenario has
this finding. A failure tells the finding, its token, and how to repeat it.

A schedule that had a finding is remembered in pytest's cache, and comes first the next time: a test that failed fails
at once as long as its defect is there. The rest of the search is the same in each run.

Left out: real processes (cluster.api.live).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from cluster.runs.outcome import Outcome
    from shared.scenario.model import Scenario

MARKER = "uvmp"
HELP = (
    "uvmp(scenario=None, *, finding=None, exhaust=False, fixed=False, strategy=None, schedules=None, seed=0): search "
    "the schedules of a scenario, or of the cluster.api.Program that the test returns."
)
#: findings of one test that are remembered
MOST = 4


@dataclass(frozen=True)
class Wanted:
    """The arguments of the marker.

    Attributes:
        scenario: id of a scenario that comes with uvmp, or a path from the test's folder; None: the test returns a
            Program.
        finding: the kind of finding that must be there, as "deadlock"; None: there must be none.
        exhaust: it is not enough that no schedule had a finding: the search must have seen every class of schedules.
        fixed: without the scenario's errata.
        strategy: by its name; None: "dpor" to exhaust, else the scenario's.
        schedules: at most; None: the scenario's bound.
        seed: of the strategy.
    """

    scenario: str | None = None
    finding: str | None = None
    exhaust: bool = False
    fixed: bool = False
    strategy: str | None = None
    schedules: int | None = None
    seed: int = 0


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", HELP)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Call a marked test, and search what it means."""
    mark = pyfuncitem.get_closest_marker(MARKER)
    if mark is None:
        return None
    wanted = _wanted(mark.args, mark.kwargs)
    names = pyfuncitem._fixtureinfo.argnames
    returned = pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names})
    from shared.errors import UserMistake  # noqa: PLC0415 - a session without such a test does not wait for it

    try:
        failure = _search(_scenario(wanted, returned, pyfuncitem.path.parent), wanted, pyfuncitem)
    except UserMistake as mistake:
        failure = f"uvmp: {mistake}"
    if failure is not None:
        pytest.fail(failure, pytrace=False)
    return True


def _wanted(args: tuple[object, ...], kwargs: Mapping[str, Any]) -> Wanted:
    known = [field.name for field in fields(Wanted)]
    unknown = sorted(set(kwargs) - set(known))
    if unknown or len(args) > 1:
        what = f"no argument {unknown[0]!r}" if unknown else f"{len(args)} arguments without a name"
        pytest.fail(f"the marker {MARKER} has {what}; known: {', '.join(known)}", pytrace=False)
    return Wanted(*args, **kwargs)  # type: ignore[arg-type]


def _scenario(wanted: Wanted, returned: object, folder: Path) -> Scenario:
    """The scenario that is searched.

    Raises: UserMistake.
    """
    from cluster import configs  # noqa: PLC0415
    from cluster.api import Program  # noqa: PLC0415
    from shared.errors import UserMistake  # noqa: PLC0415

    if wanted.scenario is None:
        if not isinstance(returned, Program):
            raise UserMistake(f"the test returns {type(returned).__name__}; expected a Program, or a marked scenario")
        return returned.scenario()
    text = wanted.scenario
    scenario = configs.scenario(str(folder / text) if configs.is_path(text) else text).scenario
    return scenario.without_errata() if wanted.fixed else scenario


def _search(scenario: Scenario, wanted: Wanted, item: pytest.Function) -> str | None:
    """Search. Returns: why the test fails; None: it passes."""
    from cluster.search.explore import explore  # noqa: PLC0415

    key, cache = f"{MARKER}/{item.nodeid}", item.config.cache
    tokens: list[str] = [] if cache is None else cache.get(key, [])
    for token in tokens:
        again = _again(scenario, token)
        if again is not None and again.finding is not None:
            return _judged(again, wanted, "a schedule of an earlier run")
    strategy = wanted.strategy or ("dpor" if wanted.exhaust else None)
    result = explore(scenario, strategy, wanted.seed, wanted.schedules)
    if result.outcome is not None:
        if cache is not None and result.token is not None:
            cache.set(key, list(dict.fromkeys([str(result.token), *tokens]))[:MOST])
        return _judged(result.outcome, wanted, f"schedule {result.found_at:,}")
    if wanted.finding is not None:
        return f"no {wanted.finding} in {result.schedules:,} schedules ({result.strategy}, seed {result.seed})"
    if wanted.exhaust and not (result.coverage is not None and result.coverage.exhausted):
        return f"not exhausted: no finding in {result.schedules:,} schedules ({result.strategy}), and there are more"
    return None


def _again(scenario: Scenario, token: str) -> Outcome | None:
    """The schedule of a finding once more, as far as it can be taken; None: there is none in this text."""
    from cluster.runs.replay import replay  # noqa: PLC0415
    from cluster.runs.token import parse, token_of  # noqa: PLC0415
    from shared.errors import UserMistake  # noqa: PLC0415

    try:
        deviations = list(parse(token).deviations)
    except UserMistake:
        return None
    outcome = replay(scenario, deviations, strict=False)
    outcome.token = token_of(scenario, outcome.deviations)
    return outcome


def _judged(outcome: Outcome, wanted: Wanted, where: str) -> str | None:
    """Why a finding fails the test, and how to see it again; None: it is the wanted one."""
    finding = outcome.finding
    assert finding is not None
    if finding.kind == wanted.finding:
        return None
    lines = [f"{finding.kind}: {finding.text}"]
    if wanted.finding is not None:
        lines.append(f"  the test expects {wanted.finding}")
    details = (("in", where), ("function", finding.function), ("object", finding.subject), ("context", finding.context))
    lines += [f"  {label:8}  {value}" for label, value in details if value]
    lines += [f"  {'also':8}  {line}" for line in finding.story]
    if outcome.token is not None:
        repeat = "cluster.api.replay(PROGRAM, TOKEN)" if wanted.scenario is None else "uvmp replay TOKEN"
        lines += [f"  {'token':8}  {outcome.token}", f"  {'repeat':8}  {repeat}"]
    return "\n".join(lines)
