"""Strategies that follow a given schedule: a token's deviations, or a journal's order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from cluster.strategies import default
from nodes.cpu import Thread
from shared.deviation import Deviation
from shared.errors import Diverged

if TYPE_CHECKING:
    from cluster.sim import Sim


class Deviate:
    """The default schedule with deviations.

    Args:
        sim: the engine, asked where it is.
        strict: a deviation that cannot be taken is an error, not skipped.
    """

    def __init__(self, sim: Sim, deviations: Sequence[Deviation], strict: bool = True):
        self.sim, self.deviations, self.strict = sim, list(deviations), strict

    def new_execution(self) -> None:
        self.left = list(reversed(self.deviations))
        self.taken = 0
        self.skipped: list[Deviation] = []

    def pick(self, enabled: Sequence[Thread], current: Thread | None) -> Thread:
        if self.left:
            ran, n, kind, to = self.left[-1]
            if self.sim.key() == (ran, n, kind):
                deviation = self.left.pop()
                for one in enabled:
                    if one.name == to:
                        self.taken += 1
                        return one
                if self.strict:
                    able = ", ".join(one.name for one in enabled)
                    raise Diverged(f"{to} to go on after operation {n} of {ran}", f"only {able} can")
                self.skipped.append(deviation)
        return default(enabled, current, self.sim.execution.last)

    def finish(self) -> None:
        """After the run: every deviation must have been met."""
        if self.left and self.strict:
            ran, n, _, to = self.left[-1]
            raise Diverged(f"{ran} to reach operation {n}, there to go on with {to}", "the run ended before that")


class Order:
    """A total order of operations, as `shared.journal.linearize` gives it.

    Wants granularity "access": then every operation that another node admits
    is preceded by a scheduling point.

    Args:
        events: what `shared.journal.events_after` gives, if the execution is recorded: then a context that has
            waited goes on before an interrupt is taken, or afterwards, as it did.
    """

    def __init__(self, sim: Sim, order: Sequence[dict[str, Any]], events: dict[str, list[int]] | None = None):
        self.sim, self.order, self.threads = sim, order, sim.machine.threads
        self.events = events or {}

    def new_execution(self) -> None:
        self.at = 0

    def pick(self, enabled: Sequence[Thread], current: Thread | None) -> Thread:
        order, threads = self.order, self.threads
        while self.at < len(order) and order[self.at]["n"] <= threads[order[self.at]["ctx"]].n:
            self.at += 1
        if self.events and (self.at == len(order) or order[self.at]["event"] == "intr"):
            for one in enabled:
                if one.waits is not None and not one.parked and self._has_more_to_say(one):
                    return one
        if self.at == len(order):
            raise Diverged("the run to end here, as the journal does", f"{enabled[0].name} can go on")
        wanted = order[self.at]
        for one in enabled:
            if one.name == wanted["ctx"]:
                return one
        able = ", ".join(one.name for one in enabled)
        raise Diverged(
            f"{wanted['ctx']} to perform operation {wanted['n']} ({wanted['event']})", f"only {able} can go on"
        )

    def _has_more_to_say(self, one: Thread) -> bool:
        """Are there kernel events of its processor yet to come before the processor's next operation?"""
        assert self.sim.journals is not None
        k: int = one.processor.k
        done = 0
        for record in reversed(self.sim.journals[one.cpu].records):
            if record.get("at") != k:
                break
            done += 1
        events = self.events.get(one.cpu, [])
        return k < len(events) and done < events[k]
