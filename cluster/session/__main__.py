"""`python -m cluster.session DIR`: the process of a machine that `uvmp boot` has started.

It says on stdout in one line of JSON that it is ready, or why it cannot be, and then nothing more.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import ExitStack
from pathlib import Path

from cluster import configs
from cluster.cli.output import error_document
from cluster.cli.start import upto
from cluster.postmortem.load import load
from cluster.runs.replay import beginning
from cluster.session.folder import RUN, Writer, read_token
from cluster.session.server import Server
from cluster.session.session import Session
from cluster.signals import restored
from shared.errors import Exit, ProjectBug, UserMistake
from shared.journal.runfile import SCENARIO, scenario_of
from shared.patch import applied, read


def main(folder: str, patch: str = "", resume: str = "", after: str = "", *options: str) -> int:
    """Serve the session whose folder `uvmp boot` has made.

    Args:
        patch: file of a patch; "": none.
        resume: folder of a run that the session takes over; "": it begins with nothing. `after`: an operation of that,
            up to which to follow it; "": to the end.
        options: what `uvmp replay` needs beside the folder.
    """
    path = Path(folder)
    with ExitStack() as stack:
        try:
            if patch:
                stack.enter_context(applied(read(configs.read(Path(patch), patch), patch)))
            document = json.loads((path / RUN / SCENARIO).read_text(encoding="utf-8"))
            session = Session(scenario_of(document), options)
            if resume:
                begun = beginning(session.scenario, load(resume).journals)
                session.resume(upto(begun, after) if after else begun)
            server = Server(path, session, Writer(path, session, document["run"]), read_token(path))
        except (UserMistake, ProjectBug, OSError) as wrong:
            code = getattr(wrong, "exit", Exit.INFRASTRUCTURE)
            print(json.dumps(error_document(str(wrong), code, wrong)), flush=True)
            return int(code)
        with restored(lambda *_: server.halt()):
            machine = session.machine
            up = {"pid": os.getpid(), "operations": machine.operations, "ended": machine.ended}
            print(json.dumps(up), flush=True)
            os.dup2(os.open(os.devnull, os.O_RDWR), 1)
            server.serve()
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
