"""In which form the engine and the kernel run: as plain Python, or compiled.

Both are made from the same sources and do the same. The compiled form is a folder with a library and a list of the
sources that it was made of: `build/compiled` of a checkout, `shared/_compiled` of a wheel. It is used if each of these
is still as it was then and the Python is the same: after an edit of a source, plain Python runs until the next build.
The variable UVMP_FORM asks for `plain`, or for `compiled`, and then nothing runs if that cannot be had.

The only module of this package that looks at files: before all others, since it says where they come from. How the
folder is made is in cluster/compiled.
"""

from __future__ import annotations

import abc
import hashlib
import json
import os
import sys
import sysconfig
from abc import ABCMeta
from importlib.machinery import ModuleSpec
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

PLAIN, COMPILED = "plain", "compiled"
#: the folder of the packages
ROOT = Path(__file__).resolve().parent.parent
#: the compiled form's in a wheel, and in a checkout
INSTALLED, BUILT = ROOT / "shared" / "_compiled", ROOT / "build" / "compiled"
FOLDER = INSTALLED if INSTALLED.is_dir() else BUILT
MANIFEST, LIBRARY = "manifest.json", "uvmp__mypyc"
#: exit code of a process that cannot have the form that it was asked for, as in shared/errors.py
REFUSED = 5


class Form(NamedTuple):
    """PLAIN or COMPILED, and why, in words."""

    name: str
    why: str


def python() -> str:
    """The Python for which a library is made: all releases of a version can load it."""
    return f"{sys.version_info[0]}.{sys.version_info[1]} {sysconfig.get_config_var('EXT_SUFFIX')}"


def seal(file: Path) -> list[object]:
    """What a source is known by: size, time of its last change, digest."""
    about = file.stat()
    return [about.st_size, about.st_mtime_ns, hashlib.sha256(file.read_bytes()).hexdigest()]


def unusable(root: Path, folder: Path) -> str:
    """Why a compiled form cannot be used; "": it can.

    Args:
        root: of the packages.
        folder: of the compiled form.
    """
    make = "make compiled" if (root / "Makefile").is_file() else "UVMP_FORM=compiled pip install"
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
        made_for, sources = manifest["python"], manifest["sources"].items()
    except FileNotFoundError:
        return f"it has not been built ({make})"
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as wrong:
        return f"{MANIFEST} of the compiled form cannot be read: {wrong!r:.200}"
    if made_for != python():
        return f"it was built for Python {made_for.split()[0]} ({make})"
    if not library(folder).is_file():
        return f"its library is not there ({make})"
    for name, (size, time, digest) in sources:
        file = root / name
        try:
            about = file.stat()
        except OSError:
            return f"{name}, of which it was built, is not there ({make})"
        if about.st_size != size or (about.st_mtime_ns != time and seal(file)[2] != digest):
            return f"{name} has changed since it was built ({make})"
    return ""


def library(folder: Path) -> Path:
    """The file with the compiled modules."""
    return folder / f"{LIBRARY}{sysconfig.get_config_var('EXT_SUFFIX')}"


class Finder:
    """Finds modules in a library that mypyc has made.

    Args:
        folder: where it is.

    Attributes:
        depth: modules that are being loaded, each by the module before.
        left: modules whose abstract classes have no cache of their own.
    """

    def __init__(self, folder: Path):
        self.modules = frozenset(json.loads((folder / MANIFEST).read_bytes())["modules"])
        self.folder, self.depth, self.left = folder, 0, set(self.modules)
        self.library: ModuleType | None = None

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        return ModuleSpec(name, self) if name in self.modules else None  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> Any:
        """Run the module's code in the library."""
        import ctypes

        if self.library is None:
            self.library = self._load()
        capsule = getattr(self.library, "init_" + spec.name.replace(".", "___"))
        pointer = ctypes.pythonapi.PyCapsule_GetPointer
        pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
        address = pointer(capsule, f"{LIBRARY}.init_{spec.name.replace('.', '___')}".encode())
        self.depth += 1
        try:
            return ctypes.PYFUNCTYPE(ctypes.py_object)(address)()
        finally:
            self.depth -= 1

    def exec_module(self, module: ModuleType) -> None:
        """It has run already, and has perhaps loaded others of the library by itself.

        Their abstract classes get caches of their own of what is an instance. Classes of mypyc's share that of their
        base, so an answer for one class would be an answer for all.
        """
        if self.depth:
            return
        for name in self.left & sys.modules.keys():
            self.left.remove(name)
            for value in vars(sys.modules[name]).values():
                if isinstance(value, ABCMeta) and value.__module__ == name:
                    abc._abc_init(value)  # type: ignore[attr-defined]

    def _load(self) -> ModuleType:
        spec = spec_from_file_location(LIBRARY, library(self.folder))
        assert spec is not None and spec.loader is not None
        loaded = sys.modules[LIBRARY] = module_from_spec(spec)
        spec.loader.exec_module(loaded)
        return loaded


def choose(wanted: str) -> Form:
    """Make the modules come in the wanted form, or ("") compiled if that can be had."""
    if wanted not in ("", PLAIN, COMPILED):
        print(f"uvmp: UVMP_FORM is {PLAIN} or {COMPILED}, not {wanted[:40]!r}", file=sys.stderr)
        raise SystemExit(REFUSED)
    if wanted == PLAIN:
        return Form(PLAIN, "UVMP_FORM=plain")
    why = unusable(ROOT, FOLDER)
    if not why:
        sys.meta_path.insert(0, Finder(FOLDER))
        return Form(COMPILED, f"{FOLDER.relative_to(ROOT)} is of these sources")
    if wanted == COMPILED:
        print(f"uvmp: UVMP_FORM=compiled, but the compiled form cannot be used: {why}", file=sys.stderr)
        raise SystemExit(REFUSED)
    return Form(PLAIN, why)


FORM = choose(os.environ.get("UVMP_FORM", ""))
