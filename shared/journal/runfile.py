"""run.json and scenario.json of a run folder, as data: their contents, their checksums, and the command lines that
replay a token or a folder.

run.json is written last. It has the outcome of the run, and the SHA-256 of every
other file of the folder; its own `check` covers all of it. So a changed value is
detected. A checksum is not a signature: a person who changes a folder on purpose
can compute a new checksum, and therefore `uvmp replay` compares.

Each run has an identity (`run`), which is in every file of its folder.
"""

from __future__ import annotations

import hashlib
import json
import re
import shlex
from collections.abc import Mapping, ValuesView
from dataclasses import asdict, dataclass, replace
from typing import TypeGuard

from shared.errors import UserMistake
from shared.program.functions import Functions
from shared.scenario.load import MAX_OPERATIONS, load_scenario
from shared.scenario.machine import KERNEL_LOCKS
from shared.scenario.model import Scenario
from shared.text import clean
from shared.wire import typed

RUN_SCHEMA, SCENARIO_SCHEMA = "uvmp-run/2", "uvmp-scenario/2"
RUN, SCENARIO, SUFFIX = "run.json", "scenario.json", ".uvmp.jsonl"
#: source of the patch that the kernel had, to be read and never executed
PATCH = "patch.py.txt"
MAX_OPTIONS, MAX_OPTION = 64, 500
MAX_TOKEN = 4096
#: seconds that a run can be given
MAX_SECONDS = 7 * 24 * 3600
#: options of `uvmp replay` that can stand beside a token, and whether they take a value
OPTIONS = {
    "--scenario": True, "--fixed": False, "--errata": True, "--detect": True, "--kernel-lock": True,
    "--operations": True, "--patch": True,
}  # fmt: skip
TOKEN = re.compile(r"uvmp1\.([A-Za-z0-9_-]{1,64})\.([0-9a-f]{8})\.([0-9a-f]{8})\.([A-Za-z0-9_-]*)\.([0-9a-f]{6})")


@dataclass(frozen=True, slots=True)
class Late:
    """A run was ended because its time was over.

    Attributes:
        operations: that it had performed.
        seconds: that it was given.
    """

    operations: int
    seconds: float


def late_of(document: Mapping[str, object]) -> Late | None:
    """What run.json says of that; None if it says nothing, or what cannot be."""
    try:
        late: Late = typed.read(Late, document["late"])
    except (TypeError, ValueError, LookupError):
        return None
    possible = 0 <= late.operations < MAX_OPERATIONS and 0 < late.seconds <= MAX_SECONDS
    return late if possible else None


def sealed(body: Mapping[str, object]) -> dict[str, object]:
    """The body with its `check`, which replaces an older check."""
    return {**body, "check": _check(body)}


def is_sealed(body: Mapping[str, object]) -> bool:
    """Is the body as it was when it was sealed?"""
    return body.get("check") == _check(body)


def _check(body: Mapping[str, object]) -> str:
    body = {key: value for key, value in body.items() if key != "check"}
    return hashlib.sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def token_check(head: str) -> str:
    """The last part of a token, over all before it."""
    return hashlib.sha256(head.encode()).hexdigest()[:6]


def is_token(text: object) -> TypeGuard[str]:
    """Is it a token in one piece? What its body says is not asked."""
    if not isinstance(text, str) or len(text) > MAX_TOKEN or not TOKEN.fullmatch(text):
        return False
    head, _, check = text.rpartition(".")
    return token_check(head) == check


def token_line(token: object, options: object) -> str | None:
    """The line that replays a token, made from its parts; None if a part is not what it should be.

    Args:
        options: as `uvmp replay` takes them beside the token.
    """
    words = options_of(options)
    return None if words is None or not is_token(token) else shlex.join(["uvmp", "replay", token, *words])


def options_of(options: object) -> tuple[str, ...] | None:
    """Options as `uvmp replay` takes them beside a token; None if one of them is not what it should be."""
    if not isinstance(options, (list, tuple)) or len(options) > MAX_OPTIONS:
        return None
    words = iter(options)
    for word in words:
        if not isinstance(word, str) or word not in OPTIONS:
            return None
        value = next(words, None) if OPTIONS[word] else ""
        if not isinstance(value, str) or len(value) > MAX_OPTION or clean(value) != value or value.startswith("--"):
            return None
    return tuple(options)


def patch_of(options: object) -> str:
    """File name of the patch that is among options, as `uvmp replay` takes them; "" if there is none."""
    words = options_of(options) or ()
    return words[words.index("--patch") + 1] if "--patch" in words else ""


def program_line(token: object) -> str | None:
    """The line of Python that replays the token of a user's own program; None if the token is not what it should be."""
    return f'cluster.api.replay(program, "{token}")' if is_token(token) else None


def folder_line(path: str) -> str | None:
    """The line that replays a folder; None if its name cannot be pasted."""
    return shlex.join(["uvmp", "replay", path]) if clean(path) == path else None


def scenario_document(scenario: Scenario, run: str) -> dict[str, object]:
    """What scenario.json says: the file's text, and how the run was set up.

    Args:
        run: the run's identity.
    """
    about = {} if scenario.functions is None else {"functions": json.loads(json.dumps(asdict(scenario.functions)))}
    return about | {
        "schema": SCENARIO_SCHEMA,
        "run": run,
        "file": scenario.file,
        "text": scenario.text,
        "machines": [list(text) for text in scenario.machine_texts],
        "errata": list(scenario.errata),
        "detect": dict(scenario.detect),
        "kernel_lock": scenario.machine.kernel_lock,
        "operations": scenario.bound.operations,
    }


def scenario_of(document: Mapping[str, object]) -> Scenario:
    """The scenario in scenario.json, read as strictly as the user's own file.

    Raises: UserMistake - it is none; says where.
    """
    texts = {key: _text(document, key) for key in ("file", "text", "kernel_lock")}
    errata, detect, machines = document.get("errata"), document.get("detect"), document.get("machines")
    if not isinstance(errata, list) or not _texts(errata):
        raise UserMistake("expected a list of errata", field="errata")
    if not isinstance(detect, dict) or not _texts(detect.values()):
        raise UserMistake("expected a level for each detector", field="detect")
    if not isinstance(machines, list) or not all(
        isinstance(machine, list) and len(machine) == 3 and _texts(machine) for machine in machines
    ):
        raise UserMistake("expected a list of [name, file, text]", field="machines")
    known = {name: (text, file) for name, file, text in machines}

    def find(name: str) -> tuple[str, str]:
        if name not in known:
            raise UserMistake(f"there is no machine {clean(name, 60)!r}", field="machines")
        return known[name]

    scenario = load_scenario(texts["text"], clean(texts["file"], 200), find)
    if texts["kernel_lock"] not in KERNEL_LOCKS:
        raise UserMistake(f"expected {' or '.join(KERNEL_LOCKS)}", field="kernel_lock")
    scenario = scenario.with_errata(errata).with_detect(detect).with_kernel_lock(texts["kernel_lock"])
    if "operations" in document:  # (documents of earlier versions have none)
        limit = document["operations"]
        if limit is not None and (type(limit) is not int or not 1 <= limit <= MAX_OPERATIONS):
            raise UserMistake(f"expected null, or a number from 1 to {MAX_OPERATIONS}", field="operations")
        scenario = scenario.with_operations(limit)
    if "functions" not in document:
        return scenario
    return replace(scenario, functions=_functions(document["functions"]))


def _functions(data: object) -> Functions:
    """The functions of a program of one's own: names, which nothing here imports."""
    try:
        return typed.read(Functions, data)
    except (TypeError, ValueError, LookupError):
        raise UserMistake("expected the functions of a program", field="functions") from None


def _text(document: Mapping[str, object], key: str) -> str:
    value = document.get(key)
    if not isinstance(value, str):
        raise UserMistake("expected text", field=key)
    return value


def _texts(values: object) -> bool:
    return isinstance(values, (list, ValuesView)) and all(isinstance(value, str) for value in values)
