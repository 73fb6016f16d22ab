"""A Postmortem as text, in the style of LOCKDEBUG and ddb(4).

Headings begin in column 0, all other lines are indented. Every line goes through
`clean`. The replay line is never broken, so that it can be pasted.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator
from pathlib import PurePath

from cluster.postmortem.analyse import ContextReport, Postmortem
from cluster.postmortem.history import HoldReport, Line, LockReport, ObjectReport
from cluster.postmortem.rows import choose
from cluster.postmortem.words import GLOBALS, is_layout, place
from shared.findings import FINDINGS
from shared.locks.table import LOCK_MODES
from shared.text import clean, counted

WIDTH = 80
LONGEST = 4000
MAX_STEPS = 40
MAX_HISTORY = 16
MAX_ITEMS = 12
MAX_COLUMNS = 3
NARROWEST = 36
#: columns from which on a history has columns of its own
ROOMY = 80
UNKNOWN = "?"

#: what `show page` and its like print, line by line; the rest of the fields follows
LAYOUT = {
    "page": (("flags", "pqflags", "wire_count", "loan_count"), ("uobject", "uanon", "offset", "owner_tag")),
    "anon": (("an_ref", "an_page", "an_swslot"),),
    "amap": (("am_ref", "am_flags", "am_maxslot", "am_nslot", "am_nused"),),
}
UVMEXP = {
    "pages": "npages free active inactive wired paging",
    "limits": "freemin freetarg inactarg reserve_pagedaemon reserve_kernel",
    "anons, swap": "nanon nfreeanon swpages swpginuse swpgonly nswget",
    "faults": "faults fltnoram fltnoanon fltpgwait fltpgrele fltrelck fltrelckok fltanget fltanretry",
    "cases": "flt_anon flt_acow flt_obj flt_prcopy flt_przero fltamcopy fltnamap fltnomap",
    "daemon": "pdwoke pdrevs pdscans pdbusy pdfreed pdreact pddeact pdpageouts pdpending",
}


def render(pm: Postmortem, width: int = WIDTH) -> str:
    """The report, ending in a newline.

    Args:
        width: of the terminal; at least 60 is used.
    """
    width = max(60, min(width, 200))
    out: list[str] = []
    for section in (_head, _interleaving, _waits, _locks, _contexts, _objects, _uvmexp, _nodes, _log):
        lines = [clean(line).rstrip() for line in section(pm, width)]
        if lines:
            out += [*([""] if out else []), *lines]
    return "\n".join(out) + "\n"


def render_object(pm: Postmortem, width: int = WIDTH) -> str:
    """All that is known of the object that was asked for, ending in a newline."""
    if pm.about is None:
        return ""
    rows = len(pm.about.history) + 1
    lines = [*object_lines(pm.about, width, rows)]
    if pm.about.lock is not None:
        lines[1:1] = [*lock_lines(pm.about.lock, width)][1:]
    if not pm.about.history:
        lines.append("  no operation on it in this run")
    return "\n".join(clean(line).rstrip() for line in lines) + "\n"


def wrap(text: str, width: int, indent: str = "  ", hang: str = "") -> list[str]:
    """Text in lines no longer than `width`; no word is broken, so that names can be searched for."""
    return fold_text(text, width, indent, indent + hang)


def fold_text(text: str, width: int, first: str, others: str) -> list[str]:
    return textwrap.wrap(
        clean(text, LONGEST),
        width,
        initial_indent=clean(first),
        subsequent_indent=others,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _labelled(label: str, text: str, width: int) -> list[str]:
    return fold_text(text, width, f"  {label:<10}", " " * 12)


# -- what was found -------------------------------------------------------------------


def _head(pm: Postmortem, width: int) -> Iterator[str]:
    name = pm.scenario.get("id") or PurePath(pm.path).name
    yield from wrap(f"{name}: {pm.headline}", width, "", "  ")
    finding = pm.finding
    if finding is not None:
        yield from wrap(finding.text, width)
        if finding.kind in FINDINGS:
            yield from wrap(f"({FINDINGS[finding.kind].meaning})", width)
        for sentence in finding.story if finding.detector != "deadlock" or not pm.waits else ():
            yield from wrap("- " + sentence, width, hang="  ")
    yield ""
    if "title" in pm.scenario:
        yield from _labelled("scenario", f"{pm.scenario.get('id', '')}: {pm.scenario['title']}", width)
    for erratum in pm.errata:
        text = f"{erratum['id']} ({erratum['row']}): {erratum['sentence']}" if erratum["sentence"] else erratum["id"]
        yield from _labelled("erratum", text, width)
        if erratum["source"]:
            yield from _labelled("", erratum["source"], width)
    if not pm.errata:
        yield from _labelled("errata", pm.no_errata, width)
    if pm.patch:
        yield from _labelled("patch", pm.patch_words, width)
    if finding is not None:
        who = f", seen by {finding.context}" if finding.context else ""
        source = "" if pm.ended else f", taken from its {pm.source}"
        yield from _labelled("detector", f"{finding.detector}{who}{source}", width)
    for note in pm.notes:
        yield from _labelled("noted", note, width)
    for step in pm.schedule:
        yield from _labelled("schedule", step, width)
    yield f"  {'replay':<10}{clean(pm.replay or pm.no_replay)}"
    if pm.shortened:
        yield from _labelled("shortened", "another, shorter schedule with the same finding:", width)
        yield f"  {'':<10}{clean(pm.shortened)}"
    if not pm.complete:
        yield from _labelled("log", f"INCOMPLETE: {(pm.warnings + pm.holes)[0]}", width)


# -- the interleaving ------------------------------------------------------------------


def _interleaving(pm: Postmortem, width: int) -> Iterator[str]:
    rows = choose(pm.steps, MAX_STEPS)
    if not rows:
        return
    about = ", ".join(GLOBALS.get(name, name) for name in pm.steps_about)
    what = f"every step that touched {about}" if about else "the last steps"
    yield from wrap(f"Interleaving: {what}", width, "", "  ")
    rank = {name.name: at for at, name in enumerate(pm.contexts)}
    columns = sorted({(row.ctx, row.cpu) for row in rows if not row.gap}, key=lambda name: rank.get(name[0], len(rank)))
    room = (width - 2) // max(1, len(columns)) - 1
    yield from wrap("Numbers are those of the context's operations; `f < g`: in f, called by g.", width)
    yield ""
    if about and len(columns) <= MAX_COLUMNS and room >= NARROWEST:
        yield from _table(rows, columns, room)
    else:
        yield from _listing(rows, width)


def _table(rows: list[Line], columns: list[tuple[str, str]], room: int) -> Iterator[str]:
    """One column a context, time going down."""
    heads = [f"{ctx} on {cpu}" if ctx != cpu else ctx for ctx, cpu in columns]
    yield "  " + " ".join(f"{head:<{room}.{room}}" for head in heads)
    yield "  " + " ".join("-" * room for _ in columns)
    last: tuple[str, str, str] | None = None
    for row in rows:
        if row.gap:
            yield f"  {gap_words(row)}"
            continue
        at = columns.index((row.ctx, row.cpu))
        lines = []
        if (row.ctx, row.fn, row.caller) != last:
            lines += fold_text(row.where, room, " " * 7, " " * 9)
        last = (row.ctx, row.fn, row.caller)
        lines += _cell(row, room)
        for line in lines:
            yield "  " + " " * ((room + 1) * at) + line


def _cell(row: Line, room: int) -> list[str]:
    lines: list[str] = []
    items = row.items
    if len(items) > MAX_ITEMS:
        items = [*items[: MAX_ITEMS // 2], f"({len(items) - MAX_ITEMS} more)", *items[-MAX_ITEMS // 2 :]]
    for at, text in enumerate(items):
        number = f"{row.first:>5}  " if at == 0 else " " * 7
        lines += fold_text(text, room, number + "  ", " " * 11)
    return lines


def _listing(rows: list[Line], width: int) -> Iterator[str]:
    """One row after another, for many contexts or a narrow terminal."""
    for row in rows:
        yield from _history_line(row, width)


def gap_words(row: Line) -> str:
    """The line instead of rows that are left out."""
    if row.times:
        rows = "this row" if row.gap == 1 else f"these {row.gap} rows"
        return f"({rows}, {row.times:,} times; the last time:)"
    return f"({row.gap:,} row{'s' if row.gap > 1 else ''})"


def _history_line(row: Line, width: int) -> list[str]:
    if row.gap:
        return [f"  {gap_words(row)}"]
    number = str(row.first) if row.first == row.last else f"{row.first}-{row.last}"
    if width < ROOMY:
        text = f"{row.fn or row.outside}: {'; '.join(row.items)}"
        return fold_text(text, width, f"  {row.ctx} {number}  ", " " * 6)
    head = f"  {row.ctx:<11}{number:>11}  {row.fn or row.outside}: "
    return fold_text("; ".join(row.items), width, head, " " * 28)


# -- locks and waits ----------------------------------------------------------------------


def _waits(pm: Postmortem, width: int) -> Iterator[str]:
    if not pm.waits:
        return
    yield "Wait-for graph"
    for sentence in pm.waits:
        yield from wrap(sentence + ".", width, hang="  ")
    if len(pm.cycle) > 1:
        ring = " -> ".join([*pm.cycle, pm.cycle[0]])
        yield from wrap(f"{ring}: a cycle, so none of them can continue.", width, hang="  ")


def _locks(pm: Postmortem, width: int) -> Iterator[str]:
    when = "when the run ended" if pm.ended else "when the log ends"
    yield f"Locks held {when}" + ("" if any(lock["holders"] for lock in pm.locks) else ": none")
    for report in pm.locks:
        yield from lock_lines(report, width)


def lock_lines(lock: LockReport, width: int) -> Iterator[str]:
    """A lock as LOCKDEBUG prints it."""
    kind = f"{lock['kind']}, class {lock['class']}" if lock["class"] else lock["kind"]
    yield f"  {lock['lock']}  ({kind})"
    for hold in lock["holders"]:
        mode = LOCK_MODES.get(hold["mode"], hold["mode"]) if lock["kind"] == "lockmgr" else "held"
        yield from wrap(f"{mode} by {_by(hold)}", width, "    ")
    if not lock["holders"]:
        yield "    not held"
    for want in lock["waiters"]:
        yield from wrap(
            f"wanted by {want['ctx']} in {want['fn'] or 'user mode'}, its operation {want['n']}", width, "    "
        )
    locked, unlocked = lock["last_locked"], lock["last_unlocked"]
    words = [
        f"last locked: {_by(locked, ' in ')}" if locked else "",
        f"last unlocked: {_by(unlocked, ' in ') if unlocked else 'never in this run'}",
    ]
    yield from wrap("; ".join(word for word in words if word), width, "    ", "  ")


def _by(hold: HoldReport, since: str = " since ") -> str:
    return f"{hold['ctx']}{since}{hold['since'] or 'user mode'}, operation {hold['n']}"


# -- contexts ---------------------------------------------------------------------------


def _contexts(pm: Postmortem, width: int) -> Iterator[str]:
    yield from table(pm.contexts, width)
    for context in pm.contexts:
        if context.stack:
            yield ""
            yield from trace(context, width)


def table(contexts: Iterable[ContextReport], width: int) -> Iterator[str]:
    """Contexts as ddb's `ps` has processes."""
    yield "Contexts (* has its CPU)"
    yield f"    {'CONTEXT':<15}{'CPU':<11}{'OPS':>6}  STATE"
    for context in contexts:
        mark = "*" if context.on_cpu else " "
        yield from fold_text(
            context.doing, width, f"  {mark} {context.name:<15}{context.cpu:<11}{context.n:>6}  ", " " * 38
        )


def trace(context: ContextReport, width: int) -> Iterator[str]:
    """The kernel stack as ddb's `trace` has it, innermost first."""
    yield f"  trace {context.name} ({context.doing})"
    for at, frame in enumerate(reversed(context.stack)):
        here = "   <- here" if at == 0 else ""
        room = 26 if width >= ROOMY else 0
        yield f"    {frame['fn'] + '()':<{room}} since operation {frame['n']}{here}"
    for hold in context.held:
        yield from wrap(
            f"holds {hold['lock']} since {hold['since'] or 'user mode'}, operation {hold['n']}", width, "      "
        )


# -- the page, the anon, the amap ----------------------------------------------------------


def _objects(pm: Postmortem, width: int) -> Iterator[str]:
    for at, struct in enumerate(pm.objects):
        if at:
            yield ""
        yield from object_lines(struct, width)
    if any(UNKNOWN in line for struct in pm.objects for line in _dump(struct, width)):
        yield ""
        yield f"  {UNKNOWN}: set before the run began, and not accessed since"


def object_lines(struct: ObjectReport, width: int, limit: int = MAX_HISTORY) -> Iterator[str]:
    """A struct as ddb's `show page` and its like print it, and what was done to it."""
    kind = "LOCK" if "." in struct.name else struct.kind.upper()
    yield f"{kind} {place(struct.name)}" + (f"#{struct.life}" if struct.life else "")
    yield from _dump(struct, width)
    rows = choose(struct.history, limit)
    if rows:
        yield "  history"
    for row in rows:
        yield from _history_line(row, width)


def _dump(struct: ObjectReport, width: int) -> Iterator[str]:
    if not struct.fields and not struct.elements:
        return
    layout = LAYOUT.get(struct.kind, ())
    shown = {name for line in layout for name in line}
    for names in layout:
        yield from wrap(", ".join(f"{name}={struct.fields.get(name, UNKNOWN)}" for name in names), width, hang="  ")
    rest = [
        f"{name}={value}"
        for name, value in struct.fields.items()
        if name not in shown and not is_layout(struct.kind, name)
    ]
    yield from wrap(", ".join(rest), width, hang="  ")
    yield from wrap(
        ", ".join(f"{name}={value}" for name, value in struct.elements.items() if name.startswith("am_anon")),
        width,
        hang="  ",
    )


def _uvmexp(pm: Postmortem, width: int) -> Iterator[str]:
    if not pm.uvmexp:
        return
    yield "show uvmexp (fields that the run accessed)"
    rows = {label: names.split() for label, names in UVMEXP.items()}
    rows["others"] = [name for name in pm.uvmexp if not any(name in names for names in rows.values())]
    for label, names in rows.items():
        text = ", ".join(f"{name}={pm.uvmexp[name]}" for name in names if name in pm.uvmexp)
        if text:
            yield from fold_text(text, width, f"  {label:<12}", " " * 14)


# -- the log itself -------------------------------------------------------------------------


def _nodes(pm: Postmortem, width: int) -> Iterator[str]:
    yield "Last events of each node (record, context, its operation)"
    for node in pm.nodes:
        of = f" of {node.expected}" if node.expected not in (None, node.records) else ""
        process = f", {node.process}" if node.process else ""
        count = f"{node.records}{of} records" if of else counted(node.records, "record")
        yield f"  {node.name}: {count}{process}"
        for line in node.last:
            yield from fold_text(line, width, "  ", " " * (34 if width >= ROOMY else 10))[:3]


def _log(pm: Postmortem, width: int) -> Iterator[str]:
    made = ", ".join(f"{name} {value}" for name, value in pm.versions.items())
    if pm.complete:
        whole = f"digest {pm.digest[:16]}" + (", as in run.json" if pm.digest_checked else "")
        upto = f" up to the finding ({pm.past} of them)" if pm.past else ""
        many = f"{pm.records} records of {len(pm.nodes)} nodes"
        yield from wrap(f"The log is complete{upto}: {many}, {whole}", width, "", "  ")
        for text in pm.after:
            yield from wrap(f"- after the finding, while other CPUs continued: {text}", width, hang="  ")
    else:
        yield f"The log is INCOMPLETE: {pm.records} records of {len(pm.nodes)} nodes"
        for text in (*pm.warnings, *pm.holes):
            yield from wrap("- " + text, width, hang="  ")
    about = [pm.path, f"engine {pm.engine}" if pm.engine else "", made]
    yield from wrap("; ".join(part for part in about if part), width, hang="  ")
