"""Run folders: what a run leaves on disk, and what a postmortem and a replay need of it.

    DIR/<node>.uvmp.jsonl   one journal a node, `uvmp-log/1`, written as the run goes
    DIR/scenario.json       the scenario as it was run (shared/pack.py)
    DIR/run.json            `uvmp-run/1`: verdict, token, counts, digest; written last and at once

A folder without run.json is that of a run that was killed; cluster/postmortem
reads it all the same.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from cluster.postmortem.load import RUN, RUN_SCHEMA, SCENARIO, SUFFIX, Run, load
from cluster.postmortem.words import clean
from cluster.replay import Replay
from cluster.sim import Deviation
from cluster.token import Token, kernel_version
from shared.errors import Finding, Infrastructure, ProjectBug, UserMistake
from shared.journal import SCHEMA, Journal
from shared.pack import pack_scenario
from shared.scenario import Scenario

__all__ = [
    "RUN_SCHEMA",
    "Run",
    "cannot_write",
    "create",
    "finish",
    "keep",
    "load",
    "versions",
    "write_scenario",
    "write_sim",
]


def create(path: str | Path) -> Path:
    """Make the folder of a run, and those above it.

    Raises: UserMistake - it exists already, or cannot be made.
    """
    folder = Path(path)
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        raise UserMistake(
            "exists already; a run gets a folder of its own", file=clean(path, 200), field="--out"
        ) from None
    except (OSError, ValueError) as wrong:
        raise UserMistake(f"cannot be made ({clean(wrong, 200)})", file=clean(path, 200), field="--out") from None
    return folder


def keep(path: Path, write: Callable[[Path], None]) -> ProjectBug | None:
    """Make the folder and write into it; returns why that could not be done, if so: what was found is told first."""
    try:
        write(create(path))
    except ProjectBug as wrong:
        shutil.rmtree(path, ignore_errors=True)  # half a run is none
        return wrong
    except UserMistake as wrong:  # it was possible when the command began
        return Infrastructure(str(wrong))
    return None


def versions() -> dict[str, str]:
    """What has to be the same for a run to be the same."""
    try:
        own = version("uvmp")
    except PackageNotFoundError:
        own = "unknown"
    return {"uvmp": own, "kernel": kernel_version(), "log": SCHEMA}


def replay_line(path: Path, token: Token | None) -> str:
    """What a user pastes to see the run again: its token, or the folder, whose journals are a schedule too."""
    return f"uvmp replay {token}" if token is not None else f"uvmp replay {shlex.quote(str(path))}"


def write_scenario(path: Path, scenario: Scenario) -> None:
    """Write scenario.json, before the run starts."""
    _write(path / SCENARIO, pack_scenario(scenario))


def write_sim(path: Path, scenario: Scenario, replay: Replay, token: Token | None) -> None:
    """Write all of a run of `sim` into a folder that `create` has made; its journals are as live ones are.

    Raises: Infrastructure - there is no room for it, or the like.
    """
    write_scenario(path, scenario)
    header: dict[str, Any] = {
        "run": path.name,
        "engine": "sim",
        "scenario": scenario.id,
        "errata": list(scenario.errata),
    }
    for node, records in replay.journals.items():
        file = path / f"{node}{SUFFIX}"
        try:
            with open(file, "xb") as stream:
                journal = Journal(node, stream, keep=False)
                journal.header(**header, replay=replay_line(path, token), versions=versions())
                for record in records:
                    journal.add(dict(record))
        except OSError as wrong:
            raise cannot_write(file, wrong) from None
    finish(
        path, scenario, engine="sim", finding=replay.finding, notes=replay.notes, token=token, digest=replay.digest,
        admitted={node: len(records) for node, records in replay.journals.items()}, results=replay.results,
        sites=replay.sites, counters=replay.counters,
    )  # fmt: skip


def finish(
    path: Path,
    scenario: Scenario,
    *,
    engine: str,
    finding: Finding | None,
    digest: str,
    admitted: Mapping[str, int] | None = None,
    token: Token | None = None,
    schedule: Sequence[Deviation] | None = None,
    notes: Iterable[Finding] = (),
    results: Mapping[str, Any] | None = None,
    sites: Mapping[str, int] | None = None,
    counters: Mapping[str, int] | None = None,
    replay: str | None = None,
) -> None:
    """Write run.json, at once and last: with it the run has ended.

    Args:
        admitted: node -> number of records that it wrote, if it is known for certain.
        digest: of the journals, or of their part before the finding.
        schedule: deviations, if there is no token.
        replay: the replay line; default: from the token, or the folder itself.
    """
    deviations = token.deviations if token is not None else schedule or ()
    body = {
        "schema": RUN_SCHEMA,
        "engine": engine,
        "scenario": {"id": scenario.id, "name": scenario.name, "title": scenario.title, "file": scenario.file},
        "errata": list(scenario.errata),
        "detect": dict(scenario.detect),
        "finding": None if finding is None else finding.as_dict(),
        "notes": [one.as_dict() for one in notes],
        "token": None if token is None else str(token),
        "schedule": [{"ctx": ran, "n": n, "kind": kind, "next": to} for ran, n, kind, to in deviations],
        "digest": digest,
        "admitted": dict(admitted or {}),
        "results": dict(results or {}),
        "sites": dict(sites or {}),
        "counters": dict(counters or {}),
        "versions": versions(),
        "replay": replay_line(path, token) if replay is None else replay,
    }
    _write(path / RUN, body)


def _write(path: Path, body: dict[str, Any]) -> None:
    """A JSON file that is either there as a whole or not at all."""
    unfinished = path.with_name(path.name + ".tmp")
    try:
        with open(unfinished, "w", encoding="utf-8") as stream:
            json.dump(body, stream, indent=1, default=str)
            stream.write("\n")
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(unfinished, path)
    except OSError as wrong:
        raise cannot_write(path, wrong) from None


def cannot_write(path: Path, wrong: OSError) -> Infrastructure:
    """The error that names the file."""
    return Infrastructure(f"{clean(path, 200)} cannot be written ({clean(wrong.strerror or wrong, 120)})")
