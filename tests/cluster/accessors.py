"""Random programs of loads and stores on every struct of the kernel, and all that an engine shows of them.

    python -m tests.cluster.accessors 12     the programs of seeds 0 to 11

Three contexts access every field of the kernel's structs: with no lock, with one of the guards, with all of them, and
as the owner of a struct that nobody else knows; by handles of this life, of an earlier one, and of any. Printed are the
value of each load with the number of its operation, the findings, the scheduling points, the records of the journals,
the fields that are racy, and the counters. Two forms of the accessors do the same if they print the same.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from typing import Any

from cluster.search.walk import RandomWalk
from shared.port.lockref import LockRef
from shared.port.port import here
from shared.port.struct import (
    KIND_SHIFT,
    KINDS,
    LOCK_SHIFT,
    Array,
    FieldBase,
    Guard,
    Stat,
    Struct,
    read_field,
    unlocked,
)
from shared.uvm.structs import Anon, Page, uvmexp
from tests.kit import Toy

#: of each kind, and elements of each array
COUNT, LENGTH = 2, 3
STATEMENTS = 60
#: the kernel's kinds of structs, and those of their fields that are in memory
STRUCTS = [kind for _, kind in sorted(KINDS.items()) if kind.__module__ == "shared.uvm.structs"]
NAMED = {kind.__name__: kind for kind in STRUCTS}
FIELDS = [(kind, field) for kind in STRUCTS for field in kind.fields.values() if not isinstance(field, Stat)]
COUNTERS = [name for name, field in type(uvmexp).fields.items() if isinstance(field, Stat)]
#: what an execution may be: detectors' levels, granularity, is it recorded?
WAYS: list[tuple[dict[str, str], str, bool]] = [
    ({}, "guarded", False),
    ({"race": "note", "heap": "note"}, "guarded", False),
    ({"race": "note", "heap": "note"}, "guarded", True),
    ({"race": "off", "heap": "note"}, "access", False),
]
#: a statement's trace: "load anon:1.an_ref (free)"
Say = Callable[[str], None]


class Program:
    """One random program.

    Args:
        seed: the same seed gives the same statements.
        say: takes each line of the trace.

    Attributes:
        handles: by which the contexts know the structs; they go stale when a struct begins another life.
        met: (field, what was done, in which state of its guards).
    """

    def __init__(self, seed: str, say: Say):
        self.seed, self.say = seed, say
        self.handles: dict[type[Struct], list[Struct]] = {}
        self.met: set[tuple[str, str, str]] = set()

    def new(self) -> None:
        """Every execution begins with the handles of the first life."""
        self.handles = {kind: [kind.at(number) for number in range(COUNT)] for kind in STRUCTS}

    def setup(self) -> None:
        """Make all structs."""
        self.new()
        dice = random.Random(self.seed)
        made = [here.port.alloc(kind, length_of(kind)) for kind in STRUCTS for _ in range(COUNT)]
        for struct in made:
            self.fill(struct, dice)

    def fill(self, struct: Struct, dice: random.Random) -> None:
        """Give each field a value of its type."""
        for name, field in type(struct).fields.items():
            if not isinstance(field, Stat):
                setattr(struct, name, self.value(field, dice))
        if isinstance(struct, Array):
            for number in range(LENGTH):
                struct[number] = dice.choice([number, None, self.handles[Page][0]])

    def value(self, field: FieldBase, dice: random.Random) -> Any:
        """Of the type that the field is declared to hold."""
        named = [NAMED[word] for word in field.type.split(" | ") if word in NAMED]
        values: list[Any] = [dice.choice(self.handles[kind]) for kind in named]
        if "None" in field.type:
            values.append(None)
        return dice.choice(values or ["text", None] if "str" in field.type else values or [dice.randrange(9)])

    def body(self, name: str) -> Callable[[], None]:
        """What a context does."""

        def run() -> None:
            dice = random.Random(f"{self.seed} {name}")
            for kind, field in dice.sample(FIELDS, STATEMENTS):
                self.statement(kind, field, dice)

        return run

    # -- statements ----------------------------------------------------------------

    def statement(self, kind: type[Struct], field: FieldBase, dice: random.Random) -> None:
        what = dice.random()
        if what < 0.80:
            self.guarded(dice.choice(self.handles[kind]), field, dice)
        elif what < 0.86:
            self.private(kind, dice)
        elif what < 0.90:
            self.element(dice)
        elif what < 0.95:
            name = dice.choice(COUNTERS)
            setattr(uvmexp, name, getattr(uvmexp, name) + 1)
            self.noted(f"counter {name}", getattr(uvmexp, name))
        else:
            self.another_life(dice.choice([Page, Anon]), dice)

    def guarded(self, struct: Struct, field: FieldBase, dice: random.Random) -> None:
        """An access with some of its guards, which are taken for it if they are to be had."""
        write = dice.random() < 0.5
        alternatives = field.write if write else field.read
        wanted = dice.choice(alternatives)[dice.randrange(2) :] if alternatives else ()
        taken = [self.take(guard, struct, dice) for guard in wanted]
        self.access(struct, field, write, dice)
        for lock in reversed(taken):
            if lock is not None:
                lock.unlock()

    def take(self, guard: Guard, struct: Struct, dice: random.Random) -> LockRef | None:
        """The lock that guards the struct just now, if it is to be had."""
        key = guard.key(here.port.heap, struct)  # type: ignore[attr-defined]
        if key < 0 or here.port.cur.holds(key) is not None:
            return None
        owner = KINDS[key >> LOCK_SHIFT >> KIND_SHIFT]
        handle = owner.at(key >> LOCK_SHIFT & ((1 << KIND_SHIFT) - 1))
        lock: LockRef = getattr(handle, list(owner.lock_fields)[key & ((1 << LOCK_SHIFT) - 1)])
        mode = "r" if lock.sleepable and dice.random() < 0.4 else "w"
        granted = here.port.trylock(lock, mode)
        self.noted(f"{mode} {lock} of class {lock.cls}", granted)
        return lock if granted else None

    def access(self, struct: Struct, field: FieldBase, write: bool, dice: random.Random) -> None:
        """One load or store, or an increment."""
        state = self.state(struct, field, write)
        way = dice.random()
        if write and field.type == "int" and way < 0.5 and isinstance(read_field(struct, field.name), int):
            setattr(struct, field.name, getattr(struct, field.name) + 1)
            what = "increment"
        elif write:
            setattr(struct, field.name, self.value(field, dice))
            what = "store"
        elif way < 0.1:
            self.noted(f"peek {struct}.{field.name}", unlocked(struct, field.name))
            what = "peek"
        else:
            if way < 0.2:
                struct = struct.anything()
            try:
                loaded = getattr(struct, field.name)
            except TypeError:  # the typed accessors say so
                loaded = ...
            self.noted(f"load {struct!r}.{field.name}", loaded if fits(field, loaded) else "of another type")
            what = "load"
        self.noted(f"{what} {struct!r}.{field.name} ({state})")
        self.met.add((field.key, "store" if what == "increment" else what, state))

    def state(self, struct: Struct, field: FieldBase, write: bool) -> str:
        port: Any = here.port
        rec = port.heap.find(struct)
        if rec is not None and rec.owner is port.cur:
            return "private"
        return "guarded" if port.guards.guarded(port.cur, struct, field, write) else "unguarded"

    def private(self, kind: type[Struct], dice: random.Random) -> None:
        """A struct of this context's own, until it is stored where others find it, or freed; then it is used again."""
        made = here.port.alloc(kind, length_of(kind))
        self.noted(f"alloc {made!r}")
        self.fill(made, dice)
        for field in [field for field in kind.fields.values() if not isinstance(field, Stat)]:
            for write in (False, True):
                self.access(made, field, write, dice)
        end = dice.random()
        pointers = [(other, field) for other, field in FIELDS if kind.__name__ in field.type.split(" | ")]
        if end < 0.6 and pointers:
            other, pointer = dice.choice(pointers)
            self.noted(f"publish {made!r}")
            setattr(dice.choice(self.handles[other]), pointer.name, made)
            self.handles[kind][dice.randrange(COUNT)] = made
        elif end < 0.9 or not made.fields:
            here.port.free(made)
            self.noted(f"free {made!r}")
            if end > 0.85 and made.fields:
                self.noted("use after free", read_field(made, dice.choice([*made.fields])))

    def element(self, dice: random.Random) -> None:
        kind = dice.choice([kind for kind in STRUCTS if issubclass(kind, Array)])
        array: Any = dice.choice(self.handles[kind])
        at = dice.randrange(-1, LENGTH + 1) if dice.random() < 0.05 else dice.randrange(LENGTH)
        if dice.random() < 0.5:
            array[at] = dice.choice([at, None, self.handles[Anon][1]])
        self.noted(f"element {array!r}[{at}]", array[at])

    def another_life(self, kind: type[Struct], dice: random.Random) -> None:
        """Of a type-stable struct. Half of the time the old handle stays in use."""
        number = dice.randrange(COUNT)
        fresh = here.port.renew(self.handles[kind][number].anything())
        self.noted(f"renew {fresh!r}")
        self.fill(fresh, dice)
        if dice.random() < 0.5:
            self.handles[kind][number] = fresh

    def noted(self, what: str, *values: object) -> None:
        ctx = here.port.cur
        self.say(" ".join([f"{ctx.name} {ctx.n}: {what}", *map(repr, values)]))


def length_of(kind: type[Struct]) -> int:
    return LENGTH if issubclass(kind, Array) else 0


def fits(field: FieldBase, value: object) -> bool:
    """Is the value of the type that the field is declared to hold? Memory that was never set, or a union, is not."""
    words = field.type.split(" | ")
    if value is ...:
        return False
    if value is None:
        return "None" in words or "Any" in words
    kinds: dict[str, type] = {**NAMED, "int": int, "str": str, "Any": object}
    return isinstance(value, tuple(kinds[word] for word in words if word in kinds))


def run(seed: int, say: Say) -> set[tuple[str, str, str]]:
    """A program in each way of running it. Returns: what was met, see Program."""
    met: set[tuple[str, str, str]] = set()
    for way, (detect, granularity, record) in enumerate(WAYS):
        program = Program(f"{seed}.{way}", say)
        say(f"program {program.seed}")
        names = ("A", "B", "C")
        toy = Toy(program.setup, {name: (cpu, program.body(name)) for cpu, name in enumerate(names)}, detect)
        walk = RandomWalk(seed)
        for _ in range(2):
            program.new()
            raced = toy.run(walk, record=record, granularity=granularity)
            sim = toy.sim
            for finding in [*([raced] if raced is not None else []), *sim.notes]:
                say(f"finding {sorted(finding.as_dict().items())}")
            say(f"points {sim.points}, deviations {sim.deviations}, counters {sorted(sim.counters.items())}")
            for journal in (sim.journals or {}).values():
                for entry in journal.records:
                    say(f"record {sorted(entry.items())}")
        say(f"racy {sorted(toy.racy)}")
        met |= program.met
    return met


def main(programs: int) -> None:
    met: set[tuple[str, str, str]] = set()
    for seed in range(programs):
        met |= run(seed, print)
    for key, what, state in sorted(met):
        print(f"met {key} {what} {state}")


if __name__ == "__main__":
    main(int(sys.argv[1]))
