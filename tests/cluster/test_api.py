"""Races of one's own: every kind of defect is found in a program of functions, and none where there is none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from cluster import api
from cluster.api import Pct, Program, RandomWalk, explore, replay
from cluster.search.strategy import Strategy
from shared.errors import UserMistake
from tests.cluster import programs
from tests.cluster.programs import DEFECTS, FIRST, add_locked, both_count, expects_to_be_first, setup
from tests.kit import uvmp

STRATEGIES = (lambda: Pct(depth=2), lambda: RandomWalk(seed=1))


@pytest.mark.parametrize("strategy", STRATEGIES, ids=["pct", "random"])
@pytest.mark.parametrize("kind", DEFECTS)
def test_a_defect_is_found_replayed_and_explained(kind: str, strategy: Callable[[], Strategy], tmp_path: Path) -> None:
    broken, _ = DEFECTS[kind]
    report = explore(broken, strategy())
    assert report.finding is not None and report.finding.kind == kind, str(report)
    assert report.token is not None and report.token in str(report) and kind in str(report)
    again = replay(broken, report.token)
    assert again.finding == report.finding and again.outcome.digest == report.outcome.digest
    folder = report.save(tmp_path / "run")
    told = uvmp("postmortem", folder)
    assert told.exit_code == 0 and report.finding.text[:40] in " ".join(told.output.split()), told.output


@pytest.mark.parametrize("strategy", STRATEGIES, ids=["pct", "random"])
@pytest.mark.parametrize("kind", DEFECTS)
def test_nothing_is_found_where_nothing_is_wrong(kind: str, strategy: Callable[[], Strategy]) -> None:
    _, sound = DEFECTS[kind]
    report = explore(sound, strategy(), executions=200)
    assert report.finding is None and report.executions == 200
    assert str(report) == "no finding in 200 executions"


def test_an_assertion_of_a_threads_own_is_a_finding_with_its_line() -> None:
    report = explore(Program(setup, [expects_to_be_first, expects_to_be_first]))
    assert report.finding is not None and report.finding.kind == "assertion"
    assert report.finding.text == "expects_to_be_first: assert FIRST.value == 0"
    assert report.finding.context == "expects_to_be_f2"


def test_another_error_is_the_users_with_its_line() -> None:
    def fails() -> None:
        FIRST.lock.lock()
        raise KeyError("missing")

    with pytest.raises(UserMistake, match=r"test_api\.py:\d+: KeyError: 'missing'"):
        explore(Program(setup, [fails]))


def test_a_check_may_only_read() -> None:
    def writes() -> None:
        FIRST.value = 3

    with pytest.raises(UserMistake, match="a check may read structs"):
        explore(Program(setup, [add_locked], writes))


def test_programs_can_be_local_functions_and_run_inside_another() -> None:
    seen = []

    def outer_setup() -> None:
        seen.append(explore(Program(setup, [add_locked, add_locked], both_count), executions=3).finding)
        setup()  # in the outer one's memory

    def worker() -> None:
        add_locked()

    report = explore(Program(outer_setup, [worker, worker], both_count), executions=5)
    assert report.finding is None and set(seen) == {None}


def test_functions_that_one_function_has_made_are_each_their_own() -> None:
    """They have one name, and would all be the last of them."""

    def adds(amount: int) -> Callable[[], None]:
        def worker() -> None:
            FIRST.lock.lock()
            FIRST.value += amount
            FIRST.lock.unlock()

        return worker

    def check() -> None:
        assert FIRST.value == 1 + 10

    assert explore(Program(setup, [adds(1), adds(10)], check), executions=20).finding is None


def test_a_token_is_of_one_program_alone() -> None:
    broken, sound = DEFECTS["deadlock"]
    token = explore(broken).token
    assert token is not None
    with pytest.raises(UserMistake, match="the token was made for"):
        replay(sound, token)
    with pytest.raises(UserMistake, match="the token was made for"):
        api.live(sound, token)


def test_a_folder_does_not_bring_functions_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process performs what it was given, and imports nothing because a file says so."""
    broken, _ = DEFECTS["deadlock"]
    folder = explore(broken).save(tmp_path / "run")
    monkeypatch.setattr("shared.program.functions._KNOWN", {})
    result = uvmp("replay", folder)
    assert result.exit_code == 2 and "replay it from Python" in result.output


@pytest.mark.parametrize(
    ("threads", "said"), [([], "1 to 128 threads; found 0"), ([add_locked] * 129, "1 to 128 threads; found 129")]
)
def test_a_program_that_cannot_be_is_refused(threads: list[api.Function], said: str) -> None:
    with pytest.raises(UserMistake, match=said):
        explore(Program(setup, threads))


@pytest.mark.live
@pytest.mark.usefixtures("ray_session")
def test_a_program_runs_on_real_processes(tmp_path: Path) -> None:
    for kind in ("assertion", "held-at-exit"):  # by its schedule; by a choice of data
        broken, sound = DEFECTS[kind]
        report = explore(broken)
        assert report.token is not None
        followed = api.live(broken, report.token)
        assert followed.finding == report.finding and followed.outcome.digest == report.outcome.digest
    folder = followed.save(tmp_path / "run")
    files = [*folder.glob("*.uvmp.jsonl"), folder / "run.json"]
    assert len(files) > 3 and all('"engine":"live"' in file.read_text().replace(" ", "") for file in files)
    assert api.live(sound).finding is None


def test_the_example_of_the_module_is_as_it_says(tmp_path: Path) -> None:
    assert api.__doc__ is not None
    lines = [line[4:] for line in api.__doc__.split("\n") if line.startswith("    ") or not line]
    text = "\n".join(lines).split("print(")[0].strip()
    text = text[text.index("from cluster.api") :].replace("kind=128", 'kind=229, name="documented"') + "\n"
    space: dict[str, object] = {"__name__": "example"}
    exec(compile(text, str(tmp_path / "example.py"), "exec"), space)
    program = Program(space["setup"], [space["worker"], space["worker"]], space["check"])  # type: ignore[arg-type]
    report = explore(program, Pct(depth=2))
    assert report.finding is not None and report.finding.text == "check: an update is lost"
    assert programs.Counter.kind != 229
