"""How much of what a run that died left on disks is in the run that continues it.

    python -m tests.parity.begins DEAD WHOLE

Prints a line for each journal: how many complete lines in DEAD have an operation, and with how many of them, byte for
byte and in the same order, the journal in WHOLE begins. It reads the files with nothing of uvmp's own.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import NamedTuple


class Begins(NamedTuple):
    """A journal of a dead run.

    Attributes:
        left: operations in its complete lines.
        kept: how many of the first of them the journal of the whole run begins with.
    """

    left: int
    kept: int


def performed(journal: Path) -> list[bytes]:
    """The complete lines of operations, without what may stand behind the last line break."""
    lines = journal.read_bytes().split(b"\n")[1:-1] if journal.exists() else []
    return [line for line in lines if b'"k":' in line and "k" in json.loads(line)]


def begins(dead: Path, whole: Path) -> dict[str, Begins]:
    """Node -> how its journal in WHOLE begins."""
    begun = {}
    for journal in sorted(dead.glob("*.uvmp.jsonl")):
        left, all_of_it = performed(journal), performed(whole / journal.name)
        same = next((at for at, pair in enumerate(zip(left, all_of_it, strict=False)) if pair[0] != pair[1]), None)
        kept = min(len(left), len(all_of_it)) if same is None else same
        begun[journal.name.split(".")[0]] = Begins(len(left), kept)
    return begun


if __name__ == "__main__":
    for node, counts in begins(Path(sys.argv[1]), Path(sys.argv[2])).items():
        print(f"{node}: {counts.left} operations left, {counts.kept} kept")
