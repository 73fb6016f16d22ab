"""Digests of every scenario's journals under two schedules; `make digests` writes them anew.

A change of the house must leave them as they are: who renews them has decided that journals change. Of each
scenario, with its errata and without: the digest under the default schedule, and under the random walk of seed 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from cluster.search.strategy import Stay
from cluster.search.walk import RandomWalk
from tests.kit import SHIPPED, run_recorded, scenario

FILE = Path(__file__).with_suffix(".txt")
#: characters of a digest that are kept
KEPT = 16


def measured(name: str) -> list[str]:
    """The lines of a scenario: NAME KERNEL DEFAULT RANDOM."""
    lines = []
    for kernel, scene in (("errata", scenario(name)), ("fixed", scenario(name).without_errata())):
        digests = (run_recorded(scene, strategy).digest[:KEPT] for strategy in (Stay(), RandomWalk(1)))
        lines.append(" ".join((name, kernel, *digests)))
    return lines


def committed() -> Iterator[str]:
    """The lines of the file."""
    yield from FILE.read_text(encoding="ascii").splitlines()


def renew() -> None:
    """Write the file."""
    with ProcessPoolExecutor(2) as pool:
        lines = [line for rows in pool.map(measured, SHIPPED) for line in rows]
    FILE.write_text("\n".join(lines) + "\n", encoding="ascii")


if __name__ == "__main__":
    renew()
