"""The JSON Schema: it takes whatever the loader takes, refuses what has the wrong form, and is the one that is shipped."""

# ruff: noqa: E501 - one bad input, one line

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from jsonschema import Draft7Validator

from cluster.fuzz.generate import generate
from shared.errors import UserMistake
from shared.scenario.load import load_scenario
from shared.scenario.schema import MODELINE, schema
from shared.scenario.yaml import Value, parse
from tests.kit import CONFIGS, SHIPPED, uvmp
from tests.shared.test_scenario import GOOD

VALIDATOR = Draft7Validator(schema())


def plain(value: Value) -> Any:
    """A document as plain data."""
    if isinstance(value.data, dict):
        return {key: plain(datum) for key, datum in value.data.items()}
    return [plain(datum) for datum in value.data] if isinstance(value.data, list) else value.data


def valid(text: str) -> bool:
    return VALIDATOR.is_valid(plain(parse(text, "t.yaml")))


def test_it_is_a_schema() -> None:
    Draft7Validator.check_schema(schema())


def test_the_shipped_one_is_current() -> None:
    """Else: uvmp schema > configs/schema.json"""
    told = uvmp("schema").stdout
    assert (CONFIGS / "schema.json").read_text(encoding="utf-8") == told
    assert json.loads(told) == json.loads(json.dumps(schema())) == json.loads(uvmp("schema", "--json").stdout)


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_scenario_fits_and_names_it(name: str) -> None:
    text = (CONFIGS / "scenarios" / f"{name}.yaml").read_text(encoding="utf-8")
    assert list(VALIDATOR.iter_errors(plain(parse(text, name)))) == []
    assert text.startswith(f"{MODELINE}\n") and (CONFIGS / "scenarios" / MODELINE.partition("=")[2]).is_file()


def test_the_line_that_names_it_changes_no_scenario() -> None:
    """It is a comment: tokens stay good."""
    with_line, without = load_scenario(f"{MODELINE}\n{GOOD}", "t.yaml"), load_scenario(GOOD, "t.yaml")
    assert with_line.digest() == without.digest()
    assert [step.plain() | {"line": 0} for step in with_line.setup] == [
        step.plain() | {"line": 0} for step in without.setup
    ]


def test_random_programs_fit() -> None:
    for number in range(60):
        assert valid(generate(f"schema/{number}").text())


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("id: T1", "id: T 1"),
        ("id: T1\n", ""),
        ("title: A test", "titel: A test"),
        ("story: Two processes and a child.", "story: [a, b]"),
        ('source: ["nowhere"]', "source: []"),
        ("cpus: 2", "cpus: 199"),
        ("cpus: 2", "cpus: two"),
        ("cpus: 2, ", ""),
        ("swap_slots: 32, ", ""),
        ("page_size: 64", "page_size: 100"),
        ("page_size: 64", "pagesize: 64"),
        ("race: off", "race: on"),
        ("race: off", "rase: off"),
        ("  - process: {as: A, cpu: 0}\n", "  - process: {as: A}\n"),
        ("prot: rw", "prot: wr"),
        ("flags: [private, anon]", "flags: private"),
        ("{in: A, at: \"buf[0]\", value: 1}", "{at: \"buf[0]\"}"),
        ("- fill: {in: B, until_free: 7}", "- fil: {in: B, until_free: 7}"),
        ("- fill: {in: B, until_free: 7}", "- read: {at: \"buf[0]\"}"),
        ("at: \"buf[0]\", pages: 4, into: locked", "at: \"buf[0]+8\", pages: 4, into: locked"),
        ("at: \"buf[0]\", pages: 4, into: locked", "at: buf, pages: 4, into: locked"),
        ("at: \"buf[0]\", pages: 4, into: locked", "at: \"buf[0]\", pages: 0, into: locked"),
        ("into: r0", "into: r.0"),
        ("value: 0xffffffffffffffff", "value: -1"),
        ("- exit: {}", "- exit: {into: r}"),
        ("- exit: {}", "- exit: {}\n            wait: {for: E}"),
        ("- wait: {for: C}", "- wait: {fro: C}"),
        ("- barrier: {name: met}\n  B:", "- barrier: met\n  B:"),
        ("finding: none", "finding: nothing"),
        ("function: amap_cow_now", "function: amap cow"),
        ("subject: anon", "subject: annon"),
        ("any_of: [1, SIGSEGV]", "any_of: [1, SIGSEGF]"),
        ("any_of: [1, SIGSEGV]", "any_of: []"),
        ("strategy: pct", "strategy: pet"),
        ("schedules: 2000", "schedules: 0"),
        ("depth: 3", "depth: 99"),
    ],
)  # fmt: skip
def test_what_has_the_wrong_form_is_refused_by_schema_and_loader(old: str, new: str) -> None:
    assert valid(GOOD) and old in GOOD
    text = GOOD.replace(old, new, 1)
    with pytest.raises(UserMistake):
        load_scenario(text, "t.yaml")
    assert not valid(text)


#: a key of the machine -> a mapping under it whose keys the loader lists
NESTED = ("", "mmu", "swap", "kernel", "shards", "swap.devices[]", "swap.errors[]", "swap.delays[]", "disk_errors[]")


@pytest.mark.parametrize("path", NESTED)
def test_it_knows_the_keys_of_a_machine_that_the_loader_knows(path: str) -> None:
    inside, part = "{strange: 1}", schema()["definitions"]["machine"]  # type: ignore[index]
    for word in reversed(path.split(".") if path else []):
        inside = f"{{{word[:-2]}: [{inside}]}}" if word.endswith("[]") else f"{{{word}: {inside}}}"
    for word in path.split(".") if path else []:
        part = part["properties"][word.removesuffix("[]")]
        part = part["items"] if word.endswith("[]") else part
    machine = inside if not path else "{cpus: 2, frames: 16, swap_slots: 8, disk: 4, " + inside[1:]
    text = f"id: T\nmachine: {machine}\nsetup: [{{process: {{as: A, cpu: 0}}}}]\nprograms: {{A: []}}\n"
    with pytest.raises(UserMistake) as caught:
        load_scenario(text, "t.yaml")
    told = [mistake.message for mistake in (caught.value, *caught.value.others) if "'strange'" in mistake.message]
    known = re.search(r"known here: (.*)", told[0])
    assert known is not None
    assert set(known[1].split(", ")) == set(part["properties"])


@pytest.mark.parametrize("path", [path for path in NESTED if path])
def test_of_a_machine_s_keys_the_wrong_ones_are_refused(path: str) -> None:
    inside = "{strange: 1}"
    for word in reversed(path.split(".")):
        inside = f"{{{word[:-2]}: [{inside}]}}" if word.endswith("[]") else f"{{{word}: {inside}}}"
    assert not valid(GOOD.replace("page_size: 64}", f"page_size: 64, disk: 4, {inside[1:]}"))
    assert valid(GOOD.replace("page_size: 64}", "page_size: 64, disk: 4}"))
