"""Boots a machine over a Ray cluster of two nodes on this host, and prints what it saw as JSON.

Run by test_two_nodes.py in a process of its own, since a process has one Ray.
"""

from __future__ import annotations

import json
import os
import secrets
import sys
from pathlib import Path

from cluster.configs import shipped
from cluster.live import LiveMachine
from cluster.replay import replay, replay_journals
from cluster.sim import Deviation

DEVIATIONS: list[Deviation] = [("A", 100, "point", "B"), ("B", 150, "point", "A")]


def main(folder: Path) -> None:
    """Free run and followed schedule, half of the actors on each node."""
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_USAGE_STATS_ENABLED": "0"}
    import ray  # after the environment is set
    from ray.cluster_utils import Cluster

    small = {"num_cpus": 1, "object_store_memory": 80 << 20, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args={**small, "resources": {"left": 100}})
    cluster.add_node(num_cpus=1, object_store_memory=80 << 20, resources={"right": 100})
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR", namespace="uvmp")
    try:
        scenario = shipped("S3a-shipped")
        groups = [group[0] for group in scenario.machine.actors]
        pins = {name: {"left" if at % 2 else "right": 1.0} for at, name in enumerate(groups)}
        machine = LiveMachine(ray, scenario, resources=pins)
        wanted = replay(scenario, DEVIATIONS, strict=False)
        followed = machine.run(follow=wanted.journals, out=folder / "followed")
        free = machine.run(out=folder / "free")
        nodes = machine.actors.call("where")
        again = replay_journals(scenario, free.journals)
        machine.close()
    finally:
        ray.shutdown()
        cluster.shutdown()
    seen = {
        "ray_nodes": len({node for node, _ in nodes}),
        "log_folders": len({log for _, log in nodes}),
        "followed": followed.digest == wanted.digest,
        "free": free.digest == again.digest,
        "files": sorted(path.name for path in (folder / "free").iterdir()),
    }
    print(json.dumps(seen))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
