"""Commands whose options and arguments are the fields of a class, and fields that several of these classes have."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from dataclasses import Field, dataclass, field, fields
from functools import partial, wraps
from inspect import get_annotations
from typing import Any, TypeVar

import click

from shared.errors import UserMistake
from shared.journal.runfile import MAX_SECONDS
from shared.scenario.yaml import show
from shared.text import clean

Asked = TypeVar("Asked", bound="Asks")
#: makes a command of click's of a function
Made = Callable[[Callable[[Asked], int]], click.Command]
SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
MAX_SEED = 2**32 - 1
MAX_WORKERS = 1024


# -- fields -------------------------------------------------------------------------------


def option(help: str, name: str = "", **more: Any) -> Any:
    """A field whose value is that of an option: of --FIELD, or of `name`.

    Args:
        more: as `click.option` has it.
    """
    default = more.get("default", False if more.get("is_flag") else () if more.get("multiple") else None)
    return field(default=default, metadata={"option": name, "parameter": partial(click.option, help=help, **more)})


def flag(help: str, name: str = "") -> Any:
    """A field whose value says whether an option without an argument is given."""
    return option(help, name, is_flag=True)


def argument(**more: Any) -> Any:
    """A field whose value is that of an argument of the command line; `more`: as `click.argument` has it."""
    return field(metadata={"parameter": partial(click.argument, **more)})


def written(declared: Field[Any]) -> str:
    """An option as the user writes it."""
    return declared.metadata["option"] or f"--{declared.name.replace('_', '-')}"


class Duration(click.ParamType):  # type: ignore[type-arg]
    """A time: a number with its unit, s, m or h; without one, of seconds."""

    name = "time"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        match = re.fullmatch(r"([0-9]{1,7}(?:\.[0-9]{1,3})?)(s|m|h|)", str(value).strip())
        seconds = float(match[1]) * {"h": 3600, "m": 60}.get(match[2], 1) if match else 0.0
        if not 0 < seconds <= MAX_SECONDS:
            self.fail(f"expected a time such as 30s, 5m or 1h; found {clean(value, 20)!r}", param, ctx)
        return seconds


def address(default: str) -> Any:
    """A field for the address of a Ray cluster; in words, what there is without it."""
    return option(f"Address of a Ray cluster, or auto. {default}.", metavar="HOST:PORT")


def seed() -> Any:
    """A field for the seed of a search or a run."""
    return option(
        "Seed of the random choices; equal seeds make equal choices.",
        type=click.IntRange(0, MAX_SEED), default=0, show_default=True,
    )  # fmt: skip


def workers(same: str) -> Any:
    """A field for the number of processes that search; the end of its help: when the result is the same."""
    return option(
        "Search with N processes; with --address, default: one for each of the cluster's processors. The result is the "
        f"same for any N{same}",
        type=click.IntRange(1, MAX_WORKERS), metavar="N",
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Asks:
    """The options of every command.

    Attributes:
        as_json: one document on stdout.
    """

    as_json: bool = flag("Print one JSON document on stdout.", "--json")
    debug: bool = flag("Show the traceback of an error.")

    @property
    def json(self) -> bool:
        """Is --json given here, or of a subcommand, before its name?"""
        outer = click.get_current_context().parent
        return self.as_json or bool(outer and outer.params.get("as_json"))


# -- commands -----------------------------------------------------------------------------


def asks(kind: type[Asked]) -> Callable[[Callable[[Asked], int]], Callable[..., int]]:
    """Let click call a command with one object of this kind: each of its fields is an option or argument.

    The help lists the fields of a class before those of its bases.
    """
    declared = {declared.name: declared for declared in fields(kind)}
    order = dict.fromkeys(name for part in kind.__mro__ for name in get_annotations(part) if name in declared)

    def wrap(command: Callable[[Asked], int]) -> Callable[..., int]:
        @wraps(command)
        def by_click(**given: Any) -> int:
            return command(kind(**given))

        for name in reversed(order):
            metadata = declared[name].metadata
            if "parameter" in metadata:
                names = (written(declared[name]), name) if "option" in metadata else (name,)
                by_click = metadata["parameter"](*names)(by_click)
        return by_click

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


def listing(name: str, shown: str) -> Callable[[Callable[[Asks], int]], ShowGroup]:
    """A command of this name that lists; `shown`: an example of what its `show` tells about."""
    lines = ((f"uvmp {name}", ""), (f"uvmp {name} show {shown}", ""))

    def wrap(command: Callable[[Asks], int]) -> ShowGroup:
        @wraps(command)
        def lists(asked: Asks) -> int:
            return command(asked) if click.get_current_context().invoked_subcommand is None else 0

        settings = {"context_settings": SETTINGS, "epilog": examples(*lines)}
        return click.group(name, ShowGroup, invoke_without_command=True, **settings)(asks(Asks)(lists))

    return wrap


def shows(listing: click.Group, kind: type[Asked], shown: str) -> Made[Asked]:
    """The subcommand that describes an entry of the list; `shown`: an example."""
    line = f"uvmp {listing.name} show {shown}"
    made = listing.command("show", context_settings=SETTINGS, epilog=examples((line, "")))
    return lambda command: made(asks(kind)(command))


def called(name: str, kind: type[Asked], *lines: tuple[str, str]) -> Made[Asked]:
    """A command of this name, called with one object of this kind; `lines`: the examples of its --help."""
    made = click.command(name, context_settings=SETTINGS, epilog=examples(*lines))
    return lambda command: made(asks(kind)(command))


def examples(*lines: tuple[str, str]) -> str:
    """The end of a --help: command lines that can be pasted as they are, each with a remark below it.

    TOKEN, RUN and my.yaml stand for what the user has.
    """
    shown = [f"  {line}\n      {remark}" if remark else f"  {line}" for line, remark in lines]
    return "\n".join(["\b", "Examples:", *shown])


def refuse(asked: Asks, why: str, *options: str) -> None:
    """Refuse options, by their fields, that say nothing beside the others.

    Raises: UserMistake - one of them is given.
    """
    for declared in fields(asked):
        value = getattr(asked, declared.name)
        if declared.name in options and value is not None and value is not False and value != ():
            raise UserMistake(why, field=written(declared))
