"""Run folders: the files of a run, for postmortem and replay.

    DIR/<node>.uvmp.jsonl   one journal a node, `uvmp-log/1`, written as the run goes
    DIR/scenario.json       the scenario as it was run: its file's text, errata, detectors
    DIR/patch.py.txt        the source of the patch that the kernel had, if it had one: to be read, never executed
    DIR/run.json            verdict, token, counts, digest, and the SHA-256 of every other file; written last

shared/journal/runfile.py has the contents of the two JSON files and their checksums. A
folder without run.json belongs to a run that was killed; cluster/postmortem reads it, too.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from cluster.runs.outcome import Outcome
from cluster.runs.token import kernel_version
from nodes.host.here import own_version
from nodes.host.private import make_folder, private
from shared.errors import Infrastructure, ProjectBug, UserMistake
from shared.journal.record import SCHEMA, Journal
from shared.journal.runfile import (
    PATCH,
    RUN,
    RUN_SCHEMA,
    SCENARIO,
    SUFFIX,
    scenario_document,
    scenario_of,
    sealed,
)
from shared.patch import current
from shared.scenario.model import Scenario
from shared.text import clean, reason


def create(path: str | Path, field: str = "--out") -> Path:
    """Make the folder of a run, and those above it.

    Args:
        field: the option that names it.

    Raises: UserMistake - it exists already, or cannot be made.
    """
    folder = Path(path)
    try:
        make_folder(folder)
    except FileExistsError:
        raise UserMistake("exists already; a run needs a new folder", file=clean(path, 200), field=field) from None
    except (OSError, ValueError) as wrong:
        raise UserMistake(f"cannot be made: {reason(wrong)}", file=clean(path, 200), field=field) from None
    return folder


def keep(path: Path | None, scenario: Scenario, outcome: Outcome, options: Sequence[str] = ()) -> None:
    """Make the folder of a run of `sim`, if it is to have one, and write all of the run into it.

    `outcome` then says where the run is, or why it could not be kept: what was found is told first.

    Args:
        options: what `uvmp replay` needs beside the token.
    """
    if path is None:
        return
    try:
        write_sim(create(path), scenario, outcome, options)
        outcome.folder = path
    except ProjectBug as wrong:
        shutil.rmtree(path, ignore_errors=True)  # half a run is none
        outcome.unkept = wrong
    except UserMistake as wrong:  # it was possible when the command began
        outcome.unkept = Infrastructure(str(wrong))


def cannot_write(path: Path, wrong: OSError) -> Infrastructure:
    """The error that names the file."""
    return Infrastructure(f"{clean(path, 200)} cannot be written ({clean(wrong.strerror or wrong, 120)})")


def versions() -> dict[str, str]:
    """The versions that must be equal for a run to be equal."""
    return {"uvmp": own_version(), "kernel": kernel_version(), "log": SCHEMA}


def identity() -> str:
    """A name for a run that no other run has."""
    return secrets.token_hex(8)


def write_scenario(path: Path, scenario: Scenario, run: str, options: Sequence[str] = ()) -> None:
    """Write scenario.json, and the source of the patch that is applied, before the run starts.

    Args:
        run: the run's identity.
        options: what `uvmp replay` needs beside a token.

    Raises: Infrastructure - a scenario that was changed after it was loaded is not what its text says.
    """
    document = scenario_document(scenario, run)
    if not scenario.text or scenario_of(document).digest() != scenario.digest():
        raise Infrastructure(f"{scenario.id} differs from its text, so its run cannot be kept")
    patch = current()
    if patch is not None:
        write(path / PATCH, patch.source)
    _write_json(path / SCENARIO, document | {"versions": versions(), "options": list(options)})


def write_sim(path: Path, scenario: Scenario, outcome: Outcome, options: Sequence[str] = ()) -> None:
    """Write all of a run, whose journals are in memory, into a folder that `create` has made.

    The same run has the same identity, so that the same run gives the same folder.

    Args:
        options: what `uvmp replay` needs beside the token.

    Raises: Infrastructure - there is no room for it, or the like.
    """
    run = hashlib.sha256(f"{scenario.digest()} {outcome.digest}".encode()).hexdigest()[:16]
    write_scenario(path, scenario, run, options)
    header = {"run": run, "engine": outcome.engine, "scenario": scenario.id, "errata": list(scenario.errata)}
    for node, records in outcome.journals.items():
        file = path / f"{node}{SUFFIX}"
        try:
            with open(file, "xb", opener=private) as stream:
                journal = Journal(node, stream, keep=False)
                journal.header(**header, versions=versions())
                for record in records:
                    journal.add(dict(record))
        except OSError as wrong:
            raise cannot_write(file, wrong) from None
    _finish(path, scenario, run, outcome, options)


def write_live(path: Path | None, scenario: Scenario, run: str, outcome: Outcome, options: Sequence[str] = ()) -> None:
    """Write the outcome of a live run into its folder, if it has one; the folder already has the journals.

    `outcome` then says where the run is, or why it could not be kept.

    Args:
        run: the run's identity.
        options: what `uvmp replay` needs beside a token.
    """
    outcome.folder = None
    if path is None or outcome.unkept is not None:
        return
    try:
        _finish(path, scenario, run, outcome, options)
        outcome.folder = path
    except OSError as wrong:
        outcome.unkept = cannot_write(Path(wrong.filename or path), wrong)
    except Infrastructure as wrong:
        outcome.unkept = wrong


def _finish(path: Path, scenario: Scenario, run: str, outcome: Outcome, options: Sequence[str]) -> None:
    """Write run.json, at once and last: with it the run has ended.

    Its keys:
        run: the run's identity.
        token: of this very schedule.
        shortened: of another, shorter schedule that has the same finding.
        options: what `uvmp replay` needs beside a token.
        schedule: the token's deviations from the default schedule.
        digest: of the journals, or of their part before the finding.
        admitted: node -> number of records that it wrote.
        files: name -> SHA-256; `scenario_sum`: of scenario.json.
        versions: what has to be the same for a run to be the same.
        cut: the run was ended while contexts could continue; else it is not there.
        late: the run was ended because its time was over, after so many operations and seconds; else it is not there.
    """
    token, shortened, finding = outcome.token, outcome.shortened, outcome.finding
    names = {file.name for file in path.iterdir() if file.name.endswith(SUFFIX)}
    names |= {f"{node}{SUFFIX}" for node in outcome.journals}
    names |= {PATCH} if (path / PATCH).is_file() else set()
    files = {name: _sum_and_lines(path / name) for name in sorted(names)}
    records = {name: max(0, lines - 1) for name, (_, lines) in files.items()}  # a header is none
    body: dict[str, object] = {
        "schema": RUN_SCHEMA,
        "run": run,
        "engine": outcome.engine,
        "scenario": {"id": scenario.id, "name": scenario.name, "title": scenario.title, "file": scenario.file},
        "errata": list(scenario.errata),
        "detect": dict(scenario.detect),
        "finding": None if finding is None else finding.as_dict(),
        "notes": [note.as_dict() for note in outcome.notes],
        "token": None if token is None else str(token),
        "shortened": None if shortened is None else str(shortened),
        "options": list(options),
        "schedule": [deviation._asdict() for deviation in (token.deviations if token is not None else ())],
        "digest": outcome.digest,
        "admitted": {node: records[f"{node}{SUFFIX}"] for node in outcome.journals},
        "files": {name: total for name, (total, _) in files.items()},
        "scenario_sum": _sum_and_lines(path / SCENARIO)[0],
        "results": dict(outcome.results),
        "sites": outcome.sites,
        "counters": outcome.counters,
        "versions": versions(),
    }
    if outcome.cut:
        body["cut"] = True
    if outcome.late is not None:
        body["late"] = asdict(outcome.late)
    _write_json(path / RUN, sealed(json.loads(json.dumps(body))))


def _sum_and_lines(path: Path) -> tuple[str, int]:
    """SHA-256 of a file, and how many lines it has."""
    total, lines = hashlib.sha256(), 0
    with open(path, "rb") as stream:
        for line in stream:
            total.update(line)
            lines += 1
    return total.hexdigest(), lines


def write(path: Path, text: str) -> None:
    """As put(). Raises: Infrastructure."""
    try:
        put(path, text)
    except OSError as wrong:
        raise cannot_write(path, wrong) from None


def _write_json(path: Path, body: Mapping[str, object]) -> None:
    write(path, json.dumps(body, indent=1) + "\n")


def put(path: Path, text: str) -> None:
    """A text file, as `receive` writes it. Raises: OSError."""
    receive(path, [text.encode()])


def receive(path: Path, pieces: Iterable[bytes]) -> int:
    """Write a file that is there, and on the disk, as a whole or not at all; returns its size in bytes.

    Raises: OSError, which names the file.
    """
    unfinished = path.with_name(f".{path.name}.tmp")
    size = 0
    try:
        with open(unfinished, "wb", opener=private) as stream:
            for piece in pieces:
                size += stream.write(piece)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(unfinished, path)
    except BaseException as wrong:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)
        if isinstance(wrong, OSError):  # a write does not say of which file
            raise OSError(wrong.errno, wrong.strerror, str(path)) from None
        raise
    return size
