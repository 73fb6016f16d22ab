"""What is wrong with a machine in which no context can go on.

Works on plain data that any engine can collect: which contexts wait for what,
who holds which lock, who sleeps where, and the kernel heap. It names the wait
that explains the others: a lock whose holder will never release it, a cycle, a
sleeper whom nobody is going to wake.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cluster.machine import Machine
from shared.findings import Finding
from shared.functions import run_check
from shared.invariants import Snapshot, check
from shared.messages import OPERATIONS
from shared.scenario import Scenario
from shared.struct import INDEX_MASK, KIND_SHIFT, Struct, channel_name, lock_name, lock_sleeps
from shared.tables import differing, tables
from shared.uvm.param import PG_BUSY
from shared.uvm.proc import PAUSE
from shared.uvm.structs import Page, Proc, uvm, uvmexp
from shared.waits import DAEMON, Busy, Facts, Hold, Wait, WaitGraph, owner_of_tag

#: functions in which a context may be while it goes round for memory
ALLOCATING = ("uvm_wait", "uvm_pagealloc_strat")


def final_state(machine: Machine) -> dict[str, Any]:
    """The machine as plain data."""
    disk = [machine.nodes["disk"]] if "disk" in machine.nodes else []
    servers = (*machine.memories, machine.mmu, machine.swap_pager, *disk)
    return {
        "contexts": [one.state_as_data() for one in machine.threads.values()],
        "locks": [lock for manager in machine.lock_managers for lock in manager.table.state()["locks"]],
        "images": {node.name: node.image() for node in servers},
        "tlbs": {one.name: [one.tlb.pmap, list(one.tlb.entries.items())] for one in machine.processors},
        "page_size": machine.scenario.machine.page_size,
    }


def judge(
    state: dict[str, Any],
    detect: dict[str, str],
    oracle: Finding | None = None,
    unexpected: Finding | None = None,
    watched: Sequence[Finding] = (),
) -> list[Finding]:
    """Findings about a machine at rest; the one that explains the others first.

    Of those that are only noted all are given up to the first one to stop for: none of them explains it away.

    Args:
        oracle: what the memory oracle says of the run.
        unexpected: what the scenario says of its results; everything else explains more.
        watched: what shared/race.py says of it.
    """
    found = _wanted(watched, detect)
    if _stops(found, detect):
        return found
    snapshot = snapshot_of(state)
    found += _wanted(_stuck(state, snapshot), detect)
    if not _stops(found, detect) and oracle is not None:
        found += _wanted([oracle], detect)
    if not _stops(found, detect) and detect.get("invariant", "stop") != "off":
        found += _wanted(check(snapshot), detect)
    if not _stops(found, detect) and unexpected is not None:
        found += _wanted([unexpected], detect)
    return found


def came_before(watched: Sequence[Finding], finding: Finding, detect: dict[str, str]) -> tuple[Finding, list[Finding]]:
    """The finding of a run that was stopped, and notes: a race is told first, for it had happened by then.

    Args:
        watched: what shared/race.py says of the run.
        finding: what it was stopped for.
    """
    first, notes = sort_out(_wanted(watched, detect), detect)
    return (finding, notes) if first is None else (first, [*notes, finding])


def endless(
    state: dict[str, Any],
    detect: dict[str, str],
    limit: int,
    old: set[str] | None = None,
    watched: Sequence[Finding] = (),
) -> list[Finding]:
    """Findings about a machine that was stopped because it went on and on, as judge()'s about one at rest.

    A deadlock over memory; a context that never goes on, however long the others do; memory that nobody frees;
    no progress. There is always one: a run that was stopped has not shown what its end would have been.

    Args:
        limit: operations that it was given.
        old: contexts that have waited for long; None: any may have.
        watched: what shared/race.py says of the run.
    """
    for_memory = starved(state)
    on_locks = {one["name"] for one in state["contexts"] if one["waits"] and one["waits"][0] in ("lock", "upgrade")}
    never = [one for one in stuck(state) if one.kind != "lost-wakeup" and one.context in on_locks]
    waits = [one for one in never if old is None or one.context in old]
    otherwise = no_end(state, limit)
    ranked = [
        watched,
        [one for one in for_memory if one.kind == "deadlock"],
        waits[:1],
        [one for one in for_memory if one.kind != "deadlock"] or [otherwise],
    ]
    found: list[Finding] = []
    for some in ranked:
        if not _stops(found, detect):
            found += _wanted(some, detect)
    return found or [otherwise]


def no_end(state: dict[str, Any], limit: int) -> Finding:
    """The run was given so many operations, and has not come to its end."""
    going = [one for one in state["contexts"] if not one["finished"] and one["n"]]
    busiest = max(going, key=lambda one: one["n"], default=None)
    text = f"no end after {limit:,} operations, which is all that a run of this scenario is given (bound: operations)"
    story = [f"{one['name']} has performed {one['n']:,} of them, and is in {_fn(one)}" for one in going]
    if busiest is None:
        return Finding("no-progress", text, story=story)
    stack, held = list(busiest["stack"]), list(busiest["held"])
    function = stack[0] if stack else "user"
    return Finding("no-progress", text, busiest["name"], function, stack=stack, held=held, story=story)


def promise(scenario: Scenario, results: Mapping[str, Any], state: dict[str, Any]) -> Finding | None:
    """The finding that what the scenario promises does not hold: of its results, or by its program's own check."""
    functions = scenario.functions
    if functions is not None and functions.check is not None:
        return run_check(functions.check, snapshot_of(state).heap)
    return scenario.unexpected(results)


def _wanted(found: Sequence[Finding], detect: dict[str, str]) -> list[Finding]:
    return [finding for finding in found if finding.level(detect) != "off"]


def _stops(found: list[Finding], detect: dict[str, str]) -> bool:
    return any(finding.level(detect) == "stop" for finding in found)


def sort_out(found: list[Finding], detect: dict[str, str]) -> tuple[Finding | None, list[Finding]]:
    """What judge() or endless() said: the finding, and the notes."""
    stopping = [finding for finding in found if finding.level(detect) == "stop"]
    return stopping[0] if stopping else None, [finding for finding in found if finding not in stopping]


def refused(nodes: Mapping[str, Mapping[str, str]]) -> Finding | None:
    """A machine does not start if a node was built with other tables than the kernel."""
    for name, theirs in nodes.items():
        wrong = differing(theirs, tables())
        if wrong:
            text = f"{name} was built with another table of {' and of '.join(wrong)} than the kernel; it does not boot"
            return Finding("table-mismatch", text, function="main", subject=name)
    return None


def snapshot_of(state: dict[str, Any]) -> Snapshot:
    """The heap, page tables and swap of a final state."""
    heap: dict[int, list[Any]] = {}
    frames: list[tuple[int, ...]] = []
    pmaps: dict[int, dict[int, list[int]]] = {}
    attrs: dict[int, list[int]] = {}
    slots: dict[int, tuple[int, ...]] = {}
    bad_slots: list[int] = []
    tables: list[list[int]] = []
    pm_objs: dict[int, Any] = {}
    blocks: list[list[int]] = []
    for name, image in state["images"].items():
        if name.startswith("memory"):
            for key, gen, *fields in image["heap"]:
                heap[key] = [gen, None, *fields]
            shard, shards = image["shard"]
            frames = frames or [()] * len(image["frames"])
            for number in range(shard, len(frames), shards):
                frames[number] = tuple(image["frames"][number])
        elif name == "mmu":
            pmaps = {pmap: {vpn: pte for vpn, *pte in table} for pmap, table in image["pmaps"]}
            attrs = {frame: attr for frame, *attr in image["attrs"]}
            tables, pm_objs = image["tables"], dict(image["objects"])
        elif name == "swap_pager":
            slots = {slot: tuple(words) for slot, words in image["slots"]}
            bad_slots = image["bad"]
        elif name == "disk":
            blocks = image
    tlbs = {cpu: (pmap, dict(entries)) for cpu, (pmap, entries) in state["tlbs"].items()}
    rest = (state["page_size"], bad_slots, tables, pm_objs, blocks)
    return Snapshot(heap, pmaps, attrs, slots, frames, tlbs, state["locks"], *rest)


def _stuck(state: dict[str, Any], snapshot: Snapshot) -> list[Finding]:
    """Waits that will never end; the one that explains the others first."""
    blocked = [one for one in state["contexts"] if _is_stuck(one)]
    graph = WaitGraph(_facts(state, blocked, snapshot))
    found = []
    for one in blocked:
        code, target = one["waits"]
        if code in ("lock", "upgrade"):
            finding = _on_lock(one, target, {each["name"]: each for each in state["contexts"]}, graph)
        elif code == "sleep":
            finding = _asleep(one, target, graph, snapshot)
        else:
            finding = _finding(one, "deadlock", f"{one['name']} waits for ever for {code}({target})", "", "")
        found.append((_rank(finding, graph), finding))
    found.sort(key=lambda one: one[0])
    story = [graph.words(one["name"]) for one in blocked]
    for _, finding in found:
        finding.story = list(story)
    return [finding for _, finding in found]


def _rank(found: Finding, graph: WaitGraph) -> tuple[int, bool]:
    """What explains the others comes first: a cycle, a CPU that spins, a sleeper; last, sleeps behind other waits.

    A CPU that spins is told before the sleeper who has the lock: that is what one would see of the machine.
    """
    behind = graph.waits_for_waiter(found.context) and not graph.cycle(found.context)
    if found.kind == "spin-forever":
        return 1, behind
    if behind:
        return 3, behind
    return (0 if found.kind == "deadlock" else 2), behind


def _facts(state: dict[str, Any], blocked: list[dict[str, Any]], snapshot: Snapshot) -> Facts:
    """What the nodes know of waits, in the words of shared/waits.py."""
    wanted = {(ctx, key): mode for key, _, queue in state["locks"] for ctx, mode, _ in queue}
    waits, busy, procs = {}, {}, {}
    for one in blocked:
        code, target = one["waits"]
        fn = _fn(one)
        if code in ("lock", "upgrade"):
            mode = "w" if code == "upgrade" else wanted.get((one["name"], target), "w")
            waits[one["name"]] = Wait(code, lock_name(target), fn, mode=mode)
        elif code == "sleep":
            waits[one["name"]] = Wait(code, channel_name(target), fn)
        else:
            waits[one["name"]] = Wait(code, "", fn)
        page = _busy_page(one, snapshot)
        if page is not None:
            tag = snapshot.get(page, "owner_tag") or ""
            busy[channel_name(target)] = Busy(owner_of_tag(tag), tag=tag)
        if code == "sleep" and _is_field(target, Proc, "p_stat"):
            name = f"proc:{target >> 8 & INDEX_MASK}"
            threads = [who["name"] for who in state["contexts"] if who["proc"] == target >> 8 & INDEX_MASK]
            procs[channel_name(target)] = (name, threads)
    return Facts(
        waits=waits,
        ended=frozenset(one["name"] for one in state["contexts"] if one["finished"]),
        stacks={one["name"]: one["stack"] for one in state["contexts"]},
        holders={lock_name(key): [Hold(*one) for one in held] for key, held, _ in state["locks"]},
        queues={lock_name(key): [ctx for ctx, *_ in queue] for key, _, queue in state["locks"]},
        busy=busy,
        procs=procs,
        supplies={channel_name(uvmexp.addressof("free")): (DAEMON, "free memory")},
        sleepable={lock_name(key): lock_sleeps(key) for key, *_ in state["locks"]}.__getitem__,
    )


def _is_field(chan: int, kind: type[Struct], name: str) -> bool:
    """Is this sleep channel the address of that field of some struct of the kind?"""
    return chan >> 8 >> KIND_SHIFT == kind.kind and chan & 0xFF == kind.fields[name].slot


def _busy_page(one: dict[str, Any], snapshot: Snapshot) -> Page | None:
    """The page on which a context sleeps, if it is BUSY."""
    code, target = one["waits"]
    if code != "sleep" or target >> 8 >> KIND_SHIFT != Page.kind or target & 0xFF:
        return None
    page: Page = Page.at(target >> 8 & INDEX_MASK)
    flags = snapshot.get(page, "flags")
    return page if flags is not None and flags & PG_BUSY else None


def stuck(state: dict[str, Any]) -> list[Finding]:
    """Waits that would never end if nothing else happened; for a machine that is not at rest."""
    return _stuck(state, snapshot_of(state))


def starved(state: dict[str, Any]) -> list[Finding]:
    """Of a machine that was stopped because it went on and on: did it go round for memory that nobody frees?

    Memory is a resource like a lock: who waits for it waits for the pagedaemon, and that for the owners of the pages
    that it might free. If those are all locked by who waits for memory, this is a deadlock.
    """
    snapshot = snapshot_of(state)
    asking = [one for one in state["contexts"] if not one["finished"] and "uvm_fault" in one["stack"]]
    if not asking or uvmexp.id not in snapshot.heap:
        return []
    free, reserve, target = (snapshot.num(uvmexp, name) for name in ("free", "reserve_kernel", "freetarg"))
    if free > reserve:
        return []
    locked = _locked_by(asking, state, snapshot)
    if locked:
        (page, lock, holder, since), one = locked[0], asking[0]
        fn = next((name for name in reversed(one["stack"]) if name not in ALLOCATING), "")
        text = (
            f"deadlock: {one['name']} waits in {fn} for free memory, which the pagedaemon has to free; "
            f"the pagedaemon waits for {lock}, the owner of {page}, held by {holder} since {since}"
        )
        story = [f"{page} cannot be freed: {lock} is held by {who} since {fn}" for page, lock, who, fn in locked]
        story.append("no other page is on the page queues")
        subject = lock.split(".", maxsplit=1)[0]
        # (when the machine was stopped is chance, so nothing is said of what it was doing inside of fn)
        held = [lock for lock in one["held"] if lock["since"] not in (fn, *ALLOCATING)]
        stack = one["stack"][: one["stack"].index(fn) + 1]
        return [Finding("deadlock", text, one["name"], fn, subject, stack=stack, held=held, story=story)]
    text = f"{asking[0]['name']} asks for memory for ever: {free} pages are free, the last {reserve} are reserved"
    if free >= target:
        text += f", and the pagedaemon is content with {target}"
    return [Finding("no-progress", text, asking[0]["name"], "uvm_wait", str(uvmexp))]


def _locked_by(
    asking: list[dict[str, Any]], state: dict[str, Any], snapshot: Snapshot
) -> list[tuple[str, str, str, str]]:
    """If all that the pagedaemon could free is locked by who waits for memory: page, lock, its holder, and since when.

    Who spins for a lock of theirs waits for memory too. [] if there is a page that could be freed, or none at all.
    """
    holders = {key: held[0] for key, held, _ in state["locks"] if held}
    waiting = {one["name"] for one in asking if one["held"]}
    while True:
        behind = {
            one["name"]
            for one in state["contexts"]
            if one["waits"] and one["waits"][0] == "lock" and holders.get(one["waits"][1], ("",))[0] in waiting
        }
        if behind <= waiting:
            break
        waiting |= behind
    found = []
    for name in ("page_active", "page_inactive_swp", "page_inactive_obj"):
        for page in snapshot.queues[name].items:
            owner = snapshot.get(page, "uobject") or snapshot.get(page, "uanon")
            if owner is None:
                return []
            key = owner.lock_key("an_lock" if owner.kind_name == "anon" else "vmobjlock")
            holder, _, since = holders.get(key, ("", "", ""))
            if holder not in waiting:
                return []
            found.append((str(page), lock_name(key), holder, since))
    return found


def _is_stuck(one: dict[str, Any]) -> bool:
    """Is it waiting for something that should have come?"""
    if one["finished"] or one["ready"] or one["waits"] is None or one["n"] == 0:
        return False  # (one that is ready has lost its CPU to another, which is stuck)
    code, target = one["waits"]
    if one["name"] == DAEMON and (code, target) == ("sleep", uvm.addressof("pagedaemon")):
        return False
    if code == "sleep" and _is_field(target, Proc, PAUSE):
        return False
    return code not in OPERATIONS or not OPERATIONS[code].idle


def _on_lock(one: dict[str, Any], key: int, contexts: dict[str, dict[str, Any]], graph: WaitGraph) -> Finding:
    who, lock = one["name"], lock_name(key)
    wait = graph.facts.waits[who]
    holders, ahead = graph.in_the_way(who, wait), graph.ahead_of(who, wait)
    if not holders and not ahead:
        return _finding(one, "lost-wakeup", f"{who} waits for {lock}, which is free", "", lock)
    since = holders[0].since if holders else ""
    ring = graph.cycle(who)
    if len(ring) > 1:
        text = "deadlock: " + "; ".join(graph.step(name, edge) for name, edge in ring)
        return _finding(one, "deadlock", text, since, lock)
    kind = "deadlock" if lock_sleeps(key) else "spin-forever"
    head = f"{who} {graph.verb(wait)} for ever in {_fn(one)} on {lock}"
    if ring:
        return _finding(one, kind, f"{head}, which it has held itself since {since}", since, lock)
    if not holders:
        return _finding(one, kind, f"{head}, behind {ahead[0]}, which never gets it", "", lock)
    held = ", and ".join(f"held by {hold.ctx} since {hold.since}" for hold in holders)
    doing = _why_held(holders, contexts, graph)
    return _finding(one, kind, f"{head}, {held}; {doing}", since, lock)


def _why_held(holders: list[Hold], contexts: dict[str, dict[str, Any]], graph: WaitGraph) -> str:
    """Why a lock's holders do not release it: one has ended, or cannot go on for lack of its CPU."""
    for hold in holders:
        one = contexts[hold.ctx]
        if one["finished"]:
            return f"{hold.ctx} has ended"
        spinning = [
            name
            for name, wait in graph.facts.waits.items()
            if contexts[name]["cpu"] == one["cpu"] and graph.verb(wait) == "spins"
        ]
        if one["ready"] and spinning:
            return f"{hold.ctx} waits for its CPU, on which {spinning[0]} spins"
    return f"{holders[0].ctx} never releases it"


def _asleep(one: dict[str, Any], chan: int, graph: WaitGraph, snapshot: Snapshot) -> Finding:
    name = channel_name(chan)
    fn = _fn(one)
    ring = graph.cycle(one["name"])
    if len(ring) > 1:
        text = "deadlock: " + "; ".join(graph.step(who, edge) for who, edge in ring)
        return _finding(one, "deadlock", text, fn, name)
    if chan == uvmexp.addressof("free"):
        free, reserve = snapshot.get(uvmexp, "free"), snapshot.get(uvmexp, "reserve_kernel")
        if free > reserve:
            text = f"{one['name']} sleeps in {fn} for free memory for ever, with {free} pages free"
            return _finding(one, "lost-wakeup", text, fn, name)
        paging = snapshot.num(uvmexp, "paging")
        if paging <= 0:  # the pagedaemon should have tried, and woken whoever waits
            text = f"{one['name']} sleeps in {fn} for free memory; {free} pages are free, and nobody goes to free more"
            return _finding(one, "lost-wakeup", text, fn, name)
        text = f"{one['name']} sleeps in {fn} for free memory; {free} pages are free, {paging} are in flight for ever"
        return _finding(one, "deadlock", text, fn, name)
    page = _busy_page(one, snapshot)
    if page is not None:
        tag = snapshot.get(page, "owner_tag")
        return _finding(one, "deadlock", f"{one['name']} sleeps in {fn} on {name}, busy for ever ({tag})", fn, name)
    if chan >> 8 >> KIND_SHIFT == Proc.kind and graph.waits_for_waiter(one["name"]):
        return _finding(one, "deadlock", graph.words(one["name"]), fn, name)
    return _finding(one, "lost-wakeup", f"{one['name']} sleeps in {fn} on {name}; nobody is going to wake it", fn, name)


def _fn(one: dict[str, Any]) -> str:
    return one["stack"][-1] if one["stack"] else "user mode"


def _finding(one: dict[str, Any], kind: str, text: str, function: str, subject: str) -> Finding:
    return Finding(
        kind,
        text,
        one["name"],
        function or _fn(one),
        subject.split(".", maxsplit=1)[0],
        stack=list(one["stack"]),
        held=list(one["held"]),
    )
