"""Run folders: what a run leaves on disk, and what a postmortem and a replay need of it.

    DIR/<node>.uvmp.jsonl   one journal a node, `uvmp-log/1`, written as the run goes
    DIR/scenario.json       the scenario as it was run: its file's text, errata, detectors
    DIR/run.json            verdict, token, counts, digest, and the SHA-256 of every other file; written last

What is in the two JSON files, and the check that they are under, is in
shared/runfile.py. A folder without run.json is that of a run that was killed;
cluster/postmortem reads it all the same.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from cluster.postmortem.load import Run, load
from cluster.replay import Replay
from cluster.token import Token, kernel_version
from shared.errors import Infrastructure, ProjectBug, UserMistake
from shared.findings import Finding
from shared.journal import SCHEMA, Journal
from shared.runfile import RUN, RUN_SCHEMA, SCENARIO, SUFFIX, scenario_document, scenario_of, sealed
from shared.scenario import Scenario
from shared.text import clean

__all__ = [
    "RUN_SCHEMA", "Run", "cannot_write", "create", "finish", "identity", "keep", "load", "versions", "write_scenario",
    "write_sim",
]  # fmt: skip


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
        why = (getattr(wrong, "strerror", None) or str(wrong)).lower()
        raise UserMistake(f"cannot be made: {clean(why, 200)}", file=clean(path, 200), field="--out") from None
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


def cannot_write(path: Path, wrong: OSError) -> Infrastructure:
    """The error that names the file."""
    return Infrastructure(f"{clean(path, 200)} cannot be written ({clean(wrong.strerror or wrong, 120)})")


def versions() -> dict[str, str]:
    """What has to be the same for a run to be the same."""
    try:
        own = version("uvmp")
    except PackageNotFoundError:
        own = "unknown"
    return {"uvmp": own, "kernel": kernel_version(), "log": SCHEMA}


def identity() -> str:
    """A name for a run that no other run has."""
    return secrets.token_hex(8)


def write_scenario(path: Path, scenario: Scenario, run: str) -> None:
    """Write scenario.json, before the run starts.

    Args:
        run: the run's identity.

    Raises: Infrastructure - a scenario that was changed after it was loaded is not what its text says.
    """
    document = scenario_document(scenario, run)
    if not scenario.text or scenario_of(document).digest() != scenario.digest():
        raise Infrastructure(f"{scenario.id} is not what its text says, so that its run cannot be kept")
    _write(path / SCENARIO, document)


def write_sim(path: Path, scenario: Scenario, replay: Replay, token: Token | None, options: Sequence[str] = ()) -> None:
    """Write all of a run of `sim` into a folder that `create` has made; its journals are as live ones are.

    The same run has the same identity, so that the same run gives the same folder.

    Args:
        token: of this very schedule, if there is one.
        options: what `uvmp replay` needs beside the token.

    Raises: Infrastructure - there is no room for it, or the like.
    """
    run = hashlib.sha256(f"{scenario.digest()} {replay.digest}".encode()).hexdigest()[:16]
    write_scenario(path, scenario, run)
    header = {"run": run, "engine": "sim", "scenario": scenario.id, "errata": list(scenario.errata)}
    for node, records in replay.journals.items():
        file = path / f"{node}{SUFFIX}"
        try:
            with open(file, "xb") as stream:
                journal = Journal(node, stream, keep=False)
                journal.header(**header, versions=versions())
                for record in records:
                    journal.add(dict(record))
        except OSError as wrong:
            raise cannot_write(file, wrong) from None
    finish(
        path, scenario, run, engine="sim", finding=replay.finding, notes=replay.notes, token=token, options=options,
        digest=replay.digest, admitted={node: len(records) for node, records in replay.journals.items()},
        results=replay.results, sites=replay.sites, counters=replay.counters,
    )  # fmt: skip


def finish(
    path: Path,
    scenario: Scenario,
    run: str,
    *,
    engine: str,
    finding: Finding | None,
    digest: str,
    admitted: Mapping[str, int] | None = None,
    token: Token | None = None,
    shortened: Token | None = None,
    options: Sequence[str] = (),
    notes: Iterable[Finding] = (),
    results: Mapping[str, Any] | None = None,
    sites: Mapping[str, int] | None = None,
    counters: Mapping[str, int] | None = None,
) -> None:
    """Write run.json, at once and last: with it the run has ended.

    Args:
        run: the run's identity.
        admitted: node -> number of records that it wrote, if it is known for certain.
        digest: of the journals, or of their part before the finding.
        token: of this very schedule; its deviations are told as the run's.
        shortened: of another, shorter schedule that has the same finding.
        options: what `uvmp replay` needs beside a token.
    """
    deviations = token.deviations if token is not None else ()
    body = {
        "schema": RUN_SCHEMA,
        "run": run,
        "engine": engine,
        "scenario": {"id": scenario.id, "name": scenario.name, "title": scenario.title, "file": scenario.file},
        "errata": list(scenario.errata),
        "detect": dict(scenario.detect),
        "finding": None if finding is None else finding.as_dict(),
        "notes": [one.as_dict() for one in notes],
        "token": None if token is None else str(token),
        "shortened": None if shortened is None else str(shortened),
        "options": list(options),
        "schedule": [deviation._asdict() for deviation in deviations],
        "digest": digest,
        "admitted": dict(admitted or {}),
        "files": {file.name: _sum(file) for file in sorted(path.iterdir()) if file.name.endswith(SUFFIX)},
        "scenario_sum": _sum(path / SCENARIO),
        "results": dict(results or {}),
        "sites": dict(sites or {}),
        "counters": dict(counters or {}),
        "versions": versions(),
    }
    _write(path / RUN, sealed(json.loads(json.dumps(body))))


def _sum(path: Path) -> str:
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _write(path: Path, body: dict[str, Any]) -> None:
    """A JSON file that is either there as a whole or not at all."""
    unfinished = path.with_name(path.name + ".tmp")
    try:
        with open(unfinished, "w", encoding="utf-8") as stream:
            json.dump(body, stream, indent=1)
            stream.write("\n")
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(unfinished, path)
    except OSError as wrong:
        raise cannot_write(path, wrong) from None
