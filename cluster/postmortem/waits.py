"""Who waits for whom at the end, and why: the wait-for graph, in words.

An edge leads from a context to one that would have to do something for it to go
on: release a lock, finish with a busy page, exit, acknowledge a shootdown.
"""

from __future__ import annotations

import re

from cluster.postmortem.state import ContextState, Hold, Machine, Step, Wait
from cluster.postmortem.words import handle, idles, kind_of, place, spins
from shared.uvm.param import PG_BUSY
from shared.uvm.structs import uvm, uvmexp

DAEMON, DAEMON_SLEEPS = "pagedaemon", f"{uvm}.pagedaemon"
FREE_MEMORY = f"{uvmexp}.free"
_NUMBER = re.compile(r"[0-9]{1,9}")


class Graph:
    """Who waits for whom.

    Args:
        procs: process -> its threads, in order of process numbers.
    """

    def __init__(self, machine: Machine, procs: dict[str, list[str]]):
        self.machine, self.procs = machine, procs

    def blocked(self) -> list[ContextState]:
        """The contexts that wait for something that should have come."""
        return [one for one in self.machine.contexts.values() if one.wait is not None and not is_idle(one)]

    def on(self, wait: Wait) -> list[str]:
        """The contexts that would have to do something for this wait to end, as far as the records tell."""
        if wait.kind in ("lock", "upgrade"):
            return [one.ctx for one in self.machine.holders(wait)]
        if wait.kind != "sleep":
            cpus = [one.split(".")[0] for one in wait.what.split()]
            return [self.machine.cpus[cpu][-1] for cpu in cpus if self.machine.cpus.get(cpu)]
        if wait.what == FREE_MEMORY:
            return [DAEMON]
        proc = self._proc(wait.what)
        if proc:
            known = self.machine.contexts
            return [one for one in self.procs[proc] if one not in known or not known[one].ended]
        busy = self._busy(wait.what)
        return [busy.record["ctx"]] if busy is not None else []

    def words(self, one: ContextState) -> str:
        """What a context waits for, in a sentence; "" if it does not, or waits for work."""
        wait = one.wait
        if wait is None or is_idle(one):
            return ""
        where = f" in {wait.fn}" if wait.fn else ""
        if wait.kind in ("lock", "upgrade"):
            verb = "spins" if spins(wait.what) else "sleeps"
            held = [self._held(one, hold) for hold in self.machine.holders(wait)]
            return f"{one.name} {verb}{where} for {place(wait.what)}, which " + (", and ".join(held) or "nobody holds")
        if wait.kind == "sleep":
            return f'{one.name} sleeps{where} on {place(wait.what)} ("{wait.wmesg}")' + self._why_asleep(wait.what)
        if wait.what:
            who = ", ".join(wait.what.split())
            return f"{one.name} waits{where} for {who} to acknowledge a TLB shootdown ({wait.kind})"
        return f"{one.name} waits{where} for the answer to {wait.kind}"

    def _held(self, one: ContextState, hold: Hold) -> str:
        who = "it has held itself" if hold.ctx == one.name else f"{hold.ctx} holds"
        return f"{who} since {hold.since or 'user mode'} (its operation {hold.n})"

    def _why_asleep(self, chan: str) -> str:
        """What keeps the sleeper of a channel asleep."""
        if chan == FREE_MEMORY:
            words = {"free": "pages are free", "reserve_kernel": "are kept for the kernel"}
            known = {key: self.machine.value(f"{uvmexp}", key) for key in words}
            told = [f"{one.value} {words[key]}" for key, one in known.items() if one is not None]
            return ": it waits for free memory" + (f"; {', '.join(told)}" if told else "")
        if self._proc(chan):
            return f": it waits for process {self._proc(chan)} to exit"
        busy = self._busy(chan)
        if busy is None:
            return ""
        tag = self.machine.value(chan, "owner_tag")
        why = f' ("{tag.value}")' if tag is not None and tag.value else ""
        who, n = busy.record["ctx"], busy.record["n"]
        return f": the page is BUSY{why} since {who} made it so in {busy.fn or 'user mode'}, its operation {n}"

    def _proc(self, chan: str) -> str:
        """The process for whose end the sleepers of a channel wait, or ""."""
        owner, _, name = chan.partition(".")
        number = owner.removeprefix("proc:")
        if name != "p_stat" or not _NUMBER.fullmatch(number) or int(number) >= len(self.procs):
            return ""
        return list(self.procs)[int(number)]

    def _busy(self, chan: str) -> Step | None:
        """The store that made the page that is slept on BUSY, if it still is."""
        flags = self.machine.value(chan, "flags") if kind_of(chan) == "page" and "." not in chan else None
        if flags is None or not _is_busy(flags.value):
            return None
        for step in reversed(self.machine.steps):
            record = step.record
            if record["event"] != "store" or record.get("field") != "flags" or not _is_busy(record.get("value")):
                continue
            target = handle(record.get("obj"))
            before = step.old.value if step.old is not None else 0
            if target is not None and target[0] == chan and not _is_busy(before):
                found: Step = step
                return found
        return None

    # -- chains --------------------------------------------------------------------

    def chains(self, start: str, for_ever: bool) -> tuple[list[str], list[str]]:
        """Sentences, each wait followed by what it waits for, and the first ring of contexts, if there is one.

        Args:
            start: the context to begin with, if it waits.
            for_ever: it is known that the machine was at rest.
        """
        said: dict[str, str] = {}
        ring: list[str] = []
        for one in sorted(self.blocked(), key=lambda one: (one.name != start, one.name)):
            path: list[str] = []
            now: ContextState | None = one
            while now is not None and now.wait is not None and not is_idle(now) and now.name not in path:
                path.append(now.name)
                said.setdefault(now.name, self.words(now))
                following = self.on(now.wait)
                now = self.machine.contexts.get(following[0]) if following else None
            if now is None or is_idle(now):
                continue
            if now.wait is not None:
                ring = ring or path[path.index(now.name) :]
            else:
                said.setdefault(now.name, f"{now.name} {self._last(now, for_ever)}")
        return list(said.values()), ring

    def _last(self, one: ContextState, for_ever: bool) -> str:
        """Why the end of a chain does not let the others go on."""
        if one.ended:
            return "has ended: nobody is left to release it"
        doing = self.machine.doing(one)
        return f"is {doing}, and never releases it" if for_ever else f"was {doing} when its log ends"


def is_idle(one: ContextState) -> bool:
    """Does it wait for work, as it should?"""
    wait = one.wait
    return wait is not None and (idles(wait.kind) or (one.name == DAEMON and wait.what == DAEMON_SLEEPS))


def _is_busy(flags: object) -> bool:
    return isinstance(flags, int) and bool(flags & PG_BUSY)
