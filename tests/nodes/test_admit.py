"""Admission: one order per node, each request once, and a schedule's order where there is one."""

from __future__ import annotations

from io import BytesIO
from typing import Any

from nodes.admit import FINDING, HELD, OK, WAITS, Admission
from nodes.lock_manager import LockManager
from nodes.memory import Memory
from shared.journal import Journal, read
from tests.kit import THING

LOCK = THING.lock_key("lk")
CPUS = {"A": "cpu0", "B": "cpu1", "C": "cpu1"}


class Rig:
    """A lock manager or memory behind an admission; what it sends is kept."""

    def __init__(self, node: Any = None, follow: list[list[Any]] | None = None):
        self.sent: list[tuple[str, list[Any]]] = []
        self.journal = Journal("lock_manager")
        self.admission = Admission(
            node or LockManager("lock_manager"),
            self.journal,
            CPUS,
            follow,
            lambda cpu, mail: self.sent.append((cpu, mail)),
        )

    def ask(self, *requests: tuple[str, int, str, tuple[Any, ...]], target: int = LOCK) -> list[Any]:
        """Requests (context, n, code, args) in one frame."""
        frame = [[ctx, n, n, code, target, list(args)] for ctx, n, code, args in requests]
        return self.admission.frame(CPUS[requests[0][0]], frame)

    def order(self) -> list[tuple[str, int, str]]:
        return [(one["ctx"], one["n"], one["event"]) for one in self.journal.records]


def test_a_frame_is_performed_in_order_and_the_last_answered() -> None:
    rig = Rig()
    assert rig.ask(("A", 1, "lock", ("w", "f"))) == [OK, None]
    assert rig.ask(("A", 2, "unlock", ()), ("A", 3, "try", ("w", "f"))) == [OK, True]
    assert rig.order() == [("A", 1, "lock"), ("A", 2, "unlock"), ("A", 3, "try")]


def test_a_frame_that_arrives_twice_is_performed_once() -> None:
    """Exactly once: a repeated waiting acquire must not queue twice, or it would be granted twice."""
    rig = Rig()
    rig.ask(("A", 1, "lock", ("w", "f")))
    assert rig.ask(("B", 1, "lock", ("w", "g"))) == [WAITS, None]
    assert rig.ask(("B", 1, "lock", ("w", "g"))) == [WAITS, None]
    rig.ask(("A", 2, "unlock", ()))
    rig.ask(("A", 2, "unlock", ()))
    assert rig.sent == [("cpu1", ["grant", "B", None])]
    assert rig.order() == [("A", 1, "lock"), ("B", 1, "lock"), ("A", 2, "unlock")]


def test_a_repeated_frame_gets_the_same_answer_again() -> None:
    """A `try` that got the lock must not be told, the second time, that it is taken."""
    rig = Rig()
    assert rig.ask(("A", 1, "try", ("w", "f"))) == rig.ask(("A", 1, "try", ("w", "f"))) == [OK, True]


def test_what_is_granted_travels_to_the_cpu_of_its_context() -> None:
    rig = Rig()
    for ctx in ("A", "B", "C"):
        rig.ask((ctx, 1, "sleep", ("nap", "f")), target=77 << 8)
    rig.ask(("A", 2, "wakeup", ()), target=77 << 8)
    assert rig.sent == [("cpu0", ["wake", "A"]), ("cpu1", ["wake", "B"]), ("cpu1", ["wake", "C"])]


def test_following_a_request_that_is_early_is_held_and_answered_later() -> None:
    rig = Rig(follow=[["A", 1, "lock"], ["A", 2, "unlock"], ["B", 1, "lock"]])
    assert rig.ask(("B", 1, "lock", ("w", "g"))) == [HELD, None]
    assert rig.order() == [] and len(rig.admission.held) == 1
    rig.ask(("A", 1, "lock", ("w", "f")))
    assert rig.sent == []
    rig.ask(("A", 2, "unlock", ()))
    assert rig.order() == [("A", 1, "lock"), ("A", 2, "unlock"), ("B", 1, "lock")]
    assert rig.sent == [("cpu1", ["answer", "B", 1, [OK, None]])]


def test_a_frame_held_half_way_lets_others_in_between() -> None:
    """Its first half may be what the others wait for."""
    rig = Rig(follow=[["A", 1, "lock"], ["A", 2, "unlock"], ["B", 1, "lock"], ["A", 3, "try"]])
    rig.ask(("A", 1, "lock", ("w", "f")))
    assert rig.ask(("B", 1, "lock", ("w", "g"))) == [HELD, None]
    assert rig.ask(("A", 2, "unlock", ()), ("A", 3, "try", ("w", "f"))) == [HELD, None]
    assert rig.order() == [("A", 1, "lock"), ("A", 2, "unlock"), ("B", 1, "lock"), ("A", 3, "try")]
    assert rig.sent == [("cpu1", ["answer", "B", 1, [OK, None]]), ("cpu0", ["answer", "A", 3, [OK, False]])]


def test_a_request_of_another_kind_is_diverged_and_stops_there() -> None:
    rig = Rig(follow=[["A", 1, "lock"], ["A", 2, "unlock"]])
    rig.ask(("A", 1, "lock", ("w", "f")))
    assert rig.ask(("A", 2, "try", ("w", "f"))) == [HELD, None]
    assert rig.admission.diverged == "diverged: expected unlock as operation 2 of A on lock_manager; found try"
    assert rig.ask(("B", 1, "lock", ("w", "g"))) == [HELD, None]
    assert rig.order() == [("A", 1, "lock")]


def test_nothing_is_admitted_beyond_the_schedule() -> None:
    rig = Rig(follow=[["A", 1, "lock"]])
    rig.ask(("A", 1, "lock", ("w", "f")))
    assert rig.ask(("A", 2, "unlock", ())) == [HELD, None]
    assert rig.order() == [("A", 1, "lock")]


def test_the_rest_of_a_frame_with_a_finding_is_not_performed() -> None:
    """After a panic nothing happens."""
    rig = Rig(Memory("memory", 4, 64))
    gone = THING
    reply = rig.admission.frame(
        "cpu0", [["A", 1, 1, "store", gone.id, [gone, "v", 2, 1]], ["A", 2, 2, "store", gone.id, [gone, "v", 2, 2]]]
    )
    assert reply[0] == FINDING and reply[1][0] == "use-after-free" and reply[1][2] == "thing:0"
    assert reply[1][1] == "thing:0 is used after it was freed: that was before the run began"
    assert [(one["n"], one["refused"]) for one in rig.journal.records] == [(1, "use-after-free")]


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
        lambda cpu, mail: seen.append(len(read(disk.getvalue().splitlines(True), "t")[1])),
    )
    for ctx, n, code, args in (("A", 1, "lock", ["w", "f"]), ("B", 1, "lock", ["w", "g"]), ("A", 2, "unlock", [])):
        admission.frame(CPUS[ctx], [[ctx, n, n, code, LOCK, args]])
    assert seen == [3]
