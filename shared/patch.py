"""A patch: a file of the user that replaces functions of the kernel or the nodes, or declares errata.

    from shared.patch import declares, original, replaces
    from shared.port.port import erratum

    declares("uvm_pageactivate.forgets", "uvm_pageactivate() forgets every page.")

    @replaces("uvm_pageactivate")
    def uvm_pageactivate(pg):
        if not erratum("uvm_pageactivate.forgets"):
            original("uvm_pageactivate")(pg)

A patch can replace every function marked `@kernel`, by its name, and every operation of a node, for instance
"Mmu.op_pmap_enter". Every caller sees the replacement, from wherever it imported the function. A patch is a program,
and runs with the user's rights. Only the user names a patch. Its code is part of the kernel's version, so a token is of
that patch alone. A run folder has its source as a text to read (patch.py.txt), which no command executes: a folder may
come from anybody. To replay the folder, the user gives `--patch FILE` again; the versions of the kernel must be equal.

Left out: functions without `@kernel`, because callers reach them directly; struct fields; several patches at once.
"""

from __future__ import annotations

import difflib
import hashlib
import inspect
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from shared.errors import UserMistake

Function = Callable[..., Any]
F = TypeVar("F", bound=Function)

#: name of what can be replaced -> puts another function in its place, and returns the previous function
SEAMS: dict[str, Callable[[Function], Function]] = {}


class Seam:
    """A place at which a function stands that can be replaced.

    Attributes:
        own: the function that belongs there.
        stands: the function that is there.
        replaced: it is another function.
    """

    __slots__ = ("own", "replaced", "stands")

    def __init__(self, own: Function):
        self.own = self.stands = own
        self.replaced = False

    def put(self, other: Function) -> Function:
        """Put another function there. Returns: the previous function."""
        before, self.stands = self.stands, other
        self.replaced = other is not self.own
        return before


@dataclass(frozen=True)
class Patch:
    """A patch as it was read.

    Attributes:
        file: its name, as messages show it.
        source: its text.
        replaced: name in SEAMS -> the function in its place.
        declared: id of an erratum -> the defect in one sentence.
        before: name in SEAMS -> the function that it had, while the patch is applied.
    """

    file: str
    source: str
    replaced: dict[str, Function] = field(default_factory=dict)
    declared: dict[str, str] = field(default_factory=dict)
    before: dict[str, Function] = field(default_factory=dict)

    @property
    def sum(self) -> str:
        """SHA-256 of its text."""
        return hashlib.sha256(self.source.encode()).hexdigest()

    @property
    def about(self) -> dict[str, str]:
        """What names it, for documents."""
        return {"file": self.file, "sha256": self.sum}

    @property
    def words(self) -> str:
        """What it does, in a few words."""
        parts = [f"replaces {', '.join(self.replaced)}"] * bool(self.replaced)
        parts += [f"declares {', '.join(self.declared)}"] * bool(self.declared)
        return f"{self.file} {' and '.join(parts)}"


class _Here:
    """The patch that is being read, and the patch that is applied, in this process."""

    reading: Patch | None = None
    applied: Patch | None = None


_here = _Here()


def current() -> Patch | None:
    """The patch that is applied in this process, if there is one."""
    return _here.applied


# -- what a patch's file says ----------------------------------------------------------


def replaces(name: str) -> Callable[[F], F]:
    """Replace the kernel function or node operation `name` by the decorated function.

    Raises: UserMistake - there is no such function, it takes other arguments, or it is replaced twice.
    """
    patch = _reading()

    def mark(function: F) -> F:
        if name not in SEAMS:
            near = difflib.get_close_matches(name, SEAMS, n=3, cutoff=0.5)
            hint = f"; did you mean {' or '.join(near)}?" if near else ""
            if "." in name:
                form = "the name of its class and of its method, for instance 'Mmu.op_pmap_enter'"
                raise UserMistake(f"there is no operation {name!r} of a node; expected {form}{hint}")
            raise UserMistake(f"there is no function {name!r} marked @kernel, and only these can be replaced{hint}")
        if name in patch.replaced:
            raise UserMistake(f"{name} is replaced twice")
        theirs, ours = _parameters(_now(name)), _parameters(function)
        if theirs != ours:
            raise UserMistake(f"{name} takes ({', '.join(theirs)}); its replacement takes ({', '.join(ours)})")
        patch.replaced[name] = function
        return function

    return mark


def declares(name: str, sentence: str) -> None:
    """Declare an erratum: a defect that `erratum(name)` asks for and `--errata NAME` switches on.

    Args:
        name: its id, as "function.what-it-does".
        sentence: the defect in one sentence.

    Raises: UserMistake - the id has another form, or exists; the sentence is empty.
    """
    from shared.errata import ERRATA

    patch = _reading()
    function, dot, what = name.partition(".")
    if not (dot and function.isidentifier() and what and set(what) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")):
        raise UserMistake(f"expected the id of an erratum, function.what-it-does; found {name!r}")
    if name in ERRATA or name in patch.declared:
        raise UserMistake(f"erratum {name} exists already")
    if not sentence.strip():
        raise UserMistake(f"expected the defect of {name} in one sentence; found {sentence!r}")
    patch.declared[name] = sentence


def original(name: str) -> Function:
    """The function that a patch has replaced, for use inside the replacement."""
    patch = _here.applied
    if patch is None or name not in patch.before:
        raise UserMistake(f"{name} is not replaced, so it has no original")
    return patch.before[name]


def _reading() -> Patch:
    if _here.reading is None:
        raise UserMistake("this file is a patch; give it to --patch")
    return _here.reading


def _now(name: str) -> Function:
    """The function that stands under this name."""
    put = SEAMS[name]
    function = put(lambda: None)
    put(function)
    return function


def _parameters(function: Function) -> list[str]:
    return list(inspect.signature(function).parameters)


# -- what uvmp does with it ---------------------------------------------------------------


def read(source: str, file: str) -> Patch:
    """Run a patch's file, and see what it says. Nothing is replaced yet.

    Args:
        source: the file's text.
        file: its name, for messages.

    Raises: UserMistake - it cannot be run, says nothing, or says what cannot be; with the line.
    """
    patch = Patch(file, source)
    _here.reading = patch
    try:
        exec(compile(source, file, "exec"), {"__name__": "uvmp_patch", "__file__": file})
    except SyntaxError as wrong:
        raise UserMistake(f"is not valid Python: {wrong.msg}", file=file, line=wrong.lineno) from None
    except UserMistake as wrong:
        raise UserMistake(wrong.message, file=file, line=line_in(file, wrong)) from None
    except Exception as wrong:
        text = f"{type(wrong).__name__}: {wrong}"
        raise UserMistake(f"cannot be run: {text[:200]}", file=file, line=line_in(file, wrong)) from None
    finally:
        _here.reading = None
    if not patch.replaced and not patch.declared:
        raise UserMistake("replaces no function and declares no erratum", file=file, line=1)
    return patch


def line_in(file: str, error: BaseException) -> int | None:
    """The innermost line of a file that an error came through; None: it did not."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    return lines[-1] if lines else None


def blamed(error: BaseException) -> BaseException:
    """An error of a context: the patch's own if it came through its file, with the line; else as it is."""
    patch = _here.applied
    line = None if patch is None else line_in(patch.file, error)
    if patch is None or line is None:
        return error
    return UserMistake(f"{type(error).__name__}: {error}"[:300], file=patch.file, line=line)


@contextmanager
def applied(patch: Patch | None) -> Iterator[None]:
    """With the patch in place, in this process; None: as it is."""
    if patch is None:
        yield
        return
    install(patch)
    try:
        yield
    finally:
        remove()


def install(patch: Patch) -> None:
    """Put the patch in place. One at a time."""
    from shared.errata import ERRATA
    from shared.errata.erratum import Erratum, Status

    assert _here.applied is None, "only one patch can be applied at a time"
    for name, function in patch.replaced.items():
        patch.before[name] = SEAMS[name](function)
    for name, sentence in patch.declared.items():
        ERRATA[name] = Erratum(name, name, sentence, Status.HYPOTHETICAL, (patch.file,), sentence)
    _here.applied = patch


def switch(sent: tuple[str, str] | None) -> None:
    """From now on this process has this patch, or none.

    Args:
        sent: its file's name and text.
    """
    now = _here.applied
    if now is not None and (now.file, now.source) == sent:
        return
    if now is not None:
        remove()
    if sent is not None:
        install(read(sent[1], sent[0]))


def remove() -> None:
    """Take the patch out again."""
    from shared.errata import ERRATA

    patch = _here.applied
    assert patch is not None
    _here.applied = None
    for name, function in patch.before.items():
        SEAMS[name](function)
    patch.before.clear()
    for name in patch.declared:
        del ERRATA[name]
