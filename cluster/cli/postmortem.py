"""`uvmp postmortem`: explain a run from its logs alone."""

from __future__ import annotations

import os
import shlex

import click

from cluster.cli.options import called, common
from cluster.cli.output import Output, columns, pasteable
from cluster.live.elsewhere import left
from cluster.postmortem.analyse import analyse
from cluster.postmortem.views.screen import render_screen
from cluster.postmortem.views.text import render, render_object
from shared.errors import Exit, UserMistake
from shared.text import fit


@called(
    "postmortem",
    ("uvmp postmortem runs/live", ""),
    ("uvmp postmortem runs/live --full", ""),
    ("uvmp postmortem runs/live --object page:3", "show the history of page 3"),
    ("uvmp postmortem runs/live --json", ""),
)
@click.argument("run")
@click.option(
    "--full", is_flag=True, help="Show everything: stacks, locks, objects with their histories, last records."
)
@click.option("--object", "name", default="", help="Show everything about one page, anon, amap, object, slot or lock.")
@common
def command(run: str, full: bool, name: str, as_json: bool) -> int:
    """Explain the run in folder RUN, which --out kept.

    The command reads only the logs, also those of a run that was killed. If records are missing, the command prints
    the report nevertheless, names the gaps, and exits with 4. Text that is longer than the terminal goes through
    $PAGER.
    """
    output = Output(as_json)
    if not run:
        raise UserMistake("expected the name of a folder", field="RUN")
    report = analyse(run, name)
    width, lines = columns(output.out) or 80, _lines(output)
    if name:
        text = render_object(report, width)
    elif full:
        text = render(report, width)
    else:
        text = render_screen(report, width, pasteable(shlex.join(["uvmp", "postmortem", run, "--full"])))
    if lines and not as_json and text.count("\n") >= lines:
        click.echo_via_pager(fit(text, output.out.encoding))
    else:
        output.say_lines(text.rstrip("\n"))
    code = Exit.NO_FINDING if report.complete else Exit.LOG_INCOMPLETE
    output.result({**report.as_dict(), "exit": int(code)})
    if not report.complete:
        output.note("the log is incomplete; --full says what is missing")
        for line in left(run):
            output.note(line)
    return code


def _lines(output: Output) -> int:
    """Lines of the terminal that is written to; 0 if it is none."""
    try:
        return os.get_terminal_size(output.out.fileno()).lines if output.out.isatty() else 0
    except (OSError, ValueError):
        return 0
