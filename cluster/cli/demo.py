"""`make demo`: one race from beginning to end, in about a minute.

The demo calls one command after another, as a user would: it searches for the race in this process, repeats the
schedule on real processes, lets the real processes run freely, explains the race from their logs, and searches the
repaired kernel.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from time import monotonic

from cluster import configs
from cluster.cli import SIGPIPE_EXIT, cli, describe
from cluster.cli.output import Output, complain, pasteable
from cluster.cli.parent import run
from shared.errors import Exit

SCENARIO = "S3a-shipped"
RUNS = Path("runs")
#: title and command of each part, with the exit codes of a part that comes out as told; {0}: a folder of the demo's own
PARTS = (
    ("Search: one schedule after another, in one process, without Ray",
     f"uvmp explore {SCENARIO} --expect --out {{0}}/found", (Exit.NO_FINDING,)),
    ("The same schedule on real processes: each is a Ray actor, and they exchange messages",
     "uvmp replay {0}/found --live --expect --out {0}/live", (Exit.NO_FINDING,)),
    ("The real processes, running freely: no strategy chooses their orders",
     f"uvmp run {SCENARIO} --engine live --repeat 5", (Exit.NO_FINDING, Exit.FINDING)),
    ("What happened, from the logs of the live replay alone", "uvmp postmortem {0}/live", (Exit.NO_FINDING,)),
    ("The repaired kernel, under the same search", f"uvmp explore {SCENARIO} --fixed --expect", (Exit.NO_FINDING,)),
)  # fmt: skip


def tell(output: Output) -> int:
    """Tell the story; returns the exit code of the first part that does not come out, or 0."""
    scenario = configs.shipped(SCENARIO)
    output.say(f"{scenario.id}: {scenario.title}", bold=True)
    output.say()
    describe.prose(output, scenario.story)
    folder = free_name()
    for number, (title, command, expected) in enumerate(PARTS, 1):
        line = command.format(folder)
        part(output, f"{number}. {title}", line)
        code = int(cli.main(shlex.split(line)[1:], standalone_mode=False))
        if code not in expected:
            if code not in (Exit.INTERRUPTED, SIGPIPE_EXIT):
                output.say(f"not as expected: exit code {code}", fg="red")
            return code
    return Exit.NO_FINDING


def part(output: Output, title: str, command: str) -> None:
    """The heading of a part."""
    output.say()
    output.say(f"== {title}", bold=True)
    output.command(f"$ {pasteable(command)}", fg="cyan")
    output.say()


def free_name() -> Path:
    """A folder below runs/ that does not exist yet."""
    number = 1
    while (RUNS / f"demo{number}").exists():
        number += 1
    return RUNS / f"demo{number}"


def main() -> int:
    """Tell the story; the exit code says whether it came out."""
    output, began = Output(), monotonic()
    try:
        code = tell(output)
    except KeyboardInterrupt:  # between two commands, as the rest
        return complain([], "interrupted", Exit.INTERRUPTED)
    except BrokenPipeError:
        return SIGPIPE_EXIT
    if code == Exit.NO_FINDING:
        output.say()
        output.say(f"That took {monotonic() - began:.0f} s. Other scenarios:")
        output.command("uvmp scenarios", bold=True)
    return code


if __name__ == "__main__":
    run(main)
