"""Journals: the records of each node, as JSON Lines `uvmp-log/1`.

Every node has its own journal. A record is an operation that the node
admitted or a kernel event of a context that it runs, numbered 1, 2, 3 ... per
node (`nseq`); that number is the only order. One JSON object a line:

    event   kind of operation (shared/wire/messages.py), or enter exit (a kernel function)
                    call return (a program's step) claim (a struct is the context's own)
                    finding note and, as line 1, run.begin
    node, nseq
    ctx, n  the context, and the number of this among its operations
    cpu, k  the context's processor, and the number of this among its operations
    ...     arguments and result, by the names in OPERATIONS

Not in a record: vector clocks. They follow from the rest: `k` gives every
processor's program order, `nseq` every node's admission order, and `granted`,
`woke` and `raised` what each caused elsewhere (shared/detectors/race.py computes them).

Integrity: `nseq` counts without a gap in every node, `k` in every processor
over all nodes' journals together; and the two orders together are acyclic,
which is what sequential consistency means (`holes`; `in_order` in order.py).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from itertools import groupby
from typing import Any, Protocol

import orjson

from shared.errors import LogIncomplete
from shared.journal.deviation import MAX_CHOICES
from shared.journal.row import Row, Shapes
from shared.port.struct import Struct, channel_name, lock_name
from shared.wire.messages import OPERATIONS, WAIT, Effect, Grant, Wake

SCHEMA = "uvmp-log/1"
#: what differs between two runs of one schedule, or is said by the order, and so is not in the digest
VOLATILE = frozenset(("wall_ns", "pid", "host", "engine", "run", "nseq"))
MAX_LINE = 1 << 20


Record = Mapping[str, Any]
#: node -> its records, which can be gone through more than once; they may be on a disk
Journals = Mapping[str, Iterable[Record]]
#: the same in memory
Held = dict[str, list[Record]]


def plain(value: object) -> object:
    """A value as JSON has it; a handle becomes `anon:5#2`, address and generation."""
    if isinstance(value, Struct):
        return repr(value)
    if isinstance(value, (list, tuple)):
        return [plain(element) for element in value]
    return value


def operation_record(
    code: str, target: int, args: tuple[object, ...], result: object, out: list[Effect]
) -> dict[str, object]:
    """The part of a record that says what was asked, answered, and caused elsewhere."""
    op = OPERATIONS[code]
    record: dict[str, object] = {"event": code}
    if op.target:
        name = op.target
        record[name] = lock_name(target) if name == "lock" else channel_name(target) if name == "chan" else target
    for name, value in zip(op.args, args, strict=True):
        if name[-1] == "?":
            if value:
                record[name[:-1]] = plain(value)
        elif name != "-":
            record[name] = plain(value)
    if result is WAIT:
        record["wait"] = True
    elif op.result and result is not None:
        record[op.result] = plain(result)
    if not out:
        return record
    caused: dict[str, list[str]] = {}
    for effect in out:
        word = "granted" if isinstance(effect, Grant) else "woke" if isinstance(effect, Wake) else "raised"
        caused.setdefault(word, []).append(effect.ctx)
    record.update(caused)
    return record


def held(journals: Journals) -> Held:
    """All of it in memory."""
    return {node: list(records) for node, records in journals.items()}


class Stream(Protocol):
    """Where lines go: a file, or the like."""

    def write(self, line: bytes, /) -> int: ...

    def flush(self) -> None: ...


class Journal:
    """One node's journal.

    Args:
        node: its name.
        stream: where lines go, and which is flushed after each; None: memory only.
        keep: keep the records in memory too.
        watch: is given each record.
    """

    def __init__(
        self,
        node: str,
        stream: Stream | None = None,
        keep: bool = True,
        watch: Callable[[Record], None] | None = None,
    ):
        self.node, self.stream, self.keep, self.watch = node, stream, keep, watch
        self.nseq = 0
        self.records: list[Record] = []

    def add(self, record: dict[str, object]) -> None:
        """Number a record and write it; the line is in the stream when this returns."""
        self.nseq += 1
        record["node"], record["nseq"] = self.node, self.nseq
        if self.keep:
            self.records.append(record)
        if self.stream is not None:
            self._write(record)
        if self.watch is not None:
            self.watch(record)

    def header(self, **fields: object) -> None:
        """Write line 1, `run.begin`: which run this is, on which host. It is number 0, and not in the digest."""
        if self.stream is not None:
            self._write({"event": "run.begin", "schema": SCHEMA, "node": self.node, "nseq": 0, **fields})

    def _write(self, record: dict[str, object]) -> None:
        assert self.stream is not None
        record["event"] = record.pop("event")  # structlog has it last
        line: Any = record
        for process in processors():
            line = process(None, "msg", line)
        try:
            self.stream.write(line)
            self.stream.flush()
        except OSError as wrong:  # a write does not say of which file
            raise OSError(wrong.errno, wrong.strerror, getattr(self.stream, "name", self.node)) from None


_encoder = json.JSONEncoder(separators=(",", ":"), check_circular=False)
_sorted = json.JSONEncoder(sort_keys=True, separators=(",", ":"), check_circular=False)


def _to_line(record: Record, **_: object) -> bytes:
    try:
        return orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE)
    except TypeError:  # what orjson does not take: half a surrogate pair in a text, a number of more than 64 bits
        return f"{_encoder.encode(record)}\n".encode()


@cache
def processors() -> tuple[Callable[[Any, str, Any], Any], ...]:
    """structlog's: what makes a line of a record."""
    import structlog  # noqa: PLC0415 - a quarter of the time in which a command starts

    return (structlog.processors.JSONRenderer(serializer=_to_line),)


def digest(journals: Journals) -> str:
    """SHA-256 over the nodes in name order of each node's records in `nseq` order."""
    total = hashlib.sha256()
    for node in sorted(journals):
        for record in journals[node]:
            total.update(essence(record).encode())
            total.update(b"\n")
    return total.hexdigest()


def essence(record: Record) -> str:
    """What the digest covers of a record."""
    return _sorted.encode({key: value for key, value in record.items() if key not in VOLATILE})


def read(lines: Iterable[bytes], name: str) -> tuple[Record, list[Record], str | None]:
    """One node's file: its header ({} if it has none), its records, and what is wrong with its end, if anything.

    Raises: LogIncomplete - a line that is not the last cannot be read.
    """
    header: Record = {}
    records: list[Record] = []
    shapes: Shapes = {}
    words: dict[str, str] = {}  # records have few different stacks: each is kept once

    def share(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        return {
            words.setdefault(key, key): words.setdefault(value, value) if type(value) is str else value
            for key, value in pairs
        }

    torn: list[str] = []
    for record in _parsed(lines, name, torn, json.JSONDecoder(object_pairs_hook=share)):
        if record["nseq"] == 0:
            header = record
        else:
            records.append(Row(record, shapes))
    return header, records, torn[0] if torn else None


def stream(lines: Iterable[bytes], name: str, may_be_torn: bool = False) -> Iterator[Record]:
    """The records of one node's file, as they are asked for.

    Args:
        may_be_torn: the last line may be, and is then no record.

    Raises: LogIncomplete - a line cannot be read.
    """
    torn: list[str] = []
    for record in _parsed(lines, name, torn, json.JSONDecoder()):
        if record["nseq"]:
            yield record
    if torn and not may_be_torn:
        raise LogIncomplete(torn[0])


def _parsed(lines: Iterable[bytes], name: str, torn: list[str], decoder: json.JSONDecoder) -> Iterator[dict[str, Any]]:
    """The header and the records of one node's file.

    Args:
        torn: gets what is wrong with the end, if anything.
        decoder: of a line.

    Raises: LogIncomplete - a line that is not the last cannot be read.
    """
    for number, line in enumerate(lines, 1):
        if torn:
            raise LogIncomplete(torn[0])
        if len(line) > MAX_LINE:
            raise LogIncomplete(f"{name}:{number}: a line of more than {MAX_LINE} bytes")
        try:
            if not line.endswith(b"\n"):
                raise ValueError("the last line has no end")
            text = line.decode()
            record, end = decoder.raw_decode(text)  # (in half the time of json.loads)
            if end != len(text) - 1:
                raise ValueError("more than a record")
            if (
                not isinstance(record, dict)
                or not isinstance(record.get("nseq"), int)
                or not isinstance(record.get("event"), str)
            ):
                raise ValueError("not a record")
        except ValueError as wrong:
            torn.append(f"{name}:{number}: torn or corrupt line ({wrong})")
            continue
        if record["nseq"] == 0 and record.get("schema") != SCHEMA:
            raise LogIncomplete(f"{name}:{number}: a log of schema {record.get('schema')!r}; this uvmp reads {SCHEMA}")
        yield record


def holes(journals: Journals) -> list[str]:
    """Every gap in the numbering of nodes and of processors, in words; [] if nothing is missing."""
    gaps = []
    by_cpu: dict[str, list[int]] = {}
    for node in sorted(journals):
        want = 1
        for record in journals[node]:
            if record["nseq"] != want:
                gaps.append(f"{node}: record {want} is missing (next is {record['nseq']})")
                want = record["nseq"]
            want += 1
            if "k" in record:
                by_cpu.setdefault(record["cpu"], []).append(record["k"])
    for cpu, numbers in sorted(by_cpu.items()):
        numbers.sort()  # (a record may claim any number: what is missing is counted, not listed)
        have = sum(1 for _ in groupby(numbers))
        missing = numbers[-1] - have
        if missing:
            first = next(want for want, (k, _) in enumerate(groupby(numbers), 1) if k != want)
            gaps.append(f"{cpu}: its operation {first} is in no node's journal ({missing} missing in all)")
        if have != len(numbers):
            gaps.append(f"{cpu}: an operation was admitted twice")
    return gaps


def choice_of(record: Record) -> int:
    """What a choice of data has come to; -1: the record is of another operation, or nothing that can be chosen."""
    value = record.get("value")
    return value if record["event"] == "choose" and type(value) is int and 0 <= value < MAX_CHOICES else -1


def names_of(record: Record, key: str) -> list[str]:
    """The contexts that a record names under a key: granted, woke or raised. (A file may have anything there.)"""
    value = record.get(key)
    return [ctx for ctx in value if isinstance(ctx, str)] if isinstance(value, list) else []
