"""The command prints what the transcripts say, to the letter.

`pytest tests/transcripts --rewrite` writes them anew. Look at the difference, and commit it only if you can say why
each line of it is as it should be. transcript.py says how they are written, and what is masked in them.
"""

from __future__ import annotations

import difflib
from pathlib import Path

import pytest

from tests.transcripts.transcript import Session, masked, rendered, transcripts


@pytest.mark.parametrize("path", transcripts(), ids=lambda path: path.stem)
def test_a_transcript_is_what_the_commands_print(path: Path, request: pytest.FixtureRequest, sessions: Path) -> None:
    assert Path.cwd() == sessions
    written = path.read_text(encoding="utf-8")
    printed = rendered(written)
    if request.config.getoption("--rewrite"):
        path.write_text(printed, encoding="utf-8")
        return
    if printed != written:
        before, after = written.splitlines(), printed.splitlines()
        pytest.fail("\n".join(difflib.unified_diff(before, after, path.name, "printed", lineterm="")), pytrace=False)


def test_a_transcript_whose_output_differs_is_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In any line of it: of stdout, of stderr, the exit code, or a line that is missing."""
    monkeypatch.chdir(tmp_path)
    text = "prose\n\n$ echo a; echo b >&2; exit 3\n| a\n! b\n= 3\n\nmore of it\n"
    assert rendered(text) == text
    for wrong in (text.replace("| a", "| c"), text.replace("! b", "| b"), text.replace("= 3", "= 0"),
                  text.replace("! b\n", "")):  # fmt: skip
        assert rendered(wrong) == text


def test_a_file_is_made_from_the_transcript(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = "$ cat > a.yaml <<END\nx: 1\n| no output\nEND\n= 0\n$ cat a.yaml\n| x: 1\n| | no output\n= 0\n"
    assert rendered(text) == text


def test_only_clocks_and_digests_are_masked() -> None:
    line = "| (pct, depth 2, seed 5; 1,309 per second) uvmp1.E10.0123abcd.89abcdef.bZYA.abcdef kernel 0123abcd"
    assert masked(line) == "| (pct, depth 2, seed 5; ~ per second) uvmp1.E10.~.~.bZYA.~ kernel ~"
    assert masked("! made for E10 as 0123abcd, here it is 89abcdef") == "! made for E10 as ~, here it is ~"
    assert masked('|   "seconds": 1.25,') == '|   "seconds": ~,'
    assert masked("| 1,309 operations, digest 0123abcd") == "| 1,309 operations, digest 0123abcd"


def test_a_command_that_prints_a_token_gives_it_to_the_next() -> None:
    session = Session()
    assert session.run("uvmp replay nosuch")[-1] == "= 2" and session.token == ""
    session.run("uvmp explore S3h --schedules 1")
    assert session.token.startswith("uvmp1.S3h.")
    assert session.run("uvmp replay TOKEN")[-1] == "= 1"
