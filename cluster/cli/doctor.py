"""`uvmp doctor`: is everything there?"""

from __future__ import annotations

import click

from cluster.cli.options import called, common
from cluster.cli.output import Output
from cluster.cli.parent import LINK, fork
from cluster.doctor import examine
from shared.errors import Exit

MARKS = {"ok": ("ok  ", "green"), "warning": ("warn", "yellow"), "bad": ("BAD ", "red")}


@called(
    "doctor",
    ("uvmp doctor", ""),
    ("uvmp doctor --ray", "also start and stop a private Ray"),
)
@click.option("--ray", is_flag=True, help="Also start and stop a private Ray; takes some seconds.")
@common
def command(ray: bool, as_json: bool) -> int:
    """Check the installation and this computer. Exit with 5 if a check fails."""
    output = Output(as_json)
    if ray:
        fork(None)
    checks = []
    for check in examine(ray, LINK):
        checks.append(check)
        mark, colour = MARKS[check.state]
        output.marked(mark, f"  {check.name}: {check.found}", fg=colour)
        if check.advice:
            output.say(f"      {check.advice}")
    bad = sum(check.state == "bad" for check in checks)
    output.say(f"{bad} of {len(checks)} checks failed" if bad else "all checks passed")
    code = Exit.INFRASTRUCTURE if bad else Exit.NO_FINDING
    output.result({"checks": [check.as_dict() for check in checks], "exit": int(code)})
    return code
