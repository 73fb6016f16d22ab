"""Which modules are compiled: what runs at each operation and each execution of a search."""

from __future__ import annotations

from pathlib import Path

#: files, and folders of them; each behind those of whose structs it has subclasses
COMPILED = (
    "shared/port",
    "shared/uvm",
    "shared/locks",
    "shared/detectors/effects.py",
    "shared/detectors/invariants",
    "shared/detectors/machine_state.py",
    "shared/detectors/memory_model.py",
    "shared/detectors/oracle.py",
    "shared/detectors/provenance.py",
    "shared/detectors/race.py",
    "shared/detectors/verdict.py",
    "shared/detectors/waits.py",
    "shared/journal/record.py",
    "shared/patch.py",
    "shared/program/run.py",
    "shared/wire/images.py",
    "shared/wire/messages.py",
    "nodes",
    "cluster/fuzz/observe.py",
    "cluster/machine.py",
    "cluster/search/auto.py",
    "cluster/search/beginning.py",
    "cluster/search/bounded.py",
    "cluster/search/classes.py",
    "cluster/search/delays.py",
    "cluster/search/dependency.py",
    "cluster/search/deviate.py",
    "cluster/search/dpor.py",
    "cluster/search/follow.py",
    "cluster/search/pct.py",
    "cluster/search/near.py",
    "cluster/search/pos.py",
    "cluster/search/preemptions.py",
    "cluster/search/rff.py",
    "cluster/search/strategy.py",
    "cluster/search/sharetree.py",
    "cluster/search/subtree.py",
    "cluster/search/surw.py",
    "cluster/search/systematic.py",
    "cluster/search/touch.py",
    "cluster/search/trace.py",
    "cluster/search/uses.py",
    "cluster/search/wakeup.py",
    "cluster/search/walk.py",
    "cluster/sim",
)
#: files of these folders that stay as they are
LEFT = tuple(
    f"nodes/host/{name}.py"
    for name in ("admit", "host", "lease", "lines", "private", "ray", "remains", "runner", "sockets", "stream",
                 "transport")
)  # fmt: skip


def modules(root: Path) -> list[str]:
    """The files to compile, as shared/uvm/page.py."""
    paths: list[str] = []
    for name in COMPILED:
        files = sorted((root / name).rglob("*.py")) if (root / name).is_dir() else [root / name]
        names = [str(file.relative_to(root)) for file in files if file.name != "__init__.py"]
        paths += sorted(names, key=lambda file: not file.endswith(("/struct.py", "/structs.py")))
    return [name for name in paths if name not in LEFT]
