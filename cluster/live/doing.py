"""What the contexts of a running machine do, in words: who runs, and who waits for whom.

Each actor answers for itself, a moment after another. So what is told is approximate: a lock may have been released
between two answers. A machine that stands still (cluster/session/) is told exactly.

Left out: when it is told, and how it looks (cluster/cli/board.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

from shared.detectors.machine_state import ContextState, HostNow, MachineState
from shared.detectors.verdict import snapshot_of, waits_of
from shared.detectors.waits import WaitGraph
from shared.port.struct import channel_name, lock_name, lock_sleeps

#: contexts that are shown
MAX_ROWS = 12


class Doing(NamedTuple):
    """What a context does.

    Attributes:
        waits: it waits for another context.
    """

    name: str
    cpu: str
    words: str
    waits: bool

    def __str__(self) -> str:
        return f"{self.name} on {self.cpu}: {self.words}"


def doing(hosts: Sequence[HostNow], page_size: int) -> list[Doing]:
    """What each context does that has begun and has not ended; first those that wait for others."""
    contexts = [context for host in hosts for context in host.state.contexts if context.n and not context.finished]
    locks = [lock for host in hosts for lock in host.state.locks]
    state = MachineState(contexts, locks, {}, {}, page_size)
    spoken = {(name, chan): wmesg for host in hosts for chan, queue in host.asleep for name, wmesg in queue}
    facts = waits_of(state, snapshot_of(state))
    waits = dict(facts.waits)
    for context in contexts:
        if context.waits is not None and context.name in waits:
            wmesg = spoken.get((context.name, context.waits[1]), "") if context.waits[0] == "sleep" else ""
            waits[context.name] = waits[context.name]._replace(wmesg=wmesg)
    wanted = {
        lock_name(context.waits[1]): context.waits[1] for context in contexts if context.on_lock and context.waits
    }
    graph = WaitGraph(replace(facts, waits=waits, sleepable=lambda lock: lock in wanted and lock_sleeps(wanted[lock])))
    running = {name for host in hosts for name in host.running}
    asks = {host.asks[0]: f", asks {host.asks[1]} ({host.asks[2]})" for host in hosts if host.asks is not None}

    def done_by(context: ContextState) -> Doing:
        name = context.name
        if name in waits:
            return Doing(name, context.cpu, graph.words(name).removeprefix(f"{name} "), True)
        if context.waits is not None and not context.ready:
            code, target = context.waits
            wmesg = spoken.get((name, target), "")
            on = f" on {channel_name(target)}" + (f' ("{wmesg}")' if wmesg else "") if code == "sleep" else ""
            return Doing(name, context.cpu, f"sleeps{on}, until there is work", False)
        if name in running:
            where = f"runs in {context.function}" if context.stack else "runs in user mode"
            return Doing(name, context.cpu, where + asks.get(name, ""), False)
        return Doing(name, context.cpu, f"waits for {context.cpu}", False)

    every = [done_by(context) for context in contexts if not context.interrupt or context.name in running]
    return sorted(every, key=lambda row: not row.waits)


def rates(counts: dict[str, int], before: dict[str, int], seconds: float) -> str:
    """How many operations each node has performed, and how many in a second."""
    return ", ".join(
        f"{node} {count:,}" + (f" ({(count - before.get(node, 0)) / seconds:,.0f}/s)" if seconds > 0 else "")
        for node, count in counts.items()
    )


def first(rows: Iterable[Doing]) -> list[str]:
    """The rows as lines, at most MAX_ROWS."""
    lines = [f"  {row}" for row in rows]
    return (
        lines
        if len(lines) <= MAX_ROWS
        else [*lines[: MAX_ROWS - 1], f"  and {len(lines) - MAX_ROWS + 1} more contexts"]
    )
