"""Reads a run folder, whatever state it is in.

A folder holds one `<node>.uvmp.jsonl` a node, `scenario.json`, and `run.json`,
which is written last. Of a killed run there is no run.json, lines may be torn,
files missing. Nothing of that stops the reading: what can be read is, and what
cannot is said in `torn`, by file and line.

Rules: every size is bounded; a record is only believed if its numbers are numbers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from cluster.postmortem.words import clean
from shared.errors import UserMistake
from shared.journal import MAX_LINE, SCHEMA, Journals, Record
from shared.messages import OPERATIONS

RUN_SCHEMA = "uvmp-run/1"
SUFFIX = ".uvmp.jsonl"
SCENARIO, RUN = "scenario.json", "run.json"
MAX_JSON = 32 << 20
MAX_RECORDS = 2_000_000
MAX_NUMBER = 4 * MAX_RECORDS
MAX_FILES = 256
MAX_SHOWN = 8
MAX_BYTES = 1 << 30
_NODE = re.compile(r"[a-z][a-z_]{0,30}[0-9]{0,4}")


@dataclass
class Run:
    """A run folder in memory.

    Attributes:
        scenario: as shared/pack.py packs it; None: no such file, or not to be read.
        run: what run.json says; None likewise.
        headers: line 1 of each node's file; {} if it has none.
        torn: what is wrong with the files, in words.
    """

    path: str
    scenario: dict[str, Any] | None = None
    run: dict[str, Any] | None = None
    headers: dict[str, Record] = field(default_factory=dict)
    journals: Journals = field(default_factory=dict)
    torn: list[str] = field(default_factory=list)


def load(path: str | Path) -> Run:
    """Read a run folder.

    Raises: UserMistake - it is no run folder.
    """
    folder = Path(path)
    shown = clean(path, 200)
    try:
        if not folder.is_dir():
            why = "a run is a folder, this is a file" if folder.exists() else "there is no such folder"
            raise UserMistake(why, file=shown)
        files = sorted(folder.glob("*" + SUFFIX)) or sorted(folder.glob("*/*" + SUFFIX))
        have = {name: (folder / name).is_file() for name in (SCENARIO, RUN)}
        runs_below = [] if any(have.values()) or any(file.parent == folder for file in files) else _runs_below(folder)
    except (OSError, ValueError) as wrong:
        raise UserMistake(f"cannot be read ({clean(wrong, 200)})", file=shown) from None
    if runs_below:
        some = ", ".join(clean(one, 200) for one in runs_below[:MAX_SHOWN])
        more = f" and {len(runs_below) - MAX_SHOWN} more" if len(runs_below) > MAX_SHOWN else ""
        count = "1 run" if len(runs_below) == 1 else f"{len(runs_below)} runs"
        raise UserMistake(f"holds {count}, each in a folder of its own: {some}{more}; name one of them", file=shown)
    if not files and not any(have.values()):
        raise UserMistake(f"not a run folder: it has no *{SUFFIX}, no {SCENARIO} and no {RUN}", file=shown)
    run = Run(shown)
    if have[SCENARIO]:
        run.scenario = _json(folder / SCENARIO, run.torn)
    if have[RUN]:
        run.run = _json(folder / RUN, run.torn)
        if run.run is not None and run.run.get("schema") != RUN_SCHEMA:
            run.torn.append(f"{RUN}: schema {clean(run.run.get('schema'), 40)!r}; this uvmp reads {RUN_SCHEMA}")
            run.run = None
    if len(files) > MAX_FILES:
        run.torn.append(f"{len(files)} journals; only {MAX_FILES} are read")
    total = 0
    for file in files[:MAX_FILES]:
        node = file.name.removesuffix(SUFFIX)
        if not _NODE.fullmatch(node) or node in run.journals:
            why = "a second journal of that node" if node in run.journals else "that is no node's name"
            run.torn.append(f"{clean(file.name, 100)}: not read: {why}")
            continue
        if not file.is_file():
            run.torn.append(f"{file.name}: not read: it is no file")
            continue
        total += _journal(file, node, run, MAX_RECORDS - total)
    runs = {clean(one["run"], 60) for one in run.headers.values() if "run" in one}
    if len(runs) > 1:
        run.torn.append(f"the journals are of different runs: {', '.join(sorted(runs))}")
    return run


def _runs_below(folder: Path) -> list[Path]:
    """Folders of runs in this one, as `run --repeat --out` makes them, in the order of their numbers."""
    found = {one.parent for name in (SCENARIO, RUN) for one in folder.glob(f"*/{name}")}
    return sorted(found, key=lambda one: (len(one.name), one.name))


def _json(path: Path, torn: list[str]) -> dict[str, Any] | None:
    try:
        with open(path, "rb") as stream:
            data = stream.read(MAX_JSON + 1)
        if len(data) > MAX_JSON:
            raise ValueError(f"more than {MAX_JSON} bytes")
        value = json.loads(data, parse_constant=_no_constant)
        if not isinstance(value, dict):
            raise ValueError("not an object")
        return value
    except (OSError, ValueError, RecursionError) as wrong:
        torn.append(f"{path.name}: cannot be read ({clean(wrong, 120)})")
        return None


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _journal(file: Path, node: str, run: Run, room: int) -> int:
    """Read one node's file into `run`; returns the number of records."""
    records: list[Record] = []
    run.headers[node], run.journals[node] = {}, records
    bad: list[str] = []
    last = 0
    try:
        with open(file, "rb") as stream:
            for last, line in enumerate(_lines(stream), 1):
                if len(records) >= room or stream.tell() > MAX_BYTES:
                    limit = f"more than {MAX_RECORDS} records in all, or {MAX_BYTES} bytes in one file"
                    run.torn.append(f"{file.name}:{last}: {limit}; the rest is not read")
                    break
                try:
                    record = _record(line, node)
                except (ValueError, RecursionError) as wrong:
                    bad.append(f"{file.name}:{last}: torn or corrupt line ({clean(wrong, 120)})")
                    continue
                if record["nseq"]:
                    records.append(record)
                elif record.get("schema") == SCHEMA:
                    run.headers[node] = record
                else:
                    schema = clean(record.get("schema"), 40)
                    run.torn.append(f"{file.name}:{last}: a log of schema {schema!r}; this uvmp reads {SCHEMA}")
                    break
    except OSError as wrong:
        run.torn.append(f"{file.name}: cannot be read ({clean(wrong, 120)})")
    if bad:
        if len(bad) == 1 and bad[0].startswith(f"{file.name}:{last}:"):
            bad[0] += "; it is the last one: the node was stopped while it wrote"
        run.torn += bad[:3]
        if len(bad) > 3:
            run.torn.append(f"{file.name}: {len(bad) - 3} more lines cannot be read")
    return len(records)


def _lines(stream: BinaryIO) -> Iterator[bytes]:
    """Lines, each of at most MAX_LINE + 1 bytes; the rest of a longer one is skipped."""
    while line := stream.readline(MAX_LINE + 1):
        yield line
        while len(line) > MAX_LINE and not line.endswith(b"\n"):
            line = stream.readline(MAX_LINE + 1)


def _record(line: bytes, node: str) -> Record:
    """One line, if it is a record of this node; ValueError says why not."""
    if len(line) > MAX_LINE:
        raise ValueError(f"more than {MAX_LINE} bytes")
    if not line.endswith(b"\n"):
        raise ValueError("it has no end")
    record = json.loads(line, parse_constant=_no_constant)
    if not isinstance(record, dict) or not isinstance(record.get("event"), str):
        raise ValueError("not a record")
    if record.get("node") != node:
        raise ValueError(f"a record of node {clean(record.get('node'), 40)!r}")
    _number(record, "nseq", 0)
    if record["nseq"] == 0:
        return record
    if not isinstance(record.get("ctx"), str):
        raise ValueError("no context")
    _number(record, "n", 0)
    for key in ("granted", "woke", "raised"):
        names = record.get(key, [])
        if not isinstance(names, list) or not all(isinstance(one, str) for one in names):
            raise ValueError(f"{key} is no list of names")
    if record["event"] in OPERATIONS:
        if not isinstance(record.get("cpu"), str) or not _NODE.fullmatch(record["cpu"]):
            raise ValueError("an operation without a CPU")
        _number(record, "k", 1)
    else:
        record.pop("k", None)
        _number(record, "at", 0)
    return record


def _number(record: Record, key: str, least: int) -> None:
    value = record.get(key)
    if type(value) is not int or not least <= value <= MAX_NUMBER:
        raise ValueError(f"{key} is {clean(value, 20)}")
