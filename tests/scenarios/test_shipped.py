"""Every shipped scenario, both ways: with its errata what it promises, without them nothing, and the site reached."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import islice

import pytest

from cluster.boot import prepare
from cluster.runs.replay import replay
from cluster.search import make
from cluster.search.explore import Exploration, explore
from cluster.search.strategy import Stay
from cluster.sim.engine import Sim
from shared.scenario.machine import DeviceFault
from shared.scenario.model import Scenario, named_results
from tests.kit import SHIPPED, scenario, searched

DEFECTIVE = [name for name in SHIPPED if scenario(name).errata]
#: those whose defect is found; that of the others only costs something, and shows in results
FOUND = [name for name in DEFECTIVE if scenario(name).expect.with_errata.findings]


def unlike(scene: Scenario, result: Exploration) -> str | None:
    outcome = scene.outcome()
    assert outcome is not None
    return outcome.check(result.finding, named_results(result.results))


def assert_as_ddb_would_have_shown(scene: Scenario, result: Exploration) -> None:
    """What the last line of the story names is in the finding: functions, or the channels that its sleepers wait on."""
    line = scene.story.splitlines()[-1]
    functions = set(re.findall(r"(\w+)\(\)", line))
    assert result.finding is not None
    said = functions & set(re.findall(r"\w+", json.dumps(result.finding.as_dict())))
    assert said == functions or (said and " or " in line), f"{functions - said} not in {result.finding}"
    channels = set(re.findall(r'(?:sleeps?|and the pagedaemon) in "(\w+)"', line))
    if channels:
        journals = replay(scene, result.deviations).journals
        assert channels <= {record.get("wmesg") for records in journals.values() for record in records}


def faulty(name: str) -> list[DeviceFault]:
    """What a scenario's devices are told to do wrong."""
    machine = scenario(name).machine
    return [*machine.swap_faults, *machine.disk_faults]


def repaired(name: str) -> Iterator[Sim]:
    """The repaired kernel after each of the first 100 schedules."""
    scene = scenario(name).without_errata()
    machine, image = prepare(scene)
    sim = Sim(machine, image)
    strategy = make(scene.bound.strategy, 0, scene.bound.depth)
    for number in range(100):
        sim.execute(strategy if number else Stay())
        yield sim


@pytest.mark.wide
@pytest.mark.parametrize("name", DEFECTIVE)
def test_with_its_errata_a_scenario_finds_what_it_promises(name: str) -> None:
    """Within its own bound, and the very finding: kind, function and object; and as its story's last line has it."""
    scene = scenario(name)
    result = searched(name)
    assert unlike(scene, result) is None
    if result.finding is not None:
        assert_as_ddb_would_have_shown(scene, result)


@pytest.mark.wide
@pytest.mark.parametrize("name", SHIPPED)
def test_repaired_it_finds_nothing_though_the_site_is_reached(name: str) -> None:
    """A check that was never near the defect would prove nothing."""
    scene = scenario(name).without_errata()
    for schedules in (40, 100):  # some sites want more
        result = explore(scene, schedules=schedules)
        assert unlike(scene, result) is None
        assert result.schedules == schedules and result.notes == {}
        missed = [erratum for erratum in scene.own_errata if not result.sites.get(erratum)]
        if not missed:
            return
    pytest.fail(f"never reached: {missed}")


@pytest.mark.wide
@pytest.mark.parametrize("name", [name for name in SHIPPED if faulty(name)])
def test_repaired_its_devices_err_all_the_same(name: str) -> None:
    """A scenario about an error of a device would pass for nothing if the request were never made."""
    for sim in repaired(name):
        nodes = sim.machine.nodes
        matched = [*nodes["swap_pager"].faults.matched, *(nodes["disk"].faults.matched if "disk" in nodes else ())]
        if any(count >= fault.first for count, fault in zip(matched, faulty(name), strict=True)):
            return
    pytest.fail("no schedule makes the request that fails")


@pytest.mark.parametrize("name", ["E45", "S2c", "S1c-hard"])
def test_repaired_the_program_waits_for_memory_all_the_same(name: str) -> None:
    """The site of E45 is at boot, and is reached by any machine."""
    for sim in islice(repaired(name), 20):
        assert sim.finding is None and sim.counters["pdwoke"] > 1 and sim.counters["fltnoram"] > 0


@pytest.mark.long
@pytest.mark.parametrize("name", SHIPPED)
def test_repaired_it_finds_nothing_within_its_whole_bound(name: str) -> None:
    scene = scenario(name).without_errata()
    result = explore(scene)
    assert unlike(scene, result) is None and result.schedules == scene.bound.schedules


@pytest.mark.long
@pytest.mark.parametrize("name", DEFECTIVE)
def test_it_is_found_from_any_seed(name: str) -> None:
    """The bound holds for the scenario, not for a lucky seed."""
    scene = scenario(name)
    for seed in (1, *range(10, 15)):
        assert unlike(scene, explore(scene, seed=seed)) is None


@pytest.mark.wide
@pytest.mark.parametrize("name", FOUND)
def test_its_token_replays_it(name: str) -> None:
    """What the user pastes must show what the search showed."""
    from cluster.runs.replay import replay
    from cluster.runs.token import parse, refuse_mismatch

    scene, search = scenario(name), searched(name)
    assert search.finding is not None and search.token is not None
    token = parse(str(search.token))
    refuse_mismatch(token, scene)
    once = replay(scene, list(token.deviations))
    assert once.finding is not None and once.finding.signature == search.finding.signature
    if once.finding.kind != "no-progress":  # declared at some point of an endless run: points depend on granularity
        assert once.finding.as_dict() == search.finding.as_dict()


def test_the_shipped_race_needs_a_deviation() -> None:
    """S3a-shipped is not a defect of one CPU: the default schedule does not show it."""
    result = explore(scenario("S3a-shipped"))
    assert len(result.deviations) >= 1
