"""Where a host writes its journals, and what it does when it cannot."""

from __future__ import annotations

import errno
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from cluster.boot import boot
from cluster.live.actors import Actors
from cluster.live.elsewhere import places
from cluster.live.hosts import RayHost
from cluster.live.logs import Logs
from nodes.host.here import here
from nodes.host.remains import PREFIX
from shared.errors import Infrastructure
from shared.journal.record import read
from shared.journal.runfile import SUFFIX
from shared.scenario.pack import pack_scenario
from shared.wire.codec import CHUNK, LOAD, LOADED, decode, encode
from shared.wire.messages import Load
from tests.kit import scenario
from tests.nodes.in_threads import Threads


class Full:
    """A file on a disk that has so much room."""

    def __init__(self, file: Any, room: int):
        self.file, self.room = file, room

    def write(self, data: bytes) -> int:
        self.file.write(data[: self.room])
        self.file.flush()
        if len(data) > self.room:
            self.room = 0
            raise OSError(errno.ENOSPC, "No space left on device")
        self.room -= len(data)
        return len(data)

    def flush(self) -> None:
        if not self.room:
            raise OSError(errno.ENOSPC, "No space left on device")

    def close(self) -> None:
        self.file.close()
        self.flush()


def test_a_full_disk_ends_the_run_names_the_file_and_keeps_all_that_was_complete() -> None:
    machine = Threads(scenario("S3a").without_errata(), together=True)
    host = machine.hosts[machine.host_of["memory"]]
    lines = host.files["memory"]
    path = Path(lines.name)
    lines.file = Full(lines.file, 20_000)  # type: ignore[assignment]
    with pytest.raises(Infrastructure, match=rf"{path} cannot be written \(No space left on device\)"):
        machine.run()
    with pytest.raises(Infrastructure, match=path.name):
        host.finish()
    assert path.stat().st_size == 20_000
    with path.open("rb") as written:
        _, records, torn = read(written, path.name)
    assert [record["nseq"] for record in records] == list(range(1, len(records) + 1)) and len(records) > 50
    assert torn is not None, "the last line is cut, and behind it there is nothing"
    with (path.parent / "lock_manager.uvmp.jsonl").open("rb") as written:
        assert read(written, "lock_manager")[2] is None, "the other journals are whole"


def test_a_host_writes_into_the_folder_of_the_run_if_it_has_the_driver_s_disk(tmp_path: Path) -> None:
    """Then the journals stay there, whoever is killed. Else they are on its own disk until it is told to clean up."""
    scene = scenario("E1")
    machine = Threads(scene, together=True)
    host = machine.hosts[machine.host_of["memory"]]
    images = {name: boot(scene).get(name) for name in host.names}
    shared, absent = tmp_path / "run", tmp_path / "of another computer"
    shared.mkdir()
    (shared / ".mark").touch()
    for folder in (shared, absent):
        load = Load("again", str(folder), ".mark", pack_scenario(scene), images, None, 0, None)
        loaded = decode(LOADED, host.load(encode(LOAD, load)))
        journal = Path(loaded.folder) / "memory.uvmp.jsonl"
        assert (loaded.folder == str(folder)) == (folder == shared)
        host.finish()
        assert decode(CHUNK, host.chunk("memory", 0)) == journal.read_bytes() != b""
        host.clean()
        assert journal.exists() == (folder == shared)
    assert not absent.exists()


def test_a_run_that_is_begun_again_is_another_for_the_transport(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Or a delivery of the attempt in which an actor died would arrive in the next, which has the same identity."""
    scene = scenario("E1")
    host = next(iter(Threads(scene, together=True).hosts.values()))
    images = {name: boot(scene).get(name) for name in host.names}
    begun: list[str] = []
    monkeypatch.setattr(host.transport, "begin", begun.append)
    for mark in (".first", ".second"):
        host.load(encode(LOAD, Load("x", str(tmp_path), mark, pack_scenario(scene), images, None, 0, None)))
        host.clean()
    assert len({run for run in begun if run}) == 2


class Far:
    """Actors with disks of their own."""

    def chunks(self, node: str) -> Iterator[bytes]:
        yield b'{"node": "'
        yield f'{node}"}}\n'.encode()


@pytest.mark.parametrize("room", [True, False])
def test_a_journal_for_which_there_is_no_room_stays_on_its_computer_too(tmp_path: Path, room: bool) -> None:
    """The run is judged by a copy, which goes with the scratch; `uvmp collect` fetches the journal again."""
    run, spare = tmp_path / "run", tmp_path / "spare"
    run.mkdir()
    spare.mkdir()
    logs = Logs(cast(Actors, Far()), ["memory", "mmu"], run, "x")
    logs.are_in(["memory", "mmu"], here("node1", "2"), "/tmp/uvmp-x")
    if not room:
        (run / f"mmu{SUFFIX}").mkdir()  # in the way
    journals, unkept = logs.collect(spare)
    assert list(journals) == ["memory", "mmu"]
    for node, folder in (("memory", run), ("mmu", run if room else spare)):
        assert (folder / f"{node}{SUFFIX}").read_bytes() == b"".join(Far().chunks(node))
    assert (unkept is None) is room and (room or f"mmu{SUFFIX}" in str(unkept))
    assert list(logs.elsewhere) == list(places(run)) == ([] if room else ["mmu"])


@pytest.mark.parametrize("reached", [True, False], ids=["host answers", "host is lost"])
def test_the_journal_of_an_actor_that_died_is_fetched_from_its_computer(
    reached: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its folder there is then gone; what cannot be fetched stays, and the folder of the run says where."""
    far, run = tmp_path / "far" / f"{PREFIX}1", tmp_path / "run"
    far.mkdir(parents=True)
    run.mkdir()
    text = b'{"run": "x"}\n{"k": 1}\n'
    (far / f"memory{SUFFIX}").write_bytes(text)
    monkeypatch.setattr(tempfile, "tempdir", str(far.parent))

    class Dead(Far):
        def chunks(self, node: str) -> Iterator[bytes]:
            if node == "memory":
                raise Infrastructure("its actor has died")
            return super().chunks(node)

        def stop(self, *methods: str) -> None:
            assert methods == ("halt", "finish")

        def cluster(self) -> Any:
            hosts = [RayHost("node1", "far", "10.0.0.2", 1.0)] if reached else []
            return SimpleNamespace(hosts=hosts, ask=lambda host, function, *args: function(*args))

    logs = Logs(cast(Actors, Dead()), ["memory", "mmu"], run, "x")
    logs.are_in(["memory", "mmu"], here("node1", "2"), str(far))
    logs.salvage()
    assert (run / f"mmu{SUFFIX}").is_file()
    if reached:
        assert (run / f"memory{SUFFIX}").read_bytes() == text and not far.exists()
    assert list(logs.elsewhere) == list(places(run)) == ([] if reached else ["memory"])
