"""Removes the journals that a killed driver has left on other hosts of a cluster, of a run that is not kept.

Ray ends the actors of a driver that has died, but not their files. The parent of the driver survives
(cluster/cli/parent.py), and has no connection to the cluster. Therefore a process of its own connects:

    python -m cluster.live.sweep HOST:PORT < JOURNALS

JOURNALS are (node, place) as JSON; its answer is those that may still be there.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from cluster.live.actors import ray_session
from cluster.live.collect import discard
from cluster.live.elsewhere import Place, places
from cluster.live.hosts import Hosts
from shared.errors import UserMistake

#: seconds that the process has
SWEEP_S = 60.0


def left_by_runs(scratch: str) -> list[tuple[str, Place]]:
    """The journals on other hosts, of all runs in the temporary folder of a machine."""
    journals: list[tuple[str, Place]] = []
    for folder in Path(scratch).glob("run*"):
        try:
            journals += places(folder).items()
        except UserMistake:  # (the driver was killed as it wrote the file)
            continue
    return journals


def sweep(address: str, journals: Sequence[tuple[str, Place]]) -> list[tuple[str, Place]]:
    """Remove these journals; returns those that may still be there."""
    try:
        done = subprocess.run(
            [sys.executable, "-m", __name__, address], input=json.dumps(journals), capture_output=True, text=True,
            timeout=SWEEP_S, check=True,
        )  # fmt: skip
        return [(node, Place(*place)) for node, place in json.loads(done.stdout)]
    except (subprocess.SubprocessError, OSError, ValueError, TypeError):
        return list(journals)


def main(address: str) -> None:
    """Remove the journals that stdin has, and print those that may still be there."""
    journals = [(node, Place(*place)) for node, place in json.load(sys.stdin)]
    out = sys.stdout
    with ray_session(address) as ray:
        left = discard(journals, Hosts(ray))
    print(json.dumps(left), file=out)


if __name__ == "__main__":
    main(sys.argv[1])
