"""The compiled form: what is made of the sources before mypyc does its part, and when which form runs."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import mypyc
import pytest

from cluster.compiled.build import COLD, CannotBuild, _cold, compiler, load, sources_of
from cluster.compiled.modules import modules
from cluster.compiled.stage import OPEN, REUSED, Stage, stage
from shared import form
from shared.patch import SEAMS
from shared.port.port import Context, Held, here
from tests.cluster.accessors import FIELDS
from tests.kit import THING, PartOfPort

# On one worker: the fixtures of a session are dear.
pytestmark = pytest.mark.xdist_group("compiled")

ROOT = form.ROOT
#: of accessors.py: as many as meet everything; and as notice what is wrong
PROGRAMS, FEW = 24, 6
FUNCTIONS = '''"""Kernel functions."""

from __future__ import annotations

from shared.port.port import here, kernel


@kernel(exit="same")
def staged_same(lock: int, *, more: int = 2) -> int:
    """Says what it was given."""
    here.port.events.append(("body", lock, more))
    return lock + more


@kernel(exit="none")
def staged_none(
    keep: bool,
) -> None:
    if keep:
        here.port.cur.held.append(here.port.cur.held[0])


@kernel()
def staged_free(*, a: int, b: int) -> tuple[int, int]:
    if a > b:
        raise ValueError(a)
    return a, b
'''


HELD = Held(THING.lk, "w", "f")


class Recorder(PartOfPort):
    """Writes down what a kernel function tells it."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[object] = []
        self.cur = Context("A", "cpu0")
        self.cur.held = [HELD]

    def enter(self, name: str) -> None:
        self.events.append(("enter", name))

    def exit(self) -> None:
        self.events.append("exit")

    def check_exit(self, name: str, before: list[Held]) -> None:
        self.events.append(("check", name, list(before), list(self.cur.held)))


@contextmanager
def loaded(text: str) -> Iterator[dict[str, Any]]:
    """A module of the kernel with this text."""
    names: dict[str, Any] = {"__name__": "shared.uvm.staged"}
    before = dict(SEAMS)
    try:
        exec(compile(text, "staged.py", "exec"), names)
        yield names
    finally:
        for name in SEAMS.keys() - before.keys():
            del SEAMS[name]


def replacement(function: Callable[..., object], port: Recorder) -> Callable[..., object]:
    """A function that is called as this one, and writes down how."""

    def call(*args: object, **named: object) -> object:
        bound = inspect.signature(function).bind(*args, **named)
        bound.apply_defaults()
        port.events.append((function.__name__, bound.arguments))
        return None if "None" in str(inspect.signature(function).return_annotation) else "replaced"

    return call


CALLS: dict[str, Callable[[dict[str, Any]], object]] = {
    "same": lambda module: module["staged_same"](1),
    "same, more": lambda module: module["staged_same"](1, more=5),
    "none": lambda module: module["staged_none"](False),
    "none, kept": lambda module: module["staged_none"](keep=True),
    "free": lambda module: module["staged_free"](a=1, b=2),
    "free, error": lambda module: module["staged_free"](a=2, b=1),
}


@pytest.mark.parametrize("replaced", [False, True])
@pytest.mark.parametrize("call", CALLS)
def test_a_wrapper_does_what_the_decorator_does(call: str, replaced: bool) -> None:
    def outcome(text: str) -> list[object]:
        port = Recorder()
        with loaded(text) as module, here.installed(port):
            for name in [name for name in SEAMS if name.startswith("staged_")] if replaced else []:
                SEAMS[name](replacement(module[name], port))
            try:
                result = CALLS[call](module)
            except ValueError as wrong:
                result = repr(wrong)
            names = [name for name in module if name.startswith("staged_") and "__" not in name]
            about = [(name, module[name].__doc__, str(inspect.signature(module[name]))) for name in names]
        return [port.events, result, about]  # fmt: skip

    staged = Stage().module("shared/uvm/staged.py", FUNCTIONS)
    assert "@kernel" not in staged
    plain, written = outcome(FUNCTIONS), outcome(staged)
    assert plain == written
    assert "enter" in str(plain[0])


@pytest.fixture(scope="session")
def staged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sources as mypyc is given them; they are still Python."""
    copy = tmp_path_factory.mktemp("staged")
    for package in ("shared", "nodes", "cluster", "configs", "tests"):
        for file in (ROOT / package).rglob("*"):
            if file.is_file() and "__pycache__" not in file.parts:
                (copy / file.relative_to(ROOT)).parent.mkdir(parents=True, exist_ok=True)
                (copy / file.relative_to(ROOT)).write_bytes(file.read_bytes())
    stage(modules(ROOT), ROOT, copy)
    return copy


@pytest.mark.wide
def test_the_staged_sources_give_the_same_journals(staged: Path) -> None:
    """Structs, arrays, unions, locks, inherited fields, counters, errata and findings among them."""
    chosen = "[S1a] or [S3a-shipped] or [S8a] or [S9] or [E2] or [E61b-shipped] or [litmus-mp]"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", staged,
         staged / "tests/parity/test_digests.py", "-k", chosen],
        capture_output=True, text=True, check=False, cwd=staged,
        env={**os.environ, "PYTHONPATH": str(staged), "UVMP_FORM": "plain"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:]
    assert "7 passed" in done.stdout


def refused(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Lines with constructs that mypyc refuses, or compiles to something else; see cluster/compiled/README.md."""
    names = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            if node in tree.body and names.count(node.name) > 1:
                yield node.lineno, "functions of one name"
            if any(isinstance(mark, ast.Name) and mark.id == "cached_property" for mark in node.decorator_list):
                yield node.lineno, "cached_property"
        if isinstance(node, ast.ClassDef):
            for part in node.body:
                if isinstance(part, ast.Assign) and (len(part.targets) > 1 or isinstance(part.targets[0], ast.Tuple)):
                    yield part.lineno, "two names bound at once in a class body"
        if isinstance(node, ast.Compare):
            for part in node.comparators:
                if isinstance(part, (ast.Tuple, ast.List)) and any(isinstance(e, ast.Starred) for e in part.elts):
                    yield part.lineno, "in (*A, b)"
        if isinstance(node, ast.With):
            for line in jumps(node.body):
                yield line, "continue or break inside with"


def jumps(body: list[ast.stmt]) -> Iterator[int]:
    """Lines that leave a loop which is around these statements."""
    for statement in body:
        if isinstance(statement, (ast.Break, ast.Continue)):
            yield statement.lineno
        elif not isinstance(statement, (ast.For, ast.While, ast.FunctionDef, ast.ClassDef)):
            for name in ("body", "orelse", "finalbody"):
                yield from jumps(getattr(statement, name, []))
            for handler in getattr(statement, "handlers", []):
                yield from jumps(handler.body)


WRONG = """
class A:
    x = y = 0
    a, b = 1, 2
def f(A, b):
    if b in (*A, 3):
        pass
    for x in A:
        with A:
            if x:
                continue
            try:
                break
            finally:
                pass
class B:
    @cached_property
    def c(self):
        pass
@mark("D-1")
def _():
    pass
@mark("D-2")
def _():
    pass
"""


def test_no_compiled_module_has_what_mypyc_refuses() -> None:
    """So that whoever does not compile learns of it, too; `make compiled` knows more."""
    assert len(list(refused(ast.parse(WRONG)))) == 8
    refusals = [(name, *what) for name in modules(ROOT) for what in refused(ast.parse((ROOT / name).read_bytes()))]
    assert refusals == []


NARROWED = """
import sys
from mypy.build import BuildSource, build
from mypy.nodes import Decorator, MemberExpr, OverloadedFuncDef
from mypy.options import Options
from mypy.types import CallableType, Instance, UnionType, get_proper_type

options = Options()
options.export_types, options.incremental, options.ignore_missing_imports = True, False, True
options.per_module_options = {"ray.*": {"follow_imports": "skip"}}
names = sys.argv[1:]
built = build([BuildSource(name, name.removesuffix(".py").replace("/", ".")) for name in names], options)
for access, type_ in built.types.items():
    struct = get_proper_type(built.types.get(access.expr)) if isinstance(access, MemberExpr) else None
    if isinstance(struct, Instance) and struct.type.fullname.startswith("shared.uvm.structs."):
        getter = struct.type.get(access.name).node
        getter = getter.items[0] if isinstance(getter, OverloadedFuncDef) else getter
        if isinstance(getter, Decorator) and isinstance(getter.func.type, CallableType):
            declared = get_proper_type(getter.func.type.ret_type)
            narrowed = isinstance(declared, UnionType) and str(declared) != str(get_proper_type(type_))
            print("narrowed" if narrowed else "declared", access.line, access.name)
"""


@pytest.mark.long
def test_no_field_is_believed_to_be_what_it_was_when_it_was_tested(staged: Path, tmp_path: Path) -> None:
    """mypy narrows `map.physio` behind `if map.physio is None: return`, and mypyc refuses None there, although another
    context may have put it there. It does so in the sources, and the copy prevents it."""
    (tmp_path / "narrowed.py").write_text(NARROWED, encoding="utf-8")

    def accesses(text: str) -> list[str]:
        (staged / "shared/uvm/map_entry.py").write_text(text, encoding="utf-8")
        command = [sys.executable, tmp_path / "narrowed.py", *(name for name in modules(ROOT) if "/uvm/" in name)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=staged)
        return done.stdout.splitlines()

    text = (staged / "shared/uvm/map_entry.py").read_text(encoding="utf-8")
    try:
        wrong = accesses(text.replace("(map__wide := map)", "map"))
    finally:
        good = accesses(text)
    assert [line.split()[0::2] for line in wrong if "narrowed" in line] == [["narrowed", "physio"]]
    assert len(good) == len(wrong) > 500 and not [line for line in good if "narrowed" in line]


# -- accessors: what stage.py makes of declarations, against the declarations themselves ------------


def trace(form_: str, at: Path, programs: int) -> list[str]:
    """What random programs over these accessors print; see accessors.py."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.cluster.accessors", str(programs)],
        capture_output=True, text=True, check=False, cwd=at,
        env={**os.environ, "PYTHONPATH": str(at), "UVMP_FORM": form_},
    )  # fmt: skip
    return [*done.stdout.splitlines(), *([done.stderr] if done.returncode else [])]


@pytest.fixture(scope="session")
def declared() -> list[str]:
    """The trace of the declarations as Python has them."""
    return trace(form.PLAIN, ROOT, PROGRAMS)


def same(trace: list[str], wanted: list[str]) -> None:
    """The same to the last line; else the first one that differs, with its number."""
    differing = next((i for i, (instruction, other) in enumerate(zip(trace, wanted)) if instruction != other), None)
    assert differing is None, (differing, trace[differing], wanted[differing])
    assert len(trace) == len(wanted)


@pytest.mark.wide
def test_the_programs_meet_every_field_in_every_state_of_its_guards(declared: list[str]) -> None:
    wanted = set()
    for _, field in FIELDS:
        for what, alternatives in (("load", field.read), ("store", field.write)):
            states = ["private", "unguarded", *(["guarded"] if alternatives else [])]
            wanted |= {f"met {field.key} {what} {state}" for state in states}
    assert len(FIELDS) > 150 and wanted - set(declared) == set()
    text = "\n".join(declared)
    for kind in ("data-race", "use-after-free", "panic"):
        assert f"('kind', '{kind}')" in text
    assert "racy [" in text and "record [" in text and "counters [('f" in text and "of another type" in text


@pytest.mark.wide
def test_written_accessors_do_as_the_declarations_say(declared: list[str], staged: Path) -> None:
    """Values, findings, scheduling points, records, racy fields, counters; the copy runs as plain Python."""
    same(trace(form.PLAIN, staged, PROGRAMS), declared)


@pytest.mark.wide
@pytest.mark.skipif(form.unusable(ROOT, form.FOLDER) != "", reason="there is no compiled form of these sources")
def test_compiled_accessors_do_as_the_declarations_say(declared: list[str]) -> None:
    same(trace(form.COMPILED, ROOT, PROGRAMS), declared)


@pytest.mark.long
@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("load(self, f_Anon_an_ref, f_Anon_an_ref.slot)", "load(self, f_Anon_an_ref, f_Anon_an_swslot.slot)"),
        ("load(self, f_Page_pqflags, ", "load(self, f_Page_flags, "),
        ("here.port.store(self, f_Amap_am_nused, f_Amap_am_nused.slot, value)", "pass"),
        ("return f_VmMap_hint_lock.of(self)", "return f_VmMap_flags_lock.of(self)"),
        ("f_Page_uobject: Final[Field[UvmObject | None]] = field('o|p read, o&p write')",
         "f_Page_uobject: Final[Field[UvmObject | None]] = field('o|p')"),
        ("= field('s', hint=True)", "= field('s')"),
        ("= union('an_page', 'a', link=True)", "= union('an_page', 'o', link=True)"),
        ("e_AmapArray.slot + (i if", "e_AmapArray.slot + 1 + (i if"),
        ("store(self, e_AmapArray", "store(self, e_PageArray"),
        ("f_Uvmexp_faults.put(value)", "pass"),
        ("'vmobjlock': f_Pmap_vmobjlock", "'vmobjlock': f_UvmObject_vmobjlock"),
        ("f_Pmap_vmobjlock: Final = simplelock('pmap')", "f_Pmap_vmobjlock: Final = simplelock('uobj')"),
    ],
)  # fmt: skip
def test_a_wrong_accessor_is_noticed(right: str, wrong: str, declared: list[str], staged: Path) -> None:
    file = staged / "shared/uvm/structs.py"
    text = file.read_text(encoding="utf-8")
    assert right in text
    try:
        file.write_text(text.replace(right, wrong), encoding="utf-8")
        with pytest.raises(AssertionError):
            same(trace(form.PLAIN, staged, FEW), declared[: declared.index(f"program {FEW}.0")])
    finally:
        file.write_text(text, encoding="utf-8")


def test_functions_stay_on_their_lines(staged: Path) -> None:
    def lines(file: Path) -> dict[str, list[int]]:
        ends: dict[str, list[int]] = {}
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.FunctionDef):
                ends.setdefault(node.name.removesuffix("__body"), []).append(node.body[-1].lineno)
        return ends

    for name in modules(ROOT):
        if name not in ("shared/port/port.py", "shared/port/struct.py", "shared/uvm/structs.py"):
            now = lines(staged / name)
            for function, at in lines(ROOT / name).items():
                assert set(at) <= set(now[function]), f"{name}: {function}"


@pytest.mark.wide
def test_a_class_with_interpreted_subclasses_is_open_and_so_are_its_bases() -> None:
    """Else Python refuses to run, in the compiled form alone, or mypyc to compile."""
    hot, trees = modules(ROOT), {}
    for package in ("shared", "nodes", "cluster", "tests"):
        for file in (ROOT / package).rglob("*.py"):
            trees[str(file.relative_to(ROOT))] = ast.parse(file.read_text(encoding="utf-8"))
    classes = {
        (name.removesuffix(".py").replace("/", "."), node.name): name
        for name in hot
        for node in trees[name].body
        if isinstance(node, ast.ClassDef)
    }
    bases = {}
    for name, tree in trees.items():
        nodes = list(ast.walk(tree))
        derived = [node for node in nodes if isinstance(node, ast.ClassDef)]
        if name in hot:  # an open class has open bases
            derived = [node for node in derived if node.name in OPEN.get(name, ())]
        origins = [node for node in nodes if isinstance(node, ast.ImportFrom)]
        homes = {imported.name: origin.module for origin in origins for imported in origin.names}
        here_ = name.removesuffix(".py").replace("/", ".")
        names = [base.id for node in derived for base in node.bases if isinstance(base, ast.Name)]
        bases |= {(homes.get(base, here_), base): name for base in names}
    subclassed = {base: name for base, name in bases.items() if base in classes}
    assert {("shared.port.struct", "Struct"), ("nodes.host.half", "ProcessorPort")} <= set(subclassed)
    assert {base: name for base, name in subclassed.items() if base[1] not in OPEN.get(classes[base], ())} == {}


def test_the_c_compiler_is_told_what_is_called_after_an_error(tmp_path: Path) -> None:
    """Of this mypyc's library; a function that it does not have is left out."""
    library = Path(mypyc.__file__).parent / "lib-rt"
    header = _cold([str(library)], tmp_path).read_text()
    assert [f"extern __typeof__({name}) {name} __attribute__((cold));" in header for name in COLD] == [True] * len(COLD)
    (tmp_path / "CPy.h").write_text("void CPy_AddTraceback(int line);\n")
    assert _cold([str(tmp_path)], tmp_path).read_text().count("cold") == 1


def test_classes_that_are_open_or_reused_are_where_the_tables_say() -> None:
    for table in (OPEN, REUSED):
        for name, classes in table.items():
            body = ast.parse((ROOT / name).read_bytes()).body
            assert set(classes) <= {node.name for node in body if isinstance(node, ast.ClassDef)}, name


def test_a_reused_record_is_made_as_its_declaration_says(staged: Path) -> None:
    """A dataclass or a NamedTuple is a plain class in the copy: it takes the same arguments, and keeps each."""

    def declared(file: Path, name: str) -> type[Any]:
        tree = ast.parse(file.read_bytes())
        (node,) = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name]
        names: dict[str, Any] = {**vars(dataclasses), "NamedTuple": NamedTuple}
        names["mypyc_attr"] = lambda **said: lambda class_: class_
        future = ast.parse("from __future__ import annotations").body
        exec(compile(ast.Module([*future, node], []), str(file), "exec"), names)
        made: type[Any] = names[name]
        return made

    records = 0
    for name, classes in REUSED.items():
        for class_ in classes:
            plain, written = declared(ROOT / name, class_), declared(staged / name, class_)
            if not (dataclasses.is_dataclass(plain) or issubclass(plain, tuple)):
                continue
            records += 1
            wanted, given = inspect.signature(plain).parameters, inspect.signature(written).parameters
            assert [(key, part.default) for key, part in wanted.items()] == [
                (key, part.default) for key, part in given.items()
            ], f"{name}: {class_}"
            for args in (range(len(wanted)), range(sum(part.default is part.empty for part in wanted.values()))):
                made, copied = plain(*args), written(*args)
                assert {key: getattr(made, key) for key in wanted} == {key: getattr(copied, key) for key in wanted}
                assert not isinstance(copied, tuple) and not dataclasses.is_dataclass(copied)
    assert records


# -- which form runs ------------------------------------------------------------------


@pytest.fixture
def tree(tmp_path: Path) -> tuple[Path, Path]:
    """A source tree of one file, and a compiled form of it."""
    (tmp_path / "a.py").write_text("x = 1\n")
    folder = tmp_path / "compiled"
    folder.mkdir()
    form.library(folder).touch()
    manifest = {"python": form.python(), "modules": ["a"], "sources": {"a.py": form.seal(tmp_path / "a.py")}}
    (folder / form.MANIFEST).write_text(json.dumps(manifest))
    return tmp_path, folder


def test_a_form_of_these_sources_is_used(tree: tuple[Path, Path]) -> None:
    root, folder = tree
    assert form.unusable(root, folder) == ""
    os.utime(root / "a.py", (1, 1))  # another time, as after a checkout, but the same text
    assert form.unusable(root, folder) == ""


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda root, folder: (root / "a.py").write_text("x = 2\n"), "a.py has changed"),
        (lambda root, folder: (root / "a.py").write_text("x = 10\n"), "a.py has changed"),
        (lambda root, folder: (root / "a.py").unlink(), "a.py, of which it was built, is not there"),
        (lambda root, folder: (folder / form.MANIFEST).unlink(), "has not been built"),
        (lambda root, folder: (folder / form.MANIFEST).write_text("{"), "cannot be read"),
        (lambda root, folder: (folder / form.MANIFEST).write_text("[]"), "cannot be read"),
        (lambda root, folder: (folder / form.MANIFEST).write_text('{"python": "3.9"}'), "cannot be read: KeyError"),
        (lambda root, folder: form.library(folder).unlink(), "its library is not there"),
        (
            lambda root, folder: (folder / form.MANIFEST).write_text('{"python": "3.9.1 .so", "sources": {}}'),
            "was built for Python 3.9.1",
        ),
    ],
)
def test_a_stale_form_is_not_used(tree: tuple[Path, Path], change: Callable[[Path, Path], object], why: str) -> None:
    change(*tree)
    os.utime(tree[0])
    assert why in form.unusable(*tree)


@pytest.mark.parametrize(
    ("wanted", "said"), [("compiled", "compiled form cannot be used: it has not been built"), ("fast", "not 'fast'")]
)
def test_a_form_that_cannot_be_had_ends_the_command(tmp_path: Path, wanted: str, said: str) -> None:
    (tmp_path / "shared").mkdir()
    for name in ("__init__.py", "form.py"):
        (tmp_path / "shared" / name).write_bytes((ROOT / "shared" / name).read_bytes())
    done = subprocess.run(
        [sys.executable, "-c", "import shared"], capture_output=True, text=True, check=False, cwd=tmp_path,
        env={**os.environ, "UVMP_FORM": wanted, "PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (5, "")
    assert said in done.stderr and done.stderr.count("\n") == 1


def test_plain_is_plain(tmp_path: Path) -> None:
    assert form.choose("plain") == form.Form("plain", "UVMP_FORM=plain")


def test_whatever_compiled_modules_import_makes_them_stale() -> None:
    sources = sources_of(modules(ROOT), ROOT)
    assert {"shared/uvm/page.py", "shared/uvm/param.py", "shared/scenario/model.py"} <= set(sources)
    assert not [name for name in sources if name.startswith(("cluster/cli", "cluster/postmortem"))]


def test_there_is_one_line_where_there_is_no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setenv("CC", "no-such-cc -x")
    with pytest.raises(CannotBuild, match="there is no C compiler: no-such-cc is not found"):
        compiler()


def built(folder: Path, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    """What `make setup` calls, where the C compiler may be missing."""
    return subprocess.run(
        [sys.executable, "-m", "cluster.compiled", *words, str(folder)],
        capture_output=True, text=True, check=False, cwd=ROOT, env={**os.environ, "UVMP_FORM": "plain", **more},
    )  # fmt: skip


def test_set_up_without_a_compiler_goes_on_in_plain_python_and_says_so(tmp_path: Path) -> None:
    done = built(tmp_path, "--if-possible", PATH="/nowhere", CC="no-such-cc")
    assert (done.returncode, done.stderr) == (0, "") and not list(tmp_path.iterdir())
    said = "uvmp runs as plain Python, four times as slow: there is no C compiler: no-such-cc is not found"
    assert said in done.stdout and done.stdout.count("\n") == 1
    done = built(tmp_path, PATH="/nowhere", CC="no-such-cc")
    assert (done.returncode, done.stdout) == (1, "") and "cannot build the compiled form: there is no C" in done.stderr


def test_set_up_goes_on_whatever_is_wrong_with_the_build(tmp_path: Path) -> None:
    (tmp_path / "work").write_text("no folder")
    done = built(tmp_path, "--if-possible", CC="true", PATH=os.environ["PATH"])
    assert (done.returncode, done.stderr) == (0, "")
    assert "== no compiled form, uvmp runs as plain Python" in done.stdout.splitlines()[-1]
    assert form.unusable(ROOT, tmp_path).startswith("it has not been built")


def test_set_up_builds_nothing_where_there_is_a_form_of_these_sources(tmp_path: Path) -> None:
    form.library(tmp_path).touch()
    manifest = {"python": form.python(), "modules": [], "sources": {}}
    (tmp_path / form.MANIFEST).write_text(json.dumps(manifest))
    done = built(tmp_path, "--if-possible", PATH="/nowhere")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_library_that_cannot_be_loaded_is_given_up(tmp_path: Path) -> None:
    (tmp_path / form.MANIFEST).write_text(json.dumps({"modules": ["shared.no_such_module"]}))
    with pytest.raises(CannotBuild, match="it cannot be loaded: ImportError"):
        load(tmp_path)
    assert not (tmp_path / form.MANIFEST).exists()
