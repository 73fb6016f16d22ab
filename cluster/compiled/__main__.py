"""`make compiled`, `make setup` and the build of a wheel."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from cluster.compiled.build import CannotBuild, build, compiler, load
from shared.form import BUILT, ROOT, unusable


def main() -> int:
    """Build the compiled form. Returns: exit code."""
    parser = argparse.ArgumentParser(prog="python -m cluster.compiled", description=main.__doc__)
    parser.add_argument("--if-possible", action="store_true", help="unless there is one; without it, uvmp runs plain")
    parser.add_argument("folder", nargs="?", type=Path, default=BUILT, help="of the compiled form")
    wanted = parser.parse_args()
    if wanted.if_possible and not unusable(ROOT, wanted.folder):
        return 0
    began = time.monotonic()
    try:
        compiler()
        how = "; to go on without: make FORM=plain" if wanted.if_possible else ""
        print(f"== compiling the engine and the kernel (a minute or two{how})", flush=True)
        count = build(folder=wanted.folder.resolve())
        if wanted.folder == BUILT:
            load()
    except KeyboardInterrupt:
        print("interrupted: no compiled form was built", file=sys.stderr)
        return 130
    except Exception as why:
        if not wanted.if_possible:
            if not isinstance(why, CannotBuild):
                raise
            print(f"cannot build the compiled form: {why}", file=sys.stderr)
            return 1
        reason = (str(why).splitlines() or [type(why).__name__])[0]
        print(f"== no compiled form, uvmp runs as plain Python, four times as slow: {reason:.200}")
        return 0
    print(f"built the compiled form in {time.monotonic() - began:.0f} s; {count} files of C were compiled")
    return 0


if __name__ == "__main__":
    sys.exit(main())
