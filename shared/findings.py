"""Findings, the defects of the *simulated kernel* that detectors report, and the table of their kinds.

FINDINGS is the only table of kinds. It gives the detector of a kind, the sentence that explains it, and the exit code.
Code that makes a `Finding` gives only its kind.

A finding is not an exception that travels: it is a value, captured with its stacks and locks before anything
unwinds, and it crosses processes as a message.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import NamedTuple

from shared.errors import Exit


class Kind(NamedTuple):
    """A kind of finding.

    Attributes:
        detector: which detector reports it; the key of `detect:` in a scenario.
        meaning: a sentence for a reader who has not met it before.
        exit: of a command that ends with such a finding.
    """

    detector: str
    meaning: str
    exit: Exit = Exit.FINDING


#: every kind of finding; all texts about a kind come from here
FINDINGS = {
    "panic": Kind("kassert", "the kernel reached a state that it cannot handle, and stopped"),
    "kassert": Kind("kassert", "an assertion in the kernel does not hold"),
    "lock-assert": Kind(
        "lockdebug", "the kernel asserts that a lock is held, or not held, at this place; the assertion does not hold"
    ),
    "locking-against-myself": Kind(
        "lockdebug", "a context asked for a lock that it already holds: it would wait for itself forever"
    ),
    "lock-not-held": Kind("lockdebug", "a context released a lock that it does not hold; another context may hold it"),
    "locked-anon-freed": Kind(
        "lockdebug", "an anon went back to the free list with its lock held: the next context that gets the anon spins"
    ),
    "freed-while-held": Kind("lockdebug", "memory was freed that contains a held lock"),
    "held-across-sleep": Kind(
        "lockdebug", "a context gave up its CPU while it held a simple lock: a CPU that spins for the lock may hang"
    ),
    "held-at-exit": Kind("lockdebug", "a function returned with a lock that it should have released"),
    "lock-order-reversal": Kind(
        "lockorder", "two locks were taken in both orders: two CPUs can deadlock on them, even if this run did not"
    ),
    "deadlock": Kind("deadlock", "contexts wait for each other, or for an event that no context will cause"),
    "spin-forever": Kind("deadlock", "a CPU spins for a simple lock that no context will release"),
    "lost-wakeup": Kind("deadlock", "a context sleeps, and no context will wake it"),
    "no-progress": Kind("progress", "contexts keep running but make no progress"),
    "not-ended": Kind(
        "progress",
        "the execution has not ended within its limit of operations or time; that alone is no defect of the kernel",
    ),
    "data-race": Kind(
        "race", "two CPUs accessed one field, at least one access was a write, and nothing ordered the accesses"
    ),
    "use-after-free": Kind("heap", "a context used a handle of a struct that had been freed or reused"),
    "freed-page-access": Kind("heap", "memory was accessed through a translation to a page that had been freed"),
    "invariant": Kind("invariant", "structs of the kernel contradict each other"),
    "oracle": Kind("oracle", "a program read a value that its memory must not contain"),
    "unexpected-result": Kind(
        "results",
        "the results of the programs are not those that the scenario expects, and no other detector saw a cause",
    ),
    "assertion": Kind("assertion", "an assertion of the user's own program does not hold"),
    "table-mismatch": Kind("tables", "a node was built with other constants or struct layouts than the kernel"),
}

#: the kind that is about the scenario's own expectation, which no scenario can expect
UNEXPECTED = "unexpected-result"
DETECTORS = tuple(sorted({kind.detector for kind in FINDINGS.values()}))


@dataclass(slots=True)
class Finding:
    """Something wrong with the *simulated kernel*, captured where it was seen.

    Attributes:
        kind: closed vocabulary, see `FINDINGS`.
        text: the phrase a NetBSD kernel would print, or one sentence of ours.
        context: the context that met it; empty for verdicts over a whole run.
        function: the kernel function named by the finding (for a lock that is
            never released, the function that took it).
        subject: the object named, as `anon:5`.
        detector: which detector saw it; that which FINDINGS names, unless a file says otherwise.
        stack: kernel functions of `context`, outermost first.
        held: locks of `context`, as `{"lock", "mode", "since"}`.
        story: further sentences (a wait-for cycle, the other side of a race).
    """

    kind: str
    text: str
    context: str = ""
    function: str = ""
    subject: str = ""
    detector: str = ""
    stack: list[str] = field(default_factory=list)
    held: list[dict[str, str]] = field(default_factory=list)
    story: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Raises: KeyError - there is no such kind."""
        self.detector = self.detector or FINDINGS[self.kind].detector

    def as_dict(self) -> dict[str, object]:
        """The finding as plain data, for messages, journals and `--json`."""
        return asdict(self)

    @classmethod
    def from_file(cls, data: Mapping[str, object]) -> Finding:
        """The finding in a file, every field of its type; a kind may be one of a later version."""
        texts = {key: str(data.get(key, "")) for key in ("kind", "text", "context", "function", "subject", "detector")}
        texts["detector"] = texts["detector"] or ("" if texts["kind"] in FINDINGS else "unknown")
        values = {key: data.get(key) for key in ("stack", "held", "story")}
        lists = {key: value if isinstance(value, list) else [] for key, value in values.items()}
        held = [lock if isinstance(lock, dict) else {} for lock in lists["held"]]
        return cls(
            **texts,
            stack=[str(function) for function in lists["stack"]],
            held=[{key: str(lock.get(key, "")) for key in ("lock", "mode", "since")} for lock in held],
            story=[str(sentence) for sentence in lists["story"]],
        )

    def level(self, detect: Mapping[str, str]) -> str:
        """What is to be done about it: "stop", "note" or "off".

        Args:
            detect: detector -> level; of a detector that is not there, "stop".
        """
        return detect.get(self.detector, "stop")

    @property
    def exit(self) -> Exit:
        """The exit code of a command that ends with it."""
        return FINDINGS[self.kind].exit

    @property
    def signature(self) -> tuple[str, str, str]:
        """What makes two findings the same: kind, function, and the kind of object."""
        return self.kind, self.function, self.subject.split(":")[0]
