"""Mutants: one module is changed in one place at a time, and its own tests must notice. See tests/MUTANTS.md.

`make mutants` is for all modules of the table below, `make mutants MODULE=cluster/runs/token` for one. It is done by
mutmut 3: it runs pytest in forks of a process that has imported all already, so that a mutant costs what its tests do
and no start of Python. (cosmic-ray starts a process for each.) Functions with decorators it leaves alone; of the
decorators in UNSEEN, which change nothing that a test sees, the copy has none.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
#: where the copies of the tree are; one for each module
BUILD = ROOT / "build" / "mutants"
#: module -> the tests whose business it is
TESTS = {
    "nodes/cpu": ["tests/nodes/test_cpu.py"],
    "cluster/postmortem/analyse": ["tests/cluster/test_analyse.py"],
    "cluster/postmortem/history": ["tests/cluster/test_history.py"],
    "cluster/postmortem/load": ["tests/cluster/test_load.py"],
    "cluster/runs/token": ["tests/cluster/test_token.py"],
    "cluster/search/auto": ["tests/cluster/test_auto.py"],
    "cluster/search/beginning": ["tests/cluster/test_strategies.py"],
    "cluster/search/bounded": ["tests/cluster/test_bounded.py", "tests/cluster/test_behind.py"],
    "cluster/search/delays": ["tests/cluster/test_bounded.py"],
    "cluster/search/deviate": ["tests/cluster/test_strategies.py"],
    "cluster/search/dpor": ["tests/cluster/test_dpor.py", "tests/cluster/test_behind.py"],
    "cluster/search/explore": ["tests/cluster/test_explore.py"],
    "cluster/search/follow": ["tests/cluster/test_strategies.py"],
    "cluster/search/measure": ["tests/cluster/test_measure.py"],
    "cluster/search/minimize": ["tests/cluster/test_minimize.py"],
    "cluster/search/near": ["tests/cluster/test_near.py"],
    "cluster/search/pct": ["tests/cluster/test_strategies.py"],
    "cluster/search/pos": ["tests/cluster/test_pos.py"],
    "cluster/search/preemptions": ["tests/cluster/test_bounded.py"],
    "cluster/search/readsfrom": ["tests/cluster/test_readsfrom.py"],
    "cluster/search/rff": ["tests/cluster/test_rff.py"],
    "cluster/search/share": ["tests/cluster/test_share.py"],
    "cluster/search/sharetree": ["tests/cluster/test_share.py"],
    "cluster/search/steer": ["tests/cluster/test_steer.py"],
    "cluster/search/strategy": ["tests/cluster/test_strategies.py"],
    "cluster/search/subtree": ["tests/cluster/test_share.py"],
    "cluster/search/surw": ["tests/cluster/test_surw.py"],
    "cluster/search/uses": ["tests/cluster/test_rff.py"],
    "cluster/search/wakeup": ["tests/cluster/test_dpor.py", "tests/cluster/test_share.py"],
    "cluster/search/walk": ["tests/cluster/test_strategies.py"],
    "shared/detectors/race": ["tests/shared/test_race.py"],
    "shared/journal/cut": ["tests/shared/test_journal.py"],
    "shared/journal/order": ["tests/shared/test_journal.py"],
    "shared/journal/record": ["tests/shared/test_journal.py"],
    "shared/locks/order": ["tests/shared/test_locks.py"],
    "shared/locks/table": ["tests/shared/test_locks.py"],
    "shared/port/port": ["tests/shared/test_port.py", "tests/shared/test_requests.py"],
    "shared/scenario/machine": ["tests/shared/test_machine.py", "tests/shared/test_scenario.py"],
}
#: lines of a module that its copy goes without
UNSEEN = ("@seldom_collected()\n",)
CONFIG = """
[tool.mutmut]
source_paths = ["cluster", "nodes", "shared"]
only_mutate = ["{module}.py"]
also_copy = ["cluster", "nodes", "shared", "tests", "configs", "uvmp.py", "README.md", "pyproject.toml"]
pytest_add_cli_args = [
    "-p", "no:cacheprovider", "-m", "not live and not long and not wide", "--hypothesis-profile=mutants",
]
timeout_multiplier = 4
pytest_add_cli_args_test_selection = [{tests}]
"""


def run(module: str) -> None:
    """Mutate one module; prints the mutants that its tests do not notice."""
    if module not in TESTS:
        sys.exit(f"mutants: there is no module {module!r} in the table; known: {', '.join(TESTS)}")
    place = BUILD / module.replace("/", ".")
    shutil.rmtree(place, ignore_errors=True)
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).exists():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, place / name)
    copy = place / f"{module}.py"
    source = copy.read_text(encoding="utf-8").splitlines(keepends=True)
    copy.write_text("".join(line for line in source if line not in UNSEEN), encoding="utf-8")
    with (place / "pyproject.toml").open("a", encoding="utf-8") as config:
        config.write(CONFIG.format(module=module, tests=", ".join(f'"{path}"' for path in TESTS[module])))
    mutmut = str(Path(sys.executable).with_name("mutmut"))
    print(f"== {module}: {' '.join(TESTS[module])}", flush=True)
    subprocess.run([mutmut, "run"], cwd=place, check=True)
    subprocess.run([mutmut, "results"], cwd=place, check=True)
    print(f"to see one: cd {place} && {mutmut} show NAME", flush=True)


if __name__ == "__main__":
    for name in sys.argv[1:] or TESTS:
        run(name.removesuffix(".py"))
