"""`uvmp postmortem`: explain a run from its logs alone."""

from __future__ import annotations

import os
import shlex

import click

from cluster.cli.options import called, common
from cluster.cli.output import Output, columns, pasteable
from cluster.postmortem import analyse, render, render_object, render_screen
from shared.errors import Exit, UserMistake
from shared.text import fit


@called(
    "postmortem",
    ("uvmp postmortem runs/live", ""),
    ("uvmp postmortem runs/live --full", ""),
    ("uvmp postmortem runs/live --object page:3", "its whole history; or of a lock, as anon:5.an_lock"),
    ("uvmp postmortem runs/live --json", "for tools"),
)
@click.argument("run")
@click.option("--full", is_flag=True, help="All of it: stacks, locks, objects with their histories, the logs' ends.")
@click.option("--object", "name", default="", help="All that is known of one page, anon, amap, object, slot or lock.")
@common
def command(run: str, full: bool, name: str, as_json: bool) -> int:
    """Say what happened in RUN, the folder that --out kept.

    Reads the logs and nothing else, also those of a run that was killed. Exits with 4 if something is missing in them;
    the report is printed all the same and says what. On a terminal, what is longer than that goes through $PAGER.
    """
    output = Output(as_json)
    if not run:
        raise UserMistake("expected the name of a folder", field="RUN")
    found = analyse(run, name)
    width, lines = columns(output.out) or 80, _lines(output)
    if name:
        text = render_object(found, width)
    elif full:
        text = render(found, width)
    else:
        text = render_screen(found, width, pasteable(shlex.join(["uvmp", "postmortem", run, "--full"])))
    if lines and not as_json and text.count("\n") >= lines:
        click.echo_via_pager(fit(text, output.out.encoding))
    else:
        output.say_lines(text.rstrip("\n"))
    code = Exit.NO_FINDING if found.complete else Exit.LOG_INCOMPLETE
    output.result({**found.as_dict(), "exit": int(code)})
    if not found.complete:
        output.note("the log is incomplete; --full says what is missing")
    return code


def _lines(output: Output) -> int:
    """Lines of the terminal that is written to; 0 if it is none."""
    try:
        return os.get_terminal_size(output.out.fileno()).lines if output.out.isatty() else 0
    except (OSError, ValueError):
        return 0
