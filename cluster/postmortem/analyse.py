"""Makes a Postmortem of a run folder: the finding, the locks that contexts hold and wait for, and how it happened.

Everything is derived from the journals. run.json, if it exists, adds the verdict
over the whole run, the replay line, and counts to check. For a run that was
killed, the Postmortem has everything that the records show, and names what is missing.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TypedDict

from cluster.postmortem.history import (
    History,
    HoldReport,
    Line,
    LockReport,
    ObjectReport,
    by_object,
    concerns,
    hold_report,
    lines,
    lock_words,
    partners,
    related,
    report,
)
from cluster.postmortem.load import Run, load
from cluster.postmortem.order import Sequence, in_order
from cluster.postmortem.rows import LONGEST_TEXT, MAX_TEXTS, Operation, choose, fold, mark, named_operations
from cluster.postmortem.state import ContextState, Machine, Step
from cluster.postmortem.waits import Graph
from cluster.postmortem.words import (
    GLOBALS,
    OWNERS,
    handle,
    in_words,
    is_layout,
    kind_of,
    owner_of,
    place,
    spins,
    text_of,
)
from shared.errata import ERRATA
from shared.errors import LogIncomplete, UserMistake
from shared.findings import UNEXPECTED, Finding
from shared.journal.cut import cut_short, digested
from shared.journal.deviation import Deviation
from shared.journal.order import linearize
from shared.journal.record import Journals, Record, choice_of, digest, holes, names_of
from shared.journal.runfile import RUN, late_of
from shared.text import clean
from shared.uvm.structs import uvmexp

MODEL = ("page", "anon", "amap")
MAX_ABOUT = 6
MAX_ROWS = 400
MAX_OBJECTS = 8
_NAME = re.compile(r"\b([a-z]\w{1,15}):(\d{1,9})\b|\bswap slot (\d{1,9})\b")
_GLOBAL_FIELD = re.compile(r"\b(?:uvmexp|uvm)(?::0)?\.(\w+)")
_RACED = re.compile(r" on (\w+|an element) of ")
LAST_EVENTS = 5
LAST_STEPS = 60


class FrameReport(TypedDict):
    """A kernel function that a context is in, and its operation number when it entered it."""

    fn: str
    n: int


class HeldReport(HoldReport):
    """A lock that a context holds."""

    lock: str


@dataclass
class ContextReport:
    """A context at the end of its log.

    Attributes:
        n: its last operation.
        doing: in a few words.
        wait: the sentence that says what it waits for, or "".
        stack: kernel functions with the operation number at entry, outermost first.
        on_cpu: has its CPU (or is interrupted on it).
    """

    name: str
    cpu: str
    n: int
    doing: str
    wait: str = ""
    on_cpu: bool = False
    stack: list[FrameReport] = field(default_factory=list)
    held: list[HeldReport] = field(default_factory=list)


@dataclass
class NodeReport:
    """A node's journal. `expected`: number of records by run.json, or None."""

    name: str
    records: int
    expected: int | None
    process: str
    last: list[str] = field(default_factory=list)


@dataclass
class Postmortem:
    """The report that a run's logs give.

    Attributes:
        source: where the finding is from: "run.json", "journal", or "".
        complete: the logs are whole; if not, `holes` (records that are not there)
            or `warnings` (lines and files that cannot be read) say why.
        replay: the line that repeats this very run; of a user's own program, a line of Python.
        shortened: the line that replays another, shorter schedule with the same finding, as the token of a live run.
        schedule: the run's deviations from the default schedule, in words, if its token has them.
        program: the run is of a Python program of the user's own.
        patch: of the kernel, if it had one: `file`, its name, and `source`, the file of the folder that has its text.
        steps: the interleaving: what was done to what the finding is about.
        steps_about: what that is; [] if they are simply the last steps.
        about: the object that was asked for, with its whole history, if one was.
        waits: the wait-for graph, a sentence an edge, in the order of the chain.
        cycle: contexts that wait for each other in a ring.
        locks: those held or wanted at the end, and that of the finding's object.
        digest: the journals' own; `digest_checked`: run.json has the same.
        past: number of records that the digest covers, if only the finding's past; else 0.
        after: what is missing of the moment after the finding.
    """

    path: str
    scenario: dict[str, str] = field(default_factory=dict)
    engine: str = ""
    errata: list[dict[str, str]] = field(default_factory=list)
    program: bool = False
    patch: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    finding: Finding | None = None
    source: str = ""
    headline: str = ""
    replay: str = ""
    shortened: str = ""
    schedule: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    steps: list[Line] = field(default_factory=list)
    steps_about: list[str] = field(default_factory=list)
    about: ObjectReport | None = None
    waits: list[str] = field(default_factory=list)
    cycle: list[str] = field(default_factory=list)
    locks: list[LockReport] = field(default_factory=list)
    contexts: list[ContextReport] = field(default_factory=list)
    objects: list[ObjectReport] = field(default_factory=list)
    uvmexp: dict[str, int] = field(default_factory=dict)
    nodes: list[NodeReport] = field(default_factory=list)
    records: int = 0
    digest: str = ""
    digest_checked: bool = False
    past: int = 0
    complete: bool = True
    ended: bool = True
    holes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    after: list[str] = field(default_factory=list)

    @property
    def no_errata(self) -> str:
        """What is said instead of the errata, if there are none."""
        if self.program:
            return "none (a Python program, without the kernel)"
        return "none" if self.patch else "none (the repaired kernel)"

    @property
    def patch_words(self) -> str:
        """The patch, and where its source is; "" if there was none."""
        source = self.patch.get("source")
        return self.patch.get("file", "") + (f" (to read its source: {source} in this folder)" if source else "")

    @property
    def no_replay(self) -> str:
        """Why there is no line that repeats the run."""
        return "unknown: the run has no token" if self.ended else "unknown: there is no run.json"

    def as_dict(self) -> dict[str, object]:
        """As plain data for tools; no string in it has control characters."""
        return {key: _clean(value) for key, value in {"schema": "uvmp-postmortem/1", **asdict(self)}.items()}


def _clean(value: object) -> object:
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, dict):
        return {clean(key): _clean(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_clean(part) for part in value]
    return value


def analyse(path: str | Path, name: str = "") -> Postmortem:
    """Read a run folder and say what happened.

    Args:
        name: an object whose whole history is wanted, as `page:3`, `anon:5.an_lock` or `slot:2`.

    Raises: UserMistake - the folder is not of a run, or has no such object.
    """
    return of(load(path), name)


def of(run: Run, name: str = "") -> Postmortem:
    """The postmortem of a folder that has been read."""
    sequence = in_order(run.journals)
    machine = Machine(*_places(run)).apply_all(sequence.records)
    pm = Postmortem(run.path, ended=run.run is not None, warnings=list(run.torn))
    _identity(pm, run)
    _integrity(pm, run, sequence)
    _finding(pm, run)
    graph = Graph(machine, _procs(run.scenario))
    _contexts(pm, run, graph)
    _waits(pm, graph)
    history = by_object(machine)
    about, objects = _involved(pm, graph, history)
    telling = _telling_operations(pm, graph, run)
    _steps(pm, machine, about, telling)
    pm.objects = [report(name, machine.steps.some(history.get(name, ())), machine) for name in objects]
    for struct in pm.objects:
        mark(struct.history, telling)
        struct.history = choose(fold(struct.history), MAX_ROWS)
    if name:
        pm.about = _asked_for(name, machine, history)
    _locks(pm, machine, about)
    _uvmexp(pm, run, machine)
    _nodes(pm, run)
    pm.headline = _headline(pm)
    return pm


# -- whose run this is, and is the log whole -----------------------------------------


def _dict(value: object) -> dict[str, object]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _identity(pm: Postmortem, run: Run) -> None:
    about, scenario = _dict(run.run), _dict(run.scenario)
    header: Record = next((header for header in run.headers.values() if header), {})
    named = _dict(about.get("scenario"))
    for key in ("id", "name", "title", "file"):
        value = named.get(key, scenario.get(key, header.get("scenario") if key == "id" else None))
        if isinstance(value, str):
            pm.scenario[key] = value
    pm.engine = str(about.get("engine", header.get("engine", "")))
    pm.patch = run.patch()
    pm.program = run.loaded is not None and run.loaded.functions is not None
    pm.replay, pm.shortened = run.replay_lines()
    pm.versions = {str(key): str(value) for key, value in _dict(about.get("versions", header.get("versions"))).items()}
    for name in _list(about.get("errata", scenario.get("errata", header.get("errata")))):
        erratum = ERRATA.get(name) if isinstance(name, str) else None
        said = (str(name), "", "", "")
        if erratum is not None:
            said = (erratum.id, erratum.name, erratum.sentence, "; ".join(erratum.source))
        pm.errata.append(dict(zip(("id", "row", "sentence", "source"), said, strict=True)))
    for number, step in enumerate(_list(about.get("schedule")), 1):
        parts = _dict(step)
        deviation = Deviation._make(parts.get(key, "?") for key in Deviation._fields)
        pm.schedule.append(f"{number}. {deviation}")
    pm.notes = [str(_dict(note).get("text", "")) for note in _list(about.get("notes"))]


def _integrity(pm: Postmortem, run: Run, sequence: Sequence) -> None:
    """Are records missing? Other CPUs continue for a moment after the run is stopped; those records may be missing."""
    pm.records = sum(len(records) for records in run.journals.values())
    admitted = _dict(_dict(run.run).get("admitted"))
    pm.holes += run.missing(admitted or (() if run.loaded is None else run.loaded.machine.nodes))
    gaps = holes(run.journals)
    gaps += cut_short(run.journals, admitted)
    if sequence.forced and not gaps:
        try:
            linearize(run.journals)
        except (LogIncomplete, KeyError, IndexError) as wrong:
            gaps.append(str(wrong))
    pm.digest = _digest(run.journals)
    wanted = _dict(run.run).get("digest")
    if isinstance(wanted, str) and wanted and not pm.holes and not run.torn:
        late = late_of(_dict(run.run))
        limit = 1 << 62 if run.loaded is None else run.loaded.limit if late is None else late.operations
        past = None if wanted == pm.digest else digested(run.journals, wanted, limit)
        if wanted == pm.digest:
            pm.digest_checked = True
        elif past is not None:
            pm.digest, pm.digest_checked, pm.past = wanted, True, sum(1 for records in past.values() for _ in records)
            pm.after, gaps = gaps, []
        elif not gaps:
            other = f"the records have digest {pm.digest[:16]}, {RUN} says {clean(wanted, 16)}"
            gaps.append(f"{other}: the journals were changed")
    pm.holes += gaps
    if run.run is None:
        pm.holes.append(f"there is no {RUN}: the run did not end")
    pm.complete = not pm.holes and not pm.warnings


def _digest(journals: Journals) -> str:
    try:
        return digest(journals)
    except RecursionError:  # nested too deeply
        return ""


def _places(run: Run) -> tuple[int, Callable[[int], str]]:
    """The page size, and an address in the scenario's own words."""
    return (0, hex) if run.loaded is None else (run.loaded.machine.page_size, run.loaded.place)


# -- the finding ------------------------------------------------------------------------


def _finding(pm: Postmortem, run: Run) -> None:
    finding, pm.source = run.finding()
    pm.finding = None if finding is None else Finding.from_file(finding)


def _headline(pm: Postmortem) -> str:
    finding = pm.finding
    if finding is not None:
        where = f" in {finding.function}" if finding.function else ""
        return f"{finding.kind}{where}" + (f", {place(finding.subject)}" if finding.subject else "")
    if pm.ended:
        return "no finding"
    if pm.cycle:
        return f"cut short; according to the logs, {' and '.join(pm.cycle)} wait for each other"
    stuck = [context.name for context in pm.contexts if context.wait]
    return "cut short, without a finding" + (f"; waiting at that moment: {', '.join(stuck)}" if stuck else "")


# -- contexts and waits -------------------------------------------------------------------


def _contexts(pm: Postmortem, run: Run, graph: Graph) -> None:
    lwps = [_dict(context) for context in _list(_dict(run.scenario).get("lwps"))]
    pm.contexts = contexts_of(graph, {str(lwp.get("name")): f"cpu{lwp.get('cpu')}" for lwp in lwps})
    for context in pm.contexts:
        if pm.finding is not None and pm.finding.context == context.name and pm.source == "journal":
            context.doing = f"stopped by the finding, {context.doing}"


def contexts_of(graph: Graph, cpus: Mapping[str, str]) -> list[ContextReport]:
    """Every context, as its records leave it.

    Args:
        cpus: of the threads of the scenario, which come first, also if they have not run.
    """
    machine = graph.machine
    rank = {name: at for at, name in enumerate(cpus)}
    names = sorted({*rank, *machine.contexts}, key=lambda name: (rank.get(name, len(rank)), name))
    reports: list[ContextReport] = []
    for name in names:
        context = machine.contexts.get(name)
        if context is None:
            reports.append(ContextReport(name, cpus.get(name, "?"), 0, "has not run"))
            continue
        on_cpu = name in machine.cpus.get(context.cpu, ()) and not context.ended and not _parked(context)
        stack: list[FrameReport] = [{"fn": frame.fn, "n": frame.n} for frame in context.stack]
        held: list[HeldReport] = [{**hold_report(hold), "lock": place(lock)} for lock, hold in context.held.items()]
        doing, wait = machine.doing(context), graph.words(context)
        reports.append(ContextReport(name, context.cpu, context.n, doing, wait, on_cpu, stack, held))
    return reports


def _parked(context: ContextState) -> bool:
    """Has it given up its CPU?"""
    wait = context.wait
    if wait is None or wait.kind.startswith("pmap"):
        return False
    return not (wait.kind in ("lock", "upgrade") and spins(wait.what))


def _procs(scenario: dict[str, object] | None) -> dict[str, list[str]]:
    """Process -> its threads, in order of process numbers."""
    procs: dict[str, list[str]] = {str(proc): [] for proc in _list(_dict(scenario).get("procs"))}
    for lwp in map(_dict, _list(_dict(scenario).get("lwps"))):
        procs.setdefault(str(lwp.get("proc")), []).append(str(lwp.get("name")))
    return procs


def _waits(pm: Postmortem, graph: Graph) -> None:
    start = pm.finding.context if pm.finding is not None else ""
    forever = pm.source == RUN and pm.finding is not None and pm.finding.detector == "deadlock"
    pm.waits, pm.cycle = graph.chains(start, forever)


def _locks(pm: Postmortem, machine: Machine, about: list[str]) -> None:
    for name, lock in machine.locks.items():
        if lock.holders or lock.waiters or owner_of(name) in about:
            pm.locks.append(lock_words(name, machine))
    pm.locks.sort(key=lambda lock: (not lock["waiters"], not lock["holders"], lock["lock"]))


# -- what it is about -------------------------------------------------------------------------


def _involved(pm: Postmortem, graph: Graph, history: History) -> tuple[list[str], list[str]]:
    """The structs that the finding is about, and those whose history is told besides.

    It is about its subject, about those that its text names or, if that says where values were, its story; and about
    what an anon or a page of them pointed to during the run.
    """
    machine = graph.machine
    finding = pm.finding
    context = machine.contexts.get(finding.context) if finding is not None else None
    named = [owner_of(finding.subject), *_named([finding.text])] if finding is not None else []
    if finding is not None and finding.detector == "oracle":
        named += _named(finding.story)
    about = [name for name in dict.fromkeys(named) if name in history]
    in_ring = [context for context in graph.blocked() if context.name in pm.cycle]
    for waiter in in_ring if about or in_ring else graph.blocked():
        if waiter.wait is not None and (not about or waiter.wait.kind in ("lock", "upgrade")):
            about.append(owner_of(waiter.wait.what))
    about = [name for name in dict.fromkeys(about) if name in history]
    for name in list(about):
        about += [partner for partner in partners(name, machine, history) if partner in history]
    about = list(dict.fromkeys(about))[:MAX_ABOUT]
    objects = list(about)
    for name in about:
        objects += related(name, machine, history)
    if context is not None:
        owners = [owner_of(lock) for lock in context.held]
        objects += [name for name in owners if kind_of(name) in MODEL]
        for name in owners:
            objects += related(name, machine, history)
    return about, list(dict.fromkeys(objects))[:MAX_OBJECTS]


def _asked_for(name: str, machine: Machine, history: History) -> ObjectReport:
    """One struct, swap slot or lock, with its whole history.

    Raises: UserMistake - the records have no such thing.
    """
    owner, dot, rest = name.partition(".")
    owner = OWNERS.get(owner, owner)
    if dot and owner + dot + rest in machine.locks:
        lock = owner + dot + rest
        asked = report(lock, (step for step in machine.steps if step.record.get("lock") == lock), machine)
        asked.fields, asked.lock = {}, lock_words(lock, machine)
    elif not dot and (owner in history or owner in machine.lives):
        asked = report(owner, machine.steps.some(history.get(owner, ())), machine)
    else:
        there: dict[str, list[int]] = {}
        for life in {*history, *machine.lives}:
            kind, _, number = life.partition(":")
            if number.isdecimal():
                there.setdefault(kind, []).append(int(number))
        ranges = [f"{kind}:{_span(numbers)}" for kind, numbers in sorted(there.items())]
        raise UserMistake(
            f"there is no object {clean(name, 60)!r} in this log; there are {', '.join(ranges) or 'none'};"
            " and locks, for instance anon:0.an_lock or uvm.pageqlock",
            field="--object",
        )
    asked.history = fold(asked.history)
    return asked


def _span(numbers: list[int]) -> str:
    """Numbers in short: 0 to 5; if some are missing, how many there are."""
    low, high = min(numbers), max(numbers)
    if low == high:
        return f"{low}"
    return f"{low} to {high}" + ("" if len(numbers) == high - low + 1 else f" ({len(numbers)} of them)")


def _named(texts: list[str]) -> list[str]:
    """The structs and swap slots that sentences name."""
    named: list[str] = []
    for text in texts[:MAX_TEXTS]:
        for match in _NAME.finditer(text[:LONGEST_TEXT]):
            named.append(f"slot:{match[3]}" if match[3] else f"{match[1]}:{match[2]}")
    return named


def _steps(pm: Postmortem, machine: Machine, about: list[str], telling: list[Operation]) -> None:
    """The interleaving: what was done to those structs, and when who of those who did it slept, woke and waited."""
    focus = set(about)
    raced = _raced(pm)
    fields = _global_fields(pm)
    chosen: set[int] = set()
    for step in machine.steps:
        event = step.record["event"]
        loads = event == "load" and raced and raced == text_of(step.record, "field")
        loaded = handle(step.record.get("obj")) if loads else None
        about_it = concerns(step, machine) & focus
        if event != "finding" and about_it and about_it <= GLOBALS.keys() and fields and not _fields_of(step) & fields:
            continue
        chooses = choice_of(step.record) > 0  # other data than by default: it may be what all else comes of
        if event == "finding" or about_it or chooses or (loaded is not None and loaded[0] in focus):
            chosen.add(step.at)
    if pm.finding is not None and pm.finding.detector == "oracle":  # reported at the end, and seen before
        named = {
            operation for operation in telling if operation in named_operations(pm.finding.story, machine.contexts)
        }
        there = (step for step in machine.steps.some(chosen) if (step.record["ctx"], step.record["n"]) in named)
        last = max((step.at for step in there), default=None)
        chosen = {at for at in chosen if last is None or at <= last}
    actors = {step.record["ctx"] for step in machine.steps.some(chosen)}
    first, end = min(chosen, default=0), max(chosen, default=0)
    if not focus or len(chosen) < 2:
        results = pm.finding is not None and pm.finding.kind == UNEXPECTED
        wanted = _of_programs if results else _telling
        rows = lines(deque(filter(wanted, machine.steps), LAST_STEPS), machine)
    else:
        pm.steps_about = about
        for step in machine.steps.some(range(first, end)):
            record = step.record
            paused = record["event"] in ("sleep", "note")
            if record["ctx"] in actors and (paused or actors & {*names_of(record, "woke")}):
                chosen.add(step.at)
        rows = lines(machine.steps.some(sorted(chosen)), machine)
    mark(rows, telling)
    pm.steps = choose(fold(rows), MAX_ROWS)


def _raced(pm: Postmortem) -> str:
    """The field that a data race is about, whose loads are half of the story; "" if the finding is of another kind."""
    match = _RACED.search(pm.finding.text) if pm.finding is not None and pm.finding.kind == "data-race" else None
    return "" if match is None else "[]" if match[1] == "an element" else match[1]


def _global_fields(pm: Postmortem) -> set[str]:
    """Which fields of the globals the finding and the waits speak of; of a struct of so many the others are noise."""
    texts = [*pm.waits, *([pm.finding.text, *pm.finding.story] if pm.finding is not None else [])]
    fields = {match[1] for text in texts[:MAX_TEXTS] for match in _GLOBAL_FIELD.finditer(text[:LONGEST_TEXT])}
    return fields | ({"free"} if any("free memory" in text for text in texts) else set())


def _fields_of(step: Step) -> set[str]:
    """The field that a step stores, or on which it sleeps or wakes."""
    record = step.record
    return {text_of(record, "field"), text_of(record, "chan").partition(".")[2]}


def _telling_operations(pm: Postmortem, graph: Graph, run: Run) -> list[Operation]:
    """The operations that explain what was found, the most telling first: those that the finding's text and story speak
    of, those by which the locks and pages were taken that are waited for, and those after which the schedule left the
    default one."""
    facts = graph.graph.facts
    texts = [pm.finding.text, *pm.finding.story] if pm.finding is not None else []
    operations = named_operations(texts, graph.machine.contexts)
    for name, wait in facts.waits.items():
        operations += [(hold.ctx, hold.n) for hold in facts.holders.get(wait.what, ())]
        operations += [(facts.busy[wait.what].ctx, facts.busy[wait.what].n)] if wait.what in facts.busy else []
        operations.append((name, wait.n))
    for step in map(_dict, _list(_dict(run.run).get("schedule"))):
        ctx, n = step.get("ctx"), step.get("n")
        if isinstance(ctx, str) and type(n) is int:
            operations.append((ctx, n))
    return list(dict.fromkeys(operations))


def _of_programs(step: Step) -> bool:
    """Is it a step of a program, its result, or what it loaded or stored?"""
    return step.record["event"] in ("call", "return", "word_read", "word_write")


def _telling(step: Step) -> bool:
    """Is it worth a row where nothing says what the rows should be about?"""
    record = step.record
    dull = record["event"] in ("load", "enter", "exit", "claim")
    return not dull and not is_layout(kind_of(text_of(record, "obj")), text_of(record, "field"))


def _uvmexp(pm: Postmortem, run: Run, machine: Machine) -> None:
    """The values that `show uvmexp` would print, of the fields that the run accessed."""
    for (name, _), known in machine.fields.items():
        if name == f"{uvmexp}" and type(known.value) is int:
            pm.uvmexp[known.field] = known.value
    for key, value in _dict(_dict(run.run).get("counters")).items():
        if type(value) is int:
            pm.uvmexp.setdefault(str(key), value)


def _nodes(pm: Postmortem, run: Run) -> None:
    admitted = _dict(_dict(run.run).get("admitted"))
    for node, records in sorted(run.journals.items()):
        header = run.headers.get(node, {})
        process = f"process {header['pid']} on {header.get('host', '?')}" if "pid" in header else ""
        expected = admitted.get(node)
        last = [
            f"{record['nseq']:>6}  {record['ctx']:<14} {record['n']:>6}  {in_words(record)}"
            for record in records[-LAST_EVENTS:]
        ]
        pm.nodes.append(NodeReport(node, len(records), expected if type(expected) is int else None, process, last))
