"""The waits at the end of a run, from its records, as input of the wait-for graph (shared/detectors/waits.py)."""

from __future__ import annotations

import re

from cluster.postmortem.state import ContextState, Machine, Step
from cluster.postmortem.words import handle, kind_of, place, spins
from shared.detectors.waits import DAEMON, Busy, Facts, WaitGraph, rests
from shared.uvm.param import PG_BUSY
from shared.uvm.structs import uvmexp

FREE_MEMORY = f"{uvmexp}.free"
_NUMBER = re.compile(r"[0-9]{1,9}")


class Graph:
    """The wait-for graph.

    Args:
        procs: process -> its threads, in order of process numbers.
    """

    def __init__(self, machine: Machine, procs: dict[str, list[str]]):
        self.machine, self.procs = machine, procs
        self.graph = WaitGraph(self._facts())

    def _facts(self) -> Facts:
        machine, known = self.machine, self.machine.contexts
        blocked = {context.name: context.wait for context in self.blocked() if context.wait is not None}
        asleep = [wait.what for wait in blocked.values() if wait.kind == "sleep"]
        busy = {chan: self._busy(chan) for chan in asleep}
        procs = {chan: self._proc(chan) for chan in asleep}
        current = {f"{cpu}.ipi": on[-1] for cpu, on in machine.cpus.items() if on}
        return Facts(
            waits=blocked,
            ended=frozenset(context.name for context in known.values() if context.ended),
            stacks={context.name: [frame.fn for frame in context.stack] for context in known.values()},
            holders={name: lock.holders for name, lock in machine.locks.items()},
            queues={name: lock.waiters for name, lock in machine.locks.items()},
            busy={chan: cause for chan, cause in busy.items() if cause is not None},
            procs={chan: (name, self.procs[name]) for chan, name in procs.items() if name},
            supplies={FREE_MEMORY: (DAEMON, f"free memory{self._free()}")},
            cpus=current,
            sleepable=lambda lock: not spins(lock),
            place=place,
        )

    def blocked(self) -> list[ContextState]:
        """The contexts that wait for something that should have come."""
        return [
            context for context in self.machine.contexts.values() if context.wait is not None and not is_idle(context)
        ]

    def words(self, context: ContextState) -> str:
        """What a context waits for, in a sentence; "" if it does not, or waits for work."""
        return self.graph.words(context.name) if context.name in self.graph.facts.waits else ""

    def _free(self) -> str:
        """The amount of free memory, as far as the records tell."""
        words = {"free": "pages are free", "reserve_kernel": "are kept for the kernel"}
        known = {key: self.machine.value(f"{uvmexp}", key) for key in words}
        memory = ", ".join(f"{field.value} {words[key]}" for key, field in known.items() if field is not None)
        return f" ({memory})" if memory else ""

    def _proc(self, chan: str) -> str:
        """The process for whose end the sleepers of a channel wait, or ""."""
        owner, _, name = chan.partition(".")
        number = owner.removeprefix("proc:")
        if name != "p_stat" or not _NUMBER.fullmatch(number) or int(number) >= len(self.procs):
            return ""
        return list(self.procs)[int(number)]

    def _busy(self, chan: str) -> Busy | None:
        """Who made the page that is slept on BUSY, if it still is."""
        flags = self.machine.value(chan, "flags") if kind_of(chan) == "page" and "." not in chan else None
        if flags is None or not _is_busy(flags.value):
            return None
        tag = self.machine.value(chan, "owner_tag")
        why = tag.value if tag is not None and isinstance(tag.value, str) else ""
        step = self._made_busy(chan)
        return Busy("", tag=why) if step is None else Busy(step.record["ctx"], step.fn, step.record["n"], why)

    def _made_busy(self, page: str) -> Step | None:
        """The store that made a page BUSY."""
        for step in reversed(self.machine.steps):
            record = step.record
            if record["event"] != "store" or record.get("field") != "flags" or not _is_busy(record.get("value")):
                continue
            target = handle(record.get("obj"))
            before = step.old.value if step.old is not None else 0
            if target is not None and target[0] == page and not _is_busy(before):
                made: Step = step
                return made
        return None

    # -- chains --------------------------------------------------------------------

    def chains(self, start: str, forever: bool) -> tuple[list[str], list[str]]:
        """Sentences, each wait followed by what it waits for, and the first ring of contexts, if there is one.

        Args:
            start: the context to begin with, if it waits.
            forever: it is known that the machine was at rest.
        """
        shown: dict[str, str] = {}
        ring: list[str] = []
        for context in sorted(self.blocked(), key=lambda context: (context.name != start, context.name)):
            ring = ring or [name for name, _ in self.graph.cycle(context.name)]
            work = [context.name]
            while work:
                name = work.pop(0)
                now = self.machine.contexts.get(name)
                if name in shown or now is None or is_idle(now):
                    continue
                shown[name] = self.words(now) or f"{name} {self._last(now, forever)}"
                work[:0] = [edge.to for edge in self.graph.edges(name)]
        return list(shown.values()), ring

    def _last(self, context: ContextState, forever: bool) -> str:
        """Why the end of a chain blocks the others."""
        current = self.machine.cpus.get(context.cpu, [])
        if not context.ended and current and context.name not in current:
            return f"waits for its CPU, which {current[-1]} has"
        doing = self.machine.doing(context)
        return f"is {doing}, so the others cannot continue" if forever else f"was {doing} when its log ends"


def is_idle(context: ContextState) -> bool:
    """Does it wait for work, as it should?"""
    wait = context.wait
    return wait is not None and rests(context.name, wait.kind, wait.what)


def _is_busy(flags: object) -> bool:
    return isinstance(flags, int) and bool(flags & PG_BUSY)
