"""Search: the strategies that choose schedules, one file for each.

auto        a portfolio of those that choose at random
strategy    the protocol; the default schedule
walk        random walk
pct         probabilistic concurrency testing
near        pct, aimed at a site
pos         partial order sampling
rff         reads-from feedback
surw        selectively uniform random walk
dpor        optimal dynamic partial-order reduction: every class of executions once
readsfrom   every reads-from class of executions: orders of stores that are not read are the same
preemptions, delays  every class that a few of them lead to
deviate     follows the schedule of a token, as deviations from the default schedule
follow      follows the order of a journal
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cluster.search.auto import Auto
from cluster.search.delays import Delays
from cluster.search.dpor import Optimal
from cluster.search.near import Near, Site
from cluster.search.pct import Pct
from cluster.search.pos import Pos
from cluster.search.preemptions import Preemptions
from cluster.search.readsfrom import ReadsFrom
from cluster.search.rff import Rff
from cluster.search.strategy import Stay, Strategy, Systematic
from cluster.search.surw import Surw
from cluster.search.walk import RandomWalk
from shared.errors import UserMistake

#: those that take turns in `auto`, with their weights; NEAR: of PCT aimed at a site, if there is one
PORTFOLIO = {"surw": 4, "rff": 4, "pct": 2}
NEAR = 1
#: name of a strategy -> makes it, given a seed and a depth
STRATEGIES: dict[str, Callable[[int, int], Strategy]] = {
    "auto": lambda seed, depth: _auto(seed, depth, ()),
    "pct": Pct,
    "pos": lambda seed, depth: Pos(seed),
    "rff": lambda seed, depth: Rff(seed),
    "random": lambda seed, depth: RandomWalk(seed),
    "surw": lambda seed, depth: Surw(seed),
    "stay": lambda seed, depth: Stay(),
}

#: those that end when they have seen everything
SYSTEMATIC: dict[str, Callable[[], Systematic]] = {
    "delays": Delays,
    "dpor": Optimal,
    "preemptions": Preemptions,
    "reads-from": ReadsFrom,
}

#: those that choose at random
SEARCHING = tuple(name for name in STRATEGIES if name != "stay")


def _auto(seed: int, depth: int, sites: Sequence[Site]) -> Auto:
    weights = {**PORTFOLIO, "near": NEAR} if sites else PORTFOLIO
    return Auto({name: make(name, seed, depth, sites) for name in weights}, weights)


def portfolio(name: str, seed: int, depth: int, sites: Sequence[Site] = ()) -> Auto:
    """The strategies that take turns under this name; of most there is one. near: pct aimed at the sites."""
    if name == "auto":
        return _auto(seed, depth, sites)
    return Auto({name: make(name, seed, depth, sites)})


def make(name: str, seed: int, depth: int, sites: Sequence[Site] = ()) -> Strategy:
    """A strategy by name.

    Args:
        sites: where a defect may be, for those that can be aimed; "near" wants one.

    Raises: UserMistake - there is none of that name.
    """
    if name == "auto":
        return _auto(seed, depth, sites)
    if name == "near" and sites:
        return Near(sites, seed, depth)
    if name in SYSTEMATIC:
        return SYSTEMATIC[name]()
    if name not in STRATEGIES:
        raise UserMistake(f"there is no strategy {name!r}; known: {', '.join([*STRATEGIES, *SYSTEMATIC])}")
    return STRATEGIES[name](seed, depth)
