"""Options that several commands share, and the values that the commands make of these."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import click

from cluster import configs
from cluster.cli.asking import Asks, Duration, address, flag, option, refuse
from nodes.host.transport import KINDS, Kind
from shared.errors import UserMistake
from shared.patch import current
from shared.scenario.load import MAX_OPERATIONS
from shared.scenario.machine import KERNEL_LOCKS, MachineConfig
from shared.scenario.model import LEVELS, Scenario
from shared.text import clean, reason


def _patch(context: click.Context, _: click.Parameter, path: str | None) -> str | None:
    """Apply the patch until the command ends. What it replaces must have been imported."""
    if path is not None:
        import nodes.build  # noqa: F401
        import shared.program.run  # noqa: F401
        from shared.patch import applied, read

        context.with_resource(applied(read(configs.read(Path(path), path), path)))
    return path


@dataclass(frozen=True, kw_only=True)
class PatchOptions(Asks):
    """The option of commands that run a kernel."""

    patch: str | None = option(
        "Replace functions of the kernel by those in FILE.py, a program that runs with your rights (see "
        "shared/patch.py).",
        metavar="FILE.py", callback=_patch,
        is_eager=True,  # before --errata, which may name an erratum that the patch declares
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Options(PatchOptions):
    """The options of commands that run a scenario: which defects and detectors are on, which locks, for how long.

    Attributes:
        expect: is the exit code to say whether the scenario's expectation held? (An option of some commands.)
    """

    fixed: bool = flag("Switch off the scenario's own errata: run the repaired kernel.")
    errata: tuple[str, ...] = option(
        "Also switch on this erratum, an id or a short name. Repeatable.", multiple=True, metavar="ID"
    )
    detect: tuple[str, ...] = option(
        f"Set detector D to {', '.join(LEVELS)}. Repeatable. A run that does not end is stopped and noted even if "
        "progress is not stop.", multiple=True, metavar="D=LEVEL",
    )  # fmt: skip
    kernel_lock: str | None = option(
        "big: with the kernel's big lock, as in the MP kernels of 2000; fine: without it. Default: the scenario's.",
        type=click.Choice(KERNEL_LOCKS),
    )
    operations: int | None = option(
        "End an execution after N operations. Default: as the scenario has it, or by its size.",
        type=click.IntRange(1, MAX_OPERATIONS), metavar="N",
    )  # fmt: skip
    expect: bool = False

    @property
    def changes_the_kernel(self) -> bool:
        return bool(self.fixed or self.errata or self.detect or self.kernel_lock or self.operations)


@dataclass(frozen=True, kw_only=True)
class KeptOptions(Options):
    """The options of commands that run a scenario and can keep the run."""

    out: str | None = option("Keep the run in folder DIR, which must not exist yet.", metavar="DIR")
    expect: bool = flag("Exit with 0 if the scenario's expectation holds, else with 1.")


@dataclass(frozen=True, kw_only=True)
class TimedOptions(KeptOptions):
    """The options of commands that perform a run, in any engine."""

    time: float | None = option(
        "End a run after this time, as 30s, 5m or 1h; default: never. It is told as not ended, and can be continued "
        "(uvmp run --resume), which has the time anew.", type=Duration(),
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class LiveOptions(Options):
    """The further options of commands that start real processes: where these are, and how they reach each other."""

    address: str | None = address("Default: a private Ray on this computer")
    place: tuple[str, ...] = option(
        "With --address: the host of a node of the machine, by name, address or id. Repeatable, or with commas. "
        "Default: CPUs are spread over all hosts, the servers are together.", multiple=True, metavar="NODE=HOST",
    )  # fmt: skip
    transport: Kind | None = option(
        "How real processes reach each other; the journals are the same. leases: over sockets, and structs are lent to "
        "processors; the default, if journals are checked. sockets: nothing is lent. ray: calls of Ray's actors, which "
        "are slow.", type=click.Choice(KINDS),
    )  # fmt: skip


def placement(place: Iterable[str], address: str | None, machine: MachineConfig) -> dict[str, str]:
    """Node of the machine -> the host that --place gives it.

    Raises: UserMistake.
    """
    hosts: dict[str, str] = {}
    for part in (part for given in place for part in given.split(",")):
        node, equals, host = (word.strip() for word in part.partition("="))
        if not equals or not host:
            raise UserMistake(f"expected NODE=HOST, as cpu0=host-b; found {clean(part, 80)!r}", field="--place")
        if node not in machine.nodes:
            there = ", ".join(machine.nodes)
            raise UserMistake(f"the machine has no node {clean(node, 40)!r}; it has {there}", field="--place")
        if node in hosts:
            raise UserMistake(f"{node} is given twice", field="--place")
        hosts[node] = host
    if hosts and address is None:
        raise UserMistake("is only for --address; a private Ray has no other host", field="--place")
    return hosts


def refuse_live_options(engine: str, asked: LiveOptions) -> None:
    """Without real processes they mean nothing.

    Args:
        engine: the option that would start real processes.

    Raises: UserMistake.
    """
    refuse(asked, f"is only for {engine}", "address", "transport", "place")


def new_file(name: str | None, field: str) -> Path | None:
    """The file that an option names, for `put`: its folder must be there before a long search begins.

    Raises: UserMistake - it cannot be written there.
    """
    if name is None:
        return None
    path = Path(name)
    if not name or path.is_dir():
        raise UserMistake("expected the name of a file", file=clean(name, 200) or None, field=field)
    if not path.parent.is_dir():
        raise UserMistake("there is no such folder", file=clean(path.parent, 200), field=field)
    return path


def put(path: Path, text: str, field: str) -> None:
    """Write a file as a whole, or not at all.

    Raises: UserMistake - it cannot be written.
    """
    from cluster.runs import folder

    try:
        folder.put(path, text)
    except OSError as wrong:
        raise UserMistake(f"cannot be written: {reason(wrong)}", file=clean(path, 200), field=field) from None


@dataclass(frozen=True, slots=True)
class Chosen:
    """A scenario as the user wants it run.

    Attributes:
        scenario: with errata and detectors as asked for.
        options: what `uvmp replay` needs beside the token to find the same again.
    """

    scenario: Scenario
    options: tuple[str, ...] = ()

    def replay_line(self, token: object) -> str:
        """The line that repeats a schedule."""
        return shlex.join(["uvmp", "replay", str(token), *self.options])


def choose(name: str, asked: Options) -> Chosen:
    """Load a scenario and apply its `Options`; check that the scenario has what --expect needs.

    Raises: UserMistake.
    """
    source = configs.scenario(name)
    chosen = apply(source.scenario, [] if source.path is None else ["--scenario", source.path], asked)
    if asked.expect:
        must_expect_something(chosen.scenario)
    return chosen


def apply(scenario: Scenario, options: Iterable[str], asked: Options) -> Chosen:
    """Apply the options to a scenario.

    Args:
        options: with which `uvmp replay` finds the scenario itself.
    """
    fixed, kernel_lock = asked.fixed, asked.kernel_lock
    errata, levels, needed = asked.errata, _levels(asked.detect), list(options)
    if fixed:
        scenario = scenario.without_errata()
    field = "--errata"
    try:
        if errata:
            scenario = scenario.with_errata([*scenario.errata, *errata])
        field = "--detect"
        if levels:
            scenario = scenario.with_detect(levels)
    except UserMistake as mistake:
        raise UserMistake(mistake.message, field=field) from None
    if errata:
        needed += ["--fixed"] * fixed  # alone, it is in the token
        for erratum in errata:
            needed += ["--errata", erratum]
    needed += patch_words()
    if kernel_lock is not None and kernel_lock != scenario.machine.kernel_lock:
        scenario = scenario.with_kernel_lock(kernel_lock)
        needed += ["--kernel-lock", kernel_lock]
    if asked.operations is not None and asked.operations != scenario.bound.operations:
        scenario = scenario.with_operations(asked.operations)
        needed += ["--operations", str(asked.operations)]
    for detector, level in levels.items():
        needed += ["--detect", f"{detector}={level}"]
    return Chosen(scenario, tuple(needed))


def patch_words() -> list[str]:
    """What a command line needs for the patch that is applied."""
    patch = current()
    return [] if patch is None else ["--patch", patch.file]


def _levels(detect: Iterable[str]) -> dict[str, str]:
    levels: dict[str, str] = {}
    for setting in detect:
        detector, equals, level = setting.partition("=")
        if not equals:
            raise UserMistake(
                f"expected DETECTOR=LEVEL, for instance lockdebug=off; found {setting!r}", field="--detect"
            )
        if detector in levels:
            raise UserMistake(f"{detector} is given twice", field="--detect")
        levels[detector] = level
    return levels


def must_expect_something(scenario: Scenario) -> None:
    """--expect needs a scenario file that says what happens with just these errata and detectors."""
    if scenario.outcome() is None:
        expect = scenario.expect
        why = "has expectations for its own errata and for no errata, but none for these errata and detectors"
        if expect.with_errata is None or expect.fixed is None:
            part = (
                "expect" if expect.with_errata is expect.fixed else "fixed" if expect.fixed is None else "with_errata"
            )
            why = f"has no expectation: key {part} is missing"
        raise UserMistake(f"{scenario.file} {why}", field="--expect")


def new_folder(out: str | None) -> Path | None:
    """The folder that --out names. It is made, with those above it, and removed again: so it can be made.

    Raises: UserMistake - it exists, or cannot be made.
    """
    if out is None:
        return None
    if not out:
        raise UserMistake("expected the name of a folder", field="--out")
    from cluster.runs.folder import create

    path = Path(out)
    missing = [folder for folder in (path, *path.parents) if not os.path.lexists(folder)]
    try:
        return create(path)
    finally:
        for folder in missing:
            with suppress(OSError, ValueError):
                folder.rmdir()
