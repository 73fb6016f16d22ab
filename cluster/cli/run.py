"""`uvmp run`: run a scenario, in process or on real ones."""

from __future__ import annotations

import functools
import shlex
import sys
from collections import Counter
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cluster.boot import prepare
from cluster.cli import describe
from cluster.cli.options import (
    SETTINGS,
    Chosen,
    address_option,
    choose,
    common,
    examples,
    expect_option,
    kernel_options,
    must_expect_something,
    new_folder,
    out_option,
    seed_option,
)
from cluster.cli.output import Output, error_document, say_error
from cluster.replay import recorded
from cluster.runfolder import keep, write_sim
from cluster.search import make
from cluster.sim import Sim
from cluster.token import Token, token_of
from shared.errors import Exit, ProjectBug, UserMistake
from shared.findings import Finding
from shared.runfile import MAX_TOKEN
from shared.text import counted

if TYPE_CHECKING:
    from cluster.cli.live import Parity

MAX_REPEAT = 1_000_000
DEFAULT = click.core.ParameterSource.DEFAULT


@dataclass
class Done:
    """One run, whichever engine it was on.

    Attributes:
        token: of this very schedule, if it has one.
        parity: a live run against sim; None: not compared.
        out: its folder, if it was kept.
        unkept: why it was not, though it should be.
        shortened: token of another, shorter schedule with the same finding; of a live run.
    """

    finding: Finding | None
    notes: list[Finding]
    results: dict[str, list[dict[str, Any]]]
    sites: dict[str, int]
    operations: int
    digest: str
    token: Token | None
    seconds: float | None = None
    parity: Parity | None = None
    out: Path | None = None
    shortened: Token | None = None
    unkept: ProjectBug | None = None


@click.command(
    "run",
    context_settings=SETTINGS,
    epilog=examples(
        ("uvmp run S3a --json", ""),
        ("uvmp run S3a-shipped --engine live --repeat 20", "how often on a machine that runs freely?"),
        ("uvmp run my.yaml --strategy random --out runs/mine", "a scenario of your own, kept in a folder"),
    ),
)
@click.argument("scenario")
@click.option("--engine", type=click.Choice(["sim", "live"]), default="sim", show_default=True,
              help="sim: in this process; live: Ray actors, each node a process, nobody in step.")  # fmt: skip
@kernel_options
@click.option(
    "--strategy", type=click.Choice(["stay", "random", "pct"]), help="Of sim; default: stay, which never preempts."
)
@seed_option
@click.option(
    "--repeat", type=click.IntRange(1, MAX_REPEAT), help="Run so often, and tell how often there was a finding."
)
@address_option
@click.option("--no-check", is_flag=True, help="Live: do not replay each run in sim to compare the digests.")
@out_option
@expect_option
@common
@click.pass_context
def command(
    context: click.Context,
    scenario: str,
    engine: str,
    fixed: bool,
    errata: tuple[str, ...],
    detect: tuple[str, ...],
    kernel_lock: str | None,
    strategy: str | None,
    seed: int,
    repeat: int | None,
    address: str | None,
    no_check: bool,
    out: str | None,
    expect: bool,
    as_json: bool,
) -> int:
    """Run SCENARIO once, or --repeat it.

    SCENARIO is an id, as `uvmp scenarios` lists them, or a file. In sim a run is one execution; search with `uvmp
    explore`. A live machine is booted once for all runs. With --json and without --repeat, the document has `results`
    of every program in order, `finding`, `sites` and `token`; with --repeat it has these for each of `runs`.
    """
    output = Output(as_json)
    chosen = choose(scenario, fixed, errata, detect, kernel_lock)
    what = chosen.scenario
    if expect:
        must_expect_something(what)
    folder = new_folder(out)
    if engine == "live" and strategy is not None:
        raise UserMistake("is for sim: a live machine runs freely", field="--strategy")
    if engine == "sim" and strategy in (None, "stay") and context.get_parameter_source("seed") is not DEFAULT:
        raise UserMistake("stay makes no choices; give --strategy random or pct, or --engine live", field="--seed")
    if engine == "sim" and (address is not None or no_check):
        raise UserMistake("is for --engine live", field="--address" if address is not None else "--no-check")

    total = repeat or 1
    describe.introduce(output, what)
    if engine == "sim" and total > 1 and strategy in (None, "stay"):
        output.note("warning: strategy stay makes no choices, so that all runs are the same; try --strategy random")
    if engine == "live":
        from cluster.cli.live import check_address

        check_address(address)
        runs = _live(output, chosen, address, seed, total, folder, repeat is not None, not no_check)
    else:
        runs = _sim(chosen, strategy or "stay", seed, total, folder, repeat is not None)
    done: list[Done] = []
    interrupted, failed = False, None
    try:
        for one in runs:
            done.append(one)
            if one.unkept is not None:
                raise one.unkept
            if repeat is not None and (engine == "live" or total <= 20):
                output.note(f"run {len(done)} of {total}: {_short(one)}")
    except KeyboardInterrupt:
        interrupted = True
        output.note("interrupted")
    except ProjectBug as error:
        if not done or "--debug" in sys.argv:
            raise
        failed = error  # what was found so far is told first
    finally:
        runs.close()

    code = _say(output, chosen, done, repeat, expect)
    if any(one.parity is not None and not one.parity.equal for one in done):
        code = Exit.DIVERGED
    if interrupted:
        code = Exit.INTERRUPTED
    if failed is not None:
        code = failed.exit
        say_error(str(failed))
    output.result(_document(chosen, engine, strategy, seed, done, repeat, expect, interrupted, failed, code))
    return code


# -- the two engines -----------------------------------------------------------------------


def _sim(
    chosen: Chosen, strategy: str, seed: int, total: int, folder: Path | None, many: bool
) -> Generator[Done, None, None]:
    scenario = chosen.scenario
    machine, image = prepare(scenario)
    sim = Sim(machine, image)
    chooser = make(strategy, seed, scenario.bound.depth)
    for number in range(1, total + 1):
        sim.execute(chooser, record=True)
        run = recorded(sim, [])
        token: Token | None = token_of(scenario, list(sim.deviations))
        if len(str(token)) > MAX_TOKEN:
            token = None
        done = Done(run.finding, run.notes, run.results, run.sites, run.operations, run.digest, token)
        if folder is not None:
            out = folder / str(number) if many else folder
            write = functools.partial(write_sim, scenario=scenario, replay=run, token=token, options=chosen.options)
            done.unkept = keep(out, write)
            done.out = out if done.unkept is None else None
        yield done


def _live(
    output: Output,
    chosen: Chosen,
    address: str | None,
    seed: int,
    total: int,
    folder: Path | None,
    many: bool,
    check: bool,
) -> Generator[Done, None, None]:
    from cluster.cli.live import booted, kept, parity, token_of_live, write_end

    scenario = chosen.scenario
    with booted(output, scenario, address) as machine:
        for number in range(1, total + 1):
            out = folder / str(number) if folder is not None and many else folder
            with kept(machine, out) as name:
                run = machine.run(out=out, seed=seed + number - 1, identity=name)
            compared = parity(scenario, run) if check else None
            shortened = token_of_live(scenario, run) if compared is None or compared.equal else None
            unkept = None
            if out is not None:
                unkept = write_end(out, name, scenario, run, shortened=shortened, options=chosen.options)
            yield Done(
                run.finding,
                run.notes,
                run.results,
                run.sites,
                run.operations,
                run.digest,
                None,
                run.seconds,
                compared,
                out if unkept is None else None,
                shortened,
                unkept,
            )


# -- what they came to -----------------------------------------------------------------------


def _short(one: Done) -> str:
    words = "no finding"
    if one.finding is not None:
        words = " ".join(
            part for part in (one.finding.kind, _of("in", one.finding.function), _of("of", one.finding.subject)) if part
        )
    words += f"; {one.operations:,} operations"
    if one.seconds:
        words += f" in {one.seconds:.2f} s"
    return words + (f"; digest {one.digest[:8]} {one.parity}" if one.parity is not None else "")


def _of(word: str, name: str) -> str:
    return f"{word} {name}" if name else ""


def _unmet(chosen: Chosen, done: list[Done]) -> str | None:
    """Why the expectation does not hold over all runs: a finding must come in one of them, and no other in any."""
    outcome = chosen.scenario.outcome()
    reasons = [describe.unmet(chosen.scenario, one.finding, one.results) for one in done]
    if outcome is not None and outcome.findings:
        wrong = [why for one, why in zip(done, reasons, strict=True) if one.finding is not None and why]
        if wrong:
            return wrong[0]
        if any(why is None for why in reasons):
            return None
        return reasons[0] if reasons else "there was no run"
    return next((why for why in reasons if why), None if done else "there was no run")


def _say(output: Output, chosen: Chosen, done: list[Done], repeat: int | None, expect: bool) -> Exit:
    scenario = chosen.scenario
    found = [one for one in done if one.finding is not None]
    finding = found[0].finding if found else None
    if repeat is None:
        for one in done:
            _say_one(output, chosen, one)
    elif done:
        output.say(f"a finding in {len(found):,} of {counted(len(done), 'run')}", bold=True)
        tally = Counter(one.finding.signature if one.finding is not None else ("no finding", "", "") for one in done)
        output.table(
            ("runs", "finding", "function", "object"), [(count, *signature) for signature, count in tally.most_common()]
        )
        total: Counter[str] = Counter()
        for one in done:
            total.update(one.sites)
        describe.say_sites(output, scenario, total)
        compared = [one.parity for one in done if one.parity is not None]
        if compared:
            equal = sum(one.equal for one in compared)
            output.say(
                f"digest equal in sim: {equal:,} of {counted(len(compared), 'run')}",
                **({} if equal == len(compared) else {"fg": "red"}),
            )
            for wrong in [one for one in compared if not one.equal][:1]:
                output.say(f"  {wrong}", fg="red")
        first = next((one for one in found if _again(chosen, one)), None) or next(
            (one for one in found if one.shortened is not None), None
        )
        if first is not None:
            _say_again(output, chosen, first)
    return describe.verdict(output, expect, _unmet(chosen, done) if expect else None, finding)


def _say_one(output: Output, chosen: Chosen, one: Done) -> None:
    scenario = chosen.scenario
    describe.results(output, scenario, one.results)
    if one.finding is not None:
        describe.finding(output, one.finding)
    else:
        output.say("no finding", bold=True)
    for note in one.notes:
        output.say(f"noted, not stopped at: {' '.join(part for part in note.signature if part)}: {note.text}")
    describe.say_sites(output, scenario, one.sites)
    output.say(f"{one.operations:,} operations" + (f" in {one.seconds:.2f} s" if one.seconds else ""))
    output.say(f"digest {one.digest}")
    if one.parity is not None:
        output.say(f"       {one.parity}", **({} if one.parity.equal else {"fg": "red"}))
    _say_again(output, chosen, one)
    output.kept(one.out)


def _again(chosen: Chosen, one: Done) -> str | None:
    """The line that repeats this very run: its token's, or its folder's."""
    if one.token is not None:
        return chosen.replay_line(one.token)
    return shlex.join(["uvmp", "replay", str(one.out)]) if one.out is not None else None


def _say_again(output: Output, chosen: Chosen, one: Done) -> None:
    again = _again(chosen, one)
    if again is not None:
        output.replay_line(again)
    elif one.finding is not None:
        output.say("this run has no token: to repeat it exactly, keep it with --out and replay the folder")
    if one.shortened is not None:
        output.replay_line(chosen.replay_line(one.shortened), "the same finding, shortened:")


def _document(
    chosen: Chosen,
    engine: str,
    strategy: str | None,
    seed: int,
    done: list[Done],
    repeat: int | None,
    expect: bool,
    interrupted: bool,
    failed: ProjectBug | None,
    code: Exit,
) -> dict[str, Any]:
    scenario = chosen.scenario
    document: dict[str, Any] = {
        "command": "run",
        "scenario": scenario.id,
        "engine": engine,
        "errata": list(scenario.errata),
        "detect": scenario.detect,
        "strategy": (strategy or "stay") if engine == "sim" else None,
        "seed": seed,
        "interrupted": interrupted,
        "exit": int(code),
    }
    if repeat is None:
        for one in done:
            document |= _one(chosen, one)
    else:
        tally = Counter(one.finding.signature for one in done if one.finding is not None)
        document["repeat"] = repeat
        document["found"] = sum(tally.values())
        document["findings"] = [
            {"kind": kind, "function": function, "object": subject, "runs": count}
            for (kind, function, subject), count in tally.most_common()
        ]
        document["runs"] = [_one(chosen, one) for one in done]
    if failed is not None:
        document["error"] = error_document(str(failed), code, failed)
    if expect:
        why = _unmet(chosen, done)
        document["expected"] = {"held": why is None, "why": why}
    return document


def _one(chosen: Chosen, one: Done) -> dict[str, Any]:
    scenario = chosen.scenario
    document: dict[str, Any] = {
        "results": describe.in_order(scenario, one.results),
        "finding": one.finding.as_dict() if one.finding is not None else None,
        "notes": [note.as_dict() for note in one.notes],
        "sites": describe.sites(scenario, one.sites),
        "operations": one.operations,
        "digest": one.digest,
        "token": str(one.token) if one.token is not None else None,
        "replay": _again(chosen, one),
        "shortened": str(one.shortened) if one.shortened is not None else None,
        "replay_shortened": chosen.replay_line(one.shortened) if one.shortened is not None else None,
        "out": str(one.out) if one.out is not None else None,
    }
    if one.seconds is not None:
        document["seconds"] = round(one.seconds, 3)
    if one.parity is not None:
        document["parity"] = {"equal": one.parity.equal, "digest_sim": one.parity.digest, "why": one.parity.why or None}
    return document
