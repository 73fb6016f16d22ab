"""`python -m cluster.session DIR ASKED OPTIONS`: the process of a machine that `uvmp boot` has started.

The process writes to stdout one line of JSON, which says that the machine is ready, or why not. If the machine has real
processes, this process is their driver, and has a parent that outlives it (cluster/cli/parent.py). Its last words are
in the log.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from cluster import configs
from cluster.cli.boot import BootOptions
from cluster.cli.live import booted
from cluster.cli.output import Output, error_document, say_error
from cluster.cli.parent import run
from cluster.cli.start import upto
from cluster.live.lockstep import Lockstep
from cluster.live.salvage import salvaged
from cluster.postmortem.load import load
from cluster.runs.replay import beginning
from cluster.session.folder import RUN, Writer, read_token
from cluster.session.server import Server
from cluster.session.session import Session
from cluster.signals import restored
from shared.errors import Exit, ProjectBug, UserMistake
from shared.journal.runfile import SCENARIO, scenario_of
from shared.patch import applied, read
from shared.scenario.model import Scenario


def main(folder: str, asked: str, options: str) -> int:
    """Serve the session whose folder `uvmp boot` has made; returns the exit code."""
    out = sys.stdout  # as long as Ray is up, sys.stdout is stderr
    try:
        serve(Path(folder), BootOptions(**json.loads(asked)), json.loads(options))
    except (UserMistake, ProjectBug, OSError, KeyboardInterrupt) as wrong:
        code = Exit.INTERRUPTED if isinstance(wrong, KeyboardInterrupt) else Exit.INFRASTRUCTURE
        code, words = getattr(wrong, "exit", code), str(wrong) or "interrupted"
        print(json.dumps(error_document(words, code, wrong)), file=out, flush=True)
        say_error(words)
        return int(code)
    return Exit.NO_FINDING


def serve(path: Path, asked: BootOptions, options: Sequence[str]) -> None:
    """Serve it until it ends.

    Args:
        options: what `uvmp replay` needs beside the folder.
    """
    with ExitStack() as stack:
        if asked.patch is not None:
            stack.enter_context(applied(read(configs.read(Path(asked.patch), asked.patch), asked.patch)))
        document = json.loads((path / RUN / SCENARIO).read_text(encoding="utf-8"))
        scenario = scenario_of(document)
        out = sys.stdout
        is_live = asked.engine == "live"
        processes = stack.enter_context(live(path / RUN, scenario, document["run"], asked)) if is_live else None
        session = Session(scenario, options, processes)
        if asked.resume is not None:
            begun = beginning(session.scenario, load(asked.resume).journals)
            session.resume(begun if asked.after is None else upto(begun, asked.after))
        server = Server(path, session, Writer(path, session, document["run"]), read_token(path))
        with restored(lambda *_: server.halt()):
            machine = session.machine
            actors = {} if processes is None else processes.machine.actors.pids
            up = {"pid": os.getpid(), "operations": machine.operations, "ended": machine.ended, "actors": actors}
            print(json.dumps(up), file=out, flush=True)
            os.dup2(os.open(os.devnull, os.O_RDWR), out.fileno())
            server.serve()
        if processes is not None and server.signalled:  # perhaps by our parent, because a process of Ray has died
            raise KeyboardInterrupt


@contextmanager
def live(run: Path, scenario: Scenario, identity: str, asked: BootOptions) -> Iterator[Lockstep]:
    """Real processes that perform what the session does; if they do not end as they should, their logs are saved."""
    with booted(Output(), scenario, asked) as machine, salvaged(machine, run):
        yield Lockstep(machine, run, identity)


if __name__ == "__main__":
    run(lambda: main(*sys.argv[1:]))
