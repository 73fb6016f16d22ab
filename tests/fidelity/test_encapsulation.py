"""Who touches the fields of amaps and anons: as of January 1999 each has a module of its own (S12).

By the syntax tree of the kernel:

- the fields of an amap (am_*) are touched in amap.py and its part for per-page references alone; all others ask it;
- an anon's place on the free list (an_nxt, and the list's head and count) is touched in anon.py alone;
- an anon's other fields are its users', under its lock, as in UVM: the fault, the amap, paging, loans and swapoff.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

UVM = Path(__file__).parents[2] / "shared" / "uvm"
#: pattern of attribute names -> the modules that may touch them
RULES = {
    r"am_[a-z]+": {"amap.py", "amap_pp.py"},
    r"an_nxt": {"anon.py"},
    r"afree|nfreeanon": {"anon.py"},
}


def attributes(text: str) -> set[str]:
    """Names of all attributes that a module touches, by a dot or by getattr and setattr."""
    names = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Attribute):
            names.add(node.attr)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("getattr", "setattr"):
            names |= {arg.value for arg in node.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)}
    return names


def offenders(pattern: str) -> dict[str, set[str]]:
    """Module -> what it touches of these fields."""
    offenses = {}
    for path in UVM.glob("*.py"):
        names = {name for name in attributes(path.read_text("utf-8")) if re.fullmatch(pattern, name)}
        if names and path.name != "structs.py":
            offenses[path.name] = names
    return offenses


@pytest.mark.parametrize("pattern", RULES)
def test_a_structs_own_fields_are_touched_in_its_own_module_alone(pattern: str) -> None:
    offenders_ = offenders(pattern)
    assert {name: names for name, names in offenders_.items() if name not in RULES[pattern]} == {}
    assert offenders_, "the rule is about something"


def test_who_breaks_the_rule_is_seen() -> None:
    """By a dot, by assignment, and by name."""
    assert attributes("amap.am_ref += 1") == {"am_ref"}
    assert "am_nused" in attributes("setattr(entry.aref_amap, 'am_nused', 0)")
