"""What a newcomer meets in the first hour: help, mistakes, narrow terminals, closed streams, full disks, signals.

Other tests of the command are in test_cli.py.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest
from click.testing import CliRunner

import cluster.live.actors
import uvmp as uvmp_module
from cluster import signals
from cluster.cli import COMMANDS, cli
from cluster.cli.boot import SESSION
from cluster.cli.demo import part
from cluster.cli.output import MIN_WIDTH, Output, fit, program
from cluster.live.actors import ray_session
from cluster.live.watch import remove
from shared.errors import Exit, Infrastructure
from shared.text import counted
from tests.cluster.test_cli import ROOT, TINY, document, error_of, interrupted_at, on_a_terminal, our_children
from tests.kit import uvmp

#: many runs of the command, each in a process or over folders
pytestmark = pytest.mark.wide

#: the script as an installation has it, whether there is one here or not
SCRIPT = [sys.executable, str(ROOT / "uvmp.py")]
RACE = "S3a-shipped"


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    path = tmp_path / "my.yaml"
    path.write_text(TINY, encoding="utf-8")
    return path


def script(*args: object, **options: Any) -> subprocess.CompletedProcess[str]:
    options = {"capture_output": True, "text": True, "timeout": 120, **options}
    return subprocess.run([*SCRIPT, *map(str, args)], check=False, **options)


# -- help ----------------------------------------------------------------------------------


def all_commands() -> Iterator[list[str]]:
    """Every command and every command of a group, as words."""
    yield []
    for name in COMMANDS:
        yield [name]
        command = cli.get_command(click.Context(cli), name)
        if isinstance(command, click.Group):
            for below in command.commands:
                yield [name, below]


ALL = list(all_commands())
ALL_IDS = [" ".join(words) or "uvmp" for words in ALL]


def examples(words: list[str]) -> list[str]:
    return re.findall(r"^ +(uvmp .*)$", uvmp(*words, "--help").stdout.partition("Example")[2], re.MULTILINE)


def needs_live(line: str) -> bool:
    return any(word in line for word in ("--live", "--engine live", "--ray", "runs/live"))


#: commands whose examples search for long
SLOW = (["minimize"], ["fuzz"])
#: of an example that takes minutes, or needs a cluster
ELSEWHERE = ("seeds 1 ", "--all", "--address")


@pytest.fixture(scope="module")
def token() -> str:
    return str(document("explore", RACE)["token"])


def run_example(line: str, token: str) -> None:
    """As a user does, who has put a token for TOKEN and has a scenario called my.yaml."""
    result = uvmp(*shlex.split(line.replace("TOKEN", token))[1:])
    assert result.exit_code in (Exit.NO_FINDING, Exit.FINDING), f"{line}\n{result.output}"


@pytest.mark.parametrize(
    "words", [pytest.param(words, marks=pytest.mark.long if words[:1] in SLOW else ()) for words in ALL], ids=ALL_IDS
)
@pytest.mark.usefixtures("tiny", "sessions")
def test_every_example_of_every_help_runs(words: list[str], token: str) -> None:
    """Pasted as it is: the placeholder of a token is not a token, so that a stale one cannot be pasted."""
    Path("fix.py").write_text(
        'from shared.patch import declares\ndeclares("uvm_pagecopy.x", "None.")\n', encoding="utf-8"
    )
    if "fuzz" in words:
        for folder in ("runs/a", "runs/b"):
            run_example(f"uvmp fuzz --seed {folder[-1]} --programs 1 --out {folder}", token)
    if words == ["attach"]:
        for line in ("uvmp boot laptop", "uvmp boot S3a-shipped --session s3a"):
            run_example(line, token)
    commands = examples(words)
    assert commands, "a --help without an example"
    assert not [line for line in commands if "uvmp1." in line]
    for line in commands:
        if not needs_live(line) and not any(word in line for word in ELSEWHERE):
            few = "--programs 1" if "fuzz" in words else "--schedules 20"
            long = r"(?<=runs/fix)" if words == ["run"] else r"--time \w+|(?<=runs/fix)"
            run_example(re.sub(long, f" {few}", line), token)


@pytest.mark.live
@pytest.mark.usefixtures("ray_session", "tiny", "sessions")
def test_every_live_example_of_every_help_runs(token: str) -> None:
    lines = [line for words in ALL for line in examples(words) if needs_live(line)]
    for line in sorted(dict.fromkeys(lines), key=lambda line: "--out" not in line):
        run_example(line.replace("--repeat 20", "--repeat 2"), token)
    for folder in ("taken", SESSION):
        assert uvmp("attach", folder, "-c", "halt").exit_code in (Exit.NO_FINDING, Exit.FINDING)


def test_the_placeholder_of_a_token_is_refused_in_words() -> None:
    assert "as `uvmp explore` prints it" in error_of(uvmp("replay", "TOKEN"))


@pytest.mark.parametrize("words", ALL, ids=ALL_IDS)
def test_help_fits_a_narrow_terminal_and_has_no_control_characters(words: list[str]) -> None:
    for columns in (60, 80):
        text = CliRunner().invoke(cli, [*words, "--help"], terminal_width=columns).stdout
        assert [line for line in text.splitlines() if len(line) > columns] == []
        assert not re.search(r"[^\n\x20-\x7e]", text)


# -- width -----------------------------------------------------------------------------------


def to_paste(line: str) -> bool:
    return "uvmp " in line or "uvmp1." in line or len(line.split()) == 1  # a digest


@pytest.mark.parametrize("columns", [60, 80])
@pytest.mark.parametrize(
    "args",
    [
        ["scenarios"],
        ["scenarios", "show", RACE],
        ["errata"],
        ["errata", "show", "S3a"],
        ["explore", RACE],
        ["run", "S3a"],
        ["run", "S8a"],
        ["run", "nonsense"],
    ],
    ids=" ".join,
)
def test_lines_fit_the_terminal(args: list[str], columns: int) -> None:
    """Only what is to be pasted is never broken: half a token is none."""
    written = on_a_terminal(*args, COLUMNS=str(columns), NO_COLOR="1")
    written = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", written).replace("\r\n", "\n")
    lines = [line.split("\r")[-1] for line in written.split("\n")]
    assert [line for line in lines if len(line) > columns and not to_paste(line)] == []


def test_in_a_pipe_lines_are_whole() -> None:
    """Whoever greps wants a row in one line."""
    rows = uvmp("scenarios").stdout.splitlines()
    assert max(map(len, rows)) > 80
    assert all(re.match(r"\S+ +\S", row) for row in rows[1:] if row)


def test_a_broken_line_goes_on_indented(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    text = "  site of amap_cow_now.nanon-freed-locked, repaired: reached 3 times"
    assert fit(text, sys.stdout) == text, "no terminal"
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert fit(text, sys.stdout).split("\n") == [
        "  site of",
        "    amap_cow_now.nanon-freed-locked,",
        "    repaired: reached 3 times",
    ]
    for odd in ("0", "-3", "many", "²", "9" * 5000, ""):
        monkeypatch.setenv("COLUMNS", odd)
        assert fit(text, sys.stdout) == text
    monkeypatch.setenv("COLUMNS", "3")
    assert max(map(len, fit(text, sys.stdout).split("\n"))) <= MIN_WIDTH


# -- lines to paste ----------------------------------------------------------------------------


@pytest.fixture
def venv(tmp_path: Path) -> Path:
    """An installation that is not on PATH, as `make setup` leaves it: a script, and the interpreter beside it."""
    bin = tmp_path / "check out" / ".venv" / "bin"
    bin.mkdir(parents=True)
    text = f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(ROOT)!r})\nfrom uvmp import main\nmain()\n"
    (bin / "uvmp").write_text(text, encoding="utf-8")
    (bin / "uvmp").chmod(0o755)
    return bin / "uvmp"


def lines_to_paste(text: str) -> list[str]:
    return [line for line in text.splitlines() if re.match(r"(\$ )?\S*uvmp ", line.strip()) or "/uvmp' " in line]


def test_what_is_printed_to_paste_calls_the_command_as_it_was_called(venv: Path) -> None:
    """Neither `make setup` nor a call by path puts uvmp on PATH."""
    checkout = venv.parents[2]
    env = {**os.environ, "PATH": "/usr/bin:/bin", "HOME": str(checkout)}
    options: dict[str, Any] = {"cwd": checkout, "env": env, "capture_output": True, "text": True}
    done = subprocess.run([".venv/bin/uvmp", "explore", RACE], check=False, **options)
    [line] = lines_to_paste(done.stdout)
    assert line.startswith(".venv/bin/uvmp replay uvmp1.")
    again = subprocess.run(line, shell=True, check=False, **options)
    assert again.returncode == Exit.FINDING and "finding: spin-forever" in again.stdout
    shown = subprocess.run([str(venv), "scenarios", "show", RACE], check=True, **{**options, "cwd": "/usr"})
    [line] = lines_to_paste(shown.stdout)
    assert shlex.split(line)[0] == str(venv)
    env["PATH"] = f"{venv.parent}:{env['PATH']}"
    shown = subprocess.run(["uvmp", "scenarios", "show", RACE], check=True, **options)
    assert lines_to_paste(shown.stdout) == [f"uvmp explore {RACE}"]


def test_the_demos_commands_can_be_pasted(venv: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """After `make demo` the command is .venv/bin/uvmp."""
    monkeypatch.setattr(sys, "argv", [str(ROOT / "cluster" / "demo.py")])
    monkeypatch.setattr(sys, "executable", str(venv.with_name("python")))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.chdir(venv.parents[2])
    assert program() == ".venv/bin/uvmp"
    part(Output(), "1. A part", f"uvmp explore {RACE}")
    assert f"$ .venv/bin/uvmp explore {RACE}\n" in capsys.readouterr().out
    Output().say_lines("To repeat it\n  uvmp replay runs/x\nSo uvmp is called")
    assert capsys.readouterr().out == "To repeat it\n  .venv/bin/uvmp replay runs/x\nSo uvmp is called\n"


def test_make_setup_says_how_to_call_it() -> None:
    alone = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}  # not a make in a make
    done = subprocess.run(["make", "-n", "setup"], cwd=ROOT, env=alone, capture_output=True, text=True, check=True)
    last = done.stdout.splitlines()[-1]
    assert ".venv/bin/uvmp" in last and ". .venv/bin/activate" in last


def test_paths_in_printed_commands_are_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a b").mkdir()
    (tmp_path / "a b" / "it's.yaml").write_text(TINY, encoding="utf-8")
    ran = uvmp("run", "a b/it's.yaml", "--out", "a b/out")
    for line in ("\n".join(ran.stdout.splitlines()[-1:]), ran.stderr.partition("to explain it: ")[2].strip()):
        assert uvmp(*shlex.split(line)[1:]).exit_code == 0, line
    shown = uvmp("scenarios", "show", "a b/it's.yaml").stdout.splitlines()[-1]
    assert shlex.split(shown) == ["uvmp", "explore", "a b/it's.yaml"]


@pytest.mark.parametrize(
    "name", ["a\nb", "it's a\n1 '\\x0a", "\x1b[1m$(id)", os.fsdecode(b"\xff`id`"), "a\u2028b", "a\x85b"], ids=ascii
)
def test_so_are_names_that_a_terminal_would_obey(name: str, capsys: Any) -> None:
    """A line is shown without control characters, and a shell reads it as if it had them."""
    Output().command(shlex.join(["uvmp", "replay", f"runs/{name}", "--fixed"]))
    [line] = capsys.readouterr().out.splitlines()
    assert line.isprintable()
    words = subprocess.run(["bash", "-c", f"printf '%s\\0' {line}"], check=True, capture_output=True).stdout
    assert words.split(b"\0")[1:-1] == [b"replay", os.fsencode(f"runs/{name}"), b"--fixed"]


# -- streams -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "closed", "code"),
    [
        ("scenarios", ">&-", 0),
        ("run S3a", ">&-", 1),
        ("run S3a --json", "<&- >&- 2>&-", 1),
        ("doctor", ">&- 2>&-", 0),
        ("nonsense", "2>&-", 2),
        ("--help", ">&-", 0),
    ],
)
def test_closed_streams_are_no_bug_of_ours(args: str, closed: str, code: int) -> None:
    line = f"{shlex.join(SCRIPT)} {args} {closed}"
    done = subprocess.run(line, shell=True, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == code, done.stderr
    assert "bug" not in done.stderr and "Traceback" not in done.stderr


def test_a_file_does_not_take_a_closed_streams_place(tmp_path: Path) -> None:
    """Its number would be 1, and what is printed would go into it."""
    command = f"{shlex.join(SCRIPT)} run S3a --out {tmp_path}/run >&- 2>&- <&-"
    assert subprocess.run(command, shell=True, check=False).returncode == Exit.FINDING
    assert document("postmortem", tmp_path / "run")["complete"]


@pytest.mark.parametrize("args", ["scenarios", "explore S3a-shipped", "doctor"])
def test_a_reader_that_goes_away_is_no_error(args: str) -> None:
    """`| head -1`: quiet, and the exit code of a broken pipe."""
    line = f"set -o pipefail; {shlex.join(SCRIPT)} {args} | head -c 1"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode in (141, 0, 1) and len(done.stdout) == 1
    assert "error" not in done.stderr and "Traceback" not in done.stderr


# -- whose packages they are --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "args"),
    [("shared", ["doctor"]), ("cluster", ["run", "S3a"]), ("nodes", ["--help"]), ("shared", ["scenarios", "--json"])],
)
def test_another_package_of_our_name_is_told_in_words(name: str, args: list[str], tmp_path: Path) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").write_text("", encoding="utf-8")
    done = script(*args, env={**os.environ, "PYTHONPATH": str(tmp_path)}, cwd=tmp_path)
    if done.returncode != Exit.INFRASTRUCTURE:  # uvmp.py runs as a script: its folder comes first
        code = f"import sys; sys.path[:0] = {[str(tmp_path), str(ROOT)]!r}; sys.argv[1:] = {args!r}\n"
        code += "import uvmp; uvmp.main()"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == Exit.INFRASTRUCTURE
    first = f"another distribution's package {name} takes the place of uvmp's: {tmp_path}/{name}"
    assert done.stderr.startswith(f"uvmp: error: {first}") and "Traceback" not in done.stderr
    assert "an environment of its own" in done.stderr
    if "--json" in args:
        assert json.loads(done.stdout)["error"]["exit"] == Exit.INFRASTRUCTURE


def test_the_exit_codes_are_those_of_the_command() -> None:
    assert (uvmp_module.INFRASTRUCTURE, uvmp_module.INTERRUPTED) == (Exit.INFRASTRUCTURE, Exit.INTERRUPTED)


def test_ctrl_c_while_the_command_is_still_being_imported(tmp_path: Path) -> None:
    (tmp_path / "click.py").write_text("raise KeyboardInterrupt\n", encoding="utf-8")
    done = script("scenarios", env={**os.environ, "PYTHONPATH": str(tmp_path)})
    assert done.returncode == Exit.INTERRUPTED and done.stderr == "uvmp: interrupted\n"


def test_packages_that_are_mixed_with_anothers_are_told_in_words(tmp_path: Path) -> None:
    """Two wheels with the same package lie in one folder: a module of ours has another's content."""
    for name in ("cluster", "nodes", "shared"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "uvmp.py", tmp_path)
    (tmp_path / "shared" / "errors.py").write_text("", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, tmp_path / "uvmp.py", "doctor"], capture_output=True, text=True, check=False, cwd=tmp_path,
        env={**os.environ, "UVMP_FORM": ""},
    )  # fmt: skip
    assert done.returncode == Exit.INFRASTRUCTURE
    assert "mixed with another distribution's: cannot import name" in done.stderr and "Traceback" not in done.stderr


# -- full disks ------------------------------------------------------------------------------------


def small_files() -> None:
    """As on a full disk: no file can have more than 4 KiB."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))


@pytest.mark.parametrize("command", [["run", "S3a"], ["explore", "S3a"], ["replay"]], ids=["run", "explore", "replay"])
def test_a_full_disk_is_named_and_the_finding_is_not_lost(command: list[str], token: str, tmp_path: Path) -> None:
    if command == ["replay"]:
        command = ["replay", token]
    for more in ([], ["--json"]):
        done = script(*command, "--out", tmp_path / "run", *more, preexec_fn=small_files)
        assert done.returncode == Exit.INFRASTRUCTURE
        assert f"uvmp: error: {tmp_path}/run/" in done.stderr and "cannot be written (File too large)" in done.stderr
        if more:
            told = json.loads(done.stdout)
            assert told["finding"]["kind"] and told["error"]["exit"] == told["exit"] == Exit.INFRASTRUCTURE
        else:
            assert "finding: " in done.stdout
        assert not (tmp_path / "run").exists(), "half a run is none"


def test_repeated_runs_on_a_full_disk_tell_what_they_found(tmp_path: Path) -> None:
    done = script("run", "S3a", "--repeat", 3, "--out", tmp_path / "run", preexec_fn=small_files)
    assert done.returncode == Exit.INFRASTRUCTURE and "a finding in 1 of 1 run\n" in done.stdout


# -- what is asked for, and cannot be ------------------------------------------------------------------


def test_the_token_of_a_scenario_of_ones_own_asks_for_its_file(tiny: Path) -> None:
    token = document("run", tiny)["token"]
    told = error_of(uvmp("replay", token))
    asked = "which is not a shipped scenario; give its file: --scenario FILE"
    assert told == f"TOKEN: the token is of 'tiny', {asked} (of a Python program: call cluster.api.replay in Python)"
    assert uvmp("replay", token, "--scenario", tiny).exit_code == 0


def test_a_folder_of_repeated_runs_says_which_it_holds(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    uvmp("run", tiny, "--repeat", 12, "--strategy", "random", "--out", "runs")
    some = ", ".join(f"runs/{number}" for number in range(1, 9))
    for command in ("postmortem", "replay"):
        told = error_of(uvmp(command, "runs"))
        assert told == f"runs: contains 12 runs, each in its own folder: {some} and 4 more; give one folder"
        assert uvmp(command, "runs/12").exit_code == 0


def test_a_seed_without_a_choice_is_refused() -> None:
    for more in ([], ["--strategy", "stay"]):
        assert "--seed: stay makes no choices" in error_of(uvmp("run", "S3a", "--seed", "0", *more))
    assert uvmp("run", "E1", "--fixed", "--seed", "3", "--strategy", "random").exit_code == 0
    assert "all runs are equal" in uvmp("run", "S3a", "--repeat", "2").stderr


def test_a_site_that_nobody_comes_to_is_told_soon(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And not only when the whole bound has been searched."""
    monkeypatch.setattr("cluster.cli.explore.FIRST_SCHEDULES", 5)
    monkeypatch.setattr("cluster.search.explore.monotonic", itertools.count().__next__)  # progress is told every time
    tiny.write_text(TINY.replace("setup:", "errata: [S3a]\nsetup:").replace("fixed:", "with_errata:"), encoding="utf-8")
    told = uvmp("explore", tiny, "--schedules", "300").stderr
    assert re.search(r"warning: \d+ schedules have not reached the site of amap_cow_now.nanon-freed-locked", told)
    assert "nobody came" not in uvmp("explore", "E1", "--fixed", "--schedules", "60").stderr


def test_a_listing_is_told_from_what_it_lists() -> None:
    for group, word in (("errata", "S3a"), ("scenarios", "S3a-shipped"), ("scenarios", "no such")):
        told = error_of(uvmp(group, word))
        line = shlex.join(["uvmp", group, "show", word])
        assert told == f"there is no command {word!r}; did you mean: {line}"


def test_a_file_beside_us_is_meant_by_its_name_without_the_end(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tiny.parent)
    assert error_of(uvmp("run", "my")) == "SCENARIO: there is no scenario 'my'; did you mean the file my.yaml?"


def test_what_is_wrong_with_a_file_is_told_where_it_is_named(tiny: Path) -> None:
    tiny.write_text(re.sub("machine: .*", "machine: ./none.yaml", TINY), encoding="utf-8")
    told = error_of(uvmp("run", tiny))
    assert told == f"{tiny}:6: machine: {tiny.parent}/none.yaml: no such file or directory"
    tiny.write_text("id: x\n\tmachine: 1\n", encoding="utf-8")
    assert "YAML is indented with spaces" in error_of(uvmp("run", tiny))


def test_doctor_is_in_colour_on_a_terminal_alone() -> None:
    """A mark alone has colour, and what it says is never escaped."""
    assert not re.search(r"\x1b|\\x1b", uvmp("doctor").stdout)
    assert "\x1b[32mok  \x1b[0m  python: " in on_a_terminal("doctor")


@pytest.mark.parametrize("more", [[], ["--json"]])
def test_a_stream_that_is_full_is_named(more: list[str]) -> None:
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = script("run", "S3a", *more, stdout=full, stderr=subprocess.PIPE, capture_output=False)
    assert done.returncode == Exit.INFRASTRUCTURE
    assert done.stderr.splitlines()[-1] == "uvmp: error: stdout: No space left on device"


@pytest.mark.parametrize("args", ["run S3a", "doctor", "scenarios", "run S3a --out x"])
def test_a_current_folder_that_is_gone_is_told_in_words(args: str, tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    line = f"cd {tmp_path}/gone && rmdir ../gone && {shlex.join(SCRIPT)} {args}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=60, check=False)
    if args == "doctor":
        assert done.returncode == 0 and "current folder: .: no such file or directory" in done.stdout
    elif args.endswith("x"):
        assert done.returncode == Exit.USAGE
        assert "x: --out: cannot be made: no such file or directory" in done.stderr
    else:
        assert done.returncode in (0, 1) and "error" not in done.stderr


def test_names_without_a_letter_or_with_very_many_are_refused() -> None:
    assert error_of(uvmp("postmortem", "")) == "RUN: expected the name of a folder"
    for command in ("run", "explore", "replay", "postmortem"):
        result = uvmp(command, "x" * 5000)
        assert result.exit_code == Exit.USAGE and len(error_of(result)) < 500


def test_a_site_that_was_not_reached_is_never_reached(tiny: Path) -> None:
    assert "site of amap_cow_now.nanon-freed-locked: never reached" in uvmp("run", tiny, "--errata", "S3a").stdout


def test_one_schedule_is_not_some_schedules() -> None:
    result = uvmp("explore", "E1", "--fixed", "--schedules", "1")
    assert "not seen in 1 schedule (" in result.stdout and "exploring up to 1 schedule (" in result.stderr
    assert "1 schedules" not in result.output
    assert "a finding in 1 of 1 run\n" in uvmp("run", "S3a", "--repeat", "1").stdout
    assert [counted(number, "run") for number in (0, 1, 2, 1000)] == ["0 runs", "1 run", "2 runs", "1,000 runs"]


# -- signals ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT], ids=lambda signal_: signal_.name)
def test_every_signal_that_ends_a_search_tells_what_it_knows(by: signal.Signals) -> None:
    code, out, err = interrupted_at("explored ", "explore", "E1", "--fixed", "--schedules", "1000000", by=by)
    assert code == Exit.INTERRUPTED
    assert re.search(r"not seen in [\d,]+ schedules of 1,000,000, interrupted", out) and "Traceback" not in err


def test_what_nohup_ignores_stays_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    with signals.restored():
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signals.listen()
        with signals.deferred():
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        os.kill(os.getpid(), signal.SIGHUP)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)  # timeout(1) sends it twice: what ends is not interrupted again
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt), signals.deferred():
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)
        signals.listen()
        with pytest.raises(KeyboardInterrupt), signals.deferred():
            os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)  # the parent passes on what the terminal has sent here too


@pytest.fixture
def place() -> Iterator[Path]:
    """A temporary folder with a name as short as the sockets of a private Ray need it."""
    folder = Path(tempfile.mkdtemp(prefix="u", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.live
@pytest.mark.parametrize(
    ("by", "when"),
    [
        pytest.param(signal.SIGTERM, "run 1 of", id="TERM"),
        pytest.param(signal.SIGHUP, "booted", id="HUP", marks=pytest.mark.long),
        pytest.param(signal.SIGTERM, "starting a private Ray", id="TERM-early", marks=pytest.mark.long),
    ],
)
def test_signals_end_a_live_machine_as_ctrl_c_does(
    by: int, when: str, tmp_path: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sent to the whole group, as timeout(1) and a closed terminal do; nothing stays, no process and no file."""
    monkeypatch.setenv("UVMP_TEST", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(place))
    code, _, err = interrupted_at(when, "run", RACE, "--engine", "live", "--repeat", 50, by=by)
    monkeypatch.delenv("UVMP_TEST")
    assert code == Exit.INTERRUPTED, err
    assert "Traceback" not in err and "Fatal" not in err and "*** " not in err
    assert our_children(str(tmp_path)) == []
    assert list(place.iterdir()) == []


class FakeRay:
    """Of Ray, what starting and stopping it needs; the first `failures` starts fail."""

    def __init__(self, failures: int):
        self.failures, self.started, self.shutdowns = failures, list[dict[str, Any]](), 0
        services = SimpleNamespace(ConsolePopen=subprocess.Popen)
        utils = SimpleNamespace(set_sigterm_handler=lambda handler: signal.signal(signal.SIGTERM, handler))
        self._private = SimpleNamespace(services=services, utils=utils, worker=SimpleNamespace())

    def is_initialized(self) -> bool:
        return False

    def init(self, **options: Any) -> None:
        self.started.append(options)
        assert options["address"] != "local" or os.environ["RAY_AUTH_MODE"] == "token"
        self._private.utils.set_sigterm_handler(signal.SIG_DFL)
        process = self._private.services.ConsolePopen(["sleep", "60"])
        assert os.getpgid(process.pid) == process.pid, "Ctrl-C reaches it"
        process.kill()
        process.wait()
        if len(self.started) <= self.failures:
            raise TimeoutError("the node has not\nregistered")

    def shutdown(self) -> None:
        self.shutdowns += 1


@pytest.mark.parametrize(("failures", "address", "starts"), [(0, None, 1), (1, None, 2), (2, None, 2), (1, "h:1", 1)])
def test_a_ray_that_does_not_start_is_started_once_more(
    failures: int, address: str | None, starts: int, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a machine where another live run begins; whatever happens, no folder and no patch of Ray's stays."""
    ray, told = FakeRay(failures), list[str]()
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setattr("cluster.live.actors.RETRY_AFTER_S", 0.0)
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    for name in ("RAY_USAGE_STATS_ENABLED", "RAY_DEDUP_LOGS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN"):
        monkeypatch.setenv(name, "x")
    handler = signal.getsignal(signal.SIGTERM)
    with contextlib.ExitStack() as stack:
        session = ray_session(address, told.append)
        if failures < starts:
            assert stack.enter_context(session) is ray
        else:
            with pytest.raises(Infrastructure, match=r"cannot be reached or started .*: the node has not$"):
                stack.enter_context(session)
        assert len(ray.started) == starts
        assert [("_temp_dir" in options) for options in ray.started] == [address is None] * starts
    assert len(told) == (starts - 1) and all("; trying again in 0 s" in note for note in told)
    assert ray.shutdowns == starts and list(place.iterdir()) == []
    assert signal.getsignal(signal.SIGTERM) == handler
    assert ray._private.services.ConsolePopen is subprocess.Popen


def test_a_folder_for_sockets_has_a_short_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/tmp/" + "x" * 60)
    folder = cluster.live.actors._folder()
    assert folder is not None and len(folder + cluster.live.actors.INSIDE) <= cluster.live.actors.MAX_FOLDER
    remove(folder)
    assert not Path(folder).exists()
