"""`uvmp postmortem`: explain a run from its logs alone."""

from __future__ import annotations

import click

from cluster.cli.options import SETTINGS, common
from cluster.cli.output import Output
from cluster.postmortem import analyse, render
from shared.errors import Exit


@click.command(
    "postmortem",
    context_settings=SETTINGS,
    epilog="""\b
Examples:
  uvmp postmortem runs/mine
  uvmp postmortem runs/mine --json | jq .finding""",
)
@click.argument("run")
@common
def command(run: str, as_json: bool) -> int:
    """Say what happened in RUN, the folder that --out kept.

    Reads the logs and nothing else, also those of a run that was killed. Exits with 4 if something is missing in them;
    the report is printed all the same and says what.
    """
    output = Output(as_json)
    found = analyse(run)
    output.say_lines(render(found).rstrip("\n"))
    code = Exit.NO_FINDING if found.complete else Exit.LOG_INCOMPLETE
    output.result({**found.as_dict(), "exit": int(code)})
    if not found.complete:
        output.note("the log is incomplete; see the report's last part")
    return code
