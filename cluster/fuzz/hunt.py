"""Runs random programs, one after another, and writes down the findings.

Program number n of a seed is always the same one if those before it are: some programs are made from members of the
corpus, which have shown something new (observe.py), the others are fresh; the more new things either kind has shown of
late, the more often it is taken. So a seed and a number of programs decide
what the corpus has; a limit of time only ends the hunt sooner, and a hunt that is continued later has the same result.

A program that shows something new is run under more schedules, as long as these show something new.

A hunt with errata or a patch tests these: a program that comes to an erratum's site, or to a function of the patch, is
run under schedules with preemptions there, and more programs are made from it than from others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from time import monotonic, process_time
from typing import NamedTuple

from cluster.fuzz.corpus import FINDINGS, About, Cause, Corpus, Entry, Member, Written, name_of, programs_of, write
from cluster.fuzz.generate import generate
from cluster.fuzz.judge import Failure, Seen, confirmed, judge, targets
from cluster.fuzz.mutate import mutate
from cluster.fuzz.program import Keys, Program
from cluster.fuzz.rules import sound
from cluster.fuzz.shrink import shrink
from cluster.runs.token import kernel_version
from shared.errors import UserMistake
from shared.patch import current
from shared.scenario.model import Scenario

#: every so many programs, one execution of each strategy is replayed
REPLAYED = 40
#: members that there must be before programs are made from them
ENOUGH = 4
#: programs of a kind by which its yield is judged; how often a kind is taken at least
LATELY, LEAST = 16, 0.15
#: times that a program is run under new schedules, at most; new sights for which it is
ROUNDS, WORTH = 3, 4
#: executions with preemptions at what is being tested
AIMED = {"near": 6}
#: members that are kept although they have only come to what is being tested; how much that counts, beside a new sight
ARRIVED, WEIGHT = 32, 10
FRESH, MUTANT, MERGED = "fresh", "mutant", "merged"


@dataclass(frozen=True)
class Order:
    """What to run.

    Attributes:
        programs: until the corpus has had so many; None: no limit.
        seconds: no new one after this time, by this clock.
        features, size: of the programs, see generate.Maker.
        schedules: strategy -> executions of each program; None: as judge() has it.
        errata: switched on.
        guided: look at what executions show, and make programs from those that showed something new.
        first: the first failure ends the hunt.
        out: folder of the corpus; None: in memory alone, and a program that fails is not cut down.
        merge: folders of corpora whose programs are run first.
    """

    seed: str
    programs: int | None = None
    seconds: float = float("inf")
    clock: Callable[[], float] = monotonic
    features: frozenset[str] | None = None
    size: int = 16
    schedules: dict[str, int] | None = None
    errata: tuple[str, ...] = ()
    guided: bool = True
    first: bool = False
    out: Path | None = None
    merge: tuple[Path, ...] = ()

    @property
    def about(self) -> About:
        """Of its corpus."""
        features = tuple(sorted(self.features or ()))
        return About(self.seed, features, tuple(sorted(self.errata)), kernel_version(), self.size, self.guided)


@dataclass
class Hunt:
    """The result of a hunt.

    Attributes:
        programs: that this hunt has run. findings: those that it has written.
        program, failure: the last program that failed, cut down if it was written.
        seconds: of processor time.
        reached: erratum switched on -> programs of this hunt that came to its site.
        doing: what it is at, besides running programs.
    """

    order: Order
    corpus: Corpus
    programs: int = 0
    findings: list[Written] = field(default_factory=list)
    program: Program | None = None
    failure: Failure | None = None
    interrupted: bool = False
    reached: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    doing: str = ""

    @property
    def executions(self) -> int:
        """Of all programs of the corpus, under all strategies; replays not counted."""
        return sum(self.corpus.tally.values()) - self.corpus.tally["replay"]

    def __str__(self) -> str:
        corpus = self.corpus
        counts = ", ".join(f"{name} {count:,}" for name, count in corpus.tally.items())
        text = f"seed {self.order.seed}: {len(corpus.entries):,} programs, {self.executions:,} executions ({counts})"
        return text + (", no finding" if self.failure is None else f"\nfails: {self.failure}")


Progress = Callable[[Hunt], None]


def hunt(order: Order, progress: Progress | None = None) -> Hunt:
    """Run programs; a KeyboardInterrupt ends that after the last whole program.

    Raises: UserMistake - the folder, or a folder that is to be merged, cannot be used.
    """
    corpus = Corpus(order.about, order.out)
    if order.out is not None:
        corpus.open()
    result = Hunt(order, corpus)
    began, cpu = order.clock(), process_time()
    try:
        for task in _tasks(order, corpus):
            if order.clock() - began > order.seconds:
                break
            _run(result, task, progress)
            result.seconds = process_time() - cpu
            result.programs += 1
            if progress is not None:
                progress(result)
            if order.first and result.failure is not None:
                break
    except KeyboardInterrupt:
        result.interrupted = True
    finally:
        corpus.close()
    return result


class Task(NamedTuple):
    """A program to be run.

    Attributes:
        origin, parents: as Entry has them.
        rounds: in which it is run at least.
    """

    program: Program
    origin: str
    parents: tuple[str, ...] = ()
    rounds: int = 1


def _tasks(order: Order, corpus: Corpus) -> Iterator[Task]:
    """The next programs; first those of other corpora."""
    known = {entry.program for entry in corpus.entries if entry.origin == MERGED}
    for folder in order.merge:
        for other in programs_of(folder):
            if isinstance(other, str):
                corpus.remarks.append(other)
            elif other.name not in known and sound(other.program):
                known.add(other.name)
                yield Task(other.program, MERGED, rounds=other.rounds)
    while order.programs is None or len(corpus.entries) < order.programs:
        yield _next(order, corpus)


def _next(order: Order, corpus: Corpus) -> Task:
    """The next program of the seed."""
    name = f"{order.seed}/{len(corpus.entries)}"
    random = Random(f"{name}/parents")
    members = list(corpus.members.values())
    if order.guided and len(members) >= ENOUGH and random.random() < _share_of_mutants(corpus):
        parent, donor = (_choice(members, random) for _ in range(2))
        program = mutate(corpus.program(parent), corpus.program(donor), random)
        if program is not None:
            return Task(program, MUTANT, (parent.name, donor.name))
    return Task(generate(name, order.features, order.size), FRESH)


def _share_of_mutants(corpus: Corpus) -> float:
    """How often a program is made from members, by what such programs and fresh programs have shown lately for their
    cost.

    The cost of a program is the number of steps that its executions had.
    """
    lately: dict[str, list[Entry]] = {FRESH: [], MUTANT: []}
    for entry in reversed(corpus.entries):
        if entry.origin in lately and len(lately[entry.origin]) < LATELY:
            lately[entry.origin].append(entry)
        if all(len(entries) == LATELY for entries in lately.values()):
            break
    fresh, mutants = (
        (1 + sum(len(entry.new) for entry in lately[kind]))
        / (100 + sum(entry.steps * sum(entry.ran.values()) for entry in lately[kind]))
        for kind in (FRESH, MUTANT)
    )
    return min(1 - LEAST, max(LEAST, mutants / (fresh + mutants)))


def _choice(members: Sequence[Member], random: Random) -> Member:
    """A member that showed much for its length, or came to what is being tested, and has not been taken often."""
    (member,) = random.choices(
        members,
        [(member.shown + WEIGHT * member.arrived) / (1 + member.chosen) / (5 + member.steps) for member in members],
    )
    return member


def _run(result: Hunt, task: Task, progress: Progress | None) -> None:
    """Run one program, and let the corpus know."""
    order, corpus, program = result.order, result.corpus, task.program
    number, name = len(corpus.entries), name_of(program.text().encode())
    ran: Counter[str] = Counter()
    seen = Seen() if order.guided else None
    replays = tuple(order.schedules or ("stay", "random", "pct"))
    replays = replays if number % REPLAYED == 0 and not order.errata else ()
    scenario = program.load().with_errata(order.errata)
    seed = int(name, 16)
    failure = judge(scenario, seed, order.schedules, replays, ran, seen)
    aimed = seen is not None and bool(targets(scenario)) and (current() is not None or seen.arrived(order.errata))
    if failure is None and aimed:
        failure = judge(scenario, seed, AIMED, (), ran, seen)
    new = set() if seen is None else seen.sights - corpus.sights
    rounds = 1
    before = 0
    while failure is None and seen is not None and rounds < ROUNDS:
        if len(new) < before + WORTH and rounds >= task.rounds:
            break
        before = len(new)
        failure = judge(scenario, seed + rounds, _more(order), (), ran, seen)
        new, rounds = seen.sights - corpus.sights, rounds + 1
    if seen is not None:
        result.reached.update(seen.sites.keys())
    steps = sum(len(body.steps) for body in program.bodies())
    arrived = seen is not None and seen.arrived(order.errata)
    entry = Entry(name, task.origin, steps, task.parents, tuple(sorted(new)), arrived, False, rounds, dict(ran))
    if failure is None:
        corpus.add(entry, program if new or (arrived and corpus.arrived < ARRIVED) else None)
        return
    entry = replace(entry, new=())
    if order.out is None:
        result.program, result.failure = program, failure
        corpus.add(replace(entry, cause=Cause(failure.signature, order.errata)))
        return
    cause = _known(corpus, failure, program, seed + rounds - 1, order)
    if cause is None:
        result.doing = f"program {number} fails ({failure.signature[0]}); cutting it down"
        if progress is not None:
            progress(result)
        failing = _write(program, failure, seed + rounds - 1, number, order, order.out)
        result.doing = ""
        if failing is None:
            corpus.add(replace(entry, unconfirmed=True))
            return
        written, result.program, result.failure = failing
        cause = written.cause
        if all(other.cause != cause for other in corpus.findings):
            result.findings.append(written)
            entry = replace(entry, finding=written)
    else:
        result.failure = failure
    corpus.add(replace(entry, cause=cause))


def _more(order: Order) -> dict[str, int]:
    """Executions of another round; the default schedule would be the same one again."""
    return {name: times for name, times in (order.schedules or {"random": 3, "pct": 3}).items() if name != "stay"}


def _with(program: Program, errata: Sequence[str]) -> Scenario | None:
    """The scenario of a part of a program; None: it is none, or breaks a rule."""
    if not sound(program):
        return None
    try:
        return program.load().with_errata(errata)
    except UserMistake:
        return None


def _known(corpus: Corpus, failure: Failure, program: Program, seed: int, order: Order) -> Cause | None:
    """The cause that has been found already, if the program fails by it: without its errata, it does not fail so."""
    for finding in corpus.findings:
        cause = finding.cause
        if cause.signature != failure.signature:
            continue
        rest = [erratum for erratum in order.errata if erratum not in cause.errata]
        if not cause.errata or not rest:
            return cause
        scenario = _with(program, rest)
        again = None if scenario is None else judge(scenario, seed, order.schedules)
        if again is None or again.signature != failure.signature:
            return cause
    return None


def _write(
    program: Program, failure: Failure, seed: int, number: int, order: Order, out: Path
) -> tuple[Written, Program, Failure] | None:
    """Cut a program down, and write it to a file.

    Returns: None if its finding is not seen again.
    """
    replays = tuple(order.schedules or ("stay", "random", "pct")) if failure.kind == "diverged" else ()
    strategy = failure.strategy
    enough = {"stay": 1, strategy: max(1, 4 * failure.number if strategy != "stay" else 1)}

    def fails(part: Program, errata: Sequence[str] = order.errata) -> Failure | None:
        scenario = _with(part, errata)
        return None if scenario is None else judge(scenario, seed, enough, replays)

    program, failure = shrink(program, failure, fails)
    errata = list(order.errata)
    for erratum in order.errata:
        fewer = [other for other in errata if other != erratum]
        again = fails(program, fewer)
        if again is not None and again.signature == failure.signature:
            errata, failure = fewer, again
    cause = Cause(failure.signature, tuple(errata))
    note = f"Made at random: from program {number} of seed {order.seed}, cut down."
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
    file = f"{FINDINGS}/{cause.name}.yaml"
    write(out / file, program.text())
    text = failure.text.strip().splitlines()[-1]
    return Written(cause, text, file, str(token)), program, failure
