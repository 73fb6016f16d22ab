"""The JSON Schema of a scenario's file, for editors: generated from the steps and from what the loader allows.

The schema describes the form of a file. Only the loader (shared/scenario/load.py) checks that names are declared. The
schema accepts every file that the loader accepts.
"""

from __future__ import annotations

from shared.errata import ERRATA
from shared.findings import DETECTORS
from shared.scenario.expect import ANSWERS, EXPECTABLE, FUNCTION_FORM, INVARIANT_IDS, KEYS, MAX_RESULT, OBJECTS
from shared.scenario.load import ID_FORM, MAX_DEPTH, MAX_OPERATIONS, MAX_SCHEDULES, OPTIONAL, REQUIRED
from shared.scenario.machine import (
    BOUNDS,
    DEVICE_NAME,
    ERRORS,
    KERNEL_LOCKS,
    KERNEL_MAPS,
    MAX_CPUS,
    MAX_SWAP_DEVICES,
    OPERATIONS,
    PAGE_SIZES,
    RM,
    SHARDED,
    TIMES,
)
from shared.scenario.machine import LEVELS as INTERRUPT_LEVELS
from shared.scenario.model import LEVELS, STRATEGIES
from shared.scenario.steps.step import NAME_FORM, Schema, Where
from shared.scenario.steps.table import STEPS, steps_of

DIALECT = "http://json-schema.org/draft-07/schema#"
#: how a scenario beside the shipped scenarios names the schema in its first line
MODELINE = "# yaml-language-server: $schema=../schema.json"
_NAMES: Schema = {"pattern": f"^{NAME_FORM}$"}
_TEXT: Schema = {"type": "string", "pattern": r"\S"}


def schema() -> Schema:
    """The whole schema."""
    ident: Schema = {"type": "string", "pattern": f"^{ID_FORM}$"}
    parts: dict[str, Schema] = {
        "id": about("the id of the scenario", ident),
        "machine": about(
            "the machine of the scenario: its keys, or the name or the file of a machine",
            {"anyOf": [_TEXT, _ref("machine")]},
        ),
        "setup": about(
            "steps that run once, in order, before every execution; their operations have no numbers",
            _list({"$ref": "#/definitions/setup"}),
        ),
        "programs": about(
            "thread -> its steps",
            {"type": "object", "propertyNames": _NAMES, "additionalProperties": _ref("program"), "minProperties": 1},
        ),
        "name": about("a name in words", ident),
        "title": about("what the scenario shows, in one line", _TEXT),
        "story": about("what happens, and why", _TEXT),
        "source": about("the sources of the defect", _list(_TEXT)),
        "errata": about(
            "the defects that are switched on", {"type": "array", "items": _erratum(), "uniqueItems": True}
        ),
        "detect": about(
            "detector -> its level: stop the run, note the finding, or off",
            _map(dict.fromkeys(DETECTORS, _enum(LEVELS))),
        ),
        "interrupts": about(
            "device -> the steps of its interrupt", {"type": "object", "additionalProperties": _ref("interrupt")}
        ),
        "expect": about(
            "what must happen with the errata, and without them",
            _map({"with_errata": _ref("outcome"), "fixed": _ref("outcome")}),
        ),
        "bound": about("the search within which the expectation was confirmed", _bound()),
        "session": about(
            "steps that a session has added, in the order of time: thread -> its step",
            {
                "type": "array",
                "items": {
                    "type": "object",
                    "propertyNames": _NAMES,
                    "additionalProperties": {"$ref": "#/definitions/program/items"},
                    "minProperties": 1,
                    "maxProperties": 1,
                },
            },
        ),
    }
    assert tuple(parts) == (*REQUIRED, *OPTIONAL)
    return {
        "$schema": DIALECT,
        "title": "A scenario of uvmp",
        **_map(parts, REQUIRED),
        "definitions": {
            "setup": _step(Where.SETUP),
            "program": {"type": "array", "items": _step(Where.PROGRAM)},
            "interrupt": _map(
                {"cpu": _whole(0, MAX_CPUS - 1), "steps": _list(_step(Where.INTERRUPT))}, ("cpu", "steps")
            ),
            "machine": machine(),
            "outcome": _outcome(),
        },
    }


def about(description: str, schema: Schema) -> Schema:
    """A schema with a description."""
    return {"description": description, **schema}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/definitions/{name}"}


def _whole(low: int, high: int) -> Schema:
    return {"type": "integer", "minimum": low, "maximum": high}


def _number(key: str, description: str = "") -> Schema:
    """A number of a machine."""
    whole = _whole(*BOUNDS[key])
    return about(description, whole) if description else whole


def _enum(words: object) -> Schema:
    return {"enum": list(words)}  # type: ignore[call-overload]


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items, "minItems": 1}


def _map(properties: dict[str, Schema], required: tuple[str, ...] = ()) -> Schema:
    """A mapping with these keys and no others."""
    made: Schema = {"type": "object", "properties": properties, "additionalProperties": False}
    return {**made, "required": list(required)} if required else made


def _erratum() -> Schema:
    """A known one, for editors to offer, or any other: letters may be small, and a patch may declare its own."""
    return {"anyOf": [{"enum": [*ERRATA, *sorted({erratum.name for erratum in ERRATA.values()})]}, _TEXT]}


def _step(where: Where) -> Schema:
    """`{op: {...}}`, for each step that is allowed there."""
    steps = {op: STEPS[op].schema(where) for op in steps_of(where)}
    for op in steps:
        if STEPS[op].ends:
            steps[op] |= {"type": ["object", "null"]}
    return {**_map(steps), "minProperties": 1, "maxProperties": 1}


def _bound() -> Schema:
    return _map(
        {
            "strategy": about("how schedules are chosen; default auto, a portfolio of the others", _enum(STRATEGIES)),
            "schedules": about("executions", _whole(1, MAX_SCHEDULES)),
            "depth": about("number of ordering constraints that pct assumes; default 3", _whole(1, MAX_DEPTH)),
            "operations": about(
                "the limit at which an execution is stopped as a run without end", _whole(1, MAX_OPERATIONS)
            ),
        },
        ("schedules",),
    )


def _any_of(schema: Schema) -> Schema:
    """A value, or {any_of: [...]}."""
    return {"anyOf": [schema, _map({"any_of": _list(schema)}, ("any_of",))]}


def _outcome() -> Schema:
    answer: Schema = {"anyOf": [_whole(0, MAX_RESULT), _enum(ANSWERS)]}
    result = {"type": "object", "propertyNames": _NAMES, "additionalProperties": answer, "minProperties": 1}
    results: Schema = {"type": "object", "propertyNames": _NAMES, "additionalProperties": _any_of(answer)}
    keys: dict[str, Schema] = {
        "finding": about(
            "the kind of the finding, or none", {"anyOf": [{"const": "none"}, _any_of(_enum(EXPECTABLE))]}
        ),
        "function": about(
            "the kernel function that the finding names", _any_of({"type": "string", "pattern": f"^{FUNCTION_FORM}$"})
        ),
        "subject": about("the kind of object that the finding names", _any_of(_enum(OBJECTS))),
        "invariant": about("the id of the invariant that does not hold", _any_of(_enum(INVARIANT_IDS))),
        "text": about("a part of the finding's text, for instance a panic message", _any_of(_TEXT)),
        "results": about("into-name -> the values that the result may have", results),
        "never": about("combinations of results that must not occur together", _list(result)),
    }
    assert tuple(keys) == KEYS
    return _map(keys, KEYS[:1])


def machine() -> Schema:
    """The keys of a machine."""
    operation, errors = _enum(OPERATIONS), _enum(ERRORS)
    which: dict[str, Schema] = {
        "first": _number("first", "the first of these requests, from 1"),
        "count": _number("count", "the number of requests; default: all later requests"),
    }
    at = about("start: the request cannot be started; done: it is started, and fails", _enum(TIMES))
    slot = {"slot": _number("slot", "only requests that touch this slot"), **which}
    block = {"block": _number("block", "only requests that touch this block"), **which}
    maybe = about("true: the strategy chooses whether the request fails", {"type": "boolean"})
    error: dict[str, Schema] = {"op": operation, "error": errors, "at": at, "maybe": maybe}
    delay: dict[str, Schema] = {
        "op": operation,
        "by": _number("by", "the number of later requests that may overtake this request"),
    }
    device = _map(
        {"slots": _number("slots"), "priority": _number("priority", "devices with a lower number are used first")},
        ("slots",),
    )
    swap = _map(
        {
            "errors": about("requests that fail", _list(_map({**error, **slot}, ("op", "error")))),
            "delays": about("requests that are slow", _list(_map({**delay, **slot}, ("op", "by")))),
            "devices": about("several swap devices", {**_list(device), "maxItems": MAX_SWAP_DEVICES}),
        }
    )
    mmu = _map(
        {
            "unwired_mappings": _number(
                "unwired_mappings", "the number of mappings of unlocked pages for which a page table has room"
            ),
            "page_tables": _number("page_tables", "entries of a page-table page, which is a page of memory"),
            "rm": about("hardware: the MMU sets R and M; emulated: the MMU traps", _enum(RM)),
        }
    )
    kernel = _map({name: _number(name) for name in KERNEL_MAPS})
    shards = _map({name: _number(name) for name in SHARDED})
    keys: dict[str, Schema] = {
        "cpus": _number("cpus"),
        "frames": _number("frames", "pages of memory"),
        "swap_slots": _number("swap_slots", "slots of one page each"),
        "page_size": about("bytes; default 64", _enum(PAGE_SIZES)),
        "anons": _number("anons", "vm_anon structures; default: the number of frames plus slots"),
        "reserve_pagedaemon": _number("reserve_pagedaemon", "free pages that only the pagedaemon may take"),
        "reserve_kernel": _number("reserve_kernel", "free pages that only the kernel may take"),
        "freemin": _number("freemin", "replaces UVM's own value"),
        "freetarg": _number("freetarg", "replaces UVM's own value"),
        "disk": _number("disk", "blocks of a disk, for files and raw I/O"),
        "disk_errors": about("file I/O that fails", _list(_map({**error, **block}, ("op", "error")))),
        "mmu": mmu,
        "swap": swap,
        "kernel": about("the kernel's maps, in pages", {**kernel, "minProperties": 1}),
        "kernel_lock": about("big: the big lock of the MP kernels of 2000 to 2007", _enum(KERNEL_LOCKS)),
        "devices": about(
            "device, such as net0 -> the level of its interrupt",
            {
                "type": "object",
                "propertyNames": {"pattern": f"^{DEVICE_NAME.pattern}$"},
                "additionalProperties": _enum(INTERRUPT_LEVELS),
                "minProperties": 1,
            },
        ),
        "shards": about("the number of nodes of each kind", shards),
        "colocate": about(
            "nodes that share a process: true, false, or the groups",
            {"anyOf": [{"type": "boolean"}, {"type": "array", "items": _list({"type": "string"})}]},
        ),
    }
    by_device: Schema = {"properties": {"swap": {"required": ["devices"]}}, "required": ["swap"]}
    by_slots: Schema = {"required": ["swap_slots"]}
    return {**_map(keys, ("cpus", "frames")), "anyOf": [by_slots, by_device]}
