"""Races of one's own: every kind of defect is found in a program of functions, and none where there is none."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import FunctionType
from typing import Any

import pytest

import cluster
from cluster import api
from cluster.api import Pct, Program, RandomWalk, explore, replay
from cluster.postmortem.load import load
from cluster.runs.replay import replay as replay_schedule
from cluster.search.strategy import Strategy
from shared.errors import UserMistake
from shared.scenario.names import RESERVED
from tests.cluster import programs
from tests.cluster.programs import DEFECTS, FIRST, add, add_locked, both_count, expects_to_be_first, setup
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
    scene = load(folder).loaded
    assert scene is not None
    with pytest.raises(UserMistake, match="replay it from Python"):
        replay_schedule(scene, [])


def test_a_kept_run_says_in_truth_how_it_is_repeated(tmp_path: Path) -> None:
    """In Python: no command has the functions. What a command says instead of a traceback is the same line."""
    broken, _ = DEFECTS["deadlock"]
    report = explore(broken)
    folder = report.save(tmp_path / "run")
    line = f'cluster.api.replay(program, "{report.token}")'
    assert eval(line, {"cluster": cluster, "program": broken}).finding == report.finding
    assert f"to repeat it: {line.removeprefix('cluster.api.')}" in str(report)
    for words in (("postmortem", folder), ("postmortem", folder, "--full")):
        told = uvmp(*words).output
        assert line in told and "uvmp replay" not in told
        assert "none (a Python program, without the kernel)" in told and "repaired kernel" not in told
    assert json.loads(uvmp("postmortem", folder, "--json").stdout)["replay"] == line
    for words in (("replay", folder), ("replay", folder, "--lenient"), ("run", "--resume", folder)):
        refused = uvmp(*words)
        assert refused.exit_code == 2 and f"only Python can repeat it: {line}" in refused.output
    by_token = uvmp("replay", report.token)
    assert by_token.exit_code == 2 and "call cluster.api.replay in Python" in by_token.output


def test_a_kept_run_without_a_token_says_that_nothing_repeats_it(tmp_path: Path) -> None:
    broken, _ = DEFECTS["deadlock"]
    report = explore(broken)
    report.outcome.token = None
    told = uvmp("postmortem", report.save(tmp_path / "run")).output
    assert "unknown: the run has no token" in told and "uvmp replay" not in told
    assert "to repeat it" not in str(report)


def user() -> None:
    pass


def takes(number: int) -> None:
    pass


def yields() -> Iterator[int]:
    yield 1


async def awaits() -> None:
    pass


@pytest.mark.parametrize(
    ("threads", "said"),
    [
        ([user], "function user cannot be a thread: a part of the machine is called user"),
        ([add_locked, user], "function user cannot be a thread"),
        ([takes], "function takes must be callable without arguments .*number"),
        ([yields], "function yields is a generator"),
        ([awaits], "function awaits is a generator or a coroutine"),
    ],
)
def test_what_is_wrong_with_a_function_is_told_with_its_name_file_and_line(threads: list[Any], said: str) -> None:
    with pytest.raises(UserMistake, match=said) as wrong:
        explore(Program(setup, threads))
    function = threads[-1]
    assert (wrong.value.file, wrong.value.line) == (__file__, function.__code__.co_firstlineno)


def test_every_name_that_no_thread_can_have_is_told_of_the_function() -> None:
    for name in (*RESERVED, "cpu", "cpu0", "intr1"):
        function = FunctionType(user.__code__, {}, name)
        with pytest.raises(UserMistake, match=f"test_api.py:.*function {name} cannot be a thread"):
            Program(setup, [function]).scenario()


def test_a_thread_may_have_any_other_name_and_none_at_all() -> None:
    """Words of YAML, two of one name, a lambda, what is no identifier, what is too long."""
    names = (
        "on",
        "null",
        "true",
        "y",
        "_private",
        "gr\u00f6\u00dfe",
        "a b: [",
        "'",
        "",
        "x" * 40,
        "x" * 40,
        "1st",
        "None",
    )
    functions = [FunctionType(user.__code__, {}, name) for name in names]
    scene = Program(setup, [*functions, lambda: None, lambda: None]).scenario()
    threads = [thread for thread, _ in scene.functions.threads] if scene.functions else []
    assert len(set(threads)) == len(names) + 2 and {"on", "null", "private", "lambda", "lambda2"} < set(threads)
    assert explore(Program(setup, functions), executions=2).finding is None


@pytest.mark.parametrize("name", ["null.py", "on.py", "1e3.py", "a: b.py"])
def test_a_program_may_stand_in_a_file_of_any_name(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("def setup(): pass\n", encoding="utf-8")
    space: dict[str, Any] = {"__name__": "any"}
    exec(compile("def setup(): pass\n", str(tmp_path / name), "exec"), space)
    assert explore(Program(space["setup"], [space["setup"]]), executions=1).finding is None


@pytest.mark.parametrize(
    ("program", "said"),
    [
        (Program(None, [user]), "setup: expected a function; found None"),  # type: ignore[arg-type]
        (Program(setup, [user, partial(takes, 1)]), r"threads\[1\]: expected a function; found functools.partial"),
        (Program(setup, [user], check=True), "check: expected a function; found True"),  # type: ignore[arg-type]
        (Program(setup, [user], operations=0), "operations: expected 1 to [0-9,]*; found 0"),
    ],
)
def test_what_is_no_function_is_told_by_its_place_in_the_program(program: Program, said: str) -> None:
    with pytest.raises(UserMistake, match=f"^{said}"):
        explore(program)


def test_functions_that_other_processes_cannot_import_are_refused_before_anything_boots(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of __main__, of a function, of a class, and of a module that is nowhere, whichever of the program it is."""

    def nothing_boots() -> None:
        raise AssertionError("Ray was started")

    def local() -> None:
        pass

    monkeypatch.setattr("cluster.live.actors.ray_session", nothing_boots)
    script = tmp_path / "script.py"
    script.write_text(
        "from cluster.api import Program, live\ndef setup(): pass\ndef work(): pass\nlive(Program(setup, [work]))\n"
    )
    ended = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
    said = f"{script}:2: setup of __main__ cannot be imported in another process"
    assert said in ended.stderr.splitlines()[-1] and "ray" not in ended.stdout.lower()
    nowhere: dict[str, Any] = {"__name__": "nowhere"}
    exec("def work(): pass", nowhere)
    for function, name in ((local, "local of tests"), (lambda: None, "<lambda>"), (nowhere["work"], "work of nowhere")):
        for program in (Program(function, [add]), Program(setup, [add, function]), Program(setup, [add], function)):
            with pytest.raises(UserMistake, match=f":[0-9]+: .*{name}.*top level of a module other than __main__"):
                api.live(program)


@pytest.mark.parametrize(
    ("threads", "said"), [([], "1 to 128 threads; found 0"), ([add_locked] * 129, "1 to 128 threads; found 129")]
)
def test_a_program_that_cannot_be_is_refused(threads: list[api.Function], said: str) -> None:
    with pytest.raises(UserMistake, match=said):
        explore(Program(setup, threads))


def keeps_its_lock() -> None:
    FIRST.lock.lock()


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
    free = api.live(Program(setup, [keeps_its_lock]))
    assert free.finding is not None and free.token is not None
    assert replay(Program(setup, [keeps_its_lock]), free.token).finding == free.finding
    told = uvmp("postmortem", free.save(tmp_path / "free")).output
    assert f'cluster.api.replay(program, "{free.token}")' in told and "uvmp replay" not in told
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
