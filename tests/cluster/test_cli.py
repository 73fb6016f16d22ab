"""The command: what it prints where, which exit code it ends with, and how it refuses bad input.

Most tests call the command in this process. Those about modules, signals and
terminals start it as a user does. What boots Ray is marked `live`.
"""

from __future__ import annotations

import json
import os
import pty
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

import cluster.cli.explore
import cluster.doctor
from cluster import configs
from cluster.cli import COMMANDS, cli
from cluster.cli.options import Options, choose
from cluster.runs.token import Token, parse, token_of
from cluster.search import SEARCHING
from shared import FORM
from shared.errata import ERRATA
from shared.errors import Exit, UserMistake
from shared.port.port import panic
from tests.kit import CONFIGS, SHIPPED, scenario, uvmp

ROOT = CONFIGS.parent
RACE = "S3a-shipped"
ERRATUM = "amap_cow_now.nanon-freed-locked"
TINY = """\
id: tiny
name: tiny
title: A process that reads what it wrote
story: None of its own.
source: ["a test"]
machine: {cpus: 2, frames: 24, swap_slots: 32, page_size: 64}
setup:
  - process: {as: A, cpu: 0}
  - mmap: {in: A, as: buf, pages: 2}
  - write: {in: A, at: "buf[0]", value: 1}
programs:
  A:
    - read: {at: "buf[0]", into: r0}
    - write: {at: "buf[1]", value: 7}
    - read: {at: "buf[1]", into: r1}
expect:
  fixed: {finding: none, results: {r0: 1, r1: 7}}
bound: {strategy: random, schedules: 20}
"""


def document(*args: object) -> Any:
    """What --json prints, and nothing else on stdout."""
    return json.loads(uvmp(*args, "--json").stdout)


def started(*args: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """The command as a process of its own."""
    command = [sys.executable, "-m", "cluster.cli", *map(str, args)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False, **options)


def error_of(result: Result) -> str:
    """The one line of a complaint."""
    lines = [line for line in result.stderr.splitlines() if line.startswith("uvmp: ")]
    assert len(lines) == 1, result.stderr
    assert "Traceback" not in result.stderr
    return lines[0].removeprefix("uvmp: error: ")


def spy(monkeypatch: pytest.MonkeyPatch, name: str) -> list[str]:
    """In place of this function comes one that fails; the list has its name once for each call."""
    calls: list[str] = []

    def instead(*_: object, **__: object) -> None:
        calls.append(name)
        raise RuntimeError(f"{name} was called")

    monkeypatch.setattr(name, instead)
    return calls


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def search() -> Any:
    """An exploration that found the race, as --json has it."""
    return document("explore", RACE)


@dataclass
class Folder:
    """A run folder that `replay --out` made."""

    path: Path
    digest: str


@pytest.fixture(scope="module")
def folder(search: Any, tmp_path_factory: pytest.TempPathFactory) -> Folder:
    path = tmp_path_factory.mktemp("runs") / "kept"
    return Folder(path, document("replay", search["token"], "--out", path)["digest"]["sim"])


# -- the command as a whole ----------------------------------------------------------------


def test_help_lists_every_command_with_examples_and_exit_codes() -> None:
    result = uvmp("--help")
    assert result.exit_code == 0
    for name in COMMANDS:
        assert f"  {name} " in result.stdout
    assert "uvmp explore S3a-shipped" in result.stdout
    assert "130 interrupted" in result.stdout


@pytest.mark.parametrize("name", [*COMMANDS, "scenarios show", "errata show"])
def test_help_of_each_command_shows_an_example(name: str) -> None:
    result = uvmp(*name.split(), "--help")
    assert result.exit_code == 0
    assert re.search(rf"Examples?:\s+uvmp {name}", result.stdout)
    assert "--json" in result.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_of_commands_says_what_the_commands_themselves_do(name: str) -> None:
    """It is written apart from their help, to load none of them; a part of its words are of that help."""
    command = cli.get_command(None, name)  # type: ignore[arg-type]
    assert command is not None and command.name == name and command.help is not None
    listed, own = (
        {word[:5] for word in re.findall(r"[a-z]{4,}", text.lower())} for text in (COMMANDS[name], command.help)
    )
    assert listed and len(listed & own) >= len(listed) / 4, listed - own


def test_version() -> None:
    told = uvmp("--version").stdout.splitlines()
    assert told == [f"uvmp {metadata.version('uvmp')}", f"form: {FORM.name} ({FORM.why})"]


def test_without_a_command_the_help_is_shown_and_the_exit_code_is_usage() -> None:
    result = uvmp()
    assert result.exit_code == Exit.USAGE
    assert "Commands:" in result.stderr


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["explor"], "there is no command 'explor' (did you mean explore?)"),
        (["explore"], "missing argument 'SCENARIO'"),
        (["explore", RACE, "--schedule", "5"], "no such option '--schedule'"),
        (["explore", RACE, "--schedules", "many"], "'--schedules': 'many' is not a valid integer range"),
        (["explore", RACE, "--schedules", "0"], "0 is not in the range"),
        (["explore", RACE, "--strategy", "stay"], "'stay' is not one of"),
        (
            ["explore", RACE, "--strategy", "random", "--depth", "3"],
            "--depth: is only for strategy pct; the strategy is random",
        ),
        (["explore", "s3x"], "SCENARIO: there is no scenario 's3x' (did you mean S3"),
        (["explore", "no/such.yaml"], "no/such.yaml: no such file or directory"),
        (["explore", str(CONFIGS)], "a folder, not a file"),
        (
            ["run", RACE, "--errata", "amap_cow_now"],
            "--errata: there is no erratum 'amap_cow_now'; did you mean amap_cow_now.",
        ),
        (
            ["run", RACE, "--detect", "lockdebug"],
            "--detect: expected DETECTOR=LEVEL, for instance lockdebug=off; found 'lockdebug'",
        ),
        (
            ["run", RACE, "--detect", "lockdbug=off"],
            "--detect: there is no detector 'lockdbug' (did you mean lockdebug?)",
        ),
        (["run", RACE, "--detect", "lockdebug=none"], "--detect: there is no level for detector lockdebug 'none'"),
        (["run", RACE, "--detect", "race=off", "--detect", "race=note"], "--detect: race is given twice"),
        (["run", RACE, "--engine", "real"], "'real' is not one of 'sim', 'live'"),
        (
            ["run", RACE, "--engine", "live", "--strategy", "pct"],
            "--strategy: is only for sim; a live machine runs freely",
        ),
        (["run", RACE, "--address", "127.0.0.1:1"], "--address: is only for --engine live"),
        (["run", RACE, "--transport", "ray"], "--transport: is only for --engine live"),
        (["run", RACE, "--engine", "live", "--transport", "udp"], "--transport"),
        (["run", RACE, "--repeat", "0"], "0 is not in the range"),
        (["run", RACE, "--engine", "live", "--address", "nowhere"], "--address: expected auto, or HOST:PORT"),
        (["run", RACE, "--engine", "live", "--address", "host:²"], "--address: expected auto, or HOST:PORT"),
        (["run", RACE, "--engine", "live", "--address", "ray://127.0.0.1:1"], "--address: expected auto, or HOST:PORT"),
        (["run", RACE, "--expect", "--detect", "lockdebug=stop"], "--expect: "),
        (["replay", "uvmp1.S3a"], "TOKEN: not a schedule token"),
        (["replay", "uvmp9.S3a.00000000.00000000..000000"], "TOKEN: a token of version uvmp9; this uvmp reads uvmp1"),
        (["replay", "no/such"], "no/such: there is no such folder"),
        (["postmortem", "no/such"], "no/such: there is no such folder"),
        (["postmortem", str(CONFIGS)], "not a run folder"),
        (["errata", "show", "nothing-like-it"], "ERRATUM: there is no erratum 'nothing-like-it'"),
        (["scenarios", "show", "e"], "SCENARIO: there is no scenario 'e'"),
    ],
)
def test_bad_usage_gets_one_line_and_exit_code_2(args: list[str], message: str) -> None:
    result = uvmp(*args)
    assert result.exit_code == Exit.USAGE
    assert message in error_of(result)
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("read: {", "reed: {", "tiny.yaml:13: programs.A[0].reed: unknown step 'reed' (did you mean read?)"),
        ("pages: 2", "page: 2", "tiny.yaml:9: setup[1].mmap.page: unknown key 'page' (did you mean pages?)"),
        ("title: A", "id: again\ntitle: A", "tiny.yaml:3: id: duplicate key 'id' (first on line 1)"),
        ("buf[1]\", value", "new[1]\", value", "tiny.yaml:14: programs.A[1].write.at: region new is never mapped"),
        ("buf[1]\", value", "buf[2]\", value", "tiny.yaml:14: programs.A[1].write.at: page 2 is outside region buf"),
        ("cpus: 2", "cpus: 199", "tiny.yaml:6: machine.cpus: 199 is out of range: 1 to 128"),
        ("frames: 24", "frames: 1", "tiny.yaml:6: machine.frames: 1 is out of range"),
        ("setup:", "errata: [no-such]\nsetup:", "tiny.yaml:7: errata[0]: there is no erratum 'no-such'"),
        ("machine: {cpus: 2, frames: 24, swap_slots: 32, page_size: 64}", "machine: laptob",
         "tiny.yaml:6: machine: there is no machine 'laptob' (did you mean laptop?)"),
        ("id: tiny", "id: [tiny", "tiny.yaml:"),
    ],
)  # fmt: skip
def test_a_bad_scenario_is_refused_with_file_line_and_field(tiny: Path, old: str, new: str, message: str) -> None:
    assert old in TINY
    tiny.write_text(TINY.replace(old, new, 1), encoding="utf-8")
    for command in ("run", "explore"):
        result = uvmp(command, tiny)
        assert result.exit_code == Exit.USAGE, result.output
        assert message in error_of(result).replace(str(tiny.parent) + "/", "")
        assert result.stdout == ""


def test_all_mistakes_of_a_file_are_told_each_in_a_line(tiny: Path) -> None:
    """In the order of its lines; of very many, the first ones."""
    text = TINY.replace("cpus: 2", "cpus: 199").replace('read: {at: "buf[0]"', 'reed: {at: "buf[0]"', 1)
    tiny.write_text(text.replace("strategy: random", "strategy: randum"), encoding="utf-8")
    result = uvmp("run", tiny)
    lines = [line for line in result.stderr.splitlines() if line.startswith(f"uvmp: error: {tiny}:")]
    assert [re.sub(r".*tiny.yaml:(\d+): (\S+):.*", r"\1 \2", line) for line in lines] == [
        "6 machine.cpus",
        "13 programs.A[0].reed",
        "18 bound.strategy",
    ]
    told = document("run", tiny)
    assert [told["error"]["line"], *(mistake["line"] for mistake in told["others"])] == [6, 13, 18]
    steps = "".join(f"    - reed{number}: {{}}\n" for number in range(50))
    tiny.write_text(TINY.replace("expect:", steps + "expect:"), encoding="utf-8")
    assert uvmp("run", tiny).stderr.splitlines()[-1] == "uvmp: error: and 30 more"
    assert len(uvmp("run", tiny).stderr.splitlines()) == 21


def test_a_scenario_of_ones_own_needs_no_expectation(tiny: Path) -> None:
    """Then nothing is promised: --expect is refused with a word on the missing key."""
    own = TINY[: TINY.index("expect:")]
    own = "\n".join(line for line in own.splitlines() if line.split(":")[0] not in ("name", "title", "story", "source"))
    own += "\n"
    tiny.write_text(own, encoding="utf-8")
    for command in (["run"], ["explore", "--schedules", "3"]):
        assert uvmp(*command, tiny).exit_code == 0
        refused = error_of(uvmp(*command, tiny, "--expect"))
        assert refused == f"--expect: {tiny} has no expectation: key expect is missing"
    shown = uvmp("scenarios", "show", tiny).stdout
    assert "fixed      no expectation in the file" in shown and "2,000 schedules of auto" in shown
    tiny.write_text(own + "errata: [E1]\nexpect: {fixed: {finding: none}}\n", encoding="utf-8")
    assert "key with_errata is missing" in error_of(uvmp("run", tiny, "--expect"))
    assert uvmp("run", tiny, "--fixed", "--expect").exit_code == 0


def test_a_swap_device_that_will_be_passed_over_is_warned_of(tiny: Path) -> None:
    swap = "swap: {devices: [{slots: 8}, {slots: 32, priority: 1}]}"
    tiny.write_text(TINY.replace("swap_slots: 32", swap), encoding="utf-8")
    for command in (["run"], ["explore", "--schedules", "3"], ["scenarios", "show"]):
        told = uvmp(*command, tiny).output
        assert "warning" in told and "swap device 0 has 8 slots: the pagedaemon asks for 16" in " ".join(told.split())
    assert "warning" not in uvmp("run", "S3a").stderr


def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    """Opening a FIFO that nobody writes to would not end, nor would reading /dev/zero."""
    os.mkfifo(tmp_path / "pipe.yaml")
    for path in (tmp_path / "pipe.yaml", Path("/dev/zero")):
        done = started("run", path)
        assert done.returncode == Exit.USAGE and f"{path}: a FIFO or device, not a file" in done.stderr


@pytest.mark.parametrize("text", ["S3", "S3x", "s3a_shipped", "e1O", "nonsense", "-", "", " "])
def test_an_unknown_scenario_is_told_in_one_short_line(text: str) -> None:
    """Ninety ids on one line help nobody: those alike are named, and where the others are listed."""
    for command in ("run", "explore", "measure") if text == "S3x" else ("run",):
        told = error_of(uvmp(command, "--", text))
        assert len(told) < 200 and "`uvmp scenarios` lists them" in told
    if text.strip(" -") and text != "nonsense":
        assert "did you mean " in told


def test_an_erratum_is_known_by_its_short_name_everywhere(tiny: Path) -> None:
    wanted = ["uvm_fault.case2-anon-unlocked"]
    assert document("run", tiny, "--errata", "s3c")["errata"] == wanted
    assert document("explore", tiny, "--errata", "S3c")["errata"] == wanted
    assert document("errata", "show", "S3c")["erratum"]["id"] == wanted[0]
    tiny.write_text(TINY.replace("setup:", "errata: [S3c]\nsetup:"), encoding="utf-8")
    told = document("run", tiny)
    assert told["errata"] == wanted and told["finding"]["kind"] == "lock-assert"
    assert uvmp(*shlex.split(told["replay"])[1:]).exit_code == Exit.FINDING
    assert "is a row with several errata: S3a (amap_cow" in error_of(uvmp("errata", "show", "S3"))
    assert "--errata: 'S3' is a row with several errata" in error_of(uvmp("run", "S3a", "--errata", "S3"))


def test_a_setup_that_cannot_be_done_is_the_scenarios_mistake(tiny: Path) -> None:
    writes = "".join(f'  - write: {{in: A, at: "buf[{page}]", value: 1}}\n' for page in range(2, 9))
    text = (
        TINY.replace("frames: 24", "frames: 8")
        .replace("swap_slots: 32", "swap_slots: 0")
        .replace("pages: 2", "pages: 9")
    )
    tiny.write_text(text.replace("programs:", writes + "programs:"), encoding="utf-8")
    result = uvmp("run", tiny, "--engine", "live")  # before a Ray is started
    assert result.exit_code == Exit.USAGE
    assert re.match(rf"{tiny}:1\d: setup\[\d\]\.write: this setup step gave ", error_of(result))


def test_what_the_kernel_finds_during_setup_names_the_step(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A panic, or a wait that never ends, as of a step's refusal."""
    monkeypatch.setattr("shared.scenario.steps.memory.user_write", lambda va, value: panic("uvm: no"))
    text = "setup cannot be done on this machine: panic: uvm: no"
    assert error_of(uvmp("run", tiny)) == f"{tiny}:10: setup[2].write: {text}"
    monkeypatch.setattr("cluster.boot.run_init", lambda scenario: panic("uvm: no"))
    assert error_of(uvmp("run", tiny)) == f"{tiny}: setup: {text}"


def test_an_error_is_a_document_too_if_json_was_asked_for(tiny: Path) -> None:
    tiny.write_text(TINY.replace("cpus: 2", "cpus: 199"), encoding="utf-8")
    result = uvmp("run", tiny, "--json")
    assert json.loads(result.stdout)["error"] == {
        "message": f"{tiny}:6: machine.cpus: 199 is out of range: 1 to 128",
        "exit": 2,
        "file": str(tiny),
        "line": 6,
        "field": "machine.cpus",
    }
    assert "Traceback" not in result.stderr


def test_a_bug_of_ours_is_one_line_and_debug_shows_the_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("the dog ate it")

    monkeypatch.setattr(cluster.cli.explore, "explore", broken)
    result = uvmp("explore", RACE)
    assert result.exit_code == Exit.INFRASTRUCTURE
    assert error_of(result) == "a bug in uvmp: RuntimeError: the dog ate it (--debug shows the traceback)"
    for args in (["--debug", "explore", RACE], ["explore", RACE, "--debug"]):
        assert isinstance(uvmp(*args).exception, RuntimeError)


def test_an_unwritable_disk_is_one_line_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device", "/runs/x")

    monkeypatch.setattr(cluster.cli.explore, "explore", full)
    result = uvmp("explore", RACE)
    assert result.exit_code == Exit.INFRASTRUCTURE
    assert error_of(result) == "/runs/x: No space left on device"


def test_a_reader_that_goes_away_is_no_error() -> None:
    script = f"{shlex.quote(sys.executable)} -m cluster.cli scenarios --json | head -c 1"
    result = subprocess.run(["bash", "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert result.stdout == "{"
    assert "Traceback" not in result.stderr and "error" not in result.stderr


@pytest.mark.parametrize(
    "args", [["--help"], ["explore", RACE], ["run", "S3a"], ["replay"], ["postmortem"], ["doctor"], ["scenarios"]]
)
def test_ray_is_imported_only_to_run_live(args: list[str], search: Any, folder: Folder) -> None:
    args = {"replay": ["replay", search["token"]], "postmortem": ["postmortem", str(folder.path)]}.get(args[0], args)
    code = "import sys; from cluster.cli import cli; cli.main(sys.argv[1:], standalone_mode=False); "
    code += "print('ray' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code, *args], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stdout.splitlines()[-1] == "False", done.stderr


def test_help_needs_neither_the_kernel_nor_the_log_library() -> None:
    code = "import sys; from cluster.cli import cli; cli.main(['--help'], standalone_mode=False); "
    code += "print(sorted(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    modules = done.stdout.splitlines()[-1]
    assert not [name for name in ("structlog", "greenlet", "yaml", "rich", "shared.uvm") if f"'{name}'" in modules]


# -- colour ----------------------------------------------------------------------------------


def on_a_terminal(*args: str, **environment: str) -> str:
    """What the command writes when both its streams are a terminal."""
    outer, inner = pty.openpty()
    env = {**{key: value for key, value in os.environ.items() if key != "NO_COLOR"}, "TERM": "xterm", **environment}
    command = [sys.executable, "-m", "cluster.cli", *args]
    process = subprocess.Popen(command, cwd=ROOT, stdin=inner, stdout=inner, stderr=inner, env=env)
    os.close(inner)
    written = b""
    while True:
        try:
            piece = os.read(outer, 65536)
        except OSError:  # Linux: the other end is closed
            break
        if not piece:
            break
        written += piece
    os.close(outer)
    process.wait(timeout=60)
    return written.decode()


def test_colour_and_a_progress_bar_on_a_terminal() -> None:
    written = on_a_terminal("explore", "E1", "--fixed", "--schedules", "300")
    assert "\x1b[1m" in written
    assert "per second" in written and "━" in written


def test_no_colour_under_no_color() -> None:
    written = on_a_terminal("explore", RACE, NO_COLOR="1")
    assert not re.search(r"\x1b\[[0-9;]*m", written)
    assert "finding: spin-forever" in written


def test_no_colour_in_a_pipe() -> None:
    done = started("explore", RACE)
    assert "\x1b" not in done.stdout + done.stderr


# -- explore -----------------------------------------------------------------------------------


def test_explore_prints_the_finding_and_one_line_to_paste() -> None:
    result = uvmp("explore", RACE)
    assert result.exit_code == Exit.FINDING
    assert "finding: spin-forever" in result.stdout
    assert re.search(r"function +amap_cow_now", result.stdout)
    assert re.search(r"object +anon:\d+", result.stdout)
    assert re.search(r"found in schedule [\d,]+ of 2,000 \(auto, seed 0; [\d,]+ per second\)", result.stdout)
    lines = [line for line in result.stdout.splitlines() if line.startswith("uvmp ")]
    assert len(lines) == 1 and re.fullmatch(r"uvmp replay uvmp1\.S3a-shipped\.\S+", lines[0])
    again = uvmp(*shlex.split(lines[0])[1:])
    assert again.exit_code == Exit.FINDING
    assert "finding: spin-forever" in again.stdout


def test_explore_in_json_has_all_of_it(search: Any) -> None:
    assert search["exit"] == Exit.FINDING
    assert search["finding"]["kind"] == "spin-forever"
    assert search["finding"]["function"] == "amap_cow_now"
    assert 1 <= search["found_at"] == search["schedules"] <= search["bound"] == 2000
    assert search["sites"][ERRATUM] >= 1
    assert search["replay"] == f"uvmp replay {search['token']}"
    assert len(search["deviations"]) >= 1
    assert parse(search["token"]).scenario == RACE


def test_the_same_seed_finds_the_same(search: Any) -> None:
    again = document("explore", RACE)
    assert {**again, "seconds": 0} == {**search, "seconds": 0}


def test_explore_says_what_it_is_worth_that_nothing_was_seen() -> None:
    """How many schedules of which strategies, how many of them differed, and what follows from that."""
    result = uvmp("explore", RACE, "--fixed", "--schedules", 30)
    assert result.exit_code == 0 and "not seen in 30 schedules (auto, seed 0; " in result.stdout
    by = re.search(r"schedules by strategy: (.+)", result.stdout)
    assert by is not None and sum(int(word) for word in re.findall(r"\d+", by[1])) == 30
    assert re.search(r"happens-before classes: \d+ distinct, the next one is new with \d+ %", result.stdout)
    assert "0 of 30 schedules: at most 11 % of schedules chosen so have a finding (95 %)" in result.stdout
    told = document("explore", RACE, "--fixed", "--schedules", 30)
    assert sum(told["by"].values()) == told["schedules"] == 30
    assert 1 <= told["distinct"] <= 30 and 0 <= told["chance_of_new"] <= 1 and told["time"] is None


def test_explore_stops_when_its_time_is_over() -> None:
    result = uvmp("explore", RACE, "--fixed", "--schedules", 1_000_000, "--time", "0.3s")
    assert result.exit_code == 0 and "exploring up to 1,000,000 schedules, for 0.3 s at most" in result.stderr
    assert re.search(r"not seen in \d+ schedules? of 1,000,000, time is over \(auto, seed 0; ", result.stdout)


@pytest.mark.parametrize("time", ["soon", "0s", "-1s", "30x", "1e3s", "99999999h"])
def test_a_time_that_is_none_is_refused(time: str) -> None:
    result = uvmp("explore", RACE, f"--time={time}")
    assert result.exit_code == Exit.USAGE and "expected a time such as 30s, 5m or 1h; found " in result.stderr


def test_explore_with_expect_exits_0_if_the_expected_was_found() -> None:
    result = uvmp("explore", RACE, "--expect")
    assert result.exit_code == 0
    assert "as expected" in result.stdout


def test_explore_with_expect_exits_1_if_it_was_not() -> None:
    result = uvmp("explore", RACE, "--expect", "--schedules", "1")
    assert result.exit_code == Exit.FINDING
    assert "not seen in 1 schedule (" in result.stdout
    assert "not as expected: expected spin-forever, found no finding" in result.stdout


def test_the_fixed_kernel_is_said_to_be_fine_only_so_far_as_was_searched() -> None:
    result = uvmp("explore", RACE, "--fixed", "--schedules", "200", "--expect")
    assert result.exit_code == 0
    assert "not seen in 200 schedules" in result.stdout
    assert re.search(rf"site of {ERRATUM}, repaired: reached \d+ times", result.stdout)


def test_fixed_is_not_as_expected_if_the_erratums_site_was_never_reached() -> None:
    told = document("explore", RACE, "--fixed", "--schedules", "1", "--expect")
    assert told["sites"][ERRATUM] == 0
    assert told["expected"] == {"held": False, "why": f"the site of {ERRATUM} was never reached"}
    assert told["exit"] == Exit.FINDING


def test_explore_keeps_the_run_of_its_finding(tmp_path: Path) -> None:
    told = document("explore", RACE, "--out", tmp_path / "run")
    assert told["out"] == str(tmp_path / "run")
    assert document("postmortem", tmp_path / "run")["finding"] == told["finding"]


def test_a_replay_line_names_what_the_token_does_not_say(tiny: Path) -> None:
    line = document("run", tiny, "--errata", "amap_cow_now.returns-amap-locked", "--detect", "race=off")["replay"]
    assert re.fullmatch(
        rf"uvmp replay uvmp1\S+ --scenario {tiny} --errata amap_cow_now.returns-amap-locked --detect race=off", line
    )
    assert uvmp(*shlex.split(line)[1:]).exit_code == 0
    without = shlex.split(line)[1:5]
    assert "--lenient replays it anyway" in error_of(uvmp(*without))


def test_fixed_with_errata_means_these_alone() -> None:
    chosen = choose(RACE, Options(fixed=True, errata=("amap_cow_now.returns-amap-locked",)))
    assert chosen.scenario.errata == ("amap_cow_now.returns-amap-locked",)
    assert chosen.options == ("--fixed", "--errata", "amap_cow_now.returns-amap-locked")
    assert choose(RACE, Options(errata=("amap_cow_now.returns-amap-locked",))).scenario.errata == (
        ERRATUM,
        "amap_cow_now.returns-amap-locked",
    )


# -- run -----------------------------------------------------------------------------------------


def test_run_in_json_has_results_in_order_finding_sites_and_token(tiny: Path) -> None:
    told = document("run", tiny)
    assert told["results"] == {
        "A": [
            {"step": 0, "op": "read", "result": 1, "into": "r0"},
            {"step": 1, "op": "write", "result": 0, "into": None},
            {"step": 2, "op": "read", "result": 7, "into": "r1"},
        ]
    }
    assert told["finding"] is None
    assert told["exit"] == 0
    assert uvmp(*shlex.split(told["replay"])[1:]).exit_code == 0


def test_run_lists_every_program_also_one_that_never_began() -> None:
    told = document("run", "S3a")
    assert list(told["results"]) == ["A", "B", "C", "D"]
    assert told["finding"]["kind"] == "locked-anon-freed"
    assert told["sites"][ERRATUM] == 1
    assert told["exit"] == Exit.FINDING


def test_run_is_by_id_by_name_in_any_case_or_by_file() -> None:
    digests = {
        document("run", name)["digest"] for name in ("S3a", "s3a", "amap-cow-now", CONFIGS / "scenarios" / "S3a.yaml")
    }
    assert len(digests) == 1


def test_run_repeated_counts_findings() -> None:
    told = document("run", RACE, "--strategy", "random", "--repeat", "12")
    assert len(told["runs"]) == 12
    assert told["found"] == sum(run["finding"] is not None for run in told["runs"]) >= 1
    assert [finding["object"] for finding in told["findings"]] == ["anon"]
    text = uvmp("run", RACE, "--strategy", "random", "--repeat", "12").stdout
    assert f"a finding in {told['found']} of 12 runs" in text
    assert re.search(rf"{told['found']} +spin-forever +amap_cow_now +anon", text)


def test_run_expects_over_all_repetitions() -> None:
    assert uvmp("run", RACE, "--strategy", "random", "--repeat", "12", "--expect").exit_code == 0
    assert uvmp("run", RACE, "--expect").exit_code == Exit.FINDING  # `stay` does not show it
    assert uvmp("run", RACE, "--fixed", "--expect").exit_code == 0


def test_run_keeps_each_repetition_in_a_folder_of_its_own(tmp_path: Path, tiny: Path) -> None:
    told = document("run", tiny, "--repeat", "2", "--out", tmp_path / "runs")
    assert [run["out"] for run in told["runs"]] == [str(tmp_path / "runs" / "1"), str(tmp_path / "runs" / "2")]
    assert document("postmortem", tmp_path / "runs" / "2")["complete"]


def test_an_erratum_on_the_command_line_is_switched_on(tiny: Path) -> None:
    assert document("run", tiny, "--errata", "uvm_fault.case2-anon-unlocked")["finding"]["kind"] == "lock-assert"
    assert document("run", "S3c", "--detect", "lockdebug=off", "--detect", "race=off")["finding"] is None


@pytest.mark.parametrize(
    ("command", "start"),
    [
        (["run"], "cluster.cli.run.prepare"),
        (["explore"], "cluster.cli.explore.explore"),
        (["run", "--engine", "live"], "cluster.cli.live.ray_session"),
    ],
)
def test_an_existing_folder_is_refused_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str], start: str
) -> None:
    starts = spy(monkeypatch, start)
    assert uvmp(*command, RACE).exit_code == Exit.INFRASTRUCTURE
    assert starts == [start], "this is not what starts"
    starts.clear()
    (tmp_path / "there").write_text("precious", encoding="utf-8")
    result = uvmp(*command, RACE, "--out", tmp_path / "there")
    assert result.exit_code == Exit.USAGE
    assert error_of(result) == f"{tmp_path}/there: --out: exists already; a run needs a new folder"
    assert starts == []
    assert (tmp_path / "there").read_text(encoding="utf-8") == "precious"


@pytest.mark.parametrize("command", ["run", "explore", "replay"])
@pytest.mark.parametrize(
    ("out", "why"),
    [
        ("file/run", "cannot be made: not a directory"),
        ("nowhere/../../..", "exists already; a run needs a new folder"),
        ("nowhere/" + "x" * 300, "cannot be made: file name too long"),
        ("/proc/run", "cannot be made: no such file or directory"),
        ("a\0b", "cannot be made: embedded null byte"),
        ("", "expected the name of a folder"),
    ],
)  # fmt: skip
def test_a_folder_that_cannot_be_made_is_refused_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, out: str, why: str
) -> None:
    """And what had to be made to see that is gone again."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("", encoding="utf-8")
    starts = spy(monkeypatch, "cluster.sim.engine.Sim.execute")
    what = token_of(scenario(RACE), []) if command == "replay" else RACE
    result = uvmp(command, what, "--out", out)
    assert result.exit_code == Exit.USAGE and error_of(result).endswith(f"--out: {why}")
    assert starts == [] and os.listdir(tmp_path) == ["file"]


def test_a_cluster_that_is_not_there_is_said_before_ray_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray would wait for many minutes."""
    starts = spy(monkeypatch, "cluster.cli.live.ray_session")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    result = uvmp("run", RACE, "--engine", "live", "--address", f"127.0.0.1:{port}", "--out", tmp_path / "run")
    assert result.exit_code == Exit.INFRASTRUCTURE
    assert error_of(result) == f"Ray cannot be reached at 127.0.0.1:{port}: connection refused"
    assert starts == []
    assert not (tmp_path / "run").exists()


# -- replay ----------------------------------------------------------------------------------------


def test_replay_of_a_token_gives_the_same_finding_again_and_again(search: Any) -> None:
    told = document("replay", search["token"], "--expect")
    assert told["exit"] == 0
    assert told["finding"] == search["finding"]
    assert told["digest"] == document("replay", search["token"])["digest"]


def test_replay_of_a_folder_repeats_its_journals(folder: Folder) -> None:
    told = document("replay", folder.path)
    assert told["digest"] == {"kept": folder.digest, "sim": folder.digest}
    assert told["equal"]
    assert told["exit"] == Exit.FINDING


def test_a_slip_of_the_clipboard_is_noticed(search: Any) -> None:
    token = search["token"]
    assert "checksum is wrong" in error_of(uvmp("replay", token[:-8] + token[-7:]))


def test_a_token_of_another_kernel_is_refused_or_replayed_leniently(search: Any) -> None:
    mine = parse(search["token"])
    foreign = Token(mine.scenario, mine.digest, "0" * 8, mine.deviations)
    result = uvmp("replay", str(foreign))
    assert result.exit_code == Exit.USAGE
    assert "the token was made on kernel 00000000" in error_of(result)
    assert uvmp("replay", str(foreign), "--lenient").exit_code == Exit.FINDING


def test_a_token_of_other_detectors_is_refused(search: Any) -> None:
    result = uvmp("replay", search["token"], "--detect", "lockdebug=stop")
    assert result.exit_code == Exit.USAGE
    assert f"the token was made for {RACE} as" in error_of(result)


def test_a_token_for_another_scenario_is_refused(search: Any, tiny: Path) -> None:
    assert "the token is of scenario S3a-shipped, this is tiny" in error_of(
        uvmp("replay", search["token"], "--scenario", tiny)
    )


def impossible(search: Any) -> str:
    mine = parse(search["token"])
    return str(Token(mine.scenario, mine.digest, mine.kernel, (*mine.deviations, ("A", 99999, "point", "B"))))


def test_a_step_that_cannot_happen_is_diverged(search: Any) -> None:
    result = uvmp("replay", impossible(search))
    assert result.exit_code == Exit.DIVERGED
    assert error_of(result).startswith("diverged: expected A to reach operation 99999")
    told = document("replay", impossible(search))["error"]
    assert told["exit"] == 3 and "99999" in told["expected"] and told["found"]


def test_lenient_names_the_first_divergence(search: Any) -> None:
    result = uvmp("replay", impossible(search), "--lenient")
    assert result.exit_code == Exit.FINDING
    assert re.search(r"skipped 1 of \d+ deviations; the first: after operation 99999 of A", result.stdout)


def copy(folder: Folder, to: Path) -> Path:
    return Path(shutil.copytree(folder.path, to / "copy"))


def edit(path: Path, change: Callable[[list[str]], list[str]]) -> None:
    path.write_text("".join(change(path.read_text(encoding="utf-8").splitlines(keepends=True))), encoding="utf-8")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda lines: [*lines[:5], "{ no json\n", *lines[6:]], "memory.uvmp.jsonl:6: torn or corrupt line"),
        (lambda lines: [*lines[:-1], lines[-1][:20]], "torn or corrupt line"),
        (lambda lines: [*lines[:5], *lines[6:]], "memory: record 5 is missing"),
        (
            lambda lines: [lines[0].replace("uvmp-log/1", "other/7"), *lines[1:]],
            "schema 'other/7'; this uvmp reads uvmp-log/1",
        ),
    ],
)
def test_a_damaged_log_is_incomplete(folder: Folder, tmp_path: Path, change: Any, message: str) -> None:
    path = copy(folder, tmp_path)
    edit(path / "memory.uvmp.jsonl", change)
    replayed = uvmp("replay", path)
    assert replayed.exit_code == Exit.LOG_INCOMPLETE
    assert message in error_of(replayed)
    explained = uvmp("postmortem", path)
    assert explained.exit_code == Exit.LOG_INCOMPLETE
    assert "amap_cow_now" in explained.stdout  # the report is printed anyway


def test_a_run_cut_short_is_explained_and_not_replayed(folder: Folder, tmp_path: Path) -> None:
    path = copy(folder, tmp_path)
    (path / "run.json").unlink()
    assert "there is no run.json: the run was cut short" in error_of(uvmp("replay", path))
    result = uvmp("postmortem", path)
    assert result.exit_code == Exit.LOG_INCOMPLETE
    assert "cut short" in result.stdout


def test_a_folder_has_its_own_scenario(folder: Folder) -> None:
    assert "a run folder has its own scenario" in error_of(uvmp("replay", folder.path, "--fixed"))


# -- postmortem, scenarios, errata, doctor -------------------------------------------------------------


def test_postmortem_tells_it_from_the_folder_alone(folder: Folder, search: Any) -> None:
    result = uvmp("postmortem", folder.path)
    assert result.exit_code == 0
    assert search["finding"]["text"] in " ".join(result.stdout.split())
    assert f"uvmp replay {search['token']}" in result.stdout
    told = document("postmortem", folder.path)
    assert told["schema"] == "uvmp-postmortem/1"
    assert told["complete"] and told["finding"] == search["finding"]


def test_scenarios_lists_what_is_shipped() -> None:
    assert [scenario["id"] for scenario in document("scenarios")["scenarios"]] == SHIPPED
    text = uvmp("scenarios").stdout
    assert all(ident in text for ident in SHIPPED)


@pytest.mark.parametrize("name", SHIPPED)
def test_scenarios_show_tells_all_of_it(name: str) -> None:
    scenario = configs.shipped(name)
    assert scenario.id == name, "a scenario's file is called after its id"
    result = uvmp("scenarios", "show", name)
    assert result.exit_code == 0
    said = " ".join(result.stdout.split())
    assert " ".join(scenario.story.split()) in said
    assert all(text in said for text in (*scenario.errata, *scenario.source))
    outcomes = (scenario.expect.with_errata, scenario.expect.fixed)
    never = [together for outcome in outcomes if outcome is not None for together in outcome.never]
    for together in never:
        assert f"never {' and '.join(f'{name} = {value}' for name, value in together.items())}" in said
    steps = [step for lwp in scenario.lwps for step in lwp.program] + list(scenario.setup)
    assert steps and all(step.text and " ".join(step.text.split()) in said for step in steps)
    assert document("scenarios", "show", name)["scenario"]["id"] == name
    assert json.loads(uvmp("scenarios", "--json", "show", name).stdout)["scenario"]["id"] == name


def test_errata_show_tells_the_story_by_id_or_short_name() -> None:
    by_id, by_row = uvmp("errata", "show", "amap_cow_now.returns-amap-locked"), uvmp("errata", "show", "e1")
    assert by_id.stdout == by_row.stdout
    assert "The repair is one line, an unlock after the loop." in " ".join(by_id.stdout.split())
    assert document("errata", "show", "E1")["erratum"]["detectors"] == ["lockdebug", "deadlock"]
    assert ERRATUM in [erratum["id"] for erratum in document("errata")["errata"]]


def test_doctor_finds_this_installation_well() -> None:
    result = uvmp("doctor")
    assert result.exit_code == 0, result.stdout
    checks = {check["name"]: check for check in document("doctor")["checks"]}
    assert checks["package cluster"]["found"] == str(ROOT / "cluster")
    assert checks["ray"]["found"] == metadata.version("ray")
    assert "a local Ray" not in checks


def test_doctor_notices_a_package_that_shadows_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    real = cluster.doctor.importlib.util.find_spec

    class Elsewhere:
        origin = "/site-packages/nodes/__init__.py"

    monkeypatch.setattr(
        cluster.doctor.importlib.util, "find_spec", lambda name: Elsewhere if name == "nodes" else real(name)
    )
    told = document("doctor")
    wrong = [check for check in told["checks"] if check["state"] == "bad"]
    assert [check["name"] for check in wrong] == ["package nodes"]
    assert told["exit"] == Exit.INFRASTRUCTURE


def test_doctor_notices_a_distribution_with_our_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        cluster.doctor.metadata, "packages_distributions", lambda: {"shared": ["shared"], "cluster": ["uvmp"]}
    )
    wrong = [check for check in document("doctor")["checks"] if check["state"] == "bad"]
    assert [(check["name"], check["advice"]) for check in wrong] == [
        ("package shared", "pip uninstall shared, then install uvmp again")
    ]


# -- files ---------------------------------------------------------------------------------------------


def test_a_machine_is_found_by_name_or_beside_the_scenario(tiny: Path) -> None:
    text, file = configs.machine("laptop")
    assert "cpus: 2" in text and file.endswith("configs/machines/laptop.yaml")
    (tiny.parent / "mine.yaml").write_text("{cpus: 3, frames: 20, swap_slots: 4}\n", encoding="utf-8")
    tiny.write_text(re.sub("machine: .*", "machine: ./mine.yaml", TINY), encoding="utf-8")
    assert configs.scenario(str(tiny)).scenario.machine.cpus == 3


def test_a_scenario_file_is_bounded_text(tmp_path: Path) -> None:
    (tmp_path / "long.yaml").write_bytes(b"#" * (1 << 20))
    (tmp_path / "bytes.yaml").write_bytes(b"id: x\nname: \xff\n")
    for name, message in (("long", "longer than 256 KiB"), ("bytes", "bytes.yaml:2: not UTF-8 text")):
        with pytest.raises(UserMistake, match=message):
            configs.scenario(str(tmp_path / f"{name}.yaml"))


def test_an_installed_wheel_has_its_configs_inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "_configs" / "scenarios").mkdir(parents=True)
    monkeypatch.setattr(configs.shared, "__file__", str(tmp_path / "__init__.py"))
    assert configs.root() == tmp_path / "_configs"


# -- Ctrl-C --------------------------------------------------------------------------------------------


def interrupted_at(line: str, *args: object, by: int = signal.SIGINT) -> tuple[int, str, str]:
    """Start the command, press Ctrl-C when stderr says `line`; returns exit code, stdout, stderr."""
    command = [sys.executable, "-m", "cluster.cli", *map(str, args)]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - a shell ignores it in the background
    )  # fmt: skip
    assert process.stderr is not None
    seen = ""
    for text in process.stderr:
        seen += text
        if line in text:
            break
    else:
        raise AssertionError(f"it never says {line!r}: {seen}")
    os.killpg(process.pid, by)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, seen + err


def test_a_search_says_how_it_is_going_and_ctrl_c_ends_it_with_what_it_knows() -> None:
    code, out, err = interrupted_at("explored ", "explore", "E1", "--fixed", "--schedules", "1000000")
    assert code == Exit.INTERRUPTED
    assert re.search(r"explored \d+ of 1000000 schedules, [\d,]+ per second", err)
    assert re.search(r"not seen in [\d,]+ schedules of 1,000,000, interrupted", out)
    assert "Traceback" not in err


def test_ctrl_c_leaves_a_whole_json_document() -> None:
    code, out, _ = interrupted_at("explored ", "explore", "E1", "--fixed", "--schedules", "1000000", "--json")
    told = json.loads(out)
    assert code == told["exit"] == Exit.INTERRUPTED
    assert told["interrupted"] and told["schedules"] > 0


# -- live ----------------------------------------------------------------------------------------------


def our_children(session: str) -> list[str]:
    """Processes of Ray that have this word in their environment."""
    commands = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if session.encode() in (path / "environ").read_bytes():
                commands.append((path / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue
    return commands


@pytest.mark.live
def test_run_live_agrees_with_sim_and_leaves_nobody_behind(tmp_path: Path) -> None:
    done = started("run", "S3a", "--engine", "live", "--repeat", 2, "--out", tmp_path / "runs", "--json", "--expect",
                   env={**os.environ, "UVMP_TEST": str(tmp_path)})  # fmt: skip
    told = json.loads(done.stdout)
    assert done.returncode == 0, done.stderr
    assert told["found"] >= 1  # on a machine with much else to do, memory may suffice in one of them
    for run in told["runs"]:
        assert run["parity"]["equal"]
        if run["finding"] is not None:
            assert uvmp(*shlex.split(run["replay"])[1:]).exit_code == Exit.FINDING
        assert document("replay", run["out"])["equal"]
        assert document("postmortem", run["out"])["complete"]
    assert "booted" in done.stderr and "(pid " in done.stderr
    assert our_children(str(tmp_path)) == []


@pytest.mark.live
@pytest.mark.usefixtures("ray_session")
def test_replay_live_follows_the_token(search: Any, tmp_path: Path) -> None:
    told = document("replay", search["token"], "--live", "--out", tmp_path / "run", "--expect")
    assert told["exit"] == 0
    assert told["digest"]["live"] == told["digest"]["sim"]
    assert told["finding"]["kind"] == "spin-forever"
    assert document("postmortem", tmp_path / "run")["complete"]


@pytest.mark.live
@pytest.mark.parametrize("when", ["starting a private Ray", pytest.param("booted", marks=pytest.mark.long), "run 1 of"])
def test_ctrl_c_ends_a_live_machine_and_leaves_readable_logs(
    when: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UVMP_TEST", str(tmp_path))
    args = ("run", RACE, "--engine", "live", "--repeat", 50, "--out", tmp_path / "runs")
    code, out, err = interrupted_at(when, *args)
    monkeypatch.delenv("UVMP_TEST")
    assert code == Exit.INTERRUPTED, err
    assert "Traceback" not in err
    assert our_children(str(tmp_path)) == []
    if when == "run 1 of":
        assert re.search(r"a finding in \d of \d runs?\b", out)
        assert document("postmortem", tmp_path / "runs" / "1")["complete"]
    for run in (tmp_path / "runs").glob("*"):
        assert uvmp("postmortem", run).exit_code in (Exit.NO_FINDING, Exit.LOG_INCOMPLETE)


@pytest.mark.live
@pytest.mark.long
def test_the_demo_comes_out_as_told(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cluster.cli.demo"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^ +equal$", done.stdout, re.MULTILINE)
    assert "not as expected" not in done.stdout


# -- measure ---------------------------------------------------------------------------


def test_measure_prints_a_table() -> None:
    done = uvmp("measure", "E45", "litmus-mp", "--seeds", 1, "--seconds", 0)
    assert done.exit_code == 0
    head, *rows = done.stdout.splitlines()
    assert head.split("  ")[0] == "scenario" and "found by pct" in head and "found by random" in head
    assert [row.split()[0] for row in rows] == ["E45", "litmus-mp"]
    assert rows[0].split()[-2:] == ["1", "1"] and rows[1].split()[-2:] == ["-", "-"]


def test_measure_says_when_a_search_was_given_up() -> None:
    done = uvmp("measure", RACE, "--seeds", 1, "--schedules", 1, "--seconds", 0)
    assert done.stdout.splitlines()[1].split()[-2:] == [">1", ">1"]


def test_measure_as_json() -> None:
    done = uvmp("measure", "E45", "--seeds", 2, "--seconds", 0, "--json")
    document = json.loads(done.stdout)
    assert document["command"] == "measure" and document["exit"] == 0 and document["seeds"] == 2
    [measured] = document["scenarios"]
    assert measured["found_at"] == {name: [1, 1] for name in SEARCHING} and measured["median"] == dict.fromkeys(
        SEARCHING, 1
    )
    assert measured["operations_per_second"] > measured["schedules_per_second"] > 0


def test_measure_refuses_what_does_not_exist_before_it_starts() -> None:
    done = uvmp("measure", "E45", "nonsense")
    assert done.exit_code == Exit.USAGE and done.stdout == "" and "nonsense" in done.stderr


def test_scenarios_show_tells_what_is_unusual_about_the_machine() -> None:
    shown = " ".join(uvmp("scenarios", "show", "S6").stdout.split())
    assert "1 CPU, 24 pages of 64 bytes, 16 swap slots; disk: 4; unwired mappings: 2" in shown


def test_errata_lists_row_source_and_scenarios() -> None:
    text = " ".join(uvmp("errata").stdout.split())
    erratum = ERRATA["amap_cow_now.nanon-freed-locked"]
    assert f"{erratum.sentence} row S3 source {'; '.join(erratum.source)} scenarios S3a, S3a-shipped" in text


def test_what_an_interrupt_does_and_answers_is_shown() -> None:
    """In the scenario's own words: devices and variables of the kernel by their names."""
    shown = uvmp("scenarios", "show", "S8a").stdout
    assert 'interrupt of com0 on cpu0\n  kread: {at: "old[0]", onfault: true, into: probed}' in shown
    assert "  send: {to: com0}\n" in shown
    assert "com0 on cpu0  kread probed = EFAULT" in uvmp("run", "S8a", "--fixed").stdout
    results = document("run", "S8a", "--fixed")["results"]["com0"]
    assert results == [{"step": 0, "op": "kread", "result": "EFAULT", "into": "probed"}]


def test_a_machine_that_does_not_boot_is_a_finding() -> None:
    """With the node and the table that differ; and a run folder of it can be read."""
    result = uvmp("run", "S4")
    assert result.exit_code == 1 and "swap_pager was built with another table of result codes" in result.stdout
    assert document("run", "S4")["finding"]["kind"] == "table-mismatch"


# -- how long an execution may take --------------------------------------------------------------


def test_an_execution_ends_after_as_many_operations_as_the_user_says(tmp_path: Path) -> None:
    """The token's line says so too, and a kept run knows it."""
    folder = tmp_path / "run"
    result = uvmp("run", "S3a-shipped", "--fixed", "--operations", 1400, "--out", folder)
    assert result.exit_code == Exit.FINDING and "not ended within 1,400 operations" in result.stdout
    line = next(line for line in result.stdout.splitlines() if " replay uvmp1." in line)
    assert line.endswith(" --operations 1400")
    assert "1,400 operations" in uvmp("replay", *shlex.split(line)[2:]).stdout
    assert uvmp("replay", folder).exit_code == Exit.FINDING
    token = shlex.split(line)[2]
    assert uvmp("replay", token).exit_code == Exit.USAGE, "its own limit makes it another scenario"


def test_a_search_goes_by_the_user_s_limit_of_operations() -> None:
    said = document("explore", "S3a-shipped", "--fixed", "--schedules", 1, "--operations", 1400)
    assert said["finding"]["kind"] == "not-ended" and "1,400" in said["finding"]["text"]
    assert document("explore", "S3a-shipped", "--fixed", "--schedules", 1)["finding"] is None
