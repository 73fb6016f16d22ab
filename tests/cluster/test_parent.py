"""The parent of a command that uses Ray gives the verdict, however the driver ends. Here the driver plays that."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cluster.live.elsewhere import ELSEWHERE
from shared.errors import Exit
from tests.cluster.test_cli import ROOT

pytestmark = [
    pytest.mark.wide,
    pytest.mark.skipif(sys.platform != "linux", reason="elsewhere, there is no parent"),
]

#: a command whose driver does what `body` says, and the things that it can do
PROGRAM = """
import os, signal, subprocess, sys, time
from pathlib import Path
from cluster import signals
from cluster.cli import parent
from cluster.cli.parent import LINK, fork, run
parent.PATIENCE_S = 0.5

def process(name, command="sleep 60"):
    null = subprocess.DEVNULL
    child = subprocess.Popen(["sh", "-c", command], process_group=0, stdout=null, stderr=null)
    LINK.tell("born", name, child.pid)
    return child

def command():
    fork({address!r})
    print("driver", os.getpid(), flush=True)
    try:
        {body}
    except KeyboardInterrupt:
        print("interrupted", flush=True)
        return 130

run(command)
"""


def start(body: str, address: str | None = None, args: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    program = PROGRAM.format(body=body, address=address)
    return subprocess.Popen(
        [sys.executable, "-c", program, *args], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    )  # fmt: skip


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Exit code, and what is still to be read (communicate() would lose what was read ahead)."""
    assert process.stdout is not None and process.stderr is not None
    with process:
        out, err = process.stdout.read(), process.stderr.read()
    return process.returncode, out, err


def driver_of(process: subprocess.Popen[str]) -> int:
    assert process.stdout is not None
    return int(process.stdout.readline().split()[1])


def gone(pid: int) -> bool:
    """Has it ended? (Who started it may be gone, and its end not be taken notice of.)"""
    until = time.monotonic() + 10
    while time.monotonic() < until:
        try:
            if Path(f"/proc/{pid}/stat").read_text(encoding="ascii").split()[2] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.02)
    return False


@pytest.mark.parametrize("code", [0, 1, 3, 130])
def test_a_driver_that_has_a_verdict_is_believed_even_if_it_then_dies(code: int) -> None:
    assert ended(start(f"return {code}"))[0] == code
    assert ended(start(f"LINK.tell('exit', {code}); os._exit(77)"))[0] == code


@pytest.mark.parametrize(
    ("body", "address", "why"),
    [
        ("os._exit(1)", None, "Ray ended the driver (pid {pid}) and gave no reason; `uvmp doctor --ray` tries Ray"),
        (
            "os.kill(os.getpid(), signal.SIGKILL)",
            None,
            "the driver (pid {pid}) on {host} was killed by signal 9; the system",
        ),
        ("os.abort()", None, "the driver (pid {pid}) on {host} was killed by signal 6; run the command again"),
        ("os._exit(1)", "127.0.0.1:1", "Ray's control store, GCS, at 127.0.0.1:1 died; start the cluster again, then "),
    ],
)
def test_a_driver_that_dies_without_a_verdict_is_an_infrastructure_error(
    body: str, address: str | None, why: str
) -> None:
    """Ray's core ends a driver with exit code 1, which would be a finding."""
    process = start(body, address, ("--json",))
    why = why.format(pid=driver_of(process), host=os.uname().nodename)
    code, out, err = ended(process)
    assert code == Exit.INFRASTRUCTURE and err.startswith(f"uvmp: error: {why}") and err.count("\n") == 1
    told = json.loads(out)["error"]
    assert told["message"].startswith(why) and told["exit"] == 5


def test_a_driver_whose_cluster_answers_was_no_node_of_it() -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as cluster:
        code, _, err = ended(start("os._exit(1)", f"127.0.0.1:{cluster.getsockname()[1]}"))
    assert code == Exit.INFRASTRUCTURE and "is not a node of the cluster at 127.0.0.1:" in err


def test_a_process_of_ray_that_dies_is_told_and_the_driver_asked_to_end() -> None:
    """It can say what it knows; if it cannot, it has so long."""
    body = "p = process('GCS'); process('raylet'); LINK.tell('up'); p.kill(); time.sleep(20)"
    code, out, err = ended(start(body))
    assert code == Exit.INTERRUPTED and "interrupted" in out and err == ""
    for deaf in (f"signals.ignore(); {body}", body.replace("LINK.tell('up'); ", "")):  # or it is still starting
        process = start(deaf)
        code, out, err = ended(process)
        assert code == Exit.INFRASTRUCTURE and "interrupted" not in out
        assert err.startswith("uvmp: error: GCS (pid ") and err.endswith(
            f") on {os.uname().nodename} died; run the command again\n"
        )


def test_a_process_of_a_clusters_ray_is_watched_and_not_ended() -> None:
    """The raylet of this computer: Ray's core would end the driver, and not say why. It is not ours to end."""
    first = "'`ray start --address h:1` starts it again'"
    body = "import subprocess; p, q = (subprocess.Popen(['sleep', '60']) for _ in range(2)); LINK.tell('at', 'h:1')"
    body += f"; [LINK.tell('joined', name, each.pid, {first}) for name, each in (('raylet', p), ('GCS', q))]"
    body += "; print(q.pid, flush=True); LINK.tell('up'); signals.ignore(); p.kill(); time.sleep(20)"
    process = start(body, "auto")
    driver_of(process)
    assert process.stdout is not None
    other = int(process.stdout.readline())
    code, _, err = ended(process)
    what = f"on {os.uname().nodename} died; {first[1:-1]}, then run the command again"
    assert code == Exit.INFRASTRUCTURE and re.fullmatch(rf"uvmp: error: raylet \(pid \d+\) {what}\n", err)
    os.kill(other, signal.SIGKILL)


def test_what_ends_because_ray_ends_has_not_died() -> None:
    body = "p = process('GCS'); LINK.tell('up'); LINK.tell('over'); p.kill(); p.wait(); time.sleep(0.3); return 0"
    assert ended(start(body))[0] == 0
    again = (
        "p = process('GCS'); p.kill(); p.wait(); time.sleep(0.2); LINK.tell('over'); process('GCS'); LINK.tell('up')"
    )
    assert ended(start(f"{again}; time.sleep(0.8); return 0"))[0] == 0, "it was started once more"


def test_nothing_is_left_of_a_driver_that_is_killed(tmp_path: Path) -> None:
    """No process, also none that a process of Ray has started, and no file; the logs are, and it is said where."""
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "file").touch()
    (tmp_path / "my logs").mkdir()
    place = {"host": "far", "node": "1", "path": "/tmp/uvmp-1/mmu.uvmp.jsonl"}
    (tmp_path / "my logs" / ELSEWHERE).write_text(json.dumps({"mmu": place}), encoding="utf-8")
    body = (
        f"process('raylet', 'sleep 60 & echo $! > {tmp_path}/pid; wait'); LINK.tell('made', '{tmp_path}/ray')"
        f"; LINK.tell('keeps', '{tmp_path}/my logs'); LINK.tell('up'); print('ready', flush=True); time.sleep(20)"
    )
    process = start(body)
    driver = driver_of(process)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    below = tmp_path / "pid"
    while not (below.exists() and below.read_text(encoding="ascii").endswith("\n")):
        time.sleep(0.01)
    os.kill(driver, signal.SIGKILL)
    code, _, err = ended(process)
    assert code == Exit.INFRASTRUCTURE and f"see: uvmp postmortem '{tmp_path}/my logs'\n" in err
    assert f"the driver (pid {driver}) on {os.uname().nodename} was killed by signal 9" in err
    assert "the journal of mmu stays on far: /tmp/uvmp-1/mmu.uvmp.jsonl\n" in err
    assert f"; `uvmp collect '{tmp_path}/my logs'` fetches the journals that stay on far, then `uvmp run --" in err
    assert gone(int(below.read_text(encoding="ascii"))) and not (tmp_path / "ray").exists()


@pytest.mark.parametrize("to", ["parent", "group"])
@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda by: by.name)
def test_a_signal_reaches_the_driver_once(by: signal.Signals, to: str) -> None:
    """Also if a terminal, or timeout(1), sends it to the driver too."""
    body = """
        try: print("ready", flush=True); time.sleep(20)
        except KeyboardInterrupt:
            print("cleans up", flush=True); time.sleep(0.4); print("clean", flush=True); return 130
"""
    process = start(f"pass{body}".replace("pass", "if True: pass", 1))
    driver_of(process)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    send: Callable[[int, int], Any] = os.kill if to == "parent" else os.killpg
    send(process.pid, by)
    code, out, err = ended(process)
    assert (code, out, err) == (Exit.INTERRUPTED, "cleans up\nclean\n", "")


def test_a_driver_whose_handler_is_gone_is_interrupted_all_the_same() -> None:
    """Ray's core takes it away as it ends. A second signal then ends the driver, and no process of Ray has died."""
    process = start("signal.signal(signal.SIGTERM, signal.SIG_DFL); print('ready', flush=True); time.sleep(20)")
    driver = driver_of(process)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    code, _, err = ended(process)
    assert (code, err) == (Exit.INTERRUPTED, "") and gone(driver)


CORE = "signal.signal(signal.SIGTERM, lambda *_: os.abort())"


@pytest.mark.parametrize("to", ["parent", "group"])
@pytest.mark.parametrize("body", ["signals.ignore()", CORE], ids=["deaf", "crashes"])
def test_a_driver_that_connects_to_a_cluster_is_killed(body: str, to: str) -> None:
    """Ray's core may wait a minute for a silent node, and ends with signal 6 at SIGTERM."""
    process = start(f"{body}; print('ready', flush=True); time.sleep(20)", "127.0.0.1:1", ("--json",))
    driver = driver_of(process)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    send: Callable[[int, int], Any] = os.kill if to == "parent" else os.killpg
    send(process.pid, signal.SIGTERM)
    code, out, err = ended(process)
    assert (code, err) == (Exit.INTERRUPTED, "uvmp: interrupted\n") and gone(driver)
    assert json.loads(out)["error"]["exit"] == Exit.INTERRUPTED


def test_a_signal_that_ends_the_driver_before_the_parent_has_heard_of_it_is_one_all_the_same(tmp_path: Path) -> None:
    """It goes to both, and which of the two hears of it first is chance."""
    now = tmp_path / "now"
    os.mkfifo(now)
    body = f"print('ready', flush=True); open('{now}').close(); os.kill(os.getpid(), signal.SIGABRT)"
    for late in (True, False):
        process = start(body, "127.0.0.1:1", ("--json",))
        driver = driver_of(process)
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        if late:
            os.kill(process.pid, signal.SIGSTOP)
        now.write_bytes(b"")  # (the driver waits for it)
        if late:
            while Path(f"/proc/{driver}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()[0] != "Z":
                time.sleep(0.01)
            os.kill(process.pid, signal.SIGTERM)
            os.kill(process.pid, signal.SIGCONT)
        code, _, err = ended(process)
        assert (code, "interrupted" in err) == ((Exit.INTERRUPTED, True) if late else (Exit.INFRASTRUCTURE, False))


def test_a_driver_that_has_connected_is_asked_to_end() -> None:
    """It ends its actors, and says what it has done."""
    process = start("LINK.tell('up'); print('ready', flush=True); time.sleep(20)", "127.0.0.1:1")
    driver_of(process)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    assert ended(process) == (Exit.INTERRUPTED, "interrupted\n", "")


def test_no_signal_is_passed_on_to_a_driver_that_ends_ray() -> None:
    """It would be killed, and could not say what it has done."""
    body = (
        "LINK.tell('over'); signal.signal(signal.SIGTERM, signal.SIG_DFL); print('ready', flush=True); time.sleep(0.5)"
    )
    process = start(f"{body}; print('told', flush=True); return 1")
    driver_of(process)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    assert ended(process) == (1, "told\n", "")


def test_a_signal_is_kept_until_ray_is_started_again() -> None:
    body = "LINK.tell('over'); print('ready', flush=True); time.sleep(0.5); process('GCS'); time.sleep(20)"
    process = start(body)
    driver_of(process)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    assert ended(process) == (Exit.INTERRUPTED, "interrupted\n", "")


def test_a_driver_ends_with_its_parent() -> None:
    process = start("print('ready', flush=True); time.sleep(20)")
    driver = driver_of(process)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    process.kill()
    assert gone(driver)
    assert "interrupted" in ended(process)[1]


def test_a_bug_is_no_finding_even_when_its_traceback_is_shown() -> None:
    code, _, err = ended(start("1 / 0"))
    assert code == Exit.INFRASTRUCTURE and "ZeroDivisionError" in err
