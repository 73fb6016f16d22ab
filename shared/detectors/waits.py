"""The wait-for graph, and its description in words.

The verdict over a machine at rest, which has the state of the nodes, and the postmortem,
which has journals, use the same graph. Each gives its facts as plain data (`Facts`).

An edge leads from a waiting context to a context that must first do something:

    holder   release the lock: each holder that blocks the request
    ahead    get the lock first, and release it: a context that queued earlier (requests are granted in order of
             arrival, so a reader waits behind a writer that waits for readers)
    busy     finish its work on the page for which the context sleeps
    exit     end: a thread of the process whose exit the context awaits
    supply   provide the resource for which the context sleeps, as the pagedaemon provides free memory
    ack      acknowledge a TLB shootdown

A context waits for all of its edges at once, so any cycle is a deadlock.

Rules: a context that `rests` waits for no context. There is no edge to a context that has ended; a lock of such a
context is held forever, and the words say so. If the holder of a simple lock sleeps outside of the function that took
the lock, the holder has forgotten the lock and will not release it after the sleep; this edge is part of no cycle.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from shared.uvm.proc import PAUSE
from shared.uvm.structs import uvm
from shared.wire.messages import OPERATIONS

#: the context that provides free memory, and the channel on which it sleeps until memory is wanted
DAEMON, DAEMON_SLEEPS = "pagedaemon", f"{uvm}.pagedaemon"
#: the mode in which a context holds or wants a lock
MODES = {"r": "shared", "w": "exclusively"}


class Hold(NamedTuple):
    """A lock that is held. `n`: the context's operation that acquired it; 0: not known."""

    ctx: str
    mode: str
    since: str
    n: int = 0


class Wait(NamedTuple):
    """What a context waits for.

    Attributes:
        kind: lock, upgrade, sleep, or the operation that was not answered.
        what: the lock, the channel, or the interrupts whose acknowledgement it waits for.
        fn: the function in which it waits; "": user mode.
        wmesg: of a sleep.
        mode: r or w.
        n: number of its operation; 0: not known.
    """

    kind: str
    what: str
    fn: str
    wmesg: str = ""
    mode: str = "w"
    n: int = 0


class Busy(NamedTuple):
    """A page in transit: who made it so ("": not known), in which function, as which operation, and its owner_tag."""

    ctx: str
    fn: str = ""
    n: int = 0
    tag: str = ""


class Edge(NamedTuple):
    """`to` must do something before the context can continue; the header lists the values of `why`."""

    to: str
    why: str
    words: str


def rests(context: str, kind: str, what: str) -> bool:
    """Does a context that waits so wait for work, or because its program says so? Then nothing need ever come.

    Args:
        kind, what: as in Wait.
    """
    if kind == "sleep":
        owner, _, field = what.partition(".")
        return (context == DAEMON and what == DAEMON_SLEEPS) or (field == PAUSE and owner.startswith("proc:"))
    return kind in OPERATIONS and OPERATIONS[kind].idle


def owner_of_tag(tag: str) -> str:
    """The context that a page's owner_tag names (see uvm_page_own), or ""."""
    return tag.rpartition(" by ")[2] if " by " in tag else ""


@dataclass
class Facts:
    """A machine, as far as waits go.

    Attributes:
        waits: context -> what it waits for that should have come. Contexts that wait for work are not among them.
        ended: contexts that will do nothing any more.
        stacks: context -> the kernel functions that it is in.
        holders: lock -> who holds it.
        queues: lock -> the contexts that wait for it, in order.
        busy: channel of a page -> the context that has it in transit.
        procs: channel on which the end of a process is awaited -> the process's name, and its threads.
        supplies: channel -> who provides what is slept for there, and what that is.
        cpus: interrupt -> the context that its CPU runs.
        sleepable: is this lock one for which a context sleeps, rather than spins?
        place: a lock or channel by the name that a reader knows.
    """

    waits: Mapping[str, Wait] = field(default_factory=dict)
    ended: frozenset[str] = frozenset()
    stacks: Mapping[str, Sequence[str]] = field(default_factory=dict)
    holders: Mapping[str, Sequence[Hold]] = field(default_factory=dict)
    queues: Mapping[str, Sequence[str]] = field(default_factory=dict)
    busy: Mapping[str, Busy] = field(default_factory=dict)
    procs: Mapping[str, tuple[str, Sequence[str]]] = field(default_factory=dict)
    supplies: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    cpus: Mapping[str, str] = field(default_factory=dict)
    sleepable: Callable[[str], bool] = lambda lock: False
    place: Callable[[str], str] = str


class WaitGraph:
    """The graph of these facts."""

    def __init__(self, facts: Facts):
        self.facts = facts
        self._edges: dict[str, list[Edge]] = {}

    def edges(self, name: str) -> list[Edge]:
        """Whom this context waits for, the most telling first; never a context that has ended."""
        edges = self._edges.get(name)
        if edges is None:
            every = self._all(name)
            edges = self._edges[name] = [edge for edge in every if edge.to not in self.facts.ended]
        return edges

    def _all(self, name: str) -> list[Edge]:
        wait = self.facts.waits.get(name)
        if wait is None:
            return []
        if wait.kind in ("lock", "upgrade"):
            holders = [Edge(hold.ctx, "holder", self._held(name, wait, hold)) for hold in self.in_the_way(name, wait)]
            ahead = [Edge(who, "ahead", self._ahead(who, wait)) for who in self.ahead_of(name, wait)]
            return holders + ahead
        if wait.kind == "sleep" and wait.what in self.facts.busy:
            busy = self.facts.busy[wait.what]
            return [Edge(busy.ctx, "busy", self._busy(busy))] if busy.ctx else []
        if wait.kind == "sleep" and wait.what in self.facts.procs:
            process, threads = self.facts.procs[wait.what]
            return [Edge(who, "exit", f"for the exit of thread {who} of process {process}") for who in threads]
        if wait.kind == "sleep":
            supply = self.facts.supplies.get(wait.what)
            return [] if supply is None else [Edge(supply[0], "supply", f"for {supply[1]}, which {supply[0]} provides")]
        cpus = self.facts.cpus
        return [Edge(cpus[cpu], "ack", f"until {cpu} has acknowledged") for cpu in wait.what.split() if cpu in cpus]

    def in_the_way(self, name: str, wait: Wait) -> list[Hold]:
        """The holders because of whom the lock cannot be granted; of a lock held shared, none is in a reader's way."""
        every = self.facts.holders.get(wait.what, ())
        mine = [hold for hold in every if hold.ctx == name]
        if wait.kind == "upgrade":
            return [hold for hold in every if hold.ctx != name]
        shared = wait.mode == "r" and self.facts.sleepable(wait.what)
        holders = [hold for hold in every if not shared or hold.mode == "w"]
        return holders if holders else mine if not self.ahead_of(name, wait) else []

    def ahead_of(self, name: str, wait: Wait) -> list[str]:
        """Who queued earlier for the same lock and must release it first; a reader shares with readers."""
        queue = list(self.facts.queues.get(wait.what, ()))
        before = queue[: queue.index(name)] if name in queue else []
        waits = self.facts.waits
        if wait.mode == "r" and self.facts.sleepable(wait.what):
            before = [ctx for ctx in before if ctx not in waits or waits[ctx].mode != "r"]
        return [ctx for ctx in before if ctx != name]

    # -- cycles --------------------------------------------------------------------

    def cycle(self, start: str) -> list[tuple[str, Edge]]:
        """The shortest cycle through `start`: each context and its edge to the next one; [] if there is none.

        A context that waits for a lock of its own is a cycle of itself.
        """
        came: dict[str, tuple[str, Edge]] = {}
        work = deque([start])
        while work:
            now = work.popleft()
            for edge in self.edges(now):
                if self._forgotten(now, edge):
                    continue
                if edge.to == start:
                    path = [(now, edge)]
                    while path[0][0] != start:
                        path.insert(0, came[path[0][0]])
                    return path
                if edge.to not in came and edge.to in self.facts.waits:
                    came[edge.to] = (now, edge)
                    work.append(edge.to)
        return []

    def _forgotten(self, name: str, edge: Edge) -> bool:
        """Does the holder of a simple lock sleep outside of the function that took the lock?"""
        wait, other = self.facts.waits[name], self.facts.waits.get(edge.to)
        if edge.why != "holder" or other is None or self.verb(wait) != "spins" or self.verb(other) != "sleeps":
            return False
        since = [holder.since for holder in self.facts.holders[wait.what] if holder.ctx == edge.to]
        return not set(since) & set(self.facts.stacks.get(edge.to, ()))

    def waits_for_waiter(self, name: str) -> bool:
        """Does this context wait for a context that waits itself, so that the other's wait explains this wait?"""
        return any(edge.to in self.facts.waits for edge in self.edges(name))

    # -- words -----------------------------------------------------------------------

    def verb(self, wait: Wait) -> str:
        """What a context does that waits so: for a simple lock it spins, for a lockmgr lock or a channel it sleeps."""
        if wait.kind in ("lock", "upgrade"):
            return "sleeps" if self.facts.sleepable(wait.what) else "spins"
        return "sleeps" if wait.kind == "sleep" else "waits"

    def place(self, name: str) -> str:
        """Where a context waits, and for what: `A spins in f for anon:5.an_lock`."""
        wait = self.facts.waits[name]
        where = f" in {wait.fn}" if wait.fn else ""
        head = f"{name} {self.verb(wait)}{where}"
        if wait.kind in ("lock", "upgrade"):
            return f"{head} for {self.facts.place(wait.what)}"
        if wait.kind == "sleep":
            return f"{head} on {self.facts.place(wait.what)}" + (f' ("{wait.wmesg}")' if wait.wmesg else "")
        if wait.what:
            return f"{head} for {', '.join(wait.what.split())} to acknowledge a TLB shootdown ({wait.kind})"
        return f"{head} for the answer to {wait.kind}"

    def step(self, name: str, edge: Edge) -> str:
        """One wait and one reason for it."""
        return f"{self.place(name)}{_joint(edge)}{edge.words}"

    def words(self, name: str) -> str:
        """A wait and all that keeps it from ending, in a sentence."""
        wait = self.facts.waits[name]
        edges = [edge for edge in self._all(name) if edge.why != "ack"]
        if edges:
            return self.place(name) + _joint(edges[0]) + ", and ".join(edge.words for edge in edges)
        if wait.kind in ("lock", "upgrade"):
            return self.place(name) + ", which no context holds"
        busy = self.facts.busy.get(wait.what) if wait.kind == "sleep" else None
        return self.place(name) + (f", {self._busy(busy)}" if busy is not None else "")

    def _held(self, name: str, wait: Wait, hold: Hold) -> str:
        who = "which it has itself held" if hold.ctx == name else f"held by {hold.ctx}"
        how = " shared" if hold.mode == "r" and self.facts.sleepable(wait.what) else ""
        at = f" (its operation {hold.n})" if hold.n else ""
        ended = f"; {hold.ctx} has ended" if hold.ctx in self.facts.ended else ""
        return f"{who}{how} since {hold.since or 'user mode'}{at}{ended}"

    def _ahead(self, who: str, wait: Wait) -> str:
        other = self.facts.waits.get(who)
        mode = other.mode if other is not None else "w"
        how = f" {MODES[mode]}" if self.facts.sleepable(wait.what) and mode in MODES else ""
        return f"behind {who}, which wants it{how}"

    def _busy(self, busy: Busy) -> str:
        tag = f' ("{busy.tag}")' if busy.tag else ""
        where = f" in {busy.fn}" if busy.fn else ""
        at = f", its operation {busy.n}" if busy.n else ""
        return f"which {busy.ctx} made BUSY{tag}{where}{at}" if busy.ctx else f"which is BUSY{tag}"


def _joint(edge: Edge) -> str:
    """Between what a context does and why."""
    return " " if edge.why in ("ahead", "exit", "supply") else ", "
