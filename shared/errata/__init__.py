"""The catalogue of defects that a scenario can switch on.

An *erratum* is a defect kept in the kernel beside the code that repaired it:

    if erratum("amap_cow_now.nanon-freed-locked"):
        ...the lines as they were
    else:
        ...the lines as they are

Off unless named. Its id is where it sits and what it does, in the kernel's
words. Each entry can be read by itself: what the code did, which interleaving
that allowed, what a user saw, and what the repair was. Each has a `Status`: a
defect that NetBSD's UVM really had is *logged* or *in the source*; any other is
*inferred*, or *hypothetical* and ours. Where the history gives only the repair and
not the mechanism, the story says that the mechanism is ours.

The entries are in modules by subject; each has its `name` from the row it belongs
to: S1 to S12 for the change logs that the project starts from, E1 to E50 for other
sources, E51 on for what was seen in the old source while the kernel was modelled.
"""

from __future__ import annotations

import difflib

from shared.errata import amaps, loans, locks, maps, objects, pageout, pmap, swap
from shared.errata.erratum import Erratum, Status
from shared.errors import UserMistake

__all__ = ["ERRATA", "Erratum", "Status", "counts", "lookup"]


def _place(one: Erratum) -> tuple[bool, int, str]:
    return one.row[0] == "E", int(one.row[1:]), one.name


CATALOGUE: tuple[Erratum, ...] = (
    *amaps.CATALOGUE,
    *loans.CATALOGUE,
    *locks.CATALOGUE,
    *maps.CATALOGUE,
    *objects.CATALOGUE,
    *pageout.CATALOGUE,
    *pmap.CATALOGUE,
    *swap.CATALOGUE,
)
#: every erratum by its id, in the order of rows
ERRATA: dict[str, Erratum] = {one.id: one for one in sorted(CATALOGUE, key=_place)}


def counts() -> dict[Status, int]:
    """How many errata have each status."""
    return {status: sum(one.status is status for one in ERRATA.values()) for status in Status}


def lookup(name: str) -> Erratum:
    """The erratum with this id.

    Raises: UserMistake - there is none; names those that look like it.
    """
    found = ERRATA.get(name)
    if found is not None:
        return found
    by_name = {one.name.lower(): one.id for one in ERRATA.values()}
    close = difflib.get_close_matches(name, ERRATA, n=3, cutoff=0.5)
    if name.lower() in by_name:
        close = [by_name[name.lower()]]
    shown = name if len(name) <= 60 else name[:56] + " ..."
    hint = f"; did you mean {' or '.join(close)}?" if close else "; `uvmp errata` lists them"
    raise UserMistake(f"there is no erratum {shown!r}{hint}")
