"""Structs that are lent to processors: no processor uses what another has changed, or waits forever."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from cluster.api import Field, Program, Struct, field, new, own, simplelock
from cluster.runs.replay import replay_journals
from nodes.host import lease
from nodes.host.lease import ACCESSES, STREAK, Borrower, Lender
from nodes.host.runner import Runner, same
from nodes.host.sockets import SocketTransport
from shared.errors import Infrastructure
from shared.journal.order import linearize
from shared.journal.record import digest, holes
from shared.port.port import here
from shared.scenario.model import named_results
from shared.uvm.structs import Anon
from shared.wire.frames import GiveBack, Lent, Recall
from shared.wire.messages import OPERATIONS, Request
from tests.kit import scenario
from tests.nodes.in_sockets import Network, Sockets

pytestmark = pytest.mark.wide

OBJ = 7


class Rig:
    """A lender, and accesses of processors in threads of their own."""

    def __init__(self) -> None:
        self.recalls: list[tuple[str, Recall]] = []
        self.recalled = threading.Event()
        self.lender = Lender(self.recall)

    def recall(self, cpu: str, recall: Recall) -> None:
        self.recalls.append((cpu, recall))
        self.recalled.set()

    def access(self, cpu: str, k: int, performed: bool = True) -> None:
        self.lender.claim(cpu, OBJ, k)
        if performed:
            self.lender.performed(cpu, k)

    def lent(self, cpu: str = "cpu0", k: int = STREAK) -> Lent:
        """Lend the struct after so many accesses."""
        for at in range(1, k + 1):
            self.access(cpu, at, performed=at < k)
        lent = self.lender.lend(cpu, OBJ, 0, [1, 2])
        self.lender.performed(cpu, k)
        assert lent is not None
        return lent

    def other(self, cpu: str = "cpu1", k: int = 1) -> threading.Thread:
        """Another processor's access, which waits."""
        thread = threading.Thread(target=self.access, args=(cpu, k), daemon=True)
        thread.start()
        return thread


def is_over(thread: threading.Thread) -> bool:
    thread.join(0.02)
    return not thread.is_alive()


def ends(thread: threading.Thread) -> None:
    thread.join(20)
    assert not thread.is_alive()


def test_a_struct_is_lent_to_who_accesses_it_in_a_row() -> None:
    """One that processors take in turn would only travel to and fro."""
    rig = Rig()
    for at in range(1, 10):
        cpu = f"cpu{at % 2}"
        rig.lender.claim(cpu, OBJ, at)
        assert rig.lender.lend(cpu, OBJ, 0, [1]) is None
        rig.lender.performed(cpu, at)
    assert rig.lent("cpu2") == Lent(OBJ, 1, 0, [1, 2])


def test_an_access_waits_until_the_one_before_is_admitted() -> None:
    """Also if nothing is lent: what has arrived of one processor is performed before another comes in between."""
    rig = Rig()
    rig.access("cpu0", 1, performed=False)
    other = rig.other()
    assert not is_over(other)
    rig.lender.performed("cpu0", 1)
    ends(other)
    assert rig.recalls == []


def test_who_wants_a_lent_struct_waits_until_it_is_back_and_all_uses_are_admitted() -> None:
    rig = Rig()
    lent = rig.lent()
    other = rig.other()
    assert rig.recalled.wait(20) and rig.recalls == [("cpu0", Recall(OBJ, lent.number))]
    rig.lender.performed("cpu0", 5)
    assert not is_over(other), "it is not back"
    rig.lender.give_back(GiveBack(OBJ, lent.number + 1, 5))
    assert not is_over(other), "that was another lease"
    rig.lender.give_back(GiveBack(OBJ, lent.number, 9))
    assert not is_over(other), "its last use has not arrived"
    rig.lender.performed("cpu0", 9)
    ends(other)
    assert len(rig.recalls) == 1


def test_a_struct_that_another_waits_for_is_not_lent_again() -> None:
    """Else who accesses it in a row could keep it forever."""
    rig = Rig()
    lent = rig.lent()
    other = rig.other()
    assert rig.recalled.wait(20)
    rig.lender.claim("cpu0", OBJ, 3)
    assert rig.lender.lend("cpu0", OBJ, 0, [1]) is None
    rig.lender.give_back(GiveBack(OBJ, lent.number, 2))
    rig.lender.performed("cpu0", 3)
    ends(other)


def test_a_processor_that_performs_nothing_any_more_has_nothing() -> None:
    rig = Rig()
    rig.lent()
    other = rig.other()
    assert rig.recalled.wait(20)
    rig.lender.void("cpu0")
    ends(other)


def test_a_struct_that_does_not_come_back_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "LIMIT_S", 0.05)
    rig = Rig()
    rig.lent()
    with pytest.raises(Infrastructure, match="cpu0 has not given back struct 7"):
        rig.access("cpu1", 1)


# -- who borrows -------------------------------------------------------------------------------


def borrower() -> tuple[Borrower, list[GiveBack]]:
    given: list[GiveBack] = []
    made = Borrower(given.append)
    made.resume()
    return made, given


def test_a_busy_processor_gives_back_when_it_has_sent_what_it_has_done() -> None:
    mine, given = borrower()
    mine.resume(Lent(OBJ, 1, 0, [1]))
    mine.used[OBJ] = 12
    mine.recall(Recall(OBJ, 1))
    assert given == [] and OBJ in mine.structs and mine.recalls
    mine.release()
    assert given == [GiveBack(OBJ, 1, 12)] and OBJ not in mine.structs and not mine.recalls


def test_a_processor_that_waits_gives_back_at_once() -> None:
    mine, given = borrower()
    mine.resume(Lent(OBJ, 1, 0, [1]))
    mine.release()
    mine.recall(Recall(OBJ, 1))
    assert given == [GiveBack(OBJ, 1, 0)] and OBJ not in mine.structs


@pytest.mark.parametrize("had", [False, True])
def test_a_lease_that_was_recalled_before_it_arrived_is_not_used(had: bool) -> None:
    """Nor the one that it was to replace."""
    mine, given = borrower()
    if had:
        mine.resume(Lent(OBJ, 1, 0, [1]))
    mine.release()
    mine.recall(Recall(OBJ, 2))
    mine.resume(Lent(OBJ, 2, 0, [1]))
    assert OBJ not in mine.structs and len(given) == 1
    mine.release()
    mine.resume(Lent(OBJ, 3, 0, [1]))
    assert OBJ in mine.structs


@pytest.mark.parametrize("code", sorted(ACCESSES - {"load", "store"}))
def test_a_node_answers_what_is_neither_load_nor_store_and_the_lease_ends(code: str) -> None:
    """With as many arguments as the operation has: `identify` once ended the run of a processor that had a lease."""
    mine, _ = borrower()
    mine.resume(Lent(OBJ, 1, 0, [1]))
    args = (Anon.at(OBJ, 1), "A", 1)[: len(OPERATIONS[code].args)]
    runner = cast(Runner, SimpleNamespace(may_wait=False, loaded=[]))
    assert not Runner._access(runner, mine, Request("A", 5, 12, code, OBJ, args))
    assert OBJ not in mine.structs and mine.used[OBJ] == 12 and runner.loaded == []


def test_handles_of_different_lives_are_not_the_same_value() -> None:
    assert same(Anon.at(1, 2), Anon.at(1, 2)) and same(None, None) and same(3, 3)
    assert not same(Anon.at(1, 2), Anon.at(1, 3)) and not same(Anon.at(1, 2), Anon.at(2, 2)) and not same(None, 0)


# -- machines ----------------------------------------------------------------------------------


@pytest.mark.parametrize("together", [True, False], ids=["servers-together", "every-node-alone"])
@pytest.mark.parametrize("name", ["S3a", *(pytest.param(name, marks=pytest.mark.long) for name in ("E1", "S9-aobj"))])
def test_a_machine_that_lends_structs_is_the_one_of_sim(name: str, together: bool) -> None:
    scene = scenario(name, shards="{lock_manager: 2, memory: 2}").without_errata()
    for seed in range(3):
        machine = Sockets(scene, leases=True, together=together, seed=seed)
        assert machine.run() is None
        assert holes(machine.records()) == []
        linearize(machine.records())
        assert replay_journals(scene, machine.records()).digest == digest(machine.records())


def test_a_machine_that_lends_structs_waits_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = 0
    ask = SocketTransport.ask

    def counted(self: SocketTransport, node: str, frames: bytes) -> bytes:
        nonlocal asked
        asked += 1
        return ask(self, node, frames)

    monkeypatch.setattr(SocketTransport, "ask", counted)
    per_operation = {}
    for leases in (False, True):
        asked = 0
        machine = Sockets(scenario("S3a").without_errata(), leases=leases, together=True)
        assert machine.run() is None
        per_operation[leases] = asked / sum(runner.processor.k for runner in machine.runners.values())
    assert per_operation[True] < 0.6 * per_operation[False]


@pytest.mark.parametrize("name", ["litmus-mp", "litmus-sb"])
def test_memory_stays_sequentially_consistent(name: str) -> None:
    scene = scenario(name)
    for seed in range(4):
        machine = Sockets(scene, leases=True, seed=seed)
        assert machine.run() is None
        assert scene.expect.fixed.check(None, named_results(machine.results())) is None


def test_a_network_that_misbehaves_changes_nothing_of_what_is_lent() -> None:
    network = Network(5, trouble=0.05)
    scene = scenario("S3a", shards="{lock_manager: 2, memory: 2}").without_errata()
    machine = Sockets(scene, network=network, leases=True)
    assert machine.run() is None
    assert replay_journals(scene, machine.records()).digest == digest(machine.records())
    assert {"cut", "lost", "twice", "late"} <= network.did.keys(), network.did
    network.close()


class Word(Struct, kind=244):
    """A word that nobody guards, on purpose."""

    guards = {"o": own("lock")}
    lock = simplelock("word")
    value: Field[int] = field("o", hint=True)


X, Y = Word.at(0), Word.at(1)
TURNS = 60


def words() -> None:
    for _ in range(2):
        new(Word).value = 0


def writes(mine: Word, other: Word) -> None:
    """A store to a struct that is lent to the other, and loads of one that is lent to this: either may wait."""
    for turn in range(1, TURNS):
        mine.value = turn
        seen = other.value
        here.port.record_event("note", turn=turn, seen=seen)
        assert other.value >= seen


def writes_x() -> None:
    writes(X, Y)


def writes_y() -> None:
    writes(Y, X)


DEKKER = Program(words, [writes_x, writes_y], detect={"race": "off"})


def test_no_load_overtakes_a_store_that_may_have_to_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processors that each waited for what the other has posted behind its own store would wait forever."""
    monkeypatch.setattr(lease, "LIMIT_S", 5.0)
    scene = DEKKER.scenario()
    for seed in range(6):
        machine = Sockets(scene, leases=True, together=True, seed=seed)
        assert machine.run() is None
        assert replay_journals(scene, machine.records()).digest == digest(machine.records())
        seen = {cpu: {record["turn"]: record["seen"] for record in machine.records()[cpu] if record["event"] == "note"}
                for cpu in ("cpu0", "cpu1")}  # fmt: skip
        for turn, other in seen["cpu0"].items():
            assert other >= turn or seen["cpu1"].get(other + 1, TURNS) >= turn, "both have read what was there before"


def keeps(self: Borrower, recall: Recall) -> GiveBack:
    """Says that it gives a struct back, and continues to use it."""
    return GiveBack(recall.obj, recall.number, self.used.get(recall.obj, 0))


def lends_to_two(self: Lender, claim: Any) -> bool:
    return True


@pytest.mark.parametrize(("what", "broken"), [("_drop", keeps), ("_is_over", lends_to_two)])
def test_a_lease_that_is_not_kept_is_noticed(
    what: str, broken: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The machine broken on purpose: without this, the tests above might be unable to fail."""
    monkeypatch.setattr(Borrower if what == "_drop" else Lender, what, broken)
    scene = scenario("S3a", shards="{lock_manager: 2, memory: 2}").without_errata()
    for seed in range(20):
        try:
            Sockets(scene, leases=True, seed=seed).run()
        except Infrastructure as error:  # or the kernel does not survive it
            if "of lent structs, which had" in str(error):
                return
    raise AssertionError("not once in twenty runs")
