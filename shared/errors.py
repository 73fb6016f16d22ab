"""All errors of uvmp itself, in three families that never mix.

    Exception
     +- UserMistake       the user's input is wrong                    exit 2
     +- ProjectBug        we broke a promise of our own
     |   +- Diverged      a step of a schedule cannot happen           exit 3
     |   +- LogIncomplete records of a journal are missing or damaged  exit 4
     |   +- Infrastructure  Ray or an actor failed, or a limit         exit 5
     BaseException
      +- PortDead         unwinds a context after the run has ended

A *finding* about the simulated kernel is not an exception: it is a value (shared/findings.py).
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum


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
    flat = dict.fromkeys(other for mistake in mistakes for other in (mistake, *mistake.others))
    first, *others = sorted(flat, key=lambda mistake: (mistake.file or "", mistake.line or 0))
    for mistake in others:
        mistake.others = ()
    first.others = tuple(others)
    return first


class ProjectBug(Exception):
    """A promise of ours does not hold."""

    exit = Exit.INFRASTRUCTURE


class Diverged(ProjectBug):
    """A schedule named a step that cannot happen here."""

    exit = Exit.DIVERGED

    def __init__(self, expected: str, actual: str):
        self.expected, self.actual = expected, actual
        super().__init__(f"diverged: expected {expected}; found {actual}")


class LogIncomplete(ProjectBug):
    """A journal has a hole or cannot be read; says where."""

    exit = Exit.LOG_INCOMPLETE


class Infrastructure(ProjectBug):
    """Ray, an actor, or a limit of ours failed."""

    exit = Exit.INFRASTRUCTURE


class PortDead(BaseException):
    """The run is over: unwind this context, perform nothing, release nothing."""
