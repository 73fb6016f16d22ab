"""The driver of a live run keeps none of its records, however long the run is: it goes through the files. So does who
follows journals, or replays them.

The run is one of `sim` here, whose journals are in files as those of real processes are.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, cast

import pytest

from cluster.boot import prepare
from cluster.live.logs import Logs
from cluster.live.machine import Beginning, LiveMachine, schedule_of
from cluster.runs.folder import create, write_sim
from cluster.runs.outcome import Outcome
from cluster.runs.parity import parity
from cluster.runs.replay import beginning, recorded, replay_journals
from cluster.search.walk import RandomWalk
from cluster.sim.engine import Sim
from shared.detectors.machine_state import MachineState
from shared.journal.record import Held, digest, read
from shared.journal.runfile import SUFFIX
from shared.scenario.model import Results, Scenario
from shared.wire.messages import Schedule
from tests.kit import scenario, scene

ACTORS = cast(Any, SimpleNamespace(stop=lambda *words, **options: None, kill=lambda: None))
SETUP = "process: {as: P, cpu: 0}\nmmap: {in: P, as: buf, pages: 4}"
ROUND = ["mprotect: {at: \"buf[1]\", pages: 2, prot: r}", "write: {at: \"buf[0]\", value: 1}",
         "mprotect: {at: \"buf[1]\", pages: 2, prot: rw}", "write: {at: \"buf[2]\", value: 1}"]  # fmt: skip


def written(made: Scenario, folder: Path) -> tuple[Outcome, MachineState]:
    """Run it; returns the state in which it ends. Its journals are then in the folder."""
    sim = Sim(*prepare(made))
    sim.execute(RandomWalk(1), record=True)
    run = recorded(sim)
    write_sim(create(folder), made, run)
    return run, sim.machine.state(sim.heap)


def driven(made: Scenario, folder: Path, results: Results, state: MachineState) -> Outcome:
    """What the driver does when the processes have ended."""
    machine = LiveMachine(cast(ModuleType, None), made, actors=ACTORS)
    journals, _ = Logs(ACTORS, made.machine.nodes, folder, "x").collect(folder)
    run = Outcome(None, journals, "", results, [], {}, {}, 0, seconds=1.0)
    machine._judge(run, state, free=True, late_s=None)
    run.digest = digest(run.journals)
    run.parity = parity(made, run)
    machine.close()
    return run


def followed_on(made: Scenario, folder: Path, *_: object) -> Schedule:
    """What the driver does before the processes continue from the journals that dead processes have left."""
    left = beginning(made, Logs(ACTORS, made.machine.nodes, folder, "x").left())
    return schedule_of(Beginning(left), made)


def replayed(made: Scenario, folder: Path, *_: object) -> Outcome:
    """A replay in sim of the journals."""
    return replay_journals(made, Logs(ACTORS, made.machine.nodes, folder, "x").collect(folder)[0])


def held(made: Scenario, folder: Path) -> Held:
    """All records, as small as they can be kept."""
    journals = {}
    for node in made.machine.nodes:
        with open(folder / f"{node}{SUFFIX}", "rb") as lines:
            journals[node] = read(lines, node)[1]
    return journals


def peak(work: Callable[..., object], *args: object) -> int:
    """Bytes that it needs, at most."""
    tracemalloc.start()
    try:
        work(*args)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("work", [driven, followed_on, replayed])
def test_a_run_four_times_as_long_needs_little_more(work: Callable[..., object], tmp_path: Path) -> None:
    """Less than half of what the records would take that it does not keep. (Structs that were made stay known.)"""
    needs = []
    for rounds in (10, 40):
        made, folder = scene({"P": "\n".join(rounds * ROUND)}, SETUP), tmp_path / str(rounds)
        run, state = written(made, folder)
        needs.append((peak(work, made, folder, run.results, state), peak(held, made, folder)))
    (short, records), (long, more_records) = needs
    assert more_records > 2 * records and long - short < (more_records - records) / 2


@pytest.mark.parametrize("name", ["E1", "S3a", "litmus-mp"])
def test_what_the_driver_says_from_the_files_is_what_the_run_was(name: str, tmp_path: Path) -> None:
    """With a finding and without; also when the folder of the run is no longer there."""
    for fixed in (False, True):
        made = scenario(name).without_errata() if fixed else scenario(name)
        folder = tmp_path / str(fixed)
        wanted, state = written(made, folder)
        run = driven(made, folder, wanted.results, state)
        for file in folder.iterdir():
            file.unlink()
        assert run.parity is not None and run.parity.equal and digest(run.journals) == run.digest
        assert run.finding == wanted.finding and (run.finding is None) >= fixed
        assert run.finding is not None or (run.operations, run.digest) == (wanted.operations, wanted.digest)
