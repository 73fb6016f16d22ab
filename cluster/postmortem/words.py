"""Describes records in words: handles, values, operations, and strings from files.

Rule: all text from a file goes through `clean` before it reaches a terminal.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache

from shared.journal.record import Record, names_of
from shared.port.struct import KIND_NAMES, Array, FieldBase, Struct
from shared.text import clean
from shared.uvm import structs
from shared.uvm.param import SIDL, SRUN, SZOMB, errno_name
from shared.wire.messages import OPERATIONS

_HANDLE = re.compile(r"([a-z]\w*):(\d{1,9})(?:#(\d{1,9}))?")
LONGEST = 400

#: the globals are called by their C names (UVM has no struct `kernel`)
GLOBALS = {
    f"{value}": name for name, value in vars(structs).items() if isinstance(value, Struct) and value != structs.kernel
}
OWNERS = {name: value for value, name in GLOBALS.items()}
#: keys of an operation's record that are not its arguments or its result
ABOUT_RECORD = frozenset(("event", "node", "nseq", "ctx", "n", "cpu", "k", "wait", "granted", "woke", "raised"))
PROTECTION = {0: "none", 1: "r", 2: "w", 3: "rw", 5: "rx", 7: "rwx"}
STATES = {SIDL: "SIDL", SRUN: "SRUN", SZOMB: "SZOMB"}


def text_of(record: Record, key: str) -> str:
    """A string in a record, or "" if it is missing or no string."""
    value = record.get(key)
    return value if isinstance(value, str) else ""


def handle(value: object) -> tuple[str, int] | None:
    """("anon:5", 2) for the handle `anon:5#2` (generation 0 if it has none); None if it is not a handle."""
    match = _HANDLE.fullmatch(value) if isinstance(value, str) else None
    return None if match is None else (f"{match[1]}:{match[2]}", int(match[3] or 0))


def kind_of(name: str) -> str:
    """ "anon" for "anon:5" and "anon:5.an_lock"."""
    return name.split(":", 1)[0]


def owner_of(lock: str) -> str:
    """ "anon:5" for the lock or channel "anon:5.an_lock"."""
    return lock.split(".", 1)[0]


def idles(event: str) -> bool:
    """Does a context that waits for this operation's answer wait for work?"""
    return event in OPERATIONS and OPERATIONS[event].idle


def spins(lock: str) -> bool:
    """Is it a simple lock, for which one spins, rather than a lockmgr lock?"""
    kind = KIND_NAMES.get(kind_of(lock))
    decl = None if kind is None else kind.lock_fields.get(lock.split(".", 1)[-1])
    return decl is None or not decl.sleepable


def place(name: str) -> str:
    """A struct, lock or channel by the name a reader knows: `uvm.afreelock`, `anon:5.an_lock`."""
    owner, dot, rest = name.partition(".")
    return GLOBALS.get(owner, owner) + dot + rest


def declared(kind: str, field: str) -> FieldBase | None:
    """How a struct's field (`[]`: an array's element) is declared; None if there is no such field."""
    kind_ = KIND_NAMES.get(kind)
    return None if kind_ is None else kind_.element if field == "[]" else kind_.fields.get(field)


def is_number(kind: str, field: str) -> bool:
    """Is it a number, which a new life has not set yet? Of the other fields None is NULL."""
    about = declared(kind, field)
    return about is not None and about.number


def is_layout(kind: str, field: str) -> bool:
    """Does the field only say where structs lie: links of a list, pointers to arrays, the array's way back?

    Such a field tells nothing that happens to its struct.
    """
    about = declared(kind, field)
    if about is None or field == "[]":
        return False
    return about.link or _names_array(about.type) or (issubclass(KIND_NAMES[kind], Array) and about.mode == "const")


@cache
def _names_array(type: str) -> bool:
    """Does a field's declared type, as "AnonArray | None", name a struct with elements?"""
    name = type.split(" ", maxsplit=1)[0]
    return any(kind.__name__ == name and issubclass(kind, Array) for kind in KIND_NAMES.values())


def is_array(name: str) -> bool:
    """Is it a struct with elements?"""
    struct = KIND_NAMES.get(kind_of(name))
    return struct is not None and issubclass(struct, Array)


def element(kind: str, slot: object) -> int | None:
    """Index in an array struct of the element at heap slot `slot`."""
    struct = KIND_NAMES.get(kind)
    if struct is None or struct.element is None or not isinstance(slot, int):
        return None
    return slot - struct.element.slot


def flags_of(kind: str, field: str) -> tuple[str, dict[int, str]] | None:
    """The prefix and the names of a field's bits; None if the field has no flags."""
    struct = KIND_NAMES.get(kind)
    return None if struct is None else struct.bits.get(field)


def bits(value: int, names: dict[int, str]) -> list[str]:
    """Names of the bits set, lowest first; what has no name in hex."""
    rest = value & ~sum(names)
    return [name for bit, name in sorted(names.items()) if value & bit] + ([f"{rest:#x}"] if rest else [])


def shown(kind: str, field: str, value: object) -> str:
    """A field's value as C source would have it: `PG_CLEAN|PG_BUSY`, NULL, anon:5#2."""
    if value is None:
        return "unset" if is_number(kind, field) else "NULL"
    flags = flags_of(kind, field)
    if flags is not None and isinstance(value, int):
        prefix, names = flags
        return "|".join(bit if bit.startswith("0x") else prefix + bit for bit in bits(value, names)) or "0"
    if (kind, field) == ("buf", "error") and type(value) is int and value:
        return errno_name(value)
    if field == "p_stat" and isinstance(value, int):
        return STATES.get(value, str(value))
    if isinstance(value, str) and handle(value) is None:
        return f'"{value[:LONGEST]}"'
    return clean(value, LONGEST)


def ddb(kind: str, field: str, value: object) -> str:
    """A field's value as ddb(4) prints it: `0x18<CLEAN,BUSY>`."""
    flags = flags_of(kind, field)
    if flags is not None and isinstance(value, int):
        names = ",".join(bits(value, flags[1]))
        return f"{value:#x}<{names}>" if names else "0x0"
    return shown(kind, field, value)


def field_name(record: Record) -> str:
    """`an_ref`, or `[3]` for an element of an array."""
    name = text_of(record, "field")
    if name == "[]":
        index = element(kind_of(text_of(record, "obj")), record.get("slot"))
        return "[?]" if index is None else f"[{index}]"
    return name


def lvalue(record: Record) -> str:
    """What a load or store is of: `anon:5.an_ref`, `amaparray:3[0]`, `uvm.afree`."""
    struct = handle(record.get("obj"))
    base = place(struct[0]) if struct is not None else "?"
    name = field_name(record)
    return base + name if name.startswith("[") else f"{base}.{name}"


def in_words(record: Record) -> str:
    """One record in a few words."""
    event = text_of(record, "event")
    waits = ": waits" if record.get("wait") else ""
    if event in ("load", "store"):
        kind = kind_of(text_of(record, "obj"))
        value = shown(kind, text_of(record, "field"), record.get("value"))
        return f"{lvalue(record)} = {value}" if event == "store" else f"reads {lvalue(record)}: {value}"
    if event in ("lock", "try", "unlock", "downgrade", "upgrade"):
        return _lock_said(record, event, place(text_of(record, "lock")), waits)
    if event == "sleep":
        return f'sleeps on {place(text_of(record, "chan"))} "{text_of(record, "wmesg")}"'
    if event == "wakeup":
        woke = ", ".join(names_of(record, "woke"))
        return f"wakeup {place(text_of(record, 'chan'))}: " + (f"wakes {woke}" if woke else "no sleeper")
    if event in ("alloc", "free"):
        return f"{'allocates' if event == 'alloc' else 'frees'} {text_of(record, 'obj')}"
    if event == "renew":
        struct = handle(record.get("obj"))
        return f"renews {struct[0] if struct else '?'} as #{record.get('gen')}"
    if event == "claim":
        return f"claims {text_of(record, 'obj')}"
    if event in ("enter", "exit"):
        return f"{'enters' if event == 'enter' else 'leaves'} {text_of(record, 'fn')}"
    if event in ("call", "return"):
        return _step_said(record, event)
    if event in ("finding", "note"):
        found_here = record.get("finding")
        finding: dict[str, object] = found_here if isinstance(found_here, dict) else {}
        return f"*** {event}: {clean(finding.get('text', '?'), LONGEST)}"
    return _other_said(record, event) + (waits if not idles(event) else "")


def _step_said(record: Record, event: str) -> str:
    """A program's step, as it begins or ends."""
    if event == "return":
        return f"{text_of(record, 'op')} returns {clean(str(record.get('result')), LONGEST)}"
    args = record.get("args")
    words = ", ".join(f"{key} {value}" for key, value in args.items()) if isinstance(args, dict) else ""
    return clean(f"begins {text_of(record, 'op')} {words}".rstrip(), LONGEST)


def _lock_said(record: Record, event: str, lock: str, waits: str) -> str:
    shared = " shared" if record.get("mode") == "r" else ""
    granted = ", ".join(names_of(record, "granted"))
    then = f", granted to {granted}" if granted else ""
    if event == "try":
        return f"tries {lock}{shared}: " + ("gets it" if record.get("got") else "is held")
    word = {"lock": "locks", "unlock": "unlocks", "downgrade": "downgrades", "upgrade": "upgrades"}[event]
    if waits and event == "lock":
        return f"wants {lock}{shared}{waits}"
    return f"{word} {lock}{shared}{waits}{then}"


def _other_said(record: Record, event: str) -> str:
    known = {"run": "gets the CPU", "userret": "returns to user mode", "iret": "returns from interrupt"}
    if event in known:
        return known[event]
    if idles(event):
        return "waits for a request" if record.get("wait") else "takes a request"
    if event == "choose":
        why = text_of(record, "why")[:LONGEST]
        chosen = f"takes choice {clean(record.get('value'), 20)} of {clean(record.get('of'), 20)}"
        return clean(f"{chosen}: {why}" if why else chosen)
    if event == "intr":
        under = text_of(record, "interrupted")
        return f"interrupts {under}" if under else "interrupts the idle CPU"
    args = ", ".join(f"{key}={_argument(key, value)}" for key, value in record.items() if key not in ABOUT_RECORD)
    then = "".join(f"; {word} {', '.join(who)}" for word in ("granted", "raised") if (who := names_of(record, word)))
    return f"{event}({args}){then}"


def by_address(record: Record, where: Callable[[int], str]) -> str:
    """A load or store of a program, or a request about its translations, in words; "" if it is none."""
    event = text_of(record, "event")
    va, frame, value = record.get("va"), record.get("frame"), record.get("value")
    if event in ("word_read", "word_write") and type(va) is int and "refused" not in record:
        what = f"reads {clean(value, 40)} at" if event == "word_read" else f"stores {clean(value, 40)} at"
        return f"{what} {where(va)}, in page:{clean(frame, 20)}"
    if not event.startswith("pmap_") or not {"va", "vpn", "start", "frame"} & record.keys():
        return ""
    parts: list[str] = []
    for key, part in record.items():
        if key in ABOUT_RECORD or key in ("pmap", "vpn", "end"):
            continue
        if key in ("va", "start") and type(part) is int:
            end = record.get("end")
            last = f" to {where(end - 1)}" if key == "start" and type(end) is int and end > part + 1 else ""
            parts.insert(0, where(part) + last)
        elif key == "frame" and type(part) is int:
            parts.append(f"page:{part}")
        elif key in ("flags", "error") and part in (0, None):
            continue
        elif key == "pte":
            mapped = isinstance(part, list) and bool(part)
            parts.append(f"finds page:{clean(part[0], 20)}" if mapped else f"fault {clean(part, 20)}")
        else:
            parts.append(f"{key}={_argument(key, part)}")
    then = "".join(f"; {word} {', '.join(who)}" for word in ("granted", "raised") if (who := names_of(record, word)))
    return f"{event}({', '.join(parts)}){then}" + (": waits" if record.get("wait") else "")


def _argument(key: str, value: object) -> str:
    if isinstance(value, list) and len(value) == 2 and isinstance(value[1], list):  # a result, and what to flush for it
        return f"{clean(value[0], 60)}" + (f" flushing {len(value[1])}" if value[1] else "")
    if key == "prot" and type(value) is int:
        return PROTECTION.get(value, str(value))
    if key == "error" and type(value) is int and value:
        return errno_name(value)
    return clean(value, 60)
