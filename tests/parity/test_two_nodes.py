"""Parity on a Ray cluster of two nodes, whose logs are on disks of their own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.parity.two_nodes import SIDES

pytestmark = pytest.mark.live
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("disks")
    done = subprocess.run(
        [sys.executable, "-m", "tests.parity.two_nodes", str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    report: dict[str, Any] = json.loads(done.stdout)
    report["folder"] = str(folder)
    return report


SCENES = pytest.mark.parametrize("name", ["E2", "S3a-shipped"])


@SCENES
def test_sim_and_a_cluster_of_two_nodes_agree_in_both_directions(name: str, report: dict[str, Any]) -> None:
    """Same digest and finding, with every node of the machine in an actor of its own, half of them on each side."""
    seen = report[name]
    assert seen["ray_nodes"] == 2
    assert seen["followed"][0] == seen["followed"][1]
    assert seen["free"][0] == seen["free"][1]
    assert all(live == sim for live, sim in seen["findings"]) and seen["holes"] == []
    if name == "E2":
        assert seen["findings"] == [[None, None], [None, None]]


@SCENES
def test_hosts_of_one_computer_use_unix_sockets_and_others_tcp(name: str, report: dict[str, Any]) -> None:
    assert report[name]["families"] == ["AF_INET", "AF_UNIX"]


@SCENES
def test_each_node_keeps_its_logs_on_its_own_disk(name: str, report: dict[str, Any]) -> None:
    """Resources put each actor where it was asked to be, and its log is there and nowhere else."""
    for side, names in SIDES.items():
        for node in names:
            [path] = report[name]["logs"][node]
            assert path.startswith(f"{report['folder']}/{side}/") and path.endswith(f"/{node}.uvmp.jsonl")


@SCENES
def test_the_driver_got_the_logs_by_messages(name: str, report: dict[str, Any]) -> None:
    """Its own folder holds what was collected of the last run, and no more; a shared disk is not needed."""
    seen, nodes = report[name], [node for names in SIDES.values() for node in names]
    assert seen["collected"] == sorted(f"{node}.uvmp.jsonl" for node in nodes)
    assert seen["drivers_own"] == sorted(f"run2/{node}.uvmp.jsonl" for node in nodes)
    assert all(seen["records"][node] > 0 for node in nodes if node not in ("swap_pager", "swap_io"))


@SCENES
def test_a_session_whose_processes_have_other_disks_replays(name: str, report: dict[str, Any]) -> None:
    """What they write is read by messages at each stop, and collected at the end."""
    seen = report[name]["session"]
    assert seen["digests"][0] == seen["digests"][1] and seen["operations"] == 200
    assert seen["kept"] == report[name]["collected"]


def test_a_session_is_booted_with_processes_of_a_cluster_that_stays(report: dict[str, Any]) -> None:
    """The command does it, the actors are the cluster's, and end with the session; both of its folders replay."""
    seen = report["booted"]
    assert seen["actors"] == ["cpu0", "cpu1", "lock_manager", "pagedaemon"] and seen["parents"] == ["raylet"]
    assert seen["exits"] == [0, 0, 0, 0] and seen["over"] and seen["cluster"] == [True, True]
    assert seen["engines"] == ["live", "live"]
    assert seen["replays"] == [[True, 5, digest] for digest in seen["digests"]]


def test_nothing_is_left_on_the_other_disks(report: dict[str, Any]) -> None:
    """A host that only lent its memory must not fill up with logs."""
    assert report["left_behind"] == []
