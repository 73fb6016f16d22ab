"""Who is let into a Ray cluster, what a private Ray listens on, and what `uvmp doctor` says of a cluster's hosts."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import cluster.live.actors
import cluster.live.knock
from cluster.live.knock import knock
from shared.errors import Infrastructure, UserMistake
from tests.kit import scenario, uvmp


@pytest.fixture
def address(ray_session: Any) -> str:
    """Of the tests' own Ray."""
    return str(ray_session.get_runtime_context().gcs_address)


@pytest.mark.live
def test_who_has_the_token_and_a_node_of_the_cluster_is_let_in(address: str) -> None:
    knock(address, "uvmp run")


@pytest.mark.live
def test_a_second_driver_finds_a_ray_that_listens_on_loopback_alone(address: str) -> None:
    """Ray alone would look for it at another address of this computer, without end."""
    assert address.startswith("127.0.0.1:")
    command = [sys.executable, "-m", "cluster.cli", "run", "S4", "--fixed", "--engine", "live", "--address", address]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0 and "equal in sim" in done.stdout, done.stderr


@pytest.mark.live
@pytest.mark.parametrize(
    ("mode", "token", "why"),
    [
        ("token", "0" * 64, r"the Ray cluster at \S+ refuses our token \(RAY_AUTH_TOKEN, "),
        ("token", None, r"RAY_AUTH_MODE is token, but there is no token: set RAY_AUTH_TOKEN, "),
        ("disabled", None, r"the Ray cluster at \S+ wants a token: RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN, "),
    ],
)
def test_who_has_no_token_or_a_wrong_one_is_told_so(
    mode: str, token: str | None, why: str, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray alone would try for 20 s, write a line for each attempt, and say that it failed; or end the process."""
    monkeypatch.setenv("RAY_AUTH_MODE", mode)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("RAY_AUTH_TOKEN")
    if token is not None:
        monkeypatch.setenv("RAY_AUTH_TOKEN", token)
    result = uvmp("run", "S4", "--engine", "live", "--address", address)
    assert result.exit_code == 2
    assert re.fullmatch(rf"S4: .*\nuvmp: error: --address: {why}.*\n", result.stderr), result.stderr


@pytest.mark.live
def test_a_computer_that_is_no_node_is_told_what_to_do_instead(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray alone would look for a node here for a minute."""
    monkeypatch.setattr(cluster.live.knock, "_is_ours", lambda ip: False)
    with pytest.raises(
        UserMistake, match=r"submit .*: ray job submit --address http://127.0.0.1:8265 -- uvmp run \.\.\. "
    ):
        knock(address, "uvmp run")


def test_an_address_is_ours_if_a_socket_can_have_it() -> None:
    assert cluster.live.knock._is_ours("127.0.0.1")
    assert not cluster.live.knock._is_ours("192.0.2.200")  # (for documentation)


def test_a_port_of_something_else_is_no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray alone would wait for it for 40 s."""
    monkeypatch.setattr(cluster.live.knock, "ANSWER_S", 0.5)
    server = socket.create_server(("127.0.0.1", 0))
    with server, pytest.raises(Infrastructure, match=r"no Ray answers at 127\.0\.0\.1:"):
        knock(f"127.0.0.1:{server.getsockname()[1]}", "uvmp run")


def test_a_process_that_ray_ends_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    """As its C++ core does, which says the reason first and then much else."""
    ended = subprocess.CompletedProcess([], -6, "", "\nCheck failed: no token\n*** StackTrace Information ***\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: ended)
    with pytest.raises(Infrastructure, match=r"cannot be reached at h:1: Check failed: no token$"):
        knock("h:1", "uvmp run")


@pytest.mark.live
def test_doctor_compares_the_hosts_of_a_cluster(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    checks = cluster_checks(address)
    assert [check["state"] for check in checks] == ["ok", "ok"]
    assert re.search(r"Ray \S+, uvmp \S+, the same source, token, clock [+-]0\.\d+ s", checks[1]["found"])

    import nodes.host.here

    ours = {**nodes.host.here.sources(), "shared/uvm/fault.py": "0"}
    monkeypatch.setattr(nodes.host.here, "sources", lambda: ours)
    [_, host] = cluster_checks(address)
    assert host["state"] == "bad" and "its source differs in shared/uvm/fault.py" in host["advice"]


def cluster_checks(address: str) -> list[dict[str, str]]:
    """What `uvmp doctor` says of the cluster and its hosts."""
    checks = json.loads(uvmp("doctor", "--address", address, "--json").stdout)["checks"]
    return [check for check in checks if check["name"] == "cluster" or check["name"].startswith("host ")]


def test_what_ray_says_of_its_nodes_is_passed_on_without_noise() -> None:
    """A machine of 32 CPUs on two cores would have a dozen warnings; a traceback is told as the error that it is."""
    said: list[str] = []
    say = cluster.live.actors._without_noise(lambda data, ignore_prefix: said.extend(data["lines"]))
    for line in (
        "WARNING: 8 PYTHON worker processes have been started",
        "Traceback (most",
        "a worker was killed: memory",
    ):
        say({"lines": [line], "pid": "raylet", "is_err": False}, ignore_prefix=False)
    assert said == ["a worker was killed: memory"]


# -- what listens ------------------------------------------------------------------------


def processes(root: int) -> set[int]:
    """A process and its descendants."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(path.name)] = int((path / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue  # it has ended meanwhile
    family, more = set(), {root}
    while more:
        family |= more
        more = {pid for pid, parent in parents.items() if parent in more}
    return family


def listening(pids: set[int]) -> list[str]:
    """The local addresses of the TCP sockets on which processes listen, in the hexadecimal digits of /proc."""
    inodes = set()
    for pid in pids:
        try:
            inodes |= {os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir()}
        except OSError:
            continue
    rows = [row.split() for table in ("tcp", "tcp6") for row in Path(f"/proc/net/{table}").read_text().splitlines()[1:]]
    return [row[1].partition(":")[0] for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in inodes]


@pytest.mark.live
def test_a_private_ray_and_its_actors_listen_on_loopback_alone(live_machine: Callable[..., Any]) -> None:
    """The control store, the raylet, the driver and every actor: nobody on the network reaches them."""
    machine = live_machine(scenario("S4"))
    assert set(machine.actors.pids.values()) <= processes(os.getpid())
    addresses = listening(processes(os.getpid()))
    assert len(addresses) >= 3 + len(machine.actors.pids)
    assert set(addresses) <= {"0100007F", "0000000000000000FFFF00000100007F"}  # 127.0.0.1, and the same in IPv6


@pytest.mark.live
def test_nobody_else_reaches_the_sockets_and_logs_of_a_private_ray(ray_session: Any) -> None:
    """Ray makes its folder one that everybody may write to."""
    folder = Path(ray_session._private.worker._global_node.get_temp_dir_path())
    assert f"{folder.parent.stat().st_mode & 0o777:o}" == "700" and folder.parent.name.startswith("ray-")
