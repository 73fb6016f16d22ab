"""`uvmp fuzz`: search for defects with random programs."""

from __future__ import annotations

import secrets
import shlex
from dataclasses import dataclass
from pathlib import Path

import click

from cluster.cli.asking import Duration, address, called, flag, option, workers
from cluster.cli.documents import End, Facts, finish, of_patch
from cluster.cli.options import PatchOptions, patch_words
from cluster.cli.output import Output, pasteable, rate_of
from cluster.cli.workers import pool
from cluster.fuzz.corpus import LOG, Written, read_log
from cluster.fuzz.hunt import Hunt, Order, hunt
from cluster.fuzz.observe import FLOW, MEET, ORDER
from cluster.fuzz.steps import FEATURES
from shared.errata import lookup
from shared.errors import Exit, UserMistake
from shared.text import clean, counted

#: how long the command runs without --time
SECONDS = 60.0


@dataclass(frozen=True, kw_only=True)
class FuzzOptions(PatchOptions):
    """The options of `uvmp fuzz`."""

    out: str | None = option(
        "Folder of the corpus; a corpus that is there is continued. Default: a new folder, runs/fuzz-SEED.",
        metavar="DIR",
    )
    seed: str | None = option(
        "Seed of the programs; equal seeds make equal programs. Default: a new seed, or the corpus's.", metavar="TEXT"
    )
    programs: int | None = option(
        "End when the corpus has had N programs.", type=click.IntRange(1, 100_000_000), metavar="N"
    )
    time: float | None = option(
        "End after this time, as 30s, 2m or 1h. Default: 1m, if neither --programs nor --merge is given.",
        type=Duration(),
    )
    features: str | None = option(
        f"Programs use only these, separated by commas: {', '.join(FEATURES)}. Default: each program draws its own.",
        metavar="LIST",
    )
    errata: tuple[str, ...] = option(
        "Switch on this erratum, an id or a short name. Repeatable.", multiple=True, metavar="ID"
    )
    merge: tuple[str, ...] = option(
        "First run the programs of this corpus, too. Repeatable.", multiple=True, metavar="DIR"
    )
    first: bool = flag("End with the first finding.", "--stop-at-first")
    workers: int | None = workers(", and as without --workers.")
    address: str | None = address("Default: processes on this computer")


@called(
    "fuzz",
    FuzzOptions,
    ("uvmp fuzz --time 30s", "test the repaired kernel with new random programs"),
    ("uvmp fuzz --errata S3a --time 2m --stop-at-first", "search for a known defect, without its scenario"),
    ("uvmp fuzz --patch fix.py --out runs/fix", "test a patch; with the same folder again, continue"),
    ("uvmp fuzz --time 10m --workers 2", "test with two processes"),
    ("uvmp fuzz --merge runs/a --merge runs/b --out runs/both", "make one corpus of two"),
)
def command(asked: FuzzOptions) -> int:
    """Make random programs, run each under several schedules, and keep the programs that fail.

    A program is a scenario: threads that map, write, lend, lock and fork memory at the same time. A corpus keeps the
    programs that make contexts meet in a new way, and later programs are made from these. With --errata or --patch,
    programs that come to the changed code are preferred and preempted there. A program that fails is cut down and
    written as a scenario file, one for each cause, with a command line that repeats the finding.

    Ctrl-C ends the command at any time. The same command with the same --out continues.
    """
    output = Output(asked.as_json)
    order = _order(asked)
    folder = order.out
    assert folder is not None
    if (folder / LOG).is_file():
        output.note(f"continuing the corpus in {folder} (seed {order.seed})")
    else:
        output.note(f"fuzzing into {folder} (seed {order.seed})")
    shown = 0

    def watch(result: Hunt) -> None:
        nonlocal shown
        if result.doing:
            output.note(result.doing)
        for finding in result.findings[shown:]:
            output.note(f"found: {finding.cause}")
        shown = len(result.findings)
        corpus = result.corpus
        what = f"{counted(len(corpus.entries), 'program')}, {len(corpus.members):,} kept, {len(corpus.sights):,} sights"
        output.step(f"{what}, {counted(len(corpus.findings), 'finding')}")

    if asked.workers is None and asked.address is None:
        result = hunt(order, watch)
    else:
        with pool(output, order.how.setup, asked.workers, asked.address) as workers:
            result = hunt(order, watch, workers)
    for remark in result.corpus.remarks:
        output.note(f"note: {remark}")
    _say(output, result)
    failed = bool(result.corpus.findings)
    code = Exit.INTERRUPTED if result.interrupted else Exit.FINDING if failed else Exit.NO_FINDING
    return finish(output, "fuzz", End(code, interrupted=result.interrupted), _facts(result))


def _order(asked: FuzzOptions) -> Order:
    """The order of the options; options that are not given are those of a corpus that is there.

    Raises: UserMistake.
    """
    features = None if asked.features is None else frozenset(asked.features.split(","))
    for feature in sorted((features or frozenset()) - set(FEATURES)):
        raise UserMistake(
            f"there is no feature {clean(feature, 40)!r}; known: {', '.join(FEATURES)}", field="--features"
        )
    try:
        errata = tuple(sorted({lookup(erratum).id for erratum in asked.errata}))
    except UserMistake as mistake:
        raise UserMistake(mistake.message, field="--errata") from None
    for name in (asked.out, asked.seed):
        if name == "" or (name is not None and "\0" in name):
            raise UserMistake("expected a name", field="--out" if name is asked.out else "--seed")
    for merged in asked.merge:
        read_log(Path(merged) / LOG)  # before the folder of the new corpus is made
    seed = asked.seed
    if asked.out is not None and (Path(asked.out) / LOG).is_file():
        about = read_log(Path(asked.out) / LOG)[0]
        if about is not None:
            seed = about.seed if seed is None else seed
            errata = errata or about.errata
            features = frozenset(about.features) or None if features is None else features
    seed = secrets.token_hex(4) if seed is None else seed
    tame = "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in seed)[:40]
    seconds, programs = asked.time, asked.programs
    if seconds is None and programs is None:
        seconds, programs = (float("inf"), 0) if asked.merge else (SECONDS, None)
    return Order(
        seed,
        programs,
        float("inf") if seconds is None else seconds,
        features=features,
        errata=errata,
        first=asked.first,
        out=Path(asked.out or f"runs/fuzz-{tame}"),
        merge=tuple(map(Path, asked.merge)),
    )


def _replay_line(finding: Written, folder: Path) -> str:
    return shlex.join(["uvmp", "replay", finding.token, "--scenario", str(folder / finding.file), *patch_words()])


def _sights(result: Hunt) -> dict[str, int]:
    return {kind: sum(sight.kind == kind for sight in result.corpus.sights) for kind in (FLOW, ORDER, MEET)}


def _say(output: Output, result: Hunt) -> None:
    corpus, folder = result.corpus, result.order.out
    assert folder is not None
    for finding in corpus.findings:
        again = corpus.again[finding.cause]
        output.say(f"finding: {finding.cause}" + (f" ({again:,} more programs fail so)" if again else ""), bold=True)
        output.say(f"  {finding.text}")
        output.say(f"  scenario  {folder / finding.file}")
        output.command(_replay_line(finding, folder))
    if not corpus.findings:
        output.say("no finding", bold=True)
    if corpus.unconfirmed:
        output.say(f"{counted(corpus.unconfirmed, 'program')} failed, and not again when cut down or recorded")
    now = f"{counted(result.programs, 'program')} now" if result.programs != len(corpus.entries) else ""
    rate = f"{rate_of(result.programs, result.seconds)} programs per second of processor time"
    ran = f"{counted(len(corpus.entries), 'program')}, {counted(result.executions, 'execution')}"
    output.say(f"{ran} ({', '.join(part for part in (now, rate) if part)})")
    sights = _sights(result)
    output.say(
        f"{counted(len(corpus.members), 'program')} kept: {sights[FLOW]:,} flows of a field between functions,"
        f" {sights[ORDER]:,} orders of locks, {sights[MEET]:,} meetings on a struct"
    )
    output.note(f"to continue: {pasteable(shlex.join(['uvmp', 'fuzz', '--out', str(folder), *patch_words()]))}")


def _facts(result: Hunt) -> Facts:
    corpus, order = result.corpus, result.order
    assert order.out is not None
    return {
        "seed": order.seed,
        "errata": list(order.errata),
        **of_patch(),
        "features": sorted(order.features or ()),
        "out": str(order.out),
        "programs": len(corpus.entries),
        "programs_now": result.programs,
        "executions": result.executions,
        "seconds": round(result.seconds, 3),
        "kept": len(corpus.members),
        "sights": _sights(result),
        "findings": [
            {
                "signature": list(finding.cause.signature),
                "errata": list(finding.cause.errata),
                "text": finding.text,
                "scenario": str(order.out / finding.file),
                "token": finding.token,
                "replay": _replay_line(finding, order.out),
                "again": corpus.again[finding.cause],
            }
            for finding in corpus.findings
        ],
        "unconfirmed": corpus.unconfirmed,
        "remarks": corpus.remarks,
    }
