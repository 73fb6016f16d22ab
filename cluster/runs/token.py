"""Schedule tokens: a found race in one pasteable line.

    uvmp1.<scenario>.<digest>.<kernel>.<body>.<check>

`digest` covers what the schedule is a schedule of (scenario, errata, machine,
detectors), `kernel` the kernel's own source, so that a token is never replayed
on something else unnoticed; `check` catches a slip of the clipboard. The body
is the list of deviations from the default schedule (shared/journal/deviation.py), each
consumed once:

    d BYTES     numbers of 7 bits a byte, the low bits first, bit 7 in all bytes but the last of a number: the length of
                the names times two, plus 1 on the repaired kernel; the names (bytes), joined by "/", those of WORDS as
                128 and a number; then for each deviation which kind it is of which contexts, the operation's number,
                and of a choice of data the choice
    y BYTES     the same, compressed by zlib
    m, z BYTES  the same in msgpack, as older tokens have it; z: compressed

The set of racy fields is not covered: operation numbers count every access, so
a token replays at any granularity.
"""

from __future__ import annotations

import base64
import hashlib
import re
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import msgpack

import shared
from shared.errors import UserMistake
from shared.journal.deviation import KINDS, Deviation
from shared.journal.runfile import MAX_TOKEN, TOKEN, token_check
from shared.patch import current
from shared.scenario.model import Scenario
from shared.text import clean

VERSION = "uvmp1"
#: of a body: bytes unpacked, deviations, and how large a number may be
MAX_BODY, MAX_DEVIATIONS, MAX_NUMBER = 1 << 18, 1 << 14, 1 << 31
#: bytes of the names of contexts
MAX_NAMES = 1 << 12
#: names of contexts that many machines have, by their numbers in a body
WORDS = (
    "pagedaemon", "pagedaemon.bio", "swap", "disk",
    *(f"cpu{cpu}.{interrupt}" for cpu in range(8) for interrupt in ("ipi", "disk", "bio")),
)  # fmt: skip
_CONTEXT = re.compile(r"[A-Za-z][A-Za-z0-9_.]{0,40}")


@dataclass(frozen=True)
class Token:
    """A schedule and what it is a schedule of."""

    scenario: str
    digest: str
    kernel: str
    deviations: tuple[Deviation, ...]
    fixed: bool = False

    def __str__(self) -> str:
        head = f"{VERSION}.{self.scenario}.{self.digest}.{self.kernel}.{_pack(self.deviations, self.fixed)}"
        return f"{head}.{token_check(head)}"


def token_of(scenario: Scenario, deviations: list[Deviation]) -> Token:
    """The token of a schedule of `scenario` on this kernel."""
    return Token(scenario.id, scenario.digest(), kernel_version(), tuple(deviations), not scenario.errata)


def parse(text: str) -> Token:
    """Read a token; UserMistake says what is wrong with it."""
    text = text.strip()
    if len(text) > MAX_TOKEN:
        raise _wrong(f"this token has {len(text)} characters; the longest possible has {MAX_TOKEN}")
    match = TOKEN.fullmatch(text)
    if match is None:
        if text.startswith("uvmp") and not text.startswith(VERSION + "."):
            raise _wrong(f"a token of version {clean(text.split('.')[0], 20)}; this uvmp reads {VERSION}")
        form = "uvmp1.SCENARIO.DIGEST.KERNEL.BODY.CHECK, as `uvmp explore` prints it"
        raise _wrong(f"not a schedule token ({form}), and not a folder")
    scenario, digest, kernel, body, check = match.groups()
    if token_check(text.rsplit(".", 1)[0]) != check:
        raise _wrong("the token's checksum is wrong: a character is missing or changed")
    deviations, fixed = _unpack(body)
    return Token(scenario, digest, kernel, deviations, fixed)


def refuse_mismatch(token: Token, scenario: Scenario) -> None:
    """UserMistake unless the token is one of this scenario on this kernel."""
    if not is_ours(token.kernel):
        kernels = f"the token was made on kernel {token.kernel}, this is kernel {kernel_version()}"
        raise _wrong(f"{kernels}; --lenient replays it anyway")
    if token.digest != scenario.digest():
        digests = f"the token was made for {token.scenario} as {token.digest}, here it is {scenario.digest()}"
        raise _wrong(f"{digests} (other errata, detectors or machine); --lenient replays it anyway")


def _wrong(why: str) -> UserMistake:
    return UserMistake(why, field="TOKEN")


def _pack(deviations: tuple[Deviation, ...], fixed: bool) -> str:
    if not deviations and not fixed:
        return ""
    names = list(dict.fromkeys(name for ran, _, _, to in deviations for name in (ran, to) if isinstance(name, str)))
    joined = b"/".join(bytes([128 + WORDS.index(name)]) if name in WORDS else name.encode() for name in names)
    data = _number(2 * len(joined) + fixed) + joined
    for ran, n, kind, to in deviations:
        which = 0 if isinstance(to, int) else names.index(to)
        data += _number((names.index(ran) * len(names) + which) * len(KINDS) + KINDS.index(kind)) + _number(n)
        data += _number(to) if isinstance(to, int) else b""
    small = zlib.compress(data, 9)
    raw = b"y" + small if len(small) < len(data) else b"d" + data
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _number(value: int) -> bytes:
    """A number, 7 bits a byte, the low bits first."""
    data = b""
    while value > 127:
        data += bytes([value & 127 | 128])
        value >>= 7
    return data + bytes([value])


def _numbers(data: bytes) -> list[int]:
    """The numbers that bytes are made of."""
    numbers, value, shift = [], 0, 0
    for byte in data:
        value |= (byte & 127) << shift
        shift += 7
        if value > MAX_NUMBER:
            raise ValueError("a number that is too large")
        if byte < 128:
            numbers.append(value)
            value = shift = 0
    if shift:
        raise ValueError("half a number")
    return numbers


def _dense(data: bytes) -> tuple[tuple[Deviation, ...], bool]:
    """What the bytes behind "d" say."""
    head = next((at for at, byte in enumerate(data) if byte < 128), len(data)) + 1
    length, fixed = divmod(_numbers(data[:head])[0] if data else -1, 2)
    if not 0 <= length <= min(MAX_NAMES, len(data) - head):
        raise ValueError("names that are too long")
    words = data[head : head + length].split(b"/")
    names = [WORDS[word[0] - 128] if word and word[0] > 127 else word.decode("ascii") for word in words]
    if not all(name == "" or _CONTEXT.fullmatch(name) for name in names):
        raise ValueError("not the name of a context")
    numbers = iter(_numbers(data[head + length :]))
    deviations: list[Deviation] = []
    for first in numbers:
        which, kind = divmod(first, len(KINDS))
        ran, to = divmod(which, len(names))
        n, choice = next(numbers, -1), next(numbers, -1) if KINDS[kind] == "choice" else 0
        if n < 0 or choice < 0 or len(deviations) == MAX_DEVIATIONS:
            raise ValueError("not a list of deviations")
        deviations.append(Deviation(names[ran], n, KINDS[kind], choice if KINDS[kind] == "choice" else names[to]))
    return tuple(deviations), bool(fixed)


def _unpack(body: str) -> tuple[tuple[Deviation, ...], bool]:
    if not body:
        return (), False
    try:
        raw = base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))
        unzip = zlib.decompressobj()
        zipped = raw[:1] in (b"z", b"y")
        data = unzip.decompress(raw[1:], MAX_BODY) if zipped else raw[1:]
        if raw[:1] not in (b"z", b"y", b"m", b"d") or (zipped and (not unzip.eof or unzip.unused_data)):
            raise ValueError("wrong encoding")
        if raw[:1] in (b"d", b"y"):
            return _dense(data)
        unpacked = msgpack.unpackb(data, max_array_len=4 * MAX_DEVIATIONS + 2, max_str_len=MAX_NAMES, max_map_len=0)
        if not isinstance(unpacked, list):
            raise ValueError("not a list of deviations")
        fixed, joined, *flat = unpacked
        names = joined.split("/")
        if len(flat) % 4 or not all(type(number) is int and 0 <= number <= MAX_NUMBER for number in flat):
            raise ValueError("not a list of deviations")
        if fixed not in (0, 1):
            raise ValueError("a flag that is neither 0 nor 1")
        if not all(kind < len(KINDS) for kind in flat[2::4]):
            raise ValueError("an unknown kind of deviation")
        if not all(name == "" or _CONTEXT.fullmatch(name) for name in names):
            raise ValueError("not the name of a context")
        return tuple(
            Deviation(names[ran], n, KINDS[kind], to if KINDS[kind] == "choice" else names[to])
            for ran, n, kind, to in zip(*(flat[at::4] for at in range(4)), strict=True)
        ), bool(fixed)
    except (ValueError, TypeError, IndexError, AttributeError, zlib.error, msgpack.UnpackException) as wrong:
        raise _wrong(f"the token's body cannot be read ({clean(wrong, 80)})") from None


#: what says which operations a program comes to, and what they do: the kernel, its programs, and the nodes. Not: how
#: an engine carries operations out, what judges a run, texts, and what real processes need besides
DECIDES = (
    "shared/uvm", "shared/locks/table.py", "shared/program/run.py", "shared/scenario/steps", "shared/wire/messages.py",
    "nodes",
)  # fmt: skip
APART = ("nodes/host",)
#: one more for each change of an engine after which an operation has another number: when tests/parity/digests.txt is
#: written anew for old scenarios, old tokens are of no use
NUMBERING = 1
#: version of the kernel -> those before it on which a schedule means the same, as tests/scenarios/before.txt shows
SAME: dict[str, tuple[str, ...]] = {
    "99b13281": (
        "88adeb47", "0af08038", "bf0a49be", "6acb7528", "4228fff6", "041de1f3", "1a0c8dea", "036f5629", "9b071401",
        "24162bc8",
    )
}  # fmt: skip


def kernel_files() -> list[Path]:
    """The files that `kernel_version` covers."""
    root = Path(shared.__file__).parents[1]
    files = [
        path for name in DECIDES for path in ((root / name).rglob("*.py") if (root / name).is_dir() else [root / name])
    ]
    return sorted(file for file in files if not any(file.is_relative_to(root / name) for name in APART))


def kernel_version() -> str:
    """8 hex digits over the code (not the comments) of everything that decides which operation a number means."""
    patch = current()
    if patch is None:
        return _own_version()
    return hashlib.sha256((_own_version() + _code(patch.source)).encode()).hexdigest()[:8]


@cache
def _own_version() -> str:
    return version_of(kernel_files())


def is_ours(version: str) -> bool:
    """Does a schedule of that version of the kernel mean the same on this kernel?"""
    own = kernel_version()
    return version == own or version in SAME.get(own, ())


def version_of(files: Iterable[Path]) -> str:
    """8 hex digits over the code of these files."""
    total = hashlib.sha256(str(NUMBERING).encode())
    for path in files:
        total.update(_code(path.read_text(encoding="utf-8")).encode())
    return total.hexdigest()[:8]


#: brackets, comments and strings of a source: no comment begins in a string, and no docstring in brackets
LEXEME = re.compile(
    r"""(?P<open>[(\[{])|(?P<close>[)\]}])|(?P<comment>\#[^\n]*)
    |[rRuU]?(?P<string>(?P<quotes>\"{3}|'{3})(?:\\.|[^\\])*?(?P=quotes)|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')""",
    re.DOTALL | re.VERBOSE,
)


@cache
def _code(source: str) -> str:
    """A module's lines without comments, docstrings and blank lines; the same under every version of Python.

    A docstring is a string alone on its lines behind a colon, or at the beginning. Python's own tokenizer and parser
    take ten times as long: longer than all else that a short command does.
    """
    kept, at, done, depth, last = [], 0, 0, 0, ":"
    for lexeme in LEXEME.finditer(source):
        (start, end), kind = lexeme.span(), lexeme.lastgroup
        code = source[done:start].rstrip()
        alone = start == 0 or "\n" in source[done + len(code) : start]
        last, done = (code or last)[-1], end
        depth += (kind == "open") - (kind == "close")
        docstring = kind == "string" and alone and last == ":" and not depth and source[end : end + 1] in "\n"
        if kind == "comment" or docstring:
            kept.append(source[at:start])
            at = end
        if kind != "comment":
            last = source[end - 1]
    code = "".join([*kept, source[at:]])
    return "\n".join(stripped for line in code.splitlines() if (stripped := line.rstrip()))
