"""`uvmp collect`: fetch the journals of a run that stayed on other computers."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from cluster.cli.documents import End, document, of_end
from cluster.cli.options import address_option, called, common
from cluster.cli.output import Output, pasteable
from cluster.live.elsewhere import places
from shared.errors import Exit, UserMistake
from shared.text import counted


@called(
    "collect",
    ("uvmp collect runs/live", "through the cluster that this computer is in"),
    ("uvmp collect runs/live --address 10.9.0.1:6379", ""),
)
@click.argument("run", metavar="RUN")
@address_option("Default: auto, the cluster of this computer")
@common
def command(run: str, address: str | None, as_json: bool) -> int:
    """Fetch the journals of the run in folder RUN that stayed on other computers, through the Ray cluster there.

    Journals stay on another computer if the driver of a run is killed, or an actor dies before its journal is fetched.
    The folder then says where the journals are, and every command can read the folder after they have been fetched. The
    other computer then removes its copies. Exit with 5 if a computer is not in the cluster, with 4 if it does not have
    the journals of this run.
    """
    from cluster.cli.live import check_address, connected
    from cluster.live.collect import Fetched, collect, missing, why
    from cluster.live.hosts import Hosts

    output = Output(as_json)
    if not run:
        raise UserMistake("expected the name of a folder", field="RUN")
    folder = Path(run)
    done: list[Fetched] = []
    if missing(folder):
        check_address(address or "auto")
        with connected(output, address or "auto") as (ray, _):
            for journal in collect(folder, Hosts(ray)):
                done.append(journal)
                if journal.failed is None:
                    output.say(f"{journal.node}: {counted(journal.size, 'byte')} from {journal.host}")
    else:
        output.say("no journal of this run is on another computer")
    failed = [journal for journal in done if journal.failed is not None]
    if done and not failed:
        output.note(f"to explain the run: {pasteable(shlex.join(['uvmp', 'postmortem', run]))}")
    end = End(Exit.NO_FINDING, failed=why(failed) if failed else None)
    facts = {
        "out": run,
        "collected": {
            journal.node: {"host": journal.host, "bytes": journal.size} for journal in done if journal.failed is None
        },
        "left": {node: {"host": place.host, "path": place.path} for node, place in places(folder).items()},
    }
    return output.end(document("collect", facts, of_end(end)), end.code, end.failed)
