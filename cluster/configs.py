"""Finds scenario and machine files: by path, or by id among the shipped files.

The shipped files are in `shared/_configs` of an installed wheel, and in
`configs/` of a checkout. The name of a file is the id of its scenario or the
name of its machine.
"""

from __future__ import annotations

import difflib
import os
import stat
from dataclasses import dataclass
from pathlib import Path

import shared
from shared.errors import Infrastructure, UserMistake
from shared.scenario.load import load_scenario
from shared.scenario.model import Scenario
from shared.scenario.yaml import MAX_BYTES, meant, show
from shared.text import reason

SUFFIXES = (".yaml", ".yml")
MAX_NEAR, FILE_EXAMPLE = 4, "my.yaml"


@dataclass(frozen=True, slots=True)
class Source:
    """A scenario and where it came from.

    Attributes:
        path: its file, if the user named one; None: the scenario comes with uvmp.
    """

    scenario: Scenario
    path: str | None


def root() -> Path:
    """The folder of the scenarios and machines that come with uvmp.

    Raises: Infrastructure - the installation lacks them.
    """
    package = Path(shared.__file__).resolve().parent
    for folder in (package / "_configs", package.parent / "configs"):
        if (folder / "scenarios").is_dir():
            return folder
    raise Infrastructure(
        f"the scenarios that come with uvmp are missing: neither {package}/_configs nor configs/ beside it"
    )


def names(kind: str) -> list[str]:
    """Ids of what comes with uvmp, sorted.

    Args:
        kind: "scenarios" or "machines".
    """
    return sorted(path.stem for path in (root() / kind).glob("*.yaml"))


def is_path(text: str) -> bool:
    """Does this mean a file, and not an id?"""
    return "/" in text or text.endswith(SUFFIXES)


def scenario(text: str, field: str = "SCENARIO") -> Source:
    """The scenario that the user means: a path, an id, or the name in a shipped file.

    Raises: UserMistake - there is none such, or its file is wrong.
    """
    if is_path(text):
        return Source(_load(Path(text), text), text)
    known = names("scenarios")
    if text in known:
        return Source(shipped(text), None)
    same = [name for name in known if name.lower() == text.lower()]
    for name in same or known:
        scene = shipped(name)
        if same or scene.name == text:
            return Source(scene, None)
    if os.path.isfile(text):
        return Source(_load(Path(text), text), text)
    for suffix in SUFFIXES:
        if text and os.path.exists(f"{text}{suffix}"):
            raise UserMistake(f"there is no scenario {show(text)}; did you mean the file {text}{suffix}?", field=field)
    raise UserMistake(f"there is no scenario {show(text)}{_like(text, known)}", field=field)


def _like(text: str, known: list[str]) -> str:
    """Ids to try instead of an unknown id, in words."""
    short = text.lower()
    close = [name for name in known if short and name.lower().startswith(short)]
    close += difflib.get_close_matches(short, [name.lower() for name in known], n=3, cutoff=0.5)
    near = [name for name in known if name in close or name.lower() in close][:MAX_NEAR]
    hint = f" (did you mean {' or '.join(near)}?)" if near else ""
    return f"{hint}; `uvmp scenarios` lists them; a file is given with its path, as ./{FILE_EXAMPLE}"


def shipped(ident: str) -> Scenario:
    """A scenario that comes with uvmp, by its id."""
    path = root() / "scenarios" / f"{ident}.yaml"
    return _load(path, shown(path))


def machine(text: str) -> tuple[str, str]:
    """Text and file name of a machine by its name, or by its path; what `load_scenario` asks.

    Raises: UserMistake - there is none such.
    """
    if is_path(text):
        return read(Path(text), text), text
    known = names("machines")
    if text not in known:
        raise UserMistake(f"there is no machine {show(text)}{meant(text, known)}; known: {', '.join(known)}")
    path = root() / "machines" / f"{text}.yaml"
    return read(path, shown(path)), shown(path)


def shown(path: Path) -> str:
    """A path as a message should show it: relative, if it lies below the current folder."""
    try:
        return str(path.relative_to(Path.cwd()))
    except (ValueError, OSError):
        return str(path)


def read(path: Path, name: str) -> str:
    """A small text file.

    Raises: UserMistake - it does not exist, is not a file, is too long or not UTF-8.
    """
    try:
        # O_NONBLOCK: opening a FIFO without a writer would not end
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as stream:
            mode = os.fstat(stream.fileno()).st_mode
            if not stat.S_ISREG(mode):
                raise UserMistake(f"{'a folder' if stat.S_ISDIR(mode) else 'a FIFO or device'}, not a file", file=name)
            data = stream.read(MAX_BYTES + 1)
    except IsADirectoryError:
        raise UserMistake("a folder, not a file", file=name) from None
    except (OSError, ValueError) as error:  # ValueError: a path with a null character
        raise UserMistake(reason(error), file=name) from None
    if len(data) > MAX_BYTES:
        raise UserMistake(f"longer than {MAX_BYTES // 1024} KiB", file=name)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UserMistake("not UTF-8 text", file=name, line=line) from None


def _load(path: Path, name: str) -> Scenario:
    def beside(wanted: str) -> tuple[str, str]:
        return _machine_file(path, wanted) if is_path(wanted) else machine(wanted)

    return load_scenario(read(path, name), name, beside)


def _machine_file(scenario: Path, wanted: str) -> tuple[str, str]:
    """A machine's file that a scenario names by its path: below its own folder, wherever a link leads.

    So a scenario of another person cannot read files elsewhere.

    Raises: UserMistake - it lies elsewhere, or cannot be read.
    """
    try:
        file = (scenario.parent / wanted).resolve()
        inside = any(file.is_relative_to(folder) for folder in (scenario.parent.resolve(), root().resolve()))
    except (OSError, ValueError, RuntimeError):  # a link to itself, a null character
        raise UserMistake(f"{show(wanted)} cannot be found") from None
    if not inside:
        raise UserMistake(f"{show(wanted)} lies outside of the folder of the scenario's file")
    return read(file, str(scenario.parent / wanted)), str(scenario.parent / wanted)
