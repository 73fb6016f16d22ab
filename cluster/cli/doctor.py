"""`uvmp doctor`: is everything there?"""

from __future__ import annotations

import click

from cluster.cli.options import address_option, called, common
from cluster.cli.output import Output
from cluster.cli.parent import LINK, fork
from cluster.doctor import examine
from shared.errors import Exit, UserMistake

MARKS = {"ok": ("ok  ", "green"), "warning": ("warn", "yellow"), "bad": ("BAD ", "red")}


@called(
    "doctor",
    ("uvmp doctor", ""),
    ("uvmp doctor --ray", "also start and stop a private Ray"),
    ("uvmp doctor --address auto", "also compare all hosts of a cluster"),
)
@address_option("Also compare its hosts with this computer")
@click.option("--ray", is_flag=True, help="Also start and stop a private Ray; takes some seconds.")
@common
def command(ray: bool, address: str | None, as_json: bool) -> int:
    """Check the installation and this computer. Exit with 5 if a check fails."""
    if ray and address is not None:
        raise UserMistake("starts a private Ray, so it is only without --address", field="--ray")
    output = Output(as_json)
    if ray or address is not None:
        fork(address)
    checks = []
    for check in examine(ray, LINK, address):
        checks.append(check)
        mark, colour = MARKS[check.state]
        output.marked(mark, f"  {check.name}: {check.actual}", fg=colour)
        if check.advice:
            output.say(f"      {check.advice}")
    bad = sum(check.state == "bad" for check in checks)
    output.say(f"{bad} of {len(checks)} checks failed" if bad else "all checks passed")
    code = Exit.INFRASTRUCTURE if bad else Exit.NO_FINDING
    output.result({"checks": [check.as_dict() for check in checks], "exit": int(code)})
    return code
