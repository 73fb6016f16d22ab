"""The texts are true: every command in them runs and prints what they show, and what they name exists."""

from __future__ import annotations

import ast
import json
import re
import shlex
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from functools import cache
from itertools import count
from pathlib import Path
from typing import NamedTuple

import pytest

from cluster.cli import COMMANDS
from shared.detectors.invariants import INVARIANTS
from shared.errata import ERRATA, Status, counts, with_big_lock
from shared.locks.order import ORDER, parse
from shared.scenario.steps.table import STEPS
from tests.kit import SHIPPED, uvmp
from tests.language import EMPTY, GERMAN, GERMAN_IN_CODE, comments, empty_names

ROOT = Path(__file__).parent.parent
FOLDERS = ("configs", "shared", "nodes", "cluster", "tests")
#: path -> text of every text that is about the project as it is now (CHANGELOG.md is about what it was)
TEXTS = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in [
        *(ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md")),
        *(path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.md"))),
    ]
}
README = TEXTS["README.md"]
#: the text that walks from an empty file to a token: its commands run in order, on the file that it writes
WALK = "configs/README.md"
LIVE = ("--live", "--engine live", "attach real")


class Shown(NamedTuple):
    """A command of a text.

    Attributes:
        command: without the remark behind it.
        code: the exit code that the remark names.
        lines: what the text shows of its output.
    """

    command: str
    code: int | None
    lines: list[str]


def commands(text: str) -> Iterator[Shown]:
    """The commands of a text, in order."""
    for command, remark, lines in re.findall(
        r"^    \$ (uvmp .*?)(?:  +(.*))?\n((?:    (?!\$).*\n)*)", text, re.MULTILINE
    ):
        code = re.fullmatch(r"\(exits (\d)\)", remark)
        yield Shown(command, int(code.group(1)) if code else None, lines.splitlines())


#: each command of the texts once, those of README.md first
SHOWN = list({
    (shown.command, *shown.lines): shown for name, text in TEXTS.items() if name != WALK for shown in commands(text)
}.values())  # fmt: skip


def flat(name: str) -> str:
    """A text without its line breaks."""
    return " ".join(TEXTS[name].split())


def run(command: str, token: str = "") -> tuple[int, str]:
    """Run one command in this process; TOKEN stands for the end of a token."""
    words = shlex.split(re.sub(r"uvmp1\.[\w-]+\.TOKEN", token, command))[1:]
    result = uvmp(*words)
    return result.exit_code, result.output


def token_in(output: str) -> str:
    """The token that a command has printed; "" if it has printed none."""
    token = re.search(r"uvmp1\.\S+", output)
    return token.group() if token else ""


def assert_shown(shown: Shown, code: int, output: str, token: str) -> None:
    """The command came to what the text says of it."""
    finds = shown.command.split()[1] in ("explore", "minimize", "replay") and "--expect" not in shown.command
    assert code == (int(finds) if shown.code is None else shown.code), output
    printed = " ".join(output.split())
    for line in shown.lines:
        for part in line.split("..."):
            expected = " ".join(part.split()).replace("uvmp1.S3a-shipped.TOKEN", token)
            assert expected in printed, f"the text shows {expected!r}"


def block(name: str, first: str) -> str:
    """The indented block of a text that begins with a line."""
    text = TEXTS[name]
    lines = text[text.index(f"    {first}\n") :].splitlines()
    end = next(number for number, line in enumerate(lines) if line and not line.startswith("    "))
    return textwrap.dedent("\n".join(lines[:end])).strip() + "\n"


def table(name: str, head: str) -> dict[str, str]:
    """A table of two columns, by its head: first column -> second."""
    text = TEXTS[name]
    start = text.index(f"| {head} | |\n")
    rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \|$", text[start : text.index("\n\n", start)], re.MULTILINE)
    return dict(rows)


@pytest.fixture(scope="module")
def token() -> str:
    """The token that the first command of README.md finds."""
    output = run(SHOWN[0].command)[1]
    assert token_in(output), output
    return token_in(output)


# -- commands ---------------------------------------------------------------------------


def test_the_texts_show_the_commands_a_newcomer_needs() -> None:
    """A text whose examples are not recognized as such would pass every other test here."""
    shown = " ".join(shown.command for shown in commands(README))
    for word in ("explore", "replay", "postmortem", "run", "scenarios", "errata", "doctor"):
        assert f"uvmp {word}" in shown
    everywhere = " ".join(shown.command for shown in SHOWN)
    assert [word for word in COMMANDS if f"uvmp {word}" not in everywhere] == []


def needs_live(shown: Shown) -> bool:
    """Does it boot Ray, or want what a command that does has left behind?"""
    return any(word in shown.command for word in LIVE) or shown.command.startswith(("uvmp postmortem", "uvmp collect"))


def needs_session(shown: Shown) -> bool:
    """Does it boot a machine that stays, or want it, or a run that such a machine takes over?"""
    theirs = any(word in shown.command.split() for word in ("s3a/run", "taken/run", "first"))
    return theirs or shown.command.split()[1] in ("boot", "attach")


@pytest.mark.parametrize(
    "shown",
    [shown for shown in SHOWN if not needs_live(shown) and not needs_session(shown)],
    ids=lambda shown: shown.command,
)
def test_a_command_of_the_texts_works(
    shown: Shown, token: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a newcomer types first must do what the text says."""
    monkeypatch.chdir(tmp_path)  # `uvmp fuzz` makes a folder
    assert_shown(shown, *run(shown.command, token), token)


@pytest.mark.live
@pytest.mark.usefixtures("ray_session")
def test_live_commands_of_the_texts_work(token: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same for those that boot Ray, in the texts' order, so that the postmortem has its run."""
    monkeypatch.chdir(tmp_path)
    for shown in SHOWN:
        if any(word in shown.command for word in LIVE):
            code, output = run(shown.command.replace("--repeat 20", "--repeat 3"), token)
            assert code in (0, 1), output
        elif shown.command.startswith("uvmp postmortem"):
            code, output = run(shown.command, token)
            assert code == 0, output
            assert "amap_cow_now" in output
        elif shown.command.startswith("uvmp collect"):
            assert run(shown.command, token) == (0, "no journal of this run is on another computer\n")


def test_the_sessions_of_the_texts_work(token: str, sessions: Path) -> None:
    """Their commands in the texts' order, in one folder; the last of each session ends its machine."""
    for shown in SHOWN:
        if needs_live(shown) or not needs_session(shown):
            continue
        assert_shown(shown, *run(shown.command, token), token)
    assert list(sessions.glob("*/socket")) == []


def test_the_five_steps_lead_from_an_empty_file_to_a_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each piece of the file is appended, and each command run, where it stands."""
    monkeypatch.chdir(tmp_path)
    file, token, ran = tmp_path / "mine.yaml", "", 0
    for piece in re.split(r"(^```yaml\n.*?^```$)", TEXTS[WALK], flags=re.MULTILINE | re.DOTALL):
        if piece.startswith("```yaml\n"):
            with file.open("a", encoding="utf-8") as stream:
                stream.write(piece.removeprefix("```yaml\n").removesuffix("```"))
            continue
        for shown in commands(piece):
            code, output = run(shown.command, token)
            assert_shown(shown, code, output, token)
            token, ran = token_in(output) or token, ran + 1
    assert ran == 6 and token.startswith("uvmp1.mine.")


def test_a_command_that_a_text_names_exists() -> None:
    for name, text in TEXTS.items():
        assert set(re.findall(r"`uvmp ([a-z]\w*)", text)) <= COMMANDS.keys(), name


def test_a_make_target_that_a_text_names_exists() -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for name, text in TEXTS.items():
        assert set(re.findall(r"(?:`|^    )make ([a-z][a-z-]*)", text, re.MULTILINE)) <= targets, name


def test_readme_says_how_the_command_is_called_after_set_up() -> None:
    assert "`.venv/bin/uvmp`" in README and "`. .venv/bin/activate`" in README


# -- examples ---------------------------------------------------------------------------


def test_the_scenario_of_ones_own_runs_as_it_stands(tmp_path: Path) -> None:
    """Pasted into an empty file; and each of its lines is needed for what the README says."""
    text = block("README.md", "id: mine")
    (tmp_path / "mine.yaml").write_text(text, encoding="utf-8")
    words = ["explore", str(tmp_path / "mine.yaml"), "--schedules", "50"]
    result = uvmp(*words, "--expect")
    assert result.exit_code == 0 and "as expected" in result.output, result.output
    (tmp_path / "mine.yaml").write_text(text[: text.index("expect:")], encoding="utf-8")
    assert uvmp(*words).exit_code == 0


def test_the_program_of_ones_own_does_what_is_said(tmp_path: Path) -> None:
    start = README.index("    from cluster.api import")
    text = block("README.md", README[start : README.index("\n", start)].strip())
    (tmp_path / "deposit.py").write_text(text, encoding="utf-8")
    result = subprocess.run([sys.executable, tmp_path / "deposit.py"], capture_output=True, text=True, check=True)
    assert result.stdout.startswith("data-race: data race in deposit on balance of account:0\n"), result.stdout


def test_the_patch_of_ones_own_does_what_is_said(tmp_path: Path) -> None:
    (tmp_path / "fix.py").write_text(block("README.md", "from shared.patch import replaces"), encoding="utf-8")
    result = uvmp("explore", "S3a", "--fixed", "--patch", tmp_path / "fix.py")
    assert result.exit_code == 1 and "C reads 0 at buf[0], which must be 1" in result.output, result.output


# -- counts and tables ------------------------------------------------------------------


def test_the_texts_count_the_invariants() -> None:
    said = {number for name in TEXTS for number in re.findall(r"(\d+) invariants", flat(name))}
    assert said == {str(len(INVARIANTS))}


def test_the_texts_count_the_errata() -> None:
    """How many NetBSD's UVM really had, and how many show with the big lock."""
    text = flat("shared/errata/README.md")
    said = {status: re.findall(rf"(\d+) are \*{status}\*", text) for status in Status}
    assert said == {status: [str(many)] for status, many in counts().items()}
    seen = re.findall(r"the \d+ errata (\d+) are \*seen\*.* (\d+) are \*asserted\*.* (\d+) are \*latent\*", text)
    assert seen == [tuple(str(many) for many in with_big_lock().values())]
    assert re.findall(r"(\d+) of the (\d+) errata", text) == [
        (str(sum(erratum.status.real for erratum in ERRATA.values())), str(len(ERRATA)))
    ]


def test_every_step_is_named_in_its_family() -> None:
    """A row of the table of steps for each family, with the names of all its steps."""
    rows = {family: re.findall(r"\w+", words) for family, words in table(WALK, "steps").items()}
    families = {kind.family for kind in STEPS.values()}
    assert families <= rows.keys() <= families | {"steps"}
    for family in families:
        named = [word for word in rows[family] if word in STEPS and STEPS[word].family == family]
        assert sorted(named) == sorted(op for op, kind in STEPS.items() if kind.family == family)


def test_every_key_of_a_machine_is_in_its_table() -> None:
    keys = json.loads(uvmp("schema").stdout)["definitions"]["machine"]["properties"]
    named = {word for cell in table(WALK, "keys of a machine") for word in re.findall(r"\w+", cell)}
    assert keys.keys() <= named


def test_every_scenario_has_a_row_that_says_how_soon_its_defect_is_found() -> None:
    text = TEXTS["configs/scenarios/README.md"]
    rows = re.findall(r"^    (\S+)(?: +(?:>?[\d,]+|-)){6}$", text, re.MULTILINE)
    assert sorted(rows) == SHIPPED


def test_the_page_on_uvm_has_the_lock_order_as_it_is_checked() -> None:
    text = TEXTS["shared/uvm/README.md"]
    assert block("shared/uvm/README.md", ORDER.strip().splitlines()[0]) == ORDER.lstrip()
    explained = set(re.findall(r"`([\w.]+)`", " ".join(re.findall(r"^\| (`.*?) \|", text, re.MULTILINE))))
    assert explained == {lock for pair in parse(ORDER) for lock in pair}


def test_every_decision_has_a_number_and_an_alternative() -> None:
    text = TEXTS["ARCHITECTURE.md"]
    decisions = dict(re.findall(r"^\*\*(D-\d{3}) (.*?)\n\n", text, re.MULTILINE | re.DOTALL))
    assert list(decisions) == [f"D-{number:03}" for number, _ in zip(count(1), decisions)]
    assert [number for number, words in decisions.items() if "*Alternative" not in words] == []
    named = {number for path in files() if path.endswith((".py", ".md")) for number in re.findall(
        r"\bD-\d{3}\b", (ROOT / path).read_text(encoding="utf-8"))}  # fmt: skip
    assert named <= decisions.keys()


# -- what is named exists ---------------------------------------------------------------

#: names of files that a reader makes, or a run; "patch.py" is what PATH sees of patch.py.txt
THEIRS = {"mine.yaml", "fix.py", "FILE.py", "ID.yaml", "NAME.yaml", "run.json", "scenario.json", "patch.py"}
PATH = re.compile(
    r"(?<![\w./*<-])(?:[\w-]+/)*[\w-]+\.(?:py|md|yaml|txt|json|toml)\b(?!\w)"
    r"|(?<![\w./-])(?:shared|nodes|cluster|tests|configs)/[\w/]*\w/?"
)


@cache
def files() -> frozenset[str]:
    """Every file of the project, relative to its root."""
    paths = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*") if "__pycache__" not in path.parts]
    return frozenset(path.relative_to(ROOT).as_posix() for path in (*paths, *ROOT.glob("*.*")) if path.is_file())


def exists(path: str, base: Path) -> bool:
    """Is this a path from the root, or from the text's folder, or the name of a file somewhere below that?"""
    if (ROOT / path).exists() or (base / path).exists():
        return True
    prefix = "" if base == ROOT else base.relative_to(ROOT).as_posix() + "/"
    return any(name.startswith(prefix) and name.endswith("/" + path) for name in files())


@pytest.mark.parametrize("name", TEXTS)
def test_every_path_and_every_link_of_a_text_leads_somewhere(name: str) -> None:
    base = (ROOT / name).parent
    links = [link.split("#")[0] for link in re.findall(r"\]\(([^)]+)\)", TEXTS[name]) if "://" not in link]
    assert [link for link in links if not (base / link).exists()] == []
    paths = [path for path in PATH.findall(TEXTS[name]) if path not in THEIRS]
    assert [path for path in paths if not exists(path, base)] == []


@cache
def defined(path: str) -> frozenset[str]:
    """The functions and classes of a module."""
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    kinds = (ast.FunctionDef, ast.ClassDef)
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, kinds))


@pytest.mark.parametrize("name", TEXTS)
def test_every_function_that_a_text_names_beside_its_file_is_there(name: str) -> None:
    """As `shared/uvm/trap.py` (`trap`, `user_read`); and every test that is named anywhere."""
    for path, words in re.findall(r"`([\w/]+\.py)` \((`\w+`(?:, `\w+`)*)\)", flat(name)):
        whole = path if (ROOT / path).exists() else f"{Path(name).parent.as_posix()}/{path}"
        assert set(re.findall(r"\w+", words)) <= defined(whole), path
    tests = {word for path in files() if path.startswith("tests/") and path.endswith(".py") for word in defined(path)}
    modules = {Path(path).stem for path in files()}
    assert set(re.findall(r"`(test_\w+)`", flat(name))) <= tests | modules


def test_the_walk_through_the_machine_names_functions() -> None:
    """A walk whose functions are not recognized as such would pass the test before this one."""
    named = re.findall(r"`[\w/]+\.py` \(`", flat("ARCHITECTURE.md"))
    assert len(named) >= 20


# -- form -------------------------------------------------------------------------------


def test_readme_is_short() -> None:
    """The front door: whatever needs more room has a text of its own."""
    assert len(README.splitlines()) <= 150


@pytest.mark.parametrize("name", TEXTS)
def test_a_text_fits_120_columns(name: str) -> None:
    """Except for rows of tables, which cannot be broken."""
    assert [line for line in TEXTS[name].splitlines() if len(line) > 120 and not line.startswith("|")] == []


@pytest.mark.parametrize("name", TEXTS)
def test_a_text_is_in_plain_english(name: str) -> None:
    """Without the phrases that CONTRIBUTING.md refuses, which it may quote in a table."""
    prose = "\n".join(line for line in TEXTS[name].splitlines() if not line.startswith(("|", "    ")))
    assert GERMAN.findall(prose) == []


@pytest.mark.parametrize("command", COMMANDS)
def test_a_help_is_in_plain_english(command: str) -> None:
    assert GERMAN.findall(uvmp(command, "--help").output) == []


def test_comments_and_docstrings_are_in_plain_english() -> None:
    sources = [path for path in files() if path.endswith(".py") and not path.startswith("tests/")]
    phrases = [
        f"{path}:{line} {phrase}"
        for path in sources
        for line, text in comments((ROOT / path).read_text(encoding="utf-8"))
        for phrase in GERMAN_IN_CODE.findall(text)
    ]
    assert phrases == []


def test_a_variable_is_named_by_a_noun() -> None:
    sources = [ROOT / path for path in files() if path.endswith(".py")]
    nameless = [
        f"{path.relative_to(ROOT)}:{line} {name}"
        for path in sources
        for line, name in empty_names(path.read_text(encoding="utf-8"))
    ]
    assert nameless == []


@pytest.mark.parametrize("name", sorted(EMPTY))
def test_an_empty_name_is_seen_wherever_it_is_bound(name: str) -> None:
    bindings = (
        "{} = 1", "for _, {} in (): pass", "[0 for {} in ()]", "lambda {}: 0", "def f(*, {}): pass", "def _{}(): pass",
        "class A:\n    {}: int", "self._{} = 0", "try: pass\nexcept E as {}: pass", "with f() as {}: pass",
        "(_ := 0, {} := 1)",
    )  # fmt: skip
    for binding in bindings:
        assert len(list(empty_names(binding.format(name)))) == 1, binding


def test_every_folder_with_modules_has_a_readme() -> None:
    modules = [path for path in files() if path.endswith(".py") and "/" in path and not path.endswith("__init__.py")]
    assert [path for path in modules if f"{Path(path).parent.as_posix()}/README.md" not in files()] == []


@pytest.mark.parametrize("name", [name for name in TEXTS if re.match(r"(shared|nodes|cluster)/(?!uvm/)", name)])
def test_a_folder_s_readme_names_each_of_its_modules(name: str) -> None:
    """Except the kernel's, whose reading order is in pyproject.toml, and the commands', which have the same names."""
    folder = (ROOT / name).parent
    modules = {path.stem for path in folder.glob("*.py") if not path.stem.startswith("__")}
    modules -= COMMANDS.keys() if name == "cluster/cli/README.md" else set()
    assert {module for module in modules if f"{module}.py" not in TEXTS[name]} == set()
