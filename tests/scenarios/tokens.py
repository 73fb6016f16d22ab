"""Tokens of scenarios whose defect needs one exact interleaving; `make tokens` finds them anew when the kernel changes.

A token is good for one kernel only, so a change of the kernel makes all of them
useless at once. A test then says so, and this module searches again: with the
scenario's own strategy and bound, seed 0.
"""

from __future__ import annotations

from pathlib import Path

from cluster.search.explore import explore
from tests.kit import scenario

FILE = Path(__file__).with_suffix(".txt")
#: scenarios that one of the strategies does not find at all (see ONE_STRATEGY in test_shipped.py)
EXACT = ("S3c-race", "S3h-freed", "E23-panic", "E31-shipped")


def shipped() -> dict[str, str]:
    """Scenario -> its token, as the file has them."""
    return {line.split(".")[1]: line for line in FILE.read_text(encoding="ascii").split()}


def renew() -> None:
    """Search again, and write the file."""
    tokens = []
    for name in EXACT:
        found = explore(scenario(name))
        if found.token is None:
            raise SystemExit(f"{name}: nothing found in {found.schedules} schedules; the file stays as it was")
        print(f"{name}: schedule {found.found_at}, {len(found.deviations)} deviations")
        tokens.append(str(found.token))
    FILE.write_text("\n".join(tokens) + "\n", encoding="ascii")


if __name__ == "__main__":
    renew()
