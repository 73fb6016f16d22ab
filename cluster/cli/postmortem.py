"""`uvmp postmortem`: explain a run from its logs alone."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass

import click

from cluster.cli.asking import Asks, argument, called, flag, option
from cluster.cli.output import Output, columns, pasteable
from cluster.live.elsewhere import left
from cluster.postmortem.analyse import analyse
from cluster.postmortem.views.screen import render_screen
from cluster.postmortem.views.text import render, render_object
from shared.errors import Exit, UserMistake
from shared.text import fit


@dataclass(frozen=True, kw_only=True)
class PostmortemOptions(Asks):
    """The argument and the options of `uvmp postmortem`."""

    run: str = argument()
    full: bool = flag("Show everything: stacks, locks, objects with their histories, last records.")
    object: str = option("Show everything about one page, anon, amap, object, slot or lock.", default="")


@called(
    "postmortem",
    PostmortemOptions,
    ("uvmp postmortem runs/live", ""),
    ("uvmp postmortem runs/live --full", ""),
    ("uvmp postmortem runs/live --object page:3", "show the history of page 3"),
    ("uvmp postmortem runs/live --json", ""),
)
def command(asked: PostmortemOptions) -> int:
    """Explain the run in folder RUN, which --out kept.

    The command reads only the logs, also those of a run that was killed. If records are missing, the command prints
    the report nevertheless, names the gaps, and exits with 4. Text that is longer than the terminal goes through
    $PAGER.
    """
    output, run, name = Output(asked.as_json), asked.run, asked.object
    if not run:
        raise UserMistake("expected the name of a folder", field="RUN")
    report = analyse(run, name)
    width, lines = columns(output.out) or 80, _lines(output)
    if name:
        text = render_object(report, width)
    elif asked.full:
        text = render(report, width)
    else:
        text = render_screen(report, width, pasteable(shlex.join(["uvmp", "postmortem", run, "--full"])))
    if lines and not asked.as_json and text.count("\n") >= lines:
        click.echo_via_pager(fit(text, output.out.encoding))
    else:
        output.say_lines(text.rstrip("\n"))
    code = Exit.NO_FINDING if report.complete else Exit.LOG_INCOMPLETE
    output.result({**report.as_dict(), "exit": int(code)})
    if not report.complete:
        output.note("the log is incomplete; --full says what is missing")
        for line in left(run, pasteable):
            output.note(line)
    return code


def _lines(output: Output) -> int:
    """Lines of the terminal that is written to; 0 if it is none."""
    try:
        return os.get_terminal_size(output.out.fileno()).lines if output.out.isatty() else 0
    except (OSError, ValueError):
        return 0
