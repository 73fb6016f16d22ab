"""The tables that all nodes must share: constants, struct layouts, operations, message formats.

A node reports a digest of each table with which it was built. A machine whose
nodes differ does not start, because a struct with displaced fields, or a result
code with another meaning, would corrupt data silently.

    constants      errnos, flags and all other numbers of param.py
    structs        kinds of struct: fields in order, markings, locks
    operations     the requests between nodes, and their arguments
    wire           version of the messages, and the format of handles and lock keys
    result codes   the results of pagers

If the *source* differs between two actors of a live machine, that is a mistake of the
user (Infrastructure). If a node was *built* with an old table, which a scenario can ask
for, that is a defect of the simulated kernel: a finding.

NetBSD made that mistake possible when it moved definitions between headers in June 2000.
It had no such check, only a version in the kernel's modules.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cache

import shared.scenario.steps.table  # noqa: F401 - so that every kind of struct is there
from shared.port import port, struct
from shared.uvm import param
from shared.wire import codec
from shared.wire.messages import OPERATIONS

RESULT_CODES = "result codes"
#: what a pager answers: 0, a hard error, a shortage that will pass; as of 2001-03-10, and before
ERRNO = {"": 0, "EIO": param.EIO, "EAGAIN": param.EAGAIN}
VM_PAGER = {"": param.VM_PAGER_OK, "EIO": param.VM_PAGER_ERROR, "EAGAIN": param.VM_PAGER_AGAIN}


def digest_of(table: object) -> str:
    """12 hex digits over plain data."""
    text = json.dumps(table, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@cache
def tables() -> Mapping[str, str]:
    """The tables of this process's source."""
    constants = {name: _plain(value) for name, value in vars(param).items() if name.isupper()}
    kinds = [kind for _, kind in sorted(struct.KINDS.items()) if kind.__module__.startswith("shared.")]
    wire = {name: getattr(struct, name) for name in ("KIND_SHIFT", "LOCK_SHIFT", "HEADER", "ANY_GEN")}
    spl = {name: value for name, value in vars(port).items() if name.startswith("SPL_")}
    return {
        "constants": digest_of([constants, spl]),
        "structs": digest_of([_layout(kind) for kind in kinds]),
        "operations": digest_of({code: list(op) for code, op in OPERATIONS.items()}),
        "wire": digest_of([codec.VERSION, {form.kind: form.bound for form in codec.FORMS}, wire]),
        RESULT_CODES: digest_of(ERRNO),
    }


def _plain(value: object) -> object:
    return sorted(map(list, value.items())) if isinstance(value, dict) else value


def _layout(kind: type[struct.Struct]) -> list[object]:
    fields = [[name, field.slot, field.marking, field.hint, field.union_of] for name, field in kind.fields.items()]
    locks = [[name, lock.cls, lock.sleepable, lock.index] for name, lock in kind.lock_fields.items()]
    return [kind.kind, kind.kind_name, fields, locks, kind.element.marking if kind.element else None]


def differing(theirs: Mapping[str, str], ours: Mapping[str, str]) -> list[str]:
    """Names of the tables that differ between two sides."""
    return sorted(name for name in theirs.keys() | ours.keys() if ours.get(name) != theirs.get(name))
