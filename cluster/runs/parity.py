"""A live run against `sim`: the same operations in the same order must give the same journals."""

from __future__ import annotations

from dataclasses import dataclass

from cluster.boot import prepare
from cluster.runs.outcome import Outcome
from cluster.runs.replay import followed, replay
from cluster.runs.token import Token, token_of
from cluster.search.minimize import minimize
from cluster.sim.engine import Sim
from shared.errors import Diverged, LogIncomplete
from shared.journal.runfile import MAX_TOKEN
from shared.scenario.model import Scenario

#: executions that the token of a live run may cost
TOKEN_BUDGET = 400


@dataclass(frozen=True, slots=True)
class Parity:
    """A live run against `sim`, which performed the same operations in the same order.

    Attributes:
        digest: of the journals in sim, if they are the same.
        why: the first difference, or "".
    """

    digest: str | None
    equal: bool
    why: str = ""

    def __str__(self) -> str:
        if self.equal:
            return "equal in sim"
        return self.why


def parity(scenario: Scenario, run: Outcome) -> Parity:
    """Replay a live run's journals in sim, and compare all that the digest covers, record by record."""
    try:
        followed(scenario, run.journals, late=run.late)
    except (Diverged, LogIncomplete) as error:
        return Parity(None, False, str(error))
    return Parity(run.digest, True)


def token_of_live(scenario: Scenario, run: Outcome) -> Token | None:
    """A token with the finding of a live run; None if there is no finding, or sim has no such finding.

    A run that was ended because its time was over has none: a token's schedule goes on to its end.

    The journals' order is run in sim, which notes its deviations from the
    default schedule; they are shortened, and tried once more as a user would.
    """
    if run.finding is None or run.late is not None:
        return None
    try:
        once = followed(scenario, run.journals)
        if once.finding is None:
            return None
        sim = Sim(*prepare(scenario), granularity="access")
        token = token_of(scenario, minimize(sim, once.finding, once.deviations, TOKEN_BUDGET))
        again = replay(scenario, list(token.deviations)).finding
    except (Diverged, LogIncomplete):
        return None
    fits = len(str(token)) <= MAX_TOKEN and again is not None and again.signature == once.finding.signature
    return token if fits else None
