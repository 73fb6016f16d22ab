"""The compiled form: the sources staged, made C by mypyc, compiled, and put into build/compiled with a manifest.

What has been compiled before from the same C is not compiled again. Wants mypy, setuptools and a C compiler.
"""

from __future__ import annotations

import ast
import hashlib
import io
import json
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import chdir, redirect_stderr, redirect_stdout
from pathlib import Path

from cluster.compiled.modules import modules
from cluster.compiled.stage import stage
from shared.form import BUILT, LIBRARY, MANIFEST, PLAIN, ROOT, library, python, seal

HERE = Path(__file__).resolve().parent
PACKAGES = ("shared", "nodes", "cluster")
#: what the C compiler is told, besides
FLAGS = ("-c", "-fPIC", "-O2", "-g0", "-fwrapv", "-fvisibility=hidden", "-fno-plt", "-DNDEBUG", "-w")
#: functions of mypyc's library that are called after an error. A third of the code consists of such calls: the C
#: compiler moves them away from the code that runs, so that more of this has room in a processor's cache
COLD = (
    "CPy_AddTraceback", "CPy_AttributeError", "CPy_DecRef", "CPy_TypeError", "CPy_TypeErrorTraceback", "CPy_XDecRef",
)  # fmt: skip
#: a warning of mypyc's at a name in a class body that would belong to each object
WRONG = "Unsupported default attribute value"
#: a program that loads modules from a compiled form
LOAD = """\
import importlib, pathlib, sys
from shared.form import Finder
sys.meta_path.insert(0, Finder(pathlib.Path(sys.argv[1])))
for name in sys.argv[2:]:
    importlib.import_module(name)
"""
CONFIG = """\
[mypy]
python_version = {version}
[mypy-ray.*]
follow_imports = skip
ignore_missing_imports = true
[mypy-msgpack.*,greenlet.*]
ignore_missing_imports = true
"""


class CannotBuild(Exception):
    """What is missing, in one line."""


def compiler() -> list[str]:
    """The command of the C compiler. Raises: CannotBuild - there is none."""
    command = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
    candidates = [command[0], "cc", "gcc", "clang"]
    name = next((name for name in candidates if shutil.which(name)), None)
    if name is None:
        raise CannotBuild(f"there is no C compiler: {command[0]} is not found (set CC, or install gcc or clang)")
    if not (Path(sysconfig.get_path("include")) / "Python.h").exists():
        raise CannotBuild("there is no Python.h: the development files of this Python are not installed")
    return [name, *command[1:]]


def build(root: Path = ROOT, folder: Path = BUILT, jobs: int | None = None) -> int:
    """Build the compiled form of a source tree. Returns: how many files of C had to be compiled.

    Raises: CannotBuild - something is missing, or the C does not compile.
    """
    command = compiler()
    work = folder / "work"
    copy, made = work / "stage", work / "c"
    hot = modules(root)
    sources = sources_of(hot, root) + [str(file.relative_to(root)) for file in sorted(HERE.glob("*.py"))]
    seals = {name: seal(root / name) for name in sources}
    _copy(root, copy)
    stage(hot, root, copy)
    files, include = _to_c(hot, copy, made, work)
    flags = [*(f"-I{path}" for path in include), "-include", str(_cold(include, made))]
    (folder / MANIFEST).unlink(missing_ok=True)
    count = _compile(command, files, flags, folder, jobs or os.cpu_count() or 1)
    names = [name.removesuffix(".py").replace("/", ".") for name in hot]
    manifest = {"python": python(), "modules": names, "sources": seals}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="ascii")
    return count


def load(folder: Path = BUILT) -> None:
    """Load all of a compiled form, in a process of its own. It is given up if that fails.

    Raises: CannotBuild - it cannot be loaded.
    """
    names = json.loads((folder / MANIFEST).read_bytes())["modules"]
    done = subprocess.run(
        [sys.executable, "-c", LOAD, str(folder), *names],
        capture_output=True, text=True, check=False, cwd=ROOT, env={**os.environ, "UVMP_FORM": PLAIN},
    )  # fmt: skip
    if done.returncode:
        (folder / MANIFEST).unlink()
        raise CannotBuild(f"it cannot be loaded: {(done.stderr.splitlines() or [f'exit {done.returncode}'])[-1]}")


def sources_of(hot: Iterable[str], root: Path) -> list[str]:
    """The compiled modules' files, and those of the project's modules that they import, and so on."""
    files: set[str] = set()
    left = list(hot)
    while left:
        name = left.pop()
        if name in files:
            continue
        files.add(name)
        for node in ast.walk(ast.parse((root / name).read_bytes())):
            if isinstance(node, ast.Import):
                imported = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                imported = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            else:
                continue
            for module in imported:
                if module.split(".")[0] in PACKAGES:
                    path = module.replace(".", "/")
                    left += [file for file in (f"{path}.py", f"{path}/__init__.py") if (root / file).is_file()]
    return sorted(files)


def _copy(root: Path, copy: Path) -> None:
    """All modules, for mypy to see their types."""
    shutil.rmtree(copy, ignore_errors=True)
    for package in PACKAGES:
        for file in (root / package).rglob("*.py"):
            to = copy / file.relative_to(root)
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, to)


def _to_c(hot: Sequence[str], copy: Path, made: Path, work: Path) -> tuple[list[Path], list[str]]:
    """Have mypyc write the C. Returns: its files, and the folders of headers."""
    try:
        from mypyc.build import mypycify  # noqa: PLC0415 - a tool of building alone
    except ImportError as missing:
        raise CannotBuild(f"{missing.name} is not installed (pip install 'uvmp[dev]')") from None
    made.mkdir(parents=True, exist_ok=True)
    config = work / "mypy.ini"
    config.write_text(CONFIG.format(version=".".join(map(str, sys.version_info[:2]))), encoding="ascii")
    options = [f"--config-file={config}", f"--cache-dir={work / 'cache'}"]
    output = io.StringIO()
    with chdir(copy), redirect_stdout(output), redirect_stderr(output):
        try:
            made_of = mypycify(
                [*options, *hot], multi_file=True, group_name=LIBRARY.removesuffix("__mypyc"), target_dir=str(made)
            )[0]
        except SystemExit:
            wrong = [line for line in output.getvalue().splitlines() if ": error: " in line]
            raise CannotBuild("mypyc refuses the sources: " + "\n".join(wrong or [output.getvalue()[-4000:]])) from None
    wrong = [line for line in output.getvalue().splitlines() if WRONG in line]
    if wrong:
        raise CannotBuild("\n".join(["mypyc would do something else than Python:", *wrong]))
    include = [*made_of.include_dirs, sysconfig.get_path("include")]
    return [Path(name) for name in made_of.sources], include


def _cold(include: Iterable[str], made: Path) -> Path:
    """Write a header that declares the functions in COLD, as far as this mypyc has them, as seldom called."""
    library = next(file for path in include if (file := Path(path) / "CPy.h").exists())
    known = library.read_text(encoding="utf-8")
    cold = [f"extern __typeof__({name}) {name} __attribute__((cold));\n" for name in COLD if f"{name}(" in known]
    header = made / "cold.h"
    header.write_text(f"#include <{library.name}>\n{''.join(cold)}", encoding="ascii")
    return header


def _compile(command: list[str], files: list[Path], flags: list[str], folder: Path, jobs: int) -> int:
    objects = folder / "work" / "objects"
    objects.mkdir(parents=True, exist_ok=True)
    flags = [*FLAGS, *shlex.split(os.environ.get("UVMP_CFLAGS", "")), *flags]
    headers = hashlib.sha256(" ".join([*command, *flags, python()]).encode())
    for header in sorted({path for file in files for path in file.parent.rglob("*.h")}):
        headers.update(header.read_bytes())
    keys = {file: hashlib.sha256(headers.digest() + file.read_bytes()).hexdigest()[:32] for file in files}
    wanted = {file: objects / f"{key}.o" for file, key in keys.items()}
    missing = [file for file, made in wanted.items() if not made.exists()]

    def compile_(file: Path) -> None:
        part = wanted[file].with_suffix(".part")
        _run([*command, *flags, str(file), "-o", str(part)])
        part.replace(wanted[file])

    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(compile_, sorted(missing, key=lambda file: -file.stat().st_size)))
    part = library(folder).with_suffix(".part")
    shared = ["-bundle", "-undefined", "dynamic_lookup"] if sys.platform == "darwin" else ["-shared"]
    _run([*command, *shared, *map(str, wanted.values()), "-o", str(part)])
    part.replace(library(folder))  # a process that has the old one continues with it
    for old in set(objects.iterdir()) - set(wanted.values()):
        old.unlink()
    return len(missing)


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CannotBuild(f"{command[0]} failed:\n{done.stderr[-2000:]}")
