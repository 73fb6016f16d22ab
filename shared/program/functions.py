"""Programs that are Python functions of the user instead of steps of a scenario (cluster/api.py).

A *reference*, "module:name", names a function, so that the name can travel to actors. A process performs only functions
that it was given (`register`), or that its driver told it to import (`import_all`). A file never causes an import.

    setup     runs once; its operations have no numbers
    threads   thread -> its function
    check     checks the structs when every thread has ended; an assertion that fails there is a finding
"""

from __future__ import annotations

import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from shared.errors import UserMistake
from shared.findings import Finding
from shared.port.heap import Heap
from shared.port.port import Port, here
from shared.port.struct import FieldBase, Struct

Function = Callable[[], None]

#: reference -> function, of this process
_KNOWN: dict[str, Function] = {}
KIND = "assertion"


@dataclass(frozen=True, slots=True)
class Functions:
    """The functions of one program, by reference.

    Attributes:
        threads: (thread, reference) of each thread.
        sum: of their source; part of the scenario's digest.
        path: folder from which their modules are imported.
    """

    setup: str
    threads: tuple[tuple[str, str], ...]
    check: str | None
    sum: str
    path: str

    def references(self) -> list[str]:
        """Every reference, each once."""
        named = [self.setup, *(reference for _, reference in self.threads), *([self.check] if self.check else [])]
        return list(dict.fromkeys(named))


def register(functions: Iterable[Function]) -> dict[Function, str]:
    """Let this process perform the functions of one program.

    Returns: the reference of each function. Functions with the same name are numbered.
    """
    references: dict[Function, str] = {}
    taken: Counter[str] = Counter()
    for function in dict.fromkeys(functions):
        name = f"{function.__module__}:{function.__qualname__}"
        taken[name] += 1
        references[function] = name if taken[name] == 1 else f"{name}#{taken[name]}"
        _KNOWN[references[function]] = function
    return references


def resolve(reference: str) -> Function:
    """The function of a reference.

    Raises: UserMistake - this process was not given it.
    """
    if reference not in _KNOWN:
        raise UserMistake(
            f"{reference} is a function of a program of yours: replay it from Python (cluster.api.replay)"
        )
    return _KNOWN[reference]


def must_be_importable(functions: Iterable[Function]) -> None:
    """Refuse functions that another process cannot import by module and name.

    Raises: UserMistake - names the first such function, its file and its line.
    """
    for function in functions:
        module = sys.modules.get(function.__module__)
        known = module is not None and module.__name__ != "__main__" and module.__spec__ is not None
        if known and getattr(module, function.__qualname__, None) is function:
            continue
        code = function.__code__
        raise UserMistake(
            f"{function.__qualname__} of {function.__module__} cannot be imported in another process, to which module "
            "and name travel: put it at the top level of a module other than __main__",
            file=code.co_filename, line=code.co_firstlineno,
        )  # fmt: skip


def import_all(functions: Functions) -> None:
    """Import what an actor is to perform, from where the driver has it.

    Raises: UserMistake - a function cannot be imported by its name.
    """
    if functions.path and functions.path not in sys.path:
        sys.path.append(functions.path)
    for reference in functions.references():
        if reference in _KNOWN:
            continue
        module, _, name = reference.partition(":")
        try:
            function = getattr(import_module(module), name)
        except (ImportError, AttributeError) as wrong:
            raise UserMistake(f"{reference} cannot be imported in another process ({wrong})") from None
        _KNOWN[reference] = function


def run_check(reference: str, heap: Heap) -> Finding | None:
    """What a program's check says of the structs at rest.

    Args:
        heap: every struct's record.
    """
    function = resolve(reference)
    try:
        with here.installed(_AtRest(heap)):
            function()
    except AssertionError as wrong:
        return Finding(KIND, words_of(function, wrong), function=function.__name__)
    return None


def words_of(function: Function, wrong: AssertionError) -> str:
    """An assertion's own words, or the line that it stands in."""
    frame = traceback.extract_tb(wrong.__traceback__)[-1]
    return f"{function.__name__}: {wrong}" if str(wrong) else f"{function.__name__}: {frame.line}"


def _refusing(name: str) -> Callable[..., Any]:
    def refuse(*args: object, **named: object) -> Any:
        raise UserMistake(f"a check may read structs, and no more ({name})")

    return refuse


#: a port all of whose methods refuse
_Refusing: Any = type(
    "_Refusing",
    (Port,),
    {name: _refusing(name) for name in dir(Port) if not name.startswith("__") and callable(getattr(Port, name))},
)


class _AtRest(_Refusing):  # type: ignore[misc]
    """Instead of a port: reads of structs, and nothing else."""

    def __init__(self, heap: Heap):
        super().__init__(frozenset(), {}, 0)
        self.heap = heap

    def load(self, obj: Struct, field: FieldBase, slot: int) -> object:
        record = self.heap.get(obj.id)
        assert record is not None, f"{obj} does not exist"
        return record[slot]
