"""Views of a stopped machine: its contexts, locks, structs and address spaces.

Contexts, locks and waits are told from the records, as a postmortem tells them (cluster/postmortem). The fields of a
struct are those of the heap itself, also those that the setup has set.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from cluster.live.doing import Doing
from cluster.postmortem.analyse import ContextReport, contexts_of
from cluster.postmortem.history import LockReport, ObjectReport, by_object, lines, lock_words
from cluster.postmortem.rows import fold
from cluster.postmortem.state import Machine
from cluster.postmortem.views.text import lock_lines, object_lines, table, trace
from cluster.postmortem.waits import Graph
from cluster.postmortem.words import OWNERS, PROTECTION, by_address, ddb, in_words, lvalue, place, shown
from cluster.session.session import Session
from nodes.cpu import Thread
from shared.detectors.invariants.snapshot import Snapshot, Structs
from shared.detectors.verdict import snapshot_of
from shared.errors import UserMistake
from shared.journal.record import Record, operation_record, plain
from shared.port.struct import KIND_NAMES, KIND_SHIFT, Array, FieldBase, Struct
from shared.scenario.model import unknown
from shared.scenario.yaml import show
from shared.uvm.structs import Page, Proc, VmMap, VmMapEntry, Vmspace

#: what a tool is told
Data = dict[str, object]
#: columns of text
WIDTH = 100
#: rows of a history
MAX_ROWS = 60
INHERIT = {0: "share", 1: "copy", 2: "none"}


class Look:
    """The views of one session.

    Attributes:
        story: the machine as its records tell it, as far as they have been read.
        fed: how many that is.
    """

    def __init__(self, session: Session):
        self.session = session
        self.story = Machine(session.scenario.machine.page_size, session.scenario.place)
        self.fed = 0

    def read(self) -> Machine:
        """The story up to now. (A machine that was booted anew has the same records.)"""
        records = self.session.machine.records
        self.story.where = self.session.scenario.place
        for record in records[self.fed :]:
            self.story.apply(record)
        self.fed = len(records)
        return self.story

    # -- contexts ------------------------------------------------------------------

    def contexts(self) -> list[ContextReport]:
        """Every context that a scenario's user knows, and what it does."""
        scenario, threads = self.session.scenario, self.session.threads()
        procs: dict[str, list[str]] = {name: [] for name in scenario.procs}
        for lwp in scenario.lwps:
            procs.setdefault(lwp.proc, []).append(lwp.name)
        reports = contexts_of(Graph(self.read(), procs), {lwp.name: f"cpu{lwp.cpu}" for lwp in scenario.lwps})
        for report in reports:
            if not self.session.machine.ended and self.session.waits_for_step(threads[report.name]):
                report.doing = "in user mode, waits for a step"
            elif report.wait:
                report.doing = report.wait.removeprefix(f"{report.name} ")
        return reports

    def ps(self) -> tuple[list[str], Data]:
        reports, enabled = self.contexts(), self.session.enabled()
        known, threads = {report.name for report in reports}, self.session.threads()
        reports += [ContextReport(name, threads[name].cpu, 0, "has not run") for name in enabled if name not in known]
        lines = list(table(reports, WIDTH))
        lines.append(f"can go on: {', '.join(enabled) or 'none'}")
        data: Data = {"contexts": [
            {"name": report.name, "cpu": report.cpu, "n": report.n, "doing": report.doing, "on_cpu": report.on_cpu}
            for report in reports
        ]}  # fmt: skip
        return lines, {**data, "enabled": enabled}

    def doing(self) -> list[Doing]:
        """What each context does that has begun and has not ended; first those that wait for others."""
        rows = [
            Doing(report.name, report.cpu, report.doing, bool(report.wait))
            for report in self.contexts()
            if report.n and not self.story.contexts[report.name].ended
        ]
        return sorted(rows, key=lambda row: not row.waits)

    def counts(self) -> dict[str, int]:
        """Node -> operations that it has performed, or admitted, if there are any."""
        machine = self.session.machine.sim.machine
        counts = {name: node.admitted for name, node in machine.nodes.items()}
        counts |= {processor.name: processor.k for processor in machine.processors}
        return {name: count for name, count in counts.items() if count}

    def trace(self, name: str) -> tuple[list[str], Data]:
        """The kernel stack of a context."""
        threads = self.session.threads()
        if name not in threads:
            unknown("context", name, threads)
        report = next((context for context in self.contexts() if context.name == name), None)
        if report is None:
            report = ContextReport(name, threads[name].cpu, 0, "has not run")
        lines = list(trace(report, WIDTH)) if report.stack else [f"  {name} is in no kernel function ({report.doing})"]
        following = self.following(threads[name])
        if following:
            lines.append(f"    next: {following}")
        data: Data = {
            "name": name,
            "doing": report.doing,
            "stack": report.stack,
            "held": report.held,
            "next": following,
        }
        return lines, data

    def following(self, thread: Thread) -> str:
        """The operation that a context performs next, in words; "": it continues behind a wait, or cannot."""
        pending = None if self.session.machine.ended else thread.pending
        if pending is None or thread.name not in self.session.enabled():
            return ""
        code, target, args = pending
        if code == "access":
            va, write = args
            return f"{'stores' if write else 'loads'} at {self.session.scenario.place(_whole(va))}"
        if code in ("run", "intr"):
            return {"run": "gets the CPU", "intr": "interrupts"}[code]
        local = code in ("userret", "iret", "choose")
        record: Record = {"event": code} if local else operation_record(code, target, args, None, [])
        if code == "load":
            return f"loads {lvalue(record)}"
        return by_address(record, self.session.scenario.place) or in_words(record)

    def locks(self) -> tuple[list[str], Data]:
        """The locks that are held or wanted."""
        story = self.read()
        reports: list[LockReport] = [
            lock_words(name, story) for name, lock in sorted(story.locks.items()) if lock.holders or lock.waiters
        ]
        lines = [line for report in reports for line in lock_lines(report, WIDTH)]
        return lines or ["  no lock is held"], {"locks": reports}

    # -- structs ----------------------------------------------------------------------

    def named(self, name: str) -> tuple[list[str], Data]:
        """A struct's fields; of a lock, who has it.

        Raises: UserMistake - there is none such.
        """
        owner, dot, rest = name.partition(".")
        owner = OWNERS.get(owner, owner)
        if dot:
            story, lock = self.read(), f"{owner}.{rest}"
            kind = KIND_NAMES.get(owner.partition(":")[0])
            if kind is None or rest not in kind.lock_fields:
                raise UserMistake(f"there is no lock {show(name)}; for instance page:3 has none, anon:5.an_lock is one")
            if lock not in story.locks:
                return [f"  {place(lock)} has not been taken in this session"], {"lock": None}
            return list(lock_lines(lock_words(lock, story), WIDTH)), {"lock": lock_words(lock, story)}
        report = self.struct(owner)
        data: Data = {"object": place(report.name), "fields": report.fields, "elements": report.elements}
        return list(object_lines(report, WIDTH)), data

    def history(self, name: str) -> tuple[list[str], Data]:
        """A struct's fields, and all that was done to it.

        Raises: UserMistake - there is none such.
        """
        report, story = self.struct(OWNERS.get(name, name)), self.read()
        steps = story.steps.some(by_object(story).get(report.name, ()))
        report.history = fold(lines(steps, story, within=report.name))
        text = list(object_lines(report, WIDTH, MAX_ROWS))
        return text, {"object": place(report.name), "history": text[1:]}

    def struct(self, name: str) -> ObjectReport:
        """The fields of a struct as they are now."""
        kind_name, _, number = name.partition(":")
        kind = KIND_NAMES.get(kind_name)
        heap = self.session.machine.sim.heap
        if kind is None or not number.isascii() or not number.isdecimal() or len(number) > 7:
            known = ", ".join(sorted(KIND_NAMES))
            raise UserMistake(f"there is no object {show(name)}; expected KIND NUMBER, as page 3; kinds: {known}")
        record = heap.get(kind.kind << KIND_SHIFT | int(number))
        if record is None:
            there = sorted(key & (1 << KIND_SHIFT) - 1 for key in heap if key >> KIND_SHIFT == kind.kind)
            known = f"{len(there)} of them, {there[0]} to {there[-1]}" if there else "none"
            raise UserMistake(f"there is no {kind_name}:{int(number)}; there are {known}")
        report = ObjectReport(f"{kind_name}:{int(number)}", kind_name, record.gen)
        for key, field in kind.fields.items():
            if field.slot < 0:
                continue
            value = record[field.slot]
            if key == (name_now := _name_of(kind, field, value)):
                report.fields[key] = ddb(kind_name, key, plain(value))
            elif field.union_of is None:
                report.fields[key] = f"({name_now}={ddb(kind_name, name_now, plain(value))})"
            if isinstance(value, Array) and heap.get(value.id) is not None:
                for at, element in enumerate(Structs(heap).array(value)):
                    report.elements[f"{key}[{at}]"] = shown(type(value).kind_name, "[]", plain(element))
        counters = [processor.counters for processor in self.session.machine.sim.machine.processors]
        if kind_name == "uvmexp":
            for key in kind.fields:
                if any(key in counts for counts in counters):
                    report.fields[key] = str(sum(counts.get(key, 0) for counts in counters))
        return report

    # -- address spaces -----------------------------------------------------------------

    def map(self, name: str) -> tuple[list[str], Data]:
        """The map of a process, as ddb's `show map` prints it, with the region of each entry."""
        scenario = self.session.scenario
        if name not in scenario.procs:
            unknown("process", name, scenario.procs)
        sim = self.session.machine.sim
        snapshot = snapshot_of(sim.machine.state(sim.heap))
        proc: Proc = Proc.at(scenario.procs.index(name))
        vm = snapshot.follow(proc, "p_vmspace", Vmspace)
        vm_map = None if vm is None else snapshot.follow(vm, "vm_map", VmMap)
        if vm_map is None:
            return [f"  {name} has no address space"], {"map": None}
        entries = snapshot.entries[vm_map].items
        low, high = snapshot.num(vm_map, "min_offset"), snapshot.num(vm_map, "max_offset")
        pmap = snapshot.num(vm_map, "pmap")
        lines = [f"MAP {vm_map} of {name}: [{low:#x}, {high:#x}), {len(entries)} entries, pmap {pmap}"]
        lines += [line for entry in entries for line in self._entry(snapshot, entry, pmap)]
        data = [{key: plain(snapshot.get(entry, key)) for key in _ENTRY} for entry in entries]
        return lines, {"map": str(vm_map), "entries": data}

    def _entry(self, snapshot: Snapshot, entry: VmMapEntry, pmap: int) -> Iterator[str]:
        start, end, get = snapshot.num(entry, "start"), snapshot.num(entry, "end"), snapshot.num
        rights = "/".join(PROTECTION.get(get(entry, key), "?") for key in ("protection", "max_protection"))
        inherit = INHERIT.get(get(entry, "inheritance"), "?")
        yield (
            f"  {entry} [{start:#x}, {end:#x}) {self.session.scenario.place(start)}: prot={rights}, inherit={inherit},"
            f" wired={get(entry, 'wired_count')}, etype={ddb('entry', 'etype', get(entry, 'etype'))}"
        )
        amap, uobj = snapshot.get(entry, "aref_amap"), snapshot.get(entry, "object")
        yield f"    amap={place(str(amap)) if amap else 'NULL'}, object={place(str(uobj)) if uobj else 'NULL'}"
        size = self.session.scenario.machine.page_size
        ptes = {vpn: pte for vpn, pte in snapshot.pmaps.get(pmap, {}).items() if start <= vpn * size < end}
        for vpn, (frame, prot, *_) in sorted(ptes.items()):
            words = snapshot.frames[frame] if frame < len(snapshot.frames) else ()
            value = f", first word {words[0]}" if words else ""
            where = self.session.scenario.place(vpn * size)
            yield f"    {where} -> {Page.at(frame)} {PROTECTION.get(prot, '?')}{value}"


_ENTRY = ("start", "end", "protection", "max_protection", "inheritance", "wired_count", "aref_amap", "object")


def _whole(value: object) -> int:
    return value if isinstance(value, int) else 0


def _name_of(kind: type[Struct], field: FieldBase, value: Any) -> str:
    """Of the names that the slot of a field has, that which fits the value there."""
    fields = [declared for declared in kind.fields.values() if declared.slot == field.slot]
    fits = [declared for declared in fields if isinstance(value, Struct) and type(value).__name__ in declared.type]
    return (fits or fields)[0].name
