"""A wheel: pure Python, or with the compiled form in it (hatch_build.py). Each is built, installed and run."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from cluster.compiled.build import CannotBuild, compiler
from shared.form import LIBRARY, MANIFEST, ROOT

CHECKOUT = {name: value for name, value in os.environ.items() if name not in ("UVMP_FORM", "PYTHONPATH")}


def has_compiler() -> bool:
    try:
        return bool(compiler())
    except CannotBuild:
        return False


def installed(form: str, tmp_path: Path, **more: str) -> tuple[zipfile.ZipFile, Path]:
    """Build a wheel, and install it into an environment that has what it needs but not the checkout.

    Returns: the wheel, and the folder of the environment's commands.
    """
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    build = [*pip, "wheel", "-q", "--no-deps", "-w", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, cwd=tmp_path, env={**CHECKOUT, **more, "UVMP_FORM": form})
    (wheel,) = tmp_path.glob("uvmp-*.whl")
    home = tmp_path / "venv"
    venv.create(home)
    install = [*pip, "--python", str(home / "bin" / "python"), "install", "-q", "--no-deps", str(wheel)]
    subprocess.run(install, check=True)
    packages = next(home.glob("lib/python*/site-packages"))
    (packages / "needed.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return zipfile.ZipFile(wheel), home / "bin"


def output_of(commands: Path, *words: str) -> tuple[int, str]:
    done = subprocess.run(
        [str(commands / "uvmp"), *words], capture_output=True, text=True, check=False, cwd=commands, env=CHECKOUT
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.long
def test_a_wheel_is_pure_python_and_needs_no_compiler(tmp_path: Path) -> None:
    wheel, commands = installed("", tmp_path, CC="/nowhere/cc", PATH=f"{Path(sys.executable).parent}")
    assert wheel.filename is not None and wheel.filename.endswith("-py3-none-any.whl")
    assert not [name for name in wheel.namelist() if "_compiled" in name]
    assert "form: plain (it has not been built (UVMP_FORM=compiled pip install))" in output_of(commands, "--version")[1]
    code, text = output_of(commands, "explore", "E54", "--seed", "0")
    assert code == 1 and "finding: " in text


@pytest.mark.long
@pytest.mark.skipif(not has_compiler(), reason="there is no C compiler")
def test_a_wheel_can_have_the_compiled_form_in_it(tmp_path: Path) -> None:
    wheel, commands = installed("compiled", tmp_path)
    assert wheel.filename is not None and not wheel.filename.endswith("-any.whl")
    files = [name for name in wheel.namelist() if "_compiled" in name]
    assert sorted(files) == [
        f"shared/_compiled/{MANIFEST}", f"shared/_compiled/{LIBRARY}{sysconfig.get_config_var('EXT_SUFFIX')}"
    ]  # fmt: skip
    assert output_of(commands, "--version")[1].endswith("form: compiled (shared/_compiled is of these sources)\n")
    code, text = output_of(commands, "explore", "E54", "--seed", "0")
    assert code == 1 and "finding: " in text
    source = next(commands.parent.glob("lib/python*/site-packages/shared/uvm/page.py"))
    source.write_text(source.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    assert "form: plain (shared/uvm/page.py has changed since it was built" in output_of(commands, "--version")[1]


@pytest.mark.long
def test_a_wheel_with_a_form_that_cannot_be_built_is_refused(tmp_path: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        installed("compiled", tmp_path, CC="/nowhere/cc", PATH=f"{Path(sys.executable).parent}")
    assert not list(tmp_path.glob("*.whl"))
