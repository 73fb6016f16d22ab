"""A strict YAML reader whose every error has a file, a line and a field.

Rules of this dialect, a subset of YAML 1.2:

- A number is `12`, `-12` or `0x1f`. `010`, `1:30`, `1_000` and `1e3` are text.
- A truth value is `true` or `false`. `on`, `off`, `yes` and `no` are text.
- A quoted value is text.
- A key occurs once in its mapping.
- No anchors, aliases, merge keys, tags or second documents: a file has no
  hidden contents, and a small file cannot become a large document.
- At most `MAX_BYTES` bytes, nested at most `MAX_DEPTH` deep.

PyYAML supplies the scanner and the parser; of its SafeLoader only these are
used, so none of YAML 1.1's guesses is ever made. Where PyYAML has libyaml, that
reads the text, twenty times as fast, unless the text has something that both
read differently. What is refused is read again in Python, so that messages are
the same everywhere.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any, NoReturn, TypeVar

import yaml

from shared.errors import UserMistake, together

MAX_BYTES = 256 * 1024
MAX_DEPTH = 24
T = TypeVar("T")
V = TypeVar("V")

_INT = re.compile(r"-?(?:0|[1-9][0-9]*)|0x[0-9a-fA-F]+")
_PLAIN_KEY = re.compile(r"[A-Za-z0-9_.-]{1,60}")
#: tabs, line ends and other marks that are not ASCII, explicit keys, and what follows the head of a block
_READ_DIFFERENTLY = re.compile(r"[^ -~\n]|\?|[|>][-+0-9]*#")
_HINTS = (
    (re.compile(r"[-+]?0[0-7]+"), "a number has no leading zero"),
    (re.compile(r"[0-9]+(:[0-9]+)+"), "a colon does not make a number"),
    (re.compile(r"[-+]?[0-9][0-9_]*_[0-9_]*"), "a number has no underscores"),
    (re.compile(r"\+[0-9]+"), "a number has no plus sign"),
)


def show(value: object) -> str:
    """A value as it can be quoted in a message: short, on one line, nothing unprintable."""
    text = repr(value)
    return text if len(text) <= 60 else text[:56] + " ..."


def close_to(word: str, known: Iterable[str]) -> list[str]:
    """Up to two of `known` that look like `word`, or begin with it."""
    known = list(known)
    close = difflib.get_close_matches(word, known, n=2, cutoff=0.7)
    return close or [name for name in known if name.startswith(word)][:2]


def meant(word: str, known: Iterable[str]) -> str:
    """ " (did you mean x?)", if something among `known` looks like `word`; else ""."""
    close = close_to(word, known)
    return f" (did you mean {' or '.join(close)}?)" if close else ""


class Unresolved(UserMistake):
    """A name stands for nothing. Not told if what should have made it has a mistake of its own.

    Attributes:
        name: as it was written.
    """

    name = ""


Scalar = str | int | bool | None
#: PyYAML's own, or that of libyaml
Loader = type[yaml.SafeLoader] | type[yaml.CSafeLoader]
#: of the parser; their types do not say which of them have a value, an anchor or a tag
_Event = Any


class Value:
    """A value of the document, which knows where it stands.

    Attributes:
        data: str, int, bool or None; a list of Values; or a dict of them.
        file, line, field: its place, as `UserMistake` wants it.
        key_lines: for a mapping, the line of each of its keys.
        plain: a scalar written without quotes.
    """

    __slots__ = ("data", "field", "file", "key_lines", "line", "plain")

    def __init__(
        self, data: Scalar | list[Value] | dict[str, Value], file: str, line: int, field: str, plain: bool = False
    ):
        self.data, self.file, self.line, self.field, self.plain = data, file, line, field, plain
        self.key_lines: dict[str, int] = {}

    def fail(self, message: str, *, key: str | None = None) -> NoReturn:
        """Complain about this value, or about one key of this mapping."""
        raise self.mistake(message, key)

    def unresolved(self, name: str, message: str, *, key: str | None = None) -> NoReturn:
        """Complain that `name`, which this value has, stands for nothing."""
        wrong = self.mistake(message, key, Unresolved)
        assert isinstance(wrong, Unresolved)
        wrong.name = name
        raise wrong

    def mistake(self, message: str, key: str | None = None, kind: type[UserMistake] = UserMistake) -> UserMistake:
        """A complaint about this value, or about one key of this mapping."""
        line, field = self.line, self.field
        if key is not None:
            line, field = self.key_lines.get(key, line), _join(field, key)
        return kind(message, file=self.file, line=line, field=field)

    def wanted(self, what: str, hint: str = "") -> NoReturn:
        """Complain that this value is of the wrong type."""
        actual = {list: "a list", dict: "a mapping", type(None): "nothing"}.get(type(self.data)) or self._scalar()
        if not self.field:
            actual = "text"  # of a file that is none of ours: it is not quoted
        self.fail(f"expected {what}, found {actual}{hint}")

    def flow(self, without: Iterable[str] = ()) -> str:
        """This value on one line, as it could stand in the file; of a mapping, some keys can be left out."""
        if isinstance(self.data, dict):
            left_out = frozenset(without)
            parts = [f"{key}: {'...' if key in left_out else value.flow()}" for key, value in self.data.items()]
            return "{" + ", ".join(parts) + "}"
        if isinstance(self.data, list):
            return "[" + ", ".join(value.flow() for value in self.data) + "]"
        if isinstance(self.data, str):
            return self.data if self.plain else json.dumps(self.data)
        return "null" if self.data is None else json.dumps(self.data)

    def _scalar(self) -> str:
        if isinstance(self.data, bool):
            return "true" if self.data else "false"
        return f"the text {show(self.data)}" if isinstance(self.data, str) else show(self.data)

    def mapping(self, required: Iterable[str] = (), optional: Iterable[str] = ()) -> dict[str, Value]:
        """A mapping with these keys and no others."""
        if wrong := self.wrong_keys(required, optional):
            raise together(wrong)
        return self.items()

    def wrong_keys(self, required: Iterable[str], optional: Iterable[str]) -> list[UserMistake]:
        """A mistake for each key that this mapping must not have or lacks; of a misspelled one, once."""
        required = list(required)
        known = [*required, *optional]
        items = self.items()
        here = ", ".join(known) or "none"
        strange = [key for key in items if key not in known]
        wrong = [
            self.mistake(f"unknown key{_quoted(key)}{meant(key, known)}; known here: {here}", key) for key in strange
        ]
        misspelled = {name for key in strange for name in close_to(key, known)}
        missing = [key for key in required if key not in items and key not in misspelled]
        return wrong + [self.mistake(f"missing key {show(key)}") for key in missing]

    def items(self) -> dict[str, Value]:
        """A mapping with any keys."""
        if not isinstance(self.data, dict):
            self.wanted("a mapping")
        return self.data

    def elements(self, *, at_least: int = 0) -> list[Value]:
        """A list."""
        if not isinstance(self.data, list):
            self.wanted("a list")
        if len(self.data) < at_least:
            self.fail(f"expected at least {at_least} {'entry' if at_least == 1 else 'entries'}")
        return self.data

    def integer(self, low: int, high: int) -> int:
        """A whole number in [low, high]."""
        if isinstance(self.data, bool) or not isinstance(self.data, int):
            hint = ""
            if isinstance(self.data, str):
                hint = next((f" ({why})" for form, why in _HINTS if form.fullmatch(self.data)), "")
                if not self.plain and _INT.fullmatch(self.data):
                    hint = " (remove the quotes)"
            self.wanted("a whole number", hint)
        if not low <= self.data <= high:
            self.fail(f"{show(self.data)} is out of range: {low} to {high}")
        return self.data

    def boolean(self) -> bool:
        """true or false."""
        if not isinstance(self.data, bool):
            self.wanted("true or false")
        return self.data

    def text(self, what: str = "text") -> str:
        """Text that is not empty."""
        if not isinstance(self.data, str):
            self.wanted(what, " (put it in quotes)" if isinstance(self.data, int) else "")
        if not self.data.strip():
            self.fail(f"expected {what}, found only blanks")
        return self.data

    def choice(self, words: Iterable[str], what: str) -> str:
        """One of a few words."""
        word = self.text(what)
        if word not in words:
            self.fail(f"unknown {what} {show(word)}{meant(word, words)}; known: {', '.join(words)}")
        return word


class Reading:
    """The mistakes of a document so far; reading continues behind a mistake."""

    def __init__(self) -> None:
        self.mistakes: list[UserMistake] = []

    def section(self, keys: Mapping[str, Value], key: str, read: Callable[[Value], T], otherwise: V) -> T | V:
        """What one key says; `otherwise` if it is not there, or has a mistake, which is taken note of."""
        if key not in keys:
            return otherwise
        values = self.each((keys[key],), read)
        return values[0] if values else otherwise

    def each(self, values: Iterable[V], read: Callable[[V], T]) -> tuple[T, ...]:
        """What each of these says; those that have a mistake are left out, and it is taken note of."""
        readings: list[T] = []
        for value in values:
            try:
                readings.append(read(value))
            except UserMistake as mistake:
                self.mistakes.append(mistake)
                if isinstance(value, Value):
                    self.lose(value, mistake)
        return tuple(readings)

    def lose(self, value: Value, mistake: UserMistake) -> None:
        """Called for each value that is left out."""

    def complain(self) -> None:
        """Raise what was taken note of, if anything was."""
        if self.mistakes:
            raise together(self.mistakes)


def _quoted(key: str) -> str:
    """ " 'frames'", if that is how a key looks: else the file may be none of ours, and is not quoted."""
    return f" {show(key)}" if _PLAIN_KEY.fullmatch(key) else ", which is not a word"


def _join(field: str, key: str) -> str:
    key = key if _PLAIN_KEY.fullmatch(key) else "?"
    return f"{field}.{key}" if field else key


def parse(text: str, file: str) -> Value:
    """Read one document.

    Args:
        file: its name, for messages.

    Raises: UserMistake - the text is not a document of this dialect; says where, of each mistake unless it is not even
    YAML.
    """
    if len(text) > MAX_BYTES or len(text.encode("utf-8", "replace")) > MAX_BYTES:
        raise UserMistake(f"longer than {MAX_BYTES // 1024} KiB", file=file)
    if yaml.__with_libyaml__ and not _READ_DIFFERENTLY.search(text):
        with suppress(UserMistake):
            return parse_by(yaml.CSafeLoader, text, file)
    return parse_by(yaml.SafeLoader, text, file)


def parse_by(loader: Loader, text: str, file: str) -> Value:
    """Read one document with a certain parser; see parse()."""
    try:
        builder = _Builder(text, file, loader)
        value = builder.document()
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise UserMistake(f"character {show(chr(error.character))} is not allowed", file=file, line=line) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        message = ", ".join(part for part in (error.context, error.problem) if part)
        hint = " (YAML is indented with spaces)" if "'\\t'" in message else ""
        raise UserMistake(f"not YAML: {message}{hint}", file=file, line=mark.line + 1 if mark else None) from None
    except (ValueError, OverflowError):  # what the scanner makes of \U00110000, and of a version with 5,000 digits
        raise UserMistake("not YAML: a number in an escape or a directive is out of range", file=file) from None
    if builder.mistakes:
        raise together(builder.mistakes)
    return value


class _Builder:
    """Builds Values from the parser's events.

    Args:
        loader: whose scanner and parser are used.

    Attributes:
        mistakes: those that do not keep the rest from being read.
    """

    def __init__(self, text: str, file: str, loader: Loader):
        self.file = file
        self.mistakes: list[UserMistake] = []
        self.events = yaml.parse(text, Loader=loader)

    def document(self) -> Value:
        event = self.next()  # stream start
        event = self.next()
        if isinstance(event, yaml.StreamEndEvent):
            raise UserMistake("the file is empty", file=self.file, line=1)
        value = self.value(self.next(), "", 0)
        self.next()  # document end
        event = self.next()
        if not isinstance(event, yaml.StreamEndEvent):
            self.refuse(event, "", "a second document; a file has one document")
        return value

    def next(self) -> _Event:
        return next(self.events)

    def refuse(self, event: _Event, field: str, message: str) -> NoReturn:
        self.note(event, field, message)
        raise together(self.mistakes)

    def note(self, event: _Event, field: str, message: str) -> None:
        self.mistakes.append(UserMistake(message, file=self.file, line=event.start_mark.line + 1, field=field or None))

    def value(self, event: _Event, field: str, depth: int) -> Value:
        if depth > MAX_DEPTH:
            self.refuse(event, "", f"nested more than {MAX_DEPTH} deep")
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent):
            self.note(event, field, f"an alias (*{event.anchor}); write the value out")
            return Value(None, self.file, line, field)
        if event.anchor is not None:
            self.note(event, field, f"an anchor (&{event.anchor}); write values out")
        if event.tag is not None:
            self.note(event, field, f"a tag ({show(event.tag)}); write the plain value")
        if isinstance(event, yaml.ScalarEvent):
            return self.scalar(event, line, field)
        if isinstance(event, yaml.SequenceStartEvent):
            elements: list[Value] = []
            while not isinstance(event := self.next(), yaml.SequenceEndEvent):
                elements.append(self.value(event, f"{field}[{len(elements)}]", depth + 1))
            return Value(elements, self.file, line, field)
        mapping: dict[str, Value] = {}
        result = Value(mapping, self.file, line, field)
        while not isinstance(event := self.next(), yaml.MappingEndEvent):
            key = self.key(event, field)
            if key in mapping:
                first = result.key_lines[key]
                self.note(event, _join(field, key), f"duplicate key {show(key)} (first on line {first})")
            result.key_lines[key] = event.start_mark.line + 1
            mapping[key] = self.value(self.next(), _join(field, key), depth + 1)
        return result

    def key(self, event: _Event, field: str) -> str:
        if not isinstance(event, yaml.ScalarEvent) or event.anchor is not None or event.tag is not None:
            self.refuse(event, field, "a key must be a plain word")
        key: str = event.value
        if not key:
            self.refuse(event, field, "an empty key")
        return key

    def scalar(self, event: _Event, line: int, field: str) -> Value:
        word: str = event.value
        if strange := next((char for char in word if not (char.isprintable() or char in "\n\t ")), None):
            self.note(event, field, f"character {show(strange)} is not allowed")
        plain = not event.style
        data: Scalar = word
        if plain:
            if _INT.fullmatch(word):
                if len(word) > 20:
                    self.note(event, field, f"{show(word)} is out of range: no number here has more than 64 bits")
                    word = "0"
                data = int(word, 0)
            elif word in ("true", "false"):
                data = word == "true"
            elif word in ("", "~", "null"):
                data = None
        return Value(data, self.file, line, field, plain)
