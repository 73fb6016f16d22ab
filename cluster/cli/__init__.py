"""The command `uvmp`: one module for each of its commands.

Rules for this package:

- The result goes to stdout, remarks go to stderr. With --json, stdout has one
  JSON document and nothing else.
- A command returns its exit code, see `shared.errors.Exit`.
- A module is imported when its command is used, and Ray only for what runs live.
- A command checks all input of the user before anything starts.
- A user never sees a traceback: `Commands.main` reports every error.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NoReturn

import click

from shared.errors import Exit, ProjectBug, UserMistake

#: command -> what `uvmp --help` says of it, so that this needs none of them
COMMANDS = {
    "run": "Run a scenario once or repeatedly, in this process or on real processes.",
    "explore": "Search for a schedule with a finding.",
    "fuzz": "Search for defects with random programs.",
    "replay": "Repeat a schedule exactly.",
    "boot": "Start a machine that stays, stopped before its first operation.",
    "attach": "Use a machine that stays: step, look, add steps.",
    "minimize": "Shorten a schedule, and show which operations its finding needs.",
    "postmortem": "Explain a run from its logs.",
    "collect": "Fetch journals of a run from other computers.",
    "scenarios": "List the scenarios, or show a scenario.",
    "steps": "List the steps of scenarios, or describe a step.",
    "schema": "Print the JSON Schema of scenario files, for editors.",
    "measure": "Measure speeds, and how soon searches find defects.",
    "errata": "List the defects that can be switched on, or describe a defect.",
    "doctor": "Check the installation and this computer.",
}
EPILOG = """\b
Examples:
  uvmp explore S3a-shipped
      find a race, and print a command that repeats it
  uvmp replay TOKEN
      repeat that schedule
  uvmp replay TOKEN --live
      repeat that schedule on real processes

Exit codes: 0 no finding, 1 finding (with --expect: 0 if the scenario's
expectation holds, else 1), 2 usage, 3 diverged, 4 log incomplete,
5 infrastructure, 130 interrupted."""
SIGPIPE_EXIT = 141


class Commands(click.Group):
    """The group of all commands; ends every error in one line and an exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"cluster.cli.{cmd_name}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            from shared.scenario.yaml import meant, show

            ctx.fail(f"there is no command {show(args[0])}{meant(args[0], COMMANDS)}; known: {', '.join(COMMANDS)}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: object,
    ) -> Any:
        given = sys.argv[1:] if args is None else list(args)
        code = self._guarded(given, prog_name or "uvmp", complete_var, extra)
        if standalone_mode:
            sys.exit(code)
        return code

    def _guarded(self, args: list[str], prog_name: str, complete_var: str | None, extra: dict[str, object]) -> int:
        from cluster.cli.output import complain

        try:
            code = super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
            return int(code or 0)
        except (click.Abort, KeyboardInterrupt):  # the latter outside of what click watches
            return complain(args, "interrupted", Exit.INTERRUPTED)
        except click.ClickException as mistake:
            ctx = getattr(mistake, "ctx", None)
            if isinstance(mistake, click.exceptions.NoArgsIsHelpError):
                mistake.show()
                return Exit.USAGE
            hint = f"{ctx.command_path} --help" if ctx is not None else ""
            return complain(args, _sentence(mistake.format_message()), Exit.USAGE, hint=hint)
        except (UserMistake, ProjectBug) as error:
            _reraise_if_debugging(args, error)
            return complain(args, str(error), error.exit, error)
        except OSError as error:
            _reraise_if_debugging(args, error)
            where = f"{error.filename}: " if error.filename else ""
            return complain(args, f"{where}{error.strerror or error}", Exit.INFRASTRUCTURE, error)
        except MemoryError:
            return complain(args, "not enough memory", Exit.INFRASTRUCTURE)
        except SystemExit as leaving:  # click: the reader of our output has gone
            return leaving.code if isinstance(leaving.code, int) and leaving.code != 1 else SIGPIPE_EXIT
        except Exception as error:
            _reraise_if_debugging(args, error)
            bug = f"a bug in uvmp: {type(error).__name__}: {error} (--debug shows the traceback)"
            return complain(args, bug, Exit.INFRASTRUCTURE, error)


def _reraise_if_debugging(args: list[str], error: Exception) -> None:
    if "--debug" in args:
        raise error


def _sentence(message: str) -> str:
    """Click's complaint in the manner of ours: `field: what is wrong`, without a capital or a full stop."""
    message = " ".join(message.split()).rstrip(".")
    return message[:1].lower() + message[1:] if message[1:2].islower() else message


def _version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        from importlib.metadata import PackageNotFoundError, version

        from shared import FORM

        try:
            click.echo(f"uvmp {version('uvmp')}")
        except PackageNotFoundError:
            click.echo("uvmp (not installed: run from its source folder)")
        click.echo(f"form: {FORM.name} ({FORM.why})")
        ctx.exit()


@click.command(
    cls=Commands, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Show the version and exit."
)
@click.option("--debug", is_flag=True, expose_value=False, help="Show the traceback of an error.")
def cli() -> None:
    """Run NetBSD's UVM of 2001 as a set of processes; find its races, replay them, explain them."""


def main() -> NoReturn:
    """What the script `uvmp` calls, when it has seen that this package is ours (uvmp.py)."""
    from cluster.cli.parent import run

    run(lambda: cli.main(standalone_mode=False))
