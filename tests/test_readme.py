"""The README is true: every command in it runs, and prints what it shows."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from click.testing import CliRunner

from cluster.cli import cli
from shared.detectors.invariants import INVARIANTS
from shared.errata import ERRATA, Status, counts, with_big_lock
from shared.scenario.steps.table import STEPS

README = Path(__file__).parent.parent.joinpath("README.md").read_text(encoding="utf-8")
#: a command of the README, without the remark behind it, and the lines shown below it
SHOWN = re.findall(r"^    \$ (uvmp .*?)(?:  +.*)?\n((?:    (?!\$).*\n)*)", README, re.MULTILINE)
LIVE = ("--live", "--engine live")


def run(command: str, token: str) -> tuple[int, str]:
    """Run one command in this process; TOKEN stands for the end of a token."""
    words = shlex.split(command.replace("uvmp1.S3a-shipped.TOKEN", token))[1:]
    result = CliRunner().invoke(cli, words)
    return result.exit_code, result.output


@pytest.fixture(scope="module")
def token() -> str:
    """The token that the first command of the README finds."""
    output = run(SHOWN[0][0], "")[1]
    found = re.search(r"uvmp1\.\S+", output)
    assert found is not None, output
    return found.group()


def test_readme_shows_the_commands_a_newcomer_needs() -> None:
    """A README whose examples are not recognized as such would pass every other test here."""
    commands = " ".join(command for command, _ in SHOWN)
    for word in ("explore", "replay", "postmortem", "run", "scenarios", "errata", "doctor"):
        assert f"uvmp {word}" in commands


def test_readme_counts_the_invariants() -> None:
    assert re.findall(r"(\d+) invariants", README) == [str(len(INVARIANTS))]


def test_readme_counts_the_errata() -> None:
    """How many NetBSD's UVM really had, and how many show with the big lock."""
    said = {status: re.findall(rf"(\d+) are \*{status}\*", README) for status in Status}
    assert said == {status: [str(many)] for status, many in counts().items()}
    seen = re.findall(r"the \d+ errata (\d+) are \*seen\*.* (\d+)\nare \*asserted\*.* (\d+) are \*latent\*", README)
    assert seen == [tuple(str(many) for many in with_big_lock().values())]
    assert re.findall(r"(\d+) of the (\d+) errata", README) == [
        (str(sum(one.status.real for one in ERRATA.values())), str(len(ERRATA)))
    ]


def test_readme_names_every_step_in_its_family() -> None:
    """A row of the table of steps for each family, with the names of all its steps."""
    start = README.index("| steps | |\n")
    table = README[start : README.index("\n\n", start)]
    rows = {
        family: re.findall(r"\w+", words)
        for family, words in re.findall(r"^\| ([^|]+) \| ([^|]+) \|$", table, re.MULTILINE)
    }
    families = {kind.family for kind in STEPS.values()}
    assert families <= rows.keys() <= families | {"steps"}
    for family in families:
        named = [word for word in rows[family] if word in STEPS and STEPS[word].family == family]
        assert sorted(named) == sorted(op for op, kind in STEPS.items() if kind.family == family)


def test_the_scenario_of_ones_own_runs_as_it_stands(tmp_path: Path) -> None:
    """Pasted into an empty file; and each of its lines is needed for what the README says."""
    start = README.index("    id: mine\n")
    text = textwrap.dedent(README[start : README.index("\n\n", start)])
    (tmp_path / "mine.yaml").write_text(text, encoding="utf-8")
    words = ["explore", str(tmp_path / "mine.yaml"), "--schedules", "50"]
    result = CliRunner().invoke(cli, [*words, "--expect"])
    assert result.exit_code == 0 and "as expected" in result.output, result.output
    (tmp_path / "mine.yaml").write_text(text[: text.index("expect:")], encoding="utf-8")
    assert CliRunner().invoke(cli, words).exit_code == 0


def test_the_program_of_ones_own_does_what_is_said(tmp_path: Path) -> None:
    start = README.index("    from cluster.api import")
    text = textwrap.dedent(README[start : README.index("\n\n`replay(program", start)])
    file = tmp_path / "deposit.py"
    file.write_text(text, encoding="utf-8")
    result = subprocess.run([sys.executable, file], capture_output=True, text=True, check=True)
    assert result.stdout.startswith("assertion: check: a deposit is lost"), result.stdout


def test_the_patch_of_ones_own_does_what_is_said(tmp_path: Path) -> None:
    start = README.index("    from shared.patch import")
    text = textwrap.dedent(README[start : README.index("\n\n`uvmp explore S3a", start)])
    (tmp_path / "fix.py").write_text(text, encoding="utf-8")
    result = CliRunner().invoke(cli, ["explore", "S3a", "--fixed", "--patch", str(tmp_path / "fix.py")])
    assert result.exit_code == 1 and "C reads 0 at buf[0], which must be 1" in result.output, result.output


def test_readme_says_how_the_command_is_called_after_set_up() -> None:
    assert "`.venv/bin/uvmp`" in README and "`. .venv/bin/activate`" in README


def needs_live(command: str) -> bool:
    """Does it boot Ray, or want what a command that does has left behind?"""
    return any(word in command for word in LIVE) or command.startswith("uvmp postmortem")


@pytest.mark.parametrize(("command", "shown"), [one for one in SHOWN if not needs_live(one[0])])
def test_command_of_readme_works(command: str, shown: str, token: str) -> None:
    """What a newcomer types first must do what the README says."""
    code, output = run(command, token)
    finds = command.split()[1] in ("explore", "replay") and "--expect" not in command
    assert code == (1 if finds else 0), output
    flat = " ".join(output.split())
    for line in shown.splitlines():
        for part in line.split("..."):
            expected = " ".join(part.split()).replace("uvmp1.S3a-shipped.TOKEN", token)
            assert expected in flat, f"README shows {expected!r}"


@pytest.mark.live
def test_live_commands_of_readme_work(token: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same for those that boot Ray, in the README's order, so that the postmortem has its run."""
    monkeypatch.chdir(tmp_path)
    for command, _ in SHOWN:
        if any(word in command for word in LIVE):
            code, output = run(command.replace("--repeat 20", "--repeat 3"), token)
            assert code in (0, 1), output
        elif command.startswith("uvmp postmortem"):
            code, output = run(command, token)
            assert code == 0, output
            assert "amap_cow_now" in output
