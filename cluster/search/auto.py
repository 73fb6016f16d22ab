"""The portfolio: several strategies take turns, and a strategy that comes to something new has more turns.

No strategy is the best for all programs: what one never comes to, another finds at once. The executions come in
batches. In a batch each strategy has one turn, and the rest are dealt out in proportion to its weight and to how often
it has come to a happens-before class that was not known, or to a finding. The shares are decided between batches alone,
and by counts alone, so a seed means one search.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cluster.search.strategy import Strategy
from nodes.cpu import Thread

#: turns of a batch, for each unit of weight
TURNS = 2
#: a finding counts as so many new classes
FINDING = 10


class Auto(Strategy):
    """Several strategies in one.

    Args:
        strategies: by their names.
        weights: by the same names; default: all have 1.

    Attributes:
        turns: of this batch, those to come; the next one last. Invariant: each is of a strategy that may have an
            execution left to try.
        spent: executions that each strategy has chosen. gained: new classes that they have shown.
        name: of the strategy that chooses in this execution; "": none has.
    """

    def __init__(self, strategies: Mapping[str, Strategy], weights: Mapping[str, int] | None = None):
        self.strategies = dict(strategies)
        self.weights = dict.fromkeys(strategies, 1) if weights is None else dict(weights)
        self.turns: list[str] = []
        self.spent = dict.fromkeys(self.strategies, 0)
        self.gained = dict.fromkeys(self.strategies, 0)
        self.name = ""

    def new_execution(self) -> bool:
        while self.strategies:
            self.name = self.deal()
            if self.strategies[self.name].new_execution():
                return True
            del self.strategies[self.name]  # it has none left to try
            self.turns = [name for name in self.turns if name != self.name]
        return False

    def deal(self) -> str:
        """Whose turn is the next one."""
        if not self.turns:
            self.turns = self._batch()
        name = self.turns.pop()
        self.spent[name] += 1
        return name

    def _batch(self) -> list[str]:
        """The turns of the next batch, evenly mixed."""
        names = list(self.strategies)
        count = TURNS * sum(self.weights[name] for name in names)
        rates = {name: self.weights[name] * (self.gained[name] + 1) / (self.spent[name] + 1) for name in names}
        total = sum(rates.values())
        shares = {name: 1 + (count - len(names)) * rates[name] / total for name in names}
        turns: list[str] = []
        due = dict.fromkeys(names, 0.0)
        for _ in range(count):
            for name in names:
                due[name] += shares[name]
            name = max(names, key=due.__getitem__)
            due[name] -= count
            turns.append(name)
        return turns[::-1]

    def chooser(self) -> Strategy:
        return self.strategies[self.name].chooser()

    def turn(self) -> str:
        return self.name

    def learns(self) -> bool:
        return True

    def reward(self, new: bool, finding: bool) -> None:
        self.credit(self.name, new, finding)

    def credit(self, name: str, new: bool, finding: bool) -> None:
        """A turn of this strategy has come to a new class, or to a finding."""
        self.gained[name] += new + FINDING * finding

    def pick(self, enabled: Sequence[Thread], current: Thread | None) -> Thread | None:
        return self.chooser().pick(enabled, current)

    def choose(self, n: int) -> int:
        return self.chooser().choose(n)
