"""Folders and files for their user alone (modes 0700 and 0600), with any umask.

All that uvmp makes is made here: a journal has the source of a user's patch beside it, and a folder of a session a
token.

Left out: folders that exist already, which keep their mode; temporary folders, which `tempfile` makes so; what Ray
makes, which is in one of those (cluster/live/actors.py); the compiled form (cluster/compiled), which anybody may read.
"""

from __future__ import annotations

import os
from pathlib import Path


def make_folder(path: Path, exist_ok: bool = False) -> None:
    """Make a folder, and those above it that are missing.

    Raises: FileExistsError - it exists, unless `exist_ok`; OSError.
    """
    try:
        path.mkdir(0o700, exist_ok=exist_ok)
    except FileNotFoundError:
        if path.parent == path:
            raise
        make_folder(path.parent, exist_ok=True)  # (of mkdir's own `parents`, these would have the usual mode)
        path.mkdir(0o700, exist_ok=exist_ok)


def private(name: str, flags: int) -> int:
    """For `open(..., opener=private)`: the descriptor of a file; a new one is for the user alone.

    Raises: OSError.
    """
    return os.open(name, flags, 0o600)
