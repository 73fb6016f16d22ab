"""The table: every way to repeat a run shows its finding, for every scenario, with PCT and the random walk.

    explored    the token that `explore` prints tells, replayed in sim, the finding that `explore` told
    run         the folder that `run --out` kept tells, replayed in sim, the same, with the same digest
    token live  real processes that follow the token's schedule: the same, with the same digest
    folder live real processes that follow the folder's: the same, with the same digest
    free live   real processes on their own, replayed in sim from what they wrote: the same, with the same digest
    kept live   the folder of that run, replayed by the command

"The same" is every word of the finding: its text, stack, locks and story. The first two columns are for every
scenario in the default suite, with one strategy each; live, there are a few, and one for each kind of finding with the
actors' own parts in threads; all of them are live in `make long`.
Each column's count is printed at the end.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from cluster.boot import boot
from cluster.live.machine import LiveMachine
from cluster.runs.folder import identity, write_live, write_scenario, write_sim
from cluster.runs.outcome import Outcome
from cluster.runs.replay import replay, replay_journals
from cluster.runs.token import parse
from cluster.search import make
from cluster.search.explore import explore
from shared.detectors.race import Watch, judge_journals
from shared.findings import FINDINGS, Finding
from shared.journal.cut import judged
from shared.journal.order import asleep_at_start, goes_to_sleep
from shared.journal.record import Journals, Record, digest
from shared.scenario.model import Scenario
from tests.kit import SHIPPED, run_recorded, scenario, uvmp
from tests.nodes.in_threads import Threads

STRATEGIES = ("pct", "random")
#: schedules of a search that is about replay, not about finding
FEW = 5
#: those that were not replayed exactly once, and one scenario for each other kind of finding that a shipped one has
QUICK = (
    "S3g-shipped", "S3j-shipped", "E26b", "E56", "E45", "S3a", "S3a-shipped", "S8a", "E1", "S7", "E10", "E3", "S1a",
    "E23", "S11c", "E25", "S4", "S1b",
)  # fmt: skip
#: those of them that run on real processes in the default suite
LIVE = ("S3a-shipped", "S3g-shipped", "E26b", "E23", "S11c", "E56", "S4")

Table = Counter[tuple[str, bool]]


@pytest.fixture(scope="module")
def table(request: pytest.FixtureRequest) -> Iterator[Table]:
    """(column, did it hold) -> how often; told when all is over."""
    counts: Table = Counter()
    yield counts
    capture = request.config.pluginmanager.getplugin("capturemanager")
    assert capture is not None
    with capture.global_and_fixture_disabled():
        print()
        for column in dict.fromkeys(name for name, _ in counts):
            held, failed = counts[column, True], counts[column, False]
            print(f"table: {column.ljust(12)} {held} of {held + failed}")


def plain(finding: Finding | None) -> dict[str, Any] | None:
    return finding.as_dict() if finding is not None else None


def hold(table: Table, column: str, outcome: Outcome, other: Outcome) -> None:
    """Count, and complain, whether two runs are one."""
    same = outcome.digest == other.digest and plain(outcome.finding) == plain(other.finding)
    table[column, same] += 1
    assert plain(outcome.finding) == plain(other.finding), column
    assert outcome.digest == other.digest, column


def hold_folder(table: Table, column: str, folder: Path, finding: Finding | None) -> None:
    """Count, and complain, whether the command replays a folder as the run was."""
    result = uvmp("replay", folder, "--json")
    told = json.loads(result.stdout) if result.stdout else {}
    same = bool(told.get("equal")) and told.get("finding") == plain(finding)
    table[column, same] += 1
    assert same, f"{column}: {result.output[:2000]}"
    assert result.exit_code == (0 if finding is None else 1)


def explored(table: Table, scene: Scenario, strategy: str) -> Outcome:
    """A search, and what its token tells; without a finding, the default schedule."""
    result = explore(scene, strategy, schedules=FEW)
    if result.token is None:
        return replay(scene, [])
    once = replay(scene, list(parse(str(result.token)).deviations))
    same = plain(result.finding) == plain(once.finding) and result.results == once.results
    table["explored", same] += 1
    assert same, (plain(result.finding), plain(once.finding))
    return once


def kept(table: Table, scene: Scenario, strategy: str, seed: int, folder: Path) -> Outcome:
    """One run as `uvmp run --strategy S --seed N --out` makes it, and its folder replayed."""
    run = run_recorded(scene, make(strategy, seed, scene.bound.depth))
    folder.mkdir()
    write_sim(folder, scene, run)
    hold_folder(table, "run", folder, run.finding)
    return run


@pytest.mark.wide
@pytest.mark.parametrize("name", SHIPPED)
def test_in_sim(name: str, table: Table, tmp_path: Path) -> None:
    """By turns, a scenario is searched by one strategy and run by the other; `make long` does all."""
    scene, turn = scenario(name), SHIPPED.index(name) % 2
    explored(table, scene, STRATEGIES[turn])
    kept(table, scene, STRATEGIES[1 - turn], 1, tmp_path / "run")


@pytest.mark.long
@pytest.mark.parametrize("name", SHIPPED)
def test_all_of_it_in_sim(name: str, table: Table, tmp_path: Path) -> None:
    scene = scenario(name)
    for strategy in STRATEGIES:
        explored(table, scene, strategy)
        kept(table, scene, strategy, 1, tmp_path / strategy)


def live(table: Table, scene: Scenario, machine: LiveMachine, strategies: tuple[str, ...], seeds: range,
         tmp_path: Path) -> None:  # fmt: skip
    """The other columns of a scenario's row."""
    for strategy in strategies:
        once = explored(table, scene, strategy)
        hold(table, "token live", machine.run(follow=once.journals), once)
        run = kept(table, scene, strategy, 1, tmp_path / strategy)
        hold(table, "folder live", machine.run(follow=run.journals), run)
    for seed in seeds:
        folder = tmp_path / f"live{seed}"
        folder.mkdir()
        run_id = identity()
        write_scenario(folder, scene, run_id)
        free = machine.run(seed=seed, out=folder, identity=run_id)
        hold(table, "free live", replay_journals(scene, free.journals), free)
        write_live(folder, scene, run_id, free)
        hold_folder(table, "kept live", folder, free.finding)


Boot = Callable[..., LiveMachine]


@pytest.mark.live
@pytest.mark.parametrize("name", LIVE)
def test_some_scenarios_on_real_processes(name: str, table: Table, live_machine: Boot, tmp_path: Path) -> None:
    scene = scenario(name)
    strategy = scene.bound.strategy
    live(table, scene, live_machine(scene), (strategy,), range(1), tmp_path)


@pytest.mark.live
@pytest.mark.long
@pytest.mark.parametrize("name", SHIPPED)
def test_on_real_processes(name: str, table: Table, live_machine: Boot, tmp_path: Path) -> None:
    scene = scenario(name)
    live(table, scene, live_machine(scene), STRATEGIES, range(2), tmp_path)


@pytest.mark.parametrize("name", [name for name in QUICK if name != "S4"])  # S4 does not boot
def test_free_processors_in_threads_are_replayed(name: str) -> None:
    """As "free live", with the actors' own parts in threads; so that it costs little."""
    scene = scenario(name)
    machine = Threads(scene, seed=3)
    machine.run()
    part = judged(machine.records(), scene.limit)
    again = replay_journals(scene, part)
    assert again.digest == digest(part)
    stopped = [record["finding"] for records in part.values() for record in records if record["event"] == "finding"]
    assert not stopped or plain(again.finding) in stopped or again.finding in judge_journals(boot(scene), part)


def test_every_kind_of_finding_is_among_the_quick_ones() -> None:
    """As far as a shipped scenario has it."""
    outcomes = {name: scenario(name).expect.with_errata for name in SHIPPED}
    kinds = {name: set() if outcome is None else set(outcome.findings) for name, outcome in outcomes.items()}
    assert set().union(*(kinds[name] for name in QUICK)) == set().union(*kinds.values()) <= set(FINDINGS)


def any_order(journals: Journals, dice: Random) -> Iterator[Record]:
    """The records in some order that the journals allow."""
    nodes = {node: [record for record in records if "k" in record] for node, records in journals.items()}
    events: dict[tuple[str, int], list[Record]] = {}
    for node, records in journals.items():
        for record in records:
            if "k" not in record:
                events.setdefault((node, record["at"]), []).append(record)
    cpus: dict[str, list[Record]] = {}
    for record in sorted((record for queue in nodes.values() for record in queue), key=lambda record: -record["k"]):
        cpus.setdefault(record["cpu"], []).append(record)
    heads = dict.fromkeys(nodes, 0)
    waiting = asleep_at_start(journals)
    raised: Counter[str] = Counter()
    before: dict[str, str] = {}
    yield from (event for (_, at), events_ in events.items() if at == 0 for event in events_)
    while any(cpus.values()):
        able = []
        for queue in cpus.values():
            if queue and nodes[queue[-1]["node"]][heads[queue[-1]["node"]]] is queue[-1]:
                record = queue[-1]
                asleep = record["ctx"] in waiting and not goes_to_sleep(record, before.get(record["ctx"], ""))
                if not asleep and (record["event"] != "intr" or raised[record["ctx"]]):
                    able.append(queue)
        record = dice.choice(able).pop()
        heads[record["node"]] += 1
        before[record["ctx"]] = record["event"]
        if "wait" in record or record["event"] == "sleep":
            waiting.add(record["ctx"])
        raised[record["ctx"]] -= record["event"] == "intr"
        raised.update(record.get("raised", ()))
        waiting.difference_update(record.get("granted", ()), record.get("woke", ()))
        yield record
        yield from events.get((record["cpu"], record["k"]), ())


@pytest.mark.parametrize("name", ["E26b", "S3g-shipped", "S3c-race", "S1a", "E56"])
def test_what_races_does_not_depend_on_the_order_of_the_records(name: str) -> None:
    """Nor on whether it is told as the run goes or afterwards."""
    scene = scenario(name)
    image = boot(scene)
    for seed in range(4):
        run = run_recorded(scene, make("random", seed, 3))
        told = judge_journals(image, run.journals)
        assert (told[0] if told else None) == (run.finding if run.finding and run.finding.kind == "data-race" else None)
        for order in range(4):
            watch = Watch(image)
            for journals in any_order(run.journals, Random(order)):
                watch.record(journals)
            assert watch.findings() == told
