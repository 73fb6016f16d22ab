"""The commands of a session's prompt, in the words of ddb(4) where it has them.

A command answers with lines for people and with data for tools. A command that lets the machine continue is given to
the caller as a `Going`, who performs it in parts, so that others are served meanwhile; `stopped` makes its answer.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic
from typing import NamedTuple

from cluster.live.doing import first, rates
from cluster.postmortem.words import by_address, in_words
from cluster.runs.token import parse, refuse_mismatch
from cluster.search.deviate import Deviate
from cluster.search.strategy import Strategy
from cluster.search.walk import RandomWalk
from cluster.session.look import Look
from cluster.session.session import MAX_SESSION, Going, Session, Stop
from shared.errors import Exit, UserMistake
from shared.journal.record import Record
from shared.patch import SEAMS
from shared.scenario.model import unknown
from shared.scenario.yaml import meant, show
from shared.text import clean, counted

#: operations that are told one by one when the machine stops, and how long a command is
MAX_TOLD, MAX_COMMAND = 20, 4000
MAX_STEPS = 1_000_000


@dataclass
class Answer:
    """The answer to a command.

    Attributes:
        exit: 0; 1: the machine has ended with a finding; 2: the command is wrong; 5: a file cannot be written.
        leaves: of the client - detach; of the machine - halt.
    """

    lines: list[str] = field(default_factory=list)
    data: dict[str, object] = field(default_factory=dict)
    exit: int = Exit.NO_FINDING
    leaves: str = ""

    def as_dict(self, command: str) -> dict[str, object]:
        """As a message."""
        return {"command": command, "lines": self.lines, "data": self.data, "exit": int(self.exit),
                "leaves": self.leaves}  # fmt: skip


class Use(NamedTuple):
    """How a command is written, how many words it has behind its name, at least and at most, and what it does."""

    form: str
    least: int
    most: int
    does: str


COMMANDS = {
    "ps": Use("ps", 0, 0, "list the contexts, what they do, and which of them can go on"),
    "top": Use("top", 0, 0, "operations of each node, and what the contexts do: who runs, and who waits for whom"),
    "trace": Use("trace CTX", 1, 1, "show the kernel stack of a context, its locks, and its next operation; also bt"),
    "show": Use("show WHAT", 1, 2, "page 12, anon:9, uvmexp, locks, anon:9.an_lock, map PROCESS, scenario"),
    "step": Use("step [CTX] [N]", 0, 2, "perform N operations, of one context or by the default schedule"),
    "continue": Use("continue", 0, 0, "go on until a breakpoint, a finding, or nothing can go on; also c"),
    "until": Use("until FUNCTION", 1, 1, "go on until a context enters this function"),
    "schedule": Use("schedule [HOW]", 0, 2, "default, random SEED, or a token: who goes on where no context is named"),
    "history": Use("history WHAT", 1, 2, "show a struct, and all that was done to it"),
    "break": Use("break [FUNCTION]", 0, 1, "stop whenever a context enters this function; list the breakpoints"),
    "delete": Use("delete [FUNCTION]", 0, 1, "remove a breakpoint, or all"),
    "pause": Use("pause", 0, 0, "stop a machine that another client lets go on; Ctrl-C does the same"),
    "spawn": Use("spawn THREAD STEP", 0, 0, "add a step to a program: spawn A mmap: {as: buf, pages: 2}"),
    "snapshot": Use(
        "snapshot FILE", 1, 1, "write the state of all nodes to a file, as JSON, or as msgpack if it ends so"
    ),
    "save": Use("save DIR", 1, 1, "keep the run so far in a folder, for uvmp replay and uvmp postmortem"),
    "detach": Use("detach", 0, 0, "leave; the machine stays, and waits; also Ctrl-D"),
    "end": Use("end", 0, 0, "no more steps come: the threads of a machine at rest pause, and it is judged for good"),
    "halt": Use("halt", 0, 0, "end the machine; its run folder is complete"),
    "help": Use("help [COMMAND]", 0, 1, "say this"),
}
ALIASES = {"bt": "trace", "c": "continue", "s": "step", "quit": "detach", "?": "help"}


class Console:
    """The commands of one session.

    Attributes:
        breaks: functions at whose entry the machine stops.
        chooser: who continues where no context is named; None: by the default schedule. `schedule` says it in words.
        from_: how many records there were when the machine was let go.
        let_go: when that was, and how many operations each node had; None: the machine stands still.
        save, snapshot: what writes files, given their names.
    """

    def __init__(self, session: Session, save: Callable[[str], list[str]], snapshot: Callable[[str], list[str]]):
        self.session, self.look = session, Look(session)
        self.breaks: set[str] = set()
        self.chooser: Strategy | None = None
        self.schedule = "default"
        self.from_ = 0
        self.let_go: tuple[float, dict[str, int]] | None = None
        self.save, self.snapshot = save, snapshot

    def run(self, line: str) -> Answer:
        """Perform a command to its end."""
        begun = self.begin(line)
        if isinstance(begun, Answer):
            return begun
        try:
            return self.stopped(begun, self.session.go(begun))
        except UserMistake as mistake:
            return refusal(mistake)

    def begin(self, line: str) -> Answer | Going:
        """Perform a command, or say how the machine is to continue for it."""
        try:
            answer = self._perform(line.strip())
        except UserMistake as mistake:
            return refusal(mistake)
        if isinstance(answer, Going):
            self.from_ = len(self.session.machine.records)
            self.let_go = monotonic(), self.look.counts()
        elif self.session.finding is not None:
            answer.exit = Exit.FINDING
        return answer

    def _perform(self, line: str) -> Answer | Going:
        if len(line) > MAX_COMMAND:
            raise UserMistake(f"a command has at most {MAX_COMMAND} characters")
        head, _, rest = line.partition(" ")
        name = ALIASES.get(head, head)
        if name not in COMMANDS:
            raise UserMistake(f"there is no command {show(head)}{meant(head, COMMANDS)}; help lists them")
        if name == "spawn":
            return self._spawn(rest.strip())
        try:
            words = shlex.split(rest)
        except ValueError as wrong:
            raise UserMistake(f"{clean(str(wrong).lower(), 60)}: {COMMANDS[name].form}") from None
        if not COMMANDS[name].least <= len(words) <= COMMANDS[name].most:
            raise UserMistake(f"expected: {COMMANDS[name].form}")
        performs: Callable[..., Answer | Going] = getattr(self, f"_{name}")
        return performs(*words)

    # -- looking ------------------------------------------------------------------------

    def _ps(self) -> Answer:
        return Answer(*self.look.ps())

    def _top(self) -> Answer:
        counts, (then, before) = self.look.counts(), self.let_go or (None, {})
        seconds = 0.0 if then is None else max(1e-6, monotonic() - then)
        operations = self.session.machine.operations
        lines = [counted(operations, "operation") + ("; the machine stands still" if then is None else "")]
        lines += [f"  {rates(counts, before, seconds)}"] if counts else []
        rows = self.look.doing()
        speeds = {node: round((count - before.get(node, 0)) / seconds, 1) for node, count in counts.items() if seconds}
        data = {"operations": operations, "nodes": counts, "a_second": speeds, "doing": [row._asdict() for row in rows]}
        return Answer([*lines, *first(rows)], data)

    def _trace(self, ctx: str) -> Answer:
        return Answer(*self.look.trace(ctx))

    def _show(self, what: str, *rest: str) -> Answer:
        if what == "map" and rest:
            return Answer(*self.look.map(rest[0]))
        if what == "locks" and not rest:
            return Answer(*self.look.locks())
        if what == "scenario" and not rest:
            text = self.session.scenario.text
            return Answer(text.splitlines(), {"scenario": text})
        return Answer(*self.look.named(":".join((what, *rest))))

    def _history(self, *words: str) -> Answer:
        return Answer(*self.look.history(":".join(words)))

    def _help(self, *words: str) -> Answer:
        names = [ALIASES.get(word, word) for word in words] or list(COMMANDS)
        for word in names:
            if word not in COMMANDS:
                unknown("command", word, COMMANDS)
        return Answer([f"  {COMMANDS[word].form:<24}{COMMANDS[word].does}" for word in names])

    # -- going on -----------------------------------------------------------------------

    def _step(self, *words: str) -> Going:
        many = 1
        if words and words[-1].isascii() and words[-1].isdecimal():
            many, words = int(words[-1][:12]), words[:-1]
        if len(words) > 1 or not 1 <= many <= MAX_STEPS:
            raise UserMistake(f"expected: {COMMANDS['step'].form}; N is 1 to {MAX_STEPS:,}")
        ctx = words[0] if words else None
        return Going(ctx, many, frozenset(self.breaks), None if ctx else self.chooser)

    def _continue(self) -> Going:
        return Going(None, 1 << 60, frozenset(self.breaks), self.chooser)

    def _schedule(self, how: str = "", *rest: str) -> Answer:
        if how == "default" and not rest:
            self.chooser, self.schedule = None, how
        elif how == "random" and len(rest) == 1 and rest[0].isascii() and rest[0].isdecimal() and len(rest[0]) < 10:
            self.chooser, self.schedule = RandomWalk(int(rest[0])), f"random {int(rest[0])}"
        elif how.startswith("uvmp") and not rest:
            token = parse(how)
            scenario = self.session.scenario
            own = scenario.with_operations(None) if scenario.bound.operations == MAX_SESSION else scenario
            refuse_mismatch(token, own)
            if self.session.machine.operations:
                raise UserMistake("a token begins at the first operation, which this machine has behind it")
            self.chooser, self.schedule = Deviate(token.deviations, strict=False), how
        elif how:
            raise UserMistake("expected: schedule default, schedule random SEED, or schedule TOKEN")
        if self.chooser is not None and how:
            self.chooser.new_execution()
        return Answer([f"schedule: {self.schedule}"], {"schedule": self.schedule})

    def _until(self, function: str) -> Going:
        return Going(None, 1 << 60, frozenset((*self.breaks, _function(function))), self.chooser)

    def _break(self, *words: str) -> Answer:
        self.breaks.update(map(_function, words))
        breakpoints = sorted(self.breaks)
        return Answer([f"breakpoints: {', '.join(breakpoints) or 'none'}"], {"breakpoints": breakpoints})

    def _delete(self, *words: str) -> Answer:
        for function in words or list(self.breaks):
            if function not in self.breaks:
                unknown("breakpoint", function, sorted(self.breaks))
            self.breaks.discard(function)
        return self._break()

    def _pause(self) -> Answer:
        return self.where(Stop("pause"))

    def stopped(self, going: Going, stop: Stop) -> Answer:
        """The machine was let go, and has stopped."""
        self.let_go = None
        answer = self.where(stop)
        records = self.session.machine.records[self.from_ :]
        lines: list[str] = []
        if going.operations <= MAX_STEPS:
            for record in reversed(records):
                line = self._in_words(record)
                if line and len(lines) == MAX_TOLD:
                    break
                lines += [line] if line else []
        operations = sum("k" in record for record in records)
        if len(lines) in (0, MAX_TOLD) and operations:
            answer.lines.insert(0, f"  ({counted(operations, 'operation')})")
            answer.lines[1:1] = reversed(lines)
        else:
            answer.lines[:0] = reversed(lines)
        return answer

    def _in_words(self, record: Record) -> str:
        """An operation, or the begin or end of a step, in a line."""
        if "k" not in record and record["event"] not in ("call", "return"):
            return ""
        words = by_address(record, self.session.scenario.place) or in_words(record)
        number = record["n"] if "k" in record else ""
        return f"  {record['ctx']:<12}{number:>6}  {words}"

    def where(self, stop: Stop) -> Answer:
        """The reason why the machine stands still, and the next operation."""
        session = self.session
        enabled, finding = session.enabled(), session.finding
        operations = session.machine.operations
        data: dict[str, object] = {"stop": stop.why, "operations": operations, "enabled": enabled}
        data["finding"] = None if finding is None else finding.as_dict()
        if stop.ctx:
            data |= {"context": stop.ctx}
        if stop.function:
            data |= {"function": stop.function}
        words = {
            "break": f"{stop.ctx} enters {stop.function}",
            "rest": "the machine is at rest; nothing can go on without a further step (spawn)",
            "blocked": f"{stop.ctx} cannot go on: {self._doing(stop.ctx)}",
            "pause": "paused",
        }.get(stop.why, "")
        if session.machine.ended:
            words = "the machine has ended, " + ("without a finding" if finding is None else "with a finding")
        elif enabled and not words:
            last = session.machine.hand.last
            name = last.name if last is not None and last.name in enabled else enabled[0]
            following = self.look.following(session.threads()[name])
            words = f"next of {name}: {following}" if following else f"{name} can go on"
        exit_ = Exit.NO_FINDING if finding is None else Exit.FINDING
        lines = [f"after {counted(operations, 'operation')}: {words}"]
        if session.doubt is not None:
            lines.append(f"if nothing more comes, this is a finding: {session.doubt.kind}: {session.doubt.text}")
            data["doubt"] = session.doubt.as_dict()
        return Answer(lines, data, exit_)

    def _doing(self, ctx: str) -> str:
        doing = next((context.doing for context in self.look.contexts() if context.name == ctx), "it has not run")
        if doing == "in user mode, waits for a step":
            return f"it waits for a step (spawn {ctx} STEP)"
        thread = self.session.threads().get(ctx)
        if thread is not None and thread.ready and not thread.interrupt:
            return f"another context has {thread.cpu}"
        return doing

    # -- steps, files, the end ------------------------------------------------------------

    def _spawn(self, rest: str) -> Answer:
        thread, _, step = rest.partition(" ")
        if not step.strip():
            raise UserMistake(f"expected: {COMMANDS['spawn'].form}")
        if thread not in self.session.threads() or self.session.lwp(thread) is None:
            unknown("thread", thread, [lwp.name for lwp in self.session.scenario.lwps])
        self.session.spawn(thread, step.strip())
        lwp = self.session.lwp(thread)
        assert lwp is not None
        number = len(lwp.program) - (lwp.program[-1].op == "pause")
        line = self.session.scenario.text.rstrip("\n").rpartition("\n")[2]
        return Answer([f"step {number} of {thread}: {line.strip().partition(': {')[2][:-1]}"], {"thread": thread})

    def _snapshot(self, file: str) -> Answer:
        return Answer(self.snapshot(file), {"file": file})

    def _save(self, folder: str) -> Answer:
        return Answer(self.save(folder), {"folder": folder})

    def _detach(self) -> Answer:
        return Answer(leaves="detach")

    def _end(self) -> Answer:
        if self.session.enabled():
            raise UserMistake("the machine is not at rest; continue first")
        if not self.session.machine.ended:
            self.session.end()
        return self.where(Stop("ended"))

    def _halt(self) -> Answer:
        return Answer(leaves="halt")


def refusal(mistake: UserMistake) -> Answer:
    """A command that is wrong."""
    return Answer([f"error: {clean(mistake, 2000)}"], {"error": clean(mistake, 2000)}, Exit.USAGE)


def _function(name: str) -> str:
    """The name of a kernel function.

    Raises: UserMistake - there is none such.
    """
    if name not in SEAMS:
        raise UserMistake(f"there is no kernel function {show(name)}{meant(name, SEAMS)}")
    return name
