"""What a process says of itself: where it runs, and of which source. The source must be equal in a whole machine."""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from time import time
from types import MappingProxyType
from typing import NamedTuple

import shared

#: the packages whose source an actor runs
PACKAGES = ("nodes", "shared")


class Here(NamedTuple):
    """A process.

    Attributes:
        host: name of its computer.
        node: of Ray's, its id.
        python, ray, uvmp: versions.
        token: do its Ray node's services want a token?
        clock: its time, in seconds since 1970.
        source: file -> digest, of every module of `nodes` and `shared`.
    """

    pid: int
    host: str
    node: str
    python: str
    ray: str
    uvmp: str
    token: bool
    clock: float
    source: dict[str, str]


def here(node: str, ray: str) -> Here:
    """This process, on a node of Ray's, with its version of Ray."""
    own, token = own_version(), os.environ.get("RAY_AUTH_MODE", "").lower() == "token"
    return Here(
        os.getpid(), os.uname().nodename, node, platform.python_version(), ray, own, token, time(), dict(sources())
    )


def own_version() -> str:
    """The version of uvmp that is installed."""
    try:
        return version("uvmp")
    except PackageNotFoundError:
        return "unknown"


@cache
def sources() -> Mapping[str, str]:
    """12 hex digits for each source file, by its name from the folder of the packages."""
    root = Path(shared.__file__).resolve().parents[1]
    files = sorted(file for package in PACKAGES for file in (root / package).rglob("*.py"))
    return MappingProxyType(
        {file.relative_to(root).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()[:12] for file in files}
    )


def unlike(theirs: Mapping[str, str], ours: Mapping[str, str]) -> str:
    """In which files two sources differ, in words; "": they are equal."""
    files = sorted(name for name in theirs.keys() | ours.keys() if theirs.get(name) != ours.get(name))
    more = f" and {len(files) - 1} more" if len(files) > 1 else ""
    return f"{files[0]}{more}" if files else ""
