"""Makes the variants in folder variants: of a scenario, the smallest part found that has the same finding.

`python -m tests.scenarios.variants NAME ...` makes those of these scenarios. A variant is a file like that of
`uvmp minimize --smaller`: fewer steps, threads, pages and CPUs. exhausted.py searches it without the errata. A scenario
whose form cannot be cut down (cluster/fuzz/smaller.py), or whose finding no part shows often enough, has no variant.
"""

from __future__ import annotations

import sys

from cluster.fuzz.smaller import smaller
from cluster.search.explore import search
from tests.kit import CONFIGS, scenario
from tests.scenarios.exhausted import VARIANTS

#: schedules in which each part has to show the finding
SCHEDULES = 60


def make(name: str) -> bool:
    """Write a scenario's variant. Is there one?"""
    scene, file = scenario(name), CONFIGS / "scenarios" / f"{name}.yaml"
    finding = search(scene).finding
    if finding is None:
        return False
    made = smaller(file.read_text(encoding="utf-8"), str(file), scene, finding, SCHEDULES, lambda: None)
    if made is not None:
        (VARIANTS / f"{name}.yaml").write_text(made[0], encoding="utf-8")
    return made is not None


if __name__ == "__main__":
    for wanted in sys.argv[1:]:
        print(wanted, "variant" if make(wanted) else "no variant", flush=True)
