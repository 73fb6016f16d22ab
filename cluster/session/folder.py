"""The folder of a session.

    DIR/           0700
    DIR/token      what a client must know
    DIR/socket     where clients come in, as long as the machine runs
    DIR/log        the last words of its process, if it ends with an error
    DIR/run/       the run folder: journals and scenario.json from the beginning, run.json when the session has ended

The journals are written whenever the machine has stopped, before a client is told; those of real processes, by them. A
server that is killed leaves whole lines, and a scenario that has every step of them.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
from collections.abc import Sequence
from contextlib import suppress
from io import FileIO
from pathlib import Path

import msgpack

from cluster.runs.folder import cannot_write, create, identity, receive, versions, write_live, write_scenario, write_sim
from cluster.runs.outcome import Outcome
from cluster.session.session import Session
from nodes.host.private import make_folder, private
from shared.errors import Infrastructure, ProjectBug, UserMistake
from shared.journal.record import Journal, plain
from shared.journal.runfile import SUFFIX
from shared.scenario.model import Scenario
from shared.text import clean, reason

TOKEN, SOCKET, LOG, RUN = "token", "socket", "log", "run"
#: bytes of a Unix socket's name
MAX_NAME = 100


def make(path: Path, scenario: Scenario, options: Sequence[str] = ()) -> str:
    """Make the folder, with what its server starts from; returns the token.

    Args:
        options: what `uvmp replay` needs beside the folder.

    Raises: UserMistake - a session is there already, or the folder cannot be made.
    """
    if os.path.lexists(path):
        raise UserMistake(found_there(path), file=clean(path, 200), field="--session")
    create(path, "--session")
    try:
        token = secrets.token_hex(16)
        with open(path / TOKEN, "x", encoding="ascii", opener=private) as file:
            file.write(token + "\n")
        make_folder(path / RUN)
        write_scenario(path / RUN, scenario, identity(), options)
    except OSError as wrong:
        shutil.rmtree(path, ignore_errors=True)
        raise cannot_write(path, wrong) from None
    except Infrastructure:
        shutil.rmtree(path, ignore_errors=True)
        raise
    return token


def found_there(path: Path) -> str:
    """The reason why a session cannot begin in a folder."""
    if is_alive(path):
        return f"a machine runs in it already; to use it: uvmp attach {clean(path, 200)}"
    if (path / TOKEN).is_file() and (path / RUN).is_dir():
        how = "has ended" if (path / RUN / "run.json").is_file() else "was killed; its journals are in run/"
        return f"the session in it {how}; remove the folder, or give another"
    return "exists already; a session needs a new folder"


def is_alive(path: Path) -> bool:
    """Does a server answer there?"""
    with suppress(OSError, UserMistake), socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(5)
        sock.connect(address(path))
        return True
    return False


def address(path: Path) -> str:
    """The name of the socket, short enough for the system.

    Raises: UserMistake - it is not.
    """
    names = [str(path / SOCKET), os.path.relpath(path / SOCKET)]
    name = min(names, key=lambda text: len(os.fsencode(text)))
    if len(os.fsencode(name)) > MAX_NAME:
        raise UserMistake(f"the name of a session's folder has at most {MAX_NAME - 7} characters", field="--session")
    return name


def read_token(path: Path) -> str:
    """The token of a session whose folder the user may read.

    Raises: UserMistake - there is no session, or no reading it.
    """
    try:
        with open(path / TOKEN, encoding="ascii") as file:
            return file.read(100).strip()
    except FileNotFoundError:
        raise UserMistake("there is no session; uvmp boot starts one", file=clean(path, 200), field="SESSION") from None
    except (OSError, ValueError) as wrong:
        why = clean((getattr(wrong, "strerror", None) or "not a token").lower(), 100)
        raise UserMistake(f"its token cannot be read ({why}); give --token", file=clean(path, 200)) from None


class Writer:
    """Writes a session's run folder as the session goes; real processes write their journals themselves.

    Args:
        path: of the session.
        run: the run's identity, as scenario.json has it.

    Attributes:
        written: node -> how many lines have been taken from its journal; `pending`: what of these is not in the file.
        text: of the scenario, as scenario.json has it.
    """

    def __init__(self, path: Path, session: Session, run: str):
        self.path, self.session, self.run = path / RUN, session, run
        self.files: dict[str, FileIO] = {}
        self.written: dict[str, int] = {}
        self.pending: dict[str, bytes] = {}
        scenario = session.scenario
        for node in session.machine.sim.machine.nodes if session.processes is None else ():
            self.files[node] = FileIO(self.path / f"{node}{SUFFIX}", "x", opener=private)
            self.written[node], self.pending[node] = 0, b""
            Journal(node, self.files[node], keep=False).header(
                run=run, engine="sim", scenario=scenario.id, errata=list(scenario.errata), versions=versions()
            )
        self.text = scenario.text
        self.flush()

    def flush(self) -> None:
        """Write the new records. Records that could not be written are tried again the next time.

        Raises: OSError, Infrastructure - a file cannot be written.
        """
        text = self.session.scenario.text
        if text != self.text:  # the step is there before its operations are
            write_scenario(self.path, self.session.scenario, self.run, self.session.options)
            self.text = text
        for node, tap in self.session.machine.taps.items():
            if node not in self.files:  # the processes have written it
                tap.drop()
                continue
            self.pending[node] += b"".join(tap.lines[self.written[node] - tap.dropped :])
            self.written[node] = tap.drop()
            while self.pending[node]:
                done = self.files[node].write(self.pending[node])
                self.pending[node] = self.pending[node][done:]

    def finish(self) -> Outcome:
        """The session has ended: the run folder is complete.

        Raises: ProjectBug - it could not be completed.
        """
        self.flush()
        for file in self.files.values():
            file.close()
        outcome = self.session.finish()
        write_live(self.path, self.session.scenario, self.run, outcome, self.session.options)
        if outcome.unkept is not None:
            raise outcome.unkept
        return outcome


def save(session: Session, name: str) -> list[str]:
    """Keep the run so far in a folder of its own; of real processes, the journals that they have written.

    Raises: UserMistake - it exists, or cannot be written.
    """
    outcome = session.outcome()
    folder = create(name, "DIR")
    try:
        _save(session, folder, outcome)
    except (OSError, ProjectBug) as wrong:
        shutil.rmtree(folder, ignore_errors=True)
        why = cannot_write(Path(wrong.filename or folder), wrong) if isinstance(wrong, OSError) else wrong
        raise UserMistake(str(why), field="DIR") from None
    return [f"kept: {outcome.operations:,} operations, digest {outcome.digest}"]


def _save(session: Session, folder: Path, outcome: Outcome) -> None:
    """Raises: ProjectBug; OSError."""
    if session.processes is None:
        write_sim(folder, session.scenario, outcome, session.options)
        return
    run = session.processes.save(folder, outcome)
    write_scenario(folder, session.scenario, run, session.options)
    write_live(folder, session.scenario, run, outcome, session.options)
    if outcome.unkept is not None:
        raise outcome.unkept


def snapshot(session: Session, name: str) -> list[str]:
    """Write the state of all nodes, between two operations, into a file; of contexts too.

    Raises: UserMistake - it cannot be written.
    """
    machine = session.machine.sim.machine
    state = machine.state(session.machine.sim.heap)
    document = {
        "schema": "uvmp-snapshot/1",
        "scenario": session.scenario.id,
        "operations": session.machine.operations,
        "contexts": [context._asdict() for context in state.contexts],
        "nodes": {name: _plain(image) for name, image in machine.image().items()},
        "tlbs": {cpu: [tlb.pmap, _plain(tlb.entries)] for cpu, tlb in state.tlbs.items()},
    }
    path = Path(name)
    try:
        packed = name.endswith(".msgpack")
        receive(path, [msgpack.packb(document) if packed else f"{json.dumps(document, indent=1)}\n".encode()])
    except (OSError, ValueError) as wrong:
        raise UserMistake(f"cannot be written: {reason(wrong)}", file=clean(name, 200)) from None
    return [f"the state after {session.machine.operations:,} operations is written"]


def _plain(value: object) -> object:
    """An image as JSON has it."""
    if isinstance(value, dict):
        return {str(key): _plain(element) for key, element in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(element) for element in value]
    if isinstance(value, bytes):
        return value.hex()
    return plain(value)
