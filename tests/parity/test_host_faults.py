"""What dies on a Ray cluster of two hosts, each in namespaces of its own (hosts.sh): links, Ray, actors, drivers.

Whatever it is: the run goes on with the same digest, or it is exit code 5, one line with the remedy, and a folder that
can be continued. On no host is a process left, a file, or a port.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kit import scene
from tests.parity.test_hosts import NAMESPACES

pytestmark = [pytest.mark.live, pytest.mark.long]
ROOT = Path(__file__).parents[2]
ROUNDS = 300
STEPS = ['mprotect: {at: "buf[1]", pages: 2, prot: r}', 'write: {at: "buf[0]", value: 1}',
         'mprotect: {at: "buf[1]", pages: 2, prot: rw}', 'write: {at: "buf[2]", value: 1}']  # fmt: skip

#: what is run, by name; the output of each is a section of its own
SCRIPT = r"""
ACTOR='^ray::NodeActor' RAYLET='^[^ ]*/raylet/raylet ' GCS='^[^ ]*/gcs_server '
run="uvmp run /tmp/test/long.yaml --engine live --address auto"
say() { echo "== $1"; shift; "$@" 2>&1; echo "exit $?"; }
both() { for host in a b; do on $host "$@"; done; }
join() { on $1 ray start --address 10.9.0.1:6379 --num-cpus 1 $STORE >/dev/null 2>&1; }
begins() { both bash -c 'python -m tests.parity.left >/tmp/test/$0.json' $1; }
cluster() {
    on a ray start --head --port 6379 --node-ip-address 10.9.0.1 --num-cpus 1 $STORE $DASHBOARD >/dev/null 2>&1
    join b; begins ray; }
stop() { both ray stop --force >/dev/null 2>&1; both rm -rf /tmp/ray; left $1 none; }
# NAME BEFORE: is there more than before?
left() { for host in a b; do say $1-left-$host on $host python -m tests.parity.left /tmp/test/$2.json; done; }
# JOURNAL [HOST]: a run has begun that has this journal, and has performed some operations
midst() { LIMIT=30 on ${2:-a} bash -c 'until [ "$(cat $0 2>/dev/null | wc -l)" -gt 2000 ]; do sleep .05; done' "$1"; }
# HOST: reset the connections over which actors of other hosts reach its actors (Ray listens at all addresses of a host)
breaks() {
    for port in $(on $1 ss -Hltnp | awk '/ray::NodeActor/ && $4 ~ /^10[.]9/ {sub(".*:", "", $4); print $4}'); do
        on $1 ss -HK sport = :$port; done; }
kills() { on $1 kill -9 $(on $1 pgrep -n -f "$2"); }
# NAME HOST PROCESS [DRIVER]: a process is killed in the midst of a run that is kept; the driver is on host a, or DRIVER
fault() {
    say $1 on ${4:-a} $run --out /tmp/test/$1 & midst /tmp/test/$1/memory.uvmp.jsonl ${4:-a}
    kills $2 "$3"; wait $!; }
# NAME HOST PROCESS: no such process is there any more
gone() { say $1-gone-$2 on $2 bash -c 'while pgrep -f "$0"; do sleep .2; done >/dev/null' "$3"; }
# NAME [HOST]: collect what stays on other hosts, continue, and compare
resume() {
    local on="on ${2:-a}"
    say $1-collected $on uvmp collect /tmp/test/$1
    say $1-resumed $on uvmp run --resume /tmp/test/$1 --out /tmp/test/$1-whole
    say $1-kept $on python -m tests.parity.begins /tmp/test/$1 /tmp/test/$1-whole
    say $1-replayed $on uvmp replay /tmp/test/$1-whole; }

both mkdir /tmp/test
both bash -c 'echo "$LONG" >/tmp/test/long.yaml'
begins none
cluster

say short on b $run --out /tmp/test/short & midst /tmp/test/short/memory.uvmp.jsonl b
ip link set to-b down; sleep 8; ip link set to-b up; wait $!
left short ray

say broken on a $run --out /tmp/test/broken & midst /tmp/test/broken/memory.uvmp.jsonl
broken=$(for _ in $(seq 10); do breaks a; breaks b; done 2>&1); wait $!
say breaks echo "$broken"
left broken ray

fault actor b "$ACTOR"
left actor ray
resume actor

say stopped on a $run --out /tmp/test/stopped & midst /tmp/test/stopped/memory.uvmp.jsonl
on b kill -STOP $(on b pgrep -n -f "$ACTOR"); wait $!
gone stopped b "$ACTOR"
left stopped ray
resume stopped

say unkept on a $run & midst '/tmp/uvmp-*/run1/memory.uvmp.jsonl'; kills b "$ACTOR"; wait $!
left unkept ray

say survived on a $run --survive 1 --out /tmp/test/survived & midst /tmp/test/survived/memory.uvmp.jsonl
kills b "$ACTOR"; wait $!
left survived ray
say unkept-survived on a $run --survive 1 & midst '/tmp/uvmp-*/run1/memory.uvmp.jsonl'; kills b "$ACTOR"; wait $!
left unkept-survived ray

say unkept-driver on a $run & midst '/tmp/uvmp-*/run1/memory.uvmp.jsonl'; kills a '^[^ ]*python[^ ]* [^ ]*/uvmp run'
wait $!
left unkept-driver ray

say cut on a $run --out /tmp/test/cut & midst /tmp/test/cut/memory.uvmp.jsonl
ip link set to-b down; wait $!; ip link set to-b up
gone cut b "$ACTOR|$RAYLET"
join b
resume cut
stop cut; cluster

fault far-raylet b "$RAYLET"
gone far-raylet b "$ACTOR"
join b
resume far-raylet
stop far-raylet; cluster

fault raylet a "$RAYLET"
gone raylet a "$ACTOR"; gone raylet b "$ACTOR"
join a
resume raylet
stop raylet; cluster

fault gcs a "$GCS"
gone gcs a "$ACTOR"; gone gcs b "$ACTOR"
stop gcs; cluster
resume gcs

fault far-gcs a "$GCS" b
gone far-gcs a "$ACTOR"; gone far-gcs b "$ACTOR"
stop far-gcs; cluster
resume far-gcs b
stop end
"""


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Section -> its output."""
    if shutil.which("ip") is None or subprocess.run(NAMESPACES.split(), check=False, capture_output=True).returncode:
        pytest.skip("no network namespaces here")
    script = tmp_path_factory.mktemp("hosts") / "script"
    script.write_text(SCRIPT, encoding="utf-8")
    program = "\n".join(STEPS * ROUNDS)
    setup = "\n".join(f"process: {{as: {name}, cpu: {cpu}}}\nmmap: {{in: {name}, as: buf, pages: 4}}"
                      for cpu, name in enumerate("AB"))  # fmt: skip
    env = {
        **os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "HOME": "/tmp",
        "RAY_USAGE_STATS_ENABLED": "0", "STORE": f"--object-store-memory {80 << 20}", "HOSTS": "a b",
        "DASHBOARD": "--include-dashboard=false", "LONG": scene({"A": program, "B": program}, setup).text,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }  # fmt: skip
    done = subprocess.run(
        ["bash", str(ROOT / "tests/parity/hosts.sh"), str(script)], cwd=ROOT, env=env, capture_output=True, text=True,
        timeout=2400, check=False,
    )  # fmt: skip
    sections = dict(re.findall(r"^== (\S+)\n(.*?)(?=^== |\Z)", done.stdout, re.MULTILINE | re.DOTALL))
    assert "end-left-b" in sections, done.stdout[-2000:] + done.stderr[-2000:]
    return sections


#: what was left by runs of which something died, after which the cluster goes on, or is stopped
STAYS = ["short", "broken", "actor", "stopped", "unkept", "survived", "unkept-survived", "unkept-driver"]
STOPPED = ["cut", "far-raylet", "raylet", "gcs", "far-gcs", "end"]
DIED = ["actor", "stopped", "cut", "far-raylet", "raylet", "gcs", "far-gcs"]
COLLECT = "`uvmp collect /tmp/test/{0}` fetches the journals that stay on host-b, then "
RESUME = "`uvmp run --resume /tmp/test/{0}` continues the run"
START = "`ray start --address 10.9.0.1:6379` starts it again, then "
CPU1 = r"the actor of cpu1 \(pid \d+\) on host-b "


def error(section: str) -> str:
    """The only error of a command that ended with exit code 5, which is one line, and the last."""
    assert "Traceback" not in section, section
    [line] = re.findall(r"^uvmp: error: (.*)\nexit 5$", section, re.MULTILINE)
    return str(line)


def test_a_link_that_is_cut_for_eight_seconds_ends_no_run(output: dict[str, str]) -> None:
    """What was not delivered is sent again, and everything is performed once: sim gives the same digest.

    GCS does not answer the driver meanwhile, and is not taken for dead.
    """
    ran = re.search(r"operations in ([\d.]+) s\ndigest \w+\n *equal in sim\n", output["short"])
    assert ran is not None and float(ran[1]) > 8 and output["short"].endswith("exit 0\n"), output["short"]


def test_connections_that_are_reset_again_and_again_end_no_run(output: dict[str, str]) -> None:
    """Both hosts live and connect anew; what was under way arrives once."""
    if "not supported" in output["breaks"]:
        pytest.skip("the kernel does not destroy sockets")
    assert output["breaks"].count("ESTAB") > 10, output["breaks"]
    assert "equal in sim\n" in output["broken"] and output["broken"].endswith("exit 0\n"), output["broken"]


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("actor", rf"{CPU1}died: [^;]*; {RESUME}"),
        ("stopped", rf"{CPU1}has not answered for 60 s; {RESUME}"),
        ("unkept", rf"{CPU1}died: [^;]*; run the command again; `--survive N` lets a run survive N deaths of actors"),
        ("unkept-driver", r"the driver \(pid \d+\) on host-a was killed by signal 9; [^;]*; run the command again"),
        ("cut", rf"{CPU1}(?:died: [^;]*|has not answered for 60 s|cannot be reached: [^;]*); {COLLECT}{RESUME}"),
        ("far-raylet", rf"{CPU1}died: [^;]*; {COLLECT}{RESUME}"),
        ("raylet", rf"Ray's node process, raylet \(pid \d+\) on host-a died; {START}(?:{COLLECT})?{RESUME}"),
        ("gcs", rf"Ray's control store, GCS \(pid \d+\) on host-a died; start the cluster again, then {RESUME}"),
        ("far-gcs", rf"Ray's control store, GCS, at 10\.9\.0\.1:6379 died; start the cluster again, then {RESUME}"),
    ],
)
def test_what_died_is_told_in_a_line_with_its_process_its_host_and_the_remedy(
    name: str, why: str, output: dict[str, str]
) -> None:
    assert re.fullmatch(why.format(name), error(output[name])), output[name]


@pytest.mark.parametrize("name", DIED)
def test_nothing_that_was_written_is_lost(name: str, output: dict[str, str]) -> None:
    """All journals are there, if necessary after `uvmp collect`, and the whole run begins with all that they have."""
    assert output[f"{name}-collected"].endswith("exit 0\n"), output[f"{name}-collected"]
    gone = [section for key, section in output.items() if key.startswith(f"{name}-gone-")]
    assert gone == ["exit 0\n"] * {"actor": 0, "stopped": 1, "cut": 1, "far-raylet": 1}.get(name, 2)
    kept = re.findall(r"^(\w+): (\d+) operations left, (\d+) kept$", output[f"{name}-kept"], re.MULTILINE)
    assert len(kept) == 8 and all(left == same for _, left, same in kept), kept
    counts = {node: int(left) for node, left, _ in kept}
    assert min(counts["cpu1"], counts["memory"]) > 10
    followed = re.search(r"^the first ([\d,]+) operations of ", output[f"{name}-resumed"], re.MULTILINE)
    assert followed is not None and int(followed[1].replace(",", "")) == sum(counts.values())
    assert "no finding" in output[f"{name}-resumed"] and output[f"{name}-resumed"].endswith("exit 0\n")
    assert re.search(r"^ *equal$", output[f"{name}-replayed"], re.MULTILINE), output[f"{name}-replayed"]


@pytest.mark.parametrize("name", ["survived", "unkept-survived"])
def test_a_run_survives_an_actor_of_another_host_with_its_journal(name: str, output: dict[str, str]) -> None:
    """That is fetched from its host. Without it, the run would go on from where cpu1 comes in first."""
    told = re.search(rf"^{CPU1}died: .*; started anew: .*cpu1; ([\d,]+) operations are followed$", output[name], re.M)
    assert told is not None and int(told[1].replace(",", "")) > 2000, output[name]
    assert "equal in sim\n" in output[name] and output[name].endswith("exit 0\n")


def test_the_death_of_gcs_on_another_host_is_not_left_to_ray(output: dict[str, str]) -> None:
    """Ray would end the driver a minute later, with lines of its own."""
    assert "[20" not in output["far-gcs"] and "rpc" not in output["far-gcs"].lower(), output["far-gcs"]


@pytest.mark.parametrize("host", "ab")
@pytest.mark.parametrize("name", [*STAYS, *STOPPED])
def test_no_process_file_or_port_is_left(name: str, host: str, output: dict[str, str]) -> None:
    """Of a cluster that goes on, Ray has what it had before; of one that is stopped, there is nothing."""
    assert output[f"{name}-left-{host}"] == "left: nothing\nexit 0\n"
