"""Search: the strategies that choose schedules, one file for each.

strategy    the protocol; the default schedule
walk        random walk
pct         probabilistic concurrency testing
follow      follows a given schedule: the deviations of a token, or the order of a journal
"""

from __future__ import annotations

from collections.abc import Callable

from cluster.search.pct import Pct
from cluster.search.strategy import Stay, Strategy
from cluster.search.walk import RandomWalk
from shared.errors import UserMistake

#: name of a strategy -> makes it, given a seed and a depth
STRATEGIES: dict[str, Callable[[int, int], Strategy]] = {
    "pct": Pct,
    "random": lambda seed, depth: RandomWalk(seed),
    "stay": lambda seed, depth: Stay(),
}

#: those that choose; the others have one schedule
SEARCHING = tuple(name for name in STRATEGIES if name != "stay")


def make(name: str, seed: int, depth: int) -> Strategy:
    """A strategy by name; UserMistake if there is none of that name."""
    if name not in STRATEGIES:
        raise UserMistake(f"there is no strategy {name!r}; known: {', '.join(STRATEGIES)}")
    return STRATEGIES[name](seed, depth)
