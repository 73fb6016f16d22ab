"""The script `uvmp`, before anything of ours is imported.

Our import names (`cluster`, `nodes`, `shared`) are common words. Another
distribution of such a name, in the same environment or on PYTHONPATH, takes the
place of ours, or its files lie among ours; a traceback would not explain that.
This module has a name of its own and looks first. It imports nothing of ours
before it has looked.
"""

from __future__ import annotations

import json
import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

PACKAGES = ("cluster", "nodes", "shared")
INFRASTRUCTURE, INTERRUPTED = 5, 130  # as shared.errors.Exit has them


def main() -> NoReturn:
    """What the script calls."""
    _open_streams()
    wrong = foreign(Path(__file__).resolve().parent)
    if wrong is None:
        try:
            from cluster.cli import main as command
        except KeyboardInterrupt:
            print("uvmp: interrupted", file=sys.stderr)
            sys.exit(INTERRUPTED)
        except ImportError as error:
            wrong = f"uvmp's packages are not whole, or mixed with another distribution's: {error}"
            if error.name and error.name.split(".")[0] not in PACKAGES:
                wrong = f"uvmp needs the package {error.name}, which cannot be imported: {error}"
    if wrong is None:
        command()
    complain(wrong)


def foreign(home: Path) -> str | None:
    """Which package would be imported from elsewhere than `home`, where ours are; None: none."""
    for name in PACKAGES:
        spec = find_spec(name)
        folder = Path(spec.origin).resolve().parent if spec is not None and spec.origin else None
        if folder is None:
            return f"the package {name} is not found beside {home}/uvmp.py"
        if folder != home / name:
            return f"another distribution's package {name} takes the place of uvmp's: {folder} ({_owner(name)})"
    return None


def _owner(name: str) -> str:
    """Whose package it is, as far as the environment knows."""
    from importlib.metadata import packages_distributions

    owners = sorted(set(packages_distributions().get(name, ())) - {"uvmp"})
    return f"installed by {', '.join(owners)}" if owners else "which no installed distribution has"


def complain(wrong: str) -> NoReturn:
    """The error, and what to do."""
    advice = "install uvmp into an environment of its own (python3 -m venv), and see that PYTHONPATH is empty"
    try:
        print(f"uvmp: error: {wrong}\n{advice}", file=sys.stderr, flush=True)
        if "--json" in sys.argv:
            document = {"error": {"message": f"{wrong}; {advice}", "exit": INFRASTRUCTURE}}
            print(json.dumps(document, indent=2), flush=True)
    except OSError:
        os._exit(INFRASTRUCTURE)  # the reader has gone: Python would complain of that when it ends
    sys.exit(INFRASTRUCTURE)


def _open_streams() -> None:
    """Who starts us with a stream closed gets nothing on it; the next file that we open must not take its number."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            stream = open(os.devnull, mode, encoding="utf-8")  # noqa: SIM115 - gets the lowest free number
            setattr(sys, name, stream)


if __name__ == "__main__":
    main()
