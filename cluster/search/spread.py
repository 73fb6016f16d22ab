"""A search by several workers, with the same result for any number of them.

Optimal DPOR is share.py; here are the strategies that choose at random.

Executions come in *rounds*. A round goes by what all rounds before the last one have taught: knowledge of strategies,
racy fields, whose turn it is. So two rounds are under way at a time, and what an execution does depends on its number
alone, not on who runs it or how a round is divided into batches. Their results are looked at in the order of their
numbers: the first finding is the finding with the lowest number, and executions with higher numbers do not count.

Rounds grow with the search: at first each execution teaches the next.

The schedules are others than those of `explore()` with the same seed, where each execution goes by all before it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from cluster.boot import prepare
from cluster.search import SEARCHING, portfolio
from cluster.search.batch import DONE, KNOWLEDGE, WALKS, Done, Job, Ran, Walks
from cluster.search.classes import Classes
from cluster.search.explore import LOOK_S, Exploration, Looks, Progress, shorten
from cluster.search.owner import Owner
from cluster.search.pool import Pool
from cluster.search.share import LANES, Shared
from cluster.search.strategy import DEFAULT, Sampling, Stay
from cluster.sim.engine import Sim, seldom_collected
from shared.wire.codec import decode, encode

#: strategies whose executions several workers can perform
SHARED = (*SEARCHING, "dpor")
#: strategy -> workers that can be at work at a time; of the others, any number
MOST_WORKERS = {"dpor": LANES}
#: a round has at most so many executions, and so many for each that there were before
LARGEST, SHARE = 256, 4
#: batches of a round for each worker, so that none has to wait long for the others
BATCHES = 4


@dataclass
class Batch:
    """A part of a round.

    Attributes:
        last: of its round.
        done: its result; None: not known yet.
    """

    walks: Walks
    last: bool
    done: Done | None = None


@seldom_collected()
def spread(job: Job, schedules: int, pool: Pool, progress: Progress | None = None) -> Exploration:
    """Search as `explore()` does, by the workers of a pool.

    Args:
        schedules: at most this many.
        progress: called about ten times a second; the search is over if it returns True.
    """
    scenario = job.scenario
    racy: set[str] = set()
    sim = Sim(*prepare(scenario), racy, job.granularity)
    result = Exploration(scenario=scenario, strategy=job.strategy, seed=job.seed, sim=sim, racy=racy)
    owner = (Shared if job.strategy == "dpor" else Rounds)(job, schedules, pool, result)
    looks = Looks(result, progress)
    try:
        for _ in owner.merged():
            if looks.stop():
                break
    except KeyboardInterrupt:
        result.interrupted = True
    looks.end()
    result.coverage = owner.covered()
    if result.outcome is not None:
        # what is followed may have been switched at any access
        shorten(result, sim if job.begin is None else Sim(*prepare(scenario), granularity="access"))
    return result


class Rounds(Owner):
    """The owner of a search by strategies that choose at random.

    Attributes:
        turns: what has been learned. Whose turn it is, is dealt ahead, by the counts of what is known then.
        planned: executions so far.
        batches: those that have not been looked at, in the order of their executions; the first has number `first`.
        sent: number of the next one to be submitted.
    """

    def prepare(self) -> None:
        job = self.job
        self.turns = portfolio(job.strategy, job.seed, job.scenario.bound.depth, job.sites)
        self.result.classes = Classes(Stay())
        self.planned = self.first = self.sent = 0
        self.batches: deque[Batch] = deque()

    def merged(self) -> Iterator[None]:
        self._plan()
        self._plan()
        while self.batches:
            while self.pool.room() > 0 and self.sent < self.first + len(self.batches):
                walks = self.batches[self.sent - self.first].walks
                self.pool.submit(self.sent, encode(WALKS, walks))
                self.sent += 1
            for number, data in self.pool.wait(LOOK_S):
                self.batches[number - self.first].done = decode(DONE, data)
            yield
            while self.batches and self.batches[0].done is not None:
                batch = self.batches.popleft()
                self.first += 1
                if self._is_over(batch.walks, batch.done):
                    return
                if batch.last:
                    self._plan()
                yield

    def _plan(self) -> None:
        """Another round, which uses the present knowledge."""
        begin = self.planned
        size = min(LARGEST, max(1, begin // SHARE), self.limit - begin)
        if size <= 0:
            return
        self.planned += size
        turns = [DEFAULT if number == 0 else self.turns.deal() for number in range(begin, begin + size)]
        racy = sorted(self.result.racy)
        knowledge = encode(KNOWLEDGE, {name: self._of(name).knowledge() for name in self.turns.strategies})
        step = -(-size // (BATCHES * self.pool.workers))
        for at in range(0, size, step):
            walks = Walks(begin + at, turns[at : at + step], racy, knowledge)
            self.batches.append(Batch(walks, at + step >= size))

    def _of(self, name: str) -> Sampling:
        strategy = self.turns.strategies[name]
        assert isinstance(strategy, Sampling)
        return strategy

    def _is_over(self, walks: Walks, done: Done | None) -> bool:
        """Add the result of a batch. Has the search come to its end with it?"""
        assert done is not None
        turns = iter(walks.turns)
        for ran in done.ran:
            self._add(list(islice(turns, ran.schedules)), ran)
            if ran.confirmed is not None and self._ends(ran.confirmed):
                return True
        if self.result.finding is None:
            self.result.results = done.results
        return False

    def _add(self, turns: list[str], ran: Ran) -> None:
        """Add the result of executions that were these strategies' turns."""
        result = self.result
        result.join(ran)
        result.racy.update(ran.grown)
        assert result.classes is not None
        for at, (turn, known, lesson) in enumerate(zip(turns, ran.classes, ran.lessons, strict=True)):
            result.by[turn] = result.by.get(turn, 0) + 1
            new = result.classes.add(known)
            if turn != DEFAULT:
                self.turns.credit(turn, new, at in ran.findings)
                self._of(turn).learn(lesson)
