"""What a command repeats: a token's schedule, or that of a run folder."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from cluster import configs
from cluster.cli.options import Chosen, Options, apply
from cluster.cli.output import Output
from cluster.postmortem.load import Run, load
from cluster.runs.outcome import Outcome
from cluster.runs.replay import replay, replay_journals
from cluster.runs.token import Token, is_ours, kernel_version, parse, refuse_mismatch
from nodes.build import build_threads
from shared.errors import LogIncomplete, UserMistake
from shared.findings import Finding
from shared.journal.cut import cut_short, digested
from shared.journal.record import Journals, digest, holes
from shared.journal.runfile import PATCH, Late, is_sealed, late_of, options_of, patch_of
from shared.patch import current
from shared.scenario.model import Scenario
from shared.scenario.yaml import show
from shared.text import clean

OWN = "a run folder has its own scenario, errata and detectors"
#: what must be the same of a finding, recorded and replayed
SAME = ("kind", "text", "context", "function", "subject")


@dataclass
class Schedule:
    """The schedule to replay: a token's deviations, or a run folder's journals.

    Attributes:
        digest: of the run in the folder; None for a token.
        finding: as the folder has it, if it is `recorded`.
        cut: the run in the folder was ended while contexts could continue.
        late: it was ended because its time was over.
    """

    chosen: Chosen
    token: Token | None = None
    journals: Journals | None = None
    digest: str | None = None
    finding: dict[str, object] | None = None
    recorded: bool = False
    cut: bool = False
    late: Late | None = None

    def replay(self, strict: bool, time_s: float | None = None) -> Outcome:
        """Run the schedule in sim.

        Args:
            time_s: seconds that it may take; None: any.

        Raises: Diverged - a step of it cannot happen; of a token, only if it is `strict`. LogIncomplete.
        """
        if self.token is not None:
            return replay(self.chosen.scenario, list(self.token.deviations), strict, time_s)
        assert self.journals is not None
        return replay_journals(self.chosen.scenario, self.journals, self.cut, self.late, time_s)

    def unlike(self, replayed: Finding | None) -> str | None:
        """How the finding of the replay differs from that of the folder, in words; None if it does not."""
        if not self.recorded:
            return None
        here, there = (None if replayed is None else replayed.as_dict()), self.finding
        if (None if here is None else [here[key] for key in SAME]) == (
            None if there is None else [there.get(key) for key in SAME]
        ):
            return None
        was, again = (
            "no finding" if finding is None else f"{finding.get('kind')} ({clean(finding.get('text'), 200)})"
            for finding in (there, here)
        )
        return f"the run was recorded with {was}, but its replay has {again}"


def schedule_of(output: Output, what: str, scenario: str | None, lenient: bool, asked: Options) -> Schedule:
    """The schedule that the user means.

    Args:
        what: a token or a folder.
        scenario: the file of a token's scenario.
        lenient: a schedule of another kernel will do.

    Raises: UserMistake - no token, a token of something else, no run folder; LogIncomplete.
    """
    if os.path.lexists(what) or "/" in what:
        if scenario is not None or asked.changes_the_kernel:
            raise UserMistake(OWN, field="RUN")
        return _folder(output, what, lenient)
    token = parse(what)
    if scenario is None and token.scenario not in configs.names("scenarios"):
        raise UserMistake(
            f"the token is of {show(token.scenario)}, which is not a shipped scenario; give its file: --scenario FILE "
            "(of a Python program: call cluster.api.replay in Python)",
            field="TOKEN",
        )
    source = configs.scenario(token.scenario if scenario is None else scenario, "--scenario")
    own = source.scenario.without_errata() if token.fixed else source.scenario
    chosen = apply(own, () if source.path is None else ("--scenario", source.path), asked)
    if token.scenario != chosen.scenario.id:
        raise UserMistake(
            f"the token is of scenario {token.scenario}, this is {chosen.scenario.id}", field="--scenario"
        )
    try:
        refuse_mismatch(token, chosen.scenario)
    except UserMistake as mistake:
        if not lenient:
            raise
        output.note(f"{mistake.message.split(';')[0]}; replaying it anyway")
    return Schedule(chosen, token)


def _folder(output: Output, what: str, lenient: bool) -> Schedule:
    run = load(what)
    about, scenario = run.run or {}, run.loaded
    difference = other_kernel(run, about)
    if run.torn and (not difference or not is_sealed(about)):
        raise LogIncomplete("; ".join([f"{run.path}: {run.torn[0]}", *holes(run.journals)[:1]]))
    if scenario is None or run.run is None:
        if run.run is not None and difference:
            raise UserMistake(f"{difference}, which cannot read the run's scenario", file=run.path)
        missing = "scenario.json" if scenario is None else "run.json"
        raise LogIncomplete(f"{run.path}: there is no {missing}: the run was cut short, so its schedule is incomplete")
    refuse_program(run, scenario)
    if difference:
        if not lenient:
            raise UserMistake(f"{difference}; --lenient replays it anyway", file=run.path)
        output.note(f"{difference}; replaying it anyway")
    options = about.get("options")
    token = next((token for token in (about.get("token"), about.get("shortened")) if token is not None), None)
    chosen = Chosen(scenario, options_of(options) or ())
    if lenient and difference and isinstance(token, str):
        return Schedule(chosen, parse(token))
    must_know(run, scenario)
    wanted, late = str(about.get("digest")), late_of(about)
    part = _told_of(run, wanted, scenario.limit if late is None else late.operations)
    finding, cut = run.finding()[0], about.get("cut") is True
    return Schedule(chosen, None, part, wanted, finding, recorded=True, cut=cut, late=late)


def refuse_program(run: Run, scenario: Scenario) -> None:
    """Raises: UserMistake - the run is of a user's own program, whose functions no folder brings along."""
    if scenario.functions is not None:
        again = run.replay_lines()[0] or "cluster.api.replay"
        raise UserMistake(f"a run of a Python program; only Python can repeat it: {again}", file=run.path)


def must_know(run: Run, scenario: Scenario) -> None:
    """Raises: LogIncomplete - the run has records of contexts that the machine has not."""
    contexts = build_threads(scenario)
    for records in run.journals.values():
        for record in records:
            if record["ctx"] not in contexts:
                raise LogIncomplete(f"{run.path}: a record of {record['ctx']}, which this machine does not have")


def other_kernel(run: Run, about: Mapping[str, object]) -> str:
    """On which other kernel the run was made, in words; "": on this.

    Args:
        about: what the folder says of how the run was made.

    Raises: UserMistake - it was made with a patch, and none is applied.
    """
    versions, patch = about.get("versions"), patch_of(about.get("options"))
    if patch and current() is None:
        source = f" (its source, to read before you run it: {PATCH} in the folder)" if run.has_source else ""
        raise UserMistake(f"the run was made with the patch {patch}; give --patch FILE.py{source}", file=run.path)
    made_on = clean(versions.get("kernel"), 40) if isinstance(versions, dict) else "?"
    return "" if is_ours(made_on) else f"the run was made on kernel {made_on}, this is kernel {kernel_version()}"


def _told_of(run: Run, wanted: str, limit: int) -> Journals:
    """The part of a folder's journals that its digest is of.

    Raises: LogIncomplete - it is of none.
    """
    admitted = (run.run or {}).get("admitted")
    counts = admitted if isinstance(admitted, dict) else {}
    short = run.missing(counts) + cut_short(run.journals, counts)
    part = None if short else digested(run.journals, wanted, limit)
    if part is not None:
        return part
    other = f"the journals have digest {digest(run.journals)}, run.json says {wanted}"
    raise LogIncomplete(f"{run.path}: {clean([*short, *holes(run.journals), other][0], 200)}")
