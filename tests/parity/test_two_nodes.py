"""Parity on a Ray cluster of two nodes, whose actors keep separate log folders."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.live
def test_sim_and_live_agree_over_two_ray_nodes(tmp_path: Path) -> None:
    """A cluster has no shared disk: journals are written where the nodes are, and collected by messages."""
    command = [sys.executable, "-m", "tests.parity.two_nodes", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    seen = json.loads(done.stdout.splitlines()[-1])
    assert seen["ray_nodes"] == 2
    assert seen["log_folders"] >= 4, "every actor has a folder of its own"
    assert seen["followed"], "live following a schedule of sim gives sim's digest"
    assert seen["free"], "sim replaying a free run of live gives its digest"
    assert {"cpu0.uvmp.jsonl", "cpu1.uvmp.jsonl", "memory.uvmp.jsonl", "lock_manager.uvmp.jsonl"} <= set(seen["files"])
