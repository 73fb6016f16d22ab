"""A deviation: a choice at which a schedule differs from the default schedule, as tokens and run folders have it.

Either the schedule runs another context than the default schedule, or a choice of data (Port.choose) is not 0.
"""

from __future__ import annotations

from typing import Final, NamedTuple

#: largest number of alternatives that a choice of data may have
MAX_CHOICES = 1 << 16


#: kinds of Deviation; a token has their numbers, so that these never change
KINDS: Final = ("wait", "point", "choice")
AT_WAIT: Final = 0
AT_POINT: Final = 1
AT_CHOICE: Final = 2


class Deviation(NamedTuple):
    """A choice of another context, or of other data, than in the default schedule.

    Attributes:
        ctx, n: the context that ran last, and the number of its last operation; ("", 0): no context has run yet. For
            a choice of data: the context that chooses, and the number of the operation that is the choice.
        kind: "point": that context could have continued; "wait": it could not; "choice": it chooses data.
        next: the context that runs next; for a choice of data the chosen number.
    """

    ctx: str
    n: int
    kind: str
    next: str | int

    def __str__(self) -> str:
        if self.kind == "choice":
            return f"operation {self.n} of {self.ctx} takes choice {self.next}"
        if not self.ctx:
            return f"{self.next} runs first"
        if self.kind == "point":
            return f"after operation {self.n} of {self.ctx}, {self.next} preempts it"
        return f"after operation {self.n} of {self.ctx}, which has to wait, {self.next} runs"
