"""How probable: a finding, from so many executions that had one; a class that is new, from those seen."""

from __future__ import annotations

import math

#: of a normal distribution, between minus and plus this are 95 %
Z = 1.96


def interval(count: int, of: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a probability, if an event came `count` times in `of` trials that had it alike."""
    if not of:
        return 0.0, 1.0
    share, z2 = count / of, Z * Z / of
    middle = (share + z2 / 2) / (1 + z2)
    half = Z / (1 + z2) * math.sqrt(share * (1 - share) / of + z2 / (4 * of))
    return max(0.0, middle - half) if count else 0.0, min(1.0, middle + half) if count < of else 1.0


def chance_of_new(once: int, executions: int) -> float:
    """That the next execution is of a class not seen yet (Good and Turing): the share of those seen once alone.

    Args:
        once: classes with one execution.
    """
    return once / executions if executions else 1.0


def percent(share: float) -> str:
    """In as many digits as mean something."""
    return f"{100 * share:.0f} %" if share >= 0.1 or share == 0 else f"{100 * share:.2g} %"


def about(count: float) -> str:
    """An estimate, in as many digits as mean something."""
    return f"{float(f'{count:.1g}'):,.0f}" if count < 1e6 else f"{count:.0e}"
