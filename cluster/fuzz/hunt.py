"""Runs random programs, in this process or by workers, and writes down the findings.

Program number n of a seed is always the same if the programs before it are the same: some programs are made from
members of the corpus, which have shown something new (observe.py), the others are fresh; the more new things either
kind has shown of late, the more often it is taken. The results of the last few programs are not known yet, since these
programs may still run. So a seed and a number of programs decide what the corpus has, whatever the number of workers; a
limit of time only ends the hunt sooner, and a hunt that is continued later has the same result.

A program that shows something new is run under more schedules, as long as these show something new.

A hunt with errata or a patch tests these: a program that comes to an erratum's site, or to a function of the patch, is
run under schedules with preemptions there, and more programs are made from it than from others.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from time import monotonic
from typing import NamedTuple

from cluster.fuzz.corpus import FINDINGS, About, Cause, Corpus, Entry, Member, Written, name_of, programs_of
from cluster.fuzz.generate import generate
from cluster.fuzz.judge import SCHEDULES, Failure
from cluster.fuzz.mutate import mutate
from cluster.fuzz.program import Program, read
from cluster.fuzz.rules import sound
from cluster.fuzz.trial import TRIAL, TRIED, How, Knowledge, Trial, Tried, Worker
from cluster.runs.folder import write
from cluster.runs.token import kernel_version
from cluster.search.pool import Here, Pool
from shared.wire.codec import decode, encode

#: every so many programs, one execution of each strategy is replayed
REPLAYED = 40
#: members that there must be before programs are made from them
ENOUGH = 4
#: programs of a kind by which its yield is judged; how often a kind is taken at least
LATELY, LEAST = 16, 0.15
#: programs of a block: while they are run, those of the next block are begun, which do not know what they show
BLOCK = 8
#: seconds between two looks at the time
LOOK_S = 0.1
#: members that are kept although they have only come to what is being tested; how much that counts, beside a new sight
ARRIVED, WEIGHT = 32, 10
FRESH, MUTANT, MERGED = "fresh", "mutant", "merged"


@dataclass(frozen=True)
class Order:
    """The programs to run, and how.

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

    @property
    def how(self) -> How:
        """The part of the order that workers need."""
        return How(self.seed, self.schedules, self.errata, self.guided, self.out is not None)


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


def hunt(order: Order, progress: Progress | None = None, pool: Pool | None = None) -> Hunt:
    """Run programs; a KeyboardInterrupt ends that after the last whole program.

    Args:
        pool: workers that know `order.how`; None: this process. The result is the same.

    Raises: UserMistake - the folder, or a folder that is to be merged, cannot be used.
    """
    corpus = Corpus(order.about, order.out)
    if order.out is not None:
        corpus.open()
    result = Hunt(order, corpus)

    def watch(doing: str) -> None:
        result.doing = doing
        if progress is not None and doing:
            progress(result)

    began = order.clock()
    trials = Trials(order, corpus, pool or Here(Worker(order.how, watch).run))
    try:
        while True:
            tried = trials.next(begin=order.clock() - began <= order.seconds)
            if tried is not None:
                _merge(result, *tried)
                result.programs += 1
            elif trials.are_over:
                break
            if progress is not None:
                progress(result)
            if order.clock() - began > order.seconds or (order.first and result.failure is not None):
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


class Trials:
    """The programs that are run, in order.

    Program number n is made from what the programs of the blocks before the last block have shown, so that those of two
    blocks can be run at a time.

    Attributes:
        past: the corpus as it was when the next program to be begun is made. knowledge: what its workers need of it.
        tasks: the programs that have been begun and are not in the corpus; the first has the corpus's next number.
        done: results of those that have ended.
        merged: programs of other corpora that are still to be run.
        are_over: there are no more.
    """

    def __init__(self, order: Order, corpus: Corpus, pool: Pool):
        self.order, self.corpus, self.pool = order, corpus, pool
        self.past = Corpus(order.about)
        self.past.folder = corpus.folder
        self.knowledge = Knowledge(frozenset(), ()).packed()
        self.tasks: deque[Task] = deque()
        self.done: dict[int, Tried] = {}
        self.merged = _merged(order, corpus)
        self.are_over = False

    def next(self, begin: bool) -> tuple[Task, Tried] | None:
        """The next program and its result; None: not yet, or there are no more.

        Args:
            begin: more programs may be begun.
        """
        number = len(self.corpus.entries)
        while begin and not self.are_over and self.pool.room() > 0 and self._begin(number + len(self.tasks)):
            pass
        if self.tasks and number not in self.done:
            for at, data in self.pool.wait(LOOK_S):
                self.done[at] = decode(TRIED, data)
        if number in self.done:
            return self.tasks.popleft(), self.done.pop(number)
        self.are_over = self.are_over or (not begin and not self.tasks)
        return None

    def _begin(self, number: int) -> bool:
        """Begin a program; False: it cannot be made yet, or there are no more."""
        known = max(0, (number // BLOCK - 1) * BLOCK)
        if known > len(self.corpus.entries):
            return False
        if known > len(self.past.entries):
            self.past.follow(self.corpus, known)
            causes = tuple(written.cause for written in self.past.findings)
            self.knowledge = Knowledge(frozenset(self.past.sights), causes).packed()
        order = self.order
        task = next(self.merged, None)
        if task is None:
            if order.programs is not None and number >= order.programs:
                self.are_over = not self.tasks
                return False
            task = _made(order, self.past, number)
        replayed = list(order.schedules or SCHEDULES)
        replayed = replayed if number % REPLAYED == 0 and not order.errata else []
        trial = Trial(number, task.program.text(), task.rounds, replayed, self.knowledge)
        self.tasks.append(task)
        self.pool.submit(number, encode(TRIAL, trial))
        return True


def _merged(order: Order, corpus: Corpus) -> Iterator[Task]:
    """The programs of other corpora."""
    known = {entry.program for entry in corpus.entries if entry.origin == MERGED}
    for folder in order.merge:
        for other in programs_of(folder):
            if isinstance(other, str):
                corpus.remarks.append(other)
            elif other.name not in known and sound(other.program):
                known.add(other.name)
                yield Task(other.program, MERGED, rounds=other.rounds)


def _made(order: Order, past: Corpus, number: int) -> Task:
    """A program of the seed.

    Args:
        past: what it is made from.
    """
    name = f"{order.seed}/{number}"
    random = Random(f"{name}/parents")
    members = list(past.members.values())
    if order.guided and len(members) >= ENOUGH and random.random() < _share_of_mutants(past):
        parent, donor = (_choice(members, random) for _ in range(2))
        program = mutate(past.program(parent), past.program(donor), random)
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


def _merge(result: Hunt, task: Task, tried: Tried) -> None:
    """Let the corpus know what a program has shown."""
    order, corpus, program, failure = result.order, result.corpus, task.program, tried.failure
    result.seconds += tried.seconds
    result.reached.update(tried.sites)
    new = () if failure is not None else tuple(sight for sight in tried.sights if sight not in corpus.sights)
    steps = sum(len(body.steps) for body in program.bodies())
    name = name_of(program.text().encode())
    entry = Entry(name, task.origin, steps, task.parents, new, tried.arrived, False, tried.rounds, tried.ran)
    if failure is None:
        corpus.add(entry, program if new or (tried.arrived and corpus.arrived < ARRIVED) else None)
        return
    if order.out is None:
        result.program, result.failure = program, failure
        corpus.add(replace(entry, cause=Cause(failure.signature, order.errata)))
        return
    if tried.cause is None:
        corpus.add(replace(entry, unconfirmed=True))
        return
    result.failure = failure
    if tried.cut is not None:
        cut = tried.cut
        result.program = read(cut.program, cut.cause.name)
        if all(other.cause != cut.cause for other in corpus.findings):
            file = f"{FINDINGS}/{cut.cause.name}.yaml"
            write(order.out / file, cut.program)
            written = Written(cut.cause, cut.text, file, cut.token)
            result.findings.append(written)
            entry = replace(entry, finding=written)
    corpus.add(replace(entry, cause=tried.cause))
