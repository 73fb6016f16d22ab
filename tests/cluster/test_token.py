"""Tokens: they survive a commit message, and are refused where they do not belong."""

from __future__ import annotations

import ast
import base64
import io
import re
import tokenize
import zlib
from pathlib import Path

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.runs import token as token_module
from cluster.runs.token import (
    MAX_BODY,
    MAX_DEVIATIONS,
    MAX_NUMBER,
    Token,
    kernel_files,
    kernel_version,
    parse,
    refuse_mismatch,
    token_of,
    version_of,
)
from shared.errors import UserMistake
from shared.journal.deviation import Deviation
from shared.journal.runfile import MAX_TOKEN, token_check
from shared.patch import applied
from shared.patch import read as read_patch
from tests.kit import SHIPPED, scenario

S3A = scenario("S3a")
#: a token of each scenario, as they were packed before
BEFORE = Path(__file__).parents[1] / "scenarios" / "before.txt"
NAMES = st.from_regex(r"[A-Za-z][A-Za-z0-9_.]{0,15}", fullmatch=True)
DEVIATIONS = st.lists(st.tuples(NAMES, st.integers(0, 10**6), st.sampled_from(("point", "wait")), NAMES), max_size=12)


@given(DEVIATIONS, st.booleans())
def test_a_token_says_what_was_put_into_it(deviations: list[tuple[str, int, str, str]], fixed: bool) -> None:
    token = Token("S3a-shipped", "0123abcd", "cafe0123", tuple(deviations), fixed)
    text = str(token)
    assert parse(text) == token == parse(f"  {text}\n")
    assert re.fullmatch(r"[A-Za-z0-9_.-]+", text), "fit for a URL and a commit message"


def test_a_token_says_which_data_were_chosen() -> None:
    """Of one context, and of several; the first and the last value there is."""
    for to in (0, 1, 2, 127, 128, MAX_NUMBER):
        for others in ((), (Deviation("B", 2, "wait", "A"), Deviation("B", 3, "choice", 1))):
            token = Token("S3a", "0123abcd", "cafe0123", (Deviation("A", 4, "choice", to), *others))
            assert parse(str(token)) == token


def test_a_number_has_as_many_bytes_as_it_needs() -> None:
    """Seven bits a byte, up to the largest; a larger number is refused."""
    few, most = 126, MAX_NUMBER
    sizes = {}
    for n in (few, 127, 128, 129, 16_383, 16_384, most):
        token = Token("S3a", "0123abcd", "cafe0123", (Deviation("A", n, "wait", "A"),))
        assert parse(str(token)) == token
        sizes[n] = len(body_of(token))
    assert [size - sizes[few] for size in sizes.values()] == [0, 0, 1, 1, 1, 2, 4]
    with pytest.raises(UserMistake, match="a number that is too large"):
        parse(str(Token("S3a", "0123abcd", "cafe0123", (Deviation("A", most + 1, "wait", "A"),))))


@pytest.mark.parametrize("name", ["A", "AB", "ABC"])
def test_a_body_may_end_with_any_letter(name: str) -> None:
    """Only what fills up the last three bytes is left away."""
    tokens = [Token("S3a", "0123abcd", "cafe0123", (Deviation(name, n, "wait", name),)) for n in range(128)]
    assert [parse(str(token)) for token in tokens] == tokens


@pytest.mark.parametrize("length", range(61, 68))
def test_names_may_have_any_length(length: int) -> None:
    """Their length, times two, is 128 at 64: more than a byte has."""
    first, other = "A" * 30, "B" * (length - 31)
    for fixed in (False, True):
        token = Token("S3a", "0123abcd", "cafe0123", (Deviation(first, 1, "point", other),), fixed)
        assert parse(str(token)) == token


def test_the_first_deviation_may_come_before_any_operation() -> None:
    """Its key is ("", 0, "wait"): nobody has run yet."""
    token = Token("S3a", "0123abcd", "cafe0123", (("", 0, "wait", "B"),))
    assert parse(str(token)).deviations == token.deviations


#: how a minimized race may look: five contexts, seven deviations
RACE = (
    Deviation("", 0, "wait", "B"), Deviation("B", 436, "point", "A"), Deviation("A", 217, "point", "pagedaemon"),
    Deviation("pagedaemon", 89, "wait", "A"), Deviation("A", 240, "wait", "pagedaemon"),
    Deviation("swap", 4, "point", "pagedaemon.bio"), Deviation("pagedaemon.bio", 12, "wait", "pagedaemon"),
)  # fmt: skip


def test_a_minimized_race_is_short() -> None:
    """A line of a mail; and the token of what the default schedule shows is nothing but what it is a schedule of."""
    assert len(str(Token("S3a-shipped", "0123abcd", "cafe0123", RACE))) < 144
    assert len(str(Token("S3a-shipped", "0123abcd", "cafe0123", RACE[:2]))) < 80
    assert str(Token("S3a", "0123abcd", "cafe0123", ())).startswith("uvmp1.S3a.0123abcd.cafe0123..")


@given(st.data())
def test_any_single_slip_is_noticed(data: st.DataObject) -> None:
    """Half a selection, or a letter lost in a mail."""
    text = str(Token("S3a", "0123abcd", "cafe0123", (("A", 17, "point", "B"), ("B", 30, "wait", "A"))))
    at = data.draw(st.integers(0, len(text) - 1))
    letter = data.draw(st.sampled_from("abz019_-.").filter(lambda letter: letter != text[at]))
    for wrong in (text[:at] + letter + text[at + 1 :], text[:at] + text[at + 1 :], text[:at]):
        with pytest.raises(UserMistake):
            parse(wrong)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not a schedule token (uvmp1.SCENARIO.DIGEST.KERNEL.BODY.CHECK, as `uvmp explore` prints it), and not a"),
        ("hello", "not a schedule token"),
        ("uvmp1.S3a", "not a schedule token"),
        ("uvmp2.S3a.0123abcd.cafe0123..000000", "a token of version uvmp2; this uvmp reads uvmp1"),
        (f"uvmp{'2' * 30}.S3a", f"a token of version uvmp{'2' * 12} ...; this"),
        ("uvmp1.S3a.0123abcd.cafe0123..000000", "checksum is wrong: a character is missing or changed"),
        ("uvmp1." + "A" * (MAX_TOKEN - 6), "not a schedule token"),
        ("uvmp1." + "A" * MAX_TOKEN, f"the longest possible has {MAX_TOKEN}"),
    ],
)
def test_what_is_no_token_is_told_as_such(text: str, message: str) -> None:
    with pytest.raises(UserMistake, match=re.escape(message)) as caught:
        parse(text)
    assert caught.value.field == "TOKEN" and len(str(caught.value)) < 300


@pytest.mark.parametrize("raw", [b"", b"z", b"zzzz", b"m", b"m\x01", b"m\x93\x00\xa1A\x01", b"m\xc1", b"x\x90"])
def test_a_body_with_a_good_checksum_and_no_sense_is_refused(raw: bytes) -> None:
    """The checksum keeps slips out, not somebody's own tool."""
    body = base64.urlsafe_b64encode(raw).decode().rstrip("=")
    head = f"uvmp1.S3a.0123abcd.cafe0123.{body}"
    if not body:
        assert parse(f"{head}.{token_check(head)}").deviations == ()
        return
    with pytest.raises(UserMistake, match="cannot be read"):
        parse(f"{head}.{token_check(head)}")


def with_body(raw: bytes) -> str:
    """A token of these bytes, whose check holds."""
    head = f"uvmp1.S3a.0123abcd.cafe0123.{base64.urlsafe_b64encode(raw).decode().rstrip('=')}"
    return f"{head}.{token_check(head)}"


def body_of(token: Token) -> bytes:
    """The bytes of its body."""
    body = str(token).split(".")[4]
    return base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))


def packed(*values: object) -> bytes:
    return b"m" + msgpack.packb(list(values))


NO_LIST, NO_PACKING = "not a list of deviations", "wrong encoding"


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"x" + msgpack.packb([0, "A", 0, 0, 1, 0]), NO_PACKING),
        (b"M" + msgpack.packb([0, "A", 0, 0, 1, 0]), NO_PACKING),
        (b"z" + zlib.compress(msgpack.packb([0, "A", 0, 0, 1, 0]))[:-1], NO_PACKING),
        (b"z" + zlib.compress(msgpack.packb([0, "A", 0, 0, 1, 0])) + b"x", NO_PACKING),
        (b"z" + zlib.compress(msgpack.packb([0, "A" * MAX_BODY])), NO_PACKING),
        (b"m" + msgpack.packb(7), NO_LIST),
        (b"m" + msgpack.packb("text"), NO_LIST),
        (packed(0, "A", 0, 0, 1), NO_LIST),
        (packed(0, "A", 0, 0, 1, 0, 0), NO_LIST),
        (packed(0, "A", 0, -1, 1, 0), NO_LIST),
        (packed(0, "A", 0, MAX_NUMBER + 1, 1, 0), NO_LIST),
        (packed(0, "A", 0, 1.0, 1, 0), NO_LIST),
        (packed(0, "A", 0, True, 1, 0), NO_LIST),
        (packed(2, "A", 0, 0, 1, 0), "a flag that is neither 0 nor 1"),
        (packed(-1, "A", 0, 0, 1, 0), "a flag that is neither 0 nor 1"),
        (packed(0, "A", 0, 0, 3, 0), "an unknown kind of deviation"),
        (packed(0, "A/;", 0, 0, 1, 0), "not the name of a context"),
        (packed(0, "A", 0, 0, 1, 1), "list index out of range"),
        (packed(0, ["A"], 0, 0, 1, 0), "'list' object has no attribute 'split'"),
        (packed(0, "A/" * 2048 + "A"), "exceeds max_str_len(4096)"),
        (packed(0, "A", 0, 0, 1, {0: 0}), "exceeds max_map_len(0)"),
        (packed(0, "A", *[0] * (4 * MAX_DEVIATIONS + 1)), f"exceeds max_array_len({4 * MAX_DEVIATIONS + 2})"),
        (b"m" + msgpack.packb([0, "A"]) + b"\x00", "unpack(b) received extra data."),
    ],
    ids=range(23),
)  # fmt: skip
def test_what_is_wrong_with_a_body_is_told(raw: bytes, says: str) -> None:
    with pytest.raises(UserMistake) as caught:
        parse(with_body(raw)) if len(raw) < MAX_TOKEN // 2 else unpacked(raw)
    assert caught.value.field == "TOKEN" and caught.value.message.endswith((f" {says})", f"({says})"))
    assert caught.value.message.startswith("the token's body cannot be read (")


def unpacked(raw: bytes) -> tuple[tuple[Deviation, ...], bool]:
    """What is in a body, however long a token it would make."""
    return token_module._unpack(base64.urlsafe_b64encode(raw).decode().rstrip("="))


def test_a_body_may_be_as_large_as_it_can_be() -> None:
    """The bounds are none for what `explore` prints."""
    assert unpacked(packed(1, "A", 0, MAX_NUMBER, 2, MAX_NUMBER)) == (
        (Deviation("A", MAX_NUMBER, "choice", MAX_NUMBER),), True,
    )  # fmt: skip
    many, fixed = unpacked(packed(0, "A/B", *[0, 1, 1, 1] * MAX_DEVIATIONS))
    assert len(many) == MAX_DEVIATIONS and set(many) == {Deviation("A", 1, "point", "B")} and not fixed
    assert unpacked(packed(1, "A/" * 2047 + "AB")) == ((), True)


def test_a_body_is_packed_in_the_shorter_of_two_ways() -> None:
    """Compressed only if that is shorter, and then as far as it goes."""
    few, many = Token("S", "0123abcd", "cafe0123", RACE[:1]), Token("S", "0123abcd", "cafe0123", RACE * 40)
    assert body_of(few)[:1] == b"d" and body_of(many)[:1] == b"y"
    data = zlib.decompress(body_of(many)[1:])
    assert body_of(many) == b"y" + zlib.compress(data, 9) and len(body_of(many)) < len(data)
    lengths = [len(body_of(Token("S", "0123abcd", "cafe0123", RACE[:n]))) for n in range(1, 8)]
    assert lengths == sorted(lengths) and lengths[:2] == [6, 11], "kind, names' length, names; 2 or 3 bytes each"


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"d\x02A\x01", "not a list of deviations"),
        (b"d\x02A\x02\x05", "not a list of deviations"),
        (b"d\x02A\x01\x85", "half a number"),
        (b"d\x02A\x01" + b"\xff" * 5 + b"\x01", "a number that is too large"),
        (b"d\x02;\x01\x05", "not the name of a context"),
        (b"d\x02\x7f\x01\x05", "not the name of a context"),
        (b"d\x02\xff\x01\x05", "out of range"),
        (b"d\x06A", "names that are too long"),
        (b"d\x85", "half a number"),
        (b"d", "names that are too long"),
        (b"d\x02A\x03\x05", "list index out of range"),
        (b"d\x02A" + b"\x01\x05" * (MAX_DEVIATIONS + 1), "not a list of deviations"),
        (b"y" + zlib.compress(b"\x02A\x01\x05")[:-1], NO_PACKING),
    ],
    ids=range(13),
)
def test_what_is_wrong_with_a_dense_body_is_told(raw: bytes, says: str) -> None:
    with pytest.raises(UserMistake) as caught:
        unpacked(raw)
    told = caught.value.message
    assert told.endswith((f" {says})", f"({says})")) and told.startswith("the token's body cannot be read (")


def shipped_before() -> list[Token]:
    """A schedule of each scenario, shortened."""
    return [parse(line) for line in BEFORE.read_text(encoding="ascii").split()]


def test_a_token_of_a_two_preemption_race_has_at_most_64_characters() -> None:
    """Of every scenario whose shortened schedule has two preemptions, and no other deviations; it says the same."""
    races = [token for token in shipped_before() if [deviation.kind for deviation in token.deviations] == ["point"] * 2]
    assert len(races) >= 4
    for token in races:
        assert len(str(token)) <= 64 and parse(str(token)) == token, str(token)


@pytest.mark.parametrize("names", [("A", "A2"), ("B", "pagedaemon"), ("pagedaemon.bio", "cpu1.ipi")])
def test_two_preemptions_of_any_scenario_fit_into_64_characters(names: tuple[str, str]) -> None:
    """Late ones, too: of executions of 16,000 operations of a context."""
    first, other = names
    deviations = Deviation(first, 16_383, "point", other), Deviation(other, 16_000, "point", first)
    for name in SHIPPED:
        assert len(str(Token(name, "0123abcd", "cafe0123", deviations, True))) <= 64


def test_a_token_is_shorter_than_it_was_before_and_says_the_same() -> None:
    """Those of one deviation and more were in msgpack."""
    for line in BEFORE.read_text(encoding="ascii").split():
        token = parse(line)
        assert parse(str(token)) == token
        assert len(str(token)) < len(line) if token.deviations else str(token) == line


def test_a_small_token_cannot_unpack_into_a_large_one() -> None:
    """A bomb of zeros is refused, not unpacked."""
    body = base64.urlsafe_b64encode(b"z" + zlib.compress(b"\x00" * (64 << 20), 9))[:3000].decode()
    head = f"uvmp1.S3a.0123abcd.cafe0123.{body}"
    with pytest.raises(UserMistake):
        parse(f"{head}.{token_check(head)}")


def test_a_token_of_this_scenario_on_this_kernel_is_accepted() -> None:
    token = token_of(S3A, [])
    assert (token.scenario, token.digest, token.kernel) == (S3A.id, S3A.digest(), kernel_version())
    refuse_mismatch(token, S3A)


@pytest.mark.parametrize(
    "other",
    [
        S3A.without_errata(),
        S3A.with_detect({"lockdebug": "off"}),
        scenario("S3a-shipped"),
        scenario("S3a", frames="25"),
    ],
    ids=["errata", "detectors", "scenario", "machine"],
)
def test_a_token_of_something_else_is_refused(other: object) -> None:
    with pytest.raises(UserMistake) as caught:
        refuse_mismatch(token_of(S3A, []), other)  # type: ignore[arg-type]
    assert caught.value.field == "TOKEN"
    assert str(caught.value).endswith(
        f"the token was made for S3a as {S3A.digest()}, here it is {other.digest()}"  # type: ignore[attr-defined]
        " (other errata, detectors or machine); --lenient replays it anyway"
    )


def test_a_token_of_another_kernel_is_refused() -> None:
    token = Token("S3a", S3A.digest(), "00000000", ())
    with pytest.raises(UserMistake) as caught:
        refuse_mismatch(token, S3A)
    assert caught.value.field == "TOKEN"
    assert str(caught.value).endswith(
        f"the token was made on kernel 00000000, this is kernel {kernel_version()}; --lenient replays it anyway"
    )


def test_a_token_of_a_kernel_on_which_it_means_the_same_is_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    token = Token("S3a", S3A.digest(), "00000000", ())
    monkeypatch.setattr(token_module, "SAME", {kernel_version(): ("11111111", "00000000")})
    refuse_mismatch(token, S3A)
    for same in ({}, {"11111111": ("00000000",)}, {kernel_version(): ("11111111",)}):
        monkeypatch.setattr(token_module, "SAME", same)
        with pytest.raises(UserMistake, match="the token was made on kernel 00000000"):
            refuse_mismatch(token, S3A)


def test_a_patched_kernel_is_another_one() -> None:
    """As many as there are patches; what is not code of one makes no difference."""
    text = 'from shared.patch import replaces\n\n@replaces("uvm_pagezero")\ndef uvm_pagezero(pg):\n    {}\n'
    versions = [kernel_version()]
    for body in ("pass", "return  # a comment", "return"):
        with applied(read_patch(text.format(body), "patch.py")):
            versions.append(kernel_version())
    assert all(re.fullmatch("[0-9a-f]{8}", version) for version in versions)
    assert len(set(versions)) == 3 and versions[2] == versions[3] and kernel_version() == versions[0]


def test_a_token_says_whether_the_errata_were_off() -> None:
    """`replay TOKEN` must know, for the digest to fit."""
    assert parse(str(token_of(S3A.without_errata(), []))).fixed
    assert not parse(str(token_of(S3A, []))).fixed


def test_where_the_nodes_sit_changes_no_token() -> None:
    """A schedule found with everything in one process is followed by ten."""
    assert scenario("S3a", colocate="false").digest() == S3A.digest()


def test_comments_do_not_make_another_kernel_but_code_does() -> None:
    code = token_module._code
    assert code('"""A."""\nx = 1  # one\n') == code('"""B."""\n\nx = 1\n# two\n')
    assert code("x = 1\n") != code("x = 2\n")
    assert code('def f():\n    """A."""\n    return 1\n') == code("def f():\n    return 1\n")


#: imported by the engine, and of no say in what an operation number means: they judge a run or write it down, read a
#: file, are texts, or say what a racing exploration may leave out
NO_SAY = {
    "shared.patch",  # what it brings in is in the version
    "cluster.sim.judged",
    "shared.errors", "shared.findings", "shared.port.guards", "shared.scenario.keys", "shared.scenario.names",
    "shared.scenario.yaml", "shared.text", "shared.wire.codec", "shared.wire.frames", "shared.wire.images",
}  # fmt: skip
NO_SAY_PACKAGES = ("shared.detectors", "shared.errata", "shared.journal")
#: how operations are carried out: that their numbers stay as they are, tests/parity/digests.txt sees to
CARRIED_OUT = {
    "cluster.boot", "cluster.machine", "cluster.search.deviate", "cluster.search.strategy", "cluster.sim.engine",
    "cluster.sim.heap", "cluster.sim.schedule", "nodes.host.half", "shared.locks.order", "shared.port.heap",
    "shared.port.lockdebug", "shared.port.lockref", "shared.port.port", "shared.port.reports", "shared.port.struct",
    "shared.program.functions", "shared.scenario.machine", "shared.scenario.model", "shared.wire.tables",
}  # fmt: skip


def imports_of(modules: tuple[str, ...]) -> dict[str, Path]:
    """The modules of ours that these import when they run, directly or not."""
    root = Path(__file__).parents[2]
    paths: dict[str, Path] = {}

    def look(node: ast.AST) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and isinstance(child.test, ast.Name) and child.test.id == "TYPE_CHECKING":
                continue
            if isinstance(child, ast.Import):
                for name in child.names:
                    visit(name.name)
            elif isinstance(child, ast.ImportFrom) and child.module:
                visit(child.module)
                for name in child.names:
                    visit(f"{child.module}.{name.name}")
            look(child)

    def visit(name: str) -> None:
        path = root / name.replace(".", "/")
        file = path.with_suffix(".py") if path.with_suffix(".py").is_file() else path / "__init__.py"
        if name not in paths and file.is_file():
            paths[name] = file
            look(ast.parse(file.read_text(encoding="utf-8")))

    for alias in modules:
        visit(alias)
    return paths


def test_the_kernel_s_version_covers_all_that_the_engine_runs_but_for_what_has_no_say() -> None:
    """So nobody can add a module that decides about schedules, or drop it from the list, unnoticed."""
    used = imports_of(("cluster.sim.engine", "cluster.boot", "cluster.search.deviate"))
    left_out = {
        name for name, file in used.items() if file not in kernel_files() and token_module._code(file.read_text())
    }
    packages = {name for name in left_out if name.startswith(NO_SAY_PACKAGES)}
    assert left_out - packages == NO_SAY | CARRIED_OUT
    for engine in ("nodes.io", "shared.wire.messages", "shared.uvm.map"):
        assert used[engine] in kernel_files()


def test_every_file_that_the_kernel_s_version_covers_is_in_it() -> None:
    files = kernel_files()
    assert len(files) > 50 and version_of(files) == kernel_version()
    root = Path(__file__).parents[2]
    assert all((root / name).exists() for name in (*token_module.DECIDES, *token_module.APART))
    assert root / "nodes/mmu.py" in files and root / "nodes/host/half.py" not in files
    for file in files:
        if token_module._code(file.read_text()):
            assert version_of(other for other in files if other != file) != kernel_version(), file


def by_pythons_parser(source: str) -> str:
    """What `_code` does, by the parser and the tokenizer of Python, which take ten times as long."""
    lines = source.splitlines()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            first, last = node.body[0].lineno, node.body[0].end_lineno
            assert last is not None
            lines[first - 1 : last] = [""] * (last - first + 1)
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            line, column = token.start
            lines[line - 1] = lines[line - 1][:column]
    return "\n".join(stripped for line in lines if (stripped := line.rstrip()))


def test_the_code_of_the_kernel_is_as_pythons_parser_has_it() -> None:
    """Else a token of today would be one of another kernel."""
    for file in kernel_files():
        source = file.read_text(encoding="utf-8")
        assert token_module._code(source) == by_pythons_parser(source), file


#: sources, between lines of ===
UNUSUAL = r'''
x = '#'  # a sign
y = "\"#'"  # a sign
z = r"\#" + f"{x}#"  # f"
===
def f():  # why
    # and why

    r"""Doc
    # of two lines."""
    return {
        "a":
        "b"
    }
===
x: "Later"
y = {1:
"no doc"
}
f = lambda: "no doc"
===
# first

"""Doc."""
"no doc"
===
class A:
    "doc"
    x = 1
    "no doc"
    def f(self):
        b"no doc"
    def h(self):
        "no".join("doc")
===
x = ("a"  # one
     "b#", (2), [
# three
3])
===
x = "a\
#b"  # goes on
===
def f():
    """Doc without an end of the line."""'''


@pytest.mark.parametrize("source", UNUSUAL.split("===\n"))
def test_so_is_the_code_of_what_is_unusual(source: str) -> None:
    assert token_module._code(source) == by_pythons_parser(source)
