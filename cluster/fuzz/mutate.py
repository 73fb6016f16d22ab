"""Changes a program a little: makes the fuzzer's next program from a program that has shown something new.

A change draws new steps, leaves steps out, moves them, draws a step's range or arguments anew, takes steps of a second
program over, or adds, removes or moves a thread; or it changes the machine. The result is tidied, and keeps the
rules of rules.py; a change that cannot be had is not made.

Left out: the setup's mappings and files, which stay as they were generated.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from random import Random

from cluster.fuzz.generate import Maker
from cluster.fuzz.program import Body, Keys, Program, Step
from cluster.fuzz.rules import broken, frames_needed, parse_at, tidy
from cluster.fuzz.shrink import on_cpus
from cluster.fuzz.steps import CHILDREN, FEATURES, SMALL_SWAP, Region, Space
from shared.errors import UserMistake

#: changes of one program, at most; programs tried until one is sound
CHANGES, TRIES = 4, 12
#: steps that are inserted, left out, or taken over at once, at most
INSERTED, CUT, TAKEN = 3, 4, 8
_NUMBERED = re.compile(r"([A-Za-z]+?)([0-9]+)")


class StepEditor(Maker):
    """Changes steps of one program. What a generator knows of its program, this finds out by looking at it.

    Args:
        program: to be changed; stays as it is.
        donor: another program, of which steps may be taken over.
    """

    def __init__(self, random: Random, program: Program, donor: Program):
        super().__init__(random, frozenset())
        self.program, self.donor = program, donor
        machine = program.machine
        self.cpus = machine["cpus"]
        self.disk = machine.get("disk", 0)
        self.maps = dict(machine.get("kernel", {}))
        self.devices = len(machine.get("swap", {}).get("devices", [0]))
        self.spaces: dict[str, Space] = {}
        for step in program.setup:
            self._declared(step)
            if step.op == "file":
                self.files[step.args["as"]] = step.args["pages"]
            elif step.op == "process":
                self.spaces[step.args["as"]] = Space({})
            elif step.op == "mmap":
                self.spaces[step.args["in"]].regions[step.args["as"]] = Region(step.args["as"], step.args["pages"])
            elif step.op == "mlock":
                self.spaces[step.args["in"]].regions[parse_at(step.args["at"])[0]].kept = True
        self.raw = sum(self.files.values())
        self.bodies = list(program.bodies())
        for body in self.bodies:
            for step in body.steps:
                self._declared(step)
                if step.op == "loan":
                    self.loans[step.args["as"]] = step.args["pages"], step.args["to"] == "anon"
                    self.lent += step.args["pages"] if step.args["to"] == "page" else 0
                elif step.program is not None:
                    self.children += 1

    def _declared(self, step: Step) -> None:
        """Names that exist: a new name must be another."""
        for key in ("as", "into"):
            named = _NUMBERED.fullmatch(str(step.args.get(key, "")))
            if named is not None:
                self.numbers[named[1]] = max(self.numbers.get(named[1], 0), int(named[2]))
        if isinstance(step.args.get("value"), int):
            self.numbers["value"] = max(self.numbers.get("value", 1000), step.args["value"])
        if step.op == "shm":
            self.segments[step.args["as"]] = step.args["pages"]

    # -- steps -------------------------------------------------------------------------

    def body(self) -> Body:
        """A process other than the hog's."""
        bodies = [body for body in self.bodies if body.thread != "B"]
        return self.random.choice(bodies)

    def space(self, body: Body, at: int) -> tuple[Space, dict[str, Region]]:
        """The regions that a context may use before its step number `at`; and those that it has mapped itself."""
        process = self.program.process(body.thread)
        given = self.spaces[process].regions
        mapped: dict[str, Region] = {}
        if not body.path:
            for other in self.bodies:
                if other.thread != body.thread and not other.path and self.program.process(other.thread) == process:
                    mapped |= _mapped(other.steps)
            own = _mapped(body.steps[:at])
            return Space(dict(given), mapped | own), own
        parents = self.program.threads[body.thread]
        inherited = {name: Region(name, region.pages) for name, region in given.items()}
        for place in body.path:
            inherited |= _mapped(parents[:place])
            parents = parents[place].program or ()
        own = _mapped(body.steps[:at])
        return Space(inherited, dict(own)), own

    def possible(self) -> list[str]:
        """Features of which this machine can do the steps."""
        lacks = set()
        if not self.files:
            lacks |= {"file", "cut"}
        if not self.segments:
            lacks.add("shm")
        if not self.disk:
            lacks.add("raw")
        if not self.maps:
            lacks.add("kernel")
        if self.devices < 2:
            lacks.add("swapctl")
        return [feature for feature, steps in FEATURES.items() if steps and feature not in lacks]

    def insert(self) -> Program:
        """New steps somewhere."""
        random, body = self.random, self.body()
        at = random.randint(0, len(body.steps) - _ends(body.steps))
        weights = {"read": 3, "write": 3}
        for feature in random.sample(self.possible(), 2):
            weights |= FEATURES[feature]
        self.features = frozenset(self.possible())
        space, own = self.space(body, at)
        self.variables[body.name] = _variables(body.steps[:at])
        new: list[Step] = []
        waiting: list[str] = []
        for op in random.choices(list(weights), list(weights.values()), k=random.randint(1, INSERTED)):
            if op == "fork":
                new += self.fork(body.name, space, own, 1 if body.path else 2, waiting)
            else:
                new += self.drawn(op, body.name, space, own)
        new += [Step("wait", {"for": child}) for child in waiting]
        return self.program.put(body, (*body.steps[:at], *new, *body.steps[at:]))

    def leave_out(self) -> Program:
        random, body = self.random, self.body()
        if not body.steps:
            return self.program
        at = random.randrange(len(body.steps))
        return self.program.put(body, body.steps[:at] + body.steps[at + random.randint(1, CUT) :])

    def move(self) -> Program:
        """A step to another place, or to another thread of the process."""
        random, body = self.random, self.body()
        if not body.steps:
            return self.program
        at = random.randrange(len(body.steps))
        step, rest = body.steps[at], body.steps[:at] + body.steps[at + 1 :]
        program = self.program.put(body, rest)
        thread = body.thread
        others = [
            other
            for other in self.program.threads
            if other not in (thread, "B") and self.program.process(other) == self.program.process(thread)
        ]
        if others and not body.path and random.random() < 0.4:
            body = Body(random.choice(others), (), "", ())
            rest = self.program.threads[body.thread]
        to = random.randint(0, len(rest) - _ends(rest))
        return program.put(body, (*rest[:to], step, *rest[to:]))

    def draw_anew(self) -> Program:
        """A step with another range, or other arguments."""
        random, body = self.random, self.body()
        places = [at for at, step in enumerate(body.steps) if step.op not in ("fork", "wait", "pause", "exit", "shm")]
        if not places:
            return self.program
        at = random.choice(places)
        step = body.steps[at]
        self.features = frozenset(self.possible())
        space, own = self.space(body, at)
        self.variables[body.name] = _variables(body.steps[:at])
        if step.op == "loan":
            self.lent -= step.args["pages"] if step.args["to"] == "page" else 0
        if step.op in ("mmap", "loan", "km_alloc", "map_loan"):  # what it makes has users
            return self.program if "pages" not in step.args else self._resized(body, at)
        new = self.drawn(step.op, body.name, space, own)
        return self.program.put(body, (*body.steps[:at], *new, *body.steps[at + 1 :]))

    def _resized(self, body: Body, at: int) -> Program:
        step = body.steps[at]
        pages = max(1, step.args["pages"] + self.random.choice((-1, 1)))
        resized = replace(step, args={**step.args, "pages": pages})
        return self.program.put(body, (*body.steps[:at], resized, *body.steps[at + 1 :]))


class Editor(StepEditor):
    """Changes one program once: its steps, its threads, or its machine."""

    def changed(self) -> Program:
        """The program with one change; the same one, if that cannot be had."""
        ways: list[tuple[Callable[[], Program], int]] = [
            (self.insert, 6),
            (self.leave_out, 4),
            (self.move, 4),
            (self.draw_anew, 5),
            (self.take_over, 5),
            (self.splice, 5),
            (self.another_thread, 4),
            (self.fewer_threads, 1),
            (self.elsewhere, 2),
            (self.another_machine, 3),
        ]
        (way,) = self.random.choices([way for way, _ in ways], [weight for _, weight in ways])
        return way()

    # -- steps of another program, or of another thread ----------------------------------

    def take_over(self) -> Program:
        """Some steps of another program."""
        random, body = self.random, self.body()
        donors = [other for other in self.donor.bodies() if other.thread != "B" and other.steps]
        if not donors:
            return self.program
        steps = random.choice(donors).steps
        first = random.randrange(len(steps))
        at = random.randint(0, len(body.steps) - _ends(body.steps))
        space, _ = self.space(body, at)
        new = self.adopted(steps[first : first + random.randint(1, TAKEN)], space, {})
        return self.program.put(body, (*body.steps[:at], *new, *body.steps[at:]))

    def adopted(self, steps: tuple[Step, ...], space: Space, names: dict[str, str]) -> tuple[Step, ...]:
        """Steps with other names: new names for what they make, and for the rest those of this program.

        Args:
            names: old name -> new name, so far.
        """
        known = {**space.regions, **space.mapped}
        new: list[Step] = []
        for step in steps:
            args = dict(step.args)
            if (step.op == "fork" and self.children >= CHILDREN) or step.op in ("pause", "exit"):
                continue
            if "into" in args:
                args["into"] = self.name("r")
            if isinstance(args.get("value"), int):
                args["value"] = self.value()
            if "cpu" in args:
                args["cpu"] %= self.cpus
            for key, instead in (("file", self.files), ("shm", self.segments)):
                if key in args and args[key] not in instead:
                    args[key] = self.random.choice(list(instead)) if instead else ""
            if "" in args.values() or not self._to(args, step, known, names):
                continue
            if "as" in args:
                prefix = _NUMBERED.fullmatch(args["as"])
                names[args["as"]] = args["as"] = self.name(prefix[1] if prefix else "x")
            for key in ("of", "for"):
                args[key] = names.get(args[key], args[key]) if key in args else None
            args = {key: value for key, value in args.items() if value is not None}
            if step.op == "mmap":
                offset, many = args.get("offset", 0), {**self.files, **self.segments}
                whole = many.get(str(args.get("file", args.get("shm"))), 99)
                args["pages"] = min(args["pages"], whole - offset)
                if args["pages"] < 1:
                    continue
            if step.op in ("mmap", "map_loan"):
                space.mapped[args["as"]] = known[args["as"]] = Region(args["as"], args["pages"])
            program = step.program
            if program is not None:
                self.children += 1
                program = self.adopted(program, Space(dict(known)), dict(names))
            new.append(Step(step.op, args, program))
        return tuple(new)

    def _to(self, args: Keys, step: Step, known: dict[str, Region], names: dict[str, str]) -> bool:
        """Let a step be done to something of this program. False: there is nothing."""
        args.pop("status", None)
        if "at" not in args or args["at"].partition("[")[0] in known:
            return True
        name, page = parse_at(args["at"])
        rest = args["at"].partition("]")[2]
        if step.op in ("kread", "kwrite", "km_free"):
            args["at"] = f"{names.get(name, name)}[{page}]"
            return name in names
        there = self.files if step.op in ("fread", "fwrite") else {key: area.pages for key, area in known.items()}
        name = names.get(name, name)
        if name not in there:
            if not there:
                return False
            name = self.random.choice(list(there))
        page = min(page, there[name] - 1)
        args["at"] = f"{name}[{page}]{rest}"
        if "pages" in args:
            args["pages"] = min(args["pages"], there[name] - page)
        return True

    def splice(self) -> Program:
        """A process of the other program beside those of this program, with what it needs of files and segments."""
        random, donor = self.random, self.donor
        names = [step.args["as"] for step in donor.setup if step.op == "process" and step.args["as"] != "B"]
        process = random.choice(names)
        threads = [name for name in donor.threads if donor.process(name) == process]
        renamed = Renaming(self)
        shared = [step for step in donor.setup if step.op in ("file", "shm")]
        setup = [renamed.step(step) for step in shared]
        for step in donor.setup:
            if process in (step.args.get("in"), step.args["as"] if step.op == "process" else None):
                setup.append(renamed.step(step))
        bodies = {renamed.of(name): tuple(map(renamed.step, donor.threads[name])) for name in threads}
        raw = self.raw + sum(step.args["pages"] for step in shared if step.op == "file")
        machine = dict(self.program.machine)
        for key, value in donor.machine.items():
            if key == "kernel":
                machine.setdefault(key, value)
            elif key == "swap" and "devices" in value and "devices" not in machine.get("swap", {}):
                machine.pop("swap_slots", None)
                machine["swap"] = {**machine.get("swap", {}), "devices": value["devices"]}
        if raw or "disk" in machine or "disk" in donor.machine:
            machine["disk"] = raw + 4
        first = next(at for at, step in enumerate(self.program.setup) if step.op == "process")
        made = self.program.setup
        made = (*made[:first], *setup[: len(shared)], *made[first:], *setup[len(shared) :])
        changed = replace(self.program, machine=machine, setup=made, threads={**self.program.threads, **bodies})
        changed = replace(changed, setup=on_cpus(changed.setup, self.cpus))
        for body in changed.bodies():
            if not body.path:
                steps = on_cpus(_blocks(body.steps, raw, raw + 4), self.cpus)
                changed = replace(changed, threads={**changed.threads, body.thread: steps})
        return changed

    # -- threads -------------------------------------------------------------------------

    def another_thread(self) -> Program:
        """A thread that does at the same time what a thread of the process does, or a part of it."""
        random, program = self.random, self.program
        thread = random.choice([name for name in program.threads if name != "B"])
        if len(program.threads) > 5:
            return program
        process, new = program.process(thread), self.name("T")
        steps = program.threads[thread]
        first = random.randint(0, len(steps) // 2)
        space = Space(dict(self.spaces[process].regions), _mapped(steps))
        body = self.adopted(steps[first : first + random.randint(1, TAKEN)], space, {})
        at = next(place for place, step in enumerate(program.setup) if step.args.get("as") == process) + 1
        made = Step("thread", {"in": process, "as": new, "cpu": random.randrange(self.cpus)})
        setup = (*program.setup[:at], made, *program.setup[at:])
        threads = {}
        for name, old in program.threads.items():
            threads[name] = old
            if name == process:
                threads[new] = body
        return replace(program, setup=setup, threads=threads)

    def fewer_threads(self) -> Program:
        program = self.program
        names = [step.args["as"] for step in program.setup if step.op == "thread"]
        if not names:
            return program
        gone = self.random.choice(names)
        setup = tuple(step for step in program.setup if step.args.get("as") != gone)
        return replace(program, setup=setup, threads={name: s for name, s in program.threads.items() if name != gone})

    def elsewhere(self) -> Program:
        """A thread on another CPU."""
        program = self.program
        places = [at for at, step in enumerate(program.setup) if "cpu" in step.args]
        at = self.random.choice(places)
        moved = replace(program.setup[at], args={**program.setup[at].args, "cpu": self.random.randrange(self.cpus)})
        return replace(program, setup=(*program.setup[:at], moved, *program.setup[at + 1 :]))

    # -- the machine ---------------------------------------------------------------------

    def another_machine(self) -> Program:
        """More or fewer frames or CPUs, another MMU, shards, maps of the kernel, swap devices, or their errors."""
        random, program = self.random, self.program
        machine: Keys = dict(program.machine)
        what = random.choice(("frames", "frames", "cpus", "mmu", "shards", "kernel", "devices", "sick"))
        if what == "frames":
            machine["frames"] += random.choice((-3, -2, -1, 1, 2, 4))
        elif what == "cpus":
            cpus = machine["cpus"] = random.randint(1, 4)
            threads = {name: on_cpus(steps, cpus) for name, steps in program.threads.items()}
            program = replace(program, setup=on_cpus(program.setup, cpus), threads=threads)
        elif what == "mmu":
            machine.pop("mmu", None)
            mmu = random.choice(({}, {"rm": "emulated"}, {"page_tables": 8}, {"unwired_mappings": 6}))
            machine |= {"mmu": mmu} if mmu else {}
        elif what == "shards":
            if machine.pop("shards", None) is None:
                machine["shards"] = {"lock_manager": 2, "memory": random.randint(1, 2)}
        elif what == "kernel":
            machine["kernel"] = {"kmem": 2, "map": 2, "exec": 3}
        elif what == "devices" and "devices" not in machine.get("swap", {}):
            slots = machine.pop("swap_slots", 0)
            first = {"slots": slots, "priority": random.randint(0, 1)}
            small = {"slots": SMALL_SWAP, "priority": random.randint(0, 1)}
            machine["swap"] = {"devices": [first, small], **machine.get("swap", {})}
        elif what == "sick":
            devices = {key: value for key, value in machine.get("swap", {}).items() if key == "devices"}
            machine["swap"] = {**devices, **(self.sickness() if random.random() < 0.8 else {})}
            if not machine["swap"]:
                del machine["swap"]
        changed = replace(program, machine=machine)
        machine["frames"] = max(machine["frames"], frames_needed(changed))
        return changed


class Renaming:
    """Gives whatever another program names a new name.

    Args:
        editor: of the program to which it comes.
    """

    def __init__(self, editor: Editor):
        self.editor, self.names = editor, dict[str, str]()

    def of(self, name: str) -> str:
        """The new name."""
        if name not in self.names:
            numbered = _NUMBERED.fullmatch(name)
            prefix = numbered[1] if numbered else "P" if name.isupper() else "x"
            self.names[name] = self.editor.name(prefix)
        return self.names[name]

    def step(self, step: Step) -> Step:
        """The same with new names and values."""
        args = dict(step.args)
        for key in ("as", "in", "into", "of", "for", "file", "shm"):
            if key in args and not (key == "of" and step.op == "count"):
                args[key] = self.of(args[key])
        for key in ("at", "status"):
            if key in args:
                name, bracket, rest = args[key].partition("[")
                args[key] = self.of(name) + bracket + rest
        if "value" in args:
            args["value"] = self.editor.value()
        return Step(step.op, args, None if step.program is None else tuple(map(self.step, step.program)))


def _blocks(steps: tuple[Step, ...], first: int, end: int) -> tuple[Step, ...]:
    """The same, but that no raw block of a file is written. Args: first, end: of the blocks that may be."""
    moved = []
    for step in steps:
        args, program = step.args, step.program
        if step.op == "physio" and args["do"] == "write" and args["block"] < first:
            args = {**args, "block": min(first + args["block"] % 4, end - args["pages"])}
        moved.append(Step(step.op, args, None if program is None else _blocks(program, first, end)))
    return tuple(moved)


def _ends(steps: tuple[Step, ...]) -> bool:
    """Is the last step one behind which none is?"""
    return bool(steps) and steps[-1].op in ("pause", "exit")


def _mapped(steps: tuple[Step, ...]) -> dict[str, Region]:
    return {
        step.args["as"]: Region(step.args["as"], step.args["pages"])
        for step in steps
        if step.op in ("mmap", "map_loan")
    }


def _variables(steps: tuple[Step, ...]) -> list[tuple[str, int]]:
    """The kernel's memory that a context has after these steps."""
    known: dict[str, int] = {}
    for step in steps:
        if step.op == "km_alloc":
            known[step.args["as"]] = step.args["pages"]
        elif step.op == "km_free":
            known.pop(parse_at(step.args["at"])[0], None)
    return list(known.items())


def mutate(program: Program, donor: Program, random: Random) -> Program | None:
    """Another program like the given program, which keeps the rules and is a scenario.

    Args:
        donor: another program, of which steps may be taken over.

    Returns: None if none was found.
    """
    for _ in range(TRIES):
        changed = program
        for _ in range(random.randint(1, CHANGES)):
            before = changed
            changed = Editor(random, changed, donor).changed()
            if changed is not before:
                changed = tidy(changed)
        needed = frames_needed(changed)
        if changed.machine["frames"] < needed:
            changed = replace(changed, machine={**changed.machine, "frames": needed})
        if changed in (program, donor) or broken(changed):
            continue
        try:
            changed.load()
        except UserMistake:
            continue
        return changed
    return None
