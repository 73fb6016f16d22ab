"""Searches by several workers (cluster/search/spread.py, cluster/workers): the same whatever their number, their order
and their deaths."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cluster.api import Program, choose
from cluster.boot import prepare
from cluster.search import SEARCHING, portfolio
from cluster.search.batch import DONE, JOB, KNOWLEDGE, WALKS, Job, Walks
from cluster.search.explore import Exploration, explore
from cluster.search.near import Site
from cluster.search.pool import Here
from cluster.search.share import LANES
from cluster.search.spread import LARGEST, MOST_WORKERS, SHARE, spread
from cluster.search.strategy import Sampling, Stay
from cluster.search.worker import Worker
from cluster.sim.engine import Sim
from cluster.workers.answer import Worker as Answering
from cluster.workers.answer import checked
from cluster.workers.dealer import TRIES
from cluster.workers.processes import Processes
from shared.errors import Infrastructure, UserMistake
from shared.journal.cut import part
from shared.journal.order import linearize
from shared.journal.record import held
from shared.scenario.model import Scenario
from shared.wire.codec import decode, encode
from tests.cluster import programs
from tests.cluster.test_explore import mine
from tests.kit import run_recorded, scenario, uvmp

pytestmark = pytest.mark.wide

ROOT = Path(__file__).parents[2]
SITES = (Site("uvm_loanuobj"), Site("uvm_fault", "an_ref"))


def add_carelessly() -> None:
    """Without the lock, which makes the field racy, now and then."""
    if choose(100) == 7:
        programs.FIRST.value += 1
    else:
        programs.add_locked()


#: what is searched: no finding; a finding soon; results; programs of one's own, in which
#: a field becomes racy late
SEARCHED: dict[str, Callable[[], Scenario]] = {
    "E54 repaired": lambda: scenario("E54").without_errata(),
    "E54": lambda: scenario("E54"),
    "litmus-mp": lambda: scenario("litmus-mp"),
    "careless": lambda: Program(programs.setup, [add_carelessly] * 3, detect={"race": "off"}).scenario(),
    "a deadlock": lambda: programs.DEFECTS["deadlock"][0].scenario(),
}


def job(what: str, strategy: str = "auto", seed: int = 3) -> Job:
    return Job(SEARCHED[what](), strategy, seed, SITES)


def facts(result: Exploration) -> dict[str, Any]:
    """All that a search tells, except for the time that it took."""
    classes = result.classes
    return {
        "finding": None if result.finding is None else result.finding.as_dict(),
        "token": str(result.token),
        "deviations": result.deviations,
        "classes": None if classes is None else (classes.seen, classes.once, classes.executions),
        "racy": sorted(result.racy),
        **{name: getattr(result, name) for name in (
            "schedules", "found_at", "raw_deviations", "results", "sites", "notes", "points", "operations", "by",
            "coverage", "interrupted",
        )},
    }  # fmt: skip


def here(given: Job, schedules: int, workers: int = 1, order: int | None = None) -> dict[str, Any]:
    return facts(spread(given, schedules, Here(Worker(given.setup()).run, workers, order)))


@pytest.mark.parametrize(
    ("strategy", "what"),
    dict.fromkeys(
        [
            *product([*SEARCHING, "near"], ["E54 repaired", "litmus-mp", "careless"]),
            *product(["auto", "random"], SEARCHED),
        ]
    ),
)
def test_a_search_is_the_same_for_any_number_of_workers_in_any_order(strategy: str, what: str) -> None:
    given = job(what, strategy)
    schedules = 30 if what == "E54 repaired" and strategy != "auto" else 120
    alone = here(given, schedules)
    assert here(given, schedules, 2, order=1) == alone and here(given, schedules, 5, order=2) == alone
    whole = alone["schedules"] == schedules == sum(alone["by"].values())
    assert whole or alone["found_at"] == alone["schedules"]


@pytest.mark.parametrize("strategy", ["auto", "pct"])
def test_a_search_behind_a_beginning_is_the_same_for_any_number_of_workers(strategy: str) -> None:
    """Each execution begins with the operations of another one, and comes to no defect that these exclude."""
    scene = SEARCHED["a deadlock"]()
    whole = run_recorded(scene, Stay())
    order = linearize(whole.journals)
    both = next(at for at, record in enumerate(order) if record["event"] == "unlock")
    early, late = (held(part(whole.journals, order[:count])) for count in (2, both))
    for first, finds in ((early, True), (late, False)):
        given = Job(scene, strategy, 3, begin=first)
        alone = here(given, 60)
        assert (alone["finding"] is not None) == finds
        assert here(given, 60, 3, 5) == alone


def test_the_examples_are_what_they_are_for() -> None:
    """Some have a finding behind the first round, others none."""
    results = {what: here(job(what), 30) for what in SEARCHED}
    assert results["E54 repaired"]["finding"] is None and results["E54"]["found_at"] > 8
    assert results["litmus-mp"]["racy"] and here(job("careless"), 1)["racy"] == [] != results["careless"]["racy"]
    assert results["a deadlock"]["finding"]["kind"] == "deadlock"
    assert set(results["E54 repaired"]["by"]) == {"default schedule", "surw", "rff", "pct", "near"}


def test_results_that_are_not_expected_are_a_finding_and_the_search_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cluster.search.explore.minimize", lambda sim, finding, deviations: deviations)
    given = Job(mine("{finding: none, results: {r: 1}}"), "random", 3)
    alone, other = here(given, 30), here(given, 30, 3, order=2)
    assert alone == other and alone["finding"]["kind"] == "unexpected-result"
    assert alone["schedules"] == 30 > alone["found_at"] > 1 and alone["notes"]["unexpected-result r"] > 1


def test_a_batch_is_one_account_up_to_a_confirmed_finding_and_one_behind_it() -> None:
    given = Job(mine("{finding: none, results: {r: 1}}"), "random", 3)
    walks = Walks(1, ["random"] * 20, [], encode(KNOWLEDGE, {}))
    first, rest = decode(DONE, Worker(given.setup()).run(encode(WALKS, walks))).ran
    assert first.confirmed is not None and first.confirmed.seen.kind == "unexpected-result"
    assert first.notes == {"unexpected-result r": 1} and first.findings == [first.schedules - 1]
    assert rest.confirmed is None and rest.notes == {"unexpected-result r": len(rest.findings)}
    assert first.schedules + rest.schedules == 20 == len(first.classes) + len(rest.classes)


def test_the_first_finding_is_that_of_the_lowest_number_whatever_comes_first() -> None:
    """The last batches that there is room for are done first."""
    given = job("E54", "random")
    worker = Worker(given.setup())

    class Backwards(Here):
        def wait(self, seconds: float) -> list[tuple[int, bytes]]:
            self.batches.reverse()
            done = super().wait(seconds)
            self.batches.reverse()
            return done

    assert facts(spread(given, 200, Backwards(worker.run, 16))) == here(given, 200)


def test_another_seed_searches_another_way() -> None:
    first, other = here(job("E54 repaired"), 40), here(job("E54 repaired", seed=4), 40)
    assert first["operations"] != other["operations"] and first["classes"] != other["classes"]


def test_a_round_goes_by_all_rounds_but_the_last() -> None:
    """So two are under way. A round is not larger than a share of what there was before."""
    given = job("E54 repaired")
    worker = Worker(given.setup())
    known: list[int] = []

    class Watching(Here):
        def submit(self, number: int, batch: bytes) -> None:
            known.append(number)
            super().submit(number, batch)

    waiting = Watching(worker.run, workers=LARGEST)
    result = spread(given, 60, waiting)
    assert known == sorted(known) and result.schedules == 60
    assert len(known) == 60, "with so many workers a batch is one execution"
    assert SHARE > 1


@pytest.mark.parametrize("strategy", [*SEARCHING, "near"])
def test_a_strategy_that_is_told_all_that_another_knows_goes_on_as_that_does(strategy: str) -> None:
    """With the same random numbers. Knowledge travels as a message does."""
    sim = Sim(*prepare(scenario("E54").without_errata()), set())

    def schedules(chooser: Sampling, seed: int) -> list[Any]:
        chooser.random.seed(seed)
        taken = []
        for _ in range(5):
            sim.execute(chooser)
            taken.append(sim.deviations)
        return taken

    for name, first in portfolio(strategy, 1, 3, SITES).strategies.items():
        second = portfolio(strategy, 1, 3, SITES).strategies[name]
        assert isinstance(first, Sampling) and isinstance(second, Sampling)
        schedules(first, 7)
        schedules(second, 8)
        first.learn(first.lesson())
        second.lesson()
        second.know(decode(KNOWLEDGE, encode(KNOWLEDGE, {name: first.knowledge()}))[name])
        racy = set(sim.racy)
        taken = schedules(first, 9)
        sim.racy.clear()
        sim.racy.update(racy)
        assert schedules(second, 9) == taken


# -- processes ---------------------------------------------------------------------------------


def kills() -> None:
    """A thread that ends its process, as often as a file says."""
    left = Path(os.environ["UVMP_TEST_WORKERS"])
    with suppress(OSError):
        count = int(left.read_text(encoding="ascii"))
        if count > 0:
            left.write_text(str(count - 1), encoding="ascii")
            os.kill(os.getpid(), signal.SIGKILL)


def fails() -> None:
    raise ValueError("a mistake of the program's")


DEADLY = Program(
    programs.setup, [kills, programs.first_then_second, programs.second_then_first], detect={"lockorder": "off"}
)
WRONG = Program(programs.setup, [fails])


@pytest.fixture
def left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that says how often a worker is to die."""
    monkeypatch.setenv("UVMP_TEST_WORKERS", str(tmp_path / "left"))
    return tmp_path / "left"


@pytest.mark.parametrize("strategy", ["pct", "dpor"])
def test_a_worker_that_is_killed_costs_its_batch_once(left: Path, strategy: str) -> None:
    given = Job(DEADLY.scenario(), strategy, 5)
    with Processes(1, given.setup()) as pool:
        whole = facts(spread(given, 30, pool))
        assert not pool.deaths
    left.write_text("1", encoding="ascii")
    with Processes(2, given.setup()) as pool:
        assert facts(spread(given, 30, pool)) == whole
        assert list(pool.deaths.values()) == [1] and left.read_text(encoding="ascii") == "0"
        assert len(pool.hands) == 2
    assert whole["finding"]["kind"] == "deadlock" and whole == here(given, 30)


def test_a_batch_that_kills_whoever_runs_it_ends_the_search(left: Path) -> None:
    given = Job(DEADLY.scenario(), "pct", 5)
    left.write_text("100", encoding="ascii")
    with Processes(2, given.setup()) as pool, pytest.raises(Infrastructure) as caught:
        spread(given, 30, pool)
    assert str(caught.value) == "2 workers have died at the same batch, the last by signal 9"
    assert left.read_text(encoding="ascii") == str(100 - TRIES)


def test_a_mistake_of_the_user_s_is_told_as_it_is_without_workers() -> None:
    given = Job(WRONG.scenario(), "random")
    with Processes(1, given.setup()) as pool, pytest.raises(UserMistake) as caught:
        spread(given, 3, pool)
    said = str(caught.value)
    assert said.startswith(f"{__file__}:") and "ValueError: a mistake of the program's" in said


def test_a_worker_of_other_source_is_refused() -> None:
    given = job("litmus-mp")
    sent = decode(JOB, given.setup(elsewhere=True))
    terms = sent.terms
    assert terms.version and checked(Answering().begin(encode(JOB, sent)))
    others = terms._replace(version="00000000"), terms._replace(tables={**terms.tables, "structs": "0"})
    for other, what in zip(others, ("kernel differs", "structs differ"), strict=True):
        with pytest.raises(Infrastructure, match=f"a worker has other source than the search: its {what}"):
            checked(Answering().begin(encode(JOB, sent._replace(terms=other))))


def alive(pid: int) -> bool:
    """Is there such a process, and has it not ended?"""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()[0] != "Z"
    return False


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="children are looked for in /proc")
@pytest.mark.parametrize(("by", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_a_command_that_is_ended_leaves_no_process(by: int, code: int) -> None:
    """Also if it has no time to end its workers: these notice."""
    command = [sys.executable, "-m", "cluster.cli", "explore", "S3a-shipped", "--fixed", "--workers", "2"]
    process = subprocess.Popen(
        [*command, "--schedules", "1000000"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - a shell ignores it in the background
    )  # fmt: skip
    assert process.stderr is not None
    for line in process.stderr:
        if re.search(r"explored [1-9]", line):
            break
    children = list(map(int, Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()))
    process.send_signal(by)
    out, _ = process.communicate(timeout=120)
    assert len(children) == 2 and process.returncode == code
    assert ("not seen in" in out) == (by != signal.SIGKILL)
    for child in children:
        while alive(child):
            os.sched_yield()


# -- the command ------------------------------------------------------------------------------------


def without_rates(text: str) -> str:
    return re.sub(r"[0-9,]+ per second", "", text)


def test_the_command_tells_the_same_for_any_number_of_workers() -> None:
    alone, two = (uvmp("explore", "E54", "--workers", count, "--near", "uvm_loanuobj") for count in (1, 2))
    assert alone.exit_code == two.exit_code == 1 and without_rates(alone.stdout) == without_rates(two.stdout)
    assert "(pct near uvm_loanuobj, depth 3, seed 0;" in alone.stdout


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (("E54", "--workers", "0"), 2, "--workers"),
        (("E54", "--workers", "2", "--exhaust", "--preemptions", "1"), 2, "--workers: "),
        (("E54", "--workers", "2", "--predict"), 2, "--workers: cannot be given with --predict"),
        (("E54", "--address", "nowhere"), 2, "--address: expected auto, or HOST:PORT"),
        (("E54", "--address", "127.0.0.1:1"), 5, "Ray cannot be reached at 127.0.0.1:1"),
        (("--all", "--address", "127.0.0.1:1"), 2, "--address: cannot be given with --all"),
    ],
)
def test_what_cannot_be_is_refused(args: tuple[str, ...], code: int, said: str) -> None:
    result = uvmp("explore", *args)
    assert result.exit_code == code and said in result.stderr


def test_all_takes_the_number_of_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def campaign(names: object, order: object, workers: int, out: object) -> list[object]:
        asked.append(workers)
        return []

    monkeypatch.setattr("cluster.cli.explore_all.campaign", campaign)
    assert uvmp("explore", "--all", "--workers", 7).exit_code == 0 and asked == [7]


# -- Ray -----------------------------------------------------------------------------------------------


@pytest.mark.live
def test_actors_come_to_the_same_also_if_they_are_killed(ray_session: Any) -> None:
    from cluster.workers.actors import Actors

    given = job("E54 repaired")
    wanted = here(given, 120)
    pool = Actors(ray_session, 2, given.setup(elsewhere=True))
    assert facts(spread(given, 120, pool)) == wanted
    pool.close()
    killed: list[object] = []

    def kill(so_far: Exploration) -> None:
        if not killed:
            killed.append(pool.hands[0].handle)
            ray_session.kill(pool.hands[0].handle)

    pool = Actors(ray_session, 2, given.setup())
    assert facts(spread(given, 120, pool, kill)) == wanted and killed and len(pool.hands) == 2
    pool.close()


@pytest.mark.live
def test_actors_share_a_tree(ray_session: Any) -> None:
    from cluster.workers.actors import Actors

    given = Job(scenario("E60").without_errata(), "dpor")
    pool = Actors(ray_session, 2, given.setup())
    result = spread(given, 1000, pool)
    pool.close()
    alone = explore(given.scenario, "dpor", schedules=1000)
    assert result.coverage == alone.coverage and alone.coverage is not None and alone.coverage.exhausted
    assert (result.schedules, result.operations, result.results) == (alone.schedules, alone.operations, alone.results)


def test_a_cluster_gets_no_more_actors_than_can_be_at_work() -> None:
    """Without a number: one for each processor, but of DPOR's tree so many parts are explored at a time."""
    from cluster.workers.actors import enough

    for processors, busy in ((4.0, (4, 4)), (64.0, (64, LANES)), (0.5, (1, 1))):
        ray: Any = SimpleNamespace(cluster_resources=lambda processors=processors: {"CPU": processors})
        assert (enough(ray, MOST_WORKERS.get("random")), enough(ray, MOST_WORKERS.get("dpor"))) == busy
