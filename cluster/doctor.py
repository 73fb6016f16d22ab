"""Checks of the installation and of this computer.

Our import names (`cluster`, `nodes`, `shared`) are common words, and other
distributions use them, too. In the same environment such a distribution can
replace our package, and no traceback would explain that.
"""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import resource
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlparse

import cluster
from cluster.live.watch import Watch
from shared import FORM
from shared.errors import Infrastructure, ProjectBug, UserMistake
from shared.text import counted, reason

if TYPE_CHECKING:
    from cluster.live.hosts import Surveyed

PACKAGES = ("cluster", "nodes", "shared")
REQUIRED = ("click", "greenlet", "msgpack", "PyYAML", "ray", "rich", "structlog")
MIN_PYTHON = (3, 11)
WANTED_MEMORY_MIB = 2048
WANTED_SHM_MIB = 128
WANTED_FILES = 1024
#: seconds that the clock of a host may be wrong
CLOCK_S = 1.0


@dataclass(frozen=True, slots=True)
class Check:
    """One question and its answer.

    Attributes:
        state: "ok", "warning" (may do) or "bad" (will not).
        actual: what is there.
        advice: what to do about it, or "".
    """

    name: str
    state: str
    actual: str
    advice: str = ""

    def as_dict(self) -> dict[str, object]:
        """As plain data."""
        return {"name": self.name, "state": self.state, "found": self.actual, "advice": self.advice}


def _check(name: str, good: bool, actual: str, advice: str, otherwise: str = "warning") -> Check:
    return Check(name, "ok", actual) if good else Check(name, otherwise, actual, advice)


def examine(with_ray: bool = False, watch: Watch | None = None, address: str | None = None) -> Iterator[Check]:
    """All checks, one after another.

    Args:
        with_ray: also start a Ray of our own, which takes seconds.
        address: of a Ray cluster whose hosts are to be compared with this computer.
    """
    yield _python()
    yield Check("form", "ok", f"{FORM.name}: {FORM.why}")
    yield from _packages()
    yield from _requirements()
    yield _kernel()
    yield _scenarios()
    yield _cores()
    yield _memory()
    yield from _shared_memory()
    yield _open_files()
    yield _writable("temporary folder", Path(tempfile.gettempdir()))
    yield _writable("current folder", Path())
    if with_ray:
        yield _ray(watch)
    if address is not None:
        yield from _cluster(address)


def _python() -> Check:
    version = f"{platform.python_version()} ({sys.executable})"
    return _check("python", sys.version_info >= MIN_PYTHON, version, "needs 3.11 or later", "bad")


def _packages() -> Iterator[Check]:
    """Is each package ours, and not one of another distribution?"""
    home = Path(cluster.__file__).resolve().parent.parent
    installed = _installed_at()
    claims = metadata.packages_distributions()
    for name in PACKAGES:
        spec = importlib.util.find_spec(name)
        origin = Path(spec.origin).resolve().parent if spec is not None and spec.origin else None
        others = sorted(set(claims.get(name, ())) - {"uvmp"})
        title = f"package {name}"
        if origin is None:
            yield Check(title, "bad", "not found", "install uvmp again, in its own environment")
        elif origin != home / name:
            advice = f"sys.path has another package called {name}"
            yield Check(title, "bad", f"{origin}, not beside {home}/cluster", advice)
        elif others:
            advice = f"pip uninstall {others[0]}, then install uvmp again"
            yield Check(title, "bad", f"also installed by {', '.join(others)}", advice)
        elif installed is not None and installed != home:
            advice = "run the uvmp that you mean: .venv/bin/uvmp of a checkout, or uvmp from another folder"
            yield Check(title, "warning", f"{origin}; but uvmp is installed at {installed}", advice)
        else:
            yield Check(title, "ok", str(origin))


def _installed_at() -> Path | None:
    """The folder that the installed distribution's packages are in; None: not installed."""
    try:
        distribution = metadata.distribution("uvmp")
    except metadata.PackageNotFoundError:
        return None
    direct = distribution.read_text("direct_url.json")
    if direct:
        origin = json.loads(direct)
        if origin.get("dir_info", {}).get("editable"):
            return Path(unquote(urlparse(origin["url"]).path)).resolve()
    return Path(str(distribution.locate_file(""))).resolve()


def _requirements() -> Iterator[Check]:
    for name in REQUIRED:
        try:
            yield Check(name, "ok", metadata.version(name))
        except metadata.PackageNotFoundError:
            yield Check(name, "bad", "not installed", f"pip install {name}")


def _kernel() -> Check:
    from cluster.runs.token import kernel_version

    return Check("kernel", "ok", f"version {kernel_version()}; uvmp replay refuses tokens of other versions")


def _scenarios() -> Check:
    from cluster import configs

    try:
        ids = [configs.shipped(name).id for name in configs.names("scenarios")]
    except (UserMistake, Infrastructure) as wrong:
        return Check("scenarios", "bad", str(wrong), "install uvmp again")
    return Check("scenarios", "ok" if ids else "bad", f"{len(ids)} in {configs.root()}")


def _cores() -> Check:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return _check("cores", usable >= 2, str(usable), "races in free runs need two cores")


def _memory() -> Check:
    free = _available_mib()
    if free is None:
        return Check("memory", "warning", "unknown on this system")
    advice = f"a live machine of ten processes needs {WANTED_MEMORY_MIB:,} MiB; sim needs much less"
    return _check("memory", free >= WANTED_MEMORY_MIB, f"{free:,} MiB available", advice)


def _available_mib() -> int | None:
    """The memory that the system and our control group leave us."""
    free = None
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                free = int(line.split()[1]) // 1024
        limit = Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii").strip()
        used = Path("/sys/fs/cgroup/memory.current").read_text(encoding="ascii").strip()
        if limit.isdigit() and free is not None:
            free = min(free, (int(limit) - int(used)) >> 20)
    except (OSError, ValueError):
        pass
    return free


def _shared_memory() -> Iterator[Check]:
    shm = Path("/dev/shm")
    if shm.is_dir():
        free = shutil.disk_usage(shm).free >> 20
        advice = "Ray will use the disk instead, which is slow"
        yield _check("/dev/shm", free >= WANTED_SHM_MIB, f"{free:,} MiB free", advice)


def _open_files() -> Check:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = soft == resource.RLIM_INFINITY
    advice = f"Ray needs {WANTED_FILES} or more: ulimit -n {WANTED_FILES}"
    actual = "unlimited" if unlimited else f"at most {soft:,}"
    return _check("open files", unlimited or soft >= WANTED_FILES, actual, advice)


def _writable(name: str, folder: Path) -> Check:
    try:
        with tempfile.TemporaryFile(dir=folder):
            return Check(name, "ok", str(folder.absolute()))
    except OSError as wrong:
        state = "warning" if name == "current folder" else "bad"
        return Check(name, state, f"{folder}: {reason(wrong)}", "uvmp cannot keep a run there")


def _ray(watch: Watch | None) -> Check:
    from cluster.live.actors import ray_session

    began = monotonic()
    try:
        with ray_session(watch=watch) as ray:
            started = monotonic() - began
            version = ray.__version__
    except (ProjectBug, ImportError) as wrong:
        advice = "see the lines above; `uvmp explore` and `uvmp replay` need no Ray"
        return Check("a local Ray", "bad", str(wrong), advice)
    times = f"started in {started:.1f} s and stopped in {monotonic() - began - started:.1f} s"
    return Check("a local Ray", "ok", f"Ray {version} {times}")


def _cluster(address: str) -> Iterator[Check]:
    """Does a Ray cluster let us in, and is every host of it like this computer?"""
    from cluster.cli.live import check_address
    from cluster.live.actors import ray_session
    from cluster.live.hosts import Hosts, survey

    try:
        check_address(address)
        with ray_session(address) as ray:
            there = Hosts(ray)
            yield Check("cluster", "ok", f"{counted(len(there.hosts), 'host')} at {address}")
            for surveyed in survey(there):
                yield _host(surveyed, ray.__version__)
    except (ProjectBug, UserMistake, ImportError) as wrong:
        yield Check("cluster", "bad", str(wrong))


def _host(surveyed: Surveyed, ray: str) -> Check:
    """Is this host like ours?"""
    from nodes.host.here import here, unlike

    title, theirs = f"host {surveyed.host}", surveyed.here
    if isinstance(theirs, str):
        return Check(title, "bad", theirs, "install the same uvmp there, for the Python that runs Ray")
    ours = here("", ray)
    pairs = {"Python": (theirs.python, ours.python), "Ray": (theirs.ray, ray), "uvmp": (theirs.uvmp, ours.uvmp)}
    bad = [f"its {name} is {there}, ours is {own}" for name, (there, own) in pairs.items() if there != own]
    files = unlike(theirs.source, ours.source)
    if files:
        bad.append(f"its source differs in {files}: install the same uvmp there")
    doubts = []
    if not theirs.token:
        doubts.append("Ray wants no token there: set RAY_AUTH_MODE=token before `ray start`")
    if abs(surveyed.ahead) - surveyed.unsure > CLOCK_S:
        doubts.append("set its clock")
    facts = (
        f"Python {theirs.python}, Ray {theirs.ray}, uvmp {theirs.uvmp}, {'other' if files else 'the same'} source, "
        f"{'token' if theirs.token else 'no token'}, clock {surveyed.ahead:+.3f} s (within {surveyed.unsure:.3f} s)"
    )
    return Check(title, "bad" if bad else "warning" if doubts else "ok", facts, "; ".join(bad + doubts))
