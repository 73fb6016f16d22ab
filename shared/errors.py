"""Every way a run can go wrong, in three families that never mix.

    Exception
     +- UserMistake       what the user gave us is wrong               exit 2
     +- ProjectBug        we broke a promise of our own
     |   +- Diverged      a schedule asked for what cannot happen      exit 3
     |   +- LogIncomplete a journal has a hole, or is torn             exit 4
     |   +- Infrastructure  Ray, an actor or a limit failed us         exit 5
     BaseException
      +- PortDead         unwinds a context after the run has ended

A *finding* is not an exception that travels: it is a value, captured with its
stacks and locks before anything unwinds (see `Finding`), and it crosses
processes as a message.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from enum import IntEnum
from typing import Any, NamedTuple


class Exit(IntEnum):
    """Exit codes of the command; stable."""

    NO_FINDING = 0
    FINDING = 1
    USAGE = 2
    DIVERGED = 3
    LOG_INCOMPLETE = 4
    INFRASTRUCTURE = 5
    INTERRUPTED = 130


class UserMistake(Exception):
    """The user's file, option or token is wrong; says where, and what was expected.

    Args:
        message: one sentence.
        file: the file's name as the user gave it, or None for an option.
        line: line in that file, from 1.
        field: the path of the field, as `programs.A[2].mlock.pages`.

    Attributes:
        others: further mistakes in the same file; see `together`.
    """

    exit = Exit.USAGE
    others: tuple[UserMistake, ...] = ()

    def __init__(self, message: str, *, file: str | None = None, line: int | None = None, field: str | None = None):
        self.message, self.file, self.line, self.field = message, file, line, field
        place = ":".join(str(part) for part in (file, line) if part is not None)
        super().__init__(": ".join(part for part in (place, field or "", message) if part))


def together(mistakes: Iterable[UserMistake]) -> UserMistake:
    """One exception for all mistakes of a file (at least one), in the order of its lines: the first has the others."""
    flat = dict.fromkeys(one for mistake in mistakes for one in (mistake, *mistake.others))
    first, *others = sorted(flat, key=lambda one: (one.file or "", one.line or 0))
    for one in others:
        one.others = ()
    first.others = tuple(others)
    return first


class ProjectBug(Exception):
    """A promise of ours does not hold."""

    exit = Exit.INFRASTRUCTURE


class Diverged(ProjectBug):
    """A schedule named a step that cannot happen here."""

    exit = Exit.DIVERGED

    def __init__(self, expected: str, found: str):
        self.expected, self.found = expected, found
        super().__init__(f"diverged: expected {expected}; found {found}")


class LogIncomplete(ProjectBug):
    """A journal has a hole or cannot be read; says where."""

    exit = Exit.LOG_INCOMPLETE


class Infrastructure(ProjectBug):
    """Ray, an actor, or a limit of ours failed."""

    exit = Exit.INFRASTRUCTURE


class PortDead(BaseException):
    """The run is over: unwind this context, perform nothing, release nothing."""


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
        detector: which detector saw it; the key of `detect:` in a scenario.
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

    def as_dict(self) -> dict[str, Any]:
        """The finding as plain data, for messages, journals and `--json`."""
        return asdict(self)

    @property
    def signature(self) -> tuple[str, str, str]:
        """What makes two findings the same: kind, function, and the kind of object."""
        return self.kind, self.function, self.subject.split(":")[0]


class Kind(NamedTuple):
    """A kind of finding.

    Attributes:
        detector: which detector reports it; the key of `detect:` in a scenario.
        meaning: a sentence for a reader who has not met it before.
    """

    detector: str
    meaning: str


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
    "table-mismatch": Kind("tables", "a node was built with another table of constants or layouts than the kernel"),
}

#: the kind that is about the scenario's own expectation, which no scenario can expect
UNEXPECTED = "unexpected-result"
DETECTORS = tuple(sorted({one.detector for one in FINDINGS.values()}))
