"""The journal files of a live run.

An actor that has the driver's disk writes its journals into the folder of the run. Another actor writes them into a
folder of its own computer, and the driver fetches them at the end, in pieces by messages; if that actor has died, from
its computer (collect.py). As long as that is not done, ELSEWHERE in the folder of the run says where they are.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from cluster.live.actors import Actors
from cluster.live.collect import collect, note
from cluster.live.elsewhere import ELSEWHERE, Place, places
from cluster.runs.folder import cannot_write, receive
from nodes.host.here import Here
from nodes.host.private import make_folder
from shared.errors import Infrastructure, ProjectBug
from shared.journal.record import Journals, Record, stream
from shared.journal.runfile import SCENARIO, SUFFIX

#: bytes of a file that are read at once
PIECE = 1 << 16


class Stored:
    """The records of a journal on the disk, which is read anew each time.

    The file stays open: the records are there also when the folder of the run has been removed.

    Args:
        may_be_torn: the last line may be, and is then no record.

    Raises: OSError.
    """

    def __init__(self, path: Path, may_be_torn: bool = False):
        self.name, self.may_be_torn = path.name, may_be_torn
        self.file = os.open(path, os.O_RDONLY)

    def __del__(self) -> None:
        with contextlib.suppress(AttributeError):  # it could not be opened
            os.close(self.file)

    def __iter__(self) -> Iterator[Record]:
        return stream(self._lines(), self.name, self.may_be_torn)

    def _lines(self) -> Iterator[bytes]:
        offset, begun = 0, b""
        while piece := os.pread(self.file, PIECE, offset):
            offset += len(piece)
            *lines, begun = (begun + piece).split(b"\n")
            for line in lines:
                yield line + b"\n"
        if begun:
            yield begun


class Logs:
    """The files of one run.

    Args:
        folder: of the run.
        run: its identity.

    Attributes:
        elsewhere: node -> where its journal is, if it is not in the folder.
    """

    def __init__(self, actors: Actors, nodes: Iterable[str], folder: Path, run: str):
        self.actors, self.nodes, self.folder, self.run = actors, list(nodes), folder, run
        self.elsewhere: dict[str, Place] = {}

    def are_in(self, nodes: Iterable[str], here: Here, folder: str) -> None:
        """An actor says where it writes the journals of its nodes."""
        if folder != str(self.folder):
            self.elsewhere |= {node: Place(here.host, here.node, f"{folder}/{node}{SUFFIX}") for node in nodes}
            note(self.folder, self.elsewhere)

    def collect(self, spare: Path) -> tuple[Journals, Infrastructure | None]:
        """Every node's journal, and why not all of them are in the folder of the run.

        Args:
            spare: folder for those for which there is no room: what was found must not be lost with them. They stay
                where they are, too, and `elsewhere` says so.

        Raises: Infrastructure.
        """
        folders, unkept = dict.fromkeys(self.nodes, self.folder), None
        try:
            for node in list(self.elsewhere):
                self.fetch(node, self.folder)
        except OSError as full:
            unkept = cannot_write(Path(full.filename), full)
            for node in list(self.elsewhere):
                folders[node] = spare
                try:
                    self.fetch(node, spare)
                except OSError as wrong:
                    raise cannot_write(Path(wrong.filename), wrong) from None
        return {node: Stored(place / f"{node}{SUFFIX}") for node, place in folders.items()}, unkept

    def salvage(self) -> None:
        """End all writers, and then fetch the logs of other hosts, as far as possible."""
        self.actors.stop("halt", "finish")
        for node in list(self.elsewhere):
            with contextlib.suppress(OSError, Infrastructure):
                self.fetch(node, self.folder)
        if self.elsewhere:  # their actors have died
            with contextlib.suppress(OSError, ProjectBug):
                list(collect(self.folder, self.actors.cluster(), self.run))
            self.elsewhere = places(self.folder)

    def left(self) -> Journals:
        """The journals in the folder of the run; a last line may be torn."""
        journals = {}
        for node in self.nodes:
            with contextlib.suppress(FileNotFoundError):
                journals[node] = Stored(self.folder / f"{node}{SUFFIX}", may_be_torn=True)
        return journals

    def set_aside(self, folder: Path) -> None:
        """Move the journals into a folder of their own, which is that of a run that was cut short."""
        make_folder(folder)
        shutil.copy(self.folder / SCENARIO, folder)
        for name in (ELSEWHERE, *(f"{node}{SUFFIX}" for node in self.nodes)):
            with contextlib.suppress(FileNotFoundError):
                (self.folder / name).rename(folder / name)

    def fetch(self, node: str, folder: Path) -> None:
        """Fetch the journal of a node; if into the folder of the run, it is elsewhere no more.

        Raises: OSError - the disk is full; Infrastructure - its actor is dead.
        """
        receive(folder / f"{node}{SUFFIX}", self.actors.chunks(node))
        if folder == self.folder:
            del self.elsewhere[node]
            note(self.folder, self.elsewhere)
