"""Leases: a struct that a processor accesses again and again is lent to it, so that it need not wait for what it loads.

Every access still travels to the struct's node, which admits it, numbers it and writes its record, in its one order. A
load of a lent struct is posted like a store; the node's result comes with the next answer, and must be what the
processor has used. Another context that accesses the struct waits at its host until the processor has given it back and
all that the processor has done to it has been admitted. So an unlocked access meets what it would have met, and races
stay races.

The lender is part of the struct's host, the borrower part of the processor's. Only a run that follows no schedule has
them, over a transport whose hosts can wait for each other (sockets.py).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from nodes.host.transport import LIMIT_S
from shared.errors import Infrastructure
from shared.wire.frames import GiveBack, Lent, Recall

#: operations on a struct's record
ACCESSES = frozenset(("load", "store", "free", "renew", "identify"))
#: accesses in a row after which a processor gets the struct lent
STREAK = 2
#: fields of a struct that is lent at most
MAX_FIELDS = 32
EVER = 1 << 62


@dataclass(slots=True)
class Claim:
    """The processor that accessed a struct last.

    Attributes:
        k: of its last access that has arrived; no other processor may access the struct before that is admitted.
        streak: its accesses in a row.
        number: of its lease; 0: it has none.
        recalled: it was asked to give the struct back.
        wanted: so many others wait for it.
        returned: `k` of the last access that it made while it had the lease; -1: it still has it.
    """

    cpu: str
    k: int
    streak: int = 0
    number: int = 0
    recalled: bool = False
    wanted: int = 0
    returned: int = -1


class Lender:
    """Which processor may access which struct of this host's memory.

    Args:
        recall: asks a processor for a struct.

    Attributes:
        admitted: processor -> `k` of its last operation that was admitted here.
    """

    def __init__(self, recall: Callable[[str, Recall], None]):
        self.recall = recall
        self.claims: dict[int, Claim] = {}
        self.admitted: dict[str, int] = {}
        self.changed = threading.Condition(threading.Lock())
        self.waiting = 0
        self.number = 0

    def claim(self, cpu: str, obj: int, k: int) -> None:
        """Wait until operation `k` of a processor may access a struct.

        Raises: Infrastructure - another processor does not give it back.
        """
        with self.changed:
            claim = self.claims.get(obj)
            if claim is None or claim.cpu != cpu:
                if claim is not None and not self._is_over(claim):
                    self._wait(obj, claim)
                    claim = self.claims.get(obj)
                if claim is None or claim.cpu != cpu:
                    claim = self.claims[obj] = Claim(cpu, k)
            claim.k = k
            claim.streak += 1

    def _wait(self, obj: int, claim: Claim | None) -> None:
        self.waiting += 1
        try:
            while claim is not None and not self._is_over(claim):
                if claim.number and not claim.recalled:
                    claim.recalled = True
                    self.recall(claim.cpu, Recall(obj, claim.number))
                claim.wanted += 1
                in_time = self.changed.wait(LIMIT_S)
                claim.wanted -= 1
                if not in_time:
                    raise Infrastructure(f"{claim.cpu} has not given back struct {obj} for {LIMIT_S:.0f} s")
                claim = self.claims.get(obj)
        finally:
            self.waiting -= 1

    def _is_over(self, claim: Claim) -> bool:
        admitted = self.admitted.get(claim.cpu, 0)
        if admitted == EVER:
            return True
        if claim.number and claim.returned < 0:
            return False
        return admitted >= max(claim.k, claim.returned)

    def performed(self, cpu: str, k: int) -> None:
        """Operation `k` of a processor, and all before it that came here, have been admitted."""
        self.admitted[cpu] = k
        if self.waiting:
            with self.changed:
                self.changed.notify_all()

    def void(self, cpu: str) -> None:
        """An operation of a processor was refused: it performs nothing any more."""
        self.performed(cpu, EVER)

    def lend(self, cpu: str, obj: int, gen: int, fields: list[object]) -> Lent | None:
        """Lend a struct to the processor whose load of it has just been admitted, and not yet reported as performed."""
        with self.changed:
            claim = self.claims[obj]
            if claim.streak < STREAK or claim.wanted or len(fields) > MAX_FIELDS:
                return None
            self.number += 1
            claim.number, claim.recalled, claim.returned = self.number, False, -1
            return Lent(obj, self.number, gen, list(fields))

    def give_back(self, given: GiveBack) -> None:
        with self.changed:
            claim = self.claims.get(given.obj)
            if claim is not None and claim.number == given.number:
                claim.returned = given.k
                self.changed.notify_all()


class Borrower:
    """The structs that are lent to a processor.

    Args:
        give_back: tells a struct's host that it has it back.

    Attributes:
        structs: by their ids. Only the processor's thread uses them while it is busy.
        used: struct -> `k` of the last access while it was lent.
        recalls: what the processor is to give back, at its next operation.
        refused: leases that were recalled before they arrived.
    """

    def __init__(self, give_back: Callable[[GiveBack], None]):
        self.give_back = give_back
        self.structs: dict[int, Lent] = {}
        self.used: dict[int, int] = {}
        self.mutex = threading.Lock()
        self.busy = False
        self.recalls: list[Recall] = []
        self.refused: set[Recall] = set()

    def recall(self, recall: Recall) -> None:
        """A lender wants a struct back: at once, unless the processor may have accesses to it that it has not sent."""
        with self.mutex:
            if self.busy:
                self.recalls.append(recall)
                return
            given = self._drop(recall)
        self.give_back(given)

    def release(self) -> None:
        """The processor has sent all that it has done, or does so before anything else; it does nothing now."""
        with self.mutex:
            self.busy = False
            recalls, self.recalls = self.recalls, []
            given = [self._drop(recall) for recall in recalls]
        for give_back in given:
            self.give_back(give_back)

    def resume(self, lent: Lent | None = None) -> None:
        """The processor continues; perhaps a struct is lent to it."""
        with self.mutex:
            self.busy = True
            if lent is not None and Recall(lent.obj, lent.number) not in self.refused:
                self.structs[lent.obj] = lent
            self.refused.clear()

    def _drop(self, recall: Recall) -> GiveBack:
        lent = self.structs.pop(recall.obj, None)
        if lent is None or lent.number != recall.number:  # it is under way, and is to replace what was lent before
            self.refused.add(recall)
        return GiveBack(recall.obj, recall.number, self.used.get(recall.obj, 0))
