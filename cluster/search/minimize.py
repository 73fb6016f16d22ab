"""Shortens a schedule: fewer deviations from the default schedule, the same finding.

The search first removes all deviations, then blocks, from halves to single deviations, and repeats that until it can
remove no more. Then it merges two deviations that make a detour. A removed choice of data is 0. A shorter schedule is
accepted only if it ends with a finding of the same signature. A deviation that a shortened schedule cannot take is
skipped, so the result has only deviations that were really taken. A choice may have another operation number in it.
"""

from __future__ import annotations

from cluster.search.deviate import Deviate
from cluster.sim.engine import Sim
from shared.findings import Finding
from shared.journal.deviation import Deviation


def minimize(sim: Sim, finding: Finding, deviations: list[Deviation], budget: int = 2000) -> list[Deviation]:
    """The shortest schedule found with the same finding; leaves `sim` having run it last.

    Args:
        budget: shorter schedules that are tried at most, each once; with choices of data twice.
    """

    def attempt(candidate: list[Deviation]) -> list[Deviation] | None:
        for renumbered in (False, True) if any(deviation.kind == "choice" for deviation in candidate) else (False,):
            shown = sim.execute(Deviate(candidate, False, renumbered))
            if shown is not None and shown.signature == finding.signature:
                return list(sim.deviations)
        return None

    best = deviations
    if best:
        budget -= 1
        none = attempt([])
        best = best if none is None else none
    size = max(1, len(best) // 2)
    while budget > 0 and best:
        at, shrunk = 0, False
        while at < len(best) and budget > 0:
            budget -= 1
            taken = attempt(best[:at] + best[at + size :])
            if taken is not None and len(taken) < len(best):
                best, shrunk = taken, True
            else:
                at += size
        if size == 1 and not shrunk:
            break
        size = max(1, min(size // 2, len(best) // 2))
    at = 0
    while budget > 0 and at + 1 < len(best):  # a detour: to X, and at once on to Y
        budget -= 1
        taken = attempt([*best[:at], best[at]._replace(next=best[at + 1].next), *best[at + 2 :]])
        if taken is not None and len(taken) < len(best):
            best = taken
        else:
            at += 1
    attempt(best)
    return best
