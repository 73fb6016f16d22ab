"""Selects the rows of a history to show: repeated rounds are folded, and rows that explain the finding always stay.

A row has the operations of one call of one function (`Line`). A row with a `gap` stands for that many omitted rows.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from itertools import islice

from cluster.postmortem.history import Line

#: longest round that is looked for, and how many rows must be saved to fold it
LONGEST_ROUND, FEWEST_SAVED = 24, 3
#: sentences, and characters of each, in which operations are looked for: texts may come from anybody's file
MAX_TEXTS, LONGEST_TEXT = 100, 2000
_OPERATION = re.compile(r"\boperation (\d{1,9})(?: of ([A-Za-z][\w.]*))?")
_WORD = re.compile(r"[A-Za-z][\w.]*")
_LIFE = re.compile(r"#\d+")

#: a context and the number of one of its operations
Operation = tuple[str, int]


def named_operations(texts: Iterable[str], contexts: Collection[str]) -> list[Operation]:
    """The operations that sentences speak of: `operation 7 of A`, or the number behind a context's name."""
    operations: list[Operation] = []
    for text in islice(texts, MAX_TEXTS):
        for match in _OPERATION.finditer(text[:LONGEST_TEXT]):
            before = reversed([word[0].rstrip(".") for word in _WORD.finditer(text[: match.start()])])
            names = [match[2] or "", *before]
            who = next((name for name in names if name in contexts), "")
            if who:
                operations.append((who, int(match[1])))
    return list(dict.fromkeys(operations))


def mark(rows: Iterable[Line], operations: Sequence[Operation]) -> None:
    """Say of each row which of these operations, the most telling first, are in it."""
    rank = {operation: at for at, operation in reversed(list(enumerate(operations)))}
    for row in rows:
        row.telling = [at for at, n in enumerate(row.ns) if (row.ctx, n) in rank]
        row.key = min((rank[row.ctx, row.ns[at]] for at in row.telling), default=0 if row.finding else -1)


def fold(rows: Sequence[Line]) -> list[Line]:
    """The rows, with rounds that repeat told by their first and their last time, and how often there were."""
    keys = [_sameness(row, at) for at, row in enumerate(rows)]
    folded: list[Line] = []
    at = 0
    while at < len(rows):
        size, times = _round(keys, at)
        if (times - 2) * size < FEWEST_SAVED:
            folded.append(rows[at])
            at += 1
            continue
        end = at + size * times
        folded += [*rows[at : at + size], gap_row(size, times), *rows[end - size : end]]
        at = end
    return folded


def _sameness(row: Line, at: int) -> object:
    """What two rows of different rounds have in common; nothing, of a row that explains something."""
    if row.key >= 0 or row.finding or row.gap:
        return at
    return row.ctx, row.fn, row.caller, tuple(_LIFE.sub("#", text) for text in row.items)


def _round(keys: Sequence[object], at: int) -> tuple[int, int]:
    """The length of the round that begins here, and how often it comes; it is the round that covers most rows."""
    best = (1, 1)
    for size in range(1, min(LONGEST_ROUND, (len(keys) - at) // 2) + 1):
        if keys[at + size] != keys[at]:
            continue
        first, times = keys[at : at + size], 1
        while keys[at + times * size : at + (times + 1) * size] == first:
            times += 1
        if times > 2 and size * times > best[0] * best[1]:
            best = size, times
    return best


def gap_row(rows: int, times: int = 0) -> Line:
    """Stands for rows that are left out; `times`: for a round of so many rows that comes so often."""
    return Line("", "", 0, 0, "", "", gap=rows, times=times)


def choose(rows: Sequence[Line], limit: int) -> list[Line]:
    """At most `limit` of the rows: those that explain, then the last; gaps say how many are missing."""
    if len(rows) <= limit:
        return list(rows)
    telling = sorted((row.key, at) for at, row in enumerate(rows) if row.key >= 0)
    wanted = [at for _, at in telling] + [at for at in reversed(range(len(rows))) if rows[at].key < 0]
    taken = sorted(wanted[:limit])
    chosen: list[Line] = []
    before = -1
    for at in taken:
        if at > before + 1:
            chosen.append(gap_row(at - before - 1))
        chosen.append(rows[at])
        before = at
    if before < len(rows) - 1:
        chosen.append(gap_row(len(rows) - 1 - before))
    return chosen
