"""Finds the smallest part of a program that still fails in the same way.

The search removes steps, in blocks of decreasing size (delta debugging, Zeller and Hildebrandt, 2002), then threads,
steps of the setup, and special settings of the machine; it also shortens ranges. The rest must be a scenario that fails
with the same signature under one of the same strategies; the schedule may differ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from cluster.fuzz.judge import Failure
from cluster.fuzz.program import Program, Step

Fails = Callable[[Program], Failure | None]


def shrink(program: Program, failure: Failure, fails: Fails, budget: int = 1000) -> tuple[Program, Failure]:
    """Cut a program down.

    Args:
        failure: what `fails` says of it.
        fails: how a program fails; None: it does not, or it is none.
        budget: programs to try, at most.
    """
    progress = True
    while progress and budget > 0:
        progress = False
        for candidates in (_fewer_steps, _fewer_threads, _less_setup, _plainer_machine, _shorter_ranges):
            again = True
            while again and budget > 0:
                again = False
                for candidate in candidates(program):
                    if budget <= 0:
                        break
                    budget -= 1
                    shown = fails(candidate)
                    if shown is not None and shown.signature == failure.signature:
                        program, failure, again, progress = candidate, shown, True, True
                        break
    return program, failure


def _fewer_steps(program: Program) -> Iterator[Program]:
    """Without some steps, children's steps too; large blocks first."""
    for name, steps in program.threads.items():
        for fewer in _without(steps):
            yield replace(program, threads={**program.threads, name: fewer})


def _without(steps: tuple[Step, ...]) -> Iterator[tuple[Step, ...]]:
    length = len(steps)
    size = length
    while size:
        for at in range(0, length, size):
            yield steps[:at] + steps[at + size :]
        size //= 2
    for at, step in enumerate(steps):
        for fewer in _without(step.program or ()):
            yield (*steps[:at], replace(step, program=fewer), *steps[at + 1 :])


def _fewer_threads(program: Program) -> Iterator[Program]:
    """Without a thread and what the setup says of it."""
    for name in program.threads:
        threads = {other: steps for other, steps in program.threads.items() if other != name}
        setup = tuple(step for step in program.setup if name not in (step.args.get("in"), step.args.get("as")))
        yield replace(program, threads=threads, setup=setup)
        setup = tuple(step for step in program.setup if step.args.get("as") != name)
        yield replace(program, threads=threads, setup=setup)


def _less_setup(program: Program) -> Iterator[Program]:
    for fewer in _without(program.setup):
        yield replace(program, setup=fewer)


def _plainer_machine(program: Program) -> Iterator[Program]:
    machine = program.machine
    for key in machine:
        if key not in ("cpus", "frames", "swap_slots"):
            rest = {other: value for other, value in machine.items() if other != key}
            yield replace(program, machine=rest)
            yield replace(program, machine={"swap_slots": 160, **rest})
    for cpus in range(1, machine["cpus"]):
        yield replace(
            program,
            machine={**machine, "cpus": cpus},
            setup=on_cpus(program.setup, cpus),
            threads={name: on_cpus(steps, cpus) for name, steps in program.threads.items()},
        )
    if machine["frames"] < 32:
        yield replace(program, machine={**machine, "frames": 32})


def on_cpus(steps: tuple[Step, ...], cpus: int) -> tuple[Step, ...]:
    """The same on fewer CPUs."""
    moved = []
    for step in steps:
        args = {**step.args, "cpu": min(step.args["cpu"], cpus - 1)} if "cpu" in step.args else step.args
        program = None if step.program is None else on_cpus(step.program, cpus)
        moved.append(Step(step.op, args, program))
    return tuple(moved)


def _shorter_ranges(program: Program) -> Iterator[Program]:
    """One page in the place of several, in one step."""
    for setup in _shorter_in(program.setup):
        yield replace(program, setup=setup)
    for name, steps in program.threads.items():
        for fewer in _shorter_in(steps):
            yield replace(program, threads={**program.threads, name: fewer})


def _shorter_in(steps: tuple[Step, ...]) -> Iterator[tuple[Step, ...]]:
    for at, step in enumerate(steps):
        for shorter in _shorter(step):
            yield (*steps[:at], shorter, *steps[at + 1 :])
        for fewer in _shorter_in(step.program or ()):
            yield (*steps[:at], replace(step, program=fewer), *steps[at + 1 :])


def _shorter(step: Step) -> Iterator[Step]:
    pages = step.args.get("pages", 1)
    if pages > 1 and "words" not in step.args and step.op != "ftruncate":
        yield replace(step, args={**step.args, "pages": 1})
        yield replace(step, args={**step.args, "pages": pages - 1})
