"""A deviation: where a schedule leaves the default one, as tokens, run folders and people name it.

Either another context goes on than the default one, or a choice of data (Port.choose) is another than 0.
"""

from __future__ import annotations

from typing import NamedTuple

#: largest number of alternatives that a choice of data may have
MAX_CHOICES = 1 << 16


class Deviation(NamedTuple):
    """Another context, or other data, than the default schedule has.

    Attributes:
        ctx, n: the context that ran last, and the number of its last operation; ("", 0): none has run yet. Of a
            choice: the context that chooses, and the number of the operation that is the choice.
        kind: "point": that context could have gone on; "wait": it could not; "choice": it chooses data.
        next: the context that goes on; of a choice what it takes.
    """

    ctx: str
    n: int
    kind: str
    next: str | int

    def __str__(self) -> str:
        if self.kind == "choice":
            return f"operation {self.n} of {self.ctx} takes choice {self.next}"
        if not self.ctx:
            return f"first of all, {self.next} runs"
        able = "could have gone on" if self.kind == "point" else "has to wait"
        return f"after operation {self.n} of {self.ctx}, which {able}, {self.next} goes on"
