"""The YAML dialect: what is read, and that every complaint says where."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
import yaml

import shared
from shared.errors import UserMistake
from shared.scenario.yaml import MAX_BYTES, Value, parse, parse_by

CONFIGS = Path(shared.__file__).parent.parent / "configs"
LETTERS = [*"\n \t:-[]{}#&*!|>'\"%@`,?\\abc019\x85\u2028\ufeff\0\x07~=.<", "\n  ", "|#", ": ", "- ", "? "]


def outcome(read: Callable[[], Value]) -> object:
    """What a text is read as, with lines and fields, or the message."""

    def whole(value: Value) -> object:
        data = value.data
        if isinstance(data, dict):
            data = {key: whole(part) for key, part in data.items()}
        if isinstance(data, list):
            data = [whole(part) for part in data]
        return data, value.line, value.field, value.plain, value.key_lines

    try:
        return whole(read())
    except UserMistake as mistake:
        return str(mistake)


@pytest.mark.skipif(not yaml.__with_libyaml__, reason="PyYAML has no libyaml here")
def test_libyaml_reads_what_python_reads() -> None:
    """All files that are shipped, and pieces of them with letters put in, of which a third is sound."""
    texts = [file.read_text() for file in sorted(CONFIGS.rglob("*.yaml"))]
    random, sound = Random(0), 0
    for number in range(3000):
        text = random.choice(texts)
        if number < len(texts):
            text = texts[number]
        else:
            begin = random.randrange(len(text))
            text = text[begin : begin + random.choice((5, 20, 80, 300))]
            for _ in range(random.randint(0, 4)):
                at = random.randint(0, len(text))
                text = text[:at] + random.choice(LETTERS) + text[at + random.randint(0, 1) :]
        by_python = outcome(lambda text=text: parse_by(yaml.SafeLoader, text, "f.yaml"))  # type: ignore[misc]
        assert outcome(lambda text=text: parse(text, "f.yaml")) == by_python, text  # type: ignore[misc]
        sound += not isinstance(by_python, str)
    assert sound > 1000


def plain(text: str) -> object:
    def strip(value: object) -> object:
        data = value.data  # type: ignore[attr-defined]
        if isinstance(data, dict):
            return {key: strip(value) for key, value in data.items()}
        if isinstance(data, list):
            return [strip(value) for value in data]
        return data

    return strip(parse(text, "f.yaml"))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("12", 12),
        ("-3", -3),
        ("0x1F", 31),
        ("true", True),
        ("~", None),
        ("on", "on"),
        ("yes", "yes"),
        ("No", "No"),
        ("True", "True"),
        ("010", "010"),
        ("0o10", "0o10"),
        ("1:30", "1:30"),
        ("1_000", "1_000"),
        ("1e3", "1e3"),
        ("1.5", "1.5"),
        (".inf", ".inf"),
        ("2001-01-23", "2001-01-23"),
        ("'12'", "12"),
        ('"true"', "true"),
        ("=", "="),
    ],
)
def test_a_scalar_is_what_it_looks_like(text: str, value: object) -> None:
    """PyYAML's own loader makes 8 of 010, 90 of 1:30 and True of on."""
    assert plain(f"k: {text}") == {"k": value}


def test_keys_are_always_text() -> None:
    """A process called `on` or `1` would otherwise get another name."""
    assert plain("on: 1\n2: {no: 3}") == {"on": 1, "2": {"no": 3}}


def test_crlf_and_byte_order_mark_are_read() -> None:
    assert plain("\ufeffa: 1\r\nb: [2, 3]\r\n") == {"a": 1, "b": [2, 3]}


@pytest.mark.parametrize(
    ("text", "line", "field", "message"),
    [
        ("", 1, None, "empty"),
        ("# only a comment\n", 1, None, "empty"),
        ("a: 1\nb:\n  c: 1\n  d: 2\n  c: 3\n", 5, "b.c", "duplicate key 'c' (first on line 3)"),
        ("a: [1, {b: 1, b: 2}]", 1, "a[1].b", "duplicate key"),
        ("a: &x 1\n", 1, "a", "anchor"),
        ("a: 1\nb: *x\n", 2, "b", "alias"),
        ("a: &x [1]\nb: [*x, *x, *x]\n", 1, "a", "anchor"),
        ("a: !!python/object/apply:os.system ['true']", 1, "a", "tag"),
        ("a: !!int 3", 1, "a", "tag"),
        ("a: 1\n---\nb: 1\n", 2, None, "second document"),
        ("? [a]\n: b\n", 1, None, "key must be a plain word"),
        ("a: [1,\nb: 2\n", 3, None, "not YAML"),
        ("a: 1\n\tb: 2\n", 2, None, "not YAML"),
        ("a:\n  b: 1\n c: 2\n", 3, None, "not YAML"),
        ("a: 1\nb: \x00\n", 2, None, r"'\x00' is not allowed"),
        ('a: 1\nb: "\\e[31m"\n', 2, "b", r"'\x1b' is not allowed"),
        ('a: "\\uD800"\n', 1, "a", "is not allowed"),
        ("a: " + "9" * 5000, 1, "a", "64 bits"),
        ("[" * 100_000, 1, None, "nested more than"),
        ("- " * 100_000, 1, None, "nested more than"),
        ("a: 'x\n\n", 3, None, "not YAML"),
        ('a: "\\U00110000"\n', None, None, "out of range"),
        (f"%YAML {'9' * 5000}.1\n---\na: 1\n", None, None, "out of range"),
    ],
)
def test_what_is_refused_and_where(text: str, line: int | None, field: str | None, message: str) -> None:
    with pytest.raises(UserMistake) as caught:
        parse(text, "f.yaml")
    assert (caught.value.file, caught.value.line, caught.value.field) == ("f.yaml", line, field)
    assert message in caught.value.message


def test_a_file_that_is_too_long_is_not_even_scanned() -> None:
    with pytest.raises(UserMistake, match=r"f\.yaml: longer than 256 KiB"):
        parse("é" * (MAX_BYTES // 2 + 1), "f.yaml")


def test_a_key_that_is_no_word_is_not_quoted() -> None:
    value = parse('{"a b": {c: 1}}', "f.yaml")
    with pytest.raises(UserMistake) as caught:
        value.items()["a b"].items()["c"].text()
    assert caught.value.field == "?.c"
    assert "found 1 (put it in quotes)" in caught.value.message


def test_a_mapping_without_keys_says_so() -> None:
    with pytest.raises(UserMistake, match=r"unknown key 'a'; known here: none$"):
        parse("a: 1\n", "t.yaml").mapping()
