"""Whatever dies, and whenever: exit code 5, it is said what died, the logs are there, nothing else is left."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from nodes.host.remains import is_actor
from shared.errors import Exit
from tests.cluster.test_cli import ROOT, our_children
from tests.kit import scenario, uvmp
from tests.parity.begins import begins

pytestmark = pytest.mark.live
RACE = "S3a-shipped"
#: the end of the first run: it is killed in the second
MIDST = "run 1 of"
long = pytest.mark.long


class Ended(NamedTuple):
    """A command of which something was killed."""

    code: int
    document: Any
    err: str
    victim: int
    logs: list[Path]


@dataclass
class Killing:
    """Commands of which something is killed, with files in this folder."""

    folder: Path
    monkeypatch: pytest.MonkeyPatch

    def __call__(self, who: str, when: str, records: int = 0, runs: str = "2", scene: Sequence[str] = (RACE,)) -> Ended:
        """Start many runs, and kill a process when stderr says `when`: "gcs_server", "raylet", "driver", or a node.

        Args:
            records: it is killed when the node `memory` has written so many more in these runs, by their number.
            scene: what is run, and its options.
        """
        place, out = Path(tempfile.mkdtemp(prefix="u", dir="/tmp")), self.folder / "runs"
        self.monkeypatch.setenv("UVMP_TEST", str(self.folder))
        self.monkeypatch.setenv("TMPDIR", str(place))
        args = ("run", *scene, "--engine", "live", "--repeat", "50", "--out", str(out), "--json")
        command = [sys.executable, "-m", "cluster.cli", *args]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr is not None
            seen = ""
            while when not in seen:
                line = process.stderr.readline()
                assert line, seen
                seen += line
            least = records + (written(out, runs) if runs == "*" else 0)
            while records and written(out, runs) < least:
                assert process.poll() is None
            victim = None
            while victim is None:
                victim = pid_of(who, process.pid, seen)
            os.kill(victim, signal.SIGKILL)
            told, err = process.communicate(timeout=120)
            writing = [pid for pid in re.findall(r"\(pid (\d+)\)", seen) if is_actor(int(pid))]
        assert not writing, "who reads the journals now, reads what is still written"
        self.monkeypatch.delenv("UVMP_TEST")
        err = seen + err
        assert "Traceback" not in err and err.count("uvmp: error: ") == 1, err
        until = time.monotonic() + 10  # (a worker that Ray has not told to end notices soon that Ray is gone)
        while left := our_children(str(self.folder)):
            assert time.monotonic() < until, left
            time.sleep(0.1)
        assert list(place.iterdir()) == []
        place.rmdir()
        return Ended(process.returncode, json.loads(told), err, victim, sorted(out.glob("*"), key=number_of))


@pytest.fixture
def kill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Killing:
    return Killing(tmp_path, monkeypatch)


def number_of(folder: Path) -> int:
    return int(folder.name)


def written(folder: Path, runs: str) -> int:
    """Lines of the journals of `memory` in these runs."""
    count = 0
    for journal in folder.glob(f"{runs}/memory.uvmp.jsonl"):
        with suppress(FileNotFoundError):
            count += journal.read_bytes().count(b"\n")
    return count


def pid_of(who: str, parent: int, seen: str) -> int | None:
    """The process of this name, of all that the command has started."""
    node = re.search(rf"[ +]{who}[^ ]* \(pid (\d+)\)", seen)
    if node is not None:
        return int(node[1])
    below = [parent]
    for pid in below:
        try:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        below += map(int, children)
        if pid != parent and (who == "driver" or os.path.basename(words[0]).decode() == who):
            return pid
    return None


WHO = {
    "gcs_server": "Ray's control store, GCS (pid {pid}) on {host} died; {remedy}",
    "raylet": "Ray's node process, raylet (pid {pid}) on {host} died; {remedy}",
    "driver": "the driver (pid {pid}) on {host} was killed by signal 9; the system does that if memory is short; "
    "{remedy}",
}
AGAIN = "run the command again"


def resume(folder: Path) -> str:
    """The remedy, if there is something to continue."""
    return f"`uvmp run --resume {folder}` continues the run"


def complete(folder: Path) -> bool:
    told = uvmp("postmortem", folder, "--json")
    return bool(json.loads(told.stdout)["complete"])


def replays(folder: Path) -> bool:
    """Can the logs of a run that was cut short be followed, at least as far as the 100 records of `memory` reach?"""
    told = uvmp("run", "--resume", folder, "--json")
    return told.exit_code in (Exit.NO_FINDING, Exit.FINDING) and json.loads(told.stdout)["followed"] >= 100


def test_a_killed_node_ends_it_with_what_it_knows_and_readable_logs(kill: Killing) -> None:
    end = kill("cpu1", MIDST, 100)
    assert end.code == end.document["exit"] == Exit.INFRASTRUCTURE
    where = f"(pid {end.victim}) on {os.uname().nodename}"
    message = end.document["error"]["message"]
    assert message.startswith(f"the actor of cpu1 {where} died: ") and f"uvmp: error: {message}\n" in end.err
    assert message.endswith(f"; {resume(end.logs[1])}")
    assert len(end.document["runs"]) >= 1
    assert complete(end.logs[0]) and not complete(end.logs[1]) and replays(end.logs[1])


@pytest.mark.parametrize(
    ("who", "when"),
    [
        pytest.param("gcs_server", MIDST, marks=long),
        pytest.param("raylet", MIDST, marks=long),
        ("driver", MIDST),
        *(pytest.param(who, when, marks=long) for who in WHO for when in ("starting a private Ray", "booted")),
    ],
)
def test_what_ray_needs_is_killed(who: str, when: str, kill: Killing) -> None:
    end = kill(who, when, 100 if when == MIDST else 0)
    remedy = resume(end.logs[1]) if when == MIDST else AGAIN
    why = WHO[who].format(pid=end.victim, host=os.uname().nodename, remedy=remedy)
    assert end.code == Exit.INFRASTRUCTURE == end.document["error"]["exit"], end.err
    assert end.document["error"]["message"] == why and f"uvmp: error: {why}\n" in end.err
    if when == MIDST:
        assert complete(end.logs[0]) and not complete(end.logs[1]) and replays(end.logs[1])


@long
@pytest.mark.parametrize("number", range(20))
@pytest.mark.parametrize("who", WHO)
def test_what_ray_needs_is_killed_at_any_moment(who: str, number: int, kill: Killing) -> None:
    """In a run, at its end, or between two runs; of the run that was going on, what is there can be followed.

    A run that has a folder and has not begun has nothing to follow.
    """
    records = random.Random(f"{who} {number}").randrange(1, 3000)
    end = kill(who, MIDST, records, "*")
    last = end.logs[-1]
    begun = not (last / "run.json").exists() and written(last.parent, last.name) > 1
    why = WHO[who].format(pid=end.victim, host=os.uname().nodename, remedy=resume(last) if begun else AGAIN)
    assert end.code == Exit.INFRASTRUCTURE and end.document["error"]["message"] == why
    assert all(complete(folder) for folder in end.logs[:-1])
    if any(end.logs[-1].iterdir()):
        assert uvmp("run", "--resume", end.logs[-1]).exit_code in (Exit.NO_FINDING, Exit.FINDING)


#: a machine with all kinds of servers, each in an actor of its own
ALONE = scenario("E56", colocate="false")
DEATHS = [(who, number) for who in WHO for number in range(4)] + [(node, 0) for node in ALONE.machine.nodes]


@pytest.mark.parametrize(
    ("who", "number"),
    [pytest.param(*death, marks=[] if death in {("driver", 0), ("mmu", 0)} else long) for death in DEATHS],
)
def test_nothing_that_was_written_is_lost(who: str, number: int, kill: Killing, tmp_path: Path) -> None:
    """The run that continues a dead run begins with every operation that is on the disk, and replays."""
    file, whole = tmp_path / "alone.yaml", tmp_path / "whole"
    file.write_text(ALONE.text, encoding="utf-8")
    records = random.Random(f"{who} {number}").randrange(1, 2500)
    print(f"{who} dies when memory has {records} records")
    end = kill(who, "booted", records, "1", (str(file), "--fixed"))
    assert end.code == Exit.INFRASTRUCTURE and end.document["error"]["message"].endswith(resume(end.logs[0]))
    told = uvmp("run", "--resume", end.logs[0], "--out", whole, "--json")
    journals = begins(end.logs[0], whole)
    assert told.exit_code == Exit.NO_FINDING and set(journals) == set(ALONE.machine.nodes)
    assert all(counts.kept == counts.left for counts in journals.values()), journals
    assert sum(counts.left for counts in journals.values()) == json.loads(told.stdout)["followed"] >= records - 1
    assert uvmp("replay", whole).exit_code == Exit.NO_FINDING
