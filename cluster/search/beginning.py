"""An execution whose beginning is given, and behind which a strategy chooses."""

from __future__ import annotations

from collections.abc import Sequence

from cluster.search.follow import Order
from cluster.search.strategy import Strategy
from nodes.cpu import Thread


class Continue(Strategy):
    """A total order of operations to its end, which need not be that of the execution, and then another strategy.

    Args:
        first: the order.
        then: the strategy that chooses behind it; it sees nothing of what came before.

    Attributes:
        now: who chooses behind it in this execution.
        following: the end of the order has not been reached.
    """

    def __init__(self, first: Order, then: Strategy):
        self.first, self.then = first, then
        self.now = then
        self.following = True

    def new_execution(self) -> bool:
        self.following = self.first.new_execution()
        begun = self.then.new_execution()
        self.now = self.then.chooser()
        return begun

    def repeats(self) -> bool:
        return self.following

    def detailed(self) -> bool:
        return self.following

    def everywhere(self) -> bool:
        return self.now.everywhere()

    def _follows(self) -> bool:
        """Is there anything left of the order?"""
        if self.following and self.first.over():
            self.following = False
            self.now.begins(self.first.threads, self.first.ran)
        return self.following

    def pick(self, enabled: Sequence[Thread], current: Thread | None) -> Thread | None:
        return self.first.pick(enabled, current) if self._follows() else self.now.pick(enabled, current)

    def choose(self, n: int) -> int:
        return self.first.choose(n) if self._follows() else self.now.choose(n)

    def performed(self, code: str, target: int, args: tuple[object, ...]) -> None:
        if not self.following:
            self.now.performed(code, target, args)

    def caused(self, thread: Thread) -> None:
        if not self.following:
            self.now.caused(thread)

    def grown(self) -> None:
        self.then.grown()

    def stays(self) -> int:
        return 0 if self.following else self.now.stays()

    def passed(self, points: int) -> None:
        self.now.passed(points)
