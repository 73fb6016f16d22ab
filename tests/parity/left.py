"""What there is on a host that a run might leave: files, processes, sockets on which somebody listens.

    python -m tests.parity.left                    prints it, as JSON
    python -m tests.parity.left BEFORE [SECONDS]   waits until there is no more than in file BEFORE, and prints what is

Only the last component of a name is told of a process. The folder /tmp/test is that of the test itself. A raylet starts
workers that have no job yet, and keeps as many of them as it has CPUs: these are Ray's, not a run's, and are left out.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections import Counter
from pathlib import Path

LISTENS = "0A"
#: names of processes of the test itself
TOOLS = {"bash", "timeout", "sleep", "ps"}


def spare() -> set[int]:
    """Idle workers of Ray's that have no job: the names of their log files have the number of no job."""
    logs = Path("/tmp/ray/session_latest/logs").glob("worker-*-ffffffff-*.out")
    pids = {int(log.stem.rpartition("-")[2]) for log in logs}
    return {pid for pid in pids if command(pid)[0].startswith(b"ray::IDLE")}


def command(pid: int) -> list[bytes]:
    """The words of a process's command line; an empty word: it has none, or has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return [b""]


def sockets(pid: int) -> set[str]:
    """Numbers of the sockets that a process has."""
    try:
        links = [os.readlink(file) for file in Path(f"/proc/{pid}/fd").iterdir()]
    except OSError:
        return set()
    return {link[len("socket:[") : -1] for link in links if link.startswith("socket:[")}


def listening() -> list[str]:
    """Addresses of TCP sockets on which somebody listens, and names of our abstract sockets."""
    ports, left_out = [], {number for pid in spare() for number in sockets(pid)}
    for family in ("tcp", "tcp6"):
        rows = [line.split() for line in Path("/proc/net", family).read_text(encoding="ascii").splitlines()[1:]]
        ports += [
            f"port {int(row[1].rpartition(':')[2], 16)}" for row in rows if row[3] == LISTENS and row[9] not in left_out
        ]
    names = [line.split()[-1] for line in Path("/proc/net/unix").read_text(encoding="ascii").splitlines()]
    return sorted({*ports, *(name for name in names if name.startswith("@uvmp"))})


def processes() -> list[str]:
    """Names of all processes of this host, without this process and the tools of the test."""
    counts: Counter[str] = Counter()
    left_out = {os.getpid(), *spare()}
    for path in Path("/proc").glob("[1-9]*"):
        words = command(int(path.name))
        name = next((word for word in reversed(words[:3]) if word.endswith((b".py", b"uvmp"))), words[0])
        told = os.path.basename(name.decode(errors="replace"))
        if told and told not in TOOLS and int(path.name) not in left_out:
            counts[told] += 1
    return [f"{name} {count}" for name, count in sorted(counts.items())]


def there() -> dict[str, list[str]]:
    """All of it."""
    files = [f"{folder}/{name}" for folder in ("/tmp", "/dev/shm") for name in sorted(os.listdir(folder))]
    return {"files": [name for name in files if name != "/tmp/test"], "processes": processes(), "listens": listening()}


def more_than(before: dict[str, list[str]]) -> list[str]:
    """What there is more than there was."""
    return [name for kind, names in there().items() for name in names if name not in before[kind]]


if __name__ == "__main__":
    if len(sys.argv) == 1:
        print(json.dumps(there()))
    else:
        before = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
        until = time.monotonic() + float(sys.argv[2] if len(sys.argv) > 2 else 30)
        while (more := more_than(before)) and time.monotonic() < until:
            time.sleep(0.2)
        print(f"left: {', '.join(more) or 'nothing'}")
