"""One program of a hunt, run wherever there is a processor: under schedules, and cut down if it fails.

A trial is decided by its bytes alone: the program, its number, and what the hunt knew when it made the program. So a
hunt has the same result for any number of workers, and a trial of a worker that has died is run again by another.

Left out: what the corpus makes of the result (hunt.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from time import process_time
from typing import NamedTuple

from cluster.fuzz.corpus import Cause, name_of
from cluster.fuzz.judge import SCHEDULES, Failure, Seen, confirmed, judge, targets
from cluster.fuzz.observe import Sight
from cluster.fuzz.program import Keys, Program, read
from cluster.fuzz.rules import sound
from cluster.fuzz.shrink import shrink
from cluster.search.batch import Terms
from shared.errors import UserMistake
from shared.patch import current
from shared.scenario.model import Scenario
from shared.wire.codec import Form, decode, encode
from shared.wire.typed import reader

#: times that a program is run under new schedules, at most; new sights for which it is
ROUNDS, WORTH = 3, 4
#: executions with preemptions at what is being tested
AIMED = {"near": 6}


@dataclass(frozen=True)
class How:
    """How the programs of a hunt are run.

    Attributes:
        schedules: strategy -> executions of each program; None: as judge() has it.
        errata: switched on.
        guided: look at what executions show.
        cut: cut down a program that fails by a cause that is not known.
    """

    seed: str
    schedules: dict[str, int] | None
    errata: tuple[str, ...]
    guided: bool
    cut: bool

    def setup(self, elsewhere: bool = False) -> bytes:
        """The first message to a worker, before its first trial.

        Args:
            elsewhere: it is on another computer.
        """
        return encode(HUNTED, (self, Terms.of(elsewhere)))


class Knowledge(NamedTuple):
    """The knowledge of a hunt when it made a program.

    Attributes:
        sights: that programs have shown. causes: of the findings.
    """

    sights: frozenset[Sight]
    causes: tuple[Cause, ...]

    def packed(self) -> bytes:
        return encode(KNOWLEDGE, self)


class Trial(NamedTuple):
    """A program to be run.

    Attributes:
        number: of the program. text: of its file.
        rounds: in which it is run at least.
        replayed: strategies of which the last execution is replayed.
        knowledge: as bytes.
    """

    number: int
    text: str
    rounds: int
    replayed: list[str]
    knowledge: bytes


class Cut(NamedTuple):
    """The written form of a program that fails, cut down."""

    cause: Cause
    text: str
    program: str
    token: str


class Tried(NamedTuple):
    """The result of a trial.

    Attributes:
        sights: that the hunt did not know when it made the program.
        arrived: as Entry has it. sites: errata to whose sites the program came.
        rounds, ran: as Entry has them.
        failure: the program's; of the smaller program, if it was cut down.
        cause: that the hunt knew, or that of `cut`; None: neither was looked for, or the failure was not seen again.
        seconds: of processor time.
    """

    sights: list[Sight]
    arrived: bool
    sites: list[str]
    rounds: int
    ran: dict[str, int]
    failure: Failure | None
    cause: Cause | None
    cut: Cut | None
    seconds: float


HUNTED: Form[tuple[How, Terms]] = Form("hunted", 1 << 26, reader(tuple[How, Terms]))
KNOWLEDGE: Form[Knowledge] = Form("known", 1 << 26, reader(Knowledge))
TRIAL: Form[Trial] = Form("trial", 1 << 27, Trial._make)
TRIED: Form[Tried] = Form("tried", 1 << 27, reader(Tried))


class Worker:
    """Runs trials.

    Args:
        how: as the hunt has it.
        watch: is told what the worker does that takes long.
    """

    def __init__(self, how: How, watch: Callable[[str], None] | None = None):
        self.how, self.watch = how, watch
        self.packed = b""
        self.knowledge = Knowledge(frozenset(), ())

    @classmethod
    def begun(cls, setup: bytes) -> Worker:
        """In a process of its own.

        Raises: UserMistake - the patch cannot be applied here; Infrastructure - this process has other source.
        """
        how, terms = decode(HUNTED, setup)
        terms.agree()
        return cls(how)

    def run(self, batch: bytes) -> bytes:
        """The result of a trial."""
        trial = decode(TRIAL, batch)
        if trial.knowledge != self.packed:
            self.knowledge, self.packed = decode(KNOWLEDGE, trial.knowledge), trial.knowledge
        began = process_time()
        tried = self._try(trial)
        return encode(TRIED, tried._replace(seconds=process_time() - began))

    def _try(self, trial: Trial) -> Tried:
        """Run one program."""
        how = self.how
        program = read(trial.text, f"program {trial.number}")
        ran: Counter[str] = Counter()
        seen = Seen() if how.guided else None
        scenario = program.load().with_errata(how.errata)
        seed = int(name_of(trial.text.encode()), 16)
        failure = judge(scenario, seed, how.schedules, trial.replayed, ran, seen)
        aimed = seen is not None and bool(targets(scenario)) and (current() is not None or seen.arrived(how.errata))
        if failure is None and aimed:
            failure = judge(scenario, seed, AIMED, (), ran, seen)
        new = set() if seen is None else seen.sights - self.knowledge.sights
        rounds, before = 1, 0
        while failure is None and seen is not None and rounds < ROUNDS:
            if len(new) < before + WORTH and rounds >= trial.rounds:
                break
            before = len(new)
            failure = judge(scenario, seed + rounds, self._more(), (), ran, seen)
            new, rounds = seen.sights - self.knowledge.sights, rounds + 1
        arrived = seen is not None and seen.arrived(how.errata)
        sites = [] if seen is None else sorted(seen.sites)
        tried = Tried(sorted(new), arrived, sites, rounds, dict(ran), failure, None, None, 0.0)
        if failure is None or not how.cut:
            return tried
        seed += rounds - 1
        cause = self._known(failure, program, seed)
        if cause is not None:
            return tried._replace(cause=cause)
        if self.watch is not None:
            self.watch(f"program {trial.number} fails ({failure.signature[0]}); cutting it down")
        small = self._cut(program, failure, seed, trial.number)
        if self.watch is not None:
            self.watch("")
        return tried if small is None else tried._replace(cause=small[0].cause, cut=small[0], failure=small[1])

    def _more(self) -> dict[str, int]:
        """Executions of another round; the default schedule would be the same one again."""
        schedules = self.how.schedules or SCHEDULES
        return {name: times for name, times in schedules.items() if name != "stay"}

    def _with(self, program: Program, errata: Sequence[str]) -> Scenario | None:
        """The scenario of a part of a program; None: it is none, or breaks a rule."""
        if not sound(program):
            return None
        try:
            return program.load().with_errata(errata)
        except UserMistake:
            return None

    def _known(self, failure: Failure, program: Program, seed: int) -> Cause | None:
        """The known cause by which the program fails: without its errata, it does not fail so."""
        how = self.how
        for cause in self.knowledge.causes:
            if cause.signature != failure.signature:
                continue
            rest = [erratum for erratum in how.errata if erratum not in cause.errata]
            if not cause.errata or not rest:
                return cause
            scenario = self._with(program, rest)
            again = None if scenario is None else judge(scenario, seed, how.schedules)
            if again is None or again.signature != failure.signature:
                return cause
        return None

    def _cut(self, program: Program, failure: Failure, seed: int, number: int) -> tuple[Cut, Failure] | None:
        """Cut a program down.

        Returns: None if its finding is not seen again.
        """
        how = self.how
        replays = tuple(how.schedules or SCHEDULES) if failure.kind == "diverged" else ()
        strategy = failure.strategy
        enough = {"stay": 1, strategy: max(1, 4 * failure.number if strategy != "stay" else 1)}

        def fails(part: Program, errata: Sequence[str] = how.errata) -> Failure | None:
            scenario = self._with(part, errata)
            return None if scenario is None else judge(scenario, seed, enough, replays)

        program, failure = shrink(program, failure, fails)
        errata = list(how.errata)
        for erratum in how.errata:
            fewer = [other for other in errata if other != erratum]
            again = fails(program, fewer)
            if again is not None and again.signature == failure.signature:
                errata, failure = fewer, again
        cause = Cause(failure.signature, tuple(errata))
        note = f"Made at random: from program {number} of seed {how.seed}, cut down."
        expects: Keys = {}
        if failure.finding is not None:
            expects = {"finding": failure.finding.kind}
            if failure.finding.function.isidentifier():
                expects["function"] = failure.finding.function
        elif failure.wrong is not None and failure.wrong.into and failure.wrong.right:
            program = replace(program, results={failure.wrong.into: list(failure.wrong.right)})
            expects = {"finding": "none", "results": {failure.wrong.into: {"any_of": list(failure.wrong.right)}}}
        program = replace(program, note=note, errata=tuple(errata), expects=expects)
        token = confirmed(program.load(), failure)
        if token is None:
            return None
        return Cut(cause, failure.text.strip().splitlines()[-1], program.text(), str(token)), failure
