"""The answers of a worker, in any kind of process: the result of a batch, or the error that it has raised."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from cluster.search import worker
from cluster.search.batch import JOB
from shared.errors import Infrastructure, ProjectBug, UserMistake
from shared.wire.codec import Form, decode, encode


class Failure(NamedTuple):
    """The error that a worker has raised.

    Attributes:
        user: it is a mistake of the user's. file, line, field: where.
    """

    user: bool
    message: str
    file: str | None = None
    line: int | None = None
    field: str | None = None

    @classmethod
    def of(cls, error: Exception) -> Failure:
        if isinstance(error, UserMistake):
            return cls(True, error.message, error.file, error.line, error.field)
        return cls(False, str(error) if isinstance(error, ProjectBug) else f"{type(error).__name__}: {error}")

    def raised(self) -> Exception:
        if self.user:
            return UserMistake(self.message, file=self.file, line=self.line, field=self.field)
        return Infrastructure(f"a worker failed: {self.message}")


FAILURE: Form[Failure] = Form("failure", 1 << 20, Failure._make)
READY: Form[None] = Form("ready", 1 << 10)


def checked(answer: bytes) -> bool:
    """Is this the result of a batch, or of a beginning?

    Raises: UserMistake, Infrastructure - it is what the worker has raised.
    """
    if FAILURE.is_of(answer):
        raise decode(FAILURE, answer).raised()
    return True


class Runs(Protocol):
    """A worker of a search, or of a hunt."""

    def run(self, batch: bytes) -> bytes:
        """The result of a batch."""


def _worker(setup: bytes) -> Runs:
    if JOB.is_of(setup):
        return worker.Worker(setup)
    from cluster.fuzz import trial  # noqa: PLC0415 - a worker of a search begins sooner without it

    return trial.Worker.begun(setup)


class Worker:
    """Answers, and raises nothing."""

    def __init__(self) -> None:
        self.worker: Runs | None = None

    def begin(self, setup: bytes) -> bytes:
        """Take the setup of the search."""
        try:
            self.worker = _worker(setup)
            return encode(READY, None)
        except Exception as error:
            return encode(FAILURE, Failure.of(error))

    def run(self, batch: bytes) -> bytes:
        """Run a batch."""
        try:
            if self.worker is None:
                raise Infrastructure("the worker has not been told what to search")
            return self.worker.run(batch)
        except Exception as error:
            return encode(FAILURE, Failure.of(error))
