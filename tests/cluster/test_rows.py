"""Which rows of a history are shown: rounds fold, and what explains the finding stays."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.postmortem.analyse import analyse
from cluster.postmortem.history import Line
from cluster.postmortem.rows import LONGEST_TEXT, MAX_TEXTS, choose, fold, mark, named_operations
from cluster.postmortem.views.screen import render_screen
from cluster.postmortem.views.text import gap_words, render
from shared.errors import Exit, UserMistake
from tests.cluster.test_postmortem import SPINS, Story, locked_anon
from tests.kit import uvmp


def row(ctx: str, n: int, *items: str, fn: str = "f") -> Line:
    return Line(ctx, "cpu0", n, n + len(items) - 1, fn, "g", list(items), ns=[n + at for at in range(len(items))])


def shown_rows(rows: list[Line]) -> list[str]:
    return [gap_words(row) if row.gap else f"{row.ctx}{row.first}" for row in rows]


def loop(times: int) -> list[Line]:
    """A row, a round of two rows so often, and a row."""
    rounds = [row("A", 10 * at, text) for at in range(1, times + 1) for text in ("locks x:1.l", "x:1#7.v = 3")]
    for at, number_of in enumerate(rounds):
        number_of.first = at
        number_of.items = [number_of.items[0].replace("#7", f"#{at}")]  # (each time it is another life of x:1)
    return [row("A", 900, "begins"), *rounds, row("B", 901, "ends")]


# -- folding ----------------------------------------------------------------------------


def test_a_round_that_repeats_is_told_by_its_first_and_its_last_time() -> None:
    rows = loop(2110)
    assert shown_rows(fold(rows)) == [
        "A900",
        "A0",
        "A1",
        "(these 2 rows, 2,110 times; the last time:)",
        "A4218",
        "A4219",
        "B901",
    ]


@pytest.mark.parametrize("times", [1, 2, 3])
def test_a_few_rounds_are_not_worth_it(times: int) -> None:
    assert fold(loop(times)) == loop(times)


def test_what_differs_is_no_round_and_a_row_that_explains_is_never_folded() -> None:
    other = [row("A", at, f"x:{at}.v = 3") for at in range(9)]
    assert fold(other) == other
    rows = loop(50)
    mark(rows, [("A", rows[41].ns[0])])
    assert rows[41].key == 0 and rows[41] in fold(rows) and len(fold(rows)) == 14


def test_an_endless_loop_in_a_log_is_folded_in_every_history(tmp_path: Path) -> None:
    story = locked_anon()
    for _ in range(200):
        story.enter("2C", "uvm_fault").lock("2C", "anon:5.an_lock", "uvm_fault").unlock("2C", "anon:5.an_lock")
        story.leave("2C", "uvm_fault").enter("2C", "uvm_wait").op("2C", "wakeup", "lock_manager", chan="anon:5")
        story.leave("2C", "uvm_wait")
    path = story.write(tmp_path / "run", {"finding": SPINS})
    pm = analyse(path)
    assert [(step.gap, step.times) for step in pm.steps if step.gap] == [(2, 200)] and len(pm.steps) < 20
    (anon,) = (object for object in pm.objects if object.name == "anon:5")
    assert [(row.gap, row.times) for row in anon.history if row.gap] == [(2, 200)]
    for text in (render(pm, 100), render_screen(pm, 80)):
        assert "(these 2 rows, 200 times; the last time:)" in text


# -- choosing ---------------------------------------------------------------------------


def test_the_rows_that_explain_are_kept_then_the_last_ones() -> None:
    rows = [row("A", at, "x") for at in range(100)]
    mark(rows, [("A", 50), ("A", 7), ("B", 8)])
    assert shown_rows(choose(rows, 4)) == ["(7 rows)", "A7", "(42 rows)", "A50", "(47 rows)", "A98", "A99"]
    assert shown_rows(choose(rows, 1)) == ["(50 rows)", "A50", "(49 rows)"]
    assert choose(rows[:4], 4) == rows[:4]


def test_operations_are_found_in_sentences_by_the_context_before_them() -> None:
    texts = (
        "it is operation 241 of T, on page:10",
        "A stored it at m[0] (its operation 168), in page:0; page:3 was freed by pagedaemon in f < g (its operation 9)",
        "store to page:16.flags by cpu0.ipi on cpu0, operation 342, in uvm_fault",
        "nobody did it, operation 4",
    )
    contexts = {"A", "T", "pagedaemon", "cpu0.ipi"}
    assert named_operations(texts, contexts) == [("T", 241), ("A", 168), ("pagedaemon", 9), ("cpu0.ipi", 342)]


def test_the_operation_that_took_the_lock_that_is_waited_for_is_on_the_first_screen(tmp_path: Path) -> None:
    """However much was done with the lock before and after."""
    story = Story().run("1B")
    for at in range(300):
        story.enter("1B", f"f{at}").lock("1B", "anon:5.an_lock", f"f{at}").unlock("1B", "anon:5.an_lock")
        story.leave("1B", f"f{at}")
    story.run("0A").lock("0A", "anon:5.an_lock", "amap_cow_now")
    for at in range(300):
        story.store("1B", "anon:5#0", "an_ref", at)
        story.enter("1B", f"g{at}").leave("1B", f"g{at}")
    story.lock("1B", "anon:5.an_lock", "uvm_fault", wait=True)
    pm = analyse(story.write(tmp_path / "run", {"finding": SPINS}))
    for text in (render_screen(pm, 80), render(pm, 80)):
        assert "locks anon:5.an_lock" in text and "wants anon:5.an_lock: waits" in " ".join(text.split())


# -- the command ------------------------------------------------------------------------


def run(*args: object) -> tuple[int, str, str]:
    result = uvmp("postmortem", *args)
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return locked_anon().write(tmp_path / "run", {"finding": SPINS})


def test_first_the_screen_then_with_full_the_rest(folder: Path) -> None:
    code, screen, _ = run(folder)
    assert code == Exit.NO_FINDING and screen.splitlines()[0].endswith(": spin-forever in amap_cow_now, anon:5")
    assert len(screen.splitlines()) <= 40 and f"postmortem {folder} --full" in " ".join(screen.split())
    _, full, _ = run(folder, "--full")
    assert "show uvmexp" not in screen and "Last events of each node" in full and "Last events" not in screen


@pytest.mark.parametrize(
    ("name", "head", "says"),
    [
        ("anon:5", "ANON anon:5#1", "renews anon:5 as #1"),
        ("anon:5.an_lock", "LOCK anon:5.an_lock", "uvm_fault: wants anon:5.an_lock: waits"),
        (
            "anon:5.an_lock",
            "LOCK anon:5.an_lock",
            "held by 0A since amap_cow_now, operation 3 wanted by 1B in uvm_fault",
        ),
        ("amap:2.am_l", "LOCK amap:2.am_l", "locks amap:2.am_l"),
    ],
)
def test_another_object_is_told_with_its_whole_history(folder: Path, name: str, head: str, says: str) -> None:
    code, text, _ = run(folder, "--object", name)
    assert code == Exit.NO_FINDING and text.startswith(head + "\n") and says in " ".join(text.split())


@pytest.mark.parametrize("name", ["page:3", "anon:55", "anon:5.lock", "nonsense", "slot:1", "\x1b[31m"])
def test_an_object_that_is_not_there_is_an_error_that_says_what_is(folder: Path, name: str) -> None:
    code, text, error = run(folder, "--object", name)
    assert code == Exit.USAGE and not text and "\x1b" not in error
    assert "--object" in error and "there are" in error and "anon:5" in error and len(error.splitlines()) <= 2
    with pytest.raises(UserMistake, match="there is no object"):
        analyse(folder, name)


def test_of_results_that_nobody_expected_the_programs_steps_are_told(tmp_path: Path) -> None:
    """No struct is to blame: what matters is what was done, and what was read and stored meanwhile."""
    story = Story().run("0A")
    for op, event, value, result in (("write", "word_write", 5, 0), ("read", "word_read", 6, 6)):
        story.event("0A", "call", op=op, args={"at": 128}).op(
            "0A", "store", "memory", obj="anon:5#0", field="x", slot=2
        )
        story.op("0A", event, "memory", frame=3, offset=0, va=128, proc=0, value=value)
        story.event("0A", "return", op=op, result=result)
    finding = {**SPINS, "kind": "unexpected-result", "detector": "results", "subject": "r", "context": "0A"}
    pm = analyse(story.write(tmp_path / "run", {"finding": {**finding, "text": "expected r to be 5, found 6"}}))
    assert [step.items for step in pm.steps] == [
        ["begins write at 0x80", "stores 5 at 0x80, in page:3", "write returns 0"],
        ["begins read at 0x80", "reads 6 at 0x80, in page:3", "read returns 6"],
    ]


def test_of_a_story_from_a_file_only_so_much_is_looked_at() -> None:
    """It may have as many sentences, and as long, as it likes: to look at all would take hours."""
    far = "x " * LONGEST_TEXT + "operation 2 of A"
    assert named_operations(["operation 1 of A", far], {"A"}) == [("A", 1)]
    assert named_operations([""] * MAX_TEXTS + ["operation 3 of A"], {"A"}) == []
