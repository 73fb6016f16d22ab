"""A deviation: where a schedule leaves the default one, as tokens, run folders and people name it."""

from __future__ import annotations

from typing import NamedTuple


class Deviation(NamedTuple):
    """Another context goes on than the default one.

    Attributes:
        ctx, n: the context that ran last, and the number of its last operation; ("", 0): none has run yet.
        kind: "point": that context could have gone on; "wait": it could not.
        next: the context that goes on.
    """

    ctx: str
    n: int
    kind: str
    next: str

    def __str__(self) -> str:
        if not self.ctx:
            return f"first of all, {self.next} runs"
        able = "could have gone on" if self.kind == "point" else "has to wait"
        return f"after operation {self.n} of {self.ctx}, which {able}, {self.next} goes on"
