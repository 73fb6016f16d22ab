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
from typing import Any


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


#: kind of finding -> the detector that reports it
FINDINGS = {
    "panic": "kassert",
    "kassert": "kassert",
    "lock-assert": "lockdebug",
    "locking-against-myself": "lockdebug",
    "lock-not-held": "lockdebug",
    "locked-anon-freed": "lockdebug",
    "freed-while-held": "lockdebug",
    "held-across-sleep": "lockdebug",
    "held-at-exit": "lockdebug",
    "lock-order-reversal": "lockorder",
    "deadlock": "deadlock",
    "spin-forever": "deadlock",
    "lost-wakeup": "deadlock",
    "no-progress": "progress",
    "data-race": "race",
    "use-after-free": "heap",
    "invariant": "invariant",
    "oracle": "oracle",
    "table-mismatch": "tables",
}

DETECTORS = tuple(sorted(set(FINDINGS.values())))
