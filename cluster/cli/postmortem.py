"""`uvmp postmortem`: explain a run from its logs alone."""

from __future__ import annotations

import os
import shlex

import click

from cluster.cli.options import SETTINGS, common
from cluster.cli.output import Output
from cluster.postmortem import analyse, render, render_object, render_screen
from shared.errors import Exit
from shared.text import fit


@click.command(
    "postmortem",
    context_settings=SETTINGS,
    epilog="""\b
Examples:
  uvmp postmortem runs/mine
  uvmp postmortem runs/mine --full
  uvmp postmortem runs/mine --object page:3     its whole history; also a lock, as anon:5.an_lock, or slot:2
  uvmp postmortem runs/mine --json | jq .finding""",
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
    found = analyse(run, name)
    columns, lines = _terminal(output)
    if name:
        text = render_object(found, columns)
    elif full:
        text = render(found, columns)
    else:
        text = render_screen(found, columns, shlex.join(["uvmp", "postmortem", run, "--full"]))
    if lines and not as_json and text.count("\n") >= lines:
        click.echo_via_pager(fit(text, output.out.encoding))
    else:
        output.say_lines(text.rstrip("\n"))
    code = Exit.NO_FINDING if found.complete else Exit.LOG_INCOMPLETE
    output.result({**found.as_dict(), "exit": int(code)})
    if not found.complete:
        output.note("the log is incomplete; see the report's last part")
    return code


def _terminal(output: Output) -> tuple[int, int]:
    """Columns and lines of the terminal that is written to; 80 and 0 if it is none."""
    try:
        size = os.get_terminal_size(output.out.fileno()) if output.out.isatty() else os.terminal_size((80, 0))
    except (OSError, ValueError):
        return 80, 0
    return size.columns, size.lines
