"""One struct of the kernel: its fields at the end, and every operation on it.

Operations on a struct are: stores to its fields (for an amap, also to its
arrays), its allocation, freeing and renewal, operations on its locks and its
sleep channel, stores of its handle into other structs (an anon put into an amap,
or on the free list), and for a page the operations on its frame. Queue links are
left out.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from sys import intern
from typing import TypedDict

from cluster.postmortem.state import Known, Machine, Step, cpu_of
from cluster.postmortem.words import (
    by_address,
    ddb,
    element,
    handle,
    in_words,
    is_layout,
    kind_of,
    owner_of,
    place,
    shown,
    text_of,
)
from shared.detectors.waits import Hold
from shared.journal.record import Record
from shared.port.struct import KIND_NAMES
from shared.wire.messages import OPERATIONS, Op

#: struct -> the places in the sequence of the steps that concern it
History = Mapping[str, Sequence[int]]
MAX_FRAMES = 1024


@dataclass(slots=True)
class Line:
    """The steps of one call of one function, without a step of another context between them.

    Attributes:
        first, last: the context's own operation numbers.
        ns: those of each item.
        key: how telling it is, 0 most; -1: it explains nothing (cluster/postmortem/rows.py).
        telling: which of the items explain something.
        gap, times: it stands for so many rows that are left out, or for a round of so many that comes so often.
    """

    ctx: str
    cpu: str
    first: int
    last: int
    fn: str
    caller: str
    items: list[str] = field(default_factory=list)
    finding: bool = False
    ns: list[int] = field(default_factory=list)
    key: int = -1
    telling: list[int] = field(default_factory=list)
    gap: int = 0
    times: int = 0

    @property
    def where(self) -> str:
        """The function, and who called it."""
        return " < ".join(function for function in (self.fn, self.caller) if function) or self.outside

    @property
    def outside(self) -> str:
        """Where a context is that is in no function of the kernel."""
        return "user mode" if self.cpu.startswith("cpu") else "the device"


class HoldReport(TypedDict):
    """A lock that a context has or had; see Hold."""

    ctx: str
    mode: str
    since: str
    n: int


class WantReport(TypedDict):
    """A context that waits for a lock; see Wait."""

    ctx: str
    fn: str
    mode: str
    n: int


#: a lock as LOCKDEBUG prints it; `kind`: lockmgr or simple_lock
LockReport = TypedDict(
    "LockReport",
    {
        "lock": str,
        "kind": str,
        "class": str,
        "holders": list[HoldReport],
        "waiters": list[WantReport],
        "last_locked": HoldReport | None,
        "last_unlocked": HoldReport | None,
    },
)


@dataclass
class ObjectReport:
    """A page, an anon, an amap, or another struct.

    Attributes:
        name: without its generation; `life`: its generation at the end.
        fields: name -> value as ddb would print it; only what the records showed.
        elements: for an amap, the same of its arrays' elements.
        lock: if it is one, who holds it and who wants it.
    """

    name: str
    kind: str
    life: int
    fields: dict[str, str] = field(default_factory=dict)
    elements: dict[str, str] = field(default_factory=dict)
    history: list[Line] = field(default_factory=list)
    lock: LockReport | None = None


def concerns(step: Step, machine: Machine) -> set[str]:
    """The structs to which a step does something."""
    record = step.record
    event = record["event"]
    names: set[str] = set()
    if event == "store":
        target, value = handle(record.get("obj")), handle(record.get("value"))
        if is_layout(kind_of(text_of(record, "obj")), text_of(record, "field")):
            return names
        if target is not None:
            names.add(machine.arrays[target[0]][0] if target[0] in machine.arrays else target[0])
        if value is not None:
            names.add(value[0])
    elif event in ("alloc", "free", "renew"):
        target = handle(record.get("obj"))
        if target is not None:
            names.add(target[0])
    elif event in OPERATIONS:
        op = OPERATIONS[event]
        if op.target in ("lock", "chan"):
            names.add(owner_of(text_of(record, op.target)))
        names.update(f"page:{frame}" for frame in (*_frames(record, op), *step.frames))
    names.update(f"slot:{slot}" for slot in _slots(step, machine))
    return names


def _slots(step: Step, machine: Machine) -> list[int]:
    """The swap slots that a step writes, reads, assigns or frees."""
    record = step.record
    if record["event"] in OPERATIONS and OPERATIONS[record["event"]].target == "slot":
        first, frames = record.get("slot"), record.get("frames")
        many = len(frames) if isinstance(frames, list) else 1
        return list(range(first, first + min(many, MAX_FRAMES))) if type(first) is int else []
    target = handle(record.get("obj"))
    if record["event"] != "store" or target is None:
        return []
    owner, name = machine.arrays.get(target[0], (target[0], text_of(record, "field")))
    kind = KIND_NAMES.get(kind_of(owner))
    if kind is None or name not in kind.swap_slots:
        return []
    values = [record.get("value"), step.old.value if step.old is not None else None]
    return [value for value in values if type(value) is int and value > 0]


def _frames(record: Record, op: Op) -> list[int]:
    """The frames that an operation is about."""
    frames: list[int] = []
    for name in op.frames:
        value = record.get(name)
        frames += [frame for frame in (value if isinstance(value, list) else [value]) if type(frame) is int]
    return frames


def item(step: Step, machine: Machine) -> str:
    """A step in words; a store with the value before, an amap's array by its field."""
    record = step.record
    args = record.get("args")
    if record["event"] == "call" and isinstance(args, dict) and type(args.get("at")) is int and "file" not in args:
        return in_words({**record, "args": {**args, "at": machine.where(args["at"])}})
    if record["event"] != "store":
        return by_address(record, machine.where) or in_words(record)
    struct = handle(record.get("obj"))
    if struct is not None and struct[0] in machine.arrays:
        owner, name = machine.arrays[struct[0]]
        kind = kind_of(struct[0])
        index = element(kind, record.get("slot"))
        if index is not None and index >= 0:
            return f"{owner}.{name}[{index}] = {shown(kind, '[]', record.get('value'))}"
    return in_words(record) + _was(step)


def _was(step: Step) -> str:
    old, record = step.old, step.record
    if old is None or old.value is None or old.field != text_of(record, "field") or old.value == record.get("value"):
        return ""
    return f" (was {shown(kind_of(text_of(record, 'obj')), old.field, old.value)})"


def lines(steps: Iterable[Step], machine: Machine, within: str = "") -> list[Line]:
    """Steps, put together where one call did several in a row.

    Args:
        within: a struct whose name need not be repeated in front of its fields.
    """
    made: list[Line] = []
    frame = -1
    for step in steps:
        record = step.record
        ctx = record["ctx"]
        is_finding = record["event"] == "finding"
        fresh = is_finding or record["event"] == "call"
        if not made or made[-1].ctx != ctx or frame != step.frame or fresh:
            made.append(Line(ctx, cpu_of(record), record["n"], record["n"], step.fn, step.caller, finding=is_finding))
            frame = step.frame
        text = item(step, machine)
        if within and text.startswith((f"{within}.", f"{within}[")):
            text = text[len(within) :].removeprefix(".")
        elif within:
            text = text.replace(f"{within}.", "").replace(f" on {within} ", " ")
        made[-1].items.append(intern(text))  # (a loop does the same again)
        made[-1].ns.append(record["n"])
        made[-1].last = record["n"]
    return made


def report(name: str, steps: Iterable[Step], machine: Machine) -> ObjectReport:
    """The report about one struct.

    Args:
        steps: those that concern it.
    """
    kind = kind_of(name)
    result = ObjectReport(name, kind, machine.lives.get(name, 0))
    decl = KIND_NAMES.get(kind)
    if decl is not None:
        for key, about in decl.fields.items():
            known = machine.fields.get((name, about.slot))
            if known is not None and (known.field == key or about.slot not in _shared_slots(kind)):
                result.fields[key] = ddb(kind, key, known.value)
    for elements, (owner, key) in machine.arrays.items():
        if owner == name:
            result.elements.update(_elements(elements, key, machine))
    result.history = lines(steps, machine, within=name)
    return result


def _shared_slots(kind: str) -> set[int]:
    """Slots with two names (an_page and an_nxt)."""
    slots = [field.slot for field in KIND_NAMES[kind].fields.values() if field.slot >= 0]
    return {slot for slot in slots if slots.count(slot) > 1}


def _elements(array: str, key: str, machine: Machine) -> dict[str, str]:
    elements: dict[str, str] = {}
    for (name, slot), known in sorted(machine.fields.items()):
        index = element(kind_of(array), slot) if name == array and known.field == "[]" else None
        if index is not None and index >= 0:
            elements[f"{key}[{index}]"] = shown(kind_of(array), "[]", known.value)
    return elements


def related(name: str, machine: Machine, history: History) -> list[str]:
    """The pages, anons and amaps that belonged to one of them at any time of the run, the last first."""
    kind = kind_of(name)
    names: list[str] = []
    if kind == "anon":
        names += partners(name, machine, history)
        names += [
            machine.arrays[array][0]
            for (array, _), known in sorted(machine.fields.items())
            if array in machine.arrays and machine.arrays[array][1] == "am_anon" and _names(known, name)
        ]
    elif kind == "page":
        names += partners(name, machine, history)
        for partner in list(names):
            names += [other for other in related(partner, machine, history) if kind_of(other) == "amap"]
    return list(dict.fromkeys(struct for struct in names if struct != name))


def partners(name: str, machine: Machine, history: History) -> list[str]:
    """Of an anon its pages, and of a page its anons: what either pointed to during the run, the last first."""
    pointer = {"anon": "an_page", "page": "uanon"}.get(kind_of(name))
    back = {"anon": "uanon", "page": "an_page"}.get(kind_of(name), "")
    other = "page" if pointer == "an_page" else "anon"
    if pointer is None:
        return []
    names = _handles([machine.value(name, pointer)], other)
    for step in machine.steps.some(reversed(history.get(name, ()))):
        record = step.record
        target = handle(record.get("obj"))
        if record["event"] == "store" and target is not None:
            if target[0] == name and record.get("field") == pointer:
                names += _handles([record.get("value"), step.old], other)
            elif kind_of(target[0]) == other and record.get("field") == back:
                names.append(target[0])
    names += [struct for struct in history if kind_of(struct) == other and _names(machine.value(struct, back), name)]
    return list(dict.fromkeys(names))


def _handles(values: list[object], kind: str) -> list[str]:
    """Those of these values, or of what is known of fields, that are handles of structs of a kind."""
    handles = [handle(value.value if isinstance(value, Known) else value) for value in values]
    return [struct[0] for struct in handles if struct is not None and kind_of(struct[0]) == kind]


def _names(known: Known | None, name: str) -> bool:
    struct = handle(known.value) if known is not None else None
    return struct is not None and struct[0] == name


def by_object(machine: Machine) -> History:
    """Struct -> the places of the steps that concern it."""
    numbers: dict[str, array[int]] = {}
    for step in machine.steps:
        for name in concerns(step, machine):
            numbers.setdefault(name, array("I")).append(step.at)
    return numbers


def hold_report(hold: Hold) -> HoldReport:
    """A hold as plain data."""
    return {"ctx": hold.ctx, "mode": hold.mode, "since": hold.since, "n": hold.n}


def lock_words(name: str, machine: Machine) -> LockReport:
    """A lock as LOCKDEBUG prints it, as plain data."""
    lock = machine.locks[name]
    decl = KIND_NAMES.get(kind_of(name))
    about = None if decl is None else decl.lock_fields.get(name.split(".", 1)[-1])
    waiters: list[WantReport] = [
        {"ctx": waiter, "fn": wait.fn, "mode": wait.mode, "n": wait.n}
        for waiter in lock.waiters
        if (ctx := machine.contexts.get(waiter)) is not None and (wait := ctx.wait) is not None
    ]
    return {
        "lock": place(name), "kind": "lockmgr" if about is not None and about.sleepable else "simple_lock",
        "class": about.cls if about is not None else "", "holders": [hold_report(hold) for hold in lock.holders],
        "waiters": waiters, "last_locked": hold_report(lock.last_locked) if lock.last_locked else None,
        "last_unlocked": hold_report(lock.last_unlocked) if lock.last_unlocked else None,
    }  # fmt: skip
