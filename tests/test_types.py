"""Few names are typed `Any`: what has no better type has an alias that says what it is, as `Record` and `Value` do.

No function has more than six parameters: what belongs together is one value, a NamedTuple or a dataclass.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
#: names typed Any, and parameters of a function, at most
MOST, PARAMETERS = 100, 6
#: functions here have as many parameters as those of UVM
AS_IN_C = ROOT / "shared/uvm"


def is_any(annotation: ast.expr | None) -> bool:
    """Does a type have Any in it?"""
    parts = [] if annotation is None else list(ast.walk(annotation))
    return any(isinstance(part, ast.Name) and part.id == "Any" for part in parts)


def names(text: str) -> Iterator[str]:
    """The parameters, functions and variables of a module whose types have Any in them, and aliases of such types."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            args = node.args
            given = [*args.posonlyargs, *args.args, *args.kwonlyargs, args.vararg, args.kwarg]
            yield from (arg.arg for arg in given if arg is not None and is_any(arg.annotation))
            if is_any(node.returns):
                yield node.name
        elif isinstance(node, (ast.AnnAssign, ast.Assign)):
            target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
            if is_any(node.annotation if isinstance(node, ast.AnnAssign) else node.value):
                yield ast.unparse(target)


def test_few_names_are_typed_any() -> None:
    files = [path for folder in ("cluster", "nodes", "shared") for path in (ROOT / folder).rglob("*.py")]
    assert len(files) > 250
    typed = [f"{path.relative_to(ROOT)}: {name}" for path in files for name in names(path.read_text("utf-8"))]
    assert len(typed) <= MOST, "\n".join(typed)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("def f(a: Any, *b: int, **c: list[Any]) -> Any: ...", ["a", "c", "f"]),
        ("x: dict[str, Any] = {}\ny: int = 1", ["x"]),
        ("Body = Any\nother = int", ["Body"]),
        ("def f(a: object) -> None: ...", []),
    ],
)
def test_names_typed_any_are_seen(text: str, expected: list[str]) -> None:
    assert list(names(text)) == expected


def long(text: str) -> Iterator[str]:
    """The functions of a module that have more parameters than they may; `self` and `cls` do not count."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            args = node.args
            given = [arg.arg for arg in (*args.posonlyargs, *args.args, *args.kwonlyargs)]
            if len(given) - (given[:1] in (["self"], ["cls"])) > PARAMETERS:
                yield node.name


def test_no_function_has_more_than_six_parameters() -> None:
    """Without exceptions outside the kernel: a `noqa` does not help here."""
    files = [path for folder in ("cluster", "nodes", "shared", "tests") for path in (ROOT / folder).rglob("*.py")]
    assert len(files) > 350
    outside = [path for path in files if not path.is_relative_to(AS_IN_C)]
    assert 0 < len(files) - len(outside) < 50
    assert [f"{path.relative_to(ROOT)}: {name}" for path in outside for name in long(path.read_text("utf-8"))] == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("def f(a, b, c, d, e, g): ...", []),
        ("def f(a, b, /, c, d, *, e, g, h=1): ...", ["f"]),
        ("class A:\n    def f(self, a, b, c, d, e, g): ...\n    def h(self, a, b, c, d, e, g, i): ...", ["h"]),
    ],
)
def test_functions_with_many_parameters_are_seen(text: str, expected: list[str]) -> None:
    assert list(long(text)) == expected
