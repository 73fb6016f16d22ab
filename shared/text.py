"""Makes text from outside safe to print: all names, titles and messages go through `clean`.

Text from outside is text of a file, a token, an argument of a command, or a message of another library.
"""

from __future__ import annotations

import re

#: control characters, and those that reorder or break lines on a terminal
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")


def clean(text: object, longest: int = 0) -> str:
    """A string that a terminal shows and does not obey; cut if longer than `longest` (0: any length)."""
    word = str(text)
    if longest and len(word) > longest:
        word = word[: longest - 4] + " ..."
    return _UNSAFE.sub(
        lambda match: f"\\x{ord(match[0]):02x}" if ord(match[0]) < 256 else f"\\u{ord(match[0]):04x}", word
    )


def reason(error: Exception) -> str:
    """Why a file cannot be used, as the system has it: in small letters, of one line."""
    return clean((getattr(error, "strerror", None) or str(error)).lower(), 200)


def fit(text: str, encoding: str | None) -> str:
    """`text` as a stream of this encoding can have it; what it has no character for is written `\\u2026`."""
    encoding = encoding or "ascii"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def counted(number: int, noun: str) -> str:
    """`1 run`, `2,000 runs`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
