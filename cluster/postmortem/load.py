"""Reads a run folder, complete or damaged, and detects changes of its files.

A folder has one `<node>.uvmp.jsonl` for each node, `scenario.json`, and
`run.json`, which is written last. If the run was killed, run.json is missing,
lines may be torn, and files may be missing. The loader reads everything that can
be read, and lists the rest in `torn`, by file and line. `torn` also lists files
that were changed after the run ended, and files of another run.

Rules: the loader checks every size before it starts work; it accepts a record
only if its numbers are numbers and its names are text.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import BinaryIO

from shared.errors import UserMistake
from shared.findings import Finding
from shared.journal.record import MAX_LINE, SCHEMA, VOLATILE, Held, Record
from shared.journal.row import Row, Shapes
from shared.journal.runfile import (
    PATCH,
    RUN,
    RUN_SCHEMA,
    SCENARIO,
    SCENARIO_SCHEMA,
    SUFFIX,
    folder_line,
    is_sealed,
    is_token,
    patch_of,
    program_line,
    scenario_of,
    token_line,
)
from shared.scenario.model import Scenario
from shared.text import clean, counted
from shared.wire.messages import OPERATIONS

#: bytes of run.json, scenario.json or patch.py.txt, and how many values may be in the JSON files
MAX_JSON, MAX_VALUES = 8 << 20, 400_000
MAX_RECORDS = 2_000_000
#: lists, objects and (for eight) other values in all records of a run, beyond what a record is made of
MAX_NESTED = 1_000_000
USUAL_NESTED, USUAL_VALUES, USUAL_TEXT = 3, 40, 40
MAX_NUMBER = 4 * MAX_RECORDS
MAX_FILES = 256
MAX_SHOWN = 8
MAX_BYTES = 1 << 30
MAX_SCHEDULE = 1 << 14
_NODE = re.compile(r"[a-z][a-z_]{0,30}[0-9]{0,4}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.]{0,40}")
#: what must be text, if a record has it, and what must be a whole number
_TEXTS = ("obj", "field", "lock", "chan", "fn", "wmesg", "mode", "op", "refused", "interrupted")
_NUMBERS = ("slot", "gen", "frame", "source")
#: detectors whose findings are met by a context, which records them; the others judge a whole run (lockorder both: a
#: context meets a reversal of the stated order; a reversal that two CPUs make between them is seen afterwards)
_RECORDED = ("kassert", "lockdebug")


@dataclass
class Run:
    """A run folder in memory.

    Attributes:
        path: as it can be shown; `folder`: as it was given.
        scenario: as plain data; None: there is none, or it cannot be read.
        loaded: the same as the scenario that it is.
        run: what run.json says; None likewise.
        begun: what scenario.json says of how the run was begun: `versions` and `options`, as run.json has them.
        mixed: the files are of different runs.
        headers: line 1 of each node's file; {} if it has none.
        torn: what is wrong with the files, in words.
        has_source: the folder has the source of a patch. Nothing reads it here, except for its checksum.
    """

    path: str
    folder: str = ""
    scenario: dict[str, object] | None = None
    loaded: Scenario | None = None
    run: dict[str, object] | None = None
    begun: dict[str, object] = field(default_factory=dict)
    mixed: bool = False
    headers: dict[str, Record] = field(default_factory=dict)
    journals: Held = field(default_factory=dict)
    torn: list[str] = field(default_factory=list)
    has_source: bool = False

    def patch(self) -> dict[str, str]:
        """The patch that the kernel had: `file`, its name, and `source`, the file of this folder; {} if it had none."""
        name = patch_of((self.begun if self.run is None else self.run).get("options"))
        return {"file": name, "source": PATCH if self.has_source else ""} if name else {}

    def missing(self, nodes: Iterable[str]) -> list[str]:
        """The nodes among these that have no journal here, in words."""
        return [f"{node}: its journal is missing" for node in nodes if node not in self.journals]

    def replay_lines(self) -> tuple[str, str]:
        """The line that repeats this very run, and that of a shorter schedule with the same finding; "" if unknown.

        Both are made here, from parts that are checked; none is text of a file. They are lines of the shell; for a run
        of a user's own program, whose functions no command has, lines of Python.
        """
        if self.run is None:
            return "", ""
        if self.loaded is not None and self.loaded.functions is not None:
            return program_line(self.run.get("token")) or "", program_line(self.run.get("shortened")) or ""
        options = self.run.get("options")
        exact = token_line(self.run.get("token"), options) or folder_line(self.folder) or ""
        return exact, token_line(self.run.get("shortened"), options) or ""

    def finding(self) -> tuple[dict[str, object] | None, str]:
        """The finding, and where it is from: "journal", run.json, or "".

        What a context has recorded is believed, whatever run.json says. A finding about the whole run, as a deadlock,
        is in no journal; nor is a finding that shared/detectors/race.py makes afterwards, which comes before whatever
        stopped the run.
        """
        finding = self.run.get("finding") if self.run is not None else None
        recorded = _recorded(self.journals)
        before = isinstance(finding, dict) and finding.get("detector") in ("race", "lockorder")
        if isinstance(finding, dict) and (before or not recorded or finding in recorded):
            return finding, RUN
        return (recorded[0], "journal") if recorded else (None, "")


def _recorded(journals: Held) -> list[dict[str, object]]:
    findings = [
        record.get("finding") for records in journals.values() for record in records if record["event"] == "finding"
    ]
    return [finding for finding in findings if isinstance(finding, dict)]


def load(path: str | Path) -> Run:
    """Read a run folder.

    Raises: UserMistake - it is not a run folder.
    """
    folder = Path(path)
    shown = clean(path, 200)
    try:
        if not folder.is_dir():
            why = "a file; a run is a folder" if folder.exists() else "there is no such folder"
            raise UserMistake(why, file=shown)
        files = sorted(folder.glob("*" + SUFFIX)) or sorted(folder.glob("*/*" + SUFFIX))
        have = {name: (folder / name).is_file() for name in (SCENARIO, RUN)}
        runs_below = [] if any(have.values()) or any(file.parent == folder for file in files) else _runs_below(folder)
    except (OSError, ValueError) as wrong:
        raise UserMistake(f"cannot be read ({clean(wrong, 200)})", file=shown) from None
    if runs_below:
        some = ", ".join(clean(folder, 200) for folder in runs_below[:MAX_SHOWN])
        more = f" and {len(runs_below) - MAX_SHOWN} more" if len(runs_below) > MAX_SHOWN else ""
        count = counted(len(runs_below), "run")
        raise UserMistake(f"contains {count}, each in its own folder: {some}{more}; give one folder", file=shown)
    if not files and not any(have.values()):
        raise UserMistake(f"not a run folder: it has no *{SUFFIX}, no {SCENARIO} and no {RUN}", file=shown)
    run = Run(shown, str(path))
    sums: dict[str, str] = {}
    identities: dict[str, set[str]] = {}
    if have[RUN]:
        run.run = _json(folder / RUN, RUN_SCHEMA, run.torn)[0]
    if have[SCENARIO]:
        document, sums[SCENARIO] = _json(folder / SCENARIO, SCENARIO_SCHEMA, run.torn)
        _scenario(run, document)
        if document is not None:
            identities.setdefault(clean(document.get("run"), 60), set()).add(SCENARIO)
    elif run.run is not None:
        run.torn.append(f"there is no {SCENARIO}")
    sums |= _source(folder / PATCH, run)
    if len(files) > MAX_FILES:
        run.torn.append(f"{len(files)} journals; only {MAX_FILES} are read")
    room = _Room()
    for file in files[:MAX_FILES]:
        node = file.name.removesuffix(SUFFIX)
        if not _NODE.fullmatch(node) or node in run.journals:
            why = "a second journal of that node" if node in run.journals else "not the name of a node"
            run.torn.append(f"{clean(file.name, 100)}: not read: {why}")
            continue
        if run.loaded is not None and node not in run.loaded.machine.nodes:
            run.torn.append(f"{file.name}: not read: this machine has no such node")
            continue
        if not file.is_file():
            run.torn.append(f"{file.name}: not read: not a file")
            continue
        sums[file.name] = _journal(file, node, run, room)
        if run.headers[node]:
            identities.setdefault(clean(run.headers[node].get("run"), 60), set()).add(file.name)
    if run.run is not None:
        identities.setdefault(clean(run.run.get("run"), 60), set()).add(RUN)
    _verify(run, sums)
    run.mixed = len(identities) > 1
    if run.mixed:
        runs = "; ".join(f"{_some(of)} of run {identity}" for identity, of in sorted(identities.items()))
        run.torn.insert(0, f"the files are of different runs: {clean(runs, 300)}")
    return run


def _runs_below(folder: Path) -> list[Path]:
    """Folders of runs in this folder, as `run --repeat --out` makes them, in the order of their numbers."""
    folders = {path.parent for name in (SCENARIO, RUN) for path in folder.glob(f"*/{name}")}
    return sorted(folders, key=lambda folder: (len(folder.name), folder.name))


def _some(names: set[str]) -> str:
    first = ", ".join(sorted(names)[:3])
    return first if len(names) <= 3 else f"{first} and {len(names) - 3} more"


@dataclass
class _Room:
    """How much may still be read, over all journals, and what records have in common."""

    records: int = MAX_RECORDS
    nested: int = MAX_NESTED
    shapes: Shapes = field(default_factory=dict)
    same: dict[object, object] = field(default_factory=dict)

    def interned(self, value: object) -> object:
        """The same value; of short texts and of numbers in order that are equal, always the same object."""
        usual = len(value) < USUAL_TEXT if type(value) is str else type(value) is int and 0 <= value <= MAX_NUMBER
        return self.same.setdefault(value, value) if usual else value


def _verify(run: Run, sums: dict[str, str]) -> None:
    """Is everything that run.json has a check of as it was written, and does it fit together?"""
    about = run.run
    if about is None:
        return
    if not is_sealed(about):
        run.torn.append(f"{RUN}: wrong checksum: the file was changed")
    else:
        wanted = about.get("files")
        wanted = dict(wanted) if isinstance(wanted, dict) else {}
        for name in sorted({*wanted, *sums} - {SCENARIO}):
            if name not in sums:
                run.torn.append(f"{clean(name, 60)}: the file is missing")
            elif name not in wanted:
                run.torn.append(f"{clean(name, 60)}: the file did not exist when the run ended")
            elif sums[name] != wanted[name] and not any(line.startswith(f"{name}:") for line in run.torn):
                run.torn.append(f"{clean(name, 60)}: the file was changed (its SHA-256 differs from that in {RUN})")
        if SCENARIO in sums and sums[SCENARIO] != about.get("scenario_sum"):
            run.torn.append(f"{SCENARIO}: the file was changed (its SHA-256 differs from that in {RUN})")
    finding, recorded = about.get("finding"), _recorded(run.journals)
    if recorded and finding not in recorded:
        run.torn.append(f"{RUN} and the journals have different findings; this report shows that of the journals")
    elif not recorded and isinstance(finding, dict) and finding.get("detector") in _RECORDED and run.journals:
        run.torn.append(f"{RUN} has a finding of {clean(finding.get('context'), 60)} that is in no journal")
    _fits(run)


def _fits(run: Run) -> None:
    """Do the parts of run.json have their form, and are they of the scenario that was run?"""
    about, scenario = run.run or {}, run.loaded
    finding = about.get("finding")
    if finding is not None:
        try:
            Finding(**finding if isinstance(finding, dict) else {})
        except (TypeError, KeyError):
            run.torn.append(f"{RUN}: finding: not in the form of a finding")
    schedule = about.get("schedule", [])
    if not isinstance(schedule, list) or len(schedule) > MAX_SCHEDULE:
        run.torn.append(f"{RUN}: schedule: expected a list of at most {MAX_SCHEDULE} deviations")
        about["schedule"] = []
    for key in ("token", "shortened"):
        token = about.get(key)
        if token is None:
            continue
        if not is_token(token):
            run.torn.append(f"{RUN}: {key}: not a token, or a damaged token")
            about[key] = None
        elif scenario is not None and token.split(".")[1:3] != [scenario.id, scenario.digest()]:
            run.torn.append(f"{RUN}: {key}: a token of another scenario than that in {SCENARIO}")
            about[key] = None
    detect = about.get("detect")
    same = isinstance(detect, dict) and scenario is not None and detect.items() <= scenario.detect.items()
    if scenario is not None and not (same and about.get("errata") == list(scenario.errata)):
        run.torn.append(f"{RUN} and {SCENARIO} have different errata or detectors")


def _scenario(run: Run, document: dict[str, object] | None) -> None:
    if document is None:
        return
    try:
        run.loaded = scenario_of(document)
        run.scenario = asdict(run.loaded)
        run.begun = {key: document.get(key) for key in ("versions", "options")}
    except UserMistake as wrong:
        run.torn.append(f"{SCENARIO}: {clean(wrong, 300)}")


def _source(path: Path, run: Run) -> dict[str, str]:
    """The SHA-256 of a patch's source, by the file's name; {} if the folder has none."""
    run.has_source = path.is_file()
    if not run.has_source:
        return {}
    return {path.name: hashlib.sha256(_content(path, run.torn) or b"").hexdigest()}


def _json(path: Path, schema: str, torn: list[str]) -> tuple[dict[str, object] | None, str]:
    """A file's object, if it has one of that schema, and the file's SHA-256."""
    data = _content(path, torn)
    if data is None:
        return None, ""
    total = hashlib.sha256(data).hexdigest()
    try:
        if _values(data) > MAX_VALUES:
            raise ValueError(f"more than {MAX_VALUES} values")
        value = json.loads(data, parse_constant=_no_constant)
        if not isinstance(value, dict):
            raise ValueError("not an object")
        if value.get("schema") != schema:
            raise ValueError(f"schema {clean(value.get('schema'), 40)!r}; this uvmp reads {schema}")
        return value, total
    except (ValueError, RecursionError) as wrong:
        torn.append(f"{path.name}: cannot be read ({clean(wrong, 120)})")
        return None, total


def _content(path: Path, torn: list[str]) -> bytes | None:
    """All of a file, if it can be read and has at most MAX_JSON bytes."""
    try:
        with open(path, "rb") as stream:
            data = stream.read(MAX_JSON + 1)
        if len(data) <= MAX_JSON:
            return data
        why = f"more than {MAX_JSON} bytes"
    except OSError as wrong:
        why = clean(wrong, 120)
    torn.append(f"{path.name}: cannot be read ({why})")
    return None


def _values(data: bytes) -> int:
    """At most so many values are in this JSON text; quick, and before any of them is made."""
    return data.count(b",") + _nested(data)


def _nested(data: bytes) -> int:
    return data.count(b"{") + data.count(b"[")


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _journal(file: Path, node: str, run: Run, room: _Room) -> str:
    """Read one node's file into `run`; returns the file's SHA-256."""
    records: list[Record] = []
    run.headers[node], run.journals[node] = {}, records
    bad: list[str] = []
    last = 0
    findings = 0
    cpus = None if run.loaded is None else tuple(run.loaded.machine.processors)
    total = hashlib.sha256()
    try:
        with open(file, "rb") as stream:
            for last, line in enumerate(_lines(stream, total), 1):
                nested = max(0, _nested(line) - USUAL_NESTED) + max(0, line.count(b",") - USUAL_VALUES) // 8
                if room.records <= 0 or stream.tell() > MAX_BYTES:
                    limit = f"more than {MAX_RECORDS} records in all, or {MAX_BYTES} bytes in one file"
                    run.torn.append(f"{file.name}:{last}: {limit}; the rest is not read")
                    break
                if nested > room.nested:
                    limit = "more values in lists than any run has"
                    run.torn.append(f"{file.name}:{last}: {limit}; the rest is not read")
                    break
                try:
                    record = _record(line, node, cpus, room)
                except (ValueError, RecursionError) as wrong:
                    bad.append(f"{file.name}:{last}: torn or corrupt line ({clean(wrong, 120)})")
                    continue
                room.records -= 1
                room.nested -= nested
                if record["nseq"]:
                    stops = record["event"] == "finding"
                    findings += stops
                    if stops and findings > 1:
                        bad.append(f"{file.name}:{last}: a second finding; a processor stops at its first")
                        continue
                    records.append(Row(record, room.shapes))
                elif record.get("schema") != SCHEMA:
                    schema = clean(record.get("schema"), 40)
                    run.torn.append(f"{file.name}:{last}: a log of schema {schema!r}; this uvmp reads {SCHEMA}")
                    break
                elif last > 1:
                    bad.append(f"{file.name}:{last}: a second header, or one that is not in line 1")
                else:
                    run.headers[node] = record
    except OSError as wrong:
        run.torn.append(f"{file.name}: cannot be read ({clean(wrong, 120)})")
    if bad:
        if len(bad) == 1 and bad[0].startswith(f"{file.name}:{last}: torn"):
            bad[0] += "; it is the last line: the node was stopped while it wrote"
        run.torn += bad[:3]
        if len(bad) > 3:
            run.torn.append(f"{file.name}: {len(bad) - 3} more lines cannot be read")
    elif not run.headers[node] and not any(line.startswith(f"{file.name}:") for line in run.torn):
        run.torn.append(f"{file.name}: no header, so the run of this file is unknown")
    return total.hexdigest()


def _lines(stream: BinaryIO, total: hashlib._Hash) -> Iterator[bytes]:
    """Lines, each of at most MAX_LINE + 1 bytes; the rest of a longer one is skipped. All are added to the sum."""
    while line := stream.readline(MAX_LINE + 1):
        total.update(line)
        yield line
        while len(line) > MAX_LINE and not line.endswith(b"\n"):
            line = stream.readline(MAX_LINE + 1)
            total.update(line)


def _record(line: bytes, node: str, cpus: tuple[str, ...] | None, room: _Room) -> dict[str, object]:
    """One line, if it is a record of this node; ValueError says why not.

    Args:
        cpus: the machine's nodes that run contexts; None: not known.
    """
    if len(line) > MAX_LINE:
        raise ValueError(f"more than {MAX_LINE} bytes")
    if not line.endswith(b"\n"):
        raise ValueError("no end of line")
    record = json.loads(line, parse_constant=_no_constant)
    if not isinstance(record, dict) or not isinstance(record.get("event"), str):
        raise ValueError("not a record")
    if record.get("node") != node:
        raise ValueError(f"a record of node {clean(record.get('node'), 40)!r}")
    _number(record, "nseq", 0)
    if record["nseq"] == 0:
        return record
    ctx = record.get("ctx")
    if not isinstance(ctx, str) or not _NAME.fullmatch(ctx):
        raise ValueError("no context")
    _number(record, "n", 0)
    for key in ("granted", "woke", "raised"):
        names = record.get(key, [])
        if not isinstance(names, list) or not all(isinstance(name, str) and _NAME.fullmatch(name) for name in names):
            raise ValueError(f"{key} is not a list of names")
    for key in _TEXTS:
        if not isinstance(record.get(key, ""), str):
            raise ValueError(f"{key} is not text")
    for key in _NUMBERS:
        if type(record.get(key, 0)) is not int:
            raise ValueError(f"{key} is not a whole number")
    if record["event"] in OPERATIONS:
        cpu = record.get("cpu")
        if not isinstance(cpu, str) or not _NODE.fullmatch(cpu):
            raise ValueError("an operation without a CPU")
        if cpus is not None and cpu not in cpus:
            raise ValueError(f"an operation of {cpu}, which this machine does not have")
        _number(record, "k", 1)
    else:
        record.pop("k", None)
        _number(record, "at", 0)
    return {key: room.interned(value) for key, value in record.items() if key == "nseq" or key not in VOLATILE}


def _number(record: Record, key: str, least: int) -> None:
    value = record.get(key)
    if type(value) is not int or not least <= value <= MAX_NUMBER:
        raise ValueError(f"{key} is {clean(value, 20)}")
