"""Section `expect` of a scenario's file: the expectation with the scenario's errata, and without them:

    with_errata: {finding: invariant, subject: page, invariant: PAGE-2}
    fixed: {finding: none, results: {r0: 1}}

`finding` is the kind of the finding; `function` and `subject` are the kernel function and the kind of object that it
names; `invariant` is the id of the invariant that does not hold (shared/detectors/invariants); `text` is a part of the
finding's text, for instance a panic message. Each of them may be {any_of: [...]}.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from shared.detectors.invariants import INVARIANTS, NODE_INVARIANTS
from shared.findings import FINDINGS, UNEXPECTED
from shared.port.struct import KINDS
from shared.scenario.model import Expect, Expected
from shared.scenario.yaml import Reading, Value, meant, show
from shared.uvm import structs
from shared.uvm.param import ERRNO_NAMES
from shared.wire.messages import OPERATIONS

SIGNALS = ("SIGSEGV", "SIGBUS")
EXPECTABLE = tuple(kind for kind in FINDINGS if kind != UNEXPECTED)
#: invariants that an expectation may name
INVARIANT_IDS = (*INVARIANTS, *NODE_INVARIANTS)
#: what a finding can be about: structs, as `anon`, in the words of their handles, and nodes that serve
OBJECTS = (
    *(kind.kind_name for kind in KINDS.values() if kind.__module__ == structs.__name__),
    *dict.fromkeys(op.node for op in OPERATIONS.values()),
)
#: values that a result may have, beside numbers
ANSWERS = (*ERRNO_NAMES.values(), *SIGNALS)
MAX_RESULT = 2**64 - 1
FUNCTION_FORM = r"[A-Za-z_][A-Za-z0-9_]{0,63}"
_FUNCTION = re.compile(FUNCTION_FORM)
HALVES = ("with_errata", "fixed")
#: keys of one half, of which the first is required
KEYS = ("finding", "function", "subject", "invariant", "text", "results", "never")


class Expectation:
    """Reads the section.

    Args:
        reading: takes note of mistakes.
        intos: names of the results that steps give.
        errata: the file names errata.
    """

    def __init__(self, reading: Reading, intos: Iterable[str], errata: bool):
        self.reading, self.intos, self.errata = reading, list(intos), errata

    def read(self, value: Value) -> Expect:
        """Either half can be left out."""
        keys = value.items()
        reading = self.reading
        reading.mistakes += value.wrong_keys((), HALVES)
        if not self.errata and "with_errata" in keys:
            reading.mistakes.append(value.mistake("the scenario names no errata", "with_errata"))
        fixed = reading.section(keys, "fixed", self.outcome, None)
        return Expect(reading.section(keys, "with_errata", self.outcome, None) if self.errata else fixed, fixed)

    def outcome(self, value: Value) -> Expected:
        """One half."""
        keys = value.mapping(KEYS[:1], KEYS[1:])
        finding = keys["finding"]
        kinds: tuple[str, ...] = ()
        if finding.data != "none":
            kinds = tuple(kind.choice(EXPECTABLE, "kind of finding") for kind in any_of(finding))
        for key in ("function", "subject", "invariant", "text"):
            if key in keys and not kinds:
                value.fail("is not allowed with `finding: none`", key=key)
        functions = []
        for function in _listed(keys, "function"):
            if not _FUNCTION.fullmatch(function.text("the name of a function")):
                function.fail(f"{show(function.data)} is not the name of a function")
            functions.append(function.text())
        subjects = [subject.choice(OBJECTS, "kind of object") for subject in _listed(keys, "subject")]
        if "invariant" in keys and "invariant" not in kinds:
            value.fail("is only allowed with `finding: invariant`", key="invariant")
        invariants = [ident.choice(INVARIANT_IDS, "invariant") for ident in _listed(keys, "invariant")]
        texts = [part.text("a part of the finding's text") for part in _listed(keys, "text")]
        results: dict[str, tuple[int | str, ...]] = {}
        for name, allowed in keys["results"].items().items() if "results" in keys else ():
            self._known(name, keys["results"])
            results[name] = tuple(result(answer) for answer in any_of(allowed))
        never = []
        for together in keys["never"].elements(at_least=1) if "never" in keys else ():
            for name in together.items():
                self._known(name, together)
            if not together.items():
                together.fail("expected at least one result")
            never.append({name: result(answer) for name, answer in together.items().items()})
        return Expected(
            kinds, tuple(functions), tuple(subjects), tuple(invariants), tuple(texts), results, tuple(never)
        )

    def _known(self, name: str, value: Value) -> None:
        if name not in self.intos:
            value.unresolved(name, f"no step has `into: {name}`{meant(name, self.intos)}", key=name)


def any_of(value: Value) -> list[Value]:
    """The values that a key allows: one, or {any_of: [...]}."""
    if isinstance(value.data, dict):
        return value.mapping(("any_of",))["any_of"].elements(at_least=1)
    return [value]


def _listed(keys: dict[str, Value], key: str) -> list[Value]:
    return any_of(keys[key]) if key in keys else []


def result(value: Value) -> int | str:
    """What a step may answer."""
    return value.choice(ANSWERS, "errno or signal") if isinstance(value.data, str) else value.integer(0, MAX_RESULT)
