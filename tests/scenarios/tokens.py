"""Tokens of scenarios whose defect needs one exact interleaving; `make tokens` finds them anew when the kernel changes.

A token is good for one kernel only, so a change of the kernel makes all of them
useless at once. A test then says so, and this module searches again, within the
scenario's bound, seed 0.
"""

from __future__ import annotations

from pathlib import Path

from cluster.search.explore import explore
from tests.kit import scenario

FILE = Path(__file__).with_suffix(".txt")
#: scenarios whose defect one strategy finds and the others hardly ever do, with that strategy
EXACT = {"S3c-race": "pct", "S3h-freed": "pct", "E23-panic": "random", "E31-shipped": "pct"}


def shipped() -> dict[str, str]:
    """Scenario -> its token, as the file has them."""
    return {line.split(".")[1]: line for line in FILE.read_text(encoding="ascii").split()}


def renew() -> None:
    """Search again, and write the file."""
    tokens = []
    for name, strategy in EXACT.items():
        result = explore(scenario(name), strategy)
        if result.token is None:
            raise SystemExit(f"{name}: nothing found in {result.schedules} schedules; the file stays as it was")
        print(f"{name}: schedule {result.found_at}, {len(result.deviations)} deviations")
        tokens.append(str(result.token))
    FILE.write_text("\n".join(tokens) + "\n", encoding="ascii")


if __name__ == "__main__":
    renew()
