"""`uvmp doctor`: is everything there?"""

from __future__ import annotations

from dataclasses import dataclass

from cluster.cli.asking import Asks, address, called, flag
from cluster.cli.output import Output
from cluster.cli.parent import LINK, fork
from cluster.doctor import examine
from shared.errors import Exit, UserMistake

MARKS = {"ok": ("ok  ", "green"), "warning": ("warn", "yellow"), "bad": ("BAD ", "red")}


@dataclass(frozen=True, kw_only=True)
class DoctorOptions(Asks):
    """The options of `uvmp doctor`."""

    ray: bool = flag("Also start and stop a private Ray; takes some seconds.")
    address: str | None = address("Also compare its hosts with this computer")


@called(
    "doctor",
    DoctorOptions,
    ("uvmp doctor", ""),
    ("uvmp doctor --ray", "also start and stop a private Ray"),
    ("uvmp doctor --address auto", "also compare all hosts of a cluster"),
)
def command(asked: DoctorOptions) -> int:
    """Check the installation and this computer. Exit with 5 if a check fails."""
    ray, address = asked.ray, asked.address
    if ray and address is not None:
        raise UserMistake("starts a private Ray, so it is only without --address", field="--ray")
    output = Output(asked.as_json)
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
