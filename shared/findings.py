"""What can be wrong with the *simulated kernel*: every kind of finding, and one finding.

FINDINGS is the one table of kinds. Which detector sees a kind, the sentence that explains it and the exit code come
from there, wherever they are needed; whoever makes a `Finding` names its kind alone.

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


#: every kind of finding there is; what is said of a kind anywhere comes from here
FINDINGS = {
    "panic": Kind("kassert", "the kernel found itself in a state that it cannot handle, and gave up"),
    "kassert": Kind("kassert", "an assertion in the kernel does not hold"),
    "lock-assert": Kind(
        "lockdebug", "the kernel asserts which locks are held at this place; LOCKDEBUG saw that it is not so"
    ),
    "locking-against-myself": Kind(
        "lockdebug", "a context asked for a lock that it holds already: it would wait for itself, and never go on"
    ),
    "lock-not-held": Kind("lockdebug", "a context released a lock that it does not hold, maybe somebody else's"),
    "locked-anon-freed": Kind(
        "lockdebug", "an anon went back to the free list with its lock held: the next context to get it spins on it"
    ),
    "freed-while-held": Kind("lockdebug", "memory was freed with a held lock in it"),
    "held-across-sleep": Kind(
        "lockdebug", "a context gave up its CPU with a simple lock held: a CPU that spins for it may never go on"
    ),
    "held-at-exit": Kind("lockdebug", "a function returned with a lock that it should have released"),
    "lock-order-reversal": Kind(
        "lockorder", "two locks were taken in both orders: two CPUs can deadlock on them, if not in this run"
    ),
    "deadlock": Kind("deadlock", "contexts wait for each other, or for what nobody will provide"),
    "spin-forever": Kind("deadlock", "a CPU spins for a simple lock that nobody is going to release"),
    "lost-wakeup": Kind("deadlock", "a context sleeps, and nobody is left who would wake it"),
    "no-progress": Kind("progress", "contexts keep running and get nowhere"),
    "data-race": Kind("race", "two CPUs accessed one field, one of them to write, and nothing ordered the two"),
    "use-after-free": Kind("heap", "a handle was used whose struct had been freed or recycled"),
    "freed-page-access": Kind("heap", "memory was accessed by way of a translation to a page that was freed since"),
    "invariant": Kind("invariant", "the kernel's data contradict each other"),
    "oracle": Kind("oracle", "a program read something else than what its memory must contain"),
    "unexpected-result": Kind(
        "results", "the programs' results are not what the scenario expects, and no other detector has seen why"
    ),
    "assertion": Kind("assertion", "an assertion of a program of one's own does not hold"),
    "table-mismatch": Kind("tables", "a node was built with another table of constants or layouts than the kernel"),
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
        detector: which detector saw it; the one that FINDINGS names, unless a file says otherwise.
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
        """What a file tells of a finding, every field of its type; a kind may be one of a later version."""
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
