"""What detectors and kernel code say of a run as it goes: kernel events, findings, and which errata it reaches."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import suppress
from typing import TYPE_CHECKING

from shared.errors import PortDead
from shared.findings import FINDINGS, Finding
from shared.patch import blamed, current

if TYPE_CHECKING:
    from shared.port.port import Context, Value
    from shared.scenario.steps.step import Args
    from shared.wire.messages import KernelFinding

#: instead of an access's result: it was refused, and the run does not stop for that
AGAIN = object()

#: errors of Python that stand for what a kernel in C meets at a wild pointer, index or number
WILD = (ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, ValueError)


def _meets(error: BaseException) -> str:
    """What a kernel in C would have met. Python's own words say how the model runs: compiled, it has others."""
    if isinstance(error, AssertionError):
        return f"an assertion does not hold: {error}" if str(error) else "an assertion does not hold"
    if isinstance(error, LookupError):
        return "an index or a key leads to nothing"
    if isinstance(error, (AttributeError, TypeError)):
        return "a pointer leads to nothing, or to something of another kind"
    return "a number is out of its range"


class Reports(ABC):
    """The part of a port that reports.

    Args:
        errata: ids switched on.
        detect: detector -> "stop", "note" or "off".

    Attributes:
        cur: the current context.
        dead: the run has ended; nothing is performed or recorded any more.
        finding: for which it has ended.
        stale: processor -> the first use after free there for which the run did not stop.
        passed: processor -> the first finding of a detector there for which the run did not stop, in words. Each has
            its own, since a processor on a host of its own knows no other's.
        sites: erratum -> how often its place in the code was reached.
    """

    cur: Context

    def __init__(self, errata: frozenset[str], detect: dict[str, str]):
        self.errata, self.detect = errata, detect
        self.dead = False
        self.finding: Finding | None = None
        self.stale: dict[str, Finding] = {}
        self.passed: dict[str, str] = {}
        self.notes: list[Finding] = []
        self.sites: dict[str, int] = {}

    @abstractmethod
    def op(self, code: str, target: int, args: tuple[object, ...] = ()) -> Value:
        """A scheduling point, then one operation."""

    @abstractmethod
    def record_event(self, event: str, **fields: object) -> None:
        """Put a kernel event (not an operation) into this context's CPU's journal."""

    def enter(self, name: str) -> None:
        """A kernel function is entered."""
        self.cur.stack.append(name)
        self.record_event("enter", fn=name)

    def exit(self) -> None:
        """The innermost kernel function returns."""
        if not self.dead:
            self.record_event("exit", fn=self.cur.stack.pop())

    def called(self, step: Args) -> None:
        """A program begins a step, a system call or an access."""
        self.record_event("call", op=step.op, args=step.plain())

    def returned(self, op: str, result: int | str) -> None:
        """The step has ended, with this result."""
        self.record_event("return", op=op, result=result)

    def report(
        self, kind: str, text: str, *, subject: str = "", function: str = "", story: tuple[str, ...] = ()
    ) -> None:
        """A detector has seen something: stop, note or ignore it as `detect` says."""
        detector = FINDINGS[kind].detector
        level = self.detect.get(detector, "stop")
        if self.dead:
            return
        if level != "stop":
            self.passed.setdefault(self.cur.cpu, text)
        if level != "off":
            self.take(self._seen(kind, text, subject, function, story), level)

    def _seen(
        self, kind: str, text: str, subject: str = "", function: str = "", story: tuple[str, ...] = ()
    ) -> Finding:
        """A finding of the current context in its present state."""
        ctx = self.cur
        return Finding(
            kind,
            text,
            ctx.name,
            function or ctx.function,
            subject,
            stack=list(ctx.stack),
            held=ctx.held_as_text(),
            story=list(story),
        )

    def refused(self, refusal: KernelFinding, code: str, target: int, args: tuple[Value, ...]) -> Value:
        """Report an operation that a node has refused. If the run does not stop for that, return what the hardware
        would have.

        The operation is repeated with a scheduling point of its own, since others may come in between; an access by way
        of a translation by who makes it (AGAIN), since an interrupt may have flushed the translation by then.

        A stale handle's address is that of a later struct, or of nothing: then no kernel could continue, and the run
        ends whatever the level. What that struct has not set yet is zero.
        """
        seen = self._seen(refusal.kind, refusal.text, refusal.subject)
        if refusal.fatal:
            self.take(seen, "stop")
        self.report(refusal.kind, refusal.text, subject=refusal.subject)
        if refusal.kind == "freed-page-access":
            return AGAIN
        if refusal.kind != "use-after-free":
            return None
        self.stale.setdefault(self.cur.cpu, seen)
        obj = args[0]
        result = self.op(code, target, (obj.anything(), *args[1:]))
        unset = code == "load" and result is None
        return 0 if unset and args[1] in type(obj).fields and type(obj).fields[args[1]].number else result

    def failed(self, error: BaseException) -> BaseException | None:
        """What an error of a context comes to: None if it ends the run with a finding, else what to tell the user.

        A kernel that continues with the wrong struct's fields, past an assertion that does not hold, or with a defect
        switched on, meets what it cannot handle (`WILD`): a trap. On a repaired kernel with nothing passed over here,
        it is a bug of ours, as any other error is; or the patch's, if it came through the patch's file.
        """
        cause = blamed(error)
        patch = current()
        if cause is not error or self.dead or not isinstance(error, WILD):
            return cause
        stale, passed = self.stale.get(self.cur.cpu), self.passed.get(self.cur.cpu)
        causes = [*sorted(self.errata), *([patch.file] if patch else [])]
        if not (stale or passed or causes):
            return error
        after = f'after "{passed}", for which the run did not stop' if passed else f"with {', '.join(causes)}"
        text = f"panic: trap: {self.cur.function or 'user mode'} cannot go on {after}"
        trap = self._seen("panic", text, story=(_meets(error),))
        with suppress(PortDead):
            self.take(stale or trap, "stop")
        return None

    def take(self, finding: Finding, level: str) -> None:
        """End the run with this finding, or only note it."""
        self.record_event("finding" if level == "stop" else "note", finding=finding.as_dict())
        if level == "note":
            self.notes.append(finding)
            return
        self.stop(finding)

    def stop(self, finding: Finding) -> None:
        """End the run with this finding; nothing is performed after it."""
        self.finding = finding
        self.dead = True
        raise PortDead

    def erratum(self, name: str) -> bool:
        """Is this defect switched on? Counts that its site was reached, either way."""
        self.sites[name] = self.sites.get(name, 0) + 1
        return name in self.errata
