"""The base class of the pools of workers: deals batches to workers, and gives the batches of a dead worker to
others."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter, deque
from typing import Generic, TypeVar

from shared.errors import Infrastructure

#: number of the message that says what is searched, and of its answer
SETUP = (1 << 64) - 1
#: batches that a worker is given: the batch that it runs, and the next
DEEP = 2
#: workers that may not die at one batch, or before they have begun
TRIES = 2


class Hand(ABC):
    """A worker as its pool has it.

    Attributes:
        batches: that it has been given and has not answered, with their numbers; it is at the first.
        began: it has been told what is searched, and has answered.
    """

    def __init__(self) -> None:
        self.batches: deque[tuple[int, bytes]] = deque()
        self.began = False

    @abstractmethod
    def send(self, number: int, data: bytes) -> None:
        """Give it a message, which it answers behind those before."""


H = TypeVar("H", bound=Hand)


class Dealer(ABC, Generic[H]):
    """The methods of a pool (cluster/search/pool.py), except `wait`.

    Args:
        setup: what is searched.

    Attributes:
        waiting: batches that have not been given to a worker.
        deaths: batch -> workers that have died at it. SETUP: those that had not begun.
    """

    def __init__(self, workers: int, setup: bytes):
        self.workers, self.setup = workers, setup
        self.hands: list[H] = []
        self.waiting: deque[tuple[int, bytes]] = deque()
        self.deaths: Counter[int] = Counter()

    @abstractmethod
    def _begin(self) -> H:
        """A new worker, which has been sent the setup."""

    def room(self) -> int:
        return DEEP * self.workers - len(self.waiting) - sum(len(hand.batches) for hand in self.hands)

    def submit(self, number: int, batch: bytes) -> None:
        self.waiting.append((number, batch))
        self._deal()

    def _deal(self) -> None:
        """Give waiting batches to the workers that have begun, and have the fewest."""
        begun = [hand for hand in self.hands if hand.began]
        while self.waiting and begun:
            hand = min(begun, key=lambda hand: len(hand.batches))
            if len(hand.batches) >= DEEP:
                return
            number, batch = self.waiting.popleft()
            hand.batches.append((number, batch))
            hand.send(number, batch)

    def _bury(self, hand: H, why: str) -> None:
        """A worker is dead: its batches go to others.

        Args:
            why: the end of the message, if it may not be.

        Raises: Infrastructure - it is not the first that has died at its batch.
        """
        self.hands.remove(hand)
        number = SETUP if not hand.began else hand.batches[0][0] if hand.batches else None
        if number is not None:
            self.deaths[number] += 1
            if self.deaths[number] >= TRIES:
                when = "as they began" if number == SETUP else "at the same batch"
                raise Infrastructure(f"{TRIES} workers have died {when}{why}")
        self.waiting.extendleft(reversed(hand.batches))
        self.hands.append(self._begin())
