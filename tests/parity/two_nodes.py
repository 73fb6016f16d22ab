"""A Ray cluster of two nodes on one host, for test_two_nodes.py: a process of its own, since Ray is one per process.

    python -m tests.parity.two_nodes FOLDER

Prints one JSON object. Each Ray node's actors keep their logs below a folder of
their own, FOLDER/left or FOLDER/right, which stands for its disk; everything
the driver has of them came by messages.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cluster.live.machine import LiveMachine

SIDES = {
    "left": ["cpu0", "memory0", "lock_manager1", "mmu", "swap_io"],
    "right": ["cpu1", "pagedaemon", "memory1", "lock_manager0", "swap_pager"],
}


def main(folder: Path) -> dict[str, Any]:
    """A schedule of sim followed, and a free run replayed, of a machine that ends well and of one that does not."""
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_USAGE_STATS_ENABLED": "0"}
    from ray.cluster_utils import Cluster

    import nodes.host.ray
    from cluster.live.actors import ray_session
    from cluster.live.machine import LiveMachine
    from cluster.runs.replay import replay_journals
    from cluster.search.walk import RandomWalk
    from shared.journal.record import held, holes
    from tests.kit import run_recorded, scenario
    from tests.parity.actors import Elsewhere

    nodes.host.ray.NodeActor = Elsewhere  # type: ignore[misc]
    apart = {"shards": "{lock_manager: 2, memory: 2}", "colocate": "false"}
    scenes = {"E2": scenario("E2", **apart).without_errata(), "S3a-shipped": scenario("S3a-shipped", **apart)}

    def of(side: str) -> dict[str, Any]:
        return {
            "env_vars": {"UVMP_TEST_ROOT": str(folder / side)}, "num_cpus": 1,
            "include_dashboard": False, "object_store_memory": 80 << 20,
        }  # fmt: skip

    report: dict[str, Any] = {}
    cluster = Cluster(initialize_head=True, head_node_args=of("left"))
    try:
        ids = {"left": cluster.head_node.node_id, "right": cluster.add_node(**of("right")).node_id}
        place = {node: ids[side] for side, names in SIDES.items() for node in names}
        with ray_session(cluster.address) as ray:
            for name, scene in scenes.items():
                machine = LiveMachine(ray, scene, place)
                wanted = run_recorded(scene, RandomWalk(1))
                followed = machine.run(follow=wanted.journals)
                free = machine.run(seed=1)
                again = replay_journals(scene, free.journals)
                handles = machine.actors.handles
                drivers_own = [str(path.relative_to(machine.scratch)) for path in machine.scratch.rglob("*.jsonl")]
                report[name] = {
                    "ray_nodes": len({here.node for here in machine.actors.here.values()}),
                    "followed": [followed.digest, wanted.digest],
                    "free": [free.digest, again.digest],
                    "findings": [
                        [finding and finding.as_dict() for finding in (followed.finding, wanted.finding)],
                        [finding and finding.as_dict() for finding in (free.finding, again.finding)],
                    ],
                    "holes": holes(free.journals),
                    "records": {node: len(records) for node, records in held(free.journals).items()},
                    "collected": sorted(path.name for path in free.folder.iterdir()),
                    "drivers_own": sorted(drivers_own),
                    "families": sorted(
                        {name for handle in handles.values() for name in ray.get(handle.reached.remote())}
                    ),
                    "logs": {node: ray.get(handle.logs.remote()) for node, handle in handles.items()},
                }
                report[name]["session"] = session(machine, folder / name)
                machine.close()
            report["booted"] = booted(folder, cluster.address)
            report["booted"]["cluster"] = [node["Alive"] for node in ray.nodes()]
            report["left_behind"] = [str(path) for side in SIDES for path in (folder / side).rglob("*.jsonl")]
    finally:
        cluster.shutdown()
    return report


def session(machine: LiveMachine, folder: Path) -> dict[str, Any]:
    """Real processes in lockstep with a session to which a step is added: its digest, and that of a replay."""
    from cluster.live.lockstep import Lockstep
    from cluster.runs.replay import replay_journals
    from cluster.session.session import Going, Session, opened

    folder.mkdir()
    session = Session(opened(machine.scenario), (), Lockstep(machine, folder, "1" * 16))
    session.go(Going(None, 100))
    session.spawn(session.scenario.lwps[0].name, "mmap: {as: late, pages: 1}")
    session.go(Going(None, 100))
    outcome = session.finish()
    session.close()
    again = replay_journals(session.scenario, outcome.journals, outcome.cut)
    return {"digests": [outcome.digest, again.digest], "operations": outcome.operations,
            "kept": sorted(path.name for path in folder.iterdir())}  # fmt: skip


def booted(folder: Path, address: str) -> dict[str, Any]:
    """A session of the command `uvmp boot` with processes of the cluster, whose run is saved, and which is halted."""
    from tests.cluster.test_session import attach, waited
    from tests.kit import uvmp

    path, kept = str(folder / "booted"), str(folder / "kept")
    started = uvmp("boot", "laptop", "--engine", "live", "--address", address, "--session", path, "--json")
    up = json.loads(started.stdout)
    processes = {pid: parent_of(pid) for pid in up["actors"].values()}
    told = attach("spawn P0 mmap: {as: buf, pages: 1}", "step P0 5", f"save {kept}", "halt", session=path)
    over = waited(lambda: not any(Path(f"/proc/{pid}").exists() for pid in (up["pid"], *processes)))
    runs = [json.loads((run / "run.json").read_text(encoding="utf-8")) for run in (Path(kept), Path(path, "run"))]
    replays = [json.loads(uvmp("replay", run, "--json").stdout) for run in (kept, f"{path}/run")]
    return {
        "actors": sorted(up["actors"]), "parents": sorted(set(processes.values())), "over": over,
        "exits": [answer["exit"] for answer in told["answers"]], "engines": [run["engine"] for run in runs],
        "replays": [[again["equal"], again["operations"], again["digest"]["sim"]] for again in replays],
        "digests": [run["digest"] for run in runs],
    }  # fmt: skip


def parent_of(pid: int) -> str:
    """The program that has started a process."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    parent = next(line.split()[1] for line in status if line.startswith("PPid:"))
    return Path(f"/proc/{parent}/comm").read_text(encoding="ascii").strip()


if __name__ == "__main__":
    with contextlib.redirect_stdout(sys.stderr):
        report = main(Path(sys.argv[1]))
    print(json.dumps(report))
