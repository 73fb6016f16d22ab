"""From the sources to what mypyc compiles: a copy of them, with what mypyc cannot see through written out.

mypyc compiles a typed attribute to a place in a C struct, and a call of a function that it knows to a C call. It knows
nothing of descriptors and decorators. So in the copy

    accessors   the fields, locks and counters of a struct are properties, made from its declarations;
    calls       a function marked `@kernel` has its name for a wrapper that does what the decorator does;
    here        `here.port` is a property that gives a port of this thread;
    open        a class of which interpreted code has subclasses says so;
    constants   what a module binds once, at its top, is Final: it cannot be bound again, and needs no look-up;
    quoted      annotations in the bodies of classes are texts, as `from __future__ import annotations` makes them;
    records     a dataclass or a NamedTuple that is made all the time is a plain class with its `__init__` written out;
    wide        a field that is read again into an annotated variable has its declared type again: mypy believes that it
                is still what it was when it was tested, but another context may have changed it.

Nothing else is changed, and no line of a function is moved but by accessors: a traceback shows the source's own lines.

Left out: what is compiled (modules.py), and compiling it (build.py).
"""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Iterable, Iterator
from pathlib import Path

#: classes of which interpreted code has subclasses: users' programs, hosts of live machines, tests
OPEN = {
    "shared/port/struct.py": ("Struct", "Array", "Guard"),
    "shared/port/reports.py": ("Reports",),
    "shared/port/lockdebug.py": ("Lockdebug",),
    "shared/port/port.py": ("Port", "Context"),
    "shared/locks/table.py": ("LockTable",),
    "nodes/node.py": ("Node",),
    "nodes/memory.py": ("Memory",),
    "shared/detectors/race.py": ("RaceDetector",),
    "cluster/search/strategy.py": ("Strategy", "Sampling", "Stay", "Systematic"),
    "cluster/search/systematic.py": ("Stepwise",),
    "cluster/search/rff.py": ("Rff",),
    "cluster/search/walk.py": ("RandomWalk",),
    "cluster/search/pct.py": ("Pct",),
    "cluster/search/pos.py": ("Pos",),
    "cluster/search/surw.py": ("Surw",),
    "cluster/search/dpor.py": ("Optimal",),
    "cluster/search/readsfrom.py": ("ReadsFrom",),
    "cluster/search/deviate.py": ("Deviate",),
    "cluster/search/follow.py": ("Order",),
    "nodes/host/half.py": ("ProcessorPort",),
}
#: small objects that are made all the time: the last that was given up is used again. A dataclass or a NamedTuple among
#: them is a plain class in the copy: nothing may compare or unpack it. (They are not `acyclic`: Held leads to itself by
#: way of a struct's owner, and mypyc's code for giving up an acyclic object deep inside others is wrong.)
REUSED = {
    "shared/port/port.py": ("Held",),
    "shared/locks/table.py": ("Claim",),
    "shared/uvm/amap.py": ("Aref",),
    "shared/uvm/fault.py": ("Fault",),
    "shared/uvm/fault_i.py": ("UvmFaultinfo",),
    "nodes/io.py": ("Request",),
    "shared/detectors/race.py": ("Past", "Access", "Where"),
}
#: the roots of all structs, which have no fields
ROOTS = ("Struct", "Array")
#: declarations in a struct's body, by what they call
FIELDS, LOCKS, STATS = ("field", "link", "union"), ("simplelock", "lockmgr"), ("stat",)
#: what is called to make a type
MAKES_TYPES = ("TypeVar", "ParamSpec", "NewType", "namedtuple")
#: names that the copy adds to a module
FIELD, ELEMENT, BODY, SEAM = "f_{}_{}", "e_{}", "{}__body", "{}__seam"

#: of an array: as in class Array, but that the element is known
ELEMENTS = """\
def __getitem__(self, i: int) -> Any:
    return here.port.load(self, {0}, {0}.slot + (i if i >= 0 else FAR + i))
def __setitem__(self, i: int, value: object) -> None:
    here.port.store(self, {0}, {0}.slot + (i if i >= 0 else FAR + i), value)
"""
#: of struct.py: a class of mypyc's has no `__set__`, so that a struct of a program, which stays as Python has it, gets
#: properties made of these methods
ACCESS = {
    "Field": """
    def fetch(self, obj: Struct) -> Any:
        return here.port.load(obj, self, self.slot)

    def assign(self, obj: Struct, value: Any) -> None:
        here.port.store(obj, self, self.slot, value)
""",
    "Stat": """
    def fetch(self, obj: Struct) -> int:
        return self.count()

    def assign(self, obj: Struct, value: int) -> None:
        self.put(value)
""",
}
AS_PROPERTIES = """\
        for key, value in members.items():
            if isinstance(value, Lock):
                setattr(cls, key, property(value.of))
            elif isinstance(value, (Field, Stat)):
                setattr(cls, key, property(value.fetch, value.assign))
"""

#: what the written lines need
WRITTEN = ["from typing import Any, Final, cast", "from shared.port.port import here"]

HERE = '''
    alone: Port | None = None

    @property
    def port(self) -> Port:
        """The port of the calling thread."""
        return self._of_several() if self.alone is None else self.alone

    def _of_several(self) -> Port:
        if get_ident() not in self._installed:
            raise AttributeError("no port is installed")
        return self.of_thread()

    def _choose(self) -> None:
        self.alone = None
        if len(self._installed) == 1:
            for ports in self._installed.values():
                self.alone = ports[-1]
'''


class Edits:
    """Changes of a text at the places of nodes of its syntax tree.

    Args:
        text: the module's.
    """

    def __init__(self, text: str):
        self.bytes = text.encode()
        self.tree = ast.parse(text)
        self.starts = [0]
        for line in self.bytes.splitlines(keepends=True):
            self.starts.append(self.starts[-1] + len(line))
        self.changes: list[tuple[int, int, str]] = []

    def span(self, node: ast.stmt | ast.expr) -> tuple[int, int]:
        assert node.end_lineno is not None and node.end_col_offset is not None
        return (self.starts[node.lineno - 1] + node.col_offset, self.starts[node.end_lineno - 1] + node.end_col_offset)

    def source(self, node: ast.stmt | ast.expr) -> str:
        """The node's text, on one line."""
        first, last = self.span(node)
        return " ".join(self.bytes[first:last].decode().split())

    def replace(self, node: ast.stmt | ast.expr, text: str) -> None:
        """Replace a node by a text, and keep the number of its lines."""
        first, last = self.span(node)
        lines = self.bytes[first:last].count(b"\n") - text.count("\n")
        self.changes.append((first, last, text + " \\\n" * lines if lines > 0 else text))

    def drop(self, node: ast.stmt) -> None:
        """Take a statement out, and keep its lines."""
        first, last = self.span(node)
        self.changes.append((first, last, "pass" + "\n" * self.bytes[first:last].count(b"\n")))

    def before(self, node: ast.stmt, text: str) -> None:
        """Put lines in front of a statement and its decorators."""
        decorators = getattr(node, "decorator_list", [])
        at = self.starts[min([node.lineno, *(decorator.lineno for decorator in decorators)]) - 1]
        self.changes.append((at, at, text))

    def above(self, node: ast.ClassDef, text: str) -> None:
        """Put a line into the empty line above a class and its decorators."""
        self._fill(min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)]) - 1, text)

    def below(self, node: ast.ClassDef, text: str) -> None:
        """Put a line into the empty line below a class."""
        assert node.end_lineno is not None
        self._fill(node.end_lineno + 1, text)

    def _fill(self, line: int, text: str) -> None:
        at = self.starts[line - 1]
        assert self.bytes[at : self.starts[line]] == b"\n"
        self.changes.append((at, at, text))

    def behind(self, node: ast.stmt, text: str) -> None:
        """Put lines behind a statement."""
        assert node.end_lineno is not None
        at = self.starts[node.end_lineno]
        self.changes.append((at, at, text))

    def text(self) -> str:
        """The text with all changes."""
        text = self.bytes
        for first, last, new in sorted(self.changes, key=lambda change: change[:2], reverse=True):
            text = text[:first] + new.encode() + text[last:]
        return text.decode()


class Stage:
    """The transformation of one set of modules.

    Attributes:
        structs: the structs met so far: name -> the names of their members, and each one's declaration.
    """

    def __init__(self) -> None:
        self.structs: dict[str, dict[str, ast.Assign | ast.AnnAssign]] = {name: {} for name in ROOTS}
        self.arrays: set[str] = {"Array"}

    def module(self, name: str, text: str) -> str:
        """A module's text as it is compiled.

        Args:
            name: its file's, as shared/uvm/page.py.
        """
        edits = Edits(text)
        imports: list[str] = []
        tail: list[str] = []
        if _constants(edits):
            imports.append("from typing import Final")
        for node in edits.tree.body:
            if isinstance(node, ast.ClassDef):
                if node.name in OPEN.get(name, ()):
                    edits.above(node, "@mypyc_attr(allow_interpreted_subclasses=True)")
                    imports.append("from mypy_extensions import mypyc_attr")
                elif node.name in REUSED.get(name, ()):
                    _record(edits, node)
                    edits.above(node, "@mypyc_attr(free_list_len=1)")
                    imports.append("from mypy_extensions import mypyc_attr")
                if any(isinstance(base, ast.Name) and base.id in self.structs for base in node.bases):
                    self._struct(edits, node)
                    imports += [*WRITTEN, "from shared.port.lockref import LockRef"]
                    if name != "shared/port/struct.py":
                        imports.append("from shared.port.struct import FAR, FieldBase")
                elif node.name == "_Here" and name == "shared/port/port.py":
                    _here(edits, node)
                else:
                    _quoted(edits, node)
                if node.name in ROOTS:
                    _keywords(edits, node)
                if name == "shared/port/struct.py" and node.name in ACCESS:
                    edits.behind(node, ACCESS[node.name])
            elif isinstance(node, ast.FunctionDef) and _kernel(node):
                assert len(node.decorator_list) == 1, f"{name}: {node.name} has another decorator"
                tail.append(_wrapper(edits, node, seam=name.startswith("shared/uvm/")))
                imports += [*WRITTEN, "from shared.patch import SEAMS, Seam"]
        _wide(edits)
        if name == "shared/port/port.py":
            imports = [line for line in imports if "port.port" not in line]
        if imports:
            at = edits.span(_future(edits.tree))[1]
            edits.changes.append((at, at, "".join(f"; {line}" for line in dict.fromkeys(imports))))
        wrapped = {node.name for node in edits.tree.body if isinstance(node, ast.FunctionDef) and _kernel(node)}
        for statement in edits.tree.body:  # what uses a wrapper as the module is loaded comes behind it
            if isinstance(statement, (ast.Expr, ast.Assign)) and wrapped & _names(statement):
                tail.append(edits.source(statement) + "\n")
                edits.drop(statement)
        return edits.text() + "".join(tail)

    # -- structs -------------------------------------------------------------------

    def _struct(self, edits: Edits, node: ast.ClassDef) -> None:
        """Accessors instead of a struct's declarations, and what its class keywords say said by a call."""
        name = node.name
        base = next(parent.id for parent in node.bases if isinstance(parent, ast.Name) and parent.id in self.structs)
        if base in self.arrays:
            self.arrays.add(name)
        keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        own = dict(_members(node))
        inherited = {key: decl for key, decl in self.structs[base].items() if key not in own}
        locks = {key: decl for key, decl in inherited.items() if _calls(decl.value, LOCKS)}
        members = self.structs[name] = {**own, **locks, **inherited}

        head, body, types = [], [], {}
        for key, decl in members.items():
            constant = FIELD.format(name, key)
            value = decl.value
            assert isinstance(value, ast.Call)
            if _calls(value, FIELDS):
                assert isinstance(decl, ast.AnnAssign) and isinstance(decl.annotation, ast.Subscript)
                type_ = types[key] = ast.unparse(decl.annotation.slice)
                head.append(f"{constant}: Final[Field[{type_}]] = {ast.unparse(value)}\n")
                loaded = f"here.port.load(self, {constant}, {constant}.slot)"
                body += [
                    "@property", f"def {key}(self) -> {type_}:",
                    f"    return {loaded}" if type_ == "Any" else f"    return cast({type_!r}, {loaded})",
                    f"@{key}.setter", f"def {key}(self, value: {type_}) -> None:",
                    f"    here.port.store(self, {constant}, {constant}.slot, value)",
                ]  # fmt: skip
            elif _calls(value, LOCKS):
                head.append(f"{constant}: Final = {ast.unparse(value)}\n")
                body += ["@property", f"def {key}(self) -> LockRef:", f"    return {constant}.of(self)"]
            else:
                head.append(f"{constant}: Final = {ast.unparse(value)}\n")
                body += [
                    "@property", f"def {key}(self) -> int:", f"    return {constant}.count()",
                    f"@{key}.setter", f"def {key}(self, value: int) -> None:", f"    {constant}.put(value)",
                ]  # fmt: skip
        for decl in own.values():
            edits.drop(decl)
        others = [part for part in node.body if isinstance(part, ast.Assign) and part not in own.values()]
        others = [part for part in others if ast.unparse(part.targets[0]) != "__slots__"]
        tail = [f"{name}.{edits.source(statement)}\n" for statement in others]
        for statement in others:
            edits.drop(statement)
        named = ", ".join(f"{key!r}: {FIELD.format(name, key)}" for key in members)
        tail.append(
            f"{name}.declare({keywords['kind']}, {keywords.get('name', repr(name.lower()))}, "
            f"{keywords.get('element')}, {{{named}}}, {types!r})\n"
        )
        if "element" in keywords:
            tail.append(f"{ELEMENT.format(name)}: Final = cast('FieldBase', {name}.element)\n")
            body += ELEMENTS.format(ELEMENT.format(name)).splitlines()
        _no_keywords(edits, node)
        edits.before(node, "".join(head))
        inside = textwrap.indent("\n".join(body) + "\n", "    ") if body else ""
        edits.behind(node, inside + "".join(tail))


def _members(node: ast.ClassDef) -> Iterator[tuple[str, ast.Assign | ast.AnnAssign]]:
    for statement in node.body:
        if isinstance(statement, (ast.Assign, ast.AnnAssign)) and _calls(statement.value, (*FIELDS, *LOCKS, *STATS)):
            target = statement.target if isinstance(statement, ast.AnnAssign) else statement.targets[0]
            assert isinstance(target, ast.Name)
            yield target.id, statement


def _no_keywords(edits: Edits, node: ast.ClassDef) -> None:
    if node.keywords:
        first, last = edits.span(node.bases[-1])[1], edits.span(node.keywords[-1].value)[1]
        edits.changes.append((first, last, ""))


def _keywords(edits: Edits, node: ast.ClassDef) -> None:
    """A compiled subclass gives no keywords, and declares itself."""
    for statement in node.body:
        if isinstance(statement, ast.FunctionDef) and statement.name == "__init_subclass__":
            kind = statement.args.args[1]
            assert kind.arg == "kind" and kind.end_lineno is not None and kind.end_col_offset is not None
            at = edits.starts[kind.end_lineno - 1] + kind.end_col_offset
            edits.changes.append((at, at, " = -1"))
            edits.before(statement.body[0], "        if kind < 0:\n            return\n")
            if node.name == "Struct":
                edits.before(statement.body[-1], AS_PROPERTIES)


# -- all others --------------------------------------------------------------------


def _here(edits: Edits, node: ast.ClassDef) -> None:
    """`here.port` as a property: an attribute of one type could not hold what stands for several ports."""
    for part in node.body:
        chooses = isinstance(part, ast.FunctionDef) and part.name == "_choose"
        if chooses or isinstance(part, (ast.Assign, ast.AnnAssign)):
            edits.drop(part)
    edits.behind(node, HERE)


def _wide(edits: Edits) -> None:
    """`bp: Buf | None = map.physio` as `(map__wide := map).physio`: of that, mypy believes nothing."""
    for function in edits.tree.body:
        for node in ast.walk(function) if isinstance(function, ast.FunctionDef) else ():
            if isinstance(node, ast.AnnAssign) and "None" in ast.unparse(node.annotation):
                struct = node.value.value if isinstance(node.value, ast.Attribute) else None
                if isinstance(struct, ast.Name):
                    edits.replace(struct, f"({struct.id}__wide := {struct.id})")


def _record(edits: Edits, node: ast.ClassDef) -> None:
    """Make a dataclass or a NamedTuple a plain class. (mypyc makes objects of these by way of interpreted code.)"""
    named = [ast.unparse(base) for base in node.bases] == ["NamedTuple"]
    if not named and not _calls(next(iter(node.decorator_list), None), ("dataclass",)):
        return
    args, body = ["self"], []
    for field in node.body:
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            name, default = field.target.id, "" if field.value is None else f" = {ast.unparse(field.value)}"
            edits.changes.append((edits.span(field.annotation)[1], edits.span(field)[1], ""))
            if not _calls(field.value, ("field",)):
                args.append(f"{name}: {ast.unparse(field.annotation)}{default}")
                body.append(f"self.{name} = {name}")
    if named:
        first, last = edits.span(node.bases[0])
    else:
        first, last = edits.span(node.decorator_list[0])
        first -= len("@")
    edits.changes.append((first, last, ""))
    edits.below(node, f"    def __init__({', '.join(args)}) -> None: {'; '.join(body)}")


def _quoted(edits: Edits, node: ast.ClassDef) -> None:
    for statement in node.body:
        if isinstance(statement, ast.AnnAssign):
            edits.replace(statement.annotation, repr(edits.source(statement.annotation)))


def _constants(edits: Edits) -> bool:
    """Make constants Final. Returns: there are some."""
    bound = [name for node in ast.walk(edits.tree) for name in _bound(node)]
    changed = False
    for node in edits.tree.body:
        if isinstance(node, ast.AnnAssign) and node.value is not None and isinstance(node.target, ast.Name):
            if bound.count(node.target.id) == 1 and "Final" not in ast.unparse(node.annotation):
                edits.replace(node.annotation, f"Final[{edits.source(node.annotation)}]")
                changed = True
        elif isinstance(node, ast.Assign) and len(node.targets) == 1 and not _calls(node.value, MAKES_TYPES):
            target = node.targets[0]
            names, values = [target], [node.value]
            if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                names, values = target.elts, node.value.elts
            single = [name.id for name in names if isinstance(name, ast.Name) and bound.count(name.id) == 1]
            if len([name for name in single if name.isupper()]) == len(names) == len(values):
                if len(names) == 1:
                    at = edits.span(target)[1]
                    edits.changes.append((at, at, ": Final"))
                else:
                    pairs = [f"{ast.unparse(name)}: Final = {ast.unparse(value)}" for name, value in zip(names, values)]
                    edits.replace(node, "; ".join(pairs))
                changed = True
    return changed


def _bound(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        yield node.id
    elif isinstance(node, ast.Global):
        yield from node.names


def _kernel(node: ast.FunctionDef) -> bool:
    return any(_calls(mark, ("kernel",)) for mark in node.decorator_list)


def _names(node: ast.AST) -> set[str]:
    return {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}


def _wrapper(edits: Edits, node: ast.FunctionDef, seam: bool) -> str:
    """Give a kernel function another name, and write what has its own: the decorator's doing, and a call of it.

    Returns: that, for the end of the module.
    """
    mark = node.decorator_list[0]
    assert isinstance(mark, ast.Call)
    name = node.name
    exit = next((keyword.value for keyword in mark.keywords if keyword.arg == "exit"), ast.Constant(None))
    assert isinstance(exit, ast.Constant)
    checked, same = exit.value is not None, exit.value == "same"
    first = edits.starts[mark.lineno - 1]
    assert mark.end_lineno is not None
    last = edits.starts[mark.end_lineno]
    edits.changes.append((first, last, "#\n" * (mark.end_lineno - mark.lineno + 1)))
    at = edits.bytes.index(name.encode(), edits.starts[node.lineno - 1])
    edits.changes.append((at, at + len(name), BODY.format(name)))
    given = [arg.arg for arg in (*node.args.posonlyargs, *node.args.args)]
    given += [f"{arg.arg}={arg.arg}" for arg in node.args.kwonlyargs]
    assert node.args.vararg is None and node.args.kwarg is None, f"{name} has any number of arguments"
    call = ", ".join(given)
    docstring = ast.get_docstring(node, clean=False)
    returns = "None" if node.returns is None else ast.unparse(node.returns)
    quiet = returns in ("None", "NoReturn")
    lines = [
        f"{SEAM.format(name)}: Final = Seam({BODY.format(name)})" if seam else "",
        f"SEAMS[{name!r}] = {SEAM.format(name)}.put" if seam else "",
        f"def {name}({ast.unparse(node.args)}) -> {returns}:",
        f"    {docstring!r}",
        "    port__ = here.port",
        "    ctx__ = port__.cur" if checked else "",
        "    before__ = ctx__.holding()" if same else "",
        f"    port__.enter({name!r})",
        *([f"    if {SEAM.format(name)}.replaced:",
           f"        {'' if quiet else 'answer__ = '}{SEAM.format(name)}.stands({call})",
           "    else:",
           f"        {'' if quiet else 'answer__ = '}{BODY.format(name)}({call})"]
          if seam else [f"    {'' if quiet else 'answer__ = '}{BODY.format(name)}({call})"]),
        f"    if ctx__.held{' or before__' if same else ''}:" if checked else "",
        f"        port__.check_exit({name!r}, {'before__' if same else '[]'})" if checked else "",
        "    port__.exit()",
        "" if quiet else "    return answer__",
    ]  # fmt: skip
    return "\n" + "\n".join(line for line in lines if line) + "\n"


def _future(tree: ast.Module) -> ast.stmt:
    """The line `from __future__ import annotations`, which every module has."""
    return next(node for node in tree.body if isinstance(node, ast.ImportFrom) and node.module == "__future__")


def _calls(node: ast.expr | None, names: Iterable[str]) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in names


def stage(modules: Iterable[str], root: Path, to: Path) -> None:
    """Write the copies of modules.

    Args:
        modules: their files, as shared/uvm/page.py; each behind those of whose structs it has subclasses.
        root: the project's folder.
        to: the folder of the copies.
    """
    transform = Stage()
    for name in modules:
        (to / name).write_text(transform.module(name, (root / name).read_text(encoding="utf-8")), encoding="utf-8")
