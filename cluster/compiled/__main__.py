"""`make compiled`."""

from __future__ import annotations

import sys
import time

from cluster.compiled.build import CannotBuild, build

if __name__ == "__main__":
    began = time.monotonic()
    try:
        count = build()
    except CannotBuild as why:
        print(f"cannot build the compiled form: {why}", file=sys.stderr)
        sys.exit(1)
    print(f"built the compiled form in {time.monotonic() - began:.0f} s; {count} files of C were compiled")
