"""The live engine's promises, without Ray: memory is sequentially consistent, and a schedule is followed exactly."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from cluster.live.machine import Beginning
from cluster.runs.replay import beginning, replay, replay_journals
from cluster.search.walk import RandomWalk
from nodes.cpu import Processor, Thread
from nodes.host.runner import Runner
from shared.errors import Diverged, Infrastructure, LogIncomplete
from shared.journal.cut import judged
from shared.journal.order import causal_past, linearize
from shared.journal.record import Journal, digest, holes, read
from shared.port.port import SPL_BIO, SPL_HIGH, SPL_NONE, here
from shared.scenario.model import Scenario, named_results
from shared.wire.codec import ANSWER, DELIVERY, FRAMES, decode
from shared.wire.frames import Answer, GiveBack
from shared.wire.messages import OPERATIONS, Frame, Grant, Interrupt, Reply, Status, Wake
from tests.cluster.test_resume import SCENES, performed, torn
from tests.kit import OTHER, THING, Toy, make_structs, run_recorded, scenario, went_on_before_an_interrupt
from tests.nodes.in_threads import Threads

pytestmark = pytest.mark.wide

#: which accesses to the named words are late: a CPU that did not wait for its first store would be caught
UNLUCKY = {
    "litmus-mp": {("cpu0", "memory0"): 0.1, ("cpu1", "memory1"): 0.03},
    "litmus-sb": {("cpu0", "memory0"): 0.1, ("cpu1", "memory1"): 0.1},
}
#: the same as an order, which only a CPU that does not wait can keep: access -> those that are applied before it is.
#: An access is (CPU, node): each CPU accesses one named word on each shard.
FORBIDDEN = {
    "litmus-mp": {("cpu1", "memory1"): [("cpu0", "memory1")], ("cpu0", "memory0"): [("cpu1", "memory0")]},
    "litmus-sb": {
        ("cpu0", "memory0"): [("cpu0", "memory1"), ("cpu1", "memory0")],
        ("cpu1", "memory1"): [("cpu0", "memory1"), ("cpu1", "memory0")],
    },
}


def late(delays: dict[tuple[str, str], float]) -> Callable[[Frame], float]:
    """Delays of (CPU, node) for frames that begin with an access to a named word."""

    return lambda frame: delays.get((frame.cpu, frame.node), 0.0) if accesses_a_word(frame) else 0.0


def accesses_a_word(frame: Frame) -> bool:
    """Does it begin with an access to a named word?"""
    first = frame.requests[0]
    return first.code in ("load", "store") and first.args[0].kind_name == "litmus"


class Ordered(Threads):
    """Applies accesses to named words in an order that it is told; a delay would only make that order likely.

    Args:
        order: access -> those that must have been applied before.
    """

    def __init__(self, scene: Scenario, order: dict[tuple[str, str], list[tuple[str, str]]], **options: Any):
        self.order = order
        self.applied = {access: threading.Event() for before in order.values() for access in before}
        super().__init__(scene, **options)

    def ask(self, node: str, frames: bytes) -> bytes:
        [asked] = decode(FRAMES, frames)
        access = (asked.cpu, asked.node) if accesses_a_word(asked) else ("", "")
        for before in self.order.get(access, ()):
            assert self.applied[before].wait(60), f"{access} waits for {before}, which never comes"
        reply = super().ask(node, frames)
        if access in self.applied:
            self.applied[access].set()
        return reply


class Hasty(Runner):
    """Does not wait until a store to a named word has been applied: the machine that the litmus tests must catch."""

    under_way: list[threading.Thread] = []

    def _flush(self) -> None:
        if self.outbox and self.requests[0].code == "store" and self.requests[0].args[0].kind_name == "litmus":
            frames, self.outbox = self.outbox, []
            late = threading.Thread(target=self.peers.ask, args=(frames,))
            late.start()
            self.under_way.append(late)
        super()._flush()


def litmus(name: str, delay_s: Callable[[Frame], float] | None = None, **options: Any) -> tuple[str | None, Threads]:
    """Run freely; returns what is wrong with the results, and the machine."""
    scene = scenario(name)
    machine = Threads(scene, **options)
    machine.delay_s = delay_s or machine.delay_s
    assert machine.run() is None
    return scene.expect.fixed.check(None, named_results(machine.results())), machine


@pytest.mark.parametrize("name", ["litmus-mp", "litmus-sb"])
def test_stores_to_a_slow_shard_are_never_overtaken(name: str) -> None:
    """A CPU continues to another shard only when all it sent has been applied."""
    first, other = ({(cpu, node): 0.03 for cpu in ("cpu0", "cpu1")} for node in ("memory0", "memory1"))
    for delays in (first, other, UNLUCKY[name]):
        for seed in range(3):
            wrong, machine = litmus(name, delay_s=late(delays), seed=seed)
            assert wrong is None
            assert holes(machine.records()) == []
            linearize(machine.records())


@pytest.mark.parametrize("name", ["litmus-mp", "litmus-sb"])
def test_a_cpu_that_does_not_wait_is_caught(name: str) -> None:
    """The same on a machine broken on purpose: without this, the test above might be unable to fail."""
    scene = scenario(name)
    machine = Ordered(scene, FORBIDDEN[name], runner=Hasty)
    assert machine.run() is None
    wrong = scene.expect.fixed.check(None, named_results(machine.results()))
    assert wrong is not None and wrong.startswith("expected never")
    while Hasty.under_way:
        Hasty.under_way.pop().join()
    with pytest.raises(LogIncomplete, match="contradict each other"):
        linearize(machine.records())


@pytest.mark.parametrize("name", ["S3a", *(pytest.param(name, marks=pytest.mark.long) for name in ("E1", "S3d"))])
def test_a_schedule_of_sim_is_followed_to_the_record(name: str) -> None:
    for scene in (scenario(name), scenario(name, shards="{lock_manager: 2, memory: 2}").without_errata()):
        for seed in range(3):
            wanted = run_recorded(scene, RandomWalk(seed))
            machine = Threads(scene, follow=wanted.journals)
            finding = machine.run()
            assert digest(machine.records()) == wanted.digest
            assert (finding and finding.as_dict()) == (wanted.finding and wanted.finding.as_dict())


def test_an_interrupt_is_followed_to_the_kernel_event() -> None:
    """A context that has waited may continue before the interrupt over it, or afterwards; no operation tells which."""
    scene = scenario("S3a", shards="{lock_manager: 2, memory: 2}").without_errata()
    schedules = (run_recorded(scene, RandomWalk(seed)) for seed in range(40))
    wanted = next(schedule for schedule in schedules if went_on_before_an_interrupt(schedule.journals))
    machine = Threads(scene, follow=wanted.journals)
    machine.run()
    assert digest(machine.records()) == wanted.digest


def test_a_schedule_is_followed_although_a_shard_is_slow() -> None:
    """What comes too early is held back at its node; the order is the schedule's, not that of arrival."""
    scene = scenario("litmus-mp")
    slow = {"memory1": 0.01, "lock_manager0": 0.005}
    for seed in range(4):
        wanted = run_recorded(scene, RandomWalk(seed))
        machine = Threads(scene, follow=wanted.journals)
        machine.delay_s = lambda frame: slow.get(frame.node, 0.0)
        machine.run()
        assert digest(machine.records()) == wanted.digest


@pytest.mark.parametrize("seed", range(4))
def test_a_free_run_replays_in_sim(seed: int) -> None:
    scene = scenario("S3a", shards="{lock_manager: 2, memory: 2}").without_errata()
    machine = Threads(scene, seed=seed)
    assert machine.run() is None
    assert replay_journals(scene, machine.records()).digest == digest(machine.records())


# -- findings of a node, told to a CPU that is already further on --------------------------


def freed_too_early() -> None:
    """Stores are not waited for: the CPU leaves the function before memory says that the struct is gone."""
    here.port.enter("outer")
    here.port.enter("inner")
    THING.v = 1
    here.port.exit()
    here.port.exit()
    THING.v = 2
    OTHER.lk.lock()
    OTHER.lk.unlock()


def toy_and_image() -> Toy:
    def body() -> None:
        make_structs()
        here.port.free(THING)

    return Toy(body, {"A": (0, freed_too_early)}, {"race": "off"})


def live_toy(toy: Toy, **options: Any) -> Threads:
    def fresh() -> Any:
        made = Toy(make_structs, {"A": (0, freed_too_early)}, {"race": "off"}).machine.threads
        return made

    return Threads(toy.scenario, (fresh, toy.image), **options)


def test_a_posted_store_that_fails_is_told_as_of_where_it_was_made() -> None:
    """Function, stack and operation number of the store, not those of the answer."""
    toy = toy_and_image()
    wanted = toy.run(record=True)
    assert wanted is not None and wanted.stack == ["outer", "inner"]
    journals = {name: journal.records for name, journal in toy.sim.journals.items()}  # type: ignore[union-attr]
    followed = live_toy(toy, follow=journals)
    finding = followed.run()
    assert finding is not None and finding.as_dict() == wanted.as_dict()
    assert digest(followed.records()) == digest(journals)
    free = live_toy(toy)
    finding = free.run()
    assert finding is not None and finding.as_dict() == wanted.as_dict()
    assert digest(causal_past(free.records())) == digest(journals)


# -- what cannot be followed -----------------------------------------------------------------


def test_an_operation_of_another_kind_is_told_as_diverged() -> None:
    """The node says what it expected and what came."""
    scene = scenario("E1").without_errata()
    wanted = run_recorded(scene, RandomWalk(0))
    journals = {node: [dict(record) for record in records] for node, records in wanted.journals.items()}
    changed = next(
        record for record in journals["lock_manager"] if record["event"] == "unlock" and record["ctx"] == "A"
    )
    changed["event"] = "wakeup"
    machine = Threads(scene, follow=journals)
    with pytest.raises(Diverged, match=f"wakeup as operation {changed['n']} of A on lock_manager; found unlock"):
        machine.run()


def test_a_processor_says_what_it_still_has_to_do() -> None:
    scene = scenario("E1").without_errata()
    wanted = run_recorded(scene, RandomWalk(0))
    machine = Threads(scene, follow=wanted.journals)
    before = machine.runners["cpu0"].behind()
    assert before == ("cpu0", 0, "A")
    machine.run()
    assert machine.runners["cpu0"].behind() is None


def test_an_answer_that_never_comes_is_an_error_and_no_finding() -> None:
    """Every wait has a limit."""
    from nodes.host import runner

    scene = scenario("E1").without_errata()
    wanted = run_recorded(scene, RandomWalk(0))
    journals = {node: [dict(record) for record in records] for node, records in wanted.journals.items()}
    first = next(record for record in journals["memory"] if record["cpu"] == "cpu0")
    first["n"] += 1000  # an operation that will never be asked for
    machine = Threads(scene, follow=journals)
    limit, runner.LIMIT_S = runner.LIMIT_S, 0.3
    try:
        with pytest.raises(Infrastructure, match="held back"):
            machine.run()
    finally:
        runner.LIMIT_S = limit


def test_what_is_posted_rides_with_the_next_request_to_the_same_node() -> None:
    """That is what makes live runs bearable: fewer frames than operations."""
    scene = scenario("E1").without_errata()
    machine = Threads(scene)
    frames = 0
    ask = machine.ask

    def counted(node: str, data: bytes) -> bytes:
        nonlocal frames
        frames += 1
        [frame] = decode(FRAMES, data)
        assert all(OPERATIONS[request.code].posted for request in frame.requests[:-1])
        return ask(node, data)

    machine.ask = counted  # type: ignore[method-assign]
    machine.run()
    operations = sum(runner.processor.k for runner in machine.runners.values())
    assert frames < 0.8 * operations


def test_requests_to_nodes_of_one_host_travel_together() -> None:
    """A store and the release of its lock are one message, if one host has both nodes; they stay in order."""
    scene = scenario("S3a").without_errata()
    for together in (False, True):
        machine = Threads(scene, together=together)
        ask = machine.ask
        asked: list[list[str]] = []

        def noted(node: str, data: bytes, ask: Any = ask, asked: list[list[str]] = asked) -> bytes:
            asked.append([frame.node for frame in decode(FRAMES, data)])
            return bytes(ask(node, data))

        machine.ask = noted  # type: ignore[method-assign]
        assert machine.run() is None
        assert replay_journals(scene, machine.records()).digest == digest(machine.records())
        assert any(len(nodes) > 1 for nodes in asked) == together
        frames = sum(map(len, asked))  # (runs have different lengths, so their messages cannot be compared)
        assert len(asked) < 0.9 * frames if together else len(asked) == frames


@pytest.mark.parametrize("seed", range(3))
def test_frames_that_travel_together_are_held_back_each_at_its_own_node(seed: int) -> None:
    """Behind one that is too early, none is performed, although its own node might admit it."""
    scene = scenario("S3a")
    wanted = run_recorded(scene, RandomWalk(seed))
    machine = Threads(scene, follow=wanted.journals, together=True)
    finding = machine.run()
    assert digest(machine.records()) == wanted.digest
    assert (finding and finding.as_dict()) == (wanted.finding and wanted.finding.as_dict())


class OnDisk(Threads):
    """Looks into the journals' files whenever something leaves a host: its causes must be there.

    Attributes:
        looked: how often.
        posted: deliveries, by what they are and for whom.
    """

    def __init__(self, scene: Scenario):
        self.looked = 0
        self.posted: Counter[tuple[str, str]] = Counter()
        super().__init__(scene, together=True)

    def ask(self, node: str, frames: bytes) -> bytes:
        asked = decode(FRAMES, frames)
        processor = self.runners[asked[0].cpu].processor
        self.must_have(processor.name, lambda record: record.get("k", 0) < asked[0].requests[0].k, None)
        answer = super().ask(node, frames)
        for frame in asked[: decode(ANSWER, answer).done]:
            for request in frame.requests:
                key = (request.ctx, request.n)
                self.must_have(frame.node, lambda record, key=key: (record["ctx"], record.get("n")) == key, 1)
        return answer

    def post(self, processor: str, delivery: bytes) -> None:
        echoes = decode(DELIVERY, delivery)
        word = {Grant: "granted", Wake: "woke", Interrupt: "raised"}[type(echoes)]
        self.posted[word, echoes.ctx] += 1
        caused = sum(echoes.ctx in record.get(word, ()) for name in self.host_of for record in self.in_file(name))
        assert caused >= self.posted[word, echoes.ctx], (processor, echoes)
        self.looked += 1
        super().post(processor, delivery)

    def in_file(self, node: str) -> list[Any]:
        with open(self.hosts[self.host_of[node]].files[node].name, "rb") as lines:
            return read(lines, node)[1]

    def must_have(self, node: str, which: Callable[[Any], bool], count: int | None) -> None:
        """The file has as many such records as the journal; or so many."""
        self.looked += 1
        in_file = sum(map(which, self.in_file(node)))
        if count is None:
            count = self.hosts[self.host_of[node]].admissions[node].journal.nseq
        assert in_file == count, (node, in_file, count)


def test_what_leaves_a_host_has_its_causes_on_disk() -> None:
    """A request, an answer and a delivery: whoever is killed then, no log has an effect without its cause."""
    machine = OnDisk(scenario("E1").without_errata())
    assert machine.run() is None
    assert machine.looked > 50 and machine.posted


def test_the_default_schedule_of_a_token_is_followed() -> None:
    scene = scenario("E2")
    once = replay(scene, [])
    machine = Threads(scene, follow=once.journals)
    finding = machine.run()
    assert finding is not None and once.finding is not None and finding.as_dict() == once.finding.as_dict()
    assert digest(machine.records()) == once.digest


class Echoes:
    """Peers that perform whatever they are asked for, and tell it."""

    def __init__(self, tell: Callable[[Frame], None]):
        self.tell = tell

    def host_of(self, node: str) -> str:
        return "all"

    def give_back(self, node: str, given: GiveBack) -> None:
        raise AssertionError("nothing was lent")

    def ask(self, frames: list[Frame]) -> Answer:
        for frame in frames:
            self.tell(frame)
        return Answer(len(frames), Reply(Status.DONE))


# -- interrupts ----------------------------------------------------------------------------------


def test_an_interrupt_that_was_masked_is_taken_when_the_level_drops() -> None:
    """It has been taken out of the inbox long before; nothing else comes that would make the processor look."""
    scene, did = scenario("E1"), []

    def body() -> None:
        port = here.port
        port.spl(SPL_HIGH)
        runner.inbox.put(Interrupt("bell", 5))
        for chan in (1, 2):
            port.wakeup(chan)
        port.spl(SPL_BIO)
        port.wakeup(3)
        port.spl(SPL_NONE)
        port.wakeup(4)
        runner.halt()

    def bell() -> None:
        here.port.wakeup(100 + here.port.cur.value)

    def ask(frame: Frame) -> None:
        did.extend((request.ctx, request.target) for request in frame.requests)

    threads = [Thread("A", "cpu0", body), Thread("bell", "cpu0", bell, SPL_BIO, interrupt=True)]
    journal = Journal("cpu0")
    runner = Runner(Processor("cpu0", threads), scene, journal, Echoes(ask), None, 0)
    runner.loop()
    assert runner.crash is None
    assert did == [("A", 1), ("A", 2), ("A", 3), ("bell", 105), ("A", 4)]


@pytest.mark.parametrize("own", ["iret", "userret", "choose"])
def test_what_a_context_has_posted_is_applied_before_its_processor_writes_down_its_own(own: str) -> None:
    """A request that is refused afterwards would take back the number of an operation that is in a journal already."""
    written: list[list[str]] = []

    def posts() -> None:
        if own != "iret":
            here.port.wakeup(1)
        if own == "choose":
            here.port.choose(2, "")
        elif own == "userret":
            here.port.userret()
        here.port.wakeup(2)

    def ask(frame: Frame) -> None:
        for request in frame.requests:
            if request.target == 1:
                written.append([record["event"] for record in journal.records])
        if frame.requests[-1].ctx == "A" and frame.requests[-1].target == 2:
            runner.halt()

    threads = [Thread("A", "cpu0", posts), Thread("bell", "cpu0", lambda: here.port.wakeup(1), SPL_BIO, interrupt=True)]
    journal = Journal("cpu0")
    runner = Runner(Processor("cpu0", threads), scenario("E1"), journal, Echoes(ask), None, 0)
    if own == "iret":
        runner.inbox.put(Interrupt("bell", 0))
    runner.loop()
    assert runner.crash is None and own in [record["event"] for record in journal.records]
    assert len(written) == 1 and own not in written[0]


# -- a use after free that nobody minds ----------------------------------------------------------


def recycled() -> None:
    make_structs()
    here.port.renew(THING)


def uses_it_all_the_same() -> None:
    here.port.enter("outer")
    THING.v = THING.v + 1
    OTHER.v = 1
    THING.w = 2
    here.port.exit()
    OTHER.v = THING.v


def test_a_stale_handle_that_nobody_minds_gives_the_same_in_both_engines() -> None:
    """The stores are not posted then: what rides behind one that is refused would be lost."""
    toy = Toy(recycled, {"A": (0, uses_it_all_the_same)}, {"race": "off", "heap": "note"})
    assert toy.run(record=True) is None and len(toy.sim.notes) == 4
    assert toy.machine.memories[0].heap[THING.id].fields[:2] == [1, 2]

    def fresh() -> Any:
        return Toy(recycled, {"A": (0, uses_it_all_the_same)}).machine.threads

    journals = {name: journal.records for name, journal in toy.sim.journals.items()}  # type: ignore[union-attr]
    for follow in (journals, None):
        machine = Threads(toy.scenario, (fresh, toy.image), follow=follow)
        assert machine.run() is None
        assert digest(machine.records()) == digest(journals)
        notes = [note for runner in machine.runners.values() for note in runner.notes]
        assert [note.as_dict() for note in notes] == [note.as_dict() for note in toy.sim.notes]


# -- the beginning of a run, and on from there ----------------------------------------------------


@pytest.mark.parametrize("name", ["locks", "interrupts", "choices", "finding"])
def test_what_is_left_of_a_run_is_followed_and_the_rest_runs_freely(name: str) -> None:
    """Nobody says when the beginning is over: each node and each processor knows it by itself, at its own time."""
    scene, dice = SCENES[name](), random.Random(name)
    whole = run_recorded(scene, RandomWalk(1))
    left = beginning(scene, torn(whole.journals, dice))
    machine = Threads(scene, follow=Beginning(left), together=name == "choices")
    machine.run()
    journals = judged(machine.records(), scene.limit)
    for node, records in left.items():
        mine = performed(records)
        assert performed(journals[node])[: len(mine)] == mine, node
    assert replay_journals(scene, journals).digest == digest(journals)
