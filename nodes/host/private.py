"""Folders and files for their user alone (modes 0700 and 0600), with any umask.

All that uvmp makes is made here: a journal has the source of a user's patch beside it, and a folder of a session a
token.

Left out: folders that exist already, which keep their mode; what Ray makes, which is in one of these folders
(cluster/live/actors.py); the compiled form (cluster/compiled), which anybody may read.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def make_folder(path: Path, exist_ok: bool = False) -> None:
    """Make a folder, and those above it that are missing.

    Raises: FileExistsError - it exists, unless `exist_ok`; OSError.
    """
    try:
        _make(path, exist_ok)
    except FileNotFoundError:
        if path.parent == path:
            raise
        make_folder(path.parent, exist_ok=True)  # (of mkdir's own `parents`, these would have the usual mode)
        _make(path, exist_ok)


def _make(path: Path, exist_ok: bool) -> None:
    """Make a folder in another that exists."""
    try:
        path.mkdir(0o700)
    except FileExistsError:
        if not exist_ok or not path.is_dir():
            raise
        return
    _keep_rights(path)


def _keep_rights(path: Path) -> None:
    """The user of a new folder has all rights in it, with an umask like 0277, too."""
    if path.stat().st_mode & 0o700 != 0o700:  # (not all file systems let a mode be changed)
        path.chmod(0o700)


def temporary(prefix: str, place: str | None = None) -> Path:
    """Make a folder whose name begins so.

    Args:
        place: the folder in which to make it; None: the one for temporary folders.

    Raises: OSError.
    """
    path = Path(tempfile.mkdtemp(prefix=prefix, dir=place))
    _keep_rights(path)
    return path


def private(name: str, flags: int) -> int:
    """For `open(..., opener=private)`: the descriptor of a file; a new one is for the user alone.

    Raises: OSError.
    """
    try:
        file = os.open(name, flags | os.O_EXCL, 0o600) if flags & os.O_CREAT else os.open(name, flags)
    except FileExistsError:
        if flags & os.O_EXCL:
            raise
        return os.open(name, flags, 0o600)
    if flags & os.O_CREAT and os.fstat(file).st_mode & 0o600 != 0o600:
        os.fchmod(file, 0o600)
    return file
