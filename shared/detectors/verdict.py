"""Judges a machine in which no context can continue, or which was stopped at its limit of operations.

Works on a `MachineState`, which any engine can collect. It reports the wait that explains the others: a lock whose
holder will never release it, a cycle, a sleeper that no context will wake, memory that no context can free.

Sees: stuck contexts of a machine at rest. In a run that was stopped: a context that has waited long for a lock, and
memory whose owners are all locked by contexts that wait for memory.

Does not see: a deadlock that did not happen in this run (lock order does, shared/detectors/race.py); contexts that are
stuck while another finding ends the run; a thread that pauses forever, as its program says; a lock that is held at the
end and that no context wants (LOCKDEBUG does, and invariant LOCK-1).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

from shared.detectors.invariants import Snapshot, check
from shared.detectors.machine_state import ContextState, MachineState
from shared.detectors.waits import DAEMON, Busy, Facts, Hold, Wait, WaitGraph, owner_of_tag, rests
from shared.findings import Finding
from shared.locks.table import Want
from shared.port.struct import INDEX_MASK, KIND_SHIFT, Struct, channel_name, lock_name, lock_sleeps
from shared.program.functions import run_check
from shared.scenario.model import Results, Scenario
from shared.text import counted
from shared.uvm.param import PG_BUSY
from shared.uvm.structs import Page, Proc, uvmexp
from shared.wire import images
from shared.wire.tables import differing, tables

#: a context that waits, for which kind of operation, with which target
Blocked = tuple[ContextState, str, int]
#: functions in which a context may be while it goes round for memory
ALLOCATING = ("uvm_wait", "uvm_pagealloc_strat")


def judge(
    state: MachineState,
    detect: dict[str, str],
    oracle: Finding | None = None,
    unexpected: Finding | None = None,
    watched: Sequence[Finding] = (),
) -> list[Finding]:
    """Findings about a machine at rest; first the finding that explains the others.

    Of those that are only noted all are given up to the first one to stop for: none of them explains it away.

    Args:
        oracle: what the memory oracle says of the run.
        unexpected: what the scenario says of its results; everything else explains more.
        watched: what shared/detectors/race.py says of it.
    """
    findings = _wanted(watched, detect)
    if _stops(findings, detect):
        return findings
    snapshot = snapshot_of(state)
    findings += _wanted(_stuck(state, snapshot), detect)
    if not _stops(findings, detect) and oracle is not None:
        findings += _wanted([oracle], detect)
    if not _stops(findings, detect) and detect.get("invariant", "stop") != "off":
        findings += _wanted(check(snapshot), detect)
    if not _stops(findings, detect) and unexpected is not None:
        findings += _wanted([unexpected], detect)
    return findings


def came_before(watched: Sequence[Finding], finding: Finding, detect: dict[str, str]) -> tuple[Finding, list[Finding]]:
    """The finding of a run that was stopped, and notes: a race is told first, for it had happened by then.

    Args:
        watched: what shared/detectors/race.py says of the run.
        finding: what it was stopped for.
    """
    first, notes = sort_out(_wanted(watched, detect), detect)
    return (finding, notes) if first is None else (first, [*notes, finding])


def endless(
    state: MachineState,
    detect: dict[str, str],
    limit: int,
    old: set[str] | None = None,
    watched: Sequence[Finding] = (),
) -> list[Finding]:
    """Findings about a machine that was stopped because it did not come to rest, as judge()'s about one at rest.

    A deadlock over memory; a context that never continues, however long the others run; memory that is never freed;
    no progress. There is always one: a run that was stopped has not shown what its end would have been.

    Args:
        limit: operations that it was given.
        old: contexts that have waited for long; None: any may have.
        watched: what shared/detectors/race.py says of the run.
    """
    for_memory = starved(state)
    on_locks = {context.name for context in state.contexts if context.on_lock}
    never = [finding for finding in stuck(state) if finding.kind != "lost-wakeup" and finding.context in on_locks]
    waits = [finding for finding in never if old is None or finding.context in old]
    otherwise = no_end(state, of_operations(limit))
    ranked = [
        watched,
        [finding for finding in for_memory if finding.kind == "deadlock"],
        waits[:1],
        [finding for finding in for_memory if finding.kind != "deadlock"] or [otherwise],
    ]
    findings: list[Finding] = []
    for some in ranked:
        if not _stops(findings, detect):
            findings += _wanted(some, detect)
    return findings or [otherwise]


def out_of_time(
    state: MachineState, detect: dict[str, str], seconds: float, watched: Sequence[Finding]
) -> list[Finding]:
    """Findings about a run that was ended because its time was over: races before that, and that it has not ended.

    How far it came depends on the computer. Therefore no context is accused of what it waits for.

    Args:
        seconds: that it was given.
        watched: what shared/detectors/race.py says of the run.
    """
    findings = _wanted(watched, detect)
    ends = [] if _stops(findings, detect) else [no_end(state, f"{seconds:,g} s, the limit (--time)")]
    return findings + ends


def of_operations(limit: int) -> str:
    """The limit of operations, in words for `no_end`."""
    return f"{limit:,} operations, the limit (bound: operations, or --operations)"


def no_end(state: MachineState, within: str) -> Finding:
    """The run was ended at a limit, before it came to its end. It may be merely long: no context is accused.

    Args:
        within: the limit, in words.
    """
    going = [context for context in state.contexts if not context.finished and context.n]
    story = [
        f"{context.name} has performed {counted(context.n, 'operation')}, and is in {context.function}"
        for context in going
    ]
    return Finding("not-ended", f"not ended within {within}", story=story)


def promise(scenario: Scenario, results: Results, state: MachineState) -> Finding | None:
    """The finding that what the scenario promises does not hold: of its results, or by its program's own check."""
    functions = scenario.functions
    if functions is not None and functions.check is not None:
        return run_check(functions.check, snapshot_of(state).heap)
    return scenario.unexpected(results)


def _wanted(findings: Sequence[Finding], detect: dict[str, str]) -> list[Finding]:
    return [finding for finding in findings if finding.level(detect) != "off"]


def _stops(findings: list[Finding], detect: dict[str, str]) -> bool:
    return any(finding.level(detect) == "stop" for finding in findings)


def sort_out(findings: list[Finding], detect: dict[str, str]) -> tuple[Finding | None, list[Finding]]:
    """What judge() or endless() said: the finding, and the notes."""
    stopping = [finding for finding in findings if finding.level(detect) == "stop"]
    return stopping[0] if stopping else None, [finding for finding in findings if finding not in stopping]


def refused(nodes: Mapping[str, Mapping[str, str]]) -> Finding | None:
    """A machine does not start if a node was built with other tables than the kernel."""
    for name, theirs in nodes.items():
        wrong = differing(theirs, tables())
        if wrong:
            text = f"{name} was built with another table of {' and of '.join(wrong)} than the kernel; it does not boot"
            return Finding("table-mismatch", text, function="main", subject=name)
    return None


def snapshot_of(state: MachineState) -> Snapshot:
    """The heap, page tables and swap of a final state."""
    table, swapped = images.mmu(state.images), images.swap(state.images)
    frames = [tuple(words) for _, words in sorted(images.frames_of(state.images))]
    tlbs = {cpu: (pmap, dict(entries)) for cpu, (pmap, entries) in state.tlbs.items()}
    return Snapshot(
        images.heap_of(state.images) if state.heap is None else state.heap,
        {} if table is None else {pmap: {vpn: pte for vpn, *pte in entries} for pmap, entries in table["pmaps"]},
        {} if table is None else {frame: attr for frame, *attr in table["attrs"]},
        {} if swapped is None else {slot: tuple(words) for slot, words in swapped["slots"]},
        frames,
        tlbs,
        state.locks,
        state.page_size,
        frozenset(() if swapped is None else swapped["bad"]),
        [] if table is None else sorted(table["tables"]),
        {} if table is None else dict(table["objects"]),
        images.disk(state.images),
    )


def _stuck(state: MachineState, snapshot: Snapshot) -> list[Finding]:
    """Waits that will never end; first the wait that explains the others."""
    contexts = {context.name: context for context in state.contexts}
    blocked, graph = _blocked(state), WaitGraph(waits_of(state, snapshot))
    findings = []
    for context, code, target in blocked:
        if context.on_lock:
            finding = _on_lock(context, target, contexts, graph)
        elif code == "sleep":
            finding = _asleep(context, target, graph, snapshot)
        else:
            finding = _finding(context, "deadlock", f"{context.name} waits forever for {code}({target})", "", "")
        findings.append((_rank(finding, graph), finding))
    findings.sort(key=lambda ranked: ranked[0])
    story = [graph.words(context.name) for context, *_ in blocked]
    for _, finding in findings:
        finding.story = list(story)
    return [finding for _, finding in findings]


def _rank(finding: Finding, graph: WaitGraph) -> tuple[int, bool]:
    """What explains the others comes first: a cycle, a CPU that spins, a sleeper; last, sleeps behind other waits.

    A CPU that spins is reported before the sleeper that has the lock: a user would see the spinning CPU.
    """
    behind = graph.waits_for_waiter(finding.context) and not graph.cycle(finding.context)
    if finding.kind == "spin-forever":
        return 1, behind
    if behind:
        return 3, behind
    return (0 if finding.kind == "deadlock" else 2), behind


def _blocked(state: MachineState) -> list[Blocked]:
    """The contexts that wait for something that should have come."""
    return [(context, *context.waits) for context in state.contexts if context.waits and _is_stuck(context)]


def waits_of(state: MachineState, snapshot: Snapshot) -> Facts:
    """What the nodes know of waits, in the words of shared/detectors/waits.py."""
    wanted = {(want.ctx, lock.key): want.mode for lock in state.locks for want in lock.waiters}
    waits, busy, procs = {}, {}, {}
    for context, code, target in _blocked(state):
        fn = context.function
        if context.on_lock:
            mode = "w" if code == "upgrade" else wanted.get((context.name, target), "w")
            waits[context.name] = Wait(code, lock_name(target), fn, mode=mode)
        elif code == "sleep":
            waits[context.name] = Wait(code, channel_name(target), fn)
        else:
            waits[context.name] = Wait(code, "", fn)
        page = _busy_page(code, target, snapshot)
        if page is not None:
            tag = snapshot.get(page, "owner_tag") or ""
            busy[channel_name(target)] = Busy(owner_of_tag(tag), tag=tag)
        if code == "sleep" and _is_field(target, Proc, "p_stat"):
            proc = target >> 8 & INDEX_MASK
            threads = [other.name for other in state.contexts if other.proc == proc]
            procs[channel_name(target)] = (f"proc:{proc}", threads)
    return Facts(
        waits=waits,
        ended=frozenset(context.name for context in state.contexts if context.finished),
        stacks={context.name: context.stack for context in state.contexts},
        holders={lock_name(lock.key): [Hold(*held) for held in lock.holders] for lock in state.locks},
        queues={lock_name(lock.key): [want.ctx for want in lock.waiters] for lock in state.locks},
        busy=busy,
        procs=procs,
        supplies={channel_name(uvmexp.addressof("free")): (DAEMON, "free memory")},
        sleepable={lock_name(lock.key): lock_sleeps(lock.key) for lock in state.locks}.__getitem__,
    )


def _is_field(chan: int, kind: type[Struct], name: str) -> bool:
    """Is this sleep channel the address of that field of some struct of the kind?"""
    return chan >> 8 >> KIND_SHIFT == kind.kind and chan & 0xFF == kind.fields[name].slot


def _busy_page(code: str, target: int, snapshot: Snapshot) -> Page | None:
    """The page on which a context that waits so sleeps, if it is BUSY."""
    if code != "sleep" or target >> 8 >> KIND_SHIFT != Page.kind or target & 0xFF:
        return None
    page: Page = Page.at(target >> 8 & INDEX_MASK)
    flags = snapshot.get(page, "flags")
    return page if flags is not None and flags & PG_BUSY else None


def stuck(state: MachineState) -> list[Finding]:
    """Waits that would never end if nothing else happened; for a machine that is not at rest."""
    return _stuck(state, snapshot_of(state))


def starved(state: MachineState) -> list[Finding]:
    """Findings about a machine that was stopped at its limit: does it wait in a loop for memory that is never freed?

    Memory is a resource like a lock: a context that waits for memory waits for the pagedaemon, and the pagedaemon waits
    for the owners of the pages that it might free. If contexts that wait for memory hold all these locks, this is a
    deadlock.
    """
    snapshot = snapshot_of(state)
    asking = [context for context in state.contexts if not context.finished and "uvm_fault" in context.stack]
    if not asking or uvmexp.id not in snapshot.heap:
        return []
    free, reserve, target = (snapshot.num(uvmexp, name) for name in ("free", "reserve_kernel", "freetarg"))
    if free > reserve:
        return []
    locked = _locked_by(asking, state, snapshot)
    if locked:
        (page, lock, holder, since), first = locked[0], asking[0]
        fn = next((name for name in first.stack[::-1] if name not in ALLOCATING), "")
        text = (
            f"deadlock: {first.name} waits in {fn} for free memory, which the pagedaemon has to free; "
            f"the pagedaemon waits for {lock}, the lock of {page}'s owner, held by {holder} since {since}"
        )
        story = [f"{page} cannot be freed: {lock} is held by {who} since {fn}" for page, lock, who, fn in locked]
        story.append("no other page is on the page queues")
        subject = lock.split(".", maxsplit=1)[0]
        # (when the machine was stopped is chance, so nothing is said of what it was doing inside of fn)
        held = [lock for lock in first.held if lock["since"] != fn and lock["since"] not in ALLOCATING]
        stack = first.stack[: first.stack.index(fn) + 1]
        return [Finding("deadlock", text, first.name, fn, subject, stack=stack, held=held, story=story)]
    text = f"{asking[0].name} asks for memory forever: {free} pages are free, the last {reserve} are reserved"
    if free >= target:
        text += f", and the pagedaemon stops at {target}"
    return [Finding("no-progress", text, asking[0].name, "uvm_wait", str(uvmexp))]


def _locked_by(asking: list[ContextState], state: MachineState, snapshot: Snapshot) -> list[tuple[str, str, str, str]]:
    """If contexts that wait for memory lock all pages that the pagedaemon could free: page, lock, holder, since when.

    A context that spins for a lock of theirs waits for memory too. [] if there is a page that could be freed, or none
    at all.
    """
    holders = {lock.key: lock.holders[0] for lock in state.locks if lock.holders}
    nobody = Want("", "", "")
    waiting = {context.name for context in asking if context.held}
    while True:
        behind = {
            context.name
            for context in state.contexts
            if context.waits and context.waits[0] == "lock" and holders.get(context.waits[1], nobody).ctx in waiting
        }
        if behind <= waiting:
            break
        waiting |= behind
    locked = []
    for name in ("page_active", "page_inactive_swp", "page_inactive_obj"):
        for page in snapshot.queues[name].items:
            owner = snapshot.get(page, "uobject") or snapshot.get(page, "uanon")
            if owner is None:
                return []
            key = owner.lock_key("an_lock" if owner.kind_name == "anon" else "vmobjlock")
            holder, _, since = holders.get(key, nobody)
            if holder not in waiting:
                return []
            locked.append((str(page), lock_name(key), holder, since))
    return locked


def _is_stuck(context: ContextState) -> bool:
    return context.n > 0 and waits_in_vain(context.name, context.waits, context.finished or context.ready)


def waits_in_vain(context: str, waits: tuple[str, int] | None, goes_on: bool) -> bool:
    """Is a context, which has begun, waiting for something that should have come?

    Args:
        waits: as ContextState has it.
        goes_on: it has ended, or is ready: it has lost its CPU to another context, which is stuck.
    """
    return waits is not None and not goes_on and not _waits_for_work(context, waits)


@lru_cache(4096)
def _waits_for_work(context: str, waits: tuple[str, int]) -> bool:
    code, target = waits
    return rests(context, code, channel_name(target) if code == "sleep" else "")


def _on_lock(context: ContextState, key: int, contexts: dict[str, ContextState], graph: WaitGraph) -> Finding:
    who, lock = context.name, lock_name(key)
    wait = graph.facts.waits[who]
    holders, ahead = graph.in_the_way(who, wait), graph.ahead_of(who, wait)
    if not holders and not ahead:
        return _finding(context, "lost-wakeup", f"{who} waits for {lock}, which is free", "", lock)
    since = holders[0].since if holders else ""
    ring = graph.cycle(who)
    if len(ring) > 1:
        text = "deadlock: " + "; ".join(graph.step(name, edge) for name, edge in ring)
        return _finding(context, "deadlock", text, since, lock)
    kind = "deadlock" if lock_sleeps(key) else "spin-forever"
    head = f"{who} {graph.verb(wait)} forever in {context.function} on {lock}"
    if ring:
        return _finding(context, kind, f"{head}, which it has itself held since {since}", since, lock)
    if not holders:
        return _finding(context, kind, f"{head}, behind {ahead[0]}, which never gets it", "", lock)
    held = ", and ".join(f"held by {hold.ctx} since {hold.since}" for hold in holders)
    doing = _why_held(holders, contexts, graph)
    return _finding(context, kind, f"{head}, {held}; {doing}", since, lock)


def _why_held(holders: list[Hold], contexts: dict[str, ContextState], graph: WaitGraph) -> str:
    """Why a lock's holders do not release it: a holder has ended, or cannot continue without its CPU."""
    for hold in holders:
        context = contexts[hold.ctx]
        if context.finished:
            return f"{hold.ctx} has ended"
        spinning = [
            name
            for name, wait in graph.facts.waits.items()
            if contexts[name].cpu == context.cpu and graph.verb(wait) == "spins"
        ]
        if context.ready and spinning:
            return f"{hold.ctx} waits for its CPU, on which {spinning[0]} spins"
    return f"{holders[0].ctx} never releases it"


def _asleep(context: ContextState, chan: int, graph: WaitGraph, snapshot: Snapshot) -> Finding:
    name = channel_name(chan)
    fn = context.function
    ring = graph.cycle(context.name)
    if len(ring) > 1:
        text = "deadlock: " + "; ".join(graph.step(who, edge) for who, edge in ring)
        return _finding(context, "deadlock", text, fn, name)
    if chan == uvmexp.addressof("free"):
        free, reserve = snapshot.get(uvmexp, "free"), snapshot.get(uvmexp, "reserve_kernel")
        if free > reserve:
            text = f"{context.name} sleeps in {fn} for free memory forever, with {free} pages free"
            return _finding(context, "lost-wakeup", text, fn, name)
        paging = snapshot.num(uvmexp, "paging")
        if paging <= 0:  # the pagedaemon should have tried, and woken the waiters
            text = f"{context.name} sleeps in {fn} for free memory; {free} pages are free, and no context frees more"
            return _finding(context, "lost-wakeup", text, fn, name)
        text = f"{context.name} sleeps in {fn} for free memory; {free} pages are free, {paging} are in flight forever"
        return _finding(context, "deadlock", text, fn, name)
    page = _busy_page("sleep", chan, snapshot)
    if page is not None:
        tag = snapshot.get(page, "owner_tag")
        return _finding(context, "deadlock", f"{context.name} sleeps in {fn} on {name}, busy forever ({tag})", fn, name)
    if chan >> 8 >> KIND_SHIFT == Proc.kind and graph.waits_for_waiter(context.name):
        return _finding(context, "deadlock", graph.words(context.name), fn, name)
    return _finding(
        context, "lost-wakeup", f"{context.name} sleeps in {fn} on {name}; no context will wake it", fn, name
    )


def _finding(context: ContextState, kind: str, text: str, function: str, subject: str) -> Finding:
    return Finding(
        kind,
        text,
        context.name,
        function or context.function,
        subject.split(".", maxsplit=1)[0],
        stack=list(context.stack),
        held=list(context.held),
    )
