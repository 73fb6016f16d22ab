"""Small random programs, and all their interleavings by brute force: what systematic strategies are judged by.

A program is interpreted twice: by the engine, and by a little machine here that knows nothing of it, with a dependency
relation of its own. Two executions are of one class if each operation has the same operations before it, in the sense
of that relation, and the same outcome.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, TypeVar

from cluster.api import Program, Struct, choose, field, new, own, simplelock, sleep, wakeup
from cluster.boot import prepare
from cluster.runs.replay import continued
from cluster.search.beginning import Continue
from cluster.search.strategy import SearchOver, Systematic
from cluster.search.systematic import Stepwise
from cluster.sim.engine import Sim
from shared.findings import Finding
from shared.journal.order import linearize
from shared.journal.record import Journals

T = TypeVar("T")

#: what a thread does next, and what that gives it
Act = tuple[Any, ...]
Steps = Generator[Act, int, None]
#: thread, what it did, and the outcome
Done = tuple[str, Act, int]
#: of each operation: whose, the how manieth of his, what, its outcome, which are before it, and which it reads from
Class = frozenset[tuple[str, int, Act, int, int, int]]
#: tells the class of an execution
Classifier = Callable[[Iterable[Done]], Class]
#: more operations than a thread has
LONGEST = 32
#: statements: ["read", variable], ["lock", lock, statements] ...
Statement = list[Any]
DETECT = {"race": "off", "lockorder": "off", "lockdebug": "off"}


#: of statements, some more often than others
KINDS = (
    "read",
    "read",
    "write",
    "write",
    "add",
    "add",
    "lock",
    "try",
    "choose",
    "choose",
    "if",
    "sleep",
    "nap",
    "wake",
)


class TooMany(Exception):
    """A program has more interleavings than one cares to count."""


def judged(judge: Callable[[int], T], seeds: Iterable[int], about: str = "") -> list[T]:
    """What `judge` says of random programs, given by their seeds; a program with too many interleavings is left out.

    Args:
        about: what is judged of them, for the message that names a program.
    """
    said = []
    for seed in seeds:
        try:
            said.append(judge(seed))
        except TooMany:
            continue
        except AssertionError as wrong:
            raise AssertionError(f"seed {seed}{about}: {random_program(seed)}") from wrong
    return said


# -- programs ---------------------------------------------------------------------------------


class Cell(Struct, kind=226, name="brutecell"):
    """A variable, a lock and a channel."""

    guards = {"o": own("lock")}
    lock = simplelock("cell")
    value: Any = field("o")


CELLS = [Cell.at(number) for number in range(3)]


def setup() -> None:
    for _ in CELLS:
        new(Cell).value = 0


def statements(dice: random.Random, budget: int, held: tuple[int, ...] = ()) -> list[Statement]:
    """About so many operations."""
    made: list[Statement] = []
    while budget > 0:
        kind = dice.choice(KINDS)
        cell = dice.choice((0, 0, 0, 0, 0, 1, 1, 2))
        if kind in ("lock", "try", "nap") and cell in held:
            continue
        if kind in ("sleep", "nap") and (held or dice.random() < 0.5):
            continue
        if kind in ("lock", "try"):
            made.append([kind, cell, statements(dice, min(budget - 2, dice.randrange(4)), (*held, cell))])
            budget -= 4
        elif kind == "if":
            made.append([kind, cell, statements(dice, 1, held)])
            budget -= 2
        elif kind == "choose":
            if dice.random() < 0.5:
                made.append([kind, cell])
                budget -= 2
        else:
            made.append([kind, cell])
            budget -= 2 if kind == "add" else 1
    return made


def steps(body: Iterable[Statement]) -> Steps:
    """What a thread does, one operation after another."""
    for kind, cell, *rest in body:
        if kind == "read":
            yield "load", cell
        elif kind == "write":
            yield "store", cell, 7
        elif kind == "add":
            value = yield "load", cell
            yield "store", cell, value + 1
        elif kind == "lock":
            yield "lock", cell
            yield from steps(rest[0])
            yield "unlock", cell
        elif kind == "try":
            got = yield "try", cell
            if got:
                yield from steps(rest[0])
                yield "unlock", cell
        elif kind == "sleep":
            yield "sleep", cell
            yield ("wait",)
        elif kind == "nap":
            yield "lock", cell
            yield "sleep", cell
            yield "unlock", cell
            yield ("wait",)
        elif kind == "wake":
            yield "wakeup", cell
        elif kind == "choose":
            value = yield "choose", 2
            yield "store", cell, value
        else:
            value = yield "load", cell
            if value % 2:
                yield from steps(rest[0])


def perform(body: list[Statement]) -> Callable[[], None]:
    """The thread, for the engine."""

    def thread() -> None:
        running = steps(body)
        act: Act | None = next(running, None)
        while act is not None:
            code, *more = act
            result, cell = 0, CELLS[more[0]] if more else CELLS[0]
            if code == "load":
                result = cell.value
            elif code == "store":
                cell.value = more[1]
            elif code == "lock":
                cell.lock.lock()
            elif code == "try":
                result = int(cell.lock.trylock())
            elif code == "unlock":
                cell.lock.unlock()
            elif code == "choose":
                result = choose(more[0])
            elif code == "wakeup":
                wakeup(cell)
            else:
                assert code == "sleep"
                following = next(running)
                sleep(cell, "nap", cell.lock if following[0] == "unlock" else None)
                if following[0] == "unlock":
                    next(running)
            try:
                act = running.send(result)
            except StopIteration:
                act = None

    return thread


def program(bodies: Sequence[list[Statement]]) -> Program:
    return Program(setup, [perform(body) for body in bodies], None, DETECT)


def random_program(seed: int) -> list[list[Statement]]:
    dice = random.Random(seed)
    threads = dice.choice([2, 2, 3, 3, 4])
    return [statements(dice, dice.randint(2, 10 // threads + 2)) for _ in range(threads)]


# -- every interleaving ---------------------------------------------------------------------------


class Machine:
    """One execution of a program, an operation at a time."""

    def __init__(self, bodies: Sequence[list[Statement]]):
        self.values = [0] * len(CELLS)
        self.holders: dict[int, str] = {}
        self.asleep: dict[int, set[str]] = {}
        self.sleeping: set[str] = set()
        self.running = {f"t{number}": steps(body) for number, body in enumerate(bodies)}
        self.next: dict[str, Act | None] = {name: next(thread, None) for name, thread in self.running.items()}
        self.done: list[Done] = []
        self.preemptions = self.delays = 0

    def able(self) -> list[tuple[str, int]]:
        """Who can continue, and with which choice."""
        able = []
        for name in self.next:
            act = self.next[name]
            if act == ("wait",):
                if name in self.sleeping:
                    continue
                self._advance(name, 0)
                act = self.next[name]
            if act is None or (act[0] == "lock" and act[1] in self.holders):
                continue
            able += [(name, value) for value in range(act[1] if act[0] == "choose" else 1)]
        return able

    def stuck(self) -> bool:
        return any(act is not None for act in self.next.values())

    def perform(self, name: str, choice: int) -> None:
        act = self.next[name]
        assert act is not None
        able = sorted({who for who, _ in self.able()})
        last = self.done[-1][0] if self.done else ""
        self.preemptions += last in able and last != name
        in_turn = [*(who for who in able if who >= last), *(who for who in able if who < last)]
        if last not in able:
            in_turn = [*(who for who in able if who > last), *(who for who in able if who < last)]
        self.delays += in_turn.index(name)
        code, cell = act[:2]
        result = 0
        if code == "load":
            result = self.values[cell]
        elif code == "store":
            self.values[cell] = act[2]
        elif code == "lock":
            self.holders[cell] = name
        elif code == "try":
            result = int(cell not in self.holders)
            if result:
                self.holders[cell] = name
        elif code == "unlock":
            del self.holders[cell]
        elif code == "sleep":
            self.asleep.setdefault(cell, set()).add(name)
            self.sleeping.add(name)
        elif code == "wakeup":
            self.sleeping -= self.asleep.pop(cell, set())
        else:
            result = choice
        self.done.append((name, act, result))
        self._advance(name, result)

    def _advance(self, name: str, result: int) -> None:
        try:
            self.next[name] = self.running[name].send(result)
        except StopIteration:
            self.next[name] = None


def every(bodies: Sequence[list[Statement]], most: int, first: Sequence[Done] = ()) -> Iterable[Machine]:
    """Each interleaving, to its end; `first`: of those that begin so.

    Raises: TooMany - there are more than `most`.
    """
    path: list[list[tuple[str, int]]] = []
    count = 0
    while True:
        count += 1
        if count > most:
            raise TooMany
        machine, at = Machine(bodies), 0
        for name, act, result in first:
            machine.able()
            machine.perform(name, result if act[0] == "choose" else 0)
        while able := machine.able():
            if at == len(path):
                path.append(able)
            machine.perform(*path[at][0])
            at += 1
        yield machine
        while path and len(path[-1]) == 1:
            path.pop()
        if not path:
            return
        path[-1].pop(0)


# -- classes ------------------------------------------------------------------------------------


def dependent(act: Act, other: Act) -> bool:
    """Of two threads: does the order of the two matter?"""
    codes = {act[0], other[0]}
    if "choose" in codes or act[1] != other[1]:
        return False
    if codes <= {"load", "store"}:
        return "store" in codes
    if codes <= {"lock", "try", "unlock"}:
        return True
    return codes <= {"sleep", "wakeup"} and "wakeup" in codes


def class_of(done: Iterable[Done], reads_from: bool = False, final: bool = False) -> Class:
    """The class of an execution. (That a wakeup is before what the woken thread does, is in it: the wakeup that wakes
    a thread is the first behind its sleep.)

    Args:
        reads_from: of loads and stores, a store is before the loads that read from it, and nothing else.
        final: the last store of each variable is in it.
    """
    events: list[tuple[str, Act, int]] = []  # behind each its own bit, and those of what is before it
    counts: dict[str, int] = {}
    stores: dict[int, tuple[int, int]] = {}  # the last one of a variable: its place, and its own bit
    members = []
    for name, act, result in done:
        before = 0
        woken = _woken_by(events, name, act)
        plain = reads_from and act[0] in ("load", "store")
        source, read = stores.get(act[1], (-1, 0)) if plain and act[0] == "load" else (-1, 0)
        for at, (earlier, did, bits) in enumerate(events):
            if earlier == name or at in (woken, source) or (not plain and dependent(did, act)):
                before |= bits
        number = counts[name] = counts.get(name, 0) + 1
        own = 1 << int(name[1:]) * LONGEST + number
        if act[0] == "store":
            stores[act[1]] = len(events), own
        events.append((name, act, before | own))
        members.append((name, number, act[:2], result, before, read))
    if final:
        members += [("", cell, ("last",), 0, 0, own) for cell, (_, own) in stores.items()]
    return frozenset(members)


def _woken_by(events: list[tuple[str, Act, int]], name: str, does: Act) -> int:
    """Place of the wakeup that ended a thread's last sleep, if it continues from that: not if it only lets go of the
    interlock."""
    own = [at for at, event in enumerate(events) if event[0] == name]
    slept = max((at for at in own if events[at][1][0] == "sleep"), default=-1)
    if slept < 0 or (slept == own[-1] and does[0] == "unlock"):
        return -1
    later = [at for at in range(slept, len(events)) if events[at][1][:2] == ("wakeup", events[slept][1][1])]
    return later[0] if later else -1


def done_in(journals: Journals) -> list[Done]:
    """What an execution of the engine did, by its journals."""
    done: list[Done] = []
    for record in linearize(journals):
        code, name = record["event"], record["ctx"]
        if code in ("load", "store"):
            cell = int(record["obj"].split(":")[1].split("#")[0])
            result = record["value"] if code == "load" else 0
            done.append((name, (code, cell), result))
        elif code in ("lock", "try", "unlock", "sleep", "wakeup") and not record.get("wait"):
            target = record["lock" if "lock" in record else "chan"]
            done.append((name, (code, int(target.split(":")[1].split(".")[0])), int(bool(record.get("got")))))
        elif code == "choose":
            done.append((name, (code, record["of"]), record["value"]))
    return done


# -- what a strategy comes to -------------------------------------------------------------------------


class Ends(NamedTuple):
    """What the executions of a class have in common, and the fewest preemptions and delays that lead to it."""

    stuck: bool
    preemptions: int
    delays: int


def classes(
    bodies: Sequence[list[Statement]], most: int, first: Sequence[Done] = (), of: Classifier = class_of
) -> dict[Class, Ends]:
    """Every class; `first`: of the executions that begin so; `of`: of which kind.

    Raises: TooMany - there are more than `most` interleavings.
    """
    ends_of: dict[Class, Ends] = {}
    for machine in every(bodies, most, first):
        its = of((name, act[:2], result) for name, act, result in machine.done)
        before = ends_of.get(its, Ends(machine.stuck(), most, most))
        assert before.stuck == machine.stuck()
        fewest = min(before.preemptions, machine.preemptions), min(before.delays, machine.delays)
        ends_of[its] = Ends(before.stuck, *fewest)
    return ends_of


def walked(sim: Sim, strategy: Systematic | Continue, record: bool = False) -> Iterator[Finding | None]:
    """The findings of one execution after another; begins anew whenever there are more points."""
    known = len(sim.racy)
    with suppress(SearchOver):
        while True:
            finding = sim.execute(strategy, record)
            if len(sim.racy) == known:
                yield finding
            else:
                known = len(sim.racy)
                strategy.grown()


def seen_by(
    strategy: Stepwise,
    bodies: Sequence[list[Statement]],
    first: Journals | None = None,
    of: Classifier = class_of,
) -> dict[Class, tuple[bool, int]]:
    """Each class that was performed to its end: whether threads were stuck then, and how many times.

    Args:
        first: of the beginning that each execution is to have; None: it has none.
        of: which kind of class.
    """
    sim = Sim(*prepare(program(bodies).scenario()), set())
    names = {thread.name: f"t{thread.order}" for thread in sim.threads.values()}
    seen: dict[Class, tuple[bool, int]] = {}
    chooser = strategy if first is None else continued(sim.machine, first, strategy)
    for finding in walked(sim, chooser, record=True):
        if strategy.executions == 1:
            seen.clear()
        if strategy.given_up:
            continue
        assert sim.journals is not None
        done = done_in({name: journal.records for name, journal in sim.journals.items()})
        its = of((names[name], act, result) for name, act, result in done)
        stuck, times = seen.get(its, (finding is not None, 0))
        assert stuck == (finding is not None)
        seen[its] = stuck, times + 1
    return seen
