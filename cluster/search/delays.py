"""Every class of executions that a few delays lead to (bounded.py).

A *delay* passes over the context whose turn it is by default (Emmi, Qadeer, Rakamaric, POPL 2011). A delay moved
elsewhere is another schedule, so nothing is left out but places where the search has been.
"""

from __future__ import annotations

from collections.abc import Sequence

from cluster.search.bounded import Bounded, Place
from nodes.cpu import Thread


class Delays(Bounded):
    """At most so many delays of the default schedule, in which contexts continue in turn."""

    def _options(self, place: Place, candidates: Sequence[Thread], current: Thread | None) -> list[tuple[Thread, int]]:
        left = self.bound - place.spent + 1
        self.limited |= left < len(candidates)
        return [(thread, cost) for cost, thread in enumerate(self._from(candidates, current)[:left])]

    def _favourite(self, current: Thread | None) -> str:
        return f"{super()._favourite(self.thread)} {current is None}"
