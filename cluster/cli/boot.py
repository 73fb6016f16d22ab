"""`uvmp boot`: start a machine that stays."""

from __future__ import annotations

import json
import os
import re
import select
import shlex
import signal
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click

from cluster import configs
from cluster.cli import describe
from cluster.cli.asking import argument, called, option
from cluster.cli.documents import of_patch
from cluster.cli.options import Chosen, LiveOptions, apply, choose, refuse_live_options
from cluster.cli.output import Output
from shared.errors import Exit, ProjectBug, UserMistake
from shared.scenario.load import ID_FORM, load_scenario
from shared.scenario.machine import load_machine
from shared.scenario.yaml import parse
from shared.text import clean, counted

#: where a session is, if its user does not say; seconds in which a machine boots
SESSION, BOOT_S = "uvmp.session", 120
#: the same with real processes, which Ray starts; and seconds in which these end
LIVE_S, END_S = 180, 60
#: a scenario of a machine alone: a process on each CPU, which waits for steps
MACHINE = """\
id: {ident}
machine: {machine}
setup:
{processes}
programs:
{programs}
"""


@dataclass(frozen=True, kw_only=True)
class BootOptions(LiveOptions):
    """The argument and the options of `uvmp boot`.

    Attributes:
        what: None: with `resume`.
    """

    what: str | None = argument(metavar="SCENARIO|MACHINE", required=False)
    engine: str = option(
        "sim: in one process; live: Ray actors follow it, and are compared at each stop.",
        type=click.Choice(["sim", "live"]), default="sim", show_default=True,
    )  # fmt: skip
    session: str = option(
        "The folder of the session, which must not exist yet.", metavar="DIR", default=SESSION, show_default=True
    )
    resume: str | None = option(
        "Take over the run of this folder, also of real processes, at its last consistent cut.", metavar="RUN"
    )
    after: str | None = option("With --resume: stop behind operation N of this context.", metavar="CONTEXT:N")


@called(
    "boot",
    BootOptions,
    ("uvmp boot laptop", "start a machine with a process on each CPU"),
    ("uvmp boot S3a-shipped --session s3a", "start the machine of a scenario"),
    ("uvmp attach s3a", "use it"),
    ("uvmp boot laptop --engine live", "the same, with real processes that follow each step"),
    ("uvmp boot --resume runs/live --session taken", "take over a run of real processes"),
)
def command(asked: BootOptions) -> int:
    """Start a machine that stays, stopped before its first operation, in a process of its own.

    `uvmp attach` lets the machine continue, looks at the machine, and adds steps to its programs. The session's folder
    has the socket, the token that a client must know, and in run/ the journals, which `uvmp replay` repeats when the
    session has ended. A session has at most 200,000 operations unless --operations or the scenario says otherwise.

    With --engine live, the machine has real processes too. Whenever the machine of sim stops, they perform the same
    operations, and wait; their journals and the state of every node and context must then be equal, or the session
    ends. What `uvmp attach` shows is read from sim. A process that dies ends the session with exit code 5.

    --resume takes over a run of real processes that has ended, was interrupted or killed, and `uvmp run --resume
    DIR/run --engine live` lets real processes continue freely where the session stands.
    """
    from cluster.session.folder import make
    from cluster.session.session import opened

    output = Output(asked.as_json)
    if asked.engine == "sim":
        refuse_live_options("--engine live", asked)
    chosen = _choose(asked) if asked.resume is None else _taken_over(output, asked, asked.resume)
    scenario = opened(chosen.scenario)
    path = Path(asked.session)
    if not asked.session:
        raise UserMistake("expected the name of a folder", field="--session")
    describe.introduce(output, scenario)
    if asked.engine == "live":
        from cluster.cli.live import check

        check(asked, scenario)
        output.note("starting real processes ...")
    token = make(path, scenario, chosen.options)
    up = _start(path, chosen, asked)
    line = shlex.join(["uvmp", "attach", *([asked.session] if asked.session != SESSION else [])])
    where = f"after {counted(up['operations'], 'operation')}" if up["operations"] else "before its first operation"
    state = "ended, and can be looked at, " if up["ended"] else "stopped "
    output.say(f"the machine of {scenario.id} is up, {state}{where}")
    if up["actors"]:
        pids = ", ".join(f"{name} (pid {pid})" for name, pid in up["actors"].items())
        output.say(f"{counted(len(up['actors']), 'actor')}: {pids}")
    output.say(f"token {token}")
    output.replay_line(line, "to use it:")
    about = {"command": "boot", "scenario": scenario.id, **of_patch()}
    document = {**about, "session": str(path), "token": token, **up, "attach": line}
    return output.end({**document, "exit": int(Exit.NO_FINDING)}, Exit.NO_FINDING)


def _choose(asked: BootOptions) -> Chosen:
    """The scenario, or that of the machine, as the user wants it.

    Raises: UserMistake.
    """
    name = asked.what
    if name is None:
        raise click.UsageError("missing argument 'SCENARIO|MACHINE'")
    if asked.after is not None:
        raise UserMistake("is only for --resume", field="--after")
    is_machine = name in configs.names("machines")
    if configs.is_path(name):
        keys = parse(configs.read(Path(name), name), name).data
        is_machine = isinstance(keys, dict) and "cpus" in keys and "programs" not in keys
    if not is_machine:
        return choose(name, asked)
    machine = load_machine(*configs.machine(name))
    names = [f"P{number}" for number in range(machine.cpus)]
    stem = Path(name).stem
    text = MACHINE.format(
        ident=stem if re.fullmatch(ID_FORM, stem) else "machine", machine=json.dumps(name),
        processes="\n".join(f"  - process: {{as: {process}, cpu: {cpu}}}" for cpu, process in enumerate(names)),
        programs="\n".join(f"  {process}: [{{pause: {{}}}}]" for process in names),
    )  # fmt: skip
    return apply(load_scenario(text, name, configs.machine), (), asked)


def _taken_over(output: Output, asked: BootOptions, run: str) -> Chosen:
    """The scenario of a run that is taken over.

    Raises: UserMistake, LogIncomplete - it cannot be.
    """
    from cluster.cli.start import start_of

    if asked.what is not None:
        raise UserMistake("cannot be given with --resume, whose folder has its scenario", field="SCENARIO")
    return start_of(output, run, asked, asked.after).chosen


def _start(path: Path, chosen: Chosen, asked: BootOptions) -> dict[str, Any]:
    """Start the process of the machine; returns its id when it is up, how many operations it has performed, and if it
    has ended.

    Raises: UserMistake, ProjectBug - it does not come up; its folder is removed.
    """
    import shutil

    from cluster.session.folder import LOG
    from nodes.host.private import private

    arguments = [str(path), json.dumps(asdict(asked)), json.dumps(chosen.options)]
    with open(path / LOG, "wb", opener=private) as log:
        server = subprocess.Popen(
            [sys.executable, *(["-P"] if sys.flags.safe_path else []), "-m", "cluster.session", *arguments],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, start_new_session=True,
        )  # fmt: skip
    assert server.stdout is not None
    try:
        ready = bool(select.select([server.stdout], [], [], LIVE_S if asked.engine == "live" else BOOT_S)[0])
        line = server.stdout.readline() if ready else b""
        answer = json.loads(line) if line else {}
        if "pid" in answer:
            server.returncode = 0  # it is not waited for: it outlives this command
            return dict(answer)
    finally:
        server.stdout.close()
        if server.returncode is None:
            _end(server)
            written = (path / LOG).read_text(encoding="utf-8", errors="replace").strip().splitlines()
            shutil.rmtree(path, ignore_errors=True)
    message = clean(answer.get("message", ""), 500)
    if answer.get("exit") == Exit.USAGE:
        raise UserMistake(message)
    last = clean(written[-1], 500) if written else "no answer"
    wrong = ProjectBug(f"the machine does not come up: {message or last}")
    wrong.exit = Exit(answer.get("exit", Exit.INFRASTRUCTURE))
    raise wrong


def _end(server: subprocess.Popen[bytes]) -> None:
    """End the process of a machine that does not come up, and real processes that it has started."""
    server.terminate()
    try:
        server.wait(END_S)
    except subprocess.TimeoutExpired:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()
