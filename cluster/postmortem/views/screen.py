"""The first screen of a Postmortem: a summary of at most 40 lines.

It shows the finding, the context and the cause, the most important rows, the wait-for graph, and the command that
repeats the run. Text that is too long ends in "..."; the report (cluster/postmortem/views/text.py) has everything.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePath

from cluster.postmortem.analyse import Postmortem
from cluster.postmortem.history import Line
from cluster.postmortem.rows import choose
from cluster.postmortem.views.text import WIDTH, fold_text, gap_words, wrap
from cluster.postmortem.words import GLOBALS
from shared.findings import FINDINGS
from shared.text import clean

HEIGHT = 40
MAX_ROWS = 10
#: lines for the text, for each sentence of the story and each wait, and how many of those there are at most
TEXT_LINES, STORY_LINES, WAIT_LINES = 3, 3, 3
MAX_STORY, MAX_WAITS = 4, 3
#: lines that a row has at most, and all rows at least
ROW_LINES, FEWEST = 2, 8
#: how items begin that are left out of a row before others, the last first
DULL = (("pmap_is_", "pmap_clear_"), ("locks ", "tries ", "unlocks ", "wakeup "))


def render_screen(pm: Postmortem, width: int = WIDTH, full: str = "") -> str:
    """The screen, ending in a newline.

    Args:
        width: of the terminal; at least 60 is used.
        full: the command that gives the whole report.
    """
    width = max(60, min(width, 200))
    parts = [list(_what(pm, width)), [], list(_waits(pm, width)), list(_again(pm, width, full))]
    used = sum(_rows_of(line, width) for part in parts for line in part) + sum(1 for part in parts if part)
    parts[1] = _rows(pm, width, max(FEWEST, HEIGHT - used))
    blocks = ["\n".join(clean(line).rstrip() for line in part) for part in parts if part]
    return "\n\n".join(blocks) + "\n"


def _rows_of(line: str, width: int) -> int:
    """How many lines of the terminal a line takes; only a command that is to be pasted is longer than one."""
    return max(1, -(-len(line) // width))


def _short(lines: list[str], most: int, width: int) -> list[str]:
    """At most so many of the lines; that there were more is said at the end of the last one."""
    if len(lines) <= most:
        return lines
    last = lines[most - 1][: width - 4].rstrip()
    return [*lines[: most - 1], f"{last} ..."]


def _what(pm: Postmortem, width: int) -> Iterator[str]:
    name = pm.scenario.get("id") or PurePath(pm.path).name
    yield from _short(wrap(f"{name}: {pm.headline}", width, "", "  "), 2, width)
    finding = pm.finding
    if finding is not None:
        yield from _short(wrap(finding.text, width), TEXT_LINES, width)
        if finding.kind in FINDINGS:
            yield from _short(wrap(f"({FINDINGS[finding.kind].meaning})", width), 2, width)
        story = finding.story if finding.detector != "deadlock" or not pm.waits else []
        for sentence in story[:MAX_STORY]:
            yield from _short(wrap("- " + sentence, width, hang="  "), STORY_LINES, width)
    errata = ", ".join(erratum["id"] + (f" ({erratum['row']})" if erratum["row"] else "") for erratum in pm.errata)
    yield from _short(fold_text(errata or pm.no_errata, width, "  errata: ", " " * 10), 2, width)
    if pm.patch:
        yield from _short(fold_text(pm.patch_words, width, "  patch: ", " " * 9), 2, width)


def _rows(pm: Postmortem, width: int, room: int) -> list[str]:
    about = ", ".join(GLOBALS.get(name, name).replace("slot:", "swap slot ") for name in pm.steps_about)
    head = _short(wrap(f"What happened{f' to {about}' if about else ''}", width, "", "  "), 2, width)
    head += ["  (context, its operation number, function: action)"]
    for many in range(min(MAX_ROWS, len(pm.steps)), 0, -1):
        rows = choose(pm.steps, many)
        ctx = max(len(row.ctx) for row in rows)
        number = max((len(_number(row)) for row in rows), default=0)
        lines = [line for row in rows for line in _row(row, width, ctx, number)]
        if len(head) + len(lines) <= room:
            return head + lines
    return []


def _row(row: Line, width: int, ctx: int, number: int) -> list[str]:
    if row.gap:
        return [f"  {gap_words(row)}"] if row.times else ["  ..."]
    first = f"  {row.ctx:<{ctx}} {_number(row):>{number}}  "
    keep = list(range(len(row.items)))
    while True:
        text = f"{row.fn or row.outside}: {'; '.join(row.items[at] for at in keep)}"
        lines = fold_text(text + (" ..." if len(keep) < len(row.items) else ""), width, first, " " * (len(first) + 2))
        if len(lines) <= ROW_LINES or len(keep) == 1:
            return _short(lines, ROW_LINES, width)
        keep.remove(max(keep, key=lambda at: (_dullness(row, at), at)))


def _dullness(row: Line, at: int) -> int:
    """Which item of a row is left out first, if there is no room for all."""
    if at in row.telling:
        return 0
    return next((rank for rank, dull in enumerate(DULL, 2) if row.items[at].startswith(dull)), 1)


def _number(row: Line) -> str:
    return "" if row.gap else str(row.first) if row.first == row.last else f"{row.first}-{row.last}"


def _waits(pm: Postmortem, width: int) -> Iterator[str]:
    if not pm.waits:
        return
    yield "Wait-for graph"
    for sentence in pm.waits[:MAX_WAITS]:
        yield from _short(wrap(sentence + ".", width, hang="  "), WAIT_LINES, width)
    if len(pm.waits) > MAX_WAITS:
        yield f"  (and {len(pm.waits) - MAX_WAITS} more)"
    if len(pm.cycle) > 1:
        ring = " -> ".join([*pm.cycle, pm.cycle[0]])
        yield from _short(wrap(f"{ring}: a cycle, so none of them can continue.", width, hang="  "), 2, width)


def _again(pm: Postmortem, width: int, full: str) -> Iterator[str]:
    yield "To repeat it"
    yield f"  {clean(pm.replay or pm.no_replay)}"
    if pm.shortened:
        yield "The same finding, shortened (another schedule)"
        yield f"  {clean(pm.shortened)}"
    if not pm.complete:
        yield from _short(wrap(f"The log is INCOMPLETE: {(pm.warnings + pm.holes)[0]}", width, "", "  "), 2, width)
    if full:
        option = f"; for one object: --object {pm.steps_about[-1]}" if pm.steps_about else ""
        yield from fold_text(f"For more: {full}{option}", width, "", "  ")
