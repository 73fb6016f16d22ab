"""In which form the engine and the kernel run: as plain Python, or compiled by `make compiled`.

Both are made from the same sources and do the same. The compiled form is a folder `build/compiled` beside the packages,
with a library and a list of the sources that it was made of. It is used if each of these is still as it was then and
the Python is the same: whoever edits a source runs plain Python until the next build. The variable UVMP_FORM asks for
`plain`, or for `compiled`, and then nothing runs if that cannot be had.

The only module of this package that looks at files: before all others, since it says where they come from. How the
folder is made is in cluster/compiled.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import sysconfig
from importlib.machinery import ModuleSpec
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

PLAIN, COMPILED = "plain", "compiled"
#: the project's folder, and in it that of the compiled form
ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "build" / "compiled"
MANIFEST, LIBRARY = "manifest.json", "uvmp__mypyc"
#: exit code of a process that cannot have the form that it was asked for, as in shared/errors.py
REFUSED = 5


class Form(NamedTuple):
    """PLAIN or COMPILED, and why, in words."""

    name: str
    why: str


def python() -> str:
    """The Python for which a library is made."""
    return f"{sys.version.split()[0]} {sysconfig.get_config_var('EXT_SUFFIX')}"


def seal(file: Path) -> list[object]:
    """What a source is known by: size, time of its last change, digest."""
    about = file.stat()
    return [about.st_size, about.st_mtime_ns, hashlib.sha256(file.read_bytes()).hexdigest()]


def unusable(root: Path, folder: Path) -> str:
    """Why a compiled form cannot be used; "": it can."""
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
    except FileNotFoundError:
        return "it has not been built (make compiled)"
    except (OSError, ValueError) as wrong:
        return f"it cannot be read: {wrong}"
    if manifest["python"] != python():
        return f"it was built for Python {manifest['python'].split()[0]}"
    for name, (size, time, digest) in manifest["sources"].items():
        file = root / name
        try:
            about = file.stat()
        except OSError:
            return f"{name}, of which it was built, is not there"
        if about.st_size != size or (about.st_mtime_ns != time and seal(file)[2] != digest):
            return f"{name} has changed since it was built (make compiled)"
    return ""


class Finder:
    """Finds modules in a library that mypyc has made.

    Args:
        folder: where it is.
    """

    def __init__(self, folder: Path):
        self.modules = frozenset(json.loads((folder / MANIFEST).read_bytes())["modules"])
        self.folder = folder
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
        return ctypes.PYFUNCTYPE(ctypes.py_object)(address)()

    def exec_module(self, module: ModuleType) -> None:
        """It has run already."""

    def _load(self) -> ModuleType:
        spec = spec_from_file_location(LIBRARY, self.folder / f"{LIBRARY}{sysconfig.get_config_var('EXT_SUFFIX')}")
        assert spec is not None and spec.loader is not None
        library = sys.modules[LIBRARY] = module_from_spec(spec)
        spec.loader.exec_module(library)
        return library


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
        return Form(COMPILED, "build/compiled is of these sources")
    if wanted == COMPILED:
        print(f"uvmp: UVMP_FORM=compiled, but the compiled form cannot be used: {why}", file=sys.stderr)
        raise SystemExit(REFUSED)
    return Form(PLAIN, why)


FORM = choose(os.environ.get("UVMP_FORM", ""))
