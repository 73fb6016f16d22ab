"""A worker: it runs the batches of a search that somebody else owns.

From one batch to the next, a worker keeps only the machine and the last knowledge that it was sent. Each execution
begins with the racy fields and the knowledge of its batch, and with random numbers of its own, so it does not matter
what was run before it in this process.
"""

from __future__ import annotations

from cluster.boot import prepare
from cluster.runs.replay import order_of, replay
from cluster.search import portfolio
from cluster.search.batch import DONE, JOB, KNOWLEDGE, WALKS, Confirmed, Done, Ran, Walks
from cluster.search.beginning import Continue
from cluster.search.classes import Classes
from cluster.search.strategy import DEFAULT, Sampling, SearchOver, Stay, Strategy
from cluster.search.subtree import Subtree
from cluster.search.trace import Event
from cluster.search.turn import EXPLORED, TURN, Explored, Stop, Turn
from cluster.sim.engine import Sim, seldom_collected
from shared.findings import UNEXPECTED, Finding
from shared.program.functions import import_all
from shared.wire.codec import decode, encode


class Worker:
    """Runs batches.

    Args:
        setup: a `Job`, as bytes.

    Raises: UserMistake - the patch cannot be applied here; Infrastructure - this process has other source.
    """

    def __init__(self, setup: bytes):
        sent = decode(JOB, setup)
        sent.terms.agree()
        self.job = sent.job
        scenario = self.job.scenario
        if scenario.functions is not None:
            import_all(scenario.functions)
        self.sim = Sim(*prepare(scenario), set(), self.job.granularity)
        self.first = None if self.job.begin is None else order_of(self.sim.machine, self.job.begin)
        self.known = b""
        self.strategies: dict[str, Strategy] = {}

    def run(self, batch: bytes) -> bytes:
        """The result of a batch."""
        with seldom_collected():
            if TURN.is_of(batch):
                return encode(EXPLORED, self._explore(decode(TURN, batch)))
            return encode(DONE, self._walk(decode(WALKS, batch)))

    def _walk(self, walks: Walks) -> Done:
        self._know(walks.knowledge)
        done = Done([], {})
        for at, turn in enumerate(walks.turns):
            lesson = None
            strategy = self.strategies[turn]
            if isinstance(strategy, Sampling):
                strategy.random.seed(f"{self.job.seed} {walks.first + at}")
            classes = Classes(strategy)
            finding = self._execute(classes, walks.racy)
            if isinstance(strategy, Sampling):
                lesson = strategy.lesson()
            ran = self._add(done, walks.racy, finding)
            ran.classes.append(classes.order.digest())
            ran.lessons.append(lesson)
            if finding is not None and self._ends(done, finding):
                break
        return done._replace(results=self.sim.results)

    def _explore(self, turn: Turn) -> Explored:
        """Go through a part of a tree, until there is a finding, there are more points, or it has been enough."""
        done = Done([], {})
        subtree = Subtree(turn.path, turn.explored, turn.others, turn.tree)
        subtree.trace.meet(processor.threads[0] for processor in self.sim.machine.processors if processor.threads)
        path: list[Event] = []
        stop = None
        while True:
            redundant = subtree.redundant
            try:
                finding = self._execute(subtree, turn.racy)
            except SearchOver:
                break
            path = path or subtree.chosen()[: subtree.base]
            ran = self._add(done, turn.racy, finding)
            ran.lessons.append(subtree.redundant > redundant)
            if (finding is not None and self._ends(done, finding)) or ran.grown:
                break
            if done.schedules() >= turn.budget:
                stop = self._stop(subtree) if subtree.leave() else None
                break
        return Explored(done._replace(results=self.sim.results), path, subtree.beyond, stop)

    def _stop(self, subtree: Subtree) -> Stop:
        """Where it is."""
        events, places = subtree.chosen()[subtree.base :], subtree.places[subtree.base :]
        return Stop(events, [place.own() for place in places], places[0].tree)

    def _know(self, knowledge: bytes) -> None:
        """Know what the batch goes by, and no more."""
        if knowledge != self.known or not self.strategies:
            job = self.job
            turns = portfolio(job.strategy, job.seed, job.scenario.bound.depth, job.sites)
            self.strategies = {DEFAULT: Stay(), **turns.strategies}
            for name, known in decode(KNOWLEDGE, knowledge).items():
                strategy = self.strategies[name]
                assert isinstance(strategy, Sampling)
                strategy.know(known)
            self.known = knowledge

    def _execute(self, strategy: Strategy, racy: list[str]) -> Finding | None:
        self.sim.racy.clear()
        self.sim.racy.update(racy)
        return self.sim.execute(strategy if self.first is None else Continue(self.first, strategy))

    def _add(self, done: Done, racy: list[str], finding: Finding | None) -> Ran:
        """Add the last execution to the result of a batch."""
        if not done.ran or done.ran[-1].confirmed is not None:
            done.ran.append(Ran())
        ran = done.ran[-1]
        if finding is not None:
            ran.findings.append(ran.schedules)
        ran.add(self.sim)
        ran.grown |= self.sim.racy.difference(racy)
        return ran

    def _ends(self, done: Done, finding: Finding) -> bool:
        """Note the finding of the last execution, if a recorded one has a finding, too. Does it surely end the search?

        Unexpected results end it only if the owner has none yet (owner.py).
        """
        unexpected = finding.kind == UNEXPECTED
        if unexpected and len(done.ran) > 1:
            return False
        sim = self.sim
        again = replay(self.job.scenario, sim.deviations).finding
        if again is None:
            return False
        done.ran[-1].confirmed = Confirmed(finding, sim.deviations, sim.results)
        return again.kind != UNEXPECTED and not unexpected
