"""Fetches the journals of a run that are still on other computers into the folder of the run, or removes them there.

The driver of the run has died, or an actor before its journals were fetched. A cluster with the same computer reads
them there (nodes/host/remains.py), in pieces. A journal is in the folder as a whole or not at all, and is removed there
when it is here. If the run is not kept, its journals are only removed.

Left out: the journals of actors that live (logs.py).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import NamedTuple, Protocol, TypeVar

from cluster.live.elsewhere import ELSEWHERE, Place, places
from cluster.live.hosts import RayHost
from cluster.runs.folder import put, receive
from nodes.host import remains
from shared.errors import Infrastructure, LogIncomplete, ProjectBug, UserMistake
from shared.journal.record import MAX_LINE
from shared.journal.runfile import SCENARIO, SUFFIX
from shared.text import clean
from shared.wire.codec import CHUNK, decode

#: bytes of a journal, and of scenario.json
MAX_BYTES, MAX_JSON = 1 << 30, 8 << 20
T = TypeVar("T")


class Cluster(Protocol):
    """Computers, of which each calls a function when it is asked to.

    Attributes:
        hosts: those that are alive.
    """

    hosts: Sequence[RayHost]

    def ask(self, host: RayHost, function: Callable[..., T], *args: object) -> T:
        """The value that the function returns there.

        Raises: Infrastructure - no answer; ProjectBug - what the function raises.
        """


class Fetched(NamedTuple):
    """The result of fetching a journal.

    Attributes:
        size: bytes of it that were fetched.
        failed: why it is not here; None: it is.
    """

    node: str
    host: str
    size: int
    failed: ProjectBug | None = None


def missing(folder: Path) -> dict[str, Place]:
    """Node -> where its journal is, of all that are not in the folder of a run.

    Raises: UserMistake - it is not the folder of a run on real processes.
    """
    _identity(folder)
    return places(folder)


def note(folder: Path, elsewhere: Mapping[str, Place]) -> None:
    """Write where journals of a run are that are elsewhere, for a command that fetches them."""
    path = folder / ELSEWHERE
    if elsewhere:
        put(path, json.dumps({node: place._asdict() for node, place in elsewhere.items()}, indent=1) + "\n")
    else:
        path.unlink(missing_ok=True)


def collect(folder: Path, cluster: Cluster, run: str = "") -> Iterator[Fetched]:
    """Fetch the missing journals, as far as possible.

    Args:
        run: its identity, if its driver asks: actors that have not ended, because they are stopped, are killed; "": as
            the folder says, and the run may go on.

    Raises: UserMistake - it is not the folder of a run; OSError - the disk is full.
    """
    given_up, run, there = bool(run), run or _identity(folder), places(folder)
    for node, place in list(there.items()):
        try:
            if given_up:
                _end(run, node, place, cluster)
            size, host = _fetch(folder, run, node, place, cluster)
        except ProjectBug as wrong:
            yield Fetched(node, place.host, 0, wrong)
            continue
        del there[node]
        note(folder, there)  # before it is removed there: a command that is killed in between can begin again
        with suppress(ProjectBug):  # (a file more in a temporary folder)
            cluster.ask(host, remains.remove, PurePosixPath(place.path).parent.name, node)
        yield Fetched(node, place.host, size)


def discard(journals: Iterable[tuple[str, Place]], cluster: Cluster) -> list[tuple[str, Place]]:
    """Remove the journals of nodes there, of runs that are not kept; returns those that may still be there."""
    left = []
    for node, place in journals:
        hosts = _hosts(place, cluster)
        removed = False
        for host in hosts:
            try:
                cluster.ask(host, remains.remove, PurePosixPath(place.path).parent.name, node)
            except LogIncomplete:  # there is none
                removed |= len(hosts) == 1
            except Infrastructure:
                continue
            else:
                removed = True
        if not removed:
            left.append((node, place))
    return left


def _end(run: str, node: str, place: Place, cluster: Cluster) -> None:
    """Kill the actor that writes the journal of a node, if it is still there."""
    for host in _hosts(place, cluster):
        with suppress(ProjectBug):
            cluster.ask(host, remains.end, PurePosixPath(place.path).parent.name, node, run)


def _hosts(place: Place, cluster: Cluster) -> list[RayHost]:
    """The hosts of a cluster where it may be: that Ray node, or else all computers of that name."""
    hosts = [host for host in cluster.hosts if host.id == place.node]
    return hosts or [host for host in cluster.hosts if host.name == place.host]


def why(failed: Sequence[Fetched]) -> ProjectBug:
    """Why journals are not here, in one line; at least one journal."""
    reasons: dict[str, list[str]] = {}
    for journal in failed:
        reasons.setdefault(str(journal.failed), []).append(journal.node)
    kind = Infrastructure if any(isinstance(journal.failed, Infrastructure) for journal in failed) else LogIncomplete
    return kind("; ".join(f"no journal of {', '.join(nodes)}: {reason}" for reason, nodes in reasons.items()))


def _identity(folder: Path) -> str:
    """The identity of a run.

    Raises: UserMistake - it is not the folder of a run.
    """
    path = folder / SCENARIO
    try:
        with open(path, "rb") as stream:
            run = json.loads(stream.read(MAX_JSON))["run"]
        if not isinstance(run, str):
            raise ValueError("run: expected text")
        return run
    except (OSError, ValueError, TypeError, LookupError, RecursionError) as wrong:
        reason = getattr(wrong, "strerror", None) or str(wrong)
        raise UserMistake(f"not the folder of a run ({SCENARIO}: {clean(reason, 120).lower()})",
                          file=clean(folder, 200)) from None  # fmt: skip


def _fetch(folder: Path, run: str, node: str, place: Place, cluster: Cluster) -> tuple[int, RayHost]:
    """Fetch a journal; returns its size in bytes, and the computer where it is.

    Raises: ProjectBug - it cannot be; OSError - the disk is full.
    """
    path = PurePosixPath(place.path)
    if path.name != f"{node}{SUFFIX}":
        raise LogIncomplete(f"{clean(place.path, 200)} is not the name of its file")
    wrong: ProjectBug = Infrastructure(
        f"host {clean(place.host, 100)} is not in the cluster, which has {', '.join(map(str, cluster.hosts[:20]))}"
    )
    for host in _hosts(place, cluster):  # (several may have a name)
        try:
            return receive(folder / f"{node}{SUFFIX}", _pieces(cluster, host, run, path.parent.name, node)), host
        except ProjectBug as error:
            wrong = type(error)(f"host {host}: {clean(error, 300)}")
    raise wrong


def _pieces(cluster: Cluster, host: RayHost, run: str, folder: str, node: str) -> Iterator[bytes]:
    """A journal, in pieces.

    Raises: LogIncomplete - it is of another run, or too large; Infrastructure.
    """
    offset = 0
    while piece := decode(CHUNK, cluster.ask(host, remains.piece, folder, node, offset)):
        if offset == 0 and _run_of(piece) != run:
            raise LogIncomplete(f"the journal in {folder} is of another run")
        offset += len(piece)
        if offset > MAX_BYTES:
            raise LogIncomplete(f"the journal has more than {MAX_BYTES} bytes")
        yield piece
    if offset == 0:
        raise LogIncomplete(f"the journal in {folder} is empty")


def _run_of(piece: bytes) -> object:
    """The run that a journal is of, by its first line."""
    try:
        return json.loads(piece[:MAX_LINE].split(b"\n", 1)[0])["run"]
    except (ValueError, TypeError, LookupError, RecursionError):
        return None
