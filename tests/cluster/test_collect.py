"""Journals that stayed on another computer are fetched, and the folder is then as if they had been here."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from subprocess import PIPE
from typing import Any

import pytest

from cluster.live.collect import collect, discard, why
from cluster.live.elsewhere import ELSEWHERE, left, places
from cluster.live.hosts import Hosts, RayHost
from cluster.live.watch import remedy
from nodes.host import remains
from shared.errors import Exit, Infrastructure, LogIncomplete, ProjectBug, UserMistake
from shared.wire.codec import CHUNK, decode
from tests.kit import uvmp

FAR = RayHost("id-far", "far", "10.0.0.2", 2.0)
NEAR = RayHost("id-near", "near", "10.0.0.1", 2.0)
AWAY = ("memory", "cpu1")
THERE = "uvmp-abc_1234"


@dataclass
class Played:
    """A cluster of two computers; the temporary folder of the second is `far`."""

    far: Path
    hosts: Sequence[RayHost] = (NEAR, FAR)

    def ask(self, host: RayHost, function: Callable[..., Any], *args: object) -> Any:
        assert host in self.hosts
        here, tempfile.tempdir = tempfile.tempdir, str(self.far if host.name == "far" else self.far.parent / "near")
        try:
            return function(*args)
        finally:
            tempfile.tempdir = here


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    """A run, all of whose journals are here."""
    assert uvmp("run", "S3a-shipped", "--fixed", "--out", tmp_path / "whole").exit_code == 0
    return tmp_path / "whole"


@pytest.fixture
def played(whole: Path, tmp_path: Path) -> Played:
    """The same run, in folder `run`; two of its journals are on another computer."""
    (tmp_path / "far" / THERE).mkdir(parents=True)
    (tmp_path / "run").mkdir()
    for file in whole.iterdir():
        away = file.name.split(".")[0] in AWAY
        (tmp_path / ("far/" + THERE if away else "run") / file.name).write_bytes(file.read_bytes())
    say(tmp_path / "run", **{node: {} for node in AWAY})
    return Played(tmp_path / "far")


def say(run: Path, **nodes: dict[str, str]) -> None:
    """Write where journals are: there, apart from what is given."""
    usual = {"host": "far", "node": "id-far"}
    there = {node: usual | {"path": f"/tmp/{THERE}/{node}.uvmp.jsonl"} | given for node, given in nodes.items()}
    (run / ELSEWHERE).write_text(json.dumps(there), encoding="utf-8")


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.mark.usefixtures("played")
def test_the_line_that_fetches_them_can_be_pasted_whatever_the_folder_is_called(tmp_path: Path) -> None:
    odd = tmp_path / "a\nb 'c'"
    (tmp_path / "run").rename(odd)
    lines = uvmp("postmortem", odd).stderr.splitlines()
    line = next(line for line in lines if line.startswith("to fetch")).partition(": ")[2]
    said = subprocess.run(["bash", "-c", f'uvmp() {{ printf %s "$2"; }}; {line}'], capture_output=True, check=True)
    assert said.stdout.decode() == str(odd)


@pytest.mark.parametrize("restarted", [False, True], ids=["same cluster", "cluster was started anew"])
def test_the_folder_is_then_as_if_the_journals_had_been_here(
    restarted: bool, played: Played, whole: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    told = uvmp("postmortem", run)
    assert told.exit_code == Exit.LOG_INCOMPLETE
    assert f"the journal of memory stays on far: /tmp/{THERE}/memory.uvmp.jsonl" in told.stderr
    assert f"uvmp collect {run}" in told.stderr
    if restarted:
        played.hosts = (NEAR, FAR._replace(id="id-new"))
    done = list(collect(run, played))
    assert {(journal.node, journal.host, journal.failed) for journal in done} == {(node, "far", None) for node in AWAY}
    assert sum(journal.size for journal in done) > 2 * remains.CHUNK_BYTES, "it came in pieces"
    assert contents(run) == contents(whole), "and the note of what is elsewhere is gone"
    assert list(played.far.iterdir()) == [], "nothing is left there"
    for command in ("replay", "postmortem"):
        assert uvmp(command, run).exit_code == Exit.NO_FINDING


def gone(played: Played, run: Path) -> None:
    played.hosts = (NEAR,)


def no_folder(played: Played, run: Path) -> None:
    (played.far / THERE).rename(played.far / "other")


def other_run(played: Played, run: Path) -> None:
    for file in (played.far / THERE).iterdir():
        header, rest = file.read_bytes().split(b"\n", 1)
        file.write_bytes(json.dumps(json.loads(header) | {"run": "0" * 16}).encode() + b"\n" + rest)


def empty(played: Played, run: Path) -> None:
    for file in (played.far / THERE).iterdir():
        file.write_bytes(b"")


def another_file(played: Played, run: Path) -> None:
    say(run, **{node: {"path": f"/tmp/{THERE}/../secret"} for node in AWAY})


def another_folder(played: Played, run: Path) -> None:
    say(run, **{node: {"path": f"/home/secret/{node}.uvmp.jsonl"} for node in AWAY})


@pytest.mark.parametrize(
    ("happens", "kind", "told"),
    [
        (gone, Infrastructure, "host far is not in the cluster, which has near (10.0.0.1)"),
        (no_folder, LogIncomplete, f"host far (10.0.0.2): .*/far/{THERE}/.*: no such file or directory"),
        (other_run, LogIncomplete, f"host far (10.0.0.2): the journal in {THERE} is of another run"),
        (empty, LogIncomplete, f"host far (10.0.0.2): the journal in {THERE} is empty"),
        (another_file, LogIncomplete, f"/tmp/{THERE}/../secret is not the name of its file"),
        (another_folder, LogIncomplete, "secret/.* is not the name of a journal"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_what_cannot_be_fetched_is_told_in_a_line_and_stays(
    happens: Callable[[Played, Path], None], kind: type[ProjectBug], told: str, played: Played, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    happens(played, run)
    before, far = contents(run), sorted(played.far.rglob("*"))
    wrong = why(list(collect(run, played)))
    assert type(wrong) is kind and "\n" not in str(wrong)
    assert re.search(re.escape(told).replace(r"\.\*", ".*"), str(wrong)), wrong
    assert contents(run) == before and sorted(played.far.rglob("*")) == far


def test_what_can_be_fetched_is_though_something_else_cannot(played: Played, tmp_path: Path) -> None:
    (played.far / THERE / "memory.uvmp.jsonl").unlink()
    done = {journal.node: journal for journal in collect(tmp_path / "run", played)}
    assert done["cpu1"].failed is None and str(why([done["memory"]])).startswith("no journal of memory: host far ")
    assert list(places(tmp_path / "run")) == ["memory"] and (tmp_path / "run" / "cpu1.uvmp.jsonl").is_file()


def test_of_a_run_that_goes_on_nothing_is_taken(played: Played, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its actor would write on, and nobody would have that."""
    file = played.far / THERE / "memory.uvmp.jsonl"
    header, rest = file.read_bytes().split(b"\n", 1)
    file.write_bytes(json.dumps(json.loads(header) | {"pid": os.getpid()}).encode() + b"\n" + rest)
    assert decode(CHUNK, played.ask(FAR, remains.piece, THERE, "memory", 0)), "that process is no actor"
    read = Path.read_bytes
    monkeypatch.setattr(remains, "ENDS_S", 0.1)
    monkeypatch.setattr(Path, "read_bytes", lambda path: b"ray::NodeActor" if "cmdline" in str(path) else read(path))
    with pytest.raises(Infrastructure, match=f"the run continues: process {os.getpid()} writes"):
        played.ask(FAR, remains.piece, THERE, "memory", 0)


@pytest.mark.parametrize(("asks", "opens"), [("driver", "memory"), ("driver", "cpu1"), ("command", "memory")])
def test_a_stopped_actor_is_killed_if_its_driver_asks(
    asks: str, opens: str, played: Played, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing ends it while it is stopped, and its journal would stay. A process that has another journal open, as the
    number may mean now, goes on, and so does an actor of which `uvmp collect` does not know that its run has ended."""
    monkeypatch.setattr(remains, "ENDS_S", 2.0 if (asks, opens) == ("driver", "memory") else 0.1)
    run, file = tmp_path / "run", played.far / THERE / "memory.uvmp.jsonl"
    with (
        open(file.with_name(f"{opens}.uvmp.jsonl"), "rb") as opened,
        subprocess.Popen(
            ["ray::NodeActor"], executable="/bin/cat", stdin=PIPE, stdout=PIPE, bufsize=0, pass_fds=[opened.fileno()]
        ) as actor,
    ):
        try:
            assert actor.stdin is not None and actor.stdout is not None
            actor.stdin.write(b"\n")
            assert actor.stdout.readline() == b"\n", "it runs, and so has its name"
            actor.send_signal(signal.SIGSTOP)
            header, rest = file.read_bytes().split(b"\n", 1)
            with open(file, "r+b") as journal:
                journal.write(json.dumps(json.loads(header) | {"pid": actor.pid}).encode() + b"\n" + rest)
            identity = (
                json.loads((run / "scenario.json").read_text(encoding="utf-8"))["run"] if asks == "driver" else ""
            )
            done = {journal.node: journal.failed for journal in collect(run, played, identity)}
            assert done["cpu1"] is None
            if (asks, opens) == ("driver", "memory"):
                assert done["memory"] is None and actor.wait() == -signal.SIGKILL and not places(run)
            else:
                assert f"the run continues: process {actor.pid} writes its journals" in str(done["memory"])
                assert actor.poll() is None and list(places(run)) == ["memory"]
        finally:
            actor.kill()


@pytest.mark.parametrize(
    ("folder", "node"),
    [("..", "memory"), ("uvmp-a/..", "memory"), ("", "memory"), ("secret", "memory"), (THERE, "../secret"),
     (THERE, "MEMORY"), ("uvmp-link", "memory"), (THERE, "link"), (THERE, "pipe"), (THERE, "folder")],
)  # fmt: skip
def test_nothing_but_journals_is_read_or_removed(folder: str, node: str, played: Played) -> None:
    there = played.far / THERE
    (played.far / "secret").mkdir()
    for name in (played.far / "secret" / "memory", played.far / "memory", played.far / "secret.uvmp.jsonl"):
        name.with_suffix(".uvmp.jsonl").write_text("secret", encoding="ascii")
    (played.far / "uvmp-link").symlink_to(played.far / "secret")
    (there / "link.uvmp.jsonl").symlink_to(played.far / "memory.uvmp.jsonl")
    (there / "folder.uvmp.jsonl").mkdir()
    os.mkfifo(there / "pipe.uvmp.jsonl")
    with pytest.raises(LogIncomplete):
        played.ask(FAR, remains.piece, folder, node, 0)
    if folder != THERE or "/" in node:
        with pytest.raises(LogIncomplete):
            played.ask(FAR, remains.remove, folder, node)
    assert (played.far / "secret" / "memory.uvmp.jsonl").exists() and (played.far / "memory.uvmp.jsonl").exists()


@pytest.mark.parametrize("text", ["{", "[]", '{"../x": {}}', '{"mmu": 1}', '{"mmu": {"host": 1}}', "[" * 9999])
def test_a_note_that_is_damaged_is_the_users_file(text: str, played: Played, tmp_path: Path) -> None:
    (tmp_path / "run" / ELSEWHERE).write_text(text, encoding="utf-8")
    with pytest.raises(UserMistake, match=f"{ELSEWHERE}: cannot be read"):
        places(tmp_path / "run")
    told = uvmp("collect", tmp_path / "run")
    assert told.exit_code == Exit.USAGE and told.stderr.count("\n") == 1


def test_the_command_says_what_there_is_to_do(played: Played, whole: Path, tmp_path: Path) -> None:
    told = uvmp("collect", whole)
    assert (told.exit_code, told.stdout) == (0, "no journal of this run is on another computer\n")
    told = uvmp("collect", whole, "--json")
    assert json.loads(told.stdout) == {
        "command": "collect", "out": str(whole), "collected": {}, "left": {}, "exit": 0
    }  # fmt: skip
    for nothing in (tmp_path, tmp_path / "none", ""):
        told = uvmp("collect", nothing)
        assert told.exit_code == Exit.USAGE and told.stderr.count("\n") == 1
    told = uvmp("collect", tmp_path / "run", "--address", "127.0.0.1:1")
    assert told.exit_code == Exit.INFRASTRUCTURE and "Ray cannot be reached at 127.0.0.1:1" in told.stderr


@pytest.mark.live
def test_a_host_of_ray_is_asked(played: Played, ray_session: Any) -> None:
    cluster = Hosts(ray_session)
    with pytest.raises(LogIncomplete, match=r"uvmp-nothing/memory\.uvmp\.jsonl: no such file or directory"):
        cluster.ask(cluster.hosts[0], remains.piece, "uvmp-nothing", "memory", 0)
    with pytest.raises(Infrastructure, match=r"uvmp does not run there: .*JSONDecodeError"):
        cluster.ask(cluster.hosts[0], json.loads, "{")
    there = Path(tempfile.mkdtemp(prefix=remains.PREFIX))
    (there / "memory.uvmp.jsonl").write_bytes(b"line\n")
    assert decode(CHUNK, cluster.ask(cluster.hosts[0], remains.piece, there.name, "memory", 0)) == b"line\n"
    cluster.ask(cluster.hosts[0], remains.remove, there.name, "memory")
    assert not there.exists()


def test_a_command_that_is_killed_continues(played: Played, whole: Path, tmp_path: Path) -> None:
    """Wherever it is when it asks another computer for something."""
    run, asks, died = tmp_path / "run", played.ask, 0
    for last in range(100):
        count = iter(range(100))

        def ask(*args: Any, last: int = last, count: Any = count) -> Any:
            answer = asks(*args)
            if next(count) == last:
                raise KeyboardInterrupt
            return answer

        played.ask = ask  # type: ignore[method-assign]
        try:
            assert all(journal.failed is None for journal in collect(run, played))
            break
        except KeyboardInterrupt:
            died += 1
    assert died > 4 and contents(run) == contents(whole) and list(played.far.iterdir()) == []


def test_what_nobody_is_to_read_is_removed_and_the_rest_is_named(played: Played, tmp_path: Path) -> None:
    """Of a run that is not kept: journals of computers that are gone may still be there."""
    there = list(places(tmp_path / "run").items())
    lost = "mmu", there[0][1]._replace(host="lost", node="id-lost")
    assert discard([*there, lost], played) == [lost] and list(played.far.iterdir()) == []
    assert discard(there, played) == [], "who has been there before leaves nothing to do"


def test_the_remedy_is_to_continue_what_has_most(whole: Path, played: Played, tmp_path: Path) -> None:
    """A run that dies while it follows an attempt has less than that attempt has."""
    run, again = tmp_path / "run", "run the command again"
    assert remedy("") == remedy(str(tmp_path / "none")) == remedy(str(whole)) == again, "or it has ended"
    assert remedy("", survivable=True) == f"{again}; `--survive N` lets a run survive N deaths of actors"
    (run / "run.json").unlink()
    resume = f"`uvmp run --resume {run}` continues the run"
    assert remedy(str(run)) == f"`uvmp collect {run}` fetches the journals that stay on far, then {resume}"
    (run / ELSEWHERE).unlink()
    assert remedy(str(run)) == remedy(str(run), survivable=True) == resume
    shutil.copytree(whole, run / "died-1", ignore=shutil.ignore_patterns("run.json"))
    assert remedy(str(run)) == f"`uvmp run --resume {run}/died-1` continues the run"
    say(run / "died-1", mmu={})
    assert left(str(run))[-1] == f"to fetch what stays there: uvmp collect {run}/died-1"
    for journal in run.glob("**/*.jsonl"):
        journal.write_bytes(journal.read_bytes().split(b"\n")[0] + b"\n")
    (run / "died-1" / ELSEWHERE).unlink()
    assert remedy(str(run)) == again, "no operation was performed"
