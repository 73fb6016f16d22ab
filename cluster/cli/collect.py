"""`uvmp collect`: fetch the journals of a run that stayed on other computers."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from cluster.cli.asking import Asks, address, argument, called
from cluster.cli.documents import End, finish
from cluster.cli.output import Output, pasteable
from cluster.live.elsewhere import places
from shared.errors import Exit, UserMistake
from shared.text import counted


@dataclass(frozen=True, kw_only=True)
class CollectOptions(Asks):
    """The argument and the options of `uvmp collect`."""

    run: str = argument(metavar="RUN")
    address: str | None = address("Default: auto, the cluster of this computer")


@called(
    "collect",
    CollectOptions,
    ("uvmp collect runs/live", "through the cluster that this computer is in"),
    ("uvmp collect runs/live --address 10.9.0.1:6379", ""),
)
def command(asked: CollectOptions) -> int:
    """Fetch the journals of the run in folder RUN that stayed on other computers, through the Ray cluster there.

    Journals stay on another computer if the driver of a run is killed, or an actor dies before its journal is fetched.
    The folder then says where the journals are, and every command can read the folder after they have been fetched. The
    other computer then removes its copies. Exit with 5 if a computer is not in the cluster, with 4 if it does not have
    the journals of this run.
    """
    from cluster.cli.live import check_address, connected
    from cluster.live.collect import Fetched, collect, missing, why
    from cluster.live.hosts import Hosts

    output, run, address = Output(asked.as_json), asked.run, asked.address or "auto"
    if not run:
        raise UserMistake("expected the name of a folder", field="RUN")
    folder = Path(run)
    done: list[Fetched] = []
    if missing(folder):
        check_address(address)
        with connected(output, address) as (ray, _):
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
    return finish(output, "collect", end, facts)
