"""`uvmp explore`: search for a schedule with a finding."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import click

from cluster.boot import boot
from cluster.cli import describe, predicted
from cluster.cli.asking import Duration, address, argument, called, flag, option, refuse, seed, workers
from cluster.cli.documents import End, Facts, deviations, finish, of_outcome, of_scenario
from cluster.cli.options import Chosen, KeptOptions, choose, new_file, new_folder
from cluster.cli.output import Output, Progress, rate_of, spent
from cluster.cli.start import Start, behind
from cluster.cli.workers import pool, refuse_workers
from cluster.runs.folder import keep
from cluster.search import SEARCHING, SYSTEMATIC
from cluster.search.batch import Job
from cluster.search.chance import about, chance_of_new, interval, percent
from cluster.search.explore import Behind, Coverage, Exploration, explore
from cluster.search.near import Near, Site
from cluster.search.preemptions import Preemptions
from cluster.search.spread import MOST_WORKERS, spread
from cluster.search.steer import Predict
from cluster.search.strategy import Strategy
from shared.errors import Exit, ProjectBug, UserMistake
from shared.findings import UNEXPECTED
from shared.journal.order import operations
from shared.journal.record import held
from shared.patch import SEAMS, current
from shared.port.struct import KINDS
from shared.scenario.yaml import meant, show
from shared.text import counted

#: after this many schedules, the command warns about a site that was not reached
FIRST_SCHEDULES = 200
#: options for one scenario
ALONE = (
    "begin", "after", "depth", "near", "predict", "time", "exhaust", "reads_from", "preemptions", "errata", "detect",
    "kernel_lock", "operations", "address",
)  # fmt: skip
#: options that say how schedules are chosen, if they are not predicted
OTHERWISE = ("strategy", "depth", "near", "exhaust", "preemptions", "begin", "after")
#: schedules of a search that is to exhaust its scenario; of a search that predicts
EXHAUST = 100_000
PREDICT = 200


@dataclass(frozen=True, kw_only=True)
class ExploreOptions(KeptOptions):
    """The argument and the options of `uvmp explore`; None is the scenario's own value."""

    scenario: str | None = argument(required=False)
    everything: bool = flag(
        "Search all scenarios. --out DIR keeps the searches; with the same DIR, the command continues. With --patch: "
        "show what the patch changes.",
        "--all",
    )
    junit: str | None = option("With --all: also write a report in JUnit's format.", metavar="FILE")
    strategy: str | None = option(
        f"How to choose schedules: {', '.join([*SEARCHING, *SYSTEMATIC])}. auto, the default unless the scenario says "
        "another: several of them take turns.", type=click.Choice([*SEARCHING, *SYSTEMATIC]), metavar="NAME",
    )  # fmt: skip
    depth: int | None = option(
        "Number of ordering constraints that pct assumes; default: the scenario's.", type=click.IntRange(1, 16)
    )
    schedules: int | None = option(
        f"Try at most this many schedules; default: the scenario's bound, with --exhaust {EXHAUST:,}.",
        type=click.IntRange(1, 10_000_000),
    )
    exhaust: bool = flag("Try a schedule of each class of executions, until every class is tried (DPOR).")
    reads_from: bool = flag("With --exhaust: two schedules are of one class if all operations read the same.")
    preemptions: int | None = option(
        "With --exhaust: only schedules with at most this many switches away from a context that could continue.",
        type=click.IntRange(0, 1000),
    )
    near: str | None = option(
        "Preempt mostly in this kernel function, or where the function uses this field.", metavar="FUNCTION[:FIELD]"
    )
    begin: str | None = option(
        "Begin every schedule as this run began, up to --after; then choose freely.", "--from", metavar="TOKEN|RUN"
    )
    after: str | None = option(
        "The last operation that --from follows, as `uvmp postmortem` names operations; default: the end of a run that "
        "was cut short.", metavar="CONTEXT:N",
    )  # fmt: skip
    predict: bool = flag(
        "Predict races, deadlocks, lost wakeups and atomicity violations from executions without a finding, and "
        f"confirm each by an execution; at most {PREDICT} schedules by default."
    )
    time: float | None = option("Begin no schedule after this time, as 30s, 5m or 1h.", type=Duration())
    seed: int = seed()
    workers: int | None = workers(
        "; the schedules differ from those without --workers, but --exhaust tries the same classes, with at most 16 "
        "workers at a time. With --all: at most N scenarios at a time."
    )
    address: str | None = address("Default: processes on this computer")
    granularity: str = option(
        "Where contexts may be switched: unguarded accesses only, or every access.",
        type=click.Choice(["guarded", "access"]), default="guarded", show_default=True,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Plan:
    """How a scenario is searched, and up to where."""

    chosen: Chosen
    strategy: str
    depth: int
    limit: int
    seconds: float | None
    seed: int
    granularity: str
    preemptions: int | None = None
    near: Site | None = None
    start: Start | None = None
    predict: Predict | None = None
    workers: int | None = None
    address: str | None = None

    @property
    def spread(self) -> bool:
        """Is the search for several workers? Then its schedules are others."""
        return self.workers is not None or self.address is not None

    @property
    def within(self) -> str:
        """The bound, in words behind `exhausted`."""
        within = "" if self.preemptions is None else f" within {counted(self.preemptions, 'preemption')}"
        return within if self.start is None else f"{within} behind {self.start}"

    def __str__(self) -> str:
        if self.strategy in SYSTEMATIC or self.predict is not None:
            return f"{self.strategy}{self.within}"
        behind = "" if self.start is None else f", behind {self.start}"
        if self.near is not None:
            return f"pct near {self.near}, depth {self.depth}, seed {self.seed}{behind}"
        depth = f"depth {self.depth}, " if self.strategy == "pct" else ""
        return f"{self.strategy}, {depth}seed {self.seed}{behind}"


@called(
    "explore",
    ExploreOptions,
    ("uvmp explore S3a-shipped", "find the race, and print a command that repeats it"),
    ("uvmp explore S3a-shipped --fixed --schedules 400", "search the repaired kernel"),
    ("uvmp explore E60 --fixed --exhaust", "try every class of executions once"),
    ("uvmp explore E1 --fixed --exhaust --preemptions 2", "the same with at most two preemptions"),
    ("uvmp explore --all --expect --out runs/all", "search all; the same command continues"),
    ("uvmp explore --all --patch fix.py", "show what a patch changes; takes minutes"),
    ("uvmp explore S2a --fixed --time 30s", "search for half a minute"),
    ("uvmp explore S2a --fixed --time 30s --workers 2", "search with two processes"),
    ("uvmp explore S7-shipped --near uvm_fault_unwire", "preempt where the defect is believed to be"),
    ("uvmp explore --from TOKEN --after A:412", "search what else can happen after operation 412 of A"),
    ("uvmp explore E31-shipped --predict", "predict defects, and confirm them"),
    ("uvmp explore my.yaml --seed 7 --out runs/found", "search your own scenario, and keep the finding's run"),
)
def command(asked: ExploreOptions) -> int:
    """Run SCENARIO under one schedule after another until there is a finding.

    SCENARIO is an id, as `uvmp scenarios` lists them, or a file. The command shortens the schedule of the finding, and
    prints a command line that repeats it exactly.
    """
    if asked.everything:
        return _explore_all(asked)
    refuse(asked, "is only for --all", "junit")
    output = Output(asked.as_json)
    start = behind(output, asked.begin, asked.scenario, asked.after, asked)
    if start is None and asked.scenario is None:
        raise click.UsageError("missing argument 'SCENARIO'")
    chosen = choose(asked.scenario or "", asked) if start is None else start.chosen
    folder = new_folder(asked.out)
    plan = replace(_plan(chosen, asked), start=start)
    alone = "--predict" if asked.predict else ""
    refuse_workers(plan.strategy, asked.workers, asked.address, alone)
    plan = replace(plan, workers=asked.workers, address=asked.address)
    describe.introduce(output, chosen.scenario)
    within = "" if plan.seconds is None else f", for {spent(plan.seconds)} at most"
    output.note(f"exploring up to {counted(plan.limit, 'schedule')}{within} ({plan})")
    search = _search(output, plan)

    why_not = _unmet(chosen, search) if asked.expect else None
    _say(output, plan, search)
    unkept = _keep(output, chosen, search, folder)
    if search.interrupted and search.finding is None:
        code = Exit.INTERRUPTED
    else:
        code = describe.verdict(output, asked.expect, why_not, search.finding)
        code = Exit.INTERRUPTED if search.interrupted else code
    end = End(code, asked.expect, why_not, search.interrupted, unkept)
    return finish(output, "explore", end, of_scenario(chosen.scenario), _facts(plan, search))


def _plan(chosen: Chosen, asked: ExploreOptions) -> Plan:
    """The plan of the options, and of the scenario's bound for options that are not given.

    Raises: UserMistake - a depth for a strategy that has none; preemptions without --exhaust, or a strategy with it or
        with --predict.
    """
    bound = chosen.scenario.bound
    if asked.predict:
        refuse(asked, "cannot be given with --predict", *OTHERWISE)
        limit = PREDICT if asked.schedules is None else asked.schedules
        return Plan(chosen, "predict", bound.depth, limit, asked.time, asked.seed, "access", predict=Predict())
    if asked.exhaust:
        refuse(asked, "cannot be given with --exhaust", "strategy", "depth", "near")
        if asked.preemptions is not None:
            refuse(asked, "cannot be given with --preemptions", "reads_from")
        strategy = "reads-from" if asked.reads_from else "dpor" if asked.preemptions is None else "preemptions"
        limit = EXHAUST if asked.schedules is None else asked.schedules
        return Plan(chosen, strategy, bound.depth, limit, asked.time, asked.seed, asked.granularity, asked.preemptions)
    if asked.near is not None:
        refuse(asked, "cannot be given with --near", "strategy")
    refuse(asked, "is only for --exhaust", "preemptions", "reads_from")
    strategy = asked.strategy or bound.strategy
    if asked.depth is not None and strategy != "pct" and asked.near is None:
        raise UserMistake(f"is only for strategy pct; the strategy is {strategy}", field="--depth")
    depth = bound.depth if asked.depth is None else asked.depth
    limit = bound.schedules if asked.schedules is None else asked.schedules
    near = None if asked.near is None else _site(asked.near)
    return Plan(chosen, strategy, depth, limit, asked.time, asked.seed, asked.granularity, near=near)


def _site(text: str) -> Site:
    """The site that --near names; UserMistake if there is no such function or field."""
    function, _, name = text.partition(":")
    if function not in SEAMS:
        raise UserMistake(f"no kernel function {show(function)}{meant(function, SEAMS)}", field="--near")
    fields = {field for kind in KINDS.values() for field in kind.fields}
    if name not in {"", *fields}:
        raise UserMistake(f"no struct has a field {show(name)}{meant(name, fields)}", field="--near")
    return Site(function, name)


def _search(output: Output, plan: Plan) -> Exploration:
    """Search, and say how it is going."""
    scenario = plan.chosen.scenario
    scenario = replace(scenario, bound=replace(scenario.bound, depth=plan.depth))
    missed = list(scenario.own_errata)

    def watch(so_far: Exploration) -> bool:
        progress(so_far.schedules, so_far.seconds, _distinct(so_far))
        if so_far.schedules >= FIRST_SCHEDULES and missed:
            for erratum in [erratum for erratum in missed if not so_far.sites.get(erratum)]:
                never = f"{so_far.schedules:,} schedules have not reached the site of {erratum}"
                progress.note(f"warning: {never}; perhaps the programs cannot reach it (Ctrl-C ends the search)")
            missed.clear()
        return plan.seconds is not None and so_far.seconds >= plan.seconds

    if plan.spread:
        sites = tuple(Site(erratum.split(".")[0]) for erratum in scenario.own_errata)
        begin = None if plan.start is None else held(plan.start.journals)  # (each worker is sent all of it)
        job = Job(scenario, plan.strategy, plan.seed, sites, plan.granularity, begin)
        if plan.near is not None:
            job = replace(job, strategy="near", sites=(plan.near,))
        bar = Progress(output, plan.limit, plan.seconds)
        boot(scenario)
        most = MOST_WORKERS.get(plan.strategy)
        with pool(output, job.setup, plan.workers, plan.address, most) as workers, bar as progress:
            return spread(job, plan.limit, workers, watch)
    strategy: str | Strategy = plan.predict or plan.strategy
    if plan.preemptions is not None:
        strategy = Preemptions(plan.preemptions)
    elif plan.near is not None:
        strategy = Near([plan.near], plan.seed, plan.depth)
    begun = strategy if plan.start is None else Behind(plan.start.journals, strategy)
    with Progress(output, plan.limit, plan.seconds) as progress:
        return explore(scenario, begun, plan.seed, plan.limit, plan.granularity, watch)


def _distinct(search: Exploration) -> str:
    """How many classes were seen, and how probable a new one is."""
    classes = search.classes
    if classes is None:
        return ""
    chance = percent(chance_of_new(classes.once, classes.executions))
    return f"{len(classes.seen):,} distinct, the next one is new with {chance}"


def _unmet(chosen: Chosen, search: Exploration) -> str | None:
    """Why the scenario's expectation does not hold: the repaired kernel must have come to the sites, too."""
    scenario = chosen.scenario
    why_not = describe.unmet(scenario, search.finding, search.results)
    if not scenario.errata and not why_not:
        never = [erratum for erratum in scenario.own_errata if not search.sites.get(erratum)]
        why_not = f"the site of {never[0]} was never reached" if never else None
    return why_not


def _explore_all(asked: ExploreOptions) -> int:
    """Search all scenarios: to compare a patch, or as a campaign.

    Raises: UserMistake - an option that says nothing together with --all.
    """
    from cluster.cli.explore_all import compare_all, explore_all
    from cluster.search.campaign import Order

    patched = current() is not None
    if asked.scenario:
        raise UserMistake("cannot be given with --all", field="SCENARIO")
    if patched:
        refuse(asked, "cannot be given with --all and --patch", "strategy", "out", "expect", "fixed", "junit")
    refuse(asked, "cannot be given with --all", *ALONE)
    output = Output(asked.as_json)
    if patched:
        return compare_all(output, asked.seed, asked.schedules, asked.workers)
    order = Order(asked.seed, asked.fixed, asked.strategy, asked.schedules)
    junit, out = new_file(asked.junit, "--junit"), None if asked.out is None else Path(asked.out)
    return explore_all(output, order, asked.workers, out, junit, asked.expect)


def _say(output: Output, plan: Plan, search: Exploration) -> None:
    rate = rate_of(search.schedules, search.seconds)
    covered = search.coverage
    over = "time is over" if plan.seconds is not None and search.schedules < plan.limit else ""
    if plan.predict is not None and not plan.predict.attempts.left and search.schedules < plan.limit:
        over = "nothing is left to predict"
    why = "interrupted" if search.interrupted else over
    if covered is not None and (search.finding is None or covered.exhausted):
        output.say(_covered(plan, search, covered, why), bold=search.finding is None)
    elif search.finding is None:
        seen = f"not seen in {counted(search.schedules, 'schedule')}" + (f" of {plan.limit:,}, {why}" if why else "")
        output.say(f"{seen} ({plan}; {rate} per second)", bold=True)
        if search.classes is not None and search.schedules:
            _say_how_much(output, search)
    if search.finding is not None:
        describe.finding(output, search.finding)
        output.say()
        output.say(f"found in schedule {search.found_at:,} of {plan.limit:,} ({plan}; {rate} per second)")
        if search.token is not None:
            output.say(describe.shortened(search.raw_deviations, len(search.deviations)))
            for deviation in search.deviations[:4]:
                output.say(f"  {deviation}")
    if plan.predict is not None:
        predicted.say(output, plan.predict, search)
    describe.say_sites(output, plan.chosen.scenario, search.sites)
    for note, count in sorted(search.notes.items()):
        if note.startswith(UNEXPECTED):
            output.say(f"{note}: in {count:,} of {counted(search.schedules, 'schedule')}")
        else:
            output.say(f"noted, without stopping: {note} ({describe.times(count)})")
    if search.token is not None:
        output.replay_line(plan.chosen.replay_line(search.token))


def _covered(plan: Plan, search: Exploration, covered: Coverage, why: str) -> str:
    """The classes that a systematic search has seen, and the reason why it ended."""
    kind = "reads-from " if plan.strategy == "reads-from" else ""
    classes = f"{covered.classes:,} {kind}{'class' if covered.classes == 1 else 'classes'} of executions"
    redundant = f"{covered.redundant:,} redundant" if covered.redundant else "none redundant"
    schedules, rate = counted(search.schedules, "schedule"), rate_of(search.schedules, search.seconds)
    if covered.exhausted:
        none = "" if search.finding is not None else ", no finding"
        return f"exhausted{plan.within}: {classes}{none} ({schedules}, {redundant}; {rate} per second)"
    endless = f", {covered.endless:,} of them without an end" if covered.endless else ""
    why = f", {why}" if why else ""
    if covered.estimated is not None:
        classes += f" of about {about(covered.estimated)} or more"
    return f"not exhausted{plan.within} in {schedules}{endless}{why}: {classes} ({redundant}; {rate} per second)"


def _say_how_much(output: Output, search: Exploration) -> None:
    """How much a search without a finding has shown."""
    if len(search.by) > 2:
        output.say("schedules by strategy: " + ", ".join(f"{name} {count:,}" for name, count in search.by.items()))
    output.say(f"happens-before classes: {_distinct(search)}")
    most = percent(interval(0, search.schedules)[1])
    output.say(
        f"0 of {counted(search.schedules, 'schedule')}: at most {most} of schedules chosen so have a finding (95 %)"
    )


def _keep(output: Output, chosen: Chosen, search: Exploration, folder: Path | None) -> ProjectBug | None:
    """Write the finding's run into the folder; returns why it could not be kept, if so."""
    if folder is None:
        return None
    if search.outcome is None or search.outcome.token is None:
        output.note("no finding, so there is no run to keep; --out was not used")
        return None
    keep(folder, chosen.scenario, search.outcome, chosen.options)
    output.kept(search.outcome.folder)
    return search.outcome.unkept


def _facts(plan: Plan, search: Exploration) -> Facts:
    """The facts of the document about the search, over those about the finding's run."""
    classes, covered = search.classes, search.coverage
    of_finding = {} if search.outcome is None else of_outcome(plan.chosen, search.outcome)
    followed = {} if plan.start is None else {"followed": operations(plan.start.journals)}
    return {
        **followed,
        **dict.fromkeys(("finding", "token", "replay", "out")),
        **of_finding,
        "strategy": "pct" if plan.near is not None else plan.strategy,
        "near": None if plan.near is None else str(plan.near),
        "depth": plan.depth if plan.strategy == "pct" or plan.near is not None else None,
        "preemptions": plan.preemptions,
        "exhausted": None if covered is None else covered.exhausted,
        "redundant": None if covered is None else covered.redundant,
        "estimated": None if covered is None else covered.estimated,
        "seed": plan.seed,
        "granularity": plan.granularity,
        "bound": plan.limit,
        "time": plan.seconds,
        "schedules": search.schedules,
        "by": search.by,
        "distinct": covered.classes if covered is not None else None if classes is None else len(classes.seen),
        "chance_of_new": None if classes is None else chance_of_new(classes.once, classes.executions),
        "seconds": round(search.seconds, 3),
        "found_at": search.found_at or None,
        "results": describe.in_order(plan.chosen.scenario, search.results),
        "sites": describe.sites(plan.chosen.scenario, search.sites),
        "notes": search.notes,
        "racy": sorted(search.racy),
        "operations": search.operations,
        "deviations": deviations(search.deviations),
        "predictions": None if plan.predict is None else predicted.facts(plan.predict, search),
    }
