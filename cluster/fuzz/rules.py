"""Checks that a program does nothing at which even a correct kernel would fail (see generate.py), and tidies programs.

A program that was generated keeps the rules. `broken` says which rule another one breaks; `tidy` leaves out the steps
whose sense went with steps that are gone: a wait for a child that is not forked, a use of memory not allocated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from cluster.fuzz.program import Body, Program, Step
from cluster.fuzz.steps import LENT, SWAP

#: frames of the smallest machine; more for loans and raw I/O, for the kernel's maps, and for page tables by their size
FRAMES, FOR_LOANS, FOR_KERNEL = 14, LENT + 1, 4
FOR_TABLES = {512: 12, 8: 24}
#: pages that the processes of a program may have, all together; of one loan
PAGES, LOAN = 220, 2
#: steps of one program, those of children counted
STEPS = 120


def broken(program: Program) -> str:
    """The first rule that a program breaks, in words; "": none."""
    for rule in (_waits, _lends, _statuses, _blocks, _kernel_memory, _devices, _room):
        why = rule(program)
        if why:
            return why
    return ""


def sound(program: Program) -> bool:
    """Does it keep the rules?"""
    return not broken(program)


def _every(program: Program) -> Iterable[Step]:
    """All steps of the programs."""
    return (step for body in program.bodies() for step in body.steps)


def _forked(body: Body) -> dict[str, tuple[Step, ...]]:
    return {step.args["as"]: step.program for step in body.steps if step.program is not None}


def _waits(program: Program) -> str:
    for body in program.bodies():
        children = _forked(body)
        for step in body.steps:
            if step.op == "wait" and any(child.op == "pause" for child in children.get(step.args["for"], ())):
                return f"{body.name} waits for {step.args['for']}, which pauses"
    return ""


def _lends(program: Program) -> str:
    loans = [step.args for step in _every(program) if step.op == "loan"]
    if any(args["pages"] > LOAN for args in loans):
        return f"a loan of more than {LOAN} pages"
    lent = sum(args["pages"] for args in loans if args["to"] == "page")
    return f"{lent} pages are lent" if lent > LENT else ""


def _kept(program: Program) -> dict[str, set[str]]:
    """Process of the setup -> its regions that the setup locks."""
    kept: dict[str, set[str]] = {}
    for step in program.setup:
        if step.op == "mlock":
            kept.setdefault(step.args["in"], set()).add(step.args["at"].partition("[")[0])
    return kept


def _statuses(program: Program) -> str:
    """A device stores its status in memory that stays locked and writable: of the setup, not of a child."""
    kept, used = _kept(program), set()
    for body in program.bodies():
        process = program.process(body.thread)
        for step in body.steps:
            if "status" in step.args:
                region = step.args["status"].partition("[")[0]
                if body.path or region not in kept.get(process, ()):
                    return f"{body.name} has a device store its status in {region}, which the setup has not locked"
                used.add((process, region))
    for body in program.bodies():
        for step in body.steps:
            if not body.path and step.op in ("munmap", "mprotect", "munlock"):
                region = step.args["at"].partition("[")[0]
                if (program.process(body.thread), region) in used:
                    return f"{body.name} does {step.op} of {region}, where a device stores its status"
    return ""


def _blocks(program: Program) -> str:
    files = sum(step.args["pages"] for step in program.setup if step.op == "file")
    for step in _every(program):
        if step.op == "physio" and step.args["do"] == "write" and step.args["block"] < files:
            return f"raw block {step.args['block']} of a file is written"
    return ""


def _kernel_memory(program: Program) -> str:
    for body in program.bodies():
        known: dict[str, int] = {}
        for step in body.steps:
            if not _uses_well(step, known):
                return f"{body.name} uses memory of the kernel that it has not allocated, or has freed"
    return ""


def _uses_well(step: Step, known: dict[str, int]) -> bool:
    """Does a context use the kernel's memory as it may? `known`: what it has allocated, which this step may change."""
    if step.op == "km_alloc":
        known[step.args["as"]] = step.args["pages"]
    elif step.op in ("kread", "kwrite"):
        name, page = parse_at(step.args["at"])
        return page < known.get(name, 0)
    elif step.op == "km_free":
        name, page = parse_at(step.args["at"])
        return page == 0 and known.pop(name, None) == step.args["pages"]
    return True


def _devices(program: Program) -> str:
    machine = program.machine
    devices = machine.get("swap", {}).get("devices")
    slots = devices[0]["slots"] if devices else machine.get("swap_slots", 0)
    if slots < SWAP:
        return f"swap device 0 has {slots} slots"
    for step in _every(program):
        if step.op == "swapctl" and not 1 <= step.args["device"] < len(devices or ()):
            return f"swapctl of device {step.args['device']}"
    return ""


def frames_needed(program: Program) -> int:
    """Frames that the machine of such a program has at least."""
    machine = program.machine
    frames = FRAMES + FOR_TABLES.get(machine.get("mmu", {}).get("page_tables", 0), 0)
    frames += FOR_KERNEL * ("kernel" in machine)
    return frames + FOR_LOANS * any(step.op in ("loan", "physio") for step in _every(program))


def pages_used(program: Program) -> int:
    """Pages that all processes may come to have, copies in children counted."""
    own: dict[str, int] = {}
    for step in program.setup:
        if step.op == "mmap":
            own[step.args["in"]] = own.get(step.args["in"], 0) + step.args["pages"]
    for name, steps in program.threads.items():
        process = program.process(name)
        own[process] = own.get(process, 0) + _maps(steps)
    total = sum(own.values())
    for body in program.bodies():
        if body.path:
            total += own.get(program.process(body.thread), 0) + _maps(body.steps)
    return total


def _maps(steps: tuple[Step, ...]) -> int:
    return sum(step.args["pages"] for step in steps if step.op in ("mmap", "map_loan"))


def _room(program: Program) -> str:
    needed = frames_needed(program)
    if program.machine["frames"] < needed:
        return f"{program.machine['frames']} frames, of {needed} needed"
    if pages_used(program) > PAGES:
        return f"its processes may have more than {PAGES} pages"
    count = sum(1 for _ in _every(program))
    return f"{count} steps" if count > STEPS else ""


def parse_at(at: str) -> tuple[str, int]:
    """Region and page of an address such as "m3[1]+8"."""
    region, _, rest = at.partition("[")
    return region, int(rest.partition("]")[0])


# -- tidying -------------------------------------------------------------------------------


def tidy(program: Program) -> Program:
    """Without the steps that make no sense any more."""
    files = {step.args["as"] for step in program.setup if step.op == "file"}
    loans = {step.args["as"] for step in _every(program) if step.op == "loan"}
    lent = [LENT]

    def makes_sense(step: Step) -> bool:
        args = step.args
        if step.op in ("kpeek", "unloan", "map_loan") and args["of"] not in loans:
            return False
        if "file" in args and args["file"] not in files:
            return False
        if step.op in ("fread", "fwrite") and parse_at(args["at"])[0] not in files:
            return False
        if step.op == "loan" and args["to"] == "page":
            lent[0] -= args["pages"]
            return lent[0] >= 0
        return True

    threads = {}
    for name, steps in program.threads.items():
        process = program.process(name)
        scope = {
            step.args["as"]: step.args["pages"]
            for step in program.setup
            if step.op == "mmap" and step.args["in"] == process
        }
        for other, others in program.threads.items():
            if other != name and program.process(other) == process:
                scope |= {step.args["as"]: step.args["pages"] for step in others if step.op in ("mmap", "map_loan")}
        threads[name] = _tidied(steps, scope, makes_sense)
    return replace(program, threads=threads)


def _tidied(steps: tuple[Step, ...], scope: dict[str, int], makes_sense: Callable[[Step], bool]) -> tuple[Step, ...]:
    """Args: scope: region -> pages that it has; of those that the context may use at its beginning."""
    left: list[Step] = []
    scope, known, children = dict(scope), dict[str, int](), dict[str, bool]()
    for step in steps:
        if not makes_sense(step) or not _uses_well(step, known):
            continue
        if step.op == "wait" and children.pop(step.args["for"], True):
            continue
        if "at" in step.args and step.op not in ("fread", "fwrite", "kread", "kwrite", "km_free"):
            region, page = parse_at(step.args["at"])
            if page + step.args.get("pages", 1) > scope.get(region, 0):
                continue
        if step.op in ("mmap", "map_loan"):
            scope[step.args["as"]] = step.args["pages"]
        if step.program is not None:
            program = _tidied(step.program, scope, makes_sense)
            children[step.args["as"]] = any(child.op == "pause" for child in program)
            left.append(replace(step, program=program))
        else:
            left.append(step)
        if step.op in ("pause", "exit"):
            break
    return tuple(left)
