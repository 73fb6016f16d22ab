"""How many classes of executions a scenario has, estimated from a few random executions.

A random walk comes to an execution with some probability p. In the same way it would come to it with probability r, if
it chose only what leads to an execution of the same class: the r of a class are 1 together, so the mean of r / p is the
number of classes. (Knuth, 1975, estimates the size of a search tree so; here the orders of one class count once.) The
walk stays with a context for a while. How long as a rule is chosen anew for each execution; p and r are means over it.

The estimate is right on average. Its distribution is skewed: a few executions of rare classes have most of the sum, so
an estimate is more often too small than too large. It tells the order of magnitude.

Left out: classes within a bound.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from math import exp, log
from typing import NamedTuple

from cluster.boot import prepare
from cluster.search.dpor import Optimal
from cluster.search.trace import Event
from cluster.sim.engine import Sim, seldom_collected
from nodes.cpu import Thread
from shared.scenario.model import Scenario

#: how probable it is that a context continues, beyond its share; one is chosen for each execution
STAYS = (0.0, 0.5, 0.9, 0.97)
#: random executions
SAMPLES = 100


class Choice(NamedTuple):
    """A choice of the walk.

    Attributes:
        threads: that could continue; (): it was a choice of data.
        current: the context that could continue without a switch.
        of: how many there were to choose from.
    """

    threads: tuple[str, ...]
    current: str | None
    of: int


class Walk(Optimal):
    """A random walk whose class is known.

    Attributes:
        stay: how probable it is that a context continues, beyond its share.
        choices: of this execution, so far.
    """

    def __init__(self, seed: int):
        self.dice = random.Random(seed)
        super().__init__()

    def new_execution(self) -> bool:
        self.grown()
        self.stay = self.dice.choice(STAYS)
        self.choices: list[Choice] = []
        return super().new_execution()

    def _prefer(self, awake: Sequence[Thread], current: Thread | None) -> Thread:
        name = None if current is None else current.name
        self.choices.append(Choice(tuple(thread.name for thread in awake), name, len(awake)))
        if current is not None and self.dice.random() < self.stay:
            return current
        return self.dice.choice(awake)

    def _prefer_of(self, values: Sequence[int]) -> int:
        self.choices.append(Choice((), None, len(values)))
        return self.dice.choice(values)

    def weight(self) -> float:
        """How many classes the last execution stands for."""
        events = self.whole().events
        ahead: dict[str, list[Event]] = {}
        for event in reversed(events[self.given :]):
            ahead.setdefault(event.thread, []).append(event)
        done = [0] * self.trace.width()
        for event in events[: self.given]:
            done[event.cpu] = event.number
        ways = Chances(), Chances()
        for choice, event in zip(self.choices, events[self.given :], strict=True):
            if choice.threads:
                same = [name for name in choice.threads if ahead.get(name) and _could_come(ahead[name][-1], done)]
                for chances, threads in zip(ways, (same, choice.threads), strict=True):
                    chances.take(event.thread, threads, choice.current)
            else:
                ways[1].logs = [so_far - log(choice.of) for so_far in ways[1].logs]
            ahead[event.thread].pop()
            done[event.cpu] = event.number
        return exp(ways[0].together() - ways[1].together())


class Chances:
    """How probable the walk's choices are.

    Attributes:
        logs: for each of STAYS, the logarithm of the probability of the choices so far.
    """

    def __init__(self) -> None:
        self.logs = [0.0] * len(STAYS)

    def take(self, thread: str, threads: Sequence[str], current: str | None) -> None:
        """A context of these continues."""
        share = 1 / len(threads)
        for at, stay in enumerate(STAYS if current in threads else (0.0,) * len(STAYS)):
            self.logs[at] += log(share * (1 - stay) + stay * (thread == current))

    def together(self) -> float:
        """The logarithm of the probability, whichever of STAYS it was, but for a constant."""
        most = max(self.logs)
        return most + log(sum(exp(chance - most) for chance in self.logs))


def _could_come(event: Event, done: Sequence[int]) -> bool:
    """Has all that happened before an event been done? Done are so many events of each processor."""
    return all(count <= done[cpu] + (cpu == event.cpu) for cpu, count in enumerate(event.clock))


@seldom_collected()
def estimate(scenario: Scenario, racy: set[str] | None = None, granularity: str = "guarded", seed: int = 0) -> float:
    """About how many classes the executions of a scenario have.

    Args:
        racy: fields that are known to be scheduling points; as more become known, it begins anew.
    """
    sim, walk = Sim(*prepare(scenario), set(racy or ()), granularity), Walk(seed)
    weights: list[float] = []
    while len(weights) < SAMPLES:
        known = len(sim.racy)
        sim.execute(walk)
        weights.append(walk.weight())
        if len(sim.racy) > known:
            weights.clear()
    return sum(weights) / len(weights)


def about(classes: float) -> str:
    """With the digits that mean something."""
    return f"{float(f'{classes:.1g}'):,.0f}" if classes < 1e6 else f"{classes:.0e}"
