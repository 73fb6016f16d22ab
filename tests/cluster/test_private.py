"""Everything that a command makes is for its user alone, with any umask: folders have mode 0700, files 0600."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import pytest

from cluster import api, configs
from cluster.cli import cli
from nodes.host.private import make_folder, private, temporary
from tests.cluster import programs
from tests.kit import scenario, uvmp

#: the options that name what a command reads
READ = {"merge", "scenario"}
#: the options that name what a command makes, each in a command; their names are those of the options
MADE = {
    ("run", "out"): ["run S4 --out out", "run S4 --repeat 2 --out repeated"],
    ("explore", "out"): ["explore S4 --schedules 1 --out out", "explore --all --schedules 1 --workers 1 --out all"],
    ("explore", "junit"): ["explore --all --schedules 1 --workers 1 --junit out.xml"],
    ("fuzz", "out"): ["fuzz --programs 2 --seed t --errata S3a --features memory,map,fork,free --out out"],
    ("replay", "out"): ["run S4 --out first", "replay first --out out"],
    ("minimize", "out"): ["minimize S4 --out out"],
    ("minimize", "smaller"): ["minimize S4 --smaller out.yaml"],
    ("boot", "session"): ["boot S4 --session out", "attach out -c 'save kept' -c 'snapshot state.json' -c halt"],
}


@pytest.fixture
def open_to_all(sessions: Path) -> Iterator[Path]:
    """An empty folder; what is made below it without a mode, everybody may read and write."""
    before = os.umask(0)
    yield sessions
    os.umask(before)


def open_below(folder: Path) -> list[str]:
    """What others may read or write below a folder."""
    modes = {str(path): path.stat().st_mode & 0o777 for path in folder.rglob("*")}
    assert modes
    return [f"{path}: {mode:o}" for path, mode in modes.items() if mode & 0o77]


@pytest.mark.parametrize("commands", MADE.values(), ids=map(" --".join, MADE))
def test_a_command_makes_nothing_that_others_can_read(
    commands: list[str], open_to_all: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(configs, "names", lambda kind: ["S4"] if kind == "scenarios" else [])
    for command in commands:
        result = uvmp(*shlex.split(command))
        assert result.exit_code in (0, 1), result.stderr
    assert open_below(open_to_all) == []


def test_every_option_that_names_what_a_command_makes_is_tried() -> None:
    context = click.Context(cli)
    named = set()
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        assert command is not None
        options = [option for option in command.params if isinstance(option, click.Option)]
        named |= {(name, str(option.name)) for option in options if option.metavar in ("DIR", "FILE")}
    assert {(name, option) for name, option in named if option not in READ} == set(MADE)


def test_so_is_the_execution_of_a_program_that_is_saved(open_to_all: Path) -> None:
    api.explore(api.Program(programs.setup, [programs.add, programs.add])).save("runs/saved")
    assert open_below(open_to_all / "runs") == []


def modes_below(folder: Path) -> set[str]:
    return {f"{path.stat().st_mode & 0o777:o}" for path in folder.rglob("*")}


def test_the_user_keeps_all_rights_with_an_umask_that_would_take_them(open_to_all: Path) -> None:
    """A folder that its user cannot write to would end a command as soon as there is a file to be made in it."""
    os.umask(0o777)
    make_folder(open_to_all / "a" / "b")
    (open_to_all / "a" / "b").chmod(0o711)
    make_folder(open_to_all / "a" / "b", exist_ok=True)
    assert modes_below(open_to_all) == {"700", "711"}
    with pytest.raises(FileExistsError):
        make_folder(open_to_all / "a")


def test_so_they_do_in_temporary_folders(open_to_all: Path) -> None:
    os.umask(0o777)
    for number in range(2):
        folder = temporary("uvmp-", str(open_to_all))
        (folder / "file").touch()
        assert folder.parent == open_to_all and folder.stat().st_mode & 0o777 == 0o700, number


def test_so_they_do_in_files(open_to_all: Path) -> None:
    os.umask(0o777)
    for mode in ("x", "w+", "w"):
        with open(open_to_all / mode, mode, encoding="ascii", opener=private) as file:
            file.write("one")
    assert modes_below(open_to_all) == {"600"}
    (open_to_all / "w").chmod(0o644)
    for mode, text in (("r+", "one"), ("w", "")):
        with open(open_to_all / "w", mode, encoding="ascii", opener=private):
            assert (open_to_all / "w").read_text(encoding="ascii") == text
    assert modes_below(open_to_all) == {"600", "644"}
    with pytest.raises(FileExistsError):
        os.close(private(str(open_to_all / "w"), os.O_WRONLY | os.O_CREAT | os.O_EXCL))


@pytest.mark.live
def test_so_are_the_journals_of_real_processes(live_machine: Callable[..., Any], open_to_all: Path) -> None:
    machine = live_machine(scenario("S3a").without_errata(), fresh=True)
    machine.run(out=open_to_all / "out")
    machine.run()
    assert open_below(open_to_all) == [] == open_below(machine.scratch)


@pytest.mark.live
def test_so_is_all_that_a_private_ray_makes(ray_session: ModuleType) -> None:
    """Ray gives everybody all rights to the folders of its session; nobody comes to these, and files are closed.

    Those of drivers that other tests have connected with `--address` have the rights that their own umask leaves.
    """
    session = Path(ray_session._private.worker._global_node.get_session_dir_path())
    assert session.parents[1].stat().st_mode & 0o777 == 0o700 and (session / "logs").is_dir()
    files = [path for path in session.rglob("*") if path.is_file()]
    drivers = [path.stem for path in files if path.name.startswith("python-core-driver-")]
    others = {stem.rpartition("_")[2] for stem in drivers if not stem.startswith("python-core-driver-01000000")}
    files = [path for path in files if path.stem.rpartition("_")[2] not in others]
    assert len(files) > 10 and [path.name for path in files if path.stat().st_mode & 0o77] == []
