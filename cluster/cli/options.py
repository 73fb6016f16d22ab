"""Options that several commands share, and the values that the commands make of these."""

from __future__ import annotations

import functools
import os
import re
import shlex
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from cluster import configs
from nodes.host.transport import KINDS, Kind
from shared.errors import UserMistake
from shared.patch import current
from shared.scenario.load import MAX_OPERATIONS
from shared.scenario.machine import KERNEL_LOCKS, MachineConfig
from shared.scenario.model import LEVELS, Scenario
from shared.scenario.yaml import show
from shared.text import clean, reason

Command = TypeVar("Command", bound=Callable[..., Any])
Asked = TypeVar("Asked")
SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
MAX_SEED = 2**32 - 1
MAX_SECONDS = 7 * 24 * 3600
MAX_WORKERS = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options that run, explore and replay share; each command has a class of its own with its further options.

    Attributes:
        fixed, errata, detect, kernel_lock, operations: of `kernel_options`.
        out: where to keep the run.
        expect: is the exit code to say whether the scenario's expectation held?
        as_json: one document on stdout.
    """

    fixed: bool = False
    errata: tuple[str, ...] = ()
    detect: tuple[str, ...] = ()
    kernel_lock: str | None = None
    operations: int | None = None
    out: str | None = None
    expect: bool = False
    as_json: bool = False

    @property
    def changes_the_kernel(self) -> bool:
        return bool(self.fixed or self.errata or self.detect or self.kernel_lock or self.operations)


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveOptions(Options):
    """The further options that run and replay share: `live_options`."""

    address: str | None = None
    place: tuple[str, ...] = ()
    transport: Kind | None = None


class Duration(click.ParamType):  # type: ignore[type-arg]
    """A time: a number with its unit, s, m or h; without one, of seconds."""

    name = "time"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        match = re.fullmatch(r"([0-9]{1,7}(?:\.[0-9]{1,3})?)(s|m|h|)", str(value).strip())
        seconds = float(match[1]) * {"h": 3600, "m": 60}.get(match[2], 1) if match else 0.0
        if not 0 < seconds <= MAX_SECONDS:
            self.fail(f"expected a time such as 30s, 5m or 1h; found {clean(value, 20)!r}", param, ctx)
        return seconds


def asks(kind: type[Asked]) -> Callable[[Callable[[Asked], int]], Callable[..., int]]:
    """Let click call a command with one object of this kind, instead of an argument for each option."""

    def wrap(command: Callable[[Asked], int]) -> Callable[..., int]:
        @functools.wraps(command)
        def called(**given: object) -> int:
            return command(kind(**given))

        return called

    return wrap


class ShowGroup(click.Group):
    """A command that lists, with the subcommand `show` for one entry of the list."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            line = shlex.join(["uvmp", str(self.name), "show", args[0]])
            ctx.fail(f"there is no command {show(args[0])}; did you mean: {line}")
        return super().resolve_command(ctx, args)


def listing(name: str, shown: str) -> Callable[[Callable[..., int | None]], click.Group]:
    """A command of this name that lists; `shown`: an example of what its `show` tells about."""
    lines = ((f"uvmp {name}", ""), (f"uvmp {name} show {shown}", ""))
    return click.group(
        name, cls=ShowGroup, invoke_without_command=True, context_settings=SETTINGS, epilog=examples(*lines)
    )


def called(name: str, *lines: tuple[str, str]) -> Callable[[Callable[..., int]], click.Command]:
    """A command of this name; `lines`: the examples of its --help."""
    return click.command(name, context_settings=SETTINGS, epilog=examples(*lines))


def examples(*lines: tuple[str, str]) -> str:
    """The end of a --help: command lines that can be pasted as they are, each with a remark below it.

    TOKEN, RUN and my.yaml stand for what the user has.
    """
    shown = [f"  {line}\n      {remark}" if remark else f"  {line}" for line, remark in lines]
    return "\n".join(["\b", "Examples:", *shown])


def common(command: Command) -> Command:
    """--json and --debug, which every command has."""
    command = click.option("--debug", is_flag=True, expose_value=False, help="Show the traceback of an error.")(command)
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")(command)


def kernel_options(command: Command) -> Command:
    """Which defects and detectors are on, which locks, and for how long: --fixed, --errata, --detect, --kernel-lock,
    --operations."""
    for option in (
        patch_option,
        click.option(
            "--operations",
            type=click.IntRange(1, MAX_OPERATIONS),
            metavar="N",
            help="End an execution after N operations. Default: as the scenario has it, or by its size.",
        ),
        click.option(
            "--kernel-lock",
            type=click.Choice(KERNEL_LOCKS),
            help="big: with the kernel's big lock, as in the MP kernels of 2000; fine: without it. Default: the "
            "scenario's.",
        ),
        click.option(
            "--detect",
            multiple=True,
            metavar="D=LEVEL",
            help=f"Set detector D to {', '.join(LEVELS)}. Repeatable. A run that does not end is "
            "stopped and noted even if progress is not stop.",
        ),
        click.option(
            "--errata",
            multiple=True,
            metavar="ID",
            help="Also switch on this erratum, an id or a short name. Repeatable.",
        ),
        click.option("--fixed", is_flag=True, help="Switch off the scenario's own errata: run the repaired kernel."),
    ):
        command = option(command)
    return command


def _patch(context: click.Context, _: click.Parameter, path: str | None) -> None:
    """Apply the patch until the command ends. What it replaces must have been imported."""
    if path is None:
        return
    import nodes.build  # noqa: F401
    import shared.program.run  # noqa: F401
    from shared.patch import applied, read

    context.with_resource(applied(read(configs.read(Path(path), path), path)))


patch_option = click.option(
    "--patch",
    metavar="FILE.py",
    is_eager=True,  # before --errata, which may name an erratum that the patch declares
    expose_value=False,
    callback=_patch,
    help="Replace functions of the kernel by those in FILE.py, a program that runs with your rights (see "
    "shared/patch.py).",
)
seed_option = click.option(
    "--seed",
    type=click.IntRange(0, MAX_SEED),
    default=0,
    show_default=True,
    help="Seed of the random choices; equal seeds make equal choices.",
)


def live_options(command: Command) -> Command:
    """Where the real processes are, and how they reach each other: --address, --place, --transport."""
    command = click.option(
        "--transport",
        type=click.Choice(KINDS),
        help="How real processes reach each other; the journals are the same. leases: over sockets, and structs are "
        "lent to processors; the default, if journals are checked. sockets: nothing is lent. ray: calls of Ray's "
        "actors, which are slow.",
    )(command)
    command = click.option(
        "--place",
        multiple=True,
        metavar="NODE=HOST",
        help="With --address: the host of a node of the machine, by name, address or id. Repeatable, or with commas. "
        "Default: CPUs are spread over all hosts, the servers are together.",
    )(command)
    return address_option("Default: a private Ray on this computer")(command)


def address_option(default: str) -> Callable[[Command], Command]:
    """--address, a Ray cluster's; in words, what there is without it."""
    return click.option("--address", metavar="HOST:PORT", help=f"Address of a Ray cluster, or auto. {default}.")


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


def workers_options(same: str) -> Callable[[Command], Command]:
    """Which processes search: --workers, --address.

    Args:
        same: the end of the help: when the result is the same.
    """

    def decorate(command: Command) -> Command:
        command = address_option("Default: processes on this computer")(command)
        return click.option(
            "--workers",
            type=click.IntRange(1, MAX_WORKERS),
            metavar="N",
            help="Search with N processes; with --address, default: one for each of the cluster's processors. The "
            f"result is the same for any N{same}",
        )(command)

    return decorate


def refuse_live_options(engine: str, asked: LiveOptions) -> None:
    """Without real processes they mean nothing.

    Args:
        engine: the option that would start real processes.

    Raises: UserMistake.
    """
    refuse(asked, f"is only for {engine}", "address", "transport", "place")


def refuse(asked: object, why: str, *options: str) -> None:
    """Refuse options, by their names in Python, that say nothing beside the others.

    Raises: UserMistake - one of them is given.
    """
    for name in options:
        value = getattr(asked, name)
        if value is not None and value is not False and value != ():
            raise UserMistake(why, field=f"--{'from' if name == 'begin' else name.replace('_', '-')}")


def run_options(command: Command) -> Command:
    """Options about the result of a run: --out, --expect, and those of `common`."""
    command = common(command)
    command = click.option(
        "--expect", is_flag=True, help="Exit with 0 if the scenario's expectation holds, else with 1."
    )(command)
    return click.option("--out", metavar="DIR", help="Keep the run in folder DIR, which must not exist yet.")(command)


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
    """Load a scenario and apply the options of `kernel_options`; check that the scenario has what --expect needs.

    Raises: UserMistake.
    """
    source = configs.scenario(name)
    chosen = apply(source.scenario, [] if source.path is None else ["--scenario", source.path], asked)
    if asked.expect:
        must_expect_something(chosen.scenario)
    return chosen


def apply(scenario: Scenario, options: Iterable[str], asked: Options) -> Chosen:
    """Apply the options of `kernel_options` to a scenario.

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
    patch = current()
    if patch is not None:
        needed += ["--patch", patch.file]
    if kernel_lock is not None and kernel_lock != scenario.machine.kernel_lock:
        scenario = scenario.with_kernel_lock(kernel_lock)
        needed += ["--kernel-lock", kernel_lock]
    if asked.operations is not None and asked.operations != scenario.bound.operations:
        scenario = scenario.with_operations(asked.operations)
        needed += ["--operations", str(asked.operations)]
    for detector, level in levels.items():
        needed += ["--detect", f"{detector}={level}"]
    return Chosen(scenario, tuple(needed))


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
