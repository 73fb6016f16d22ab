"""What the build of a wheel does besides: with UVMP_FORM=compiled, the wheel has the compiled form in it.

    UVMP_FORM=compiled pip install .

wants a C compiler and Python.h, and takes a minute or two longer. Without the variable a wheel is plain Python, and
wants neither.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

WANTED = os.environ.get("UVMP_FORM") == "compiled"
#: of the tools of development, those that compile
TOOLS = ("mypy", "setuptools", "types-")


class CompiledForm(BuildHookInterface):
    """Builds the compiled form into a folder of its own, and puts the library and its manifest into the wheel."""

    folder: Path | None = None

    def dependencies(self) -> list[str]:
        """What the build's own environment needs."""
        tools: list[str] = self.metadata.core.optional_dependencies["dev"]
        return [name for name in tools if name.startswith(TOOLS)] if WANTED else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Before the wheel is made. An editable one is a checkout, for which `make setup` builds."""
        if not WANTED or version == "editable":
            return
        self.folder = Path(tempfile.mkdtemp(prefix="uvmp-build-"))
        command = [sys.executable, "-m", "cluster.compiled", str(self.folder)]
        done = subprocess.run(command, cwd=self.root, env={**os.environ, "UVMP_FORM": "plain"}, check=False)
        if done.returncode:
            self.finalize(version, build_data, "")
            self.app.abort("the compiled form cannot be built; without UVMP_FORM=compiled the wheel is plain Python")
        for file in self.folder.iterdir():
            if file.is_file():
                build_data["force_include"][str(file)] = f"shared/_compiled/{file.name}"
        build_data["pure_python"], build_data["infer_tag"] = False, True

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """The wheel is made."""
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)
