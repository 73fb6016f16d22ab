"""A Ray cluster of two hosts, and a computer outside of it, each in namespaces of its own (hosts.sh)."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.live, pytest.mark.long]
ROOT = Path(__file__).parents[2]
NAMESPACES = "unshare --map-root-user --net --mount --pid --fork ip link add bridge0 type bridge"
#: what is run, by name; the output of each is a section of its own
SCRIPT = """
say() { echo "== $1"; shift; "$@" 2>&1; echo "exit $?"; }
run="uvmp run S3a --fixed --engine live --address"
on a ray start --head --port 6379 --node-ip-address 10.9.0.1 --num-cpus 1 $STORE $DASHBOARD >/dev/null 2>&1
on b ray start --address 10.9.0.1:6379 --num-cpus 1 $STORE >/dev/null 2>&1
say spread on a $run auto
say placed on b $run 10.9.0.1:6379 --place cpu0=host-b,mmu=10.9.0.1
say nowhere on a $run auto --place cpu0=host-c
say stranger on c $run 10.9.0.1:6379
say wrong env RAY_AUTH_TOKEN=wrong bash -c "$(declare -p PROCESS; declare -f on); on a $run 10.9.0.1:6379"
say doctor on a uvmp doctor --address auto
say killed on a bash -c "$KILLED"
on b bash -c 'while grep -qs "ray::[N]odeActor" /proc/*/cmdline; do sleep 0.1; done'
say away on b bash -c 'ls /tmp/uvmp-*'
say torn on a uvmp postmortem /tmp/runs/2
say collected on a uvmp collect /tmp/runs/2
say resumed on a uvmp run --resume /tmp/runs/2
say again on a uvmp collect /tmp/runs/2
on a rm -r /tmp/runs
say left-a on a ls -A /tmp
say left-b on b ls -A /tmp
on c ray start --address 10.9.0.1:6379 --num-cpus 1 $STORE >/dev/null 2>&1
on a bash -c "$BEGUN" &
kept=$!
say begun on a bash -c 'until [ -s /tmp/lost/2/memory.uvmp.jsonl ]; do sleep 0.05; done'
kill -9 ${PROCESS[c]}
wait $kept
say lost on a cat /tmp/said
say nobody on a uvmp collect /tmp/lost/failed
on b mount --bind $CHANGED shared/uvm/fault.py
say other on a $run auto
say compared on a uvmp doctor --address auto
on b mount -t tmpfs none shared
say missing on a uvmp doctor --address auto
"""
#: a run whose driver is killed while journals are on another host
KILLED = """
uvmp run S3a --fixed --engine live --address auto --repeat 50 --out /tmp/runs & pid=$!
until [ -s /tmp/runs/2/memory.uvmp.jsonl ] && [ -e /tmp/runs/2/elsewhere.json ]; do sleep 0.05; done
kill -9 $(cat /proc/$pid/task/$pid/children)
wait $pid
"""
#: runs of which an actor is on a host that is lost
BEGUN = """
uvmp run S3a --fixed --engine live --address auto --place cpu1=host-c --survive 2 --repeat 30 --out /tmp/lost \\
    >/tmp/said 2>&1
echo "exit $?" >>/tmp/said
mkdir /tmp/lost/failed
cp /tmp/lost/30/scenario.json /tmp/lost/failed
echo '{"cpu1": {"host": "host-c", "node": "", "path": "/tmp/uvmp-1/cpu1.uvmp.jsonl"}}' >/tmp/lost/failed/elsewhere.json
"""


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Section -> its output."""
    if shutil.which("ip") is None or subprocess.run(NAMESPACES.split(), check=False, capture_output=True).returncode:
        pytest.skip("no network namespaces here")
    folder = tmp_path_factory.mktemp("hosts")
    changed = ROOT / "build" / "fault.py.changed"  # (/tmp is another in each namespace)
    changed.parent.mkdir(exist_ok=True)
    changed.write_text(
        (ROOT / "shared/uvm/fault.py").read_text(encoding="utf-8") + "\nLATER = True\n", encoding="utf-8"
    )
    (folder / "script").write_text(SCRIPT, encoding="utf-8")
    env = {
        **os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "HOME": "/tmp",
        "RAY_USAGE_STATS_ENABLED": "0", "STORE": f"--object-store-memory {80 << 20}",
        "DASHBOARD": "--include-dashboard=false", "CHANGED": str(changed), "KILLED": KILLED,
        "BEGUN": BEGUN,
        # of the source that is changed there is no compiled form; who asks for that form alone, gets no process
        "UVMP_FORM": os.environ.get("UVMP_FORM", "").replace("compiled", ""),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }  # fmt: skip
    try:
        done = subprocess.run(
            ["bash", str(ROOT / "tests/parity/hosts.sh"), str(folder / "script")], cwd=ROOT, env=env,
            capture_output=True, text=True, timeout=500, check=False,
        )  # fmt: skip
    finally:
        changed.unlink()
    sections = dict(re.findall(r"^== (\S+)\n(.*?)(?=^== |\Z)", done.stdout, re.MULTILINE | re.DOTALL))
    assert "missing" in sections, done.stdout[-2000:] + done.stderr[-2000:]
    return sections


def test_cpus_are_spread_and_sim_agrees(output: dict[str, str]) -> None:
    assert re.search(r"cpu0 \(host-a, pid \d+\), cpu1 \(host-b, pid \d+\), .*memory.*\(host-a, ", output["spread"])
    assert "equal in sim" in output["spread"] and "exit 0" in output["spread"]


def test_a_node_is_where_it_was_to_be(output: dict[str, str]) -> None:
    assert re.search(r"cpu0 \(host-b, pid \d+\), cpu1 \(host-a, pid \d+\), .*memory.*\(host-a, ", output["placed"])
    assert "equal in sim" in output["placed"] and "exit 0" in output["placed"]
    assert "there is no host host-c; the cluster has host-a (10.9.0.1), host-b (10.9.0.2)\nexit 2" in output["nowhere"]


def test_a_stranger_is_told_what_to_do(output: dict[str, str]) -> None:
    assert "ray job submit --address http://10.9.0.1:8265 -- uvmp run ... --address auto\nexit 2" in output["stranger"]
    assert re.search(
        r"\nuvmp: error: --address: the Ray cluster at 10.9.0.1:6379 refuses our token.*\nexit 2", output["wrong"]
    )
    assert "gcs_client" not in output["wrong"]


def test_what_a_killed_driver_leaves_on_another_host_is_fetched(output: dict[str, str]) -> None:
    there = re.search(r"^the journal of cpu1 stays on host-b: (/tmp/uvmp-\w+)/cpu1", output["killed"], re.MULTILINE)
    assert there is not None and "uvmp collect /tmp/runs/2" in output["killed"] and "exit 5" in output["killed"]
    assert "cpu1.uvmp.jsonl" in output["away"]
    assert f"the journal of cpu1 stays on host-b: {there[1]}" in output["torn"] and "exit 4" in output["torn"]
    assert re.search(r"^cpu1: [\d,]+ bytes from host-b$", output["collected"], re.MULTILINE)
    assert "exit 0" in output["collected"]
    assert re.search(r"the first [\d,]+ operations of /tmp/runs/2 are followed", output["resumed"])
    assert "no finding" in output["resumed"] and "exit 0" in output["resumed"]
    assert output["again"] == "no journal of this run is on another computer\nexit 0\n"


def test_a_run_survives_the_loss_of_a_host(output: dict[str, str]) -> None:
    """The journal there is lost with it; what the others have causes for is not."""
    assert re.search(r"cpu1 \(host-c, pid \d+\)", output["lost"])
    assert re.search(r"; started anew: cpu1.*; [\d,]+ operations? (is|are) followed", output["lost"])
    assert output["lost"].endswith("exit 0\nexit 0\n") and "equal in sim" in output["lost"], output["lost"]
    assert re.search(
        r"no journal of cpu1: host host-c is not in the cluster, which has host-a \(10.9.0.1\), host-b.*\nexit 5",
        output["nobody"],
    )


def test_nothing_of_ours_stays_on_a_host(output: dict[str, str]) -> None:
    assert output["left-a"] == output["left-b"] == "ray\nexit 0\n"


def test_other_source_on_a_host_is_refused_and_doctor_says_where(output: dict[str, str]) -> None:
    assert "actor cpu1 on host-b runs different source (shared/uvm/fault.py); install" in output["other"]
    assert "exit 5" in output["other"]
    assert re.search(r"^ok    host host-a .*the same source, token, clock", output["doctor"], re.MULTILINE)
    assert re.search(r"^ok    host host-b .*the same source, token, clock", output["doctor"], re.MULTILINE)
    assert re.search(r"^BAD   host host-b .*other source.*\n.*shared/uvm/fault.py", output["compared"], re.MULTILINE)
    assert re.search(
        r"^BAD   host host-b .*uvmp does not run there: ModuleNotFoundError", output["missing"], re.MULTILINE
    )
