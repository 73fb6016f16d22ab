"""A corpus: the programs that have shown something new, the findings, and a log of every program that was run.

    DIR/log.jsonl        one line about the corpus, then one for each program, in order: `uvmp-corpus/2`
    DIR/members/*.yaml   programs that showed a sight first, or came to what is being tested, as scenarios; each is
                         named by the digest of its text
    DIR/findings/*.yaml  programs that fail, cut down, one for each cause

The log is only appended to, by one process at a time, and a program's line is written when everything else of it is
there. So a process can be killed at any moment: an unfinished line at the end is cut off, and that program is run
again. All that the fuzzer knows follows from the log, so that it continues as if it had not been stopped.

Left out: running programs (hunt.py).
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from cluster.fuzz.observe import Sight
from cluster.fuzz.program import Program, read
from cluster.runs.folder import write
from nodes.host.private import make_folder, private
from shared.errors import Infrastructure, UserMistake
from shared.text import clean, reason
from shared.wire import typed

SCHEMA = "uvmp-corpus/2"
LOG, MEMBERS, FINDINGS = "log.jsonl", "members", "findings"
MAX_LINE = 4 << 20
NAME = 16


@dataclass(frozen=True)
class About:
    """The values that decide which programs a corpus has: two corpora of equal values and lengths are equal.

    Attributes:
        seed: of the programs.
        features: of every program; empty: each has its own.
        errata: switched on.
        kernel: its version; a patch is a part of it.
        guided: programs are made from members, too.
    """

    seed: str
    features: tuple[str, ...]
    errata: tuple[str, ...]
    kernel: str
    size: int = 16
    guided: bool = True


@dataclass(frozen=True)
class Cause:
    """The properties that make two findings the same.

    Attributes:
        signature: of the finding: kind, and function and kind of object.
        errata: those of the errata switched on without which it does not happen.
    """

    signature: tuple[str, str]
    errata: tuple[str, ...]

    @property
    def name(self) -> str:
        """For a file."""
        words = " ".join([*self.signature, *self.errata])
        tame = "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in words)
        short = "-".join(part for part in tame.split("-") if part)[:80]
        return f"{short}-{hashlib.sha256(words.encode()).hexdigest()[:6]}"

    def __str__(self) -> str:
        by = f", by {' and '.join(self.errata)}" if self.errata else ""
        return f"{' in '.join(part for part in self.signature if part)}{by}"


@dataclass(frozen=True)
class Written:
    """A finding that was written.

    Attributes:
        text: of the finding.
        file: its name in the folder.
        token: "": none.
    """

    cause: Cause
    text: str
    file: str
    token: str


@dataclass(frozen=True)
class Entry:
    """A program that was run; a line of the log.

    Attributes:
        program: digest of its text.
        origin: "fresh", "mutant" or "merged".
        steps: of its threads and children.
        parents: members from which it was made.
        new: sights that no program before it had shown.
        arrived: it came to what is being tested: the site of an erratum switched on, or a function of the patch.
        kept: it is a member.
        rounds: times that it was run, each under other schedules.
        ran: executions by strategy, and "replay".
        cause: of its failure; None: it did not fail. finding: if no program before it had failed so.
        unconfirmed: its failure was not seen again when it was recorded, or cut down.
    """

    program: str
    origin: str
    steps: int = 0
    parents: tuple[str, ...] = ()
    new: tuple[Sight, ...] = ()
    arrived: bool = False
    kept: bool = False
    rounds: int = 1
    ran: dict[str, int] = field(default_factory=dict)
    cause: Cause | None = None
    finding: Written | None = None
    unconfirmed: bool = False


@dataclass
class Member:
    """A program that showed something new, or came to what is being tested.

    Attributes:
        shown: sights that were new.
        arrived: as Entry has it.
        chosen: how many programs were made from it.
    """

    name: str
    program: Program | None
    shown: int
    steps: int
    arrived: bool = False
    chosen: int = 0


class Corpus:
    """The knowledge from the programs so far; in memory alone, or in a folder too.

    Attributes:
        arrived: members that came to what is being tested.
        remarks: what is to be told to the user about the folder.
    """

    def __init__(self, about: About, folder: Path | None = None):
        self.about, self.folder = about, folder
        self.entries: list[Entry] = []
        self.members: dict[str, Member] = {}
        self.sights: set[Sight] = set()
        self.tally: Counter[str] = Counter()
        self.findings: list[Written] = []
        self.again: Counter[Cause] = Counter()
        self.unconfirmed = self.arrived = 0
        self.remarks: list[str] = []
        self._log = -1

    # -- what is known -----------------------------------------------------------------

    def add(self, entry: Entry, program: Program | None = None) -> None:
        """A program has been run.

        Args:
            program: if it becomes a member.
        """
        entry = replace(entry, kept=program is not None)
        if self.folder is not None:
            if program is not None:
                write(self.folder / MEMBERS / f"{entry.program}.yaml", program.text())
            self._append(asdict(entry))
        self._learn(entry, program)

    def _learn(self, entry: Entry, program: Program | None) -> None:
        self.entries.append(entry)
        for parent in entry.parents:
            if parent in self.members:
                self.members[parent].chosen += 1
        if entry.kept:
            member = Member(entry.program, program, len(entry.new), entry.steps, entry.arrived)
            self.members[entry.program] = member
            self.arrived += entry.arrived
        self.sights.update(entry.new)
        self.tally.update(entry.ran)
        self.unconfirmed += entry.unconfirmed
        if entry.finding is not None:
            self.findings.append(entry.finding)
        elif entry.cause is not None:
            self.again[entry.cause] += 1

    def follow(self, other: Corpus, number: int) -> None:
        """Learn from another corpus, up to so many of its programs."""
        for entry in other.entries[len(self.entries) : number]:
            self._learn(entry, other.members[entry.program].program if entry.kept else None)

    def program(self, member: Member) -> Program:
        """A member's program, from its file if need be."""
        if member.program is None:
            assert self.folder is not None
            file = self.folder / MEMBERS / f"{member.name}.yaml"
            member.program = read(file.read_text(encoding="utf-8"), str(file))
        return member.program

    # -- the folder --------------------------------------------------------------------

    def _append(self, line: dict[str, object]) -> None:
        data = (json.dumps(line, separators=(",", ":")) + "\n").encode()
        try:
            os.write(self._log, data)
        except OSError as wrong:
            raise Infrastructure(f"{self.folder}/{LOG} cannot be written ({clean(wrong.strerror, 120)})") from None

    def close(self) -> None:
        """Let another process have the folder."""
        if self._log >= 0:
            os.close(self._log)
            self._log = -1

    def open(self) -> None:
        """Take the folder, and learn what is in it; make it, if it is not there.

        Raises: UserMistake - the folder is in use, is not a corpus of this version, or was made for other programs.
        """
        assert self.folder is not None
        log = self.folder / LOG
        try:
            for folder in (self.folder, self.folder / MEMBERS, self.folder / FINDINGS):
                make_folder(folder, exist_ok=True)
            if not log.exists() and any(path.is_file() for path in self.folder.iterdir()):
                raise UserMistake(f"is not a corpus: it has files, but no {LOG}", file=str(self.folder), field="--out")
            self._log = private(str(log), os.O_RDWR | os.O_CREAT | os.O_APPEND)
        except OSError as wrong:
            raise UserMistake(f"cannot be used: {reason(wrong)}", file=str(self.folder), field="--out") from None
        try:
            fcntl.flock(self._log, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self.close()
            raise UserMistake("is in use by another uvmp fuzz", file=str(self.folder), field="--out") from None
        try:
            self._learn_all(log)
        except BaseException:
            self.close()
            raise

    def _learn_all(self, log: Path) -> None:
        about, entries, whole, remarks = read_log(log)
        self.remarks += remarks
        os.ftruncate(self._log, whole)
        if about is None:
            self._append({"schema": SCHEMA, **asdict(self.about)})
            return
        for key, value in asdict(about).items():
            wanted = getattr(self.about, key)
            if value != wanted:
                raise UserMistake(
                    f"was made with {key} {_words(value)}, not {_words(wanted)}; give another --out, to which"
                    f" --merge {log.parent} adds its programs",
                    file=str(log.parent),
                )
        for entry in entries:
            if entry.kept and not intact(log.parent, entry.program):
                self.remarks.append(f"member {entry.program} is missing or damaged, and left out with what it showed")
                self._learn(replace(entry, new=(), kept=False), None)
            else:
                self._learn(entry, None)


def _words(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(value) or "none"
    return clean(value, 60)


def intact(folder: Path, member: str) -> bool:
    """Is a member's file as it was written?"""
    try:
        return name_of((folder / MEMBERS / f"{member}.yaml").read_bytes()) == member
    except OSError:
        return False


def name_of(text: bytes) -> str:
    """The name of a program with this text."""
    return hashlib.sha256(text).hexdigest()[:NAME]


# -- reading -----------------------------------------------------------------------------


def read_log(log: Path) -> tuple[About | None, list[Entry], int, list[str]]:
    """The contents of a log.

    Returns: what the corpus is about (None: the log is empty), its programs, how many bytes of the log are whole
        lines, and remarks for the user.

    Raises: UserMistake - a line in its midst is damaged, or it is of another version.
    """
    try:
        data = log.read_bytes()
    except OSError as wrong:
        raise UserMistake(f"is not a corpus: {LOG} cannot be read ({reason(wrong)})", file=str(log.parent)) from None
    remarks: list[str] = []
    whole = data.rfind(b"\n") + 1
    if whole < len(data):
        remarks.append(f"{log}: the last line is unfinished, and cut off: that program is run again")
    lines = data[:whole].split(b"\n")[:-1]
    if not lines:
        return None, [], whole, remarks
    about = _about(lines[0], log)
    entries = []
    for number, line in enumerate(lines[1:], 2):
        try:
            entries.append(_entry(json.loads(line)))
        except (ValueError, LookupError, TypeError):
            raise UserMistake(
                "this line is damaged; cut the log off before it, and the programs behind it are run again",
                file=str(log),
                line=number,
            ) from None
    return about, entries, whole, remarks


def _about(line: bytes, log: Path) -> About:
    try:
        head = json.loads(line)
        schema = head.pop("schema")
        if not isinstance(schema, str) or not schema.startswith("uvmp-corpus/"):
            raise ValueError("another kind of file")
    except (ValueError, LookupError, TypeError, AttributeError):
        raise UserMistake("is not the log of a corpus, or its first line is damaged", file=str(log), line=1) from None
    if schema != SCHEMA:
        raise UserMistake(f"a corpus of version {clean(schema, 40)}; this uvmp reads {SCHEMA}", file=str(log), line=1)
    try:
        return typed.read(About, head)
    except (ValueError, LookupError, TypeError):
        raise UserMistake("its first line is damaged", file=str(log), line=1) from None


def _entry(line: object) -> Entry:
    """Raises: ValueError, LookupError, TypeError - it is none."""
    entry = typed.read(Entry, line)
    if len(entry.program) != NAME or not entry.program.isalnum():
        raise ValueError("a name")
    return entry


class Import(NamedTuple):
    """A program of another corpus.

    Attributes:
        rounds: in which it showed what it showed.
    """

    name: str
    program: Program
    rounds: int


def programs_of(folder: Path) -> Iterator[Import | str]:
    """The members and the findings of another corpus; a remark instead of a damaged file.

    Raises: UserMistake - the folder is not a corpus.
    """
    about, entries, _, remarks = read_log(folder / LOG)
    if about is None:
        raise UserMistake("is an empty corpus", file=str(folder))
    yield from remarks
    files = [
        *((folder / MEMBERS / f"{entry.program}.yaml", entry.rounds) for entry in entries if entry.kept),
        *((folder / FINDINGS / Path(entry.finding.file).name, 1) for entry in entries if entry.finding is not None),
    ]
    for file, rounds in files:
        program = None
        with suppress(OSError, ValueError, UserMistake):
            text = file.read_bytes()
            if file.parent.name == FINDINGS or name_of(text) == file.stem:
                program = read(text.decode(), str(file))
        if program is None:
            yield f"{file} is missing or damaged, and left out"
        else:
            yield Import(name_of(program.text().encode()), program, rounds)
