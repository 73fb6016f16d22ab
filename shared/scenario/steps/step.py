"""The base of a step, and the registry of all steps.

    @step("unmap", "system calls", Where.SETUP | Where.PROGRAM, keys=(AT, PAGES))
    class Unmap(OfProcess):
        \"""Take pages out of the address space, as munmap(2).\"""

        at: int
        length: int

        def perform(self, call: Call) -> int | str: ...
        def effect(self, memory: Memory, proc: str) -> End | None: ...

The keys are those of a scenario's file; the fields have their values. The value of a key becomes a field of the same
name unless the kind of the key differs from that. The class's docstring describes the step; its section `Keys:`
explains keys whose kind alone does not say enough.

Rules: this module knows neither UVM nor the loader nor the oracle, so that all of them can import it.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from enum import Flag, auto
from keyword import iskeyword
from typing import TYPE_CHECKING, ClassVar, TypeVar, cast, dataclass_transform

if TYPE_CHECKING:
    from shared.detectors.effects import End, Memory
    from shared.scenario.names import Place
    from shared.scenario.yaml import Value
    from shared.uvm.structs import Proc

#: a field of a step, as journals and run folders have it
Plain = int | str | bool | list[int]
#: part of a JSON Schema
Schema = dict[str, object]


class Where(Flag):
    """The parts of a scenario's file that have steps."""

    SETUP = auto()
    PROGRAM = auto()
    INTERRUPT = auto()

    @property
    def title(self) -> str:
        """As messages name it."""
        return {Where.SETUP: "setup", Where.PROGRAM: "programs", Where.INTERRUPT: "interrupts"}[self]


#: the forms of a name, and of an address
NAME_FORM = r"[A-Za-z][A-Za-z0-9_]{0,15}"
ADDRESS_FORM = r"(?P<region>[A-Za-z][A-Za-z0-9_]*)\[(?P<page>[0-9]{1,6})\](?:\+(?P<byte>[0-9]{1,6}))?"
#: the key that gives a step's result a name, where the step has a result that matters
INTO: Schema = {"type": "string", "pattern": f"^{NAME_FORM}$", "description": "a name for the result"}
#: of steps, in the order of lists
FAMILIES = ("of tests", "system calls", "accesses", "files, shared memory", "page loans", "kernel steps")
EVERYWHERE = Where.SETUP | Where.PROGRAM | Where.INTERRUPT
BOTH = Where.SETUP | Where.PROGRAM


#: fields of a step, as its constructor wants them
Fields = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Kind:
    """The possible values of a key, and the fields that they give.

    Attributes:
        type: in words.
        schema: as JSON Schema.
        read: second pass: the fields that the value of this key gives. Raises UserMistake if the value is wrong.
        means: what a value means, for steps whose docstring does not say it.
        example: a value, as it can stand in a file.
        declare: first pass: take note of the name that this value makes.
        absent: the fields that come of a key which is not there.
    """

    type: str
    schema: Schema
    read: Callable[[str, Value, Place], Fields]
    means: str = ""
    example: str = ""
    declare: Callable[[Value, Place], None] | None = None
    absent: Callable[[Place], Fields] | None = None


@dataclass(frozen=True, slots=True)
class Key:
    """A key of a step.

    Attributes:
        optional: the step can do without.
        default: the value of the field if the key is not there; None: the kind says, or the field's own default.
        where: the parts of the file in which the step takes it.
    """

    name: str
    kind: Kind
    optional: bool = False
    default: Plain | None = None
    where: Where = EVERYWHERE


@dataclass(slots=True)
class Call:
    """On whose behalf a step is performed.

    Attributes:
        proc: the process; None: an interrupt, or setup without a process.
        procs: every process of the scenario by name.
        interrupt: an interrupt performs it: it must not wait.
        threads: process -> how many threads it will have.
    """

    proc: Proc | None
    procs: Mapping[str, Proc] = field(default_factory=dict)
    interrupt: bool = False
    threads: Mapping[str, int] = field(default_factory=dict)

    @property
    def me(self) -> Proc:
        """The process."""
        assert self.proc is not None
        return self.proc


class Refused(Exception):
    """A setup step cannot be done on this machine; it says why, and which key is to blame ("": none)."""

    def __init__(self, why: str, key: str = ""):
        super().__init__(why)
        self.why, self.key = why, key


@dataclass(frozen=True, slots=True, kw_only=True)
class Args:
    """A step with all that it needs, resolved: an address is a number of bytes, a name is what it stands for.

    A field whose name is a word of Python's has an underscore behind it (`as_`); it is None if the step has no such
    argument.

    Class attributes:
        op: the step's name.
        family: of steps, for lists.
        system_call: a thread enters the kernel for it by a system call. Else by a trap, or not at all.
        ends: nothing that follows in its program is reached.
    """

    op: ClassVar[str]
    family: ClassVar[str]
    where: ClassVar[Where]
    keys: ClassVar[tuple[Key, ...]]
    system_call: ClassVar[bool]
    ends: ClassVar[bool]

    @property
    def process(self) -> str:
        """The process that does this step of the setup; "": none."""
        return ""

    def perform(self, call: Call) -> int | str:
        """Do it. Returns: a value, 0, or the name of an errno or signal. Raises: Refused - a step of setup alone."""
        raise NotImplementedError

    def effect(self, memory: Memory, proc: str) -> End | None:
        """What the step does to the oracle's model of memory as it begins.

        Returns: what is to be called with its result when it ends; None: nothing.
        """
        raise NotImplementedError

    def setup_effect(self, memory: Memory) -> None:
        """The same for a step of the setup: nothing overlaps with it, and it has succeeded."""
        end = self.effect(memory, self.process)
        if end is not None:
            end(0)

    def foresee(self, memory: Memory) -> None:
        """Tell the oracle before the run what it cannot wait for."""

    def plain(self) -> dict[str, Plain]:
        """The fields as plain data, without those that are not there."""
        named = ((argument.name, getattr(self, argument.name)) for argument in fields(self))
        return {
            name.rstrip("_"): list(value) if isinstance(value, tuple) else value
            for name, value in named
            if value is not None
        }

    @classmethod
    def make(cls, data: Mapping[str, object]) -> Args:
        """The step with these fields; their names as in plain data."""
        made = {
            name + "_" if iskeyword(name) else name: tuple(value) if isinstance(value, list) else value
            for name, value in data.items()
        }
        return cast(Callable[..., Args], cls)(**made)

    @classmethod
    def check(cls, place: Place) -> None:
        """Do its keys fit together? Each is read on its own afterwards. Raises: UserMistake."""

    # -- what the table says of it -------------------------------------------------

    @classmethod
    def takes(cls, where: Where) -> tuple[list[str], list[str]]:
        """Names of the required and of the optional keys, in one part of the file."""
        here = [key for key in cls.keys if where in key.where]
        return [key.name for key in here if not key.optional], [key.name for key in here if key.optional]

    @classmethod
    def answers(cls, where: Where) -> bool:
        """Can its result be given a name there, with `into`?"""
        return where is not Where.SETUP and not cls.ends

    @classmethod
    def says(cls) -> str:
        """What it does: the docstring without the meanings of the keys; each paragraph a line."""
        return "\n".join(" ".join(paragraph.split()) for paragraph in _documented(cls)[0].split("\n\n"))

    @classmethod
    def example(cls) -> str:
        """The step as it can stand in a file, in a program if it can, with the keys that it needs."""
        where = Where.PROGRAM if Where.PROGRAM in cls.where else Where.SETUP
        required, _ = cls.takes(where)
        keys = [f"{key.name}: {key.kind.example}" for key in cls.keys if key.name in required]
        return f"{cls.op}: {{{', '.join(keys)}}}"

    @classmethod
    def schema(cls, where: Where) -> Schema:
        """Its mapping of keys as JSON Schema."""
        required, optional = cls.takes(where)
        known = {key.name: {**key.kind.schema, "description": cls.meaning(key)} for key in cls.keys}
        properties = {name: known[name] for name in (*required, *optional)}
        if cls.answers(where):
            properties["into"] = INTO
        schema: Schema = {"description": cls.says(), "type": "object", "properties": properties}
        return {**schema, "required": required, "additionalProperties": False}

    @classmethod
    def meaning(cls, key: Key) -> str:
        """What a value of this key means."""
        return _documented(cls)[1].get(key.name) or key.kind.means


def leaves_memory_alone(self: Args, memory: Memory, proc: str) -> None:
    """The effect() of a step that changes neither what is mapped nor what it holds."""


#: every step, by its name; complete once shared/scenario/steps/table.py is imported
STEPS: dict[str, type[Args]] = {}

C = TypeVar("C", bound=Args)


@dataclass_transform(kw_only_default=True, frozen_default=True)
def step(
    op: str, family: str, where: Where, keys: tuple[Key, ...] = (), *, system_call: bool = True, ends: bool = False
) -> Callable[[type[C]], type[C]]:
    """Register a step.

    Raises: TypeError - something is missing of it, or it is there already.
    """

    def register(plain: type[C]) -> type[C]:
        says, meanings = _documented(plain)
        made = dataclass(frozen=True, slots=True, kw_only=True)(plain)  # has a docstring in any case
        made.op, made.family, made.where, made.keys = op, family, where, keys
        made.system_call, made.ends = system_call, ends
        if op in STEPS:
            raise TypeError(f"there is a step {op} already")
        if family not in FAMILIES:
            raise TypeError(f"step {op}: there is no family {family}")
        for method in ("perform", "effect"):
            if getattr(made, method) is getattr(Args, method):
                raise TypeError(f"step {op} has no {method}()")
        silent = [key.name for key in keys if not (meanings.get(key.name) or key.kind.means)]
        strange = [name for name in meanings if name not in [key.name for key in keys]]
        if not says or silent or strange:
            raise TypeError(f"step {op}: its docstring must say what it does, and what {silent or strange} means")
        STEPS[op] = made
        return made

    return register


def steps_of(where: Where) -> list[str]:
    """Names of the steps that are allowed in one part of the file, family by family."""
    return [op for family in FAMILIES for op, kind in STEPS.items() if kind.family == family and where in kind.where]


def _documented(kind: type[Args]) -> tuple[str, dict[str, str]]:
    """What a step's docstring says of it, and of its keys."""
    text, _, section = inspect.cleandoc(kind.__doc__ or "").partition("\nKeys:\n")
    meanings = re.findall(r"^ {4}(\w+): (.*(?:\n {5,}.*)*)", section, re.MULTILINE)
    return text.strip(), {name: " ".join(meaning.split()) for name, meaning in meanings}
