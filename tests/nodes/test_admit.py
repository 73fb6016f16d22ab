"""Admission: one order per node, each request once, and a schedule's order where there is one."""

from __future__ import annotations

from io import BytesIO
from typing import Any

from nodes.host.admit import ANYBODY, Admission
from nodes.lock_manager import LockManager
from nodes.memory import Memory
from shared.journal.record import Journal, read
from shared.wire.messages import Delivery, Frame, Grant, LateReply, Reply, Request, Status, Turn, Wake
from tests.kit import THING

LOCK = THING.lock_key("lk")
DONE, WAITS, HELD = Reply(Status.DONE), Reply(Status.WAITS), Reply(Status.HELD)
CPUS = {"A": "cpu0", "B": "cpu1", "C": "cpu1"}


class Rig:
    """A lock manager or memory behind an admission; what it sends is kept."""

    def __init__(self, node: Any = None, follow: list[Turn] | None = None):
        self.sent: list[tuple[str, Delivery]] = []
        self.journal = Journal("lock_manager")
        self.admission = Admission(
            node or LockManager("lock_manager"),
            self.journal,
            CPUS,
            follow,
            lambda cpu, delivery: self.sent.append((cpu, delivery)),
        )

    def ask(self, *requests: tuple[str, int, str, tuple[Any, ...]], target: int = LOCK) -> Reply:
        """Requests (context, n, code, args) in one frame."""
        asked = [Request(ctx, n, n, code, target, args) for ctx, n, code, args in requests]
        return self.admission.frame(Frame(self.admission.node.name, CPUS[requests[0][0]], asked))

    def order(self) -> list[tuple[str, int, str]]:
        return [(record["ctx"], record["n"], record["event"]) for record in self.journal.records]


def test_a_frame_is_performed_in_order_and_the_last_answered() -> None:
    rig = Rig()
    assert rig.ask(("A", 1, "lock", ("w", "f"))) == DONE
    assert rig.ask(("A", 2, "unlock", ()), ("A", 3, "try", ("w", "f"))) == Reply(Status.DONE, True)
    assert rig.order() == [("A", 1, "lock"), ("A", 2, "unlock"), ("A", 3, "try")]


def test_a_frame_that_arrives_twice_is_performed_once() -> None:
    """Exactly once: a repeated waiting acquire must not queue twice, or it would be granted twice."""
    rig = Rig()
    rig.ask(("A", 1, "lock", ("w", "f")))
    assert rig.ask(("B", 1, "lock", ("w", "g"))) == WAITS
    assert rig.ask(("B", 1, "lock", ("w", "g"))) == WAITS
    rig.ask(("A", 2, "unlock", ()))
    rig.ask(("A", 2, "unlock", ()))
    assert rig.sent == [("cpu1", Grant("B", None))]
    assert rig.order() == [("A", 1, "lock"), ("B", 1, "lock"), ("A", 2, "unlock")]


def test_a_repeated_frame_gets_the_same_answer_again() -> None:
    """A `try` that got the lock must not be told, the second time, that it is taken."""
    rig = Rig()
    assert rig.ask(("A", 1, "try", ("w", "f"))) == rig.ask(("A", 1, "try", ("w", "f"))) == Reply(Status.DONE, True)


def test_what_is_granted_travels_to_the_cpu_of_its_context() -> None:
    rig = Rig()
    for ctx in ("A", "B", "C"):
        rig.ask((ctx, 1, "sleep", ("nap", "f")), target=77 << 8)
    rig.ask(("A", 2, "wakeup", ()), target=77 << 8)
    assert rig.sent == [("cpu0", Wake("A")), ("cpu1", Wake("B")), ("cpu1", Wake("C"))]


def test_following_a_request_that_is_early_is_held_and_answered_later() -> None:
    rig = Rig(follow=[Turn("A", 1, "lock"), Turn("A", 2, "unlock"), Turn("B", 1, "lock")])
    assert rig.ask(("B", 1, "lock", ("w", "g"))) == HELD
    assert rig.order() == [] and len(rig.admission.held) == 1
    rig.ask(("A", 1, "lock", ("w", "f")))
    assert rig.sent == []
    rig.ask(("A", 2, "unlock", ()))
    assert rig.order() == [("A", 1, "lock"), ("A", 2, "unlock"), ("B", 1, "lock")]
    assert rig.sent == [("cpu1", LateReply("B", 1, DONE))]


def test_a_frame_held_half_way_lets_others_in_between() -> None:
    """Its first half may be what the others wait for."""
    rig = Rig(follow=[Turn("A", 1, "lock"), Turn("A", 2, "unlock"), Turn("B", 1, "lock"), Turn("A", 3, "try")])
    rig.ask(("A", 1, "lock", ("w", "f")))
    assert rig.ask(("B", 1, "lock", ("w", "g"))) == HELD
    assert rig.ask(("A", 2, "unlock", ()), ("A", 3, "try", ("w", "f"))) == HELD
    assert rig.order() == [("A", 1, "lock"), ("A", 2, "unlock"), ("B", 1, "lock"), ("A", 3, "try")]
    assert rig.sent == [("cpu1", LateReply("B", 1, DONE)), ("cpu0", LateReply("A", 3, Reply(Status.DONE, False)))]


def test_a_request_of_another_kind_is_diverged_and_stops_there() -> None:
    rig = Rig(follow=[Turn("A", 1, "lock"), Turn("A", 2, "unlock")])
    rig.ask(("A", 1, "lock", ("w", "f")))
    assert rig.ask(("A", 2, "try", ("w", "f"))) == HELD
    assert rig.admission.diverged == ("unlock as operation 2 of A on lock_manager", "try")
    assert rig.ask(("B", 1, "lock", ("w", "g"))) == HELD
    assert rig.order() == [("A", 1, "lock")]


def test_nothing_is_admitted_beyond_the_schedule() -> None:
    rig = Rig(follow=[Turn("A", 1, "lock")])
    rig.ask(("A", 1, "lock", ("w", "f")))
    assert rig.ask(("A", 2, "unlock", ())) == HELD
    assert rig.order() == [("A", 1, "lock")]


def test_behind_the_beginning_of_a_run_what_was_early_comes_first_and_then_whoever_comes() -> None:
    """A processor may be ahead of a node: what it asks there waits until the node has performed its own beginning."""
    rig = Rig(follow=[Turn("A", 1, "lock"), Turn("A", 2, "unlock"), Turn(ANYBODY, 0, "")])
    rig.ask(("A", 1, "lock", ("w", "f")))
    assert rig.ask(("B", 1, "lock", ("w", "g")), ("B", 2, "unlock", ())) == HELD
    assert rig.ask(("C", 7, "try", ("w", "g"))) == HELD
    rig.ask(("A", 2, "unlock", ()))
    assert rig.order()[2:] == [("B", 1, "lock"), ("B", 2, "unlock"), ("C", 7, "try")]
    assert rig.sent == [("cpu1", LateReply("B", 2, DONE)), ("cpu1", LateReply("C", 7, Reply(Status.DONE, True)))]
    assert rig.ask(("A", 3, "try", ("w", "f"))) == Reply(Status.DONE, False)


def test_a_node_that_had_performed_nothing_goes_on_freely_at_once() -> None:
    rig = Rig(follow=[Turn(ANYBODY, 0, "")])
    assert rig.ask(("B", 4, "lock", ("w", "g"))) == DONE


def test_the_rest_of_a_frame_with_a_finding_is_not_performed() -> None:
    """After a panic nothing happens."""
    rig = Rig(Memory("memory", 4, 64))
    gone = THING
    requests = [Request("A", n, n, "store", gone.id, (gone, "v", 2, n)) for n in (1, 2)]
    reply = rig.admission.frame(Frame("memory", "cpu0", requests))
    assert reply.status == Status.REFUSED and reply.value.kind == "use-after-free" and reply.value.subject == "thing:0"
    assert reply.value.text == "thing:0 is used after it was freed: that was before the run began"
    assert [(record["n"], record["refused"]) for record in rig.journal.records] == [(1, "use-after-free")]


def test_the_record_is_on_disk_before_what_it_caused_leaves() -> None:
    """Else a node killed in between would leave effects without a cause in anybody's log."""
    disk = BytesIO()
    journal = Journal("lock_manager", disk, keep=False)
    seen: list[int] = []
    admission = Admission(
        LockManager("lock_manager"),
        journal,
        CPUS,
        None,
        lambda cpu, delivery: seen.append(len(read(disk.getvalue().splitlines(True), "t")[1])),
    )
    for ctx, n, code, args in (("A", 1, "lock", ("w", "f")), ("B", 1, "lock", ("w", "g")), ("A", 2, "unlock", ())):
        admission.frame(Frame("lock_manager", CPUS[ctx], [Request(ctx, n, n, code, LOCK, args)]))
    assert seen == [3]
